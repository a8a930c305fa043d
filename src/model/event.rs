//! The event log: what was decided, done and observed, in the same words as the status; never a value of a variable or
//! secret.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::names::{KeyId, ProjectId, ReleaseNo};
use super::quantity::Timestamp;
use super::reason::Reason;

/// The longest message. Servers and Caddy can send any amount; the rest is cut off.
const LONGEST: usize = 2_000;

/// An event before it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub time: Timestamp,
    /// None: the whole machine.
    pub project: Option<ProjectId>,
    pub generation: Option<u64>,
    pub release: Option<ReleaseNo>,
    pub level: Level,
    /// Machine-readable.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
}

/// Whether an event needs attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As expected.
    Info,
    /// Needs attention.
    Warning,
}

/// A stored event. One that happens again soon is counted, not stored again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Grows with every event, and when one happens again.
    pub id: u64,
    #[serde(flatten)]
    pub event: Event,
    /// Number of occurrences.
    pub count: u64,
    pub last_seen: Timestamp,
}

impl Event {
    /// Creates an event that is as expected.
    pub fn info(time: Timestamp, reason: Reason, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(LONGEST) {
            message.replace_range(end.., "…");
        }
        Self { time, project: None, generation: None, release: None, level: Level::Info, reason, message }
    }

    /// Creates an event that needs attention.
    pub fn warning(time: Timestamp, reason: Reason, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::info(time, reason, message) }
    }

    /// Sets the project it concerns, where no generation of it is concerned.
    pub fn about(self, project: &ProjectId) -> Self {
        Self { project: Some(project.clone()), ..self }
    }

    /// Sets the project and its generation.
    pub fn of(self, project: &ProjectId, generation: u64) -> Self {
        Self { project: Some(project.clone()), generation: Some(generation), ..self }
    }

    /// Sets the release.
    pub fn to(self, release: Option<ReleaseNo>) -> Self {
        Self { release, ..self }
    }
}

/// Who changed the desired state, and through which input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// A request that this key signed.
    Key(KeyId),
    /// A file in the watched directory.
    File(String),
    /// A provider's webhook.
    Webhook(String),
}

impl By {
    /// Returns whether the text of a displayed `By` names a webhook.
    pub fn is_webhook(written: &str) -> bool {
        written.starts_with("webhook ")
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Key(kid) => write!(f, "key {kid}"),
            By::File(name) => write!(f, "file {name}"),
            By::Webhook(provider) => write!(f, "webhook {provider}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_kept_up_to_its_longest_whole_character() {
        let event = |message: &str| Event::info(Timestamp(0), Reason::Serving, message).message;
        let longest = "é".repeat(LONGEST);
        assert_eq!(event(&longest), longest);
        assert_eq!(event(&format!("{longest}é")), format!("{longest}…"));
    }

    #[test]
    fn who_asked_is_named_with_the_way_it_came() {
        assert_eq!(By::File("shop.yaml".into()).to_string(), "file shop.yaml");
        assert_eq!(By::Webhook("github".into()).to_string(), "webhook github");
        assert!(By::is_webhook("webhook github") && !By::is_webhook("key webhook"));
    }
}
