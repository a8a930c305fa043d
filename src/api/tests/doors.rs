//! Webhooks, logs, health, and the sockets themselves.

use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::model::pattern::Pattern;
use crate::sign::hmac;

const HOOKS: &str = "hooks:\n  github: { repo: acme/shop, event: release, artifact: 'https://g.example.com/{tag}.tar.gz', secret: GH }\n  forgejo: { repo: acme/shop, event: release, artifact: 'https://f.example.com/{tag}.tar.gz?key=1', secret: FJ }\n  standard: { secret: SW }";

fn github(tag: &str, at: &str, delivery: &str, secret: &str) -> Ask {
    let payload = json!({
        "action": "published", "repository": { "full_name": "acme/shop" },
        "release": { "tag_name": tag, "draft": false, "published_at": at },
    });
    let body = payload.to_string();
    let proof = format!("sha256={}", hex::encode(hmac(secret.as_bytes(), &[body.as_bytes()])));
    ask("POST", "/v1/hooks/shop/github")
        .body("application/json", body)
        .header("x-hub-signature-256", proof)
        .header("x-github-delivery", delivery)
        .header("x-github-event", "release")
}

fn forgejo(action: &str, tag: &str, prerelease: bool, at: &str, delivery: &str) -> Ask {
    let payload = json!({
        "action": action, "repository": { "full_name": "acme/shop" },
        "release": { "tag_name": tag, "draft": false, "prerelease": prerelease, "published_at": at },
    });
    let body = payload.to_string();
    let proof = hex::encode(hmac(b"fj-secret", &[body.as_bytes()]));
    ask("POST", "/v1/hooks/shop/forgejo")
        .body("application/json", body)
        .header("x-gitea-signature", proof)
        .header("x-gitea-delivery", delivery)
        .header("x-gitea-event", "release")
}

fn standard(body: &str, id: &str) -> Ask {
    let time = (NOW.0 / 1000).to_string();
    let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let proof = hmac(&key, &[format!("{id}.{time}.{body}").as_bytes()]);
    ask("POST", "/v1/hooks/shop/standard")
        .body("application/json", body)
        .header("webhook-id", id)
        .header("webhook-timestamp", time)
        .header("webhook-signature", format!("v1,{}", STANDARD.encode(proof)))
}

async fn with_hooks() -> Bench {
    let bench = Bench::new();
    bench.given("shop", HOOKS).await;
    bench.secret("GH", "gh-secret");
    bench.secret("FJ", "fj-secret");
    bench.secret("SW", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    bench.changes().await;
    bench
}

#[tokio::test]
async fn a_delivery_for_a_damaged_record_is_to_be_sent_again() {
    let bench = with_hooks().await;
    let other = rusqlite::Connection::open(bench.layout.database()).unwrap();
    other.execute_batch("UPDATE projects SET spec = '{\"newer\":1}'").unwrap();
    let generic =
        ask("POST", "/v1/hooks/shop/generic").body("application/json", r#"{"url":"https://a.example.com/2"}"#);
    // A stranger does not learn what is wrong with it.
    let stranger = bench.send_bare(github("v2", "2026-01-02T00:00:00Z", "d2", "gh-secret")).await;
    assert!(!stranger.text.contains("newer"), "{}", stranger.text);
    let ours = bench.send(generic).await;
    assert!(ours.text.contains("restore the database from a backup"), "{}", ours.text);
    for refused in [stranger, ours] {
        assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("unavailable")), "{}", refused.text);
    }
}

#[tokio::test]
async fn a_delivery_moves_the_artifact_once_and_never_back() {
    let bench = with_hooks().await;
    let new = || github("v2", "2026-01-02T00:00:00Z", "d2", "gh-secret");
    let taken = bench.send_bare(new()).await;
    assert_eq!((taken.status, taken.json()), (202, json!({ "project": "shop", "generation": 2 })));
    assert_eq!(bench.artifact_url(), "https://g.example.com/v2.tar.gz");
    for again in [new(), github("v1", "2026-01-01T00:00:00Z", "d3", "gh-secret")] {
        let ignored = bench.send_bare(again).await;
        assert_eq!((ignored.status, ignored.json()["ignored"].is_string()), (202, true), "{}", ignored.text);
    }
    assert_eq!(bench.artifact_url(), "https://g.example.com/v2.tar.gz");
    let ping = github("v3", "2026-01-03T00:00:00Z", "d4", "gh-secret");
    let ping =
        Ask { headers: ping.headers.into_iter().filter(|(name, _)| *name != "x-github-event").collect(), ..ping };
    assert_eq!(bench.send_bare(ping.header("x-github-event", "ping")).await.status, 202);
    assert_eq!(bench.artifact_url(), "https://g.example.com/v2.tar.gz");
}

