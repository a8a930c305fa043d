//! The steps: what the loop can do to the machine, by subject, and the facts about each step.

use std::fmt;

use crate::model::expected::Expected;
use crate::model::names::{ProcessName, ProjectId, ReleaseNo, Sha256, Slot, UnitId};
use crate::model::reason::Reason;
use crate::model::services::Service;
use crate::model::spec::Source;
use crate::render::caddyfile::Site;
use crate::render::launch::Launch;

use super::services::Task;

/// One action, and why it is planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub action: Action,
    pub reason: StepReason,
}

/// What the loop can do to the machine, by subject. Executing a step involves no decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Project(ProjectId, ProjectAction),
    /// On Caddy, for all projects.
    Proxy(ProxyAction),
    Service(Service, ServiceAction),
    RemoveArtifact(Sha256),
}

/// What the loop can do to a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProjectAction {
    /// Create the project's user and directories.
    Prepare {
        /// Whether Caddy may read them, for a static site.
        readable_by_caddy: bool,
    },
    /// Fetch a release's artifact and unpack it, in the background.
    Fetch(Box<FetchOrder>),
    /// Cancel a fetch that is no longer needed.
    CancelFetch(ReleaseNo),
    /// Write a unit's launch blob and file, and its timer's.
    WriteUnit(Box<UnitOrder>),
    /// Let systemd read its files again.
    ReloadSystemd,
    /// Start a unit, after checking that systemd read what was written.
    Start(UnitId),
    /// Let a unit start at boot.
    Enable(UnitId),
    /// Arm a unit's timer, now and after a boot.
    ArmTimer(UnitId),
    /// Disarm a unit's timer; what it started finishes.
    DisarmTimer(UnitId),
    /// Switch a web process's traffic to a slot.
    SwitchTraffic(ProcessName, Slot),
    /// Point the bundle link at a release.
    Link(ReleaseNo),
    Stop(UnitId),
    /// Remove a stopped unit's file and launch blob.
    RemoveUnit(UnitId),
    RemoveRelease(ReleaseNo),
    /// Remove the marker of a removed process.
    RemoveMarker(ProcessName),
    /// Remove the project's directories and user.
    RemoveFiles {
        /// Keep the app's data and its user.
        keep_data: bool,
    },
    /// Delete the project's record and progress, once nothing else of it is left.
    DeleteRecord,
}

/// What the loop can do to Caddy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyAction {
    /// Load these routes, and write them so that Caddy has them after a restart.
    LoadRoutes(Box<RoutesOrder>),
    Start,
}

/// What the loop can do to a host service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceAction {
    /// Run the package manager, in a process outside the loop and the agent.
    Packages(Task),
    /// Start its daemon's unit.
    Start(String),
    /// Let its daemon start at boot.
    Enable,
    /// Delete its record.
    DeleteRecord,
}

/// What a step changes. A step that fails halts the later ones of the same subject, and no others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Proxy,
    /// The artifacts on the server.
    Artifacts,
    Service(Service),
    Project(ProjectId),
}

/// When to observe a step's effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FollowUp {
    /// In the next pass, at once.
    AtOnce,
    /// A little later: systemd does it in the background, and reports when it is done.
    Soon,
}

/// What is known of a step before it is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its kind, for the metrics.
    pub kind: &'static str,
    /// Whether it adds (`+`), changes (`~`) or removes (`-`): its marker in a displayed plan.
    pub sign: char,
    /// The release that it concerns.
    pub release: Option<ReleaseNo>,
    /// When to observe its effect.
    pub follow_up: FollowUp,
    /// What it does, in words.
    pub text: String,
}

/// Makes a row of the tables below. No column has a default, so that a new step must fill each.
fn row(
    kind: &'static str,
    sign: char,
    release: Option<ReleaseNo>,
    follow_up: FollowUp,
    text: impl Into<String>,
) -> Facts {
    Facts { kind, sign, release, follow_up, text: text.into() }
}

impl Action {
    /// Returns what the step changes.
    pub fn subject(&self) -> Subject {
        match self {
            Self::Project(project, _) => Subject::Project(project.clone()),
            Self::Proxy(_) => Subject::Proxy,
            Self::Service(service, _) => Subject::Service(*service),
            Self::RemoveArtifact(_) => Subject::Artifacts,
        }
    }

