//! The loop: one thread that runs passes. Whatever rings the bell only asks for a pass; nothing else changes the
//! machine.

mod crash;
mod evidence;
pub mod ledger;
pub mod pass;
mod phases;
pub mod services;

use std::time::{Duration, Instant};

use crate::bell::{Ear, Question, Ring};
use crate::model::failure::PortError;
use crate::model::observed::Sight;
use crate::model::quantity::{Span, Timestamp};
use crate::port::Clock;
use crate::pulse::Pulse;

use pass::Loop;

/// An idle loop shows at least this often that it is alive.
const BEAT: Duration = Duration::from_secs(10);

/// Runs passes until the bell says stop. `beat` is called at least every ten seconds while the loop is alive: it pats
/// the watchdog.
pub fn run(world: &mut Loop, ear: &Ear, clock: &dyn Clock, resync: Span, pulse: &Pulse, beat: &dyn Fn()) {
    let mut full_look_due = clock.now();
    loop {
        let now = clock.now();
        // A clock that jumped back must not put the full look off.
        let full = now >= full_look_due || full_look_due > now.after(resync);
        if full {
            full_look_due = now.after(resync);
        }
        let (began, pass, recorded) = (Instant::now(), pulse.begin(), world.recorded);
        let look_again = world.pass(full);
        if world.recorded > recorded {
            pulse.recorded(pass);
        }
        world.metrics.passed(began.elapsed());
        tracing::debug!(micros = began.elapsed().as_micros(), full, "pass");
        pulse.beat(clock.now());
        let until = look_again.unwrap_or(full_look_due).min(full_look_due);
        if !rest(world, ear, clock, until, resync, beat) {
            return;
        }
    }
}

/// Rests until the next reason for a pass, answering questions meanwhile; false when the loop is to end.
fn rest(world: &mut Loop, ear: &Ear, clock: &dyn Clock, until: Timestamp, resync: Span, beat: &dyn Fn()) -> bool {
    // Counted by the clock that never jumps.
    let (begun, whole) = (Instant::now(), until.since(clock.now()).min(resync).as_duration());
    loop {
        beat();
        let left = whole.saturating_sub(begun.elapsed());
        let rings = ear.listen(left.min(BEAT));
        let mut changed = begun.elapsed() >= whole;
        for ring in rings {
            match ring {
                Ring::Stop => return false,
                Ring::Changed => changed = true,
                Ring::OfferAgain => (changed, world.offer_again) = (true, true),
                Ring::Ask(question) => answer(world, *question),
            }
        }
        if changed {
            return true;
        }
    }
}

fn answer(world: &mut Loop, question: Question) {
    // Nobody waits any more: then nobody needs the answer.
    let _ = question.answer.send(world.rehearse(question.suppose));
}

fn sight<T>(found: Result<T, PortError>) -> Sight<T> {
    match found {
        Ok(value) => Sight::Known(value),
        Err(error) => Sight::Unknown(error.message),
    }
}
