//! What the agent promised, checked at every effect by a model of its own: what the operator asked, and what visitors
//! and the machine showed. It never reads what the agent remembers. docs/invariants.md lists the promises.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use zexio::model::desired::{DesiredProject, Intent};
use zexio::model::names::{Hostname, ProcessName, ProjectId, ReleaseNo, Slot, UnitId};
use zexio::model::observed::ActiveState;
use zexio::model::progress::ProjectProgress;
use zexio::model::quantity::{Span, Timestamp};
use zexio::model::spec::{OnFailure, Spec, Strategy};
use zexio::model::status::{ConditionKind, ProcessStatus, ProjectState, RouteStatus, Status};
use zexio::plan::{RoutesOrder, UnitOrder};
use zexio::render::caddyfile::{Site, SiteRoute};

use super::trials::Trials;
use super::{listener, services};
use crate::world::Machine;
use crate::world::gate::Effect;
use zexio::model::reason::Reason;

/// What every value of a variable begins with.
pub const SENTINEL: &str = "sentinel-";

/// The promises, by their names in docs/invariants.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    S1,
    S2,
    S3,
    S4,
    S5,
    S6,
    S7,
    S8,
    S9,
    S10,
    S11,
    S12,
    S13,
    S14,
    S15,
    S16,
    S17,
    S18,
    S19,
    S20,
    L1,
    L2,
    L3,
    L4,
    /// The agent does not panic.
    P,
}

/// A promise that was not kept.
#[derive(Debug, Clone)]
pub struct Breach {
    pub promise: Promise,
    pub why: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.why)
    }
}

/// What happened to a project so far, as anybody could have seen.
#[derive(Debug, Default)]
pub struct Past {
    /// The releases that the link led to, in order.
    pub served: Vec<ReleaseNo>,
    /// Those that a status called serving: an agent that died in a switch, or cannot see, may have moved on from one.
    pub declared: BTreeSet<ReleaseNo>,
    /// The releases that a status called rejected, and for which generation it did first.
    pub rejected: BTreeMap<ReleaseNo, u64>,
    /// The releases whose files a third hand removed.
    pub robbed: BTreeSet<ReleaseNo>,
    /// A third hand moved its traffic, and the agent has not had the time to see it.
    pub disturbed: bool,
    observed_generation: u64,
    candidate: Option<ReleaseNo>,
    trials: Trials,
    /// The generation whose release failed.
    failed_for: Option<u64>,
}

/// The reasons for which a release is rejected.
const REJECTED: [Reason; 6] = [
    Reason::HealthCheckFailed,
    Reason::ArtifactFailed,
    Reason::HashMismatch,
    Reason::ReleaseCommandFailed,
    Reason::DeadlineExceeded,
    Reason::VerifyFailed,
];

impl Past {
    pub fn forget_undeclared(&mut self) {
        self.served.pop_if(|last| !self.declared.contains(last));
    }
}

/// Where a visitor is answered.
type Answer = (ProjectId, Hostname, ProcessName);

/// Watches a life.
#[derive(Default)]
pub struct Oracle {
    /// What was asked and acknowledged.
    pub asked: BTreeMap<ProjectId, DesiredProject>,
    /// Counts the changes of `asked`.
    version: u64,
    /// What the agent's pass read of it, and when.
    pub read: BTreeMap<ProjectId, DesiredProject>,
    read_version: u64,
    read_at: Timestamp,
    pub past: BTreeMap<ProjectId, Past>,
    pub host: services::Host,
    /// Who was the first to have each host in Caddy.
    hosts: BTreeMap<Hostname, ProjectId>,
    /// The sites that the agent last offered to Caddy, and whether it could see Caddy in this pass.
    offered: Vec<Site>,
    sees_proxy: bool,
    /// When the clock last jumped, on the one that never does.
    pub jumped: Option<u64>,
    /// Whether the point that comes carries a switch through that has begun.
    carried: bool,
    /// The first breach.
    pub breach: Option<Breach>,
    pub checked: BTreeMap<Promise, u64>,
    /// The deleted projects whose data stays.
    pub kept: BTreeSet<ProjectId>,
    /// What this life came by: reasons of conditions, and more.
    pub reached: BTreeSet<String>,
}

impl Oracle {
    pub fn reach(&mut self, what: &str) {
        if !self.reached.contains(what) {
            self.reached.insert(what.to_owned());
        }
    }

