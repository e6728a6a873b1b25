/* Accuracy and timing of training steps, on a model of the suite that is cut to a few tokens: both engines pass, equal
 * seeds give equal bits, and engines that are wrong in one place are found out: eager with one fault each. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "bench/adam_steps.h"
#include "bench/loss.h"
#include "bench/need.h"
#include "bench/outcome.h"
#include "eager/eager.h"
#include "hfbench/hfbench.h"
#include "support/folder_fixture.h"

static const char model_name[] = "ElectraForQuestionAnswering";

/* ---- Engines with a fault ---- */

static hfb_backend faulty;

static const hfb_backend *faulty_backend(void) { return &faulty; }

static const hfb_engine faulty_engine = {"faulty", faulty_backend, false, "eager with a fault"};

static const hfb_tensor *bound; /* by the last bind_parameters */
static const hfb_graph *compiled_graph;
static int run_count;

static hfb_status compile_and_note(const hfb_graph *graph, hfb_device *device, const hfb_backend_options *options,
                                   hfb_program **out_program) {
  compiled_graph = graph;
  run_count = 0;
  return hfb_backend_eager()->compile(graph, device, options, out_program);
}

static hfb_status bind_and_note(hfb_program *program, const hfb_tensor *parameters) {
  bound = parameters;
  return hfb_backend_eager()->bind_parameters(program, parameters);
}

static int reset_fault(void **state) {
  (void)state;
  faulty = *hfb_backend_eager();
  faulty.name = "faulty";
  faulty.compile = compile_and_note;
  faulty.bind_parameters = bind_and_note;
  return 0;
}

static float *output_named(const char *name, hfb_tensor *outputs) {
  int index = hfb_graph_find_output(compiled_graph, name);
  assert_true(index >= 0 && hfb_tensor_is_contiguous(&outputs[index]));
  return outputs[index].data;
}

static hfb_status run_wrong_gradient(hfb_program *program, const hfb_tensor *inputs, hfb_tensor *outputs) {
  HFB_TRY(hfb_backend_eager()->run(program, inputs, outputs));
  output_named("grad/qa_outputs.bias", outputs)[0] += 0.1f;
  return HFB_OK;
}

/* All gradients too small by half; most are below the tolerance of the suite. */
static hfb_status run_half_gradients(hfb_program *program, const hfb_tensor *inputs, hfb_tensor *outputs) {
  HFB_TRY(hfb_backend_eager()->run(program, inputs, outputs));
  for (int i = 1; i < compiled_graph->output_count; i++) {
    hfb_tensor *gradient = &outputs[i];
    if (!hfb_tensor_is_contiguous(gradient) || hfb_tensor_get(gradient, 0) > 0.005) continue;
    for (int64_t k = 0; k < hfb_shape_elements(&gradient->shape); k++) {
      float *value = (float *)gradient->data + k;
      if (fabsf(*value) < 0.015f) *value *= 0.5f;
    }
  }
  return HFB_OK;
}

static float largest_scaled;

static hfb_status run_gradients_too_large(hfb_program *program, const hfb_tensor *inputs, hfb_tensor *outputs) {
  HFB_TRY(hfb_backend_eager()->run(program, inputs, outputs));
  for (int i = 1; i < compiled_graph->output_count; i++) {
    assert_true(hfb_tensor_is_contiguous(&outputs[i]) && outputs[i].dtype == HFB_F32);
    for (int64_t k = 0; k < hfb_shape_elements(&outputs[i].shape); k++) {
      float *value = (float *)outputs[i].data + k;
      if (fabsf(*value) < largest_scaled) *value *= 1.08f;
    }
  }
  return HFB_OK;
}

static float *parameter_named(const char *name) {
  int index = hfb_graph_find_parameter(compiled_graph, name);
  assert_true(index >= 0);
  return bound[index].data;
}

