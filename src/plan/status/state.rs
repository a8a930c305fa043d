//! The one word for a project's state.

use crate::model::desired::Intent;
use crate::model::reason::Reason;
use crate::model::status::{Condition, ConditionKind, ProjectState};

use super::input::StatusInput;
use super::processes::down_process;

/// Returns whether the project was as desired before: the desired state was acted on, and the rollout has ended.
pub(super) fn was_as_desired(input: &StatusInput<'_>) -> bool {
    let progress = input.progress;
    let settled = progress.observed_generation == input.wanted.generation || down_process(input).is_some();
    progress.rollout().is_none() && progress.serving.is_some() && settled
}

pub(super) fn state(intent: &Intent, conditions: &[Condition], was_as_desired: bool) -> ProjectState {
    let has = |kind: ConditionKind| conditions.iter().any(|c| c.kind == kind && c.holds);
    let doing = |reason: Reason| conditions.iter().any(|c| c.kind == ConditionKind::Reconciling && c.reason == reason);
    let is_down = conditions.iter().any(|c| c.kind == ConditionKind::Ready && !c.holds && c.reason.is_outage());
    match intent {
        _ if has(ConditionKind::Suspended) => ProjectState::Suspended,
        Intent::Delete { .. } => ProjectState::Deleting,
        _ if has(ConditionKind::Ready) => ProjectState::Running,
        // A unit whose state systemd did not report may still run, and a route that Caddy was not asked about may still
        // answer.
        _ if doing(Reason::Unknown) || was_as_desired && doing(Reason::RouteCheck) => ProjectState::Unknown,
        _ if has(ConditionKind::Reconciling) && was_as_desired => ProjectState::Down,
        _ if has(ConditionKind::Reconciling) => ProjectState::Deploying,
        _ if has(ConditionKind::Stalled) && is_down => ProjectState::Down,
        _ if has(ConditionKind::Stalled) => ProjectState::Failed,
        _ => ProjectState::Pending,
    }
}
