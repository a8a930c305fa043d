//! Authentication and authorisation.

use super::*;

#[tokio::test]
async fn every_way_to_spoil_a_signature_is_refused_before_anything_happens() {
    let bench = Bench::new();
    let put = || ask("PUT", "/v1/projects/shop").body("application/yaml", spec("shop", ""));
    let signature = bench.signature(&put());
    let flipped = signature.rsplit_once(",s=").map(|(rest, proof)| {
        let digit = if proof.starts_with('0') { "1" } else { "0" };
        format!("{rest},s={digit}{}", &proof[1..])
    });
    let with = |ask: Ask, value: String| ask.header("x-signature", value);
    let mut longer = put();
    longer.body.push(b' ');
    for (case, spoiled, code) in [
        ("none", put(), "sig_missing"),
        ("two", with(with(put(), signature.clone()), signature.clone()), "sig_malformed"),
        ("upper case", with(put(), signature.to_uppercase()), "sig_malformed"),
        ("trailing comma", with(put(), format!("{signature},")), "sig_malformed"),
        ("unknown key", with(put(), signature.replace("kid=admin", "kid=nobody")), "key_unknown"),
        ("one bit", with(put(), flipped.unwrap()), "sig_bad"),
        ("another method", with(Ask { method: "DELETE", ..put() }, signature.clone()), "sig_bad"),
        ("another path", with(Ask { target: "/v1/projects/shoq".into(), ..put() }, signature.clone()), "sig_bad"),
        (
            "another query",
            with(Ask { target: "/v1/projects/shop?dry_run=true".into(), ..put() }, signature.clone()),
            "sig_bad",
        ),
        ("another host", with(Ask { host: "evil.example.com", ..put() }, signature.clone()), "sig_bad"),
        ("another type", with(Ask { content_type: "application/json", ..put() }, signature.clone()), "sig_bad"),
        ("a longer body", with(longer, signature.clone()), "sig_bad"),
        ("early", with(put(), bench.signature(&Ask { at: NOW.0 / 1000 - 301, ..put() })), "clock_skew"),
        ("late", with(put(), bench.signature(&Ask { at: NOW.0 / 1000 + 301, ..put() })), "clock_skew"),
    ] {
        assert_eq!(bench.send_bare(spoiled).await.outcome(), (401, code.to_owned()), "{case}");
    }
    assert!(bench.db.desired().unwrap().0.is_empty());
    assert_eq!(bench.changes().await, 0);
}

#[tokio::test]
async fn a_request_that_writes_is_taken_once_and_one_that_reads_as_often_as_sent() {
    let bench = Bench::new();
    let nonce = Some(Nonce::generate().unwrap());
    let put = Ask { nonce: nonce.clone(), ..ask("PUT", "/v1/projects/shop").body("", spec("shop", "")) };
    assert_eq!(bench.send(put.clone()).await.status, 201);
    assert_eq!(bench.send(put).await.outcome(), (401, "replayed".to_owned()));
    let get = Ask { nonce, ..ask("GET", "/v1/projects/shop") };
    assert_eq!(bench.send(get.clone()).await.status, 200);
    assert_eq!(bench.send(get).await.status, 200);
}