#[tokio::test]
async fn an_edit_moves_nothing_unless_it_promotes_what_was_not_ready() {
    let bench = with_hooks().await;
    let ignored = async |ask: Ask| {
        let answer = bench.send_bare(ask).await;
        assert_eq!((answer.status, answer.json()["ignored"].is_string()), (202, true), "{}", answer.text);
    };
    ignored(forgejo("updated", "v0.1", false, "2020-01-01T00:00:00+01:00", "d1")).await;
    ignored(forgejo("published", "v2", true, "2026-01-02T00:00:00+01:00", "d2")).await;
    ignored(forgejo("updated", "v0.1", false, "2020-01-01T00:00:00+01:00", "d3")).await;
    let promoted = forgejo("updated", "v2", false, "2026-01-02T00:00:00+01:00", "d4");
    assert_eq!(bench.send_bare(promoted).await.json(), json!({ "project": "shop", "generation": 2 }));
    assert_eq!(bench.artifact_url(), "https://f.example.com/v2.tar.gz?key=1");
    ignored(forgejo("updated", "v1", false, "2026-01-01T00:00:00Z", "d5")).await;
    // The same hook by its other name, and what a reader may see of it.
    let gitea = forgejo("published", "v3", false, "2026-01-03T00:00:00Z", "d6");
    assert_eq!(bench.send_bare(Ask { target: "/v1/hooks/shop/gitea".into(), ..gitea }).await.status, 202);
    let shown = bench.send(ask("GET", "/v1/projects/shop")).await.json();
    assert_eq!(shown["spec"]["hooks"]["forgejo"]["artifact"], "https://f.example.com/{tag}.tar.gz?…");
    assert_eq!(shown["spec"]["artifact"]["url"], "https://f.example.com/v3.tar.gz?…");
}

