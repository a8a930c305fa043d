//! A machine of plain maps and a virtual clock, under the real pass. Every port of the loop is one face of it.

pub mod apps;
pub mod gate;
pub mod host;
pub mod life;
mod ports;
pub mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use zexio::model::desired::{Desired, Intent};
use zexio::model::event::Event;
use zexio::model::names::{ProcessName, ProjectId, ReleaseNo, Sha256, Slot, UnitId};
use zexio::model::observed::{ActiveState, BundlesSeen, ProxySeen, UnitSeen, Visit};
use zexio::model::progress::{Progress, ProjectProgress};
use zexio::model::quantity::Timestamp;
use zexio::model::reason::Reason;
use zexio::model::record::Record;
use zexio::model::status::Status;
use zexio::port::PortError;
use zexio::render::caddyfile::Site;

use crate::chance::Chance;
use crate::swarm::operator::Operator;
use crate::swarm::oracle::Oracle;
use apps::{App, Fetch, Readiness};
use gate::{Death, Effect, Fate, Gate};
pub use life::Life;

/// The machine's state, and what was done to it.
#[derive(Default)]
pub struct Machine {
    /// What its clock shows.
    pub now: Timestamp,
    /// Milliseconds since its start, on the clock that never jumps.
    pub uptime: u64,
    pub desired: Desired,
    pub progress: Progress,
    pub statuses: BTreeMap<ProjectId, Status>,
    pub events: Vec<Event>,
    /// How often the agent wrote to its progress.
    pub writes: usize,
    /// How many of these were made for events alone.
    pub writes_of_events: usize,
    /// What the inputs wrote; `desired` is what it means.
    pub records: BTreeMap<ProjectId, Record>,
    pub sealed: store::Sealed,
    pub kept: store::Kept,
    /// The projects of which something cannot be read.
    pub unreadable: BTreeMap<ProjectId, store::Damaged>,
    pub units: BTreeMap<UnitId, UnitSeen>,
    pub apps: BTreeMap<UnitId, App>,
    pub ready: BTreeMap<UnitId, Readiness>,
    /// What Caddy is asked.
    pub visits: BTreeSet<Visit>,
    /// When a process of a release was last down by its own fault, on the clock that never jumps.
    pub down: BTreeMap<(ProjectId, ReleaseNo), u64>,
    pub bundles: BTreeMap<ProjectId, BundlesSeen>,
    /// The name of the bytes that a release was made from.
    pub origins: BTreeMap<(ProjectId, ReleaseNo), String>,
    pub fetches: BTreeMap<(ProjectId, ReleaseNo), Fetch>,
    pub artifacts: BTreeMap<Sha256, Timestamp>,
    /// The name of the bytes that have a digest.
    pub bytes: BTreeMap<Sha256, String>,
    pub proxy: ProxySeen,
    /// What Caddy serves now, and what it would come back with.
    pub sites: Vec<Site>,
    pub file_sites: Vec<Site>,
    pub host: host::Host,
    /// A host that Caddy refuses.
    pub refused: Option<String>,
    pub network: bool,
    /// How often, in a thousand, a download breaks.
    pub flaky: Option<(Chance, u64)>,
    pub disk_full: bool,
    /// When each artifact was first asked for, on the clock that never jumps.
    pub asked: BTreeMap<String, u64>,
    /// Apps that fall after a while do so no more.
    pub cured: bool,
    pub blind: Blind,
    /// A broken prober calls everything ready.
    pub blessing: bool,
    /// A broken look does not say since when a unit has its state.
    pub timeless: bool,
    /// A broken look at Caddy says of every host that it is not served, where one is not.
    pub one_for_all: bool,
    /// How often an app takes its time to end, and then ends badly, in a thousand.
    pub grudges: Option<(Chance, u64)>,
    /// How long a start takes for each unit that is starting then, in milliseconds: their sandboxes hold each other up.
    pub set_up: u64,
    /// Nothing that is asked of systemd or the disk is done.
    pub deaf: bool,
    pub gate: Gate,
    pub oracle: Option<Box<Oracle>>,
    /// Whoever asks, also while a pass is under way.
    pub doors: Option<Box<Operator>>,
    /// What a broken recorder makes of each status.
    pub spoil_status: Option<fn(&mut Status)>,
    /// Every call, in order, where a test asks for it.
    pub calls: Vec<String>,
    pub keeps_calls: bool,
    /// How many calls were made.
    pub made: u64,
    /// How often a web process of a project had the traffic and was not up and ready, after it once was.
    pub unserved: Vec<String>,
    served: BTreeSet<ProjectId>,
    runs: u64,
}

