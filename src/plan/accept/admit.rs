//! Admission: the check that each spec passes before it is stored, whichever input it came through.

use std::sync::Arc;

use crate::model::document;
use crate::model::names::ProjectId;
use crate::model::problem::{Problem, SpecError};
use crate::model::quantity::Timestamp;
use crate::model::spec::{Document, Source, Spec};
use crate::model::spec_rules;

/// Returns whether the agent may fetch a URL, or why not.
pub type UrlCheck = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// The origin of a document, which decides what it may refer to.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    /// A request. It may reference stored values, and keep hidden values unchanged.
    Request {
        /// The project's stored spec.
        stored: Option<&'a Spec>,
        now: Timestamp,
    },
    /// A file. A schedule that has ended since the file was written was valid then.
    File { written: Timestamp },
}

/// A document that may be stored. Stored specs are read without admission: rules added later do not apply to them.
#[derive(Debug, Clone)]
pub struct Admitted(Document);

impl Admitted {
    /// Returns the project.
    pub fn project(&self) -> &ProjectId {
        &self.0.project
    }

    /// Returns the document.
    pub fn into_document(self) -> Document {
        self.0
    }
}

/// Admits a document that was parsed from a text.
///
/// # Errors
/// Every problem, with its place in the text.
pub fn admit(
    text: &[u8],
    mut document: Document,
    origin: Origin<'_>,
    check_url: &UrlCheck,
) -> Result<Admitted, SpecError> {
    let problems = match origin {
        Origin::Request { stored, now } => {
            let mut problems = spec_rules::restore_hidden_urls(&mut document, stored);
            problems.extend(spec_rules::ended_schedules(&document, stored, now));
            problems
        }
        Origin::File { written } => {
            let mut problems = spec_rules::file_problems(&mut document);
            problems.extend(spec_rules::ended_schedules(&document, None, written));
            problems
        }
    };
    // A URL that is hidden and unknown cannot be checked.
    let url = match document.artifact.source() {
        Some(Source::Url { url, .. }) if problems.is_empty() => Some(url),
        Some(_) | None => None,
    };
    let forbidden = url.and_then(|url| check_url(url).err()).map(|why| Problem::at("artifact.url", why));
    document::located(text, problems.into_iter().chain(forbidden).collect())?;
    Ok(Admitted(document))
}
