//! Write requests and their answers.

use std::fs;

use super::*;
use crate::model::desired::{HeldUntil, Owner, Refusal, RefusalKind};

fn put(rest: &str) -> Ask {
    ask("PUT", "/v1/projects/shop").body("application/yaml", spec("shop", rest))
}

#[tokio::test]
async fn a_spec_is_new_once_and_equal_afterwards() {
    let bench = Bench::new();
    let first = bench.send(put("")).await;
    assert_eq!((first.status, first.json()), (201, serde_json::json!({ "project": "shop", "generation": 1 })));
    assert_eq!(first.headers["etag"], "\"1\"");
    assert_eq!(bench.send(put("")).await.json()["generation"], 1);
    assert_eq!(bench.send(put("keep: 3")).await.json()["generation"], 2);
    assert_eq!(bench.changes().await, 3);
}

#[tokio::test]
async fn a_sync_rings_for_what_caddy_refused_too() {
    let bench = Bench::new();
    bench.given("shop", "").await;
    bench.changes().await;
    for (path, changes) in [("/v1/projects/shop/sync", 2), ("/v1/projects/shop/sync?prune=true", 1)] {
        assert_eq!(bench.send(ask("POST", path).body("", "")).await.status, 202);
        assert_eq!(bench.changes().await, changes, "{path}");
    }
}

#[tokio::test]
async fn each_answer_says_which_pass_it_is_of() {
    let bench = Bench::new();
    let mark =
        |answer: &Answered| crate::heartbeat::Mark::parse(answer.headers["zexio-pass"].to_str().unwrap()).unwrap();
    let under_way = bench.state.heartbeat.begin();
    let written = mark(&bench.send(put("")).await);
    let secret = ask("PUT", "/v1/projects/shop/secrets/TOKEN").body("text/plain", "hidden");
    let stored = mark(&bench.send(secret).await);
    let look = || async { mark(&bench.send(ask("GET", "/v1/projects/shop")).await) };
    bench.state.heartbeat.recorded(under_way);
    assert!(!look().await.is_after(written) && !look().await.is_after(stored), "it began before");
    let next = bench.state.heartbeat.begin();
    bench.state.heartbeat.recorded(next);
    assert!(look().await.is_after(written) && look().await.is_after(stored));
}

#[tokio::test]
async fn a_project_is_shown_without_what_must_stay_hidden() {
    let bench = Bench::new();
    bench.given("shop", "").await;
    let shown = bench.send(ask("GET", "/v1/projects/shop")).await;
    let json = shown.json();
    assert_eq!((json["project"].as_str(), json["owner"].as_str()), (Some("shop"), Some("api")));
    assert_eq!(json["spec"]["env"]["TOKEN"], serde_json::json!({ "sealed": 1 }));
    assert_eq!(json["spec"]["artifact"]["url"], "https://a.example.com/x.tar?…");
    assert_eq!(json["status"]["generation"], json["generation"]);
    assert!(json["conditions"].is_array() && json["serving"].is_null());
    assert!(!shown.text.contains("hidden") && !shown.text.contains("sig=abc"));
    assert_eq!(shown.headers["etag"], "\"1\"");
    assert_eq!(bench.send(ask("GET", "/v1/projects")).await.json()["projects"][0]["project"], "shop");
    assert_eq!(bench.send(ask("GET", "/v1/projects/nobody")).await.outcome(), (404, "unknown_project".to_owned()));
}

#[tokio::test]
async fn a_spec_that_moved_meanwhile_is_not_overwritten() {
    let bench = Bench::new();
    bench.given("shop", "").await;
    for (tag, status) in [("\"7\"", 412), ("x", 400), ("*", 400), ("\"1\"", 200), ("1", 412), ("2", 200)] {
        let rest = if status == 200 { format!("x-n: 1\nkeep: {}", tag.len()) } else { "keep: 9".to_owned() };
        assert_eq!(bench.send(put(&rest).header("if-match", tag)).await.status, status, "{tag}");
    }
    let dry = ask("PUT", "/v1/projects/shop?dry_run=true").body("", spec("shop", "")).header("if-match", "1");
    assert_eq!(bench.send(dry).await.outcome(), (412, "moved".to_owned()));
}

