#!/bin/sh
# A program in which one gradient rule is wrong on purpose (support/grad_wrong.h) must be found out by the commands that
# people use, and the program with the right rules must pass the same. Reports in TAP.
# HFBENCH: the program; HFB_SOURCE_DIR: the sources.
set -u
right=${HFBENCH:?set HFBENCH to the program}
wrong=${right%/bin/hfbench}/tests/hfbench_wrong_gradient
golden=${HFB_SOURCE_DIR:?set HFB_SOURCE_DIR to the sources}/tests/data/golden/BertForMaskedLM
[ -x "$wrong" ] || { echo "not ok 1 - $wrong does not exist"; exit 1; }
# shellcheck source=tests/support/tap.sh
. "$HFB_SOURCE_DIR/tests/support/tap.sh"
work=$(mktemp -d)
texts=$work/out
trap 'rm -rf "$work"' EXIT
export HFBENCH_CACHE="$work/cache"
step='run --training --accuracy --only ElectraForQuestionAnswering --seq-len 8 --threads 2 --disable-output'

# finds NAME PATTERN PROGRAM ARGUMENTS...: the output has a line that matches.
finds() {
  wanted=$1 pattern=$2
  shift 2
  "$@" >"$texts" 2>&1 </dev/null
  status=$?
  check "$wanted" grep -qE -- "$pattern" "$texts"
}

finds 'verify finds a wrong rule' '^FAIL BertForMaskedLM .* grad/bert' "$wrong" verify "$golden" --training
finds 'verify passes the right rules' '^PASS BertForMaskedLM' "$right" verify "$golden" --training
for engine in eager native; do
  # shellcheck disable=SC2086
  finds "run finds a wrong rule on $engine" 'the gradients are not those of the loss' "$wrong" $step --backend "$engine"
  # shellcheck disable=SC2086
  finds "run passes the right rules on $engine" '^1 of 1 pass' "$right" $step --backend "$engine"
done
plan
