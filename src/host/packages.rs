//! The package manager's work for one host service, in a process of its own: the agent starts it in a unit that outlives
//! the agent. Every command line is made here, of our own words; no shell, and nobody is asked anything.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::model::services::ServiceSeen;
use crate::model::services::{Service, Version};
use crate::plan::services::{NO_MANAGER, NOT_ON_OFFER, Offer, Task, WorkOrder, choose, meant};

use super::services::{data_of, installed_now, major_in_name};

const APT_GET: &str = "/usr/bin/apt-get";
const APT_CACHE: &str = "/usr/bin/apt-cache";
const DPKG: &str = "/usr/bin/dpkg";
const DNF: &str = "/usr/bin/dnf";
const INITDB: &str = "/usr/bin/postgresql-setup";

/// A package manager that we can work with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// Debian, Ubuntu and their kin.
    Apt,
    /// Fedora, RHEL and their kin.
    Dnf,
}

impl Manager {
    /// Returns the one that is here.
    pub fn here() -> Option<Self> {
        let there = |program: &str| Path::new(program).exists();
        if there(APT_GET) { Some(Self::Apt) } else { there(DNF).then_some(Self::Dnf) }
    }
}

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Call {
    program: &'static str,
    args: Vec<String>,
}

fn call(program: &'static str, args: &[&str]) -> Call {
    Call { program, args: args.iter().map(ToString::to_string).collect() }
}

/// Why the work was not done.
struct Failed {
    status: i32,
    message: String,
}

impl Failed {
    fn passing(message: impl Into<String>) -> Self {
        Self { status: 1, message: message.into() }
    }
}

