//! Computes a project's status from its desired state, recorded progress and observations. Never from intent alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Plan, restarts, visits};
use crate::model::desired::{Complaint, Intent, Kind, Wanted, Work};
use crate::model::failure::PortError;
use crate::model::names::{Hostname, ProjectId, ReleaseNo, UnitId};
use crate::model::observed::{
    ActiveState, CertificateSeen, Exit, FetchSeen, Observed, ObservedProject, ProxySeen, UnitSeen, Visit,
};
use crate::model::progress::{ProjectProgress, Quarantine, ReleaseState, Target};
use crate::model::quantity::{Bytes, Timestamp};
use crate::model::reason::Reason;
use crate::model::spec::{Route, Tls};
use crate::model::status::{
    Condition, ConditionKind, LastRun, ProcessStatus, ProjectState, RouteStatus, ShortRuns, Status,
};

/// The inputs of a project's status.
pub struct StatusInput<'a> {
    pub project: &'a ProjectId,
    pub wanted: &'a Wanted,
    pub progress: &'a ProjectProgress,
    /// What was observed of the project.
    pub seen: &'a ObservedProject,
    /// The previous status.
    pub before: Option<&'a Status>,
    /// What was observed of the whole machine.
    pub observed: &'a Observed,
    /// The hosts of all projects that Caddy does not serve as desired.
    pub unserved: &'a BTreeSet<Hostname>,
    /// Why Caddy refused the routes.
    pub route_trouble: Option<&'a PortError>,
    /// Why a changed template is not used.
    pub template_trouble: Option<&'a str>,
}

/// A reason and a sentence.
type Finding = (Reason, String);

/// Computes a project's status.
pub fn compute(view: &StatusInput<'_>) -> Status {
    let now = view.observed.now;
    let conditions: Vec<Condition> = findings(view)
        .into_iter()
        .map(|(kind, holds, (reason, message))| {
            let same = view
                .before
                .and_then(|status| status.condition(kind))
                .filter(|old| old.reason == reason && old.holds == holds);
            Condition { kind, holds, reason, message, since: same.map_or(now, |old| old.since) }
        })
        .collect();
    let settled = stalled(view).is_some() || conditions.iter().any(|c| c.kind == ConditionKind::Ready && c.holds);
    let seen_generation = if settled { view.wanted.generation } else { view.progress.observed_generation };
    Status {
        project: view.project.clone(),
        generation: view.wanted.generation,
        observed_generation: seen_generation.min(view.wanted.generation),
        observed_at: now,
        owner: view.wanted.owner.to_string(),
        state: state(&view.wanted.intent, &conditions, was_as_desired(view)),
        conditions,
        serving: view.progress.serving,
        candidate: view.progress.candidate(),
        last_good: last_good(view.progress),
        rejected: rejected(view.progress),
        processes: processes(view),
        routes: routes(view),
    }
}

/// Returns whether the project was as desired before: the desired state was acted on, and the rollout has ended.
fn was_as_desired(view: &StatusInput<'_>) -> bool {
    let progress = view.progress;
    let settled = progress.observed_generation == view.wanted.generation || down_process(view).is_some();
    progress.rollout().is_none() && progress.serving.is_some() && settled
}

fn state(intent: &Intent, conditions: &[Condition], was_as_desired: bool) -> ProjectState {
    let has = |kind: ConditionKind| conditions.iter().any(|c| c.kind == kind && c.holds);
    let doing = |reason: Reason| conditions.iter().any(|c| c.kind == ConditionKind::Reconciling && c.reason == reason);
    match intent {
        _ if has(ConditionKind::Suspended) => ProjectState::Suspended,
        Intent::Delete { .. } => ProjectState::Deleting,
        _ if has(ConditionKind::Ready) => ProjectState::Running,
        // A unit whose state systemd did not report may still run, and a route that Caddy was not asked about may still
        // answer.
        _ if doing(Reason::Unknown) || was_as_desired && doing(Reason::RouteCheck) => ProjectState::Unknown,
        _ if has(ConditionKind::Reconciling) && was_as_desired => ProjectState::Down,
        _ if has(ConditionKind::Reconciling) => ProjectState::Deploying,
        _ if has(ConditionKind::Stalled) => ProjectState::Failed,
        _ => ProjectState::Pending,
    }
}

