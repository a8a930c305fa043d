#!/bin/bash
# service-packages.sh DIR - fetches the distribution's packages of the host services into DIR, with all that they need,
# as a package source for machines without a network: deb [trusted=yes] file:DIR ./
#
# Quick when it is there.
set -euo pipefail

dir=$1
wanted=(redis-server nodejs postgresql)

die() { echo "service-packages.sh: $*" >&2; exit 1; }

[ -e "$dir/Packages" ] && exit 0
command -v apt-get >/dev/null || die "this is no Debian or Ubuntu"
fetched=$dir/fetched
rm -rf "$fetched"
mkdir -p "$fetched/partial"
fetched=$(readlink -f "$fetched")
# As if nothing were installed: then everything that they need comes along.
fetch() {
  apt-get -qq install -y --download-only --no-install-recommends -o Debug::NoLocking=1 -o Acquire::Retries=3 \
    -o APT::Sandbox::User=root -o Dir::State::status=/dev/null -o Dir::Cache::archives="$fetched" "${wanted[@]}" </dev/null
}
fetch || { apt-get -qq update </dev/null && fetch; } || die "could not fetch: ${wanted[*]}"
# An epoch's colon is escaped in a file's name, and not every apt reads it back from a directory.
for file in "$fetched"/*.deb; do
  name=$(basename "$file")
  mv "$file" "$dir/${name//%3a/.}"
done
rm -rf "$fetched"
(cd "$dir" && dpkg-scanpackages --multiversion . >Packages.part 2>/dev/null && mv Packages.part Packages)
