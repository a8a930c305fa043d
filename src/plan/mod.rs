//! What is to be done, as a value. `advance` folds what was seen into the little that is remembered; `plan` then says
//! which steps lead from there to what is wanted. Both are pure: the same input gives the same plan.

pub mod advance;
pub mod aim;
pub mod artifacts;
pub mod check;
pub mod events;
pub mod hints;
pub mod ports;
pub mod removal;
pub mod retry;
pub mod rollout;
pub mod routes;
pub mod services;
pub mod status;
pub mod verdict;
pub mod visits;

use std::collections::BTreeSet;
use std::fmt;

use crate::model::desired::{Desired, Intent, Source};
use crate::model::expected::Expected;
use crate::model::layout::Layout;
use crate::model::names::{Hostname, ProcessName, ProjectId, ReleaseNo, Sha256, Slot, UnitId};
use crate::model::observed::Observed;
use crate::model::progress::Progress;
use crate::model::quantity::Timestamp;
use crate::model::services::{Service, WantedServices};
use crate::render::caddyfile::{Proxy, Site};
use crate::render::launch::Launch;

/// What the plan needs to know besides what is wanted and what is there.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Where everything stands on disk.
    pub layout: Layout,
    /// The ports that web processes get, first to last.
    pub ports: (u16, u16),
    /// The Caddyfile's template and what it is told.
    pub proxy: Proxy,
}

/// What is to be done now, and when to look again although nothing rang.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// In order. A step that fails halts the later ones of its project, never its neighbours'.
    pub steps: Vec<Step>,
    /// The next moment at which time alone changes something.
    pub look_again: Option<Timestamp>,
}

impl Plan {
    /// Asks for another look at this moment at the latest.
    pub fn look_at(&mut self, moment: Timestamp) {
        self.look_again = Some(self.look_again.map_or(moment, |other| other.min(moment)));
    }

    fn push(&mut self, project: &ProjectId, action: Action, reason: Reason) {
        self.steps.push(Step { project: Some(project.clone()), action, reason });
    }
}

/// One thing to do, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Whose; none: everybody's.
    pub project: Option<ProjectId>,
    /// What.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

/// What the loop can do to the machine. Whoever carries it out has no choice left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Load these routes, and write them so that Caddy comes back with them.
    LoadRoutes(Box<RoutesOrder>),
    /// Start Caddy.
    StartProxy,
    /// Make the project's user and directories.
    Prepare {
        /// Whether Caddy may pass through, to a static site.
        open: bool,
    },
    /// Get a release's artifact and unpack it, beside the loop.
    Fetch(Box<FetchOrder>),
    /// End a fetch that nobody needs any more.
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
    /// Remove an artifact.
    RemoveArtifact(Sha256),
    /// Remove the marker of a process that is no more.
    RemoveMarker(ProcessName),
    /// Remove the project's directories and user.
    RemoveFiles {
        /// All but the app's data and its user.
        keep_data: bool,
    },
    /// Forget the project.
    Forget,
    /// Let the package manager work for a host service, beside the loop and the agent.
    Packages(services::WorkOrder),
    /// Start a host service's daemon, by its unit.
    StartService(Service, String),
    /// Let a host service's daemon start at boot.
    EnableService(Service),
    /// Forget that a host service was wanted.
    ForgetService(Service),
}

impl Action {
    /// Names the kind of step, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Action::LoadRoutes(_) => "load_routes",
            Action::StartProxy => "start_proxy",
            Action::Prepare { .. } => "prepare",
            Action::Fetch(_) => "fetch",
            Action::CancelFetch(_) => "cancel_fetch",
            Action::WriteUnit(_) => "write_unit",
            Action::ReloadSystemd => "reload_systemd",
            Action::Start(_) => "start",
            Action::Enable(_) => "enable",
            Action::ArmTimer(_) => "arm_timer",
            Action::DisarmTimer(_) => "disarm_timer",
            Action::Point(..) => "point",
            Action::Link(_) => "link",
            Action::Stop(_) => "stop",
            Action::RemoveUnit(_) => "remove_unit",
            Action::RemoveRelease(_) => "remove_release",
            Action::RemoveArtifact(_) => "remove_artifact",
            Action::RemoveMarker(_) => "remove_marker",
            Action::RemoveFiles { .. } => "remove_files",
            Action::Forget => "forget",
            Action::Packages(_) => "packages",
            Action::StartService(..) => "start_service",
            Action::EnableService(_) => "enable_service",
            Action::ForgetService(_) => "forget_service",
        }
    }
}

