//! The spec language: what a project may ask for. Its values are checked one by one as they are read; rules that span
//! several values are checked in `spec_rules`.

mod artifact;
mod command;
mod deploy;
mod env;
mod hooks;
mod limits;
mod process;
mod ready;
mod routes;
mod suspend;
mod switch;
mod url;

pub use artifact::{Artifact, ArtifactFrom, Label, Source, Updates};
pub use command::Command;
pub use deploy::{Deploy, OnFailure, Strategy, Verify};
pub use env::{Given, Plain, Sealed, SecretUse};
pub use hooks::{
    Built, ForgejoEvent, ForgejoHook, GenericHook, GithubEvent, GithubHook, GitlabEvent, GitlabHook, GitlabToken,
    Hooks, PLACEHOLDERS, StandardHook, TagPattern,
};
pub use limits::{Limits, Sandbox};
pub use process::{Calendar, Instances, Process, ReleaseCommand, SiteDirectory, Stop, StopSignal, StopTo};
pub use ready::{Check, ProbeHost, ProbePath, ProbeRequest, Ready};
pub use routes::{HeaderName, HeaderText, Route, Site, Tls};
pub use suspend::{Suspend, Suspension};
pub use url::{BadUrl, has_hidden_query, hide_query, parse_url};

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::{EnvName, ProcessName, ProjectId};
use super::services::Service;

/// A project's spec as it arrived, with the env values in clear, or as the agent shows them.
pub type Document = SpecOf<Given>;
/// A project's spec as everything behind the inputs sees it: env values are named by their version in the store.
pub type Spec = SpecOf<Sealed>;

/// A project's spec. `E` is what stands for an env value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(description = "What a project should be on its server.")] // its author sees no `E`
pub struct SpecOf<E> {
    /// The version of the spec language.
    pub zexio: Language,
    /// Whose spec: the name of the project on the server. Another name is another project.
    pub project: ProjectId,
    /// What to run: an archive (tar, tar.gz, tar.zst, tar.xz, zip) or one executable, which is installed as `app`.
    pub artifact: Artifact,
    /// Variables of every process. What must stay secret stands under `secrets`.
    #[serde(default = "BTreeMap::<EnvName, E>::new", skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("propertyNames" = env::reserved_variables()))]
    pub env: BTreeMap<EnvName, E>,
    /// Stored secrets that become variables of every process; their values come by `zexio secret set`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretUse>,
    /// A command to run once per release, before any of its processes starts; if it fails, the old release goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseCommand>,
    /// What runs, by name: commands, commands by a calendar, and static sites.
    #[schemars(extend("minProperties" = 1))]
    pub processes: BTreeMap<ProcessName, Process>,
    /// How a new release takes over.
    #[serde(default)]
    pub deploy: Deploy,
    /// What each process may use at most.
    #[serde(default)]
    pub limits: Limits,
    /// How closed each process is.
    #[serde(default, deserialize_with = "switch::read")]
    #[schemars(transform = switch::allow_false)]
    pub sandbox: Sandbox,
    /// Which CI providers may bump the artifact.
    #[serde(default, skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
    /// Host services that must be there first.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub needs: BTreeSet<Service>,
    /// How many releases are kept, besides the serving one and the last good one.
    #[serde(default = "default_keep")]
    pub keep: Keep,
    /// Whether the agent only watches the project.
    #[serde(default)]
    pub suspend: Suspend,
}

impl<E> SpecOf<E> {
    /// Returns how a new release of a process takes over.
    pub fn strategy_of(&self, process: &ProcessName) -> Strategy {
        self.processes.get(process).and_then(|process| process.strategy).unwrap_or(self.deploy.strategy)
    }

    /// Returns the URLs whose query may be a key, with their fields.
    pub fn urls_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut String)> {
        let artifact = match &mut self.artifact.from {
            ArtifactFrom::Source(Source::Url { url, .. }) => Some(("artifact.url", url)),
            ArtifactFrom::Source(Source::File { .. }) | ArtifactFrom::Release(_) => None,
        };
        artifact.into_iter().chain(self.hooks.templates_mut())
    }

    /// Returns the route that `deploy.verify` requests: the first that takes its path, of the processes in order of
    /// their names, static sites last.
    pub fn verified_route(&self) -> Option<(&ProcessName, &Route)> {
        let path = self.deploy.verify.as_ref()?.http.as_str();
        let of = |is_static: bool| {
            let processes = self.processes.iter().filter(move |(_, p)| p.static_site.is_some() == is_static);
            let routes = processes.flat_map(|(name, process)| process.routes.iter().map(move |route| (name, route)));
            routes.filter(|(_, route)| route.is_direct() && route.takes(path))
        };
        of(false).chain(of(true)).next()
    }

    /// Returns the spec with every env value replaced.
    ///
    /// # Errors
    /// The first error of `seal`.
    pub fn try_map_env<F, X>(self, mut seal: impl FnMut(&EnvName, E) -> Result<F, X>) -> Result<SpecOf<F>, X> {
        let env = self
            .env
            .into_iter()
            .map(|(name, value)| seal(&name, value).map(|v| (name, v)))
            .collect::<Result<_, X>>()?;
        Ok(SpecOf {
            env,
            zexio: self.zexio,
            project: self.project,
            artifact: self.artifact,
            secrets: self.secrets,
            release: self.release,
            processes: self.processes,
            deploy: self.deploy,
            limits: self.limits,
            sandbox: self.sandbox,
            hooks: self.hooks,
            needs: self.needs,
            keep: self.keep,
            suspend: self.suspend,
        })
    }
}

/// The version of the spec language. There is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Language;

impl TryFrom<u64> for Language {
    type Error = String;
    fn try_from(raw: u64) -> Result<Self, String> {
        if raw == 1 { Ok(Self) } else { Err(format!("spec language {raw} is unknown; this agent speaks 1")) }
    }
}

impl From<Language> for u64 {
    fn from(_: Language) -> u64 {
        1
    }
}

/// How many releases are kept: 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Keep(u32);

impl Keep {
    /// Returns the number.
    pub fn count(self) -> usize {
        self.0 as usize
    }
}

impl TryFrom<u32> for Keep {
    type Error = String;
    fn try_from(raw: u32) -> Result<Self, String> {
        if (1..=100).contains(&raw) { Ok(Self(raw)) } else { Err(format!("{raw} is not between 1 and 100")) }
    }
}

impl From<Keep> for u32 {
    fn from(keep: Keep) -> u32 {
        keep.0
    }
}

fn default_keep() -> Keep {
    Keep(5)
}

/// Returns whether a flag is off, and so need not be written.
pub fn is_false(value: &bool) -> bool {
    !value
}
