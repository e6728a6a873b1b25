/* The text of prelude.c.in; the build makes the string. */
#ifndef HFB_COMPILE_PRELUDE_H
#define HFB_COMPILE_PRELUDE_H

extern const char hfb_prelude_text[];

#endif
