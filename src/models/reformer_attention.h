/* The two kinds of attention of Reformer (Kitaev et al., 2020) on sequences cut into chunks. Internal to models/. */
#ifndef HFB_MODELS_REFORMER_ATTENTION_H
#define HFB_MODELS_REFORMER_ATTENTION_H

#include "models/family.h"

/* What all layers share. */
typedef struct hfb_reformer_setting {
  int64_t batch, length; /* length: filled up to whole chunks */
  int64_t heads, width;  /* width: of a head */
  bool causal;
  hfb_value *mask; /* i64 [batch,length], 0: does not count; NULL: all tokens do */
} hfb_reformer_setting;

/* Whether LSH layers hash and sort: one chunk that holds all tokens does not. */
bool hfb_reformer_hashes(const hfb_call *call, int64_t length);

/* LocalSelfAttention on x [B,S,D]: [B,S,heads*width]. */
hfb_value *hfb_reformer_local_attention(hfb_nn *nn, const hfb_call *call, const hfb_reformer_setting *s, hfb_value *x);

/* LSHSelfAttention: the same. The rotations are the argument "lsh_rotations.<layer>" f32
 * [heads,width,hashes,buckets/2], or drawn in every run where that is not given. *out_buckets (unless NULL): i64
 * [B,heads,hashes,S], NULL where nothing is hashed. */
hfb_value *hfb_reformer_lsh_attention(hfb_nn *nn, const hfb_call *call, const hfb_reformer_setting *s, int64_t layer,
                                      hfb_value *x, hfb_value **out_buckets);

#endif
