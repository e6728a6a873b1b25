#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

/* One wording for every refusal; `verb` as in "cannot <verb> 'path'". */
static hfb_status fail_errno(int error, const char *verb, const char *path) {
  hfb_status status = error == ENOENT ? HFB_NOT_FOUND : HFB_IO;
  const char *hint = "";
  if (error == ENOSPC || error == EDQUOT) hint = "; the disk is full, free some space";
  if (error == EROFS || error == EACCES || error == EPERM) hint = "; choose a place that you may use";
  return HFB_FAIL(status, "cannot %s '%s': %s%s", verb, path, strerror(error), hint);
}

static int open_retrying(const char *path, int flags) {
  int fd;
  do fd = open(path, flags | O_CLOEXEC, 0666);
  while (fd < 0 && errno == EINTR);
  return fd;
}

/* Returns the bytes read, less than `bytes` only at the end of the file; -1 with errno on failure. */
static ssize_t read_fully(int fd, char *data, size_t bytes) {
  size_t done = 0;
  while (done < bytes) {
    ssize_t count = read(fd, data + done, bytes - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -1;
    if (count == 0) break;
    done += (size_t)count;
  }
  return (ssize_t)done;
}

static bool write_fully(int fd, const char *data, size_t bytes) {
  while (bytes > 0) {
    ssize_t count = write(fd, data, bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    data += count;
    bytes -= (size_t)count;
  }
  return true;
}

/* Sizes are not trusted (pipes, files that grow): reads until the end, doubling, never past max_bytes + 1. */
static hfb_status read_growing(int fd, const char *path, size_t first_bytes, size_t max_bytes, char **out_data,
                               size_t *out_bytes) {
  size_t capacity = first_bytes, used = 0;
  for (;;) {
    hfb_status status = hfb_mem_grow(out_data, capacity + 1, 1);
    if (status != HFB_OK) return status;
    ssize_t count = read_fully(fd, *out_data + used, capacity - used);
    if (count < 0) return fail_errno(errno, "read", path);
    used += (size_t)count;
    if (used > max_bytes) {
      return HFB_FAIL(HFB_CORRUPT, "'%s' is larger than %zu bytes, the limit for a file of this kind", path,
                      max_bytes);
    }
    if (used < capacity) break;
    capacity = capacity > max_bytes / 2 ? max_bytes + 1 : capacity * 2;
  }
  (*out_data)[used] = '\0';
  *out_bytes = used;
  return HFB_OK;
}

hfb_status hfb_file_read(const char *path, size_t max_bytes, char **out_data, size_t *out_bytes) {
  *out_data = NULL;
  *out_bytes = 0;
  int fd = open_retrying(path, O_RDONLY);
  if (fd < 0) return fail_errno(errno, "open", path);
  hfb_status status = HFB_OK;
  struct stat info;
  if (fstat(fd, &info) != 0) status = fail_errno(errno, "open", path);
  if (status == HFB_OK) {
    if (max_bytes > SIZE_MAX / 4) max_bytes = SIZE_MAX / 4;
    /* One byte more than the file, so that its end is seen without a second round. */
    size_t first_bytes = S_ISREG(info.st_mode) && info.st_size > 0 ? (size_t)info.st_size + 1 : 4096;
    if (first_bytes > max_bytes + 1) first_bytes = max_bytes + 1;
    status = read_growing(fd, path, first_bytes, max_bytes, out_data, out_bytes);
  }
  close(fd);
  if (status != HFB_OK) {
    hfb_mem_free(*out_data);
    *out_data = NULL;
  }
  return status;
}

hfb_status hfb_file_map_open(const char *path, hfb_file_map *out_map) {
  *out_map = (hfb_file_map){0};
  int fd = open_retrying(path, O_RDONLY);
  if (fd < 0) return fail_errno(errno, "open", path);
  hfb_status status = HFB_OK;
  struct stat info;
  if (fstat(fd, &info) != 0) {
    status = fail_errno(errno, "open", path);
  } else if (!S_ISREG(info.st_mode)) {
    status = HFB_FAIL(HFB_IO, "cannot open '%s': it is not a regular file", path);
  } else if (info.st_size > 0) {
    void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
      status = fail_errno(errno, "map", path);
    } else {
      *out_map = (hfb_file_map){.data = data, .bytes = (size_t)info.st_size};
    }
  }
  close(fd);
  return status;
}

void hfb_file_map_close(hfb_file_map *map) {
  if (map->data) munmap((void *)map->data, map->bytes);
  *map = (hfb_file_map){0};
}

/* Writes, syncs when asked, closes; each may be the one that reports a full disk. Returns 0 or errno. */
static int write_and_close(int fd, const void *data, size_t bytes, bool sync) {
  int error = 0;
  if (!write_fully(fd, data, bytes)) error = errno;
  if (error == 0 && sync && fsync(fd) != 0) error = errno;
  if (close(fd) != 0 && error == 0) error = errno;
  return error;
}

/* Makes the rename durable. Best effort: not every file system can sync a directory, and the data is safe. */
static void sync_directory_of(const char *path) {
  const char *slash = strrchr(path, '/');
  char *directory = NULL;
  if (slash && slash != path && hfb_mem_strdup(path, &directory) != HFB_OK) return;
  if (directory) directory[slash - path] = '\0';
  int fd = open_retrying(directory ? directory : slash ? "/" : ".", O_RDONLY | O_DIRECTORY);
  if (fd >= 0) {
    fsync(fd);
    close(fd);
  }
  hfb_mem_free(directory);
}

/* A name no other thread or process uses: "<path>.<pid>.<number>.tmp". */
static hfb_status temporary_name(const char *path, char **out_name) {
  static _Atomic unsigned number;
  size_t bytes = strlen(path) + 48;
  HFB_TRY(hfb_mem_alloc(bytes, 1, out_name));
  snprintf(*out_name, bytes, "%s.%ld.%u.tmp", path, (long)getpid(), atomic_fetch_add(&number, 1));
  return HFB_OK;
}

hfb_status hfb_file_write_atomic(const char *path, const void *data, size_t bytes) {
  struct stat info;
  if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) {
    /* A device or a pipe cannot be replaced, only written to. A directory fails here. */
    int fd = open_retrying(path, O_WRONLY);
    int error = fd < 0 ? errno : write_and_close(fd, data, bytes, false);
    return error == 0 ? HFB_OK : fail_errno(error, "write", path);
  }
  char *temporary = NULL;
  HFB_TRY(temporary_name(path, &temporary));
  int fd = open_retrying(temporary, O_WRONLY | O_CREAT | O_EXCL);
  int error = fd < 0 ? errno : write_and_close(fd, data, bytes, true);
  if (error == 0 && rename(temporary, path) != 0) error = errno;
  if (error != 0 && fd >= 0) unlink(temporary);
  hfb_mem_free(temporary);
  if (error != 0) return fail_errno(error, "write", path);
  sync_directory_of(path);
  return HFB_OK;
}

