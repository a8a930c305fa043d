//! When each release was not on trial yet, as far as statuses tell: what it did before that is not to be held against it.

use std::collections::{BTreeMap, BTreeSet};

use zexio::model::names::ReleaseNo;
use zexio::model::status::{ConditionKind, Status};

use crate::world::Machine;

/// What statuses told of a project's trials. Moments are on the clock that never jumps.
#[derive(Debug, Default)]
pub struct Trials {
    candidate: Option<ReleaseNo>,
    /// The last status before the one that told of this candidate first.
    without: u64,
    told_at: u64,
    /// When each generation was first read.
    read_at: BTreeMap<u64, u64>,
    /// For which generation each release was first told of as rejected, and when it was not on trial yet.
    rejected: BTreeMap<ReleaseNo, (u64, u64)>,
    /// What was told of as fallen, and for which generation.
    judged: BTreeSet<(ReleaseNo, u64)>,
}

impl Trials {
    pub fn note_read(&mut self, generation: u64, uptime: u64) {
        self.read_at.entry(generation).or_insert(uptime);
    }

    /// Takes a status down. Where it tells for the first time that a release was rejected for falling: whether that was
    /// down in its trial, and what to say where it was not. A clock that jumped in between tells nothing of either.
    pub fn note_told(&mut self, machine: &Machine, status: &Status, jumped: Option<u64>) -> Option<(bool, String)> {
        let before = std::mem::take(&mut self.rejected);
        let untried = |number| match before.get(number) {
            None if self.candidate == Some(*number) => (status.generation, self.without),
            None => (status.generation, self.told_at),
            // It may have been tried again meanwhile, for another generation.
            Some((failed_for, at)) => {
                (*failed_for, self.read_at.range(failed_for + 1..).next().map_or(*at, |(_, at)| *at))
            }
        };
        self.rejected = status.rejected.iter().map(|number| (*number, untried(number))).collect();
        if self.candidate != status.candidate {
            (self.candidate, self.without) = (status.candidate, self.told_at);
        }
        self.told_at = machine.uptime;
        let number = fallen(status)?;
        let (_, untried) = self.rejected.get(&number)?;
        let down = machine.down.get(&(status.project.clone(), number));
        let first = self.judged.insert((number, status.generation));
        let why = format!("{} {number} was rejected, down last at {down:?}, not on trial at {untried}", status.project);
        first.then(|| (down.is_some_and(|down| *down >= *untried || jumped.is_some_and(|at| at >= *down)), why))
    }
}

/// Returns the release that a status says was rejected since it fell.
fn fallen(status: &Status) -> Option<ReleaseNo> {
    let is = |kind: ConditionKind| status.condition(kind).filter(|condition| condition.holds);
    // A wish that waits for the end of a suspension was not tried yet: what is told is the one before.
    let stall = is(ConditionKind::Stalled).filter(|_| is(ConditionKind::Suspended).is_none())?;
    let (number, how) = stall.message.strip_prefix("release ")?.split_once(" was rejected: ")?;
    let fell = how.contains(" exited with ") || how.contains(" ended");
    number.parse().ok().filter(|_| fell).map(ReleaseNo)
}
