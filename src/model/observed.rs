//! What the machine shows. Everything here is read anew and may be thrown away.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::failure::PortError;
use super::names::{Hostname, ProcessName, ProjectId, ReleaseNo, Sha256, UnitId};
use super::quantity::{Bytes, Timestamp};
use super::services::ServicesSeen;
use super::spec::Tls;

/// A facet of the machine. One that could not be read is not an empty one: no step may depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Facet<T> {
    /// Read.
    Known(T),
    /// Not read, and why.
    Unknown(String),
}

impl<T> Facet<T> {
    /// Returns what was read.
    pub fn known(&self) -> Option<&T> {
        match self {
            Facet::Known(value) => Some(value),
            Facet::Unknown(_) => None,
        }
    }
}

/// Everything that a pass saw.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The machine's clock at the start of the pass.
    pub now: Timestamp,
    /// What belongs to each project that was looked at.
    pub projects: BTreeMap<ProjectId, ObservedProject>,
    /// Caddy.
    pub proxy: Facet<ProxySeen>,
    /// The services of the host.
    pub services: Facet<ServicesSeen>,
    /// The artifacts on the server that are named by their digest, and when each came.
    pub artifacts: Facet<BTreeMap<Sha256, Timestamp>>,
    /// Whether an operator asked, since the last pass, to offer Caddy again what it refused.
    pub offer_again: bool,
}

/// What belongs to one project.
#[derive(Debug, Clone)]
pub struct ObservedProject {
    /// Its units: files, or loaded, or both.
    pub units: Facet<BTreeMap<UnitId, UnitSeen>>,
    /// Its files and its user.
    pub bundles: Facet<BundlesSeen>,
    /// The fetches that run beside the loop, or how they ended.
    pub fetches: BTreeMap<ReleaseNo, FetchSeen>,
    /// What the readiness probes found.
    pub health: BTreeMap<UnitId, Probed>,
    /// Where it listens so that others than this machine may reach it, past Caddy.
    pub open: BTreeSet<OpenPort>,
    /// What Caddy answered to the agent's own requests.
    pub visits: BTreeMap<Visit, Visited>,
}

/// A request to Caddy as a visitor's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Visit {
    /// The project.
    pub project: ProjectId,
    /// The release that has the traffic.
    pub release: ReleaseNo,
    /// The process that is to answer.
    pub process: ProcessName,
    /// The public name.
    pub host: Hostname,
    /// Where the host's certificate comes from.
    pub tls: Tls,
    /// The path.
    pub path: String,
    /// The port of the app; a static site has none.
    pub port: Option<u16>,
    /// Whether the app speaks HTTP/2 without TLS.
    pub h2c: bool,
    /// The run of the app: a new run is asked again.
    pub run: Option<String>,
    /// What the answer decides.
    pub purpose: Purpose,
}

/// What the answer to a visit decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Whether a release keeps the traffic that it just got.
    Verify {
        /// Since when it has the traffic.
        since: Timestamp,
        /// Until when it must have answered well.
        until: Timestamp,
    },
    /// Whether Caddy gets an answer from the app at all.
    Check,
}

/// What a visit found, the last time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visited {
    /// When.
    pub at: Timestamp,
    /// Whether the answer was 2xx or 3xx.
    pub well: bool,
    /// Whether Caddy got no answer from the app, and said so itself.
    pub unanswered: bool,
    /// The finding in a sentence.
    pub last: String,
    /// The newest findings, each with its moment, where it was not the same as before.
    pub transcript: Vec<String>,
}

/// An address on which something listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenPort {
    /// The address, which may stand for all of the machine's: `0.0.0.0` or `::`.
    pub address: String,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for OpenPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { address, port } = self;
        if address.contains(':') { write!(f, "[{address}]:{port}") } else { write!(f, "{address}:{port}") }
    }
}

impl ObservedProject {
    /// Tells whether nothing of the project is left; where a facet is unknown, something may be.
    pub fn is_gone(&self, keep_data: bool) -> bool {
        let no_units = self.units.known().is_some_and(BTreeMap::is_empty);
        no_units && self.bundles.known().is_some_and(|bundles| bundles.is_gone(keep_data))
    }
}

