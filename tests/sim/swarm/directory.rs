//! The watched directory in the swarm: files that are written, removed, lost at once, and the real decision on what a
//! look at them means. Whatever it decides goes through the doors' rules like every other wish.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use zexio::model::desired::{HeldUntil, Owner, Refusal, RefusalKind};
use zexio::model::names::ProjectId;
use zexio::model::services::{Service, Version};
use zexio::model::spec::Document;
use zexio::spec_dir::decide::{Decision, File, GONE_FOR, Holds, Listing, Prior, decide};

use super::operator::Operator;
use super::oracle::Promise;
use super::services;
use crate::chance::Chance;
use crate::world::Machine;

/// The file that sets the host's services.
const HOST: &str = "host.yaml";
/// A file of which nobody can tell what it is about, by its name neither.
const STRANGER: &str = "A Note.yaml";
/// How long until the next try after something could not be read or written.
const RETRY: u64 = 5_000;

/// The directory and the door that watches it.
pub struct Directory {
    files: BTreeMap<String, Text>,
    /// What its owner wrote last, wherever it is now.
    saved: BTreeMap<String, Text>,
    /// It cannot be read.
    lost: bool,
    /// Another directory under the same path is another one.
    identity: u64,
    /// Whether it is one that never had every file that is wanted.
    strange: bool,
    prior: Prior,
    prune_max: usize,
    guarded: bool,
    /// When the door looks again by itself, on the clock that never jumps.
    pub due: Option<u64>,
    /// Since when each project's file is not there.
    absent: BTreeMap<ProjectId, u64>,
    /// Since when each file cannot be read.
    unread: BTreeMap<String, u64>,
    writes: u64,
}

/// A file's text.
#[derive(Clone)]
struct Text {
    digest: [u8; 32],
    says: Says,
}

#[derive(Clone)]
enum Says {
    Spec(Box<Document>),
    Host(BTreeMap<Service, Version>),
    /// An editor has written half of it.
    Half,
}

impl Directory {
    /// Returns an empty one; one without a guard lets any number of projects go at once.
    pub fn new(prune_max: usize, guarded: bool) -> Self {
        Self {
            files: BTreeMap::new(),
            saved: BTreeMap::new(),
            lost: false,
            identity: 1,
            strange: false,
            prior: Prior { identity: Some("1".into()), ..Prior::default() },
            prune_max,
            guarded,
            due: None,
            absent: BTreeMap::new(),
            unread: BTreeMap::new(),
            writes: 0,
        }
    }

    fn write(&mut self, name: &str, says: Says) {
        self.writes += 1;
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&self.writes.to_le_bytes());
        let text = Text { digest, says };
        self.lost = false;
        self.saved.insert(name.to_owned(), text.clone());
        self.files.insert(name.to_owned(), text);
    }

    fn remove(&mut self, name: &str) {
        self.saved.remove(name);
        self.files.remove(name);
    }

    fn listing(&self) -> Listing {
        if self.lost {
            return Listing::Lost("could not read the directory".into());
        }
        let files = self.files.iter().map(|(name, text)| {
            let holds = match &text.says {
                Says::Spec(document) => Holds::Spec(document.project.clone()),
                Says::Host(services) => Holds::Host(services.clone()),
                Says::Half => Holds::Nothing { named: None, why: "it ends in the middle".into() },
            };
            (name.clone(), File { digest: Some(text.digest), holds })
        });
        Listing::Read { identity: self.identity.to_string(), files: files.collect() }
    }

    /// Something happens to the files that nobody meant as a wish; returns what.
    fn suffer(&mut self, chance: &mut Chance) -> &'static str {
        match chance.below(8) {
            0 => {
                self.files.clear();
                "all files were removed"
            }
            1 => {
                self.lost = true;
                "the directory was lost"
            }
            2 => {
                self.files.clear();
                (self.identity, self.strange) = (self.identity + 1, true);
                "another directory took its place"
            }
            3 => {
                let kept = self.files.keys().next().cloned();
                self.files.retain(|name, _| Some(name) == kept.as_ref());
                "all files but one were removed"
            }
            4 => {
                if let Some(text) = self.files.values_mut().next() {
                    (text.says, text.digest[31]) = (Says::Half, 1);
                }
                "a file was half written"
            }
            5 => {
                self.files.insert(STRANGER.into(), Text { digest: [1; 32], says: Says::Half });
                "a file came that nobody can read"
            }
            _ => {
                self.restore();
                "the files were restored"
            }
        }
    }

    fn restore(&mut self) {
        self.lost = false;
        self.files.clone_from(&self.saved);
    }

    /// Tells which projects and whether the services would go by their files: what the operator's own count says.
    fn missing(&self, machine: &Machine) -> (BTreeSet<ProjectId>, bool) {
        let of_file = |owner: &Owner| matches!(owner, Owner::File(name) if !self.files.contains_key(name));
        let projects = machine.desired.0.iter().filter(|(_, wanted)| wanted.spec().is_some() && of_file(&wanted.owner));
        let services =
            machine.host.wanted.values().any(|wish| !crate::world::host::is_leaving(wish) && of_file(&wish.owner));
        (projects.map(|(project, _)| project.clone()).collect(), services)
    }
}

