//! What goes wrong by itself or by hand, and how it is healed or said.

use serde_json::Value;

use crate::machine::{Machine, web_spec};

const UNIT: &str = "zexio-shop-web-r1.service";

fn with_shop() -> Machine {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    machine.publish("2.0.0");
    let said = machine.apply("shop", &web_spec("shop", "1.0.0", "./hello", ""));
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    machine
}

fn kill_the_agent(machine: &Machine) {
    machine.must("systemctl kill -s KILL zexio-agent; systemctl reset-failed zexio-agent; systemctl start zexio-agent");
}

#[test]
fn an_agent_killed_at_any_moment_of_a_rollout_goes_on_and_stops_nobody() {
    let machine = with_shop();
    let serving = machine.main_pid(UNIT);
    machine.must("systemctl stop artifacts");
    machine.write_file("/root/next.yaml", &web_spec("shop", "2.0.0", "./hello", ""));
    machine.must("zexio apply -f /root/next.yaml");
    for _ in 0..3 {
        kill_the_agent(&machine);
        assert_eq!(machine.main_pid(UNIT), serving, "the app runs on");
    }
    machine.must("systemd-run --unit=artifacts2 caddy file-server --listen 127.0.0.1:9000 --root /srv/artifacts");
    // Each kill falls a little later in the rollout than the one before.
    for fifth in 0..6 {
        kill_the_agent(&machine);
        machine.wait_until("the agent to be healthy", || machine.healthy());
        machine.sh(&format!("zexio apply -f /root/next.yaml --wait={}ms", 200 * fifth));
    }
    machine.must("zexio apply -f /root/next.yaml --wait=150s");
    assert!(machine.get("shop.example.com", "/").1.contains("hello from shop 2.0.0 (release 2)"));
    machine.wait_until("release 1 to be gone", || machine.must("ls /etc/systemd/system").find("web-r1").is_none());
    assert_eq!(machine.must("ls -A /zexio/staging"), "");
}

#[test]
fn what_was_changed_by_hand_is_put_right_without_a_restart() {
    let machine = with_shop();
    let file = format!("/etc/systemd/system/{UNIT}");
    let (written, pid) = (machine.must(&format!("cat {file}")), machine.main_pid(UNIT));
    let as_written = || machine.sh(&format!("cat {file}")).stdout.trim() == written;
    machine.must(&format!("printf '\\n[Service]\\nUser=root\\n' >>{file} && systemctl daemon-reload"));
    machine.wait_until("the unit to be as it was written", as_written);
    machine.must(&format!("rm {file}"));
    machine.wait_until("the unit to be back", as_written);
    machine.wait_until("systemd to know it", || machine.must(&format!("systemctl show -P User {UNIT}")) == "zx-shop");
    assert_eq!(machine.main_pid(UNIT), pid, "the app was not restarted");

    machine.must(&format!("systemctl stop {UNIT}"));
    machine.wait_for_answer("shop.example.com", "/", "hello from shop");
    machine.must("systemctl stop caddy");
    machine.wait_for_answer("shop.example.com", "/", "hello from shop");
    machine.must("systemctl kill -s KILL caddy");
    machine.wait_for_answer("shop.example.com", "/", "hello from shop");
    machine.must("sed -i s/shop/gone/ /etc/caddy/zexio.caddyfile && systemctl reload caddy");
    machine.wait_for_answer("shop.example.com", "/", "hello from shop");
    machine.wait_until("the file to be back", || machine.sh("grep -q gone /etc/caddy/zexio.caddyfile").status != 0);
}

#[test]
fn a_unit_that_a_drop_in_made_roots_is_not_started() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    let run = "[/bin/sh, -c, \"id -u >$DATA_DIR/uid; exec ./hello\"]";
    machine.write_file("/etc/systemd/system/zexio-shop-.service.d/x.conf", "[Service]\nUser=root\n");
    assert_eq!(machine.apply("shop", &web_spec("shop", "1.0.0", run, "")).status, 3);
    assert!(machine.status_has("shop", "UnitTampered"));
    assert_ne!(machine.sh("test -e /zexio/apps/shop/data/uid").status, 0, "it never ran");
}

