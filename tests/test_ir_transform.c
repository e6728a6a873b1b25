/* Rewriting, precision, decomposition, use counts and cost. Whether decompositions compute the same numbers as their
 * ops is tested with the kernels. */
#include <math.h>

#include "test_ir_support.h"

#include "base/memory.h"

static hfb_graph *decompose(const hfb_graph *graph) {
  hfb_graph *result = NULL;
  if (hfb_graph_decompose(graph, &result) != HFB_OK) fail_msg("%s", hfb_error_message());
  return result;
}

static bool is_framework(hfb_op op) {
  return hfb_op_info_of(op)->level == HFB_LEVEL_FRAMEWORK;
}

/* ---- decomposition ---- */

static void test_every_op_decomposes_to_primitives(void **state) {
  (void)state;
  int replaced[HFB_OP_COUNT] = {0};
  for (int i = 0; i < IR_CASE_COUNT; i++) {
    const ir_case *c = &ir_cases[i];
    if (c->message) continue;
    hfb_graph *graph = ir_case_graph(c), *primitives = decompose(graph);
    for (int n = 0; n < primitives->node_count; n++) {
      hfb_op op = primitives->nodes[n]->op;
      if (is_framework(op)) fail_msg("%s left over from %s", hfb_op_info_of(op)->name, hfb_op_info_of(c->op)->name);
    }
    assert_int_equal(primitives->output_count, graph->output_count);
    for (int o = 0; o < graph->output_count; o++) {
      const hfb_value *before = graph->outputs[o].value, *after = primitives->outputs[o].value;
      assert_int_equal(after->dtype, before->dtype);
      assert_true(hfb_shape_equal(&after->shape, &before->shape));
    }
    assert_int_equal(primitives->input_count, graph->input_count);
    assert_int_equal(primitives->parameter_count, graph->parameter_count);
    if (is_framework(c->op)) {
      replaced[c->op]++;
    } else { /* a primitive is copied as it is */
      hfb_strbuf text;
      hfb_strbuf_init(&text);
      assert_int_equal(hfb_graph_print(graph, &text), HFB_OK);
      ir_assert_prints(primitives, hfb_strbuf_text(&text));
      hfb_strbuf_deinit(&text);
    }
    hfb_graph_destroy(graph);
    hfb_graph_destroy(primitives);
  }
  for (int op = 0; op < HFB_OP_COUNT; op++) assert_true(replaced[op] > 0 || !is_framework((hfb_op)op));
}

/* bf16 and f16: all arithmetic in f32, one cast of each result at the end. */
static void test_half_precision_computes_in_f32(void **state) {
  (void)state;
  int checked = 0;
  for (int i = 0; i < IR_CASE_COUNT; i++) {
    const ir_case *c = &ir_cases[i];
    const hfb_op_info *info = hfb_op_info_of(c->op);
    bool half = strncmp(c->result, "bf16", 4) == 0 || strncmp(c->result, "f16", 3) == 0;
    if (c->message || !half || !is_framework(c->op) || info->tolerance == HFB_TOL_EXACT || c->op == HFB_OP_LINEAR) {
      continue;
    }
    hfb_graph *graph = ir_case_graph(c), *primitives = decompose(graph);
    int half_nodes = 0;
    for (int n = 0; n < primitives->node_count; n++) {
      const hfb_node *node = primitives->nodes[n];
      hfb_dtype dtype = node->results[0].dtype;
      if (node->op == HFB_OP_INPUT || (dtype != HFB_BF16 && dtype != HFB_F16)) continue;
      bool is_output = false;
      for (int o = 0; o < primitives->output_count; o++) {
        is_output |= primitives->outputs[o].value == &node->results[0];
      }
      assert_true(is_output);
      assert_int_equal(node->op, HFB_OP_CAST);
      half_nodes++;
    }
    assert_int_equal(half_nodes, info->result_count);
    checked++;
    hfb_graph_destroy(graph);
    hfb_graph_destroy(primitives);
  }
  assert_true(checked >= 20);
}

