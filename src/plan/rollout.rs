//! The steps of a project that is to run: bring a release up, give it the traffic, let the old one go. A rollback is
//! the same with an older release as its target; healing is the same with the serving one.

use std::collections::BTreeMap;

use crate::model::names::{ProcessName, ProjectId, ReleaseNo, Slot, UnitId};
use crate::model::observed::{ActiveState, BundlesSeen, FetchSeen, Seen, UnitSeen};
use crate::model::progress::{ProjectProgress, Release};
use crate::model::quantity::{Span, Timestamp};
use crate::model::spec::{Spec, Strategy};
use crate::render::launch::Launch;
use crate::render::unit;

use super::verdict::{self, Verdict};
use super::{Action, FetchOrder, Plan, Reason, Rules, UnitOrder, advance};

/// What one project's steps are made from; both facets were read.
struct Scene<'a> {
    project: &'a ProjectId,
    seen: &'a Seen,
    units: &'a BTreeMap<UnitId, UnitSeen>,
    bundles: &'a BundlesSeen,
    memory: &'a ProjectProgress,
    now: Timestamp,
    rules: &'a Rules,
}

/// Adds the steps of a project that is to run.
pub fn steps(
    project: &ProjectId,
    spec: &Spec,
    seen: &Seen,
    memory: &ProjectProgress,
    now: Timestamp,
    rules: &Rules,
    plan: &mut Plan,
) {
    if let Some(suspension) = spec.suspend.at(now) {
        if let Some(until) = suspension.until {
            plan.look_at(until);
        }
        return;
    }
    let (Some(units), Some(bundles)) = (seen.units.known(), seen.bundles.known()) else { return };
    if let Some(backoff) = memory.backoff.as_ref().filter(|backoff| now < backoff.until) {
        return plan.look_at(backoff.until);
    }
    let scene = Scene { project, seen, units, bundles, memory, now, rules };
    scene.prepare(plan);
    scene.let_go(plan);
    scene.serve(spec, plan);
    scene.try_candidate(spec, plan);
    scene.tidy(plan);
}

/// Returns the slot that Caddy sends a process's requests to.
pub fn slot_pointed(bundles: &BundlesSeen, process: &ProcessName) -> Slot {
    if bundles.markers.contains(process) { Slot::B } else { Slot::A }
}

