//! Events that passes emitted and did not persist yet. They reach the log at once, and the disk with the next write
//! that happens anyway: no deploy waits for the disk because of an event.

use crate::event_log;
use crate::model::event::Event;

/// How many events may wait for a write. A crash loses at most these; the log has them.
const MAX_PENDING: usize = 64;

/// Events on their way to the disk.
#[derive(Debug, Default)]
pub struct PendingEvents(Vec<Event>);

impl PendingEvents {
    /// Logs events and queues them for the disk.
    pub fn push(&mut self, events: impl IntoIterator<Item = Event>) {
        self.0.extend(events.into_iter().inspect(event_log::write));
    }

    /// Returns the events to write.
    pub fn unwritten(&self) -> &[Event] {
        &self.0
    }

    /// Marks all of them as written.
    pub fn mark_written(&mut self) {
        self.0.clear();
    }

    /// Returns whether they need a write of their own: after a busy pass another follows at once, and will most likely
    /// write.
    pub fn is_due(&self, busy: bool) -> bool {
        !self.0.is_empty() && (!busy || self.0.len() >= MAX_PENDING)
    }

    /// Drops the oldest events that wait because the disk fails.
    pub fn drop_oldest(&mut self) {
        let surplus = self.0.len().saturating_sub(MAX_PENDING * 4);
        self.0.drain(..surplus);
    }
}
