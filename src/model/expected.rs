//! What a release expects of its artifact: the programs that its processes run, and the directories that Caddy serves.

use std::collections::BTreeMap;

use super::desired::{Content, RELEASE_COMMAND, WorkloadKind};
use super::names::ProcessName;
use super::spec::{Command, Sandbox, SiteDirectory, Spec};

const PATH: &str = "PATH";

/// What must be in an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expected {
    /// The commands by process; the release command has a name of its own.
    pub commands: BTreeMap<String, Command>,
    pub sites: BTreeMap<ProcessName, SiteDirectory>,
    /// Whether the spec sets PATH, so that a program's name may resolve to another place.
    pub own_path: bool,
    /// Whether its processes run without a sandbox, which hides homes.
    pub unconfined: bool,
}

impl Expected {
    /// Returns what a release expects.
    pub fn of(content: &Content) -> Self {
        let run = |(name, command): (&ProcessName, &Option<Command>)| Some((name.to_string(), command.clone()?));
        let site = |(name, kind): (&ProcessName, &WorkloadKind)| match kind {
            WorkloadKind::Site { directory, .. } => Some((name.clone(), directory.clone())),
            _ => None,
        };
        Self {
            commands: content.processes.iter().map(|(name, workload)| (name, &workload.run)).filter_map(run).collect(),
            sites: content.processes.iter().map(|(name, workload)| (name, &workload.kind)).filter_map(site).collect(),
            own_path: content.env.keys().chain(content.secrets.keys()).any(|name| name.as_str() == PATH),
            unconfined: content.sandbox == Sandbox::Off,
        }
    }

    /// Returns what the release of a spec expects.
    pub fn of_spec(spec: &Spec) -> Self {
        let commands =
            spec.processes.iter().filter_map(|(name, process)| Some((name.to_string(), process.run.clone()?)));
        let release = spec.release.iter().map(|release| (RELEASE_COMMAND.to_owned(), release.run.clone()));
        let sites =
            spec.processes.iter().filter_map(|(name, process)| Some((name.clone(), process.static_site.clone()?)));
        let secret = spec.secrets.iter().map(|used| &used.variable);
        Self {
            commands: commands.chain(release).collect(),
            sites: sites.collect(),
            own_path: spec.env.keys().chain(secret).any(|name| name.as_str() == PATH),
            unconfined: spec.sandbox == Sandbox::Off,
        }
    }
}
