#include "bench/parameters.h"

#include <math.h>
#include <string.h>

#include "base/half.h"
#include "base/memory.h"
#include "base/rng.h"
#include "bench/draw.h"

/* Work is cut into chunks of equal size over all parameters, so that threads finish together. */
enum { CHUNK_ELEMENTS = 1 << 16, PIECE_ELEMENTS = 1024 };

/* One tensor's part of a job. */
typedef struct fill_item {
  const hfb_tensor *tensor;
  int64_t elements;
  int64_t first_chunk;
  const hfb_stored_tensor *source; /* NULL: drawn */
  uint64_t seed;
  hfb_philox stream;
  hfb_init_kind kind;
  double a, b;
  int64_t padding_row; /* -1: none */
} fill_item;

typedef struct fill_job {
  const fill_item *items;
  int count;
  hfb_status *statuses; /* by item: written only on failure, all failures of an item alike */
} fill_job;

/* ---- Drawing ---- */

/* Row `position` of a table: the first half (the larger one when odd) holds sines, the rest cosines. */
static float sinusoid_at(const fill_item *item, int64_t index) {
  const hfb_shape *shape = &item->tensor->shape;
  int64_t width = shape->dim[shape->rank - 1];
  int64_t position = index / width, column = index % width, sines = (width + 1) / 2;
  int64_t frequency = column < sines ? column : column - sines;
  double exponent = item->kind == HFB_INIT_SINUSOID_FAIRSEQ ? (double)frequency / (double)(width / 2 - 1)
                                                            : 2.0 * (double)frequency / (double)width;
  double angle = (double)position / pow(10000, exponent);
  return (float)(column < sines ? sin(angle) : cos(angle));
}

static void draw_piece(const fill_item *item, int64_t first, int count, float *out) {
  switch (item->kind) {
    case HFB_INIT_NORMAL: hfb_draw_normal(item->stream, (uint64_t)first, (size_t)count, item->a, item->b, out); break;
    case HFB_INIT_TRUNC_NORMAL:
      hfb_draw_truncated(item->stream, (uint64_t)first, (size_t)count, item->a, item->b, out);
      break;
    case HFB_INIT_UNIFORM: hfb_draw_uniform(item->stream, (uint64_t)first, (size_t)count, item->a, item->b, out); break;
    case HFB_INIT_SINUSOID_HALVES:
    case HFB_INIT_SINUSOID_FAIRSEQ:
      for (int i = 0; i < count; i++) out[i] = sinusoid_at(item, first + i);
      break;
    default:
      for (int i = 0; i < count; i++) out[i] = (float)item->a;
  }
}

static void zero_padding_row(const fill_item *item, int64_t first, int count, float *values) {
  if (item->padding_row < 0 || item->tensor->shape.rank == 0) return;
  int64_t rows = item->tensor->shape.dim[0], row_elements = rows > 0 ? item->elements / rows : 0;
  int64_t begin = item->padding_row * row_elements, end = begin + row_elements;
  if (begin < first) begin = first;
  if (end > first + count) end = first + count;
  for (int64_t i = begin; i < end; i++) values[i - first] = 0;
}

/* Every dtype gets the value that f32 would have, so that models of different precision start alike. */
static void store_piece(const hfb_tensor *tensor, int64_t first, int count, const float *values) {
  char *to = (char *)tensor->data + first * (int64_t)hfb_dtype_bytes(tensor->dtype);
  for (int i = 0; i < count; i++) {
    switch (tensor->dtype) {
      case HFB_F32: ((float *)to)[i] = values[i]; break;
      case HFB_F64: ((double *)to)[i] = values[i]; break;
      case HFB_BF16: ((uint16_t *)to)[i] = hfb_f32_to_bf16(values[i]); break;
      case HFB_F16: ((uint16_t *)to)[i] = hfb_f32_to_f16(values[i]); break;
      case HFB_I64: ((int64_t *)to)[i] = (int64_t)values[i]; break;
      case HFB_I32: ((int32_t *)to)[i] = (int32_t)values[i]; break;
      default: ((uint8_t *)to)[i] = (uint8_t)values[i];
    }
  }
}

/* {seed, steps done}: a seed has more bits than a float holds. */
static void store_random_state(const fill_item *item) {
  int64_t *state = item->tensor->data;
  state[0] = (int64_t)item->seed;
  state[1] = 0;
}

static void draw_chunk(const fill_item *item, int64_t first, int64_t count) {
  if (item->kind == HFB_INIT_RANDOM_STATE) {
    store_random_state(item);
    return;
  }
  float piece[PIECE_ELEMENTS];
  while (count > 0) {
    int now = count < PIECE_ELEMENTS ? (int)count : PIECE_ELEMENTS;
    draw_piece(item, first, now, piece);
    zero_padding_row(item, first, now, piece);
    store_piece(item->tensor, first, now, piece);
    first += now;
    count -= now;
  }
}

/* ---- Running a job ---- */