/// Routes to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutesOrder {
    /// The Caddyfile.
    pub text: String,
    /// The sites that it must come to.
    pub sites: Vec<Site>,
    /// The hosts that are wanted and left out, since Caddy refused them.
    pub left_out: BTreeSet<Hostname>,
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

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::LoadRoutes(_) => write!(f, "load routes into Caddy"),
            Action::StartProxy => write!(f, "start Caddy"),
            Action::Prepare { .. } => write!(f, "make user and directories"),
            Action::CancelFetch(release) => write!(f, "end the fetch of release {release}"),
            Action::ArmTimer(unit) => write!(f, "arm {}", unit.timer()),
            Action::DisarmTimer(unit) => write!(f, "disarm {}", unit.timer()),
            Action::Fetch(order) => write!(f, "fetch release {}", order.release),
            Action::WriteUnit(order) => write!(f, "write {}", order.unit),
            Action::ReloadSystemd => write!(f, "reload systemd"),
            Action::Start(unit) => write!(f, "start {unit}"),
            Action::Enable(unit) => write!(f, "enable {unit}"),
            Action::Point(process, slot) => write!(f, "move traffic of {process} to slot {slot}"),
            Action::Link(release) => write!(f, "link bundle to release {release}"),
            Action::Stop(unit) => write!(f, "stop {unit}"),
            Action::RemoveUnit(unit) => write!(f, "remove {unit}"),
            Action::RemoveRelease(release) => write!(f, "remove release {release}"),
            Action::RemoveArtifact(sha256) => write!(f, "remove artifact {sha256}"),
            Action::RemoveMarker(process) => write!(f, "remove the marker of {process}"),
            Action::RemoveFiles { keep_data: true } => write!(f, "remove files and keep data"),
            Action::RemoveFiles { keep_data: false } => write!(f, "remove files, data and user"),
            Action::Forget => write!(f, "forget the project"),
            Action::Packages(order) => write!(f, "{order}"),
            Action::StartService(_, unit) => write!(f, "start {unit}"),
            Action::EnableService(service) => write!(f, "enable {service}"),
            Action::ForgetService(service) => write!(f, "forget service {service}"),
        }
    }
}

impl Action {
    /// Returns the host service that the action is for.
    pub fn service(&self) -> Option<Service> {
        match self {
            Action::Packages(order) => Some(order.service),
            Action::StartService(service, _) | Action::EnableService(service) | Action::ForgetService(service) => {
                Some(*service)
            }
            _ => None,
        }
    }

    /// Returns the release that the action is about.
    pub fn release(&self) -> Option<ReleaseNo> {
        match self {
            Action::Fetch(order) => Some(order.release),
            Action::WriteUnit(order) => Some(order.unit.release),
            Action::CancelFetch(release) | Action::Link(release) | Action::RemoveRelease(release) => Some(*release),
            Action::Start(unit)
            | Action::Enable(unit)
            | Action::ArmTimer(unit)
            | Action::DisarmTimer(unit)
            | Action::Stop(unit)
            | Action::RemoveUnit(unit) => Some(unit.release),
            _ => None,
        }
    }

