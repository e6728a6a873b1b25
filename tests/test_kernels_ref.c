/* The oracle itself: reference kernels against values worked out by hand or by the plainest possible loops. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "ir/transform.h"
#include "kernels/ref/gemm.h"
#include "support/device_fixture.h"
#include "support/graph_run.h"
#include "support/op_cases.h"

/* A case line with literal inputs and the expected results, all in double. `count` is the number of elements of all
 * results together, which stand one behind the other. */
typedef struct literal {
  const char *line;
  double inputs[OP_CASE_MAX_INPUTS][8];
  int count;
  double expected[16];
} literal;

/* Values of functions: to 17 digits, from tables or the definition in closed form (Phi is the normal distribution:
 * gelu(x) = x Phi(x)). */
static const literal literals[] = {
    {"neg | f 2", {{1.5, -2}}, 2, {-1.5, 2}},
    {"abs | f 2", {{1.5, -2}}, 2, {1.5, 2}},
    {"exp | f 3", {{0, 1, -1}}, 3, {1, 2.7182818284590452, 0.36787944117144232}},
    {"log | f 3", {{1, 2, 10}}, 3, {0, 0.69314718055994531, 2.3025850929940457}},
    {"sqrt | f 2", {{2, 9}}, 2, {1.4142135623730951, 3}},
    {"rsqrt | f 2", {{2, 16}}, 2, {0.70710678118654752, 0.25}},
    {"sin | f 2", {{0, 1}}, 2, {0, 0.84147098480789651}},
    {"cos | f 2", {{0, 1}}, 2, {1, 0.54030230586813972}},
    {"tanh | f 2", {{0.5, -2}}, 2, {0.46211715726000976, -0.96402758007581688}},
    {"erf | f 2", {{0.5, -1}}, 2, {0.52049987781304654, -0.84270079294971487}},
    {"add_scalar | f 2 | value=0.25", {{1, -2}}, 2, {1.25, -1.75}},
    {"mul_scalar | f 2 | value=-3", {{1, -2}}, 2, {-3, 6}},
    {"relu | f 3", {{1.5, -2, 0}}, 3, {1.5, 0, 0}},
    {"sigmoid | f 2", {{0, 2}}, 2, {0.5, 0.88079707797788244}},
    {"silu | f 2", {{1, -2}}, 2, {0.73105857863000488, -0.23840584404423511}},
    {"gelu | f 3", {{1, -1, 2}}, 3, {0.84134474606854295, -0.15865525393145705, 1.9544997361036416}},
    {"gelu_tanh | f 2", {{1, -1}}, 2, {0.84119199060827676, -0.15880800939172324}},
    {"quick_gelu | f 1", {{1}}, 1, {0.84579576593282119}},
    {"sub | f 2 | f 2", {{5, 1}, {2, 4}}, 2, {3, -3}},
    {"div | f 2 | f 1", {{5, 1}, {2}}, 2, {2.5, 0.5}},
    {"maximum | f 2 | f 2", {{5, NAN}, {7, 4}}, 2, {7, NAN}},
    {"minimum | f 2 | f 2", {{5, 4}, {7, NAN}}, 2, {5, NAN}},
    {"where | b 3 | f 3 | f 3", {{1, 0, 1}, {1, 2, 3}, {4, 5, 6}}, 3, {1, 5, 3}},
    {"reduce_sum | f 2x3 | axes=1 keepdim=0", {{1, 2, 3, 4, 5, 6}}, 2, {6, 15}},
    {"reduce_sum | f 2x3 | axes=0 keepdim=0", {{1, 2, 3, 4, 5, 6}}, 3, {5, 7, 9}},
    {"reduce_mean | f 2x3 | axes=0,1 keepdim=0", {{1, 2, 3, 4, 5, 9}}, 1, {4}},
    {"reduce_max | f 2x3 | axes=1 keepdim=1", {{1, 7, 3, -4, -5, -6}}, 2, {7, -4}},
    {"argmax | f 2x3 | axis=1 keepdim=0", {{1, 7, 7, -4, NAN, 6}}, 2, {1, 1}},
    {"argsort | i9 2x4", {{3, 1, 3, 0, 5, 5, -1, 5}}, 8, {3, 1, 0, 2, 2, 0, 1, 3}},
    {"cumsum | f 2x3 | axis=1", {{1, 2, 3, 4, 5, 6}}, 6, {1, 3, 6, 4, 9, 15}},
    {"matmul | f 2x2 | f 2x2 | transpose_a=0 transpose_b=0", {{1, 2, 3, 4}, {5, 6, 7, 8}}, 4, {19, 22, 43, 50}},
    {"matmul | f 2x2 | f 2x2 | transpose_a=1 transpose_b=0", {{1, 2, 3, 4}, {5, 6, 7, 8}}, 4, {26, 30, 38, 44}},
    {"matmul | f 2x2 | f 2x2 | transpose_a=0 transpose_b=1", {{1, 2, 3, 4}, {5, 6, 7, 8}}, 4, {17, 23, 39, 53}},
    {"linear | f 1x2 | f 3x2 | f 3 | transpose_b=1", {{1, 2}, {1, 0, 0, 1, 1, 1}, {10, 20, 30}}, 3, {11, 22, 33}},
    {"linear | f 1x2 | f 2x3 | transpose_b=0", {{1, 2}, {1, 0, 1, 0, 1, 1}}, 3, {1, 2, 3}},
    {"transpose | f 2x3 | perm=1,0", {{1, 2, 3, 4, 5, 6}}, 6, {1, 4, 2, 5, 3, 6}},
    {"slice | f 2x3 | starts=0,0 limits=2,3 steps=1,2", {{1, 2, 3, 4, 5, 6}}, 4, {1, 3, 4, 6}},
    {"unfold | f 1x5 | window=3 step=2", {{1, 2, 3, 4, 5}}, 6, {1, 2, 3, 3, 4, 5}},
    {"unfold_backward | f 1x2x3 | shape=1,6 step=2", {{1, 2, 3, 4, 5, 6}}, 6, {1, 2, 7, 5, 6, 0}},
    {"instance_norm | f 2x2 | f 2 | f 2 | eps=0", {{1, 7, 3, 3}, {2, 5}, {10, 20}}, 4, {8, 25, 12, 15}},
    /* Two frames, one label of class 1: blank-1, 1-blank and 1-1 spell it. */
    {"ctc_loss | f 1x2x2 | i3 1 | i2 1x1 | blank=0 zero_infinity=0",
     {{-0.69314718055994531, -0.69314718055994531, -1.3862943611198906, -0.28768207245178093}, {2}, {1}}, 1,
     {0.13353139262452263}},
    /* The same label twice needs a blank between: two frames are not enough. */
    {"ctc_loss | f 1x2x2 | i3 1 | i2 1x2 | blank=0 zero_infinity=0", {{-1, -1, -1, -1}, {2}, {1, 1}}, 1, {INFINITY}},
    {"ctc_loss | f 1x2x2 | i3 1 | i2 1x2 | blank=0 zero_infinity=1", {{-1, -1, -1, -1}, {2}, {1, 1}}, 1, {0}},
    /* A negative target is left out: blank-blank alone. */
    {"ctc_loss | f 1x2x2 | i3 1 | i2 1x1 | blank=0 zero_infinity=0", {{-1, -2, -3, -4}, {2}, {-100}}, 1, {4}},
    {"ctc_loss | f 1x2x2 | i3 1 | i2 1x1 | blank=0 zero_infinity=0", {{-1, -2, -3, -4}, {0}, {1}}, 1, {INFINITY}},
    /* 1-blank has 1/7 of the probability 7/8, the others 3/7 each. */
    {"ctc_loss_backward | f 1 | f 1x2x2 | i3 1 | i2 1x1 | blank=0 zero_infinity=0",
     {{7}, {-0.69314718055994531, -0.69314718055994531, -1.3862943611198906, -0.28768207245178093}, {2}, {1}}, 4,
     {-3, -4, -1, -6}},
    {"ctc_loss_backward | f 1 | f 1x2x2 | i3 1 | i2 1x2 | blank=0 zero_infinity=0",
     {{1}, {-1, -1, -1, -1}, {2}, {1, 1}}, 4, {NAN, NAN, NAN, NAN}},
    {"ctc_loss_backward | f 1 | f 1x2x2 | i3 1 | i2 1x2 | blank=0 zero_infinity=1",
     {{1}, {-1, -1, -1, -1}, {2}, {1, 1}}, 4, {0, 0, 0, 0}},
    {"expand | f 2x1 | shape=2,3", {{1, 2}}, 6, {1, 1, 1, 2, 2, 2}},
    {"concat | f 2x1 | f 2x2 | axis=1", {{1, 2}, {3, 4, 5, 6}}, 6, {1, 3, 4, 2, 5, 6}},
    {"pad | f 1x2 | starts=1,0 limits=0,1 value=9", {{1, 2}}, 6, {9, 9, 9, 1, 2, 9}},
    {"gather | f 3x2 | i3 2 | axis=0", {{1, 2, 3, 4, 5, 6}, {2, 0}}, 4, {5, 6, 1, 2}},
    {"gather | f 2x3 | i3 2 | axis=1", {{1, 2, 3, 4, 5, 6}, {2, 0}}, 4, {3, 1, 6, 4}},
    {"take_along | f 2x3 | i3 2x2 | axis=1", {{1, 2, 3, 4, 5, 6}, {2, 0, 1, 1}}, 4, {3, 1, 5, 5}},
    {"embedding | f 3x2 | i3 2 | padding_idx=-1", {{1, 2, 3, 4, 5, 6}, {1, 1}}, 4, {3, 4, 3, 4}},
    {"softmax | f 1x3 | axis=1", {{0, 0.69314718055994531, -INFINITY}}, 3, {1.0 / 3, 2.0 / 3, 0}},
    {"softmax | f 1x2 | axis=1", {{-INFINITY, -INFINITY}}, 2, {NAN, NAN}},
    {"softmax | f 1x2 | axis=1", {{1000, 1000}}, 2, {0.5, 0.5}},
    {"log_softmax | f 1x2 | axis=1", {{0, 1.0986122886681098}}, 2, {-1.3862943611198906, -0.28768207245178093}},
    {"layer_norm | f 1x2 | f 2 | f 2 | eps=0", {{1, 3}, {2, 5}, {10, 20}}, 2, {8, 25}},
    {"layer_norm | f 1x2 | f 2 | f 2 | eps=3", {{1, 3}, {2, 5}, {10, 20}}, 2, {9, 22.5}},
    {"rms_norm | f 1x2 | f 2 | eps=0", {{1, 7}, {1, 10}}, 2, {0.2, 14}},
    {"nll_loss | f 3x2 | i2 3 | ignore_index=5", {{-1, -2, -3, -4, -5, -6}, {0, 5, 1}}, 1, {3.5}},
    {"nll_loss | f 1x2 | i2 1 | ignore_index=0", {{-1, -2}, {0}}, 1, {NAN}},
    {"bce_with_logits | f 2 | f 2", {{0, 0}, {1, 0.25}}, 1, {0.69314718055994531}},
    {"bce_with_logits | f 2 | f 2", {{800, -800}, {0, 0}}, 1, {400}},
    {"mse_loss | f 2 | f 2", {{1, 5}, {2, 2}}, 1, {5}},
    {"fft2_real | f 2x2", {{1, 2, 3, 4}}, 4, {10, -2, -4, 0}},
    {"fft2_real | f 1x4", {{1, 2, 3, 5}}, 4, {11, -2, -3, -2}},
    /* Backward ops: the forward op differentiated by differences with 60 digits. Adam: the definition of the paper
     * (Kingma and Ba, 2015, algorithm 1) with 60 digits; torch.optim.Adam 2.5.1 agrees in 16. */
    {"relu_backward | f 3 | f 3", {{2, 3, 1}, {1, -2, 0}}, 3, {2, 0, 0}},
    {"sigmoid_backward | f 2 | f 2", {{2, 3}, {0.625, 0.125}}, 2, {0.46875, 0.328125}},
    {"tanh_backward | f 2 | f 2", {{2, 3}, {0.625, -0.75}}, 2, {1.21875, 1.3125}},
    {"silu_backward | f 3 | f 3", {{2, 3, 1}, {1, -2, 0}}, 3, {1.8553410237429735, -0.27235274635468644, 0.5}},
    {"gelu_backward | f 3 | f 3", {{2, 3, 1}, {1, -2, 0}}, 3, {2.1666309411753726, -0.25569540323459069, 0.5}},
    {"gelu_tanh_backward | f 3 | f 3", {{2, 3, 1}, {1, -2, 0}}, 3, {2.1659281676915651, -0.25829776987085515, 0.5}},
    {"quick_gelu_backward | f 3 | f 3", {{2, 3, 1}, {1, -2, 0}}, 3, {2.1355592131126681, -0.2214460629256258, 0.5}},
    {"softmax_backward | f 1x3 | f 1x3 | axis=1",
     {{1, 2, 4}, {0.125, 0.25, 0.625}}, 3, {-0.265625, -0.28125, 0.546875}},
    {"log_softmax_backward | f 1x3 | f 1x3 | axis=1",
     {{1, 2, 4}, {-1.3862943611198906, -1.3862943611198906, -0.69314718055994531}}, 3, {-0.75, 0.25, 0.5}},
    {"layer_norm_backward | f 2x3 | f 2x3 | f 3 | eps=0.5",
     {{1, -1, 2, 0.5, 1, 0}, {1, 2, 4, 0, -1, 3}, {2, 5, -1}}, 12, {1.9039478129393104, -2.4883278347325641,
     0.58438002179325368, -0.86380006879911123, 0.82817944740533345, 0.035620621393777783, -1.1110526020355914,
     -0.6728621829375465, 2.3249527748763855, 1.5, 0, 2}},
    {"rms_norm_backward | f 2x3 | f 2x3 | f 3 | eps=0.5",
     {{1, -1, 2, 0.5, 1, 0}, {1, 2, 4, 0, -1, 3}, {2, 5, -1}}, 9, {0.9899578076389669, -1.3064197297530629,
     0.30834751385476018, 0.51075391845524916, 2.3317026712087461, 0.6662007632024989, 0.36514837167011074,
     -1.2410506617954706, 2.9211869733608859}},
    {"gather_backward | f 3x2 | i3 3 | shape=3,2 axis=0", {{1, 2, 3, 4, 5, 6}, {2, 0, 2}}, 6, {3, 4, 0, 0, 6, 8}},
    {"gather_backward | f 2x3 | i4 3 | shape=2,4 axis=1", {{1, 2, 3, 4, 5, 6}, {1, 1, 3}}, 8, {0, 3, 0, 3, 0, 9, 0, 6}},
    {"take_along_backward | f 2x2 | i3 2x2 | shape=2,3 axis=1", {{1, 2, 3, 4}, {1, 1, 0, 2}}, 6, {0, 3, 0, 3, 0, 4}},
    {"take_along_backward | f 2x1 | i2 2x1 | shape=2,2 axis=0", {{1, 2}, {1, 1}}, 4, {0, 0, 3, 0}},
    {"embedding_backward | f 3x2 | i3 3 | shape=3,2 padding_idx=-1",
     {{1, 2, 3, 4, 5, 6}, {1, 1, 0}}, 6, {5, 6, 4, 6, 0, 0}},
    {"embedding_backward | f 3x2 | i3 3 | shape=3,2 padding_idx=1",
     {{1, 2, 3, 4, 5, 6}, {1, 1, 0}}, 6, {5, 6, 0, 0, 0, 0}},
    {"nll_loss_backward | f - | i2 3 | shape=3,2 ignore_index=5", {{3}, {0, 5, 1}}, 6, {-1.5, 0, 0, 0, 0, -1.5}},
    {"nll_loss_backward | f - | i2 2 | shape=2,2 ignore_index=0", {{3}, {0, 0}}, 4, {0, 0, 0, 0}},
    {"bce_with_logits_backward | f - | f 2 | f 2", {{3}, {0, 2}, {1, 0.25}}, 2, {-0.75, 0.94619561696682367}},
    {"mse_loss_backward | f - | f 2 | f 2", {{3}, {1, 5}, {2, 2}}, 2, {-3, 9}},
    {"sgd | f 2 | f 2 | learning_rate=0.25", {{1, -2}, {4, -1}}, 2, {0, -1.75}},
    {"adam | f 2 | f 2 | f 2 | f 2 | d9 - | learning_rate=0.1 beta1=0.9 beta2=0.999 eps=1e-8",
     {{1, -0.5}, {0, 0}, {0, 0}, {0.5, -2}, {1}}, 6, {0.90000000199999995, -0.40000000049999999, 0.049999999999999989,
     -0.19999999999999996, 0.00025000000000000022, 0.0040000000000000036}},
    {"adam | f 2 | f 2 | f 2 | f 2 | d9 - | learning_rate=0.1 beta1=0.9 beta2=0.999 eps=1e-8",
     {{0.90000000199999997, -0.40000000050000001}, {0.049999999999999989, -0.19999999999999996},
     {0.00025000000000000022, 0.0040000000000000036}, {1, 0.25}, {2}}, 6, {0.80348180063850872, -0.34274654332895512,
     0.14499999999999997, -0.15499999999999997, 0.0012497500000000011, 0.0040585000000000036}},
    {"attention | f 2x2 | f 2x2 | p=0 site=0",
     {{0, 1, 2, -1}, {1, 2, 3, 5}}, 6, {2.4621171572600098, 4.1931757358900146, 1.0948517463551336, 2.1422776195327003,
     1.3132616875182228, 2.0485873515737421}},
    {"attention_scores_backward | f 2x2 | f 2 | f 2 | f 2x2 | f 2x2 | p=0 site=0",
     {{0, 1, 2, -1}, {1.3132616875182228, 2.0485873515737421}, {-1.7310585786300049, 3.2608423024766173}, {1, -1, 2,
     0.5}, {1, 2, 3, 5}}, 4, {0.19661193324148185, -0.19661193324148185, -0.24847162852001673, 0.24847162852001673}},
    {"attention_backward | f 2x2 | f 2x2 | f 2 | f 2x1 | f 2x1 | f 2x2 | p=0 site=0",
     {{1, 2, -3, 0.5}, {0, 1, 2, -1}, {1.3132616875182228, 2.0485873515737421}, {1, 2}, {3, -1}, {1, -1, 2, 0.5}}, 8,
     {1, -9.5, -5, 3, 2.1740896750148616, 0.20734564204122149, 0.82591032498513844, -0.70734564204122149}},
    {"linear_cross_entropy | f 2x2 | f 3x2 | i3 2 | f - | f 3 | ignore_index=-100",
     {{1, 2, -1, 0.5}, {1, 0, 0, 1, 0.5, -0.5}, {1, 2}, {2}, {0, 0.25, -0.25}}, 14, {1.169092537005255,
     0.23303167455186016, -0.27028930491195159, -0.30656649184086559, 1.177610819734776, 0.085447187265724843,
     0.49328355479667371, -0.99374914551972666, -0.13227665156990136, 0.90830195825400182, -0.36100690322677235,
     0.34335853147790406, 0.49042816605591491, -0.83378669753381897}},
    {"linear_cross_entropy | f 2x2 | f 3x2 | i3 2 | f - | ignore_index=-100",
     {{1, 2, -1, 0.5}, {1, 0, 0, 1, 0.5, -0.5}, {1, -100}, {2}}, 14, {0.37153903185268289, 0.56404409551052167,
     -0.67726755999146424, 0, 0, 0.50743236327005039, 1.0148647265401008, -0.62065582775099296, -1.2413116555019859,
     0.11322346448094257, 0.22644692896188513, 0.50743236327005039, -0.62065582775099296, 0.11322346448094257}},
    {"linear_cross_entropy | f 1x2 | f 2x2 | i1 1 | f - | ignore_index=0",
     {{1, 2}, {1, 0, 0, 1}, {0}, {2}}, 9, {NAN, 0, 0, 0, 0, 0, 0, 0, 0}},
};