static const struct {
  const char *before, *after;
} golden[] = {
    {"graph \"softmax\" {\n"
     "  %0 = input(name=\"x\") : f32[2,3]\n"
     "  %1 = softmax(%0; axis=0, scope=\"a.b\") : f32[2,3]\n"
     "  output \"y\" = %1\n"
     "}\n",
     "graph \"softmax\" {\n"
     "  %0 = input(name=\"x\") : f32[2,3]\n"
     "  %1 = reduce_max(%0; axes=[0], keepdim=1, scope=\"a.b\") : f32[1,3]\n"
     "  %2 = sub(%0, %1; scope=\"a.b\") : f32[2,3]\n"
     "  %3 = exp(%2; scope=\"a.b\") : f32[2,3]\n"
     "  %4 = reduce_sum(%3; axes=[0], keepdim=1, scope=\"a.b\") : f32[1,3]\n"
     "  %5 = div(%3, %4; scope=\"a.b\") : f32[2,3]\n"
     "  output \"y\" = %5\n"
     "}\n"},
    {"graph \"vector\" {\n"
     "  %0 = input(name=\"x\") : f32[3]\n"
     "  %1 = input(name=\"w\") : f32[4,3]\n"
     "  %2 = input(name=\"b\") : f32[4]\n"
     "  %3 = linear(%0, %1, %2; transpose_b=1) : f32[4]\n"
     "  output \"y\" = %3\n"
     "}\n",
     "graph \"vector\" {\n"
     "  %0 = input(name=\"x\") : f32[3]\n"
     "  %1 = input(name=\"w\") : f32[4,3]\n"
     "  %2 = input(name=\"b\") : f32[4]\n"
     "  %3 = reshape(%0) : f32[1,3]\n"
     "  %4 = matmul(%3, %1; transpose_a=0, transpose_b=1) : f32[1,4]\n"
     "  %5 = reshape(%4) : f32[4]\n"
     "  %6 = add(%5, %2) : f32[4]\n"
     "  output \"y\" = %6\n"
     "}\n"},
    {"graph \"norm\" {\n"
     "  %0 = input(name=\"x\") : f32[2,4]\n"
     "  %1 = input(name=\"w\") : f32[4]\n"
     "  %2 = layer_norm(%0, %1, %1; eps=0.5) : f32[2,4]\n"
     "  output \"y\" = %2\n"
     "}\n",
     "graph \"norm\" {\n"
     "  %0 = input(name=\"x\") : f32[2,4]\n"
     "  %1 = input(name=\"w\") : f32[4]\n"
     "  %2 = reduce_sum(%0; axes=[1], keepdim=1) : f32[2,1]\n"
     "  %3 = full(value=4) : f32[]\n"
     "  %4 = div(%2, %3) : f32[2,1]\n"
     "  %5 = sub(%0, %4) : f32[2,4]\n"
     "  %6 = mul(%5, %5) : f32[2,4]\n"
     "  %7 = reduce_sum(%6; axes=[1], keepdim=1) : f32[2,1]\n"
     "  %8 = full(value=4) : f32[]\n"
     "  %9 = div(%7, %8) : f32[2,1]\n"
     "  %10 = add_scalar(%9; value=0.5) : f32[2,1]\n"
     "  %11 = rsqrt(%10) : f32[2,1]\n"
     "  %12 = mul(%5, %11) : f32[2,4]\n"
     "  %13 = mul(%12, %1) : f32[2,4]\n"
     "  %14 = add(%13, %1) : f32[2,4]\n"
     "  output \"y\" = %14\n"
     "}\n"},
    {"graph \"loss\" {\n"
     "  %0 = input(name=\"p\") : f32[5,7]\n"
     "  %1 = input(name=\"t\") : i64[5]\n"
     "  %2 = nll_loss(%0, %1; ignore_index=-100) : f32[]\n"
     "  output \"loss\" = %2\n"
     "}\n",
     "graph \"loss\" {\n"
     "  %0 = input(name=\"p\") : f32[5,7]\n"
     "  %1 = input(name=\"t\") : i64[5]\n"
     "  %2 = full(value=-100) : i64[]\n"
     "  %3 = ne(%1, %2) : bool[5]\n"
     "  %4 = full(value=0) : i64[]\n"
     "  %5 = where(%3, %1, %4) : i64[5]\n"
     "  %6 = reshape(%5) : i64[5,1]\n"
     "  %7 = take_along(%0, %6; axis=1) : f32[5,1]\n"
     "  %8 = reshape(%7) : f32[5]\n"
     "  %9 = neg(%8) : f32[5]\n"
     "  %10 = full(value=0) : f32[]\n"
     "  %11 = where(%3, %9, %10) : f32[5]\n"
     "  %12 = reduce_sum(%11; axes=[0], keepdim=0) : f32[]\n"
     "  %13 = cast(%3) : i64[5]\n"
     "  %14 = reduce_sum(%13; axes=[0], keepdim=0) : i64[]\n"
     "  %15 = cast(%14) : f32[]\n"
     "  %16 = div(%12, %15) : f32[]\n"
     "  output \"loss\" = %16\n"
     "}\n"},
    {"graph \"ids\" {\n"
     "  %0 = input(name=\"table\") : f32[9,4]\n"
     "  %1 = input(name=\"ids\") : i64[2,3]\n"
     "  %2 = embedding(%0, %1; padding_idx=1) : f32[2,3,4]\n"
     "  output \"y\" = %2\n"
     "  output \"again\" = %2\n"
     "}\n",
     "graph \"ids\" {\n"
     "  %0 = input(name=\"table\") : f32[9,4]\n"
     "  %1 = input(name=\"ids\") : i64[2,3]\n"
     "  %2 = gather(%0, %1; axis=0) : f32[2,3,4]\n"
     "  output \"y\" = %2\n"
     "  output \"again\" = %2\n"
     "}\n"},
    {"graph \"dropped\" {\n"
     "  %0 = input(name=\"x\") : f32[2,3]\n"
     "  %1 = input(name=\"state\") : i64[2]\n"
     "  %2 = dropout(%0, %1; p=0.5, site=7) : f32[2,3]\n"
     "  output \"y\" = %2\n"
     "}\n",
     "graph \"dropped\" {\n"
     "  %0 = input(name=\"x\") : f32[2,3]\n"
     "  %1 = input(name=\"state\") : i64[2]\n"
     "  %2 = iota(axis=0) : i64[6]\n"
     "  %3 = reshape(%2) : i64[2,3]\n"
     "  %4 = slice(%1; starts=[0], limits=[1], steps=[1]) : i64[1]\n"
     "  %5 = reshape(%4) : i64[]\n"
     "  %6 = slice(%1; starts=[1], limits=[2], steps=[1]) : i64[1]\n"
     "  %7 = reshape(%6) : i64[]\n"
     "  %8 = random_keep(%3, %5, %7; p=0.5, site=7) : bool[2,3]\n"
     "  %9 = mul_scalar(%0; value=2) : f32[2,3]\n"
     "  %10 = full(value=0) : f32[]\n"
     "  %11 = where(%8, %9, %10) : f32[2,3]\n"
     "  output \"y\" = %11\n"
     "}\n"},
    {"graph \"padded\" {\n"
     "  %0 = input(name=\"g\") : f32[2,3,4]\n"
     "  %1 = input(name=\"ids\") : i64[2,3]\n"
     "  %2 = embedding_backward(%0, %1; padding_idx=1) : f32[9,4]\n"
     "  %3 = embedding_backward(%0, %1; padding_idx=-1) : f32[9,4]\n"
     "  output \"y\" = %2\n"
     "  output \"z\" = %3\n"
     "}\n",
     "graph \"padded\" {\n"
     "  %0 = input(name=\"g\") : f32[2,3,4]\n"
     "  %1 = input(name=\"ids\") : i64[2,3]\n"
     "  %2 = full(value=1) : i64[]\n"
     "  %3 = eq(%1, %2) : bool[2,3]\n"
     "  %4 = reshape(%3) : bool[2,3,1]\n"
     "  %5 = full(value=0) : f32[]\n"
     "  %6 = where(%4, %5, %0) : f32[2,3,4]\n"
     "  %7 = gather_backward(%6, %1; axis=0) : f32[9,4]\n"
     "  %8 = gather_backward(%0, %1; axis=0) : f32[9,4]\n"
     "  output \"y\" = %7\n"
     "  output \"z\" = %8\n"
     "}\n"},
};

