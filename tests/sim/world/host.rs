//! Host services as the machine has them: a package manager that works in the background, the daemons that it brings,
//! and what is wanted and remembered of them. A plain map under the rules of `plan::accept`.

use std::collections::{BTreeMap, BTreeSet};

use zexio::model::desired::{DesiredService, DesiredServices, Owner, Refusal, ServiceIntent};
use zexio::model::event::By;
use zexio::model::observed::{ActiveState, DaemonSeen, Exit, Installation, PackageJobSeen, ServicesSeen};
use zexio::model::progress::ServiceProgress;
use zexio::model::quantity::Timestamp;
use zexio::model::services::{Service, Version};
use zexio::plan::accept::service as rules;
use zexio::plan::accept::{Change, Request, Write};
use zexio::plan::services::{PackageJob, Task, VERSION_UNAVAILABLE};
use zexio::port::{DesiredServiceStore, PortError, ServiceProgressStore, Services, WriteError, WriteResult};

use super::World;
use super::gate::Effect;
use crate::chance::Chance;
use crate::swarm::oracle::Oracle;
use zexio::model::reason::Reason;
use zexio::model::status::ServiceStatus;

/// The host's services and its package manager.
#[derive(Default)]
pub struct Host {
    pub wanted: DesiredServices,
    pub statuses: BTreeMap<Service, ServiceStatus>,
    pub seen: ServicesSeen,
    /// What the package manager does.
    pub work: BTreeMap<Service, Work>,
    /// How work ends instead of well, while this is set.
    pub fails_with: Option<i32>,
    /// Daemons do not stay up.
    pub daemons_fall: bool,
    /// How work and daemons fare by chance.
    pub luck: Option<Luck>,
    runs: u32,
}

/// How often, in a thousand, something goes wrong.
pub struct Luck {
    pub chance: Chance,
    pub work: u64,
    pub falls: u64,
}

impl Luck {
    fn trips(&mut self) -> Option<End> {
        let kinds = [End::Fails(100), End::Halfway, End::Hangs, End::Lies, End::CutOff];
        self.chance.hits(self.work).then(|| self.chance.pick(&kinds))
    }
}

/// Work that is going on.
#[derive(Debug, Clone)]
pub struct Work {
    task: Task,
    /// When it ends, on the clock that never jumps.
    pub ends: u64,
    end: End,
}

/// How work ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Well,
    Fails(i32),
    /// It is killed half way.
    Halfway,
    /// It hangs until systemd's patience is over.
    Hangs,
    /// It says that all is well, and did nothing.
    Lies,
    /// A reboot cuts it off: nothing of it is to be seen.
    CutOff,
}

impl Work {
    /// Returns work that goes on and that no look shows.
    pub fn unseen() -> Self {
        Self { task: Task::Install(Version::Default), ends: u64::MAX, end: End::Hangs }
    }
}

const AN_HOUR: u64 = 3_600_000;

pub fn installation(service: Service, major: u32) -> Installation {
    let daemon = (service != Service::Nodejs).then(|| DaemonSeen {
        unit: format!("{service}.service"),
        state: ActiveState::Inactive,
        enabled: false,
    });
    Installation { version: format!("{major}.0.1"), fully_installed: true, daemon }
}

impl Host {
    /// Returns when something moves next.
    pub fn next_move(&self) -> Option<u64> {
        self.work.values().map(|work| work.ends).min()
    }

    /// Lets the package manager and the daemons get on.
    pub fn tick(&mut self, uptime: u64) {
        if self.seen.is_empty() {
            return;
        }
        let due = |work: &Work| work.ends <= uptime;
        let ended: Vec<Service> = self.work.iter().filter(|(_, work)| due(work)).map(|(service, _)| *service).collect();
        for service in ended {
            let work = self.work.remove(&service).expect("it is there");
            self.end(service, &work);
        }
        let Self { seen, luck, daemons_fall, .. } = self;
        each_daemon(seen, |daemon| {
            if daemon.state == ActiveState::Activating {
                let falls = *daemons_fall || luck.as_mut().is_some_and(|luck| luck.chance.hits(luck.falls));
                daemon.state = if falls { ActiveState::Failed } else { ActiveState::Active };
            }
        });
    }

