/* Messages for the person at the terminal, on stderr. */
#ifndef HFB_BASE_LOG_H
#define HFB_BASE_LOG_H

#include "base/status.h"

typedef enum hfb_log_level { HFB_LOG_ERROR, HFB_LOG_WARNING, HFB_LOG_INFO, HFB_LOG_DEBUG } hfb_log_level;

void hfb_log_set_level(hfb_log_level level); /* default: HFB_LOG_WARNING */
void hfb_log(hfb_log_level level, const char *format, ...) HFB_PRINTF(2, 3);

#endif
