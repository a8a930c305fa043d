//! The spec reference in `docs/spec.md`: the schema, which the types give, as a person reads it.

use serde_json::{Map, Value};
use zexio::model::reason::Reason;

const HEAD: &str = "# The spec, key by key

Made from the types that read it; `UPDATE_GOLDEN=1 cargo test --test golden` makes it anew. [`specs/`](../specs) has a
commented example for each feature, and `zexio schema` prints the same for editors. `<name>` stands for a name of yours,
`[]` for each item of a list. A key that begins with `x-` is ignored, an unknown one is an error. JSON is taken too.

";

/// Returns the table of reasons for operators.
pub fn reasons() -> String {
    let group = |(heading, reasons): &(&str, &[Reason])| {
        let rows: String = reasons
            .iter()
            .map(|reason| format!("| `{reason}` | {} | {} |\n", reason.meaning(), reason.mending()))
            .collect();
        format!("\n{heading}\n\n| reason | what it means | what mends it |\n|---|---|---|\n{rows}")
    };
    Reason::GROUPS.iter().map(group).collect()
}

/// Returns the whole document.
pub fn text(schema: &Value) -> String {
    let mut page = HEAD.to_owned();
    let kinds = [("A project", &schema["else"]), ("A server: `kind: host`", &schema["then"])];
    for (title, kind) in kinds {
        let mut rows = Vec::new();
        properties("", kind, &mut rows);
        page += &format!(
            "## {title}\n\n| key | what it says | form | if not given |\n|---|---|---|---|\n{}\n",
            rows.concat()
        );
    }
    page.trim_end().to_owned() + "\n"
}

fn properties(path: &str, schema: &Value, rows: &mut Vec<String>) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let default = match value.get("default") {
            _ if required.contains(&key.as_str()) => "it must be".to_owned(),
            Some(Value::Object(_) | Value::Array(_) | Value::Null) | None => String::new(),
            Some(default) => format!("`{}`", plain(default)),
        };
        // A shape of a table tells again which of its keys go together.
        if rows.iter().any(|row| row.starts_with(&format!("| `{path}` |"))) {
            continue;
        }
        rows.push(format!("| `{path}` | {} | {} | {default} |\n", words(value, "description"), form(value)));
        within(&path, value, rows);
    }
}

/// Goes on below a key: into tables, named tables, lists, and every shape that a value can have.
fn within(path: &str, schema: &Value, rows: &mut Vec<String>) {
    properties(path, schema, rows);
    for (_, named) in patterns(schema) {
        within(&format!("{path}.<name>"), named, rows);
    }
    if schema["items"].is_object() {
        within(&format!("{path}[]"), &schema["items"], rows);
    }
    for shape in shapes(schema) {
        within(path, shape, rows);
    }
}

fn patterns(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let none: Option<&Map<String, Value>> = None;
    schema["patternProperties"].as_object().or(none).into_iter().flatten().filter(|(pattern, _)| *pattern != "^x-")
}

fn shapes(schema: &Value) -> impl Iterator<Item = &Value> {
    ["oneOf", "anyOf"].into_iter().flat_map(|key| schema[key].as_array().into_iter().flatten())
}

fn form(schema: &Value) -> String {
    let choices: Vec<&Value> = shapes(schema).collect();
    let constants: Vec<String> = choices
        .iter()
        .filter_map(|shape| Some(format!("`{}`: {}", plain(shape.get("const")?), words(shape, "description"))))
        .collect();
    if !constants.is_empty() {
        return constants.join(" ");
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| format!("`{}`", plain(value))).collect::<Vec<_>>().join(", ");
    }
    match words(schema, "title") {
        title if !title.is_empty() => title,
        _ if choices.iter().any(|shape| shape.get("type").is_some()) => {
            let forms: Vec<String> = choices.iter().map(|shape| form(shape)).filter(|form| !form.is_empty()).collect();
            forms.join(", or ")
        }
        _ => match schema["type"].as_str() {
            Some("array") => match form(&schema["items"]) {
                item if item.is_empty() => "a list".to_owned(),
                item => format!("a list: {item}"),
            },
            Some("object") => "a table".to_owned(),
            Some("string") => "a text".to_owned(),
            Some("boolean") => "`true` or `false`".to_owned(),
            Some("integer") => "a number".to_owned(),
            _ => schema.get("const").map_or_else(String::new, |value| format!("`{}`", plain(value))),
        },
    }
}

fn words(schema: &Value, key: &str) -> String {
    schema[key].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
