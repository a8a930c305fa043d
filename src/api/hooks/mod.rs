//! Webhooks: a delivery from CI changes a project's desired artifact, and nothing else.
//!
//! The project's spec decides which proof is required, never the headers: otherwise the sender could choose the
//! weakest.

pub mod forgejo;
pub mod github;
pub mod gitlab;
mod marks;
mod release;
pub mod standard;

use std::borrow::Cow;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::model::desired::{DesiredProject, Intent};
use crate::model::event::By;
use crate::model::names::{ProjectId, SecretName, Sha256};
use crate::model::problem::Problem as Flaw;
use crate::model::progress::ProjectProgress;
use crate::model::quantity::Timestamp;
use crate::model::reason::Reason;
use crate::model::spec::{Artifact, ArtifactFrom, Hooks, Label, Source, Spec, TagPattern, Updates};
use crate::plan::target::{self, Kept};
use crate::port::{Delivery, PortError, WriteError, WriteResult};

use super::body::object;
use super::problem::Problem;
use super::query::content_type;
use super::{Answer, ApiState, Call, json};
use marks::Marks;

/// Another artifact, in our own body format.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bump {
    #[serde(default)]
    pub url: Option<String>,
    /// Or the digest of one already on the server, as answered by the upload.
    #[serde(default)]
    pub file: Option<Sha256>,
    #[serde(default)]
    pub sha256: Option<Sha256>,
    /// A version label for people.
    #[serde(default)]
    pub version: Option<Label>,
}

impl Bump {
    /// Parses our own body format.
    ///
    /// # Errors
    /// The body is not in this format, and why.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        parse(body)
    }
}

/// A verified delivery that names a version to deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    pub id: String,
    /// When the event happened: an older event must not undo a newer one.
    pub made: Timestamp,
    pub bump: Bump,
    /// The tag, if the event is an edit of a release: it counts only if that makes a newer release ready.
    pub edited: Option<String>,
}

/// What a verified request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Ping,
    /// Nothing to do, and why.
    Nothing(String),
    /// A release that is not ready yet; a later edit may make it ready.
    Unready {
        tag: String,
        why: String,
    },
    Delivery(Moved),
}

/// The providers that a spec can name.
pub const PROVIDERS: [&Provider; 4] = [&forgejo::PROVIDER, &github::PROVIDER, &gitlab::PROVIDER, &standard::PROVIDER];

/// A provider of webhooks.
pub struct Provider {
    /// Its names in the path; the first one is stored with its deliveries.
    pub names: &'static [&'static str],
    /// The headers that it sends, each with its meaning.
    pub headers: &'static [(&'static str, &'static str)],
    /// The content types that it sends.
    types: &'static [&'static str],
    /// Returns its settings in a spec, if any.
    hook: fn(&Hooks) -> Option<Box<dyn Hook>>,
}

/// A provider's settings in a spec.
pub trait Hook: Send {
    fn secret(&self) -> &SecretName;
    /// Verifies and reads a delivery.
    ///
    /// # Errors
    /// It is not from the provider, is for another repository, or lacks a field.
    fn hear(&self, secret: &str, sent: &Sent<'_>) -> Result<Heard, Problem>;
}

/// A request as it was received, and when.
pub struct Sent<'a> {
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
    pub now: Timestamp,
}

/// Answers `POST /v1/hooks/{id}/{provider}`.
///
/// # Errors
/// The request fails verification or asks for something not allowed.
pub async fn provider(mut call: Call) -> Answer {
    let (project, name) = (call.project()?, call.name()?.to_owned());
    let (headers, body) = (std::mem::take(&mut call.headers), std::mem::take(&mut call.body));
    let outcome = call
        .write_if(Outcome::changes, move |state| {
            let sent = Sent { headers: &headers, body: &body, now: state.clock.now() };
            Outcome::of_delivery(state, &project, &name, &sent)
        })
        .await?;
    json(StatusCode::ACCEPTED, &outcome.answer)
}

