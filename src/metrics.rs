//! Counters and timings of the agent's own work, and their text for Prometheus. Updated by the loop, the inputs and the
//! database; read by `/metrics`. Every label has few values: route patterns, never paths.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::model::names::ProjectId;
use crate::model::quantity::Timestamp;
use crate::model::stats::AgentStats;
use crate::model::status::{ProcessStatus, Status, Used};

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The status of each project after the last pass.
pub type Statuses = Arc<BTreeMap<ProjectId, Status>>;
/// How long something took, in seconds, with labels of its own.
type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// A step of the loop.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    kind: &'static str,
    outcome: &'static str,
}

/// A phase of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

/// Labels of a rollout's end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// Labels of a kind of request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: &'static str,
}

/// A kind of request, and its response code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    method: &'static str,
    route: &'static str,
    code: u16,
}

/// Everything that is counted and timed. Clones share their counters.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    passes: Histogram,
    steps: Family<StepLabels, Counter>,
    phases: Durations<PhaseLabels>,
    rollouts: Family<OutcomeLabels, Counter>,
    requests: Family<AnswerLabels, Counter>,
    answers: Durations<RouteLabels>,
    seen: Arc<Mutex<Seen>>,
}

impl Default for Metrics {
    /// Counters that are never read.
    fn default() -> Self {
        Self::new(PathBuf::new(), short(), AgentStats::default, |_| None)
    }
}

impl Metrics {
    /// Counts from zero. `writes` holds the write timings of the database at `database`; `agent` returns the agent's
    /// resource usage, `used` that of an app's unit.
    pub fn new(
        database: PathBuf,
        writes: Histogram,
        agent: impl Fn() -> AgentStats + Send + Sync + 'static,
        used: impl Fn(&str) -> Option<Used> + Send + Sync + 'static,
    ) -> Self {
        let mut registry = Registry::with_prefix("zexio");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let passes = short();
        let (steps, rollouts, requests) = (Family::default(), Family::default(), Family::default());
        let phases = Durations::new_with_constructor(long as fn() -> Histogram);
        let answers = Durations::new_with_constructor(short as fn() -> Histogram);
        registry.register("pass_seconds", "How long a pass of the loop took", passes.clone());
        registry.register("steps", "Steps that the loop took, by kind and outcome", Family::clone(&steps));
        let help = "How long a rollout took: fetch, trial and drain, and as a whole until its release serves or ends";
        registry.register("rollout_seconds", help, phases.clone());
        registry.register("rollouts", "Rollouts that ended, by outcome", Family::clone(&rollouts));
        registry.register("http_requests", "Requests, by route and answer", Family::clone(&requests));
        let help = "How long the API took to begin its answer, by route";
        registry.register("http_request_seconds", help, answers.clone());
        registry.register("database_write_seconds", "How long a write took until it was on disk", writes);
        let (agent, used) = (Box::new(agent), Box::new(used));
        registry.register_collector(Box::new(Looked { seen: Arc::clone(&seen), database, agent, used }));
        Self { registry: Arc::new(registry), passes, steps, phases, rollouts, requests, answers, seen }
    }

    /// Records a pass and its duration.
    pub fn passed(&self, took: Duration) {
        self.passes.observe(took.as_secs_f64());
    }

    /// Counts a step.
    pub fn took_step(&self, kind: &'static str, done: bool) {
        let outcome = if done { "done" } else { "failed" };
        self.steps.get_or_create(&StepLabels { kind, outcome }).inc();
    }

    /// Records the duration of a rollout's phase.
    pub fn ended_phase(&self, phase: &'static str, took: Duration) {
        self.phases.get_or_create(&PhaseLabels { phase }).observe(took.as_secs_f64());
    }

