//! Talks to the agent: over its socket, or to a URL. Signs every request.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::Notify;
use url::Url;

use super::failure::{self, Failure};
use super::signing::{Signer, host_of};
use crate::heartbeat::{self, Mark};
use crate::model::names::Sha256;
use crate::settings::SOCKET;
use crate::sign::{Head, digest};

/// The longest answer that is read whole.
const LONGEST: u64 = 64 << 20;
/// How long until the agent must have begun to answer, or to take more of an upload.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How much of a long body is read at once.
const PIECE: usize = 256 << 10;
const OCTETS: &str = "application/octet-stream";

/// A request, without what signing adds.
#[derive(Debug, Clone, Default)]
pub struct Ask<'a> {
    pub method: &'a str,
    /// With the query, if any.
    pub target: String,
    /// `Accept`; empty for the default.
    pub accept: &'a str,
    /// `Content-Type`; empty if there is no body.
    pub content_type: &'a str,
    pub body: Vec<u8>,
}

impl<'a> Ask<'a> {
    /// Creates a GET request.
    pub fn get(target: impl Into<String>) -> Self {
        Self { method: "GET", target: target.into(), ..Self::default() }
    }

    /// Creates a request with a JSON body.
    pub fn json(method: &'a str, target: impl Into<String>, body: &Value) -> Self {
        let body = body.to_string().into_bytes();
        Self { method, target: target.into(), content_type: "application/json", body, ..Self::default() }
    }
}

/// The agent's answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// The pass that the answer is from.
    pub mark: Option<Mark>,
}

impl Answer {
    /// Returns the body of a success as JSON.
    ///
    /// # Errors
    /// The agent refused, and why.
    pub fn value(&self) -> Result<Value, Failure> {
        match self.status {
            200..=299 if self.body.is_empty() => Ok(Value::Null),
            200..=299 => serde_json::from_slice(&self.body)
                .map_err(|e| Failure::new(format!("could not read the agent's answer: {e}"))),
            status => Err(failure::refusal(status, &self.body)),
        }
    }
}

/// Both clients use the same library's header type.
fn mark_in(headers: &hyper::HeaderMap) -> Option<Mark> {
    Mark::parse(headers.get(heartbeat::HEADER)?.to_str().ok()?)
}

/// Where the agent listens: the local socket or a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Socket(PathBuf),
    Web(Url),
}

impl Place {
    /// Parses the given address; none: the local socket.
    ///
    /// # Errors
    /// The text is not an address; the message shows one.
    pub fn parse(raw: Option<&str>) -> Result<Self, Failure> {
        let Some(raw) = raw.filter(|raw| !raw.is_empty()) else { return Ok(Place::Socket(SOCKET.into())) };
        if let Some(path) = raw.strip_prefix("unix:").or_else(|| raw.starts_with('/').then_some(raw)) {
            return Ok(Place::Socket(path.into()));
        }
        let fits =
            |url: &Url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some() && url.path() == "/";
        let url = Url::parse(raw).ok().filter(fits);
        url.map(Place::Web)
            .ok_or_else(|| Failure::new(format!("{raw:?} is not an address like https://agent.example.com")))
    }

    fn host(&self) -> String {
        match self {
            Place::Socket(_) => "localhost".into(),
            Place::Web(url) => host_of(url),
        }
    }

    fn shown(&self) -> String {
        match self {
            Place::Socket(path) => path.display().to_string(),
            Place::Web(url) => url.as_str().trim_end_matches('/').to_owned(),
        }
    }
}

/// Handles a line of an answer; an error ends the answer.
type Take<'a> = &'a mut dyn FnMut(&str) -> Result<(), Failure>;

/// Talks to one agent with one key.
pub struct Client {
    place: Place,
    signer: Signer,
    /// The mark of its newest write.
    written: Cell<Option<Mark>>,
}

impl Client {
    /// Creates a client that has written nothing yet.
    pub fn new(place: Place, signer: Signer) -> Self {
        Self { place, signer, written: Cell::default() }
    }

    /// Tells whether an answer is from a pass that began after all of this client's writes. Older agents do not report
    /// passes.
    pub fn is_fresh(&self, answer: &Answer) -> bool {
        self.written.get().zip(answer.mark).is_none_or(|(written, seen)| seen.is_after(written))
    }

