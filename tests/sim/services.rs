//! Host services: a package manager that works in the background, and what the loop makes of it.

use std::collections::{BTreeMap, BTreeSet};

use zexio::model::desired::Owner;
use zexio::model::event::Level;
use zexio::model::observed::{ActiveState, Exit};
use zexio::model::quantity::Span;
use zexio::model::services::{
    DaemonSeen, Installation, Service, ServiceIntent, ServiceProgress, ServiceSeen, ServiceStatus, ServicesSeen,
    Version, WantedService, WantedServices, WorkSeen,
};
use zexio::plan::services::{NOT_ON_OFFER, Task, WorkOrder};
use zexio::port::{PortError, ServiceMemory, Services};

use crate::world::gate::Effect;
use crate::world::{Life, World};

/// The host's services and its package manager.
#[derive(Default)]
pub struct Host {
    pub wanted: WantedServices,
    pub statuses: BTreeMap<Service, ServiceStatus>,
    pub seen: ServicesSeen,
    /// What the package manager does, and how many seconds it still takes.
    pub work: BTreeMap<Service, (Task, u32)>,
    /// How work ends instead of well, while this is set.
    pub fails_with: Option<i32>,
    /// Daemons do not stay up.
    pub daemons_fall: bool,
    runs: u32,
}

fn installation(service: Service, major: u32) -> Installation {
    let daemon = (service != Service::Nodejs).then(|| DaemonSeen {
        unit: format!("{service}.service"),
        state: ActiveState::Inactive,
        enabled: false,
    });
    Installation { version: format!("{major}.0.1"), whole: true, daemon }
}

impl Host {
    /// Lets the package manager and the daemons get on.
    pub fn tick(&mut self) {
        for (service, (task, left)) in std::mem::take(&mut self.work) {
            if left > 0 {
                self.work.insert(service, (task, left - 1));
            } else {
                self.end(service, &task);
            }
        }
        let falls = self.daemons_fall;
        for daemon in
            self.seen.values_mut().flat_map(|seen| seen.installed.values_mut()).filter_map(|i| i.daemon.as_mut())
        {
            if daemon.state == ActiveState::Activating {
                daemon.state = if falls { ActiveState::Failed } else { ActiveState::Active };
            }
        }
    }

    fn end(&mut self, service: Service, task: &Task) {
        let seen = self.seen.entry(service).or_default();
        if let Some(status) = self.fails_with {
            let work = seen.work.as_mut().expect("work that ends was begun");
            (work.running, work.exit) = (false, Some(Exit::Status(status)));
            (work.said, work.log) = ("no such package".into(), vec!["E: no such package".into()]);
            return;
        }
        seen.work = None;
        match task {
            Task::Install(version) => {
                let major = match version {
                    Version::Usual => 18,
                    Version::Major(major) => *major,
                };
                seen.installed.insert(major, installation(service, major));
                seen.data = service != Service::Nodejs;
            }
            Task::Remove { majors, purge } => {
                seen.installed.retain(|major, _| !majors.contains(major));
                seen.data &= !purge;
            }
        }
    }
}

impl ServiceMemory for World {
    fn wanted_services(&self) -> Result<WantedServices, PortError> {
        Ok(self.lock().host.wanted.clone())
    }
    fn service_progress(&self) -> Result<BTreeMap<Service, ServiceProgress>, PortError> {
        Ok(self.lock().progress.services.clone())
    }
    fn remember_services(&self, changed: &BTreeMap<Service, ServiceProgress>) -> Result<(), PortError> {
        self.effect(Effect::RememberServices, |machine| {
            let wanted: BTreeSet<Service> = machine.host.wanted.keys().copied().collect();
            machine.progress.services.extend(changed.clone());
            machine.progress.services.retain(|service, _| wanted.contains(service));
            Ok(())
        })
    }
    fn service_statuses(&self) -> Result<BTreeMap<Service, ServiceStatus>, PortError> {
        Ok(self.lock().host.statuses.clone())
    }
    fn record_services(&self, statuses: &[ServiceStatus]) -> Result<(), PortError> {
        self.effect(Effect::RememberServices, |machine| {
            machine.host.statuses.extend(statuses.iter().map(|status| (status.service, status.clone())));
            Ok(())
        })
    }
    fn forget_service(&self, service: Service) -> Result<(), PortError> {
        let called = format!("forget {service}");
        self.effect(Effect::Host(&called), |machine| {
            machine.host.wanted.remove(&service);
            machine.progress.services.remove(&service);
            Ok(())
        })
    }
}

