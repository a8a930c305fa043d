//! One seed, one life: some time with faults, then everything is healed, and the agent has to come to rest.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use zexio::model::desired::Intent;
use zexio::model::names::ProjectId;
use zexio::model::observed::UnitSeen;
use zexio::model::quantity::{Span, Timestamp};
use zexio::model::spec::{ArtifactFrom, Source, Spec};
use zexio::model::status::{ConditionKind, Status};
use zexio::reconcile::pass::{Loop, Planner, checked_plan};

use super::drift;
use super::operator::Operator;
use super::options::{Later, Options};
use super::oracle::{Breach, Oracle, Promise, answered, left_of};
use super::{listener, services};
use crate::chance::Chance;
use crate::world::apps::content_name;
use crate::world::gate::{Death, Fate, Odds};
use crate::world::host::Luck;
use crate::world::life::{agent, rules};
use crate::world::{Blind, Machine, World};
use zexio::model::reason::Reason;

/// Within how many passes the agent comes to rest once nothing disturbs it any more. A rollout takes about 20, three
/// projects may each have one waiting behind another, and steps that had no effect are tried again once a second.
pub const HEAL_PASSES: u32 = 400;

/// How often the loop looks at everything by itself.
const RESYNC: u64 = 60_000;

/// Whatever of the configuration decides where a request goes, and nothing else: filling the real template takes most
/// of a life's time.
const TEMPLATE: &str = "{% for site in sites %}{{ site.host }} {{ site.project }} {{ site.redirect }}{% for r in site.routes %} {{ r.name }} {{ r.path }} {{ r.a }} {{ r.b }} {{ r.root }}{% endfor %}\n{% endfor %}";

/// What a life is lived with. A test puts something broken in the place of one part.
#[derive(Clone, Copy)]
pub struct Rig {
    pub planner: Planner,
    pub spoil_status: Option<fn(&mut Status)>,
    /// The prober calls everything ready.
    pub blessing: bool,
    /// A look does not say since when a unit has its state.
    pub timeless: bool,
    /// Whether one host that Caddy does not serve makes the agent believe that it serves none.
    pub one_for_all: bool,
    /// The directory's door lets any number of projects go at once.
    pub unguarded: bool,
    /// Nothing is drawn that the swarm learned to draw later: each seed lives the life that it always had.
    pub plain: bool,
    /// Whether every call is written down.
    pub told: bool,
}

impl Default for Rig {
    fn default() -> Self {
        Self {
            planner: checked_plan,
            spoil_status: None,
            blessing: false,
            timeless: false,
            one_for_all: false,
            unguarded: false,
            plain: false,
            told: false,
        }
    }
}

/// What a life came to.
#[derive(Debug, Default)]
pub struct Outcome {
    pub breach: Option<Breach>,
    pub passes: u64,
    pub calls: u64,
    pub faults: BTreeMap<String, u64>,
    pub checked: BTreeMap<Promise, u64>,
    pub reached: BTreeSet<String>,
    pub told: Vec<String>,
}

struct Life {
    world: World,
    agent: Loop,
    chance: Chance,
    /// For what the swarm learned to draw later.
    later: Chance,
    /// When an app falls unseen, and how often, in a thousand.
    weary: (Chance, u64),
    options: Options,
    rig: Rig,
    faults: BTreeMap<String, u64>,
    passes: u64,
    requeue_at: Option<Timestamp>,
    next_full: u64,
}

/// Lives the life of a seed.
pub fn live(seed: u64, rig: Rig) -> Outcome {
    let mut life = Life::begin(seed, rig);
    life.suffer();
    life.heal();
    life.end()
}

