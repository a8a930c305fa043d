//! Events, read and followed; suspend and resume.

use serde_json::json;

use super::*;
use crate::api::Out;
use crate::model::event::Event;
use crate::model::reason::Reason;

/// Records an event; the database numbers it.
fn happen(bench: &Bench, at: u64, project: &str, reason: &str) {
    let reason = Reason::named(reason).unwrap();
    let event = Event::info(Timestamp(at * 1000), reason, format!("first line\n\ndata: forged at {at}"));
    bench.db.record(&[], &[event.of(&ProjectId::parse(project).unwrap(), 1)]).unwrap();
}

fn ids(text: &str) -> Vec<u64> {
    text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["id"].as_u64()).collect()
}

#[tokio::test]
async fn events_are_lines_of_json_and_are_chosen_by_what_is_asked() {
    let bench = Bench::new();
    for (id, project, reason) in [(1, "shop", "Trial"), (2, "blog", "Trial"), (3, "shop", "Serving")] {
        happen(&bench, id, project, reason);
    }
    for (target, expected) in [
        ("/v1/events", vec![1, 2, 3]),
        ("/v1/events?lines=1", vec![3]),
        ("/v1/events?reason=Trial", vec![1, 2]),
        ("/v1/events?since=1970-01-01T00:00:02Z", vec![2, 3]),
        // The project no longer exists, but its events do.
        ("/v1/projects/shop/events", vec![1, 3]),
    ] {
        let answered = bench.send(ask("GET", target)).await;
        assert_eq!((answered.status, ids(&answered.text)), (200, expected), "{target}");
        assert_eq!(answered.headers["content-type"], "application/x-ndjson");
    }
    assert_eq!(bench.send(ask("GET", "/v1/projects/nobody/events")).await.outcome(), (404, "unknown_project".into()));
    for wrong in ["/v1/events?reason=Trail", "/v1/events?lines=x", "/v1/events?since=soon", "/v1/events?level=info"] {
        assert_eq!(bench.send(ask("GET", wrong)).await.outcome(), (400, "bad_query".into()), "{wrong}");
    }
    let own = |kid| bench.send(ask("GET", "/v1/projects/shop/events").by(kid));
    assert_eq!((own("ci").await.status, own("other").await.status), (200, 403));
}

/// A following reader, fed one piece at a time.
async fn follow(bench: &Bench, ask: Ask) -> Out {
    let signature = bench.signature(&ask);
    let mut request = Request::builder().method("GET").uri(&ask.target).header(HOST, ask.host);
    request = request.header("x-signature", signature);
    for (name, value) in &ask.headers {
        request = request.header(*name, value);
    }
    let body: In = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
    let origin = Origin { local: false, stop: bench.stop.subscribe(), flaws: Default::default() };
    let response = handle(Arc::clone(&bench.state), origin, request.body(body).unwrap()).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    response.into_body()
}

/// Returns the next event, without keep-alives.
async fn next(body: &mut Out) -> Option<String> {
    loop {
        let frame = tokio::time::timeout(Duration::from_secs(30), body.frame()).await.expect("something comes")?;
        let text = String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap();
        if text != ":\n\n" {
            return Some(text);
        }
    }
}

#[tokio::test]
async fn a_follower_gets_the_past_then_what_comes_and_goes_on_where_it_was() {
    let bench = Bench::new();
    happen(&bench, 1, "shop", "Trial");
    happen(&bench, 2, "shop", "Serving");
    let mut body = follow(&bench, ask("GET", "/v1/events?follow=true&lines=1")).await;
    let first = next(&mut body).await.unwrap();
    assert!(first.starts_with("id: 2\ndata: {") && first.ends_with("}\n\n"), "{first}");
    assert_eq!(first.lines().filter(|line| line.starts_with("data:")).count(), 1, "a message forges no line: {first}");
    happen(&bench, 3, "blog", "Trial");
    assert!(next(&mut body).await.unwrap().starts_with("id: 3\n"));
    bench.stop.send_replace(true);
    assert_eq!(next(&mut body).await, None, "it ends with the agent");
    bench.stop.send_replace(false);
    let again = |last: &'static str| ask("GET", "/v1/events?follow=true&lines=1").header("last-event-id", last);
    let mut body = follow(&bench, again("1")).await;
    assert!(next(&mut body).await.unwrap().starts_with("id: 2\n"));
    assert!(next(&mut body).await.unwrap().starts_with("id: 3\n"));
    let once = bench.send(ask("GET", "/v1/events?lines=1").header("last-event-id", "1")).await;
    assert_eq!(ids(&once.text), [2, 3], "all that came since, and then the end");
    // The database was restored, and is behind what this reader had seen.
    let mut body = follow(&bench, again("900")).await;
    happen(&bench, 4, "shop", "Trial");
    assert!(next(&mut body).await.unwrap().starts_with("id: 4\n"));
    assert_eq!(bench.send(again("x")).await.outcome(), (400, "bad_header".into()));
}

