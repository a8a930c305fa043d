//! The document about the host: which services it has, in which version.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::services::{Service, Version};
use super::spec::Language;

/// The document that sets host services: programs of the distribution that projects may need.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // zexio and kind are there to be checked
pub(super) struct HostDocument {
    /// The version of the spec language.
    zexio: Language,
    /// What the document is about: the host. A project's spec has no kind.
    kind: HostKind,
    /// What is installed, by name.
    pub services: BTreeMap<Service, Asked>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum HostKind {
    /// The host.
    Host,
}

/// What is asked of one service.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// A major, or `lts`: of nodejs the newest even one, of the others the distribution's own.
    #[serde(default)]
    version: Option<VersionText>,
}

/// A version as people write it: a major is a number, with or without quotes.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a version is a word or a major, like lts or \"15\"")]
enum VersionText {
    Number(u32),
    Word(String),
}

impl Asked {
    /// Returns the requested version.
    ///
    /// # Errors
    /// The service has no such version.
    pub fn version_of(&self, service: Service) -> Result<Version, String> {
        let text = self.version.as_ref().map(|version| match version {
            VersionText::Number(major) => major.to_string(),
            VersionText::Word(word) => word.clone(),
        });
        service.version(text.as_deref())
    }
}
