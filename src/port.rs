//! What the loop needs from the outside world, as small traits. One adapter each in `host` and `store`; the fakes are
//! with the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use zeroize::Zeroizing;

use crate::model::desired::{Complaint, Desired, Hold, Owner, SecretVersion, Wanted};
use crate::model::event::{By, Event, Kept};
pub use crate::model::failure::{PortError, Retry};
use crate::model::names::{
    EnvName, Hostname, KeyId, ProcessName, ProjectId, ReleaseNo, SecretName, Sha256, Slot, UnitId,
};
use crate::model::observed::{
    BundlesSeen, CertificateSeen, FetchSeen, ForcedStop, OpenPort, Probed, ProxySeen, UnitSeen, Visit, Visited,
};
use crate::model::pattern::Pattern;
use crate::model::progress::{Progress, ProjectProgress};
use crate::model::quantity::{Span, Timestamp};
use crate::model::reason::Reason;
use crate::model::services::{
    Service, ServiceProgress, ServiceStatus, ServicesSeen, Version, WantedService, WantedServices,
};
use crate::model::spec::{Artifact, Plain, ProbePath, Sealed};
use crate::model::stats::{AgentStats, SystemStats};
use crate::model::status::{Status, Used};
use crate::plan::accept::admit::Admitted;
pub use crate::plan::accept::project::Delivery;
pub use crate::plan::accept::{Put, WriteError};
use crate::plan::services::PackageJob;
use crate::plan::{FetchOrder, RoutesOrder, UnitOrder};

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
    fn forget(&self, project: &ProjectId, generation: u64) -> Result<(), PortError>;
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
    fn put(&self, document: Admitted, owner: &Owner, expect: Option<u64>, by: &By) -> Result<Put, WriteError>;
    /// Requests a project's deletion.
    ///
    /// # Errors
    /// There is no such project, or it has another owner.
    fn delete(&self, project: &ProjectId, owner: &Owner, keep_data: bool, by: &By) -> Result<u64, WriteError>;
    /// Gives a project to another owner, without any other change: its file was renamed.
    ///
    /// # Errors
    /// There is no such project, or its owner is no longer `from`.
    fn adopt(&self, project: &ProjectId, from: &Owner, to: &Owner) -> Result<(), WriteError>;
    /// Sets a project's artifact overlay, without a change of its spec: a webhook's new version, or a rollback.
    ///
    /// # Errors
    /// There is no such project, or the disk failed.
    fn overlay(&self, project: &ProjectId, artifact: &Artifact, by: &By) -> Result<Put, WriteError>;
    /// Requests a retry of the desired artifact's failed fetch; returns the generation. If no fetch failed, nothing
    /// changes.
    ///
    /// # Errors
    /// There is no such project, or the disk failed.
    fn fetch_again(&self, project: &ProjectId, by: &By) -> Result<u64, WriteError>;
    /// Suspends a project, whoever its owner is, or resumes it if `hold` is none. Nothing else changes, including the
    /// generation: what was rejected is not retried because of this.
    ///
    /// # Errors
    /// There is no such project, or the disk failed.
    fn hold(&self, project: &ProjectId, hold: Option<&Hold>, by: &By) -> Result<(), WriteError>;
    /// Returns the desired state of one project.
    ///
    /// # Errors
    /// The database could not be read.
    fn wanted(&self, project: &ProjectId) -> Result<Option<Wanted>, WriteError>;
    /// Returns the desired state that writing a document would result in.
    ///
    /// # Errors
    /// Those of `put`.
    fn dry_run(&self, document: Admitted, owner: &Owner) -> Result<Wanted, WriteError>;
    /// Sets the complaint that blocks a project's newest request; none clears it. A complaint about an unknown project
    /// creates a project without a desired state, which is deleted with its complaint.
    ///
    /// # Errors
    /// The database could not be written.
    fn complain(&self, project: &ProjectId, owner: &Owner, complaint: Option<&Complaint>) -> Result<(), WriteError>;
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
    /// Those of `overlay`.
    fn deliver(&self, project: &ProjectId, artifact: &Artifact, delivery: &Delivery)
    -> Result<Option<Put>, WriteError>;
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

