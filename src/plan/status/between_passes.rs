//! Status without a pass: before the first one, after a change of the desired state, and of a project without steps.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::desired::DesiredProject;
use crate::model::names::ProjectId;
use crate::model::quantity::Timestamp;
use crate::model::reason::Reason;
use crate::model::status::{Condition, ConditionKind, ProjectState, Status};
use crate::plan::Plan;

use super::input::Finding;
use super::stalled::{contested, finding, suspension, unreadable};
use super::state::state;

/// Updates the status of the last pass to the present desired state: a suspension or its end shows at once, not only
/// after the next pass.
pub fn with_current_intent(mut status: Status, wanted: &DesiredProject, now: Timestamp) -> Status {
    status.generation = wanted.generation;
    status.owner = wanted.owner.to_string();
    let condition = |kind, holds, finding| new_condition(kind, holds, finding, now);
    let seen = status.conditions.iter().position(|condition| condition.kind == ConditionKind::Suspended);
    match (seen, suspension(wanted, now)) {
        (Some(at), Some((_, message))) => status.conditions[at].message = message,
        (None, Some(finding)) => {
            status.conditions.retain(|condition| condition.kind != ConditionKind::Reconciling);
            status.conditions.push(condition(ConditionKind::Suspended, true, finding));
        }
        (Some(at), None) => {
            status.conditions.remove(at);
            let deferred = status.conditions.iter_mut().find(|condition| condition.reason == Reason::Suspended);
            if let Some(ready) = deferred {
                let finding = (Reason::Pending, "it is resumed, and no pass has observed it since".to_owned());
                *ready = condition(ConditionKind::Ready, false, finding.clone());
                status.conditions.push(condition(ConditionKind::Reconciling, true, finding));
            }
        }
        (None, None) => return status,
    }
    let was_as_desired = status.state == ProjectState::Down;
    status.state = state(&wanted.intent, &status.conditions, was_as_desired);
    status
}

fn new_condition(kind: ConditionKind, holds: bool, (reason, message): Finding, since: Timestamp) -> Condition {
    Condition { kind, holds, reason, message, since }
}

/// Returns the status of a project before its first pass.
pub fn before_first_pass(project: &ProjectId, wanted: &DesiredProject, now: Timestamp) -> Status {
    let refusal = wanted.refusal.as_ref().filter(|refusal| !refusal.is_of_another_file());
    let stalled = unreadable(wanted).or_else(|| refusal.map(finding));
    let is_stalled = stalled.is_some();
    let found = stalled.unwrap_or_else(|| (Reason::Pending, "no pass has observed it yet".to_owned()));
    let condition = |kind, holds, finding| new_condition(kind, holds, finding, now);
    let mut conditions = vec![condition(ConditionKind::Ready, false, found.clone())];
    conditions.push(condition(
        if is_stalled { ConditionKind::Stalled } else { ConditionKind::Reconciling },
        true,
        found,
    ));
    conditions.extend(contested(wanted).map(|found| condition(ConditionKind::Stalled, true, found)));
    Status {
        project: project.clone(),
        generation: wanted.generation,
        observed_generation: 0,
        observed_at: now,
        owner: wanted.owner.to_string(),
        state: if is_stalled { ProjectState::Failed } else { ProjectState::Pending },
        conditions,
        serving: None,
        candidate: None,
        last_good: None,
        rejected: Vec::new(),
        processes: Vec::new(),
        routes: Vec::new(),
    }
}

/// A project that has no steps although it is not as desired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    pub project: ProjectId,
    /// Programs may compare it.
    pub reason: Reason,
    pub message: String,
}

/// Returns which projects are stuck and why. Without it "nothing to do" could mean that all is well, or that a secret
/// is missing.
pub fn waiting_projects(plan: &Plan, statuses: &BTreeMap<ProjectId, Status>) -> Vec<Waiting> {
    let has_steps = |project: &ProjectId| plan.steps.iter().any(|step| step.action.project() == Some(project));
    let still = statuses.values().filter(|status| !has_steps(&status.project));
    let found = still.filter_map(|status| {
        let suspended = status.condition(ConditionKind::Suspended).filter(|condition| condition.holds);
        let unready = status.condition(ConditionKind::Ready).filter(|condition| !condition.holds);
        let Condition { reason, message, .. } = suspended.or(unready)?.clone();
        Some(Waiting { project: status.project.clone(), reason, message })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::desired::{Intent, OperatorSuspension, Owner};

    fn wanted(suspension: Option<OperatorSuspension>) -> DesiredProject {
        let intent = Intent::Delete { keep_data: false };
        DesiredProject {
            generation: 4,
            intent,
            owner: Owner::Api,
            secrets: BTreeMap::new(),
            refusal: None,
            suspension,
            artifact_from_webhook: false,
        }
    }

    #[test]
    fn a_suspension_and_its_end_show_before_the_next_pass() {
        let (project, now) = (ProjectId::parse("shop").unwrap(), Timestamp(5_000));
        let suspension =
            OperatorSuspension { by: "key ops".into(), since: now, reason: Some("night".into()), until: None };
        let (free, held) = (wanted(None), wanted(Some(suspension)));
        let kinds = |status: &Status| status.conditions.iter().map(|c| c.kind).collect::<Vec<_>>();

        let before = before_first_pass(&project, &free, now);
        assert_eq!(with_current_intent(before.clone(), &free, now), before);
        let stopped = with_current_intent(before, &held, now);
        let suspended = vec![ConditionKind::Ready, ConditionKind::Suspended];
        assert_eq!((kinds(&stopped), stopped.state), (suspended, ProjectState::Suspended));
        assert!(stopped.condition(ConditionKind::Suspended).unwrap().message.contains("by key ops: night"));
        assert_eq!(with_current_intent(stopped.clone(), &held, now), stopped);

        let mut deferred = stopped;
        deferred.conditions[0].reason = Reason::Suspended;
        let resumed = with_current_intent(deferred, &free, now);
        let reconciling = vec![ConditionKind::Ready, ConditionKind::Reconciling];
        assert_eq!((kinds(&resumed), resumed.state), (reconciling, ProjectState::Deleting));
        assert!(resumed.conditions.iter().all(|condition| condition.reason == Reason::Pending), "{resumed:?}");
    }
}
