//! The spec language as a JSON Schema, made from the types that read it: what an editor completes, explains and
//! rejects.
//!
//! It leaves out the rules that need the whole spec (`spec_rules`) and the checks against the server.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::host_document::HostDocument;
use super::names::{ArtifactName, EnvName, Hostname, ProcessName, ProjectId, ReleaseNo, RoutePath, SecretName, Sha256};
use super::quantity::{Bytes, CpuShare, Span, Timestamp};
use super::services::Service;
use super::spec::{
    Calendar, Command, Document, Given, HeaderName, HeaderText, Instances, Keep, Label, Language, Plain, ProbeHost,
    ProbePath, SecretUse, Site, SiteDirectory, Suspend, Suspension, TagPattern,
};

/// Returns the schema of both kinds of documents.
pub fn schema() -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A document of Zexio: a project's spec, or the services of the host",
        "if": { "required": ["kind"], "properties": { "kind": { "const": "host" } } },
        "then": of::<HostDocument>("The services of the host"),
        "else": of::<Document>("A project's spec: what it should be on its server"),
    })
}

/// Returns a project's spec as components of an OpenAPI 3.1 document: `Spec`, and the parts that it refers to. Their
/// names begin with Spec too, so that they do not clash with another component.
pub fn components() -> Map<String, Value> {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = COMPONENTS.into();
    let mut generator = settings.into_generator();
    let mut whole = Document::json_schema(&mut generator).to_value();
    whole["examples"] = json!([example()]);
    let parts = generator.take_definitions(true).into_iter().map(|(name, part)| (format!("Spec{name}"), part));
    let all = std::iter::once(("Spec".to_owned(), whole)).chain(parts);
    all.map(|(name, mut part)| {
        polish(&mut part);
        refer_to_spec_parts(&mut part);
        (name, part)
    })
    .collect()
}

/// Returns a minimal spec that can be reached.
fn example() -> Value {
    json!({
        "zexio": 1,
        "project": "shop",
        "artifact": { "url": "https://bucket.example.com/shop-1.8.2.tar.zst" },
        "processes": { "web": { "run": "./shop serve", "routes": [{ "host": "shop.example.com" }] } },
    })
}

/// Where OpenAPI keeps its schemas.
const COMPONENTS: &str = "/components/schemas";

fn refer_to_spec_parts(schema: &mut Value) {
    match schema {
        Value::Object(table) => {
            if let Some(Value::String(target)) = table.get_mut("$ref") {
                *target = target.replace(&format!("{COMPONENTS}/"), &format!("{COMPONENTS}/Spec"));
            }
            table.values_mut().for_each(refer_to_spec_parts);
        }
        Value::Array(items) => items.iter_mut().for_each(refer_to_spec_parts),
        _ => {}
    }
}

/// Describes a type in draft 7 and without references, which editors support best.
fn of<T: JsonSchema>(title: &str) -> Value {
    let mut settings = SchemaSettings::draft07();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    schema["title"] = json!(title);
    polish(&mut schema);
    word_patterns(&mut schema);
    schema
}

/// Describes in words what a text should look like: editors otherwise show their users the bare pattern.
fn word_patterns(schema: &mut Value) {
    match schema {
        Value::Object(table) => {
            if let (true, Some(Value::String(title))) = (table.contains_key("pattern"), table.get("title")) {
                let message = format!("this is not {title}");
                table.insert("patternErrorMessage".into(), message.into());
            }
            table.values_mut().for_each(word_patterns);
        }
        Value::Array(items) => items.iter_mut().for_each(word_patterns),
        _ => {}
    }
}

/// Returns the schema as the text of a file.
pub fn text() -> String {
    format!("{:#}\n", schema())
}

/// Returns where else in a spec a key is valid: `deploy` for `drain`.
pub fn parents_of(key: &str) -> Vec<String> {
    let mut found = Vec::new();
    collect_parents(&of::<Document>(""), key, "", &mut found);
    found
}

fn collect_parents(schema: &Value, key: &str, path: &str, found: &mut Vec<String>) {
    let join = |part: &str| if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") };
    for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if name == key && !path.is_empty() {
            found.push(path.to_owned());
        }
        collect_parents(inner, key, &join(name), found);
    }
    for (_, inner) in schema.get("patternProperties").and_then(Value::as_object).into_iter().flatten() {
        collect_parents(inner, key, &join("<name>"), found);
    }
    if let Some(items) = schema.get("items") {
        collect_parents(items, key, path, found);
    }
}

/// Adds to each mapping that `x-` keys are ignored in it, and to each value that it is required: a key without a value
/// is a mistake, not a default.
fn polish(schema: &mut Value) {
    match schema {
        Value::Object(table) => {
            forbid_null(table);
            allow_extensions(table);
            table.values_mut().for_each(polish);
        }
        Value::Array(items) => items.iter_mut().for_each(polish),
        _ => {}
    }
}

fn forbid_null(table: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = table.get_mut("type") {
        types.retain(|kind| kind != "null");
        if types.len() == 1 {
            let only = types.remove(0);
            table.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(choices)) = table.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            table.remove("anyOf");
            // The field's own words say more than its type's.
            for (key, value) in only {
                table.entry(key).or_insert(value);
            }
        }
    }
}

fn allow_extensions(table: &mut Map<String, Value>) {
    if table.get("type") != Some(&json!("object")) || table.get("additionalProperties") != Some(&json!(false)) {
        return;
    }
    let patterns = table.entry("patternProperties").or_insert_with(|| json!({}));
    if let Value::Object(patterns) = patterns
        && !patterns.contains_key(HEADER)
    {
        patterns.insert("^x-".into(), json!(true));
    }
}

