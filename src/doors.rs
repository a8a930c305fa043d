//! The doors, opened: the watched directory and the API. Each only writes what is wanted and rings the bell.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::bell::Bell;
use crate::reconcile::Pulse;
use crate::settings::Settings;
use crate::spec_dir;
use crate::store::Db;

/// The open doors.
pub struct Doors {}

/// Opens the doors.
///
/// # Errors
/// Says what could not be opened.
pub fn open(
    settings: &Settings,
    db: Arc<Db>,
    bell: &Bell,
    _pulse: &Pulse,
    stop: &Arc<AtomicBool>,
) -> Result<Doors, String> {
    let troubles = spec_dir::Troubles::default();
    spec_dir::watch(settings.specs(), db.clone(), db, bell.clone(), settings.prune.max, troubles, stop.clone());
    Ok(Doors {})
}

impl Doors {
    /// Serves.
    pub fn serve_until_told_to_stop(self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(async {
            let mut term =
                tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(|e| e.to_string())?;
            term.recv().await;
            Ok(())
        })
    }
}
