//! Brings one artifact from its URL to this disk, and proves that it is the one that was asked for.
//!
//! Nothing here decides whether to try again: every error says whether it may pass. Nothing of an answer but its
//! status, its length and its hash ever reaches a message: the body may come from a service that trusts this server.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;
use sha2::{Digest, Sha256 as Hasher};
use ureq::http::{Response, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body};
use url::Url;

use super::address::{CheckedResolver, Reach, refused_address};
pub use super::address::{FetchRules, redact};
use super::disk_error;
use crate::model::names::Sha256;
use crate::port::PortError;

const MOST_REDIRECTS: usize = 5;
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const IDLE_AT_MOST: Duration = Duration::from_secs(30);
const HEADERS_WITHIN: Duration = Duration::from_secs(60);
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);
/// What stays free after a download: the database and the running projects must still be able to write.
const RESERVE: u64 = 256 << 20;
/// How much may be written before the free space is looked at again.
const ROOM_CHECK_EVERY: u64 = 64 << 20;

/// One artifact, complete and verified, in a file that the caller renames to where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The hash of what is in the file.
    pub sha256: Sha256,
    /// Its size.
    pub bytes: u64,
    /// Where it lies; flushed to the disk.
    pub path: PathBuf,
}

/// Fetches a URL into a new file in the directory `into`, telling `seen` how far it is and giving up when `stop` is
/// set. On any error nothing is left behind.
///
/// # Errors
/// `UrlForbidden`, `AddressForbidden`, `HashMismatch` and `ArtifactTooLarge` last; so does `ArtifactFailed` when the
/// server says that the artifact is not there for us. Everything else may pass.
pub fn fetch(
    url: &str,
    want: Option<&Sha256>,
    rules: &FetchRules,
    into: &Path,
    seen: &dyn Fn(u64, Option<u64>),
    stop: &AtomicBool,
) -> Result<Fetched, PortError> {
    let job = Job { shown: redact(url), rules, into, seen, stop };
    let answer = job.open(url)?;
    let fetched = job.store(answer)?;
    match want {
        Some(want) if *want != fetched.sha256 => {
            let _ = fs::remove_file(&fetched.path);
            let cause = format!("sha256 mismatch: want {want}, got {}", fetched.sha256);
            Err(PortError::lasting("HashMismatch", job.message(&cause)))
        }
        _ => Ok(fetched),
    }
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

/// What every step of one download needs.
struct Job<'a> {
    shown: String,
    rules: &'a FetchRules,
    into: &'a Path,
    seen: &'a dyn Fn(u64, Option<u64>),
    stop: &'a AtomicBool,
}