    /// Begins work, of which nobody knows yet how it ends.
    fn begin(&mut self, order: &PackageJob, uptime: u64) -> Result<(), PortError> {
        if self.work.contains_key(&order.service) {
            return Err(PortError::transient(Reason::Systemd, "could not start the work: the unit is there already"));
        }
        self.runs += 1;
        let invocation = self.runs.to_string();
        let work =
            PackageJobSeen { running: true, status_text: "reading".into(), exit: None, invocation, log: Vec::new() };
        self.seen.entry(order.service).or_default().job = Some(work);
        let offered = !matches!(order.task, Task::Install(Version::Major(90..)));
        let trips = self.luck.as_mut().filter(|_| offered).and_then(Luck::trips);
        let end = match self.fails_with {
            Some(status) => End::Fails(status),
            None if !offered => End::Fails(VERSION_UNAVAILABLE),
            None => trips.unwrap_or(End::Well),
        };
        let takes = if end == End::Hangs { AN_HOUR } else { 3_000 };
        self.work.insert(order.service, Work { task: order.task.clone(), ends: uptime + takes, end });
        Ok(())
    }

    /// Ends all work within a second, and lets nothing more go wrong.
    pub fn cure(&mut self, uptime: u64) {
        self.work.values_mut().for_each(|work| work.ends = work.ends.min(uptime + 1_000));
        if let Some(luck) = &mut self.luck {
            (luck.work, luck.falls) = (0, 0);
        }
    }

    /// Lets work end with no trace of it.
    pub fn cut_off(&mut self, service: Service) {
        self.work.remove(&service);
        if let Some(seen) = self.seen.get_mut(&service) {
            seen.job = None;
        }
    }

    fn end(&mut self, service: Service, work: &Work) {
        match work.end {
            End::Well => self.finish(service, &work.task, true),
            End::Fails(status) => return self.fail(service, Exit::Status(status)),
            End::Halfway => {
                self.finish(service, &work.task, false);
                return self.fail(service, Exit::Signal(9));
            }
            End::Hangs => return self.fail(service, Exit::Signal(15)),
            End::Lies | End::CutOff => {}
        }
        self.seen.entry(service).or_default().job = None;
    }

    fn fail(&mut self, service: Service, exit: Exit) {
        let work = self.seen.entry(service).or_default().job.as_mut().expect("work that ends was begun");
        (work.running, work.exit) = (false, Some(exit));
        (work.status_text, work.log) = ("no such package".into(), vec!["E: no such package".into()]);
    }

    /// Does what was asked; half of it is a package that is not configured.
    fn finish(&mut self, service: Service, task: &Task, whole: bool) {
        let seen = self.seen.entry(service).or_default();
        match task {
            Task::Install(version) => {
                let major = match version {
                    Version::Default => 18,
                    Version::Major(major) => *major,
                };
                if service != Service::Postgresql {
                    seen.installed.clear();
                }
                let found = Installation { fully_installed: whole, ..installation(service, major) };
                seen.installed.insert(major, found);
                seen.data = service != Service::Nodejs;
            }
            Task::Remove { majors, .. } if !whole => {
                seen.installed
                    .iter_mut()
                    .filter(|(major, _)| majors.contains(major))
                    .for_each(|(_, it)| it.fully_installed = false);
            }
            Task::Remove { majors, purge } => {
                seen.installed.retain(|major, _| !majors.contains(major));
                seen.data &= !purge;
            }
        }
    }

    /// Tells whether a service can be used.
    pub fn runs(&self, service: Service) -> bool {
        let found = self.seen.get(&service).into_iter().flat_map(|seen| seen.installed.values());
        found.filter(|found| found.fully_installed).any(|found| found.daemon.as_ref().is_none_or(DaemonSeen::runs))
    }

    /// Asks for a service.
    ///
    /// # Errors
    /// As `accept::service::put`; then nothing is written.
    pub fn put(
        &mut self,
        service: Service,
        version: Version,
        owner: &Owner,
        heir_of: Option<&Owner>,
    ) -> Result<WriteResult, WriteError> {
        let old = self.wanted.get(&service).cloned();
        Ok(self.carry_out(service, rules::put(old, service, version, owner, heir_of, REQUEST)?))
    }

    /// Lets a service go.
    ///
    /// # Errors
    /// As `accept::service::delete`; then nothing is written.
    pub fn let_go(&mut self, service: Service, owner: &Owner, purge: bool) -> Result<u64, WriteError> {
        let change = rules::delete(self.wanted.get(&service).cloned(), service, owner, purge, REQUEST)?;
        Ok(self.carry_out(service, change))
    }

    pub fn set_refusal(&mut self, service: Service, owner: &Owner, refusal: Option<&Refusal>) {
        let change = rules::set_refusal(self.wanted.get(&service).cloned(), owner, refusal);
        self.carry_out(service, change);
    }

