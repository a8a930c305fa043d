//! Which conditions hold, each with its reason: Ready, Reconciling, Stalled, Suspended.

use crate::model::desired::Intent;
use crate::model::progress::Target;
use crate::model::reason::Reason;
use crate::model::status::ConditionKind;

use super::input::{Finding, StatusInput};
use super::outage::outage;
use super::processes::{down_process, failed_runs, open_ports, unenforced_limits};
use super::reconciling::{draining, reconciling, waiting};
use super::routes::{failing_routes, missing_certificates, pending_routes, template_error};
use super::stalled::{contested, is_deferred, stalled, suspended};

pub(super) fn findings(input: &StatusInput<'_>) -> Vec<(ConditionKind, bool, Finding)> {
    let mut found = Vec::new();
    let stalled = stalled(input);
    let unready = unready(input, stalled.as_ref());
    found.push(match &unready {
        None => (ConditionKind::Ready, true, (Reason::Serving, serving_message(input))),
        Some(finding) => (ConditionKind::Ready, false, finding.clone()),
    });
    let suspended = suspended(input);
    // Anything that differs from the desired state is being worked on, unless nothing more happens by itself.
    let may_change = input.wanted.intent != Intent::Nothing && suspended.is_none();
    let doing = match unready {
        Some(why) => Some(reconciling(input).unwrap_or(why)),
        None => draining(input),
    };
    let doing = doing.filter(|_| may_change);
    found.extend(doing.filter(|_| stalled.is_none()).map(|finding| (ConditionKind::Reconciling, true, finding)));
    found.extend(stalled.or_else(|| contested(input.wanted)).map(|finding| (ConditionKind::Stalled, true, finding)));
    found.extend(suspended.map(|finding| (ConditionKind::Suspended, true, finding)));
    found
}

/// Returns why the project is not as desired; none if it is. That the serving release is down comes first: it is worse
/// than what stalls or delays another one.
pub(super) fn unready(input: &StatusInput<'_>, stalled: Option<&Finding>) -> Option<Finding> {
    match (outage(input), unfinished(input, stalled)) {
        (Some((reason, down)), Some((_, other))) if down != other => Some((reason, format!("{down}; {other}"))),
        (_, Some(finding)) => Some(finding),
        (_, None) => down_process(input).or_else(|| pending_routes(input)).or_else(|| failing_routes(input)),
    }
}

/// Returns why the desired state was not reached yet, or cannot be.
fn unfinished(input: &StatusInput<'_>, stalled: Option<&Finding>) -> Option<Finding> {
    if let Some(finding) = stalled {
        return Some(finding.clone());
    }
    let progress = input.progress;
    if is_deferred(input) {
        return Some((
            Reason::Suspended,
            format!("generation {} waits until the project is resumed", input.wanted.generation),
        ));
    }
    if let Some(finding) = waiting(input) {
        return Some(finding);
    }
    match (&input.wanted.intent, progress.serving) {
        (Intent::Delete { .. }, _) if suspended(input).is_some() => {
            return Some((Reason::Suspended, "its removal waits until it is resumed".into()));
        }
        (Intent::Delete { .. }, _) => {
            return Some((Reason::Deleting, "routes, processes and files are being removed".into()));
        }
        (Intent::Nothing | Intent::Unreadable(_), _) => {
            return Some((Reason::Pending, "no spec was accepted yet".into()));
        }
        (Intent::Run(_), None) => {
            return Some(reconciling(input).unwrap_or_else(|| (Reason::Pending, "nothing serves yet".into())));
        }
        (Intent::Run(_), Some(_)) => {}
    }
    if progress.generation != input.wanted.generation || progress.target != Target::Serving {
        return Some(
            reconciling(input).unwrap_or_else(|| (Reason::Pending, "this generation waits for its turn".into())),
        );
    }
    None
}

fn serving_message(input: &StatusInput<'_>) -> String {
    let Some(serving) = input.progress.serving else { return String::new() };
    let version = input.progress.release(serving).and_then(|release| release.version.as_ref());
    let named = version.map_or(String::new(), |version| format!(" ({})", version.as_str()));
    let limits = unenforced_limits(input).unwrap_or_default();
    let (certificates, open, template) = (missing_certificates(input), open_ports(input), template_error(input));
    let runs = failed_runs(input);
    format!("release {serving}{named} serves{runs}{limits}{certificates}{open}{template}")
}