static int find_item(const fill_job *job, int64_t chunk) {
  int low = 0, high = job->count - 1; /* items[low].first_chunk <= chunk */
  while (low < high) {
    int middle = low + (high - low + 1) / 2;
    if (job->items[middle].first_chunk <= chunk)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

static void run_chunk(void *context, int64_t chunk, int worker) {
  (void)worker;
  const fill_job *job = context;
  int index = find_item(job, chunk);
  const fill_item *item = &job->items[index];
  int64_t first = (chunk - item->first_chunk) * CHUNK_ELEMENTS;
  int64_t count = item->elements - first < CHUNK_ELEMENTS ? item->elements - first : CHUNK_ELEMENTS;
  if (!item->source) {
    draw_chunk(item, first, count);
    return;
  }
  char *to = (char *)item->tensor->data + first * (int64_t)hfb_dtype_bytes(item->tensor->dtype);
  hfb_status status = hfb_safetensors_convert(item->source, first, count, item->tensor->dtype, to);
  if (status != HFB_OK) __atomic_store_n(&job->statuses[index], status, __ATOMIC_RELAXED);
}

/* The message of a failure stays on the worker's thread; the first failed tensor is looked at again on this one. */
static hfb_status report_failure(const fill_item *item) {
  int64_t bytes = (int64_t)hfb_dtype_bytes(item->tensor->dtype);
  for (int64_t first = 0; first < item->elements; first += CHUNK_ELEMENTS) {
    int64_t count = item->elements - first < CHUNK_ELEMENTS ? item->elements - first : CHUNK_ELEMENTS;
    char *to = (char *)item->tensor->data + first * bytes;
    hfb_status status = hfb_safetensors_convert(item->source, first, count, item->tensor->dtype, to);
    if (status == HFB_OK) continue;
    hfb_error_prefix("'%s'", hfb_safetensors_path(item->source->file));
    return status;
  }
  return HFB_OK;
}

static hfb_status run_job(fill_item *items, int count, hfb_pool *pool) {
  fill_job job = {.items = items, .count = count};
  HFB_TRY(hfb_mem_alloc((size_t)count, sizeof(*job.statuses), &job.statuses));
  int64_t chunks = 0;
  for (int i = 0; i < count; i++) {
    items[i].elements = hfb_shape_elements(&items[i].tensor->shape);
    items[i].first_chunk = chunks;
    chunks += (items[i].elements + CHUNK_ELEMENTS - 1) / CHUNK_ELEMENTS;
  }
  hfb_pool_run(pool, chunks, run_chunk, &job);
  hfb_status status = HFB_OK;
  for (int i = 0; i < count && status == HFB_OK; i++) {
    if (job.statuses[i] != HFB_OK) status = report_failure(&items[i]);
  }
  hfb_mem_free(job.statuses);
  return status;
}

static fill_item item_of(const hfb_node *parameter, const hfb_tensor *tensor, uint64_t seed) {
  return (fill_item){
      .tensor = tensor,
      .seed = seed,
      .stream = hfb_philox_named(seed, hfb_node_text(parameter, HFB_ATTR_NAME, "")),
      .kind = (hfb_init_kind)hfb_node_int(parameter, HFB_ATTR_INIT),
      .a = hfb_node_float(parameter, HFB_ATTR_INIT_A),
      .b = hfb_node_float(parameter, HFB_ATTR_INIT_B),
      .padding_row = hfb_node_int(parameter, HFB_ATTR_PADDING_IDX),
  };
}

/* ---- Sets of parameters ---- */

static hfb_status create_tensors(const hfb_graph *graph, hfb_device *device, hfb_parameters *out_parameters) {
  *out_parameters = (hfb_parameters){0};
  HFB_TRY(hfb_mem_alloc((size_t)graph->parameter_count, sizeof(*out_parameters->tensors), &out_parameters->tensors));
  out_parameters->count = graph->parameter_count;
  for (int i = 0; i < graph->parameter_count; i++) {
    const hfb_value *value = graph->parameters[i];
    hfb_status status = hfb_tensor_create(device, value->dtype, &value->shape, &out_parameters->tensors[i]);
    if (status != HFB_OK) {
      hfb_error_prefix("parameter '%s'", hfb_node_text(value->node, HFB_ATTR_NAME, ""));
      hfb_parameters_deinit(out_parameters);
      return status;
    }
  }
  return HFB_OK;
}

/* sources: by parameter, NULL entries or a NULL array are drawn. */
static hfb_status fill_all(const hfb_graph *graph, hfb_device *device, uint64_t seed,
                           const hfb_stored_tensor *const *sources, hfb_parameters *out_parameters) {
  HFB_TRY(create_tensors(graph, device, out_parameters));
  fill_item *items = NULL;
  hfb_status status = hfb_mem_alloc((size_t)graph->parameter_count, sizeof(*items), &items);
  if (status == HFB_OK) {
    for (int i = 0; i < graph->parameter_count; i++) {
      items[i] = item_of(graph->parameters[i]->node, &out_parameters->tensors[i], seed);
      items[i].source = sources ? sources[i] : NULL;
    }
    status = run_job(items, graph->parameter_count, hfb_device_pool(device));
  }
  hfb_mem_free(items);
  if (status != HFB_OK) hfb_parameters_deinit(out_parameters);
  return status;
}

hfb_status hfb_parameters_draw(const hfb_graph *graph, hfb_device *device, uint64_t seed,
                               hfb_parameters *out_parameters) {
  return fill_all(graph, device, seed, NULL, out_parameters);
}

hfb_status hfb_parameters_load(const hfb_graph *graph, hfb_device *device, const hfb_checkpoint_binding *binding,
                               hfb_parameters *out_parameters) {
  return fill_all(graph, device, 0, binding->sources, out_parameters);
}

void hfb_parameters_deinit(hfb_parameters *parameters) {
  for (int i = 0; i < parameters->count; i++) hfb_tensor_release(&parameters->tensors[i]);
  hfb_mem_free(parameters->tensors);
  *parameters = (hfb_parameters){0};
}
