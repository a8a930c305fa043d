//! systemd over D-Bus: observes units, writes their files, starts and stops them. Only this and `signals` use `dbus`.

mod bus;
mod files;
mod read_back;
mod unit_calls;

pub use files::invocation_of;
pub use unit_calls::{ClockSeen, ProxyUnit, Run};

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use dbus::arg::{PropMap, prop_cast};
use dbus::blocking::Connection;

use crate::model::layout::Layout;
use crate::model::names::{ProjectId, UnitId};
use crate::model::observed::{ActiveState, Exit, TimerSeen, UnitSeen};
use crate::model::quantity::Timestamp;
use crate::plan::UnitOrder;
use crate::port::{PortError, Units};
use crate::render::unit;

use super::blob::{self, BlobKey};
use super::disk;
use crate::model::reason::Reason;
use bus::{Listed, MANAGER, MANAGER_PATH, Property, SERVICE, UNIT};
use bus::{
    active_state, call_of, exit, gone, invocation, manager, needs_reload, number, refused, settled, text, timeout_of,
};
use files::{boot_link, leads_to, timer_link, unit_files};

const PROXY: &str = "caddy.service";
/// Where systemd records when a persistent timer last fired.
const STAMPS: &str = "/var/lib/systemd/timers";

/// systemd, with a connection that is reopened when it breaks.
#[derive(Default)]
pub struct Systemd {
    connection: RefCell<Option<Connection>>,
    /// The units that systemd keeps loaded for us, for the life of the connection.
    pinned: RefCell<BTreeSet<String>>,
    /// Cached state of units that run undisturbed.
    steady: RefCell<BTreeMap<UnitId, Steady>>,
}

/// The cached state of a unit's run. While that run lasts, only its resource usage changes.
struct Steady {
    read: Instant,
    seen: UnitSeen,
}

/// Maximum age of a unit's cached resource usage, and of the check whether systemd has read its current file.
const REREAD: Duration = Duration::from_secs(10);

/// The properties that a pass reads of a unit.
const WHOLE: [Property; 16] = [
    (UNIT, "ActiveState"),
    (UNIT, "SubState"),
    (UNIT, "InvocationID"),
    (UNIT, "ActiveEnterTimestamp"),
    (UNIT, "StateChangeTimestamp"),
    (UNIT, "NeedDaemonReload"),
    (SERVICE, "MainPID"),
    (SERVICE, "NRestarts"),
    (SERVICE, "MemoryCurrent"),
    (SERVICE, "CPUUsageNSec"),
    (SERVICE, "TasksCurrent"),
    (SERVICE, "IOReadBytes"),
    (SERVICE, "IOWriteBytes"),
    (SERVICE, "ExecMainStatus"),
    (SERVICE, "ExecMainCode"),
    (SERVICE, "Result"),
];

const SIGKILL: i32 = 9;

/// Whether systemd learns of OOM kills: with cgroup v2 it does.
fn tells_of_memory() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

impl Systemd {
    /// Calls systemd. A call that fails because the connection broke drops the connection; the next one opens a new
    /// one.
    fn call<T>(&self, what: &str, work: impl FnOnce(&Connection) -> Result<T, dbus::Error>) -> Result<T, PortError> {
        let mut held = self.connection.borrow_mut();
        let connection = match held.take() {
            Some(connection) => connection,
            None => Connection::new_system().map_err(|e| refused("connect to the system bus", &e))?,
        };
        let done = work(&connection);
        let bus_is_gone = matches!(&done, Err(error) if matches!(error.name(), Some(name) if name.ends_with(".Disconnected") || name.ends_with(".NoReply")));
        if bus_is_gone {
            self.pinned.borrow_mut().clear();
        } else {
            *held = Some(connection);
        }
        done.map_err(|e| refused(what, &e))
    }

    /// Calls a manager method that returns a job or nothing we need.
    fn manage<A: dbus::arg::AppendAll>(&self, what: &str, method: &str, args: A) -> Result<(), PortError> {
        self.call(what, |bus| {
            let mut message = call_of(MANAGER_PATH, MANAGER, method)?;
            message.append_all(args);
            dbus::blocking::BlockingSender::send_with_reply_and_block(bus, message, timeout_of(method)).map(|_| ())
        })
    }

    fn list(&self) -> Result<BTreeMap<String, Listed>, PortError> {
        let patterns = (Vec::<String>::new(), vec!["zexio-*.service".to_owned(), "zexio-*.timer".to_owned()]);
        let (rows,): (Vec<Listed>,) =
            self.call("list units", |bus| manager(bus).method_call(MANAGER, "ListUnitsByPatterns", patterns))?;
        Ok(rows.into_iter().map(|row| (row.0.clone(), row)).collect())
    }

