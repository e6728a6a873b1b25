/* Allocation, fault injection and arenas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"
#include "base/strbuf.h"

static void test_alloc_zeroes_and_checks_overflow(void **state) {
  (void)state;
  unsigned char *block;
  assert_int_equal(hfb_mem_alloc(1000, 3, &block), HFB_OK);
  for (int i = 0; i < 3000; i++) assert_int_equal(block[i], 0);
  hfb_mem_free(block);
  assert_int_equal(hfb_mem_alloc(0, 8, &block), HFB_OK);
  assert_null(block);
  assert_int_equal(hfb_mem_alloc(SIZE_MAX / 2, 4, &block), HFB_OUT_OF_MEMORY);
  assert_null(block);
  assert_non_null(strstr(hfb_error_message(), "out of memory"));
  hfb_mem_free(NULL);
}

static void test_grow_keeps_the_old_block_on_failure(void **state) {
  (void)state;
  int *numbers = NULL;
  assert_int_equal(hfb_mem_grow(&numbers, 4, sizeof(*numbers)), HFB_OK);
  for (int i = 0; i < 4; i++) numbers[i] = i;
  assert_int_equal(hfb_mem_grow(&numbers, 100000, sizeof(*numbers)), HFB_OK);
  int *before = numbers;
  hfb_mem_fail_at(1, 0);
  assert_int_equal(hfb_mem_grow(&numbers, 200000, sizeof(*numbers)), HFB_OUT_OF_MEMORY);
  assert_int_equal(hfb_mem_grow(&numbers, SIZE_MAX, 2), HFB_OUT_OF_MEMORY);
  hfb_mem_fail_at(0, 0);
  assert_ptr_equal(numbers, before);
  for (int i = 0; i < 4; i++) assert_int_equal(numbers[i], i);
  hfb_mem_free(numbers);
}

static void test_aligned_blocks(void **state) {
  (void)state;
  static const size_t sizes[] = {1, 63, 4096, ((size_t)4 << 20) - 1, (size_t)4 << 20, ((size_t)9 << 20) + 5};
  for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
    for (size_t alignment = 1; alignment <= 8192; alignment *= 8) {
      unsigned char *block;
      assert_int_equal(hfb_mem_alloc_aligned(sizes[s], alignment, &block), HFB_OK);
      assert_int_equal((uintptr_t)block % (alignment < 64 ? 64 : alignment), 0);
      if (sizes[s] >= (size_t)4 << 20) assert_int_equal((uintptr_t)block % ((size_t)2 << 20), 0);
      block[0] = block[sizes[s] - 1] = 1;
      hfb_mem_free(block);
    }
  }
  void *none = &none;
  assert_int_equal(hfb_mem_alloc_aligned(0, 64, &none), HFB_OK);
  assert_null(none);
  assert_int_equal(hfb_mem_alloc_aligned(SIZE_MAX / 2, 64, &none), HFB_OUT_OF_MEMORY);
}

static void test_the_nth_allocation_fails(void **state) {
  (void)state;
  for (int sticky = 0; sticky < 2; sticky++) {
    for (int nth = 1; nth <= 6; nth++) {
      hfb_mem_fail_at(nth, sticky);
      for (int i = 1; i <= 6; i++) {
        char *block = NULL;
        hfb_status status = i % 3 == 0   ? hfb_mem_alloc(1, 8, &block)
                            : i % 3 == 1 ? hfb_mem_alloc_aligned(8, 64, &block)
                                         : hfb_mem_strdup("text", &block);
        bool fails = sticky ? i >= nth : i == nth;
        assert_int_equal(status, fails ? HFB_OUT_OF_MEMORY : HFB_OK);
        assert_int_equal(block == NULL, fails);
        hfb_mem_free(block);
      }
      assert_int_equal(hfb_mem_fail_at(0, 0), 6);
    }
  }
}

static void test_arena_blocks_do_not_overlap(void **state) {
  (void)state;
  enum { COUNT = 3000 };
  static unsigned char *blocks[COUNT];
  static size_t sizes[COUNT];
  hfb_philox stream = hfb_philox_named(2, "arena");
  hfb_arena arena;
  hfb_arena_init(&arena);
  size_t total = 0;
  for (size_t i = 0; i < COUNT; i++) {
    sizes[i] = (size_t)hfb_philox_below(stream, i, i % 100 == 0 ? 3000000 : i % 10 == 0 ? 9000 : 80);
    blocks[i] = hfb_arena_alloc(&arena, sizes[i], 1);
    assert_non_null(blocks[i]);
    assert_int_equal((uintptr_t)blocks[i] % 16, 0);
    for (size_t b = 0; b < sizes[i]; b++) {
      if (blocks[i][b] != 0) fail_msg("byte %zu of block %zu is not zero", b, i);
    }
    memset(blocks[i], (int)(i % 251), sizes[i]);
    total += sizes[i];
  }
  for (size_t i = 0; i < COUNT; i++) {
    for (size_t b = 0; b < sizes[i]; b++) {
      if (blocks[i][b] != i % 251) fail_msg("byte %zu of block %zu was overwritten", b, i);
    }
  }
  assert_true(arena.used_bytes >= total && arena.used_bytes <= total + 16 * COUNT);
  hfb_arena_deinit(&arena);
  assert_int_equal(arena.used_bytes, 0);
}

static void test_arena_text_and_limits(void **state) {
  (void)state;
  hfb_arena arena;
  hfb_arena_init(&arena);
  char *copy = hfb_arena_strdup(&arena, "encoder.layer.0");
  assert_string_equal(copy, "encoder.layer.0");
  assert_string_equal(hfb_arena_printf(&arena, "%s.%d", copy, 42), "encoder.layer.0.42");
  char *wide = hfb_arena_printf(&arena, "%20000d", 7);
  assert_int_equal(strlen(wide), 20000);
  assert_non_null(hfb_arena_alloc(&arena, 0, 8));
  assert_null(hfb_arena_alloc(&arena, SIZE_MAX, 2));
  assert_null(hfb_arena_alloc(&arena, SIZE_MAX - 4, 1));
  hfb_mem_fail_at(1, 1);
  assert_null(hfb_arena_alloc(&arena, 1 << 22, 1));
  assert_non_null(strstr(hfb_error_message(), "out of memory"));
  hfb_mem_fail_at(0, 0);
  assert_string_equal(copy, "encoder.layer.0");
  hfb_arena_deinit(&arena);
}

/* Whichever allocation fails, the string reports it, keeps what it had and frees everything (checked by ASan). */
static void test_every_failure_of_a_string_is_reported(void **state) {
  static const char beginning[] = "0,1,2,3,4,5,6,7,8,9,10,11,12,";
  (void)state;
  int64_t nth = 1;
  for (;; nth++) {
    hfb_strbuf text;
    hfb_strbuf_init(&text);
    hfb_mem_fail_at(nth, 1);
    for (int i = 0; i < 300; i++) hfb_strbuf_printf(&text, "%d,", i);
    int64_t used = hfb_mem_fail_at(0, 0);
    hfb_status status = hfb_strbuf_status(&text);
    assert_int_equal(status, used >= nth ? HFB_OUT_OF_MEMORY : HFB_OK);
    size_t compared = text.length < strlen(beginning) ? text.length : strlen(beginning);
    assert_memory_equal(hfb_strbuf_text(&text), beginning, compared);
    hfb_strbuf_deinit(&text);
    if (status == HFB_OK) break;
  }
  assert_true(nth > 3);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_alloc_zeroes_and_checks_overflow),
      cmocka_unit_test(test_grow_keeps_the_old_block_on_failure),
      cmocka_unit_test(test_aligned_blocks),
      cmocka_unit_test(test_the_nth_allocation_fails),
      cmocka_unit_test(test_arena_blocks_do_not_overlap),
      cmocka_unit_test(test_arena_text_and_limits),
      cmocka_unit_test(test_every_failure_of_a_string_is_reported),
  };
  return cmocka_run_group_tests_name("base_memory", tests, NULL, NULL);
}
