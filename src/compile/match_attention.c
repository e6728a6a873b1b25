/* Attention in a graph of framework ops: found, and replaced by the attention ops (ops.def).
 *
 * In training the pattern has two halves, which autograd's rules give (src/grad):
 *
 *   scores = f(q k^T)    y = softmax(scores)    p = dropout(y)    out = p v
 *   dp = g v^T    dy = dropout(dp)    ds = softmax_backward(dy, y)    d = f'(ds)
 *   dq = d k      dk = d^T q          dv = p^T g
 */
#include <string.h>

#include "compile/ordered_rewrite.h"
#include "compile/passes.h"
#include "compile/users.h"

typedef struct cluster {
  const hfb_node *qk, *softmax, *dropout, *pv;   /* dropout: NULL without */
  const hfb_node *dp, *ddropout, *dsoftmax;      /* dsoftmax NULL: inference */
  const hfb_value *d;
  const hfb_node *dq, *dk, *dv;                  /* NULL: not wanted */
  hfb_value *out, *lse, *state;                  /* in the new graph */
  bool is_backward_built;
} cluster;

/* What becomes of a node of a cluster. */
typedef enum role { ROLE_NONE, ROLE_DROPPED, ROLE_FORWARD, ROLE_SCORES_BACKWARD, ROLE_BACKWARD } role;

typedef struct matcher {
  const hfb_graph *graph;
  hfb_users users;
  hfb_ordered_rewrite ordered;
  cluster *clusters;
  int cluster_count;
  int *cluster_of;        /* by node id: its cluster, where role is not NONE */
  unsigned char *role_of; /* by node id */
} matcher;

static bool is_flag(const hfb_node *node, hfb_attr_key key, bool wanted) {
  return (hfb_node_int(node, key) != 0) == wanted;
}

static bool is_elementwise(const hfb_node *node) {
  return hfb_op_info_of(node->op)->op_class == HFB_CLASS_ELEMENTWISE;
}

/* The only reader of a value that does not escape; NULL when there are several. */
static const hfb_node *only_user(const matcher *m, const hfb_value *value) {
  if (m->users.use_counts[value->id] != 1 || hfb_users_count(&m->users, value) != 1) return NULL;
  return hfb_users_at(&m->users, value, 0);
}

/* ---- forward ---- */

/* Walks from the scores towards the product through elementwise ops of the same shape. Returns the product, NULL when
 * there is none or more than one. */
static const hfb_node *score_product(const matcher *m, const hfb_value *scores, const hfb_shape *shape, int depth) {
  enum { DEEPEST = 12 };
  const hfb_node *node = scores->node, *found = NULL;
  if (depth > DEEPEST || m->users.use_counts[scores->id] != 1) return NULL;
  if (node->op == HFB_OP_MATMUL) return hfb_shape_equal(&scores->shape, shape) ? node : NULL;
  if (!is_elementwise(node)) return NULL;
  for (int i = 0; i < node->input_count; i++) {
    if (!hfb_shape_equal(&node->inputs[i]->shape, shape)) continue; /* masks and biases broadcast */
    const hfb_node *product = score_product(m, node->inputs[i], shape, depth + 1);
    if (product && found) return NULL;
    if (product) found = product;
  }
  return found;
}

static bool match_probabilities(const matcher *m, cluster *c) {
  const hfb_value *y = &c->softmax->results[0], *p = y;
  if (hfb_users_escapes(&m->users, y)) return false;
  for (int u = 0; u < hfb_users_count(&m->users, y); u++) {
    const hfb_node *user = hfb_users_at(&m->users, y, u);
    if (user->op == HFB_OP_DROPOUT && !c->dropout) c->dropout = user;
    else if (user->op == HFB_OP_SOFTMAX_BACKWARD && user->inputs[1] == y && !c->dsoftmax) c->dsoftmax = user;
    else if (user->op != HFB_OP_MATMUL) return false;
  }
  if (c->dropout) {
    p = &c->dropout->results[0];
    if (hfb_users_count(&m->users, y) != 1 + (c->dsoftmax != NULL) || hfb_users_escapes(&m->users, p)) return false;
  }
  for (int u = 0; u < hfb_users_count(&m->users, p); u++) {
    const hfb_node *user = hfb_users_at(&m->users, p, u);
    if (user == c->dsoftmax) continue;
    if (user->op != HFB_OP_MATMUL || user->inputs[0] != p || user->inputs[1] == p) return false;
    const hfb_node **place = is_flag(user, HFB_ATTR_TRANSPOSE_A, true) ? &c->dv : &c->pv;
    if (*place) return false;
    *place = user;
  }
  return c->pv && (c->dsoftmax || !c->dv);
}