/// Does the work, and says on standard error and to systemd what it does and why it failed.
pub fn main(order: &WorkOrder) -> ExitCode {
    let done = match Manager::here() {
        Some(manager) => manager.work(order),
        None => Err(Failed {
            status: NO_MANAGER,
            message: format!("there is neither {APT_GET} nor {DNF} here, and zexio knows no other package manager"),
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed { status, message }) => {
            tell(&message);
            ExitCode::from(u8::try_from(status).unwrap_or(1))
        }
    }
}

/// Says how far the work is: systemd keeps the last word of it with the unit.
fn tell(what: &str) {
    eprintln!("{what}");
    // Started by hand there is nobody to notify.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(what)]);
}

impl Manager {
    fn work(self, order: &WorkOrder) -> Result<(), Failed> {
        match &order.task {
            Task::Install(version) => self.install(order.service, *version),
            Task::Remove { majors, purge } => {
                let majors: Vec<u32> = majors.iter().copied().collect();
                self.remove(order.service, &majors, *purge)
            }
        }
    }

    fn install(self, service: Service, version: Version) -> Result<(), Failed> {
        self.heal();
        let offer = self.find(service, version)?;
        tell(&format!("installing {service} {}", offer.exact));
        let steps = self.install_calls(service, version, &offer);
        if let Err(failed) = run_all(&steps) {
            // The lists may name files that the mirror has replaced since.
            tell(&format!("{}; tries again with new package lists", failed.message));
            self.update()?;
            let offer = self.find(service, version)?;
            run_all(&self.install_calls(service, version, &offer))?;
        }
        self.init_data(service)?;
        let seen = ServiceSeen { installed: installed_now(service), ..ServiceSeen::default() };
        match meant(service, version, &seen) {
            Some(found) => {
                tell(&format!("{service} {} is installed", found.version));
                Ok(())
            }
            None => Err(Failed::passing(format!(
                "the package manager says it is done, but {service} {} does not answer to --version",
                version.shown(service)
            ))),
        }
    }

    /// Finishes what an interrupted run of dpkg left behind; without that apt does nothing. What it cannot finish, the
    /// next steps will say.
    fn heal(self) {
        if self == Self::Apt {
            tell("finishing what an earlier run may have left behind");
            if let Err(failed) = run(&call(DPKG, &["--force-confdef", "--force-confold", "--configure", "-a"])) {
                eprintln!("{}", failed.message);
            }
        }
    }

    /// Finds the package to install; with new package lists, where the old ones do not have it.
    fn find(self, service: Service, version: Version) -> Result<Offer, Failed> {
        tell(&format!("looking for {service} {}", version.shown(service)));
        if let Ok(offer) = choose(service, version, &self.offers(service, version)?) {
            return Ok(offer.clone());
        }
        let updated = self.update();
        choose(service, version, &self.offers(service, version)?).cloned().map_err(|message| match updated {
            Ok(()) => Failed { status: NOT_ON_OFFER, message },
            Err(failed) => failed,
        })
    }

    fn update(self) -> Result<(), Failed> {
        tell("updating the package lists");
        run(&match self {
            Self::Apt => apt(&["update"]),
            Self::Dnf => call(DNF, &["-y", "makecache"]),
        })
    }

    fn offers(self, service: Service, version: Version) -> Result<Vec<Offer>, Failed> {
        let listed = self.list_calls(service, version).iter().map(output).collect::<Result<Vec<String>, Failed>>()?;
        Ok(listed.iter().flat_map(|text| self.read_offers(text)).collect())
    }

    /// Returns the questions that show what can be had of a service.
    fn list_calls(self, service: Service, version: Version) -> Vec<Call> {
        match (self, service) {
            (Self::Apt, Service::Nodejs) => vec![call(APT_CACHE, &["madison", "nodejs"])],
            (Self::Apt, Service::Redis) => vec![call(APT_CACHE, &["madison", "redis-server"])],
            (Self::Apt, Service::Postgresql) if version == Version::Usual => {
                vec![call(APT_CACHE, &["madison", "postgresql"])]
            }
            (Self::Apt, Service::Postgresql) => {
                let names = (10..40).map(|major| format!("postgresql-{major}"));
                vec![Call { program: APT_CACHE, args: std::iter::once("madison".to_owned()).chain(names).collect() }]
            }
            (Self::Dnf, service) => {
                let queried = call(
                    DNF,
                    &[
                        "-q",
                        "repoquery",
                        "--latest-limit=1",
                        "--qf",
                        "%{name} %{version}-%{release}\n",
                        dnf_package(service),
                    ],
                );
                vec![call(DNF, &["-q", "module", "list", "--all", service.as_str()]), queried]
            }
        }
    }

    /// Reads what is on offer, the newest of each major first.
    fn read_offers(self, text: &str) -> Vec<Offer> {
        text.lines().filter_map(|line| if self == Self::Apt { madison(line) } else { dnf_offer(line) }).collect()
    }

    fn install_calls(self, service: Service, version: Version, offer: &Offer) -> Vec<Call> {
        let major = offer.major;
        match self {
            Self::Apt => {
                let exact = &offer.exact;
                let packages = match (service, version) {
                    (Service::Nodejs, _) => vec![format!("nodejs={exact}")],
                    (Service::Redis, Version::Usual) => vec!["redis-server".to_owned()],
                    // The server needs tools of the same version, and apt does not go below the newest by itself.
                    (Service::Redis, Version::Major(_)) => {
                        vec![format!("redis-server={exact}"), format!("redis-tools={exact}")]
                    }
                    (Service::Postgresql, Version::Usual) => vec!["postgresql".to_owned()],
                    (Service::Postgresql, Version::Major(_)) => vec![format!("postgresql-{major}")],
                };
                // Another major may be there: who asks for this one means it.
                let head = ["install", "-y", "--no-install-recommends", "--allow-downgrades"];
                vec![apt(&head.into_iter().chain(packages.iter().map(String::as_str)).collect::<Vec<_>>())]
            }
            Self::Dnf => {
                let package = dnf_package(service);
                let mut calls = Vec::new();
                if offer.exact == STREAM {
                    calls.push(call(DNF, &["-y", "module", "reset", service.as_str()]));
                    calls.push(call(DNF, &["-y", "module", "enable", &format!("{service}:{major}")]));
                }
                calls.push(call(DNF, &["-y", "install", package]));
                calls
            }
        }
    }

    /// Red Hat's PostgreSQL comes without a cluster; Debian's makes one.
    fn init_data(self, service: Service) -> Result<(), Failed> {
        let new = self == Self::Dnf
            && service == Service::Postgresql
            && !Path::new("/var/lib/pgsql/data/PG_VERSION").exists();
        if new { run(&call(INITDB, &["--initdb"])) } else { Ok(()) }
    }

    fn remove(self, service: Service, majors: &[u32], purge: bool) -> Result<(), Failed> {
        self.heal();
        tell(&format!("removing {service}"));
        run_all(&self.remove_calls(service, majors, purge))?;
        if purge {
            remove_data(service, majors)?;
        }
        let left = installed_now(service).into_keys().find(|major| majors.contains(major));
        left.map_or(Ok(()), |major| {
            Err(Failed::passing(format!("the package manager says it is done, but {service} {major} is still there")))
        })
    }

    /// Dependencies stay: who else came to use them, nobody can tell. `apt autoremove` shows them.
    fn remove_calls(self, service: Service, majors: &[u32], purge: bool) -> Vec<Call> {
        let packages: Vec<String> = match (self, service) {
            (Self::Dnf, service) => vec![dnf_package(service).to_owned()],
            (Self::Apt, Service::Nodejs) => vec!["nodejs".into()],
            (Self::Apt, Service::Redis) => vec!["redis-server".into()],
            (Self::Apt, Service::Postgresql) => majors.iter().map(|major| format!("postgresql-{major}")).collect(),
        };
        if packages.is_empty() {
            return Vec::new();
        }
        let packages = packages.iter().map(String::as_str);
        match self {
            Self::Apt => vec![apt(&[if purge { "purge" } else { "remove" }, "-y"]
                .into_iter()
                .chain(packages)
                .collect::<Vec<_>>())],
            Self::Dnf => {
                vec![call(DNF, &["-y", "--noautoremove", "remove"].into_iter().chain(packages).collect::<Vec<_>>())]
            }
        }
    }
}

/// What stands for a version where a module's stream is what is installed.
const STREAM: &str = "stream";

fn dnf_package(service: Service) -> &'static str {
    match service {
        Service::Nodejs => "nodejs",
        Service::Redis => "redis",
        Service::Postgresql => "postgresql-server",
    }
}

