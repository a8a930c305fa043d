//! Measures a deploy against its floor: the same steps by hand. `make bench` runs it on a throwaway machine, as root.
//!
//! A round rolls back to the other one of two releases: nothing is fetched, `min_healthy` is zero. Then the same unit is
//! written, sealed, started over D-Bus, probed and given a marker by hand, as fast as possible. No test depends on it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use serde_json::{Value, json};
use zexio::model::names::KeyId;
use zexio::sign::{Head, Key, Nonce, Stamp, digest, sign};

const UNITS: &str = "/etc/systemd/system";
const MARKER: &str = "/zexio/fronts/hello/web";
const BY_HAND: &str = "/etc/bench";

#[derive(Parser)]
struct Options {
    /// Where to write the figures
    #[arg(long, default_value = "/root/bench.json")]
    out: String,
    /// Number of deploys, each followed by one by hand
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Number of projects for the timing of an idle pass
    #[arg(long, value_delimiter = ',', default_values_t = [1, 20, 50])]
    projects: Vec<usize>,
}

fn main() {
    let options = Options::parse();
    let key = fs::read_to_string("/etc/zexio/keys/admin").expect("the bench runs as root on a machine of its own");
    let api = Api { key: Key::parse(&key).expect("a key") };
    for round in ["1", "2"] {
        api.put("hello", &spec("hello", "file: hello.tar.gz", round));
        wait_for_rest(&api, round);
    }
    let mut samples = Samples::default();
    for round in 0..options.rounds {
        let (serving, aim) = if round % 2 == 0 { ("2", "1") } else { ("1", "2") };
        let kept = Kept::of(&format!("zexio-hello-web-r{serving}.service"));
        one_deploy(&api, aim, &mut samples);
        wait_for_rest(&api, aim);
        kept.by_hand(round, &mut samples);
    }
    let mut idle = Vec::new();
    for wanted in options.projects {
        idle.push(idle_pass(&api, wanted));
    }
    let report = samples.report(options.rounds, &idle);
    fs::write(&options.out, serde_json::to_vec_pretty(&report).expect("JSON")).expect("the figures can be written");
    samples.print(&report);
}

fn spec(project: &str, artifact: &str, round: &str) -> String {
    format!(
        "zexio: 1
project: {project}
artifact: {{ {artifact} }}
env: {{ ROUND: {round:?} }}
processes:
  web:
    run: ./hello
    ready: {{ http: /up }}
    routes: [{{ host: {project}.example.com, tls: internal }}]
deploy: {{ min_healthy: 0s, drain: 0s }}
"
    )
}

