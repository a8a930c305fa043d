//! What to run, and who may move it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::model::names::{ArtifactName, ReleaseNo, Sha256};

/// What to run: exactly one of `url`, `file`, `release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["url"] }, { "required": ["file"] }, { "required": ["release"] }]))]
pub struct Artifact {
    /// Where to fetch it from: an http or https URL. The same URL with the same version means the
    /// same bytes as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = LONGEST_URL), regex(pattern = "^https?://[^\\s\\\\#]+$"))]
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

const LONGEST_URL: usize = 4096;

/// What stands for the query of a URL that is shown: that of a presigned one is a key to the artifact.
const HIDDEN_QUERY: &str = "?…";

/// Returns a URL as it may be shown.
pub fn hide_query(url: &str) -> String {
    match url.split_once('?') {
        Some((address, _)) => format!("{address}{HIDDEN_QUERY}"),
        None => url.to_owned(),
    }
}

/// Tells whether a URL is one as it is shown, which stands for the stored one.
pub fn has_hidden_query(url: &str) -> bool {
    url.ends_with(HIDDEN_QUERY)
}

/// Parses an artifact's URL, if every other reader would parse it the same way.
///
/// # Errors
/// Says what is wrong with it, without quoting it: it may hold a key.
pub fn parse_url(raw: &str) -> Result<Url, &'static str> {
    if raw.len() > LONGEST_URL {
        return Err("it has more than 4096 characters");
    }
    // The parser drops tabs and newlines, trims spaces and turns \ into /: what was read would not be what was written.
    if raw.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err("it holds a space, a backslash or a control character");
    }
    // Stored as it is shown, it would take the place of the URL that works.
    if raw.contains(HIDDEN_QUERY) {
        return Err("this is a URL as zexio shows it, its query hidden; write the URL itself");
    }
    let Ok(url) = Url::parse(raw) else { return Err("it is not a URL") };
    if !matches!(url.scheme(), "http" | "https") {
        return Err("its scheme is not https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds user info");
    }
    match url.fragment() {
        Some(_) => Err("it holds a fragment, which no server sees"),
        None => Ok(url),
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
    /// How many characters one has at most.
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
