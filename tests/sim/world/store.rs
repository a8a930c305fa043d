//! The store's side of the machine: records and values in plain maps, under the rules of `plan::accept`. A life over the
//! real database would take many times as long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zeroize::Zeroizing;
use zexio::model::desired::{Desired, DesiredProject, Intent, OperatorSuspension, Owner, Refusal};
use zexio::model::event::By;
use zexio::model::names::{KeyId, ProjectId, SecretName};
use zexio::model::progress::{Progress, ProjectProgress, Unreadable};
use zexio::model::quantity::Timestamp;
use zexio::model::reason::Reason;
use zexio::model::record::Record;
use zexio::model::spec::{Artifact, Document, Plain};
use zexio::plan::accept::admit::{Admitted, Origin, UrlCheck, admit};
use zexio::plan::accept::project::{self as rules, Deliveries, StoredProgress};
use zexio::plan::accept::values::{self, Kind, Values};
use zexio::plan::accept::{Change, Request, Write};
use zexio::port::{Delivery, DesiredStore, PortError, SecretInfo, WriteError, WriteResult};

use super::{Machine, World};

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
#[derive(Clone, Default)]
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
        let value =
            value.ok_or_else(|| PortError::transient(Reason::KeyUnavailable, format!("could not open {name}")))?;
        Ok(Zeroizing::new(value.clone()))
    }
}

/// Who asks in the simulation; only a webhook's request is any different.
fn key() -> By {
    By::Key(KeyId::parse("ops").expect("a key's name"))
}

/// Lets specs name any URL.
pub fn anywhere() -> UrlCheck {
    Arc::new(|_| Ok(()))
}

