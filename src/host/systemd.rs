//! systemd over D-Bus: looks at units, writes their files, starts and stops them. The one file that knows `dbus`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dbus::arg::{PropMap, RefArg, Variant, prop_cast};
use dbus::blocking::{Connection, Proxy};

use crate::model::layout::{CREDENTIAL_DIR, LAUNCHER, Layout, UNIT_DIR, user_of};
use crate::model::names::{ProjectId, UnitId};
use crate::model::observed::{ActiveState, Exit, TimerSeen, UnitSeen};
use crate::model::quantity::Timestamp;
use crate::plan::UnitOrder;
use crate::port::{PortError, Units};
use crate::render::unit;

use super::credential::Sealing;
use super::disk;

const BUS_NAME: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const PROXY: &str = "caddy.service";
/// Where systemd notes when a persistent timer last fired.
const STAMPS: &str = "/var/lib/systemd/timers";
const TIMEOUT: Duration = Duration::from_secs(10);

/// systemd, with a connection that is made anew when it breaks.
#[derive(Default)]
pub struct Systemd {
    connection: RefCell<Option<Connection>>,
    /// The units that systemd keeps in memory for us, as long as the connection lasts.
    pinned: RefCell<BTreeSet<String>>,
    /// What was read of units that run undisturbed.
    steady: RefCell<BTreeMap<UnitId, Steady>>,
}

/// What was read of a unit's run. As long as that run goes on, all that changes of it is how much it uses.
struct Steady {
    read: Instant,
    seen: UnitSeen,
}

/// How old what a unit uses may be, and whether its file is the one that systemd read.
const REREAD: Duration = Duration::from_secs(10);

/// A property's interface and name.
type Property = (&'static str, &'static str);

/// What a run comes to that is waited for.
const OF_AN_END: [Property; 4] =
    [(UNIT, "InvocationID"), (SERVICE, "StatusText"), (SERVICE, "ExecMainStatus"), (SERVICE, "ExecMainCode")];

/// What a pass wants to know of a unit.
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

/// What must be read as it was written.
const AS_WRITTEN: [Property; 9] = [
    (UNIT, "ActiveState"),
    (UNIT, "NeedDaemonReload"),
    (UNIT, "LoadState"),
    (UNIT, "FragmentPath"),
    (UNIT, "DropInPaths"),
    (SERVICE, "User"),
    (SERVICE, "ExecStart"),
    (SERVICE, "MemoryMax"),
    (SERVICE, "TasksMax"),
];

/// A row of ListUnits: name, description, load state, active state, sub state, followed, path, job, its type and path.
type Listed = (String, String, String, String, String, String, dbus::Path<'static>, u32, String, dbus::Path<'static>);

impl Systemd {
    /// Calls systemd. A call that fails because the bus went away drops the connection; the next one makes a new one.
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

    /// Calls a method of the manager that answers a job or nothing we need.
    fn manage<A: dbus::arg::AppendAll>(&self, what: &str, method: &str, args: A) -> Result<(), PortError> {
        self.call(what, |bus| {
            let mut message = call_of(MANAGER_PATH, MANAGER, method)?;
            message.append_all(args);
            dbus::blocking::BlockingSender::send_with_reply_and_block(bus, message, TIMEOUT).map(|_| ())
        })
    }

    fn list(&self) -> Result<BTreeMap<String, Listed>, PortError> {
        let patterns = (Vec::<String>::new(), vec!["zexio-*.service".to_owned(), "zexio-*.timer".to_owned()]);
        let (rows,): (Vec<Listed>,) =
            self.call("list units", |bus| manager(bus).method_call(MANAGER, "ListUnitsByPatterns", patterns))?;
        Ok(rows.into_iter().map(|row| (row.0.clone(), row)).collect())
    }

