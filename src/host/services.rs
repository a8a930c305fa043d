//! The host's services as they are: which programs are installed, what they say their version is, whether their daemons
//! run, and what the package manager's work comes to. Looking costs a few calls; a program is asked only when it changed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::model::layout::LAUNCHER;
use crate::model::observed::ActiveState;
use crate::model::services::{DaemonSeen, Installation, Service, ServiceSeen, ServicesSeen, WorkSeen, work_unit};
use crate::plan::services::{Task, WorkOrder};
use crate::port::{PortError, Services};

use super::journal::Journalctl;
use super::packages::Manager;
use super::systemd::Systemd;

/// How long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many lines of failed work are kept.
const LINES: u32 = 20;
/// The units that are looked at.
const UNITS: [&str; 5] =
    ["zexio-host@*.service", "redis-server.service", "redis.service", "postgresql.service", "postgresql@*.service"];
const DPKG: &str = "/var/lib/dpkg";
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";

/// The services of this host.
#[derive(Default)]
pub struct Host {
    systemd: Systemd,
    journal: Journalctl,
    programs: RefCell<Programs>,
    packages: RefCell<Packages>,
    /// The last lines of failed work, by its run.
    logs: RefCell<BTreeMap<String, Vec<String>>>,
    last: RefCell<Option<ServicesSeen>>,
}

impl Services for Host {
    fn look(&self, closely: bool) -> Result<ServicesSeen, PortError> {
        if let Some(last) = self.last.borrow().as_ref().filter(|_| !closely) {
            return Ok(last.clone());
        }
        let units = self.systemd.states(&UNITS)?;
        let mut seen = ServicesSeen::new();
        for service in Service::ALL {
            let installed =
                installed(service, &mut self.programs.borrow_mut(), &mut self.packages.borrow_mut(), &units);
            let data = data_of(service).iter().any(|dir| holds_something(dir));
            seen.insert(service, ServiceSeen { installed, data, work: self.work(service, &units)? });
        }
        self.forget_old_logs(&seen);
        *self.last.borrow_mut() = Some(seen.clone());
        Ok(seen)
    }

    fn begin(&self, order: &WorkOrder) -> Result<(), PortError> {
        let words = command(order);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.systemd.run_apart(&work_unit(order.service), &format!("zexio host service: {order}"), &words)
    }

    fn start(&self, unit: &str) -> Result<(), PortError> {
        self.systemd.start_named(unit)
    }

    fn enable(&self, service: Service) -> Result<(), PortError> {
        self.systemd.enable_named(&boot_unit(service))
    }
}

impl Host {
    fn work(&self, service: Service, units: &BTreeMap<String, ActiveState>) -> Result<Option<WorkSeen>, PortError> {
        let name = work_unit(service);
        // A unit that did well is dropped by systemd; it may still be listed for a moment.
        let Some(state) = units.get(&name).filter(|state| **state != ActiveState::Inactive) else { return Ok(None) };
        let run = self.systemd.run_of(&name)?;
        let running = *state != ActiveState::Failed;
        let log = if running { Vec::new() } else { self.log(&name, &run.invocation) };
        Ok(Some(WorkSeen { running, said: run.said, exit: run.exit, invocation: run.invocation, log }))
    }

    fn log(&self, unit: &str, invocation: &str) -> Vec<String> {
        let read = || self.journal.newest_of(unit, LINES);
        self.logs.borrow_mut().entry(invocation.to_owned()).or_insert_with(read).clone()
    }

    fn forget_old_logs(&self, seen: &ServicesSeen) {
        let runs: Vec<&String> = seen.values().filter_map(|seen| Some(&seen.work.as_ref()?.invocation)).collect();
        self.logs.borrow_mut().retain(|run, _| runs.contains(&run));
    }
}

