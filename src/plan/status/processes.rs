//! The processes in a project's status: each of them, which is down, and what is reported although the project serves.

use std::collections::BTreeMap;

use crate::model::desired::{Workload, WorkloadKind};
use crate::model::names::{ProcessName, UnitId};
use crate::model::observed::{ActiveState, Exit, UnitSeen};
use crate::model::progress::ProjectProgress;
use crate::model::reason::Reason;
use crate::model::status::{LastRun, ProcessStatus, ShortRuns};
use crate::plan::restarts;

use super::input::{Finding, StatusInput};
use super::stalled::suspended;

pub(super) fn processes(input: &StatusInput<'_>) -> Vec<ProcessStatus> {
    let Some(units) = input.seen.units.known() else { return Vec::new() };
    let shown = units.iter().map(|(unit, seen)| {
        let port = input.progress.port_of(unit);
        let slot = input.progress.release(unit.release).filter(|_| port.is_some()).map(|release| release.slot);
        ProcessStatus {
            name: unit.process.clone(),
            release: unit.release,
            unit: unit.name(),
            state: seen.state,
            sub_state: seen.sub_state.clone(),
            pid: seen.pid,
            slot,
            port,
            memory_bytes: seen.memory_bytes,
            cpu_seconds: seen.cpu_nanos.map(|nanos| nanos as f64 / 1e9),
            tasks: seen.tasks,
            io_read_bytes: seen.io_read_bytes,
            io_write_bytes: seen.io_write_bytes,
            restarts: seen.restarts,
            since: seen.since,
            last_run: last_run(input.progress, unit, seen),
            short_runs: short_runs(input, unit, seen),
        }
    });
    let mut shown: Vec<ProcessStatus> = shown.collect();
    shown.sort_by_key(|process| {
        (Some(process.release) != input.progress.serving, process.release, process.name.clone())
    });
    shown
}

/// Returns which process of the serving release is not up.
pub(super) fn down_process(input: &StatusInput<'_>) -> Option<Finding> {
    if input.progress.serving.is_some() && input.seen.units.known().is_none() {
        return Some((Reason::Unknown, "systemd could not be asked; what is shown may be old".into()));
    }
    serving_daemons(input).into_iter().find_map(|unit| down(input, &unit))
}

/// Returns which process of the serving release ended by itself and is not up. One that the agent stopped or is about to
/// start did not.
pub(super) fn fallen_process(input: &StatusInput<'_>) -> Option<Finding> {
    serving_daemons(input).into_iter().filter(|unit| has_fallen(input, unit)).find_map(|unit| down(input, &unit))
}

/// Returns how all that a process runs in the serving release has fallen: a request to it gets no answer.
pub(super) fn fallen(input: &StatusInput<'_>, process: &ProcessName) -> Option<String> {
    let units: Vec<UnitId> = serving_daemons(input).into_iter().filter(|unit| unit.process == *process).collect();
    let is_down = |unit: &UnitId| !is_up(input, unit) && has_fallen(input, unit);
    let (_, how) = units.iter().all(is_down).then(|| down(input, units.first()?))??;
    Some(how)
}

fn serving_daemons(input: &StatusInput<'_>) -> Vec<UnitId> {
    let units = input.progress.serving.map(|serving| input.progress.units_of(input.project, serving));
    let is_daemon = |unit: &UnitId| input.progress.workload_of(unit).is_some_and(Workload::is_daemon);
    units.into_iter().flatten().filter(is_daemon).collect()
}

fn seen<'a>(input: &'a StatusInput<'_>, unit: &UnitId) -> Option<&'a UnitSeen> {
    input.seen.units.known()?.get(unit)
}

fn is_up(input: &StatusInput<'_>, unit: &UnitId) -> bool {
    seen(input, unit).is_some_and(|seen| matches!(seen.state, ActiveState::Active | ActiveState::Reloading))
}

fn has_fallen(input: &StatusInput<'_>, unit: &UnitId) -> bool {
    let Some(seen) = seen(input, unit) else { return false };
    let restarts = seen.restarts > 0 || seen.sub_state == "auto-restart";
    match seen.state {
        // Three short runs in a row; `down` judges that.
        ActiveState::Active => true,
        ActiveState::Activating => restarts,
        // It was stopped, and may have ended badly by that.
        _ => false,
    }
}

