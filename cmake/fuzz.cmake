# With clang the fuzz programs are libFuzzer's; other compilers link tests/fuzz/standalone_main.c, which replays the
# corpus and mutates it without coverage feedback. HFB_FUZZ_LINK_OPTIONS says which.
set(HFB_FUZZ_LINK_OPTIONS "")
if(HFB_BUILD_FUZZ)
  include(CheckCSourceCompiles)
  set(CMAKE_REQUIRED_FLAGS "-fsanitize=fuzzer")
  check_c_source_compiles("#include <stddef.h>
    #include <stdint.h>
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return data && size > 9 && 0; }"
    HFB_HAS_LIBFUZZER)
  unset(CMAKE_REQUIRED_FLAGS)
  if(HFB_HAS_LIBFUZZER)
    add_compile_options(-fsanitize=fuzzer-no-link)
    set(HFB_FUZZ_LINK_OPTIONS -fsanitize=fuzzer)
  endif()
endif()
