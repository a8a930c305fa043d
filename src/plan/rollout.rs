//! The steps of a project that should run: bring a release up, give it the traffic, drain the old one. A rollback is
//! the same with an older release as its target; healing is the same with the serving one.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::desired::{Workload, WorkloadKind};
use crate::model::expected::Expected;
use crate::model::names::{ProjectId, ReleaseNo, UnitId};
use crate::model::observed::{ActiveState, BundlesSeen, FetchSeen, ObservedProject, Purpose, UnitSeen};
use crate::model::progress::ProjectProgress;
use crate::model::quantity::{Span, Timestamp};
use crate::model::spec::Spec;
use crate::render::launch::Launch;
use crate::render::unit;

use super::stop::{OnRunning, stop_and_remove_unit};
use super::traffic::{active_slot, has_traffic, runs_once};
use super::verdict::{Candidate, Verdict};
use super::{FetchOrder, PassContext, Plan, PlanConfig, ProjectAction, StepReason, UnitOrder, visits};

/// What one project's steps are made from; both facets were read.
struct ProjectContext<'a> {
    project: &'a ProjectId,
    seen: &'a ObservedProject,
    units: &'a BTreeMap<UnitId, UnitSeen>,
    bundles: &'a BundlesSeen,
    progress: &'a ProjectProgress,
    /// Whether Caddy has the desired routes.
    routed: bool,
    now: Timestamp,
    config: &'a PlanConfig,
}

/// Adds the steps of a project that should run.
pub fn steps(
    project: &ProjectId,
    spec: &Spec,
    seen: &ObservedProject,
    progress: &ProjectProgress,
    context: PassContext<'_>,
    plan: &mut Plan,
) {
    let PassContext { now, routed, config } = context;
    let (Some(units), Some(bundles)) = (seen.units.known(), seen.bundles.known()) else { return };
    if let Some(backoff) = progress.backoff.as_ref().filter(|backoff| now < backoff.until) {
        return plan.requeue_by(backoff.until);
    }
    let context = ProjectContext { project, seen, units, bundles, progress, routed, now, config };
    context.prepare(plan);
    // Traffic returns to the serving release before anything stops: a rollout that ends in the middle of its switch has
    // part of it.
    context.serve(spec, plan);
    context.stop_unwanted(plan);
    context.roll_out_candidate(spec, plan);
    context.remove_leftovers(plan);
}

