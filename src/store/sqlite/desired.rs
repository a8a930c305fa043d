//! The inputs' side: loads stored state, applies a rule of `plan::accept`, and saves the result, in one transaction
//! each.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use zeroize::Zeroizing;

use crate::event_log;
use crate::model::desired::{DesiredProject, OperatorSuspension, Owner, Refusal};
use crate::model::event::{By, Event};
use crate::model::failure::PortError;
use crate::model::names::{KeyId, ProjectId, SecretName};
use crate::model::quantity::Timestamp;
use crate::model::reason::Reason;
use crate::model::record::{Damage, Goal, Overlay, Part, Record};
use crate::model::spec::{Artifact, Plain, Spec};
use crate::plan::accept::admit::Admitted;
use crate::plan::accept::project::{self as rules, Deliveries, StoredProgress};
use crate::plan::accept::values::{self, Kind, Values};
use crate::plan::accept::{Change, Request, Write};
use crate::port::{Delivery, DesiredStore, Put, SecretInfo, WriteError};

use super::progress::read_progress;
use super::{Db, damaged, refused};
use crate::store::seal::{Label, SealedBody, Sealer};

impl DesiredStore for Db {
    fn put(&self, document: Admitted, owner: &Owner, expect: Option<u64>, by: &By) -> Result<Put, WriteError> {
        let project = document.project().clone();
        self.change("write a spec", &project, |tx| put(tx, &self.sealer, document, owner, expect, self.request(by)))
    }

    fn dry_run(&self, document: Admitted, owner: &Owner) -> Result<DesiredProject, WriteError> {
        let mut connection = self.lock();
        let tx = begin(&mut connection)?;
        let project = document.project().clone();
        let by = By::File(String::new());
        let change = put(&tx, &self.sealer, document, owner, None, self.request(&by))?;
        // Dropped without a commit: the write was real, and nothing of it stays.
        let Write::Save(record) = change.write else { return Err(WriteError::Unknown(project)) };
        Ok(record.wanted(listed_secrets(&tx, &project)?))
    }

    fn delete(&self, project: &ProjectId, owner: &Owner, keep_data: bool, by: &By) -> Result<u64, WriteError> {
        self.change("delete a project", project, |tx| {
            rules::delete(read(tx, project)?, project, owner, keep_data, self.request(by), &progress(tx, project))
        })
    }

