//! What becomes of a failure: it is tried again after a while, or it waits for somebody to change something.

use crate::model::failure::{Lasting, PortError};
use crate::model::progress::{Backoff, ProjectProgress, Stall};
use crate::model::quantity::{Span, Timestamp};

/// Counts a failure that may pass: the next try waits 5 s, 10 s, … 5 min, or as long as the other side asked.
pub fn strike(before: Option<&Backoff>, error: &PortError, now: Timestamp) -> Backoff {
    let strikes = before.map_or(0, |old| old.strikes) + 1;
    let own = Span::seconds(5 << (strikes - 1).min(6)).min(Span::seconds(300));
    let asked = error.retry_after.map_or(Span(0), |wait| Span(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
    Backoff {
        strikes,
        until: now.after(own.max(asked.min(Span::seconds(600)))),
        reason: error.reason.to_owned(),
        message: error.message.clone(),
        last: now,
        since: before.map_or(now, |old| old.since),
    }
}

/// Folds a failed step into a project's memory: a candidate's lasting failure rejects it, any other lasting failure
/// stalls the project, a passing one waits for its next try.
pub fn of_failed_step(memory: &mut ProjectProgress, error: &PortError, now: Timestamp) {
    match (error.lasting, memory.candidate()) {
        (Lasting::No, _) => memory.backoff = Some(strike(memory.backoff.as_ref(), error, now)),
        (Lasting::Yes, Some(candidate)) => {
            super::advance::reject(memory, candidate, error.reason, error.message.clone(), false, now)
        }
        (Lasting::Yes, None) => {
            memory.stalled =
                Some(Stall { reason: error.reason.to_owned(), message: error.message.clone(), since: now });
        }
    }
}
