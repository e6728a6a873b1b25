/* Every class in training: where it draws, with which probability and how much, and which weights its loss reaches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "grad/backward.h"
#include "ir/transform.h"
#include "models/model.h"

#define TRY(expr)                                                         \
  do {                                                                    \
    if ((expr) != HFB_OK) fail_msg("%s: %s", #expr, hfb_error_message()); \
  } while (0)

#define BERT "hidden_size=32 num_attention_heads=4 intermediate_size=40 num_hidden_layers=2 vocab_size=99"
#define MOBILE                                                                                           \
  "hidden_size=32 embedding_size=8 intra_bottleneck_size=16 num_attention_heads=4 intermediate_size=40 " \
  "num_hidden_layers=2 vocab_size=99"
#define BART                                                                                          \
  "d_model=24 encoder_layers=2 decoder_layers=2 encoder_attention_heads=4 decoder_attention_heads=4 " \
  "encoder_ffn_dim=36 decoder_ffn_dim=40 vocab_size=99"
#define DECODER    "d_model=24 decoder_layers=2 decoder_attention_heads=4 decoder_ffn_dim=36 vocab_size=99"
#define BERT_P     " hidden_dropout_prob=0.11 attention_probs_dropout_prob=0.12"
#define REFORMER                                                                                                   \
  "vocab_size=30 hidden_size=32 num_attention_heads=3 attention_head_size=6 feed_forward_size=20 "                  \
  "attn_layers=local|lsh axial_pos_shape=[4,6] axial_pos_embds_dim=[8,24] local_attn_chunk_length=4 "               \
  "lsh_attn_chunk_length=4 max_position_embeddings=64 hidden_dropout_prob=0.11 "                                    \
  "local_attention_probs_dropout_prob=0.12 lsh_attention_probs_dropout_prob=0.13"
#define BART_P     " dropout=0.11 attention_dropout=0.12 activation_dropout=0.13"
#define SPEECH                                                                                           \
  "hidden_size=32 num_attention_heads=4 intermediate_size=40 num_hidden_layers=2 vocab_size=20 "         \
  "conv_dim=[16,12,16] conv_kernel=[10,3,2] conv_stride=[5,2,2] num_conv_pos_embeddings=8 "              \
  "num_conv_pos_embedding_groups=4 classifier_proj_size=12 hidden_dropout=0.11 attention_dropout=0.12 " \
  "activation_dropout=0.13 feat_proj_dropout=0.14 final_dropout=0.15 layerdrop=0.21 mask_feature_prob=0.1"
#define SPEECH_SITES "0.11:2x20x32*5 0.12:2x4x20x20*2 0.13:2x20x40*2 0.14:2x20x32*1 0.21:scalar*2 "
#define SPANS        "0.5:40*1 " /* the throw that rounds the number of spans */
#define LAYER_DROP   " encoder_layerdrop=0.21 decoder_layerdrop=0.22"

/* What a decoder alone owns and never runs; and Longformer without global tokens. */
#define MODULE(name) name ".weight " name ".bias "
#define CROSS        "model.decoder.layers.#.encoder_attn"
#define CROSS_ATTENTION   \
  MODULE(CROSS ".k_proj") \
  MODULE(CROSS ".v_proj") MODULE(CROSS ".q_proj") MODULE(CROSS ".out_proj") MODULE(CROSS "_layer_norm")
#define GLOBAL           "longformer.encoder.layer.#.attention.self."
#define GLOBAL_ATTENTION MODULE(GLOBAL "query_global") MODULE(GLOBAL "key_global") MODULE(GLOBAL "value_global")

/* LXMERT reads the language stream only, where nobody asks about objects. */
#define LXMERT                                                                                                \
  "hidden_size=32 num_attention_heads=4 intermediate_size=40 vocab_size=99 l_layers=2 r_layers=2 x_layers=2 " \
  "visual_feat_dim=7"
#define LAST_VISION(prefix)                                          \
  MODULE(prefix "encoder.x_layers.1.visn_self_att.self.query")       \
  MODULE(prefix "encoder.x_layers.1.visn_self_att.self.key")         \
  MODULE(prefix "encoder.x_layers.1.visn_self_att.self.value")       \
  MODULE(prefix "encoder.x_layers.1.visn_self_att.output.dense")     \
  MODULE(prefix "encoder.x_layers.1.visn_self_att.output.LayerNorm") \
  MODULE(prefix "encoder.x_layers.1.visn_inter.dense")               \
  MODULE(prefix "encoder.x_layers.1.visn_output.dense") MODULE(prefix "encoder.x_layers.1.visn_output.LayerNorm")
