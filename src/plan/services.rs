//! Host services: which version matches, what to do for a service, and its status. A service without a request is never
//! touched; what was installed before the first request stays after the last one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::failure::PortError;
use crate::model::names::ProjectId;
use crate::model::observed::{ActiveState, Exit, Facet, Observed};
use crate::model::progress::{Cause, Progress};
use crate::model::quantity::{Span, Timestamp};
use crate::model::reason::Reason;
use crate::model::services::{
    Installation, PackageJobSeen, Service, ServiceIntent, ServiceProgress, ServiceSeen, ServiceState, ServiceStatus,
    Version, WantedService, WantedServices,
};

use super::{Action, Plan, ServiceAction, Step, StepReason, retry};

/// Exit status of the package job if the desired version is not available.
pub const NOT_ON_OFFER: i32 = 3;
/// Exit status of the package job if it finds no supported package manager.
pub const NO_MANAGER: i32 = 4;

/// How long until an unavailable version is looked for again: a person must add a source first.
const OFFER_RETRY: Span = Span::seconds(600);

/// A job for the package manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageJob {
    pub service: Service,
    pub task: Task,
}

/// What the package manager can do for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Install it, or finish installing it.
    Install(Version),
    Remove {
        /// The majors to remove; others stay.
        majors: BTreeSet<u32>,
        /// Whether its data goes too.
        purge: bool,
    },
}

impl fmt::Display for PackageJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.task.text(self.service))
    }
}

impl Task {
    /// Describes the task in words.
    pub fn text(&self, service: Service) -> String {
        match self {
            Self::Install(version) => format!("install {service} {}", version.shown(service)),
            Self::Remove { purge: false, .. } => format!("remove {service} and keep its data"),
            Self::Remove { purge: true, .. } => format!("remove {service} and its data"),
        }
    }
}

/// Returns the installed version that matches the desired one.
pub fn matching(service: Service, version: Version, seen: &ServiceSeen) -> Option<&Installation> {
    match version {
        Version::Major(major) => seen.installed.get(&major),
        Version::Default => {
            default_major(service, seen.installed.keys().copied()).and_then(|major| seen.installed.get(&major))
        }
    }
}

/// Returns the default major among the available ones.
pub fn default_major(service: Service, majors: impl Iterator<Item = u32>) -> Option<u32> {
    majors.filter(|major| service.can_be_default(*major)).max()
}

/// Folds what was observed into the recorded progress, before anything is planned.
pub fn advance(wanted: &WantedServices, observed: &Observed, all_progress: &mut Progress) {
    all_progress.services.retain(|service, _| wanted.contains_key(service));
    for (service, wish) in wanted.iter().filter(|(_, wish)| wish.intent != ServiceIntent::Unreadable) {
        let progress = all_progress.services.entry(*service).or_default();
        progress.backoff.iter_mut().for_each(|backoff| backoff.clamp_to_now(observed.now));
        let Some(seen) = sight_of(*service, observed) else { continue };
        if progress.generation != wish.generation {
            // A job that is running was started for an earlier generation: its failure is not this generation's.
            let begun = seen.work.as_ref().map(|work| work.invocation.clone());
            let (before, counted) = (progress.before.take(), begun.or_else(|| progress.counted.take()));
            *progress = ServiceProgress { generation: wish.generation, before, counted, ..ServiceProgress::default() };
        }
        fold(*service, wish, seen, progress, observed.now);
    }
}

fn sight_of(service: Service, observed: &Observed) -> Option<&ServiceSeen> {
    observed.services.known().and_then(|all| all.get(&service))
}

fn fold(service: Service, wish: &WantedService, seen: &ServiceSeen, progress: &mut ServiceProgress, now: Timestamp) {
    let whole = seen.installed.iter().filter(|(_, found)| found.whole);
    progress.before.get_or_insert_with(|| whole.map(|(major, _)| *major).collect());
    if seen.is_in_work() {
        return;
    }
    let begun = progress.begun.take();
    if is_there(service, wish, seen, progress) {
        if is_settled(service, wish, seen) {
            progress.backoff = None;
            progress.evidence.clear();
        }
        return;
    }
    match &seen.work {
        Some(work) if progress.counted.as_ref() != Some(&work.invocation) => count(progress, work, now),
        None if begun.is_some() => {
            let message = "the package manager's work was cut off, and is done again";
            progress.backoff = Some(retry::record_failure(
                progress.backoff.as_ref(),
                &PortError::transient(Reason::PackagesFailed, message),
                now,
            ));
        }
        _ => {}
    }
}

