//! Notices that something changed in the directory. What exactly does not matter: every observation is a full one, so a
//! lost or merged event costs nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::scan;

/// How long the directory must be quiet before an observation: an editor saves in several steps.
const QUIET: Duration = Duration::from_millis(300);
/// How long an observation waits at most while changes keep coming.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How soon a stop is noticed.
const NAP: Duration = Duration::from_millis(500);

/// Watches one directory.
pub struct DirWatcher {
    changed: Receiver<()>,
    sender: SyncSender<()>,
    watcher: Option<RecommendedWatcher>,
    /// The watched path, and the directory's identity under it; none if there was none.
    place: (PathBuf, Option<String>),
}

impl DirWatcher {
    /// Makes a watcher that watches nothing yet.
    pub fn idle() -> Self {
        // Capacity one: that something changed is the whole message, however often.
        let (sender, changed) = sync_channel(1);
        Self { changed, sender, watcher: None, place: (PathBuf::new(), None) }
    }

    /// Watches the directory that is under this path now.
    pub fn watch(&mut self, dir: &Path) {
        let place = (dir.to_owned(), scan::identity(dir));
        if self.is_watching() && self.place == place {
            return;
        }
        let news = self.place != place;
        self.place = place;
        self.watcher = None;
        if self.place.1.is_none() {
            return;
        }
        match self.begin(dir) {
            Ok(watcher) => self.watcher = Some(watcher),
            // Retried with every observation, logged once.
            Err(error) if news => {
                tracing::warn!(dir = ?dir, error = %error, "could not watch; looking every 30 s instead")
            }
            Err(_) => {}
        }
    }

    /// Tells whether it watches anything.
    pub fn is_watching(&self) -> bool {
        self.watcher.is_some()
    }

    /// Waits until something changed and is quiet again, or until the time is up.
    pub fn wait(&mut self, at_most: Duration, stop: &AtomicBool) {
        let until = Instant::now() + at_most;
        while !stop.load(Ordering::Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            match self.changed.recv_timeout(left.min(NAP)) {
                // A mount or unmount over the path causes no event in the watched directory.
                Err(RecvTimeoutError::Timeout) if self.stands() => {}
                Err(RecvTimeoutError::Timeout) => return,
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return self.settle(),
            }
        }
    }

    /// Tells whether the path still leads to the same directory, or still to none.
    fn stands(&self) -> bool {
        scan::identity(&self.place.0) == self.place.1
    }

    fn settle(&self) {
        let until = Instant::now() + TIMEOUT;
        while Instant::now() < until && self.changed.recv_timeout(QUIET).is_ok() {}
    }

    fn begin(&self, dir: &Path) -> notify::Result<RecommendedWatcher> {
        let sender = self.sender.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error or an overflow means that an event was missed: a reason to observe like any other.
            if event.map_or(true, |event| matters(&event)) {
                let _ = sender.try_send(());
            }
        })?;
        watcher.watch(dir, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }
}

/// Tells whether an event can mean a change. Opening and reading do not: an observation does both, and would trigger
/// itself.
pub(super) fn matters(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}
