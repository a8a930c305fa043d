//! The text of an app's unit file: a constant, filled only with checked names, numbers and words of our own.
//!
//! systemd ends a line at a bare carriage return, takes a leading `+` for "as root" and expands `%`; so no user text
//! reaches this file. Command, variables and directory travel in the launch blob.

use crate::model::desired::{Content, Workload, WorkloadKind};
use crate::model::layout::{LAUNCHER, Layout, SLICE, user_of};
use crate::model::names::{ReleaseNo, Slot, UnitId};
use crate::model::quantity::Span;
use crate::model::spec::{Calendar, Check, Sandbox, StopSignal, StopTo};

/// The journal's name for the program that waits until nothing of a unit is left.
pub const WAITER: &str = "zexio-wait";

/// Returns the unit file's text.
pub fn text(
    unit: &UnitId,
    workload: &Workload,
    content: &Content,
    slot: Slot,
    port: Option<u16>,
    layout: &Layout,
) -> String {
    let user = user_of(&unit.project);
    let description = describe(unit);
    let (running, start_timeout) = (way_of_running(workload), start_timeout(workload));
    let (name, turn, launch) = (unit.name(), turn(workload), launch_arguments(workload));
    let (stop_timeout, signal, stop_to) =
        (workload.stop.within.0, signal(workload.stop.signal), stop_to(workload.stop.to));
    let (limits, sandbox) = (limits(content), sandbox(unit, content.sandbox, layout));
    let own = own_section(unit, slot, port);
    // StartLimitIntervalSec: systemd keeps restarting an app whatever happens, since the agent may be away. A release
    // that fails during its rollout is stopped by the agent. All in one piece: every pass compares it.
    format!(
        "\
# Written by zexio for one release and never changed after; change the spec instead.
[Unit]
Description={description}
After=network.target
StartLimitIntervalSec=0

[Service]
{running}
TimeoutStartSec={start_timeout}
User={user}
Group={user}
Slice={SLICE}
ExecStartPre=+{LAUNCHER} hand-over {name}{turn}
ExecStart={LAUNCHER} launch{launch}
NotifyAccess=exec
FileDescriptorStoreMax=1
TimeoutStopSec={stop_timeout}ms
KillSignal={signal}
{stop_to}
OOMPolicy=kill
{limits}
{sandbox}

[Install]
WantedBy=multi-user.target

{own}"
    )
}

/// Returns the text of a unit's timer.
pub fn timer_text(unit: &UnitId, calendar: &Calendar, slot: Slot) -> String {
    let lines = [
        "# Written by zexio for one release and never changed after; change the spec instead.".to_owned(),
        "[Unit]".to_owned(),
        format!("Description={}", describe(unit)),
        String::new(),
        "[Timer]".to_owned(),
        format!("OnCalendar={}", calendar.as_str()),
        // A run missed while the machine was off is made up for once.
        "Persistent=yes".to_owned(),
        "AccuracySec=1s".to_owned(),
        String::new(),
        "[Install]".to_owned(),
        "WantedBy=timers.target".to_owned(),
        String::new(),
        own_section(unit, slot, None),
    ];
    lines.join("\n")
}

fn notifies(workload: &Workload) -> bool {
    workload.ready.as_ref().is_some_and(|ready| ready.check == Check::Notify)
}

/// When many units start at once, visitors wait for web processes only.
fn turn(workload: &Workload) -> &'static str {
    if workload.kind == WorkloadKind::Web { "" } else { " --later" }
}

/// The descriptor store comes with systemd's notification socket; only an app whose readiness is told by it gets it.
fn launch_arguments(workload: &Workload) -> &'static str {
    if notifies(workload) { " --notify" } else { "" }
}

fn describe(unit: &UnitId) -> String {
    let instance = unit.instance.map(|instance| format!(", instance {instance}")).unwrap_or_default();
    format!("zexio app {}, process {}, release {}{instance}", unit.project, unit.process, unit.release)
}

