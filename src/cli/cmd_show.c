/* show: what one model is, at one shape, and what each engine makes of it. */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/strbuf.h"
#include "bench/job.h"
#include "cli/cli.h"
#include "compile/native.h"

typedef struct shown {
  const hfb_model_row *row;
  int64_t batch, seq_len;
  int threads;
  hfb_dtype precision;
  hfb_config *config;
  hfb_graph *graph;
} shown;

/* What an engine says about the model without running it. */
typedef struct engine_view {
  hfb_status status;
  char message[256]; /* why it cannot */
  hfb_program_stats stats;
} engine_view;

static hfb_status compile_on(const shown *s, const hfb_backend *backend, const hfb_backend_options *options,
                             hfb_device **out_device, hfb_program **out_program) {
  HFB_TRY(hfb_device_cpu_create(s->threads, 0, out_device));
  hfb_status status = backend->compile(s->graph, *out_device, options, out_program);
  if (status != HFB_OK) {
    hfb_device_destroy(*out_device);
    *out_device = NULL;
  }
  return status;
}

static engine_view view_engine(const shown *s, const hfb_backend *backend) {
  engine_view view = {0};
  const hfb_backend_options options = {0};
  hfb_device *device = NULL;
  hfb_program *program = NULL;
  view.status = compile_on(s, backend, &options, &device, &program);
  if (view.status != HFB_OK) {
    snprintf(view.message, sizeof(view.message), "%s", hfb_error_message());
    return view;
  }
  backend->stats(program, &view.stats);
  backend->destroy(program);
  hfb_device_destroy(device);
  return view;
}

static const char *input_name(const hfb_value *value) { return hfb_node_text(value->node, HFB_ATTR_NAME, "?"); }

/* ---- Text ---- */

static void print_value(const char *name, const hfb_value *value) {
  char shape[HFB_SHAPE_TEXT_BYTES];
  printf("  %-68s %-5s %s\n", name, hfb_dtype_name(value->dtype), hfb_shape_print(&value->shape, shape, sizeof(shape)));
}

static void print_config(const shown *s) {
  printf("configuration (%s, %s)\n", hfb_config_model_type(s->config), s->row->config);
  for (int i = 0; i < hfb_config_field_count(s->config); i++) {
    hfb_strbuf value;
    hfb_strbuf_init(&value);
    hfb_config_field_value(s->config, i, &value);
    printf("  %-36s %s\n", hfb_config_field_name(s->config, i), hfb_strbuf_text(&value));
    hfb_strbuf_deinit(&value);
  }
}

static void print_cost(const shown *s) {
  hfb_cost cost = hfb_graph_cost(s->graph);
  printf("cost of one step (batch %lld, sequence length %lld, %s)\n", (long long)s->batch, (long long)s->seq_len,
         hfb_dtype_name(s->precision));
  printf("  %-36s %lld\n", "parameters", (long long)cost.parameter_count);
  printf("  %-36s %.6f GB\n", "parameter bytes", (double)cost.parameter_bytes * 1e-9);
  printf("  %-36s %.3f GFLOP (2 x %lld multiply-adds of matrix products)\n", "work", 2e-9 * (double)cost.multiply_adds,
         (long long)cost.multiply_adds);
  printf("  %-36s %.6f GB\n", "input bytes", (double)cost.input_bytes * 1e-9);
  printf("  %-36s %.6f GB\n", "output bytes", (double)cost.output_bytes * 1e-9);
}

static void print_engines(const shown *s) {
  printf("working memory planned, beyond parameters, inputs and outputs\n");
  for (int i = 0; i < hfb_engine_count(); i++) {
    const hfb_engine *engine = hfb_engine_at(i);
    if (strcmp(engine->name, engine->backend()->name) != 0) continue; /* another name of the same engine */
    engine_view view = view_engine(s, engine->backend());
    if (view.status != HFB_OK) printf("  %-36s cannot run it: %s\n", engine->name, view.message);
    else if (view.stats.planned_peak_bytes < 0) printf("  %-36s unknown\n", engine->name);
    else printf("  %-36s %.6f GB\n", engine->name, (double)view.stats.planned_peak_bytes * 1e-9);
  }
}

