//! Downloads one artifact from its URL to this disk, and verifies its digest.
//!
//! No retries are decided here: every error says whether it is transient. Only a response's status, length and hash
//! ever reach a message: the body may come from a service that trusts this server.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::statvfs::statvfs;
use sha2::{Digest, Sha256 as Hasher};
use ureq::http::{Response, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body};
use url::{Position, Url};

use super::address::{CheckedResolver, Reach, refused_address};
pub use super::address::{FetchRules, redact};
use super::meaning;
use crate::host::{disk_error, plain_http};
use crate::model::names::Sha256;
use crate::model::reason::Reason;
use crate::port::PortError;
use crate::unpack;

const MOST_REDIRECTS: usize = 5;
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const IDLE_AT_MOST: Duration = Duration::from_secs(30);
const HEADERS_WITHIN: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Kept free after a download: the database and the running projects must still be able to write.
const RESERVE: u64 = 256 << 20;
/// How much is written between two checks of the free space.
const ROOM_CHECK_EVERY: u64 = 64 << 20;

/// One complete and verified artifact, in a file that the caller renames into place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Of the file's content.
    pub sha256: Sha256,
    pub bytes: u64,
    /// Synced to disk.
    pub path: PathBuf,
}

/// Downloads a URL into a new file in the directory `into`, reports progress to `seen`, and aborts when `stop` is set.
/// On any error no file is left.
///
/// # Errors
/// `UrlForbidden`, `AddressForbidden`, `HashMismatch` and `ArtifactTooLarge` are permanent; so is `ArtifactFailed` if
/// the server refuses the artifact or does not have it. Everything else is transient.
pub fn fetch(
    url: &str,
    want: Option<&Sha256>,
    rules: &FetchRules,
    into: &Path,
    seen: &dyn Fn(u64, Option<u64>),
    stop: &AtomicBool,
) -> Result<Fetched, PortError> {
    let job = Job { shown: redact(url), rules, into, seen, stop };
    let (from, answer) = job.open(url)?;
    let fetched = job.store(answer)?;
    let judged = job.judge(url, &from, want, &fetched);
    if judged.is_err() {
        let _ = fs::remove_file(&fetched.path);
    }
    judged.map(|()| fetched)
}

/// Returns a file's hash and size.
///
/// # Errors
/// The file could not be opened or read.
pub fn hash_file(path: &Path) -> io::Result<(Sha256, u64)> {
    let mut sink = Sink { to: io::sink(), hash: Hasher::new(), bytes: 0 };
    let mut file = File::open(path)?;
    let mut chunk = vec![0; 64 << 10];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok((sink.sha256(), sink.bytes)),
            read => sink.take(&chunk[..read])?,
        }
    }
}

/// The parameters of one download.
struct Job<'a> {
    shown: String,
    rules: &'a FetchRules,
    into: &'a Path,
    seen: &'a dyn Fn(u64, Option<u64>),
    stop: &'a AtomicBool,
}

