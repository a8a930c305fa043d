//! Webhooks as their providers send them, in their real shape, and what comes of them when releases are made in steps.

use serde_json::{Value, json};
use zexio::sign::hmac;

use crate::machine::{Machine, split_status, web_spec};

const HOOKS: &str = r#"hooks:
  github: { repo: acme/mono, event: release, secret: HOOK, tags: "web/*", artifact: "http://127.0.0.1:9000/hello-{tag}.tar.gz" }
  forgejo: { repo: acme/mono, event: release, secret: HOOK, artifact: "http://127.0.0.1:9000/hello-{tag}.tar.gz" }
  generic: {}
"#;

/// A machine with a project that webhooks may move, at 1.0.0.
fn with_shop() -> Machine {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    machine.must("printf %s hook-secret | zexio secret set shop HOOK && zexio key add ci --scope deploy:shop");
    let applied = machine.apply("shop", &spec());
    assert_eq!(applied.status, 0, "{}", applied.stderr);
    machine
}

fn spec() -> String {
    web_spec("shop", "1.0.0", "./hello", HOOKS)
        .replace("version: \"1.0.0\" }", "version: \"1.0.0\", updates: webhook }")
}

fn post(machine: &Machine, provider: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    machine.write_file("/root/delivery", body);
    let headers: String = headers.iter().map(|(name, value)| format!(" -H '{name}: {value}'")).collect();
    let said = machine.must(&format!(
        "curl -sS --unix-socket /run/zexio/agent.sock -X POST{headers} --data-binary @/root/delivery \
           -w '\\n%{{http_code}}' http://localhost/v1/hooks/shop/{provider}"
    ));
    split_status(&said)
}

/// A release's event as GitHub words it, as far as that matters to readers.
fn release(action: &str, tag: &str, prerelease: bool, published_at: &str) -> Value {
    json!({
        "action": action,
        "release": {
            "url": "https://api.github.com/repos/acme/mono/releases/173", "id": 173, "node_id": "RE_kwDO", "name": tag,
            "tag_name": tag, "target_commitish": "main", "draft": false, "prerelease": prerelease,
            "created_at": "2026-11-20T10:00:00Z", "published_at": published_at, "body": "Notes & more: ü = 1+1",
            "assets": [], "author": { "login": "acme", "id": 1, "site_admin": false },
        },
        "repository": { "id": 9, "name": "mono", "full_name": "acme/mono", "private": false, "default_branch": "main" },
        "sender": { "login": "acme", "id": 1 },
    })
}

/// Sends as GitHub does by default: as a form, signed as it is.
fn github(machine: &Machine, payload: &Value, delivery: &str, secret: &str) -> (u16, String) {
    let body =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("payload", &payload.to_string()).finish();
    let proof = format!("sha256={}", hex::encode(hmac(secret.as_bytes(), &[body.as_bytes()])));
    let headers = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("User-Agent", "GitHub-Hookshot/044aadd"),
        ("X-GitHub-Event", "release"),
        ("X-GitHub-Delivery", delivery),
        ("X-Hub-Signature-256", &proof),
    ];
    post(machine, "github", &headers, &body)
}

#[test]
fn a_release_whose_artifact_comes_after_its_event_is_waited_for() {
    let machine = with_shop();
    let at = "2026-11-26T11:00:00+01:00";
    let ignored = |payload: Value, delivery: &str, why: &str| {
        let (status, said) = github(&machine, &payload, delivery, "hook-secret");
        assert!(status == 202 && said.contains("ignored") && said.contains(why), "{status} {said}");
    };
    ignored(release("published", "web/2.0.0", true, at), "d1", "pre-release");
    ignored(release("published", "api/3.0.0", false, at), "d2", "none of web/*");
    assert_eq!(github(&machine, &release("released", "web/2.0.0", false, at), "d3", "other").0, 401);
    let mut other = release("released", "web/2.0.0", false, at);
    other["repository"]["full_name"] = json!("evil/mono");
    assert_eq!(github(&machine, &other, "d3", "hook-secret").0, 403);

    let event = release("released", "web/2.0.0", false, at);
    let (status, said) = github(&machine, &event, "d3", "hook-secret");
    assert!(status == 202 && said.contains("\"generation\":2") && !said.contains("ignored"), "{status} {said}");
    machine.wait_until("the wait to be told", || {
        machine.status_has("shop", "\"reason\":\"Fetching\"") && machine.status_has("shop", "triedagainuntil")
    });
    assert!(machine.get("shop.example.com", "/").1.contains("1.0.0 (release 1)"));
    machine.must("systemctl restart zexio-agent");
    machine.wait_until("the agent to be healthy", || machine.healthy());
    ignored(release("released", "web/1.9.0", false, "2026-11-25T11:00:00Z"), "d4", "newer one");
    // The tag is one segment of the path; this server decodes it.
    machine.publish("2.0.0");
    machine.must(
        "mkdir /srv/artifacts/hello-web && mv /srv/artifacts/hello-2.0.0.tar.gz /srv/artifacts/hello-web/2.0.0.tar.gz",
    );
    machine.wait_for_answer("shop.example.com", "/", "2.0.0 (release 2)");
    machine.wait_until("Ready", || machine.status_has("shop", "\"state\":\"running\""));
    ignored(event, "d3", "it came before");
    assert!(machine.status_has("shop", "\"rejected\":[]"), "{}", machine.must("zexio get shop -o json"));
}

