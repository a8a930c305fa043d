//! Why a release did not come up, said so that it names what to change.

use crate::machine::Machine;

const LISTENS: &str = r#"
import os, socket, sys, time
where = os.environ["WHERE"].replace("PORT", os.environ["PORT"])
host, port = where.rsplit(":", 1)
family = socket.AF_INET6 if ":" in host else socket.AF_INET
listener = socket.socket(family)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if family == socket.AF_INET6 and os.environ.get("ONLY"):
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
listener.bind((host.strip("[]"), int(port)))
listener.listen()
while True:
    time.sleep(60)
"#;

/// Takes the free ports at the beginning of the range that is for apps.
const SQUATTER: &str = r#"
import socket, time
held = []
for port in range(21000, 21100):
    held.append(socket.socket())
    try:
        held[-1].bind(("127.0.0.1", port))
        held[-1].listen()
    except OSError:
        pass
open("/run/squats", "w")
time.sleep(600)
"#;

const OUTPUT: &str = r#"
with open("/dev/stdout", "w") as out:
    out.write("hello")
"#;

const WRITES: &str = r#"
import os
where = os.environ["WHERE"]
if not os.path.isfile(where):
    os.makedirs(where)
open(where, "a")
"#;

const TWICE: &str = r#"
import http.server, os
metrics = http.server.HTTPServer(("127.0.0.1", 9301), http.server.BaseHTTPRequestHandler)
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Answer).serve_forever()
"#;

const SECOND: &str = r#"
import asyncio
asyncio.run(asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 9305))
"#;

