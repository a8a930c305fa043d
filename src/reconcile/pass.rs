//! One pass: read the desired state, observe the machine, fold, plan, check, apply, record. Nothing in it waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::crash::{self, Side};
use super::pending_events::PendingEvents;
use super::phases::Phases;
use super::services::HostServices;
use super::{evidence, sight};
use crate::metrics::{Metrics, Statuses};
use crate::model::desired::{Desired, DesiredProject, DesiredServices, Intent};
use crate::model::failure::PortError;
use crate::model::names::{Hostname, ProjectId, Slot, UnitId};
use crate::model::observed::{ActiveState, Observed, ObservedProject, ProxySeen, UnitSeen, Visit};
use crate::model::progress::{Progress, ProjectProgress};
use crate::model::quantity::{Span, Timestamp};
use crate::model::spec::{Check, Route};
use crate::model::status::{ProcessStatus, Status};
use crate::plan::check::Breach;
use crate::plan::step::{Facts, Subject};
use crate::plan::{
    self, Action, FollowUp, Plan, ProjectAction, ProxyAction, RoutesOrder, Rules, Step, admission, advance, check,
    events, restarts, retry, routes, status,
};
use crate::port::{Bundles, Clock, Health, ProbeOrder, ProgressStore, Routes, Tail, Units};
use crate::render::caddyfile::{self, Proxy, Site};
use crate::trigger::DryRun;

/// How long until Caddy is offered refused routes again.
const ROUTE_RETRY: Span = Span::seconds(10);

/// How long systemd is not asked about the jobs it was given, unless it reports that they are done: asking only slows
/// them down.
const LEAVE_ALONE: Span = Span(250);

/// Everything the loop works with. What it keeps between two passes can be lost at any time.
pub struct Loop {
    /// Desired state and recorded progress.
    pub store: Arc<dyn ProgressStore>,
    pub units: Box<dyn Units>,
    /// Directories, users, artifacts.
    pub bundles: Box<dyn Bundles>,
    pub health: Box<dyn Health>,
    pub routes: Box<dyn Routes>,
    pub services: HostServices,
    /// The last log lines of failed units.
    pub tail: Box<dyn Tail>,
    pub clock: Arc<dyn Clock>,
    /// The inputs of planning.
    pub rules: Rules,
    /// Makes the plan: `checked_plan`, or in a test one that is broken on purpose.
    pub planner: Planner,
    /// Which project goes first in the next pass.
    pub turn: usize,
    /// How many passes in a row took a step.
    pub busy: u32,
    /// Why the last attempt to load Caddy's routes failed.
    pub route_trouble: Option<PortError>,
    /// Whether the next pass offers Caddy the refused routes again.
    pub offer_again: bool,
    /// Why the template on disk is not used; the one before stays active.
    pub template_trouble: Option<String>,
    /// The status of each project after the last pass.
    pub last: Statuses,
    /// How many passes recorded their observations.
    pub recorded: u64,
    /// Events not yet persisted.
    pub pending: PendingEvents,
    /// Counters and timings of the loop's work.
    pub metrics: Metrics,
    /// The phases of the running rollouts, for the metrics.
    pub phases: Phases,
}

/// Plans from desired state, observations and progress; also returns the steps it left out.
pub type Planner = fn(&Desired, &DesiredServices, &Observed, &Progress, &Rules) -> (Plan, Vec<Breach>);

/// Plans, and leaves out the steps of a project whose plan would break a guarantee. That is a bug of ours: the project
/// stands still, and an event reports it.
pub fn checked_plan(
    desired: &Desired,
    services: &DesiredServices,
    observed: &Observed,
    all_progress: &Progress,
    rules: &Rules,
) -> (Plan, Vec<Breach>) {
    let mut plan = plan::plan(desired, services, observed, all_progress, rules);
    let breaches = check::breaches(&plan, desired, observed, all_progress);
    plan.steps.retain(|step| !breaches.iter().any(|breach| step.action.project() == Some(&breach.project)));
    (plan, breaches)
}

/// What a pass starts from.
struct Snapshot {
    desired: Desired,
    services: DesiredServices,
    observed: Observed,
    progress: Progress,
}

impl Loop {
    /// Runs one pass; returns when to run the next even without a trigger. `full`: record every status, changed or not.
    pub fn pass(&mut self, full: bool) -> Option<Timestamp> {
        match self.converge(full) {
            Ok(look_again) => look_again,
            Err(error) => {
                tracing::error!(reason = error.reason.name(), "{error}; the loop tries again");
                self.pending.bound();
                Some(self.clock.now().after(Span::seconds(5)))
            }
        }
    }

