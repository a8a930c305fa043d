//! The signature on every API request: what is signed, how it is encoded, how it is verified.
//!
//! Pure: no clock, no files, no sockets. The server keeps the keys and the nonces seen.

use std::fmt;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256 as Hasher};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::model::names::{KeyId, Sha256};

/// The signature header, in the lower case that HTTP libraries require.
pub const HEADER: &str = "x-signature";
/// Allowed clock skew of a request, in seconds.
pub const SKEW: u64 = 300;
/// The first signed line: separates this scheme from any other.
const SCHEME: &str = "ZEXIO1-HMAC-SHA256";
/// Prefix of a key's text, so that secret scanners find a leaked one.
const KEY_PREFIX: &str = "zxs_";
/// Longest valid header; a longer one is not parsed.
const LONGEST: usize = 320;

/// The base64 of keys. Padding is optional when reading.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A key's 32 bytes. It has no Debug output and is zeroed on drop.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

/// A text is not a key. Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key: zxs_ and 32 bytes in base64url")]
pub struct BadKey;

impl Key {
    /// Creates a key from its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Parses a key's text; surrounding white space, which editors leave, is ignored.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let body = text.trim().strip_prefix(KEY_PREFIX).ok_or(BadKey)?;
        let decoded = Zeroizing::new(BASE64.decode(body).map_err(|_| BadKey)?);
        let mut bytes = <[u8; 32]>::try_from(decoded.as_slice()).map_err(|_| BadKey)?;
        let key = Self::from_bytes(bytes);
        bytes.zeroize();
        Ok(key)
    }

    /// Generates a key. Fails if the machine has no random bytes.
    pub fn generate() -> Result<Self, String> {
        let mut key = Self::from_bytes([0; 32]);
        getrandom::fill(key.0.as_mut_slice()).map_err(|e| format!("could not make a key: {e}"))?;
        Ok(key)
    }

    /// Returns the key's text, for its file.
    pub fn text(&self) -> Zeroizing<String> {
        let body = Zeroizing::new(BASE64.encode(self.0.as_slice()));
        Zeroizing::new(format!("{KEY_PREFIX}{}", body.as_str()))
    }

    fn proof(&self, signed: &str) -> [u8; 32] {
        hmac(self.0.as_slice(), &[signed.as_bytes()])
    }
}

/// Computes HMAC-SHA256 over the concatenated parts.
pub fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = match Hmac::<Hasher>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of every length"),
    };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// Compares two MACs in constant time.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

/// Returns the SHA-256 of a body.
pub fn digest(body: &[u8]) -> Sha256 {
    Sha256::of_digest(Hasher::digest(body).into())
}

/// A number used once: 32 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// Parses 32 hex digits.
    pub fn parse(raw: &str) -> Option<Self> {
        is_hex(raw, 32).then(|| Self(raw.to_owned()))
    }

    /// Generates a nonce. Fails if the machine has no random bytes.
    pub fn generate() -> Result<Self, String> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|e| format!("could not make a nonce: {e}"))?;
        Ok(Self(hex::encode(bytes)))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is signed of a request besides its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<'a> {
    /// In upper case.
    pub method: &'a str,
    /// With its port if one was sent; case-insensitive.
    pub host: &'a str,
    /// As sent.
    pub path: &'a str,
    /// As sent; empty if there is none.
    pub query: &'a str,
    /// Case-insensitive; empty if there is none.
    pub content_type: &'a str,
}

/// The header without its MAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    pub kid: KeyId,
    /// The time of signing, in seconds since 1970.
    pub time: u64,
    /// Distinguishes two otherwise equal requests.
    pub nonce: Nonce,
    pub body: Sha256,
}

/// The header's value. Its `Display` is the only form that `parse` accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub stamp: Stamp,
    proof: [u8; 32],
}

/// Returns the signed text: ten lines, none of which can contain a line break.
pub fn canonical(head: &Head<'_>, stamp: &Stamp) -> String {
    let time = stamp.time.to_string();
    let (host, content_type) = (head.host.to_lowercase(), head.content_type.to_lowercase());
    [
        SCHEME,
        stamp.kid.as_str(),
        &time,
        stamp.nonce.as_str(),
        head.method,
        &host,
        head.path,
        head.query,
        &content_type,
        stamp.body.as_str(),
    ]
    .join("\n")
}

