/* show: what one model is, at one shape, in inference or training, and what each engine makes of it. */
#include <jansson.h>
#include <string.h>

#include "base/strbuf.h"
#include "bench/job.h"
#include "cli/cli.h"
#include "cli/training_args.h"
#include "compile/native.h"

typedef struct shown {
  hfb_job job; /* as `run` would time it */
  hfb_config *config;
  hfb_graph *graph;
  hfb_cost cost;            /* of the graph, but for the next three */
  int64_t multiply_adds;    /* nominal */
  int64_t parameter_bytes;  /* without the optimizer's state */
  int64_t optimizer_bytes;
  int64_t gradient_bytes;   /* of all gradients, though they are never all there at once when an optimizer follows */
} shown;

static const double gigabyte = 1e9;

/* What an engine says about the model without running it. */
typedef struct engine_view {
  hfb_status status;
  char message[256]; /* why it cannot */
  hfb_program_stats stats;
} engine_view;

/* A program owns its parameters, as it does where `run` times it. */
static hfb_status compile_on(const shown *s, const hfb_backend *backend, hfb_backend_options options,
                             hfb_device **out_device, hfb_program **out_program) {
  options.owns_parameters = true;
  HFB_TRY(hfb_device_cpu_create(s->job.threads, 0, out_device));
  hfb_status status = backend->compile(s->graph, *out_device, &options, out_program);
  if (status != HFB_OK) {
    hfb_device_destroy(*out_device);
    *out_device = NULL;
  }
  return status;
}

static engine_view view_engine(const shown *s, const hfb_backend *backend) {
  engine_view view = {0};
  hfb_device *device = NULL;
  hfb_program *program = NULL;
  view.status = compile_on(s, backend, (hfb_backend_options){0}, &device, &program);
  if (view.status != HFB_OK) {
    snprintf(view.message, sizeof(view.message), "%s", hfb_error_message());
    return view;
  }
  backend->stats(program, &view.stats);
  backend->destroy(program);
  hfb_device_destroy(device);
  return view;
}

/* Parameters of the model, or the state of its optimizer. */
static int count_parameters(const shown *s, bool of_optimizer) {
  int count = 0;
  for (int i = 0; i < s->graph->parameter_count; i++)
    count += hfb_graph_parameter_is_of_optimizer(s->graph, i) == of_optimizer;
  return count;
}

static const char *input_name(const hfb_value *value) { return hfb_node_text(value->node, HFB_ATTR_NAME, "?"); }

/* ---- Text ---- */

static void print_value(const char *name, const hfb_value *value) {
  char shape[HFB_SHAPE_TEXT_BYTES];
  printf("  %-68s %-5s %s\n", name, hfb_dtype_name(value->dtype), hfb_shape_print(&value->shape, shape, sizeof(shape)));
}

static void print_config(const shown *s) {
  printf("configuration (%s, %s)\n", hfb_config_model_type(s->config), s->job.model->config);
  for (int i = 0; i < hfb_config_field_count(s->config); i++) {
    hfb_strbuf value;
    hfb_strbuf_init(&value);
    hfb_config_field_value(s->config, i, &value);
    printf("  %-36s %s\n", hfb_config_field_name(s->config, i), hfb_strbuf_text(&value));
    hfb_strbuf_deinit(&value);
  }
}

static void print_bytes(const char *name, int64_t bytes) {
  printf("  %-36s %.6f GB\n", name, (double)bytes / gigabyte);
}

static void print_cost(const shown *s) {
  printf("cost of one step (batch %lld, sequence length %lld, %s)\n", (long long)s->job.batch,
         (long long)s->job.seq_len, hfb_dtype_name(s->job.precision));
  printf("  %-36s %lld\n", "parameters", (long long)s->cost.parameter_count);
  print_bytes("parameter bytes", s->parameter_bytes);
  if (s->job.training) {
    print_bytes("optimizer state bytes", s->optimizer_bytes);
    print_bytes("gradient bytes, all together", s->gradient_bytes);
  }
  printf("  %-36s %.3f GFLOP (2 x %lld multiply-adds of matrix products)\n", "work", 2e-9 * (double)s->multiply_adds,
         (long long)s->multiply_adds);
  if (s->cost.multiply_adds > s->multiply_adds) {
    printf("  %-36s %.3f GFLOP, for activation checkpointing\n", "computed again",
           2e-9 * (double)(s->cost.multiply_adds - s->multiply_adds));
  }
  print_bytes("input bytes", s->cost.input_bytes);
  print_bytes("output bytes", s->cost.output_bytes);
}

