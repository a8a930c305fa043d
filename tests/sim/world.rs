//! A machine of plain maps and a virtual clock, under the real pass. Every port of the loop is one face of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use zeroize::Zeroizing;
use zexio::model::desired::{Desired, Intent, Owner, SecretVersion, Source, Wanted};
use zexio::model::document;
use zexio::model::event::Event;
use zexio::model::layout::Layout;
use zexio::model::names::{EnvName, Hostname, ProcessName, ProjectId, ReleaseNo, Sha256, Slot, UnitId};
use zexio::model::observed::{ActiveState, BundlesSeen, CertificateSeen, Exit, FetchSeen, Probed, ProxySeen, UnitSeen};
use zexio::model::progress::{Progress, ProjectProgress};
use zexio::model::quantity::{Span, Timestamp};
use zexio::model::spec::Sealed;
use zexio::model::status::Status;
use zexio::plan::{FetchOrder, RoutesOrder, Rules, UnitOrder};
use zexio::port::{Bundles, Clock, Health, Memory, PortError, ProbeOrder, Routes, Tail, Units};
use zexio::reconcile::pass::Loop;
use zexio::reconcile::services::HostServices;
use zexio::render::caddyfile::Proxy;

/// The machine's state, and what was done to it.
#[derive(Default)]
pub struct Machine {
    pub now: Timestamp,
    pub desired: Desired,
    pub progress: Progress,
    pub statuses: BTreeMap<ProjectId, Status>,
    pub events: Vec<Event>,
    /// How often the agent wrote to its memory.
    pub writes: usize,
    /// How many of these were made for events alone.
    pub writes_of_events: usize,
    pub units: BTreeMap<UnitId, UnitSeen>,
    pub bundles: BTreeMap<ProjectId, BundlesSeen>,
    pub fetches: BTreeMap<(ProjectId, ReleaseNo), FetchSeen>,
    /// When each run of a unit became ready.
    pub ready: BTreeMap<UnitId, Timestamp>,
    pub proxy: ProxySeen,
    pub artifacts: BTreeMap<Sha256, Timestamp>,
    pub network: bool,
    pub facets_blind: bool,
    pub host: crate::services::Host,
    /// Nothing that is asked of systemd or the disk is done.
    pub deaf: bool,
    /// Every mutating call, in order.
    pub calls: Vec<String>,
    /// Before which change, counted from here, the agent dies: a call, or a write to its memory.
    pub dies_before: Option<usize>,
    /// How often a web process of a project had the traffic and was not up and ready, after it once was.
    pub unserved: Vec<String>,
    served: BTreeSet<ProjectId>,
    runs: u64,
}

/// A share in the machine.
#[derive(Clone, Default)]
pub struct World(pub Arc<Mutex<Machine>>);

/// A name of an artifact says how what it holds behaves.
fn behaviour(source: &Source) -> &str {
    match source {
        Source::Url { url, .. } => url.rsplit('/').next().unwrap_or_default(),
        Source::File { name, .. } => name.as_str(),
    }
}

impl World {
    pub fn lock(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().expect("no test panics while it holds the machine")
    }

    fn hears(&self) -> Result<(), PortError> {
        if self.lock().deaf { Err(PortError::passing("Deaf", "nobody answers")) } else { Ok(()) }
    }

    pub fn call(&self, what: String) -> MutexGuard<'_, Machine> {
        self.change(&what);
        let mut machine = self.lock();
        machine.calls.push(what);
        machine
    }

    /// Comes before every change that the agent makes: where a test wants it to, the agent dies instead of it. Dying
    /// after a change is dying before the next one.
    pub fn change(&self, what: &str) {
        let mut machine = self.lock();
        machine.watch_traffic(what);
        let left = machine.dies_before;
        machine.dies_before = left.and_then(|left| left.checked_sub(1));
        if left == Some(0) {
            drop(machine);
            std::panic::resume_unwind(Box::new(Death));
        }
    }
}

/// How an agent ends that a test kills.
struct Death;

