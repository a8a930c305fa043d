//! The rollout of a release: from when it became the target until it serves, failed or was superseded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Backoff;
use crate::model::names::{ProcessName, ReleaseNo, UnitId};
use crate::model::observed::{ActiveState, UnitSeen};
use crate::model::quantity::{Span, Timestamp};
use crate::model::spec::Route;

/// The rollout of one release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    pub release: ReleaseNo,
    /// When it began; its deadline counts from here.
    pub since: Timestamp,
    pub phase: Phase,
    /// Whether its release command succeeded; it runs once.
    pub command_done: bool,
    /// Whether the processes that must not run twice have changed over: those of the serving release are stopped, and
    /// those of this one started. They do not change back while the rollout lasts.
    pub changeover_begun: bool,
    /// The failures to fetch its artifact, until it is on disk.
    pub fetch: Option<FailedFetch>,
    /// The runs of its units that began before the rollout, by unit name.
    pub earlier_runs: BTreeMap<String, EarlierRun>,
    /// Since when one of its starts waits for those of others; its deadline does not run during that time.
    pub queued_since: Option<Timestamp>,
    /// How long its starts have waited before that.
    pub queued_for: Span,
}

/// How far a rollout has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Its health is not proven yet.
    Starting,
    /// It was healthy for long enough: traffic moves, whatever else happens.
    Proven,
    /// It has the traffic and is being verified; it counts as serving only after that.
    Switched(Switched),
}

/// A release that has the traffic and is being verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switched {
    /// When it got the traffic.
    pub since: Timestamp,
    /// The routes active before, to return to.
    #[serde(rename = "before")]
    pub previous_routes: BTreeMap<ProcessName, Vec<Route>>,
}

/// Transient failures to fetch an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedFetch {
    pub backoff: Backoff,
    /// Until when to wait for an artifact that a webhook named and no server has.
    pub awaited_until: Option<Timestamp>,
}

/// A run of a unit that began before the rollout of its release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierRun {
    /// systemd's invocation id.
    pub invocation: String,
    /// How often systemd had restarted the unit, if its count continues from there.
    pub restarts: Option<u32>,
}

impl Rollout {
    /// Begins a rollout.
    pub fn begin<'a>(
        release: ReleaseNo,
        now: Timestamp,
        units: impl Iterator<Item = (&'a UnitId, &'a UnitSeen)>,
    ) -> Self {
        let earlier = units.filter_map(|(id, unit)| {
            let goes_on = unit.is_up() && unit.state != ActiveState::Deactivating;
            let restarts = goes_on.then_some(unit.restarts);
            Some((id.name(), EarlierRun { invocation: unit.invocation.clone()?, restarts }))
        });
        Self {
            release,
            since: now,
            phase: Phase::Starting,
            command_done: false,
            changeover_begun: false,
            fetch: None,
            earlier_runs: earlier.collect(),
            queued_since: None,
            queued_for: Span::default(),
        }
    }

    /// Returns whether the release was healthy for long enough, and nothing took that back since.
    pub fn is_proven(&self) -> bool {
        self.phase != Phase::Starting
    }

    /// Returns what is known of the switch, while the release is being verified.
    pub fn switched(&self) -> Option<&Switched> {
        match &self.phase {
            Phase::Switched(switched) => Some(switched),
            Phase::Starting | Phase::Proven => None,
        }
    }

    /// Returns the rollout's deadline. The time starts once the artifact is there, and stands still while a start waits
    /// for those of others.
    pub fn deadline(&self, span: Span, now: Timestamp) -> Timestamp {
        let awaited = self.fetch.as_ref().and_then(|fetch| fetch.awaited_until);
        let waits = self.queued_since.map_or(Span::default(), |since| now.since(since));
        awaited.unwrap_or(self.since).max(self.since).after(span).after(self.queued_for).after(waits)
    }

    /// Applies a change to each moment that time counts from: the beginning, the wait for the artifact, the switch.
    pub fn shift(&mut self, since: impl Fn(Timestamp) -> Timestamp, awaited: impl Fn(Timestamp) -> Timestamp) {
        self.since = since(self.since);
        self.queued_since = self.queued_since.map(&since);
        if let Some(until) = self.fetch.as_mut().and_then(|fetch| fetch.awaited_until.as_mut()) {
            *until = awaited(*until);
        }
        if let Phase::Switched(switched) = &mut self.phase {
            switched.since = since(switched.since);
        }
    }

    /// Returns whether a unit entered its state since the rollout began, by a run that began since then. A failure
    /// before that, in months of service or in an earlier attempt, and the end of an earlier run do not count against a
    /// release that is rolled back to.
    pub fn is_from_rollout(&self, id: &UnitId, unit: &UnitSeen) -> bool {
        let is_earlier =
            self.earlier_runs.get(&id.name()).is_some_and(|run| unit.invocation.as_ref() == Some(&run.invocation));
        !is_earlier && unit.since.is_none_or(|since| since >= self.since)
    }

    /// Counts how often runs of a unit ended that began after the rollout did.
    pub fn ended_runs(&self, id: &UnitId, unit: &UnitSeen) -> u32 {
        let before = self.earlier_runs.get(&id.name()).and_then(|run| run.restarts);
        // The end of the earlier run counts as one of its restarts.
        let restarts =
            before.filter(|before| unit.restarts > *before).map_or(unit.restarts, |before| unit.restarts - before - 1);
        // A unit that failed and waits for its next start is not among its restarts yet.
        restarts + u32::from(unit.exit.is_some())
    }
}
