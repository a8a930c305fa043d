//! What a project looks like from outside. These are the API's own names.

use serde::{Deserialize, Serialize};

use super::named::named;
use super::names::{Hostname, ProcessName, ProjectId, ReleaseNo, Slot};
use super::observed::ActiveState;
use super::quantity::Timestamp;
use super::reason::Reason;

/// A project's status, as it was last seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Whose.
    pub project: ProjectId,
    /// The generation that is wanted.
    pub generation: u64,
    /// The newest generation that became Ready or Stalled.
    pub observed_generation: u64,
    /// When it was seen.
    pub observed_at: Timestamp,
    /// `api`, or `file:<name>`.
    pub owner: String,
    /// In one word.
    pub state: ProjectState,
    /// What holds now.
    pub conditions: Vec<Condition>,
    /// The release with the traffic.
    pub serving: Option<ReleaseNo>,
    /// The release on trial.
    pub candidate: Option<ReleaseNo>,
    /// The release that a failed rollout falls back to.
    pub last_good: Option<ReleaseNo>,
    /// The releases that failed.
    pub rejected: Vec<ReleaseNo>,
    /// Every process that is there.
    pub processes: Vec<ProcessStatus>,
    /// Every route that is wanted.
    pub routes: Vec<RouteStatus>,
}

impl Status {
    /// Returns the condition of this kind, if there is one.
    pub fn condition(&self, kind: ConditionKind) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}

named! {
    /// A project's state in one word, a part of the API.
    pub enum ProjectState {
        /// What is wanted serves.
        Running = "running",
        /// The agent works towards what is wanted.
        Deploying = "deploying",
        /// It ran, and something of it does not run now.
        Down = "down",
        /// systemd did not answer.
        Unknown = "unknown",
        /// Nothing more happens until something is changed.
        Failed = "failed",
        /// The agent only watches.
        Suspended = "suspended",
        /// It is being removed.
        Deleting = "deleting",
        /// No pass has looked at it yet, or nothing is wanted.
        Pending = "pending",
    }
}

named! {
    /// What a condition is about, as Kubernetes names it.
    pub enum ConditionKind {
        /// What is wanted serves.
        Ready = "Ready",
        /// The agent works towards what is wanted.
        Reconciling = "Reconciling",
        /// Nothing more happens until something is changed.
        Stalled = "Stalled",
        /// The agent only watches.
        Suspended = "Suspended",
    }
}

/// A condition's status as Kubernetes writes it.
mod true_or_false {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(holds: &bool, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if *holds { "True" } else { "False" })
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "True" => Ok(true),
            "False" => Ok(false),
            other => Err(D::Error::custom(format!("a condition's status is True or False, not {other}"))),
        }
    }
}

/// Something that holds, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    /// Whether it holds: `True` or `False` in the API.
    #[serde(rename = "status", with = "true_or_false")]
    pub holds: bool,
    /// Why; programs may compare it.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// A process of a release that is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Its name.
    pub name: ProcessName,
    /// Of which release.
    pub release: ReleaseNo,
    /// Its systemd unit.
    pub unit: String,
    /// systemd's ActiveState.
    pub state: ActiveState,
    /// systemd's SubState.
    pub sub_state: String,
    /// Its main process.
    pub pid: Option<u32>,
    /// The slot it runs in; web processes only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slot: Option<Slot>,
    /// The port it listens on; web processes only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
    /// Memory that its processes use, what they share counted once; without the files that the kernel keeps for it. Null
    /// where it does not run.
    pub memory_bytes: Option<u64>,
    /// Processor time used; null where the machine does not account it.
    pub cpu_seconds: Option<f64>,
    /// Tasks that are there; null where the machine does not account them.
    #[serde(default)]
    pub tasks: Option<u64>,
    /// Bytes read from disks; null where the machine does not account them.
    #[serde(default)]
    pub io_read_bytes: Option<u64>,
    /// Bytes written to disks; null where the machine does not account them.
    #[serde(default)]
    pub io_write_bytes: Option<u64>,
    /// How often systemd restarted it since it was started.
    pub restarts: u32,
    /// Since when it has its state.
    pub since: Option<Timestamp>,
    /// How its last run ended; only with a schedule, and not while it runs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_run: Option<LastRun>,
}

/// How the last run of a process with a schedule ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// When.
    pub ended: Timestamp,
    /// Whether it succeeded.
    pub success: bool,
    /// How: `exited with status 1`.
    pub result: String,
}

impl ProcessStatus {
    /// Brings what it uses up to now; what could not be read stays as it was seen.
    pub fn now_uses(&mut self, used: &Used) {
        self.memory_bytes = used.memory_bytes.or(self.memory_bytes);
        self.cpu_seconds = used.cpu_seconds.or(self.cpu_seconds);
        self.tasks = used.tasks.or(self.tasks);
    }
}

/// What the processes of a unit use.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Used {
    /// Their memory; what several of them share counts once.
    pub memory_bytes: Option<u64>,
    /// Their processor time.
    pub cpu_seconds: Option<f64>,
    /// Their tasks.
    pub tasks: Option<u64>,
}

/// A route that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// The host.
    pub host: Hostname,
    /// The path, where it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// Where its requests go: an address, or the site of a redirect.
    pub to: String,
    /// Whether visitors reach it: Caddy has it and, as far as was asked, gets an answer.
    pub live: bool,
    /// What Caddy says where it has the route and gets no answer from the app.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failing: Option<String>,
    /// `issued`, `pending`, or why there is none; only where the host is to have a public one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub certificate: Option<String>,
}
