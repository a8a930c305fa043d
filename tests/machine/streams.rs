//! Answers that begin long before they end, through Caddy: nothing holds them back, and what can be packed is.

use serde_json::json;

use crate::machine::Machine;
use crate::routes::render;

/// A machine with Caddy in front of an app, and what that Caddy can do.
fn with_app(machine: &Machine, more: &serde_json::Value) {
    let route = json!({ "name": "flow", "project": "flow", "process": "web", "a": ["127.0.0.1:21003"], "b": ["127.0.0.1:21004"] });
    let sites = json!([{ "host": "flow.example.com", "tls": "internal", "routes": [route] }]);
    machine.write_caddyfiles(&render(&sites, more));
    machine.must(
        "systemd-run --unit=flow -E PORT=21003 node /src/tests/machine/streams.js serve
         systemctl start caddy",
    );
    machine.wait_until("the app", || machine.get("flow.example.com", "/?whole=sized").0 == 200);
}

#[test]
fn no_answer_that_begins_before_it_ends_is_held_back() {
    let machine = Machine::start();
    with_app(&machine, &json!({}));
    machine.must("node /src/tests/machine/streams.js ask flow.example.com plain");
}

#[test]
fn with_a_newer_caddy_pages_without_a_length_are_packed_as_they_flow() {
    let machine = Machine::start();
    machine.must("install -m 755 /built/caddy/caddy /usr/bin/caddy");
    with_app(&machine, &json!({ "stream_close_delay": true, "encode_flushes": true }));
    machine.must("node /src/tests/machine/streams.js ask flow.example.com packed");
}