static void test_decompositions_in_text(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof(golden) / sizeof(golden[0]); i++) {
    hfb_graph *graph = ir_parse(golden[i].before), *primitives = decompose(graph);
    ir_assert_prints(primitives, golden[i].after);
    hfb_graph_destroy(graph);
    hfb_graph_destroy(primitives);
  }
}

/* A backward norm starts with the nodes of its forward op, so that both merge to one. */
static void test_norms_share_nodes_with_their_gradients(void **state) {
  (void)state;
  static const char *const texts[] = {
      "graph \"g\" {\n%x = input(name=\"x\") : f32[2,4]\n%w = input(name=\"w\") : f32[4]\n"
      "%y = layer_norm(%x, %w, %w; eps=0.5) : f32[2,4]\n"
      "%dx, %dw, %db = layer_norm_backward(%y, %x, %w; eps=0.5) : f32[2,4], f32[4], f32[4]\noutput \"dx\" = %dx\n}",
      "graph \"g\" {\n%x = input(name=\"x\") : f32[2,4]\n%w = input(name=\"w\") : f32[4]\n"
      "%y = rms_norm(%x, %w; eps=0.5) : f32[2,4]\n"
      "%dx, %dw = rms_norm_backward(%y, %x, %w; eps=0.5) : f32[2,4], f32[4]\noutput \"dx\" = %dx\n}"};
  static const int forward_nodes[] = {13, 8}, shared_nodes[] = {11, 7}; /* shared: up to x / deviation */
  for (int t = 0; t < 2; t++) {
    hfb_graph *graph = ir_parse(texts[t]), *primitives = decompose(graph);
    for (int i = 0; i < shared_nodes[t]; i++) {
      const hfb_node *forward = primitives->nodes[2 + i], *again = primitives->nodes[2 + forward_nodes[t] + i];
      assert_int_equal(again->op, forward->op);
      assert_int_equal(again->input_count, forward->input_count);
      for (int k = 0; k < forward->input_count; k++) {
        int shift = forward->inputs[k]->node->op == HFB_OP_INPUT ? 0 : forward_nodes[t];
        assert_int_equal(again->inputs[k]->node->id, forward->inputs[k]->node->id + shift);
      }
    }
    hfb_graph_destroy(graph);
    hfb_graph_destroy(primitives);
  }
}

