#!/bin/bash
# bench.sh - what a deploy costs beyond the same steps by hand, on a throwaway machine. `make bench` calls it.
#
# BUILT: where the binaries are (target/release); PROFILE: the cargo profile they were built with. The figures go to
# target/bench.json. They are figures, not tests: on shared hardware ratios count, absolute times do not.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
project=$(dirname "$(dirname "$here")")
built=$(readlink -f "${BUILT:-$project/target/release}")
machine=$here/machine.sh
name=bench-$$
trap '"$machine" stop "$name"' EXIT

"$machine" start "$name" --bind-ro="$project:/src" --bind-ro="$(dirname "$built"):/built" --owner=$$
"$machine" exec "$name" bash -euo pipefail -c "
  systemctl enable --now caddy 2>/dev/null
  make -s -C /src install PROFILE=${PROFILE:-release} CARGO_TARGET_DIR=/built
  zexio init >/dev/null
  mkdir -p /etc/systemd/system/zexio-agent.service.d /tmp/pack/hello
  printf '[Service]\nEnvironment=RUST_LOG=zexio=debug\n' >/etc/systemd/system/zexio-agent.service.d/bench.conf
  systemctl daemon-reload
  systemctl enable --now zexio-agent 2>/dev/null
  cp /built/$(basename "$built")/examples/hello /tmp/pack/hello/
  strip /tmp/pack/hello/hello 2>/dev/null || true
  tar -C /tmp/pack -czf /zexio/artifacts/hello.tar.gz hello
  until curl -sf --unix-socket /run/zexio/agent.sock http://localhost/healthz >/dev/null; do sleep 0.1; done
  /built/$(basename "$built")/examples/bench ${ROUNDS:+--rounds $ROUNDS} ${PROJECTS:+--projects $PROJECTS} --out /root/bench.json
" </dev/null
"$machine" exec "$name" cat /root/bench.json </dev/null >"$project/target/bench.json"
