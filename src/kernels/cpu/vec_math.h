/* exp, log, tanh, erf and their like on vec_f32, written once over the vector layer. Included at the end of each
 * <isa>/vec.h; never alone.
 *
 * The polynomials are minimax fits (Lawson's iteration on Chebyshev nodes, coefficients rounded to float one at a time
 * from the lowest, the rest fitted again). Errors over all floats, in ulp: exp 1.1, log 0.9, tanh 1.4, erf 1.2, with or
 * without fused multiply-add; tests/test_vec.c asserts them. Infinities and nan behave as in <math.h>. */
#ifndef HFB_KERNELS_CPU_VEC_MATH_H
#define HFB_KERNELS_CPU_VEC_MATH_H

#include <float.h>
#include <math.h>

static inline vec_f32 hfb_vec_abs(vec_f32 x) {
  return hfb_vec_from_bits(hfb_vec_bits(x) & hfb_vec_set1_bits(0x7fffffffu));
}
static inline vec_f32 hfb_vec_copysign(vec_f32 magnitude, vec_f32 sign) {
  const vec_u32 top = hfb_vec_set1_bits(0x80000000u);
  return hfb_vec_from_bits((hfb_vec_bits(magnitude) & ~top) | (hfb_vec_bits(sign) & top));
}

/* exp for x in [-104, 89] or nan. x = n ln 2 + r, |r| <= ln 2 / 2; the high part of ln 2 has 15 bits, so that n * high
 * is exact and the difference too. */
static inline vec_f32 hfb_vec_exp_bounded(vec_f32 x) {
  vec_f32 n = hfb_vec_round(x * hfb_vec_set1(1.44269504f));
  vec_f32 r = hfb_vec_fnma(n, hfb_vec_set1(0x1.62e4p-1f), x);
  r = hfb_vec_fnma(n, hfb_vec_set1(0x1.7f7d1cp-20f), r);
  vec_f32 p = hfb_vec_set1(0x1.6a4ef0p-10f);
  p = hfb_vec_fma(p, r, hfb_vec_set1(0x1.12397cp-7f));
  p = hfb_vec_fma(p, r, hfb_vec_set1(0x1.5558aep-5f));
  p = hfb_vec_fma(p, r, hfb_vec_set1(0x1.555492p-3f));
  p = hfb_vec_fma(p, r, hfb_vec_set1(0x1.fffffcp-2f));
  p = hfb_vec_fma(p, r * r, r);
  return hfb_vec_scale2(p + hfb_vec_set1(1.0f), n);
}

static inline vec_f32 hfb_vec_exp(vec_f32 x) {
  /* The bound stands first: min and max return their second operand when one is nan. */
  x = hfb_vec_min(hfb_vec_set1(89.0f), hfb_vec_max(hfb_vec_set1(-104.0f), x));
  return hfb_vec_exp_bounded(x);
}

/* x = m 2^e with m in [sqrt(1/2), sqrt(2)), f = m - 1, s = f / (2 + f): log m = 2 atanh s, summed as in fdlibm so that
 * the leading term f is exact. */
static inline vec_f32 hfb_vec_log(vec_f32 x) {
  const vec_u32 root_half = hfb_vec_set1_bits(0x3f3504f3u);
  vec_mask is_small = hfb_vec_lt(x, hfb_vec_set1(FLT_MIN));
  vec_f32 normal = hfb_vec_select(is_small, x * hfb_vec_set1(0x1p23f), x);
  vec_f32 bias = hfb_vec_select(is_small, hfb_vec_set1(127 + 23), hfb_vec_set1(127));
  vec_u32 bits = hfb_vec_bits(normal) + (hfb_vec_set1_bits(0x3f800000u) - root_half);
  vec_f32 e = hfb_vec_from_i32((vec_i32)(bits >> 23)) - bias;
  vec_f32 f = hfb_vec_from_bits((bits & hfb_vec_set1_bits(0x007fffffu)) + root_half) - hfb_vec_set1(1.0f);
  vec_f32 s = f / (hfb_vec_set1(2.0f) + f);
  vec_f32 z = s * s;
  vec_f32 p = hfb_vec_set1(0x1.f0e896p-3f);
  p = hfb_vec_fma(p, z, hfb_vec_set1(0x1.23d596p-2f));
  p = hfb_vec_fma(p, z, hfb_vec_set1(0x1.999c22p-2f));
  p = hfb_vec_fma(p, z, hfb_vec_set1(0x1.555554p-1f)) * z;
  vec_f32 half_square = hfb_vec_set1(0.5f) * f * f;
  vec_f32 tail = hfb_vec_fma(e, hfb_vec_set1(0x1.7f7d1cp-20f), s * (half_square + p));
  vec_f32 y = hfb_vec_fma(e, hfb_vec_set1(0x1.62e4p-1f), f - (half_square - tail));
  y = hfb_vec_select(hfb_vec_lt(x, hfb_vec_set1(INFINITY)), y, x); /* inf and nan */
  y = hfb_vec_select(hfb_vec_lt(x, hfb_vec_zero()), hfb_vec_set1(NAN), y);
  return hfb_vec_select(hfb_vec_eq(x, hfb_vec_zero()), hfb_vec_set1(-INFINITY), y);
}

