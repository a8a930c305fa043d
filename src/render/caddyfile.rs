//! Our Caddyfile: the operator's template, filled with the active sites.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::names::{Hostname, ProcessName, ProjectId, RoutePath};
use crate::model::spec::{HeaderName, HeaderText, Tls};

use super::joined;

/// What the template gets besides the sites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proxy {
    #[serde(skip)]
    pub template: String,
    /// Caddy's admin socket.
    pub admin: String,
    /// The directory of the markers.
    pub fronts: String,
    /// The proxies in front of this server whose X-Forwarded-* headers are trusted.
    pub trusted_proxies: Vec<String>,
    /// The loopback port on which every site listens, without TLS, if another web server is in front.
    pub behind: Option<u16>,
    /// The contact address for the certificate authority.
    pub email: Option<String>,
    /// A certificate authority other than Caddy's default.
    pub acme_ca: Option<String>,
    /// The public name of the agent's API.
    pub hostname: Option<Hostname>,
    /// The address on which that API listens.
    pub api: String,
    /// Whether this Caddy can keep streams open over a reload (2.7 and newer).
    pub stream_close_delay: bool,
    /// Whether this Caddy's compression flushes each piece of a response at once (2.11 and newer).
    pub encode_flushes: bool,
}

/// The site of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Site {
    /// A host has one owner.
    pub project: ProjectId,
    pub host: Hostname,
    pub tls: Tls,
    /// The site it redirects to.
    pub redirect: Option<String>,
    /// Where its requests go; the first match wins.
    pub routes: Vec<SiteRoute>,
}

/// Where some of a host's requests go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SiteRoute {
    /// A name for its matchers, unique within the file.
    pub name: String,
    /// None for all paths.
    pub path: Option<RoutePath>,
    pub project: ProjectId,
    pub process: ProcessName,
    /// Slot a's addresses.
    pub a: Vec<String>,
    /// Slot b's addresses.
    pub b: Vec<String>,
    /// Whether slot a speaks HTTP/2 without TLS.
    pub a_h2c: bool,
    /// Whether slot b speaks HTTP/2 without TLS.
    pub b_h2c: bool,
    /// The directory of a static site, which then has no addresses.
    pub root: Option<String>,
    /// Whether the site's unknown paths get its index.
    pub spa: bool,
    /// Whether `/about` finds about.html.
    pub clean_urls: bool,
    /// Headers added to its responses.
    pub headers: BTreeMap<HeaderName, HeaderText>,
}

/// The first line of every Caddyfile of ours: a file without it is the operator's and is not touched.
pub const OURS: &str = "# Written by zexio from its template /etc/zexio/Caddyfile.tmpl; edit that one.";

/// Fills the template with a site of each kind, so that a mistake in it shows before the first site needs it.
///
/// # Errors
/// The template cannot be filled; says why.
pub fn try_template(proxy: &Proxy) -> Result<(), String> {
    let name = |raw: &str| ProcessName::parse(raw).map_err(|e| e.to_string());
    let (host, project) = (Hostname::parse("a.example.com"), ProjectId::parse("a"));
    let (host, project) = (host.map_err(|e| e.to_string())?, project.map_err(|e| e.to_string())?);
    let route = SiteRoute {
        name: "a_a_0".to_owned(),
        path: RoutePath::parse("/a/*").ok(),
        project: project.clone(),
        process: name("a")?,
        a: vec!["127.0.0.1:1".to_owned()],
        b: vec!["127.0.0.1:2".to_owned()],
        a_h2c: false,
        b_h2c: true,
        root: None,
        spa: false,
        clean_urls: false,
        headers: BTreeMap::new(),
    };
    let folder = SiteRoute { path: None, root: Some("/a".to_owned()), spa: true, clean_urls: true, ..route.clone() };
    let pages = SiteRoute { path: RoutePath::parse("/b/*").ok(), spa: false, ..folder.clone() };
    let site = Site { project, host, tls: Tls::Internal, redirect: None, routes: vec![route, pages, folder] };
    let plain = Site { tls: Tls::Off, ..site.clone() };
    let moved = Site { redirect: Some("https://b.example.com".to_owned()), routes: Vec::new(), ..site.clone() };
    text(proxy, &[]).and_then(|_| text(proxy, &[site, plain, moved])).map(|_| ())
}

/// Fills the template.
///
/// # Errors
/// The template is wrong; the message names the line.
pub fn text(proxy: &Proxy, sites: &[Site]) -> Result<String, String> {
    // Every pass calls this twice, and most passes change nothing, so the last result is kept.
    NEWEST.with_borrow_mut(|newest| match newest {
        Some(known) if known.0 == *proxy && known.1 == sites => Ok(known.2.clone()),
        _ => {
            let text = fill(proxy, sites)?;
            *newest = Some((proxy.clone(), sites.to_vec(), text.clone()));
            Ok(text)
        }
    })
}

thread_local! {
    static NEWEST: RefCell<Option<(Proxy, Vec<Site>, String)>> = const { RefCell::new(None) };
}

fn fill(proxy: &Proxy, sites: &[Site]) -> Result<String, String> {
    #[derive(Serialize)]
    struct Context<'a> {
        #[serde(flatten)]
        proxy: &'a Proxy,
        sites: &'a [Site],
    }
    let mut environment = minijinja::Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    environment
        .render_named_str("Caddyfile.tmpl", &proxy.template, minijinja::value::Serde(Context { proxy, sites }))
        // A template of an earlier version has global options; they belong to the operator's Caddyfile now.
        .map(|text| format!("{OURS}\n{}\n", joined::split_global(text.trim()).1.trim()))
        .map_err(|error| format!("could not fill Caddyfile.tmpl: {error:#}"))
}
