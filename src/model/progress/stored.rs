//! How a project's progress is stored in the database. The format is older than the types: it repeats some facts and can
//! express impossible states, so it is read by the rules below.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Backoff, Cause, Draining, EarlierRun, End, Evidence, FailedFetch, Phase, ProjectProgress, Quarantine, Rejected,
    Release, ReleaseState, Rollout, Switched, Target,
};
use crate::model::desired::Content;
use crate::model::names::{Hostname, Ports, ProcessName, ReleaseNo, Sha256, Slot};
use crate::model::quantity::{Span, Timestamp};
use crate::model::spec::{Label, Route};

/// The document of one project.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Stored {
    generation: u64,
    observed_generation: u64,
    target: Option<ReleaseNo>,
    serving: Option<ReleaseNo>,
    /// The rollout of the target.
    trial: Option<StoredRollout>,
    draining: Option<Draining>,
    /// The target, if it failed and is kept for inspection.
    held: Option<ReleaseNo>,
    ports: BTreeMap<ProcessName, Vec<Ports>>,
    hosts: BTreeSet<Hostname>,
    routes: BTreeMap<ProcessName, Vec<Route>>,
    quarantine: Option<Quarantine>,
    releases: BTreeMap<ReleaseNo, StoredRelease>,
    newest: u32,
    stalled: Option<Cause>,
    waits: Option<Cause>,
    backoff: Option<Backoff>,
    suspended: Option<Timestamp>,
    #[serde(skip_serializing_if = "is_zero")]
    aimed: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredRollout {
    since: Timestamp,
    proven: bool,
    #[serde(default)]
    released: bool,
    #[serde(default)]
    room: bool,
    fetch: Option<Backoff>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    awaits: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    earlier: BTreeMap<String, EarlierRun>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    switched: Option<Switched>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    queued: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "is_none")]
    waited: Span,
}

#[derive(Serialize, Deserialize)]
struct StoredRelease {
    content: Arc<Content>,
    sha256: Option<Sha256>,
    version: Option<Label>,
    /// The generation for which it failed; of no meaning if it did not.
    generation: u64,
    slot: Slot,
    state: ReleaseState,
    created_at: Timestamp,
    since: Timestamp,
    good: bool,
    #[serde(default)]
    turn: u32,
    ended: Option<Cause>,
    #[serde(default)]
    vetoed: bool,
    #[serde(default)]
    evidence: Option<Evidence>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unfetched: bool,
}

