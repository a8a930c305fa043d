//! The demo's web app, which can also fail in every way that the tests need.
//!
//! A small HTTP/1.1 keep-alive server on `$HOST:$PORT` with one thread per connection, std only where it matters, so
//! that nothing hides the effects of a deploy. On SIGTERM it finishes the requests in flight, closes idle
//! connections and exits 0.

mod websocket;

use std::collections::HashMap;
use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

const USAGE: &str =
    "usage: hello [--never-ready] [--no-listen] [--ignore-term] [--die-after MS] [--exit-at-once [CODE]] [--worker]
  GET /            hello from <project> <version> (release N)
  GET /up          200, or 503 with --never-ready
  GET /slow?ms=N   answers after N ms
  GET /env/NAME    the value of an environment variable, or 404
  GET /sse         an event every 100 ms, until SIGTERM
  GET /ws          a WebSocket: a number every 100 ms, an echo of every text, until SIGTERM
  GET /crash       exits 1
  POST /           answers with the body it got";

#[derive(Default)]
struct Options {
    never_ready: bool,
    no_listen: bool,
    ignore_term: bool,
    worker: bool,
    die_after: Option<Duration>,
    exit_at_once: Option<i32>,
}

fn main() {
    let options = parse(env::args().skip(1)).unwrap_or_else(|wrong| {
        eprintln!("{wrong}\n{USAGE}");
        exit(2);
    });
    if let Some(code) = options.exit_at_once {
        eprintln!("hello: told to exit at once with {code}");
        exit(code);
    }
    // Blocked before the first thread starts, so that every thread inherits it and only the waiter below sees SIGTERM.
    let term = SigSet::from(Signal::SIGTERM);
    term.thread_block().expect("SIGTERM can be blocked");
    if let Some(after) = options.die_after {
        thread::spawn(move || {
            thread::sleep(after);
            eprintln!("hello: told to die after {after:?}");
            exit(1);
        });
    }
    if options.worker {
        thread::spawn(work);
    } else if !options.no_listen {
        let about = Arc::new(About::read());
        let listener = listen();
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]); // does nothing without a socket
        thread::spawn(move || serve(&listener, &about, options.never_ready));
    }
    loop {
        term.wait().expect("SIGTERM can be waited for");
        if !options.ignore_term {
            println!("hello: SIGTERM, finishing");
            CONNECTIONS.finish();
            exit(0);
        }
        println!("hello: SIGTERM ignored");
    }
}

fn parse(args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    let mut args = args.peekable();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--never-ready" => options.never_ready = true,
            "--no-listen" => options.no_listen = true,
            "--ignore-term" => options.ignore_term = true,
            "--worker" => options.worker = true,
            "--die-after" => options.die_after = Some(Duration::from_millis(number(args.next())?)),
            "--exit-at-once" => {
                let code = args.next_if(|next| next.parse::<i32>().is_ok());
                options.exit_at_once = Some(code.map_or(1, |code| code.parse().expect("checked above")));
            }
            "--help" => return Err(String::new()),
            unknown => return Err(format!("unknown option {unknown}")),
        }
    }
    Ok(options)
}

fn number(arg: Option<String>) -> Result<u64, String> {
    let raw = arg.ok_or("a number is missing")?;
    raw.parse().map_err(|_| format!("not a number: {raw}"))
}

/// A job without a port; it logs one line a second.
fn work() {
    for count in 1.. {
        println!("working, round {count}");
        thread::sleep(Duration::from_secs(1));
    }
}

/// What identifies this process, read once: the release directory that it was started from never changes.
struct About {
    project: String,
    version: String,
    release: String,
}

impl About {
    fn read() -> Self {
        let or = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
        let version = std::fs::read_to_string("VERSION").unwrap_or_else(|_| "unversioned".to_owned());
        About {
            project: or("ZEXIO_PROJECT", "nobody"),
            version: version.trim().to_owned(),
            release: or("ZEXIO_RELEASE", "0"),
        }
    }
}

fn listen() -> TcpListener {
    let host = env::var("HOST").unwrap_or_else(|_| "127.0.0.1".to_owned());
    let port = env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    match TcpListener::bind(format!("{host}:{port}")) {
        Ok(listener) => {
            println!("hello: listening on {host}:{port}");
            listener
        }
        Err(error) => {
            eprintln!("hello: could not listen on {host}:{port}: {error}");
            exit(1);
        }
    }
}

fn serve(listener: &TcpListener, about: &Arc<About>, never_ready: bool) {
    for (id, stream) in (0..).zip(listener.incoming().flatten()) {
        let about = Arc::clone(about);
        thread::spawn(move || {
            let _ = converse(&stream, id, &about, never_ready); // the peer may have left
            CONNECTIONS.forget(id);
        });
    }
}

/// Answers one connection's requests until either side ends it.
fn converse(stream: &TcpStream, id: u64, about: &About, never_ready: bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    CONNECTIONS.idle(id, stream.try_clone()?);
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader, || CONNECTIONS.busy(id))? {
        if let Some(key) = request.websocket.as_ref().filter(|_| request.target == "/ws") {
            return websocket::talk(&mut reader, stream, key, || CONNECTIONS.stopping());
        }
        answer(stream, &request, about, never_ready)?;
        if request.close || CONNECTIONS.stopping() {
            return Ok(());
        }
        CONNECTIONS.idle(id, stream.try_clone()?);
    }
    Ok(())
}

