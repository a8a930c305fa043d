//! The host services that a project needs and that do not run: its rollout waits for them.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::names::ProjectId;
use crate::model::observed::{Facet, ServiceSeen};
use crate::model::progress::{Cause, Progress};
use crate::model::quantity::Timestamp;
use crate::model::reason::Reason;
use crate::model::services::Service;

/// Why a project waits for its services.
enum MissingService {
    /// One that was never requested: nothing happens until it is.
    NotRequested(String),
    /// One is requested and does not run yet.
    NotRunning(String),
}

/// Returns the first service that a project needs and that does not run.
fn missing_service(
    needs: &BTreeSet<Service>,
    observed: &Facet<BTreeMap<Service, ServiceSeen>>,
    all_progress: &Progress,
) -> Option<MissingService> {
    let Some(seen) = observed.known() else {
        return (!needs.is_empty())
            .then(|| MissingService::NotRunning("the services that it needs could not be observed".into()));
    };
    let runs = |service: &Service| {
        let of_it = seen.get(service).into_iter().flat_map(|seen| seen.installed.values());
        of_it
            .filter(|found| found.fully_installed)
            .any(|found| found.daemon.as_ref().is_none_or(|daemon| daemon.runs()))
    };
    let (wanted, unwanted): (Vec<&Service>, Vec<&Service>) =
        needs.iter().filter(|service| !runs(service)).partition(|service| all_progress.services.contains_key(service));
    if let Some(service) = unwanted.first() {
        return Some(MissingService::NotRequested(format!(
            "it needs {service}, which does not run here; `zexio service install {service}` installs it"
        )));
    }
    wanted.first().map(|service| {
        let backoff = all_progress.services.get(service).and_then(|progress| progress.backoff.as_ref());
        let why = backoff.map_or("which is being installed".to_owned(), |backoff| {
            format!("which could not be installed: {}", backoff.message)
        });
        MissingService::NotRunning(format!("it needs {service}, {why}; `zexio service list` says more"))
    })
}

/// Records in a project's progress which service it waits for; returns whether its rollout must wait.
pub fn gate_on_services(
    needs: &BTreeSet<Service>,
    project: &ProjectId,
    services: &Facet<BTreeMap<Service, ServiceSeen>>,
    all_progress: &mut Progress,
    now: Timestamp,
) -> bool {
    let lack = missing_service(needs, services, all_progress);
    let progress = all_progress.projects.entry(project.clone()).or_default();
    let (stalled, waits) = match lack {
        None => (None, None),
        Some(MissingService::NotRequested(message)) => (Some(message), None),
        Some(MissingService::NotRunning(message)) => (None, Some(message)),
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
