#!/bin/sh
# run_one_test.sh PROGRAM: runs one test program or script, counts its cases from TAP lines, shows its output when
# something failed, and leaves "passed<TAB>failed<TAB>skipped" in $HFB_TEST_RESULTS/NAME.count. One TAP-less program
# (a check script, a fuzz program) is one case. Called by run_tests.sh, several at the same time.
set -u
program=$1
name=${program##*/}
name=${name%.sh}
output=$HFB_TEST_RESULTS/$name.out

start=$(date +%s%N)
case $program in
  */fuzz_*)
    work=$HFB_TEST_RESULTS/$name.corpus
    corpus=$HFB_SOURCE_DIR/tests/fuzz/corpus/${name#fuzz_}
    mkdir -p "$work" "$corpus"
    cd "$HFB_TEST_RESULTS" || exit 1
    timeout -k 10 $((HFB_FUZZ_SECONDS + 60)) "$program" -max_total_time="$HFB_FUZZ_SECONDS" -seed=1 -timeout=10 \
      -artifact_prefix="${TMPDIR:-/tmp}/hfbench-$name-" "$work" "$corpus" >"$output" 2>&1 </dev/null
    ;;
  *.sh)
    interpreter="sh"
    head -n 1 "$program" | grep -q bash && interpreter=bash
    timeout -k 10 "$HFB_TEST_LIMIT" "$interpreter" "$program" >"$output" 2>&1 </dev/null
    ;;
  *) timeout -k 10 "$HFB_TEST_LIMIT" "$program" >"$output" 2>&1 </dev/null ;;
esac
status=$?
seconds=$(awk -v ns=$(($(date +%s%N) - start)) 'BEGIN { printf "%.1f", ns / 1e9 }')

# Cases that were announced but never reported, and an exit status that no failed case explains, are failures.
counts=$(awk -v status="$status" '
  /^1\.\.[0-9]+/ { planned += substr($0, 4) }
  /^(not )?ok [0-9]+ # SKIP/ { skipped++; next } # cmocka calls a skipped case "not ok"
  /^ok [0-9]/ { if ($0 ~ /# SKIP/) skipped++; else passed++ }
  /^not ok [0-9]/ { failed++ }
  END {
    reported = passed + failed + skipped
    if (!planned && !reported) { if (status == 0) passed = 1; else failed = 1 }
    else if (reported < planned) failed += planned - reported
    if (status != 0 && !failed) failed = 1
    printf "%d\t%d\t%d", passed, failed, skipped
  }' "$output")
printf '%s\n' "$counts" >"$HFB_TEST_RESULTS/$name.count"

failed=$(printf '%s' "$counts" | cut -f 2)
passed=$(printf '%s' "$counts" | cut -f 1)
if [ "$failed" = 0 ]; then
  printf 'ok    %-32s %4d cases  %6s s\n' "$name" "$passed" "$seconds"
  exit 0
fi
case $status in
  124 | 137) why=", out of time after $seconds s" ;;
  0 | 1) why= ;;
  *) why=", exit status $status" ;;
esac
# In one write, because other programs report at the same time.
report=$(
  printf 'FAIL  %-32s %4d of %d cases%s\n' "$name" "$failed" $((passed + failed)) "$why"
  grep -v '^ok [0-9]' "$output" | head -c 20000 | sed 's/^/      /'
)
printf '%s\n' "$report"
exit 0
