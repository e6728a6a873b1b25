/* One stored case against an engine: a folder with config.json, the weights, inputs.safetensors and what the model must
 * give for them, expected.safetensors: tensors "eval/<output>"; for training "train/<output>" where it differs from
 * eval, and "grad/<parameter>", the gradients of the loss. */
#ifndef HFB_BENCH_VERIFY_H
#define HFB_BENCH_VERIFY_H

#include "bench/compare.h"
#include "hfbench/backend.h"

typedef struct hfb_verify_options {
  const hfb_backend *backend;
  hfb_dtype precision;    /* F32 or F64: of weights and activations */
  bool training;          /* one step without an optimizer instead of a forward pass */
  double tolerance;       /* largest hfb_distance.scaled of an output that passes */
  double gradient_tolerance; /* largest error of a gradient that passes; see hfb_gradient_error */
  int threads;            /* as hfb_pool_create */
  const char *cache_dir;  /* as hfb_backend_options */
  const char *write_path; /* all outputs go there as "eval/<output>", those of a step as "train/<output>"
                           * and "grad/<parameter>"; NULL: nowhere */
} hfb_verify_options;

typedef enum hfb_verdict {
  HFB_VERDICT_PASS,
  HFB_VERDICT_FAIL, /* something differs, is missing or went wrong */
  HFB_VERDICT_SKIP  /* configuration or inputs ask for something that is not implemented */
} hfb_verdict;
const char *hfb_verdict_name(hfb_verdict verdict); /* "PASS" */

typedef struct hfb_verify_tensor {
  const char *name; /* "eval/logits"; lives as long as the result */
  hfb_distance distance;
  bool is_gradient;
  double error; /* of an output: distance.scaled; of a gradient: hfb_gradient_error */
} hfb_verify_tensor;

enum { HFB_VERIFY_REASON_BYTES = 512 };

typedef struct hfb_verify_result {
  hfb_verdict verdict;
  char reason[HFB_VERIFY_REASON_BYTES]; /* why it does not pass; "" when only a distance is too large */
  hfb_verify_tensor *tensors;           /* those that could be compared: outputs in their order, then gradients */
  int tensor_count;
  int output_count; /* outputs of the model; those that expected.safetensors leaves out are not compared */
  int gradient_count;     /* of the tensors */
  int worst;              /* index of the tensor with the largest error for its tolerance; -1: none was compared */
  double gradient_median; /* of their errors; NaN without gradients */
  hfb_arena arena;
} hfb_verify_result;

/* Every failure is a verdict. */
void hfb_verify_case(const hfb_verify_options *options, const char *dir, hfb_verify_result *out_result);
void hfb_verify_result_deinit(hfb_verify_result *result);

#endif
