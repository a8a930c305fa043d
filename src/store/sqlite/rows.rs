//! The rows of a project's desired state: read, saved and removed, inside any transaction.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::model::desired::{DesiredProject, OperatorSuspension, Owner};
use crate::model::failure::PortError;
use crate::model::names::ProjectId;
use crate::model::quantity::Timestamp;
use crate::model::record::{Damage, Goal, Overlay, Part, Record};
use crate::model::spec::Spec;
use crate::port::WriteError;

use super::sealed::{Secrets, all_secrets};
use super::{execute, json, parsed, refused};

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
pub(super) fn wanted(record: Record, secrets: Secrets) -> DesiredProject {
    match secrets {
        Ok(secrets) => record.desired_project(secrets),
        Err(error) => {
            let damage = record.damage.clone().unwrap_or(Damage { part: Part::Other, why: error.message });
            Record { damage: Some(damage), ..record }.desired_project(BTreeMap::new())
        }
    }
}

pub(super) fn read(connection: &Connection, project: &ProjectId) -> Result<Option<Record>, PortError> {
    let sql = format!("SELECT {COLUMNS} FROM projects WHERE project = ?1");
    let mut statement = connection.prepare_cached(&sql).map_err(|e| refused("read a project", &e))?;
    let row = statement.query_row(params![project.as_str()], Row::of).optional();
    Ok(row.map_err(|e| refused("read a project", &e))?.map(Row::record))
}

pub(super) fn save(tx: &Transaction<'_>, project: &ProjectId, record: &Record) -> Result<(), WriteError> {
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

/// Removes every row of a project.
pub(super) fn forget(connection: &Connection, project: &ProjectId) -> Result<(), WriteError> {
    remove(connection, project, &["projects", "sealed", "progress", "ports", "hosts", "status", "deliveries"])
}

pub(super) fn remove(connection: &Connection, project: &ProjectId, tables: &[&str]) -> Result<(), WriteError> {
    for table in tables {
        execute(connection, &format!("DELETE FROM {table} WHERE project = ?1"), params![project.as_str()])?;
    }
    Ok(())
}
