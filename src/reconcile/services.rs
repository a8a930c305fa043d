//! The host services in a pass: observed, folded, changed and recorded beside the projects.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::facet;
use crate::model::desired::{Desired, DesiredServices};
use crate::model::event::Event;
use crate::model::failure::PortError;
use crate::model::observed::{Facet, Observed, ServicesSeen};
use crate::model::progress::{Progress, ServiceProgress};
use crate::model::quantity::Timestamp;
use crate::model::reason::Reason;
use crate::model::services::Service;
use crate::model::status::ServiceStatus;
use crate::plan::services::PackageJob;
use crate::plan::{ServiceAction, events, retry, services};
use crate::port::{ServiceProgressStore, Services};

/// What the loop works with for host services.
pub struct HostServices {
    /// Desired state and recorded progress.
    pub store: Arc<dyn ServiceProgressStore>,
    /// The package manager and the daemons.
    pub host: Box<dyn Services>,
    /// The status of each service after the last pass.
    pub last_statuses: BTreeMap<Service, ServiceStatus>,
}

impl HostServices {
    /// Continues from the recorded statuses, so that a restart of the agent emits no event.
    pub fn new(store: Arc<dyn ServiceProgressStore>, host: Box<dyn Services>) -> Self {
        let last = store.service_statuses().unwrap_or_default();
        Self { store, host, last_statuses: last }
    }

    /// Observes the services; closely if they are requested or needed.
    pub fn observe(&self, wanted: &DesiredServices, desired: &Desired, full: bool) -> Facet<ServicesSeen> {
        let needed = || desired.0.values().filter_map(|wanted| wanted.spec()).any(|spec| !spec.needs.is_empty());
        facet(self.host.observe(full || !wanted.is_empty() || needed()))
    }

    /// Saves the progress that changed.
    ///
    /// # Errors
    /// The database could not be written.
    pub fn save_progress(&self, before: &Progress, after: &Progress) -> Result<(), PortError> {
        let is_news =
            |(service, progress): &(&Service, &ServiceProgress)| before.services.get(service) != Some(progress);
        let changed: BTreeMap<Service, ServiceProgress> =
            after.services.iter().filter(is_news).map(|(service, progress)| (*service, progress.clone())).collect();
        if changed.is_empty() { Ok(()) } else { self.store.save_service_progress(&changed) }
    }

    /// Executes a step.
    ///
    /// # Errors
    /// The step failed.
    pub fn execute(
        &self,
        service: Service,
        action: &ServiceAction,
        all_progress: &mut Progress,
        now: Timestamp,
    ) -> Result<(), PortError> {
        match action {
            ServiceAction::Packages(task) => {
                self.host.begin(&PackageJob { service, task: task.clone() })?;
                if let Some(progress) = all_progress.services.get_mut(&service) {
                    progress.started_at = Some(now);
                }
            }
            ServiceAction::Start(unit) => {
                self.host.start(unit)?;
                // Counted before a failure is known: a daemon that fails at once must not be restarted in a loop.
                if let Some(progress) = all_progress.services.get_mut(&service) {
                    let down = PortError::transient(
                        Reason::ServiceDown,
                        format!("{unit} was down, and was started again; `journalctl -u {unit}` says why"),
                    );
                    progress.backoff = Some(retry::record_failure(progress.backoff.as_ref(), &down, now));
                }
            }
            ServiceAction::Enable => self.host.enable(service)?,
            ServiceAction::DeleteRecord => {
                // Even if this fails, the record may be deleted already, and the service requested again: nothing more is
                // written for it.
                let generation = all_progress.services.remove(&service).map_or(0, |progress| progress.generation);
                self.store.delete_service_record(service, generation)?;
            }
        }
        Ok(())
    }

    /// Counts a step that failed.
    pub fn record_failure(service: Service, error: &PortError, all_progress: &mut Progress, now: Timestamp) {
        if let Some(progress) = all_progress.services.get_mut(&service) {
            progress.backoff = Some(retry::record_failure(progress.backoff.as_ref(), error, now));
        }
    }

    /// Records the statuses that changed; returns the events to emit.
    ///
    /// # Errors
    /// The database could not be written.
    pub fn record(
        &mut self,
        wanted: &DesiredServices,
        observed: &Observed,
        all_progress: &Progress,
        full: bool,
    ) -> Result<Vec<Event>, PortError> {
        let shown = Service::ALL.into_iter().filter_map(|service| {
            services::status(service, wanted.get(&service), observed, all_progress, self.last_statuses.get(&service))
        });
        let news: Vec<ServiceStatus> =
            shown.filter(|status| full || self.last_statuses.get(&status.service) != Some(status)).collect();
        if news.is_empty() {
            return Ok(Vec::new());
        }
        self.store.record_services(&news)?;
        let emitted = news
            .iter()
            .filter_map(|status| events::for_service(self.last_statuses.get(&status.service), status, observed.now));
        let emitted = emitted.collect();
        self.last_statuses.extend(news.into_iter().map(|status| (status.service, status)));
        Ok(emitted)
    }
}
