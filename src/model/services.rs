//! Host services: programs of the distribution that projects may need. A closed list; nothing else can be asked for.
//! What is wanted of them, what the machine shows, what is remembered, and how that is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::desired::{Complaint, Owner};
use super::named::named;
use super::observed::{ActiveState, Exit};
use super::progress::Backoff;
use super::quantity::Timestamp;
use super::reason::Reason;

/// What can be asked of a service.
struct Row {
    name: &'static str,
    default: DefaultVersion,
    /// A major, to show how one is written.
    example: &'static str,
}

/// What a service is where no major of it is asked for.
#[derive(Clone, Copy)]
enum DefaultVersion {
    /// The newest even major: the ones with long-term support.
    NewestEven,
    /// The distribution's own.
    Distribution,
}

/// Makes the services of a table, so that each is in every list of them.
macro_rules! services {
    ($($(#[$doc:meta])* $service:ident: $name:literal, $default:ident, $example:literal;)+) => {
        /// A host service.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Service {
            $($(#[$doc])* #[serde(rename = $name)] $service,)+
        }

        impl Service {
            /// Every service there is.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$service),+];

            fn row(self) -> Row {
                match self {
                    $(Self::$service => Row { name: $name, default: DefaultVersion::$default, example: $example },)+
                }
            }
        }
    };
}

services! {
    /// Node.js: a program, no daemon.
    Nodejs: "nodejs", NewestEven, "20";
    /// PostgreSQL.
    Postgresql: "postgresql", Distribution, "15";
    /// Redis.
    Redis: "redis", Distribution, "7";
}

impl Service {
    /// Returns its name.
    pub fn as_str(self) -> &'static str {
        self.row().name
    }

    /// Returns the names of all services, for people.
    pub fn names() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }

    /// Reads the version that is asked for; none: the usual one.
    ///
    /// # Errors
    /// Says which versions can be asked for.
    pub fn version(self, raw: Option<&str>) -> Result<Version, String> {
        let Some(raw) = raw else { return Ok(Version::Default) };
        let major =
            || raw.parse::<u32>().ok().filter(|major| (1..1000).contains(major) && !raw.starts_with(['0', '+']));
        match raw {
            "lts" => Ok(Version::Default),
            _ if raw == self.usual() => Ok(Version::Default),
            _ => major().map(Version::Major).ok_or_else(|| {
                format!("{raw:?} is not a version of {self}: lts or a major, like {}", self.row().example)
            }),
        }
    }

    /// Returns what the usual version is called.
    pub fn usual(self) -> &'static str {
        match self.row().default {
            DefaultVersion::NewestEven => "lts",
            DefaultVersion::Distribution => "default",
        }
    }

    /// Tells whether a major can be the usual version.
    pub fn can_be_default(self, major: u32) -> bool {
        match self.row().default {
            DefaultVersion::NewestEven => major.is_multiple_of(2),
            DefaultVersion::Distribution => true,
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Service {
    type Err = String;
    fn from_str(raw: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|service| service.as_str() == raw).ok_or_else(|| {
            let raw: String = raw.chars().take(80).collect();
            format!("there is no service {raw:?}; known are {}", Self::names())
        })
    }
}

/// Which version of a service is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The newest long-term one of Node.js, the distribution's own of the others.
    Default,
    /// Any of this major.
    Major(u32),
}

impl Version {
    /// Returns it as it is asked for.
    pub fn shown(self, service: Service) -> String {
        match self {
            Self::Default => service.usual().to_owned(),
            Self::Major(major) => major.to_string(),
        }
    }
}

/// What is wanted of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedService {
    /// Grows with every change.
    pub generation: u64,
    /// What it comes to.
    pub intent: ServiceIntent,
    /// Who may change it.
    pub owner: Owner,
    /// Why the last thing that was asked could not be taken.
    pub complaint: Option<Complaint>,
}

/// What a service's wish comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceIntent {
    /// Be there, and run where it is a daemon.
    Install(Version),
    /// Be gone.
    Remove {
        /// Its data too.
        purge: bool,
    },
}

/// What is wanted of all services.
pub type WantedServices = BTreeMap<Service, WantedService>;

/// What the machine shows of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceSeen {
    /// What is installed, by major; only PostgreSQL can have more than one.
    pub installed: BTreeMap<u32, Installation>,
    /// Whether data of it lies on the disk.
    pub data: bool,
    /// The package manager's work for it, while it runs or has failed.
    pub work: Option<PackageJobSeen>,
}