#[test]
fn a_stranger_on_the_port_is_not_taken_for_the_app() {
    let machine = with_shop();
    let port = machine.must("sed -n 's/^Port=//p' /etc/systemd/system/zexio-shop-web-r1.service");
    let other = port.parse::<u16>().expect("a port") + 1;
    machine.must(&format!("systemd-run --unit=stranger -E PORT={other} $(ls -d /built/*/examples/hello | head -1)"));
    let said = machine.apply("shop", &web_spec("shop", "2.0.0", "./hello --no-listen", ""));
    assert_eq!(said.status, 3, "{}{}", said.stdout, said.stderr);
    let status = machine.must("zexio get shop -o json");
    assert!(status.contains("HealthCheckFailed") && status.contains("is taken by process"), "{status}");
    assert!(machine.get("shop.example.com", "/").1.contains("1.0.0 (release 1)"));
}

#[test]
fn an_agent_that_cannot_work_safely_says_why_and_does_not_start() {
    let machine = with_shop();
    let refusal = || machine.exec(&["zexio", "agent"]);
    machine.must("touch /zexio/staging/half-fetched");
    let second = refusal();
    assert!(second.status == 1 && second.stderr.contains("another agent"), "{}", second.stderr);
    machine.must("test -e /zexio/staging/half-fetched"); // what the first one works on is not the second's to wipe
    machine.must("systemctl stop zexio-agent && chmod 0644 /etc/zexio/master.key");
    let open = refusal();
    assert!(open.status == 1 && open.stderr.contains("/etc/zexio/master.key"), "{}", open.stderr);
    machine.must("chmod 0600 /etc/zexio/master.key && cp /etc/zexio/agent.yaml /root/ && echo 'lisen: x' >>/etc/zexio/agent.yaml");
    let unknown = refusal();
    assert!(unknown.status == 1 && unknown.stderr.contains("lisen"), "{}", unknown.stderr);
    assert!(machine.get("shop.example.com", "/").1.contains("hello from shop"), "the app needs no agent");
    machine.must("cp /root/agent.yaml /etc/zexio/ && systemctl start zexio-agent");
    machine.wait_until("the agent to be healthy", || machine.healthy());
}

/// Runs a statement on the agent's database, as a damage would, and answers with what it selects.
fn sql(machine: &Machine, statement: &str) -> String {
    machine.write_file(
        "/root/sql.py",
        &format!(
            "import sqlite3\ndb = sqlite3.connect('/zexio/zexio.db')\nfor row in db.execute({statement:?}):\n    print(*row)\ndb.commit()\n"
        ),
    );
    machine.must("python3 /root/sql.py")
}