impl Machine {
    fn bundle(&mut self, project: &ProjectId) -> &mut BundlesSeen {
        self.bundles.entry(project.clone()).or_default()
    }

    fn behaviour_of(&self, unit: &UnitId) -> String {
        let release = self.progress.projects.get(&unit.project).and_then(|memory| memory.release(unit.release));
        release.map(|release| behaviour(&release.content.source).to_owned()).unwrap_or_default()
    }

    /// Looks whether each project that once served has its traffic where a process is up and ready.
    pub fn watch_traffic(&mut self, when: &str) {
        for (project, wanted) in &self.desired.0 {
            let slot = self.slot(project, "web");
            let marked = format!("\nSlot={slot}\n");
            let serves = self.units.iter().any(|(unit, seen)| {
                unit.project == *project
                    && unit.process.as_str() == "web"
                    && seen.text.as_ref().is_some_and(|text| text.contains(&marked))
                    && seen.state == ActiveState::Active
                    && self.ready.contains_key(unit)
            });
            let leaves = !matches!(wanted.intent, Intent::Run(_));
            if serves {
                self.served.insert(project.clone());
            } else if !leaves && self.served.contains(project) {
                self.unserved.push(format!("{project} slot {slot} at {}, before: {when}", self.now));
            }
            if leaves {
                self.served.remove(project);
            }
        }
    }

    /// Lets time pass and the machine's own parts move: jobs end, broken apps fall, fetches come in.
    pub fn tick(&mut self, span: Span) {
        self.now = self.now.after(span);
        let now = self.now;
        self.host.tick();
        for unit in self.units.keys().cloned().collect::<Vec<_>>() {
            let behaviour = self.behaviour_of(&unit);
            let Some(seen) = self.units.get_mut(&unit) else { continue };
            if seen.state == ActiveState::Activating && unit.process.as_str() == "release" {
                let fails = behaviour.starts_with("unmigrated");
                seen.state = if fails { ActiveState::Failed } else { ActiveState::Active };
                seen.sub_state = if fails { "failed".into() } else { "exited".into() };
                seen.exit = Some(Exit::Status(i32::from(fails)));
                continue;
            }
            match (seen.state, behaviour.starts_with("exits")) {
                (ActiveState::Activating, false) => {
                    seen.state = ActiveState::Active;
                    seen.since = Some(now);
                    if !behaviour.starts_with("never-ready") {
                        self.ready.insert(unit.clone(), now);
                    }
                }
                (ActiveState::Activating, true) => {
                    seen.restarts += 1;
                    seen.exit = Some(Exit::Status(3));
                }
                (ActiveState::Deactivating, _) => {
                    seen.state = ActiveState::Inactive;
                    self.ready.remove(&unit);
                }
                _ => {}
            }
        }
        let landed: Vec<(ProjectId, ReleaseNo)> = self
            .fetches
            .iter()
            .filter(|(_, fetch)| matches!(fetch, FetchSeen::Running { .. }))
            .map(|(key, _)| key.clone())
            .collect();
        for (project, release) in landed {
            self.land(project, release);
        }
    }

    fn land(&mut self, project: ProjectId, release: ReleaseNo) {
        let source =
            self.progress.projects.get(&project).and_then(|m| m.release(release)).map(|r| r.content.source.clone());
        let Some(source) = source else { return drop(self.fetches.remove(&(project, release))) };
        let name = behaviour(&source).to_owned();
        let failed = |lasting: bool, reason: &str, message: &str, at| FetchSeen::Failed {
            at,
            lasting,
            reason: reason.into(),
            message: message.into(),
            retry_after: None,
        };
        let key = (project.clone(), release);
        if !self.network {
            self.fetches.insert(key, failed(false, "ArtifactFailed", "no network", self.now));
        } else if name.starts_with("missing") {
            self.fetches.insert(key, failed(true, "ArtifactFailed", "the server answered 404", self.now));
        } else {
            self.fetches.remove(&key);
            let digest = digest(&name);
            let now = self.now;
            self.artifacts.insert(digest.clone(), now);
            self.bundle(&project).releases.insert(release, digest);
        }
    }