    /// Reads some properties of a unit, all asked for before the first answer is awaited. There are some 300, and to
    /// have PID 1 collect them all takes it 6 ms.
    fn properties(&self, path: &dbus::Path<'static>, wanted: &[Property]) -> Result<PropMap, PortError> {
        self.call("read a unit", |bus| answers(bus, ask(bus, path, wanted)?))
    }

    /// Reads a unit. Most units just run: of those nothing is asked while it is the same run of the same file.
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
            UnitSeen { text: old.text, credential: old.credential, enabled: old.enabled, timer: old.timer, ..found };
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
        Ok(seen)
    }

    /// Lets systemd keep a unit in memory. One that does not run is dropped after every call that names it and read
    /// again for the next, with signals about all its neighbours: 2 ms of PID 1 each time.
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
            // Fails only with the connection, and the pin goes with that.
            let _ = self.tell("let go of a unit", "UnrefUnit", &name);
        }
    }

    /// Calls the manager and does not wait for it. What is asked next is answered after it.
    fn tell(&self, what: &str, method: &str, unit: &str) -> Result<(), PortError> {
        self.call(what, |bus| {
            let mut message = call_of(MANAGER_PATH, MANAGER, method)?.append1(unit);
            message.set_no_reply(true);
            bus.channel().send(message).map_err(|()| gone())?;
            bus.channel().flush();
            Ok(())
        })
    }

    /// Makes sure that systemd read what was written: a drop-in of somebody else or a limit it did not understand must
    /// not start an app with other rights than its spec says.
    fn read_back(&self, id: &UnitId) -> Result<PropMap, PortError> {
        let path = object(&id.name());
        let mut read = self.properties(&path, &AS_WRITTEN)?;
        if needs_reload(&read) || text(&read, "LoadState") != "loaded" {
            // systemd kept an older unit of this name in memory: a boot target held on to it. Or it read the file when
            // somebody had just taken it away; then it asks for no reload and refuses to start for ever.
            self.reload()?;
            read = self.properties(&path, &AS_WRITTEN)?;
        }
        match difference(id, &read) {
            None => Ok(read),
            Some(found) => Err(PortError::lasting(
                "UnitTampered",
                format!(
                    "systemd does not read {} as it was written: {found}; remove what changes it and put the spec again",
                    id.name()
                ),
            )),
        }
    }
}

/// Asks for properties; returns the serials of the questions.
fn ask(
    bus: &Connection,
    path: &dbus::Path<'static>,
    wanted: &[Property],
) -> Result<BTreeMap<u32, &'static str>, dbus::Error> {
    let mut asked = BTreeMap::new();
    for (interface, name) in wanted {
        let question = call_of(path, PROPERTIES, "Get")?.append2(interface, name);
        asked.insert(bus.channel().send(question).map_err(|()| gone())?, *name);
    }
    Ok(asked)
}

/// The path of a unit's object: what is neither a letter nor a digit is written as its code.
fn object(unit: &str) -> dbus::Path<'static> {
    let escaped = unit.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("_{other:02x}"),
    });
    format!("{MANAGER_PATH}/unit/{}", escaped.collect::<String>()).into()
}

fn call_of(path: &str, interface: &str, name: &str) -> Result<dbus::Message, dbus::Error> {
    dbus::Message::new_method_call(BUS_NAME, path, interface, name).map_err(|e| dbus::Error::new_failed(&e))
}

/// Collects the answers to what was asked, by the serial of the question.
fn answers(bus: &Connection, mut asked: BTreeMap<u32, &str>) -> Result<PropMap, dbus::Error> {
    let (began, mut found) = (Instant::now(), PropMap::new());
    while !asked.is_empty() {
        if began.elapsed() > TIMEOUT {
            return Err(dbus::Error::new_custom("org.freedesktop.DBus.Error.NoReply", "no answer within 10 s"));
        }
        bus.channel().read_write(Some(TIMEOUT)).map_err(|()| gone())?;
        while let Some(mut message) = bus.channel().pop_message() {
            let Some(name) = message.get_reply_serial().and_then(|serial| asked.remove(&serial)) else { continue };
            found.insert(name.to_owned(), message.as_result()?.read1()?);
        }
    }
    Ok(found)
}

