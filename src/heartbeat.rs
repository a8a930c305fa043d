//! The loop's heartbeat: when it last finished a pass, and which passes began and ended. Passes are counted and not
//! timed: a clock may jump.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::quantity::{Span, Timestamp};

/// Written by the loop, read by `/healthz` and by waiting clients.
#[derive(Debug, Clone)]
pub struct Heartbeat(Arc<Beats>);

#[derive(Debug)]
struct Beats {
    /// Different in each run of the agent.
    run: u64,
    last: AtomicU64,
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        // If the system gives no random bytes, no key and no nonce can be made either.
        let run = getrandom::u64().unwrap_or_default();
        let beats = Beats { run, last: AtomicU64::default(), begun: AtomicU64::default(), ended: AtomicU64::default() };
        Self(Arc::new(beats))
    }
}

impl Heartbeat {
    /// Marks the beginning of a pass; returns its number.
    pub fn begin(&self) -> u64 {
        self.0.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Marks a pass's observations as recorded.
    pub fn recorded(&self, pass: u64) {
        self.0.ended.store(pass, Ordering::SeqCst);
    }

    /// Returns the mark for a write before this call: later passes observe the write.
    pub fn written(&self) -> Mark {
        Mark { run: self.0.run, pass: self.0.begun.load(Ordering::SeqCst) }
    }

    /// Returns the mark for a read after this call: it is at least as new as this pass's observations.
    pub fn seen(&self) -> Mark {
        Mark { run: self.0.run, pass: self.0.ended.load(Ordering::SeqCst) }
    }

    /// Marks the end of a pass.
    pub fn beat(&self, now: Timestamp) {
        self.0.last.store(now.0, Ordering::Relaxed);
    }

    /// Returns when the last pass ended; none before the first.
    pub fn last(&self) -> Option<Timestamp> {
        Some(Timestamp(self.0.last.load(Ordering::Relaxed))).filter(|last| last.0 > 0)
    }

    /// Returns whether a pass has ended within this span.
    pub fn is_alive(&self, now: Timestamp, within: Span) -> bool {
        self.last().is_some_and(|last| now.since(last) <= within)
    }
}

/// The header in which each answer of the API carries its mark.
pub const HEADER: &str = "zexio-pass";

/// A pass of one run of the agent: `<run>.<number>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    run: u64,
    pass: u64,
}

impl Mark {
    /// Parses `<run>.<number>`, the run in hex.
    pub fn parse(raw: &str) -> Option<Self> {
        let (run, pass) = raw.split_once('.')?;
        Some(Self { run: u64::from_str_radix(run, 16).ok()?, pass: pass.parse().ok()? })
    }

    /// Returns whether what was read under this mark was observed by a pass that began after the write with the other
    /// mark was answered. An agent that was started since then observed it in each of its passes.
    pub fn is_after(self, written: Self) -> bool {
        self.pass > if self.run == written.run { written.pass } else { 0 }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}", self.run, self.pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_seen_by_the_passes_that_begin_after_it() {
        let heartbeat = Heartbeat::default();
        let early = heartbeat.begin();
        let written = heartbeat.written();
        assert!(!heartbeat.seen().is_after(written));
        heartbeat.recorded(early);
        assert!(!heartbeat.seen().is_after(written), "it was under way already");
        let late = heartbeat.begin();
        assert!(!heartbeat.seen().is_after(written), "it has recorded nothing yet");
        heartbeat.recorded(late);
        assert!(heartbeat.seen().is_after(written));
        assert_eq!(Mark::parse(&written.to_string()), Some(written));
        assert_eq!([Mark::parse(""), Mark::parse("12"), Mark::parse("x.1")], [None; 3]);
    }

    #[test]
    fn an_agent_that_was_started_since_has_to_end_a_pass_too() {
        let (before, after) = (Heartbeat::default(), Heartbeat::default());
        assert_eq!((before.begin(), before.begin()), (1, 2));
        assert!(!after.seen().is_after(before.written()), "its statuses are those of the run before");
        after.recorded(after.begin());
        assert!(after.seen().is_after(before.written()));
    }
}