    /// Returns the slot whose port Caddy sends a process's requests to.
    pub fn slot(&self, project: &ProjectId, process: &str) -> Slot {
        let process = ProcessName::parse(process).expect("a process name");
        let marked = self.bundles.get(project).is_some_and(|bundle| bundle.markers.contains(&process));
        if marked { Slot::B } else { Slot::A }
    }
}

fn digest(name: &str) -> Sha256 {
    let sum = name.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    Sha256::parse(&format!("{sum:064x}")).expect("64 hex digits")
}

impl Memory for World {
    fn desired(&self) -> Result<Desired, PortError> {
        Ok(self.lock().desired.clone())
    }
    fn progress(&self) -> Result<Progress, PortError> {
        Ok(self.lock().progress.clone())
    }
    fn remember(&self, changed: &BTreeMap<ProjectId, ProjectProgress>, events: &[Event]) -> Result<(), PortError> {
        self.change("remember");
        self.lock().events.extend_from_slice(events);
        self.lock().writes += 1;
        self.lock().progress.projects.extend(changed.clone());
        Ok(())
    }
    fn statuses(&self) -> Result<BTreeMap<ProjectId, Status>, PortError> {
        Ok(self.lock().statuses.clone())
    }
    fn record(&self, statuses: &[Status], events: &[Event]) -> Result<(), PortError> {
        self.change("record");
        self.lock().events.extend_from_slice(events);
        self.lock().writes += 1;
        self.lock().writes_of_events += usize::from(statuses.is_empty());
        self.lock().statuses.extend(statuses.iter().map(|status| (status.project.clone(), status.clone())));
        Ok(())
    }
    fn open_values(
        &self,
        _: &ProjectId,
        _: &BTreeMap<EnvName, Sealed>,
        _: &BTreeMap<EnvName, SecretVersion>,
    ) -> Result<BTreeMap<EnvName, Zeroizing<String>>, PortError> {
        Ok(BTreeMap::new())
    }
    fn forget(&self, project: &ProjectId) -> Result<(), PortError> {
        let mut machine = self.call(format!("forget {project}"));
        machine.desired.0.remove(project);
        machine.progress.projects.remove(project);
        machine.statuses.remove(project);
        Ok(())
    }
}

impl Units for World {
    fn look(&self) -> Result<BTreeMap<ProjectId, BTreeMap<UnitId, UnitSeen>>, PortError> {
        let machine = self.lock();
        if machine.facets_blind {
            return Err(PortError::passing("Systemd", "could not list units: the bus is away"));
        }
        let mut all: BTreeMap<ProjectId, BTreeMap<UnitId, UnitSeen>> = BTreeMap::new();
        for (unit, seen) in &machine.units {
            all.entry(unit.project.clone()).or_default().insert(unit.clone(), seen.clone());
        }
        Ok(all)
    }
    fn write(&self, order: &UnitOrder, _: &[u8]) -> Result<(), PortError> {
        let mut machine = self.call(format!("write {}", order.unit));
        let seen = machine.units.entry(order.unit.clone()).or_default();
        seen.text = Some(order.text.clone());
        seen.credential = true;
        if let Some(text) = &order.timer {
            seen.timer.get_or_insert_default().text = Some(text.clone());
        }
        Ok(())
    }
    fn reload(&self) -> Result<(), PortError> {
        drop(self.call("reload".into()));
        Ok(())
    }
    fn start(&self, unit: &UnitId) -> Result<(), PortError> {
        let mut machine = self.call(format!("start {unit}"));
        machine.runs += 1;
        let (run, now) = (machine.runs, machine.now);
        let seen = machine.units.entry(unit.clone()).or_default();
        *seen = UnitSeen {
            state: ActiveState::Activating,
            invocation: Some(run.to_string()),
            since: Some(now),
            restarts: 0,
            cgroup: Some("/x".into()),
            ..seen.clone()
        };
        Ok(())
    }
    fn stop(&self, unit: &UnitId) -> Result<(), PortError> {
        let mut machine = self.call(format!("stop {unit}"));
        if let Some(seen) = machine.units.get_mut(unit) {
            seen.state = ActiveState::Deactivating;
        }
        Ok(())
    }
    fn enable(&self, unit: &UnitId) -> Result<(), PortError> {
        self.hears()?;
        let mut machine = self.call(format!("enable {unit}"));
        machine.units.entry(unit.clone()).or_default().enabled = true;
        Ok(())
    }
    fn arm(&self, unit: &UnitId) -> Result<(), PortError> {
        let mut machine = self.call(format!("arm {}", unit.timer()));
        let timer = machine.units.entry(unit.clone()).or_default().timer.get_or_insert_default();
        (timer.active, timer.enabled) = (true, true);
        Ok(())
    }
    fn disarm(&self, unit: &UnitId) -> Result<(), PortError> {
        let mut machine = self.call(format!("disarm {}", unit.timer()));
        let timer = machine.units.entry(unit.clone()).or_default().timer.get_or_insert_default();
        (timer.active, timer.enabled) = (false, false);
        Ok(())
    }
    fn remove(&self, unit: &UnitId) -> Result<(), PortError> {
        self.call(format!("remove {unit}")).units.remove(unit);
        Ok(())
    }
    fn proxy_runs(&self) -> Result<bool, PortError> {
        Ok(self.lock().proxy.up)
    }
    fn start_proxy(&self) -> Result<(), PortError> {
        self.call("start caddy".into()).proxy.up = true;
        Ok(())
    }
}

