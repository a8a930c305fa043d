//! The API's own description, OpenAPI 3.1: built from the route table, so that no route is missing and none is
//! invented. What no table holds is in `operation.rs` and `schemas.yaml`, and the API's tests check every answer
//! against it.

mod operation;
#[cfg(test)]
pub mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use operation::{Operation, operation};

use super::hooks::PROVIDERS;
use super::problem::{self, Problem};
use super::route::{Permission, TABLE};
use super::{Answer, Call, respond};
use crate::model::reason::Reason;
use crate::model::schema;
use crate::model::services::Service;
use crate::model::status::{ConditionKind, ProjectState, ServiceState};

/// Schemas of requests and answers.
const SCHEMAS: &str = include_str!("schemas.yaml");

/// How to sign a request, for readers of this document alone.
const SIGNATURE: &str = "v1,kid=<kid>,t=<unix seconds>,n=<32 hex>,d=<sha256 hex of the body>,s=<hmac hex>. \
    s is HMAC-SHA256 with the key's 32 bytes over ten lines joined by \\n: ZEXIO1-HMAC-SHA256, kid, t, n, method, \
    host (lower case, with the port if sent), raw path, raw query, content type (lower case), d. \
    A request that writes is accepted once for each n.";

/// What the header of an answer means, for a client that waits for its own write.
const PASS: &str = "<run of the agent>.<number of a pass>. Of a read: the pass whose findings it shows. Of a write: the \
    newest pass that may have begun before it. A status covers a write once the read's number is greater, or its run is \
    another one and its number is not 0.";

static DOCUMENT: LazyLock<Result<Value, String>> = LazyLock::new(document);

/// Answers `GET /v1/openapi.json`.
pub fn describe(call: &Call) -> Answer {
    call.query(&[])?;
    let document = DOCUMENT.as_ref().map_err(|cause| Problem::ours(cause.clone()))?;
    Ok(respond(StatusCode::OK, "application/json", document.to_string().into_bytes()))
}

/// Builds the description.
///
/// # Errors
/// `schemas.yaml` cannot be parsed.
fn document() -> Result<Value, String> {
    let mut schemas: Map<String, Value> =
        serde_saphyr::from_str(SCHEMAS).map_err(|e| format!("could not read the schemas of the API: {e}"))?;
    let codes: Vec<&str> = problem::CODES.iter().map(|(code, ..)| *code).collect();
    schemas["Problem"]["properties"]["code"]["enum"] = json!(codes);
    schemas["Service"]["enum"] = json!(Service::ALL);
    let providers: Vec<&str> = PROVIDERS.iter().flat_map(|provider| provider.names).copied().collect();
    schemas["Provider"]["enum"] = json!(providers);
    let reasons: Vec<Reason> = Reason::all().collect();
    schemas.insert("Reason".into(), json!({ "type": "string", "enum": reasons }));
    schemas["Condition"]["properties"]["type"]["enum"] = json!(ConditionKind::ALL);
    schemas["Status"]["properties"]["state"]["enum"] = json!(ProjectState::ALL);
    schemas["ServiceView"]["properties"]["state"]["enum"] = json!(ServiceState::ALL);
    schemas.extend(schema::components());
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for (method, pattern, endpoint, permission) in TABLE {
        let described = shown(&operation(*endpoint), method, pattern, *permission);
        paths.entry(pattern).or_default().insert(method.to_ascii_lowercase(), described);
    }
    Ok(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Zexio Agent",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Write the desired state of a server; read its observed state.",
            "description": "Every path that takes GET takes HEAD too: the same headers, and no body.",
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "http://127.0.0.1:7470" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "signature": { "type": "apiKey", "in": "header", "name": "X-Signature", "description": SIGNATURE },
            },
        },
    }))
}

fn shown(told: &Operation, method: &str, pattern: &str, permission: Permission) -> Value {
    let mut shown = json!({
        "operationId": told.id,
        "summary": told.summary,
        "parameters": parameters(told, pattern),
        "responses": responses(told, method, pattern, permission),
        "security": if permission == Permission::Nothing { json!([]) } else { json!([{ "signature": [] }]) },
    });
    if permission != Permission::Nothing {
        shown["x-scopes"] = json!(scopes(permission));
    }
    if let Some(body) = &told.body {
        // Any other type is the value itself.
        let schema = |kind: &str| match kind {
            "text/plain" | "application/octet-stream" => json!({ "type": "string", "minLength": 1 }),
            _ => reference(body.schema),
        };
        let content: Map<String, Value> =
            body.types.iter().map(|kind| ((*kind).to_owned(), json!({ "schema": schema(kind) }))).collect();
        shown["requestBody"] = json!({ "required": body.required, "content": content });
    }
    shown
}

