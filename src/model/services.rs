//! Host services: programs of the distribution that projects may need. A closed list; nothing else can be requested.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What can be requested of a service.
struct Row {
    name: &'static str,
    default: DefaultVersion,
    /// A major, as an example of how one is written.
    example: &'static str,
}

/// The version of a service if no major is requested.
#[derive(Clone, Copy)]
enum DefaultVersion {
    /// The newest even major: the ones with long-term support.
    NewestEven,
    /// The version that the distribution ships.
    Distribution,
}

/// Defines the services from a table, so that each is in every list of them.
macro_rules! services {
    ($($(#[$doc:meta])* $service:ident: $name:literal, $default:ident, $example:literal;)+) => {
        /// A host service.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Service {
            $($(#[$doc])* #[serde(rename = $name)] $service,)+
        }

        impl Service {
            /// All services, in the order of the table.
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
    Postgresql: "postgresql", Distribution, "15";
    Redis: "redis", Distribution, "7";
}

impl Service {
    /// Returns its name in specs and on the wire.
    pub fn as_str(self) -> &'static str {
        self.row().name
    }

    /// Returns the names of all services, for people.
    pub fn names() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }

    /// Reads the requested version; None means the default.
    ///
    /// # Errors
    /// The version cannot be requested; the message lists those that can.
    pub fn version(self, raw: Option<&str>) -> Result<Version, String> {
        let Some(raw) = raw else { return Ok(Version::Default) };
        let major =
            || raw.parse::<u32>().ok().filter(|major| (1..1000).contains(major) && !raw.starts_with(['0', '+']));
        match raw {
            "lts" => Ok(Version::Default),
            _ if raw == self.default_name() => Ok(Version::Default),
            _ => major().map(Version::Major).ok_or_else(|| {
                format!("{raw:?} is not a version of {self}: lts or a major, like {}", self.row().example)
            }),
        }
    }

    /// Returns the name of the default version.
    pub fn default_name(self) -> &'static str {
        match self.row().default {
            DefaultVersion::NewestEven => "lts",
            DefaultVersion::Distribution => "default",
        }
    }

    /// Returns whether a major can be the default version.
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

/// The wanted version of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The newest LTS major of Node.js, the distribution's own of the others.
    Default,
    /// Any version of this major.
    Major(u32),
}

impl Version {
    /// Returns it as it is requested.
    pub fn shown(self, service: Service) -> String {
        match self {
            Self::Default => service.default_name().to_owned(),
            Self::Major(major) => major.to_string(),
        }
    }
}

/// Returns the unit of a service's package job. No app's unit has an `@`.
pub fn package_job_unit(service: Service) -> String {
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
        assert!("mysql".parse::<Service>().unwrap_err().contains(&Service::names()));
    }
}
