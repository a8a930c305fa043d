//! Opens the inputs: the watched directory and the API. Each only writes desired state and fires the trigger.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::api::{ApiState, Slots, serve};
use crate::heartbeat::Heartbeat;
use crate::host::artifacts::address::FetchRules;
use crate::host::artifacts::uploads::DiskUploads;
use crate::host::clock::SystemClock;
use crate::host::journal::Journalctl;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::model::quantity::Span;
use crate::plan::accept::admit::UrlCheck;
use crate::port::{FileErrors, Stats};
use crate::settings::{self, Settings};
use crate::spec_dir::{self, DesiredStores};
use crate::store::Db;
use crate::trigger::TriggerSender;

/// Figures about the server and the agent.
pub struct Gauges {
    pub stats: Arc<dyn Stats>,
    pub metrics: Metrics,
}

/// Opens the inputs and keeps them open until SIGTERM or SIGINT. `opened` is called once they are open: from then on
/// the agent can be used.
///
/// # Errors
/// The input that could not be opened, and what to change.
pub fn keep_open(
    settings: &Settings,
    db: Arc<Db>,
    trigger: &TriggerSender,
    heartbeat: &Heartbeat,
    gauges: Gauges,
    stop: &Arc<AtomicBool>,
    opened: impl FnOnce() + Send + 'static,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| format!("could not start the API's threads: {e}"))?;
    let troubles = FileErrors::default();
    let rules = FetchRules::from(&settings.artifacts);
    let check_url: UrlCheck = Arc::new(move |url| rules.check_url(url).map(|_| ()).map_err(|e| e.message));
    spec_dir::watch(
        settings.specs(),
        DesiredStores {
            desired_store: db.clone(),
            progress: db.clone(),
            desired_services: db.clone(),
            service_progress: db.clone(),
        },
        check_url.clone(),
        trigger.clone(),
        settings.prune.max,
        troubles.clone(),
        stop.clone(),
    );
    let state = Arc::new(api_state(settings, db, trigger, heartbeat, gauges, troubles, check_url));
    let listen = Some(settings.listen.clone()).filter(|address| !address.is_empty());
    runtime.block_on(async {
        let (tell, told) = watch::channel(false);
        let serving = tokio::spawn(serve(state, PathBuf::from(settings::SOCKET), listen, told, opened));
        let ended = wait_for_the_end(serving, &tell).await;
        ended?
    })
}

/// Waits for a signal, or for the API to fail.
async fn wait_for_the_end(
    mut serving: tokio::task::JoinHandle<Result<(), String>>,
    tell: &watch::Sender<bool>,
) -> Result<Result<(), String>, String> {
    let failed = |e: std::io::Error| format!("could not listen for signals: {e}");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut serving => return ended.map_err(|e| format!("the API ended: {e}")),
    }
    let _ = tell.send(true);
    serving.await.map_err(|e| format!("the API ended: {e}"))
}

fn api_state(
    settings: &Settings,
    db: Arc<Db>,
    trigger: &TriggerSender,
    heartbeat: &Heartbeat,
    gauges: Gauges,
    troubles: FileErrors,
    check_url: UrlCheck,
) -> ApiState {
    ApiState {
        progress: db.clone(),
        service_progress: db.clone(),
        desired_services: db.clone(),
        desired_store: db.clone(),
        events: db,
        journal: Arc::new(Journalctl::default()),
        uploads: Arc::new(DiskUploads::new(&settings.root, settings.artifacts.max_bytes)),
        clock: Arc::new(SystemClock),
        trigger: trigger.clone(),
        keys: Keys::at(settings::KEYS),
        check_url,
        heartbeat: heartbeat.clone(),
        pulse_within: Span(settings.resync.0.saturating_mul(3)),
        stats: gauges.stats,
        metrics: gauges.metrics,
        slots: Slots::default(),
        troubles,
    }
}
