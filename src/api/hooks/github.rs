//! GitHub's webhooks: signed over the raw body, without a time. The delivery's id is not signed, so the event's own
//! time is what prevents the replay of an old body.

use hyper::header::{HeaderMap, HeaderName};
use serde::Deserialize;

use crate::model::names::SecretName;
use crate::model::quantity::Timestamp;
use crate::model::spec::{GithubEvent, GithubHook};
use crate::sign::{hmac, parse_proof, same};

use super::super::query::only;
use super::release::{News, Release, Rules};
use super::{
    FORM, Flaw, Heard, Hook, Marks, Moved, Problem, Provider, Sent, check_repo, other_branch, other_tag, parse,
    payload, read_moment, sig_bad, sig_malformed, sig_missing,
};

const SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");
const DELIVERY: HeaderName = HeaderName::from_static("x-github-delivery");
const EVENT: HeaderName = HeaderName::from_static("x-github-event");

#[derive(Deserialize)]
struct Payload {
    action: Option<String>,
    repository: Repository,
    release: Option<Release>,
    workflow_run: Option<Run>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
    default_branch: Option<String>,
}

#[derive(Deserialize)]
struct Run {
    id: u64,
    conclusion: Option<String>,
    event: Option<String>,
    head_branch: Option<String>,
    head_sha: String,
    head_repository: Option<Repository>,
    #[serde(default, deserialize_with = "read_moment")]
    created_at: Option<Timestamp>,
}

/// GitHub.
pub const PROVIDER: Provider = Provider {
    names: &["github"],
    headers: &[
        ("X-Hub-Signature-256", "sha256=<hex HMAC of the body>"),
        ("X-GitHub-Event", "the event"),
        ("X-GitHub-Delivery", "the delivery's id"),
    ],
    types: &["application/json", FORM],
    hook: |hooks| Some(Box::new(hooks.github.clone()?)),
};

impl Hook for GithubHook {
    fn secret(&self) -> &SecretName {
        &self.secret
    }

    fn hear(&self, secret: &str, sent: &Sent<'_>) -> Result<Heard, Problem> {
        let Sent { headers, body, .. } = *sent;
        check_proof(secret, headers, body)?;
        if only(headers, &EVENT) == Ok(Some("ping")) {
            return Ok(Heard::Ping);
        }
        let payload: Payload = parse(&payload(headers, body)?)?;
        check_repo(&self.repo, &payload.repository.full_name)?;
        let id = match only(headers, &DELIVERY) {
            Ok(Some(id)) if (1..=128).contains(&id.len()) => id.to_owned(),
            _ => return Err(Problem::bad("bad_header", "a delivery has exactly one X-GitHub-Delivery header")),
        };
        match (self.event, &payload.release, &payload.workflow_run, payload.action.as_deref()) {
            // A full release sends both; a promoted pre-release sends `released` alone.
            (GithubEvent::Release, Some(release), _, Some(action @ ("published" | "released"))) => {
                let news = if action == "released" { News::Promoted } else { News::Published };
                let rules = Rules { artifact: &self.artifact, tags: self.tags.as_ref(), prereleases: self.prereleases };
                release.heard(&rules, &id, news)
            }
            (GithubEvent::WorkflowRun, _, Some(run), Some("completed")) => match unwanted(self, &payload, run) {
                Some(why) => Ok(Heard::Nothing(why)),
                None => {
                    let missing = || Problem::invalid(vec![Flaw::at("workflow_run.created_at", "a run has one")]);
                    let made = run.created_at.ok_or_else(missing)?;
                    Ok(Heard::Delivery(Moved { id, made, bump: marks(run).bump(&self.artifact)?, edited: None }))
                }
            },
            _ => Ok(Heard::Nothing("it is not the event that this hook takes".to_owned())),
        }
    }
}

fn check_proof(secret: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), Problem> {
    let malformed = || sig_malformed("X-Hub-Signature-256", "sha256=<64 hex>");
    let raw = only(headers, &SIGNATURE).map_err(|_| malformed())?;
    let raw = raw.ok_or_else(|| sig_missing("X-Hub-Signature-256"))?;
    let proof = raw.strip_prefix("sha256=").and_then(parse_proof).ok_or_else(malformed)?;
    if same(&hmac(secret.as_bytes(), &[body]), &proof) { Ok(()) } else { Err(sig_bad()) }
}