#define OBJECT_HEADS                             \
  MODULE("obj_predict_head.transform.dense")     \
  MODULE("obj_predict_head.transform.LayerNorm") \
  MODULE("obj_predict_head.decoder_dict.obj")    \
  MODULE("obj_predict_head.decoder_dict.attr") MODULE("obj_predict_head.decoder_dict.feat")
#define LLAMA                                                                                                   \
  "hidden_size=32 num_attention_heads=4 num_key_value_heads=2 intermediate_size=40 num_hidden_layers=2 vocab_size=99 " \
  "attention_dropout=0.12"
#define CLIP_TEXT                                                                                                \
  "hidden_size=24 num_hidden_layers=2 num_attention_heads=3 intermediate_size=40 vocab_size=99 eos_token_id=98 " \
  "attention_dropout=0.11"
#define CLIP_IMAGE                                                                                            \
  "hidden_size=24 num_hidden_layers=2 num_attention_heads=2 intermediate_size=40 image_size=12 patch_size=4 " \
  "attention_dropout=0.12"

typedef struct expectation {
  const char *model;      /* of the suite; NULL: a class */
  const char *class_name; /* NULL: the model's */
  const char *overrides;
  const char *arguments; /* "input_ids:2x24 labels:2"; NULL: the model's */
  int batch, length;     /* of a model */
  const char *sites, *no_grad;
} expectation;

static const expectation expectations[] = {
#define SUITE_SITES(model, overrides, batch, length, sites, no_grad) \
  {model, NULL, overrides, NULL, batch, length, sites, no_grad},
#define CLASS_SITES(class_name, overrides, arguments, sites, no_grad) \
  {NULL, class_name, overrides, arguments, 0, 0, sites, no_grad},
#include "test_dropout_sites.def"
#undef SUITE_SITES
#undef CLASS_SITES
};
enum { EXPECTATIONS = (int)(sizeof expectations / sizeof expectations[0]), ARGUMENTS = 8, SITES = 64 };

/* ---- Building ---- */

static hfb_shape parse_shape(const char *text) {
  int64_t dims[HFB_MAX_RANK];
  int rank = 0;
  for (char *end; *text != '\0'; text = end + (*end == 'x')) dims[rank++] = strtoll(text, &end, 10);
  return hfb_shape_of(rank, dims);
}

/* "name:2x24 .." to I64 arguments, "name:f:2x3x12x12" to F32; `text` keeps the names. */
static int parse_arguments(char *text, hfb_model_input *out) {
  int count = 0;
  for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
    char *colon = strchr(word, ':');
    assert_non_null(colon);
    *colon = '\0';
    assert_true(count < ARGUMENTS);
    bool is_float = strncmp(colon + 1, "f:", 2) == 0;
    out[count++] = (hfb_model_input){
        .name = word, .dtype = is_float ? HFB_F32 : HFB_I64, .shape = parse_shape(colon + (is_float ? 3 : 1))};
  }
  return count;
}

static hfb_graph *build(const expectation *e, bool training, bool no_dropout) {
  char text[256], overrides[1024];
  hfb_suite_input suite[HFB_SUITE_INPUT_MAX];
  hfb_model_input inputs[ARGUMENTS];
  hfb_model_request request = {
      .class_name = e->class_name, .training = training, .no_dropout = no_dropout, .inputs = inputs};
  const hfb_model_row *row = NULL;
  hfb_model_class known;
  hfb_config *config = NULL;
  hfb_graph *graph = NULL;
  if (e->model != NULL) {
    TRY(hfb_model_find(e->model, &row));
    request.class_name = row->class_name;
  }
  snprintf(overrides, sizeof overrides, "%s %s", row != NULL ? row->overrides : "", e->overrides);
  TRY(hfb_model_class_find(request.class_name, &known));
  TRY(hfb_config_create(known.model_type, overrides, &config));
  if (row != NULL) {
    TRY(hfb_model_suite_inputs(row, config, e->batch, e->length, suite, &request.input_count));
    for (int i = 0; i < request.input_count; i++) inputs[i] = suite[i].input;
  } else {
    snprintf(text, sizeof text, "%s", e->arguments);
    request.input_count = parse_arguments(text, inputs);
  }
  request.config = config;
  TRY(hfb_model_build(&request, &graph));
  hfb_config_destroy(config);
  return graph;
}

static const char *name_of(const expectation *e) {
  return e->model != NULL ? e->model : e->class_name;
}

/* ---- Sites ---- */

/* Shapes agree up to reshapes and the order of batch and tokens: [B*H,S,S] is [B,H,S,S] here, [S,B,D] is [B,S,D]. */
typedef struct site {
  double p;
  int64_t elements, width; /* of the last dimension; -1: any */
  bool layer;              /* LayerDrop */
} site;

