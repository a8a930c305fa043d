//! A project's life, step by step, as the operator and the visitors see it.

use zexio::model::names::{ProjectId, ReleaseNo, Slot};
use zexio::model::observed::ActiveState;
use zexio::model::quantity::Span;
use zexio::model::reason::Reason;
use zexio::model::status::{ConditionKind, ProjectState};

use crate::world::Life;

fn shop() -> ProjectId {
    ProjectId::parse("shop").unwrap()
}

#[test]
fn a_new_project_serves_and_then_the_plan_is_empty() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    assert_eq!(life.serving("shop"), Some(1));
    let status = life.status("shop");
    assert_eq!((status.observed_generation, status.state), (1, ProjectState::Running));
    assert_eq!(life.plan(), Vec::<String>::new());
    assert_eq!(life.running().into_iter().collect::<Vec<_>>(), ["zexio-shop-web-r1.service"]);
}

#[test]
fn traffic_moves_only_after_the_new_release_was_healthy_and_the_old_one_stops_only_after_its_drain() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    life.want("shop", "good-2");
    let calls = life.settle();
    let of_shop: Vec<&str> = calls.iter().map(String::as_str).filter(|call| *call != "load routes").collect();
    assert_eq!(
        of_shop,
        [
            "fetch shop 2",
            "write zexio-shop-web-r2.service",
            "start zexio-shop-web-r2.service",
            "enable zexio-shop-web-r2.service",
            "point shop web b",
            "link shop 2",
            "stop zexio-shop-web-r1.service",
            "remove zexio-shop-web-r1.service",
        ]
    );
    assert!(!calls.contains(&"load routes".to_owned()), "a deploy never touches Caddy's configuration");
    assert_eq!(life.world.lock().slot(&shop(), "web"), Slot::B);
}

#[test]
fn a_release_that_fails_leaves_the_old_one_as_it_was() {
    for (bad, reason, said) in [
        ("never-ready", Reason::HealthCheckFailed, "GET /up answered 503"),
        ("exits", Reason::HealthCheckFailed, "exited with status 3"),
        ("missing", Reason::ArtifactFailed, "404"),
    ] {
        let mut life = Life::begin();
        life.want("shop", "good-1");
        life.settle();
        let before = life.world.lock().units.clone();
        life.want("shop", bad);
        life.settle();
        assert_eq!(life.serving("shop"), Some(1), "{bad}");
        assert_eq!(life.world.lock().units, before, "{bad}");
        let status = life.status("shop");
        let stalled = status.condition(ConditionKind::Stalled).expect("stalled");
        assert_eq!(stalled.reason, reason, "{bad}");
        assert!(stalled.message.contains(said) && stalled.message.contains("release 1 serves"), "{}", stalled.message);
        assert_eq!(status.rejected.iter().map(|n| n.0).collect::<Vec<_>>(), [2], "{bad}");
        assert_eq!(status.observed_generation, 2);
        let machine = life.world.lock();
        let release = &machine.progress.projects[&shop()].releases[&ReleaseNo(2)];
        let evidence = release.rejected().unwrap().evidence.clone().expect("what it showed is kept");
        assert_eq!(evidence.log.is_empty(), bad == "missing", "{bad}: {evidence:?}");
    }
}

#[test]
fn a_rollback_needs_no_network() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    life.want("shop", "good-2");
    life.settle();
    life.world.lock().network = false;
    life.want_spec("shop", "release: 1", "");
    let calls = life.settle();
    assert_eq!(life.serving("shop"), Some(1));
    assert!(!calls.iter().any(|call| call.starts_with("fetch")), "{calls:?}");
}

#[test]
fn another_variable_needs_no_network() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    life.world.lock().network = false;
    life.want_spec("shop", "url: 'https://a.example.com/good-1'", "env: { ANOTHER: variable }");
    life.settle();
    assert_eq!(life.serving("shop"), Some(2));
}

#[test]
fn what_never_served_says_nothing_of_what_is_behind_its_url() {
    let mut life = Life::begin();
    life.want("shop", "exits-1");
    life.settle();
    life.world.lock().network = false;
    life.want_spec("shop", "url: 'https://a.example.com/exits-1'", "env: { ANOTHER: variable }");
    life.settle();
    assert_eq!(life.status("shop").rejected, [ReleaseNo(1), ReleaseNo(2)], "it could not be fetched anew");
}

