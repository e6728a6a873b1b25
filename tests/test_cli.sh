#!/bin/sh
# The program as people run it: exit codes, messages, result files, signals, limits. Reports in TAP.
# HFBENCH: the program; HFB_SOURCE_DIR: the sources.
set -u
program=${HFBENCH:?set HFBENCH to the program}
[ -x "$program" ] || { echo "not ok 1 - $program does not exist"; exit 1; }
# shellcheck source=tests/support/tap.sh
. "${HFB_SOURCE_DIR:?set HFB_SOURCE_DIR to the sources}/tests/support/tap.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export HFBENCH_CACHE="$work/cache" TMPDIR="$work/tmp"
mkdir "$TMPDIR"
small="--only ElectraForQuestionAnswering --seq-len 8 --batch-size 1 --iterations 1 --repeat 6"
case $("$program" --version) in
  *address* | *thread*) sanitized=yes ;;
  *) sanitized= ;;
esac

# run ARGUMENTS...: leaves the exit code in $status and the texts in out, err.
run() {
  "$program" "$@" >out 2>err </dev/null
  status=$?
}
# usage_error TEXT: exit code 2, one line on stderr that contains TEXT, nothing on stdout.
usage_error() { [ "$status" = 2 ] && [ "$(wc -l <err)" = 1 ] && grep -qF -- "$1" err && [ ! -s out ]; }
failure() { [ "$status" = 1 ] && grep -qF -- "$1" err; }
contains() { grep -qF -- "$2" "$1"; }
has_lines() { [ "$(wc -l <"$1")" = "$2" ]; }

# cell FILE COLUMN: the value in the last row; texts with commas are not asked for.
cell() {
  awk -F, -v name="$2" '
    NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i }
    { last = $at }
    END { print last }' "$1"
}
cell_is() { [ "$(cell "$1" "$2")" = "$3" ]; }

# number_of FILE 'KEY...': the first number of the last key in JSON, behind the keys before it.
number_of() {
  tr ',{}' '\n\n\n' <"$1" | awk -v keys="$2" '
    BEGIN { count = split(keys, key, " "); at = 1 }
    index($0, "\"" key[at] "\":") && at++ == count { sub(/.*: */, ""); print; exit }'
}
# calc EXPRESSION: whether it holds.
calc() { awk "BEGIN { exit !($1) }"; }

# ---- usage
run
check 'no command: help and exit code 2' [ "$status" = 2 ]
for command in run list show verify doctor; do
  run "$command" --help
  check "$command --help" contains out "usage: hfbench $command"
  run "$command" --version
  check "$command --version" contains out 'hfbench '
done
run --help
check '--help names the commands' contains out verify
run verify --help
check 'verify --help: both engines by default' contains out 'then native; with --write native)'
run rum
check 'unknown command' usage_error 'did you mean run?'
run run --ony x
check 'unknown option' usage_error '--only'
run run --only BertForMaskdLM
check 'unknown model' usage_error 'BertForMaskedLM'
run show BertForMaskdLM
check 'unknown model of show' usage_error 'BertForMaskedLM'
run run --backend ntive
check 'unknown backend' usage_error 'did you mean native?'
run run --training --inference
check 'one mode in a run' usage_error 'exclude each other'
run run --optimizer sgd
check 'an optimizer without training' usage_error '--optimizer is about training steps: give --training too'
run run --training --optimizer adamw
check 'an optimizer that does not exist' usage_error 'auto|sgd|adam|none'
run run --weights f16
check 'weights that do not exist' usage_error 'f32|bf16'
run run --weights bf16 --training
check 'bf16 weights in training' usage_error '--weights is about inference: training steps update parameters'
run run --weights bf16 --precision f64
check 'bf16 weights in f64' usage_error '--weights is about inference in f32: with --precision f64 leave it out'
for place in . out/ ..; do
  run run $small --backend nothing --accuracy --output "$place"
  check "a folder for a file: $place" usage_error '--output-directory'
