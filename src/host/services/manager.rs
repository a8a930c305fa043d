//! How each package manager is called: every command line is built here from fixed words and those of a catalogue row;
//! no shell. Pure.

use crate::model::services::Version;
use crate::plan::services::AvailablePackage;

use super::catalogue::{APT_GET, DNF, Manager, Row, for_majors, major_in, of_major};

const APT_CACHE: &str = "/usr/bin/apt-cache";
const DPKG: &str = "/usr/bin/dpkg";

/// Stands for a version if what is installed is a module's stream.
const STREAM: &str = "stream";

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub program: &'static str,
    pub args: Vec<String>,
}

/// Builds a call of a program.
pub fn call(program: &'static str, args: &[&str]) -> Call {
    Call { program, args: args.iter().map(ToString::to_string).collect() }
}

impl Call {
    /// Formats it for people: the program and its first words.
    pub fn shown(&self) -> String {
        let program = self.program.rsplit('/').next().unwrap_or_default();
        let words = self.args.iter().filter(|word| !word.starts_with('-') && !word.contains("::"));
        let words: Vec<&str> = words.map(String::as_str).take(4).collect();
        format!("{program} {}", words.join(" "))
    }
}

impl Manager {
    /// Returns the calls that finish an interrupted run: without them apt does nothing.
    pub fn heal_calls(self) -> Vec<Call> {
        match self {
            Self::Apt => vec![call(DPKG, &["--force-confdef", "--force-confold", "--configure", "-a"])],
            Self::Dnf => Vec::new(),
        }
    }

    /// Returns the call that updates the package lists.
    pub fn update_call(self) -> Call {
        match self {
            Self::Apt => apt(&["update"]),
            Self::Dnf => call(DNF, &["-y", "makecache"]),
        }
    }

    /// Returns the calls that list a service's available versions.
    pub fn list_calls(self, row: &Row, version: Version) -> Vec<Call> {
        match self {
            Self::Apt => {
                let names = match version {
                    Version::Default => vec![row.package.to_owned()],
                    Version::Major(_) => for_majors(row.package_of_major, 10..40),
                };
                vec![Call { program: APT_CACHE, args: std::iter::once("madison".to_owned()).chain(names).collect() }]
            }
            Self::Dnf => {
                const QUERY: [&str; 5] =
                    ["-q", "repoquery", "--latest-limit=1", "--qf", "%{name} %{version}-%{release}\n"];
                let streams = row.module.map(|module| call(DNF, &["-q", "module", "list", "--all", module]));
                let packages = call(DNF, &[&QUERY[..], &[row.package]].concat());
                streams.into_iter().chain([packages]).collect()
            }
        }
    }

    /// Parses the available versions, the newest of each major first.
    pub fn read_offers(self, row: &Row, text: &str) -> Vec<AvailablePackage> {
        let read = |line| match self {
            Self::Apt => madison(row, line),
            Self::Dnf => dnf_offer(row, line),
        };
        text.lines().filter_map(read).collect()
    }

    /// Returns the calls that install an offer.
    pub fn install_calls(self, row: &Row, version: Version, offer: &AvailablePackage) -> Vec<Call> {
        let templates = match version {
            Version::Default => row.install,
            Version::Major(_) => row.install_major,
        };
        let packages: Vec<String> =
            templates.iter().map(|text| of_major(text, offer.major).replace("{exact}", &offer.exact)).collect();
        let packages = packages.iter().map(String::as_str);
        match self {
            Self::Apt => {
                // Another major may be installed: requesting this one means replacing it.
                let head = ["install", "-y", "--no-install-recommends", "--allow-downgrades"];
                vec![apt(&head.into_iter().chain(packages).collect::<Vec<_>>())]
            }
            Self::Dnf => {
                let install = call(DNF, &["-y", "install"].into_iter().chain(packages).collect::<Vec<_>>());
                let Some(module) = row.module.filter(|_| offer.exact == STREAM) else { return vec![install] };
                vec![
                    call(DNF, &["-y", "module", "reset", module]),
                    call(DNF, &["-y", "module", "enable", &format!("{module}:{}", offer.major)]),
                    install,
                ]
            }
        }
    }

