//! The rules for the sealed values of variables and secrets: which version a request makes, and which may be deleted.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use super::{Request, WriteError};
use crate::model::event::Event;
use crate::model::failure::PortError;
use crate::model::names::{EnvName, ProjectId, SecretName};
use crate::model::problem::Problem;
use crate::model::progress::ProjectProgress;
use crate::model::reason::Reason;
use crate::model::spec::{Given, Plain, Sealed};

/// What a value belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Env,
    Secret,
}

impl Kind {
    /// Returns the name under which it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Env => "env",
            Kind::Secret => "secret",
        }
    }
}

/// The stored values of one project.
pub trait Values {
    /// Returns the stored versions of a value, the newest last.
    ///
    /// # Errors
    /// The store could not be read.
    fn versions(&self, kind: Kind, name: &str) -> Result<Vec<u32>, PortError>;
    /// Opens a version.
    ///
    /// # Errors
    /// It could not be opened.
    fn open(&self, kind: Kind, name: &str, version: u32) -> Result<Zeroizing<String>, PortError>;
    /// Seals and stores a version.
    ///
    /// # Errors
    /// It could not be sealed or stored.
    fn seal(&mut self, kind: Kind, name: &str, version: u32, value: &Plain) -> Result<(), PortError>;
}

/// Stores a value as the next version of its name, unless it equals the newest; returns its version.
///
/// # Errors
/// It could not be stored.
pub fn store(values: &mut impl Values, kind: Kind, name: &str, value: &Plain) -> Result<u32, PortError> {
    let newest = values.versions(kind, name)?.last().copied().unwrap_or(0);
    if newest > 0 && values.open(kind, name, newest).is_ok_and(|old| *old == value.open()) {
        return Ok(newest);
    }
    values.seal(kind, name, newest + 1, value)?;
    Ok(newest + 1)
}

/// Returns the event of a secret that was stored as this version; none where it was `listed` with it before.
pub fn secret_stored(
    project: &ProjectId,
    name: &SecretName,
    version: u32,
    listed: Option<u32>,
    request: Request<'_>,
) -> Option<Event> {
    let message = format!("{} stored version {version} of secret {name}", request.by);
    (listed != Some(version)).then(|| Event::info(request.now, Reason::SecretStored, message).about(project))
}

/// Returns the event of a secret that was removed.
pub fn secret_removed(project: &ProjectId, name: &SecretName, request: Request<'_>) -> Event {
    let message = format!("{} removed secret {name}; releases that have it keep its value", request.by);
    Event::info(request.now, Reason::SecretRemoved, message).about(project)
}

/// Stores the value of a variable as a document gives it.
///
/// # Errors
/// It refers to a missing stored value, or could not be stored.
pub fn store_given(
    values: &mut impl Values,
    project: &ProjectId,
    name: &EnvName,
    given: &Given,
) -> Result<Sealed, WriteError> {
    let sealed = match given {
        Given::Clear(value) => store(values, Kind::Env, name.as_str(), value)?,
        Given::AsItIs(Sealed { sealed }) => keep(values, project, name, *sealed)?,
    };
    Ok(Sealed { sealed })
}

/// Returns the version of a value that stays as it is. An older one becomes the newest: only the newest is sure to be
/// kept.
fn keep(values: &mut impl Values, project: &ProjectId, name: &EnvName, version: u32) -> Result<u32, WriteError> {
    let versions = values.versions(Kind::Env, name.as_str())?;
    let invalid = |why: String| WriteError::Invalid(Problem::at(format!("env.{name}"), why).into());
    match versions.last() {
        None => Err(invalid(format!(
            "{{sealed: {version}}} stands for a stored value, and {project} has none of this name; write the value"
        ))),
        Some(newest) if *newest == version => Ok(version),
        Some(newest) if !versions.contains(&version) => Err(invalid(format!(
            "{{sealed: {version}}} is not stored any more; write {{sealed: {newest}}} for the newest, or the value"
        ))),
        Some(_) => {
            let value = values.open(Kind::Env, name.as_str(), version)?;
            let value = Plain::parse(value.to_string()).map_err(|why| {
                PortError::transient(Reason::Database, format!("could not read a value from the database: {why}"))
            })?;
            Ok(store(values, Kind::Env, name.as_str(), &value)?)
        }
    }
}

/// Returns the stored versions that no known release needs, without the newest of each name: a new value is compared
/// with it, and the spec may name it before a release does.
pub fn unused(progress: &ProjectProgress, stored: &BTreeSet<(Kind, String, u32)>) -> Vec<(Kind, String, u32)> {
    let contents = progress.releases.values().map(|release| &release.content);
    let env = contents
        .clone()
        .flat_map(|content| content.env.iter().map(|(name, value)| (Kind::Env, name.as_str(), value.sealed)));
    let secrets = contents.flat_map(|content| {
        content.secrets.values().map(|secret| (Kind::Secret, secret.name.as_str(), secret.version))
    });
    let used: BTreeSet<(Kind, &str, u32)> = env.chain(secrets).collect();
    let is_newest = |(kind, name, version): &(Kind, String, u32)| {
        stored.range((*kind, name.clone(), version + 1)..=(*kind, name.clone(), u32::MAX)).next().is_none()
    };
    let is_used = |(kind, name, version): &(Kind, String, u32)| used.contains(&(*kind, name.as_str(), *version));
    stored.iter().filter(|value| !is_newest(value) && !is_used(value)).cloned().collect()
}
