//! Webhooks: a delivery from CI becomes a wish for another artifact, and nothing else.
//!
//! Which proof is asked for comes from the project's spec, never from the headers: else whoever sends chooses the
//! weakest.

pub mod github;
pub mod gitlab;
pub mod standard;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::model::document::Problem as Flaw;
use crate::model::names::{ArtifactName, ProjectId, SecretName, Sha256};
use crate::model::quantity::Timestamp;
use crate::model::spec::{Artifact, Hooks, Label, Spec, Updates};
use crate::port::Delivery;

use super::body::object;
use super::problem::Problem;
use super::query::content_type;
use super::{Answer, ApiState, Call, json};

/// Another artifact, as our own body form names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bump {
    /// Where it is.
    #[serde(default)]
    pub url: Option<String>,
    /// Or the digest of one that is on the server already: what an upload answered.
    #[serde(default)]
    pub file: Option<Sha256>,
    /// What it must hash to.
    #[serde(default)]
    pub sha256: Option<Sha256>,
    /// A label for people.
    #[serde(default)]
    pub version: Option<Label>,
}

impl Bump {
    /// Reads our own body form.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        parse(body)
    }
}

/// A delivery that was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Its id.
    pub id: String,
    /// When what it tells of happened: an older one must not undo a newer one.
    pub made: Timestamp,
    /// What it asks for.
    pub bump: Bump,
}

/// What a proven request comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A greeting.
    Ping,
    /// Nothing for us, and why.
    Nothing(String),
    /// Another artifact.
    Delivery(Moved),
}

/// Which provider a request is for, with what its project says of it.
enum Asked {
    Github(crate::model::spec::GithubHook),
    Gitlab(crate::model::spec::GitlabHook),
    Standard(crate::model::spec::StandardHook),
}

impl Asked {
    fn of(hooks: &Hooks, provider: &str) -> Option<Self> {
        match provider {
            "github" => hooks.github.clone().map(Asked::Github),
            "gitlab" => hooks.gitlab.clone().map(Asked::Gitlab),
            "standard" => hooks.standard.clone().map(Asked::Standard),
            _ => None,
        }
    }

    fn secret(&self) -> &SecretName {
        match self {
            Asked::Github(hook) => &hook.secret,
            Asked::Gitlab(hook) => &hook.secret,
            Asked::Standard(hook) => &hook.secret,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Asked::Github(_) => "github",
            Asked::Gitlab(_) => "gitlab",
            Asked::Standard(_) => "standard",
        }
    }

    fn hear(&self, call: &Call, secret: &str) -> Result<Heard, Problem> {
        let now = call.state.clock.now();
        match self {
            Asked::Github(hook) => github::hear(hook, secret, &call.headers, &call.body),
            Asked::Gitlab(hook) => gitlab::hear(hook, secret, &call.headers, &call.body, now),
            Asked::Standard(_) => standard::hear(secret, &call.headers, &call.body, now),
        }
    }
}

/// Answers `POST /v1/hooks/{id}/{provider}`.
///
/// # Errors
/// The request is not proven, or asks for what it may not.
pub async fn provider(call: &Call) -> Answer {
    let (project, provider) = (call.project()?, call.name()?.to_owned());
    let id = project.clone();
    let (spec, asked, secret) = call.ask(move |state| configured(state, &id, &provider)).await?;
    let heard = asked.hear(call, &secret)?;
    content_type(&call.headers, &["application/json"])?;
    match heard {
        Heard::Ping => json(StatusCode::ACCEPTED, &json!({ "project": project, "ping": true })),
        Heard::Nothing(why) => ignored(call, &project, why).await,
        Heard::Delivery(delivery) => take(call, &project, &spec, asked.name(), delivery).await,
    }
}