/// systemd keeps a daemon up; a command runs to its end; the release command then stays active as done.
fn way_of_running(workload: &Workload) -> &'static str {
    match &workload.kind {
        WorkloadKind::Release(_) => "Type=oneshot\nRemainAfterExit=yes",
        WorkloadKind::Scheduled(_) => "Type=oneshot",
        _ if notifies(workload) => "Type=notify\nRestart=always\nRestartSec=2",
        _ => "Type=exec\nRestart=always\nRestartSec=2",
    }
}

/// The agent rejects a process that is not ready in time, and says so. systemd's own timeout is for when the agent is
/// away, and longer: otherwise the process would be killed before it is judged, and look as if it had failed.
const GRACE: Span = Span::seconds(30);

fn start_timeout(workload: &Workload) -> String {
    match (&workload.kind, &workload.ready) {
        (WorkloadKind::Release(timeout), _) => format!("{}ms", timeout.0),
        (WorkloadKind::Scheduled(_), _) => "infinity".to_owned(),
        (_, Some(ready)) if ready.check == Check::Notify => format!("{}ms", ready.within.0 + GRACE.0),
        _ => "90s".to_owned(),
    }
}

fn own_section(unit: &UnitId, slot: Slot, port: Option<u16>) -> String {
    let UnitId { project, process, release, instance } = unit;
    let (instance, port) = (instance.unwrap_or(0), port.unwrap_or(0));
    format!(
        "[X-Zexio]\nProject={project}\nProcess={process}\nRelease={release}\nInstance={instance}\nSlot={slot}\nPort={port}\n"
    )
}

/// Returns the unit of one of our files, from its own section; None if the file is not ours.
pub fn owner(text: &str) -> Option<UnitId> {
    let section = text.split_once("\n[X-Zexio]\n")?.1;
    let value = |key: &str| section.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    Some(UnitId {
        project: value("Project")?.parse().ok()?,
        process: value("Process")?.parse().ok()?,
        release: ReleaseNo(value("Release")?.parse().ok()?),
        instance: Some(value("Instance")?.parse().ok()?).filter(|instance| *instance > 0),
    })
}

/// Returns the unit that a description of ours names: what is left of a unit whose file is gone.
pub fn described(description: &str) -> Option<UnitId> {
    let (project, rest) = description.strip_prefix("zexio app ")?.split_once(", process ")?;
    let (process, rest) = rest.split_once(", release ")?;
    let (release, instance) =
        rest.split_once(", instance ").map_or((rest, None), |(release, instance)| (release, Some(instance)));
    Some(UnitId {
        project: project.parse().ok()?,
        process: process.parse().ok()?,
        release: ReleaseNo(release.parse().ok()?),
        instance: instance.map(str::parse).transpose().ok()?,
    })
}

/// With control-group alone, systemd sends the signal again to what is left when the first process has ended, and a
/// program that handles it once dies of the second. So a program of ours first waits until nothing is left, without the
/// sandbox, whose set-up would take as long as that of a start. What is still there after TimeoutStopSec is killed by systemd without another signal to stop.
fn stop_to(to: StopTo) -> String {
    match to {
        StopTo::All => {
            format!("KillMode=control-group\nExecStopPost=-+{LAUNCHER} wait-for-rest\nTimeoutStopFailureMode=kill")
        }
        StopTo::Main => "KillMode=mixed".to_owned(),
    }
}

fn signal(signal: StopSignal) -> &'static str {
    match signal {
        StopSignal::SIGTERM => "SIGTERM",
        StopSignal::SIGINT => "SIGINT",
        StopSignal::SIGQUIT => "SIGQUIT",
        StopSignal::SIGHUP => "SIGHUP",
        StopSignal::SIGUSR1 => "SIGUSR1",
        StopSignal::SIGUSR2 => "SIGUSR2",
        StopSignal::SIGWINCH => "SIGWINCH",
    }
}

fn limits(content: &Content) -> String {
    let memory =
        content.limits.memory.map(|memory| format!("MemoryMax={}\nMemorySwapMax=0\n", memory.0)).unwrap_or_default();
    let cpu = content.limits.cpu.map(|cpu| format!("CPUQuota={}%\n", cpu.0)).unwrap_or_default();
    format!(
        "{memory}{cpu}CPUAccounting=yes\nMemoryAccounting=yes\nIOAccounting=yes\nTasksMax={}\nLimitNOFILE=65536\nLimitCORE=0",
        content.limits.tasks
    )
}