impl Scene<'_> {
    fn prepare(&self, plan: &mut Plan) {
        let there = self.bundles.user && self.bundles.directory && self.bundles.data && self.bundles.fronts;
        if !there && !self.memory.alive().is_empty() {
            plan.push(self.project, Action::Prepare, Reason::ProjectNew);
        }
    }

    /// Stops and removes the units of every release that should not run now.
    fn let_go(&self, plan: &mut Plan) {
        let alive = self.memory.alive();
        let draining = self.memory.draining.as_ref();
        for (unit, seen) in self.units {
            let drained =
                draining.is_some_and(|draining| draining.release == unit.release && self.now >= draining.until);
            if alive.contains(&unit.release) && !drained {
                continue;
            }
            let reason = if drained { Reason::Drained } else { Reason::NotWanted };
            release_unit(self.project, unit, seen, reason, self.now, plan);
        }
        if let Some(draining) = draining.filter(|draining| self.now < draining.until) {
            plan.look_at(draining.until);
        }
    }

    /// Keeps the serving release up and pointed at, unless a proven candidate is taking over.
    fn serve(&self, spec: &Spec, plan: &mut Plan) {
        let Some(serving) = self.memory.serving else { return };
        let makes_room = spec.deploy.strategy == Strategy::Recreate && self.candidate_on_disk().is_some();
        if makes_room {
            for (unit, _) in self.units.iter().filter(|(unit, seen)| {
                unit.release == serving && seen.state != ActiveState::Deactivating && seen.is_up()
            }) {
                plan.push(self.project, Action::Stop(unit.clone()), Reason::Recreate);
            }
            return;
        }
        self.bring_up(serving, Reason::ServingDamaged, plan);
        if self.memory.trial.as_ref().is_none_or(|trial| !trial.proven) {
            self.give_traffic(serving, Reason::ServingDamaged, plan);
        }
    }

    fn candidate_on_disk(&self) -> Option<ReleaseNo> {
        self.memory.candidate().filter(|candidate| self.bundles.releases.contains_key(candidate))
    }

    fn try_candidate(&self, spec: &Spec, plan: &mut Plan) {
        let Some((candidate, trial)) = self.memory.candidate().zip(self.memory.trial.as_ref()) else { return };
        plan.look_at(trial.since.after(spec.deploy.deadline));
        if let Some(backoff) = trial.fetch.as_ref().filter(|backoff| self.now < backoff.until) {
            return plan.look_at(backoff.until);
        }
        if self.slot_is_free_for(candidate, spec) {
            self.bring_up(candidate, Reason::CandidateWanted, plan);
        } else if self.bundles.releases.contains_key(&candidate) {
            plan.look_at(self.now.after(Span::seconds(1)));
        } else {
            self.fetch(candidate, plan);
        }
        if trial.proven {
            self.give_traffic(candidate, Reason::CandidateHealthy, plan);
        } else if let Verdict::Wait(at) =
            verdict::of_candidate(self.project, candidate, self.memory, trial, &spec.deploy, self.seen, self.now)
        {
            plan.look_at(at);
        }
    }

    /// Two releases cannot listen on one slot's ports; an app that cannot run twice has no neighbour at all.
    fn slot_is_free_for(&self, candidate: ReleaseNo, spec: &Spec) -> bool {
        let slot = self.memory.release(candidate).map(|release| release.slot);
        !self.units.iter().any(|(unit, seen)| {
            let same_slot = self.memory.release(unit.release).is_none_or(|release| Some(release.slot) == slot);
            let in_the_way = same_slot || spec.deploy.strategy == Strategy::Recreate;
            unit.release != candidate && seen.is_up() && in_the_way
        })
    }

    fn bring_up(&self, number: ReleaseNo, reason: Reason, plan: &mut Plan) {
        let Some(release) = self.memory.release(number) else { return };
        if !self.bundles.releases.contains_key(&number) {
            return self.fetch(number, plan);
        }
        for unit in self.memory.units_of(self.project, number) {
            self.bring_up_unit(&unit, release, reason, plan);
        }
    }

    fn bring_up_unit(&self, unit: &UnitId, release: &Release, reason: Reason, plan: &mut Plan) {
        let absent = UnitSeen::default();
        let seen = self.units.get(unit).unwrap_or(&absent);
        let Some(order) = self.order(unit, release) else { return };
        let rewritten = seen.text.as_ref() != Some(&order.text);
        // A unit that systemd holds in memory must be read again; one it never saw needs no reload, which is what
        // keeps reloads off the way of a deploy.
        let stale = seen.needs_reload || rewritten && (seen.text.is_some() || seen.is_up());
        if rewritten || !seen.credential {
            plan.push(self.project, Action::WriteUnit(Box::new(order)), reason);
        }
        if stale {
            plan.push(self.project, Action::ReloadSystemd, Reason::UnitChanged);
        }
        if !seen.is_up() {
            plan.push(self.project, Action::Start(unit.clone()), reason);
        }
    }

    fn order(&self, unit: &UnitId, release: &Release) -> Option<UnitOrder> {
        let work = release.content.processes.get(&unit.process)?;
        let port = if work.web { Some(self.memory.ports.get(&unit.process)?.of(release.slot)) } else { None };
        let text = unit::text(unit, work, &release.content, release.slot, port, &self.rules.layout);
        let launch = Launch::of(unit, work, &release.content, port, &self.rules.layout);
        Some(UnitOrder { unit: unit.clone(), text, launch })
    }

    fn fetch(&self, number: ReleaseNo, plan: &mut Plan) {
        let (Some(release), fetch) = (self.memory.release(number), self.seen.fetches.get(&number)) else { return };
        if matches!(fetch, Some(FetchSeen::Running { .. })) {
            return;
        }
        let order =
            FetchOrder { release: number, source: release.content.source.clone(), sha256: release.sha256.clone() };
        plan.push(self.project, Action::Fetch(Box::new(order)), Reason::ReleaseMissing);
    }

    fn give_traffic(&self, number: ReleaseNo, reason: Reason, plan: &mut Plan) {
        let Some(release) = self.memory.release(number) else { return };
        let on_disk = self.bundles.releases.contains_key(&number);
        if !on_disk || advance::has_traffic(self.project, number, self.seen, self.memory) {
            return;
        }
        for unit in self.memory.units_of(self.project, number) {
            if !self.units.get(&unit).is_some_and(|seen| seen.enabled) {
                plan.push(self.project, Action::Enable(unit), reason);
            }
        }
        for process in release.content.web().filter(|process| slot_pointed(self.bundles, process) != release.slot) {
            plan.push(self.project, Action::Point(process.clone(), release.slot), reason);
        }
        if self.bundles.link != Some(number) {
            plan.push(self.project, Action::Link(number), reason);
        }
    }

    /// Removes what no known release needs: old releases on disk, markers of processes that are no more.
    fn tidy(&self, plan: &mut Plan) {
        let used = |number: &ReleaseNo| self.units.keys().any(|unit| unit.release == *number);
        let known = |number: &ReleaseNo| self.memory.releases.contains_key(number);
        for number in self
            .bundles
            .releases
            .keys()
            .filter(|number| !known(number) && !used(number) && self.bundles.link != Some(**number))
        {
            plan.push(self.project, Action::RemoveRelease(*number), Reason::Retention);
        }
        for process in self.bundles.markers.iter().filter(|process| !self.memory.ports.contains_key(process)) {
            plan.push(self.project, Action::RemoveMarker(process.clone()), Reason::NotWanted);
        }
    }
}

/// Stops a unit; once it is down, removes it.
pub fn release_unit(
    project: &ProjectId,
    unit: &UnitId,
    seen: &UnitSeen,
    reason: Reason,
    now: Timestamp,
    plan: &mut Plan,
) {
    match seen.state {
        ActiveState::Inactive | ActiveState::Failed => plan.push(project, Action::RemoveUnit(unit.clone()), reason),
        ActiveState::Deactivating => plan.look_at(now.after(Span::seconds(1))),
        _ => plan.push(project, Action::Stop(unit.clone()), reason),
    }
}