    fn carry_out<T>(&mut self, service: Service, change: Change<DesiredService, T>) -> T {
        match change.write {
            Write::Nothing => {}
            Write::Save(record) | Write::Reset(record) => drop(self.wanted.insert(service, record)),
            Write::Delete => drop(self.wanted.remove(&service)),
        }
        change.answer
    }
}

/// No test reads the events of these requests.
const REQUEST: Request<'static> = Request { by: &By::File(String::new()), now: Timestamp(0) };

pub fn is_leaving(record: &DesiredService) -> bool {
    matches!(record.intent, ServiceIntent::Remove { .. })
}

pub fn each_daemon(seen: &mut ServicesSeen, change: impl FnMut(&mut DaemonSeen)) {
    seen.values_mut().flat_map(|seen| seen.installed.values_mut()).filter_map(|i| i.daemon.as_mut()).for_each(change);
}

impl ServiceProgressStore for World {
    fn desired_services(&self) -> Result<DesiredServices, PortError> {
        let mut machine = self.lock();
        machine.note_read(|oracle, _| oracle.note_services_read());
        Ok(machine.host.wanted.clone())
    }
    fn service_progress(&self) -> Result<BTreeMap<Service, ServiceProgress>, PortError> {
        Ok(self.lock().progress.services.clone())
    }
    fn save_service_progress(&self, changed: &BTreeMap<Service, ServiceProgress>) -> Result<(), PortError> {
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
        self.effect(Effect::RecordServices(statuses), |machine| {
            machine.host.statuses.extend(statuses.iter().map(|status| (status.service, status.clone())));
            Ok(())
        })
    }
    fn delete_service_record(&self, service: Service, generation: u64) -> Result<(), PortError> {
        self.effect(Effect::ForgetService(service), |machine| {
            let wish = machine.host.wanted.get(&service);
            if wish.is_some_and(|wish| rules::may_forget(wish, generation)) {
                machine.host.wanted.remove(&service);
                machine.progress.services.remove(&service);
            }
            Ok(())
        })
    }
}

impl Services for World {
    fn observe(&self, _: bool) -> Result<ServicesSeen, PortError> {
        let mut machine = self.lock();
        machine.interrupt();
        machine.note_read(Oracle::note_services_seen);
        if machine.blind.units {
            return Err(PortError::transient(Reason::Systemd, "could not list units: the bus is away"));
        }
        let seen = |service: Service| (service, machine.host.seen.get(&service).cloned().unwrap_or_default());
        Ok(Service::ALL.into_iter().map(seen).collect())
    }
    fn begin(&self, order: &PackageJob) -> Result<(), PortError> {
        self.effect(Effect::Packages(order), |machine| machine.host.begin(order, machine.uptime))
    }
    fn start(&self, unit: &str) -> Result<(), PortError> {
        self.effect(Effect::StartService(unit), |machine| {
            each_daemon(&mut machine.host.seen, |daemon| {
                let down = matches!(daemon.state, ActiveState::Inactive | ActiveState::Failed);
                if daemon.unit == unit && down {
                    daemon.state = ActiveState::Activating;
                }
            });
            Ok(())
        })
    }
    fn enable(&self, service: Service) -> Result<(), PortError> {
        self.effect(Effect::EnableService(service), |machine| {
            let found = machine.host.seen.get_mut(&service).into_iter().flat_map(|seen| seen.installed.values_mut());
            found.filter_map(|found| found.daemon.as_mut()).for_each(|daemon| daemon.enabled = true);
            Ok(())
        })
    }
}

impl DesiredServiceStore for World {
    fn desired_service(&self, service: Service) -> Result<Option<DesiredService>, WriteError> {
        Ok(self.lock().host.wanted.get(&service).cloned())
    }
    fn put_service(
        &self,
        service: Service,
        version: Version,
        owner: &Owner,
        heir_of: Option<&Owner>,
        _: &By,
    ) -> Result<WriteResult, WriteError> {
        self.lock().host.put(service, version, owner, heir_of)
    }
    fn delete_service(&self, service: Service, owner: &Owner, purge: bool, _: &By) -> Result<u64, WriteError> {
        self.lock().host.let_go(service, owner, purge)
    }
    fn set_service_refusal(
        &self,
        service: Service,
        owner: &Owner,
        refusal: Option<&Refusal>,
    ) -> Result<(), WriteError> {
        self.lock().host.set_refusal(service, owner, refusal);
        Ok(())
    }
}