/* The nodes that make the angle of the Fourier matrices: 2 pi ((i j) mod n) / n with n = 24. */
static void test_the_fourier_angle(void **state) {
  (void)state;
  static const struct {
    hfb_op op;
    hfb_dtype dtype;
    double value;
  } expected[] = {
      {HFB_OP_IOTA, HFB_I64, 0},
      {HFB_OP_IOTA, HFB_I64, 0},
      {HFB_OP_MUL, HFB_I64, 0},
      {HFB_OP_CAST, HFB_F64, 0},
      {HFB_OP_ADD_SCALAR, HFB_F64, 0.5},
      {HFB_OP_MUL_SCALAR, HFB_F64, 1.0 / 24},
      {HFB_OP_CAST, HFB_I64, 0},
      {HFB_OP_MUL_SCALAR, HFB_I64, 24},
      {HFB_OP_SUB, HFB_I64, 0},
      {HFB_OP_CAST, HFB_F64, 0},
      {HFB_OP_MUL_SCALAR, HFB_F64, M_PI / 12},
      {HFB_OP_COS, HFB_F64, 0},
      {HFB_OP_CAST, HFB_F32, 0},
      {HFB_OP_SIN, HFB_F64, 0},
      {HFB_OP_CAST, HFB_F32, 0},
  };
  hfb_graph *graph = ir_parse(
      "graph \"dft\" {\n"
      "  %0 = input(name=\"x\") : f32[24,24]\n"
      "  %1 = fft2_real(%0) : f32[24,24]\n"
      "  output \"y\" = %1\n"
      "}\n");
  hfb_graph *primitives = decompose(graph);
  for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
    const hfb_node *node = primitives->nodes[i + 1];
    assert_int_equal(node->op, expected[i].op);
    assert_int_equal(node->results[0].dtype, expected[i].dtype);
    if (expected[i].value != 0) assert_true(hfb_node_float(node, HFB_ATTR_VALUE) == expected[i].value);
  }
  hfb_graph_destroy(graph);
  hfb_graph_destroy(primitives);
}

/* The integer division in there, (long)((i j + 0.5) * (1.0 / n)), rounds down for the products that occur at sizes of
 * models and at the largest size that a shape allows. */
static void test_the_fourier_angle_division_is_exact(void **state) {
  (void)state;
  for (int64_t n = 1; n <= 1024; n++) {
    double inverse = 1.0 / (double)n;
    for (int64_t product = n > 64 ? (n - 2) * (n - 2) : 0; product <= (n - 1) * (n - 1); product++) {
      assert_int_equal((int64_t)(((double)product + 0.5) * inverse), product / n);
    }
    for (int64_t whole = 0; whole < n; whole++) { /* both sides of every whole number */
      assert_int_equal((int64_t)(((double)(whole * n) + 0.5) * inverse), whole);
      assert_int_equal((int64_t)(((double)(whole * n + n - 1) + 0.5) * inverse), whole);
    }
  }
  for (int64_t n = (1 << 20) - 50; n <= 1 << 20; n++) {
    double inverse = 1.0 / (double)n;
    for (int64_t whole = n - 1000; whole < n; whole++) {
      assert_int_equal((int64_t)(((double)(whole * n) + 0.5) * inverse), whole);
      assert_int_equal((int64_t)(((double)(whole * n + n - 1) + 0.5) * inverse), whole);
    }
  }
}

static void test_a_decomposition_that_cannot_exist_is_an_error(void **state) {
  (void)state;
  hfb_graph *graph = ir_parse(
      "graph \"huge\" {\n"
      "  %0 = input(name=\"x\") : f32[1,1048577]\n"
      "  %1 = fft2_real(%0) : f32[1,1048577]\n"
      "  output \"y\" = %1\n"
      "}\n");
  hfb_graph *primitives = NULL;
  assert_int_not_equal(hfb_graph_decompose(graph, &primitives), HFB_OK);
  assert_null(primitives);
  ir_assert_message("more than 2^40 elements");
  hfb_graph_destroy(graph);
}

/* ---- precision ---- */

