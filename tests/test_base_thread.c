/* The pool: every index once, whatever the counts; worker numbers valid; scratch apart; no wake-up lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"

typedef struct tally {
  atomic_int *visits; /* one for each index */
  _Atomic int64_t sum;
  _Atomic int64_t worker_visits[64];
  atomic_int bad_workers;
  int pool_size;
} tally;

static void count_visit(void *context, int64_t index, int worker) {
  tally *t = context;
  if (t->visits) atomic_fetch_add(&t->visits[index], 1);
  atomic_fetch_add(&t->sum, index + 1);
  if (worker < 0 || worker >= t->pool_size || worker >= 64) {
    atomic_fetch_add(&t->bad_workers, 1);
  } else {
    atomic_fetch_add(&t->worker_visits[worker], 1);
  }
}

static void run_and_check(hfb_pool *pool, int64_t count) {
  tally t = {.pool_size = hfb_pool_size(pool)};
  t.visits = calloc((size_t)count + 1, sizeof(*t.visits));
  assert_non_null(t.visits);
  hfb_pool_run(pool, count, count_visit, &t);
  for (int64_t i = 0; i < count; i++) assert_int_equal(t.visits[i], 1);
  assert_int_equal(t.visits[count], 0);
  assert_int_equal(t.bad_workers, 0);
  free(t.visits);
}

static void test_every_index_once(void **state) {
  (void)state;
  static const int sizes[] = {1, 2, 3, 8, 17};
  static const int64_t counts[] = {0, 1, 2, 3, 7, 16, 17, 1000, 1025, 100003};
  for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
    hfb_pool *pool;
    assert_int_equal(hfb_pool_create(sizes[s], &pool), HFB_OK);
    assert_int_equal(hfb_pool_size(pool), sizes[s]);
    for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) run_and_check(pool, counts[c]);
    hfb_pool_destroy(pool);
  }
}

static void test_null_pool_runs_in_order(void **state) {
  (void)state;
  assert_int_equal(hfb_pool_size(NULL), 1);
  run_and_check(NULL, 0);
  run_and_check(NULL, 100);
  hfb_pool_destroy(NULL);
}

static volatile float tiny = 1e-30f, tinier = 1e-10f; /* no compiler multiplies them */

typedef struct subnormals {
  atomic_int results; /* that were not 0 */
  atomic_int arrived;
  int pool_size;
} subnormals;

/* No task ends before every worker has one. */
static void multiply_subnormals(void *context, int64_t index, int worker) {
  (void)index, (void)worker;
  subnormals *s = context;
  atomic_fetch_add(&s->arrived, 1);
  while (s->arrived < s->pool_size) usleep(10);
  if (tiny * tinier != 0) atomic_fetch_add(&s->results, 1);
}

static void test_subnormals_are_zero_in_tasks_only(void **state) {
  (void)state;
  assert_true(tiny * tinier > 0);
  for (int size = 0; size <= 3; size++) {
    hfb_pool *pool = NULL;
    if (size > 0) assert_int_equal(hfb_pool_create(size, &pool), HFB_OK);
    subnormals s = {.pool_size = hfb_pool_size(pool)};
    hfb_pool_run(pool, s.pool_size, multiply_subnormals, &s);
    assert_int_equal(s.results, 0);
    assert_true(tiny * tinier > 0);
    hfb_pool_destroy(pool);
  }
}

static void test_zero_threads_means_the_cores(void **state) {
  (void)state;
  hfb_pool *pool;
  assert_int_equal(hfb_pool_create(0, &pool), HFB_OK);
  assert_int_equal(hfb_pool_size(pool), hfb_cpu()->core_count);
  hfb_pool_destroy(pool);
  assert_int_equal(hfb_pool_create(-1, &pool), HFB_INVALID_ARGUMENT);
  assert_null(pool);
  assert_int_equal(hfb_pool_create(100000, &pool), HFB_INVALID_ARGUMENT);
}

/* Many short jobs with pauses of every length between them, so that workers are caught spinning, falling asleep and
 * asleep. A lost wake-up of the caller hangs this test; a job run by a late worker breaks the sums. */
