//! Which URLs may be fetched, and which addresses may be dialled for them.
//!
//! A URL in a spec makes this server connect somewhere on another party's request, so an address inside the server or
//! its network is refused twice: when the URL is read, and again on the address that is dialled.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use url::{Host, Position, Url};

use crate::model::reason::Reason;
use crate::model::spec::parse_url;
use crate::port::PortError;

/// What the operator allows to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRules {
    /// URL prefixes. If any are set, every URL must start with one of them, and may then be http or point inside.
    pub allow: Vec<String>,
    /// Largest artifact, in bytes.
    pub max_bytes: u64,
}

/// Which addresses a URL may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The operator named the prefix: any address.
    Anywhere,
    /// Plain http to this machine, and nowhere else, whatever a hosts file says.
    ThisMachine,
    /// Everything else: only globally reachable addresses.
    Internet,
}

impl FetchRules {
    /// Returns the URL in normalized form if the rules allow it. Does no I/O: the same text gets the same answer when a
    /// spec is checked and when it is fetched.
    ///
    /// # Errors
    /// `UrlForbidden` with the broken rule, `AddressForbidden` with the host.
    pub fn check_url(&self, url: &str) -> Result<Url, PortError> {
        self.admit(url).map(|(url, _)| url)
    }

    /// Checks a URL and returns how far it may reach.
    pub(crate) fn admit(&self, raw: &str) -> Result<(Url, Reach), PortError> {
        let url = parse_url(raw).map_err(|bad| forbidden("the artifact's URL", &bad.to_string()))?;
        let reach = self.reach_of(raw, &url).map_err(|rule| forbidden(&host_of(&url), &rule))?;
        match points_inside(&url) && reach == Reach::Internet {
            true => Err(address_forbidden(&url)),
            false => Ok((url, reach)),
        }
    }

    /// Like [`admit`], for a redirect's target: the remote server chose it, so loopback is not allowed unless the
    /// operator named it.
    ///
    /// [`admit`]: Self::admit
    pub(crate) fn admit_redirect(&self, from: &Url, to: &Url) -> Result<(Url, Reach), PortError> {
        if from.scheme() == "https" && to.scheme() != "https" {
            return Err(forbidden(&host_of(to), "a redirect may not leave https"));
        }
        parse_url(to.as_str()).map_err(|bad| forbidden(&host_of(to), bad.rule))?;
        match self.admit(to.as_str())? {
            (url, Reach::ThisMachine) => Err(address_forbidden(&url)),
            admitted => Ok(admitted),
        }
    }

    fn reach_of(&self, raw: &str, url: &Url) -> Result<Reach, String> {
        if !self.allow.is_empty() {
            if self.allow.iter().any(|prefix| is_under(prefix, url)) {
                return Ok(Reach::Anywhere);
            }
            let flaws: Vec<String> = self
                .allow
                .iter()
                .filter_map(|prefix| flaw_of_prefix(prefix))
                .map(|flaw| format!("; there, {flaw}"))
                .collect();
            let none = "it starts with none of the prefixes in artifacts.allow of /etc/zexio/agent.yaml";
            return Err(format!("{none}; {}{}", to_allow(url), flaws.concat()));
        }
        match url.scheme() {
            "https" => Ok(Reach::Internet),
            "http" if names_this_machine(raw) => Ok(Reach::ThisMachine),
            _ => Err(format!("only https, or http from 127.0.0.1, [::1] or localhost; {}", to_allow(url))),
        }
    }
}

/// Returns a URL without the parts that may be secret: user info, query and fragment.
pub fn redact(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut url) if url.has_host() => {
            // Neither can fail on a URL with a host.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.set_query(None);
            url.set_fragment(None);
            url.to_string()
        }
        _ => "the given URL".to_owned(),
    }
}

fn forbidden(what: &str, rule: &str) -> PortError {
    PortError::permanent(Reason::UrlForbidden, format!("could not accept {what}: url forbidden, {rule}"))
}

fn address_forbidden(url: &Url) -> PortError {
    let host = url.host_str().unwrap_or_default();
    let message = format!("could not dial {host}: it is not a public address; {}", to_allow(url));
    PortError::permanent(Reason::AddressForbidden, message)
}