    /// Sends a request and returns the answer.
    ///
    /// # Errors
    /// The agent could not be reached.
    pub fn send(&self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let signature = self.sign(ask)?;
        let answer = match &self.place {
            Place::Socket(path) => self.over_socket(path, ask, &signature, Outgoing::whole(ask), None)?,
            Place::Web(url) => {
                let (head, reader) = self.over_web(url, ask, &signature, true)?;
                let mut body = Vec::new();
                reader.take(LONGEST).read_to_end(&mut body).map_err(|e| self.unreachable(&e))?;
                Answer { body, ..head }
            }
        };
        if ask.method != "GET" {
            self.written.set(answer.mark.or(self.written.get()));
        }
        Ok(answer)
    }

    /// Sends a request and returns the success as JSON.
    ///
    /// # Errors
    /// The agent could not be reached, or refused.
    pub fn value(&self, ask: &Ask<'_>) -> Result<Value, Failure> {
        self.send(ask)?.value()
    }

    /// Sends a request and returns the success as text.
    ///
    /// # Errors
    /// The agent could not be reached, refused, or answered something else.
    pub fn text(&self, ask: &Ask<'_>) -> Result<String, Failure> {
        let answer = self.send(ask)?;
        match answer.status {
            200..=299 => String::from_utf8(answer.body)
                .map_err(|e| Failure::new(format!("could not read the agent's answer: {e}"))),
            status => Err(failure::refusal(status, &answer.body)),
        }
    }

    /// Streams a long body and returns the success as JSON.
    ///
    /// # Errors
    /// The agent could not be reached, or refused.
    pub fn upload(&self, target: &str, mut upload: Upload) -> Result<Value, Failure> {
        let ask = Ask { method: "POST", target: target.to_owned(), content_type: OCTETS, ..Ask::default() };
        let signature = self.signature(&ask, upload.sha256.clone())?;
        let answer = match &self.place {
            Place::Socket(path) => self.over_socket(path, &ask, &signature, Outgoing::of(upload), None)?,
            Place::Web(url) => {
                // A refusal comes before the body is sent: 100-continue waits for it.
                let request = self.web_request(url, &ask, &signature);
                let request = request.header("content-length", upload.bytes).header("expect", "100-continue");
                let body = ureq::SendBody::from_reader(&mut *upload.content);
                let agent = ureq::Agent::new_with_config(web_config().build());
                let sent = agent.run(request.body(body).map_err(|e| not_formed(&e))?);
                let answer = sent.map_err(|e| self.unreachable(&e))?;
                let (status, mut body) = (answer.status().as_u16(), Vec::new());
                let reader = answer.into_body().into_reader().take(LONGEST).read_to_end(&mut body);
                reader.map_err(|e| self.unreachable(&e))?;
                Answer { status, body, mark: None }
            }
        };
        answer.value()
    }

    /// Sends a request and passes on each line of the answer as it arrives.
    ///
    /// # Errors
    /// The agent could not be reached, refused, or the line handler failed.
    pub fn lines(&self, ask: &Ask<'_>, take: Take<'_>) -> Result<(), Failure> {
        let signature = self.sign(ask)?;
        match &self.place {
            Place::Socket(path) => {
                let answer = self.over_socket(path, ask, &signature, Outgoing::whole(ask), Some(take))?;
                answer.value().map(|_| ())
            }
            Place::Web(url) => {
                let (head, body) = self.over_web(url, ask, &signature, false)?;
                self.read_lines(head.status, body, take)
            }
        }
    }

    fn sign(&self, ask: &Ask<'_>) -> Result<String, Failure> {
        self.signature(ask, digest(&ask.body))
    }

    fn signature(&self, ask: &Ask<'_>, body: Sha256) -> Result<String, Failure> {
        let (path, query) = ask.target.split_once('?').unwrap_or((&ask.target, ""));
        let host = self.place.host();
        let head = Head { method: ask.method, host: &host, path, query, content_type: ask.content_type };
        self.signer.header_of_digest(&head, body)
    }

    fn web_request(&self, url: &Url, ask: &Ask<'_>, signature: &str) -> ureq::http::request::Builder {
        let target = format!("{}{}", self.place.shown(), ask.target);
        let mut request = ureq::http::Request::builder().method(ask.method).uri(target);
        request = request.header(crate::sign::HEADER, signature).header("host", host_of(url));
        if !ask.accept.is_empty() {
            request = request.header("accept", ask.accept);
        }
        if !ask.content_type.is_empty() {
            request = request.header("content-type", ask.content_type);
        }
        request
    }

