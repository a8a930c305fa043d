//! The store's side of the machine: records and values in plain maps, under the rules of `plan::accept`. A life over the
//! real database would take many times as long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zeroize::Zeroizing;
use zexio::model::desired::{Complaint, Desired, Hold, Intent, Owner};
use zexio::model::event::By;
use zexio::model::names::{KeyId, ProjectId};
use zexio::model::progress::{Progress, ProjectProgress, Unreadable};
use zexio::model::record::Record;
use zexio::model::spec::{Artifact, Document, Plain};
use zexio::plan::accept::admit::{Origin, UrlCheck, admit};
use zexio::plan::accept::project::{self as rules, StoredProgress};
use zexio::plan::accept::values::{self, Kind, Values};
use zexio::plan::accept::{Change, Request, Write};
use zexio::port::{PortError, Put, WriteError};

use super::Machine;

/// What cannot be read of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damaged {
    Record,
    Progress,
}

pub const DAMAGED: &str = "could not read it from the database: expected value at line 1 column 1";

impl Machine {
    /// Returns what is wanted, as far as it can be read.
    pub(super) fn readable_desired(&self) -> Desired {
        let mut desired = self.desired.clone();
        for project in self.unreadable.iter().filter(|(_, part)| **part == Damaged::Record).map(|(project, _)| project)
        {
            if let Some(wanted) = desired.0.get_mut(project) {
                wanted.intent = Intent::Unreadable(DAMAGED.to_owned());
            }
        }
        desired
    }

    /// Returns what is remembered, as far as it can be read.
    pub(super) fn readable_progress(&self) -> Progress {
        let mut progress = self.progress.clone();
        for project in
            self.unreadable.iter().filter(|(_, part)| **part == Damaged::Progress).map(|(project, _)| project)
        {
            if let Some(known) = progress.projects.remove(project) {
                let ports = known.ports.values().flatten().flat_map(|ports| [ports.a, ports.b]).collect();
                let unreadable = Unreadable { why: DAMAGED.to_owned(), ports, hosts: known.hosts };
                progress.unreadable.insert(project.clone(), unreadable);
            }
        }
        progress
    }
}

/// Every stored value, by project, kind, name and version.
#[derive(Default)]
pub struct Sealed(pub BTreeMap<ProjectId, BTreeMap<(Kind, String, u32), String>>);

/// The values of one project.
struct Stored<'a> {
    sealed: &'a mut Sealed,
    project: &'a ProjectId,
}

impl Values for Stored<'_> {
    fn versions(&self, kind: Kind, name: &str) -> Result<Vec<u32>, PortError> {
        let stored = self.sealed.0.get(self.project).into_iter().flat_map(BTreeMap::keys);
        Ok(stored
            .filter(|(of, known, _)| (*of, known.as_str()) == (kind, name))
            .map(|(.., version)| *version)
            .collect())
    }
    fn open(&self, kind: Kind, name: &str, version: u32) -> Result<Zeroizing<String>, PortError> {
        self.sealed.open(self.project, kind, name, version)
    }
    fn seal(&mut self, kind: Kind, name: &str, version: u32, value: &Plain) -> Result<(), PortError> {
        let stored = self.sealed.0.entry(self.project.clone()).or_default();
        stored.insert((kind, name.to_owned(), version), value.open().to_owned());
        Ok(())
    }
}

impl Sealed {
    pub fn open(
        &self,
        project: &ProjectId,
        kind: Kind,
        name: &str,
        version: u32,
    ) -> Result<Zeroizing<String>, PortError> {
        let value = self.0.get(project).and_then(|stored| stored.get(&(kind, name.to_owned(), version)));
        let value = value.ok_or_else(|| PortError::passing("KeyUnavailable", format!("could not open {name}")))?;
        Ok(Zeroizing::new(value.clone()))
    }
}

/// Who asks in the simulation; only a webhook's request is any different.
fn key() -> By {
    By::Key(KeyId::parse("ops").expect("a key's name"))
}

impl Machine {
    /// Writes a project's spec.
    ///
    /// # Errors
    /// As `accept::project::put`; then nothing is written.
    pub fn put(&mut self, document: Document, owner: &Owner, expect: Option<u64>) -> Result<Put, WriteError> {
        let project = document.project.clone();
        let anywhere: UrlCheck = Arc::new(|_| Ok(()));
        let document = admit(b"", document, Origin::Request { stored: None, now: self.now }, &anywhere);
        let document = document.map_err(WriteError::Invalid)?;
        let (old, progress) = (self.records.get(&project).cloned(), self.stored_progress(&project));
        let request = Request { by: &key(), now: self.now };
        let mut stored = Stored { sealed: &mut self.sealed, project: &project };
        let change = rules::put(old, document, owner, expect, request, &mut stored, &progress)?;
        Ok(self.carry_out(&project, change))
    }