/// Signs a request.
pub fn sign(key: &Key, head: &Head<'_>, stamp: Stamp) -> Signature {
    let proof = key.proof(&canonical(head, &stamp));
    Signature { stamp, proof }
}

impl Signature {
    /// Parses a header's value: five fields in order, nothing before, between or after them.
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(raw).ok().filter(|text| text.len() <= LONGEST)?;
        let mut fields = text.split(',');
        let mut next = |name: &str| fields.next().and_then(|field| field.strip_prefix(name));
        next("v1").filter(|rest| rest.is_empty())?;
        let kid = KeyId::parse(next("kid=")?).ok()?;
        let time = parse_time(next("t=")?)?;
        let nonce = Nonce::parse(next("n=")?)?;
        let body = Sha256::parse(next("d=")?).ok()?;
        let proof = parse_proof(next("s=")?)?;
        let nothing_more = fields.next().is_none();
        nothing_more.then_some(Self { stamp: Stamp { kid, time, nonce, body }, proof })
    }

    /// Whether this key signed this request, in constant time.
    pub fn is_by(&self, key: &Key, head: &Head<'_>) -> bool {
        same(&key.proof(&canonical(head, &self.stamp)), &self.proof)
    }

    /// Whether it was signed within the allowed skew of `now`, in seconds since 1970.
    pub fn is_fresh(&self, now: u64) -> bool {
        now.abs_diff(self.stamp.time) <= SKEW
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stamp { kid, time, nonce, body } = &self.stamp;
        write!(f, "v1,kid={kid},t={time},n={},d={body},s={}", nonce.as_str(), hex::encode(self.proof))
    }
}

/// Parses the hex of a SHA-256, lower case only: two spellings of one MAC would look like two requests to a comparison.
pub fn parse_proof(raw: &str) -> Option<[u8; 32]> {
    let mut proof = [0; 32];
    is_hex(raw, 64).then(|| hex::decode_to_slice(raw, &mut proof).ok()).flatten().map(|()| proof)
}