impl Life {
    fn begin(seed: u64, rig: Rig) -> Self {
        let mut chance = Chance::of(seed);
        let mut later = Chance::of(seed ^ 4);
        // From a source of its own, so that the other draws stay what they were.
        let verifies = Chance::of(seed ^ 11).hits(250);
        let drawn = Later { verifies, ..Later::draw(&mut later) };
        let later_options = if rig.plain { Later::default() } else { drawn };
        let options = Options { later: later_options, ..Options::draw(&mut chance) };
        let world = World::default();
        // Each life's lines cost time.
        if drawn.listens {
            listener::listen();
        }
        {
            let mut machine = world.lock();
            machine.now = Timestamp(1_700_000_000_000);
            (machine.network, machine.proxy.up) = (true, true);
            machine.refused = options.refuses.then(|| "shop.example.com".to_owned());
            machine.flaky = Some((Chance::of(seed ^ 1), options.flaky));
            machine.gate.odds = Some(Odds {
                chance: Chance::of(seed ^ 2),
                fails: options.fails,
                dies: options.dies,
                counts: BTreeMap::new(),
            });
            machine.oracle = Some(Box::<Oracle>::default());
            machine.spoil_status = rig.spoil_status;
            machine.blessing = rig.blessing;
            machine.timeless = rig.timeless;
            machine.one_for_all = rig.one_for_all;
            let grudges = options.later.grudges;
            machine.grudges = (grudges > 0).then(|| (Chance::of(seed ^ 9), grudges));
            machine.keeps_calls = rig.told;
            // What belongs to nobody that asks here.
            let stranger = ProjectId::parse("stranger").expect("a project");
            machine.bundle(&stranger).directory = true;
            machine.doors = Some(Box::new(Operator::new(Chance::of(seed ^ 3), &options, seed, !rig.unguarded)));
            if options.later.services {
                let chance = Chance::of(seed ^ 8);
                machine.host.luck = Some(Luck { chance, work: options.later.work, falls: options.later.falls });
                // What was there before anybody asked.
                services::meddle(&mut later, &mut machine);
                machine.host.tick(0);
            }
        }
        let mut weary = Chance::of(seed ^ 9);
        let falls = if !rig.plain && weary.hits(250) { 500 } else { 0 };
        let ports = if options.tiny_ports { (21000, 21005) } else { (21000, 21099) };
        let agent = agent(&world, rules(TEMPLATE, ports), rig.planner);
        Self {
            world,
            agent,
            chance,
            later,
            weary: (weary, falls),
            options,
            rig,
            faults: BTreeMap::new(),
            passes: 0,
            requeue_at: None,
            next_full: 0,
        }
    }

    /// Lets whoever asks do something.
    fn ask<T>(&self, what: impl FnOnce(&mut Operator, &mut Machine) -> T) -> T {
        let mut machine = self.world.lock();
        let mut operator = machine.doors.take().expect("whoever asks is there between two passes");
        let done = what(&mut operator, &mut machine);
        machine.doors = Some(operator);
        done
    }

    fn count(&mut self, fault: &str) {
        *self.faults.entry(fault.to_owned()).or_default() += 1;
        let mut machine = self.world.lock();
        if machine.keeps_calls {
            machine.calls.push(format!("--- {fault}"));
        }
    }

    fn broken(&self) -> bool {
        self.world.lock().oracle.as_ref().is_some_and(|oracle| oracle.breach.is_some())
    }

    /// The part of the life in which everything can go wrong.
    fn suffer(&mut self) {
        self.ask(Operator::wish);
        for _ in 0..self.options.steps {
            self.record_failure();
            let mut more = 6;
            // What follows at once: passes until the agent wants to rest.
            while more > 0 && !self.broken() {
                more = if self.pass() { more - 1 } else { 0 };
            }
            if self.broken() {
                return;
            }
            self.rest(true);
            if self.chance.hits(300) && !self.go_on() {
                return;
            }
        }
    }

    /// Lets some passes go by with nothing new; tells whether nothing broke.
    fn go_on(&mut self) -> bool {
        let blind = std::mem::take(&mut self.world.lock().blind);
        for _ in 0..20 {
            self.pass();
            if self.broken() {
                return false;
            }
            if self.requeue_at.is_none() && self.next_move().is_none() {
                break;
            }
            self.rest(false);
        }
        self.world.lock().blind = blind;
        true
    }

