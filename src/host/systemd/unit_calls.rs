//! systemd calls that are not about an app: systemd's own health, Caddy, the host's services.

use std::collections::BTreeMap;

use dbus::arg::{RefArg, Variant};

use super::bus::{BUS_NAME, Listed, MANAGER, MANAGER_PATH, PROPERTIES, Property, SERVICE, TIMEOUT, UNIT};
use super::bus::{active_state, exit, invocation, manager, settled, text};
use super::{PROXY, Systemd};
use crate::model::observed::{ActiveState, Exit};
use crate::port::PortError;

/// Properties of a run that show its outcome.
const OF_AN_END: [Property; 4] =
    [(UNIT, "InvocationID"), (SERVICE, "StatusText"), (SERVICE, "ExecMainStatus"), (SERVICE, "ExecMainCode")];

/// Caddy's unit.
pub struct ProxyUnit {
    /// As systemd reports it: `active`, `failed`.
    pub state: String,
    /// The unit file's state, as systemd reports it: `enabled`; empty if there is no such unit.
    pub file: String,
    /// Main process; 0 if none.
    pub pid: u32,
    pub user: String,
}

impl Systemd {
    /// Observes Caddy's unit.
    pub fn proxy_unit(&self) -> Result<ProxyUnit, PortError> {
        let what = "read caddy.service";
        let (path,): (dbus::Path<'static>,) =
            self.call(what, |bus| manager(bus).method_call(MANAGER, "LoadUnit", (PROXY,)))?;
        let (state, file) = self.unit_words(PROXY)?;
        let pid = self.property(what, (BUS_NAME, &path), (SERVICE, "MainPID"))?;
        let user: String = self.property(what, (BUS_NAME, &path), (SERVICE, "User"))?;
        Ok(ProxyUnit { state, file, pid, user: if user.is_empty() { "root".to_owned() } else { user } })
    }

    /// Restarts Caddy, which refuses requests for a moment.
    pub fn restart_proxy(&self) -> Result<(), PortError> {
        self.manage("restart Caddy", "RestartUnit", (PROXY, "replace"))
    }
}

/// Calls that only the health report needs.
impl Systemd {
    /// Returns systemd's version, like `252.39-1~deb12u2`.
    pub fn version(&self) -> Result<String, PortError> {
        self.property("read systemd's version", (BUS_NAME, MANAGER_PATH), (MANAGER, "Version"))
    }

