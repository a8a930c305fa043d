//! What to run, and who may move it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::names::{ArtifactName, ReleaseNo, Sha256};

/// What to run: exactly one of `url`, `file`, `release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["url"] }, { "required": ["file"] }, { "required": ["release"] }]))]
pub struct Artifact {
    /// Where to fetch it from: an http or https URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// An artifact already on the server, by its sha256 or its file's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<ArtifactName>,
    /// An earlier release of this project, whole: artifact, env, secrets and processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseNo>,
    /// What the artifact's bytes must hash to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// A label for people, such as the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Label>,
    /// Who may move url, sha256 and version.
    #[serde(default)]
    pub updates: Updates,
}

/// Who may move an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Updates {
    /// Only the spec.
    #[default]
    Fixed,
    /// A webhook too.
    Webhook,
}

/// A label for people: a version, printable, at most 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Label {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let fits = (1..=64).contains(&raw.chars().count()) && !raw.chars().any(char::is_control);
        if fits { Ok(Self(raw)) } else { Err("a version is 1 to 64 printable characters".into()) }
    }
}

impl From<Label> for String {
    fn from(label: Label) -> String {
        label.0
    }
}
