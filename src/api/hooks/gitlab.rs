//! GitLab's webhooks: Standard Webhooks where it signs, a plain token for older versions that cannot.

use hyper::header::{HeaderMap, HeaderName};
use serde::Deserialize;

use crate::model::names::SecretName;
use crate::model::quantity::{Span, Timestamp};
use crate::model::spec::{GitlabEvent, GitlabHook, GitlabToken};
use crate::sign::{digest, same};

use super::super::query::only;
use super::{
    Flaw, Heard, Hook, Marks, Moved, Problem, Provider, Sent, check_repo, other_branch, other_tag, parse, read_moment,
    sig_bad, sig_malformed, sig_missing, standard,
};

const TOKEN: HeaderName = HeaderName::from_static("x-gitlab-token");

/// How far GitLab's clock may be ahead of ours before a release counts as scheduled.
const AHEAD: Span = Span::seconds(300);

#[derive(Deserialize)]
struct Payload {
    object_kind: String,
    project: Project,
    action: Option<String>,
    tag: Option<String>,
    #[serde(default, deserialize_with = "read_moment")]
    released_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "read_moment")]
    created_at: Option<Timestamp>,
    commit: Option<Commit>,
    object_attributes: Option<Pipeline>,
}

#[derive(Deserialize)]
struct Project {
    path_with_namespace: String,
    default_branch: Option<String>,
}

#[derive(Deserialize)]
struct Commit {
    id: String,
}

#[derive(Deserialize)]
struct Pipeline {
    id: u64,
    r#ref: Option<String>,
    #[serde(default)]
    tag: bool,
    sha: String,
    status: String,
    source: Option<String>,
    #[serde(default, deserialize_with = "read_moment")]
    created_at: Option<Timestamp>,
}

/// GitLab.
pub const PROVIDER: Provider = Provider {
    names: &["gitlab"],
    headers: &[
        ("X-Gitlab-Token", "with token: legacy"),
        standard::HEADERS[0],
        standard::HEADERS[1],
        standard::HEADERS[2],
    ],
    types: &["application/json"],
    hook: |hooks| Some(Box::new(hooks.gitlab.clone()?)),
};

impl Hook for GitlabHook {
    fn secret(&self) -> &SecretName {
        &self.secret
    }

    fn hear(&self, secret: &str, sent: &Sent<'_>) -> Result<Heard, Problem> {
        let Sent { headers, body, now } = *sent;
        let id = match self.token {
            GitlabToken::Signed => standard::check(secret, headers, body, now)?.id,
            GitlabToken::Legacy => check_token(secret, headers, body)?,
        };
        let payload: Payload = parse(body)?;
        check_repo(&self.repo, &payload.project.path_with_namespace)?;
        let action = payload.action.as_deref().unwrap_or_default();
        match (self.event, payload.object_kind.as_str(), &payload.object_attributes) {
            (GitlabEvent::Release, "release", _) if matches!(action, "create" | "update") => {
                release(self, &payload, id, action == "update", now)
            }
            (GitlabEvent::Pipeline, "pipeline", Some(pipeline)) => match unwanted(self, &payload, pipeline) {
                Some(why) => Ok(Heard::Nothing(why)),
                None => {
                    let made = pipeline.created_at.ok_or_else(|| timeless("object_attributes.created_at"))?;
                    Ok(Heard::Delivery(Moved { id, made, bump: marks(pipeline).bump(&self.artifact)?, edited: None }))
                }
            },
            _ => Ok(Heard::Nothing("it is not the event that this hook takes".to_owned())),
        }
    }
}

/// Compares digests, not texts: that takes the same time for a token of any length. The body's digest serves as the id,
/// which such a delivery lacks.
fn check_token(secret: &str, headers: &HeaderMap, body: &[u8]) -> Result<String, Problem> {
    let token = only(headers, &TOKEN).map_err(|_| sig_malformed("X-Gitlab-Token", "the hook's secret"))?;
    let token = token.ok_or_else(|| sig_missing("X-Gitlab-Token"))?;
    let hash = |text: &str| digest(text.as_bytes());
    match same(hash(token).as_str().as_bytes(), hash(secret).as_str().as_bytes()) {
        true => Ok(digest(body).as_str().to_owned()),
        false => Err(sig_bad()),
    }
}

