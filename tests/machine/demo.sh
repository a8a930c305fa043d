#!/bin/bash
# demo.sh - the whole story on a throwaway machine, as a person would live it on a VPS. `make demo` calls it.
#
# BUILT: where the binaries are (target/release); PROFILE: the cargo profile they were built with; KEEP=1: leave the
# machine up at the end. Waits for conditions, never for time; exits 0 only when every step came out as told.
# shellcheck disable=SC2016 # what runs inside is expanded inside
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
project=$(dirname "$(dirname "$here")")
built=$(readlink -f "${BUILT:-$project/target/release}")
machine=$here/machine.sh
name=demo-$$
began=${EPOCHREALTIME/./}
bold='' plain=''
[ -t 1 ] && bold=$'\e[1m' plain=$'\e[0m'

# ------------------------------------------------------------------------------------------------- how it is told

clock() { local us=$((${EPOCHREALTIME/./} - began)); printf '%3d.%d s' $((us / 1000000)) $((us / 100000 % 10)); }
step() { printf '\n%s%s  %s%s\n' "$bold" "$(clock)" "$*" "$plain"; }
told() { sed 's/^/           /'; }
say() { printf '%s\n' "$*" | told; }
fail() {
  printf '\n%sthe demo failed: %s%s\n' "$bold" "$*" "$plain" >&2
  "$machine" exec "$name" journalctl -u zexio-agent -n 30 --no-pager -o cat 2>/dev/null </dev/null | sed 's/^/  agent: /' >&2 || true
  exit 1
}

cleanup() {
  local status=$?
  trap - EXIT
  trap '' INT TERM
  { [ -n "${load_in:-}" ] && exec {load_in}>&-; } 2>/dev/null || true
  if [ "${KEEP:-}" = 1 ] && "$machine" pid "$name" >/dev/null; then
    step "the machine stays up"
    say "look inside   $machine exec $name bash"
    say "its log       $machine exec $name journalctl -f"
    say "stop it       $machine stop $name"
  else
    "$machine" stop "$name"
  fi
  exit $status
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---------------------------------------------------------------------------------------------- what is done inside

inside() { "$machine" exec "$name" "$@" </dev/null; }
script() { inside bash -euo pipefail -c "$1"; }
# Shows a command and what it answers; it must succeed.
run() {
  say "\$ $1"
  local out status=0
  out=$(script "$1" 2>&1) || status=$?
  [ -z "$out" ] || told <<<"$out"
  [ $status = 0 ] || fail "exit status $status of: $1"
}
write() { "$machine" exec "$name" bash -c 'cat >"$1.part" && mv "$1.part" "$1"' - "$1"; } # whole or not at all
wait_for() { # seconds, what, then the command whose success is waited for
  local until=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $until ] || fail "waited in vain for $what"
    sleep 0.1
  done
}

