//! The desired state: what the operator asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::names::{EnvName, ProcessName, ProjectId, SecretName};
use super::quantity::{Bytes, CpuShare, Span, Timestamp};
use super::reason::Reason;
use super::services::{Service, Version};
use super::spec::is_false;
use super::spec::{
    Calendar, Command, Limits, Process, Ready, ReleaseCommand, Sandbox, Sealed, SiteDirectory, Source, Spec, Stop,
};

/// The desired state of everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired(pub BTreeMap<ProjectId, DesiredProject>);

/// The desired state of one project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredProject {
    /// Grows with every change.
    pub generation: u64,
    pub intent: Intent,
    /// Who may change it.
    pub owner: Owner,
    /// The stored secrets and their newest versions.
    pub secrets: BTreeMap<SecretName, u32>,
    /// Why the last request could not be accepted.
    pub refusal: Option<Refusal>,
    /// A suspension by an operator, whatever the spec says.
    pub suspension: Option<OperatorSuspension>,
    /// Whether a webhook moved the artifact; its event may arrive before the bytes do.
    pub artifact_from_webhook: bool,
}

/// A suspension of a project, whatever its owner, until it is resumed or its time is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorSuspension {
    /// Who asked for it.
    pub by: String,
    pub since: Timestamp,
    pub reason: Option<String>,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

impl OperatorSuspension {
    /// Describes it in a sentence.
    pub fn message(&self) -> String {
        paused(&format!(", by {}", self.by), self.reason.as_deref(), self.until)
    }

    /// Returns whether it has not ended.
    pub fn lasts_at(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// What suspends a project now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveSuspension {
    /// Until when, by whom and why, in a sentence.
    pub message: String,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

fn paused(by: &str, reason: Option<&str>, until: Option<Timestamp>) -> String {
    let until = until.map_or("until it is resumed".into(), |until| format!("until {until}"));
    format!("nothing is changed {until}{by}: {}", reason.unwrap_or("no reason given"))
}

/// What a project should become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// Run this spec. Shared because it is large, has many readers and never changes.
    Run(Arc<Spec>),
    Delete {
        /// Whether the app's data stays.
        keep_data: bool,
    },
    /// Nothing yet: its first file could not be read.
    Nothing,
    /// The stored record could not be read. The sentence says what, why, and what to do.
    Unreadable(String),
}

impl DesiredProject {
    /// Returns the spec, if one is wanted.
    pub fn spec(&self) -> Option<&Spec> {
        match &self.intent {
            Intent::Run(spec) => Some(spec),
            Intent::Delete { .. } | Intent::Nothing | Intent::Unreadable(_) => None,
        }
    }

    /// Returns the operator's suspension, if it has not ended. It also halts a removal.
    pub fn operator_suspension_at(&self, now: Timestamp) -> Option<&OperatorSuspension> {
        self.suspension.as_ref().filter(|suspension| suspension.lasts_at(now))
    }

    /// Returns what suspends the project now: an operator's suspension or the spec's own.
    pub fn suspension_at(&self, now: Timestamp) -> Option<ActiveSuspension> {
        if let Some(suspension) = self.operator_suspension_at(now) {
            return Some(ActiveSuspension { message: suspension.message(), until: suspension.until });
        }
        let suspension = self.spec()?.suspend.at(now)?;
        let message = paused(", by its spec", suspension.reason.as_deref(), suspension.until);
        Some(ActiveSuspension { message, until: suspension.until })
    }
}

/// Who may change a project's spec.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// Any caller of the API.
    Api,
    /// A file in the watched directory, by name.
    File(String),
}

impl Owner {
    /// Reads `api` or `file:<name>`.
    pub fn parse(raw: &str) -> Self {
        raw.strip_prefix("file:").map_or(Owner::Api, |name| Owner::File(name.to_owned()))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Api => f.write_str("api"),
            Owner::File(name) => write!(f, "file:{name}"),
        }
    }
}

/// Why a request could not be accepted. The previous desired state stays in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    #[serde(flatten)]
    pub kind: RefusalKind,
    /// One paragraph for the operator.
    pub message: String,
}