#[test]
fn a_damaged_row_stops_its_project_alone_and_is_kept_until_it_is_replaced() {
    const WIKI: [&str; 2] = ["1.0.0", "2.0.0"];
    let machine = with_shop();
    let pid = machine.main_pid(UNIT);
    let runs_on = |when: &str| {
        assert_eq!(machine.main_pid(UNIT), pid, "{when}");
        assert!(machine.get("shop.example.com", "/").1.contains("hello from shop 1.0.0"), "{when}");
    };
    let is_said = |when: &str| {
        machine.wait_until("the damage to be in the status", || machine.status_has("shop", r#""reason":"Database""#));
        let (why, doctor) = (machine.must("zexio why shop"), machine.sh("zexio doctor").stdout);
        assert!(why.contains("(Database)") && why.contains("its processes run on"), "{when}: {why}");
        assert!(doctor.contains("shop is failed: Database: "), "{when}: {doctor}");
    };
    let others_go_on = |version: &str| {
        let said = machine.apply("wiki", &web_spec("wiki", version, "./hello", ""));
        assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
        assert!(machine.get("wiki.example.com", "/").1.contains(&format!("hello from wiki {version}")));
    };

    // The spec, while the agent runs: what builds on it is refused, and a whole spec replaces it.
    let stored = "SELECT spec FROM projects WHERE project = 'shop'";
    sql(&machine, "UPDATE projects SET spec = substr(spec, 1, 40) WHERE project = 'shop'");
    let damaged = sql(&machine, stored);
    others_go_on(WIKI[0]);
    is_said("its spec is damaged");
    let back = machine.sh("zexio rollback shop --to 1");
    assert!(back.status == 1 && back.stderr.contains("could not change project shop"), "{}", back.stderr);
    kill_the_agent(&machine);
    machine.wait_until("the agent to be healthy", || machine.healthy());
    is_said("its spec is damaged, and the agent restarted");
    runs_on("its spec is damaged");
    assert_eq!(sql(&machine, stored), damaged, "it is not overwritten");
    let whole = machine.apply("shop", &web_spec("shop", "1.0.0", "./hello", ""));
    assert_eq!(whole.status, 0, "{}{}", whole.stdout, whole.stderr);
    runs_on("its spec is replaced by an equal one");

    // The progress, while the agent is down: a spec is written and waits; a removal drops it.
    machine.must("systemctl stop zexio-agent");
    sql(&machine, "UPDATE progress SET progress = '{' WHERE project = 'shop'");
    machine.must("systemctl start zexio-agent");
    machine.wait_until("the agent to be healthy", || machine.healthy());
    is_said("its progress is damaged");
    others_go_on(WIKI[1]);
    let next = machine.apply_and_go("shop", &web_spec("shop", "2.0.0", "./hello", ""));
    assert_eq!(next.status, 0, "{}{}", next.stdout, next.stderr);
    kill_the_agent(&machine);
    machine.wait_until("the agent to be healthy", || machine.healthy());
    is_said("its progress is damaged, and there is another spec");
    runs_on("its progress is damaged");
    assert_eq!(sql(&machine, "SELECT progress FROM progress WHERE project = 'shop'"), "{", "it is not overwritten");
    machine.must("zexio delete shop --yes --wait=60s");
    let again = machine.apply("shop", &web_spec("shop", "2.0.0", "./hello", ""));
    assert_eq!(again.status, 0, "{}{}", again.stdout, again.stderr);
    assert!(machine.get("shop.example.com", "/").1.contains("hello from shop 2.0.0 (release 1)"));
    assert!(machine.get("wiki.example.com", "/").1.contains("hello from wiki 2.0.0"));
}

#[test]
fn a_machine_that_dies_in_a_rollout_comes_back_to_one_release() {
    let machine = with_shop();
    machine.write_file("/root/next.yaml", &web_spec("shop", "2.0.0", "./hello", "").replace("500ms", "3s"));
    machine.must("zexio apply -f /root/next.yaml");
    machine.wait_until("release 2 to be tried", || machine.status_has("shop", r#""candidate":2"#));
    machine.crash();
    machine.wait_for_answer("shop.example.com", "/", "hello from shop");
    machine.must("systemctl start artifacts 2>/dev/null || systemd-run --unit=artifacts2 caddy file-server --listen 127.0.0.1:9000 --root /srv/artifacts");
    machine.wait_for_answer("shop.example.com", "/", "2.0.0 (release 2)");
    machine.wait_until("release 1 to be gone", || machine.must("ls /etc/systemd/system").find("web-r1").is_none());
}

#[test]
fn a_full_disk_under_the_database_stops_no_app_and_is_said_and_passes() {
    let machine = Machine::start_with(&["--tmpfs=/zexio:size=400M,mode=755"]);
    machine.install_agent();
    machine.publish("1.0.0");
    assert_eq!(machine.apply("shop", &web_spec("shop", "1.0.0", "./hello", "")).status, 0);
    let pid = machine.main_pid(UNIT);
    machine.sh("dd if=/dev/zero of=/zexio/fill bs=1M; dd if=/dev/zero of=/zexio/rest bs=1");
    machine.write_file("/root/next.yaml", &web_spec("shop", "1.0.0", "./hello", "env: { WORD: other }\n"));
    let said = machine.sh("zexio apply -f /root/next.yaml");
    assert!(said.status == 1 && said.stderr.contains("full; make room on its disk"), "{}", said.stderr);
    let doctor = machine.sh("zexio doctor");
    assert!(
        doctor.status == 1 && doctor.stdout.contains("wrong   disk        /zexio: 0B of 400.0M"),
        "{}",
        doctor.stdout
    );
    // It starts again without a place to write.
    kill_the_agent(&machine);
    machine.wait_until("the agent to answer", || machine.sh("zexio status shop").stdout.starts_with("shop  running"));
    assert!(machine.get("shop.example.com", "/").1.contains("hello from shop 1.0.0"));
    assert_eq!(machine.main_pid(UNIT), pid, "nobody touched the app");

    machine.must("rm -f /zexio/fill /zexio/rest && zexio apply -f /root/next.yaml --wait=150s");
    assert!(machine.get("shop.example.com", "/").1.contains("(release 2)"));
}

/// A server that takes 20 MB more on each request for /some, and all that there is on one for /eat.
const HOG: &str = "#!/usr/bin/python3
import http.server, os
kept = []
class Hog(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == '/some':
            kept.append(bytes([1]) * 20000000)
        while self.path == '/eat':
            kept.append(bytes([1]) * 1000000)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'ok')
http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), Hog).serve_forever()
";

#[test]
fn what_an_app_uses_is_told_as_it_is_now_and_what_it_was_killed_for_stays_known() {
    let machine = Machine::with_agent();
    machine.write_file("/srv/artifacts/hog", HOG);
    let spec = web_spec("hog", "1", "./app", "limits: { memory: 96M }\n").replace("hello-1.tar.gz", "hog");
    let said = machine.apply("hog", &spec);
    assert_eq!(said.status, 0, "{}", said.stderr);
    let unit = "zexio-hog-web-r1.service";
    let figure = |name: &str| {
        let view: Value = serde_json::from_str(&machine.must("zexio get hog -o json")).expect("the view is JSON");
        view["status"]["processes"][0][name].as_f64().unwrap_or_default()
    };
    let pss = || -> f64 {
        let pid = machine.main_pid(unit);
        machine.must(&format!("awk '/^Pss:/ {{ print $2 * 1024 }}' /proc/{pid}/smaps_rollup")).parse().expect("bytes")
    };
    // No pass runs meanwhile but those of the clock, once a minute.
    let near = |told: f64, used: f64| (told - used).abs() < 6e6;
    machine.wait_until("the memory of an app that has started", || near(figure("memory_bytes"), pss()));
    machine.must("curl -sf http://127.0.0.1:21000/some && curl -sf http://127.0.0.1:21000/some");
    assert!(pss() > 40e6);
    machine.wait_until("its memory of now", || near(figure("memory_bytes"), pss()));
    let metric = "zexio stats --prometheus | grep '^zexio_process_memory_bytes{.*hog' | cut -d' ' -f2";
    machine.wait_until("the same in the metrics", || near(machine.must(metric).parse().expect("bytes"), pss()));
    let before = figure("cpu_seconds");
    let watch = "timeout 6 zexio status hog --watch -o json || true";
    let seen = machine.must(watch);
    assert!(!seen.is_empty() && seen.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{seen}");
    assert!(figure("cpu_seconds") >= before && figure("tasks") >= 1.0);

    machine.sh("curl -s http://127.0.0.1:21000/eat");
    machine.wait_until("its end to be seen", || machine.must("zexio events hog").contains("want of memory"));
    let told = machine.must("zexio events hog | grep 'want of memory'");
    assert!(told.contains("limits.memory is 96M"), "{told}");
    machine.wait_until("it to be back", || machine.sh("zexio status hog").stdout.starts_with("hog  running"));
    let why = machine.must("zexio why hog");
    assert!(why.contains("want of memory") && why.contains("96M") && why.contains("Warnings of the last day"), "{why}");
}
