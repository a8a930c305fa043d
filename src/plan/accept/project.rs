//! The rules for projects: specs, artifact overlays, removals, suspensions, owners, refusals.

use super::admit::Admitted;
use super::values::{self, Values};
use super::{Change, Request, Write, WriteError, WriteResult};
use crate::model::desired::{OperatorSuspension, Owner, Refusal};
use crate::model::event::{By, Event};
use crate::model::failure::PortError;
use crate::model::names::ProjectId;
use crate::model::progress::ProjectProgress;
use crate::model::quantity::Timestamp;
use crate::model::reason::Reason;
use crate::model::record::{Damage, Goal, Overlay, Part, Record};
use crate::model::spec::{Artifact, ArtifactFrom, Source, Spec};

type Result<T> = std::result::Result<Change<Record, T>, WriteError>;

/// A project's progress, or why it could not be read. Only some rules need it.
pub type StoredProgress = std::result::Result<ProjectProgress, PortError>;

/// A webhook's delivery, as its provider identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub provider: &'static str,
    pub id: String,
    /// When its event happened.
    pub made: Timestamp,
    /// Whether the event may be an old one that was edited: then it counts only if it is newer than every accepted one.
    pub edited: bool,
}

/// The stored deliveries of one provider to a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deliveries {
    /// When the newest accepted event happened; zero if none was accepted.
    pub newest: Timestamp,
    /// Whether this delivery was accepted before.
    pub seen: bool,
}

/// Decides on a whole spec. Its values are stored once the request is known to be allowed. It replaces stored parts
/// that could not be read, with one exception: a file, which is written again at each start, does not replace an
/// unreadable overlay.
///
/// # Errors
/// The project has another owner or generation, or is being deleted; or its values could not be stored.
pub fn put(
    old: Option<Record>,
    document: Admitted,
    owner: &Owner,
    expect: Option<u64>,
    request: Request<'_>,
    values: &mut impl Values,
    progress: &StoredProgress,
) -> Result<WriteResult> {
    let project = &document.project().clone();
    let generation = old.as_ref().map_or(0, |old| old.generation);
    match &old {
        Some(old) if old.is_being_deleted() && !old.is_suspended(request.now) => {
            return Err(WriteError::Deleting(project.clone()));
        }
        Some(old) if old.owner != *owner && old.goal != Goal::Nothing => return Err(owned_by_other(project, old)),
        _ if expect.is_some_and(|expected| expected != generation) => return Err(WriteError::Moved(generation)),
        _ => {}
    }
    let damage = old.as_ref().and_then(|old| old.damage.clone());
    if let Some(damage) = damage.as_ref().filter(|damage| damage.part == Part::Overlay)
        && matches!(owner, Owner::File(_))
    {
        return Err(unreadable(project, damage));
    }
    let spec: Spec =
        document.into_document().try_map_env(|name, given| values::store_given(values, project, name, &given))?;
    let created = old.as_ref().is_none_or(|old| old.spec.is_none() && old.damage.is_none());
    let overlay = old.as_ref().map(|old| overlay_after(old, &spec, progress)).transpose()?.flatten();
    let changed = old
        .as_ref()
        .is_none_or(|old| old.spec.as_ref() != Some(&spec) || old.overlay != overlay || old.goal != Goal::Run)
        || damage.is_some();
    let generation = generation + u64::from(changed);
    let (refusal, suspension) = old.map(|old| (old.refusal, old.suspension)).unwrap_or_default();
    // A new spec clears the refusals of the one before, but not that of another file that claims the
    // project.
    let refusal = refusal.filter(Refusal::is_of_another_file);
    let record = Record {
        generation,
        goal: Goal::Run,
        owner: owner.clone(),
        spec: Some(spec),
        overlay,
        refusal,
        suspension,
        damage: None,
    };
    let message = format!("{} wrote generation {generation}", request.by);
    let event = match damage {
        Some(Damage { why, .. }) => Some(Event::warning(
            request.now,
            Reason::SpecWritten,
            format!("{message}, which replaces a damaged record: {why}"),
        )),
        None => changed.then(|| Event::info(request.now, Reason::SpecWritten, message)),
    };
    let event = event.map(|event| event.of(project, generation));
    Ok(Change::save(record, WriteResult { generation, created, changed }, event))
}

