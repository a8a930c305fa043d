//! Plans, whole: each scene beside the plan that `zexio plan` would print for it. Below it, as comments, what is
//! remembered from then on, when the loop looks again, the events that are told and the statuses that are shown.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use zexio::api::plan::Shown;
use zexio::cli::plan_text;
use zexio::model::desired::Desired;
use zexio::model::event::{Event, Level};
use zexio::model::failure::PortError;
use zexio::model::names::{ProjectId, ReleaseNo};
use zexio::model::observed::Observed;
use zexio::model::progress::{Cause, End, FailedFetch, Progress, ProjectProgress, Quarantine};
use zexio::model::quantity::{Span, Timestamp};
use zexio::model::status::{ProcessStatus, RouteStatus, Status};
use zexio::plan::{Plan, PlanConfig, admission, advance, check, events, plan, routes, status};

use crate::scene::Scene;
use crate::services;

/// Returns every scene's file, in order.
pub fn scenes() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/plans");
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut scenes: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|ext| ext == "yaml")).collect();
    scenes.sort();
    scenes
}

/// Folds what was seen into what is remembered, plans, and writes both down.
fn told(scene: &Scene) -> String {
    let (desired, observed, mut all_progress, rules) = scene.stage();
    let services = scene.desired_services();
    let remembered_before = all_progress.clone();
    advance::advance(&desired, &services, &observed, &mut all_progress, &rules);
    let decided = all_progress.clone();
    advance::advance(&desired, &services, &observed, &mut all_progress, &rules);
    assert_eq!(all_progress, decided, "what was decided is decided: the same sight changes nothing more");
    let found = plan(&desired, &services, &observed, &all_progress, &rules);
    let breaches = check::breaches(&found, &desired, &observed, &all_progress);
    assert!(breaches.is_empty(), "the plan breaks promises: {breaches:?}");
    let told = events::for_changes(&desired, &remembered_before, &all_progress, observed.now);
    let trouble = scene.route_trouble();
    let past = scene.a_minute_ago(&observed);
    admission::record_waits(&found, &mut all_progress, observed.now);
    let show = |observed, all_progress, waits, before: &_| {
        statuses(scene, &desired, observed, all_progress, &rules, waits, before)
    };
    let before = show(&past, &remembered_before, (&[], None), &BTreeMap::new());
    let shown = show(&observed, &all_progress, (&found.queue, trouble.as_ref()), &before);
    let turns = events::ready_changes(&before, &shown, observed.now);
    let told: String = told.iter().chain(&turns).map(event).collect();
    let shown = desired.0.iter().filter_map(|(project, wanted)| match shown.get(project) {
        None if all_progress.projects.contains_key(project) => None,
        None => Some(of_status(&status::before_first_pass(project, wanted, observed.now))),
        Some(status) => Some(of_status(status)),
    });
    let services_before = services::statuses(&services, &past, &remembered_before, &BTreeMap::new());
    let services_shown = services::statuses(&services, &observed, &all_progress, &services_before);
    // The usual host has none, and nobody asks for any.
    let of_services = services_shown.values().filter(|_| scene.has_services()).map(services::of_status);
    printed(&found)
        + &progress_of(&all_progress)
        + &services::progress_of(&all_progress)
        + &next(&found)
        + &told
        + &shown.collect::<String>()
        + &of_services.collect::<String>()
}

/// Shows every project that was looked at; `before` is how they were, so that "since" stays.
fn statuses(
    scene: &Scene,
    desired: &Desired,
    observed: &Observed,
    all_progress: &Progress,
    rules: &PlanConfig,
    (queue, route_trouble): (&[ProjectId], Option<&PortError>),
    before: &BTreeMap<ProjectId, Status>,
) -> BTreeMap<ProjectId, Status> {
    let unserved = &routes::unserved(observed, all_progress, rules, |order| scene.differing(order));
    let shown = desired.0.iter().filter_map(|(project, wanted)| {
        let (progress, seen) = (all_progress.projects.get(project)?, observed.projects.get(project)?);
        let view = status::StatusInput {
            project,
            wanted,
            progress,
            seen,
            before: before.get(project),
            observed,
            unserved,
            queue,
            route_error: route_trouble,
            template_error: None,
        };
        Some((project.clone(), status::compute(&view)))
    });
    shown.collect()
}

