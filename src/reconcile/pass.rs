//! One pass: read the desired state, observe the machine, fold, plan, check, apply, record. Nothing in it waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::crash::{self, Side};
use super::pending_events::PendingEvents;
use super::phases::Phases;
use super::services::HostServices;
use super::{evidence, facet};
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
    self, Action, FollowUp, Plan, PlanConfig, ProjectAction, ProxyAction, RoutesOrder, Step, admission, advance, check,
    events, restarts, retry, routes, status,
};
use crate::port::{Bundles, Clock, Health, ProbeOrder, ProgressStore, Routes, Tail, Units};
use crate::render::caddyfile::{self, Proxy, Site};
use crate::trigger::DryRun;

/// How long until refused routes are loaded into Caddy again.
const ROUTE_RETRY: Span = Span::seconds(10);

/// How long until systemd is polled for the jobs that it was given, unless it reports before that they are done: polling
/// slows them down.
const JOB_POLL_DELAY: Span = Span(250);

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
    pub config: PlanConfig,
    /// Makes the plan: `checked_plan`, or in a test one that is broken on purpose.
    pub planner: Planner,
    /// The project whose steps are executed first in the next pass, by its index.
    pub next_project: usize,
    /// How many passes in a row executed a step.
    pub busy_passes: u32,
    /// Why the last attempt to load Caddy's routes failed.
    pub route_error: Option<PortError>,
    /// Whether the next pass loads the refused routes into Caddy again.
    pub retry_refused_routes: bool,
    /// Why the template on disk is not used; the one before stays active.
    pub template_error: Option<String>,
    /// The status of each project after the last pass.
    pub last_statuses: Statuses,
    /// How many passes recorded their observations.
    pub recorded_passes: u64,
    /// Events not yet persisted.
    pub pending_events: PendingEvents,
    /// Counters and timings of the loop's work.
    pub metrics: Metrics,
    /// The phases of the running rollouts, for the metrics.
    pub phases: Phases,
}

/// Plans from desired state, observations and progress; also returns the steps it left out.
pub type Planner = fn(&Desired, &DesiredServices, &Observed, &Progress, &PlanConfig) -> (Plan, Vec<Breach>);

