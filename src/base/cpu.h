/* What this processor can do. Detection runs once; the environment variable HFBENCH_ISA=generic|avx2|avx512|
 * avx512_bf16|amx lowers (never raises) the level, for tests of every kernel on one machine. */
#ifndef HFB_BASE_CPU_H
#define HFB_BASE_CPU_H

#include <stdint.h>

typedef enum hfb_isa {
  HFB_ISA_GENERIC,
  HFB_ISA_AVX2,        /* AVX2 + FMA */
  HFB_ISA_AVX512,      /* F, BW, DQ, VL */
  HFB_ISA_AVX512_BF16, /* + vdpbf16ps */
  HFB_ISA_AMX,         /* + AMX-BF16 tiles, usable by this process */
  HFB_ISA_COUNT
} hfb_isa;

typedef struct hfb_cpu_info {
  char model_name[96];
  hfb_isa isa;     /* the level in use */
  hfb_isa isa_max; /* what the machine has */
  int core_count;   /* physical cores this process may run on, at most its quota of processor time */
  int thread_count; /* hardware threads this process may run on */
  int64_t l1d_bytes, l2_bytes, l3_bytes; /* of one core; l3: the one that this core uses; 0 = unknown */
  int64_t memory_bytes;
} hfb_cpu_info;

const hfb_cpu_info *hfb_cpu(void);
const char *hfb_isa_name(hfb_isa isa);

#endif
