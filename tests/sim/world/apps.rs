//! What moves by itself while time passes: apps that start, get ready, fall and end, and fetches that come in.

use zexio::model::failure::{PortError, Retry};
use zexio::model::names::{ProjectId, ReleaseNo, Sha256, UnitId};
use zexio::model::observed::{ActiveState, Exit, FetchSeen};
use zexio::model::quantity::{Span, Timestamp};
use zexio::model::spec::Source;
use zexio::plan::{FetchOrder, UnitOrder};

use super::Machine;
use zexio::model::reason::Reason;

/// What systemd does not show of a unit.
#[derive(Debug, Clone, Default)]
pub struct App {
    /// The slot and the port that its files name now.
    pub written: Place,
    /// The same, as its running process was told.
    pub place: Place,
    is: Behaviour,
    notifies: bool,
    runs_once: bool,
    next: Option<(u64, Turn)>,
}

/// Where a process of an app stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    pub slot: Option<zexio::model::names::Slot>,
    pub port: Option<u16>,
}

/// How what an artifact holds behaves: its name says it.
#[derive(Debug, Clone, Copy, Default)]
struct Behaviour {
    ready_after: Option<u64>,
    falls_after: Option<u64>,
    migrates: bool,
}

impl Behaviour {
    fn of(name: &str) -> Self {
        let ready_after = match name {
            _ if name.contains("never-ready") => None,
            _ if name.contains("late") => Some(4_000),
            _ => Some(1),
        };
        let falls_after = match name {
            _ if name.contains("exits") => Some(0),
            _ if name.contains("dies") => Some(15_000),
            _ => None,
        };
        Self { ready_after, falls_after, migrates: !name.contains("unmigrated") }
    }
}

/// What happens next to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Up,
    Ready,
    Fall,
    Again,
    Down,
    DownBadly,
    Done,
}

/// A run that is ready.
#[derive(Debug, Clone, Copy)]
pub struct Readiness {
    /// Since when, on the clock that never jumps.
    pub since: u64,
    /// Since when the agent's probes found it so.
    pub probed: Timestamp,
}

/// A fetch beside the loop.
#[derive(Debug, Clone)]
pub struct Fetch {
    pub seen: FetchSeen,
    ends: Option<u64>,
    order: FetchOrder,
}

/// Returns the name of what an address leads to.
pub fn content_name(source: &Source) -> &str {
    let last = match source {
        Source::Url { url, .. } => url.rsplit('/').next().unwrap_or_default(),
        Source::File { name, .. } => name.as_str(),
    };
    last.split('?').next().unwrap_or_default()
}

pub fn digest(name: &str) -> Sha256 {
    let sum = name.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    Sha256::parse(&format!("{sum:064x}")).expect("64 hex digits")
}

const ROUND_TRIP: u64 = 1;
const RESTART_PAUSE: u64 = 2_000;

impl Machine {
    /// Notes where a unit's files now say that it stands.
    pub(super) fn place(&mut self, order: &UnitOrder) {
        let slot = match order.text.split_once("\nSlot=").map(|(_, rest)| &rest[..1]) {
            Some("b") => Some(zexio::model::names::Slot::B),
            Some(_) => Some(zexio::model::names::Slot::A),
            None => None,
        };
        let port = order.launch.own.get("PORT").and_then(|port| port.parse().ok());
        let app = self.apps.entry(order.unit.clone()).or_default();
        app.written = Place { slot, port };
        app.notifies = order.text.contains("\nType=notify");
        app.runs_once = order.text.contains("\nType=oneshot");
    }

    /// Begins a run of a unit. systemd does nothing for one that is up.
    pub(super) fn begin_run(&mut self, unit: &UnitId) {
        self.runs += 1;
        let starting = self.units.values().filter(|seen| seen.sub_state == "start").count() as u64;
        let (run, now, soon) = (self.runs, self.now, self.uptime + ROUND_TRIP + self.set_up * (starting + 1));
        let name = self.origins.get(&(unit.project.clone(), unit.release)).map_or("", String::as_str);
        let is = Behaviour::of(name);
        let seen = self.units.entry(unit.clone()).or_default();
        if seen.is_up() {
            return;
        }
        seen.state = ActiveState::Activating;
        seen.sub_state = "start".into();
        seen.invocation = Some(run.to_string());
        seen.since = Some(now);
        seen.restarts = 0;
        seen.exit = None;
        let app = self.apps.entry(unit.clone()).or_default();
        (app.is, app.place) = (is, app.written);
        app.next = match (app.runs_once, app.notifies) {
            (true, _) => Some((soon + 500, Turn::Done)),
            (false, true) => is.ready_after.map(|after| (soon + after, Turn::Up)),
            (false, false) => Some((soon, Turn::Up)),
        };
        self.ready.remove(unit);
    }

