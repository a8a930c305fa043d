//! Nobody notices: what a rollout, a failure and a dying agent cost the visitors.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::machine::{Machine, web_spec};

const ADMIN: &str = "/etc/zexio/keys/admin";
const AUTHORITY: &str = "/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt";

/// A spec of `hello` that makes a new release for each `round`.
fn spec(round: &str, run: &str, deploy: &str, extra: &str) -> String {
    web_spec("hello", "1.0.0", run, &format!("env: {{ ROUND: {round:?} }}\n{extra}"))
        .replace("min_healthy: 500ms, drain: 1s", &format!("min_healthy: 500ms, drain: 1s{deploy}"))
}

/// A machine with `hello` serving its first release.
fn with_hello() -> Machine {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    deploy(&machine, &spec("1", "./hello", "", ""));
    machine
}

fn deploy(machine: &Machine, spec: &str) {
    let said = machine.apply("hello", spec);
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
}

fn unit(release: u32) -> String {
    format!("zexio-hello-web-r{release}.service")
}

/// Requests of every kind that go on until `stop`.
struct Load<'a>(&'a Machine);

impl<'a> Load<'a> {
    fn start(machine: &'a Machine, options: &str) -> Self {
        machine.must(&format!(
            "rm -f /run/load; mkfifo /run/load
             load=$(ls -d /built/*/examples/load | head -1)
             systemd-run -q --unit=load -p RemainAfterExit=yes bash -c \"$load --ca {AUTHORITY} hello.example.com {options} </run/load >/root/load.json\"
             systemd-run -q --unit=load-holds bash -c 'exec 3>/run/load; exec sleep infinity'"
        ));
        let busy = "test $(grep -c ':01BB 01' /proc/net/tcp) -ge 4"; // connections established with port 443
        machine.wait_until("the load to run", || machine.sh(busy).status == 0);
        Self(machine)
    }

    /// Ends the load; answers with what it counted.
    fn stop(self) -> Value {
        let Self(machine) = self;
        machine.must("systemctl stop load-holds");
        machine.wait_until("the load to end", || {
            machine.sh("test $(systemctl show -P SubState load) = exited && test -s /root/load.json").status == 0
        });
        let counted = machine.must("cat /root/load.json");
        machine.must("systemctl stop load");
        serde_json::from_str(&counted).expect("the load prints JSON")
    }

    /// Ends the load, in which nothing may have failed.
    fn must_have_lost_nothing(self) -> Value {
        let tally = self.stop();
        assert_eq!(tally["failed"], 0, "{tally}");
        assert!(tally["by_kind"]["keep_alive"]["ok"].as_u64() > Some(50), "it was a load: {tally}");
        tally
    }
}

/// What the API tells of a release; null while it has none, or while nobody answers.
fn release(machine: &Machine, number: u32) -> Value {
    let path = "http://localhost/v1/projects/hello/releases";
    let said = machine.sh(&format!(
        "curl -sS --unix-socket /run/zexio/agent.sock -H \"X-Signature: $(zexio sign GET {path} --key {ADMIN})\" {path}"
    ));
    let listed: Value = serde_json::from_str(&said.stdout).unwrap_or_default();
    let mut releases = listed["releases"].as_array().into_iter().flatten();
    releases.find(|release| release["number"] == number).cloned().unwrap_or_default()
}

fn status(machine: &Machine) -> Value {
    serde_json::from_str(&machine.sh("zexio get hello -o json").stdout).unwrap_or_default()
}

/// Everything of a serving release that a failed rollout must leave alone: files, link, marker, route, process.
fn print_of(machine: &Machine, release: u32) -> String {
    let unit = unit(release);
    machine.must(&format!(
        "sha256sum /etc/systemd/system/{unit} /etc/zexio/cred/{unit}.cred /etc/caddy/zexio.caddyfile
         stat -c '%n %i %Y' /etc/systemd/system/{unit} /etc/zexio/cred/{unit}.cred /etc/caddy/zexio.caddyfile
         readlink /zexio/apps/hello/bundle; ls /zexio/fronts/hello; ls /etc/systemd/system/multi-user.target.wants/zexio-*
         systemctl show -p MainPID,InvocationID,NRestarts {unit}"
    ))
}

/// How often systemd started the app of a release.
fn starts(machine: &Machine, release: u32) -> u32 {
    let said = machine.must(&format!("journalctl -o cat _PID=1 UNIT={} | grep -c '^Started' || true", unit(release)));
    said.parse().expect("a number")
}

/// Waits until this release serves and nothing but its unit is left.
fn wait_for_rest(machine: &Machine, release: u32, what: &str) {
    let only = format!("{} ", unit(release));
    machine.wait_until(&format!("release {release} to serve alone, {what}"), || {
        let status = status(machine);
        let settled = status["serving"] == release;
        let units = machine.sh("cd /etc/systemd/system && echo zexio-hello-*.service").stdout;
        settled && units.trim() == only.trim() && machine.sh(&format!("systemctl is-active {only}")).status == 0
    });
}

#[test]
fn twenty_upgrades_under_mixed_load_lose_no_request_and_cut_no_stream_of_another_project() {
    let machine = with_hello();
    let other = machine.apply("other", &web_spec("other", "1.0.0", "./hello", ""));
    assert_eq!(other.status, 0, "{}{}", other.stdout, other.stderr);
    let load = Load::start(&machine, "--streams-of other.example.com");
    for round in 2..=21 {
        deploy(&machine, &spec(&round.to_string(), "./hello", "", ""));
    }
    wait_for_rest(&machine, 21, "after all upgrades");
    let tally = load.must_have_lost_nothing();
    for kind in ["new_connection", "post", "slow"] {
        assert!(tally["by_kind"][kind]["ok"].as_u64() > Some(10), "{tally}");
    }
    for stream in ["sse", "websocket"] {
        assert_eq!(tally["streams"][stream]["cuts"], 0, "{tally}");
        assert!(tally["streams"][stream]["events"].as_u64() > Some(100), "{tally}");
    }
    assert!(tally["streams"]["websocket"]["echoes"].as_u64() > Some(10), "{tally}");
    eprintln!("twenty upgrades: {tally}");
}

#[test]
fn with_a_newer_caddy_streams_live_through_changes_of_routes_too() {
    let machine = Machine::start();
    machine.must("install -m 755 /built/caddy/caddy /usr/bin/caddy");
    machine.install_agent();
    machine.publish("1.0.0");
    deploy(&machine, &spec("1", "./hello", "", ""));
    let other = machine.apply("other", &web_spec("other", "1.0.0", "./hello", ""));
    assert_eq!(other.status, 0, "{}{}", other.stdout, other.stderr);
    let load = Load::start(&machine, "--streams-of other.example.com");
    for round in 2..=5 {
        let routed = spec(&round.to_string(), "./hello", "", "")
            .replace("routes: [", &format!("routes: [{{ host: extra-{round}.example.com, tls: internal }}, "));
        deploy(&machine, &routed);
        machine.wait_for_answer(&format!("extra-{round}.example.com"), "/", &format!("(release {round})"));
    }
    let tally = load.stop();
    for stream in ["sse", "websocket"] {
        assert_eq!(tally["streams"][stream]["cuts"], 0, "{tally}");
        assert!(tally["streams"][stream]["events"].as_u64() > Some(50), "{tally}");
    }
    eprintln!("four changes of routes: {tally}");
}

/// One way to fail: the spec, the reason in the status, what its message says, and what the evidence shows.
struct Bad {
    spec: String,
    reason: &'static str,
    says: &'static str,
    finding: &'static str,
    log: &'static str,
}

fn ways_to_fail() -> Vec<Bad> {
    let bad = |name: &str, run: &str, deploy: &str, extra: &str| spec(name, run, deploy, extra);
    let url = |name: &str, file: &str| bad(name, "./hello", "", "").replace("hello-1.0.0.tar.gz", file);
    let wrong_hash = format!("version: \"1.0.0\", sha256: \"{}\"", "7".repeat(64));
    let health = |spec, says, finding, log| Bad { spec, reason: "HealthCheckFailed", says, finding, log };
    let artifact = |spec, reason, says| Bad { spec, reason, says, finding: says, log: "" };
    vec![
        health(bad("never", "./hello --never-ready", "", ""), "answered 503", "answered 503", "listening on"),
        health(bad("exits", "./hello --exit-at-once 3", "", ""), "status 3", "status 3", "told to exit at once with 3"),
        health(
            bad("falls", "./hello --die-after 1000", "", "").replace("min_healthy: 500ms", "min_healthy: 3s"),
            "status 1",
            "answered 200",
            "told to die after",
        ),
        health(
            bad("mute", "sleep infinity", "", "")
                .replace("http: /up, within: 5s, interval: 100ms", "notify: true, within: 3s"),
            "was not ready within 3s; it did not notify systemd",
            "",
            "",
        ),
        health(bad("taken", "./hello --no-listen", "", ""), "is taken by process", "is taken by process", ""),
        artifact(
            bad("hash", "./hello", "", "").replace("version: \"1.0.0\"", &wrong_hash),
            "HashMismatch",
            "sha256 mismatch",
        ),
        artifact(url("404", "nowhere.tar.gz"), "ArtifactFailed", "404"),
        artifact(url("cut", "truncated.tar.gz"), "ArtifactFailed", "could not unpack"),
        artifact(url("evil", "hostile.tar.gz"), "ArtifactFailed", "could not unpack"),
        Bad {
            spec: bad("command", "./hello", "", "release: { run: ./hello --exit-at-once 4 }"),
            reason: "ReleaseCommandFailed",
            says: "status 4",
            finding: "status 4",
            log: "told to exit at once with 4",
        },
        Bad {
            spec: bad("deadline", "./hello", ", deadline: 8s", "release: { run: sleep 60 }"),
            reason: "DeadlineExceeded",
            says: "deadline of 8s",
            finding: "release: has not ended",
            log: "",
        },
    ]
}

#[test]
fn every_way_to_fail_under_load_leaves_the_old_release_untouched_and_says_why() {
    let machine = with_hello();
    machine.must(
        "cd /srv/artifacts && head -c 200000 hello-1.0.0.tar.gz >truncated.tar.gz
         echo evil >/root/evil && tar -P --transform 's|root/evil|../../../../etc/evil|' -czf hostile.tar.gz /root/evil",
    );
    // A second release, so that the third goes into slot a, whose port is taken below.
    deploy(&machine, &spec("2", "./hello", "", ""));
    wait_for_rest(&machine, 2, "before anything fails");
    let free = machine.must("grep -oP '127.0.0.1:\\K\\d+' /etc/caddy/zexio.caddyfile | sort -n | head -1");
    let before = print_of(&machine, 2);
    let load = Load::start(&machine, "");
    let ways = ways_to_fail();
    for (number, bad) in (3..).zip(&ways) {
        let stranger = bad.says.starts_with("is taken");
        if stranger {
            machine.must(&format!("systemd-run -q --unit=stranger python3 -m http.server {free} --bind 127.0.0.1"));
        }
        let said = machine.apply("hello", &bad.spec);
        let case = format!("release {number}, {}: {}", bad.spec, said.stdout);
        assert_eq!(said.status, 3, "{case}{}", said.stderr);
        let status = status(&machine).to_string();
        assert!(status.contains(&format!("\"reason\":\"{}\"", bad.reason)), "{case}: {status}");
        assert!(status.contains(bad.says), "{case}: {status}");
        let shown = release(&machine, number);
        assert_eq!(shown["state"], "rejected", "{case}: {shown}");
        let evidence = &shown["evidence"];
        assert!(evidence["findings"].to_string().contains(bad.finding), "{case}: {shown}");
        assert!(evidence["log"].to_string().contains(bad.log), "{case}: {shown}");
        let back = format!("{{\"to\": {number}}}");
        let refused = machine.signed("POST", "/v1/projects/hello/rollback", &back, "application/json", ADMIN);
        assert_eq!(refused.0, 409, "{case}: {}", refused.1);
        machine.wait_until("the bad release to be gone", || {
            machine.sh("cd /etc/systemd/system && echo zexio-hello-*.service").stdout.trim() == unit(2)
        });
        assert_eq!(print_of(&machine, 2), before, "{case}");
        if stranger {
            machine.must("systemctl stop stranger");
        }
    }
    let migration = machine.must("zexio logs hello --process release");
    assert!(migration.contains("told to exit at once with 4"), "{migration}");
    // None of them was tried again, however often the loop looked since.
    machine.must("for i in 1 2 3; do zexio sync hello; done");
    let log = machine.must("journalctl -u zexio-agent -o cat");
    let last = 2 + u32::try_from(ways.len()).expect("few");
    for number in 3..=last {
        for step in [format!("fetch release {number}:"), format!("start {}:", unit(number))] {
            assert!(log.lines().filter(|line| line.contains(&step)).count() <= 1, "{step}: {log}");
        }
    }
    load.must_have_lost_nothing();
    assert_eq!(machine.sh("ls /etc/evil").status, 2, "nothing came out of the hostile archive");
    // And the way on is open.
    deploy(&machine, &spec("good again", "./hello", "", ""));
    assert!(machine.get("hello.example.com", "/").1.contains(&format!("(release {})", last + 1)));
}

#[test]
fn a_newer_version_during_a_trial_takes_its_place_under_load() {
    let machine = with_hello();
    let load = Load::start(&machine, "");
    machine.write_file("/root/second.yaml", &spec("2", "./hello", "", "").replace("500ms", "20s"));
    machine.must("zexio apply -f /root/second.yaml");
    machine.wait_until("release 2 to run", || machine.sh(&format!("systemctl is-active {}", unit(2))).status == 0);
    deploy(&machine, &spec("3", "./hello", "", ""));
    wait_for_rest(&machine, 3, "after it superseded release 2");
    assert_eq!(release(&machine, 2)["state"], "superseded");
    assert_eq!(starts(&machine, 3), 1);
    let tally = load.must_have_lost_nothing();
    assert!(!tally["bodies"].to_string().contains("release 2"), "it never had traffic: {tally}");
}

/// Starts the agent anew so that it dies at this moment, lets `act` give it something to do, and waits until it has
/// died. Tells whether it did: an agent that rests before has fewer steps to take.
fn kill_at(machine: &Machine, moment: &str, act: impl Fn(), rests: impl Fn() -> bool) -> bool {
    machine.must(&format!(
        "systemctl set-environment ZEXIO_DIE_AT={moment}; systemctl restart zexio-agent
         systemctl unset-environment ZEXIO_DIE_AT"
    ));
    let armed = machine.main_pid("zexio-agent.service");
    act();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        if machine.main_pid("zexio-agent.service") != armed {
            let killed = "journalctl -o cat _PID=1 UNIT=zexio-agent.service | grep -q 'code=killed, status=9/KILL'";
            machine.wait_until("systemd to tell of the kill", || machine.sh(killed).status == 0);
            return true;
        }
        if rests() {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("the agent neither died at {moment} nor came to rest");
}

fn rests_at(machine: &Machine, release: u32) -> bool {
    let units = machine.sh("cd /etc/systemd/system && echo zexio-hello-*.service").stdout;
    units.trim() == unit(release) && status(machine)["serving"] == release
}

#[test]
fn an_agent_killed_around_every_step_of_an_upgrade_goes_on_and_no_visitor_notices() {
    let machine = with_hello();
    machine.write_file("/etc/systemd/system/zexio-agent.service.d/fast.conf", "[Service]\nRestartSec=50ms\n");
    machine.must("systemctl daemon-reload");
    wait_for_rest(&machine, 1, "before anything dies");
    let load = Load::start(&machine, "--slow '/slow?ms=500' --clients 2 --pause 30");
    let mut serving = 1;
    'steps: for step in 1.. {
        for side in ["before", "after"] {
            let next = serving + 1;
            let moment = format!("{step}{side}");
            // The agent may die before it has answered; what it wrote counts.
            let put = || drop(machine.apply_and_go("hello", &spec(&next.to_string(), "./hello", "", "")));
            let died = kill_at(&machine, &moment, put, || rests_at(&machine, next));
            wait_for_rest(&machine, next, &format!("after a death {moment}"));
            assert_eq!(starts(&machine, next), 1, "release {next}, {moment}: its app was never restarted");
            serving = next;
            if !died {
                assert!(step >= 7, "an upgrade has more steps than {step}");
                break 'steps;
            }
        }
    }
    load.must_have_lost_nothing();
}

#[test]
fn an_agent_killed_around_steps_of_a_bad_deploy_a_rollback_a_deletion_and_a_creation_goes_on() {
    let machine = with_hello();
    machine.write_file("/etc/systemd/system/zexio-agent.service.d/fast.conf", "[Service]\nRestartSec=50ms\n");
    machine.must("systemctl daemon-reload");
    deploy(&machine, &spec("2", "./hello", "", ""));
    wait_for_rest(&machine, 2, "before anything dies");
    let load = Load::start(&machine, "--slow '/slow?ms=500' --clients 2 --pause 30");
    let before = print_of(&machine, 2);
    for (bad, moment) in (3..).zip(["1after", "2before", "2after", "3after", "4before", "4after"]) {
        let put = || drop(machine.apply_and_go("hello", &spec(&bad.to_string(), "./hello --exit-at-once 3", "", "")));
        kill_at(&machine, moment, put, || status(&machine).to_string().contains("Stalled"));
        machine.wait_until(&format!("release {bad} to be rejected after {moment}"), || {
            release(&machine, bad)["state"] == "rejected" && rests_at(&machine, 2)
        });
        assert_eq!(print_of(&machine, 2), before, "{moment}");
    }
    for (n, moment) in ["1before", "1after", "2after", "4before", "5after", "6before"].into_iter().enumerate() {
        let to = if n % 2 == 0 { 1 } else { 2 };
        let back = || drop(machine.sh(&format!("zexio rollback hello --to {to}")));
        kill_at(&machine, moment, back, || rests_at(&machine, to));
        wait_for_rest(&machine, to, &format!("after a death {moment} of a rollback"));
    }
    load.must_have_lost_nothing();
    for moment in ["1before", "2before", "2after", "4before"] {
        // A dead agent answers nothing: only a living one can say that the project is gone.
        let gone = || machine.sh("zexio get hello").stderr.contains("there is no project hello");
        kill_at(&machine, moment, || drop(machine.sh("zexio delete hello")), gone);
        machine.wait_until(&format!("hello to be gone after {moment}"), gone);
        assert_ne!(machine.sh("ls -d /zexio/apps/hello /etc/systemd/system/zexio-hello-*").status, 0);
        assert_ne!(machine.sh("getent passwd zx-hello").status, 0);
        let create = || drop(machine.apply_and_go("hello", &spec("1", "./hello", "", "")));
        kill_at(&machine, &moment.replace('4', "5"), create, || rests_at(&machine, 1));
        wait_for_rest(&machine, 1, "created anew");
        machine.wait_for_answer("hello.example.com", "/", "(release 1)");
    }
}

#[test]
fn apps_outlive_the_agents_stop_and_its_upgrade() {
    let machine = with_hello();
    wait_for_rest(&machine, 1, "at first");
    let before = print_of(&machine, 1);
    let load = Load::start(&machine, "--slow '/slow?ms=500'");
    machine.must("systemctl stop zexio-agent");
    assert_eq!(machine.get("hello.example.com", "/").0, 200, "it answers without the agent");
    machine.must(
        "profile=$(ls -d /built/*/zexio | head -1); cp $profile /root/zexio.new; mv /root/zexio.new /usr/bin/zexio
         systemctl start zexio-agent && zexio sync hello",
    );
    machine.wait_until("the agent to be healthy", || machine.healthy());
    machine.wait_until("the new agent to have looked", || status(&machine).to_string().contains("\"serving\":1"));
    assert_eq!(print_of(&machine, 1), before, "the new agent adopted what it found");
    load.must_have_lost_nothing();
}

#[test]
fn after_a_reboot_without_agent_and_network_the_newest_release_serves_with_its_secrets() {
    let machine = with_hello();
    machine.must("printf hush | zexio secret set hello TOKEN");
    deploy(&machine, &spec("2", "./hello", "", "secrets: [TOKEN]\n"));
    wait_for_rest(&machine, 2, "before the reboot");
    machine.must(
        "systemctl stop artifacts; rm -r /srv/artifacts; systemctl disable zexio-agent; chmod 000 /zexio/zexio.db*",
    );
    machine.reboot();
    machine.wait_for_answer("hello.example.com", "/env/TOKEN", "hush");
    machine.wait_for_answer("hello.example.com", "/", "(release 2)");
    assert_ne!(machine.sh("systemctl is-active zexio-agent").status, 0);
}

#[test]
fn a_machine_that_crashes_in_a_rollout_serves_the_old_release_and_then_goes_on() {
    let machine = with_hello();
    machine.write_file("/root/second.yaml", &spec("2", "./hello", "", "").replace("500ms", "4s"));
    machine.must("zexio apply -f /root/second.yaml");
    machine.wait_until("release 2 to run", || machine.sh(&format!("systemctl is-active {}", unit(2))).status == 0);
    machine.crash();
    machine.wait_for_answer("hello.example.com", "/", "(release 1)");
    machine.must("systemctl is-enabled zexio-agent");
    wait_for_rest(&machine, 2, "after the crash");
    machine.wait_for_answer("hello.example.com", "/", "(release 2)");
}
