//! The names that users and files are made of: project, process, host, variable, digest, key.
//!
//! Each type's only constructor is `parse`, so a value needs no further check.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::host;

/// The refused name, and what a valid one looks like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}not {kind}: {rule}", raw.as_ref().map(|raw| format!("{raw:?} is ")).unwrap_or_default())]
pub struct BadName {
    /// The text as it arrived, cut to 80 characters and before a `=`; None if it may be the value of a secret.
    pub raw: Option<String>,
    /// What it should have been, with its article: "a project id".
    pub kind: &'static str,
    /// The rule it breaks, and what to write instead if that is known.
    pub rule: Cow<'static, str>,
}

impl BadName {
    fn new(raw: &str, kind: &'static str, rule: Cow<'static, str>) -> Self {
        let shown = match raw.split_once('=') {
            Some((name, _)) => format!("{name}=…"),
            None => raw.to_owned(),
        };
        Self { raw: (kind != SECRET).then(|| shown.chars().take(80).collect()), kind, rule }
    }
}

const SECRET: &str = "a secret's name";

/// Defines a type around a checked string: parsing, display, order and serde all go through the check.
macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $check:expr $(, $why:expr)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the text and keeps it.
            ///
            /// # Errors
            /// The text breaks the type's rule; the error names both.
            pub fn parse(raw: &str) -> Result<Self, BadName> {
                let check: fn(&str) -> bool = $check;
                if check(raw) {
                    return Ok(Self(raw.to_owned()));
                }
                let why: Option<String> = None $(.or_else(|| $why(raw)))?;
                Err(BadName::new(raw, $kind, why.map_or(Cow::Borrowed($rule), Cow::Owned)))
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadName;
            fn from_str(raw: &str) -> Result<Self, BadName> {
                Self::parse(raw)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(raw: String) -> Result<Self, BadName> {
                Self::parse(&raw)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

checked_name!(
    /// A project's id. Short enough that `zx-<project>` is a valid user name (32 bytes at most).
    ProjectId, "a project id",
    "lower-case letters, digits and single hyphens, a letter first, at most 28 characters",
    |raw| is_id(raw, 28)
);

checked_name!(
    /// A process's name within its project.
    ProcessName, "a process name",
    "lower-case letters, digits and single hyphens, a letter first, at most 20 characters",
    |raw| is_id(raw, 20)
);

checked_name!(
    /// A host that Caddy serves: lower-case letters, digits and hyphens in at least two labels, so that nothing in it
    /// is special to a Caddyfile.
    Hostname, "a host name",
    "lower case, at least two labels, no scheme, port, path or wildcard, like shop.example.com",
    host::is_hostname,
    host::why_no_host
);

checked_name!(
    /// An environment variable that a spec may set.
    EnvName, "a variable name a spec may set",
    "letters, digits and _, not starting with a digit, at most 128 characters, and none that the system or the \
     agent sets (HOME, PORT, HOST, DATA_DIR, ZEXIO_*, SYSTEMD_*, …)",
    |raw| is_variable(raw) && !is_reserved(raw)
);

checked_name!(
    /// The name of a stored secret.
    SecretName, "a secret's name",
    "letters, digits and _, not starting with a digit, at most 128 characters; its value is stored by \
     `zexio secret set PROJECT NAME`",
    is_variable
);

checked_name!(
    /// A SHA-256 in lower-case hex.
    Sha256, "a sha256",
    "64 lower-case hex digits",
    |raw| raw.len() == 64 && raw.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
);

impl Sha256 {
    /// Makes one from a raw digest.
    pub fn of_digest(digest: [u8; 32]) -> Self {
        Self(hex::encode(digest))
    }
}

checked_name!(
    /// The name of an artifact file on the server.
    ArtifactName, "an artifact's name",
    "letters, digits, '.', '_', '+' and '-', no '.' first, at most 128 characters",
    |raw| {
        (1..=128).contains(&raw.len())
            && !raw.starts_with('.')
            && raw.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
    }
);

impl From<Sha256> for ArtifactName {
    /// Returns the name of the file stored under its digest.
    fn from(Sha256(digest): Sha256) -> Self {
        Self(digest)
    }
}

checked_name!(
    /// The id of an API key, which is also its file's name.
    KeyId, "a key id",
    "letters, digits, '_' and '-', at most 64 characters",
    |raw| {
        (1..=64).contains(&raw.len()) && raw.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    }
);

checked_name!(
    /// A path prefix of a route: `/api/*` or `/up`.
    RoutePath, "a route's path",
    "'/' first, then letters, digits and . _ ~ / -, at the end an optional '*', at most 200 characters",
    host::is_route_path,
    host::why_no_path
);

fn is_id(raw: &str, longest: usize) -> bool {
    raw.len() <= longest
        && raw.starts_with(|c: char| c.is_ascii_lowercase())
        && raw.split('-').all(|part| !part.is_empty() && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9')))
}

fn is_variable(raw: &str) -> bool {
    (1..=128).contains(&raw.len())
        && !raw.starts_with(|c: char| c.is_ascii_digit())
        && raw.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Variables that systemd, the launcher or the agent sets; a spec that also set them would change which value wins.
pub(super) const RESERVED_NAMES: [&str; 18] = [
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "NOTIFY_SOCKET",
    "CREDENTIALS_DIRECTORY",
    "STATE_DIRECTORY",
    "RUNTIME_DIRECTORY",
    "CACHE_DIRECTORY",
    "LOGS_DIRECTORY",
    "CONFIGURATION_DIRECTORY",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "MAINPID",
    "PORT",
    "HOST",
    "DATA_DIR",
    "BASH_ENV",
];
/// Prefixes of the other ones.
pub(super) const RESERVED_PREFIXES: [&str; 4] = ["WATCHDOG_", "LISTEN_", "SYSTEMD_", "ZEXIO_"];

fn is_reserved(raw: &str) -> bool {
    RESERVED_NAMES.contains(&raw) || RESERVED_PREFIXES.iter().any(|prefix| raw.starts_with(prefix))
}

/// A release's number within its project: 1, 2, 3 …
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleaseNo(pub u32);

impl fmt::Display for ReleaseNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One of the two places in which a web process can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// Serves while the marker does not exist.
    A,
    /// Serves while the marker exists.
    B,
}

impl Slot {
    /// Returns the other slot.
    pub fn other(self) -> Self {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    /// Returns `a` or `b`.
    pub fn as_str(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The two fixed ports of a web process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ports {
    pub a: u16,
    pub b: u16,
}

impl Ports {
    /// Returns the port of a slot.
    pub fn of(self, slot: Slot) -> u16 {
        match slot {
            Slot::A => self.a,
            Slot::B => self.b,
        }
    }
}

/// The systemd unit of one process of one release: `zexio-<project>-<process>-r<n>.service`, with `-<i>` before the
/// suffix if the process has several instances.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnitId {
    pub project: ProjectId,
    pub process: ProcessName,
    pub release: ReleaseNo,
    /// From 1; None if there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<u32>,
}

impl UnitId {
    /// Returns the unit's name. It cannot be split back: `a-b` and `c` read like `a` and `b-c`; the unit file's
    /// own section says which it is.
    pub fn name(&self) -> String {
        format!("{}.service", self.stem())
    }

    /// Returns the name of its timer.
    pub fn timer(&self) -> String {
        format!("{}.timer", self.stem())
    }

    /// Returns the name without its suffix.
    pub fn stem(&self) -> String {
        let instance = self.instance.map(|instance| format!("-{instance}")).unwrap_or_default();
        format!("zexio-{}-{}-r{}{instance}", self.project, self.process, self.release)
    }

    /// Returns the position of the instance's ports among those of its process.
    pub fn index(&self) -> usize {
        self.instance.map_or(0, |instance| instance.saturating_sub(1) as usize)
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_ids_that_could_reach_a_path_a_unit_or_a_user_name_are_refused() {
        let long = "a".repeat(29);
        for raw in [
            "", "A", "é", "-a", "a-", "a--b", "a/b", "../etc", "a/../b", "a.b", "a\0", "a\n", "1a", "a%2fb", "a b",
            &long,
        ] {
            assert!(ProjectId::parse(raw).is_err(), "{raw:?}");
        }
        for raw in ["a", "shop", "shop-2", "a-b-c9", &"a".repeat(28)] {
            assert!(ProjectId::parse(raw).is_ok(), "{raw:?}");
        }
    }

    #[test]
    fn host_names_that_mean_something_to_a_caddyfile_are_refused() {
        for raw in [
            "a.com, victim.com",
            "a.com victim.com",
            "a.com{",
            "{$HOME}.x.com",
            ":80",
            "*",
            "*.com",
            "http://a.com",
            "localhost",
            "a.com:22",
            "(snippet)",
            "import",
            "A.com",
            "a..com",
            ".a.com",
            "a.com.",
            "a_b.com",
            "1.2.3.4",
            "app.x.com {\n respond \"pwned\"\n}\nevil.x.com",
        ] {
            assert!(Hostname::parse(raw).is_err(), "{raw:?}");
        }
        assert!(Hostname::parse("shop.example.com").is_ok());
    }

    #[test]
    fn variables_that_the_system_sets_are_refused() {
        for raw in ["HOME", "SYSTEMD_X", "NOTIFY_SOCKET", "PORT", "ZEXIO_X", "1A", "A-B", "A=B", ""] {
            assert!(EnvName::parse(raw).is_err(), "{raw:?}");
        }
        for raw in ["RUST_LOG", "_x", "NODE_OPTIONS", "DATABASE_URL", "PATH", "LD_LIBRARY_PATH", "LD_PRELOAD"] {
            assert!(EnvName::parse(raw).is_ok(), "{raw:?}");
        }
    }

    #[test]
    fn what_may_be_a_value_is_not_shown() {
        let secret = SecretName::parse("hunter-2").unwrap_err().to_string();
        assert!(secret.starts_with("not a secret's name: ") && !secret.contains("hunter"), "{secret}");
        let variable = EnvName::parse("DB_PASS=hunter-2").unwrap_err().to_string();
        assert!(variable.starts_with("\"DB_PASS=…\" is not ") && !variable.contains("hunter"), "{variable}");
    }

    #[test]
    fn route_paths_cannot_leave_their_place() {
        for raw in ["api", "/a }", "@m", "/* {\n import /etc/passwd\n}", "//evil", "/a*b", ""] {
            assert!(RoutePath::parse(raw).is_err(), "{raw:?}");
        }
        for raw in ["/", "/api/*", "/*", "/up", "/a.b/c-d_~"] {
            assert!(RoutePath::parse(raw).is_ok(), "{raw:?}");
        }
    }
}
