//! Checks a plan by rules that are simpler than the planner's: steps that break one are not executed.

use crate::model::desired::{Desired, Intent, Workload};
use crate::model::names::{ProjectId, UnitId};
use crate::model::observed::{ActiveState, Observed};
use crate::model::progress::{Progress, ProjectProgress};

use super::{Action, Plan, ProjectAction, Step};

/// A step that must not be executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {rule}")]
pub struct Breach {
    pub project: ProjectId,
    pub action: String,
    /// The guarantee that it would break.
    pub rule: &'static str,
}

/// Returns the steps that would break a guarantee.
pub fn breaches(plan: &Plan, desired: &Desired, observed: &Observed, all_progress: &Progress) -> Vec<Breach> {
    plan.steps.iter().filter_map(|step| breach(step, desired, observed, all_progress)).collect()
}

fn breach(step: &Step, desired: &Desired, observed: &Observed, all_progress: &Progress) -> Option<Breach> {
    let Action::Project(project, action) = &step.action else { return None };
    let progress = all_progress.projects.get(project)?;
    let wanted = desired.0.get(project);
    let intent = wanted.map(|wanted| &wanted.intent);
    let being_deleted = !matches!(intent, Some(Intent::Run(_) | Intent::Unreadable(_)));
    let spec = wanted.and_then(|wanted| wanted.spec());
    let recreate = |unit: &UnitId| spec.is_some_and(|spec| super::traffic::runs_once(spec, progress, unit));
    let seen = observed.projects.get(project)?;
    let suspended = wanted.is_some_and(|wanted| wanted.suspension_at(observed.now).is_some());
    let rule = match action {
        _ if suspended => "S12: a suspended project is not touched",
        ProjectAction::Stop(unit) if progress.serving == Some(unit.release) && !being_deleted && !recreate(unit) => {
            "S2: the serving release is not stopped while it serves"
        }
        ProjectAction::SwitchTraffic(_, slot) if !pointed_at_running(progress, *slot, seen) => {
            "S1: traffic is pointed only at a release that runs"
        }
        ProjectAction::RemoveRelease(release)
            if seen.units.known().is_none_or(|units| units.keys().any(|unit| unit.release == *release)) =>
        {
            "S3: nothing is removed that a unit was started from"
        }
        ProjectAction::RemoveUnit(unit)
            if seen.units.known().and_then(|units| units.get(unit)).is_none_or(|seen| seen.is_up()) =>
        {
            "S3: a unit is removed only when it is down"
        }
        ProjectAction::RemoveFiles { .. } | ProjectAction::DeleteRecord if !being_deleted => {
            "S9: a project that is wanted is not removed"
        }
        ProjectAction::DeleteRecord if !seen.is_gone(true) => {
            "S6: a project is forgotten only when nothing of it is left"
        }
        ProjectAction::Prepare { .. }
        | ProjectAction::Fetch(_)
        | ProjectAction::CancelFetch(_)
        | ProjectAction::WriteUnit(_)
        | ProjectAction::ReloadSystemd
        | ProjectAction::Start(_)
        | ProjectAction::Enable(_)
        | ProjectAction::ArmTimer(_)
        | ProjectAction::DisarmTimer(_)
        | ProjectAction::SwitchTraffic(..)
        | ProjectAction::Link(_)
        | ProjectAction::Stop(_)
        | ProjectAction::RemoveUnit(_)
        | ProjectAction::RemoveRelease(_)
        | ProjectAction::RemoveMarker(_)
        | ProjectAction::RemoveFiles { .. }
        | ProjectAction::DeleteRecord => return None,
    };
    Some(Breach { project: project.clone(), action: step.action.to_string(), rule })
}

/// A marker may move to the slot of the proven candidate, or back to that of the serving release.
fn pointed_at_running(
    progress: &ProjectProgress,
    slot: crate::model::names::Slot,
    seen: &crate::model::observed::ObservedProject,
) -> bool {
    let Some(units) = seen.units.known() else { return false };
    let proven = progress.rollout().filter(|rollout| rollout.is_proven()).map(|rollout| rollout.release);
    let target = proven.or(progress.serving);
    target.and_then(|number| progress.release(number).map(|release| (number, release))).is_some_and(
        |(number, release)| {
            let runs = |state: ActiveState| !matches!(state, ActiveState::Failed | ActiveState::Inactive);
            let up = units
                .iter()
                .filter(|(unit, _)| {
                    unit.release == number && progress.workload_of(unit).is_some_and(Workload::is_daemon)
                })
                .all(|(_, seen)| runs(seen.state) || Some(number) == progress.serving);
            release.slot == slot && up
        },
    )
}
