#include "bench/gradient_check.h"

#include <math.h>

#include "bench/loss.h"

/* Norm of the move of each parameter. The error of the difference grows with it, since rectifiers change sides on the
 * way, and the share of rounding shrinks. */
static const double STEP = 1e-8;

typedef struct mover {
  const hfb_side *step;
  hfb_side forward; /* the loss alone, with parameters of its own that are moved */
  double norm_sum;
} mover;

/* parameter += distance * gradient / |gradient|; returns the norm. */
static double move_along(const hfb_tensor *parameter, const hfb_tensor *gradient, double distance) {
  int64_t count = hfb_shape_elements(&parameter->shape);
  double *values = parameter->data, squares = 0;
  const double *slopes = gradient->data;
  for (int64_t i = 0; i < count; i++) squares += slopes[i] * slopes[i];
  double norm = sqrt(squares);
  for (int64_t i = 0; norm > 0 && i < count; i++) values[i] += distance / norm * slopes[i];
  return norm;
}

static hfb_status move_all(mover *m, double distance) {
  m->norm_sum = 0;
  for (int i = 0; i < m->forward.own.count; i++) {
    int output = hfb_graph_find_gradient(m->step->graph, hfb_graph_parameter_name(m->forward.graph, i));
    if (output < 0) continue;
    hfb_tensor gradient;
    HFB_TRY(hfb_tensor_pack(&m->step->outputs[output], m->forward.device, &gradient));
    m->norm_sum += move_along(&m->forward.own.tensors[i], &gradient, distance);
    hfb_tensor_release(&gradient);
  }
  return m->forward.backend->bind_parameters(m->forward.program, m->forward.own.tensors);
}

static hfb_status loss_of(mover *m, const hfb_tensor *inputs, double *out_loss) {
  HFB_TRY(hfb_side_run(&m->forward, inputs));
  *out_loss = hfb_side_loss(&m->forward);
  hfb_side_drop_outputs(&m->forward);
  return HFB_OK;
}

static hfb_status take_difference(mover *m, const hfb_tensor *inputs, hfb_gradient_check *out) {
  double ahead, behind;
  HFB_TRY(move_all(m, STEP));
  HFB_TRY(loss_of(m, inputs, &ahead));
  HFB_TRY(move_all(m, -2 * STEP));
  HFB_TRY(loss_of(m, inputs, &behind));
  out->by_gradients = m->norm_sum;
  out->by_differences = (ahead - behind) / (2 * STEP);
  double difference = fabs(out->by_gradients - out->by_differences);
  out->error = difference == 0 ? 0 : difference / fmax(fabs(out->by_gradients), fabs(out->by_differences));
  return HFB_OK;
}

hfb_status hfb_gradient_check_run(const hfb_job *job, const hfb_side *step, const hfb_tensor *inputs,
                                  hfb_gradient_check *out_check) {
  hfb_graph *graph = NULL;
  mover m = {.step = step};
  hfb_job wide = *job;
  wide.precision = HFB_F64;
  *out_check = (hfb_gradient_check){0};
  HFB_TRY(hfb_job_loss_graph(&wide, &graph));
  const hfb_backend_options options = {0};
  hfb_status status = hfb_side_open(&m.forward, hfb_engine_find("eager")->backend(), graph, NULL, job->seed, &options,
                                    job->threads, job->memory_bytes);
  if (status == HFB_OK) status = take_difference(&m, inputs, out_check);
  hfb_side_close(&m.forward);
  hfb_graph_destroy(graph);
  return status;
}