    /// Checks one promise once.
    pub fn check(&mut self, promise: Promise, holds: bool, why: impl FnOnce() -> String) {
        *self.checked.entry(promise).or_default() += 1;
        if !holds && self.breach.is_none() {
            self.breach = Some(Breach { promise, why: why() });
        }
    }

    /// Takes down what is wanted of a project from now on.
    pub fn note_asked(&mut self, project: &ProjectId, wanted: DesiredProject) {
        self.asked.insert(project.clone(), wanted);
        self.version += 1;
    }

    /// Takes down that nothing is known of a project any more.
    pub fn note_gone(&mut self, project: &ProjectId) {
        self.past.remove(project);
        self.host.cleared.remove(project);
        self.asked.remove(project);
        self.version += 1;
    }

    pub fn note_read(&mut self, machine: &Machine) {
        self.read_at = machine.now;
        self.sees_proxy = machine.proxy.up && !machine.blind.proxy;
        if self.read_version != self.version {
            self.read = self.asked.clone();
            self.read_version = self.version;
            for (project, wanted) in &self.read {
                self.past.entry(project.clone()).or_default().trials.note_read(wanted.generation, machine.uptime);
            }
            let asked = &self.asked;
            self.hosts.retain(|host, owner| {
                let spec = asked.get(owner).and_then(DesiredProject::spec);
                spec.is_some_and(|spec| zexio::plan::target::hosts_of(spec).contains(host))
            });
        }
    }

    pub fn note_offer(&mut self, order: &RoutesOrder) {
        self.offered.clone_from(&order.sites);
    }

    pub fn past(&mut self, project: &ProjectId) -> &mut Past {
        self.past.entry(project.clone()).or_default()
    }

    /// Returns the newest release before the one that serves that a status called serving and that is on disk.
    pub fn earlier(&self, machine: &Machine, project: &ProjectId) -> Option<ReleaseNo> {
        let past = self.past.get(project)?;
        let bundle = machine.bundles.get(project)?;
        let there = |number: &&ReleaseNo| past.declared.contains(number) && bundle.releases.contains_key(number);
        past.served.iter().rev().filter(there).find(|number| bundle.link != Some(**number)).copied()
    }

    fn spec(&self, project: &ProjectId) -> Option<&Spec> {
        self.read.get(project).and_then(DesiredProject::spec)
    }

    fn leaves(&self, project: &ProjectId) -> bool {
        self.read.get(project).is_none_or(|wanted| wanted.spec().is_none())
    }

    /// Tells whether a process must not run twice. One that the spec has no more may be another by now.
    fn recreates(&self, project: &ProjectId, process: &ProcessName) -> bool {
        let Some(spec) = self.spec(project) else { return false };
        let recreates = |process| spec.strategy_of(process) == Strategy::Recreate;
        if spec.processes.contains_key(process) { recreates(process) } else { spec.processes.keys().any(recreates) }
    }

    /// What must not run twice does not, unless a release that failed is held to be looked at.
    fn alone(&mut self, machine: &Machine, unit: &UnitId) {
        let Some(spec) = self.spec(&unit.project) else { return };
        let timed = spec.processes.get(&unit.process).is_none_or(|process| process.schedule.is_some());
        if timed || spec.deploy.on_failure == OnFailure::Hold || !self.recreates(&unit.project, &unit.process) {
            return;
        }
        let is_other = |other: &UnitId| {
            (&other.project, &other.process) == (&unit.project, &unit.process) && other.release != unit.release
        };
        let other = machine.units.iter().find(|(other, seen)| is_other(other) && seen.is_up());
        self.check(Promise::S20, other.is_none(), || {
            format!("start {unit}, which must not run beside {:?}", other.map(|(unit, _)| unit.name()))
        });
    }

