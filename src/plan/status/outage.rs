//! Whether the serving release is down, while another release is tried or was rejected.

use crate::model::desired::Intent;
use crate::model::reason::Reason;
use crate::plan::retry;

use super::input::{Finding, StatusInput};
use super::processes::{down_process, fallen_process};
use super::routes::unanswered_routes;

/// Returns what is down of the release that has the traffic; none if it is all up, or is just being started.
pub(super) fn outage(input: &StatusInput<'_>) -> Option<Finding> {
    let serving = input.progress.serving.filter(|_| matches!(input.wanted.intent, Intent::Run(_)))?;
    if input.progress.routed() != Some(serving) {
        return None;
    }
    fallen_process(input).or_else(|| unanswered_routes(input))
}

/// Returns a stall's message as it is true now: the serving release may have fallen since.
pub(super) fn as_it_is_now(input: &StatusInput<'_>, message: String) -> String {
    let Some(serving) = input.progress.serving else { return message };
    let now = match outage(input) {
        Some((Reason::RouteFailing, _)) => format!("release {serving} does not answer either"),
        Some(_) => format!("release {serving} does not stay up either"),
        None if down_process(input).is_some_and(|(reason, _)| reason.is_outage()) => retry::started_again(serving),
        None => retry::serves_as_before(serving),
    };
    let then = [retry::serves_as_before(serving), retry::started_again(serving)];
    then.iter().fold(message, |message, then| message.replace(then, &now))
}
