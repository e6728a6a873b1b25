#!/bin/sh
# What must not go by in silence, as people see it: a loss or outputs that are no numbers, an optimizer with nothing to
# step, a model that the suite only evaluates. No model of the suite does the first three, hence programs with a fault
# that is linked into them (support/grad_wrong.h, nan_bias.c, frozen.c). Reports in TAP.
# HFBENCH: the program; HFB_SOURCE_DIR: the sources.
set -u
right=${HFBENCH:?set HFBENCH to the program}
tests=${right%/bin/hfbench}/tests
# shellcheck source=tests/support/tap.sh
. "${HFB_SOURCE_DIR:?set HFB_SOURCE_DIR to the sources}/tests/support/tap.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export HFBENCH_CACHE="$work/cache"
step='run --training --accuracy --only ElectraForQuestionAnswering --seq-len 8 --threads 2'

# run PROGRAM ARGUMENTS...: leaves the exit code in $status and the texts in out, err.
run() {
  "$@" >out 2>err </dev/null
  status=$?
}
has() { grep -qE -- "$2" "$1"; }

# ---- a loss that is no number, from the second step on
for engine in eager native; do
  # shellcheck disable=SC2086
  run "$tests/hfbench_diverging" $step --backend $engine --optimizer sgd --iterations 3 --output nan.csv
  check "a loss that is nan, $engine: exit code" [ "$status" = 1 ]
  check "a loss that is nan, $engine: status" has nan.jsonl '"accuracy":"fail_accuracy"'
  check "a loss that is nan, $engine: step and first op" \
    has out '^    eager: the loss is nan in step 2; first not finite in: electra[.a-z0-9]*: [a-z0-9_]* gives (inf|nan) '
done
# shellcheck disable=SC2086
run "$tests/hfbench_diverging" $step --backend eager --optimizer none --iterations 3 --output none.csv
check 'without an optimizer nothing diverges' sh -c '! grep -q "the loss is" out'

# ---- the same while steps are timed: later than that, training begins anew
time='run --training --performance --no-skip --batch-size 1 --seq-len 8 --threads 2 --repeat 2'
# shellcheck disable=SC2086
run "$tests/hfbench_diverging" $time --only ElectraForQuestionAnswering --optimizer sgd --output nan_time.csv
check 'a loss that is nan in the second step: no times' has nan_time.jsonl '"status":"warmup_failed"'
check 'a loss that is nan in the second step: cause' \
  has out '^    eager: the loss is nan in step 2; first not finite in: '
# shellcheck disable=SC2086
run "$right" $time --only MobileBertForQuestionAnswering --output anew.csv
note='the loss of (eager|native) is not finite in step [0-9]+; training began anew [0-9]+ times, outside the clock'
check 'a loss that is nan later: pass' [ "$status" = 0 ]
check 'a loss that is nan later: the table says so' has out "^    $note\$"
check 'a loss that is nan later: the row says so' has anew.jsonl "\"timing_note\":\"$note\""

# ---- outputs that are NaN in every engine and in float64: equal, as in the reference harness
nan='run --inference --only ElectraForQuestionAnswering --batch-size 2 --seq-len 8 --threads 2 --accuracy'
# shellcheck disable=SC2086
run "$tests/hfbench_nan" $nan --output equal.csv
note='not finite on all sides, which counts as equal: end_logits has 16 NaN in 16 elements; 3 of 3 tensors'
check 'outputs that are NaN: pass' [ "$status" = 0 ]
check 'outputs that are NaN: the table says so' grep -qxF "    $note" out
check 'outputs that are NaN: the markdown says so' grep -qxF -- "- ElectraForQuestionAnswering: $note" equal.md
check 'outputs that are NaN: the row says so' has equal.jsonl "\"accuracy_reason\":\"$note\""
# shellcheck disable=SC2086
run "$right" $nan --output plain.csv
check 'finite outputs: nothing to say' has plain.jsonl '"accuracy_reason":null'

# ---- an optimizer with nothing to step
# shellcheck disable=SC2086
run "$tests/hfbench_frozen" $step --optimizer adam --output frozen.csv
check 'nothing to step: exit code' [ "$status" = 1 ]
check 'nothing to step: status' has frozen.jsonl '"accuracy":"eager_fail_to_run"'
check 'nothing to step: cause' has out '^    .*optimizer adam has nothing to do: the loss depends on none of 0 '
run "$tests/hfbench_frozen" show ElectraForQuestionAnswering --training --optimizer sgd
check 'show: nothing to step' sh -c 'grep -q "optimizer sgd has nothing to do" err && ! grep -q "" out'
check 'show: nothing to step, exit code' [ "$status" = 1 ]

# ---- a model that the suite only evaluates: a limit keeps its 484 million parameters from being drawn
only='run --training --only M2M100ForConditionalGeneration --batch-size 1 --seq-len 8 --memory-limit 0.5'
# shellcheck disable=SC2086
run "$right" $only --accuracy --output eval.csv
check 'only_eval: exit code' [ "$status" = 1 ]
check 'only_eval: status' has eval.jsonl '"accuracy":"OOM"'
check 'only_eval: accuracy is that of eval mode' has eval.jsonl '"dropout":"eval mode"'
check 'only_eval: the row says so' has eval.jsonl '"accuracy_reason":"the suite only evaluates this'
# shellcheck disable=SC2086
run "$right" $only --performance --output speed.csv
check 'only_eval: steps are timed as in training' has speed.jsonl '"dropout":"on"'

plan
