/* Every worker has a share of a job's indices, a range that depends on nothing but their number, and takes from it
 * first: rows that one kernel left in a core's caches are read there by the next. Who is done takes from the others'
 * shares.
 *
 * The pool hands a job over through a gate: the caller opens it, workers that arrive while it is open go in, and the
 * caller closes it when no index is left and waits only for those inside. A worker that the operating system wakes
 * late finds the gate shut and costs the job nothing, which matters when another process holds its core.
 *
 * Who waits spins for a short time (kernels follow one another within microseconds), then sleeps on a futex. */
#include "base/thread.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/memory.h"

enum {
  CACHE_LINE_BYTES = 64,
  MAX_THREADS = 1024,
  SPIN_NS = 50000,
  PAUSES_PER_CLOCK_READ = 32,
  CHUNKS_PER_WORKER = 64, /* fewer than this and one index is taken at a time */
#if defined(__x86_64__)
  MXCSR_FLUSH_TO_ZERO = 1 << 15,
#elif defined(__aarch64__)
  FPCR_FLUSH_TO_ZERO = 1 << 24,
#endif
};

static const uint32_t gate_open = 1u << 31; /* the other bits count the workers inside */

typedef struct hfb_pool_worker {
  hfb_pool *pool;
  pthread_t thread;
  int index;
} hfb_pool_worker;

/* The indices of a job that are a worker's to begin with. */
typedef struct hfb_pool_share {
  _Alignas(CACHE_LINE_BYTES) _Atomic int64_t next;
  int64_t end;
} hfb_pool_share;

struct hfb_pool {
  int size;
  int started_count; /* threads that exist; below size - 1 only when creation failed half-way */
  int64_t spin_ns;   /* 0 when there are more workers than processors: spinning would hold up the work */
  hfb_pool_worker *workers;
  hfb_pool_share *shares; /* by worker; of the job */
  char *scratch;
  size_t scratch_stride;
  size_t noted_bytes; /* the most that a job takes beside it */

  /* The job. Written by the caller while the gate is shut and nobody is inside. */
  hfb_task_fn task;
  void *context;
  int64_t chunk;

  _Alignas(CACHE_LINE_BYTES) _Atomic uint32_t generation; /* futex: counts jobs */
  _Atomic uint32_t sleeper_count;
  atomic_bool is_ending;
  _Alignas(CACHE_LINE_BYTES) _Atomic uint32_t gate; /* futex */
  atomic_bool caller_sleeps;
};

static void cpu_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory");
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t expected) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int count) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/* Spins until *word differs from `value` or the time is up; returns the last value read. */
static uint32_t spin_while_equal(_Atomic uint32_t *word, uint32_t value, int64_t limit_ns) {
  uint32_t now = atomic_load_explicit(word, memory_order_acquire);
  if (now != value || limit_ns == 0) return now;
  int64_t deadline_ns = hfb_clock_ns() + limit_ns;
  do {
    for (int i = 0; i < PAUSES_PER_CLOCK_READ; i++) {
      cpu_pause();
      now = atomic_load_explicit(word, memory_order_acquire);
      if (now != value) return now;
    }
  } while (hfb_clock_ns() < deadline_ns);
  return now;
}

/* Results that would be subnormal are 0 in tasks: some processors need a hundred cycles for each of them, so that the
 * time of a kernel would depend on its data. Returns the mode to go back to. */
static uint64_t enter_float_mode(void) {
#if defined(__x86_64__)
  const unsigned mode = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(mode | MXCSR_FLUSH_TO_ZERO);
  return mode;
#elif defined(__aarch64__)
  const uint64_t mode = __builtin_aarch64_get_fpcr64();
  __builtin_aarch64_set_fpcr64(mode | FPCR_FLUSH_TO_ZERO);
  return mode;
#else
  return 0;
#endif
}

static void leave_float_mode(uint64_t mode) {
#if defined(__x86_64__)
  __builtin_ia32_ldmxcsr((unsigned)mode);
#elif defined(__aarch64__)
  __builtin_aarch64_set_fpcr64(mode);
#endif
}

static void take_share(hfb_pool *pool, hfb_pool_share *share, int worker) {
  /* Looked at before it is written: a share that is done stays in the caches of all who pass by. */
  while (atomic_load_explicit(&share->next, memory_order_relaxed) < share->end) {
    const int64_t first = atomic_fetch_add_explicit(&share->next, pool->chunk, memory_order_relaxed);
    const int64_t end = share->end - first < pool->chunk ? share->end : first + pool->chunk;
    for (int64_t index = first; index < end; index++) pool->task(pool->context, index, worker);
  }
}

static void take_indices(hfb_pool *pool, int worker) {
  for (int i = 0; i < pool->size; i++) {
    take_share(pool, &pool->shares[(worker + i) % pool->size], worker);
  }
}

static bool enter_gate(hfb_pool *pool) {
  uint32_t gate = atomic_load_explicit(&pool->gate, memory_order_relaxed);
  while (gate & gate_open) {
    if (atomic_compare_exchange_weak_explicit(&pool->gate, &gate, gate + 1, memory_order_acquire,
                                              memory_order_relaxed)) {
      return true;
    }
  }
  return false;
}

