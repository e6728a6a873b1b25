#!/bin/sh
# run_tests.sh PRESET BUILD_DIR: runs every test program of a build, and with the release preset the source checks;
# counts test cases; prints the output of what failed; closes with "N passed, N failed". Exits 1 on any failure.
#
# A program that crashes, runs out of time, or reports fewer cases than it announced counts as failed. Environment:
# HFB_TEST_FILTER, HFB_TEST_EXCLUDE (grep -E), HFB_TEST_JOBS, HFB_TEST_TIMEOUT, HFB_FUZZ_SECONDS.
set -u
root=$(cd "$(dirname "$0")/.." && pwd -P)
preset=$1
build=$(cd "$2" && pwd -P)

if [ "$preset" = release ] || [ "$preset" = debug ]; then limit=300; else limit=900; fi
limit=${HFB_TEST_TIMEOUT:-$limit}
jobs=${HFB_TEST_JOBS:-$(nproc)}
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
trap 'exit 130' INT TERM

export CMOCKA_MESSAGE_OUTPUT=TAP
export ASAN_OPTIONS="allocator_may_return_null=1:detect_stack_use_after_return=1:${ASAN_OPTIONS-}"
export UBSAN_OPTIONS="print_stacktrace=1:${UBSAN_OPTIONS-}"
export TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1:${TSAN_OPTIONS-}"
export HFB_TEST_RESULTS="$results" HFB_TEST_LIMIT="$limit"
# Test scripts find the program and the sources here.
export HFBENCH="$build/bin/hfbench" HFB_SOURCE_DIR="$root"

list_programs() {
  if [ "$preset" = fuzz ]; then
    find "$build/tests/fuzz" -maxdepth 1 -type f -name 'fuzz_*' -perm -u+x
  else
    [ "$preset" != release ] || find "$root/tools" -maxdepth 1 -name 'check_*.sh'
    find "$root/tests" -maxdepth 1 -name 'test_*.sh'
    find "$build/tests" -maxdepth 1 -type f -name 'test_*' -perm -u+x |
      while read -r program; do
        [ ! -e "$root/tests/${program##*/}.c" ] || printf '%s\n' "$program" # no program of a removed source
      done
  fi | sort | awk -v keep="${HFB_TEST_FILTER-}" -v drop="${HFB_TEST_EXCLUDE-}" '
    { name = $0; sub(".*/", "", name); sub("\\.sh$", "", name) }
    name ~ keep && (drop == "" || name !~ drop)'
}

list_programs >"$results/programs"
count=$(wc -l <"$results/programs")
if [ "$count" = 0 ]; then
  printf 'no test program of %s matches\n0 passed, 1 failed\n' "$build" >&2
  exit 1
fi
# A source whose program was not built is a failure, not a test less.
if [ "$preset" != fuzz ]; then
  for source in "$root"/tests/test_*.c; do
    name=${source##*/}
    name=${name%.c}
    if [ -e "$source" ] && [ ! -x "$build/tests/$name" ]; then
      printf 'FAIL  %-32s was not built\n' "$name"
      printf '0\t1\t0\n' >"$results/$name.count"
    fi
  done
fi
xargs -P "$jobs" -n 1 sh "$root/tools/run_one_test.sh" <"$results/programs"

awk -F '\t' '{ passed += $1; failed += $2; skipped += $3 }
  END {
    if (skipped) printf "%d skipped\n", skipped
    printf "%d passed, %d failed\n", passed, failed
    exit failed > 0 || passed == 0
  }' "$results"/*.count
