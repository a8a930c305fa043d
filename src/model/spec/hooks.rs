//! Which CI providers may bump the artifact.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::names::SecretName;

/// Which CI providers may bump the artifact.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    /// Any CI that signs with a deploy key. It needs no settings: the key says whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generic: Option<GenericHook>,
    /// GitHub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github: Option<GithubHook>,
    /// GitLab.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gitlab: Option<GitlabHook>,
    /// Standard Webhooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard: Option<StandardHook>,
}

impl Hooks {
    /// Tells whether none is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Webhooks signed with a deploy key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenericHook {}

/// GitHub's webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GithubHook {
    /// `owner/name`.
    pub repo: String,
    /// Which event counts.
    pub event: GithubEvent,
    /// The artifact's URL with `{tag}`, `{sha}` or `{run}`.
    pub artifact: String,
    /// The stored secret with which GitHub signs.
    pub secret: SecretName,
}

/// Which of GitHub's events counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GithubEvent {
    /// A published release.
    Release,
    /// A workflow run that succeeded.
    WorkflowRun,
}

/// GitLab's webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitlabHook {
    /// `group/name`.
    pub repo: String,
    /// Which event counts.
    pub event: GitlabEvent,
    /// The artifact's URL with `{tag}`, `{sha}` or `{run}`.
    pub artifact: String,
    /// The stored secret.
    pub secret: SecretName,
    /// Signed deliveries, or the plain token of older versions.
    #[serde(default)]
    pub token: GitlabToken,
}

/// Which of GitLab's events counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GitlabEvent {
    /// A release.
    Release,
    /// A pipeline that succeeded.
    Pipeline,
}

/// How GitLab proves itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GitlabToken {
    /// Standard Webhooks.
    #[default]
    Signed,
    /// `X-Gitlab-Token`.
    Legacy,
}

/// Standard Webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StandardHook {
    /// The stored secret.
    pub secret: SecretName,
}