    /// Moves a project's artifact without its spec.
    ///
    /// # Errors
    /// As `accept::project::overlay`.
    pub fn overlay(&mut self, project: &ProjectId, artifact: &Artifact, webhook: bool) -> Result<Put, WriteError> {
        let by = if webhook { By::Webhook("github".into()) } else { key() };
        let request = Request { by: &by, now: self.now };
        let old = self.records.get(project).cloned();
        let change = rules::overlay(old, project, artifact, request, &self.stored_progress(project))?;
        Ok(self.carry_out(project, change))
    }

    /// Asks for another try where the wanted artifact could not be fetched.
    ///
    /// # Errors
    /// As `accept::project::fetch_again`.
    pub fn fetch_again(&mut self, project: &ProjectId) -> Result<u64, WriteError> {
        let request = Request { by: &key(), now: self.now };
        let old = self.records.get(project).cloned();
        let change = rules::fetch_again(old, project, request, &self.stored_progress(project))?;
        Ok(self.carry_out(project, change))
    }

    /// Asks for a project's removal.
    ///
    /// # Errors
    /// As `accept::project::delete`.
    pub fn delete(&mut self, project: &ProjectId, owner: &Owner, keep_data: bool) -> Result<u64, WriteError> {
        let (request, progress) = (Request { by: &key(), now: self.now }, self.stored_progress(project));
        let change = rules::delete(self.records.get(project).cloned(), project, owner, keep_data, request, &progress)?;
        Ok(self.carry_out(project, change))
    }

    /// Suspends a project, or with none resumes it.
    ///
    /// # Errors
    /// As `accept::project::hold`.
    pub fn hold(&mut self, project: &ProjectId, hold: Option<&Hold>) -> Result<u64, WriteError> {
        let request = Request { by: &key(), now: self.now };
        let change = rules::hold(self.records.get(project).cloned(), project, hold, request)?;
        self.carry_out(project, change);
        Ok(self.records[project].generation)
    }

    /// Sets what stops a project's newest request from being accepted.
    pub fn complain(&mut self, project: &ProjectId, owner: &Owner, complaint: Option<&Complaint>) {
        let change = rules::complain(self.records.get(project).cloned(), project, owner, complaint, self.now);
        self.carry_out(project, change);
    }

    fn stored_progress(&self, project: &ProjectId) -> StoredProgress {
        match self.unreadable.get(project) {
            Some(Damaged::Progress) => Err(PortError::passing("Database", DAMAGED)),
            _ => Ok(self.progress.projects.get(project).cloned().unwrap_or_default()),
        }
    }

    fn carry_out<T>(&mut self, project: &ProjectId, change: Change<Record, T>) -> T {
        match change.write {
            Write::Nothing => {}
            Write::Save(record) | Write::Reset(record) => {
                self.desired.0.insert(project.clone(), record.wanted(BTreeMap::new()));
                self.records.insert(project.clone(), record);
            }
            Write::Forget => self.remove_rows(project),
        }
        change.answer
    }

    pub(super) fn forget_project(&mut self, project: &ProjectId, generation: u64) {
        let scripted = || {
            self.desired
                .0
                .get(project)
                .is_some_and(|wanted| matches!(wanted.intent, Intent::Delete { .. }) && wanted.generation == generation)
        };
        if self.records.get(project).map_or_else(scripted, |record| rules::may_forget(record, generation)) {
            self.remove_rows(project);
        }
    }

    fn remove_rows(&mut self, project: &ProjectId) {
        self.desired.0.remove(project);
        self.records.remove(project);
        self.progress.projects.remove(project);
        self.statuses.remove(project);
        self.sealed.0.remove(project);
    }

    /// Removes versions of values that nothing needs any more.
    pub(super) fn drop_unused_values(&mut self, project: &ProjectId, memory: &ProjectProgress) {
        let Some(stored) = self.sealed.0.get_mut(project) else { return };
        let known: BTreeSet<(Kind, String, u32)> = stored.keys().cloned().collect();
        values::unused(memory, &known).iter().for_each(|value| drop(stored.remove(value)));
    }
}