static int expected_sites(const expectation *e, site *out) {
  char text[512];
  int count = 0;
  assert_true(snprintf(text, sizeof text, "%s", e->sites) < (int)sizeof text);
  for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
    char shape_text[64];
    double p;
    int times;
    if (sscanf(word, "%lf:%63[^*]*%d", &p, shape_text, &times) != 3) fail_msg("%s: site '%s'", name_of(e), word);
    site each = {.p = p, .elements = 1, .width = 1, .layer = strcmp(shape_text, "scalar") == 0};
    if (strcmp(shape_text, "banded") == 0) {
      each.elements = each.width = -1;
    } else if (!each.layer) {
      hfb_shape shape = parse_shape(shape_text);
      each.elements = hfb_shape_elements(&shape);
      each.width = shape.dim[shape.rank - 1];
    }
    for (int i = 0; i < times; i++) {
      assert_true(count < SITES);
      out[count++] = each;
    }
  }
  return count;
}

/* The mask of a whole layer is a scalar; dropout is never one. Other masks that are drawn alone are random bits. */
static int drawn_sites(const hfb_graph *graph, site *out) {
  int count = 0;
  for (int i = 0; i < graph->node_count; i++) {
    const hfb_node *node = graph->nodes[i];
    if (node->op != HFB_OP_DROPOUT && node->op != HFB_OP_RANDOM_KEEP) continue;
    const hfb_shape *shape = &node->results[0].shape;
    bool layer = shape->rank == 0;
    assert_true(!layer || node->op == HFB_OP_RANDOM_KEEP);
    assert_true(count < SITES);
    out[count++] = (site){.p = hfb_node_float(node, HFB_ATTR_P),
                          .elements = hfb_shape_elements(shape),
                          .width = layer ? 1 : shape->dim[shape->rank - 1],
                          .layer = layer};
  }
  return count;
}

static bool same_site(const site *expected, const site *drawn) {
  bool any = expected->elements < 0;
  return expected->p == drawn->p && expected->layer == drawn->layer &&
         (any || (expected->elements == drawn->elements && expected->width == drawn->width));
}

static bool draws(const hfb_node *node) { return hfb_node_attr(node, HFB_ATTR_SITE) != NULL; }

/* Sites, those of random rotations too, are numbered 0, 1, .. : none shares its stream with another. */
static void check_streams(const expectation *e, const hfb_graph *graph) {
  bool seen[SITES] = {false};
  int count = 0;
  for (int i = 0; i < graph->node_count; i++) count += draws(graph->nodes[i]);
  assert_true(count <= SITES);
  assert_int_equal(hfb_graph_find_parameter(graph, HFB_RANDOM_STATE) >= 0, count > 0);
  for (int i = 0; i < graph->node_count; i++) {
    const hfb_node *node = graph->nodes[i];
    if (!draws(node)) continue;
    int64_t number = hfb_node_int(node, HFB_ATTR_SITE);
    if (number < 0 || number >= count || seen[number]) fail_msg("%s: site %lld", name_of(e), (long long)number);
    seen[number] = true;
  }
}

static void check_sites(const expectation *e, const hfb_graph *graph) {
  site expected[SITES], drawn[SITES];
  bool used[SITES] = {false};
  int expected_count = expected_sites(e, expected), count = drawn_sites(graph, drawn);
  for (int i = 0; i < expected_count; i++) {
    int j = 0;
    while (j < count && (used[j] || !same_site(&expected[i], &drawn[j]))) j++;
    if (j == count) {
      fail_msg("%s (%s): nothing of %lld elements in rows of %lld is dropped with %g", name_of(e), e->overrides,
               (long long)expected[i].elements, (long long)expected[i].width, expected[i].p);
    }
    used[j] = true;
  }
  for (int j = 0; j < count; j++) {
    if (used[j]) continue;
    fail_msg("%s (%s): %lld elements in rows of %lld are dropped with %g", name_of(e), e->overrides,
             (long long)drawn[j].elements, (long long)drawn[j].width, drawn[j].p);
  }
  check_streams(e, graph);
}

static void test_sites(void **state) {
  for (int i = 0; i < EXPECTATIONS; i++) {
    hfb_graph *graph = build(&expectations[i], true, false);
    TRY(hfb_graph_verify(graph));
    check_sites(&expectations[i], graph);
    hfb_graph_destroy(graph);
  }
}

static bool has_op(const hfb_graph *graph, hfb_op op) {
  for (int i = 0; i < graph->node_count; i++) {
    if (graph->nodes[i]->op == op) return true;
  }
  return false;
}

