# Sums what `cargo llvm-cov report --show-missing-lines` says of model, plan and render, and keeps their missing lines.

function share(missed, all) { return all ? 100 * (all - missed) / all : 100 }

$1 ~ /^(src\/)?(model|plan|render)\// {
  directory = $1
  sub(/^src\//, "", directory)
  sub(/\/.*/, "", directory)
  regions[directory] += $2; missed_regions[directory] += $3
  lines[directory] += $8; missed_lines[directory] += $9
}

/^\/.*\/src\/(model|plan|render)\/[^:]*: / { sub(/^.*\/src\//, "src/"); missing = missing $0 "\n" }

END {
  printf "%-10s %8s %8s %9s %8s %8s %9s\n", "", "lines", "missed", "reached", "regions", "missed", "reached"
  split("model plan render", names, " ")
  for (i = 1; i <= 3; i++) {
    d = names[i]
    printf "src/%-6s %8d %8d %8.2f%% %8d %8d %8.2f%%\n", d, lines[d], missed_lines[d], share(missed_lines[d], lines[d]),
      regions[d], missed_regions[d], share(missed_regions[d], regions[d])
  }
  printf "\nlines that no test reaches:\n%s", missing
}
