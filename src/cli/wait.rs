//! Waits for the end of a rollout: a pure judgement of each status, and the loop that polls.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::client::{Ask, Client};
use super::failure::Failure;
use super::show;
use super::text::clean;
use crate::model::names::ProjectId;
use crate::model::quantity::Span;
use crate::model::reason::Reason;
use crate::model::status::{Condition, ConditionKind, Status};

/// How long between two polls.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a failing route may still recover by itself: in this time it is checked three times, the last one long
/// after the switch.
const MAY_MEND: Duration = Duration::from_secs(15);
/// How many failures in a row to reach the agent are tolerated: it may restart during the wait.
pub const BEARABLE: u32 = 20;

/// What a status means for a wait for a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitState {
    /// Not done yet; what is in progress.
    Going(String),
    /// Finished, but does not work. The wait ends only if this persists for a while.
    Failing(String),
    Ready(String),
    Failed(String),
}

/// Judges a status for a wait for a generation to be Ready. `fresh`: the status is from a pass that began after our
/// write; that pass may have fixed what was wrong before, even if no generation changed.
pub fn judge(generation: u64, status: &Status, fresh: bool) -> WaitState {
    let held = |kind: ConditionKind| status.condition(kind).filter(|condition| condition.holds);
    let holds = |kind: ConditionKind| held(kind).is_some();
    // What stalls a project also makes it unready. The claim of a second file does not, and is not waited for.
    let unready = status.condition(ConditionKind::Ready).filter(|ready| !ready.holds);
    let is_why = |stalled: &&Condition| unready.is_some_and(|ready| ready.reason == stalled.reason);
    // Where the serving release is down as well, that is why the project is not Ready.
    let beside_outage = unready.is_some_and(|ready| ready.reason.is_outage()) && !holds(ConditionKind::Reconciling);
    let stalled = held(ConditionKind::Stalled).filter(|stalled| is_why(stalled) || beside_outage);
    let said = stalled
        .filter(|_| !beside_outage)
        .or_else(|| held(ConditionKind::Suspended))
        .or_else(|| held(ConditionKind::Ready))
        .or_else(|| held(ConditionKind::Reconciling).filter(|_| !beside_outage));
    let said = said.or_else(|| show::leading(status));
    let said = said.map(|c| format!("{}: {}", c.reason, clean(&c.message)));
    let said = said.unwrap_or_else(|| status.state.to_string());
    let is_of = |condition: &Condition| condition.reason == Reason::RouteFailing;
    let fails_without_a_rollout = unready.is_some_and(is_of) && held(ConditionKind::Reconciling).is_none_or(is_of);
    match fresh && status.observed_generation >= generation {
        true if stalled.is_some() => WaitState::Failed(said),
        true if holds(ConditionKind::Ready) => WaitState::Ready(said),
        _ if holds(ConditionKind::Suspended) => WaitState::Failed(said),
        // The rollout is over: nothing more will be done for it.
        _ if fresh && fails_without_a_rollout => WaitState::Failing(said),
        _ => WaitState::Going(said),
    }
}

/// Waits until a generation of a project is Ready.
///
/// # Errors
/// It failed, or the time is up.
pub fn for_ready(client: &Client, project: &ProjectId, generation: u64, at_most: Span) -> Result<String, Failure> {
    let look = |answer: Option<serde_json::Value>, fresh: bool| match answer {
        None => Ok(WaitState::Failed("there is no such project".into())),
        Some(view) => show::status_of(&view).map(|status| judge(generation, &status, fresh)),
    };
    watch(&place(project), project.as_str(), client, at_most, look)
}

/// Waits until nothing of a project is left.
///
/// # Errors
/// The time is up.
pub fn for_end(client: &Client, project: &ProjectId, at_most: Span) -> Result<String, Failure> {
    let look = |answer: Option<serde_json::Value>, fresh: bool| match answer {
        None => Ok(WaitState::Ready("gone".into())),
        Some(view) => show::status_of(&view).map(|status| match judge(u64::MAX, &status, fresh) {
            WaitState::Failed(said) if status.condition(ConditionKind::Suspended).is_some() => WaitState::Failed(said),
            WaitState::Going(said) | WaitState::Failing(said) | WaitState::Ready(said) | WaitState::Failed(said) => {
                WaitState::Going(said)
            }
        }),
    };
    watch(&place(project), project.as_str(), client, at_most, look)
}

fn place(project: &ProjectId) -> String {
    format!("/v1/projects/{project}")
}

