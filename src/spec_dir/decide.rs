//! Decides what an observation of the watched directory means. Pure: what the files hold, the desired state and earlier
//! observations go in; what to write comes out. A missing file is the weakest of all evidence, so a removal takes two
//! observations, an unchanged directory and a small number.

mod host;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::desired::{Desired, DesiredServices, HeldUntil, Intent, Owner, Refusal, RefusalKind};
use crate::model::names::ProjectId;
use crate::model::services::{Service, Version};

/// How long before a file goes missing its copy under a new name may appear: editors copy first.
const TOGETHER: Duration = Duration::from_secs(10);
/// How long a file must be missing before that means anything.
pub const GONE_FOR: Duration = Duration::from_secs(2);
/// How long a file must be invalid before that is reported: editors and copies write in pieces.
pub const WRONG_FOR: Duration = Duration::from_millis(500);
/// The key of the directory itself among the file errors.
pub const DIRECTORY: &str = ".";

/// The SHA-256 of a file.
pub type Digest = [u8; 32];

/// An observation of the directory.
#[derive(Debug, Clone)]
pub enum Listing {
    /// It is missing or unreadable, and why.
    Lost(String),
    Read {
        /// The directory's identity; another directory under the same path has another one.
        identity: String,
        /// By name.
        files: BTreeMap<String, File>,
    },
}

/// A file in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// None if the bytes were not read.
    pub digest: Option<Digest>,
    pub holds: Holds,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holds {
    Spec(ProjectId),
    Host(BTreeMap<Service, Version>),
    /// Host services that cannot be used: what is wrong, and how to fix it.
    BrokenHost(String),
    /// Neither a valid spec nor valid host services.
    Nothing {
        /// The project that it names nevertheless.
        named: Option<ProjectId>,
        /// What is wrong, and how to fix it.
        why: String,
    },
}

/// What earlier observations left.
#[derive(Debug, Clone, Default)]
pub struct Prior {
    /// The directory that the desired state came from; none if it was never recorded.
    pub identity: Option<String>,
    /// What was written from each file since the agent started.
    pub taken: BTreeMap<String, (ProjectId, Digest)>,
    pub doubts: Doubts,
}

/// Suspicions that only time settles. The times are when each began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doubts {
    /// The projects whose file is missing.
    pub absent: BTreeMap<ProjectId, Duration>,
    /// The file with the host's services is missing.
    pub host_absent: Option<Duration>,
    /// The directory itself cannot be read.
    pub lost: Option<Duration>,
    /// The invalid files.
    pub broken: BTreeMap<String, Duration>,
    /// The files that claim another file's project.
    pub contesting: BTreeSet<String>,
}

/// A write to the desired stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Apply a file's spec.
    Put(ProjectId, String),
    /// Let a file take over the project of a missing one.
    Adopt {
        project: ProjectId,
        from: Owner,
        to: Owner,
    },
    /// Record why a project's file is not applied; none clears it.
    SetRefusal(ProjectId, Owner, Option<Refusal>),
    Delete(ProjectId, Owner),
    PutService {
        service: Service,
        version: Version,
        file: String,
        /// The previous owner, whose file is missing.
        heir_of: Option<Owner>,
    },
    DropService(Service, Owner),
    /// Record why a service's removal is held back; none clears it.
    SetServiceRefusal(Service, Owner, Option<Refusal>),
    /// Record the directory's identity.
    Note(String),
}

/// The result of an observation.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// To be carried out in this order.
    pub decisions: Vec<Decision>,
    /// Errors of files, by name.
    pub troubles: BTreeMap<String, String>,
    /// What only another observation will settle.
    pub doubts: Doubts,
    /// When that observation is due, if nothing changes before.
    pub rescan_at: Option<Duration>,
}

