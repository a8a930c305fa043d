//! Retries: a transient failure is retried with a backoff, any other one waits for a change.

use crate::model::failure::{PortError, Retry};
use crate::model::names::ReleaseNo;
use crate::model::progress::{Backoff, Cause, End, ProjectProgress, Rejected, Target};
use crate::model::quantity::{Span, Timestamp};

use crate::model::reason::Reason;

/// Counts a transient failure: the next try waits 5 s, 10 s, … 5 min, or as long as the other side asked.
pub fn record_failure(before: Option<&Backoff>, error: &PortError, now: Timestamp) -> Backoff {
    let failures = before.map_or(0, |old| old.failures) + 1;
    let own = Span::seconds(5 << (failures - 1).min(6)).min(Span::seconds(300));
    let asked = error.retry_after.map_or(Span(0), |wait| Span(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
    Backoff {
        failures,
        until: now.after(own.max(asked.min(Span::seconds(600)))),
        reason: error.reason.to_owned(),
        message: error.message.clone(),
        last: now,
        since: before.map_or(now, |old| old.since),
    }
}

/// How long to wait for an artifact that a webhook named: CI creates a release first and uploads to it afterwards.
pub const ARTIFACT_WAIT: Span = Span::seconds(30 * 60);

/// How long a rollout waits for a server that limits requests: the limits of code hosts begin anew within the hour.
pub const RATE_LIMIT_WAIT: Span = Span::seconds(70 * 60);

/// Counts a failure to find an expected artifact: the next try comes after half of the time waited so far, at least 5 s
/// and at most two minutes.
pub fn await_artifact(before: Option<&Backoff>, error: &PortError, now: Timestamp, until: Timestamp) -> Backoff {
    let backoff = record_failure(before, error, now);
    let wait = Span((now.since(backoff.since).0 / 2).clamp(5_000, 120_000));
    let message = format!("{}; it may still be on its way and is tried again until {until}", error.message);
    Backoff { until: now.after(wait).min(until), reason: Reason::Fetching, message, ..backoff }
}

/// Folds a failed step into a project's progress: a permanent failure of a candidate rejects it, any other permanent
/// failure stalls the project, a transient one is retried.
pub fn record_failed_step(progress: &mut ProjectProgress, error: &PortError, now: Timestamp) {
    match (error.retry, progress.candidate()) {
        (Retry::Later, _) => progress.backoff = Some(record_failure(progress.backoff.as_ref(), error, now)),
        (Retry::Never | Retry::WhenPresent, Some(candidate)) => {
            let rejection = Rejection {
                reason: error.reason,
                message: error.message.clone(),
                kept_for_inspection: false,
                fetched: true,
            };
            reject(progress, candidate, rejection, now)
        }
        (Retry::Never | Retry::WhenPresent, None) => {
            progress.stalled =
                Some(Cause { reason: error.reason.to_owned(), message: error.message.clone(), since: now });
        }
    }
}

/// Why a rollout ends.
pub struct Rejection {
    pub reason: Reason,
    pub message: String,
    /// Whether the release stays up for inspection.
    pub kept_for_inspection: bool,
    /// Whether its artifact was on disk.
    pub fetched: bool,
}

/// What a rejection says of the serving release; the status says instead what became of it since.
pub fn serves_as_before(serving: ReleaseNo) -> String {
    format!("release {serving} serves as before")
}

/// What a rejection says of the serving release while the agent starts it again after a changeover.
pub fn started_again(serving: ReleaseNo) -> String {
    format!("release {serving} is started again")
}

/// Ends a rollout that failed. The serving release keeps serving; the project is stalled until its spec changes.
pub fn reject(progress: &mut ProjectProgress, number: ReleaseNo, why: Rejection, now: Timestamp) {
    let Rejection { reason, message, kept_for_inspection, fetched } = why;
    let serves = match progress.serving {
        Some(serving) if progress.rollout().is_some_and(|rollout| rollout.changeover_begun) => started_again(serving),
        Some(serving) => serves_as_before(serving),
        None => "nothing serves".to_owned(),
    };
    let again = if fetched { "when the spec changes" } else { "by `zexio sync`, or when the spec changes" };
    let stall = Cause {
        reason,
        message: format!("release {number} was rejected: {message}; {serves}; it is tried again {again}"),
        since: now,
    };
    let cause = Cause { message, ..stall.clone() };
    // A later generation may have asked for the same release: it failed for that one.
    let generation = progress.target_generation();
    progress.end_release(number, End::Rejected(Rejected { cause, generation, fetched, evidence: None }));
    progress.stalled = Some(stall);
    progress.end_rollout();
    progress.target = Target::Failed { release: number, kept_for_inspection };
    progress.backoff = None;
}
