//! The one place where an event becomes a line of the agent's own log. journald adds the time.

use crate::model::event::{Event, Level};

/// Writes an event to the log.
pub fn write(event: &Event) {
    let project = event.project.as_ref().map_or("-", |project| project.as_str());
    let (generation, release) = (event.generation, event.release.map(|release| release.0));
    // Debug format: a message may contain output of a server or an app, and a line must stay one line.
    let (reason, message) = (event.reason.name(), &event.message);
    match event.level {
        Level::Info => tracing::info!(project, generation, release, reason, ?message),
        Level::Warning => tracing::warn!(project, generation, release, reason, ?message),
    }
}