/// Says how the operator allows a URL's host.
fn to_allow(url: &Url) -> String {
    format!(
        "if it is meant, add \"{}/\" to artifacts.allow in /etc/zexio/agent.yaml (once it has an entry, only its entries are \
         fetched) and run `systemctl restart zexio-agent`",
        &url[..Position::BeforePath]
    )
}

/// Explains why a prefix never matches what was meant by it, and shows the right form.
pub fn flaw_of_prefix(prefix: &str) -> Option<String> {
    const EXAMPLE: &str = "https://files.example.com/releases/";
    let Ok(url) = Url::parse(prefix) else { return Some(format!("{prefix:?} is not a URL; one looks like {EXAMPLE}")) };
    let authority =
        prefix.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let origin = &url[..Position::BeforeHost];
    let host = url.host_str().unwrap_or_default();
    if authority.ends_with(':') {
        return Some(format!(
            "{prefix:?} has a colon and no port; write the port, like \"{origin}{host}:8080{}\"",
            url.path()
        ));
    }
    if host.contains('*') {
        return Some(format!(
            "{prefix:?} never matches, as * stands for nothing in a host; write each host, like {EXAMPLE}"
        ));
    }
    let path = url.path();
    let kept = match path.find('*') {
        Some(at) => &path[..path[..at].rfind('/').map_or(0, |slash| slash + 1)],
        None if url.query().is_some() => path,
        None if !path_is_under(path, path) => "/",
        None => return None,
    };
    Some(format!(
        "{prefix:?} never matches, as a prefix ends with its path and * and .. stand for nothing; write \"{}{kept}\"",
        &url[..Position::BeforePath]
    ))
}

fn host_of(url: &Url) -> String {
    format!("a URL of {}", url.host_str().unwrap_or_default())
}

/// Whether the text itself, not what a parser makes of it, names this machine: `127.1` and `2130706433` do not.
fn names_this_machine(raw: &str) -> bool {
    ["http://127.0.0.1", "http://[::1]", "http://localhost"]
        .iter()
        .any(|start| raw.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '?'])))
}

/// Whether the URL lies under the prefix, compared component by component: `https://a.com` does not admit
/// `https://a.com.evil.com`, nor `/shop` admit `/shopping`.
fn is_under(prefix: &str, url: &Url) -> bool {
    let Ok(prefix) = Url::parse(prefix) else { return false };
    let same_place = prefix.scheme() == url.scheme()
        && prefix.host() == url.host()
        && prefix.port_or_known_default() == url.port_or_known_default()
        && prefix.query().is_none();
    same_place && path_is_under(prefix.path(), url.path())
}

fn path_is_under(prefix: &str, path: &str) -> bool {
    let Some(rest) = path.strip_prefix(prefix) else { return false };
    let at_boundary = prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/');
    // Encoded slashes are text to the parser; a server may still decode them and then traverse upwards.
    let decoded = path.to_ascii_lowercase().replace("%2f", "/").replace("%5c", "/").replace("%2e", ".");
    at_boundary && !decoded.split('/').any(|part| part == "..")
}

/// What is known without DNS.
fn points_inside(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => !is_global_v4(ip),
        Some(Host::Ipv6(ip)) => !is_global_v6(ip),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        None => true,
    }
}

/// Whether an address may be dialled on behalf of a spec.
pub fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_global_v4(ip),
        IpAddr::V6(ip) => is_global_v6(ip),
    }
}

fn is_global_v4(ip: Ipv4Addr) -> bool {
    /// Network and prefix length. The last is a cloud's metadata service behind a public address.
    const INSIDE: [(u32, u32); 16] = [
        (0x0000_0000, 8),
        (0x0a00_0000, 8),
        (0x6440_0000, 10),
        (0x7f00_0000, 8),
        (0xa9fe_0000, 16),
        (0xac10_0000, 12),
        (0xc000_0000, 24),
        (0xc000_0200, 24),
        (0xc058_6300, 24),
        (0xc0a8_0000, 16),
        (0xc612_0000, 15),
        (0xc633_6400, 24),
        (0xcb00_7100, 24),
        (0xe000_0000, 4),
        (0xf000_0000, 4),
        (0xa83f_8110, 32),
    ];
    let ip = u32::from(ip);
    !INSIDE.iter().any(|(first, length)| (ip ^ first) >> (32 - length) == 0)
}

