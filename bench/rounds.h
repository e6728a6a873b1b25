/* What the kernel benches share: options, shape files, samples, rates in percent of the peak. */
#ifndef HFB_BENCH_ROUNDS_H
#define HFB_BENCH_ROUNDS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "kernels/peak.h"

enum { MAX_ROUNDS = 200, SAMPLE_NS = 1000 * 1000, MAX_SHAPE_VALUES = 8 };

typedef struct bench_options {
  int threads; /* 0: one for each core */
  int rounds;
  const char *only; /* part of a shape's name, or NULL */
  const char *shapes;
} bench_options;

static inline bench_options bench_options_parse(int argc, char **argv, const char *default_shapes) {
  bench_options options = {.rounds = 21, .shapes = default_shapes};
  for (int i = 1; i < argc; i++) {
    const char *value = i + 1 < argc ? argv[i + 1] : NULL;
    if (strcmp(argv[i], "--threads") == 0 && value) {
      options.threads = atoi(argv[++i]);
    } else if (strcmp(argv[i], "--rounds") == 0 && value) {
      options.rounds = atoi(argv[++i]);
    } else if (strcmp(argv[i], "--only") == 0 && value) {
      options.only = argv[++i];
    } else if (argv[i][0] != '-') {
      options.shapes = argv[i];
    } else {
      fprintf(stderr, "usage: %s [--threads N] [--rounds N] [--only NAME] [SHAPES_FILE]\n", argv[0]);
      exit(2);
    }
  }
  if (options.rounds < 1) options.rounds = 1;
  if (options.rounds > MAX_ROUNDS) options.rounds = MAX_ROUNDS;
  return options;
}

/* Ends the program when a call fails. */
static inline void bench_require(hfb_status status) {
  if (status == HFB_OK) return;
  fprintf(stderr, "%s\n", hfb_error_message());
  exit(1);
}

typedef struct bench_session {
  bench_options options;
  FILE *shapes;
  hfb_pool *pool;
  double peak; /* FLOP/s: the highest that was measured so far */
} bench_session;

/* Opens the shapes, starts the threads, measures the peak and prints it. */
static inline bench_session bench_session_open(int argc, char **argv, const char *default_shapes) {
  bench_session session = {.options = bench_options_parse(argc, argv, default_shapes)};
  session.shapes = fopen(session.options.shapes, "r");
  if (!session.shapes) {
    fprintf(stderr, "%s: cannot read %s\n", argv[0], session.options.shapes);
    exit(1);
  }
  bench_require(hfb_pool_create(session.options.threads, &session.pool));
  session.peak = hfb_peak_f32_flops(hfb_cpu()->isa, session.pool);
  printf("%s, %d threads, f32 peak %.1f GFLOP/s (measured)\n", hfb_isa_name(hfb_cpu()->isa),
         hfb_pool_size(session.pool), session.peak * 1e-9);
  return session;
}

static inline void bench_session_close(bench_session *session) {
  fclose(session->shapes);
  hfb_pool_destroy(session->pool);
}

/* Measures the peak again: on a busy machine the first number may be too low. */
static inline void bench_session_update_peak(bench_session *session) {
  const double peak = hfb_peak_f32_flops(hfb_cpu()->isa, session->pool);
  if (peak > session->peak) session->peak = peak;
}

typedef struct bench_shape {
  char name[64];
  int64_t value[MAX_SHAPE_VALUES];
} bench_shape;

/* The next line of `value_count` numbers whose name fits; 0 at the end of the file. */
static inline int bench_shape_next(const bench_session *session, int value_count, bench_shape *out_shape) {
  const char *only = session->options.only;
  char line[256];
  while (fgets(line, sizeof line, session->shapes)) {
    int used = 0;
    if (line[0] == '#' || sscanf(line, "%63s%n", out_shape->name, &used) != 1) continue;
    if (only && !strstr(out_shape->name, only)) continue;
    char *next = line + used;
    for (int i = 0; i < value_count; i++) out_shape->value[i] = strtoll(next, &next, 10);
    return 1;
  }
  return 0;
}

/* Nanoseconds of one call, repeated until a sample is long enough for the clock. */
static inline double bench_sample_ns(void (*call)(void *), void *context) {
  int64_t count = 0, elapsed_ns;
  const int64_t start_ns = hfb_clock_ns();
  do {
    call(context);
    count++;
    elapsed_ns = hfb_clock_ns() - start_ns;
  } while (elapsed_ns < SAMPLE_NS);
  return (double)elapsed_ns / (double)count;
}

static inline int bench_compare(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* The quantile of `count` samples, which are put in order. */
static inline double bench_quantile(double *samples, int count, double quantile) {
  qsort(samples, (size_t)count, sizeof *samples, bench_compare);
  return samples[(int)(quantile * (count - 1) + 0.5)];
}

/* Three columns: GFLOP/s of the median round, percent of the peak, and the percent that the best tenth of the rounds
 * reaches. Puts the samples in order. */
static inline void bench_print_rate(const bench_session *session, double flops, double *ns) {
  const double median = flops / bench_quantile(ns, session->options.rounds, 0.5);
  const double best = flops / bench_quantile(ns, session->options.rounds, 0.1);
  printf("  | %7.1f %5.1f%% %5.1f%%", median, median * 1e11 / session->peak, best * 1e11 / session->peak);
}

#endif
