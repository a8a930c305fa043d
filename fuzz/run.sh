#!/bin/bash
# run.sh TARGET_DIR HOST SECONDS - runs every fuzz target from its committed corpus for so long, and says what came of it.
#
# What a run finds on its way stays in TARGET_DIR; an input that breaks something is put into fuzz/artifacts, and the
# command that repeats it is printed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
built=$1/$2/release seconds=$3 status=0

for source in fuzz/fuzz_targets/*.rs; do
  name=$(basename "$source" .rs)
  found=$1/corpus/$name
  mkdir -p "$found" "fuzz/artifacts/$name"
  log=$1/$name.log
  "$built/$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
    -artifact_prefix="fuzz/artifacts/$name/" "$found" "fuzz/corpus/$name" >"$log" 2>&1
  broke=$?
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  reached=$(grep -oE 'cov: [0-9]+' "$log" | tail -1)
  if [ $broke = 0 ]; then
    echo "$name: ${runs:-0} executions, ${reached:-cov: 0}, no crash"
  else
    status=1
    echo "$name: crashed after ${runs:-?} executions; the end of $log:"
    grep -vE '^(#|INFO)' "$log" | tail -25
    grep -oE "fuzz/artifacts/$name/[a-z]+-[0-9a-f]+" "$log" | sort -u | sed "s|^|repeat it: $built/$name |"
  fi
done
exit $status
