//! The loop: one thread that runs passes, and alone changes the machine. The trigger only requests a pass.

mod crash;
mod evidence;
pub mod pass;
pub mod pending_events;
mod phases;
pub mod services;

use std::time::{Duration, Instant};

use crate::heartbeat::Heartbeat;
use crate::model::failure::PortError;
use crate::model::observed::Facet;
use crate::model::quantity::{Span, Timestamp};
use crate::port::Clock;
use crate::trigger::{DryRunRequest, Trigger, TriggerReceiver};

use pass::Loop;

/// An idle loop reports at least this often that it is alive.
const BEAT: Duration = Duration::from_secs(10);

/// Runs passes until the trigger stops the loop. `beat` is called at least every ten seconds while the loop is alive:
/// it keeps systemd's watchdog alive.
pub fn run(
    reconciler: &mut Loop,
    ear: &TriggerReceiver,
    clock: &dyn Clock,
    resync: Span,
    heartbeat: &Heartbeat,
    beat: &dyn Fn(),
) {
    let mut full_look_due = clock.now();
    loop {
        let now = clock.now();
        // A clock that jumped back must not postpone the full observation.
        let full = now >= full_look_due || full_look_due > now.after(resync);
        if full {
            full_look_due = now.after(resync);
        }
        let (began, pass, recorded) = (Instant::now(), heartbeat.begin(), reconciler.recorded);
        let look_again = reconciler.pass(full);
        if reconciler.recorded > recorded {
            heartbeat.recorded(pass);
        }
        reconciler.metrics.passed(began.elapsed());
        tracing::debug!(micros = began.elapsed().as_micros(), full, "pass");
        heartbeat.beat(clock.now());
        let until = look_again.unwrap_or(full_look_due).min(full_look_due);
        if !rest(reconciler, ear, clock, until, resync, beat) {
            return;
        }
    }
}

/// Waits for the next reason for a pass and answers dry-run requests until then; false if the loop should end.
fn rest(
    reconciler: &mut Loop,
    ear: &TriggerReceiver,
    clock: &dyn Clock,
    until: Timestamp,
    resync: Span,
    beat: &dyn Fn(),
) -> bool {
    // Measured with the monotonic clock.
    let (begun, whole) = (Instant::now(), until.since(clock.now()).min(resync).as_duration());
    loop {
        beat();
        let left = whole.saturating_sub(begun.elapsed());
        let rings = ear.listen(left.min(BEAT));
        let mut changed = begun.elapsed() >= whole;
        for ring in rings {
            match ring {
                Trigger::Stop => return false,
                Trigger::Changed => changed = true,
                Trigger::OfferAgain => (changed, reconciler.offer_again) = (true, true),
                Trigger::Ask(question) => answer(reconciler, *question),
            }
        }
        if changed {
            return true;
        }
    }
}

fn answer(reconciler: &mut Loop, question: DryRunRequest) {
    // If the receiver is gone, the answer is not needed.
    let _ = question.answer.send(reconciler.dry_run(question.suppose));
}

fn sight<T>(found: Result<T, PortError>) -> Facet<T> {
    match found {
        Ok(value) => Facet::Known(value),
        Err(error) => Facet::Unknown(error.message),
    }
}