/// A project that has no steps although it is not as desired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    pub project: ProjectId,
    /// Programs may compare it.
    pub reason: Reason,
    pub message: String,
}

/// Returns which projects are stuck and why. Without it "nothing to do" could mean that all is well, or that a secret
/// is missing.
pub fn waiting_projects(plan: &Plan, statuses: &BTreeMap<ProjectId, Status>) -> Vec<Waiting> {
    let has_steps = |project: &ProjectId| plan.steps.iter().any(|step| step.action.project() == Some(project));
    let still = statuses.values().filter(|status| !has_steps(&status.project));
    let told = still.filter_map(|status| {
        let suspended = status.condition(ConditionKind::Suspended).filter(|condition| condition.holds);
        let unready = status.condition(ConditionKind::Ready).filter(|condition| !condition.holds);
        let Condition { reason, message, .. } = suspended.or(unready)?.clone();
        Some(Waiting { project: status.project.clone(), reason, message })
    });
    told.collect()
}

fn findings(view: &StatusInput<'_>) -> Vec<(ConditionKind, bool, Finding)> {
    let mut found = Vec::new();
    let stalled = stalled(view);
    let unready = unready(view, stalled.as_ref());
    found.push(match &unready {
        None => (ConditionKind::Ready, true, (Reason::Serving, serving_message(view))),
        Some(finding) => (ConditionKind::Ready, false, finding.clone()),
    });
    let suspended = suspended(view);
    // Anything that differs from the desired state is being worked on, unless nothing more happens by itself.
    let works = view.wanted.intent != Intent::Nothing && suspended.is_none();
    let doing = match unready {
        Some(why) => Some(reconciling(view).unwrap_or(why)),
        None => draining(view),
    };
    let doing = doing.filter(|_| works);
    found.extend(doing.filter(|_| stalled.is_none()).map(|finding| (ConditionKind::Reconciling, true, finding)));
    found.extend(stalled.or_else(|| contested(view.wanted)).map(|finding| (ConditionKind::Stalled, true, finding)));
    found.extend(suspended.map(|finding| (ConditionKind::Suspended, true, finding)));
    found
}

fn stalled(view: &StatusInput<'_>) -> Option<Finding> {
    if let Some(finding) = unreadable(view.wanted) {
        return Some(finding);
    }
    if matches!(view.wanted.intent, Intent::Delete { .. }) {
        return None;
    }
    let complaint = view.wanted.complaint.as_ref().filter(|complaint| !complaint.is_of_another_file()).map(finding);
    if complaint.is_some() || is_deferred(view) {
        // What stopped an older generation does not apply to this one, which has not been tried yet.
        return complaint;
    }
    let standing = view.progress.stalled.clone().or_else(|| view.progress.quarantine.as_ref().map(Quarantine::cause));
    standing.map(|stall| (stall.reason, stall.message))
}

/// The reason if a project's stored state could not be read.
pub const UNREADABLE: Reason = Reason::Database;

/// Returns why nothing can be done for a project of which a part could not be read.
fn unreadable(wanted: &Wanted) -> Option<Finding> {
    match &wanted.intent {
        Intent::Unreadable(why) => Some((UNREADABLE, why.clone())),
        _ => None,
    }
}

/// Returns the finding about another file that claims the project too. The project keeps running without it.
fn contested(wanted: &Wanted) -> Option<Finding> {
    wanted.complaint.as_ref().filter(|complaint| complaint.is_of_another_file()).map(finding)
}

fn finding(complaint: &Complaint) -> Finding {
    (complaint.kind.reason().to_owned(), complaint.message.clone())
}

