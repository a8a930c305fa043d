//! A service's status.

use crate::model::desired::{DesiredService, ServiceIntent};
use crate::model::observed::{ActiveState, Observed, ServiceSeen};
use crate::model::progress::{Progress, ServiceProgress};
use crate::model::reason::Reason;
use crate::model::services::{Service, Version};
use crate::model::status::{ServiceState, ServiceStatus};

use super::presence::sight_of;
use super::versions::matching;

/// Computes a service's status; `before` is the previous one, which keeps "since". None if it could not be observed.
pub fn status(
    service: Service,
    request: Option<&DesiredService>,
    observed: &Observed,
    all_progress: &Progress,
    before: Option<&ServiceStatus>,
) -> Option<ServiceStatus> {
    let seen = sight_of(service, observed)?;
    let progress = all_progress.services.get(&service);
    let version = match request.map(|request| request.intent) {
        Some(ServiceIntent::Install(version)) => version,
        _ => Version::Default,
    };
    let newest = seen.installed.values().next_back();
    let installed = matching(service, version, seen).or(newest).map(|found| found.version.clone());
    let (state, reason, message) = match (request, progress) {
        (Some(request), _) if request.intent == ServiceIntent::Unreadable => unreadable(service),
        (Some(request), Some(progress)) => wanted_state(service, request, seen, progress),
        _ => unwanted_state(service, seen),
    };
    let refusal = request.and_then(|request| request.refusal.as_ref());
    let (reason, message) =
        refusal.map_or((reason, message), |refusal| (refusal.kind.reason(), refusal.message.clone()));
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

fn wanted_state(service: Service, request: &DesiredService, seen: &ServiceSeen, progress: &ServiceProgress) -> Finding {
    let found = match request.intent {
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
    match (&progress.backoff, request.intent) {
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

/// Returns whether a failure persists until a person changes something, although it is retried.
pub fn waits_for_somebody(reason: Reason) -> bool {
    matches!(reason, Reason::VersionUnavailable | Reason::NoPackageManager)
}