    /// Lets desired_store come and faults happen.
    fn record_failure(&mut self) {
        let Options { desired_store, drift, jumps, restarts, disk_full, outages, caddy, .. } = self.options;
        if self.chance.hits(desired_store) {
            self.ask(Operator::wish);
        }
        self.strike_later(desired_store, drift);
        if self.chance.hits(drift) {
            let what = drift::meddle(&mut self.chance, &mut self.world.lock());
            self.count(what);
        }
        if self.chance.hits(jumps) {
            self.jump();
        }
        if self.chance.hits(restarts) {
            self.count("the agent was restarted");
            self.replace_agent();
        }
        let full = self.chance.hits(disk_full);
        if full {
            self.count("the disk was full");
        }
        let out = self.chance.hits(outages);
        if out {
            self.count("the network was away");
        }
        let mut machine = self.world.lock();
        (machine.disk_full, machine.network) = (full, !out);
        drop(machine);
        if self.chance.hits(caddy) {
            let mut machine = self.world.lock();
            (machine.proxy.up, machine.proxy.live) = (false, false);
            machine.sites.clear();
            drop(machine);
            self.count("Caddy went down");
        }
        self.cover_eyes();
    }

    /// Lets desired_store come and faults happen that are drawn from a source of their own.
    fn strike_later(&mut self, desired_store: u64, drift: u64) {
        let Later { services, directory, .. } = self.options.later;
        if services && self.later.hits(desired_store) {
            self.ask(Operator::wish_service);
        }
        if services && self.later.hits(drift) {
            let what = services::meddle(&mut self.later, &mut self.world.lock());
            self.count(what);
        }
        if self.weary.0.hits(self.weary.1) {
            self.wear();
        }
        if directory && self.later.hits(150) {
            let what = self.ask(Operator::lose_files);
            self.count(what);
        }
    }

    /// Lets an app fall unseen; somebody may go back to its release then.
    fn wear(&mut self) {
        let worn = drift::wear(&mut self.weary.0, &mut self.world.lock());
        let back = self.weary.0.hits(500);
        if let Some(unit) = worn {
            self.count("an app fell now and then, unseen");
            self.ask(|operator, machine| back.then(|| operator.go_back(&unit, machine)));
        }
    }

    fn cover_eyes(&mut self) {
        let (odds, lies) = (self.options.blind, self.options.lies);
        let mut one = |odds| self.chance.hits(odds);
        let blind = Blind {
            store: one(odds / 4),
            units: one(odds),
            bundles: one(odds),
            proxy: one(odds),
            health: one(odds),
            lies: one(lies),
        };
        self.world.lock().blind = blind;
        for (is, what) in [
            (blind.store, "the database could not be read"),
            (blind.units, "systemd could not be asked"),
            (blind.bundles, "the disk could not be read"),
            (blind.proxy, "Caddy could not be asked"),
            (blind.health, "the probes said nothing"),
            (blind.lies, "a release and the probes were not as they seemed"),
        ] {
            if is {
                self.count(what);
            }
        }
    }

    fn jump(&mut self) {
        let by = 1 + self.chance.below(1 << self.chance.clone().below(27));
        let back = self.chance.hits(500);
        let mut machine = self.world.lock();
        machine.now = if back { Timestamp(machine.now.0 - by) } else { Timestamp(machine.now.0 + by) };
        let uptime = machine.uptime;
        if let Some(oracle) = &mut machine.oracle {
            oracle.jumped = Some(uptime);
        }
        drop(machine);
        self.count(if back { "the clock jumped back" } else { "the clock jumped ahead" });
    }

    fn replace_agent(&mut self) {
        self.world.lock().lose_what_ran_beside_the_loop();
        let rules = self.agent.config.clone();
        self.agent = agent(&self.world, rules, self.rig.planner);
        self.ask(Operator::restart_doors);
    }

    /// Runs one pass; tells whether the agent wants the next one at once.
    fn pass(&mut self) -> bool {
        self.passes += 1;
        self.ask(Operator::look_in_time);
        let full = self.world.lock().uptime >= self.next_full;
        if full {
            self.next_full = self.world.lock().uptime + RESYNC;
        }
        match catch_unwind(AssertUnwindSafe(|| self.agent.pass(full))) {
            Ok(requeue_at) => self.requeue_at = requeue_at,
            Err(cause) if cause.is::<Death>() => {
                self.replace_agent();
                self.requeue_at = Some(self.world.lock().now);
            }
            Err(_) => {
                let mut machine = self.world.lock();
                if let Some(oracle) = &mut machine.oracle {
                    oracle.check(Promise::P, false, || "the agent panicked".to_owned());
                }
            }
        }
        let mut machine = self.world.lock();
        let now = machine.now;
        if let Some(mut oracle) = machine.oracle.take() {
            oracle.after_pass(&machine);
            machine.oracle = Some(oracle);
        }
        self.requeue_at.is_some_and(|moment| moment <= now)
    }