/// A release dated in the future is GitLab's pre-release; GitLab sends no event when that day comes.
fn release(hook: &GitlabHook, payload: &Payload, id: String, edited: bool, now: Timestamp) -> Result<Heard, Problem> {
    let tag = payload.tag.clone();
    if let Some(why) = other_tag(hook.tags.as_ref(), tag.as_deref()) {
        return Ok(Heard::Nothing(why));
    }
    let made = payload.released_at.or(payload.created_at).ok_or_else(|| timeless("released_at"))?;
    if made > now.after(AHEAD) && !hook.prereleases {
        let why = format!("it is announced for {made}; the hook takes such a release with prereleases: true");
        return Ok(Heard::Unready { tag: tag.unwrap_or_default(), why });
    }
    let sha = payload.commit.as_ref().map(|commit| commit.id.clone());
    let bump = Marks { tag: tag.clone(), sha, run: None }.bump(&hook.artifact)?;
    Ok(Heard::Delivery(Moved { id, made: made.min(now), bump, edited: tag.filter(|_| edited) }))
}

fn timeless(field: &str) -> Problem {
    Problem::invalid(vec![Flaw::at(field, "it is missing, and which event is newer is told by it")])
}

/// Says why a pipeline deploys nothing; see GitHub's.
fn unwanted(hook: &GitlabHook, payload: &Payload, pipeline: &Pipeline) -> Option<String> {
    if pipeline.status != "success" {
        return Some("the pipeline did not succeed".to_owned());
    }
    let source = pipeline.source.as_deref().unwrap_or_default();
    if source.starts_with("merge_request") || source.starts_with("external_pull_request") {
        return Some("the pipeline is for a merge request".to_owned());
    }
    let tag = pipeline.r#ref.as_deref().filter(|_| pipeline.tag);
    if let Some(why) = other_tag(hook.tags.as_ref(), tag) {
        return Some(why);
    }
    if tag.is_none() && hook.artifact.contains("{tag}") {
        return Some("the pipeline is of no tag, and the URL needs {tag}".to_owned());
    }
    let branch = pipeline.r#ref.as_deref().filter(|_| !pipeline.tag);
    other_branch(&hook.artifact, branch, payload.project.default_branch.as_deref())
}