impl Job<'_> {
    /// Follows redirects by hand: each target is a new URL from a stranger and passes the whole check again.
    fn open(&self, raw: &str) -> Result<Response<Body>, PortError> {
        let (mut url, mut reach) = self.rules.admit(raw)?;
        for _ in 0..=MOST_REDIRECTS {
            self.go_on()?;
            let answer = self.ask(&url, reach)?;
            let Some(target) = redirect_target(&url, &answer) else { return self.accept(&url, answer) };
            (url, reach) = self.rules.admit_redirect(&url, &target)?;
        }
        Err(self.failed(&format!("more than {MOST_REDIRECTS} redirects")))
    }

    /// A new agent for each hop: a kept connection would skip the address check of the next one.
    fn ask(&self, url: &Url, reach: Reach) -> Result<Response<Body>, PortError> {
        let config = Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .user_agent("zexio")
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .timeout_resolve(Some(CONNECT_WITHIN))
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_per_read(Some(IDLE_AT_MOST))
            .timeout_per_write(Some(IDLE_AT_MOST))
            .timeout_recv_response(Some(HEADERS_WITHIN))
            .build();
        Agent::with_parts(config, DefaultConnector::default(), CheckedResolver { reach })
            .get(url.as_str())
            .call()
            .map_err(|error| self.no_answer(url, &error))
    }

    fn no_answer(&self, url: &Url, error: &ureq::Error) -> PortError {
        if let Some(refused) = refused_address(error) {
            return refused;
        }
        let host = url.host_str().unwrap_or_default();
        match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => self.failed("the URL cannot be sent as it is"),
            // Its text may quote the answer.
            ureq::Error::Protocol(_) => self.may_pass("ArtifactFailed", &format!("{host} does not speak HTTP/1.1")),
            error => self.may_pass("ArtifactFailed", &format!("no answer from {host}: {error}")),
        }
    }

    fn accept(&self, url: &Url, answer: Response<Body>) -> Result<Response<Body>, PortError> {
        let status = answer.status().as_u16();
        let cause = format!("{} answered {status}", url.host_str().unwrap_or_default());
        match status {
            200 => Ok(answer),
            408 | 425 | 429 | 500..=599 => {
                Err(PortError { retry_after: retry_after(&answer), ..self.may_pass("ArtifactFailed", &cause) })
            }
            _ => Err(self.failed(&cause)),
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
        // Once: after a failed fsync the pages count as written, and a second one would lie.
        file.sync_all().map_err(|error| self.disk(&error))?;
        Ok(Fetched { sha256, bytes, path: part.keep() })
    }

    fn copy(&self, body: Body, length: Option<u64>, sink: &mut Sink<&File>) -> Result<(), PortError> {
        // One byte more than allowed shows that there is more; the reader's own limit is a second net.
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
                return Err(self.may_pass("ArtifactTooSlow", "less than 10 KiB/s over 60 s"));
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
        self.may_pass("ArtifactFailed", &format!("truncated: {got}/{expected} bytes"))
    }

    fn broken(&self, error: io::Error, got: u64, length: Option<u64>) -> PortError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.truncated(got, length);
        }
        match ureq::Error::from(error) {
            ureq::Error::Timeout(_) => {
                self.may_pass("ArtifactTooSlow", &format!("no data for {} s", IDLE_AT_MOST.as_secs()))
            }
            ureq::Error::Io(error) => self.may_pass("ArtifactFailed", &format!("broke off after {got} bytes: {error}")),
            _ => self.may_pass("ArtifactFailed", &format!("broke off after {got} bytes: the body is not well formed")),
        }
    }

    fn check_size(&self, bytes: u64) -> Result<(), PortError> {
        match bytes > self.rules.max_bytes {
            true => {
                let cause = format!("artifact too large: more than {} bytes", self.rules.max_bytes);
                Err(PortError::lasting("ArtifactTooLarge", self.message(&cause)))
            }
            false => Ok(()),
        }
    }

    fn check_room(&self, rest: u64) -> Result<(), PortError> {
        let free = statvfs(self.into).map_err(|errno| self.disk(&errno.into()))?;
        let bytes = free.blocks_available().saturating_mul(free.fragment_size());
        // Some file systems count no inodes and say 0 of 0.
        if free.files() > 0 && free.files_available() == 0 {
            return Err(self.may_pass("DiskFull", "disk full: no inodes free"));
        }
        match missing_room(bytes, rest) {
            Some(need) => Err(self.may_pass("DiskFull", &format!("disk full: need {need} bytes, free {bytes}"))),
            None => Ok(()),
        }
    }

    fn go_on(&self) -> Result<(), PortError> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(self.may_pass("Interrupted", "it was called off")),
            false => Ok(()),
        }
    }

    fn disk(&self, error: &io::Error) -> PortError {
        disk_error(&format!("fetch {}: writing to {}", self.shown, self.into.display()), error)
    }

    fn failed(&self, cause: &str) -> PortError {
        PortError::lasting("ArtifactFailed", self.message(cause))
    }

    fn may_pass(&self, reason: &'static str, cause: &str) -> PortError {
        PortError::passing(reason, self.message(cause))
    }

    fn message(&self, cause: &str) -> String {
        format!("could not fetch {}: {cause}", self.shown)
    }
}

/// Returns where an answer sends us on to, if it does.
fn redirect_target(url: &Url, answer: &Response<Body>) -> Option<Url> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    let mut target = url.join(location).ok()?;
    target.set_fragment(None);
    Some(target)
}

/// Reads the seconds form only: a date would need this server's clock to be right, which may be what is wrong.
fn retry_after(answer: &Response<Body>) -> Option<Duration> {
    let seconds = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

/// Returns what would have to be free, if it is not.
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

/// Ends a server that sends just enough to never be idle.
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

    /// Counts, and judges each window once it is over.
    fn fast_enough(&mut self, now: Instant, bytes: u64) -> bool {
        self.bytes += bytes;
        if now.duration_since(self.since) < Self::WINDOW {
            return true;
        }
        let counted = std::mem::replace(self, Self::since(now)).bytes;
        counted >= Self::LEAST
    }
}