impl Operator {
    /// Writes the file of a project.
    pub fn write_file(&mut self, name: &str, document: Document, machine: &mut Machine) {
        let Some(directory) = &mut self.directory else { return };
        directory.write(name, Says::Spec(Box::new(document)));
        self.look_at_files(machine);
    }

    /// Removes the file of a project.
    pub fn remove_file(&mut self, name: &str, machine: &mut Machine) {
        let Some(directory) = &mut self.directory else { return };
        directory.remove(name);
        self.look_at_files(machine);
    }

    /// Asks for a version of a service in the file that sets them, or for none.
    pub fn set_in_host_file(&mut self, service: Service, version: Option<Version>, machine: &mut Machine) {
        let Some(directory) = &mut self.directory else { return };
        let mut services = match directory.saved.get(HOST) {
            Some(Text { says: Says::Host(services), .. }) => services.clone(),
            _ => BTreeMap::new(),
        };
        match version {
            Some(version) => drop(services.insert(service, version)),
            None => drop(services.remove(&service)),
        }
        match services.is_empty() {
            true => directory.remove(HOST),
            false => directory.write(HOST, Says::Host(services)),
        }
        self.look_at_files(machine);
    }

    /// Returns a service of which the file that sets them asks for this version.
    pub fn not_offered_in_file(&self, version: Version) -> Option<Service> {
        match &self.directory.as_ref()?.saved.get(HOST)?.says {
            Says::Host(services) => services.iter().find(|(_, asked)| **asked == version).map(|(service, _)| *service),
            Says::Spec(_) | Says::Half => None,
        }
    }

