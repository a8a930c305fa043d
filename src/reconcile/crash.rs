//! Lets a test kill the agent around one step of the loop, as `kill -9` would. Compiled out of release builds.

#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicUsize, Ordering};

/// The side of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The step is planned and recorded, and not executed.
    Before,
    /// The step is executed, and its result not yet processed.
    After,
}

/// Kills the process at the moment that `ZEXIO_DIE_AT` names: `3before`, `3after`, counted from the agent's start.
#[cfg(debug_assertions)]
pub fn point(side: Side) {
    static STEPS: AtomicUsize = AtomicUsize::new(0);
    let taken = STEPS.load(Ordering::Relaxed) + usize::from(side == Side::Before);
    STEPS.store(taken, Ordering::Relaxed);
    let word = if side == Side::Before { "before" } else { "after" };
    if std::env::var("ZEXIO_DIE_AT").is_ok_and(|at| at == format!("{taken}{word}")) {
        // Like `kill -9`: no handler, no clean-up, no core dump.
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub fn point(_: Side) {}