    /// Looks at the machine right before an effect; returns who is answered.
    pub fn before(&mut self, machine: &Machine, effect: &Effect<'_>) -> Vec<Answer> {
        if let Some(project) = effect.project() {
            self.own(project, effect);
            self.suspended(project, effect);
        }
        self.needs_were_there(effect);
        match effect {
            Effect::Stop(unit) => self.stop(machine, unit),
            Effect::RemoveUnit(unit) => {
                let down = machine.units.get(*unit).is_none_or(|seen| !seen.is_up());
                self.check(Promise::S3, down, || format!("{effect}, and it is up"));
            }
            Effect::RemoveRelease(project, number) => self.remove_release(machine, project, *number),
            Effect::RemoveFiles(project) => {
                let runs = machine.units.iter().any(|(unit, seen)| unit.project == **project && seen.is_up());
                self.check(Promise::S3, !runs, || format!("{effect}, and a unit of it is up"));
                self.check(Promise::S9, self.leaves(project), || format!("{effect}, and it is wanted"));
            }
            Effect::RemoveArtifact(sha256) => {
                let named =
                    |wanted: &DesiredProject| wanted.spec().is_some_and(|spec| spec.artifact.sha256() == Some(sha256));
                let asked = self.asked.values().any(named) && self.version == self.read_version;
                let kept = machine
                    .bundles
                    .values()
                    .any(|bundle| bundle.link.and_then(|link| bundle.releases.get(&link)) == Some(sha256));
                self.check(Promise::S3, !asked && !kept, || format!("{effect}, and it is needed"));
            }
            Effect::Forget(project) => self.forget(machine, project),
            Effect::Write(order) => self.keeps_secrets(order),
            Effect::Fetch(project, order) => {
                let past = self.past.get(*project);
                let back = past
                    .is_some_and(|past| past.served.contains(&order.release) && !past.robbed.contains(&order.release));
                let lied = machine.blind.lies;
                self.check(Promise::S4, !back || lied, || format!("{effect}, which served before and should be here"));
                self.again(project, order.release, effect);
            }
            Effect::Start(unit) => {
                self.again(&unit.project, unit.release, effect);
                self.own_port(machine, unit);
                self.alone(machine, unit);
            }
            Effect::Point(project, process, slot) => self.point(machine, project, process, *slot),
            Effect::Link(project, number) => self.link(machine, project, *number),
            Effect::LoadRoutes(order) => self.own_hosts(order),
            Effect::Record(statuses, events) => {
                statuses.iter().for_each(|status| self.status(machine, status));
                let shown = events.iter().find(|event| event.message.contains(SENTINEL));
                self.check(Promise::S8, shown.is_none(), || format!("{shown:?} shows the value of a variable"));
            }
            Effect::Remember(changed) => self.keeps_evidence(changed),
            _ => self.before_services(machine, effect),
        }
        match effect {
            Effect::LoadRoutes(_) => answered(machine, None),
            Effect::Stop(_)
            | Effect::Point(..)
            | Effect::Link(..)
            | Effect::RemoveRelease(..)
            | Effect::RemoveUnit(_) => answered(machine, effect.project()),
            _ => Vec::new(),
        }
    }

    /// Looks at the machine right after an effect: whoever was answered before is answered now.
    pub fn after(&mut self, machine: &Machine, effect: &Effect<'_>, before: &[Answer]) {
        if !before.is_empty() {
            let now = match effect {
                Effect::LoadRoutes(_) => answered(machine, None),
                _ => answered(machine, effect.project()),
            };
            for answer in before {
                let holds = now.contains(answer) || self.may_lose(machine, effect, answer);
                self.check(Promise::S2, holds, || {
                    format!("{effect}: requests for {} to {} of {} were answered before", answer.1, answer.2, answer.0)
                });
            }
        }
        if let Effect::Link(project, number) = effect {
            let past = self.past(project);
            let back = past.served.contains(number) && past.served.last() != Some(number);
            if past.served.last() != Some(number) {
                past.served.push(*number);
            }
            if back {
                self.reach("rolled back");
            }
        }
        if let Effect::RemoveFiles(project) = effect {
            // It may be taken back; then it is fetched anew.
            let past = self.past(project);
            past.robbed.extend(std::mem::take(&mut past.served));
        }
        if let Effect::Forget(project) = effect
            && !machine.desired.0.contains_key(*project)
        {
            let generation = |desired_store: &BTreeMap<ProjectId, DesiredProject>| {
                desired_store.get(*project).map(|wanted| wanted.generation)
            };
            let (asked, read) = (generation(&self.asked), generation(&self.read));
            self.check(Promise::S9, asked.is_none() || asked == read, || {
                format!("{effect}, of which generation {asked:?} was asked meanwhile, and the pass had read {read:?}")
            });
            self.note_gone(project);
            self.reach("forgotten");
        }
        self.after_services(machine, effect);
    }

