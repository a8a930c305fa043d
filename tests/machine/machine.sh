#!/bin/bash
# machine.sh - a throwaway machine with a real systemd as PID 1, as root, without virtualisation.
#
#   machine.sh start NAME [options]      boot it; returns when systemd has finished booting
#   machine.sh exec  NAME CMD [ARG...]   run a command inside; stdin, stdout, stderr and exit status are its own
#   machine.sh reboot NAME               clean reboot (disk kept, /run lost, processes gone)
#   machine.sh crash NAME                every process SIGKILLed at once, no unit stopped; then boots again
#   machine.sh stop  NAME                tear down processes, mounts, cgroups, files; idempotent
#   machine.sh pid   NAME                host pid of its PID 1 (for /proc/PID/root/..., nsenter)
#   machine.sh list | gc                 the machines known | tear down those whose owner or supervisor is gone
#   machine.sh run [options] -- CMD...   start, exec, stop; exit status of CMD
#
# options: --net=private|host           private (default): a network of its own with only lo, so ports never clash
#          --cgroup=auto|v1|v2          auto (default): v2 where the host's memory controller is on v2, else v1
#          --keep-units                 keep the host's enabled units (default: a machine starts with none)
#          --bind=SRC[:DST], --bind-ro=SRC[:DST]   repeatable; the directory itself, without what is mounted below it
#          --tmpfs=DIR:OPTIONS          repeatable; e.g. --tmpfs=/zexio:size=32M,mode=755 for a disk that fills up
#          --root=DIR                   the read-only lower layer; default /, the host's own root with its toolchain
#          --disk=tmpfs|DIR             where writes go; tmpfs (default), or DIR on another file system than the
#                                       lower layer: kept after stop
#          --owner=PID                  tear the machine down by itself once this process is gone
#
# How it works. A supervisor process holds a private mount namespace with an overlay: the host's root below, a tmpfs
# above, so writes inside stay inside. It runs systemd-nspawn on it in a loop; that loop is what makes reboot and
# crash work. The mounts vanish with the supervisor, on SIGKILL too. State lives in $ZX_MACHINES (default: the
# project's target/machines), one directory per machine, gone after stop.
#
# Every machine has its own cgroup zx-NAME-HASH in each hierarchy. Without that, nspawn puts all machines into one
# shared /payload cgroup and their systemds trip over one another. It is also how stop knows that a pid from a file
# still is the machine's own process and not a stranger that inherited the number.
#
# Needs: systemd, systemd-container, dbus, util-linux, and overlayfs in the kernel (packages.sh installs the former).
set -u

me=$(readlink -f "$0")
project=$(dirname "$(dirname "$(dirname "$me")")")
BASE=${ZX_MACHINES:-$project/target/machines}
V1_CONTROLLERS="cpu cpuacct memory pids blkio devices" # those that a machine gets read-write on cgroup v1
INSIDE_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

die() { echo "machine.sh: $*" >&2; exit 1; }

# ---------------------------------------------------------------------------------------------- processes, state

alive() { # is there such a process, and more than a zombie?
  [ -n "${1:-}" ] && [ -d "/proc/$1" ] && [ "$(awk '/^State/{print $2}' "/proc/$1/status" 2>/dev/null)" != Z ]
}
belongs() { # is process $2 one of machine $1's?
  alive "${2:-}" && grep -q "/$(cgroup_name "$1")\(/\|\$\)" "/proc/$2/cgroup" 2>/dev/null
}
note() { cat "$BASE/$1/$2" 2>/dev/null; } # one of the little files that describe machine $1
leader() { note "$1" leader; }

wait_gone() { # until process $1 has ended, at most $2 times 10 ms
  local i
  for ((i = 0; i < $2; i++)); do alive "$1" || return 0; sleep 0.01; done
  return 1
}

# ---------------------------------------------------------------------------------------------------- cgroups

host_is_v2() { [ -f /sys/fs/cgroup/cgroup.controllers ]; }