#[test]
fn a_rollback_during_the_drain_takes_the_draining_instance_back() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    life.want("shop", "good-2");
    while life.serving("shop") != Some(2) {
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    life.want_spec("shop", "release: 1", "");
    let calls = life.settle();
    assert_eq!(life.serving("shop"), Some(1));
    assert!(!calls.iter().any(|call| call.contains("start zexio-shop-web-r1")), "it never stopped: {calls:?}");
}

#[test]
fn what_never_served_cannot_be_gone_back_to() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    life.want("shop", "never-ready");
    life.settle();
    life.want_spec("shop", "release: 2", "");
    life.settle();
    assert_eq!(life.serving("shop"), Some(1));
    assert_eq!(life.status("shop").condition(ConditionKind::Stalled).unwrap().reason, Reason::ReleaseUnknown);
}

#[test]
fn a_newer_wish_ends_the_rollout_before_it() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    life.want("shop", "good-2");
    for _ in 0..3 {
        life.pass();
        life.world.lock().tick(Span(200));
    }
    life.want("shop", "good-3");
    life.settle();
    assert_eq!(life.serving("shop"), Some(3));
    assert_eq!(life.running().len(), 1);
}

#[test]
fn a_deleted_project_leaves_nothing() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.want("blog", "good-1");
    life.settle();
    life.delete("shop");
    let calls = life.settle();
    let machine = life.world.lock();
    assert!(!machine.desired.0.contains_key(&shop()));
    assert!(machine.units.keys().all(|unit| unit.project != shop()));
    assert!(!machine.proxy.text.as_ref().unwrap().contains("shop.example.com"));
    assert!(machine.proxy.text.as_ref().unwrap().contains("blog.example.com"));
    assert_eq!(calls[0], "load routes", "visitors are turned away before the app stops: {calls:?}");
}

#[test]
fn an_agent_that_dies_at_any_pass_changes_nothing_for_the_app() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    life.want("shop", "good-2");
    for _ in 0..60 {
        life.restart_agent();
        life.pass();
        life.world.lock().tick(Span(700));
    }
    life.settle();
    assert_eq!(life.serving("shop"), Some(2));
    let starts = life.world.lock().calls.iter().filter(|call| call.starts_with("start zexio-shop")).count();
    assert_eq!(starts, 2);
}

#[test]
fn a_facet_that_cannot_be_read_is_not_an_empty_one() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    life.world.lock().blind.units = true;
    life.delete("shop");
    for _ in 0..10 {
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    assert!(life.running().contains("zexio-shop-web-r1.service"));
    assert!(life.world.lock().desired.0.contains_key(&shop()));
    life.world.lock().blind.units = false;
    life.settle();
    assert!(life.running().is_empty());
}

#[test]
fn what_a_stranger_breaks_is_mended_without_a_restart_of_what_runs() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    let unit = life.world.lock().units.keys().next().cloned().unwrap();
    {
        let mut machine = life.world.lock();
        machine.units.get_mut(&unit).unwrap().text = Some("edited".into());
        machine.units.get_mut(&unit).unwrap().enabled = false;
        machine.bundles.get_mut(&shop()).unwrap().link = None;
        machine.proxy.live = false;
    }
    let calls = life.settle();
    assert!(!calls.iter().any(|call| call.starts_with("start") || call.starts_with("stop")), "{calls:?}");
    life.world.lock().units.get_mut(&unit).unwrap().state = ActiveState::Inactive;
    assert_eq!(life.settle(), ["start zexio-shop-web-r1.service"]);
}

#[test]
fn the_first_project_keeps_a_host_and_the_second_gets_it_once_it_is_free() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    let claim = "  api: { run: ./api, routes: [{ host: shop.example.com, path: /api/* }] }";
    life.want_spec("thief", "url: 'https://a.example.com/good-1'", claim);
    life.settle();
    let stalled = life.status("thief").condition(ConditionKind::Stalled).cloned().unwrap();
    assert_eq!(stalled.reason, Reason::Conflict);
    assert!(stalled.message.contains("shop"), "{}", stalled.message);
    life.delete("shop");
    life.settle();
    assert_eq!(life.serving("thief"), Some(1));
}

