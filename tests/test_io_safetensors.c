/* safetensors: good files, every kind of bad file, conversion, writing. */
#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/half.h"
#include "base/memory.h"
#include "base/rng.h"
#include "io/safetensors.h"

/* A file in memory of exactly its size, so that a sanitizer sees any read beyond. */
typedef struct image {
  unsigned char *bytes;
  size_t size;
} image;

static image make_image(uint64_t header_length, const char *header, size_t header_bytes, size_t data_bytes) {
  image file = {.size = 8 + header_bytes + data_bytes};
  file.bytes = malloc(file.size);
  assert_non_null(file.bytes);
  for (int i = 0; i < 8; i++) file.bytes[i] = (unsigned char)(header_length >> (8 * i));
  memcpy(file.bytes + 8, header, header_bytes);
  for (size_t i = 0; i < data_bytes; i++) file.bytes[8 + header_bytes + i] = (unsigned char)(i * 37 + 11);
  return file;
}

static hfb_status parse_image(image file, hfb_safetensors **out_file) {
  return hfb_safetensors_parse("test.safetensors", file.bytes, file.size, out_file);
}

#define TWO_TENSORS                                                   \
  "{\"__metadata__\":{\"format\":\"pt\"},"                            \
  "\"b\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[24,40]}," \
  "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}  "

static void test_good_file(void **state) {
  (void)state;
  image file = make_image(strlen(TWO_TENSORS), TWO_TENSORS, strlen(TWO_TENSORS), 40);
  hfb_safetensors *parsed = NULL;
  assert_int_equal(parse_image(file, &parsed), HFB_OK);
  assert_int_equal(hfb_safetensors_count(parsed), 2);
  const hfb_stored_tensor *a = hfb_safetensors_find(parsed, "a"), *b = hfb_safetensors_find(parsed, "b");
  assert_ptr_equal(a, hfb_safetensors_at(parsed, 0));
  assert_ptr_equal(b, hfb_safetensors_at(parsed, 1));
  assert_null(hfb_safetensors_find(parsed, "c"));
  assert_null(hfb_safetensors_find(parsed, "__metadata__"));
  assert_int_equal(a->storage, HFB_STORAGE_F32);
  assert_int_equal(a->shape.rank, 2);
  assert_int_equal(a->shape.dim[1], 3);
  assert_int_equal(a->bytes, 24);
  assert_memory_equal(a->data, file.bytes + file.size - 40, 24);
  assert_memory_equal(b->data, file.bytes + file.size - 16, 16);
  assert_string_equal(hfb_safetensors_path(a->file), "test.safetensors");
  hfb_safetensors_destroy(parsed);
  free(file.bytes);
}

static void test_scalars_and_empty_tensors(void **state) {
  (void)state;
  const char *header =
      "{\"scalar\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,8]},"
      "\"none\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[8,8]},"
      "\"empty\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[0,0]}}";
  image file = make_image(strlen(header), header, strlen(header), 8);
  hfb_safetensors *parsed = NULL;
  assert_int_equal(parse_image(file, &parsed), HFB_OK);
  assert_int_equal(hfb_safetensors_find(parsed, "scalar")->shape.rank, 0);
  assert_int_equal(hfb_safetensors_find(parsed, "none")->bytes, 0);
  float out = 5;
  assert_int_equal(hfb_safetensors_convert(hfb_safetensors_find(parsed, "none"), 0, 0, HFB_F32, &out), HFB_OK);
  assert_float_equal(out, 5, 0);
  hfb_safetensors_destroy(parsed);
  image nothing = make_image(2, "{}", 2, 0);
  assert_int_equal(parse_image(nothing, &parsed), HFB_OK);
  assert_int_equal(hfb_safetensors_count(parsed), 0);
  assert_null(hfb_safetensors_find(parsed, ""));
  hfb_safetensors_destroy(parsed);
  free(nothing.bytes);
  free(file.bytes);
}

/* ---- Bad files ---- */

typedef struct bad_file {
  const char *header;
  size_t data_bytes;
  hfb_status status;
  const char *message; /* must be part of it */
} bad_file;

