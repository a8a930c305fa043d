//! Webhooks of Forgejo and Gitea: GitHub's payloads under their own headers.

use hyper::header::{HeaderMap, HeaderName};
use serde::Deserialize;

use crate::model::names::SecretName;
use crate::model::spec::ForgejoHook;
use crate::sign::{hmac, parse_proof, same};

use super::super::query::only;
use super::release::{News, Release, Rules};
use super::{
    FORM, Heard, Hook, Problem, Provider, Sent, check_repo, parse, payload, sig_bad, sig_malformed, sig_missing,
};

/// All carry the same signature (same body, same secret), so the first one present will do.
static SIGNATURES: [(HeaderName, &str, &str); 3] = [
    (HeaderName::from_static("x-forgejo-signature"), "X-Forgejo-Signature", ""),
    (HeaderName::from_static("x-gitea-signature"), "X-Gitea-Signature", ""),
    (HeaderName::from_static("x-hub-signature-256"), "X-Hub-Signature-256", "sha256="),
];
static DELIVERIES: [HeaderName; 3] = [
    HeaderName::from_static("x-forgejo-delivery"),
    HeaderName::from_static("x-gitea-delivery"),
    HeaderName::from_static("x-github-delivery"),
];

#[derive(Deserialize)]
struct Payload {
    action: Option<String>,
    repository: Repository,
    release: Option<Release>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
}

/// Forgejo and Gitea.
pub const PROVIDER: Provider = Provider {
    names: &["forgejo", "gitea"],
    headers: &[
        (
            "X-Forgejo-Signature",
            "<hex HMAC of the body>; X-Gitea-Signature is the same, and X-Hub-Signature-256: sha256=<hex>",
        ),
        ("X-Forgejo-Event", "the event; or X-Gitea-Event"),
        ("X-Forgejo-Delivery", "the delivery's id; or X-Gitea-Delivery"),
    ],
    types: &["application/json", FORM],
    hook: |hooks| Some(Box::new(hooks.forgejo.clone()?)),
};

impl Hook for ForgejoHook {
    fn secret(&self) -> &SecretName {
        &self.secret
    }

    fn hear(&self, secret: &str, sent: &Sent<'_>) -> Result<Heard, Problem> {
        let Sent { headers, body, .. } = *sent;
        check_proof(secret, headers, body)?;
        let payload: Payload = parse(&payload(headers, body)?)?;
        check_repo(&self.repo, &payload.repository.full_name)?;
        // A draft published over an existing tag, and a promoted pre-release, arrive as `updated`.
        let (release, news) = match (&payload.release, payload.action.as_deref()) {
            (Some(release), Some("published")) => (release, News::Published),
            (Some(release), Some("updated")) => (release, News::Edited),
            _ => return Ok(Heard::Nothing("it is not the event that this hook takes".to_owned())),
        };
        let id = match DELIVERIES.iter().find_map(|name| only(headers, name).ok().flatten()) {
            Some(id) if (1..=128).contains(&id.len()) => id,
            _ => return Err(Problem::bad("bad_header", "a delivery has exactly one X-Forgejo-Delivery header")),
        };
        release.heard(
            &Rules { artifact: &self.artifact, tags: self.tags.as_ref(), prereleases: self.prereleases },
            id,
            news,
        )
    }
}

