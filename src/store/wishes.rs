//! The doors' side: writes what is wanted, in one transaction each.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use zeroize::Zeroizing;

use crate::model::desired::{Complaint, Hold, Intent, Owner, Wanted};
use crate::model::document::Problem;
use crate::model::event::{By, Event};
use crate::model::failure::PortError;
use crate::model::names::{ArtifactName, EnvName, KeyId, ProjectId, SecretName};
use crate::model::progress::ProjectProgress;
use crate::model::quantity::Timestamp;
use crate::model::spec::{Artifact, Document, Given, Plain, Sealed, Spec, SpecOf};
use crate::port::{Clock, Delivery, Put, SecretInfo, SystemClock, WishError, Wishes};
use crate::tell::tell;

use super::memory::read_progress;
use super::seal::{Label, SealedBody, Sealer};
use super::{Db, damaged, refused};

impl Wishes for Db {
    fn put(&self, document: Document, owner: &Owner, expect: Option<u64>, by: &By) -> Result<Put, WishError> {
        let project = document.project.clone();
        self.tell("write a spec", |tx| {
            let put = put(tx, &self.sealer, document, owner, expect)?;
            let message = format!("{by} wrote generation {}", put.generation);
            let event = put.changed.then(|| Event::info(now(), "SpecWritten", message).of(&project, put.generation));
            Ok((put, event))
        })
    }

    fn rehearse(&self, document: Document, owner: &Owner) -> Result<Wanted, WishError> {
        let mut connection = self.lock();
        let tx = begin(&mut connection)?;
        let project = document.project.clone();
        put(&tx, &self.sealer, document, owner, None)?;
        // Dropped without a commit: everything was real, and nothing of it stays.
        Row::read(&tx, &project)?.ok_or(WishError::Unknown(project.clone()))?.wanted(&tx, &project)
    }

    fn delete(&self, project: &ProjectId, owner: &Owner, keep_data: bool, by: &By) -> Result<u64, WishError> {
        self.tell("delete a project", |tx| {
            let row = owned_row(tx, project, owner)?;
            if row.intent == "delete" {
                return Ok((row.generation, None));
            }
            let sql = "UPDATE projects SET intent = 'delete', keep_data = ?2, generation = generation + 1, overlay = NULL, complaint = NULL WHERE project = ?1";
            execute(tx, sql, params![project.as_str(), keep_data])?;
            let generation = row.generation + 1;
            let message = match (by, keep_data) {
                (By::File(name), _) => format!("file {name} is gone"),
                (by, false) => format!("{by} asked for its removal"),
                (by, true) => format!("{by} asked for its removal, and to keep its data"),
            };
            Ok((generation, Some(Event::info(now(), "DeleteRequested", message).of(project, generation))))
        })
    }

