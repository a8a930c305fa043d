//! Host services in the swarm: who asks for them, which third hand is at them, and what the agent promised of them.

use std::collections::{BTreeMap, BTreeSet};

use zexio::model::desired::{Content, DesiredProject, DesiredServices, Owner, ServiceIntent};
use zexio::model::names::ProjectId;
use zexio::model::observed::ActiveState;
use zexio::model::services::{Service, Version};
use zexio::model::status::{ServiceState, ServiceStatus};
use zexio::plan::services::{PackageJob, Task, matching};
use zexio::port::WriteError;

use super::operator::Operator;
use super::oracle::{Oracle, Promise, SENTINEL};
use crate::chance::Chance;
use crate::world::Machine;
use crate::world::gate::Effect;
use crate::world::host::{each_daemon, installation, is_leaving};

/// A major that no package source has.
const NOT_OFFERED: Version = Version::Major(99);

/// What was asked of the host's services, and what anybody could see of them.
#[derive(Debug, Default)]
pub struct Host {
    /// What was asked and acknowledged.
    pub asked: DesiredServices,
    /// What the agent's pass read of it.
    read: DesiredServices,
    /// The majors that were there when each was first asked for.
    found: BTreeMap<Service, BTreeSet<u32>>,
    /// The services whose packages a third hand changed since.
    meddled: BTreeSet<Service>,
    /// What each project's releases may be made of: of each generation, once the agent saw all that it needs.
    pub cleared: BTreeMap<ProjectId, Vec<(u64, Content)>>,
}

impl Host {
    /// Tells whether what a release is made of was cleared; none where no service is asked for in this life.
    fn was_cleared(&self, project: &ProjectId, is_it: impl Fn(&Content) -> bool) -> Option<bool> {
        Some(self.cleared.get(project)?.iter().any(|(_, content)| is_it(content)))
    }
}

fn content(wanted: &DesiredProject) -> Option<Content> {
    let spec = wanted.spec()?;
    Content::of(spec, spec.artifact.source()?.clone(), &wanted.secrets).ok()
}

fn whole(machine: &Machine, service: Service) -> BTreeSet<u32> {
    let found = machine.host.seen.get(&service).into_iter().flat_map(|seen| &seen.installed);
    found.filter(|(_, found)| found.fully_installed).map(|(major, _)| *major).collect()
}

impl Oracle {
    /// Takes down what the pass read of the desired_store for services.
    pub fn note_services_read(&mut self) {
        self.host.read.clone_from(&self.host.asked);
    }

    /// Takes down which projects have what they need, as the pass sees it: a blind one sees that only of those that need
    /// nothing.
    pub fn note_services_seen(&mut self, machine: &Machine) {
        if machine.host.luck.is_none() {
            return;
        }
        for (project, wanted) in &self.read {
            let known = self.host.cleared.entry(project.clone()).or_default();
            let new = known.last().is_none_or(|(generation, _)| *generation != wanted.generation);
            let Some(spec) = wanted.spec().filter(|_| new) else { continue };
            if spec.needs.iter().all(|service| machine.host.runs(*service) && !machine.blind.units) {
                known.extend(content(wanted).map(|content| (wanted.generation, content)));
            }
        }
    }

    /// Looks at the services right before an effect.
    pub fn before_services(&mut self, machine: &Machine, effect: &Effect<'_>) {
        match effect {
            Effect::Packages(order) => self.packages(order),
            Effect::StartService(unit) => {
                let asked = self
                    .host
                    .read
                    .iter()
                    .any(|(service, wish)| !is_leaving(wish) && unit.starts_with(service.as_str()));
                self.check(Promise::S15, asked, || format!("{effect}, and nobody asks for it"));
            }
            Effect::EnableService(service) => {
                let asked = self.host.read.get(service).is_some_and(|wish| !is_leaving(wish));
                self.check(Promise::S15, asked, || format!("{effect}, and nobody asks for it"));
            }
            Effect::ForgetService(service) => self.forget_service(machine, *service),
            Effect::RecordServices(statuses) => {
                statuses.iter().for_each(|status| self.service_status(machine, status));
            }
            _ => {}
        }
    }

    fn packages(&mut self, order: &PackageJob) {
        let wish = self.host.read.get(&order.service).map(|wish| wish.intent);
        let asked = match &order.task {
            Task::Install(version) => ServiceIntent::Install(*version),
            Task::Remove { purge, .. } => ServiceIntent::Remove { purge: *purge },
        };
        self.check(Promise::S15, wish == Some(asked), || format!("{order}, and what is asked is {wish:?}"));
        if let Task::Remove { majors, .. } = &order.task {
            let found = self.host.found.get(&order.service).cloned().unwrap_or_default();
            self.check(Promise::S15, found.is_disjoint(majors), || {
                format!("{order}: majors {majors:?}, of which {found:?} were there before anybody asked")
            });
        }
    }