/// The kind of a refusal. Stored by the name that users see as the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason")]
pub enum RefusalKind {
    /// A file or spec cannot be read.
    SpecInvalid,
    /// Another file claims the project too. That is shown and blocks nothing.
    Conflict,
    /// A removal that followed from a missing file is held back.
    PruneRefused {
        /// What ends it. Refusals of earlier versions do not say, and wait for the operator.
        #[serde(default)]
        until: HeldUntil,
    },
}

/// What ends the holding back of a removal, besides the file's return.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldUntil {
    /// The operator confirms the removal.
    #[default]
    Confirmed,
    /// Another file, which may be the missing one under a new name, can be read.
    FileReadable,
}

impl RefusalKind {
    /// Returns the reason that users see.
    pub fn reason(self) -> Reason {
        match self {
            Self::SpecInvalid => Reason::SpecInvalid,
            Self::Conflict => Reason::Conflict,
            Self::PruneRefused { .. } => Reason::PruneRefused,
        }
    }
}

impl Refusal {
    /// Returns whether another file claims the project too; that is reported and blocks nothing.
    pub fn is_of_another_file(&self) -> bool {
        self.kind == RefusalKind::Conflict
    }

    /// Returns whether it holds a removal back, so that the operator can confirm it.
    pub fn holds_a_removal(&self) -> bool {
        matches!(self.kind, RefusalKind::PruneRefused { .. })
    }
}

/// The desired state of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredService {
    /// Grows with every change.
    pub generation: u64,
    pub intent: ServiceIntent,
    /// Who may change it.
    pub owner: Owner,
    /// Why the last request could not be accepted.
    pub refusal: Option<Refusal>,
}

/// What should become of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceIntent {
    /// Installed, and running if it is a daemon.
    Install(Version),
    Remove {
        /// Whether its data is deleted too.
        purge: bool,
    },
    /// The stored request or its progress could not be read: nothing is done, and the record is kept.
    Unreadable,
}

/// The desired state of all services.
pub type DesiredServices = BTreeMap<Service, DesiredService>;

/// What a release is made of. Two specs with equal content run the same release; routes are not part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    pub source: Source,
    /// Variables, by the version of their value.
    pub env: BTreeMap<EnvName, Sealed>,
    /// Variables that are secrets, by the version of their value.
    pub secrets: BTreeMap<EnvName, SecretVersion>,
    pub processes: BTreeMap<ProcessName, Workload>,
    pub limits: EffectiveLimits,
    pub sandbox: Sandbox,
}

/// One version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretVersion {
    /// The stored secret.
    pub name: SecretName,
    pub version: u32,
}

/// A process, a schedule, a site or a command as a release runs it, without its routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    pub kind: WorkloadKind,
    /// None for a static site.
    pub run: Option<Command>,
    /// None: ready as soon as it stays up.
    pub ready: Option<Ready>,
    /// Whether it speaks HTTP/2 without TLS.
    #[serde(default, skip_serializing_if = "is_false")]
    pub h2c: bool,
    pub stop: Stop,
    pub instances: u32,
}

/// The kind of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkloadKind {
    /// Listens on ports of its own.
    Web,
    /// Runs all the time and has no port of ours.
    Worker,
    /// Runs on a calendar.
    Scheduled(Calendar),
    /// A directory that Caddy serves.
    Site {
        directory: SiteDirectory,
        /// Whether unknown paths get its index.
        spa: bool,
        /// Whether `/about` finds about.html.
        #[serde(default, skip_serializing_if = "is_false")]
        clean_urls: bool,
    },
    /// Runs once, before the release gets traffic, for at most this long.
    Release(Span),
}

impl Workload {
    fn of(process: &Process) -> Self {
        let web = process.is_web();
        let kind = match (&process.schedule, &process.static_site) {
            (Some(calendar), _) => WorkloadKind::Scheduled(calendar.clone()),
            (None, Some(directory)) => {
                WorkloadKind::Site { directory: directory.clone(), spa: process.spa, clean_urls: process.clean_urls }
            }
            (None, None) if web => WorkloadKind::Web,
            (None, None) => WorkloadKind::Worker,
        };
        let ready = process.ready.clone().or_else(|| web.then(Ready::default_tcp));
        Self {
            kind,
            run: process.run.clone(),
            ready,
            h2c: process.h2c,
            stop: process.stop.clone(),
            instances: process.instances.count(),
        }
    }

