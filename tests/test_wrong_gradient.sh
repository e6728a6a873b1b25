#!/bin/sh
# A program in which one gradient rule is wrong on purpose (support/grad_wrong.h) must be found out by the commands that
# people use, and the program with the right rules must pass the same. Reports in TAP.
# HFBENCH: the program; HFB_SOURCE_DIR: the sources.
set -u
right=${HFBENCH:?set HFBENCH to the program}
wrong=${right%/bin/hfbench}/tests/hfbench_wrong_gradient
golden=${HFB_SOURCE_DIR:?set HFB_SOURCE_DIR to the sources}/tests/data/golden/BertForMaskedLM
[ -x "$wrong" ] || { echo "not ok 1 - $wrong does not exist"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HFBENCH_CACHE="$work/cache"
step='run --training --accuracy --only ElectraForQuestionAnswering --seq-len 8 --threads 2 --disable-output'

number=0
# check NAME PATTERN PROGRAM ARGUMENTS...: the output has a line that matches.
check() {
  number=$((number + 1))
  name=$1 pattern=$2
  shift 2
  "$@" >"$work/out" 2>&1 </dev/null
  if grep -qE -- "$pattern" "$work/out"; then
    printf 'ok %d - %s\n' "$number" "$name"
  else
    printf 'not ok %d - %s\n' "$number" "$name"
    head -c 2000 "$work/out" | sed 's/^/# /'
  fi
}

check 'verify finds a wrong rule' '^FAIL BertForMaskedLM .* grad/bert' "$wrong" verify "$golden" --training
check 'verify passes the right rules' '^PASS BertForMaskedLM' "$right" verify "$golden" --training
for engine in eager native; do
  # shellcheck disable=SC2086
  check "run finds a wrong rule on $engine" 'the gradients are not those of the loss' "$wrong" $step --backend "$engine"
  # shellcheck disable=SC2086
  check "run passes the right rules on $engine" '^1 of 1 pass' "$right" $step --backend "$engine"
done
echo "1..$number"
