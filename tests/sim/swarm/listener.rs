//! Hears what the agent logs, each life on its own thread, and looks for the values of variables in it.

use std::cell::RefCell;
use std::fmt::{Debug, Write};
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

use super::oracle::SENTINEL;

thread_local! {
    /// The life of this thread that is listened to, if there is one.
    static EAR: RefCell<Option<TriggerReceiver>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct TriggerReceiver {
    /// The line that is being said.
    line: String,
    lines: u64,
    /// The first line with a value in it.
    caught: Option<String>,
}

/// Begins to listen to what this thread logs.
pub fn listen() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| tracing::subscriber::set_global_default(Listener).expect("nobody else listens"));
    EAR.set(Some(TriggerReceiver::default()));
}

/// Returns the first line in which the value of a variable was shown, once.
pub fn heard() -> Option<String> {
    EAR.with_borrow_mut(|ear| ear.as_mut()?.caught.take())
}

/// Stops listening; returns how many lines were heard.
pub fn stop() -> u64 {
    EAR.take().map_or(0, |ear| ear.lines)
}

struct Listener;

impl Subscriber for Listener {
    /// Asked anew at every line: each thread lives lives of its own, and not each of them is listened to.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        EAR.with_borrow(Option::is_some)
    }
    fn event(&self, event: &Event<'_>) {
        EAR.with_borrow_mut(|ear| {
            let Some(ear) = ear else { return };
            ear.line.clear();
            ear.lines += 1;
            event.record(ear);
            if ear.caught.is_none() && ear.line.contains(SENTINEL) {
                ear.caught = Some(ear.line.clone());
            }
        });
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Visit for TriggerReceiver {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.line, "{}={value:?} ", field.name());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.line.extend([field.name(), "=", value, " "]);
    }
}
