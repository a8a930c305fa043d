//! How a new release takes over.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ready::ProbePath;
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
    /// What a new release must answer through Caddy, once it has the traffic; otherwise the traffic goes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
}

/// A request through Caddy by the public name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// A public path that answers 2xx or 3xx.
    pub http: ProbePath,
    /// How long it may take until it does.
    #[serde(default = "Verify::default_within")]
    pub within: Span,
}

impl Verify {
    fn default_within() -> Span {
        Span::seconds(10)
    }
}

impl Default for Deploy {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            min_healthy: Span::seconds(2),
            drain: Span::seconds(10),
            deadline: Span::seconds(300),
            on_failure: OnFailure::default(),
            verify: None,
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