fn marks(pipeline: &Pipeline) -> Marks {
    let tag = pipeline.r#ref.clone().filter(|_| pipeline.tag);
    Marks { tag, sha: Some(pipeline.sha.clone()), run: Some(pipeline.id.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use serde_json::{Value, json};

    fn hook(event: &str, artifact: &str) -> GitlabHook {
        let hook =
            json!({ "repo": "acme/shop", "event": event, "artifact": artifact, "secret": "S", "token": "legacy" });
        serde_json::from_value(hook).unwrap()
    }

    fn heard(hook: &GitlabHook, token: &'static str, payload: &Value) -> Result<Heard, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(TOKEN, HeaderValue::from_static(token));
        let (body, now) = (payload.to_string(), Timestamp::parse("2026-12-01T00:00:00Z").unwrap());
        hook.hear("token", &Sent { headers: &headers, body: body.as_bytes(), now })
    }

    fn pipeline() -> Value {
        json!({
            "object_kind": "pipeline",
            "project": { "path_with_namespace": "acme/shop", "default_branch": "main" },
            "object_attributes": {
                "id": 31, "ref": "main", "tag": false, "sha": "bcbb5ec", "status": "success", "source": "push",
                "created_at": "2026-08-12 15:23:28 UTC",
            },
        })
    }

    #[test]
    fn a_release_becomes_an_artifact_for_whoever_knows_the_token() {
        let hook = hook("release", "https://x.example.com/{tag}.tar.gz");
        let payload = json!({
            "object_kind": "release", "action": "create", "tag": "v1.1", "released_at": "2026-11-02 12:55:12 UTC",
            "project": { "path_with_namespace": "acme/shop" }, "commit": { "id": "ee0a3fb" },
        });
        let Heard::Delivery(delivery) = heard(&hook, "token", &payload).unwrap() else { panic!("not taken") };
        assert_eq!(delivery.bump.url.as_deref(), Some("https://x.example.com/v1.1.tar.gz"));
        assert_eq!(delivery.made, Timestamp::parse("2026-11-02T12:55:12Z").unwrap());
        assert_eq!(heard(&hook, "tokem", &payload).unwrap_err().code, "sig_bad");
        let changed = |field: &str, value: Value| {
            let mut other = payload.clone();
            other[field] = value;
            heard(&hook, "token", &other)
        };
        assert!(
            matches!(changed("action", json!("update")), Ok(Heard::Delivery(Moved { edited: Some(tag), .. })) if tag == "v1.1")
        );
        assert!(matches!(changed("action", json!("delete")), Ok(Heard::Nothing(_))));
        assert!(
            matches!(changed("released_at", json!("2026-12-02 00:00:00 +0100")), Ok(Heard::Unready { tag, .. }) if tag == "v1.1")
        );
        for time in ["2026-11-02T13:55:12.000+01:00", "2026-11-02 13:55:12 +0100"] {
            let Heard::Delivery(delivery) = changed("released_at", json!(time)).unwrap() else { panic!("not taken") };
            assert_eq!(delivery.made, Timestamp::parse("2026-11-02T12:55:12Z").unwrap());
        }
        let tags = crate::model::spec::TagPattern::try_from("web/*".to_owned()).ok();
        let tagged = GitlabHook { tags, prereleases: true, ..hook.clone() };
        assert!(matches!(heard(&tagged, "token", &payload), Ok(Heard::Nothing(_))));
        let mut own = payload.clone();
        (own["tag"], own["released_at"]) = (json!("web/v1.1"), json!("2027-01-01 00:00:00 UTC"));
        assert!(matches!(heard(&tagged, "token", &own), Ok(Heard::Delivery(_))));
    }

    #[test]
    fn a_pipeline_of_a_branch_is_ignored_where_tags_are_asked_for() {
        let hook = hook("pipeline", "https://x.example.com/{tag}.tar.gz");
        assert!(matches!(heard(&hook, "token", &pipeline()), Ok(Heard::Nothing(_))));
        let mut tagged = pipeline();
        (tagged["object_attributes"]["tag"], tagged["object_attributes"]["ref"]) = (json!(true), json!("web-1"));
        assert!(matches!(heard(&hook, "token", &tagged), Ok(Heard::Delivery(_))));
        let tags = |raw: &str| crate::model::spec::TagPattern::try_from(raw.to_owned()).ok();
        for (pattern, taken) in [("web-*", true), ("api-*", false)] {
            let hook = GitlabHook { tags: tags(pattern), ..hook.clone() };
            assert_eq!(matches!(heard(&hook, "token", &tagged), Ok(Heard::Delivery(_))), taken, "{pattern}");
        }
    }

    #[test]
    fn a_pipeline_deploys_only_what_the_default_branch_built() {
        let hook = hook("pipeline", "https://x.example.com/{sha}-{run}.tar.gz");
        assert!(matches!(heard(&hook, "token", &pipeline()), Ok(Heard::Delivery(_))));
        for (field, value) in
            [("status", json!("failed")), ("source", json!("merge_request_event")), ("ref", json!("feature"))]
        {
            let mut other = pipeline();
            other["object_attributes"][field] = value;
            assert!(matches!(heard(&hook, "token", &other), Ok(Heard::Nothing(_))), "{field}");
        }
        let mut other = pipeline();
        other["project"]["path_with_namespace"] = json!("evil/shop");
        assert_eq!(heard(&hook, "token", &other).unwrap_err().code, "repo");
    }

    #[test]
    fn a_project_that_asks_for_signatures_takes_no_token() {
        let mut hook = hook("release", "https://x.example.com/{tag}.tar.gz");
        hook.token = GitlabToken::Signed;
        assert_eq!(heard(&hook, "token", &pipeline()).unwrap_err().code, "sig_missing");
    }
}
