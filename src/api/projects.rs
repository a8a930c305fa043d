//! Projects: desired and observed state.

use std::sync::PoisonError;

use hyper::header::{ETAG, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::model::desired::{DesiredProject, Intent, OperatorSuspension, Owner, Refusal};
use crate::model::document;
use crate::model::event::By;
use crate::model::names::{ProjectId, ReleaseNo};
use crate::model::problem::Problem as Flaw;
use crate::model::progress::{End, ProjectProgress, Release};
use crate::model::spec::{Artifact, ArtifactFrom, Spec, hide_query};
use crate::model::status::Status;
use crate::plan::accept::admit::{Admitted, Origin, admit};
use crate::plan::status::{before_first_pass, with_current_intent};
use crate::port::{WriteError, WriteResult};

use super::problem::Problem;
use super::query::{content_type, if_match};
use super::{Answer, ApiState, Call, Out, body, json, plan};

/// The content types of a spec. The default is YAML, of which JSON is a subset.
pub const SPEC_TYPES: [&str; 5] =
    ["application/json", "application/yaml", "text/yaml", "application/x-yaml", "text/x-yaml"];

/// Answers `GET /healthz`.
pub fn health(call: &Call) -> Answer {
    let now = call.state.clock.now();
    let alive = call.state.heartbeat.is_alive(now, call.state.pulse_within);
    let status = if alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if alive { "ok" } else { "stuck" };
    json(status, &json!({ "status": word, "last_pass": call.state.heartbeat.last() }))
}

/// Answers `GET /v1/projects`.
///
/// # Errors
/// The database cannot be read.
pub async fn list(call: &Call) -> Answer {
    call.query(&[])?;
    let projects = call
        .ask(|state| {
            let mut statuses = state.progress.statuses()?;
            let desired = state.progress.desired()?;
            let views =
                desired.0.iter().map(|(project, wanted)| view(state, project, wanted, statuses.remove(project)));
            Ok(views.collect::<Vec<Value>>())
        })
        .await?;
    let troubles = call.state.troubles.lock().unwrap_or_else(PoisonError::into_inner).clone();
    json(StatusCode::OK, &json!({ "projects": projects, "file_troubles": troubles }))
}

/// Answers `GET /v1/projects/{id}`.
///
/// # Errors
/// There is no such project, or the database cannot be read.
pub async fn get(call: &Call) -> Answer {
    call.query(&[])?;
    let project = call.project()?;
    let (generation, view) = call
        .ask(move |state| {
            let wanted = state.known(&project)?;
            let status = state.progress.status_of(&project)?;
            Ok((wanted.generation, view(state, &project, &wanted, status)))
        })
        .await?;
    tagged(json(StatusCode::OK, &view)?, generation)
}

/// Answers `PUT /v1/projects/{id}`.
///
/// # Errors
/// The spec is refused, or it cannot be written now.
pub async fn put(mut call: Call) -> Answer {
    let dry_run = call.query(&["dry_run"])?.flag("dry_run")?;
    content_type(&call.headers, &SPEC_TYPES)?;
    let expected = if_match(&call.headers)?;
    let (project, by) = (call.project()?, call.by()?);
    let (id, text) = (project.clone(), std::mem::take(&mut call.body));
    if dry_run {
        let desired = call
            .ask(move |state| Ok(state.desired_store.dry_run(read(state, &id, &text)?, &Owner::Api, expected)?))
            .await?;
        return plan::supposing(&call, &project, desired).await;
    }
    let put = call
        .write(move |state| Ok(state.desired_store.put(read(state, &id, &text)?, &Owner::Api, expected, &by)?))
        .await?;
    let status = if put.created { StatusCode::CREATED } else { StatusCode::OK };
    tagged(json(status, &json!({ "project": project, "generation": put.generation }))?, put.generation)
}

/// Answers `DELETE /v1/projects/{id}`.
///
/// # Errors
/// There is no such project, it belongs to another owner, or its generation changed.
pub async fn delete(call: &Call) -> Answer {
    let keep_data = call.query(&["keep_data"])?.flag("keep_data")?;
    let expected = if_match(&call.headers)?;
    let project = call.project()?;
    let (id, by) = (project.clone(), call.by()?);
    let (generation, suspended) = call
        .write(move |state| {
            let wanted = state.known(&id)?;
            expect(&wanted, expected)?;
            let generation = state.desired_store.delete(&id, &Owner::Api, keep_data, &by)?;
            // The spec's own suspension goes with the spec; a requested one holds the removal back.
            Ok((generation, wanted.operator_suspension_at(state.clock.now()).map(OperatorSuspension::message)))
        })
        .await?;
    accepted(json!({ "project": project, "generation": generation }), suspended)
}

/// Answers `POST …/sync`.
///
/// # Errors
/// There is no such project.
pub async fn sync(call: &Call) -> Answer {
    let prune = call.query(&["prune"])?.flag("prune")?;
    let project = call.project()?;
    let (id, by) = (project.clone(), call.by()?);
    let (generation, suspended) = call
        .write(move |state| {
            let wanted = state.known(&id)?;
            if !prune {
                state.trigger.retry_refused_routes();
            }
            let refused = wanted.refusal.as_ref().is_some_and(Refusal::holds_a_removal);
            let generation = match prune && refused {
                true => state.desired_store.delete(&id, &wanted.owner, false, &by)?,
                false if prune => wanted.generation,
                false => state.desired_store.fetch_again(&id, &by)?,
            };
            Ok((generation, paused(state, &wanted)))
        })
        .await?;
    accepted(json!({ "project": project, "generation": generation }), suspended)
}

/// Says why a desired state is not acted on for now.
pub fn paused(state: &ApiState, wanted: &DesiredProject) -> Option<String> {
    wanted.suspension_at(state.clock.now()).map(|pause| pause.message)
}

/// Answers that a desired state was written and, if the project is suspended, that it waits.
pub fn accepted(mut answer: Value, suspended: Option<String>) -> Answer {
    if let Some(suspended) = suspended {
        answer["suspended"] = json!(suspended);
    }
    json(StatusCode::ACCEPTED, &answer)
}

/// The body of a rollback.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    to: Option<ReleaseNo>,
}