/// Only 2000::/3 is allocated; within it, tunnels embed an IPv4 address that was not checked.
fn is_global_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    let handed_out = a & 0xe000 == 0x2000;
    let protocol_or_teredo = a == 0x2001 && b < 0x0200;
    let documentation = (a == 0x2001 && b == 0x0db8) || (a == 0x3fff && b < 0x1000);
    let six_to_four = a == 0x2002;
    handed_out && !protocol_or_teredo && !documentation && !six_to_four
}

/// Resolves names and keeps only the addresses that the URL may reach. The caller dials what this returns, so DNS
/// rebinding gains nothing.
#[derive(Debug)]
pub(crate) struct CheckedResolver {
    pub(crate) reach: Reach,
}

/// Carried through the HTTP client's error: the name resolved, but only to internal addresses.
#[derive(Debug, thiserror::Error)]
#[error("the host has no public address")]
struct OnlyInside;

impl Resolver for CheckedResolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = DefaultResolver::default().resolve(uri, config, timeout)?;
        let mut kept = self.empty();
        found.iter().copied().filter(|address| self.reach.admits(*address)).for_each(|address| kept.push(address));
        if kept.is_empty() {
            return Err(ureq::Error::Io(io::Error::new(io::ErrorKind::PermissionDenied, OnlyInside)));
        }
        Ok(kept)
    }
}

impl Reach {
    fn admits(self, address: SocketAddr) -> bool {
        match self {
            Reach::Anywhere => true,
            Reach::ThisMachine => address.ip().is_loopback(),
            Reach::Internet => is_global(address.ip()),
        }
    }
}