#[test]
fn changed_routes_start_no_process() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    life.want_spec("shop", "url: 'https://a.example.com/good-1'", "    x-note: same\nkeep: 4");
    assert_eq!(life.settle(), Vec::<String>::new());
    assert_eq!(life.status("shop").observed_generation, 2);
}

#[test]
fn an_app_that_cannot_run_twice_stops_first_and_comes_back_when_the_new_one_fails() {
    let mut life = Life::begin();
    life.want_spec("shop", "url: 'https://a.example.com/good-1'", "deploy: { strategy: recreate }");
    life.settle();
    life.want_spec("shop", "url: 'https://a.example.com/never-ready'", "deploy: { strategy: recreate }");
    let calls = life.settle();
    let at = |call: &str| calls.iter().position(|other| other == call);
    assert!(at("stop zexio-shop-web-r1.service") < at("start zexio-shop-web-r2.service"), "{calls:?}");
    assert_eq!(life.serving("shop"), Some(1));
    assert_eq!(life.running().into_iter().collect::<Vec<_>>(), ["zexio-shop-web-r1.service"]);
}

#[test]
fn no_more_releases_are_kept_than_asked() {
    let mut life = Life::begin();
    for n in 1..=6 {
        life.want_spec("shop", &format!("url: 'https://a.example.com/good-{n}'"), "keep: 2");
        life.settle();
    }
    let kept: Vec<u32> = life.world.lock().bundles[&shop()].releases.keys().map(|release| release.0).collect();
    assert_eq!(kept, [3, 4, 5, 6], "the serving one, the last good one, and two more");
}

#[test]
fn a_suspended_project_is_watched_and_not_touched() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    life.want_spec("shop", "url: 'https://a.example.com/good-2'", "suspend: { reason: night }");
    assert_eq!(life.settle(), Vec::<String>::new());
    let status = life.status("shop");
    assert!(status.condition(ConditionKind::Suspended).unwrap().message.contains("night"));
    assert_eq!(status.serving.map(|n| n.0), Some(1));
}

#[test]
fn a_refused_host_is_left_out_and_the_others_of_its_project_and_of_all_are_applied() {
    let mut life = Life::begin();
    life.want_text(
        "zexio: 1\nproject: refused\nartifact: { url: 'https://a.example.com/good-1' }\nprocesses:\n  web:\n    run: ./app\n    ready: { http: /up, within: 10s }\n    routes: [{ host: refused.example.com }, { host: fine.example.com }]\n",
    );
    life.want("shop", "good-1");
    life.settle();
    let text = life.world.lock().proxy.text.clone().unwrap();
    assert!(text.contains("shop.example.com") && text.contains("fine.example.com"), "{text}");
    assert!(!text.contains("refused.example.com"), "{text}");
    let status = life.status("refused");
    let live: Vec<(&str, bool)> = status.routes.iter().map(|route| (route.host.as_str(), route.live)).collect();
    assert_eq!(live, [("refused.example.com", false), ("fine.example.com", true)]);
    let stalled = status.condition(ConditionKind::Stalled).unwrap();
    assert_eq!(stalled.reason, Reason::RouteRefused);
    let said = "refused.example.com is left out, since Caddy refuses it: ambiguous site";
    assert!(stalled.message.starts_with(said), "{}", stalled.message);
    assert_eq!(life.status("shop").state, ProjectState::Running);
    assert!(life.running().contains("zexio-refused-web-r1.service"), "the app itself runs on");

    // What stood against it goes, without a word to the agent.
    life.world.lock().refused = None;
    life.settle();
    assert_eq!(life.status("refused").state, ProjectState::Running);
    assert!(life.world.lock().proxy.text.clone().unwrap().contains("refused.example.com"));
}

#[test]
fn what_failed_or_was_left_behind_is_not_brought_back_by_a_door() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    life.want("shop", "never-ready");
    life.settle();
    life.want("shop", "good-2");
    life.settle();
    life.want_spec("shop", "release: 1", "");
    life.settle();
    let vetoed = |life: &Life, name: &str| {
        let text = format!("{{\"url\": \"https://a.example.com/{name}\"}}");
        let artifact: zexio::model::spec::Artifact = serde_json::from_str(&text).unwrap();
        life.world.lock().progress.projects[&shop()].release_blocking(&artifact).map(|release| release.0)
    };
    assert_eq!(vetoed(&life, "never-ready"), Some(2));
    assert_eq!(vetoed(&life, "good-2"), Some(3), "it was rolled back from");
    assert_eq!(vetoed(&life, "good-1"), None);
    life.want("shop", "good-4");
    life.settle();
    assert_eq!(vetoed(&life, "good-2"), None, "a different version has arrived and holds");
}

