//! The inputs' side: loads stored state, applies a rule of `plan::accept`, and saves the result, in one transaction
//! each.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use zeroize::Zeroizing;

use crate::event_log;
use crate::model::desired::{DesiredProject, OperatorSuspension, Owner, Refusal};
use crate::model::event::{By, Event};
use crate::model::failure::PortError;
use crate::model::names::{KeyId, ProjectId, SecretName};
use crate::model::quantity::Timestamp;
use crate::model::record::Record;
use crate::model::spec::{Artifact, Plain};
use crate::plan::accept::admit::Admitted;
use crate::plan::accept::project::{self as rules, Deliveries, StoredProgress};
use crate::plan::accept::values::{self, Kind};
use crate::plan::accept::{Change, Request, Write};
use crate::port::{Delivery, DesiredStore, SecretInfo, WriteError, WriteResult};
use crate::store::seal::Sealer;

use super::progress::read_progress;
use super::rows::{forget, read, remove, save, wanted};
use super::sealed::{Stored, listed_secrets, open_value};
use super::{Db, damaged, execute, refused, select};

impl DesiredStore for Db {
    fn put(&self, document: Admitted, owner: &Owner, expect: Option<u64>, by: &By) -> Result<WriteResult, WriteError> {
        let project = document.project().clone();
        self.change("write a spec", &project, |tx| put(tx, &self.sealer, document, owner, expect, self.request(by)))
    }

    fn dry_run(&self, document: Admitted, owner: &Owner, expect: Option<u64>) -> Result<DesiredProject, WriteError> {
        let mut connection = self.lock();
        let tx = begin(&mut connection)?;
        let project = document.project().clone();
        let by = By::File(String::new());
        let change = put(&tx, &self.sealer, document, owner, expect, self.request(&by))?;
        // Dropped without a commit: the write was real, and nothing of it stays.
        let Write::Save(record) = change.write else { return Err(WriteError::Unknown(project)) };
        Ok(record.desired_project(listed_secrets(&tx, &project)?))
    }

    fn delete(&self, project: &ProjectId, owner: &Owner, keep_data: bool, by: &By) -> Result<u64, WriteError> {
        self.change("delete a project", project, |tx| {
            rules::delete(read(tx, project)?, project, owner, keep_data, self.request(by), &progress(tx, project))
        })
    }

    fn change_owner(&self, project: &ProjectId, from: &Owner, to: &Owner) -> Result<(), WriteError> {
        self.change("move a project to another owner", project, |tx| {
            rules::change_owner(read(tx, project)?, project, from, to, self.clock.now())
        })
    }

    fn note(&self, key: &str) -> Option<String> {
        self.lock()
            .query_row("SELECT value FROM notes WHERE name = ?1", params![key], |row| row.get(0))
            .optional()
            .ok()
            .flatten()
    }

    fn set_note(&self, key: &str, value: &str) {
        let sql = "INSERT INTO notes (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2";
        if let Err(error) = self.lock_to_write().execute(sql, params![key, value]) {
            tracing::warn!(key, "could not write a note: {error}; it is tried again");
        }
    }

    fn overlay(&self, project: &ProjectId, artifact: &Artifact, by: &By) -> Result<WriteResult, WriteError> {
        self.change("move an artifact", project, |tx| {
            rules::overlay(read(tx, project)?, project, artifact, self.request(by), &progress(tx, project))
        })
    }

    fn fetch_again(&self, project: &ProjectId, by: &By) -> Result<u64, WriteError> {
        self.change("ask for another fetch", project, |tx| {
            rules::fetch_again(read(tx, project)?, project, self.request(by), &progress(tx, project))
        })
    }

    fn set_suspension(
        &self,
        project: &ProjectId,
        suspension: Option<&OperatorSuspension>,
        by: &By,
    ) -> Result<(), WriteError> {
        self.change("suspend or resume a project", project, |tx| {
            rules::set_suspension(read(tx, project)?, project, suspension, self.request(by))
        })
    }

