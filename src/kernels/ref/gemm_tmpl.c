/* The inner loops of the reference product for one instruction set. The includer defines
 *   NAME        of the function
 *   TARGET      function attribute that allows the instructions, or nothing
 *   VEC_BYTES   bytes of a vector
 *   MR, NV      rows and vectors of columns held in registers */
#define VEC JOIN(NAME, _vec)
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

typedef double VEC __attribute__((vector_size(VEC_BYTES)));

/* c[MR][NR] += a * b for depth steps of k; a is packed [depth][MR], b [depth][NR], NR = NV vectors. */
TARGET static void NAME(int64_t depth, const double *a, const double *b, double *c, int64_t ldc) {
  enum { LANES = VEC_BYTES / 8 };
  VEC sum[MR][NV];
  for (int r = 0; r < MR; r++) {
    for (int v = 0; v < NV; v++) memcpy(&sum[r][v], c + r * ldc + v * LANES, sizeof(VEC));
  }
  for (int64_t k = 0; k < depth; k++) {
    VEC columns[NV];
    for (int v = 0; v < NV; v++) memcpy(&columns[v], b + k * NV * LANES + v * LANES, sizeof(VEC));
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++) {
      VEC row = a[k * MR + r] - (VEC){0}; /* broadcast; subtracting +0 keeps every value, -0 included */
      for (int v = 0; v < NV; v++) sum[r][v] += row * columns[v];
    }
  }
  for (int r = 0; r < MR; r++) {
    for (int v = 0; v < NV; v++) memcpy(c + r * ldc + v * LANES, &sum[r][v], sizeof(VEC));
  }
}

#undef VEC
#undef JOIN_
#undef JOIN
#undef NAME
#undef TARGET
#undef VEC_BYTES
#undef MR
#undef NV
