//! The few things the loop needs from the world, as small traits. One adapter each in `host` and `store`; the fakes
//! live with the tests.

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

/// What is wanted and remembered, on disk before a call returns.
pub trait ProgressStore: Send + Sync {
    /// Returns everything that is wanted.
    ///
    /// # Errors
    /// Says why the database could not be read.
    fn desired(&self) -> Result<Desired, PortError>;
    /// Returns everything that is remembered.
    ///
    /// # Errors
    /// Says why the database could not be read.
    fn progress(&self) -> Result<Progress, PortError>;
    /// Returns what is remembered of one project; the default where nothing is.
    ///
    /// # Errors
    /// Says why the database could not be read.
    fn progress_of(&self, project: &ProjectId) -> Result<ProjectProgress, PortError>;
    /// Remembers these projects, and keeps what happened.
    ///
    /// # Errors
    /// Says why the database could not be written; then nothing of it is.
    fn save_progress(&self, changed: &BTreeMap<ProjectId, ProjectProgress>, events: &[Event]) -> Result<(), PortError>;
    /// Returns the statuses that were last recorded.
    ///
    /// # Errors
    /// Says why the database could not be read.
    fn statuses(&self) -> Result<BTreeMap<ProjectId, Status>, PortError>;
    /// Returns the status of one project that was last recorded, if any.
    ///
    /// # Errors
    /// Says why the database could not be read.
    fn status_of(&self, project: &ProjectId) -> Result<Option<Status>, PortError>;
    /// Records what was seen, and keeps what happened.
    ///
    /// # Errors
    /// Says why the database could not be written; then nothing of it is.
    fn record(&self, statuses: &[Status], events: &[Event]) -> Result<(), PortError>;
    /// Opens the values of a unit's variables.
    ///
    /// # Errors
    /// Names the value that could not be opened, never shows one.
    fn open_values(
        &self,
        project: &ProjectId,
        env: &BTreeMap<EnvName, Sealed>,
        secrets: &BTreeMap<EnvName, SecretVersion>,
    ) -> Result<BTreeMap<EnvName, Zeroizing<String>>, PortError>;
    /// Forgets a project and everything that was stored of it, unless something else was asked of it since this
    /// generation.
    ///
    /// # Errors
    /// Says why the database could not be written.
    fn forget(&self, project: &ProjectId, generation: u64) -> Result<(), PortError>;
}

/// Which events to read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventQuery {
    /// Of this project; none: of everything.
    pub project: Option<ProjectId>,
    /// With this reason.
    pub reason: Option<Reason>,
    /// None that last happened before this.
    pub since: Option<Timestamp>,
    /// None up to the one with this id.
    pub after: Option<u64>,
    /// At most so many: the newest, or the first ones after that id. None: all that are kept.
    pub lines: Option<u32>,
}

/// What happened.
pub trait Events: Send + Sync {
    /// Returns events, the oldest first.
    ///
    /// # Errors
    /// Says why the database could not be read.
    fn read(&self, query: &EventQuery) -> Result<Vec<Kept>, PortError>;
    /// Returns what changes whenever there are new ones.
    fn news(&self) -> tokio::sync::watch::Receiver<u64>;
}