    fn read_lines(&self, status: u16, body: impl Read, take: Take<'_>) -> Result<(), Failure> {
        let mut body = BufReader::new(body);
        if !(200..300).contains(&status) {
            let mut all = Vec::new();
            body.take(LONGEST).read_to_end(&mut all).map_err(|e| self.unreachable(&e))?;
            return Err(failure::refusal(status, &all));
        }
        let mut line = Vec::new();
        while body.read_until(b'\n', &mut line).map_err(|e| self.unreachable(&e))? > 0 {
            take(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']))?;
            line.clear();
        }
        Ok(())
    }

    fn over_web(
        &self,
        url: &Url,
        ask: &Ask<'_>,
        signature: &str,
        whole: bool,
    ) -> Result<(Answer, impl Read + use<>), Failure> {
        let config = web_config().timeout_global(whole.then_some(TIMEOUT * 2)).build();
        let request = self.web_request(url, ask, signature);
        let agent = ureq::Agent::new_with_config(config);
        // The library treats any body on GET or DELETE as an error, even an empty one.
        let sent = match ask.method {
            "PUT" | "POST" => agent.run(request.body(ask.body.clone()).map_err(|e| not_formed(&e))?),
            _ => agent.run(request.body(()).map_err(|e| not_formed(&e))?),
        };
        let answer = sent.map_err(|e| self.unreachable(&e))?;
        let head = Answer { status: answer.status().as_u16(), body: Vec::new(), mark: mark_in(answer.headers()) };
        Ok((head, answer.into_body().into_reader()))
    }

    fn over_socket(
        &self,
        path: &Path,
        ask: &Ask<'_>,
        signature: &str,
        body: Outgoing,
        take: Option<Take<'_>>,
    ) -> Result<Answer, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Failure::new(format!("could not start the client: {e}")))?;
        runtime.block_on(self.converse(path, ask, signature, body, take))
    }

    async fn converse(
        &self,
        path: &Path,
        ask: &Ask<'_>,
        signature: &str,
        body: Outgoing,
        take: Option<Take<'_>>,
    ) -> Result<Answer, Failure> {
        let stream = tokio::net::UnixStream::connect(path).await.map_err(|e| self.unreachable(&e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.unreachable(&e))?;
        tokio::spawn(connection);
        let mut request = hyper::Request::builder().method(ask.method).uri(&ask.target).header("host", "localhost");
        request = request.header(crate::sign::HEADER, signature);
        if !ask.accept.is_empty() {
            request = request.header("accept", ask.accept);
        }
        if !ask.content_type.is_empty() {
            request = request.header("content-type", ask.content_type);
        }
        if body.go.is_some() {
            request = request.header("expect", "100-continue");
        }
        let mut request = request.body(body.body).map_err(|e| not_formed(&e))?;
        if let Some(go) = body.go {
            hyper::ext::on_informational(&mut request, move |_| go.notify_one());
        }
        let mut answer = std::pin::pin!(sender.send_request(request));
        let mut before = 0;
        let answer = loop {
            match tokio::time::timeout(TIMEOUT, &mut answer).await {
                Ok(answer) => break answer.map_err(|e| self.unreachable(&e))?,
                Err(_) if body.sent.load(Ordering::Relaxed) > before => before = body.sent.load(Ordering::Relaxed),
                Err(_) => return Err(self.unreachable(&"no answer within 60 s")),
            }
        };
        let (status, mark) = (answer.status().as_u16(), mark_in(answer.headers()));
        let body = match take.filter(|_| answer.status().is_success()) {
            Some(take) => self.hand_on(answer.into_body(), take).await.map(|()| Vec::new())?,
            None => {
                let limited = http_body_util::Limited::new(answer.into_body(), LONGEST as usize);
                limited.collect().await.map_err(|e| self.unreachable(&e))?.to_bytes().to_vec()
            }
        };
        Ok(Answer { status, body, mark })
    }

    async fn hand_on(&self, mut body: hyper::body::Incoming, take: Take<'_>) -> Result<(), Failure> {
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| self.unreachable(&e))?;
            rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                take(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']))?;
            }
        }
        if rest.is_empty() { Ok(()) } else { take(&String::from_utf8_lossy(&rest)) }
    }

    fn unreachable(&self, cause: &dyn std::fmt::Display) -> Failure {
        let hint = match self.place {
            Place::Socket(_) => "; is it running? systemctl status zexio-agent",
            Place::Web(_) => "",
        };
        Failure::new(format!("could not reach the agent at {}: {cause}{hint}", self.place.shown()))
    }
}

/// A body that is streamed, not held in memory.
pub struct Upload {
    pub content: Box<dyn Read + Send>,
    pub bytes: u64,
    /// Known in advance: it is signed before the body is sent.
    pub sha256: Sha256,
}

