//! How the API says no: `application/problem+json` with a code that programs may compare.

use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::Serialize;

use crate::model::document::{Problem as Flaw, SpecError};
use crate::port::{Lasting, PortError, WishError};

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// The case, for programs.
    pub code: &'static str,
    /// The case, for people.
    pub detail: String,
    /// What is wrong where in the document.
    pub errors: Vec<Flaw>,
    /// The methods that this path takes, for a 405.
    pub allow: Option<HeaderValue>,
}

/// The body's form.
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
    /// Makes a refusal.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), errors: Vec::new(), allow: None }
    }

    /// Says that the request itself is wrong.
    pub fn bad(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// Says that the request does not prove who sent it.
    pub fn unproven(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// Says that it does not go with how things are.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// Says that there is no such thing.
    pub fn missing(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// Says that a body is readable and wrong.
    pub fn invalid(errors: Vec<Flaw>) -> Self {
        let detail = SpecError { problems: errors.clone() }.to_string();
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail) }
    }

    /// Says that something is too long.
    pub fn too_large(most: u64) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("the body is longer than {most} bytes"))
    }

    /// Says that it is our fault.
    pub fn ours(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// Says that it may work later.
    pub fn later(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// Returns the body.
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
        match error.lasting {
            Lasting::No => Self::later(error.message),
            Lasting::Yes => Self::ours(error.message),
        }
    }
}

impl From<WishError> for Problem {
    fn from(error: WishError) -> Self {
        let detail = error.to_string();
        match error {
            WishError::Unknown(_) => Self::missing("unknown_project", detail),
            WishError::Owned { .. } => Self::conflict("owned", detail),
            WishError::Moved(_) => Self::new(StatusCode::PRECONDITION_FAILED, "moved", detail),
            WishError::Deleting(_) => Self::conflict("deleting", detail),
            WishError::ServiceUnknown(_) => Self::missing("unknown_service", detail),
            WishError::ServiceOwned { .. } => Self::conflict("owned", detail),
            WishError::Store(error) => error.into(),
        }
    }
}