static void test_convert_to_f64(void **state) {
  (void)state;
  hfb_graph *graph = ir_parse(
      "graph \"g\" {\n"
      "  %0 = input(name=\"x\", scope=\"in\") : f32[2]\n"
      "  %1 = input(name=\"i\") : i64[2]\n"
      "  %2 = parameter(name=\"w\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=1, buffer=0) : f32[2]\n"
      "  %3 = constant(data=[0.1,-2]) : f32[2]\n"
      "  %4 = constant(data=[3,4]) : i64[2]\n"
      "  %5 = full(value=0.1) : f32[]\n"
      "  %6 = iota(axis=0) : f32[2]\n"
      "  %7 = cast(%1) : f32[2]\n"
      "  %8 = cast(%0) : f64[2]\n"
      "  %9 = cast(%0) : bf16[2]\n"
      "  %10 = cast(%7) : i64[2]\n"
      "  %11 = add(%7, %3) : f32[2]\n"
      "  %12 = lt(%11, %5) : bool[2]\n"
      "  %13 = iota(axis=0) : i64[2]\n"
      "  output \"y\" = %11\n"
      "  output \"z\" = %8\n"
      "}\n");
  hfb_graph *wide = NULL;
  assert_int_equal(hfb_graph_convert(graph, HFB_F64, &wide), HFB_OK);
  ir_assert_prints(
      wide,
      "graph \"g\" {\n"
      "  %0 = input(name=\"x\", scope=\"in\") : f64[2]\n"
      "  %1 = input(name=\"i\") : i64[2]\n"
      "  %2 = parameter(name=\"w\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=1, buffer=0) : f64[2]\n"
      "  %3 = constant(data=[0.10000000149011612,-2]) : f64[2]\n"
      "  %4 = constant(data=[3,4]) : i64[2]\n"
      "  %5 = full(value=0.10000000000000001) : f64[]\n"
      "  %6 = iota(axis=0) : f64[2]\n"
      "  %7 = cast(%1) : f64[2]\n"
      "  %8 = cast(%0) : f64[2]\n"
      "  %9 = cast(%0) : bf16[2]\n"
      "  %10 = cast(%7) : i64[2]\n"
      "  %11 = add(%7, %3) : f64[2]\n"
      "  %12 = lt(%11, %5) : bool[2]\n"
      "  %13 = iota(axis=0) : i64[2]\n"
      "  output \"y\" = %11\n"
      "  output \"z\" = %8\n"
      "}\n");
  hfb_graph *same = NULL;
  assert_int_equal(hfb_graph_convert(graph, HFB_F32, &same), HFB_OK);
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  assert_int_equal(hfb_graph_print(graph, &text), HFB_OK);
  ir_assert_prints(same, hfb_strbuf_text(&text));
  hfb_strbuf_deinit(&text);
  hfb_graph *none = NULL;
  assert_int_equal(hfb_graph_convert(graph, HFB_I64, &none), HFB_INVALID_ARGUMENT);
  ir_assert_message("cannot be converted to i64");
  assert_null(none);
  hfb_graph_destroy(wide);
  hfb_graph_destroy(same);
  hfb_graph_destroy(graph);
}

static void test_every_case_converts(void **state) {
  (void)state;
  for (int i = 0; i < IR_CASE_COUNT; i++) {
    if (ir_cases[i].message) continue;
    hfb_graph *graph = ir_case_graph(&ir_cases[i]), *wide = NULL;
    if (hfb_graph_convert(graph, HFB_F64, &wide) != HFB_OK) fail_msg("%s", hfb_error_message());
    for (int n = 0; n < wide->node_count; n++) {
      hfb_dtype before = graph->nodes[n]->results[0].dtype, after = wide->nodes[n]->results[0].dtype;
      assert_int_equal(after, before == HFB_F32 ? HFB_F64 : before);
    }
    hfb_graph_destroy(graph);
    hfb_graph_destroy(wide);
  }
}

/* ---- stored parameters ---- */

/* Each reader has a cast of its own right before it; lookups and views come before theirs; "v" stays as it is. */
static void test_stored_parameters(void **state) {
  (void)state;
  hfb_graph *graph = ir_parse(
      "graph \"g\" {\n"
      "  %0 = input(name=\"ids\") : i64[3]\n"
      "  %1 = parameter(name=\"w\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=1, buffer=0) : f32[8,4]\n"
      "  %2 = parameter(name=\"v\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=1, buffer=0) : f32[4]\n"
      "  %3 = embedding(%1, %0; padding_idx=-1) : f32[3,4]\n"
      "  %4 = mul(%3, %2) : f32[3,4]\n"
      "  %5 = linear(%4, %1; transpose_b=1, scope=\"head\") : f32[3,8]\n"
      "  %6 = transpose(%1; perm=[1,0]) : f32[4,8]\n"
      "  %7 = add(%6, %6) : f32[4,8]\n"
      "  output \"y\" = %5\n"
      "  output \"z\" = %7\n"
      "  output \"t\" = %6\n"
      "}\n");
  const hfb_dtype dtypes[] = {HFB_BF16, HFB_F32}, as_it_is[] = {HFB_F32, HFB_F32}, integer[] = {HFB_I64, HFB_F32};
  hfb_graph *stored = NULL;
  assert_int_equal(hfb_graph_store_parameters(graph, dtypes, &stored), HFB_OK);
  ir_assert_prints(
      stored,
      "graph \"g\" {\n"
      "  %0 = input(name=\"ids\") : i64[3]\n"
      "  %1 = parameter(name=\"w\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=1, buffer=0) : bf16[8,4]\n"
      "  %2 = parameter(name=\"v\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=1, buffer=0) : f32[4]\n"
      "  %3 = embedding(%1, %0; padding_idx=-1) : bf16[3,4]\n"
      "  %4 = cast(%3) : f32[3,4]\n"
      "  %5 = mul(%4, %2) : f32[3,4]\n"
      "  %6 = cast(%1; scope=\"head\") : f32[8,4]\n"
      "  %7 = linear(%5, %6; transpose_b=1, scope=\"head\") : f32[3,8]\n"
      "  %8 = transpose(%1; perm=[1,0]) : bf16[4,8]\n"
      "  %9 = cast(%8) : f32[4,8]\n"
      "  %10 = cast(%8) : f32[4,8]\n"
      "  %11 = add(%10, %10) : f32[4,8]\n"
      "  %12 = cast(%8) : f32[4,8]\n"
      "  output \"y\" = %7\n"
      "  output \"z\" = %11\n"
      "  output \"t\" = %12\n"
      "}\n");
  hfb_graph_destroy(stored);
  assert_int_equal(hfb_graph_store_parameters(graph, as_it_is, &stored), HFB_OK);
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  assert_int_equal(hfb_graph_print(graph, &text), HFB_OK);
  ir_assert_prints(stored, hfb_strbuf_text(&text));
  hfb_strbuf_deinit(&text);
  hfb_graph_destroy(stored);
  stored = NULL;
  assert_int_equal(hfb_graph_store_parameters(graph, integer, &stored), HFB_INVALID_ARGUMENT);
  ir_assert_message("parameter 'w' is f32 and cannot be stored as i64");
  assert_null(stored);
  hfb_graph_destroy(graph);
}

