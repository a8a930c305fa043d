//! How everything outside the loop reaches it: trigger a pass, or request a dry run. Senders never act themselves.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::model::desired::DesiredProject;
use crate::model::names::ProjectId;
use crate::model::status::Status;
use crate::plan::Plan;

/// Triggers the loop from any thread.
#[derive(Clone)]
pub struct TriggerSender(Sender<Trigger>);

/// What the loop can receive.
pub enum Trigger {
    Changed,
    /// The routes that Caddy refused should be loaded again.
    RetryRefusedRoutes,
    DryRun(Box<DryRunRequest>),
    Stop,
}

/// A request for what the loop would do.
pub struct DryRunRequest {
    /// Assume this desired state of the project.
    pub assumed: Option<(ProjectId, DesiredProject)>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<DryRun, String>>,
}

/// What the loop would do, and the status of each project.
#[derive(Default)]
pub struct DryRun {
    pub plan: Plan,
    /// The status of each project before the steps.
    pub statuses: BTreeMap<ProjectId, Status>,
}

/// Makes a trigger's sender and receiver.
pub fn channel() -> (TriggerSender, TriggerReceiver) {
    let (sender, receiver) = mpsc::channel();
    (TriggerSender(sender), TriggerReceiver(receiver))
}

impl TriggerSender {
    /// Wakes the loop.
    pub fn changed(&self) {
        // The loop ends only with the agent; then no wake-up is needed.
        let _ = self.0.send(Trigger::Changed);
    }

    /// Wakes the loop, to load the routes that Caddy refused again.
    pub fn retry_refused_routes(&self) {
        let _ = self.0.send(Trigger::RetryRefusedRoutes);
    }

    /// Ends the loop after its current pass.
    pub fn stop(&self) {
        let _ = self.0.send(Trigger::Stop);
    }

    /// Returns what the loop would do now.
    ///
    /// # Errors
    /// There is no plan: the loop ended, or the database could not be read.
    pub async fn plan(&self, suppose: Option<(ProjectId, DesiredProject)>) -> Result<DryRun, String> {
        let (answer, wait) = oneshot::channel();
        let ended = || "the loop has ended".to_owned();
        self.0.send(Trigger::DryRun(Box::new(DryRunRequest { assumed: suppose, answer }))).map_err(|_| ended())?;
        wait.await.map_err(|_| ended())?
    }
}

/// Receives triggers, in the loop.
pub struct TriggerReceiver(Receiver<Trigger>);

impl TriggerReceiver {
    /// Waits for a trigger or until the time is up; then returns all triggers received until then.
    pub fn recv_all(&self, at_most: Duration) -> Vec<Trigger> {
        let first = match self.0.recv_timeout(at_most) {
            Ok(trigger) => trigger,
            Err(RecvTimeoutError::Timeout) => return Vec::new(),
            Err(RecvTimeoutError::Disconnected) => return vec![Trigger::Stop],
        };
        std::iter::once(first).chain(self.0.try_iter()).collect()
    }
}
