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