#define ENTRY(text)                   "{\"w\":" text "}"
#define TENSOR(dtype, shape, offsets) ENTRY("{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}")

static const bad_file bad_files[] = {
    /* offsets */
    {TENSOR("\"F32\"", "[2]", "[0,8]"), 7, HFB_CORRUPT, "ends at byte 8 of 7"},
    {TENSOR("\"F32\"", "[2]", "[0,9223372036854775807]"), 8, HFB_CORRUPT, "truncated"},
    {TENSOR("\"F32\"", "[2]", "[-8,0]"), 8, HFB_CORRUPT, "do not ascend"},
    {TENSOR("\"F32\"", "[2]", "[8,0]"), 8, HFB_CORRUPT, "do not ascend"},
    {TENSOR("\"F32\"", "[2]", "[0,8,16]"), 16, HFB_CORRUPT, "data_offsets"},
    {TENSOR("\"F32\"", "[2]", "[0]"), 8, HFB_CORRUPT, "data_offsets"},
    {TENSOR("\"F32\"", "[2]", "[0.0,8.0]"), 8, HFB_CORRUPT, "data_offsets"},
    {TENSOR("\"F32\"", "[2]", "\"0,8\""), 8, HFB_CORRUPT, "data_offsets"},
    {TENSOR("\"F32\"", "[2]", "{\"0\":0,\"1\":8}"), 8, HFB_CORRUPT, "data_offsets"},
    {TENSOR("\"F32\"", "[2]", "[0,18446744073709551616]"), 8, HFB_CORRUPT, "not valid JSON"},
    {ENTRY("{\"dtype\":\"F32\",\"shape\":[2]}"), 8, HFB_CORRUPT, "data_offsets"},
    /* sizes */
    {TENSOR("\"F32\"", "[3]", "[0,8]"), 8, HFB_CORRUPT, "takes 12 bytes"},
    {TENSOR("\"F64\"", "[2]", "[0,8]"), 8, HFB_CORRUPT, "takes 16 bytes"},
    {TENSOR("\"F32\"", "[]", "[0,8]"), 8, HFB_CORRUPT, "takes 4 bytes"},
    {TENSOR("\"F32\"", "[0]", "[0,8]"), 8, HFB_CORRUPT, "takes 0 bytes"},
    {TENSOR("\"F32\"", "[-2]", "[0,8]"), 8, HFB_CORRUPT, "negative"},
    {TENSOR("\"F32\"", "[-2,-1]", "[0,8]"), 8, HFB_CORRUPT, "negative"},
    {TENSOR("\"F32\"", "[4294967296,4294967296]", "[0,0]"), 0, HFB_CORRUPT, "impossible"},
    {TENSOR("\"F32\"", "[9223372036854775807,2]", "[0,8]"), 8, HFB_CORRUPT, "impossible"},
    {TENSOR("\"F32\"", "[0,9223372036854775807,9223372036854775807]", "[0,0]"), 0, HFB_CORRUPT, "impossible"},
    {TENSOR("\"F32\"", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), 8, HFB_UNSUPPORTED, "9 dimensions"},
    {TENSOR("\"F32\"", "[2.0]", "[0,8]"), 8, HFB_CORRUPT, "not an integer"},
    {TENSOR("\"F32\"", "[null]", "[0,8]"), 8, HFB_CORRUPT, "not an integer"},
    {TENSOR("\"F32\"", "2", "[0,8]"), 8, HFB_CORRUPT, "\"shape\""},
    /* dtypes */
    {TENSOR("\"F8_E4M3\"", "[8]", "[0,8]"), 8, HFB_UNSUPPORTED, "F8_E4M3"},
    {TENSOR("\"f32\"", "[2]", "[0,8]"), 8, HFB_UNSUPPORTED, "'f32'"},
    {TENSOR("32", "[2]", "[0,8]"), 8, HFB_CORRUPT, "\"dtype\""},
    {ENTRY("{\"shape\":[2],\"data_offsets\":[0,8]}"), 8, HFB_CORRUPT, "\"dtype\""},
    {ENTRY("[]"), 0, HFB_CORRUPT, "not an object"},
    {ENTRY("null"), 0, HFB_CORRUPT, "not an object"},
    /* coverage */
    {TENSOR("\"F32\"", "[2]", "[0,8]"), 9, HFB_CORRUPT, "1 bytes behind w"},
    {TENSOR("\"F32\"", "[2]", "[4,12]"), 12, HFB_CORRUPT, "4 bytes between the header and w"},
    {"{}", 3, HFB_CORRUPT, "3 bytes behind the header"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[3,7]}}",
     7, HFB_CORRUPT, "a and b overlap"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
     4, HFB_CORRUPT, "a and b overlap"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
     8, HFB_CORRUPT, "a and b overlap"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[6,10]}}",
     10, HFB_CORRUPT, "2 bytes between a and b"},
    /* JSON */
    {"{\"w\":", 0, HFB_CORRUPT, "not valid JSON"},
    {"{} x", 0, HFB_CORRUPT, "not valid JSON"},
    {"[]", 0, HFB_CORRUPT, "does not start with '{'"},
    {" {}", 0, HFB_CORRUPT, "does not start with '{'"},
    {"{\"w\":[[[[]]]]}", 0, HFB_CORRUPT, "deeper than 3"},
    {"{\"\xff\":1}", 0, HFB_CORRUPT, "not valid JSON"},
    {"{\"a\\u0000b\":1}", 0, HFB_CORRUPT, "not valid JSON"},
    {"{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
     "\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
     1, HFB_CORRUPT, "duplicate"},
    {"{\"w\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, HFB_CORRUPT, "duplicate"},
    {"{\"__metadata__\":[]}", 0, HFB_CORRUPT, "__metadata__"},
    {"{\"__metadata__\":{\"a\":1}}", 0, HFB_CORRUPT, "'a' is not a text"},
};

