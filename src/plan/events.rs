//! The events of a pass: what it decided, did and observed. Their reasons and texts are those of the status and the
//! plan; the executor adds none.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::desired::{Desired, Workload};
use crate::model::event::Event;
use crate::model::failure::PortError;
use crate::model::names::{ProjectId, ReleaseNo};
use crate::model::observed::{ForcedStop, Killed};
use crate::model::progress::{Backoff, Cause, End, Progress, ProjectProgress, Quarantine, Release, Target};
use crate::model::quantity::Timestamp;
use crate::model::reason::Reason;
use crate::model::status::{ConditionKind, ServiceState, ServiceStatus, Status};

use super::Step;
use super::check::Breach;
use super::status::UNREADABLE;

/// Returns the events for decisions: how the recorded progress changed.
pub fn for_changes(desired: &Desired, before: &Progress, after: &Progress, now: Timestamp) -> Vec<Event> {
    let nothing = ProjectProgress::default();
    let mut emitted = Vec::new();
    for (project, new) in &after.projects {
        let old = before.projects.get(project).unwrap_or(&nothing);
        if old == new {
            continue;
        }
        let generation = new.generation;
        let found = suspension_event(project, desired, old, new, now).into_iter().chain(decisions(old, new, now));
        emitted.extend(found.map(|event| event.of(project, generation)));
    }
    emitted
}

fn decisions(old: &ProjectProgress, new: &ProjectProgress, now: Timestamp) -> Vec<Event> {
    let mut emitted = Vec::new();
    for (number, release) in &new.releases {
        if let Some(End::Superseded(why)) = &release.end
            && old.candidate() == Some(*number)
        {
            let message = format!("release {number} was superseded: {}", why.message);
            emitted.push(Event::info(now, Reason::Superseded, message).to(Some(*number)));
        }
    }
    if let Some(serving) = new.serving.filter(|_| new.target == Target::Serving)
        && let Some(candidate) = old.candidate().filter(|candidate| new.release(*candidate).is_none())
    {
        let message =
            format!("the artifact of release {candidate} has the bytes of release {serving}, which keeps serving");
        emitted.push(Event::info(now, Reason::Unchanged, message).to(Some(serving)));
    }
    if let Some(candidate) = new.candidate().filter(|candidate| old.candidate() != Some(*candidate)) {
        emitted.push(Event::info(now, Reason::Trial, format!("release {candidate} is on trial")).to(Some(candidate)));
    }
    let verified =
        |progress: &ProjectProgress| progress.candidate().filter(|candidate| progress.routed() == Some(*candidate));
    if let Some(candidate) = verified(new).filter(|candidate| verified(old) != Some(*candidate)) {
        let message = format!("release {candidate} has the traffic and is verified through Caddy");
        emitted.push(Event::info(now, Reason::Trial, message).to(Some(candidate)));
    }
    if let Some(serving) = new.serving.filter(|serving| old.serving != Some(*serving)) {
        emitted
            .push(Event::info(now, Reason::Promoted, format!("release {serving} has the traffic")).to(Some(serving)));
    }
    let fetch = |progress: &ProjectProgress| {
        progress.rollout().and_then(|rollout| rollout.fetch.as_ref()).map(|fetch| fetch.backoff.clone())
    };
    emitted.extend(failed_fetch(fetch(old), fetch(new)).map(|event| event.to(new.candidate())));
    let rejected = rejected_now(old, new);
    match new_stall(&old.stalled, &new.stalled) {
        Some(event) => emitted.push(event.to(rejected)),
        // It failed while a newer generation waits: that one does not stall for it.
        None => emitted.extend(rejected.and_then(|number| failed_release(number, new))),
    }
    let why = |progress: &ProjectProgress| progress.quarantine.as_ref().map(Quarantine::cause);
    emitted.extend(new_stall(&why(old), &why(new)));
    emitted
}

fn failed_fetch(old: Option<Backoff>, new: Option<Backoff>) -> Option<Event> {
    // A fetch that restarts on request has no failures counted.
    let new = new.filter(|new| new.failures > 0 && old.is_none_or(|old| old.failures != new.failures))?;
    Some(Event::warning(new.last, new.reason, new.message))
}