static void test_many_jobs_with_random_pauses(void **state) {
  (void)state;
  static const int sizes[] = {2, 5};
  hfb_philox stream = hfb_philox_named(5, "pauses");
  for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
    hfb_pool *pool;
    assert_int_equal(hfb_pool_create(sizes[s], &pool), HFB_OK);
    for (uint64_t job = 0; job < 20000; job++) {
      int64_t count = hfb_philox_below(stream, 2 * job, 12);
      tally t = {.pool_size = sizes[s]};
      hfb_pool_run(pool, count, count_visit, &t);
      assert_int_equal(t.sum, count * (count + 1) / 2);
      assert_int_equal(t.bad_workers, 0);
      if (job % 64 == 0) usleep((useconds_t)hfb_philox_below(stream, 2 * job + 1, 200));
    }
    hfb_pool_destroy(pool);
  }
}

static void test_huge_count(void **state) {
  (void)state;
  hfb_pool *pool;
  assert_int_equal(hfb_pool_create(3, &pool), HFB_OK);
  const int64_t count = 5000000;
  tally t = {.pool_size = 3};
  hfb_pool_run(pool, count, count_visit, &t);
  assert_int_equal(t.sum, count * (count + 1) / 2);
  assert_int_equal(t.worker_visits[0] + t.worker_visits[1] + t.worker_visits[2], count);
  hfb_pool_destroy(pool);
}

typedef struct meeting {
  atomic_int arrived;
  int expected;
} meeting;

/* Each task waits until all are running: passes only when as many workers as tasks run at the same time. */
static void meet(void *context, int64_t index, int worker) {
  (void)index, (void)worker;
  meeting *m = context;
  atomic_fetch_add(&m->arrived, 1);
  while (atomic_load(&m->arrived) < m->expected) usleep(10);
}

static void test_all_workers_run_at_once(void **state) {
  (void)state;
  hfb_pool *pool;
  assert_int_equal(hfb_pool_create(6, &pool), HFB_OK);
  for (int round = 0; round < 100; round++) {
    meeting m = {.expected = 6};
    hfb_pool_run(pool, 6, meet, &m);
    assert_int_equal(m.arrived, 6);
  }
  hfb_pool_destroy(pool);
}

static void fill_scratch(void *context, int64_t index, int worker) {
  hfb_pool *pool = context;
  memset(hfb_pool_scratch(pool, worker), (int)index, 1000);
}

/* The indices of one share wait for those of all others: nobody can take from another share before its worker came. */
typedef struct shares {
  atomic_int begun;
  int size, each;
  atomic_int taken_by_others;
} shares;

static void begin_share(void *context, int64_t index, int worker) {
  shares *s = context;
  if (index % s->each != 0) return;
  if (index / s->each != worker) atomic_fetch_add(&s->taken_by_others, 1);
  atomic_fetch_add(&s->begun, 1);
  while (atomic_load(&s->begun) < s->size) usleep(10);
}

static void test_every_worker_begins_with_its_share(void **state) {
  (void)state;
  for (int size = 2; size <= 5; size++) {
    for (int each = 1; each <= 40; each += 13) {
      shares s = {.size = size, .each = each};
      hfb_pool *pool;
      assert_int_equal(hfb_pool_create(size, &pool), HFB_OK);
      hfb_pool_run(pool, (int64_t)size * each, begin_share, &s);
      assert_int_equal(atomic_load(&s.begun), size);
      assert_int_equal(atomic_load(&s.taken_by_others), 0);
      hfb_pool_destroy(pool);
    }
  }
}