#[test]
fn what_could_not_be_fetched_is_tried_again_when_it_is_asked_for() {
    let machine = with_shop();
    // Its owner wrote it: it is refused, until he asks.
    let refused = machine.apply("shop", &spec().replace("1.0.0", "2.0.0"));
    assert_eq!(refused.status, 3, "{}{}", refused.stdout, refused.stderr);
    assert!(machine.status_has("shop", "\"reason\":\"ArtifactFailed\""));
    machine.publish("2.0.0");
    machine.must("zexio sync shop");
    machine.wait_for_answer("shop.example.com", "/", "2.0.0 (release 3)");
    let settled = machine.signed("POST", "/v1/projects/shop/sync", "{}", "application/json", "/etc/zexio/keys/admin").1;
    let again = machine.signed("POST", "/v1/projects/shop/sync", "{}", "application/json", "/etc/zexio/keys/admin").1;
    assert_eq!(settled, again, "a sync of what is well is no change");

    // A webhook names bytes that are not there yet, and asks once more.
    let sha256 = machine.publish("4.0.0");
    machine.must("cd /srv/artifacts && mv hello-4.0.0.tar.gz /root/ && cp hello-1.0.0.tar.gz hello-4.0.0.tar.gz");
    let body = json!({ "url": "http://127.0.0.1:9000/hello-4.0.0.tar.gz", "sha256": sha256 }).to_string();
    let bump = || machine.signed("POST", "/v1/hooks/shop/generic", &body, "application/json", "/etc/zexio/keys/ci");
    assert_eq!(bump().0, 202);
    machine.wait_until("the wrong bytes to be refused", || machine.status_has("shop", "\"reason\":\"HashMismatch\""));
    machine.must("mv /root/hello-4.0.0.tar.gz /srv/artifacts/");
    let (status, said) = bump();
    assert!(status == 202 && !said.contains("ignored"), "{status} {said}");
    machine.wait_for_answer("shop.example.com", "/", "4.0.0 (release 5)");
}

#[test]
fn an_url_that_stays_is_fetched_again_for_another_version() {
    let machine = with_shop();
    let latest = "http://127.0.0.1:9000/latest.tar.gz";
    let put = |version: &str| {
        machine.publish(version);
        machine.must(&format!("cp /srv/artifacts/hello-{version}.tar.gz /srv/artifacts/latest.tar.gz"));
    };
    let bump = |version: &str| {
        let body = json!({ "url": latest, "version": version }).to_string();
        let (status, said) =
            machine.signed("POST", "/v1/hooks/shop/generic", &body, "application/json", "/etc/zexio/keys/ci");
        assert_eq!(status, 202, "{said}");
        said
    };
    put("2.0.0");
    assert!(!bump("2").contains("fetched again"));
    machine.wait_for_answer("shop.example.com", "/", "2.0.0 (release 2)");
    machine.wait_until("Ready", || machine.status_has("shop", "\"state\":\"running\""));
    put("3.0.0");
    assert!(!bump("2").contains("fetched again"), "the same version is no news");
    assert!(bump("3").contains("fetched again"));
    machine.wait_for_answer("shop.example.com", "/", "3.0.0 (release 3)");
    machine.wait_until("Ready", || machine.status_has("shop", "\"state\":\"running\""));
    let pid = machine.main_pid("zexio-shop-web-r3.service");
    assert!(bump("4").contains("fetched again"));
    machine.wait_until("the same bytes to be told", || machine.status_has("shop", "release3(4)serves"));
    assert_eq!(machine.main_pid("zexio-shop-web-r3.service"), pid);
    let history = machine.must("zexio history shop -o json | tr -d ' \\n'");
    assert!(!history.contains("\"number\":4"), "no release is made of it: {history}");
    assert!(machine.must("zexio events shop").contains("Unchanged"));

    // A version of before is kept, and a URL alone says nothing: neither is fetched, and the answer says so.
    put("5.0.0");
    assert!(bump("2").contains("release 2 is of this artifact"));
    machine.wait_for_answer("shop.example.com", "/", "2.0.0 (release 2)");
    machine.wait_until("Ready", || machine.status_has("shop", "\"state\":\"running\""));
    let bare = json!({ "url": latest }).to_string();
    let said = machine.signed("POST", "/v1/hooks/shop/generic", &bare, "application/json", "/etc/zexio/keys/ci").1;
    assert!(said.contains("the URL is unchanged; send a version"), "{said}");
    let again = machine.apply("shop", &spec().replace("hello-1.0.0", "latest").replace("version: \"1.0.0\", ", ""));
    assert_eq!(again.status, 0, "{}{}", again.stdout, again.stderr);
    assert!(machine.get("shop.example.com", "/").1.contains("2.0.0 (release 2)"), "what was asked for last stays");
}

#[test]
fn forgejo_and_gitea_move_the_version_with_their_own_signature() {
    let machine = with_shop();
    machine.publish("v2");
    machine.publish("v3");
    for (name, tag, release_no) in [("Forgejo", "v2", 2), ("Gitea", "v3", 3)] {
        let body = release("published", tag, false, &format!("2026-11-26T1{release_no}:00:00+01:00")).to_string();
        let proof = hex::encode(hmac(b"hook-secret", &[body.as_bytes()]));
        let [event, delivery, signature] = ["Event", "Delivery", "Signature"].map(|end| format!("X-{name}-{end}"));
        let send = |proof: &str| {
            let headers = [
                ("Content-Type", "application/json"),
                (event.as_str(), "release"),
                (delivery.as_str(), tag),
                (signature.as_str(), proof),
            ];
            post(&machine, "forgejo", &headers, &body)
        };
        assert_eq!(send(&"0".repeat(64)).0, 401);
        let (status, said) = send(&proof);
        assert!(status == 202 && !said.contains("ignored"), "{status} {said}");
        machine.wait_for_answer("shop.example.com", "/", &format!("{tag} (release {release_no})"));
        assert!(send(&proof).1.contains("it came before"));
    }
}
