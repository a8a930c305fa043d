//! The three doors in, what comes out, and how it goes away again.

use crate::machine::{Machine, web_spec};

const ADMIN: &str = "/etc/zexio/keys/admin";

#[test]
fn a_dropped_file_is_deployed_and_answers_over_https() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    machine.drop_spec("hello", &web_spec("hello", "1.0.0", "./hello", ""));
    machine.wait_for_answer("hello.example.com", "/", "hello from hello 1.0.0 (release 1)");
    machine.wait_until("Ready", || machine.status_has("hello", r#""serving":1"#));
    machine.must("systemctl is-active zexio-hello-web-r1.service && id zx-hello");
}

#[test]
fn a_put_is_deployed_and_a_second_one_replaces_it() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    machine.publish("2.0.0");
    let put = |version: &str| {
        let spec = web_spec("hello", version, "./hello", "");
        machine.signed("PUT", "/v1/projects/hello", &spec, "application/yaml", ADMIN).0
    };
    assert_eq!(put("1.0.0"), 201);
    machine.wait_for_answer("hello.example.com", "/", "1.0.0 (release 1)");
    assert_eq!(put("2.0.0"), 200);
    machine.wait_for_answer("hello.example.com", "/", "2.0.0 (release 2)");
}

#[test]
fn a_webhook_moves_the_version_and_its_key_opens_nothing_else() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    let sha256 = machine.publish("1.1.0");
    let spec = web_spec("bumped", "1.0.0", "./hello", "hooks: { generic: {} }\n")
        .replace("version: \"1.0.0\" }", "version: \"1.0.0\", updates: webhook }");
    assert_eq!(machine.apply("bumped", &spec).status, 0);
    machine.must("zexio key add ci --scope deploy:bumped");
    let body = format!(r#"{{"url":"http://127.0.0.1:9000/hello-1.1.0.tar.gz","sha256":"{sha256}","version":"1.1.0"}}"#);
    let ci = "/etc/zexio/keys/ci";
    let sent = machine.signed("POST", "/v1/hooks/bumped/generic", &body, "application/json", ci);
    assert_eq!(sent.0, 202, "{}", sent.1);
    machine.wait_for_answer("bumped.example.com", "/", "1.1.0 (release 2)");
    let refused = machine.signed("PUT", "/v1/projects/bumped", &spec, "application/yaml", ci);
    assert_eq!(refused.0, 403, "{}", refused.1);
}

#[test]
fn a_broken_release_leaves_the_old_one_serving_and_says_why() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    machine.publish("2.0.0");
    assert_eq!(machine.apply("hello", &web_spec("hello", "1.0.0", "./hello", "")).status, 0);
    let pid = machine.main_pid("zexio-hello-web-r1.service");
    for (release, run) in [(2, "./hello --exit-at-once 3"), (3, "./hello --never-ready"), (4, "./hello --no-listen")] {
        let said = machine.apply("hello", &web_spec("hello", "2.0.0", run, ""));
        assert_eq!(said.status, 3, "{run}: {}{}", said.stdout, said.stderr);
        assert!(machine.status_has("hello", &release.to_string()), "{run}: the rejected release is named");
        assert!(machine.status_has("hello", "HealthCheckFailed"), "{run}: the reason is in the status");
        assert!(machine.get("hello.example.com", "/").1.contains("1.0.0 (release 1)"), "{run}");
    }
    assert_eq!(machine.main_pid("zexio-hello-web-r1.service"), pid, "the old one was never restarted");
}

#[test]
fn a_rollback_needs_no_network() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    machine.publish("2.0.0");
    for version in ["1.0.0", "2.0.0"] {
        assert_eq!(machine.apply("hello", &web_spec("hello", version, "./hello", "")).status, 0);
    }
    machine.must("systemctl stop artifacts && rm -r /srv/artifacts");
    machine.must("zexio rollback hello --wait=150s");
    machine.wait_for_answer("hello.example.com", "/", "hello from hello 1.0.0");
}

