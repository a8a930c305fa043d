//! What the loop would do: its plan, shown.

use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::json;

use crate::bell::Rehearsal;
use crate::model::desired::Wanted;
use crate::model::names::ProjectId;
use crate::plan::Step;

use super::problem::Problem;
use super::{Answer, ApiState, Call, json};

/// How long the loop may be busy with a pass before it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// A step, for programs and people.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// Whose; null: everybody's.
    project: Option<ProjectId>,
    /// What.
    action: String,
    /// Why.
    reason: String,
    /// `+`, `~` or `-`.
    sign: char,
}

impl From<&Step> for Shown {
    fn from(step: &Step) -> Self {
        Self {
            project: step.project.clone(),
            action: step.action.to_string(),
            reason: step.reason.to_string(),
            sign: step.action.sign(),
        }
    }
}

/// A project for which there is nothing to do, although it is not as it should be.
#[derive(Debug, Serialize)]
struct Waiting {
    /// Which.
    project: ProjectId,
    /// Why, as a name.
    reason: String,
    /// Why, as a sentence.
    message: String,
}

/// Answers `GET /v1/plan`.
///
/// # Errors
/// The loop does not answer.
pub async fn of_all(call: &Call) -> Answer {
    call.query(&[])?;
    let found = ask(&call.state, None).await?;
    let steps: Vec<Shown> = found.plan.steps.iter().map(Shown::from).collect();
    json(StatusCode::OK, &json!({ "steps": steps, "waiting": waiting(&found) }))
}

/// Answers `GET /v1/projects/{id}/plan`.
///
/// # Errors
/// There is no such project, or the loop does not answer.
pub async fn of_project(call: &Call) -> Answer {
    call.query(&[])?;
    let project = call.project()?;
    let wanted = super::projects::wanted(call).await?;
    let found = ask(&call.state, None).await?;
    shown(&project, wanted.generation, &found)
}

/// Answers what would be done if this were wanted.
///
/// # Errors
/// The loop does not answer.
pub async fn supposing(call: &Call, project: &ProjectId, wanted: Wanted) -> Answer {
    let generation = wanted.generation;
    let found = ask(&call.state, Some((project.clone(), wanted))).await?;
    shown(project, generation, &found)
}

/// Shows the steps of one project and those of everybody: its routes are loaded together with all others.
fn shown(project: &ProjectId, generation: u64, found: &Rehearsal) -> Answer {
    let of_it = |step: &&Step| step.project.as_ref().is_none_or(|whose| whose == project);
    let steps: Vec<Shown> = found.plan.steps.iter().filter(of_it).map(Shown::from).collect();
    let waiting: Vec<Waiting> = waiting(found).into_iter().filter(|waiting| waiting.project == *project).collect();
    json(StatusCode::OK, &json!({ "project": project, "generation": generation, "steps": steps, "waiting": waiting }))
}

/// Returns what stands still and why. Without it "nothing to do" could mean that all is well, or that a secret is
/// missing.
fn waiting(found: &Rehearsal) -> Vec<Waiting> {
    let has_steps = |project: &ProjectId| found.plan.steps.iter().any(|step| step.project.as_ref() == Some(project));
    let mut waiting = Vec::new();
    for status in found.statuses.values().filter(|status| !has_steps(&status.project)) {
        let suspended = status.condition("Suspended").filter(|condition| condition.status == "True");
        let unready = status.condition("Ready").filter(|condition| condition.status != "True");
        if let Some(condition) = suspended.or(unready) {
            let (reason, message) = (condition.reason.clone(), condition.message.clone());
            waiting.push(Waiting { project: status.project.clone(), reason, message });
        }
    }
    waiting
}

async fn ask(state: &ApiState, suppose: Option<(ProjectId, Wanted)>) -> Result<Rehearsal, Problem> {
    let plan = tokio::time::timeout(PATIENCE, state.bell.plan(suppose)).await;
    plan.unwrap_or_else(|_| Err("the loop is busy".to_owned()))
        .map_err(|cause| Problem::later(format!("could not ask for the plan: {cause}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::status::{Condition, Status};
    use crate::plan::{Action, Plan, Reason};

    fn looks(project: &str, conditions: &[(&str, &str, &str)]) -> Status {
        let conditions = conditions.iter().map(|(kind, status, reason)| Condition {
            kind: (*kind).into(),
            status: (*status).into(),
            reason: (*reason).into(),
            message: format!("{project} says why"),
            since: crate::model::quantity::Timestamp(0),
        });
        Status {
            project: ProjectId::parse(project).unwrap(),
            generation: 1,
            observed_generation: 1,
            observed_at: crate::model::quantity::Timestamp(0),
            owner: "api".into(),
            state: String::new(),
            conditions: conditions.collect(),
            serving: None,
            candidate: None,
            last_good: None,
            rejected: Vec::new(),
            processes: Vec::new(),
            routes: Vec::new(),
        }
    }

    #[test]
    fn a_project_without_steps_that_is_not_as_it_should_be_is_told_of() {
        let all = [
            looks("fine", &[("Ready", "True", "Serving")]),
            looks("stuck", &[("Ready", "False", "SecretMissing"), ("Stalled", "True", "SecretMissing")]),
            looks("paused", &[("Ready", "True", "Serving"), ("Suspended", "True", "Suspended")]),
            looks("new", &[("Ready", "False", "Pending")]),
        ];
        let step = Step {
            project: ProjectId::parse("new").ok(),
            action: Action::Prepare { open: false },
            reason: Reason::ProjectNew,
        };
        let plan = Plan { steps: vec![step], look_again: None };
        let statuses: BTreeMap<_, _> = all.into_iter().map(|status| (status.project.clone(), status)).collect();
        let told: Vec<String> = waiting(&Rehearsal { plan, statuses })
            .into_iter()
            .map(|one| format!("{} {} {}", one.project, one.reason, one.message))
            .collect();
        assert_eq!(told, ["paused Suspended paused says why", "stuck SecretMissing stuck says why"]);
    }
}
