#!/bin/sh
# Checks sizes: files of code up to 800 lines, functions up to 120, lines up to 120 columns; every directory of src/
# has a README.md, and none is longer than 40 lines.
set -eu
cd "$(dirname "$0")/.."
bad=0

find src include tests bench tools \( -name '*.[ch]' -o -name '*.sh' \) -print | sort | xargs awk '
  function complain(line, text) { printf "%s:%d: %s\n", FILENAME, line, text; bad = 1 }
  FNR == 1 { start = 0 }
  FNR == 801 { complain(801, "the file has more than 800 lines; split it") }
  { width = $0; gsub(/[\200-\277]/, "", width) } # continuation bytes of UTF-8
  length(width) > 120 { complain(FNR, "the line has more than 120 columns") }
  FILENAME ~ /\.[ch]$/ && /^[a-zA-Z_].*\{$/ && !/^(typedef|struct|enum|union|extern)/ && !/=/ { start = FNR }
  start && /^\}/ {
    if (FNR - start + 1 > 120) complain(start, "the function has " FNR - start + 1 " lines, more than 120; split it")
    start = 0
  }
  END { exit bad }' || bad=1

for directory in src/*/; do
  find "$directory" -maxdepth 1 -name '*.[ch]' | grep -q . || continue
  [ -s "${directory}README.md" ] || { printf '%s: README.md is missing\n' "$directory"; bad=1; }
done
for readme in $(find src -name README.md); do
  lines=$(wc -l <"$readme")
  [ "$lines" -le 40 ] || { printf '%s: %d lines, more than 40\n' "$readme" "$lines"; bad=1; }
done
exit $bad