fn new_stall(old: &Option<Cause>, new: &Option<Cause>) -> Option<Event> {
    let stall = new.as_ref().filter(|stall| old.as_ref() != Some(stall))?;
    Some(Event::warning(stall.since, stall.reason, &stall.message))
}

fn failed_release(number: ReleaseNo, progress: &ProjectProgress) -> Option<Event> {
    let ended = progress.release(number)?.end.as_ref()?.cause();
    Some(Event::warning(ended.since, ended.reason, &ended.message).to(Some(number)))
}

fn rejected_now(old: &ProjectProgress, new: &ProjectProgress) -> Option<ReleaseNo> {
    let rejected = |progress: &ProjectProgress, number: &ReleaseNo| {
        progress.release(*number).and_then(Release::rejected).is_some()
    };
    new.releases.keys().copied().find(|number| rejected(new, number) && !rejected(old, number))
}

fn suspension_event(
    project: &ProjectId,
    desired: &Desired,
    old: &ProjectProgress,
    new: &ProjectProgress,
    now: Timestamp,
) -> Option<Event> {
    match (old.suspended, new.suspended) {
        (None, Some(_)) => {
            let pause = desired.0.get(project).and_then(|wanted| wanted.suspension_at(now))?;
            Some(Event::info(now, Reason::Suspended, pause.message))
        }
        (Some(since), None) => Some(Event::info(
            now,
            Reason::Resumed,
            format!("the agent changes it again; it only observed since {since}"),
        )),
        _ => None,
    }
}

/// Returns the event for a step that was executed.
pub fn for_step(step: &Step, all_progress: &Progress, now: Timestamp) -> Event {
    let event = Event::info(now, step.reason.reason(), format!("{}: {}", step.action, step.reason));
    with_subject(event, step, all_progress)
}

/// Returns the event for a step that failed.
pub fn for_failed_step(step: &Step, error: &PortError, all_progress: &Progress, now: Timestamp) -> Event {
    let event = Event::warning(now, error.reason, format!("could not {}: {}", step.action, error.message));
    with_subject(event, step, all_progress)
}

fn with_subject(event: Event, step: &Step, all_progress: &Progress) -> Event {
    let Some(project) = step.action.project() else { return event };
    let generation = all_progress.projects.get(project).map_or(0, |progress| progress.generation);
    event.of(project, generation).to(step.action.facts().release)
}

/// Names the processes that were killed because they did not stop within their stop timeout.
pub fn for_forced_stop(stop: &ForcedStop, all_progress: &Progress, now: Timestamp) -> Event {
    /// At most this many processes are named.
    const NAMED: usize = 10;
    let ForcedStop { unit, killed } = stop;
    let progress = all_progress.projects.get(&unit.project);
    let mut names: Vec<String> =
        killed.iter().take(NAMED).map(|Killed { pid, program }| format!("{program} (pid {pid})")).collect();
    names.extend((killed.len() > NAMED).then(|| format!("{} more", killed.len() - NAMED)));
    let workload = progress.and_then(|progress| progress.workload_of(unit));
    let time =
        workload.map_or("its time".to_owned(), |Workload { stop, .. }| format!("{} of {:?}", stop.within, stop.signal));
    let message = format!("process {}: {} did not end within {time}; killed", unit.process, names.join(", "));
    let generation = progress.map_or(0, |progress| progress.generation);
    Event::warning(now, Reason::StopForced, message).of(&unit.project, generation).to(Some(unit.release))
}

/// Returns the event for a step that must not be executed.
pub fn for_breach(breach: &Breach, all_progress: &Progress, now: Timestamp) -> Event {
    let generation = all_progress.projects.get(&breach.project).map_or(0, |progress| progress.generation);
    let message = format!("refused an unsafe step: {breach}");
    Event::warning(now, Reason::Internal, message).of(&breach.project, generation)
}