cgroup_name() { # the hash: two users of one NAME with different $ZX_MACHINES do not meet
  local sum
  sum=$(printf %s "$BASE" | cksum)
  echo "zx-$1-${sum%% *}"
}
cgroup_homes() { # the host directories of machine $1's cgroups, one a line: hierarchy, directory
  local group controllers path c
  group=$(cgroup_name "$1")
  if host_is_v2; then echo "unified /sys/fs/cgroup/$group"; return; fi
  while IFS=: read -r _ controllers path; do
    case $controllers in
      "") [ -d /sys/fs/cgroup/unified ] && echo "unified /sys/fs/cgroup/unified/$group" ;;
      name=systemd) echo "systemd /sys/fs/cgroup/systemd/$group" ;;
      *) for c in ${controllers//,/ }; do
           case " $V1_CONTROLLERS " in *" $c "*)
             [ -d "/sys/fs/cgroup/$controllers" ] && echo "$c /sys/fs/cgroup/$controllers${path%/}/$group" ;;
           esac
         done ;;
    esac
  done </proc/self/cgroup
}
cgroup_join() { # put process $2 into machine $1's cgroups; $3: sub cgroup in the hierarchies that systemd owns
  local hierarchy dir
  while read -r hierarchy dir; do
    case $hierarchy in unified | systemd) dir=$dir/$3 ;; esac
    mkdir -p "$dir" && echo "$2" >"$dir/cgroup.procs" || return 1
  done <"$BASE/$1/cgroups"
}
cgroup_delegate() { # v2: hand the controllers down to machine $1 (v1 needs nothing)
  local c top=/sys/fs/cgroup own
  host_is_v2 || return 0
  own=$top/$(cgroup_name "$1")
  mkdir -p "$own"
  for c in cpu memory pids io cpuset; do # one by one: a missing controller must not take the others with it
    echo "+$c" >$top/cgroup.subtree_control
    echo "+$c" >"$own/cgroup.subtree_control"
  done 2>/dev/null
}
cgroup_remove() { # remove machine $1's cgroups, deepest first; $2: only what a boot left behind below sub cgroup $2
  local hierarchy dir depth i left
  for ((i = 0; i < 100; i++)); do
    left=0
    while read -r hierarchy dir; do
      depth=0
      if [ -n "${2:-}" ]; then
        case $hierarchy in unified | systemd) dir=$dir/$2 ;; *) depth=1 ;; esac # the supervisor sits in the others
      fi
      [ -d "$dir" ] || continue
      find "$dir" -mindepth $depth -depth -type d -exec rmdir {} + 2>/dev/null
      [ $depth = 0 ] && [ -d "$dir" ] && left=1
    done <"$BASE/$1/cgroups"
    [ $left = 0 ] && return 0
    sleep 0.02 # a process that was just killed may still be on its way out
  done
  return 1
}

# ------------------------------------------------------------------------------------------------ the root inside

