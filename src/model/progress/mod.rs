//! Recorded progress: what cannot be observed and must survive a restart of the agent, such as release numbers, ports and
//! the owners of hosts.

mod release;
mod rollout;
mod stored;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::desired::{Desired, Intent, Workload, WorkloadKind};
use super::names::{Hostname, Ports, ProcessName, ProjectId, ReleaseNo, UnitId};
use super::quantity::Timestamp;
use super::reason::Reason;
use super::services::Service;
use super::spec::{Artifact, Route};

pub use release::{End, Evidence, Rejected, Release, ReleaseState};
pub use rollout::{EarlierRun, FailedFetch, Phase, Rollout, Switched};

/// The recorded progress of everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    pub projects: BTreeMap<ProjectId, ProjectProgress>,
    /// The desired services.
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
    /// Halts the projects whose progress could not be read: it is unknown what was begun.
    pub fn stop_unreadable(&self, desired: &mut Desired) {
        for (project, unreadable) in &self.unreadable {
            if let Some(wanted) = desired.0.get_mut(project) {
                wanted.intent = Intent::Unreadable(unreadable.message());
            }
        }
    }

    /// Returns the project that owns a host.
    pub fn owner_of(&self, host: &Hostname) -> Option<&ProjectId> {
        let known = self.projects.iter().map(|(project, progress)| (project, &progress.hosts));
        let unreadable = self.unreadable.iter().map(|(project, unreadable)| (project, &unreadable.hosts));
        known.chain(unreadable).find(|(_, hosts)| hosts.contains(host)).map(|(project, _)| project)
    }
}

/// The recorded progress of one project.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "stored::Stored", into = "stored::Stored")]
pub struct ProjectProgress {
    /// The generation that `target` was made from.
    pub generation: u64,
    /// The newest generation that became Ready or Stalled.
    pub observed_generation: u64,
    /// The desired release.
    pub target: Target,
    /// The release that has the traffic.
    pub serving: Option<ReleaseNo>,
    /// The release that lost the traffic and is finishing its last requests.
    pub draining: Option<Draining>,
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
    pub newest_number: u32,
    /// What stops the project until something changes.
    pub stalled: Option<Cause>,
    /// What the next rollout waits for without needing a change.
    pub waits_for_services: Option<Cause>,
    /// Transient failures in a row, and when the next attempt is.
    pub backoff: Option<Backoff>,
    /// Since when it is suspended; a rollout's deadline does not run during that time.
    pub suspended: Option<Timestamp>,
    /// The generation whose release became the target; 0 if an earlier agent, which did not write it, set the target.
    pub selected_generation: u64,
}

/// The desired release.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Target {
    /// The serving release, if any.
    #[default]
    Serving,
    /// A release that is being rolled out.
    Rollout(Rollout),
    /// A release whose rollout failed.
    Failed {
        release: ReleaseNo,
        /// Whether it was left running for inspection.
        kept_for_inspection: bool,
    },
}

/// A draining release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    pub release: ReleaseNo,
    /// Until when it may finish its requests.
    pub until: Timestamp,
}

/// Why something ended or is stalled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
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

impl Cause {
    /// Returns the cause of something of which none was recorded.
    pub fn unknown(since: Timestamp) -> Self {
        Self { reason: Reason::Unknown, message: "it was not recorded why".to_owned(), since }
    }
}

impl Quarantine {
    /// Returns the cause to report.
    pub fn cause(&self) -> Cause {
        let each = self.hosts.iter().map(|(host, why)| format!("{host} is left out, since Caddy refuses it: {why}"));
        let each = each.collect::<Vec<_>>().join("; ");
        let message = format!(
            "{each}; it is tried again when the spec, the Caddyfile or the template changes, by \
             `zexio sync`, and after ten minutes"
        );
        Cause { reason: Reason::RouteRefused, message, since: self.since }
    }
}

/// Transient failures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// Failures in a row; stored by its older name.
    #[serde(rename = "strikes")]
    pub failures: u32,
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
    pub fn reset(&mut self, now: Timestamp) {
        (self.failures, self.until, self.since) = (0, now, now);
    }

    /// Describes how often it failed.
    pub fn times(&self) -> String {
        if self.failures == 1 { "once".to_owned() } else { format!("{} times", self.failures) }
    }
}

/// The recorded progress of a desired service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceProgress {
    /// The generation that the other fields are about.
    pub generation: u64,
    /// The majors installed before it was first requested; None if that could not be observed yet. They stay when the
    /// service is no longer requested.
    #[serde(rename = "before")]
    pub preexisting: Option<BTreeSet<u32>>,
    /// When the package job of this generation started, until its end was observed.
    #[serde(rename = "begun")]
    pub started_at: Option<Timestamp>,
    /// The invocation id of the last failed job, which is counted once.
    #[serde(rename = "counted")]
    pub last_failed_run: Option<String>,
    /// Failures in a row, and when the next attempt is.
    pub backoff: Option<Backoff>,
    /// The last log lines of the last failure.
    pub evidence: Vec<String>,
}

