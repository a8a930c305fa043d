//! Computes a project's status from its desired state, recorded progress and observations. Never from intent alone.

mod between_passes;
mod conditions;
mod input;
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
pub fn compute(view: &StatusInput<'_>) -> Status {
    let now = view.observed.now;
    let conditions: Vec<Condition> = findings(view)
        .into_iter()
        .map(|(kind, holds, (reason, message))| {
            let same = view
                .before
                .and_then(|status| status.condition(kind))
                .filter(|old| old.reason == reason && old.holds == holds);
            Condition { kind, holds, reason, message, since: same.map_or(now, |old| old.since) }
        })
        .collect();
    let settled = stalled(view).is_some() || conditions.iter().any(|c| c.kind == ConditionKind::Ready && c.holds);
    let seen_generation = if settled { view.wanted.generation } else { view.progress.observed_generation };
    Status {
        project: view.project.clone(),
        generation: view.wanted.generation,
        observed_generation: seen_generation.min(view.wanted.generation),
        observed_at: now,
        owner: view.wanted.owner.to_string(),
        state: state(&view.wanted.intent, &conditions, was_as_desired(view)),
        conditions,
        serving: view.progress.serving,
        candidate: view.progress.candidate(),
        last_good: last_good(view.progress),
        rejected: rejected(view.progress),
        processes: processes(view),
        routes: routes(view),
    }
}

fn last_good(progress: &ProjectProgress) -> Option<ReleaseNo> {
    progress
        .serving
        .filter(|serving| progress.release(*serving).is_some_and(|release| release.good))
        .or_else(|| progress.last_good_before())
}

fn rejected(progress: &ProjectProgress) -> Vec<ReleaseNo> {
    let numbers = progress.releases.keys().copied();
    numbers.filter(|number| progress.state_of(*number) == ReleaseState::Rejected).collect()
}
