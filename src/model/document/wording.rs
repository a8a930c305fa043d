//! Words serde's and the parser's errors for the author of a document: the key, what was expected, and the likely fix.

use serde_json::Value;

use super::tree::{DEEPEST, clip};
use crate::model::problem::{Place, Problem};
use crate::model::schema;

pub(super) fn typed<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, Problem> {
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    T::deserialize(deserializer).map_err(|error| {
        let path = track.path().to_string().replace("[", ".").replace("]", "");
        let parent = path.trim_end_matches(['?', '.']).to_owned();
        let path = if parent == "." { String::new() } else { parent };
        reword(path_of_bad_key(value, path, &error.to_string()), &error.to_string())
    })
}

/// serde refuses a key of a checked type at the mapping around it; the message begins with the key, and that is the
/// place.
fn path_of_bad_key(value: &Value, path: String, message: &str) -> String {
    let around = path.split('.').filter(|part| !part.is_empty()).try_fold(value, |value, part| match value {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        _ => value.get(part),
    });
    let key = message.strip_prefix('"').and_then(|rest| rest.split('"').next()).filter(|key| !key.is_empty());
    match (around.and_then(Value::as_object), key) {
        (Some(table), Some(key)) if table.contains_key(key) => join(&path, key),
        _ => path,
    }
}

pub(super) fn join(path: &str, part: &str) -> String {
    if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") }
}

/// Turns serde's wording into ours: adds the unknown field to the path and names the closest known one.
fn reword(path: String, message: &str) -> Problem {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let found = quoted.first().copied().unwrap_or_default();
    let known = quoted.get(1..).unwrap_or_default();
    if message.starts_with("unknown field") {
        let around = path.strip_suffix(found).map_or(path.as_str(), |around| around.trim_end_matches('.'));
        let hint = corresponding_key(around, found)
            .or_else(|| suggestion(found, known))
            .unwrap_or_else(|| elsewhere(found, known));
        return Problem::at(join(around, found), format!("{UNKNOWN_KEY}; {hint}"));
    }
    if message.starts_with("unknown variant") {
        let hint = suggestion(found, known).map(|hint| format!("; {hint}")).unwrap_or_default();
        return Problem::at(path, format!("{found:?} is not one of {}{hint}", known.join(", ")));
    }
    if message.starts_with("missing field") {
        return Problem::at(join(&path, found), "required, and missing");
    }
    let kind = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    match kind.and_then(|rest| rest.split_once(", expected ")) {
        Some((found, wanted)) => {
            let message = wrong_kind(found, wanted, is_private(&path));
            Problem::at(path, message)
        }
        None => Problem::at(path, message),
    }
}

pub(super) const UNKNOWN_KEY: &str = "unknown key";

/// Returns whether the value at a path may be a secret's value, or contain one.
pub fn is_private(path: &str) -> bool {
    matches!(path.split('.').next(), Some("env" | "secrets" | "hooks"))
}

/// Describes what was found and what was expected, in the document's terms instead of Rust's.
fn wrong_kind(found: &str, wanted: &str, private: bool) -> String {
    let value = found.split('`').nth(1);
    let found = match (found.split_whitespace().next(), value) {
        (Some("string"), _) if private => "a text".into(),
        (Some("string"), _) => found.trim_start_matches("string ").to_owned(),
        (Some("boolean"), Some(value)) => value.to_owned(),
        (Some("sequence"), _) => "a list".into(),
        (Some("map"), _) => "a mapping of keys to values".into(),
        (_, Some(_)) if private => "a number".into(),
        (_, Some(number)) => format!("the number {number}"),
        _ => found.to_owned(),
    };
    let (wanted, hint) = match wanted {
        "a string" if value.is_some() => ("a text", "; put it in quotes"),
        "a string" => ("a text", ""),
        "string or map" => ("a word", ""),
        "a boolean" => ("true or false", ""),
        "a sequence" => ("a list, like [a, b]", ""),
        "u8" | "u16" | "u32" | "u64" => ("a whole number", ""),
        _ if wanted.starts_with("struct ") || wanted == "a map" => ("a mapping of keys to values", ""),
        _ => (wanted, ""),
    };
    format!("{found} stands where {wanted} is expected{hint}")
}

