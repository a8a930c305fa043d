//! Stop, and go on, on the real machine: what is changed by hand stays so until somebody says otherwise.

use crate::machine::{Machine, web_spec};

const UNIT: &str = "zexio-hello-web-r1.service";

fn reasons(machine: &Machine) -> String {
    let said = machine.must("zexio events hello -n 1000 -o json");
    let reason =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["reason"].as_str().map(str::to_owned);
    said.lines().filter_map(reason).map(|reason| reason + " ").collect()
}

#[test]
fn what_is_changed_by_hand_stays_while_suspended_and_is_healed_when_resumed() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    machine.publish("2.0.0");
    // A file's project: whoever is called at night need not find the file.
    machine.drop_spec("hello", &web_spec("hello", "1.0.0", "./hello", ""));
    machine.wait_for_answer("hello.example.com", "/", "1.0.0 (release 1)");
    machine.wait_until("Ready", || machine.status_has("hello", r#""state":"running""#));
    let said = machine.must("zexio suspend hello --reason 'trying something' --until 2h");
    assert!(said.starts_with("hello  suspended until 2"), "{said}");
    machine.wait_until("the status to say so", || machine.status_has("hello", r#""state":"suspended""#));
    machine.must(&format!("systemctl stop {UNIT} && echo '# by hand' >>/etc/systemd/system/{UNIT}"));
    machine.drop_spec("hello", &web_spec("hello", "2.0.0", "./hello", ""));
    machine.wait_until("the file to be taken", || machine.status_has("hello", r#""generation":2"#));
    let said = machine.must("zexio sync hello");
    assert!(said.contains("it waits, since the project is suspended") && said.contains("by key admin"), "{said}");
    machine.must("systemctl restart zexio-agent");
    machine.wait_until("the agent to be healthy", || machine.healthy());
    // Passes over everything, by the agent that came after; healing took less than one of them before.
    machine.must("for i in 1 2 3; do zexio sync hello; zexio plan hello; done");
    assert_ne!(machine.sh(&format!("systemctl is-active {UNIT}")).status, 0, "it is not started");
    machine.must(&format!("grep -q '# by hand' /etc/systemd/system/{UNIT}"));
    assert_eq!(machine.sh("ls -d /zexio/apps/hello/releases/2").status, 2, "and nothing new is fetched");
    let shown = machine.must("zexio status; zexio status hello; zexio why hello");
    assert!(shown.matches("suspended").count() >= 2 && shown.matches("trying something").count() >= 2, "{shown}");
    machine.must("zexio resume hello");
    machine.wait_for_answer("hello.example.com", "/", "2.0.0 (release 2)");
    machine.wait_until("Ready", || machine.status_has("hello", r#""state":"running""#));
    let told = reasons(&machine);
    let mut rest = told.as_str();
    for reason in [
        "SpecWritten",
        "Promoted",
        "Serving",
        "SuspendRequested",
        "Suspended",
        "SpecWritten",
        "ResumeRequested",
        "Resumed",
        "Trial",
        "Promoted",
        "Serving",
    ] {
        let at =
            rest.find(&format!("{reason} ")).unwrap_or_else(|| panic!("{reason} is missing or too early in {told}"));
        rest = &rest[at + reason.len()..];
    }
}

#[test]
fn a_removal_waits_for_its_suspension_and_the_events_outlive_the_project() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    machine.must("zexio events --follow >/root/followed 2>&1 & echo $! >/root/follower");
    assert_eq!(machine.apply("hello", &web_spec("hello", "1.0.0", "./hello", "")).status, 0);
    machine.must("zexio suspend hello");
    let said = machine.sh("zexio delete hello --yes --wait=60s");
    assert_eq!(said.status, 3, "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("it waits, since the project is suspended"), "{}", said.stdout);
    assert_eq!(machine.get("hello.example.com", "/").0, 200, "it serves on");
    machine.must("zexio resume hello");
    machine.wait_until("hello to be gone", || machine.sh("zexio get hello").status == 1);
    let told = reasons(&machine);
    assert!(told.contains("DeleteRequested ") && told.contains("ProjectDeleted"), "{told}");
    machine.wait_until("the follower to hear of the end", || {
        machine.sh("grep -q 'forget the project' /root/followed").status == 0
    });
    let followed = machine.must("cat /root/followed; kill $(cat /root/follower)");
    assert!(
        followed.contains("key admin wrote generation 1") && followed.contains("release 1 (1.0.0) serves"),
        "{followed}"
    );
}
