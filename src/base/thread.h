/* The one thread pool of the project: every parallel kernel of eager and native runs on it.
 *
 * hfb_pool_run shares indices out among the workers in ranges, the same for every job of so many indices, so that data
 * stay in the caches of the core that made them; who is done helps the others, so a core that is taken away by another
 * process slows them little. Which worker takes an index may vary; results must not depend on it.
 *
 * In tasks, whatever thread they are on, results below the smallest normal number are 0 (and operands too where the
 * processor has no other way: arm64). */
#ifndef HFB_BASE_THREAD_H
#define HFB_BASE_THREAD_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct hfb_pool hfb_pool;

/* Called once for each index in [0,count). worker is in [0, hfb_pool_size). */
typedef void (*hfb_task_fn)(void *context, int64_t index, int worker);

/* threads includes the caller; 0 means one for each core this process may run on. */
hfb_status hfb_pool_create(int threads, hfb_pool **out_pool) HFB_MUST_USE;
void hfb_pool_destroy(hfb_pool *pool); /* NULL is allowed */
int hfb_pool_size(const hfb_pool *pool); /* NULL pool: 1 */

/* Runs all indices, the caller taking part, and returns when all are done. NULL pool: runs them in order. Not
 * reentrant: a task must not call it. */
void hfb_pool_run(hfb_pool *pool, int64_t count, hfb_task_fn task, void *context);

/* Scratch memory of each worker, 64-byte aligned, kept between runs. Reserve before hfb_pool_run, get inside it. It is
 * one block with the workers' parts one behind the other: a job whose workers share their scratch starts at that of
 * worker 0. The pool must not be NULL. */
hfb_status hfb_pool_reserve_scratch(hfb_pool *pool, size_t bytes_per_worker) HFB_MUST_USE;
void *hfb_pool_scratch(hfb_pool *pool, int worker);
/* All workers together, and the most that a job noted. */
size_t hfb_pool_scratch_bytes(const hfb_pool *pool);
/* A job takes so many bytes from the host beside the scratch. NULL pool: nothing. */
void hfb_pool_note_scratch(hfb_pool *pool, size_t bytes);
void hfb_pool_release_scratch(hfb_pool *pool);

/* Scratch memory of one job: the pool's, or without a pool its own, from the host. 64-byte aligned, not zeroed.
 * Valid until deinit, which frees the job's own and leaves the pool's to the next job. Until then nobody else may
 * reserve scratch of the same pool, which may move it: a job that calls others which do takes its memory elsewhere
 * (hfb_pool_note_scratch). A failing init is HFB_OUT_OF_MEMORY and leaves *out_scratch empty, as deinit does; to deinit
 * an empty one does nothing. */
typedef struct hfb_scratch {
  hfb_pool *pool; /* borrowed; NULL: `own` */
  void *own;
} hfb_scratch;

hfb_status hfb_scratch_init(hfb_pool *pool, size_t bytes_per_worker, hfb_scratch *out_scratch) HFB_MUST_USE;
/* One block of so many bytes that all workers share: ask for that of worker 0 only. */
hfb_status hfb_scratch_init_shared(hfb_pool *pool, size_t bytes, hfb_scratch *out_scratch) HFB_MUST_USE;
/* After an init with 0 bytes it may be NULL and must not be used. */
void *hfb_scratch_of(const hfb_scratch *scratch, int worker);
void hfb_scratch_deinit(hfb_scratch *scratch);

#endif
