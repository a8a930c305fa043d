//! The daemon: wires the parts together and runs the loop until it is stopped.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{Flock, FlockArg};

use crate::cli::JoinProxy;
use crate::heartbeat::Heartbeat;
use crate::host::artifacts::address::{FetchRules, flaw_of_prefix};
use crate::host::blob::BlobKey;
use crate::host::bundles::Files;
use crate::host::caddy::{self, Caddy, Version};
use crate::host::clock::SystemClock;
use crate::host::disk;
use crate::host::endings::Endings;
use crate::host::packaged;
use crate::host::probe::prober::Prober;
use crate::host::services::{Host, packages};
use crate::host::signals;
use crate::host::stats::Sampler;
use crate::host::systemd::Systemd;
use crate::host::users;
use crate::metrics::Metrics;
use crate::plan::PlanConfig;
use crate::plan::services::PackageJob;
use crate::port::{Clock, Stats};
use crate::reconcile;
use crate::reconcile::pass::{Loop, checked_plan};
use crate::reconcile::services::HostServices;
use crate::serve::{self, Gauges};
use crate::settings::{self, Artifacts, Settings};
use crate::store::{Db, MasterKey};
use crate::template;
use crate::trigger::{self, TriggerSender};
use crate::unpack::Limits;

/// Runs the agent until SIGTERM or SIGINT.
pub fn main() -> ExitCode {
    start_log();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            tracing::error!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// journald adds the time and the unit to each line.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .init();
}

fn run() -> Result<(), String> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let settings = Settings::read(Path::new(settings::FILE))?;
    let master = MasterKey::read(Path::new(settings::MASTER_KEY))?;
    // The lock is taken before anything is wiped or created: staging may hold another agent's files.
    disk::directory(settings.root.root(), 0o711).map_err(|e| e.to_string())?;
    let _alone = only_one(&settings)?;
    BlobKey::provide().map_err(|e| e.to_string())?;
    let db = Arc::new(Db::open(&settings.root.database(), &master, clock.clone())?);
    advise_newer_caddy();
    match caddy::join::migrate(Path::new(&settings.caddy.admin)) {
        Ok(None) => {}
        Ok(Some(done)) => tracing::info!("{done}"),
        // Routes wait for it; everything else continues.
        Err(error) => tracing::error!("{error}"),
    }
    let (trigger, ear) = trigger::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let heartbeat = Heartbeat::default();
    let resync = settings.resync;
    let stats: Arc<dyn Stats> = Arc::new(Sampler::new());
    let (agent, apps) = (stats.clone(), stats.clone());
    let used = move |unit: &str| apps.used(unit);
    let metrics = Metrics::new(settings.root.database(), db.writes(), move || agent.agent(), used);
    let mut reconciler = reconciler(&settings, db.clone(), clock.clone(), &trigger, &metrics)?;
    signals::listen(trigger.clone(), stop.clone()).map_err(|e| format!("could not listen to systemd: {e}"))?;
    let beat = heartbeat.clone();
    let looping = move || reconcile::run(&mut reconciler, &ear, &*clock, resync, &beat, &pat_the_watchdog);
    let passes = std::thread::Builder::new()
        .name("loop".into())
        .spawn(looping)
        .map_err(|e| format!("could not start the loop: {e}"))?;
    let ended = serve::keep_open(&settings, db, &trigger, &heartbeat, Gauges { stats, metrics }, &stop, || {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    });
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    stop.store(true, Ordering::Relaxed);
    trigger.stop();
    passes.join().map_err(|_| "the loop panicked; it is started again".to_owned())?;
    ended
}

/// Runs a host service's package job.
pub fn provision(order: &PackageJob) -> ExitCode {
    packages::main(order)
}

fn advise_newer_caddy() {
    let version = Version::installed();
    if version.is_outdated() && packaged::mended_caddy().is_none() {
        let advice = caddy::OUTDATED;
        tracing::warn!(caddy_outdated = true, "this server has Caddy {version}: {advice}");
    }
}

fn pat_the_watchdog() {
    // Without systemd there is nothing to notify.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
}

/// Two loops would undo each other's work. The lock ends with the process, however that ends.
fn only_one(settings: &Settings) -> Result<Flock<File>, String> {
    let path = settings.root.root().join(".lock");
    let mut options = fs::OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|e| format!("could not open {}: {e}", path.display()))?;
    let holder = fs::read_to_string(&path).unwrap_or_default();
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        format!("another agent (process {}) works on {}; stop it first", holder.trim(), settings.root.root().display())
    })?;
    fs::write(&path, format!("{}\n", std::process::id()))
        .map_err(|e| format!("could not write {}: {e}", path.display()))?;
    Ok(lock)
}

impl From<&Artifacts> for FetchRules {
    fn from(settings: &Artifacts) -> Self {
        Self { allow: settings.allow.clone(), max_bytes: settings.max_bytes }
    }
}

fn reconciler(
    settings: &Settings,
    db: Arc<Db>,
    clock: Arc<dyn Clock>,
    trigger: &TriggerSender,
    metrics: &Metrics,
) -> Result<Loop, String> {
    let artifacts = &settings.artifacts;
    let limits =
        Limits { max_bytes: artifacts.max_unpacked_bytes, max_entries: artifacts.max_entries, ..Limits::default() };
    for flaw in artifacts.allow.iter().filter_map(|prefix| flaw_of_prefix(prefix)) {
        tracing::warn!("artifacts.allow in /etc/zexio/agent.yaml: {flaw}");
    }
    let files = Files::open(&settings.root, artifacts.into(), limits, clock.clone(), trigger.clone());
    let files = files.map_err(|e| e.to_string())?;
    let config = PlanConfig {
        layout: settings.root.clone(),
        ports: (settings.ports.from, settings.ports.to),
        proxy: template::last_good_proxy(settings)?,
    };
    Ok(Loop {
        services: HostServices::new(db.clone(), Box::new(Host::default())),
        store: db,
        units: Box::new(Systemd::default()),
        bundles: Box::new(files),
        health: Box::new(Prober::new(clock.clone(), trigger.clone(), settings.caddy.port_behind())),
        routes: Box::new(Caddy::new(Path::new(&settings.caddy.admin))?.with_template(&settings.caddy.template)),
        tail: Box::new(Endings::begin(trigger.clone()).map_err(|e| format!("could not start a thread: {e}"))?),
        clock,
        config,
        planner: checked_plan,
        next_project: 0,
        busy_passes: 0,
        route_error: None,
        retry_refused_routes: false,
        template_error: None,
        last_statuses: Default::default(),
        recorded_passes: 0,
        pending_events: Default::default(),
        metrics: metrics.clone(),
        phases: Default::default(),
    })
}

/// Creates the user that unpacks artifacts, unless it exists; returns its name.
pub fn make_unpacker() -> Result<&'static str, String> {
    users::make_unpacker().map(|_| users::UNPACKER).map_err(|e| e.to_string())
}

/// Joins our Caddyfile to the operator's while Caddy keeps serving. Returns what was done, one line each.
///
/// # Errors
/// Names the obstacle; nothing was changed.
pub fn join_proxy(settings: &Settings, how: &JoinProxy<'_>) -> Result<Vec<String>, String> {
    let ours = crate::render::caddyfile::text(&template::proxy(settings)?, &[])?;
    let socket = Path::new(&settings.caddy.admin);
    let order = caddy::join::Order {
        socket,
        ours: &ours,
        yes: how.yes,
        restart: how.restart,
        behind: settings.caddy.behind.is_some(),
    };
    caddy::join::join(&order, how.ask).map_err(|e| e.to_string())
}