/// Returns the key of ours that corresponds to a key of other tools.
fn corresponding_key(path: &str, found: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
    let said = match (parts.as_slice(), found) {
        (["processes", _], "command" | "cmd" | "exec" | "start" | "entrypoint") => "a process is started by run",
        (["processes", _], "port" | "ports") => "the agent chooses a port and hands it over as $PORT; leave it out",
        (["processes", _], "replicas" | "scale" | "count") => "did you mean instances?",
        (["processes", _], "health" | "healthcheck" | "health_check" | "probe") => "did you mean ready?",
        (["processes", _], "host" | "hosts" | "domain" | "domains") => "did you mean routes: [{ host: … }]?",
        (["processes", _], "cron") => "did you mean schedule, a calendar expression of systemd?",
        (["processes", _], "env" | "environment") => "variables stand under env at the top, for all processes",
        (["processes", _], "restart") => "a process that ends is always started again; leave it out",
        (["hooks"], "gitea" | "codeberg" | "gogs") => "did you mean forgejo? Gitea's webhooks are taken there too",
        ([], "name" | "app") => "did you mean project?",
        ([], "environment" | "variables" | "vars") => "did you mean env?",
        ([], "services") => "did you mean processes? services of the host are a document of their own, with kind: host",
        ([], "apps") => "did you mean processes?",
        (["artifact"], "headers" | "header" | "token" | "auth" | "authorization" | "username" | "password") => {
            "an artifact is fetched without a login; use a URL that needs none, as a presigned one, or upload it with \
             `zexio deploy`"
        }
        ([] | ["processes", _], "writable" | "paths" | "volumes" | "mounts" | "volume" | "persist" | "shared") => {
            "an app writes to $DATA_DIR, which releases share, and to nothing else; point it there by an argument in run \
             or by a variable of its framework under env"
        }
        ([], "image") => "there are no images; artifact names what to run",
        _ => return None,
    };
    Some(said.to_owned())
}

fn suggestion(found: &str, known: &[&str]) -> Option<String> {
    // A name much longer than all of them is close to none, and comparing it costs time.
    if found.len() > 64 {
        return None;
    }
    let near = known.iter().map(|name| (strsim::damerau_levenshtein(found, name), name));
    let nearest = near.filter(|(distance, name)| *distance <= 2.min(name.len() / 2)).min();
    nearest.map(|(_, name)| format!("did you mean {name}?"))
}

/// Says where a key belongs that is valid elsewhere, or what is valid here.
fn elsewhere(found: &str, known: &[&str]) -> String {
    match schema::parents_of(found).as_slice() {
        [] => format!("known here: {}", known.join(", ")),
        parents => format!("it belongs under {}", parents.join(" or ")),
    }
}

pub(super) fn parse_problem(error: &serde_saphyr::Error) -> Problem {
    let place = error.location().map(|at| Place { line: at.line(), column: at.column() });
    let shown = error.without_snippet().to_string();
    let message = shown.lines().next().unwrap_or_default();
    let message = message.split_once(" at line ").map_or(message, |(head, _)| head);
    let mut message = as_problem(message.trim_end_matches(':'));
    clip(&mut message, 2000);
    Problem { path: String::new(), message, place }
}

/// Translates the parser's messages: its terms and advice are for programmers and mean little to the author of a spec.
fn as_problem(message: &str) -> String {
    if let Some((what, _)) = message.split_once(", set DuplicateKeyPolicy") {
        let key = what.trim_start_matches("duplicate mapping key: ");
        return format!("{key} is written twice in one mapping; keep one");
    }
    let said = match message {
        _ if message.starts_with("multiple YAML documents") => "more than one document; a file holds one",
        _ if message.starts_with("tabs disallowed") => "a tab; YAML is indented with spaces only",
        _ if message.starts_with("while parsing a block") => {
            "this line does not stand under the one it belongs to; check how far it is indented"
        }
        _ if message.contains("Depth {") || message.contains("recursion limit") || message.contains("replay") => {
            return format!("nested too deep: {DEEPEST} levels are the most");
        }
        "unclosed quote" => "a quote that is never closed",
        _ => message,
    };
    said.to_owned()
}
