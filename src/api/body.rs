//! A request's body: read within a limit and a time, and held against the digest that was signed.

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
/// How long a body that is kept in memory may take as a whole.
const WHOLE: Duration = Duration::from_secs(60);
/// How much of a refused body is read all the same, and for how long.
const LET_GO: usize = 4 << 20;
const LET_GO_WITHIN: Duration = Duration::from_secs(2);

/// Reads on for a while what nobody wants any more. A connection that is closed while its client still sends is reset,
/// and the client never reads why it was refused.
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

/// A body on its way in.
pub struct Body<'a> {
    incoming: &'a mut In,
    hasher: Hasher,
    expected: Option<Sha256>,
    seen: u64,
    most: u64,
}

/// Refuses a body that says itself that it is too long.
///
/// # Errors
/// It does.
pub fn check_length(headers: &HeaderMap, most: u64) -> Result<(), Problem> {
    if length(headers).is_some_and(|length| length > most) { Err(Problem::too_large(most)) } else { Ok(()) }
}

/// Returns how long a body says itself that it is.
pub fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl<'a> Body<'a> {
    /// Begins; `expected` is the digest that was signed.
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
            // Trailers are nothing to us.
            let Ok(piece) = frame.into_data() else { continue };
            self.seen = self.seen.saturating_add(piece.len() as u64);
            if self.seen > self.most {
                return Err(Problem::too_large(self.most));
            }
            self.hasher.update(&piece);
            return Ok(Some(piece));
        }
    }

    /// Returns the digest of what came, if it is what was signed.
    ///
    /// # Errors
    /// It is not.
    pub fn finish(self) -> Result<Sha256, Problem> {
        let found = Sha256::of_digest(self.hasher.finalize().into());
        match &self.expected {
            Some(expected) if *expected != found => {
                Err(Problem::unproven("sig_bad", format!("the body's sha256 is {found}; {expected} was signed")))
            }
            _ => Ok(found),
        }
    }

    /// Returns how many bytes came so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// As `piece` and `finish`.
    pub async fn read(mut self, headers: &HeaderMap) -> Result<Zeroizing<Vec<u8>>, Problem> {
        // At once in its full length where that is known: a buffer that grows leaves copies of secrets behind.
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

/// Reads a JSON object. serde also takes an array in its place, the fields in order: nobody means that.
///
/// # Errors
/// It is no such object.
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