static void test_scratch(void **state) {
  (void)state;
  hfb_pool *pool;
  assert_int_equal(hfb_pool_create(4, &pool), HFB_OK);
  assert_int_equal(hfb_pool_scratch_bytes(pool), 0);
  assert_int_equal(hfb_pool_reserve_scratch(pool, 1000), HFB_OK);
  assert_int_equal(hfb_pool_scratch_bytes(pool), 4 * 1024);
  for (int i = 0; i < 4; i++) {
    char *scratch = hfb_pool_scratch(pool, i);
    assert_int_equal((uintptr_t)scratch % 64, 0);
    if (i > 0) assert_true(scratch - (char *)hfb_pool_scratch(pool, i - 1) >= 1000);
  }
  hfb_pool_run(pool, 100, fill_scratch, pool);
  void *kept = hfb_pool_scratch(pool, 0);
  assert_int_equal(hfb_pool_reserve_scratch(pool, 500), HFB_OK);
  assert_ptr_equal(hfb_pool_scratch(pool, 0), kept);
  assert_int_equal(hfb_pool_reserve_scratch(pool, SIZE_MAX - 8), HFB_OUT_OF_MEMORY);
  assert_int_equal(hfb_pool_reserve_scratch(pool, SIZE_MAX / 2), HFB_OUT_OF_MEMORY);
  assert_ptr_equal(hfb_pool_scratch(pool, 0), kept);
  hfb_pool_note_scratch(pool, 300); /* what a job takes elsewhere: the most counts */
  hfb_pool_note_scratch(pool, 700);
  hfb_pool_note_scratch(pool, 200);
  hfb_pool_note_scratch(NULL, 200);
  assert_int_equal(hfb_pool_scratch_bytes(pool), 4 * 1024 + 700);
  hfb_pool_release_scratch(pool);
  assert_int_equal(hfb_pool_scratch_bytes(pool), 0);
  hfb_pool_destroy(pool);
}

/* Size 0 is no pool: the scratch is the job's own. */
static void test_scratch_of_a_job(void **state) {
  (void)state;
  for (int size = 0; size <= 3; size++) {
    hfb_pool *pool = NULL;
    if (size > 0) assert_int_equal(hfb_pool_create(size, &pool), HFB_OK);
    const int workers = hfb_pool_size(pool);
    hfb_scratch scratch;
    assert_int_equal(hfb_scratch_init(pool, 1000, &scratch), HFB_OK);
    for (int i = 0; i < workers; i++) {
      char *part = hfb_scratch_of(&scratch, i);
      assert_int_equal((uintptr_t)part % 64, 0);
      memset(part, i, 1000);
      if (pool) assert_ptr_equal(part, hfb_pool_scratch(pool, i));
    }
    for (int i = 0; i < workers; i++) {
      const char *part = hfb_scratch_of(&scratch, i);
      for (int k = 0; k < 1000; k++) assert_int_equal(part[k], i);
    }
    void *first = hfb_scratch_of(&scratch, 0);
    hfb_scratch_deinit(&scratch);
    hfb_scratch_deinit(&scratch);
    assert_null(hfb_scratch_of(&scratch, 0));
    if (pool) { /* the pool keeps it for the next job */
      assert_int_equal(hfb_pool_scratch_bytes(pool), 1024 * workers);
      hfb_mem_fail_at(0, 0);
      assert_int_equal(hfb_scratch_init(pool, 1024, &scratch), HFB_OK);
      assert_int_equal(hfb_mem_fail_at(0, 0), 0);
      assert_ptr_equal(hfb_scratch_of(&scratch, 0), first);
      hfb_scratch_deinit(&scratch);
    }
    hfb_pool_destroy(pool);
  }
}

static void test_scratch_that_workers_share(void **state) {
  (void)state;
  static const size_t sizes[] = {0, 1, 64, 191, 192, 193, 100003};
  for (int size = 0; size <= 3; size++) {
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
      hfb_pool *pool = NULL;
      if (size > 0) assert_int_equal(hfb_pool_create(size, &pool), HFB_OK);
      const size_t workers = (size_t)hfb_pool_size(pool);
      hfb_scratch scratch;
      assert_int_equal(hfb_scratch_init_shared(pool, sizes[i], &scratch), HFB_OK);
      char *block = hfb_scratch_of(&scratch, 0);
      if (sizes[i] > 0) assert_non_null(block);
      if (sizes[i] > 0) memset(block, 7, sizes[i]);
      assert_int_equal((uintptr_t)block % 64, 0);
      /* No more than each worker's part of it, in whole cache lines. */
      const size_t part = ((sizes[i] + workers - 1) / workers + 63) / 64 * 64;
      if (pool) assert_int_equal(hfb_pool_scratch_bytes(pool), part * workers);
      hfb_scratch_deinit(&scratch);
      hfb_pool_destroy(pool);
    }
  }
}

