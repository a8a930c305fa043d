//! A throwaway machine as a value: started by `start`, torn down by `drop`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Generous: the machines share slow cores, and no test measures time with it.
pub const SOON: Duration = Duration::from_secs(180);

const AUTHORITY: &str = "/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machine/machine.sh");

pub struct Machine {
    pub name: String,
}

/// What a command inside said.
pub struct Said {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Machine {
    /// Boots a bare machine.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Boots a machine with further options of machine.sh.
    pub fn start_with(options: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let machine = Machine { name: format!("t{}-{}", id(), COUNT.fetch_add(1, Ordering::Relaxed)) };
        let owner = format!("--owner={}", id());
        let source = format!("--bind-ro={}:/src", env!("CARGO_MANIFEST_DIR"));
        let built = format!("--bind-ro={}:/built", target_dir().display());
        let started = script(&["start", &machine.name, &owner, &source, &built], options, None);
        assert_eq!(started.status, 0, "could not boot a throwaway machine: {}", started.stderr);
        machine
    }

    /// Boots a machine and installs the agent as a person would, with an artifact server beside it.
    pub fn with_agent() -> Self {
        let machine = Self::start();
        machine.install_agent();
        machine
    }

    pub fn install_agent(&self) {
        let machine = self;
        machine.must("systemctl enable --now caddy");
        machine.must(&format!("make -s -C /src install PROFILE={} CARGO_TARGET_DIR=/built", profile()));
        machine.must("zexio init");
        machine.must(r#"echo 'artifacts: { allow: ["http://127.0.0.1:9000/"] }' >>/etc/zexio/agent.yaml"#);
        machine.must("systemctl enable --now zexio-agent");
        machine.must(
            "mkdir -p /srv/artifacts && systemd-run --unit=artifacts caddy file-server --listen 127.0.0.1:9000 --root /srv/artifacts",
        );
        machine.wait_until("the agent to be healthy", || machine.healthy());
    }

    pub fn healthy(&self) -> bool {
        self.sh("curl -sf --unix-socket /run/zexio/agent.sock http://localhost/healthz").status == 0
    }

    pub fn exec(&self, command: &[&str]) -> Said {
        script(&["exec", &self.name], command, None)
    }

    pub fn sh(&self, command: &str) -> Said {
        self.exec(&["bash", "-euo", "pipefail", "-c", command])
    }

    /// Runs a command that has to succeed; answers with its trimmed stdout.
    pub fn must(&self, command: &str) -> String {
        let said = self.sh(command);
        assert_eq!(said.status, 0, "`{command}` failed\nstdout: {}\nstderr: {}", said.stdout, said.stderr);
        said.stdout.trim().to_owned()
    }

    /// Writes a file whole or not at all, as a careful editor does.
    pub fn write_file(&self, path: &str, content: &str) {
        let command = format!("mkdir -p $(dirname {path}) && cat >{path}.part && mv {path}.part {path}");
        let said = script(&["exec", &self.name, "sh", "-c", &command], &[], Some(content));
        assert_eq!(said.status, 0, "could not write {path}: {}", said.stderr);
    }

    /// Writes our Caddyfile and one of an operator's that imports it, as `zexio init` leaves them.
    pub fn write_caddyfiles(&self, ours: &str) {
        self.write_file("/etc/caddy/zexio.caddyfile", ours);
        let main = "{\n\tadmin unix//run/caddy/admin.sock\n\tskip_install_trust\n}\nimport zexio.caddyfile\n";
        self.write_file("/etc/caddy/Caddyfile", main);
        self.must("install -d -m 700 -o caddy -g caddy /run/caddy");
    }

    /// Polls until the condition holds; a condition is never a sleep that was long enough once.
    pub fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < SOON, "waited {SOON:?} in vain for {what}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn reboot(&self) {
        let said = script(&["reboot", &self.name], &[], None);
        assert_eq!(said.status, 0, "{}", said.stderr);
    }

    pub fn crash(&self) {
        let said = script(&["crash", &self.name], &[], None);
        assert_eq!(said.status, 0, "{}", said.stderr);
    }

    pub fn stop(&self) -> Said {
        script(&["stop", &self.name], &[], None)
    }

    /// Publishes the hello example under a version as `/hello-<version>.tar.gz`; answers with its sha256.
    pub fn publish(&self, version: &str) -> String {
        let built = profile_dir();
        assert!(built.join("examples/hello").exists(), "build the examples first: cargo build --examples");
        let built = built.file_name().unwrap_or_default().to_string_lossy();
        self.must(&format!(
            "d=$(mktemp -d) && mkdir $d/hello-{version} && cp /built/{built}/examples/hello $d/hello-{version}/
             echo {version} >$d/hello-{version}/VERSION
             mkdir $d/hello-{version}/public && echo 'manual of {version}' >$d/hello-{version}/public/index.html
             mkdir -p /srv/artifacts && tar -C $d -czf /srv/artifacts/hello-{version}.tar.gz hello-{version} && rm -r $d
             sha256sum /srv/artifacts/hello-{version}.tar.gz | cut -d' ' -f1"
        ))
    }

    /// Drops a spec file into the watched directory.
    pub fn drop_spec(&self, project: &str, spec: &str) {
        self.write_file(&format!("/zexio/specs/{project}.yaml"), spec);
    }

    /// Hands a spec to the API through the CLI and waits for it; answers with what the CLI said.
    pub fn apply(&self, project: &str, spec: &str) -> Said {
        self.write_file(&format!("/root/{project}.yaml"), spec);
        self.sh(&format!("zexio apply -f /root/{project}.yaml --wait=150s"))
    }

