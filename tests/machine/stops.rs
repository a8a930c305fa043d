//! What a stop leaves to finish: programs behind wrappers, servers that lead their own workers, and what does not end.

use crate::machine::Machine;

/// Saves for two seconds when it is asked to end, and then writes how often it was asked.
const WORKER: &str = r#"
import os, signal, time
asked = 0
def ask(*_):
    global asked
    asked += 1
signal.signal(signal.SIGTERM, ask)
name = f"{os.environ['DATA_DIR']}/{os.environ['ZEXIO_PROCESS']}-{os.environ['ZEXIO_RELEASE']}"
open(name + ".up", "w").close()
while not asked:
    time.sleep(0.05)
time.sleep(2)
open(name + ".saved", "w").write(str(asked))
"#;

/// Does the same, and as many programs do, it listens for the signal once: a second one ends it at once.
const ONCE: &str = r#"
const fs = require("fs"), e = process.env, name = `${e.DATA_DIR}/${e.ZEXIO_PROCESS}-${e.ZEXIO_RELEASE}`;
process.once("SIGTERM", () => setTimeout(() => { fs.writeFileSync(name + ".saved", "1"); process.exit(); }, 2000));
setInterval(() => {}, 1000);
fs.writeFileSync(name + ".up", "");
"#;

const STUBBORN: &str = r#"
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(f"{os.environ['DATA_DIR']}/{os.environ['ZEXIO_PROCESS']}-{os.environ['ZEXIO_RELEASE']}.up", "w").write(str(os.getpid()))
while True:
    time.sleep(60)
"#;

const WSGI: &str = r#"
import os, time
def app(environ, start):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(3)
    start("200 OK", [("Content-Type", "text/plain")])
    return [os.environ["ZEXIO_RELEASE"].encode()]
"#;

const CLUSTER: &str = r#"
const cluster = require("cluster"), http = require("http");
if (cluster.isPrimary) {
  let left = 2;
  for (let i = 0; i < left; i++) cluster.fork();
  process.on("SIGTERM", () => cluster.disconnect());
  cluster.on("exit", () => --left || process.exit());
} else {
  process.on("SIGTERM", () => {});
  http.createServer((request, response) => {
    setTimeout(() => response.end(process.env.ZEXIO_RELEASE), request.url === "/slow" ? 3000 : 0);
  }).listen(process.env.PORT, process.env.HOST);
}
"#;

/// Packs files as `/apps.tar.gz`.
fn publish(machine: &Machine, files: &[(&str, &str)]) {
    for (name, text) in files {
        machine.write_file(&format!("/root/apps/{name}"), text);
    }
    machine.must(
        "mkdir -p /srv/artifacts && chmod 755 /root/apps/* && tar -C /root/apps -czf /srv/artifacts/apps.tar.gz .",
    );
}