impl Bundles for World {
    fn look(&self, project: &ProjectId) -> Result<BundlesSeen, PortError> {
        Ok(self.lock().bundles.get(project).cloned().unwrap_or_default())
    }
    fn fetches(&self, project: &ProjectId) -> BTreeMap<ReleaseNo, FetchSeen> {
        let machine = self.lock();
        machine
            .fetches
            .iter()
            .filter(|((owner, _), _)| owner == project)
            .map(|((_, n), fetch)| (*n, fetch.clone()))
            .collect()
    }
    fn prepare(&self, project: &ProjectId, open: bool) -> Result<(), PortError> {
        let mut machine = self.call(format!("prepare {project}"));
        let bundle = machine.bundle(project);
        (bundle.user, bundle.directory, bundle.data, bundle.fronts) = (true, true, true, true);
        bundle.open = open;
        Ok(())
    }
    fn fetch(&self, project: &ProjectId, order: &FetchOrder) -> Result<(), PortError> {
        let mut machine = self.call(format!("fetch {project} {}", order.release));
        machine
            .fetches
            .insert((project.clone(), order.release), FetchSeen::Running { bytes: 0, of: None, unpacking: false });
        Ok(())
    }
    fn cancel(&self, project: &ProjectId, release: ReleaseNo) {
        self.call(format!("cancel {project} {release}")).fetches.remove(&(project.clone(), release));
    }
    fn point(&self, project: &ProjectId, process: &ProcessName, slot: Slot) -> Result<(), PortError> {
        self.hears()?;
        let mut machine = self.call(format!("point {project} {process} {slot}"));
        let markers = &mut machine.bundle(project).markers;
        match slot {
            Slot::A => drop(markers.remove(process)),
            Slot::B => drop(markers.insert(process.clone())),
        }
        Ok(())
    }
    fn link(&self, project: &ProjectId, release: ReleaseNo) -> Result<(), PortError> {
        self.hears()?;
        self.call(format!("link {project} {release}")).bundle(project).link = Some(release);
        Ok(())
    }
    fn remove_release(&self, project: &ProjectId, release: ReleaseNo) -> Result<(), PortError> {
        self.call(format!("remove release {project} {release}")).bundle(project).releases.remove(&release);
        Ok(())
    }
    fn artifacts(&self) -> Result<BTreeMap<Sha256, Timestamp>, PortError> {
        Ok(self.lock().artifacts.clone())
    }
    fn remove_artifact(&self, sha256: &Sha256) -> Result<(), PortError> {
        self.call(format!("remove artifact {sha256}")).artifacts.remove(sha256);
        Ok(())
    }
    fn remove_all(&self, project: &ProjectId, keep_data: bool) -> Result<(), PortError> {
        let mut machine = self.call(format!("remove files {project}"));
        let kept = BundlesSeen { user: keep_data, data: keep_data, ..BundlesSeen::default() };
        machine.bundles.insert(project.clone(), kept);
        Ok(())
    }
}