impl ProjectContext<'_> {
    fn prepare(&self, plan: &mut Plan) {
        let alive = self.progress.active_releases();
        let open = alive
            .iter()
            .filter_map(|number| self.progress.release(*number))
            .any(|release| release.content.sites().next().is_some());
        let made = self.bundles.user && self.bundles.directory && self.bundles.data && self.bundles.fronts;
        let as_wanted = made && self.bundles.readable_by_caddy == open;
        if !alive.is_empty() && !as_wanted {
            plan.push(self.project, ProjectAction::Prepare { readable_by_caddy: open }, StepReason::ProjectNew);
        }
    }

    /// Stops and removes every unit that should not run now.
    fn stop_unwanted(&self, plan: &mut Plan) {
        let draining = self.progress.draining.as_ref();
        let wanted = self.wanted_units();
        // A release without a unit drains too: a site, which Caddy may read until then.
        draining.into_iter().filter(|draining| self.now < draining.until).for_each(|d| plan.requeue_by(d.until));
        for (unit, seen) in self.units {
            let drains = draining.filter(|draining| draining.release == unit.release);
            match drains {
                Some(_) if seen.is_timed() => {
                    plan.push(self.project, ProjectAction::DisarmTimer(unit.clone()), StepReason::CandidateHealthy);
                }
                Some(draining) if self.now < draining.until => {}
                Some(_) => stop_and_remove_unit(
                    self.project,
                    unit,
                    seen,
                    OnRunning::LetTimedFinish(self.progress),
                    StepReason::Drained,
                    self.now,
                    plan,
                ),
                None if wanted.contains(unit) => {}
                None => stop_and_remove_unit(
                    self.project,
                    unit,
                    seen,
                    OnRunning::LetTimedFinish(self.progress),
                    StepReason::NotWanted,
                    self.now,
                    plan,
                ),
            }
        }
    }

    /// Returns the units of the serving release, of the candidate, and of a failed one that is kept for inspection.
    fn wanted_units(&self) -> BTreeSet<UnitId> {
        let alive = self.progress.active_releases();
        let units = alive.iter().flat_map(|number| self.progress.units_of(self.project, *number));
        units.chain(self.command()).collect()
    }

    /// Returns the candidate's release command until it has run.
    fn command(&self) -> Option<UnitId> {
        self.progress.pending_command_unit(self.project, self.progress.candidate()?)
    }

    /// Keeps the serving release up and its slot active, unless a proven candidate is taking over.
    fn serve(&self, spec: &Spec, plan: &mut Plan) {
        let Some(serving) = self.progress.serving else { return };
        let changes_over = self.progress.rollout().is_some_and(|rollout| rollout.changeover_begun);
        let running = self.units.iter().filter(|(unit, seen)| changes_over && unit.release == serving && seen.is_up());
        let running = running
            .filter(|(unit, seen)| seen.state != ActiveState::Deactivating && runs_once(spec, self.progress, unit));
        running.for_each(|(unit, _)| plan.push(self.project, ProjectAction::Stop(unit.clone()), StepReason::Recreate));
        // A release that failed in the same slot is being stopped, unless it is kept for inspection.
        match self.progress.kept_for_inspection().is_some() || self.slot_is_free_for(serving) {
            true => self.bring_up(serving, spec, StepReason::ServingDamaged, plan),
            false => plan.requeue_by(self.now.after(Span::seconds(1))),
        }
        // While a process that must not run twice changes over, the serving release is incomplete: traffic cannot go
        // back to it.
        let mut units = self.progress.units_of(self.project, serving).into_iter();
        let changes_over = changes_over && units.any(|unit| runs_once(spec, self.progress, &unit));
        if !changes_over && self.progress.rollout().is_none_or(|rollout| !rollout.is_proven()) {
            self.give_traffic(serving, StepReason::ServingDamaged, plan);
        }
    }

    fn roll_out_candidate(&self, spec: &Spec, plan: &mut Plan) {
        let Some(rollout) = self.progress.rollout() else { return };
        let case = Candidate {
            project: self.project,
            rollout,
            progress: self.progress,
            deploy: &spec.deploy,
            seen: self.seen,
            now: self.now,
        };
        match visits::verify(self.project, spec, self.seen, self.progress).map(|visit| visit.purpose) {
            Some(Purpose::Verify { until, .. }) if self.now < until => plan.requeue_by(until),
            Some(_) => plan.requeue_by(self.now.after(Span::seconds(1))),
            None => plan.requeue_by(case.deadline()),
        }
        if let Some(fetch) = rollout.fetch.as_ref().filter(|fetch| self.now < fetch.backoff.until) {
            return plan.requeue_by(fetch.backoff.until);
        }
        self.bring_up_candidate(rollout.release, spec, plan);
        if rollout.is_proven() && (self.routed || !self.changes_upstreams(rollout.release)) {
            self.give_traffic(rollout.release, StepReason::CandidateHealthy, plan);
        } else if let Verdict::Wait(at) = case.verdict() {
            plan.requeue_by(at);
        }
    }

    /// Brings the candidate up: its artifact, then its release command, then its processes.
    fn bring_up_candidate(&self, candidate: ReleaseNo, spec: &Spec, plan: &mut Plan) {
        if !self.bundles.releases.contains_key(&candidate) {
            return self.fetch(candidate, plan);
        }
        match self.command() {
            Some(unit) => self.bring_up_unit(&unit, StepReason::CandidateWanted, plan),
            None if self.slot_is_free_for(candidate) => {
                self.bring_up(candidate, spec, StepReason::CandidateWanted, plan)
            }
            None => plan.requeue_by(self.now.after(Span::seconds(1))),
        }
    }

    /// Returns whether Caddy's configuration must name more or fewer instances, or another protocol, before they get
    /// traffic.
    fn changes_upstreams(&self, candidate: ReleaseNo) -> bool {
        let widths = |number: ReleaseNo| -> Option<Vec<(u32, bool)>> {
            let content = &self.progress.release(number)?.content;
            Some(
                content
                    .web()
                    .filter_map(|process| content.processes.get(process))
                    .map(|workload| (workload.instances, workload.h2c))
                    .collect(),
            )
        };
        self.progress.serving.is_some_and(|serving| widths(serving) != widths(candidate))
    }

    /// Two releases cannot listen on one slot's ports.
    fn slot_is_free_for(&self, number: ReleaseNo) -> bool {
        let slot = self.progress.release(number).map(|release| release.slot);
        !self.units.iter().any(|(unit, seen)| {
            let listens = self.progress.workload_of(unit).is_none_or(|workload| workload.kind == WorkloadKind::Web);
            let same_slot = self.progress.release(unit.release).is_none_or(|release| Some(release.slot) == slot);
            unit.release != number && seen.is_up() && listens && same_slot
        })
    }

    /// A process that must not run twice stays in the serving release until the candidate is ready to take over, and
    /// never runs beside another. A release that is kept for inspection does not count: it is left as it is.
    fn may_start(&self, unit: &UnitId, spec: &Spec) -> bool {
        let is_neighbour = |other: &UnitId, seen: &UnitSeen| {
            let kept = self.progress.kept_for_inspection() == Some(other.release);
            other.release != unit.release && !kept && seen.is_up() && runs_once(spec, self.progress, other)
        };
        let changes_over = self.progress.rollout().is_some_and(|rollout| rollout.changeover_begun);
        let is_its_turn = match self.progress.serving {
            Some(serving) if serving == unit.release => !changes_over,
            Some(_) => changes_over,
            None => true,
        };
        !runs_once(spec, self.progress, unit)
            || is_its_turn && !self.units.iter().any(|(other, seen)| is_neighbour(other, seen))
    }

    fn bring_up(&self, number: ReleaseNo, spec: &Spec, reason: StepReason, plan: &mut Plan) {
        if !self.bundles.releases.contains_key(&number) {
            return self.fetch(number, plan);
        }
        let units = self.progress.units_of(self.project, number);
        let (now, later): (Vec<UnitId>, Vec<UnitId>) = units.into_iter().partition(|unit| self.may_start(unit, spec));
        now.iter().for_each(|unit| self.bring_up_unit(unit, reason, plan));
        if !later.is_empty() {
            plan.requeue_by(self.now.after(Span::seconds(1)));
        }
    }

    fn bring_up_unit(&self, unit: &UnitId, reason: StepReason, plan: &mut Plan) {
        let absent = UnitSeen::default();
        let seen = self.units.get(unit).unwrap_or(&absent);
        let Some((release, workload)) = self.progress.release(unit.release).zip(self.progress.workload_of(unit)) else {
            return;
        };
        let port = self.progress.port_of(unit);
        let text = unit::text(unit, workload, &release.content, release.slot, port, &self.config.layout);
        let timer = match &workload.kind {
            WorkloadKind::Scheduled(calendar) => Some(unit::timer_text(unit, calendar, release.slot)),
            _ => None,
        };
        let written_timer = seen.timer.as_ref().and_then(|timer| timer.text.as_ref());
        let rewritten = seen.text.as_ref() != Some(&text) || written_timer != timer.as_ref();
        // A unit that systemd has loaded must be read again; one it never loaded needs no reload, which keeps reloads
        // out of a deploy.
        let stale = seen.needs_reload || rewritten && (seen.text.is_some() || seen.is_up());
        if rewritten || !seen.launch_blob {
            let launch = Launch::of(unit, workload, &release.content, port, &self.config.layout);
            let order = UnitOrder { unit: unit.clone(), text, timer, launch };
            plan.push(self.project, ProjectAction::WriteUnit(Box::new(order)), reason);
        }
        if stale {
            plan.push(self.project, ProjectAction::ReloadSystemd, StepReason::UnitChanged);
        }
        let is_judged = self.progress.rollout().is_some_and(|rollout| rollout.is_from_rollout(unit, seen));
        let failed_command =
            matches!(workload.kind, WorkloadKind::Release(_)) && seen.state == ActiveState::Failed && is_judged;
        let runs_by_itself = matches!(workload.kind, WorkloadKind::Scheduled(_));
        if !seen.is_up() && !runs_by_itself && !failed_command {
            plan.push(self.project, ProjectAction::Start(unit.clone()), reason);
        }
    }

    fn fetch(&self, number: ReleaseNo, plan: &mut Plan) {
        let (Some(release), fetch) = (self.progress.release(number), self.seen.fetches.get(&number)) else { return };
        if matches!(fetch, Some(FetchSeen::Running { .. })) {
            return;
        }
        let order = FetchOrder {
            release: number,
            source: release.content.source.clone(),
            sha256: release.sha256.clone(),
            expected: Expected::of(&release.content),
        };
        plan.push(self.project, ProjectAction::Fetch(Box::new(order)), StepReason::ReleaseMissing);
    }

    fn give_traffic(&self, number: ReleaseNo, reason: StepReason, plan: &mut Plan) {
        let Some(release) = self.progress.release(number) else { return };
        let on_disk = self.bundles.releases.contains_key(&number);
        if !on_disk || has_traffic(self.project, number, self.seen, self.progress) {
            return;
        }
        for unit in self.progress.units_of(self.project, number) {
            self.enable_at_boot(unit, reason, plan);
        }
        for process in release.content.web().filter(|process| active_slot(self.bundles, process) != release.slot) {
            plan.push(self.project, ProjectAction::SwitchTraffic(process.clone(), release.slot), reason);
        }
        if self.bundles.link != Some(number) {
            plan.push(self.project, ProjectAction::Link(number), reason);
        }
    }

    /// A daemon starts at boot; a scheduled process's timer is armed from now on, and its predecessor's disarmed.
    fn enable_at_boot(&self, unit: UnitId, reason: StepReason, plan: &mut Plan) {
        let Some(seen) = self.units.get(&unit) else { return };
        if self.progress.workload_of(&unit).is_some_and(Workload::is_daemon) {
            if !seen.enabled {
                plan.push(self.project, ProjectAction::Enable(unit), reason);
            }
            return;
        }
        if !seen.timer.as_ref().is_some_and(|timer| timer.active && timer.enabled) {
            let others =
                self.units.iter().filter(|(other, _)| other.process == unit.process && other.release != unit.release);
            for (other, _) in others.filter(|(_, seen)| seen.is_timed()) {
                plan.push(self.project, ProjectAction::DisarmTimer(other.clone()), reason);
            }
            plan.push(self.project, ProjectAction::ArmTimer(unit), reason);
        }
    }

    /// Removes what no known release needs: old releases on disk, fetches for them, markers of removed processes.
    fn remove_leftovers(&self, plan: &mut Plan) {
        let used = |number: &ReleaseNo| self.units.keys().any(|unit| unit.release == *number);
        let known = |number: &ReleaseNo| self.progress.releases.contains_key(number);
        for number in self.bundles.releases.keys().filter(|n| !known(n) && !used(n) && self.bundles.link != Some(**n)) {
            plan.push(self.project, ProjectAction::RemoveRelease(*number), StepReason::Retention);
        }
        let needed = [self.progress.candidate(), self.progress.serving];
        for (number, _) in self.seen.fetches.iter().filter(|(number, _)| !needed.contains(&Some(**number))) {
            plan.push(self.project, ProjectAction::CancelFetch(*number), StepReason::NotWanted);
        }
        for process in self.bundles.markers.iter().filter(|process| !self.progress.ports.contains_key(process)) {
            plan.push(self.project, ProjectAction::RemoveMarker(process.clone()), StepReason::NotWanted);
        }
    }
}