    /// Counts a rollout.
    pub fn ended_rollout(&self, outcome: &'static str) {
        self.rollouts.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts and times a request, by its route's pattern.
    pub fn answered(&self, method: &'static str, route: &'static str, code: u16, took: Duration) {
        self.requests.get_or_create(&AnswerLabels { method, route, code }).inc();
        self.answers.get_or_create(&RouteLabels { method, route }).observe(took.as_secs_f64());
    }

    /// Updates the present statuses of the projects.
    pub fn see(&self, statuses: &Statuses, now: Timestamp) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let unobserved = statuses.values().filter(|status| status.observed_generation < status.generation);
        let waiting = unobserved.map(|status| {
            let since = seen.waiting.get(&status.project).copied().unwrap_or(now);
            (status.project.clone(), since)
        });
        *seen = Seen { waiting: waiting.collect(), statuses: Arc::clone(statuses), at: Some(now) };
    }

    /// Renders everything in Prometheus' format.
    ///
    /// # Errors
    /// None in practice: it writes to memory.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        Ok(classic(&text))
    }
}

/// Converts OpenMetrics' text to the older format, which Prometheus, its textfile collector and all other tools read:
/// there a counter is declared by its full name.
fn classic(text: &str) -> String {
    let counters: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut shown = String::with_capacity(text.len() + 256);
    for line in text.lines() {
        let declared = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        let line = match declared.and_then(|rest| rest.split_once(' ')) {
            Some((name, rest)) if counters.contains(&name) => format!("{} {name}_total {rest}", &line[..6]),
            _ => line.to_owned(),
        };
        let _ = writeln!(shown, "{line}");
    }
    shown
}

/// A histogram for durations from less than a millisecond to seconds.
pub fn short() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

/// A histogram for durations from less than a second to half an hour.
fn long() -> Histogram {
    Histogram::new([0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0])
}

/// The observations of the last pass.
#[derive(Debug, Default)]
struct Seen {
    statuses: Statuses,
    /// Since when a project's newest generation has been neither Ready nor Stalled, as far as this agent knows.
    waiting: BTreeMap<ProjectId, Timestamp>,
    at: Option<Timestamp>,
}

/// Returns the resource usage of an app's unit.
type UsedBy = Box<dyn Fn(&str) -> Option<Used> + Send + Sync>;

/// Values that are read at each scrape instead of counted.
struct Looked {
    seen: Arc<Mutex<Seen>>,
    database: PathBuf,
    agent: Box<dyn Fn() -> AgentStats + Send + Sync>,
    used: UsedBy,
}

impl fmt::Debug for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Looked").field("database", &self.database).finish_non_exhaustive()
    }
}

type Pairs<'a> = Vec<(&'static str, &'a str)>;
/// The values of a metric, each with its labels.
type Rows<'a> = Vec<(Pairs<'a>, f64)>;

impl Collector for Looked {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        let (statuses, waiting, at) = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            (Arc::clone(&seen.statuses), seen.waiting.clone(), seen.at)
        };
        let mut statuses = (*statuses).clone();
        for process in statuses.values_mut().flat_map(|status| &mut status.processes) {
            if let Some(used) = (self.used)(&process.unit) {
                process.now_uses(&used);
            }
        }
        projects(&mut to, &statuses)?;
        let now = at.unwrap_or(Timestamp(0));
        let age = waiting.values().map(|since| now.since(*since).0).max().unwrap_or(0);
        gauge(&mut to, "queue_length", "Generations that are neither Ready nor Stalled yet", waiting.len() as f64)?;
        let help = "How long the oldest of them waited at the last pass, as far as this agent knows";
        gauge(&mut to, "queue_age_seconds", help, seconds(age))?;
        let help = "When the last pass ended";
        gauge(&mut to, "last_pass_timestamp_seconds", help, seconds(now.0))?;
        for (name, help, suffix) in [
            ("database_bytes", "The size of the database", ""),
            ("database_wal_bytes", "The size of the database's write-ahead log", "-wal"),
        ] {
            let size = fs::metadata(format!("{}{suffix}", self.database.display())).map_or(0, |found| found.len());
            gauge(&mut to, name, help, size as f64)?;
        }
        self.own(&mut to)
    }
}

