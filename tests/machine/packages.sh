#!/bin/bash
# packages.sh - installs what building and testing need beside Rust, from the distribution (Debian, Ubuntu).
#
# Quick when everything is there, which is why make calls it each time. Packages that bring a daemon must not start it:
# the machine that runs the tests is not the machine under test.
set -euo pipefail

# gcc, make, pkg-config: SQLite, libdbus and the codecs are built from source. systemd, systemd-container, dbus, caddy:
# the throwaway machine is this machine's root. curl, ca-certificates: the demo's eyes. python3-pip: a newer Caddy,
# schemathesis. nodejs, golang-go, python3, openssl: the example applications, and what the documents show, are run.
# gunicorn: a server that leads its own workers. nginx: one in front of Caddy. npm comes with some builds of nodejs, and else by itself.
packages=(build-essential pkg-config systemd systemd-container dbus caddy curl ca-certificates util-linux python3-pip
          nodejs golang-go python3 openssl gunicorn nginx)
policy=/usr/sbin/policy-rc.d

die() { echo "packages.sh: $*" >&2; exit 1; }

missing=()
for package in "${packages[@]}"; do
  # shellcheck disable=SC2016 # dpkg-query's own placeholder
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) || true
  [ "$status" = installed ] || missing+=("$package")
done
command -v npm >/dev/null || missing+=(npm)
[ ${#missing[@]} = 0 ] && exit 0

command -v apt-get >/dev/null || die "this is no Debian or Ubuntu; install the equivalents of: ${missing[*]}"
[ "$(id -u)" = 0 ] || die "must be root to install: ${missing[*]}"
echo "packages.sh: installing ${missing[*]}"

if [ ! -e $policy ]; then # an existing one is the operator's word and stays
  trap 'rm -f $policy' EXIT
  printf '#!/bin/sh\n# put here by packages.sh while it installs\nexit 101\n' >$policy
  chmod 755 $policy
fi
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
"${apt[@]}" update </dev/null || true # an old list is better than none; the install says what is really missing
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null || die "could not install: ${missing[*]}"
