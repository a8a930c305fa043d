//! A project's status as the API shows it. The names are the API's own.

use serde::{Deserialize, Serialize};

use super::named::named;
use super::names::{Hostname, ProcessName, ProjectId, ReleaseNo, Slot};
use super::observed::ActiveState;
use super::quantity::{Span, Timestamp};
use super::reason::Reason;
use super::services::Service;

/// A project's status, as last observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub project: ProjectId,
    /// The desired generation.
    pub generation: u64,
    /// The newest generation that became Ready or Stalled.
    pub observed_generation: u64,
    pub observed_at: Timestamp,
    /// `api`, or `file:<name>`.
    pub owner: String,
    pub state: ProjectState,
    pub conditions: Vec<Condition>,
    /// The release with the traffic.
    pub serving: Option<ReleaseNo>,
    /// The release being rolled out.
    pub candidate: Option<ReleaseNo>,
    /// The release that a failed rollout falls back to.
    pub last_good: Option<ReleaseNo>,
    pub rejected: Vec<ReleaseNo>,
    /// Every process that exists.
    pub processes: Vec<ProcessStatus>,
    /// Every wanted route.
    pub routes: Vec<RouteStatus>,
}

impl Status {
    /// Returns the condition of this kind, if any.
    pub fn condition(&self, kind: ConditionKind) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}

named! {
    /// A project's state in one word; part of the API.
    pub enum ProjectState {
        /// The desired release serves.
        Running = "running",
        /// The agent is working towards the desired state.
        Deploying = "deploying",
        /// It ran, and part of it is not running now.
        Down = "down",
        /// systemd did not answer.
        Unknown = "unknown",
        /// Nothing more happens until something is changed.
        Failed = "failed",
        /// The agent only observes.
        Suspended = "suspended",
        Deleting = "deleting",
        /// Not observed by a pass yet, or nothing is wanted.
        Pending = "pending",
    }
}

named! {
    /// A condition's type, named as in Kubernetes.
    pub enum ConditionKind {
        /// The desired release serves.
        Ready = "Ready",
        /// The agent is working towards the desired state.
        Reconciling = "Reconciling",
        /// Nothing more happens until something is changed.
        Stalled = "Stalled",
        /// The agent only observes.
        Suspended = "Suspended",
    }
}

/// A condition's status as Kubernetes writes it.
mod true_or_false {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes a bool as `True` or `False`.
    pub fn serialize<S: Serializer>(holds: &bool, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if *holds { "True" } else { "False" })
    }

    /// Reads `True` or `False`.
    ///
    /// # Errors
    /// The text is neither `True` nor `False`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "True" => Ok(true),
            "False" => Ok(false),
            other => Err(D::Error::custom(format!("a condition's status is True or False, not {other}"))),
        }
    }
}

/// A condition, as in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    /// Whether it holds: `True` or `False` in the API.
    #[serde(rename = "status", with = "true_or_false")]
    pub holds: bool,
    /// Machine-readable.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
    pub since: Timestamp,
}

/// An existing process of a release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    pub name: ProcessName,
    pub release: ReleaseNo,
    pub unit: String,
    pub state: ActiveState,
    pub sub_state: String,
    /// PID of its main process.
    pub pid: Option<u32>,
    /// Web processes only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slot: Option<Slot>,
    /// Web processes only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
    /// Memory of its processes, shared memory counted once, without the page cache. Null if it is not running.
    pub memory_bytes: Option<u64>,
    /// Processor time used; null if the machine does not account for it.
    pub cpu_seconds: Option<f64>,
    /// Number of tasks; null if the machine does not account for them.
    #[serde(default)]
    pub tasks: Option<u64>,
    /// Bytes read from disks; null if the machine does not account for them.
    #[serde(default)]
    pub io_read_bytes: Option<u64>,
    /// Bytes written to disks; null if the machine does not account for them.
    #[serde(default)]
    pub io_write_bytes: Option<u64>,
    /// How often systemd restarted it since its start.
    pub restarts: u32,
    /// When it entered its state.
    pub since: Option<Timestamp>,
    /// How its last run ended; only with a schedule, and not while it runs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_run: Option<LastRun>,
    /// Its latest runs, as far as they were short. The agent counts them for itself.
    #[serde(skip)]
    pub short_runs: ShortRuns,
}

/// Runs of a process in a row that ended soon.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShortRuns {
    pub times: u32,
    pub longest: Span,
    pub last: Option<Ending>,
}

/// How a run of a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// `exited with status 1`
    pub how: String,
    /// Whether it exited with status 0.
    pub success: bool,
    pub out_of_memory: bool,
}

/// How the last run of a process with a schedule ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    pub ended: Timestamp,
    pub success: bool,
    /// How it ended: `exited with status 1`.
    pub result: String,
}

impl ProcessStatus {
    /// Updates its resource use; a figure that could not be read keeps its last value.
    pub fn now_uses(&mut self, used: &Used) {
        self.memory_bytes = used.memory_bytes.or(self.memory_bytes);
        self.cpu_seconds = used.cpu_seconds.or(self.cpu_seconds);
        self.tasks = used.tasks.or(self.tasks);
    }
}

/// The resource use of a unit's processes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Used {
    /// Shared memory is counted once.
    pub memory_bytes: Option<u64>,
    pub cpu_seconds: Option<f64>,
    pub tasks: Option<u64>,
}

/// A wanted route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteStatus {
    pub host: Hostname,
    /// The path, if any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// Where its requests go: an address, or the site of a redirect.
    pub to: String,
    /// Whether visitors reach it: Caddy has it and, as far as it was checked, gets an answer.
    pub live: bool,
    /// Caddy's error, if it has the route but gets no answer from the app.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failing: Option<String>,
    /// `issued`, `pending`, or why there is none; only if the host needs a public one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub certificate: Option<String>,
}

named! {
    /// A service's state in one word; part of the API.
    pub enum ServiceState {
        /// The machine could not be observed.
        Unknown = "unknown",
        Absent = "absent",
        /// The package manager is installing it.
        Installing = "installing",
        /// Installed; it has no daemon.
        Installed = "installed",
        Starting = "starting",
        Running = "running",
        /// The package manager is removing it.
        Removing = "removing",
        /// Not in its desired state after a failed attempt.
        Failed = "failed",
    }
}

/// A service's status, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    pub service: Service,
    /// The observed generation; 0 if the service is not requested.
    pub observed_generation: u64,
    /// The installed version, as the program itself reports it.
    pub installed: Option<String>,
    pub state: ServiceState,
    /// Machine-readable.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
    /// The last log lines of the last failure.
    pub evidence: Vec<String>,
    /// Since when it has its state and reason.
    pub since: Timestamp,
}