static hfb_status run_wrong_update(hfb_program *program, const hfb_tensor *inputs, hfb_tensor *outputs) {
  HFB_TRY(hfb_backend_eager()->run(program, inputs, outputs));
  parameter_named("electra.encoder.layer.3.attention.self.query.bias")[7] += 0.5f;
  return HFB_OK;
}

/* Nothing but rounding is in the gradient of this bias: two steps move it by 0.02 in either direction, no further. */
static float undetermined_write;

static hfb_status run_wrong_undetermined_update(hfb_program *program, const hfb_tensor *inputs, hfb_tensor *outputs) {
  HFB_TRY(hfb_backend_eager()->run(program, inputs, outputs));
  if (++run_count == 2) parameter_named("electra.encoder.layer.3.attention.self.key.bias")[7] += undetermined_write;
  return HFB_OK;
}

/* The parameters are what they were before: gradients are right, nothing is learnt. */
static hfb_status run_without_update(hfb_program *program, const hfb_tensor *inputs, hfb_tensor *outputs) {
  float *weight = parameter_named("qa_outputs.weight"), kept[16];
  memcpy(kept, weight, sizeof(kept));
  HFB_TRY(hfb_backend_eager()->run(program, inputs, outputs));
  memcpy(weight, kept, sizeof(kept));
  return HFB_OK;
}

static hfb_status run_nan_in_step_2(hfb_program *program, const hfb_tensor *inputs, hfb_tensor *outputs) {
  HFB_TRY(hfb_backend_eager()->run(program, inputs, outputs));
  if (++run_count == 2) ((float *)outputs[0].data)[0] = NAN;
  return HFB_OK;
}

/* ---- Set-up ---- */

static hfb_job make_job(const hfb_engine *engine) {
  hfb_job job = {.engine = engine,
                 .precision = HFB_F32,
                 .batch = 2,
                 .seq_len = 8,
                 .threads = 2,
                 .seed = 1,
                 .training = true,
                 .optimizer = HFB_OPTIMIZER_ADAM,
                 .iterations = 2,
                 .repeat = 6,
                 .calls = 1,
                 .cache_dir = own_folder};
  assert_int_equal(hfb_model_find(model_name, &job.model), HFB_OK);
  return job;
}

typedef struct measured {
  hfb_status status;
  hfb_stage last;
  hfb_row row;
} measured;

static void note_stage(void *context, hfb_stage stage, int done, int total) {
  (void)done;
  (void)total;
  ((measured *)context)->last = stage;
}

static measured measure(hfb_status (*function)(const hfb_job *, const hfb_monitor *, hfb_row *), const hfb_job *job) {
  measured m = {0};
  const hfb_monitor monitor = {note_stage, &m};
  assert_int_equal(hfb_row_init(&m.row), HFB_OK);
  m.status = function(job, &monitor, &m.row);
  return m;
}

static double real_of(const hfb_row *row, hfb_column column) {
  double value = hfb_row_get_real(row, column);
  if (isnan(value)) fail_msg("%s is missing", hfb_column_info_of(column)->name);
  return value;
}

/* ---- Accuracy ---- */

static measured measure_pass(const hfb_job *job) {
  measured m = measure(hfb_accuracy_measure, job);
  if (m.status != HFB_OK) fail_msg("%s: %s", job->engine->name, hfb_error_message());
  const char *error = hfb_row_get_text(&m.row, HFB_COLUMN_ERROR);
  if (error) fail_msg("%s: %s", job->engine->name, error);
  assert_string_equal(hfb_row_get_text(&m.row, HFB_COLUMN_ACCURACY), "pass");
  return m;
}

