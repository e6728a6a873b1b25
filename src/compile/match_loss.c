/* The loss of a language model's head: found in a training graph, and replaced by linear_cross_entropy, which never
 * holds the logits of all tokens.
 *
 *   logits = linear(x, w, bias)    z = reshape(slice(logits))    p = log_softmax(z)    loss = nll_loss(p, target)
 *   dz = log_softmax_backward(nll_loss_backward(g, target), p)    dlogits = pad(reshape(dz))
 *   dx = linear(dlogits, w)    dw = dlogits^T x    dbias = sum of the rows of dlogits
 *
 * Slice and pad stand for a loss of the next token: rows of x are left out instead. A constant may be added to the
 * logits. Matched only where nothing else reads the logits. */
#include <string.h>

#include "compile/ordered_rewrite.h"
#include "compile/passes.h"
#include "compile/users.h"

enum { MAX_GRADIENT_NODES = 12 };

typedef struct head {
  const hfb_node *linear, *log_softmax, *nll, *nll_backward, *softmax_backward;
  const hfb_node *slice;            /* of the logits; NULL: none */
  const hfb_value *bias;            /* of the product, or added; NULL: none */
  const hfb_node *forward[4];       /* between product and log_softmax */
  int forward_count;
  const hfb_node *gradient[MAX_GRADIENT_NODES]; /* between log_softmax_backward and the results */
  int gradient_count;
  const hfb_node *dx, *dw, *dbias;  /* NULL: not wanted */
  bool is_built;
} head;

typedef enum role { ROLE_NONE, ROLE_DROPPED, ROLE_RESULT } role;

typedef struct matcher {
  const hfb_graph *graph;
  hfb_users users;
  hfb_ordered_rewrite ordered;
  head *heads;
  int head_count;
  int *head_of;
  unsigned char *role_of;
} matcher;

static bool is_read_once(const matcher *m, const hfb_value *value) {
  return m->users.use_counts[value->id] == 1 && hfb_users_count(&m->users, value) == 1;
}

/* A number that does not depend on the loss: ones scaled, as the backward pass starts with. */
static bool is_known(const hfb_value *g, int depth) {
  enum { DEEPEST = 8 };
  if (g->node->op == HFB_OP_FULL || g->node->op == HFB_OP_CONSTANT) return true;
  if (depth > DEEPEST || g->node->input_count == 0) return false;
  for (int i = 0; i < g->node->input_count; i++) {
    if (!is_known(g->node->inputs[i], depth + 1)) return false;
  }
  return true;
}

/* A slice that leaves the last dimension whole and takes neighbouring elements of the others. */
static bool takes_rows(const hfb_node *slice) {
  const hfb_shape *from = &slice->inputs[0]->shape, *to = &slice->results[0].shape;
  const int64_t *steps = hfb_node_ints(slice, HFB_ATTR_STEPS, NULL);
  for (int i = 0; i < from->rank; i++) {
    if (steps[i] != 1) return false;
  }
  return from->dim[from->rank - 1] == to->dim[to->rank - 1];
}

/* The operand of an add that is one number for each class, and the other one. */
static bool split_bias(const hfb_node *add, const hfb_value **out_logits, const hfb_value **out_bias) {
  const hfb_shape *shape = &add->results[0].shape;
  for (int i = 0; i < 2; i++) {
    const hfb_value *bias = add->inputs[i];
    if (hfb_shape_elements(&bias->shape) != shape->dim[shape->rank - 1]) continue;
    if (bias->shape.rank == 0 || bias->shape.dim[bias->shape.rank - 1] != shape->dim[shape->rank - 1]) continue;
    if (!hfb_shape_equal(&add->inputs[1 - i]->shape, shape)) continue;
    *out_bias = bias;
    *out_logits = add->inputs[1 - i];
    return true;
  }
  return false;
}

/* From the log-softmax down to the product. */
static bool match_logits(const matcher *m, head *h) {
  const hfb_value *value = h->log_softmax->inputs[0];
  for (;; ) {
    const hfb_node *node = value->node;
    if (!is_read_once(m, value)) return false;
    if (node->op == HFB_OP_LINEAR) break;
    if (h->forward_count == 4) return false;
    h->forward[h->forward_count++] = node;
    if (node->op == HFB_OP_RESHAPE) {
      const hfb_shape *shape = &node->inputs[0]->shape;
      if (shape->rank < 2 || shape->dim[shape->rank - 1] != value->shape.dim[value->shape.rank - 1]) return false;
      value = node->inputs[0];
    } else if (node->op == HFB_OP_SLICE && !h->slice && takes_rows(node)) {
      h->slice = node;
      value = node->inputs[0];
    } else if (node->op != HFB_OP_ADD || h->bias || !split_bias(node, &value, &h->bias)) {
      return false;
    }
  }
  h->linear = value->node;
  if (hfb_node_int(h->linear, HFB_ATTR_TRANSPOSE_B) == 0 || value->dtype != HFB_F32) return false;
  if (h->linear->input_count == 3) {
    if (h->bias) return false;
    h->bias = h->linear->inputs[2];
  }
  return true;
}