    fn forget_service(&mut self, machine: &Machine, service: Service) {
        let wish = self.host.read.get(&service).map(|wish| wish.intent);
        let Some(ServiceIntent::Remove { purge }) = wish else {
            return self.check(Promise::S9, false, || format!("forget {service}, and it is wanted"));
        };
        let Some(found) = self.host.found.get(&service).cloned() else { return };
        let meddled = self.host.meddled.contains(&service);
        let left: Vec<u32> = whole(machine, service).difference(&found).copied().collect();
        self.check(Promise::S15, left.is_empty() || meddled, || {
            format!("forget {service}, and {left:?} of it are still there")
        });
        let data = machine.host.seen.get(&service).is_some_and(|seen| seen.data);
        let remains = purge && data && found.is_empty();
        self.check(Promise::S15, !remains || meddled, || format!("forget {service}, and its data are still there"));
    }

    /// Looks whether what was forgotten is what the pass had read.
    pub fn after_services(&mut self, machine: &Machine, effect: &Effect<'_>) {
        let Effect::ForgetService(service) = effect else { return };
        if machine.host.wanted.contains_key(service) {
            return;
        }
        let generation = |desired_store: &DesiredServices| desired_store.get(service).map(|wish| wish.generation);
        let (asked, read) = (generation(&self.host.asked), generation(&self.host.read));
        self.check(Promise::S9, asked.is_none() || asked == read, || {
            format!(
                "forget {service}, of which generation {asked:?} was asked meanwhile, and the pass had read {read:?}"
            )
        });
        self.host.asked.remove(service);
        self.host.found.remove(service);
        self.host.meddled.remove(service);
        self.reach("a service was forgotten");
    }

    /// A release is fetched only where what its spec needs was seen to run, and its units are written only then.
    pub fn needs_were_there(&mut self, effect: &Effect<'_>) {
        let cleared = match effect {
            Effect::Fetch(project, order) => self.host.was_cleared(project, |it| it.source.same_as(&order.source)),
            Effect::Write(order) => self.host.was_cleared(&order.unit.project, |it| it.env == order.launch.env),
            _ => None,
        };
        if let Some(cleared) = cleared {
            self.check(Promise::S16, cleared, || format!("{effect}, and what its spec needs was never seen to run"));
        }
    }

    fn service_status(&mut self, machine: &Machine, status: &ServiceStatus) {
        let service = status.service;
        let generation = self.host.read.get(&service).map_or(0, |wish| wish.generation);
        let rules = [
            (status.observed_generation <= generation, "it saw more than was asked"),
            (status.state != ServiceState::Running || machine.host.runs(service), "it is running, and does not run"),
            (status.state != ServiceState::Absent || whole(machine, service).is_empty(), "it is absent, and is there"),
        ];
        for (holds, why) in rules {
            self.check(Promise::S7, holds, || format!("the status of {service}: {why}: {status:?}"));
        }
        let shown = status.message.contains(SENTINEL) || status.evidence.iter().any(|line| line.contains(SENTINEL));
        self.check(Promise::S8, !shown, || format!("the status of {service} shows the value of a variable"));
        self.reach(status.reason.name());
    }

    /// Looks what has become of every service, once nothing disturbs the agent.
    pub fn judge_services(&mut self, machine: &Machine) {
        for (service, wish) in self.host.asked.clone() {
            match wish.intent {
                ServiceIntent::Remove { .. } => {
                    self.check(Promise::L4, false, || format!("{service} is still being removed"));
                }
                // The simulated machine damages no service's record.
                ServiceIntent::Unreadable => unreachable!(),
                ServiceIntent::Install(version) => {
                    let seen = machine.host.seen.get(&service).cloned().unwrap_or_default();
                    let well = matching(service, version, &seen).is_some_and(|found| {
                        found.fully_installed
                            && found.daemon.as_ref().is_none_or(|daemon| daemon.runs() && daemon.enabled)
                    });
                    let status = machine.host.statuses.get(&service);
                    let told = status
                        .is_some_and(|status| [ServiceState::Running, ServiceState::Installed].contains(&status.state));
                    self.check(Promise::L4, well && (told || wish.refusal.is_some()), || {
                        format!("{service} {version:?} was asked for, and is {seen:?}; told: {status:?}")
                    });
                }
            }
        }
        let forgotten = machine.progress.services.keys().all(|service| self.host.asked.contains_key(service));
        self.check(Promise::L4, forgotten, || "a service is gone, and something of it is remembered".to_owned());
    }
}

impl Operator {
    /// Asks for a service, or lets one go.
    pub fn wish_service(&mut self, machine: &mut Machine) {
        let Some(chance) = self.service_chance() else { return };
        let service = chance.pick(&Service::ALL);
        let version = match service {
            Service::Redis => Version::Default,
            _ => {
                chance.pick(&[Version::Default, Version::Default, Version::Major(16), Version::Major(18), NOT_OFFERED])
            }
        };
        let (which, purge, by_file) = (chance.below(10), chance.hits(400), chance.hits(400));
        if by_file && self.directory.is_some() {
            let version = (which < 6).then_some(version);
            return self.set_in_host_file(service, version, machine);
        }
        let stranger = Owner::File("stranger.yaml".into());
        match which {
            0..=5 => self.put_service(service, version, &Owner::Api, None, machine),
            6..=8 => self.let_service_go(service, &Owner::Api, purge, machine),
            _ => {
                let owned = machine.host.wanted.get(&service).is_some_and(|wish| !is_leaving(wish));
                if owned {
                    self.let_service_go(service, &stranger, true, machine);
                }
            }
        }
    }

