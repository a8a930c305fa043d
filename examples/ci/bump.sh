#!/bin/sh
# bump.sh - moves a project on a server to another version: for CI, with nothing but sh, curl and openssl.
#
#   bump.sh PROJECT VERSION FILE          sends the artifact to the agent, then moves the project to it
#   bump.sh PROJECT VERSION URL SHA256    moves the project to an artifact at a URL: a release asset, a bucket
#
# ZEXIO_AGENT  the agent's address: https://agent.example.com
# ZEXIO_KID    the key's id, and
# ZEXIO_KEY    its text (zxs_...), from `zexio key add ci --scope deploy:PROJECT` on the server. The key can move this
#              project and nothing else. The project's spec needs `updates: webhook` and `hooks: { generic: {} }`.
set -eu

die() { echo "bump.sh: $*" >&2; exit 1; }

[ $# = 3 ] || [ $# = 4 ] || die "usage: bump.sh PROJECT VERSION FILE | bump.sh PROJECT VERSION URL SHA256"
: "${ZEXIO_AGENT:?the address of the agent}" "${ZEXIO_KID:?the id of the key}" "${ZEXIO_KEY:?the text of the key}"
agent=${ZEXIO_AGENT%/}
project=$1 version=$2 what=$3
case $version in *[!A-Za-z0-9._+-]*) die "a version has only letters, digits and . _ + -, not: $version" ;; esac

hex() { od -An -v -tx1 | tr -d ' \n'; }
sha256() { openssl dgst -sha256 -r "$1" | cut -d' ' -f1; }

# post PATH CONTENT-TYPE FILE - sends a file, signed, and prints the answer.
post() {
  path=$1 type=$2 file=$3
  host=$(printf %s "${agent#*://}" | tr '[:upper:]' '[:lower:]')
  key=$(printf '%s=' "${ZEXIO_KEY#zxs_}" | tr -- '-_' '+/' | openssl base64 -d -A | hex)
  [ ${#key} = 64 ] || die "ZEXIO_KEY is not the text of a key"
  time=$(date +%s) nonce=$(openssl rand -hex 16) digest=$(sha256 "$file")
  # openssl takes the key as an argument, which other users of this machine could see: use a machine without other users.
  proof=$(printf 'ZEXIO1-HMAC-SHA256\n%s\n%s\n%s\nPOST\n%s\n%s\n\n%s\n%s' \
    "$ZEXIO_KID" "$time" "$nonce" "$host" "$path" "$type" "$digest" |
    openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -r | cut -d' ' -f1)
  status=$(curl -sS --max-time 600 -o "$answer" -w '%{http_code}' -X POST -H "Content-Type: $type" \
    -H "X-Signature: v1,kid=$ZEXIO_KID,t=$time,n=$nonce,d=$digest,s=$proof" --data-binary "@$file" "$agent$path")
  case $status in
    2*) cat "$answer" && echo ;;
    *) die "$agent$path answered $status: $(cat "$answer")" ;;
  esac
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
answer=$work/answer
case $what in
  http://* | https://*)
    [ $# = 4 ] || die "a URL needs the sha256 of what is there"
    printf '{"url":"%s","sha256":"%s","version":"%s"}' "$what" "$4" "$version" >"$work/bump"
    ;;
  *)
    [ -f "$what" ] || die "there is no file $what"
    post /v1/artifacts application/octet-stream "$what"
    printf '{"file":"%s","version":"%s"}' "$(sha256 "$what")" "$version" >"$work/bump"
    ;;
esac
post "/v1/hooks/$project/generic" application/json "$work/bump"
