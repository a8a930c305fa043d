//! The store in SQLite. One connection writes and reads.

mod desired;
mod events;
mod progress;
mod rows;
mod schema;
mod sealed;
mod services;

use std::fmt::Display;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use prometheus_client::metrics::histogram::Histogram;
use rusqlite::{Connection, ErrorCode, params};
use tokio::sync::watch;

use crate::metrics;
use crate::model::event::By;
use crate::model::failure::PortError;
use crate::model::names::ProjectId;
use crate::model::reason::Reason;
use crate::plan::accept::Request;
use crate::port::{Clock, WriteError};
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

fn execute(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<(), WriteError> {
    connection.execute(sql, values).map(|_| ()).map_err(|e| refused("write", &e).into())
}

fn select<T>(
    connection: &Connection,
    sql: &str,
    project: &ProjectId,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, PortError> {
    let mut statement = connection.prepare_cached(sql).map_err(|e| refused("read", &e))?;
    let rows = statement.query_map(params![project.as_str()], read).map_err(|e| refused("read", &e))?;
    rows.collect::<rusqlite::Result<_>>().map_err(|e| refused("read", &e))
}

fn json(value: &impl serde::Serialize) -> String {
    // Our own types of strings, numbers and maps with string keys: writing them as JSON cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}

fn parsed<T: serde::de::DeserializeOwned>(text: Option<String>, what: &str) -> Result<Option<T>, PortError> {
    text.map(|text| serde_json::from_str(&text).map_err(|e| damaged(what, e))).transpose()
}

#[cfg(test)]
mod tests;
