//! Moves a project to another artifact that is already on the server. The rest of its spec stays: a client need not
//! send back what reading the spec does not show.

use serde::Deserialize;
use serde_json::json;

use crate::model::desired::{DesiredProject, Intent, Owner};
use crate::model::names::{ArtifactName, ProjectId, Sha256};
use crate::model::spec::{Artifact, ArtifactFrom, Label, Source, Spec, Updates};
use crate::port::WriteError;

use super::body::object;
use super::problem::Problem;
use super::projects::{accepted, paused};
use super::query::content_type;
use super::{Answer, Call};
use crate::keys::Scope;

/// The body: an uploaded artifact, and its version.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    file: ArtifactName,
    #[serde(default)]
    version: Option<Label>,
}

/// Answers `PUT /v1/projects/{id}/artifact`.
///
/// # Errors
/// There is no such project, or this key may not move its artifact.
pub async fn artifact(call: &Call) -> Answer {
    call.query(&[])?;
    content_type(&call.headers, &["application/json"])?;
    let asked: Move = object(&call.body).map_err(|e| {
        Problem::bad("bad_body", format!("an artifact is {{\"file\": <sha256 or name>, \"version\": <label>}}: {e}"))
    })?;
    let (project, by) = (call.project()?, call.by()?);
    let admin = call.key.as_ref().and_then(|kid| call.state.keys.find(kid)).is_some_and(|(_, s)| s == Scope::Admin);
    let id = project.clone();
    let (put, suspended) = call
        .write(move |state| {
            let wanted = state.known(&id)?;
            let spec = movable(&id, &wanted, admin)?;
            let source = Source::File { sha256: Sha256::parse(asked.file.as_str()).ok(), name: asked.file };
            let (version, updates) = (asked.version, spec.artifact.updates);
            let artifact = Artifact { from: ArtifactFrom::Source(source), version, updates };
            let put = state.desired_store.overlay(&id, &artifact, &by)?;
            Ok((put, paused(state, &wanted)))
        })
        .await?;
    let answer = json!({ "project": project, "generation": put.generation, "changed": put.changed });
    accepted(answer, suspended)
}

/// Returns the spec whose artifact this key may move: any deploy key if the spec allows moves, otherwise only a key
/// that may write the whole spec.
fn movable<'a>(project: &ProjectId, wanted: &'a DesiredProject, admin: bool) -> Result<&'a Spec, Problem> {
    let spec = match &wanted.intent {
        Intent::Run(spec) => spec,
        Intent::Delete { .. } => return Err(WriteError::Deleting(project.clone()).into()),
        Intent::Unreadable(why) => {
            return Err(WriteError::Unreadable { project: project.clone(), why: why.clone() }.into());
        }
        Intent::Nothing => {
            let detail = format!("project {project} has no spec yet whose artifact could move");
            return Err(Problem::conflict("no_spec", detail));
        }
    };
    match (spec.artifact.updates, &wanted.owner) {
        (Updates::Webhook, _) => Ok(spec),
        (Updates::Fixed, Owner::Api) if admin => Ok(spec),
        (Updates::Fixed, Owner::Api) => {
            let detail = format!("this key may not move {project}: its spec needs artifact.updates: webhook");
            Err(Problem::conflict("updates_fixed", detail))
        }
        (Updates::Fixed, owner @ Owner::File(_)) => {
            let detail = format!(
                "project {project} belongs to {owner}; name the artifact there, or let it move with artifact.updates: webhook"
            );
            Err(Problem::conflict("owned", detail))
        }
    }
}