static void leave_gate(hfb_pool *pool) {
  /* Sequentially consistent with wait_for_workers: either we see that the caller sleeps, or it sees the 0. */
  if (atomic_fetch_sub(&pool->gate, 1) == 1 && atomic_load(&pool->caller_sleeps)) futex_wake(&pool->gate, 1);
}

static void *worker_main(void *argument) {
  hfb_pool_worker *self = argument;
  hfb_pool *pool = self->pool;
  uint32_t seen = 0;
  enter_float_mode();
  for (;;) {
    uint32_t generation = spin_while_equal(&pool->generation, seen, pool->spin_ns);
    if (generation == seen) {
      /* Sequentially consistent with announce_job: either it sees the sleeper, or we see the new generation. */
      atomic_fetch_add(&pool->sleeper_count, 1);
      while ((generation = atomic_load(&pool->generation)) == seen) futex_wait(&pool->generation, seen);
      atomic_fetch_sub(&pool->sleeper_count, 1);
    }
    if (atomic_load_explicit(&pool->is_ending, memory_order_acquire)) return NULL;
    seen = generation;
    if (!enter_gate(pool)) continue;
    take_indices(pool, self->index);
    leave_gate(pool);
  }
}

static void announce_job(hfb_pool *pool, int64_t useful_workers) {
  atomic_fetch_add(&pool->generation, 1);
  if (atomic_load(&pool->sleeper_count) == 0) return;
  futex_wake(&pool->generation, useful_workers < pool->size ? (int)useful_workers : pool->size);
}

static void wait_for_workers(hfb_pool *pool) {
  int64_t deadline_ns = 0;
  uint32_t inside = atomic_fetch_and(&pool->gate, ~gate_open) & ~gate_open;
  while (inside != 0) {
    if (deadline_ns == 0) deadline_ns = hfb_clock_ns() + pool->spin_ns;
    int64_t left_ns = deadline_ns - hfb_clock_ns();
    if (left_ns > 0) {
      inside = spin_while_equal(&pool->gate, inside, left_ns);
      continue;
    }
    atomic_store(&pool->caller_sleeps, true);
    while ((inside = atomic_load(&pool->gate)) != 0) futex_wait(&pool->gate, inside);
    atomic_store(&pool->caller_sleeps, false);
  }
}

/* Shares differ by one index at most. */
static void share_out(hfb_pool *pool, int64_t count) {
  const int64_t least = count / pool->size, more = count % pool->size;
  int64_t next = 0;
  for (int i = 0; i < pool->size; i++) {
    hfb_pool_share *share = &pool->shares[i];
    atomic_store_explicit(&share->next, next, memory_order_relaxed);
    next += least + (i < more);
    share->end = next;
  }
}

static void run_alone(int64_t count, hfb_task_fn task, void *context) {
  const uint64_t mode = enter_float_mode();
  for (int64_t index = 0; index < count; index++) task(context, index, 0);
  leave_float_mode(mode);
}

void hfb_pool_run(hfb_pool *pool, int64_t count, hfb_task_fn task, void *context) {
  if (!pool || pool->size == 1 || count <= 1) {
    run_alone(count, task, context);
    return;
  }
  assert(atomic_load_explicit(&pool->gate, memory_order_relaxed) == 0 && "hfb_pool_run is not reentrant");
  pool->task = task;
  pool->context = context;
  int64_t chunk = count / ((int64_t)CHUNKS_PER_WORKER * pool->size);
  pool->chunk = chunk > 1 ? chunk : 1;
  share_out(pool, count);
  atomic_store_explicit(&pool->gate, gate_open, memory_order_release);
  announce_job(pool, count - 1);
  const uint64_t mode = enter_float_mode();
  take_indices(pool, 0);
  leave_float_mode(mode);
  wait_for_workers(pool);
}

/* Workers leave signals to the other threads, so that Ctrl-C reaches whoever handles it; faults stay deliverable. */
static void block_signals(sigset_t *out_previous) {
  sigset_t blocked;
  sigfillset(&blocked);
  sigdelset(&blocked, SIGSEGV);
  sigdelset(&blocked, SIGBUS);
  sigdelset(&blocked, SIGFPE);
  sigdelset(&blocked, SIGILL);
  sigdelset(&blocked, SIGABRT);
  pthread_sigmask(SIG_SETMASK, &blocked, out_previous);
}

static hfb_status start_workers(hfb_pool *pool) {
  sigset_t previous;
  block_signals(&previous);
  int error = 0;
  for (int i = 1; i < pool->size && error == 0; i++) {
    hfb_pool_worker *worker = &pool->workers[i];
    *worker = (hfb_pool_worker){.pool = pool, .index = i};
    error = pthread_create(&worker->thread, NULL, worker_main, worker);
    if (error == 0) pool->started_count++;
  }
  pthread_sigmask(SIG_SETMASK, &previous, NULL);
  if (error == 0) return HFB_OK;
  return HFB_FAIL(HFB_OUT_OF_MEMORY, "cannot start thread %d of %d: %s; ask for fewer threads",
                  pool->started_count + 2, pool->size, strerror(error));
}

