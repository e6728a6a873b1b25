/* The schedule: the graph as a list of steps over storages.
 *
 * partition.c decides which values get storage and which are computed inside a loop; lower.c makes the loops;
 * schedule.c puts the steps in order. Values without storage are never written to memory. */
#ifndef HFB_COMPILE_SCHEDULE_H
#define HFB_COMPILE_SCHEDULE_H

#include "compile/affine.h"
#include "compile/loop.h"
#include "ir/graph.h"

typedef enum hfb_step_kind {
  HFB_STEP_ROWS,      /* a generated loop */
  HFB_STEP_GEMM,      /* kernels/gemm.h, with a generated epilogue or none */
  HFB_STEP_ATTENTION, /* kernels/attention.h, with a generated score function or none */
  HFB_STEP_ATTENTION_BACKWARD, /* kernels/attention_backward.h, with generated functions of scores and their gradient */
  HFB_STEP_KERNEL     /* one kernel of kernels.def, as eager would run it */
} hfb_step_kind;

/* One operand of a matrix product as a strided matrix for each index of the batch. */
typedef struct hfb_matrix_view {
  hfb_view view;
  int64_t row_stride, col_stride;
  int64_t batch_strides[HFB_MAX_RANK];
} hfb_matrix_view;

/* A generated function of a step; loop NULL: none. */
typedef struct hfb_step_code {
  hfb_loop *loop;
  const char *function; /* its name; equal loops share one */
  /* for each slot of the loop: the value whose storage it is; NULL: slot 0 of TILE and SCORE, and the sites */
  const hfb_value **slot_values;
  size_t scratch_bytes; /* row scratch that a worker needs; set with the name */
} hfb_step_code;

enum { HFB_STEP_MAX_RESULTS = 8, HFB_STEP_MAX_LOOPS = 2 };

typedef struct hfb_step {
  hfb_step_kind kind;
  const hfb_node *node;     /* the contraction or the op; the root's node for ROWS */
  const hfb_value *result;  /* the first of results */
  int result_count;         /* stored values that the step writes; an op's results that nobody reads are left out */
  const hfb_value *results[HFB_STEP_MAX_RESULTS];
  hfb_step_code code[HFB_STEP_MAX_LOOPS]; /* code[1]: ATTENTION_BACKWARD, the change of the gradient of the scores */

  /* GEMM; a, b, v for ATTENTION are q, k, v, and g is the gradient of its result */
  int64_t m, n, k, batch;
  int batch_rank;
  int64_t batch_dims[HFB_MAX_RANK];
  hfb_matrix_view a, b, v, c, g;
  /* Attention whose keys and values lie in blocks (block_gather.h): the numbers of the blocks; numbers.base NULL: rows.
   * The batch strides of b and v are then of block and head. */
  hfb_view block_numbers;
  int64_t block_number_strides[2], block_rows, block_count;
  const hfb_value *lse, *delta; /* ATTENTION_BACKWARD: row statistics */
  const hfb_value *bias;    /* added by the product itself: no function is generated for a lone bias */
  float scale, gradient_scale;
  bool causal;

  int operand_count;        /* every value read whose storage matters for lifetimes */
  const hfb_value **operands;
  hfb_view *operand_views;  /* KERNEL: how to see the node's inputs */
} hfb_step;

/* A storage: memory for one value. */
typedef enum hfb_storage_kind {
  HFB_STORAGE_NONE,
  HFB_STORAGE_PARAMETER, /* also of its new value, where that may be written over it */
  HFB_STORAGE_INPUT,
  HFB_STORAGE_CONSTANT,
  HFB_STORAGE_ARENA,  /* offset in the memory of the outputs, before those are written, or behind it */
  HFB_STORAGE_OUTPUT  /* escapes: offset in the memory of the outputs, which is allocated anew for every run */
} hfb_storage_kind;

typedef struct hfb_storage {
  hfb_storage_kind kind;
  int index;         /* of the parameter, input or constant */
  int64_t bytes;
  int64_t offset;    /* ARENA and OUTPUT: from output_bytes on in the arena */
  int64_t strides[HFB_MAX_RANK]; /* elements; row-major unless a consumer wants another order */
  int first_step, last_step;     /* life, set by the memory plan */
} hfb_storage;

typedef struct hfb_schedule {
  hfb_arena arena;
  const hfb_graph *graph; /* of primitives */
  hfb_step *steps;
  int step_count;
  const hfb_update **copied_updates; /* whose value is copied into the parameter after the last step */
  int copied_update_count;
  hfb_storage *storage;   /* by value id */
  hfb_view *output_views; /* by graph output */
  int64_t output_bytes;   /* memory of all outputs; it serves as working memory until they are written */
  int64_t arena_bytes;    /* the planned peak of working memory beyond that */
  size_t scratch_bytes;   /* row scratch for each worker */
} hfb_schedule;

/* Partition, lowering and order. The graph must outlive the schedule. HFB_UNSUPPORTED when attention was matched but
 * its scores cannot be lowered: decompose again without matching. */
hfb_status hfb_schedule_create(const hfb_graph *graph, hfb_schedule **out_schedule) HFB_MUST_USE;
void hfb_schedule_destroy(hfb_schedule *schedule); /* NULL is allowed */

/* Moves the steps that write new values of parameters to where the last reader of the old value is done, so that
 * gradients live shortly, and lets them write over the parameter. Part of hfb_schedule_create. */
hfb_status hfb_schedule_place_updates(hfb_schedule *schedule) HFB_MUST_USE;

/* True when every load of `operand` in the loop of a ROWS step is at the very element that the step stores as `result`:
 * it is read before, or while, it is written. */
bool hfb_step_overwrites_safely(const hfb_step *step, const hfb_value *operand, const hfb_value *result);

/* Lifetimes, in-place reuse, offsets; sets output_bytes and arena_bytes. */
hfb_status hfb_memory_plan(hfb_schedule *schedule) HFB_MUST_USE;

/* One line about one step. */
hfb_status hfb_step_print(const hfb_schedule *schedule, int index, hfb_strbuf *out_text) HFB_MUST_USE;
hfb_status hfb_schedule_print(const hfb_schedule *schedule, hfb_strbuf *out_text) HFB_MUST_USE;

#endif
