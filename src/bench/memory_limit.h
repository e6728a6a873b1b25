/* How much memory this process may take, and keeping a child within it. Linux: /proc and cgroups v1 and v2. */
#ifndef HFB_BENCH_MEMORY_LIMIT_H
#define HFB_BENCH_MEMORY_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes that this process may still take without the machine, or a memory cgroup it is in, running out. Page cache
 * counts as free. */
int64_t hfb_memory_available_bytes(void);

/* In a child: allocations beyond `bytes` more than now fail (0: no limit), and the kernel picks this process first
 * when memory runs out all the same. */
void hfb_memory_limit_apply(int64_t bytes);

/* Processes that the kernel has killed for memory in our cgroup; -1 where it does not tell. */
int64_t hfb_memory_kill_count(void);

/* Highest resident memory of this process since the last reset. The reset returns false where the kernel has none;
 * the peak is then one of the whole life of the process. */
bool hfb_resident_peak_reset(void);
int64_t hfb_resident_peak_bytes(void); /* -1 where the kernel does not tell */

/* Resident memory now, and its highest value in the life of the process, whatever was reset; -1 as above. */
int64_t hfb_resident_bytes(void);
int64_t hfb_resident_highest_bytes(void);

#endif
