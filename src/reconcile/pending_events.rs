//! What passes told and did not write yet. It reaches the log at once, and the disk with the next write that is made
//! anyway: telling makes no deploy wait for the disk.

use crate::event_log;
use crate::model::event::Event;

/// How many events may wait for a write. A crash loses at most these; the log has them.
const MOST: usize = 64;

/// Events on their way to the disk.
#[derive(Debug, Default)]
pub struct PendingEvents(Vec<Event>);

impl PendingEvents {
    /// Tells events.
    pub fn push(&mut self, events: impl IntoIterator<Item = Event>) {
        self.0.extend(events.into_iter().inspect(event_log::write));
    }

    /// Returns what is to be written.
    pub fn unwritten(&self) -> &[Event] {
        &self.0
    }

    /// Says that all of it was written.
    pub fn written(&mut self) {
        self.0.clear();
    }

    /// Tells whether a write of its own is due: another pass follows a busy one at once, and will most likely write.
    pub fn is_due(&self, busy: bool) -> bool {
        !self.0.is_empty() && (!busy || self.0.len() >= MOST)
    }

    /// Drops the oldest of what a disk that refuses keeps waiting.
    pub fn bound(&mut self) {
        let surplus = self.0.len().saturating_sub(MOST * 4);
        self.0.drain(..surplus);
    }
}
