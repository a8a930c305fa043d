//! Claims about host services: what the loop makes of the package manager's work.

use zexio::model::desired::{DesiredService, Owner, ServiceIntent};
use zexio::model::event::Level;
use zexio::model::observed::{ActiveState, ServiceSeen};
use zexio::model::quantity::{Span, Timestamp};
use zexio::model::reason::Reason;
use zexio::model::services::{Service, Version};
use zexio::model::status::{ConditionKind, ServiceState};
use zexio::plan::services::VERSION_UNAVAILABLE;

use crate::world::Life;
use crate::world::host::{Work, installation};

const REDIS: Service = Service::Redis;
const NODE: Service = Service::Nodejs;

fn intend(life: &Life, service: Service, intent: ServiceIntent) {
    let mut machine = life.world.lock();
    let generation = machine.host.wanted.get(&service).map_or(1, |wanted| wanted.generation + 1);
    machine.host.wanted.insert(service, DesiredService { generation, intent, owner: Owner::Api, refusal: None });
}

fn install(life: &Life, service: Service, version: Version) {
    intend(life, service, ServiceIntent::Install(version));
}

fn remove(life: &Life, service: Service, purge: bool) {
    intend(life, service, ServiceIntent::Remove { purge });
}

fn there(life: &Life, service: Service, major: u32) {
    let seen = ServiceSeen { installed: [(major, installation(service, major))].into(), data: true, job: None };
    life.world.lock().host.seen.insert(service, seen);
}

/// Returns a service's state and reason.
fn state(life: &Life, service: Service) -> (ServiceState, Reason) {
    let machine = life.world.lock();
    let status = &machine.host.statuses[&service];
    (status.state, status.reason)
}

fn is(life: &Life, service: Service, expected: ServiceState, reason: Reason) {
    assert_eq!(state(life, service), (expected, reason), "{service}");
}

#[test]
fn a_service_is_installed_started_and_enabled_once() {
    let mut life = Life::begin();
    life.pass();
    is(&life, REDIS, ServiceState::Absent, Reason::NotInstalled);
    install(&life, REDIS, Version::Default);
    assert_eq!(life.plan(), ["+ install redis default"]);
    life.pass();
    life.pass();
    is(&life, REDIS, ServiceState::Installing, Reason::Installing);
    assert_eq!(life.settle(), ["start redis.service", "enable redis"]);
    is(&life, REDIS, ServiceState::Running, Reason::Running);
    assert_eq!(life.plan(), Vec::<String>::new());
    life.world
        .lock()
        .host
        .seen
        .get_mut(&REDIS)
        .unwrap()
        .installed
        .get_mut(&18)
        .unwrap()
        .daemon
        .as_mut()
        .unwrap()
        .state = ActiveState::Inactive;
    assert_eq!(life.settle(), ["start redis.service"], "stopped by hand, it is started again");
}

