//! Which public certificates Caddy has, and why one is missing: from its storage and its log. Asking the hosts
//! themselves would cost a handshake each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::model::names::Hostname;
use crate::model::observed::CertificateSeen;

use crate::host::journal::Journalctl;

/// Caddy's certificate storage: a directory per authority, with one per host.
const STORE: &str = "/var/lib/caddy/.local/share/caddy/certificates";
/// How long a result from the log is cached.
const FRESH: Duration = Duration::from_secs(5);
/// How many lines of the log are read.
const LINES: u32 = 500;

/// Observes certificates.
pub struct Certificates {
    store: PathBuf,
    journal: Journalctl,
    troubles: Option<(Instant, BTreeMap<String, String>)>,
}

impl Default for Certificates {
    fn default() -> Self {
        Self { store: STORE.into(), journal: Journalctl::default(), troubles: None }
    }
}

impl Certificates {
    /// Returns which of these hosts have a certificate. If Caddy stores them elsewhere, none is known.
    pub fn look(&mut self, hosts: &BTreeSet<Hostname>) -> BTreeMap<Hostname, CertificateSeen> {
        let Ok(authorities) = fs::read_dir(&self.store) else { return BTreeMap::new() };
        let authorities: Vec<PathBuf> = authorities.filter_map(Result::ok).map(|entry| entry.path()).collect();
        let mut seen = BTreeMap::new();
        for host in hosts {
            let found = if is_issued(&authorities, host) {
                CertificateSeen::Issued
            } else {
                CertificateSeen::Missing(self.trouble_of(host))
            };
            seen.insert(host.clone(), found);
        }
        seen
    }

    fn trouble_of(&mut self, host: &Hostname) -> Option<String> {
        let fresh = self.troubles.as_ref().is_some_and(|(read, _)| read.elapsed() < FRESH);
        if !fresh {
            let lines = self.journal.newest_of("caddy.service", LINES);
            self.troubles = Some((Instant::now(), lines.iter().filter_map(|line| trouble(line)).collect()));
        }
        self.troubles.as_ref().and_then(|(_, troubles)| troubles.get(host.as_str()).cloned())
    }
}

/// Caddy's own authority is not a public one.
fn is_issued(authorities: &[PathBuf], host: &Hostname) -> bool {
    let public = authorities.iter().filter(|path| path.file_name().is_some_and(|name| name != "local"));
    public.map(|path: &PathBuf| file_of(path, host)).any(|file| fs::metadata(file).is_ok_and(|meta| meta.len() > 0))
}

fn file_of(authority: &Path, host: &Hostname) -> PathBuf {
    authority.join(host.as_str()).join(format!("{host}.crt"))
}

/// Parses a line of Caddy's log about a certificate that it could not get: the host and the cause.
fn trouble(line: &str) -> Option<(String, String)> {
    let entry: Value = serde_json::from_str(line).ok()?;
    let field = |name: &str| entry.get(name).and_then(Value::as_str);
    let about = field("logger").is_some_and(|logger| logger.starts_with("tls"));
    let host = field("identifier").filter(|_| about && field("level") == Some("error"))?;
    Some((host.to_owned(), field("error")?.chars().take(300).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caddys_log_says_why_a_certificate_is_missing() {
        let line = r#"{"level":"error","ts":1.5,"logger":"tls.obtain","msg":"could not get certificate from issuer","identifier":"a.example.com","issuer":"x","error":"HTTP 400 urn:ietf:params:acme:error:dns - no such host"}"#;
        assert_eq!(
            trouble(line),
            Some(("a.example.com".into(), "HTTP 400 urn:ietf:params:acme:error:dns - no such host".into()))
        );
        assert_eq!(trouble(r#"{"level":"info","logger":"tls.obtain","identifier":"a.example.com"}"#), None);
        assert_eq!(trouble("Started caddy.service"), None);
    }

    #[test]
    fn a_certificate_of_caddys_own_authority_is_no_public_one() {
        let store = tempfile::tempdir().unwrap();
        let host = Hostname::parse("a.example.com").unwrap();
        let mut certificates =
            Certificates { store: store.path().into(), journal: Journalctl::at("/nonexistent"), troubles: None };
        for (authority, issued) in [("local", false), ("acme.example.com-directory", true)] {
            let file = file_of(&store.path().join(authority), &host);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "certificate").unwrap();
            let seen = certificates.look(&BTreeSet::from([host.clone()]));
            assert_eq!(seen[&host] == CertificateSeen::Issued, issued, "{authority}");
        }
    }
}
