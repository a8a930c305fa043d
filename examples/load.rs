//! Load for a site behind Caddy: counts the requests that fail while something else happens.
//!
//! Keeps five kinds of request running at once, each as real clients make them, until stdin closes or `--seconds` are
//! over, and prints one JSON line. Failed means: refused, reset, cut off, or any status that is not 2xx. With
//! `--streams-of` it also holds a WebSocket and an event stream of another site open, and counts how often they were cut.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::Serialize;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

#[derive(Parser, Clone)]
struct Options {
    /// The site's host name
    host: String,
    /// The CA's certificate, PEM
    #[arg(long)]
    ca: Option<String>,
    /// The address to connect to
    #[arg(long, default_value = "127.0.0.1:443")]
    to: SocketAddr,
    /// Path of the quick requests
    #[arg(long, default_value = "/")]
    path: String,
    /// Path of the slow request that is always in flight
    #[arg(long, default_value = "/slow?ms=3000")]
    slow: String,
    /// Keep-alive clients, each as fast as --pause lets it
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// Milliseconds between two requests of one client
    #[arg(long, default_value_t = 10)]
    pause: u64,
    /// Another site, whose /ws and /sse should stay open
    #[arg(long)]
    streams_of: Option<String>,
    /// How long; by default until stdin closes
    #[arg(long)]
    seconds: Option<u64>,
}

#[derive(Clone, Copy)]
enum Kind {
    KeepAlive,
    NewConnection,
    Post,
    Slow,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::KeepAlive => "keep_alive",
            Kind::NewConnection => "new_connection",
            Kind::Post => "post",
            Kind::Slow => "slow",
        }
    }
}

#[derive(Default, Serialize)]
struct Count {
    ok: u64,
    failed: u64,
}

#[derive(Default, Serialize)]
struct Tally {
    ok: u64,
    failed: u64,
    seconds: f64,
    slowest_ms: u128,
    by_kind: BTreeMap<&'static str, Count>,
    streams: BTreeMap<&'static str, Stream>,
    errors: Vec<String>,
    bodies: BTreeSet<String>,
}

/// A stream that should stay open: what it received, and how often it ended or lost something.
#[derive(Default, Serialize)]
struct Stream {
    events: u64,
    echoes: u64,
    cuts: u64,
}

static STOP: AtomicBool = AtomicBool::new(false);

fn main() {
    let options = Options::parse();
    let certificates = match &options.ca {
        Some(file) => certificates(file),
        None => Vec::new(),
    };
    let tally = Arc::new(Mutex::new(Tally::default()));
    let started = Instant::now();
    let kinds = std::iter::repeat_n(Kind::KeepAlive, options.clients).chain([
        Kind::NewConnection,
        Kind::Post,
        Kind::Slow,
        Kind::Slow,
    ]);
    let streams = options.streams_of.iter().flat_map(|_| ["sse", "websocket"]);
    let streams: Vec<_> = streams
        .map(|kind| {
            let agent = agent(&options, &certificates, Kind::Slow);
            let (options, tally) = (options.clone(), Arc::clone(&tally));
            thread::spawn(move || hold_open(kind, &agent, &options, &tally, started))
        })
        .collect();
    let clients: Vec<_> = kinds
        .map(|kind| {
            let agent = agent(&options, &certificates, kind);
            let (options, tally) = (options.clone(), Arc::clone(&tally));
            thread::spawn(move || client(kind, &agent, &options, &tally, started))
        })
        .collect();
    wait(options.seconds);
    STOP.store(true, Ordering::SeqCst);
    for client in clients.into_iter().chain(streams) {
        client.join().expect("a client does not panic");
    }
    let mut tally = tally.lock().expect("no client panics");
    tally.seconds = started.elapsed().as_secs_f64();
    println!("{}", serde_json::to_string(&*tally).expect("counts are JSON"));
}

fn certificates(file: &str) -> Vec<Certificate<'static>> {
    let read = std::fs::read(file).map_err(|error| error.to_string());
    match read.and_then(|pem| Certificate::from_pem(&pem).map_err(|error| error.to_string())) {
        Ok(certificate) => vec![certificate],
        Err(error) => {
            eprintln!("load: could not read the certificate {file}: {error}");
            exit(2);
        }
    }
}

fn wait(seconds: Option<u64>) {
    match seconds {
        Some(seconds) => thread::sleep(Duration::from_secs(seconds)),
        None => drop(std::io::stdin().read_to_end(&mut Vec::new())),
    }
}

#[derive(Debug)]
struct Fixed(SocketAddr);

impl Resolver for Fixed {
    fn resolve(
        &self,
        _: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut found = self.empty();
        found.push(self.0);
        Ok(found)
    }
}

