//! Readiness probes, each in its own thread beside the loop. The results are a cache: a new agent probes again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, thread};

use tokio::runtime::Runtime;

use crate::model::layout::Layout;
use crate::model::names::{ProjectId, UnitId};
use crate::model::observed::{OpenPort, Probed, Visit, Visited};
use crate::model::quantity::{Span, Timestamp};
use crate::model::spec::ProbeRequest;
use crate::port::{Clock, Health, ProbeOrder};
use crate::trigger::TriggerSender;

use super::language::Language;
use super::listener::{self, Listener, Open};
use super::visit;
use super::visitor::Visitor;
use crate::host::{systemd, users};

/// Cache time of the publicly open ports: the passes of a rollout follow each other closely.
const LOOKS_AGAIN: Duration = Duration::from_secs(2);

/// From this age on, it is looked up what else the app listens on, and what it speaks.
const EXPLAINS: Duration = Duration::from_millis(300);

/// A failed probe within this time is not reported: no run is ready immediately.
const EARLY: Duration = Duration::from_secs(1);

/// The pause after the first probe of a run.
const SHORTEST_PAUSE: Duration = Duration::from_millis(3);

/// Runs the probes in the background and keeps their results.
pub struct Prober {
    clock: Arc<dyn Clock>,
    trigger: TriggerSender,
    probes: Mutex<BTreeMap<UnitId, Probe>>,
    visitor: Visitor,
    /// The publicly open ports, and when they were read.
    open: Mutex<Option<(Instant, OpenPorts)>>,
}

/// The ports per project that other machines can reach.
type OpenPorts = BTreeMap<ProjectId, BTreeSet<OpenPort>>;

struct Probe {
    order: ProbeOrder,
    found: Arc<Mutex<Option<Probed>>>,
    stop: Arc<AtomicBool>,
}

impl Prober {
    /// Creates a prober without probes. `behind`: Caddy's port, if another web server stands in front of it.
    pub fn new(clock: Arc<dyn Clock>, trigger: TriggerSender, behind: Option<u16>) -> Self {
        let visitor = Visitor::new(clock.clone(), trigger.clone(), behind);
        Self { clock, trigger, probes: Mutex::default(), visitor, open: Mutex::default() }
    }

    fn begin(&self, order: &ProbeOrder) -> Probe {
        let (found, stop) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let probe = Probe { order: order.clone(), found: found.clone(), stop: stop.clone() };
        let (order, clock, trigger) = (order.clone(), self.clock.clone(), self.trigger.clone());
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(unit = %probe.order.unit, "could not begin to probe: {error}");
                return probe;
            }
        };
        let run = move || {
            let began = Instant::now();
            let mut told = (false, String::new());
            let language = Language::default();
            while !stop.load(Ordering::Relaxed) {
                let Some((run, result)) = probe_run(&order, &runtime, began.elapsed(), &language) else {
                    std::thread::sleep(pause(order.interval, false, began.elapsed()));
                    continue;
                };
                let (ready, last) = note(&found, run, result, clock.now());
                let turned = ready != told.0;
                if turned || began.elapsed() > EARLY && last != told.1 {
                    told = (ready, last);
                    trigger.changed();
                }
                std::thread::sleep(pause(order.interval, ready, began.elapsed()));
            }
        };
        if let Err(error) = std::thread::Builder::new().name("probe".into()).spawn(run) {
            tracing::error!(unit = %probe.order.unit, "could not begin to probe: {error}");
        }
        probe
    }
}

impl Health for Prober {
    fn probe(&self, orders: &[ProbeOrder]) -> BTreeMap<UnitId, Probed> {
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        let found = |probe: &Probe| probe.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        probes.retain(|_, probe| {
            let wanted = orders.contains(&probe.order);
            probe.stop.store(!wanted, Ordering::Relaxed);
            wanted
        });
        for order in orders {
            probes.entry(order.unit.clone()).or_insert_with(|| self.begin(order));
        }
        probes.iter().filter_map(|(unit, probe)| Some((unit.clone(), found(probe)?))).collect()
    }

