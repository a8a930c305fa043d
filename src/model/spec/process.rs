//! What runs: commands, commands by a calendar, static sites, the release command.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::command::Command;
use super::deploy::Strategy;
use super::is_false;
use super::ready::{Check, Ready};
use super::routes::Route;
use crate::model::calendar;
use crate::model::quantity::Span;

/// A command to run once per release, before it gets traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseCommand {
    /// The command.
    pub run: Command,
    /// How long it may take.
    #[serde(default = "ReleaseCommand::default_timeout")]
    pub timeout: Span,
}

impl ReleaseCommand {
    fn default_timeout() -> Span {
        Span::seconds(300)
    }
}

/// One process: a command that runs, one that runs by a calendar, or a directory that Caddy serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["run"] }, { "required": ["static", "routes"] }]))]
pub struct Process {
    /// Its command, run in the artifact's directory. `$PORT`, `$HOST` and `$DATA_DIR` are filled in; no shell runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Command>,
    /// When it counts as ready. A process with routes and without this is ready when its port takes connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// Whether it speaks HTTP/2 without TLS, as gRPC servers do: its routes and probes speak that with it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub h2c: bool,
    /// Which requests it gets. A process with routes listens on `$HOST:$PORT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// How it is stopped.
    #[serde(default)]
    pub stop: Stop,
    /// How its new release takes over, where that differs from `deploy.strategy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// How many run side by side.
    #[serde(default)]
    pub instances: Instances,
    /// When it runs, instead of all the time: by systemd's calendar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Calendar>,
    /// A directory of the artifact that Caddy serves, instead of a command.
    #[serde(default, rename = "static", skip_serializing_if = "Option::is_none")]
    pub static_site: Option<SiteDirectory>,
    /// Whether a static site's unknown paths get its index, for an app that routes in the browser.
    #[serde(default, skip_serializing_if = "is_false")]
    pub spa: bool,
    /// Whether a static site's `/about` finds about.html.
    #[serde(default, skip_serializing_if = "is_false")]
    pub clean_urls: bool,
}

impl Process {
    /// Returns whether it listens on ports of its own: it has routes, or a readiness check that needs one.
    pub fn is_web(&self) -> bool {
        let probed = self.ready.as_ref().is_some_and(|ready| ready.check != Check::Notify);
        self.static_site.is_none() && (!self.routes.is_empty() || probed)
    }
}

/// When a process runs: a calendar expression of systemd. It reaches a timer's file, so it holds nothing but the
/// characters of such an expression. Whether systemd reads it is checked where a spec is written (`spec_rules`), not here: a
/// stored spec stays readable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Calendar(String);

impl Calendar {
    /// Returns the expression.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Calendar {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b" *:,./~-_+".contains(&b);
        let fits = (1..=100).contains(&raw.len()) && raw.bytes().all(plain) && raw.trim() == raw;
        if fits { Ok(Self(raw)) } else { Err(calendar::advice(&raw)) }
    }
}

impl From<Calendar> for String {
    fn from(calendar: Calendar) -> String {
        calendar.0
    }
}

/// A directory beneath the bundle: `public`, `dist/site`, or `.` for all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SiteDirectory(String);

impl SiteDirectory {
    /// Returns the path, relative to the bundle.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SiteDirectory {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
        let path = raw.trim_start_matches("./").trim_end_matches('/');
        let beneath = path.split('/').all(|part| !part.is_empty() && part != ".." && (part != "." || path == "."));
        let fits = raw.len() <= 200 && raw.bytes().all(plain) && !raw.starts_with('/') && beneath;
        if fits {
            Ok(Self(path.to_owned()))
        } else {
            Err(format!("{raw:?} is not a directory beneath the bundle like public"))
        }
    }
}

impl From<SiteDirectory> for String {
    fn from(directory: SiteDirectory) -> String {
        directory.0
    }
}

/// How many instances of a process run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Instances(u32);

impl Default for Instances {
    fn default() -> Self {
        Self(1)
    }
}

impl Instances {
    /// Returns the number.
    pub fn count(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Instances {
    type Error = String;
    fn try_from(raw: u32) -> Result<Self, String> {
        if (1..=64).contains(&raw) { Ok(Self(raw)) } else { Err(format!("{raw} instances: between 1 and 64")) }
    }
}

impl From<Instances> for u32 {
    fn from(instances: Instances) -> u32 {
        instances.0
    }
}

/// How a process is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// The signal it gets first.
    pub signal: StopSignal,
    /// How long until it is killed.
    pub within: Span,
    /// Who gets the signal, and the time.
    #[serde(skip_serializing_if = "StopTo::is_all")]
    pub to: StopTo,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: StopSignal::default(), within: Span::seconds(15), to: StopTo::default() }
    }
}

/// Who gets the stop signal, and the time to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StopTo {
    /// Every program that the process has started, so that what a script calls ends in its own time.
    #[default]
    All,
    /// Only the first one, for a server that stops its own workers; what is left when it has ended is killed.
    Main,
}

impl StopTo {
    fn is_all(&self) -> bool {
        *self == StopTo::All
    }
}

/// The signals that ask a process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum StopSignal {
    /// The usual one.
    #[default]
    SIGTERM,
    /// Ctrl-C.
    SIGINT,
    /// Graceful in some servers.
    SIGQUIT,
    /// Graceful in some servers.
    SIGHUP,
    /// Graceful in some servers.
    SIGUSR1,
    /// Graceful in some servers.
    SIGUSR2,
    /// Graceful in some servers.
    SIGWINCH,
}
