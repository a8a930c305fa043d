//! Webhook proofs: a body that changed on the way is never heard, whichever provider sent it.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zexio::api::hooks::{forgejo, github, gitlab, standard};
use zexio::model::quantity::Timestamp;
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
        let hook = serde_json::from_value(hook).expect("a hook");
        let proof = hex::encode(hmac(secret.as_bytes(), &[&body]));
        let headers = headers(&[("x-hub-signature-256", format!("sha256={proof}")), ("x-github-event", "ping".into())]);
        prop_assert!(github::hear(&hook, &secret, &headers, &body).is_ok());
        let other = changed(&body, at, byte, way);
        prop_assert_eq!(github::hear(&hook, &secret, &headers, &other).map_err(|p| p.code), Err("sig_bad"));
        prop_assert_eq!(github::hear(&hook, &format!("{secret}x"), &headers, &body).map_err(|p| p.code), Err("sig_bad"));
    }

    #[test]
    fn forgejo_is_heard_with_its_own_body_alone(tag in "[a-z0-9@/+._-]{1,40}", secret in "[ -~]{1,40}", at: Index, byte: u8, way: u8) {
        let hook = json!({ "repo": "a/b", "event": "release", "artifact": "https://x/{tag}", "secret": "S" });
        let hook = serde_json::from_value(hook).expect("a hook");
        let release = json!({ "tag_name": tag, "draft": true, "published_at": null });
        let body = json!({ "action": "published", "repository": { "full_name": "a/b" }, "release": release }).to_string();
        let proof = hex::encode(hmac(secret.as_bytes(), &[body.as_bytes()]));
        let headers = headers(&[("x-forgejo-signature", proof), ("x-forgejo-delivery", "1".into())]);
        prop_assert!(forgejo::hear(&hook, &secret, &headers, body.as_bytes()).is_ok());
        let other = changed(body.as_bytes(), at, byte, way);
        prop_assert_eq!(forgejo::hear(&hook, &secret, &headers, &other).map_err(|p| p.code), Err("sig_bad"));
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
        let hook = serde_json::from_value(hook).expect("a hook");
        let heard = gitlab::hear(&hook, &secret, &headers(&[("x-gitlab-token", other)]), &body, NOW);
        prop_assert_eq!(heard.map_err(|p| p.code), Err("sig_bad"));
    }
}
