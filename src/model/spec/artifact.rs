//! What to run, and who may move it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::url::LONGEST_URL;
use crate::model::names::{ArtifactName, ReleaseNo, Sha256};

/// What to run: exactly one of `url`, `file`, `release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Written", into = "Written")]
pub struct Artifact {
    /// Where it comes from.
    pub from: ArtifactFrom,
    /// A label for people, such as the version.
    pub version: Option<Label>,
    /// Who may move it.
    pub updates: Updates,
}

/// Where an artifact comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactFrom {
    /// A place, for a new release.
    Source(Source),
    /// An earlier release of the project, which has its own digest.
    Release(ReleaseNo),
}

/// Where a release's artifact comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A URL, perhaps with what it must hash to.
    Url {
        /// The address.
        url: String,
        /// The digest.
        sha256: Option<Sha256>,
    },
    /// A file on the server.
    File {
        /// Its name.
        name: ArtifactName,
        /// The digest.
        sha256: Option<Sha256>,
    },
}

impl Source {
    /// Returns the digest that it must have, if given.
    pub fn sha256(&self) -> Option<&Sha256> {
        match self {
            Source::Url { sha256, .. } | Source::File { sha256, .. } => sha256.as_ref(),
        }
    }

    /// Returns whether both mean the same bytes. A digest counts more than an address: a presigned URL is different
    /// each time.
    pub fn same_as(&self, other: &Self) -> bool {
        match (self.sha256(), other.sha256()) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => self == other,
        }
    }

    /// Returns whether both are the same place, whatever their digests.
    pub fn is_at(&self, other: &Self) -> bool {
        match (self, other) {
            (Source::Url { url: mine, .. }, Source::Url { url: theirs, .. }) => mine == theirs,
            (Source::File { name: mine, .. }, Source::File { name: theirs, .. }) => mine == theirs,
            (Source::Url { .. }, Source::File { .. }) | (Source::File { .. }, Source::Url { .. }) => false,
        }
    }
}

impl Artifact {
    /// Returns its place; None if it names an earlier release.
    pub fn source(&self) -> Option<&Source> {
        match &self.from {
            ArtifactFrom::Source(source) => Some(source),
            ArtifactFrom::Release(_) => None,
        }
    }

    /// Returns the earlier release that it names, if any.
    pub fn release(&self) -> Option<ReleaseNo> {
        match self.from {
            ArtifactFrom::Source(_) => None,
            ArtifactFrom::Release(number) => Some(number),
        }
    }

    /// Returns whether it says no more than another one: the same URL, without a version or a digest. That means what
    /// the other one means.
    pub fn adds_nothing_to(&self, other: &Self) -> bool {
        let is_url = matches!(self.source(), Some(Source::Url { sha256: None, .. }));
        is_url && self.version.is_none() && self.from == other.from
    }

    /// Returns the digest that its bytes must have, if given.
    pub fn sha256(&self) -> Option<&Sha256> {
        self.source().and_then(Source::sha256)
    }
}

/// The keys of which an artifact has exactly one.
const PLACES: [&str; 3] = ["url", "file", "release"];

/// An artifact as it is written.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = PLACES.map(|key| json!({ "required": [key] }))))]
struct Written {
    /// Where to fetch it from: an http or https URL. The same URL with the same version means the
    /// same bytes as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = LONGEST_URL), regex(pattern = "^https?://[^\\s\\\\#]+$"))]
    url: Option<String>,
    /// An artifact already on the server, by its sha256 or its file's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<ArtifactName>,
    /// An earlier release of this project, whole: artifact, env, secrets and processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    release: Option<ReleaseNo>,
    /// What the artifact's bytes must hash to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256>,
    /// A label for people, such as the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<Label>,
    /// Who may move url, sha256 and version.
    #[serde(default)]
    updates: Updates,
}

impl TryFrom<Written> for Artifact {
    type Error = String;
    fn try_from(Written { url, file, release, sha256, version, updates }: Written) -> Result<Self, String> {
        let from = match (url, file, release) {
            (Some(url), None, None) => ArtifactFrom::Source(Source::Url { url, sha256 }),
            (None, Some(name), None) => ArtifactFrom::Source(Source::File { name, sha256 }),
            (None, None, Some(_)) if sha256.is_some() => {
                return Err("\"sha256\" is not for an earlier release, which has its own; leave it out".into());
            }
            (None, None, Some(number)) => ArtifactFrom::Release(number),
            _ => return Err(format!("exactly one of {}", PLACES.join(", "))),
        };
        Ok(Self { from, version, updates })
    }
}

impl From<Artifact> for Written {
    fn from(Artifact { from, version, updates }: Artifact) -> Self {
        let (url, file, release, sha256) = match from {
            ArtifactFrom::Source(Source::Url { url, sha256 }) => (Some(url), None, None, sha256),
            ArtifactFrom::Source(Source::File { name, sha256 }) => (None, Some(name), None, sha256),
            ArtifactFrom::Release(number) => (None, None, Some(number), None),
        };
        Self { url, file, release, sha256, version, updates }
    }
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
    /// The longest label, in characters.
    pub const LONGEST: usize = 64;

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Label {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let fits = (1..=Self::LONGEST).contains(&raw.chars().count()) && !raw.chars().any(char::is_control);
        if fits { Ok(Self(raw)) } else { Err("a version is 1 to 64 printable characters".into()) }
    }
}

impl From<Label> for String {
    fn from(label: Label) -> String {
        label.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_is_written_as_it_was_read() {
        let digest = "ab".repeat(32);
        for text in [
            r#"{"url":"https://a.example.com/x","updates":"fixed"}"#.to_owned(),
            format!(r#"{{"url":"https://a.example.com/x","sha256":"{digest}","version":"1","updates":"webhook"}}"#),
            format!(r#"{{"file":"{digest}","sha256":"{digest}","updates":"fixed"}}"#),
            r#"{"release":3,"version":"1","updates":"fixed"}"#.to_owned(),
        ] {
            let read: Artifact = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
    }

    #[test]
    fn an_artifact_comes_from_one_place() {
        let refusal = |text: &str| serde_json::from_str::<Artifact>(text).unwrap_err().to_string();
        for text in ["{}", r#"{"url":"https://a.example.com/x","release":3}"#, r#"{"file":"x","release":3}"#] {
            assert!(refusal(text).starts_with("exactly one of url, file, release"), "{text}");
        }
        let digest = "ab".repeat(32);
        assert!(refusal(&format!(r#"{{"release":3,"sha256":"{digest}"}}"#)).contains("which has its own"));
    }
}
