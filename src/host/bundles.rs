//! A project's directories, its user, its markers and its link; and the fetches that fill its releases, beside the
//! loop.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use crate::files;
use crate::model::expected::Expected;
use crate::model::layout::{Layout, user_of};
use crate::model::names::{ProcessName, ProjectId, ReleaseNo, Sha256, Slot};
use crate::model::observed::{BundlesSeen, FetchSeen};
use crate::model::quantity::Timestamp;
use crate::model::spec::Source;
use crate::plan::FetchOrder;
use crate::port::{Bundles, Clock, PortError};
use crate::trigger::TriggerSender;
use crate::unpack::contents::{self, Place};
use crate::unpack::{Limits, Unpacked};

use super::artifacts::address::FetchRules;
use super::artifacts::fetch;
use super::artifacts::unpack::{Helper, Manifest, publish, read_manifest, unpack_into};
use super::{disk, disk_error, users};
use crate::model::reason::Reason;

/// The files of all projects.
pub struct Files {
    layout: Layout,
    works: Works,
    fetches: Fetches,
}

/// What a background fetch works with.
#[derive(Clone)]
struct Works {
    layout: Layout,
    rules: FetchRules,
    limits: Limits,
    clock: Arc<dyn Clock>,
    trigger: TriggerSender,
}

type Fetches = Arc<Mutex<BTreeMap<(ProjectId, ReleaseNo), Arc<Fetch>>>>;

/// A fetch's progress, written by its thread and read by the loop.
struct Fetch {
    stop: AtomicBool,
    bytes: AtomicU64,
    /// Total bytes; 0 if the server does not say.
    of: AtomicU64,
    unpacking: AtomicBool,
    failed: Mutex<Option<FetchSeen>>,
}

impl Files {
    /// Creates the directories that all projects share, and wipes what an earlier run left unfinished.
    pub fn open(
        layout: &Layout,
        rules: FetchRules,
        limits: Limits,
        clock: Arc<dyn Clock>,
        trigger: TriggerSender,
    ) -> Result<Self, PortError> {
        prepare_root(layout)?;
        let works = Works { layout: layout.clone(), rules, limits, clock, trigger };
        Ok(Self { layout: layout.clone(), works, fetches: Fetches::default() })
    }

    fn fetching(&self) -> MutexGuard<'_, BTreeMap<(ProjectId, ReleaseNo), Arc<Fetch>>> {
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves a path to the trash at once; its deletion may take any time.
    fn discard(&self, path: &Path) -> Result<(), PortError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        // The trash is emptied at each start, so restarting the counter causes no collision.
        let trash = self.layout.trash().join(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
        match fs::rename(path, &trash) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|e| disk_error(&format!("remove {}", path.display()), &e))?,
        }
        std::thread::spawn(move || remove_tree(&trash));
        Ok(())
    }
}

/// Creates the directories that all projects share, and wipes what an earlier run left unfinished.
pub fn prepare_root(layout: &Layout) -> Result<(), PortError> {
    for (path, mode) in layout.shared() {
        disk::directory(&path, mode)?;
    }
    for stale in
        [layout.staging(), layout.trash()].iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten())
    {
        remove_tree(&stale.path());
    }
    Ok(())
}

fn remove_tree(path: &Path) {
    let removed = if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    if let Err(error) = removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }) {
        tracing::warn!(path = %path.display(), "could not remove what is left over: {error}; the next start tries again");
    }
}

