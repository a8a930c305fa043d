//! Folds what was observed into the recorded progress, before planning. Its decisions are durable before the first step
//! that follows from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::desired::{Content, Desired, DesiredServices, Intent, Workload};
use crate::model::failure::Retry;
use crate::model::names::{ProcessName, ProjectId, ReleaseNo, UnitId};
use crate::model::observed::{BundlesSeen, Facet, FetchSeen, Observed, ObservedProject, Purpose, UnitSeen};
use crate::model::progress::{
    Cause, Draining, End, FailedFetch, Phase, Progress, ProjectProgress, Rollout, Switched, Target,
};
use crate::model::quantity::{Span, Timestamp};
use crate::model::reason::Reason;
use crate::model::spec::{Deploy, OnFailure, Route, Spec};

use super::retry::{self, Rejection, reject};
use super::traffic::{self, has_traffic, may_have_requests, switch_has_begun};
use super::verdict::{Candidate, Verdict};
use super::{PlanConfig, ports, routes, services, target, visits};

/// The shortest drain: a request may read the marker before the switch and connect after it.
const SHORTEST_DRAIN: Span = Span::seconds(1);

/// Folds the observations of every observed project into its progress.
pub fn advance(
    desired: &Desired,
    services: &DesiredServices,
    observed: &Observed,
    all_progress: &mut Progress,
    config: &PlanConfig,
) {
    services::advance(services, observed, all_progress);
    for (project, seen) in &observed.projects {
        let Some(wanted) = desired.0.get(project) else { continue };
        match &wanted.intent {
            Intent::Nothing | Intent::Unreadable(_) => {}
            _ if wanted.suspension_at(observed.now).is_some() => {
                all_progress.projects.entry(project.clone()).or_default().suspended.get_or_insert(observed.now);
            }
            Intent::Delete { .. } => {
                let progress = all_progress.projects.entry(project.clone()).or_default();
                progress.suspended = None;
                clear_target(progress, wanted.generation);
            }
            Intent::Run(spec) => {
                let progress = all_progress.projects.entry(project.clone()).or_default();
                end_suspension(progress, observed.now);
                // A complete switch is a fact, even if a newer spec arrived before it was recorded.
                promote_if_switched(project, seen, progress, spec, observed.now);
                let switching = progress.rollout().is_some_and(Rollout::is_proven);
                if switching && (seen.units.known().is_none() || seen.bundles.known().is_none()) {
                    // It cannot be observed whether the candidate has the traffic. No other target is set before that is
                    // known.
                    continue;
                }
                // A release with part of the traffic gets the rest first: the previous release may have failed in between.
                let is_selected = !is_partly_switched(project, seen, progress)
                    && target::select(project, wanted, spec, observed, all_progress, config);
                let progress = all_progress.projects.entry(project.clone()).or_default();
                let stalled = progress.stalled.clone();
                advance_project(project, spec, wanted.artifact_from_webhook, seen, progress, observed.now);
                routes::retry_refused_hosts(progress, observed);
                if is_selected {
                    activate_routes(spec, progress);
                } else {
                    // Any failure is that of an earlier generation's release: this generation was not tried yet.
                    progress.stalled = stalled;
                }
            }
        }
    }
}

/// Ends a suspension: the time for which a rollout stood still does not count against it.
fn end_suspension(progress: &mut ProjectProgress, now: Timestamp) {
    let Some(since) = progress.suspended.take() else { return };
    if let Some(rollout) = progress.rollout_mut() {
        let stood_still = now.since(since.max(rollout.since));
        rollout.shift(|began| began.after(now.since(since.max(began))), |until| until.after(stood_still));
    }
}

/// A project that should be deleted needs no release and no route; its hosts are free once nothing of it is left.
fn clear_target(progress: &mut ProjectProgress, generation: u64) {
    progress.generation = generation;
    progress.target = Target::Serving;
    progress.waits_for_services = None;
    progress.stalled = None;
    progress.routes.clear();
}

fn advance_project(
    project: &ProjectId,
    spec: &Spec,
    from_webhook: bool,
    seen: &ObservedProject,
    progress: &mut ProjectProgress,
    now: Timestamp,
) {
    clamp_to_now(progress, &spec.deploy, now);
    if let Facet::Known(bundles) = &seen.bundles {
        record_digests(progress, bundles);
        note_artifact_on_disk(progress, bundles, now);
        drop_rollout_of_same_bytes(progress);
    }
    count_fetch_failure(seen, from_webhook, progress, &spec.deploy, now);
    note_release_command(project, seen, progress);
    begin_changeover(project, seen, progress, spec, now);
    apply_verdict(project, seen, progress, &spec.deploy, now);
    promote_if_switched(project, seen, progress, spec, now);
    end_drain(seen, progress, now);
    apply_retention(progress, spec.keep.count());
    ports::release_unused(progress);
}