/// A body on its way to the socket, and how much of it was sent.
struct Outgoing {
    body: UnsyncBoxBody<Bytes, io::Error>,
    sent: Arc<AtomicU64>,
    /// Notified when the agent wants the body; none: it is sent at once.
    go: Option<Arc<Notify>>,
}

impl Outgoing {
    fn whole(ask: &Ask<'_>) -> Self {
        let body = Full::new(Bytes::from(ask.body.clone())).map_err(|never| match never {}).boxed_unsync();
        Self { body, sent: Arc::default(), go: None }
    }

    fn of(upload: Upload) -> Self {
        let (sent, go) = (Arc::default(), Arc::new(Notify::new()));
        let told = Arc::clone(&go);
        // A server that does not know 100-continue does not answer it.
        let wait = Box::pin(async move {
            let _ = tokio::time::timeout(Duration::from_secs(1), told.notified()).await;
        });
        let reading = Reading { upload, sent: Arc::clone(&sent), wait: Some(wait) };
        Self { body: reading.boxed_unsync(), sent, go: Some(go) }
    }
}

/// Reads a body piece by piece. It blocks: the client has nothing else to do.
struct Reading {
    upload: Upload,
    sent: Arc<AtomicU64>,
    /// Waits until the agent wants it: a refusal that arrives during the upload would be lost.
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Body for Reading {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if let Some(wait) = &mut this.wait {
            ready!(wait.as_mut().poll(context));
            this.wait = None;
        }
        let mut piece = vec![0; PIECE];
        Poll::Ready(match this.upload.content.read(&mut piece) {
            Ok(0) => None,
            Ok(got) => {
                piece.truncate(got);
                this.sent.fetch_add(got as u64, Ordering::Relaxed);
                Some(Ok(Frame::data(piece.into())))
            }
            Err(error) => Some(Err(error)),
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.upload.bytes.saturating_sub(self.sent.load(Ordering::Relaxed)))
    }
}

fn web_config() -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        // A redirect would be another request, which this signature does not cover.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(TIMEOUT))
}

fn not_formed(cause: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("could not form the request: {cause}"))
}