fn gone() -> dbus::Error {
    dbus::Error::new_custom("org.freedesktop.DBus.Error.Disconnected", "the bus closed the connection")
}

fn invocation(properties: &PropMap) -> Option<String> {
    prop_cast::<Vec<u8>>(properties, "InvocationID").filter(|id| !id.is_empty()).map(hex::encode)
}

/// Returns which run of a unit this is, without asking systemd: it leaves a link for the journal. None: it does not
/// run.
pub fn invocation_of(unit: &UnitId) -> Option<String> {
    let link = fs::read_link(Layout::invocation(unit)).ok()?;
    Some(link.to_string_lossy().into_owned())
}

fn needs_reload(properties: &PropMap) -> bool {
    prop_cast::<bool>(properties, "NeedDaemonReload").copied().unwrap_or(false)
}

fn manager(bus: &Connection) -> Proxy<'_, &Connection> {
    bus.with_proxy(BUS_NAME, MANAGER_PATH, TIMEOUT)
}

fn refused(what: &str, error: &dbus::Error) -> PortError {
    PortError::passing("Systemd", format!("could not {what}: {}", error.message().unwrap_or("systemd did not say why")))
}

fn text<'a>(properties: &'a PropMap, key: &str) -> &'a str {
    prop_cast::<String>(properties, key).map_or("", String::as_str)
}

/// systemd answers u64::MAX for "not set": unknown, not a number.
fn number(properties: &PropMap, key: &str) -> Option<u64> {
    prop_cast::<u64>(properties, key).copied().filter(|value| *value != u64::MAX)
}

fn active_state(raw: &str) -> ActiveState {
    match raw {
        "active" => ActiveState::Active,
        "reloading" | "refreshing" => ActiveState::Reloading,
        "failed" => ActiveState::Failed,
        "activating" | "maintenance" => ActiveState::Activating,
        "deactivating" => ActiveState::Deactivating,
        _ => ActiveState::Inactive,
    }
}

/// A unit with a job waiting is already on its way: asking again would do nothing.
fn settled(state: ActiveState, job: bool) -> ActiveState {
    match (state, job) {
        (ActiveState::Inactive | ActiveState::Failed, true) => ActiveState::Activating,
        (ActiveState::Active, true) => ActiveState::Deactivating,
        (state, _) => state,
    }
}

/// The codes are those of waitid: 1 exited, 2 killed, 3 killed with a core dump.
fn exit(service: &PropMap) -> Option<Exit> {
    let status = *prop_cast::<i32>(service, "ExecMainStatus")?;
    match *prop_cast::<i32>(service, "ExecMainCode")? {
        1 => Some(Exit::Status(status)),
        2 | 3 => Some(Exit::Signal(status)),
        _ => None,
    }
}

fn difference(id: &UnitId, read: &PropMap) -> Option<String> {
    let file = fs::read_to_string(Layout::unit_file(id)).unwrap_or_default();
    let line = |key: &str| {
        file.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default().to_owned()
    };
    let fragment = text(read, "FragmentPath");
    if Path::new(fragment) != Layout::unit_file(id) {
        return Some(format!("it reads {fragment:?}"));
    }
    let foreign =
        prop_cast::<Vec<String>>(read, "DropInPaths").into_iter().flatten().find(|path| !is_for_every_service(path));
    if let Some(path) = foreign {
        return Some(format!("{path} changes it"));
    }
    let user = text(read, "User");
    if user != user_of(&id.project) {
        return Some(format!("User is {user:?}"));
    }
    if !starts_the_launcher(read) {
        return Some("ExecStart is not the launcher".to_owned());
    }
    let limits = [("MemoryMax", line("MemoryMax")), ("TasksMax", line("TasksMax"))];
    limits.into_iter().filter(|(_, written)| !written.is_empty()).find_map(|(key, written)| {
        let found = number(read, key);
        (found != written.parse().ok()).then(|| format!("{key} is {found:?}, not {written}"))
    })
}

