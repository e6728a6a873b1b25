/* Small models of several families with dropout, and training graphs of them: what tests of the compiler start from.
 * A matrix of queries x keys, or of tokens x vocabulary, is recognised by its number of elements. */
#ifndef HFB_TESTS_SUPPORT_TRAIN_MODELS_H
#define HFB_TESTS_SUPPORT_TRAIN_MODELS_H

#include "grad/training.h"

enum { TRAIN_MODEL_BATCH = 4, TRAIN_MODEL_SEQ = 37, TRAIN_MODEL_HEADS = 2, TRAIN_MODEL_VOCAB = 101 };

typedef struct train_model {
  const char *name, *class_name, *model_type;
  const char *config; /* overrides, as hfb_config_create */
  const char *inputs; /* names, separated by blanks: [batch, seq], positions of answers [batch] */
} train_model;

/* NULL when there is none of that name. */
const train_model *train_model_find(const char *name);

/* In training, with all sequences of TRAIN_MODEL_SEQ tokens. More overrides may be given, NULL: none. */
hfb_status train_model_graph(const train_model *model, const char *more_config, const hfb_training_options *options,
                             hfb_graph **out_graph) HFB_MUST_USE;

#endif
