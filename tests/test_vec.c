/* The float functions of the vector layer against libm in double, for every instruction set of this machine.
 * A program argument changes the step through the bit patterns of all floats (1: all of them; takes minutes). */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "kernels/cpu/vec_unary.h"

enum { BLOCK = 4096 };

static uint32_t bit_step = 509;

static double round_half_even(double x) { return nearbyint(x); }

/* The bound is in units in the last place of the exact result; subnormal results count in the smallest unit. */
static const struct function_row {
  const char *name;
  hfb_vec_function function;
  double (*exact)(double);
  double bound_ulp;
} function_rows[] = {
    {"exp", HFB_VEC_EXP, exp, 1.1},    {"log", HFB_VEC_LOG, log, 0.9},       {"tanh", HFB_VEC_TANH, tanh, 1.4},
    {"erf", HFB_VEC_ERF, erf, 1.2},    {"sin", HFB_VEC_SIN, sin, 1.0},       {"cos", HFB_VEC_COS, cos, 1.0},
    {"sqrt", HFB_VEC_SQRT, sqrt, 0.5}, {"floor", HFB_VEC_FLOOR, floor, 0.0},
    {"round", HFB_VEC_ROUND, round_half_even, 0.0},
};

static float float_of_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* 0 when both are the same infinity, both nan, or equal with the same sign of zero. */
static double ulp_distance(float got, double exact) {
  if (isnan(exact)) return isnan(got) ? 0 : INFINITY;
  float rounded = (float)exact;
  if (isinf(rounded) || isinf(got)) return rounded == got ? 0 : INFINITY;
  if (rounded == 0 && got == 0) return !signbit(exact) == !signbit(got) ? 0 : INFINITY;
  int exponent;
  frexp(exact, &exponent);
  if (exponent < -125) exponent = -125;
  return fabs((double)got - exact) / ldexp(1.0, exponent - 24);
}

static bool isa_is_tested(hfb_isa isa) { return isa <= HFB_ISA_AVX512 && isa <= hfb_cpu()->isa; }

typedef struct worst_case {
  double ulp;
  float x;
} worst_case;

static void compare(const struct function_row *row, const float *x, int count, worst_case worst[HFB_ISA_COUNT]) {
  static float y[BLOCK];
  static double exact[BLOCK];
  for (int i = 0; i < count; i++) exact[i] = row->exact(x[i]);
  for (hfb_isa isa = HFB_ISA_GENERIC; isa_is_tested(isa); isa++) {
    hfb_vec_unary(isa, row->function, x, y, count);
    for (int i = 0; i < count; i++) {
      double distance = ulp_distance(y[i], exact[i]);
      if (!(distance <= worst[isa].ulp)) worst[isa] = (worst_case){distance, x[i]};
    }
  }
}

static void check_function(const struct function_row *row) {
  static float x[BLOCK];
  worst_case worst[HFB_ISA_COUNT] = {{0}};
  const float special[] = {0.0f,    -0.0f,    INFINITY,     -INFINITY, NAN,      1.0f,   -1.0f,   0.5f,     -0.5f,
                           FLT_MIN, -FLT_MIN, FLT_TRUE_MIN, FLT_MAX,   -FLT_MAX, 88.72f, -87.34f, -103.97f, 8388608.0f};
  compare(row, special, sizeof special / sizeof special[0], worst);
  for (uint64_t bits = 0; bits <= UINT32_MAX;) {
    int count = 0;
    for (; count < BLOCK && bits <= UINT32_MAX; bits += bit_step) x[count++] = float_of_bits((uint32_t)bits);
    compare(row, x, count, worst);
  }
  for (hfb_isa isa = HFB_ISA_GENERIC; isa_is_tested(isa); isa++) {
    print_message("%s %s: %.3f ulp at %a\n", row->name, hfb_isa_name(isa), worst[isa].ulp, (double)worst[isa].x);
    assert_true(worst[isa].ulp <= row->bound_ulp);
  }
}

static void test_functions_over_all_floats(void **state) {
  for (size_t i = 0; i < sizeof function_rows / sizeof function_rows[0]; i++) check_function(&function_rows[i]);
}

/* Each tail length gives the values of the full-width loop and writes nothing past the end. */
static void test_tails(void **state) {
  for (hfb_isa isa = HFB_ISA_GENERIC; isa_is_tested(isa); isa++) {
    float x[48], whole[48], part[48];
    for (int i = 0; i < 48; i++) x[i] = 0.25f * (float)(i - 20);
    hfb_vec_unary(isa, HFB_VEC_EXP, x, whole, 48);
    for (int count = 0; count <= 48; count++) {
      for (int i = 0; i < 48; i++) part[i] = -7.0f;
      hfb_vec_unary(isa, HFB_VEC_EXP, x, part, count);
      assert_memory_equal(part, whole, (size_t)count * sizeof(float));
      for (int i = count; i < 48; i++) assert_true(part[i] == -7.0f);
    }
  }
}

int main(int argc, char **argv) {
  if (argc > 1) bit_step = (uint32_t)strtoul(argv[1], NULL, 10);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_functions_over_all_floats),
      cmocka_unit_test(test_tails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