/// Answers `POST /v1/hooks/{id}/generic`, which carries our own signature.
///
/// # Errors
/// The delivery requests something that is not allowed.
pub async fn generic(call: &Call) -> Answer {
    call.query(&[])?;
    content_type(&call.headers, &["application/json"])?;
    let project = call.project()?;
    let bump = Bump::parse(&call.body)?;
    let by = By::Webhook(format!("generic of {}", call.by()?));
    let outcome = call
        .write_if(Outcome::changes, move |state| {
            let desired = state.known(&project)?;
            let spec = spec_of(&project, &desired)?;
            let write = |artifact: &Artifact| Ok(Ok(state.desired_store.overlay(&project, artifact, &by)?));
            Outcome::of_bump(state, &desired, spec, bump, write)
        })
        .await?;
    json(StatusCode::ACCEPTED, &outcome.answer)
}

/// What became of a verified request.
struct Outcome {
    answer: Value,
    /// Whether the desired state changed.
    changed: bool,
}

impl Outcome {
    /// Verifies a provider's request and does what it asks. Every check that could refuse it comes before the write: a
    /// provider that sends a delivery again uses the same id.
    fn of_delivery(state: &ApiState, project: &ProjectId, name: &str, sent: &Sent<'_>) -> Result<Self, Problem> {
        let Configured { desired, spec, provider, hook, secret } = configured(state, project, name)?;
        let generation = desired.generation;
        content_type(sent.headers, provider.types)?;
        // Each provider's first name stays what it is: it is stored.
        let name = provider.names[0];
        let note = format!("hook {name} of {project}: not ready");
        match hook.hear(&secret, sent)? {
            Heard::Ping => Ok(Self { answer: json!({ "project": project, "ping": true }), changed: false }),
            Heard::Nothing(why) => Ok(Self::ignored(project, generation, &why)),
            Heard::Unready { tag, why } => {
                state.desired_store.set_note(&note, &tag);
                Ok(Self::ignored(project, generation, &why))
            }
            Heard::Delivery(Moved { id, made, bump, edited }) => {
                // A release that was reported before it was ready is not an edit of a deployed one.
                let edited = edited.is_some() && state.desired_store.note(&note) != edited;
                let delivery = Delivery { provider: name, id, made, edited };
                Self::of_bump(state, &desired, &spec, bump, |artifact| {
                    let put = state.desired_store.deliver(project, artifact, &delivery)?;
                    Ok(put.ok_or(match edited {
                        true => "it is an edit, and no release that is newer than the last one taken",
                        false => "it came before, or a newer one did",
                    }))
                })
            }
        }
    }

    /// Moves a project to the artifact that a request names, through `write`, which may say why it does not count. A
    /// webhook cannot bring back a release that failed or was rolled back; only the owner's spec can.
    fn of_bump(
        state: &ApiState,
        desired: &DesiredProject,
        spec: &Spec,
        bump: Bump,
        write: impl FnOnce(&Artifact) -> Result<Result<WriteResult, &'static str>, Problem>,
    ) -> Result<Self, Problem> {
        let artifact = artifact(state, spec, bump)?;
        let progress = state.progress.progress_of(&spec.project)?;
        if let Some(release) = progress.release_blocking(&artifact) {
            let why = format!(
                "release {release} of the same artifact failed or was rolled back from; send another version, or put the spec with a change"
            );
            return Ok(Self::ignored(&spec.project, desired.generation, &why));
        }
        Ok(match write(&artifact)? {
            Ok(put) if put.changed => {
                let mut answer = json!({ "project": spec.project, "generation": put.generation });
                if let Some(message) = becomes(&progress, desired, spec, artifact) {
                    answer["message"] = json!(message);
                }
                Self { answer, changed: true }
            }
            Ok(put) => {
                let is_bare_url = artifact.adds_nothing_to(&artifact);
                let why = match is_bare_url {
                    true => "the URL is unchanged; send a version that is new, or its sha256, and it is fetched again",
                    false => "this artifact is wanted already",
                };
                Self::ignored(&spec.project, put.generation, why)
            }
            Err(why) => Self::ignored(&spec.project, desired.generation, why),
        })
    }

    /// Acknowledges a delivery that changes nothing, so that the provider does not count it as failed.
    fn ignored(project: &ProjectId, generation: u64, why: &str) -> Self {
        Self { answer: json!({ "project": project, "generation": generation, "ignored": why }), changed: false }
    }

    fn changes(&self) -> bool {
        self.changed
    }
}

