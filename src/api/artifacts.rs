//! Artifacts that are uploaded instead of fetched. None is visible before its digest matches the signed one.

use hyper::StatusCode;
use serde_json::json;

use crate::port::Upload;

use super::body::{self, Body};
use super::problem::Problem;
use super::{Answer, Call, blocking, json, slot};

/// How many bytes are buffered before they are written.
const BATCH: usize = 256 << 10;

/// Answers `POST /v1/artifacts`.
///
/// # Errors
/// The artifact is too long, does not match the signed digest, or cannot be written.
pub async fn upload(call: &Call, mut body: Body<'_>) -> Answer {
    call.query(&[])?;
    let _slot = slot(&call.state.slots.uploads)?;
    let bytes = body::length(&call.headers).unwrap_or(0);
    let mut upload = call.ask(move |state| Ok(state.uploads.begin(bytes)?)).await?;
    let mut batch = Vec::with_capacity(BATCH);
    while let Some(piece) = body.piece().await? {
        batch.extend_from_slice(&piece);
        if batch.len() >= BATCH {
            upload = write(call, upload, std::mem::take(&mut batch)).await?;
        }
    }
    if !batch.is_empty() {
        upload = write(call, upload, batch).await?;
    }
    let bytes = body.seen();
    if bytes == 0 {
        return Err(Problem::bad("bad_body", "the body is the artifact, and it is empty"));
    }
    let sha256 = body.finish()?;
    let name = sha256.clone();
    // Stored: a spec that waits for this file can continue.
    call.write(move |_| Ok(upload.keep(&name)?)).await?;
    json(StatusCode::OK, &json!({ "sha256": sha256, "bytes": bytes }))
}

async fn write(call: &Call, mut upload: Box<dyn Upload>, batch: Vec<u8>) -> Result<Box<dyn Upload>, Problem> {
    let written = blocking(&call.state, move |_| {
        upload.write(&batch)?;
        Ok(upload)
    });
    written.await
}
