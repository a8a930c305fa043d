//! Checks the description against the routes, the sources, and every answer of the tests.

use std::collections::BTreeSet;
use std::path::Path;

use hyper::header::{CONTENT_TYPE, ETAG, HeaderMap};
use hyper::{Method, StatusCode};
use regex::Regex;
use serde_json::{Value, json};

use super::super::problem::CODES;
use super::super::route;
use super::super::tests::{Bench, ask};
use super::*;
use crate::model::document;

/// Checks an answer against the description of its route: status, content type, headers, schema, code.
pub fn hold_against(method: &str, target: &str, status: StatusCode, headers: &HeaderMap, text: &str) {
    let told = DOCUMENT.as_ref().unwrap();
    let case = format!("{method} {target}: {status} {text}");
    if method == "HEAD" {
        return assert!(text.is_empty(), "{case}");
    }
    if status.as_u16() >= 400 && !target.starts_with("/healthz") {
        let said: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{case}: {e}"));
        let code = said["code"].as_str().unwrap_or_default();
        assert!(CODES.iter().any(|(known, of_it, _)| *known == code && *of_it == status.as_u16()), "{case}");
    }
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let (method, pattern) = route::label(&method, target.split('?').next().unwrap_or_default());
    if pattern == "none" {
        return;
    }
    let response = &told["paths"][pattern][method.to_ascii_lowercase()]["responses"][status.as_str()];
    assert!(response.is_object(), "the status is not told of; {case}");
    if response["headers"]["ETag"].is_object() {
        let tag = headers.get(ETAG).and_then(|tag| tag.to_str().ok());
        check(&reference("Tag"), &json!(tag), &case);
    }
    let Some(kind) = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else {
        assert!(response["content"].is_null() && text.is_empty(), "{case}");
        return;
    };
    let content = &response["content"][kind];
    assert!(content.is_object(), "{kind} is not told of; {case}");
    match content.get("x-each") {
        Some(schema) => {
            let lines = text.lines().filter(|line| line.starts_with('{') || line.starts_with("data: "));
            for line in lines.map(|line| line.trim_start_matches("data: ")) {
                check(schema, &serde_json::from_str(line).unwrap(), &case);
            }
        }
        None if kind.contains("json") => check(&content["schema"], &serde_json::from_str(text).unwrap(), &case),
        None => {}
    }
}

fn check(schema: &Value, value: &Value, case: &str) {
    fits(schema, value).unwrap_or_else(|wrong| panic!("{case}\nis not {schema}: {wrong}"));
}