/// The file being written; gone with this value unless it is kept.
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
mod tests {
    use std::cell::Cell;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    use super::*;
    use crate::port::Lasting;

    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    /// Answers one connection after the other with the given bytes, then is gone.
    fn server(answers: Vec<String>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                skip_request(&stream, answer.starts_with("HTTP/"));
                // A client that has seen enough hangs up.
                let _ = (&stream).write_all(answer.as_bytes());
            }
        });
        base
    }

    /// Reads up to the empty line; of what is no HTTP request, a part.
    fn skip_request(mut stream: &std::net::TcpStream, is_http: bool) {
        if !is_http {
            let _ = stream.read(&mut [0; 4096]);
            return;
        }
        let mut lines = BufReader::new(stream).lines();
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    }

    fn answer(status: &str, headers: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n{body}")
    }

    fn ok(body: &str) -> String {
        answer("200 OK", &format!("content-length: {}\r\n", body.len()), body)
    }

    struct Case {
        dir: tempfile::TempDir,
        rules: FetchRules,
        stop: AtomicBool,
    }

    impl Case {
        fn new() -> Self {
            let rules = FetchRules { allow: Vec::new(), max_bytes: 1000 };
            Self { dir: tempfile::tempdir().unwrap(), rules, stop: AtomicBool::new(false) }
        }

        fn fetch(&self, url: &str, want: Option<&str>) -> Result<Fetched, PortError> {
            let want = want.map(|want| Sha256::parse(want).unwrap());
            fetch(url, want.as_ref(), &self.rules, self.dir.path(), &|_, _| {}, &self.stop)
        }

        /// Fetches, and sees to it that the failure left nothing behind and told no secret.
        fn fail(&self, url: &str) -> PortError {
            let error = self.fetch(&format!("{url}/a.tar?token=SECRET"), Some(&HELLO.replace('2', "3"))).unwrap_err();
            assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 0, "{error}");
            assert!(!error.message.contains("SECRET"), "{error}");
            error
        }
    }

    #[test]
    fn a_good_artifact_lies_complete_in_the_directory() {
        let case = Case::new();
        let last = Cell::new((0, None));
        let url = server(vec![ok("hello")]);
        let want = Sha256::parse(HELLO).unwrap();
        let told = |bytes, of| last.set((bytes, of));
        let fetched = fetch(&url, Some(&want), &case.rules, case.dir.path(), &told, &case.stop).unwrap();
        assert_eq!((fetched.sha256, fetched.bytes, last.get()), (want.clone(), 5, (5, Some(5))));
        assert_eq!(fs::read(&fetched.path).unwrap(), b"hello");
        assert_eq!(hash_file(&fetched.path).unwrap(), (want, 5));
        assert_eq!(fetched.path.parent(), Some(case.dir.path()));
    }

    #[test]
    fn an_answer_without_a_length_is_taken_until_it_ends() {
        let url = server(vec![answer("200 OK", "", "hello")]);
        assert_eq!(Case::new().fetch(&url, Some(HELLO)).unwrap().bytes, 5);
        let url = server(vec![answer("200 OK", "transfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n")]);
        assert_eq!(Case::new().fetch(&url, Some(HELLO)).unwrap().bytes, 5);
    }

    #[test]
    fn each_bad_answer_has_its_reason_and_says_whether_it_may_pass() {
        let chunked = "transfer-encoding: chunked\r\n";
        let big = "x".repeat(1001);
        for (answer, lasting, reason, text) in [
            (ok("other"), Lasting::Yes, "HashMismatch", "want 3cf"),
            (answer("200 OK", "content-length: 9\r\n", "SECRET"), Lasting::No, "ArtifactFailed", "truncated: 6/9"),
            (answer("200 OK", chunked, "9\r\nSECRET"), Lasting::No, "ArtifactFailed", "truncated: 6/"),
            (answer("200 OK", "content-length: 1001\r\n", ""), Lasting::Yes, "ArtifactTooLarge", "1000 bytes"),
            (answer("200 OK", "", &big), Lasting::Yes, "ArtifactTooLarge", "1000 bytes"),
            (answer("404 SECRET", "", "SECRET"), Lasting::Yes, "ArtifactFailed", "127.0.0.1 answered 404"),
            (answer("400 x", "", "SECRET"), Lasting::Yes, "ArtifactFailed", "400"),
            (answer("401 x", "", "SECRET"), Lasting::Yes, "ArtifactFailed", "401"),
            (answer("403 x", "", "SECRET"), Lasting::Yes, "ArtifactFailed", "403"),
            (answer("410 x", "", "SECRET"), Lasting::Yes, "ArtifactFailed", "410"),
            (answer("206 x", "", "SECRET"), Lasting::Yes, "ArtifactFailed", "206"),
            (answer("304 x", "", ""), Lasting::Yes, "ArtifactFailed", "304"),
            (answer("408 x", "", "SECRET"), Lasting::No, "ArtifactFailed", "408"),
            (answer("500 x", "", "SECRET"), Lasting::No, "ArtifactFailed", "500"),
            ("SECRET\r\n\r\n".to_owned(), Lasting::No, "ArtifactFailed", "127.0.0.1"),
        ] {
            let error = Case::new().fail(&server(vec![answer.clone()]));
            assert_eq!((error.lasting, error.reason), (lasting, reason), "{answer}: {error}");
            assert!(error.message.contains(text), "{error}");
        }
    }

    #[test]
    fn retry_after_is_honoured_up_to_ten_minutes() {
        for (given, want) in [("7", Some(7)), ("86400", Some(600)), ("soon", None), ("-1", None)] {
            let header = format!("retry-after: {given}\r\n");
            for status in ["503 x", "429 x"] {
                let error = Case::new().fail(&server(vec![answer(status, &header, "")]));
                assert_eq!((error.lasting, error.retry_after), (Lasting::No, want.map(Duration::from_secs)), "{given}");
            }
        }
    }

    #[test]
    fn a_redirect_is_checked_like_a_new_url() {
        let to = |location: &str| answer("302 x", &format!("location: {location}\r\n"), "");
        for (location, reason) in [
            ("/next", "AddressForbidden"),
            ("http://127.0.0.1:1/SECRET", "AddressForbidden"),
            ("https://169.254.169.254/SECRET", "AddressForbidden"),
            ("http://example.com/SECRET", "UrlForbidden"),
            ("file:///etc/SECRET", "UrlForbidden"),
        ] {
            let error = Case::new().fail(&server(vec![to(location)]));
            assert_eq!((error.lasting, error.reason), (Lasting::Yes, reason), "{location}");
        }
    }

    #[test]
    fn five_redirects_are_followed_and_no_more() {
        let to = || answer("302 x", "location: /next#part\r\n", "");
        let run = |redirects: usize| {
            let mut answers: Vec<_> = (0..redirects).map(|_| to()).collect();
            answers.push(ok("hello"));
            let url = server(answers);
            let mut case = Case::new();
            case.rules.allow = vec![url.clone()];
            case.fetch(&url, Some(HELLO))
        };
        assert_eq!(run(5).unwrap().bytes, 5);
        let error = run(6).unwrap_err();
        assert_eq!((error.lasting, error.reason), (Lasting::Yes, "ArtifactFailed"));
        assert!(error.message.ends_with("more than 5 redirects"), "{error}");
    }

    #[test]
    fn a_server_that_is_not_there_may_come_back() {
        let error = Case::new().fail(&server(Vec::new()));
        assert_eq!((error.lasting, error.reason), (Lasting::No, "ArtifactFailed"));
    }

    #[test]
    fn a_handshake_that_fails_may_succeed_later() {
        let url = server(vec!["SECRET, not a handshake".to_owned()]).replace("http:", "https:");
        let mut case = Case::new();
        case.rules.allow = vec![url.clone()];
        let error = case.fail(&url);
        assert_eq!((error.lasting, error.reason), (Lasting::No, "ArtifactFailed"));
    }

    #[test]
    fn a_download_that_is_called_off_ends_at_once() {
        let case = Case::new();
        case.stop.store(true, Ordering::Relaxed);
        assert_eq!(case.fail(&server(vec![ok("hello")])).reason, "Interrupted");
    }

    #[test]
    fn a_trickle_is_too_slow_only_after_a_whole_window() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut rate = Rate::since(start);
        assert!(rate.fast_enough(at(59), 1));
        assert!(!rate.fast_enough(at(60), 1));
        let mut rate = Rate::since(start);
        assert!(rate.fast_enough(at(60), Rate::LEAST));
        assert!(!rate.fast_enough(at(120), Rate::LEAST - 1));
    }

    #[test]
    fn a_download_leaves_the_reserve_free() {
        assert_eq!(missing_room(RESERVE + 5, 5), None);
        assert_eq!(missing_room(RESERVE + 4, 5), Some(RESERVE + 5));
        assert_eq!(missing_room(0, u64::MAX), Some(u64::MAX));
    }
}
