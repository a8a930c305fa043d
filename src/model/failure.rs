//! Why something could not be done: the one form in which every adapter says so.

use std::time::Duration;

use super::reason::Reason;

/// Why a port could not do what it was asked, as an operator should read it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    /// Whether trying the same again may help.
    pub retry: Retry,
    /// What kind of failure it is.
    pub reason: Reason,
    /// "could not <verb> <object>: <cause>", without secrets, query strings or user info of URLs.
    pub message: String,
    /// What the other side asked for: "not before" (Retry-After), at most ten minutes.
    pub retry_after: Option<Duration>,
}

/// The one distinction from which every retry is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// DNS, a 5xx, a busy or full disk: back off, try again.
    Later,
    /// A wrong hash, a refused spec: stalled until something changes.
    Never,
    /// A server's 403 or 404. It lasts, unless a webhook named the artifact: then it may not be there yet.
    WhenPresent,
}

impl PortError {
    /// Makes an error that may pass.
    pub fn transient(reason: Reason, message: impl Into<String>) -> Self {
        Self { retry: Retry::Later, reason, message: message.into(), retry_after: None }
    }

    /// Makes an error that says that an artifact is not there.
    pub fn absent(reason: Reason, message: impl Into<String>) -> Self {
        Self { retry: Retry::WhenPresent, ..Self::permanent(reason, message) }
    }

    /// Makes an error that stays until the operator changes something.
    pub fn permanent(reason: Reason, message: impl Into<String>) -> Self {
        Self { retry: Retry::Never, reason, message: message.into(), retry_after: None }
    }
}