/// Returns the command line of the work: our own binary, and words of a closed list.
fn command(order: &WorkOrder) -> Vec<String> {
    let mut words = vec![LAUNCHER.to_owned(), "provision".to_owned()];
    match &order.task {
        Task::Install(version) => {
            words.extend(["install".to_owned(), order.service.to_string()]);
            if *version != crate::model::services::Version::Usual {
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

/// Looks at a service from within the work itself, where nothing is known from before.
pub fn installed_now(service: Service) -> BTreeMap<u32, Installation> {
    installed(service, &mut Programs::default(), &mut Packages::default(), &BTreeMap::new())
}

fn installed(
    service: Service,
    programs: &mut Programs,
    packages: &mut Packages,
    units: &BTreeMap<String, ActiveState>,
) -> BTreeMap<u32, Installation> {
    let mut found = BTreeMap::new();
    for program in programs_of(service) {
        let Some(version) = programs.version(&program) else { continue };
        let Some(major) = major_of(&version) else { continue };
        let whole = packages.is_whole(&package_of(service, major));
        let daemon = daemon_of(service, major).map(|unit| DaemonSeen {
            state: units.get(&unit).copied().unwrap_or_default(),
            enabled: Path::new(WANTS).join(boot_unit(service)).is_symlink(),
            unit,
        });
        found.insert(major, Installation { version, whole, daemon });
    }
    found
}

/// Returns the programs by which a service is known.
fn programs_of(service: Service) -> Vec<PathBuf> {
    match (service, Manager::here()) {
        (Service::Nodejs, _) => vec!["/usr/bin/node".into()],
        (Service::Redis, _) => vec!["/usr/bin/redis-server".into()],
        (Service::Postgresql, Some(Manager::Dnf)) => vec!["/usr/bin/postgres".into()],
        (Service::Postgresql, _) => {
            let majors = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
            majors.map(|entry| entry.path().join("bin/postgres")).collect()
        }
    }
}

fn package_of(service: Service, major: u32) -> String {
    match service {
        Service::Nodejs => "nodejs".into(),
        Service::Redis => "redis-server".into(),
        Service::Postgresql => format!("postgresql-{major}"),
    }
}

fn daemon_of(service: Service, major: u32) -> Option<String> {
    match (service, Manager::here()) {
        (Service::Nodejs, _) => None,
        (Service::Redis, Some(Manager::Dnf)) => Some("redis.service".into()),
        (Service::Redis, _) => Some("redis-server.service".into()),
        (Service::Postgresql, Some(Manager::Dnf)) => Some("postgresql.service".into()),
        // postgresql.service only stands for all clusters; this is the one that the package makes.
        (Service::Postgresql, _) => Some(format!("postgresql@{major}-main.service")),
    }
}

/// Returns the unit that is enabled for a service's daemon to start at boot.
fn boot_unit(service: Service) -> String {
    match service {
        Service::Postgresql => "postgresql.service".into(),
        other => daemon_of(other, 0).unwrap_or_default(),
    }
}

/// Returns where a service's data lies.
pub fn data_of(service: Service) -> Vec<PathBuf> {
    match (service, Manager::here()) {
        (Service::Nodejs, _) => Vec::new(),
        (Service::Redis, _) => vec!["/var/lib/redis".into()],
        (Service::Postgresql, Some(Manager::Dnf)) => vec!["/var/lib/pgsql/data".into()],
        (Service::Postgresql, _) => {
            let entries = fs::read_dir("/var/lib/postgresql").into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| major_in_name(path).is_some()).collect()
        }
    }
}

/// Returns the major that a directory is named for.
pub fn major_in_name(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.parse().ok()
}

fn holds_something(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

/// What tells one state of a file from the next.
type Print = (u64, u64, i64, i64, u64);

fn print_of(path: &Path) -> Option<Print> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()))
}

/// What programs said of their version, each as it stood on disk then.
#[derive(Default)]
struct Programs(BTreeMap<PathBuf, (Print, String)>);

impl Programs {
    /// Returns a program's version; none where there is no such program, or where it does not say.
    fn version(&mut self, program: &Path) -> Option<String> {
        let print = print_of(program)?;
        if let Some((_, version)) = self.0.get(program).filter(|(known, _)| *known == print) {
            return Some(version.clone());
        }
        let version = version_in(&ask(program)?)?;
        self.0.insert(program.to_owned(), (print, version.clone()));
        Some(version)
    }
}

/// Asks a program for its version, and waits no longer than it may take.
fn ask(program: &Path) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let mut command = tokio::process::Command::new(program);
        command.arg("--version").env_clear().stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    })
}

/// Finds the version in what a program says: `v18.20.4`, `Redis server v=7.0.15 …`, `postgres (PostgreSQL) 15.8 …`.
fn version_in(said: &str) -> Option<String> {
    let words = said.split([' ', '=', '\n']).map(|word| word.strip_prefix('v').unwrap_or(word));
    words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned).next()
}