#[tokio::test]
async fn a_dry_run_tells_the_steps_and_writes_nothing() {
    let bench = Bench::new();
    let dry = ask("PUT", "/v1/projects/shop?dry_run=true").body("", spec("shop", ""));
    let answered = bench.send(dry).await;
    assert_eq!(answered.status, 200);
    assert_eq!(answered.json()["generation"], 1);
    assert_eq!(
        answered.json()["steps"][0],
        serde_json::json!({
            "project": "shop", "action": "make user and directories",
            "reason": "the project has no user or directory here", "sign": "+",
        })
    );
    assert_eq!(bench.changes().await, 0);
    assert_eq!(bench.send(ask("GET", "/v1/projects/shop")).await.status, 404);
}

#[tokio::test]
async fn a_project_as_it_is_shown_can_be_put_again() {
    let bench = Bench::new();
    let hook =
        "hooks: { github: { repo: a/b, event: release, artifact: 'https://x.example.com/{tag}?key=1', secret: S } }";
    assert_eq!(bench.send(put(hook)).await.status, 201);
    let shown = bench.send(ask("GET", "/v1/projects/shop")).await;
    assert!(shown.text.contains("?…") && !shown.text.contains("sig=abc") && !shown.text.contains("key=1"));
    let spec = shown.json()["spec"].to_string();
    for body in [shown.text.clone(), spec.clone()] {
        let again = bench.send(put("").body("application/json", body)).await;
        assert_eq!((again.status, again.json()["generation"].as_u64()), (200, Some(1)), "{}", again.text);
    }
    let changed = spec.replace("\"keep\":5", "\"keep\":6");
    assert_eq!(bench.send(put("").body("application/json", changed)).await.json()["generation"], 2);
    for (from, to, said) in [
        ("\"sealed\":1", "\"sealed\":7", "{sealed: 7} is not stored any more; write {sealed: 1}"),
        ("{\"TOKEN\":", "{\"OTHER\":", "has none of this name"),
        ("/{tag}?", "/other-{tag}?", "hooks.github.artifact"),
    ] {
        let refused = bench.send(put("").body("application/json", spec.replace(from, to))).await;
        assert_eq!(refused.status, 422, "{}", refused.text);
        assert!(refused.text.contains(said), "{}", refused.text);
        let rehearsed = ask("PUT", "/v1/projects/shop?dry_run=true").body("application/json", spec.replace(from, to));
        assert_eq!(bench.send(rehearsed).await.status, 422);
    }
}

#[tokio::test]
async fn a_schedule_that_is_over_is_refused_unless_it_came_while_it_stood_there() {
    let bench = Bench::new();
    let jobs = |schedule: &str| {
        spec("shop", "").replace("processes: {", &format!("processes: {{ jobs: {{ run: ./x, schedule: {schedule} }},"))
    };
    let over = bench.send(put("").body("", jobs("2001-01-01"))).await;
    assert_eq!(over.status, 422);
    assert!(over.text.contains("is over and never comes again"), "{}", over.text);
    assert_eq!(bench.send(put("").body("", jobs("2150-01-01"))).await.status, 201);
}