/* What an engine holds at its peak, when it works in `working_bytes`. */
static int64_t total_bytes(const shown *s, int64_t working_bytes) {
  return s->cost.parameter_bytes + s->cost.input_bytes + s->cost.output_bytes + working_bytes;
}

static void print_engines(const shown *s) {
  printf("working memory planned, beyond parameters, %sinputs and outputs; and all of these together\n",
         s->job.training ? "optimizer state, " : "");
  for (int i = 0; i < hfb_engine_count(); i++) {
    const hfb_engine *engine = hfb_engine_at(i);
    if (strcmp(engine->name, engine->backend()->name) != 0) continue; /* another name of the same engine */
    engine_view view = view_engine(s, engine->backend());
    if (view.status != HFB_OK) printf("  %-36s cannot run it: %s\n", engine->name, view.message);
    else if (view.stats.planned_peak_bytes < 0) printf("  %-36s unknown\n", engine->name);
    else {
      printf("  %-36s %.6f GB, %.6f GB\n", engine->name, (double)view.stats.planned_peak_bytes / gigabyte,
             (double)total_bytes(s, view.stats.planned_peak_bytes) / gigabyte);
    }
  }
}

static void print_parameters(const shown *s) {
  printf("parameters (%d tensors)\n", count_parameters(s, false));
  for (int i = 0; i < s->graph->parameter_count; i++) {
    if (hfb_graph_parameter_is_of_optimizer(s->graph, i)) continue;
    print_value(input_name(s->graph->parameters[i]), s->graph->parameters[i]);
  }
}

static void print_all(const shown *s) {
  const hfb_job *job = &s->job;
  printf("%s: %s, graph of %d nodes\n", job->model->name, job->model->class_name, s->graph->node_count);
  if (job->training) {
    printf("training step: optimizer %s with %d tensors of state, dropout %s, activation checkpointing %s\n",
           hfb_optimizer_name(job->optimizer), count_parameters(s, true), hfb_job_dropout(job),
           hfb_job_checkpointing(job));
  }
  print_config(s);
  printf("inputs\n");
  for (int i = 0; i < s->graph->input_count; i++) print_value(input_name(s->graph->inputs[i]), s->graph->inputs[i]);
  printf("outputs\n");
  for (int i = 0; i < s->graph->output_count; i++) print_value(s->graph->outputs[i].name, s->graph->outputs[i].value);
  print_parameters(s);
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

static json_t *inputs_json(const hfb_graph *graph) {
  json_t *array = json_array();
  for (int i = 0; i < graph->input_count; i++)
    json_array_append_new(array, value_json(input_name(graph->inputs[i]), graph->inputs[i]));
  return array;
}

static json_t *parameters_json(const hfb_graph *graph, bool of_optimizer) {
  json_t *array = json_array();
  for (int i = 0; i < graph->parameter_count; i++) {
    if (hfb_graph_parameter_is_of_optimizer(graph, i) != of_optimizer) continue;
    json_array_append_new(array, value_json(input_name(graph->parameters[i]), graph->parameters[i]));
  }
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
    const int64_t planned = view.stats.planned_peak_bytes;
    bool known = view.status == HFB_OK && planned >= 0;
    json_object_set_new(object, engine->name,
                        json_pack("{s:o, s:o, s:o}", "planned_peak_bytes", known ? json_integer(planned) : json_null(),
                                  "planned_total_bytes", known ? json_integer(total_bytes(s, planned)) : json_null(),
                                  "error", view.status == HFB_OK ? json_null() : json_string(view.message)));
  }
  return object;
}

static void add_training_json(const shown *s, json_t *object) {
  json_t *training = json_pack(
      "{s:s, s:s, s:s, s:o, s:I, s:I, s:I}", "optimizer", hfb_optimizer_name(s->job.optimizer), "dropout",
      hfb_job_dropout(&s->job), "checkpointing", hfb_job_checkpointing(&s->job), "optimizer_state",
      parameters_json(s->graph, true), "optimizer_bytes", (json_int_t)s->optimizer_bytes, "gradient_bytes",
      (json_int_t)s->gradient_bytes, "multiply_adds_again", (json_int_t)(s->cost.multiply_adds - s->multiply_adds));
  json_object_update(object, training);
  json_decref(training);
}