    fn desired_project(&self, project: &ProjectId) -> Result<Option<DesiredProject>, WriteError> {
        let connection = self.lock();
        let Some(record) = read(&connection, project)? else { return Ok(None) };
        Ok(Some(wanted(record, listed_secrets(&connection, project))))
    }

    fn set_refusal(&self, project: &ProjectId, owner: &Owner, refusal: Option<&Refusal>) -> Result<(), WriteError> {
        self.change("write a refusal", project, |tx| {
            Ok(rules::set_refusal(read(tx, project)?, project, owner, refusal, self.clock.now()))
        })
    }

    fn set_secret(&self, project: &ProjectId, name: &SecretName, value: &Plain, by: &By) -> Result<u32, WriteError> {
        self.write_with_event("store a secret", |tx| {
            let sql = "SELECT version FROM sealed WHERE project = ?1 AND kind = 'secret' AND name = ?2 AND listed = 1";
            let listed = tx.query_row(sql, params![project.as_str(), name.as_str()], |row| row.get(0)).optional();
            let listed = listed.map_err(|e| refused("read a secret", &e))?;
            let mut stored = Stored { tx, sealer: &self.sealer, project, now: self.clock.now() };
            let version = values::store(&mut stored, Kind::Secret, name.as_str(), value)?;
            let sql = "UPDATE sealed SET listed = (version = ?3) WHERE project = ?1 AND kind = 'secret' AND name = ?2";
            execute(tx, sql, params![project.as_str(), name.as_str(), version])?;
            let event = values::secret_stored(project, name, version, listed, self.request(by));
            Ok((version, event))
        })
    }

    fn remove_secret(&self, project: &ProjectId, name: &SecretName, by: &By) -> Result<bool, WriteError> {
        self.write_with_event("remove a secret", |tx| {
            let sql =
                "UPDATE sealed SET listed = 0 WHERE project = ?1 AND kind = 'secret' AND name = ?2 AND listed = 1";
            let removed = tx
                .execute(sql, params![project.as_str(), name.as_str()])
                .map_err(|e| refused("remove a secret", &e))?;
            let event = || values::secret_removed(project, name, self.request(by));
            Ok((removed > 0, (removed > 0).then(event)))
        })
    }

    fn secrets(&self, project: &ProjectId) -> Result<Vec<SecretInfo>, WriteError> {
        let connection = self.lock();
        let sql = "SELECT name, version, updated_at FROM sealed WHERE project = ?1 AND kind = 'secret' AND listed = 1 ORDER BY name";
        let rows = select(&connection, sql, project, |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)))?;
        rows.into_iter()
            .map(|(name, version, at)| {
                let name = SecretName::parse(&name).map_err(|e| damaged("a secret's name", e))?;
                Ok(SecretInfo { name, version, updated_at: Timestamp(at) })
            })
            .collect()
    }

    fn open_secret(&self, project: &ProjectId, name: &SecretName) -> Result<Option<Zeroizing<String>>, WriteError> {
        let connection = self.lock();
        match listed_secrets(&connection, project)?.get(name) {
            Some(version) => open_value(&connection, &self.sealer, Kind::Secret, project, name.as_str(), *version)
                .map(Some)
                .map_err(WriteError::from),
            None => Ok(None),
        }
    }

    fn take_nonce(&self, key: &KeyId, nonce: &str, expires: Timestamp) -> Result<bool, WriteError> {
        self.write("remember a nonce", |tx| {
            // Judged by the request's own time, so that a clock that jumps back makes no expired nonce valid again.
            let old = i64::try_from(expires.0.saturating_sub(1_200_000)).unwrap_or(0);
            execute(tx, "DELETE FROM nonces WHERE expires < ?1", params![old])?;
            let sql = "INSERT OR IGNORE INTO nonces (key, nonce, expires) VALUES (?1, ?2, ?3)";
            let expires = i64::try_from(expires.0).unwrap_or(i64::MAX);
            let new =
                tx.execute(sql, params![key.as_str(), nonce, expires]).map_err(|e| refused("remember a nonce", &e))?;
            Ok(new == 1)
        })
    }

    fn deliver(
        &self,
        project: &ProjectId,
        artifact: &Artifact,
        delivery: &Delivery,
    ) -> Result<Option<WriteResult>, WriteError> {
        self.change("take a delivery", project, |tx| {
            let stored = deliveries(tx, project, delivery)?;
            let old = read(tx, project)?;
            let change =
                rules::deliver(old, project, artifact, delivery, stored, self.clock.now(), &progress(tx, project))?;
            if change.answer.is_some() {
                let Delivery { provider, id, made, .. } = delivery;
                let sql = "INSERT OR IGNORE INTO deliveries (project, provider, id, made) VALUES (?1, ?2, ?3, ?4)";
                execute(tx, sql, params![project.as_str(), provider, id, made.0])?;
            }
            Ok(change)
        })
    }
}