/// Polls a path until its state is final.
///
/// # Errors
/// It failed, or the time is up.
pub fn watch(
    place: &str,
    name: &str,
    client: &Client,
    at_most: Span,
    look: impl Fn(Option<serde_json::Value>, bool) -> Result<WaitState, Failure>,
) -> Result<String, Failure> {
    let until = Instant::now() + at_most.as_duration();
    let mut progress = Progress::new(name);
    let (mut unreached, mut failing) = (0, None);
    loop {
        let turn = match ask(client, place) {
            Ok((answer, fresh)) => {
                unreached = 0;
                look(answer, fresh)?
            }
            Err(failure) if unreached >= BEARABLE => return Err(failure),
            Err(failure) => {
                unreached += 1;
                WaitState::Going(failure.message)
            }
        };
        match end_what_fails(turn, &mut failing, Instant::now()) {
            WaitState::Ready(said) => return Ok(progress.end(said)),
            WaitState::Failed(said) => return Err(Failure::not_ready(format!("{name}: {}", progress.end(said)))),
            WaitState::Going(said) | WaitState::Failing(said) if Instant::now() >= until => {
                let said = progress.end(said);
                return Err(Failure::not_ready(format!("{name}: not done after {at_most}; {said}")));
            }
            WaitState::Going(said) | WaitState::Failing(said) => progress.tell(&said),
        }
        std::thread::sleep(PAUSE);
    }
}

/// Treats what has failed for long enough as final. `since`: when the failure began.
fn end_what_fails(turn: WaitState, since: &mut Option<Instant>, now: Instant) -> WaitState {
    match turn {
        WaitState::Failing(said) if now.duration_since(*since.get_or_insert(now)) >= MAY_MEND => {
            WaitState::Failed(said)
        }
        WaitState::Failing(said) => WaitState::Failing(said),
        other => {
            *since = None;
            other
        }
    }
}

/// Returns the answer, none on a 404, and whether it is from a pass that saw our write.
fn ask(client: &Client, place: &str) -> Result<(Option<serde_json::Value>, bool), Failure> {
    let answer = client.send(&Ask::get(place))?;
    let found = if answer.status == 404 { None } else { Some(answer.value()?) };
    Ok((found, client.is_fresh(&answer)))
}

/// Reports progress: one updated line on standard error. In a script's log it would only hide the script's own output;
/// the outcome is printed there all the same.
struct Progress {
    name: String,
    live: bool,
    began: Instant,
    told: bool,
}

impl Progress {
    fn new(name: &str) -> Self {
        let live = std::io::stderr().is_terminal();
        Self { name: name.to_owned(), live, began: Instant::now(), told: false }
    }

    fn tell(&mut self, said: &str) {
        if !self.live {
            return;
        }
        self.told = true;
        let since = show::span(self.began.elapsed().as_secs());
        let mut err = std::io::stderr().lock();
        // Progress is optional: a closed stderr stops nothing.
        let _ = write!(err, "\r\x1b[K{}  {since}  {}", self.name, first_line(said)).and_then(|()| err.flush());
    }

