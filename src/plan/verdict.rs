//! Whether a candidate is healthy: its release command succeeded, and each of its processes has been ready for long
//! enough.

use crate::model::desired::Workload;
use crate::model::names::{ProjectId, UnitId};
use crate::model::observed::{ActiveState, Exit, FetchSeen, ObservedProject, Probed, UnitSeen};
use crate::model::progress::{ProjectProgress, Rollout};
use crate::model::quantity::{Span, Timestamp};
use crate::model::reason::Reason;
use crate::model::spec::{Check, Deploy, Ready};

use super::restarts;

/// A process that failed this often within its trial does not come up by itself.
const MAX_ENDED_RUNS: u32 = 3;

/// The verdict on a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// None yet; at this moment the passing of time alone may change that.
    Wait(Timestamp),
    /// It was healthy for long enough.
    Healthy,
    /// It must not get traffic.
    Reject { reason: Reason, message: String },
}

/// A candidate and all that its verdict is based on.
pub struct Candidate<'a> {
    pub project: &'a ProjectId,
    pub rollout: &'a Rollout,
    pub progress: &'a ProjectProgress,
    pub deploy: &'a Deploy,
    pub seen: &'a ObservedProject,
    pub now: Timestamp,
}

impl Candidate<'_> {
    /// Judges the candidate by what was observed. The first part that fails decides.
    pub fn verdict(&self) -> Verdict {
        let deadline = self.deadline();
        let Some(parts) = self.part_verdicts() else { return Verdict::Wait(deadline) };
        if let Some(reject) = parts.iter().find(|verdict| matches!(verdict, Verdict::Reject { .. })) {
            return reject.clone();
        }
        if parts.iter().all(|verdict| *verdict == Verdict::Healthy) {
            return Verdict::Healthy;
        }
        if self.now >= deadline {
            return Verdict::Reject { reason: Reason::DeadlineExceeded, message: self.deadline_message() };
        }
        let soonest =
            parts.iter().filter_map(|verdict| if let Verdict::Wait(at) = verdict { Some(*at) } else { None }).min();
        Verdict::Wait(soonest.unwrap_or(deadline).min(deadline))
    }

    /// Returns the rollout's deadline. Nothing is past it while a start still waits for those of others.
    pub fn deadline(&self) -> Timestamp {
        self.rollout.deadline(self.slowed(self.deploy.deadline), self.now)
    }

    /// Returns how long a process may take for what it would do in this time on an idle machine.
    fn slowed(&self, span: Span) -> Span {
        Span(span.0.saturating_mul(u64::from(self.seen.slowdown)))
    }

    /// Returns whether the candidate is healthy except for some of its processes, which do not run yet.
    pub fn is_ready_but_for(&self, waits: impl Fn(&UnitId) -> bool) -> bool {
        let Some(units) = self.seen.units.known() else { return false };
        let is_well = |id: &UnitId| match self.progress.workload_of(id) {
            Some(workload) if workload.is_daemon() => {
                waits(id) || self.daemon_verdict(id, workload, units.get(id)) == Verdict::Healthy
            }
            _ => true,
        };
        self.progress.pending_command_unit(self.project, self.rollout.release).is_none()
            && self.files_verdict() == Verdict::Healthy
            && self.progress.units_of(self.project, self.rollout.release).iter().all(is_well)
    }

    /// Judges its command, its processes and its files, in this order; none if the units could not be observed.
    fn part_verdicts(&self) -> Option<Vec<Verdict>> {
        let units = self.seen.units.known()?;
        let command = self.progress.pending_command_unit(self.project, self.rollout.release);
        let command = command.map(|unit| self.command_verdict(&unit, units.get(&unit)));
        let processes = self.progress.units_of(self.project, self.rollout.release).into_iter();
        let processes = processes.map(|id| match (self.progress.workload_of(&id), units.get(&id)) {
            (Some(workload), unit) if workload.is_daemon() => self.daemon_verdict(&id, workload, unit),
            // A scheduled process proves nothing before its time; only that its unit was written can be observed.
            (_, Some(unit)) if unit.text.is_some() => Verdict::Healthy,
            _ => self.check_again_soon(),
        });
        Some(command.into_iter().chain(processes).chain([self.files_verdict()]).collect())
    }

    fn files_verdict(&self) -> Verdict {
        let on_disk =
            self.seen.bundles.known().is_some_and(|bundles| bundles.releases.contains_key(&self.rollout.release));
        if on_disk { Verdict::Healthy } else { Verdict::Wait(self.deadline()) }
    }

    /// A release command must run to its end once, and succeed.
    fn command_verdict(&self, id: &UnitId, unit: Option<&UnitSeen>) -> Verdict {
        let failed = |unit: &&UnitSeen| unit.state == ActiveState::Failed && self.rollout.is_from_rollout(id, unit);
        let Some(unit) = unit.filter(failed) else { return self.check_again_soon() };
        let how = match (unit.result.as_str(), unit.exit) {
            ("timeout", _) => "took longer than its timeout and was stopped".to_owned(),
            ("oom-kill", _) => "was killed for want of memory".to_owned(),
            (_, Some(exit)) => exit.to_string(),
            (result, None) => format!("failed: {result}"),
        };
        Verdict::Reject { reason: Reason::ReleaseCommandFailed, message: format!("its release command {how}") }
    }

    fn daemon_verdict(&self, id: &UnitId, workload: &Workload, unit: Option<&UnitSeen>) -> Verdict {
        // One that stops or was stopped, like that of a release that drained, is started again.
        let is_on = |unit: &&UnitSeen| !matches!(unit.state, ActiveState::Deactivating | ActiveState::Inactive);
        let Some(unit) = unit.filter(is_on) else { return self.check_again_soon() };
        let found = match (self.lasting_failure(id, unit), &workload.ready) {
            (Some(failure), _) => Err(failure),
            (None, Some(ready)) if ready.check == Check::Notify => self.notified_since(ready, unit),
            (None, Some(ready)) => self.answered_since(ready, self.probed(id, unit), unit),
            (None, None) => Ok(self.up_since(unit)),
        };
        match found {
            Err(what) => {
                Verdict::Reject { reason: Reason::HealthCheckFailed, message: format!("process {} {what}", id.process) }
            }
            Ok(Some(ready)) if self.now >= ready.after(self.deploy.min_healthy) => Verdict::Healthy,
            Ok(Some(ready)) => Verdict::Wait(ready.after(self.deploy.min_healthy)),
            Ok(None) => self.check_again_soon(),
        }
    }

    /// Describes the failure of a process that does not come up by itself.
    fn lasting_failure(&self, id: &UnitId, unit: &UnitSeen) -> Option<String> {
        let ended_runs = self.rollout.ended_runs(id, unit);
        // systemd shows how a process ended only until the next one starts; wait for one more failure rather than judge
        // without that.
        let often = ended_runs > MAX_ENDED_RUNS || ended_runs == MAX_ENDED_RUNS && unit.exit.is_some();
        if !self.rollout.is_from_rollout(id, unit) || !often && unit.state != ActiveState::Failed {
            return None;
        }
        let limit = self.progress.release(self.rollout.release).and_then(|release| release.content.limits.memory);
        let how = unit.ending(limit).unwrap_or_else(|| "ended".to_owned());
        let how = if ended_runs > 1 { format!("{how}, {ended_runs} times since it was started") } else { how };
        let ended_well = unit.exit == Some(Exit::Status(0));
        let hint = self.progress.workload_of(id).filter(|_| ended_well).map(restarts::after_success);
        Some(hint.map_or(how.clone(), |hint| format!("{how}; {hint}")))
    }

    /// Returns since when a process has reported to systemd that it is ready.
    fn notified_since(&self, ready: &Ready, unit: &UnitSeen) -> Result<Option<Timestamp>, String> {
        let deadline = self.probed_from(unit).after(self.slowed(ready.within));
        if unit.state == ActiveState::Activating && self.now >= deadline {
            return Err(self.unready_message(ready, "it did not notify systemd"));
        }
        Ok(self.up_since(unit))
    }

    /// Returns since when a process has answered its probes.
    fn answered_since(
        &self,
        ready: &Ready,
        probed: Option<&Probed>,
        unit: &UnitSeen,
    ) -> Result<Option<Timestamp>, String> {
        match probed {
            // Only a probe made after the timeout can show that the time was not enough: an agent that slept until then
            // must probe once more.
            // Until the command itself runs, nothing can answer.
            Some(Probed { ok_since: None, at, last, .. })
                if unit.state == ActiveState::Active
                    && *at >= self.probed_from(unit).after(self.slowed(ready.within)) =>
            {
                Err(self.unready_message(ready, last))
            }
            _ => Ok(probed.and_then(|probed| probed.ok_since).filter(|_| unit.state == ActiveState::Active)),
        }
    }

    /// Returns what was probed of this run of a process.
    fn probed(&self, id: &UnitId, unit: &UnitSeen) -> Option<&Probed> {
        self.seen.health.get(id).filter(|probed| probed.invocation == unit.invocation)
    }

    fn up_since(&self, unit: &UnitSeen) -> Option<Timestamp> {
        (unit.state == ActiveState::Active).then_some(unit.since.unwrap_or(self.now))
    }

    /// The target of a rollback may run already: it is probed from the start of its trial.
    fn probed_from(&self, unit: &UnitSeen) -> Timestamp {
        unit.since.unwrap_or(self.now).max(self.rollout.since)
    }

    fn check_again_soon(&self) -> Verdict {
        Verdict::Wait(self.now.after(Span::seconds(1)))
    }

    fn unready_message(&self, ready: &Ready, last: &str) -> String {
        let busy = match self.seen.slowdown {
            0 | 1 => String::new(),
            times => format!("; it was given {times} times as long, since the server is busy"),
        };
        format!("was not ready within {}; {last}{busy}", ready.within)
    }

    fn deadline_message(&self) -> String {
        // `advance` counts a failed fetch before it asks for a verdict.
        let progress = match (self.seen.fetches.get(&self.rollout.release), &self.rollout.fetch) {
            (Some(FetchSeen::Running { .. }), _) => "its artifact was still being fetched".to_owned(),
            (_, Some(fetch)) => format!("its artifact could not be fetched: {}", fetch.backoff.message),
            (_, None) => "its processes were not all ready".to_owned(),
        };
        format!("the rollout was not done within its deadline of {}; {progress}", self.deploy.deadline)
    }
}
