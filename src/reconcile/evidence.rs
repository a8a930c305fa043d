//! Keeps the evidence of a failed release before its units are stopped and removed.

use std::collections::BTreeSet;

use crate::model::desired::{Desired, DesiredProject, Workload};
use crate::model::layout::{Layout, user_of};
use crate::model::names::{ProcessName, ProjectId, ReleaseNo, UnitId};
use crate::model::observed::{FetchSeen, Observed, ObservedProject, PortHolder, UnitSeen};
use crate::model::progress::{Cause, Evidence, Progress, ProjectProgress, Release};
use crate::model::quantity::Bytes;
use crate::model::spec::{Sandbox, Spec, Strategy};
use crate::plan::decisive;
use crate::plan::hints::{self, Neighbours, Paths};
use crate::port::{LogLine, Tail};

/// How many log lines are kept of a release.
const LINES: u32 = 100;

/// Gathers the evidence of every rejected release that has none yet, and adds hints from its log to its reason.
pub fn gather(desired: &Desired, observed: &Observed, all_progress: &mut Progress, layout: &Layout, tail: &dyn Tail) {
    for (project, seen) in &observed.projects {
        let Some(progress) = all_progress.projects.get_mut(project) else { continue };
        let open = |number: &ReleaseNo| {
            let rejected = progress.release(*number).and_then(Release::rejected);
            rejected.is_some_and(|rejected| rejected.evidence.is_none())
        };
        for number in progress.releases.keys().copied().filter(open).collect::<Vec<_>>() {
            let limit = progress.release(number).and_then(|release| release.content.limits.memory);
            let (evidence, log) = release_evidence(project, number, limit, seen, tail);
            let own = own_lines(&log, &failed_units(number, seen));
            let spec = desired.0.get(project).and_then(DesiredProject::spec);
            let failed = spec.map(|spec| failed_beside(spec, progress, number, seen)).unwrap_or_default();
            let (release, data, user) = (layout.release(project, number), layout.data(project), user_of(project));
            let off = progress.release(number).is_some_and(|release| release.content.sandbox == Sandbox::Off);
            let paths = Paths { release: &release, data: &data, unconfined: off.then_some(&user) };
            let old = serving_units(progress, seen);
            let listeners = if hints::mentions_ports(&own) { tail.listeners() } else { None };
            let listeners = listeners.map(|mut listeners| {
                listeners.retain(|held| !old.iter().any(|unit| is_assigned(held, unit, progress)));
                listeners
            });
            let old: Vec<String> = old.into_iter().map(UnitId::name).collect();
            let neighbours = Neighbours { failed: &failed, old: &old, listeners: listeners.as_deref() };
            // What a hint is about may have been harmless; the line lets its author judge.
            let line = last_words(&own).map(|line| format!("its log says: {line}"));
            let hints: Vec<String> = line.into_iter().chain(hints::from_log(&own, neighbours, paths)).collect();
            explain(progress, number, &hints);
            if let Some(rejected) = progress.releases.get_mut(&number).and_then(Release::rejected_mut) {
                rejected.evidence = Some(evidence);
            }
        }
    }
}

/// Returns the names of a release's units whose process ended.
fn failed_units(number: ReleaseNo, seen: &ObservedProject) -> BTreeSet<String> {
    let units = seen.units.known().into_iter().flatten().filter(|(unit, _)| unit.release == number);
    units.filter(|(_, seen)| seen.exit.is_some() || seen.restarts > 0).map(|(unit, _)| unit.name()).collect()
}

/// Returns what the app itself wrote, and not systemd about it: of the units that failed, if any of them wrote.
fn own_lines(log: &[LogLine], failed: &BTreeSet<String>) -> Vec<String> {
    let own: Vec<&LogLine> = log.iter().filter(|line| line.own).collect();
    let of_failed: Vec<&LogLine> = own.iter().copied().filter(|line| failed.contains(&line.unit)).collect();
    let lines = if of_failed.is_empty() { own } else { of_failed };
    lines.into_iter().map(shown).collect()
}

/// Returns the line that names the cause, but for the launcher's own, which is a hint itself.
fn last_words(own: &[String]) -> Option<String> {
    let lines: Vec<&str> = own.iter().filter_map(|line| Some(line.split_once(' ')?.1)).collect();
    decisive::line(&lines).filter(|line| !line.starts_with("could not run \""))
}

fn shown(line: &LogLine) -> String {
    format!("{} {}", line.time, line.message)
}

fn serving_units<'a>(progress: &ProjectProgress, seen: &'a ObservedProject) -> Vec<&'a UnitId> {
    let units = seen.units.known().into_iter().flatten();
    units.map(|(unit, _)| unit).filter(|unit| Some(unit.release) == progress.serving).collect()
}

/// Whether a unit listens on the port that it was given.
fn is_assigned(held: &PortHolder, unit: &UnitId, progress: &ProjectProgress) -> bool {
    progress.port_of(unit) == Some(held.port) && held.unit.as_ref() == Some(&unit.name())
}

