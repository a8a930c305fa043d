//! How a unit that should not run is stopped and removed.

use crate::model::desired::WorkloadKind;
use crate::model::names::{ProjectId, UnitId};
use crate::model::observed::{ActiveState, UnitSeen};
use crate::model::progress::ProjectProgress;
use crate::model::quantity::{Span, Timestamp};

use super::{Plan, ProjectAction, StepReason};

/// Whether a running unit is left to finish.
pub enum OnRunning<'a> {
    Stop,
    /// Only what a calendar started; a daemon never finishes by itself.
    LetTimedFinish(&'a ProjectProgress),
}

impl OnRunning<'_> {
    fn allows(&self, unit: &UnitId) -> bool {
        match self {
            OnRunning::Stop => false,
            OnRunning::LetTimedFinish(progress) => {
                progress.workload_of(unit).is_some_and(|workload| matches!(workload.kind, WorkloadKind::Scheduled(_)))
            }
        }
    }
}

/// Stops a unit; once it is down, removes it.
pub fn stop_and_remove_unit(
    project: &ProjectId,
    unit: &UnitId,
    seen: &UnitSeen,
    on_running: OnRunning<'_>,
    reason: StepReason,
    now: Timestamp,
    plan: &mut Plan,
) {
    if seen.is_timed() {
        plan.push(project, ProjectAction::DisarmTimer(unit.clone()), reason);
    }
    match seen.state {
        ActiveState::Inactive | ActiveState::Failed => {
            plan.push(project, ProjectAction::RemoveUnit(unit.clone()), reason)
        }
        ActiveState::Deactivating => plan.requeue_by(now.after(Span::seconds(1))),
        _ if on_running.allows(unit) => {}
        _ => plan.push(project, ProjectAction::Stop(unit.clone()), reason),
    }
}