/// After the clock jumped back, recorded moments lie too far ahead. No wait becomes longer than if it began now.
fn clamp_to_now(progress: &mut ProjectProgress, deploy: &Deploy, now: Timestamp) {
    if let Some(draining) = &mut progress.draining {
        draining.until = draining.until.min(now.after(deploy.drain.max(SHORTEST_DRAIN)));
    }
    if let Some(rollout) = progress.rollout_mut() {
        rollout.shift(|since| since.min(now), |until| until.min(now.after(retry::RATE_LIMIT_WAIT)));
        rollout.fetch.iter_mut().for_each(|fetch| fetch.backoff.clamp_to_now(now));
    }
    progress.backoff.iter_mut().for_each(|backoff| backoff.clamp_to_now(now));
    if let Some(quarantine) = &mut progress.quarantine {
        quarantine.since = quarantine.since.min(now);
    }
}

/// Activates the routes of the newest spec once its release serves. A spec that was refused because another project has
/// one of its hosts changes no route.
fn activate_routes(spec: &Spec, progress: &mut ProjectProgress) {
    if progress.target == Target::Serving {
        progress.routes = routes_of(spec);
        progress.hosts = target::hosts_of(spec);
    }
}

fn routes_of(spec: &Spec) -> BTreeMap<ProcessName, Vec<Route>> {
    let routes = spec.processes.iter().map(|(name, process)| (name.clone(), process.routes.clone()));
    routes.filter(|(_, routes)| !routes.is_empty()).collect()
}

/// Fills in the digest of a release that had none, as soon as its artifact is on disk.
fn record_digests(progress: &mut ProjectProgress, bundles: &BundlesSeen) {
    for (number, sha256) in &bundles.releases {
        if let Some(release) = progress.releases.get_mut(number) {
            release.sha256.get_or_insert_with(|| sha256.clone());
        }
    }
}

/// The rollout's own time begins when the artifact it waited for has arrived.
fn note_artifact_on_disk(progress: &mut ProjectProgress, bundles: &BundlesSeen, now: Timestamp) {
    let on_disk = progress.candidate().is_some_and(|candidate| bundles.releases.contains_key(&candidate));
    if let Some(rollout) = progress.rollout_mut().filter(|_| on_disk)
        && rollout.fetch.take().is_some_and(|fetch| fetch.awaited_until.is_some())
    {
        rollout.since = now;
    }
}

/// The same bytes from another URL or under another version are no new release.
fn drop_rollout_of_same_bytes(progress: &mut ProjectProgress) {
    let (Some(candidate), Some(serving)) = (progress.candidate(), progress.serving) else { return };
    let (Some(new), Some(old)) = (progress.release(candidate), progress.release(serving)) else { return };
    let same_bytes = new.sha256.is_some() && new.sha256 == old.sha256;
    if same_bytes && (Content { source: old.content.source.clone(), ..(*new.content).clone() }) == *old.content {
        let (source, version) = (new.content.source.clone(), new.version.clone());
        progress.releases.remove(&candidate);
        if let Some(release) = progress.releases.get_mut(&serving) {
            Arc::make_mut(&mut release.content).source = source;
            release.version = version.or(release.version.take());
        }
        progress.end_rollout();
    }
}

fn count_fetch_failure(
    seen: &ObservedProject,
    from_webhook: bool,
    progress: &mut ProjectProgress,
    deploy: &Deploy,
    now: Timestamp,
) {
    let Some(candidate) = progress.candidate() else { return };
    let Some(FetchSeen::Failed { at, error }) = seen.fetches.get(&candidate) else { return };
    let Some(rollout) = progress.rollout_mut() else { return };
    let counted = rollout.fetch.as_ref().map(|fetch| &fetch.backoff);
    let awaited_until = rollout.fetch.as_ref().and_then(|fetch| fetch.awaited_until);
    let is_counted = counted.is_some_and(|counted| counted.last >= *at);
    let mut message = error.message.clone();
    match error.retry {
        Retry::Later if is_counted => return,
        Retry::Later => {
            // An artifact that cannot be had yet takes no time from its release.
            let wait = match error.retry_after {
                Some(_) => Some(retry::RATE_LIMIT_WAIT),
                None => from_webhook.then_some(retry::ARTIFACT_WAIT),
            };
            let awaited_until = awaited_until.or(wait.map(|wait| at.after(wait)));
            rollout.fetch = Some(FailedFetch { backoff: retry::record_failure(counted, error, *at), awaited_until });
            return;
        }
        Retry::WhenPresent if from_webhook && is_counted => return,
        Retry::WhenPresent if from_webhook => {
            let until = awaited_until.unwrap_or(at.after(retry::ARTIFACT_WAIT));
            if *at < until {
                let backoff = retry::await_artifact(counted, error, *at, until);
                rollout.fetch = Some(FailedFetch { backoff, awaited_until: Some(until) });
                return;
            }
            let waited = retry::record_failure(counted, error, *at);
            message = format!("{message}, {} within {}", waited.times(), retry::ARTIFACT_WAIT);
        }
        Retry::Never | Retry::WhenPresent => {}
    }
    let kept_for_inspection = deploy.on_failure == OnFailure::Hold;
    reject(progress, candidate, Rejection { reason: error.reason, message, kept_for_inspection, fetched: false }, now);
}