    fn visit(&self, visits: &BTreeSet<Visit>) {
        self.visitor.visit(visits);
    }

    fn visited(&self) -> BTreeMap<Visit, Visited> {
        self.visitor.visited()
    }

    fn open_ports(&self) -> OpenPorts {
        let mut held = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match held.as_ref().filter(|(looked, _)| looked.elapsed() < LOOKS_AGAIN) {
            Some((_, found)) => found.clone(),
            None => held.insert((Instant::now(), open_ports())).1.clone(),
        }
    }

    fn ports_in_use(&self) -> BTreeSet<u16> {
        listener::ports_in_use()
    }

    fn slowdown(&self) -> u32 {
        let load = fs::read_to_string("/proc/loadavg").ok();
        load.map_or(1, |text| slowdown(&text, thread::available_parallelism().map_or(1, NonZero::get)))
    }
}

/// The most that a trial's times are stretched on a busy machine.
const MAX_SLOWDOWN: u32 = 5;

/// Returns how many processes shared a processor in the last minute.
fn slowdown(load_average: &str, processors: usize) -> u32 {
    let load = load_average.split(' ').next().and_then(|load| load.parse::<f64>().ok()).unwrap_or_default();
    (1..=MAX_SLOWDOWN).rev().find(|times| load >= f64::from(*times) * processors as f64).unwrap_or(1)
}

/// Finds which projects' users listen where other machines can reach them, bypassing Caddy.
pub fn open_ports() -> OpenPorts {
    let mut found = OpenPorts::new();
    for (uid, at) in listener::open_to_others() {
        if let Some(project) = users::project_of(uid) {
            let port = OpenPort { address: at.ip().to_string(), port: at.port() };
            found.entry(project).or_default().insert(port);
        }
    }
    found
}

/// The younger a starting app, the shorter the interval, so that waiting adds little to its start time.
fn pause(interval: Span, is_ready: bool, age: Duration) -> Duration {
    let interval = interval.as_duration();
    if is_ready { interval } else { (age / 40).max(SHORTEST_PAUSE).min(interval) }
}

/// Probes once; returns the probed run and the result. None if there is no run, or it ended during the probe.
fn probe_run(
    order: &ProbeOrder,
    runtime: &Runtime,
    age: Duration,
    language: &Language,
) -> Option<(String, Result<String, String>)> {
    let run = systemd::invocation_of(&order.unit)?;
    let result = probe_once(order, runtime, age, language);
    (systemd::invocation_of(&order.unit).as_ref() == Some(&run)).then_some((run, result))
}

/// Records a result; returns whether the run is ready, and the result. A new run starts unready, whatever the old one
/// was. But the results of earlier runs are kept, since they explain an app that crashes repeatedly.
fn note(found: &Mutex<Option<Probed>>, run: String, result: Result<String, String>, at: Timestamp) -> (bool, String) {
    let mut held = found.lock().unwrap_or_else(PoisonError::into_inner);
    let same = held.as_ref().filter(|probed| probed.invocation.as_ref() == Some(&run));
    let before = same.and_then(|probed| probed.ok_since);
    let (ok_since, last) = match result {
        Ok(last) => (Some(before.unwrap_or(at)), last),
        Err(last) => (None, last),
    };
    let mut transcript = held.as_ref().map(|old| old.transcript.clone()).unwrap_or_default();
    if held.as_ref().is_none_or(|old| old.last != last) {
        visit::write_down(&mut transcript, at, &last);
    }
    let tries = held.as_ref().map_or(0, |old| old.tries).saturating_add(1);
    *held = Some(Probed { invocation: Some(run), at, ok_since, tries, transcript, last: last.clone() });
    (ok_since.is_some(), last)
}

