//! Whether a service is as desired, and which majors were installed because of a request.

use std::collections::BTreeSet;

use crate::model::desired::{DesiredService, ServiceIntent};
use crate::model::observed::{Observed, ServiceSeen};
use crate::model::progress::ServiceProgress;
use crate::model::services::Service;

use super::versions::matching;

pub(super) fn observed_service(service: Service, observed: &Observed) -> Option<&ServiceSeen> {
    observed.services.known().and_then(|all| all.get(&service))
}

/// Returns whether the packages are as desired, whatever the daemon does.
pub(super) fn has_desired_packages(
    service: Service,
    request: &DesiredService,
    seen: &ServiceSeen,
    progress: &ServiceProgress,
) -> bool {
    match request.intent {
        ServiceIntent::Install(version) => matching(service, version, seen).is_some_and(|found| found.fully_installed),
        ServiceIntent::Remove { purge } => {
            let had_some = progress.preexisting.as_ref().is_none_or(|before| !before.is_empty());
            installed_by_request(seen, progress).is_empty() && (had_some || !(purge && seen.data))
        }
        ServiceIntent::Unreadable => false,
    }
}

/// Returns the majors that were installed because of a request.
pub(super) fn installed_by_request(seen: &ServiceSeen, progress: &ServiceProgress) -> BTreeSet<u32> {
    let Some(before) = &progress.preexisting else { return BTreeSet::new() };
    seen.installed.keys().copied().filter(|major| !before.contains(major)).collect()
}

pub(super) fn has_desired_daemon(service: Service, request: &DesiredService, seen: &ServiceSeen) -> bool {
    match request.intent {
        ServiceIntent::Install(version) => {
            matching(service, version, seen).and_then(|found| found.daemon.as_ref()).is_none_or(|daemon| daemon.runs())
        }
        ServiceIntent::Remove { .. } | ServiceIntent::Unreadable => true,
    }
}