/// Plans, and leaves out the steps of a project whose plan would break a guarantee. That is a bug of ours: nothing
/// of the project is changed, and an event reports it.
pub fn checked_plan(
    desired: &Desired,
    services: &DesiredServices,
    observed: &Observed,
    all_progress: &Progress,
    config: &PlanConfig,
) -> (Plan, Vec<Breach>) {
    let mut plan = plan::plan(desired, services, observed, all_progress, config);
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
            Ok(requeue_at) => requeue_at,
            Err(error) => {
                tracing::error!(reason = error.reason.name(), "{error}; the loop tries again");
                self.pending_events.drop_oldest();
                Some(self.clock.now().after(Span::seconds(5)))
            }
        }
    }

    /// Returns what a pass would do and observe now, with this desired state assumed. Changes nothing.
    ///
    /// # Errors
    /// Something could not be read.
    pub fn dry_run(&mut self, suppose: Option<(ProjectId, DesiredProject)>) -> Result<DryRun, String> {
        let mut snapshot = self.observe(suppose, false).map_err(|e| e.to_string())?;
        advance::advance(
            &snapshot.desired,
            &snapshot.services,
            &snapshot.observed,
            &mut snapshot.progress,
            &self.config,
        );
        let unserved = self.unserved(&snapshot);
        let (plan, _) =
            (self.planner)(&snapshot.desired, &snapshot.services, &snapshot.observed, &snapshot.progress, &self.config);
        let statuses = self.statuses(&mut snapshot, &unserved, &plan.queue);
        Ok(DryRun { plan, statuses })
    }

    fn converge(&mut self, full: bool) -> Result<Option<Timestamp>, PortError> {
        let mut snapshot = self.observe(None, full)?;
        self.retry_refused_routes = false;
        self.emit_forced_stops(&snapshot);
        self.read_template(&snapshot, full);
        let before = snapshot.progress.clone();
        advance::advance(
            &snapshot.desired,
            &snapshot.services,
            &snapshot.observed,
            &mut snapshot.progress,
            &self.config,
        );
        evidence::gather(
            &snapshot.desired,
            &snapshot.observed,
            &mut snapshot.progress,
            &self.config.layout,
            &*self.tail,
        );
        self.save_progress(&before, &snapshot)?;
        self.phases.follow(&snapshot.observed, &snapshot.progress, &self.metrics);
        let (plan, breaches) =
            (self.planner)(&snapshot.desired, &snapshot.services, &snapshot.observed, &snapshot.progress, &self.config);
        self.pending_events
            .push(breaches.iter().map(|breach| events::for_breach(breach, &snapshot.progress, snapshot.observed.now)));
        let advanced = snapshot.progress.clone();
        admission::record_waits(&plan, &mut snapshot.progress, snapshot.observed.now);
        if !plan.steps.iter().any(|step| matches!(step.action, Action::Proxy(ProxyAction::LoadRoutes(_)))) {
            // Caddy has them: it loaded them and only its answer was lost, or they are no longer desired.
            self.route_error = routes::blocked_by(&snapshot.progress);
        }
        let follow_up = self.apply(&plan, &mut snapshot);
        // An app may be ready before its start is observed.
        self.health.probe(&probes(&snapshot.desired, &snapshot.observed.projects, &snapshot.progress, Some(&plan)));
        let unserved = self.unserved(&snapshot);
        let visits = visits(&snapshot, &unserved);
        self.health.visit(&visits);
        let statuses = self.statuses(&mut snapshot, &unserved, &plan.queue);
        let steady = statuses.values().filter_map(restarts::stable_at).min();
        self.save_progress(&advanced, &snapshot)?;
        self.pending_events.push(self.services.record(
            &snapshot.services,
            &snapshot.observed,
            &snapshot.progress,
            full,
        )?);
        self.record(statuses, full, follow_up.is_some(), snapshot.observed.now)?;
        let open = |visit: &Visit| {
            let seen = snapshot.observed.projects.get(&visit.project);
            !seen.is_some_and(|seen| seen.visits.contains_key(visit))
        };
        let soon = visits.iter().any(open).then(|| snapshot.observed.now.after(Span::seconds(1)));
        Ok(self.next_pass(
            follow_up,
            snapshot.observed.now,
            plan.requeue_at.into_iter().chain(soon).chain(steady).min(),
        ))
    }

    /// Another pass follows steps, to observe their effect. Many such passes in a row mean steps without effect: then the
    /// loop slows down instead of spinning.
    fn next_pass(
        &mut self,
        follow_up: Option<FollowUp>,
        now: Timestamp,
        planned: Option<Timestamp>,
    ) -> Option<Timestamp> {
        self.busy_passes = if follow_up.is_some() { self.busy_passes.saturating_add(1) } else { 0 };
        let soon = follow_up.map(|follow_up| match follow_up {
            _ if self.busy_passes > 20 => now.after(Span::seconds(1)),
            FollowUp::AtOnce => now,
            FollowUp::Soon => now.after(JOB_POLL_DELAY),
        });
        let retry = self.route_error.as_ref().map(|_| now.after(ROUTE_RETRY));
        soon.into_iter().chain(planned).chain(retry).min()
    }

    /// Activates a changed template once Caddy accepts what it renders for the active sites. Until then the one before
    /// stays active.
    fn read_template(&mut self, snapshot: &Snapshot, full: bool) {
        let again = full && self.template_error.is_some();
        let Some(read) = self.routes.template(again) else { return };
        let sites = routes::sites(&snapshot.progress, &self.config.layout);
        let judged = read.and_then(|template| {
            let proxy = Proxy { template, ..self.config.proxy.clone() };
            caddyfile::try_template(&proxy)?;
            let order = RoutesOrder { text: caddyfile::text(&proxy, &sites)?, sites };
            match self.routes.refusal(&order) {
                Ok(None) => Ok(proxy),
                Ok(Some(why)) => Err(why),
                Err(error) => Err(error.message),
            }
        });
        let error = match judged {
            Ok(proxy) => {
                self.routes.keep_template(&proxy.template);
                self.config.proxy = proxy;
                None
            }
            Err(why) => Some(why),
        };
        if let Some(why) = error.as_ref().filter(|_| error != self.template_error) {
            tracing::error!("the Caddyfile's template was changed, and the previous one stays active: {why}");
        }
        self.template_error = error;
    }

    fn observe(&self, suppose: Option<(ProjectId, DesiredProject)>, full: bool) -> Result<Snapshot, PortError> {
        let mut desired = self.store.desired()?;
        let wanted = self.services.store.desired_services()?;
        desired.0.extend(suppose);
        let all_progress = self.store.progress()?;
        all_progress.stop_unreadable(&mut desired);
        let now = self.clock.now();
        let mut units = self.units.observe();
        let mut projects: BTreeMap<ProjectId, ObservedProject> =
            desired.0.keys().map(|project| (project.clone(), self.observe_project(project, &mut units))).collect();
        let found = self.health.probe(&probes(&desired, &projects, &all_progress, None));
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
                seen.open_ports = open;
            }
        }
        let proxy = facet(self.observe_proxy(&all_progress));
        let artifacts = facet(self.bundles.artifacts());
        let services = self.services.observe(&wanted, &desired, full);
        let (retry_refused_routes, ports_in_use) = (self.retry_refused_routes, self.health.ports_in_use());
        let observed = Observed { now, projects, proxy, services, artifacts, retry_refused_routes, ports_in_use };
        Ok(Snapshot { desired, services: wanted, observed, progress: all_progress })
    }

    fn observe_proxy(&self, all_progress: &Progress) -> Result<ProxySeen, PortError> {
        let seen = self.routes.observe()?;
        let runs = seen.up || self.units.proxy_runs()?;
        let certificates = self.routes.certificates(&routes::public_hosts(all_progress, &self.config.proxy));
        let refused = all_progress.projects.values().any(|progress| progress.quarantine.is_some());
        let surroundings = refused.then(|| self.surroundings());
        Ok(ProxySeen { runs, certificates, surroundings, ..seen })
    }

    fn surroundings(&self) -> String {
        self.routes.surroundings(&caddyfile::text(&self.config.proxy, &[]).unwrap_or_default())
    }

    fn observe_project(
        &self,
        project: &ProjectId,
        units: &mut Result<BTreeMap<ProjectId, BTreeMap<UnitId, UnitSeen>>, PortError>,
    ) -> ObservedProject {
        ObservedProject {
            units: facet(
                units.as_mut().map(|all| all.remove(project).unwrap_or_default()).map_err(|error| error.clone()),
            ),
            bundles: facet(self.bundles.observe(project)),
            fetches: self.bundles.fetches(project),
            health: BTreeMap::new(),
            visits: BTreeMap::new(),
            open_ports: BTreeSet::new(),
            slowdown: 1,
        }
    }

    fn emit_forced_stops(&mut self, snapshot: &Snapshot) {
        let units = snapshot.observed.projects.values().filter_map(|seen| seen.units.known()).flatten();
        let failed: Vec<_> = units.filter(|(_, seen)| seen.state == ActiveState::Failed).collect();
        let stops = self.tail.forced_stops(&failed);
        self.pending_events
            .push(stops.iter().map(|stop| events::for_forced_stop(stop, &snapshot.progress, snapshot.observed.now)));
    }

    /// Emits the events for what was decided, and saves the progress.
    fn save_progress(&mut self, before: &Progress, snapshot: &Snapshot) -> Result<(), PortError> {
        let after = &snapshot.progress;
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
        self.pending_events.push(events::for_changes(&snapshot.desired, before, after, snapshot.observed.now));
        self.store.save_progress(&changed, self.pending_events.unwritten())?;
        self.pending_events.mark_written();
        Ok(())
    }

    /// Executes the steps in order; returns when to observe their effects. A failure halts its project for this pass.
    fn apply(&mut self, plan: &Plan, snapshot: &mut Snapshot) -> Option<FollowUp> {
        let (mut touched, mut halted, mut failed) = (BTreeMap::new(), BTreeSet::new(), None);
        for step in self.round_robin(&plan.steps) {
            let (subject, Facts { kind, follow_up, .. }) = (step.action.subject(), step.action.facts());
            if halted.contains(&subject) {
                continue;
            }
            crash::point(Side::Before);
            let executed = self.execute(step, snapshot);
            crash::point(Side::After);
            self.metrics.took_step(kind, executed.is_ok());
            match executed {
                Ok(()) => {
                    self.pending_events.push([events::for_step(step, &snapshot.progress, snapshot.observed.now)]);
                    self.route_error = self.route_error.take().filter(|_| subject != Subject::Proxy);
                    touched.insert(subject, follow_up);
                }
                Err(error) => {
                    self.record_failure(step, &error, snapshot);
                    // The failure is already folded into the progress, which the next pass acts on.
                    failed = Some(FollowUp::AtOnce);
                    halted.insert(subject);
                }
            }
        }
        for subject in touched.keys().filter(|subject| !halted.contains(*subject)) {
            if let Subject::Project(project) = subject
                && let Some(progress) = snapshot.progress.projects.get_mut(project)
            {
                progress.backoff = None;
            }
        }
        touched.into_values().chain(failed).min()
    }

    /// Each pass starts with the next project in turn, so that one with slow steps does not starve the others. Steps
    /// without a project come first: all projects need Caddy.
    fn round_robin<'a>(&mut self, steps: &'a [Step]) -> Vec<&'a Step> {
        let projects: Vec<&ProjectId> =
            steps.iter().filter_map(|step| step.action.project()).collect::<BTreeSet<_>>().into_iter().collect();
        self.next_project = self.next_project.wrapping_add(1);
        let first = if projects.is_empty() { 0 } else { self.next_project % projects.len() };
        let order = projects[first..].iter().chain(&projects[..first]).copied().map(Some);
        std::iter::once(None)
            .chain(order)
            .flat_map(|project| steps.iter().filter(move |step| step.action.project() == project))
            .collect()
    }

    fn execute(&self, step: &Step, snapshot: &mut Snapshot) -> Result<(), PortError> {
        match &step.action {
            Action::Project(project, action) => self.execute_on_project(project, action, snapshot),
            Action::Proxy(ProxyAction::LoadRoutes(order)) => self.routes.load(order),
            Action::Proxy(ProxyAction::Start) => self.units.start_proxy(),
            Action::Service(service, action) => {
                self.services.execute(*service, action, &mut snapshot.progress, snapshot.observed.now)
            }
            Action::RemoveArtifact(sha256) => self.bundles.remove_artifact(sha256),
        }
    }

    fn execute_on_project(
        &self,
        project: &ProjectId,
        action: &ProjectAction,
        snapshot: &mut Snapshot,
    ) -> Result<(), PortError> {
        match action {
            ProjectAction::Prepare { readable_by_caddy: open } => self.bundles.prepare(project, *open),
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
            ProjectAction::SwitchTraffic(process, slot) => self.bundles.point(project, process, *slot),
            ProjectAction::Link(release) => self.bundles.link(project, *release),
            ProjectAction::Stop(unit) => self.units.stop(unit),
            ProjectAction::RemoveUnit(unit) => self.units.remove(unit),
            ProjectAction::RemoveRelease(release) => self.bundles.remove_release(project, *release),
            ProjectAction::RemoveMarker(process) => self.bundles.point(project, process, Slot::A),
            ProjectAction::RemoveFiles { keep_data } => self.bundles.remove_all(project, *keep_data),
            ProjectAction::DeleteRecord => {
                // Even if this fails, the record may be deleted already, and a new project may have the name: nothing more
                // is written for it.
                snapshot.progress.projects.remove(project);
                let generation = snapshot.desired.0.get(project).map_or(0, |wanted| wanted.generation);
                self.store.delete_record(project, generation)
            }
        }
    }

    fn record_failure(&mut self, step: &Step, error: &PortError, snapshot: &mut Snapshot) {
        let now = snapshot.observed.now;
        self.pending_events.push([events::for_failed_step(step, error, &snapshot.progress, now)]);
        match &step.action {
            Action::Project(project, _) => {
                if let Some(progress) = snapshot.progress.projects.get_mut(project) {
                    let message = format!("could not {}: {}", step.action, error.message);
                    retry::record_failed_step(progress, &PortError { message, ..error.clone() }, now);
                }
            }
            Action::Proxy(ProxyAction::LoadRoutes(order)) => {
                self.quarantine(order, snapshot);
                self.route_error = Some(error.clone());
            }
            Action::Service(service, _) => HostServices::record_failure(*service, error, &mut snapshot.progress, now),
            // The plan repeats them as long as they are needed; no failures are counted.
            Action::Proxy(ProxyAction::Start) | Action::RemoveArtifact(_) => {}
        }
    }

    /// Leaves out the hosts that Caddy refuses, so that the others are loaded. If no single host is at fault, the
    /// template is.
    fn quarantine(&self, order: &RoutesOrder, snapshot: &mut Snapshot) {
        let refuses = |sites: &[Site]| {
            let text = caddyfile::text(&self.config.proxy, sites);
            let order = text.map(|text| RoutesOrder { text, sites: sites.to_vec() });
            order.map_or_else(Some, |order| self.routes.refusal(&order).ok().flatten())
        };
        if refuses(&[]).is_some() {
            return;
        }
        let refused_hosts = routes::refused_hosts(&order.sites, refuses);
        let surroundings = if refused_hosts.is_empty() { String::new() } else { self.surroundings() };
        for (project, refused) in refused_hosts {
            if let Some(progress) = snapshot.progress.projects.get_mut(&project) {
                routes::quarantine(progress, refused, surroundings.clone(), snapshot.observed.now);
            }
        }
    }

    fn unserved(&self, snapshot: &Snapshot) -> BTreeSet<Hostname> {
        routes::unserved(&snapshot.observed, &snapshot.progress, &self.config, |order| self.routes.differing(order))
    }

    fn statuses(
        &self,
        snapshot: &mut Snapshot,
        unserved: &BTreeSet<Hostname>,
        queue: &[ProjectId],
    ) -> BTreeMap<ProjectId, Status> {
        let mut current = BTreeMap::new();
        for (project, wanted) in &snapshot.desired.0 {
            let mut unknown = ProjectProgress::default();
            let progress = match (snapshot.progress.projects.get_mut(project), &wanted.intent) {
                (Some(progress), _) => progress,
                (None, Intent::Unreadable(_)) => &mut unknown,
                (None, _) => continue,
            };
            let Some(seen) = snapshot.observed.projects.get(project) else { continue };
            let shown = status::compute(&status::StatusInput {
                project,
                wanted,
                progress,
                seen,
                before: self.last_statuses.get(project),
                observed: &snapshot.observed,
                unserved,
                queue,
                route_error: self.route_error.as_ref(),
                template_error: self.template_error.as_deref(),
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
        let is_news =
            |status: &&Status| full || self.last_statuses.get(&status.project).is_none_or(|old| differ(old, status));
        let news: Vec<Status> = current.values().filter(is_news).cloned().collect();
        self.pending_events.push(events::ready_changes(&self.last_statuses, &current, now));
        if !news.is_empty() || self.pending_events.is_due(busy) {
            self.store.record(&news, self.pending_events.unwritten())?;
            self.pending_events.mark_written();
        }
        self.last_statuses = Arc::new(current);
        self.metrics.see(&self.last_statuses, self.clock.now());
        self.recorded_passes += 1;
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
            let Some(workload) = progress.workload_of(&unit) else { continue };
            let routes = spec.and_then(|spec| spec.processes.get(&unit.process)).map(|process| &process.routes[..]);
            let route = Route::first_direct(routes.unwrap_or_default());
            let port = progress.port_of(&unit);
            let runs = units.get(&unit).is_some_and(UnitSeen::is_up) || starts(&unit);
            let (Some(ready), Some(port), true) = (&workload.ready, port, runs) else { continue };
            if ready.check != Check::Notify {
                let (request, timeout, interval) = (ready.request(route, workload.h2c), ready.timeout, ready.interval);
                orders.push(ProbeOrder { unit, port, request, timeout, interval });
            }
        }
    }
    orders
}

/// Returns what to request from Caddy: on the routes that it has, for projects that are not suspended.
fn visits(snapshot: &Snapshot, unserved: &BTreeSet<Hostname>) -> BTreeSet<Visit> {
    let mut found = BTreeSet::new();
    for (project, seen) in &snapshot.observed.projects {
        let Some(wanted) = snapshot.desired.0.get(project) else { continue };
        let (Some(spec), Some(progress)) = (wanted.spec(), snapshot.progress.projects.get(project)) else { continue };
        if wanted.suspension_at(snapshot.observed.now).is_some() {
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