/// Reads and changes the units of apps, through systemd.
pub trait Units: Send {
    /// Returns every unit of ours, by project: those with a file, and those that are loaded without one.
    ///
    /// # Errors
    /// systemd or the disk could not be read.
    fn look(&self) -> Result<BTreeMap<ProjectId, BTreeMap<UnitId, UnitSeen>>, PortError>;
    /// Writes a launch blob, sealed for its unit, and then the unit file.
    ///
    /// # Errors
    /// One of them could not be written.
    fn write(&self, order: &UnitOrder, blob: &[u8]) -> Result<(), PortError>;
    /// Lets systemd read every unit file again.
    ///
    /// # Errors
    /// systemd refused or did not answer.
    fn reload(&self) -> Result<(), PortError>;
    /// Starts a unit, if systemd read it as it was written. Returns at once; the job's end is observed.
    ///
    /// # Errors
    /// systemd refused, did not answer, or read the unit differently.
    fn start(&self, unit: &UnitId) -> Result<(), PortError>;
    /// Stops a unit. Returns at once.
    ///
    /// # Errors
    /// systemd refused or did not answer.
    fn stop(&self, unit: &UnitId) -> Result<(), PortError>;
    /// Lets a unit start at boot.
    ///
    /// # Errors
    /// systemd refused or did not answer.
    fn enable(&self, unit: &UnitId) -> Result<(), PortError>;
    /// Arms a unit's timer, now and after a boot.
    ///
    /// # Errors
    /// systemd refused or did not answer.
    fn arm(&self, unit: &UnitId) -> Result<(), PortError>;
    /// Disarms a unit's timer. What it started keeps running.
    ///
    /// # Errors
    /// systemd refused or did not answer.
    fn disarm(&self, unit: &UnitId) -> Result<(), PortError>;
    /// Removes a stopped unit: boot link, file, launch blob.
    ///
    /// # Errors
    /// Something could not be removed.
    fn remove(&self, unit: &UnitId) -> Result<(), PortError>;
    /// Returns whether systemd runs Caddy.
    ///
    /// # Errors
    /// systemd did not answer.
    fn proxy_runs(&self) -> Result<bool, PortError>;
    /// Starts Caddy.
    ///
    /// # Errors
    /// systemd refused or did not answer.
    fn start_proxy(&self) -> Result<(), PortError>;
}

/// Desired state and recorded progress of host services, on disk before a call returns.
pub trait ServiceProgressStore: Send + Sync {
    /// Returns the desired state.
    ///
    /// # Errors
    /// The database could not be read.
    fn wanted_services(&self) -> Result<WantedServices, PortError>;
    /// Returns the recorded progress.
    ///
    /// # Errors
    /// The database could not be read.
    fn service_progress(&self) -> Result<BTreeMap<Service, ServiceProgress>, PortError>;
    /// Saves the progress of these services, if they are still desired.
    ///
    /// # Errors
    /// The database could not be written.
    fn remember_services(&self, changed: &BTreeMap<Service, ServiceProgress>) -> Result<(), PortError>;
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
    fn forget_service(&self, service: Service, generation: u64) -> Result<(), PortError>;
}

/// Writes the desired state of host services.
pub trait DesiredServiceStore: Send + Sync {
    /// Returns the desired state of one service.
    ///
    /// # Errors
    /// The database could not be read.
    fn wanted_service(&self, service: Service) -> Result<Option<WantedService>, WriteError>;
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
    ) -> Result<Put, WriteError>;
    /// Requests a service's removal; returns the generation.
    ///
    /// # Errors
    /// There is no request for it, or it has another owner.
    fn drop_service(&self, service: Service, owner: &Owner, purge: bool, by: &By) -> Result<u64, WriteError>;
    /// Sets the complaint that blocks a service's newest request; none clears it.
    ///
    /// # Errors
    /// The database could not be written.
    fn complain_of_service(
        &self,
        service: Service,
        owner: &Owner,
        complaint: Option<&Complaint>,
    ) -> Result<(), WriteError>;
}

/// The host services: the package manager and the daemons that it installs.
pub trait Services: Send {
    /// Returns the installed state of each. Without `closely`, an earlier observation will do: no service is requested.
    ///
    /// # Errors
    /// The installed state could not be read.
    fn look(&self, closely: bool) -> Result<ServicesSeen, PortError>;
    /// Starts a package job, outside the loop and the agent. Returns at once.
    ///
    /// # Errors
    /// The job could not be started.
    fn begin(&self, order: &PackageJob) -> Result<(), PortError>;
    /// Starts a daemon. Returns at once.
    ///
    /// # Errors
    /// systemd refused or did not answer.
    fn start(&self, unit: &str) -> Result<(), PortError>;
    /// Lets a service's daemon start at boot.
    ///
    /// # Errors
    /// systemd refused or did not answer.
    fn enable(&self, service: Service) -> Result<(), PortError>;
}

