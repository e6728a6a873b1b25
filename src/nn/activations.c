/* The activations of transformers.activations.ACT2FN. */
#include <math.h>
#include <string.h>

#include "nn/nn.h"

static hfb_value *gelu(hfb_builder *b, hfb_value *x) {
  return hfb_unary(b, HFB_OP_GELU, x);
}
static hfb_value *gelu_tanh(hfb_builder *b, hfb_value *x) {
  return hfb_unary(b, HFB_OP_GELU_TANH, x);
}
static hfb_value *quick_gelu(hfb_builder *b, hfb_value *x) {
  return hfb_unary(b, HFB_OP_QUICK_GELU, x);
}
static hfb_value *relu(hfb_builder *b, hfb_value *x) {
  return hfb_unary(b, HFB_OP_RELU, x);
}
static hfb_value *sigmoid(hfb_builder *b, hfb_value *x) {
  return hfb_unary(b, HFB_OP_SIGMOID, x);
}
static hfb_value *silu(hfb_builder *b, hfb_value *x) {
  return hfb_unary(b, HFB_OP_SILU, x);
}
static hfb_value *hyperbolic_tangent(hfb_builder *b, hfb_value *x) {
  return hfb_unary(b, HFB_OP_TANH, x);
}
static hfb_value *linear(hfb_builder *b, hfb_value *x) {
  return x;
}

static hfb_value *at_most(hfb_builder *b, hfb_value *x, double limit) {
  return hfb_binary(b, HFB_OP_MINIMUM, x, hfb_scalar(b, HFB_F32, limit));
}

static hfb_value *relu6(hfb_builder *b, hfb_value *x) {
  return at_most(b, relu(b, x), 6);
}

static hfb_value *relu2(hfb_builder *b, hfb_value *x) {
  hfb_value *positive = relu(b, x);
  return hfb_mul(b, positive, positive);
}

/* gelu clipped to [-10, 10]. */
static hfb_value *gelu_10(hfb_builder *b, hfb_value *x) {
  return at_most(b, hfb_binary(b, HFB_OP_MAXIMUM, gelu(b, x), hfb_scalar(b, HFB_F32, -10)), 10);
}

static hfb_value *leaky_relu(hfb_builder *b, hfb_value *x) {
  hfb_value *is_negative = hfb_binary(b, HFB_OP_LT, x, hfb_scalar(b, HFB_F32, 0));
  return hfb_where(b, is_negative, hfb_mul_scalar(b, x, 0.01), x);
}

/* x tanh(softplus(x)); softplus as max(x, 0) + log(1 + exp(-|x|)), which cannot overflow. */
static hfb_value *mish(hfb_builder *b, hfb_value *x) {
  hfb_value *decay = hfb_unary(b, HFB_OP_EXP, hfb_unary(b, HFB_OP_NEG, hfb_unary(b, HFB_OP_ABS, x)));
  hfb_value *softplus = hfb_add(b, relu(b, x), hfb_unary(b, HFB_OP_LOG, hfb_add_scalar(b, decay, 1)));
  return hfb_mul(b, x, hfb_unary(b, HFB_OP_TANH, softplus));
}

/* LaplaceActivation (Ma et al., "Mega", 2022) with its default mu and sigma: the normal distribution function. */
static hfb_value *laplace(hfb_builder *b, hfb_value *x) {
  const double mu = 0.707107, sigma = 0.282095;
  hfb_value *scaled = hfb_mul_scalar(b, hfb_add_scalar(b, x, -mu), 1 / (sigma * sqrt(2.0)));
  return hfb_mul_scalar(b, hfb_add_scalar(b, hfb_unary(b, HFB_OP_ERF, scaled), 1), 0.5);
}

typedef struct activation {
  const char *name;
  hfb_value *(*add)(hfb_builder *b, hfb_value *x);
} activation;

static const activation activations[] = {
#define HFB_ACTIVATION(name, function) {name, function},
#include "nn/activations.def"
#undef HFB_ACTIVATION
};

static const activation *activation_find(const char *name) {
  for (size_t i = 0; i < sizeof activations / sizeof activations[0]; i++) {
    if (strcmp(activations[i].name, name) == 0) return &activations[i];
  }
  return NULL;
}

bool hfb_nn_activation_known(const char *name) {
  return activation_find(name) != NULL;
}

const char *hfb_nn_activation_names(void) {
#define HFB_ACTIVATION(name, function) ", " name
  static const char names[] =
#include "nn/activations.def"
      ;
#undef HFB_ACTIVATION
  return names + 2;
}

hfb_value *hfb_nn_activation(hfb_nn *nn, const char *name, hfb_value *x) {
  const activation *found = activation_find(name);
  if (found == NULL) {
    hfb_builder_fail(nn->b, HFB_UNSUPPORTED, "activation '%s' is not implemented; known: %s", name,
                     hfb_nn_activation_names());
    return NULL;
  }
  return found->add(nn->b, x);
}
