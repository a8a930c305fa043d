//! How everything outside the loop reaches it: ring, or ask what it would do. Nothing that rings acts.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::model::desired::Wanted;
use crate::model::names::ProjectId;
use crate::model::status::Status;
use crate::plan::Plan;

/// Rings the loop from any thread.
#[derive(Clone)]
pub struct TriggerSender(Sender<Trigger>);

/// What the loop hears.
pub enum Trigger {
    /// Something changed.
    Changed,
    /// Caddy should be offered again what it refused.
    OfferAgain,
    /// Somebody asks for the plan.
    Ask(Box<DryRunRequest>),
    /// The agent is to end.
    Stop,
}

/// What would the loop do?
pub struct DryRunRequest {
    /// As if this were wanted of the project.
    pub suppose: Option<(ProjectId, Wanted)>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<DryRun, String>>,
}

/// What the loop would do, and what each project would look like.
#[derive(Default)]
pub struct DryRun {
    /// The steps.
    pub plan: Plan,
    /// What each project looks like before them.
    pub statuses: BTreeMap<ProjectId, Status>,
}

/// Makes a trigger and the receiver that hears it.
pub fn channel() -> (TriggerSender, TriggerReceiver) {
    let (sender, receiver) = mpsc::channel();
    (TriggerSender(sender), TriggerReceiver(receiver))
}

impl TriggerSender {
    /// Wakes the loop.
    pub fn changed(&self) {
        // The loop ends only with the agent; then nobody needs waking.
        let _ = self.0.send(Trigger::Changed);
    }

    /// Wakes the loop, to offer Caddy again what it refused.
    pub fn offer_again(&self) {
        let _ = self.0.send(Trigger::OfferAgain);
    }

    /// Ends the loop after its current pass.
    pub fn stop(&self) {
        let _ = self.0.send(Trigger::Stop);
    }

    /// Asks what the loop would do now.
    ///
    /// # Errors
    /// Says why there is no plan: the loop ended, or the database could not be read.
    pub async fn plan(&self, suppose: Option<(ProjectId, Wanted)>) -> Result<DryRun, String> {
        let (answer, wait) = oneshot::channel();
        let ended = || "the loop has ended".to_owned();
        self.0.send(Trigger::Ask(Box::new(DryRunRequest { suppose, answer }))).map_err(|_| ended())?;
        wait.await.map_err(|_| ended())?
    }
}

/// Hears the trigger.
pub struct TriggerReceiver(Receiver<Trigger>);

impl TriggerReceiver {
    /// Waits for a ring or until the time is up; then returns everything that rang meanwhile.
    pub fn listen(&self, at_most: Duration) -> Vec<Trigger> {
        let first = match self.0.recv_timeout(at_most) {
            Ok(ring) => ring,
            Err(RecvTimeoutError::Timeout) => return Vec::new(),
            Err(RecvTimeoutError::Disconnected) => return vec![Trigger::Stop],
        };
        std::iter::once(first).chain(self.0.try_iter()).collect()
    }
}