    /// Reads some properties of a unit. There are some 300, and collecting them all takes PID 1 6 ms.
    fn properties(&self, path: &dbus::Path<'static>, wanted: &[Property]) -> Result<PropMap, PortError> {
        self.call("read a unit", |bus| bus::read(bus, path, wanted))
    }

    /// Observes a unit. Most units just run: they are not queried as long as it is the same run of the same file.
    fn fill(&self, id: &UnitId, seen: &mut UnitSeen, row: &Listed) -> Result<(), PortError> {
        let steady = row.3 == "active" && row.7 == 0;
        let known = self.steady.borrow_mut().remove(id).filter(|known| {
            steady
                && known.read.elapsed() < REREAD
                && known.seen.sub_state == row.4
                && known.seen.text == seen.text
                && known.seen.invocation == invocation_of(id)
        });
        let (read, found) = match known {
            Some(Steady { read, seen }) => (read, seen),
            None => (Instant::now(), self.read_whole(row)?),
        };
        let old = std::mem::take(seen);
        *seen =
            UnitSeen { text: old.text, launch_blob: old.launch_blob, enabled: old.enabled, timer: old.timer, ..found };
        if steady && seen.state == ActiveState::Active && !seen.needs_reload {
            self.steady.borrow_mut().insert(id.clone(), Steady { read, seen: seen.clone() });
        }
        Ok(())
    }

    fn read_whole(&self, row: &Listed) -> Result<UnitSeen, PortError> {
        let mut seen = UnitSeen::default();
        let found = self.properties(&row.6, &WHOLE)?;
        seen.state = settled(active_state(text(&found, "ActiveState")), row.7 != 0);
        seen.sub_state = text(&found, "SubState").to_owned();
        seen.invocation = invocation(&found);
        let key = if seen.state == ActiveState::Active { "ActiveEnterTimestamp" } else { "StateChangeTimestamp" };
        seen.since = number(&found, key).filter(|micros| *micros > 0).map(|micros| Timestamp(micros / 1000));
        seen.needs_reload = needs_reload(&found);
        seen.pid = prop_cast::<u32>(&found, "MainPID").copied().filter(|pid| *pid != 0);
        seen.restarts = prop_cast::<u32>(&found, "NRestarts").copied().unwrap_or(0);
        seen.memory_bytes = number(&found, "MemoryCurrent");
        seen.cpu_nanos = number(&found, "CPUUsageNSec");
        seen.tasks = number(&found, "TasksCurrent");
        seen.io_read_bytes = number(&found, "IOReadBytes");
        seen.io_write_bytes = number(&found, "IOWriteBytes");
        seen.exit = exit(&found);
        seen.result = text(&found, "Result").to_owned();
        seen.killed_unexplained =
            seen.exit == Some(Exit::Signal(SIGKILL)) && seen.result == "signal" && !tells_of_memory();
        Ok(seen)
    }

    /// Keeps a unit loaded in systemd (RefUnit). One that does not run is unloaded after every call that names it and
    /// read again for the next, with signals about all its neighbours: 2 ms of PID 1 each time.
    fn pin(&self, unit: &UnitId) -> Result<(), PortError> {
        let name = unit.name();
        if self.pinned.borrow().contains(&name) {
            return Ok(());
        }
        self.tell("load a unit", "RefUnit", &name)?;
        self.pinned.borrow_mut().insert(name);
        Ok(())
    }

    fn unpin(&self, unit: &UnitId) {
        let name = unit.name();
        if self.pinned.borrow_mut().remove(&name) {
            // Fails only with the connection, which ends the pin too.
            let _ = self.tell("let go of a unit", "UnrefUnit", &name);
        }
    }

    /// Calls the manager without waiting for the answer. Later calls are answered after it.
    fn tell(&self, what: &str, method: &str, unit: &str) -> Result<(), PortError> {
        self.call(what, |bus| {
            let mut message = call_of(MANAGER_PATH, MANAGER, method)?.append1(unit);
            message.set_no_reply(true);
            bus.channel().send(message).map_err(|()| gone())?;
            bus.channel().flush();
            Ok(())
        })
    }
}

