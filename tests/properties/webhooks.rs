//! Webhook proofs: a body that changed on the way is never heard, whichever provider sent it.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zexio::api::hooks::{Heard, Hook, Sent, standard};
use zexio::model::quantity::Timestamp;
use zexio::model::spec::{ForgejoHook, GithubHook, GitlabHook};
use zexio::sign::hmac;

const NOW: Timestamp = Timestamp(1_767_225_600_000);

fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
    let read = |(name, value): &(&'static str, String)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header's text"))
    };
    pairs.iter().map(read).collect()
}

/// Changes a body: a byte, a byte less, a byte more.
fn changed(body: &[u8], at: Index, byte: u8, way: u8) -> Vec<u8> {
    let mut body = body.to_vec();
    match (way % 3, body.is_empty()) {
        (0, false) => {
            let at = at.index(body.len());
            body[at] ^= byte.max(1);
        }
        (1, false) => drop(body.pop()),
        _ => body.push(byte),
    }
    body
}

proptest! {
    #[test]
    fn github_is_heard_with_its_own_body_alone(body: Vec<u8>, secret in "[ -~]{1,40}", at: Index, byte: u8, way: u8) {
        let hook = json!({ "repo": "a/b", "event": "release", "artifact": "https://x/{tag}", "secret": "S" });
        let hook: GithubHook = serde_json::from_value(hook).expect("a hook");
        let proof = hex::encode(hmac(secret.as_bytes(), &[&body]));
        let headers = headers(&[("x-hub-signature-256", format!("sha256={proof}")), ("x-github-event", "ping".into())]);
        let own = hook.hear(&secret, &Sent { headers: &headers, body: &body, now: NOW });
        prop_assert_eq!(own.map_err(|p| p.code), Ok(Heard::Ping));
        let other = changed(&body, at, byte, way);
        prop_assert_eq!(hook.hear(&secret, &Sent { headers: &headers, body: &other, now: NOW }).map_err(|p| p.code), Err("sig_bad"));
        prop_assert_eq!(hook.hear(&format!("{secret}x"), &Sent { headers: &headers, body: &body, now: NOW }).map_err(|p| p.code), Err("sig_bad"));
    }

    #[test]
    fn forgejo_is_heard_with_its_own_body_alone(tag in "[a-z0-9@/+._-]{1,40}", secret in "[ -~]{1,40}", at: Index, byte: u8, way: u8) {
        let hook = json!({ "repo": "a/b", "event": "release", "artifact": "https://x/{tag}", "secret": "S" });
        let hook: ForgejoHook = serde_json::from_value(hook).expect("a hook");
        let release = json!({ "tag_name": tag, "draft": true, "published_at": null });
        let body = json!({ "action": "published", "repository": { "full_name": "a/b" }, "release": release }).to_string();
        let proof = hex::encode(hmac(secret.as_bytes(), &[body.as_bytes()]));
        let headers = headers(&[("x-forgejo-signature", proof), ("x-forgejo-delivery", "1".into())]);
        let own = hook.hear(&secret, &Sent { headers: &headers, body: body.as_bytes(), now: NOW });
        prop_assert_eq!(own.err().map(|p| p.code), None);
        let other = changed(body.as_bytes(), at, byte, way);
        prop_assert_eq!(hook.hear(&secret, &Sent { headers: &headers, body: &other, now: NOW }).map_err(|p| p.code), Err("sig_bad"));
    }

    #[test]
    fn a_standard_webhook_is_heard_with_its_own_id_time_and_body_alone(
        body: Vec<u8>, key in any::<[u8; 24]>(), id in "[!-~&&[^.]]{1,30}", skew in 0u64..=300, at: Index, byte: u8, way: u8,
    ) {
        let secret = format!("whsec_{}", STANDARD.encode(key));
        let time = NOW.0 / 1000 - skew;
        let signed = |id: &str, time: u64, body: &[u8]| {
            STANDARD.encode(hmac(&key, &[id.as_bytes(), b".", time.to_string().as_bytes(), b".", body]))
        };
        let sent = |id: &str, time: u64, proof: &str| {
            headers(&[
                ("webhook-id", id.to_owned()),
                ("webhook-timestamp", time.to_string()),
                ("webhook-signature", format!("v1,{proof}")),
            ])
        };
        let proof = signed(&id, time, &body);
        prop_assert!(standard::check(&secret, &sent(&id, time, &proof), &body, NOW).is_ok());
        let other = changed(&body, at, byte, way);
        for (headers, body) in [
            (sent(&id, time, &proof), &other),
            (sent(&format!("{id}x"), time, &proof), &body),
            (sent(&id, time - 1, &proof), &body),
        ] {
            prop_assert_eq!(standard::check(&secret, &headers, body, NOW).map_err(|p| p.code), Err("sig_bad"));
        }
    }

    #[test]
    fn gitlabs_token_is_compared_whole(body: Vec<u8>, secret in "[!-~]{1,40}", other in "[!-~]{1,40}") {
        prop_assume!(secret != other);
        let hook = json!({ "repo": "a/b", "event": "release", "artifact": "https://x/{tag}", "secret": "S", "token": "legacy" });
        let hook: GitlabHook = serde_json::from_value(hook).expect("a hook");
        let heard = hook.hear(&secret, &Sent { headers: &headers(&[("x-gitlab-token", other)]), body: &body, now: NOW });
        prop_assert_eq!(heard.map_err(|p| p.code), Err("sig_bad"));
    }
}
