/* The random blocks of BigBird against transformers' tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "models/bigbird_blocks.h"

/* heads, length, block size, random blocks, longest sequence, seed; entries; FNV-1a of the entries as 64-bit words;
 * the first six. From BigBirdBlockSparseAttention with numpy 1.24. */
static const struct {
  hfb_bigbird_plan plan;
  int64_t entries;
  uint64_t hash;
  int64_t first[6];
} cases[] = {
    {{12, 1024, 64, 3, 4096, 0}, 504, 0x7a30c075838fbda0u, {9, 14, 7, 9, 6, 7}},
    {{2, 1024, 64, 3, 4096, 5}, 84, 0x108c431a021616d9u, {8, 4, 10, 10, 12, 6}},
    {{12, 4096, 64, 3, 4096, 11}, 2232, 0x5cf71efeb9e95f53u, {9, 6, 11, 14, 11, 10}},
    {{2, 1024, 64, 3, 1024, 1}, 84, 0x9a0d40e67e7bb4fau, {5, 6, 7, 5, 11, 7}},
    {{3, 3072, 128, 2, 4096, 2}, 132, 0x03c5694285ad534au, {5, 7, 4, 5, 7, 5}},
    {{2, 1024, 32, 3, 2048, 7}, 180, 0xc2593196c3d7ad1cu, {5, 20, 4, 24, 22, 9}},
    {{2, 1024, 16, 3, 4096, 4}, 372, 0x9277e837189e891bu, {7, 34, 30, 20, 22, 48}},
    {{2, 4096, 16, 3, 4096, 7}, 1524, 0xecef071ac89ff32fu, {48, 5, 33, 54, 63, 52}},
    {{4, 48, 4, 3, 64, 0}, 120, 0x949bea3476ab9ebcu, {4, 6, 7, 8, 9, 5}},
    {{4, 48, 4, 2, 64, 1}, 80, 0xa53e179be8ad9881u, {6, 4, 4, 6, 6, 5}},
    {{12, 2048, 64, 3, 4096, 3}, 1080, 0xfacebfed9cb65535u, {5, 4, 6, 4, 9, 6}},
};

static void test_tables(void **state) {
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const hfb_bigbird_plan *plan = &cases[i].plan;
    assert_int_equal(plan->heads * (plan->length / plan->block_size - 2) * plan->random, cases[i].entries);
    int64_t *table = NULL;
    assert_int_equal(hfb_mem_alloc((size_t)cases[i].entries, sizeof *table, &table), HFB_OK);
    if (hfb_bigbird_draw_blocks(plan, table) != HFB_OK) fail_msg("case %zu: %s", i, hfb_error_message());
    for (int j = 0; j < 6; j++) assert_int_equal(table[j], cases[i].first[j]);
    uint64_t hash = 1469598103934665603u;
    for (int64_t j = 0; j < cases[i].entries; j++) hash = (hash ^ (uint64_t)table[j]) * 1099511628211u;
    if (hash != cases[i].hash) fail_msg("case %zu differs behind its first entries", i);
    hfb_mem_free(table);
  }
}

/* 1024 tokens in blocks of 256: three key blocks to choose from, fewer than the five asked for. */
static void test_too_few_candidates(void **state) {
  hfb_bigbird_plan plan = {.heads = 1, .length = 1024, .block_size = 256, .random = 5, .max_length = 1024};
  int64_t table[2 * 5];
  assert_int_equal(hfb_bigbird_draw_blocks(&plan, table), HFB_INVALID_ARGUMENT);
  assert_non_null(strstr(hfb_error_message(), "num_random_blocks 5"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_tables),
      cmocka_unit_test(test_too_few_candidates),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