/// Makes a call of apt-get that waits for others, asks nobody, and keeps the operator's changes to configuration.
fn apt(args: &[&str]) -> Call {
    const OPTIONS: [&str; 10] = [
        "-q",
        "-o",
        "DPkg::Lock::Timeout=300",
        "-o",
        "Dpkg::Options::=--force-confdef",
        "-o",
        "Dpkg::Options::=--force-confold",
        "-o",
        "Acquire::Retries=3",
        "-oDpkg::Use-Pty=0",
    ];
    call(APT_GET, &[&OPTIONS, args].concat())
}

/// Reads a line of `apt-cache madison`: `nodejs | 18.20.4+dfsg-1~deb12u1 | http://… Packages`.
fn madison(line: &str) -> Option<Offer> {
    let mut parts = line.split('|').map(str::trim);
    let (package, exact, source) = (parts.next()?, parts.next()?, parts.next()?);
    let plain = exact.bytes().all(|b| b.is_ascii_alphanumeric() || b".+:~-".contains(&b));
    let named = package.strip_prefix("postgresql-").and_then(|major| major.parse().ok());
    let upstream = exact.split_once(':').map_or(exact, |(_, upstream)| upstream);
    let major = named.or_else(|| leading_number(upstream))?;
    (plain && source.ends_with(" Packages")).then(|| Offer { major, exact: exact.to_owned() })
}

/// Reads a line of `dnf module list` (`nodejs 18 [d] common, …`) or of our repoquery (`nodejs 16.20.2-4.el9`).
fn dnf_offer(line: &str) -> Option<Offer> {
    let mut words = line.split_whitespace();
    let (name, version) = (words.next()?, words.next()?);
    if !["nodejs", "redis", "postgresql", "postgresql-server"].contains(&name) {
        return None;
    }
    let exact = if version.contains('-') { version } else { STREAM };
    Some(Offer { major: leading_number(version)?, exact: exact.to_owned() })
}

fn leading_number(text: &str) -> Option<u32> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Removes what the package manager leaves of the data, of these majors or of all. The directories stay: Debian's
/// /var/lib/redis is made by a package that stays too, and without it redis would not start the next time.
fn remove_data(service: Service, majors: &[u32]) -> Result<(), Failed> {
    let ours = |dir: &Path| majors.is_empty() || major_in_name(dir).is_none_or(|major| majors.contains(&major));
    for dir in data_of(service).iter().filter(|dir| ours(dir)) {
        empty(dir).map_err(|e| Failed::passing(format!("could not remove what is in {}: {e}", dir.display())))?;
    }
    Ok(())
}

