//! What befalls the agent and the machine, and what the apps notice of it.

use crate::machine::{Machine, web_spec};

fn with_hello() -> Machine {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    let said = machine.apply("hello", &web_spec("hello", "1.0.0", "./hello", "env: { GREETING: \"good day\" }\n"));
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    machine
}

#[test]
fn a_killed_agent_comes_back_and_restarts_no_app() {
    let machine = with_hello();
    let app = machine.main_pid("zexio-hello-web-r1.service");
    let agent = machine.main_pid("zexio-agent.service");
    machine.must(&format!("kill -9 {agent}"));
    assert_eq!(machine.get("hello.example.com", "/").0, 200, "the app answers without the agent");
    machine.wait_until("another agent", || {
        let now = machine.main_pid("zexio-agent.service");
        now != "0" && now != agent && machine.healthy()
    });
    assert_eq!(machine.main_pid("zexio-hello-web-r1.service"), app);
}

#[test]
fn after_a_reboot_apps_start_with_their_env_without_the_agent() {
    let machine = with_hello();
    machine.must("systemctl disable zexio-agent");
    machine.reboot();
    machine.wait_for_answer("hello.example.com", "/env/GREETING", "good day");
    assert_ne!(machine.sh("systemctl is-active zexio-agent").status, 0);
}

#[test]
fn after_a_crash_everything_is_there_again() {
    let machine = with_hello();
    machine.crash();
    machine.wait_for_answer("hello.example.com", "/", "hello from hello 1.0.0 (release 1)");
    machine.wait_until("the agent to be healthy", || machine.healthy());
    assert!(machine.status_has("hello", r#""serving":1"#));
}

/// Makes release 1's unit what earlier versions wrote: the launch blob is a systemd credential.
const WITH_CREDENTIAL: &str = r#"
unit=zexio-hello-web-r1; file=/etc/systemd/system/$unit.service
systemctl stop zexio-agent
python3 - $(systemctl show -P MainPID $unit) >/run/blob <<'END'
import sys
process = f"/proc/{sys.argv[1]}"
words = open(f"{process}/cmdline").read().split("\0")[:-1]
variables = [pair for pair in open(f"{process}/environ").read().split("\0")[:-1] if pair.split("=")[0] in
             ("DATA_DIR", "GREETING", "HOME", "HOST", "PATH", "PORT", "ZEXIO_PROCESS", "ZEXIO_PROJECT", "ZEXIO_RELEASE")]
parts = ["zexio-launch-1", "/zexio/apps/hello/releases/1", str(len(words)), *words, *variables]
sys.stdout.write("".join(part + "\0" for part in parts))
END
systemd-creds encrypt --name=$unit /run/blob /etc/zexio/cred/$unit.service.cred && rm /run/blob
sed -i -e '/^NotifyAccess=exec$/d; /^FileDescriptorStoreMax=/d; s/^ExecStopPost=-+/ExecStopPost=-/' \
  -e "s|^ExecStartPre=.*|LoadCredentialEncrypted=$unit:/etc/zexio/cred/$unit.service.cred|" $file
rm /var/lib/zexio/launch.key
systemctl daemon-reload && systemctl restart $unit
"#;

#[test]
fn an_app_with_a_credential_runs_on_and_starts_without_it_the_next_time() {
    let (machine, unit) = (with_hello(), "zexio-hello-web-r1.service");
    machine.must(WITH_CREDENTIAL);
    machine.wait_for_answer("hello.example.com", "/env/GREETING", "good day");
    let app = machine.main_pid(unit);
    machine.must("systemctl start zexio-agent");
    machine.wait_until("another unit file", || {
        machine
            .sh(&format!("systemctl cat {unit} | grep -q 'hand-over {unit}' && zexio status hello | grep -q Ready"))
            .status
            == 0
    });
    assert_eq!(machine.main_pid(unit), app, "it was not touched");
    machine.must(&format!("kill -9 {app}"));
    machine.wait_until("another process", || !["0", &app].contains(&machine.main_pid(unit).as_str()));
    machine.wait_for_answer("hello.example.com", "/env/GREETING", "good day");
    assert_eq!(machine.sh("ls /run/credentials | grep zexio-hello").stdout, "", "a mount is left");
    machine.must("zexio delete hello --wait=150s");
    assert_eq!(machine.sh("ls /etc/zexio/cred | grep hello").stdout, "");
}

#[test]
fn an_app_gets_no_descriptor_and_no_socket_of_its_start() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    let run = r#"[/bin/sh, -c, "ls /proc/self/fd >$DATA_DIR/fds; env >$DATA_DIR/env; exec ./hello"]"#;
    assert_eq!(machine.apply("hello", &web_spec("hello", "1.0.0", run, "")).status, 0);
    // ls itself has the directory open as 3.
    assert_eq!(machine.must("cat /zexio/apps/hello/data/fds | tr '\n' ' '").trim(), "0 1 2 3");
    let env = machine.must("cat /zexio/apps/hello/data/env");
    assert!(!env.contains("LISTEN_") && !env.contains("NOTIFY_SOCKET"), "{env}");
}

#[test]
fn a_lost_key_of_launch_blobs_stops_no_app_and_is_made_again() {
    let (machine, unit) = (with_hello(), "zexio-hello-web-r1.service");
    let app = machine.main_pid(unit);
    machine.must("rm /var/lib/zexio/launch.key && systemctl restart zexio-agent");
    machine.wait_until("a blob that opens", || {
        machine.sh(&format!("test -e /etc/zexio/cred/{unit}.cred && zexio status hello | grep -q Ready")).status == 0
    });
    assert_eq!(machine.main_pid(unit), app);
    machine.must(&format!("kill -9 {app}"));
    machine.wait_for_answer("hello.example.com", "/env/GREETING", "good day");
    // Without the agent, the words of the start are in the app's own log.
    machine.must("systemctl stop zexio-agent && echo damaged >/var/lib/zexio/launch.key");
    machine.must(&format!("kill -9 $(systemctl show -P MainPID {unit})"));
    machine.wait_until("the cause in its log", || {
        machine
            .sh(&format!("journalctl -u {unit} | grep -q 'could not read /var/lib/zexio/launch.key: it is damaged'"))
            .status
            == 0
    });
    machine.must("rm /var/lib/zexio/launch.key && systemctl start zexio-agent");
    machine.wait_for_answer("hello.example.com", "/env/GREETING", "good day");
}

#[test]
fn a_boot_starts_apps_in_turns_and_web_processes_first() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    let spec = web_spec("many", "1.0.0", "./hello", "")
        .replace("    routes:", "    instances: 20\n    routes:")
        .replace("deploy:", "  work: { run: [sleep, infinity], instances: 20 }\ndeploy:")
        .replace("within: 5s", "within: 60s");
    let said = machine.apply("many", &spec);
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    machine.must("systemctl disable zexio-agent");
    machine.reboot();
    let started = "journalctl -b -o cat _PID=1 | grep '^Started zexio-many-'";
    machine.wait_until("all to run", || machine.sh(&format!("{started} | wc -l")).stdout.trim() == "40");
    let order = machine.must(&format!("{started} | sed 's/.*process \\([a-z]*\\),.*/\\1/'"));
    let last: Vec<&str> = order.lines().skip(30).collect();
    assert_eq!(last, ["work"; 10], "{order}");
    assert_eq!(machine.sh("journalctl -b -o cat | grep -i 'timed out\\|could not wait'").stdout, "");
}