/// Returns whether the packages are as desired, whatever the daemon does.
fn is_there(service: Service, wish: &WantedService, seen: &ServiceSeen, progress: &ServiceProgress) -> bool {
    match wish.intent {
        ServiceIntent::Install(version) => matching(service, version, seen).is_some_and(|found| found.whole),
        ServiceIntent::Remove { purge } => {
            let had_some = progress.before.as_ref().is_none_or(|before| !before.is_empty());
            brought(seen, progress).is_empty() && (had_some || !(purge && seen.data))
        }
        ServiceIntent::Unreadable => false,
    }
}

/// Returns the majors that were installed because of a request.
fn brought(seen: &ServiceSeen, progress: &ServiceProgress) -> BTreeSet<u32> {
    let Some(before) = &progress.before else { return BTreeSet::new() };
    seen.installed.keys().copied().filter(|major| !before.contains(major)).collect()
}

fn is_settled(service: Service, wish: &WantedService, seen: &ServiceSeen) -> bool {
    match wish.intent {
        ServiceIntent::Install(version) => {
            matching(service, version, seen).and_then(|found| found.daemon.as_ref()).is_none_or(|daemon| daemon.runs())
        }
        ServiceIntent::Remove { .. } | ServiceIntent::Unreadable => true,
    }
}

fn count(progress: &mut ServiceProgress, work: &PackageJobSeen, now: Timestamp) {
    let said = if work.said.is_empty() {
        work.exit.map_or_else(|| "it did not end well".to_owned(), |exit: Exit| format!("it {exit}"))
    } else {
        work.said.clone()
    };
    let reason = match work.exit {
        Some(Exit::Status(NOT_ON_OFFER)) => Reason::VersionUnavailable,
        Some(Exit::Status(NO_MANAGER)) => Reason::NoPackageManager,
        _ => Reason::PackagesFailed,
    };
    let mut backoff = retry::record_failure(progress.backoff.as_ref(), &PortError::transient(reason, said), now);
    if waits_for_somebody(reason) {
        backoff.until = now.after(OFFER_RETRY);
    }
    progress.backoff = Some(backoff);
    progress.evidence.clone_from(&work.log);
    progress.counted = Some(work.invocation.clone());
}

/// Returns whether a failure persists until a person changes something, although it is retried.
pub fn waits_for_somebody(reason: Reason) -> bool {
    matches!(reason, Reason::VersionUnavailable | Reason::NoPackageManager)
}

/// Adds the steps for the services, at most one for each.
pub fn steps(wanted: &WantedServices, observed: &Observed, all_progress: &Progress, plan: &mut Plan) {
    for (service, wish) in wanted {
        let (Some(seen), Some(progress)) = (sight_of(*service, observed), all_progress.services.get(service)) else {
            continue;
        };
        if seen.is_in_work() {
            continue;
        }
        if let Some(backoff) = progress.backoff.as_ref().filter(|backoff| observed.now < backoff.until) {
            plan.look_at(backoff.until);
            continue;
        }
        if let Some((action, reason)) = step(*service, wish, seen, progress) {
            plan.steps.push(Step { action: Action::Service(*service, action), reason });
        }
    }
}

fn step(
    service: Service,
    wish: &WantedService,
    seen: &ServiceSeen,
    progress: &ServiceProgress,
) -> Option<(ServiceAction, StepReason)> {
    match wish.intent {
        ServiceIntent::Install(version) => {
            let Some(found) = matching(service, version, seen).filter(|found| found.whole) else {
                return Some((ServiceAction::Packages(Task::Install(version)), StepReason::ServiceMissing));
            };
            let daemon = found.daemon.as_ref()?;
            let down = matches!(daemon.state, ActiveState::Inactive | ActiveState::Failed);
            if down {
                return Some((ServiceAction::Start(daemon.unit.clone()), StepReason::ServiceDown));
            }
            (!daemon.enabled).then_some((ServiceAction::Enable, StepReason::ServiceDown))
        }
        ServiceIntent::Remove { .. } if is_there(service, wish, seen, progress) => {
            Some((ServiceAction::Forget, StepReason::ServiceGone))
        }
        ServiceIntent::Remove { purge } => {
            let task = Task::Remove { majors: brought(seen, progress), purge };
            Some((ServiceAction::Packages(task), StepReason::ServiceUnwanted))
        }
        ServiceIntent::Unreadable => None,
    }
}

