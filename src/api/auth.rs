//! Authentication and authorisation. All of it happens before the body is read, except for the check of its digest at
//! the end.

use std::sync::Arc;

use hyper::header::{CONTENT_TYPE, HOST, HeaderMap};
use hyper::{StatusCode, Uri};

use crate::model::names::{KeyId, Sha256};
use crate::model::quantity::Timestamp;
use crate::sign::{self, Head, Signature};

use super::problem::Problem;
use super::query::only;
use super::route::Target;
use super::{ApiState, Line, Origin, blocking};
use crate::keys::Scope;

/// How long a nonce is kept after its request's time, in seconds: longer than its signature is accepted.
const REMEMBERED: u64 = 600;

/// Returns the host that a request is for.
///
/// # Errors
/// There is not exactly one, or the request line names another.
pub fn host(uri: &Uri, headers: &HeaderMap) -> Result<String, Problem> {
    let bad = |detail: &str| Problem::bad("bad_host", detail);
    let host = match only(headers, &HOST) {
        Ok(Some(host)) => host.to_owned(),
        _ => return Err(bad("a request has exactly one Host header")),
    };
    match uri.authority() {
        Some(named) if !named.as_str().eq_ignore_ascii_case(&host) => {
            Err(bad("the request line and the Host header name different hosts"))
        }
        _ => Ok(host),
    }
}

/// Authorises a request; returns the expected digest of its body and the key that signed it.
///
/// # Errors
/// The request is not correctly signed, or its key may not do this.
pub async fn check(
    state: &Arc<ApiState>,
    origin: &Origin,
    target: &Target,
    line: &Line,
    headers: &HeaderMap,
) -> Result<(Sha256, KeyId), Problem> {
    let (signature, scope) = prove(state, origin, line, headers).await?;
    check_scope(&scope, target)?;
    if !line.method.is_safe() {
        take_nonce(state, &signature).await?;
    }
    Ok((signature.stamp.body, signature.stamp.kid))
}

/// Verifies that a request was signed recently by one of our keys; returns the signature and the key's scope.
///
/// # Errors
/// The request is not correctly signed.
pub async fn prove(
    state: &Arc<ApiState>,
    origin: &Origin,
    line: &Line,
    headers: &HeaderMap,
) -> Result<(Signature, Scope), Problem> {
    let signature = signature(origin, headers)?;
    let content_type = only(headers, &CONTENT_TYPE)
        .map_err(|_| Problem::bad("bad_header", "a request has at most one Content-Type header"))?
        .unwrap_or_default()
        .to_owned();
    let kid = signature.stamp.kid.clone();
    let key = blocking(state, move |state| Ok(state.keys.find(&kid))).await?;
    let (key, scope) = key.ok_or_else(|| Problem::unproven("key_unknown", "there is no such key"))?;
    check_time(&signature, state.clock.now())?;
    // A client on the socket reached it as `localhost`, whatever its library calls it.
    let host = if origin.local { "localhost" } else { &line.host };
    let (path, query) = (line.uri.path(), line.uri.query().unwrap_or_default());
    let head = Head { method: line.method.as_str(), host, path, query, content_type: &content_type };
    if !signature.is_by(&key, &head) {
        return Err(Problem::unproven("sig_bad", "the signature is not that of this request by this key"));
    }
    Ok((signature, scope))
}

fn signature(origin: &Origin, headers: &HeaderMap) -> Result<Signature, Problem> {
    let malformed = || {
        let form = "X-Signature: v1,kid=<kid>,t=<unix seconds>,n=<32 hex>,d=<sha256 hex of the body>,s=<hmac hex>";
        Problem::unproven("sig_malformed", format!("the one header must read {form}"))
    };
    let mut values = headers.get_all(sign::HEADER).iter();
    let Some(value) = values.next() else {
        return Err(Problem::unproven("sig_missing", "the request has no X-Signature header"));
    };
    match values.next() {
        None if !origin.flaws.padded_signature() => Signature::parse(value.as_bytes()).ok_or_else(malformed),
        _ => Err(malformed()),
    }
}

fn check_time(signature: &Signature, now: Timestamp) -> Result<(), Problem> {
    let seconds = now.0 / 1000;
    if signature.is_fresh(seconds) {
        return Ok(());
    }
    let detail = format!(
        "signed at {}, and it is {seconds} here; at most {} s may lie between: check both clocks",
        signature.stamp.time,
        sign::SKEW
    );
    Err(Problem::unproven("clock_skew", detail))
}

fn check_scope(scope: &Scope, target: &Target) -> Result<(), Problem> {
    if target.permission.is_met_by(scope, target.project.as_ref()) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "scope", format!("a key with scope {scope} may not do this")))
}

async fn take_nonce(state: &Arc<ApiState>, signature: &Signature) -> Result<(), Problem> {
    let stamp = signature.stamp.clone();
    let expires = Timestamp((stamp.time + REMEMBERED) * 1000);
    let new =
        blocking(state, move |state| Ok(state.desired_store.take_nonce(&stamp.kid, stamp.nonce.as_str(), expires)?));
    match new.await? {
        true => Ok(()),
        false => Err(Problem::unproven("replayed", "a request with this nonce came before")),
    }
}