fn apply(machine: &Machine, project: &str, env: &str, process: &str) -> String {
    let spec = format!(
        "zexio: 1
project: {project}
artifact: {{ url: \"http://127.0.0.1:9000/reasons.tar.gz\" }}
env: {env}
processes:
  web: {process}
deploy: {{ min_healthy: 200ms, drain: 0s }}
"
    );
    machine.apply(project, &spec);
    machine.must(&format!("zexio get {project} -o json | tr -d '\\n'"))
}

#[test]
fn the_reason_names_what_to_change() {
    let machine = Machine::with_agent();
    for (name, text) in [
        ("listens.py", LISTENS),
        ("output.py", OUTPUT),
        ("writes.py", WRITES),
        ("there.db", "data"),
        ("twice.py", TWICE),
        ("second.py", SECOND),
        ("first.py", "open('/proc/1/fd/1', 'w')\n"),
        ("lite.py", "import sqlite3\nsqlite3.connect('data/app.db')\n"),
        ("homely.sh", "#!/usr/bin/env homely\nexit 0\n"),
        ("words.py", "import os\nprint(os.environ['SAYS'])\nraise SystemExit(int(os.environ['ENDS']))\n"),
        ("nvm.sh", "#!/bin/sh\n. \"$HOME/.nvm/nvm.sh\"\nexec node a.js\n"),
    ] {
        machine.write_file(&format!("/root/reasons/{name}"), text);
    }
    machine.must(
        "chmod 755 /root/reasons/* && tar -C /root/reasons -czf /srv/artifacts/reasons.tar.gz .
         mkdir -p /root/.nvm/bin && cp /bin/sh /root/.nvm/bin/homely && ln -s /root/.nvm/bin/homely /usr/local/bin/homely",
    );
    let ready = "ready: { tcp: true, within: 2s, interval: 100ms }";
    // What ends at once is known by how often it fell, and by what it said before.
    let falls = ready.replace("2s", "60s");
    machine.must("mkdir -m 777 /srv/media");
    let writes = format!("{{ run: python3 writes.py, {falls} }}");
    let listens = format!("{{ run: python3 listens.py, {ready} }}");
    for (project, env, process, said) in [
        ("six", "{ WHERE: \"[::1]:PORT\" }", listens.as_str(), &["it listens on [::1]:", "bind to $HOST"][..]),
        ("own", "{ WHERE: \"127.0.0.1:3000\" }", &listens, &["it listens on 127.0.0.1:3000; bind to $PORT"]),
        ("only", "{ WHERE: \"[::]:PORT\", ONLY: \"1\" }", &listens, &["though it listens on [::]:", "bind to $HOST"]),
        (
            "out",
            "{}",
            &format!("{{ run: python3 output.py, {falls} }}"),
            &["cannot be opened as /dev/stdout", "$DATA_DIR"],
        ),
        (
            "home",
            "{}",
            &format!("{{ run: [/root/.nvm/bin/homely, -c, exit], {falls} }}"),
            &["/root/.nvm/bin/homely is out of reach", "homes (/root, /home, /run/user)"],
        ),
        (
            "linked",
            "{}",
            &format!("{{ run: [homely, -c, exit], {falls} }}"),
            &["/root/.nvm/bin/homely is out of reach"],
        ),
        (
            "inside",
            "{ WHERE: tmp/pids }",
            &writes,
            &["no app may write tmp", "the directory of a release is read-only", "$DATA_DIR (/zexio/apps/inside/data)"],
        ),
        (
            "there",
            "{ WHERE: there.db }",
            &writes,
            &["no app may write there.db: the directory of a release is read-only"],
        ),
        ("first", "{}", &format!("{{ run: python3 first.py, {falls} }}"), &["cannot be opened as /dev/stdout"]),
        (
            "lite",
            "{}",
            &format!("{{ run: python3 lite.py, {falls} }}"),
            &["its database is where no app may write", "$DATA_DIR (/zexio/apps/lite/data)"],
        ),
        ("media", "{ WHERE: /srv/media/x }", &writes, &["no app may write /srv/media/x", "not /srv or /var either"]),
        ("script", "{}", &format!("{{ run: ./homely.sh, {falls} }}"), &["/root/.nvm/bin/homely is out of reach"]),
        (
            "words",
            "{ SAYS: \"gaierror: Temporary failure in name resolution.\", ENDS: \"1\" }",
            &format!("{{ run: [python3, -u, words.py], {falls} }}"),
            &["its log says: gaierror: Temporary failure in name resolution;"],
        ),
        ("nvm", "{}", &format!("{{ run: ./nvm.sh, {falls} }}"), &["its HOME is /zexio/apps/nvm/data"]),
    ] {
        let status = apply(&machine, project, env, process);
        for said in said {
            assert!(status.contains(said), "{project}: {said} is not in {status}");
        }
    }

    // What systemd says of its units is not what the app says.
    let silent = apply(&machine, "silent", "{}", &format!("{{ run: sleep 600, {ready} }}"));
    let wordless = apply(&machine, "wordless", "{}", &format!("{{ run: [sh, -c, \"exit 3\"], {falls} }}"));
    for status in [&silent, &wordless] {
        assert!(status.contains("\"serving\": null") && !status.contains("its log says"), "{status}");
        assert!(!status.contains("Failed with result"), "{status}");
    }
    assert!(machine.must("zexio why wordless").contains("Failed with result 'exit-code'"), "people read it all");

    // A port that another program has is given to no app.
    machine.write_file("/root/squatter.py", SQUATTER);
    machine.must("systemd-run --unit=squatter python3 /root/squatter.py");
    machine.wait_until("it to listen", || machine.sh("test -e /run/squats").status == 0);
    assert!(apply(&machine, "vacant", "{ WHERE: \"127.0.0.1:PORT\" }", &listens).contains("\"serving\": 1"));
    machine.must("systemctl stop squatter");

    let twice = format!("{{ run: python3 twice.py, {falls} }}");
    assert!(apply(&machine, "twice", "{ ROUND: \"1\" }", &twice).contains("\"serving\": 1"));
    let status = apply(&machine, "twice", "{ ROUND: \"2\" }", &twice);
    assert!(status.contains("set processes.web.strategy: recreate"), "{status}");
    let status = apply(&machine, "twice", "{ ROUND: \"3\" }", &twice.replace("{ run", "{ strategy: recreate, run"));
    assert!(status.contains("\"serving\": 3"), "what it says helps: {status}");
    // What another program has is named, and recreate would not help.
    machine.must("systemd-run --unit=metrics python3 -m http.server --bind 127.0.0.1 9305");
    assert!(apply(&machine, "other", "{ WHERE: \"127.0.0.1:PORT\" }", &listens).contains("\"serving\": 1"));
    let status = apply(&machine, "other", "{}", &format!("{{ run: python3 second.py, {falls} }}"));
    assert!(
        status.contains("port 9305 is taken by process ") && status.contains("(python3) of metrics.service"),
        "{status}"
    );
    assert!(!status.contains("recreate"), "{status}");

    // An app that is reached past Caddy is told so.
    apply(&machine, "open", "{ WHERE: \"0.0.0.0:PORT\" }", &listens);
    machine.wait_until("it to be told", || machine.status_has("open", "processweblistenson0.0.0.0:"));
    let doctor = machine.sh("zexio doctor").stdout;
    assert!(doctor.contains("open listens on 0.0.0.0:") && doctor.contains("bind to $HOST"), "{doctor}");
    assert!(!doctor.contains("twice listens on"), "{doctor}");
}

#[test]
fn a_job_that_fails_is_told_with_each_run() {
    let machine = Machine::with_agent();
    machine.must("mkdir /root/jobs && touch /root/jobs/x && tar -C /root/jobs -czf /srv/artifacts/reasons.tar.gz .");
    let job = "{ run: [sh, -c, 'test -e $DATA_DIR/mended || exit 3'], schedule: '*:*:0/3' }";
    apply(&machine, "jobs", "{}", job);
    machine.wait_until("two runs to be told", || {
        let events = machine.must("zexio events jobs");
        events.lines().any(|line| {
            line.contains("JobFailed")
                && line.contains("process web exited with status 3")
                && line.contains(" times since")
        }) || events.matches("JobFailed").count() >= 2
    });
    machine.wait_until("the status to have it", || machine.status_has("jobs", "\"success\":false"));
    machine.wait_until("why to say it", || {
        machine.must("zexio why jobs").contains("the last run of web exited with status 3, at ")
    });
    assert!(machine.must("zexio why jobs").contains("`zexio logs jobs --process web`"));
    assert!(machine.status_has("jobs", "\"state\":\"running\""), "it is Ready all the same");
    machine.must("touch /zexio/apps/jobs/data/mended");
    machine.wait_until("a good run", || machine.status_has("jobs", "\"success\":true"));
    assert!(!machine.must("zexio why jobs").contains("the last run of web"));
}

#[test]
fn a_process_that_ends_with_status_0_is_pointed_to_what_may_end() {
    let machine = Machine::with_agent();
    machine.must("mkdir /root/ends && touch /root/ends/x && tar -C /root/ends -czf /srv/artifacts/reasons.tar.gz .");
    let status = apply(&machine, "once", "{}", "{ run: \"true\", ready: { tcp: true, within: 60s } }");
    let web = "exited with status 0, 3 times since it was started; a web process must keep running and listen on $PORT";
    for said in [web, "has a schedule", "is release.run"] {
        assert!(status.contains(said), "{said} is not in {status}");
    }

    let batch = "{ run: [sh, -c, \"sleep 0.6\"] }";
    assert!(apply(&machine, "batch", "{}", batch).contains("\"serving\": 1"));
    machine.wait_until("the status to say it", || machine.status_has("batch", "exitedwithstatus0againandagain"));
    let restarts = || machine.must("systemctl show -P NRestarts zexio-batch-web-r1").parse::<u32>().unwrap();
    let so_far = restarts();
    machine.wait_until("more restarts", || restarts() > so_far + 2);
    assert!(machine.status_has("batch", "\"state\":\"down\"") && machine.status_has("batch", "aworkermustkeeprunning"));
    let events = machine.must("zexio events batch");
    let told = |reason: &str| events.lines().filter(|line| line.contains(reason)).count();
    assert!(told(" Serving ") <= 3 && told(" ProcessDown ") <= 3, "{events}");

    assert!(apply(&machine, "batch", "{}", &batch.replace("sleep 0.6", "exec sleep 600")).contains("\"serving\": 2"));
    machine.wait_until("the next release to be well", || machine.status_has("batch", "\"state\":\"running\""));
}

/// Answers, and leaves a socket file that makes its next start fail.
const LEAVES: &str = r#"
import http.server, os, socket
socket.socket(socket.AF_UNIX).bind(os.environ["DATA_DIR"] + "/ctl.sock")
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Answer).serve_forever()
"#;

#[test]
fn a_release_that_falls_after_another_was_rejected_is_said_to_be_down() {
    let machine = Machine::with_agent();
    machine.write_file("/root/leaves/app.py", LEAVES);
    machine.must("tar -C /root/leaves -czf /srv/artifacts/reasons.tar.gz .");
    let web = |version: u32, rest: &str| {
        let ready = "ready: { tcp: true, within: 60s, interval: 100ms }";
        let route = "routes: [{ host: leaves.example.com, tls: off }]";
        apply(
            &machine,
            "leaves",
            &format!("{{ V: \"{version}\" }}"),
            &format!("{{ run: python3 app.py, {ready}, {route}{rest} }}"),
        )
    };
    assert!(web(1, "").contains("\"serving\": 1"));
    // It is stopped for the next one, and what it left behind lets neither of them start.
    assert!(web(2, ", strategy: recreate").contains("the Unix socket ctl.sock is there already"));
    for said in ["\"state\":\"down\"", "\"reason\":\"ProcessDown\"", "release1doesnotstayupeither", "\"live\":false"] {
        machine.wait_until(said, || machine.status_has("leaves", said));
    }
    let events = machine.must("zexio events leaves");
    let told = events.lines().filter(|line| line.contains(" ProcessDown ")).count();
    assert!((1..=3).contains(&told), "{events}");
    let doctor = machine.sh("zexio doctor").stdout;
    assert!(doctor.contains("leaves.example.com of leaves is not served: ProcessDown: process web exited"), "{doctor}");
    let why = machine.must("zexio why leaves");
    for said in ["Release 1 of leaves is to serve", "(ProcessDown)", "release 2 was rejected: process web exited"] {
        assert!(why.contains(said), "{said} is not in {why}");
    }

    machine.must("rm /zexio/apps/leaves/data/ctl.sock");
    machine.wait_until("it to serve as before", || machine.status_has("leaves", "release1servesasbefore"));
    machine.wait_until("its route to be live", || machine.status_has("leaves", "\"live\":true"));
}