static void assert_one_line_about(const char *path) {
  const char *message = hfb_error_message();
  assert_non_null(strstr(message, path));
  assert_null(strchr(message, '\n'));
  assert_true(strlen(message) < 1000);
}

static void test_bad_files(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof(bad_files) / sizeof(bad_files[0]); i++) {
    const bad_file *bad = &bad_files[i];
    image file = make_image(strlen(bad->header), bad->header, strlen(bad->header), bad->data_bytes);
    hfb_safetensors *parsed = (hfb_safetensors *)&file;
    hfb_status status = parse_image(file, &parsed);
    if (status != bad->status || !strstr(hfb_error_message(), bad->message)) {
      fail_msg("%s\n gave %s: %s\n wanted %s: ..%s..", bad->header, hfb_status_name(status), hfb_error_message(),
               hfb_status_name(bad->status), bad->message);
    }
    assert_null(parsed);
    assert_one_line_about("test.safetensors");
    free(file.bytes);
  }
}

static void test_header_lengths(void **state) {
  (void)state;
  static const uint64_t lengths[] = {0, 1, 3, 8, 1000, 100000000, 100000001, UINT32_MAX, INT64_MAX, UINT64_MAX};
  for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
    image file = make_image(lengths[i], "{}", 2, 0);
    hfb_safetensors *parsed = NULL;
    assert_int_equal(parse_image(file, &parsed), HFB_CORRUPT);
    if (lengths[i] > HFB_SAFETENSORS_HEADER_MAX_BYTES) assert_non_null(strstr(hfb_error_message(), "over the limit"));
    assert_one_line_about("test.safetensors");
    free(file.bytes);
  }
}

static void test_truncation_at_every_byte(void **state) {
  (void)state;
  image whole = make_image(strlen(TWO_TENSORS), TWO_TENSORS, strlen(TWO_TENSORS), 40);
  for (size_t size = 0; size < whole.size; size++) {
    image cut = {malloc(size + 1), size};
    assert_non_null(cut.bytes);
    memcpy(cut.bytes, whole.bytes, size);
    hfb_safetensors *parsed = NULL;
    assert_int_equal(parse_image(cut, &parsed), HFB_CORRUPT);
    assert_one_line_about("test.safetensors");
    free(cut.bytes);
  }
  free(whole.bytes);
}

