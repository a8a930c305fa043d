//! Caddy over its admin socket: adapts a Caddyfile, checks what it means, loads it, and writes it where Caddy finds it
//! when it starts.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::model::names::Hostname;
use crate::model::observed::{CertificateSeen, ProxySeen};
use crate::plan::RoutesOrder;
use crate::port::{PortError, Routes};
use crate::render::caddyfile::{OURS, Site};

use super::certificates::Certificates;
use super::disk;
use super::listener::{self, Listener};
use super::sites;

/// Where Caddy reads its configuration when it starts.
pub const CADDYFILE: &str = "/etc/caddy/Caddyfile";
/// Where Caddy listens for orders unless its Caddyfile says otherwise.
const DEFAULT_ADMIN: (&str, u16) = ("127.0.0.1", 2019);
/// The cgroup of its unit.
pub const CGROUP: &str = "/system.slice/caddy.service";
/// The reason of everything that Caddy, or the check of what it made, does not take.
const REFUSED: &str = "RouteRefused";
const PROGRAM: &str = "/usr/bin/caddy";
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a Caddy that was seen to be well is believed to be. Somebody may change what it serves behind its file.
const REREAD: Duration = Duration::from_secs(2);

/// Caddy.
pub struct Caddy {
    socket: PathBuf,
    file: PathBuf,
    runtime: tokio::runtime::Runtime,
    /// What the newest text of ours comes to; a cache, made again by asking Caddy.
    adapted: RefCell<Option<(String, Value)>>,
    certificates: RefCell<Certificates>,
    /// That all was as it should be.
    well: RefCell<Option<Well>>,
}

/// A Caddy that was seen to serve what its file says. It is believed to for a while, as long as it is the same process
/// and the same file: most passes have nothing to do with routes.
struct Well {
    process: i32,
    read: Instant,
    text: String,
}

impl Caddy {
    /// Makes the adapter for an admin socket.
    ///
    /// # Errors
    /// Says why its runtime could not start.
    pub fn new(socket: &Path) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("could not start a runtime: {e}"))?;
        Ok(Self {
            socket: socket.to_path_buf(),
            file: CADDYFILE.into(),
            runtime,
            adapted: RefCell::default(),
            certificates: RefCell::default(),
            well: RefCell::default(),
        })
    }

    fn call(&self, method: Method, path: &str, kind: &str, body: Vec<u8>) -> Result<(StatusCode, Vec<u8>), PortError> {
        let answer = async { tokio::time::timeout(PATIENCE, exchange(self.admin(), method, path, kind, body)).await };
        match self.runtime.block_on(answer) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(down(format!("could not ask Caddy on {}: {error}", self.socket.display()))),
            Err(_) => Err(down(format!(
                "could not ask Caddy on {}: no answer within {} s",
                self.socket.display(),
                PATIENCE.as_secs()
            ))),
        }
    }

    /// Where Caddy listens for us. A Caddyfile of somebody else may have moved it to Caddy's own default; it is asked
    /// there only if it is Caddy that listens: anybody on this machine could.
    fn admin(&self) -> Admin<'_> {
        let gone = std::os::unix::net::UnixStream::connect(&self.socket).is_err();
        if gone && listener::on_port(DEFAULT_ADMIN.1, CGROUP) == Listener::Ours {
            Admin::Default
        } else {
            Admin::Socket(&self.socket)
        }
    }

    fn live(&self) -> Result<Value, PortError> {
        let (_, body) = self.call(Method::GET, "/config/", "", Vec::new())?;
        serde_json::from_slice(&body).map_err(|e| down(format!("could not read Caddy's configuration: {e}")))
    }

    /// Asks Caddy what a text means; it answers the same for the same text, so once is enough.
    fn adapt(&self, text: &str) -> Result<Value, PortError> {
        if let Some((_, value)) = self.adapted.borrow().as_ref().filter(|(known, _)| known == text) {
            return Ok(value.clone());
        }
        let (status, body) = self.call(Method::POST, "/adapt", "text/caddyfile", text.as_bytes().to_vec())?;
        if !status.is_success() {
            return Err(refusal("read the new Caddyfile", &body));
        }
        let answer: Value =
            serde_json::from_slice(&body).map_err(|e| down(format!("could not read Caddy's answer: {e}")))?;
        let value = answer.get("result").cloned().unwrap_or_default();
        *self.adapted.borrow_mut() = Some((text.to_owned(), value.clone()));
        Ok(value)
    }

    /// Returns which process listens on the admin socket.
    fn process(&self) -> Option<i32> {
        let stream = std::os::unix::net::UnixStream::connect(&self.socket).ok()?;
        getsockopt(&stream, PeerCredentials).ok().map(|peer| peer.pid()).filter(|pid| *pid != 0)
    }

    fn read_file(&self) -> Option<String> {
        fs::read_to_string(&self.file).ok().filter(|text| text.starts_with(OURS))
    }
}