/// Returns the processes of a release that failed while the old release ran beside them.
fn failed_beside(
    spec: &Spec,
    progress: &ProjectProgress,
    number: ReleaseNo,
    seen: &ObservedProject,
) -> Vec<ProcessName> {
    let units = || seen.units.known().into_iter().flatten();
    let old_runs = units().any(|(unit, seen)| Some(unit.release) == progress.serving && seen.is_up());
    let failed = units().filter(|(unit, seen)| {
        let hands_over = spec.strategy_of(&unit.process) == Strategy::Handover;
        old_runs && unit.release == number && hands_over && progress.workload_of(unit).is_some_and(Workload::is_daemon)
            // A process that keeps running without its second port, or waits for its lock, is not ready.
            && (seen.exit.is_some() || seen.restarts > 0 || progress.workload_of(unit).is_some_and(|workload| workload.ready.is_some()))
    });
    let mut failed: Vec<(bool, ProcessName)> =
        failed.map(|(unit, seen)| (seen.exit.is_none() && seen.restarts == 0, unit.process.clone())).collect();
    failed.sort();
    failed.into_iter().map(|(_, process)| process).collect()
}

fn explain(progress: &mut ProjectProgress, number: ReleaseNo, hints: &[String]) {
    let Some(rejected) = progress.releases.get_mut(&number).and_then(Release::rejected_mut) else { return };
    let ended = &mut rejected.cause;
    let before = ended.message.clone();
    for hint in hints {
        ended.message = format!("{}; {hint}", ended.message);
    }
    // The stall of the same rejection says what happened, and then what still serves.
    let same = |stall: &&mut Cause| (stall.reason, stall.since) == (ended.reason, ended.since);
    if let Some(stall) = progress.stalled.as_mut().filter(same) {
        stall.message = stall.message.replacen(&before, &ended.message, 1);
    }
}

fn release_evidence(
    project: &ProjectId,
    number: ReleaseNo,
    limit: Option<Bytes>,
    seen: &ObservedProject,
    tail: &dyn Tail,
) -> (Evidence, Vec<LogLine>) {
    let units: Vec<(&UnitId, &UnitSeen)> = seen
        .units
        .known()
        .into_iter()
        .flatten()
        .filter(|(unit, _)| unit.release == number && unit.project == *project)
        .collect();
    let mut findings: Vec<String> = seen.fetches.get(&number).and_then(fetch_failure).into_iter().collect();
    findings.extend(units.iter().map(|(unit, seen)| unit_ending(unit, seen, limit)));
    for (unit, probed) in seen.health.iter().filter(|(unit, _)| unit.release == number) {
        findings.push(format!("{}: {} probes; the last findings:", unit.process, probed.tries));
        findings.extend(probed.transcript.iter().map(|line| format!("  {line}")));
    }
    for (visit, visited) in seen.visits.iter().filter(|(visit, _)| visit.release == number) {
        findings.push(format!("{}: asked through Caddy; the last findings:", visit.process));
        findings.extend(visited.transcript.iter().map(|line| format!("  {line}")));
    }
    // A release whose artifact never arrived has no unit, and so no log.
    let named: Vec<UnitId> = units.into_iter().map(|(unit, _)| unit.clone()).collect();
    let log = if named.is_empty() { Vec::new() } else { tail.tail(&named, LINES) };
    (Evidence { findings, log: log.iter().map(shown).collect() }, log)
}

/// Describes how its fetch failed, if it did.
fn fetch_failure(fetch: &FetchSeen) -> Option<String> {
    match fetch {
        FetchSeen::Failed { at, error } => Some(format!("artifact: {at} {}: {}", error.reason, error.message)),
        FetchSeen::Running { .. } => None,
    }
}

fn unit_ending(unit: &UnitId, seen: &UnitSeen, limit: Option<Bytes>) -> String {
    let exit = seen.ending(limit).unwrap_or_else(|| "has not ended".to_owned());
    let restarts =
        if seen.restarts > 0 { format!("; systemd restarted it {} times", seen.restarts) } else { String::new() };
    format!("{}: {exit}{restarts}; {}/{}", unit.process, state(seen), seen.sub_state)
}

fn state(seen: &UnitSeen) -> &'static str {
    use crate::model::observed::ActiveState::{Activating, Active, Deactivating, Failed, Inactive, Reloading};
    match seen.state {
        Active => "active",
        Reloading => "reloading",
        Inactive => "inactive",
        Failed => "failed",
        Activating => "activating",
        Deactivating => "deactivating",
    }
}

#[cfg(test)]
mod tests {
    use super::{last_words, own_lines};
    use crate::model::quantity::Timestamp;
    use crate::port::LogLine;

    #[test]
    fn what_systemd_says_of_a_unit_is_no_word_of_the_app() {
        let line = |unit: &str, own: bool, message: &str| LogLine {
            time: Timestamp(0),
            unit: unit.to_owned(),
            priority: None,
            message: message.to_owned(),
            own,
        };
        let log = [
            line("web", false, "Started web.service - zexio app shop, process web, release 1."),
            line("web", true, "socket.gaierror: [Errno -3] Temporary failure in name resolution"),
            line("web", false, "web.service: Main process exited, code=exited, status=1/FAILURE"),
            line("web", false, "web.service: Failed with result 'exit-code'."),
            line("mail", true, "error: queue is empty"),
        ];
        let decisive = |log: &[LogLine], failed: &[&str]| {
            last_words(&own_lines(log, &failed.iter().map(|unit| (*unit).to_owned()).collect()))
        };
        let gai = Some("socket.gaierror: [Errno -3] Temporary failure in name resolution".to_owned());
        assert_eq!(decisive(&log, &["web"]), gai);
        assert_eq!(decisive(&log[..4], &[]), gai);
        assert_eq!(decisive(&log, &["silent"]).as_deref(), Some("error: queue is empty"));
        assert_eq!(decisive(&[log[0].clone(), log[3].clone()], &["web"]), None);
    }
}