    fn end(&self, said: String) -> String {
        if self.told {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        said
    }
}

/// A line that wraps could not be overwritten.
fn first_line(said: &str) -> String {
    said.chars().take(70).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(generation: u64, observed: u64, conditions: &[(ConditionKind, bool, Reason)]) -> Status {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, holds, reason)| {
                let status = if *holds { "True" } else { "False" };
                json!({"type":kind,"status":status,"reason":reason,"message":"m","since":"2026-12-01T08:00:00Z"})
            })
            .collect();
        let view = json!({"project":"shop","generation":generation,"observed_generation":observed,
            "observed_at":"2026-12-01T08:00:00Z","owner":"api","state":"pending","conditions":conditions,
            "serving":null,"candidate":null,"last_good":null,"rejected":[],"processes":[],"routes":[]});
        show::status_of(&view).unwrap()
    }

    #[test]
    fn a_rollout_is_waited_for_until_its_own_generation_comes_to_an_end() {
        let going = |reason: Reason| WaitState::Going(format!("{reason}: m"));
        let ready = [(ConditionKind::Ready, true, Reason::Serving)];
        let run = [
            // The old generation serves and reports Ready: that is not the end.
            (status(7, 6, &ready), going(Reason::Serving)),
            (
                status(
                    7,
                    6,
                    &[
                        (ConditionKind::Ready, false, Reason::Fetching),
                        (ConditionKind::Reconciling, true, Reason::Fetching),
                    ],
                ),
                going(Reason::Fetching),
            ),
            (
                status(
                    7,
                    6,
                    &[(ConditionKind::Ready, false, Reason::Trial), (ConditionKind::Reconciling, true, Reason::Trial)],
                ),
                going(Reason::Trial),
            ),
            (status(7, 7, &ready), WaitState::Ready("Serving: m".into())),
        ];
        for (seen, turn) in run {
            assert_eq!(judge(7, &seen, true), turn);
        }
    }

    #[test]
    fn a_stalled_rollout_is_another_end_also_where_the_old_release_serves() {
        let stalled = [
            (ConditionKind::Ready, false, Reason::HealthCheckFailed),
            (ConditionKind::Stalled, true, Reason::HealthCheckFailed),
        ];
        assert_eq!(judge(7, &status(7, 7, &stalled), true), WaitState::Failed("HealthCheckFailed: m".into()));
        // Stalled is about the generation before.
        assert_eq!(judge(8, &status(8, 7, &stalled), true), WaitState::Going("HealthCheckFailed: m".into()));
        // The old release is down as well, which is worse.
        for down in [Reason::ProcessDown, Reason::RouteFailing] {
            let both = [(ConditionKind::Ready, false, down), stalled[1]];
            assert_eq!(judge(7, &status(7, 7, &both), true), WaitState::Failed(format!("{down}: m")));
            let trial = [(ConditionKind::Ready, false, down), (ConditionKind::Reconciling, true, Reason::Trial)];
            assert_eq!(judge(7, &status(7, 6, &trial), true), WaitState::Going("Trial: m".into()));
        }
    }

    #[test]
    fn a_route_that_stays_without_an_answer_is_an_end_and_one_that_mends_is_none() {
        let of =
            |reason| status(7, 6, &[(ConditionKind::Ready, false, reason), (ConditionKind::Reconciling, true, reason)]);
        assert_eq!(judge(7, &of(Reason::RouteFailing), false), WaitState::Going("RouteFailing: m".into()));
        let failing = || judge(7, &of(Reason::RouteFailing), true);
        assert_eq!(failing(), WaitState::Failing("RouteFailing: m".into()));
        let (began, mut since) = (Instant::now(), None);
        let mut at = |seconds, turn| end_what_fails(turn, &mut since, began + Duration::from_secs(seconds));
        assert_eq!(at(0, failing()), failing());
        assert_eq!(at(14, failing()), failing());
        assert_eq!(at(15, judge(7, &of(Reason::RouteCheck), true)), WaitState::Going("RouteCheck: m".into()));
        assert_eq!(at(16, failing()), failing());
        assert_eq!(at(31, failing()), WaitState::Failed("RouteFailing: m".into()));
    }

    #[test]
    fn an_end_is_believed_only_of_a_pass_that_began_after_the_write() {
        let stalled = status(
            7,
            7,
            &[
                (ConditionKind::Ready, false, Reason::SecretMissing),
                (ConditionKind::Stalled, true, Reason::SecretMissing),
            ],
        );
        assert_eq!(judge(7, &stalled, false), WaitState::Going("SecretMissing: m".into()));
        assert_eq!(judge(7, &stalled, true), WaitState::Failed("SecretMissing: m".into()));
        let ready = status(7, 7, &[(ConditionKind::Ready, true, Reason::Serving)]);
        assert_eq!(judge(7, &ready, false), WaitState::Going("Serving: m".into()));
    }

    #[test]
    fn another_file_that_claims_the_project_too_is_no_end() {
        let beside = |of: &[(ConditionKind, bool, Reason)]| {
            status(7, 7, &[of, &[(ConditionKind::Stalled, true, Reason::Conflict)]].concat())
        };
        let ready = (ConditionKind::Ready, true, Reason::Serving);
        assert_eq!(judge(7, &beside(&[ready]), true), WaitState::Ready("Serving: m".into()));
        let trial = [(ConditionKind::Ready, false, Reason::Trial), (ConditionKind::Reconciling, true, Reason::Trial)];
        assert_eq!(judge(7, &beside(&trial), true), WaitState::Going("Trial: m".into()));
        // A host that another project has is such a case.
        assert_eq!(
            judge(7, &beside(&[(ConditionKind::Ready, false, Reason::Conflict)]), true),
            WaitState::Failed("Conflict: m".into())
        );
        let suspended = status(
            7,
            6,
            &[
                ready,
                (ConditionKind::Stalled, true, Reason::Conflict),
                (ConditionKind::Suspended, true, Reason::Suspended),
            ],
        );
        assert_eq!(judge(7, &suspended, true), WaitState::Failed("Suspended: m".into()));
    }

    #[test]
    fn a_suspended_project_is_not_waited_for() {
        let suspended =
            [(ConditionKind::Ready, false, Reason::Pending), (ConditionKind::Suspended, true, Reason::Suspended)];
        assert_eq!(judge(7, &status(7, 6, &suspended), true), WaitState::Failed("Suspended: m".into()));
    }

    #[test]
    fn a_project_that_no_pass_has_seen_is_still_going() {
        assert_eq!(judge(1, &status(1, 0, &[]), true), WaitState::Going("pending".into()));
    }
}
