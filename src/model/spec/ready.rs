//! How a process shows that it is ready.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Route, Tls, is_false};
use crate::model::quantity::Span;

/// When a process counts as ready: exactly one of `http`, `tcp`, `notify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Written", into = "Written")]
pub struct Ready {
    /// What shows it.
    pub check: Check,
    /// How long it may take from its start.
    pub within: Span,
    /// How long one probe may take.
    pub timeout: Span,
    /// How long between two probes.
    pub interval: Span,
}

/// What shows that a process is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// A path answers 2xx or 3xx.
    Http {
        /// The path.
        path: ProbePath,
        /// The host name to request. Without it, that of the process's first route.
        host: Option<ProbeHost>,
    },
    /// The port takes connections.
    Tcp,
    /// The process notifies systemd itself.
    Notify,
}

/// The keys of which a check has exactly one.
const CHECKS: [&str; 3] = ["http", "tcp", "notify"];

/// Says the same to an editor: one of the keys and, if it is a switch, switched on.
fn one_of() -> Value {
    let required = |key: &str| match key {
        "http" => json!({ "required": [key] }),
        _ => json!({ "required": [key], "properties": { key: { "const": true } } }),
    };
    CHECKS.map(required).into()
}

/// A readiness check as it is written.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = one_of()))]
struct Written {
    /// A path that answers 2xx or 3xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<ProbePath>,
    /// The name that is asked for, in the `Host` header. Without it, that of the process's first route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<ProbeHost>,
    /// The port takes connections.
    #[serde(default, skip_serializing_if = "is_false")]
    tcp: bool,
    /// The process tells systemd itself (sd_notify).
    #[serde(default, skip_serializing_if = "is_false")]
    notify: bool,
    /// How long it may take from its start.
    #[serde(default = "Ready::default_within")]
    within: Span,
    /// How long one probe may take.
    #[serde(default = "Ready::default_timeout")]
    timeout: Span,
    /// How long between two probes.
    #[serde(default = "Ready::default_interval")]
    interval: Span,
}

impl TryFrom<Written> for Ready {
    type Error = String;
    fn try_from(Written { http, host, tcp, notify, within, timeout, interval }: Written) -> Result<Self, String> {
        let check = match (http, tcp, notify) {
            (Some(path), false, false) => Check::Http { path, host },
            (None, true, false) | (None, false, true) if host.is_some() => {
                return Err("\"host\" is not for this check: only http asks for one; leave it out".into());
            }
            (None, true, false) => Check::Tcp,
            (None, false, true) => Check::Notify,
            _ => return Err(format!("exactly one of {}", CHECKS.join(", "))),
        };
        Ok(Self { check, within, timeout, interval })
    }
}

impl From<Ready> for Written {
    fn from(Ready { check, within, timeout, interval }: Ready) -> Self {
        let (tcp, notify) = (check == Check::Tcp, check == Check::Notify);
        let (http, host) = match check {
            Check::Http { path, host } => (Some(path), host),
            Check::Tcp | Check::Notify => (None, None),
        };
        Self { http, host, tcp, notify, within, timeout, interval }
    }
}

/// A request to an app, as a visitor's would arrive through Caddy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeRequest {
    pub path: String,
    /// The host name to request.
    pub host: String,
    /// Whether visitors use TLS.
    pub tls: bool,
    /// Whether the app speaks HTTP/2 without TLS.
    pub h2c: bool,
}

impl ProbeRequest {
    /// Creates a request like any visitor's.
    pub fn to(host: &str, path: &str, tls: bool, h2c: bool) -> Self {
        Self { path: path.to_owned(), host: host.to_owned(), tls, h2c }
    }
}

impl Ready {
    /// Returns the request that shows it, as a visitor of this route would send it; None if a connection is enough.
    pub fn request(&self, route: Option<&Route>, h2c: bool) -> Option<ProbeRequest> {
        let Check::Http { path, host } = &self.check else { return None };
        let public = route.map_or("localhost", |route| route.host.as_str());
        let host = host.as_ref().map_or(public, ProbeHost::as_str);
        let tls = route.is_none_or(|route| route.tls != Tls::Off);
        Some(ProbeRequest::to(host, path.as_str(), tls, h2c))
    }

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
            check: Check::Tcp,
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
    /// Returns the path, with its query, if any.
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

impl ProbeHost {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_written_as_it_was_read() {
        for check in
            [r#""http":"/up""#, r#""http":"/up","host":"shop.example.com""#, r#""tcp":true"#, r#""notify":true"#]
        {
            let text = format!(r#"{{{check},"within":"1m","timeout":"2s","interval":"250ms"}}"#);
            let read: Ready = serde_json::from_str(&text).unwrap();
            let written = serde_json::to_value(&read).unwrap();
            assert_eq!(written, serde_json::from_str::<Value>(&text).unwrap());
        }
    }

    #[test]
    fn a_check_is_of_one_kind() {
        let refusal = |text: &str| serde_json::from_str::<Ready>(text).unwrap_err().to_string();
        for text in ["{}", r#"{"tcp":false}"#, r#"{"http":"/up","tcp":true}"#, r#"{"tcp":true,"notify":true}"#] {
            assert!(refusal(text).starts_with("exactly one of http, tcp, notify"), "{text}");
        }
        assert!(refusal(r#"{"tcp":true,"host":"localhost"}"#).contains("only http asks for one"));
    }
}