/// Returns the events for the progress of a desired service: each message of the package manager, with its output if it
/// failed.
pub fn for_service(before: Option<&ServiceStatus>, status: &ServiceStatus, now: Timestamp) -> Option<Event> {
    let same = |old: &&ServiceStatus| {
        (&old.state, &old.reason, &old.message) == (&status.state, &status.reason, &status.message)
    };
    if status.observed_generation == 0 || before.filter(same).is_some() {
        return None;
    }
    let message = format!("{}: {}", status.service, status.message);
    if status.state != ServiceState::Failed {
        return Some(Event::info(now, status.reason, message));
    }
    let last = status.evidence[status.evidence.len().saturating_sub(5)..].iter();
    let news: Vec<&str> = last.map(String::as_str).filter(|line| !status.message.contains(line)).collect();
    let words = if news.is_empty() { String::new() } else { format!("; its last output: {}", news.join(" | ")) };
    Some(Event::warning(now, status.reason, message + &words))
}

/// Returns the events for what was observed: a project became Ready, or stopped being Ready without a decision or
/// request.
pub fn ready_changes(
    before: &BTreeMap<ProjectId, Status>,
    after: &BTreeMap<ProjectId, Status>,
    now: Timestamp,
) -> Vec<Event> {
    let pairs = after.iter().filter_map(|(project, new)| Some((before.get(project)?, new)));
    pairs.flat_map(|(old, new)| failed_runs(old, new).into_iter().chain(ready_change(old, new, now))).collect()
}

/// Names the scheduled runs that failed since the last observation.
fn failed_runs(old: &Status, new: &Status) -> Vec<Event> {
    let known: BTreeSet<(&str, Timestamp)> = old
        .processes
        .iter()
        .filter_map(|process| Some((process.unit.as_str(), process.last_run.as_ref()?.ended)))
        .collect();
    let failed = new.processes.iter().filter_map(|process| {
        let run = process.last_run.as_ref().filter(|run| !run.success)?;
        let message = format!("process {} {}; it runs again by its schedule", process.name, run.result);
        let event = Event::warning(run.ended, Reason::JobFailed, message).of(&new.project, new.generation);
        (!known.contains(&(process.unit.as_str(), run.ended))).then(|| event.to(Some(process.release)))
    });
    failed.collect()
}