fn agent(options: &Options, certificates: &[Certificate<'static>], kind: Kind) -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(certificates)).build();
    let kept = usize::from(!matches!(kind, Kind::NewConnection));
    let config = Agent::config_builder()
        .tls_config(tls)
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .max_idle_connections(kept)
        .max_idle_connections_per_host(kept)
        .timeout_global(if options.streams_of.is_some() { None } else { Some(Duration::from_secs(60)) })
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .build();
    Agent::with_parts(config, DefaultConnector::new(), Fixed(options.to))
}

fn client(kind: Kind, agent: &Agent, options: &Options, tally: &Mutex<Tally>, started: Instant) {
    let path = if matches!(kind, Kind::Slow) { &options.slow } else { &options.path };
    let url = format!("https://{}{path}", options.host);
    while !STOP.load(Ordering::SeqCst) {
        let asked = Instant::now();
        let answer = request(kind, agent, &url);
        let took = asked.elapsed().as_millis();
        let mut tally = tally.lock().expect("no client panics");
        if !matches!(kind, Kind::Slow) {
            tally.slowest_ms = tally.slowest_ms.max(took);
        }
        match answer {
            Ok(body) => {
                tally.ok += 1;
                tally.by_kind.entry(kind.name()).or_default().ok += 1;
                if matches!(kind, Kind::KeepAlive) && tally.bodies.len() < 20 {
                    tally.bodies.insert(body.trim().to_owned());
                }
            }
            Err(error) => {
                tally.failed += 1;
                tally.by_kind.entry(kind.name()).or_default().failed += 1;
                if tally.errors.len() < 10 {
                    tally.errors.push(format!("{:.3} s, {}: {error}", started.elapsed().as_secs_f64(), kind.name()));
                }
            }
        }
        drop(tally);
        thread::sleep(Duration::from_millis(options.pause));
    }
}

fn request(kind: Kind, agent: &Agent, url: &str) -> Result<String, String> {
    let answer = match kind {
        Kind::Post => agent.post(url).send("a body that must come back"),
        _ => agent.get(url).call(),
    };
    let mut answer = answer.map_err(|error| error.to_string())?;
    let body = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
    match answer.status().as_u16() {
        200..300 => Ok(body),
        status => Err(format!("status {status}: {}", body.trim())),
    }
}

/// Keeps one stream open, reopening it as needed; every end before the load ends is a cut.
fn hold_open(kind: &'static str, agent: &Agent, options: &Options, tally: &Mutex<Tally>, started: Instant) {
    let host = options.streams_of.as_deref().unwrap_or_default();
    while !STOP.load(Ordering::SeqCst) {
        let mut expected = 0;
        let mut take = |event: &str| -> io::Result<()> {
            let mut tally = tally.lock().expect("no client panics");
            let stream = tally.streams.entry(kind).or_default();
            match event.strip_prefix("echo") {
                Some(_) => stream.echoes += 1,
                None => stream.events += 1,
            }
            match event.parse::<u64>() {
                Ok(number) if number != expected => Err(io::Error::other(format!("{number} came after {expected}"))),
                Ok(_) => {
                    expected += 1;
                    Ok(())
                }
                Err(_) => Ok(()),
            }
        };
        let ended = match kind {
            "sse" => read_events(agent, host, &mut take),
            _ => read_websocket(options, host, &mut take),
        };
        if STOP.load(Ordering::SeqCst) {
            return;
        }
        let why = ended.map_or_else(|error| error.to_string(), |()| "it ended".to_owned());
        let mut tally = tally.lock().expect("no client panics");
        tally.streams.entry(kind).or_default().cuts += 1;
        tally.errors.push(format!("{:.3} s, {kind}: {why}", started.elapsed().as_secs_f64()));
        drop(tally);
        thread::sleep(Duration::from_millis(200));
    }
}

type Take<'a> = &'a mut dyn FnMut(&str) -> io::Result<()>;

fn read_events(agent: &Agent, host: &str, take: Take<'_>) -> io::Result<()> {
    let mut answer = agent.get(format!("https://{host}/sse")).call().map_err(io::Error::other)?;
    for line in BufReader::new(answer.body_mut().as_reader()).lines() {
        if STOP.load(Ordering::SeqCst) {
            return Ok(());
        }
        if let Some(event) = line?.strip_prefix("data: ") {
            take(event)?;
        }
    }
    Ok(())
}

fn read_websocket(options: &Options, host: &str, take: Take<'_>) -> io::Result<()> {
    let mut stream = connect_tls(options, host)?;
    write!(
        stream,
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )?;
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head)? > 0 {}
    // The key is the one of RFC 6455, and so is the answer to it.
    if !head.starts_with("HTTP/1.1 101") || !head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
        return Err(io::Error::other(format!("no handshake: {head}")));
    }
    for count in 1u64.. {
        if STOP.load(Ordering::SeqCst) {
            break;
        }
        let (kind, payload) = read_frame(&mut stream)?;
        let text = String::from_utf8_lossy(&payload);
        match kind {
            1 => take(text.strip_prefix("tick ").unwrap_or(&text))?,
            kind => return Err(io::Error::other(format!("a frame of kind {kind}"))),
        }
        if count % 5 == 0 {
            // Masked with zeros: a mask that changes nothing is valid too.
            stream.get_mut().write_all(&[&[0x81, 0x84, 0, 0, 0, 0], &b"echo"[..]].concat())?;
        }
    }
    Ok(())
}

/// Reads a short frame from a server.
fn read_frame(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let mut payload = vec![0; usize::from(head[1])];
    stream.read_exact(&mut payload)?;
    Ok((head[0] & 0x0f, payload))
}

fn connect_tls(options: &Options, host: &str) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(options.ca.as_deref().unwrap_or_default()).map_err(io::Error::other)?
    {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let socket = TcpStream::connect(options.to)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?; // it sends ten times a second
    Ok(StreamOwned::new(connection, socket))
}