fn parameters(told: &Operation, pattern: &str) -> Vec<Value> {
    let place = |place: &str, name: &str, schema: &str, what: &str| {
        let required = place == "path";
        json!({ "name": name, "in": place, "required": required, "description": what, "schema": reference(schema) })
    };
    let mut all = Vec::new();
    if pattern.contains("{project}") {
        all.push(place("path", "project", "ProjectId", "the project's id"));
    }
    if pattern.contains("{name}") {
        all.push(place("path", "name", told.name, "the name"));
    }
    all.extend(told.query.iter().map(|(name, schema, what)| {
        let mut shown = place("query", name, schema, what);
        if told.blanks {
            shown["allowEmptyValue"] = json!(true);
        }
        shown
    }));
    all.extend(told.headers.iter().map(|(name, schema, what)| place("header", name, schema, what)));
    all
}

fn responses(told: &Operation, method: &str, pattern: &str, permission: Permission) -> BTreeMap<String, Value> {
    let mut responses = BTreeMap::new();
    for answer in &told.answers {
        let mut shown = json!({ "description": answer.what });
        for (kind, schema) in &answer.content {
            // OpenAPI 3.1 cannot describe a stream of documents.
            shown["content"][*kind] = match *kind {
                "application/json" => json!({ "schema": reference(schema) }),
                _ if schema.is_empty() => json!({ "schema": { "type": "string" } }),
                _ => json!({ "schema": { "type": "string" }, "x-each": reference(schema) }),
            };
        }
        if answer.etag {
            shown["headers"]["ETag"] =
                json!({ "description": "the generation", "required": true, "schema": reference("Tag") });
        }
        if permission != Permission::Nothing {
            shown["headers"]["Zexio-Pass"] = json!({ "description": PASS, "schema": { "type": "string" } });
        }
        responses.insert(answer.status.to_string(), shown);
    }
    let mut by_status: BTreeMap<u16, BTreeSet<&str>> = BTreeMap::new();
    for code in codes(told, method, pattern, permission) {
        by_status.entry(problem::status_of(code)).or_default().insert(code);
    }
    for (status, codes) in by_status {
        let told = codes.iter().map(|code| format!("`{code}`: {}", problem::meaning_of(code)));
        let schema = json!({ "allOf": [reference("Problem"), { "properties": { "code": { "enum": codes } } }] });
        let mut shown = json!({
            "description": told.collect::<Vec<String>>().join("; "),
            "content": { "application/problem+json": { "schema": schema } },
        });
        // `/healthz` answers 503 with its own schema too.
        if let Some(own) = responses.get(&status.to_string()) {
            shown["content"]["application/json"] = own["content"]["application/json"].clone();
        }
        responses.insert(status.to_string(), shown);
    }
    responses
}

/// Returns the codes with which a route may refuse: its own, and those that follow from its properties.
fn codes(told: &Operation, method: &str, pattern: &str, permission: Permission) -> BTreeSet<&'static str> {
    let mut codes: BTreeSet<&'static str> = told.codes.iter().copied().collect();
    codes.extend(["bad_request", "bad_header", "bad_host", "bad_path", "bad_body", "too_slow", "too_large"]);
    codes.extend(["uri_too_long", "head_too_large", "internal", "unavailable"]);
    if told.checks_query {
        codes.insert("bad_query");
    }
    if pattern.contains("{project}") {
        codes.insert("bad_id");
    }
    if told.body.as_ref().is_some_and(|body| !body.types.contains(&"*/*")) {
        codes.insert("content_type");
    }
    if permission != Permission::Nothing {
        codes.extend(["sig_missing", "sig_malformed", "key_unknown", "sig_bad", "clock_skew", "scope"]);
        codes.extend((method != "GET").then_some("replayed"));
    }
    codes
}

fn scopes(permission: Permission) -> &'static [&'static str] {
    match permission {
        Permission::Nothing => &[],
        Permission::Look => &["admin", "read"],
        Permission::LookAtProject => &["admin", "read", "deploy:{project}"],
        Permission::DeployProject => &["admin", "deploy:{project}"],
        Permission::Deploy => &["admin", "deploy:<any project>"],
        Permission::Admin => &["admin"],
    }
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}