/// A release command that ran to its end does not run again, whatever happens to the agent or the machine later.
fn note_release_command(project: &ProjectId, seen: &ObservedProject, progress: &mut ProjectProgress) {
    let command = progress.candidate().and_then(|candidate| progress.pending_command_unit(project, candidate));
    let done = command
        .zip(seen.units.known())
        .is_some_and(|(unit, units)| units.get(&unit).is_some_and(|seen| seen.is_done()));
    if let Some(rollout) = progress.rollout_mut().filter(|_| done) {
        rollout.command_done = true;
    }
}

/// A process that must not run twice changes over only once the rest of the new release is ready, so that a bad release
/// is known by then. It changes over only once: a release that becomes unready later does not make it change back and
/// forth.
fn begin_changeover(
    project: &ProjectId,
    seen: &ObservedProject,
    progress: &mut ProjectProgress,
    spec: &Spec,
    now: Timestamp,
) {
    let Some(rollout) = progress.rollout() else { return };
    let case = Candidate { project, rollout, progress, deploy: &spec.deploy, seen, now };
    let runs_once = |unit: &UnitId| traffic::runs_once(spec, progress, unit);
    let mut units = [Some(rollout.release), progress.serving]
        .into_iter()
        .flatten()
        .flat_map(|number| progress.units_of(project, number));
    let ready = !rollout.changeover_begun && units.any(|unit| runs_once(&unit)) && case.is_ready_but_for(runs_once);
    if let Some(rollout) = progress.rollout_mut().filter(|_| ready) {
        rollout.changeover_begun = true;
    }
}

fn apply_verdict(
    project: &ProjectId,
    seen: &ObservedProject,
    progress: &mut ProjectProgress,
    deploy: &Deploy,
    now: Timestamp,
) {
    let Some(rollout) = progress.rollout() else { return };
    let candidate = rollout.release;
    if rollout.is_proven() && switch_has_begun(candidate, seen, progress) {
        return;
    }
    match (Candidate { project, rollout, progress, deploy, seen, now }).verdict() {
        Verdict::Wait(_) => progress.set_proven(false),
        Verdict::Healthy => progress.set_proven(true),
        Verdict::Reject { reason, message } => {
            let kept_for_inspection = deploy.on_failure == OnFailure::Hold;
            let fetched = seen.bundles.known().is_none_or(|bundles| bundles.releases.contains_key(&candidate));
            reject(progress, candidate, Rejection { reason, message, kept_for_inspection, fetched }, now);
        }
    }
}

fn proven_candidate(progress: &ProjectProgress) -> Option<ReleaseNo> {
    progress.rollout().filter(|rollout| rollout.is_proven()).map(|rollout| rollout.release)
}

/// Returns whether a proven candidate that runs has part of the traffic. One that failed or whose files are gone does
/// not count: it would block the next generation forever.
fn is_partly_switched(project: &ProjectId, seen: &ObservedProject, progress: &ProjectProgress) -> bool {
    let Some(candidate) = proven_candidate(progress) else { return false };
    let (Some(units), Some(bundles)) = (seen.units.known(), seen.bundles.known()) else { return false };
    let is_daemon = |unit: &UnitId| progress.workload_of(unit).is_some_and(Workload::is_daemon);
    let mut daemons = progress.units_of(project, candidate).into_iter().filter(is_daemon);
    bundles.releases.contains_key(&candidate)
        && daemons.all(|unit| units.get(&unit).is_some_and(UnitSeen::is_up))
        && switch_has_begun(candidate, seen, progress)
}

