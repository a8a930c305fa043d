//! Probes before real programs: they ask as a visitor would, hear each answer out, and speak what the app speaks.

use crate::machine::Machine;

/// A Python server that knows its own name, as Django and Rails do, and says much.
const HOSTY: &str = r#"
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = os.environ["PROTOCOL"]

    def do_GET(self):
        known = self.headers["Host"] == "hosty.example.com" and self.headers["X-Forwarded-Proto"] == os.environ["PROTO"]
        body = b"x" * 400_000
        self.send_response(200 if known and self.headers["User-Agent"] != "" else 400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, form, *args):
        print(self.headers["User-Agent"], self.headers["Host"], args[1], flush=True)

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

fn publish(machine: &Machine) {
    machine.write_file("/root/apps/hosty.py", HOSTY);
    machine.must("cp /src/tests/machine/rpc.js /root/apps/ && tar -C /root/apps -czf /srv/artifacts/apps.tar.gz .");
}

fn spec(project: &str, process: &str, more: &str) -> String {
    format!(
        "zexio: 1\nproject: {project}\nartifact: {{ url: \"http://127.0.0.1:9000/apps.tar.gz\" }}\n\
         processes:\n  web: {{ {process} }}\ndeploy: {{ min_healthy: 500ms, drain: 0s }}\n{more}"
    )
}

