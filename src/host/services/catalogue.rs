//! The supported package managers, and what each host service is, one row per package manager: its program, packages, daemon and data. Which services
//! exist, and which versions can be requested, is defined in `model/services.rs`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::model::services::Service;

/// Debian's package tool.
pub const APT_GET: &str = "/usr/bin/apt-get";
/// Red Hat's package tool.
pub const DNF: &str = "/usr/bin/dnf";

/// A supported package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// Debian, Ubuntu and derivatives.
    Apt,
    /// Fedora, RHEL and derivatives.
    Dnf,
}

impl Manager {
    /// Every supported package manager.
    pub const ALL: [Self; 2] = [Self::Apt, Self::Dnf];

    /// Detects the package manager of this host.
    pub fn here() -> Option<Self> {
        let there = |program: &str| Path::new(program).exists();
        if there(APT_GET) { Some(Self::Apt) } else { there(DNF).then_some(Self::Dnf) }
    }
}

/// The placeholder for a major in a row.
const MAJOR: &str = "{major}";

/// A service as one package manager provides it. `{major}` and `{exact}` are placeholders for its version.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Identifies the service, and prints its version.
    pub program: &'static str,
    /// The package of the default version; its candidates are the versions on offer.
    pub package: &'static str,
    /// The package of one major, used to list offers, to detect it and to remove it.
    pub package_of_major: &'static str,
    /// Packages for the default version.
    pub install: &'static [&'static str],
    /// Packages for one major.
    pub install_major: &'static [&'static str],
    /// dnf's module, whose streams are majors.
    pub module: Option<&'static str>,
    pub daemon: Option<Daemon>,
    /// The data directory.
    pub data: Option<&'static str>,
    /// Creates the initial data, if the package does not.
    pub init: Option<Init>,
}

/// A service's daemon.
#[derive(Debug, Clone, Copy)]
pub struct Daemon {
    pub unit: &'static str,
    /// The unit to enable at boot.
    pub boot: &'static str,
}

/// A program that creates a service's initial data.
#[derive(Debug, Clone, Copy)]
pub struct Init {
    /// A file that exists once it has run.
    pub made: &'static str,
    pub program: &'static str,
    pub args: &'static [&'static str],
}

/// Returns a service as a package manager provides it.
pub fn row(service: Service, manager: Manager) -> Row {
    match (service, manager) {
        (Service::Nodejs, Manager::Apt) => Row {
            program: "/usr/bin/node",
            package: "nodejs",
            package_of_major: "nodejs",
            install: &["nodejs={exact}"],
            install_major: &["nodejs={exact}"],
            module: None,
            daemon: None,
            data: None,
            init: None,
        },
        (Service::Nodejs, Manager::Dnf) => Row {
            program: "/usr/bin/node",
            package: "nodejs",
            package_of_major: "nodejs",
            install: &["nodejs"],
            install_major: &["nodejs"],
            module: Some("nodejs"),
            daemon: None,
            data: None,
            init: None,
        },
        (Service::Postgresql, Manager::Apt) => Row {
            program: "/usr/lib/postgresql/{major}/bin/postgres",
            package: "postgresql",
            package_of_major: "postgresql-{major}",
            install: &["postgresql"],
            install_major: &["postgresql-{major}"],
            module: None,
            // postgresql.service is only a meta unit for all clusters; main is the one that the package creates.
            daemon: Some(Daemon { unit: "postgresql@{major}-main.service", boot: "postgresql.service" }),
            data: Some("/var/lib/postgresql/{major}"),
            init: None,
        },
        (Service::Postgresql, Manager::Dnf) => Row {
            program: "/usr/bin/postgres",
            package: "postgresql-server",
            package_of_major: "postgresql-server",
            install: &["postgresql-server"],
            install_major: &["postgresql-server"],
            module: Some("postgresql"),
            daemon: Some(Daemon { unit: "postgresql.service", boot: "postgresql.service" }),
            data: Some("/var/lib/pgsql/data"),
            // Red Hat's package has no cluster; Debian's creates one.
            init: Some(Init {
                made: "/var/lib/pgsql/data/PG_VERSION",
                program: "/usr/bin/postgresql-setup",
                args: &["--initdb"],
            }),
        },
        (Service::Redis, Manager::Apt) => Row {
            program: "/usr/bin/redis-server",
            package: "redis-server",
            package_of_major: "redis-server",
            install: &["redis-server"],
            // The server needs tools of the same version, and apt by itself selects only the newest.
            install_major: &["redis-server={exact}", "redis-tools={exact}"],
            module: None,
            daemon: Some(Daemon { unit: "redis-server.service", boot: "redis-server.service" }),
            data: Some("/var/lib/redis"),
            init: None,
        },
        (Service::Redis, Manager::Dnf) => Row {
            program: "/usr/bin/redis-server",
            package: "redis",
            package_of_major: "redis",
            install: &["redis"],
            install_major: &["redis"],
            module: Some("redis"),
            daemon: Some(Daemon { unit: "redis.service", boot: "redis.service" }),
            data: Some("/var/lib/redis"),
            init: None,
        },
    }
}

