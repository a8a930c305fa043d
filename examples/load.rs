//! Load for a site behind Caddy: says how many requests failed while something was going on.
//!
//! Keeps five kinds of request running at once, each as users' clients make them, until stdin closes or `--seconds` are
//! over, and prints one JSON line. Failed means: refused, reset, cut off, or any status that is not 2xx.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::SocketAddr;
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
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
    /// Where the site is really reached
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
    /// How long; without it until stdin closes
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
    errors: Vec<String>,
    bodies: BTreeSet<String>,
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
    let clients: Vec<_> = kinds
        .map(|kind| {
            let agent = agent(&options, &certificates, kind);
            let (options, tally) = (options.clone(), Arc::clone(&tally));
            thread::spawn(move || client(kind, &agent, &options, &tally, started))
        })
        .collect();
    wait(options.seconds);
    STOP.store(true, Ordering::SeqCst);
    for client in clients {
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
        .timeout_global(Some(Duration::from_secs(60)))
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
