//! Lets a test end the agent around one step of the loop, as `kill -9` would. Release builds know nothing of it.

#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicUsize, Ordering};

/// On which side of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The step is planned and remembered, and not taken.
    Before,
    /// The step is taken, and nothing was made of it.
    After,
}

/// Ends the process if this is the moment that `ZEXIO_DIE_AT` names: `3before`, `3after`, counted from the agent's start.
#[cfg(debug_assertions)]
pub fn point(side: Side) {
    static STEPS: AtomicUsize = AtomicUsize::new(0);
    let taken = STEPS.load(Ordering::Relaxed) + usize::from(side == Side::Before);
    STEPS.store(taken, Ordering::Relaxed);
    let word = if side == Side::Before { "before" } else { "after" };
    if std::env::var("ZEXIO_DIE_AT").is_ok_and(|at| at == format!("{taken}{word}")) {
        // As `kill -9` does: no handler, no clean-up, no core.
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub fn point(_: Side) {}