impl Services for World {
    fn look(&self, _: bool) -> Result<ServicesSeen, PortError> {
        let machine = self.lock();
        if machine.blind.units {
            return Err(PortError::passing("Systemd", "could not list units: the bus is away"));
        }
        let seen = |service: Service| (service, machine.host.seen.get(&service).cloned().unwrap_or_default());
        Ok(Service::ALL.into_iter().map(seen).collect())
    }
    fn begin(&self, order: &WorkOrder) -> Result<(), PortError> {
        let called = order.to_string();
        self.effect(Effect::Host(&called), |machine| {
            machine.host.runs += 1;
            let invocation = machine.host.runs.to_string();
            let work = WorkSeen { running: true, said: "reading".into(), exit: None, invocation, log: Vec::new() };
            machine.host.seen.entry(order.service).or_default().work = Some(work);
            machine.host.work.insert(order.service, (order.task.clone(), 3));
            Ok(())
        })
    }
    fn start(&self, unit: &str) -> Result<(), PortError> {
        let called = format!("start {unit}");
        self.effect(Effect::Host(&called), |machine| {
            each_daemon(&mut machine.host.seen, |daemon| {
                if daemon.unit == unit {
                    daemon.state = ActiveState::Activating;
                }
            });
            Ok(())
        })
    }
    fn enable(&self, service: Service) -> Result<(), PortError> {
        let called = format!("enable {service}");
        self.effect(Effect::Host(&called), |machine| {
            each_daemon(&mut machine.host.seen, |daemon| daemon.enabled |= daemon.unit.starts_with(service.as_str()));
            Ok(())
        })
    }
}

fn each_daemon(seen: &mut ServicesSeen, change: impl FnMut(&mut DaemonSeen)) {
    seen.values_mut().flat_map(|seen| seen.installed.values_mut()).filter_map(|i| i.daemon.as_mut()).for_each(change);
}

const REDIS: Service = Service::Redis;
const NODE: Service = Service::Nodejs;

fn intend(life: &Life, service: Service, intent: ServiceIntent) {
    let mut machine = life.world.lock();
    let generation = machine.host.wanted.get(&service).map_or(1, |wanted| wanted.generation + 1);
    machine.host.wanted.insert(service, WantedService { generation, intent, owner: Owner::Api, complaint: None });
}

fn install(life: &Life, service: Service, version: Version) {
    intend(life, service, ServiceIntent::Install(version));
}

fn remove(life: &Life, service: Service, purge: bool) {
    intend(life, service, ServiceIntent::Remove { purge });
}

fn there(life: &Life, service: Service, major: u32) {
    let seen = ServiceSeen { installed: [(major, installation(service, major))].into(), data: true, work: None };
    life.world.lock().host.seen.insert(service, seen);
}

/// Returns a service's state and reason.
fn state(life: &Life, service: Service) -> (String, String) {
    let machine = life.world.lock();
    let status = &machine.host.statuses[&service];
    (status.state.clone(), status.reason.clone())
}

fn is(life: &Life, service: Service, expected: &str, reason: &str) {
    assert_eq!(state(life, service), (expected.to_owned(), reason.to_owned()), "{service}");
}

