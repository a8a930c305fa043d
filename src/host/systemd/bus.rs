//! The messages to systemd, and how its answers are parsed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dbus::arg::{PropMap, RefArg, Variant, prop_cast};
use dbus::blocking::{Connection, Proxy};

use crate::model::observed::{ActiveState, Exit};
use crate::model::reason::Reason;
use crate::port::PortError;

pub(super) const BUS_NAME: &str = "org.freedesktop.systemd1";
pub(super) const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub(super) const SERVICE: &str = "org.freedesktop.systemd1.Service";
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Calls for which systemd reads all its unit files, or which it answers after that, take longer than 10 s on a slow
/// machine.
const LONG_TIMEOUT: Duration = Duration::from_secs(90);
const LONG_CALLS: [&str; 6] =
    ["Reload", "StartUnit", "StopUnit", "RestartUnit", "EnableUnitFiles", "StartTransientUnit"];

/// Returns the timeout of a manager call.
pub(super) fn timeout_of(method: &str) -> Duration {
    if LONG_CALLS.contains(&method) { LONG_TIMEOUT } else { TIMEOUT }
}

/// A property's interface and name.
pub(super) type Property = (&'static str, &'static str);

/// systemd's answer to a property read.
type Answer = Variant<Box<dyn RefArg>>;

/// Changes with every state change of a unit.
const STEP: Property = (UNIT, "StateChangeTimestampMonotonic");
/// How often a unit that changes during the read is read again, before it is taken as it is.
const TRIES: u32 = 10;

/// A row of ListUnits: name, description, load state, active state, sub state, followed, path, job, its type and path.
pub(super) type Listed =
    (String, String, String, String, String, String, dbus::Path<'static>, u32, String, dbus::Path<'static>);

/// The path of a unit's object: every character but letters and digits is escaped as its code.
pub(super) fn object(unit: &str) -> dbus::Path<'static> {
    let escaped = unit.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("_{other:02x}"),
    });
    format!("{MANAGER_PATH}/unit/{}", escaped.collect::<String>()).into()
}

pub(super) fn call_of(path: &str, interface: &str, name: &str) -> Result<dbus::Message, dbus::Error> {
    dbus::Message::new_method_call(BUS_NAME, path, interface, name).map_err(|e| dbus::Error::new_failed(&e))
}

/// Reads some properties of a unit as of one moment. PID 1 answers one call at a time, and an app may exit between two:
/// that the old process exited and the new one's status, which is 0, would read as an exit with status 0.
pub(super) fn read(bus: &Connection, path: &dbus::Path<'static>, wanted: &[Property]) -> Result<PropMap, dbus::Error> {
    let asked = [&[STEP], wanted, &[STEP]].concat();
    let mut found = get(bus, path, &asked)?;
    for _ in 1..TRIES {
        let step = |at: Option<&(&str, Answer)>| at.and_then(|(_, answer)| answer.0.as_u64());
        if step(found.first()) == step(found.last()) {
            break;
        }
        found = get(bus, path, &asked)?;
    }
    Ok(found.into_iter().map(|(name, answer)| (name.to_owned(), answer)).collect())
}

/// Requests all properties before it waits for the first answer; returns the answers in the order of the requests.
fn get(
    bus: &Connection,
    path: &dbus::Path<'static>,
    wanted: &[Property],
) -> Result<Vec<(&'static str, Answer)>, dbus::Error> {
    let mut asked = BTreeMap::new();
    for (interface, name) in wanted {
        let question = call_of(path, PROPERTIES, "Get")?.append2(interface, name);
        asked.insert(bus.channel().send(question).map_err(|()| gone())?, *name);
    }
    let (began, mut found) = (Instant::now(), BTreeMap::new());
    while !asked.is_empty() {
        if began.elapsed() > TIMEOUT {
            return Err(dbus::Error::new_custom("org.freedesktop.DBus.Error.NoReply", "no answer within 10 s"));
        }
        bus.channel().read_write(Some(TIMEOUT)).map_err(|()| gone())?;
        while let Some(mut message) = bus.channel().pop_message() {
            let Some((serial, name)) = message.get_reply_serial().and_then(|serial| asked.remove_entry(&serial)) else {
                continue;
            };
            found.insert(serial, (name, message.as_result()?.read1()?));
        }
    }
    Ok(found.into_values().collect())
}

pub(super) fn gone() -> dbus::Error {
    dbus::Error::new_custom("org.freedesktop.DBus.Error.Disconnected", "the bus closed the connection")
}

pub(super) fn invocation(properties: &PropMap) -> Option<String> {
    prop_cast::<Vec<u8>>(properties, "InvocationID").filter(|id| !id.is_empty()).map(hex::encode)
}

pub(super) fn needs_reload(properties: &PropMap) -> bool {
    prop_cast::<bool>(properties, "NeedDaemonReload").copied().unwrap_or(false)
}

pub(super) fn manager(bus: &Connection) -> Proxy<'_, &Connection> {
    bus.with_proxy(BUS_NAME, MANAGER_PATH, TIMEOUT)
}

pub(super) fn refused(what: &str, error: &dbus::Error) -> PortError {
    // The library's own message for that blames a network and a policy.
    let silent = error.name().is_some_and(|name| name.ends_with(".NoReply"));
    let cause = match silent {
        true => "systemd did not answer in time; it may be busy, `systemctl list-jobs` shows with what",
        false => error.message().unwrap_or("systemd did not say why"),
    };
    PortError::transient(Reason::Systemd, format!("could not {what}: {cause}"))
}

pub(super) fn text<'a>(properties: &'a PropMap, key: &str) -> &'a str {
    prop_cast::<String>(properties, key).map_or("", String::as_str)
}

/// systemd answers u64::MAX for "not set": None, not a number.
pub(super) fn number(properties: &PropMap, key: &str) -> Option<u64> {
    prop_cast::<u64>(properties, key).copied().filter(|value| *value != u64::MAX)
}

pub(super) fn active_state(raw: &str) -> ActiveState {
    match raw {
        "active" => ActiveState::Active,
        "reloading" | "refreshing" => ActiveState::Reloading,
        "failed" => ActiveState::Failed,
        "activating" | "maintenance" => ActiveState::Activating,
        "deactivating" => ActiveState::Deactivating,
        _ => ActiveState::Inactive,
    }
}

/// A unit with a queued job is already changing: another call would do nothing.
pub(super) fn settled(state: ActiveState, job: bool) -> ActiveState {
    match (state, job) {
        (ActiveState::Inactive | ActiveState::Failed, true) => ActiveState::Activating,
        (ActiveState::Active, true) => ActiveState::Deactivating,
        (state, _) => state,
    }
}

/// The codes are those of waitid: 1 exited, 2 killed, 3 killed with a core dump.
pub(super) fn exit(service: &PropMap) -> Option<Exit> {
    let status = *prop_cast::<i32>(service, "ExecMainStatus")?;
    match *prop_cast::<i32>(service, "ExecMainCode")? {
        1 => Some(Exit::Status(status)),
        2 | 3 => Some(Exit::Signal(status)),
        _ => None,
    }
}