static void test_results_are_not_stored_apart(void **state) {
  (void)state;
  static const char *const uses[] = {"  output \"y\" = %1\n", "  output \"x\" = %0\n  update %1 = %0\n"};
  for (int i = 0; i < 2; i++) {
    char text[512];
    snprintf(text, sizeof(text),
             "graph \"g\" {\n"
             "  %%0 = input(name=\"x\") : f64[2]\n"
             "  %%1 = parameter(name=\"w\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=1, buffer=0) : "
             "f64[2]\n%s}\n",
             uses[i]);
    hfb_graph *graph = ir_parse(text), *stored = NULL;
    const hfb_dtype dtypes[] = {HFB_F32};
    assert_int_equal(hfb_graph_store_parameters(graph, dtypes, &stored), HFB_UNSUPPORTED);
    ir_assert_message("parameter 'w' is an output or updated");
    assert_null(stored);
    hfb_graph_destroy(graph);
  }
}

/* ---- rewriting ---- */

static const char rewritten_text[] =
    "graph \"g\" {\n"
    "  %0 = input(name=\"a\") : f32[2]\n"
    "  %1 = input(name=\"b\") : f32[2]\n"
    "  %2 = parameter(name=\"w\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=1, buffer=0) : f32[2]\n"
    "  %3 = add(%0, %1; scope=\"s\") : f32[2]\n"
    "  %4 = neg(%3) : f32[2]\n"
    "  %5 = concat(%0, %1, %2, %3, %4; axis=0) : f32[10]\n"
    "  output \"y\" = %5\n"
    "}\n";

static void test_a_rewrite_replaces_a_node(void **state) {
  (void)state;
  hfb_graph *graph = ir_parse(rewritten_text), *result = NULL;
  hfb_rewrite rewrite;
  assert_int_equal(hfb_rewrite_begin(&rewrite, graph), HFB_OK);
  hfb_scope_push(&rewrite.b, "pass");
  for (int i = 0; i < graph->node_count; i++) {
    const hfb_node *node = graph->nodes[i];
    if (node->op == HFB_OP_NEG) {
      rewrite.map[node->results[0].id] = hfb_mul_scalar(&rewrite.b, rewrite.map[node->inputs[0]->id], -1);
    } else {
      hfb_rewrite_copy(&rewrite, node);
    }
  }
  hfb_scope_pop(&rewrite.b);
  assert_int_equal(hfb_rewrite_finish(&rewrite, &result), HFB_OK);
  hfb_rewrite_deinit(&rewrite);
  ir_assert_prints(
      result,
      "graph \"g\" {\n"
      "  %0 = input(name=\"a\") : f32[2]\n"
      "  %1 = input(name=\"b\") : f32[2]\n"
      "  %2 = parameter(name=\"w\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=1, buffer=0) : f32[2]\n"
      "  %3 = add(%0, %1; scope=\"s\") : f32[2]\n"
      "  %4 = mul_scalar(%3; value=-1, scope=\"pass\") : f32[2]\n"
      "  %5 = concat(%0, %1, %2, %3, %4; axis=0) : f32[10]\n"
      "  output \"y\" = %5\n"
      "}\n");
  hfb_graph_destroy(result);
  hfb_graph_destroy(graph);
}