    /// A visitor may be lost where nobody wants him answered there any more, or the app cannot run twice, or Caddy
    /// refuses his host.
    fn may_lose(&self, machine: &Machine, effect: &Effect<'_>, (project, host, process): &Answer) -> bool {
        let Some(spec) = self.spec(project) else { return true };
        let asked = spec
            .processes
            .get(process)
            .is_some_and(|one| one.routes.iter().any(|route| route.host == *host && route.redirect.is_none()));
        let past = self.past.get(project);
        let disturbed = past.is_some_and(|past| past.disturbed);
        let recreate = matches!(effect, Effect::Stop(_) | Effect::Point(..)) && self.recreates(project, process);
        let carried = matches!(effect, Effect::Point(..)) && self.carried;
        // An earlier release comes whole, and may lack a process that the spec routes by now.
        let back = past.and_then(|past| past.served.split_last()).is_some_and(|(last, rest)| rest.contains(last));
        // So does one that a wish before asked for, which has the traffic by now.
        let link = machine.bundles.get(project).and_then(|bundle| bundle.link);
        let has = |unit: &UnitId| unit.project == *project && Some(unit.release) == link && unit.process == *process;
        let lacks = link.is_some() && !machine.units.keys().any(has);
        let whole = matches!(effect, Effect::LoadRoutes(_)) && (spec.artifact.release().is_some() || back || lacks);
        let refused = machine.refused.as_deref() == Some(host.as_str());
        // What is being verified is not good for the traffic yet, and there may be nothing to go back to.
        let unverified = spec.deploy.verify.is_some()
            && link.is_some_and(|link| past.is_none_or(|past| !past.declared.contains(&link)));
        !asked || disturbed || recreate || carried || whole || refused || unverified
    }

    fn own(&mut self, project: &ProjectId, effect: &Effect<'_>) {
        let known = self.asked.contains_key(project);
        self.check(Promise::S5, known, || format!("{effect}, and nobody asked for {project} here"));
    }

    fn suspended(&mut self, project: &ProjectId, effect: &Effect<'_>) {
        if let Some(wanted) = self.read.get(project) {
            let suspended = wanted.suspension_at(self.read_at).is_some();
            self.check(Promise::S12, !suspended, || format!("{effect}, and {project} is suspended"));
        }
    }

    fn stop(&mut self, machine: &Machine, unit: &UnitId) {
        let link = machine.bundles.get(&unit.project).and_then(|bundle| bundle.link);
        let disturbed = self.past.get(&unit.project).is_some_and(|past| past.disturbed);
        if link != Some(unit.release) || self.leaves(&unit.project) || disturbed {
            return;
        }
        let wanted = machine.bundles.get(&unit.project).is_some_and(|bundle| bundle.releases.len() > 1);
        let makes_room = self.recreates(&unit.project, &unit.process) && wanted;
        let served = self
            .past
            .get(&unit.project)
            .is_some_and(|past| past.served.last() == Some(&unit.release) && past.declared.contains(&unit.release));
        self.check(Promise::S2, makes_room || !served, || format!("stop {unit}, and its release serves"));
    }

    fn remove_release(&mut self, machine: &Machine, project: &ProjectId, number: ReleaseNo) {
        let runs =
            machine.units.iter().any(|(unit, seen)| unit.project == *project && unit.release == number && seen.is_up());
        self.check(Promise::S3, !runs, || format!("remove release {project} {number}, and a unit of it is up"));
        let link = machine.bundles.get(project).and_then(|bundle| bundle.link);
        self.check(Promise::S3, link != Some(number), || {
            format!("remove release {project} {number}, and it is linked")
        });
        let past = self.past.get(project);
        let served = past.map(|past| past.served.clone()).unwrap_or_default();
        let declared = past.is_some_and(|past| past.declared.contains(&number));
        let current = served.last().copied();
        let before = served.iter().rev().find(|other| Some(**other) != current).copied();
        let needed = declared && !self.leaves(project) && (current == Some(number) || before == Some(number));
        self.check(Promise::S4, !needed, || {
            format!("remove release {project} {number}, the way back; served: {served:?}")
        });
    }