/* Terms as large as the largest element may cancel in the others. */
static double allowed_error(const literal *l) {
  double largest = 0;
  for (int i = 0; i < l->count; i++) largest = fmax(largest, isfinite(l->expected[i]) ? fabs(l->expected[i]) : 0);
  return 4e-16 * (1 + largest);
}

static void check_literal(const literal *l, const hfb_tensor *result, int *at) {
  for (int64_t i = 0; i < hfb_shape_elements(&result->shape); i++, (*at)++) {
    assert_true(*at < l->count);
    double got = hfb_tensor_get(result, i), expected = l->expected[*at];
    bool is_near = got == expected || fabs(got - expected) <= allowed_error(l); /* infinities are equal or wrong */
    bool is_good = isnan(expected) ? isnan(got) : is_near;
    if (!is_good) fail_msg("\"%s\": element %d is %.17g instead of %.17g", l->line, *at, got, expected);
  }
}

static void run_literal(const literal *l) {
  op_case c;
  hfb_graph *graph = NULL, *wide = NULL;
  hfb_tensor inputs[OP_CASE_MAX_INPUTS] = {{0}}, results[OP_CASE_MAX_RESULTS];
  if (op_case_parse(l->line, &c) != HFB_OK || op_case_build(&c, &graph) != HFB_OK ||
      hfb_graph_convert(graph, HFB_F64, &wide) != HFB_OK) {
    fail_msg("\"%s\": %s", l->line, hfb_error_message());
  }
  for (int i = 0; i < wide->input_count; i++) {
    const hfb_value *value = wide->inputs[i];
    assert_true(hfb_shape_elements(&value->shape) <= 8);
    hfb_tensor source = hfb_tensor_borrow(HFB_F64, &value->shape, (void *)l->inputs[i]);
    assert_int_equal(hfb_tensor_create(device, value->dtype, &value->shape, &inputs[i]), HFB_OK);
    assert_int_equal(hfb_tensor_copy(&source, &inputs[i], NULL), HFB_OK);
  }
  if (graph_run(wide, device, HFB_ISA_GENERIC, true, inputs, NULL, results) != HFB_OK) {
    fail_msg("\"%s\": %s", l->line, hfb_error_message());
  }
  int at = 0;
  for (int i = 0; i < wide->output_count; i++) {
    check_literal(l, &results[i], &at);
    hfb_tensor_release(&results[i]);
  }
  assert_int_equal(at, l->count);
  for (int i = 0; i < wide->input_count; i++) hfb_tensor_release(&inputs[i]);
  hfb_graph_destroy(wide);
  hfb_graph_destroy(graph);
}