hfb_status hfb_pool_create(int threads, hfb_pool **out_pool) {
  *out_pool = NULL;
  if (threads < 0 || threads > MAX_THREADS) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "%d threads were asked for; give 1 to %d, or 0 for one per core", threads,
                    MAX_THREADS);
  }
  int size = threads > 0 ? threads : hfb_cpu()->core_count;
  if (size > MAX_THREADS) size = MAX_THREADS;
  hfb_pool *pool = NULL;
  HFB_TRY(hfb_mem_alloc_aligned(sizeof(*pool), CACHE_LINE_BYTES, &pool));
  memset(pool, 0, sizeof(*pool));
  pool->size = size;
  pool->spin_ns = size <= hfb_cpu()->thread_count ? SPIN_NS : 0;
  hfb_status status = hfb_mem_alloc((size_t)size, sizeof(*pool->workers), &pool->workers);
  if (status == HFB_OK)
    status = hfb_mem_alloc_aligned((size_t)size * sizeof(*pool->shares), CACHE_LINE_BYTES, &pool->shares);
  if (status == HFB_OK) status = start_workers(pool);
  if (status != HFB_OK) {
    hfb_pool_destroy(pool);
    return status;
  }
  *out_pool = pool;
  return HFB_OK;
}

void hfb_pool_destroy(hfb_pool *pool) {
  if (!pool) return;
  atomic_store_explicit(&pool->is_ending, true, memory_order_release);
  atomic_fetch_add(&pool->generation, 1);
  futex_wake(&pool->generation, pool->size);
  for (int i = 1; i <= pool->started_count; i++) pthread_join(pool->workers[i].thread, NULL);
  hfb_pool_release_scratch(pool);
  hfb_mem_free(pool->workers);
  hfb_mem_free(pool->shares);
  hfb_mem_free(pool);
}

int hfb_pool_size(const hfb_pool *pool) { return pool ? pool->size : 1; }

hfb_status hfb_pool_reserve_scratch(hfb_pool *pool, size_t bytes_per_worker) {
  if (bytes_per_worker <= pool->scratch_stride) return HFB_OK;
  size_t stride = 0, bytes = 0;
  if (__builtin_add_overflow(bytes_per_worker, (size_t)CACHE_LINE_BYTES - 1, &stride) ||
      __builtin_mul_overflow(stride, (size_t)pool->size, &bytes)) {
    return HFB_FAIL(HFB_OUT_OF_MEMORY, "out of memory: %zu bytes of scratch for each of %d threads", bytes_per_worker,
                    pool->size);
  }
  stride = stride / CACHE_LINE_BYTES * CACHE_LINE_BYTES;
  char *scratch = NULL;
  HFB_TRY(hfb_mem_alloc_aligned(stride * (size_t)pool->size, CACHE_LINE_BYTES, &scratch));
  hfb_mem_free(pool->scratch);
  pool->scratch = scratch;
  pool->scratch_stride = stride;
  return HFB_OK;
}

void *hfb_pool_scratch(hfb_pool *pool, int worker) {
  return pool->scratch ? pool->scratch + pool->scratch_stride * (size_t)worker : NULL;
}

size_t hfb_pool_scratch_bytes(const hfb_pool *pool) {
  return pool ? pool->scratch_stride * (size_t)pool->size + pool->noted_bytes : 0;
}

void hfb_pool_note_scratch(hfb_pool *pool, size_t bytes) {
  if (pool && bytes > pool->noted_bytes) pool->noted_bytes = bytes;
}

void hfb_pool_release_scratch(hfb_pool *pool) {
  hfb_mem_free(pool->scratch);
  pool->scratch = NULL;
  pool->scratch_stride = pool->noted_bytes = 0;
}

hfb_status hfb_scratch_init(hfb_pool *pool, size_t bytes_per_worker, hfb_scratch *out_scratch) {
  *out_scratch = (hfb_scratch){0};
  if (!pool) return hfb_mem_alloc_aligned(bytes_per_worker, CACHE_LINE_BYTES, &out_scratch->own);
  HFB_TRY(hfb_pool_reserve_scratch(pool, bytes_per_worker));
  out_scratch->pool = pool;
  return HFB_OK;
}

hfb_status hfb_scratch_init_shared(hfb_pool *pool, size_t bytes, hfb_scratch *out_scratch) {
  const size_t workers = (size_t)hfb_pool_size(pool);
  return hfb_scratch_init(pool, bytes / workers + (bytes % workers != 0), out_scratch);
}

void *hfb_scratch_of(const hfb_scratch *scratch, int worker) {
  return scratch->pool ? hfb_pool_scratch(scratch->pool, worker) : scratch->own;
}

void hfb_scratch_deinit(hfb_scratch *scratch) {
  hfb_mem_free(scratch->own);
  *scratch = (hfb_scratch){0};
}