/// A spec of which each round is another release.
fn spec(project: &str, round: u32, processes: &str) -> String {
    format!(
        "zexio: 1
project: {project}
artifact: {{ url: \"http://127.0.0.1:9000/apps.tar.gz\" }}
env: {{ ROUND: \"{round}\" }}
processes:
{processes}
deploy: {{ min_healthy: 500ms, drain: 1s }}
"
    )
}

fn deploy(machine: &Machine, project: &str, round: u32, processes: &str) {
    let said = machine.apply(project, &spec(project, round, processes));
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
}

fn units_are_gone(machine: &Machine, project: &str, release: u32) {
    machine.wait_until(&format!("release {release} of {project} to be gone"), || {
        machine.sh(&format!("ls /etc/systemd/system/zexio-{project}-*-r{release}.service")).status != 0
    });
}

fn wait_until_up(machine: &Machine, project: &str, process: &str, release: u32) {
    let file = format!("/zexio/apps/{project}/data/{process}-{release}.up");
    machine.wait_until(&format!("{process} to be up"), || machine.sh(&format!("test -e {file}")).status == 0);
}

fn forced(machine: &Machine, project: &str) -> String {
    machine
        .must(&format!("zexio events {project} -o json | tr -d '\\n' | grep -o '[^{{}}]*StopForced[^{{}}]*' || true"))
}

#[test]
fn what_works_behind_a_wrapper_ends_in_its_own_time() {
    let machine = Machine::with_agent();
    publish(
        &machine,
        &[
            ("worker.py", WORKER),
            ("once.js", ONCE),
            ("start.sh", "#!/bin/sh\necho prepare\npython3 worker.py\necho ended\n"),
            ("trap.sh", "#!/bin/bash\ntrap 'echo bye' TERM\npython3 worker.py\n"),
            ("outer.sh", "#!/bin/sh\n./start.sh &\nwait\n"),
            ("once.sh", "#!/bin/sh\nnode once.js\necho ended\n"),
            ("package.json", r#"{ "name": "apps", "scripts": { "start": "python3 worker.py && echo bye" } }"#),
        ],
    );
    let processes = "  script: { run: ./start.sh }
  trap: { run: ./trap.sh }
  words: { run: [sh, -c, python3 worker.py && echo bye] }
  background: { run: ./outer.sh }
  once: { run: ./once.sh }
  npm: { run: npm start }
  plain: { run: python3 worker.py }";
    let names = ["script", "trap", "words", "background", "once", "npm", "plain"];
    deploy(&machine, "wrapped", 1, processes);
    names.iter().for_each(|name| wait_until_up(&machine, "wrapped", name, 1));
    deploy(&machine, "wrapped", 2, processes);
    units_are_gone(&machine, "wrapped", 1);
    for name in names {
        let asked = machine.sh(&format!("cat /zexio/apps/wrapped/data/{name}-1.saved")).stdout;
        // npm hands the signal on, beside what systemd sends.
        let expected: &[&str] = if name == "npm" { &["1", "2"] } else { &["1"] };
        assert!(expected.contains(&asked.as_str()), "{name} was asked {asked:?} times");
    }
    assert_eq!(forced(&machine, "wrapped"), "");

    // A crash of the first process asks the rest to end as well, and then all start again.
    wait_until_up(&machine, "wrapped", "script", 2);
    machine.must("kill -9 $(systemctl show -P MainPID zexio-wrapped-script-r2.service)");
    let saved = "test -e /zexio/apps/wrapped/data/script-2.saved";
    machine.wait_until("the rest to end in its time", || machine.sh(saved).status == 0);
    machine.wait_until("it to run again", || {
        machine.sh("test $(systemctl show -P NRestarts zexio-wrapped-script-r2.service) -ge 1 && systemctl is-active zexio-wrapped-script-r2.service").status == 0
    });
}

#[test]
fn what_does_not_end_in_its_time_is_killed_and_named() {
    let machine = Machine::with_agent();
    publish(
        &machine,
        &[
            ("stubborn.py", STUBBORN),
            ("worker.py", WORKER),
            ("start.sh", "#!/bin/sh\npython3 stubborn.py\necho ended\n"),
            ("leave.sh", "#!/bin/sh\ntrap 'exit 0' TERM\npython3 worker.py &\nwait\n"),
        ],
    );
    let processes = "  script: { run: ./start.sh, stop: { within: 3s } }
  plain: { run: python3 stubborn.py, stop: { within: 2s } }
  leader: { run: ./leave.sh, stop: { within: 20s, to: main } }";
    deploy(&machine, "stubborn", 1, processes);
    ["script", "plain", "leader"].iter().for_each(|name| wait_until_up(&machine, "stubborn", name, 1));
    let pid = machine.must("cat /zexio/apps/stubborn/data/script-1.up");
    deploy(&machine, "stubborn", 2, processes);
    units_are_gone(&machine, "stubborn", 1);
    machine.wait_until("the kills to be told", || forced(&machine, "stubborn").matches("StopForced").count() >= 2);
    let told = forced(&machine, "stubborn");
    for part in [
        &format!("process script: python3 (pid {pid}) did not end within 3s of SIGTERM; killed"),
        "process plain: python3",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    assert!(!told.contains("process leader") && !told.contains("zexio"), "{told}");
    // With `main`, what is left is killed when the first has ended.
    assert_eq!(machine.sh("ls /zexio/apps/stubborn/data/leader-1.saved").stdout, "");
    let time = |what: &str| -> f64 {
        let unit = "zexio-stubborn-script-r1.service";
        machine
            .must(&format!(
                "journalctl _PID=1 UNIT={unit} -o short-unix --no-pager | grep -m1 '{what}' | cut -d' ' -f1"
            ))
            .parse()
            .unwrap()
    };
    let took = time("Failed with result") - time("Stopping");
    assert!((3.0..6.0).contains(&took), "it was killed after {took} s");

    // So it is where the agent stops a project for good.
    machine.must("zexio delete stubborn --wait=60s --yes");
}

#[test]
fn a_server_that_leads_its_own_workers_finishes_its_requests() {
    let machine = Machine::with_agent();
    publish(&machine, &[("wsgi.py", WSGI), ("cluster.js", CLUSTER)]);
    let mut processes = String::new();
    for (name, run, to) in [
        ("gunicorn-main", "sh -c 'exec gunicorn -w 2 -b $HOST:$PORT wsgi:app'", "main"),
        ("gunicorn-all", "sh -c 'exec gunicorn -w 2 -b $HOST:$PORT wsgi:app'", "all"),
        ("cluster-main", "node cluster.js", "main"),
        ("cluster-all", "node cluster.js", "all"),
    ] {
        let run = if name.starts_with("gunicorn") {
            format!("[sh, -c, {:?}]", run.trim_start_matches("sh -c ").trim_matches('\''))
        } else {
            run.to_owned()
        };
        processes += &format!(
            "  {name}: {{ run: {run}, stop: {{ within: 20s, to: {to} }}, routes: [{{ host: {name}.example.com, tls: off }}] }}\n"
        );
    }
    let names = ["gunicorn-main", "gunicorn-all", "cluster-main", "cluster-all"];
    deploy(&machine, "led", 1, &processes);
    machine.write_file(
        "/root/load.sh",
        "host=$1; path=$2
while ! test -e /root/load.stop; do
  curl -s -o /dev/null -w \"$host$path %{http_code}\\n\" --max-time 30 --resolve $host:80:127.0.0.1 http://$host$path
done >>/root/load.$host.$3\n",
    );
    for name in names {
        for (i, path) in ["/", "/slow"].into_iter().enumerate() {
            machine.must(&format!(
                "systemd-run -q --unit=load-{name}-{i} bash /root/load.sh {name}.example.com {path} {i}"
            ));
        }
    }
    let answered = |at_least: u32| {
        machine.sh(&format!("test $(cat /root/load.* | grep -c 'slow 200') -ge {at_least}")).status == 0
    };
    machine.wait_until("the load to run", || answered(8));
    for round in 2..=3 {
        deploy(&machine, "led", round, &processes);
        units_are_gone(&machine, "led", round - 1);
    }
    machine.must("touch /root/load.stop");
    machine.wait_until("the load to end", || machine.sh("systemctl is-active 'load-*'").stdout.trim().is_empty());
    let lost = machine.must("cat /root/load.*.[01] | grep -v ' 200$' | sort | uniq -c || true");
    assert_eq!(lost, "", "requests were lost");
    assert_eq!(forced(&machine, "led"), "");
}

/// An agent of a newer version writes other texts for the units of apps that run.
#[test]
fn another_text_of_its_unit_restarts_no_app() {
    let machine = Machine::with_agent();
    publish(&machine, &[("worker.py", WORKER)]);
    let process = "  worker: { run: python3 worker.py }";
    deploy(&machine, "kept", 1, process);
    let (unit, file) = ("zexio-kept-worker-r1.service", "/etc/systemd/system/zexio-kept-worker-r1.service");
    let run = || machine.must(&format!("systemctl show -p MainPID,InvocationID,NRestarts {unit}"));
    let before = run();
    machine.must("systemctl stop zexio-agent");
    machine.must(&format!(
        "sed -i -e s/KillMode=control-group/KillMode=mixed/ -e /ExecStopPost/d -e /TimeoutStopFailureMode/d {file}
         systemctl daemon-reload && test $(systemctl show -P KillMode {unit}) = mixed"
    ));
    machine.must("systemctl start zexio-agent");
    let is_new = format!("test $(systemctl show -P KillMode {unit}) = control-group");
    machine.wait_until("the unit to have the new text", || machine.sh(&is_new).status == 0);
    machine.must("zexio sync");
    machine.wait_until("nothing to be left to do", || machine.sh("zexio plan").status == 0);
    assert_eq!(run(), before);
    wait_until_up(&machine, "kept", "worker", 1);
    deploy(&machine, "kept", 2, process);
    units_are_gone(&machine, "kept", 1);
    assert_eq!(machine.must("cat /zexio/apps/kept/data/worker-1.saved"), "1");
}

/// A website hands over under load, and beside it runs what may run only once: it notes when it runs.
#[test]
fn what_must_not_run_twice_changes_over_once_the_rest_is_ready() {
    let machine = Machine::with_agent();
    let bot = r#"
import fcntl, os, signal, sys, time
lock = open(os.environ["DATA_DIR"] + "/lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
open(f"{os.environ['DATA_DIR']}/bot-{os.environ['ZEXIO_RELEASE']}.up", "w").close()
if os.environ["ROUND"] == "3":
    sys.exit(1)
signal.sigwait({signal.SIGTERM})
"#;
    let web = r#"
import http.server, os
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if os.environ["ROUND"] == "4" else 200)
        self.end_headers()
        self.wfile.write(os.environ["ZEXIO_RELEASE"].encode())
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Answer).serve_forever()
"#;
    publish(
        &machine,
        &[
            (
                "bot.py",
                &bot.replace(
                    "signal.sigwait",
                    "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\nsignal.sigwait",
                ),
            ),
            ("web.py", web),
        ],
    );
    let processes =
        "  web: { run: python3 web.py, ready: { http: /, within: 5s }, routes: [{ host: once.example.com, tls: off }] }
  bot: { run: python3 bot.py, strategy: recreate }";
    deploy(&machine, "once", 1, processes);
    machine.write_file(
        "/root/load.sh",
        "while ! test -e /root/load.stop; do
  curl -s -o /dev/null -w '%{http_code}\\n' --max-time 20 --resolve once.example.com:80:127.0.0.1 http://once.example.com/
done >>/root/load.codes\n",
    );
    machine.must("systemd-run -q --unit=load bash /root/load.sh");
    deploy(&machine, "once", 2, processes);
    let bot = |release: u32| machine.sh(&format!("systemctl is-active zexio-once-bot-r{release}.service")).status == 0;
    assert!(bot(2) && !bot(1));
    wait_until_up(&machine, "once", "bot", 2);
    units_are_gone(&machine, "once", 1);

    // A bad bot: the old one comes back, and the website never went.
    let said = machine.apply("once", &spec("once", 3, processes));
    assert_eq!(said.status, 3, "{}{}", said.stdout, said.stderr);
    machine.wait_until("the old bot to be back", || bot(2));
    units_are_gone(&machine, "once", 3);
    // A bad website: the old bot is not touched.
    let run = || machine.must("systemctl show -P InvocationID zexio-once-bot-r2.service");
    let before = run();
    let said = machine.apply("once", &spec("once", 4, processes));
    assert_eq!(said.status, 3, "{}{}", said.stdout, said.stderr);
    assert_eq!(run(), before);
    machine.must("touch /root/load.stop");
    machine.wait_until("the load to end", || machine.sh("systemctl is-active load").status != 0);
    assert_eq!(machine.must("sort -u /root/load.codes"), "200");
}

#[test]
fn a_rollback_to_what_still_stops_is_not_judged_by_how_its_old_run_ends() {
    let machine = Machine::with_agent();
    let slow = r#"
import os, signal, sys, time
def end(*_):
    open(f"{os.environ['DATA_DIR']}/slow-{os.environ['ZEXIO_RELEASE']}.ends", "w").close()
    time.sleep(4)
    sys.exit(1)
signal.signal(signal.SIGTERM, end)
open(f"{os.environ['DATA_DIR']}/slow-{os.environ['ZEXIO_RELEASE']}.up", "w").close()
while True:
    time.sleep(60)
"#;
    publish(&machine, &[("slow.py", slow)]);
    let process = "  slow: { run: python3 slow.py }";
    deploy(&machine, "slow", 1, process);
    wait_until_up(&machine, "slow", "slow", 1);
    deploy(&machine, "slow", 2, process);
    let ends = "test -e /zexio/apps/slow/data/slow-1.ends";
    machine.wait_until("the old run to end", || machine.sh(ends).status == 0);
    machine.must("zexio rollback slow --wait=120s");
    assert!(machine.status_has("slow", r#""serving":1"#));
    assert!(machine.status_has("slow", r#""rejected":[]"#));
}