static void print_all(const shown *s) {
  printf("%s: %s, graph of %d nodes\n", s->row->name, s->row->class_name, s->graph->node_count);
  print_config(s);
  printf("inputs\n");
  for (int i = 0; i < s->graph->input_count; i++) print_value(input_name(s->graph->inputs[i]), s->graph->inputs[i]);
  printf("outputs\n");
  for (int i = 0; i < s->graph->output_count; i++) print_value(s->graph->outputs[i].name, s->graph->outputs[i].value);
  printf("parameters (%d tensors)\n", s->graph->parameter_count);
  for (int i = 0; i < s->graph->parameter_count; i++)
    print_value(input_name(s->graph->parameters[i]), s->graph->parameters[i]);
  print_cost(s);
  print_engines(s);
}

/* ---- JSON ---- */

static json_t *value_json(const char *name, const hfb_value *value) {
  json_t *shape = json_array();
  for (int i = 0; i < value->shape.rank; i++) json_array_append_new(shape, json_integer(value->shape.dim[i]));
  return json_pack("{s:s, s:s, s:o, s:I}", "name", name, "dtype", hfb_dtype_name(value->dtype), "shape", shape,
                   "elements", (json_int_t)hfb_shape_elements(&value->shape));
}

static json_t *values_json(hfb_value *const *values, int count) {
  json_t *array = json_array();
  for (int i = 0; i < count; i++) json_array_append_new(array, value_json(input_name(values[i]), values[i]));
  return array;
}

static json_t *config_json(const hfb_config *config) {
  json_t *object = json_object();
  for (int i = 0; i < hfb_config_field_count(config); i++) {
    hfb_strbuf value;
    hfb_strbuf_init(&value);
    hfb_config_field_value(config, i, &value);
    json_object_set_new(object, hfb_config_field_name(config, i),
                        json_loads(hfb_strbuf_text(&value), JSON_DECODE_ANY, NULL));
    hfb_strbuf_deinit(&value);
  }
  return object;
}

static json_t *engines_json(const shown *s) {
  json_t *object = json_object();
  for (int i = 0; i < hfb_engine_count(); i++) {
    const hfb_engine *engine = hfb_engine_at(i);
    if (strcmp(engine->name, engine->backend()->name) != 0) continue;
    engine_view view = view_engine(s, engine->backend());
    bool known = view.status == HFB_OK && view.stats.planned_peak_bytes >= 0;
    json_object_set_new(object, engine->name,
                        json_pack("{s:o, s:o}", "planned_peak_bytes",
                                  known ? json_integer(view.stats.planned_peak_bytes) : json_null(), "error",
                                  view.status == HFB_OK ? json_null() : json_string(view.message)));
  }
  return object;
}

static int print_json(const shown *s) {
  hfb_cost cost = hfb_graph_cost(s->graph);
  json_t *outputs = json_array();
  for (int i = 0; i < s->graph->output_count; i++) {
    json_array_append_new(outputs, value_json(s->graph->outputs[i].name, s->graph->outputs[i].value));
  }
  json_t *object = json_pack(
      "{s:s, s:s, s:s, s:o, s:I, s:I, s:s, s:i, s:o, s:o, s:o, s:I, s:I, s:I, s:f, s:I, s:I, s:o}", "name",
      s->row->name, "class", s->row->class_name, "model_type", hfb_config_model_type(s->config), "config",
      config_json(s->config), "batch_size", (json_int_t)s->batch, "seq_len", (json_int_t)s->seq_len, "precision",
      hfb_dtype_name(s->precision), "nodes", s->graph->node_count, "inputs",
      values_json(s->graph->inputs, s->graph->input_count), "outputs", outputs, "parameters",
      values_json(s->graph->parameters, s->graph->parameter_count), "parameter_count", (json_int_t)cost.parameter_count,
      "parameter_bytes", (json_int_t)cost.parameter_bytes, "multiply_adds", (json_int_t)cost.multiply_adds, "gflop",
      2e-9 * (double)cost.multiply_adds, "input_bytes", (json_int_t)cost.input_bytes, "output_bytes",
      (json_int_t)cost.output_bytes, "engines", engines_json(s));
  int failed = !object || json_dumpf(object, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(15));
  putchar('\n');
  json_decref(object);
  return failed ? HFB_EXIT_FAILURE : HFB_EXIT_OK;
}