/// What the machine shows of all services.
pub type ServicesSeen = BTreeMap<Service, ServiceSeen>;

impl ServiceSeen {
    /// Tells whether the package manager is at work for it.
    pub fn is_in_work(&self) -> bool {
        self.work.as_ref().is_some_and(|work| work.running)
    }
}

/// One installed major of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Its version, as the program itself says.
    pub version: String,
    /// Whether the package manager was done with it: not unpacked only, not half configured.
    pub whole: bool,
    /// Its daemon, where it has one.
    pub daemon: Option<DaemonSeen>,
}

/// A service's daemon, which systemd runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonSeen {
    /// Its unit.
    pub unit: String,
    /// How it is.
    pub state: ActiveState,
    /// Whether it starts at boot.
    pub enabled: bool,
}

impl DaemonSeen {
    /// Tells whether it serves.
    pub fn runs(&self) -> bool {
        matches!(self.state, ActiveState::Active | ActiveState::Reloading)
    }
}

/// The package manager's work, in a unit of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageJobSeen {
    /// Whether it goes on.
    pub running: bool,
    /// What it said last of itself.
    pub said: String,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Its run.
    pub invocation: String,
    /// Its last log lines, once it has failed.
    pub log: Vec<String>,
}

/// What is remembered of a service that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceProgress {
    /// The generation that the rest is about.
    pub generation: u64,
    /// The majors that were there when it was first asked for; none: nobody could look yet. They stay when nobody asks
    /// for it any more.
    pub before: Option<BTreeSet<u32>>,
    /// When work was begun for this generation whose end was not seen yet.
    pub begun: Option<Timestamp>,
    /// The failed work that was counted last, by its run.
    pub counted: Option<String>,
    /// Failures in a row, and when the next try is.
    pub backoff: Option<Backoff>,
    /// The last log lines of the last failure.
    pub evidence: Vec<String>,
}

named! {
    /// A service's state in one word, a part of the API.
    pub enum ServiceState {
        /// The machine could not be asked.
        Unknown = "unknown",
        /// It is not installed.
        Absent = "absent",
        /// The package manager installs it.
        Installing = "installing",
        /// It is installed, and has no daemon.
        Installed = "installed",
        /// Its daemon is starting.
        Starting = "starting",
        /// Its daemon runs.
        Running = "running",
        /// The package manager removes it.
        Removing = "removing",
        /// It is not as it is wanted, and a try failed.
        Failed = "failed",
    }
}

/// How a service is, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Which.
    pub service: Service,
    /// The generation that was looked at; 0 where nobody asks for it.
    pub observed_generation: u64,
    /// The installed version, as the program itself says.
    pub installed: Option<String>,
    /// In one word.
    pub state: ServiceState,
    /// Why it has its state; programs may compare it.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
    /// The last log lines of the last failure.
    pub evidence: Vec<String>,
    /// Since when it has its state and reason.
    pub since: Timestamp,
}

/// Returns the unit in which the package manager works for a service. No app's unit has an `@`.
pub fn work_unit(service: Service) -> String {
    format!("zexio-host@{service}.service")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_usual_one_or_a_major() {
        let read = |service: Service, raw: &str| service.version(Some(raw));
        assert_eq!(Service::Nodejs.version(None), Ok(Version::Default));
        assert_eq!(read(Service::Nodejs, "lts"), Ok(Version::Default));
        assert_eq!(read(Service::Nodejs, "20"), Ok(Version::Major(20)));
        assert_eq!(read(Service::Postgresql, "default"), Ok(Version::Default));
        assert_eq!(read(Service::Postgresql, "15"), Ok(Version::Major(15)));
        for service in [Service::Postgresql, Service::Redis] {
            assert_eq!(read(service, "lts"), Ok(Version::Default), "the distribution's own");
        }
        assert_eq!(read(Service::Redis, "7"), Ok(Version::Major(7)));
        for (service, raw) in [
            (Service::Nodejs, "20.1"),
            (Service::Nodejs, "default"),
            (Service::Nodejs, "latest; rm"),
            (Service::Postgresql, "015"),
            (Service::Postgresql, "-1"),
            (Service::Redis, "7.0"),
        ] {
            assert!(read(service, raw).is_err(), "{service} {raw}");
        }
        assert!("mysql".parse::<Service>().unwrap_err().contains("nodejs, postgresql, redis"));
    }
}
