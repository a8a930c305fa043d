//! The two judgements: whether a candidate is good, and whether a failure is worth another try.

use std::collections::BTreeMap;

use crate::model::desired::Work;
use crate::model::failure::{Lasting, PortError};
use crate::model::names::{ProjectId, ReleaseNo, UnitId};
use crate::model::observed::{ActiveState, FetchSeen, Probed, Seen, UnitSeen};
use crate::model::progress::{Backoff, ProjectProgress, Stall, Trial};
use crate::model::quantity::{Span, Timestamp};
use crate::model::spec::{Deploy, Ready};

/// A process that fell this often within its trial does not come up by itself.
const FALLS: u32 = 3;

/// What is to be thought of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet; at this moment time alone may change that.
    Wait(Timestamp),
    /// It was healthy for long enough.
    Healthy,
    /// It is not to get traffic.
    Reject {
        /// The reason's name in the API.
        reason: &'static str,
        /// What it showed.
        message: String,
    },
}

/// Judges a candidate by what the machine shows of it.
pub fn of_candidate(
    project: &ProjectId,
    number: ReleaseNo,
    memory: &ProjectProgress,
    trial: &Trial,
    deploy: &Deploy,
    seen: &Seen,
    now: Timestamp,
) -> Verdict {
    let deadline = trial.since.after(deploy.deadline);
    let Some(units) = seen.units.known() else { return Verdict::Wait(deadline) };
    let on_disk = seen.bundles.known().is_some_and(|bundles| bundles.releases.contains_key(&number));
    let command = memory.command_unit(project, number).map(|unit| of_command(units.get(&unit), trial, now));
    let processes = memory.units_of(project, number).into_iter().map(|unit| match memory.work_of(&unit) {
        Some(work) if work.is_daemon() => {
            of_process(work, units.get(&unit), &unit, &seen.health, trial, deploy.min_healthy, now)
        }
        // What runs by a calendar proves nothing before its time; that it was written is all there is to see.
        _ if units.get(&unit).is_some_and(|seen| seen.text.is_some()) => Verdict::Healthy,
        _ => Verdict::Wait(now.after(Span::seconds(1))),
    });
    let site = if on_disk { Verdict::Healthy } else { Verdict::Wait(deadline) };
    let judged: Vec<Verdict> = command.into_iter().chain(processes).chain([site]).collect();
    if let Some(reject) = judged.iter().find(|verdict| matches!(verdict, Verdict::Reject { .. })) {
        return reject.clone();
    }
    if judged.iter().all(|verdict| *verdict == Verdict::Healthy) {
        return Verdict::Healthy;
    }
    if now >= deadline {
        return Verdict::Reject { reason: "DeadlineExceeded", message: past_deadline(trial, deploy, seen, number) };
    }
    let soonest =
        judged.iter().filter_map(|verdict| if let Verdict::Wait(at) = verdict { Some(*at) } else { None }).min();
    Verdict::Wait(soonest.unwrap_or(deadline).min(deadline))
}

/// Judges a release command: it has to run to its end once, and well.
fn of_command(unit: Option<&UnitSeen>, trial: &Trial, now: Timestamp) -> Verdict {
    let later = Verdict::Wait(now.after(Span::seconds(1)));
    let Some(unit) = unit.filter(|unit| unit.state == ActiveState::Failed && trial.saw(unit)) else { return later };
    let how = match (unit.result.as_str(), unit.exit) {
        ("timeout", _) => "took longer than its timeout and was stopped".to_owned(),
        ("oom-kill", _) => "was killed for want of memory".to_owned(),
        (_, Some(exit)) => exit.to_string(),
        (result, None) => format!("failed: {result}"),
    };
    Verdict::Reject { reason: "ReleaseCommandFailed", message: format!("its release command {how}") }
}

fn past_deadline(trial: &Trial, deploy: &Deploy, seen: &Seen, number: ReleaseNo) -> String {
    // A fetch that failed was counted before anything is judged.
    let stood_at = match (seen.fetches.get(&number), &trial.fetch) {
        (Some(FetchSeen::Running { .. }), _) => "its artifact was still being fetched".to_owned(),
        (_, Some(backoff)) => format!("its artifact could not be had: {}", backoff.message),
        (_, None) => "its processes were not all ready".to_owned(),
    };
    format!("the rollout was not done within its deadline of {}; {stood_at}", deploy.deadline)
}

fn of_process(
    work: &Work,
    unit: Option<&UnitSeen>,
    id: &UnitId,
    health: &BTreeMap<UnitId, Probed>,
    trial: &Trial,
    min_healthy: Span,
    now: Timestamp,
) -> Verdict {
    let later = Verdict::Wait(now.after(Span::seconds(1)));
    // One that stops or was stopped, as that of a release which drained, is started anew.
    let is_on = |unit: &&UnitSeen| !matches!(unit.state, ActiveState::Deactivating | ActiveState::Inactive);
    let Some(unit) = unit.filter(is_on) else { return later };
    let since = unit.since.unwrap_or(now);
    // What fell and waits for its next start is not among its restarts yet.
    let falls = unit.restarts + u32::from(unit.exit.is_some());
    // systemd shows how a process ended only until the next one starts; one more fall is waited for rather than judge
    // without that.
    let fell = falls > FALLS || falls == FALLS && unit.exit.is_some();
    if trial.saw(unit) && (fell || unit.state == ActiveState::Failed) {
        let how = match unit.exit {
            _ if unit.result == "oom-kill" => "was killed for want of memory".to_owned(),
            Some(exit) => exit.to_string(),
            None => "ended".to_owned(),
        };
        let often = if falls > 1 { format!(", {falls} times since it was started") } else { String::new() };
        let message = format!("process {} {how}{often}", id.process);
        return Verdict::Reject { reason: "HealthCheckFailed", message };
    }
    // A release that is gone back to may run already: it is asked since its trial began.
    let asked_since = since.max(trial.since);
    let ready_since = match &work.ready {
        Some(ready) if ready.notify => {
            if unit.state == ActiveState::Activating && now >= asked_since.after(ready.within) {
                return not_ready(id, ready, "it did not notify systemd");
            }
            (unit.state == ActiveState::Active).then_some(since)
        }
        Some(ready) => {
            let probed = health.get(id).filter(|probed| probed.invocation == unit.invocation);
            // Only a probe made after the time was up can say that it was not enough: an agent that slept meanwhile
            // must look once more.
            match probed {
                Some(Probed { ok_since: None, at, last, .. }) if *at >= asked_since.after(ready.within) => {
                    return not_ready(id, ready, last);
                }
                _ => probed.and_then(|probed| probed.ok_since).filter(|_| unit.state == ActiveState::Active),
            }
        }
        None => (unit.state == ActiveState::Active).then_some(since),
    };
    match ready_since {
        Some(ok) if now >= ok.after(min_healthy) => Verdict::Healthy,
        Some(ok) => Verdict::Wait(ok.after(min_healthy)),
        None => later,
    }
}

fn not_ready(id: &UnitId, ready: &Ready, last: &str) -> Verdict {
    let message = format!("process {} was not ready within {}; {last}", id.process, ready.within);
    Verdict::Reject { reason: "HealthCheckFailed", message }
}

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