/// Returns a service on this host. Without a known package manager, programs are expected where apt installs them.
pub fn here(service: Service) -> Row {
    row(service, Manager::here().unwrap_or(Manager::Apt))
}

/// Substitutes a major for its placeholder.
pub fn of_major(text: &str, major: u32) -> String {
    text.replace(MAJOR, &major.to_string())
}

/// Returns a template's names for these majors: a single one if it is the same for all.
pub fn for_majors(text: &str, majors: impl Iterator<Item = u32>) -> Vec<String> {
    if text.contains(MAJOR) { majors.map(|major| of_major(text, major)).collect() } else { vec![text.to_owned()] }
}

/// Extracts the major from a name.
pub fn major_in(text: &str, name: &str) -> Option<u32> {
    let (before, after) = text.split_once(MAJOR)?;
    name.strip_prefix(before)?.strip_suffix(after)?.parse().ok()
}

/// Returns a template's paths on this host: every match for the major.
pub fn paths(text: &str) -> Vec<PathBuf> {
    let Some((before, after)) = text.split_once(MAJOR) else { return vec![text.into()] };
    let entries = fs::read_dir(before).into_iter().flatten().flatten();
    entries.map(|entry| format!("{before}{}{after}", entry.file_name().to_string_lossy()).into()).collect()
}

fn daemons() -> impl Iterator<Item = Daemon> {
    let rows = Service::ALL.into_iter().flat_map(|service| Manager::ALL.map(|manager| row(service, manager)));
    rows.filter_map(|row| row.daemon)
}

/// Returns the systemd unit patterns of all daemons.
pub fn unit_patterns() -> impl Iterator<Item = String> {
    daemons().map(|daemon| daemon.unit.replace(MAJOR, "*"))
}

/// Whether a unit may be a daemon's, or an umbrella for several of its units: it starts with the same word. The name
/// may be escaped as in a D-Bus path, where all but letters and digits is escaped.
pub fn may_be_a_daemon(unit: &str) -> bool {
    let word = |name: &'static str| name.split(|c: char| !c.is_ascii_alphanumeric()).next();
    daemons().filter_map(|daemon| word(daemon.unit)).any(|word| unit.starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemons_unit_is_known_by_its_first_word_as_the_bus_writes_it() {
        for unit in ["redis_2dserver_2eservice", "redis_2eservice", "postgresql_4015_2dmain_2eservice"] {
            assert!(may_be_a_daemon(unit), "{unit}");
        }
        assert!(!may_be_a_daemon("nodejs_2eservice") && !may_be_a_daemon("ssh_2eservice"));
        let patterns: Vec<String> = unit_patterns().collect();
        assert!(patterns.contains(&"postgresql@*-main.service".to_owned()), "{patterns:?}");
    }

    #[test]
    fn a_major_stands_where_the_row_has_its_place() {
        assert_eq!(for_majors("postgresql-{major}", [15, 17].into_iter()), ["postgresql-15", "postgresql-17"]);
        assert_eq!(for_majors("redis-server", [6, 7].into_iter()), ["redis-server"]);
        assert_eq!(major_in("postgresql-{major}", "postgresql-15"), Some(15));
        assert_eq!(major_in("postgresql-{major}", "postgresql-client"), None);
        assert_eq!(major_in("/var/lib/redis", "/var/lib/redis"), None);
    }

    #[test]
    fn what_is_there_in_the_place_of_the_major_makes_the_paths() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("15")).unwrap();
        let text = format!("{}/{{major}}/bin/postgres", dir.path().display());
        assert_eq!(paths(&text), [dir.path().join("15/bin/postgres")]);
        assert_eq!(paths("/usr/bin/node"), [PathBuf::from("/usr/bin/node")]);
        assert_eq!(paths("/nowhere/{major}"), Vec::<PathBuf>::new());
    }
}