/// Answers `POST …/rollback`.
///
/// # Errors
/// There is no release to go back to.
pub async fn rollback(call: &Call) -> Answer {
    call.query(&[])?;
    content_type(&call.headers, &["application/json"])?;
    let back: Back = match call.body.is_empty() {
        true => Back::default(),
        false => body::object(&call.body)
            .map_err(|e| Problem::bad("bad_body", format!("a rollback is {{}} or {{\"to\": <release>}}: {e}")))?,
    };
    let project = call.project()?;
    let (id, by) = (project.clone(), call.by()?);
    let (put, release, suspended) = call
        .write(move |state| {
            let wanted = state.known(&id)?;
            let (put, release) = go_back(state, &id, &wanted, back.to, &by)?;
            Ok((put, release, paused(state, &wanted)))
        })
        .await?;
    let answer = json!({ "project": project, "generation": put.generation, "release": release });
    accepted(answer, suspended)
}

fn go_back(
    state: &ApiState,
    project: &ProjectId,
    wanted: &DesiredProject,
    to: Option<ReleaseNo>,
    by: &By,
) -> Result<(WriteResult, ReleaseNo), Problem> {
    let spec = match &wanted.intent {
        Intent::Run(spec) => spec,
        Intent::Delete { .. } => return Err(WriteError::Deleting(project.clone()).into()),
        Intent::Nothing => return Err(nothing_good(project)),
        Intent::Unreadable(why) => {
            return Err(WriteError::Unreadable { project: project.clone(), why: why.clone() }.into());
        }
    };
    let progress = state.progress.progress_of(project)?;
    let number = match to {
        Some(number) => number,
        None => progress.rollback_target().ok_or_else(|| nothing_good(project))?,
    };
    let release = progress.release(number).ok_or_else(|| {
        let kept: Vec<String> = progress.releases.keys().map(ToString::to_string).collect();
        let detail = format!("project {project} has no release {number}; it has {}", kept.join(", "));
        Problem::missing("unknown_release", detail)
    })?;
    if !release.was_healthy {
        let detail = format!("release {number} of {project} was never healthy; nothing can go back to it");
        return Err(Problem::conflict("never_good", detail));
    }
    let (version, updates) = (release.version.clone(), spec.artifact.updates);
    let artifact = Artifact { from: ArtifactFrom::Release(number), version, updates };
    Ok((state.desired_store.overlay(project, &artifact, by)?, number))
}