/// Says what becomes of an artifact that is accepted, if it may be another thing than its sender expects.
fn becomes(progress: &ProjectProgress, desired: &DesiredProject, before: &Spec, artifact: Artifact) -> Option<String> {
    let both = before.artifact.source().zip(artifact.source());
    let same_url = both.is_some_and(|(old, new)| new.sha256().is_none() && old.is_at(new));
    let to_fetch = match artifact.source() {
        Some(Source::Url { sha256: None, .. }) => "; to have it fetched, send a version that is new, or its sha256",
        _ => "",
    };
    match target::kept(progress, desired, &Spec { artifact, ..before.clone() }) {
        Kept::Release(release) if progress.serving == Some(release) => {
            Some(format!("release {release}, which serves, is of this artifact{to_fetch}"))
        }
        Kept::Release(release) => {
            Some(format!("release {release} is of this artifact, and serves once it is healthy{to_fetch}"))
        }
        Kept::Bytes(release) => {
            Some(format!("a release is made with the artifact of release {release}, which is kept{to_fetch}"))
        }
        Kept::Nothing => same_url.then(|| {
            "it is the URL that was wanted already: it is fetched again, and a release is made if its bytes are others"
                .to_owned()
        }),
    }
}

/// What a request of a provider is checked with.
struct Configured {
    desired: DesiredProject,
    spec: Arc<Spec>,
    provider: &'static Provider,
    hook: Box<dyn Hook>,
    secret: zeroize::Zeroizing<String>,
}

/// Finds a project's settings for a provider. An unknown project and an unknown provider get the same answer: nothing
/// is verified yet.
fn configured(state: &ApiState, project: &ProjectId, name: &str) -> Result<Configured, Problem> {
    let missing = || Problem::missing("unknown_hook", format!("there is no {name:?} hook of {project}"));
    let provider = *PROVIDERS.iter().find(|provider| provider.names.contains(&name)).ok_or_else(missing)?;
    let desired = state.desired_store.desired_project(project)?.ok_or_else(missing)?;
    let spec = match &desired.intent {
        Intent::Run(spec) => Arc::clone(spec),
        // The cause is for the operator: who sends this is not known yet.
        Intent::Unreadable(_) => {
            let detail = format!("the hooks of {project} cannot be read; its status says why. Send it again later");
            return Err(PortError::transient(Reason::Database, detail).into());
        }
        Intent::Delete { .. } | Intent::Nothing => return Err(missing()),
    };
    let hook = (provider.hook)(&spec.hooks).ok_or_else(missing)?;
    let secret = state.desired_store.open_secret(project, hook.secret())?;
    let secret = secret.filter(|secret| !secret.is_empty()).ok_or_else(|| {
        let detail = format!("the hook's secret {} is not stored; set it with zexio secret set", hook.secret());
        Problem::conflict("hook_unready", detail)
    })?;
    Ok(Configured { desired, spec, provider, hook, secret })
}

fn spec_of<'a>(project: &ProjectId, desired: &'a DesiredProject) -> Result<&'a Spec, Problem> {
    match &desired.intent {
        Intent::Run(spec) => Ok(spec),
        Intent::Unreadable(why) => Err(WriteError::Unreadable { project: project.clone(), why: why.clone() }.into()),
        Intent::Delete { .. } | Intent::Nothing => {
            Err(Problem::conflict("no_spec", format!("project {project} has no spec that a hook could move")))
        }
    }
}

/// Makes the artifact that a bump requests, if the project lets webhooks change it and the rules let us fetch it.
fn artifact(state: &ApiState, spec: &Spec, bump: Bump) -> Result<Artifact, Problem> {
    if spec.artifact.updates != Updates::Webhook {
        let detail = format!("webhooks may not move {}: its spec needs artifact.updates: webhook", spec.project);
        return Err(Problem::conflict("updates_fixed", detail));
    }
    let Bump { url, file, sha256, version } = bump;
    let source = match (url, file) {
        (Some(url), None) => {
            (state.check_url)(&url).map_err(|cause| Problem::invalid(vec![Flaw::at("url", cause)]))?;
            Source::Url { url, sha256 }
        }
        (None, Some(digest)) => Source::File { name: digest.into(), sha256 },
        _ => return Err(Problem::invalid(vec![Flaw::at("", "exactly one of url, file")])),
    };
    Ok(Artifact { from: ArtifactFrom::Source(source), version, updates: spec.artifact.updates })
}

