//! Whatever a provider's body holds is heard or refused, and the artifact it leads to stays within the hook's template.

#![no_main]

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use zexio::api::hooks::{Bump, Heard, Hook, Sent, standard};
use zexio::model::quantity::Timestamp;
use zexio::model::spec::{ForgejoHook, GithubHook, GitlabHook};
use zexio::sign::hmac;

const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NOW: u64 = 1_767_225_600;
const START: &str = "https://dl.example.com/";

fuzz_target!(|body: &[u8]| {
    let _ = Bump::parse(body);
    for event in ["release", "workflow_run"] {
        let hook: GithubHook = serde_json::from_value(hook(event)).expect("a hook");
        check(hook.hear(SECRET, &Sent { headers: &github_headers(body), body, now: Timestamp(NOW * 1000) }).ok());
    }
    let hook_of_tags =
        json!({ "repo": "acme/shop", "event": "release", "artifact": format!("{START}a/{{tag}}"), "secret": "HOOK" });
    let hook_of_tags: ForgejoHook = serde_json::from_value(hook_of_tags).expect("a hook");
    check(hook_of_tags.hear(SECRET, &Sent { headers: &github_headers(body), body, now: Timestamp(NOW * 1000) }).ok());
    for event in ["release", "pipeline"] {
        let mut legacy = hook(event);
        legacy["token"] = json!("legacy");
        let hook: GitlabHook = serde_json::from_value(legacy).expect("a hook");
        check(
            hook.hear(
                SECRET,
                &Sent { headers: &headers(&[("x-gitlab-token", SECRET)]), body, now: Timestamp(NOW * 1000) },
            )
            .ok(),
        );
    }
    // The same bytes as the headers of a delivery: unsigned, so never taken.
    let text = String::from_utf8_lossy(body);
    let mut fields = text.splitn(3, '\n');
    let mut next = || fields.next().unwrap_or_default().trim_end();
    let forged = headers(&[("webhook-id", next()), ("webhook-timestamp", next()), ("webhook-signature", next())]);
    assert!(standard::check(SECRET, &forged, b"{}", Timestamp(NOW * 1000)).is_err(), "a forged delivery was taken");
});

fn hook(event: &str) -> Value {
    json!({ "repo": "acme/shop", "event": event, "artifact": format!("{START}{{tag}}/{{sha}}"), "secret": "HOOK" })
}

fn check(heard: Option<Heard>) {
    if let Some(Heard::Delivery(moved)) = heard {
        let url = moved.bump.url.expect("a provider's delivery moves a URL");
        let rest = url.strip_prefix(START).expect("the template's own start");
        let parts: Vec<&str> = rest.split('/').collect();
        assert!(parts.len() == 2 && !parts.iter().any(|part| part.is_empty() || *part == ".."), "{url}");
    }
}

fn github_headers(body: &[u8]) -> HeaderMap {
    let proof: String = hmac(SECRET.as_bytes(), &[body]).iter().map(|byte| format!("{byte:02x}")).collect();
    headers(&[("x-hub-signature-256", &format!("sha256={proof}")), ("x-github-delivery", "d-1")])
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let read = |(name, value): &(&'static str, &str)| {
        Some((HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).ok()?))
    };
    pairs.iter().filter_map(read).collect()
}
