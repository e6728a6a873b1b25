/* The row softmax of attention for each instruction set. Private to it. */
#ifndef HFB_KERNELS_ATTENTION_ISA_H
#define HFB_KERNELS_ATTENTION_ISA_H

#include <stdint.h>

/* x[i] = exp(x[i] - max x) for i < count, 0 for count <= i < padded_count; returns the sum. nan and a row that is all
 * -inf (or empty) give nan or 0, so that 1 / sum * row is nan in both cases. */
typedef float (*hfb_attention_exp_fn)(float *x, int64_t count, int64_t padded_count);

/* x[i] *= factor. */
typedef void (*hfb_attention_scale_fn)(float *x, int64_t count, float factor);

float hfb_attention_exp_generic(float *x, int64_t count, int64_t padded_count);
float hfb_attention_exp_avx2(float *x, int64_t count, int64_t padded_count);
float hfb_attention_exp_avx512(float *x, int64_t count, int64_t padded_count);
void hfb_attention_scale_generic(float *x, int64_t count, float factor);
void hfb_attention_scale_avx2(float *x, int64_t count, float factor);
void hfb_attention_scale_avx512(float *x, int64_t count, float factor);

#endif