fn ready_change(old: &Status, new: &Status, now: Timestamp) -> Option<Event> {
    let (was, is) = (old.condition(ConditionKind::Ready)?, new.condition(ConditionKind::Ready)?);
    // Anything else that makes a project unready was decided, and emitted as a decision.
    let stops = new.condition(ConditionKind::Stalled).is_some_and(|stalled| stalled.reason == is.reason);
    let undecided = old.generation == new.generation && new.candidate.is_none() && !stops;
    let event = match (was.holds, is.holds) {
        // The only stall that is not a decision.
        (_, false) if stops && is.reason == UNREADABLE && was.reason != UNREADABLE => {
            Event::warning(now, is.reason, &is.message)
        }
        (false, true) => Event::info(now, is.reason, &is.message),
        (true, false) if undecided => Event::warning(now, is.reason, &is.message),
        // No decision covers it, even for a release that was never Ready.
        (false, false) if is.reason.is_outage() && was.reason != is.reason => {
            Event::warning(now, is.reason, &is.message)
        }
        _ => return None,
    };
    Some(event.of(&new.project, new.generation).to(new.serving))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(run: Option<(u64, bool)>) -> BTreeMap<ProjectId, Status> {
        let last_run = run.map(|(ended, success)| {
            serde_json::json!({ "ended": Timestamp(ended), "success": success, "result": "exited with status 7" })
        });
        let process = serde_json::json!({
            "name": "report", "release": 2, "unit": "zexio-jobs-report-r2.service", "state": "failed", "sub_state": "failed",
            "pid": null, "memory_bytes": null, "cpu_seconds": null, "restarts": 0, "since": null, "last_run": last_run,
        });
        let status = serde_json::json!({
            "project": "jobs", "generation": 2, "observed_generation": 2, "observed_at": Timestamp(0), "owner": "api",
            "state": "running", "conditions": [], "serving": 2, "candidate": null, "last_good": 2, "rejected": [],
            "processes": [process], "routes": [],
        });
        let status: Status = serde_json::from_value(status).unwrap();
        [(status.project.clone(), status)].into()
    }

    /// A status with these conditions: kind, whether it holds, reason.
    fn with(conditions: &[(ConditionKind, bool, Reason)], candidate: Option<u32>) -> BTreeMap<ProjectId, Status> {
        let mut all = status(None);
        for status in all.values_mut() {
            status.candidate = candidate.map(crate::model::names::ReleaseNo);
            let condition = |&(kind, holds, reason)| {
                serde_json::from_value(serde_json::json!({
                    "type": kind, "status": if holds { "True" } else { "False" }, "reason": reason, "since": Timestamp(0),
                    "message": "so it is",
                }))
                .unwrap()
            };
            status.conditions = conditions.iter().map(condition).collect();
        }
        all
    }

    #[test]
    fn what_nobody_decided_is_emitted_once() {
        use ConditionKind::{Ready, Stalled};
        let emitted = |before: &[_], after: &[_], candidate| {
            let events = ready_changes(&with(before, None), &with(after, candidate), Timestamp(9_000));
            events.iter().map(|event| event.reason).collect::<Vec<_>>()
        };
        let serves = [(Ready, true, Reason::Serving)];
        let not = |reason| [(Ready, false, reason)];
        let stalled = |reason| [(Ready, false, reason), (Stalled, true, reason)];
        assert_eq!(emitted(&not(Reason::ProcessDown), &serves, None), [Reason::Serving]);
        assert_eq!(emitted(&serves, &not(Reason::ProcessDown), None), [Reason::ProcessDown]);
        assert_eq!(emitted(&serves, &not(Reason::ProcessDown), Some(3)), [], "a rollout is a decision");
        assert_eq!(emitted(&serves, &stalled(Reason::DeadlineExceeded), None), [], "so is a rejection");
        assert_eq!(emitted(&serves, &stalled(UNREADABLE), None), [UNREADABLE]);
        assert_eq!(emitted(&stalled(UNREADABLE), &stalled(UNREADABLE), None), []);
        assert_eq!(emitted(&not(Reason::Queued), &not(UNREADABLE), None), [], "it is not stalled by it");
        for outage in [Reason::ProcessDown, Reason::OutOfMemory, Reason::RouteFailing] {
            assert_eq!(emitted(&not(Reason::Queued), &not(outage), None), [outage]);
            assert_eq!(emitted(&not(outage), &not(outage), None), []);
        }
        assert_eq!(emitted(&not(Reason::Queued), &not(Reason::Fetching), None), []);
        assert_eq!(emitted(&serves, &serves, None), []);
    }

    #[test]
    fn at_most_ten_killed_processes_are_named() {
        let unit = crate::model::names::UnitId {
            project: "shop".parse().unwrap(),
            process: "web".parse().unwrap(),
            release: crate::model::names::ReleaseNo(1),
            instance: None,
        };
        let message = |count: u32| {
            let killed = (0..count).map(|pid| Killed { pid, program: "node".into() }).collect();
            for_forced_stop(&ForcedStop { unit: unit.clone(), killed }, &Progress::default(), Timestamp(0)).message
        };
        assert_eq!(message(1), "process web: node (pid 0) did not end within its time; killed");
        assert!(message(9).contains("node (pid 8) did") && message(10).contains("node (pid 9) did"));
        assert!(message(11).contains("node (pid 9), 1 more did"), "{}", message(11));
    }

    #[test]
    fn each_failed_run_is_emitted_once() {
        let emitted = |before, after| {
            let events = ready_changes(&status(before), &status(after), Timestamp(9_000));
            events.into_iter().map(|event| format!("{} {}", event.reason, event.message)).collect::<Vec<_>>()
        };
        let failed = ["JobFailed process report exited with status 7; it runs again by its schedule"];
        assert_eq!(emitted(None, Some((5, false))), failed);
        assert_eq!(emitted(Some((5, false)), Some((7, false))), failed);
        assert_eq!(emitted(Some((5, true)), Some((7, false))), failed);
        assert!(emitted(Some((5, false)), Some((5, false))).is_empty());
        assert!(emitted(Some((5, false)), Some((7, true))).is_empty() && emitted(Some((5, false)), None).is_empty());
    }
}
