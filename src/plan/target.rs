//! Selects the release that a spec asks for: a known one, or a new one.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::desired::{Content, DesiredProject};
use crate::model::names::{Hostname, ProjectId, ReleaseNo, Sha256, Slot};
use crate::model::observed::Observed;
use crate::model::progress::{Cause, End, Progress, ProjectProgress, Release, Rollout};
use crate::model::quantity::Timestamp;
use crate::model::spec::{Artifact, ArtifactFrom, Source, Spec};

use super::{PlanConfig, ports, services};
use crate::model::reason::Reason;

/// Makes the desired release the target, or records what blocks it in the project's progress. Returns true if nothing
/// blocks it.
pub fn select(
    project: &ProjectId,
    wanted: &DesiredProject,
    spec: &Spec,
    observed: &Observed,
    all_progress: &mut Progress,
    config: &PlanConfig,
) -> bool {
    let now = observed.now;
    let hosts = hosts_of(spec);
    let conflict = conflict(project, &hosts, all_progress, config);
    let mut taken = &ports::taken(all_progress) | &observed.ports_in_use;
    let progress = all_progress.projects.entry(project.clone()).or_default();
    let is_new_generation = progress.generation != wanted.generation;
    if is_new_generation {
        progress.generation = wanted.generation;
        progress.stalled = None;
        progress.backoff = None;
        progress.quarantine = None;
        if let Some(fetch) = progress.rollout_mut().and_then(|rollout| rollout.fetch.as_mut()) {
            fetch.awaited_until = None;
            fetch.backoff.reset(now);
        }
    }
    if let Some(message) = conflict {
        stall(progress, Reason::Conflict, message, now);
        return false;
    }
    progress.hosts.extend(hosts);
    let needs = if has_begun(wanted, spec, progress) { &BTreeSet::new() } else { &spec.needs };
    if services::gate_on_services(needs, project, &observed.services, all_progress, now) {
        return false;
    }
    let progress = all_progress.projects.entry(project.clone()).or_default();
    if !is_new_generation && progress.selected_generation == 0 {
        adopt_version(progress, spec);
    }
    let number = match wanted_release(wanted, spec, progress, now) {
        Ok(number) => number,
        Err((reason, message)) => {
            stall(progress, reason, message, now);
            return false;
        }
    };
    clear_own_stall(progress);
    if let Err(message) = ports::allocate(progress, number, &mut taken, config.ports) {
        stall(progress, Reason::PortsExhausted, message, now);
        return false;
    }
    mark_rolled_back(progress, spec, number);
    set_target(project, progress, number, observed);
    progress.selected_generation = wanted.generation;
    true
}

/// Earlier agents ignored the version, so the target may have another one than the spec. That alone does not fetch it
/// again.
fn adopt_version(progress: &mut ProjectProgress, spec: &Spec) {
    let target = progress.target_release().and_then(|number| progress.releases.get_mut(&number));
    let source = spec.artifact.source();
    if let Some(target) = target.filter(|target| source.is_some_and(|source| target.content.source.same_as(source))) {
        target.version = spec.artifact.version.clone().or(target.version.take());
    }
}

/// Returns a message if another project or the agent already has one of the hosts.
fn conflict(
    project: &ProjectId,
    hosts: &BTreeSet<Hostname>,
    all_progress: &Progress,
    config: &PlanConfig,
) -> Option<String> {
    if let Some(own) = config.proxy.hostname.as_ref().filter(|own| hosts.contains(own)) {
        return Some(format!("{own} is the agent's own, as agent.yaml says in `hostname`; name another host here"));
    }
    hosts.iter().find_map(|host| {
        let owner = all_progress.owner_of(host).filter(|owner| *owner != project)?;
        Some(format!(
            "{host} belongs to project {owner}, which asked for it first; free it there or name another host here"
        ))
    })
}

