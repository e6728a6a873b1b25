/* The caching allocator, tensors, strided copies and the walks under them. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"
#include "device/cpu/size_class.h"
#include "device/strided.h"

static hfb_device *device_create(int64_t limit_bytes) {
  hfb_device *device = NULL;
  assert_int_equal(hfb_device_cpu_create(2, limit_bytes, &device), HFB_OK);
  return device;
}

static void test_size_classes_cover_every_size(void **state) {
  (void)state;
  for (size_t bytes = 1; bytes < 200000; bytes++) {
    int c = hfb_size_class_of(bytes);
    assert_true(hfb_size_class_bytes(c) >= bytes);
    if (c > 0) assert_true(hfb_size_class_bytes(c - 1) < bytes);
  }
  for (int shift = 18; shift <= 48; shift++) {
    for (int64_t delta = -1; delta <= 1; delta++) {
      size_t bytes = ((size_t)1 << shift) + (size_t)delta;
      int c = hfb_size_class_of(bytes);
      assert_true(c < HFB_SIZE_CLASS_COUNT);
      assert_true(hfb_size_class_bytes(c) >= bytes && hfb_size_class_bytes(c) <= bytes + bytes / 8 + 64);
      assert_true(hfb_size_class_bytes(c - 1) < bytes);
    }
  }
}

static void test_freed_blocks_are_reused_and_counted(void **state) {
  (void)state;
  hfb_device *device = device_create(0);
  void *a, *b, *c;
  assert_int_equal(hfb_device_alloc(device, 1000, &a), HFB_OK);
  assert_int_equal((uintptr_t)a % 64, 0);
  assert_int_equal(hfb_device_alloc(device, 5000, &b), HFB_OK);
  assert_int_equal(hfb_device_memory(device).allocated_bytes, 6000);
  hfb_device_free(device, a, 1000);
  hfb_memory_stats stats = hfb_device_memory(device);
  assert_int_equal(stats.allocated_bytes, 5000);
  assert_int_equal(stats.peak_bytes, 6000);
  assert_true(stats.reserved_bytes >= 6000);
  assert_int_equal(hfb_device_alloc(device, 990, &c), HFB_OK);
  assert_ptr_equal(a, c);
  assert_int_equal(hfb_device_memory(device).reserved_bytes, stats.reserved_bytes);
  hfb_device_free(device, c, 990);
  hfb_device_free(device, b, 5000);
  hfb_device_reset_peak(device);
  hfb_device_empty_cache(device);
  stats = hfb_device_memory(device);
  assert_int_equal(stats.allocated_bytes, 0);
  assert_int_equal(stats.peak_bytes, 0);
  assert_int_equal(stats.reserved_bytes, 0);
  assert_int_equal(hfb_device_alloc(device, 0, &a), HFB_OK);
  assert_non_null(a);
  hfb_device_free(device, a, 0);
  hfb_device_destroy(device);
}

static void test_the_limit_is_kept(void **state) {
  (void)state;
  hfb_device *device = device_create(1 << 20);
  void *a, *b;
  assert_int_equal(hfb_device_alloc(device, 700 << 10, &a), HFB_OK);
  assert_int_equal(hfb_device_alloc(device, 400 << 10, &b), HFB_OUT_OF_MEMORY);
  assert_null(b);
  assert_non_null(strstr(hfb_error_message(), "limit of 1048576 bytes"));
  hfb_device_free(device, a, 700 << 10);
  /* The cached block must make room for a block of another size. */
  assert_int_equal(hfb_device_alloc(device, 900 << 10, &b), HFB_OK);
  assert_true(hfb_device_memory(device).reserved_bytes <= (int64_t)hfb_size_class_bytes(hfb_size_class_of(900 << 10)));
  hfb_device_free(device, b, 900 << 10);
  hfb_device_destroy(device);
  assert_int_equal(hfb_device_cpu_create(1, -5, &device), HFB_INVALID_ARGUMENT);
}

static void test_an_empty_host_gives_the_cache_back_first(void **state) {
  (void)state;
  hfb_device *device = device_create(0);
  void *a, *b;
  assert_int_equal(hfb_device_alloc(device, 100000, &a), HFB_OK);
  hfb_device_free(device, a, 100000);
  hfb_mem_fail_at(1, 0);
  assert_int_equal(hfb_device_alloc(device, 200000, &b), HFB_OK); /* the second try succeeds */
  hfb_mem_fail_at(1, 1);
  assert_int_equal(hfb_device_alloc(device, 300000, &a), HFB_OUT_OF_MEMORY);
  hfb_mem_fail_at(0, 0);
  hfb_device_free(device, b, 200000);
  hfb_device_destroy(device);
}

