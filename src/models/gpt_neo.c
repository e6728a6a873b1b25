/* GPT-Neo (Black et al., 2021): GPT-2 without scaled scores, where some layers look back over a window only. */
#include <jansson.h>
#include <string.h>

#include "models/family.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "50257", NULL},
    {"max_position_embeddings", HFB_FIELD_SIZE, "2048", NULL},
    {"hidden_size", HFB_FIELD_SIZE, "2048", NULL},
    {"num_layers", HFB_FIELD_COUNT, "24", NULL},
    {"attention_types", HFB_FIELD_LIST, "[[[\"global\",\"local\"],12]]", NULL}, /* kinds and how often they repeat */
    {"attention_layers", HFB_FIELD_LIST, "null", "null"}, /* a kind for each layer; null: from attention_types */
    {"num_heads", HFB_FIELD_COUNT, "16", NULL},
    {"intermediate_size", HFB_FIELD_SIZE, "null", "null"}, /* null: 4 hidden_size */
    {"window_size", HFB_FIELD_SIZE, "256", NULL},
    {"activation_function", HFB_FIELD_ACTIVATION, "gelu_new", NULL},
    {"resid_dropout", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"embed_dropout", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"attention_dropout", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"layer_norm_epsilon", HFB_FIELD_POSITIVE, "1e-5", NULL},
    {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"use_cache", HFB_FIELD_BOOL, "true", NULL},
    {"pad_token_id", HFB_FIELD_ID, "null", NULL},
    {"bos_token_id", HFB_FIELD_ID, "50256", NULL},
    {"eos_token_id", HFB_FIELD_ID, "50256", NULL},
};

/* ---- Which layers are local ---- */

typedef struct layer_kinds {
  bool *local; /* room for `room` layers, owned by the graph */
  int64_t room, count;
} layer_kinds;

/* Appends a list of "global" and "local"; false when it is something else. */
static bool append_kinds(layer_kinds *kinds, const json_t *list) {
  for (size_t i = 0; i < json_array_size(list); i++) {
    const char *kind = json_string_value(json_array_get(list, i));
    if (kind == NULL || (strcmp(kind, "global") != 0 && strcmp(kind, "local") != 0)) return false;
    if (kinds->count < kinds->room) kinds->local[kinds->count] = strcmp(kind, "local") == 0;
    kinds->count++;
  }
  return json_is_array(list);
}

/* [[["global","local"],12]]: each list so many times. */
static bool append_types(layer_kinds *kinds, const json_t *types) {
  for (size_t i = 0; i < json_array_size(types); i++) {
    const json_t *list = json_array_get(json_array_get(types, i), 0),
                 *times = json_array_get(json_array_get(types, i), 1);
    if (!json_is_integer(times)) return false;
    for (json_int_t n = 0; n < json_integer_value(times) && kinds->count <= kinds->room; n++) {
      if (!append_kinds(kinds, list)) return false;
    }
  }
  return true;
}

/* Whether each layer's attention is local; NULL on failure. */
static const bool *local_layers(hfb_nn *nn, const hfb_call *call) {
  const char *field = hfb_call_text(call, "attention_layers") != NULL ? "attention_layers" : "attention_types";
  const char *text = hfb_call_text(call, field);
  layer_kinds kinds = {.room = hfb_call_int(call, "num_layers")};
  kinds.local = hfb_arena_alloc(&nn->b->graph->arena, (size_t)kinds.room, sizeof *kinds.local);
  json_t *list = json_loads(text, 0, NULL);
  if (kinds.local == NULL || list == NULL) {
    hfb_builder_fail(nn->b, HFB_OUT_OF_MEMORY, "no memory for the kinds of %lld layers", (long long)kinds.room);
    json_decref(list);
    return NULL;
  }
  bool known = strcmp(field, "attention_layers") == 0 ? append_kinds(&kinds, list) : append_types(&kinds, list);
  json_decref(list);
  if (known && kinds.count == kinds.room) return kinds.local;
  hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT,
                   "%s is %.128s; it must say \"global\" or \"local\" for each of the %lld layers of num_layers", field,
                   text, (long long)kinds.room);
  return NULL;
}

/* ---- The model ---- */

/* Bool [S,S]: the keys that take part in a query. */
typedef struct masks {
  hfb_value *global, *local; /* local: the last window_size of them */
  hfb_value *bias;           /* causal and padding, additive [B,1,S,S]; NULL without attention_mask */
} masks;

static masks make_masks(hfb_nn *nn, const hfb_call *call) {
  hfb_builder *b = nn->b;
  int64_t length = call->length, window = hfb_call_int(call, "window_size");
  masks m = {.global = hfb_nn_causal_keep(nn, length)};
  m.local = m.global;
  if (window < length) {
    hfb_shape square = hfb_shape_of(2, (int64_t[]){length, length});
    hfb_value *query = hfb_iota(b, HFB_I64, square, 0), *key = hfb_iota(b, HFB_I64, square, 1);
    hfb_value *distance = hfb_sub(b, query, key);
    hfb_value *near = hfb_binary(b, HFB_OP_LT, distance, hfb_scalar(b, HFB_I64, (double)window));
    m.local = hfb_binary(b, HFB_OP_AND, m.global, near);
  }
  hfb_value *mask = hfb_call_ids(nn, call, "attention_mask", call->batch, length);
  if (mask != NULL) {
    m.bias = hfb_nn_keep_bias(nn, hfb_binary(b, HFB_OP_AND, m.global, hfb_nn_padding_keep(nn, mask)));
  }
  return m;
}