#[test]
fn artifacts_of_kept_releases_stay_and_others_go_after_a_day() {
    let mut life = Life::begin();
    for n in 1..=6 {
        life.want_spec("shop", &format!("url: 'https://a.example.com/good-{n}'"), "keep: 2");
        life.settle();
    }
    assert_eq!(life.world.lock().artifacts.len(), 6, "none goes at once: it may have been sent ahead");
    life.world.lock().tick(Span::seconds(25 * 3600));
    life.settle();
    assert_eq!(life.world.lock().artifacts.len(), 4, "those of the kept releases");
    assert_eq!(life.plan(), Vec::<String>::new());
}

#[test]
fn a_candidate_that_falls_between_its_proof_and_the_switch_gets_no_traffic() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    life.want("shop", "good-2");
    let proven = |life: &Life| {
        let machine = life.world.lock();
        machine.progress.projects[&shop()].rollout().is_some_and(|rollout| rollout.is_proven())
    };
    // The agent dies with the proof on disk and before its first step.
    life.world.lock().deaf = true;
    while !proven(&life) {
        let started = life.world.lock().calls.iter().any(|call| call.starts_with("start zexio-shop-web-r2"));
        life.world.lock().deaf = started;
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    let candidate = life.world.lock().units.keys().find(|unit| unit.release == ReleaseNo(2)).cloned().unwrap();
    {
        let mut machine = life.world.lock();
        machine.deaf = false;
        machine.ready.remove(&candidate);
        machine.units.get_mut(&candidate).unwrap().state = ActiveState::Inactive;
    }
    life.restart_agent();
    life.pass();
    assert!(!life.world.lock().calls.iter().any(|call| call == "point shop web b"));
    life.settle();
    assert_eq!(life.serving("shop"), Some(2), "once it is healthy again it takes over");
}

const VERIFY: &str = "deploy: { min_healthy: 2s, drain: 10s, verify: { http: /up, within: 5s } }";

#[test]
fn a_release_that_is_not_verified_gives_the_traffic_back_and_one_that_is_serves() {
    let mut life = Life::begin();
    life.want_spec("shop", "url: \"https://a.example.com/good-1\"", VERIFY);
    life.settle();
    assert_eq!(life.serving("shop"), Some(1));
    let before = life.world.lock().units.clone();
    life.want_spec("shop", "url: \"https://a.example.com/unverified\"", VERIFY);
    let calls = life.settle();
    assert!(
        calls.contains(&"point shop web b".to_owned()) && calls.contains(&"point shop web a".to_owned()),
        "{calls:?}"
    );
    let status = life.status("shop");
    let stalled = status.condition(ConditionKind::Stalled).expect("stalled");
    assert_eq!((life.serving("shop"), stalled.reason), (Some(1), Reason::VerifyFailed));
    assert!(
        stalled.message.contains("answered 500") && stalled.message.contains("release 1 serves"),
        "{}",
        stalled.message
    );
    assert_eq!(life.world.lock().units, before);
    assert_eq!(life.world.lock().slot(&shop(), "web"), Slot::A);
    life.want_spec("shop", "url: \"https://a.example.com/good-3\"", VERIFY);
    life.settle();
    assert_eq!((life.serving("shop"), life.plan()), (Some(3), Vec::new()));
    assert_eq!(life.world.lock().unserved, Vec::<String>::new());
}

#[test]
fn a_first_release_that_is_not_verified_leaves_no_route() {
    let mut life = Life::begin();
    life.want_spec("shop", "url: \"https://a.example.com/unverified\"", VERIFY);
    life.settle();
    assert_eq!(life.serving("shop"), None);
    assert_eq!(life.status("shop").condition(ConditionKind::Stalled).expect("stalled").reason, Reason::VerifyFailed);
    assert_eq!(life.running().len(), 0);
    assert!(!life.world.lock().proxy.text.as_ref().is_some_and(|text| text.contains("shop.example.com")));
}