impl Job<'_> {
    /// Checks the content: the right hash, and not a page or an error in the file's place.
    fn judge(&self, raw: &str, from: &Url, want: Option<&Sha256>, fetched: &Fetched) -> Result<(), PortError> {
        let head = File::open(&fetched.path).and_then(|mut file| unpack::head(&mut file));
        let instead = unpack::instead_of_a_file(&head.map_err(|error| self.disk(&error))?);
        let from = match Url::parse(raw).is_ok_and(|raw| raw == *from) {
            true => String::new(),
            false => format!(", after a redirect to {},", meaning::redirected(from)),
        };
        let found = instead.map(|instead| format!("the answer{from} is not the file but {instead}"));
        match want.filter(|want| **want != fetched.sha256) {
            Some(want) => {
                let found = found.map_or_else(String::new, |found| format!("; {found}"));
                let cause = format!("sha256 mismatch: want {want}, got {}{found}", fetched.sha256);
                Err(PortError::permanent(Reason::HashMismatch, self.message(&cause)))
            }
            None => found.map_or(Ok(()), |found| Err(self.failed(&found))),
        }
    }

    /// Follows redirects by hand: each target is a new untrusted URL and passes the whole check again. Returns the URL
    /// that answered, too.
    fn open(&self, raw: &str) -> Result<(Url, Response<Body>), PortError> {
        let (mut url, mut reach) = self.rules.admit(raw)?;
        let mut written = raw.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            self.go_on()?;
            let answer = self.ask(&url, &written, reach)?;
            let Some((target, location)) = redirect_target(&url, &answer) else {
                return self.accept(&url, answer).map(|answer| (url, answer));
            };
            written = location;
            (url, reach) = self.rules.admit_redirect(&url, &target).map_err(|refused| {
                let cause = format!("it redirects to {}: {}", meaning::redirected(&target), refused.message);
                PortError { message: self.message(&cause), ..refused }
            })?;
        }
        Err(self.failed(&format!("more than {MOST_REDIRECTS} redirects")))
    }

    /// A new agent for each hop: a kept-alive connection would skip the next hop's address check.
    fn ask(&self, url: &Url, written: &str, reach: Reach) -> Result<Response<Body>, PortError> {
        let config = plain_http()
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .timeout_resolve(Some(CONNECT_WITHIN))
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_per_read(Some(IDLE_AT_MOST))
            .timeout_per_write(Some(IDLE_AT_MOST))
            .timeout_recv_response(Some(HEADERS_WITHIN))
            .build();
        Agent::with_parts(config, DefaultConnector::default(), CheckedResolver { reach })
            .get(as_written(url, written))
            .call()
            .map_err(|error| self.no_answer(url, reach, &error))
    }

    fn no_answer(&self, url: &Url, reach: Reach, error: &ureq::Error) -> PortError {
        if let Some(refused) = refused_address(url, error) {
            return refused;
        }
        let host = url.host_str().unwrap_or_default();
        match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => self.failed("the URL cannot be sent as it is"),
            // Its text may quote the response.
            ureq::Error::Protocol(_) => self.may_pass(
                Reason::ArtifactFailed,
                &format!("{host} does not speak HTTP/1.1 on this port; is it another port, or https?"),
            ),
            error => {
                let proxies =
                    meaning::proxy_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()));
                self.may_pass(Reason::ArtifactFailed, &meaning::no_answer(url, reach, error, &proxies))
            }
        }
    }

    fn accept(&self, url: &Url, answer: Response<Body>) -> Result<Response<Body>, PortError> {
        let status = answer.status().as_u16();
        let cause = format!("{} answered {status}", url.host_str().unwrap_or_default());
        let is_limit = is_limit(&answer);
        match status {
            200 => Ok(answer),
            _ if is_limit || matches!(status, 408 | 425 | 500..=599) => {
                let asked = wait(&answer, is_limit);
                let said = if is_limit { meaning::limit(asked) } else { meaning::status(status) };
                let failed = self.may_pass(Reason::ArtifactFailed, &(cause + &said));
                Err(PortError { retry_after: asked.map(|asked| asked.min(LONGEST_WAIT)), ..failed })
            }
            202 | 403 | 404 => {
                Err(PortError::absent(Reason::ArtifactFailed, self.message(&(cause + &meaning::status(status)))))
            }
            _ => Err(self.failed(&(cause + &meaning::status(status)))),
        }
    }

    fn store(&self, answer: Response<Body>) -> Result<Fetched, PortError> {
        let length = answer.body().content_length();
        self.check_size(length.unwrap_or(0))?;
        self.check_room(length.unwrap_or(0))?;
        let (part, file) = Part::create(self.into).map_err(|error| self.disk(&error))?;
        let mut sink = Sink { to: &file, hash: Hasher::new(), bytes: 0 };
        self.copy(answer.into_body(), length, &mut sink)?;
        let (sha256, bytes) = (sink.sha256(), sink.bytes);
        // Once: after a failed fsync the pages count as written, and a second one would wrongly succeed.
        file.sync_all().map_err(|error| self.disk(&error))?;
        Ok(Fetched { sha256, bytes, path: part.keep() })
    }

    fn copy(&self, body: Body, length: Option<u64>, sink: &mut Sink<&File>) -> Result<(), PortError> {
        // One byte over the limit shows that there is more; the reader's own limit is a second guard.
        let mut body = body.into_with_config().limit(self.rules.max_bytes.saturating_add(2)).reader();
        let mut rate = Rate::since(Instant::now());
        let mut room_checked = 0;
        let mut chunk = vec![0; 64 << 10];
        loop {
            self.go_on()?;
            let read = match body.read(&mut chunk) {
                Ok(0) => return self.check_complete(sink.bytes, length),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.broken(error, sink.bytes, length)),
            };
            self.check_size(sink.bytes + read as u64)?;
            sink.take(&chunk[..read]).map_err(|error| self.disk(&error))?;
            (self.seen)(sink.bytes, length);
            if !rate.fast_enough(Instant::now(), read as u64) {
                return Err(self.may_pass(Reason::ArtifactTooSlow, "less than 10 KiB/s over 60 s"));
            }
            if sink.bytes - room_checked >= ROOM_CHECK_EVERY {
                room_checked = sink.bytes;
                self.check_room(length.map_or(0, |length| length.saturating_sub(sink.bytes)))?;
            }
        }
    }

    fn check_complete(&self, got: u64, length: Option<u64>) -> Result<(), PortError> {
        match length {
            Some(expected) if got < expected => Err(self.truncated(got, length)),
            _ => Ok(()),
        }
    }

    fn truncated(&self, got: u64, length: Option<u64>) -> PortError {
        let expected = length.map_or("an unknown number of".to_owned(), |length| length.to_string());
        self.may_pass(Reason::ArtifactFailed, &format!("truncated: {got}/{expected} bytes"))
    }

    fn broken(&self, error: io::Error, got: u64, length: Option<u64>) -> PortError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.truncated(got, length);
        }
        match ureq::Error::from(error) {
            ureq::Error::Timeout(_) => {
                self.may_pass(Reason::ArtifactTooSlow, &format!("no data for {} s", IDLE_AT_MOST.as_secs()))
            }
            ureq::Error::Io(error) => {
                self.may_pass(Reason::ArtifactFailed, &format!("broke off after {got} bytes: {error}"))
            }
            _ => self
                .may_pass(Reason::ArtifactFailed, &format!("broke off after {got} bytes: the body is not well formed")),
        }
    }

    fn check_size(&self, bytes: u64) -> Result<(), PortError> {
        match bytes > self.rules.max_bytes {
            true => {
                let cause = format!("artifact too large: more than {} bytes", self.rules.max_bytes);
                Err(PortError::permanent(Reason::ArtifactTooLarge, self.message(&cause)))
            }
            false => Ok(()),
        }
    }

    fn check_room(&self, rest: u64) -> Result<(), PortError> {
        match room(self.into, rest).map_err(|error| self.disk(&error))? {
            Some(missing) => Err(self.may_pass(Reason::DiskFull, &missing)),
            None => Ok(()),
        }
    }

    fn go_on(&self) -> Result<(), PortError> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(self.may_pass(Reason::Interrupted, "it was called off")),
            false => Ok(()),
        }
    }

    fn disk(&self, error: &io::Error) -> PortError {
        disk_error(&format!("fetch {}: writing to {}", self.shown, self.into.display()), error)
    }

    fn failed(&self, cause: &str) -> PortError {
        PortError::permanent(Reason::ArtifactFailed, self.message(cause))
    }

    fn may_pass(&self, reason: Reason, cause: &str) -> PortError {
        PortError::transient(reason, self.message(cause))
    }

    fn message(&self, cause: &str) -> String {
        format!("could not fetch {}: {cause}", self.shown)
    }
}

