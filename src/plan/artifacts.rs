//! Which artifacts on the server are unused. Those that an operator stored under a name of their own stay.

use std::collections::BTreeSet;

use crate::model::desired::{Desired, Intent};
use crate::model::names::Sha256;
use crate::model::observed::Observed;
use crate::model::progress::Progress;
use crate::model::quantity::Span;
use crate::model::spec::Source;

use super::{Action, Plan, Step, StepReason};

/// How long an unreferenced artifact is kept: one that was uploaded ahead waits for its spec.
const TIMEOUT: Span = Span::seconds(86_400);

/// Adds the removals of artifacts that no kept release and no spec references.
pub fn steps(desired: &Desired, observed: &Observed, all_progress: &Progress, plan: &mut Plan) {
    let Some(artifacts) = observed.artifacts.known() else { return };
    // An unreadable spec may reference any of them.
    if desired.0.values().any(|wanted| matches!(wanted.intent, Intent::Unreadable(_))) {
        return;
    }
    let needed = needed(desired, all_progress);
    for (sha256, came) in artifacts.iter().filter(|(sha256, _)| !needed.contains(sha256.as_str())) {
        if observed.now >= came.after(TIMEOUT) {
            plan.steps.push(Step { action: Action::RemoveArtifact(sha256.clone()), reason: StepReason::Retention });
        }
    }
}

fn needed<'a>(desired: &'a Desired, all_progress: &'a Progress) -> BTreeSet<&'a str> {
    let kept = all_progress.projects.values().flat_map(|progress| progress.releases.values());
    let kept = kept.filter_map(|release| release.sha256.as_ref()).map(Sha256::as_str);
    let artifacts = desired.0.values().filter_map(|wanted| wanted.spec()).map(|spec| &spec.artifact);
    let named = artifacts.flat_map(|artifact| {
        let file = match artifact.source() {
            Some(Source::File { name, .. }) => Some(name.as_str()),
            Some(Source::Url { .. }) | None => None,
        };
        file.into_iter().chain(artifact.sha256().map(Sha256::as_str))
    });
    kept.chain(named).collect()
}
