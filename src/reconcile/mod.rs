//! The loop: one thread that runs passes. Whatever rings the bell only asks for a pass; nothing else changes the
//! machine.

pub mod pass;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::bell::{Ear, Question, Ring};
use crate::model::quantity::{Span, Timestamp};
use crate::port::Clock;

use pass::Loop;

/// When the last pass ended, for whoever wants to know whether the loop is alive.
pub type Pulse = Arc<AtomicU64>;

/// Rings that come this close together are one pass.
const GATHER: Duration = Duration::from_millis(5);

/// Runs passes until the bell says stop. `after_pass` is called after each: it pats the watchdog.
pub fn run(world: &mut Loop, ear: &Ear, clock: &dyn Clock, resync: Span, pulse: &Pulse, after_pass: &dyn Fn()) {
    let mut full_look_due = clock.now();
    loop {
        let now = clock.now();
        // A clock that jumped back must not put the full look off.
        let full = now >= full_look_due || full_look_due > now.after(resync);
        if full {
            full_look_due = now.after(resync);
        }
        let look_again = world.pass(full);
        pulse.store(clock.now().0, Ordering::Relaxed);
        after_pass();
        let until = look_again.unwrap_or(full_look_due).min(full_look_due);
        if !listen(world, ear, wait(until, clock.now(), resync)) {
            return;
        }
    }
}

fn wait(until: Timestamp, now: Timestamp, resync: Span) -> Duration {
    until.since(now).min(resync).as_duration().max(GATHER)
}

/// Waits for the next reason for a pass, answering questions meanwhile; false when the loop is to end.
fn listen(world: &mut Loop, ear: &Ear, at_most: Duration) -> bool {
    let mut rings = ear.listen(at_most);
    rings.extend(ear.listen(GATHER));
    for ring in rings {
        match ring {
            Ring::Stop => return false,
            Ring::Changed => {}
            Ring::Ask(question) => answer(world, *question),
        }
    }
    true
}

fn answer(world: &mut Loop, question: Question) {
    // Nobody waits any more: then nobody needs the answer.
    let _ = question.answer.send(world.rehearse(question.suppose));
}
