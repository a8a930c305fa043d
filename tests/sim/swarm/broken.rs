//! Each promise is broken on purpose, by a planner or a part of the world that does one thing wrong: a check that never
//! fails is worse than none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zexio::model::desired::{Desired, DesiredServices, Intent};
use zexio::model::names::{ProjectId, ReleaseNo, UnitId};
use zexio::model::observed::Observed;
use zexio::model::progress::{Progress, ProjectProgress, Release};
use zexio::model::spec::{Strategy, Suspend};
use zexio::model::status::Status;
use zexio::plan::advance::advance;
use zexio::plan::check::Breach;
use zexio::plan::{Action, Plan, PlanConfig, ProjectAction, ProxyAction, ServiceAction, Step, StepReason, plan};

use zexio::reconcile::pass::Planner;

use super::life::{Rig, live};
use super::oracle::{Promise, SENTINEL};

type Made = (Plan, Vec<Breach>);

fn step(project: &ProjectId, action: ProjectAction) -> Step {
    Step { action: Action::Project(project.clone(), action), reason: StepReason::NotWanted }
}

/// Adds to the right plan what a broken planner thinks of for each project that is to run.
fn also(
    desired: &Desired,
    services: &DesiredServices,
    observed: &Observed,
    all_progress: &Progress,
    rules: &PlanConfig,
    think: impl Fn(&ProjectId, &ProjectProgress) -> Option<ProjectAction>,
) -> Made {
    let mut plan = plan(desired, services, observed, all_progress, rules);
    for (project, progress) in &all_progress.projects {
        let runs = desired.0.get(project).is_some_and(|wanted| wanted.spec().is_some());
        if let Some(action) = think(project, progress).filter(|_| runs) {
            plan.steps.push(step(project, action));
        }
    }
    (plan, Vec::new())
}

fn units<'a>(observed: &'a Observed, project: &ProjectId) -> impl Iterator<Item = &'a UnitId> {
    observed.projects.get(project).and_then(|seen| seen.units.known()).into_iter().flatten().map(|(unit, _)| unit)
}

/// Moves traffic as soon as the candidate's unit is there.
fn points_too_early(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    also(d, w, o, p, r, |project, progress| {
        let candidate = progress.candidate()?;
        let unit = units(o, project).find(|unit| unit.release == candidate && progress.port_of(unit).is_some())?;
        Some(ProjectAction::SwitchTraffic(unit.process.clone(), progress.release(candidate)?.slot))
    })
}

/// Stops the old release as soon as a new one is wanted.
fn stops_what_serves(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    also(d, w, o, p, r, |project, progress| {
        let serving = progress.serving.filter(|_| progress.rollout().is_some())?;
        units(o, project).find(|unit| unit.release == serving).cloned().map(ProjectAction::Stop)
    })
}

/// Clears away the directory of what runs.
fn removes_what_runs(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    also(d, w, o, p, r, |_, progress| progress.candidate().map(ProjectAction::RemoveRelease))
}

/// Keeps no release but the one that serves.
fn removes_the_way_back(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    also(d, w, o, p, r, |project, progress| {
        let idle = |number: &ReleaseNo| !units(o, project).any(|unit| unit.release == *number);
        progress.previous_good().filter(idle).filter(|_| progress.rollout().is_none()).map(ProjectAction::RemoveRelease)
    })
}

/// Tidies up after somebody whom nobody asked for.
fn touches_a_stranger(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    let mut plan = plan(d, w, o, p, r);
    let stranger = ProjectId::parse("stranger").expect("a project");
    plan.steps.push(step(&stranger, ProjectAction::RemoveFiles { keep_data: false }));
    (plan, Vec::new())
}

/// Forgets a project as soon as it is to be gone.
fn forgets_early(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    let mut plan = plan(d, w, o, p, r);
    for (project, wanted) in &d.0 {
        if matches!(wanted.intent, Intent::Delete { .. }) {
            plan.steps.insert(0, step(project, ProjectAction::DeleteRecord));
        }
    }
    (plan, Vec::new())
}

