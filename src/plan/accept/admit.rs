//! Admission: the check that each spec passes on its way to a store, whichever input it came through.

use std::sync::Arc;

use crate::model::document::{self, Problem, SpecError};
use crate::model::fit;
use crate::model::names::ProjectId;
use crate::model::quantity::Timestamp;
use crate::model::spec::{Document, Source, Spec};

/// Tells whether the agent may fetch a URL, or why not.
pub type UrlCheck = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Where a document comes from, which decides what it may refer to.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    /// A request. It may name stored values, and hide what it leaves as it is.
    Request {
        /// The spec that is stored of the project.
        stored: Option<&'a Spec>,
        /// The moment.
        now: Timestamp,
    },
    /// A file. A schedule that is over since then was right when it was written.
    File {
        /// When it was written.
        written: Timestamp,
    },
}

/// A document that may be stored. Stored specs are read without admission: rules that came later do not hold for them.
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

/// Admits a document that was read from a text.
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
            let mut problems = fit::restore(&mut document, stored);
            problems.extend(fit::over(&document, stored, now));
            problems
        }
        Origin::File { written } => {
            let mut problems = fit::in_a_file(&mut document);
            problems.extend(fit::over(&document, None, written));
            problems
        }
    };
    // A URL that is hidden and unknown is no URL to check.
    let url = match document.artifact.source() {
        Some(Source::Url { url, .. }) if problems.is_empty() => Some(url),
        Some(_) | None => None,
    };
    let forbidden = url.and_then(|url| check_url(url).err()).map(|why| Problem::at("artifact.url", why));
    document::located(text, problems.into_iter().chain(forbidden).collect())?;
    Ok(Admitted(document))
}
