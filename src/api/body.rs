//! A request's body: read within a size and time limit, and checked against the signed digest.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256 as Hasher};
use zeroize::Zeroizing;

use crate::model::names::Sha256;

use super::In;
use super::problem::Problem;

/// How long a sender may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a body that is kept in memory may take in total.
const WHOLE: Duration = Duration::from_secs(60);
/// How much of a refused body is still read, and for how long.
const LET_GO: usize = 4 << 20;
const LET_GO_WITHIN: Duration = Duration::from_secs(2);

/// Drains a refused body for a while. A connection that is closed while its client still sends is reset, and the client
/// never reads why it was refused.
pub async fn drain(incoming: &mut In) {
    let rest = async {
        let mut left = LET_GO;
        while let Some(Ok(frame)) = incoming.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(less) => left = less,
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout(LET_GO_WITHIN, rest).await;
}

/// An incoming body, limited in length and hashed while it is read.
pub struct Body<'a> {
    incoming: &'a mut In,
    hasher: Hasher,
    expected: Option<Sha256>,
    seen: u64,
    most: u64,
}

/// Refuses a body whose declared length is too long.
///
/// # Errors
/// 413: the declared length is above the limit.
pub fn check_length(headers: &HeaderMap, most: u64) -> Result<(), Problem> {
    if length(headers).is_some_and(|length| length > most) { Err(Problem::too_large(most)) } else { Ok(()) }
}

/// Returns the declared length of a body.
pub fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl<'a> Body<'a> {
    /// Starts reading; `expected` is the signed digest.
    pub fn new(incoming: &'a mut In, expected: Option<Sha256>, most: u64) -> Self {
        Self { incoming, hasher: Hasher::new(), expected, seen: 0, most }
    }

    /// Returns the next piece; none at the end.
    ///
    /// # Errors
    /// The body is too long, or the sender stopped.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let frame = tokio::time::timeout(SILENCE, self.incoming.frame()).await.map_err(|_| too_slow())?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|e| Problem::bad("bad_body", format!("the body broke off: {e}")))?;
            // Trailers are ignored.
            let Ok(piece) = frame.into_data() else { continue };
            self.seen = self.seen.saturating_add(piece.len() as u64);
            if self.seen > self.most {
                return Err(Problem::too_large(self.most));
            }
            self.hasher.update(&piece);
            return Ok(Some(piece));
        }
    }

    /// Returns the digest of the received bytes, if it matches the signed one.
    ///
    /// # Errors
    /// 401: the received bytes do not have the signed digest.
    pub fn finish(self) -> Result<Sha256, Problem> {
        let found = Sha256::of_digest(self.hasher.finalize().into());
        match &self.expected {
            Some(expected) if *expected != found => {
                Err(Problem::unproven("sig_bad", format!("the body's sha256 is {found}; {expected} was signed")))
            }
            _ => Ok(found),
        }
    }

    /// Returns how many bytes were received so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// The body is too long or too slow, the sender stopped, or the bytes do not have the signed digest.
    pub async fn read(mut self, headers: &HeaderMap) -> Result<Zeroizing<Vec<u8>>, Problem> {
        // Allocated in full at once if the length is known: a buffer that grows leaves copies of secrets behind.
        let room = length(headers).unwrap_or(0).min(self.most);
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(room).unwrap_or(0)));
        let reading = async {
            while let Some(piece) = self.piece().await? {
                bytes.extend_from_slice(&piece);
            }
            Ok::<(), Problem>(())
        };
        tokio::time::timeout(WHOLE, reading).await.map_err(|_| too_slow())??;
        self.finish()?;
        Ok(bytes)
    }
}

/// Parses a JSON object. serde also accepts an array in its place, the fields in order: that is refused as unintended.
///
/// # Errors
/// The body is not a JSON object of this type.
pub fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    let read = serde_json::from_slice(body)?;
    match body.trim_ascii_start().first() {
        Some(b'{') => Ok(read),
        _ => Err(serde::de::Error::custom("it is no object")),
    }
}

fn too_slow() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not come in time")
}