impl Health for World {
    fn look(&self, orders: &[ProbeOrder]) -> BTreeMap<UnitId, Probed> {
        let machine = self.lock();
        let found = orders.iter().map(|order| {
            let ok_since = machine.ready.get(&order.unit).copied();
            let last = if ok_since.is_some() { "GET /up answered 200" } else { "GET /up answered 503" };
            let probed = Probed {
                invocation: order.invocation.clone(),
                at: machine.now,
                ok_since,
                tries: 1,
                transcript: vec![last.into()],
                last: last.into(),
            };
            (order.unit.clone(), probed)
        });
        found.collect()
    }
}

impl Tail for World {
    fn tail(&self, units: &[UnitId], _: u32) -> Vec<String> {
        units.iter().map(|unit| format!("last words of {unit}")).collect()
    }
}

impl Routes for World {
    fn look(&self) -> Result<ProxySeen, PortError> {
        Ok(self.lock().proxy.clone())
    }
    fn certificates(&self, hosts: &BTreeSet<Hostname>) -> BTreeMap<Hostname, CertificateSeen> {
        hosts.iter().map(|host| (host.clone(), CertificateSeen::Issued)).collect()
    }
    fn refusal(&self, order: &RoutesOrder) -> Result<Option<String>, PortError> {
        Ok(order
            .text
            .contains("refused.example.com")
            .then(|| "ambiguous site definition: refused.example.com".to_owned()))
    }
    fn load(&self, order: &RoutesOrder) -> Result<(), PortError> {
        if let Some(why) = self.refusal(order)? {
            return Err(PortError::passing("RouteRefused", why));
        }
        let mut machine = self.call("load routes".into());
        machine.proxy.text = Some(order.text.clone());
        machine.proxy.live = true;
        Ok(())
    }
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        self.lock().now
    }
}

/// A life: a machine, the loop on it, and the operator's wishes.
pub struct Life {
    pub world: World,
    agent: Loop,
}

impl Life {
    pub fn begin() -> Self {
        let world = World::default();
        {
            let mut machine = world.lock();
            machine.now = Timestamp(1_000_000);
            machine.network = true;
            machine.proxy.up = true;
        }
        Self { agent: agent(&world), world }
    }

    /// Replaces the agent by a new one: whatever it kept in memory is gone.
    pub fn restart_agent(&mut self) {
        self.agent = agent(&self.world);
    }

    /// Asks for an artifact, by the name that says how it behaves.
    pub fn want(&mut self, project: &str, artifact: &str) {
        self.want_spec(project, &format!("url: 'https://a.example.com/{artifact}'"), "");
    }

    pub fn want_text(&mut self, text: &str) {
        let document = document::parse(text.as_bytes()).expect("the spec of a test");
        let project = document.project.to_string();
        let spec = document.try_map_env(|_, _| Ok::<_, ()>(Sealed { sealed: 1 })).expect("sealing cannot fail here");
        self.intend(&project, Intent::Run(Box::new(spec)));
    }

    pub fn want_spec(&mut self, project: &str, artifact: &str, extra: &str) {
        let text = format!(
            "zexio: 1\nproject: {project}\nartifact: {{ {artifact} }}\nprocesses:\n  web:\n    run: ./app\n    ready: {{ http: /up, within: 10s }}\n    routes: [{{ host: {project}.example.com }}]\n{extra}\n"
        );
        self.want_text(&text);
    }

    pub fn delete(&mut self, project: &str) {
        self.intend(project, Intent::Delete { keep_data: false });
    }

