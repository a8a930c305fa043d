//! Computes a project's status from its desired state, recorded progress and observations. Never from intent alone.

mod between_passes;
mod conditions;
mod input;
mod outage;
mod processes;
mod reconciling;
mod routes;
mod stalled;
mod state;

use crate::model::names::ReleaseNo;
use crate::model::progress::{ProjectProgress, ReleaseState};
use crate::model::status::{Condition, ConditionKind, Status};

use conditions::findings;
use processes::processes;
use routes::routes;
use stalled::stalled;
use state::{state, was_as_desired};

pub use between_passes::{Waiting, before_first_pass, waiting_projects, with_current_intent};
pub use input::StatusInput;
pub use stalled::UNREADABLE;

/// Computes a project's status.
pub fn compute(input: &StatusInput<'_>) -> Status {
    let now = input.observed.now;
    let conditions: Vec<Condition> = findings(input)
        .into_iter()
        .map(|(kind, holds, (reason, message))| {
            let same = input
                .before
                .and_then(|status| status.condition(kind))
                .filter(|old| old.reason == reason && old.holds == holds);
            Condition { kind, holds, reason, message, since: same.map_or(now, |old| old.since) }
        })
        .collect();
    let settled = stalled(input).is_some() || conditions.iter().any(|c| c.kind == ConditionKind::Ready && c.holds);
    let seen_generation = if settled { input.wanted.generation } else { input.progress.observed_generation };
    Status {
        project: input.project.clone(),
        generation: input.wanted.generation,
        observed_generation: seen_generation.min(input.wanted.generation),
        observed_at: now,
        owner: input.wanted.owner.to_string(),
        state: state(&input.wanted.intent, &conditions, was_as_desired(input)),
        conditions,
        serving: input.progress.serving,
        candidate: input.progress.candidate(),
        last_good: last_good(input.progress),
        rejected: rejected(input.progress),
        processes: processes(input),
        routes: routes(input),
    }
}

fn last_good(progress: &ProjectProgress) -> Option<ReleaseNo> {
    progress
        .serving
        .filter(|serving| progress.release(*serving).is_some_and(|release| release.was_healthy))
        .or_else(|| progress.previous_good())
}

fn rejected(progress: &ProjectProgress) -> Vec<ReleaseNo> {
    let numbers = progress.releases.keys().copied();
    numbers.filter(|number| progress.state_of(*number) == ReleaseState::Rejected).collect()
}