prepare_root() { # once for each new upper layer: the host's root becomes a freshly installed machine $2
  local root=$1 unit
  rm -f "$root"/{etc/machine-id,etc/fstab,etc/hostname,usr/sbin/policy-rc.d,var/lib/dbus/machine-id}
  : >"$root/etc/machine-id"
  : >"$root/etc/fstab"
  echo "$2" >"$root/etc/hostname"
  rm -rf "$root"/var/log/journal "$root"/var/lib/systemd/{random-seed,credential.secret,timers}
  mkdir -p "$root/var/log/journal"

  # What an agent or a Caddy on the host keeps is not the machine's.
  rm -rf "$root"/{zexio,etc/zexio,usr/bin/zexio,var/lib/caddy,etc/caddy}
  rm -f "$root"/{etc,usr/lib}/systemd/system/zexio-* "$root"/usr/lib/systemd/system/caddy.service.d/zexio.conf "$root"/etc/tmpfiles.d/zexio-caddy.conf
  grep -q '^zx-' "$root/etc/passwd" && sed -i '/^zx-/d' "$root"/etc/{passwd,shadow,group,gshadow}
  if grep -q '^caddy:' "$root/etc/passwd"; then
    mkdir -p "$root/etc/caddy" && printf ':80 {\n\troot * /usr/share/caddy\n\tfile_server\n}\n' >"$root/etc/caddy/Caddyfile"
    mkdir -p "$root/var/lib/caddy" && chown "$(awk -F: '/^caddy:/{print $3":"$4}' "$root/etc/passwd")" "$root/var/lib/caddy"
  fi

  # Units that need hardware, another network or a console: a container has none, and boot would wait for them.
  [ "$KEEP" = 1 ] || rm -rf "$root"/etc/systemd/system/*.wants "$root"/etc/systemd/system/*.requires
  for unit in systemd-networkd.service systemd-networkd.socket systemd-resolved.service systemd-timesyncd.service \
    systemd-udevd.service console-getty.service systemd-modules-load.service systemd-sysctl.service \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service getty.target; do
    ln -sfn /dev/null "$root/etc/systemd/system/$unit"
  done
  ln -sfn /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"

  mkdir -p "$root/etc/systemd/system.conf.d" "$root/etc/systemd/journald.conf.d"
  printf '[Manager]\nDefaultTimeoutStopSec=10s\nDefaultCPUAccounting=yes\nDefaultMemoryAccounting=yes\nDefaultTasksAccounting=yes\n' \
    >"$root/etc/systemd/system.conf.d/machine.conf"
  printf '[Journal]\nStorage=persistent\nRateLimitBurst=0\n' >"$root/etc/systemd/journald.conf.d/machine.conf"

  # nspawn mounts v1 controllers read-only; with them writable, MemoryMax= and its like are enforced inside too.
  cat >"$root/machine-init" <<INIT
#!/bin/sh
for c in $V1_CONTROLLERS; do
  [ -d /sys/fs/cgroup/\$c ] && mount -o remount,bind,rw,nosuid,nodev,noexec /sys/fs/cgroup/\$c
done
exec /lib/systemd/systemd "\$@"
INIT
  chmod 755 "$root/machine-init"
}

# ------------------------------------------------------------------------------------- supervisor and watcher

supervise() { # in a private mount namespace
  local name=$1 dir=$BASE/$1 status
  # shellcheck disable=SC1091
  . "$dir/conf"
  cgroup_delegate "$name"
  cgroup_join "$name" $BASHPID sup || exit 1
  mount --make-rprivate /
  if [ "$DISK" = tmpfs ]; then mount -t tmpfs -o mode=755 machine "$dir/fs"; else mount --bind "$DISK" "$dir/fs"; fi || exit 1
  mkdir -p "$dir/fs/upper" "$dir/fs/work"
  mount -t overlay machine -o "lowerdir=$LOWER,upperdir=$dir/fs/upper,workdir=$dir/fs/work" "$dir/root" || exit 1
  [ -e "$dir/root/machine-init" ] || prepare_root "$dir/root" "$name"

  # bpf: IPAddressDeny= and IPAccounting= are small BPF programs that systemd loads.
  local args=(--quiet --directory="$dir/root" --machine="$name" --register=no --keep-unit --link-journal=no
    --kill-signal=SIGRTMIN+3 --console=pipe --resolv-conf=off --timezone=off
    --capability=CAP_BPF --capability=CAP_PERFMON --system-call-filter=bpf "${EXTRA[@]}")
  [ "$NET" = private ] && args+=(--private-network)
  [ "$CGROUP" = v2 ] && export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
  while [ ! -e "$dir/stopping" ]; do
    (cgroup_join "$name" $BASHPID m && exec systemd-nspawn "${args[@]}" /machine-init) &
    echo $! >"$dir/nspawn"
    wait $!
    status=$?
    if [ $status != 133 ]; then # 133: it asked for a reboot
      [ -e "$dir/crashing" ] || break
      rm -f "$dir/crashing"
    fi
    cgroup_remove "$name" m # a new boot finds no cgroups of units that ran before
  done
}

watch_owner() { # tear machine $1 down when process $2 is gone; ends by itself when somebody else did
  while alive "$(note "$1" supervisor)"; do
    alive "$2" || { rm -f "$BASE/$1/watcher"; stop "$1"; return; }
    sleep 1
  done
}

wait_boot() { # until machine $1 is up under another PID 1 than $2; then $BASE/$1/leader names it
  local name=$1 dir=$BASE/$1 nspawn child found i
  for ((i = 0; i < 6000; i++)); do
    alive "$(note "$name" supervisor)" || { cat "$dir/console.log" >&2; return 1; }
    nspawn=$(note "$name" nspawn)
    found=
    # shellcheck disable=SC2013 # the kernel writes the children as words on one line
    for child in $(cat "/proc/${nspawn:-0}/task/${nspawn:-0}/children" 2>/dev/null); do
      [ "$(awk '/^NSpid/{print $NF}' "/proc/$child/status" 2>/dev/null)" = 1 ] && found=$child
    done
    if [ -n "$found" ] && [ "$found" != "${2:-}" ] && [ -S "/proc/$found/root/run/systemd/private" ]; then
      echo "$found" >"$dir/leader"
      inside "$name" systemctl is-system-running --wait >"$dir/state" 2>/dev/null </dev/null
      case $(note "$name" state) in running | degraded) return 0 ;; esac
    fi
    sleep 0.01
  done
  return 1
}

# -------------------------------------------------------------------------------------------------------- verbs

inside() { # run a command in all namespaces and the cgroups of machine $1
  local name=$1 pid
  shift
  pid=$(leader "$name")
  belongs "$name" "$pid" || die "$name is not running"
  # A sub cgroup beside systemd's own: v2 allows no processes in a cgroup that has children.
  (
    cgroup_join "$name" $BASHPID m/payload/machine-exec 2>/dev/null
    # shellcheck disable=SC2086 # ZX_ENV is a list of A=B words
    exec env -i PATH="$INSIDE_PATH" HOME=/root TERM=dumb LANG=C.UTF-8 ${ZX_ENV:-} \
      nsenter -t "$pid" -m -u -i -n -p -C -- "$@"
  )
}

start() {
  local name=$1 dir=$BASE/$1
  shift
  local NET=private CGROUP=auto KEEP=0 LOWER=/ DISK=tmpfs OWNER=0 EXTRA=()
  [[ $name =~ ^[a-z0-9][a-z0-9-]{0,40}$ ]] || die "machine names are a-z, 0-9 and -, not '$name'"
  [ "$(id -u)" = 0 ] || die "must be root: it mounts an overlay and boots systemd on it"
  command -v systemd-nspawn >/dev/null || die "systemd-nspawn is missing: install the package systemd-container"
  while [ $# -gt 0 ]; do
    case $1 in
      --net=*) NET=${1#*=} ;;
      --cgroup=*) CGROUP=${1#*=} ;;
      --keep-units) KEEP=1 ;;
      # norbind: the project's directory holds other machines' mounts
      --bind=*:* | --bind-ro=*:*) EXTRA+=("$1:norbind") ;;
      --bind=* | --bind-ro=*) EXTRA+=("$1:${1#*=}:norbind") ;;
      --tmpfs=*) EXTRA+=("$1") ;;
      --root=*) LOWER=${1#*=} ;;
      --disk=*) DISK=${1#*=} ;;
      --owner=*) OWNER=${1#*=} ;;
      *) die "unknown option $1" ;;
    esac
    shift
  done
  [ "$CGROUP" = auto ] && { host_is_v2 && CGROUP=v2 || CGROUP=v1; }
  stop "$name"
  local tries=0
  # The last machine that goes takes the directory of all with it, perhaps just now.
  until mkdir -p "$dir/root" "$dir/fs" 2>/dev/null; do
    [ $((tries += 1)) -lt 20 ] || { mkdir -p "$dir/root" "$dir/fs"; break; }
  done
  : >"$dir/console.log"
  cgroup_homes "$name" >"$dir/cgroups"
  declare -p NET CGROUP KEEP LOWER DISK OWNER EXTRA | sed 's/^declare --/declare -g/; s/^declare -a/declare -ga/' >"$dir/conf"
  setsid unshare -m --propagation private "$me" __supervise "$name" >>"$dir/console.log" 2>&1 </dev/null &
  echo $! >"$dir/supervisor"
  disown
  if [ "$OWNER" != 0 ]; then
    setsid "$me" __watch "$name" "$OWNER" >/dev/null 2>&1 </dev/null &
    echo $! >"$dir/watcher"
    disown
  fi
  wait_boot "$name" || { stop "$name"; die "$name did not boot"; }
}

stop() {
  local name=$1 dir=$BASE/$1 pid
  [ -d "$dir" ] || return 0
  : >"$dir/stopping"
  pid=$(note "$name" watcher)
  alive "$pid" && grep -q __watch "/proc/$pid/cmdline" 2>/dev/null && kill "$pid"
  pid=$(leader "$name")
  belongs "$name" "$pid" && kill -KILL "$pid" # the end of a pid namespace's init ends everything in it
  for pid in $(note "$name" nspawn) $(note "$name" supervisor); do
    wait_gone "$pid" 100 && continue
    belongs "$name" "$pid" && kill -KILL "$pid" 2>/dev/null
    wait_gone "$pid" 100
  done
  cgroup_remove "$name" || echo "machine.sh: cgroups of $name are still in use" >&2
  rm -rf --one-file-system "$dir"
  rmdir "$BASE" 2>/dev/null # the last one out
  return 0
}

reboot() {
  local before
  before=$(leader "$1")
  inside "$1" systemctl reboot >/dev/null 2>&1 </dev/null
  wait_boot "$1" "$before" || die "$1 did not come back after a reboot"
}

crash() {
  local before
  before=$(leader "$1")
  belongs "$1" "$before" || die "$1 is not running"
  : >"$BASE/$1/crashing"
  kill -KILL "$before"
  wait_boot "$1" "$before" || die "$1 did not come back after a crash"
}

list() {
  local dir name
  for dir in "$BASE"/*/; do
    [ -f "$dir/conf" ] || continue
    name=$(basename "$dir")
    echo "$name $(leader "$name") $(note "$name" state)"
  done
}

