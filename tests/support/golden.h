/* Every golden case of a folder on one engine: outputs near enough, all of them, in the order of the reference; in
 * training the gradients of all stored parameters too. */
#ifndef HFB_TESTS_SUPPORT_GOLDEN_H
#define HFB_TESTS_SUPPORT_GOLDEN_H

#include "bench/verify.h"

/* Limits as the golden cases promise them: 1e-5 in f32, 1e-6 in f64 (expected tensors are stored in f32). */
hfb_verify_options golden_options(const char *engine, hfb_dtype precision, const char *cache_dir);

/* The same for a training step; gradients within 2e-4, in f64 1e-6, and half of them within 1e-5 and 1e-6. */
hfb_verify_options golden_training_options(const char *engine, hfb_dtype precision, const char *cache_dir);

/* Runs the cases in `folder`, prints those that do not pass, and returns how many; -1 when there are fewer than `least`
 * cases, since an empty folder must not pass. */
int golden_failures(const char *folder, int least, const hfb_verify_options *options);

#endif