    /// Returns the calls that remove these majors. Dependencies stay: what else has come to use them cannot be seen.
    /// `apt autoremove` shows them.
    pub fn remove_calls(self, row: &Row, majors: &[u32], purge: bool) -> Vec<Call> {
        let packages = for_majors(row.package_of_major, majors.iter().copied());
        if packages.is_empty() {
            return Vec::new();
        }
        let packages = packages.iter().map(String::as_str);
        match self {
            Self::Apt => {
                let head = [if purge { "purge" } else { "remove" }, "-y"];
                vec![apt(&head.into_iter().chain(packages).collect::<Vec<_>>())]
            }
            Self::Dnf => {
                vec![call(DNF, &["-y", "--noautoremove", "remove"].into_iter().chain(packages).collect::<Vec<_>>())]
            }
        }
    }
}

/// Builds a call of apt-get that waits for locks, asks nothing, and keeps the operator's changes to configuration.
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

/// Parses a line of `apt-cache madison`: `nodejs | 18.20.4+dfsg-1~deb12u1 | http://… Packages`.
fn madison(row: &Row, line: &str) -> Option<AvailablePackage> {
    let mut parts = line.split('|').map(str::trim);
    let (package, exact, source) = (parts.next()?, parts.next()?, parts.next()?);
    let plain = exact.bytes().all(|b| b.is_ascii_alphanumeric() || b".+:~-".contains(&b));
    let named = major_in(row.package_of_major, package);
    let upstream = exact.split_once(':').map_or(exact, |(_, upstream)| upstream);
    let major = named.or_else(|| (package == row.package).then(|| leading_number(upstream)).flatten())?;
    (plain && source.ends_with(" Packages")).then(|| AvailablePackage { major, exact: exact.to_owned() })
}

/// Parses a line of `dnf module list` (`nodejs 18 [d] common, …`) or of our repoquery (`nodejs 16.20.2-4.el9`).
fn dnf_offer(row: &Row, line: &str) -> Option<AvailablePackage> {
    let mut words = line.split_whitespace();
    let (name, version) = (words.next()?, words.next()?);
    if name != row.package && Some(name) != row.module {
        return None;
    }
    let exact = if version.contains('-') { version } else { STREAM };
    Some(AvailablePackage { major: leading_number(version)?, exact: exact.to_owned() })
}