/* Whatever a damaged header says, what is accepted lies inside the file. */
static void test_damage_at_every_byte(void **state) {
  (void)state;
  image whole = make_image(strlen(TWO_TENSORS), TWO_TENSORS, strlen(TWO_TENSORS), 40);
  int accepted = 0;
  for (size_t at = 0; at < whole.size - 40; at++) {
    unsigned char kept = whole.bytes[at];
    for (int value = 0; value < 256; value++) {
      whole.bytes[at] = (unsigned char)value;
      hfb_safetensors *parsed = NULL;
      if (parse_image(whole, &parsed) != HFB_OK) continue;
      accepted++;
      for (int i = 0; i < hfb_safetensors_count(parsed); i++) {
        const hfb_stored_tensor *tensor = hfb_safetensors_at(parsed, i);
        assert_true(tensor->data >= whole.bytes && tensor->data + tensor->bytes <= whole.bytes + whole.size);
        assert_int_equal(tensor->bytes,
                         (size_t)hfb_shape_elements(&tensor->shape) * hfb_storage_bytes(tensor->storage));
      }
      hfb_safetensors_destroy(parsed);
    }
    whole.bytes[at] = kept;
  }
  assert_true(accepted > 256); /* other names, other metadata: still files */
  free(whole.bytes);
}

/* Names with line breaks or of any length cannot break the one-line message. */
static void test_hostile_names(void **state) {
  (void)state;
  enum { NAME_BYTES = 20000 };
  char *header = malloc(NAME_BYTES + 100);
  assert_non_null(header);
  memcpy(header, "{\"", 2);
  memset(header + 2, 'n', NAME_BYTES);
  strcpy(header + 2 + NAME_BYTES, "\\n%s%n\":{\"dtype\":\"F32\",\"shape\":[7],\"data_offsets\":[0,1]}}");
  image file = make_image(strlen(header), header, strlen(header), 1);
  hfb_safetensors *parsed = NULL;
  assert_int_equal(parse_image(file, &parsed), HFB_CORRUPT);
  assert_one_line_about("test.safetensors");
  free(file.bytes);
  free(header);
}

static void test_value_flood_is_refused(void **state) {
  (void)state;
  enum { COUNT = 5 << 20 };
  char *header = malloc(COUNT);
  assert_non_null(header);
  memset(header, ',', COUNT);
  memcpy(header, "{\"w\":[", 6);
  for (size_t i = 6; i < COUNT; i += 2) header[i] = '0';
  image file = make_image(COUNT, header, COUNT, 0);
  hfb_safetensors *parsed = NULL;
  assert_int_equal(parse_image(file, &parsed), HFB_CORRUPT);
  assert_non_null(strstr(hfb_error_message(), "more than 2097152 values"));
  free(file.bytes);
  free(header);
}

static void test_every_failed_allocation(void **state) {
  (void)state;
  image file = make_image(strlen(TWO_TENSORS), TWO_TENSORS, strlen(TWO_TENSORS), 40);
  bool worked = false;
  int failures = 0;
  for (int nth = 1; !worked && nth < 100; nth++) {
    hfb_safetensors *parsed = NULL;
    hfb_mem_fail_at(nth, 0);
    hfb_status status = parse_image(file, &parsed);
    hfb_mem_fail_at(0, 0);
    worked = status == HFB_OK;
    if (!worked) assert_int_equal(status, HFB_OUT_OF_MEMORY);
    failures += !worked;
    hfb_safetensors_destroy(parsed);
  }
  assert_true(worked && failures > 0);
  free(file.bytes);
}

/* ---- Files on disk ---- */

typedef struct scratch {
  char folder[64];
  char path[96];
} scratch;

static scratch make_scratch(void) {
  scratch s = {.folder = "/tmp/hfb_test_io_XXXXXX"};
  assert_non_null(mkdtemp(s.folder));
  snprintf(s.path, sizeof(s.path), "%s/x.safetensors", s.folder);
  return s;
}

