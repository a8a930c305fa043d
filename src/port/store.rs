//! Where desired state, recorded progress and events are kept. Whatever a call writes is on disk before it returns.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use zeroize::Zeroizing;

use crate::model::desired::{
    Desired, DesiredProject, DesiredService, DesiredServices, OperatorSuspension, Owner, Refusal, SecretVersion,
};
use crate::model::event::{By, Event, Kept};
use crate::model::failure::PortError;
use crate::model::names::{EnvName, KeyId, ProjectId, SecretName};
use crate::model::progress::{Progress, ProjectProgress, ServiceProgress};
use crate::model::quantity::Timestamp;
use crate::model::reason::Reason;
use crate::model::services::{Service, Version};
use crate::model::spec::{Artifact, Plain, Sealed};
use crate::model::status::{ServiceStatus, Status};
use crate::plan::accept::admit::Admitted;
use crate::plan::accept::project::Delivery;
use crate::plan::accept::{WriteError, WriteResult};

/// Desired state and recorded progress, on disk before a call returns.
pub trait ProgressStore: Send + Sync {
    /// Returns the whole desired state.
    ///
    /// # Errors
    /// The database could not be read.
    fn desired(&self) -> Result<Desired, PortError>;
    /// Returns all recorded progress.
    ///
    /// # Errors
    /// The database could not be read.
    fn progress(&self) -> Result<Progress, PortError>;
    /// Returns the progress of one project, or the default.
    ///
    /// # Errors
    /// The database could not be read.
    fn progress_of(&self, project: &ProjectId) -> Result<ProjectProgress, PortError>;
    /// Saves the progress of these projects, and stores events.
    ///
    /// # Errors
    /// The database could not be written; then nothing is saved.
    fn save_progress(&self, changed: &BTreeMap<ProjectId, ProjectProgress>, events: &[Event]) -> Result<(), PortError>;
    /// Returns the statuses that were last recorded.
    ///
    /// # Errors
    /// The database could not be read.
    fn statuses(&self) -> Result<BTreeMap<ProjectId, Status>, PortError>;
    /// Returns the status of one project that was last recorded, if any.
    ///
    /// # Errors
    /// The database could not be read.
    fn status_of(&self, project: &ProjectId) -> Result<Option<Status>, PortError>;
    /// Records statuses, and stores events.
    ///
    /// # Errors
    /// The database could not be written; then nothing is saved.
    fn record(&self, statuses: &[Status], events: &[Event]) -> Result<(), PortError>;
    /// Opens the values of a unit's variables.
    ///
    /// # Errors
    /// A value could not be opened; the error names it, and never shows one.
    fn open_values(
        &self,
        project: &ProjectId,
        env: &BTreeMap<EnvName, Sealed>,
        secrets: &BTreeMap<EnvName, SecretVersion>,
    ) -> Result<BTreeMap<EnvName, Zeroizing<String>>, PortError>;
    /// Deletes a project and everything that is stored of it, unless there was another request since this generation.
    ///
    /// # Errors
    /// The database could not be written.
    fn delete_record(&self, project: &ProjectId, generation: u64) -> Result<(), PortError>;
}

/// Which events to read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventQuery {
    /// Only of this project; none for all events.
    pub project: Option<ProjectId>,
    /// Only with this reason.
    pub reason: Option<Reason>,
    /// Only those that last happened at or after this time.
    pub since: Option<Timestamp>,
    /// Only those with a greater id.
    pub after: Option<u64>,
    /// At most this many: the newest, or the first after that id. None for all that are stored.
    pub lines: Option<u32>,
}

/// Reads the stored events.
pub trait Events: Send + Sync {
    /// Returns events, the oldest first.
    ///
    /// # Errors
    /// The database could not be read.
    fn read(&self, query: &EventQuery) -> Result<Vec<Kept>, PortError>;
    /// Returns a channel that changes whenever there are new events.
    fn news(&self) -> tokio::sync::watch::Receiver<u64>;
}