/* Copies the nodes at these positions, in this order, and finishes. */
static void assert_rewrite_fails(int count, const int *order, const char *message) {
  hfb_graph *graph = ir_parse(rewritten_text), *result = NULL;
  hfb_rewrite rewrite;
  assert_int_equal(hfb_rewrite_begin(&rewrite, graph), HFB_OK);
  for (int i = 0; i < count; i++) hfb_rewrite_copy(&rewrite, graph->nodes[order[i]]);
  assert_int_not_equal(hfb_rewrite_finish(&rewrite, &result), HFB_OK);
  ir_assert_message(message);
  assert_null(result);
  hfb_rewrite_deinit(&rewrite);
  hfb_graph_destroy(graph);
}

static void test_wrong_rewrites_are_refused(void **state) {
  (void)state;
  assert_rewrite_fails(6, (int[]){1, 0, 2, 3, 4, 5}, "a rewrite changed the list of inputs");
  assert_rewrite_fails(2, (int[]){0, 3}, "add: input 1 is missing");
  assert_rewrite_fails(5, (int[]){0, 1, 2, 3, 4}, "output \"y\" is missing");
  assert_rewrite_fails(7, (int[]){0, 1, 2, 2, 3, 4, 5}, "parameter \"w\" exists already");
  hfb_graph *graph = ir_parse(
      "graph \"g\" {\n"
      "  %0 = input(name=\"unused\") : f32[2]\n"
      "  %1 = full(value=0) : f32[]\n"
      "  output \"y\" = %1\n"
      "}\n");
  hfb_graph *result = NULL;
  hfb_rewrite rewrite;
  assert_int_equal(hfb_rewrite_begin(&rewrite, graph), HFB_OK);
  hfb_rewrite_copy(&rewrite, graph->nodes[1]);
  assert_int_equal(hfb_rewrite_finish(&rewrite, &result), HFB_INTERNAL);
  ir_assert_message("a rewrite changed the list of inputs");
  hfb_rewrite_deinit(&rewrite);
  hfb_graph_destroy(graph);
}

/* ---- counts ---- */

/* Copies of every kind keep the updates, in order, of whatever result of whatever replaced the node. */
static void test_rewrites_keep_updates(void **state) {
  (void)state;
  static const char before[] =
      "graph \"g\" {\n"
      "  %0 = parameter(name=\"w\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=1, buffer=0) : f32[3]\n"
      "  %1 = parameter(name=\"v\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=1, buffer=0) : f32[3]\n"
      "  %2 = input(name=\"g\") : f32[2,3]\n"
      "  %3, %4 = rms_norm_backward(%2, %2, %0; eps=0.5) : f32[2,3], f32[3]\n"
      "  %5 = sgd(%0, %4; learning_rate=0.5) : f32[3]\n"
      "  output \"w\" = %0\n"
      "  update %1 = %4\n"
      "  update %0 = %5\n"
      "}\n";
  hfb_graph *graph = ir_parse(before), *copy, *wide, *primitives = decompose(graph);
  assert_int_equal(hfb_graph_convert(graph, HFB_F32, &copy), HFB_OK);
  ir_assert_prints(copy, before);
  assert_int_equal(hfb_graph_convert(graph, HFB_F64, &wide), HFB_OK);
  assert_int_equal(wide->updates[1].value->dtype, HFB_F64);
  const hfb_graph *const others[] = {copy, wide, primitives};
  for (int i = 0; i < 3; i++) {
    const hfb_graph *other = others[i];
    assert_int_equal(other->update_count, 2);
    assert_ptr_equal(other->updates[0].parameter, other->parameters[1]);
    assert_ptr_equal(other->updates[1].parameter, other->parameters[0]);
  }
  assert_int_equal(primitives->updates[0].value->node->op, HFB_OP_REDUCE_SUM);
  assert_int_equal(primitives->updates[1].value->node->op, HFB_OP_SUB);
  assert_ptr_equal(primitives->updates[1].value->node->inputs[0], primitives->parameters[0]);
  int *counts;
  assert_int_equal(hfb_graph_use_counts(graph, &counts), HFB_OK);
  assert_true(counts[0] == 3 && counts[3] == 0 && counts[4] == 2 && counts[5] == 1);
  hfb_mem_free(counts);
  hfb_graph_destroy(copy);
  hfb_graph_destroy(wide);
  hfb_graph_destroy(primitives);
  hfb_graph_destroy(graph);
}

static void test_use_counts(void **state) {
  (void)state;
  hfb_graph *graph = ir_parse(
      "graph \"g\" {\n"
      "  %0 = input(name=\"a\") : f32[2]\n"
      "  %1 = input(name=\"unused\") : f32[2]\n"
      "  %2 = mul(%0, %0) : f32[2]\n"
      "  %3 = add(%2, %0) : f32[2]\n"
      "  output \"x\" = %3\n"
      "  output \"y\" = %3\n"
      "  output \"z\" = %2\n"
      "}\n");
  int *counts;
  assert_int_equal(hfb_graph_use_counts(graph, &counts), HFB_OK);
  assert_true(counts[0] == 3 && counts[1] == 0 && counts[2] == 2 && counts[3] == 2);
  hfb_mem_free(counts);
  hfb_graph_destroy(graph);
}