/* Ranks of batch and heads are equal everywhere: nothing is broadcast over heads. */
static bool same_batch(const hfb_shape *scores, const hfb_shape *operand) {
  return operand->rank == scores->rank &&
         memcmp(operand->dim, scores->dim, (size_t)(scores->rank - 2) * sizeof(int64_t)) == 0;
}

/* ---- backward ---- */

/* From the gradient of the softmax through elementwise ops to the value that only products read. */
static bool match_score_gradient(const matcher *m, cluster *c) {
  const hfb_value *value = &c->dsoftmax->results[0];
  for (;;) {
    if (hfb_users_escapes(&m->users, value)) return false;
    const hfb_node *first = hfb_users_count(&m->users, value) > 0 ? hfb_users_at(&m->users, value, 0) : NULL;
    if (!first) return false;
    if (first->op == HFB_OP_MATMUL) break;
    if (!only_user(m, value) || !is_elementwise(first)) return false;
    if (!hfb_shape_equal(&first->results[0].shape, &value->shape)) return false;
    value = &first->results[0];
  }
  c->d = value;
  const hfb_value *q = c->qk->inputs[0], *k = c->qk->inputs[1];
  const bool k_rows = is_flag(c->qk, HFB_ATTR_TRANSPOSE_B, true); /* k is [keys, D], else [D, keys] */
  for (int u = 0; u < hfb_users_count(&m->users, value); u++) {
    const hfb_node *user = hfb_users_at(&m->users, value, u);
    if (user->op != HFB_OP_MATMUL) return false;
    const bool transpose_a = is_flag(user, HFB_ATTR_TRANSPOSE_A, true),
               transpose_b = is_flag(user, HFB_ATTR_TRANSPOSE_B, true);
    const bool gives_q = user->inputs[0] == value && user->inputs[1] == k && !transpose_a && transpose_b == !k_rows;
    const bool gives_k = k_rows ? user->inputs[0] == value && user->inputs[1] == q && transpose_a && !transpose_b
                                : user->inputs[1] == value && user->inputs[0] == q && transpose_a && !transpose_b;
    if (gives_q && !c->dq) c->dq = user;
    else if (gives_k && !c->dk) c->dk = user;
    else return false;
  }
  return true;
}

static bool match_backward(const matcher *m, cluster *c) {
  const hfb_value *dy = c->dsoftmax->inputs[0], *v = c->pv->inputs[1];
  if (only_user(m, dy) != c->dsoftmax) return false;
  if (c->dropout) {
    c->ddropout = dy->node;
    if (c->ddropout->op != HFB_OP_DROPOUT || c->ddropout->inputs[1] != c->dropout->inputs[1]) return false;
    if (hfb_node_int(c->ddropout, HFB_ATTR_SITE) != hfb_node_int(c->dropout, HFB_ATTR_SITE)) return false;
    dy = c->ddropout->inputs[0];
    if (only_user(m, dy) != c->ddropout) return false;
  }
  c->dp = dy->node;
  if (c->dp->op != HFB_OP_MATMUL || c->dp->inputs[1] != v) return false;
  if (is_flag(c->dp, HFB_ATTR_TRANSPOSE_A, true)) return false;
  if (hfb_node_int(c->dp, HFB_ATTR_TRANSPOSE_B) == hfb_node_int(c->pv, HFB_ATTR_TRANSPOSE_B)) return false;
  if (c->dv && (c->dv->inputs[1] != c->dp->inputs[0] || is_flag(c->dv, HFB_ATTR_TRANSPOSE_B, true))) return false;
  return match_score_gradient(m, c);
}

