//! Whoever asks: files, callers of the API, webhooks. Each wish is checked against the rules of the doors.

use zexio::model::desired::{Intent, OperatorSuspension, Owner};
use zexio::model::names::{ProjectId, ReleaseNo, Sha256, UnitId};
use zexio::model::quantity::{Span, Timestamp};
use zexio::model::spec::{Artifact, ArtifactFrom, Label, Source, Updates};
use zexio::port::WriteError;

use super::directory::Directory;
use super::options::Options;
use super::oracle::Promise;
use super::shape::Shape;
use crate::chance::Chance;
use crate::world::Machine;
use crate::world::apps::digest;

/// Asks for things.
pub struct Operator {
    pub chance: Chance,
    options: Options,
    own: Vec<Own>,
    /// Where those write who write files; where there is none, a file's owner is one like any other.
    pub directory: Option<Directory>,
    /// When and what is asked of services.
    services: Option<Chance>,
    /// Which processes have a strategy of their own.
    strategies: Option<Chance>,
    /// Which projects are verified, and which of their releases are not well.
    verifies: Option<Chance>,
    /// When something is asked in the middle of a pass, and how often, in a thousand.
    amid: (Chance, u64),
    /// How often it was.
    pub interrupted: u64,
}

/// What the operator has in mind with one project.
struct Own {
    project: ProjectId,
    owner: Owner,
    shape: Shape,
    artifact: Artifact,
}

/// The artifacts of projects, by what they do. Most are good.
const GOOD: [&str; 4] = ["good", "good", "late", "slow-good"];
const BAD: [&str; 6] = ["never-ready", "exits", "dies", "missing", "unmigrated", "wrong"];
/// What a verified release shows visitors; most are well at once.
const VISITED: [Option<&str>; 5] = [None, None, None, Some("unverified"), Some("verified-in-time")];

fn at(url: String) -> Artifact {
    with_digest(url, None)
}

fn with_digest(url: String, sha256: Option<Sha256>) -> Artifact {
    let from = ArtifactFrom::Source(Source::Url { url, sha256 });
    Artifact { from, version: None, updates: Updates::Webhook }
}

fn of_release(number: u32) -> Artifact {
    Artifact { from: ArtifactFrom::Release(ReleaseNo(number)), version: None, updates: Updates::Webhook }
}

fn url_of(artifact: &Artifact) -> Option<&str> {
    match artifact.source()? {
        Source::Url { url, .. } => Some(url),
        Source::File { .. } => None,
    }
}

impl Operator {
    pub fn new(mut chance: Chance, options: &Options, seed: u64, guarded: bool) -> Self {
        let later = options.later;
        let mut services = later.services.then(|| Chance::of(seed ^ 5));
        let mut files = Chance::of(seed ^ 6);
        let mut strategies = later.strategies.then(|| Chance::of(seed ^ 10));
        let mut verifies = later.verifies.then(|| Chance::of(seed ^ 12));
        let names = ["shop", "blog", "docs"];
        let own = names[..options.projects].iter().map(|name| {
            let owner = if chance.hits(300) { Owner::File(format!("{name}.yaml")) } else { Owner::Api };
            let host = if options.shared_hosts {
                chance.pick(&["a.example.com", "b.example.com"]).to_owned()
            } else {
                format!("{name}.example.com")
            };
            let mut shape = Shape::draw(options.kinds, &host, &mut chance);
            services.iter_mut().for_each(|chance| shape.need(chance));
            strategies.iter_mut().for_each(|chance| shape.differ(chance));
            verifies.iter_mut().for_each(|chance| shape.verify(chance));
            let owner = if later.directory && files.hits(600) { Owner::File(format!("{name}.yaml")) } else { owner };
            Own {
                project: ProjectId::parse(name).expect("a project"),
                owner,
                shape,
                artifact: at("https://a.example.com/good-0".into()),
            }
        });
        let own = own.collect();
        let directory = later.directory.then(|| Directory::new(later.prune_max, guarded));
        let amid = (Chance::of(seed ^ 7), later.amid);
        Self { chance, options: options.clone(), own, directory, services, strategies, verifies, amid, interrupted: 0 }
    }

    pub fn service_chance(&mut self) -> Option<&mut Chance> {
        self.services.as_mut()
    }

    /// Returns when a door looks by itself.
    pub fn due(&self) -> Option<u64> {
        self.directory.as_ref()?.due
    }