#[tokio::test]
async fn each_key_reaches_what_its_scope_says() {
    let bench = Bench::new();
    bench.given("shop", "").await;
    let bump = br#"{"url":"https://a.example.com/2"}"#;
    for (asked, admin, read, ci, other) in [
        (ask("GET", "/v1/projects"), 200, 200, 403, 403),
        (ask("GET", "/v1/projects/shop"), 200, 200, 200, 403),
        (ask("GET", "/v1/projects/shop/plan"), 200, 200, 200, 403),
        (ask("GET", "/v1/projects/shop/releases"), 200, 200, 200, 403),
        (ask("GET", "/v1/projects/shop/logs"), 200, 200, 200, 403),
        (ask("GET", "/v1/projects/shop/secrets"), 200, 200, 403, 403),
        (ask("GET", "/v1/plan"), 200, 200, 403, 403),
        (ask("GET", "/v1/system/logs"), 200, 200, 403, 403),
        (ask("POST", "/v1/artifacts").body("", "bytes"), 200, 403, 200, 200),
        (ask("POST", "/v1/hooks/shop/generic").body("application/json", bump), 202, 403, 202, 403),
        (ask("PUT", "/v1/projects/shop/artifact").body("application/json", r#"{"file":"x"}"#), 202, 403, 202, 403),
        (ask("POST", "/v1/projects/shop/sync"), 202, 403, 403, 403),
        (ask("POST", "/v1/projects/shop/rollback"), 409, 403, 403, 403),
        (ask("PUT", "/v1/projects/shop/secrets/S").body("text/plain", "v"), 201, 403, 403, 403),
        (ask("DELETE", "/v1/projects/shop/secrets/S"), 204, 403, 403, 403),
        (ask("PUT", "/v1/projects/shop").body("", spec("shop", "")), 200, 403, 403, 403),
        (ask("DELETE", "/v1/projects/shop"), 202, 403, 403, 403),
    ] {
        for (kid, status) in [("read", read), ("ci", ci), ("other", other), ("admin", admin)] {
            let answered = bench.send(asked.clone().by(kid)).await;
            assert_eq!(answered.status, status, "{kid} {} {}: {}", asked.method, asked.target, answered.text);
            assert!(status != 403 || answered.code() == "scope");
        }
    }
}

#[tokio::test]
async fn which_routes_there_are_is_told_to_whoever_has_a_key() {
    let bench = Bench::new();
    for (asked, outcome) in [
        (ask("GET", "/nothing"), (404, "unknown_route")),
        (ask("POST", "/v1/nothing"), (404, "unknown_route")),
        (ask("PATCH", "/v1/projects/shop"), (405, "method_not_allowed")),
    ] {
        let target = asked.target.clone();
        assert_eq!(bench.send_bare(asked.clone()).await.outcome(), (401, "sig_missing".to_owned()), "{target}");
        let other = bench.signature(&Ask { target: "/v1/projects".into(), ..asked.clone() });
        let forged = asked.clone().header("x-signature", other);
        assert_eq!(bench.send_bare(forged).await.outcome(), (401, "sig_bad".to_owned()), "{target}");
        let told = bench.send(asked.by("ci")).await;
        assert_eq!(told.outcome(), (outcome.0, outcome.1.to_owned()), "{target}");
        let allow = told.headers.get("allow").map(|allow| allow.to_str().unwrap());
        assert_eq!(allow, (outcome.0 == 405).then_some("GET, HEAD, PUT, DELETE"), "{target}");
    }
    // These take none of our signatures, whatever the method.
    for (target, allow) in [("/healthz", "GET, HEAD"), ("/v1/hooks/shop/github", "POST")] {
        let refused = bench.send_bare(ask("PUT", target)).await;
        assert_eq!((refused.status, refused.headers["allow"].to_str().unwrap()), (405, allow), "{target}");
    }
}

#[tokio::test]
async fn a_request_that_two_readers_could_read_differently_is_refused() {
    let bench = Bench::new();
    let get = || ask("GET", "/v1/projects");
    for (case, asked) in [
        ("no host", Ask { host: "", ..get() }),
        ("two hosts", get().header("host", "other.example.com")),
        ("another authority", ask("GET", "http://other.example.com/v1/projects")),
        ("dot segments", ask("GET", "/v1/projects/a/../shop")),
        ("escapes", ask("GET", "/v1/projects/%2e%2e")),
        ("a bad id", ask("GET", "/v1/projects/Shop")),
    ] {
        assert_eq!(bench.send_bare(asked).await.status, 400, "{case}");
    }
    let unknown = bench.send(ask("GET", "/v1/projects?limt=3")).await;
    assert_eq!(unknown.code(), "bad_query");
    assert!(unknown.text.contains("limt"));
}
