//! Recorded progress: the little that no machine can show and that must outlive the agent: which release is which,
//! ports, who owns a host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::desired::{Content, Kind, Work};
use super::names::{Hostname, Ports, ProcessName, ProjectId, ReleaseNo, Sha256, Slot, UnitId};
use super::observed::{ActiveState, UnitSeen};
use super::quantity::{Span, Timestamp};
use super::reason::Reason;
use super::services::{Service, ServiceProgress};
use super::spec::{Artifact, Label, Route};

/// The recorded progress of everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    pub projects: BTreeMap<ProjectId, ProjectProgress>,
    /// Services that are wanted.
    pub services: BTreeMap<Service, ServiceProgress>,
    /// Projects whose stored progress could not be read. It is never overwritten.
    pub unreadable: BTreeMap<ProjectId, Unreadable>,
}

/// What is known of a project whose progress could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unreadable {
    pub why: String,
    /// No other project may get one of these ports.
    pub ports: BTreeSet<u16>,
    /// Hosts that Caddy serves for it.
    pub hosts: BTreeSet<Hostname>,
}

impl Unreadable {
    /// Describes the cause and what to do.
    pub fn message(&self) -> String {
        format!(
            "{}; its processes run on and nothing of it is changed. Run the agent that wrote it, restore the database from a backup, or delete the project and put it again",
            self.why
        )
    }
}

impl Progress {
    /// Returns the project that owns a host.
    pub fn owner_of(&self, host: &Hostname) -> Option<&ProjectId> {
        let known = self.projects.iter().map(|(project, memory)| (project, &memory.hosts));
        let unreadable = self.unreadable.iter().map(|(project, unreadable)| (project, &unreadable.hosts));
        known.chain(unreadable).find(|(_, hosts)| hosts.contains(host)).map(|(project, _)| project)
    }
}

/// The recorded progress of one project.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProjectProgress {
    /// The generation that `target` was made from.
    pub generation: u64,
    /// The newest generation that became Ready or Stalled.
    pub observed_generation: u64,
    /// The wanted release.
    pub target: Option<ReleaseNo>,
    /// The release that has the traffic.
    pub serving: Option<ReleaseNo>,
    /// The rollout of the target, if any.
    pub trial: Option<Trial>,
    /// The release that lost the traffic and is finishing its last requests.
    pub draining: Option<Draining>,
    /// A rejected release left running for inspection.
    pub held: Option<ReleaseNo>,
    /// Two ports for each instance of a web process, as long as the process exists.
    pub ports: BTreeMap<ProcessName, Vec<Ports>>,
    /// The hosts that this project owns.
    pub hosts: BTreeSet<Hostname>,
    /// The active routes: those of the newest spec whose release serves.
    pub routes: BTreeMap<ProcessName, Vec<Route>>,
    /// Hosts that Caddy refuses, left out so that the others stay active.
    pub quarantine: Option<Quarantine>,
    /// Every release still known.
    pub releases: BTreeMap<ReleaseNo, Release>,
    /// The highest release number ever assigned.
    pub newest: u32,
    /// What stops the project until something changes.
    pub stalled: Option<Stall>,
    /// What the next rollout waits for without needing a change.
    pub waits: Option<Stall>,
    /// Transient failures in a row, and when the next attempt is.
    pub backoff: Option<Backoff>,
    /// Since when it is suspended; a rollout's deadline does not run during that time.
    pub suspended: Option<Timestamp>,
    /// The generation whose release became the target; 0 if an earlier agent, which did not write it, set the target.
    #[serde(skip_serializing_if = "is_zero")]
    pub aimed: u64,
}

/// The rollout of one release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// When it began; its deadline counts from here.
    pub since: Timestamp,
    /// Whether the release was healthy for long enough: from then on traffic moves, whatever else happens.
    pub proven: bool,
    /// Whether its release command succeeded; it runs once.
    #[serde(default)]
    pub released: bool,
    /// Whether the processes that must not run twice have changed over: those of the serving release are stopped, and
    /// those of this one started.
    #[serde(default)]
    pub room: bool,
    /// Transient failures to fetch its artifact.
    pub fetch: Option<Backoff>,
    /// Until when to wait for an artifact that a webhook named and no server has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaits: Option<Timestamp>,
    /// The runs of its units that began before the rollout, by unit name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub earlier: BTreeMap<String, EarlierRun>,
    /// The traffic it has while it is verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switched: Option<Switched>,
}