/// Writes what is wanted. The doors (API, watched directory, webhooks) use nothing else.
pub trait DesiredStore: Send + Sync {
    /// Writes a project's spec; equal content is no change.
    ///
    /// # Errors
    /// The project is another owner's, its generation moved, it is being deleted, or the disk refused.
    fn put(&self, document: Admitted, owner: &Owner, expect: Option<u64>, by: &By) -> Result<Put, WriteError>;
    /// Writes that a project is to be gone.
    ///
    /// # Errors
    /// There is no such project, or it is another owner's.
    fn delete(&self, project: &ProjectId, owner: &Owner, keep_data: bool, by: &By) -> Result<u64, WriteError>;
    /// Hands a project to another owner, nothing else of it changed: its file got a new name.
    ///
    /// # Errors
    /// There is no such project, or it is not `from`'s by now.
    fn adopt(&self, project: &ProjectId, from: &Owner, to: &Owner) -> Result<(), WriteError>;
    /// Moves a project's artifact without its spec: a webhook's bump, a rollback.
    ///
    /// # Errors
    /// There is no such project, or the disk refused.
    fn overlay(&self, project: &ProjectId, artifact: &Artifact, by: &By) -> Result<Put, WriteError>;
    /// Asks for another try where the wanted artifact could not be fetched; returns the generation. Where nothing of the
    /// kind happened, nothing changes.
    ///
    /// # Errors
    /// There is no such project, or the disk refused.
    fn fetch_again(&self, project: &ProjectId, by: &By) -> Result<u64, WriteError>;
    /// Says stop over a project, whoever owns it; or with none, that it goes on. Nothing else of it changes, its
    /// generation neither: what was rejected is not tried again for this.
    ///
    /// # Errors
    /// There is no such project, or the disk refused.
    fn hold(&self, project: &ProjectId, hold: Option<&Hold>, by: &By) -> Result<(), WriteError>;
    /// Returns what is wanted of one project.
    ///
    /// # Errors
    /// Says why the database could not be read.
    fn wanted(&self, project: &ProjectId) -> Result<Option<Wanted>, WriteError>;
    /// Returns what a document would come to if it were put: for a dry run.
    ///
    /// # Errors
    /// As `put`.
    fn dry_run(&self, document: Admitted, owner: &Owner) -> Result<Wanted, WriteError>;
    /// Sets what stops a project's newest wish from being taken; none: nothing does. A complaint about a project
    /// that is unknown makes one of which nothing is wanted yet; it goes again with its complaint.
    ///
    /// # Errors
    /// Says why the database could not be written.
    fn complain(&self, project: &ProjectId, owner: &Owner, complaint: Option<&Complaint>) -> Result<(), WriteError>;
    /// Stores a secret; returns its new version. An equal value is no new version.
    ///
    /// # Errors
    /// Says why the database could not be written.
    fn set_secret(&self, project: &ProjectId, name: &SecretName, value: &Plain) -> Result<u32, WriteError>;
    /// Forgets a secret; tells whether it was there.
    ///
    /// # Errors
    /// Says why the database could not be written.
    fn remove_secret(&self, project: &ProjectId, name: &SecretName) -> Result<bool, WriteError>;
    /// Lists a project's secrets.
    ///
    /// # Errors
    /// Says why the database could not be read.
    fn secrets(&self, project: &ProjectId) -> Result<Vec<SecretInfo>, WriteError>;
    /// Opens one secret, to check a webhook's signature.
    ///
    /// # Errors
    /// Names the secret that could not be opened.
    fn open_secret(&self, project: &ProjectId, name: &SecretName) -> Result<Option<Zeroizing<String>>, WriteError>;
    /// Remembers a nonce for as long as its signature could be used; tells whether it is new.
    ///
    /// # Errors
    /// Says why the database could not be written.
    fn take_nonce(&self, key: &KeyId, nonce: &str, expires: Timestamp) -> Result<bool, WriteError>;
    /// Moves a project's artifact as a webhook's delivery asks, if the delivery is new and no older than the last one
    /// taken. Both are on disk, or neither; none where the delivery was taken before. One that asks again for what could
    /// not be fetched is taken again.
    ///
    /// # Errors
    /// As `overlay`.
    fn deliver(&self, project: &ProjectId, artifact: &Artifact, delivery: &Delivery)
    -> Result<Option<Put>, WriteError>;
    /// Returns what a door wrote down under this key; none where nothing is, or where it could not be read.
    fn note(&self, key: &str) -> Option<String>;
    /// Writes something down for a door, over restarts. A note that could not be written is tried again by its door.
    fn set_note(&self, key: &str, value: &str);
}

/// A secret, as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SecretInfo {
    /// Its name.
    pub name: SecretName,
    /// Its version.
    pub version: u32,
    /// When it got that version.
    pub updated_at: Timestamp,
}

/// What is wrong with files that stand for no project of their own, by file name.
pub type FileErrors = Arc<Mutex<BTreeMap<String, String>>>;