/// Returns whether the desired release is being rolled out, serves, or has failed already: the services that it needs ran
/// when its rollout began, and one that stops later blocks no rollout.
fn has_begun(wanted: &DesiredProject, spec: &Spec, progress: &ProjectProgress) -> bool {
    let target = progress.target_release().and_then(|number| Some((number, progress.release(number)?)));
    let Some((number, target)) = target else { return false };
    let same = match &spec.artifact.from {
        ArtifactFrom::Release(asked) => *asked == number,
        ArtifactFrom::Source(source) => {
            let content = Content::of(spec, source.clone(), &wanted.secrets);
            target.has_version(&spec.artifact) && content.is_ok_and(|content| target.content.same_as(&content))
        }
    };
    same && target.rejected().is_none_or(|rejected| rejected.generation == wanted.generation)
}

/// Stalls from this module last only as long as their cause.
const OWN_REASONS: [Reason; 4] =
    [Reason::Conflict, Reason::SecretMissing, Reason::ReleaseUnknown, Reason::PortsExhausted];

fn clear_own_stall(progress: &mut ProjectProgress) {
    if progress.stalled.as_ref().is_some_and(|stall| OWN_REASONS.contains(&stall.reason)) {
        progress.stalled = None;
    }
}

fn stall(progress: &mut ProjectProgress, reason: Reason, message: String, now: Timestamp) {
    let since = progress
        .stalled
        .as_ref()
        .filter(|old| old.reason == reason && old.message == message)
        .map_or(now, |old| old.since);
    progress.stalled = Some(Cause { reason, message, since });
}

/// Returns every host that a spec routes.
pub fn hosts_of(spec: &Spec) -> BTreeSet<Hostname> {
    spec.processes.values().flat_map(|process| &process.routes).map(|route| route.host.clone()).collect()
}

fn wanted_release(
    wanted: &DesiredProject,
    spec: &Spec,
    progress: &mut ProjectProgress,
    now: Timestamp,
) -> Result<ReleaseNo, (Reason, String)> {
    let source = match &spec.artifact.from {
        ArtifactFrom::Release(number) => return earlier_release(*number, spec, progress),
        ArtifactFrom::Source(source) => source.clone(),
    };
    let content = Content::of(spec, source, &wanted.secrets).map_err(|missing| {
        // Two variables may need the same one.
        let names: BTreeSet<&str> = missing.iter().map(|name| name.as_str()).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let how = format!("zexio secret set {} {}", spec.project, names[0]);
        (Reason::SecretMissing, format!("no value is stored for {}; store it with `{how}`", names.join(", ")))
    })?;
    Ok(known_release(progress, &spec.artifact, &content, wanted.generation)
        .unwrap_or_else(|| new_release(progress, spec, content, now)))
}

fn earlier_release(number: ReleaseNo, spec: &Spec, progress: &ProjectProgress) -> Result<ReleaseNo, (Reason, String)> {
    match progress.release(number) {
        Some(release) if release.was_healthy => Ok(number),
        Some(_) => {
            Err((Reason::ReleaseUnknown, format!("release {number} was never healthy, so it cannot be rolled back to")))
        }
        None => Err((
            Reason::ReleaseUnknown,
            format!("release {number} is not kept; `zexio history {}` lists those that are", spec.project),
        )),
    }
}

/// A release with the same content is the same release, unless its artifact has no digest and another version now. One
/// that failed is retried only for a new generation, and then as a new release, so that the record of the failed try
/// stays.
fn known_release(
    progress: &ProjectProgress,
    artifact: &Artifact,
    content: &Content,
    generation: u64,
) -> Option<ReleaseNo> {
    let is_same = |release: &Release| {
        release.content.same_as(content)
            && release.has_version(artifact)
            && release.rejected().is_none_or(|rejected| rejected.generation == generation)
    };
    // Without a version each release from the URL is meant: the one that was asked for last stays.
    let target = progress.target_release().filter(|_| artifact.version.is_none());
    let target = target.filter(|number| progress.release(*number).is_some_and(is_same));
    target.or_else(|| progress.releases.iter().rev().find(|(_, release)| is_same(release)).map(|(number, _)| *number))
}

