#!/bin/bash
# install.sh DIR - puts schemathesis into DIR, which turns the API's own document into requests for the tests. All
# it needs is pinned in requirements.txt. No virtual environment: DIR is read on machines where it lies elsewhere.
set -euo pipefail

dir=$1
here=$(dirname "$(readlink -f "$0")")
wanted=$(sha256sum "$here/requirements.txt" | cut -d' ' -f1)

die() { echo "schemathesis/install.sh: $*" >&2; exit 1; }

[ "$(cat "$dir/.wanted" 2>/dev/null)" = "$wanted" ] && exit 0
rm -rf "$dir" "$dir.part"
# The distribution's own Python: it is the one on the machines. --target leaves it and the user's packages alone.
/usr/bin/python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --only-binary=:all: --target "$dir.part" \
  -r "$here/requirements.txt" </dev/null || die "could not install what requirements.txt lists"
echo "$wanted" >"$dir.part/.wanted"
mv "$dir.part" "$dir"