/// Writes an event down.
pub fn event(event: &Event) -> String {
    let Event { project, generation, release, level, reason, message, .. } = event;
    let whose = project.as_ref().map_or("all", |project| project.as_str());
    let generation = generation.map_or(String::new(), |generation| format!(" generation {generation}"));
    let release = release.map_or(String::new(), |release| format!(" release {release}"));
    let told = if *level == Level::Warning { "warns" } else { "tells" };
    format!("# {told} {whose}{generation}{release}: {reason}: {message}\n")
}

fn of_status(status: &Status) -> String {
    let Status { project, generation, observed_generation, owner, state, .. } = status;
    let mut text =
        format!("# {project} is {state}: generation {generation}, observed {observed_generation}, of {owner}");
    let numbers = [("serving", status.serving), ("candidate", status.candidate), ("last good", status.last_good)];
    let rejected = status.rejected.iter().map(|number| ("rejected", Some(*number)));
    for (name, number) in numbers.into_iter().chain(rejected) {
        text += &number.map_or(String::new(), |number| format!(", {name} {number}"));
    }
    text += "\n";
    for condition in &status.conditions {
        let since = seconds(condition.since);
        text += &format!(
            "#   {} {} since {since}: {}: {}\n",
            condition.kind.name(),
            if condition.holds { "True" } else { "False" },
            condition.reason,
            condition.message
        );
    }
    text + &status.processes.iter().map(of_process).chain(status.routes.iter().map(of_route)).collect::<String>()
}

fn of_process(process: &ProcessStatus) -> String {
    let ProcessStatus { name, release, unit, sub_state, restarts, last_run, .. } = process;
    let state = format!("{:?}", process.state).to_lowercase();
    let place =
        process.slot.zip(process.port).map_or(String::new(), |(slot, port)| format!(", slot {slot}, port {port}"));
    let since = process.since.map_or(String::new(), |since| format!(", since {}", seconds(since)));
    let used = process.cpu_seconds.map_or(String::new(), |seconds| format!(", {seconds} s of processor"));
    let ran = last_run.as_ref().map_or(String::new(), |run| format!(", its last run {}", run.result));
    format!("#   {name} of {release}: {unit} {state} {sub_state}, {restarts} restarts{place}{since}{used}{ran}\n")
}

fn of_route(route: &RouteStatus) -> String {
    let live = match (route.live, &route.failing) {
        (true, _) => "live",
        (false, Some(_)) => "failing",
        (false, None) => "not live",
    };
    let path = route.path.as_deref().unwrap_or_default();
    let certificate = route.certificate.as_ref().map_or(String::new(), |found| format!(", certificate {found}"));
    format!("#   {}{path} to {}: {live}{certificate}\n", route.host, route.to)
}

fn printed(plan: &Plan) -> String {
    let steps: Vec<Value> = plan.steps.iter().map(|step| serde_json::to_value(Shown::from(step)).unwrap()).collect();
    plan_text(&steps)
}

fn next(plan: &Plan) -> String {
    plan.requeue_at.map(|at| format!("# looks again at {}\n", seconds(at))).unwrap_or_default()
}

/// Writes a moment down, as scenes do.
pub fn seconds(at: Timestamp) -> String {
    if at.0.is_multiple_of(1000) { (at.0 / 1000).to_string() } else { format!("{}.{:03}", at.0 / 1000, at.0 % 1000) }
}

fn progress_of(all_progress: &Progress) -> String {
    let mut text = String::new();
    for (project, progress) in &all_progress.projects {
        of_project(project, progress, &mut text).unwrap();
    }
    text
}