#[test]
fn a_probe_asks_by_the_public_name_and_leaves_no_reset_in_the_log() {
    let machine = Machine::with_agent();
    publish(&machine);
    for (protocol, tls, proto) in [("HTTP/1.0", "internal", "https"), ("HTTP/1.1", "off", "http")] {
        let process = |ready: &str| {
            format!(
                "run: python3 hosty.py, ready: {{ http: /up, within: 6s, interval: 50ms{ready} }}, routes: [
                  {{ host: www.hosty.example.com, tls: {tls}, redirect: \"https://hosty.example.com\" }},
                  {{ host: hosty.example.com, tls: {tls} }}]"
            )
        };
        let env = format!("env: {{ PROTOCOL: {protocol}, PROTO: {proto} }}\n");
        let said = machine.apply("hosty", &spec("hosty", &process(""), &env));
        assert_eq!(said.status, 0, "{protocol}: {}{}", said.stdout, said.stderr);
        let log = machine.must("journalctl -o cat _COMM=python3");
        assert!(log.contains("zexio hosty.example.com 200"), "{log}");
        assert!(!log.contains("Reset") && !log.contains("Broken") && !log.contains("Traceback"), "{log}");
        let said = machine.apply("hosty", &spec("hosty", &process(", host: other.example.com"), &env));
        assert_eq!(said.status, 3, "{}{}", said.stdout, said.stderr);
        assert!(machine.must("zexio why hosty").contains("answered 400"), "another name was asked for");
    }
}

#[test]
fn an_app_that_speaks_http_2_without_tls_is_probed_and_routed_in_it() {
    let machine = Machine::with_agent();
    publish(&machine);
    let rpc = |h2c: &str, ready: &str| {
        let run = "run: node rpc.js serve";
        spec("rpc", &format!("{run}, {h2c}ready: {ready}, routes: [{{ host: rpc.example.com, tls: internal }}]"), "")
    };
    let (up, tcp) = ("{ http: /up, within: 5s }", "{ tcp: true }");
    let said = machine.apply("rpc", &rpc("", up));
    assert_eq!(said.status, 3, "{}{}", said.stdout, said.stderr);
    let why = machine.must("zexio why rpc");
    assert!(why.contains("then set h2c: true"), "{why}");
    for ready in [up, tcp] {
        let said = machine.apply("rpc", &rpc("h2c: true, ", ready));
        assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
        machine
            .wait_until("the routes", || machine.sh("node /src/tests/machine/rpc.js ask rpc.example.com").status == 0);
    }
    // The two slots speak for themselves: a release in HTTP/1.1 takes over, and gives back.
    let plain = spec(
        "rpc",
        "run: python3 hosty.py, ready: { http: /up }, routes: [{ host: rpc.example.com, tls: internal }, { host: hosty.example.com, tls: internal }]",
        "env: { PROTOCOL: HTTP/1.1, PROTO: https }\n",
    )
    .replace("ready: { http: /up }", "ready: { http: /up, host: hosty.example.com }");
    let said = machine.apply("rpc", &plain);
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    machine.wait_until("the app in HTTP/1.1", || machine.get("hosty.example.com", "/").0 == 200);
    let said = machine.apply("rpc", &rpc("h2c: true, ", up));
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    machine.must("node /src/tests/machine/rpc.js ask rpc.example.com");
    let wrong =
        plain.replace("run: python3", "h2c: true, run: python3").replace("{ http: /up, ", "{ http: /up, within: 5s, ");
    let said = machine.apply("rpc", &wrong);
    assert_eq!(said.status, 3, "{}{}", said.stdout, said.stderr);
    let why = machine.must("zexio why rpc");
    assert!(why.contains("as h2c: true says"), "{why}");
}

/// A Python server that answers /up as it is told, and everything else with 500.
const MOODY: &str = r#"
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        public = self.headers["X-Forwarded-For"] is not None
        status = int(os.environ["PUBLIC" if public else "PRIVATE"])
        self.send_response(status if self.path == "/up" else 500)
        self.end_headers()
        self.wfile.write(os.environ["NAME"].encode())

    def log_message(self, form, *args):
        print(self.command, self.path, flush=True)

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

fn moody(name: &str, public: u16, deploy: &str) -> String {
    spec(
        "moody",
        "run: python3 moody.py, ready: { http: /up }, routes: [{ host: moody.example.com, tls: internal }]",
        &format!("env: {{ NAME: {name}, PUBLIC: \"{public}\", PRIVATE: \"200\" }}\n"),
    )
    .replace("drain: 0s", &format!("drain: 0s, verify: {{ http: /up, within: 4s }}{deploy}"))
}

#[test]
fn a_release_that_is_not_verified_through_caddy_gives_the_traffic_back() {
    let machine = Machine::with_agent();
    publish(&machine);
    machine.write_file("/root/apps/moody.py", MOODY);
    machine.must("tar -C /root/apps -czf /srv/artifacts/apps.tar.gz .");
    let host = "moody.example.com";
    let first = machine.apply("moody", &moody("first", 503, ""));
    assert_eq!(first.status, 3, "{}{}", first.stdout, first.stderr);
    let why = machine.must("zexio why moody");
    assert!(why.contains("VerifyFailed") && why.contains("answered 503"), "{why}");
    assert_ne!(machine.get(host, "/up").0, 503, "a first release that failed serves on");

    for deploy in ["", ", strategy: recreate"] {
        let name = |name: &str| format!("{name}{}", deploy.len());
        let good = machine.apply("moody", &moody(&name("good"), 200, deploy));
        assert_eq!(good.status, 0, "{}{}", good.stdout, good.stderr);
        assert_eq!(machine.get(host, "/up"), (200, name("good")));
        let began = std::time::Instant::now();
        let bad = machine.apply("moody", &moody(&name("bad"), 500, deploy));
        assert_eq!(bad.status, 3, "{}{}", bad.stdout, bad.stderr);
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "{:?}", began.elapsed());
        let why = machine.must("zexio why moody");
        assert!(why.contains("VerifyFailed") && why.contains("answered 500"), "{why}");
        machine.wait_for_answer(host, "/up", &name("good"));
        assert!(machine.status_has("moody", "\"state\":\"failed\""));
    }

    // The agent dies while a release is verified: the next one goes on from there.
    let slow = moody("slow", 500, "").replace("within: 4s", "within: 20s");
    assert_eq!(machine.apply_and_go("moody", &slow).status, 0);
    machine.wait_until("the traffic to move", || machine.get(host, "/up").1 == "slow");
    machine.must("systemctl kill -s KILL zexio-agent && systemctl restart zexio-agent");
    machine.wait_until("the traffic to come back", || machine.get(host, "/up") == (200, "good20".into()));
    let why = machine.must("zexio why moody");
    assert!(why.contains("VerifyFailed"), "{why}");
}