impl Bundles for Files {
    fn observe(&self, project: &ProjectId) -> Result<BundlesSeen, PortError> {
        let fronts = self.layout.fronts().join(project.as_str());
        let bundle = self.layout.bundle(project);
        Ok(BundlesSeen {
            releases: releases(&self.layout, project)?,
            link: linked(&bundle)?,
            markers: names_in(&fronts)?.iter().filter_map(|name| ProcessName::parse(name).ok()).collect(),
            user: users::find(&user_of(project))?.is_some(),
            directory: self.layout.releases(project).exists() || bundle.is_symlink(),
            readable_by_caddy: fs::metadata(self.layout.app(project))
                .is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0),
            data: self.layout.data(project).exists(),
            fronts: fronts.exists(),
        })
    }

    fn fetches(&self, project: &ProjectId) -> BTreeMap<ReleaseNo, FetchSeen> {
        let fetching = self.fetching();
        fetching
            .iter()
            .filter(|((owner, _), _)| owner == project)
            .map(|((_, release), fetch)| (*release, fetch.seen()))
            .collect()
    }

    fn prepare(&self, project: &ProjectId, open: bool) -> Result<(), PortError> {
        let data = self.layout.data(project);
        let (uid, gid) = users::make(&user_of(project), &data)?;
        let owned = |path: &Path, uid: Option<u32>| {
            chown(path, uid, Some(gid.as_raw())).map_err(|e| disk_error(&format!("give away {}", path.display()), &e))
        };
        disk::directory(&self.layout.app(project), if open { 0o751 } else { 0o750 })?;
        owned(&self.layout.app(project), None)?;
        disk::directory(&self.layout.releases(project), 0o755)?;
        disk::directory(&data, 0o700)?;
        owned(&data, Some(uid.as_raw()))?;
        disk::directory(&self.layout.fronts().join(project.as_str()), 0o755)
    }

    fn fetch(&self, project: &ProjectId, order: &FetchOrder) -> Result<(), PortError> {
        let fetch = Arc::new(Fetch::new());
        let key = (project.clone(), order.release);
        self.fetching().insert(key.clone(), fetch.clone());
        let (works, fetches, order) = (self.works.clone(), self.fetches.clone(), order.clone());
        let run = move || {
            let done = works.run(&key.0, &order, &fetch);
            match done {
                // The release on disk shows the rest.
                Ok(()) => drop(fetches.lock().unwrap_or_else(PoisonError::into_inner).remove(&key)),
                Err(error) => fetch.fail(&error, &*works.clock),
            }
            works.trigger.changed();
        };
        std::thread::Builder::new()
            .name("fetch".into())
            .spawn(run)
            .map(|_| ())
            .map_err(|e| disk_error("begin a fetch", &e))
    }

    fn cancel(&self, project: &ProjectId, release: ReleaseNo) {
        if let Some(fetch) = self.fetching().remove(&(project.clone(), release)) {
            fetch.stop.store(true, Ordering::Relaxed);
        }
    }

    fn point(&self, project: &ProjectId, process: &ProcessName, slot: Slot) -> Result<(), PortError> {
        let marker = self.layout.marker(project, process);
        match slot {
            Slot::A => disk::remove(&marker),
            Slot::B => disk::replace(&marker, b"", 0o644),
        }
    }

    fn link(&self, project: &ProjectId, release: ReleaseNo) -> Result<(), PortError> {
        let (app, bundle) = (self.layout.app(project), self.layout.bundle(project));
        let beside = app.join(".bundle.part");
        let target = PathBuf::from("releases").join(release.to_string());
        disk::remove(&beside)?;
        symlink(target, &beside)
            .and_then(|()| fs::rename(&beside, &bundle))
            .and_then(|()| files::sync(&app))
            .map_err(|e| disk_error(&format!("link {}", bundle.display()), &e))
    }

    fn remove_release(&self, project: &ProjectId, release: ReleaseNo) -> Result<(), PortError> {
        self.discard(&self.layout.release(project, release))
    }

    fn artifacts(&self) -> Result<BTreeMap<Sha256, Timestamp>, PortError> {
        let directory = self.layout.artifacts();
        let found = names_in(&directory)?.into_iter().filter_map(|name| {
            let came = fs::symlink_metadata(directory.join(&name)).ok()?.modified().ok()?;
            let since = came.duration_since(UNIX_EPOCH).ok()?;
            Some((Sha256::parse(&name).ok()?, Timestamp(u64::try_from(since.as_millis()).ok()?)))
        });
        Ok(found.collect())
    }

    fn remove_artifact(&self, sha256: &Sha256) -> Result<(), PortError> {
        disk::remove(&self.layout.artifacts().join(sha256.as_str()))
    }

    fn remove_all(&self, project: &ProjectId, keep_data: bool) -> Result<(), PortError> {
        self.fetching()
            .iter()
            .filter(|((owner, _), _)| owner == project)
            .for_each(|(_, fetch)| fetch.stop.store(true, Ordering::Relaxed));
        self.fetching().retain(|(owner, _), _| owner != project);
        self.discard(&self.layout.fronts().join(project.as_str()))?;
        if keep_data {
            disk::remove(&self.layout.bundle(project))?;
            return self.discard(&self.layout.releases(project));
        }
        self.discard(&self.layout.app(project))?;
        users::remove(&user_of(project))
    }
}

