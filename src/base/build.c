#include "base/build.h"

#ifdef HFB_BUILD_VERSION

const char *hfb_build_version(void) { return HFB_BUILD_VERSION; }

const char *hfb_build_commit(void) {
  return
#include "build_commit.inc"
      ;
}

const char *hfb_build_type(void) {
  return sizeof(HFB_BUILD_SANITIZE) > 1 ? HFB_BUILD_TYPE "+" HFB_BUILD_SANITIZE : HFB_BUILD_TYPE;
}

#else /* compiled without the project's CMake files */

const char *hfb_build_version(void) { return "unknown"; }

const char *hfb_build_commit(void) { return "unknown"; }

const char *hfb_build_type(void) { return "unknown"; }

#endif

const char *hfb_build_compiler(void) {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "gcc " __VERSION__;
#else
  return "unknown";
#endif
}
