//! The loop's side: reads the desired state, saves progress.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use zeroize::Zeroizing;

use crate::model::desired::{Desired, SecretVersion};
use crate::model::event::Event;
use crate::model::failure::PortError;
use crate::model::names::{EnvName, Hostname, ProjectId};
use crate::model::progress::{Progress, ProjectProgress, Unreadable};
use crate::model::reason::Reason;
use crate::model::spec::Sealed;
use crate::model::status::Status;
use crate::plan::accept::project as rules;
use crate::plan::accept::values::{self, Kind};
use crate::port::{ProgressStore, ServiceProgressStore, WriteError};

use super::rows::{forget, known_id, read, read_desired};
use super::sealed::open_value;
use super::{Db, damaged, refused};

impl ProgressStore for Db {
    fn desired(&self) -> Result<Desired, PortError> {
        read_desired(&self.lock()).map(Desired)
    }

    fn progress(&self) -> Result<Progress, PortError> {
        let mut progress = Progress { services: self.service_progress()?, ..Progress::default() };
        let connection = self.lock();
        for (project, text) in read_texts(&connection, "SELECT project, progress FROM progress")? {
            match parse(&text) {
                Ok(found) => drop(progress.projects.insert(project, found)),
                Err(error) => {
                    let unreadable = what_it_has(&connection, &project, error.message);
                    progress.unreadable.insert(project, unreadable.map_err(|e| refused("read", &e))?);
                }
            }
        }
        Ok(progress)
    }

    fn progress_of(&self, project: &ProjectId) -> Result<ProjectProgress, PortError> {
        read_progress(&self.lock(), project)
    }

    fn save_progress(&self, changed: &BTreeMap<ProjectId, ProjectProgress>, events: &[Event]) -> Result<(), PortError> {
        let mut connection = self.lock_to_write();
        let failed = |e: rusqlite::Error| refused("remember progress", &e);
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        // Everything is released before anything is assigned: a port may move from one project to another in one write.
        for project in changed.keys() {
            tx.execute("DELETE FROM ports WHERE project = ?1", params![project.as_str()]).map_err(failed)?;
            tx.execute("DELETE FROM hosts WHERE project = ?1", params![project.as_str()]).map_err(failed)?;
        }
        // A deleted project leaves nothing: if only the answer to the deletion was lost, the loop still knows the
        // project.
        let is_there = |project: &ProjectId| {
            let sql = "SELECT 1 FROM projects WHERE project = ?1";
            tx.query_row(sql, params![project.as_str()], |_| Ok(())).optional().map(|row| row.is_some())
        };
        for (project, progress) in changed {
            if !is_there(project).map_err(failed)? {
                continue;
            }
            keep(&tx, project, progress).map_err(failed)?;
            drop_unused_values(&tx, project, progress).map_err(failed)?;
        }
        self.commit(tx, events).map_err(failed)
    }

    fn statuses(&self) -> Result<BTreeMap<ProjectId, Status>, PortError> {
        let texts = read_texts(&self.lock(), "SELECT project, status FROM status")?;
        Ok(texts.into_iter().filter_map(|(project, text)| Some((project, parse_status(&text)?))).collect())
    }

    fn status_of(&self, project: &ProjectId) -> Result<Option<Status>, PortError> {
        let text = read_text(&self.lock(), "SELECT status FROM status WHERE project = ?1", project)?;
        Ok(text.and_then(|text| parse_status(&text)))
    }

    fn record(&self, statuses: &[Status], events: &[Event]) -> Result<(), PortError> {
        let mut connection = self.lock_to_write();
        let failed = |e: rusqlite::Error| refused("record statuses", &e);
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        for status in statuses {
            let text = serde_json::to_string(status).map_err(|e| damaged("a status", e))?;
            let sql = "INSERT INTO status (project, status) SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM projects WHERE project = ?1)
                ON CONFLICT (project) DO UPDATE SET status = ?2";
            tx.execute(sql, params![status.project.as_str(), text]).map_err(failed)?;
        }
        self.commit(tx, events).map_err(failed)
    }

    fn open_values(
        &self,
        project: &ProjectId,
        env: &BTreeMap<EnvName, Sealed>,
        secrets: &BTreeMap<EnvName, SecretVersion>,
    ) -> Result<BTreeMap<EnvName, Zeroizing<String>>, PortError> {
        let connection = self.lock();
        let open = |kind, name, version| open_value(&connection, &self.sealer, kind, project, name, version);
        let plain = env.iter().map(|(name, value)| Ok((name.clone(), open(Kind::Env, name.as_str(), value.sealed)?)));
        let secret = secrets.iter().map(|(variable, secret)| {
            Ok((variable.clone(), open(Kind::Secret, secret.name.as_str(), secret.version)?))
        });
        plain.chain(secret).collect()
    }

