//! The steps of a project that should be deleted, in the order that causes visitors no error: routes, processes, units,
//! files, progress. Its row stays until nothing of it is left.

use crate::model::names::ProjectId;
use crate::model::observed::ObservedProject;
use crate::model::progress::ProjectProgress;
use crate::model::quantity::Span;

use super::stop::{OnRunning, stop_and_remove_unit};
use super::{PassContext, Plan, ProjectAction, StepReason};

/// Adds the next steps of a removal.
pub fn steps(
    project: &ProjectId,
    keep_data: bool,
    seen: &ObservedProject,
    progress: &ProjectProgress,
    context: PassContext<'_>,
    plan: &mut Plan,
) {
    let PassContext { now, routed, .. } = context;
    let (Some(units), Some(bundles)) = (seen.units.known(), seen.bundles.known()) else { return };
    if let Some(backoff) = progress.backoff.as_ref().filter(|backoff| now < backoff.until) {
        return plan.requeue_by(backoff.until);
    }
    if seen.is_gone(keep_data) {
        return plan.push(project, ProjectAction::DeleteRecord, StepReason::ProjectDeleted);
    }
    if !routed && progress.serving.is_some() {
        return plan.requeue_by(now.after(Span::seconds(1)));
    }
    for (unit, seen) in units {
        stop_and_remove_unit(project, unit, seen, OnRunning::Stop, StepReason::ProjectDeleted, now, plan);
    }
    if units.is_empty() {
        plan.push(
            project,
            ProjectAction::RemoveFiles { keep_data: keep_data && bundles.data },
            StepReason::ProjectDeleted,
        );
    }
}