enum { THREADS = 4, ROUNDS = 2000 };

static void *allocate_in_a_loop(void *argument) {
  hfb_device *device = argument;
  for (int i = 0; i < ROUNDS; i++) {
    size_t bytes = 64 + (size_t)(i * 37 % 4096);
    unsigned char *block;
    if (hfb_device_alloc(device, bytes, (void **)&block) != HFB_OK) return "alloc failed";
    memset(block, i & 255, bytes);
    if (block[bytes / 2] != (i & 255)) return "another thread wrote to this block";
    hfb_device_free(device, block, bytes);
  }
  return NULL;
}

static void test_threads_share_the_allocator(void **state) {
  (void)state;
  hfb_device *device = device_create(0);
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&threads[i], NULL, allocate_in_a_loop, device), 0);
  for (int i = 0; i < THREADS; i++) {
    void *complaint;
    pthread_join(threads[i], &complaint);
    assert_null(complaint);
  }
  assert_int_equal(hfb_device_memory(device).allocated_bytes, 0);
  hfb_device_destroy(device);
}

static void test_tensors_count_references(void **state) {
  (void)state;
  hfb_device *device = device_create(0);
  hfb_shape shape = hfb_shape_of(2, (int64_t[]){3, 5});
  hfb_tensor a, empty;
  assert_int_equal(hfb_tensor_create(device, HFB_F32, &shape, &a), HFB_OK);
  assert_int_equal(hfb_tensor_references(&a), 1);
  assert_int_equal(hfb_tensor_bytes(&a), 60);
  assert_true(hfb_tensor_is_contiguous(&a));
  hfb_tensor b = hfb_tensor_retain(&a);
  assert_int_equal(hfb_tensor_references(&b), 2);
  hfb_tensor_release(&a);
  assert_null(a.buffer);
  assert_int_equal(hfb_device_memory(device).allocated_bytes, 60);
  hfb_tensor_release(&b);
  hfb_tensor_release(&b);
  assert_int_equal(hfb_device_memory(device).allocated_bytes, 0);
  hfb_shape none = hfb_shape_of(2, (int64_t[]){0, 5});
  assert_int_equal(hfb_tensor_create(device, HFB_I64, &none, &empty), HFB_OK);
  assert_int_equal(hfb_tensor_bytes(&empty), 0);
  hfb_tensor_release(&empty);
  hfb_mem_fail_at(1, 0);
  assert_int_equal(hfb_tensor_create(device, HFB_F32, &shape, &a), HFB_OUT_OF_MEMORY);
  hfb_mem_fail_at(2, 0);
  assert_int_equal(hfb_tensor_create(device, HFB_F32, &shape, &a), HFB_OK); /* from the cache: one host block */
  hfb_mem_fail_at(0, 0);
  hfb_tensor_release(&a);
  hfb_device_destroy(device);
}

/* A random view: a dense tensor in permuted, stepped or widened layout. */
static hfb_tensor random_view(hfb_device *device, hfb_dtype dtype, const hfb_shape *shape, hfb_philox stream,
                              uint64_t *draws, hfb_tensor *out_owner) {
  int order[HFB_MAX_RANK];
  int64_t strides[HFB_MAX_RANK] = {0}, length = 1;
  for (int i = 0; i < shape->rank; i++) order[i] = i;
  for (int i = shape->rank - 1; i > 0; i--) {
    int j = (int)hfb_philox_below(stream, (*draws)++, i + 1), swap = order[i];
    order[i] = order[j];
    order[j] = swap;
  }
  for (int i = 0; i < shape->rank; i++) {
    int64_t step = hfb_philox_below(stream, (*draws)++, 4) == 0 ? 2 : 1;
    strides[order[i]] = length * step;
    length *= step * (shape->dim[order[i]] > 0 ? shape->dim[order[i]] : 1);
    if (hfb_philox_below(stream, (*draws)++, 4) == 0) length += 3;
  }
  hfb_shape flat = hfb_shape_of(1, &length);
  assert_int_equal(hfb_tensor_create(device, dtype, &flat, out_owner), HFB_OK);
  hfb_tensor view = *out_owner;
  view.shape = *shape;
  memcpy(view.strides, strides, sizeof(strides));
  return view;
}

static void fill(const hfb_tensor *owner, hfb_philox stream, uint64_t *draws) {
  hfb_tensor wide;
  int64_t count = owner->shape.dim[0];
  double *values;
  assert_int_equal(hfb_mem_alloc((size_t)count, sizeof(double), &values), HFB_OK);
  for (int64_t i = 0; i < count; i++) values[i] = (double)hfb_philox_below(stream, (*draws)++, 120);
  wide = hfb_tensor_borrow(HFB_F64, &owner->shape, values);
  assert_int_equal(hfb_tensor_copy(&wide, owner, NULL), HFB_OK);
  hfb_mem_free(values);
}