/// Promotes the candidate once the machine shows the switch: markers, link and boot order. Only then is it the serving
/// release.
fn promote_if_switched(
    project: &ProjectId,
    seen: &ObservedProject,
    progress: &mut ProjectProgress,
    spec: &Spec,
    now: Timestamp,
) {
    let Some(candidate) = proven_candidate(progress) else { return };
    if !has_traffic(project, candidate, seen, progress) {
        return;
    }
    match verify(project, seen, progress, spec, now) {
        Verified::Well => {}
        Verified::NotYet => return,
        Verified::Not(message) => {
            let kept_for_inspection = spec.deploy.on_failure == OnFailure::Hold;
            return reject(
                progress,
                candidate,
                Rejection { reason: Reason::VerifyFailed, message, kept_for_inspection, fetched: true },
                now,
            );
        }
    }
    let old = progress.promote(candidate, now);
    progress.backoff = None;
    if spec.artifact.release().is_none() {
        // A different version has been promoted: releases that were rolled back may return.
        progress.releases.values_mut().for_each(|release| release.rolled_back = false);
    }
    if let Some(old) = old {
        let message = format!("release {candidate} took over");
        progress.end_release(old, End::Retired(Cause { reason: Reason::Replaced, message, since: now }));
        // What was stopped before the switch has no request left to finish.
        let has_requests = may_have_requests(old, seen, progress);
        let until = if has_requests { now.after(spec.deploy.drain.max(SHORTEST_DRAIN)) } else { now };
        progress.draining = Some(Draining { release: old, until });
    }
}

/// The result of verifying a release that has the traffic.
enum Verified {
    Well,
    NotYet,
    Not(String),
}

/// Verifies a candidate that has the traffic: sends requests through Caddy, by the routes of its own spec. They become
/// active now, and the earlier ones return if it fails. Only after that is it the serving release, and the previous one
/// drains.
fn verify(
    project: &ProjectId,
    seen: &ObservedProject,
    progress: &mut ProjectProgress,
    spec: &Spec,
    now: Timestamp,
) -> Verified {
    let Some(route) = spec.verified_route() else { return Verified::Well };
    // A newer spec that was refused does not change routes.
    if !progress.hosts.contains(&route.1.host) {
        return Verified::Well;
    }
    let owns_all = target::hosts_of(spec).is_subset(&progress.hosts);
    let before = progress.routes.clone();
    if let Some(rollout) = progress.rollout_mut().filter(|rollout| rollout.switched().is_none()) {
        rollout.phase = Phase::Switched(Switched { since: now, previous_routes: before });
        if owns_all {
            progress.routes = routes_of(spec);
        }
    }
    let Some(visit) = visits::verify(project, spec, seen, progress) else { return Verified::NotYet };
    match seen.visits.get(&visit) {
        Some(found) if found.well => Verified::Well,
        // Only a result from after the timeout can show that the time was not enough.
        Some(found) if matches!(visit.purpose, Purpose::Verify { until, .. } if found.at >= until) => {
            let within = spec.deploy.verify.as_ref().map(|verify| verify.within).unwrap_or_default();
            Verified::Not(format!("it had the traffic and was not verified within {within}; {}", found.last))
        }
        _ => Verified::NotYet,
    }
}

/// Ends a drain. A process that a calendar started is left to finish, and delays nothing.
fn end_drain(seen: &ObservedProject, progress: &mut ProjectProgress, now: Timestamp) {
    let Some((draining, units)) = progress.draining.as_ref().zip(seen.units.known()) else { return };
    let mut left = units.iter().filter(|(unit, _)| unit.release == draining.release);
    if now >= draining.until && !left.any(|(unit, _)| progress.workload_of(unit).is_none_or(Workload::is_daemon)) {
        progress.draining = None;
    }
}

/// Drops the oldest releases that are not needed. The last good one is needed: it is the rollback target.
fn apply_retention(progress: &mut ProjectProgress, keep: usize) {
    let mut needed = progress.active_releases();
    needed.extend(progress.target_release());
    needed.extend(progress.previous_good());
    // A release that was never on disk is dropped first, so that repeated fetches never evict a rollback target.
    let mut rest: Vec<(bool, Timestamp, ReleaseNo)> = progress
        .releases
        .iter()
        .filter(|(number, _)| !needed.contains(number))
        .map(|(number, release)| (!release.is_unfetched(), release.since, *number))
        .collect();
    rest.sort_unstable();
    let surplus = rest.len().saturating_sub(keep);
    for (_, _, number) in rest.into_iter().take(surplus) {
        progress.releases.remove(&number);
    }
}