    /// Asks a unit to end.
    pub(super) fn end_run(&mut self, unit: &UnitId) {
        let soon = self.uptime + ROUND_TRIP;
        if let Some(seen) = self.units.get_mut(unit).filter(|seen| seen.is_up()) {
            seen.state = ActiveState::Deactivating;
            let badly = self.grudges.as_mut().is_some_and(|(chance, odds)| chance.hits(*odds));
            let next = if badly { (soon + 4_000, Turn::DownBadly) } else { (soon, Turn::Down) };
            self.apps.entry(unit.clone()).or_default().next = Some(next);
            self.ready.remove(unit);
        }
    }

    /// Lets a unit end at once, as a stranger's kill or its own fault does; systemd restarts a daemon.
    pub fn fall(&mut self, unit: &UnitId) {
        let again = self.uptime + RESTART_PAUSE;
        self.ready.remove(unit);
        let Some(seen) = self.units.get_mut(unit).filter(|seen| seen.is_up()) else { return };
        let app = self.apps.entry(unit.clone()).or_default();
        self.down.insert((unit.project.clone(), unit.release), self.uptime);
        seen.exit = Some(Exit::Status(3));
        seen.since = Some(self.now);
        if app.runs_once || seen.state == ActiveState::Deactivating {
            seen.state = if app.runs_once { ActiveState::Failed } else { ActiveState::Inactive };
            app.next = None;
            return;
        }
        (seen.state, seen.sub_state) = (ActiveState::Activating, "auto-restart".into());
        app.next = Some((again, Turn::Again));
    }

    /// Lets a unit that is ready have fallen and come back since anybody looked.
    pub fn fall_unseen(&mut self, unit: &UnitId, often: u32) {
        self.down.insert((unit.project.clone(), unit.release), self.uptime);
        self.runs += 1;
        if let Some(seen) = self.units.get_mut(unit) {
            (seen.invocation, seen.since, seen.restarts) =
                (Some(self.runs.to_string()), Some(self.now), seen.restarts + often);
        }
        self.ready.insert(unit.clone(), Readiness { since: self.uptime, probed: self.now });
    }

    /// Lets a unit be down, as after a stranger's `systemctl stop`.
    pub fn down(&mut self, unit: &UnitId) {
        self.ready.remove(unit);
        if let Some(seen) = self.units.get_mut(unit) {
            (seen.state, seen.sub_state, seen.since) = (ActiveState::Inactive, "dead".into(), Some(self.now));
        }
        self.apps.entry(unit.clone()).or_default().next = None;
    }

    /// Begins a run that a calendar asks for.
    pub fn fire(&mut self, unit: &UnitId) {
        if self.units.get(unit).is_some_and(|seen| seen.is_timed() && seen.text.is_some()) {
            self.begin_run(unit);
        }
    }

    /// Returns when something moves next, on the clock that never jumps.
    pub fn next_move(&self) -> Option<u64> {
        let apps = self.apps.values().filter_map(|app| app.next.map(|(at, _)| at));
        apps.chain(self.fetches.values().filter_map(|fetch| fetch.ends)).chain(self.host.next_move()).min()
    }

    /// Lets time pass.
    pub fn tick(&mut self, span: Span) {
        let end = self.uptime + span.0;
        let now = self.now.after(span);
        while let Some(at) = self.next_move().filter(|at| *at <= end) {
            self.uptime = at.max(self.uptime);
            self.now = Timestamp(now.0 - (end - self.uptime));
            for unit in self.due_units() {
                self.turn(&unit);
            }
            for key in self.due_fetches() {
                self.land(&key);
            }
            self.host.tick(self.uptime);
        }
        (self.uptime, self.now) = (end, now);
        self.host.tick(end);
    }

    fn due_units(&self) -> Vec<UnitId> {
        let due = self.apps.iter().filter(|(_, app)| app.next.is_some_and(|(at, _)| at <= self.uptime));
        due.map(|(unit, _)| unit.clone()).collect()
    }

    fn due_fetches(&self) -> Vec<(ProjectId, ReleaseNo)> {
        let due = self.fetches.iter().filter(|(_, fetch)| fetch.ends.is_some_and(|at| at <= self.uptime));
        due.map(|(key, _)| key.clone()).collect()
    }