/// Reads and changes directories, users and artifacts on disk.
pub trait Bundles: Send {
    /// Returns what exists on disk of a project.
    ///
    /// # Errors
    /// The directories could not be read.
    fn look(&self, project: &ProjectId) -> Result<BundlesSeen, PortError>;
    /// Returns the fetches of a project that run, or how they ended.
    fn fetches(&self, project: &ProjectId) -> BTreeMap<ReleaseNo, FetchSeen>;
    /// Creates the user and directories of a project. `open`: Caddy may enter them, for a static site.
    ///
    /// # Errors
    /// One of them could not be created.
    fn prepare(&self, project: &ProjectId, open: bool) -> Result<(), PortError>;
    /// Cancels a fetch, or drops its result.
    fn cancel(&self, project: &ProjectId, release: ReleaseNo);
    /// Starts to fetch and unpack a release, in the background.
    ///
    /// # Errors
    /// The fetch could not be started.
    fn fetch(&self, project: &ProjectId, order: &FetchOrder) -> Result<(), PortError>;
    /// Moves the traffic of a web process to a slot: creates or removes its marker.
    ///
    /// # Errors
    /// The marker could not be changed.
    fn point(&self, project: &ProjectId, process: &ProcessName, slot: Slot) -> Result<(), PortError>;
    /// Points the bundle link at a release.
    ///
    /// # Errors
    /// The link could not be changed.
    fn link(&self, project: &ProjectId, release: ReleaseNo) -> Result<(), PortError>;
    /// Removes a release.
    ///
    /// # Errors
    /// Something could not be removed.
    fn remove_release(&self, project: &ProjectId, release: ReleaseNo) -> Result<(), PortError>;
    /// Returns the artifacts that are named by their digest, and when each arrived.
    ///
    /// # Errors
    /// The directory could not be read.
    fn artifacts(&self) -> Result<BTreeMap<Sha256, Timestamp>, PortError>;
    /// Removes an artifact.
    ///
    /// # Errors
    /// Something could not be removed.
    fn remove_artifact(&self, sha256: &Sha256) -> Result<(), PortError>;
    /// Removes a project's directories and user; cancels its fetches.
    ///
    /// # Errors
    /// Something could not be removed.
    fn remove_all(&self, project: &ProjectId, keep_data: bool) -> Result<(), PortError>;
}

/// One unit to probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeOrder {
    pub unit: UnitId,
    /// The port: the socket that answers there must belong to the unit.
    pub port: u16,
    /// The request to send; none if an accepted connection is enough.
    pub request: Option<ProbeRequest>,
    /// How long one probe may take.
    pub timeout: Span,
    /// The time between two probes.
    pub interval: Span,
}

/// A request that a probe sends as a visitor would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeRequest {
    pub path: ProbePath,
    /// The host name to request.
    pub host: String,
    /// Whether visitors use TLS.
    pub tls: bool,
    /// Whether the app speaks HTTP/2 without TLS.
    pub h2c: bool,
}

/// Readiness probes, in the background.
pub trait Health: Send {
    /// Probes these units from now on and no others; returns the results so far.
    fn look(&self, orders: &[ProbeOrder]) -> BTreeMap<UnitId, Probed>;
    /// Sends these requests to Caddy from now on and no others, as often as their purpose needs.
    fn visit(&self, visits: &BTreeSet<Visit>);
    /// Returns the results so far.
    fn visited(&self) -> BTreeMap<Visit, Visited>;

    /// Returns the ports of projects that are open to other machines.
    fn open_ports(&self) -> BTreeMap<ProjectId, BTreeSet<OpenPort>> {
        BTreeMap::new()
    }
}