fn is_hex(raw: &str, length: usize) -> bool {
    raw.len() == length && raw.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Parses decimal digits without a sign or leading zeros: one time has one spelling.
pub fn parse_time(raw: &str) -> Option<u64> {
    let plain = (1..=12).contains(&raw.len()) && raw.bytes().all(|b| b.is_ascii_digit());
    let canonical = plain && (raw == "0" || !raw.starts_with('0'));
    canonical.then(|| raw.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"project":"demo","artifact":{"url":"https://cdn.example.com/demo-1.2.3.tar.gz","sha256":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}}"#;
    const VECTOR: &str = "v1,kid=k1,t=1767225600,n=5f1c2d3e4b5a69788796a5b4c3d2e1f0,d=c2d42f7c3777cf03fc5992bfdd975f755b290951d18a04497f9e24b317159099,s=c8e24bed2cf6d571383d3c04a3b9e5f9f5027db418570a58e9b1d12f46b3690a";

    fn key() -> Key {
        Key::from_bytes(std::array::from_fn(|i| i as u8))
    }

    fn head() -> Head<'static> {
        Head {
            method: "PUT",
            host: "agent.example.com:8443",
            path: "/v1/projects/demo",
            query: "",
            content_type: "application/json",
        }
    }

    fn parsed(raw: &str) -> Option<Signature> {
        Signature::parse(raw.as_bytes())
    }

    #[test]
    fn the_contracts_example_is_what_we_sign_and_what_we_accept() {
        let stamp = Stamp {
            kid: KeyId::parse("k1").unwrap(),
            time: 1_767_225_600,
            nonce: Nonce::parse("5f1c2d3e4b5a69788796a5b4c3d2e1f0").unwrap(),
            body: digest(BODY.as_bytes()),
        };
        assert_eq!(sign(&key(), &head(), stamp).to_string(), VECTOR);
        assert!(parsed(VECTOR).unwrap().is_by(&key(), &head()));
    }

    #[test]
    fn a_signature_holds_for_one_request_only() {
        let signature = parsed(VECTOR).unwrap();
        let other_case = Head { host: "AGENT.example.com:8443", content_type: "Application/JSON", ..head() };
        assert!(signature.is_by(&key(), &other_case));
        for other in [
            Head { method: "DELETE", ..head() },
            Head { host: "agent.example.com", ..head() },
            Head { path: "/v1/projects/demo2", ..head() },
            Head { query: "dry_run=true", ..head() },
            Head { content_type: "", ..head() },
        ] {
            assert!(!signature.is_by(&key(), &other), "{other:?}");
        }
        assert!(!signature.is_by(&Key::from_bytes([7; 32]), &head()));
        let replaced = VECTOR.replace("t=1767225600", "t=1767225601");
        assert!(!parsed(&replaced).unwrap().is_by(&key(), &head()));
        assert!(!parsed(&VECTOR.replace("s=c8", "s=c9")).unwrap().is_by(&key(), &head()));
    }

    #[test]
    fn a_header_has_one_spelling() {
        let with_newline = VECTOR.replace("kid=k1", "kid=k\n1");
        for raw in [
            "",
            "v1",
            &format!("{VECTOR} "),
            &format!(" {VECTOR}"),
            &format!("{VECTOR},"),
            &format!("{VECTOR},x=1"),
            &VECTOR.replace("s=c8e2", "s=C8E2"),
            &VECTOR.replace("d=c2d4", "d=C2D4"),
            &VECTOR.replace("n=5f1c", "n=5F1C"),
            &VECTOR.replace("n=5f1c", "n=5f1"),
            &VECTOR.replace("t=1767225600", "t=01767225600"),
            &VECTOR.replace("t=1767225600", "t=+1767225600"),
            &VECTOR.replace("t=1767225600", "t=-1"),
            &VECTOR.replace("t=1767225600", "t=1767225600000000000000"),
            &VECTOR.replace("v1,", "v2,"),
            &VECTOR.replace("v1,", "v1x,"),
            &VECTOR.replace("kid=k1,", ""),
            &VECTOR.replace("kid=k1", "kid="),
            &VECTOR.replace("kid=k1", "kid=../k1"),
            &VECTOR.replace(",t=", ", t="),
            &with_newline,
        ] {
            assert_eq!(parsed(raw), None, "{raw:?}");
        }
        assert_eq!(Signature::parse(&[0xff; 40]), None);
        assert_eq!(Signature::parse(&[b','; 100_000]), None);
    }

    #[test]
    fn five_minutes_either_way_are_fresh_and_a_second_more_is_not() {
        let signature = parsed(VECTOR).unwrap();
        for (now, fresh) in [(0, true), (300, true), (301, false)] {
            assert_eq!(signature.is_fresh(1_767_225_600 + now), fresh);
            assert_eq!(signature.is_fresh(1_767_225_600 - now), fresh);
        }
    }

    #[test]
    fn what_is_signed_is_read_back_and_holds_for_every_key_and_body() {
        for round in 0..200u32 {
            let key = Key::generate().unwrap();
            let body = round.to_le_bytes().repeat(round as usize % 7);
            let kid = KeyId::parse(&format!("k_{round}-x")).unwrap();
            let time = u64::from(round) * 40_000_003;
            let stamp = Stamp { kid, time, nonce: Nonce::generate().unwrap(), body: digest(&body) };
            let signature = sign(&key, &head(), stamp);
            let text = signature.to_string();
            assert_eq!(parsed(&text), Some(signature));
            assert!(parsed(&text).unwrap().is_by(&Key::parse(&key.text()).unwrap(), &head()));
            // Any one changed digit makes it an invalid header or signature.
            let at = (round as usize * 13) % text.len();
            let mut bytes = text.into_bytes();
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
            assert!(!Signature::parse(&bytes).is_some_and(|changed| changed.is_by(&key, &head())), "byte {at}");
        }
    }

    #[test]
    fn a_keys_text_is_read_with_and_without_its_padding() {
        let text = key().text();
        assert_eq!(text.as_str(), "zxs_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8");
        for good in [format!("{}\n", text.as_str()), format!("{}=", text.as_str())] {
            assert!(Key::parse(&good).is_ok_and(|read| read.text() == text), "{good:?}");
        }
        for bad in
            ["", "zxs_", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "zxs_AAEC", "zxs_not base64!", "ZXS_AAEC"]
        {
            assert!(Key::parse(bad).is_err(), "{bad:?}");
        }
    }
}