/// What a store keeps besides projects.
#[derive(Default)]
pub struct Kept {
    secrets: BTreeMap<ProjectId, BTreeMap<SecretName, u32>>,
    deliveries: BTreeMap<(ProjectId, &'static str), BTreeMap<String, Timestamp>>,
    nonces: BTreeSet<(KeyId, String)>,
    notes: BTreeMap<String, String>,
}

type Decided<T> = Result<Change<Record, T>, WriteError>;

impl Machine {
    /// Loads, decides by a rule of `plan::accept`, and saves.
    fn change<T>(
        &mut self,
        project: &ProjectId,
        by: &By,
        decide: impl FnOnce(Option<Record>, Request<'_>, &StoredProgress) -> Decided<T>,
    ) -> Result<T, WriteError> {
        let (old, progress) = (self.records.get(project).cloned(), self.stored_progress(project));
        let change = decide(old, Request { by, now: self.now }, &progress)?;
        Ok(self.carry_out(project, change))
    }

    fn decide_put(&mut self, document: Admitted, owner: &Owner, expect: Option<u64>, by: &By) -> Decided<WriteResult> {
        let project = document.project().clone();
        let (old, progress) = (self.records.get(&project).cloned(), self.stored_progress(&project));
        let request = Request { by, now: self.now };
        let mut stored = Stored { sealed: &mut self.sealed, project: &project };
        rules::put(old, document, owner, expect, request, &mut stored, &progress)
    }

    fn put_by(
        &mut self,
        document: Admitted,
        owner: &Owner,
        expect: Option<u64>,
        by: &By,
    ) -> Result<WriteResult, WriteError> {
        let project = document.project().clone();
        let change = self.decide_put(document, owner, expect, by)?;
        Ok(self.carry_out(&project, change))
    }

    /// Writes a project's spec.
    ///
    /// # Errors
    /// As `accept::project::put`; then nothing is written.
    pub fn put(&mut self, document: Document, owner: &Owner, expect: Option<u64>) -> Result<WriteResult, WriteError> {
        let origin = Origin::Request { stored: None, now: self.now };
        let document = admit(b"", document, origin, &anywhere()).map_err(WriteError::Invalid)?;
        self.put_by(document, owner, expect, &key())
    }

    /// Moves a project's artifact without its spec.
    ///
    /// # Errors
    /// As `accept::project::overlay`.
    pub fn overlay(
        &mut self,
        project: &ProjectId,
        artifact: &Artifact,
        webhook: bool,
    ) -> Result<WriteResult, WriteError> {
        let by = if webhook { By::Webhook("github".into()) } else { key() };
        self.change(project, &by, |old, request, progress| rules::overlay(old, project, artifact, request, progress))
    }

    /// Asks for another try where the wanted artifact could not be fetched.
    ///
    /// # Errors
    /// As `accept::project::fetch_again`.
    pub fn fetch_again(&mut self, project: &ProjectId) -> Result<u64, WriteError> {
        self.change(project, &key(), |old, request, progress| rules::fetch_again(old, project, request, progress))
    }

    /// Asks for a project's removal.
    ///
    /// # Errors
    /// As `accept::project::delete`.
    pub fn delete(&mut self, project: &ProjectId, owner: &Owner, keep_data: bool) -> Result<u64, WriteError> {
        self.change(project, &key(), |old, request, progress| {
            rules::delete(old, project, owner, keep_data, request, progress)
        })
    }

    /// Suspends a project, or with none resumes it.
    ///
    /// # Errors
    /// As `accept::project::set_suspension`.
    pub fn set_suspension(
        &mut self,
        project: &ProjectId,
        suspension: Option<&OperatorSuspension>,
    ) -> Result<u64, WriteError> {
        self.change(project, &key(), |old, request, _| rules::set_suspension(old, project, suspension, request))?;
        Ok(self.records[project].generation)
    }

    /// Sets what stops a project's newest request from being accepted.
    pub fn set_refusal(&mut self, project: &ProjectId, owner: &Owner, refusal: Option<&Refusal>) {
        let change = rules::set_refusal(self.records.get(project).cloned(), project, owner, refusal, self.now);
        self.carry_out(project, change);
    }

    fn stored_progress(&self, project: &ProjectId) -> StoredProgress {
        match self.unreadable.get(project) {
            Some(Damaged::Progress) => Err(PortError::transient(Reason::Database, DAMAGED)),
            _ => Ok(self.progress.projects.get(project).cloned().unwrap_or_default()),
        }
    }

    fn carry_out<T>(&mut self, project: &ProjectId, change: Change<Record, T>) -> T {
        match change.write {
            Write::Nothing => {}
            Write::Save(record) => self.save(project, record),
            Write::Reset(record) => {
                self.progress.projects.remove(project);
                self.unreadable.remove(project);
                self.save(project, record);
            }
            Write::Delete => self.remove_rows(project),
        }
        change.answer
    }

    fn save(&mut self, project: &ProjectId, record: Record) {
        let secrets = self.kept.secrets.get(project).cloned().unwrap_or_default();
        self.desired.0.insert(project.clone(), record.desired_project(secrets));
        self.records.insert(project.clone(), record);
    }

    fn list_secret(&mut self, project: &ProjectId, name: &SecretName, version: Option<u32>) -> bool {
        let secrets = self.kept.secrets.entry(project.clone()).or_default();
        let before = match version {
            Some(version) => secrets.insert(name.clone(), version),
            None => secrets.remove(name),
        };
        if let Some(wanted) = self.desired.0.get_mut(project) {
            wanted.secrets = secrets.clone();
        }
        before.is_some()
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
        self.kept.secrets.remove(project);
        self.kept.deliveries.retain(|(of, _), _| of != project);
    }

    /// Removes versions of values that nothing needs any more.
    pub(super) fn drop_unused_values(&mut self, project: &ProjectId, progress: &ProjectProgress) {
        let Some(stored) = self.sealed.0.get_mut(project) else { return };
        let known: BTreeSet<(Kind, String, u32)> = stored.keys().cloned().collect();
        values::unused(progress, &known).iter().for_each(|value| drop(stored.remove(value)));
    }
}

impl DesiredStore for World {
    fn put(&self, document: Admitted, owner: &Owner, expect: Option<u64>, by: &By) -> Result<WriteResult, WriteError> {
        self.lock().put_by(document, owner, expect, by)
    }
    fn dry_run(&self, document: Admitted, owner: &Owner, expect: Option<u64>) -> Result<DesiredProject, WriteError> {
        let mut machine = self.lock();
        let (project, sealed) = (document.project().clone(), machine.sealed.clone());
        let decided = machine.decide_put(document, owner, expect, &key());
        machine.sealed = sealed;
        let Write::Save(record) = decided?.write else { return Err(WriteError::Unknown(project)) };
        Ok(record.desired_project(machine.kept.secrets.get(&project).cloned().unwrap_or_default()))
    }
    fn delete(&self, project: &ProjectId, owner: &Owner, keep_data: bool, by: &By) -> Result<u64, WriteError> {
        self.lock().change(project, by, |old, request, progress| {
            rules::delete(old, project, owner, keep_data, request, progress)
        })
    }
    fn change_owner(&self, project: &ProjectId, from: &Owner, to: &Owner) -> Result<(), WriteError> {
        self.lock().change(project, &key(), |old, request, _| rules::change_owner(old, project, from, to, request.now))
    }
    fn overlay(&self, project: &ProjectId, artifact: &Artifact, by: &By) -> Result<WriteResult, WriteError> {
        self.lock()
            .change(project, by, |old, request, progress| rules::overlay(old, project, artifact, request, progress))
    }
    fn fetch_again(&self, project: &ProjectId, by: &By) -> Result<u64, WriteError> {
        self.lock().change(project, by, |old, request, progress| rules::fetch_again(old, project, request, progress))
    }
    fn set_suspension(
        &self,
        project: &ProjectId,
        suspension: Option<&OperatorSuspension>,
        by: &By,
    ) -> Result<(), WriteError> {
        self.lock().change(project, by, |old, request, _| rules::set_suspension(old, project, suspension, request))
    }
    fn desired_project(&self, project: &ProjectId) -> Result<Option<DesiredProject>, WriteError> {
        Ok(self.lock().readable_desired().0.remove(project))
    }
    fn set_refusal(&self, project: &ProjectId, owner: &Owner, refusal: Option<&Refusal>) -> Result<(), WriteError> {
        self.lock().set_refusal(project, owner, refusal);
        Ok(())
    }
    fn set_secret(&self, project: &ProjectId, name: &SecretName, value: &Plain, by: &By) -> Result<u32, WriteError> {
        let mut machine = self.lock();
        let listed = machine.kept.secrets.get(project).and_then(|listed| listed.get(name)).copied();
        let mut stored = Stored { sealed: &mut machine.sealed, project };
        let version = values::store(&mut stored, Kind::Secret, name.as_str(), value)?;
        machine.list_secret(project, name, Some(version));
        let request = Request { by, now: machine.now };
        let event = values::secret_stored(project, name, version, listed, request);
        machine.events.extend(event);
        Ok(version)
    }
    fn remove_secret(&self, project: &ProjectId, name: &SecretName, by: &By) -> Result<bool, WriteError> {
        let mut machine = self.lock();
        let removed = machine.list_secret(project, name, None);
        let request = Request { by, now: machine.now };
        machine.events.extend(removed.then(|| values::secret_removed(project, name, request)));
        Ok(removed)
    }
    fn secrets(&self, project: &ProjectId) -> Result<Vec<SecretInfo>, WriteError> {
        let machine = self.lock();
        let listed = machine.kept.secrets.get(project).into_iter().flatten();
        let info = |(name, version): (&SecretName, &u32)| SecretInfo {
            name: name.clone(),
            version: *version,
            updated_at: machine.now,
        };
        Ok(listed.map(info).collect())
    }
    fn open_secret(&self, project: &ProjectId, name: &SecretName) -> Result<Option<Zeroizing<String>>, WriteError> {
        let machine = self.lock();
        let version = machine.kept.secrets.get(project).and_then(|listed| listed.get(name));
        let open = |version: &u32| machine.sealed.open(project, Kind::Secret, name.as_str(), *version);
        Ok(version.map(open).transpose()?)
    }
    fn take_nonce(&self, key: &KeyId, nonce: &str, _: Timestamp) -> Result<bool, WriteError> {
        Ok(self.lock().kept.nonces.insert((key.clone(), nonce.to_owned())))
    }
    fn deliver(
        &self,
        project: &ProjectId,
        artifact: &Artifact,
        delivery: &Delivery,
    ) -> Result<Option<WriteResult>, WriteError> {
        let mut machine = self.lock();
        let of = (project.clone(), delivery.provider);
        let known = machine.kept.deliveries.get(&of);
        let newest = known.and_then(|known| known.values().max().copied()).unwrap_or_default();
        let stored = Deliveries { newest, seen: known.is_some_and(|known| known.contains_key(&delivery.id)) };
        let put = machine.change(project, &key(), |old, request, progress| {
            rules::deliver(old, project, artifact, delivery, stored, request.now, progress)
        })?;
        if put.is_some() {
            machine.kept.deliveries.entry(of).or_default().entry(delivery.id.clone()).or_insert(delivery.made);
        }
        Ok(put)
    }
    fn note(&self, key: &str) -> Option<String> {
        self.lock().kept.notes.get(key).cloned()
    }
    fn set_note(&self, key: &str, value: &str) {
        self.lock().kept.notes.insert(key.to_owned(), value.to_owned());
    }
}