done
run verify --grad-tol 1e-3 x
check 'a tolerance of gradients without training' usage_error 'give --training too'
run run --total-partitions 2 --partition-id 2
check 'partition out of range' usage_error 'partition 2 of 2'
run run -k nosuchmodel
check 'no model left' usage_error 'no model is left'
run show BertForMaskedLM --dump nosuchpass
check 'unknown pass' usage_error "no pass 'nosuchpass': name one of input, simplify, attention"
run show BertForMaskedLM --optimizer sgd
check 'show: an optimizer without training' usage_error '--optimizer is about training steps: give --training too'
run show BertForMaskedLM --no-dropout --inference
check 'show: dropout in inference' usage_error '--no-dropout is about training steps'
run test
check 'test belongs to the script' usage_error './hfbench'

# ---- list
run list
check 'list shows the suite' contains out 'BertForMaskedLM'
check 'list groups: 52 of the suite' [ "$(grep -c '^[^ ]*  *suite  ' out)" = 52 ]
check 'list groups: 19 more' [ "$(grep -c '^[^ ]*  *more  ' out)" = 19 ]
run list --json --only ViTModel
check 'list --json: group' contains out '"group": "more"'
check 'list --json: the optimizer that trains it' contains out '"optimizer": "adam"'
run list --json -k '^T5'
check 'list --json filters' contains out '"name": "T5Small"'
check 'list --json leaves out the others' sh -c '! grep -q Bert out'
run list --total-partitions 2 --partition-id 0
first=$(wc -l <out)
run list --total-partitions 2 --partition-id 1
second=$(wc -l <out)
run list
check 'two partitions make the whole' [ $((first + second - 2)) = $(($(wc -l <out) - 1)) ]
if [ "$sanitized" ]; then
  skip 'list within 20 ms' 'a sanitizer takes longer to start'
else
  best=1000000
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    start=$(date +%s%N)
    "$program" list >/dev/null
    took=$((($(date +%s%N) - start) / 1000))
    [ "$took" -lt "$best" ] && best=$took
  done
  check "list within 20 ms ($best us)" [ "$best" -lt 20000 ]
fi

# ---- show
run show ElectraForQuestionAnswering --seq-len 8 --batch-size 2
check 'show: parameters' contains out '13483522'
check 'show: planned memory of both engines' sh -c 'grep -c " GB$" out | grep -qx "[5-9]"'
run show ElectraForQuestionAnswering --seq-len 8 --json
check 'show --json' contains out '"parameter_count": 13483522'
run show ElectraForQuestionAnswering --seq-len 8 --graph
check 'show --graph' contains out 'electra.embeddings.word_embeddings.weight'
for pass in input simplify attention loss decompose fold weights primitives tables recompute schedule; do
  run show ElectraForQuestionAnswering --seq-len 8 --dump "$pass"
  check "show --dump $pass" [ "$status" = 0 ]
  check "show --dump $pass prints" [ -s out ]