    /// Lets time pass until the agent looks again: by itself, or since it is told of something.
    fn rest(&mut self, interrupted: bool) {
        let next = self.next_move();
        let mut machine = self.world.lock();
        let wanted = self.requeue_at.map_or(RESYNC, |moment| moment.since(machine.now).0);
        let full = self.next_full.saturating_sub(machine.uptime);
        let told = next.map_or(RESYNC, |at| at.saturating_sub(machine.uptime));
        let told = if self.options.deaf_signals && interrupted { RESYNC } else { told };
        let wait = wanted.min(full).min(told).min(RESYNC);
        let wait = if interrupted && self.chance.hits(400) { self.chance.below(wait + 1) } else { wait };
        machine.tick(Span(wait));
    }

    /// Returns when something moves next, or a door looks by itself.
    fn next_move(&self) -> Option<u64> {
        let machine = self.world.lock();
        machine.next_move().into_iter().chain(machine.doors.as_ref().and_then(|doors| doors.due())).min()
    }

    /// Takes every fault away and waits for the agent to come to rest; then asks for one more release of everything, or
    /// goes back, or leaves it at that.
    fn heal(&mut self) {
        if self.broken() {
            return;
        }
        {
            let mut machine = self.world.lock();
            machine.blind = Blind::default();
            (machine.network, machine.disk_full, machine.cured, machine.refused) = (true, false, true, None);
            machine.flaky = None;
            if let Some(odds) = &mut machine.gate.odds {
                (odds.fails, odds.dies) = (0, 0);
            }
            if machine.keeps_calls {
                machine.calls.push("--- healed".to_owned());
            }
            let uptime = machine.uptime;
            machine.host.cure(uptime);
        }
        let restore = self.later.hits(500);
        self.ask(|operator, machine| {
            operator.calm_down();
            if restore {
                operator.restore_files(machine);
            }
            operator.resume_all(machine);
            operator.mend_services(machine);
        });
        self.come_to_rest("after the faults");
        self.judge(false);
        if self.broken() {
            return;
        }
        let wish = self.chance.below(4);
        match wish {
            0 => self.ask(Operator::renew_all),
            1 => self.ask(|operator, machine| {
                // The way back needs no network.
                machine.network = false;
                operator.go_back_all(machine);
            }),
            _ => return,
        }
        self.come_to_rest("after one more wish");
        self.judge(wish == 0);
    }

    fn come_to_rest(&mut self, when: &str) {
        let mut quiet = 0;
        for _ in 0..HEAL_PASSES {
            let made = self.world.lock().made;
            self.pass();
            if self.broken() {
                return;
            }
            let still = self.next_move().is_none();
            let machine = self.world.lock();
            // Refused routes wait for ten minutes.
            let waits = machine.statuses.values().any(|status| {
                status.condition(ConditionKind::Stalled).is_some_and(|it| it.reason == Reason::RouteRefused)
            });
            let does_nothing = machine.made == made;
            let machine_is_idle = does_nothing && self.requeue_at.is_none();
            // A pass is due when a process that falls again and again would count as up.
            let works_on = |status: &Status| {
                let works = status.condition(ConditionKind::Reconciling).filter(|it| it.holds);
                works.map(|it| it.reason)
            };
            let mut reasons = machine.statuses.values().filter_map(works_on).peekable();
            let falls = reasons.peek().is_some() && reasons.all(|reason| reason == Reason::ProcessDown);
            let idle = machine_is_idle && !waits;
            let works = !machine.host.work.is_empty();
            let looks = machine.doors.as_ref().is_some_and(|doors| doors.due().is_some());
            let idle = idle && !works && !looks;
            let only_falls = falls && does_nothing && !works && !looks;
            drop(machine);
            if waits && machine_is_idle {
                self.world.lock().tick(Span(RESYNC));
            }
            quiet = if idle || only_falls { quiet + 1 } else { 0 };
            // A release that is held to be looked at may fall for ever.
            if (idle && still || quiet > 20) && self.plan_nothing_twice(when) {
                return;
            }
            self.rest(false);
        }
        let planned = self.planned();
        let mut machine = self.world.lock();
        let requeue_at = self.requeue_at;
        let shown: Vec<String> =
            machine.statuses.values().map(|status| format!("{}: {:?}", status.project, status.conditions)).collect();
        if let Some(oracle) = &mut machine.oracle {
            oracle.check(Promise::L2, false, || format!("{when} it is not at rest within {HEAL_PASSES} passes; it plans {planned:?}, looks again at {requeue_at:?}; {shown:?}"));
        }
    }