#[test]
fn a_service_is_installed_started_and_enabled_once() {
    let mut life = Life::begin();
    life.pass();
    is(&life, REDIS, "absent", "NotInstalled");
    install(&life, REDIS, Version::Usual);
    assert_eq!(life.plan(), ["+ install redis default"]);
    life.pass();
    life.pass();
    is(&life, REDIS, "installing", "Installing");
    assert_eq!(life.settle(), ["start redis.service", "enable redis"]);
    is(&life, REDIS, "running", "Running");
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
    install(&life, REDIS, Version::Usual);
    life.settle();
    life.restart_agent();
    life.settle();
    let lines = told(&life);
    let reasons: Vec<&str> = lines.iter().map(|(_, reason, _)| reason.as_str()).collect();
    assert_eq!(reasons, ["Installing", "Installing", "Starting", "Running"], "{lines:?}");
    assert!(lines[1].2.contains("installing redis default: reading"), "{lines:?}");

    life.world.lock().host.fails_with = Some(100);
    install(&life, REDIS, Version::Major(9));
    for _ in 0..10 {
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    let (level, reason, message) = told(&life).pop().unwrap();
    assert_eq!((level, reason.as_str()), (Level::Warning, "PackagesFailed"));
    assert!(message.contains("next try at") && message.ends_with("its last words: E: no such package"), "{message}");
}

#[test]
fn a_removal_keeps_the_data_unless_it_is_purged() {
    for purge in [false, true] {
        let mut life = Life::begin();
        install(&life, REDIS, Version::Usual);
        life.settle();
        remove(&life, REDIS, purge);
        life.settle();
        let machine = life.world.lock();
        assert!(machine.host.seen[&REDIS].installed.is_empty() && machine.host.seen[&REDIS].data != purge);
        assert!(machine.host.wanted.is_empty() && machine.progress.services.is_empty());
        drop(machine);
        is(&life, REDIS, "absent", "NotInstalled");
    }
}

#[test]
fn a_wish_that_changes_while_the_package_manager_works_is_no_failure() {
    let mut life = Life::begin();
    install(&life, REDIS, Version::Usual);
    life.pass();
    life.pass();
    remove(&life, REDIS, false);
    for _ in 0..20 {
        life.pass();
        let failed = life.world.lock().host.statuses[&REDIS].state == "failed";
        assert!(!failed, "{:?}", life.world.lock().host.statuses[&REDIS]);
        life.world.lock().tick(Span::seconds(1));
    }
    is(&life, REDIS, "absent", "NotInstalled");
}

#[test]
fn what_nobody_asked_for_is_never_touched_and_what_was_there_before_stays() {
    let mut life = Life::begin();
    life.settle();
    there(&life, REDIS, 7);
    there(&life, NODE, 20);
    assert_eq!(life.settle(), Vec::<String>::new());
    is(&life, REDIS, "installed", "Unmanaged");
    install(&life, NODE, Version::Usual);
    assert_eq!(life.settle(), Vec::<String>::new(), "an even major is one with long-term support");
    is(&life, NODE, "installed", "Installed");
    remove(&life, NODE, true);
    assert_eq!(life.settle(), ["forget nodejs"]);
    is(&life, NODE, "installed", "Unmanaged");
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
    install(&life, REDIS, Version::Usual);
    for _ in 0..120 {
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    let tries = life.world.lock().calls.iter().filter(|call| call.starts_with("install")).count();
    assert!((3..=6).contains(&tries), "{tries} tries in two minutes");
    is(&life, REDIS, "failed", "PackagesFailed");
    let status = life.world.lock().host.statuses[&REDIS].clone();
    assert!(status.message.contains("no such package; failed "), "{}", status.message);
    assert_eq!(status.evidence, ["E: no such package"]);
    life.world.lock().host.fails_with = None;
    for _ in 0..120 {
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    is(&life, REDIS, "running", "Running");
    assert!(life.world.lock().host.statuses[&REDIS].evidence.is_empty());
}

#[test]
fn work_that_a_reboot_cut_off_is_told_and_done_again() {
    let mut life = Life::begin();
    install(&life, REDIS, Version::Usual);
    life.pass();
    life.pass();
    {
        let mut machine = life.world.lock();
        machine.host.work.clear();
        machine.host.seen.get_mut(&REDIS).unwrap().work = None;
    }
    life.pass();
    is(&life, REDIS, "failed", "PackagesFailed");
    for _ in 0..20 {
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    is(&life, REDIS, "running", "Running");
    let calls = life.world.lock().calls.clone();
    assert_eq!(calls.iter().filter(|call| call.starts_with("install")).count(), 2, "{calls:?}");
}

#[test]
fn a_version_that_is_not_on_offer_is_named_until_another_one_is_asked_for() {
    let mut life = Life::begin();
    life.world.lock().host.fails_with = Some(NOT_ON_OFFER);
    install(&life, NODE, Version::Major(99));
    life.settle();
    is(&life, NODE, "failed", "VersionUnavailable");
    life.world.lock().host.fails_with = None;
    install(&life, NODE, Version::Major(18));
    life.settle();
    is(&life, NODE, "installed", "Installed");
}

#[test]
fn a_daemon_that_falls_again_and_again_is_not_started_in_a_circle() {
    let mut life = Life::begin();
    life.world.lock().host.daemons_fall = true;
    install(&life, REDIS, Version::Usual);
    for _ in 0..120 {
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    let starts = life.world.lock().calls.iter().filter(|call| call.starts_with("start")).count();
    assert!((3..=6).contains(&starts), "{starts} starts in two minutes");
    is(&life, REDIS, "failed", "ServiceDown");
}

#[test]
fn a_machine_that_cannot_be_looked_at_is_not_worked_on() {
    let mut life = Life::begin();
    life.world.lock().blind.units = true;
    install(&life, REDIS, Version::Usual);
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
    install(&life, REDIS, Version::Usual);
    life.settle();
    is(&life, REDIS, "running", "Running");
    let calls = life.world.lock().calls.clone();
    let installs = calls.iter().filter(|call| call.starts_with("install")).count();
    assert_eq!(installs, 1, "the work outlives the agent: {calls:?}");
    remove(&life, REDIS, false);
    life.settle();
    is(&life, REDIS, "absent", "NotInstalled");
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

fn condition(life: &Life, kind: &str) -> Option<(String, String)> {
    let status = life.status("shop");
    status.condition(kind).map(|condition| (condition.reason.clone(), condition.message.clone()))
}

#[test]
fn a_rollout_waits_for_what_it_needs_and_says_what_to_do() {
    let mut life = Life::begin();
    life.want_spec("shop", GOOD, "needs: [redis]");
    life.settle();
    let (reason, message) = condition(&life, "Stalled").expect("nobody asks for redis");
    assert!(reason == "DependencyMissing" && message.contains("`zexio service install redis`"), "{message}");
    assert!(!life.world.lock().calls.iter().any(|call| call.starts_with("fetch")));

    install(&life, REDIS, Version::Usual);
    life.pass();
    life.pass();
    let (reason, message) = condition(&life, "Reconciling").expect("redis is on its way");
    assert!(reason == "DependencyMissing" && message.contains("needs redis, which is on its way"), "{message}");
    assert_eq!(condition(&life, "Stalled"), None);
    life.settle();
    assert_eq!(life.serving("shop"), Some(1));
    assert_eq!(condition(&life, "Ready").expect("it serves").0, "Serving");
}

#[test]
fn a_service_that_falls_stops_no_release_and_holds_only_the_next_one() {
    let mut life = Life::begin();
    install(&life, REDIS, Version::Usual);
    life.want_spec("shop", GOOD, "needs: [redis]");
    life.settle();
    remove(&life, REDIS, false);
    life.settle();
    assert_eq!((life.serving("shop"), condition(&life, "Stalled")), (Some(1), None));
    life.want_spec("shop", "url: 'https://a.example.com/good-2'", "needs: [redis]");
    life.settle();
    assert_eq!(life.serving("shop"), Some(1));
    assert_eq!(condition(&life, "Stalled").expect("it waits").0, "DependencyMissing");
    assert_eq!(life.running().into_iter().collect::<Vec<_>>(), ["zexio-shop-web-r1.service"]);
    assert_eq!(life.world.lock().unserved, Vec::<String>::new());
    life.want_spec("shop", "url: 'https://a.example.com/good-2'", "");
    life.settle();
    assert_eq!(life.serving("shop"), Some(2), "who needs nothing waits for nothing");
}
