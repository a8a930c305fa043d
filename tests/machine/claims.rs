//! The watched directory on the real machine: whose a project is, and what a file that is missed may take with it.

use serde_json::Value;

use crate::machine::{Machine, web_spec};

/// Whether the project's status has a condition that is true for this reason.
fn is(machine: &Machine, project: &str, kind: &str, reason: &str) -> bool {
    let said = machine.must(&format!("zexio get {project} -o json"));
    let view: Value = serde_json::from_str(&said).expect("it is JSON");
    let mut conditions = view["status"]["conditions"].as_array().expect("a status has conditions").iter();
    conditions.any(|one| one["type"] == kind && one["status"] == "True" && one["reason"] == reason)
}

fn with_one() -> Machine {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    machine.drop_spec("one", &web_spec("one", "1.0.0", "./hello", ""));
    machine.wait_for_answer("one.example.com", "/", "1.0.0 (release 1)");
    machine.wait_until("Ready", || machine.status_has("one", r#""state":"running""#));
    machine
}

#[test]
fn a_second_file_for_a_project_is_told_once_and_stops_nothing() {
    let machine = with_one();
    let second = web_spec("one", "9.9.9", "./hello", "");
    machine.drop_spec("zz", &second);
    let is_told = |project: &str| is(&machine, project, "Stalled", "Conflict");
    machine.wait_until("the conflict to be told", || is_told("one"));
    assert!(is(&machine, "one", "Ready", "Serving"));
    assert!(machine.status_has("one", r#""state":"running""#));
    let says = "zz.yaml claims this project too, which belongs to file one.yaml; remove one of the two";
    for shown in ["zexio status one", "zexio why one", "zexio events one --reason Conflict"] {
        let said = machine.must(shown);
        assert!(said.contains(says), "{shown}: {said}");
    }
    // Its own file goes on, and what falls is healed.
    machine.publish("2.0.0");
    machine.drop_spec("one", &web_spec("one", "2.0.0", "./hello", ""));
    machine.wait_for_answer("one.example.com", "/", "2.0.0 (release 2)");
    machine.must("systemctl stop zexio-one-web-r2.service");
    machine.wait_until("the process to be healed", || machine.get("one.example.com", "/").1.contains("(release 2)"));
    // Whoever waits for it sees its end.
    machine.wait_until("Ready", || is(&machine, "one", "Ready", "Serving"));
    let said = machine.sh("zexio rollback one --wait=150s");
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    machine.wait_for_answer("one.example.com", "/", "hello from one 1.0.0");
    let told = machine.must("zexio events one -n 1000 --reason Conflict -o json");
    assert_eq!((told.lines().count(), told.contains(r#""count":1"#)), (1, true), "it is told once: {told}");
    machine.must("rm /zexio/specs/zz.yaml");
    machine.wait_until("the conflict to be over", || !machine.status_has("one", "Conflict"));
    // The other side may not write it, and a file that tries is told as well.
    assert_eq!(machine.apply("two", &web_spec("two", "1.0.0", "./hello", "")).status, 0);
    machine.drop_spec("two", &web_spec("two", "9.9.9", "./hello", ""));
    machine.wait_until("the conflict to be told", || is_told("two"));
    assert!(is(&machine, "two", "Ready", "Serving"));
    let said = machine.apply("two", &web_spec("two", "2.0.0", "./hello", ""));
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    assert!(is_told("two"), "a write of the owner does not end it");
}

#[test]
fn a_file_that_is_renamed_and_cut_off_takes_nothing_with_it() {
    let machine = with_one();
    let data = "/zexio/apps/one/data/kept";
    machine.must(&format!("echo precious >{data}"));
    machine.must("cp /zexio/specs/one.yaml /root/one.yaml && echo 'artifact: {' >/zexio/specs/one.tmp");
    machine.must("cd /zexio/specs && mv one.tmp two.yaml && rm one.yaml");
    machine.wait_until("the removal to be held back", || machine.status_has("one", r#""reason":"PruneRefused""#));
    let why = machine.must("zexio why one");
    assert!(why.contains("two.yaml") && why.contains("zexio sync one --prune"), "{why}");
    assert!(machine.get("one.example.com", "/").1.contains("1.0.0 (release 1)"), "it serves on");
    // Mended, it is the missed one.
    machine.must("mv /root/one.yaml /zexio/specs/two.yaml");
    machine.wait_until("the file to have it", || machine.status_has("one", r#""owner":"file:two.yaml""#));
    machine.wait_until("all to be well", || machine.status_has("one", r#""state":"running""#));
    // Again, and this time somebody confirms.
    machine.must("cd /zexio/specs && echo 'artifact: {' >three.tmp && mv three.tmp three.yaml && rm two.yaml");
    machine.wait_until("the removal to be held back", || machine.status_has("one", r#""reason":"PruneRefused""#));
    assert_eq!(machine.must(&format!("cat {data}")), "precious");
    machine.must("zexio sync one --prune");
    machine.wait_until("the project to be gone", || machine.sh("zexio get one").stderr.contains("no project one"));
}