/// Says why a run deploys nothing. A run for a pull request builds an outsider's commit on a branch that the outsider
/// named, although it belongs to this repository.
fn unwanted(hook: &GithubHook, payload: &Payload, run: &Run) -> Option<String> {
    if run.conclusion.as_deref() != Some("success") {
        return Some("the run did not succeed".to_owned());
    }
    let is_other = |head: &Repository| !head.full_name.eq_ignore_ascii_case(&hook.repo);
    let of_fork = run.head_repository.as_ref().is_some_and(is_other);
    if of_fork || run.event.as_deref().is_some_and(|event| event.starts_with("pull_request")) {
        return Some("the run is for a pull request".to_owned());
    }
    // A run carries only a name, of a branch or of a tag, so `tags` decides for both.
    match &hook.tags {
        Some(tags) => other_tag(Some(tags), run.head_branch.as_deref()),
        None => other_branch(&hook.artifact, run.head_branch.as_deref(), payload.repository.default_branch.as_deref()),
    }
}

fn marks(run: &Run) -> Marks {
    Marks { tag: run.head_branch.clone(), sha: Some(run.head_sha.clone()), run: Some(run.id.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use serde_json::{Value, json};

    const SECRET: &str = "It's a Secret to Everybody";

    fn hook(event: &str, artifact: &str) -> GithubHook {
        serde_json::from_value(
            json!({ "repo": "acme/shop", "event": event, "artifact": artifact, "secret": "GITHUB_HOOK" }),
        )
        .unwrap()
    }

    fn headers(body: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let proof = format!("sha256={}", hex::encode(hmac(SECRET.as_bytes(), &[body])));
        headers.insert(SIGNATURE, HeaderValue::from_str(&proof).unwrap());
        headers.insert(DELIVERY, HeaderValue::from_static("d-1"));
        headers
    }

    fn heard(hook: &GithubHook, payload: &Value) -> Result<Heard, Problem> {
        let body = payload.to_string().into_bytes();
        hook.hear(SECRET, &Sent { headers: &headers(&body), body: &body, now: Timestamp(0) })
    }

    fn release(repo: &str) -> Value {
        json!({
            "action": "published",
            "repository": { "full_name": repo },
            "release": { "tag_name": "v1.8.2", "draft": false, "published_at": "2026-11-01T10:00:00Z" },
        })
    }

    fn run() -> Value {
        json!({
            "action": "completed",
            "repository": { "full_name": "acme/shop", "default_branch": "main" },
            "workflow_run": {
                "id": 77, "conclusion": "success", "event": "push", "head_branch": "main", "head_sha": "abc123",
                "head_repository": { "full_name": "acme/shop" }, "created_at": "2026-11-01T10:00:00Z",
            },
        })
    }

    #[test]
    fn githubs_own_example_is_accepted() {
        let mut headers = HeaderMap::new();
        let value = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        headers.insert(SIGNATURE, HeaderValue::from_static(value));
        assert_eq!(check_proof(SECRET, &headers, b"Hello, World!"), Ok(()));
        assert_eq!(check_proof(SECRET, &headers, b"Hello, World").unwrap_err().code, "sig_bad");
        assert_eq!(check_proof("other", &headers, b"Hello, World!").unwrap_err().code, "sig_bad");
        headers.append(SIGNATURE, HeaderValue::from_static(value));
        assert_eq!(check_proof(SECRET, &headers, b"Hello, World!").unwrap_err().code, "sig_malformed");
        assert_eq!(check_proof(SECRET, &HeaderMap::new(), b"").unwrap_err().code, "sig_missing");
    }

    #[test]
    fn a_published_release_becomes_an_artifact_and_other_events_nothing() {
        let hook = hook("release", "https://x.example.com/{tag}.tar.gz");
        let Heard::Delivery(delivery) = heard(&hook, &release("acme/shop")).unwrap() else { panic!("not taken") };
        assert_eq!(delivery.bump.url.as_deref(), Some("https://x.example.com/v1.8.2.tar.gz"));
        assert_eq!(delivery.made, Timestamp::parse("2026-11-01T10:00:00Z").unwrap());
        assert!(matches!(heard(&hook, &run()), Ok(Heard::Nothing(_))));
        assert_eq!(heard(&hook, &release("evil/shop")).unwrap_err().code, "repo");
        let mut draft = release("acme/shop");
        draft["release"]["draft"] = json!(true);
        draft["release"]["published_at"] = Value::Null;
        assert!(matches!(heard(&hook, &draft), Ok(Heard::Unready { .. })));
        draft["release"]["published_at"] = json!("0001-01-01T00:00:00Z");
        assert!(matches!(heard(&hook, &draft), Ok(Heard::Unready { .. })));
        for action in ["created", "edited", "prereleased", "unpublished", "deleted"] {
            let mut other = release("acme/shop");
            other["action"] = json!(action);
            assert!(matches!(heard(&hook, &other), Ok(Heard::Nothing(_))), "{action}");
        }
        assert!(matches!(heard(&hook, &release("Acme/Shop")), Ok(Heard::Delivery(_))));
    }

    #[test]
    fn a_pre_release_is_taken_once_it_is_promoted_or_where_the_hook_says_so() {
        let hook = hook("release", "https://x.example.com/{tag}.tar.gz");
        let mut early = release("acme/shop");
        early["release"]["prerelease"] = json!(true);
        let Heard::Unready { why, .. } = heard(&hook, &early).unwrap() else { panic!("taken") };
        assert!(why.contains("prereleases: true"), "{why}");
        let open = GithubHook { prereleases: true, ..hook.clone() };
        assert!(matches!(heard(&open, &early), Ok(Heard::Delivery(_))));
        early["action"] = json!("released");
        early["release"]["prerelease"] = json!(false);
        early["release"]["updated_at"] = json!("2026-11-03T10:00:00Z");
        let Heard::Delivery(moved) = heard(&hook, &early).unwrap() else { panic!("not taken") };
        assert_eq!(
            Ok(moved.made),
            Timestamp::parse("2026-11-03T10:00:00Z"),
            "others may have come since it was published"
        );
    }

    #[test]
    fn another_packages_tag_deploys_nothing() {
        let tags = crate::model::spec::TagPattern::try_from("web-*".to_owned()).unwrap();
        let tagged = GithubHook { tags: Some(tags), ..hook("release", "https://x.example.com/{tag}.tar.gz") };
        let mut other = release("acme/shop");
        assert!(matches!(heard(&tagged, &other), Ok(Heard::Nothing(_))));
        other["release"]["tag_name"] = json!("web-1.0.0");
        assert!(matches!(heard(&tagged, &other), Ok(Heard::Delivery(_))));
        let of_runs = GithubHook { event: GithubEvent::WorkflowRun, artifact: "https://x/{sha}".into(), ..tagged };
        assert!(matches!(heard(&of_runs, &run()), Ok(Heard::Nothing(_))));
        let mut tagged_run = run();
        tagged_run["workflow_run"]["head_branch"] = json!("web-1.0.0");
        assert!(matches!(heard(&of_runs, &tagged_run), Ok(Heard::Delivery(_))));
    }

    #[test]
    fn a_form_is_read_as_its_payload_and_signed_as_it_came() {
        let hook = hook("release", "https://x.example.com/{tag}.tar.gz");
        let mut payload = release("acme/shop");
        payload["release"]["body"] = json!("a & b = c + d % e ü");
        let sent = |kind: &'static str, body: &str| {
            let mut headers = headers(body.as_bytes());
            headers.insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static(kind));
            hook.hear(SECRET, &Sent { headers: &headers, body: body.as_bytes(), now: Timestamp(0) })
        };
        let form =
            |pairs: &[(&str, &str)]| url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let text = payload.to_string();
        for kind in ["application/x-www-form-urlencoded", "Application/X-WWW-Form-Urlencoded; charset=UTF-8"] {
            assert!(matches!(sent(kind, &form(&[("payload", &text)])), Ok(Heard::Delivery(_))), "{kind}");
        }
        assert!(matches!(sent("application/json; charset=utf-8", &text), Ok(Heard::Delivery(_))));
        let form_type = "application/x-www-form-urlencoded";
        for body in [text.clone(), form(&[("body", &text)]), form(&[("payload", &text), ("payload", &text)])] {
            assert_eq!(sent(form_type, &body).unwrap_err().code, "bad_body");
        }
        assert_eq!(sent("text/plain", &text).unwrap_err().code, "content_type");
    }

    #[test]
    fn a_run_deploys_only_what_the_repositorys_own_default_branch_built() {
        let hook = hook("workflow_run", "https://x.example.com/{sha}-{run}.tar.gz");
        let Heard::Delivery(delivery) = heard(&hook, &run()).unwrap() else { panic!("not taken") };
        assert_eq!(delivery.bump.url.as_deref(), Some("https://x.example.com/abc123-77.tar.gz"));
        for (field, value) in [
            ("conclusion", json!("failure")),
            ("event", json!("pull_request")),
            ("event", json!("pull_request_target")),
            ("head_branch", json!("feature")),
            ("head_repository", json!({ "full_name": "stranger/shop" })),
        ] {
            let mut other = run();
            other["workflow_run"][field] = value;
            assert!(matches!(heard(&hook, &other), Ok(Heard::Nothing(_))), "{field}");
        }
    }

    #[test]
    fn a_payload_that_lacks_something_is_refused_and_nothing_panics() {
        let hook = hook("release", "https://x.example.com/{tag}.tar.gz");
        for payload in [json!([]), json!({}), json!(null), json!({ "repository": [] })] {
            assert!(heard(&hook, &payload).is_err(), "{payload}");
        }
    }
}