/// One unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitSeen {
    /// The text of its file, where it has one.
    pub text: Option<String>,
    /// Whether its launch blob is there.
    pub credential: bool,
    /// Whether it starts at boot.
    pub enabled: bool,
    /// What systemd says of it.
    pub state: ActiveState,
    /// systemd's finer word: `running`, `auto-restart`, `dead` …
    pub sub_state: String,
    /// Its main process.
    pub pid: Option<u32>,
    /// Its run; a new one at each start.
    pub invocation: Option<String>,
    /// Since when it has its state.
    pub since: Option<Timestamp>,
    /// How often systemd restarted it since it was last started.
    pub restarts: u32,
    /// How its last main process ended.
    pub exit: Option<Exit>,
    /// Memory in use; unknown where the machine does not account it.
    pub memory_bytes: Option<u64>,
    /// Processor time used, in nanoseconds; unknown where the machine does not account it.
    pub cpu_nanos: Option<u64>,
    /// Tasks that are there; unknown where the machine does not account them.
    pub tasks: Option<u64>,
    /// Bytes read from disks; unknown where the machine does not account them.
    pub io_read_bytes: Option<u64>,
    /// Bytes written to disks; unknown where the machine does not account them.
    pub io_write_bytes: Option<u64>,
    /// Its file changed since systemd read it.
    pub needs_reload: bool,
    /// How systemd judges its last run: `success`, `exit-code`, `oom-kill`, `timeout` …
    pub result: String,
    /// It was killed by SIGKILL, and this machine does not say whether the kernel did it for want of memory: cgroups of
    /// version 1 do not.
    pub killed_unexplained: bool,
    /// The timer beside it.
    pub timer: Option<TimerSeen>,
}

/// A timer beside a unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TimerSeen {
    /// The text of its file, where it has one.
    pub text: Option<String>,
    /// Whether it counts.
    pub active: bool,
    /// Whether it starts at boot.
    pub enabled: bool,
}

impl UnitSeen {
    /// Tells whether its command ran to its end and is remembered as done.
    pub fn is_done(&self) -> bool {
        self.state == ActiveState::Active && self.sub_state == "exited"
    }

    /// Tells whether the kernel killed it for want of memory.
    pub fn is_out_of_memory(&self) -> bool {
        self.result == "oom-kill"
    }

    /// Says how its last main process ended, where systemd still knows. `limit`: of its memory.
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

    /// Tells whether its timer counts.
    pub fn is_timed(&self) -> bool {
        self.timer.as_ref().is_some_and(|timer| timer.active)
    }

    /// Tells whether a process of it may be alive.
    pub fn is_up(&self) -> bool {
        !matches!(self.state, ActiveState::Inactive | ActiveState::Failed)
    }
}

/// systemd's ActiveState.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActiveState {
    /// Up.
    Active,
    /// Reading its configuration again.
    Reloading,
    /// Down.
    #[default]
    Inactive,
    /// Down, and not on purpose.
    Failed,
    /// Coming up, or waiting for its next try.
    Activating,
    /// Going down.
    Deactivating,
}

/// How a main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    /// With this status.
    Status(i32),
    /// By this signal.
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

/// Processes of a unit that systemd killed, since they were still there when the time of their stop was over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForcedStop {
    /// The unit.
    pub unit: UnitId,
    /// The processes, in the order in which they were killed.
    pub killed: Vec<Killed>,
}

/// A process that was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Killed {
    /// Its process id.
    pub pid: u32,
    /// The name of its program.
    pub program: String,
}

/// A project's files and its user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BundlesSeen {
    /// The releases on disk and what they were made from.
    pub releases: BTreeMap<ReleaseNo, Sha256>,
    /// Where the bundle link points.
    pub link: Option<ReleaseNo>,
    /// The markers that exist.
    pub markers: BTreeSet<ProcessName>,
    /// Whether the system user exists.
    pub user: bool,
    /// Whether the project's directory exists, apart from its data.
    pub directory: bool,
    /// Whether Caddy may pass through the directory, to a static site.
    pub open: bool,
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

/// A fetch beside the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchSeen {
    /// It runs.
    Running {
        /// Bytes so far.
        bytes: u64,
        /// Of how many, where the server says.
        of: Option<u64>,
        /// Whether the bytes are all there and the archive is being unpacked.
        unpacking: bool,
    },
    /// It failed.
    Failed {
        /// When.
        at: Timestamp,
        /// Why.
        error: PortError,
    },
}

/// What the probes of one run of a unit found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The run.
    pub invocation: Option<String>,
    /// When it was probed last.
    pub at: Timestamp,
    /// Since when every probe succeeded; none: the last one failed.
    pub ok_since: Option<Timestamp>,
    /// How many there were.
    pub tries: u32,
    /// The last findings that differed, oldest first, each with the moment it was first made.
    pub transcript: Vec<String>,
    /// What the last probe found.
    pub last: String,
}

/// Caddy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxySeen {
    /// Whether its admin socket answers.
    pub up: bool,
    /// Whether systemd runs it.
    pub runs: bool,
    /// The text of our own Caddyfile.
    pub text: Option<String>,
    /// Whether it serves our hosts as that text says, whatever else it serves.
    pub live: bool,
    /// Why no routes can be loaded: the operator's Caddyfile does not import ours.
    pub apart: Option<String>,
    /// A digest of what surrounds our sites; read only while Caddy refuses one of them.
    pub surroundings: Option<String>,
    /// The certificates of the hosts that are to have a public one.
    pub certificates: BTreeMap<Hostname, CertificateSeen>,
}

/// A host's public certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSeen {
    /// Caddy has it.
    Issued,
    /// Caddy does not have it yet; why not, where its log says so.
    Missing(Option<String>),
}