/// Decides what to write after an observation of the directory.
pub fn decide(
    listing: &Listing,
    known: &Desired,
    services: &DesiredServices,
    prior: &Prior,
    now: Duration,
    prune_max: usize,
) -> Verdict {
    let verdict = Verdict::default();
    let (holders, contested) = (BTreeMap::new(), BTreeMap::new());
    let mut decider = Decider { known, services, prior, now, verdict, holders, contested };
    match listing {
        Listing::Lost(why) => decider.lost(why),
        Listing::Read { identity, files } => {
            decider.keep_holders(files);
            decider.take_specs(files);
            let hostless = decider.take_host(files);
            decider.judge_broken(files);
            decider.judge_absent(files, identity, prune_max, &hostless);
        }
    }
    decider.verdict
}

struct Decider<'a> {
    known: &'a Desired,
    services: &'a DesiredServices,
    prior: &'a Prior,
    now: Duration,
    verdict: Verdict,
    /// The file that owns each project now.
    holders: BTreeMap<ProjectId, String>,
    /// The files that claim another owner's project.
    contested: BTreeMap<ProjectId, Vec<String>>,
}

/// Who may own a project, from one file's point of view.
enum Claim {
    /// This file owns it already.
    Mine,
    /// The project does not exist yet.
    Free,
    /// Its owner's file is missing.
    Left(Owner),
    /// Another owner keeps it.
    Taken(Owner),
    /// It may not be claimed now, and why.
    No(String),
}