/* GPTNeoSelfAttention; key and value are the layer's cache. */
static hfb_value *attention(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *keep, hfb_value *bias,
                            hfb_value *cache[2]) {
  int64_t width = hfb_call_int(call, "hidden_size"), heads = hfb_call_int(call, "num_heads");
  hfb_scope_push(nn->b, "attn.attention");
  hfb_nn_linear_declare(nn, "k_proj", width, width, false);
  hfb_nn_linear_declare(nn, "v_proj", width, width, false);
  hfb_value *q = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "q_proj", x, width, false), heads);
  cache[0] = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "k_proj", x, width, false), heads);
  cache[1] = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "v_proj", x, width, false), heads);
  hfb_nn_attention how = {.query_scale = 1,
                          .score_scale = 1,
                          .keep = keep,
                          .bias = bias,
                          .dropout = hfb_call_float(call, "attention_dropout")};
  hfb_value *context = hfb_nn_merge_heads(nn, hfb_nn_attend(nn, &how, q, cache[0], cache[1]));
  hfb_value *out = hfb_nn_linear(nn, "out_proj", context, width, true);
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, out, hfb_call_float(call, "resid_dropout"));
}

static hfb_value *mlp(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  int64_t width = hfb_call_int(call, "hidden_size"), inner = hfb_call_int(call, "intermediate_size");
  hfb_scope_push(nn->b, "mlp");
  x = hfb_nn_linear(nn, "c_fc", x, inner < 0 ? 4 * width : inner, true);
  x = hfb_nn_activation(nn, hfb_call_text(call, "activation_function"), x);
  x = hfb_nn_linear(nn, "c_proj", x, width, true);
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "resid_dropout"));
}

static hfb_value *embed(hfb_nn *nn, const hfb_call *call) {
  int64_t width = hfb_call_int(call, "hidden_size"), vocab = hfb_call_int(call, "vocab_size");
  int64_t rows = hfb_call_int(call, "max_position_embeddings");
  hfb_call_check_length(nn, call, "the input", call->length, "max_position_embeddings");
  hfb_value *positions = hfb_call_positions(nn, call, "position_ids", call->length);
  if (positions == NULL) positions = hfb_nn_positions(nn, call->length, 0);
  hfb_value *words = hfb_nn_embedding(nn, "wte", hfb_call_arg(call, "input_ids"), vocab, width, -1);
  hfb_value *x = hfb_add(nn->b, words, hfb_nn_embedding(nn, "wpe", positions, rows, width, -1));
  hfb_value *types = hfb_call_ids(nn, call, "token_type_ids", call->batch, call->length);
  if (types != NULL) x = hfb_add(nn->b, x, hfb_nn_embedding(nn, "wte", types, vocab, width, -1));
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "embed_dropout"));
}

/* GPTNeoModel. *out_cache: key and value of each layer, owned by the graph. */
static hfb_value *model(hfb_nn *nn, const hfb_call *call, hfb_value ***out_cache) {
  int64_t layers = hfb_call_int(call, "num_layers");
  double eps = hfb_call_float(call, "layer_norm_epsilon");
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_call_check_heads(nn, call, "hidden_size", "num_heads");
  const bool *local = local_layers(nn, call);
  *out_cache = hfb_call_values(nn, 2 * layers);
  if (local == NULL || *out_cache == NULL) return NULL;
  masks m = make_masks(nn, call);
  hfb_scope_push(nn->b, "transformer");
  hfb_value *x = embed(nn, call);
  for (int64_t i = 0; i < layers; i++) {
    hfb_scope_push(nn->b, "h.%d", (int)i);
    hfb_value *normed = hfb_nn_layer_norm(nn, "ln_1", x, eps);
    x = hfb_add(nn->b, attention(nn, call, normed, local[i] ? m.local : m.global, m.bias, *out_cache + 2 * i), x);
    x = hfb_add(nn->b, x, mlp(nn, call, hfb_nn_layer_norm(nn, "ln_2", x, eps)));
    hfb_scope_pop(nn->b);
  }
  x = hfb_nn_layer_norm(nn, "ln_f", x, eps);
  hfb_scope_pop(nn->b);
  return x;
}

/* ---- Classes ---- */

static void add_cache(hfb_nn *nn, const hfb_call *call, hfb_value **cache) {
  if (!hfb_call_bool(call, "use_cache") || cache == NULL) return;
  for (int i = 0; i < (int)hfb_call_int(call, "num_layers"); i++) hfb_head_cache(nn, i, 2, cache + 2 * i);
}

static void causal_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_value **cache = NULL, *x = model(nn, call, &cache);
  hfb_value *words = hfb_nn_embedding_weight(nn, "transformer.wte", hfb_call_int(call, "vocab_size"),
                                             hfb_call_int(call, "hidden_size"), -1);
  hfb_value *weight = hfb_head_output_weight(nn, call, "lm_head.weight", words);
  hfb_head_token_logits(nn, call, hfb_linear_op(nn->b, x, weight, NULL, true), true);
  add_cache(nn, call, cache);
}

static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_value **cache = NULL, *x = model(nn, call, &cache);
  hfb_head_last_token_classification(nn, call, x);
  add_cache(nn, call, cache);
}

#define INPUTS  "input_ids attention_mask token_type_ids position_ids labels"
#define REFUSED HFB_REFUSED_ENCODER " past_key_values use_cache"
#define IGNORED "*.attn.attention.bias *.attn.attention.masked_bias lm_head.* score.*"

static const hfb_class_row classes[] = {
    {"GPTNeoForCausalLM", causal_lm, INPUTS, REFUSED, "lm_head.weight=transformer.wte.weight", IGNORED},
    {"GPTNeoForSequenceClassification", sequence_classification, INPUTS, REFUSED, "", IGNORED},
};

HFB_FAMILY(gpt_neo, "gpt_neo", "transformer", fields, classes);
