//! Times the phases of rollouts for the metrics, by comparing each pass's observations with the previous pass's. Kept
//! in memory only: after a restart of the agent only the duration of a whole rollout is known, and no decision depends
//! on phases.

use std::collections::BTreeMap;

use crate::metrics::Metrics;
use crate::model::names::{ProjectId, ReleaseNo};
use crate::model::observed::Observed;
use crate::model::progress::{Progress, ProjectProgress, ReleaseState};
use crate::model::quantity::Timestamp;

/// The present phases of rollouts, and since when.
#[derive(Debug, Default)]
pub struct Phases(BTreeMap<(ProjectId, &'static str), (ReleaseNo, Timestamp)>);

impl Phases {
    /// Compares with the previous pass, and records how long the phases that ended took.
    pub fn follow(&mut self, observed: &Observed, all_progress: &Progress, metrics: &Metrics) {
        let mut current = BTreeMap::new();
        for (project, progress) in &all_progress.projects {
            let on_disk = observed.projects.get(project).and_then(|seen| seen.bundles.known());
            let on_disk = |release| on_disk.map(|bundles| bundles.releases.contains_key(&release));
            for (phase, release) in phases(progress, on_disk) {
                let key = (project.clone(), phase);
                let began = progress.rollout().filter(|_| matches!(phase, "whole" | "fetch"));
                let since = began.map_or(observed.now, |rollout| rollout.since);
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

/// Returns the present phases of a project's rollouts. A disk that could not be read counts as one without the release:
/// the fetch is timed until it can be read.
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
    match all_progress.projects.get(project).map(|progress| progress.state_of(release)) {
        Some(ReleaseState::Serving | ReleaseState::Retired) => "serving",
        Some(ReleaseState::Rejected) => "rejected",
        Some(ReleaseState::Superseded | ReleaseState::Trial) | None => "superseded",
    }
}