impl Decider<'_> {
    /// A missing directory says nothing about its files: how long each is missing counts from the directory's return.
    fn lost(&mut self, why: &str) {
        self.verdict.troubles.insert(DIRECTORY.into(), why.to_owned());
        let since = self.prior.doubts.lost.unwrap_or(self.now);
        let old = self.prior.doubts.clone();
        self.verdict.doubts = Doubts { absent: BTreeMap::new(), host_absent: None, lost: Some(since), ..old };
        if self.now < since + GONE_FOR {
            return self.rescan_by(since + GONE_FOR);
        }
        for (project, owner) in self.running_from_files() {
            self.refuse_prune(&project, &owner, why);
        }
        let hostless = self.services_from_files().collect::<Vec<_>>();
        self.refuse_drops(&hostless, why);
    }

    /// A known file keeps its project, even while it cannot be read.
    fn keep_holders(&mut self, files: &BTreeMap<String, File>) {
        for (project, wanted) in &self.known.0 {
            let Owner::File(name) = &wanted.owner else { continue };
            let stands = files.get(name).is_some_and(|file| match &file.holds {
                Holds::Spec(claimed) => claimed == project,
                Holds::Nothing { .. } => true,
                Holds::Host(_) | Holds::BrokenHost(_) => false,
            });
            if stands {
                self.holders.insert(project.clone(), name.clone());
            }
        }
    }

    fn take_specs(&mut self, files: &BTreeMap<String, File>) {
        let of_api = self.known.0.iter().filter(|(_, wanted)| wanted.owner == Owner::Api && wanted.spec().is_some());
        let mut sound: Vec<(ProjectId, Owner)> = of_api.map(|(project, _)| (project.clone(), Owner::Api)).collect();
        for (name, file) in files {
            if let (Holds::Spec(project), Some(digest)) = (&file.holds, &file.digest)
                && self.claim(name, project)
            {
                self.take_spec(name, project, digest);
                sound.push((project.clone(), Owner::File(name.clone())));
            }
        }
        // Nothing is wrong with these, except that another file may claim them too.
        for (project, owner) in sound {
            let refusal = self.contested.get(&project).map(|files| conflict(files, &owner));
            self.set_refusal(&project, &owner, refusal);
        }
    }

    fn take_spec(&mut self, name: &str, project: &ProjectId, digest: &Digest) {
        let wanted = self.known.0.get(project);
        let runs = wanted.is_some_and(|wanted| wanted.spec().is_some());
        let taken = self.prior.taken.get(name).is_some_and(|(of, as_of)| of == project && as_of == digest);
        if !(runs && taken) {
            self.verdict.decisions.push(Decision::Put(project.clone(), name.to_owned()));
        }
    }

    /// Makes this file a project's owner, if allowed; otherwise says who owns it.
    fn claim(&mut self, name: &str, project: &ProjectId) -> bool {
        let to = Owner::File(name.to_owned());
        match self.standing(name, project) {
            Claim::No(why) => {
                self.verdict.troubles.insert(name.to_owned(), why);
                return false;
            }
            Claim::Taken(owner) => {
                let cure = match owner {
                    Owner::File(_) => "remove one of the two files",
                    Owner::Api => "delete it there first, or change it there",
                };
                self.verdict.troubles.insert(name.to_owned(), format!("project {project} belongs to {owner}; {cure}"));
                self.contested.entry(project.clone()).or_default().push(name.to_owned());
                return false;
            }
            Claim::Left(from) => {
                self.verdict.decisions.push(Decision::Adopt { project: project.clone(), from, to });
            }
            Claim::Mine | Claim::Free => {}
        }
        self.holders.insert(project.clone(), name.to_owned());
        true
    }

    fn standing(&mut self, name: &str, project: &ProjectId) -> Claim {
        let wanted = self.known.0.get(project);
        if matches!(wanted.map(|wanted| &wanted.intent), Some(Intent::Delete { .. })) {
            self.rescan_by(self.now + GONE_FOR);
            return Claim::No(format!("project {project} is being deleted; the file is taken once it is gone"));
        }
        if let Some(holder) = self.holders.get(project).filter(|holder| *holder != name) {
            self.verdict.doubts.contesting.insert(name.to_owned());
            return Claim::Taken(Owner::File(holder.clone()));
        }
        match wanted.map(|wanted| &wanted.owner) {
            None => Claim::Free,
            Some(Owner::Api) => Claim::Taken(Owner::Api),
            Some(Owner::File(owner)) if owner == name => Claim::Mine,
            Some(left) => self.inherit(name, project, left.clone()),
        }
    }

    /// A renamed file takes over at once. A file that claimed another's project before waits until that file is really
    /// gone: an editor may be about to put it back.
    fn inherit(&mut self, name: &str, project: &ProjectId, from: Owner) -> Claim {
        if !self.prior.doubts.contesting.contains(name) || self.gone_for_long(project) {
            return Claim::Left(from);
        }
        self.verdict.doubts.contesting.insert(name.to_owned());
        Claim::No(format!("project {project} belongs to {from}, which is gone; this file is about to take over"))
    }

    fn judge_broken(&mut self, files: &BTreeMap<String, File>) {
        for (name, file) in files {
            match &file.holds {
                Holds::Nothing { why, .. } if self.has_services(name) => self.judge_broken_host(name, why),
                Holds::Nothing { named, why } => self.judge_file(name, named.as_ref(), why),
                Holds::BrokenHost(why) => self.judge_broken_host(name, why),
                Holds::Spec(_) | Holds::Host(_) => {}
            }
        }
    }

    fn judge_file(&mut self, name: &str, named: Option<&ProjectId>, why: &str) {
        if !self.wrong_for_long(name) {
            self.hold_named(name, named);
            return;
        }
        let message = format!("{name}: {why}");
        let mut projects = self.projects_of(name);
        if projects.is_empty() {
            projects.extend(self.guess(name, named).filter(|project| self.claim(name, project)));
        }
        self.verdict.troubles.insert(name.to_owned(), why.to_owned());
        let refusal = Refusal { kind: RefusalKind::SpecInvalid, message };
        for project in projects {
            self.set_refusal(&project, &Owner::File(name.to_owned()), Some(refusal.clone()));
        }
    }

    /// Tells whether a file was invalid for long enough; if not, schedules another observation.
    fn wrong_for_long(&mut self, name: &str) -> bool {
        let since = self.prior.doubts.broken.get(name).copied().unwrap_or(self.now);
        self.verdict.doubts.broken.insert(name.to_owned(), since);
        let long = self.now >= since + WRONG_FOR;
        if !long {
            self.rescan_by(since + WRONG_FOR);
        }
        long
    }

    fn was_wrong_for_long(&self, name: &str) -> bool {
        self.verdict.doubts.broken.get(name).is_some_and(|since| self.now >= *since + WRONG_FOR)
    }

    /// A renamed and half-written file still stands for the project that it names.
    fn hold_named(&mut self, name: &str, named: Option<&ProjectId>) {
        if let Some(project) = self.guess(name, named) {
            self.holders.entry(project).or_insert_with(|| name.to_owned());
        }
    }

    /// Returns the project that an invalid file is most likely about.
    fn guess(&self, name: &str, named: Option<&ProjectId>) -> Option<ProjectId> {
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        named.cloned().or_else(|| stem.parse().ok())
    }

    fn projects_of(&self, name: &str) -> Vec<ProjectId> {
        let owned = self.known.0.iter().filter(|(_, wanted)| {
            !matches!(wanted.intent, Intent::Delete { .. })
                && matches!(&wanted.owner, Owner::File(file) if file == name)
        });
        owned.map(|(project, _)| project.clone()).collect()
    }

    fn judge_absent(
        &mut self,
        files: &BTreeMap<String, File>,
        identity: &str,
        prune_max: usize,
        hostless: &[(Service, Owner)],
    ) {
        self.drop_placeholders();
        let absent: Vec<(ProjectId, Owner)> =
            self.running_from_files().into_iter().filter(|(project, _)| !self.holders.contains_key(project)).collect();
        let moved = self.prior.identity.as_deref() != Some(identity);
        if absent.is_empty() && hostless.is_empty() && moved {
            self.verdict.decisions.push(Decision::Note(identity.to_owned()));
        }
        // The services of one file count as one project.
        let guard = match absent.len() + usize::from(!hostless.is_empty()) {
            _ if moved => Some("the watched directory is not the one that was there before".to_owned()),
            count if count > prune_max => {
                Some(format!("{count} projects would go at once, and prune.max is {prune_max}"))
            }
            _ => None,
        };
        for (project, owner) in absent {
            let stranger = self.stranger(files, self.prior.doubts.absent.get(&project).copied());
            self.judge_removal(project, &owner, guard.as_deref(), stranger);
        }
        if !hostless.is_empty() && self.host_gone_for_long() {
            let stranger = self.stranger(files, self.prior.doubts.host_absent);
            self.judge_drops(hostless, guard.as_deref(), stranger);
        }
    }

    fn judge_removal(&mut self, project: ProjectId, owner: &Owner, guard: Option<&str>, stranger: Option<&str>) {
        if !self.gone_for_long(&project) {
            return;
        }
        match (guard, stranger) {
            (Some(why), _) => self.refuse_prune(&project, owner, why),
            // What was refused stays refused: files that return one by one must not make the last one's removal pass.
            (None, _) if self.prior_refused(&project) => {}
            (None, Some(file)) if self.was_wrong_for_long(file) => {
                let cure = format!("Mend {file}, or run `zexio sync {project} --prune` to remove the project");
                let refusal = held_back(owner, HeldUntil::FileReadable, &may_be_it(file), &cure);
                self.set_refusal(&project, owner, Some(refusal));
            }
            (None, Some(_)) => {}
            (None, None) => self.verdict.decisions.push(Decision::Delete(project, owner.clone())),
        }
    }

    /// Returns an unreadable file of unknown content that was not there before another one went missing: it may be that
    /// one under a new name.
    fn stranger<'f>(&self, files: &'f BTreeMap<String, File>, missed: Option<Duration>) -> Option<&'f str> {
        let missed = missed.unwrap_or(self.now);
        let is_new = |name: &String| self.prior.doubts.broken.get(name).is_none_or(|since| *since + TOGETHER >= missed);
        let runs = |project: &ProjectId| self.known.0.get(project).is_some_and(|wanted| wanted.spec().is_some());
        let is_known = |name: &String| {
            self.has_services(name) || self.holders.iter().any(|(project, holder)| holder == name && runs(project))
        };
        let unread = files.iter().filter(|(_, file)| matches!(file.holds, Holds::Nothing { named: None, .. }));
        unread.map(|(name, _)| name).find(|name| is_new(name) && !is_known(name)).map(String::as_str)
    }

    /// A project that never had a spec goes with its file.
    fn drop_placeholders(&mut self) {
        let empty: Vec<(ProjectId, Owner)> = self
            .known
            .0
            .iter()
            .filter(|(project, wanted)| {
                matches!((&wanted.intent, &wanted.owner), (Intent::Nothing, Owner::File(_)))
                    && !self.holders.contains_key(project)
            })
            .map(|(project, wanted)| (project.clone(), wanted.owner.clone()))
            .collect();
        for (project, owner) in empty {
            if self.gone_for_long(&project) {
                self.set_refusal(&project, &owner, None);
            }
        }
    }

    fn running_from_files(&self) -> Vec<(ProjectId, Owner)> {
        let from_files =
            self.known.0.iter().filter(|(_, wanted)| wanted.spec().is_some() && matches!(wanted.owner, Owner::File(_)));
        from_files.map(|(project, wanted)| (project.clone(), wanted.owner.clone())).collect()
    }

    fn prior_refused(&self, project: &ProjectId) -> bool {
        waits_for_the_operator(self.known.0.get(project).and_then(|wanted| wanted.refusal.as_ref()))
    }

    fn refuse_prune(&mut self, project: &ProjectId, owner: &Owner, why: &str) {
        if self.prior_refused(project) {
            return;
        }
        let cure = "Restore the file, or run `zexio sync --prune` to remove the project";
        self.set_refusal(project, owner, Some(held_back(owner, HeldUntil::Confirmed, why, cure)));
    }

    /// Tells whether a project's file was missing for long enough; if not, schedules another observation.
    fn gone_for_long(&mut self, project: &ProjectId) -> bool {
        let since = self.prior.doubts.absent.get(project).copied().unwrap_or(self.now);
        self.verdict.doubts.absent.insert(project.clone(), since);
        let long = self.now >= since + GONE_FOR;
        if !long {
            self.rescan_by(since + GONE_FOR);
        }
        long
    }

    /// Records a refusal only if that changes something.
    fn set_refusal(&mut self, project: &ProjectId, owner: &Owner, refusal: Option<Refusal>) {
        let standing = self.known.0.get(project);
        let placeholder_goes = refusal.is_none() && standing.is_some_and(|w| w.intent == Intent::Nothing);
        if standing.and_then(|wanted| wanted.refusal.as_ref()) != refusal.as_ref() || placeholder_goes {
            self.verdict.decisions.push(Decision::SetRefusal(project.clone(), owner.clone(), refusal));
        }
    }

    fn rescan_by(&mut self, moment: Duration) {
        self.verdict.rescan_at = Some(self.verdict.rescan_at.map_or(moment, |other| other.min(moment)));
    }
}

