//! Times the parts of rollouts for the metrics, by comparing what each pass sees with what the one before saw. Kept in
//! memory alone: after a restart of the agent only the whole of a rollout is still known, and decisions need none of it.

use std::collections::BTreeMap;

use crate::metrics::Metrics;
use crate::model::names::{ProjectId, ReleaseNo};
use crate::model::observed::Observed;
use crate::model::progress::{Progress, ProjectProgress, ReleaseState};
use crate::model::quantity::Timestamp;

/// What rollouts are at, and since when.
#[derive(Debug, Default)]
pub struct Phases(BTreeMap<(ProjectId, &'static str), (ReleaseNo, Timestamp)>);

impl Phases {
    /// Compares with the pass before; what ended since is timed.
    pub fn follow(&mut self, observed: &Observed, all_progress: &Progress, metrics: &Metrics) {
        let mut current = BTreeMap::new();
        for (project, progress) in &all_progress.projects {
            let on_disk = observed.projects.get(project).and_then(|seen| seen.bundles.known());
            let on_disk = |release| on_disk.map(|bundles| bundles.releases.contains_key(&release));
            for (phase, release) in phases(progress, on_disk) {
                let key = (project.clone(), phase);
                let began = progress.trial.as_ref().filter(|_| matches!(phase, "whole" | "fetch"));
                let since = began.map_or(observed.now, |trial| trial.since);
                let kept = self.0.get(&key).filter(|(before, _)| *before == release);
                current.insert(key, kept.copied().unwrap_or((release, since)));
            }
        }
        for ((project, phase), (release, since)) in std::mem::take(&mut self.0) {
            let goes_on = current.get(&(project.clone(), phase)).is_some_and(|(now, _)| *now == release);
            if goes_on {
                continue;
            }
            metrics.ended_phase(phase, observed.now.since(since).as_duration());
            if phase == "whole" {
                metrics.ended_rollout(outcome(all_progress, &project, release));
            }
        }
        self.0 = current;
    }
}

/// Returns what a project's rollouts are at. A disk that could not be read is taken for one without the release: the
/// fetch is then timed until it can be.
fn phases(
    progress: &ProjectProgress,
    on_disk: impl Fn(ReleaseNo) -> Option<bool>,
) -> impl Iterator<Item = (&'static str, ReleaseNo)> {
    let candidate = progress.candidate();
    let getting = candidate.filter(|release| on_disk(*release) != Some(true));
    let trying = candidate.filter(|_| getting.is_none());
    let draining = progress.draining.as_ref().map(|draining| draining.release);
    [("whole", candidate), ("fetch", getting), ("trial", trying), ("drain", draining)]
        .into_iter()
        .filter_map(|(phase, release)| Some((phase, release?)))
}

fn outcome(all_progress: &Progress, project: &ProjectId, release: ReleaseNo) -> &'static str {
    let known = all_progress.projects.get(project).and_then(|progress| progress.release(release));
    match known.map(|release| release.state) {
        Some(ReleaseState::Serving | ReleaseState::Retired) => "serving",
        Some(ReleaseState::Rejected) => "rejected",
        Some(ReleaseState::Superseded | ReleaseState::Trial) | None => "superseded",
    }
}