    /// Returns what a pass would do and observe now, with this desired state assumed. Changes nothing.
    ///
    /// # Errors
    /// Something could not be read.
    pub fn dry_run(&mut self, suppose: Option<(ProjectId, DesiredProject)>) -> Result<DryRun, String> {
        let mut view = self.look(suppose, false).map_err(|e| e.to_string())?;
        advance::advance(&view.desired, &view.services, &view.observed, &mut view.progress, &self.rules);
        let unserved = self.unserved(&view);
        let (plan, _) = (self.planner)(&view.desired, &view.services, &view.observed, &view.progress, &self.rules);
        let statuses = self.statuses(&mut view, &unserved, &plan.queue);
        Ok(DryRun { plan, statuses })
    }

    fn converge(&mut self, full: bool) -> Result<Option<Timestamp>, PortError> {
        let mut view = self.look(None, full)?;
        self.offer_again = false;
        self.tell_of_forced_stops(&view);
        self.read_template(&view, full);
        let before = view.progress.clone();
        advance::advance(&view.desired, &view.services, &view.observed, &mut view.progress, &self.rules);
        evidence::gather(&view.desired, &view.observed, &mut view.progress, &self.rules.layout, &*self.tail);
        self.save_progress(&before, &view)?;
        self.phases.follow(&view.observed, &view.progress, &self.metrics);
        let (plan, breaches) =
            (self.planner)(&view.desired, &view.services, &view.observed, &view.progress, &self.rules);
        self.pending.push(breaches.iter().map(|breach| events::of_breach(breach, &view.progress, view.observed.now)));
        let advanced = view.progress.clone();
        admission::record_waits(&plan, &mut view.progress, view.observed.now);
        if !plan.steps.iter().any(|step| matches!(step.action, Action::Proxy(ProxyAction::LoadRoutes(_)))) {
            // Caddy has them: it loaded them and only its answer was lost, or they are no longer desired.
            self.route_trouble = routes::blocked_by(&view.progress);
        }
        let follow_up = self.apply(&plan, &mut view);
        // An app may be ready before its start is observed.
        self.health.look(&probes(&view.desired, &view.observed.projects, &view.progress, Some(&plan)));
        let unserved = self.unserved(&view);
        let visits = visits(&view, &unserved);
        self.health.visit(&visits);
        let statuses = self.statuses(&mut view, &unserved, &plan.queue);
        let steady = statuses.values().filter_map(restarts::steady_at).min();
        self.save_progress(&advanced, &view)?;
        self.pending.push(self.services.record(&view.services, &view.observed, &view.progress, full)?);
        self.record(statuses, full, follow_up.is_some(), view.observed.now)?;
        let open = |visit: &Visit| {
            let seen = view.observed.projects.get(&visit.project);
            !seen.is_some_and(|seen| seen.visits.contains_key(visit))
        };
        let soon = visits.iter().any(open).then(|| view.observed.now.after(Span::seconds(1)));
        Ok(self.next_look(follow_up, view.observed.now, plan.look_again.into_iter().chain(soon).chain(steady).min()))
    }

    /// After steps comes another pass, which observes their effect. Many such passes in a row mean steps without
    /// effect; then the loop slows down rather than spin.
    fn next_look(
        &mut self,
        follow_up: Option<FollowUp>,
        now: Timestamp,
        planned: Option<Timestamp>,
    ) -> Option<Timestamp> {
        self.busy = if follow_up.is_some() { self.busy.saturating_add(1) } else { 0 };
        let soon = follow_up.map(|follow_up| match follow_up {
            _ if self.busy > 20 => now.after(Span::seconds(1)),
            FollowUp::AtOnce => now,
            FollowUp::Soon => now.after(LEAVE_ALONE),
        });
        let retry = self.route_trouble.as_ref().map(|_| now.after(ROUTE_RETRY));
        soon.into_iter().chain(planned).chain(retry).min()
    }