/// Returns a URL as it is sent. The parser encodes each `'` of a query, as browsers do; RFC 3986, section 3.4, allows it,
/// and a signature over the URL as it was written would no longer hold.
fn as_written(url: &Url, written: &str) -> String {
    let query = written.split('#').next().and_then(|written| written.split_once('?')).map(|(_, query)| query);
    // Where a scheme means nothing to the parser it leaves them alone.
    let mut plain = Url::parse("plain:/").ok();
    if let Some(plain) = &mut plain {
        plain.set_query(query);
    }
    match plain.as_ref().and_then(Url::query) {
        Some(plain) if url.query() == Some(&plain.replace('\'', "%27")) => {
            format!("{}?{plain}", &url[..Position::AfterPath])
        }
        _ => url.as_str().to_owned(),
    }
}

/// Returns the target of a redirect, if it is one, and how it was written.
fn redirect_target(url: &Url, answer: &Response<Body>) -> Option<(Url, String)> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    let mut target = url.join(location).ok()?;
    target.set_fragment(None);
    Some((target, location.to_owned()))
}

/// What servers say how many requests are left, and when there are more. GitHub answers 403 when none is left.
const REMAINING: [&str; 3] = ["x-ratelimit-remaining", "ratelimit-remaining", "x-rate-limit-remaining"];
const RESET: [&str; 3] = ["x-ratelimit-reset", "ratelimit-reset", "x-rate-limit-reset"];