/// What every runtime we know tolerates. No MemoryDenyWriteExecute (V8 and other JITs die of it), no ProcSubset=pid
/// (Node sees no processors), AF_NETLINK open (`os.networkInterfaces()` throws without it), system calls refused with
/// EPERM rather than a kill. Without capabilities no process can become another user, and servers such as gunicorn die
/// if they may not even ask to become who they are.
const STANDARD: &str = "\
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
PrivateUsers=yes
PrivateIPC=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
KeyringMode=private
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service @pkey
SystemCallFilter=~@privileged @resources
SystemCallFilter=@setuid
SystemCallErrorNumber=EPERM
InaccessiblePaths=-/etc/zexio -/run/zexio -/run/caddy -/run/dbus/system_bus_socket -/run/systemd/private
IPAddressDeny=169.254.0.0/16 fe80::/10";

fn sandbox(unit: &UnitId, sandbox: Sandbox, layout: &Layout) -> String {
    let root = layout.root().display();
    let release = layout.release(&unit.project, unit.release);
    let data = layout.data(&unit.project);
    // Of the agent's directory an app sees only its own release and its own data.
    let view =
        format!("TemporaryFileSystem={root}:ro\nBindReadOnlyPaths={}\nBindPaths={}", release.display(), data.display());
    match sandbox {
        Sandbox::Standard => format!("{STANDARD}\n{view}"),
        Sandbox::Strict => format!("{STANDARD}\n{view}\nMemoryDenyWriteExecute=yes"),
        Sandbox::Off => "UMask=0077".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::desired::EffectiveLimits;
    use crate::model::names::{ProcessName, ProjectId};
    use crate::model::quantity::Bytes;
    use crate::model::spec::{Command, Ready, Source, Stop};

    fn rendered(command: Vec<String>, sandbox: Sandbox) -> String {
        let unit = UnitId {
            project: ProjectId::parse("shop").unwrap(),
            process: ProcessName::parse("web").unwrap(),
            release: ReleaseNo(7),
            instance: None,
        };
        let workload = Workload {
            kind: WorkloadKind::Web,
            run: Some(Command::of_words(command).unwrap()),
            ready: Some(Ready::default_tcp()),
            h2c: false,
            stop: Stop::default(),
            instances: 1,
        };
        let content = Content {
            source: Source::Url { url: "https://a.example.com/x".into(), sha256: None },
            env: Default::default(),
            secrets: Default::default(),
            processes: [(unit.process.clone(), workload.clone())].into(),
            limits: EffectiveLimits { memory: Some(Bytes(512 << 20)), cpu: None, tasks: 256 },
            sandbox,
        };
        text(&unit, &workload, &content, Slot::B, Some(21003), &Layout::parse("/zexio").unwrap())
    }

    #[test]
    fn no_text_of_a_user_reaches_a_unit_file() {
        let hostile =
            ["./x\nUser=root", "a\rUser=root", "%m", "$HOME", ";", "/bin/id", "\\"].map(str::to_owned).to_vec();
        assert_eq!(rendered(hostile, Sandbox::Standard), rendered(vec!["./y".into()], Sandbox::Standard));
        let text = rendered(vec!["./y".into()], Sandbox::Strict);
        assert!(
            !text.contains('%') && !text.contains('\\') && text.bytes().all(|b| b == b'\n' || (32..127).contains(&b))
        );
    }

    #[test]
    fn a_unit_file_says_whose_it_is() {
        let unit = owner(&rendered(vec!["./y".into()], Sandbox::Off)).unwrap();
        assert_eq!(unit.name(), "zexio-shop-web-r7.service");
        assert_eq!(owner("[Unit]\nDescription=another's\n"), None);
        assert_eq!(described("zexio app shop, process web, release 7"), Some(unit.clone()));
        assert_eq!(described("A web server"), None);
        let second = UnitId { instance: Some(2), ..unit };
        assert_eq!(second.name(), "zexio-shop-web-r7-2.service");
        assert_eq!(described(&describe(&second)), Some(second));
    }
}