/// Why a project waits for its services.
pub enum Lack {
    /// One of them has no request: nothing happens until there is one.
    Unwanted(String),
    /// One is requested and does not run yet.
    NotYet(String),
}

/// Returns which of its services a project lacks.
pub fn lack(
    needs: &BTreeSet<Service>,
    observed: &Facet<BTreeMap<Service, ServiceSeen>>,
    all_progress: &Progress,
) -> Option<Lack> {
    let Some(seen) = observed.known() else {
        return (!needs.is_empty()).then(|| Lack::NotYet("the services it needs could not be looked at".into()));
    };
    let runs = |service: &Service| {
        let of_it = seen.get(service).into_iter().flat_map(|seen| seen.installed.values());
        of_it.filter(|found| found.whole).any(|found| found.daemon.as_ref().is_none_or(|daemon| daemon.runs()))
    };
    let (wanted, unwanted): (Vec<&Service>, Vec<&Service>) =
        needs.iter().filter(|service| !runs(service)).partition(|service| all_progress.services.contains_key(service));
    if let Some(service) = unwanted.first() {
        return Some(Lack::Unwanted(format!(
            "it needs {service}, which does not run here; `zexio service install {service}` brings it"
        )));
    }
    wanted.first().map(|service| {
        let told = all_progress.services.get(service).and_then(|progress| progress.backoff.as_ref());
        let why =
            told.map_or("which is on its way".to_owned(), |backoff| format!("which is not there: {}", backoff.message));
        Lack::NotYet(format!("it needs {service}, {why}; `zexio service list` says more"))
    })
}

/// Folds the services that a project lacks into its progress; returns whether its rollout must wait.
pub fn gate_on_services(
    needs: &BTreeSet<Service>,
    project: &ProjectId,
    services: &Facet<BTreeMap<Service, ServiceSeen>>,
    all_progress: &mut Progress,
    now: Timestamp,
) -> bool {
    let lack = lack(needs, services, all_progress);
    let progress = all_progress.projects.entry(project.clone()).or_default();
    let (stalled, waits) = match lack {
        None => (None, None),
        Some(Lack::Unwanted(message)) => (Some(message), None),
        Some(Lack::NotYet(message)) => (None, Some(message)),
    };
    let stall = |message: String, old: Option<&Cause>| Cause {
        since: old.filter(|old| old.reason == Reason::DependencyMissing).map_or(now, |old| old.since),
        reason: Reason::DependencyMissing,
        message,
    };
    progress.waits_for_services = waits.map(|message| stall(message, progress.waits_for_services.as_ref()));
    match stalled {
        Some(message) => progress.stalled = Some(stall(message, progress.stalled.as_ref())),
        None => progress.stalled = progress.stalled.take().filter(|old| old.reason != Reason::DependencyMissing),
    }
    progress.waits_for_services.is_some()
        || progress.stalled.as_ref().is_some_and(|stall| stall.reason == Reason::DependencyMissing)
}

/// Computes a service's status; `before` is the previous one, which keeps "since". None if it could not be observed.
pub fn status(
    service: Service,
    wish: Option<&WantedService>,
    observed: &Observed,
    all_progress: &Progress,
    before: Option<&ServiceStatus>,
) -> Option<ServiceStatus> {
    let seen = sight_of(service, observed)?;
    let progress = all_progress.services.get(&service);
    let version = match wish.map(|wish| wish.intent) {
        Some(ServiceIntent::Install(version)) => version,
        _ => Version::Default,
    };
    let newest = seen.installed.values().next_back();
    let installed = matching(service, version, seen).or(newest).map(|found| found.version.clone());
    let (state, reason, message) = match (wish, progress) {
        (Some(wish), _) if wish.intent == ServiceIntent::Unreadable => unreadable(service),
        (Some(wish), Some(progress)) => wanted_state(service, wish, seen, progress),
        _ => unwanted_state(service, seen),
    };
    let complaint = wish.and_then(|wish| wish.complaint.as_ref());
    let (reason, message) = complaint.map_or((reason, message), |told| (told.kind.reason(), told.message.clone()));
    let since = before.filter(|old| old.state == state && old.reason == reason).map_or(observed.now, |old| old.since);
    Some(ServiceStatus {
        service,
        observed_generation: progress.map_or(0, |progress| progress.generation),
        installed,
        state,
        reason,
        message,
        evidence: progress.map(|progress| progress.evidence.clone()).unwrap_or_default(),
        since,
    })
}

