#include "compile/jit.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/strbuf.h"
#include "compile/jit_cc.h"

enum { LARGEST_ENTRY_BYTES = 256 << 20, HASH_TEXT_BYTES = 33 };

/* Behind the shared object in a cache entry; the loader ignores it. Written after the compiler is done, checked before
 * the file is loaded: a truncated or changed shared object may crash the loader. */
typedef struct entry_trailer {
  char magic[8];
  uint64_t bytes; /* of the shared object */
  XXH128_canonical_t hash;
} entry_trailer;

static const char trailer_magic[8] = "hfbjit1";

struct hfb_jit {
  int unit_count;
  void **handles;
};

/* One build: where its files go, and what is known about each unit. */
typedef struct unit {
  const char *code;
  char key[HASH_TEXT_BYTES];
  bool compiled;
} unit;

typedef struct build {
  const char *compiler;
  hfb_isa isa;
  int unit_count;
  unit *units;
  hfb_jit *jit;
  hfb_jit_stats stats;
} build;

/* ---- the key ---- */

/* Which compiler: its file stands for its version, since asking it takes longer than reading the cache. */
static void hash_compiler(XXH3_state_t *state, const char *path) {
  struct stat info;
  char *real = realpath(path, NULL);
  const char *name = real ? real : path;
  XXH3_128bits_update(state, name, strlen(name) + 1);
  if (stat(name, &info) == 0) {
    const int64_t facts[] = {info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
    XXH3_128bits_update(state, facts, sizeof facts);
  }
  free(real);
}

static hfb_status make_key(const build *b, unit *u) {
  XXH3_state_t *state = XXH3_createState();
  if (!state) return HFB_FAIL(HFB_OUT_OF_MEMORY, "out of memory: hash of generated code");
  XXH3_128bits_reset(state);
  hash_compiler(state, b->compiler);
  const char *const *flags = hfb_cc_flags(b->isa);
  for (int i = 0; flags[i]; i++) XXH3_128bits_update(state, flags[i], strlen(flags[i]) + 1);
  XXH3_128bits_update(state, u->code, strlen(u->code));
  const XXH128_hash_t hash = XXH3_128bits_digest(state);
  XXH3_freeState(state);
  snprintf(u->key, sizeof u->key, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
  return HFB_OK;
}

/* ---- cache entries ---- */

static entry_trailer make_trailer(const void *data, size_t bytes) {
  entry_trailer trailer = {.bytes = bytes};
  memcpy(trailer.magic, trailer_magic, sizeof trailer.magic);
  XXH128_canonicalFromHash(&trailer.hash, XXH3_128bits(data, bytes));
  return trailer;
}

static bool entry_is_whole(const hfb_file_map *map) {
  entry_trailer found;
  if (map->bytes <= sizeof found) return false;
  const size_t bytes = map->bytes - sizeof found;
  memcpy(&found, map->data + bytes, sizeof found);
  if (memcmp(found.magic, trailer_magic, sizeof found.magic) != 0 || found.bytes != bytes) return false;
  const entry_trailer wanted = make_trailer(map->data, bytes);
  return memcmp(&found.hash, &wanted.hash, sizeof found.hash) == 0;
}

static void entry_path(const char *directory, const unit *u, hfb_strbuf *out_path) {
  hfb_strbuf_printf(out_path, "%s/%s.so", directory, u->key);
}

/* Sets *out_handle to NULL when there is no usable entry. */
static hfb_status load_entry(const char *directory, const unit *u, void **out_handle) {
  hfb_strbuf path;
  hfb_strbuf_init(&path);
  entry_path(directory, u, &path);
  *out_handle = NULL;
  hfb_status status = hfb_strbuf_status(&path);
  if (status == HFB_OK && hfb_file_exists(hfb_strbuf_text(&path))) {
    hfb_file_map map;
    if (hfb_file_map_open(hfb_strbuf_text(&path), &map) == HFB_OK) {
      const bool whole = entry_is_whole(&map);
      hfb_file_map_close(&map);
      if (whole) *out_handle = dlopen(hfb_strbuf_text(&path), RTLD_NOW | RTLD_LOCAL);
    }
    if (!*out_handle)
      hfb_log(HFB_LOG_INFO, "the cache entry '%s' is damaged; it is built again", hfb_strbuf_text(&path));
  }
  hfb_strbuf_deinit(&path);
  return status;
}

/* The shared object that the compiler wrote becomes an entry: trailer, then an atomic rename. */
static hfb_status publish_entry(const char *directory, const unit *u, const char *object_path) {
  hfb_file_map map;
  if (!hfb_file_exists(object_path))
    return HFB_FAIL(HFB_COMPILE, "the C compiler reported success but wrote no output");
  HFB_TRY(hfb_file_map_open(object_path, &map));
  const entry_trailer trailer = make_trailer(map.data, map.bytes);
  hfb_file_map_close(&map);
  HFB_TRY(hfb_file_append(object_path, &trailer, sizeof trailer));
  hfb_strbuf path;
  hfb_strbuf_init(&path);
  entry_path(directory, u, &path);
  hfb_status status = hfb_strbuf_status(&path);
  if (status == HFB_OK && rename(object_path, hfb_strbuf_text(&path)) != 0) {
    status = HFB_FAIL(HFB_IO, "cannot write '%s': %s", hfb_strbuf_text(&path), strerror(errno));
  }
  hfb_strbuf_deinit(&path);
  return status;
}

/* ---- building in one directory ---- */

static hfb_status load_missing(build *b, const char *directory) {
  for (int i = 0; i < b->unit_count; i++) {
    if (!b->jit->handles[i]) HFB_TRY(load_entry(directory, &b->units[i], &b->jit->handles[i]));
  }
  return HFB_OK;
}

static int count_missing(const build *b) {
  int missing = 0;
  for (int i = 0; i < b->unit_count; i++) missing += !b->jit->handles[i];
  return missing;
}

/* Starts a compiler for every unit that is missing, waits for all, publishes what was made. */
static hfb_status compile_missing(build *b, const char *directory) {
  hfb_cc_job *jobs = NULL;
  HFB_TRY(hfb_mem_alloc((size_t)b->unit_count, sizeof *jobs, &jobs));
  hfb_status status = HFB_OK;
  for (int i = 0; i < b->unit_count && status == HFB_OK; i++) {
    if (b->jit->handles[i]) continue;
    status = hfb_cc_start(&jobs[i], b->compiler, b->isa, directory, b->units[i].key, b->units[i].code);
  }
  for (int i = 0; i < b->unit_count; i++) { /* every process is waited for, whatever happened */
    if (!jobs[i].started) continue;
    hfb_status one = hfb_cc_wait(&jobs[i], status == HFB_OK);
    if (one == HFB_OK && status == HFB_OK) one = publish_entry(directory, &b->units[i], jobs[i].object_path);
    if (status == HFB_OK) status = one;
  }
  for (int i = 0; i < b->unit_count; i++) hfb_cc_job_deinit(&jobs[i]);
  hfb_mem_free(jobs);
  return status;
}

static hfb_status build_in(build *b, const char *directory) {
  int64_t start = hfb_clock_ns();
  HFB_TRY(load_missing(b, directory));
  b->stats.load_ns += hfb_clock_ns() - start;
  if (count_missing(b) == 0) return HFB_OK;
  if (!b->compiler) return hfb_cc_fail_missing();
  start = hfb_clock_ns();
  b->stats.cache_hit = false;
  hfb_status status = compile_missing(b, directory);
  b->stats.cc_ns += hfb_clock_ns() - start;
  HFB_TRY(status);
  start = hfb_clock_ns();
  HFB_TRY(load_missing(b, directory));
  b->stats.load_ns += hfb_clock_ns() - start;
  if (count_missing(b) == 0) return HFB_OK;
  const char *reason = dlerror();
  return HFB_FAIL(
      HFB_IO, "cannot load compiled code from '%s': %s; set HFBENCH_CACHE to a directory from which code may be loaded",
      directory, reason ? reason : "it was changed meanwhile");
}

/* A directory for this build only; what was loaded from it stays loaded when it is gone. */
static hfb_status build_in_temporary(build *b) {
  const char *root = getenv("TMPDIR");
  hfb_strbuf path;
  hfb_strbuf_init(&path);
  hfb_strbuf_printf(&path, "%s/hfbench-XXXXXX", root && root[0] ? root : "/tmp");
  hfb_status status = hfb_strbuf_status(&path);
  if (status == HFB_OK && !mkdtemp(path.data)) {
    status =
        HFB_FAIL(HFB_IO, "cannot create a temporary directory '%s': %s; set TMPDIR to a place that you may write to",
                 path.data, strerror(errno));
  } else if (status == HFB_OK) {
    status = build_in(b, path.data);
    for (int i = 0; i < b->unit_count; i++) {
      hfb_strbuf entry;
      hfb_strbuf_init(&entry);
      entry_path(path.data, &b->units[i], &entry);
      if (hfb_strbuf_status(&entry) == HFB_OK) unlink(hfb_strbuf_text(&entry));
      hfb_strbuf_deinit(&entry);
    }
    rmdir(path.data);
  }
  hfb_strbuf_deinit(&path);
  return status;
}

/* ---- the public functions ---- */

/* The default directory: HFBENCH_CACHE, XDG_CACHE_HOME/hfbench, ~/.cache/hfbench, /tmp/hfbench-UID. */
static void default_directory(hfb_strbuf *out_path) {
  const char *own = getenv("HFBENCH_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  if (own && own[0])
    hfb_strbuf_append(out_path, own);
  else if (xdg && xdg[0])
    hfb_strbuf_printf(out_path, "%s/hfbench", xdg);
  else if (home && home[0])
    hfb_strbuf_printf(out_path, "%s/.cache/hfbench", home);
  else
    hfb_strbuf_printf(out_path, "/tmp/hfbench-%ld", (long)getuid());
}

static hfb_status build_in_cache(build *b, const char *directory) {
  hfb_status status = hfb_dir_create(directory);
  if (status == HFB_OK) status = build_in(b, directory);
  if (status != HFB_IO && status != HFB_NOT_FOUND) return status;
  hfb_log(HFB_LOG_WARNING, "the cache of compiled code is not used: %s", hfb_error_message());
  return build_in_temporary(b);
}

static hfb_status run_build(build *b, const char *const *codes, const char *cache_dir) {
  HFB_TRY(hfb_mem_alloc((size_t)b->unit_count, sizeof *b->units, &b->units));
  HFB_TRY(hfb_mem_alloc(1, sizeof *b->jit, &b->jit));
  HFB_TRY(hfb_mem_alloc((size_t)b->unit_count, sizeof *b->jit->handles, &b->jit->handles));
  b->jit->unit_count = b->unit_count;
  if (!b->compiler) return hfb_cc_fail_missing();
  for (int i = 0; i < b->unit_count; i++) {
    b->units[i].code = codes[i];
    HFB_TRY(make_key(b, &b->units[i]));
  }
  if (cache_dir && !cache_dir[0]) return build_in_temporary(b);
  hfb_strbuf directory;
  hfb_strbuf_init(&directory);
  if (cache_dir)
    hfb_strbuf_append(&directory, cache_dir);
  else
    default_directory(&directory);
  hfb_status status = hfb_strbuf_status(&directory);
  if (status == HFB_OK) status = build_in_cache(b, hfb_strbuf_text(&directory));
  hfb_strbuf_deinit(&directory);
  return status;
}

hfb_status hfb_jit_build(int unit_count, const char *const *units, hfb_isa isa, const char *cache_dir,
                         hfb_jit **out_jit, hfb_jit_stats *out_stats) {
  build b = {.compiler = hfb_jit_compiler(), .isa = isa, .unit_count = unit_count, .stats.cache_hit = true};
  *out_jit = NULL;
  hfb_status status = run_build(&b, units, cache_dir);
  hfb_mem_free(b.units);
  if (status != HFB_OK) {
    hfb_jit_destroy(b.jit);
    return status;
  }
  *out_jit = b.jit;
  if (out_stats) *out_stats = b.stats;
  return HFB_OK;
}

void *hfb_jit_symbol(const hfb_jit *jit, const char *name) {
  for (int i = 0; i < jit->unit_count; i++) {
    void *symbol = dlsym(jit->handles[i], name);
    if (symbol) return symbol;
  }
  return NULL;
}

void hfb_jit_destroy(hfb_jit *jit) {
  if (!jit) return;
  for (int i = 0; i < jit->unit_count && jit->handles; i++) {
    if (jit->handles[i]) dlclose(jit->handles[i]);
  }
  hfb_mem_free(jit->handles);
  hfb_mem_free(jit);
}