/// Answers `POST /v1/hooks/{id}/generic`, which came with our own signature.
///
/// # Errors
/// It asks for what it may not.
pub async fn generic(call: &Call) -> Answer {
    call.query(&[])?;
    content_type(&call.headers, &["application/json"])?;
    let project = call.project()?;
    let bump = Bump::parse(&call.body)?;
    let (id, by) = (project.clone(), call.by()?);
    let taken = call
        .write(move |state| {
            let spec = spec_of(state, &id)?;
            let artifact = artifact(state, &spec, bump)?;
            match vetoed(state, &id, &artifact)? {
                Some(why) => Ok(Err(why)),
                None => Ok(Ok(state.wishes.overlay(&id, &artifact, &by)?)),
            }
        })
        .await?;
    match taken {
        Ok(put) => json(StatusCode::ACCEPTED, &json!({ "project": project, "generation": put.generation })),
        Err(why) => ignored(call, &project, why).await,
    }
}

/// Finds what a project says of a provider. An unknown project and an unknown provider are told in the same words:
/// nothing has been proven yet.
fn configured(
    state: &ApiState,
    project: &ProjectId,
    provider: &str,
) -> Result<(Spec, Asked, zeroize::Zeroizing<String>), Problem> {
    let missing = || Problem::missing("unknown_hook", format!("there is no {provider:?} hook of {project}"));
    let wanted = state.wishes.wanted(project)?;
    let spec = wanted.as_ref().and_then(|wanted| wanted.spec()).ok_or_else(missing)?;
    let asked = Asked::of(&spec.hooks, provider).ok_or_else(missing)?;
    let secret = state.wishes.open_secret(project, asked.secret())?;
    let secret = secret.filter(|secret| !secret.is_empty()).ok_or_else(|| {
        let detail = format!("the hook's secret {} is not stored; set it with zexio secret set", asked.secret());
        Problem::conflict("hook_unready", detail)
    })?;
    Ok((spec.clone(), asked, secret))
}

fn spec_of(state: &ApiState, project: &ProjectId) -> Result<Spec, Problem> {
    let wanted = super::projects::known(state, project)?;
    let spec = wanted.spec().cloned();
    spec.ok_or_else(|| Problem::conflict("no_spec", format!("project {project} has no spec that a hook could move")))
}

/// Makes the artifact that a bump asks for, if the project lets webhooks move it and the rules let us fetch it.
fn artifact(state: &ApiState, spec: &Spec, bump: Bump) -> Result<Artifact, Problem> {
    if spec.artifact.updates != Updates::Webhook {
        let detail = format!("webhooks may not move {}: its spec needs artifact.updates: webhook", spec.project);
        return Err(Problem::conflict("updates_fixed", detail));
    }
    if bump.url.is_some() == bump.file.is_some() {
        return Err(Problem::invalid(vec![Flaw::at("", "exactly one of url, file")]));
    }
    if let Some(url) = &bump.url {
        (state.check_url)(url).map_err(|cause| Problem::invalid(vec![Flaw::at("url", cause)]))?;
    }
    Ok(Artifact {
        url: bump.url,
        file: bump.file.as_ref().and_then(|digest| ArtifactName::parse(digest.as_str()).ok()),
        release: None,
        sha256: bump.sha256,
        version: bump.version,
        updates: spec.artifact.updates,
    })
}

/// Takes a delivery once, and only if it is no older than the last one. Everything that could refuse it comes first:
/// a provider that sends it again uses the same id.
async fn take(call: &Call, project: &ProjectId, spec: &Spec, provider: &'static str, proven: Moved) -> Answer {
    let artifact = artifact(&call.state, spec, proven.bump)?;
    let delivery = Delivery { provider, id: proven.id, made: proven.made };
    let whose = project.clone();
    let taken = call
        .write(move |state| match vetoed(state, &whose, &artifact)? {
            Some(why) => Ok(Err(why)),
            None => Ok(state
                .wishes
                .deliver(&whose, &artifact, &delivery)?
                .ok_or_else(|| "it came before, or a newer one did".to_owned())),
        })
        .await?;
    match taken {
        Ok(put) => json(StatusCode::ACCEPTED, &json!({ "project": project, "generation": put.generation })),
        Err(why) => ignored(call, project, why).await,
    }
}

/// What failed, or was rolled back from, is not brought back by a webhook: only its owner's spec may.
fn vetoed(state: &ApiState, project: &ProjectId, artifact: &Artifact) -> Result<Option<String>, Problem> {
    let memory = state.memory.progress_of(project)?;
    let why = |release| {
        format!(
            "release {release} of the same artifact failed or was rolled back from; send another version, or put the spec with a change"
        )
    };
    Ok(memory.veto_on(artifact).map(why))
}