    /// Asks for something while a pass is under way.
    pub fn interrupt(&mut self, machine: &mut Machine) {
        let (chance, odds) = &mut self.amid;
        if !chance.hits(*odds) {
            return;
        }
        self.interrupted += 1;
        let services = self.services.is_some() && self.amid.0.hits(500);
        // Who is in a hurry asks twice.
        for _ in 0..1 + self.amid.0.below(2) {
            match services {
                true => self.wish_service(machine),
                false => self.wish(machine),
            }
        }
    }

    /// Interrupts no pass any more.
    pub fn calm_down(&mut self) {
        self.amid.1 = 0;
    }

    pub fn projects(&self) -> Vec<ProjectId> {
        self.own.iter().map(|own| own.project.clone()).collect()
    }

    /// Asks for one thing or another.
    pub fn wish(&mut self, machine: &mut Machine) {
        let which = self.chance.below(self.own.len() as u64) as usize;
        let options = self.options.clone();
        match self.chance.below(100) {
            0..=39 => self.deploy(which, machine),
            40..=46 => self.reshape(which, machine),
            47..=49 => self.put(which, None, machine),
            50..=69 if options.rollbacks => self.roll_back(which, machine),
            70..=76 if options.webhooks => self.bump(which, machine),
            77 if options.webhooks => self.sync(which, machine),
            78..=84 if options.suspends => self.suspend(which, machine),
            85..=91 if options.deletes => self.delete(which, machine),
            92 if options.deletes => (0..self.own.len()).for_each(|which| self.delete(which, machine)),
            93..=95 if options.strangers => self.intrude(which, machine),
            96..=97 => self.put(which, Some(7_777), machine),
            _ => self.deploy(which, machine),
        }
    }

    /// Asks for a good new release of every project that is to run; nothing is suspended any more.
    pub fn renew_all(&mut self, machine: &mut Machine) {
        for which in 0..self.own.len() {
            let own = &mut self.own[which];
            let runs = machine.desired.0.get(&own.project).is_some_and(|wanted| wanted.spec().is_some());
            if runs {
                own.shape.suspend = None;
                own.shape.renew();
                own.artifact = at(format!("https://a.example.com/good-{}", self.chance.below(1_000_000)));
                self.put(which, None, machine);
            }
        }
    }

    /// Goes back with every project that has an earlier release on disk.
    pub fn go_back_all(&mut self, machine: &mut Machine) {
        for which in 0..self.own.len() {
            let project = self.own[which].project.clone();
            let runs = machine.desired.0.get(&project).is_some_and(|wanted| wanted.spec().is_some());
            let earlier = machine.oracle.as_ref().and_then(|oracle| oracle.earlier(machine, &project));
            if let Some(number) = earlier.filter(|_| runs) {
                self.overlay(which, &of_release(number.0), machine);
            }
        }
    }

    /// Goes back to the release of a unit, if it ever was good.
    pub fn go_back(&mut self, unit: &UnitId, machine: &mut Machine) {
        let which = self.own.iter().position(|own| own.project == unit.project);
        let progress = machine.progress.projects.get(&unit.project);
        let good =
            progress.and_then(|progress| progress.release(unit.release)).is_some_and(|release| release.was_healthy);
        if let Some(which) = which.filter(|_| good) {
            self.overlay(which, &of_release(unit.release.0), machine);
        }
    }

    /// Lets every suspended project go on, as it was asked last.
    pub fn resume_all(&mut self, machine: &mut Machine) {
        for which in 0..self.own.len() {
            if machine.desired.0.get(&self.own[which].project).is_some_and(|wanted| wanted.suspension.is_some()) {
                self.set_suspension(which, None, machine);
            }
            let known = machine.desired.0.get(&self.own[which].project).and_then(|wanted| wanted.spec()).is_some();
            if known && self.own[which].shape.suspend.take().is_some() {
                self.put(which, None, machine);
            }
        }
    }

