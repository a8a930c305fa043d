//! The machine's observed state. Read again in each pass; safe to discard.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::failure::PortError;
use super::names::{Hostname, ProcessName, ProjectId, ReleaseNo, Sha256, UnitId};
use super::quantity::{Bytes, Timestamp};
use super::services::Service;
use super::spec::Tls;

/// One facet of the machine. Unreadable is not empty: no step may depend on an unknown facet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Facet<T> {
    Known(T),
    /// Could not be read, and why.
    Unknown(String),
}

impl<T> Facet<T> {
    /// Returns the value, if known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Facet::Known(value) => Some(value),
            Facet::Unknown(_) => None,
        }
    }
}

/// Everything that a pass observed.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The machine's clock at the start of the pass.
    pub now: Timestamp,
    /// The projects that this pass observed.
    pub projects: BTreeMap<ProjectId, ObservedProject>,
    pub proxy: Facet<ProxySeen>,
    pub services: Facet<ServicesSeen>,
    /// The artifacts stored under their digest, and when each arrived.
    pub artifacts: Facet<BTreeMap<Sha256, Timestamp>>,
    /// Whether an operator asked, since the last pass, to retry what Caddy refused.
    pub retry_refused_routes: bool,
    /// The TCP ports on which any program listens.
    pub ports_in_use: BTreeSet<u16>,
}

/// The observed state of one project.
#[derive(Debug, Clone)]
pub struct ObservedProject {
    /// Units that have a file, are loaded, or both.
    pub units: Facet<BTreeMap<UnitId, UnitSeen>>,
    /// Files and system user.
    pub bundles: Facet<BundlesSeen>,
    /// Fetches in the background, or how they ended.
    pub fetches: BTreeMap<ReleaseNo, FetchSeen>,
    /// Results of the readiness probes.
    pub health: BTreeMap<UnitId, Probed>,
    /// Ports on which other machines can reach it, bypassing Caddy.
    pub open_ports: BTreeSet<OpenPort>,
    /// Caddy's answers to the agent's own requests.
    pub visits: BTreeMap<Visit, Visited>,
    /// How many times longer than on an idle machine its processes take: so many wait for each processor. At least 1.
    pub slowdown: u32,
}

/// A request to Caddy like a visitor's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Visit {
    pub project: ProjectId,
    /// The release that has the traffic.
    pub release: ReleaseNo,
    /// The process that should answer.
    pub process: ProcessName,
    pub host: Hostname,
    pub tls: Tls,
    pub path: String,
    /// The app's port; None for a static site.
    pub port: Option<u16>,
    /// Whether the app speaks HTTP/2 without TLS.
    pub h2c: bool,
    /// The invocation id of the app's unit: a new run is requested again.
    pub run: Option<String>,
    pub purpose: Purpose,
}

/// What the answer to a visit decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Whether a release keeps the traffic that it just got.
    Verify {
        /// When it got the traffic.
        since: Timestamp,
        /// The deadline for a good answer.
        until: Timestamp,
    },
    /// Whether Caddy gets any answer from the app.
    Check,
}

/// The latest result of a visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visited {
    pub at: Timestamp,
    /// Whether the answer was 2xx or 3xx.
    pub well: bool,
    /// Whether Caddy itself reported that the app did not answer.
    pub unanswered: bool,
    /// The result in a sentence.
    pub last: String,
    /// The newest results, each with its time; repeats are left out.
    pub transcript: Vec<String>,
}

/// An address and port on which something listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenPort {
    /// The address; `0.0.0.0` or `::` for all of the machine's.
    pub address: String,
    pub port: u16,
}

impl std::fmt::Display for OpenPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { address, port } = self;
        if address.contains(':') { write!(f, "[{address}]:{port}") } else { write!(f, "{address}:{port}") }
    }
}

/// A program that listens on a TCP port of this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortHolder {
    pub port: u16,
    /// `process 812 (node)`
    pub program: String,
    /// The systemd unit that it belongs to.
    pub unit: Option<String>,
}

