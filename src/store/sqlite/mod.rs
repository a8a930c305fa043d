//! The store in SQLite. One connection writes and reads.

mod desired;
mod events;
mod progress;
mod schema;
mod services;

use std::fmt::Display;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use prometheus_client::metrics::histogram::Histogram;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::watch;

use crate::metrics;
use crate::model::event::By;
use crate::model::failure::PortError;
use crate::model::reason::Reason;
use crate::plan::accept::Request;
use crate::port::Clock;
use crate::store::seal::{MasterKey, Sealer};

/// The SQLite database that holds desired state, progress and events.
pub struct Db {
    connection: Mutex<Connection>,
    sealer: Sealer,
    clock: Arc<dyn Clock>,
    /// Counts the writes that stored events.
    told: watch::Sender<u64>,
    writes: Histogram,
}

impl Db {
    /// Opens the database, creates it if it is missing, migrates its tables.
    ///
    /// # Errors
    /// The file is damaged, of a newer agent, or the disk fails; the apps keep running.
    pub fn open(path: &Path, master: &MasterKey, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let shown = path.display();
        let connection = Connection::open(path).map_err(|e| format!("could not open database {shown}: {e}"))?;
        schema::prepare(&connection).map_err(|cause| {
            format!("could not use database {shown}: {cause}; the apps run on without it; restore it from a backup, or move it away and put every project again")
        })?;
        Ok(Self {
            connection: Mutex::new(connection),
            sealer: Sealer::new(master),
            clock,
            told: watch::Sender::new(0),
            writes: metrics::short(),
        })
    }

    /// A panic in another thread leaves no half-done transaction behind, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As `lock`, for a write: timed from when the lock is acquired until the write is on disk.
    fn lock_to_write(&self) -> Writing<'_> {
        Writing { connection: self.lock(), began: Instant::now(), writes: &self.writes }
    }

    fn request<'a>(&self, by: &'a By) -> Request<'a> {
        Request { by, now: self.clock.now() }
    }

    /// Returns the histogram of write durations, which keeps counting.
    pub fn writes(&self) -> Histogram {
        self.writes.clone()
    }
}

/// A connection that is being written with.
struct Writing<'a> {
    connection: MutexGuard<'a, Connection>,
    began: Instant,
    writes: &'a Histogram,
}

impl Deref for Writing<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Writing<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.writes.observe(self.began.elapsed().as_secs_f64());
    }
}

/// Describes a failed database operation. A full or read-only disk may be fixed without a change of spec.
fn refused(what: &str, error: &rusqlite::Error) -> PortError {
    let (reason, mend) = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            (Reason::DiskFull, "; make room on its disk, `zexio doctor` says where there is none")
        }
        Some(ErrorCode::ReadOnly) => (Reason::ReadOnly, "; make its disk writable again"),
        _ => (Reason::Database, ""),
    };
    PortError::transient(reason, format!("could not {what} in the database: {error}{mend}"))
}

/// Reports a row of our own that cannot be parsed.
fn damaged(what: &str, error: impl Display) -> PortError {
    PortError::transient(Reason::Database, format!("could not read {what} from the database: {error}"))
}

#[cfg(test)]
mod tests;