fn file_of(owner: &Owner) -> Option<&str> {
    match owner {
        Owner::File(name) => Some(name),
        Owner::Api => None,
    }
}

/// Tells whether a refusal holds a removal back until the operator confirms it.
fn waits_for_the_operator(refusal: Option<&Refusal>) -> bool {
    let kind = refusal.map(|refusal| refusal.kind);
    kind == Some(RefusalKind::PruneRefused { until: HeldUntil::Confirmed })
}

fn may_be_it(file: &str) -> String {
    format!("{file} cannot be read and may be that file under a new name")
}

/// Says that something stays although its file is missing.
fn held_back(owner: &Owner, until: HeldUntil, why: &str, cure: &str) -> Refusal {
    let file = file_of(owner).unwrap_or_default();
    let message = format!("{file} is gone, but {why}; nothing was removed. {cure}");
    Refusal { kind: RefusalKind::PruneRefused { until }, message }
}

/// Says that files claim a project that another owner keeps.
fn conflict(files: &[String], owner: &Owner) -> Refusal {
    let claim = if files.len() == 1 { "claims" } else { "claim" };
    let (whose, cure) = match owner {
        Owner::File(holder) if files.len() == 1 => (format!("file {holder}"), "remove one of the two"),
        Owner::File(holder) => (format!("file {holder}"), "remove all but one of them"),
        Owner::Api => ("the API".to_owned(), "remove the file, or delete the project there first"),
    };
    let message = format!("{} {claim} this project too, which belongs to {whose}; {cure}", files.join(", "));
    Refusal { kind: RefusalKind::Conflict, message }
}

#[cfg(test)]
mod tests;