static void remove_scratch(scratch *s) {
  unlink(s->path);
  assert_int_equal(rmdir(s->folder), 0); /* also: no temporary file was left */
}

static void test_missing_and_empty_files(void **state) {
  (void)state;
  scratch s = make_scratch();
  hfb_safetensors *parsed = NULL;
  assert_int_equal(hfb_safetensors_open(s.path, &parsed), HFB_NOT_FOUND);
  assert_one_line_about(s.path);
  assert_int_equal(hfb_safetensors_open(s.folder, &parsed), HFB_IO);
  assert_int_equal(hfb_file_write_atomic(s.path, "", 0), HFB_OK);
  assert_int_equal(hfb_safetensors_open(s.path, &parsed), HFB_CORRUPT);
  assert_one_line_about(s.path);
  remove_scratch(&s);
}

static hfb_stored_tensor stored(const char *name, hfb_storage storage, int rank, const int64_t *dims,
                                const void *data) {
  hfb_stored_tensor tensor = {.name = name, .storage = storage, .shape = hfb_shape_of(rank, dims), .data = data};
  tensor.bytes = (size_t)hfb_shape_elements(&tensor.shape) * hfb_storage_bytes(storage);
  return tensor;
}

static void test_write_and_read_back(void **state) {
  (void)state;
  scratch s = make_scratch();
  const uint8_t flags[3] = {1, 0, 1};
  const float floats[6] = {0, -1.5f, FLT_MAX, FLT_MIN, 1e-45f, -0.0f};
  const int64_t ints[2] = {INT64_MIN, INT64_MAX};
  const double one = 0.1;
  const hfb_stored_tensor tensors[] = {
      stored("flags \"quoted\\\" \xc3\xa9\n", HFB_STORAGE_BOOL, 1, (int64_t[]){3}, flags),
      stored("floats", HFB_STORAGE_F32, 3, (int64_t[]){1, 2, 3}, floats),
      stored("empty", HFB_STORAGE_F16, 2, (int64_t[]){0, 4}, NULL),
      stored("ints", HFB_STORAGE_I64, 1, (int64_t[]){2}, ints),
      stored("scalar", HFB_STORAGE_F64, 0, NULL, &one),
  };
  enum { COUNT = sizeof(tensors) / sizeof(tensors[0]) };
  assert_int_equal(hfb_safetensors_write(s.path, tensors, COUNT), HFB_OK);
  hfb_safetensors *parsed = NULL;
  assert_int_equal(hfb_safetensors_open(s.path, &parsed), HFB_OK);
  assert_int_equal(hfb_safetensors_count(parsed), COUNT);
  for (int i = 0; i < COUNT; i++) {
    const hfb_stored_tensor *read = hfb_safetensors_find(parsed, tensors[i].name);
    assert_non_null(read);
    assert_int_equal(read->storage, tensors[i].storage);
    assert_true(hfb_shape_equal(&read->shape, &tensors[i].shape));
    assert_int_equal(read->bytes, tensors[i].bytes);
    if (read->bytes) assert_memory_equal(read->data, tensors[i].data, read->bytes);
    assert_int_equal((uintptr_t)read->data % hfb_storage_bytes(read->storage), 0);
  }
  hfb_safetensors_destroy(parsed);
  remove_scratch(&s);
}

static void test_write_failures(void **state) {
  (void)state;
  scratch s = make_scratch();
  const float value = 1;
  const hfb_stored_tensor twice[] = {stored("w", HFB_STORAGE_F32, 0, NULL, &value),
                                     stored("w", HFB_STORAGE_F32, 0, NULL, &value)};
  assert_int_equal(hfb_safetensors_write(s.path, twice, 2), HFB_INVALID_ARGUMENT);
  assert_int_equal(hfb_safetensors_write("/nonexistent/x.safetensors", twice, 1), HFB_NOT_FOUND);
  /* A full disk: the message says so. */
  if (access("/dev/full", W_OK) == 0) {
    assert_int_equal(hfb_safetensors_write("/dev/full", twice, 1), HFB_IO);
    assert_non_null(strstr(hfb_error_message(), "disk is full"));
  }
  bool worked = false;
  for (int nth = 1; !worked && nth < 100; nth++) {
    hfb_mem_fail_at(nth, 0);
    worked = hfb_safetensors_write(s.path, twice, 1) == HFB_OK;
    hfb_mem_fail_at(0, 0);
    if (!worked) assert_false(hfb_file_exists(s.path));
  }
  assert_true(worked);
  remove_scratch(&s);
}