/// Parses the payload's JSON.
fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    object(body).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => Problem::invalid(vec![Flaw::at("", e.to_string())]),
        _ => Problem::bad("bad_body", format!("the body is not JSON: {e}")),
    })
}

/// The content type of a form, the default on GitHub's page for a new webhook.
const FORM: &str = "application/x-www-form-urlencoded";

/// Returns the JSON of a delivery: its body, or a form's only field `payload`. The signature covers the body as
/// received.
fn payload<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<Cow<'a, [u8]>, Problem> {
    if content_type(headers, &["application/json", FORM])? != Some(FORM) {
        return Ok(Cow::Borrowed(body));
    }
    let mut found = url::form_urlencoded::parse(body).filter(|(name, _)| name == "payload");
    match (found.next(), found.next()) {
        (Some((_, payload)), None) => Ok(Cow::Owned(payload.into_owned().into_bytes())),
        _ => Err(Problem::bad("bad_body", format!("a body of type {FORM} has one field payload, with the JSON in it"))),
    }
}

/// Parses a provider's time: RFC 3339, or as GitLab writes it, `2026-11-26 11:00:00 +0100` or `… UTC`.
fn moment(raw: &str) -> Result<Timestamp, String> {
    let written = raw.trim().replacen(' ', "T", 1);
    let (time, zone) = written.split_once(' ').unwrap_or((&written, ""));
    let colon = |zone: &str| zone.split_at_checked(3).map(|(hours, minutes)| format!("{hours}:{minutes}"));
    let zone = match zone {
        "UTC" => Some("Z".to_owned()),
        _ if zone.len() == 5 => colon(zone),
        _ => Some(zone.to_owned()),
    };
    let read = zone.and_then(|zone| Timestamp::parse(&format!("{time}{zone}")).ok());
    read.ok_or_else(|| format!("{raw:?} is not a time like 2026-12-01T08:00:00Z"))
}

/// A provider's time, parsed by `moment`.
fn read_moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let raw: Option<Cow<'de, str>> = Option::deserialize(deserializer)?;
    // Go writes the year 1 for a time that is not set.
    raw.filter(|raw| !raw.is_empty() && !raw.starts_with("0001-"))
        .map(|raw| moment(&raw).map_err(serde::de::Error::custom))
        .transpose()
}

/// Says why a tag deploys nothing here.
fn other_tag(tags: Option<&TagPattern>, tag: Option<&str>) -> Option<String> {
    let tags = tags?;
    match tag {
        Some(tag) if tags.matches(tag) => None,
        Some(tag) => {
            let tag: String = tag.chars().take(140).collect();
            Some(format!("the tag {tag:?} is none of {tags}"))
        }
        None => Some(format!("it is of no tag, and the hook takes those of {tags}")),
    }
}

/// Refuses an event for another repository than the one in the project's spec.
fn check_repo(expected: &str, found: &str) -> Result<(), Problem> {
    // No provider has two repositories whose names differ only in case.
    if expected.eq_ignore_ascii_case(found) {
        return Ok(());
    }
    let found: String = found.chars().take(120).collect();
    Err(Problem::new(StatusCode::FORBIDDEN, "repo", format!("the event is of {found:?}; this hook takes {expected:?}")))
}

/// Says why a run on this branch deploys nothing. Without this check every push to every branch would deploy. A
/// template that names the tag selects by itself; any other means the default branch.
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
    fn a_time_is_read_as_any_provider_writes_it() {
        for raw in [
            "2026-11-26T10:00:00Z",
            "2026-11-26T11:00:00+01:00",
            "2026-11-26T11:00:00.000+01:00",
            "2026-11-26 11:00:00 +0100",
            "2026-11-26 10:00:00 UTC",
            "2026-11-26 05:00:00 -0500",
            "2026-11-26T10:00:00.000000Z",
        ] {
            assert_eq!(moment(raw), Timestamp::parse("2026-11-26T10:00:00Z"), "{raw}");
        }
        for raw in
            ["", "today", "2026-11-26", "2026-11-26 11:00:00", "2026-11-26 11:00:00 CET", "2026-11-26 11:00:00 +1ä0"]
        {
            assert!(moment(raw).is_err(), "{raw}");
        }
    }
}
