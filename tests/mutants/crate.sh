#!/bin/sh
# Lays out the crate of tests/mutants/lib.rs in a directory: it is mutated there, never here.
set -eu
to=$1
rm -rf "$to/src" "$to/tests"
mkdir -p "$to/src" "$to/tests"
# Without the binary: cargo would build it for every test.
sed -e '/^default-run/d' -e '/^\[\[bin\]\]/,/^$/d' Cargo.toml >"$to/Cargo.toml"
printf '\n[profile.dev.package.zexio-agent]\nopt-level = 1\n' >>"$to/Cargo.toml"
cp -p Cargo.lock Caddyfile.tmpl "$to"
cp -p tests/mutants/lib.rs "$to/src/lib.rs"
for part in $(sed -n 's/^pub mod \([a-z_]*\);$/\1/p' tests/mutants/lib.rs); do
  if [ -d "src/$part" ]; then cp -pr "src/$part" "$to/src"; else cp -p "src/$part.rs" "$to/src"; fi
done
cp -pr tests/golden tests/sim "$to/tests"
# Of the golden texts those of the planner; the rest is about other parts.
sed -e '/^mod reference/d' -e '/^use zexio/d' -e '/^fn unit_text/,$d' tests/golden/main.rs >"$to/tests/golden/main.rs"
# SQLite is not in the crate.
sed -i -e '/^mod sqlite/d' "$to/tests/sim/contract/mod.rs"
sed -i -e 's/^mod tests;/mod tests {}/' "$to/src/spec_dir/mod.rs" "$to/src/spec_dir/decide.rs"
# What was mutated there before may look older than what it replaces.
touch "$to/src/lib.rs"