    fn deploy(&mut self, which: usize, machine: &mut Machine) {
        let number = self.chance.below(1_000_000);
        let bad = self.options.bad_apps && self.chance.hits(400);
        let kind = if bad { self.chance.pick(&BAD) } else { self.chance.pick(&GOOD) };
        let kind = self.verifies.as_mut().and_then(|chance| chance.pick(&VISITED)).filter(|_| !bad).unwrap_or(kind);
        let name = format!("{kind}-{number}");
        let url = format!("https://a.example.com/{name}");
        let before = url_of(&self.own[which].artifact).map(str::to_owned);
        let signed = |url: String| format!("{}?sign={number}", url.split('?').next().unwrap_or_default());
        let artifact = match self.chance.below(100) {
            _ if kind == "wrong" => with_digest(url, Some(digest("another"))),
            0..=9 => with_digest(url, Some(digest(&name))),
            // The same bytes under a new address: a presigned URL.
            10..=15 => at(before.map_or(url, signed)),
            // Another version at the same place, where the same bytes are.
            21..=25 => Artifact { version: Label::try_from(number.to_string()).ok(), ..at(before.unwrap_or(url)) },
            16..=20 => match machine.artifacts.keys().next() {
                Some(sha256) => {
                    let source = Source::File { name: sha256.clone().into(), sha256: None };
                    Artifact { from: ArtifactFrom::Source(source), ..at(url) }
                }
                None => at(url),
            },
            _ => at(url),
        };
        self.own[which].artifact = artifact;
        self.put(which, None, machine);
    }

    fn reshape(&mut self, which: usize, machine: &mut Machine) {
        let own = &mut self.own[which];
        let host = if self.options.shared_hosts {
            self.chance.pick(&["a.example.com", "b.example.com"]).to_owned()
        } else {
            format!("{}.example.com", own.project)
        };
        own.shape = Shape::draw(self.options.kinds, &host, &mut self.chance);
        self.services.iter_mut().for_each(|chance| own.shape.need(chance));
        self.strategies.iter_mut().for_each(|chance| own.shape.differ(chance));
        self.verifies.iter_mut().for_each(|chance| own.shape.verify(chance));
        self.put(which, None, machine);
    }

    /// Goes back, through the API or by the spec.
    fn roll_back(&mut self, which: usize, machine: &mut Machine) {
        let project = self.own[which].project.clone();
        let status = machine.statuses.get(&project);
        let known: Vec<u32> = status
            .into_iter()
            .flat_map(|status| [status.last_good, status.serving])
            .flatten()
            .map(|number| number.0)
            .collect();
        let number = if known.is_empty() || self.chance.hits(300) {
            1 + self.chance.below(4) as u32
        } else {
            self.chance.pick(&known)
        };
        if self.chance.hits(500) {
            self.own[which].artifact = of_release(number);
            return self.put(which, None, machine);
        }
        let kept = machine.progress.projects.get(&project).and_then(|progress| progress.release(ReleaseNo(number)));
        if kept.is_some_and(|release| release.was_healthy) {
            self.overlay(which, &of_release(number), machine);
        }
    }

    fn bump(&mut self, which: usize, machine: &mut Machine) {
        let number = self.chance.below(8);
        let bad = ["good", "never-ready", "missing", "coming"];
        let kind = if self.options.bad_apps { self.chance.pick(&bad) } else { self.chance.pick(&["good", "coming"]) };
        let artifact = at(format!("https://ci.example.com/{kind}-{number}"));
        let progress = machine.progress.projects.get(&self.own[which].project);
        if progress.is_none_or(|progress| progress.release_blocking(&artifact).is_none()) {
            self.overlay_by(which, &artifact, true, machine);
        }
    }

    /// Asks for a pass, and for another try where an artifact could not be fetched.
    fn sync(&mut self, which: usize, machine: &mut Machine) {
        let before = machine.desired.clone();
        let project = self.own[which].project.clone();
        if before.0.contains_key(&project) {
            let done = machine.fetch_again(&project);
            self.settle("sync", &project, done, before, machine);
        }
    }

    fn suspend(&mut self, which: usize, machine: &mut Machine) {
        let until = machine.now.after(Span::seconds(1 + self.chance.below(120)));
        if self.chance.hits(500) {
            return self.set_suspension(which, self.chance.clone().hits(500).then_some(until), machine);
        }
        let own = &mut self.own[which];
        own.shape.suspend = match own.shape.suspend {
            Some(_) => None,
            None => Some(self.chance.hits(500).then_some(until)),
        };
        self.put(which, None, machine);
    }

    /// Says stop over a project, or that it goes on.
    fn set_suspension(&mut self, which: usize, until: Option<Timestamp>, machine: &mut Machine) {
        let project = self.own[which].project.clone();
        let before = machine.desired.clone();
        let held = before.0.get(&project).is_some_and(|wanted| wanted.suspension.is_some());
        let suspension = OperatorSuspension { by: "key ops".into(), since: machine.now, reason: None, until };
        let done = machine.set_suspension(&project, (!held).then_some(&suspension));
        self.settle("hold", &project, done, before, machine);
    }

