//! What the loop changes on the machine: units, directories, routes, host services.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::failure::PortError;
use crate::model::names::{Hostname, ProcessName, ProjectId, ReleaseNo, Sha256, Slot, UnitId};
use crate::model::observed::{BundlesSeen, CertificateSeen, FetchSeen, ProxySeen, ServicesSeen, UnitSeen};
use crate::model::quantity::Timestamp;
use crate::model::services::Service;
use crate::plan::services::PackageJob;
use crate::plan::{FetchOrder, RoutesOrder, UnitOrder};

/// Reads and changes the units of apps, through systemd.
pub trait Units: Send {
    /// Returns every unit of ours, by project: those with a file, and those that are loaded without one.
    ///
    /// # Errors
    /// systemd or the disk could not be read.
    fn observe(&self) -> Result<BTreeMap<ProjectId, BTreeMap<UnitId, UnitSeen>>, PortError>;
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

/// The host services: the package manager and the daemons that it installs.
pub trait Services: Send {
    /// Returns the installed state of each. Without `closely`, an earlier observation will do: no service is requested.
    ///
    /// # Errors
    /// The installed state could not be read.
    fn observe(&self, closely: bool) -> Result<ServicesSeen, PortError>;
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
    fn observe(&self, project: &ProjectId) -> Result<BundlesSeen, PortError>;
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

/// Reads and changes what Caddy serves.
pub trait Routes: Send {
    /// Returns what Caddy serves.
    ///
    /// # Errors
    /// Caddy did not answer.
    fn observe(&self) -> Result<ProxySeen, PortError>;
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
