//! The inputs of a project's status.

use std::collections::BTreeSet;

use crate::model::desired::DesiredProject;
use crate::model::failure::PortError;
use crate::model::names::{Hostname, ProjectId};
use crate::model::observed::{Observed, ObservedProject};
use crate::model::progress::ProjectProgress;
use crate::model::reason::Reason;
use crate::model::status::Status;

/// The inputs of a project's status.
pub struct StatusInput<'a> {
    pub project: &'a ProjectId,
    pub wanted: &'a DesiredProject,
    pub progress: &'a ProjectProgress,
    /// What was observed of the project.
    pub seen: &'a ObservedProject,
    /// The previous status.
    pub before: Option<&'a Status>,
    /// What was observed of the whole machine.
    pub observed: &'a Observed,
    /// The hosts of all projects that Caddy does not serve as desired.
    pub unserved: &'a BTreeSet<Hostname>,
    /// The projects of which a start waits, the next one first.
    pub queue: &'a [ProjectId],
    /// Why Caddy refused the routes.
    pub route_error: Option<&'a PortError>,
    /// Why a changed template is not used.
    pub template_error: Option<&'a str>,
}

/// A reason and a sentence.
pub(super) type Finding = (Reason, String);
