/* Complex Fourier transforms of VEC_F32_LANES sequences at once: a point is a vector of real parts and a vector of
 * imaginary parts. Stockham's form (self-sorting, decimation in frequency): every stage reads one buffer and writes
 * the other in order. Included by fft2_tmpl.c. */
#include "kernels/cpu/fft_plan.h"

typedef struct point {
  vec_f32 re, im;
} point;

static point load_point(const float *points, int64_t index) {
  const float *at = points + index * 2 * VEC_F32_LANES;
  return (point){hfb_vec_load(at), hfb_vec_load(at + VEC_F32_LANES)};
}

static void store_point(float *points, int64_t index, point value) {
  float *at = points + index * 2 * VEC_F32_LANES;
  hfb_vec_store(at, value.re);
  hfb_vec_store(at + VEC_F32_LANES, value.im);
}

static point add_points(point a, point b) { return (point){a.re + b.re, a.im + b.im}; }
static point sub_points(point a, point b) { return (point){a.re - b.re, a.im - b.im}; }
static point times_minus_i(point a) { return (point){a.im, -a.re}; }
static point scale_point(point a, float factor) {
  return (point){a.re * hfb_vec_set1(factor), a.im * hfb_vec_set1(factor)};
}
static point times_root(point a, const float *root) {
  vec_f32 re = hfb_vec_set1(root[0]), im = hfb_vec_set1(root[1]);
  return (point){hfb_vec_fnma(a.im, im, a.re * re), hfb_vec_fma(a.im, re, a.re * im)};
}

/* The small transforms, in place: a[j] = sum over k of a[k] exp(-2 pi i j k / radix). */
static inline __attribute__((always_inline)) void transform_2(point *a) {
  point sum = add_points(a[0], a[1]);
  a[1] = sub_points(a[0], a[1]);
  a[0] = sum;
}

static inline __attribute__((always_inline)) void transform_3(point *a) {
  point sum = add_points(a[1], a[2]);
  point turn = scale_point(times_minus_i(sub_points(a[1], a[2])), 0x1.bb67aep-1f); /* sin(pi/3) */
  point middle = add_points(a[0], scale_point(sum, -0.5f));
  a[0] = add_points(a[0], sum);
  a[1] = add_points(middle, turn);
  a[2] = sub_points(middle, turn);
}

static inline __attribute__((always_inline)) void transform_4(point *a) {
  point even_sum = add_points(a[0], a[2]), even_difference = sub_points(a[0], a[2]);
  point odd_sum = add_points(a[1], a[3]), odd_turn = times_minus_i(sub_points(a[1], a[3]));
  a[0] = add_points(even_sum, odd_sum);
  a[1] = add_points(even_difference, odd_turn);
  a[2] = sub_points(even_sum, odd_sum);
  a[3] = sub_points(even_difference, odd_turn);
}

static inline __attribute__((always_inline)) void transform_5(point *a) {
  const float c1 = 0x1.3c6ef4p-2f, c2 = -0x1.9e377ap-1f; /* cos(2 pi/5), cos(4 pi/5) */
  const float s1 = 0x1.e6f0e2p-1f, s2 = 0x1.2cf230p-1f;  /* sin(2 pi/5), sin(4 pi/5) */
  point outer = add_points(a[1], a[4]), inner = add_points(a[2], a[3]);
  point outer_turn = times_minus_i(sub_points(a[1], a[4])), inner_turn = times_minus_i(sub_points(a[2], a[3]));
  point m1 = add_points(a[0], add_points(scale_point(outer, c1), scale_point(inner, c2)));
  point m2 = add_points(a[0], add_points(scale_point(outer, c2), scale_point(inner, c1)));
  point t1 = add_points(scale_point(outer_turn, s1), scale_point(inner_turn, s2));
  point t2 = sub_points(scale_point(outer_turn, s2), scale_point(inner_turn, s1));
  a[0] = add_points(a[0], add_points(outer, inner));
  a[1] = add_points(m1, t1);
  a[2] = add_points(m2, t2);
  a[3] = sub_points(m2, t2);
  a[4] = sub_points(m1, t1);
}

/* One stage: `groups` is how many of the `radix` transforms differ in their roots, `stride` how many share them. */
typedef struct stage {
  const hfb_fft_plan *plan;
  int64_t radix, groups, stride;
  const float *from;
  float *to;
} stage;

/* Inlined with a constant radix and transform. */
static inline __attribute__((always_inline)) void run_stage(const stage *s, int radix, void (*transform)(point *)) {
  point a[5];
  for (int64_t p = 0; p < s->groups; p++) {
    for (int64_t q = 0; q < s->stride; q++) {
      for (int j = 0; j < radix; j++) a[j] = load_point(s->from, q + s->stride * (p + s->groups * j));
      transform(a);
      store_point(s->to, q + s->stride * radix * p, a[0]);
      for (int j = 1; j < radix; j++) {
        /* p * j < groups * radix, so the root's index is below the length */
        if (p > 0) a[j] = times_root(a[j], s->plan->roots + 2 * (p * j * s->stride));
        store_point(s->to, q + s->stride * (radix * p + j), a[j]);
      }
    }
  }
}

/* Any other prime, by definition. */
static void run_prime_stage(const stage *s) {
  int64_t length = s->plan->length, step = length / s->radix;
  for (int64_t p = 0; p < s->groups; p++) {
    for (int64_t q = 0; q < s->stride; q++) {
      for (int64_t j = 0; j < s->radix; j++) {
        point sum = load_point(s->from, q + s->stride * p);
        for (int64_t k = 1; k < s->radix; k++) {
          point a = load_point(s->from, q + s->stride * (p + s->groups * k));
          sum = add_points(sum, times_root(a, s->plan->roots + 2 * (j * k % s->radix * step)));
        }
        if (p > 0 && j > 0) sum = times_root(sum, s->plan->roots + 2 * (p * j * s->stride));
        store_point(s->to, q + s->stride * (s->radix * p + j), sum);
      }
    }
  }
}

/* Transforms the points in `from`, which is kept, by way of the two buffers, and returns the one that holds the
 * result (`from` itself for length 1). */
static const float *transform_points(const hfb_fft_plan *plan, const float *from, float *buffer_a, float *buffer_b) {
  stage s = {.plan = plan, .stride = 1, .from = from, .to = buffer_a};
  int64_t length = plan->length;
  for (int i = 0; i < plan->stage_count; i++) {
    s.radix = plan->radix[i];
    s.groups = length / s.radix;
    switch (s.radix) {
      case 2: run_stage(&s, 2, transform_2); break;
      case 3: run_stage(&s, 3, transform_3); break;
      case 4: run_stage(&s, 4, transform_4); break;
      case 5: run_stage(&s, 5, transform_5); break;
      default: run_prime_stage(&s); break;
    }
    length = s.groups;
    s.stride *= s.radix;
    s.from = s.to;
    s.to = s.to == buffer_a ? buffer_b : buffer_a;
  }
  return s.from;
}