fn of_project(project: &ProjectId, progress: &ProjectProgress, text: &mut String) -> std::fmt::Result {
    let number = |number: Option<ReleaseNo>| number.map_or("none".to_owned(), |number| number.to_string());
    write!(text, "# {project}: target {}, serving {}", number(progress.target_release()), number(progress.serving))?;
    if let Some(trial) = progress.rollout() {
        let marks = [
            (trial.is_proven(), ", proven"),
            (trial.command_done, ", released"),
            (trial.changeover_begun, ", changes over"),
        ];
        let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
        write!(text, "; on trial since {}{marks}", seconds(trial.since))?;
        if let Some(since) = trial.queued_since {
            write!(text, ", in the queue since {}", seconds(since))?;
        }
        if trial.queued_for != Span::default() {
            write!(text, ", waited {}", trial.queued_for)?;
        }
        for (unit, run) in &trial.earlier_runs {
            let restarts = run.restarts.map_or("on its way down".to_owned(), |restarts| format!("{restarts} restarts"));
            write!(text, "; {unit} is {} from before, {restarts}", run.invocation)?;
        }
        if let Some(fetch) = &trial.fetch {
            let FailedFetch { backoff, awaited_until } = fetch;
            write!(text, "; {} fetches failed, next at {}", backoff.failures, seconds(backoff.until))?;
            if let Some(until) = awaited_until {
                write!(text, "; awaits its artifact until {}", seconds(*until))?;
            }
        }
    }
    if let Some(draining) = &progress.draining {
        write!(text, "; {} drains until {}", draining.release, seconds(draining.until))?;
    }
    if let Some(held) = progress.kept_for_inspection() {
        write!(text, "; {held} is held")?;
    }
    if let Some(backoff) = &progress.backoff {
        write!(text, "; backs off until {}", seconds(backoff.until))?;
    }
    if let Some(since) = progress.suspended {
        write!(text, "; suspended since {}", seconds(since))?;
    }
    writeln!(text)?;
    for (number, release) in &progress.releases {
        let vetoed = if release.rolled_back { ", vetoed" } else { "" };
        let good = if release.was_healthy { ", good" } else { "" };
        let unfetched = if release.is_unfetched() { ", unfetched" } else { "" };
        let state = format!("{:?}", progress.state_of(*number)).to_lowercase() + unfetched;
        let turn = if release.promotion_seq > 0 { format!(", turn {}", release.promotion_seq) } else { String::new() };
        writeln!(text, "#   release {number}: {state}{good}{vetoed}, slot {}{turn}", release.slot)?;
        // A scene does not say why.
        let why = release.end.as_ref().map(End::cause).filter(|cause| **cause != Cause::unknown(cause.since));
        if let Some(Cause { reason, message, since }) = why {
            writeln!(text, "#     ended {}: {reason}: {message}", seconds(*since))?;
        }
    }
    let ports = progress.ports.iter().map(|(process, ports)| {
        let ports: Vec<String> = ports.iter().map(|ports| format!("{}/{}", ports.a, ports.b)).collect();
        format!("{process} {}", ports.join(" "))
    });
    let parts = [
        ("ports", ports.collect::<Vec<_>>()),
        ("hosts", progress.hosts.iter().map(ToString::to_string).collect()),
        ("routes", progress.routes.values().flatten().map(|route| route.host.to_string()).collect()),
    ];
    for (name, values) in parts.iter().filter(|(_, values)| !values.is_empty()) {
        writeln!(text, "#   {name}: {}", values.join(", "))?;
    }
    let quarantine = progress.quarantine.as_ref().map(Quarantine::cause);
    let stalls = [("stalled", &progress.stalled), ("waits", &progress.waits_for_services), ("quarantine", &quarantine)];
    for (name, stall) in stalls.into_iter().filter_map(|(name, stall)| Some((name, stall.as_ref()?))) {
        let Cause { reason, message, since } = stall;
        writeln!(text, "#   {name} since {}: {reason}: {message}", seconds(*since))?;
    }
    Ok(())
}

#[test]
fn every_scene_leads_to_the_plan_beside_it() {
    let mut differing = String::new();
    let scenes = scenes();
    assert!(scenes.len() > 30, "the scenes were found");
    for path in scenes {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(text.starts_with("# "), "{name} does not begin by saying what it shows");
        let found = std::panic::catch_unwind(|| told(&Scene::read(&text)));
        let found = found.unwrap_or_else(|_| panic!("{name} cannot be told"));
        let golden = path.with_extension("plan");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &found).unwrap();
        }
        if fs::read_to_string(&golden).unwrap_or_default() != found {
            differing += &format!("{name}.plan differs; it is now:\n{found}\n");
        }
    }
    assert!(differing.is_empty(), "{differing}");
}