    fn delete(&mut self, which: usize, machine: &mut Machine) {
        let keep_data = self.chance.hits(400);
        let Own { project, owner, .. } = &self.own[which];
        let (project, owner) = (project.clone(), owner.clone());
        match &owner {
            Owner::File(name) if self.directory.is_some() => self.remove_file(name, machine),
            _ => self.delete_as(&project, &owner, keep_data, machine),
        }
    }

    pub fn delete_as(&mut self, project: &ProjectId, owner: &Owner, keep_data: bool, machine: &mut Machine) {
        let before = machine.desired.clone();
        let done = machine.delete(project, owner, keep_data);
        self.settle("delete", project, done, before, machine);
    }

    /// Somebody who does not own a project tries to change it.
    fn intrude(&mut self, which: usize, machine: &mut Machine) {
        let own = &self.own[which];
        let stranger = Owner::File("stranger.yaml".into());
        let before = machine.desired.clone();
        let project = own.project.clone();
        if !before.0.contains_key(&project) {
            return;
        }
        let done = match self.chance.hits(500) {
            true => machine
                .put(own.shape.document(&project, own.artifact.clone()), &stranger, None)
                .map(|put| put.generation),
            false => machine.delete(&project, &stranger, false),
        };
        let refused = done.is_err();
        self.settle("intrude", &project, done, before, machine);
        if let Some(oracle) = &mut machine.oracle {
            oracle.check(Promise::S9, refused, || format!("a stranger changed {project}"));
        }
    }

    fn put(&mut self, which: usize, expect: Option<u64>, machine: &mut Machine) {
        let own = &self.own[which];
        let project = own.project.clone();
        let document = own.shape.document(&project, own.artifact.clone());
        if let (Owner::File(name), true) = (own.owner.clone(), self.directory.is_some()) {
            return self.write_file(&name, document, machine);
        }
        let before = machine.desired.clone();
        let done = machine.put(document, &own.owner, expect).map(|put| put.generation);
        self.settle("put", &project, done, before, machine);
    }

    fn overlay(&mut self, which: usize, artifact: &Artifact, machine: &mut Machine) {
        self.overlay_by(which, artifact, false, machine);
    }

    fn overlay_by(&mut self, which: usize, artifact: &Artifact, webhook: bool, machine: &mut Machine) {
        let before = machine.desired.clone();
        let project = self.own[which].project.clone();
        let done = machine.overlay(&project, artifact, webhook).map(|put| put.generation);
        self.settle("overlay", &project, done, before, machine);
    }

    /// A refused wish changed nothing; an acknowledged one is what is wanted from now on.
    pub fn settle(
        &mut self,
        what: &str,
        project: &ProjectId,
        done: Result<u64, WriteError>,
        before: zexio::model::desired::Desired,
        machine: &mut Machine,
    ) {
        let wanted = machine.desired.0.get(project).cloned();
        if machine.keeps_calls {
            let spec = wanted.as_ref().and_then(|wanted| wanted.spec()).map(|spec| {
                let processes: Vec<&str> = spec.processes.keys().map(|name| name.as_str()).collect();
                format!(
                    "{:?} {:?} {processes:?} suspend {:?} keep {:?} release {}",
                    spec.artifact.source(),
                    spec.deploy,
                    spec.suspend,
                    spec.keep,
                    spec.release.is_some()
                )
            });
            let line = format!("--- {what} {project}: {done:?} {spec:?}");
            machine.calls.push(line);
        }
        let same = before == machine.desired;
        let Some(mut oracle) = machine.oracle.take() else { return };
        match (&done, wanted) {
            (Err(_), _) => {
                oracle.check(Promise::S9, same, || format!("a refused {what} of {project} changed something"))
            }
            (Ok(generation), Some(wanted)) => {
                let old = before.0.get(project).map_or(0, |wanted| wanted.generation);
                let counted = wanted.generation == *generation && *generation >= old;
                oracle.check(Promise::S9, counted, || {
                    format!("{what} of {project} was acknowledged as {generation}, and is not there")
                });
                let deleted = what != "delete" || matches!(wanted.intent, Intent::Delete { .. });
                oracle.check(Promise::S9, deleted, || format!("{project} was deleted and is still wanted"));
                if let Intent::Delete { keep_data: true } = wanted.intent {
                    oracle.kept.insert(project.clone());
                } else {
                    oracle.kept.remove(project);
                }
                oracle.note_asked(project, wanted);
            }
            (Ok(_), None) => {
                oracle.check(Promise::S9, false, || format!("{what} of {project} was acknowledged and lost"))
            }
        }
        machine.oracle = Some(oracle);
    }
}
