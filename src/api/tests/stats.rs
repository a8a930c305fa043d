//! The server's figures and the metrics.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;

/// Reads an answer's events until there are this many.
async fn events(bench: &Bench, count: usize, between: impl Fn(usize)) -> (Vec<Value>, super::super::Out) {
    let get = ask("GET", "/v1/system/stats").header("accept", "text/event-stream");
    let signature = bench.signature(&get);
    let mut request = Request::builder().method("GET").uri("/v1/system/stats").header(HOST, HOSTNAME);
    for (name, value) in get.header("x-signature", signature).headers {
        request = request.header(name, value);
    }
    let body: In = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
    let stop = bench.stop.subscribe();
    let origin = Origin { local: false, stop, flaws: Default::default() };
    let answer = handle(Arc::clone(&bench.state), origin, request.body(body).unwrap()).await;
    assert_eq!(answer.headers()[CONTENT_TYPE], "text/event-stream");
    let mut body = answer.into_body();
    let mut found = Vec::new();
    while found.len() < count {
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let text = String::from_utf8(data.to_vec()).unwrap();
        found.push(serde_json::from_str(text.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap()).unwrap());
        between(found.len());
    }
    (found, body)
}

#[tokio::test]
async fn figures_come_once_or_as_one_event_for_each_look() {
    let bench = Bench::new();
    let once = bench.send(ask("GET", "/v1/system/stats").by("read")).await;
    assert_eq!((once.status, once.json()["cpu"]["percent"].clone()), (200, json!(12.5)));
    assert_eq!(bench.stats.0.receiver_count(), 0, "nobody looks on");
    let look = |heard: usize| {
        bench.stats.0.send_modify(|seen| {
            let mut next = (**seen.as_ref().unwrap()).clone();
            next.uptime_seconds = 60 + heard as u64;
            *seen = Some(Arc::new(next));
        });
    };
    let (seen, body) = events(&bench, 3, look).await;
    let uptimes: Vec<u64> = seen.iter().filter_map(|event| event["uptime_seconds"].as_u64()).collect();
    assert_eq!(uptimes, [60, 61, 62]);
    assert_eq!(bench.stats.0.receiver_count(), 1);
    drop(body);
    let ended = async {
        while bench.stats.0.receiver_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
    assert_eq!(bench.send(ask("GET", "/v1/system/stats").by("ci")).await.outcome(), (403, "scope".to_owned()));
    assert_eq!(bench.send(ask("GET", "/v1/system/stats?x=1")).await.outcome(), (400, "bad_query".to_owned()));
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_need_a_signature() {
    let bench = Bench::new();
    bench.given("shop", "").await;
    bench.send(ask("GET", "/v1/projects/nobody/plan")).await;
    bench.send(ask("GET", "/v1/never/heard/of")).await;
    bench.send(ask("PATCH", "/v1/projects")).await;
    let metrics = bench.send(ask("GET", "/metrics").by("read")).await;
    assert_eq!(metrics.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        r#"zexio_http_requests_total{method="PUT",route="/v1/projects/{project}",code="201"} 1"#,
        r#"zexio_http_requests_total{method="GET",route="/v1/projects/{project}/plan",code="404"} 1"#,
        r#"zexio_http_requests_total{method="other",route="none",code="404"} 1"#,
        r#"zexio_http_requests_total{method="other",route="none",code="405"} 1"#,
        r#"zexio_http_request_seconds_count{method="PUT",route="/v1/projects/{project}"} 1"#,
        "# TYPE zexio_http_requests_total counter",
    ] {
        assert!(metrics.text.lines().any(|found| found == line), "{line} is not in\n{}", metrics.text);
    }
    assert!(!metrics.text.contains("nobody") && !metrics.text.contains("heard"), "no path of a stranger's");
    assert_eq!(bench.send_bare(ask("GET", "/metrics")).await.outcome(), (401, "sig_missing".to_owned()));
    assert_eq!(bench.send(ask("GET", "/metrics").by("ci")).await.outcome(), (403, "scope".to_owned()));
}

/// Returns every word of a text that is spelled like one of our metrics.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("zexio_")).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_dashboard_shows_metrics_that_exist() {
    let bench = Bench::new();
    let metrics = &bench.state.metrics;
    metrics.took_step("start", true);
    metrics.ended_phase("whole", Duration::from_secs(1));
    metrics.ended_rollout("serving");
    bench.send(ask("GET", "/v1/projects")).await;
    let text = bench.send(ask("GET", "/metrics")).await.text;
    let there = names(&text);
    let dashboard: Value = serde_json::from_str(include_str!("../../../examples/grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let asked = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let asked: BTreeSet<String> = asked.flat_map(|target| names(target["expr"].as_str().unwrap())).collect();
    assert!(asked.len() > 15, "{asked:?}");
    let missing: Vec<&String> = asked.difference(&there).collect();
    assert!(missing.is_empty(), "{missing:?} is not in\n{text}");
}
