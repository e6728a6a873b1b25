#!/bin/sh
# Checks the text of the sources: no notes to self, no disabled code, no tabs, no trailing blanks. In src/: memory
# comes from base/memory.h only (tests make every allocation fail), and nothing but the program ends the process.
set -eu
cd "$(dirname "$0")/.."

find src include tests bench tools cmake \( -name '*.[ch]' -o -name '*.def' -o -name '*.sh' -o -name '*.cmake' \) |
  grep -v '^tools/check_text.sh$' | sort | xargs awk '
  function complain(text) { printf "%s:%d: %s\n", FILENAME, FNR, text; bad = 1 }
  /TODO|FIXME|HACK|(^|[^X])XXX([^X]|$)/ { complain("a note to self: do it, or write an issue") }
  /^[ \t]*#[ \t]*if[ \t]+0/ { complain("disabled code: remove it") }
  /\t/ { complain("a tab") }
  /[ \t]$/ { complain("blanks at the end of the line") }
  FILENAME !~ /^src\/.*\.[ch]$/ || /^[ \t]*(\/\*|\*|\/\/)/ { next }
  { code = $0; gsub(/\/\*.*\*\/|\/\/.*|\/\*.*$|"[^"]*"/, "", code) }
  FILENAME != "src/base/memory.c" && \
    code ~ /(^|[^a-zA-Z0-9_>.])(malloc|calloc|realloc|strdup|strndup|aligned_alloc|posix_memalign|asprintf)\(/ {
    complain("memory comes from base/memory.h")
  }
  FILENAME !~ /^src\/cli\// && code ~ /(^|[^a-zA-Z0-9_>.])(exit|abort)\(/ {
    complain("a library does not end the process: return a status")
  }
  END { exit bad }'
