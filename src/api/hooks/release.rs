//! A release as GitHub, Forgejo and Gitea tell of it.

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
    /// A draft has none.
    #[serde(default, deserialize_with = "read_moment")]
    published_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "read_moment")]
    updated_at: Option<Timestamp>,
}

/// What happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It was published now.
    Published,
    /// It is a full release now; it may have been published as a pre-release before others that were taken.
    Promoted,
    /// It was edited, and may have been published long ago.
    Edited,
}

/// What a hook says of releases.
pub struct Rules<'a> {
    /// The template of the artifact's URL.
    pub artifact: &'a str,
    /// Which tags are this project's.
    pub tags: Option<&'a TagPattern>,
    /// Whether pre-releases count.
    pub prereleases: bool,
}

impl Release {
    /// Says what the release means for a project.
    ///
    /// # Errors
    /// It lacks something, or its tag cannot be part of a URL.
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