    /// Returns the project that the step changes; none if it is for all projects, or for the host.
    pub fn project(&self) -> Option<&ProjectId> {
        match self {
            Self::Project(project, _) => Some(project),
            Self::Proxy(_) | Self::Service(..) | Self::RemoveArtifact(_) => None,
        }
    }

    /// Returns the facts about the step.
    pub fn facts(&self) -> Facts {
        match self {
            Self::Project(_, action) => action.facts(),
            Self::Proxy(action) => action.facts(),
            Self::Service(service, action) => action.facts(*service),
            Self::RemoveArtifact(sha256) => {
                row("remove_artifact", '-', None, FollowUp::AtOnce, format!("remove artifact {sha256}"))
            }
        }
    }
}

impl ProjectAction {
    fn facts(&self) -> Facts {
        use FollowUp::{AtOnce, Soon};
        match self {
            Self::Prepare { .. } => row("prepare", '+', None, AtOnce, "make user and directories"),
            Self::Fetch(order) => {
                row("fetch", '+', Some(order.release), AtOnce, format!("fetch release {}", order.release))
            }
            Self::CancelFetch(release) => {
                row("cancel_fetch", '-', Some(*release), AtOnce, format!("end the fetch of release {release}"))
            }
            Self::WriteUnit(order) => {
                row("write_unit", '+', Some(order.unit.release), AtOnce, format!("write {}", order.unit))
            }
            Self::ReloadSystemd => row("reload_systemd", '~', None, AtOnce, "reload systemd"),
            Self::Start(unit) => row("start", '+', Some(unit.release), Soon, format!("start {unit}")),
            Self::Enable(unit) => row("enable", '~', Some(unit.release), AtOnce, format!("enable {unit}")),
            Self::ArmTimer(unit) => row("arm_timer", '+', Some(unit.release), AtOnce, format!("arm {}", unit.timer())),
            Self::DisarmTimer(unit) => {
                row("disarm_timer", '-', Some(unit.release), AtOnce, format!("disarm {}", unit.timer()))
            }
            Self::SwitchTraffic(process, slot) => {
                row("point", '~', None, AtOnce, format!("move traffic of {process} to slot {slot}"))
            }
            Self::Link(release) => {
                row("link", '~', Some(*release), AtOnce, format!("link bundle to release {release}"))
            }
            Self::Stop(unit) => row("stop", '-', Some(unit.release), Soon, format!("stop {unit}")),
            Self::RemoveUnit(unit) => row("remove_unit", '-', Some(unit.release), AtOnce, format!("remove {unit}")),
            Self::RemoveRelease(release) => {
                row("remove_release", '-', Some(*release), AtOnce, format!("remove release {release}"))
            }
            Self::RemoveMarker(process) => {
                row("remove_marker", '-', None, AtOnce, format!("remove the marker of {process}"))
            }
            Self::RemoveFiles { keep_data: true } => {
                row("remove_files", '-', None, AtOnce, "remove files and keep data")
            }
            Self::RemoveFiles { keep_data: false } => {
                row("remove_files", '-', None, AtOnce, "remove files, data and user")
            }
            Self::DeleteRecord => row("forget", '-', None, AtOnce, "forget the project"),
        }
    }
}

impl ProxyAction {
    fn facts(&self) -> Facts {
        match self {
            Self::LoadRoutes(_) => row("load_routes", '~', None, FollowUp::AtOnce, "load routes into Caddy"),
            Self::Start => row("start_proxy", '+', None, FollowUp::Soon, "start Caddy"),
        }
    }
}

impl ServiceAction {
    fn facts(&self, service: Service) -> Facts {
        use FollowUp::{AtOnce, Soon};
        match self {
            Self::Packages(task @ Task::Install(_)) => row("packages", '+', None, Soon, task.text(service)),
            Self::Packages(task @ Task::Remove { .. }) => row("packages", '-', None, Soon, task.text(service)),
            Self::Start(unit) => row("start_service", '+', None, Soon, format!("start {unit}")),
            Self::Enable => row("enable_service", '~', None, AtOnce, format!("enable {service}")),
            Self::DeleteRecord => row("forget_service", '-', None, AtOnce, format!("forget service {service}")),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.facts().text)
    }
}