fn fits(schema: &Value, value: &Value) -> Result<(), String> {
    let mut whole = schema.clone();
    whole["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    whole["components"] = DOCUMENT.as_ref().unwrap()["components"].clone();
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.add_resource("answer.json", whole).unwrap();
    let compiled = compiler.compile("answer.json", &mut schemas);
    let compiled = compiled.unwrap_or_else(|e| panic!("{schema} is no schema: {e}"));
    schemas.validate(value, compiled).map_err(|wrong| wrong.to_string())
}

#[tokio::test]
async fn whoever_may_look_gets_the_description() {
    let bench = Bench::new();
    let told = bench.send(ask("GET", "/v1/openapi.json").by("read")).await.json();
    assert_eq!(told["openapi"], "3.1.0");
    let put = &told["paths"]["/v1/projects/{project}"]["put"];
    assert_eq!((&put["operationId"], &put["x-scopes"]), (&json!("putProject"), &json!(["admin"])));
    assert_eq!(bench.send(ask("GET", "/v1/openapi.json").by("ci")).await.outcome(), (403, "scope".to_owned()));
}

/// The parts of a spec have names of their own, so that none replaces another schema.
#[test]
fn the_form_of_a_spec_is_the_one_that_editors_get() {
    let of_put = reference("Spec");
    let made = schema::components();
    let example = &made["Spec"]["examples"][0];
    document::parse(example.to_string().as_bytes()).unwrap();
    for (spec, right) in [
        (example.clone(), true),
        (
            json!({ "zexio": 1, "project": "shop", "artifact": { "file": "a" }, "processes": { "web": { "run": "./a" } } }),
            true,
        ),
        (json!({ "zexio": 1, "project": "shop", "artifact": { "file": "a" }, "processes": {} }), false),
        (
            json!({ "zexio": 1, "project": "shop", "artifact": { "file": "a", "url": "b" }, "processes": { "web": { "run": "./a" } } }),
            false,
        ),
        (
            json!({ "zexio": 1, "project": "shop", "artifact": { "file": "a" }, "processes": { "web": { "run": "./a" } }, "keep": 0 }),
            false,
        ),
        (
            json!({ "zexio": 1, "project": "shop", "artifact": { "file": "a" }, "processes": { "web": { "run": "./a", "stop": null } } }),
            false,
        ),
    ] {
        assert_eq!(fits(&of_put, &spec).is_ok(), right, "{spec}");
    }
    let by_hand: Map<String, Value> = serde_saphyr::from_str(SCHEMAS).unwrap();
    assert!(made.len() > 20 && made.keys().all(|name| !by_hand.contains_key(name)));
}

#[test]
fn every_schema_is_used_and_every_schema_that_is_used_is_there() {
    let told = DOCUMENT.as_ref().unwrap();
    let text = told.to_string();
    let named = Regex::new("#/components/schemas/([A-Za-z0-9]+)").unwrap();
    let used: BTreeSet<&str> = named.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()).collect();
    let there: BTreeSet<&str> = told["components"]["schemas"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(used, there);
}

#[test]
fn no_two_routes_have_one_name() {
    let names: Vec<&str> = route::TABLE.iter().map(|(.., endpoint, _)| operation(*endpoint).id).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
}

/// A client that sends an unknown parameter gets the list of known ones.
#[tokio::test]
async fn the_parameters_of_a_route_are_those_that_it_takes() {
    let bench = Bench::new();
    bench.given("shop", "").await;
    for (method, pattern, endpoint, _) in route::TABLE {
        let told = operation(*endpoint);
        if !told.checks_query {
            continue;
        }
        let target =
            pattern.replace("{project}", "shop").replace("/services/{name}", "/services/redis").replace("{name}", "S")
                + "?nobody-knows=1";
        let refused = bench.send(ask(method, &target)).await;
        let detail = refused.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert_eq!(refused.code(), "bad_query", "{method} {target}: {}", refused.text);
        let known = detail.split("known here: ").nth(1).unwrap();
        let known: BTreeSet<&str> = known.split(", ").filter(|name| *name != "none").collect();
        assert_eq!(known, told.query.iter().map(|(name, ..)| *name).collect(), "{method} {pattern}");
    }
}

/// Every code in the sources is documented, and every documented one is in the sources.
#[test]
fn the_codes_are_those_of_the_sources() {
    let api = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
    let mut files = vec![api.clone()];
    let mut sources = String::new();
    while let Some(path) = files.pop() {
        match path.is_dir() {
            true if path.ends_with("tests") => {}
            true => files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path())),
            false => sources += &std::fs::read_to_string(path).unwrap(),
        }
    }
    let made = Regex::new(
        r#"(?:Problem|Self)::(?:bad|unproven|conflict|missing|new)\(\s*(?:StatusCode::[A-Z_]+,\s*)?"([a-z_]+)"|code: "([a-z_]+)""#,
    )
    .unwrap();
    let first = |found: regex::Captures<'_>| found.iter().skip(1).flatten().next().unwrap().as_str().to_owned();
    let made: BTreeSet<String> = made.captures_iter(&sources).map(first).collect();
    assert_eq!(made, CODES.iter().map(|(code, ..)| (*code).to_owned()).collect());
    for (.., endpoint, _) in route::TABLE {
        let unknown = |code: &&&str| CODES.iter().all(|(known, ..)| known != *code);
        assert_eq!(operation(*endpoint).codes.iter().find(unknown), None);
    }
}