/// Reads and changes what Caddy serves.
pub trait Routes: Send {
    /// Returns what Caddy serves.
    ///
    /// # Errors
    /// Caddy did not answer.
    fn look(&self) -> Result<ProxySeen, PortError>;
    /// Returns which of these hosts have their public certificate.
    fn certificates(&self, hosts: &BTreeSet<Hostname>) -> BTreeMap<Hostname, CertificateSeen>;
    /// Returns why Caddy would refuse routes; none if it would load them. Changes nothing.
    ///
    /// # Errors
    /// Caddy did not answer.
    fn refusal(&self, order: &RoutesOrder) -> Result<Option<String>, PortError>;
    /// Returns the hosts of these routes that Caddy serves differently now, or not at all. Changes nothing.
    fn differing(&self, order: &RoutesOrder) -> BTreeSet<Hostname>;
    /// Returns a digest of the configuration around our sites: the operator's, and our text without sites.
    fn surroundings(&self, ours: &str) -> String;
    /// Returns the template's text if it changed since the last call, or in any case.
    fn template(&self, _in_any_case: bool) -> Option<Result<String, String>> {
        None
    }
    /// Keeps a template that was accepted, for the next start.
    fn keep_template(&self, _text: &str) {}
    /// Checks, loads and keeps routes.
    ///
    /// # Errors
    /// Caddy refused them; then it serves as before.
    fn load(&self, order: &RoutesOrder) -> Result<(), PortError>;
}

/// Which lines of the journal to read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogQuery {
    /// The units by their exact names. None given: no lines.
    pub units: Vec<String>,
    /// At most this many, the newest; none for all from `since` on.
    pub lines: Option<u32>,
    /// Only lines at or after this time.
    pub since: Option<Timestamp>,
    /// Only lines that match.
    pub grep: Option<Pattern>,
    /// Whether to wait for more.
    pub follow: bool,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    pub time: Timestamp,
    /// The writing unit, according to the journal, never according to the writer.
    pub unit: String,
    /// syslog's number: 0 is the most urgent, 7 the least.
    pub priority: Option<u8>,
    pub message: String,
}

/// The lines of a query as they arrive. Dropping it ends the reading; a reader that does not keep up loses it.
pub type LogLines = tokio::sync::mpsc::Receiver<Result<LogLine, PortError>>;

/// Reads log lines from the journal.
pub trait Journal: Send + Sync {
    /// Begins to read; must be called within the runtime.
    ///
    /// # Errors
    /// The journal could not be read.
    fn read(&self, query: LogQuery) -> Result<LogLines, PortError>;
}

/// The server's figures, the newest each second; none before the first. Dropping it ends the measuring.
pub type Figures = tokio::sync::watch::Receiver<Option<Arc<SystemStats>>>;

/// Measures the resource usage of the server, the agent and the apps.
pub trait Stats: Send + Sync {
    /// Begins to measure once a second, in the background, or joins a measurement that is running.
    ///
    /// # Errors
    /// The measurement could not be started.
    fn watch(&self) -> Result<Figures, PortError>;
    /// Returns the agent's present resource usage.
    fn agent(&self) -> AgentStats;
    /// Returns the resource usage of an app's unit, a few seconds old at most; none if it does not run.
    fn used(&self, unit: &str) -> Option<Used>;
}

/// Stores uploaded artifacts.
pub trait Uploads: Send + Sync {
    /// Returns the largest allowed size.
    fn max_bytes(&self) -> u64;
    /// Begins an upload of this declared size.
    ///
    /// # Errors
    /// It could not be written, or there is no room for it.
    fn begin(&self, bytes: u64) -> Result<Box<dyn Upload>, PortError>;
}

/// An upload in progress. It is invisible before `keep`, and deleted if dropped without it.
pub trait Upload: Send {
    /// Adds bytes.
    ///
    /// # Errors
    /// The bytes could not be written.
    fn write(&mut self, bytes: &[u8]) -> Result<(), PortError>;
    /// Publishes it under its digest; it is on disk when this returns.
    ///
    /// # Errors
    /// The artifact could not be published.
    fn keep(self: Box<Self>, sha256: &Sha256) -> Result<(), PortError>;
}

/// The last log lines of units.
pub trait Tail: Send {
    /// Returns the newest log lines of these units, oldest first, each with its time; none if the journal cannot be
    /// read.
    fn tail(&self, units: &[UnitId], lines: u32) -> Vec<String>;

    /// Returns the processes of failed units that were killed after their stop timeout. Reading takes a while and
    /// happens in the background: a result is returned once, by a later call.
    fn forced_stops(&self, _failed: &[(&UnitId, &UnitSeen)]) -> Vec<ForcedStop> {
        Vec::new()
    }
}

/// The clock of the machine, or of a simulation.
pub trait Clock: Send + Sync {
    /// Returns the present time.
    fn now(&self) -> Timestamp;
}

/// The machine's clock, and the only reader of it.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