#[tokio::test]
async fn a_place_that_stays_is_looked_at_again_for_another_version_and_the_answer_says_so() {
    let bench = with_hooks().await;
    let sent = async |body: &str, id: &str| {
        let answer = bench.send_bare(standard(body, id)).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.json()
    };
    let taken = sent(r#"{"url":"https://a.example.com/latest","version":"1"}"#, "m1").await;
    assert_eq!(taken, json!({ "project": "shop", "generation": 2 }));
    let again = sent(r#"{"url":"https://a.example.com/latest","version":"2"}"#, "m2").await;
    assert_eq!(again["generation"], 3);
    assert!(again["message"].as_str().is_some_and(|said| said.contains("fetched again")), "{again}");
    let same = sent(r#"{"url":"https://a.example.com/latest","version":"2"}"#, "m3").await;
    assert_eq!(same, json!({ "project": "shop", "generation": 3, "ignored": "this artifact is wanted already" }));
}

#[tokio::test]
async fn a_url_without_a_version_moves_nothing_and_a_version_that_is_kept_is_not_said_to_be_fetched() {
    let bench = with_hooks().await;
    let sent = async |body: &str, id: &str| {
        let answer = bench.send_bare(standard(body, id)).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.json()
    };
    sent(r#"{"url":"https://a.example.com/latest","version":"1"}"#, "m1").await;
    bench.history(&[true, true]);
    let mut progress = bench.db.progress_of(&shop()).unwrap();
    for (number, release) in &mut progress.releases {
        release.version = Some(crate::model::spec::Label::try_from(number.to_string()).unwrap());
        release.sha256 = Some(number.to_string().repeat(64).parse().unwrap());
    }
    bench.db.save_progress(&[(shop(), progress)].into(), &[]).unwrap();

    let two = sent(r#"{"url":"https://a.example.com/latest","version":"2"}"#, "m2").await;
    assert!(two["message"].as_str().is_some_and(|said| said.starts_with("release 2, which serves, is of")), "{two}");
    let one = sent(r#"{"url":"https://a.example.com/latest","version":"1"}"#, "m3").await;
    let said = one["message"].as_str().unwrap();
    assert!(
        said.starts_with("release 1 is of this artifact, and serves once") && said.contains("a version that is new")
    );
    let bare = sent(r#"{"url":"https://a.example.com/latest"}"#, "m4").await;
    assert_eq!(bare["generation"], 4, "{bare}");
    assert!(
        bare["ignored"].as_str().is_some_and(|said| said.starts_with("the URL is unchanged; send a version")),
        "{bare}"
    );
    let new = sent(r#"{"url":"https://a.example.com/latest","version":"3"}"#, "m5").await;
    assert!(new["message"].as_str().is_some_and(|said| said.contains("fetched again")), "{new}");
    let other = sent(r#"{"url":"https://a.example.com/other"}"#, "m6").await;
    assert_eq!(other, json!({ "project": "shop", "generation": 6 }));
}

#[tokio::test]
async fn a_content_type_is_named_before_the_body_is_read() {
    let bench = with_hooks().await;
    let xml = Ask { content_type: "text/xml", ..github("v2", "2026-01-02T00:00:00Z", "d", "gh-secret") };
    let refused = bench.send_bare(xml).await;
    assert_eq!(refused.outcome(), (415, "content_type".to_owned()));
    assert!(refused.text.contains("application/x-www-form-urlencoded"), "{}", refused.text);
}

#[tokio::test]
async fn a_template_that_could_never_be_fetched_is_refused_where_it_is_written() {
    let bench = Bench::new();
    let hooks = HOOKS.replace("https://f.example.com", "ftp://f.example.com");
    let refused = bench.send(ask("PUT", "/v1/projects/shop").body("", spec("shop", &hooks))).await;
    assert_eq!(refused.outcome(), (422, "invalid".to_owned()));
    assert!(refused.text.contains("hooks.forgejo.artifact"), "{}", refused.text);
}

#[tokio::test]
async fn a_hook_takes_only_its_own_projects_proof_for_its_own_provider() {
    let bench = with_hooks().await;
    let at = "2026-01-02T00:00:00Z";
    assert_eq!(bench.send_bare(github("v2", at, "d", "other")).await.outcome(), (401, "sig_bad".to_owned()));
    let standard_at_github = Ask { target: "/v1/hooks/shop/github".into(), ..standard("{}", "m1") };
    assert_eq!(bench.send_bare(standard_at_github).await.outcome(), (401, "sig_missing".to_owned()));
    for target in ["/v1/hooks/shop/gitlab", "/v1/hooks/nobody/github", "/v1/hooks/shop/unknown"] {
        let elsewhere = Ask { target: target.into(), ..github("v2", at, "d", "gh-secret") };
        assert_eq!(bench.send_bare(elsewhere).await.outcome(), (404, "unknown_hook".to_owned()), "{target}");
    }
    // The generic hook has no proof but our signature.
    let generic = Ask { target: "/v1/hooks/shop/generic".into(), ..github("v2", at, "d", "gh-secret") };
    assert_eq!(bench.send_bare(generic).await.outcome(), (401, "sig_missing".to_owned()));
    let long = Ask { body: vec![b' '; (2 << 20) + 1], ..github("v2", at, "d", "gh-secret") };
    assert_eq!(bench.send_bare(long).await.status, 413);
    let unready = Bench::new();
    unready.given("shop", HOOKS).await;
    assert_eq!(unready.send_bare(github("v2", at, "d", "")).await.outcome(), (409, "hook_unready".to_owned()));
    assert_eq!(bench.changes().await, 0);
}

#[tokio::test]
async fn a_standard_delivery_names_the_artifact_itself_within_the_rules() {
    let bench = with_hooks().await;
    for (body, status) in [
        (r#"{"url":"ftp://a.example.com/2"}"#, 422),
        (r#"{"url":"https://a.example.com/2","sha256":"short"}"#, 422),
        (r#"{"url":"https://a.example.com/2","run":"rm"}"#, 422),
        (r#"{"url""#, 400),
        ("[]", 422),
        (r#"{"version":"2"}"#, 422),
        (r#"{"file":"hello.tar.gz"}"#, 422),
        (
            r#"{"file":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","url":"https://a.example.com/2"}"#,
            422,
        ),
        (r#"{"url":"https://a.example.com/2","version":"2"}"#, 202),
    ] {
        assert_eq!(bench.send_bare(standard(body, "m1")).await.status, status, "{body}");
    }
    assert_eq!(bench.artifact_url(), "https://a.example.com/2");
}

#[tokio::test]
async fn a_project_that_is_fixed_is_not_moved() {
    let bench = Bench::new();
    let fixed = spec("shop", "").replace("updates: webhook", "updates: fixed");
    bench.send(ask("PUT", "/v1/projects/shop").body("", fixed)).await;
    let bump = ask("POST", "/v1/hooks/shop/generic").body("application/json", r#"{"url":"https://a.example.com/2"}"#);
    assert_eq!(bench.send(bump.by("ci")).await.outcome(), (409, "updates_fixed".to_owned()));
}

#[tokio::test]
async fn a_log_line_stays_one_line_of_its_own_project() {
    let bench = Bench::new();
    bench.given("shop", "").await;
    bench.history(&[true, true]);
    let logs = bench.send(ask("GET", "/v1/projects/shop/logs?lines=5&release=2&since=10m")).await;
    assert_eq!(logs.headers["content-type"], "application/x-ndjson");
    assert_eq!(logs.text.lines().count(), 1);
    assert!(!logs.text.contains('\u{1b}'));
    let line = logs.json();
    assert_eq!((line["process"].as_str(), line["release"].as_u64()), (Some("web"), Some(2)));
    let query = bench.journal.asked.lock().unwrap().pop().unwrap();
    assert_eq!(query.units, ["zexio-shop-web-r2.service"]);
    assert_eq!((query.lines, query.since), (Some(5), Some(Timestamp(NOW.0 - 600_000))));
    let events = bench.send(ask("GET", "/v1/projects/shop/logs").header("accept", "text/event-stream")).await;
    assert_eq!(events.text.lines().filter(|line| line.starts_with("data: {")).count(), 2);
    assert!(!events.text.contains("\ndata: forged"));
    for query in
        ["lines=-1", "lines=10001", "since=yesterday", "follow=1", "process=A", "release=x", "unit=x", "grep=("]
    {
        let refused = bench.send(ask("GET", &format!("/v1/projects/shop/logs?{query}"))).await;
        assert_eq!(refused.outcome(), (400, "bad_query".to_owned()), "{query}");
    }
    let empty = ask("GET", "/v1/projects/shop/logs?lines=3&process=&release=&since=&grep=&follow=");
    assert_eq!(bench.send(empty).await.text.lines().count(), 2);
    let empty = bench.send(ask("GET", "/v1/events?lines=&since=&reason=&follow=")).await;
    assert_eq!((empty.status, empty.text.is_empty()), (200, false));
    bench.send(ask("GET", "/v1/system/logs?grep=^x")).await;
    let query = bench.journal.asked.lock().unwrap().pop().unwrap();
    assert_eq!((query.units, query.grep), (vec!["zexio-agent.service".to_owned()], Pattern::parse("^x").ok()));
}

#[tokio::test]
async fn whoever_follows_a_deploy_sees_the_new_release_from_its_first_line() {
    let bench = Arc::new(Bench::new());
    bench.given("shop", "").await;
    bench.history(&[true]);
    let asked = |count: usize| {
        let bench = Arc::clone(&bench);
        async move {
            while bench.journal.asked.lock().unwrap().len() < count {
                tokio::task::yield_now().await;
            }
        }
    };
    let follower = Arc::clone(&bench);
    let following = tokio::spawn(async move { follower.send(ask("GET", "/v1/projects/shop/logs?follow=true")).await });
    asked(1).await;
    bench.history(&[true, true]);
    asked(2).await;
    let second = bench.journal.asked.lock().unwrap().pop().unwrap();
    assert_eq!(second.units, ["zexio-shop-web-r2.service"]);
    assert_eq!((second.lines, second.since, second.follow), (None, Some(Timestamp(2)), true));
    bench.stop.send(true).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), following).await.unwrap().unwrap();
    assert_eq!(ended.status, 200);
}

#[tokio::test]
async fn health_is_the_loops_and_needs_no_key() {
    let bench = Bench::new();
    assert_eq!(bench.send_bare(ask("GET", "/healthz")).await.status, 503);
    bench.state.heartbeat.beat(Timestamp(NOW.0 - 10_000));
    assert_eq!(bench.send_bare(ask("GET", "/healthz")).await.json()["status"], "ok");
    bench.state.heartbeat.beat(Timestamp(NOW.0 - 181_000));
    assert_eq!(bench.send_bare(ask("GET", "/healthz")).await.status, 503);
}

#[tokio::test]
async fn a_head_is_that_of_the_answer_without_its_body() {
    let bench = Bench::new();
    bench.given("shop", "").await;
    bench.history(&[true]);
    bench.state.heartbeat.beat(NOW);
    assert_eq!(bench.send_bare(ask("HEAD", "/healthz")).await.status, 200);
    for target in ["/v1/projects/shop", "/v1/projects/nobody", "/v1/projects?limt=3", "/v1/openapi.json"] {
        let (got, head) = (bench.send(ask("GET", target)).await, bench.send(ask("HEAD", target)).await);
        assert_eq!((head.status, head.text.as_str()), (got.status, ""), "{target}");
        assert_eq!(head.headers["content-length"].to_str().unwrap(), got.text.len().to_string(), "{target}");
        for name in ["content-type", "etag"] {
            assert_eq!(head.headers.get(name), got.headers.get(name), "{target} {name}");
        }
    }
    assert_eq!(bench.send(ask("HEAD", "/v1/artifacts")).await.status, 405);
    let as_get = bench.signature(&ask("GET", "/v1/projects"));
    let refused = bench.send_bare(ask("HEAD", "/v1/projects").header("x-signature", as_get)).await;
    assert_eq!(refused.status, 401, "the method is signed");
    // A reader that reads nothing frees its slot for others.
    let free = || bench.state.slots.readers.available_permits();
    let all = free();
    for target in ["/v1/projects/shop/logs?follow=true", "/v1/events?follow=true", "/v1/system/stats"] {
        let head = bench.send(ask("HEAD", target).header("accept", "text/event-stream")).await;
        assert_eq!((head.status, head.headers["content-type"].to_str().unwrap()), (200, "text/event-stream"));
        let back = async {
            while free() < all {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), back)
            .await
            .unwrap_or_else(|_| panic!("{target} keeps its place"));
    }
}

async fn raw(path: &std::path::Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_roots_alone_takes_localhost_and_ends_when_told() {
    let bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    // A socket that a crash left behind does not get in the way.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let serving = tokio::spawn(super::super::serve(
        Arc::clone(&bench.state),
        path.clone(),
        Some("127.0.0.1:0".to_owned()),
        bench.stop.subscribe(),
        || (),
    ));
    while UnixStream::connect(&path).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let get = Ask { host: "localhost", ..ask("GET", "/v1/projects") };
    let signature = bench.signature(&get);
    let request =
        format!("GET /v1/projects HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Signature: {signature}\r\n\r\n");
    assert!(raw(&path, &request).await.starts_with("HTTP/1.1 200"));
    let head = raw(&path, "HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 503") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains("content-length: "), "{head}");
    for (hostile, status) in [
        ("GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", "400"),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\nConnection: close\r\n\r\n", "400"),
        ("POST /v1/artifacts HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "400"),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n", "400"),
        ("gibberish\r\n\r\n", "400"),
        (
            "PUT /v1/projects/shop HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
    ] {
        let answer = tokio::time::timeout(Duration::from_secs(20), raw(&path, hostile)).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{hostile:?}: {answer}");
        assert!(answer.contains("content-type: application/problem+json\r\n"), "{hostile:?}: {answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let said: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(said["status"].to_string(), status, "{hostile:?}");
    }
    let padded = request.replace(&signature, &format!("{signature} "));
    let answer = raw(&path, &padded).await;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("sig_malformed"), "{answer}");
    // A client that sends too much can still read why: the connection is not cut off while it sends.
    let long = 1 << 20;
    let head = format!("PUT /v1/projects/shop HTTP/1.1\r\nHost: a\r\nContent-Length: {long}\r\n\r\n");
    let answer = raw(&path, &format!("{head}{}", "x".repeat(long))).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let many = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-A: b\r\n".repeat(200));
    let answer = raw(&path, &many).await;
    assert!(answer.starts_with("HTTP/1.1 431") && answer.contains(r#""code":"head_too_large""#), "{answer}");
    let second = super::super::serve(Arc::clone(&bench.state), path.clone(), None, bench.stop.subscribe(), || ()).await;
    assert!(second.is_err_and(|cause| cause.contains("another agent")));
    bench.stop.send(true).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), serving).await;
    assert_eq!(ended.unwrap().unwrap(), Ok(()));
    assert!(!path.exists());
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let bench = Bench::new();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let served = super::super::serve(
        Arc::clone(&bench.state),
        dir.path().join("s"),
        Some(address.clone()),
        bench.stop.subscribe(),
        || (),
    );
    assert!(served.await.is_err_and(|cause| cause.contains(&address) && cause.contains("listen in agent.yaml")));
}