    fn turn(&mut self, unit: &UnitId) {
        let (now, uptime, cured) = (self.now, self.uptime, self.cured);
        let Some(app) = self.apps.get_mut(unit) else { return };
        let Some((_, turn)) = app.next.take() else { return };
        let Some(seen) = self.units.get_mut(unit) else { return };
        let falls = app.is.falls_after.filter(|after| !cured || *after == 0);
        match turn {
            Turn::Up => {
                (seen.state, seen.sub_state, seen.since) = (ActiveState::Active, "running".into(), Some(now));
                app.next = match (falls, app.is.ready_after) {
                    (Some(0), _) => Some((uptime + 1, Turn::Fall)),
                    (_, Some(_)) if app.notifies => Some((uptime, Turn::Ready)),
                    (_, Some(after)) => Some((uptime + after, Turn::Ready)),
                    (Some(after), None) => Some((uptime + after, Turn::Fall)),
                    (None, None) => None,
                };
            }
            Turn::Ready => {
                self.ready.insert(unit.clone(), Readiness { since: uptime, probed: now });
                app.next = falls.map(|after| (uptime + after, Turn::Fall));
            }
            Turn::Fall if falls.is_some() => self.fall(unit),
            Turn::Fall => {}
            Turn::Again => {
                self.runs += 1;
                self.down.insert((unit.project.clone(), unit.release), uptime);
                seen.invocation = Some(self.runs.to_string());
                (seen.state, seen.sub_state, seen.since) = (ActiveState::Activating, "start".into(), Some(now));
                (seen.restarts, seen.exit) = (seen.restarts + 1, None);
                app.place = app.written;
                app.next = match app.notifies {
                    true => app.is.ready_after.map(|after| (uptime + after, Turn::Up)),
                    false => Some((uptime + ROUND_TRIP, Turn::Up)),
                };
            }
            Turn::Down => self.down(unit),
            Turn::DownBadly => {
                (seen.state, seen.sub_state, seen.since) = (ActiveState::Failed, "failed".into(), Some(now));
                seen.exit = Some(Exit::Status(1));
            }
            Turn::Done => {
                let command = unit.process.as_str() == "release";
                let well = !command || app.is.migrates;
                (seen.state, seen.sub_state) = match (command, well) {
                    (true, true) => (ActiveState::Active, "exited".into()),
                    (true, false) => (ActiveState::Failed, "failed".into()),
                    (false, _) => (ActiveState::Inactive, "dead".into()),
                };
                (seen.exit, seen.since) = (Some(Exit::Status(i32::from(!well))), Some(now));
                if !well {
                    self.down.insert((unit.project.clone(), unit.release), uptime);
                }
            }
        }
    }

    pub(super) fn begin_fetch(&mut self, project: &ProjectId, order: &FetchOrder) {
        let takes = if content_name(&order.source).contains("slow") { 20_000 } else { ROUND_TRIP };
        let seen = FetchSeen::Running { bytes: 0, of: None, unpacking: false };
        let fetch = Fetch { seen, ends: Some(self.uptime + takes), order: order.clone() };
        self.fetches.insert((project.clone(), order.release), fetch);
    }

    fn land(&mut self, key: &(ProjectId, ReleaseNo)) {
        let Some(fetch) = self.fetches.get(key) else { return };
        let order = fetch.order.clone();
        match self.fetched(&order) {
            Ok((name, sha256)) => {
                self.fetches.remove(key);
                self.artifacts.entry(sha256.clone()).or_insert(self.now);
                self.bytes.insert(sha256.clone(), name.clone());
                self.origins.insert(key.clone(), name);
                self.bundle(&key.0).releases.insert(key.1, sha256);
            }
            Err((retry, reason, message)) => {
                let error = PortError { retry, reason, message: message.to_owned(), retry_after: None };
                let seen = FetchSeen::Failed { at: self.now, error };
                let fetch = self.fetches.get_mut(key).expect("it is there");
                (fetch.seen, fetch.ends) = (seen, None);
            }
        }
    }

    /// Tells whether an artifact that CI uploads after its event is there: 40 s after it was first asked for.
    fn has_come(&mut self, name: &str) -> bool {
        let asked = *self.asked.entry(name.to_owned()).or_insert(self.uptime);
        !name.starts_with("coming") || self.uptime >= asked + 40_000
    }

    /// Says what an order brings: the name of the bytes and their digest, or why nothing.
    fn fetched(&mut self, order: &FetchOrder) -> Result<(String, Sha256), (Retry, Reason, &'static str)> {
        let here = |machine: &Self, sha256: &Sha256| machine.bytes.get(sha256).cloned();
        let want = order.source.sha256().or(order.sha256.as_ref());
        let kept = want.filter(|want| self.artifacts.contains_key(want)).and_then(|want| here(self, want));
        if self.disk_full {
            return Err((Retry::Later, Reason::DiskFull, "could not write the artifact: no space left on device"));
        }
        if let (Some(name), Some(want)) = (kept, want) {
            return Ok((name, want.clone()));
        }
        let name = match &order.source {
            Source::Url { .. } => content_name(&order.source).to_owned(),
            Source::File { name, .. } => {
                let found = Sha256::parse(name.as_str()).ok().filter(|sha256| self.artifacts.contains_key(sha256));
                let found = found.and_then(|sha256| here(self, &sha256));
                found.ok_or((Retry::Never, Reason::ArtifactFailed, "there is no such artifact"))?
            }
        };
        let found = digest(&name);
        let trips = self.flaky.as_mut().is_some_and(|(chance, odds)| chance.hits(*odds));
        match want {
            _ if !self.network => Err((Retry::Later, Reason::ArtifactFailed, "no network")),
            _ if trips => Err((Retry::Later, Reason::ArtifactFailed, "the server answered 503")),
            _ if name.starts_with("missing") || !self.has_come(&name) => {
                Err((Retry::WhenPresent, Reason::ArtifactFailed, "the server answered 404"))
            }
            Some(want) if *want != found => {
                Err((Retry::Never, Reason::HashMismatch, "the artifact has another digest"))
            }
            _ => Ok((name, found)),
        }
    }
}
