//! What a write may do to the desired state. Each rule takes the stored state and the request, and returns what to
//! store, the answer and the event. A store loads, applies the rule, and saves everything or nothing.

pub mod admit;
pub mod project;
pub mod service;
pub mod values;

use crate::model::desired::Owner;
use crate::model::event::{By, Event};
use crate::model::failure::PortError;
use crate::model::names::ProjectId;
use crate::model::problem::SpecError;
use crate::model::quantity::Timestamp;
use crate::model::services::Service;

/// The author and the time of a request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub by: &'a By,
    pub now: Timestamp,
}

/// An accepted request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<R, T> {
    pub write: Write<R>,
    /// What the caller gets.
    pub answer: T,
    /// The event to store with the write.
    pub event: Option<Event>,
}

/// What happens to a stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write<R> {
    Nothing,
    Save(R),
    /// Replace it, and drop the project's progress, since it could not be read.
    Reset(R),
    /// Delete it, with everything else that is stored of its project.
    Delete,
}

impl<R, T> Change<R, T> {
    fn nothing(answer: T) -> Self {
        Self { write: Write::Nothing, answer, event: None }
    }

    fn save(record: R, answer: T, event: Option<Event>) -> Self {
        Self { write: Write::Save(record), answer, event }
    }
}

/// The result of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteResult {
    /// The generation after the write.
    pub generation: u64,
    pub created: bool,
    pub changed: bool,
}

/// Why a request was not accepted. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error("there is no project {0}")]
    Unknown(ProjectId),
    #[error("project {project} belongs to {owner}; change it there")]
    Owned { project: ProjectId, owner: Owner },
    /// The document makes a wrong statement about stored values.
    #[error(transparent)]
    Invalid(SpecError),
    /// The project has another generation than the caller expected.
    #[error("the project is at generation {0} by now")]
    Moved(u64),
    /// It is being deleted; its name is free once nothing of it is left.
    #[error("project {0} is being deleted; try again once it is gone")]
    Deleting(ProjectId),
    /// There is no request for this service.
    #[error("{0} is not managed by zexio, so zexio does not remove it")]
    ServiceUnknown(Service),
    #[error("service {service} belongs to {owner}; change it there")]
    ServiceOwned { service: Service, owner: Owner },
    /// A stored part could not be read, and this request would not replace it.
    #[error("could not change project {project}: {why}")]
    Unreadable {
        project: ProjectId,
        /// The cause, and what to do.
        why: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] PortError),
}
