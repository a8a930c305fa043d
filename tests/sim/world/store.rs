//! The doors' side of the store: the rules of `store/wishes.rs` over a plain map. A life over the real database would
//! take many times as long; whoever changes the rules there changes them here.

use std::collections::BTreeMap;

use zexio::model::desired::{Hold, Intent, Owner, Wanted};
use zexio::model::names::{ArtifactName, ProjectId};
use zexio::model::spec::{Artifact, Document, Sealed, Spec};
use zexio::port::{Put, WishError};

use super::Machine;

/// A project's row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub spec: Spec,
    pub overlay: Option<Artifact>,
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
            Some(wanted) if wanted.spec().is_none() && wanted.hold_at(self.now).is_none() => {
                return Err(WishError::Deleting(project));
            }
            Some(wanted) if wanted.owner != *owner => {
                return Err(WishError::Owned { project, owner: wanted.owner.clone() });
            }
            _ if expect.is_some_and(|expected| expected != generation) => return Err(WishError::Moved(generation)),
            _ => {}
        }
        let (created, taken_back) = (old.is_none(), old.is_some_and(|wanted| wanted.spec().is_none()));
        let values = &mut self.values;
        let spec = document.try_map_env(|name, value| {
            let known = values.entry((project.clone(), name.to_string())).or_default();
            if known.last().is_none_or(|newest| newest != value.open()) {
                known.push(value.open().to_owned());
            }
            Ok::<_, WishError>(Sealed { sealed: known.len() as u32 })
        })?;
        let before = self.rows.get(&project);
        let overlay = before.and_then(|row| self.overlay_after(&project, row, &spec));
        let row = Row { spec, overlay };
        let changed = before != Some(&row) || taken_back;
        let generation = if changed { generation + 1 } else { generation };
        self.rows.insert(project.clone(), row);
        self.want(&project, generation, owner.clone());
        Ok(Put { generation, created, changed })
    }

    /// Moves a project's artifact without its spec.
    ///
    /// # Errors
    /// There is no such project, or it is being deleted.
    pub fn overlay(&mut self, project: &ProjectId, artifact: &Artifact) -> Result<Put, WishError> {
        let wanted = self.desired.0.get(project).ok_or_else(|| WishError::Unknown(project.clone()))?;
        let (generation, owner) = (wanted.generation, wanted.owner.clone());
        if wanted.spec().is_none() {
            return Err(WishError::Deleting(project.clone()));
        }
        let row = self.rows.get_mut(project).expect("what runs has a row");
        let moved = Artifact { updates: row.spec.artifact.updates, ..artifact.clone() };
        let overlay = (moved != row.spec.artifact).then_some(moved);
        let changed = overlay != row.overlay;
        row.overlay = overlay;
        let generation = if changed { generation + 1 } else { generation };
        self.want(project, generation, owner);
        Ok(Put { generation, created: false, changed })
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
        if wanted.spec().is_some() {
            wanted.generation += 1;
            wanted.intent = Intent::Delete { keep_data };
            self.rows.get_mut(project).expect("what runs has a row").overlay = None;
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

    fn want(&mut self, project: &ProjectId, generation: u64, owner: Owner) {
        let row = &self.rows[project];
        let spec = match &row.overlay {
            Some(artifact) => Spec { artifact: artifact.clone(), ..row.spec.clone() },
            None => row.spec.clone(),
        };
        let intent = Intent::Run(Box::new(spec));
        let hold = self.desired.0.get(project).and_then(|wanted| wanted.hold.clone());
        let wanted = Wanted { generation, intent, owner, secrets: BTreeMap::new(), complaint: None, hold };
        self.desired.0.insert(project.clone(), wanted);
    }

    pub(super) fn forget_wish(&mut self, project: &ProjectId, generation: u64) {
        let is_it = |wanted: &Wanted| matches!(wanted.intent, Intent::Delete { .. }) && wanted.generation == generation;
        if self.desired.0.get(project).is_some_and(is_it) {
            self.desired.0.remove(project);
            self.rows.remove(project);
            self.progress.projects.remove(project);
            self.statuses.remove(project);
            self.values.retain(|(owner, _), _| owner != project);
        }
    }
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
