//! Fires the trigger when systemd signals a change of one of our units. Missing signals prove nothing: the loop
//! observes everything at intervals anyway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dbus::arg::{PropMap, RefArg};
use dbus::blocking::{BlockingSender, Connection};

use super::services::catalogue::may_be_a_daemon;
use crate::trigger::TriggerSender;

/// Subscriptions: unit state changes and finished jobs. Nothing else, since a start and a stop send 25 kB of signals.
const MATCHES: [&str; 3] = [
    "type='signal',sender='org.freedesktop.systemd1',path_namespace='/org/freedesktop/systemd1/unit',\
     interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',arg0='org.freedesktop.systemd1.Unit'",
    "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'",
    "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',member='UnitRemoved'",
];

const TIMEOUT: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(500);
/// Signals within this time become one trigger: a finished job sends several, and an app that has just started is often
/// ready before it is observed.
const GATHER: Duration = Duration::from_millis(10);

/// Listens in its own thread until stopped: a connection that is not drained stalls.
pub fn listen(trigger: TriggerSender, stop: Arc<AtomicBool>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            if let Err(error) = listen_once(&trigger, &stop) {
                tracing::warn!("could not listen to systemd: {}; tries again", error.message().unwrap_or("unknown"));
            }
            // Observes whatever was missed without a connection.
            trigger.changed();
            std::thread::sleep(TICK);
        }
    })
}

fn listen_once(trigger: &TriggerSender, stop: &AtomicBool) -> Result<(), dbus::Error> {
    let bus = Connection::new_system()?;
    let manager = bus.with_proxy("org.freedesktop.systemd1", "/org/freedesktop/systemd1", TIMEOUT);
    let () = manager.method_call("org.freedesktop.systemd1.Manager", "Subscribe", ())?;
    for rule in MATCHES {
        let mut call = dbus::Message::new_method_call(
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "AddMatch",
        )
        .map_err(|e| dbus::Error::new_failed(&e))?;
        call.append_all((rule,));
        bus.send_with_reply_and_block(call, TIMEOUT)?;
    }
    while !stop.load(Ordering::Relaxed) {
        if hear(&bus, TICK)? {
            let since = Instant::now();
            while let Some(left) = GATHER.checked_sub(since.elapsed()) {
                hear(&bus, left)?;
            }
            trigger.changed();
        }
    }
    Ok(())
}

/// Waits for signals; returns whether any of them matters.
fn hear(bus: &Connection, at_most: Duration) -> Result<bool, dbus::Error> {
    bus.channel().read_write(Some(at_most)).map_err(|()| dbus::Error::new_failed("the bus closed the connection"))?;
    let heard = std::iter::from_fn(|| bus.channel().pop_message());
    Ok(heard.filter(|message| concerns_us(message) && !is_on_its_way(message)).count() > 0)
}

/// A unit with a queued job is signalled again when the job ends. Until then PID 1 is busy setting it up, and queries
/// only slow that down.
fn is_on_its_way(message: &dbus::Message) -> bool {
    let (_, changed) = message.get2::<String, PropMap>();
    let job = changed.and_then(|changed| changed.get("Job")?.0.as_iter()?.next()?.as_u64());
    job.is_some_and(|job| job != 0)
}

/// Our units, Caddy's and the host services', not their slice, which changes with each of them. D-Bus escapes `zexio-`
/// as `zexio_2d` in a path but not in a name.
fn concerns_us(message: &dbus::Message) -> bool {
    let path = message.path().map(|path| path.to_string()).unwrap_or_default();
    if let Some((_, unit)) = path.split_once("/unit/") {
        let ours = unit.starts_with("zexio_2d") && !unit.ends_with("_2eslice");
        return ours || unit.starts_with("caddy_2eservice") || may_be_a_daemon(unit);
    }
    let (_, _, job_unit) = message.get3::<u32, dbus::Path<'_>, String>();
    let (removed,) = (message.get1::<String>(),);
    [job_unit, removed].into_iter().flatten().any(|name| name.starts_with("zexio-") || name == "caddy.service")
}