static void test_copies_between_random_layouts(void **state) {
  (void)state;
  hfb_device *device = device_create(0);
  const uint64_t seed = 20240611;
  for (uint64_t round = 0; round < 400; round++) {
    hfb_philox stream = hfb_philox_named(seed + round, "copy");
    uint64_t draws = 0;
    hfb_shape shape = {.rank = (int)hfb_philox_below(stream, draws++, 5)};
    int64_t longest = round % 20 == 0 ? 150 : 9;
    for (int i = 0; i < shape.rank; i++) shape.dim[i] = hfb_philox_below(stream, draws++, i < 2 ? longest : 9);
    hfb_dtype from_dtype = (hfb_dtype)hfb_philox_below(stream, draws++, HFB_DTYPE_COUNT), to_dtype = from_dtype;
    if (round % 2) to_dtype = (hfb_dtype)hfb_philox_below(stream, draws++, HFB_DTYPE_COUNT);
    hfb_tensor from_owner, to_owner;
    hfb_tensor from = random_view(device, from_dtype, &shape, stream, &draws, &from_owner);
    hfb_tensor to = random_view(device, to_dtype, &shape, stream, &draws, &to_owner);
    fill(&from_owner, stream, &draws);
    assert_int_equal(hfb_tensor_copy(&from, &to, hfb_device_pool(device)), HFB_OK);
    for (int64_t i = 0; i < hfb_shape_elements(&shape); i++) {
      double expected = hfb_tensor_get(&from, i);
      if (to_dtype == HFB_BOOL) expected = expected != 0;
      if (hfb_tensor_get(&to, i) != expected) {
        fail_msg("seed %llu round %llu: %s to %s, element %lld: %g instead of %g", (unsigned long long)seed,
                 (unsigned long long)round, hfb_dtype_name(from_dtype), hfb_dtype_name(to_dtype), (long long)i,
                 hfb_tensor_get(&to, i), expected);
      }
    }
    hfb_tensor_release(&from_owner);
    hfb_tensor_release(&to_owner);
  }
  hfb_device_destroy(device);
}

static void test_large_copies_are_split(void **state) {
  (void)state;
  hfb_device *device = device_create(0);
  hfb_shape shape = hfb_shape_of(3, (int64_t[]){3, 301, 517}), swapped = hfb_shape_of(3, (int64_t[]){3, 517, 301});
  hfb_tensor a, b, c;
  assert_int_equal(hfb_tensor_create(device, HFB_F32, &shape, &a), HFB_OK);
  assert_int_equal(hfb_tensor_create(device, HFB_F32, &swapped, &b), HFB_OK);
  assert_int_equal(hfb_tensor_create(device, HFB_F64, &shape, &c), HFB_OK);
  float *data = a.data;
  int64_t count = hfb_shape_elements(&shape);
  for (int64_t i = 0; i < count; i++) data[i] = (float)i;
  hfb_tensor view = a;
  view.shape = swapped;
  view.strides[1] = 1;
  view.strides[2] = 517;
  assert_int_equal(hfb_tensor_copy(&view, &b, hfb_device_pool(device)), HFB_OK);
  assert_int_equal(hfb_tensor_copy(&a, &c, hfb_device_pool(device)), HFB_OK);
  for (int64_t m = 0; m < 3; m++) {
    for (int64_t i = 0; i < 301; i++) {
      for (int64_t j = 0; j < 517; j++) {
        int64_t index = (m * 301 + i) * 517 + j;
        assert_true(((float *)b.data)[(m * 517 + j) * 301 + i] == data[index]);
        assert_true(((double *)c.data)[index] == data[index]);
      }
    }
  }
  assert_int_equal(hfb_tensor_copy(&a, &b, NULL), HFB_MISMATCH);
  assert_non_null(strstr(hfb_error_message(), "[3,301,517]"));
  hfb_tensor_release(&a);
  hfb_tensor_release(&b);
  hfb_tensor_release(&c);
  hfb_device_destroy(device);
}