/// Returns the artifact overlay after the spec is written again. A changed artifact in the spec wins, an unchanged one
/// does not. After a rollback to a whole release, a spec that changes something else than the artifact is meant to
/// change that: it gets the older release's bytes with the new rest.
fn overlay_after(
    old: &Record,
    spec: &Spec,
    progress: &StoredProgress,
) -> std::result::Result<Option<Overlay>, PortError> {
    let Some(overlay) = &old.overlay else { return Ok(None) };
    // There is nothing to compare with if the spec could not be read; what runs stays.
    let Some(before) = &old.spec else { return Ok(Some(overlay.clone())) };
    if spec.artifact != before.artifact {
        return Ok(None);
    }
    let Some(number) = overlay.artifact.release().filter(|_| makes_other_release(before, spec)) else {
        return Ok(Some(overlay.clone()));
    };
    let release = progress.as_ref().map_err(Clone::clone)?.release(number);
    let bytes = release.and_then(|release| {
        let sha256 = release.sha256.clone()?;
        let source = Source::File { name: sha256.clone().into(), sha256: Some(sha256) };
        let (version, updates) = (release.version.clone(), spec.artifact.updates);
        Some(Artifact { from: ArtifactFrom::Source(source), version, updates })
    });
    Ok(bytes.map(|artifact| Overlay { artifact, by: overlay.by.clone() }))
}

fn makes_other_release(before: &Spec, spec: &Spec) -> bool {
    let bare = |spec: &Spec| -> Spec {
        let mut bare = Spec {
            artifact: before.artifact.clone(),
            deploy: before.deploy.clone(),
            hooks: before.hooks.clone(),
            keep: before.keep,
            suspend: before.suspend.clone(),
            ..spec.clone()
        };
        bare.processes.values_mut().for_each(|process| process.routes.clear());
        bare
    };
    bare(before) != bare(spec)
}

/// Decides on a removal; the answer is the generation. It needs nothing that could not be read.
///
/// # Errors
/// There is no such project, or it has another owner.
pub fn delete(
    old: Option<Record>,
    project: &ProjectId,
    owner: &Owner,
    keep_data: bool,
    request: Request<'_>,
    progress: &StoredProgress,
) -> Result<u64> {
    let old = owned_by(old, project, owner)?;
    if old.is_being_deleted() && progress.is_ok() {
        return Ok(Change::nothing(old.generation));
    }
    let generation = old.generation + 1;
    let message = match (request.by, keep_data) {
        (By::File(name), _) => format!("file {name} is gone"),
        (by, false) => format!("{by} asked for its removal"),
        (by, true) => format!("{by} asked for its removal, and to keep its data"),
    };
    let goal = Goal::Delete { keep_data };
    let record = Record { generation, goal, overlay: None, refusal: None, damage: None, ..old };
    let event = |message| Some(Event::info(request.now, Reason::DeleteRequested, message).of(project, generation));
    Ok(match progress {
        Ok(_) => Change::save(record, generation, event(message)),
        Err(error) => {
            let event = event(format!("{message}; {error}, and it is dropped"));
            Change { write: Write::Reset(record), answer: generation, event }
        }
    })
}

/// Decides on a new owner for a project of which nothing else changes: its file was renamed.
///
/// # Errors
/// There is no such project, or its owner is not `from`.
pub fn change_owner(old: Option<Record>, project: &ProjectId, from: &Owner, to: &Owner, now: Timestamp) -> Result<()> {
    let old = readable(owned_by(old, project, from)?, project)?;
    let event = Event::info(now, Reason::OwnerChanged, format!("it belongs to {to} and no more to {from}"));
    let event = event.of(project, old.generation);
    Ok(Change::save(Record { owner: to.clone(), ..old }, (), Some(event)))
}