/// Calls a generation seen before it was.
fn counts_ahead(status: &mut Status) {
    status.observed_generation = status.generation + 1;
}

/// Writes what a variable holds into the unit file.
fn shows_a_value(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    let mut plan = plan(d, w, o, p, r);
    for step in &mut plan.steps {
        if let Action::Project(_, ProjectAction::WriteUnit(order)) = &mut step.action {
            order.text.push_str(&format!("Environment=TOKEN={SENTINEL}0\n"));
        }
    }
    (plan, Vec::new())
}

/// Tells the log what a variable holds.
fn logs_a_value(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    tracing::debug!(token = format_args!("{SENTINEL}0"), "plans");
    (plan(d, w, o, p, r), Vec::new())
}

/// Forgets a project that does not serve.
fn forgets_what_is_wanted(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    also(d, w, o, p, r, |_, progress| progress.stalled.as_ref().map(|_| ProjectAction::DeleteRecord))
}

/// Starts a rejected release once more.
fn tries_again(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    also(d, w, o, p, r, |project, progress| {
        let rejected = |unit: &&UnitId| progress.release(unit.release).and_then(Release::rejected).is_some();
        units(o, project).find(rejected).cloned().map(ProjectAction::Start)
    })
}

/// Goes on with projects that are suspended.
fn ignores_suspension(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    let mut desired = d.clone();
    for wanted in desired.0.values_mut() {
        wanted.suspension = None;
        if let Intent::Run(spec) = &mut wanted.intent {
            Arc::make_mut(spec).suspend = Suspend::No;
        }
    }
    (plan(&desired, w, o, p, r), Vec::new())
}

/// Starts the candidate in the slot of the release that serves.
fn shares_a_port(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    let mut plan = plan(d, w, o, p, r);
    for step in &mut plan.steps {
        if let Action::Project(_, ProjectAction::WriteUnit(order)) = &mut step.action
            && order.launch.own.contains_key("PORT")
        {
            order.launch.own.insert("PORT".into(), "21000".into());
        }
    }
    (plan, Vec::new())
}

/// Starts what must not run twice beside the old one.
fn runs_twice(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    let mut desired = d.clone();
    for wanted in desired.0.values_mut() {
        if let Intent::Run(spec) = &mut wanted.intent {
            let spec = Arc::make_mut(spec);
            spec.deploy.strategy = Strategy::Handover;
            spec.processes.values_mut().for_each(|process| process.strategy = None);
        }
    }
    (plan(&desired, w, o, p, r), Vec::new())
}

/// Gives every host to one project.
fn steals_a_host(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    let mut plan = plan(d, w, o, p, r);
    for step in &mut plan.steps {
        if let Action::Proxy(ProxyAction::LoadRoutes(order)) = &mut step.action {
            let last = order.sites.last().map(|site| site.project.clone());
            order.sites.iter_mut().for_each(|site| site.project = last.clone().unwrap_or_else(|| site.project.clone()));
        }
    }
    (plan, Vec::new())
}

/// Writes units and does not start them.
fn starts_nothing(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    let mut plan = plan(d, w, o, p, r);
    plan.steps.retain(|step| !matches!(step.action, Action::Project(_, ProjectAction::Start(_))));
    (plan, Vec::new())
}

/// Makes the directories again in every pass.
fn never_rests(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    also(d, w, o, p, r, |_, progress| progress.serving.map(|_| ProjectAction::Prepare { readable_by_caddy: true }))
}

/// Leaves the files of a deleted project where they are.
fn leaves_files(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    let mut plan = plan(d, w, o, p, r);
    plan.steps.retain(|step| !matches!(step.action, Action::Project(_, ProjectAction::RemoveFiles { .. })));
    (plan, Vec::new())
}

/// Takes every major of a service away, and its data, whoever brought them.
fn removes_what_was_there(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    let mut all_progress = p.clone();
    all_progress.services.values_mut().for_each(|progress| progress.preexisting = Some(BTreeSet::new()));
    (plan(d, w, o, &all_progress, r), Vec::new())
}