/// Describes texts: what a valid one looks like, and the pattern it matches.
macro_rules! texts {
    ($($name:ident: $title:literal, $pattern:expr, $most:literal;)*) => {$(
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "title": $title, "pattern": $pattern, "maxLength": $most })
            }
        }
    )*};
}

/// A header may begin with `x-` too, so no other keys are ignored beside it.
const HEADER: &str = "^[A-Za-z0-9][A-Za-z0-9-]*$";

texts! {
    ProjectId: "a project id like shop", "^[a-z][a-z0-9]*(-[a-z0-9]+)*$", 28;
    // As a key, a name that begins with x- is ignored like any other such key.
    ProcessName: "a process name like web", "^([a-wyz][a-z0-9]*(-[a-z0-9]+)*|x([a-z0-9]+(-[a-z0-9]+)*)?)$", 20;
    Hostname: "a host name like shop.example.com",
        "^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z0-9-]*[a-z][a-z0-9-]*$", 253;
    EnvName: "a variable's name like RUST_LOG", "^[A-Za-z_][A-Za-z0-9_]*$", 128;
    SecretName: "a secret's name like DATABASE_URL", "^[A-Za-z_][A-Za-z0-9_]*$", 128;
    SecretUse: "a secret's name, or VARIABLE:NAME where the variable is called otherwise",
        "^[A-Za-z_][A-Za-z0-9_]*(:[A-Za-z_][A-Za-z0-9_]*)?$", 257;
    Sha256: "64 lower-case hex digits", "^[0-9a-f]{64}$", 64;
    ArtifactName: "a sha256, or a file's name in /zexio/artifacts", "^[A-Za-z0-9_+-][A-Za-z0-9._+-]*$", 128;
    RoutePath: "a path like /up, or a prefix like /api/*", "^/([A-Za-z0-9._~-]+/)*([A-Za-z0-9._~-]+)?\\*?$", 200;
    ProbeHost: "a host like shop.example.com", "^[A-Za-z0-9._:\\[\\]-]+$", 253;
    ProbePath: "a path like /up", "^/([A-Za-z0-9._~?=&%-][A-Za-z0-9._~/?=&%-]*)?$", 200;
    Label: "a label like 1.8.2, in quotes if it is a number", "^[^\\x00-\\x1f\\x7f]+$", 64;
    Calendar: "a calendar expression of systemd like daily or *-*-* 03:00",
        "^[A-Za-z0-9*:,./~_+-]([A-Za-z0-9 *:,./~_+-]*[A-Za-z0-9*:,./~_+-])?$", 100;
    SiteDirectory: "a directory of the artifact like public, or . for all of it", "^[A-Za-z0-9._-][A-Za-z0-9._/-]*$", 200;
    HeaderName: "a header's name like X-Frame-Options", HEADER, 64;
    HeaderText: "a header's text", "^[ !#%-\\[\\]^_a-z|~]+$", 1000;
    Site: "a site like https://shop.example.com, without a path", "^https?://[a-z0-9.-]+/*$", 270;
    TagPattern: "a pattern of tags like web-*, in which * stands for any characters", "^[A-Za-z0-9._@/+*-]+$", 128;
    Plain: "a text; a number or a boolean goes in quotes", "^[^\\x00]*$", 122880;
    Timestamp: "a time like 2026-12-01T08:00:00Z",
        "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$", 40;
    Span: "a time span like 250ms, 10s or 5m",
        "^ *(0|([0-9]+ *(ns|nsec|us|usec|ms|msec|millis|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?) *)+)$", 40;
    Bytes: "an amount of memory like 512M or 2G", "^[0-9]+[KMGT]?$", 20;
    CpuShare: "a share of one core like 50% or 150%", "^[1-9][0-9]*%$", 7;
}

/// Describes whole numbers within bounds.
macro_rules! numbers {
    ($($name:ident: $title:literal, $least:literal, $most:literal;)*) => {$(
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "integer", "title": $title, "minimum": $least, "maximum": $most })
            }
        }
    )*};
}

numbers! {
    Language: "the version of the spec language: 1", 1, 1;
    ReleaseNo: "a release's number", 1, 4294967295u32;
    Instances: "1 to 64", 1, 64;
    Keep: "1 to 100", 1, 100;
}

impl JsonSchema for Service {
    fn schema_name() -> Cow<'static, str> {
        "Service".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": Self::ALL.map(Self::as_str) })
    }
}

impl JsonSchema for Command {
    fn schema_name() -> Cow<'static, str> {
        "Command".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "a command: one text, split into words as a shell does (but no shell runs), or a list of words",
            "anyOf": [
                { "type": "string", "minLength": 1 },
                { "type": "array", "minItems": 1, "items": { "type": "string" } },
            ],
        })
    }
}

impl JsonSchema for Given {
    fn schema_name() -> Cow<'static, str> {
        "Value".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                generator.subschema_for::<Plain>(),
                {
                    "type": "object",
                    "description": "The stored value of this name, as it is: what zexio get shows of it.",
                    "properties": { "sealed": { "type": "integer", "minimum": 1 } },
                    "required": ["sealed"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

impl JsonSchema for Suspend {
    fn schema_name() -> Cow<'static, str> {
        "Suspend".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "boolean" }, generator.subschema_for::<Suspension>()] })
    }
}
