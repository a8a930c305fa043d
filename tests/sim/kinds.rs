//! The kinds of processes: several instances, a calendar, a release command, a static site.

use zexio::model::names::{ProjectId, Slot};
use zexio::model::observed::ActiveState;
use zexio::model::quantity::Span;
use zexio::model::reason::Reason;
use zexio::model::status::{ConditionKind, ProjectState};

use crate::world::Life;

fn spec(artifact: &str, processes: &str, rest: &str) -> String {
    format!(
        "zexio: 1\nproject: shop\nartifact: {{ url: 'https://a.example.com/{artifact}' }}\n{rest}\nprocesses:\n{processes}\n"
    )
}

const WEB: &str = "  web: { run: ./app, ready: { http: /up, within: 10s }, routes: [{ host: shop.example.com }] }";

fn web(instances: u32) -> String {
    WEB.replace("{ run", &format!("{{ instances: {instances}, run"))
}

fn position(calls: &[String], call: &str) -> usize {
    calls.iter().position(|other| other == call).unwrap_or_else(|| panic!("{call} is not in {calls:?}"))
}

#[test]
fn all_instances_of_a_release_take_over_at_once() {
    let mut life = Life::begin();
    life.want_text(&spec("good-1", &web(3), ""));
    life.settle();
    life.want_text(&spec("good-2", &web(3), ""));
    let calls = life.settle();
    let switch = position(&calls, "point shop web b");
    for instance in 1..=3 {
        assert!(position(&calls, &format!("start zexio-shop-web-r2-{instance}.service")) < switch);
        assert!(position(&calls, &format!("stop zexio-shop-web-r1-{instance}.service")) > switch);
    }
    assert!(!calls.contains(&"load routes".to_owned()), "as many as before: Caddy's configuration stays");
    assert_eq!(life.running().len(), 3);
}

#[test]
fn more_instances_are_in_caddys_configuration_before_they_get_traffic() {
    let mut life = Life::begin();
    life.want_text(&spec("good-1", &web(1), ""));
    life.settle();
    life.want_text(&spec("good-1", &web(2), ""));
    let calls = life.settle();
    assert!(position(&calls, "load routes") < position(&calls, "point shop web b"), "{calls:?}");
    assert_eq!(life.serving("shop"), Some(2));
    assert_eq!(life.plan(), Vec::<String>::new());
}

#[test]
fn a_release_command_runs_once_before_any_process_and_not_again_for_a_new_agent() {
    let mut life = Life::begin();
    life.want_text(&spec("good-1", WEB, "release: { run: ./migrate }"));
    for _ in 0..40 {
        life.restart_agent();
        life.pass();
        life.world.lock().tick(Span(500));
    }
    life.settle();
    let calls = life.world.lock().calls.clone();
    assert!(
        position(&calls, "start zexio-shop-release-r1.service") < position(&calls, "start zexio-shop-web-r1.service")
    );
    assert_eq!(calls.iter().filter(|call| *call == "start zexio-shop-release-r1.service").count(), 1);
    assert!(calls.contains(&"remove zexio-shop-release-r1.service".to_owned()));
    assert_eq!(life.running().into_iter().collect::<Vec<_>>(), ["zexio-shop-web-r1.service"]);
}

#[test]
fn a_release_command_that_fails_stops_the_rollout_before_any_process_starts() {
    let mut life = Life::begin();
    life.want_text(&spec("good-1", WEB, "release: { run: ./migrate }"));
    life.settle();
    life.want_text(&spec("unmigrated", WEB, "release: { run: ./migrate }"));
    let calls = life.settle();
    let stalled = life.status("shop").condition(ConditionKind::Stalled).cloned().unwrap();
    assert_eq!(stalled.reason, Reason::ReleaseCommandFailed);
    assert!(stalled.message.contains("status 1"), "{}", stalled.message);
    assert!(!calls.iter().any(|call| call == "start zexio-shop-web-r2.service"), "{calls:?}");
    assert_eq!(life.serving("shop"), Some(1));
}

#[test]
fn a_timer_passes_from_release_to_release_and_what_it_started_finishes() {
    let timed = format!("{WEB}\n  nightly: {{ run: ./report, schedule: '*-*-* 03:00' }}");
    let mut life = Life::begin();
    life.want_text(&spec("good-1", &timed, ""));
    let calls = life.settle();
    assert!(calls.contains(&"arm zexio-shop-nightly-r1.timer".to_owned()));
    assert!(!calls.iter().any(|call| call == "start zexio-shop-nightly-r1.service"), "its time has not come");
    let report = life.world.lock().units.keys().find(|unit| unit.process.as_str() == "nightly").cloned().unwrap();
    life.world.lock().units.get_mut(&report).unwrap().state = ActiveState::Activating;
    life.want_text(&spec("good-2", &timed, ""));
    for _ in 0..60 {
        life.pass();
        let mut machine = life.world.lock();
        machine.tick(Span::seconds(1));
        // It is a long report.
        machine.units.get_mut(&report).unwrap().state = ActiveState::Activating;
    }
    let calls = life.world.lock().calls.clone();
    assert!(
        position(&calls, "disarm zexio-shop-nightly-r1.timer") < position(&calls, "arm zexio-shop-nightly-r2.timer")
    );
    assert!(!calls.contains(&"stop zexio-shop-nightly-r1.service".to_owned()), "{calls:?}");
    assert_eq!(life.status("shop").state, ProjectState::Running);
    life.world.lock().units.get_mut(&report).unwrap().state = ActiveState::Inactive;
    life.settle();
    assert!(!life.world.lock().units.contains_key(&report));
    assert_eq!(life.plan(), Vec::<String>::new());
}

#[test]
fn a_static_site_runs_nothing_and_moves_with_the_bundle_link() {
    let site = "  docs: { static: public, routes: [{ host: docs.example.com }] }";
    let mut life = Life::begin();
    life.want_text(&spec("good-1", site, ""));
    life.settle();
    assert_eq!(life.serving("shop"), Some(1));
    assert!(life.world.lock().proxy.text.as_ref().unwrap().contains("root * /zexio/apps/shop/bundle/public"));
    life.want_text(&spec("good-2", site, ""));
    assert_eq!(life.settle(), ["fetch shop 2", "link shop 2"]);
    assert!(life.running().is_empty());
    let shop = ProjectId::parse("shop").unwrap();
    assert_eq!(life.world.lock().slot(&shop, "docs"), Slot::A);
}

#[test]
fn a_fetch_that_nobody_needs_any_more_is_ended() {
    let mut life = Life::begin();
    life.want_text(&spec("good-1", WEB, ""));
    life.settle();
    life.want_text(&spec("good-2", WEB, ""));
    life.pass();
    life.want_text(&spec("good-1", WEB, ""));
    let calls = life.settle();
    assert_eq!(calls, ["cancel shop 2"]);
    assert_eq!(life.serving("shop"), Some(1));
}