/// Returns whether the present desired state arrived while the project was suspended: no pass has acted on it.
fn is_deferred(view: &StatusInput<'_>) -> bool {
    let is_run = matches!(view.wanted.intent, Intent::Run(_));
    is_run && suspended(view).is_some() && view.progress.generation != view.wanted.generation
}

fn suspended(view: &StatusInput<'_>) -> Option<Finding> {
    suspension(view.wanted, view.observed.now)
}

fn suspension(wanted: &Wanted, now: Timestamp) -> Option<Finding> {
    let pause = wanted.pause_at(now).filter(|_| wanted.intent != Intent::Nothing)?;
    Some((Reason::Suspended, pause.message))
}

/// Returns why the project is not as desired; none if it is.
fn unready(view: &StatusInput<'_>, stalled: Option<&Finding>) -> Option<Finding> {
    if let Some(finding) = stalled {
        return Some(finding.clone());
    }
    let progress = view.progress;
    if is_deferred(view) {
        return Some((
            Reason::Suspended,
            format!("generation {} waits until the project is resumed", view.wanted.generation),
        ));
    }
    if let Some(finding) = waiting(view) {
        return Some(finding);
    }
    match (&view.wanted.intent, progress.serving) {
        (Intent::Delete { .. }, _) if suspended(view).is_some() => {
            return Some((Reason::Suspended, "its removal waits until it is resumed".into()));
        }
        (Intent::Delete { .. }, _) => {
            return Some((Reason::Deleting, "routes, processes and files are being removed".into()));
        }
        (Intent::Nothing | Intent::Unreadable(_), _) => {
            return Some((Reason::Pending, "nothing is wanted yet".into()));
        }
        (Intent::Run(_), None) => {
            return Some(reconciling(view).unwrap_or_else(|| (Reason::Pending, "nothing serves yet".into())));
        }
        (Intent::Run(_), Some(_)) => {}
    }
    if progress.generation != view.wanted.generation || progress.target != Target::Serving {
        return Some(
            reconciling(view).unwrap_or_else(|| (Reason::Pending, "this generation waits for its turn".into())),
        );
    }
    down_process(view).or_else(|| pending_routes(view)).or_else(|| failing_routes(view))
}

/// Returns which routes lead to an app that Caddy gets no answer from. A release that just got the traffic counts as
/// well only after Caddy was asked.
fn failing_routes(view: &StatusInput<'_>) -> Option<Finding> {
    let checks = visits::checks(view.project, view.seen, view.progress);
    let failing: Vec<&str> = unanswered(view, &checks).map(|(_, said)| said).collect();
    if !failing.is_empty() {
        return Some((Reason::RouteFailing, failing.join("; ")));
    }
    let was_ready = |status: &Status| status.condition(ConditionKind::Ready).is_some_and(|condition| condition.holds);
    if view.before.is_some_and(|status| status.serving == view.progress.serving && was_ready(status)) {
        return None;
    }
    let open = checks.iter().find(|(_, visit)| !view.seen.visits.contains_key(visit));
    open.map(|(route, _)| (Reason::RouteCheck, format!("{} is asked through Caddy for the first time", route.host)))
}

/// Returns the routes that Caddy gets no answer on, and what it reports.
fn unanswered<'a>(
    view: &StatusInput<'a>,
    checks: &'a [(&'a Route, Visit)],
) -> impl Iterator<Item = (&'a Route, &'a str)> {
    let visits = &view.seen.visits;
    checks.iter().filter_map(|(route, visit)| {
        let visited = visits.get(visit).filter(|visited| visited.unanswered)?;
        Some((*route, visited.last.as_str()))
    })
}