static int print_json(const shown *s) {
  const hfb_model_row *row = s->job.model;
  json_t *outputs = json_array();
  for (int i = 0; i < s->graph->output_count; i++) {
    json_array_append_new(outputs, value_json(s->graph->outputs[i].name, s->graph->outputs[i].value));
  }
  json_t *object = json_pack(
      "{s:s, s:s, s:s, s:o, s:s, s:I, s:I, s:s, s:i, s:o, s:o, s:o, s:I, s:I, s:I, s:f, s:I, s:I, s:o}", "name",
      row->name, "class", row->class_name, "model_type", hfb_config_model_type(s->config), "config",
      config_json(s->config), "mode", hfb_job_mode(&s->job), "batch_size", (json_int_t)s->job.batch, "seq_len",
      (json_int_t)s->job.seq_len, "precision", hfb_dtype_name(s->job.precision), "nodes", s->graph->node_count,
      "inputs", inputs_json(s->graph), "outputs", outputs, "parameters", parameters_json(s->graph, false),
      "parameter_count", (json_int_t)s->cost.parameter_count, "parameter_bytes", (json_int_t)s->parameter_bytes,
      "multiply_adds", (json_int_t)s->multiply_adds, "gflop", 2e-9 * (double)s->multiply_adds, "input_bytes",
      (json_int_t)s->cost.input_bytes, "output_bytes", (json_int_t)s->cost.output_bytes, "engines", engines_json(s));
  if (s->job.training) add_training_json(s, object);
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
  hfb_status status = compile_on(s, native, options, &device, &program);
  /* What was dumped is shown even when a later step fails: it may be why somebody looks. */
  if (pass) fputs(hfb_strbuf_text(&text), stdout);
  else if (status == HFB_OK) fputs(hfb_native_code(program), stdout);
  if (status != HFB_OK) code = hfb_cli_failure(status);
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

/* A usage error when --dump names no pass. */
static int check_pass(const hfb_args *args) {
  const char *pass = hfb_args_text(args, HFB_OPT_DUMP), *name;
  hfb_strbuf names;
  hfb_strbuf_init(&names);
  bool is_found = !pass;
  for (int i = 0; !is_found && (name = hfb_native_pass(i)) != NULL; i++) {
    is_found = strcmp(name, pass) == 0;
    hfb_strbuf_printf(&names, "%s%s", i > 0 ? ", " : "", name);
  }
  int code = HFB_EXIT_OK;
  if (!is_found)
    code = hfb_cli_usage_error("native has no pass '%.80s': name one of %s", pass, hfb_strbuf_text(&names));
  hfb_strbuf_deinit(&names);
  return code;
}

/* The graph that is timed has the loss as its only output, if there is an optimizer; gradients are counted in one that
 * has them all. */
static hfb_status measure_gradients(shown *s) {
  hfb_graph *graph = NULL;
  if (!s->job.training) return HFB_OK;
  HFB_TRY(hfb_job_graph(&s->job, true, NULL, &graph));
  s->gradient_bytes = hfb_graph_gradient_bytes(graph);
  hfb_graph_destroy(graph);
  return HFB_OK;
}

static hfb_status build(shown *s) {
  HFB_TRY(hfb_job_graph(&s->job, false, &s->config, &s->graph));
  s->cost = hfb_graph_cost(s->graph);
  s->optimizer_bytes = hfb_graph_optimizer_bytes(s->graph);
  s->parameter_bytes = s->cost.parameter_bytes - s->optimizer_bytes;
  HFB_TRY(measure_gradients(s));
  return hfb_job_multiply_adds(&s->job, s->graph, &s->multiply_adds);
}

/* By the options and the model; HFB_EXIT_OK, or a usage error. */
static int fill_job(const hfb_args *args, hfb_job *job) {
  bool suite_optimizer;
  int code = hfb_cli_training(args, job, &suite_optimizer);
  if (code != HFB_EXIT_OK) return code;
  if (hfb_model_find(hfb_args_positional(args, 0), &job->model) != HFB_OK)
    return hfb_cli_usage_error("%s", hfb_error_message());
  if (suite_optimizer) job->optimizer = hfb_suite_optimizer(job->model);
  job->threads = (int)hfb_args_int(args, HFB_OPT_THREADS);
  job->batch = hfb_args_int(args, HFB_OPT_BATCH_SIZE);
  if (job->batch == 0) job->batch = job->model->default_batch;
  job->seq_len = hfb_args_int(args, HFB_OPT_SEQ_LEN);
  if (job->seq_len == 0) job->seq_len = job->model->seq_len;
  job->precision = strcmp(hfb_args_text(args, HFB_OPT_PRECISION), "f64") == 0 ? HFB_F64 : HFB_F32;
  return HFB_EXIT_OK;
}

int hfb_cmd_show(const hfb_args *args) {
  shown s = {0};
  int code = check_pass(args);
  if (code == HFB_EXIT_OK) code = fill_job(args, &s.job);
  if (code != HFB_EXIT_OK) return code;
  hfb_status status = build(&s);
  code = status == HFB_OK ? show(args, &s) : hfb_cli_failure(status);
  hfb_graph_destroy(s.graph);
  hfb_config_destroy(s.config);
  return code;
}
