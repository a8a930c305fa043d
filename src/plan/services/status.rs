//! A service's status.

use crate::model::desired::{DesiredService, ServiceIntent};
use crate::model::observed::{ActiveState, Observed, ServiceSeen};
use crate::model::progress::{Progress, ServiceProgress};
use crate::model::reason::Reason;
use crate::model::services::{Service, Version};
use crate::model::status::{ServiceState, ServiceStatus};

use super::presence::observed_service;
use super::versions::matching;

/// Computes a service's status; `before` is the previous one, which keeps "since". None if it could not be observed.
pub fn status(
    service: Service,
    request: Option<&DesiredService>,
    observed: &Observed,
    all_progress: &Progress,
    before: Option<&ServiceStatus>,
) -> Option<ServiceStatus> {
    let seen = observed_service(service, observed)?;
    let progress = all_progress.services.get(&service);
    let version = match request.map(|request| request.intent) {
        Some(ServiceIntent::Install(version)) => version,
        _ => Version::Default,
    };
    let newest = seen.installed.values().next_back();
    let installed = matching(service, version, seen).or(newest).map(|found| found.version.clone());
    let (state, reason, message) = match (request, progress) {
        (Some(request), _) if request.intent == ServiceIntent::Unreadable => unreadable(service),
        (Some(request), Some(progress)) => desired_state(service, request, seen, progress),
        _ => unmanaged_state(service, seen),
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

fn unmanaged_state(service: Service, seen: &ServiceSeen) -> Finding {
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

fn desired_state(
    service: Service,
    request: &DesiredService,
    seen: &ServiceSeen,
    progress: &ServiceProgress,
) -> Finding {
    let found = match request.intent {
        ServiceIntent::Install(version) => matching(service, version, seen).filter(|found| found.fully_installed),
        ServiceIntent::Remove { .. } | ServiceIntent::Unreadable => None,
    };
    if let Some(found) = found.filter(|_| !seen.has_running_job()) {
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
        (Some(backoff), _) if !seen.has_running_job() => {
            let message = format!("{}; failed {}, next try at {}", backoff.message, backoff.times(), backoff.until);
            (ServiceState::Failed, backoff.reason, message)
        }
        (_, ServiceIntent::Install(version)) => (
            ServiceState::Installing,
            Reason::Installing,
            with_job_status(&format!("installing {service} {}", version.shown(service)), seen),
        ),
        (_, ServiceIntent::Remove { .. }) => {
            (ServiceState::Removing, Reason::Removing, with_job_status(&format!("removing {service}"), seen))
        }
        (_, ServiceIntent::Unreadable) => unreadable(service),
    }
}

fn with_job_status(what: &str, seen: &ServiceSeen) -> String {
    match seen.job.as_ref().filter(|job| job.running && !job.status_text.is_empty()) {
        Some(job) => format!("{what}: {}", job.status_text),
        None => what.to_owned(),
    }
}

/// Returns whether a failure persists until a person changes something, although it is retried.
pub fn needs_operator(reason: Reason) -> bool {
    matches!(reason, Reason::VersionUnavailable | Reason::NoPackageManager)
}
