# shellcheck shell=sh disable=SC2154
# Sourced by ./hfbench when something has to be built: packages, configuring, building, the test command.
# Needs $root. Plain POSIX shell, and only what Debian and Ubuntu always have (coreutils, findutils, util-linux, awk).

say() { printf 'hfbench: %s\n' "$*" >&2; }

die() {
  say "$*"
  exit 1
}

# Prints the packages that the machine lacks; $1 = tests adds what only the tests need.
missing_packages() {
  command -v cc >/dev/null 2>&1 || printf 'gcc '
  [ -e /usr/include/stdio.h ] || printf 'libc6-dev '
  command -v cmake >/dev/null 2>&1 || printf 'cmake '
  command -v ninja >/dev/null 2>&1 || command -v make >/dev/null 2>&1 || printf 'ninja-build '
  command -v pkg-config >/dev/null 2>&1 || printf 'pkg-config '
  has_library jansson jansson.h || printf 'libjansson-dev '
  has_library libxxhash xxhash.h || printf 'libxxhash-dev '
  [ "${1-}" != tests ] || has_library cmocka cmocka.h || printf 'libcmocka-dev '
}

has_library() {
  if command -v pkg-config >/dev/null 2>&1; then pkg-config --exists "$1"; else [ -e "/usr/include/$2" ]; fi
}

ensure_packages() {
  missing=$(missing_packages "${1-}")
  [ -n "$missing" ] || return 0
  if ! command -v apt-get >/dev/null 2>&1; then
    die "missing: $missing(Debian's names); install them with this system's package manager and start again"
  fi
  # A password can only be asked for at a terminal.
  if [ "$(id -u)" = 0 ]; then
    as_root=
  elif command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
    as_root=sudo
  else
    say "missing: $missing"
    die "install them with:  su -c 'apt-get update && apt-get install -y $missing'"
  fi
  say "installing $missing"
  log=$(mktemp)
  # Old package lists may do, so a failing update is not the end.
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get update >"$log" 2>&1 </dev/null || say "apt-get update failed"
  # shellcheck disable=SC2086
  if ! $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing \
    >>"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "could not install them; run:  ${as_root:+sudo }apt-get update && ${as_root:+sudo }apt-get install -y $missing"
  fi
  rm -f "$log"
  still_missing=$(missing_packages "${1-}")
  [ -z "$still_missing" ] || die "still missing after the installation: $still_missing"
}

# clang may be there without its runtime libraries.
has_libfuzzer() {
  command -v clang >/dev/null 2>&1 || return 1
  printf "int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n > 9 && 0; }" |
    clang -fsanitize=fuzzer,address,undefined -x c - -o /dev/null 2>/dev/null
}

# is_configured PRESET DIR TARGET: for this source folder, by the presets as they are, with cmocka for the tests.
is_configured() {
  cache=$2/CMakeCache.txt
  [ -e "$2/build.ninja" ] || [ -e "$2/Makefile" ] || return 1
  grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$source_dir" "$cache" 2>/dev/null || return 1
  [ -z "$(find "$source_dir/CMakePresets.json" -newer "$cache")" ] || return 1
  [ "$3" != tests ] || [ "$1" = fuzz ] || grep -qx 'CMOCKA_FOUND:INTERNAL=1' "$cache"
}

# configure PRESET DIR TARGET
configure() {
  source_dir=$(cd "$root" && pwd -P)
  is_configured "$@" && return 0
  rm -rf "$2/CMakeCache.txt" "$2/CMakeFiles"
  compiler=""
  if [ "$1" = fuzz ] && has_libfuzzer; then compiler=-DCMAKE_C_COMPILER=clang; fi
  generator='Unix Makefiles'
  command -v ninja >/dev/null 2>&1 && generator=Ninja
  if ! (cd "$source_dir" && cmake --preset "$1" -B "$2" -G "$generator" $compiler) >"$2/configure.log" 2>&1; then
    tail -n 30 "$2/configure.log" >&2
    die "configuring failed; the whole text is in $2/configure.log"
  fi
}

