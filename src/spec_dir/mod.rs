//! The watched directory: the input for people who write files. On every change it observes the directory, decides,
//! writes the desired state, and triggers the loop. It never touches the machine.

pub mod decide;
pub mod scan;
mod watcher;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::model::desired::Owner;
use crate::model::event::By;
use crate::model::names::ProjectId;
use crate::plan::accept::admit::UrlCheck;
use crate::port::{DesiredServiceStore, DesiredStore, FileErrors, ProgressStore, ServiceProgressStore, WriteError};
use crate::trigger::TriggerSender;
use decide::{DIRECTORY, Decision, File, Listing, Prior, Verdict};
use scan::Specs;
use watcher::DirWatcher;

/// The key under which the directory's identity is recorded.
const IDENTITY: &str = "specs.identity";
/// How long until a failed write is retried.
const RETRY: Duration = Duration::from_secs(5);
/// How often to observe if no watch is possible.
const POLL: Duration = Duration::from_secs(30);
/// How often to observe although nothing changed: a watch can be lost silently.
const RESYNC: Duration = Duration::from_secs(300);

/// Watches the directory, on a thread of its own, until it is stopped.
pub fn watch(
    dir: PathBuf,
    stores: DesiredStores,
    check_url: UrlCheck,
    trigger: TriggerSender,
    prune_max: usize,
    troubles: FileErrors,
    stop: Arc<AtomicBool>,
) -> JoinHandle<()> {
    let prior = Prior { identity: stores.desired_store.note(IDENTITY), ..Prior::default() };
    let files = BTreeMap::new();
    let mut door = Reader { dir, stores, check_url, trigger, prune_max, troubles, prior, files, began: Instant::now() };
    std::thread::spawn(move || door.serve(&stop))
}

/// Where this input reads and writes desired state.
#[derive(Clone)]
pub struct DesiredStores {
    pub desired_store: Arc<dyn DesiredStore>,
    /// The recorded progress of projects.
    pub progress: Arc<dyn ProgressStore>,
    pub desired_services: Arc<dyn DesiredServiceStore>,
    /// The recorded progress of host services.
    pub service_progress: Arc<dyn ServiceProgressStore>,
}

struct Reader {
    dir: PathBuf,
    stores: DesiredStores,
    check_url: UrlCheck,
    trigger: TriggerSender,
    prune_max: usize,
    troubles: FileErrors,
    prior: Prior,
    /// What the last observation showed, so that only changed files are parsed.
    files: BTreeMap<String, File>,
    began: Instant,
}

impl Reader {
    fn serve(&mut self, stop: &AtomicBool) {
        let mut watcher = DirWatcher::idle();
        while !stop.load(Ordering::Relaxed) {
            // Watches before it observes, so that a change in between is not missed.
            watcher.watch(&self.dir);
            let again = self.scan();
            let at_most = if watcher.is_watching() { RESYNC } else { POLL };
            watcher.wait(again.unwrap_or(at_most).min(at_most), stop);
        }
    }

    /// Observes once; returns how long until the next observation, if one is due.
    fn scan(&mut self) -> Option<Duration> {
        let known = self.stores.progress.desired();
        let known = known.and_then(|known| Ok((known, self.stores.service_progress.desired_services()?)));
        let (known, services) = match known {
            Ok(known) => known,
            Err(error) => {
                tracing::warn!(error = %error, "could not read what is wanted");
                return Some(RETRY);
            }
        };
        let now = self.began.elapsed();
        let (listing, mut specs) = scan::read(&self.dir, &self.files, &self.check_url);
        let mut verdict = decide::decide(&listing, &known, &services, &self.prior, now, self.prune_max);
        let failed = self.carry_out(&mut verdict, &listing, &mut specs);
        self.save_progress(listing, &verdict);
        let due = verdict.rescan_at.map(|moment| moment.saturating_sub(self.began.elapsed()));
        if failed { Some(due.map_or(RETRY, |due| due.min(RETRY))) } else { due }
    }

    /// Writes the decisions; returns whether a write failed.
    fn carry_out(&mut self, verdict: &mut Verdict, listing: &Listing, specs: &mut Specs) -> bool {
        let mut failed = BTreeSet::new();
        let (mut wrote, mut any_failed) = (false, false);
        for decision in std::mem::take(&mut verdict.decisions) {
            let project = decision.project().cloned();
            if project.as_ref().is_some_and(|project| failed.contains(project)) {
                continue;
            }
            match self.write(&decision, listing, specs) {
                Ok(changed) => wrote |= changed,
                Err(error) => {
                    let place = decision.file().unwrap_or(DIRECTORY).to_owned();
                    verdict.troubles.insert(place, error.to_string());
                    any_failed = true;
                    failed.extend(project);
                }
            }
        }
        self.tell(&verdict.troubles);
        if wrote {
            self.trigger.changed();
        }
        any_failed
    }