fn major_of(version: &str) -> Option<u32> {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// What dpkg says of packages, as its files stood then.
#[derive(Default)]
struct Packages {
    read: Option<[Option<Print>; 2]>,
    /// The packages that are there and not done: unpacked only, half installed, half configured.
    undone: Vec<String>,
}

impl Packages {
    /// Tells whether the package manager is done with a package, or never had it.
    fn is_whole(&mut self, package: &str) -> bool {
        let (status, updates) = (Path::new(DPKG).join("status"), Path::new(DPKG).join("updates"));
        let prints = [print_of(&status), print_of(&updates)];
        if self.read != Some(prints) {
            self.undone = undone(&status, &updates);
            self.read = Some(prints);
        }
        !self.undone.iter().any(|name| name == package)
    }
}

/// Reads dpkg's own record: its status, and what it noted since it last wrote that.
fn undone(status: &Path, updates: &Path) -> Vec<String> {
    let mut notes: Vec<PathBuf> = fs::read_dir(updates).into_iter().flatten().flatten().map(|e| e.path()).collect();
    notes.retain(|path| major_in_name(path).is_some());
    notes.sort();
    let texts = std::iter::once(status.to_owned()).chain(notes).map(|path| fs::read(path).unwrap_or_default());
    let mut states: BTreeMap<String, bool> = BTreeMap::new();
    for text in texts {
        let text = String::from_utf8_lossy(&text).into_owned();
        states.extend(text.split("\n\n").filter_map(stanza));
    }
    states.into_iter().filter(|(_, done)| !done).map(|(name, _)| name).collect()
}

/// Returns a stanza's package, and whether dpkg is done with it.
fn stanza(text: &str) -> Option<(String, bool)> {
    let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let state = field("Status: ")?.split(' ').nth(2)?;
    let done = !(state == "unpacked" || state.starts_with("half-"));
    Some((field("Package: ")?.to_owned(), done))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::services::Version;

    #[test]
    fn each_program_says_its_version_in_its_own_way() {
        for (said, version) in [
            ("v18.20.4\n", "18.20.4"),
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=d81bf3bd\n", "7.0.15"),
            ("postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)\n", "15.8"),
            ("postgres (PostgreSQL) 17beta1\n", "17beta1"),
        ] {
            assert_eq!(version_in(said).as_deref(), Some(version), "{said}");
        }
        assert_eq!(major_of("17beta1"), Some(17));
        assert_eq!(version_in("no such option"), None);
    }

    #[test]
    fn a_package_that_dpkg_is_not_done_with_is_not_whole_also_where_only_its_notes_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let (status, updates) = (dir.path().join("status"), dir.path().join("updates"));
        fs::create_dir(&updates).unwrap();
        let package = |name: &str, state: &str| format!("Package: {name}\nStatus: install ok {state}\nVersion: 1\n\n");
        fs::write(&status, package("redis-server", "half-configured") + &package("nodejs", "installed")).unwrap();
        assert_eq!(undone(&status, &updates), ["redis-server"]);
        fs::write(updates.join("0001"), package("nodejs", "unpacked")).unwrap();
        fs::write(updates.join("0000"), package("redis-server", "installed")).unwrap();
        fs::write(updates.join("tmp.i"), package("redis-server", "half-installed")).unwrap();
        assert_eq!(undone(&status, &updates), ["nodejs"]);
    }

    #[test]
    fn a_program_is_asked_again_only_once_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (program, runs) = (dir.path().join("node"), dir.path().join("runs"));
        let write = |version: &str| {
            let text = format!("#!/bin/sh\necho run >>{}\necho v{version}\n", runs.display());
            crate::files::replace(&program, text.as_bytes(), 0o755).unwrap();
        };
        let mut programs = Programs::default();
        assert_eq!(programs.version(&program), None);
        write("18.1.0");
        // While another test forks, the file may still be open for writing there, and the kernel does not run it.
        while programs.version(&program).is_none() {}
        assert_eq!(programs.version(&program).as_deref(), Some("18.1.0"));
        assert_eq!(programs.version(&program).as_deref(), Some("18.1.0"));
        write("20.1.0");
        while programs.version(&program).is_none() {}
        assert_eq!(programs.version(&program).as_deref(), Some("20.1.0"));
        assert_eq!(fs::read_to_string(&runs).unwrap().lines().count(), 2);
    }

    #[test]
    fn the_work_gets_words_of_a_closed_list() {
        let line = |service, task| command(&WorkOrder { service, task }).join(" ");
        assert_eq!(line(Service::Redis, Task::Install(Version::Usual)), "/usr/bin/zexio provision install redis");
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
