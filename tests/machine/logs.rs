//! Logs of apps that write what no reader expects.

use serde_json::Value;

use crate::machine::Machine;

/// Writes lines that are long, binary, or meant for the reader's terminal; then falls silent.
const HARD: &str = r#"#!/bin/sh
x() { head -c "$1" /dev/zero | tr '\0' x; }
printf 'long %s end\n' "$(x 10000)"
printf 'huge %s end\n' "$(x 100000)"
printf 'bad \377\376 bytes\n'
printf '\033[2J\033]0;pwn\007over\rfake\n'
printf 'data: x\n\nevent: forged\n'
exec sleep infinity
"#;

/// Writes more than the journal takes, again and again: journald counts what it dropped until it takes the next line,
/// but forgets the count when another unit's first line comes before that (`journal_ratelimit_vacuum`).
const FLOOD: &str = "#!/bin/sh\nwhile seq 1 1000; do sleep 0.5; done\n";

const FORGED: &str = "MESSAGE=a forged line\nUNIT=zexio-hard-main-r1.service\nOBJECT_SYSTEMD_UNIT=zexio-hard-main-r1.service\n\
    _SYSTEMD_UNIT=zexio-hard-main-r1.service\n_PID=1\n_TRANSPORT=driver\nSYSLOG_IDENTIFIER=zexio-hard-main-r1.service\n";

fn deploy(machine: &Machine, project: &str, script: &str) {
    machine.write_file(&format!("/zexio/artifacts/{project}"), script);
    let spec = format!(
        "zexio: 1\nproject: {project}\nartifact: {{ file: {project} }}\nprocesses: {{ main: {{ run: ./app }} }}\n"
    );
    let said = machine.apply(project, &spec);
    assert_eq!(said.status, 0, "{}", said.stderr);
}

fn messages(machine: &Machine, args: &str) -> Vec<String> {
    let said = machine.must(&format!("zexio logs {args} -o json"));
    let line = |raw: &str| serde_json::from_str::<Value>(raw).expect("a line of JSON")["message"].clone();
    said.lines().map(|raw| line(raw).as_str().expect("a message").to_owned()).collect()
}

#[test]
fn no_line_is_lost_or_invented_whatever_an_app_writes() {
    let machine = Machine::with_agent();
    deploy(&machine, "hard", HARD);
    machine.wait_until("the last line", || messages(&machine, "hard").iter().any(|line| line == "event: forged"));
    machine.write_file("/root/forged", FORGED);
    machine.must("systemd-run --wait --unit=evil -p StandardInput=file:/root/forged logger --journald");
    machine.must("journalctl --sync && journalctl --quiet -n 1 -u evil -o cat | grep -q 'Deactivated\\|forged'");

    let lines = messages(&machine, "hard -n 1000");
    let x = |count: usize| "x".repeat(count);
    assert_eq!(lines.iter().filter(|line| **line == format!("long {} end", x(10_000))).count(), 1);
    // journald cuts a line at 48 KiB; its parts come in order.
    assert!(lines.concat().contains(&format!("huge {} end", x(100_000))));
    assert!(lines.iter().any(|line| line == "bad \u{fffd}\u{fffd} bytes"), "{lines:?}");
    assert!(lines.iter().any(|line| line == "\u{1b}[2J\u{1b}]0;pwn\u{7}over\rfake"));
    assert!(!lines.iter().any(|line| line.contains("a forged line")), "what another unit says of itself");

    let shown = machine.sh("zexio logs hard").stdout;
    assert!(shown.contains(r"\u{1b}[2J\u{1b}]0;pwn\u{7}over\u{d}fake"), "{shown}");
    assert!(!shown.contains(['\u{1b}', '\u{7}', '\r']), "nothing that a terminal obeys");

    let chosen = messages(&machine, "hard -n 2 --grep '^(data|event|bad)'");
    assert_eq!(chosen, ["data: x", "event: forged"]);
    assert_ne!(machine.sh("zexio logs hard --grep '('").status, 0);

    let stream = machine.must(
        "path=/v1/projects/hard/logs; curl -sS --unix-socket /run/zexio/agent.sock -H 'Accept: text/event-stream' \
           -H \"X-Signature: $(zexio sign GET http://localhost$path)\" http://localhost$path",
    );
    let foreign: Vec<&str> = stream.lines().filter(|line| !line.is_empty() && !line.starts_with("data: {")).collect();
    assert!(foreign.is_empty() && stream.contains("event: forged"), "{foreign:?}");

    let own = messages(&machine, "--system -n 1000 --grep 'project=\"?hard'");
    assert!(!own.is_empty() && own.iter().all(|line| line.contains("hard")), "{own:?}");
}

#[test]
fn a_follower_reads_what_comes_of_the_next_release_too() {
    let machine = Machine::with_agent();
    deploy(&machine, "ticks", "#!/bin/sh\nwhile echo \"tick of release $ZEXIO_RELEASE\"; do sleep 0.2; done\n");
    for (file, what) in [("app", "ticks"), ("agent", "--system")] {
        machine.must(&format!("systemd-run -q -p StandardOutput=file:/root/{file} zexio logs {what} -n 0 -f"));
    }
    let heard = |file: &str, line: &str| machine.sh(&format!("grep -q '{line}' /root/{file}")).status == 0;
    machine.wait_until("a line of the app", || heard("app", "tick of release 1"));
    machine.must("echo 'env: { ANOTHER: release }' >>/root/ticks.yaml && zexio apply -f /root/ticks.yaml --wait");
    machine.wait_until("a line of its next release", || heard("app", "tick of release 2"));
    machine.wait_until("a line of the agent", || heard("agent", "release 2 serves"));
}

#[test]
fn lines_that_the_journal_dropped_are_told_of() {
    let machine = Machine::with_agent();
    let limit = "[Journal]\nRateLimitIntervalSec=2s\nRateLimitBurst=50\n";
    machine.write_file("/etc/systemd/journald.conf.d/zz-limit.conf", limit);
    machine.must("systemctl restart systemd-journald");
    deploy(&machine, "flood", FLOOD);
    machine
        .wait_until("word of what was dropped", || !messages(&machine, "flood -n 1 --grep '^Suppressed '").is_empty());
}

#[test]
fn whoever_reads_nothing_loses_his_place_to_those_who_do() {
    let machine = Machine::with_agent();
    deploy(&machine, "chatty", "#!/bin/sh\nseq -f %01000.0f 1 2000\necho done\nexec sleep infinity\n");
    machine.wait_until("the last line", || !messages(&machine, "chatty -n 1 --grep ^done").is_empty());
    // More than there are places, all at once; each takes what fits into its pipe and no more.
    let crowd = "for i in $(seq 40); do zexio logs chatty -n 1500 -f | sleep 600 & done; wait";
    let another = || machine.sh("zexio logs chatty -n 1");
    machine.wait_until("all places to be taken", || {
        machine.must(&format!("systemd-run --quiet bash -c '{crowd}'"));
        (0..5).any(|_| another().stderr.contains("too many of these at once"))
    });
    machine.wait_until("places to be given up", || another().status == 0);
    let left = "! grep -lx journalctl /proc/[0-9]*/comm";
    machine.wait_until("every journalctl to be gone", || machine.sh(left).status == 0);
}