/// A run of a unit that began before the rollout of its release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierRun {
    /// systemd's invocation id.
    pub invocation: String,
    /// How often systemd had restarted the unit, if its count continues from there.
    pub restarts: Option<u32>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A release that has the traffic and is being verified; it counts as serving only after that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switched {
    /// When it got the traffic.
    pub since: Timestamp,
    /// The routes active before, to return to.
    pub before: BTreeMap<ProcessName, Vec<Route>>,
}

impl Trial {
    /// Returns the rollout's deadline. The time starts once the artifact is there.
    pub fn deadline(&self, span: Span) -> Timestamp {
        self.awaits.unwrap_or(self.since).max(self.since).after(span)
    }

    /// Begins a rollout.
    pub fn begin<'a>(now: Timestamp, units: impl Iterator<Item = (&'a UnitId, &'a UnitSeen)>) -> Self {
        let earlier = units.filter_map(|(id, unit)| {
            let goes_on = unit.is_up() && unit.state != ActiveState::Deactivating;
            let restarts = goes_on.then_some(unit.restarts);
            Some((id.name(), EarlierRun { invocation: unit.invocation.clone()?, restarts }))
        });
        Self {
            since: now,
            proven: false,
            released: false,
            room: false,
            fetch: None,
            awaits: None,
            earlier: earlier.collect(),
            switched: None,
        }
    }

    /// Returns whether a unit entered its state since the rollout began, by a run that began since then. A failure
    /// before that, in months of service or in an earlier attempt, and the end of an earlier run do not count against a
    /// release that is rolled back to.
    pub fn saw(&self, id: &UnitId, unit: &UnitSeen) -> bool {
        let is_earlier =
            self.earlier.get(&id.name()).is_some_and(|run| unit.invocation.as_ref() == Some(&run.invocation));
        !is_earlier && unit.since.is_none_or(|since| since >= self.since)
    }

    /// Counts how often runs of a unit ended that began after the rollout did.
    pub fn falls(&self, id: &UnitId, unit: &UnitSeen) -> u32 {
        let before = self.earlier.get(&id.name()).and_then(|run| run.restarts);
        // The end of the earlier run counts as one of its restarts.
        let restarts =
            before.filter(|before| unit.restarts > *before).map_or(unit.restarts, |before| unit.restarts - before - 1);
        // A unit that failed and waits for its next start is not among its restarts yet.
        restarts + u32::from(unit.exit.is_some())
    }
}

/// A draining release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    pub release: ReleaseNo,
    /// Until when it may finish its requests.
    pub until: Timestamp,
}

/// A numbered release; never changed once it ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// What it is made of. Shared because it is large, and progress is compared and copied in every pass.
    pub content: Arc<Content>,
    /// Its artifact's digest, once known.
    pub sha256: Option<Sha256>,
    pub version: Option<Label>,
    /// The generation that first requested it; after a failure, the one for which it failed.
    pub generation: u64,
    /// The slot of its web processes.
    pub slot: Slot,
    pub state: ReleaseState,
    /// When it was first requested.
    pub created_at: Timestamp,
    /// When it entered its state.
    pub since: Timestamp,
    /// Whether it was ever healthy; only such a release can be rolled back to.
    pub good: bool,
    /// Its position in the order in which releases last got the traffic; clock jumps do not change it.
    #[serde(default)]
    pub turn: u32,
    pub ended: Option<Stall>,
    /// Whether it was rolled back from; only its owner's spec can bring it back.
    #[serde(default)]
    pub vetoed: bool,
    /// What it showed when it failed.
    #[serde(default)]
    pub evidence: Option<Evidence>,
    /// Whether it failed before its artifact arrived; nothing prevents another attempt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unfetched: bool,
}

impl Release {
    /// Returns whether it has an artifact's bytes, as far as that is known before they arrive. The same place under
    /// another version means other bytes.
    pub fn is_of(&self, artifact: &Artifact) -> bool {
        match (artifact.sha256(), &self.sha256) {
            (Some(asked), Some(known)) => asked == known,
            _ => {
                artifact.source().is_some_and(|source| source.same_as(&self.content.source))
                    && self.has_version(artifact)
            }
        }
    }