    /// Something happens to the files; returns what.
    pub fn lose_files(&mut self, machine: &mut Machine) -> &'static str {
        let Self { directory: Some(directory), chance, .. } = self else { return "nothing" };
        let what = directory.suffer(chance);
        self.look_at_files(machine);
        what
    }

    /// Brings the files back that were lost.
    pub fn restore_files(&mut self, machine: &mut Machine) {
        if let Some(directory) = &mut self.directory {
            directory.restore();
            self.look_at_files(machine);
        }
    }

    /// The door begins anew with the agent: what it had in mind is gone.
    pub fn restart_doors(&mut self, machine: &mut Machine) {
        if let Some(directory) = &mut self.directory {
            directory.prior = Prior { identity: directory.prior.identity.take(), ..Prior::default() };
            self.look_at_files(machine);
        }
    }

    /// Lets the door look if that is due.
    pub fn look_in_time(&mut self, machine: &mut Machine) {
        if self.directory.as_ref().and_then(|directory| directory.due).is_some_and(|due| due <= machine.uptime) {
            self.look_at_files(machine);
        }
    }

    fn look_at_files(&mut self, machine: &mut Machine) {
        let Some(mut directory) = self.directory.take() else { return };
        if machine.blind.store {
            directory.due = Some(machine.uptime + RETRY);
            self.directory = Some(directory);
            return;
        }
        let (missing, hostless) = directory.missing(machine);
        if missing.is_empty() && !hostless {
            directory.strange = false;
        }
        directory.absent.retain(|project, _| missing.contains(project) && !directory.lost);
        for project in missing.iter().filter(|_| !directory.lost) {
            directory.absent.entry(project.clone()).or_insert(machine.uptime);
        }
        let halves = directory.files.iter().filter(|(_, text)| matches!(text.says, Says::Half));
        let halves: BTreeSet<String> = halves.map(|(name, _)| name.clone()).collect();
        directory.unread.retain(|name, _| halves.contains(name));
        for name in halves {
            directory.unread.entry(name).or_insert(machine.uptime);
        }
        let now = Duration::from_millis(machine.uptime);
        let most = if directory.guarded { directory.prune_max } else { usize::MAX };
        let verdict = decide(&directory.listing(), &machine.desired, &machine.host.wanted, &directory.prior, now, most);
        let mut failed = false;
        for decision in &verdict.decisions {
            if let Decision::Delete(project, _) = decision {
                let count = missing.len() + usize::from(hostless);
                self.may_go(project, count, &directory, machine);
            }
            failed |= !self.carry_out(decision, &mut directory, machine);
        }
        directory.prior.doubts = verdict.doubts;
        let names: BTreeSet<String> = directory.files.keys().cloned().collect();
        if !directory.lost {
            directory.prior.taken.retain(|name, _| names.contains(name));
        }
        let retry = failed.then_some(machine.uptime + RETRY);
        let due = verdict.rescan_at.map(|due| u64::try_from(due.as_millis()).unwrap_or(u64::MAX));
        directory.due = due.into_iter().chain(retry).min();
        self.directory = Some(directory);
    }

    /// A file that is not there takes its project with it only if it is gone for a while, alone, and from the directory
    /// in which it was; what was refused once stays so.
    fn may_go(&self, project: &ProjectId, count: usize, directory: &Directory, machine: &mut Machine) {
        let Some(oracle) = &mut machine.oracle else { return };
        let long = directory
            .absent
            .get(project)
            .is_some_and(|since| machine.uptime - since >= u64::try_from(GONE_FOR.as_millis()).unwrap_or(u64::MAX));
        let refusal = machine.desired.0.get(project).and_then(|wanted| wanted.refusal.as_ref());
        // Where the operator is asked to mend another file, that ends it; where the file is to come back, nothing else.
        let refused =
            refusal.is_some_and(|refusal| refusal.kind == RefusalKind::PruneRefused { until: HeldUntil::Confirmed });
        let runs = |name: &String| {
            let mut projects = machine.desired.0.values().filter(|wanted| wanted.spec().is_some());
            let mut services = machine.host.wanted.values().filter(|wish| !crate::world::host::is_leaving(wish));
            let is_its = |owner: &Owner| matches!(owner, Owner::File(file) if file == name);
            projects.any(|wanted| is_its(&wanted.owner)) || services.any(|wish| is_its(&wish.owner))
        };
        // One that was there before is not the missed one.
        let came = |since: &u64| directory.absent.get(project).is_none_or(|missed| since >= missed);
        let stranger = directory.unread.iter().any(|(name, since)| came(since) && !runs(name));
        let known = !directory.lost && !directory.strange && !stranger;
        let holds = long && !refused && known && count <= directory.prune_max;
        oracle.check(Promise::S17, holds, || {
            format!(
                "{project} goes with its file, among {count} that are gone; long {long}, refused {refused}, unread {stranger}"
            )
        });
        oracle.reach("a project went with its file");
    }

    /// Writes what was decided; tells whether it was taken.
    fn carry_out(&mut self, decision: &Decision, directory: &mut Directory, machine: &mut Machine) -> bool {
        match decision {
            Decision::Put(project, name) => {
                let Some(Text { digest, says: Says::Spec(document) }) = directory.files.get(name) else { return true };
                let before = machine.desired.clone();
                let done = machine.put((**document).clone(), &Owner::File(name.clone()), None);
                let done = done.map(|put| put.generation);
                let taken = done.is_ok();
                if taken {
                    directory.prior.taken.insert(name.clone(), (project.clone(), *digest));
                }
                self.settle("put by file", project, done, before, machine);
                return taken;
            }
            Decision::Delete(project, owner) => self.delete_as(project, owner, false, machine),
            Decision::SetRefusal(project, owner, refusal) => set_refusal(project, owner, refusal.as_ref(), machine),
            Decision::PutService { service, version, file, heir_of } => {
                self.put_service(*service, *version, &Owner::File(file.clone()), heir_of.as_ref(), machine);
            }
            Decision::DropService(service, owner) => self.let_service_go(*service, owner, false, machine),
            Decision::SetServiceRefusal(service, owner, refusal) => {
                let before = machine.host.wanted.clone();
                machine.host.set_refusal(*service, owner, refusal.as_ref());
                if let Some(generation) = machine.host.wanted.get(service).map(|wish| wish.generation) {
                    services::settle("refusal", *service, &Ok(generation), &before, machine);
                }
            }
            Decision::Note(identity) => directory.prior.identity = Some(identity.clone()),
            Decision::Adopt { .. } => unreachable!("no file of the swarm ever gets a new name"),
        }
        true
    }

    /// Looks whether every file that is there and whole is what is wanted.
    pub fn judge_files(&self, machine: &mut Machine) {
        let Some(directory) = self.directory.as_ref().filter(|directory| !directory.lost) else { return };
        for (name, text) in &directory.files {
            let Says::Spec(document) = &text.says else { continue };
            let wanted = machine.desired.0.get(&document.project);
            let taken = wanted.is_some_and(|w| w.spec().is_some() && w.owner == Owner::File(name.clone()));
            if let Some(oracle) = &mut machine.oracle {
                oracle.check(Promise::L1, taken, || format!("{name} is there, and its project is not wanted"));
            }
        }
    }
}

/// Tells what stops a project's file from being taken.
fn set_refusal(project: &ProjectId, owner: &Owner, refusal: Option<&Refusal>, machine: &mut Machine) {
    machine.set_refusal(project, owner, refusal);
    let wanted = machine.desired.0.get(project).cloned();
    if let Some(oracle) = &mut machine.oracle {
        if let Some(refusal) = refusal {
            oracle.reach(refusal.kind.reason().name());
        }
        match wanted {
            Some(wanted) => oracle.note_asked(project, wanted),
            None => oracle.note_gone(project),
        }
    }
}