/// What the agent cannot see now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Blind {
    pub store: bool,
    pub units: bool,
    pub bundles: bool,
    pub proxy: bool,
    pub health: bool,
    /// What it can see is not so.
    pub lies: bool,
}

/// A share in the machine.
#[derive(Clone, Default)]
pub struct World(pub Arc<Mutex<Machine>>);

impl World {
    pub fn lock(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().expect("no test panics while it holds the machine")
    }

    fn hears(&self) -> Result<(), PortError> {
        if self.lock().deaf { Err(PortError::transient(Reason::Systemd, "nobody answers")) } else { Ok(()) }
    }

    /// The one way in which the agent changes anything.
    pub fn effect(
        &self,
        effect: Effect<'_>,
        act: impl FnOnce(&mut Machine) -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        let mut machine = self.lock();
        machine.interrupt();
        let fate = machine.gate.fate();
        if machine.keeps_calls {
            machine.watch_traffic(&effect);
        }
        let happens = !matches!(fate, Fate::FailsBefore | Fate::DiesBefore);
        let done = if happens { machine.happen(&effect, act) } else { Ok(()) };
        machine.note_call(&effect, fate, &done);
        match fate {
            Fate::DiesBefore | Fate::DiesAfter => {
                drop(machine);
                std::panic::resume_unwind(Box::new(Death))
            }
            Fate::FailsBefore => Err(PortError::transient(Reason::Internal, "nobody answered, and nothing happened")),
            Fate::FailsAfter => Err(PortError::transient(Reason::Internal, "it happened, and the answer was lost")),
            Fate::Happens => done,
        }
    }
}

impl Machine {
    fn happen(
        &mut self,
        effect: &Effect<'_>,
        act: impl FnOnce(&mut Self) -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        let Some(mut oracle) = self.oracle.take() else { return act(self) };
        let before = oracle.before(self, effect);
        let done = act(self);
        oracle.after(self, effect, &before);
        self.oracle = Some(oracle);
        done
    }

    fn note_call(&mut self, effect: &Effect<'_>, fate: Fate, done: &Result<(), PortError>) {
        let happened = fate == Fate::Happens && effect.is_call();
        self.made += u64::from(effect.is_call());
        if self.keeps_calls && happened && done.is_ok() {
            self.calls.push(effect.to_string());
        } else if self.keeps_calls && self.oracle.is_some() && (fate != Fate::Happens || done.is_err()) {
            let error = done.as_ref().err().map(ToString::to_string).unwrap_or_default();
            self.calls.push(format!("{effect} ({fate:?}) {error}"));
        }
    }

    /// Lets the oracle know what the agent read, before it acts on it.
    fn note_read(&mut self, note: impl FnOnce(&mut Oracle, &Self)) {
        if let Some(mut oracle) = self.oracle.take() {
            note(&mut oracle, self);
            self.oracle = Some(oracle);
        }
    }

    /// Lets desired_store come in the middle of a pass.
    fn interrupt(&mut self) {
        if let Some(mut doors) = self.doors.take() {
            doors.interrupt(self);
            self.doors = Some(doors);
        }
    }

    fn keep(&mut self, events: &[Event], alone: bool) {
        self.writes += 1;
        self.writes_of_events += usize::from(alone);
        if self.keeps_calls {
            self.events.extend_from_slice(events);
        }
    }

    fn save_progress(&mut self, changed: &BTreeMap<ProjectId, ProjectProgress>) -> Result<(), PortError> {
        for (project, progress) in changed {
            if self.desired.0.contains_key(project) {
                self.progress.projects.insert(project.clone(), progress.clone());
                self.drop_unused_values(project, progress);
            }
        }
        Ok(())
    }

    pub fn bundle(&mut self, project: &ProjectId) -> &mut BundlesSeen {
        self.bundles.entry(project.clone()).or_default()
    }

    /// Fetches end with the agent, and what its probes found is gone.
    pub fn lose_what_ran_beside_the_loop(&mut self) {
        self.fetches.clear();
        let now = self.now;
        self.ready.values_mut().for_each(|ready| ready.probed = now);
    }

    /// Looks whether each project that once served has its traffic where a process is up and ready.
    pub fn watch_traffic(&mut self, when: &dyn std::fmt::Display) {
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

    /// Returns the slot whose port Caddy sends a process's requests to.
    pub fn slot(&self, project: &ProjectId, process: &str) -> Slot {
        let process = ProcessName::parse(process).expect("a process name");
        self.slot_of(project, &process)
    }

    pub fn slot_of(&self, project: &ProjectId, process: &ProcessName) -> Slot {
        let marked = self.bundles.get(project).is_some_and(|bundle| bundle.markers.contains(process));
        if marked { Slot::B } else { Slot::A }
    }
}