    fn forget(&mut self, machine: &Machine, project: &ProjectId) {
        let keep_data = match self.read.get(project).map(|wanted| &wanted.intent) {
            Some(Intent::Delete { keep_data }) => *keep_data,
            _ => {
                self.check(Promise::S9, false, || format!("forget {project}, and it is wanted"));
                return;
            }
        };
        let left = left_of(machine, project, keep_data);
        self.check(Promise::S6, left.is_none(), || {
            format!("forget {project}, and there is still {}", left.unwrap_or_default())
        });
    }

    /// What failed is not tried again as long as it is the same release.
    fn again(&mut self, project: &ProjectId, number: ReleaseNo, effect: &Effect<'_>) {
        let rejected = self.past.get(project).and_then(|past| past.rejected.get(&number)).copied();
        // Whoever asks for it by its number, after it failed, means it.
        let named = rejected.is_some_and(|failed_for| {
            let wanted = self.read.get(project).filter(|wanted| wanted.generation > failed_for);
            wanted.and_then(DesiredProject::spec).is_some_and(|spec| spec.artifact.release() == Some(number))
        });
        self.check(Promise::S11, rejected.is_none() || named, || format!("{effect}, and its release was rejected"));
        let generation = self.read.get(project).map(|wanted| wanted.generation);
        let past = self.past.get(project);
        let failed = past.is_some_and(|past| {
            past.failed_for.is_some() && past.failed_for == generation && !past.served.contains(&number)
        });
        self.check(Promise::S11, !failed, || format!("{effect}, and what this generation asks for was rejected"));
    }

    fn own_port(&mut self, machine: &Machine, unit: &UnitId) {
        let port_of = |unit: &UnitId| machine.apps.get(unit).and_then(|app| app.written.port);
        let Some(port) = port_of(unit) else { return };
        let other = machine.units.iter().find(|(other, seen)| {
            *other != unit && seen.is_up() && machine.apps.get(*other).and_then(|app| app.place.port) == Some(port)
        });
        self.check(Promise::S13, other.is_none(), || {
            format!("start {unit} on port {port}, which {:?} has", other.map(|(unit, _)| unit.name()))
        });
    }

    fn point(&mut self, machine: &Machine, project: &ProjectId, process: &ProcessName, slot: Slot) {
        let link = machine.bundles.get(project).and_then(|bundle| bundle.link);
        let there: Vec<&UnitId> = machine
            .units
            .keys()
            .filter(|unit| unit.project == *project && unit.process == *process && place(machine, unit) == Some(slot))
            .collect();
        let up = |unit: &&&UnitId| machine.units[**unit].is_up();
        let runs = there.iter().filter(up).map(|unit| unit.release).max();
        let release = runs.or(there.iter().map(|unit| unit.release).max());
        let served = self.past.get(project).and_then(|past| past.served.last().copied());
        // A marker that belongs to no route goes without anybody noticing; traffic that was moved away from the
        // serving release comes back to it whatever its state.
        self.carried = release.is_some_and(|release| self.switching(machine, project, release));
        let routed = machine
            .sites
            .iter()
            .any(|site| site.routes.iter().any(|route| route.project == *project && route.process == *process));
        let back = release.is_some() && (release == link || release == served);
        // What may not run twice was stopped for a release that was then not verified.
        let verified = self.spec(project).is_some_and(|spec| spec.deploy.verify.is_some());
        let had_it = |number| self.past.get(project).is_some_and(|past| past.served.contains(&number));
        let unverified = verified && self.recreates(project, process) && release.is_some_and(had_it);
        if back || unverified || !routed {
            return;
        }
        let Some(release) = release else {
            let known = served.is_none() || self.leaves(project);
            return self.check(Promise::S1, known, || format!("point {project} {process} {slot}, where nothing is"));
        };
        if self.carried {
            return;
        }
        let unready: Vec<String> = there
            .iter()
            .filter(|unit| unit.release == release && !is_ready(machine, unit))
            .map(|unit| unit.name())
            .collect();
        self.check(Promise::S1, unready.is_empty(), || {
            format!("point {project} {process} {slot}, and {unready:?} is not ready")
        });
        self.proven(machine, project, release);
    }

    /// A switch that has begun is carried through.
    fn switching(&self, machine: &Machine, project: &ProjectId, release: ReleaseNo) -> bool {
        machine.units.keys().any(|unit| {
            unit.project == *project
                && unit.release == release
                && self.read.contains_key(project)
                && machine.apps.get(unit).is_some_and(|app| app.written.port.is_some())
                && place(machine, unit) == Some(machine.slot_of(project, &unit.process))
                && self.past.get(project).is_some_and(|past| !past.served.is_empty())
        })
    }