    fn planned(&mut self) -> Vec<String> {
        let plan = match self.agent.dry_run(None) {
            Ok(rehearsed) => rehearsed.plan,
            Err(error) => return vec![error],
        };
        plan.steps.iter().map(|step| format!("{} {}: {}", step.action.facts().sign, step.action, step.reason)).collect()
    }

    /// Checks that nothing is planned, and that the pass after it does nothing, twice. Tells whether it is so; routes that
    /// Caddy refused may come back meanwhile.
    fn plan_nothing_twice(&mut self, when: &str) -> bool {
        for _ in 0..2 {
            let planned = self.planned();
            let mut machine = self.world.lock();
            machine.tick(Span(RESYNC));
            let made = machine.made;
            if let Some(oracle) = &mut machine.oracle {
                oracle.past.values_mut().for_each(|past| past.disturbed = false);
                oracle.check(Promise::L2, planned.is_empty(), || format!("{when} it still plans {planned:?}"));
            }
            drop(machine);
            self.pass();
            let mut machine = self.world.lock();
            let idle = machine.made == made;
            if !idle && self.options.refuses {
                return false;
            }
            if let Some(oracle) = &mut machine.oracle {
                oracle.check(Promise::L2, idle, || format!("{when} it planned nothing and did something"));
            }
        }
        true
    }

    /// Looks what has become of every project. `fresh`: nothing went wrong since it was last asked for.
    fn judge(&mut self, fresh: bool) {
        let projects = self.ask(|operator, machine| {
            operator.judge_files(machine);
            operator.projects()
        });
        let mut machine = self.world.lock();
        let Some(mut oracle) = machine.oracle.take() else { return };
        for project in projects {
            match oracle.asked.get(&project).cloned().map(|wanted| wanted.intent) {
                None => gone(&machine, &project, &mut oracle),
                Some(Intent::Run(spec)) => serves(&machine, &project, &spec, fresh, &self.options, &mut oracle),
                Some(Intent::Delete { .. }) => {
                    oracle.check(Promise::L3, false, || format!("{project} is still being deleted"));
                }
                Some(Intent::Nothing | Intent::Unreadable(_)) => {}
            }
        }
        oracle.judge_services(&machine);
        machine.oracle = Some(oracle);
    }

    fn end(self) -> Outcome {
        let mut machine = self.world.lock();
        let mut oracle = machine.oracle.take().unwrap_or_default();
        let mut faults = self.faults;
        for (fate, n) in machine.gate.odds.iter().flat_map(|odds| &odds.counts) {
            let what = match fate {
                Fate::FailsBefore => "an effect failed",
                Fate::FailsAfter => "an effect's answer was lost",
                Fate::DiesBefore => "the agent died before an effect",
                Fate::DiesAfter => "the agent died after an effect",
                Fate::Happens => continue,
            };
            *faults.entry(what.to_owned()).or_default() += n;
        }
        faults.remove("nothing");
        let amid = machine.doors.as_ref().map_or(0, |doors| doors.interrupted);
        if amid > 0 {
            faults.insert("a wish came in the middle of a pass".to_owned(), amid);
        }
        let lines = listener::stop();
        if lines > 0 {
            oracle.checked.entry(Promise::S8).and_modify(|n| *n += lines);
        }
        Outcome {
            breach: oracle.breach.take(),
            passes: self.passes,
            calls: machine.made,
            faults,
            checked: std::mem::take(&mut oracle.checked),
            reached: std::mem::take(&mut oracle.reached),
            told: std::mem::take(&mut machine.calls),
        }
    }
}

