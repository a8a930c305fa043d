//! Which CI providers may bump the artifact.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_false;
use super::url::{has_hidden_query, parse_url};
use crate::model::names::SecretName;

/// Which CI providers may bump the artifact.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    /// Forgejo or Gitea.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forgejo: Option<ForgejoHook>,
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
    /// Returns whether none is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns what each provider's hook builds its URLs from. A new hook that is missing here does not compile; one
    /// that is here is checked and its query hidden.
    pub fn built(&self) -> Vec<Built<'_>> {
        let Self { forgejo, generic: _, github, gitlab, standard: _ } = self;
        let (forgejo, github) = (forgejo.as_ref().map(ForgejoHook::built), github.as_ref().map(GithubHook::built));
        [forgejo, github, gitlab.as_ref().map(GitlabHook::built)].into_iter().flatten().collect()
    }

    /// Returns every template, by its field.
    pub fn templates_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut String)> {
        let Self { forgejo, generic: _, github, gitlab, standard: _ } = self;
        let forgejo = forgejo.as_mut().map(|hook| ("hooks.forgejo.artifact", &mut hook.artifact));
        let github = github.as_mut().map(|hook| ("hooks.github.artifact", &mut hook.artifact));
        let gitlab = gitlab.as_mut().map(|hook| ("hooks.gitlab.artifact", &mut hook.artifact));
        [forgejo, github, gitlab].into_iter().flatten()
    }
}

/// The placeholders of a template, in the order in which they name the version.
pub const PLACEHOLDERS: [&str; 3] = ["{tag}", "{sha}", "{run}"];

/// A hook that builds the artifact's URL itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Built<'a> {
    /// Its key under `hooks`.
    pub provider: &'static str,
    pub repo: &'a str,
    /// Whether its repository may be in nested groups.
    pub nested: bool,
    pub artifact: &'a str,
    /// The event's name.
    pub event: &'static str,
    /// The placeholders that this event fills in.
    pub fills: &'static [&'static str],
}

impl Built<'_> {
    /// Describes what is wrong with the repository's name.
    pub fn repo_flaw(&self) -> Option<String> {
        let part = |part: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            (1..=100).contains(&part.len()) && !matches!(part, "." | "..") && part.bytes().all(plain)
        };
        let count = self.repo.split('/').count();
        let fits = self.repo.split('/').all(part) && (count == 2 || self.nested && (3..=20).contains(&count));
        let form = if self.nested { "group/name" } else { "owner/name" };
        match fits {
            true if self.repo.to_ascii_lowercase().ends_with(".git") => {
                Some("a repository's name as events have it, without .git".to_owned())
            }
            true => None,
            false => Some(format!("not a repository like {form}: its name alone, as in acme/shop, not its address")),
        }
    }

    /// Describes what is wrong with the template.
    pub fn template_flaw(&self) -> Option<String> {
        let Self { artifact, event, fills, .. } = self;
        // It stands for the stored one, which is looked up where there is a store.
        if has_hidden_query(artifact) {
            return None;
        }
        if let Some(place) = PLACEHOLDERS.iter().find(|place| artifact.contains(&format!("${place}"))) {
            return Some(format!("the $ before {place} would stay in the URL: write {place}"));
        }
        let rest = PLACEHOLDERS.iter().fold((*artifact).to_owned(), |rest, known| rest.replace(known, ""));
        if rest.contains(['{', '}']) {
            return Some("of placeholders only {tag}, {sha} and {run} are known".to_owned());
        }
        if let Some(empty) = PLACEHOLDERS.iter().find(|place| artifact.contains(**place) && !fills.contains(place)) {
            return Some(format!("event: {event} does not say {empty}, only {}", fills.join(" and ")));
        }
        let host = artifact.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', '#']).next());
        if host.is_none_or(|host| host.contains('{')) {
            return Some("not a URL like https://example.com/shop-{tag}.tar.gz; its host is written out".to_owned());
        }
        let example = PLACEHOLDERS.iter().fold((*artifact).to_owned(), |url, place| url.replace(place, "1"));
        let like = |rule: &str| format!("{rule}; one looks like https://example.com/shop-{{tag}}.tar.gz");
        parse_url(&example).err().map(|bad| like(bad.rule))
    }
}

/// Which tags of a repository are this project's: a text in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TagPattern(String);