impl Looked {
    fn own(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let agent = (self.agent)();
        gauge(to, "agent_resident_memory_bytes", "The agent's memory", agent.rss_bytes as f64)?;
        let help = "Processor time that the agent used";
        rows(to, "agent_cpu_seconds", help, MetricType::Counter, vec![(vec![], agent.cpu_seconds)])?;
        gauge(to, "agent_uptime_seconds", "How long the agent runs", agent.uptime_seconds as f64)?;
        let build = vec![(vec![("version", env!("CARGO_PKG_VERSION"))], 1.0)];
        rows(to, "build_info", "The agent's version; always 1", MetricType::Gauge, build)
    }
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

fn projects(to: &mut DescriptorEncoder<'_>, statuses: &BTreeMap<ProjectId, Status>) -> fmt::Result {
    gauge(to, "projects", "Projects", statuses.len() as f64)?;
    let mut held: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for condition in statuses.values().flat_map(|status| &status.conditions).filter(|found| found.holds) {
        *held.entry((condition.kind.name(), condition.reason.name())).or_default() += 1.0;
    }
    let shown = held.into_iter().map(|((kind, reason), count)| (vec![("condition", kind), ("reason", reason)], count));
    let help = "Projects of which a condition is true, by its reason";
    rows(to, "projects_condition", help, MetricType::Gauge, shown.collect())?;
    let used = |of: fn(&ProcessStatus) -> Option<f64>| -> Rows<'_> { used(statuses, of) };
    let (gauges, counters) = (MetricType::Gauge, MetricType::Counter);
    let help = "Memory of a process, all its instances and releases together";
    rows(to, "process_memory_bytes", help, gauges, used(|found| found.memory_bytes.map(|bytes| bytes as f64)))?;
    let help = "Tasks of a process";
    rows(to, "process_tasks", help, gauges, used(|found| found.tasks.map(|tasks| tasks as f64)))?;
    let help = "Processor time of a process; starts again with each release";
    rows(to, "process_cpu_seconds", help, counters, used(|found| found.cpu_seconds))?;
    let help = "How often systemd restarted a process; starts again with each release";
    rows(to, "process_restarts", help, counters, used(|found| Some(f64::from(found.restarts))))?;
    let help = "What a process read from disks";
    rows(to, "process_read_bytes", help, counters, used(|found| found.io_read_bytes.map(|bytes| bytes as f64)))?;
    let help = "What a process wrote to disks";
    rows(to, "process_written_bytes", help, counters, used(|found| found.io_write_bytes.map(|bytes| bytes as f64)))
}

/// Adds up a resource over the instances of each process; a process without a known value is left out.
fn used(statuses: &BTreeMap<ProjectId, Status>, of: fn(&ProcessStatus) -> Option<f64>) -> Rows<'_> {
    let mut sums: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for status in statuses.values() {
        for process in &status.processes {
            let Some(amount) = of(process) else { continue };
            *sums.entry((status.project.as_str(), process.name.as_str())).or_default() += amount;
        }
    }
    sums.into_iter().map(|((project, process), sum)| (vec![("project", project), ("process", process)], sum)).collect()
}

fn gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    rows(to, name, help, MetricType::Gauge, vec![(vec![], value)])
}

fn rows(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, kind: MetricType, rows: Rows<'_>) -> fmt::Result {
    let mut metric = to.encode_descriptor(name, help, None, kind)?;
    let write = |to: MetricEncoder<'_>, value: f64| match kind {
        MetricType::Counter => ConstCounter::new(value).encode(to),
        _ => ConstGauge::new(value).encode(to),
    };
    for (labels, value) in rows {
        match labels.is_empty() {
            true => return write(metric, value),
            false => write(metric.encode_family(&labels)?, value)?,
        }
    }
    Ok(())
}
