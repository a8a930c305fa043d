//! What a store keeps of what is wanted from one project, part by part as it was asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::desired::{Complaint, Hold, Intent, Owner, Wanted};
use super::event::By;
use super::names::SecretName;
use super::quantity::Timestamp;
use super::spec::{Artifact, Spec};

/// A project's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Grows with every change.
    pub generation: u64,
    /// What the project should become.
    pub goal: Goal,
    /// Who may change it.
    pub owner: Owner,
    /// The newest accepted spec. A removal keeps it.
    pub spec: Option<Spec>,
    /// An artifact that replaces the spec's.
    pub overlay: Option<Overlay>,
    /// Why the last request could not be accepted.
    pub complaint: Option<Complaint>,
    /// A suspension that was asked for besides the spec's own.
    pub hold: Option<Hold>,
}

/// What a project should become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Run its spec.
    Run,
    /// Be removed.
    Delete {
        /// Whether the app's data stays.
        keep_data: bool,
    },
    /// Nothing yet: its first file could not be read.
    Nothing,
}

/// An artifact that replaces the spec's: a webhook's, or an earlier release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// The artifact.
    pub artifact: Artifact,
    /// Who asked for it, as `By` shows itself.
    pub by: String,
}

impl Record {
    /// Returns what is wanted, with the newest versions of the stored secrets.
    pub fn wanted(&self, secrets: BTreeMap<SecretName, u32>) -> Wanted {
        let intent = match (self.goal, &self.spec) {
            (Goal::Delete { keep_data }, _) => Intent::Delete { keep_data },
            (Goal::Run, Some(spec)) => Intent::Run(Arc::new(self.with_overlay(spec))),
            (Goal::Run, None) | (Goal::Nothing, _) => Intent::Nothing,
        };
        Wanted {
            generation: self.generation,
            intent,
            owner: self.owner.clone(),
            secrets,
            complaint: self.complaint.clone(),
            hold: self.hold.clone(),
            moved: self.overlay.as_ref().is_some_and(|overlay| By::is_webhook(&overlay.by)),
        }
    }

    fn with_overlay(&self, spec: &Spec) -> Spec {
        match &self.overlay {
            Some(overlay) => Spec { artifact: overlay.artifact.clone(), ..spec.clone() },
            None => spec.clone(),
        }
    }

    /// Tells whether a removal was asked for.
    pub fn is_leaving(&self) -> bool {
        matches!(self.goal, Goal::Delete { .. })
    }

    /// Tells whether a suspension holds now. A removal under it has not begun, or stands still.
    pub fn is_suspended(&self, now: Timestamp) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.holds_at(now))
    }
}
