//! What is to be done, as a value. `advance` folds what was seen into the little that is remembered; `plan` then says
//! which steps lead from there to what is wanted. Both are pure: the same input gives the same plan.

pub mod accept;
pub mod advance;
pub mod artifacts;
pub mod check;
pub mod events;
pub mod hints;
pub mod ports;
pub mod removal;
pub mod retry;
pub mod rollout;
pub mod routes;
pub mod services;
pub mod status;
pub mod step;
pub mod target;
pub mod verdict;
pub mod visits;

use crate::model::desired::{Desired, Intent};
use crate::model::layout::Layout;
use crate::model::names::ProjectId;
use crate::model::observed::Observed;
use crate::model::progress::Progress;
use crate::model::quantity::Timestamp;
use crate::model::services::WantedServices;
use crate::render::caddyfile::Proxy;

pub use step::{
    Action, FetchOrder, FollowUp, ProjectAction, ProxyAction, RoutesOrder, ServiceAction, Step, StepReason, UnitOrder,
};

/// What the plan needs to know besides what is wanted and what is there.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Where everything stands on disk.
    pub layout: Layout,
    /// The ports that web processes get, first to last.
    pub ports: (u16, u16),
    /// The Caddyfile's template and what it is told.
    pub proxy: Proxy,
}

/// What is to be done now, and when to look again although nothing rang.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// In order. A step that fails halts the later ones of its project, never its neighbours'.
    pub steps: Vec<Step>,
    /// The next moment at which time alone changes something.
    pub look_again: Option<Timestamp>,
}

impl Plan {
    /// Asks for another look at this moment at the latest.
    pub fn look_at(&mut self, moment: Timestamp) {
        self.look_again = Some(self.look_again.map_or(moment, |other| other.min(moment)));
    }

    fn push(&mut self, project: &ProjectId, action: ProjectAction, reason: StepReason) {
        self.steps.push(Step { action: Action::Project(project.clone(), action), reason });
    }
}

/// What every project's steps depend on besides the project.
#[derive(Clone, Copy)]
pub struct PassContext<'a> {
    /// The moment.
    pub now: Timestamp,
    /// Whether Caddy has the routes that are wanted, or is not there to have any.
    pub routed: bool,
    /// The rules.
    pub rules: &'a Rules,
}

/// Says what is to be done, of everything that was seen.
pub fn plan(
    desired: &Desired,
    services: &WantedServices,
    observed: &Observed,
    all_progress: &Progress,
    rules: &Rules,
) -> Plan {
    let mut plan = Plan::default();
    let routed = routes::steps(observed, all_progress, rules, &mut plan);
    let context = PassContext { now: observed.now, routed, rules };
    for (project, seen) in &observed.projects {
        let (Some(wanted), Some(progress)) = (desired.0.get(project), all_progress.projects.get(project)) else {
            continue;
        };
        if let Some(pause) = wanted.pause_at(observed.now) {
            pause.until.into_iter().for_each(|until| plan.look_at(until));
            continue;
        }
        match &wanted.intent {
            Intent::Run(spec) => rollout::steps(project, spec, seen, progress, context, &mut plan),
            Intent::Delete { keep_data } => removal::steps(project, *keep_data, seen, progress, context, &mut plan),
            Intent::Nothing | Intent::Unreadable(_) => {}
        }
    }
    artifacts::steps(desired, observed, all_progress, &mut plan);
    services::steps(services, observed, all_progress, &mut plan);
    plan
}