#[test]
fn an_installation_can_be_followed_by_its_events() {
    let mut life = Life::begin();
    let told = |life: &Life| {
        let events = life.world.lock().events.clone();
        let of_redis = events.into_iter().filter(|event| event.message.starts_with("redis: "));
        of_redis.map(|event| (event.level, event.reason, event.message)).collect::<Vec<_>>()
    };
    install(&life, REDIS, Version::Default);
    life.settle();
    life.restart_agent();
    life.settle();
    let lines = told(&life);
    let reasons: Vec<Reason> = lines.iter().map(|(_, reason, _)| *reason).collect();
    assert_eq!(reasons, [Reason::Installing, Reason::Installing, Reason::Starting, Reason::Running], "{lines:?}");
    assert!(lines[1].2.contains("installing redis default: reading"), "{lines:?}");

    life.world.lock().host.fails_with = Some(100);
    install(&life, REDIS, Version::Major(9));
    for _ in 0..10 {
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    // The next try may have begun by now.
    let (_, reason, message) = told(&life).into_iter().rfind(|(level, _, _)| *level == Level::Warning).unwrap();
    assert_eq!(reason, Reason::PackagesFailed);
    assert!(message.contains("next try at") && message.ends_with("its last output: E: no such package"), "{message}");
}

#[test]
fn a_removal_keeps_the_data_unless_it_is_purged() {
    for purge in [false, true] {
        let mut life = Life::begin();
        install(&life, REDIS, Version::Default);
        life.settle();
        remove(&life, REDIS, purge);
        life.settle();
        let machine = life.world.lock();
        assert!(machine.host.seen[&REDIS].installed.is_empty() && machine.host.seen[&REDIS].data != purge);
        assert!(machine.host.wanted.is_empty() && machine.progress.services.is_empty());
        drop(machine);
        is(&life, REDIS, ServiceState::Absent, Reason::NotInstalled);
    }
}

#[test]
fn a_wish_that_changes_while_the_package_manager_works_is_no_failure() {
    let mut life = Life::begin();
    install(&life, REDIS, Version::Default);
    life.pass();
    life.pass();
    remove(&life, REDIS, false);
    for _ in 0..20 {
        life.pass();
        let failed = life.world.lock().host.statuses[&REDIS].state == ServiceState::Failed;
        assert!(!failed, "{:?}", life.world.lock().host.statuses[&REDIS]);
        life.world.lock().tick(Span::seconds(1));
    }
    is(&life, REDIS, ServiceState::Absent, Reason::NotInstalled);
}

#[test]
fn what_nobody_asked_for_is_never_touched_and_what_was_there_before_stays() {
    let mut life = Life::begin();
    life.settle();
    there(&life, REDIS, 7);
    there(&life, NODE, 20);
    assert_eq!(life.settle(), Vec::<String>::new());
    is(&life, REDIS, ServiceState::Installed, Reason::Unmanaged);
    install(&life, NODE, Version::Default);
    assert_eq!(life.settle(), Vec::<String>::new(), "an even major is one with long-term support");
    is(&life, NODE, ServiceState::Installed, Reason::Installed);
    remove(&life, NODE, true);
    assert_eq!(life.settle(), ["forget nodejs"]);
    is(&life, NODE, ServiceState::Installed, Reason::Unmanaged);
    // A major beside it is brought, and only that one goes.
    there(&life, Service::Postgresql, 15);
    install(&life, Service::Postgresql, Version::Major(16));
    life.settle();
    remove(&life, Service::Postgresql, false);
    life.settle();
    let left: Vec<u32> = life.world.lock().host.seen[&Service::Postgresql].installed.keys().copied().collect();
    assert_eq!(left, [15]);
}

#[test]
fn a_failure_backs_off_with_its_evidence_and_passes() {
    let mut life = Life::begin();
    life.world.lock().host.fails_with = Some(100);
    install(&life, REDIS, Version::Default);
    for _ in 0..120 {
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    let tries = life.world.lock().calls.iter().filter(|call| call.starts_with("install")).count();
    assert!((3..=6).contains(&tries), "{tries} tries in two minutes");
    is(&life, REDIS, ServiceState::Failed, Reason::PackagesFailed);
    let status = life.world.lock().host.statuses[&REDIS].clone();
    assert!(status.message.contains("no such package; failed "), "{}", status.message);
    assert_eq!(status.evidence, ["E: no such package"]);
    life.world.lock().host.fails_with = None;
    for _ in 0..120 {
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    is(&life, REDIS, ServiceState::Running, Reason::Running);
    assert!(life.world.lock().host.statuses[&REDIS].evidence.is_empty());
}

#[test]
fn a_clock_that_jumps_back_puts_no_try_off() {
    let mut life = Life::begin();
    life.world.lock().now = Timestamp(1_700_000_000_000);
    life.world.lock().host.fails_with = Some(100);
    install(&life, REDIS, Version::Default);
    for _ in 0..5 {
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    is(&life, REDIS, ServiceState::Failed, Reason::PackagesFailed);
    life.world.lock().host.fails_with = None;
    life.world.lock().now = Timestamp(1_600_000_000_000);
    for _ in 0..20 {
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    is(&life, REDIS, ServiceState::Running, Reason::Running);
}

#[test]
fn a_failed_step_is_followed_by_a_look_that_waits_no_longer_than_its_pause() {
    let mut life = Life::begin();
    life.settle();
    install(&life, REDIS, Version::Default);
    life.world.lock().host.work.insert(REDIS, Work::unseen());
    let begun = life.world.lock().now;
    let mut requeue_at = life.pass();
    assert_eq!(requeue_at, Some(begun), "the step failed, and the next pass sees to it");
    requeue_at = life.pass();
    assert!(requeue_at.is_some_and(|moment| moment <= begun.after(Span::seconds(10))), "{requeue_at:?}");
}

#[test]
fn work_that_a_reboot_cut_off_is_told_and_done_again() {
    let mut life = Life::begin();
    install(&life, REDIS, Version::Default);
    life.pass();
    life.pass();
    {
        let mut machine = life.world.lock();
        machine.host.work.clear();
        machine.host.seen.get_mut(&REDIS).unwrap().job = None;
    }
    life.pass();
    is(&life, REDIS, ServiceState::Failed, Reason::PackagesFailed);
    for _ in 0..20 {
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    is(&life, REDIS, ServiceState::Running, Reason::Running);
    let calls = life.world.lock().calls.clone();
    assert_eq!(calls.iter().filter(|call| call.starts_with("install")).count(), 2, "{calls:?}");
}

#[test]
fn a_version_that_is_not_on_offer_is_named_until_another_one_is_asked_for() {
    let mut life = Life::begin();
    life.world.lock().host.fails_with = Some(VERSION_UNAVAILABLE);
    install(&life, NODE, Version::Major(99));
    life.settle();
    is(&life, NODE, ServiceState::Failed, Reason::VersionUnavailable);
    life.world.lock().host.fails_with = None;
    install(&life, NODE, Version::Major(18));
    life.settle();
    is(&life, NODE, ServiceState::Installed, Reason::Installed);
}

#[test]
fn work_that_fails_for_the_wish_before_holds_up_no_other() {
    let mut life = Life::begin();
    install(&life, NODE, Version::Major(99));
    life.pass();
    life.pass();
    install(&life, NODE, Version::Default);
    for _ in 0..20 {
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    is(&life, NODE, ServiceState::Installed, Reason::Installed);
}

#[test]
fn a_daemon_that_falls_again_and_again_is_not_started_in_a_circle() {
    let mut life = Life::begin();
    life.world.lock().host.daemons_fall = true;
    install(&life, REDIS, Version::Default);
    for _ in 0..120 {
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    let starts = life.world.lock().calls.iter().filter(|call| call.starts_with("start")).count();
    assert!((3..=6).contains(&starts), "{starts} starts in two minutes");
    is(&life, REDIS, ServiceState::Failed, Reason::ServiceDown);
}

#[test]
fn a_machine_that_cannot_be_looked_at_is_not_worked_on() {
    let mut life = Life::begin();
    life.world.lock().blind.units = true;
    install(&life, REDIS, Version::Default);
    life.want_spec("shop", "url: 'https://a.example.com/good-1'", "needs: [redis]");
    for _ in 0..5 {
        life.pass();
    }
    let calls = life.world.lock().calls.clone();
    assert!(!calls.iter().any(|call| call.contains("redis")), "{calls:?}");
}

/// Installs and removes, with the agent dying before this change; tells whether it died.
fn live(dies_before: usize) -> bool {
    let mut life = Life::begin();
    life.pass();
    life.world.lock().gate.dies_before = Some(dies_before);
    install(&life, REDIS, Version::Default);
    life.settle();
    is(&life, REDIS, ServiceState::Running, Reason::Running);
    let calls = life.world.lock().calls.clone();
    let installs = calls.iter().filter(|call| call.starts_with("install")).count();
    assert_eq!(installs, 1, "the work outlives the agent: {calls:?}");
    remove(&life, REDIS, false);
    life.settle();
    is(&life, REDIS, ServiceState::Absent, Reason::NotInstalled);
    let died = life.world.lock().gate.dies_before.is_none();
    life.world.lock().gate.dies_before = None;
    died
}

#[test]
fn an_agent_that_dies_around_any_change_of_a_services_life_comes_to_the_same_end() {
    let mut deaths = 0;
    while live(deaths) {
        deaths += 1;
    }
    assert!((10..100).contains(&deaths), "{deaths}");
}

const GOOD: &str = "url: 'https://a.example.com/good-1'";

fn condition(life: &Life, kind: ConditionKind) -> Option<(Reason, String)> {
    let status = life.status("shop");
    status.condition(kind).map(|condition| (condition.reason, condition.message.clone()))
}

#[test]
fn a_rollout_waits_for_what_it_needs_and_says_what_to_do() {
    let mut life = Life::begin();
    life.want_spec("shop", GOOD, "needs: [redis]");
    life.settle();
    let (reason, message) = condition(&life, ConditionKind::Stalled).expect("nobody asks for redis");
    assert!(reason == Reason::DependencyMissing && message.contains("`zexio service install redis`"), "{message}");
    assert!(!life.world.lock().calls.iter().any(|call| call.starts_with("fetch")));

    install(&life, REDIS, Version::Default);
    life.pass();
    life.pass();
    let (reason, message) = condition(&life, ConditionKind::Reconciling).expect("redis is on its way");
    assert!(
        reason == Reason::DependencyMissing && message.contains("needs redis, which is being installed"),
        "{message}"
    );
    assert_eq!(condition(&life, ConditionKind::Stalled), None);
    life.settle();
    assert_eq!(life.serving("shop"), Some(1));
    assert_eq!(condition(&life, ConditionKind::Ready).expect("it serves").0, Reason::Serving);
}

#[test]
fn a_service_that_falls_stops_no_release_and_holds_only_the_next_one() {
    let mut life = Life::begin();
    install(&life, REDIS, Version::Default);
    life.want_spec("shop", GOOD, "needs: [redis]");
    life.settle();
    remove(&life, REDIS, false);
    life.settle();
    assert_eq!((life.serving("shop"), condition(&life, ConditionKind::Stalled)), (Some(1), None));
    life.want_spec("shop", "url: 'https://a.example.com/good-2'", "needs: [redis]");
    life.settle();
    assert_eq!(life.serving("shop"), Some(1));
    assert_eq!(condition(&life, ConditionKind::Stalled).expect("it waits").0, Reason::DependencyMissing);
    assert_eq!(life.running().into_iter().collect::<Vec<_>>(), ["zexio-shop-web-r1.service"]);
    assert_eq!(life.world.lock().unserved, Vec::<String>::new());
    life.want_spec("shop", "url: 'https://a.example.com/good-2'", "");
    life.settle();
    assert_eq!(life.serving("shop"), Some(2), "who needs nothing waits for nothing");
}

#[test]
fn a_wish_that_waits_for_a_service_does_not_fail_for_the_one_before() {
    let mut life = Life::begin();
    life.world.lock().host.fails_with = Some(100);
    install(&life, REDIS, Version::Default);
    life.want("shop", "never-ready-1");
    for _ in 0..3 {
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    life.want_spec("shop", GOOD, "needs: [redis]");
    for _ in 0..60 {
        life.pass();
        assert_eq!(condition(&life, ConditionKind::Stalled), None);
        life.world.lock().tick(Span::seconds(1));
    }
    assert_eq!(condition(&life, ConditionKind::Reconciling).expect("it waits").0, Reason::DependencyMissing);
    let told = life.world.lock().events.iter().any(|event| event.reason == Reason::HealthCheckFailed);
    assert!(told, "the release of the one before failed");
}