    fn link(&mut self, machine: &Machine, project: &ProjectId, number: ReleaseNo) {
        let bundle = machine.bundles.get(project);
        let there = bundle.is_some_and(|bundle| bundle.releases.contains_key(&number));
        self.check(Promise::S1, there, || format!("link {project} {number}, which is not on disk"));
        let served = self.past.get(project).and_then(|past| past.served.last().copied());
        if served != Some(number) && !self.switching(machine, project, number) {
            self.proven(machine, project, number);
        }
    }

    /// What gets the traffic for the first time was ready for long enough before.
    fn proven(&mut self, machine: &Machine, project: &ProjectId, number: ReleaseNo) {
        let Some(spec) = self.spec(project) else { return };
        // A removal that was taken back: it has served before, and nobody else does.
        if self.past.get(project).is_some_and(|past| past.robbed.contains(&number) && past.declared.contains(&number)) {
            return;
        }
        let min_healthy = spec.deploy.min_healthy.0;
        let mut shortest = None;
        for (unit, seen) in machine.units.iter().filter(|(unit, _)| unit.project == *project && unit.release == number)
        {
            let Some(app) = machine.apps.get(unit).filter(|app| app.place.port.is_some() && seen.is_up()) else {
                continue;
            };
            let since = machine.ready.get(unit).map(|ready| ready.since);
            let long = since.map_or(0, |since| machine.uptime - since);
            shortest = Some(shortest.map_or(long, |other: u64| other.min(long)));
            let _ = app;
        }
        let jumped = self.jumped.is_some_and(|at| machine.uptime - at <= min_healthy + 20_000);
        let enough = shortest.is_none_or(|long| long >= min_healthy);
        self.check(Promise::S10, enough || jumped, || {
            format!("{project} {number} gets traffic after {}, not {}", Span(shortest.unwrap_or(0)), Span(min_healthy))
        });
    }

    fn keeps_secrets(&mut self, order: &UnitOrder) {
        let shown = order.text.contains(SENTINEL)
            || order.timer.as_ref().is_some_and(|timer| timer.contains(SENTINEL))
            || order.launch.words.iter().any(|word| word.contains(SENTINEL))
            || order.launch.own.values().any(|value| value.contains(SENTINEL));
        self.check(Promise::S8, !shown, || format!("write {} shows the value of a variable", order.unit));
    }

    /// What is kept of a failure is shown to everybody who may read.
    fn keeps_evidence(&mut self, changed: &BTreeMap<ProjectId, ProjectProgress>) {
        for (project, progress) in changed {
            let refusals = progress.quarantine.iter().flat_map(|quarantine| quarantine.hosts.values());
            let stalls =
                progress.stalled.iter().chain(&progress.waits_for_services).map(|stall| &stall.message).chain(refusals);
            let ends =
                progress.releases.values().filter_map(|release| release.end.as_ref()).map(|end| &end.cause().message);
            let evidence = progress.releases.values().filter_map(|release| release.rejected()?.evidence.as_ref());
            let lines = evidence.flat_map(|evidence| evidence.findings.iter().chain(&evidence.log));
            let backoff = progress.backoff.iter().map(|backoff| &backoff.message);
            let shown = stalls.chain(ends).chain(lines).chain(backoff).find(|text| text.contains(SENTINEL)).cloned();
            self.check(Promise::S8, shown.is_none(), || format!("{project} keeps the value of a variable: {shown:?}"));
        }
    }

    fn own_hosts(&mut self, order: &RoutesOrder) {
        for site in &order.sites {
            let (host, owner) = (site.host.clone(), site.project.clone());
            let first = self.hosts.get(&host).cloned();
            let moved = first.as_ref().is_some_and(|first| *first != owner);
            self.check(Promise::S14, !moved, || format!("{host} goes to {owner}, and {first:?} still has it"));
            // Whoever asks for another host by now serves this one only until that other one serves.
            if self.spec(&owner).is_some_and(|spec| zexio::plan::target::hosts_of(spec).contains(&host)) {
                self.hosts.insert(host, owner);
            }
        }
    }

