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
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Runs passes until a trigger stops the loop. `keep_alive` is called at least every ten seconds while the loop is alive:
/// it feeds systemd's watchdog.
pub fn run(
    reconciler: &mut Loop,
    triggers: &TriggerReceiver,
    clock: &dyn Clock,
    resync: Span,
    heartbeat: &Heartbeat,
    keep_alive: &dyn Fn(),
) {
    let mut next_full_pass = clock.now();
    loop {
        let now = clock.now();
        // A clock that jumped back must not postpone the full observation.
        let full = now >= next_full_pass || next_full_pass > now.after(resync);
        if full {
            next_full_pass = now.after(resync);
        }
        let (began, pass, recorded) = (Instant::now(), heartbeat.begin(), reconciler.recorded_passes);
        let requeue_at = reconciler.pass(full);
        if reconciler.recorded_passes > recorded {
            heartbeat.recorded(pass);
        }
        reconciler.metrics.passed(began.elapsed());
        tracing::debug!(micros = began.elapsed().as_micros(), full, "pass");
        heartbeat.beat(clock.now());
        let until = requeue_at.unwrap_or(next_full_pass).min(next_full_pass);
        if !wait(reconciler, triggers, clock, until, resync, keep_alive) {
            return;
        }
    }
}

/// Waits until a pass is due or triggered, and answers dry-run requests until then; false if the loop should end.
fn wait(
    reconciler: &mut Loop,
    triggers: &TriggerReceiver,
    clock: &dyn Clock,
    until: Timestamp,
    resync: Span,
    keep_alive: &dyn Fn(),
) -> bool {
    // Measured with the monotonic clock.
    let (started, timeout) = (Instant::now(), until.since(clock.now()).min(resync).as_duration());
    loop {
        keep_alive();
        let left = timeout.saturating_sub(started.elapsed());
        let received = triggers.recv_all(left.min(KEEP_ALIVE));
        let mut changed = started.elapsed() >= timeout;
        for trigger in received {
            match trigger {
                Trigger::Stop => return false,
                Trigger::Changed => changed = true,
                Trigger::RetryRefusedRoutes => (changed, reconciler.retry_refused_routes) = (true, true),
                Trigger::DryRun(request) => answer(reconciler, *request),
            }
        }
        if changed {
            return true;
        }
    }
}

fn answer(reconciler: &mut Loop, request: DryRunRequest) {
    // If the receiver is gone, the answer is not needed.
    let _ = request.answer.send(reconciler.dry_run(request.assumed));
}

fn facet<T>(found: Result<T, PortError>) -> Facet<T> {
    match found {
        Ok(value) => Facet::Known(value),
        Err(error) => Facet::Unknown(error.message),
    }
}