# Shows how far a build is, on a terminal only, as long as the calling script lives. $1: its log.
show_progress() {
  [ -t 2 ] || return 0
  exec 9>&-
  while kill -0 $$ 2>/dev/null; do
    printf '\r\033[Khfbench: building %s' "$(tail -n 1 "$1" 2>/dev/null | grep -o '^\[[^]]*\]')" >&2
    sleep 0.3
  done
}

# build_target PRESET DIR TARGET: leaves DIR/TARGET.stamp, older than every source that was not seen.
build_target() {
  if [ "$3" = hfbench ]; then ensure_packages; else ensure_packages tests; fi
  mkdir -p "$2" 2>/dev/null && [ -w "$2" ] ||
    die "cannot write to $2; name another folder in the environment variable HFBENCH_BUILD_DIR"
  build_dir=$(cd "$2" && pwd -P)
  # Two front doors at once: the second waits, then finds nothing to do.
  exec 9>"$build_dir/front_door.lock"
  flock 9
  touch "$build_dir/starting.stamp"
  : >"$build_dir/build.log"
  show_progress "$build_dir/build.log" &
  progress=$!
  configure "$1" "$build_dir" "$3"
  target=$3
  [ "$target" != tests ] || target=all
  result=0
  cmake --build "$build_dir" --target "$target" --parallel "$(nproc)" >"$build_dir/build.log" 2>&1 || result=$?
  kill "$progress" 2>/dev/null || true
  wait "$progress" 2>/dev/null || true
  [ ! -t 2 ] || printf '\r\033[K' >&2
  if [ "$result" != 0 ]; then
    shown=$(grep -E -A 12 'error|FAILED|undefined reference' "$build_dir/build.log" | head -n 60)
    printf '%s\n' "${shown:-$(tail -n 20 "$build_dir/build.log")}" >&2
    die "the build failed; the whole text is in $build_dir/build.log"
  fi
  mv "$build_dir/starting.stamp" "$build_dir/$3.stamp"
  exec 9>&-
}

test_usage() {
  cat <<'USAGE'
usage: ./hfbench test [options]
Builds the tests, runs them and the source checks, and closes with "N passed, N failed".
  -k, --filter REGEX   only the programs and checks whose name matches (grep -E)
  -x, --exclude REGEX  leave these out
  --asan, --tsan       with AddressSanitizer and UndefinedBehaviorSanitizer, or with ThreadSanitizer
  --debug              without optimisation
  --fuzz [SECONDS]     the fuzz programs, this long each (10)
  --jobs N             programs at the same time (one for each processor)
  --timeout SECONDS    limit for one program (300; 900 with a sanitizer)
USAGE
}

run_tests() {
  preset=release fuzz_seconds=10 limit="" jobs="" filter="" exclude=""
  while [ $# -gt 0 ]; do
    case $1 in
      --asan | --tsan | --debug) preset=${1#--} ;;
      --fuzz)
        preset=fuzz
        case ${2-} in [0-9]*) fuzz_seconds=$2 && shift ;; esac
        ;;
      -k | --filter | -x | --exclude | --jobs | --timeout)
        if [ $# -lt 2 ]; then
          say "$1 needs a value; see ./hfbench test --help"
          exit 2
        fi
        case $1 in
          -k | --filter) filter=$2 ;;
          -x | --exclude) exclude=$2 ;;
          --jobs) jobs=$2 ;;
          --timeout) limit=$2 ;;
        esac
        shift
        ;;
      -h | --help)
        test_usage
        exit 0
        ;;
      *)
        say "unknown option '$1'; see ./hfbench test --help"
        exit 2
        ;;
    esac
    shift
  done
  directory=$build
  [ "$preset" = release ] || directory=$build-$preset
  # In a subshell, so that a build that fails ends with a count like any other failure.
  (build_target "$preset" "$directory" tests) || {
    printf "0 passed, 1 failed\n"
    exit 1
  }
  HFB_TEST_FILTER=$filter HFB_TEST_EXCLUDE=$exclude HFB_TEST_JOBS=$jobs HFB_TEST_TIMEOUT=$limit
  HFB_FUZZ_SECONDS=$fuzz_seconds
  export HFB_TEST_FILTER HFB_TEST_EXCLUDE HFB_TEST_JOBS HFB_TEST_TIMEOUT HFB_FUZZ_SECONDS
  exec sh "$root/tools/run_tests.sh" "$preset" "$directory"
}