static bool is_same_rows(const hfb_value *value, const hfb_value *x) {
  while (value->node->op == HFB_OP_RESHAPE) value = value->node->inputs[0];
  while (x->node->op == HFB_OP_RESHAPE) x = x->node->inputs[0];
  return value == x;
}

/* Everything that reads the gradient of the logits: movement on the way, and the three results. */
static bool match_readers(const matcher *m, const hfb_value *value, head *h) {
  if (hfb_users_escapes(&m->users, value)) return false;
  for (int u = 0; u < hfb_users_count(&m->users, value); u++) {
    const hfb_node *user = hfb_users_at(&m->users, value, u);
    const hfb_value *w = h->linear->inputs[1];
    if (user->op == HFB_OP_RESHAPE || (user->op == HFB_OP_PAD && h->slice)) {
      if (h->gradient_count == MAX_GRADIENT_NODES) return false;
      h->gradient[h->gradient_count++] = user;
      if (!match_readers(m, &user->results[0], h)) return false;
    } else if (user->op == HFB_OP_LINEAR && user->inputs[0] == value && user->inputs[1] == w && !h->dx &&
               user->input_count == 2 && hfb_node_int(user, HFB_ATTR_TRANSPOSE_B) == 0) {
      h->dx = user;
    } else if (user->op == HFB_OP_MATMUL && user->inputs[0] == value && !h->dw && value->shape.rank == 2 &&
               hfb_node_int(user, HFB_ATTR_TRANSPOSE_A) != 0 && hfb_node_int(user, HFB_ATTR_TRANSPOSE_B) == 0 &&
               is_same_rows(user->inputs[1], h->linear->inputs[0])) {
      h->dw = user;
    } else if (user->op == HFB_OP_REDUCE_SUM && !h->dbias && value->shape.rank == 2 &&
               user->results[0].shape.rank == 1 && hfb_node_ints(user, HFB_ATTR_AXES, NULL)[0] == 0) {
      h->dbias = user;
    } else {
      return false;
    }
  }
  return true;
}

static bool match(const matcher *m, const hfb_node *softmax_backward, head *out_head) {
  head h = {.softmax_backward = softmax_backward};
  const hfb_value *p = softmax_backward->inputs[1];
  h.log_softmax = p->node;
  h.nll_backward = softmax_backward->inputs[0]->node;
  if (h.log_softmax->op != HFB_OP_LOG_SOFTMAX || h.nll_backward->op != HFB_OP_NLL_LOSS_BACKWARD) return false;
  if (p->shape.rank != 2 || hfb_node_int(h.log_softmax, HFB_ATTR_AXIS) != 1) return false;
  if (m->users.use_counts[p->id] != 2 || !is_read_once(m, softmax_backward->inputs[0])) return false;
  for (int u = 0; u < hfb_users_count(&m->users, p); u++) {
    const hfb_node *user = hfb_users_at(&m->users, p, u);
    if (user->op == HFB_OP_NLL_LOSS) h.nll = user;
  }
  if (!h.nll || h.nll->inputs[1] != h.nll_backward->inputs[1] || !is_known(h.nll_backward->inputs[0], 0)) return false;
  if (hfb_node_int(h.nll, HFB_ATTR_IGNORE_INDEX) != hfb_node_int(h.nll_backward, HFB_ATTR_IGNORE_INDEX)) return false;
  if (!match_logits(m, &h) || !match_readers(m, &softmax_backward->results[0], &h)) return false;
  *out_head = h;
  return true;
}

static void set_role(matcher *m, const hfb_node *node, role role) {
  if (!node) return;
  m->role_of[node->id] = (unsigned char)role;
  m->head_of[node->id] = m->head_count;
}

static void find_heads(matcher *m) {
  for (int i = 0; i < m->graph->node_count; i++) {
    head *h = &m->heads[m->head_count];
    if (m->graph->nodes[i]->op != HFB_OP_LOG_SOFTMAX_BACKWARD || !match(m, m->graph->nodes[i], h)) continue;
    const hfb_node *const dropped[] = {h->linear, h->log_softmax, h->nll_backward, h->softmax_backward};
    for (int k = 0; k < 4; k++) set_role(m, dropped[k], ROLE_DROPPED);
    for (int k = 0; k < h->forward_count; k++) set_role(m, h->forward[k], ROLE_DROPPED);
    for (int k = 0; k < h->gradient_count; k++) set_role(m, h->gradient[k], ROLE_DROPPED);
    const hfb_node *const results[] = {h->nll, h->dx, h->dw, h->dbias};
    for (int k = 0; k < 4; k++) set_role(m, results[k], ROLE_RESULT);
    m->head_count++;
  }
}

/* ---- replacing ---- */

static hfb_value *mapped(const matcher *m, const hfb_value *value) { return hfb_ordered_mapped(&m->ordered, value); }