    fn adopt(&self, project: &ProjectId, from: &Owner, to: &Owner) -> Result<(), WriteError> {
        self.change("move a project to another owner", project, |tx| {
            rules::adopt(read(tx, project)?, project, from, to, self.clock.now())
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

    fn overlay(&self, project: &ProjectId, artifact: &Artifact, by: &By) -> Result<Put, WriteError> {
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
        let rows = rows(&connection, sql, project, |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)))?;
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
    ) -> Result<Option<Put>, WriteError> {
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
) -> Result<Change<Record, Put>, WriteError> {
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
                Write::Forget => forget(tx, project)?,
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

pub(super) fn execute(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<(), WriteError> {
    connection.execute(sql, values).map(|_| ()).map_err(|e| refused("write", &e).into())
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    project: &ProjectId,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, PortError> {
    let mut statement = connection.prepare_cached(sql).map_err(|e| refused("read", &e))?;
    let rows = statement.query_map(params![project.as_str()], read).map_err(|e| refused("read", &e))?;
    rows.collect::<rusqlite::Result<_>>().map_err(|e| refused("read", &e))
}

pub(super) fn json(value: &impl serde::Serialize) -> String {
    // Our own types of strings, numbers and maps with string keys: writing them as JSON cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}

const COLUMNS: &str = "project, generation, intent, keep_data, owner, spec, overlay, overlay_by, complaint, hold";

struct Row {
    project: String,
    generation: u64,
    intent: String,
    keep_data: bool,
    owner: String,
    spec: Option<String>,
    overlay: Option<String>,
    overlay_by: Option<String>,
    refusal: Option<String>,
    suspension: Option<String>,
}

impl Row {
    fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            project: row.get(0)?,
            generation: row.get(1)?,
            intent: row.get(2)?,
            keep_data: row.get(3)?,
            owner: row.get(4)?,
            spec: row.get(5)?,
            overlay: row.get(6)?,
            overlay_by: row.get(7)?,
            refusal: row.get(8)?,
            suspension: row.get(9)?,
        })
    }

    fn record(self) -> Record {
        let mut damage = None;
        let by = self.overlay_by.unwrap_or_default();
        let overlay = part(&mut damage, Part::Overlay, self.overlay, "an overlay");
        Record {
            generation: self.generation,
            goal: match self.intent.as_str() {
                "run" => Goal::Run,
                "delete" => Goal::Delete { keep_data: self.keep_data },
                _ => Goal::Nothing,
            },
            owner: Owner::parse(&self.owner),
            overlay: overlay.map(|artifact| Overlay { artifact, by }),
            spec: part::<Spec>(&mut damage, Part::Other, self.spec, "a spec"),
            refusal: part(&mut damage, Part::Other, self.refusal, "a refusal"),
            // The suspension was deliberate: it stands, although its details are lost.
            suspension: parsed(self.suspension, "a suspension").unwrap_or_else(|error| {
                Some(OperatorSuspension {
                    by: "zexio".into(),
                    since: Timestamp(0),
                    reason: Some(error.message),
                    until: None,
                })
            }),
            damage,
        }
    }
}

/// Parses a part of a record, and notes the first that could not be read.
fn part<T: serde::de::DeserializeOwned>(
    damage: &mut Option<Damage>,
    part: Part,
    text: Option<String>,
    what: &str,
) -> Option<T> {
    parsed(text, what).unwrap_or_else(|error| {
        damage.get_or_insert(Damage { part, why: error.message });
        None
    })
}

/// Returns the desired state of a record. Without its secrets it cannot run.
fn wanted(record: Record, secrets: Secrets) -> DesiredProject {
    match secrets {
        Ok(secrets) => record.wanted(secrets),
        Err(error) => {
            let damage = record.damage.clone().unwrap_or(Damage { part: Part::Other, why: error.message });
            Record { damage: Some(damage), ..record }.wanted(BTreeMap::new())
        }
    }
}

pub(super) fn read(connection: &Connection, project: &ProjectId) -> Result<Option<Record>, PortError> {
    let sql = format!("SELECT {COLUMNS} FROM projects WHERE project = ?1");
    let mut statement = connection.prepare_cached(&sql).map_err(|e| refused("read a project", &e))?;
    let row = statement.query_row(params![project.as_str()], Row::of).optional();
    Ok(row.map_err(|e| refused("read a project", &e))?.map(Row::record))
}

fn save(tx: &Transaction<'_>, project: &ProjectId, record: &Record) -> Result<(), WriteError> {
    let (intent, keep_data) = match record.goal {
        Goal::Run => ("run", false),
        Goal::Delete { keep_data } => ("delete", keep_data),
        Goal::Nothing => ("nothing", false),
    };
    let sql = format!(
        "INSERT INTO projects ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (project) DO UPDATE SET
            generation = ?2, intent = ?3, keep_data = ?4, owner = ?5, spec = ?6, overlay = ?7, overlay_by = ?8, complaint = ?9, hold = ?10"
    );
    let values = params![
        project.as_str(),
        record.generation,
        intent,
        keep_data,
        record.owner.to_string(),
        record.spec.as_ref().map(json),
        record.overlay.as_ref().map(|overlay| json(&overlay.artifact)),
        record.overlay.as_ref().map(|overlay| &overlay.by),
        record.refusal.as_ref().map(json),
        record.suspension.as_ref().map(json),
    ];
    execute(tx, &sql, values)
}

pub(super) fn parsed<T: serde::de::DeserializeOwned>(text: Option<String>, what: &str) -> Result<Option<T>, PortError> {
    text.map(|text| serde_json::from_str(&text).map_err(|e| damaged(what, e))).transpose()
}

/// Reads the whole desired state.
pub(super) fn read_desired(connection: &Connection) -> Result<BTreeMap<ProjectId, DesiredProject>, PortError> {
    let failed = |e: rusqlite::Error| refused("read projects", &e);
    let sql = format!("SELECT {COLUMNS} FROM projects");
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let rows: Vec<Row> = statement.query_map([], Row::of).and_then(Iterator::collect).map_err(failed)?;
    let mut secrets = all_secrets(connection)?;
    let found = rows.into_iter().filter_map(|row| {
        let project = known_id(&row.project)?;
        let secrets = secrets.remove(&row.project).unwrap_or_else(|| Ok(BTreeMap::new()));
        Some((project, wanted(row.record(), secrets)))
    });
    Ok(found.collect())
}

/// Returns a stored project's id. A row with an invalid project name is logged and left alone.
pub(super) fn known_id(name: &str) -> Option<ProjectId> {
    let known = ProjectId::parse(name);
    known.inspect_err(|error| tracing::error!(name, "left a row of the database alone: {error}")).ok()
}

/// The sealed values of a project.
struct Stored<'a> {
    tx: &'a Transaction<'a>,
    sealer: &'a Sealer,
    project: &'a ProjectId,
    now: Timestamp,
}

impl Values for Stored<'_> {
    fn versions(&self, kind: Kind, name: &str) -> Result<Vec<u32>, PortError> {
        let sql = "SELECT version FROM sealed WHERE project = ?1 AND kind = ?2 AND name = ?3 ORDER BY version";
        let failed = |e: rusqlite::Error| refused("read values", &e);
        let mut statement = self.tx.prepare_cached(sql).map_err(failed)?;
        let values = params![self.project.as_str(), kind.as_str(), name];
        statement.query_map(values, |row| row.get(0)).and_then(Iterator::collect).map_err(failed)
    }

    fn open(&self, kind: Kind, name: &str, version: u32) -> Result<Zeroizing<String>, PortError> {
        open_value(self.tx, self.sealer, kind, self.project, name, version)
    }

    fn seal(&mut self, kind: Kind, name: &str, version: u32, value: &Plain) -> Result<(), PortError> {
        let label = Label { kind: kind.as_str(), project: self.project.as_str(), name, version };
        let sealed = self
            .sealer
            .seal(label, value.open())
            .map_err(|e| PortError::transient(Reason::KeyUnavailable, format!("could not seal {name}: {e}")))?;
        let sql = "INSERT INTO sealed (project, kind, name, version, key, nonce, body, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let now = i64::try_from(self.now.0).unwrap_or(i64::MAX);
        let (project, kind) = (self.project.as_str(), kind.as_str());
        let values = params![project, kind, name, version, sealed.key, sealed.nonce, sealed.body, now];
        self.tx.execute(sql, values).map(|_| ()).map_err(|e| refused("write", &e))
    }
}

/// Opens one version of a value.
pub(super) fn open_value(
    connection: &Connection,
    sealer: &Sealer,
    kind: Kind,
    project: &ProjectId,
    name: &str,
    version: u32,
) -> Result<Zeroizing<String>, PortError> {
    let sql = "SELECT key, nonce, body FROM sealed WHERE project = ?1 AND kind = ?2 AND name = ?3 AND version = ?4";
    let sealed = connection
        .query_row(sql, params![project.as_str(), kind.as_str(), name, version], |row| {
            Ok(SealedBody { key: row.get(0)?, nonce: row.get(1)?, body: row.get(2)? })
        })
        .optional()
        .map_err(|e| refused("read a value", &e))?;
    let failed = |cause: &dyn std::fmt::Display| {
        PortError::transient(Reason::KeyUnavailable, format!("could not open version {version} of {name}: {cause}"))
    };
    let sealed = sealed.ok_or_else(|| failed(&"it is not stored"))?;
    sealer
        .open(Label { kind: kind.as_str(), project: project.as_str(), name, version }, &sealed)
        .map_err(|e| failed(&e))
}

fn listed_secrets(connection: &Connection, project: &ProjectId) -> Result<BTreeMap<SecretName, u32>, PortError> {
    let sql = "SELECT name, version FROM sealed WHERE project = ?1 AND kind = 'secret' AND listed = 1";
    rows(connection, sql, project, |row| Ok((row.get(0)?, row.get(1)?)))?.into_iter().map(secret).collect()
}

/// The newest versions of a project's listed secrets, or why they could not be read.
type Secrets = Result<BTreeMap<SecretName, u32>, PortError>;

/// Returns the secrets of all projects.
fn all_secrets(connection: &Connection) -> Result<BTreeMap<String, Secrets>, PortError> {
    let failed = |e: rusqlite::Error| refused("read secrets", &e);
    let sql = "SELECT project, name, version FROM sealed WHERE kind = 'secret' AND listed = 1";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let found: Vec<(String, (String, u32))> = statement
        .query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))
        .and_then(Iterator::collect)
        .map_err(failed)?;
    let mut by_project: BTreeMap<String, Vec<(String, u32)>> = BTreeMap::new();
    for (project, found) in found {
        by_project.entry(project).or_default().push(found);
    }
    Ok(by_project.into_iter().map(|(project, found)| (project, found.into_iter().map(secret).collect())).collect())
}

fn secret((name, version): (String, u32)) -> Result<(SecretName, u32), PortError> {
    Ok((SecretName::parse(&name).map_err(|e| damaged("a secret's name", e))?, version))
}

/// Removes every row of a project.
pub(super) fn forget(connection: &Connection, project: &ProjectId) -> Result<(), WriteError> {
    remove(connection, project, &["projects", "sealed", "progress", "ports", "hosts", "status", "deliveries"])
}

fn remove(connection: &Connection, project: &ProjectId, tables: &[&str]) -> Result<(), WriteError> {
    for table in tables {
        execute(connection, &format!("DELETE FROM {table} WHERE project = ?1"), params![project.as_str()])?;
    }
    Ok(())
}
