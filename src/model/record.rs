//! What a store keeps of a project's desired state, part by part as it was requested.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::desired::{DesiredProject, Intent, OperatorSuspension, Owner, Refusal};
use super::event::By;
use super::names::SecretName;
use super::quantity::Timestamp;
use super::spec::{Artifact, Spec};

/// A project's stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Grows with every change.
    pub generation: u64,
    pub goal: Goal,
    /// Who may change it.
    pub owner: Owner,
    /// The newest accepted spec. A removal keeps it.
    pub spec: Option<Spec>,
    /// An artifact that replaces the spec's.
    pub overlay: Option<Overlay>,
    /// Why the last request could not be accepted.
    pub refusal: Option<Refusal>,
    /// A suspension by an operator, besides the spec's own.
    pub suspension: Option<OperatorSuspension>,
    /// A part that is stored and could not be read. It is missing above, and only a write that replaces it may be saved.
    pub damage: Option<Damage>,
}

/// A stored part that could not be read: it is damaged, or a newer agent wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The part. If there are more, the overlay comes first: the others return with a whole spec.
    pub part: Part,
    pub why: String,
}

/// A part of a record that may be damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Overlay,
    /// Anything but the overlay, such as the spec.
    Other,
}

impl Damage {
    /// Describes the cause and what to do.
    pub fn message(&self) -> String {
        let spec = match self.part {
            Part::Overlay => "put the whole spec again, if it is no file's",
            Part::Other => "write the whole spec again",
        };
        format!(
            "{}; its processes run on and nothing of it is changed. Run the agent that wrote it, restore the database from a backup, or {spec}",
            self.why
        )
    }
}

/// What a project should become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    Run,
    Delete {
        /// Whether the app's data stays.
        keep_data: bool,
    },
    /// Nothing yet: its first file could not be read.
    Nothing,
}

/// An artifact that replaces the spec's: from a webhook, or of an earlier release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    pub artifact: Artifact,
    /// Who asked for it, as `By` displays itself.
    pub by: String,
}

impl Record {
    /// Returns the desired state, with the newest versions of the stored secrets.
    pub fn desired_project(&self, secrets: BTreeMap<SecretName, u32>) -> DesiredProject {
        let intent = match (self.goal, &self.spec, &self.damage) {
            (Goal::Delete { keep_data }, ..) => Intent::Delete { keep_data },
            (.., Some(damage)) => Intent::Unreadable(damage.message()),
            (Goal::Run, Some(spec), None) => Intent::Run(Arc::new(self.with_overlay(spec))),
            (Goal::Run, None, None) | (Goal::Nothing, ..) => Intent::Nothing,
        };
        DesiredProject {
            generation: self.generation,
            intent,
            owner: self.owner.clone(),
            secrets,
            refusal: self.refusal.clone(),
            suspension: self.suspension.clone(),
            artifact_from_webhook: self.overlay.as_ref().is_some_and(|overlay| By::is_webhook(&overlay.by)),
        }
    }

    fn with_overlay(&self, spec: &Spec) -> Spec {
        match &self.overlay {
            Some(overlay) => Spec { artifact: overlay.artifact.clone(), ..spec.clone() },
            None => spec.clone(),
        }
    }

    /// Returns whether a removal was requested.
    pub fn is_being_deleted(&self) -> bool {
        matches!(self.goal, Goal::Delete { .. })
    }

    /// Returns whether a suspension is in force now. A removal under it has not begun, or is halted.
    pub fn is_suspended(&self, now: Timestamp) -> bool {
        self.suspension.as_ref().is_some_and(|suspension| suspension.lasts_at(now))
    }
}