/* The rows of x that have a target: [R,D]. */
static hfb_value *build_rows(matcher *m, const head *h) {
  hfb_builder *b = &m->ordered.rewrite.b;
  hfb_value *x = mapped(m, h->linear->inputs[0]);
  const int64_t width = x->shape.dim[x->shape.rank - 1];
  if (h->slice) {
    const int64_t *starts = hfb_node_ints(h->slice, HFB_ATTR_STARTS, NULL),
                  *limits = hfb_node_ints(h->slice, HFB_ATTR_LIMITS, NULL);
    const hfb_shape *logits = &h->slice->inputs[0]->shape;
    hfb_shape rows = *logits;
    rows.dim[rows.rank - 1] = width;
    x = hfb_reshape(b, x, rows.rank, rows.dim);
    for (int d = 0; d + 1 < rows.rank; d++) x = hfb_slice(b, x, d, starts[d], limits[d]);
  }
  return hfb_reshape(b, x, 2, (int64_t[]){-1, width});
}

/* The gradient of all rows of x from that of those with a target. */
static hfb_value *build_dx(matcher *m, const head *h, hfb_value *dx) {
  hfb_builder *b = &m->ordered.rewrite.b;
  const hfb_shape *shape = &h->dx->results[0].shape;
  if (h->slice) {
    const int64_t *starts = hfb_node_ints(h->slice, HFB_ATTR_STARTS, NULL),
                  *limits = hfb_node_ints(h->slice, HFB_ATTR_LIMITS, NULL);
    const hfb_shape *logits = &h->slice->inputs[0]->shape;
    hfb_shape rows = h->slice->results[0].shape;
    rows.dim[rows.rank - 1] = shape->dim[shape->rank - 1];
    dx = hfb_reshape(b, dx, rows.rank, rows.dim);
    for (int d = 0; d + 1 < rows.rank; d++) dx = hfb_pad(b, dx, d, starts[d], logits->dim[d] - limits[d], 0);
  }
  return hfb_reshape(b, dx, shape->rank, shape->dim);
}

static void build(matcher *m, head *h) {
  hfb_builder *b = &m->ordered.rewrite.b;
  const hfb_attr attr = {.key = HFB_ATTR_IGNORE_INDEX, .u.i = hfb_node_int(h->nll, HFB_ATTR_IGNORE_INDEX)};
  hfb_value *inputs[5] = {build_rows(m, h), mapped(m, h->linear->inputs[1]), mapped(m, h->nll->inputs[1]),
                          mapped(m, h->nll_backward->inputs[0])};
  if (h->bias) {
    hfb_value *bias = mapped(m, h->bias);
    inputs[4] = hfb_reshape(b, bias, 1, (int64_t[]){hfb_shape_elements(&bias->shape)});
  }
  hfb_value *loss = hfb_build(b, HFB_OP_LINEAR_CROSS_ENTROPY, h->bias ? 5 : 4, inputs, 1, &attr);
  h->is_built = true;
  if (!loss) return;
  hfb_value *results = loss->node->results, **map = m->ordered.rewrite.map;
  map[h->nll->results[0].id] = &results[0];
  if (h->dx) map[h->dx->results[0].id] = build_dx(m, h, &results[1]);
  if (h->dw) map[h->dw->results[0].id] = &results[2];
  if (h->dbias) map[h->dbias->results[0].id] = &results[3];
}

static bool take_over(void *context, const hfb_node *node) {
  matcher *m = context;
  head *h = &m->heads[m->head_of[node->id]];
  if (m->role_of[node->id] == ROLE_NONE) return hfb_ordered_copy(&m->ordered, node);
  if (m->role_of[node->id] == ROLE_DROPPED || h->is_built) return true;
  const hfb_value *const needed[] = {h->linear->inputs[0], h->linear->inputs[1], h->nll->inputs[1],
                                     h->nll_backward->inputs[0], h->bias ? h->bias : h->linear->inputs[0]};
  for (int i = 0; i < 5; i++) {
    if (!mapped(m, needed[i])) return false;
  }
  build(m, h);
  return true;
}

hfb_status hfb_pass_loss(const hfb_graph *graph, hfb_graph **out_graph) {
  matcher m = {.graph = graph, .ordered = {.take_over = take_over}};
  const size_t nodes = (size_t)graph->node_count + 1;
  m.ordered.context = &m;
  hfb_status status = hfb_users_init(graph, &m.users);
  if (status == HFB_OK) status = hfb_mem_alloc(nodes, sizeof *m.heads, &m.heads);
  if (status == HFB_OK) status = hfb_mem_alloc(nodes, sizeof *m.head_of, &m.head_of);
  if (status == HFB_OK) status = hfb_mem_alloc(nodes, sizeof *m.role_of, &m.role_of);
  if (status == HFB_OK) {
    find_heads(&m);
    status = hfb_ordered_rewrite_run(&m.ordered, graph, out_graph);
  }
  hfb_users_deinit(&m.users);
  hfb_mem_free(m.heads);
  hfb_mem_free(m.head_of);
  hfb_mem_free(m.role_of);
  return status;
}