fn is_none(span: &Span) -> bool {
    *span == Span::default()
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl From<Stored> for ProjectProgress {
    fn from(stored: Stored) -> Self {
        let mut routes = stored.routes;
        let target = match (stored.target, stored.trial) {
            (Some(release), Some(trial)) => Target::Rollout(trial.read(release, &mut routes)),
            (Some(release), None) if stored.releases.get(&release).is_some_and(StoredRelease::is_rejected) => {
                Target::Failed { release, kept_for_inspection: stored.held == Some(release) }
            }
            _ => Target::Serving,
        };
        Self {
            generation: stored.generation,
            observed_generation: stored.observed_generation,
            target,
            serving: stored.serving,
            draining: stored.draining,
            ports: stored.ports,
            hosts: stored.hosts,
            routes,
            quarantine: stored.quarantine,
            releases: stored.releases.into_iter().map(|(number, release)| (number, release.read())).collect(),
            newest_number: stored.newest,
            stalled: stored.stalled,
            waits_for_services: stored.waits,
            backoff: stored.backoff,
            suspended: stored.suspended,
            selected_generation: stored.aimed,
        }
    }
}

impl From<ProjectProgress> for Stored {
    fn from(progress: ProjectProgress) -> Self {
        let states: BTreeMap<ReleaseNo, ReleaseState> =
            progress.releases.keys().map(|number| (*number, progress.state_of(*number))).collect();
        let releases = progress.releases.iter();
        let releases = releases.map(|(number, release)| (*number, StoredRelease::of(release, states[number])));
        Self {
            target: progress.target_release(),
            held: progress.kept_for_inspection(),
            releases: releases.collect(),
            trial: progress.rollout().map(StoredRollout::of),
            generation: progress.generation,
            observed_generation: progress.observed_generation,
            serving: progress.serving,
            draining: progress.draining,
            ports: progress.ports,
            hosts: progress.hosts,
            routes: progress.routes,
            quarantine: progress.quarantine,
            newest: progress.newest_number,
            stalled: progress.stalled,
            waits: progress.waits_for_services,
            backoff: progress.backoff,
            suspended: progress.suspended,
            aimed: progress.selected_generation,
        }
    }
}

impl StoredRollout {
    /// A switch without proof was reverted: the routes are the previous ones.
    fn read(self, release: ReleaseNo, routes: &mut BTreeMap<ProcessName, Vec<Route>>) -> Rollout {
        let phase = match (self.proven, self.switched) {
            (true, Some(switched)) => Phase::Switched(switched),
            (true, None) => Phase::Proven,
            (false, switched) => {
                switched.into_iter().for_each(|switched| *routes = switched.previous_routes);
                Phase::Starting
            }
        };
        let awaited_until = self.awaits;
        Rollout {
            release,
            since: self.since,
            phase,
            command_done: self.released,
            changeover_begun: self.room,
            fetch: self.fetch.map(|backoff| FailedFetch { backoff, awaited_until }),
            earlier_runs: self.earlier,
            queued_since: self.queued,
            queued_for: self.waited,
        }
    }

    fn of(rollout: &Rollout) -> Self {
        Self {
            since: rollout.since,
            proven: rollout.is_proven(),
            released: rollout.command_done,
            room: rollout.changeover_begun,
            fetch: rollout.fetch.as_ref().map(|fetch| fetch.backoff.clone()),
            awaits: rollout.fetch.as_ref().and_then(|fetch| fetch.awaited_until),
            earlier: rollout.earlier_runs.clone(),
            switched: rollout.switched().cloned(),
            queued: rollout.queued_since,
            waited: rollout.queued_for,
        }
    }
}

impl StoredRelease {
    fn is_rejected(&self) -> bool {
        self.state == ReleaseState::Rejected
    }

    fn read(self) -> Release {
        let unknown = Cause::unknown(self.since);
        let end = match self.state {
            ReleaseState::Trial | ReleaseState::Serving => None,
            ReleaseState::Retired => Some(End::Retired(self.ended.unwrap_or(unknown))),
            ReleaseState::Rejected => Some(End::Rejected(Rejected {
                cause: self.ended.unwrap_or(unknown),
                generation: self.generation,
                fetched: !self.unfetched,
                evidence: self.evidence,
            })),
            // One whose rollout never began has no cause.
            ReleaseState::Superseded => self.ended.map(End::Superseded),
        };
        Release {
            content: self.content,
            sha256: self.sha256,
            version: self.version,
            slot: self.slot,
            created_at: self.created_at,
            since: self.since,
            was_healthy: self.good,
            promotion_seq: self.turn,
            end,
            rolled_back: self.vetoed,
        }
    }

    fn of(release: &Release, state: ReleaseState) -> Self {
        let release = release.clone();
        let rejected = release.rejected();
        Self {
            generation: rejected.map_or(0, |rejected| rejected.generation),
            evidence: rejected.and_then(|rejected| rejected.evidence.clone()),
            unfetched: release.is_unfetched(),
            ended: release.end.as_ref().map(|end| end.cause().clone()),
            content: release.content,
            sha256: release.sha256,
            version: release.version,
            slot: release.slot,
            state,
            created_at: release.created_at,
            since: release.since,
            good: release.was_healthy,
            turn: release.promotion_seq,
            vetoed: release.rolled_back,
        }
    }
}
