//! Which requests a process gets, and how.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::names::{Hostname, RoutePath};

/// Which requests a process gets, or a redirect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The host, as it stands in the browser.
    pub host: Hostname,
    /// A prefix (`/api/*`) or one path; every path where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<RoutePath>,
    /// Where the host's certificate comes from.
    #[serde(default, deserialize_with = "super::switch::read")]
    #[schemars(transform = super::switch::allow_false)]
    pub tls: Tls,
    /// Headers that every answer gets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<HeaderName, HeaderText>,
    /// Answer with a redirect to this site instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Site>,
}

impl Route {
    /// Returns the first direct route: a visitor reaches the process itself, under a name of its own, so no redirect
    /// and no wildcard.
    pub fn first_direct(routes: &[Self]) -> Option<&Self> {
        routes.iter().find(|route| route.is_direct())
    }

    /// Returns whether it is direct: a visitor reaches the process by it, under a name of its own.
    pub fn is_direct(&self) -> bool {
        self.redirect.is_none() && !self.host.as_str().starts_with('*')
    }

    /// Returns whether a request for a path uses it, as far as its own path says.
    pub fn takes(&self, path: &str) -> bool {
        let path = path.split('?').next().unwrap_or_default();
        self.path.as_ref().is_none_or(|own| match own.as_str().strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => path == own.as_str(),
        })
    }
}

/// The name of a header.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeaderName(String);

impl TryFrom<String> for HeaderName {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let fits = (1..=64).contains(&raw.len())
            && raw.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !raw.starts_with('-');
        if fits { Ok(Self(raw)) } else { Err(format!("{raw:?} is not a header's name like X-Frame-Options")) }
    }
}

impl From<HeaderName> for String {
    fn from(name: HeaderName) -> String {
        name.0
    }
}

/// The text of a header: printable, and nothing that a Caddyfile would take for more than text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeaderText(String);

impl TryFrom<String> for HeaderText {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let plain = |b: u8| (b' '..=b'~').contains(&b) && !b"{}\"`\\$".contains(&b);
        let fits = (1..=1000).contains(&raw.len()) && raw.bytes().all(plain);
        if fits {
            Ok(Self(raw))
        } else {
            Err(format!("{raw:?} is not a header's text: printable, without {{ }} \" ` \\ $"))
        }
    }
}

impl From<HeaderText> for String {
    fn from(text: HeaderText) -> String {
        text.0
    }
}

/// Where a certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// A public certificate, by ACME.
    #[default]
    Auto,
    /// A certificate of Caddy's own authority.
    Internal,
    /// None: plain HTTP.
    Off,
}

/// The site that a redirect leads to: scheme and host, nothing else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Site(String);

impl Site {
    /// Returns the site without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Site {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("{raw:?} is not a site like https://shop.example.com: {why}"));
        let Some(host) = raw.strip_prefix("https://").or_else(|| raw.strip_prefix("http://")) else {
            return wrong("it begins with https:// or http://, in lower case");
        };
        let host = host.trim_end_matches('/');
        if host.contains('/') {
            return wrong("it has no path; each request keeps its own");
        }
        match Hostname::parse(host) {
            Ok(_) => Ok(Self(raw.trim_end_matches('/').to_owned())),
            Err(bad) => wrong(&bad.rule),
        }
    }
}

impl From<Site> for String {
    fn from(site: Site) -> String {
        site.0
    }
}