impl TagPattern {
    /// Returns whether it matches the whole tag.
    pub fn matches(&self, tag: &str) -> bool {
        // Events have the tag's name without this.
        let pattern = self.0.strip_prefix("refs/tags/").unwrap_or(&self.0);
        let Some((first, rest)) = pattern.split_once('*') else { return pattern == tag };
        let Some(mut left) = tag.strip_prefix(first) else { return false };
        let mut parts: Vec<&str> = rest.split('*').collect();
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            let Some((_, after)) = left.split_once(part) else { return false };
            left = after;
        }
        left.ends_with(last)
    }
}

impl std::fmt::Display for TagPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TagPattern {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-@/+*".contains(&b);
        match (1..=128).contains(&raw.len()) && raw.bytes().all(plain) {
            true => Ok(Self(raw)),
            false => Err(format!(
                "{raw:?} is not a pattern of tags like web-*: 1 to 128 of A-Z a-z 0-9 . _ - @ / + and *, which stands for any characters"
            )),
        }
    }
}

impl From<TagPattern> for String {
    fn from(pattern: TagPattern) -> String {
        pattern.0
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
    /// Which tags count, as in `web-*`; every tag where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<TagPattern>,
    /// Whether pre-releases count too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub prereleases: bool,
    /// The stored secret with which GitHub signs.
    pub secret: SecretName,
}

impl GithubHook {
    fn built(&self) -> Built<'_> {
        let Self { repo, event, artifact, tags: _, prereleases: _, secret: _ } = self;
        let (event, fills): (_, &[_]) = match event {
            GithubEvent::Release => ("release", &["{tag}"]),
            GithubEvent::WorkflowRun => ("workflow_run", &PLACEHOLDERS),
        };
        Built { provider: "github", repo, nested: false, artifact, event, fills }
    }
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

/// Webhooks of Forgejo and Gitea.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgejoHook {
    /// `owner/name`.
    pub repo: String,
    /// Which event counts.
    pub event: ForgejoEvent,
    /// The artifact's URL with `{tag}`.
    pub artifact: String,
    /// Which tags count, as in `web-*`; every tag where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<TagPattern>,
    /// Whether pre-releases count too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub prereleases: bool,
    /// The stored secret with which it signs.
    pub secret: SecretName,
}

impl ForgejoHook {
    fn built(&self) -> Built<'_> {
        let Self { repo, event, artifact, tags: _, prereleases: _, secret: _ } = self;
        let (event, fills): (_, &[_]) = match event {
            ForgejoEvent::Release => ("release", &["{tag}"]),
        };
        Built { provider: "forgejo", repo, nested: false, artifact, event, fills }
    }
}

/// Which event of Forgejo or Gitea counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForgejoEvent {
    /// A published release.
    Release,
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
    /// Which tags count, as in `web-*`; every tag where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<TagPattern>,
    /// Whether releases count before the day that they are announced for.
    #[serde(default, skip_serializing_if = "is_false")]
    pub prereleases: bool,
    /// The stored secret.
    pub secret: SecretName,
    /// Signed deliveries, or the plain token of older versions.
    #[serde(default)]
    pub token: GitlabToken,
}

impl GitlabHook {
    fn built(&self) -> Built<'_> {
        let Self { repo, event, artifact, tags: _, prereleases: _, secret: _, token: _ } = self;
        let (event, fills): (_, &[_]) = match event {
            GitlabEvent::Release => ("release", &["{tag}", "{sha}"]),
            GitlabEvent::Pipeline => ("pipeline", &PLACEHOLDERS),
        };
        Built { provider: "gitlab", repo, nested: true, artifact, event, fills }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_tags() {
        for (pattern, tag, matches) in [
            ("web-*", "web-1.0.0", true),
            ("web-*", "web-", true),
            ("web-*", "api-web-1.0.0", false),
            ("web-*", "Web-1", false),
            ("@acme/web@*", "@acme/web@1.0.0", true),
            ("@acme/web@*", "@acme/webapp@1.0.0", false),
            ("*/v1.*", "apps/web/v1.2", true),
            ("v1", "v1", true),
            ("v1", "v1.0", false),
            ("*", "a/b+c", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
            ("v*-*.0", "v1-2.0", true),
            ("**", "", true),
            ("refs/tags/v*", "v1", true),
            ("refs/tags/v1", "v2", false),
        ] {
            assert_eq!(TagPattern::try_from(pattern.to_owned()).unwrap().matches(tag), matches, "{pattern} {tag}");
        }
        for pattern in ["", "web ?", "{a,b}", "^v", "v[0-9]", &"*".repeat(129)] {
            assert!(TagPattern::try_from(pattern.to_owned()).is_err(), "{pattern}");
        }
    }
}
