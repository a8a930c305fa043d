//! The client's key, and the signature that it makes for a request.

use std::path::{Path, PathBuf};

use url::Url;
use zeroize::Zeroizing;

use super::failure::Failure;
use crate::host::clock::SystemClock;
use crate::model::names::{KeyId, Sha256};
use crate::port::Clock;
use crate::settings::KEYS;
use crate::sign::{Head, Key, Nonce, Stamp, digest, sign};

/// Signs requests with one key.
pub struct Signer {
    kid: KeyId,
    key: Key,
}

impl Signer {
    /// Reads the key; its file's name is its id. Default: `admin`.
    ///
    /// # Errors
    /// The key could not be read; the message names the file and the fix.
    pub fn read(given: Option<&Path>) -> Result<Self, Failure> {
        let path = given.map_or_else(|| PathBuf::from(KEYS).join("admin"), Path::to_owned);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let kid = KeyId::parse(name).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
        let text = std::fs::read_to_string(&path).map(Zeroizing::new).map_err(|e| {
            let hint = if given.is_some() {
                ""
            } else {
                "; run as root, or name a key with --key; `zexio init` makes this one"
            };
            Failure::new(format!("could not read the key {}: {e}{hint}", path.display()))
        })?;
        let key = Key::parse(&text).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
        Ok(Self { kid, key })
    }

    /// Returns the X-Signature of a request that is sent now.
    ///
    /// # Errors
    /// The machine provides no random bytes.
    pub fn header(&self, head: &Head<'_>, body: &[u8]) -> Result<String, Failure> {
        self.header_of_digest(head, digest(body))
    }

    /// Returns the X-Signature of a request that is sent now and whose body has this hash.
    ///
    /// # Errors
    /// The machine provides no random bytes.
    pub fn header_of_digest(&self, head: &Head<'_>, body: Sha256) -> Result<String, Failure> {
        let now = SystemClock.now().0 / 1000;
        Ok(self.header_at(head, body, now, Nonce::generate()?))
    }

    fn header_at(&self, head: &Head<'_>, body: Sha256, time: u64, nonce: Nonce) -> String {
        let stamp = Stamp { kid: self.kid.clone(), time, nonce, body };
        sign(&self.key, head, stamp).to_string()
    }
}

/// The request given to `zexio sign`.
pub struct Target {
    method: String,
    host: String,
    path: String,
    query: String,
}

impl Target {
    /// Parses method and URL. The path stays as written: what curl sends is what must be signed.
    ///
    /// # Errors
    /// The text is not a URL; the message shows one.
    pub fn parse(method: &str, raw: &str) -> Result<Self, Failure> {
        let url = Url::parse(raw).ok().filter(|url| url.host_str().is_some());
        let url = url.ok_or_else(|| Failure::new(format!("{raw:?} is not a URL like http://localhost/v1/projects")))?;
        let rest = raw.split_once("://").map_or("", |(_, rest)| rest);
        let rest = rest.split('#').next().unwrap_or_default();
        let target = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = if path.is_empty() { "/" } else { path };
        let (host, method) = (host_of(&url), method.to_ascii_uppercase());
        Ok(Self { method, host, path: path.to_owned(), query: query.to_owned() })
    }

    /// Returns the parts of the request that are signed.
    pub fn head<'a>(&'a self, content_type: &'a str) -> Head<'a> {
        Head { method: &self.method, host: &self.host, path: &self.path, query: &self.query, content_type }
    }
}

/// Returns the Host header: with the port unless it is the scheme's default.
pub fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_example_is_what_sign_prints() {
        let key = Key::from_bytes(std::array::from_fn(|i| i as u8));
        let signer = Signer { kid: KeyId::parse("k1").unwrap(), key };
        let body = br#"{"project":"demo","artifact":{"url":"https://cdn.example.com/demo-1.2.3.tar.gz","sha256":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}}"#;
        let target = Target::parse("put", "https://agent.example.com:8443/v1/projects/demo").unwrap();
        let nonce = Nonce::parse("5f1c2d3e4b5a69788796a5b4c3d2e1f0").unwrap();
        assert_eq!(
            signer.header_at(&target.head("application/json"), digest(body), 1_767_225_600, nonce),
            "v1,kid=k1,t=1767225600,n=5f1c2d3e4b5a69788796a5b4c3d2e1f0,d=c2d42f7c3777cf03fc5992bfdd975f755b290951d18a04497f9e24b317159099,s=c8e24bed2cf6d571383d3c04a3b9e5f9f5027db418570a58e9b1d12f46b3690a"
        );
    }

    #[test]
    fn a_url_is_signed_as_it_is_written() {
        let parts = |raw: &str| Target::parse("GET", raw).map(|t| (t.host, t.path, t.query)).unwrap();
        let made = |host: &str, path: &str, query: &str| (host.to_owned(), path.to_owned(), query.to_owned());
        assert_eq!(parts("http://localhost/v1/events?follow=true#x"), made("localhost", "/v1/events", "follow=true"));
        assert_eq!(parts("https://a.example.com:443/a%2fb/../c"), made("a.example.com", "/a%2fb/../c", ""));
        assert_eq!(parts("http://127.0.0.1:7470"), made("127.0.0.1:7470", "/", ""));
        assert_eq!(parts("http://a.example.com?x=/y"), made("a.example.com", "/", "x=/y"));
        assert!(Target::parse("GET", "/v1/projects").is_err());
    }

    #[test]
    fn a_missing_key_says_which_and_what_to_do() {
        let Err(failure) = Signer::read(Some(Path::new("/nowhere/ci"))) else { panic!("read") };
        assert!(failure.message.starts_with("could not read the key /nowhere/ci"), "{}", failure.message);
    }
}