fn nothing_good(project: &ProjectId) -> Problem {
    let detail = format!("project {project} has no other release that was ever healthy");
    Problem::conflict("no_good_release", detail)
}

/// Answers `GET …/releases`, newest first.
///
/// # Errors
/// There is no such project.
pub async fn releases(call: &Call) -> Answer {
    call.query(&[])?;
    let project = call.project()?;
    let id = project.clone();
    let progress = call
        .ask(move |state| {
            state.known(&id)?;
            Ok(state.progress.progress_of(&id)?)
        })
        .await?;
    let history: Vec<Value> =
        progress.releases.iter().rev().map(|(number, release)| past(&progress, *number, release)).collect();
    json(StatusCode::OK, &json!({ "project": project, "releases": history }))
}

fn past(progress: &ProjectProgress, number: ReleaseNo, release: &Release) -> Value {
    json!({
        "number": number,
        "sha256": release.sha256,
        "version": release.version,
        "state": progress.state_of(number),
        "good": release.was_healthy,
        "created_at": release.created_at,
        "since": release.since,
        "why": release.end.as_ref().map(End::cause),
        "vetoed": release.rolled_back,
        "evidence": release.rejected().and_then(|rejected| rejected.evidence.as_ref()),
    })
}

fn read(state: &ApiState, project: &ProjectId, text: &[u8]) -> Result<Admitted, Problem> {
    let document = document::parse(text).map_err(|error| match document::is_readable(text) {
        true => Problem::invalid(error.problems),
        false => Problem { status: StatusCode::BAD_REQUEST, code: "unreadable", ..Problem::invalid(error.problems) },
    })?;
    if document.project != *project {
        let message = format!("the document is of {}, the path of {project}", document.project);
        return Err(Problem::invalid(vec![Flaw::at("project", message)]));
    }
    let stored = state.desired_store.desired_project(project)?;
    let stored = stored.as_ref().and_then(DesiredProject::spec);
    let origin = Origin::Request { stored, now: state.clock.now() };
    admit(text, document, origin, &state.check_url).map_err(|error| Problem::invalid(error.problems))
}

fn expect(wanted: &DesiredProject, expected: Option<u64>) -> Result<(), Problem> {
    match expected {
        Some(expected) if expected != wanted.generation => Err(WriteError::Moved(wanted.generation).into()),
        _ => Ok(()),
    }
}

fn tagged(mut response: Response<Out>, generation: u64) -> Answer {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{generation}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
}

/// Shows a project: its status fields, its spec, and the status again under `status`.
fn view(state: &ApiState, project: &ProjectId, wanted: &DesiredProject, status: Option<Status>) -> Value {
    let now = state.clock.now();
    let mut status =
        with_current_intent(status.unwrap_or_else(|| before_first_pass(project, wanted, now)), wanted, now);
    for process in &mut status.processes {
        if let Some(used) = state.stats.used(&process.unit) {
            process.now_uses(&used);
        }
    }
    let status = json!(status);
    let mut view = status.clone();
    view["suspended"] = json!(wanted.operator_suspension_at(now));
    view["spec"] = json!(wanted.spec().map(shown_spec));
    view["status"] = status;
    view
}

/// A spec that is safe to show: the query of a presigned URL is a key to the artifact.
fn shown_spec(spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    spec.urls_mut().for_each(|(_, url)| *url = hide_query(url));
    spec
}