/// systemd.
pub trait Units: Send {
    /// Returns every unit of ours, by project: those with a file, and those that are loaded without one.
    ///
    /// # Errors
    /// Says why systemd or the disk could not be read.
    fn look(&self) -> Result<BTreeMap<ProjectId, BTreeMap<UnitId, UnitSeen>>, PortError>;
    /// Writes a launch blob, sealed for its unit, and then the unit file.
    ///
    /// # Errors
    /// Says what could not be written.
    fn write(&self, order: &UnitOrder, blob: &[u8]) -> Result<(), PortError>;
    /// Reads every unit file again.
    ///
    /// # Errors
    /// Says what systemd answered.
    fn reload(&self) -> Result<(), PortError>;
    /// Starts a unit, if systemd read it as it was written. Returns at once; the end of the job is a fact to see.
    ///
    /// # Errors
    /// Says what systemd answered, or what it read differently.
    fn start(&self, unit: &UnitId) -> Result<(), PortError>;
    /// Stops a unit. Returns at once.
    ///
    /// # Errors
    /// Says what systemd answered.
    fn stop(&self, unit: &UnitId) -> Result<(), PortError>;
    /// Lets a unit start at boot.
    ///
    /// # Errors
    /// Says what systemd answered.
    fn enable(&self, unit: &UnitId) -> Result<(), PortError>;
    /// Lets a unit's timer count, now and after a boot.
    ///
    /// # Errors
    /// Says what systemd answered.
    fn arm(&self, unit: &UnitId) -> Result<(), PortError>;
    /// Lets a unit's timer count no more. What it started goes on.
    ///
    /// # Errors
    /// Says what systemd answered.
    fn disarm(&self, unit: &UnitId) -> Result<(), PortError>;
    /// Removes a stopped unit: boot link, file, launch blob.
    ///
    /// # Errors
    /// Says what could not be removed.
    fn remove(&self, unit: &UnitId) -> Result<(), PortError>;
    /// Tells whether systemd runs Caddy.
    ///
    /// # Errors
    /// Says what systemd answered.
    fn proxy_runs(&self) -> Result<bool, PortError>;
    /// Starts Caddy.
    ///
    /// # Errors
    /// Says what systemd answered.
    fn start_proxy(&self) -> Result<(), PortError>;
}

/// What is wanted and remembered of host services, on disk before a call returns.
pub trait ServiceProgressStore: Send + Sync {
    /// Returns what is wanted.
    ///
    /// # Errors
    /// Says why the database could not be read.
    fn wanted_services(&self) -> Result<WantedServices, PortError>;
    /// Returns what is remembered.
    ///
    /// # Errors
    /// Says why the database could not be read.
    fn service_progress(&self) -> Result<BTreeMap<Service, ServiceProgress>, PortError>;
    /// Remembers these services, as far as they are still wanted.
    ///
    /// # Errors
    /// Says why the database could not be written.
    fn remember_services(&self, changed: &BTreeMap<Service, ServiceProgress>) -> Result<(), PortError>;
    /// Returns the statuses that were last recorded.
    ///
    /// # Errors
    /// Says why the database could not be read.
    fn service_statuses(&self) -> Result<BTreeMap<Service, ServiceStatus>, PortError>;
    /// Records what was seen.
    ///
    /// # Errors
    /// Says why the database could not be written.
    fn record_services(&self, statuses: &[ServiceStatus]) -> Result<(), PortError>;
    /// Forgets that a service was wanted, unless something else was asked of it since this generation.
    ///
    /// # Errors
    /// Says why the database could not be written.
    fn forget_service(&self, service: Service, generation: u64) -> Result<(), PortError>;
}

/// Writes what is wanted of host services.
pub trait DesiredServiceStore: Send + Sync {
    /// Returns what is wanted of one service.
    ///
    /// # Errors
    /// Says why the database could not be read.
    fn wanted_service(&self, service: Service) -> Result<Option<WantedService>, WriteError>;
    /// Writes that a service is to be there; an equal wish is no change. `heir_of`: whose it was, where its owner is gone.
    ///
    /// # Errors
    /// It is another owner's, or the disk refused.
    fn put_service(
        &self,
        service: Service,
        version: Version,
        owner: &Owner,
        heir_of: Option<&Owner>,
        by: &By,
    ) -> Result<Put, WriteError>;
    /// Writes that a service is to be gone; returns the wish's generation.
    ///
    /// # Errors
    /// Nobody asked for it, or it is another owner's.
    fn drop_service(&self, service: Service, owner: &Owner, purge: bool, by: &By) -> Result<u64, WriteError>;
    /// Sets what stops a service's newest wish from being taken; none: nothing does.
    ///
    /// # Errors
    /// Says why the database could not be written.
    fn complain_of_service(
        &self,
        service: Service,
        owner: &Owner,
        complaint: Option<&Complaint>,
    ) -> Result<(), WriteError>;
}

