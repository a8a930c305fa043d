//! Hears that something stirred in the directory. What exactly does not matter: every look is a full one, so a lost or
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
const PATIENCE: Duration = Duration::from_secs(3);
/// How soon a stop is noticed.
const NAP: Duration = Duration::from_millis(500);

/// Listens to one directory.
pub struct Ear {
    stirred: Receiver<()>,
    sender: SyncSender<()>,
    /// The watcher, and which directory under which path it watches.
    watching: Option<(RecommendedWatcher, PathBuf, String)>,
}

impl Ear {
    /// Makes an ear that hears nothing yet.
    pub fn deaf() -> Self {
        // One place: that something stirred is all there is to say, however often.
        let (sender, stirred) = sync_channel(1);
        Self { stirred, sender, watching: None }
    }

    /// Listens to the directory that stands under this path now.
    pub fn attend(&mut self, dir: &Path) {
        let now = scan::identity(dir);
        if self.watching.as_ref().is_some_and(|(_, path, identity)| path == dir && Some(identity) == now.as_ref()) {
            return;
        }
        self.watching = None;
        let Some(identity) = now else { return };
        match self.watcher(dir) {
            Ok(watcher) => self.watching = Some((watcher, dir.to_owned(), identity)),
            Err(error) => tracing::warn!(dir = ?dir, error = %error, "could not watch; looking every 30 s instead"),
        }
    }

    /// Tells whether anything would be heard.
    pub fn hears(&self) -> bool {
        self.watching.is_some()
    }

    /// Waits until something stirred and is quiet again, or until the time is up.
    pub fn wait(&mut self, at_most: Duration, stop: &AtomicBool) {
        let until = Instant::now() + at_most;
        while !stop.load(Ordering::Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            match self.stirred.recv_timeout(left.min(NAP)) {
                // A mount or unmount over the path stirs nothing in the directory that is watched.
                Err(RecvTimeoutError::Timeout) if self.stands() => {}
                Err(RecvTimeoutError::Timeout) => return,
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return self.settle(),
            }
        }
    }

    /// Tells whether the watched directory is still the one under its path.
    fn stands(&self) -> bool {
        self.watching.as_ref().is_none_or(|(_, path, identity)| scan::identity(path).as_ref() == Some(identity))
    }

    fn settle(&self) {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until && self.stirred.recv_timeout(QUIET).is_ok() {}
    }

    fn watcher(&self, dir: &Path) -> notify::Result<RecommendedWatcher> {
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
