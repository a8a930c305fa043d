//! What a write may do to what is wanted. Each rule takes what is stored and the request, and returns what to store in its
//! place, the answer and the event. A store loads, asks, and saves all of it or nothing.

pub mod admit;
pub mod project;
pub mod service;
pub mod values;

use crate::model::desired::Owner;
use crate::model::document::SpecError;
use crate::model::event::{By, Event};
use crate::model::failure::PortError;
use crate::model::names::ProjectId;
use crate::model::quantity::Timestamp;
use crate::model::services::Service;

/// Who makes a request, and when.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Who.
    pub by: &'a By,
    /// The moment.
    pub now: Timestamp,
}

/// An accepted request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<R, T> {
    /// What happens to the stored record.
    pub write: Write<R>,
    /// What the caller gets.
    pub answer: T,
    /// What to keep with the write.
    pub event: Option<Event>,
}

/// What happens to a stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write<R> {
    /// It stays as it is.
    Nothing,
    /// This one replaces it.
    Save(R),
    /// This one replaces it, and the project's progress goes, since it could not be read.
    Reset(R),
    /// It goes, with everything else that is stored of its project.
    Forget,
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
pub struct Put {
    /// The generation after it.
    pub generation: u64,
    /// Whether the project or service is new.
    pub created: bool,
    /// Whether anything changed.
    pub changed: bool,
}

/// Why a request was not accepted. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// There is no such project.
    #[error("there is no project {0}")]
    Unknown(ProjectId),
    /// The project has another owner.
    #[error("project {project} belongs to {owner}; change it there")]
    Owned {
        /// The project.
        project: ProjectId,
        /// Its owner.
        owner: Owner,
    },
    /// The document states something about stored values that is not so.
    #[error(transparent)]
    Invalid(SpecError),
    /// The project has another generation than the caller expected.
    #[error("the project is at generation {0} by now")]
    Moved(u64),
    /// It is being deleted; its name is free once nothing of it is left.
    #[error("project {0} is being deleted; try again once it is gone")]
    Deleting(ProjectId),
    /// Nothing asked for this service.
    #[error("nobody asked zexio for {0}, so it is not zexio's to remove")]
    ServiceUnknown(Service),
    /// The service has another owner.
    #[error("service {service} belongs to {owner}; change it there")]
    ServiceOwned {
        /// The service.
        service: Service,
        /// Its owner.
        owner: Owner,
    },
    /// A stored part could not be read, and this request would not replace it.
    #[error("could not change project {project}: {why}")]
    Unreadable {
        /// The project.
        project: ProjectId,
        /// Why, and what to do.
        why: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] PortError),
}