static void test_values_worked_out_by_hand(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof(literals) / sizeof(literals[0]); i++) run_literal(&literals[i]);
}

static hfb_tensor random_matrix(hfb_dtype dtype, int64_t rows, int64_t columns, const char *name) {
  hfb_shape shape = hfb_shape_of(2, (int64_t[]){rows, columns});
  hfb_tensor tensor;
  hfb_philox stream = hfb_philox_named(3, name);
  assert_int_equal(hfb_tensor_create(device, dtype, &shape, &tensor), HFB_OK);
  for (int64_t i = 0; i < rows * columns; i++) {
    double value = hfb_philox_normal(stream, (uint64_t)i);
    if (dtype == HFB_F64) ((double *)tensor.data)[i] = value;
    if (dtype == HFB_F32) ((float *)tensor.data)[i] = (float)value;
  }
  return tensor;
}

/* Bit for bit, whatever the blocking: sizes around every block and tile edge. */
static void test_products_equal_three_loops(void **state) {
  (void)state;
  static const int64_t sizes[][3] = {{1, 1, 1},    {8, 16, 256},  {9, 17, 257}, {192, 384, 3},
                                     {193, 385, 2}, {5, 400, 513}, {200, 7, 300}};
  for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
    for (int layout = 0; layout < 4; layout++) {
      int64_t m = sizes[s][0], n = sizes[s][1], k = sizes[s][2];
      hfb_tensor a = layout & 1 ? random_matrix(HFB_F64, k, m, "a") : random_matrix(HFB_F64, m, k, "a");
      hfb_tensor b = layout & 2 ? random_matrix(HFB_F32, n, k, "b") : random_matrix(HFB_F32, k, n, "b");
      hfb_tensor c = random_matrix(HFB_F64, m, n, "c");
      hfb_tensor a_view = a, b_view = b;
      if (layout & 1) {
        a_view.shape = hfb_shape_of(2, (int64_t[]){m, k});
        a_view.strides[0] = 1, a_view.strides[1] = m;
      }
      if (layout & 2) {
        b_view.shape = hfb_shape_of(2, (int64_t[]){k, n});
        b_view.strides[0] = 1, b_view.strides[1] = k;
      }
      assert_int_equal(hfb_ref_gemm(&a_view, &b_view, NULL, &c, hfb_device_pool(device)), HFB_OK);
      for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
          double sum = 0;
          for (int64_t p = 0; p < k; p++) {
            double product = ((double *)a.data)[i * a_view.strides[0] + p * a_view.strides[1]] *
                             (double)((float *)b.data)[p * b_view.strides[0] + j * b_view.strides[1]];
            sum += product;
          }
          assert_true(((double *)c.data)[i * n + j] == sum);
        }
      }
      hfb_tensor_release(&a);
      hfb_tensor_release(&b);
      hfb_tensor_release(&c);
    }
  }
}