fn put(
    tx: &Transaction<'_>,
    sealer: &Sealer,
    document: Admitted,
    owner: &Owner,
    expect: Option<u64>,
    request: Request<'_>,
) -> Result<Change<Record, WriteResult>, WriteError> {
    let project = document.project().clone();
    let mut values = Stored { tx, sealer, project: &project, now: request.now };
    rules::put(read(tx, &project)?, document, owner, expect, request, &mut values, &progress(tx, &project))
}

fn progress(tx: &Transaction<'_>, project: &ProjectId) -> StoredProgress {
    read_progress(tx, project)
}

fn deliveries(tx: &Transaction<'_>, project: &ProjectId, delivery: &Delivery) -> Result<Deliveries, PortError> {
    let sql =
        "SELECT coalesce(max(made), 0), coalesce(max(id = ?3), 0) FROM deliveries WHERE project = ?1 AND provider = ?2";
    let Delivery { provider, id, .. } = delivery;
    tx.query_row(sql, params![project.as_str(), provider, id], |row| {
        Ok(Deliveries { newest: Timestamp(row.get(0)?), seen: row.get(1)? })
    })
    .map_err(|e| refused("read deliveries", &e))
}

impl Db {
    /// Applies the decision of a `plan::accept` rule on a project.
    fn change<T>(
        &self,
        what: &str,
        project: &ProjectId,
        decide: impl FnOnce(&Transaction<'_>) -> Result<Change<Record, T>, WriteError>,
    ) -> Result<T, WriteError> {
        self.write_with_event(what, |tx| {
            let change = decide(tx)?;
            match &change.write {
                Write::Nothing => {}
                Write::Save(record) => save(tx, project, record)?,
                Write::Reset(record) => {
                    save(tx, project, record)?;
                    remove(tx, project, &["progress", "ports", "hosts"])?;
                }
                Write::Delete => forget(tx, project)?,
            }
            Ok((change.answer, change.event))
        })
    }

    /// Runs one write: when it returns, everything of it is on disk, or nothing.
    pub(super) fn write<T>(
        &self,
        what: &str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let mut connection = self.lock_to_write();
        let tx = begin(&mut connection)?;
        let done = work(&tx)?;
        tx.commit().map_err(|e| refused(what, &e))?;
        Ok(done)
    }

    /// Runs one write and stores its event, both or neither; then logs the event.
    pub(super) fn write_with_event<T>(
        &self,
        what: &str,
        work: impl FnOnce(&Transaction<'_>) -> Result<(T, Option<Event>), WriteError>,
    ) -> Result<T, WriteError> {
        let mut connection = self.lock_to_write();
        let tx = begin(&mut connection)?;
        let (done, event) = work(&tx)?;
        self.commit(tx, event.as_slice()).map_err(|e| refused(what, &e))?;
        event.iter().for_each(event_log::write);
        Ok(done)
    }
}

fn begin(connection: &mut Connection) -> Result<Transaction<'_>, WriteError> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|e| refused("begin", &e).into())
}