done
run show ElectraForQuestionAnswering --seq-len 8 --code
check 'show --code' contains out 'f32v'
short='ElectraForQuestionAnswering --seq-len 64 --batch-size 1'
run show $short --json
inference=$(number_of out multiply_adds)
run show $short --training
check 'show --training: what the step is' contains out 'optimizer adam with 403 tensors of state, dropout on'
check 'show --training: state of the optimizer' contains out 'optimizer state bytes                0.107868 GB'
check 'show --training: gradients' contains out 'gradient bytes, all together         0.053934 GB'
run show $short --training --json
step=$(number_of out multiply_adds)
native=$(number_of out 'native planned_peak_bytes') eager=$(number_of out 'eager planned_peak_bytes')
check 'show --training: three times the work' calc "$step > 2.9 * $inference && $step <= 3 * $inference"
check 'show --training: native plans less than eager' calc "0 < $native && $native < $eager"
run run --only $short --training --performance --repeat 2 --output shown.csv
ran=$(number_of shown.jsonl planned_peak_mem)
check 'show --training: native plans what it runs with' calc "int($ran * 1e9 + 0.5) == $native"
check 'show --training: work is that of the row' [ "$step" = "$(number_of shown.jsonl multiply_adds)" ]
run show $short --training --optimizer sgd --json
check 'show --optimizer' contains out '"optimizer": "sgd"'
check 'show --optimizer: no state' contains out '"optimizer_bytes": 0'
run show MobileBertForMaskedLM --seq-len 8 --batch-size 1 --training --json
check 'show: the optimizer of the suite' contains out '"optimizer": "none"'
long='ElectraForQuestionAnswering --seq-len 512 --batch-size 1 --training --json'
run show $long
step=$(number_of out multiply_adds)
native=$(number_of out 'native planned_peak_bytes') eager=$(number_of out 'eager planned_peak_bytes')
run show $long --enable-activation-checkpointing
check 'show: checkpointing in eager' calc "$(number_of out 'eager planned_peak_bytes') < 0.7 * $eager"
check 'show: checkpointing in native' calc "$(number_of out 'native planned_peak_bytes') < 0.7 * $native"
check 'show: checkpointing is no work that counts' [ "$(number_of out multiply_adds)" = "$step" ]
check 'show: checkpointing computes again' calc "$(number_of out multiply_adds_again) > 0.2 * $step"
run show $short --training --graph
check 'show --training --graph: the whole step' sh -c 'grep -q "name=\"optimizer/exp_avg" out && grep -q dropout out'
run show $short --training --graph --no-dropout
check 'show --no-dropout' sh -c 'grep -q "name=\"optimizer/exp_avg" out && ! grep -q "= dropout" out'
run show $short --training --dump schedule
check 'show --training --dump: the way back' contains out 'attention_backward'
run show $short --training --code
check 'show --training --code' sh -c 'grep -c f32v out | grep -qx "[0-9][0-9][0-9]*"'

# ---- doctor
run doctor
check 'doctor: engines work' sh -c 'grep -q "native  *works" out && grep -q "eager  *works" out'
run doctor --json
check 'doctor --json' contains out '"f32_gflops": '
PATH=/nonexistent HFBENCH_CC=/nonexistent/cc run doctor
check 'doctor without a C compiler fails' [ "$status" = 1 ]
check 'doctor says what is missing' contains out 'native needs one'

# ---- run
run run $small --backend nothing --accuracy --output a.csv --distances
check 'accuracy passes' [ "$status" = 0 ]
check 'accuracy: CSV of one row' has_lines a.csv 2
check 'accuracy: status' cell_is a.csv accuracy pass
check 'accuracy: distances' contains out 'eager-f64'
check 'accuracy: JSON lines' has_lines a.jsonl 1
check 'accuracy: markdown' contains a.md '| ElectraForQuestionAnswering |'
run run $small --output-directory both --json
check 'accuracy and speed pass' [ "$status" = 0 ]
check 'run --json prints one line for each row' has_lines out 1
check 'run --json is the saved line' cmp -s out both/results_native.jsonl
check 'status of both parts' cell_is both/results_native.csv status pass
check 'the row has a speed-up' sh -c 'grep -q "\"speedup\":[0-9]" out && grep -q "\"samples_ms\":\[[0-9]" out'
run run $small --backend nothing --performance --tag first --output t.csv
run run $small --backend nothing --performance --tag second --output t.csv --retain-output
check '--retain-output goes on' has_lines t.csv 3
check '--tag' cell_is t.csv tag second
check '--retain-output keeps JSON lines' has_lines t.jsonl 2
run run $small --backend nothing --accuracy --output t.csv --retain-output
check '--retain-output with other columns' failure 'other columns'
run run $small --backend nothing --accuracy
check 'results of their own folder' sh -c 'ls results/*/accuracy_nothing.csv >ls.out'
run run $small --backend nothing --accuracy --disable-output --progress
check '--progress' contains err '1/1 ElectraForQuestionAnswering'
check 'nothing for a terminal in a file' sh -c '! grep -q "$(printf "\033")" out err'