    /// Returns whether an artifact's version is this release's, or not given.
    pub fn has_version(&self, artifact: &Artifact) -> bool {
        artifact.sha256().is_some() || artifact.version.is_none() || artifact.version == self.version
    }
}

/// What a release showed when it failed, kept as long as the release.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// How its processes ended, and the last probe result of each, one per line.
    pub findings: Vec<String>,
    /// Its last log lines.
    pub log: Vec<String>,
}

/// The state of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseState {
    /// Being rolled out.
    Trial,
    /// It has the traffic.
    Serving,
    /// It had the traffic.
    Retired,
    Rejected,
    /// A newer one was requested before it was done.
    Superseded,
}

/// Why something ended or is stalled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    pub reason: Reason,
    /// One paragraph for the operator.
    pub message: String,
    pub since: Timestamp,
}

/// Hosts left out of Caddy's routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    pub since: Timestamp,
    /// The hosts, each with Caddy's error.
    #[serde(default)]
    pub hosts: BTreeMap<Hostname, String>,
    /// A digest of the configuration around our sites: the operator's Caddyfile, its imports, the template.
    #[serde(default)]
    pub surroundings: String,
}

impl Quarantine {
    /// Returns the stall to report.
    pub fn stall(&self) -> Stall {
        let each = self.hosts.iter().map(|(host, why)| format!("{host} is left out, since Caddy refuses it: {why}"));
        let each = each.collect::<Vec<_>>().join("; ");
        let message = format!(
            "{each}; it is tried again when the spec, the Caddyfile or the template changes, by \
             `zexio sync`, and after ten minutes"
        );
        Stall { reason: Reason::RouteRefused, message, since: self.since }
    }
}

/// Transient failures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// Failures in a row.
    pub strikes: u32,
    /// Earliest time of the next attempt.
    pub until: Timestamp,
    /// The last failure's reason.
    pub reason: Reason,
    pub message: String,
    /// When the last failure was; each failure is counted once.
    pub last: Timestamp,
    /// Since when it has been failing.
    pub since: Timestamp,
}

impl Backoff {
    /// Shortens a wait that a backward clock jump made too long: no wait is longer than if it began now.
    pub fn clamp_to_now(&mut self, now: Timestamp) {
        if self.last > now {
            self.until = now.after(self.until.since(self.last));
            self.last = now;
        }
        self.since = self.since.min(now);
    }

    /// Makes the next attempt immediate and resets the count.
    pub fn begin_again(&mut self, now: Timestamp) {
        (self.strikes, self.until, self.since) = (0, now, now);
    }

    /// Describes how often it failed.
    pub fn times(&self) -> String {
        if self.strikes == 1 { "once".to_owned() } else { format!("{} times", self.strikes) }
    }
}

impl ProjectProgress {
    /// Returns a release by its number.
    pub fn release(&self, number: ReleaseNo) -> Option<&Release> {
        self.releases.get(&number)
    }

    /// Returns the release that the routes lead to: the serving one, or the candidate while it is verified.
    pub fn routed(&self) -> Option<ReleaseNo> {
        let switched = self.trial.as_ref().is_some_and(|trial| trial.switched.is_some());
        if switched { self.target } else { self.serving }
    }

    /// Ends an unfinished rollout and drops the routes that it brought.
    pub fn end_trial(&mut self) {
        if let Some(switched) = self.trial.take().and_then(|trial| trial.switched) {
            self.routes = switched.before;
        }
    }

    /// Returns the release being rolled out.
    pub fn candidate(&self) -> Option<ReleaseNo> {
        self.trial.as_ref().and(self.target)
    }

    /// Returns the newest release before the serving one that was ever healthy.
    pub fn last_good_before(&self) -> Option<ReleaseNo> {
        let others = self.releases.iter().filter(|(number, release)| release.good && Some(**number) != self.serving);
        others.max_by_key(|(_, release)| (release.turn, release.since)).map(|(number, _)| *number)
    }

    /// Returns the release that a rollback without a number goes to: the serving one if a newer one failed or is still
    /// being rolled out, else the last good one before it.
    pub fn way_back(&self) -> Option<ReleaseNo> {
        let unfinished = self.serving.filter(|serving| self.target != Some(*serving));
        unfinished
            .filter(|serving| self.release(*serving).is_some_and(|release| release.good))
            .or_else(|| self.last_good_before())
    }

