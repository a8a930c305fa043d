//! What was decided, done and seen, for whoever asks afterwards: the same words as the status, never a value of a
//! variable or secret.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::names::{KeyId, ProjectId, ReleaseNo};
use super::quantity::Timestamp;
use super::reason::Reason;

/// How long a message may be. Servers and Caddy say as much as they like; the rest is cut off.
const LONGEST: usize = 2_000;

/// Something that happened, before it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened.
    pub time: Timestamp,
    /// To which project; none: to the whole machine.
    pub project: Option<ProjectId>,
    /// Under which generation of it.
    pub generation: Option<u64>,
    /// To which release of it.
    pub release: Option<ReleaseNo>,
    /// Whether somebody should look at it.
    pub level: Level,
    /// What happened or was asked for; programs may compare it.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
}

/// Whether somebody should look at an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Info,
    /// Not as it should be.
    Warning,
}

/// An event as it is kept. One that happens again soon is one event that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Grows with every event, and when one happens again.
    pub id: u64,
    /// What happened, first.
    #[serde(flatten)]
    pub event: Event,
    /// How often.
    pub count: u64,
    /// When it last happened.
    pub last_seen: Timestamp,
}

impl Event {
    /// Makes an event that is as it should be.
    pub fn info(time: Timestamp, reason: Reason, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(LONGEST) {
            message.replace_range(end.., "…");
        }
        Self { time, project: None, generation: None, release: None, level: Level::Info, reason, message }
    }

    /// Makes an event that somebody should look at.
    pub fn warning(time: Timestamp, reason: Reason, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::info(time, reason, message) }
    }

    /// Says whose it is.
    pub fn of(self, project: &ProjectId, generation: u64) -> Self {
        Self { project: Some(project.clone()), generation: Some(generation), ..self }
    }

    /// Says to which release it happened.
    pub fn to(self, release: Option<ReleaseNo>) -> Self {
        Self { release, ..self }
    }
}

/// Who wrote what is wanted, and through which door.
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
    /// Tells whether it was a webhook, of a text that was made of one of these.
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
