//! The doors' side of the store: the rules of `store/wishes.rs` over a plain map. A life over the real database would
//! take many times as long; whoever changes the rules there changes them here.

use std::collections::BTreeMap;
use std::sync::Arc;

use zexio::model::desired::{Complaint, Hold, Intent, Owner, Wanted};
use zexio::model::names::{ArtifactName, ProjectId};
use zexio::model::progress::{ProjectProgress, Release};
use zexio::model::spec::{Artifact, Document, Sealed, Spec};
use zexio::port::{Put, WishError};

use super::Machine;

/// A project's row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub spec: Spec,
    pub overlay: Option<Artifact>,
    /// Whether a webhook made it.
    pub moved: bool,
}

impl Machine {
    /// Writes a project's spec.
    ///
    /// # Errors
    /// It is another owner's, its generation moved, or it is being deleted; then nothing is written.
    pub fn put(&mut self, document: Document, owner: &Owner, expect: Option<u64>) -> Result<Put, WishError> {
        let project = document.project.clone();
        let old = self.desired.0.get(&project);
        let generation = old.map_or(0, |wanted| wanted.generation);
        match old {
            Some(wanted) if is_leaving(wanted) && wanted.hold_at(self.now).is_none() => {
                return Err(WishError::Deleting(project));
            }
            Some(wanted) if wanted.owner != *owner && wanted.intent != Intent::Nothing => {
                return Err(WishError::Owned { project, owner: wanted.owner.clone() });
            }
            _ if expect.is_some_and(|expected| expected != generation) => return Err(WishError::Moved(generation)),
            _ => {}
        }
        let (created, taken_back) = (!self.rows.contains_key(&project), old.is_some_and(is_leaving));
        let values = &mut self.values;
        let spec = document.try_map_env(|name, value| {
            let known = values.entry((project.clone(), name.to_string())).or_default();
            let value = value.clear().expect("the simulated documents have their values in clear");
            if known.last().and_then(Option::as_deref).is_none_or(|newest| newest != value) {
                known.push(Some(value.to_owned()));
            }
            Ok::<_, WishError>(Sealed { sealed: known.len() as u32 })
        })?;
        let before = self.rows.get(&project);
        let overlay = before.and_then(|row| self.overlay_after(&project, row, &spec));
        let moved = before.is_some_and(|row| row.moved) && overlay.is_some();
        let row = Row { spec, overlay, moved };
        let changed = before != Some(&row) || taken_back;
        let generation = if changed { generation + 1 } else { generation };
        self.rows.insert(project.clone(), row);
        let complaint = self.desired.0.get(&project).and_then(|wanted| wanted.complaint.clone());
        self.want(&project, generation, owner.clone(), complaint.filter(Complaint::is_of_another_file));
        Ok(Put { generation, created, changed })
    }

    /// Moves a project's artifact without its spec.
    ///
    /// # Errors
    /// There is no such project, or it is being deleted.
    pub fn overlay(&mut self, project: &ProjectId, artifact: &Artifact, webhook: bool) -> Result<Put, WishError> {
        let wanted = self.desired.0.get(project).ok_or_else(|| WishError::Unknown(project.clone()))?;
        let (generation, owner, complaint) = (wanted.generation, wanted.owner.clone(), wanted.complaint.clone());
        match wanted.intent {
            Intent::Run(_) => {}
            Intent::Delete { .. } => return Err(WishError::Deleting(project.clone())),
            Intent::Nothing => return Err(WishError::Unknown(project.clone())),
        }
        let lacks = self.progress.projects.get(project).is_some_and(ProjectProgress::lacks_its_artifact);
        let row = self.rows.get_mut(project).expect("what runs has a row");
        let moved = Artifact { updates: row.spec.artifact.updates, ..artifact.clone() };
        let is_wanted = *row.overlay.as_ref().unwrap_or(&row.spec.artifact) == moved;
        let changed = !is_wanted || lacks;
        if changed {
            row.overlay = (is_wanted || moved != row.spec.artifact).then_some(moved);
            row.moved = webhook && row.overlay.is_some();
        }
        let generation = if changed { generation + 1 } else { generation };
        self.want(project, generation, owner, complaint);
        Ok(Put { generation, created: false, changed })
    }

    /// Asks for another try where the wanted artifact could not be fetched.
    ///
    /// # Errors
    /// There is no such project.
    pub fn fetch_again(&mut self, project: &ProjectId) -> Result<Put, WishError> {
        let lacks = self.progress.projects.get(project).is_some_and(ProjectProgress::lacks_its_artifact);
        let wanted = self.desired.0.get_mut(project).ok_or_else(|| WishError::Unknown(project.clone()))?;
        let changed = lacks && matches!(wanted.intent, Intent::Run(_));
        wanted.generation += u64::from(changed);
        Ok(Put { generation: wanted.generation, created: false, changed })
    }