#[test]
fn a_site_that_answers_only_502_is_never_called_ready() {
    let machine = Machine::with_agent();
    publish(&machine);
    let rpc = |h2c: &str| {
        let run = "run: node rpc.js serve";
        spec(
            "rpc",
            &format!("{run}, {h2c}ready: {{ tcp: true }}, routes: [{{ host: rpc.example.com, tls: internal }}]"),
            "",
        )
    };
    let said = machine.apply("rpc", &rpc(""));
    let ended = said.stderr.contains("RouteFailing") && !said.stderr.contains("not done after");
    assert!(said.status == 3 && ended, "what stays so is an end: {} {}", said.status, said.stderr);
    assert!(machine.status_has("rpc", "\"reason\":\"RouteFailing\"") && machine.status_has("rpc", "\"live\":false"));
    let status = machine.must("zexio get rpc -o json && zexio status rpc");
    assert!(status.contains("then set h2c: true") && status.contains("  failing"), "{status}");
    let doctor = machine.sh("zexio doctor");
    let named = "rpc.example.com of rpc is not served: RouteFailing";
    assert!(doctor.status == 1 && doctor.stdout.contains(named), "{}", doctor.stdout);
    let events = machine.must("zexio events rpc");
    assert!(events.contains("RouteFailing") && !events.contains("Serving"), "it was called ready: {events}");
    let said = machine.apply("rpc", &rpc("h2c: true, "));
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);

    // An app that answers 5xx by itself is the visitor's matter, also where it is a 502.
    machine.write_file("/root/apps/moody.py", &MOODY.replace("else 500", "else 502"));
    machine.must("tar -C /root/apps -czf /srv/artifacts/apps.tar.gz .");
    let own = moody("own", 502, "")
        .replace(", verify: { http: /up, within: 4s }", "")
        .replace("{ http: /up }", "{ tcp: true }");
    let said = machine.apply("moody", &own);
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    assert_eq!(machine.get("moody.example.com", "/").0, 502);
    assert!(machine.status_has("moody", "\"state\":\"running\""));
}

/// Node servers that speak TLS or another language, and Redis's first words.
const FOREIGN: &str = r#"
const net = require('net'), tls = require('tls'), https = require('https'), http2 = require('http2'), fs = require('fs');
const port = Number(process.env.PORT), kind = process.argv[2];
const pem = { key: fs.readFileSync('key.pem'), cert: fs.readFileSync('cert.pem') };
const hush = (server) => server.on('tlsClientError', () => {}).on('clientError', () => {});
const kinds = {
  https: () => hush(https.createServer(pem, (request, response) => response.end('x'))),
  h2: () => hush(http2.createSecureServer(pem, (request, response) => response.end('x'))),
  smtp: () => net.createServer((socket) => { socket.on('error', () => {}); socket.write('220 mail.example.com ESMTP\r\n'); }),
  silent: () => net.createServer((socket) => { socket.on('error', () => {}); socket.on('data', () => socket.end()); }),
};
kinds[kind]().listen(port, '127.0.0.1');
"#;

#[test]
fn an_app_that_speaks_something_else_is_told_what_it_speaks() {
    let machine = Machine::with_agent();
    machine.write_file("/root/apps/foreign.js", FOREIGN);
    machine.write_file(
        "/root/apps/secure.py",
        "import http.server, os, ssl\nserver = http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), http.server.SimpleHTTPRequestHandler)\n\
         context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\ncontext.load_cert_chain('cert.pem', 'key.pem')\n\
         server.socket = context.wrap_socket(server.socket, server_side=True)\nserver.serve_forever()\n",
    );
    machine.must(
        "cd /root/apps && openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -keyout key.pem -out cert.pem 2>&1
         tar -czf /srv/artifacts/apps.tar.gz .",
    );
    let tls = "it speaks TLS on its port; Caddy ends TLS";
    for (project, run, says) in [
        ("https", "node foreign.js https", tls),
        ("h2", "node foreign.js h2", tls),
        ("python", "python3 secure.py", tls),
        ("smtp", "node foreign.js smtp", "it speaks SMTP or FTP and not HTTP"),
        ("silent", "node foreign.js silent", "connection closed before message completed"),
    ] {
        let process = |ready: &str| {
            format!("run: {run}, ready: {ready}, routes: [{{ host: {project}.example.com, tls: internal }}]")
        };
        let said = machine.apply(project, &spec(project, &process("{ http: /up, within: 4s }"), ""));
        assert_eq!(said.status, 3, "{}{}", said.stdout, said.stderr);
        let why = machine.must(&format!("zexio why {project}"));
        assert!(why.contains(says), "{project}: {why}");
        if says == tls {
            machine.apply_and_go(project, &spec(project, &process("{ tcp: true }"), ""));
            machine.wait_until("the failing route to be told", || {
                machine.status_has(project, "RouteFailing") && machine.status_has(project, "itspeaksTLSonitsport")
            });
        }
    }
}