/* ---- Conversion ---- */

/* One tensor over bytes that start at an odd address. */
static hfb_stored_tensor odd_tensor(unsigned char *room, hfb_storage storage, int64_t count, const void *data) {
  unsigned char *odd = room + 1 - ((uintptr_t)room & 1);
  memcpy(odd, data, (size_t)count * hfb_storage_bytes(storage));
  return stored("odd", storage, 1, &count, odd);
}

static void test_convert_floats(void **state) {
  (void)state;
  const double doubles[] = {0, -0.0, 1, -2.5, 1.0 / 3, 65504, 1e30, -1e-30, 6.1e-5};
  enum { COUNT = sizeof(doubles) / sizeof(doubles[0]) };
  float floats[COUNT];
  uint16_t halves[COUNT], brains[COUNT];
  for (int i = 0; i < COUNT; i++) {
    floats[i] = (float)doubles[i];
    halves[i] = hfb_f32_to_f16(floats[i]);
    brains[i] = hfb_f32_to_bf16(floats[i]);
  }
  const struct {
    hfb_storage storage;
    const void *data;
  } sources[] = {
      {HFB_STORAGE_F64, doubles}, {HFB_STORAGE_F32, floats}, {HFB_STORAGE_F16, halves}, {HFB_STORAGE_BF16, brains}};
  for (int s = 0; s < 4; s++) {
    unsigned char room[COUNT * 8 + 2];
    hfb_stored_tensor tensor = odd_tensor(room, sources[s].storage, COUNT, sources[s].data);
    double as_f64[COUNT];
    float as_f32[COUNT];
    uint16_t as_f16[COUNT], as_bf16[COUNT];
    assert_int_equal(hfb_safetensors_convert(&tensor, 0, COUNT, HFB_F64, as_f64), HFB_OK);
    assert_int_equal(hfb_safetensors_convert(&tensor, 0, COUNT, HFB_F32, as_f32), HFB_OK);
    assert_int_equal(hfb_safetensors_convert(&tensor, 0, COUNT, HFB_F16, as_f16), HFB_OK);
    assert_int_equal(hfb_safetensors_convert(&tensor, 0, COUNT, HFB_BF16, as_bf16), HFB_OK);
    for (int i = 0; i < COUNT; i++) {
      double exact = s == 0   ? doubles[i]
                     : s == 1 ? floats[i]
                     : s == 2 ? hfb_f16_to_f32(halves[i])
                              : hfb_bf16_to_f32(brains[i]);
      float single = (float)exact;
      assert_memory_equal(&as_f64[i], &exact, sizeof(exact));
      assert_memory_equal(&as_f32[i], &single, sizeof(single));
      assert_int_equal(as_f16[i], hfb_f32_to_f16(single));
      assert_int_equal(as_bf16[i], hfb_f32_to_bf16(single));
    }
  }
}

