/* Loop and inlining hints for kernels whose arrays of vectors must become registers. */
#ifndef HFB_KERNELS_CPU_UNROLL_H
#define HFB_KERNELS_CPU_UNROLL_H

/* Before a loop whose trip count is a constant after inlining. */
#if defined(__clang__)
#define HFB_UNROLL _Pragma("clang loop unroll(full)")
#define HFB_NO_UNROLL _Pragma("nounroll")
#else
#define HFB_UNROLL _Pragma("GCC unroll 64")
#define HFB_NO_UNROLL _Pragma("GCC unroll 1")
#endif

#define HFB_ALWAYS_INLINE static inline __attribute__((always_inline))

#endif
