//! How everything outside the loop reaches it: ring, or ask what it would do. Nothing that rings acts.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::model::desired::Wanted;
use crate::model::names::ProjectId;
use crate::model::status::Status;
use crate::plan::Plan;

/// Rings the loop from any thread.
#[derive(Clone)]
pub struct Bell(Sender<Ring>);

/// What the loop hears.
pub enum Ring {
    /// Something changed.
    Changed,
    /// Caddy should be offered again what it refused.
    OfferAgain,
    /// Somebody asks for the plan.
    Ask(Box<Question>),
    /// The agent is to end.
    Stop,
}

/// What would the loop do?
pub struct Question {
    /// As if this were wanted of the project.
    pub suppose: Option<(ProjectId, Wanted)>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Rehearsal, String>>,
}

/// What the loop would do, and what each project would look like.
#[derive(Default)]
pub struct Rehearsal {
    /// The steps.
    pub plan: Plan,
    /// What each project looks like before them.
    pub statuses: BTreeMap<ProjectId, Status>,
}

/// Makes a bell and the ear that hears it.
pub fn bell() -> (Bell, Ear) {
    let (sender, receiver) = channel();
    (Bell(sender), Ear(receiver))
}

impl Bell {
    /// Wakes the loop.
    pub fn ring(&self) {
        // The loop ends only with the agent; then nobody needs waking.
        let _ = self.0.send(Ring::Changed);
    }

    /// Wakes the loop, to offer Caddy again what it refused.
    pub fn offer_again(&self) {
        let _ = self.0.send(Ring::OfferAgain);
    }

    /// Ends the loop after its current pass.
    pub fn stop(&self) {
        let _ = self.0.send(Ring::Stop);
    }

    /// Asks what the loop would do now.
    ///
    /// # Errors
    /// Says why there is no plan: the loop ended, or the database could not be read.
    pub async fn plan(&self, suppose: Option<(ProjectId, Wanted)>) -> Result<Rehearsal, String> {
        let (answer, wait) = oneshot::channel();
        let ended = || "the loop has ended".to_owned();
        self.0.send(Ring::Ask(Box::new(Question { suppose, answer }))).map_err(|_| ended())?;
        wait.await.map_err(|_| ended())?
    }
}

/// Hears the bell.
pub struct Ear(Receiver<Ring>);

impl Ear {
    /// Waits for a ring or until the time is up; then returns everything that rang meanwhile.
    pub fn listen(&self, at_most: Duration) -> Vec<Ring> {
        let first = match self.0.recv_timeout(at_most) {
            Ok(ring) => ring,
            Err(RecvTimeoutError::Timeout) => return Vec::new(),
            Err(RecvTimeoutError::Disconnected) => return vec![Ring::Stop],
        };
        std::iter::once(first).chain(self.0.try_iter()).collect()
    }
}