    fn intend(&mut self, project: &str, intent: Intent) {
        let project = ProjectId::parse(project).expect("a project id");
        let mut machine = self.world.lock();
        let generation = machine.desired.0.get(&project).map_or(1, |wanted| wanted.generation + 1);
        let hold = machine.desired.0.get(&project).and_then(|wanted| wanted.hold.clone());
        let wanted = Wanted { generation, intent, owner: Owner::Api, secrets: BTreeMap::new(), complaint: None, hold };
        machine.desired.0.insert(project, wanted);
    }

    pub fn pass(&mut self) {
        self.agent.pass(false);
    }

    /// Runs a pass; when the agent dies in it, another one takes its place. Tells whether it died.
    pub fn pass_or_die(&mut self) -> bool {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.pass()));
        let Err(cause) = done else { return false };
        assert!(cause.is::<Death>(), "the agent broke");
        let mut machine = self.world.lock();
        // What ran beside the loop died with it, and what probes found is gone.
        machine.fetches.clear();
        let now = machine.now;
        machine.ready.values_mut().for_each(|since| *since = now);
        drop(machine);
        self.restart_agent();
        true
    }

    /// Runs passes and lets time pass until nothing is done any more; returns the calls that were made.
    pub fn settle(&mut self) -> Vec<String> {
        let begun = self.world.lock().calls.len();
        let mut quiet = 0;
        for _ in 0..2000 {
            let before = self.world.lock().calls.len();
            self.pass_or_die();
            self.world.lock().watch_traffic("time");
            let idle = self.world.lock().calls.len() == before;
            let ended = self.world.lock().statuses.values().all(|status| status.condition("Reconciling").is_none());
            quiet = if idle && ended { quiet + 1 } else { 0 };
            // Longer than any drain or trial of these tests.
            if quiet > 30 {
                return self.world.lock().calls[begun..].to_vec();
            }
            self.world.lock().tick(Span::seconds(1));
        }
        panic!(
            "it does not settle; last calls: {:?}",
            self.world.lock().calls.iter().rev().take(20).collect::<Vec<_>>()
        );
    }

    pub fn status(&self, project: &str) -> Status {
        let project = ProjectId::parse(project).expect("a project id");
        self.world.lock().statuses.get(&project).cloned().expect("the project has a status")
    }

    /// Returns a value that the agent counts, by its name and labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.agent.metrics.text().expect("a text");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in\n{text}"))
    }

    pub fn serving(&self, project: &str) -> Option<u32> {
        self.status(project).serving.map(|release| release.0)
    }

    /// Returns the plan as text, one step a line.
    pub fn plan(&mut self) -> Vec<String> {
        let plan = self.agent.rehearse(None).expect("a plan");
        plan.steps.iter().map(|step| format!("{} {}", step.action.sign(), step.action)).collect()
    }

    pub fn running(&self) -> BTreeSet<String> {
        let machine = self.world.lock();
        machine.units.iter().filter(|(_, seen)| seen.is_up()).map(|(unit, _)| unit.name()).collect()
    }
}

fn agent(world: &World) -> Loop {
    Loop {
        memory: Arc::new(world.clone()),
        units: Box::new(world.clone()),
        bundles: Box::new(world.clone()),
        health: Box::new(world.clone()),
        routes: Box::new(world.clone()),
        tail: Box::new(world.clone()),
        services: HostServices {
            memory: Arc::new(world.clone()),
            host: Box::new(world.clone()),
            last: BTreeMap::new(),
        },
        clock: Arc::new(world.clone()),
        rules: Rules {
            layout: Layout::parse("/zexio").expect("a root"),
            ports: (21000, 21099),
            proxy: Proxy {
                template: include_str!("../../Caddyfile.tmpl").into(),
                admin: "/run/caddy/admin.sock".into(),
                fronts: "/zexio/fronts".into(),
                email: None,
                acme_ca: None,
                hostname: None,
                api: "127.0.0.1:7470".into(),
                stream_close_delay: false,
            },
        },
        turn: 0,
        busy: 0,
        route_trouble: None,
        last: Default::default(),
        ledger: Default::default(),
        metrics: Default::default(),
        phases: Default::default(),
    }
}
