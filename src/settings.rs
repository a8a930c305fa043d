//! `/etc/zexio/agent.yaml`: every key is optional, an unknown key is an error.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::model::layout::Layout;
use crate::model::names::Hostname;
use crate::model::quantity::Span;
use crate::render::caddyfile::Proxy;

/// The settings file.
pub const FILE: &str = "/etc/zexio/agent.yaml";
/// The directory of API keys.
pub const KEYS: &str = "/etc/zexio/keys";
/// The master key's file.
pub const MASTER_KEY: &str = "/etc/zexio/master.key";
/// The agent's socket.
pub const SOCKET: &str = "/run/zexio/agent.sock";

/// The agent's settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where the API listens besides its socket.
    pub listen: String,
    /// The directory of all of the agent's files.
    #[serde(deserialize_with = "layout")]
    pub root: Layout,
    /// The watched directory, if not `<root>/specs`.
    pub specs: Option<PathBuf>,
    /// The public name of the API.
    pub hostname: Option<Hostname>,
    pub caddy: Caddy,
    /// The ports for web processes.
    pub ports: PortRange,
    pub artifacts: Artifacts,
    /// Interval between full passes without a trigger.
    pub resync: Span,
    pub prune: Prune,
}

/// How Caddy is reached and configured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Caddy {
    /// The admin socket.
    pub admin: String,
    /// The Caddyfile's template.
    pub template: PathBuf,
    /// The ACME account's contact.
    pub email: Option<String>,
    /// Another ACME directory than Caddy's default.
    pub acme_ca: Option<String>,
    /// CIDR ranges of the proxies in front of this server: their X-Forwarded-* headers are kept.
    pub trusted_proxies: Vec<String>,
    /// The web server that has ports 80 and 443 and proxies to Caddy, if any.
    pub behind: Option<WebServer>,
}

/// A web server in front of Caddy, on this machine: it terminates TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebServer {
    Nginx,
    /// Apache's httpd.
    Apache,
    Other,
}

/// The loopback port on which Caddy takes requests from a web server in front.
pub const PORT_BEHIND: u16 = 7480;

/// An inclusive range of ports.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PortRange {
    pub from: u16,
    pub to: u16,
}

/// Which artifacts may be fetched, and their limits.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Artifacts {
    /// URL prefixes; if any are set, only they may be fetched.
    pub allow: Vec<String>,
    /// Bytes per artifact.
    pub max_bytes: u64,
    /// Bytes per unpacked release.
    pub max_unpacked_bytes: u64,
    /// Files per release.
    pub max_entries: u64,
}

/// The guard against a specs directory that lost its files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Prune {
    /// How many projects may be deleted in one pass.
    pub max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7470".into(),
            root: Layout::parse("/zexio").unwrap_or_else(|_| unreachable!("the default root is a root")),
            specs: None,
            hostname: None,
            caddy: Caddy::default(),
            ports: PortRange::default(),
            artifacts: Artifacts::default(),
            resync: Span::seconds(60),
            prune: Prune::default(),
        }
    }
}

impl Default for Caddy {
    fn default() -> Self {
        Self {
            admin: "/run/caddy/admin.sock".into(),
            template: "/etc/zexio/Caddyfile.tmpl".into(),
            email: None,
            acme_ca: None,
            trusted_proxies: Vec::new(),
            behind: None,
        }
    }
}

impl Caddy {
    /// Returns Caddy's port behind another web server of this machine, if there is one.
    pub fn port_behind(&self) -> Option<u16> {
        self.behind.map(|_| PORT_BEHIND)
    }

    /// Returns the proxies whose X-Forwarded-* headers are kept, including a web server in front on this machine.
    fn trusted_proxies(&self) -> Vec<String> {
        let local: &[&str] = if self.behind.is_some() { &["127.0.0.0/8", "::1"] } else { &[] };
        local.iter().map(ToString::to_string).chain(self.trusted_proxies.iter().cloned()).collect()
    }
}

impl Default for PortRange {
    fn default() -> Self {
        Self { from: 21_000, to: 29_999 }
    }
}

impl Default for Artifacts {
    fn default() -> Self {
        Self { allow: Vec::new(), max_bytes: 1 << 30, max_unpacked_bytes: 2 << 30, max_entries: 100_000 }
    }
}

impl Default for Prune {
    fn default() -> Self {
        Self { max: 1 }
    }
}