impl Routes for Caddy {
    fn look(&self) -> Result<ProxySeen, PortError> {
        let (text, process) = (self.read_file(), self.process());
        let well = self.well.take().filter(|well| {
            well.read.elapsed() < REREAD && Some(well.process) == process && Some(&well.text) == text.as_ref()
        });
        if well.is_some() {
            self.well.replace(well);
            return Ok(ProxySeen { up: true, runs: true, text, live: true, ..ProxySeen::default() });
        }
        let Ok(live) = self.live() else { return Ok(ProxySeen { text, ..ProxySeen::default() }) };
        let live = text.as_ref().is_some_and(|text| self.adapt(text).is_ok_and(|meant| meant == live));
        if let (true, Some(process), Some(text)) = (live, process, text.clone()) {
            self.well.replace(Some(Well { process, read: Instant::now(), text }));
        }
        Ok(ProxySeen { up: true, runs: true, text, live, ..ProxySeen::default() })
    }

    fn certificates(&self, hosts: &BTreeSet<Hostname>) -> BTreeMap<Hostname, CertificateSeen> {
        if hosts.is_empty() { BTreeMap::new() } else { self.certificates.borrow_mut().look(hosts) }
    }

    fn refusal(&self, order: &RoutesOrder) -> Result<Option<String>, PortError> {
        match self.adapt(&order.text).and_then(|meant| check(&meant, order, &self.socket)) {
            Ok(()) => Ok(None),
            Err(error) if error.reason == REFUSED => Ok(Some(error.message)),
            Err(error) => Err(error),
        }
    }

    fn differing(&self, order: &RoutesOrder) -> BTreeSet<Hostname> {
        let hosts = || order.sites.iter().map(|site| &site.host);
        match (self.adapt(&order.text), self.live()) {
            (_, Err(_)) => hosts().cloned().collect(),
            (Ok(meant), Ok(live)) => sites::differing(hosts(), &meant, &live),
            // Caddy says what is wrong with the whole text and nothing of its parts.
            (Err(_), Ok(live)) => {
                let dials = dials_by_host(&live);
                let goes_elsewhere = |site: &&Site| dials.get(site.host.as_str()) != Some(&dials_of(site));
                order.sites.iter().filter(goes_elsewhere).map(|site| site.host.clone()).collect()
            }
        }
    }

    fn load(&self, order: &RoutesOrder) -> Result<(), PortError> {
        let meant = self.adapt(&order.text)?;
        check(&meant, order, &self.socket)?;
        if self.live()? != meant {
            let (status, body) =
                self.call(Method::POST, "/load", "application/json", meant.to_string().into_bytes())?;
            if !status.is_success() {
                return Err(refusal("load the new routes", &body));
            }
        }
        if let Some(aside) = set_aside(&self.file)? {
            tracing::warn!(
                "{CADDYFILE} was somebody else's; it is now {}, and sites of its own go into the template",
                aside.display()
            );
        }
        // Only what Caddy took is written: it must come back with it by itself.
        disk::replace(&self.file, order.text.as_bytes(), 0o644)
    }
}

fn down(message: String) -> PortError {
    PortError::passing("ProxyDown", message)
}

