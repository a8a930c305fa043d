//! Folds what was observed of the services into their progress.

use crate::model::desired::{DesiredService, DesiredServices, ServiceIntent};
use crate::model::failure::PortError;
use crate::model::observed::{Exit, Observed, PackageJobSeen, ServiceSeen};
use crate::model::progress::{Progress, ServiceProgress};
use crate::model::quantity::{Span, Timestamp};
use crate::model::reason::Reason;
use crate::model::services::Service;
use crate::plan::retry;

use super::job::{NO_MANAGER, NOT_ON_OFFER};
use super::presence::{is_settled, is_there, sight_of};
use super::status::waits_for_somebody;

/// How long until an unavailable version is looked for again: a person must add a source first.
const OFFER_RETRY: Span = Span::seconds(600);

/// Folds what was observed into the recorded progress, before anything is planned.
pub fn advance(wanted: &DesiredServices, observed: &Observed, all_progress: &mut Progress) {
    all_progress.services.retain(|service, _| wanted.contains_key(service));
    for (service, request) in wanted.iter().filter(|(_, request)| request.intent != ServiceIntent::Unreadable) {
        let progress = all_progress.services.entry(*service).or_default();
        progress.backoff.iter_mut().for_each(|backoff| backoff.clamp_to_now(observed.now));
        let Some(seen) = sight_of(*service, observed) else { continue };
        if progress.generation != request.generation {
            // A job that is running was started for an earlier generation: its failure is not this generation's.
            let begun = seen.work.as_ref().map(|work| work.invocation.clone());
            let (before, counted) = (progress.before.take(), begun.or_else(|| progress.counted.take()));
            *progress =
                ServiceProgress { generation: request.generation, before, counted, ..ServiceProgress::default() };
        }
        fold(*service, request, seen, progress, observed.now);
    }
}

fn fold(
    service: Service,
    request: &DesiredService,
    seen: &ServiceSeen,
    progress: &mut ServiceProgress,
    now: Timestamp,
) {
    let whole = seen.installed.iter().filter(|(_, found)| found.whole);
    progress.before.get_or_insert_with(|| whole.map(|(major, _)| *major).collect());
    if seen.is_in_work() {
        return;
    }
    let begun = progress.begun.take();
    if is_there(service, request, seen, progress) {
        if is_settled(service, request, seen) {
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
