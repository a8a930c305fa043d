//! Observes the host's services: what is installed, whether the daemons run, and the state of the package job. An
//! observation costs a few calls. The job itself runs in a unit of its own (`packages.rs`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::model::layout::LAUNCHER;
use crate::model::observed::{ActiveState, PackageJobSeen, ServiceSeen, ServicesSeen};
use crate::model::services::{Service, package_job_unit};
use crate::plan::services::{PackageJob, Task};
use crate::port::{PortError, Services};

use super::catalogue;
use super::installed::{Packages, Programs, data_of, installed};
use crate::host::journal::Journalctl;
use crate::host::systemd::Systemd;

/// How many log lines of a failed job are kept.
const LINES: u32 = 20;

/// The services of this host.
#[derive(Default)]
pub struct Host {
    systemd: Systemd,
    journal: Journalctl,
    programs: RefCell<Programs>,
    packages: RefCell<Packages>,
    /// The last lines of failed jobs, by run.
    logs: RefCell<BTreeMap<String, Vec<String>>>,
    last: RefCell<Option<ServicesSeen>>,
}

impl Services for Host {
    fn observe(&self, closely: bool) -> Result<ServicesSeen, PortError> {
        if let Some(last) = self.last.borrow().as_ref().filter(|_| !closely) {
            return Ok(last.clone());
        }
        let works = "zexio-host@*.service".to_owned();
        let units = self.systemd.states(catalogue::unit_patterns().chain([works]).collect())?;
        let mut seen = ServicesSeen::new();
        for service in Service::ALL {
            let installed =
                installed(service, &mut self.programs.borrow_mut(), &mut self.packages.borrow_mut(), &units);
            let data = data_of(service).iter().any(|dir| holds_something(dir));
            seen.insert(service, ServiceSeen { installed, data, job: self.job(service, &units)? });
        }
        self.forget_old_logs(&seen);
        *self.last.borrow_mut() = Some(seen.clone());
        Ok(seen)
    }

    fn begin(&self, order: &PackageJob) -> Result<(), PortError> {
        let words = command(order);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.systemd.run_apart(&package_job_unit(order.service), &format!("zexio host service: {order}"), &words)
    }

    fn start(&self, unit: &str) -> Result<(), PortError> {
        self.systemd.start_named(unit)
    }

    fn enable(&self, service: Service) -> Result<(), PortError> {
        catalogue::here(service).daemon.map_or(Ok(()), |daemon| self.systemd.enable_named(daemon.boot))
    }
}

impl Host {
    fn job(
        &self,
        service: Service,
        units: &BTreeMap<String, ActiveState>,
    ) -> Result<Option<PackageJobSeen>, PortError> {
        let name = package_job_unit(service);
        // systemd drops a unit that succeeded; it may still be listed for a moment.
        let Some(state) = units.get(&name).filter(|state| **state != ActiveState::Inactive) else { return Ok(None) };
        let run = self.systemd.run_of(&name)?;
        let running = *state != ActiveState::Failed;
        let log = if running { Vec::new() } else { self.log(&name, &run.invocation) };
        Ok(Some(PackageJobSeen { running, status_text: run.said, exit: run.exit, invocation: run.invocation, log }))
    }

    fn log(&self, unit: &str, invocation: &str) -> Vec<String> {
        let read = || self.journal.newest_of(unit, LINES);
        self.logs.borrow_mut().entry(invocation.to_owned()).or_insert_with(read).clone()
    }

    fn forget_old_logs(&self, seen: &ServicesSeen) {
        let runs: Vec<&String> = seen.values().filter_map(|seen| Some(&seen.job.as_ref()?.invocation)).collect();
        self.logs.borrow_mut().retain(|run, _| runs.contains(&run));
    }
}

/// Returns the job's command line: our own binary, and words from a closed list.
fn command(order: &PackageJob) -> Vec<String> {
    let mut words = vec![LAUNCHER.to_owned(), "provision".to_owned()];
    match &order.task {
        Task::Install(version) => {
            words.extend(["install".to_owned(), order.service.to_string()]);
            if *version != crate::model::services::Version::Default {
                words.push(format!("--version={}", version.shown(order.service)));
            }
        }
        Task::Remove { majors, purge } => {
            words.extend(["remove".to_owned(), order.service.to_string()]);
            words.extend(majors.iter().map(|major| format!("--major={major}")));
            words.extend(purge.then(|| "--purge".to_owned()));
        }
    }
    words
}

fn holds_something(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::services::Version;

    #[test]
    fn the_work_gets_words_of_a_closed_list() {
        let line = |service, task| command(&PackageJob { service, task }).join(" ");
        assert_eq!(line(Service::Redis, Task::Install(Version::Default)), "/usr/bin/zexio provision install redis");
        assert_eq!(
            line(Service::Nodejs, Task::Install(Version::Major(18))),
            "/usr/bin/zexio provision install nodejs --version=18"
        );
        let remove = Task::Remove { majors: [14, 15].into(), purge: true };
        assert_eq!(
            line(Service::Postgresql, remove),
            "/usr/bin/zexio provision remove postgresql --major=14 --major=15 --purge"
        );
    }
}
