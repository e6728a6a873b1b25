#include "compile/emit.h"

#include <string.h>
#include <xxhash.h>

#include "compile/codegen.h"

enum { MIN_LOOPS_PER_UNIT = 3 }; /* starting a compiler costs about as much as two or three loops */

typedef struct function {
  XXH128_hash_t key; /* of the loop's printed form */
  const char *name;
  const hfb_step *first; /* the step it is named after */
  const hfb_loop *loop;
  size_t bytes;          /* of the printed form: stands for the work of compiling it */
} function;

static const char *kind_prefix(hfb_loop_kind kind) {
  static const char *const prefixes[] = {"rows", "tile", "score"};
  return prefixes[kind];
}

static hfb_status loop_key(const hfb_loop *loop, XXH128_hash_t *out_key, size_t *out_bytes) {
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  hfb_status status = hfb_loop_print(loop, &text);
  if (status == HFB_OK) status = hfb_strbuf_status(&text);
  if (status == HFB_OK) {
    *out_key = XXH3_128bits(text.data, text.length);
    *out_bytes = text.length;
  }
  hfb_strbuf_deinit(&text);
  return status;
}

static hfb_status name_function(hfb_schedule *s, const hfb_step *step, hfb_step_code *code, function *functions,
                                int *count) {
  function f = {.first = step, .loop = code->loop};
  HFB_TRY(hfb_loop_verify(code->loop));
  HFB_TRY(loop_key(code->loop, &f.key, &f.bytes));
  code->scratch_bytes = hfb_loop_scratch_bytes(code->loop);
  if (code->scratch_bytes > s->scratch_bytes) s->scratch_bytes = code->scratch_bytes;
  int known = 0;
  while (known < *count && !XXH128_isEqual(functions[known].key, f.key)) known++;
  if (known == *count) {
    f.name = hfb_arena_printf(&s->arena, "%s_%d", kind_prefix(code->loop->kind), known);
    if (!f.name) return HFB_OUT_OF_MEMORY;
    functions[(*count)++] = f;
  }
  code->function = functions[known].name;
  return HFB_OK;
}

static hfb_status name_functions(hfb_schedule *s, function *functions, int *out_count) {
  *out_count = 0;
  for (int i = 0; i < s->step_count; i++) {
    for (int c = 0; c < HFB_STEP_MAX_LOOPS; c++) {
      hfb_step_code *code = &s->steps[i].code[c];
      if (code->loop) HFB_TRY(name_function(s, &s->steps[i], code, functions, out_count));
    }
  }
  return HFB_OK;
}

static void describe(const hfb_step *step, hfb_strbuf *out) {
  char shape[HFB_SHAPE_TEXT_BYTES];
  const hfb_node *root = step->result->node;
  const char *scope = hfb_node_text(root, HFB_ATTR_SCOPE, "");
  hfb_strbuf_printf(out, "%s -> %s%s", hfb_op_info_of(root->op)->name, hfb_dtype_name(step->result->dtype),
                    hfb_shape_print(&step->result->shape, shape, sizeof shape));
  if (scope[0]) hfb_strbuf_printf(out, ", first used in %s", scope);
}

/* The emptiest unit takes the next function. */
static hfb_status write_units(const function *functions, int count, hfb_isa isa, hfb_code *code) {
  size_t load[HFB_MAX_UNITS] = {0};
  for (int i = 0; i < count; i++) {
    int unit = 0;
    for (int u = 1; u < code->unit_count; u++) {
      if (load[u] < load[unit]) unit = u;
    }
    load[unit] += functions[i].bytes;
    hfb_strbuf comment;
    hfb_strbuf_init(&comment);
    describe(functions[i].first, &comment);
    hfb_status status = hfb_codegen_loop(functions[i].loop, functions[i].name, hfb_strbuf_text(&comment), isa,
                                         &code->units[unit]);
    hfb_strbuf_deinit(&comment);
    HFB_TRY(status);
  }
  return HFB_OK;
}

hfb_status hfb_emit(hfb_schedule *schedule, hfb_isa isa, int max_units, hfb_code *out_code) {
  function *functions = NULL;
  int count = 0;
  memset(out_code, 0, sizeof *out_code);
  HFB_TRY(hfb_mem_alloc((size_t)schedule->step_count * HFB_STEP_MAX_LOOPS + 1, sizeof *functions, &functions));
  hfb_status status = name_functions(schedule, functions, &count);
  int units = (count + MIN_LOOPS_PER_UNIT - 1) / MIN_LOOPS_PER_UNIT;
  if (units > max_units) units = max_units;
  if (units > HFB_MAX_UNITS) units = HFB_MAX_UNITS;
  out_code->unit_count = units;
  out_code->function_count = count;
  for (int u = 0; u < units; u++) hfb_strbuf_init(&out_code->units[u]);
  for (int u = 0; u < units && status == HFB_OK; u++) status = hfb_codegen_prelude(isa, &out_code->units[u]);
  if (status == HFB_OK) status = write_units(functions, count, isa, out_code);
  for (int u = 0; u < units && status == HFB_OK; u++) status = hfb_strbuf_status(&out_code->units[u]);
  hfb_mem_free(functions);
  if (status != HFB_OK) hfb_code_deinit(out_code);
  return status;
}

void hfb_code_deinit(hfb_code *code) {
  for (int u = 0; u < code->unit_count; u++) hfb_strbuf_deinit(&code->units[u]);
  code->unit_count = 0;
}