fn names_in(directory: &Path) -> Result<Vec<String>, PortError> {
    match fs::read_dir(directory) {
        Ok(entries) => {
            Ok(entries.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(disk_error(&format!("read {}", directory.display()), &error)),
    }
}

/// A release exists once its manifest does: the manifest is written last.
fn releases(layout: &Layout, project: &ProjectId) -> Result<BTreeMap<ReleaseNo, Sha256>, PortError> {
    let directory = layout.releases(project);
    let found = names_in(&directory)?.into_iter().filter_map(|name| {
        let manifest = read_manifest(&directory.join(&name))?;
        Some((ReleaseNo(name.parse().ok()?), manifest.sha256))
    });
    Ok(found.collect())
}

/// An unreadable link is not a missing one.
fn linked(bundle: &Path) -> Result<Option<ReleaseNo>, PortError> {
    match fs::read_link(bundle) {
        Ok(target) => Ok(numbered(&target)),
        // Missing, or a foreign file or directory in its place.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => Ok(None),
        Err(error) => Err(disk_error(&format!("read {}", bundle.display()), &error)),
    }
}

fn numbered(target: &Path) -> Option<ReleaseNo> {
    target.file_name()?.to_str()?.parse().ok().map(ReleaseNo)
}

impl Fetch {
    fn new() -> Self {
        Self {
            stop: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            of: AtomicU64::new(0),
            unpacking: AtomicBool::new(false),
            failed: Mutex::new(None),
        }
    }

    fn seen(&self) -> FetchSeen {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        failed.unwrap_or_else(|| FetchSeen::Running {
            bytes: self.bytes.load(Ordering::Relaxed),
            of: Some(self.of.load(Ordering::Relaxed)).filter(|of| *of > 0),
            unpacking: self.unpacking.load(Ordering::Relaxed),
        })
    }

    fn fail(&self, error: &PortError, clock: &dyn Clock) {
        let failed = FetchSeen::Failed { at: clock.now(), error: error.clone() };
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
    }
}

impl Works {
    fn run(&self, project: &ProjectId, order: &FetchOrder, fetch: &Fetch) -> Result<(), PortError> {
        let want = order.source.sha256().or(order.sha256.as_ref());
        // What is already here is not fetched again, so a rollback does not depend on the network.
        let here = want.and_then(|want| self.artifact_named(want.as_str(), Some(want)).ok());
        let (artifact, sha256) = match (here, &order.source) {
            (Some(here), _) => here,
            (None, Source::Url { url, .. }) => self.artifact_at(url, want, fetch)?,
            (None, Source::File { name, .. }) => {
                self.keep(project, order, self.artifact_named(name.as_str(), want)?)?
            }
        };
        fetch.unpacking.store(true, Ordering::Relaxed);
        self.trigger.changed();
        self.unpack(project, order, &artifact, sha256)
    }

    fn artifact_at(&self, url: &str, want: Option<&Sha256>, fetch: &Fetch) -> Result<(PathBuf, Sha256), PortError> {
        let seen = |bytes, of: Option<u64>| {
            fetch.bytes.store(bytes, Ordering::Relaxed);
            fetch.of.store(of.unwrap_or(0), Ordering::Relaxed);
        };
        let fetched = fetch::fetch(url, want, &self.rules, &self.layout.staging(), &seen, &fetch.stop)?;
        let kept = self.layout.artifacts().join(fetched.sha256.as_str());
        fs::rename(&fetched.path, &kept)
            .and_then(|()| files::sync(&self.layout.artifacts()))
            .map_err(|e| disk_error(&format!("keep artifact {}", fetched.sha256), &e))?;
        Ok((kept, fetched.sha256))
    }

    fn artifact_named(&self, name: &str, want: Option<&Sha256>) -> Result<(PathBuf, Sha256), PortError> {
        let path = self.layout.artifacts().join(name);
        let is_file = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file());
        if !is_file {
            let message = format!(
                "there is no artifact {name} in {}; upload it, or name a url",
                self.layout.artifacts().display()
            );
            return Err(PortError::permanent(Reason::ArtifactFailed, message));
        }
        let (found, _) = fetch::hash_file(&path).map_err(|e| disk_error(&format!("read artifact {name}"), &e))?;
        match want {
            Some(want) if *want != found => Err(PortError::permanent(
                Reason::HashMismatch,
                format!("artifact {name} hashes to {found}, wanted {want}"),
            )),
            _ => Ok((path, found)),
        }
    }

    /// Keeps a named file under its digest too: its owner may replace or remove it, and its content may be wanted
    /// again.
    fn keep(
        &self,
        project: &ProjectId,
        order: &FetchOrder,
        (path, sha256): (PathBuf, Sha256),
    ) -> Result<(PathBuf, Sha256), PortError> {
        let kept = self.layout.artifacts().join(sha256.as_str());
        if path != kept {
            let (what, staging) = (format!("keep artifact {sha256}"), self.layout.staging());
            let bytes = fs::metadata(&path).map_err(|e| disk_error(&what, &e))?.len();
            if let Some(missing) = fetch::room(&staging, bytes).map_err(|e| disk_error(&what, &e))? {
                return Err(PortError::transient(Reason::DiskFull, format!("could not {what}: {missing}")));
            }
            let copy = staging.join(format!("{project}-r{}.artifact", order.release));
            fs::copy(&path, &copy)
                .and_then(|_| fs::rename(&copy, &kept))
                .and_then(|()| files::sync(&self.layout.artifacts()))
                .map_err(|e| disk_error(&what, &e))?;
        }
        Ok((kept, sha256))
    }

    fn unpack(
        &self,
        project: &ProjectId,
        order: &FetchOrder,
        artifact: &Path,
        sha256: Sha256,
    ) -> Result<(), PortError> {
        let (uid, gid) = users::make_unpacker()?;
        let staging = self.layout.staging().join(format!("{project}-r{}", order.release));
        remove_tree(&staging);
        disk::directory(&staging, 0o711)?;
        let (tree, helper) = (staging.join("tree"), Helper::this_program(uid.as_raw(), gid.as_raw()));
        let unpacked = unpack_into(artifact, &staging, &helper, &self.limits);
        let fits = unpacked.and_then(|unpacked| has_what_is_expected(&tree, &order.expected, &unpacked));
        let done = fits.and_then(|()| {
            let bytes = fs::metadata(artifact).map(|meta| meta.len()).unwrap_or_default();
            let manifest = Manifest { project: project.clone(), release: order.release, sha256, bytes };
            publish(&tree, &self.layout.releases(project), order.release.0, &manifest)
        });
        // After a failure too: what a bomb left is as large as the limits allow.
        remove_tree(&staging);
        done
    }
}

/// A release that lacks what its processes name is rejected here, before anything starts.
fn has_what_is_expected(tree: &Path, expected: &Expected, unpacked: &Unpacked) -> Result<(), PortError> {
    let place = Place::Server { stripped: unpacked.stripped.as_deref() };
    contents::lacks(tree, expected, &place).map_or(Ok(()), |why| Err(PortError::permanent(Reason::ArtifactFailed, why)))
}