/* ---- Stages ---- */

static int print_graph(const shown *s) {
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  hfb_status status = hfb_graph_print(s->graph, &text);
  if (status == HFB_OK) fputs(hfb_strbuf_text(&text), stdout);
  hfb_strbuf_deinit(&text);
  return status == HFB_OK ? HFB_EXIT_OK : hfb_cli_failure(status);
}

/* What native has after a pass, or the C that it generates when `pass` is NULL. */
static int print_native(const shown *s, const char *pass) {
  const hfb_backend *native = hfb_backend_native();
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  const hfb_backend_options options = {.dump_pass = pass, .dump_text = &text};
  hfb_device *device = NULL;
  hfb_program *program = NULL;
  int code = HFB_EXIT_OK;
  hfb_status status = compile_on(s, native, &options, &device, &program);
  /* What was dumped is shown even when a later step fails: it may be why somebody looks. */
  if (pass) fputs(hfb_strbuf_text(&text), stdout);
  else if (status == HFB_OK) fputs(hfb_native_code(program), stdout);
  if (status != HFB_OK) code = hfb_cli_failure(status);
  else if (pass && text.length == 0) {
    code = hfb_cli_usage_error("native has no pass '%.80s': input, simplify, decompose, fold, primitives or schedule",
                               pass);
  }
  if (program) native->destroy(program);
  hfb_device_destroy(device);
  hfb_strbuf_deinit(&text);
  return code;
}

static int show(const hfb_args *args, const shown *s) {
  if (hfb_args_flag(args, HFB_OPT_GRAPH)) return print_graph(s);
  if (hfb_args_given(args, HFB_OPT_DUMP)) return print_native(s, hfb_args_text(args, HFB_OPT_DUMP));
  if (hfb_args_flag(args, HFB_OPT_CODE)) return print_native(s, NULL);
  if (hfb_args_flag(args, HFB_OPT_JSON)) return print_json(s);
  print_all(s);
  return HFB_EXIT_OK;
}

int hfb_cmd_show(const hfb_args *args) {
  shown s = {.threads = (int)hfb_args_int(args, HFB_OPT_THREADS)};
  if (hfb_model_find(hfb_args_positional(args, 0), &s.row) != HFB_OK)
    return hfb_cli_usage_error("%s", hfb_error_message());
  s.batch = hfb_args_given(args, HFB_OPT_BATCH_SIZE) ? hfb_args_int(args, HFB_OPT_BATCH_SIZE) : s.row->default_batch;
  s.seq_len = hfb_args_given(args, HFB_OPT_SEQ_LEN) ? hfb_args_int(args, HFB_OPT_SEQ_LEN) : s.row->seq_len;
  s.precision = strcmp(hfb_args_text(args, HFB_OPT_PRECISION), "f64") == 0 ? HFB_F64 : HFB_F32;
  hfb_status status = hfb_workload_graph(s.row, s.batch, s.seq_len, s.precision, &s.config, &s.graph);
  int code = status == HFB_OK ? show(args, &s) : hfb_cli_failure(status);
  hfb_graph_destroy(s.graph);
  hfb_config_destroy(s.config);
  return code;
}
