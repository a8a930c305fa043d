//! The rules for host services.

use super::{Change, Request, Write, WriteError, WriteResult};
use crate::model::desired::{DesiredService, Owner, Refusal, ServiceIntent};
use crate::model::event::{By, Event};
use crate::model::reason::Reason;
use crate::model::services::{Service, Version};

/// The reason of a requested change.
const REQUESTED: Reason = Reason::ServiceRequested;

/// Decides on a request for a service. `heir_of`: the removed owner whose service this request may take over.
///
/// # Errors
/// It has another owner.
pub fn put(
    old: Option<DesiredService>,
    service: Service,
    version: Version,
    owner: &Owner,
    heir_of: Option<&Owner>,
    request: Request<'_>,
) -> Result<Change<DesiredService, WriteResult>, WriteError> {
    let may = |old: &DesiredService| old.owner == *owner || Some(&old.owner) == heir_of || is_being_deleted(old);
    if let Some(other) = old.as_ref().filter(|old| !may(old)) {
        return Err(WriteError::ServiceOwned { service, owner: other.owner.clone() });
    }
    let intent = ServiceIntent::Install(version);
    let changed = old.as_ref().is_none_or(|old| old.intent != intent);
    let generation = old.as_ref().map_or(0, |old| old.generation) + u64::from(changed);
    let created = old.as_ref().is_none_or(is_being_deleted);
    let message = format!("{} asked for {service} {}", request.by, version.shown(service));
    let event = changed.then(|| Event::info(request.now, REQUESTED, message));
    let record = DesiredService { generation, intent, owner: owner.clone(), refusal: None };
    Ok(save(old.as_ref(), record, WriteResult { generation, created, changed }, event))
}

/// Decides on the removal of a service; the answer is the generation.
///
/// # Errors
/// There is no request for it, or it has another owner.
pub fn delete(
    old: Option<DesiredService>,
    service: Service,
    owner: &Owner,
    purge: bool,
    request: Request<'_>,
) -> Result<Change<DesiredService, u64>, WriteError> {
    let old = old.ok_or(WriteError::ServiceUnknown(service))?;
    if old.owner != *owner && !is_being_deleted(&old) {
        return Err(WriteError::ServiceOwned { service, owner: old.owner });
    }
    let intent = ServiceIntent::Remove { purge };
    if old.intent == intent {
        return Ok(Change::nothing(old.generation));
    }
    let data = if purge { "and of its data" } else { "and to keep its data" };
    let message = match request.by {
        By::File(name) => format!("file {name} does not ask for {service} any more"),
        by => format!("{by} asked for the removal of {service} {data}"),
    };
    let generation = old.generation + 1;
    let record = DesiredService { generation, intent, refusal: None, owner: old.owner.clone() };
    Ok(save(Some(&old), record, generation, Some(Event::info(request.now, REQUESTED, message))))
}

/// Decides on the refusal of a service's newest request, or on its end if there is none.
pub fn set_refusal(
    old: Option<DesiredService>,
    owner: &Owner,
    refusal: Option<&Refusal>,
) -> Change<DesiredService, ()> {
    match old.filter(|old| old.owner == *owner && old.intent != ServiceIntent::Unreadable) {
        Some(old) => Change::save(DesiredService { refusal: refusal.cloned(), ..old }, (), None),
        None => Change::nothing(()),
    }
}

/// Saves a request. One that replaces a record that could not be read drops the progress: it is unknown which packages
/// were installed for it, so those that are installed now stay.
fn save<T>(
    old: Option<&DesiredService>,
    record: DesiredService,
    answer: T,
    event: Option<Event>,
) -> Change<DesiredService, T> {
    let write = match old.is_some_and(|old| old.intent == ServiceIntent::Unreadable) {
        true => Write::Reset(record),
        false => Write::Save(record),
    };
    Change { write, answer, event }
}

/// Returns whether a removed service may be deleted from the store: no request since this generation.
pub fn may_forget(record: &DesiredService, generation: u64) -> bool {
    is_being_deleted(record) && record.generation == generation
}

fn is_being_deleted(record: &DesiredService) -> bool {
    matches!(record.intent, ServiceIntent::Remove { .. })
}