/// Escapes a value for a query.
pub fn query(pairs: &[(&str, String)]) -> String {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    text.extend_pairs(pairs);
    let text = text.finish();
    if text.is_empty() { text } else { format!("?{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_place_is_a_socket_or_a_bare_address() {
        let host = |raw: &str| Place::parse(Some(raw)).map(|place| place.host());
        assert_eq!(Place::parse(None).unwrap(), Place::Socket(SOCKET.into()));
        assert_eq!(host("/tmp/a.sock").unwrap(), "localhost");
        assert_eq!(host("https://Agent.example.com:8443").unwrap(), "agent.example.com:8443");
        assert_eq!(host("https://agent.example.com:443/").unwrap(), "agent.example.com");
        assert_eq!(host("http://127.0.0.1:7470").unwrap(), "127.0.0.1:7470");
        for bad in ["agent.example.com", "ftp://a.example.com", "https://a.example.com/v1", "https://"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    /// Gives this answer to one request, and returns that request.
    fn answer_once(mut stream: impl Read + io::Write, answer: &str) -> String {
        let mut asked = Vec::new();
        let mut chunk = [0; 4096];
        while !asked.ends_with(b"\r\n\r\n") && !asked.ends_with(b"}") {
            match stream.read(&mut chunk).unwrap() {
                0 => break,
                n => asked.extend_from_slice(&chunk[..n]),
            }
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    }

    fn signer(dir: &Path) -> Signer {
        std::fs::write(dir.join("ci"), "zxs_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8").unwrap();
        Signer::read(Some(&dir.join("ci"))).unwrap()
    }

    /// Tells whether the request carries a valid signature.
    fn is_signed(asked: &str, method: &str, host: &str, target: &str, content_type: &str) -> bool {
        let header = asked.lines().find_map(|line| line.strip_prefix("x-signature: ")).unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let key = crate::sign::Key::from_bytes(std::array::from_fn(|i| i as u8));
        let signature = crate::sign::Signature::parse(header.as_bytes()).unwrap();
        let sent_host = asked.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        asked.starts_with(&format!("{method} {target} HTTP/1.1\r\n"))
            && sent_host == host
            && signature.is_by(&key, &Head { method, host, path, query, content_type })
    }

    const NO: &str = "HTTP/1.1 409 Conflict\r\ncontent-type: application/problem+json\r\ncontent-length: 73\r\n\r\n\
        {\"status\":409,\"code\":\"owned\",\"detail\":\"project shop belongs to file:a\"  }";
    const LINES: &str =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\none\nt\r\n3\r\nwo\n\r\n3\r\nend\r\n0\r\n\r\n";

    #[test]
    fn over_the_socket_requests_are_signed_for_localhost_and_refusals_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || answer_once(listener.accept().unwrap().0, NO));
        let client = Client::new(Place::Socket(path), signer(dir.path()));
        let body = serde_json::json!({"to": 3});
        let failure = client.value(&Ask::json("POST", "/v1/projects/shop/rollback", &body)).unwrap_err();
        assert_eq!(failure.message, "project shop belongs to file:a (409 owned)");
        let asked = server.join().unwrap();
        assert!(is_signed(&asked, "POST", "localhost", "/v1/projects/shop/rollback", "application/json"), "{asked}");
    }

    #[test]
    fn lines_are_handed_on_as_they_come_over_the_socket_and_the_web() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let web = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = web.local_addr().unwrap().to_string();
        let url = Place::parse(Some(&format!("http://{host}"))).unwrap();
        let servers = [
            (
                Place::Socket(path),
                "localhost".to_owned(),
                std::thread::spawn(move || answer_once(unix.accept().unwrap().0, LINES)),
            ),
            (url, host, std::thread::spawn(move || answer_once(web.accept().unwrap().0, LINES))),
        ];
        for (place, host, server) in servers {
            let mut heard = Vec::new();
            let target = "/v1/projects/shop/logs?lines=5&follow=true";
            let mut take = |line: &str| {
                heard.push(line.to_owned());
                Ok(())
            };
            Client::new(place, signer(dir.path())).lines(&Ask::get(target), &mut take).unwrap();
            assert_eq!(heard, ["one", "two", "end"]);
            let asked = server.join().unwrap();
            assert!(is_signed(&asked, "GET", &host, target, ""), "{asked}");
        }
    }

    /// Answers an upload: accepts it first, or refuses it at once; returns what was received.
    fn answer_upload(mut stream: impl Read + io::Write, first: &str, length: usize, last: &str) -> Vec<u8> {
        let (mut asked, mut chunk) = (Vec::new(), [0; 4096]);
        let mut read = |stream: &mut dyn Read, asked: &mut Vec<u8>| {
            let got = stream.read(&mut chunk).unwrap();
            asked.extend_from_slice(&chunk[..got]);
        };
        while !asked.ends_with(b"\r\n\r\n") {
            read(&mut stream, &mut asked);
        }
        let head = asked.len();
        stream.write_all(first.as_bytes()).unwrap();
        while asked.len() < head + length {
            read(&mut stream, &mut asked);
        }
        stream.write_all(last.as_bytes()).unwrap();
        asked.split_off(head)
    }

    fn upload(client: &Client, bytes: &[u8]) -> Result<Value, Failure> {
        let content = Box::new(io::Cursor::new(bytes.to_vec()));
        client.upload("/v1/artifacts", Upload { content, bytes: bytes.len() as u64, sha256: digest(bytes) })
    }

    #[test]
    fn a_long_body_is_sent_when_it_is_wanted_and_a_refusal_is_heard_before_it_goes() {
        const GO: &str = "HTTP/1.1 100 Continue\r\n\r\n";
        const YES: &str = "HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"bytes\": 700}";
        let body = vec![7; 3 << 20];
        for (first, length, last, status) in [(GO, body.len(), YES, 0), ("", 0, NO, 409)] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("agent.sock");
            let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
            let web = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let url = Place::parse(Some(&format!("http://{}", web.local_addr().unwrap()))).unwrap();
            let servers = [
                (
                    Place::Socket(path),
                    std::thread::spawn(move || answer_upload(unix.accept().unwrap().0, first, length, last)),
                ),
                (url, std::thread::spawn(move || answer_upload(web.accept().unwrap().0, first, length, last))),
            ];
            for (place, server) in servers {
                let answer = upload(&Client::new(place, signer(dir.path())), &body);
                let came = server.join().unwrap();
                match answer {
                    Ok(answer) => assert_eq!((answer["bytes"].as_u64(), came == body, status), (Some(700), true, 0)),
                    Err(failure) => assert!(failure.message.contains(&status.to_string()), "{}", failure.message),
                }
            }
        }
    }

    #[test]
    fn an_agent_that_is_not_there_is_named_with_what_to_look_at() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::new(Place::Socket(dir.path().join("agent.sock")), signer(dir.path()));
        let said = client.send(&Ask::get("/v1/projects")).unwrap_err().message;
        assert!(
            said.starts_with("could not reach the agent at ") && said.ends_with("systemctl status zexio-agent"),
            "{said}"
        );
    }
}