/// A state, a reason and a sentence.
type Finding = (ServiceState, Reason, String);

fn unwanted_state(service: Service, seen: &ServiceSeen) -> Finding {
    let Some(found) = seen.installed.values().next_back() else {
        let data = if seen.data { "; data of it is still on the disk" } else { "" };
        return (ServiceState::Absent, Reason::NotInstalled, format!("{service} is not installed{data}"));
    };
    let state = if found.daemon.as_ref().is_some_and(|daemon| daemon.runs()) {
        ServiceState::Running
    } else {
        ServiceState::Installed
    };
    (
        state,
        Reason::Unmanaged,
        format!("{service} {} is installed, and not managed by zexio: it is left alone", found.version),
    )
}

fn unreadable(service: Service) -> Finding {
    let message = format!(
        "the stored request for {service} could not be read; {service} is left as it is. Run the agent that wrote it, restore the database from a backup, or ask again: `zexio service install {service}` or `zexio service remove {service}`"
    );
    (ServiceState::Failed, Reason::Database, message)
}

fn wanted_state(service: Service, wish: &WantedService, seen: &ServiceSeen, progress: &ServiceProgress) -> Finding {
    let found = match wish.intent {
        ServiceIntent::Install(version) => matching(service, version, seen).filter(|found| found.whole),
        ServiceIntent::Remove { .. } | ServiceIntent::Unreadable => None,
    };
    if let Some(found) = found.filter(|_| !seen.is_in_work()) {
        match &found.daemon {
            None => {
                return (
                    ServiceState::Installed,
                    Reason::Installed,
                    format!("{service} {} is installed", found.version),
                );
            }
            Some(daemon) if daemon.runs() => {
                return (
                    ServiceState::Running,
                    Reason::Running,
                    format!("{service} {} runs as {}", found.version, daemon.unit),
                );
            }
            // Report it as down only after one failed start.
            Some(daemon)
                if progress.backoff.as_ref().is_none_or(|backoff| backoff.failures < 2)
                    || daemon.state == ActiveState::Activating =>
            {
                return (ServiceState::Starting, Reason::Starting, format!("{} is starting", daemon.unit));
            }
            Some(_) => {}
        }
    }
    match (&progress.backoff, wish.intent) {
        (Some(backoff), _) if !seen.is_in_work() => {
            let message = format!("{}; failed {}, next try at {}", backoff.message, backoff.times(), backoff.until);
            (ServiceState::Failed, backoff.reason, message)
        }
        (_, ServiceIntent::Install(version)) => (
            ServiceState::Installing,
            Reason::Installing,
            in_work(&format!("installing {service} {}", version.shown(service)), seen),
        ),
        (_, ServiceIntent::Remove { .. }) => {
            (ServiceState::Removing, Reason::Removing, in_work(&format!("removing {service}"), seen))
        }
        (_, ServiceIntent::Unreadable) => unreadable(service),
    }
}

fn in_work(what: &str, seen: &ServiceSeen) -> String {
    match seen.work.as_ref().filter(|work| work.running && !work.said.is_empty()) {
        Some(work) => format!("{what}: {}", work.said),
        None => what.to_owned(),
    }
}

/// A package that is available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub major: u32,
    /// Its exact version, as the package manager names it.
    pub exact: String,
}

/// Chooses from the available packages.
///
/// # Errors
/// The desired version is not available; says which ones are.
pub fn choose(service: Service, version: Version, offers: &[Offer]) -> Result<&Offer, String> {
    let majors: BTreeSet<u32> = offers.iter().map(|offer| offer.major).collect();
    let major = match version {
        Version::Major(major) => Some(major),
        Version::Default => default_major(service, majors.iter().copied()),
    };
    // The first of a major is the newest: package managers list them in that order.
    offers.iter().find(|offer| Some(offer.major) == major).ok_or_else(|| {
        let listed: Vec<String> = majors.iter().map(ToString::to_string).collect();
        let there = if listed.is_empty() { "none is".to_owned() } else { format!("on offer: {}", listed.join(", ")) };
        format!(
            "the package manager does not offer {service} {}; {there}. Ask for one of these, or add a package source that has it",
            version.shown(service)
        )
    })
}