/// Writes the desired state. The inputs (API, watched directory, webhooks) use nothing else.
pub trait DesiredStore: Send + Sync {
    /// Writes a project's spec; equal content is no change.
    ///
    /// # Errors
    /// The project has another owner or generation, is being deleted, or the disk failed.
    fn put(&self, document: Admitted, owner: &Owner, expect: Option<u64>, by: &By) -> Result<WriteResult, WriteError>;
    /// Requests a project's deletion.
    ///
    /// # Errors
    /// There is no such project, or it has another owner.
    fn delete(&self, project: &ProjectId, owner: &Owner, keep_data: bool, by: &By) -> Result<u64, WriteError>;
    /// Gives a project to another owner, without any other change: its file was renamed.
    ///
    /// # Errors
    /// There is no such project, or its owner is no longer `from`.
    fn change_owner(&self, project: &ProjectId, from: &Owner, to: &Owner) -> Result<(), WriteError>;
    /// Sets a project's artifact overlay, without a change of its spec: a webhook's new version, or a rollback.
    ///
    /// # Errors
    /// There is no such project, or the disk failed.
    fn overlay(&self, project: &ProjectId, artifact: &Artifact, by: &By) -> Result<WriteResult, WriteError>;
    /// Requests a retry of the desired artifact's failed fetch; returns the generation. If no fetch failed, nothing
    /// changes.
    ///
    /// # Errors
    /// There is no such project, or the disk failed.
    fn fetch_again(&self, project: &ProjectId, by: &By) -> Result<u64, WriteError>;
    /// Suspends a project of any owner, or resumes it if `suspension` is none. Nothing else changes, not even the
    /// generation, so that nothing that was rejected is retried.
    ///
    /// # Errors
    /// There is no such project, or the disk failed.
    fn set_suspension(
        &self,
        project: &ProjectId,
        suspension: Option<&OperatorSuspension>,
        by: &By,
    ) -> Result<(), WriteError>;
    /// Returns the desired state of one project.
    ///
    /// # Errors
    /// The database could not be read.
    fn desired_project(&self, project: &ProjectId) -> Result<Option<DesiredProject>, WriteError>;
    /// Returns the desired state that writing a document would result in.
    ///
    /// # Errors
    /// The project has another owner or generation or is being deleted, or the disk failed.
    fn dry_run(&self, document: Admitted, owner: &Owner, expect: Option<u64>) -> Result<DesiredProject, WriteError>;
    /// Sets why a project's newest request was refused; none clears it. The refusal of an unknown project
    /// creates a project without a desired state, which is deleted with its refusal.
    ///
    /// # Errors
    /// The database could not be written.
    fn set_refusal(&self, project: &ProjectId, owner: &Owner, refusal: Option<&Refusal>) -> Result<(), WriteError>;
    /// Stores a secret; returns its new version. An equal value makes no new version, and no event.
    ///
    /// # Errors
    /// The database could not be written.
    fn set_secret(&self, project: &ProjectId, name: &SecretName, value: &Plain, by: &By) -> Result<u32, WriteError>;
    /// Deletes a secret; returns whether it existed.
    ///
    /// # Errors
    /// The database could not be written.
    fn remove_secret(&self, project: &ProjectId, name: &SecretName, by: &By) -> Result<bool, WriteError>;
    /// Lists a project's secrets.
    ///
    /// # Errors
    /// The database could not be read.
    fn secrets(&self, project: &ProjectId) -> Result<Vec<SecretInfo>, WriteError>;
    /// Opens one secret, to check a webhook's signature.
    ///
    /// # Errors
    /// The secret could not be opened; the error names it.
    fn open_secret(&self, project: &ProjectId, name: &SecretName) -> Result<Option<Zeroizing<String>>, WriteError>;
    /// Stores a nonce for as long as its signature could be used; returns whether it is new.
    ///
    /// # Errors
    /// The database could not be written.
    fn take_nonce(&self, key: &KeyId, nonce: &str, expires: Timestamp) -> Result<bool, WriteError>;
    /// Sets a project's artifact overlay as a webhook's delivery requests, if the delivery is new and no older than the
    /// last accepted one. Both are stored, or neither; none if the delivery was accepted before. One that repeats the
    /// request for what could not be fetched is accepted again.
    ///
    /// # Errors
    /// There is no such project, or the disk failed.
    fn deliver(
        &self,
        project: &ProjectId,
        artifact: &Artifact,
        delivery: &Delivery,
    ) -> Result<Option<WriteResult>, WriteError>;
    /// Returns an input's note under this key; none if it is missing or could not be read.
    fn note(&self, key: &str) -> Option<String>;
    /// Stores a note for an input, across restarts. If the write fails, the input tries it again.
    fn set_note(&self, key: &str, value: &str);
}

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SecretInfo {
    pub name: SecretName,
    pub version: u32,
    /// When that version was stored.
    pub updated_at: Timestamp,
}

/// The errors of files that belong to no project, by file name.
pub type FileErrors = Arc<Mutex<BTreeMap<String, String>>>;

/// Desired state and recorded progress of host services, on disk before a call returns.
pub trait ServiceProgressStore: Send + Sync {
    /// Returns the desired state.
    ///
    /// # Errors
    /// The database could not be read.
    fn desired_services(&self) -> Result<DesiredServices, PortError>;
    /// Returns the recorded progress.
    ///
    /// # Errors
    /// The database could not be read.
    fn service_progress(&self) -> Result<BTreeMap<Service, ServiceProgress>, PortError>;
    /// Saves the progress of these services, if they are still desired.
    ///
    /// # Errors
    /// The database could not be written.
    fn save_service_progress(&self, changed: &BTreeMap<Service, ServiceProgress>) -> Result<(), PortError>;
    /// Returns the statuses that were last recorded.
    ///
    /// # Errors
    /// The database could not be read.
    fn service_statuses(&self) -> Result<BTreeMap<Service, ServiceStatus>, PortError>;
    /// Records statuses.
    ///
    /// # Errors
    /// The database could not be written.
    fn record_services(&self, statuses: &[ServiceStatus]) -> Result<(), PortError>;
    /// Deletes a service's record, unless there was another request since this generation.
    ///
    /// # Errors
    /// The database could not be written.
    fn delete_service_record(&self, service: Service, generation: u64) -> Result<(), PortError>;
}

/// Writes the desired state of host services.
pub trait DesiredServiceStore: Send + Sync {
    /// Returns the desired state of one service.
    ///
    /// # Errors
    /// The database could not be read.
    fn desired_service(&self, service: Service) -> Result<Option<DesiredService>, WriteError>;
    /// Requests a service; an equal request is no change. `heir_of`: its previous owner, which was removed.
    ///
    /// # Errors
    /// It has another owner, or the disk failed.
    fn put_service(
        &self,
        service: Service,
        version: Version,
        owner: &Owner,
        heir_of: Option<&Owner>,
        by: &By,
    ) -> Result<WriteResult, WriteError>;
    /// Requests a service's removal; returns the generation.
    ///
    /// # Errors
    /// There is no request for it, or it has another owner.
    fn delete_service(&self, service: Service, owner: &Owner, purge: bool, by: &By) -> Result<u64, WriteError>;
    /// Sets why a service's newest request was refused; none clears it.
    ///
    /// # Errors
    /// The database could not be written.
    fn set_service_refusal(&self, service: Service, owner: &Owner, refusal: Option<&Refusal>)
    -> Result<(), WriteError>;
}