/// Returns a version's leading number: its major.
pub fn leading_number(text: &str) -> Option<u32> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::row;
    use super::*;
    use crate::model::services::Service;
    use crate::plan::services::choose_package;

    fn offer(major: u32, exact: &str) -> AvailablePackage {
        AvailablePackage { major, exact: exact.into() }
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
        let read = |service| Manager::Apt.read_offers(&row(service, Manager::Apt), text);
        let node = [offer(20, "20.20.2-1nodesource1"), offer(18, "18.20.4+dfsg-1~deb12u1")];
        assert_eq!(read(Service::Nodejs), node);
        assert_eq!(read(Service::Redis), [offer(7, "5:7.0.15-1~deb12u1")]);
        assert_eq!(read(Service::Postgresql), [offer(15, "15.8-0+deb12u1"), offer(15, "15+248")]);
    }

    #[test]
    fn what_dnf_offers_are_streams_of_modules_and_packages() {
        let text = "AlmaLinux 9 - AppStream
Name   Stream Profiles                                Summary
nodejs 18     common [d], development, minimal, s2i   Javascript runtime
nodejs 22     common [d], development, minimal, s2i   Javascript runtime

Hint: [d]efault, [e]nabled, [x]disabled, [i]nstalled
nodejs 16.20.2-4.el9_2\n";
        let read = Manager::Dnf.read_offers(&row(Service::Nodejs, Manager::Dnf), text);
        assert_eq!(read, [offer(18, STREAM), offer(22, STREAM), offer(16, "16.20.2-4.el9_2")]);
        assert_eq!(choose_package(Service::Nodejs, Version::Default, &read), Ok(&offer(22, STREAM)));
    }

    #[test]
    fn nobody_is_asked_and_only_packages_of_our_own_list_are_named() {
        let line = |calls: Vec<Call>| {
            let words =
                calls.iter().flat_map(|call| std::iter::once(call.program).chain(call.args.iter().map(String::as_str)));
            words.filter(|word| !word.starts_with("-o") && !word.contains("::")).collect::<Vec<_>>().join(" ")
        };
        let install = |manager: Manager, service, version, offer: &AvailablePackage| {
            line(manager.install_calls(&row(service, manager), version, offer))
        };
        let (apt, dnf) = (Manager::Apt, Manager::Dnf);
        let head = "/usr/bin/apt-get -q install -y --no-install-recommends --allow-downgrades";
        let node = offer(18, "18.20.4+dfsg-1");
        assert_eq!(install(apt, Service::Nodejs, Version::Default, &node), format!("{head} nodejs=18.20.4+dfsg-1"));
        let pg = offer(15, "15.8-0");
        assert_eq!(install(apt, Service::Postgresql, Version::Default, &pg), format!("{head} postgresql"));
        assert_eq!(install(apt, Service::Postgresql, Version::Major(15), &pg), format!("{head} postgresql-15"));
        let redis = offer(7, "5:7.0.15-1~deb12u1");
        assert_eq!(install(apt, Service::Redis, Version::Default, &redis), format!("{head} redis-server"));
        assert_eq!(
            install(apt, Service::Redis, Version::Major(7), &redis),
            format!("{head} redis-server=5:7.0.15-1~deb12u1 redis-tools=5:7.0.15-1~deb12u1")
        );
        assert_eq!(install(dnf, Service::Redis, Version::Default, &offer(6, "6.2-1")), "/usr/bin/dnf -y install redis");
        assert_eq!(
            install(dnf, Service::Nodejs, Version::Major(18), &offer(18, STREAM)),
            "/usr/bin/dnf -y module reset nodejs /usr/bin/dnf -y module enable nodejs:18 /usr/bin/dnf -y install nodejs"
        );
        let gone = |manager: Manager, service, purge| line(manager.remove_calls(&row(service, manager), &[15], purge));
        assert_eq!(gone(apt, Service::Redis, false), "/usr/bin/apt-get -q remove -y redis-server");
        assert_eq!(gone(apt, Service::Postgresql, true), "/usr/bin/apt-get -q purge -y postgresql-15");
        assert_eq!(gone(dnf, Service::Postgresql, true), "/usr/bin/dnf -y --noautoremove remove postgresql-server");
        assert_eq!(gone(apt, Service::Nodejs, true), "/usr/bin/apt-get -q purge -y nodejs");
        assert_eq!(apt.remove_calls(&row(Service::Postgresql, apt), &[], true), [], "none was brought");
    }

    #[test]
    fn what_is_on_offer_is_asked_by_the_packages_of_the_row() {
        let asked = |manager: Manager, service, version| {
            let calls = manager.list_calls(&row(service, manager), version);
            calls.iter().map(|call| call.args.join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(asked(Manager::Apt, Service::Redis, Version::Major(7)), ["madison redis-server"]);
        assert_eq!(asked(Manager::Apt, Service::Postgresql, Version::Default), ["madison postgresql"]);
        let majors = asked(Manager::Apt, Service::Postgresql, Version::Major(15)).remove(0);
        assert!(majors.starts_with("madison postgresql-10 ") && majors.ends_with(" postgresql-39"), "{majors}");
        let query = "-q repoquery --latest-limit=1 --qf %{name} %{version}-%{release}\n postgresql-server";
        let streams = "-q module list --all postgresql";
        assert_eq!(asked(Manager::Dnf, Service::Postgresql, Version::Default), [streams, query]);
    }
}
