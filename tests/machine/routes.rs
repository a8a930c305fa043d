//! Caddyfile.tmpl before a real Caddy, without the agent: what the template promises to whoever renders it.

use minijinja::value::Serde;
use serde_json::{Value, json};

use crate::machine::Machine;

const TEMPLATE: &str = include_str!("../../Caddyfile.tmpl");

pub fn render(sites: &Value, more: &Value) -> String {
    let mut templates = minijinja::Environment::new();
    templates.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    let mut values = json!({ "fronts": "/zexio/fronts", "sites": sites });
    for (key, value) in more.as_object().into_iter().flatten() {
        values[key] = value.clone();
    }
    templates.add_template("Caddyfile", TEMPLATE).expect("the template parses");
    let template = templates.get_template("Caddyfile").expect("it was just added");
    template.render(Serde(values)).expect("the template renders")
}

fn sites() -> Value {
    let route = |name: &str, project: &str, a: u16| {
        json!({ "name": name, "project": project, "process": "web",
                "a": [format!("127.0.0.1:{a}")], "b": [format!("127.0.0.1:{}", a + 1)] })
    };
    let site = |name: &str, root: &str, more: Value| {
        let mut route = route(name, "pages", 0);
        (route["root"], route["spa"]) = (json!(root), json!(false));
        more.as_object().into_iter().flatten().for_each(|(key, value)| route[key] = value.clone());
        route
    };
    let mut api = route("paths_api", "api", 21005);
    api["path"] = json!("/env/*");
    json!([
        { "host": "hello.example.com", "tls": "internal", "routes": [route("hello", "hello", 21003)] },
        { "host": "only.example.com", "tls": "internal", "routes": [api.clone()] },
        { "host": "paths.example.com", "tls": "internal", "routes": [api, route("paths_hello", "hello", 21003)] },
        { "host": "www.example.com", "tls": "internal", "redirect": "https://hello.example.com", "routes": [] },
        { "host": "plain.example.com", "tls": "off", "routes": [route("plain", "hello", 21003)] },
        { "host": "pages.example.com", "tls": "internal", "routes": [
            site("help", "/srv/help", json!({ "path": "/help/*", "clean_urls": true })),
            site("app", "/srv/app", json!({ "path": "/app/*", "spa": true })),
            site("pages", "/srv/pages", json!({})) ] },
    ])
}

/// A machine with Caddy on the rendered sites, and `hello` and `api` running in both slots.
fn with_sites() -> Machine {
    let machine = Machine::start();
    machine.write_caddyfiles(&render(&sites(), &json!({})));
    let profile = machine.must("ls -d /built/*/examples/hello | head -1");
    for (unit, port) in [("hello-a", 21003), ("hello-b", 21004), ("api-a", 21005), ("api-b", 21006)] {
        machine
            .must(&format!("systemd-run --unit={unit} -E PORT={port} -E ZEXIO_PROJECT={unit} -E WHO={unit} {profile}"));
    }
    machine.must(
        "mkdir -p /zexio/fronts/hello /zexio/fronts/api
         systemctl start caddy",
    );
    machine.wait_for_answer("hello.example.com", "/", "hello-a");
    machine
}

#[test]
fn the_marker_moves_a_site_from_slot_a_to_slot_b_and_back() {
    let machine = with_sites();
    machine.must("touch /zexio/fronts/hello/web");
    assert!(machine.get("hello.example.com", "/").1.contains("hello-b"));
    assert!(machine.get("paths.example.com", "/").1.contains("hello-b"));
    assert_eq!(machine.get("paths.example.com", "/env/WHO").1, "api-a");
    machine.must("rm /zexio/fronts/hello/web; touch /zexio/fronts/api/web");
    assert!(machine.get("hello.example.com", "/").1.contains("hello-a"));
    assert_eq!(machine.get("paths.example.com", "/env/WHO").1, "api-b");
}

#[test]
fn paths_redirects_and_plain_http_go_where_the_site_says() {
    let machine = with_sites();
    assert_eq!(machine.get("only.example.com", "/elsewhere").0, 404);
    let asked = |url: &str| machine.must(&format!("curl -sk -o /dev/null -w '%{{http_code}} %{{redirect_url}}' {url}"));
    let https = "--resolve www.example.com:443:127.0.0.1 https://www.example.com/x?y=1";
    assert_eq!(asked(https), "301 https://hello.example.com/x?y=1");
    let http = "--resolve hello.example.com:80:127.0.0.1 http://hello.example.com/x";
    assert_eq!(asked(http), "308 https://hello.example.com/x");
    let plain = "curl -s --resolve plain.example.com:80:127.0.0.1 http://plain.example.com/";
    assert!(machine.must(plain).contains("hello-a"));
}

#[test]
fn the_admin_socket_is_out_of_reach_for_other_users() {
    let machine = with_sites();
    machine.must("curl -sf -H 'Host;' --unix-socket /run/caddy/admin.sock http://caddy/config/admin");
    assert_ne!(machine.sh("setpriv --reuid=nobody --clear-groups ls /run/caddy").status, 0);
    assert_ne!(machine.sh("curl -s http://127.0.0.1:2019/config/").status, 0);
}

#[test]
fn what_is_rendered_is_formatted_as_caddy_formats() {
    let machine = Machine::start();
    let all = json!({ "email": "ops@example.com", "acme_ca": "https://acme.example.com/directory",
                      "trusted_proxies": ["10.0.0.0/8", "::1"], "hostname": "agent.example.com", "api": "127.0.0.1:7470" });
    for (sites, more) in [(json!([]), json!({})), (sites(), all)] {
        let rendered = render(&sites, &more);
        machine.write_file("/root/Caddyfile", &rendered);
        // fmt of 2.6.2 puts an empty line before everything when it writes to stdout
        assert_eq!(machine.must("caddy fmt /root/Caddyfile"), rendered.trim());
        machine.must("caddy adapt --adapter caddyfile --config /root/Caddyfile");
    }
}

#[test]
fn streams_are_kept_over_a_reload_where_caddy_knows_how() {
    assert!(!render(&sites(), &json!({})).contains("stream_close_delay"));
    assert!(!render(&sites(), &json!({ "stream_close_delay": false })).contains("stream_close_delay"));
    assert!(render(&sites(), &json!({ "stream_close_delay": true })).contains("\t\tstream_close_delay 5m\n"));
}