/// Caddy's own words, which quote nothing but the configuration.
fn refusal(what: &str, body: &[u8]) -> PortError {
    let said =
        serde_json::from_slice::<Value>(body).ok().and_then(|value| value.get("error")?.as_str().map(str::to_owned));
    let said = said.unwrap_or_else(|| String::from_utf8_lossy(body).chars().take(500).collect());
    PortError::passing(REFUSED, format!("Caddy could not {what}: {said}; it serves on as before"))
}

/// Where Caddy is asked.
enum Admin<'a> {
    Socket(&'a Path),
    Default,
}

/// A connection to either.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Admin<'_> {
    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match self {
            Admin::Socket(path) => Box::new(UnixStream::connect(path).await?),
            Admin::Default => Box::new(TcpStream::connect(DEFAULT_ADMIN).await?),
        })
    }

    /// On its socket Caddy 2.6 takes no host but the empty one; newer ones take that too.
    fn host(&self) -> &'static str {
        match self {
            Admin::Socket(_) => "",
            Admin::Default => "localhost:2019",
        }
    }
}

async fn exchange(
    admin: Admin<'_>,
    method: Method,
    path: &str,
    kind: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, Vec<u8>), String> {
    let stream = admin.connect().await.map_err(|e| e.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, admin.host())
        .header(hyper::header::CONTENT_TYPE, kind)
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| e.to_string())?;
    let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes().to_vec();
    driver.abort();
    Ok((status, body))
}