gc() {
  local dir name OWNER
  for dir in "$BASE"/*/; do
    [ -f "$dir/conf" ] || continue
    name=$(basename "$dir")
    OWNER=$(sed -n 's/^declare -g OWNER="\(.*\)"/\1/p' "$dir/conf")
    if { [ "${OWNER:-0}" != 0 ] && ! alive "$OWNER"; } || ! alive "$(note "$name" supervisor)"; then
      stop "$name"
      echo "gone: $name"
    fi
  done
}

run() {
  local options=() name=run-$$
  while [ $# -gt 0 ] && [ "$1" != -- ]; do options+=("$1"); shift; done
  [ $# -gt 1 ] || die "run [options] -- CMD..."
  shift
  # shellcheck disable=SC2064
  trap "stop $name" EXIT
  start "$name" --owner=$$ "${options[@]}"
  inside "$name" "$@"
}

verb=${1:-}
[ $# -gt 0 ] && shift
case $verb in
  start | stop | reboot | crash | pid | exec) [ $# -gt 0 ] || die "$verb needs the machine's name" ;;
esac
case $verb in
  __supervise) supervise "$1" ;;
  __watch) watch_owner "$1" "$2" ;;
  start) start "$@" ;;
  exec) name=$1; shift; [ "${1:-}" = -- ] && shift; inside "$name" "$@" ;;
  pid) leader "$1" ;;
  stop) stop "$1" ;;
  reboot) reboot "$1" ;;
  crash) crash "$1" ;;
  list) list ;;
  gc) gc ;;
  run) run "$@" ;;
  *) sed -n '2,/^set -u/{/^#/p}' "$me"; exit 2 ;;
esac