fn answer(stream: &TcpStream, request: &Request, about: &About, never_ready: bool) -> io::Result<()> {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    match (request.method.as_str(), path) {
        ("POST" | "PUT", _) => respond(stream, 200, &request.body),
        (_, "/") => {
            let text = format!("hello from {} {} (release {})\n", about.project, about.version, about.release);
            respond(stream, 200, text.as_bytes())
        }
        (_, "/up") if never_ready => respond(stream, 503, b"not ready, as told\n"),
        (_, "/up") => respond(stream, 200, b"up\n"),
        (_, "/slow") => {
            let asked = query.split('&').find_map(|pair| pair.strip_prefix("ms=")?.parse().ok());
            thread::sleep(Duration::from_millis(asked.unwrap_or(3000)));
            respond(stream, 200, format!("slow from {}\n", about.version).as_bytes())
        }
        (_, "/sse") => events(stream),
        (_, "/crash") => exit(1),
        (_, path) => match path.strip_prefix("/env/").map(env::var) {
            Some(Ok(value)) => respond(stream, 200, format!("{value}\n").as_bytes()),
            _ => respond(stream, 404, b"not here\n"),
        },
    }
}

fn respond(mut stream: &TcpStream, status: u16, body: &[u8]) -> io::Result<()> {
    let reason = if status == 200 { "OK" } else { "No" };
    let connection = if CONNECTIONS.stopping() { "close" } else { "keep-alive" };
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: {connection}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()) // one write: a kill falls before or after an answer, not inside
}

fn events(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")?;
    for count in 0.. {
        if CONNECTIONS.stopping() {
            break;
        }
        stream.write_all(format!("data: {count}\n\n").as_bytes())?;
        thread::sleep(Duration::from_millis(100));
    }
    stream.shutdown(Shutdown::Both)
}

struct Request {
    method: String,
    target: String,
    body: Vec<u8>,
    close: bool,
    /// The key of a WebSocket handshake.
    websocket: Option<String>,
}

impl Request {
    /// Reads the next request; `begun` is called as soon as its first line has arrived. `None`: the peer closed.
    fn read(reader: &mut impl BufRead, begun: impl FnOnce()) -> io::Result<Option<Self>> {
        let first = match line(reader)? {
            Some(first) => first,
            None => return Ok(None),
        };
        begun();
        let mut words = first.split(' ');
        let mut request = Request {
            method: words.next().unwrap_or_default().to_owned(),
            target: words.next().unwrap_or_default().to_owned(),
            body: Vec::new(),
            close: words.next() == Some("HTTP/1.0"),
            websocket: None,
        };
        let mut length = 0;
        let mut chunked = false;
        while let Some(header) = line(reader)?.filter(|header| !header.is_empty()) {
            let (name, value) = header.split_once(':').unwrap_or((&header, ""));
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "transfer-encoding" => chunked = value.contains("chunked"),
                "sec-websocket-key" => request.websocket = Some(value.trim().to_owned()),
                "connection" => request.close |= value.trim().eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        if chunked {
            request.body = chunks(reader)?;
        } else {
            reader.take(length).read_to_end(&mut request.body)?;
        }
        Ok(Some(request))
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    match reader.read_line(&mut line)? {
        0 => Ok(None),
        _ => Ok(Some(line.trim_end().to_owned())),
    }
}

fn chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(reader)?.and_then(|size| u64::from_str_radix(&size, 16).ok()).unwrap_or(0);
        reader.by_ref().take(size).read_to_end(&mut body)?;
        line(reader)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

static CONNECTIONS: LazyLock<Connections> = LazyLock::new(Connections::default);

/// The open connections: an idle one has its stream here, so that `finish` can close it; a busy one has `None`.
#[derive(Default)]
struct Connections {
    open: Mutex<HashMap<u64, Option<TcpStream>>>,
    changed: Condvar,
    stop: AtomicBool,
}

impl Connections {
    fn idle(&self, id: u64, stream: TcpStream) {
        let mut open = self.open.lock().expect("no holder panics");
        if self.stopping() {
            let _ = stream.shutdown(Shutdown::Read);
        }
        open.insert(id, Some(stream));
    }

    fn busy(&self, id: u64) {
        self.open.lock().expect("no holder panics").insert(id, None);
    }

    fn forget(&self, id: u64) {
        self.open.lock().expect("no holder panics").remove(&id);
        self.changed.notify_all();
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Closes idle connections and waits for busy ones.
    fn finish(&self) {
        let mut open = self.open.lock().expect("no holder panics");
        self.stop.store(true, Ordering::SeqCst);
        for stream in open.values().flatten() {
            let _ = stream.shutdown(Shutdown::Read); // the reading side only: a request just read still gets its answer
        }
        while !open.is_empty() {
            open = self.changed.wait(open).expect("no holder panics");
        }
    }
}