    fn status(&mut self, machine: &Machine, status: &Status) {
        // The store keeps nothing of what was forgotten in this very pass.
        let (Some(wanted), Some(asked)) = (self.read.get(&status.project), self.asked.get(&status.project)) else {
            return;
        };
        let asked = asked.generation;
        let is = |kind: ConditionKind| status.condition(kind).is_some_and(|condition| condition.holds);
        let settled = is(ConditionKind::Ready) || is(ConditionKind::Stalled);
        let drains = is(ConditionKind::Ready)
            && status.condition(ConditionKind::Reconciling).is_some_and(|doing| doing.reason == Reason::Draining);
        let before = self.past.get(&status.project).map_or(0, |past| past.observed_generation);
        let rules = [
            (status.generation == wanted.generation, "its generation is not what was asked"),
            (status.observed_generation <= status.generation, "it saw more than was asked"),
            (status.generation <= asked, "it tells of a project that is gone, of which another one has the name"),
            (status.observed_generation >= before, "it saw less than before"),
            (
                !settled || status.observed_generation == status.generation,
                "it is settled, and its generation was not seen",
            ),
            (status.condition(ConditionKind::Ready).is_some(), "it has no Ready"),
            (!(is(ConditionKind::Ready) && is(ConditionKind::Stalled)), "it is Ready and Stalled"),
            (!(is(ConditionKind::Reconciling) && settled) || drains, "it is settled and Reconciling"),
            (!is(ConditionKind::Ready) || status.serving.is_some(), "it is Ready, and nothing serves"),
            (status.state != ProjectState::Running || is(ConditionKind::Ready), "it runs, and is not Ready"),
        ];
        let project = status.project.clone();
        let broken = rules.iter().find(|(holds, _)| !holds).map(|(_, why)| why);
        self.check(Promise::S7, broken.is_none(), || format!("the status of {project}: {broken:?}: {status:?}"));
        let shown = status.conditions.iter().any(|condition| condition.message.contains(SENTINEL));
        self.check(Promise::S8, !shown, || format!("the status of {project} shows the value of a variable"));
        if is(ConditionKind::Ready) && !machine.blind.lies {
            let missing = status.serving.filter(|serving| !has_traffic(machine, &project, *serving));
            let touched = self.past.get(&project).is_some_and(|past| past.disturbed);
            self.check(Promise::S7, missing.is_none() || touched, || {
                format!("{project} is Ready, and release {missing:?} has no traffic")
            });
        }
        if self.sees_proxy {
            self.own_routes(machine, status);
        }
        status.conditions.iter().for_each(|condition| self.reach(condition.reason.name()));
        let jumped = self.jumped;
        let judged = self.past(&project).trials.note_told(machine, status, jumped);
        if let Some((holds, why)) = judged {
            self.check(Promise::S18, holds, || why);
        }
        let past = self.past(&project);
        let ended = past.candidate.filter(|old| status.serving != Some(*old) && !status.rejected.contains(old));
        let superseded = ended.is_some() && status.candidate != past.candidate;
        past.candidate = status.candidate;
        past.declared.extend(status.serving);
        past.observed_generation = status.observed_generation;
        // A wish that waits for the end of a suspension was not tried yet: what is told is the one before.
        let failed = !is(ConditionKind::Suspended)
            && status.condition(ConditionKind::Stalled).is_some_and(|condition| REJECTED.contains(&condition.reason));
        past.failed_for = failed.then_some(status.generation);
        let before = std::mem::take(&mut past.rejected);
        let told = |number: &ReleaseNo| (*number, before.get(number).copied().unwrap_or(status.generation));
        past.rejected = status.rejected.iter().map(told).collect();
        if superseded {
            self.reach("superseded");
        }
    }