static void test_cost(void **state) {
  (void)state;
  hfb_graph *graph = ir_parse(
      "graph \"g\" {\n"
      "  %0 = input(name=\"x\") : f32[7,5,3]\n"
      "  %1 = input(name=\"i\") : i64[4]\n"
      "  %2 = parameter(name=\"w\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=1, buffer=0) : f32[4,3]\n"
      "  %3 = parameter(name=\"f\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=0, buffer=0) : f32[4]\n"
      "  %4 = parameter(name=\"b\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=0, buffer=1) : f32[100]\n"
      "  %5 = linear(%0, %2, %3; transpose_b=1) : f32[7,5,4]\n"
      "  %6 = matmul(%0, %0; transpose_a=1, transpose_b=0) : f32[7,3,3]\n"
      "  %7 = matmul(%0, %0; transpose_a=0, transpose_b=1) : f32[7,5,5]\n"
      "  %8 = gelu(%5) : f32[7,5,4]\n"
      "  output \"y\" = %8\n"
      "  output \"g\" = %6\n"
      "}\n");
  assert_int_equal(hfb_node_multiply_adds(graph->nodes[5]), 7 * 5 * 4 * 3);
  assert_int_equal(hfb_node_multiply_adds(graph->nodes[6]), 7 * 3 * 3 * 5);
  assert_int_equal(hfb_node_multiply_adds(graph->nodes[7]), 7 * 5 * 5 * 3);
  assert_int_equal(hfb_node_multiply_adds(graph->nodes[8]), 0);
  hfb_cost cost = hfb_graph_cost(graph);
  assert_int_equal(cost.multiply_adds, 7 * 5 * 4 * 3 + 7 * 3 * 3 * 5 + 7 * 5 * 5 * 3);
  assert_int_equal(cost.parameter_count, 4 * 3 + 4);
  assert_int_equal(cost.parameter_bytes, 4 * (4 * 3 + 4 + 100));
  assert_int_equal(cost.input_bytes, 4 * 7 * 5 * 3 + 8 * 4);
  assert_int_equal(cost.output_bytes, 4 * (7 * 5 * 4 + 7 * 3 * 3));
  hfb_graph_destroy(graph);
  graph = ir_parse(
      "graph \"huge\" {\n"
      "  %0 = input(name=\"x\") : f32[524288,1048576]\n"
      "  %1 = matmul(%0, %0; transpose_a=1, transpose_b=0) : f32[1048576,1048576]\n"
      "  %2 = matmul(%1, %1; transpose_a=0, transpose_b=0) : f32[1048576,1048576]\n"
      "  %3 = matmul(%2, %2; transpose_a=0, transpose_b=0) : f32[1048576,1048576]\n"
      "  output \"y\" = %3\n"
      "}\n");
  int64_t whole = INT64_C(1) << 60;
  assert_true(hfb_graph_cost(graph).multiply_adds == 2 * whole + whole / 2);
  hfb_graph_destroy(graph);
  hfb_strbuf text; /* sums saturate */
  hfb_strbuf_init(&text);
  hfb_strbuf_append(&text, "graph \"beyond\" {\n  %0 = input(name=\"x\") : f32[1048576,1048576]\n");
  for (int i = 1; i < 9; i++) {
    hfb_strbuf_printf(&text, "  %%%d = matmul(%%0, %%0; transpose_a=0, transpose_b=0) : f32[1048576,1048576]\n", i);
  }
  hfb_strbuf_append(&text, "}\n");
  graph = ir_parse(hfb_strbuf_text(&text));
  assert_true(hfb_graph_cost(graph).multiply_adds == INT64_MAX);
  hfb_graph_destroy(graph);
  hfb_strbuf_deinit(&text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_op_decomposes_to_primitives),
      cmocka_unit_test(test_half_precision_computes_in_f32),
      cmocka_unit_test(test_decompositions_in_text),
      cmocka_unit_test(test_norms_share_nodes_with_their_gradients),
      cmocka_unit_test(test_the_fourier_angle),
      cmocka_unit_test(test_the_fourier_angle_division_is_exact),
      cmocka_unit_test(test_a_decomposition_that_cannot_exist_is_an_error),
      cmocka_unit_test(test_convert_to_f64),
      cmocka_unit_test(test_every_case_converts),
      cmocka_unit_test(test_stored_parameters),
      cmocka_unit_test(test_results_are_not_stored_apart),
      cmocka_unit_test(test_a_rewrite_replaces_a_node),
      cmocka_unit_test(test_wrong_rewrites_are_refused),
      cmocka_unit_test(test_rewrites_keep_updates),
      cmocka_unit_test(test_use_counts),
      cmocka_unit_test(test_cost),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
