//! How a failed verb ends: its message and exit status.

use serde::Deserialize;

use super::text::clean;
use crate::model::problem::{self, Place};

/// Exit status: something went wrong.
pub const ERROR: u8 = 1;
/// Exit status: `plan` found changes.
pub const CHANGES: u8 = 2;
/// Exit status: `--wait` ended other than Ready.
pub const NOT_READY: u8 = 3;

/// Why a command failed, and its exit status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub status: u8,
    /// If it is empty, nothing is printed.
    pub message: String,
}

impl Failure {
    /// Creates a failure with the exit status for errors.
    pub fn new(message: impl Into<String>) -> Self {
        Self { status: ERROR, message: message.into() }
    }

    /// Creates the failure of a wait that did not reach Ready.
    pub fn not_ready(message: impl Into<String>) -> Self {
        Self { status: NOT_READY, message: message.into() }
    }

    /// Makes the end of a verb whose output is closed: no message can be read.
    pub fn unheard() -> Self {
        Self { status: ERROR, message: String::new() }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

/// A refusal by the API.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: String,
    title: String,
    detail: String,
    errors: Vec<Flaw>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Flaw {
    path: String,
    message: String,
    line: Option<u64>,
    column: Option<u64>,
}

/// Parses a refusal by the API.
pub fn refusal(status: u16, body: &[u8]) -> Failure {
    let Ok(problem) = serde_json::from_slice::<Problem>(body) else {
        let start: String = String::from_utf8_lossy(body).chars().take(200).collect();
        return Failure::new(format!("the agent answered {status}: {}", clean(start.trim())));
    };
    let mut said = if problem.errors.is_empty() {
        let text = if problem.detail.is_empty() { problem.title } else { problem.detail };
        format!("{} ({status} {})", clean(&text), clean(&problem.code))
    } else {
        format!("the agent refused it ({status} {})", clean(&problem.code))
    };
    for flaw in &problem.errors {
        said.push_str(&format!("\n  {}", shown(flaw)));
    }
    if let Some(hint) = hint(&problem.code) {
        said.push_str(&format!("\nhint: {hint}"));
    }
    Failure::new(said)
}

/// Returns the problems that a refusal lists, with their places in the document.
pub fn flaws(body: &[u8]) -> Vec<problem::Problem> {
    let errors = serde_json::from_slice::<Problem>(body).map(|problem| problem.errors).unwrap_or_default();
    let place = |flaw: &Flaw| Some(Place { line: flaw.line?, column: flaw.column? });
    errors
        .into_iter()
        .map(|flaw| problem::Problem { place: place(&flaw), ..problem::Problem::at(flaw.path, flaw.message) })
        .collect()
}

fn shown(flaw: &Flaw) -> String {
    let place = match (flaw.line, flaw.column) {
        (Some(line), Some(column)) => format!("line {line}, column {column}: "),
        _ => String::new(),
    };
    let path = if flaw.path.is_empty() { String::new() } else { format!("{}: ", clean(&flaw.path)) };
    format!("{place}{path}{}", clean(&flaw.message))
}

/// Says what to check when a signature was refused.
fn hint(code: &str) -> Option<&'static str> {
    match code {
        "key_unknown" => Some("the agent has no such key; its file's name is the key's id: see `zexio key list` there"),
        "sig_bad" => {
            Some("the key is not the one the agent has under this id; a proxy that changes path or host also breaks it")
        }
        "clock_skew" => Some("the clocks of this machine and the agent's differ by more than 5 minutes"),
        "replayed" => Some("the request arrived twice; send it again"),
        "scope" => Some("the key may not do this; see its scope with `zexio key list` there"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_with_each_path() {
        let body = br#"{"type":"x","title":"Unprocessable","status":422,"code":"invalid","detail":"a; b","errors":[
            {"path":"deploy.drian","message":"unknown key; did you mean drain?","line":6,"column":3},
            {"path":"keep","message":"at least 1"}]}"#;
        assert_eq!(
            refusal(422, body).message,
            "the agent refused it (422 invalid)\n  line 6, column 3: deploy.drian: unknown key; did you mean drain?\n  keep: at least 1"
        );
    }

    #[test]
    fn a_refused_key_comes_with_a_hint() {
        let body = br#"{"title":"Unauthorized","status":401,"code":"clock_skew","detail":"the request is 400 s old"}"#;
        assert_eq!(
            refusal(401, body).message,
            "the request is 400 s old (401 clock_skew)\nhint: the clocks of this machine and the agent's differ by more than 5 minutes"
        );
    }

    #[test]
    fn an_answer_that_is_no_problem_is_shown_without_its_control_characters() {
        let said = refusal(502, b"<html>\x1b[2Jbad gateway").message;
        assert_eq!(said, "the agent answered 502: <html>\\u{1b}[2Jbad gateway");
    }
}
