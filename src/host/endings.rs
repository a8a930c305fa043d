//! The last output of units: their newest lines, and which of their processes systemd had to kill.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::host::clock::SystemClock;
use crate::model::names::UnitId;
use crate::model::observed::{ForcedStop, Killed, PortHolder, UnitSeen};
use crate::model::quantity::Timestamp;
use crate::port::{Clock, LogLine, Tail};
use crate::trigger::TriggerSender;

use super::journal::{Journalctl, Message};
use super::probe::listener;

/// journald writes a line slightly later than systemd logs it.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// The message id of "Failed with result", systemd's last message about a failed run.
const FAILED: &str = "d9b373ed55a64feb8242e02dbe79a49c";

/// A run of a unit.
type Run = (UnitId, String);

/// Reads the journal of units that ended.
pub struct Endings {
    journal: Journalctl,
    since: Timestamp,
    asked: Mutex<BTreeMap<UnitId, String>>,
    orders: Sender<Run>,
    found: Mutex<Receiver<ForcedStop>>,
}

impl Endings {
    /// Starts a thread that reads on request.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn begin(trigger: TriggerSender) -> std::io::Result<Self> {
        let ((orders, asked), (send, found)) = (channel::<Run>(), channel());
        let read = move || {
            for (unit, run) in asked {
                let killed = read_when_whole(&Journalctl::default(), &unit, &run);
                if !killed.is_empty() && send.send(ForcedStop { unit, killed }).is_ok() {
                    trigger.changed();
                }
            }
        };
        std::thread::Builder::new().name("endings".into()).spawn(read)?;
        let (journal, since) = (Journalctl::default(), SystemClock.now());
        Ok(Self { journal, since, asked: Mutex::default(), orders, found: Mutex::new(found) })
    }
}

impl Tail for Endings {
    fn tail(&self, units: &[UnitId], lines: u32) -> Vec<LogLine> {
        self.journal.tail(units, lines)
    }

    fn listeners(&self) -> Option<Vec<PortHolder>> {
        Some(listener::holders())
    }

    fn forced_stops(&self, failed: &[(&UnitId, &UnitSeen)]) -> Vec<ForcedStop> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|unit, _| failed.iter().any(|(failed, _)| *failed == unit));
        // Failures from before this agent's start were reported by the previous agent.
        let new = failed.iter().filter(|(_, seen)| seen.since.is_none_or(|since| since >= self.since));
        for (unit, run) in new.filter_map(|(unit, seen)| Some((*unit, seen.invocation.as_ref()?))) {
            if asked.insert(unit.clone(), run.clone()).as_ref() != Some(run) {
                // The thread ends only with the agent.
                let _ = self.orders.send((unit.clone(), run.clone()));
            }
        }
        self.found.lock().unwrap_or_else(PoisonError::into_inner).try_iter().collect()
    }
}

fn read_when_whole(journal: &Journalctl, unit: &UnitId, run: &str) -> Vec<Killed> {
    let mut said = Vec::new();
    for _ in 0..TRIES {
        said = journal.said_by_systemd(&unit.name(), run);
        if said.iter().any(|message| message.id.as_deref() == Some(FAILED)) {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    killed_for_their_time(&said)
}

/// systemd kills for other reasons too, such as a main process that left children behind; it logs the reason before.
fn killed_for_their_time(said: &[Message]) -> Vec<Killed> {
    let from = said.iter().position(|message| message.text.contains(" timed out. Killing")).unwrap_or(said.len());
    let killed = said.iter().skip(from).filter_map(|message| killed(&message.text));
    killed.filter(|killed| killed.program != crate::render::unit::WAITER).collect()
}

/// Parses `zexio-….service: Killing process 1299 (python3) with signal SIGKILL.`
fn killed(text: &str) -> Option<Killed> {
    let (pid, rest) = text.split_once(": Killing process ")?.1.split_once(" (")?;
    let (program, _) = rest.rsplit_once(") with signal ")?;
    Some(Killed { pid: pid.parse().ok()?, program: program.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(texts: &[&str]) -> Vec<Message> {
        let unit = |text: &&str| Message { text: format!("zexio-shop-web-r1.service: {text}"), id: None };
        texts.iter().map(unit).collect()
    }

    #[test]
    fn what_was_killed_for_its_time_is_named_and_nothing_else() {
        let found = killed_for_their_time(&said(&[
            "State 'stop-post' timed out. Killing.",
            "Killing process 97 (zexio-wait) with signal SIGKILL.",
            "Killing process 1299 (a) b (c) with signal SIGKILL.",
            "Failed with result 'timeout'.",
        ]));
        assert_eq!(found, [Killed { pid: 1299, program: "a) b (c".into() }]);
        let left_behind = said(&["Killing process 7 (python3) with signal SIGKILL.", "Deactivated successfully."]);
        assert_eq!(killed_for_their_time(&left_behind), []);
    }
}