    /// Activates a changed template once Caddy accepts what it renders for the active sites. Until then the one before
    /// stays active.
    fn read_template(&mut self, view: &Snapshot, full: bool) {
        let again = full && self.template_trouble.is_some();
        let Some(read) = self.routes.template(again) else { return };
        let sites = routes::sites(&view.progress, &self.rules.layout);
        let judged = read.and_then(|template| {
            let proxy = Proxy { template, ..self.rules.proxy.clone() };
            caddyfile::try_template(&proxy)?;
            let order = RoutesOrder { text: caddyfile::text(&proxy, &sites)?, sites };
            match self.routes.refusal(&order) {
                Ok(None) => Ok(proxy),
                Ok(Some(why)) => Err(why),
                Err(error) => Err(error.message),
            }
        });
        let trouble = match judged {
            Ok(proxy) => {
                self.routes.keep_template(&proxy.template);
                self.rules.proxy = proxy;
                None
            }
            Err(why) => Some(why),
        };
        if let Some(why) = trouble.as_ref().filter(|_| trouble != self.template_trouble) {
            tracing::error!("the Caddyfile's template was changed, and the one before holds: {why}");
        }
        self.template_trouble = trouble;
    }

    fn look(&self, suppose: Option<(ProjectId, DesiredProject)>, full: bool) -> Result<Snapshot, PortError> {
        let mut desired = self.store.desired()?;
        let wanted = self.services.store.desired_services()?;
        desired.0.extend(suppose);
        let all_progress = self.store.progress()?;
        all_progress.stop_unreadable(&mut desired);
        let now = self.clock.now();
        let mut units = self.units.look();
        let mut projects: BTreeMap<ProjectId, ObservedProject> =
            desired.0.keys().map(|project| (project.clone(), self.look_at(project, &mut units))).collect();
        let found = self.health.look(&probes(&desired, &projects, &all_progress, None));
        for (unit, probed) in found {
            if let Some(seen) = projects.get_mut(&unit.project) {
                seen.health.insert(unit, probed);
            }
        }
        for (visit, visited) in self.health.visited() {
            if let Some(seen) = projects.get_mut(&visit.project) {
                seen.visits.insert(visit, visited);
            }
        }
        let slowdown = self.health.slowdown();
        projects.values_mut().for_each(|seen| seen.slowdown = slowdown);
        for (project, open) in self.health.open_ports() {
            if let Some(seen) = projects.get_mut(&project) {
                seen.open = open;
            }
        }
        let proxy = sight(self.look_at_proxy(&all_progress));
        let artifacts = sight(self.bundles.artifacts());
        let services = self.services.look(&wanted, &desired, full);
        let (offer_again, ports_in_use) = (self.offer_again, self.health.ports_in_use());
        let observed = Observed { now, projects, proxy, services, artifacts, offer_again, ports_in_use };
        Ok(Snapshot { desired, services: wanted, observed, progress: all_progress })
    }

    fn look_at_proxy(&self, all_progress: &Progress) -> Result<ProxySeen, PortError> {
        let seen = self.routes.look()?;
        let runs = seen.up || self.units.proxy_runs()?;
        let certificates = self.routes.certificates(&routes::public_hosts(all_progress, &self.rules.proxy));
        let refused = all_progress.projects.values().any(|progress| progress.quarantine.is_some());
        let surroundings = refused.then(|| self.surroundings());
        Ok(ProxySeen { runs, certificates, surroundings, ..seen })
    }

    fn surroundings(&self) -> String {
        self.routes.surroundings(&caddyfile::text(&self.rules.proxy, &[]).unwrap_or_default())
    }

    fn look_at(
        &self,
        project: &ProjectId,
        units: &mut Result<BTreeMap<ProjectId, BTreeMap<UnitId, UnitSeen>>, PortError>,
    ) -> ObservedProject {
        ObservedProject {
            units: sight(
                units.as_mut().map(|all| all.remove(project).unwrap_or_default()).map_err(|error| error.clone()),
            ),
            bundles: sight(self.bundles.look(project)),
            fetches: self.bundles.fetches(project),
            health: BTreeMap::new(),
            visits: BTreeMap::new(),
            open: BTreeSet::new(),
            slowdown: 1,
        }
    }

    fn tell_of_forced_stops(&mut self, view: &Snapshot) {
        let units = view.observed.projects.values().filter_map(|seen| seen.units.known()).flatten();
        let failed: Vec<_> = units.filter(|(_, seen)| seen.state == ActiveState::Failed).collect();
        let stops = self.tail.forced_stops(&failed);
        self.pending.push(stops.iter().map(|stop| events::of_forced_stop(stop, &view.progress, view.observed.now)));
    }

