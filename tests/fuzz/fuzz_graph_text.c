/* Any bytes as a graph: refused with a message, or a graph that verifies and prints and parses back to itself. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/transform.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition, const char *what) {
  if (condition) return;
  fprintf(stderr, "%s: %s\n", what, hfb_error_message());
  abort();
}

static void check_round_trip(const hfb_graph *graph) {
  hfb_strbuf first, second;
  hfb_strbuf_init(&first);
  hfb_strbuf_init(&second);
  require(hfb_graph_print(graph, &first) == HFB_OK, "print");
  hfb_graph *again;
  require(hfb_graph_parse(hfb_strbuf_text(&first), first.length, &again) == HFB_OK, "parse what was printed");
  require(hfb_graph_print(again, &second) == HFB_OK, "print again");
  require(strcmp(hfb_strbuf_text(&first), hfb_strbuf_text(&second)) == 0, "the text changed");
  hfb_graph_destroy(again);
  hfb_strbuf_deinit(&first);
  hfb_strbuf_deinit(&second);
}

/* Decomposing may be refused (a shape over the limit), converting never. */
static void check_transforms(const hfb_graph *graph) {
  hfb_graph *other;
  if (hfb_graph_decompose(graph, &other) == HFB_OK) {
    check_round_trip(other);
    hfb_graph_destroy(other);
  }
  require(hfb_graph_convert(graph, HFB_F32, &other) == HFB_OK, "convert");
  hfb_graph_destroy(other);
  hfb_cost cost = hfb_graph_cost(graph);
  require(cost.multiply_adds >= 0 && cost.parameter_bytes >= 0 && cost.input_bytes >= 0, "cost");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hfb_graph *graph = NULL;
  hfb_error_clear();
  if (hfb_graph_parse((const char *)data, size, &graph) != HFB_OK) {
    require(!graph && hfb_error_message()[0], "refused without a message");
    return 0;
  }
  require(hfb_graph_verify(graph) == HFB_OK, "verify");
  check_round_trip(graph);
  check_transforms(graph);
  hfb_graph_destroy(graph);
  return 0;
}
