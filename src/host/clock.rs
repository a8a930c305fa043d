//! The machine's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::quantity::Timestamp;
use crate::port::Clock;

/// The machine's clock, and the only reader of it.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