impl ObservedProject {
    /// Returns whether nothing of the project is left; an unknown facet counts as something left.
    pub fn is_gone(&self, keep_data: bool) -> bool {
        let no_units = self.units.known().is_some_and(BTreeMap::is_empty);
        no_units && self.bundles.known().is_some_and(|bundles| bundles.is_gone(keep_data))
    }
}

/// The observed state of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitSeen {
    /// The text of its file, if any.
    pub text: Option<String>,
    /// Whether its launch blob exists.
    pub launch_blob: bool,
    pub enabled: bool,
    pub state: ActiveState,
    /// systemd's SubState: `running`, `auto-restart`, `dead` …
    pub sub_state: String,
    /// PID of its main process.
    pub pid: Option<u32>,
    /// systemd's invocation id; new at each start.
    pub invocation: Option<String>,
    /// When it entered its state.
    pub since: Option<Timestamp>,
    /// How often systemd restarted it since its last start.
    pub restarts: u32,
    /// How its last main process ended.
    pub exit: Option<Exit>,
    /// Memory in use; None if the machine does not account for it.
    pub memory_bytes: Option<u64>,
    /// Processor time used, in nanoseconds; None if the machine does not account for it.
    pub cpu_nanos: Option<u64>,
    /// Number of tasks; None if the machine does not account for them.
    pub tasks: Option<u64>,
    /// Bytes read from disks; None if the machine does not account for them.
    pub io_read_bytes: Option<u64>,
    /// Bytes written to disks; None if the machine does not account for them.
    pub io_write_bytes: Option<u64>,
    /// Whether its file changed since systemd read it.
    pub needs_reload: bool,
    /// systemd's verdict on its last run: `success`, `exit-code`, `oom-kill`, `timeout` …
    pub result: String,
    /// Whether it was killed by SIGKILL on a machine that does not say whether the kernel did it for lack of memory:
    /// cgroups v1 do not.
    pub killed_unexplained: bool,
    pub timer: Option<TimerSeen>,
}

/// The timer of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TimerSeen {
    /// The text of its file, if any.
    pub text: Option<String>,
    pub active: bool,
    pub enabled: bool,
}

impl UnitSeen {
    /// Returns whether its command ran to its end and systemd keeps the unit active as done.
    pub fn is_done(&self) -> bool {
        self.state == ActiveState::Active && self.sub_state == "exited"
    }

    /// Returns whether the kernel killed it for lack of memory.
    pub fn is_out_of_memory(&self) -> bool {
        self.result == "oom-kill"
    }

    /// Describes how its last main process ended, if systemd still knows. `limit` is its memory limit.
    pub fn ending(&self, limit: Option<Bytes>) -> Option<String> {
        match (self.exit, limit) {
            (_, Some(limit)) if self.is_out_of_memory() => {
                Some(format!("was killed for want of memory (its limits.memory is {limit})"))
            }
            (_, None) if self.is_out_of_memory() => {
                Some("was killed for want of memory (it has no limits.memory: the server had none left)".to_owned())
            }
            (Some(exit), Some(limit)) if self.killed_unexplained => Some(format!(
                "{exit}, perhaps for want of memory (its limits.memory is {limit}; cgroups of version 1 do not say)"
            )),
            (exit, _) => exit.map(|exit| exit.to_string()),
        }
    }

    /// Returns whether its timer is active.
    pub fn is_timed(&self) -> bool {
        self.timer.as_ref().is_some_and(|timer| timer.active)
    }

    /// Returns whether one of its processes may be alive.
    pub fn is_up(&self) -> bool {
        !matches!(self.state, ActiveState::Inactive | ActiveState::Failed)
    }
}

/// The observed state of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceSeen {
    /// The installed majors; only PostgreSQL can have more than one.
    pub installed: BTreeMap<u32, Installation>,
    /// Whether its data exists on disk.
    pub data: bool,
    /// Its package job, while that runs or has failed.
    pub job: Option<PackageJobSeen>,
}

/// The observed state of all services.
pub type ServicesSeen = BTreeMap<Service, ServiceSeen>;

impl ServiceSeen {
    /// Returns whether a package job runs for it.
    pub fn has_running_job(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.running)
    }
}