    /// Writes that a project is to be gone.
    ///
    /// # Errors
    /// There is no such project, or it is another owner's.
    pub fn delete(&mut self, project: &ProjectId, owner: &Owner, keep_data: bool) -> Result<u64, WishError> {
        let wanted = self.desired.0.get_mut(project).ok_or_else(|| WishError::Unknown(project.clone()))?;
        if wanted.owner != *owner {
            return Err(WishError::Owned { project: project.clone(), owner: wanted.owner.clone() });
        }
        if !is_leaving(wanted) {
            wanted.generation += 1;
            (wanted.intent, wanted.complaint) = (Intent::Delete { keep_data }, None);
            if let Some(row) = self.rows.get_mut(project) {
                row.overlay = None;
            }
        }
        Ok(self.desired.0[project].generation)
    }

    /// Says stop over a project, or with none that it goes on.
    ///
    /// # Errors
    /// There is no such project.
    pub fn hold(&mut self, project: &ProjectId, hold: Option<Hold>) -> Result<Put, WishError> {
        let wanted = self.desired.0.get_mut(project).ok_or_else(|| WishError::Unknown(project.clone()))?;
        wanted.hold = hold;
        Ok(Put { generation: wanted.generation, created: false, changed: true })
    }

    /// Sets what stops a project's newest wish from being taken.
    pub fn complain(&mut self, project: &ProjectId, owner: &Owner, complaint: Option<&Complaint>) {
        match self.desired.0.get_mut(project) {
            Some(wanted) if wanted.owner != *owner => {}
            Some(wanted) if wanted.intent == Intent::Nothing && complaint.is_none() => self.remove_rows(project),
            Some(wanted) => wanted.complaint = complaint.cloned(),
            None => {
                let Some(complaint) = complaint.cloned() else { return };
                let (intent, owner) = (Intent::Nothing, owner.clone());
                let wanted = Wanted {
                    generation: 0,
                    intent,
                    owner,
                    secrets: BTreeMap::new(),
                    complaint: Some(complaint),
                    hold: None,
                    moved: false,
                };
                self.desired.0.insert(project.clone(), wanted);
            }
        }
    }

    /// A changed artifact in the spec beats an overlay. After a rollback, another change means the older bytes with it.
    fn overlay_after(&self, project: &ProjectId, before: &Row, spec: &Spec) -> Option<Artifact> {
        let overlay = before.overlay.clone().filter(|_| spec.artifact == before.spec.artifact)?;
        let Some(number) = overlay.release.filter(|_| makes_other_release(&before.spec, spec)) else {
            return Some(overlay);
        };
        let release = self.progress.projects.get(project)?.release(number)?;
        let (sha256, version) = (release.sha256.clone()?, release.version.clone());
        let file = ArtifactName::parse(sha256.as_str()).ok();
        Some(Artifact { url: None, file, release: None, sha256: Some(sha256), version, updates: spec.artifact.updates })
    }

    fn want(&mut self, project: &ProjectId, generation: u64, owner: Owner, complaint: Option<Complaint>) {
        let row = &self.rows[project];
        let spec = match &row.overlay {
            Some(artifact) => Spec { artifact: artifact.clone(), ..row.spec.clone() },
            None => row.spec.clone(),
        };
        let intent = Intent::Run(Arc::new(spec));
        let hold = self.desired.0.get(project).and_then(|wanted| wanted.hold.clone());
        let wanted = Wanted { generation, intent, owner, secrets: BTreeMap::new(), complaint, hold, moved: row.moved };
        self.desired.0.insert(project.clone(), wanted);
    }

    pub(super) fn forget_wish(&mut self, project: &ProjectId, generation: u64) {
        if self.desired.0.get(project).is_some_and(|wanted| is_leaving(wanted) && wanted.generation == generation) {
            self.remove_rows(project);
        }
    }

    fn remove_rows(&mut self, project: &ProjectId) {
        self.desired.0.remove(project);
        self.rows.remove(project);
        self.progress.projects.remove(project);
        self.statuses.remove(project);
        self.values.retain(|(owner, _), _| owner != project);
    }

    /// Removes versions of values that neither the newest spec nor a known release names.
    pub(super) fn drop_unused_values(&mut self, project: &ProjectId, memory: &ProjectProgress) {
        for ((owner, name), versions) in &mut self.values {
            let old = versions.len().saturating_sub(1);
            if owner != project || versions[..old].iter().all(Option::is_none) {
                continue;
            }
            let named = |release: &Release| {
                release.content.env.iter().find(|(known, _)| known.as_str() == name).map(|(_, value)| value.sealed)
            };
            let used: Vec<u32> = memory.releases.values().filter_map(named).collect();
            for (at, value) in versions[..old].iter_mut().enumerate() {
                if !used.contains(&(at as u32 + 1)) {
                    *value = None;
                }
            }
        }
    }
}

fn is_leaving(wanted: &Wanted) -> bool {
    matches!(wanted.intent, Intent::Delete { .. })
}

fn makes_other_release(before: &Spec, spec: &Spec) -> bool {
    let mut bare = Spec {
        artifact: before.artifact.clone(),
        deploy: before.deploy.clone(),
        hooks: before.hooks.clone(),
        keep: before.keep,
        suspend: before.suspend.clone(),
        ..spec.clone()
    };
    let mut old = before.clone();
    for process in bare.processes.values_mut().chain(old.processes.values_mut()) {
        process.routes.clear();
    }
    bare != old
}
