//! Host services over HTTP.

use serde_json::json;

use super::*;
use crate::model::desired::{HeldUntil, Owner, Refusal, RefusalKind, ServiceIntent};
use crate::model::event::By;
use crate::model::services::{Service, Version};
use crate::port::{DesiredServiceStore, ServiceProgressStore};

fn put(service: &str, body: &str) -> Ask {
    ask("PUT", &format!("/v1/services/{service}")).body("application/json", body)
}

#[tokio::test]
async fn a_service_is_asked_for_shown_and_let_go() {
    let bench = Bench::new();
    let first = bench.send(put("postgresql", r#"{"version":"15"}"#)).await;
    assert_eq!((first.status, first.json()["version"].as_str()), (201, Some("15")));
    assert_eq!(bench.send(put("postgresql", r#"{"version":"lts"}"#)).await.status, 200);
    let shown = bench.send(ask("GET", "/v1/services/postgresql")).await.json();
    assert_eq!(shown["desired"], json!({ "version": "default", "generation": 2, "owner": "api" }));
    assert_eq!(
        (shown["reason"].as_str(), shown["unit"].as_str()),
        (Some("Pending"), Some("zexio-host@postgresql.service"))
    );
    let all = bench.send(ask("GET", "/v1/services")).await.json();
    let names: Vec<&str> =
        all["services"].as_array().unwrap().iter().filter_map(|view| view["service"].as_str()).collect();
    assert_eq!(names, Service::ALL.map(Service::as_str));
    assert!(all["services"][0]["desired"].is_null());
    assert_eq!(bench.send(ask("DELETE", "/v1/services/postgresql?purge=true")).await.status, 202);
    let intent = bench.db.desired_service(Service::Postgresql).unwrap().unwrap().intent;
    assert_eq!(intent, ServiceIntent::Remove { purge: true });
    let redis = bench.send(put("redis", r#"{"version":"7"}"#)).await;
    assert_eq!((redis.status, redis.json()["version"].as_str()), (201, Some("7")));
    assert_eq!(bench.changes().await, 4);
}

#[tokio::test]
async fn what_is_no_service_or_no_version_of_it_is_refused_by_name() {
    let bench = Bench::new();
    let unknown = bench.send(put("mysql", "{}")).await;
    assert_eq!(unknown.outcome(), (404, "unknown_service".to_owned()));
    assert!(unknown.text.contains(&Service::names()), "{}", unknown.text);
    for (service, body, path) in [
        ("redis", r#"{"version":"7.0"}"#, "version"),
        ("nodejs", r#"{"version":"latest"}"#, "version"),
        ("nodejs", r#"{"version":"18; reboot"}"#, "version"),
        ("nodejs", r#"{"verson":"lts"}"#, "verson"),
        ("nodejs", r#"{"version":["lts"]}"#, "version"),
    ] {
        let refused = bench.send(put(service, body)).await;
        assert_eq!(refused.outcome(), (422, "invalid".to_owned()), "{service} {body}");
        assert_eq!(refused.json()["errors"][0]["path"], path, "{}", refused.text);
    }
    assert_eq!(bench.send(put("redis", "{")).await.status, 422);
    assert_eq!(bench.send(ask("DELETE", "/v1/services/redis")).await.outcome(), (404, "unknown_service".to_owned()));
    assert_eq!(bench.send(ask("DELETE", "/v1/services/redis?purge=1")).await.status, 400);
    assert!(bench.db.desired_services().unwrap().is_empty());
    assert_eq!(bench.send(put("redis", "{}").by("read")).await.outcome(), (403, "scope".to_owned()));
    assert_eq!(bench.send(ask("GET", "/v1/services").by("read")).await.status, 200);
}

#[tokio::test]
async fn a_files_service_is_changed_there_but_a_removal_that_was_held_back_is_confirmed_here() {
    let bench = Bench::new();
    bench.send(put("redis", "{}")).await;
    let host = Owner::File("host.yaml".into());
    let by = By::File("host.yaml".into());
    bench.db.put_service(Service::Redis, Version::Default, &host, Some(&Owner::Api), &by).unwrap();
    assert_eq!(bench.send(put("redis", "{}")).await.outcome(), (409, "owned".to_owned()));
    let delete = || ask("DELETE", "/v1/services/redis");
    let refused = bench.send(delete()).await;
    assert!(refused.status == 409 && refused.text.contains("belongs to file:host.yaml"), "{}", refused.text);
    let held = Refusal { kind: RefusalKind::PruneRefused { until: HeldUntil::Confirmed }, message: "m".into() };
    bench.db.set_service_refusal(Service::Redis, &host, Some(&held)).unwrap();
    assert_eq!(bench.send(delete()).await.status, 202);
}