/// One installed major of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The version as the program itself reports it.
    pub version: String,
    /// Whether the package manager finished: not just unpacked, not half configured.
    pub fully_installed: bool,
    /// None if the service has no daemon.
    pub daemon: Option<DaemonSeen>,
}

/// A service's daemon, run by systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonSeen {
    pub unit: String,
    pub state: ActiveState,
    pub enabled: bool,
}

impl DaemonSeen {
    /// Returns whether it is active: a reload counts, a start does not yet.
    pub fn runs(&self) -> bool {
        matches!(self.state, ActiveState::Active | ActiveState::Reloading)
    }
}

/// A job of the package manager, in a unit of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageJobSeen {
    pub running: bool,
    /// The last message that the job gave systemd (`STATUS=`).
    pub status_text: String,
    pub exit: Option<Exit>,
    /// systemd's invocation id, which differs in each run.
    pub invocation: String,
    /// Its last log lines, if it failed.
    pub log: Vec<String>,
}

/// systemd's ActiveState.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActiveState {
    Active,
    Reloading,
    #[default]
    Inactive,
    Failed,
    /// Starting, or waiting for its next restart.
    Activating,
    Deactivating,
}

/// How a main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    Status(i32),
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Status(status) => write!(f, "exited with status {status}"),
            Exit::Signal(signal) => write!(f, "was killed by signal {signal}"),
        }
    }
}

/// Processes of a unit that systemd killed because they outlived its stop timeout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForcedStop {
    pub unit: UnitId,
    /// In the order in which they were killed.
    pub killed: Vec<Killed>,
}

/// A killed process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Killed {
    pub pid: u32,
    pub program: String,
}

/// A project's files and system user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BundlesSeen {
    /// The releases on disk, each with the digest it was made from.
    pub releases: BTreeMap<ReleaseNo, Sha256>,
    /// The release that the bundle link points to.
    pub link: Option<ReleaseNo>,
    /// The processes whose marker exists.
    pub markers: BTreeSet<ProcessName>,
    /// Whether the system user exists.
    pub user: bool,
    /// Whether the project's directory exists, apart from its data.
    pub directory: bool,
    /// Whether Caddy may traverse the directory to serve a static site.
    pub readable_by_caddy: bool,
    /// Whether the data directory exists.
    pub data: bool,
    /// Whether the directory of its markers exists.
    pub fronts: bool,
}

impl BundlesSeen {
    fn is_gone(&self, keep_data: bool) -> bool {
        let rest = !self.directory && !self.fronts;
        rest && (keep_data || !self.user && !self.data)
    }
}

/// A background fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchSeen {
    Running {
        /// Bytes received so far.
        bytes: u64,
        /// Total size, if the server sent it.
        of: Option<u64>,
        /// Whether all bytes are there and the archive is being unpacked.
        unpacking: bool,
    },
    Failed {
        at: Timestamp,
        error: PortError,
    },
}

/// Probe results for one run of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// systemd's invocation id of the run.
    pub invocation: Option<String>,
    /// Time of the last probe.
    pub at: Timestamp,
    /// Since when every probe succeeded; None if the last one failed.
    pub ok_since: Option<Timestamp>,
    /// Number of probes.
    pub tries: u32,
    /// The last results that differed, oldest first, each with the time it first occurred.
    pub transcript: Vec<String>,
    /// The last probe's result.
    pub last: String,
}

/// The observed state of Caddy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxySeen {
    /// Whether its admin socket answers.
    pub up: bool,
    /// Whether systemd runs it.
    pub runs: bool,
    /// The text of our Caddyfile.
    pub text: Option<String>,
    /// Whether it serves our hosts as our Caddyfile says, whatever else it serves.
    pub live: bool,
    /// Why no routes can be loaded: the operator's Caddyfile does not import ours.
    pub apart: Option<String>,
    /// A digest of the configuration around our sites; read only while Caddy refuses one of them.
    pub surroundings: Option<String>,
    /// Certificates of the hosts that need a public one.
    pub certificates: BTreeMap<Hostname, CertificateSeen>,
}

/// A host's public certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSeen {
    Issued,
    /// Not there yet; the reason, if Caddy's log has one.
    Missing(Option<String>),
}