fn gone(machine: &Machine, project: &ProjectId, oracle: &mut Oracle) {
    let left = left_of(machine, project, oracle.kept.contains(project));
    oracle.check(Promise::L3, left.is_none(), || format!("{project} is gone, and there is still {left:?}"));
    let remembered = machine.progress.projects.contains_key(project) || machine.statuses.contains_key(project);
    oracle.check(Promise::L3, !remembered, || format!("{project} is gone, and something of it is remembered"));
    let routed = machine.sites.iter().any(|site| site.project == *project);
    oracle.check(Promise::L3, !routed, || format!("{project} is gone, and Caddy still has its routes"));
}

fn serves(machine: &Machine, project: &ProjectId, spec: &Spec, fresh: bool, options: &Options, oracle: &mut Oracle) {
    let Some(status) = machine.statuses.get(project) else {
        return oracle.check(Promise::L1, false, || format!("{project} has no status"));
    };
    // Its file was restored while it was still being removed: nobody saw to its suspension.
    if status.condition(ConditionKind::Suspended).is_some() {
        return;
    }
    let stalled = status.condition(ConditionKind::Stalled).map(|condition| condition.reason);
    let link = machine.bundles.get(project).and_then(|bundle| bundle.link);
    let linked = link.and_then(|link| machine.origins.get(&(project.clone(), link)));
    let wanted = match &spec.artifact.from {
        ArtifactFrom::Source(Source::File { name, .. }) => {
            machine.bytes.iter().find(|(sha256, _)| sha256.as_str() == name.as_str()).map(|(_, name)| name.clone())
        }
        ArtifactFrom::Source(source) => Some(content_name(source).to_owned()),
        ArtifactFrom::Release(number) => machine.origins.get(&(project.clone(), *number)).cloned(),
    };
    let excused = match stalled {
        None => false,
        Some(Reason::Conflict) => options.shared_hosts,
        Some(Reason::PortsExhausted) => options.tiny_ports,
        Some(Reason::DependencyMissing) => spec.needs.iter().any(|service| !machine.host.runs(*service)),
        Some(_) => !fresh,
    };
    let ready = status.condition(ConditionKind::Ready).is_some_and(|condition| condition.holds);
    // Without a check and a time to stay up, a release that falls at once is as good as any.
    let falls = linked.is_some_and(|name| name.contains("exits"));
    oracle.check(Promise::L1, ready || excused || falls, || {
        format!("{project} is neither ready nor excused: {:?}", status.conditions)
    });
    if ready {
        oracle.check(Promise::L1, linked == wanted.as_ref(), || format!("{project} serves {linked:?}, not {wanted:?}"));
    }
    let last = oracle.past.get(project).and_then(|past| past.served.last().copied());
    oracle.check(Promise::L1, last == link, || format!("{project} served {last:?} last, and {link:?} is linked"));
    let answers = answered(machine, Some(project));
    // An earlier release comes whole, and may lack a process that the spec routes by now.
    if ready && spec.artifact.release().is_none() {
        for (process, one) in &spec.processes {
            for route in one.routes.iter().filter(|route| route.redirect.is_none()) {
                let key = (project.clone(), route.host.clone(), process.clone());
                oracle.check(Promise::L1, answers.contains(&key), || {
                    format!("{project} is ready, and nobody answers for {} to {process}", route.host)
                });
            }
        }
    } else if last.is_some() {
        let up = machine.units.iter().filter(|(unit, _)| unit.project == *project && Some(unit.release) == link);
        let down = up.into_iter().find(|(unit, seen)| {
            let daemon = machine.apps.get(*unit).is_some_and(|app| app.place.port.is_some());
            daemon && !UnitSeen::is_up(seen)
        });
        oracle.check(Promise::L1, down.is_none(), || {
            format!("{project} fell back, and {:?} is down", down.map(|(unit, _)| unit.name()))
        });
    }
}
