#!/bin/sh
# Checks the include direction: a directory of src/ includes only itself and the directories above it in the list;
# the public headers (include/) stand behind device, but for hfbench.h, which is the whole library. The engine (device,
# kernels, eager, compile) knows nothing of layers and models.
set -eu
cd "$(dirname "$0")/.."

find src include -name '*.[ch]' -o -name '*.def' | sort | xargs awk '
  BEGIN {
    count = split("base ir grad nn models io device include kernels eager compile bench report cli library", order, " ")
    for (i = 1; i <= count; i++) level[order[i]] = i
    forbidden["nn"] = forbidden["models"] = 1
    engine["device"] = engine["kernels"] = engine["eager"] = engine["compile"] = 1
  }
  function complain(text) { printf "%s:%d: %s\n", FILENAME, FNR, text; bad = 1 }
  FNR == 1 {
    split(FILENAME, part, "/")
    own = part[1] == "src" ? part[2] : FILENAME == "include/hfbench/hfbench.h" ? "library" : "include"
    if (!(own in level)) complain("src/" own " is not in the list of directories")
  }
  /^[ \t]*#[ \t]*include[ \t]*"/ {
    path = $0
    sub(/^[^"]*"/, "", path)
    sub(/".*/, "", path)
    slash = index(path, "/")
    used = substr(path, 1, slash - 1)
    if (path ~ /\.inc$/) next # written by the build
    if (used == "hfbench") used = "include"
    if (!slash) complain("\"" path "\" must be written from the root of src/, as \"" own "/...\"")
    else if (!(used in level)) complain("\"" path "\" is in no known directory")
    else if (level[used] > level[own]) complain(own " must not include \"" path "\": " used " is below it in the list")
    else if (own in engine && used in forbidden) complain(own " must not know of " used ": \"" path "\"")
  }
  END { exit bad }'
