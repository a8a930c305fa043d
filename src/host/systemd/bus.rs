//! What a message to systemd looks like, and how its answers are read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dbus::arg::{PropMap, prop_cast};
use dbus::blocking::{Connection, Proxy};

use crate::model::observed::{ActiveState, Exit};
use crate::port::PortError;

pub(super) const BUS_NAME: &str = "org.freedesktop.systemd1";
pub(super) const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub(super) const SERVICE: &str = "org.freedesktop.systemd1.Service";
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// A property's interface and name.
pub(super) type Property = (&'static str, &'static str);

/// A row of ListUnits: name, description, load state, active state, sub state, followed, path, job, its type and path.
pub(super) type Listed =
    (String, String, String, String, String, String, dbus::Path<'static>, u32, String, dbus::Path<'static>);

/// Asks for properties; returns the serials of the questions.
pub(super) fn ask(
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

/// Collects the answers to what was asked, by the serial of the question.
pub(super) fn answers(bus: &Connection, mut asked: BTreeMap<u32, &str>) -> Result<PropMap, dbus::Error> {
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
    PortError::passing("Systemd", format!("could not {what}: {}", error.message().unwrap_or("systemd did not say why")))
}

pub(super) fn text<'a>(properties: &'a PropMap, key: &str) -> &'a str {
    prop_cast::<String>(properties, key).map_or("", String::as_str)
}

/// systemd answers u64::MAX for "not set": unknown, not a number.
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

/// A unit with a job waiting is already on its way: asking again would do nothing.
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