    /// Tells whether the action adds, changes or removes something: the marker that a shown plan gives it.
    pub fn sign(&self) -> char {
        match self {
            Action::Prepare { .. }
            | Action::Fetch(_)
            | Action::WriteUnit(_)
            | Action::Start(_)
            | Action::ArmTimer(_)
            | Action::StartService(..)
            | Action::StartProxy => '+',
            Action::Packages(order) => order.sign(),
            Action::Stop(_)
            | Action::CancelFetch(_)
            | Action::DisarmTimer(_)
            | Action::RemoveUnit(_)
            | Action::RemoveRelease(_)
            | Action::RemoveArtifact(_)
            | Action::RemoveMarker(_)
            | Action::RemoveFiles { .. }
            | Action::ForgetService(_)
            | Action::Forget => '-',
            _ => '~',
        }
    }
}

/// Why a step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
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

impl Reason {
    /// Returns its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Reason::ProjectNew => "ProjectNew",
            Reason::ReleaseMissing => "ReleaseMissing",
            Reason::CandidateWanted => "CandidateWanted",
            Reason::CandidateHealthy => "CandidateHealthy",
            Reason::ServingDamaged => "ServingDamaged",
            Reason::Recreate => "Recreate",
            Reason::Drained => "Drained",
            Reason::NotWanted => "NotWanted",
            Reason::Retention => "Retention",
            Reason::ProjectDeleted => "ProjectDeleted",
            Reason::RoutesDiffer => "RoutesDiffer",
            Reason::ProxyDown => "ProxyDown",
            Reason::UnitChanged => "UnitChanged",
            Reason::ServiceMissing => "ServiceMissing",
            Reason::ServiceDown => "ServiceDown",
            Reason::ServiceUnwanted => "ServiceUnwanted",
            Reason::ServiceGone => "ServiceGone",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::ProjectNew => "the project has no user or directory here",
            Reason::ReleaseMissing => "the release is not on disk",
            Reason::CandidateWanted => "this release is wanted",
            Reason::CandidateHealthy => "the release was healthy for long enough",
            Reason::ServingDamaged => "the serving release lacks it",
            Reason::Recreate => "strategy recreate: the old one stops first",
            Reason::Drained => "its drain is over",
            Reason::NotWanted => "it belongs to no release that should run",
            Reason::Retention => "nothing that is kept needs it",
            Reason::ProjectDeleted => "the project is to be gone",
            Reason::RoutesDiffer => "the routes wanted are not the ones Caddy has",
            Reason::ProxyDown => "Caddy does not run",
            Reason::UnitChanged => "the unit file changed since systemd read it",
            Reason::ServiceMissing => "the service is wanted, and not there as it is wanted",
            Reason::ServiceDown => "the service is wanted, and does not run now or after a boot",
            Reason::ServiceUnwanted => "the service is not wanted any more",
            Reason::ServiceGone => "nothing is left of what was brought of the service",
        })
    }
}

/// What every project's steps depend on besides the project.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The moment.
    pub now: Timestamp,
    /// Whether Caddy has the routes that are wanted, or is not there to have any.
    pub routed: bool,
    /// The rules.
    pub rules: &'a Rules,
}

/// Says what is to be done, of everything that was seen.
pub fn plan(
    desired: &Desired,
    services: &WantedServices,
    observed: &Observed,
    progress: &Progress,
    rules: &Rules,
) -> Plan {
    let mut plan = Plan::default();
    let routed = routes::steps(observed, progress, rules, &mut plan);
    let setting = Setting { now: observed.now, routed, rules };
    for (project, seen) in &observed.projects {
        let (Some(wanted), Some(memory)) = (desired.0.get(project), progress.projects.get(project)) else { continue };
        if let Some(pause) = wanted.pause_at(observed.now) {
            pause.until.into_iter().for_each(|until| plan.look_at(until));
            continue;
        }
        match &wanted.intent {
            Intent::Run(spec) => rollout::steps(project, spec, seen, memory, setting, &mut plan),
            Intent::Delete { keep_data } => removal::steps(project, *keep_data, seen, memory, setting, &mut plan),
            Intent::Nothing => {}
        }
    }
    artifacts::steps(desired, observed, progress, &mut plan);
    services::steps(services, observed, progress, &mut plan);
    plan
}