    fn of_release(command: &ReleaseCommand) -> Self {
        let kind = WorkloadKind::Release(command.timeout);
        Self { kind, run: Some(command.run.clone()), ready: None, h2c: false, stop: Stop::default(), instances: 1 }
    }

    /// Returns whether it runs all the time.
    pub fn is_daemon(&self) -> bool {
        matches!(self.kind, WorkloadKind::Web | WorkloadKind::Worker)
    }
}

/// The name under which the release command runs beside the processes; no process can have it.
pub const RELEASE_COMMAND: &str = "release";

fn workloads(spec: &Spec) -> BTreeMap<ProcessName, Workload> {
    let processes = spec.processes.iter().map(|(name, process)| (name.clone(), Workload::of(process)));
    let name = ProcessName::parse(RELEASE_COMMAND).ok();
    let command = name.zip(spec.release.as_ref()).map(|(name, command)| (name, Workload::of_release(command)));
    processes.chain(command).collect()
}

/// What each process may use, with all defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveLimits {
    pub memory: Option<Bytes>,
    pub cpu: Option<CpuShare>,
    /// Threads and processes.
    pub tasks: u32,
}

impl From<&Limits> for EffectiveLimits {
    fn from(limits: &Limits) -> Self {
        Self { memory: limits.memory, cpu: limits.cpu, tasks: limits.tasks }
    }
}

impl Content {
    /// Returns the content of a spec's release.
    ///
    /// # Errors
    /// Some of its secrets are not stored; their names.
    pub fn of(spec: &Spec, source: Source, stored: &BTreeMap<SecretName, u32>) -> Result<Self, Vec<SecretName>> {
        let missing: Vec<SecretName> =
            spec.secrets.iter().filter(|used| !stored.contains_key(&used.name)).map(|used| used.name.clone()).collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let versions = spec.secrets.iter().filter_map(|used| {
            let version = *stored.get(&used.name)?;
            Some((used.variable.clone(), SecretVersion { name: used.name.clone(), version }))
        });
        Ok(Self {
            source,
            env: spec.env.clone(),
            secrets: versions.collect(),
            processes: workloads(spec),
            limits: EffectiveLimits::from(&spec.limits),
            sandbox: spec.sandbox,
        })
    }

    /// Returns whether both make the same release.
    pub fn same_as(&self, other: &Self) -> bool {
        let Self { source, env, secrets, processes, limits, sandbox } = other;
        self.source.same_as(source)
            && (&self.env, &self.secrets, &self.processes) == (env, secrets, processes)
            && (&self.limits, self.sandbox) == (limits, *sandbox)
    }

    /// Returns the names of the processes that have ports.
    pub fn web(&self) -> impl Iterator<Item = &ProcessName> {
        self.processes.iter().filter(|(_, workload)| workload.kind == WorkloadKind::Web).map(|(name, _)| name)
    }

    /// Returns the directories that Caddy serves.
    pub fn sites(&self) -> impl Iterator<Item = &SiteDirectory> {
        self.processes.values().filter_map(|workload| match &workload.kind {
            WorkloadKind::Site { directory, .. } => Some(directory),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_stored_by_its_reason_and_an_older_one_waits_for_the_operator() {
        let old = r#"{"reason":"PruneRefused","message":"one.yaml is gone"}"#;
        let read: Refusal = serde_json::from_str(old).unwrap();
        assert_eq!(read.kind, RefusalKind::PruneRefused { until: HeldUntil::Confirmed });
        for until in [HeldUntil::Confirmed, HeldUntil::FileReadable] {
            let held = Refusal { kind: RefusalKind::PruneRefused { until }, message: "m".into() };
            let text = serde_json::to_string(&held).unwrap();
            assert!(text.contains(r#""reason":"PruneRefused""#), "{text}");
            assert_eq!(serde_json::from_str::<Refusal>(&text).unwrap(), held);
        }
        let conflict: Refusal = serde_json::from_str(r#"{"reason":"Conflict","message":"m"}"#).unwrap();
        assert_eq!(conflict.kind.reason(), Reason::Conflict);
    }
}