    fn delete_record(&self, project: &ProjectId, generation: u64) -> Result<(), PortError> {
        let mut connection = self.lock_to_write();
        let failed = |e: rusqlite::Error| refused("forget a project", &e);
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        if read(&tx, project)?.is_some_and(|record| rules::may_forget(&record, generation)) {
            forget(&tx, project).map_err(plain)?;
        }
        tx.commit().map_err(failed)
    }
}

pub(super) fn plain(error: WriteError) -> PortError {
    match error {
        WriteError::Store(error) => error,
        other => PortError::transient(Reason::Database, other.to_string()),
    }
}

/// Reads one project's recorded progress; empty if it has none.
pub(super) fn read_progress(connection: &Connection, project: &ProjectId) -> Result<ProjectProgress, PortError> {
    let text = read_text(connection, "SELECT progress FROM progress WHERE project = ?1", project)?;
    text.map_or(Ok(ProjectProgress::default()), |text| parse(&text))
}

fn read_text(connection: &Connection, sql: &str, project: &ProjectId) -> Result<Option<String>, PortError> {
    let mut statement = connection.prepare_cached(sql).map_err(|e| refused("read", &e))?;
    statement.query_row(params![project.as_str()], |row| row.get(0)).optional().map_err(|e| refused("read", &e))
}

/// A status in an older format is no loss: the next pass writes a new one.
fn parse_status(text: &str) -> Option<Status> {
    serde_json::from_str(text).ok()
}

/// Reads the ports and hosts that a project owns, though its progress could not be read.
fn what_it_has(connection: &Connection, project: &ProjectId, why: String) -> rusqlite::Result<Unreadable> {
    let mut ports = connection.prepare_cached("SELECT port FROM ports WHERE project = ?1")?;
    let ports = ports.query_map(params![project.as_str()], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut hosts = connection.prepare_cached("SELECT host FROM hosts WHERE project = ?1")?;
    let hosts: Vec<String> =
        hosts.query_map(params![project.as_str()], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(Unreadable { why, ports, hosts: hosts.iter().filter_map(|host| Hostname::parse(host).ok()).collect() })
}

fn parse(text: &str) -> Result<ProjectProgress, PortError> {
    serde_json::from_str(text).map_err(|e| damaged("progress", e))
}

fn read_texts(connection: &Connection, sql: &str) -> Result<Vec<(ProjectId, String)>, PortError> {
    let mut statement = connection.prepare_cached(sql).map_err(|e| refused("read", &e))?;
    let rows: Vec<(String, String)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .and_then(Iterator::collect)
        .map_err(|e| refused("read", &e))?;
    Ok(rows.into_iter().filter_map(|(name, text)| Some((known_id(&name)?, text))).collect())
}

/// Writes a project's progress. Ports and hosts are also in tables of their own, which keep them unique among projects.
fn keep(tx: &Transaction<'_>, project: &ProjectId, progress: &ProjectProgress) -> rusqlite::Result<()> {
    let text = serde_json::to_string(progress).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
    let sql =
        "INSERT INTO progress (project, progress) VALUES (?1, ?2) ON CONFLICT (project) DO UPDATE SET progress = ?2";
    tx.execute(sql, params![project.as_str(), text])?;
    for port in progress.ports.values().flatten().flat_map(|ports| [ports.a, ports.b]) {
        tx.execute("INSERT INTO ports (port, project) VALUES (?1, ?2)", params![port, project.as_str()])?;
    }
    for host in &progress.hosts {
        tx.execute("INSERT INTO hosts (host, project) VALUES (?1, ?2)", params![host.as_str(), project.as_str()])?;
    }
    Ok(())
}

/// Removes versions of values that are no longer needed.
fn drop_unused_values(tx: &Transaction<'_>, project: &ProjectId, progress: &ProjectProgress) -> rusqlite::Result<()> {
    let mut statement = tx.prepare_cached("SELECT kind, name, version FROM sealed WHERE project = ?1")?;
    let stored: BTreeSet<(Kind, String, u32)> = statement
        .query_map(params![project.as_str()], |row| {
            let kind = if row.get_ref(0)?.as_str()? == Kind::Env.as_str() { Kind::Env } else { Kind::Secret };
            Ok((kind, row.get(1)?, row.get(2)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (kind, name, version) in values::unused(progress, &stored) {
        let sql = "DELETE FROM sealed WHERE project = ?1 AND kind = ?2 AND name = ?3 AND version = ?4";
        tx.execute(sql, params![project.as_str(), kind.as_str(), name, version])?;
    }
    Ok(())
}
