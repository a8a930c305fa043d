//! Hears that something changed in the directory. What exactly does not matter: every look is a full one, so a lost or
//! merged event costs nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::scan;

/// How long nothing may stir before a look: an editor saves in several steps.
const QUIET: Duration = Duration::from_millis(300);
/// How long a look waits at most while something keeps stirring.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How soon a stop is noticed.
const NAP: Duration = Duration::from_millis(500);

/// Listens to one directory.
pub struct DirWatcher {
    changed: Receiver<()>,
    sender: SyncSender<()>,
    watcher: Option<RecommendedWatcher>,
    /// The path that is listened to, and which directory stood under it; none: none did.
    place: (PathBuf, Option<String>),
}

impl DirWatcher {
    /// Makes an watcher that hears nothing yet.
    pub fn idle() -> Self {
        // One place: that something changed is all there is to say, however often.
        let (sender, changed) = sync_channel(1);
        Self { changed, sender, watcher: None, place: (PathBuf::new(), None) }
    }

    /// Listens to the directory that stands under this path now.
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
            // Tried again with every look, said once.
            Err(error) if news => {
                tracing::warn!(dir = ?dir, error = %error, "could not watch; looking every 30 s instead")
            }
            Err(_) => {}
        }
    }

    /// Tells whether anything would be heard.
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
                // A mount or unmount over the path stirs nothing in the directory that is watched.
                Err(RecvTimeoutError::Timeout) if self.stands() => {}
                Err(RecvTimeoutError::Timeout) => return,
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return self.settle(),
            }
        }
    }

    /// Tells whether there is still the same directory under the path, or still none.
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
            // An error or an overflow means that something was missed: a reason to look like any other.
            if event.map_or(true, |event| matters(&event)) {
                let _ = sender.try_send(());
            }
        })?;
        watcher.watch(dir, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }
}

/// Tells whether an event can mean a change. Opening and reading do not: a look does both, and would hear itself.
pub(super) fn matters(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}
