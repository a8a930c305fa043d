//! Secrets: values can be written and never read.

use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::model::desired::Intent;
use crate::model::names::{ProjectId, SecretName};
use crate::model::problem::Problem as Flaw;
use crate::model::spec::Plain;
use crate::port::WriteError;

use super::body::object;
use super::problem::Problem;
use super::query::content_type;
use super::{Answer, ApiState, Call, Out, json, respond};

/// The content types of a value. Without one, the body is the value itself.
pub const TYPES: [&str; 3] = ["application/json", "text/plain", "application/octet-stream"];

/// Answers `GET …/secrets`. Secrets may exist before their project: its first release needs them.
///
/// # Errors
/// There is neither such a project nor a secret for it.
pub async fn list(call: &Call) -> Answer {
    call.query(&[])?;
    let project = call.project()?;
    let id = project.clone();
    let secrets = call
        .ask(move |state| {
            let secrets = state.desired_store.secrets(&id)?;
            match secrets.is_empty() && state.desired_store.desired_project(&id)?.is_none() {
                true => Err(WriteError::Unknown(id).into()),
                false => Ok(secrets),
            }
        })
        .await?;
    json(StatusCode::OK, &json!({ "project": project, "secrets": secrets }))
}

/// Answers `PUT …/secrets/{name}`: 201 if the name is new, else 204.
///
/// # Errors
/// The value or the name is refused.
pub async fn put(call: &Call) -> Answer {
    call.query(&[])?;
    let (project, name) = (call.project()?, name(call)?);
    let value = value(call)?;
    let (stored, by) = (name.clone(), call.by()?);
    let (new, version) = call
        .write(move |state| {
            refuse_while_deleting(state, &project)?;
            let known = state.desired_store.secrets(&project)?;
            let version = state.desired_store.set_secret(&project, &stored, &value, &by)?;
            Ok((known.iter().all(|secret| secret.name != stored), version))
        })
        .await?;
    if new { json(StatusCode::CREATED, &json!({ "name": name, "version": version })) } else { Ok(nothing()) }
}

/// Answers `DELETE …/secrets/{name}`.
///
/// # Errors
/// There is no such secret.
pub async fn delete(call: &Call) -> Answer {
    call.query(&[])?;
    let (project, name, by) = (call.project()?, name(call)?, call.by()?);
    let found = call.write(move |state| match state.desired_store.remove_secret(&project, &name, &by)? {
        true => Ok(nothing),
        false => Err(Problem::missing("unknown_secret", format!("project {project} has no secret {name}"))),
    });
    Ok(found.await?())
}

/// A project's secrets are deleted with it; one written during the removal would be lost silently.
fn refuse_while_deleting(state: &ApiState, project: &ProjectId) -> Result<(), Problem> {
    match state.desired_store.desired_project(project)?.map(|wanted| wanted.intent) {
        Some(Intent::Delete { .. }) => Err(WriteError::Deleting(project.clone()).into()),
        _ => Ok(()),
    }
}

fn name(call: &Call) -> Result<SecretName, Problem> {
    SecretName::parse(call.name()?).map_err(|e| Problem::bad("bad_id", e.to_string()))
}

/// The JSON form of a secret's value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped {
    value: Plain,
}

/// Reads a value: the raw bytes, or a JSON string. No error quotes any of it.
fn value(call: &Call) -> Result<Plain, Problem> {
    let invalid = |cause: String| Problem::invalid(vec![Flaw::at("value", cause)]);
    if content_type(&call.headers, &TYPES)? == Some("application/json") {
        // serde's own message may quote the value.
        let form = || "the body must be {\"value\": \"…\"}, without NUL bytes and at most 120 KiB".to_owned();
        return object::<Wrapped>(&call.body).map(|body| body.value).map_err(|_| invalid(form()));
    }
    if call.body.is_empty() {
        let detail = r#"the body is the value, and it is missing; {"value": ""} as JSON stores an empty one"#;
        return Err(Problem::bad("bad_body", detail));
    }
    let text = Zeroizing::new(call.body.to_vec());
    let text = std::str::from_utf8(&text).map_err(|_| invalid("not UTF-8, which a variable must be".to_owned()))?;
    Plain::parse(text.to_owned()).map_err(invalid)
}

fn nothing() -> Response<Out> {
    let mut response = respond(StatusCode::NO_CONTENT, "application/json", Vec::new());
    response.headers_mut().remove(hyper::header::CONTENT_TYPE);
    response
}