#[tokio::test]
async fn a_spec_that_is_wrong_is_refused_where_it_is_wrong() {
    let bench = Bench::new();
    let unknown = bench.send(put("secrts: [A]")).await;
    assert_eq!(unknown.status, 422);
    assert_eq!(unknown.headers["content-type"], "application/problem+json");
    let error = &unknown.json()["errors"][0];
    assert_eq!((error["path"].as_str(), error["line"].as_u64()), (Some("secrts"), Some(6)));
    for (asked, status, said) in [
        (put("").body("", "zexio: [1"), 400, "unreadable"),
        (put("").body("", "a: 1\na: 2\n"), 400, "unreadable"),
        (put("").body("", spec("other", "")), 422, "project"),
        (put("").body("", spec("shop", "").replace("https://", "ftp://")), 422, "its scheme is not https"),
        (put("").body("", spec("shop", "").replace("https://", "http://")), 422, "only https"),
        (
            put("").body("", spec("shop", "").replace("sig=abc", "…")),
            422,
            "its query hidden, and no such URL is stored here",
        ),
        (put("").body("text/html", spec("shop", "")), 415, "content_type"),
        (put("").body("application/json; charset=utf-8", "{}"), 422, "zexio"),
        (put("").body("", vec![b'#'; (256 << 10) + 1]), 413, "too_large"),
        (put("").body("", vec![0xff, 0xfe]), 400, "unreadable"),
    ] {
        let answered = bench.send(asked).await;
        assert_eq!(answered.status, status, "{}", answered.text);
        assert!(answered.text.contains(said), "{}", answered.text);
    }
    assert_eq!(bench.changes().await, 0);
}

#[tokio::test]
async fn a_project_belongs_to_one_side_and_goes_only_once() {
    let bench = Bench::new();
    bench.given("shop", "").await;
    bench.hand_over(&Owner::Api, &file());
    let refused = bench.send(put("")).await;
    assert_eq!(refused.outcome(), (409, "owned".to_owned()));
    assert!(refused.text.contains("file:shop.yaml"));
    assert_eq!(bench.send(ask("DELETE", "/v1/projects/shop")).await.outcome(), (409, "owned".to_owned()));
    bench.hand_over(&file(), &Owner::Api);
    let stale = ask("DELETE", "/v1/projects/shop").header("if-match", "9");
    assert_eq!(bench.send(stale).await.status, 412);
    assert_eq!(bench.send(ask("DELETE", "/v1/projects/shop?keep_data=true")).await.status, 202);
    assert_eq!(bench.send(put("")).await.outcome(), (409, "deleting".to_owned()));
    let secret = ask("PUT", "/v1/projects/shop/secrets/S").body("text/plain", "v");
    assert_eq!(bench.send(secret).await.outcome(), (409, "deleting".to_owned()));
    assert_eq!(bench.send(ask("DELETE", "/v1/projects/nobody")).await.status, 404);
}

#[tokio::test]
async fn a_removal_that_was_refused_is_confirmed_by_name() {
    let bench = Bench::new();
    bench.given("shop", "").await;
    bench.hand_over(&Owner::Api, &file());
    let held = Refusal { kind: RefusalKind::PruneRefused { until: HeldUntil::Confirmed }, message: "too many".into() };
    bench.db.set_refusal(&shop(), &file(), Some(&held)).unwrap();
    assert_eq!(bench.send(ask("POST", "/v1/projects/shop/sync")).await.json()["generation"], 1);
    assert_eq!(bench.send(ask("POST", "/v1/projects/shop/sync?prune=true")).await.json()["generation"], 2);
    assert!(bench.db.desired_project(&shop()).unwrap().unwrap().spec().is_none());
}

