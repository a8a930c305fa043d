//! The sealed values of projects: variables and secrets, by version.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use zeroize::Zeroizing;

use crate::model::failure::PortError;
use crate::model::names::{ProjectId, SecretName};
use crate::model::quantity::Timestamp;
use crate::model::reason::Reason;
use crate::model::spec::Plain;
use crate::plan::accept::values::{Kind, Values};
use crate::store::seal::{Label, SealedBody, Sealer};

use super::{damaged, refused, select};

/// The sealed values of a project.
pub(super) struct Stored<'a> {
    pub tx: &'a Transaction<'a>,
    pub sealer: &'a Sealer,
    pub project: &'a ProjectId,
    pub now: Timestamp,
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

pub(super) fn listed_secrets(
    connection: &Connection,
    project: &ProjectId,
) -> Result<BTreeMap<SecretName, u32>, PortError> {
    let sql = "SELECT name, version FROM sealed WHERE project = ?1 AND kind = 'secret' AND listed = 1";
    select(connection, sql, project, |row| Ok((row.get(0)?, row.get(1)?)))?.into_iter().map(secret).collect()
}

/// The newest versions of a project's listed secrets, or why they could not be read.
pub(super) type Secrets = Result<BTreeMap<SecretName, u32>, PortError>;

/// Returns the secrets of all projects.
pub(super) fn all_secrets(connection: &Connection) -> Result<BTreeMap<String, Secrets>, PortError> {
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