#[test]
fn a_release_that_fell_now_and_then_in_its_service_is_gone_back_to_while_it_drains() {
    let machine = Machine::with_agent();
    let unit = "zexio-hello-web-r1.service";
    let spec = |version: &str| web_spec("hello", version, "./hello", "").replace("drain: 1s", "drain: 60s");
    machine.publish("1.0.0");
    machine.publish("2.0.0");
    assert_eq!(machine.apply("hello", &spec("1.0.0")).status, 0);
    for fall in 1..=4 {
        machine.must(&format!("systemctl kill -s KILL {unit}"));
        let back = format!("systemctl show -p ActiveState,NRestarts {unit}");
        machine.wait_until("the app to come back", || {
            machine.must(&back).lines().eq([format!("NRestarts={fall}").as_str(), "ActiveState=active"])
        });
    }
    assert_eq!(machine.apply("hello", &spec("2.0.0")).status, 0);
    machine.wait_for_answer("hello.example.com", "/", "hello from hello 2.0.0");
    let pid = machine.main_pid(unit);
    machine.must("zexio rollback hello --wait=150s");
    machine.wait_for_answer("hello.example.com", "/", "hello from hello 1.0.0");
    assert_eq!(machine.main_pid(unit), pid, "it never stopped");
}

#[test]
fn delete_leaves_nothing() {
    let machine = Machine::with_agent();
    machine.publish("1.0.0");
    machine.publish("2.0.0");
    for version in ["1.0.0", "2.0.0"] {
        assert_eq!(machine.apply("hello", &web_spec("hello", version, "./hello", "")).status, 0);
    }
    machine.must("zexio delete hello --wait=150s");
    let left = "ls -d /etc/systemd/system/zexio-hello-* /etc/systemd/system/*/zexio-hello-* /zexio/apps/hello \
                /zexio/fronts/hello /etc/zexio/cred/zexio-hello-* 2>/dev/null
                systemctl list-units --all --plain --no-legend 'zexio-hello-*'
                getent passwd zx-hello; grep -n hello /etc/caddy/zexio.caddyfile
                curl -s -H 'Host;' --unix-socket /run/caddy/admin.sock http://caddy/config/ | grep -o 'hello[^\"]*' || true";
    machine.wait_until("everything to be gone", || machine.exec(&["bash", "-c", left]).stdout.is_empty());
    assert_ne!(machine.sh("zexio get hello").status, 0);
}

#[test]
fn what_becomes_of_a_neighbours_routes_is_not_told_of_a_project() {
    let machine = Machine::with_agent();
    // A route that the operator's template turns into something that Caddy does not take.
    machine.must(
        r#"sed -i 's/^{%- if site.redirect | default %}/{%- if site.host == "bad.example.com" %}\n\tno_such_directive\n{%- endif %}\n&/' \
             /etc/zexio/Caddyfile.tmpl && grep -q no_such_directive /etc/zexio/Caddyfile.tmpl
           systemctl restart zexio-agent"#,
    );
    machine.publish("1.0.0");
    let apply = |project: &str| machine.apply(project, &web_spec(project, "1.0.0", "./hello", ""));
    assert_eq!(apply("hello").status, 0);
    let events = || machine.must("zexio events hello -o json");
    let before = events();
    let said = apply("bad");
    assert_eq!(said.status, 3, "{}", said.stderr);
    assert!(said.stderr.contains("RouteRefused") && said.stderr.contains("no_such_directive"), "{}", said.stderr);
    for neighbour in ["one", "two", "three"] {
        let said = apply(neighbour);
        assert_eq!(said.status, 0, "{}", said.stderr);
    }
    machine.must("zexio delete two --wait=150s");
    assert_eq!(events(), before);
    assert!(machine.status_has("hello", r#""live":true"#) && machine.status_has("bad", r#""live":false"#));
    assert!(machine.get("hello.example.com", "/").1.contains("hello"));
}