/// Decides on another artifact under the same spec: from a webhook, or of an earlier release.
///
/// # Errors
/// There is no such project, it is being deleted, or its progress is needed and could not be read.
pub fn overlay(
    old: Option<Record>,
    project: &ProjectId,
    artifact: &Artifact,
    request: Request<'_>,
    progress: &StoredProgress,
) -> Result<WriteResult> {
    let old = old.ok_or_else(|| WriteError::Unknown(project.clone()))?;
    let spec = match (&old.spec, old.goal, &old.damage) {
        (_, Goal::Delete { .. }, _) => return Err(WriteError::Deleting(project.clone())),
        (.., Some(damage)) => return Err(unreadable(project, damage)),
        (Some(spec), Goal::Run, None) => spec,
        _ => return Err(WriteError::Unknown(project.clone())),
    };
    let standing = old.overlay.as_ref().map_or(&spec.artifact, |overlay| &overlay.artifact);
    let moved = if artifact.adds_nothing_to(standing) { standing } else { artifact };
    let moved = Artifact { updates: spec.artifact.updates, ..moved.clone() };
    let is_wanted = *standing == moved;
    // A repeated request for what could not be fetched means a retry, and from now on it is this caller's artifact.
    let again = is_wanted && progress.as_ref().map_err(Clone::clone)?.failed_to_fetch_target();
    if is_wanted && !again {
        return Ok(Change::nothing(WriteResult { generation: old.generation, created: false, changed: false }));
    }
    let by = request.by.to_string();
    let overlay = (again || moved != spec.artifact).then_some(Overlay { artifact: moved, by });
    let generation = old.generation + 1;
    let event = artifact_moved(artifact, request).of(project, generation);
    let put = WriteResult { generation, created: false, changed: true };
    Ok(Change::save(Record { generation, overlay, ..old }, put, Some(event)))
}

/// Names an artifact overlay by its version or digest, since a URL may contain a key.
fn artifact_moved(artifact: &Artifact, Request { by, now }: Request<'_>) -> Event {
    if let Some(release) = artifact.release() {
        let message = format!("{by} asked to go back to release {release}");
        return Event::info(now, Reason::RollbackRequested, message).to(Some(release));
    }
    let version = artifact.version.as_ref().map(|version| format!("version {}", version.as_str()));
    let what = version.or_else(|| artifact.sha256().map(ToString::to_string));
    let what = what.unwrap_or_else(|| "a version without a name".to_owned());
    Event::info(now, Reason::ArtifactMoved, format!("{by} asked for {what}"))
}

/// Decides on a webhook's delivery; `None` if it does not count, since it or a newer one was accepted before. A
/// repeated delivery of what could not be fetched counts. One that counts must be stored with the record.
///
/// # Errors
/// There is no such project, it is being deleted, or its progress is needed and could not be read.
pub fn deliver(
    old: Option<Record>,
    project: &ProjectId,
    artifact: &Artifact,
    delivery: &Delivery,
    stored: Deliveries,
    now: Timestamp,
    progress: &StoredProgress,
) -> Result<Option<WriteResult>> {
    let again = progress.as_ref().map_err(Clone::clone)?.failed_to_fetch(artifact);
    let Delivery { provider, made, edited, .. } = delivery;
    let is_known = stored.seen || *edited && (stored.newest == Timestamp(0) || *made == stored.newest);
    if *made < stored.newest || is_known && !again {
        return Ok(Change::nothing(None));
    }
    let by = By::Webhook((*provider).to_owned());
    let Change { write, answer, event } = overlay(old, project, artifact, Request { by: &by, now }, progress)?;
    Ok(Change { write, answer: Some(answer), event })
}

