#!/bin/sh
# The script ./hfbench, in a small copy of the tree with stand-ins for cmake, sudo and apt-get: what it installs, when
# it builds, what it says when something fails. Reports in TAP.
set -u
source_dir=${HFB_SOURCE_DIR:-$(cd "$(dirname "$0")/.." && pwd -P)}
# shellcheck source=tests/support/tap.sh
. "$source_dir/tests/support/tap.sh"
work=$(mktemp -d)
texts=$work/output
trap 'rm -rf "$work"' EXIT
root="$work/a clone"
bin=$work/bin
mkdir -p "$root/src/cli" "$root/include" "$root/cmake" "$root/tools" "$bin"
cp "$source_dir/hfbench" "$root/"
cp "$source_dir/tools/front_door.sh" "$root/tools/"
printf 'printf "runner %%s %%s\\n" "$1" "$2"\n' >"$root/tools/run_tests.sh"
touch "$root/CMakePresets.json" "$root/CMakeLists.txt" "$root/src/cli/main.c" "$root/src/other.c"

for tool in sh chmod ln find mkdir touch flock nproc grep tail head mktemp rm mv cat sleep env readlink tr; do
  ln -s "$(command -v "$tool")" "$bin/$tool"
done

# stand_in NAME: the script on standard input becomes a command.
stand_in() {
  rm -f "$bin/$1"
  { printf '#!/bin/sh\n'; cat; } >"$bin/$1"
  chmod +x "$bin/$1"
}

# front_door ARGUMENTS...: sets $status, leaves the output in $work/output and the calls of stand-ins in $work/calls.
front_door() {
  : >"$work/calls"
  status=0
  PATH=$bin WORK=$work "$root/hfbench" "$@" >"$work/output" 2>&1 </dev/null || status=$?
}
says() { grep -qe "$1" "$work/output"; }
called() { grep -qe "$1" "$work/calls"; }
silent() { ! called "$1"; }
status_is() { [ "$status" = "$1" ]; }

user() { printf 'echo %s\n' "$1" | stand_in id; }

printf '1..29\n'

# Nothing is installed, and this user may not install.
user 1000
printf 'echo "apt-get $*" >>"$WORK/calls"\n' | stand_in apt-get
front_door run
check 'without root and sudo it gives up' status_is 1
check 'and prints the command' says "apt-get install -y .*gcc .*cmake .*ninja-build .*pkg-config"
check 'and installs nothing' silent apt-get

# sudo that works, but an archive that lacks the packages.
printf 'echo "sudo $*" >>"$WORK/calls"; [ "$1" = -n ] && shift; exec "$@"\n' | stand_in sudo
stand_in true </dev/null
front_door run
check 'with sudo it installs' called 'sudo .*apt-get install -y --no-install-recommends .*cmake'
check 'what stays missing is named' says 'still missing after the installation: .*cmake'
check 'and is a failure' status_is 1

# An archive that has them: the tools appear. The stand-in of cmake writes a program that shows its arguments.
cat >"$work/cmake" <<'CMAKE'
#!/bin/sh
echo "cmake $*" >>"$WORK/calls"
if [ "$1" = --build ]; then
  if [ -e "$WORK/broken" ]; then
    echo 'src/other.c:1:1: error: boom'
    exit 1
  fi
  mkdir -p "$2/bin"
  printf '#!/bin/sh\necho "program: $*"\nexit 7\n' >"$2/bin/hfbench"
  chmod +x "$2/bin/hfbench"
else
  [ ! -e "$WORK/unconfigurable" ] || { echo 'CMake Error: no jansson'; exit 1; }
  { echo "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD"; cat "$WORK/cmocka" 2>/dev/null; } >"$4/CMakeCache.txt"
  touch "$4/build.ninja"
fi
CMAKE
chmod +x "$work/cmake"
stand_in apt-get <<'APT'
echo "apt-get $*" >>"$WORK/calls"
[ "$1" = install ] || exit 1
cp_to() { ln -sf "$WORK/$1" "$WORK/bin/$2"; }
cp_to cmake cmake
for tool in cc ninja pkg-config; do printf '#!/bin/sh\nexit 0\n' >"$WORK/bin/$tool"; done
chmod +x "$WORK/bin/cc" "$WORK/bin/ninja" "$WORK/bin/pkg-config"
APT
user 0
rm "$bin/sudo"
front_door run --only 'a b'
check 'root installs without sudo, though apt-get update failed' called '^apt-get install'
check 'then configures' called 'cmake --preset release -B .* -G Ninja'
check 'then builds the program alone' called 'cmake --build .* --target hfbench'
check 'then runs it with the arguments' says '^program: run --only a b$'
check 'and passes its status on' status_is 7

front_door list
check 'nothing changed: no build' silent .
check 'nothing changed: the program runs' says '^program: list$'
check 'nothing changed: no other word' test "$(grep -c '' "$work/output")" = 1

sleep 0.02
touch "$root/src/other.c"
front_door list
check 'a newer source is built' called 'cmake --build'
check 'without configuring again' silent 'preset'
front_door list
check 'and only once' silent .
sleep 0.02
rm "$root/src/other.c"
front_door list
check 'a removed source is noticed' called 'cmake --build'

ln -s "$root/hfbench" "$work/link"
: >"$work/calls"
PATH=$bin WORK=$work "$work/link" doctor >"$work/output" 2>&1 || status=$?
check 'a link to the script works' says '^program: doctor$'

sleep 0.02
touch "$root/src/cli/main.c" "$work/broken"
front_door run
check 'a failing build shows the error' says 'error: boom'
check 'and does not run the old program' status_is 1
front_door run
check 'and is tried again the next time' says 'error: boom'
front_door test
check 'a failing build fails the tests' says '^0 passed, 1 failed$'
rm "$work/broken"

front_door test -k base
check 'the tests build everything and start the runner' says '^runner release '
echo CMOCKA_FOUND:INTERNAL=1 >"$work/cmocka"
front_door test
check 'a folder configured without cmocka is configured again' called preset
front_door test
check 'and only once' silent preset
front_door test --bogus
check 'an unknown option of the tests is refused' status_is 2

rm -rf "$root/build"
touch "$work/unconfigurable"
front_door run
check 'a failing configuration shows why' says 'no jansson'
check 'and fails' status_is 1