static void test_conversions_round_and_truncate(void **state) {
  (void)state;
  hfb_shape shape = hfb_shape_of(1, (int64_t[]){6});
  double wide[6] = {-1.75, 2.5, 1.0 + 0x1p-30, NAN, 1e30, -0.25};
  int64_t integers[6];
  uint8_t flags[6];
  float narrow[6];
  uint16_t half[6];
  hfb_tensor from = hfb_tensor_borrow(HFB_F64, &shape, wide), to = hfb_tensor_borrow(HFB_I64, &shape, integers);
  assert_int_equal(hfb_tensor_copy(&from, &to, NULL), HFB_OK);
  assert_memory_equal(integers, ((int64_t[]){-1, 2, 1, INT64_MIN, INT64_MIN, 0}), sizeof(integers));
  to = hfb_tensor_borrow(HFB_BOOL, &shape, flags);
  assert_int_equal(hfb_tensor_copy(&from, &to, NULL), HFB_OK);
  assert_memory_equal(flags, ((uint8_t[]){1, 1, 1, 1, 1, 1}), sizeof(flags));
  to = hfb_tensor_borrow(HFB_F32, &shape, narrow);
  assert_int_equal(hfb_tensor_copy(&from, &to, NULL), HFB_OK);
  assert_true(narrow[2] == 1.0f && isnan(narrow[3]) && narrow[4] == 1e30f);
  to = hfb_tensor_borrow(HFB_F16, &shape, half);
  assert_int_equal(hfb_tensor_copy(&from, &to, NULL), HFB_OK);
  assert_int_equal(half[0], 0xbf00);
  assert_int_equal(half[4], 0x7c00);
  /* One rounding only: 2^53 + 1 is not a double, but it is nearest to a float all the same. */
  int64_t large[6] = {((int64_t)1 << 53) + 1, (1 << 24) + 1, -7, 0, 3, ((int64_t)1 << 62) + ((int64_t)1 << 38) + 1};
  from = hfb_tensor_borrow(HFB_I64, &shape, large);
  to = hfb_tensor_borrow(HFB_F32, &shape, narrow);
  assert_int_equal(hfb_tensor_copy(&from, &to, NULL), HFB_OK);
  for (int i = 0; i < 6; i++) assert_true(narrow[i] == (float)large[i]);
  assert_true(narrow[5] == 0x1p62f + 0x1p39f); /* through double it would be a tie and go down to 2^62 */
}

static void count_elements(void *context, char *const *data, const int64_t *stride, int64_t count) {
  (void)context;
  for (int64_t i = 0; i < count; i++) ++*(int32_t *)(data[0] + i * stride[0]);
}

static void test_walks_merge_dimensions_and_visit_once(void **state) {
  (void)state;
  hfb_device *device = device_create(0);
  static int32_t visits[6 * 7 * 8 * 9];
  hfb_shape shape = hfb_shape_of(4, (int64_t[]){6, 7, 8, 9}), bias = hfb_shape_of(1, (int64_t[]){9}), scalar = {0};
  hfb_shape mask = hfb_shape_of(4, (int64_t[]){6, 1, 1, 9});
  float values[54];
  hfb_tensor all = hfb_tensor_borrow(HFB_I32, &shape, visits), row = hfb_tensor_borrow(HFB_F32, &bias, values);
  hfb_tensor one = hfb_tensor_borrow(HFB_F32, &scalar, values), batch = hfb_tensor_borrow(HFB_F32, &mask, values);
  hfb_strided walk = hfb_strided_make(&shape, 2, (const hfb_tensor *const[]){&all, &one});
  assert_int_equal(walk.rank, 1);
  walk = hfb_strided_make(&shape, 2, (const hfb_tensor *const[]){&all, &row});
  assert_int_equal(walk.rank, 2);
  assert_int_equal(walk.dim[0], 6 * 7 * 8);
  walk = hfb_strided_make(&shape, 3, (const hfb_tensor *const[]){&all, &row, &batch});
  assert_int_equal(walk.rank, 3);
  for (int64_t grain = 1; grain < 4000; grain = grain * 3 + 1) {
    memset(visits, 0, sizeof(visits));
    hfb_strided_run(&walk, grain, hfb_device_pool(device), count_elements, NULL);
    for (size_t i = 0; i < sizeof(visits) / sizeof(visits[0]); i++) assert_int_equal(visits[i], 1);
  }
  hfb_device_destroy(device);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_size_classes_cover_every_size),
      cmocka_unit_test(test_freed_blocks_are_reused_and_counted),
      cmocka_unit_test(test_the_limit_is_kept),
      cmocka_unit_test(test_an_empty_host_gives_the_cache_back_first),
      cmocka_unit_test(test_threads_share_the_allocator),
      cmocka_unit_test(test_tensors_count_references),
      cmocka_unit_test(test_copies_between_random_layouts),
      cmocka_unit_test(test_large_copies_are_split),
      cmocka_unit_test(test_conversions_round_and_truncate),
      cmocka_unit_test(test_walks_merge_dimensions_and_visit_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