/// The host's services: its package manager and the daemons that it brings.
pub trait Services: Send {
    /// Returns what there is of each. Where nobody asks for any, what was found at an earlier look is good enough.
    ///
    /// # Errors
    /// Says what could not be read.
    fn look(&self, closely: bool) -> Result<ServicesSeen, PortError>;
    /// Begins work of the package manager, beside the loop and the agent. Returns at once.
    ///
    /// # Errors
    /// Says why it could not begin.
    fn begin(&self, order: &PackageJob) -> Result<(), PortError>;
    /// Starts a daemon. Returns at once.
    ///
    /// # Errors
    /// Says what systemd answered.
    fn start(&self, unit: &str) -> Result<(), PortError>;
    /// Lets a service's daemon start at boot.
    ///
    /// # Errors
    /// Says what systemd answered.
    fn enable(&self, service: Service) -> Result<(), PortError>;
}

/// Directories, users, artifacts.
pub trait Bundles: Send {
    /// Returns what there is of a project.
    ///
    /// # Errors
    /// Says what could not be read.
    fn look(&self, project: &ProjectId) -> Result<BundlesSeen, PortError>;
    /// Returns the fetches of a project that run, or how they ended.
    fn fetches(&self, project: &ProjectId) -> BTreeMap<ReleaseNo, FetchSeen>;
    /// Makes the user and directories of a project. `open`: Caddy may pass through, to a static site.
    ///
    /// # Errors
    /// Says what could not be made.
    fn prepare(&self, project: &ProjectId, open: bool) -> Result<(), PortError>;
    /// Ends a fetch, or forgets how it ended.
    fn cancel(&self, project: &ProjectId, release: ReleaseNo);
    /// Begins to fetch and unpack a release, beside the loop.
    ///
    /// # Errors
    /// Says why it could not begin.
    fn fetch(&self, project: &ProjectId, order: &FetchOrder) -> Result<(), PortError>;
    /// Moves the traffic of a web process to a slot: makes or removes its marker.
    ///
    /// # Errors
    /// Says why the marker could not be changed.
    fn point(&self, project: &ProjectId, process: &ProcessName, slot: Slot) -> Result<(), PortError>;
    /// Points the bundle link at a release.
    ///
    /// # Errors
    /// Says why the link could not be changed.
    fn link(&self, project: &ProjectId, release: ReleaseNo) -> Result<(), PortError>;
    /// Removes a release.
    ///
    /// # Errors
    /// Says what could not be removed.
    fn remove_release(&self, project: &ProjectId, release: ReleaseNo) -> Result<(), PortError>;
    /// Returns the artifacts that are named by their digest, and when each came.
    ///
    /// # Errors
    /// Says what could not be read.
    fn artifacts(&self) -> Result<BTreeMap<Sha256, Timestamp>, PortError>;
    /// Removes an artifact.
    ///
    /// # Errors
    /// Says what could not be removed.
    fn remove_artifact(&self, sha256: &Sha256) -> Result<(), PortError>;
    /// Removes a project's directories and user; ends its fetches.
    ///
    /// # Errors
    /// Says what could not be removed.
    fn remove_all(&self, project: &ProjectId, keep_data: bool) -> Result<(), PortError>;
}

/// One unit to probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeOrder {
    /// Which.
    pub unit: UnitId,
    /// Its port: the socket that answers there must belong to the unit.
    pub port: u16,
    /// What is asked there; none: that it takes connections is enough.
    pub request: Option<ProbeRequest>,
    /// How long one probe may take.
    pub timeout: Span,
    /// How long between two probes.
    pub interval: Span,
}

/// A request that a probe sends as a visitor would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeRequest {
    /// The path.
    pub path: ProbePath,
    /// The name that is asked for.
    pub host: String,
    /// Whether visitors come over TLS.
    pub tls: bool,
    /// Whether the app speaks HTTP/2 without TLS.
    pub h2c: bool,
}

/// Readiness probes, beside the loop.
pub trait Health: Send {
    /// Probes these units from now on and no others; returns what was found so far.
    fn look(&self, orders: &[ProbeOrder]) -> BTreeMap<UnitId, Probed>;
    /// Asks Caddy these from now on and no others, as often as their purpose needs.
    fn visit(&self, visits: &BTreeSet<Visit>);
    /// Returns what was found so far.
    fn visited(&self) -> BTreeMap<Visit, Visited>;

    /// Returns what projects have open to others than this machine.
    fn open_ports(&self) -> BTreeMap<ProjectId, BTreeSet<OpenPort>> {
        BTreeMap::new()
    }
}

