//! Standard Webhooks: id, time and body signed together.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{HeaderMap, HeaderName};
use zeroize::Zeroizing;

use crate::model::names::SecretName;
use crate::model::quantity::Timestamp;
use crate::model::spec::StandardHook;
use crate::sign::{SKEW, hmac, parse_time, same};

use super::super::query::only;
use super::{Bump, Heard, Hook, Moved, Problem, Provider, Sent, sig_bad, sig_malformed, sig_missing};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIME: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// How many signatures a header may list; a sender that rotates its key has two.
const MOST: usize = 8;

/// The id and time of a verified delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    pub id: String,
    pub time: Timestamp,
}

/// The headers of every message.
pub const HEADERS: [(&str, &str); 3] =
    [("webhook-id", "the delivery's id"), ("webhook-timestamp", "unix seconds"), ("webhook-signature", "v1,<base64>")];

/// Standard Webhooks, with our own body format.
pub const PROVIDER: Provider = Provider {
    names: &["standard"],
    headers: &HEADERS,
    types: &["application/json"],
    hook: |hooks| Some(Box::new(hooks.standard.clone()?)),
};

impl Hook for StandardHook {
    fn secret(&self) -> &SecretName {
        &self.secret
    }

    fn hear(&self, secret: &str, sent: &Sent<'_>) -> Result<Heard, Problem> {
        let Sent { headers, body, now } = *sent;
        let Proven { id, time } = check(secret, headers, body, now)?;
        Ok(Heard::Delivery(Moved { id, made: time, bump: Bump::parse(body)?, edited: None }))
    }
}

/// Verifies a message's signature.
///
/// # Errors
/// A header is missing or malformed, no signature matches, or the timestamp is too far from now.
pub fn check(secret: &str, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<Proven, Problem> {
    let id = header(headers, &ID)?;
    // A dot in the id would let two different messages be signed as one text.
    if !(1..=256).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_graphic() && b != b'.') {
        return Err(sig_malformed("webhook-id", "an id without dots"));
    }
    let raw_time = header(headers, &TIME)?;
    let seconds = parse_time(raw_time).ok_or_else(|| sig_malformed("webhook-timestamp", "<unix seconds>"))?;
    let proof = hmac(&key(secret)?, &[id.as_bytes(), b".", raw_time.as_bytes(), b".", body]);
    check_any(header(headers, &SIGNATURE)?, &proof)?;
    if (now.0 / 1000).abs_diff(seconds) > SKEW {
        let detail = format!("sent at {seconds}, and it is {} here; at most {SKEW} s may lie between", now.0 / 1000);
        return Err(Problem::unproven("clock_skew", detail));
    }
    Ok(Proven { id: id.to_owned(), time: Timestamp(seconds * 1000) })
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Problem> {
    let found = only(headers, name).map_err(|_| sig_malformed(name.as_str(), "one value"))?;
    found.ok_or_else(|| sig_missing(name.as_str()))
}

fn key(secret: &str) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let body = secret.trim().strip_prefix("whsec_").unwrap_or(secret.trim());
    let key = Zeroizing::new(STANDARD.decode(body).unwrap_or_default());
    if key.len() < 16 {
        let detail = "the hook's secret must read whsec_ and at least 16 bytes in base64";
        return Err(Problem::conflict("hook_unready", detail));
    }
    Ok(key)
}

/// Accepts a message if one signature matches; signatures of other versions are ignored.
fn check_any(header: &str, proof: &[u8; 32]) -> Result<(), Problem> {
    let signatures: Vec<&str> = header.split(' ').filter_map(|part| part.strip_prefix("v1,")).collect();
    if signatures.is_empty() || signatures.len() > MOST {
        return Err(sig_malformed("webhook-signature", "v1,<base64>"));
    }
    let fits = |raw: &&str| STANDARD.decode(raw).is_ok_and(|found| same(&found, proof));
    if signatures.iter().filter(|raw| fits(raw)).count() > 0 { Ok(()) } else { Err(sig_bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const NOW: Timestamp = Timestamp(1_614_265_330_000);

    fn headers(signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ID, HeaderValue::from_static("msg_p5jXN8AQM9LWM0D4loKWxJek"));
        headers.insert(TIME, HeaderValue::from_static("1614265330"));
        headers.insert(SIGNATURE, HeaderValue::from_str(signature).unwrap());
        headers
    }

    fn code(signature: &str, body: &[u8], now: Timestamp) -> &'static str {
        check(SECRET, &headers(signature), body, now).map_or_else(|problem| problem.code, |_| "taken")
    }

    #[test]
    fn the_standards_own_example_is_accepted_and_its_neighbours_are_not() {
        let good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(code(good, BODY, NOW), "taken");
        assert_eq!(code(&format!("v1,AAAA v2,x {good}"), BODY, NOW), "taken");
        assert_eq!(code(good, b"{}", NOW), "sig_bad");
        assert_eq!(code("v1,AAAA", BODY, NOW), "sig_bad");
        assert_eq!(code("v2,AAAA", BODY, NOW), "sig_malformed");
        assert_eq!(code(good, BODY, Timestamp(NOW.0 + 300_000)), "taken");
        assert_eq!(code(good, BODY, Timestamp(NOW.0 + 301_000)), "clock_skew");
        assert_eq!(code(good, BODY, Timestamp(NOW.0 - 301_000)), "clock_skew");
    }

    #[test]
    fn a_secret_that_cannot_be_a_key_is_the_operators_to_mend() {
        let refused = check("hunter2", &headers("v1,AAAA"), BODY, NOW).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.code), (409, "hook_unready"));
    }
}