/// A distribution's drop-in for all services is no business of ours; one for our units is.
fn is_for_every_service(path: &str) -> bool {
    Path::new(path).parent().and_then(Path::file_name).is_some_and(|dir| dir == "service.d")
}

fn starts_the_launcher(service: &PropMap) -> bool {
    let Some(commands) = service.get("ExecStart").and_then(|value| value.0.as_iter()) else { return false };
    let commands: Vec<Vec<String>> = commands
        .filter_map(|command| command.as_iter())
        .map(|parts| {
            let words = parts.filter_map(|part| part.as_iter()).flatten();
            words.filter_map(|word| word.as_str().map(str::to_owned)).collect()
        })
        .collect();
    commands.iter().any(|words| words.iter().map(String::as_str).eq([LAUNCHER, "launch"]))
}

impl Units for Systemd {
    fn look(&self) -> Result<BTreeMap<ProjectId, BTreeMap<UnitId, UnitSeen>>, PortError> {
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
        // What systemd still holds although its file is gone. Dead ones it drops by itself.
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
            seen.credential = Layout::credential(id).exists();
        }
        Ok(all)
    }

    fn write(&self, order: &UnitOrder, blob: &[u8]) -> Result<(), PortError> {
        let sealing = Sealing::begin(&unit::credential_name(&order.unit), blob)?;
        disk::replace(&Layout::unit_file(&order.unit), order.text.as_bytes(), 0o644)?;
        if let Some(text) = &order.timer {
            disk::replace(&Layout::timer_file(&order.unit), text.as_bytes(), 0o644)?;
        }
        // PID 1 reads the file while the blob is sealed.
        self.pin(&order.unit)?;
        disk::replace(&Layout::credential(&order.unit), &sealing.end()?, 0o600)
    }

    fn reload(&self) -> Result<(), PortError> {
        self.manage("reload systemd", "Reload", ())
    }

    fn start(&self, unit: &UnitId) -> Result<(), PortError> {
        let name = unit.name();
        self.pin(unit)?;
        let read = self.read_back(unit)?;
        if text(&read, "ActiveState") == "failed" {
            // It is not started again before its failure is forgotten.
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
            // It was written by us of checked parts; what systemd may still not take is the calendar expression.
            PortError::lasting(
                "ScheduleRefused",
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
        disk::remove(&Layout::credential(unit))?;
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

impl Systemd {
    /// Restarts Caddy: once, when its admin socket is moved to where tenants cannot reach it.
    ///
    /// # Errors
    /// Says what systemd answered.
    pub fn restart_proxy(&self) -> Result<(), PortError> {
        self.reload()?;
        self.manage("enable Caddy", "EnableUnitFiles", (vec![PROXY], false, true))?;
        self.manage("restart Caddy", "RestartUnit", (PROXY, "replace"))
    }
}

/// What of a machine is asked for its health alone.
impl Systemd {
    /// Returns systemd's version, like `252.39-1~deb12u2`.
    ///
    /// # Errors
    /// Says what the bus answered.
    pub fn version(&self) -> Result<String, PortError> {
        self.property("read systemd's version", (BUS_NAME, MANAGER_PATH), (MANAGER, "Version"))
    }

    /// Returns in systemd's words how a unit is and whether it comes back after a boot: `active`, `enabled`.
    ///
    /// # Errors
    /// Says what systemd answered.
    pub fn unit_words(&self, unit: &str) -> Result<(String, String), PortError> {
        let what = format!("read {unit}");
        let (path,): (dbus::Path<'static>,) =
            self.call(&what, |bus| manager(bus).method_call(MANAGER, "LoadUnit", (unit,)))?;
        let word = |name| self.property(&what, (BUS_NAME, &path), (UNIT, name));
        Ok((word("ActiveState")?, word("UnitFileState")?))
    }

    /// Tells whether somebody keeps the clock right.
    ///
    /// # Errors
    /// Says what the bus answered.
    pub fn clock_is_kept(&self) -> Result<bool, PortError> {
        let place = ("org.freedesktop.timedate1", "/org/freedesktop/timedate1");
        self.property("ask for the clock", place, ("org.freedesktop.timedate1", "NTPSynchronized"))
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

/// How a unit's run is or was.
pub struct Run {
    /// Which.
    pub invocation: String,
    /// What its program said of itself last.
    pub said: String,
    /// How it ended.
    pub exit: Option<Exit>,
}

/// What is asked of units that are not an app's.
impl Systemd {
    /// Returns the units of these names that are loaded, and how they are.
    ///
    /// # Errors
    /// Says what systemd answered.
    pub fn states(&self, patterns: &[&str]) -> Result<BTreeMap<String, ActiveState>, PortError> {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let asked = (Vec::<String>::new(), patterns);
        let (rows,): (Vec<Listed>,) =
            self.call("list units", |bus| manager(bus).method_call(MANAGER, "ListUnitsByPatterns", asked))?;
        Ok(rows.into_iter().map(|row| (row.0, settled(active_state(&row.3), row.7 != 0))).collect())
    }

    /// Returns how a unit's run is.
    ///
    /// # Errors
    /// Says what systemd answered.
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

    /// Starts a unit by its name. Returns at once.
    ///
    /// # Errors
    /// Says what systemd answered.
    pub fn start_named(&self, name: &str) -> Result<(), PortError> {
        let _ = self.manage("reset a unit", "ResetFailedUnit", (name,));
        self.manage(&format!("start {name}"), "StartUnit", (name, "replace"))
    }

    /// Lets a unit start at boot, by its name.
    ///
    /// # Errors
    /// Says what systemd answered.
    pub fn enable_named(&self, name: &str) -> Result<(), PortError> {
        self.manage(&format!("enable {name}"), "EnableUnitFiles", (vec![name], false, false))
    }

    /// Runs a command once in a unit of its own, which lives on without us. Returns at once.
    ///
    /// # Errors
    /// Says what systemd answered.
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

/// A property of a unit that is made by a call.
type Setting<'a> = (&'a str, Variant<Box<dyn RefArg>>);

/// How long a command may run in a unit of its own, in microseconds: an hour.
const LONGEST_RUN: u64 = 3_600_000_000;

/// Returns the unit files that are ours, by their own section.
fn unit_files(suffix: &str) -> Result<Vec<(UnitId, String)>, PortError> {
    let entries = fs::read_dir(UNIT_DIR).map_err(|e| super::disk_error(&format!("read {UNIT_DIR}"), &e))?;
    let mut found = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !(name.starts_with("zexio-") && name.ends_with(suffix)) {
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if let Some(id) = unit::owner(&text).filter(|id| format!("{}{suffix}", id.stem()) == name) {
            found.push((id, text));
        }
    }
    Ok(found)
}

fn leads_to(link: &Path, target: &Path) -> bool {
    fs::read_link(link).is_ok_and(|found| found == target)
}

/// What `systemctl enable` makes. To have systemd make it would keep PID 1 busy for some 10 ms: it reads every unit
/// file there is.
fn boot_link(unit: &UnitId) -> PathBuf {
    Path::new(UNIT_DIR).join("multi-user.target.wants").join(unit.name())
}

fn timer_link(unit: &UnitId) -> PathBuf {
    Path::new(UNIT_DIR).join("timers.target.wants").join(unit.timer())
}

/// Makes the directory of launch blobs.
///
/// # Errors
/// Says why it could not be made.
pub fn prepare() -> Result<(), PortError> {
    disk::directory(Path::new(CREDENTIAL_DIR), 0o700)
}