    fn adopt(&self, project: &ProjectId, from: &Owner, to: &Owner) -> Result<(), WishError> {
        self.tell("move a project to another owner", |tx| {
            let generation = owned_row(tx, project, from)?.generation;
            execute(
                tx,
                "UPDATE projects SET owner = ?2 WHERE project = ?1",
                params![project.as_str(), to.to_string()],
            )?;
            let event = Event::info(now(), "OwnerChanged", format!("it belongs to {to} and no more to {from}"));
            Ok(((), Some(event.of(project, generation))))
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

    fn overlay(&self, project: &ProjectId, artifact: &Artifact, by: &By) -> Result<Put, WishError> {
        self.tell("move an artifact", |tx| {
            let put = overlay(tx, project, artifact, by)?;
            Ok((put, moved(project, artifact, by, put)))
        })
    }

    fn fetch_again(&self, project: &ProjectId, by: &By) -> Result<u64, WishError> {
        self.tell("ask for another fetch", |tx| {
            let row = Row::read(tx, project)?.ok_or_else(|| WishError::Unknown(project.clone()))?;
            if row.intent != "run" || !read_progress(tx, project)?.lacks_its_artifact() {
                return Ok((row.generation, None));
            }
            let generation = row.generation + 1;
            let sql = "UPDATE projects SET generation = ?2 WHERE project = ?1";
            execute(tx, sql, params![project.as_str(), generation])?;
            let event = Event::info(now(), "SyncRequested", format!("{by} asked to fetch the artifact again"));
            Ok((generation, Some(event.of(project, generation))))
        })
    }

    fn hold(&self, project: &ProjectId, hold: Option<&Hold>, by: &By) -> Result<(), WishError> {
        self.tell("suspend or resume a project", |tx| {
            let row = Row::read(tx, project)?.ok_or_else(|| WishError::Unknown(project.clone()))?;
            if row.hold.as_ref() == hold {
                return Ok(((), None));
            }
            execute(tx, "UPDATE projects SET hold = ?2 WHERE project = ?1", params![project.as_str(), hold.map(json)])?;
            let event = match hold {
                Some(hold) => Event::info(now(), "SuspendRequested", hold.message()),
                None => Event::info(now(), "ResumeRequested", format!("{by} resumed it")),
            };
            Ok(((), Some(event.of(project, row.generation))))
        })
    }

    fn wanted(&self, project: &ProjectId) -> Result<Option<Wanted>, WishError> {
        let connection = self.lock();
        Row::read(&connection, project)?.map(|row| row.wanted(&connection, project)).transpose()
    }

    fn complain(&self, project: &ProjectId, owner: &Owner, complaint: Option<&Complaint>) -> Result<(), WishError> {
        self.tell("write a complaint", |tx| {
            let row = Row::read(tx, project)?;
            let known = row.as_ref().map_or(0, |row| row.generation);
            let event = |complaint: &Complaint| {
                Event::warning(now(), complaint.kind.reason(), &complaint.message).of(project, known)
            };
            match (&row, complaint) {
                (Some(row), _) if row.owner != *owner => return Ok(((), None)),
                (Some(row), None) if row.intent == "nothing" => forget(tx, project)?,
                (Some(_), complaint) => {
                    let sql = "UPDATE projects SET complaint = ?2 WHERE project = ?1";
                    execute(tx, sql, params![project.as_str(), complaint.map(json)])?;
                }
                (None, Some(complaint)) => {
                    let sql = "INSERT INTO projects (project, generation, intent, owner, complaint) VALUES (?1, 0, 'nothing', ?2, ?3)";
                    execute(tx, sql, params![project.as_str(), owner.to_string(), json(complaint)])?;
                }
                (None, None) => {}
            }
            Ok(((), complaint.map(event)))
        })
    }

    fn set_secret(&self, project: &ProjectId, name: &SecretName, value: &Plain) -> Result<u32, WishError> {
        self.write("store a secret", |tx| {
            let version = seal_value(tx, &self.sealer, "secret", project, name.as_str(), value)?;
            let sql = "UPDATE sealed SET listed = (version = ?3) WHERE project = ?1 AND kind = 'secret' AND name = ?2";
            execute(tx, sql, params![project.as_str(), name.as_str(), version])?;
            Ok(version)
        })
    }

    fn remove_secret(&self, project: &ProjectId, name: &SecretName) -> Result<bool, WishError> {
        self.write("remove a secret", |tx| {
            let sql =
                "UPDATE sealed SET listed = 0 WHERE project = ?1 AND kind = 'secret' AND name = ?2 AND listed = 1";
            let removed = tx
                .execute(sql, params![project.as_str(), name.as_str()])
                .map_err(|e| refused("remove a secret", &e))?;
            Ok(removed > 0)
        })
    }

    fn secrets(&self, project: &ProjectId) -> Result<Vec<SecretInfo>, WishError> {
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

    fn open_secret(&self, project: &ProjectId, name: &SecretName) -> Result<Option<Zeroizing<String>>, WishError> {
        let connection = self.lock();
        match listed_secrets(&connection, project)?.get(name) {
            Some(version) => open_value(&connection, &self.sealer, "secret", project, name.as_str(), *version)
                .map(Some)
                .map_err(WishError::from),
            None => Ok(None),
        }
    }

    fn take_nonce(&self, key: &KeyId, nonce: &str, expires: Timestamp) -> Result<bool, WishError> {
        self.write("remember a nonce", |tx| {
            // Judged by the request's own time, so that a clock that jumps back brings no nonce to life again.
            let old = i64::try_from(expires.0.saturating_sub(1_200_000)).unwrap_or(0);
            execute(tx, "DELETE FROM nonces WHERE expires < ?1", params![old])?;
            let sql = "INSERT OR IGNORE INTO nonces (key, nonce, expires) VALUES (?1, ?2, ?3)";
            let expires = i64::try_from(expires.0).unwrap_or(i64::MAX);
            let new =
                tx.execute(sql, params![key.as_str(), nonce, expires]).map_err(|e| refused("remember a nonce", &e))?;
            Ok(new == 1)
        })
    }

    fn deliver(&self, project: &ProjectId, artifact: &Artifact, delivery: &Delivery) -> Result<Option<Put>, WishError> {
        self.tell("take a delivery", |tx| {
            let again = read_progress(tx, project)?.lacks(artifact);
            if !take_delivery(tx, project, delivery, again)? {
                return Ok((None, None));
            }
            let by = By::Webhook(delivery.provider.to_owned());
            let put = overlay(tx, project, artifact, &by)?;
            Ok((Some(put), moved(project, artifact, &by, put)))
        })
    }
}

/// Tells of a moved artifact: by its version or digest, since a URL may hold a key to it.
fn moved(project: &ProjectId, artifact: &Artifact, by: &By, put: Put) -> Option<Event> {
    let version = artifact.version.as_ref().map(|version| format!("version {}", version.as_str()));
    let what = version.or_else(|| artifact.sha256.as_ref().map(ToString::to_string));
    let event = match artifact.release {
        Some(release) => {
            let message = format!("{by} asked to go back to release {release}");
            Event::info(now(), "RollbackRequested", message).to(Some(release))
        }
        None => {
            let what = what.unwrap_or_else(|| "a version without a name".to_owned());
            Event::info(now(), "ArtifactMoved", format!("{by} asked for {what}"))
        }
    };
    put.changed.then(|| event.of(project, put.generation))
}

pub(super) fn now() -> Timestamp {
    SystemClock.now()
}

fn overlay(tx: &Transaction<'_>, project: &ProjectId, artifact: &Artifact, by: &By) -> Result<Put, WishError> {
    let row = Row::read(tx, project)?.ok_or_else(|| WishError::Unknown(project.clone()))?;
    let spec = match (&row.spec, row.intent.as_str()) {
        (Some(spec), "run") => spec,
        (_, "delete") => return Err(WishError::Deleting(project.clone())),
        _ => return Err(WishError::Unknown(project.clone())),
    };
    let moved = Artifact { updates: spec.artifact.updates, ..artifact.clone() };
    let is_wanted = *row.overlay.as_ref().unwrap_or(&spec.artifact) == moved;
    // Whoever asks again for what could not be fetched means another try, and from now on it is theirs.
    let again = is_wanted && read_progress(tx, project)?.lacks_its_artifact();
    if is_wanted && !again {
        return Ok(Put { generation: row.generation, created: false, changed: false });
    }
    let overlay = (again || moved != spec.artifact).then_some(moved);
    let sql = "UPDATE projects SET overlay = ?2, overlay_by = ?3, generation = generation + 1 WHERE project = ?1";
    execute(tx, sql, params![project.as_str(), overlay.as_ref().map(json), by.to_string()])?;
    Ok(Put { generation: row.generation + 1, created: false, changed: true })
}

fn take_delivery(
    tx: &Transaction<'_>,
    project: &ProjectId,
    delivery: &Delivery,
    again: bool,
) -> Result<bool, WishError> {
    let Delivery { provider, id, made, edited } = delivery;
    let sql =
        "SELECT coalesce(max(made), 0), coalesce(max(id = ?3), 0) FROM deliveries WHERE project = ?1 AND provider = ?2";
    let (newest, seen): (u64, bool) = tx
        .query_row(sql, params![project.as_str(), provider, id], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(|e| refused("read deliveries", &e))?;
    let known = seen || *edited && (newest == 0 || made.0 == newest);
    if made.0 < newest || known && !again {
        return Ok(false);
    }
    let sql = "INSERT OR IGNORE INTO deliveries (project, provider, id, made) VALUES (?1, ?2, ?3, ?4)";
    execute(tx, sql, params![project.as_str(), provider, id, made.0])?;
    Ok(true)
}

impl Db {
    /// Runs one write: everything of it is on disk when it returns, or nothing is.
    pub(super) fn write<T>(
        &self,
        what: &str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, WishError>,
    ) -> Result<T, WishError> {
        let mut connection = self.lock_to_write();
        let tx = begin(&mut connection)?;
        let done = work(&tx)?;
        tx.commit().map_err(|e| refused(what, &e))?;
        Ok(done)
    }

    /// Runs one write and keeps what it tells, both or neither; then the log tells it too.
    pub(super) fn tell<T>(
        &self,
        what: &str,
        work: impl FnOnce(&Transaction<'_>) -> Result<(T, Option<Event>), WishError>,
    ) -> Result<T, WishError> {
        let mut connection = self.lock_to_write();
        let tx = begin(&mut connection)?;
        let (done, event) = work(&tx)?;
        self.commit(tx, event.as_slice()).map_err(|e| refused(what, &e))?;
        event.iter().for_each(tell);
        Ok(done)
    }
}

fn begin(connection: &mut Connection) -> Result<Transaction<'_>, WishError> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|e| refused("begin", &e).into())
}

pub(super) fn execute(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<(), WishError> {
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

/// A project's row.
pub(super) struct Row {
    generation: u64,
    intent: String,
    keep_data: bool,
    owner: Owner,
    spec: Option<Spec>,
    overlay: Option<Artifact>,
    complaint: Option<Complaint>,
    hold: Option<Hold>,
    overlay_by: Option<String>,
}

impl Row {
    fn read(connection: &Connection, project: &ProjectId) -> Result<Option<Self>, PortError> {
        type Texts = (u64, String, bool, String, Option<String>, [Option<String>; 4]);
        let sql = "SELECT generation, intent, keep_data, owner, spec, overlay, complaint, hold, overlay_by FROM projects WHERE project = ?1";
        let texts: Option<Texts> = connection
            .query_row(sql, params![project.as_str()], |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                    [row.get(5)?, row.get(6)?, row.get(7)?, row.get(8)?],
                ))
            })
            .optional()
            .map_err(|e| refused("read a project", &e))?;
        let Some((generation, intent, keep_data, owner, spec, [overlay, complaint, hold, overlay_by])) = texts else {
            return Ok(None);
        };
        Ok(Some(Self {
            generation,
            intent,
            keep_data,
            owner: Owner::parse(&owner),
            spec: parsed(spec, "a spec")?,
            overlay: parsed(overlay, "an overlay")?,
            complaint: parsed(complaint, "a complaint")?,
            hold: parsed(hold, "a suspension")?,
            overlay_by,
        }))
    }

    /// Tells whether somebody said stop. Then a removal has not begun, or stands still: it can be taken back.
    fn is_held(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.holds_at(now()))
    }

    fn wanted(mut self, connection: &Connection, project: &ProjectId) -> Result<Wanted, WishError> {
        let moved = self.overlay.is_some() && self.overlay_by.as_deref().is_some_and(By::is_webhook);
        let intent = match (self.intent.as_str(), self.spec.take()) {
            ("delete", _) => Intent::Delete { keep_data: self.keep_data },
            ("run", Some(spec)) => Intent::Run(Arc::new(with_overlay(spec, self.overlay.take()))),
            _ => Intent::Nothing,
        };
        let secrets = listed_secrets(connection, project)?;
        let Row { generation, owner, complaint, hold, .. } = self;
        Ok(Wanted { generation, intent, owner, secrets, complaint, hold, moved })
    }
}

pub(super) fn parsed<T: serde::de::DeserializeOwned>(text: Option<String>, what: &str) -> Result<Option<T>, PortError> {
    text.map(|text| serde_json::from_str(&text).map_err(|e| damaged(what, e))).transpose()
}

fn with_overlay(spec: Spec, overlay: Option<Artifact>) -> Spec {
    match overlay {
        Some(artifact) => Spec { artifact, ..spec },
        None => spec,
    }
}

/// Reads everything that is wanted.
pub(super) fn read_desired(connection: &Connection) -> Result<BTreeMap<ProjectId, Wanted>, WishError> {
    let mut statement =
        connection.prepare_cached("SELECT project FROM projects").map_err(|e| refused("read projects", &e))?;
    let names: Vec<String> = statement
        .query_map([], |row| row.get(0))
        .and_then(Iterator::collect)
        .map_err(|e| refused("read projects", &e))?;
    let mut desired = BTreeMap::new();
    for name in names {
        let project = ProjectId::parse(&name).map_err(|e| damaged("a project's id", e))?;
        if let Some(row) = Row::read(connection, &project)? {
            let wanted = row.wanted(connection, &project)?;
            desired.insert(project, wanted);
        }
    }
    Ok(desired)
}

fn owned_row(tx: &Transaction<'_>, project: &ProjectId, owner: &Owner) -> Result<Row, WishError> {
    match Row::read(tx, project)? {
        None => Err(WishError::Unknown(project.clone())),
        Some(row) if row.owner != *owner => Err(WishError::Owned { project: project.clone(), owner: row.owner }),
        Some(row) => Ok(row),
    }
}

fn put(
    tx: &Transaction<'_>,
    sealer: &Sealer,
    document: Document,
    owner: &Owner,
    expect: Option<u64>,
) -> Result<Put, WishError> {
    let project = document.project.clone();
    let old = Row::read(tx, &project)?;
    let generation = old.as_ref().map_or(0, |row| row.generation);
    match &old {
        Some(row) if row.intent == "delete" && !row.is_held() => return Err(WishError::Deleting(project)),
        Some(row) if row.owner != *owner && row.intent != "nothing" => {
            return Err(WishError::Owned { project, owner: row.owner.clone() });
        }
        _ if expect.is_some_and(|expected| expected != generation) => return Err(WishError::Moved(generation)),
        _ => {}
    }
    let spec: Spec = document.try_map_env(|name, value| {
        let version = match value {
            Given::Clear(value) => seal_value(tx, sealer, "env", &project, name.as_str(), &value)?,
            Given::AsItIs(Sealed { sealed }) => stored_value(tx, sealer, &project, name, sealed)?,
        };
        Ok::<_, WishError>(Sealed { sealed: version })
    })?;
    let created = old.as_ref().is_none_or(|row| row.spec.is_none());
    let overlay = match old.as_ref().and_then(|row| row.spec.as_ref().zip(row.overlay.clone())) {
        Some((before, overlay)) => overlay_after(before, &spec, overlay, &read_progress(tx, &project)?),
        None => None,
    };
    let changed = old
        .as_ref()
        .is_none_or(|row| row.spec.as_ref() != Some(&spec) || row.overlay != overlay || row.intent == "delete");
    let generation = if changed { generation + 1 } else { generation };
    // What this wish mends is over; whether another file claims the project too is not for it to say.
    let complaint = old.and_then(|row| row.complaint).filter(Complaint::is_of_another_file);
    let sql = "INSERT INTO projects (project, generation, intent, owner, spec, overlay) VALUES (?1, ?2, 'run', ?3, ?4, ?5)
        ON CONFLICT (project) DO UPDATE SET generation = ?2, intent = 'run', owner = ?3, spec = ?4, overlay = ?5, complaint = ?6";
    let (overlay, complaint) = (overlay.as_ref().map(json), complaint.as_ref().map(json));
    let values = params![project.as_str(), generation, owner.to_string(), json(&spec), overlay, complaint];
    execute(tx, sql, values)?;
    Ok(Put { generation, created, changed })
}

/// Says what becomes of a moved artifact when the spec is written again. A changed artifact in the spec wins, an
/// unchanged one does not. After a rollback to a whole release, a spec that changes something else than the artifact
/// means that change: it gets the older release's bytes with the new rest.
fn overlay_after(before: &Spec, spec: &Spec, overlay: Artifact, memory: &ProjectProgress) -> Option<Artifact> {
    if spec.artifact != before.artifact {
        return None;
    }
    let Some(number) = overlay.release.filter(|_| makes_other_release(before, spec)) else { return Some(overlay) };
    let release = memory.release(number)?;
    let sha256 = release.sha256.clone()?;
    let file = ArtifactName::parse(sha256.as_str()).ok()?;
    Some(Artifact {
        url: None,
        file: Some(file),
        release: None,
        sha256: Some(sha256),
        version: release.version.clone(),
        updates: spec.artifact.updates,
    })
}

fn makes_other_release(before: &Spec, spec: &Spec) -> bool {
    let bare = |spec: &Spec| -> Spec {
        let mut bare = SpecOf {
            artifact: before.artifact.clone(),
            deploy: before.deploy.clone(),
            hooks: before.hooks.clone(),
            keep: before.keep,
            suspend: before.suspend.clone(),
            ..spec.clone()
        };
        bare.processes.values_mut().for_each(|process| process.routes.clear());
        bare
    };
    bare(before) != bare(spec)
}

/// Seals a value as its name's next version, unless it equals the newest one.
fn seal_value(
    tx: &Transaction<'_>,
    sealer: &Sealer,
    kind: &str,
    project: &ProjectId,
    name: &str,
    value: &Plain,
) -> Result<u32, WishError> {
    let sql = "SELECT coalesce(max(version), 0) FROM sealed WHERE project = ?1 AND kind = ?2 AND name = ?3";
    let newest: u32 = tx
        .query_row(sql, params![project.as_str(), kind, name], |row| row.get(0))
        .map_err(|e| refused("read a value", &e))?;
    if newest > 0 && open_value(tx, sealer, kind, project, name, newest).is_ok_and(|old| *old == value.open()) {
        return Ok(newest);
    }
    let version = newest + 1;
    let label = Label { kind, project: project.as_str(), name, version };
    let sealed = sealer
        .seal(label, value.open())
        .map_err(|e| PortError::passing("KeyUnavailable", format!("could not seal {name}: {e}")))?;
    let sql = "INSERT INTO sealed (project, kind, name, version, key, nonce, body, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let now = i64::try_from(now().0).unwrap_or(i64::MAX);
    execute(tx, sql, params![project.as_str(), kind, name, version, sealed.key, sealed.nonce, sealed.body, now])?;
    Ok(version)
}

/// Returns the version of a value that is to stay as it is. An older one becomes the newest: no other is sure to be kept.
fn stored_value(
    tx: &Transaction<'_>,
    sealer: &Sealer,
    project: &ProjectId,
    name: &EnvName,
    version: u32,
) -> Result<u32, WishError> {
    let sql = "SELECT version FROM sealed WHERE project = ?1 AND kind = 'env' AND name = ?2 ORDER BY version";
    let mut statement = tx.prepare_cached(sql).map_err(|e| refused("read values", &e))?;
    let versions: Vec<u32> = statement
        .query_map(params![project.as_str(), name.as_str()], |row| row.get(0))
        .and_then(Iterator::collect)
        .map_err(|e| refused("read values", &e))?;
    let invalid = |why: String| WishError::Invalid(Problem::at(format!("env.{name}"), why).into());
    match versions.last() {
        None => Err(invalid(format!(
            "{{sealed: {version}}} stands for a stored value, and {project} has none of this name; write the value"
        ))),
        Some(newest) if *newest == version => Ok(version),
        Some(newest) if !versions.contains(&version) => Err(invalid(format!(
            "{{sealed: {version}}} is not stored any more; write {{sealed: {newest}}} for the newest, or the value"
        ))),
        Some(_) => {
            let value = open_value(tx, sealer, "env", project, name.as_str(), version)?;
            let value = Plain::parse(value.to_string()).map_err(|why| damaged("a value", why))?;
            seal_value(tx, sealer, "env", project, name.as_str(), &value)
        }
    }
}

/// Opens one version of a value.
pub(super) fn open_value(
    connection: &Connection,
    sealer: &Sealer,
    kind: &str,
    project: &ProjectId,
    name: &str,
    version: u32,
) -> Result<Zeroizing<String>, PortError> {
    let sql = "SELECT key, nonce, body FROM sealed WHERE project = ?1 AND kind = ?2 AND name = ?3 AND version = ?4";
    let sealed = connection
        .query_row(sql, params![project.as_str(), kind, name, version], |row| {
            Ok(SealedBody { key: row.get(0)?, nonce: row.get(1)?, body: row.get(2)? })
        })
        .optional()
        .map_err(|e| refused("read a value", &e))?;
    let failed = |cause: &dyn std::fmt::Display| {
        PortError::passing("KeyUnavailable", format!("could not open version {version} of {name}: {cause}"))
    };
    let sealed = sealed.ok_or_else(|| failed(&"it is not stored"))?;
    sealer.open(Label { kind, project: project.as_str(), name, version }, &sealed).map_err(|e| failed(&e))
}

fn listed_secrets(connection: &Connection, project: &ProjectId) -> Result<BTreeMap<SecretName, u32>, PortError> {
    let sql = "SELECT name, version FROM sealed WHERE project = ?1 AND kind = 'secret' AND listed = 1";
    let found = rows(connection, sql, project, |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    found
        .into_iter()
        .map(|(name, version)| Ok((SecretName::parse(&name).map_err(|e| damaged("a secret's name", e))?, version)))
        .collect()
}

/// Removes every row of a project.
pub(super) fn forget(connection: &Connection, project: &ProjectId) -> Result<(), WishError> {
    for table in ["projects", "sealed", "progress", "ports", "hosts", "status", "deliveries"] {
        execute(connection, &format!("DELETE FROM {table} WHERE project = ?1"), params![project.as_str()])?;
    }
    Ok(())
}