    /// Asks for what can be had, where something else was asked for.
    pub fn mend_services(&mut self, machine: &mut Machine) {
        if let Some(service) = self.not_offered_in_file(NOT_OFFERED) {
            self.set_in_host_file(service, Some(Version::Default), machine);
            return self.mend_services(machine);
        }
        let wrong = machine.host.wanted.iter().filter(|(_, wish)| wish.intent == ServiceIntent::Install(NOT_OFFERED));
        for (service, owner) in wrong.map(|(service, wish)| (*service, wish.owner.clone())).collect::<Vec<_>>() {
            match owner {
                Owner::Api => self.put_service(service, Version::Default, &owner, None, machine),
                Owner::File(_) => self.set_in_host_file(service, Some(Version::Default), machine),
            }
        }
    }

    pub fn put_service(
        &mut self,
        service: Service,
        version: Version,
        owner: &Owner,
        heir_of: Option<&Owner>,
        machine: &mut Machine,
    ) {
        let before = machine.host.wanted.clone();
        let done = machine.host.put(service, version, owner, heir_of).map(|put| put.generation);
        settle("put", service, &done, &before, machine);
    }

    pub fn let_service_go(&mut self, service: Service, owner: &Owner, purge: bool, machine: &mut Machine) {
        let before = machine.host.wanted.clone();
        let done = machine.host.let_go(service, owner, purge);
        settle("removal", service, &done, &before, machine);
    }
}

/// A refused wish changed nothing; an acknowledged one is what is wanted from now on.
pub fn settle(
    what: &str,
    service: Service,
    done: &Result<u64, WriteError>,
    before: &DesiredServices,
    machine: &mut Machine,
) {
    let wish = machine.host.wanted.get(&service).cloned();
    if machine.keeps_calls {
        machine.calls.push(format!("--- {what} of {service}: {done:?} {:?}", wish.as_ref().map(|wish| wish.intent)));
    }
    let Some(mut oracle) = machine.oracle.take() else { return };
    match (done, wish) {
        (Err(_), _) => {
            let same = *before == machine.host.wanted;
            oracle.check(Promise::S9, same, || format!("a refused {what} of {service} changed something"));
        }
        (Ok(generation), Some(wish)) => {
            let old = before.get(&service).map_or(0, |wish| wish.generation);
            let counted = wish.generation == *generation && *generation >= old;
            oracle.check(Promise::S9, counted, || format!("a {what} of {service} was acknowledged, and is not there"));
            if oracle.host.asked.insert(service, wish).is_none() {
                oracle.host.found.insert(service, whole(machine, service));
            }
        }
        (Ok(_), None) => {
            oracle.check(Promise::S9, false, || format!("a {what} of {service} was acknowledged and lost"));
        }
    }
    machine.oracle = Some(oracle);
}

/// A third hand is at the host's services; returns what it did.
pub fn meddle(chance: &mut Chance, machine: &mut Machine) -> &'static str {
    let service = chance.pick(&Service::ALL);
    let seen = machine.host.seen.entry(service).or_default();
    let in_work = seen.has_running_job();
    match chance.below(6) {
        0 | 1 => {
            let state = chance.pick(&[ActiveState::Inactive, ActiveState::Failed]);
            each_daemon(&mut machine.host.seen, |daemon| daemon.state = state);
            "the daemons of services were stopped"
        }
        2 => {
            each_daemon(&mut machine.host.seen, |daemon| daemon.enabled = false);
            "the daemons of services were disabled"
        }
        3 if !in_work => {
            let major = if service == Service::Postgresql { 14 } else { 18 };
            seen.installed.entry(major).or_insert_with(|| installation(service, major));
            note_meddled(machine, service);
            "a service was installed by hand"
        }
        4 if !in_work => {
            let removed = seen.installed.pop_first();
            note_meddled(machine, service);
            // Should it come back, then since somebody asked for it.
            if let Some((major, _)) = removed
                && let Some(found) = machine.oracle.as_mut().and_then(|oracle| oracle.host.found.get_mut(&service))
            {
                found.remove(&major);
            }
            "a service was removed by hand"
        }
        5 if in_work => {
            machine.host.cut_off(service);
            "the package manager was interrupted"
        }
        _ => "nothing",
    }
}

fn note_meddled(machine: &mut Machine, service: Service) {
    if let Some(oracle) = &mut machine.oracle {
        oracle.host.meddled.insert(service);
    }
}