/// Goes on with a project whatever it needs.
fn waits_for_nothing(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    let (mut desired, mut all_progress) = (d.clone(), p.clone());
    for wanted in desired.0.values_mut() {
        if let Intent::Run(spec) = &mut wanted.intent {
            Arc::make_mut(spec).needs.clear();
        }
    }
    advance(&desired, w, o, &mut all_progress, r);
    (plan(&desired, w, o, &all_progress, r), Vec::new())
}

/// Installs services and does not start their daemons.
fn starts_no_service(d: &Desired, w: &DesiredServices, o: &Observed, p: &Progress, r: &PlanConfig) -> Made {
    let mut plan = plan(d, w, o, p, r);
    plan.steps.retain(|step| !matches!(step.action, Action::Service(_, ServiceAction::Start(_))));
    (plan, Vec::new())
}

/// Lives until the promise is broken first; tells which promises were broken first in the lives before.
fn first_broken(rig: Rig, promise: Promise) -> Result<u64, BTreeMap<Promise, u64>> {
    let mut others = BTreeMap::new();
    for seed in 0..2_000 {
        match live(seed, rig).breach {
            Some(breach) if breach.promise == promise => return Ok(seed),
            Some(breach) => *others.entry(breach.promise).or_default() += 1,
            None => {}
        }
    }
    Err(others)
}

#[test]
fn every_promise_catches_the_planner_that_breaks_it() {
    let planners: [(Promise, Planner); 20] = [
        (Promise::S1, points_too_early),
        (Promise::S2, stops_what_serves),
        (Promise::S3, removes_what_runs),
        (Promise::S4, removes_the_way_back),
        (Promise::S5, touches_a_stranger),
        (Promise::S6, forgets_early),
        (Promise::S8, shows_a_value),
        (Promise::S8, logs_a_value),
        (Promise::S9, forgets_what_is_wanted),
        (Promise::S11, tries_again),
        (Promise::S12, ignores_suspension),
        (Promise::S13, shares_a_port),
        (Promise::S14, steals_a_host),
        (Promise::S15, removes_what_was_there),
        (Promise::S16, waits_for_nothing),
        (Promise::S20, runs_twice),
        (Promise::L1, starts_nothing),
        (Promise::L2, never_rests),
        (Promise::L3, leaves_files),
        (Promise::L4, starts_no_service),
    ];
    std::thread::scope(|scope| {
        for half in planners.chunks(10) {
            scope.spawn(move || {
                for (promise, planner) in half {
                    let caught = first_broken(Rig { planner: *planner, ..Rig::default() }, *promise);
                    assert!(caught.is_ok(), "{promise:?} never caught its planner, only {caught:?}");
                }
            });
        }
    });
}

#[test]
fn a_recorder_that_counts_ahead_breaks_s7() {
    let caught = first_broken(Rig { spoil_status: Some(counts_ahead), ..Rig::default() }, Promise::S7);
    assert!(caught.is_ok(), "{caught:?}");
}

#[test]
fn a_directory_without_a_guard_breaks_s17() {
    let caught = first_broken(Rig { unguarded: true, ..Rig::default() }, Promise::S17);
    assert!(caught.is_ok(), "{caught:?}");
}

#[test]
fn a_prober_that_calls_everything_ready_breaks_s10() {
    let caught = first_broken(Rig { blessing: true, ..Rig::default() }, Promise::S10);
    assert!(caught.is_ok(), "{caught:?}");
}

#[test]
fn a_look_without_time_breaks_s18() {
    let caught = first_broken(Rig { timeless: true, ..Rig::default() }, Promise::S18);
    assert!(caught.is_ok(), "{caught:?}");
}

#[test]
fn one_look_for_all_hosts_breaks_s19() {
    let caught = first_broken(Rig { one_for_all: true, ..Rig::default() }, Promise::S19);
    assert!(caught.is_ok(), "{caught:?}");
}