    /// Returns a unit's active state and unit file state as systemd reports them: `active`, `enabled`.
    pub fn unit_words(&self, unit: &str) -> Result<(String, String), PortError> {
        let what = format!("read {unit}");
        let (path,): (dbus::Path<'static>,) =
            self.call(&what, |bus| manager(bus).method_call(MANAGER, "LoadUnit", (unit,)))?;
        let word = |name| self.property(&what, (BUS_NAME, &path), (UNIT, name));
        Ok((word("ActiveState")?, word("UnitFileState")?))
    }

    /// Returns a unit's main process; 0 if none.
    pub fn main_pid(&self, unit: &str) -> Result<u32, PortError> {
        let what = format!("read {unit}");
        let (path,): (dbus::Path<'static>,) =
            self.call(&what, |bus| manager(bus).method_call(MANAGER, "LoadUnit", (unit,)))?;
        self.property(&what, (BUS_NAME, &path), (SERVICE, "MainPID"))
    }

    /// Returns the state of time synchronisation, as timedated knows it.
    pub fn clock(&self) -> Result<ClockSeen, PortError> {
        let place = ("org.freedesktop.timedate1", "/org/freedesktop/timedate1");
        let is = |name| self.property::<bool>("ask for the clock", place, ("org.freedesktop.timedate1", name));
        let (synchronised, enabled, installed) = (is("NTPSynchronized")?, is("NTP")?, is("CanNTP")?);
        let runs = |unit: &&str| self.unit_words(unit).is_ok_and(|(active, _)| active == "active");
        let service = TIME_SERVICES.into_iter().find(runs);
        Ok(ClockSeen { synchronised, enabled, installed, service })
    }

    fn property<T: for<'b> dbus::arg::Get<'b>>(
        &self,
        what: &str,
        (owner, path): (&str, &str),
        (interface, name): (&str, &str),
    ) -> Result<T, PortError> {
        self.call(what, |bus| {
            let (value,): (dbus::arg::Variant<T>,) =
                bus.with_proxy(owner, path, TIMEOUT).method_call(PROPERTIES, "Get", (interface, name))?;
            Ok(value.0)
        })
    }
}

/// The distributions' time services.
const TIME_SERVICES: [&str; 7] = [
    "systemd-timesyncd.service",
    "chrony.service",
    "chronyd.service",
    "ntpsec.service",
    "ntp.service",
    "ntpd.service",
    "openntpd.service",
];

/// The state of time synchronisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSeen {
    /// The kernel reports a synchronised clock.
    pub synchronised: bool,
    /// A time service is enabled in timedated.
    pub enabled: bool,
    /// timedated knows a time service on this machine.
    pub installed: bool,
    /// The time service that runs.
    pub service: Option<&'static str>,
}

/// A unit's current or last run.
pub struct Run {
    pub invocation: String,
    /// The program's last status text (sd_notify).
    pub said: String,
    /// None while it runs.
    pub exit: Option<Exit>,
}

/// Calls for units that are not an app's.
impl Systemd {
    /// Returns the active states of the loaded units that match these patterns.
    pub fn states(&self, patterns: Vec<String>) -> Result<BTreeMap<String, ActiveState>, PortError> {
        let asked = (Vec::<String>::new(), patterns);
        let (rows,): (Vec<Listed>,) =
            self.call("list units", |bus| manager(bus).method_call(MANAGER, "ListUnitsByPatterns", asked))?;
        Ok(rows.into_iter().map(|row| (row.0, settled(active_state(&row.3), row.7 != 0))).collect())
    }

    /// Returns a unit's current or last run.
    pub fn run_of(&self, name: &str) -> Result<Run, PortError> {
        let (path,): (dbus::Path<'static>,) =
            self.call(&format!("look at {name}"), |bus| manager(bus).method_call(MANAGER, "GetUnit", (name,)))?;
        let seen = self.properties(&path, &OF_AN_END)?;
        Ok(Run {
            invocation: invocation(&seen).unwrap_or_default(),
            said: text(&seen, "StatusText").to_owned(),
            exit: exit(&seen),
        })
    }

    /// Starts a unit by name. Returns at once.
    pub fn start_named(&self, name: &str) -> Result<(), PortError> {
        let _ = self.manage("reset a unit", "ResetFailedUnit", (name,));
        self.manage(&format!("start {name}"), "StartUnit", (name, "replace"))
    }

    /// Enables a unit at boot, by name.
    pub fn enable_named(&self, name: &str) -> Result<(), PortError> {
        self.manage(&format!("enable {name}"), "EnableUnitFiles", (vec![name], false, false))
    }

    /// Runs a command once in a transient unit, which outlives the agent. Returns at once.
    pub fn run_apart(&self, name: &str, description: &str, command: &[&str]) -> Result<(), PortError> {
        let _ = self.manage("reset a unit", "ResetFailedUnit", (name,));
        let command: Vec<String> = command.iter().map(ToString::to_string).collect();
        let program = command.first().cloned().unwrap_or_default();
        let properties: Vec<Setting<'_>> = vec![
            ("Description", Variant(Box::new(description.to_owned()))),
            ("Type", Variant(Box::new("oneshot".to_owned()))),
            ("NotifyAccess", Variant(Box::new("main".to_owned()))),
            ("ExecStart", Variant(Box::new(vec![(program, command, false)]))),
            ("TimeoutStartUSec", Variant(Box::new(LONGEST_RUN))),
        ];
        let others: Vec<(&str, Vec<Setting<'_>>)> = Vec::new();
        self.manage(&format!("start {name}"), "StartTransientUnit", (name, "fail", properties, others))
    }
}

/// A property of a transient unit.
type Setting<'a> = (&'a str, Variant<Box<dyn RefArg>>);

/// RuntimeMaxUSec of a transient unit, in microseconds: an hour.
const LONGEST_RUN: u64 = 3_600_000_000;