fn empty(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        // Not what a link leads to: the type is that of the entry itself.
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

fn run_all(calls: &[Call]) -> Result<(), Failed> {
    calls.iter().try_for_each(run)
}

fn prepared(call: &Call) -> Command {
    let mut command = Command::new(call.program);
    command.args(&call.args).env_clear().stdin(Stdio::null()).envs([
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("LC_ALL", "C.UTF-8"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBIAN_PRIORITY", "critical"),
        ("APT_LISTCHANGES_FRONTEND", "none"),
        // Which other daemons run with old libraries is for the operator to see, not for us to restart.
        ("NEEDRESTART_MODE", "l"),
    ]);
    command
}

/// Runs a program to its end; what it says goes where our own words go, and its progress to whoever waits.
fn run(call: &Call) -> Result<(), Failed> {
    let failed = |cause: String| Failed::passing(format!("could not {}: {cause}", shown(call)));
    let child = prepared(call).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|e| failed(e.to_string()))?;
    let (steps, complaints) = (child.stdout.take(), child.stderr.take());
    let said = std::thread::scope(|scope| {
        // Both at once: a program stands still while nobody reads the one that is full.
        scope.spawn(|| steps.map(|steps| show_steps(BufReader::new(steps))));
        complaints.map(|complaints| pass_on(BufReader::new(complaints))).unwrap_or_default()
    });
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(if said.is_empty() { status.to_string() } else { said })) }
}

/// How often a program's progress is news: each word of it makes the agent look, and is kept as an event.
const STEP: Duration = Duration::from_secs(1);

/// Passes lines on, and tells of one a second.
fn show_steps(lines: impl BufRead) {
    let mut told = None;
    for line in lines.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if line.is_empty() || told.is_some_and(|told: Instant| told.elapsed() < STEP) {
            eprintln!("{line}");
        } else {
            tell(&line);
            told = Some(Instant::now());
        }
    }
}

/// Passes lines on; returns the complaints among them, or the last line where none is marked as one.
fn pass_on(lines: impl BufRead) -> String {
    let (mut complaints, mut last) = (Vec::new(), String::new());
    for line in lines.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        eprintln!("{line}");
        complaints.extend(line.strip_prefix("E: ").or_else(|| line.strip_prefix("Error: ")).map(str::to_owned));
        if !line.trim().is_empty() {
            last = line;
        }
    }
    match complaints.as_slice() {
        [] => last,
        [first, rest @ ..] if rest.len() > 1 => format!("{first}; and {} more complaints", rest.len()),
        few => few.join("; "),
    }
}

