/* Loop and inlining hints for kernels whose arrays of vectors must become registers. */
#ifndef HFB_KERNELS_CPU_UNROLL_H
#define HFB_KERNELS_CPU_UNROLL_H

/* Sanitizers check every access; unrolled, that takes compilers minutes. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HFB_IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HFB_IS_SANITIZED 1
#endif
#endif

/* HFB_UNROLL stands before a loop whose trip count is a constant after inlining. */
#if defined(HFB_IS_SANITIZED)
#define HFB_UNROLL
#define HFB_NO_UNROLL
#elif defined(__clang__)
#define HFB_UNROLL _Pragma("clang loop unroll(full)")
#define HFB_NO_UNROLL _Pragma("nounroll")
#else
#define HFB_UNROLL _Pragma("GCC unroll 64")
#define HFB_NO_UNROLL _Pragma("GCC unroll 1")
#endif

#define HFB_ALWAYS_INLINE static inline __attribute__((always_inline))

#endif
