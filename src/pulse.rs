//! The loop's heartbeat: when it last finished a pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::quantity::{Span, Timestamp};

/// Felt by `/healthz`, made by the loop.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Says that a pass has ended.
    pub fn beat(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    /// Returns when the last pass ended; none: none has.
    pub fn last(&self) -> Option<Timestamp> {
        Some(Timestamp(self.0.load(Ordering::Relaxed))).filter(|last| last.0 > 0)
    }

    /// Tells whether a pass has ended within this span.
    pub fn is_alive(&self, now: Timestamp, within: Span) -> bool {
        self.last().is_some_and(|last| now.since(last) <= within)
    }
}