/* The definition, in long double: sum over (i,j) of x[i][j] cos(2 pi (ik/R + jl/C)). */
static void test_transform_equals_its_definition(void **state) {
  (void)state;
  enum { ROWS = 9, COLUMNS = 14 };
  op_case c;
  hfb_graph *graph, *wide;
  op_case_data data;
  hfb_tensor result;
  assert_int_equal(op_case_parse("fft2_real | f 2x9x14", &c), HFB_OK);
  assert_int_equal(op_case_build(&c, &graph), HFB_OK);
  assert_int_equal(hfb_graph_convert(graph, HFB_F64, &wide), HFB_OK);
  assert_int_equal(op_case_make_inputs(&c, wide, device, 5, false, &data), HFB_OK);
  assert_int_equal(graph_run(wide, device, HFB_ISA_GENERIC, true, data.inputs, NULL, &result), HFB_OK);
  for (int index = 0; index < 2 * ROWS * COLUMNS; index++) {
    int matrix = index / (ROWS * COLUMNS), k = index / COLUMNS % ROWS, l = index % COLUMNS;
    const double *x = (double *)data.inputs[0].data + matrix * ROWS * COLUMNS;
    long double sum = 0;
    for (int i = 0; i < ROWS; i++) {
      for (int j = 0; j < COLUMNS; j++) {
        sum += x[i * COLUMNS + j] * cosl(2 * M_PIl * ((long double)(i * k) / ROWS + (long double)(j * l) / COLUMNS));
      }
    }
    assert_true(fabsl(sum - hfb_tensor_get(&result, index)) < 1e-13L);
  }
  hfb_tensor_release(&result);
  op_case_release(&data);
  hfb_graph_destroy(wide);
  hfb_graph_destroy(graph);
}