#[tokio::test]
async fn a_rollback_goes_to_a_release_that_was_good() {
    let bench = Bench::new();
    bench.given("shop", "").await;
    let back = |body: &str| ask("POST", "/v1/projects/shop/rollback").body("application/json", body);
    assert_eq!(bench.send(back("{}")).await.outcome(), (409, "no_good_release".to_owned()));
    bench.history(&[true, false, true]);
    assert_eq!(bench.send(back(r#"{"to":9}"#)).await.outcome(), (404, "unknown_release".to_owned()));
    assert_eq!(bench.send(back(r#"{"to":2}"#)).await.outcome(), (409, "never_good".to_owned()));
    assert_eq!(bench.send(back(r#"{"too":2}"#)).await.outcome(), (400, "bad_body".to_owned()));
    let done = bench.send(back("{}")).await;
    assert_eq!((done.status, done.json()["release"].as_u64()), (202, Some(1)));
    let releases = bench.send(ask("GET", "/v1/projects/shop/releases")).await.json();
    assert_eq!(releases["releases"][0]["number"], 3);
    assert_eq!(bench.send(ask("POST", "/v1/projects/nobody/rollback")).await.status, 404);
}

#[tokio::test]
async fn a_secret_goes_in_and_never_comes_out() {
    let bench = Bench::new();
    let put = |kind, body: &str| ask("PUT", "/v1/projects/shop/secrets/DATABASE_URL").body(kind, body);
    assert_eq!(bench.send(put("text/plain", "postgres://x")).await.status, 201);
    assert_eq!(bench.send(put("application/json", r#"{"value":"postgres://y"}"#)).await.status, 204);
    let listed = bench.send(ask("GET", "/v1/projects/shop/secrets")).await;
    assert_eq!(listed.json()["secrets"][0]["version"], 2);
    assert!(!listed.text.contains("postgres"));
    let wrong = bench.send(put("application/json", r#"{"valu":"hunter2"}"#)).await;
    assert!(wrong.status == 422 && !wrong.text.contains("hunter2"));
    assert_eq!(bench.send(put("text/html", "x")).await.status, 415);
    let long = |count: usize| format!(r#"{{"value":"{}"}}"#, r"\u0061".repeat(count));
    assert_eq!(bench.send(put("application/json", &long(Plain::LONGEST))).await.status, 204);
    assert_eq!(bench.send(put("application/json", &long(Plain::LONGEST + 1))).await.status, 422);
    let longer = bench.send(put("", &"x".repeat(Plain::LONGEST + 1))).await;
    assert!(longer.status == 422 && longer.text.contains("122881 bytes; 122880 is the most"), "{}", longer.text);
    assert_eq!(bench.send(put("", &"x".repeat(1 << 20))).await.status, 413);
    assert_eq!(bench.send(put("", "nul\0")).await.status, 422);
    assert_eq!(bench.send(ask("PUT", "/v1/projects/shop/secrets/1A")).await.status, 400);
    assert_eq!(bench.send(ask("DELETE", "/v1/projects/shop/secrets/DATABASE_URL")).await.status, 204);
    let gone = bench.send(ask("DELETE", "/v1/projects/shop/secrets/DATABASE_URL")).await;
    assert_eq!(gone.outcome(), (404, "unknown_secret".to_owned()));
    let events = bench.send(ask("GET", "/v1/projects/shop/events")).await;
    let said: Vec<String> = events
        .text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|event| format!("{}: {}", event["reason"].as_str().unwrap(), event["message"].as_str().unwrap()))
        .collect();
    assert_eq!(
        said,
        [
            "SecretStored: key admin stored version 1 of secret DATABASE_URL",
            "SecretStored: key admin stored version 2 of secret DATABASE_URL",
            "SecretStored: key admin stored version 3 of secret DATABASE_URL",
            "SecretRemoved: key admin removed secret DATABASE_URL; releases that have it keep its value",
        ]
    );
}

#[tokio::test]
async fn an_artifact_is_kept_under_its_digest_or_not_at_all() {
    let bench = Bench::new();
    let bytes = vec![7; 700_000];
    let sent = bench.send(ask("POST", "/v1/artifacts").body("", bytes.clone()).by("ci")).await;
    let sha256 = digest(&bytes).to_string();
    assert_eq!(sent.json(), serde_json::json!({ "sha256": sha256, "bytes": 700_000 }));
    let mut other = ask("POST", "/v1/artifacts").body("", bytes);
    let signature = bench.signature(&other);
    other.body[0] = 8;
    assert_eq!(bench.send_bare(other.header("x-signature", signature)).await.code(), "sig_bad");
    assert_eq!(bench.send(ask("POST", "/v1/artifacts").body("", vec![1; (1 << 20) + 1])).await.status, 413);
    assert_eq!(bench.send(ask("POST", "/v1/artifacts")).await.status, 400);
    let kept = fs::read_dir(bench.layout.artifacts()).unwrap();
    assert_eq!(kept.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>(), [sha256.as_str()]);
}

#[tokio::test]
async fn a_body_that_only_a_parser_would_understand_is_refused() {
    let bench = Bench::new();
    bench.given("shop", "").await;
    let sent = |path: &str, body: &str| ask("POST", path).body("application/json", body);
    for (asked, outcome) in [
        (sent("/v1/projects/shop/suspend", "[null, null]"), (400, "bad_body")),
        (sent("/v1/projects/shop/rollback", "[1]"), (400, "bad_body")),
        (sent("/v1/hooks/shop/generic", r#"["https://a.example.com/2"]"#), (422, "invalid")),
        (ask("PUT", "/v1/projects/shop/secrets/S").body("application/json", r#"["v"]"#), (422, "invalid")),
        (ask("PUT", "/v1/projects/shop/secrets/S"), (400, "bad_body")),
        (ask("GET", "/v1/events").header("last-event-id", "9223372036854775808"), (400, "bad_header")),
    ] {
        let target = asked.target.clone();
        assert_eq!(bench.send(asked).await.outcome(), (outcome.0, outcome.1.to_owned()), "{target}");
    }
}

fn deploy(kid: &'static str, file: &str) -> Ask {
    let body = format!(r#"{{"file":"{file}","version":"2"}}"#);
    ask("PUT", "/v1/projects/shop/artifact").body("application/json", body).by(kid)
}

#[tokio::test]
async fn a_deploy_moves_the_artifact_and_nothing_else_of_the_spec() {
    let bench = Bench::new();
    bench.given("shop", "").await;
    let before = bench.send(ask("GET", "/v1/projects/shop")).await.json()["spec"].clone();
    let sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let moved = bench.send(deploy("ci", sha256)).await;
    assert_eq!((moved.status, moved.json()["generation"].as_u64()), (202, Some(2)), "{}", moved.text);
    let mut after = bench.send(ask("GET", "/v1/projects/shop")).await.json()["spec"].clone();
    let wanted = serde_json::json!({ "file": sha256, "sha256": sha256, "version": "2", "updates": "webhook" });
    assert_eq!(after["artifact"], wanted);
    after["artifact"] = before["artifact"].clone();
    assert_eq!(after, before);
    for bad in ["{}", r#"{"file":"../x"}"#, r#"{"file":"x","run":"y"}"#, r#"{"file":"x","version":"a\nb"}"#] {
        let refused = bench.send(ask("PUT", "/v1/projects/shop/artifact").body("application/json", bad)).await;
        assert_eq!(refused.outcome(), (400, "bad_body".to_owned()), "{bad}");
    }
    let unknown = Ask { target: "/v1/projects/nobody/artifact".into(), ..deploy("admin", "x") };
    assert_eq!(bench.send(unknown).await.outcome(), (404, "unknown_project".to_owned()));
}

#[tokio::test]
async fn who_may_deploy_is_for_the_spec_and_its_owner_to_say() {
    let bench = Bench::new();
    let fixed = spec("shop", "").replace("updates: webhook", "updates: fixed");
    bench.send(ask("PUT", "/v1/projects/shop").body("", fixed)).await;
    assert_eq!(bench.send(deploy("ci", "x")).await.outcome(), (409, "updates_fixed".to_owned()));
    assert_eq!(bench.send(deploy("admin", "x")).await.status, 202, "who may write the spec may write a part of it");
    bench.hand_over(&Owner::Api, &file());
    let refused = bench.send(deploy("admin", "y")).await;
    assert_eq!(refused.outcome(), (409, "owned".to_owned()));
    assert!(refused.text.contains("file:shop.yaml") && refused.text.contains("artifact.updates: webhook"));
    bench.hand_over(&file(), &Owner::Api);
    bench.send(ask("DELETE", "/v1/projects/shop")).await;
    assert_eq!(bench.send(deploy("admin", "z")).await.outcome(), (409, "deleting".to_owned()));
}
