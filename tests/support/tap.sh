# Cases of a shell test, reported in TAP. Source this, then check and skip, and plan at the end.
# The last command's exit code is expected in $status, its texts in the files that $texts names.
number=0
status=0
texts='out err'

# check NAME CONDITION...: one case.
check() {
  number=$((number + 1))
  name=$1
  shift
  if "$@"; then
    printf 'ok %d - %s\n' "$number" "$name"
  else
    printf 'not ok %d - %s\n' "$number" "$name"
    printf '# status %s; %s:\n' "$status" "$texts"
    for text in $texts; do head -c 2000 "$text" | sed 's/^/# /'; done
  fi
}

skip() {
  number=$((number + 1))
  printf 'ok %d - %s # SKIP %s\n' "$number" "$1" "$2"
}

plan() { printf '1..%d\n' "$number"; }