impl ProjectProgress {
    /// Returns a release by its number.
    pub fn release(&self, number: ReleaseNo) -> Option<&Release> {
        self.releases.get(&number)
    }

    /// Returns the generation whose release is the target. An earlier agent did not write it.
    pub fn target_generation(&self) -> u64 {
        if self.selected_generation == 0 { self.generation } else { self.selected_generation }
    }

    /// Returns the number of the desired release.
    pub fn target_release(&self) -> Option<ReleaseNo> {
        match &self.target {
            Target::Serving => self.serving,
            Target::Rollout(rollout) => Some(rollout.release),
            Target::Failed { release, .. } => Some(*release),
        }
    }

    /// Returns the unfinished rollout.
    pub fn rollout(&self) -> Option<&Rollout> {
        if let Target::Rollout(rollout) = &self.target { Some(rollout) } else { None }
    }

    /// Returns the unfinished rollout, to change it.
    pub fn rollout_mut(&mut self) -> Option<&mut Rollout> {
        if let Target::Rollout(rollout) = &mut self.target { Some(rollout) } else { None }
    }

    /// Returns the release being rolled out.
    pub fn candidate(&self) -> Option<ReleaseNo> {
        self.rollout().map(|rollout| rollout.release)
    }

    /// Returns the failed release that was left running for inspection.
    pub fn kept_for_inspection(&self) -> Option<ReleaseNo> {
        match self.target {
            Target::Failed { release, kept_for_inspection: true } => Some(release),
            _ => None,
        }
    }

    /// Returns the state of a release.
    pub fn state_of(&self, number: ReleaseNo) -> ReleaseState {
        match self.release(number).and_then(|release| release.end.as_ref()) {
            _ if self.serving == Some(number) => ReleaseState::Serving,
            _ if self.candidate() == Some(number) => ReleaseState::Trial,
            Some(End::Retired(_)) => ReleaseState::Retired,
            Some(End::Rejected(_)) => ReleaseState::Rejected,
            Some(End::Superseded(_)) | None => ReleaseState::Superseded,
        }
    }

    /// Returns the release that the routes lead to: the serving one, or the candidate while it is verified.
    pub fn routed(&self) -> Option<ReleaseNo> {
        let switched = self.rollout().filter(|rollout| rollout.switched().is_some());
        switched.map(|rollout| rollout.release).or(self.serving)
    }

    /// Records whether the candidate was healthy for long enough. One that is not, after all, loses its routes too.
    pub fn set_proven(&mut self, is_healthy: bool) {
        let Target::Rollout(rollout) = &mut self.target else { return };
        if !is_healthy {
            if let Phase::Switched(switched) = std::mem::replace(&mut rollout.phase, Phase::Starting) {
                self.routes = switched.previous_routes;
            }
        } else if rollout.phase == Phase::Starting {
            rollout.phase = Phase::Proven;
        }
    }

    /// Ends an unfinished rollout and drops its routes; the serving release becomes the target.
    pub fn end_rollout(&mut self) {
        self.set_proven(false);
        self.target = Target::Serving;
    }

    /// Makes the candidate the serving release; returns the one before it.
    pub fn promote(&mut self, candidate: ReleaseNo, now: Timestamp) -> Option<ReleaseNo> {
        self.target = Target::Serving;
        let newest = self.releases.values().map(|release| release.promotion_seq).max().unwrap_or_default();
        if let Some(release) = self.releases.get_mut(&candidate) {
            (release.since, release.end, release.was_healthy, release.promotion_seq) = (now, None, true, newest + 1);
        }
        self.serving.replace(candidate)
    }

    /// Begins a rollout; another one must have ended before.
    pub fn begin_rollout(&mut self, rollout: Rollout) {
        if let Some(release) = self.releases.get_mut(&rollout.release) {
            (release.since, release.end) = (rollout.since, None);
        }
        self.target = Target::Rollout(rollout);
    }

    /// Ends a release.
    pub fn end_release(&mut self, number: ReleaseNo, end: End) {
        if let Some(release) = self.releases.get_mut(&number) {
            (release.since, release.end) = (end.cause().since, Some(end));
        }
    }

    /// Returns the newest release before the serving one that was ever healthy.
    pub fn previous_good(&self) -> Option<ReleaseNo> {
        let others =
            self.releases.iter().filter(|(number, release)| release.was_healthy && Some(**number) != self.serving);
        others.max_by_key(|(_, release)| (release.promotion_seq, release.since)).map(|(number, _)| *number)
    }

