//! A journal of fixed lines, a server with constant figures, a stopped clock.

use std::sync::{Arc, Mutex};

use crate::model::quantity::Timestamp;
use crate::model::stats::{AgentStats, Cpu, Load, Swap, SystemStats};
use crate::model::status::Used;
use crate::port::{Clock, Figures, Journal, LogLine, LogLines, LogQuery, PortError, Stats};

/// A journal in which each unit wrote one hostile line.
#[derive(Default)]
pub struct Lines {
    pub asked: Mutex<Vec<LogQuery>>,
}

impl Journal for Lines {
    fn read(&self, query: LogQuery) -> Result<LogLines, PortError> {
        let (send, lines) = tokio::sync::mpsc::channel(query.units.len().max(1));
        for unit in &query.units {
            let message = "\u{1b}[2J\n\ndata: forged\r".to_owned();
            let line = LogLine { time: Timestamp(1000), unit: unit.clone(), priority: Some(6), message, own: true };
            send.try_send(Ok(line)).unwrap();
        }
        self.asked.lock().unwrap().push(query);
        Ok(lines)
    }
}

/// A server with the same figures at each sample.
pub struct Still(pub tokio::sync::watch::Sender<Option<Arc<SystemStats>>>);

impl Default for Still {
    fn default() -> Self {
        let seen = SystemStats {
            at: Timestamp(1000),
            cpu: Cpu { count: 2, percent: 12.5, cores: vec![20.0, 5.0] },
            memory: crate::model::stats::Memory { total_bytes: 4 << 30, used_bytes: 1 << 30, available_bytes: 3 << 30 },
            swap: Swap { total_bytes: 0, used_bytes: 0 },
            load: Load { one: 0.5, five: 0.25, fifteen: 0.125 },
            disks: Vec::new(),
            uptime_seconds: 60,
            agent: AgentStats::default(),
        };
        Self(tokio::sync::watch::Sender::new(Some(Arc::new(seen))))
    }
}

impl Stats for Still {
    fn watch(&self) -> Result<Figures, PortError> {
        Ok(self.0.subscribe())
    }
    fn agent(&self) -> AgentStats {
        AgentStats::default()
    }
    fn used(&self, _: &str) -> Option<Used> {
        Some(Used { memory_bytes: Some(52 << 20), cpu_seconds: Some(1.5), tasks: Some(3) })
    }
}

/// A stopped clock.
pub struct Stopped(pub Timestamp);

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        self.0
    }
}