    /// Emits the events for what was decided, and saves the progress.
    fn save_progress(&mut self, before: &Progress, view: &Snapshot) -> Result<(), PortError> {
        let after = &view.progress;
        let changed: BTreeMap<ProjectId, ProjectProgress> = after
            .projects
            .iter()
            .filter(|(project, progress)| before.projects.get(project) != Some(progress))
            .map(|(project, progress)| (project.clone(), progress.clone()))
            .collect();
        self.services.save_progress(before, after)?;
        if changed.is_empty() {
            return Ok(());
        }
        self.pending.push(events::of_changes(&view.desired, before, after, view.observed.now));
        self.store.save_progress(&changed, self.pending.unwritten())?;
        self.pending.written();
        Ok(())
    }

    /// Takes the steps in order; returns when to observe their effect. A failure halts its project for this pass.
    fn apply(&mut self, plan: &Plan, view: &mut Snapshot) -> Option<FollowUp> {
        let (mut touched, mut halted, mut failed) = (BTreeMap::new(), BTreeSet::new(), None);
        for step in self.in_turn(&plan.steps) {
            let (subject, Facts { kind, follow_up, .. }) = (step.action.subject(), step.action.facts());
            if halted.contains(&subject) {
                continue;
            }
            crash::point(Side::Before);
            let taken = self.take(step, view);
            crash::point(Side::After);
            self.metrics.took_step(kind, taken.is_ok());
            match taken {
                Ok(()) => {
                    self.pending.push([events::of_step(step, &view.progress, view.observed.now)]);
                    self.route_trouble = self.route_trouble.take().filter(|_| subject != Subject::Proxy);
                    touched.insert(subject, follow_up);
                }
                Err(error) => {
                    self.fail(step, &error, view);
                    // The failure is already folded into the progress, which the next pass acts on.
                    failed = Some(FollowUp::AtOnce);
                    halted.insert(subject);
                }
            }
        }
        for subject in touched.keys().filter(|subject| !halted.contains(*subject)) {
            if let Subject::Project(project) = subject
                && let Some(progress) = view.progress.projects.get_mut(project)
            {
                progress.backoff = None;
            }
        }
        touched.into_values().chain(failed).min()
    }