fn check_proof(secret: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), Problem> {
    let sent = SIGNATURES.iter().find(|(name, ..)| headers.contains_key(name));
    let (name, shown, prefix) = sent.ok_or_else(|| sig_missing("X-Forgejo-Signature or X-Gitea-Signature"))?;
    let malformed = || sig_malformed(shown, &format!("{prefix}<64 hex>"));
    let raw = only(headers, name).ok().flatten().ok_or_else(malformed)?;
    let proof = raw.strip_prefix(prefix).and_then(parse_proof).ok_or_else(malformed)?;
    if same(&hmac(secret.as_bytes(), &[body]), &proof) { Ok(()) } else { Err(sig_bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::quantity::Timestamp;
    use hyper::header::HeaderValue;
    use serde_json::{Value, json};

    fn hook() -> ForgejoHook {
        let artifact = "https://codeberg.org/acme/shop/releases/download/{tag}/shop.tar.gz";
        let hook =
            json!({ "repo": "acme/shop", "event": "release", "artifact": artifact, "tags": "v*", "secret": "S" });
        serde_json::from_value(hook).unwrap()
    }

    fn release() -> Value {
        json!({
            "action": "published",
            "release": {
                "id": 4, "tag_name": "v1.8.2", "target_commitish": "main", "draft": false, "prerelease": false,
                "created_at": "2026-11-26T11:00:00+01:00", "published_at": "2026-11-26T11:00:00+01:00", "assets": [],
            },
            "repository": { "id": 1, "name": "shop", "full_name": "acme/shop", "default_branch": "main" },
        })
    }

    fn sent(signature: &'static str, prefix: &str, payload: &Value) -> Result<Heard, Problem> {
        let body = payload.to_string().into_bytes();
        let mut headers = HeaderMap::new();
        let proof = format!("{prefix}{}", hex::encode(hmac(b"secret", &[&body])));
        headers.insert(HeaderName::from_static(signature), HeaderValue::from_str(&proof).unwrap());
        headers.insert(DELIVERIES[1].clone(), HeaderValue::from_static("d-1"));
        hook().hear("secret", &Sent { headers: &headers, body: &body, now: Timestamp(0) })
    }

    fn heard(payload: &Value) -> Result<Heard, Problem> {
        sent("x-forgejo-signature", "", payload)
    }

    #[test]
    fn each_of_its_signatures_is_taken_in_its_own_form_alone() {
        for (name, prefix) in
            [("x-forgejo-signature", ""), ("x-gitea-signature", ""), ("x-hub-signature-256", "sha256=")]
        {
            assert!(matches!(sent(name, prefix, &release()), Ok(Heard::Delivery(_))), "{name}");
        }
        assert_eq!(sent("x-gitea-signature", "sha256=", &release()).unwrap_err().code, "sig_malformed");
        assert_eq!(sent("x-hub-signature-256", "", &release()).unwrap_err().code, "sig_malformed");
        assert_eq!(sent("x-gogs-signature", "", &release()).unwrap_err().code, "sig_missing");
        let mut headers = HeaderMap::new();
        headers.insert(SIGNATURES[0].0.clone(), HeaderValue::from_str(&"0".repeat(64)).unwrap());
        assert_eq!(
            hook().hear("secret", &Sent { headers: &headers, body: b"{}", now: Timestamp(0) }).unwrap_err().code,
            "sig_bad"
        );
        let twice = HeaderValue::from_str(&hex::encode(hmac(b"secret", &[b"{}"]))).unwrap();
        headers.insert(SIGNATURES[0].0.clone(), twice.clone());
        headers.append(SIGNATURES[0].0.clone(), twice);
        assert_eq!(
            hook().hear("secret", &Sent { headers: &headers, body: b"{}", now: Timestamp(0) }).unwrap_err().code,
            "sig_malformed"
        );
    }

    #[test]
    fn a_release_of_its_own_repository_is_taken_in_any_zone() {
        let Heard::Delivery(moved) = heard(&release()).unwrap() else { panic!("not taken") };
        let url = "https://codeberg.org/acme/shop/releases/download/v1.8.2/shop.tar.gz";
        assert_eq!((moved.bump.url.as_deref(), moved.edited), (Some(url), None));
        assert_eq!(moved.made, Timestamp::parse("2026-11-26T10:00:00Z").unwrap());
        let mut other = release();
        other["repository"]["full_name"] = json!("evil/shop");
        assert_eq!(heard(&other).unwrap_err().code, "repo");
        let mut push = release();
        push["release"] = Value::Null;
        assert!(matches!(heard(&push), Ok(Heard::Nothing(_))));
    }

    #[test]
    fn what_is_not_ready_is_ignored_with_its_tag_and_an_edit_is_told_as_one() {
        for (field, value) in [("draft", json!(true)), ("prerelease", json!(true))] {
            let mut early = release();
            early["release"][field] = value;
            let Heard::Unready { tag, .. } = heard(&early).unwrap() else { panic!("{field}") };
            assert_eq!(tag, "v1.8.2");
        }
        let mut edit = release();
        edit["action"] = json!("updated");
        let Heard::Delivery(moved) = heard(&edit).unwrap() else { panic!("not taken") };
        assert_eq!(moved.edited.as_deref(), Some("v1.8.2"));
        let mut other = release();
        other["release"]["tag_name"] = json!("api-v1");
        assert!(matches!(heard(&other), Ok(Heard::Nothing(why)) if why.contains("\"api-v1\" is none of v*")));
        let mut timeless = release();
        timeless["release"]["published_at"] = Value::Null;
        assert_eq!(heard(&timeless).unwrap_err().code, "invalid");
    }
}