/// Returns what a program says.
fn output(call: &Call) -> Result<String, Failed> {
    let done = prepared(call).stderr(Stdio::null()).output();
    let done = done.map_err(|e| Failed::passing(format!("could not {}: {e}", shown(call))))?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn shown(call: &Call) -> String {
    let program = call.program.rsplit('/').next().unwrap_or_default();
    let words = call.args.iter().filter(|word| !word.starts_with('-') && !word.contains("::"));
    let words: Vec<&str> = words.map(String::as_str).take(4).collect();
    format!("{program} {}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(major: u32, exact: &str) -> Offer {
        Offer { major, exact: exact.into() }
    }

    #[test]
    fn what_apt_offers_is_read_with_its_exact_versions() {
        let text =
            "    nodejs | 20.20.2-1nodesource1 | https://deb.nodesource.com/node_20.x nodistro/main amd64 Packages
    nodejs | 18.20.4+dfsg-1~deb12u1 | http://deb.debian.org/debian bookworm/main amd64 Packages
    nodejs | 18.20.4+dfsg-1~deb12u1 | http://deb.debian.org/debian bookworm/main Sources
 redis-server | 5:7.0.15-1~deb12u1 | http://deb.debian.org/debian bookworm/main amd64 Packages
postgresql-15 | 15.8-0+deb12u1 | file:/x ./ Packages
 postgresql | 15+248 | file:/x ./ Packages
N: Unable to locate package postgresql-16
    nodejs | 1; rm -rf / | x Packages\n";
        assert_eq!(
            Manager::Apt.read_offers(text),
            [
                offer(20, "20.20.2-1nodesource1"),
                offer(18, "18.20.4+dfsg-1~deb12u1"),
                offer(7, "5:7.0.15-1~deb12u1"),
                offer(15, "15.8-0+deb12u1"),
                offer(15, "15+248"),
            ]
        );
    }

    #[test]
    fn what_dnf_offers_are_streams_of_modules_and_packages() {
        let text = "AlmaLinux 9 - AppStream
Name   Stream Profiles                                Summary
nodejs 18     common [d], development, minimal, s2i   Javascript runtime
nodejs 22     common [d], development, minimal, s2i   Javascript runtime

Hint: [d]efault, [e]nabled, [x]disabled, [i]nstalled
nodejs 16.20.2-4.el9_2\n";
        let read = Manager::Dnf.read_offers(text);
        assert_eq!(read, [offer(18, STREAM), offer(22, STREAM), offer(16, "16.20.2-4.el9_2")]);
        assert_eq!(choose(Service::Nodejs, Version::Usual, &read), Ok(&offer(22, STREAM)));
    }

    #[test]
    fn nobody_is_asked_and_only_packages_of_our_own_list_are_named() {
        let line = |calls: Vec<Call>| {
            let words =
                calls.iter().flat_map(|call| std::iter::once(call.program).chain(call.args.iter().map(String::as_str)));
            words.filter(|word| !word.starts_with("-o") && !word.contains("::")).collect::<Vec<_>>().join(" ")
        };
        let install =
            |manager: Manager, service, version, offer: &Offer| line(manager.install_calls(service, version, offer));
        let (apt, dnf) = (Manager::Apt, Manager::Dnf);
        let head = "/usr/bin/apt-get -q install -y --no-install-recommends --allow-downgrades";
        let node = offer(18, "18.20.4+dfsg-1");
        assert_eq!(install(apt, Service::Nodejs, Version::Usual, &node), format!("{head} nodejs=18.20.4+dfsg-1"));
        let pg = offer(15, "15.8-0");
        assert_eq!(install(apt, Service::Postgresql, Version::Usual, &pg), format!("{head} postgresql"));
        assert_eq!(install(apt, Service::Postgresql, Version::Major(15), &pg), format!("{head} postgresql-15"));
        let redis = offer(7, "5:7.0.15-1~deb12u1");
        assert_eq!(install(apt, Service::Redis, Version::Usual, &redis), format!("{head} redis-server"));
        assert_eq!(
            install(apt, Service::Redis, Version::Major(7), &redis),
            format!("{head} redis-server=5:7.0.15-1~deb12u1 redis-tools=5:7.0.15-1~deb12u1")
        );
        assert_eq!(install(dnf, Service::Redis, Version::Usual, &offer(6, "6.2-1")), "/usr/bin/dnf -y install redis");
        assert_eq!(
            install(dnf, Service::Nodejs, Version::Major(18), &offer(18, STREAM)),
            "/usr/bin/dnf -y module reset nodejs /usr/bin/dnf -y module enable nodejs:18 /usr/bin/dnf -y install nodejs"
        );
        let gone = |manager: Manager, service, purge| line(manager.remove_calls(service, &[15], purge));
        assert_eq!(gone(apt, Service::Redis, false), "/usr/bin/apt-get -q remove -y redis-server");
        assert_eq!(gone(apt, Service::Postgresql, true), "/usr/bin/apt-get -q purge -y postgresql-15");
        assert_eq!(gone(dnf, Service::Postgresql, true), "/usr/bin/dnf -y --noautoremove remove postgresql-server");
    }

    #[test]
    fn what_apt_complains_of_is_what_is_told() {
        let said = "Reading\nE: Could not get lock /var/lib/dpkg/lock\nE: Unable to lock\n";
        assert_eq!(pass_on(said.as_bytes()), "Could not get lock /var/lib/dpkg/lock; Unable to lock");
        assert_eq!(pass_on("one\ntwo\n\n".as_bytes()), "two");
        assert_eq!(pass_on("E: a\nE: b\nE: c\n".as_bytes()), "a; and 2 more complaints");
    }
}
