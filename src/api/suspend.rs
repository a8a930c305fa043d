//! Suspend and resume: a suspension applies to a project whoever owns it, even one that a file describes. An operator
//! at night must be able to stop it without finding that file.

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::model::desired::{DesiredProject, OperatorSuspension, Owner};
use crate::model::names::ProjectId;
use crate::model::problem::Problem as Flaw;
use crate::model::quantity::Timestamp;

use super::body::object;
use super::problem::Problem;
use super::query::content_type;
use super::{Answer, Call, json};

/// Maximum length of a reason.
const LONGEST: usize = 500;

/// The body of a suspension.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    reason: Option<String>,
    until: Option<Timestamp>,
}

/// Answers `POST …/suspend`. A new suspension replaces the one in force.
///
/// # Errors
/// There is no such project, or the request makes no sense.
pub async fn suspend(call: &Call) -> Answer {
    call.query(&[])?;
    content_type(&call.headers, &["application/json"])?;
    let now = call.state.clock.now();
    let Asked { reason, until } = check(read(&call.body)?, now)?;
    let (project, by) = (call.project()?, call.by()?);
    let id = project.clone();
    let suspension = OperatorSuspension { by: by.to_string(), since: now, reason, until };
    let shown = suspension.clone();
    let generation = call
        .write(move |state| {
            state.desired_store.set_suspension(&id, Some(&suspension), &by)?;
            Ok(state.known(&id)?.generation)
        })
        .await?;
    json(StatusCode::ACCEPTED, &json!({ "project": project, "generation": generation, "suspended": shown }))
}

/// Answers `POST …/resume`.
///
/// # Errors
/// There is no such project, or its spec suspends it.
pub async fn resume(call: &Call) -> Answer {
    call.query(&[])?;
    let (project, by) = (call.project()?, call.by()?);
    let id = project.clone();
    let generation = call
        .write(move |state| {
            let wanted = state.known(&id)?;
            refuse_where_the_spec_says_so(&id, &wanted, state.clock.now())?;
            state.desired_store.set_suspension(&id, None, &by)?;
            Ok(wanted.generation)
        })
        .await?;
    json(StatusCode::ACCEPTED, &json!({ "project": project, "generation": generation, "suspended": null }))
}

fn read(body: &[u8]) -> Result<Asked, Problem> {
    if body.is_empty() {
        return Ok(Asked::default());
    }
    let form = "{\"reason\": \"…\", \"until\": \"2026-12-01T08:00:00Z\"}, both optional";
    object(body).map_err(|e| Problem::bad("bad_body", format!("a suspension is {form}: {e}")))
}

fn check(asked: Asked, now: Timestamp) -> Result<Asked, Problem> {
    let refused = |path: &str, cause: String| Err(Problem::invalid(vec![Flaw::at(path, cause)]));
    match &asked {
        Asked { until: Some(until), .. } if *until <= now => {
            refused("until", format!("{until} is over; it is {now} here"))
        }
        Asked { reason: Some(reason), .. } if reason.chars().count() > LONGEST => {
            refused("reason", format!("longer than {LONGEST} characters"))
        }
        Asked { reason: Some(reason), .. } if reason.chars().any(char::is_control) => {
            refused("reason", "control characters, which no terminal should be shown".to_owned())
        }
        _ => Ok(asked),
    }
}

/// Only the owner can change the spec; an override here would be undone by nothing and visible nowhere.
fn refuse_where_the_spec_says_so(project: &ProjectId, wanted: &DesiredProject, now: Timestamp) -> Result<(), Problem> {
    let Some(spec) = wanted.spec().filter(|spec| spec.suspend.at(now).is_some()) else { return Ok(()) };
    let place = match &wanted.owner {
        Owner::File(name) => format!("take `suspend` out of {name} in the watched directory"),
        Owner::Api => format!("put the spec of {} without `suspend`", spec.project),
    };
    Err(Problem::conflict("suspended_by_spec", format!("it is the spec of {project} that suspends it; {place}")))
}
