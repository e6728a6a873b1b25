# Cases of a shell test, reported in TAP. Source this, then check and skip, and plan at the end.
# The last command's exit code is expected in $status, its texts in the files out and err of the current folder.
number=0
status=0

# check NAME CONDITION...: one case.
check() {
  number=$((number + 1))
  name=$1
  shift
  if "$@"; then
    printf 'ok %d - %s\n' "$number" "$name"
  else
    printf 'not ok %d - %s\n' "$number" "$name"
    printf '# status %s; out, err:\n' "$status"
    head -c 2000 out | sed 's/^/# /'
    head -c 2000 err | sed 's/^/# /'
  fi
}

skip() {
  number=$((number + 1))
  printf 'ok %d - %s # SKIP %s\n' "$number" "$1" "$2"
}

plan() { printf '1..%d\n' "$number"; }
