//! The one gate through which every effect of the agent goes. It may fail one before or after it happened, and it may
//! let the agent die on either side of it.

use std::collections::BTreeMap;
use std::fmt;

use zexio::model::event::Event;
use zexio::model::names::{ProcessName, ProjectId, ReleaseNo, Sha256, Slot, UnitId};
use zexio::model::progress::ProjectProgress;
use zexio::model::services::Service;
use zexio::model::status::{ServiceStatus, Status};
use zexio::plan::services::PackageJob;
use zexio::plan::{FetchOrder, RoutesOrder, UnitOrder};

use crate::chance::Chance;

/// How an agent ends that a test kills.
pub struct Death;

/// Something that the agent does to the machine or to its progress.
#[derive(Debug, Clone, Copy)]
pub enum Effect<'a> {
    Remember(&'a BTreeMap<ProjectId, ProjectProgress>),
    Record(&'a [Status], &'a [Event]),
    Forget(&'a ProjectId),
    Write(&'a UnitOrder),
    Reload,
    Start(&'a UnitId),
    Stop(&'a UnitId),
    Enable(&'a UnitId),
    Arm(&'a UnitId),
    Disarm(&'a UnitId),
    RemoveUnit(&'a UnitId),
    StartProxy,
    LoadRoutes(&'a RoutesOrder),
    Prepare(&'a ProjectId),
    Fetch(&'a ProjectId, &'a FetchOrder),
    Cancel(&'a ProjectId, ReleaseNo),
    Point(&'a ProjectId, &'a ProcessName, Slot),
    Link(&'a ProjectId, ReleaseNo),
    RemoveRelease(&'a ProjectId, ReleaseNo),
    RemoveArtifact(&'a Sha256),
    RemoveFiles(&'a ProjectId),
    Packages(&'a PackageJob),
    StartService(&'a str),
    EnableService(Service),
    ForgetService(Service),
    RememberServices,
    RecordServices(&'a [ServiceStatus]),
}

impl Effect<'_> {
    /// Returns whose part of the machine is changed; none: nobody's own, or only what is remembered.
    pub fn project(&self) -> Option<&ProjectId> {
        match self {
            Effect::Write(order) => Some(&order.unit.project),
            Effect::Start(unit)
            | Effect::Stop(unit)
            | Effect::Enable(unit)
            | Effect::Arm(unit)
            | Effect::Disarm(unit)
            | Effect::RemoveUnit(unit) => Some(&unit.project),
            Effect::Forget(project)
            | Effect::Prepare(project)
            | Effect::Fetch(project, _)
            | Effect::Cancel(project, _)
            | Effect::Point(project, _, _)
            | Effect::Link(project, _)
            | Effect::RemoveRelease(project, _)
            | Effect::RemoveFiles(project) => Some(project),
            Effect::Remember(_)
            | Effect::Record(..)
            | Effect::Reload
            | Effect::StartProxy
            | Effect::LoadRoutes(_)
            | Effect::RemoveArtifact(_)
            | Effect::Packages(_)
            | Effect::StartService(_)
            | Effect::EnableService(_)
            | Effect::ForgetService(_)
            | Effect::RememberServices
            | Effect::RecordServices(_) => None,
        }
    }

    /// Tells whether it changes the machine, not only what is remembered.
    pub fn is_call(&self) -> bool {
        !matches!(self, Effect::Remember(_) | Effect::Record(..) | Effect::RememberServices | Effect::RecordServices(_))
    }
}

impl fmt::Display for Effect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::Remember(_) => f.write_str("remember"),
            Effect::Record(..) => f.write_str("record"),
            Effect::Packages(order) => order.fmt(f),
            Effect::StartService(unit) => write!(f, "start {unit}"),
            Effect::EnableService(service) => write!(f, "enable {service}"),
            Effect::ForgetService(service) => write!(f, "forget {service}"),
            Effect::RememberServices => f.write_str("remember services"),
            Effect::RecordServices(_) => f.write_str("record services"),
            Effect::Forget(project) => write!(f, "forget {project}"),
            Effect::Write(order) => write!(f, "write {}", order.unit),
            Effect::Reload => f.write_str("reload"),
            Effect::Start(unit) => write!(f, "start {unit}"),
            Effect::Stop(unit) => write!(f, "stop {unit}"),
            Effect::Enable(unit) => write!(f, "enable {unit}"),
            Effect::Arm(unit) => write!(f, "arm {}", unit.timer()),
            Effect::Disarm(unit) => write!(f, "disarm {}", unit.timer()),
            Effect::RemoveUnit(unit) => write!(f, "remove {unit}"),
            Effect::StartProxy => f.write_str("start caddy"),
            Effect::LoadRoutes(_) => f.write_str("load routes"),
            Effect::Prepare(project) => write!(f, "prepare {project}"),
            Effect::Fetch(project, order) => write!(f, "fetch {project} {}", order.release),
            Effect::Cancel(project, release) => write!(f, "cancel {project} {release}"),
            Effect::Point(project, process, slot) => write!(f, "point {project} {process} {slot}"),
            Effect::Link(project, release) => write!(f, "link {project} {release}"),
            Effect::RemoveRelease(project, release) => write!(f, "remove release {project} {release}"),
            Effect::RemoveArtifact(sha256) => write!(f, "remove artifact {sha256}"),
            Effect::RemoveFiles(project) => write!(f, "remove files {project}"),
        }
    }
}

/// What the gate does to one effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Happens,
    FailsBefore,
    FailsAfter,
    DiesBefore,
    DiesAfter,
}

/// Decides the fate of each effect: open, told by a script, or by chance.
#[derive(Default)]
pub struct Gate {
    /// Before which effect, counted from here, the agent dies. Dying after one is dying before the next.
    pub dies_before: Option<usize>,
    pub odds: Option<Odds>,
}

/// How often, in a thousand, an effect fails or the agent dies around it.
pub struct Odds {
    pub chance: Chance,
    pub fails: u64,
    pub dies: u64,
    pub counts: BTreeMap<Fate, u64>,
}

impl Gate {
    pub fn fate(&mut self) -> Fate {
        if let Some(left) = self.dies_before {
            self.dies_before = left.checked_sub(1);
            return if left == 0 { Fate::DiesBefore } else { Fate::Happens };
        }
        let Some(odds) = &mut self.odds else { return Fate::Happens };
        let fate = match (odds.chance.hits(odds.dies), odds.chance.hits(odds.fails)) {
            (true, _) => odds.chance.pick(&[Fate::DiesBefore, Fate::DiesAfter]),
            (_, true) => odds.chance.pick(&[Fate::FailsBefore, Fate::FailsAfter]),
            _ => return Fate::Happens,
        };
        *odds.counts.entry(fate).or_default() += 1;
        fate
    }
}