static void expect_failure(const char *line, int input, int64_t bad, const char *message) {
  op_case c;
  hfb_graph *graph;
  op_case_data data;
  hfb_tensor result;
  assert_int_equal(op_case_parse(line, &c), HFB_OK);
  assert_int_equal(op_case_build(&c, &graph), HFB_OK);
  assert_int_equal(op_case_make_inputs(&c, graph, device, 5, false, &data), HFB_OK);
  ((int64_t *)data.inputs[input].data)[2] = bad;
  for (int reference = 0; reference < 2; reference++) {
    hfb_status status = graph_run(graph, device, hfb_cpu()->isa, reference, data.inputs, NULL, &result);
    if (status != HFB_INVALID_ARGUMENT) fail_msg("\"%s\" with index %lld was taken", line, (long long)bad);
    if (!strstr(hfb_error_message(), message)) fail_msg("\"%s\": %s", line, hfb_error_message());
  }
  op_case_release(&data);
  hfb_graph_destroy(graph);
}

static void test_indices_outside_are_refused(void **state) {
  (void)state;
  expect_failure("embedding | f 11x5 | i11 3x4 | padding_idx=-1", 1, 11, "embedding: index 11 is outside [0,11)");
  expect_failure("embedding | f 11x5 | i11 3x4 | padding_idx=-1", 1, -1, "embedding: index -1 is outside [0,11)");
  expect_failure("gather | f 5x7 | i7 4 | axis=1", 1, 7, "gather: index 7 is outside [0,7)");
  expect_failure("take_along | f 5x7 | i7 5x3 | axis=1", 1, INT64_MIN, "outside [0,7)");
  expect_failure("nll_loss | f 9x7 | i7 9 | ignore_index=-100", 1, 7, "nll_loss: target 7 is outside [0,7)");
  expect_failure("nll_loss | f 9x7 | i7 9 | ignore_index=-100", 1, -99, "nll_loss: target -99 is outside [0,7)");
  expect_failure("ctc_loss | f 3x2x3 | i3 3 | i3 3x1 | blank=0 zero_infinity=0", 1, 3, "length 3 is outside [0,2]");
  expect_failure("ctc_loss | f 3x2x3 | i3 3 | i3 3x1 | blank=0 zero_infinity=0", 2, 3, "target 3 is none of 3 classes");
  expect_failure("gather_backward | f 4x7 | i5 4 | shape=5,7 axis=0", 1, 5, "gather_backward: index 5 is outside");
  expect_failure("take_along_backward | f 5x3 | i7 5x3 | shape=5,7 axis=1", 1, -1, "index -1 is outside [0,7)");
  expect_failure("embedding_backward | f 6x5 | i11 6 | shape=11,5 padding_idx=2", 1, 11, "index 11 is outside [0,11)");
  expect_failure("nll_loss_backward | f - | i7 9 | shape=9,7 ignore_index=-100", 1, 7, "target 7 is outside [0,7)");
  expect_failure("linear_cross_entropy | f 9x5 | f 7x5 | i7 9 | f - | ignore_index=-100", 2, 7,
                 "linear_cross_entropy: target 7 is outside [0,7)");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_values_worked_out_by_hand),
      cmocka_unit_test(test_products_equal_three_loops),
      cmocka_unit_test(test_transform_equals_its_definition),
      cmocka_unit_test(test_indices_outside_are_refused),
  };
  return cmocka_run_group_tests(tests, set_up_threads, tear_down);
}
