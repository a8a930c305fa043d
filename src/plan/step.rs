//! The steps: what the loop can do to the machine, by what it changes, and what is known of each before it is taken.

use std::fmt;

use crate::model::expected::Expected;
use crate::model::names::{ProcessName, ProjectId, ReleaseNo, Sha256, Slot, UnitId};
use crate::model::reason::Reason;
use crate::model::services::Service;
use crate::model::spec::Source;
use crate::render::caddyfile::Site;
use crate::render::launch::Launch;

use super::services::Task;

/// One thing to do, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// Why.
    pub reason: StepReason,
}

/// What the loop can do to the machine, by what it changes. The executor has no choice left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// To one project.
    Project(ProjectId, ProjectAction),
    /// To Caddy, for all projects.
    Proxy(ProxyAction),
    /// To a host service.
    Service(Service, ServiceAction),
    /// Remove an artifact.
    RemoveArtifact(Sha256),
}

/// What the loop can do to a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProjectAction {
    /// Make the project's user and directories.
    Prepare {
        /// Whether Caddy may pass through, to a static site.
        open: bool,
    },
    /// Get a release's artifact and unpack it, beside the loop.
    Fetch(Box<FetchOrder>),
    /// End a fetch that is not needed any more.
    CancelFetch(ReleaseNo),
    /// Write a unit's launch blob and file, and its timer's.
    WriteUnit(Box<UnitOrder>),
    /// Let systemd read its files again.
    ReloadSystemd,
    /// Start a unit, after making sure that systemd read what was written.
    Start(UnitId),
    /// Let a unit start at boot.
    Enable(UnitId),
    /// Let a unit's timer count, now and after a boot.
    ArmTimer(UnitId),
    /// Let a unit's timer count no more; what it started finishes.
    DisarmTimer(UnitId),
    /// Move a web process's traffic to a slot.
    Point(ProcessName, Slot),
    /// Point the bundle link.
    Link(ReleaseNo),
    /// Stop a unit.
    Stop(UnitId),
    /// Remove a stopped unit's file and launch blob.
    RemoveUnit(UnitId),
    /// Remove a release from disk.
    RemoveRelease(ReleaseNo),
    /// Remove the marker of a process that is no more.
    RemoveMarker(ProcessName),
    /// Remove the project's directories and user.
    RemoveFiles {
        /// All but the app's data and its user.
        keep_data: bool,
    },
    /// Forget the project.
    Forget,
}

/// What the loop can do to Caddy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyAction {
    /// Load these routes, and write them so that Caddy comes back with them.
    LoadRoutes(Box<RoutesOrder>),
    /// Start it.
    Start,
}

/// What the loop can do to a host service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceAction {
    /// Let the package manager work for it, beside the loop and the agent.
    Packages(Task),
    /// Start its daemon, by its unit.
    Start(String),
    /// Let its daemon start at boot.
    Enable,
    /// Forget that it was wanted.
    Forget,
}

/// What a step changes. A step that fails halts the later ones of the same subject, and no others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Caddy.
    Proxy,
    /// The artifacts on the server.
    Artifacts,
    /// A host service.
    Service(Service),
    /// A project.
    Project(ProjectId),
}

/// When to see what a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FollowUp {
    /// In the next pass, at once.
    AtOnce,
    /// A little later: systemd does it beside the loop, and says when it is done.
    Soon,
}

/// What is known of a step before it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its kind, for counting.
    pub kind: &'static str,
    /// Whether it adds (`+`), changes (`~`) or removes (`-`): the marker that a shown plan gives it.
    pub sign: char,
    /// The release that it is about.
    pub release: Option<ReleaseNo>,
    /// When to see what it came to.
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

    /// Returns the project that the step changes; none: it is for all projects, or for the host.
    pub fn project(&self) -> Option<&ProjectId> {
        match self {
            Self::Project(project, _) => Some(project),
            Self::Proxy(_) | Self::Service(..) | Self::RemoveArtifact(_) => None,
        }
    }

    /// Returns all that is known of the step.
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
            Self::Point(process, slot) => {
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
            Self::Forget => row("forget", '-', None, AtOnce, "forget the project"),
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
            Self::Forget => row("forget_service", '-', None, AtOnce, format!("forget service {service}")),
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
    /// The sites that it must come to.
    pub sites: Vec<Site>,
}

/// A release to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOrder {
    /// Which.
    pub release: ReleaseNo,
    /// From where.
    pub source: Source,
    /// What it must be, where that is known.
    pub sha256: Option<Sha256>,
    /// What must be in it.
    pub expected: Expected,
}

/// A unit to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitOrder {
    /// Which.
    pub unit: UnitId,
    /// Its file's text.
    pub text: String,
    /// Its timer's text, where it has one.
    pub timer: Option<String>,
    /// What its launcher is told; secret values by name only.
    pub launch: Launch,
}

/// Why a step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepReason {
    /// The project is new here.
    ProjectNew,
    /// A release is wanted that is not on disk.
    ReleaseMissing,
    /// A candidate is to be tried.
    CandidateWanted,
    /// The candidate was healthy for long enough.
    CandidateHealthy,
    /// The serving release lacks something.
    ServingDamaged,
    /// An app that cannot run twice makes room.
    Recreate,
    /// Its drain is over.
    Drained,
    /// It belongs to no release that should run.
    NotWanted,
    /// Nothing that is kept needs it.
    Retention,
    /// The project is to be gone.
    ProjectDeleted,
    /// The routes that hold are not those of Caddy.
    RoutesDiffer,
    /// Caddy does not run.
    ProxyDown,
    /// A unit's file changed since systemd read it.
    UnitChanged,
    /// A wanted host service is not there as it is wanted.
    ServiceMissing,
    /// A wanted host service's daemon is down, or would be after a boot.
    ServiceDown,
    /// A host service is not wanted any more.
    ServiceUnwanted,
    /// A host service is gone as far as it was brought.
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
            StepReason::CandidateWanted => "this release is wanted",
            StepReason::CandidateHealthy => "the release was healthy for long enough",
            StepReason::ServingDamaged => "the serving release lacks it",
            StepReason::Recreate => "strategy recreate: the old one stops first",
            StepReason::Drained => "its drain is over",
            StepReason::NotWanted => "it belongs to no release that should run",
            StepReason::Retention => "nothing that is kept needs it",
            StepReason::ProjectDeleted => "the project is to be gone",
            StepReason::RoutesDiffer => "the routes wanted are not the ones Caddy has",
            StepReason::ProxyDown => "Caddy does not run",
            StepReason::UnitChanged => "the unit file changed since systemd read it",
            StepReason::ServiceMissing => "the service is wanted, and not there as it is wanted",
            StepReason::ServiceDown => "the service is wanted, and does not run now or after a boot",
            StepReason::ServiceUnwanted => "the service is not wanted any more",
            StepReason::ServiceGone => "nothing is left of what was brought of the service",
        })
    }
}
