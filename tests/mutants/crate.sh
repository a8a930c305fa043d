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
for part in model plan render reconcile spec_dir port.rs bell.rs pulse.rs tell.rs metrics.rs settings.rs; do cp -pr "src/$part" "$to/src"; done
cp -pr tests/golden tests/sim "$to/tests"
# Of the golden texts those of the planner; the rest is about other parts.
sed -e '/^mod reference/d' -e '/^use zexio/d' -e '/^fn unit_text/,$d' tests/golden/main.rs >"$to/tests/golden/main.rs"
# SQLite is not in the crate.
sed -i -e '/^mod sqlite/d' "$to/tests/sim/contract/mod.rs"
# What was mutated there before may look older than what it replaces.
touch "$to/src/lib.rs"
