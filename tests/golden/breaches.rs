//! The second look at a plan, step by step: what each rule forbids, and the nearest case that it allows.

use zexio::model::names::{ProcessName, ProjectId, ReleaseNo, Slot, UnitId};
use zexio::plan::check::breaches;
use zexio::plan::{Action, Plan, ProjectAction, ProxyAction, Step, StepReason};

use crate::scene::Scene;

const SHOP: &str = "
projects:
  shop:
    spec: { artifact: v2, processes: { web: { run: ./shop, routes: [{ host: shop.example.com }] } } }
    generation: 2
";

/// Returns the promises that a step would break, as S1, S2 …
fn broken(scene: &str, action: ProjectAction) -> String {
    let (desired, observed, all_progress, _) = Scene::read(&format!("{SHOP}{scene}")).stage();
    let action = Action::Project(ProjectId::parse("shop").unwrap(), action);
    let step = Step { action: action.clone(), reason: StepReason::NotWanted };
    let found = breaches(&Plan { steps: vec![step], ..Plan::default() }, &desired, &observed, &all_progress);
    assert!(found.iter().all(|breach| breach.action == action.to_string()), "{found:?}");
    found.iter().map(|breach| breach.rule.split(':').next().unwrap_or_default()).collect()
}

fn web(release: u32) -> UnitId {
    let (project, process) = (ProjectId::parse("shop").unwrap(), ProcessName::parse("web").unwrap());
    UnitId { project, process, release: ReleaseNo(release), instance: None }
}

fn point(slot: Slot) -> ProjectAction {
    ProjectAction::SwitchTraffic(ProcessName::parse("web").unwrap(), slot)
}

const SERVES: &str = "
    remembered: { serving: 1, releases: { 1: { artifact: v1 } } }
    seen: { disk: [1], units: { 1: running } }
";

const PROVEN: &str = "
    remembered: { serving: 1, target: 2, trial: { since: 990, proven: true }, releases: { 1: { artifact: v1 }, 2: {} } }
    seen: { disk: [1, 2], units: { 1: running, 2: running } }
";

fn with(scene: &str, old: &str, new: &str) -> String {
    assert!(scene.contains(old), "{old}");
    scene.replace(old, new)
}

#[test]
fn the_serving_release_is_not_stopped() {
    assert_eq!(broken(SERVES, ProjectAction::Stop(web(1))), "S2");
    assert_eq!(broken(SERVES, ProjectAction::Stop(web(2))), "", "another one is");
    assert_eq!(broken(&format!("{SERVES}    delete: {{ keep_data: true }}\n"), ProjectAction::Stop(web(1))), "");
    let recreate = SHOP.replace("artifact: v2", "artifact: v2, deploy: { strategy: recreate }");
    let (desired, observed, all_progress, _) = Scene::read(&format!("{recreate}{SERVES}")).stage();
    let action = Action::Project(ProjectId::parse("shop").unwrap(), ProjectAction::Stop(web(1)));
    let steps = vec![Step { action, reason: StepReason::Recreate }];
    assert_eq!(breaches(&Plan { steps, ..Plan::default() }, &desired, &observed, &all_progress), []);
}

#[test]
fn traffic_is_pointed_only_at_what_runs_and_is_meant_to_have_it() {
    assert_eq!(broken(SERVES, point(Slot::A)), "", "it serves");
    assert_eq!(broken(SERVES, point(Slot::B)), "S1", "nothing is there");
    assert_eq!(broken(PROVEN, point(Slot::B)), "", "it is proven");
    assert_eq!(broken(PROVEN, point(Slot::A)), "S1", "a switch goes forward");
    assert_eq!(broken(&with(PROVEN, ", proven: true", ""), point(Slot::B)), "S1", "it is not proven");
    for down in ["failed 1", "stopped"] {
        assert_eq!(broken(&with(PROVEN, "2: running", &format!("2: {down}")), point(Slot::B)), "S1", "{down}");
        assert_eq!(
            broken(&with(SERVES, "1: running", &format!("1: {down}")), point(Slot::A)),
            "",
            "it goes back there"
        );
    }
    assert_eq!(broken(&with(PROVEN, "1: running", "1: stopped"), point(Slot::B)), "", "the old one may be down");
    assert_eq!(broken(&with(PROVEN, "disk", "unknown: [units], disk"), point(Slot::B)), "S1", "nobody can see it");
}

#[test]
fn nothing_is_removed_that_runs_or_was_started_from() {
    let remove = |release| ProjectAction::RemoveRelease(ReleaseNo(release));
    assert_eq!(broken(SERVES, remove(1)), "S3");
    assert_eq!(broken(SERVES, remove(2)), "", "no unit is of it");
    assert_eq!(broken(&with(SERVES, "disk", "unknown: [units], disk"), remove(2)), "S3", "some unit may be of it");
    assert_eq!(broken(SERVES, ProjectAction::RemoveUnit(web(1))), "S3");
    assert_eq!(broken(SERVES, ProjectAction::RemoveUnit(web(2))), "S3", "it was not seen");
    assert_eq!(broken(&with(SERVES, "1: running", "1: stopped"), ProjectAction::RemoveUnit(web(1))), "", "it is down");
}

#[test]
fn a_project_goes_only_when_that_is_wanted_and_is_forgotten_last() {
    const GONE: &str = "
    delete: { keep_data: true }
    remembered: { serving: 1, routes: {}, releases: { 1: { artifact: v1 } } }
    seen: { prepared: false, data: true }
";
    let files = ProjectAction::RemoveFiles { keep_data: true };
    assert_eq!(broken(SERVES, files.clone()), "S9");
    assert_eq!(broken(SERVES, ProjectAction::DeleteRecord), "S9");
    assert_eq!(broken(GONE, files), "");
    assert_eq!(broken(GONE, ProjectAction::DeleteRecord), "");
    let left = with(GONE, "prepared: false", "prepared: true");
    assert_eq!(broken(&left, ProjectAction::DeleteRecord), "S6", "its directory is left");
}

#[test]
fn a_suspended_project_is_not_touched() {
    let held = |until| format!("{SERVES}    suspension: {until}\n");
    assert_eq!(broken(&held(1001), ProjectAction::ReloadSystemd), "S12");
    assert_eq!(broken(&held(1000), ProjectAction::ReloadSystemd), "", "that is over");
}

#[test]
fn a_step_of_no_project_breaks_no_promise_to_one() {
    let (desired, observed, all_progress, _) = Scene::read(&format!("{SHOP}{SERVES}    suspension: 1001\n")).stage();
    let step = Step { action: Action::Proxy(ProxyAction::Start), reason: StepReason::ProxyDown };
    assert_eq!(breaches(&Plan { steps: vec![step], ..Plan::default() }, &desired, &observed, &all_progress), []);
}