/// Returns the error to report if the resolver refused every address.
pub(crate) fn refused_address(url: &Url, error: &ureq::Error) -> Option<PortError> {
    let ureq::Error::Io(error) = error else { return None };
    error.get_ref()?.downcast_ref::<OnlyInside>().map(|_| address_forbidden(url))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Retry;

    fn rules(allow: &[&str]) -> FetchRules {
        FetchRules { allow: allow.iter().map(|&prefix| prefix.to_owned()).collect(), max_bytes: 1 << 20 }
    }

    fn reason(rules: &FetchRules, url: &str) -> &'static str {
        match rules.check_url(url) {
            Ok(_) => "ok",
            Err(error) => {
                assert_eq!(error.retry, Retry::Never, "{url}");
                error.reason.name()
            }
        }
    }

    #[test]
    fn without_an_allow_list_only_https_and_this_machine_by_its_plain_name_pass() {
        let long = format!("https://a.com/{}", "a".repeat(4096));
        for url in [
            "file:///etc/passwd",
            "data:text/plain,x",
            "ftp://a.com/x",
            "gopher://a.com/",
            "unix:/run/x",
            "a.com/x",
            "",
            "http://a.com/x",
            "https://user@a.com/",
            "https://u:p@a.com/",
            "https://a.com/#x",
            "https://a.com/\n",
            "https://a.com/\t",
            " https://a.com/",
            "https://a.com\\@b.com/",
            "http://127.0.0.1@a.com/",
            "https://",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://[0::1]/",
            "http://127.0.0.1.a.com/",
            "http://localhost.a.com/",
            "http://LOCALHOST/",
            "http://127.0.0.2/",
            "http://[::]/",
            "http://\u{2460}27.0.0.1/",
            &long,
        ] {
            assert_eq!(reason(&rules(&[]), url), "UrlForbidden", "{url}");
        }
        for url in ["https://a.com/x?y=1", "https://8.8.8.8/x", "https://[2606:4700::1111]/", "https://a.com:8443/"] {
            assert_eq!(reason(&rules(&[]), url), "ok", "{url}");
        }
        for url in ["http://127.0.0.1:8080/x", "http://[::1]/x", "http://localhost/x", "http://localhost"] {
            assert_eq!(reason(&rules(&[]), url), "ok", "{url}");
        }
    }

    #[test]
    fn an_inside_address_is_refused_however_it_is_spelled() {
        for url in [
            "https://127.0.0.1/",
            "https://2852039166/",
            "https://0xa9fea9fe/",
            "https://0251.0376.0251.0376/",
            "https://127.1/",
            "https://[::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://10.0.0.1/",
            "https://192.168.1.1/",
            "https://localhost/",
            "https://LOCALHOST./",
            "https://x.localhost/",
            "https://[64:ff9b::a9fe:a9fe]/",
            "https://169.254.169.254/",
            "https://0/",
            "https://168.63.129.16/",
        ] {
            assert_eq!(reason(&rules(&[]), url), "AddressForbidden", "{url}");
        }
    }

    /// Returns the prefix that a refusal offers, if any.
    fn offered(error: &PortError) -> Option<String> {
        let (_, offer) = error.message.split_once("add \"")?;
        Some(offer.split('"').next().unwrap_or_default().to_owned())
    }

    #[test]
    fn a_prefix_that_is_offered_admits_the_url() {
        let none = FetchRules { allow: Vec::new(), max_bytes: 1 };
        for raw in [
            "http://files.example.com/x?key=SECRET",
            "http://files.example.com:8080/x",
            "https://10.0.0.7/x",
            "https://2852039166/x",
            "https://[fd00::7]:8443/x",
            "https://localhost./x",
            "http://127.1/x",
        ] {
            for before in [&none, &rules(&["https://other.example.com/"])] {
                let refused = before.check_url(raw).unwrap_err();
                let prefix = offered(&refused).unwrap_or_else(|| panic!("{raw}: {refused}"));
                assert_eq!(flaw_of_prefix(&prefix), None, "{prefix}");
                assert!(rules(&[&prefix]).check_url(raw).is_ok(), "{raw}: {prefix}");
                assert!(!refused.message.contains("SECRET") && refused.message.contains("agent.yaml"), "{refused}");
            }
        }
        let (from, to) = (Url::parse("https://a.com/x").unwrap(), Url::parse("https://192.168.7.7:9/y").unwrap());
        let refused = rules(&["https://a.com/"]).admit_redirect(&from, &to).unwrap_err();
        assert_eq!(offered(&refused).as_deref(), Some("https://192.168.7.7:9/"));
        let refused = rules(&["http://own.test:"]).check_url("http://own.test:9001/x").unwrap_err();
        assert!(
            refused.message.ends_with(
                "there, \"http://own.test:\" has a colon and no port; write the port, like \"http://own.test:8080/\""
            ),
            "{refused}"
        );
    }

    #[test]
    fn a_prefix_that_never_matches_is_told_its_right_form() {
        for (prefix, right) in [
            ("http://own.test:", "\"http://own.test:8080/\""),
            ("http://own.test:/a/", "\"http://own.test:8080/a/\""),
            ("https://*.example.com/", "https://files.example.com/releases/"),
            ("https://a.com/team/*", "\"https://a.com/team/\""),
            ("https://a.com/team/v*/x", "\"https://a.com/team/\""),
            ("https://a.com:8443/x?y=1", "\"https://a.com:8443/x\""),
            ("https://a.com/x/..%2fy", "\"https://a.com/\""),
            ("https://", "https://files.example.com/releases/"),
        ] {
            let flaw = flaw_of_prefix(prefix).unwrap_or_else(|| panic!("{prefix}"));
            assert!(flaw.ends_with(right) && flaw_of_prefix(right.trim_matches('"')).is_none(), "{flaw}");
        }
        for prefix in ["https://a.com", "https://a.com/", "http://10.0.0.7:9000/releases", "https://[::1]:8443"] {
            assert_eq!(flaw_of_prefix(prefix), None);
        }
    }

    #[test]
    fn an_allowed_prefix_ends_at_a_boundary() {
        let rules = rules(&["https://a.com", "http://10.0.0.7:9000/releases", "https://b.com/team/", "not a url"]);
        for url in
            ["https://a.com", "https://A.com:443/x", "http://10.0.0.7:9000/releases/1.tar", "https://b.com/team/x"]
        {
            assert_eq!(reason(&rules, url), "ok", "{url}");
        }
        for url in [
            "https://a.com.evil.com/",
            "https://a.comx/",
            "http://a.com/",
            "https://a.com:8443/",
            "http://10.0.0.7:9000/",
            "http://10.0.0.7:9000/releases2/x",
            "http://10.0.0.7:90001/releases",
            "https://b.com/team/../other",
            "https://b.com/team/%2e%2e/other",
            "https://b.com/team/..%2fother",
            "https://b.com/team/%2E%2E%5Cother",
            "http://127.0.0.1/",
            "https://c.com/?https://a.com",
        ] {
            assert_eq!(reason(&rules, url), "UrlForbidden", "{url}");
        }
    }

    #[test]
    fn the_path_that_is_checked_is_the_path_that_is_asked_for() {
        let rules = rules(&["https://b.com/team/"]);
        let asked = |url: &str| rules.check_url(url).map(String::from).map_err(|error| error.reason);
        for url in ["https://b.com/team/./x", "https://b.com/team/a/%2E%2e/x", "https://b.com/other/.%2e/team/x"] {
            assert_eq!(asked(url), Ok("https://b.com/team/x".to_owned()), "{url}");
        }
        for url in ["https://b.com/team/./%2e%2e/x", "https://b.com/team/x/%2e%2e/.%2E/x", "https://b.com/team/%2e."] {
            assert_eq!(asked(url), Err(Reason::UrlForbidden), "{url}");
        }
    }

    #[test]
    fn only_global_addresses_are_global() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.255.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:8.8.8.8",
            "::8.8.8.8",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:a9fe:a9fe::1",
            "3fff::1",
            "fc00::1",
            "fd00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_global(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860::8888",
            "2a00::1",
            "3ffe::1",
        ] {
            assert!(is_global(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn a_name_that_leads_inside_is_refused_where_it_is_dialled() {
        let resolve = |reach, uri: &str| {
            let uri: Uri = uri.parse().unwrap();
            CheckedResolver { reach }.resolve(&uri, &Config::default(), NextTimeout::default())
        };
        for uri in ["https://localhost/", "https://127.0.0.1/", "https://[::1]:1/"] {
            let refused =
                refused_address(&Url::parse(uri).unwrap(), &resolve(Reach::Internet, uri).unwrap_err()).unwrap();
            assert_eq!(refused.reason, Reason::AddressForbidden, "{uri}");
        }
        assert!(resolve(Reach::ThisMachine, "http://10.0.0.1/").is_err());
        assert!(resolve(Reach::ThisMachine, "http://127.0.0.1/").is_ok());
        assert!(resolve(Reach::Anywhere, "http://10.0.0.1/").is_ok());
        assert!(resolve(Reach::Internet, "https://1.1.1.1/").is_ok());
    }

    #[test]
    fn a_redirect_can_neither_leave_https_nor_turn_inside() {
        let to = |rules: &FetchRules, from: &str, to: &str| {
            rules.admit_redirect(&Url::parse(from).unwrap(), &Url::parse(to).unwrap()).map_err(|error| error.reason)
        };
        let (none, local) = (rules(&[]), rules(&["http://127.0.0.1:8080/"]));
        assert_eq!(to(&none, "https://a.com/", "http://a.com/").unwrap_err(), Reason::UrlForbidden);
        assert_eq!(to(&none, "https://a.com/", "http://127.0.0.1/").unwrap_err(), Reason::UrlForbidden);
        assert_eq!(to(&none, "http://127.0.0.1/", "http://127.0.0.1/x").unwrap_err(), Reason::AddressForbidden);
        assert_eq!(to(&none, "https://a.com/", "https://10.0.0.1/").unwrap_err(), Reason::AddressForbidden);
        assert!(to(&none, "https://a.com/", "https://b.com/x").is_ok());
        assert!(to(&local, "http://127.0.0.1:8080/", "http://127.0.0.1:8080/x").is_ok());
    }

    #[test]
    fn a_shown_url_has_no_secret_left() {
        assert_eq!(redact("https://u:p@a.com/x.tar?token=S#f"), "https://a.com/x.tar");
        assert_eq!(redact("u:p@a.com?token=S"), "the given URL");
    }
}
