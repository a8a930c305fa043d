//! Refusals: `application/problem+json` with a code for programs.

use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::Serialize;

use crate::model::problem::{Problem as Flaw, SpecError};
use crate::model::reason::Reason;
use crate::port::{PortError, Retry, WriteError};

/// Every code with its status and meaning. The API's description and docs are made from it.
pub const CODES: &[(&str, u16, &str)] = &[
    ("bad_request", 400, "the request does not read as HTTP"),
    ("bad_path", 400, "the path has an escape, a dot segment or an empty part"),
    ("bad_host", 400, "there is not exactly one Host header, or the request line names another host"),
    ("bad_header", 400, "a header comes twice, contradicts another or does not read"),
    ("bad_id", 400, "the project's id or the name in the path is none"),
    ("bad_query", 400, "a query parameter is unknown, comes twice or does not read"),
    ("bad_if_match", 400, "If-Match is no generation"),
    ("bad_body", 400, "the body does not read, is empty or broke off"),
    ("unreadable", 400, "the spec is neither YAML nor JSON, or has a key twice"),
    ("sig_missing", 401, "the signature is missing"),
    ("sig_malformed", 401, "the signature does not have its form, or comes twice"),
    ("key_unknown", 401, "there is no key with this kid"),
    ("sig_bad", 401, "the signature is not that of this request"),
    ("clock_skew", 401, "it was signed more than 300 s before or after the agent's time"),
    ("replayed", 401, "a request with this nonce came before"),
    ("scope", 403, "the key may not do this"),
    ("repo", 403, "the event is of another repository than the hook's"),
    ("unknown_route", 404, "there is nothing at this path"),
    ("unknown_project", 404, "there is no such project"),
    ("unknown_release", 404, "the project has no such release"),
    ("unknown_secret", 404, "the project has no such secret"),
    ("unknown_service", 404, "there is no such host service, or it is not managed by zexio"),
    ("unknown_hook", 404, "the project has no such hook, or is none"),
    ("method_not_allowed", 405, "the path does not take this method; Allow has those it takes"),
    ("too_slow", 408, "the body did not come in time"),
    ("owned", 409, "the project belongs to a file, or to the API"),
    ("deleting", 409, "the project is being removed"),
    ("never_good", 409, "the release was never healthy"),
    ("no_good_release", 409, "there is no other release that was ever healthy"),
    ("no_spec", 409, "the project has no spec that a hook could move"),
    ("updates_fixed", 409, "webhooks may not move the artifact: its spec lacks updates: webhook"),
    ("hook_unready", 409, "the hook's secret is not stored, or cannot be a key"),
    ("suspended_by_spec", 409, "the spec suspends the project; it goes on when the spec says so"),
    ("moved", 412, "the project has another generation than If-Match says"),
    ("too_large", 413, "the body is too long"),
    ("uri_too_long", 414, "the path and query are too long"),
    ("content_type", 415, "this content type is not taken here"),
    ("invalid", 422, "the body reads, and errors says what is wrong where"),
    ("head_too_large", 431, "the headers are too many or too long"),
    ("internal", 500, "it is the agent's fault; its log says more"),
    ("unavailable", 503, "it may work later"),
];

/// Returns the status of a code.
pub fn status_of(code: &str) -> u16 {
    CODES.iter().find(|(known, ..)| *known == code).map_or(500, |(_, status, _)| *status)
}

/// Returns what a code means.
pub fn meaning_of(code: &str) -> &'static str {
    CODES.iter().find(|(known, ..)| *known == code).map_or("", |(.., meaning)| meaning)
}

/// An error answer, sent as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    /// One of `CODES`, for programs.
    pub code: &'static str,
    /// The explanation, for people.
    pub detail: String,
    /// What is wrong where in the document.
    pub errors: Vec<Flaw>,
    /// The methods that this path takes, for a 405.
    pub allow: Option<HeaderValue>,
}

/// The body of an error answer, as JSON.
#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    errors: &'a [Flaw],
}

impl Problem {
    /// Creates an error answer without `errors` and `Allow`.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), errors: Vec::new(), allow: None }
    }

    /// 400: the request itself is wrong.
    pub fn bad(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401: the request does not prove its sender.
    pub fn unproven(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// 409: the request conflicts with the current state.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 404: there is no such thing.
    pub fn missing(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// 422: the body is readable but invalid.
    pub fn invalid(errors: Vec<Flaw>) -> Self {
        let detail = SpecError { problems: errors.clone() }.to_string();
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail) }
    }

    /// 413: something is too long.
    pub fn too_large(most: u64) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("the body is longer than {most} bytes"))
    }

    /// 500: an error of the agent itself.
    pub fn ours(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// 503: it may work later.
    pub fn later(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// Returns the body as JSON.
    pub fn body(&self) -> Vec<u8> {
        let body = Body {
            r#type: format!("urn:zexio:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            errors: &self.errors,
        };
        // Strings and numbers only: this cannot fail.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

impl From<PortError> for Problem {
    fn from(error: PortError) -> Self {
        match error.retry {
            Retry::Later => Self::later(error.message),
            Retry::Never | Retry::WhenPresent => Self::ours(error.message),
        }
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        let detail = error.to_string();
        match error {
            WriteError::Unknown(_) => Self::missing("unknown_project", detail),
            WriteError::Owned { .. } => Self::conflict("owned", detail),
            WriteError::Invalid(error) => Self::invalid(error.problems),
            WriteError::Moved(_) => Self::new(StatusCode::PRECONDITION_FAILED, "moved", detail),
            WriteError::Deleting(_) => Self::conflict("deleting", detail),
            WriteError::ServiceUnknown(_) => Self::missing("unknown_service", detail),
            WriteError::ServiceOwned { .. } => Self::conflict("owned", detail),
            WriteError::Unreadable { .. } => PortError::transient(Reason::Database, detail).into(),
            WriteError::Store(error) => error.into(),
        }
    }
}
