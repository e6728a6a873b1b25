/* hfbench as a library: check and time an engine of your own on the models of the suite.
 *
 *   static const hfb_engine mine = {"mine", my_backend, false, "my compiler"};   // my_backend(): a table of backend.h
 *   hfb_job job = {.engine = &mine, .precision = HFB_F32, .batch = 1, .seq_len = 128, .iterations = 1};
 *   hfb_row row;
 *   if (hfb_model_find("BertForMaskedLM", &job.model) == HFB_OK && hfb_row_init(&row) == HFB_OK &&
 *       hfb_accuracy_measure(&job, NULL, &row) == HFB_OK) {
 *     puts(hfb_row_get_text(&row, HFB_COLUMN_ACCURACY));   // "pass"
 *   }
 *
 * hfb_performance_measure needs repeat, calls and an empty cache_dir as well. Both run in this process; hfb_run
 * (bench/runner.h) starts a child for each model and has a row for every one. Fields of a row: docs/results.md. */
#ifndef HFBENCH_HFBENCH_H
#define HFBENCH_HFBENCH_H

#include "base/build.h"
#include "base/status.h"
#include "bench/job.h"
#include "bench/row.h"
#include "bench/runner.h"
#include "hfbench/backend.h"
#include "models/model.h"

#endif