static inline vec_f32 hfb_vec_tanh(vec_f32 x) {
  vec_f32 a = hfb_vec_abs(x);
  vec_f32 s = x * x;
  vec_f32 p = hfb_vec_set1(-0x1.76922ap-8f);
  p = hfb_vec_fma(p, s, hfb_vec_set1(0x1.52509ep-6f));
  p = hfb_vec_fma(p, s, hfb_vec_set1(-0x1.b84344p-5f));
  p = hfb_vec_fma(p, s, hfb_vec_set1(0x1.110760p-3f));
  p = hfb_vec_fma(p, s, hfb_vec_set1(-0x1.555534p-2f));
  vec_f32 near = hfb_vec_fma(p * s, x, x);
  /* From 9.02 on the result rounds to 1. */
  vec_f32 e = hfb_vec_exp_bounded(hfb_vec_min(hfb_vec_set1(20.0f), a + a));
  vec_f32 far = hfb_vec_set1(1.0f) - hfb_vec_set1(2.0f) / (e + hfb_vec_set1(1.0f));
  return hfb_vec_copysign(hfb_vec_select(hfb_vec_lt(a, hfb_vec_set1(0.625f)), near, far), x);
}

/* Near 0: x + x P(x^2). Beyond: 1 - exp(-t - t Q(t)), t = |x|, where t + t Q(t) fits -log erfc. Small arguments keep
 * their relative accuracy, which the usual Abramowitz-Stegun 7.1.26 loses. */
static inline vec_f32 hfb_vec_erf(vec_f32 x) {
  vec_f32 s = x * x;
  vec_f32 p = hfb_vec_set1(-0x1.3873a4p-11f);
  p = hfb_vec_fma(p, s, hfb_vec_set1(0x1.46d9ccp-8f));
  p = hfb_vec_fma(p, s, hfb_vec_set1(-0x1.b67c02p-6f));
  p = hfb_vec_fma(p, s, hfb_vec_set1(0x1.ce1986p-4f));
  p = hfb_vec_fma(p, s, hfb_vec_set1(-0x1.8126e2p-2f));
  p = hfb_vec_fma(p, s, hfb_vec_set1(0x1.06eba6p-3f));
  vec_f32 near = hfb_vec_fma(p, x, x);
  /* erf(4) rounds to 1. */
  vec_f32 t = hfb_vec_min(hfb_vec_set1(4.0f), hfb_vec_abs(x));
  vec_f32 q = hfb_vec_set1(0x1.794ee2p-17f);
  q = hfb_vec_fma(q, t, hfb_vec_set1(-0x1.529d2ap-12f));
  q = hfb_vec_fma(q, t, hfb_vec_set1(0x1.dd7c24p-9f));
  q = hfb_vec_fma(q, t, hfb_vec_set1(-0x1.855512p-6f));
  q = hfb_vec_fma(q, t, hfb_vec_set1(0x1.b32670p-4f));
  q = hfb_vec_fma(q, t, hfb_vec_set1(0x1.45327cp-1f));
  q = hfb_vec_fma(q, t, hfb_vec_set1(0x1.0778ecp-3f));
  q = hfb_vec_fma(q, t, t);
  vec_f32 far = hfb_vec_set1(1.0f) - hfb_vec_exp_bounded(-q);
  return hfb_vec_copysign(hfb_vec_select(hfb_vec_lt(hfb_vec_abs(x), hfb_vec_set1(0.92f)), near, far), x);
}

/* A libm function lane by lane, for what no hot kernel needs. */
static inline vec_f32 hfb_vec_map(vec_f32 x, float (*function)(float)) {
  for (int i = 0; i < VEC_F32_LANES; i++) x[i] = function(x[i]);
  return x;
}
static inline vec_f32 hfb_vec_sin(vec_f32 x) { return hfb_vec_map(x, sinf); }
static inline vec_f32 hfb_vec_cos(vec_f32 x) { return hfb_vec_map(x, cosf); }

#endif