static void test_convert_ints(void **state) {
  (void)state;
  const int16_t shorts[] = {0, 1, -1, INT16_MIN, INT16_MAX};
  unsigned char room[64];
  int64_t wide[5];
  int32_t ints[5];
  uint8_t small[5];
  hfb_stored_tensor tensor = odd_tensor(room, HFB_STORAGE_I16, 5, shorts);
  assert_int_equal(hfb_safetensors_convert(&tensor, 0, 5, HFB_I64, wide), HFB_OK);
  assert_int_equal(hfb_safetensors_convert(&tensor, 0, 5, HFB_I32, ints), HFB_OK);
  for (int i = 0; i < 5; i++) {
    assert_int_equal(wide[i], shorts[i]);
    assert_int_equal(ints[i], shorts[i]);
  }
  assert_int_equal(hfb_safetensors_convert(&tensor, 0, 5, HFB_U8, small), HFB_MISMATCH);
  assert_non_null(strstr(hfb_error_message(), "-1 does not fit u8"));
  assert_int_equal(hfb_safetensors_convert(&tensor, 0, 2, HFB_BOOL, small), HFB_OK);
  assert_int_equal(small[1], 1);
  /* A part from the middle. */
  assert_int_equal(hfb_safetensors_convert(&tensor, 3, 2, HFB_I64, wide), HFB_OK);
  assert_int_equal(wide[0], INT16_MIN);
  assert_int_equal(wide[1], INT16_MAX);
  const int8_t bytes[] = {-128, 127};
  tensor = odd_tensor(room, HFB_STORAGE_I8, 2, bytes);
  assert_int_equal(hfb_safetensors_convert(&tensor, 0, 2, HFB_I32, ints), HFB_OK);
  assert_int_equal(ints[0], -128);
  const int64_t large[] = {(int64_t)INT32_MAX + 1};
  tensor = odd_tensor(room, HFB_STORAGE_I64, 1, large);
  assert_int_equal(hfb_safetensors_convert(&tensor, 0, 1, HFB_I32, ints), HFB_MISMATCH);
  const uint8_t flags[] = {0, 1, 2};
  tensor = odd_tensor(room, HFB_STORAGE_BOOL, 3, flags);
  assert_int_equal(hfb_safetensors_convert(&tensor, 0, 3, HFB_I64, wide), HFB_CORRUPT);
  assert_int_equal(hfb_safetensors_convert(&tensor, 0, 3, HFB_F32, ints), HFB_MISMATCH);
  assert_non_null(strstr(hfb_error_message(), "BOOL where f32"));
}

static void test_convert_in_blocks(void **state) {
  (void)state;
  enum { COUNT = 5000 };
  double *values = malloc(COUNT * sizeof(double));
  float *out = malloc((COUNT + 1) * sizeof(float));
  assert_true(values && out);
  for (int i = 0; i < COUNT; i++) values[i] = i * 0.37 - 5;
  hfb_stored_tensor tensor = stored("v", HFB_STORAGE_F64, 1, (int64_t[]){COUNT}, values);
  for (int first = 0; first < 600; first += 77) {
    out[COUNT - first] = 99;
    assert_int_equal(hfb_safetensors_convert(&tensor, first, COUNT - first, HFB_F32, out), HFB_OK);
    for (int i = first; i < COUNT; i++) assert_true(out[i - first] == (float)values[i]);
    assert_true(out[COUNT - first] == 99);
  }
  free(out);
  free(values);
}

static void test_storage_and_dtype_agree(void **state) {
  (void)state;
  for (int d = 0; d < HFB_DTYPE_COUNT; d++) {
    hfb_storage storage = hfb_storage_of((hfb_dtype)d);
    assert_int_equal(hfb_storage_dtype(storage), d);
    assert_int_equal(hfb_storage_bytes(storage), hfb_dtype_bytes((hfb_dtype)d));
  }
  for (int s = 0; s < HFB_STORAGE_COUNT; s++) {
    assert_true(hfb_dtype_bytes(hfb_storage_dtype((hfb_storage)s)) >= hfb_storage_bytes((hfb_storage)s));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_good_file),
      cmocka_unit_test(test_scalars_and_empty_tensors),
      cmocka_unit_test(test_bad_files),
      cmocka_unit_test(test_header_lengths),
      cmocka_unit_test(test_truncation_at_every_byte),
      cmocka_unit_test(test_damage_at_every_byte),
      cmocka_unit_test(test_hostile_names),
      cmocka_unit_test(test_value_flood_is_refused),
      cmocka_unit_test(test_every_failed_allocation),
      cmocka_unit_test(test_missing_and_empty_files),
      cmocka_unit_test(test_write_and_read_back),
      cmocka_unit_test(test_write_failures),
      cmocka_unit_test(test_convert_floats),
      cmocka_unit_test(test_convert_ints),
      cmocka_unit_test(test_convert_in_blocks),
      cmocka_unit_test(test_storage_and_dtype_agree),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