fn layout<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Layout, D::Error> {
    Layout::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// An IP address or a CIDR range.
fn is_range(text: &str) -> bool {
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let is_number = |length: &str| !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    length.is_none_or(|length| is_number(length) && length.parse::<u8>().is_ok_and(|length| length <= longest))
}

impl Settings {
    /// Reads the settings; a missing or empty file means the defaults.
    ///
    /// # Errors
    /// The file could not be read or has an invalid key; the message has the file and the cause.
    pub fn read(path: &Path) -> Result<Self, String> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|cause| format!("could not read {}: {cause}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("could not read {}: {error}", path.display())),
        }
    }

    /// Parses the settings.
    ///
    /// # Errors
    /// The text has an invalid key; the message has its position.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::default());
        }
        let settings: Self = serde_saphyr::from_str(text).map_err(|e| e.without_snippet().to_string())?;
        let PortRange { from, to } = settings.ports;
        if from < 1024 || to <= from {
            return Err(format!("ports: from {from} to {to} is not a range of at least two ports above 1023"));
        }
        if settings.resync < Span::seconds(1) {
            return Err("resync: at least 1s".into());
        }
        let listen = &settings.listen;
        let port = listen.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() && !listen.is_empty() {
            return Err(format!("listen: {listen:?} is not an address with a port, like 127.0.0.1:7470"));
        }
        if let Some(specs) = settings.specs.as_ref().filter(|specs| specs.is_relative()) {
            return Err(format!("specs: {} does not begin with /", specs.display()));
        }
        let mut ranges = settings.caddy.trusted_proxies.iter().enumerate();
        if let Some((i, range)) = ranges.find(|(_, range)| !is_range(range)) {
            return Err(format!(
                "caddy.trusted_proxies[{i}]: {range:?} is not a range of addresses like 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32"
            ));
        }
        let is_url = |prefix: &String| prefix.starts_with("http://") || prefix.starts_with("https://");
        if let Some(prefix) = settings.artifacts.allow.iter().find(|prefix| !is_url(prefix)) {
            return Err(format!("artifacts.allow: {prefix:?} does not begin with https:// or http://"));
        }
        Ok(settings)
    }

    /// Returns the template's inputs besides the sites; `stream_close_delay`: whether this Caddy can keep streams open
    /// across a reload.
    pub fn proxy(&self, template: String, stream_close_delay: bool) -> Proxy {
        Proxy {
            template,
            admin: self.caddy.admin.clone(),
            fronts: self.root.fronts().display().to_string(),
            trusted_proxies: self.caddy.trusted_proxies(),
            behind: self.caddy.port_behind(),
            email: self.caddy.email.clone(),
            acme_ca: self.caddy.acme_ca.clone(),
            hostname: self.hostname.clone(),
            api: self.listen.clone(),
            stream_close_delay,
            encode_flushes: false,
        }
    }

    /// Returns the watched directory.
    pub fn specs(&self) -> PathBuf {
        self.specs.clone().unwrap_or_else(|| self.root.specs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_means_the_defaults_and_an_unknown_key_is_an_error() {
        assert_eq!(Settings::parse("# nothing\n").unwrap(), Settings::default());
        let read =
            Settings::parse("listen: 0.0.0.0:7470\ncaddy: { email: a@example.com }\nprune: { max: 3 }\n").unwrap();
        assert_eq!((read.listen.as_str(), read.prune.max), ("0.0.0.0:7470", 3));
        for text in [
            "listne: x",
            "ports: { from: 5, to: 4 }",
            "root: relative",
            "caddy: { admn: x }",
            "resync: 1ms",
            "listen: 127.0.0.1",
            "listen: 127.0.0.1:99999",
            "specs: relative",
            "artifacts: { allow: ['ftp://x'] }",
            "caddy: { trusted_proxies: [10.0.0.0/8, localhost] }",
            "caddy: { trusted_proxies: [10.0.0.0/33] }",
            "caddy: { trusted_proxies: ['10.0.0.0/+8'] }",
            "caddy: { trusted_proxies: ['10.0.0.0/8 }'] }",
            "caddy: { trusted_proxies: 10.0.0.0/8 }",
        ] {
            assert!(Settings::parse(text).is_err(), "{text}");
        }
        assert!(Settings::parse("listen: ''").is_ok() && Settings::parse("listen: '[::1]:7470'").is_ok());
        let bad = Settings::parse("caddy: { trusted_proxies: [10.0.0.0/8, '::1/129'] }").unwrap_err();
        assert!(bad.starts_with("caddy.trusted_proxies[1]: \"::1/129\""), "{bad}");
        let behind = Settings::parse("caddy: { behind: apache, trusted_proxies: [10.0.0.0/8] }").unwrap().caddy;
        assert_eq!(behind.port_behind(), Some(PORT_BEHIND));
        assert_eq!(behind.trusted_proxies(), ["127.0.0.0/8", "::1", "10.0.0.0/8"]);
        let unknown = Settings::parse("caddy: { behind: ngnix }").unwrap_err();
        assert!(unknown.contains("ngnix") && unknown.contains("nginx"), "{unknown}");
        let good = Settings::parse("caddy: { trusted_proxies: [10.0.0.0/8, 192.0.2.7, '2001:db8::/32'] }").unwrap();
        assert_eq!(good.caddy.trusted_proxies.len(), 3);
        assert!(Settings::parse("listne: x").unwrap_err().contains("listne"));
    }
}
