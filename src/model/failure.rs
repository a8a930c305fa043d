//! Why something failed: the one form in which every adapter reports it.

use std::time::Duration;

use super::reason::Reason;

/// Why a port could not do what was asked, in words for an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    /// Whether another attempt may help.
    pub retry: Retry,
    pub reason: Reason,
    /// "could not <verb> <object>: <cause>", without secrets, query strings or user info of URLs.
    pub message: String,
    /// The server's Retry-After, at most ten minutes.
    pub retry_after: Option<Duration>,
}

/// The one distinction that decides every retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// DNS, a 5xx, a busy or full disk: back off and try again.
    Later,
    /// A wrong hash, a refused spec: stalled until something changes.
    Never,
    /// A server's 403 or 404. Permanent, unless a webhook named the artifact: then it may not be there yet.
    WhenPresent,
}

impl PortError {
    /// Creates a transient error.
    pub fn transient(reason: Reason, message: impl Into<String>) -> Self {
        Self { retry: Retry::Later, reason, message: message.into(), retry_after: None }
    }

    /// Creates an error for an artifact that is not there.
    pub fn absent(reason: Reason, message: impl Into<String>) -> Self {
        Self { retry: Retry::WhenPresent, ..Self::permanent(reason, message) }
    }

    /// Creates an error that lasts until the operator changes something.
    pub fn permanent(reason: Reason, message: impl Into<String>) -> Self {
        Self { retry: Retry::Never, reason, message: message.into(), retry_after: None }
    }
}
