#include "bench/adam_steps.h"

#include <float.h>
#include <math.h>

/* Of a step, relative to its length. */
static const double ROUNDING = 1e-2;

/* All Adam nodes of a graph have the same attributes. */
static const hfb_node *find_adam(const hfb_graph *graph) {
  for (int i = 0; i < graph->node_count; i++) {
    if (graph->nodes[i]->op == HFB_OP_ADAM) return graph->nodes[i];
  }
  return NULL;
}

/* A step is m / sqrt(v), m the mean of the gradients with weights w_k and v that of their squares with weights u_k, for
 * the gradient k steps back: w_k = (1 - beta1) beta1^k / (1 - beta1^t) in step t, u_k likewise. So it is at most
 * sqrt(sum of w_k^2 / u_k) (Cauchy-Schwarz): 1 in the first step, 1.0014 in the second, 1.05 in the tenth. */
double hfb_adam_steps_reach(double beta1, double beta2, int count) {
  double reach = 0, sum = 0, ratio = 1, power1 = 1, power2 = 1;
  for (int t = 1; t <= count; t++) {
    sum += ratio;
    ratio *= beta1 * beta1 / beta2;
    power1 *= beta1;
    power2 *= beta2;
    reach += (1 - beta1) / (1 - power1) * sqrt((1 - power2) / (1 - beta2) * sum);
  }
  return reach;
}

static hfb_status find_largest_gradient(const hfb_outcome *outcome, const hfb_side *reference, hfb_pool *pool,
                                        double *out_largest) {
  *out_largest = 0;
  for (int i = 0; i < outcome->count; i++) {
    if (outcome->items[i].kind != HFB_OUTCOME_GRADIENT) continue;
    const hfb_tensor *gradient = hfb_outcome_tensor(reference, &outcome->items[i]);
    hfb_distance distance;
    HFB_TRY(hfb_distance_measure(gradient, gradient, pool, &distance));
    *out_largest = fmax(*out_largest, distance.max_expected);
  }
  return HFB_OK;
}

hfb_status hfb_adam_steps_find(const hfb_job *job, const hfb_outcome *outcome, const hfb_side *reference,
                               hfb_pool *pool, hfb_adam_steps *out_steps) {
  *out_steps = (hfb_adam_steps){0};
  const hfb_node *adam = job->training ? find_adam(reference->graph) : NULL;
  if (!adam) return HFB_OK;
  double largest;
  HFB_TRY(find_largest_gradient(outcome, reference, pool, &largest));
  double reach = hfb_adam_steps_reach(hfb_node_float(adam, HFB_ATTR_BETA1), hfb_node_float(adam, HFB_ATTR_BETA2),
                                      job->iterations);
  out_steps->resolution = largest * (job->precision == HFB_F64 ? DBL_EPSILON : FLT_EPSILON);
  /* Two runs may go opposite ways. */
  out_steps->largest_distance = 2 * (1 + ROUNDING) * reach * hfb_node_float(adam, HFB_ATTR_LEARNING_RATE);
  return HFB_OK;
}

bool hfb_adam_steps_undetermined(const hfb_adam_steps *steps, const hfb_side *reference, const hfb_side *eager,
                                 const hfb_outcome_item *item, hfb_undetermined *out_undetermined) {
  if (steps->resolution == 0 || item->kind != HFB_OUTCOME_PARAMETER) return false;
  int output = hfb_graph_find_gradient(reference->graph, hfb_graph_parameter_name(reference->graph, item->index));
  if (output < 0) return false;
  *out_undetermined = (hfb_undetermined){.gradient = &reference->outputs[output],
                                         .eager_gradient = &eager->outputs[output],
                                         .resolution = steps->resolution,
                                         .largest_distance = steps->largest_distance};
  return true;
}