/// Returns why Caddy does not serve hosts of this project as desired; none if it does.
fn pending_routes(view: &StatusInput<'_>) -> Option<Finding> {
    let hosts = view.progress.routes.values().flatten().map(|route| &route.host);
    let pending: BTreeSet<&Hostname> = hosts.filter(|host| view.unserved.contains(*host)).collect();
    if pending.is_empty() {
        return None;
    }
    Some(match (view.route_trouble, view.observed.proxy.known()) {
        (Some(error), _) => (
            error.reason.to_owned(),
            format!("the app runs, its routes wait: {}; it is tried again every 10 s", error.message),
        ),
        (None, Some(ProxySeen { apart: Some(why), .. })) => {
            (Reason::RoutePending, format!("the app runs, its routes wait: {why}"))
        }
        (None, Some(proxy)) if proxy.up => {
            let hosts: Vec<&str> = pending.into_iter().map(Hostname::as_str).collect();
            (Reason::RoutePending, format!("Caddy does not have the routes of {} yet", hosts.join(", ")))
        }
        (None, Some(proxy)) if proxy.runs => (
            Reason::RoutePending,
            "Caddy runs and does not answer on its admin socket; the app runs, its routes wait".into(),
        ),
        (None, Some(_)) => (
            Reason::ProxyDown,
            "Caddy does not run, so no request arrives; the agent starts it, and `systemctl status caddy` says why it \
             stopped; the app itself runs"
                .into(),
        ),
        (None, None) => (Reason::RoutePending, "Caddy could not be asked what it serves; the app runs".into()),
    })
}

fn down_process(view: &StatusInput<'_>) -> Option<Finding> {
    let serving = view.progress.serving?;
    let Some(units) = view.seen.units.known() else {
        return Some((Reason::Unknown, "systemd could not be asked; what is shown may be old".into()));
    };
    let daemons = view.progress.units_of(view.project, serving).into_iter();
    let mut daemons = daemons.filter(|unit| view.progress.work_of(unit).is_some_and(Work::is_daemon));
    daemons.find_map(|unit| {
        let seen = units.get(&unit);
        let work = view.progress.work_of(&unit);
        let runs = seen.map(|seen| short_runs(view, &unit, seen)).unwrap_or_default();
        if let Some((reason, unsteady)) = restarts::unsteady(&runs, work) {
            return Some((reason, format!("process {} {unsteady}", unit.process)));
        }
        let up = seen.is_some_and(|seen| matches!(seen.state, ActiveState::Active | ActiveState::Reloading));
        if up {
            return None;
        }
        let limit = view.progress.release(serving).and_then(|release| release.content.limits.memory);
        let how = seen.and_then(|seen| seen.ending(limit)).unwrap_or_else(|| "is not running".to_owned());
        let next = match seen.filter(|seen| seen.state == ActiveState::Activating) {
            Some(seen) if seen.restarts > 0 => format!("systemd restarted it {} times and goes on", seen.restarts),
            Some(_) => "systemd starts it again".to_owned(),
            None if suspended(view).is_some() => "nothing starts it until the project is resumed".to_owned(),
            None => "it is started again".to_owned(),
        };
        let starved = seen.is_some_and(UnitSeen::is_out_of_memory);
        let reason = if starved { Reason::OutOfMemory } else { Reason::ProcessDown };
        let ended_well = seen.is_some_and(|seen| seen.exit == Some(Exit::Status(0)) && seen.restarts > 0);
        let hint =
            work.filter(|_| ended_well).map_or(String::new(), |work| format!("; {}", restarts::after_success(work)));
        Some((reason, format!("process {} {how}; {next}{hint}", unit.process)))
    })
}

fn serving_message(view: &StatusInput<'_>) -> String {
    let Some(serving) = view.progress.serving else { return String::new() };
    let version = view.progress.release(serving).and_then(|release| release.version.as_ref());
    let named = version.map_or(String::new(), |version| format!(" ({})", version.as_str()));
    let limits = unenforced_limits(view).unwrap_or_default();
    let (certificates, open, template) = (missing_certificates(view), open_ports(view), template_trouble(view));
    let runs = failed_runs(view);
    format!("release {serving}{named} serves{runs}{limits}{certificates}{open}{template}")
}