    fn write(&mut self, decision: &Decision, listing: &Listing, specs: &mut Specs) -> Result<bool, WriteError> {
        match decision {
            Decision::Put(project, file) => return self.put(project, file, listing, specs),
            Decision::Adopt { project, from, to } => {
                self.stores.desired_store.change_owner(project, from, to)?;
            }
            Decision::SetRefusal(project, owner, refusal) => {
                self.stores.desired_store.set_refusal(project, owner, refusal.as_ref())?;
            }
            Decision::PutService { service, version, file, heir_of } => {
                let owner = Owner::File(file.clone());
                let put = self.stores.desired_services.put_service(
                    *service,
                    *version,
                    &owner,
                    heir_of.as_ref(),
                    &By::File(file.clone()),
                )?;
                if put.changed {
                    tracing::info!(service = %service, file = ?file, generation = put.generation, "took the file's service");
                }
                return Ok(put.changed);
            }
            Decision::DropService(service, owner) => {
                tracing::info!(service = %service, owner = %owner, "no file asks for the service any more");
                self.stores.desired_services.delete_service(
                    *service,
                    owner,
                    false,
                    &By::File(decision.file().unwrap_or(DIRECTORY).to_owned()),
                )?;
            }
            Decision::SetServiceRefusal(service, owner, refusal) => {
                if let Some(refusal) = refusal {
                    tracing::warn!(service = %service, reason = refusal.kind.reason().name(), message = ?refusal.message);
                }
                self.stores.desired_services.set_service_refusal(*service, owner, refusal.as_ref())?;
            }
            Decision::Delete(project, owner) => {
                self.stores.desired_store.delete(
                    project,
                    owner,
                    false,
                    &By::File(decision.file().unwrap_or(DIRECTORY).to_owned()),
                )?;
            }
            Decision::Note(identity) => {
                self.stores.desired_store.set_note(IDENTITY, identity);
                self.prior.identity = Some(identity.clone());
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn put(
        &mut self,
        project: &ProjectId,
        file: &str,
        listing: &Listing,
        specs: &mut Specs,
    ) -> Result<bool, WriteError> {
        // Only a file whose spec was admitted leads here; otherwise the next observation would report it.
        let Some(document) = specs.remove(file).and_then(|spec| spec.admitted(&self.check_url)) else {
            return Ok(false);
        };
        let by = By::File(file.to_owned());
        let put = self.stores.desired_store.put(document, &Owner::File(file.to_owned()), None, &by)?;
        if let Some(digest) = listing.digest(file) {
            self.prior.taken.insert(file.to_owned(), (project.clone(), digest));
        }
        Ok(put.changed)
    }

    fn save_progress(&mut self, listing: Listing, verdict: &Verdict) {
        self.prior.doubts = verdict.doubts.clone();
        if let Listing::Read { files, .. } = listing {
            self.prior.taken.retain(|name, _| files.contains_key(name));
            self.files = files;
        }
    }

    /// Publishes the errors of files, and logs new ones.
    fn tell(&self, troubles: &BTreeMap<String, String>) {
        let mut shown = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        for (file, message) in troubles.iter().filter(|(file, message)| shown.get(*file) != Some(message)) {
            tracing::warn!(file = ?file, message = ?message, "could not take a file");
        }
        shown.clone_from(troubles);
    }
}

impl Decision {
    fn project(&self) -> Option<&ProjectId> {
        match self {
            Decision::Put(project, _) | Decision::SetRefusal(project, ..) | Decision::Delete(project, _) => {
                Some(project)
            }
            Decision::Adopt { project, .. } => Some(project),
            Decision::PutService { .. } | Decision::DropService(..) | Decision::SetServiceRefusal(..) => None,
            Decision::Note(_) => None,
        }
    }

    fn file(&self) -> Option<&str> {
        match self {
            Decision::Put(_, file) | Decision::PutService { file, .. } => Some(file),
            Decision::Adopt { to: Owner::File(file), .. } => Some(file),
            Decision::SetRefusal(_, Owner::File(file), _) | Decision::Delete(_, Owner::File(file)) => Some(file),
            _ => None,
        }
    }
}

impl Listing {
    fn digest(&self, name: &str) -> Option<decide::Digest> {
        match self {
            Listing::Read { files, .. } => files.get(name)?.digest,
            Listing::Lost(_) => None,
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