    /// Returns the release that vetoes an artifact: it has the same bytes, and it failed or was rolled back from. An
    /// input that moves artifacts by itself must not bring it back; its owner's spec may.
    pub fn veto_on(&self, artifact: &Artifact) -> Option<ReleaseNo> {
        let failed = |release: &Release| release.state == ReleaseState::Rejected && !release.unfetched;
        let stands = |release: &Release| (release.vetoed || failed(release)) && release.is_of(artifact);
        self.releases.iter().rev().find(|(_, release)| stands(release)).map(|(number, _)| *number)
    }

    /// Returns whether an artifact was requested and could not be fetched, at least not yet.
    pub fn lacks(&self, artifact: &Artifact) -> bool {
        let newest = self.releases.iter().rev().find(|(_, release)| release.is_of(artifact));
        newest.is_some_and(|(number, _)| self.is_missing(*number))
    }

    /// Returns whether the target's artifact could not be fetched, at least not yet.
    pub fn lacks_its_artifact(&self) -> bool {
        self.target.is_some_and(|number| self.is_missing(number))
    }

    fn is_missing(&self, number: ReleaseNo) -> bool {
        let failed = |release: &Release| release.state == ReleaseState::Rejected && release.unfetched;
        let waits = self.candidate() == Some(number) && self.trial.as_ref().is_some_and(|trial| trial.fetch.is_some());
        waits || self.release(number).is_some_and(failed)
    }

    /// Returns the releases whose units belong on the machine now.
    pub fn alive(&self) -> BTreeSet<ReleaseNo> {
        let draining = self.draining.as_ref().map(|draining| draining.release);
        [self.serving, self.candidate(), draining, self.held].into_iter().flatten().collect()
    }

    /// Returns whether Caddy refused a host, which is left out for now.
    pub fn leaves_out(&self, host: &Hostname) -> bool {
        self.quarantine.as_ref().is_some_and(|quarantine| quarantine.hosts.contains_key(host))
    }

    /// Returns the units of a release that run as long as it does.
    pub fn units_of(&self, project: &ProjectId, release: ReleaseNo) -> Vec<UnitId> {
        let works = self.release(release).into_iter().flat_map(|release| &release.content.processes);
        let running = works.filter(|(_, work)| work.is_daemon() || matches!(work.kind, Kind::Scheduled(_)));
        let units = running.flat_map(|(process, work)| {
            let instances = (1..=work.instances).map(move |instance| (work.instances > 1).then_some(instance));
            instances.map(|instance| UnitId { project: project.clone(), process: process.clone(), release, instance })
        });
        units.collect()
    }

    /// Returns the unit of a release's command.
    pub fn command_of(&self, project: &ProjectId, release: ReleaseNo) -> Option<UnitId> {
        let works = &self.release(release)?.content.processes;
        let (process, _) = works.iter().find(|(_, work)| matches!(work.kind, Kind::Release(_)))?;
        Some(UnitId { project: project.clone(), process: process.clone(), release, instance: None })
    }

    /// Returns the unit of a release's command, if it has one that has not run yet.
    pub fn command_unit(&self, project: &ProjectId, release: ReleaseNo) -> Option<UnitId> {
        let open = self.trial.as_ref().is_some_and(|trial| !trial.released && !trial.proven);
        self.command_of(project, release).filter(|_| open && self.target == Some(release))
    }

    /// Returns what a unit runs.
    pub fn work_of(&self, unit: &UnitId) -> Option<&Work> {
        self.release(unit.release)?.content.processes.get(&unit.process)
    }

    /// Returns the port that a unit listens on; None if it has no port of ours.
    pub fn port_of(&self, unit: &UnitId) -> Option<u16> {
        let release = self.release(unit.release)?;
        let work = release.content.processes.get(&unit.process).filter(|work| work.kind == Kind::Web);
        work.and_then(|_| self.ports.get(&unit.process)?.get(unit.index())).map(|ports| ports.of(release.slot))
    }

    /// Ends a release for a reason.
    pub fn end(&mut self, number: ReleaseNo, state: ReleaseState, why: Option<Stall>, now: Timestamp) {
        if let Some(release) = self.releases.get_mut(&number) {
            release.state = state;
            release.since = now;
            release.ended = why;
        }
    }
}