    /// Returns the release that a rollback without a number goes to: the serving one if a newer one failed or is still
    /// being rolled out, else the last good one before it.
    pub fn rollback_target(&self) -> Option<ReleaseNo> {
        let unfinished = self.serving.filter(|_| self.target != Target::Serving);
        unfinished
            .filter(|serving| self.release(*serving).is_some_and(|release| release.was_healthy))
            .or_else(|| self.previous_good())
    }

    /// Returns the release that vetoes an artifact: it has the same bytes, and it failed or was rolled back from. An
    /// input that moves artifacts by itself must not bring it back; its owner's spec may.
    pub fn release_blocking(&self, artifact: &Artifact) -> Option<ReleaseNo> {
        let failed = |release: &Release| release.rejected().is_some_and(|rejected| rejected.fetched);
        let stands = |release: &Release| (release.rolled_back || failed(release)) && release.has_bytes_of(artifact);
        self.releases.iter().rev().find(|(_, release)| stands(release)).map(|(number, _)| *number)
    }

    /// Returns whether an artifact was requested and could not be fetched, at least not yet.
    pub fn failed_to_fetch(&self, artifact: &Artifact) -> bool {
        let newest = self.releases.iter().rev().find(|(_, release)| release.has_bytes_of(artifact));
        newest.is_some_and(|(number, _)| self.failed_to_fetch_release(*number))
    }

    /// Returns whether the target's artifact could not be fetched, at least not yet.
    pub fn failed_to_fetch_target(&self) -> bool {
        self.target_release().is_some_and(|number| self.failed_to_fetch_release(number))
    }

    fn failed_to_fetch_release(&self, number: ReleaseNo) -> bool {
        let waits = self.rollout().is_some_and(|rollout| rollout.release == number && rollout.fetch.is_some());
        waits || self.release(number).is_some_and(Release::is_unfetched)
    }

    /// Returns the releases whose units belong on the machine now.
    pub fn active_releases(&self) -> BTreeSet<ReleaseNo> {
        let draining = self.draining.as_ref().map(|draining| draining.release);
        [self.serving, self.candidate(), draining, self.kept_for_inspection()].into_iter().flatten().collect()
    }

    /// Returns whether a host is quarantined, since Caddy refused it.
    pub fn is_quarantined(&self, host: &Hostname) -> bool {
        self.quarantine.as_ref().is_some_and(|quarantine| quarantine.hosts.contains_key(host))
    }

    /// Returns the units of a release that run as long as it does.
    pub fn units_of(&self, project: &ProjectId, release: ReleaseNo) -> Vec<UnitId> {
        let workloads = self.release(release).into_iter().flat_map(|release| &release.content.processes);
        let running = workloads
            .filter(|(_, workload)| workload.is_daemon() || matches!(workload.kind, WorkloadKind::Scheduled(_)));
        let units = running.flat_map(|(process, workload)| {
            let instances = (1..=workload.instances).map(move |instance| (workload.instances > 1).then_some(instance));
            instances.map(|instance| UnitId { project: project.clone(), process: process.clone(), release, instance })
        });
        units.collect()
    }

    /// Returns the unit of a release's command.
    pub fn release_command_unit(&self, project: &ProjectId, release: ReleaseNo) -> Option<UnitId> {
        let workloads = &self.release(release)?.content.processes;
        let (process, _) = workloads.iter().find(|(_, workload)| matches!(workload.kind, WorkloadKind::Release(_)))?;
        Some(UnitId { project: project.clone(), process: process.clone(), release, instance: None })
    }

    /// Returns the unit of a release's command, if it has one that has not run yet.
    pub fn pending_command_unit(&self, project: &ProjectId, release: ReleaseNo) -> Option<UnitId> {
        let open = |rollout: &Rollout| rollout.release == release && !rollout.command_done && !rollout.is_proven();
        self.release_command_unit(project, release).filter(|_| self.rollout().is_some_and(open))
    }

    /// Returns what a unit runs.
    pub fn workload_of(&self, unit: &UnitId) -> Option<&Workload> {
        self.release(unit.release)?.content.processes.get(&unit.process)
    }

    /// Returns the port that a unit listens on; None if it has no port of ours.
    pub fn port_of(&self, unit: &UnitId) -> Option<u16> {
        let release = self.release(unit.release)?;
        let workload =
            release.content.processes.get(&unit.process).filter(|workload| workload.kind == WorkloadKind::Web);
        workload.and_then(|_| self.ports.get(&unit.process)?.get(unit.index())).map(|ports| ports.of(release.slot))
    }
}