fn down(input: &StatusInput<'_>, unit: &UnitId) -> Option<Finding> {
    let seen = seen(input, unit);
    let workload = input.progress.workload_of(unit);
    let runs = seen.map(|seen| short_runs(input, unit, seen)).unwrap_or_default();
    if let Some((reason, unsteady)) = restarts::crash_loop(&runs, workload) {
        return Some((reason, format!("process {} {unsteady}", unit.process)));
    }
    if is_up(input, unit) {
        return None;
    }
    let limit = input.progress.release(unit.release).and_then(|release| release.content.limits.memory);
    let how = seen.and_then(|seen| seen.ending(limit)).unwrap_or_else(|| "is not running".to_owned());
    let next = match seen.filter(|seen| seen.state == ActiveState::Activating) {
        Some(seen) if seen.restarts > 0 => format!("systemd restarted it {} times and goes on", seen.restarts),
        Some(_) => "systemd starts it again".to_owned(),
        None if suspended(input).is_some() => "nothing starts it until the project is resumed".to_owned(),
        None => "it is started again".to_owned(),
    };
    let starved = seen.is_some_and(UnitSeen::is_out_of_memory);
    let reason = if starved { Reason::OutOfMemory } else { Reason::ProcessDown };
    let ended_well = seen.is_some_and(|seen| seen.exit == Some(Exit::Status(0)) && seen.restarts > 0);
    let hint = workload
        .filter(|_| ended_well)
        .map_or(String::new(), |workload| format!("; {}", restarts::after_success(workload)));
    Some((reason, format!("process {} {how}; {next}{hint}", unit.process)))
}

fn short_runs(input: &StatusInput<'_>, unit: &UnitId, seen: &UnitSeen) -> ShortRuns {
    let limit = input.progress.release(unit.release).and_then(|release| release.content.limits.memory);
    restarts::count(input.before, unit, seen, limit, input.observed.now)
}

/// Returns how the last run of a scheduled process ended, while systemd knows: not after a boot.
fn last_run(progress: &ProjectProgress, unit: &UnitId, seen: &UnitSeen) -> Option<LastRun> {
    progress.workload_of(unit).filter(|workload| matches!(workload.kind, WorkloadKind::Scheduled(_)))?;
    let limit = progress.release(unit.release).and_then(|release| release.content.limits.memory);
    let result = match seen.state {
        ActiveState::Failed => seen.ending(limit).unwrap_or_else(|| format!("failed: {}", seen.result)),
        ActiveState::Inactive => seen.exit?.to_string(),
        _ => return None,
    };
    Some(LastRun { ended: seen.since?, success: seen.state == ActiveState::Inactive, result })
}

/// A failed job takes no traffic and keeps the project Ready, but must be reported.
pub(super) fn failed_runs(input: &StatusInput<'_>) -> String {
    let units = input.seen.units.known().into_iter().flatten();
    let units = units.filter(|(unit, _)| Some(unit.release) == input.progress.serving);
    let runs = units.filter_map(|(unit, seen)| Some((unit, last_run(input.progress, unit, seen)?)));
    let failed = runs.filter(|(_, run)| !run.success).map(|(unit, LastRun { ended, result, .. })| {
        let UnitId { project, process, .. } = unit;
        format!(
            "; the last run of {process} {result}, at {ended}: it runs again by its schedule, and \
             `zexio logs {project} --process {process}` shows its output"
        )
    });
    failed.collect()
}

/// An app that listens on more than the loopback interface is reachable without Caddy: without its certificate,
/// redirects and log.
pub(super) fn open_ports(input: &StatusInput<'_>) -> String {
    let units = input.seen.units.known().into_iter().flatten().map(|(unit, _)| unit);
    let ports: BTreeMap<u16, &UnitId> = units.filter_map(|unit| Some((input.progress.port_of(unit)?, unit))).collect();
    let found = input.seen.open_ports.iter().map(|open| match ports.get(&open.port) {
        Some(unit) => {
            format!("; process {} listens on {open}, which is reached past Caddy: bind to $HOST", unit.process)
        }
        None => format!("; it listens on {open}, which is reached past Caddy"),
    });
    found.collect()
}

/// systemd accepts a limit silently even if the kernel cannot enforce it.
pub(super) fn unenforced_limits(input: &StatusInput<'_>) -> Option<&'static str> {
    let serving = input.progress.serving?;
    let limited = input.progress.release(serving)?.content.limits.memory.is_some();
    let unaccounted = input
        .seen
        .units
        .known()?
        .iter()
        .any(|(unit, seen)| unit.release == serving && seen.is_up() && seen.memory_bytes.is_none());
    (limited && unaccounted)
        .then_some("; its memory limit is not enforced, since this machine has no memory controller")
}