/// Caddy.
pub trait Routes: Send {
    /// Returns what Caddy serves.
    ///
    /// # Errors
    /// Says why it could not be asked.
    fn look(&self) -> Result<ProxySeen, PortError>;
    /// Returns which of these hosts have their public certificate.
    fn certificates(&self, hosts: &BTreeSet<Hostname>) -> BTreeMap<Hostname, CertificateSeen>;
    /// Tells why Caddy would refuse routes; none: it would take them. Changes nothing.
    ///
    /// # Errors
    /// Says why it could not be asked.
    fn refusal(&self, order: &RoutesOrder) -> Result<Option<String>, PortError>;
    /// Returns the hosts of these routes that Caddy serves otherwise now, or not at all. Changes nothing.
    fn differing(&self, order: &RoutesOrder) -> BTreeSet<Hostname>;
    /// Returns a digest of what surrounds our sites: the operator's configuration, and our text without a site.
    fn surroundings(&self, ours: &str) -> String;
    /// Returns the template's text if it changed since it was asked for last, or in any case.
    fn template(&self, _in_any_case: bool) -> Option<Result<String, String>> {
        None
    }
    /// Keeps a template that was found good, for the next start.
    fn keep_template(&self, _text: &str) {}
    /// Checks, loads and keeps routes.
    ///
    /// # Errors
    /// Says what Caddy refused; then it serves on as before.
    fn load(&self, order: &RoutesOrder) -> Result<(), PortError>;
}

/// Which lines of the journal to read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogQuery {
    /// Of which units, by their exact names. None: no lines.
    pub units: Vec<String>,
    /// The newest so many; none: from `since` on, however many.
    pub lines: Option<u32>,
    /// None older than this.
    pub since: Option<Timestamp>,
    /// Only those in which this occurs.
    pub grep: Option<Pattern>,
    /// Whether to wait for more.
    pub follow: bool,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written.
    pub time: Timestamp,
    /// By which unit, as the journal itself knows it, never as the writer says.
    pub unit: String,
    /// syslog's number: 0 is the most urgent, 7 the least.
    pub priority: Option<u8>,
    /// What was written.
    pub message: String,
}

/// The lines of a query as they come. Whoever drops it ends the reading; whoever does not read loses it.
pub type LogLines = tokio::sync::mpsc::Receiver<Result<LogLine, PortError>>;

/// The journal.
pub trait Journal: Send + Sync {
    /// Begins to read; called within the runtime.
    ///
    /// # Errors
    /// Says why the journal could not be asked.
    fn read(&self, query: LogQuery) -> Result<LogLines, PortError>;
}

/// The server's figures, the newest each second; none before the first. Whoever drops it stops looking.
pub type Figures = tokio::sync::watch::Receiver<Option<Arc<SystemStats>>>;

/// The server's own figures.
pub trait Stats: Send + Sync {
    /// Begins to look once a second, beside everything else, or joins those who do already.
    ///
    /// # Errors
    /// Says why nobody could begin.
    fn watch(&self) -> Result<Figures, PortError>;
    /// Returns what the agent uses now.
    fn agent(&self) -> AgentStats;
    /// Returns what an app's unit uses, a few seconds old at most; none: nothing of it runs.
    fn used(&self, unit: &str) -> Option<Used>;
}

/// Takes artifacts that are sent to the server.
pub trait Uploads: Send + Sync {
    /// Returns how many bytes one may have.
    fn max_bytes(&self) -> u64;
    /// Begins one that says it has so many bytes.
    ///
    /// # Errors
    /// Says why nothing could be written, or that there is no room for it.
    fn begin(&self, bytes: u64) -> Result<Box<dyn Upload>, PortError>;
}

/// An artifact on its way in. Nobody sees it before `keep`; dropped without, it is gone.
pub trait Upload: Send {
    /// Adds bytes.
    ///
    /// # Errors
    /// Says why they could not be written.
    fn write(&mut self, bytes: &[u8]) -> Result<(), PortError>;
    /// Lets everybody see it under its digest; it is on disk when this returns.
    ///
    /// # Errors
    /// Says why it could not be kept.
    fn keep(self: Box<Self>, sha256: &Sha256) -> Result<(), PortError>;
}

/// The last words of units.
pub trait Tail: Send {
    /// Returns the newest log lines of these units, oldest first, each with its time; none where the journal cannot be
    /// read.
    fn tail(&self, units: &[UnitId], lines: u32) -> Vec<String>;

    /// Returns what was killed for its time, of the units that failed. Reading it takes a while and is done beside the
    /// loop: what is found is returned once, by a later call.
    fn forced_stops(&self, _failed: &[(&UnitId, &UnitSeen)]) -> Vec<ForcedStop> {
        Vec::new()
    }
}

/// The machine's clock.
pub trait Clock: Send + Sync {
    /// Returns the moment.
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
