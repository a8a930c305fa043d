//! What is only read of the machine: probes, logs, figures, the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::failure::PortError;
use crate::model::names::{ProjectId, UnitId};
use crate::model::observed::{ForcedStop, OpenPort, PortHolder, Probed, UnitSeen, Visit, Visited};
use crate::model::pattern::Pattern;
use crate::model::quantity::{Span, Timestamp};
use crate::model::spec::ProbeRequest;
use crate::model::stats::{AgentStats, SystemStats};
use crate::model::status::Used;

/// One unit to probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeOrder {
    pub unit: UnitId,
    /// The port: the socket that answers there must belong to the unit.
    pub port: u16,
    /// The request to send; none if an accepted connection is enough.
    pub request: Option<ProbeRequest>,
    /// How long one probe may take.
    pub timeout: Span,
    /// The time between two probes.
    pub interval: Span,
}

/// Readiness probes, in the background.
pub trait Health: Send {
    /// Probes these units from now on and no others; returns the results so far.
    fn probe(&self, orders: &[ProbeOrder]) -> BTreeMap<UnitId, Probed>;
    /// Sends these requests to Caddy from now on and no others, as often as their purpose needs.
    fn visit(&self, visits: &BTreeSet<Visit>);
    /// Returns the results so far.
    fn visited(&self) -> BTreeMap<Visit, Visited>;

    /// Returns the ports of projects that are open to other machines.
    fn open_ports(&self) -> BTreeMap<ProjectId, BTreeSet<OpenPort>> {
        BTreeMap::new()
    }

    /// Returns the TCP ports on which any program listens.
    fn ports_in_use(&self) -> BTreeSet<u16> {
        BTreeSet::new()
    }

    /// Returns how many times longer than on an idle machine processes take: so many wait for each processor. At least 1.
    fn slowdown(&self) -> u32 {
        1
    }
}

/// Which lines of the journal to read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogQuery {
    /// The units by their exact names. None given: no lines.
    pub units: Vec<String>,
    /// At most this many, the newest; none for all from `since` on.
    pub lines: Option<u32>,
    /// Only lines at or after this time.
    pub since: Option<Timestamp>,
    /// Only lines that match.
    pub grep: Option<Pattern>,
    /// Whether to wait for more.
    pub follow: bool,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    pub time: Timestamp,
    /// The writing unit, according to the journal, never according to the writer.
    pub unit: String,
    /// syslog's number: 0 is the most urgent, 7 the least.
    pub priority: Option<u8>,
    pub message: String,
    /// Whether the unit's own processes wrote it, and not systemd or journald about the unit.
    pub own: bool,
}

/// The lines of a query as they arrive. Dropping it ends the reading; a reader that does not keep up loses it.
pub type LogLines = tokio::sync::mpsc::Receiver<Result<LogLine, PortError>>;

/// Reads log lines from the journal.
pub trait Journal: Send + Sync {
    /// Begins to read; must be called within the runtime.
    ///
    /// # Errors
    /// The journal could not be read.
    fn read(&self, query: LogQuery) -> Result<LogLines, PortError>;
}

/// The server's figures, the newest each second; none before the first. Dropping it ends the measuring.
pub type Figures = tokio::sync::watch::Receiver<Option<Arc<SystemStats>>>;

/// Measures the resource usage of the server, the agent and the apps.
pub trait Stats: Send + Sync {
    /// Begins to measure once a second, in the background, or joins a measurement that is running.
    ///
    /// # Errors
    /// The measurement could not be started.
    fn watch(&self) -> Result<Figures, PortError>;
    /// Returns the agent's present resource usage.
    fn agent(&self) -> AgentStats;
    /// Returns the resource usage of an app's unit, a few seconds old at most; none if it does not run.
    fn used(&self, unit: &str) -> Option<Used>;
}

/// The last log lines of units.
pub trait Tail: Send {
    /// Returns the newest log lines of these units, oldest first; none if the journal cannot be read.
    fn tail(&self, units: &[UnitId], lines: u32) -> Vec<LogLine>;

    /// Returns the processes of failed units that were killed after their stop timeout. Reading takes a while and
    /// happens in the background: a result is returned once, by a later call.
    fn forced_stops(&self, _failed: &[(&UnitId, &UnitSeen)]) -> Vec<ForcedStop> {
        Vec::new()
    }

    /// Returns the programs that listen on this server's TCP ports; None if that cannot be observed.
    fn listeners(&self) -> Option<Vec<PortHolder>> {
        None
    }
}

/// The clock of the machine, or of a simulation.
pub trait Clock: Send + Sync {
    /// Returns the present time.
    fn now(&self) -> Timestamp;
}
