/* One dtype from and to the wide types. The includer defines
 *   DTYPE      name of the dtype, as the functions are called
 *   T          C type of an element
 *   WIDE       double for float dtypes, int64_t for integers and bool: holds every value exactly
 *   TO_WIDE(x) value of an element
 *   OF_F64(x), OF_I64(x)  element from a double, from an int64 */
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)

static void CAT(load_, DTYPE)(const char *from, int64_t stride, void *wide, int64_t count) {
  WIDE *values = wide;
  for (int64_t i = 0; i < count; i++) values[i] = (WIDE)TO_WIDE(*(const T *)(from + i * stride));
}

static void CAT(store_f64_, DTYPE)(const double *wide, char *to, int64_t stride, int64_t count) {
  for (int64_t i = 0; i < count; i++) *(T *)(to + i * stride) = OF_F64(wide[i]);
}

static void CAT(store_i64_, DTYPE)(const int64_t *wide, char *to, int64_t stride, int64_t count) {
  for (int64_t i = 0; i < count; i++) *(T *)(to + i * stride) = OF_I64(wide[i]);
}

#undef CAT_
#undef CAT
#undef DTYPE
#undef T
#undef WIDE
#undef TO_WIDE
#undef OF_F64
#undef OF_I64
