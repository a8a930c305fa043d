//! A numbered release: what it is made of, and how it ended.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Cause;
use crate::model::desired::Content;
use crate::model::names::{Sha256, Slot};
use crate::model::quantity::Timestamp;
use crate::model::spec::{Artifact, Label};

/// A numbered release; never changed once it ran. The project's progress says whether it serves or is being rolled out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its content. Shared because it is large, and progress is compared and copied in every pass.
    pub content: Arc<Content>,
    /// Its artifact's digest, once known.
    pub sha256: Option<Sha256>,
    pub version: Option<Label>,
    /// The slot of its web processes.
    pub slot: Slot,
    /// When it was first requested.
    pub created_at: Timestamp,
    /// When it entered its state.
    pub since: Timestamp,
    /// Whether it was ever healthy; only such a release can be rolled back to.
    pub was_healthy: bool,
    /// Its position in the order in which releases last got the traffic; clock jumps do not change it.
    pub promotion_seq: u32,
    /// How it ended; none while it serves or is being rolled out, and of one whose rollout never began.
    pub end: Option<End>,
    /// Whether it was rolled back from; only its owner's spec can bring it back.
    pub rolled_back: bool,
}

/// How a release ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Another release took over its traffic.
    Retired(Cause),
    /// Its rollout failed.
    Rejected(Rejected),
    /// Another one was requested before its rollout was done.
    Superseded(Cause),
}

/// How a rollout failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    pub cause: Cause,
    /// The generation for which it failed; a later one may try the release again.
    pub generation: u64,
    /// Whether its artifact had arrived. If not, nothing prevents another attempt.
    pub fetched: bool,
    /// Its evidence; gathered before its units are stopped.
    pub evidence: Option<Evidence>,
}

impl End {
    /// Returns why it ended.
    pub fn cause(&self) -> &Cause {
        match self {
            Self::Retired(cause) | Self::Superseded(cause) => cause,
            Self::Rejected(rejected) => &rejected.cause,
        }
    }
}

impl Release {
    /// Returns how its rollout failed, if it did.
    pub fn rejected(&self) -> Option<&Rejected> {
        match &self.end {
            Some(End::Rejected(rejected)) => Some(rejected),
            _ => None,
        }
    }

    /// Returns how its rollout failed, to add to it.
    pub fn rejected_mut(&mut self) -> Option<&mut Rejected> {
        match &mut self.end {
            Some(End::Rejected(rejected)) => Some(rejected),
            _ => None,
        }
    }

    /// Returns whether its rollout failed before its artifact arrived.
    pub fn is_unfetched(&self) -> bool {
        self.rejected().is_some_and(|rejected| !rejected.fetched)
    }

    /// Returns whether it has an artifact's bytes, as far as that is known before they arrive. The same place under
    /// another version means other bytes.
    pub fn has_bytes_of(&self, artifact: &Artifact) -> bool {
        match (artifact.sha256(), &self.sha256) {
            (Some(asked), Some(known)) => asked == known,
            _ => {
                artifact.source().is_some_and(|source| source.same_as(&self.content.source))
                    && self.has_version(artifact)
            }
        }
    }

    /// Returns whether an artifact's version is this release's, or not given.
    pub fn has_version(&self, artifact: &Artifact) -> bool {
        artifact.sha256().is_some() || artifact.version.is_none() || artifact.version == self.version
    }
}

/// What was observed of a release when it failed; kept until it is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// How its processes ended, and the last probe result of each, one per line.
    pub findings: Vec<String>,
    /// Its last log lines.
    pub log: Vec<String>,
}

/// The state of a release, as history shows it and the database keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseState {
    /// Being rolled out.
    Trial,
    /// It has the traffic.
    Serving,
    /// It had the traffic.
    Retired,
    Rejected,
    /// A newer one was requested before it was done.
    Superseded,
}