fn wait(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(180), "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// The unit of `hello`, when it has exactly one and that one runs.
fn only_unit() -> Option<String> {
    let names = fs::read_dir(UNITS).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut ours = names.filter(|name| name.starts_with("zexio-hello-web-r"));
    let (one, more) = (ours.next(), ours.next());
    one.filter(|_| more.is_none())
}

/// Waits until a release serves and nothing but its unit is left.
fn wait_for_rest(api: &Api, release: &str) {
    let serves = format!("\"serving\":{release}");
    wait(&format!("release {release} to serve alone"), || {
        only_unit().is_some_and(|unit| unit.contains(&format!("-r{release}.")))
            && api.send("GET", "/v1/projects/hello", "").contains(&serves)
    });
}

// ---- by the agent

struct Api {
    key: Key,
}

impl Api {
    fn put(&self, project: &str, spec: &str) {
        let answer = self.send("PUT", &format!("/v1/projects/{project}"), spec);
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    }

    fn send(&self, method: &str, path: &str, body: &str) -> String {
        let kind = if body.is_empty() { "" } else { "application/yaml" };
        let stamp = Stamp {
            kid: KeyId::parse("admin").expect("a key id"),
            time: now().as_secs(),
            nonce: Nonce::generate().expect("random bytes"),
            body: digest(body.as_bytes()),
        };
        let head = Head { method, host: "localhost", path, query: "", content_type: kind };
        let signature = sign(&self.key, &head, stamp);
        let kind = if kind.is_empty() { String::new() } else { format!("content-type: {kind}\r\n") };
        let mut stream = UnixStream::connect("/run/zexio/agent.sock").expect("the agent runs");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nx-signature: {signature}\r\n{kind}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("the agent listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the agent answers");
        answer
    }
}

fn one_deploy(api: &Api, aim: &str, samples: &mut Samples) {
    let to_b = !Path::new(MARKER).exists();
    let since = now();
    api.put("hello", &spec("hello", &format!("release: {aim}"), aim));
    let answered = now();
    while Path::new(MARKER).exists() != to_b {
        thread::sleep(Duration::from_micros(100));
    }
    let switched = now();
    // Reading the journal takes a core for a while, which the agent still needs.
    thread::sleep(Duration::from_millis(100));
    let told = |text: &str| agent_log(since).into_iter().find(|(_, line)| line.contains(text)).map(|(at, _)| at);
    wait("the release to serve", || told("reason=\"Serving\"").is_some());
    let mut last = answered;
    samples.add("agent: PUT answered", answered - since);
    for (phase, text) in [
        ("agent: taken up", "on trial"),
        ("agent: unit sealed and written", "\"write "),
        ("agent: start asked for", "\"start "),
        ("agent: ready, enabled", "\"enable "),
        ("agent: traffic moved", "\"move traffic"),
        ("agent: linked", "\"link bundle"),
        ("agent: seen, Ready", "reason=\"Serving\""),
    ] {
        let at = told(text).unwrap_or(last);
        samples.add(phase, at.saturating_sub(last));
        last = last.max(at);
    }
    samples.add("agent: PUT to traffic", switched - since);
    samples.add("agent: PUT to Ready", last.max(switched) - since);
}

/// The agent's log lines since a moment, each with its time.
fn agent_log(since: Duration) -> Vec<(Duration, String)> {
    let since = format!("--since=@{}.{:06}", since.as_secs(), since.subsec_micros());
    let output = Command::new("journalctl")
        .args(["-u", "zexio-agent", "-o", "json", "--output-fields=MESSAGE", &since])
        .output()
        .expect("journalctl runs");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let entries = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let read = entries.filter_map(|entry| {
        let micros = entry["__REALTIME_TIMESTAMP"].as_str()?.parse().ok()?;
        Some((Duration::from_micros(micros), entry["MESSAGE"].as_str()?.to_owned()))
    });
    read.collect()
}

// ---- by hand

/// One of the agent's units, kept to start it again without the agent.
struct Kept {
    text: String,
    sealed: Vec<u8>,
    stem: String,
    port: u16,
}

impl Kept {
    fn of(unit: &str) -> Self {
        let text = fs::read_to_string(format!("{UNITS}/{unit}")).expect("the unit is there");
        let sealed = fs::read(format!("/etc/zexio/cred/{unit}.cred")).expect("its blob is there");
        let port = text.lines().find_map(|line| line.strip_prefix("Port=")?.parse().ok()).expect("a port");
        Self { text, sealed, stem: unit.trim_end_matches(".service").to_owned(), port }
    }

    fn by_hand(&self, round: usize, samples: &mut Samples) {
        let name = format!("bench-{round}.service");
        let sealed_at = format!("{BY_HAND}/{name}.cred");
        let text = self.text.replace(&format!("/etc/zexio/cred/{}.service.cred", self.stem), &sealed_at);
        fs::create_dir_all(BY_HAND).expect("/etc can be written");
        let bus = dbus::blocking::Connection::new_system().expect("the system bus");
        let systemd = bus.with_proxy("org.freedesktop.systemd1", "/org/freedesktop/systemd1", Duration::from_secs(30));
        let manager = "org.freedesktop.systemd1.Manager";
        let began = Instant::now();
        seal(&self.stem, self.sealed.len());
        let sealed = began.elapsed();
        replace(&sealed_at, &self.sealed);
        replace(&format!("{UNITS}/{name}"), text.as_bytes());
        let written = began.elapsed();
        let _: (dbus::Path<'static>,) =
            systemd.method_call(manager, "StartUnit", (&name, "replace")).expect("systemd starts it");
        let asked = began.elapsed();
        while !answers(self.port) {
            assert!(began.elapsed() < Duration::from_secs(60), "{name} never answers");
            thread::sleep(Duration::from_millis(1));
        }
        let ready = began.elapsed();
        replace(&format!("{BY_HAND}/marker"), b"");
        let moved = began.elapsed();
        samples.add("floor: blob sealed", sealed);
        samples.add("floor: unit written", written - sealed);
        samples.add("floor: start asked for", asked - written);
        samples.add("floor: ready", ready - asked);
        samples.add("floor: marker moved", moved - ready);
        samples.add("floor: all", moved);
        samples.add("floor: all but sealing", moved - sealed);
        let _: (dbus::Path<'static>,) =
            systemd.method_call(manager, "StopUnit", (&name, "replace")).expect("systemd stops it");
        wait("the unit by hand to end", || TcpStream::connect(("127.0.0.1", self.port)).is_err());
        fs::remove_file(format!("{UNITS}/{name}")).expect("it is there");
    }
}

fn seal(name: &str, bytes: usize) {
    let mut child = Command::new("systemd-creds")
        .args(["encrypt", &format!("--name={name}"), "-", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("systemd-creds runs");
    child.stdin.take().expect("piped").write_all(&vec![b'x'; bytes / 2]).expect("it reads");
    assert!(child.wait().expect("it ends").success());
}

/// Writes a file as durably as the agent does.
fn replace(path: &str, bytes: &[u8]) {
    let beside = format!("{path}.part");
    let write = || -> io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(Path::new(path).parent().expect("a directory"))?.sync_all()
    };
    write().expect("the disk takes it");
}

fn answers(port: u16) -> bool {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"GET /up HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

// ---- at rest

/// Times passes that have nothing to do, with that many projects.
fn idle_pass(api: &Api, projects: usize) -> Value {
    let names: Vec<String> = (1..projects).map(|number| format!("idle{number}")).collect();
    for name in &names {
        api.put(name, &spec(name, "file: hello.tar.gz", "1"));
    }
    wait("all projects to run", || {
        names.iter().all(|name| api.send("GET", &format!("/v1/projects/{name}"), "").contains("\"state\":\"running\""))
    });
    thread::sleep(Duration::from_secs(3)); // the last passes of the last rollout
    let since = now();
    for _ in 0..20 {
        api.send("POST", "/v1/projects/hello/sync", "");
        thread::sleep(Duration::from_millis(150));
    }
    let micros = |line: &str| line.split("micros=").nth(1)?.split(' ').next()?.parse::<u64>().ok();
    let passes =
        agent_log(since).into_iter().filter_map(|(_, line)| micros(&line).map(Duration::from_micros)).collect();
    let (median, p90) = quantiles(passes);
    json!({ "projects": projects, "median_ms": median, "p90_ms": p90, "agent_rss_kib": rss() })
}

fn rss() -> u64 {
    let shown = Command::new("systemctl").args(["show", "-P", "MainPID", "zexio-agent"]).output().expect("systemctl");
    let pid = String::from_utf8_lossy(&shown.stdout).trim().to_owned();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

// ---- the figures

#[derive(Default)]
struct Samples {
    order: Vec<&'static str>,
    taken: BTreeMap<&'static str, Vec<Duration>>,
}

impl Samples {
    fn add(&mut self, name: &'static str, took: Duration) {
        if !self.order.contains(&name) {
            self.order.push(name);
        }
        self.taken.entry(name).or_default().push(took);
    }

    fn median(&self, name: &str) -> f64 {
        quantiles(self.taken.get(name).cloned().unwrap_or_default()).0
    }

    fn report(&self, rounds: usize, idle: &[Value]) -> Value {
        let phases: Vec<Value> = self
            .order
            .iter()
            .map(|name| {
                let (median, p90) = quantiles(self.taken[name].clone());
                json!({ "phase": name, "median_ms": median, "p90_ms": p90 })
            })
            .collect();
        let floor = self.median("floor: all");
        json!({
            "rounds": rounds,
            "phases": phases,
            "ratio_to_traffic": self.median("agent: PUT to traffic") / floor,
            "ratio_to_ready": self.median("agent: PUT to Ready") / floor,
            "idle": idle,
        })
    }

    fn print(&self, report: &Value) {
        println!("{:<34} {:>10} {:>10}", "phase", "median ms", "p90 ms");
        for phase in report["phases"].as_array().into_iter().flatten() {
            let name = phase["phase"].as_str().unwrap_or_default();
            println!("{name:<34} {:>10.1} {:>10.1}", number(&phase["median_ms"]), number(&phase["p90_ms"]));
        }
        println!("PUT to traffic / floor: {:.2}", number(&report["ratio_to_traffic"]));
        println!("PUT to Ready / floor:   {:.2}", number(&report["ratio_to_ready"]));
        for idle in report["idle"].as_array().into_iter().flatten() {
            println!(
                "idle pass with {:>2} projects: {:.1} ms (p90 {:.1}), agent RSS {:.1} MiB",
                idle["projects"],
                number(&idle["median_ms"]),
                number(&idle["p90_ms"]),
                number(&idle["agent_rss_kib"]) / 1024.0
            );
        }
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

/// Median and 90th percentile, in milliseconds.
fn quantiles(mut samples: Vec<Duration>) -> (f64, f64) {
    samples.sort_unstable();
    let at = |part: usize| samples.get(samples.len() * part / 10).map_or(0.0, |took| took.as_secs_f64() * 1000.0);
    (at(5), at(9))
}
