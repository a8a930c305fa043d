//! What is being done for a project: a wait, a retry, a rollout, a drain.

use crate::model::desired::Intent;
use crate::model::names::ReleaseNo;
use crate::model::observed::FetchSeen;
use crate::model::quantity::Bytes;
use crate::model::reason::Reason;

use super::input::{Finding, StatusInput};
use super::processes::down_process;

pub(super) fn reconciling(input: &StatusInput<'_>) -> Option<Finding> {
    if let Some(finding) = waiting(input) {
        return Some(finding);
    }
    if let Some(backoff) = &input.progress.backoff {
        let message = format!(
            "{}; failed {} since {}, next try at {}",
            backoff.message,
            backoff.times(),
            backoff.since,
            backoff.until
        );
        return Some((backoff.reason, message));
    }
    let Some(rollout) = input.progress.rollout() else {
        let down = down_process(input).filter(|_| matches!(input.wanted.intent, Intent::Run(_)));
        return down.or_else(|| draining(input));
    };
    let candidate = rollout.release;
    let backoff = rollout.fetch.as_ref().map(|fetch| &fetch.backoff);
    if let Some(backoff) = backoff.filter(|backoff| backoff.until > input.observed.now) {
        let message = format!("{}; failed {}, next try at {}", backoff.message, backoff.times(), backoff.until);
        return Some((backoff.reason, message));
    }
    if let Some(before) = input.queue.iter().position(|project| project == input.project) {
        return Some((Reason::Queued, queued_message(candidate, before)));
    }
    Some(match input.seen.fetches.get(&candidate) {
        Some(FetchSeen::Running { unpacking: true, .. }) => {
            (Reason::Unpacking, format!("unpacking release {candidate}"))
        }
        Some(FetchSeen::Running { bytes, of, .. }) => {
            (Reason::Fetching, format!("fetching release {candidate}: {}", amount(*bytes, *of)))
        }
        Some(FetchSeen::Failed { .. }) => (Reason::Fetching, format!("fetching release {candidate} again")),
        None => (Reason::Trial, trial_message(input, candidate)),
    })
}

/// Returns what the next rollout waits for.
pub(super) fn waiting(input: &StatusInput<'_>) -> Option<Finding> {
    input.progress.waits_for_services.as_ref().map(|waits| (waits.reason, waits.message.clone()))
}

/// A long queue is shown in tens, since each change of the message is written to the disk.
fn queued_message(candidate: ReleaseNo, before: usize) -> String {
    let others = match before {
        0 => "it is next".to_owned(),
        1..10 => format!("{before} before it"),
        _ => format!("more than {} before it", before / 10 * 10 - 1),
    };
    format!("the start of release {candidate} waits for those of other projects, {others}; its deadline does not run")
}

fn trial_message(input: &StatusInput<'_>, candidate: ReleaseNo) -> String {
    if input.progress.routed() == Some(candidate) {
        let asked = input.seen.visits.iter().find(|(visit, _)| visit.release == candidate);
        let found = asked.map_or(String::new(), |(_, visited)| format!(": {}", visited.last));
        return format!("release {candidate} has the traffic and is verified through Caddy{found}");
    }
    let waiting: Vec<String> = input
        .seen
        .health
        .iter()
        .filter(|(unit, probed)| unit.release == candidate && probed.ok_since.is_none())
        .map(|(unit, probed)| format!("{}: {}", unit.process, probed.last))
        .collect();
    match (waiting.is_empty(), input.progress.serving) {
        (true, _) => format!("release {candidate} is starting and must stay healthy before it gets traffic"),
        (false, _) => format!("release {candidate} is not ready yet; {}", waiting.join("; ")),
    }
}

/// A release that was stopped before the new one started has no requests to finish.
pub(super) fn draining(input: &StatusInput<'_>) -> Option<Finding> {
    let may_have_requests = |number| crate::plan::traffic::may_have_requests(number, input.seen, input.progress);
    let draining = input.progress.draining.as_ref().filter(|draining| may_have_requests(draining.release))?;
    Some((Reason::Draining, format!("release {} finishes its requests until {}", draining.release, draining.until)))
}

fn amount(bytes: u64, of: Option<u64>) -> String {
    match of {
        Some(of) if of > 0 => format!("{} of {} ({} %)", Bytes(bytes), Bytes(of), bytes.saturating_mul(100) / of),
        _ => format!("{} so far", Bytes(bytes)),
    }
}