/// Routes to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutesOrder {
    /// The Caddyfile.
    pub text: String,
    /// The sites that Caddy must serve after the load.
    pub sites: Vec<Site>,
}

/// A release to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOrder {
    pub release: ReleaseNo,
    pub source: Source,
    /// The artifact's digest, if known.
    pub sha256: Option<Sha256>,
    /// What the artifact must contain.
    pub expected: Expected,
}

/// A unit to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitOrder {
    pub unit: UnitId,
    pub text: String,
    /// The timer file's text, if any.
    pub timer: Option<String>,
    /// What its launcher gets; secret values by name only.
    pub launch: Launch,
}

/// Why a step is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepReason {
    ProjectNew,
    /// A desired release is not on disk.
    ReleaseMissing,
    /// A candidate should be tried.
    CandidateWanted,
    /// The candidate was healthy for long enough.
    CandidateHealthy,
    /// A part of the serving release is missing.
    ServingDamaged,
    /// An app that must not run twice: the old one stops first.
    Recreate,
    Drained,
    /// It belongs to no release that should run.
    NotWanted,
    /// Nothing that is kept needs it.
    Retention,
    ProjectDeleted,
    /// Caddy's routes are not the active ones.
    RoutesDiffer,
    ProxyDown,
    /// A unit's file changed since systemd read it.
    UnitChanged,
    /// A desired host service is missing or not as desired.
    ServiceMissing,
    /// A desired host service's daemon is down, or would be after a boot.
    ServiceDown,
    /// A host service is no longer desired.
    ServiceUnwanted,
    /// A host service that is no longer desired is uninstalled.
    ServiceGone,
}

impl StepReason {
    /// Returns the reason that the API shows.
    pub fn reason(self) -> Reason {
        match self {
            Self::ProjectNew => Reason::ProjectNew,
            Self::ReleaseMissing => Reason::ReleaseMissing,
            Self::CandidateWanted => Reason::CandidateWanted,
            Self::CandidateHealthy => Reason::CandidateHealthy,
            Self::ServingDamaged => Reason::ServingDamaged,
            Self::Recreate => Reason::Recreate,
            Self::Drained => Reason::Drained,
            Self::NotWanted => Reason::NotWanted,
            Self::Retention => Reason::Retention,
            Self::ProjectDeleted => Reason::ProjectDeleted,
            Self::RoutesDiffer => Reason::RoutesDiffer,
            Self::ProxyDown => Reason::ProxyDown,
            Self::UnitChanged => Reason::UnitChanged,
            Self::ServiceMissing => Reason::ServiceMissing,
            Self::ServiceDown => Reason::ServiceDown,
            Self::ServiceUnwanted => Reason::ServiceUnwanted,
            Self::ServiceGone => Reason::ServiceGone,
        }
    }
}

impl fmt::Display for StepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StepReason::ProjectNew => "the project has no user or directory here",
            StepReason::ReleaseMissing => "the release is not on disk",
            StepReason::CandidateWanted => "the spec asks for this release",
            StepReason::CandidateHealthy => "the release was healthy for long enough",
            StepReason::ServingDamaged => "the serving release lacks it",
            StepReason::Recreate => "strategy recreate: the old one stops first",
            StepReason::Drained => "its drain is over",
            StepReason::NotWanted => "it belongs to no release that should run",
            StepReason::Retention => "nothing that is kept needs it",
            StepReason::ProjectDeleted => "the project is being deleted",
            StepReason::RoutesDiffer => "Caddy does not have the desired routes",
            StepReason::ProxyDown => "Caddy does not run",
            StepReason::UnitChanged => "the unit file changed since systemd read it",
            StepReason::ServiceMissing => "the service is not installed as desired",
            StepReason::ServiceDown => "the service does not run, or would not after a boot",
            StepReason::ServiceUnwanted => "the service is no longer desired",
            StepReason::ServiceGone => "everything that was installed for the service is removed",
        })
    }
}