authority=/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt
fetch() { # URL: over HTTPS through Caddy, certificate and all
  local host=${1#https://}
  inside curl -sS --fail --max-time 10 --cacert $authority --resolve "${host%%/*}:443:127.0.0.1" "$1"
}
answers() { fetch "https://$1/" | grep -qF -- "$2"; }
shows() { # host, text: waits until the site answers with it, then shows the answer
  wait_for 60 "https://$1/ to answer with '$2'" answers "$1" "$2"
  say "https://$1/  ->  $(fetch "https://$1/")"
}
signed() { # method, path, body file inside (or ''), content type, key: one signed request over the socket
  local sign="zexio sign $1 http://localhost$2" curl="curl -sS --unix-socket /run/zexio/agent.sock -X $1"
  if [ -n "$3" ]; then
    sign+=" --body $3 --content-type $4"
    curl+=" -H 'Content-Type: $4' --data-binary @$3"
  fi
  [ -z "${5:-}" ] || sign+=" --key $5"
  run "signature=\$($sign)
  $curl -H \"X-Signature: \$signature\" http://localhost$2"
}
status_has() { inside zexio get "$1" -o json | tr -d ' \n' | grep -qE -- "$2"; }
spec() { sed "s/hello-1\.0\.0/hello-$2/; s/version: \"1\.0\.0\"/version: \"$2\"/" "$project/specs/$1.yaml"; }

# ------------------------------------------------------------------------------------------------------- the story

step "boot a throwaway machine: systemd as PID 1, journald, D-Bus, Caddy, a network of its own"
owner=(--owner=$$)
[ "${KEEP:-}" = 1 ] && owner=()
"$machine" start "$name" --bind-ro="$project:/src" --bind-ro="$(dirname "$built"):/built" "${owner[@]}"
say "$(inside systemctl --version | head -1), Caddy $(inside caddy version), $(inside systemctl is-system-running)"
script 'systemctl enable --now caddy' 2>/dev/null # as the distribution's package does on a VPS

step "install, as on any server"
run "make -s -C /src install PROFILE=${PROFILE:-release} CARGO_TARGET_DIR=/built"
run "zexio init"
script 'printf "artifacts: { allow: [\"http://127.0.0.1:9000/\"] }\n" >>/etc/zexio/agent.yaml'
run "systemctl enable --now zexio-agent"
wait_for 60 "the agent to be healthy" inside curl -sf --unix-socket /run/zexio/agent.sock http://localhost/healthz
say "the agent is healthy"

step "an artifact server, with three versions of a web app"
script 'for v in 1.0.0 1.1.0 2.0.0; do
  mkdir -p /srv/artifacts /tmp/pack/hello-$v
  cp /built/'"$(basename "$built")"'/examples/hello /tmp/pack/hello-$v/
  echo $v >/tmp/pack/hello-$v/VERSION
  tar -C /tmp/pack -czf /srv/artifacts/hello-$v.tar.gz hello-$v
done
systemd-run --quiet --unit=demo-artifacts caddy file-server --listen 127.0.0.1:9000 --root /srv/artifacts'
wait_for 30 "the artifact server" inside curl -sfI http://127.0.0.1:9000/hello-1.0.0.tar.gz
inside ls /srv/artifacts | told

step "first door: drop a file into the watched directory"
say "specs/hello.yaml -> /zexio/specs/hello.yaml, specs/worker.yaml -> /zexio/specs/worker.yaml"
spec hello 1.0.0 | write /zexio/specs/hello.yaml
spec worker 1.0.0 | write /zexio/specs/worker.yaml
shows hello.example.com "hello from hello 1.0.0 (release 1)"
wait_for 60 "the worker to work" script 'journalctl -o cat | grep -q "working, round"'
say "the worker works: $(script 'journalctl -o cat | grep "working, round" | tail -1')"

step "second door: PUT over HTTP"
spec greeter 1.0.0 | write /root/greeter.yaml
signed PUT /v1/projects/greeter /root/greeter.yaml application/yaml
shows greeter.example.com "hello from greeter 1.0.0 (release 1)"

step "third door: CI bumps a version with a webhook and a key that can do nothing else"
spec webhook 1.0.0 | write /root/bumped.yaml
run "zexio apply -f /root/bumped.yaml --wait"
shows bumped.example.com "hello from bumped 1.0.0 (release 1)"
run "zexio key add ci --scope deploy:bumped"
digest=$(inside sha256sum /srv/artifacts/hello-1.1.0.tar.gz | cut -d' ' -f1)
printf '{"url":"http://127.0.0.1:9000/hello-1.1.0.tar.gz","sha256":"%s","version":"1.1.0"}' "$digest" | write /root/bump.json
signed POST /v1/hooks/bumped/generic /root/bump.json application/json /etc/zexio/keys/ci
shows bumped.example.com "hello from bumped 1.1.0 (release 2)"

step "upgrade hello to 2.0.0 while requests run"
scratch=${ZX_MACHINES:-$project/target/machines}/$name # gone with the machine
mkfifo "$scratch/load"
"$machine" exec "$name" "/built/$(basename "$built")/examples/load" --ca $authority hello.example.com \
  <"$scratch/load" >"$scratch/load.json" 2>"$scratch/load.err" &
load=$!
exec {load_in}>"$scratch/load"
wait_for 30 "the load to run" script "test \"\$(grep -c ':01BB 01' /proc/net/tcp)\" -ge 4" # connections established with port 443
spec hello 2.0.0 | write /zexio/specs/hello.yaml
shows hello.example.com "hello from hello 2.0.0 (release 2)"
wait_for 90 "the old release to be gone" script '! systemctl is-active --quiet zexio-hello-web-r1.service'
exec {load_in}>&-
wait $load || fail "the load: $(cat "$scratch/load.err")"
counts=$(cat "$scratch/load.json")
number() { sed -E "s/.*\"$1\":([0-9.]+).*/\1/" <<<"${counts%%\"by_kind\"*}"; }
say "$(number ok) requests answered, $(number failed) failed, over $(printf %.0f "$(number seconds)") s; slowest $(number slowest_ms) ms"
say "keep-alive, new connections, POSTs and slow requests of 3 s; both releases answered:"
grep -oE 'hello from hello [^"\\]*' <<<"$counts" | told
[ "$(number failed)" = 0 ] || fail "requests were lost: $counts"

step "deploy a broken release: it exits at once"
spec greeter 2.0.0 | sed 's|run: ./hello|run: ./hello --exit-at-once 3|' | write /root/broken.yaml
signed PUT /v1/projects/greeter /root/broken.yaml application/yaml
wait_for 120 "release 2 of greeter to be rejected" status_has greeter '"rejected":\[2\]'
run "zexio status greeter"
say "and the old one still serves:"
shows greeter.example.com "hello from greeter 1.0.0 (release 1)"

step "roll back hello, with the artifact server switched off"
run "systemctl stop demo-artifacts"
run "zexio rollback hello --wait"
shows hello.example.com "hello from hello 1.0.0"

step "delete bumped"
run "zexio delete bumped --wait"
left() {
  ls -d /etc/systemd/system/zexio-bumped-* /zexio/apps/bumped /zexio/fronts/bumped /etc/zexio/cred/zexio-bumped-* 2>/dev/null || true
  systemctl list-units --all --plain --no-legend 'zexio-bumped-*'
  getent passwd zx-bumped || true
  grep -n bumped /etc/caddy/zexio.caddyfile || true
}
nothing_left() { [ -z "$(script "$(declare -f left); left")" ]; }
wait_for 60 "everything of bumped to be gone" nothing_left
say "no unit, no user, no directory, no launch blob, no route: nothing is left"
if answers bumped.example.com hello 2>/dev/null; then fail "bumped.example.com still answers"; fi
say "https://bumped.example.com/  ->  no such site"

step "what runs at the end"
run "zexio get"
printf '\n%s%s  done%s\n' "$bold" "$(clock)" "$plain"
