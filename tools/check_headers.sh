#!/bin/sh
# Checks every header: it compiles alone, in C11, and its include guard is HFB_<DIRECTORIES>_<FILE>_H.
set -eu
cd "$(dirname "$0")/.."
export CC="${CC:-cc}"
CFLAGS="-std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wno-unused-parameter -Isrc -Iinclude -fsyntax-only"
CFLAGS="$CFLAGS $(pkg-config --cflags jansson libxxhash)"
export CFLAGS

check_one='
  header=$1
  guard=$(printf "%s" "${header#*/}" | sed "s/^/HFB_/; s/^HFB_hfbench./HFBENCH_/" | tr "a-z/.-" "A-Z___")
  bad=0
  grep -q "^#ifndef $guard\$" "$header" && grep -q "^#define $guard\$" "$header" ||
    { printf "%s: the include guard must be %s\n" "$header" "$guard"; bad=1; }
  case $header in
    */avx2/*) flags="-mavx2 -mfma" ;;
    */avx512*/* | */amx/*) flags="-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma" ;;
    *) flags= ;;
  esac
  printf "#include \"%s\"\n" "${header#*/}" | "$CC" $CFLAGS $flags -x c - ||
    { printf "%s: does not compile alone\n" "$header"; bad=1; }
  exit $bad'
# Fragments, included after the types of an <isa>/vec.h: vec_math.h, vec_random.h and gemm_*_types.h.
find src include -name "*.h" ! -path "src/kernels/cpu/vec_math.h" \
  ! -path "src/kernels/cpu/vec_random.h" ! -path "src/kernels/cpu/gemm_*_types.h" | sort |
  xargs -P "$(nproc)" -n 1 sh -c "$check_one" check_one