/* Neither evaluation nor training without dropout draws anything, but for what Reformer hashes with. */
static void test_nothing_is_drawn(void **state) {
  site drawn[SITES];
  for (int i = 0; i < EXPECTATIONS; i++) {
    for (int training = 0; training < 2; training++) {
      hfb_graph *graph = build(&expectations[i], training, training);
      if (drawn_sites(graph, drawn) != 0) fail_msg("%s draws (training %d)", name_of(&expectations[i]), training);
      assert_int_equal(hfb_graph_find_parameter(graph, HFB_RANDOM_STATE) >= 0, has_op(graph, HFB_OP_RANDOM_NORMAL));
      hfb_graph_destroy(graph);
    }
  }
}

/* ---- Gradients ---- */

/* The first output, or the sum of it when it is no scalar. */
static hfb_value *loss_of(hfb_rewrite *rewrite) {
  hfb_value *first = rewrite->map[rewrite->from->outputs[0].value->id];
  int axes[HFB_MAX_RANK];
  for (int i = 0; i < first->shape.rank; i++) axes[i] = i;
  return first->shape.rank == 0 ? first
                                : hfb_reduce(&rewrite->b, HFB_OP_REDUCE_SUM, first, first->shape.rank, axes, false);
}

/* Whether `name` is in the list, where # stands for a number. */
static bool is_listed(const char *list, const char *name) {
  for (const char *at = list + strspn(list, " "); *at != '\0'; at += strspn(at, " ")) {
    const char *end = at + strcspn(at, " "), *rest = name;
    while (at < end && *rest != '\0' && (*at == '#' || *at == *rest)) {
      rest += *at == '#' ? strspn(rest, "0123456789") : 1;
      at++;
    }
    if (at == end && *rest == '\0') return true;
    at = end;
  }
  return false;
}

/* The parameters that the loss does not reach are the listed ones. */
static void check_gradients(const expectation *e, hfb_rewrite *rewrite) {
  const hfb_graph *forward = rewrite->from;
  hfb_value **trainable = NULL, **gradients = NULL;
  int count = 0;
  TRY(hfb_mem_alloc((size_t)forward->parameter_count, sizeof *trainable, &trainable));
  TRY(hfb_mem_alloc((size_t)forward->parameter_count, sizeof *gradients, &gradients));
  for (int i = 0; i < forward->node_count; i++) hfb_rewrite_copy(rewrite, forward->nodes[i]);
  for (int i = 0; i < forward->parameter_count; i++) {
    const hfb_value *parameter = forward->parameters[i];
    if (hfb_node_int(parameter->node, HFB_ATTR_TRAINABLE)) trainable[count++] = rewrite->map[parameter->id];
  }
  hfb_backward(&rewrite->b, loss_of(rewrite), count, trainable, NULL, gradients);
  if (rewrite->b.status != HFB_OK) fail_msg("%s: %s", name_of(e), rewrite->b.message);
  for (int i = 0; i < count; i++) {
    const char *name = hfb_node_text(trainable[i]->node, HFB_ATTR_NAME, "");
    bool listed = is_listed(e->no_grad, name);
    if (listed == (gradients[i] == NULL)) continue;
    fail_msg("%s: '%s' has %s gradient", name_of(e), name, listed ? "a" : "no");
  }
  hfb_mem_free(gradients);
  hfb_mem_free(trainable);
}

static void test_gradients(void **state) {
  for (int i = 0; i < EXPECTATIONS; i++) {
    hfb_rewrite rewrite;
    hfb_graph *graph = build(&expectations[i], true, false);
    TRY(hfb_rewrite_begin(&rewrite, graph));
    check_gradients(&expectations[i], &rewrite);
    hfb_rewrite_deinit(&rewrite);
    hfb_graph_destroy(graph);
  }
}

/* ---- Completeness ---- */

/* The tables name every class and every model of the suite. */
static void test_all_are_named(void **state) {
  for (int i = 0; i < hfb_model_class_count(); i++) {
    const char *name = hfb_model_class_at(i).name;
    int j = 0;
    while (j < EXPECTATIONS && (expectations[j].class_name == NULL || strcmp(expectations[j].class_name, name) != 0)) {
      j++;
    }
    if (j == EXPECTATIONS) fail_msg("no row for class %s", name);
  }
  for (int i = 0; i < hfb_model_row_count(); i++) {
    const char *name = hfb_model_row_at(i)->name;
    int j = 0;
    while (j < EXPECTATIONS && (expectations[j].model == NULL || strcmp(expectations[j].model, name) != 0)) j++;
    if (j == EXPECTATIONS) fail_msg("no row for model %s", name);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_all_are_named),
      cmocka_unit_test(test_sites),
      cmocka_unit_test(test_nothing_is_drawn),
      cmocka_unit_test(test_gradients),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