/// An app that listens on more than the loopback interface is reachable without Caddy: without its certificate,
/// redirects and log.
fn open_ports(view: &StatusInput<'_>) -> String {
    let units = view.seen.units.known().into_iter().flatten().map(|(unit, _)| unit);
    let ports: BTreeMap<u16, &UnitId> = units.filter_map(|unit| Some((view.progress.port_of(unit)?, unit))).collect();
    let told = view.seen.open.iter().map(|open| match ports.get(&open.port) {
        Some(unit) => {
            format!("; process {} listens on {open}, which is reached past Caddy: bind to $HOST", unit.process)
        }
        None => format!("; it listens on {open}, which is reached past Caddy"),
    });
    told.collect()
}

/// systemd accepts a limit silently even if the kernel cannot enforce it.
fn unenforced_limits(view: &StatusInput<'_>) -> Option<&'static str> {
    let serving = view.progress.serving?;
    let limited = view.progress.release(serving)?.content.limits.memory.is_some();
    let unaccounted = view
        .seen
        .units
        .known()?
        .iter()
        .any(|(unit, seen)| unit.release == serving && seen.is_up() && seen.memory_bytes.is_none());
    (limited && unaccounted)
        .then_some("; its memory limit is not enforced, since this machine has no memory controller")
}

/// Returns what the next rollout waits for.
fn waiting(view: &StatusInput<'_>) -> Option<Finding> {
    view.progress.waits_for_services.as_ref().map(|waits| (waits.reason, waits.message.clone()))
}

fn reconciling(view: &StatusInput<'_>) -> Option<Finding> {
    if let Some(finding) = waiting(view) {
        return Some(finding);
    }
    if let Some(backoff) = &view.progress.backoff {
        let message = format!(
            "{}; failed {} since {}, next try at {}",
            backoff.message,
            backoff.times(),
            backoff.since,
            backoff.until
        );
        return Some((backoff.reason, message));
    }
    let Some(rollout) = view.progress.rollout() else {
        let down = down_process(view).filter(|_| matches!(view.wanted.intent, Intent::Run(_)));
        return down.or_else(|| draining(view));
    };
    let candidate = rollout.release;
    let backoff = rollout.fetch.as_ref().map(|fetch| &fetch.backoff);
    if let Some(backoff) = backoff.filter(|backoff| backoff.until > view.observed.now) {
        let message = format!("{}; failed {}, next try at {}", backoff.message, backoff.times(), backoff.until);
        return Some((backoff.reason, message));
    }
    Some(match view.seen.fetches.get(&candidate) {
        Some(FetchSeen::Running { unpacking: true, .. }) => {
            (Reason::Unpacking, format!("unpacking release {candidate}"))
        }
        Some(FetchSeen::Running { bytes, of, .. }) => {
            (Reason::Fetching, format!("fetching release {candidate}: {}", amount(*bytes, *of)))
        }
        Some(FetchSeen::Failed { .. }) => (Reason::Fetching, format!("fetching release {candidate} again")),
        None => (Reason::Trial, trial_message(view, candidate)),
    })
}

fn trial_message(view: &StatusInput<'_>, candidate: ReleaseNo) -> String {
    if view.progress.routed() == Some(candidate) {
        let asked = view.seen.visits.iter().find(|(visit, _)| visit.release == candidate);
        let found = asked.map_or(String::new(), |(_, visited)| format!(": {}", visited.last));
        return format!("release {candidate} has the traffic and is verified through Caddy{found}");
    }
    let waiting: Vec<String> = view
        .seen
        .health
        .iter()
        .filter(|(unit, probed)| unit.release == candidate && probed.ok_since.is_none())
        .map(|(unit, probed)| format!("{}: {}", unit.process, probed.last))
        .collect();
    match (waiting.is_empty(), view.progress.serving) {
        (true, _) => format!("release {candidate} is starting and must stay healthy before it gets traffic"),
        (false, _) => format!("release {candidate} is not ready yet; {}", waiting.join("; ")),
    }
}

/// A release that was stopped before the new one started has no requests to finish.
fn draining(view: &StatusInput<'_>) -> Option<Finding> {
    let works = |number| super::traffic::may_have_requests(number, view.seen, view.progress);
    let draining = view.progress.draining.as_ref().filter(|draining| works(draining.release))?;
    Some((Reason::Draining, format!("release {} finishes its requests until {}", draining.release, draining.until)))
}

fn amount(bytes: u64, of: Option<u64>) -> String {
    match of {
        Some(of) if of > 0 => format!("{} of {} ({} %)", Bytes(bytes), Bytes(of), bytes.saturating_mul(100) / of),
        _ => format!("{} so far", Bytes(bytes)),
    }
}

fn last_good(progress: &ProjectProgress) -> Option<ReleaseNo> {
    progress
        .serving
        .filter(|serving| progress.release(*serving).is_some_and(|release| release.good))
        .or_else(|| progress.last_good_before())
}

fn rejected(progress: &ProjectProgress) -> Vec<ReleaseNo> {
    let numbers = progress.releases.keys().copied();
    numbers.filter(|number| progress.state_of(*number) == ReleaseState::Rejected).collect()
}

fn processes(view: &StatusInput<'_>) -> Vec<ProcessStatus> {
    let Some(units) = view.seen.units.known() else { return Vec::new() };
    let shown = units.iter().map(|(unit, seen)| {
        let port = view.progress.port_of(unit);
        let slot = view.progress.release(unit.release).filter(|_| port.is_some()).map(|release| release.slot);
        ProcessStatus {
            name: unit.process.clone(),
            release: unit.release,
            unit: unit.name(),
            state: seen.state,
            sub_state: seen.sub_state.clone(),
            pid: seen.pid,
            slot,
            port,
            memory_bytes: seen.memory_bytes,
            cpu_seconds: seen.cpu_nanos.map(|nanos| nanos as f64 / 1e9),
            tasks: seen.tasks,
            io_read_bytes: seen.io_read_bytes,
            io_write_bytes: seen.io_write_bytes,
            restarts: seen.restarts,
            since: seen.since,
            last_run: last_run(view.progress, unit, seen),
            short_runs: short_runs(view, unit, seen),
        }
    });
    let mut shown: Vec<ProcessStatus> = shown.collect();
    shown
        .sort_by_key(|process| (Some(process.release) != view.progress.serving, process.release, process.name.clone()));
    shown
}

fn short_runs(view: &StatusInput<'_>, unit: &UnitId, seen: &UnitSeen) -> ShortRuns {
    let limit = view.progress.release(unit.release).and_then(|release| release.content.limits.memory);
    restarts::count(view.before, unit, seen, limit, view.observed.now)
}

/// Returns how the last run of a scheduled process ended, while systemd knows: not after a boot.
fn last_run(progress: &ProjectProgress, unit: &UnitId, seen: &UnitSeen) -> Option<LastRun> {
    progress.work_of(unit).filter(|work| matches!(work.kind, Kind::Scheduled(_)))?;
    let limit = progress.release(unit.release).and_then(|release| release.content.limits.memory);
    let result = match seen.state {
        ActiveState::Failed => seen.ending(limit).unwrap_or_else(|| format!("failed: {}", seen.result)),
        ActiveState::Inactive => seen.exit?.to_string(),
        _ => return None,
    };
    Some(LastRun { ended: seen.since?, success: seen.state == ActiveState::Inactive, result })
}

/// A failed job takes no traffic and keeps the project Ready, but must be reported.
fn failed_runs(view: &StatusInput<'_>) -> String {
    let units = view.seen.units.known().into_iter().flatten();
    let units = units.filter(|(unit, _)| Some(unit.release) == view.progress.serving);
    let runs = units.filter_map(|(unit, seen)| Some((unit, last_run(view.progress, unit, seen)?)));
    let failed = runs.filter(|(_, run)| !run.success).map(|(unit, LastRun { ended, result, .. })| {
        let UnitId { project, process, .. } = unit;
        format!(
            "; the last run of {process} {result}, at {ended}: it runs again by its schedule, and \
             `zexio logs {project} --process {process}` has its words"
        )
    });
    failed.collect()
}

fn routes(view: &StatusInput<'_>) -> Vec<RouteStatus> {
    let slot = view.progress.routed().and_then(|routed| view.progress.release(routed)).map(|release| release.slot);
    let checks = visits::checks(view.project, view.seen, view.progress);
    let unanswered: Vec<(&Route, &str)> = unanswered(view, &checks).collect();
    view.progress
        .routes
        .iter()
        .flat_map(|(process, routes)| routes.iter().map(move |route| (process, route)))
        .map(|(process, route)| {
            let upstream = slot.and_then(|slot| Some(view.progress.ports.get(process)?.first()?.of(slot)));
            let bundle = (!view.progress.ports.contains_key(process)).then(|| "bundle".to_owned());
            let redirect = route.redirect.as_ref().map(|site| site.as_str().to_owned());
            let to = redirect.or(upstream.map(|port| format!("127.0.0.1:{port}"))).or(bundle);
            let has = !view.unserved.contains(&route.host) && !view.progress.leaves_out(&route.host);
            let failing = unanswered.iter().find(|(asked, _)| has && *asked == route).map(|(_, said)| said.to_string());
            RouteStatus {
                host: route.host.clone(),
                path: route.path.as_ref().map(|path| path.as_str().to_owned()),
                to: to.unwrap_or_default(),
                live: has && failing.is_none(),
                failing,
                certificate: certificate(view, route),
            }
        })
        .collect()
}

fn certificate(view: &StatusInput<'_>, route: &Route) -> Option<String> {
    let seen = view.observed.proxy.known()?.certificates.get(&route.host).filter(|_| route.tls == Tls::Auto)?;
    Some(match seen {
        CertificateSeen::Issued => "issued".to_owned(),
        CertificateSeen::Missing(None) => "pending".to_owned(),
        CertificateSeen::Missing(Some(why)) => format!("none yet, Caddy tries again: {why}"),
    })
}

fn template_trouble(view: &StatusInput<'_>) -> String {
    let routed = view.progress.routes.values().any(|routes| !routes.is_empty());
    let trouble = view.template_trouble.filter(|_| routed);
    trouble.map_or_else(String::new, |why| format!("; the changed template of the Caddyfile does not hold: {why}"))
}

/// A missing certificate does not make a running app broken, but must be reported.
fn missing_certificates(view: &StatusInput<'_>) -> String {
    let routes = view.progress.routes.values().flatten();
    let missing = routes.filter_map(|route| Some((route, certificate(view, route).filter(|state| state != "issued")?)));
    missing.map(|(route, state)| format!("; certificate of {}: {state}", route.host)).collect()
}

/// Updates the status of the last pass to the present desired state: a suspension or its end shows at once, not only
/// after the next pass.
pub fn with_current_intent(mut status: Status, wanted: &Wanted, now: Timestamp) -> Status {
    status.generation = wanted.generation;
    status.owner = wanted.owner.to_string();
    let condition = |kind: ConditionKind, holds: bool, (reason, message): Finding| Condition {
        kind,
        holds,
        reason,
        message,
        since: now,
    };
    let seen = status.conditions.iter().position(|condition| condition.kind == ConditionKind::Suspended);
    match (seen, suspension(wanted, now)) {
        (Some(at), Some((_, message))) => status.conditions[at].message = message,
        (None, Some(finding)) => {
            status.conditions.retain(|condition| condition.kind != ConditionKind::Reconciling);
            status.conditions.push(condition(ConditionKind::Suspended, true, finding));
        }
        (Some(at), None) => {
            status.conditions.remove(at);
            let put_off = status.conditions.iter_mut().find(|condition| condition.reason == Reason::Suspended);
            if let Some(ready) = put_off {
                let finding = (Reason::Pending, "it is resumed, and no pass has looked at it since".to_owned());
                *ready = condition(ConditionKind::Ready, false, finding.clone());
                status.conditions.push(condition(ConditionKind::Reconciling, true, finding));
            }
        }
        (None, None) => return status,
    }
    let was_as_desired = status.state == ProjectState::Down;
    status.state = state(&wanted.intent, &status.conditions, was_as_desired);
    status
}

/// Returns the status of a project before its first pass.
pub fn before_first_pass(project: &ProjectId, wanted: &Wanted, now: Timestamp) -> Status {
    let complaint = wanted.complaint.as_ref().filter(|complaint| !complaint.is_of_another_file());
    let stalled = unreadable(wanted).or_else(|| complaint.map(finding));
    let stands_still = stalled.is_some();
    let found = stalled.unwrap_or_else(|| (Reason::Pending, "no pass has looked at it yet".to_owned()));
    let condition = |kind: ConditionKind, holds: bool, (reason, message): Finding| Condition {
        kind,
        holds,
        reason,
        message,
        since: now,
    };
    let mut conditions = vec![condition(ConditionKind::Ready, false, found.clone())];
    conditions.push(condition(
        if stands_still { ConditionKind::Stalled } else { ConditionKind::Reconciling },
        true,
        found,
    ));
    conditions.extend(contested(wanted).map(|found| condition(ConditionKind::Stalled, true, found)));
    Status {
        project: project.clone(),
        generation: wanted.generation,
        observed_generation: 0,
        observed_at: now,
        owner: wanted.owner.to_string(),
        state: if stands_still { ProjectState::Failed } else { ProjectState::Pending },
        conditions,
        serving: None,
        candidate: None,
        last_good: None,
        rejected: Vec::new(),
        processes: Vec::new(),
        routes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::desired::{Hold, Owner};

    fn wanted(hold: Option<Hold>) -> Wanted {
        let intent = Intent::Delete { keep_data: false };
        Wanted {
            generation: 4,
            intent,
            owner: Owner::Api,
            secrets: BTreeMap::new(),
            complaint: None,
            hold,
            moved: false,
        }
    }

    #[test]
    fn a_stop_and_its_end_are_seen_before_the_next_pass() {
        let (project, now) = (ProjectId::parse("shop").unwrap(), Timestamp(5_000));
        let hold = Hold { by: "key ops".into(), since: now, reason: Some("night".into()), until: None };
        let (free, held) = (wanted(None), wanted(Some(hold)));
        let kinds = |status: &Status| status.conditions.iter().map(|c| c.kind).collect::<Vec<_>>();

        let before = before_first_pass(&project, &free, now);
        assert_eq!(with_current_intent(before.clone(), &free, now), before);
        let stopped = with_current_intent(before, &held, now);
        let suspended = vec![ConditionKind::Ready, ConditionKind::Suspended];
        assert_eq!((kinds(&stopped), stopped.state), (suspended, ProjectState::Suspended));
        assert!(stopped.condition(ConditionKind::Suspended).unwrap().message.contains("by key ops: night"));
        assert_eq!(with_current_intent(stopped.clone(), &held, now), stopped);

        let mut put_off = stopped;
        put_off.conditions[0].reason = Reason::Suspended;
        let resumed = with_current_intent(put_off, &free, now);
        let reconciling = vec![ConditionKind::Ready, ConditionKind::Reconciling];
        assert_eq!((kinds(&resumed), resumed.state), (reconciling, ProjectState::Deleting));
        assert!(resumed.conditions.iter().all(|condition| condition.reason == Reason::Pending), "{resumed:?}");
    }
}