    /// Hands a spec to the API through the CLI and waits for nothing.
    pub fn apply_and_go(&self, project: &str, spec: &str) -> Said {
        self.write_file(&format!("/root/{project}.yaml"), spec);
        self.sh(&format!("zexio apply -f /root/{project}.yaml"))
    }

    /// Sends one signed request over the agent's socket; answers with the status code and the body.
    pub fn signed(&self, method: &str, path: &str, body: &str, content_type: &str, key: &str) -> (u16, String) {
        self.write_file("/root/body", body);
        let said = self.must(&format!(
            "signature=$(zexio sign {method} http://localhost{path} --body /root/body --content-type {content_type} --key {key})
             curl -sS --unix-socket /run/zexio/agent.sock -X {method} -H \"X-Signature: $signature\" \
               -H 'Content-Type: {content_type}' --data-binary @/root/body -w '\\n%{{http_code}}' http://localhost{path}"
        ));
        split_status(&said)
    }

    /// Gets a page through Caddy as a browser would, certificate and all; status 0: no connection.
    pub fn get(&self, host: &str, path: &str) -> (u16, String) {
        let said = self.sh(&format!(
            "curl -sS --max-time 20 --cacert {AUTHORITY} --resolve {host}:443:127.0.0.1 -w '\\n%{{http_code}}' https://{host}{path}"
        ));
        split_status(&said.stdout)
    }

    pub fn wait_for_answer(&self, host: &str, path: &str, text: &str) {
        self.wait_until(&format!("https://{host}{path} to answer `{text}`"), || self.get(host, path).1.contains(text));
    }

    /// Whether the project's status, as JSON without white space, contains the text.
    pub fn status_has(&self, project: &str, text: &str) -> bool {
        let said = self.sh(&format!("zexio get {project} -o json | tr -d ' \\n'"));
        said.stdout.contains(text)
    }

    pub fn main_pid(&self, unit: &str) -> String {
        self.must(&format!("systemctl show -P MainPID {unit}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.sh("journalctl -u zexio-agent -u caddy -n 40 --no-pager -o cat");
            eprintln!("---- agent and Caddy on {}:\n{}----", self.name, log.stdout);
        }
        let stopped = self.stop();
        if stopped.status != 0 {
            eprintln!("could not stop {}: {}", self.name, stopped.stderr);
        }
    }
}

/// The spec of a web app as the tests need it; `extra` is further YAML at the top level.
pub fn web_spec(project: &str, version: &str, run: &str, extra: &str) -> String {
    format!(
        "zexio: 1
project: {project}
artifact: {{ url: \"http://127.0.0.1:9000/hello-{version}.tar.gz\", version: \"{version}\" }}
processes:
  web:
    run: {run}
    ready: {{ http: /up, within: 5s, interval: 100ms }}
    routes: [{{ host: {project}.example.com, tls: internal }}]
deploy: {{ min_healthy: 500ms, drain: 1s }}
{extra}"
    )
}

/// Where machines keep their state on the host.
fn state_dir() -> PathBuf {
    std::env::var_os("ZX_MACHINES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/machines"), PathBuf::from)
}

/// Returns what of a machine is still on the host, a line each; empty once it is torn down.
pub fn leftovers(name: &str) -> Vec<String> {
    let mut left = Vec::new();
    let state = state_dir().join(name);
    left.extend(state.exists().then(|| format!("directory {}", state.display())));
    let mounts = fs::read_to_string("/proc/mounts").expect("mounts can be read");
    left.extend(mounts.lines().filter(|line| line.contains(&format!("/{name}/"))).map(|line| format!("mount {line}")));
    let found = Command::new("find").args(["/sys/fs/cgroup", "-name", &format!("zx-{name}-*")]).output();
    let found = String::from_utf8_lossy(&found.expect("find runs").stdout).into_owned();
    left.extend(found.lines().map(|line| format!("cgroup {line}")));
    let lines = fs::read_dir("/proc").expect("processes can be listed").flatten();
    let lines = lines.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    let (boots, knows) = (format!("--machine={name}"), format!("{name}\0"));
    left.extend(lines.filter(|line| line.contains(&boots) || line.contains(&knows)).map(|l| format!("process {l:?}")));
    left
}

/// The directory with what cargo built for these tests.
pub fn profile_dir() -> PathBuf {
    let binary = fs::canonicalize(env!("CARGO_BIN_EXE_zexio")).expect("cargo built the binary");
    binary.parent().expect("a binary lies in a directory").to_owned()
}

/// The cargo profile of what was built for these tests.
pub fn profile() -> String {
    profile_dir().file_name().unwrap_or_default().to_string_lossy().replace("debug", "dev")
}

fn target_dir() -> PathBuf {
    profile_dir().parent().expect("target/<profile>").to_owned()
}

fn script(verb: &[&str], more: &[&str], stdin: Option<&str>) -> Said {
    let mut child = Command::new(SCRIPT)
        .args(verb)
        .args(more)
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("machine.sh starts");
    if let (Some(mut pipe), Some(text)) = (child.stdin.take(), stdin) {
        pipe.write_all(text.as_bytes()).expect("machine.sh reads what it is given");
    }
    let output = child.wait_with_output().expect("machine.sh ends");
    Said {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub fn split_status(said: &str) -> (u16, String) {
    let (body, status) = said.trim_end().rsplit_once('\n').unwrap_or(("", said.trim()));
    (status.parse().unwrap_or(0), body.trim().to_owned())
}