/// What is kept of an artifact that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// A release of the same content with its bytes: it is the one that will serve.
    Release(ReleaseNo),
    /// The artifact's bytes, in a release whose other content is not the same any more.
    Bytes(ReleaseNo),
    Nothing,
}

/// Returns what is kept of the artifact of a project's spec, which was not selected yet.
pub fn kept(progress: &ProjectProgress, wanted: &DesiredProject, spec: &Spec) -> Kept {
    let Some(source) = spec.artifact.source() else { return Kept::Nothing };
    let content = Content::of(spec, source.clone(), &wanted.secrets).ok();
    let release = content.and_then(|content| known_release(progress, &spec.artifact, &content, wanted.generation + 1));
    let release = release.filter(|number| progress.release(*number).is_some_and(|release| release.sha256.is_some()));
    let bytes = || known_bytes(progress, &spec.artifact, source).map(|(number, _)| Kept::Bytes(number));
    release.map(Kept::Release).or_else(bytes).unwrap_or(Kept::Nothing)
}

fn new_release(progress: &mut ProjectProgress, spec: &Spec, content: Content, now: Timestamp) -> ReleaseNo {
    progress.newest_number += 1;
    let release = Release {
        sha256: content
            .source
            .sha256()
            .cloned()
            .or_else(|| known_bytes(progress, &spec.artifact, &content.source).map(|(_, sha256)| sha256)),
        content: Arc::new(content),
        version: spec.artifact.version.clone(),
        slot: Slot::A,
        created_at: now,
        since: now,
        was_healthy: false,
        promotion_seq: 0,
        end: None,
        rolled_back: false,
    };
    progress.releases.insert(ReleaseNo(progress.newest_number), release);
    ReleaseNo(progress.newest_number)
}

/// A URL without a digest means the bytes of the last good release that came from it under the same version: a
/// presigned URL has expired by the time a variable changes, and such a change brings no other artifact.
fn known_bytes(progress: &ProjectProgress, artifact: &Artifact, source: &Source) -> Option<(ReleaseNo, Sha256)> {
    let from_there =
        |release: &Release| release.was_healthy && release.content.source == *source && release.has_version(artifact);
    let last = progress.releases.iter().rev().find(|(_, release)| from_there(release));
    let (number, release) = last.filter(|_| matches!(source, Source::Url { .. }))?;
    Some((*number, release.sha256.clone()?))
}

/// After a rollback to an earlier release, the release that it replaces must not return by itself.
fn mark_rolled_back(progress: &mut ProjectProgress, spec: &Spec, number: ReleaseNo) {
    let left = progress.target_release().filter(|target| spec.artifact.release().is_some() && *target != number);
    if let Some(release) = left.and_then(|left| progress.releases.get_mut(&left)) {
        release.rolled_back = true;
    }
}

/// Sets the project's target release. A rollout to another one ends here.
fn set_target(project: &ProjectId, progress: &mut ProjectProgress, number: ReleaseNo, observed: &Observed) {
    let now = observed.now;
    // A release that failed for an earlier generation, and is requested by its number, is tried again.
    let failed_before = progress
        .release(number)
        .and_then(Release::rejected)
        .is_some_and(|rejected| rejected.generation != progress.generation);
    if progress.target_release() == Some(number) && !failed_before {
        return;
    }
    if let Some(old) = progress.candidate() {
        let message = format!("release {number} was asked for before it was done");
        progress.end_release(old, End::Superseded(Cause { reason: Reason::Superseded, message, since: now }));
    }
    progress.end_rollout();
    if progress.serving == Some(number) {
        return;
    }
    // A release that still drains keeps its units and its slot, and is rolled out as it is.
    progress.draining = progress.draining.take().filter(|draining| draining.release != number);
    let slot =
        progress.serving.and_then(|serving| progress.release(serving)).map_or(Slot::A, |release| release.slot.other());
    if let Some(release) = progress.releases.get_mut(&number) {
        release.slot = slot;
    }
    let units = observed.projects.get(project).and_then(|seen| seen.units.known()).into_iter().flatten();
    progress.begin_rollout(Rollout::begin(number, now, units.filter(|(unit, _)| unit.release == number)));
}