fn probe_once(order: &ProbeOrder, runtime: &Runtime, age: Duration, language: &Language) -> Result<String, String> {
    let cgroup = Layout::cgroup(&order.unit);
    match listener::on_port(order.port, &cgroup) {
        Listener::Ours => {}
        Listener::Elsewhere(at) => return Err(format!("it listens on {at}, not on 127.0.0.1; bind to $HOST")),
        // Looking up all of its open ports takes longer than a young app's pause between two probes.
        Listener::Nobody if age < EXPLAINS => return Err(nothing_listens(order.port, &Open::default())),
        Listener::Nobody => return Err(nothing_listens(order.port, &listener::of_cgroup(&cgroup))),
        Listener::Stranger(who) => return Err(format!("port {} is taken by {who}", order.port)),
    }
    let timeout = order.timeout.as_duration();
    match &order.request {
        Some(request) => get(order.port, request, timeout, runtime, Some(language).filter(|_| age > EXPLAINS)),
        None => connect(order.port, timeout),
    }
}

fn nothing_listens(port: u16, others: &Open) -> String {
    let said = format!("nothing listens on 127.0.0.1:{port} ($PORT) yet");
    let tcp: Vec<String> = others.tcp.iter().take(3).map(ToString::to_string).collect();
    let unix: Vec<&str> = others.unix.iter().take(3).map(String::as_str).collect();
    match (tcp.as_slice(), unix.as_slice()) {
        ([], []) => said,
        ([], paths) => format!("{said}; it listens on the Unix socket {}; bind to $HOST:$PORT", paths.join(" and ")),
        (addresses, _) => format!("{said}; it listens on {}; bind to $PORT", addresses.join(" and ")),
    }
}

/// An app that listens on all of IPv6 may have excluded IPv4.
fn without_ipv4(port: u16) -> String {
    format!("could not connect to 127.0.0.1:{port}, though it listens on [::]:{port}; bind to $HOST")
}

fn connect(port: u16, timeout: Duration) -> Result<String, String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, timeout).map(|_| format!("{address} takes connections")).map_err(|e| {
        match e.kind() {
            // It listened a moment ago.
            ErrorKind::ConnectionRefused => without_ipv4(port),
            _ => format!("could not connect to {address}: {e}"),
        }
    })
}

/// 2xx and 3xx are healthy.
fn get(
    port: u16,
    request: &ProbeRequest,
    timeout: Duration,
    runtime: &Runtime,
    language: Option<&Language>,
) -> Result<String, String> {
    let shown = format!("GET {} on port {port}", request.path);
    match visit::get_now(port, request, timeout, runtime, language) {
        Ok(status @ 200..400) => Ok(format!("{shown} answered {status}")),
        Ok(status) => Err(format!("{shown} answered {status}")),
        // It listened a moment ago.
        Err(error) if error.contains("Connection refused") => Err(without_ipv4(port)),
        Err(error) => Err(format!("{shown} failed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_of_several_processes_for_each_processor_slows_down() {
        for (load, processors, times) in
            [("0.00 0.01", 2, 1), ("3.99 9 9", 2, 1), ("4.00 0 0", 2, 2), ("7.5 0", 1, 5), ("90 0", 2, 5), ("x", 2, 1)]
        {
            assert_eq!(slowdown(load, processors), times, "{load} on {processors}");
        }
    }

    #[test]
    fn what_an_app_listens_on_instead_is_named() {
        let said = "nothing listens on 127.0.0.1:9000 ($PORT) yet";
        let unix: BTreeSet<String> = ["/tmp/app.sock".to_owned()].into();
        assert_eq!(nothing_listens(9000, &Open::default()), said);
        let only_unix = Open { unix: unix.clone(), ..Open::default() };
        let wanted = format!("{said}; it listens on the Unix socket /tmp/app.sock; bind to $HOST:$PORT");
        assert_eq!(nothing_listens(9000, &only_unix), wanted);
        let both = Open { tcp: ["127.0.0.1:3000".parse().unwrap()].into(), unix };
        assert_eq!(nothing_listens(9000, &both), format!("{said}; it listens on 127.0.0.1:3000; bind to $PORT"));
    }
}
