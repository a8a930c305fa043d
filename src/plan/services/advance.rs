//! Folds what was observed of the services into their progress.

use crate::model::desired::{DesiredService, DesiredServices, ServiceIntent};
use crate::model::failure::PortError;
use crate::model::observed::{Exit, Observed, PackageJobSeen, ServiceSeen};
use crate::model::progress::{Progress, ServiceProgress};
use crate::model::quantity::{Span, Timestamp};
use crate::model::reason::Reason;
use crate::model::services::Service;
use crate::plan::retry;

use super::job::{NO_PACKAGE_MANAGER, VERSION_UNAVAILABLE};
use super::presence::{has_desired_daemon, has_desired_packages, observed_service};
use super::status::needs_operator;

/// How long until an unavailable version is looked for again: a person must add a source first.
const UNAVAILABLE_RETRY: Span = Span::seconds(600);

/// Folds what was observed into the recorded progress, before anything is planned.
pub fn advance(wanted: &DesiredServices, observed: &Observed, all_progress: &mut Progress) {
    all_progress.services.retain(|service, _| wanted.contains_key(service));
    for (service, request) in wanted.iter().filter(|(_, request)| request.intent != ServiceIntent::Unreadable) {
        let progress = all_progress.services.entry(*service).or_default();
        progress.backoff.iter_mut().for_each(|backoff| backoff.clamp_to_now(observed.now));
        let Some(seen) = observed_service(*service, observed) else { continue };
        if progress.generation != request.generation {
            // A job that is running was started for an earlier generation: its failure is not this generation's.
            let running = seen.job.as_ref().map(|job| job.invocation.clone());
            let (preexisting, last_failed_run) =
                (progress.preexisting.take(), running.or_else(|| progress.last_failed_run.take()));
            *progress = ServiceProgress {
                generation: request.generation,
                preexisting,
                last_failed_run,
                ..ServiceProgress::default()
            };
        }
        advance_service(*service, request, seen, progress, observed.now);
    }
}

fn advance_service(
    service: Service,
    request: &DesiredService,
    seen: &ServiceSeen,
    progress: &mut ServiceProgress,
    now: Timestamp,
) {
    let installed = seen.installed.iter().filter(|(_, found)| found.fully_installed);
    progress.preexisting.get_or_insert_with(|| installed.map(|(major, _)| *major).collect());
    if seen.has_running_job() {
        return;
    }
    let started_at = progress.started_at.take();
    if has_desired_packages(service, request, seen, progress) {
        if has_desired_daemon(service, request, seen) {
            progress.backoff = None;
            progress.evidence.clear();
        }
        return;
    }
    match &seen.job {
        Some(job) if progress.last_failed_run.as_ref() != Some(&job.invocation) => {
            record_failed_job(progress, job, now)
        }
        None if started_at.is_some() => {
            let message = "the package manager was interrupted, and is run again";
            progress.backoff = Some(retry::record_failure(
                progress.backoff.as_ref(),
                &PortError::transient(Reason::PackagesFailed, message),
                now,
            ));
        }
        _ => {}
    }
}

fn record_failed_job(progress: &mut ServiceProgress, job: &PackageJobSeen, now: Timestamp) {
    let message = if job.status_text.is_empty() {
        job.exit.map_or_else(|| "it failed".to_owned(), |exit: Exit| format!("it {exit}"))
    } else {
        job.status_text.clone()
    };
    let reason = match job.exit {
        Some(Exit::Status(VERSION_UNAVAILABLE)) => Reason::VersionUnavailable,
        Some(Exit::Status(NO_PACKAGE_MANAGER)) => Reason::NoPackageManager,
        _ => Reason::PackagesFailed,
    };
    let mut backoff = retry::record_failure(progress.backoff.as_ref(), &PortError::transient(reason, message), now);
    if needs_operator(reason) {
        backoff.until = now.after(UNAVAILABLE_RETRY);
    }
    progress.backoff = Some(backoff);
    progress.evidence.clone_from(&job.log);
    progress.last_failed_run = Some(job.invocation.clone());
}