hfb_status hfb_file_append(const char *path, const void *data, size_t bytes) {
  int fd = open_retrying(path, O_WRONLY | O_CREAT | O_APPEND);
  if (fd < 0) return fail_errno(errno, "append to", path);
  ssize_t count;
  do count = write(fd, data, bytes);
  while (count < 0 && errno == EINTR);
  int error = count < 0 ? errno : 0;
  if (close(fd) != 0 && error == 0) error = errno;
  if (error != 0) return fail_errno(error, "append to", path);
  if ((size_t)count < bytes) {
    return HFB_FAIL(HFB_IO, "cannot append to '%s': only %zd of %zu bytes were written; is the disk full?", path,
                    count, bytes);
  }
  return HFB_OK;
}

hfb_status hfb_dir_create(const char *path) {
  char *partial = NULL;
  HFB_TRY(hfb_mem_strdup(path, &partial));
  int error = 0;
  for (char *end = partial + 1; partial[0] != '\0' && error == 0; end++) {
    bool last = *end == '\0';
    if (!last && *end != '/') continue;
    *end = '\0';
    struct stat info;
    if (mkdir(partial, 0777) != 0) {
      /* EEXIST, EROFS, EACCES: fine when the directory is there. */
      error = errno;
      if (stat(partial, &info) == 0) error = S_ISDIR(info.st_mode) ? 0 : ENOTDIR;
    }
    if (last) break;
    *end = '/';
  }
  if (partial[0] == '\0') error = ENOENT;
  hfb_mem_free(partial);
  return error == 0 ? HFB_OK : fail_errno(error, "create the directory", path);
}

bool hfb_file_exists(const char *path) { return access(path, F_OK) == 0; }