# ---- limits and failures
run run --only BertForMaskedLM --backend nothing --accuracy --timeout 0.2 --output limit.csv
check 'time-out: exit code' [ "$status" = 1 ]
check 'time-out: row' cell_is limit.csv accuracy timeout
if [ "$sanitized" ]; then
  skip 'memory limit' 'a sanitizer needs much more memory'
else
  run run $small --backend nothing --accuracy --memory-limit 0.03 --output limit.csv
  check 'memory limit: exit code' [ "$status" = 1 ]
  check 'memory limit: row' cell_is limit.csv accuracy OOM
fi
# Known before anything is drawn: what is needed in all, or for one tensor that is larger than any memory.
run run --only ElectraForQuestionAnswering --only BertForMaskedLM --batch-size 1048576 --output absurd.csv
check 'absurd batch: exit code' [ "$status" = 1 ]
check 'absurd batch: what is needed' grep -qE '^ *needs [0-9]{5}\.[0-9]+ GB \(parameters' out
check 'absurd batch: one tensor' contains out '[1048576,12,512,512] has more than 2^40 elements: at least 3298.53 GB'
check 'absurd batch: rows' sh -c 'test "$(grep -c ",OOM," absurd.csv)" = 2'
PATH=/nonexistent HFBENCH_CC=/nonexistent/cc HFBENCH_CACHE=$work/empty run run $small --performance --output nocc.csv
check 'no C compiler: exit code' [ "$status" = 1 ]
check 'no C compiler: row' cell_is nocc.csv status warmup_failed
check 'no C compiler: cause' contains nocc.jsonl 'ompiler'
run run $small --backend nothing --accuracy --output /proc/nowhere/out.csv
check 'unwritable output is known at once' failure '/proc/nowhere'
check 'unwritable output: nothing was measured' sh -c '! grep -q pass out'

# A limit on file sizes stands in for a full disk: the row does not fit, and must not be lost.
(
  ulimit -f 1
  "$program" run $small --backend nothing --accuracy --output full.csv >out 2>err </dev/null
  echo $? >code
)
status=$(cat code)
check 'full disk: exit code' [ "$status" = 1 ]
check 'full disk: message' contains err 'full.jsonl'
check 'full disk: the row is printed' contains out '"name":"ElectraForQuestionAnswering"'
check 'full disk: no half row' sh -c 'test "$(wc -l <full.csv)" = 1'
"$program" list >/dev/full 2>err
status=$?
check 'standard output full' [ "$status" = 1 ]
"$program" verify nowhere >/dev/full 2>err
status=$?
check 'standard output full: said once' sh -c 'test "$(wc -l <err)" = 1'

# ---- Ctrl-C: after the first row of two; the second model would take minutes
"$program" run --only ElectraForQuestionAnswering --only T5ForConditionalGeneration --seq-len 512 --accuracy \
  --backend nothing --output stop.csv >out 2>err </dev/null &
pid=$!
waited=0
while [ "$(wc -l 2>/dev/null <stop.csv)" != 2 ] && [ "$waited" -lt 1200 ] && kill -0 "$pid"; do
  sleep 0.1
  waited=$((waited + 1))
done
kill -INT "$pid"
wait "$pid"
status=$?
check 'Ctrl-C: exit code' [ "$status" = 130 ]
check 'Ctrl-C: the row so far is kept' has_lines stop.csv 2
check 'Ctrl-C: summary' contains out '1 of 1 pass'
check 'Ctrl-C: how far it came' contains err 'interrupted; complete rows: 1'
check 'Ctrl-C: markdown' contains stop.md ElectraForQuestionAnswering
check 'no process is left' sh -c "! pgrep -P $pid >/dev/null 2>&1"
check 'no temporary folder is left' sh -c 'test -z "$(ls "$TMPDIR")"'

plan
