//! Planning, as pure functions: `advance` folds what was observed into the recorded progress, then `plan` returns the
//! steps from there to the desired state. The same input gives the same plan.

pub mod accept;
pub mod admission;
pub mod advance;
pub mod artifacts;
pub mod check;
pub mod decisive;
pub mod events;
pub mod hints;
pub mod ports;
pub mod removal;
pub mod restarts;
pub mod retry;
pub mod rollout;
pub mod routes;
pub mod services;
pub mod status;
pub mod step;
pub mod stop;
pub mod target;
pub mod traffic;
pub mod verdict;
pub mod visits;

use crate::model::desired::{Desired, DesiredServices, Intent};
use crate::model::layout::Layout;
use crate::model::names::ProjectId;
use crate::model::observed::Observed;
use crate::model::progress::Progress;
use crate::model::quantity::Timestamp;
use crate::render::caddyfile::Proxy;

pub use step::{
    Action, FetchOrder, FollowUp, ProjectAction, ProxyAction, RoutesOrder, ServiceAction, Step, StepReason, UnitOrder,
};

/// The inputs of planning besides desired and observed state: the agent's own configuration.
#[derive(Debug, Clone)]
pub struct PlanConfig {
    pub layout: Layout,
    /// The ports for web processes, first to last.
    pub ports: (u16, u16),
    /// The Caddyfile's template and its inputs.
    pub proxy: Proxy,
}

/// The steps to take now, and when to run the next pass even if nothing triggers one.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// In order. A step that fails halts the later ones of its project, never those of other projects.
    pub steps: Vec<Step>,
    /// The next moment at which the passing of time alone changes something.
    pub requeue_at: Option<Timestamp>,
    /// The projects of which a start waits, the next one first.
    pub queue: Vec<ProjectId>,
}

impl Plan {
    /// Asks for a pass at this moment at the latest.
    pub fn requeue_by(&mut self, moment: Timestamp) {
        self.requeue_at = Some(self.requeue_at.map_or(moment, |other| other.min(moment)));
    }

    fn push(&mut self, project: &ProjectId, action: ProjectAction, reason: StepReason) {
        self.steps.push(Step { action: Action::Project(project.clone(), action), reason });
    }
}

/// What every project's steps depend on besides the project.
#[derive(Clone, Copy)]
pub struct PassContext<'a> {
    pub now: Timestamp,
    /// Whether Caddy has the desired routes, or is not installed.
    pub routed: bool,
    pub config: &'a PlanConfig,
}

/// Plans the steps for everything that was observed.
pub fn plan(
    desired: &Desired,
    services: &DesiredServices,
    observed: &Observed,
    all_progress: &Progress,
    config: &PlanConfig,
) -> Plan {
    let mut plan = Plan::default();
    let routed = routes::steps(observed, all_progress, config, &mut plan);
    let context = PassContext { now: observed.now, routed, config };
    for (project, seen) in &observed.projects {
        let (Some(wanted), Some(progress)) = (desired.0.get(project), all_progress.projects.get(project)) else {
            continue;
        };
        if let Some(pause) = wanted.suspension_at(observed.now) {
            pause.until.into_iter().for_each(|until| plan.requeue_by(until));
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
    admission::admit(observed, all_progress, &mut plan);
    plan
}
