//! Keeps what a release showed when it failed, before its units are stopped and removed.

use crate::model::names::{ProjectId, ReleaseNo, UnitId};
use crate::model::observed::{FetchSeen, Observed, Seen, UnitSeen};
use crate::model::progress::{Evidence, Progress, ReleaseState};
use crate::model::quantity::Bytes;
use crate::port::Tail;

/// How many log lines are kept of a release.
const LINES: u32 = 100;

/// Gathers the evidence of every rejected release that has none yet.
pub fn gather(observed: &Observed, progress: &mut Progress, tail: &dyn Tail) {
    for (project, seen) in &observed.projects {
        let Some(memory) = progress.projects.get_mut(project) else { continue };
        let open = |number: &ReleaseNo| {
            memory
                .release(*number)
                .is_some_and(|release| release.state == ReleaseState::Rejected && release.evidence.is_none())
        };
        for number in memory.releases.keys().copied().filter(open).collect::<Vec<_>>() {
            let limit = memory.release(number).and_then(|release| release.content.limits.memory);
            let evidence = of_release(project, number, limit, seen, tail);
            if let Some(release) = memory.releases.get_mut(&number) {
                release.evidence = Some(evidence);
            }
        }
    }
}

fn of_release(project: &ProjectId, number: ReleaseNo, limit: Option<Bytes>, seen: &Seen, tail: &dyn Tail) -> Evidence {
    let units: Vec<(&UnitId, &UnitSeen)> = seen
        .units
        .known()
        .into_iter()
        .flatten()
        .filter(|(unit, _)| unit.release == number && unit.project == *project)
        .collect();
    let mut findings: Vec<String> = seen.fetches.get(&number).and_then(failure).into_iter().collect();
    findings.extend(units.iter().map(|(unit, seen)| ending(unit, seen, limit)));
    for (unit, probed) in seen.health.iter().filter(|(unit, _)| unit.release == number) {
        findings.push(format!("{}: {} probes; the last findings:", unit.process, probed.tries));
        findings.extend(probed.transcript.iter().map(|line| format!("  {line}")));
    }
    // A release whose artifact never came has no unit, and so no last words.
    let named: Vec<UnitId> = units.into_iter().map(|(unit, _)| unit.clone()).collect();
    let log = if named.is_empty() { Vec::new() } else { tail.tail(&named, LINES) };
    Evidence { findings, log }
}

/// What became of its artifact, if nothing did.
fn failure(fetch: &FetchSeen) -> Option<String> {
    match fetch {
        FetchSeen::Failed { at, error } => Some(format!("artifact: {at} {}: {}", error.reason, error.message)),
        FetchSeen::Running { .. } => None,
    }
}

fn ending(unit: &UnitId, seen: &UnitSeen, limit: Option<Bytes>) -> String {
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