    /// A project answers for the hosts of its own: those that Caddy serves as they were offered are live, whatever
    /// becomes of others, and while one is not so it is not Ready.
    fn own_routes(&mut self, machine: &Machine, status: &Status) {
        let refused = |host: &Hostname| machine.refused.as_deref() == Some(host.as_str());
        let own = self.offered.iter().filter(|site| site.project == status.project && !refused(&site.host));
        let (served, unserved): (Vec<&Site>, Vec<&Site>) = own.partition(|site| machine.sites.contains(site));
        let is_down = |process: &ProcessStatus| process.state != ActiveState::Active;
        let falls = status.processes.iter().any(|it| Some(it.release) == status.serving && is_down(it));
        let fails = |route: &RouteStatus| falls && route.failing.is_some();
        let is_live = |host: &Hostname| status.routes.iter().all(|it| it.host != *host || it.live || fails(it));
        let blamed = served.iter().find(|site| !is_live(&site.host)).map(|site| site.host.clone());
        let missing = unserved.first().map(|site| site.host.clone());
        let ready =
            status.condition(ConditionKind::Ready).filter(|ready| ready.holds || ready.reason == Reason::RoutePending);
        let ready = ready.map(|ready| ready.holds);
        self.check(Promise::S19, blamed.is_none(), || format!("Caddy serves {blamed:?}, called not live: {status:?}"));
        self.check(Promise::S19, ready.is_none_or(|ready| ready == missing.is_none()), || {
            format!("of the hosts of {} Caddy does not serve {missing:?}: {status:?}", status.project)
        });
    }

    /// Checks that nothing but the operator changed what is wanted.
    pub fn after_pass(&mut self, machine: &Machine) {
        let same = machine.desired.0 == self.asked;
        self.check(Promise::S9, same, || "what is wanted is not what was asked".to_owned());
        let same = machine.host.wanted == self.host.asked;
        self.check(Promise::S9, same, || "what is wanted of services is not what was asked".to_owned());
        if let Some(line) = listener::heard() {
            self.check(Promise::S8, false, || format!("the log shows the value of a variable: {line}"));
        }
    }
}

fn place(machine: &Machine, unit: &UnitId) -> Option<Slot> {
    machine.apps.get(unit).and_then(|app| app.written.slot)
}

pub fn is_ready(machine: &Machine, unit: &UnitId) -> bool {
    let up = machine.units.get(unit).is_some_and(|seen| seen.state == ActiveState::Active);
    up && machine.ready.contains_key(unit)
}

/// Tells whether a release's web processes are where Caddy sends requests, and the link leads to it.
fn has_traffic(machine: &Machine, project: &ProjectId, number: ReleaseNo) -> bool {
    let linked = machine.bundles.get(project).is_some_and(|bundle| bundle.link == Some(number));
    let own = machine.units.keys().filter(|unit| unit.project == *project && unit.release == number);
    let mut web = own.filter(|unit| machine.apps.get(*unit).is_some_and(|app| app.written.port.is_some()));
    linked && web.all(|unit| place(machine, unit) == Some(machine.slot_of(project, &unit.process)))
}

/// Returns who is answered now, through Caddy as it is.
pub fn answered(machine: &Machine, project: Option<&ProjectId>) -> Vec<Answer> {
    if !machine.proxy.up {
        return Vec::new();
    }
    let mut found = Vec::new();
    for site in machine.sites.iter().filter(|site| project.is_none_or(|project| site.project == *project)) {
        for route in site.routes.iter().filter(|route| answers(machine, route)) {
            found.push((site.project.clone(), site.host.clone(), route.process.clone()));
        }
    }
    found
}

fn answers(machine: &Machine, route: &SiteRoute) -> bool {
    if route.root.is_some() {
        let bundle = machine.bundles.get(&route.project);
        return bundle.is_some_and(|bundle| bundle.link.is_some_and(|link| bundle.releases.contains_key(&link)));
    }
    let slot = machine.slot_of(&route.project, &route.process);
    let ports = if slot == Slot::B { &route.b } else { &route.a };
    machine.units.keys().any(|unit| {
        unit.project == route.project
            && unit.process == route.process
            && is_ready(machine, unit)
            && machine.apps[unit].place.port.is_some_and(|port| {
                ports.iter().any(|address| address.rsplit(':').next().is_some_and(|it| it.parse() == Ok(port)))
            })
    })
}

/// Returns something that is left of a project that is to be gone.
pub fn left_of(machine: &Machine, project: &ProjectId, keep_data: bool) -> Option<String> {
    if let Some(unit) = machine.units.keys().find(|unit| unit.project == *project) {
        return Some(unit.name());
    }
    let bundle = machine.bundles.get(project)?;
    let files = bundle.directory
        || bundle.fronts
        || bundle.link.is_some()
        || !bundle.markers.is_empty()
        || !bundle.releases.is_empty();
    let own = bundle.user || bundle.data;
    (files || own && !keep_data).then(|| format!("{bundle:?}"))
}
