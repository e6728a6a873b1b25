/* Checkpoints: the weights of a model in one safetensors file, or in shards that an index names, and which stored
 * tensor belongs to which parameter of a graph. */
#ifndef HFB_IO_CHECKPOINT_H
#define HFB_IO_CHECKPOINT_H

#include "io/safetensors.h"
#include "ir/graph.h"
#include "models/model.h"

typedef struct hfb_checkpoint hfb_checkpoint;

/* `path`: a .safetensors file, a model.safetensors.index.json, or a folder that holds either under its usual name. */
hfb_status hfb_checkpoint_open(const char *path, hfb_checkpoint **out_checkpoint) HFB_MUST_USE;
void hfb_checkpoint_destroy(hfb_checkpoint *checkpoint); /* NULL is allowed */

const char *hfb_checkpoint_path(const hfb_checkpoint *checkpoint);
int hfb_checkpoint_count(const hfb_checkpoint *checkpoint);
/* Shard by shard. */
const hfb_stored_tensor *hfb_checkpoint_at(const hfb_checkpoint *checkpoint, int index);

/* Which stored tensor feeds each parameter. */
typedef struct hfb_checkpoint_binding {
  /* In the order of graph->parameters; owned array of borrowed tensors. NULL: not in the file, but a buffer or a frozen
   * table, whose values are those of its initialiser. */
  const hfb_stored_tensor **sources;
  int count;
  int alias_count;           /* parameters that were found under another name of a tied weight */
  int computed_count;        /* sources that are NULL */
  int ignored_count;         /* tensors that the class is known not to use */
  int unknown_count;         /* tensors that the class has no use for */
  const char *first_unknown; /* the first of those, borrowed; NULL when there is none */
} hfb_checkpoint_binding;

/* Every weight gets its tensor, or the call fails (HFB_MISMATCH) with a message that counts the missing and the wrongly
 * shaped weights and names the first ones. */
hfb_status hfb_checkpoint_bind(const hfb_checkpoint *checkpoint, const char *class_name, const hfb_config *config,
                               const hfb_graph *graph, hfb_checkpoint_binding *out_binding) HFB_MUST_USE;
void hfb_checkpoint_binding_deinit(hfb_checkpoint_binding *binding); /* a cleared struct is allowed */

#endif