static bool ends_with(const char *text, const char *end) {
  size_t length = strlen(text), end_length = strlen(end);
  return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static void check_rows_of_tensors(const hfb_row *row) {
  json_int_t undetermined = 0;
  int gradients = 0, parameters = 0, losses = 0;
  const json_t *tensors = json_object_get(row->object, "tensors");
  size_t i;
  json_t *tensor;
  json_array_foreach(tensors, i, tensor) {
    const char *name = json_string_value(json_object_get(tensor, "name"));
    gradients += strncmp(name, "grad/", 5) == 0;
    parameters += strncmp(name, "param/", 6) == 0;
    losses += strcmp(name, "loss") == 0;
    assert_null(strstr(name, "optimizer/"));
    json_int_t left_out = json_integer_value(json_object_get(tensor, "undetermined"));
    undetermined += left_out;
    if (strncmp(name, "param/", 6) != 0) assert_int_equal(left_out, 0);
    if (ends_with(name, ".key.bias") && name[0] == 'p') assert_true(left_out > 250); /* of 256 */
    if (ends_with(name, ".query.bias")) assert_true(left_out < 128);
  }
  assert_int_equal(hfb_row_get_int(row, HFB_COLUMN_UNDETERMINED), undetermined);
  assert_int_equal(losses, 1);
  assert_int_equal(parameters, gradients);
  assert_true(gradients > 190);
  assert_int_equal(hfb_row_get_int(row, HFB_COLUMN_TENSORS_TOTAL), losses + parameters + gradients);
}

static void test_engines_pass(void **state) {
  (void)state;
  static const char *const names[] = {"nothing", "native"};
  for (size_t i = 0; i < 2; i++) {
    hfb_job job = make_job(hfb_engine_find(names[i]));
    measured m = measure_pass(&job);
    check_rows_of_tensors(&m.row);
    assert_true(real_of(&m.row, HFB_COLUMN_TENSORS_BY_RMSE) <= 0.05 * real_of(&m.row, HFB_COLUMN_TENSORS_TOTAL));
    assert_true(real_of(&m.row, HFB_COLUMN_ERROR_BACKEND) < 1e-3); /* below 7e-5 for four seeds */
    assert_true(real_of(&m.row, HFB_COLUMN_ERROR_BACKEND) > 0); /* float32 is not float64 */
    assert_true(real_of(&m.row, HFB_COLUMN_GRADIENT_CHECK) < 1e-7);
    assert_true(isfinite(real_of(&m.row, HFB_COLUMN_LOSS)));
    assert_string_equal(hfb_row_get_text(&m.row, HFB_COLUMN_OPTIMIZER), "adam");
    assert_string_equal(hfb_row_get_text(&m.row, HFB_COLUMN_DROPOUT), "on");
    assert_string_equal(hfb_row_get_text(&m.row, HFB_COLUMN_CHECKPOINTING), "off");
    hfb_row_deinit(&m.row);
  }
}

/* In float64 eager's tuned kernels are compared with the plain ones. */
static void test_f64(void **state) {
  (void)state;
  hfb_job job = make_job(hfb_engine_find("nothing"));
  job.precision = HFB_F64;
  measured m = measure_pass(&job);
  assert_true(real_of(&m.row, HFB_COLUMN_ERROR_EAGER) < 1e-9);
  hfb_row_deinit(&m.row);
}

/* The hash of what two steps leave, for engines and settings: equal exactly where everything is the same. */
static void hash_of(const hfb_job *job, char out_text[HFB_STATE_HASH_BYTES], double *out_loss) {
  measured m = measure_pass(job);
  snprintf(out_text, HFB_STATE_HASH_BYTES, "%s", hfb_row_get_text(&m.row, HFB_COLUMN_STATE_HASH));
  assert_int_equal(strlen(out_text), 32);
  *out_loss = real_of(&m.row, HFB_COLUMN_LOSS);
  if (job->engine->is_control) {
    assert_string_equal(out_text, hfb_row_get_text(&m.row, HFB_COLUMN_EAGER_STATE_HASH));
  }
  hfb_row_deinit(&m.row);
}

static void test_bits_repeat(void **state) {
  (void)state;
  static const char *const names[] = {"nothing", "native"};
  for (size_t i = 0; i < 2; i++) {
    char first[HFB_STATE_HASH_BYTES], again[HFB_STATE_HASH_BYTES], other[HFB_STATE_HASH_BYTES];
    double loss, loss_again, other_loss;
    hfb_job job = make_job(hfb_engine_find(names[i]));
    hash_of(&job, first, &loss);
    hash_of(&job, again, &loss_again);
    job.seed = 2;
    hash_of(&job, other, &other_loss);
    assert_string_equal(first, again);
    assert_true(loss == loss_again);
    assert_string_not_equal(first, other);
    assert_true(loss != other_loss);
  }
}

/* Every setting is another step, except checkpointing: what is computed again is the same. */
static void test_settings(void **state) {
  (void)state;
  char base[HFB_STATE_HASH_BYTES], hash[HFB_STATE_HASH_BYTES], eval[HFB_STATE_HASH_BYTES];
  double loss, base_loss;
  hfb_job job = make_job(hfb_engine_find("nothing"));
  job.optimizer = HFB_OPTIMIZER_SGD;
  hash_of(&job, base, &base_loss);
  job.checkpoint_layers = true;
  hash_of(&job, hash, &loss);
  assert_string_equal(hash, base);
  job.checkpoint_layers = false;
  job.no_dropout = true;
  hash_of(&job, hash, &loss);
  assert_string_not_equal(hash, base);
  job.no_dropout = false;
  job.eval_mode = true;
  hash_of(&job, eval, &loss);
  assert_string_equal(hash, eval); /* this class does nothing else in train() */
  job.eval_mode = false;
  job.optimizer = HFB_OPTIMIZER_NONE;
  measured m = measure_pass(&job);
  /* Parameters stay, so they are not compared; the step count of the masks goes on. */
  assert_true(hfb_row_get_int(&m.row, HFB_COLUMN_TENSORS_TOTAL) < 250);
  assert_string_equal(hfb_row_get_text(&m.row, HFB_COLUMN_OPTIMIZER), "none");
  assert_string_not_equal(hfb_row_get_text(&m.row, HFB_COLUMN_STATE_HASH), base);
  hfb_row_deinit(&m.row);
}

/* A class without a loss has the mean of its first output; the gradient of what it does not reach is known to be 0. */
static void test_class_without_loss(void **state) {
  (void)state;
  hfb_job job = make_job(hfb_engine_find("nothing"));
  job.optimizer = HFB_OPTIMIZER_SGD;
  assert_int_equal(hfb_model_find("BartForCausalLM", &job.model), HFB_OK);
  hfb_graph *graph, *with_loss;
  hfb_config *config;
  assert_int_equal(hfb_job_graph(&job, true, &config, &graph), HFB_OK);
  hfb_outcome outcome;
  assert_int_equal(hfb_outcome_list(graph, &outcome), HFB_OK);
  int missing = 0;
  for (int i = 0; i < outcome.count; i++) {
    if (outcome.items[i].kind != HFB_OUTCOME_NO_GRADIENT) continue;
    missing++;
    assert_non_null(strstr(outcome.items[i].name, "encoder_attn")); /* no encoder, so never called */
  }
  assert_true(missing > 0);
  hfb_outcome_deinit(&outcome);
  hfb_graph_destroy(graph);
  const hfb_model_input ids = {"input_ids", HFB_I64, hfb_shape_of(2, (int64_t[]){1, 8})};
  const hfb_model_request request = {
      .class_name = "BartForCausalLM", .config = config, .training = true, .input_count = 1, .inputs = &ids};
  assert_int_equal(hfb_training_loss_graph(&request, HFB_F32, &with_loss), HFB_OK);
  assert_string_equal(with_loss->outputs[0].name, "loss");
  assert_string_equal(with_loss->outputs[1].name, "logits");
  assert_int_equal(with_loss->outputs[0].value->node->op, HFB_OP_REDUCE_MEAN);
  assert_int_equal(with_loss->outputs[0].value->shape.rank, 0);
  hfb_graph_destroy(with_loss);
  hfb_config_destroy(config);
}

static void check_fault_of(const hfb_job *job, const char *expected_status, const char *expected_text) {
  measured m = measure(hfb_accuracy_measure, job);
  if (m.status != HFB_OK) fail_msg("%s", hfb_error_message());
  const char *text = hfb_row_get_text(&m.row, HFB_COLUMN_ERROR);
  assert_string_equal(hfb_row_get_text(&m.row, HFB_COLUMN_ACCURACY), expected_status);
  if (!text || !strstr(text, expected_text)) fail_msg("'%s' does not contain '%s'", text ? text : "", expected_text);
  hfb_row_deinit(&m.row);
}

static void check_fault(const char *expected_status, const char *expected_text) {
  hfb_job job = make_job(&faulty_engine);
  check_fault_of(&job, expected_status, expected_text);
}

static void test_faults_are_found(void **state) {
  faulty.run = run_wrong_gradient;
  check_fault("fail_accuracy", "grad/qa_outputs.bias");
  reset_fault(state);
  faulty.run = run_half_gradients;
  check_fault("fail_accuracy", "the backend is far from float64");
  reset_fault(state);
  faulty.run = run_gradients_too_large;
  largest_scaled = INFINITY;
  check_fault("fail_accuracy", "grad/");
  reset_fault(state);
  faulty.run = run_gradients_too_large;
  largest_scaled = 0.12f; /* so that all stay within the tolerance */
  check_fault("fail_accuracy", "the backend is far from float64: error 0.0");
  reset_fault(state);
  faulty.run = run_wrong_update;
  check_fault("fail_accuracy", "param/electra.encoder.layer.3.attention.self.query.bias");
  reset_fault(state);
  faulty.run = run_wrong_undetermined_update;
  undetermined_write = 0.1f;
  check_fault("fail_accuracy", "param/electra.encoder.layer.3.attention.self.key.bias: an element whose step rounding "
                               "decides is further from float64 than steps lead: by 0.");
  reset_fault(state);
  faulty.run = run_without_update;
  check_fault("fail_accuracy", "grad/"); /* a step that was not made shows in the next one */
  reset_fault(state);
  faulty.run = run_nan_in_step_2;
  check_fault("fail_accuracy", "faulty: the loss is nan in step 2; op by op, eager finds all values finite");
  reset_fault(state);
}

/* A step of SGD is proportional to the gradient, that of rounding is no larger than rounding: all is compared. */
static void test_sgd_leaves_nothing_out(void **state) {
  hfb_job job = make_job(&faulty_engine);
  job.optimizer = HFB_OPTIMIZER_SGD;
  faulty.run = run_wrong_undetermined_update;
  undetermined_write = 0.03f; /* as far as steps of Adam may lead */
  check_fault_of(&job, "fail_accuracy", "param/electra.encoder.layer.3.attention.self.key.bias: further from float64");
  reset_fault(state);
  job.engine = hfb_engine_find("nothing");
  measured m = measure_pass(&job);
  assert_int_equal(hfb_row_get_int(&m.row, HFB_COLUMN_UNDETERMINED), 0);
  hfb_row_deinit(&m.row);
}

/* The bound is reached in its last step by gradients w_k / u_k, and by none in any step of random sequences. */
static void test_reach_of_adam(void **state) {
  (void)state;
  enum { STEPS = 20 };
  const double beta1 = 0.9, beta2 = 0.999;
  assert_true(fabs(hfb_adam_steps_reach(beta1, beta2, 1) - 1) < 1e-12);
  hfb_philox stream = hfb_philox_named(5, "gradients");
  for (int sequence = 0; sequence < 200; sequence++) {
    double mean = 0, square = 0, moved = 0;
    for (int t = 1; t <= STEPS; t++) {
      double worst = pow(beta1 / beta2, STEPS - t), size = pow(10, sequence % 5);
      double g = sequence == 0 ? worst : pow(size, hfb_philox_normal(stream, (uint64_t)(sequence * STEPS + t)));
      mean = beta1 * mean + (1 - beta1) * g;
      square = beta2 * square + (1 - beta2) * g * g;
      double step = mean / (1 - pow(beta1, t)) / sqrt(square / (1 - pow(beta2, t)));
      double reach = hfb_adam_steps_reach(beta1, beta2, t);
      double largest = reach - hfb_adam_steps_reach(beta1, beta2, t - 1);
      moved += step;
      if (!(step <= largest + 1e-12 && moved <= reach + 1e-12)) fail_msg("sequence %d, step %d: %g", sequence, t, step);
      if (sequence == 0 && t == STEPS) assert_true(fabs(step - largest) < 1e-9);
    }
  }
}

/* Where memory suffices without a float64 run only, the row says so, whatever else there is to say of its tensors. */
static void test_what_was_left_out_is_said(void **state) {
  faulty.run = run_wrong_gradient;
  hfb_job job = make_job(&faulty_engine);
  hfb_graph *graph, *graph64;
  hfb_memory_need with, without;
  assert_int_equal(hfb_job_graph(&job, true, NULL, &graph), HFB_OK);
  assert_int_equal(hfb_job_reference_graph(&job, graph, &graph64), HFB_OK);
  assert_int_equal(hfb_accuracy_need(&job, graph, graph64, &with), HFB_OK);
  assert_int_equal(hfb_accuracy_need(&job, graph, NULL, &without), HFB_OK);
  hfb_graph_destroy(graph64);
  hfb_graph_destroy(graph);
  job.memory_bytes = (hfb_memory_need_total(&with) + hfb_memory_need_total(&without)) / 2;
  measured m = measure(hfb_accuracy_measure, &job);
  if (m.status != HFB_OK) fail_msg("%s", hfb_error_message());
  const char *reason = hfb_row_get_text(&m.row, HFB_COLUMN_ACCURACY_STATUS_REASON);
  assert_non_null(reason);
  if (!strstr(reason, "no float64 reference") || !strstr(reason, "; grad/qa_outputs.bias: ")) fail_msg("%s", reason);
  assert_false(hfb_row_has(&m.row, HFB_COLUMN_ERROR_BACKEND));
  hfb_row_deinit(&m.row);
  reset_fault(state);
}

/* ---- Losses that are no numbers ---- */

/* log(w) with w = 0.005: the first step of SGD makes w negative. */
static hfb_graph *diverging_graph(void) {
  const hfb_init init = {.kind = HFB_INIT_CONSTANT, .a = 0.005, .padding_idx = -1};
  const hfb_training_options options = {.optimizer = HFB_OPTIMIZER_SGD};
  hfb_builder b;
  hfb_graph *forward, *graph;
  assert_int_equal(hfb_builder_init(&b, "diverging"), HFB_OK);
  hfb_value *w = hfb_parameter(&b, "w", hfb_shape_of(1, (int64_t[]){3}), init);
  hfb_scope_push(&b, "head");
  hfb_value *y = hfb_unary(&b, HFB_OP_LOG, w);
  hfb_value *loss = hfb_reduce(&b, HFB_OP_REDUCE_MEAN, y, 1, (int[]){0}, false);
  hfb_scope_pop(&b);
  hfb_output_add(&b, "loss", loss);
  assert_int_equal(hfb_builder_finish(&b, &forward), HFB_OK);
  hfb_builder_deinit(&b);
  assert_int_equal(hfb_training_graph(forward, &options, &graph), HFB_OK);
  hfb_graph_destroy(forward);
  return graph;
}

static void test_step_and_op_of_a_nan(void **state) {
  (void)state;
  hfb_job job = make_job(hfb_engine_find("eager"));
  hfb_workload work = {.graph = diverging_graph()};
  hfb_side side;
  const hfb_backend_options options = {0};
  assert_int_equal(hfb_side_open_job(&side, hfb_backend_eager(), &job, &work, &options), HFB_OK);
  assert_int_equal(hfb_side_run(&side, NULL), HFB_OK);
  assert_int_equal(hfb_loss_check(&job, &work, &side), HFB_OK);
  assert_true(fabs(hfb_side_loss(&side) - log(0.005)) < 1e-5);
  hfb_side_drop_outputs(&side);
  assert_int_equal(hfb_side_run(&side, NULL), HFB_OK);
  assert_int_equal(hfb_loss_check(&job, &work, &side), HFB_MISMATCH);
  static const char expected[] = "eager: the loss is nan in step 2; first not finite in: head: log gives nan";
  if (strncmp(hfb_error_message(), expected, strlen(expected)) != 0) fail_msg("%s", hfb_error_message());
  hfb_side_close(&side);
  hfb_graph_destroy(work.graph);
}

/* ---- Refusals ---- */

static void test_refusals(void **state) {
  (void)state;
  hfb_job job = make_job(hfb_engine_find("nothing"));
  job.precision = HFB_F64;
  assert_int_equal(hfb_model_find("GoogleFnet", &job.model), HFB_OK);
  measured m = measure(hfb_accuracy_measure, &job);
  assert_int_equal(m.status, HFB_UNSUPPORTED);
  assert_non_null(strstr(hfb_error_message(), "GoogleFnet is measured in f32 only, not in f64"));
  assert_string_equal(hfb_stage_status(m.last, m.status), "model_fail_to_load");
  hfb_row_deinit(&m.row);

  /* No trainable parameter: nothing that an optimizer could step. */
  hfb_builder b;
  hfb_graph *forward, *graph;
  assert_int_equal(hfb_builder_init(&b, "frozen"), HFB_OK);
  const hfb_init init = {.kind = HFB_INIT_CONSTANT, .a = 1, .padding_idx = -1, .frozen = true};
  hfb_value *w = hfb_parameter(&b, "w", hfb_shape_of(0, NULL), init);
  hfb_output_add(&b, "loss", hfb_unary(&b, HFB_OP_EXP, w));
  assert_int_equal(hfb_builder_finish(&b, &forward), HFB_OK);
  hfb_builder_deinit(&b);
  const hfb_training_options options = {.optimizer = HFB_OPTIMIZER_ADAM};
  assert_int_equal(hfb_training_graph(forward, &options, &graph), HFB_INVALID_ARGUMENT);
  hfb_graph_destroy(forward);
}

/* ---- Performance ---- */

static void test_performance(void **state) {
  (void)state;
  static const char *const names[] = {"nothing", "native"};
  for (size_t i = 0; i < 2; i++) {
    hfb_job job = make_job(hfb_engine_find(names[i])), forward = job;
    measured m = measure(hfb_performance_measure, &job);
    if (m.status != HFB_OK) fail_msg("%s: %s", names[i], hfb_error_message());
    forward.training = false;
    hfb_graph *graph;
    assert_int_equal(hfb_job_graph(&forward, false, NULL, &graph), HFB_OK);
    hfb_cost cost = hfb_graph_cost(graph);
    hfb_graph_destroy(graph);
    double work = real_of(&m.row, HFB_COLUMN_MULTIPLY_ADDS) / (double)cost.multiply_adds;
    assert_true(work > 2.8 && work <= 3); /* the first products have no gradient of ids */
    double parameters = real_of(&m.row, HFB_COLUMN_PARAMETER_MEM), state_gb = real_of(&m.row, HFB_COLUMN_OPTIMIZER_MEM);
    double eager_gb = real_of(&m.row, HFB_COLUMN_EAGER_PEAK_MEM), gb = real_of(&m.row, HFB_COLUMN_DYNAMO_PEAK_MEM);
    assert_true(fabs(parameters * 1e9 - (double)cost.parameter_bytes) < 64); /* and the state of the masks */
    assert_true(fabs(state_gb / parameters - 2) < 1e-3);
    assert_true(eager_gb > parameters + state_gb && gb > parameters + state_gb);
    assert_true(real_of(&m.row, HFB_COLUMN_EAGER_WORKING_MEM) > 0);
    if (i == 0) assert_true(eager_gb == gb);
    assert_true(real_of(&m.row, HFB_COLUMN_SPEEDUP) > 0);
    assert_int_equal(json_array_size(json_object_get(m.row.object, "samples_ms")), 6);
    hfb_row_deinit(&m.row);
  }
}

/* Recomputation is no work that counts, and takes less memory. */
static void test_performance_with_checkpointing(void **state) {
  (void)state;
  double work[2], peak[2];
  for (int i = 0; i < 2; i++) {
    hfb_job job = make_job(hfb_engine_find("nothing"));
    job.optimizer = HFB_OPTIMIZER_SGD;
    job.batch = 1;
    job.seq_len = 512;
    job.repeat = 2;
    job.checkpoint_layers = i == 1;
    measured m = measure(hfb_performance_measure, &job);
    assert_int_equal(m.status, HFB_OK);
    work[i] = real_of(&m.row, HFB_COLUMN_MULTIPLY_ADDS);
    peak[i] = real_of(&m.row, HFB_COLUMN_EAGER_WORKING_MEM);
    assert_string_equal(hfb_row_get_text(&m.row, HFB_COLUMN_CHECKPOINTING), i ? "layers" : "off");
    hfb_row_deinit(&m.row);
  }
  assert_true(work[0] == work[1]);
  if (!(peak[1] < 0.7 * peak[0])) fail_msg("%g GB instead of %g GB", peak[1], peak[0]);
}

static void test_performance_finds_a_nan(void **state) {
  faulty.run = run_nan_in_step_2;
  hfb_job job = make_job(&faulty_engine);
  measured m = measure(hfb_performance_measure, &job);
  assert_int_equal(m.status, HFB_MISMATCH);
  assert_non_null(strstr(hfb_error_message(), "the loss is nan in step 2"));
  assert_string_equal(hfb_stage_status(m.last, m.status), "warmup_failed");
  assert_false(hfb_row_has(&m.row, HFB_COLUMN_SPEEDUP));
  hfb_row_deinit(&m.row);
  reset_fault(state);
}

/* ---- The suite's optimizers ---- */

static void test_suite_optimizers(void **state) {
  (void)state;
  static const struct {
    const char *model;
    hfb_optimizer optimizer;
  } cases[] = {{"BertForMaskedLM", HFB_OPTIMIZER_ADAM},
               {"AlbertForMaskedLM", HFB_OPTIMIZER_SGD},
               {"AlbertForQuestionAnswering", HFB_OPTIMIZER_ADAM},
               {"XGLMForCausalLM", HFB_OPTIMIZER_SGD},
               {"MobileBertForMaskedLM", HFB_OPTIMIZER_NONE},
               {"MobileBertForQuestionAnswering", HFB_OPTIMIZER_ADAM}};
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    const hfb_model_row *row;
    assert_int_equal(hfb_model_find(cases[i].model, &row), HFB_OK);
    assert_int_equal(hfb_suite_optimizer(row), cases[i].optimizer);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_engines_pass),
      cmocka_unit_test(test_f64),
      cmocka_unit_test(test_bits_repeat),
      cmocka_unit_test(test_settings),
      cmocka_unit_test(test_class_without_loss),
      cmocka_unit_test_setup(test_faults_are_found, reset_fault),
      cmocka_unit_test_setup(test_sgd_leaves_nothing_out, reset_fault),
      cmocka_unit_test(test_reach_of_adam),
      cmocka_unit_test_setup(test_what_was_left_out_is_said, reset_fault),
      cmocka_unit_test(test_step_and_op_of_a_nan),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_performance),
      cmocka_unit_test(test_performance_with_checkpointing),
      cmocka_unit_test_setup(test_performance_finds_a_nan, reset_fault),
      cmocka_unit_test(test_suite_optimizers),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
