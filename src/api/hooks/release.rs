//! A release as GitHub, Forgejo and Gitea report it.

use serde::Deserialize;

use crate::model::quantity::Timestamp;
use crate::model::spec::TagPattern;

use super::{Flaw, Heard, Marks, Moved, Problem, other_tag, read_moment};

/// A release within a payload.
#[derive(Deserialize)]
pub struct Release {
    tag_name: String,
    #[serde(default)]
    draft: bool,
    #[serde(default)]
    prerelease: bool,
    /// None for a draft.
    #[serde(default, deserialize_with = "read_moment")]
    published_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "read_moment")]
    updated_at: Option<Timestamp>,
}

/// What happened to the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    Published,
    /// Now a full release; possibly published as a pre-release before others that were deployed.
    Promoted,
    /// Edited; possibly published long ago.
    Edited,
}

/// What a hook's spec says about releases.
pub struct Rules<'a> {
    /// The template of the artifact's URL.
    pub artifact: &'a str,
    /// Tags that belong to this project.
    pub tags: Option<&'a TagPattern>,
    pub prereleases: bool,
}

impl Release {
    /// Returns what the release means for a project.
    ///
    /// # Errors
    /// It lacks a field, or its tag cannot be part of a URL.
    pub fn heard(&self, rules: &Rules<'_>, id: &str, news: News) -> Result<Heard, Problem> {
        let tag = self.tag_name.clone();
        if let Some(why) = other_tag(rules.tags, Some(&tag)) {
            return Ok(Heard::Nothing(why));
        }
        if self.draft {
            return Ok(Heard::Unready { tag, why: "the release is a draft".to_owned() });
        }
        if self.prerelease && !rules.prereleases {
            let why = "it is a pre-release; the hook takes those with prereleases: true";
            return Ok(Heard::Unready { tag, why: why.to_owned() });
        }
        let missing = || Problem::invalid(vec![Flaw::at("release.published_at", "a published release has one")]);
        let published = self.published_at.ok_or_else(missing)?;
        let made = match news {
            News::Promoted => published.max(self.updated_at.unwrap_or(published)),
            News::Published | News::Edited => published,
        };
        let bump = Marks { tag: Some(tag.clone()), ..Marks::default() }.bump(rules.artifact)?;
        Ok(Heard::Delivery(Moved { id: id.to_owned(), made, bump, edited: (news == News::Edited).then_some(tag) }))
    }
}
