//! How a new release takes over.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::quantity::Span;

/// How a new release takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Deploy {
    /// New beside old, or old first; a process can say otherwise for itself.
    pub strategy: Strategy,
    /// How long it must stay ready before traffic moves.
    pub min_healthy: Span,
    /// How long the old instance keeps its requests after the switch.
    pub drain: Span,
    /// How long the whole rollout may take.
    pub deadline: Span,
    /// What becomes of a release that fails.
    pub on_failure: OnFailure,
}

impl Default for Deploy {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            min_healthy: Span::seconds(2),
            drain: Span::seconds(10),
            deadline: Span::seconds(300),
            on_failure: OnFailure::default(),
        }
    }
}

/// New beside old, or old first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The new release is proven beside the old one.
    #[default]
    Handover,
    /// The old one stops first, once everything else of the new release is ready: for what must not run twice.
    Recreate,
}

/// What becomes of a release that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is stopped; the old one serves on.
    #[default]
    Rollback,
    /// It is left running, without traffic, to be looked at.
    Hold,
}
