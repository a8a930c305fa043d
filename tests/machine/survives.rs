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