    /// Each pass starts with the next project in turn, so that one with slow steps does not starve the others. Steps
    /// without a project come first: all projects need Caddy.
    fn in_turn<'a>(&mut self, steps: &'a [Step]) -> Vec<&'a Step> {
        let projects: Vec<&ProjectId> =
            steps.iter().filter_map(|step| step.action.project()).collect::<BTreeSet<_>>().into_iter().collect();
        self.turn = self.turn.wrapping_add(1);
        let first = if projects.is_empty() { 0 } else { self.turn % projects.len() };
        let order = projects[first..].iter().chain(&projects[..first]).copied().map(Some);
        std::iter::once(None)
            .chain(order)
            .flat_map(|project| steps.iter().filter(move |step| step.action.project() == project))
            .collect()
    }

    fn take(&self, step: &Step, view: &mut Snapshot) -> Result<(), PortError> {
        match &step.action {
            Action::Project(project, action) => self.take_of_project(project, action, view),
            Action::Proxy(ProxyAction::LoadRoutes(order)) => self.routes.load(order),
            Action::Proxy(ProxyAction::Start) => self.units.start_proxy(),
            Action::Service(service, action) => {
                self.services.take(*service, action, &mut view.progress, view.observed.now)
            }
            Action::RemoveArtifact(sha256) => self.bundles.remove_artifact(sha256),
        }
    }

    fn take_of_project(
        &self,
        project: &ProjectId,
        action: &ProjectAction,
        view: &mut Snapshot,
    ) -> Result<(), PortError> {
        match action {
            ProjectAction::Prepare { open } => self.bundles.prepare(project, *open),
            ProjectAction::Fetch(order) => self.bundles.fetch(project, order),
            ProjectAction::CancelFetch(release) => {
                self.bundles.cancel(project, *release);
                Ok(())
            }
            ProjectAction::WriteUnit(order) => {
                let values = self.store.open_values(project, &order.launch.env, &order.launch.secrets)?;
                self.units.write(order, &order.launch.blob(&values))
            }
            ProjectAction::ReloadSystemd => self.units.reload(),
            ProjectAction::Start(unit) => self.units.start(unit),
            ProjectAction::Enable(unit) => self.units.enable(unit),
            ProjectAction::ArmTimer(unit) => self.units.arm(unit),
            ProjectAction::DisarmTimer(unit) => self.units.disarm(unit),
            ProjectAction::Point(process, slot) => self.bundles.point(project, process, *slot),
            ProjectAction::Link(release) => self.bundles.link(project, *release),
            ProjectAction::Stop(unit) => self.units.stop(unit),
            ProjectAction::RemoveUnit(unit) => self.units.remove(unit),
            ProjectAction::RemoveRelease(release) => self.bundles.remove_release(project, *release),
            ProjectAction::RemoveMarker(process) => self.bundles.point(project, process, Slot::A),
            ProjectAction::RemoveFiles { keep_data } => self.bundles.remove_all(project, *keep_data),
            ProjectAction::Forget => {
                // Even if this fails the project may be deleted, and a new one may have its name by now: nothing more
                // of it is written.
                view.progress.projects.remove(project);
                let generation = view.desired.0.get(project).map_or(0, |wanted| wanted.generation);
                self.store.forget(project, generation)
            }
        }
    }

    fn fail(&mut self, step: &Step, error: &PortError, view: &mut Snapshot) {
        let now = view.observed.now;
        self.pending.push([events::of_failure(step, error, &view.progress, now)]);
        match &step.action {
            Action::Project(project, _) => {
                if let Some(progress) = view.progress.projects.get_mut(project) {
                    let message = format!("could not {}: {}", step.action, error.message);
                    retry::record_failed_step(progress, &PortError { message, ..error.clone() }, now);
                }
            }
            Action::Proxy(ProxyAction::LoadRoutes(order)) => {
                self.quarantine(order, view);
                self.route_trouble = Some(error.clone());
            }
            Action::Service(service, _) => HostServices::fail(*service, error, &mut view.progress, now),
            // The plan repeats them as long as they are needed; no failures are counted.
            Action::Proxy(ProxyAction::Start) | Action::RemoveArtifact(_) => {}
        }
    }

    /// Leaves out the hosts that Caddy refuses, so that the others are loaded. If no single host is at fault, the
    /// template is.
    fn quarantine(&self, order: &RoutesOrder, view: &mut Snapshot) {
        let refuses = |sites: &[Site]| {
            let text = caddyfile::text(&self.rules.proxy, sites);
            let order = text.map(|text| RoutesOrder { text, sites: sites.to_vec() });
            order.map_or_else(Some, |order| self.routes.refusal(&order).ok().flatten())
        };
        if refuses(&[]).is_some() {
            return;
        }
        let refused_hosts = routes::refused_hosts(&order.sites, refuses);
        let surroundings = if refused_hosts.is_empty() { String::new() } else { self.surroundings() };
        for (project, refused) in refused_hosts {
            if let Some(progress) = view.progress.projects.get_mut(&project) {
                routes::leave_out(progress, refused, surroundings.clone(), view.observed.now);
            }
        }
    }

    fn unserved(&self, view: &Snapshot) -> BTreeSet<Hostname> {
        routes::unserved(&view.observed, &view.progress, &self.rules, |order| self.routes.differing(order))
    }

    fn statuses(
        &self,
        view: &mut Snapshot,
        unserved: &BTreeSet<Hostname>,
        queue: &[ProjectId],
    ) -> BTreeMap<ProjectId, Status> {
        let mut current = BTreeMap::new();
        for (project, wanted) in &view.desired.0 {
            let mut unknown = ProjectProgress::default();
            let progress = match (view.progress.projects.get_mut(project), &wanted.intent) {
                (Some(progress), _) => progress,
                (None, Intent::Unreadable(_)) => &mut unknown,
                (None, _) => continue,
            };
            let Some(seen) = view.observed.projects.get(project) else { continue };
            let shown = status::compute(&status::StatusInput {
                project,
                wanted,
                progress,
                seen,
                before: self.last.get(project),
                observed: &view.observed,
                unserved,
                queue,
                route_trouble: self.route_trouble.as_ref(),
                template_trouble: self.template_trouble.as_deref(),
            });
            if !matches!(wanted.intent, Intent::Unreadable(_)) {
                progress.observed_generation = shown.observed_generation;
            }
            current.insert(project.clone(), shown);
        }
        current
    }

    fn record(
        &mut self,
        current: BTreeMap<ProjectId, Status>,
        full: bool,
        busy: bool,
        now: Timestamp,
    ) -> Result<(), PortError> {
        let is_news = |status: &&Status| full || self.last.get(&status.project).is_none_or(|old| differ(old, status));
        let news: Vec<Status> = current.values().filter(is_news).cloned().collect();
        self.pending.push(events::ready_changes(&self.last, &current, now));
        if !news.is_empty() || self.pending.is_due(busy) {
            self.store.record(&news, self.pending.unwritten())?;
            self.pending.written();
        }
        self.last = Arc::new(current);
        self.metrics.see(&self.last, self.clock.now());
        self.recorded += 1;
        Ok(())
    }
}

