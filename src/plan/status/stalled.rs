//! What stops a project until something changes: an unreadable row, a refused spec, a failure, a suspension.

use crate::model::desired::{DesiredProject, Intent, Refusal};
use crate::model::progress::Quarantine;
use crate::model::quantity::Timestamp;
use crate::model::reason::Reason;

use super::input::{Finding, StatusInput};
use super::outage::as_it_is_now;

pub(super) fn stalled(input: &StatusInput<'_>) -> Option<Finding> {
    if let Some(finding) = unreadable(input.wanted) {
        return Some(finding);
    }
    if matches!(input.wanted.intent, Intent::Delete { .. }) {
        return None;
    }
    let refusal = input.wanted.refusal.as_ref().filter(|refusal| !refusal.is_of_another_file()).map(finding);
    if refusal.is_some() || is_deferred(input) {
        // What stopped an older generation does not apply to this one, which has not been tried yet.
        return refusal;
    }
    let standing = input.progress.stalled.clone().or_else(|| input.progress.quarantine.as_ref().map(Quarantine::cause));
    standing.map(|stall| (stall.reason, as_it_is_now(input, stall.message)))
}

/// The reason if a project's stored state could not be read.
pub const UNREADABLE: Reason = Reason::Database;

/// Returns why nothing can be done for a project of which a part could not be read.
pub(super) fn unreadable(wanted: &DesiredProject) -> Option<Finding> {
    match &wanted.intent {
        Intent::Unreadable(why) => Some((UNREADABLE, why.clone())),
        _ => None,
    }
}

/// Returns the finding about another file that claims the project too. The project keeps running without it.
pub(super) fn contested(wanted: &DesiredProject) -> Option<Finding> {
    wanted.refusal.as_ref().filter(|refusal| refusal.is_of_another_file()).map(finding)
}

pub(super) fn finding(refusal: &Refusal) -> Finding {
    (refusal.kind.reason().to_owned(), refusal.message.clone())
}

/// Returns whether the present desired state arrived while the project was suspended: no pass has acted on it.
pub(super) fn is_deferred(input: &StatusInput<'_>) -> bool {
    let is_run = matches!(input.wanted.intent, Intent::Run(_));
    is_run && suspended(input).is_some() && input.progress.generation != input.wanted.generation
}

pub(super) fn suspended(input: &StatusInput<'_>) -> Option<Finding> {
    suspension(input.wanted, input.observed.now)
}

pub(super) fn suspension(wanted: &DesiredProject, now: Timestamp) -> Option<Finding> {
    let pause = wanted.suspension_at(now).filter(|_| wanted.intent != Intent::Nothing)?;
    Some((Reason::Suspended, pause.message))
}
