//! How a process shows that it is ready.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_false;
use crate::model::quantity::Span;

/// When a process counts as ready: exactly one of `http`, `tcp`, `notify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["http"] },
    { "required": ["tcp"], "properties": { "tcp": { "const": true } } },
    { "required": ["notify"], "properties": { "notify": { "const": true } } },
]))]
pub struct Ready {
    /// A path that answers 2xx or 3xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<ProbePath>,
    /// The name that is asked for, in the `Host` header. Without it, that of the process's first route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<ProbeHost>,
    /// The port takes connections.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tcp: bool,
    /// The process tells systemd itself (sd_notify).
    #[serde(default, skip_serializing_if = "is_false")]
    pub notify: bool,
    /// How long it may take from its start.
    #[serde(default = "Ready::default_within")]
    pub within: Span,
    /// How long one probe may take.
    #[serde(default = "Ready::default_timeout")]
    pub timeout: Span,
    /// How long between two probes.
    #[serde(default = "Ready::default_interval")]
    pub interval: Span,
}

impl Ready {
    fn default_within() -> Span {
        Span::seconds(60)
    }
    fn default_timeout() -> Span {
        Span::seconds(2)
    }
    fn default_interval() -> Span {
        Span(250)
    }
    /// Returns the check of a web process that names none.
    pub fn default_tcp() -> Self {
        Self {
            http: None,
            host: None,
            tcp: true,
            notify: false,
            within: Self::default_within(),
            timeout: Self::default_timeout(),
            interval: Self::default_interval(),
        }
    }
}

/// The path of an HTTP probe; the host and port are never the spec's to choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProbePath(String);

impl ProbePath {
    /// Returns the path, with its query if it has one.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ProbePath {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._~/-?=&%".contains(&b);
        let fits = raw.starts_with('/') && !raw.starts_with("//") && raw.len() <= 200 && raw.bytes().all(plain);
        if fits { Ok(Self(raw)) } else { Err(format!("{raw:?} is not a path like /up")) }
    }
}

impl From<ProbePath> for String {
    fn from(path: ProbePath) -> String {
        path.0
    }
}

/// The name that a probe asks for: a public one, or whatever else the app answers to, like `localhost`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProbeHost(String);

impl fmt::Display for ProbeHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ProbeHost {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-:[]".contains(&b);
        let fits = (1..=253).contains(&raw.len()) && raw.bytes().all(plain);
        if fits { Ok(Self(raw)) } else { Err(format!("{raw:?} is not a host like shop.example.com")) }
    }
}

impl From<ProbeHost> for String {
    fn from(host: ProbeHost) -> String {
        host.0
    }
}