/// Acknowledges what changes nothing: a provider must not take it for a failure.
async fn ignored(call: &Call, project: &ProjectId, why: String) -> Answer {
    let generation = super::projects::wanted(call).await?.generation;
    json(StatusCode::ACCEPTED, &json!({ "project": project, "generation": generation, "ignored": why }))
}

/// Reads a payload.
fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    object(body).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => Problem::invalid(vec![Flaw::at("", e.to_string())]),
        _ => Problem::bad("bad_body", format!("the body is not JSON: {e}")),
    })
}

/// What of an event may become part of a URL.
#[derive(Debug, Default, Clone)]
pub struct Marks {
    /// The tag.
    pub tag: Option<String>,
    /// The commit.
    pub sha: Option<String>,
    /// The run's number.
    pub run: Option<String>,
}

impl Marks {
    /// Builds the artifact's URL of its template. A mark that could leave its place in the path is refused.
    ///
    /// # Errors
    /// The event lacks a mark, or it has characters that no tag needs.
    pub fn bump(&self, template: &str) -> Result<Bump, Problem> {
        let mut url = template.to_owned();
        let mut version = None;
        for (place, mark) in [("{tag}", &self.tag), ("{sha}", &self.sha), ("{run}", &self.run)] {
            if !url.contains(place) {
                continue;
            }
            let mark = mark.as_deref().filter(|mark| is_mark(mark)).ok_or_else(|| {
                let message = format!("{place} must be 1 to 64 of A-Z a-z 0-9 . _ -, and not . or ..; it is {mark:?}");
                Problem::invalid(vec![Flaw::at(place.trim_matches(['{', '}']), message)])
            })?;
            url = url.replace(place, mark);
            version = version.or_else(|| Label::try_from(mark.to_owned()).ok());
        }
        Ok(Bump { url: Some(url), file: None, sha256: None, version })
    }
}

fn is_mark(raw: &str) -> bool {
    (1..=64).contains(&raw.len())
        && !matches!(raw, "." | "..")
        && raw.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Refuses an event of another repository than the one the project names.
fn check_repo(expected: &str, found: &str) -> Result<(), Problem> {
    if expected == found {
        return Ok(());
    }
    let found: String = found.chars().take(120).collect();
    Err(Problem::new(StatusCode::FORBIDDEN, "repo", format!("the event is of {found:?}; this hook takes {expected:?}")))
}

/// Says why a run on this branch deploys nothing. Without it every push to every branch would: a template that names
/// the tag chooses for itself, another means the default branch.
fn other_branch(template: &str, branch: Option<&str>, default: Option<&str>) -> Option<String> {
    match (branch, default) {
        (Some(branch), Some(default)) if branch != default && !template.contains("{tag}") => {
            Some("it is not of the default branch".to_owned())
        }
        _ => None,
    }
}

fn sig_missing(header: &str) -> Problem {
    Problem::unproven("sig_missing", format!("the request has no {header} header"))
}

fn sig_malformed(header: &str, form: &str) -> Problem {
    Problem::unproven("sig_malformed", format!("the one {header} header must read {form}"))
}

fn sig_bad() -> Problem {
    Problem::unproven("sig_bad", "the request was not signed with the hook's secret")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_cannot_leave_its_place_in_the_url() {
        let template = "https://github.com/acme/shop/releases/download/{tag}/shop-{tag}.tar.gz";
        let bump = |tag: &str| Marks { tag: Some(tag.to_owned()), ..Marks::default() }.bump(template);
        assert_eq!(
            bump("v1.2.3").unwrap().url.unwrap(),
            "https://github.com/acme/shop/releases/download/v1.2.3/shop-v1.2.3.tar.gz"
        );
        for tag in ["", ".", "..", "v1/../../other", "v1?x", "v1%2f..", "v1 ", "v1#", "{sha}", &"1".repeat(65)] {
            assert_eq!(bump(tag).unwrap_err().status, 422, "{tag:?}");
        }
        assert!(Marks::default().bump(template).is_err());
    }
}
