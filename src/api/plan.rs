//! Dry runs: the loop's plan, shown.

use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::json;

use crate::model::desired::DesiredProject;
use crate::model::names::ProjectId;
use crate::plan::Step;
use crate::plan::status::waiting_projects;
use crate::plan::step::Facts;
use crate::trigger::DryRun;

use super::problem::Problem;
use super::{Answer, ApiState, Call, json};

/// How long to wait for the loop while it is busy with a pass.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A step, for programs and people.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// None if the step affects all projects.
    project: Option<ProjectId>,
    action: String,
    reason: String,
    /// `+`, `~` or `-`.
    sign: char,
}

impl From<&Step> for Shown {
    fn from(step: &Step) -> Self {
        let Facts { text, sign, .. } = step.action.facts();
        Self { project: step.action.project().cloned(), action: text, reason: step.reason.to_string(), sign }
    }
}

/// Answers `GET /v1/plan`.
///
/// # Errors
/// The loop does not answer.
pub async fn of_all(call: &Call) -> Answer {
    call.query(&[])?;
    let found = ask(&call.state, None).await?;
    let steps: Vec<Shown> = found.plan.steps.iter().map(Shown::from).collect();
    json(StatusCode::OK, &json!({ "steps": steps, "waiting": waiting_projects(&found.plan, &found.statuses) }))
}

/// Answers `GET /v1/projects/{id}/plan`.
///
/// # Errors
/// There is no such project, or the loop does not answer.
pub async fn of_project(call: &Call) -> Answer {
    call.query(&[])?;
    let project = call.project()?;
    let id = project.clone();
    let wanted = call.ask(move |state| state.known(&id)).await?;
    let found = ask(&call.state, None).await?;
    shown(&project, wanted.generation, &found)
}

/// Answers what the loop would do with this desired state.
///
/// # Errors
/// The loop does not answer.
pub async fn supposing(call: &Call, project: &ProjectId, wanted: DesiredProject) -> Answer {
    let generation = wanted.generation;
    let found = ask(&call.state, Some((project.clone(), wanted))).await?;
    shown(project, generation, &found)
}

/// Shows the steps of one project and those shared by all: its routes are loaded together with all others.
fn shown(project: &ProjectId, generation: u64, found: &DryRun) -> Answer {
    let of_it = |step: &&Step| step.action.project().is_none_or(|whose| whose == project);
    let steps: Vec<Shown> = found.plan.steps.iter().filter(of_it).map(Shown::from).collect();
    let mut waiting = waiting_projects(&found.plan, &found.statuses);
    waiting.retain(|one| one.project == *project);
    json(StatusCode::OK, &json!({ "project": project, "generation": generation, "steps": steps, "waiting": waiting }))
}

async fn ask(state: &ApiState, suppose: Option<(ProjectId, DesiredProject)>) -> Result<DryRun, Problem> {
    let plan = tokio::time::timeout(TIMEOUT, state.trigger.plan(suppose)).await;
    plan.unwrap_or_else(|_| Err("the loop is busy".to_owned()))
        .map_err(|cause| Problem::later(format!("could not ask for the plan: {cause}")))
}