/// Decides on a retry of the desired artifact's fetch; the answer is the generation. If no fetch failed, nothing
/// changes.
///
/// # Errors
/// There is no such project, or its progress is needed and could not be read.
pub fn fetch_again(
    old: Option<Record>,
    project: &ProjectId,
    request: Request<'_>,
    progress: &StoredProgress,
) -> Result<u64> {
    let old = readable(old.ok_or_else(|| WriteError::Unknown(project.clone()))?, project)?;
    if old.goal != Goal::Run || !progress.as_ref().map_err(Clone::clone)?.failed_to_fetch_target() {
        return Ok(Change::nothing(old.generation));
    }
    let generation = old.generation + 1;
    let message = format!("{} asked to fetch the artifact again", request.by);
    let event = Event::info(request.now, Reason::SyncRequested, message).of(project, generation);
    Ok(Change::save(Record { generation, ..old }, generation, Some(event)))
}

/// Decides on a suspension, or on its end if there is none. The generation stays: this does not retry what was
/// rejected.
///
/// # Errors
/// There is no such project.
pub fn set_suspension(
    old: Option<Record>,
    project: &ProjectId,
    suspension: Option<&OperatorSuspension>,
    request: Request<'_>,
) -> Result<()> {
    let old = readable(old.ok_or_else(|| WriteError::Unknown(project.clone()))?, project)?;
    if old.suspension.as_ref() == suspension {
        return Ok(Change::nothing(()));
    }
    let event = match suspension {
        Some(suspension) => Event::info(request.now, Reason::SuspendRequested, suspension.message()),
        None => Event::info(request.now, Reason::ResumeRequested, format!("{} resumed it", request.by)),
    };
    let event = event.of(project, old.generation);
    Ok(Change::save(Record { suspension: suspension.cloned(), ..old }, (), Some(event)))
}

/// Decides on the refusal of the newest request, or on its end if there is none. The refusal of an unknown
/// project makes a record without a desired state, which is deleted with its refusal. A record that could not be read
/// gets none.
pub fn set_refusal(
    old: Option<Record>,
    project: &ProjectId,
    owner: &Owner,
    refusal: Option<&Refusal>,
    now: Timestamp,
) -> Change<Record, ()> {
    let write = match (old, refusal) {
        (Some(old), _) if old.owner != *owner || old.damage.is_some() => return Change::nothing(()),
        (None, None) => return Change::nothing(()),
        (Some(old), None) if old.goal == Goal::Nothing => {
            return Change { write: Write::Delete, answer: (), event: None };
        }
        (Some(old), refusal) => Record { refusal: refusal.cloned(), ..old },
        (None, Some(refusal)) => Record {
            generation: 0,
            goal: Goal::Nothing,
            owner: owner.clone(),
            spec: None,
            overlay: None,
            refusal: Some(refusal.clone()),
            suspension: None,
            damage: None,
        },
    };
    let event = refusal
        .map(|refusal| Event::warning(now, refusal.kind.reason(), &refusal.message).of(project, write.generation));
    Change::save(write, (), event)
}

/// Returns whether a removed project may be deleted from the store: no request since this generation.
pub fn may_forget(record: &Record, generation: u64) -> bool {
    record.is_being_deleted() && record.generation == generation
}

/// Refuses a record that would be saved without the part that could not be read.
fn readable(old: Record, project: &ProjectId) -> std::result::Result<Record, WriteError> {
    match &old.damage {
        Some(damage) => Err(unreadable(project, damage)),
        None => Ok(old),
    }
}

fn unreadable(project: &ProjectId, damage: &Damage) -> WriteError {
    WriteError::Unreadable { project: project.clone(), why: damage.message() }
}

fn owned_by(old: Option<Record>, project: &ProjectId, owner: &Owner) -> std::result::Result<Record, WriteError> {
    let old = old.ok_or_else(|| WriteError::Unknown(project.clone()))?;
    if old.owner == *owner { Ok(old) } else { Err(owned_by_other(project, &old)) }
}

fn owned_by_other(project: &ProjectId, old: &Record) -> WriteError {
    WriteError::Owned { project: project.clone(), owner: old.owner.clone() }
}