/// Returns what to probe: the web processes of candidates while they run, and those that a plan starts.
fn probes(
    desired: &Desired,
    projects: &BTreeMap<ProjectId, ObservedProject>,
    all_progress: &Progress,
    plan: Option<&Plan>,
) -> Vec<ProbeOrder> {
    let mut orders = Vec::new();
    let steps = || plan.into_iter().flat_map(|plan| &plan.steps);
    let starts = |unit: &UnitId| {
        steps().any(|step| matches!(&step.action, Action::Project(_, ProjectAction::Start(started)) if started == unit))
    };
    for (project, seen) in projects {
        let Some(progress) = all_progress.projects.get(project) else { continue };
        let (Some(candidate), Some(units)) = (progress.candidate(), seen.units.known()) else { continue };
        let spec = desired.0.get(project).and_then(DesiredProject::spec);
        for unit in progress.units_of(project, candidate) {
            let Some(work) = progress.work_of(&unit) else { continue };
            let routes = spec.and_then(|spec| spec.processes.get(&unit.process)).map(|process| &process.routes[..]);
            let route = Route::first_direct(routes.unwrap_or_default());
            let port = progress.port_of(&unit);
            let runs = units.get(&unit).is_some_and(UnitSeen::is_up) || starts(&unit);
            let (Some(ready), Some(port), true) = (&work.ready, port, runs) else { continue };
            if ready.check != Check::Notify {
                let (request, timeout, interval) = (ready.request(route, work.h2c), ready.timeout, ready.interval);
                orders.push(ProbeOrder { unit, port, request, timeout, interval });
            }
        }
    }
    orders
}

/// Returns what to request from Caddy: on the routes that it has, for projects that are not suspended.
fn visits(view: &Snapshot, unserved: &BTreeSet<Hostname>) -> BTreeSet<Visit> {
    let mut found = BTreeSet::new();
    for (project, seen) in &view.observed.projects {
        let Some(wanted) = view.desired.0.get(project) else { continue };
        let (Some(spec), Some(progress)) = (wanted.spec(), view.progress.projects.get(project)) else { continue };
        if wanted.suspension_at(view.observed.now).is_some() {
            continue;
        }
        let checks = plan::visits::checks(project, seen, progress).into_iter().map(|(_, visit)| visit);
        found.extend(checks.filter(|visit| !unserved.contains(&visit.host)));
        found.extend(plan::visits::verify(project, spec, seen, progress));
    }
    found
}

/// Returns whether two statuses differ in more than the time of observation and the resource usage.
fn differ(old: &Status, new: &Status) -> bool {
    let Status {
        project,
        generation,
        observed_generation,
        observed_at: _,
        owner,
        state,
        conditions,
        serving,
        candidate,
        last_good,
        rejected,
        processes,
        routes,
    } = new;
    let same_processes = old.processes.len() == processes.len() && old.processes.iter().zip(processes).all(alike);
    !same_processes
        || (&old.project, old.generation, old.observed_generation) != (project, *generation, *observed_generation)
        || (&old.owner, &old.state, &old.conditions, &old.routes) != (owner, state, conditions, routes)
        || (old.serving, old.candidate, old.last_good, &old.rejected) != (*serving, *candidate, *last_good, rejected)
}

fn alike((old, new): (&ProcessStatus, &ProcessStatus)) -> bool {
    let ProcessStatus {
        name,
        release,
        unit,
        state,
        sub_state,
        pid,
        slot,
        port,
        memory_bytes: _,
        cpu_seconds: _,
        tasks: _,
        io_read_bytes: _,
        io_write_bytes: _,
        restarts,
        since,
        last_run,
        short_runs: _,
    } = new;
    (&old.name, old.release, &old.unit) == (name, *release, unit)
        && (old.state, &old.sub_state, old.pid) == (*state, sub_state, *pid)
        && (old.slot, old.port, old.restarts, old.since) == (*slot, *port, *restarts, *since)
        && old.last_run == *last_run
}