/// Looks at what Caddy made of the text: whatever the template and the checks before it missed is caught here. The
/// admin socket stays where tenants cannot reach it, every wanted host is there, and its requests go to its own ports.
fn check(meant: &Value, order: &RoutesOrder, socket: &Path) -> Result<(), PortError> {
    let refused = |cause: String| PortError::passing(REFUSED, format!("the new routes were not loaded: {cause}"));
    let admin = meant.pointer("/admin/listen").and_then(Value::as_str).unwrap_or("localhost:2019");
    if admin != format!("unix/{}", socket.display()) {
        return Err(refused(format!(
            "Caddy's admin endpoint would be {admin}, not {}; mend `admin` in the template",
            socket.display()
        )));
    }
    let dials = dials_by_host(meant);
    for site in &order.sites {
        let expected = dials_of(site);
        match dials.get(site.host.as_str()) {
            None => return Err(refused(format!("the template left out {}", site.host))),
            Some(found) if *found != expected => {
                return Err(refused(format!("requests for {} would go to {found:?}, not to {expected:?}", site.host)));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Returns where the requests of a site are to go.
fn dials_of(site: &Site) -> BTreeSet<String> {
    site.routes.iter().flat_map(|route| route.a.iter().chain(&route.b)).cloned().collect()
}

/// Returns where the requests of each host may go.
fn dials_by_host(meant: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let servers = meant.pointer("/apps/http/servers").and_then(Value::as_object);
    let routes = servers
        .into_iter()
        .flat_map(|servers| servers.values())
        .filter_map(|server| server.get("routes")?.as_array())
        .flatten();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for route in routes {
        let matches = route.get("match").and_then(Value::as_array).into_iter().flatten();
        let hosts = matches.filter_map(|one| one.get("host")?.as_array()).flatten().filter_map(Value::as_str);
        for host in hosts {
            collect_dials(route, found.entry(host.to_owned()).or_default());
        }
    }
    found
}

fn collect_dials(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(table) => {
            found.extend(table.get("dial").and_then(Value::as_str).map(str::to_owned));
            table.values().for_each(|value| collect_dials(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_dials(value, found)),
        _ => {}
    }
}

/// What to know of an outdated Caddy.
pub const OUTDATED: &str =
    "it works, but lacks fixes of known holes; Caddy 2.11.9 or newer comes from its own repository";

/// The version of a Caddy: its numbers as far as they could be read, none where it could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Vec<u32>);

impl Version {
    /// Asks the Caddy of this machine.
    pub fn installed() -> Self {
        let output = Command::new(PROGRAM).arg("version").env_clear().stdin(Stdio::null()).output();
        Self::parse(&output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default())
    }

    /// Tells whether there is one that answers.
    pub fn is_known(&self) -> bool {
        !self.0.is_empty()
    }

    /// Tells whether it has what the agent needs: 2.6.2 and newer do.
    pub fn is_enough(&self) -> bool {
        self.0 >= vec![2, 6, 2]
    }

    fn parse(text: &str) -> Self {
        Self(
            text.trim_start_matches('v')
                .split(['.', ' ', '-', '\n'])
                .map_while(|part| part.parse().ok())
                .take(3)
                .collect(),
        )
    }

    /// Tells whether it keeps streams open over a change of routes when it is told to: 2.7 and newer do. An older one
    /// cuts WebSockets when routes change; deploys change none.
    pub fn keeps_streams(&self) -> bool {
        self.0 >= vec![2, 7]
    }

    /// Tells whether its compression passes each piece of an answer on at once: 2.11 and newer do. An older one keeps
    /// them until it has enough.
    pub fn encode_flushes(&self) -> bool {
        self.0 >= vec![2, 11]
    }

    /// Tells whether it lacks fixes of known holes (CVE-2026-27586 and its kin). It works all the same.
    pub fn is_outdated(&self) -> bool {
        self.0 < vec![2, 11, 9]
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.iter().map(u32::to_string).collect::<Vec<_>>().join("."))
    }
}

/// Puts a first Caddyfile of ours in place, before Caddy listens where the agent can reach it. One that is somebody
/// else's is moved aside, never lost. Returns what was done, for the operator.
///
/// # Errors
/// Says what could not be written.
pub fn take_over_file(text: &str) -> Result<Vec<String>, PortError> {
    let file = Path::new(CADDYFILE);
    let found = fs::read_to_string(file).unwrap_or_default();
    if found.starts_with(OURS) {
        return Ok(vec![format!("{CADDYFILE} is zexio's already")]);
    }
    let aside = set_aside(file)?;
    let mut done: Vec<String> = aside
        .map(|aside| {
            format!("moved {CADDYFILE} to {}; sites of your own go into /etc/zexio/Caddyfile.tmpl", aside.display())
        })
        .into_iter()
        .collect();
    disk::directory(Path::new("/etc/caddy"), 0o755)?;
    disk::replace(file, text.as_bytes(), 0o644)?;
    done.push(format!("wrote {CADDYFILE}"));
    Ok(done)
}

/// Moves a Caddyfile that is not ours out of the way, to a name that is free.
fn set_aside(file: &Path) -> Result<Option<PathBuf>, PortError> {
    let theirs = fs::read_to_string(file).is_ok_and(|text| !text.starts_with(OURS));
    if !theirs {
        return Ok(None);
    }
    let names = std::iter::once(String::new()).chain((2..).map(|n| format!(".{n}")));
    let mut free =
        names.map(|n| PathBuf::from(format!("{}.before-zexio{n}", file.display()))).filter(|path| !path.exists());
    let aside = free.next().unwrap_or_else(|| unreachable!("there is always a next number"));
    fs::rename(file, &aside).map_err(|e| super::disk_error(&format!("move {} aside", file.display()), &e))?;
    Ok(Some(aside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caddy_is_told_only_what_it_knows_and_an_old_one_is_named() {
        for (version, keeps, outdated) in [
            ("2.6.2\n", false, true),
            ("v2.7.0 h1:abc=\n", true, true),
            ("v2.11.7 h1:abc=\n", true, true),
            ("v2.11.9 h1:abc=\n", true, false),
            ("v3.0.0\n", true, false),
            ("(devel)\n", false, true),
            ("", false, true),
        ] {
            let read = Version::parse(version);
            assert_eq!(
                (read.is_known(), read.is_enough()),
                (version.starts_with(['v', '2']), version.starts_with(['v', '2']))
            );
            assert_eq!((read.keeps_streams(), read.is_outdated()), (keeps, outdated), "{version:?}");
        }
    }
}