/// Returns whether an answer refuses because of too many requests.
fn is_limit(answer: &Response<Body>) -> bool {
    let none_left = || header_of(answer, &REMAINING) == Some("0");
    match answer.status().as_u16() {
        429 => true,
        403 => answer.headers().contains_key(header::RETRY_AFTER) || none_left(),
        503 => none_left(),
        _ => false,
    }
}

/// Returns how long the server asks to wait. Its times are compared with its own Date: the clock here may be wrong.
fn wait(answer: &Response<Body>, is_limit: bool) -> Option<Duration> {
    let now = || httpdate::parse_http_date(header_of(answer, &["date"])?).ok();
    let until = |then: SystemTime| Some(then.duration_since(now()?).unwrap_or_default());
    let retry_after = header_of(answer, &["retry-after"]).and_then(|asked| match asked.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(asked).ok().and_then(until),
    });
    let reset = || {
        let at = Duration::from_secs(header_of(answer, &RESET).filter(|_| is_limit)?.parse().ok()?);
        // Some count from 1970, others from now.
        if at < FROM_1970 { Some(at) } else { until(SystemTime::UNIX_EPOCH.checked_add(at)?) }
    };
    retry_after.or_else(reset)
}

/// No server asks to wait this long.
const FROM_1970: Duration = Duration::from_secs(1_000_000_000);

/// Returns the first of these headers.
fn header_of<'a>(answer: &'a Response<Body>, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| answer.headers().get(*name)).and_then(|value| value.to_str().ok()).map(str::trim)
}

/// Explains what is missing if a directory's file system has no room for so many bytes.
pub fn room(directory: &Path, bytes: u64) -> io::Result<Option<String>> {
    let disk = statvfs(directory)?;
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    // Some file systems count no inodes and report 0 of 0.
    if disk.files() > 0 && disk.files_available() == 0 {
        return Ok(Some("disk full: no inodes free".to_owned()));
    }
    Ok(missing_room(free, bytes).map(|need| {
        let (own, reserve) = (mebibytes(bytes), mebibytes(RESERVE));
        let (need, free, place) = (mebibytes(need), format!("{} MiB", free >> 20), directory.display());
        format!(
            "disk full: need {need} in {place} ({own} for it, and {reserve} that the agent always leaves free), free {free}; \
             make room, and it goes on by itself"
        )
    }))
}

/// Rounds up: 0 is shown only for 0.
fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// Returns how many bytes would have to be free, if they are not.
fn missing_room(free: u64, rest: u64) -> Option<u64> {
    let need = rest.saturating_add(RESERVE);
    (free < need).then_some(need)
}

/// Hashes what it passes on.
struct Sink<W> {
    to: W,
    hash: Hasher,
    bytes: u64,
}

impl<W: Write> Sink<W> {
    fn take(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.to.write_all(chunk)?;
        self.hash.update(chunk);
        self.bytes += chunk.len() as u64;
        Ok(())
    }

    fn sha256(&self) -> Sha256 {
        Sha256::of_digest(self.hash.clone().finalize().into())
    }
}

/// Aborts a server that sends just enough to never be idle.
struct Rate {
    since: Instant,
    bytes: u64,
}

impl Rate {
    const WINDOW: Duration = Duration::from_secs(60);
    const LEAST: u64 = 60 * (10 << 10);

    fn since(now: Instant) -> Self {
        Self { since: now, bytes: 0 }
    }

    /// Counts bytes, and checks each window at its end.
    fn fast_enough(&mut self, now: Instant, bytes: u64) -> bool {
        self.bytes += bytes;
        if now.duration_since(self.since) < Self::WINDOW {
            return true;
        }
        let counted = std::mem::replace(self, Self::since(now)).bytes;
        counted >= Self::LEAST
    }
}

/// The file being written; removed on drop unless it is kept.
struct Part {
    path: Option<PathBuf>,
}

impl Part {
    fn create(dir: &Path) -> io::Result<(Self, File)> {
        let random = getrandom::u64().map_err(io::Error::other)?;
        let path = dir.join(format!(".part-{random:016x}"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok((Self { path: Some(path) }, file))
    }

    fn keep(mut self) -> PathBuf {
        self.path.take().unwrap_or_default()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests;