#[tokio::test]
async fn a_follower_hears_a_sign_of_life_and_one_who_does_not_read_is_dropped() {
    let bench = Bench::new();
    let mut body = follow(&bench, ask("GET", "/v1/events?follow=true")).await;
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(frame, ":\n\n");
    let places = bench.state.slots.readers.available_permits();
    for id in 1..500 {
        happen(&bench, id, "shop", "Trial");
    }
    // The slot is free again although the body is still held.
    let dropped = async {
        while bench.state.slots.readers.available_permits() == places {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), dropped).await.expect("the reader is dropped");
    let mut left = 0;
    while body.frame().await.is_some() {
        left += 1;
    }
    assert!(left <= 64, "{left} were held for it");
}

#[tokio::test]
async fn a_project_is_suspended_by_whom_and_why_and_goes_on_when_it_is_resumed() {
    let bench = Bench::new();
    bench.given("shop", "").await;
    let post = |verb: &str, body: &str| {
        bench.send(ask("POST", &format!("/v1/projects/shop/{verb}")).body("application/json", body.to_owned()))
    };
    bench.changes().await;
    // Also for a file's project: suspending does not change its spec.
    bench.hand_over(&Owner::Api, &file());
    let asked = json!({ "reason": "the disk is being moved", "until": "2026-12-01T08:00:00Z" });
    let answered = post("suspend", &asked.to_string()).await;
    let hold = json!({ "by": "key admin", "since": "2026-01-01T00:00:00.000Z",
        "reason": "the disk is being moved", "until": "2026-12-01T08:00:00.000Z" });
    assert_eq!(
        (answered.status, answered.json()),
        (202, json!({ "project": "shop", "generation": 1, "suspended": hold }))
    );
    assert_eq!(bench.changes().await, 1);
    let shown = bench.send(ask("GET", "/v1/projects/shop")).await.json();
    assert_eq!((&shown["suspended"], &shown["generation"]), (&hold, &json!(1)));
    assert_eq!((&shown["state"], &shown["status"]["state"]), (&json!("suspended"), &json!("suspended")), "at once");
    let synced = post("sync", "").await;
    assert!(synced.json()["suspended"].as_str().unwrap().contains("by key admin: the disk is being moved"));
    let resumed = post("resume", "").await;
    assert_eq!((resumed.status, &resumed.json()["suspended"]), (202, &Value::Null));
    assert_eq!(bench.send(ask("GET", "/v1/projects/shop")).await.json()["suspended"], Value::Null);
    assert_eq!(post("resume", "").await.status, 202, "once more is no error");
    assert_eq!(post("suspend", "").await.status, 202, "neither reason nor end is needed");
    for (body, status) in [
        ("{\"why\": \"x\"}".to_owned(), 400),
        ("{\"until\": \"tomorrow\"}".to_owned(), 400),
        ("{\"until\": \"2020-01-01T00:00:00Z\"}".to_owned(), 422),
        (json!({ "reason": "x".repeat(501) }).to_string(), 422),
        (json!({ "reason": "a\u{1b}[2J" }).to_string(), 422),
    ] {
        assert_eq!(post("suspend", &body).await.status, status, "{body}");
    }
    assert_eq!(bench.send(ask("POST", "/v1/projects/nobody/suspend")).await.outcome(), (404, "unknown_project".into()));
}

#[tokio::test]
async fn what_the_spec_suspends_is_resumed_where_the_spec_is() {
    let bench = Bench::new();
    bench.given("shop", "suspend: true").await;
    let refused = bench.send(ask("POST", "/v1/projects/shop/resume")).await;
    assert_eq!(refused.outcome(), (409, "suspended_by_spec".into()));
    assert!(refused.text.contains("put the spec of shop without `suspend`"), "{}", refused.text);
    bench.hand_over(&Owner::Api, &file());
    let refused = bench.send(ask("POST", "/v1/projects/shop/resume")).await;
    assert!(refused.text.contains("take `suspend` out of shop.yaml"), "{}", refused.text);
}

#[tokio::test]
async fn the_removal_of_a_suspended_project_is_taken_and_says_that_it_waits() {
    let bench = Bench::new();
    bench.given("shop", "").await;
    assert_eq!(bench.send(ask("POST", "/v1/projects/shop/suspend")).await.status, 202);
    let answered = bench.send(ask("DELETE", "/v1/projects/shop")).await;
    assert_eq!(answered.status, 202);
    assert!(answered.json()["suspended"].as_str().unwrap().contains("until it is resumed"), "{}", answered.text);
    assert_eq!(bench.send(ask("POST", "/v1/projects/shop/resume")).await.status, 202);
}
