/* The draws go through numpy.random.seed and numpy.random.permutation, so its generator is here: the Mersenne Twister
 * MT19937 (Matsumoto and Nishimura, 1998) and a shuffle from the end with rejected bounds. */
#include "models/bigbird_blocks.h"

#include <stdbool.h>

#include "base/memory.h"

/* ---- numpy's legacy generator ---- */

enum { STATE_WORDS = 624, STATE_SHIFT = 397 };

typedef struct generator {
  uint32_t state[STATE_WORDS];
  int next;
} generator;

static void generator_seed(generator *g, uint32_t seed) {
  g->state[0] = seed;
  for (uint32_t i = 1; i < STATE_WORDS; i++) {
    g->state[i] = 1812433253u * (g->state[i - 1] ^ (g->state[i - 1] >> 30)) + i;
  }
  g->next = STATE_WORDS;
}

static void generator_refill(generator *g) {
  for (int i = 0; i < STATE_WORDS; i++) {
    uint32_t y = (g->state[i] & 0x80000000u) | (g->state[(i + 1) % STATE_WORDS] & 0x7fffffffu);
    g->state[i] = g->state[(i + STATE_SHIFT) % STATE_WORDS] ^ (y >> 1) ^ ((y & 1) ? 0x9908b0dfu : 0);
  }
  g->next = 0;
}

static uint32_t generator_draw(generator *g) {
  if (g->next == STATE_WORDS) generator_refill(g);
  uint32_t y = g->state[g->next++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680u;
  y ^= (y << 15) & 0xefc60000u;
  return y ^ (y >> 18);
}

/* Uniform in [0, limit]: the bits of the next power of two, drawn again when too large. */
static int64_t draw_up_to(generator *g, int64_t limit) {
  uint32_t mask = 1;
  while (mask < (uint64_t)limit) mask = mask << 1 | 1;
  uint32_t value;
  do value = generator_draw(g) & mask;
  while (value > limit);
  return value;
}

static void shuffle(generator *g, int64_t *values, int64_t count) {
  for (int64_t i = count - 1; i > 0; i--) {
    int64_t j = draw_up_to(g, i), moved = values[i];
    values[i] = values[j];
    values[j] = moved;
  }
}

/* ---- Lengths 1024, 3072 and 4096: _bigbird_block_rand_mask ---- */

static int64_t at_most(int64_t value, int64_t limit) {
  return value < limit ? value : limit;
}

/* The candidates of query block i: key blocks 1 .. last, without the neighbours. Python's slices of 1, 2, .. */
static int64_t candidates_of(int64_t i, int64_t blocks, int64_t last, int64_t *out) {
  int64_t end = blocks - 2; /* how many middle blocks there are */
  int64_t skip_from = i - 2, skip_to = i + 1, limit = at_most(last, end);
  if (i <= 2) {
    skip_from = 0; /* i = 1 leaves out two, i = 2 three */
    skip_to = i + 1;
  } else if (i >= blocks - 3) {
    skip_from = limit;
    skip_to = limit;
  } else if (i - 2 > last) {
    skip_from = limit;
    skip_to = limit;
  } else if (i + 1 == last) {
    skip_to = limit;
  }
  int64_t count = 0;
  for (int64_t k = 0; k < at_most(skip_from, end); k++) out[count++] = k + 1;
  for (int64_t k = skip_to; k < limit; k++) out[count++] = k + 1;
  return count;
}

/* Drawn for the longest sequence; the first rows are those of this one. */
static hfb_status draw_from_start(const hfb_bigbird_plan *plan, generator *g, int64_t *candidates, int64_t *out) {
  int64_t all = plan->max_length / plan->block_size, rows = plan->length / plan->block_size - 2;
  int64_t last = 1024 > 2 * plan->block_size ? 1024 / plan->block_size - 1 : all - 1;
  for (int64_t head = 0; head < plan->heads; head++) {
    for (int64_t i = 1; i < all - 1; i++) {
      int64_t count = candidates_of(i, all, last, candidates);
      shuffle(g, candidates, count);
      if (i > rows) continue;
      if (count < plan->random) {
        return HFB_FAIL(HFB_INVALID_ARGUMENT, "block %lld has %lld candidates for num_random_blocks %lld", (long long)i,
                        (long long)count, (long long)plan->random);
      }
      for (int64_t r = 0; r < plan->random; r++) *out++ = candidates[r];
    }
  }
  return HFB_OK;
}

/* ---- Other lengths: _bigbird_block_rand_mask_with_head with its plan for long sequences ---- */

/* Query blocks look among the first 5 + 2 random key blocks, but not at neighbours nor at the ends of that range. */
static bool is_legal(int64_t query, int64_t key, int64_t range) {
  if (key == 0 || key == range - 1 || (key >= query - 1 && key <= query + 1)) return false;
  return !(query == 1 && key == range - 2) && !(query == range - 2 && key == 1);
}

static void draw_by_row(const hfb_bigbird_plan *plan, generator *g, int64_t *candidates, int64_t *out) {
  int64_t rows = plan->length / plan->block_size - 2, range = 2 * plan->random + 5;
  for (int64_t query = 1; query <= rows; query++) {
    for (int64_t head = 0; head < plan->heads; head++) {
      int64_t *row = &out[(head * rows + query - 1) * plan->random], taken = 0;
      for (int64_t k = 0; k < range; k++) candidates[k] = k;
      shuffle(g, candidates, range);
      for (int64_t k = 0; k < range && taken < plan->random; k++) {
        if (is_legal(query, candidates[k], range)) row[taken++] = candidates[k];
      }
    }
  }
}

hfb_status hfb_bigbird_draw_blocks(const hfb_bigbird_plan *plan, int64_t *out) {
  int64_t *candidates = NULL, most = plan->max_length / plan->block_size + 2 * plan->random + 5;
  HFB_TRY(hfb_mem_alloc((size_t)most, sizeof *candidates, &candidates));
  generator g;
  generator_seed(&g, plan->seed);
  hfb_status status = HFB_OK;
  bool published = plan->length == 1024 || plan->length == 3072 || plan->length == 4096;
  if (published)
    status = draw_from_start(plan, &g, candidates, out);
  else
    draw_by_row(plan, &g, candidates, out);
  hfb_mem_free(candidates);
  return status;
}
