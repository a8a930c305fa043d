//! A scripted life: a machine, the loop on it, and an operator whose every wish a test chooses.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use zexio::model::desired::{DesiredProject, Intent, Owner};
use zexio::model::document;
use zexio::model::names::ProjectId;
use zexio::model::quantity::{Span, Timestamp};
use zexio::model::spec::Sealed;
use zexio::model::status::{ConditionKind, Status};
use zexio::plan::PlanConfig;
use zexio::reconcile::pass::{Loop, Planner, checked_plan};
use zexio::reconcile::services::HostServices;
use zexio::settings::Settings;

use super::World;
use super::gate::Death;

/// A life: a machine, the loop on it, and the operator's desired_store.
pub struct Life {
    pub world: World,
    agent: Loop,
}

impl Life {
    pub fn begin() -> Self {
        let world = World::default();
        {
            let mut machine = world.lock();
            machine.now = Timestamp(1_000_000);
            machine.network = true;
            machine.proxy.up = true;
            machine.refused = Some("refused.example.com".to_owned());
            machine.keeps_calls = true;
        }
        Self { agent: agent(&world, scripted_rules(), checked_plan), world }
    }

    /// Replaces the agent by a new one: whatever it kept in memory is gone.
    pub fn restart_agent(&mut self) {
        self.agent = agent(&self.world, scripted_rules(), checked_plan);
    }

    /// Asks for an artifact, by the name that says how it behaves.
    pub fn want(&mut self, project: &str, artifact: &str) {
        self.want_spec(project, &format!("url: 'https://a.example.com/{artifact}'"), "");
    }

    pub fn want_text(&mut self, text: &str) {
        let document = document::parse(text.as_bytes()).expect("the spec of a test");
        let project = document.project.to_string();
        let spec = document.try_map_env(|_, _| Ok::<_, ()>(Sealed { sealed: 1 })).expect("sealing cannot fail here");
        self.intend(&project, Intent::Run(Arc::new(spec)));
    }

    pub fn want_spec(&mut self, project: &str, artifact: &str, extra: &str) {
        let text = format!(
            "zexio: 1\nproject: {project}\nartifact: {{ {artifact} }}\nprocesses:\n  web:\n    run: ./app\n    ready: {{ http: /up, within: 10s }}\n    routes: [{{ host: {project}.example.com }}]\n{extra}\n"
        );
        self.want_text(&text);
    }

    pub fn delete(&mut self, project: &str) {
        self.intend(project, Intent::Delete { keep_data: false });
    }

    fn intend(&mut self, project: &str, intent: Intent) {
        let project = ProjectId::parse(project).expect("a project id");
        let mut machine = self.world.lock();
        let generation = machine.desired.0.get(&project).map_or(1, |wanted| wanted.generation + 1);
        let suspension = machine.desired.0.get(&project).and_then(|wanted| wanted.suspension.clone());
        let wanted = DesiredProject {
            generation,
            intent,
            owner: Owner::Api,
            secrets: BTreeMap::new(),
            refusal: None,
            suspension,
            artifact_from_webhook: false,
        };
        machine.desired.0.insert(project, wanted);
    }

    /// Runs a pass; returns when the agent wants to look again.
    pub fn pass(&mut self) -> Option<Timestamp> {
        self.agent.pass(false)
    }

    /// Runs a pass; when the agent dies in it, another one takes its place. Tells whether it died.
    pub fn pass_or_die(&mut self) -> bool {
        let Err(cause) = catch_unwind(AssertUnwindSafe(|| self.pass())) else { return false };
        assert!(cause.is::<Death>(), "the agent broke");
        self.world.lock().lose_what_ran_beside_the_loop();
        self.restart_agent();
        true
    }

    /// Runs passes and lets time pass until nothing is done any more; returns the calls that were made.
    pub fn settle(&mut self) -> Vec<String> {
        let begun = self.world.lock().calls.len();
        let mut quiet = 0;
        for _ in 0..2000 {
            let before = self.world.lock().calls.len();
            self.pass_or_die();
            self.world.lock().watch_traffic(&"time");
            let idle = self.world.lock().calls.len() == before;
            let ended = self
                .world
                .lock()
                .statuses
                .values()
                .all(|status| status.condition(ConditionKind::Reconciling).is_none());
            quiet = if idle && ended { quiet + 1 } else { 0 };
            // Longer than any drain or trial of these tests.
            if quiet > 30 {
                return self.world.lock().calls[begun..].to_vec();
            }
            self.world.lock().tick(Span::seconds(1));
        }
        panic!(
            "it does not settle; last calls: {:?}",
            self.world.lock().calls.iter().rev().take(20).collect::<Vec<_>>()
        );
    }

    pub fn status(&self, project: &str) -> Status {
        let project = ProjectId::parse(project).expect("a project id");
        self.world.lock().statuses.get(&project).cloned().expect("the project has a status")
    }

    /// Returns a value that the agent counts, by its name and labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.agent.metrics.text().expect("a text");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in\n{text}"))
    }

    pub fn serving(&self, project: &str) -> Option<u32> {
        self.status(project).serving.map(|release| release.0)
    }

    /// Returns the plan as text, one step a line.
    pub fn plan(&mut self) -> Vec<String> {
        let plan = self.agent.dry_run(None).expect("a plan").plan;
        plan.steps.iter().map(|step| format!("{} {}", step.action.facts().sign, step.action)).collect()
    }

    pub fn running(&self) -> BTreeSet<String> {
        let machine = self.world.lock();
        machine.units.iter().filter(|(_, seen)| seen.is_up()).map(|(unit, _)| unit.name()).collect()
    }
}

/// Returns an agent that works on a world.
pub fn agent(world: &World, rules: PlanConfig, planner: Planner) -> Loop {
    Loop {
        store: Arc::new(world.clone()),
        units: Box::new(world.clone()),
        bundles: Box::new(world.clone()),
        health: Box::new(world.clone()),
        routes: Box::new(world.clone()),
        tail: Box::new(world.clone()),
        services: HostServices::new(Arc::new(world.clone()), Box::new(world.clone())),
        clock: Arc::new(world.clone()),
        config: rules,
        planner,
        next_project: 0,
        busy_passes: 0,
        route_error: None,
        retry_refused_routes: false,
        template_error: None,
        last_statuses: Default::default(),
        recorded_passes: 0,
        pending_events: Default::default(),
        metrics: Default::default(),
        phases: Default::default(),
    }
}

/// Returns the rules of an agent with this template and these ports.
pub fn rules(template: &str, ports: (u16, u16)) -> PlanConfig {
    let settings = Settings::default();
    PlanConfig { layout: settings.root.clone(), ports, proxy: settings.proxy(template.into(), false) }
}

fn scripted_rules() -> PlanConfig {
    rules(include_str!("../../../Caddyfile.tmpl"), (21000, 21099))
}