typedef hfb_status (*scratch_init_fn)(hfb_pool *pool, size_t bytes, hfb_scratch *out_scratch);

/* A failure is reported, leaves nothing to free, and keeps what the pool had. */
static void test_scratch_survives_failing_allocations(void **state) {
  (void)state;
  static const scratch_init_fn inits[] = {hfb_scratch_init, hfb_scratch_init_shared};
  for (int size = 0; size <= 2; size++) {
    for (int i = 0; i < 2; i++) {
      hfb_pool *pool = NULL;
      if (size > 0) assert_int_equal(hfb_pool_create(size, &pool), HFB_OK);
      hfb_scratch scratch;
      assert_int_equal(inits[i](pool, 1000, &scratch), HFB_OK);
      hfb_scratch_deinit(&scratch);
      void *kept = pool ? hfb_pool_scratch(pool, 0) : NULL;
      const size_t kept_bytes = hfb_pool_scratch_bytes(pool);

      memset(&scratch, 0x5a, sizeof scratch); /* a caller's variable has any value before init */
      hfb_mem_fail_at(1, 0);
      assert_int_equal(inits[i](pool, 100000, &scratch), HFB_OUT_OF_MEMORY);
      assert_int_equal(hfb_mem_fail_at(0, 0), 1);
      assert_null(hfb_scratch_of(&scratch, 0));
      hfb_scratch_deinit(&scratch);
      memset(&scratch, 0x5a, sizeof scratch);
      assert_int_equal(inits[i](pool, SIZE_MAX, &scratch), HFB_OUT_OF_MEMORY);
      assert_null(hfb_scratch_of(&scratch, 0));
      hfb_scratch_deinit(&scratch);
      if (pool) assert_ptr_equal(hfb_pool_scratch(pool, 0), kept);
      assert_int_equal(hfb_pool_scratch_bytes(pool), kept_bytes);

      assert_int_equal(inits[i](pool, 100000, &scratch), HFB_OK); /* and the next attempt works */
      memset(hfb_scratch_of(&scratch, 0), 7, 100000);
      hfb_scratch_deinit(&scratch);
      hfb_pool_destroy(pool);
    }
  }
}

static void test_creation_survives_failing_allocations(void **state) {
  (void)state;
  int failures = 0;
  for (int64_t nth = 1;; nth++) {
    hfb_pool *pool;
    hfb_mem_fail_at(nth, 0);
    hfb_status status = hfb_pool_create(2, &pool);
    if (status == HFB_OK) status = hfb_pool_reserve_scratch(pool, 4096);
    int64_t used = hfb_mem_fail_at(0, 0);
    hfb_pool_destroy(pool);
    if (status == HFB_OK) {
      assert_true(used < nth);
      break;
    }
    assert_int_equal(status, HFB_OUT_OF_MEMORY);
    failures++;
  }
  assert_int_equal(failures, 4);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_index_once),
      cmocka_unit_test(test_null_pool_runs_in_order),
      cmocka_unit_test(test_subnormals_are_zero_in_tasks_only),
      cmocka_unit_test(test_zero_threads_means_the_cores),
      cmocka_unit_test(test_many_jobs_with_random_pauses),
      cmocka_unit_test(test_huge_count),
      cmocka_unit_test(test_all_workers_run_at_once),
      cmocka_unit_test(test_every_worker_begins_with_its_share),
      cmocka_unit_test(test_scratch),
      cmocka_unit_test(test_scratch_of_a_job),
      cmocka_unit_test(test_scratch_that_workers_share),
      cmocka_unit_test(test_scratch_survives_failing_allocations),
      cmocka_unit_test(test_creation_survives_failing_allocations),
  };
  return cmocka_run_group_tests_name("base_thread", tests, NULL, NULL);
}
