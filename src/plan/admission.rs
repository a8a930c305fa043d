//! Admission: which starts may happen now. Each start sets up a sandbox under one lock of the kernel: more than a few at a
//! time take longer in total, and hundreds may never finish (`docs/decisions/0018-starts-are-admitted.md`).

use std::collections::{BTreeMap, BTreeSet};

use crate::model::layout::STARTS_AT_ONCE;
use crate::model::names::{ProjectId, ReleaseNo, UnitId};
use crate::model::observed::{ActiveState, Observed, UnitSeen};
use crate::model::progress::{Progress, ProjectProgress};
use crate::model::quantity::{Span, Timestamp};

use super::{Action, Plan, ProjectAction, Step, StepReason};

/// For this long a start counts as setting up its sandbox: systemd does not show the end of that for a unit that reports
/// its own readiness or runs to completion.
const SANDBOX_SETUP: Span = Span::seconds(10);

/// For this long a rollout of a new project waits behind those of projects that serve.
const NEW_PROJECT_WAIT: Span = Span::seconds(60);

/// A start's position in the queue: the smallest goes first.
type QueueKey<'a> = (Priority, usize, Option<Timestamp>, &'a UnitId);

/// How urgent a start is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Priority {
    /// A part of the serving release is down, or the process that it replaces was stopped for it.
    Repair,
    /// A project that serves gets another release.
    Update,
    /// Nothing of the project serves yet.
    New,
}

/// Leaves out the starts that must wait, with the files of their units, and lists their projects in the plan.
pub fn admit(observed: &Observed, all_progress: &Progress, plan: &mut Plan) {
    let waiting = waiting(observed, all_progress, plan);
    if waiting.is_empty() {
        return;
    }
    let units: BTreeSet<&UnitId> = waiting.iter().collect();
    plan.steps.retain(|step| !is_step_of(step, &units));
    for unit in &waiting {
        if !plan.queue.contains(&unit.project) {
            plan.queue.push(unit.project.clone());
        }
    }
    // Without a unit file that changed there is nothing to read again.
    let writes: BTreeSet<ProjectId> = plan.steps.iter().filter_map(project_of_unit_write).collect();
    let queue = &plan.queue;
    plan.steps.retain(|step| {
        let Action::Project(project, ProjectAction::ReloadSystemd) = &step.action else { return true };
        !queue.contains(project) || writes.contains(project)
    });
    plan.requeue_by(observed.now.after(Span::seconds(1)));
}

/// Records which rollouts wait in the queue, and for how long those waited that left it.
pub fn record_waits(plan: &Plan, all_progress: &mut Progress, now: Timestamp) {
    for (project, progress) in &mut all_progress.projects {
        let Some(rollout) = progress.rollout_mut() else { continue };
        match (rollout.queued_since, plan.queue.contains(project)) {
            (None, true) => rollout.queued_since = Some(now),
            (Some(since), false) => {
                rollout.queued_for = Span(rollout.queued_for.0 + now.since(since).0);
                rollout.queued_since = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }
}

/// Returns the units whose start must wait, the next one first.
fn waiting(observed: &Observed, all_progress: &Progress, plan: &Plan) -> Vec<UnitId> {
    let units = || observed.projects.values().filter_map(|seen| seen.units.known()).flatten();
    let starting = units().filter(|(_, seen)| sets_up_its_sandbox(seen, observed.now)).count();
    // Of each release those count that are up; the ones that start go one by one.
    let mut before: BTreeMap<(&ProjectId, ReleaseNo), usize> = BTreeMap::new();
    for (unit, _) in units().filter(|(_, seen)| seen.is_up()) {
        *before.entry((&unit.project, unit.release)).or_default() += 1;
    }
    let mut starts = Vec::new();
    for step in &plan.steps {
        let Action::Project(project, ProjectAction::Start(unit)) = &step.action else { continue };
        let Some(progress) = all_progress.projects.get(project) else { continue };
        let before = before.entry((project, unit.release)).or_default();
        starts.push(queue_key(progress, unit, step.reason, *before, observed.now));
        *before += 1;
    }
    starts.sort();
    let admitted = STARTS_AT_ONCE.saturating_sub(starting).min(starts.len());
    starts.split_off(admitted).into_iter().map(|(.., unit)| unit.clone()).collect()
}

fn queue_key<'a>(
    progress: &ProjectProgress,
    unit: &'a UnitId,
    reason: StepReason,
    before: usize,
    now: Timestamp,
) -> QueueKey<'a> {
    let since = progress.rollout().map(|rollout| rollout.since);
    let was_stopped_for_it = progress.rollout().is_some_and(|rollout| rollout.changeover_begun);
    let need = match reason {
        StepReason::ServingDamaged => Priority::Repair,
        _ if was_stopped_for_it => Priority::Repair,
        _ if progress.serving.is_some() => Priority::Update,
        _ if since.is_some_and(|since| now >= since.after(NEW_PROJECT_WAIT)) => Priority::Update,
        _ => Priority::New,
    };
    // The first instances of all projects go before the second ones of any.
    (need, before, since, unit)
}

fn sets_up_its_sandbox(seen: &UnitSeen, now: Timestamp) -> bool {
    let waits_for_restart = seen.sub_state == "auto-restart";
    seen.state == ActiveState::Activating
        && !waits_for_restart
        && seen.since.is_none_or(|since| now < since.after(SANDBOX_SETUP))
}

fn is_step_of(step: &Step, units: &BTreeSet<&UnitId>) -> bool {
    match &step.action {
        Action::Project(_, ProjectAction::Start(unit)) => units.contains(unit),
        Action::Project(_, ProjectAction::WriteUnit(order)) => units.contains(&order.unit),
        _ => false,
    }
}

fn project_of_unit_write(step: &Step) -> Option<ProjectId> {
    match &step.action {
        Action::Project(project, ProjectAction::WriteUnit(_)) => Some(project.clone()),
        _ => None,
    }
}