static bool match(const matcher *m, const hfb_node *softmax, cluster *out_cluster) {
  cluster c = {.softmax = softmax};
  const hfb_value *scores = softmax->inputs[0];
  const hfb_shape *shape = &scores->shape;
  const int rank = shape->rank;
  if (scores->dtype != HFB_F32 || (rank != 3 && rank != 4)) return false;
  if (hfb_node_int(softmax, HFB_ATTR_AXIS) != rank - 1 || hfb_shape_elements(shape) == 0) return false;
  c.qk = score_product(m, scores, shape, 0);
  if (!c.qk || is_flag(c.qk, HFB_ATTR_TRANSPOSE_A, true) || !match_probabilities(m, &c)) return false;
  if (is_flag(c.pv, HFB_ATTR_TRANSPOSE_A, true) || !same_batch(shape, &c.pv->inputs[1]->shape)) return false;
  if (!same_batch(shape, &c.qk->inputs[0]->shape) || !same_batch(shape, &c.qk->inputs[1]->shape)) return false;
  if (c.dsoftmax && !match_backward(m, &c)) return false;
  *out_cluster = c;
  return true;
}

static void set_role(matcher *m, const hfb_node *node, role role) {
  if (!node) return;
  m->role_of[node->id] = (unsigned char)role;
  m->cluster_of[node->id] = m->cluster_count;
}

static void find_clusters(matcher *m) {
  for (int i = 0; i < m->graph->node_count; i++) {
    cluster *c = &m->clusters[m->cluster_count];
    if (m->graph->nodes[i]->op != HFB_OP_SOFTMAX || !match(m, m->graph->nodes[i], c)) continue;
    set_role(m, c->softmax, ROLE_DROPPED);
    set_role(m, c->dropout, ROLE_DROPPED);
    set_role(m, c->dp, ROLE_DROPPED);
    set_role(m, c->ddropout, ROLE_DROPPED);
    set_role(m, c->pv, ROLE_FORWARD);
    set_role(m, c->dsoftmax, ROLE_SCORES_BACKWARD);
    set_role(m, c->dq, ROLE_BACKWARD);
    set_role(m, c->dk, ROLE_BACKWARD);
    set_role(m, c->dv, ROLE_BACKWARD);
    m->cluster_count++;
  }
}

/* ---- replacing ---- */

static hfb_value *swap_last_two(hfb_builder *b, hfb_value *x) {
  int perm[HFB_MAX_RANK];
  if (!x) return NULL;
  for (int i = 0; i < x->shape.rank; i++) perm[i] = i;
  perm[x->shape.rank - 1] = x->shape.rank - 2;
  perm[x->shape.rank - 2] = x->shape.rank - 1;
  return hfb_transpose(b, x, perm);
}

static hfb_value *mapped(const matcher *m, const hfb_value *value) { return hfb_ordered_mapped(&m->ordered, value); }

/* Operand 1 of a product as [.., rows, columns] whose rows are summed over (v), or dotted with (k). */
static hfb_value *mapped_operand(matcher *m, const hfb_node *product, bool transposed) {
  hfb_value *x = mapped(m, product->inputs[1]);
  return is_flag(product, HFB_ATTR_TRANSPOSE_B, transposed) ? x : swap_last_two(&m->ordered.rewrite.b, x);
}

static hfb_value *build_attention_op(matcher *m, const cluster *c, hfb_op op, int input_count, hfb_value **inputs) {
  hfb_attr attrs[2] = {{.key = HFB_ATTR_P}, {.key = HFB_ATTR_SITE}};
  if (c->dropout) {
    attrs[0].u.f = hfb_node_float(c->dropout, HFB_ATTR_P);
    attrs[1].u.i = hfb_node_int(c->dropout, HFB_ATTR_SITE);
    inputs[input_count++] = mapped(m, c->dropout->inputs[1]);
  }
  return hfb_build(&m->ordered.rewrite.b, op, input_count, inputs, 2, attrs);
}