impl Units for Systemd {
    fn observe(&self) -> Result<BTreeMap<ProjectId, BTreeMap<UnitId, UnitSeen>>, PortError> {
        let mut listed = self.list()?;
        self.steady.borrow_mut().retain(|id, _| listed.contains_key(&id.name()));
        let mut all: BTreeMap<ProjectId, BTreeMap<UnitId, UnitSeen>> = BTreeMap::new();
        for (id, text) in unit_files(".service")? {
            let mut seen = UnitSeen {
                text: Some(text),
                enabled: leads_to(&boot_link(&id), &Layout::unit_file(&id)),
                ..UnitSeen::default()
            };
            if let Some(row) = listed.remove(&id.name()) {
                self.fill(&id, &mut seen, &row)?;
            }
            all.entry(id.project.clone()).or_default().insert(id, seen);
        }
        for (id, text) in unit_files(".timer")? {
            let row = listed.remove(&id.timer());
            let enabled = leads_to(&timer_link(&id), &Layout::timer_file(&id));
            let timer = TimerSeen { text: Some(text), active: row.is_some_and(|row| row.3 == "active"), enabled };
            all.entry(id.project.clone()).or_default().entry(id).or_default().timer = Some(timer);
        }
        // Units that systemd still has loaded although their file is gone. It unloads inactive ones by itself.
        for row in listed.into_values().filter(|row| row.3 != "inactive") {
            let Some(id) = unit::described(&row.1) else { continue };
            let seen = all.entry(id.project.clone()).or_default().entry(id.clone()).or_default();
            if row.0.ends_with(".timer") {
                seen.timer = Some(TimerSeen { text: None, active: row.3 == "active", enabled: false });
            } else {
                self.fill(&id, seen, &row)?;
            }
        }
        for (id, seen) in all.values_mut().flatten() {
            seen.launch_blob = blob::is_sealed(&Layout::launch_blob(id));
        }
        Ok(all)
    }

    fn write(&self, order: &UnitOrder, blob: &[u8]) -> Result<(), PortError> {
        // The blob first: with the text alone the unit would look complete.
        let sealed = BlobKey::provide()?.seal(&order.unit.name(), blob)?;
        disk::replace(&Layout::launch_blob(&order.unit), &sealed, 0o600)?;
        disk::replace(&Layout::unit_file(&order.unit), order.text.as_bytes(), 0o644)?;
        if let Some(text) = &order.timer {
            disk::replace(&Layout::timer_file(&order.unit), text.as_bytes(), 0o644)?;
        }
        self.pin(&order.unit)
    }

    fn reload(&self) -> Result<(), PortError> {
        self.manage("reload systemd", "Reload", ())
    }

    fn start(&self, unit: &UnitId) -> Result<(), PortError> {
        let name = unit.name();
        self.pin(unit)?;
        let read = self.read_back(unit)?;
        if text(&read, "ActiveState") == "failed" {
            // It is not started again before its failed state is reset.
            self.manage(&format!("forget that {name} failed"), "ResetFailedUnit", (&name,))?;
        }
        self.manage(&format!("start {name}"), "StartUnit", (&name, "replace"))?;
        self.unpin(unit);
        Ok(())
    }

    fn stop(&self, unit: &UnitId) -> Result<(), PortError> {
        let name = unit.name();
        self.manage(&format!("stop {name}"), "StopUnit", (&name, "replace"))
    }

    fn enable(&self, unit: &UnitId) -> Result<(), PortError> {
        disk::link(&boot_link(unit), &Layout::unit_file(unit))
    }

    fn arm(&self, unit: &UnitId) -> Result<(), PortError> {
        let timer = unit.timer();
        self.pin(unit)?;
        self.read_back(unit)?;
        self.unpin(unit);
        disk::link(&timer_link(unit), &Layout::timer_file(unit))?;
        self.manage(&format!("start {timer}"), "StartUnit", (&timer, "replace")).map_err(|error| {
            // We wrote it from validated parts; only the calendar expression may still be refused.
            PortError::permanent(
                Reason::ScheduleRefused,
                format!("{error}; `systemd-analyze calendar` says what is wrong with its schedule"),
            )
        })
    }

    fn disarm(&self, unit: &UnitId) -> Result<(), PortError> {
        let timer = unit.timer();
        disk::remove(&timer_link(unit))?;
        self.manage(&format!("stop {timer}"), "StopUnit", (&timer, "replace"))
    }

    fn remove(&self, unit: &UnitId) -> Result<(), PortError> {
        self.unpin(unit);
        disk::remove(&boot_link(unit))?;
        disk::remove(&timer_link(unit))?;
        disk::remove(&Layout::timer_file(unit))?;
        disk::remove(&Path::new(STAMPS).join(format!("stamp-{}", unit.timer())))?;
        disk::remove(&Layout::unit_file(unit))?;
        disk::remove(&Layout::launch_blob(unit))?;
        let _ = self.manage("reset a unit", "ResetFailedUnit", (&unit.name(),));
        Ok(())
    }

    fn proxy_runs(&self) -> Result<bool, PortError> {
        let (path,): (dbus::Path<'static>,) =
            self.call("load caddy.service", |bus| manager(bus).method_call(MANAGER, "LoadUnit", (PROXY,)))?;
        let unit = self.properties(&path, &[(UNIT, "ActiveState")])?;
        Ok(!matches!(active_state(text(&unit, "ActiveState")), ActiveState::Inactive | ActiveState::Failed))
    }

    fn start_proxy(&self) -> Result<(), PortError> {
        let _ = self.manage("reset Caddy", "ResetFailedUnit", (PROXY,));
        self.manage("start Caddy", "StartUnit", (PROXY, "replace"))
    }
}