static void build_forward(matcher *m, cluster *c) {
  hfb_value *inputs[3] = {mapped(m, c->softmax->inputs[0]), mapped_operand(m, c->pv, false)};
  c->out = build_attention_op(m, c, HFB_OP_ATTENTION, 2, inputs);
  c->lse = c->out ? &c->out->node->results[1] : NULL;
  m->ordered.rewrite.map[c->pv->results[0].id] = c->out;
}

static void build_scores_backward(matcher *m, cluster *c) {
  hfb_builder *b = &m->ordered.rewrite.b;
  hfb_value *g = mapped(m, c->dp->inputs[0]);
  hfb_value *delta = hfb_reduce(b, HFB_OP_REDUCE_SUM, hfb_mul(b, g, c->out), 1, (int[]){-1}, false);
  hfb_value *inputs[6] = {mapped(m, c->softmax->inputs[0]), c->lse, delta, g, mapped_operand(m, c->pv, false)};
  m->ordered.rewrite.map[c->dsoftmax->results[0].id] =
      build_attention_op(m, c, HFB_OP_ATTENTION_SCORES_BACKWARD, 5, inputs);
}

static void build_backward(matcher *m, cluster *c) {
  hfb_builder *b = &m->ordered.rewrite.b;
  hfb_value *inputs[7] = {mapped(m, c->d), mapped(m, c->softmax->inputs[0]), c->lse, mapped(m, c->qk->inputs[0]),
                          mapped_operand(m, c->qk, true), mapped(m, c->dp->inputs[0])};
  hfb_value *first = build_attention_op(m, c, HFB_OP_ATTENTION_BACKWARD, 6, inputs);
  c->is_backward_built = true;
  if (!first) return;
  hfb_value *results = first->node->results;
  if (c->dq) m->ordered.rewrite.map[c->dq->results[0].id] = &results[0];
  if (c->dk) {
    const bool is_rows = is_flag(c->qk, HFB_ATTR_TRANSPOSE_B, true);
    m->ordered.rewrite.map[c->dk->results[0].id] = is_rows ? &results[1] : swap_last_two(b, &results[1]);
  }
  if (c->dv) {
    const bool is_rows = is_flag(c->pv, HFB_ATTR_TRANSPOSE_B, false);
    m->ordered.rewrite.map[c->dv->results[0].id] = is_rows ? &results[2] : swap_last_two(b, &results[2]);
  }
}

static bool take_over(void *context, const hfb_node *node) {
  matcher *m = context;
  cluster *c = &m->clusters[m->cluster_of[node->id]];
  switch ((role)m->role_of[node->id]) {
    case ROLE_NONE:
      return hfb_ordered_copy(&m->ordered, node);
    case ROLE_DROPPED:
      break;
    case ROLE_FORWARD:
      if (!mapped(m, c->softmax->inputs[0]) || !mapped(m, c->pv->inputs[1])) return false;
      build_forward(m, c);
      break;
    case ROLE_SCORES_BACKWARD:
      if (!c->out || !mapped(m, c->dp->inputs[0])) return false;
      build_scores_backward(m, c);
      break;
    case ROLE_BACKWARD:
      if (c->is_backward_built) break;
      if (!mapped(m, c->d)) return false;
      build_backward(m, c);
      break;
  }
  return true;
}

hfb_status hfb_pass_attention(const hfb_graph *graph, hfb_graph **out_graph) {
  matcher m = {.graph = graph};
  const size_t nodes = (size_t)graph->node_count + 1;
  hfb_status status = hfb_users_init(graph, &m.users);
  if (status == HFB_OK) status = hfb_mem_alloc(nodes, sizeof *m.clusters, &m.clusters);
  if (status == HFB_OK) status = hfb_mem_alloc(nodes, sizeof *m.cluster_of, &m.cluster_of);
  if (status == HFB_OK) status = hfb_mem_alloc(nodes, sizeof *m.role_of, &m.role_of);
  if (status == HFB_OK) {
    find_clusters(&m);
    m.ordered.take_over = take_over;
    m.ordered.context = &m;
    status = hfb_ordered_rewrite_run(&m.ordered, graph, out_graph);
  }
  hfb_users_deinit(&m.users);
  hfb_mem_free(m.clusters);
  hfb_mem_free(m.cluster_of);
  hfb_mem_free(m.role_of);
  return status;
}
