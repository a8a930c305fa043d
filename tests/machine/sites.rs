//! Static sites as Caddy serves them: which files are there for visitors, by which paths, and what stands for the rest.

use crate::machine::Machine;

/// Publishes a directory of files, each with its own name in it, as `/<name>.tar.gz`.
fn publish(machine: &Machine, name: &str, files: &[&str]) {
    let each: Vec<String> = files
        .iter()
        .map(|file| format!("mkdir -p $(dirname {file}) && echo 'file {file} of {name}' >{file}"))
        .collect();
    machine.must(&format!(
        "mkdir /root/{name} && cd /root/{name} && {} && tar -czf /srv/artifacts/{name}.tar.gz .",
        each.join(" && ")
    ));
}

fn spec(artifact: &str, processes: &str) -> String {
    format!(
        "zexio: 1\nproject: pages\nartifact: {{ url: \"http://127.0.0.1:9000/{artifact}.tar.gz\" }}\n\
         processes:\n{processes}\ndeploy: {{ min_healthy: 0s, drain: 0s }}\n"
    )
}

const FILES: [&str; 14] = [
    "index.html",
    "about.html",
    "docs/index.html",
    "both.html",
    "both/index.html",
    "404.html",
    ".env",
    ".git/config",
    "docs/.secret/key",
    ".well-known/assetlinks.json",
    ".well-known/.secret",
    ".well-knownx",
    "docs/.well-known/security.txt",
    "app.html/index.html",
];

/// Asks for each path as it is written, without a redirect being followed: the status, and the file that came.
fn ask(machine: &Machine, path: &str) -> (u16, String) {
    let said = machine.must(&format!(
        "curl -sk --path-as-is --resolve pages.example.com:443:127.0.0.1 -w '\\n%{{http_code}} %{{redirect_url}}' 'https://pages.example.com{path}'"
    ));
    let (body, last) = said.rsplit_once('\n').unwrap_or(("", &said));
    let (status, to) = last.trim().split_once(' ').unwrap_or((last.trim(), ""));
    let file = body.trim().trim_start_matches("file ").split(" of ").next().unwrap_or_default();
    let shown =
        if to.is_empty() { file.to_owned() } else { to.trim_start_matches("https://pages.example.com").to_owned() };
    (status.parse().expect("a status"), shown)
}

fn must_answer(machine: &Machine, wanted: &[(&str, u16, &str)]) {
    let found: Vec<_> = wanted.iter().map(|(path, ..)| (*path, ask(machine, path))).collect();
    let wanted: Vec<_> = wanted.iter().map(|(path, status, file)| (*path, (*status, (*file).to_owned()))).collect();
    assert_eq!(found, wanted);
}

fn a_site_is_served_as_it_should_be(machine: &Machine) {
    publish(machine, "one", &FILES);
    publish(machine, "two", &["index.html", ".well-known/assetlinks.json"]);
    let route = "routes: [{ host: pages.example.com, tls: internal }]";
    let plain = |artifact: &str, more: &str| spec(artifact, &format!("  pages: {{ static: ., {more}{route} }}"));
    assert_eq!(machine.apply("pages", &plain("one", "")).status, 0);
    machine.wait_for_answer("pages.example.com", "/", "file index.html of one");
    let hidden = [
        "/.env",
        "/%2eenv",
        "/.git/config",
        "//.git/config",
        "/docs/../.git/config",
        "/docs%2f.secret/key",
        "/docs/.secret/key",
        "/.well-known/.secret",
        "/.well-knownx",
        "/docs/.well-known/security.txt",
        "/.well-known/../.env",
    ];
    must_answer(machine, &hidden.map(|path| (path, 404, "404.html")));
    must_answer(
        machine,
        &[
            ("/.well-known/assetlinks.json", 200, ".well-known/assetlinks.json"),
            ("/", 200, "index.html"),
            ("/about.html", 200, "about.html"),
            ("/about", 404, "404.html"),
            ("/docs", 308, "/docs/"),
            ("/docs/", 200, "docs/index.html"),
            ("/nowhere/at/all", 404, "404.html"),
            ("/404.html", 200, "404.html"),
        ],
    );
    let lost = machine.must(
        "curl -sk --resolve pages.example.com:443:127.0.0.1 -H 'If-None-Match: \"x\"' -H 'Range: bytes=0-1' -D - https://pages.example.com/nowhere",
    );
    assert!(lost.starts_with("HTTP/2 404") && lost.contains("file 404.html of one"), "{lost}");

    assert_eq!(machine.apply("pages", &plain("one", "clean_urls: true, ")).status, 0);
    machine.wait_until("clean paths", || ask(machine, "/about").0 == 200);
    must_answer(
        machine,
        &[
            ("/about", 200, "about.html"),
            ("/about?x=1", 200, "about.html"),
            ("/about.html", 200, "about.html"),
            ("/about/", 301, "/about"),
            ("/about/?x=1", 301, "/about?x=1"),
            ("/both", 200, "both.html"),
            ("/both/", 200, "both/index.html"),
            ("/docs", 308, "/docs/"),
            ("/app", 404, "404.html"),
            ("/.env", 404, "404.html"),
            ("/nowhere/", 404, "404.html"),
        ],
    );

    assert_eq!(machine.apply("pages", &plain("one", "spa: true, ")).status, 0);
    machine.wait_until("the index", || ask(machine, "/nowhere") == (200, "index.html".into()));
    must_answer(machine, &[("/.env", 404, ""), ("/.well-known/assetlinks.json", 200, ".well-known/assetlinks.json")]);

    // What a release has or has not is seen at each request: no route changes, and the page goes with its release.
    assert_eq!(machine.apply("pages", &plain("one", "")).status, 0);
    machine.wait_until("the page", || ask(machine, "/nowhere") == (404, "404.html".into()));
    assert_eq!(machine.apply("pages", &plain("two", "")).status, 0);
    machine.wait_for_answer("pages.example.com", "/", "file index.html of two");
    must_answer(
        machine,
        &[("/nowhere", 404, ""), ("/.well-known/assetlinks.json", 200, ".well-known/assetlinks.json")],
    );

    publish(machine, "three", &["404.html", "help/404.html", "help/help/start.html", ".output/public/app/index.html"]);
    let parts = "  pages: { static: ., routes: [{ host: pages.example.com, tls: internal }] }
  help: { static: help, clean_urls: true, routes: [{ host: pages.example.com, tls: internal, path: /help/* }] }
  app: { static: .output/public, routes: [{ host: pages.example.com, tls: internal, path: /app/* }] }";
    assert_eq!(machine.apply("pages", &spec("three", parts)).status, 0);
    machine.wait_until("the parts", || ask(machine, "/help/start") == (200, "help/help/start.html".into()));
    must_answer(
        machine,
        &[
            ("/help/nowhere", 404, "help/404.html"),
            ("/help/start/", 301, "/help/start"),
            ("/nowhere", 404, "404.html"),
            ("/app/", 200, ".output/public/app/index.html"),
            ("/app/nowhere", 404, ""),
        ],
    );
}

#[test]
fn a_static_site_hides_what_is_private_and_has_a_page_for_what_is_not_there() {
    a_site_is_served_as_it_should_be(&Machine::with_agent());
}

#[test]
fn with_a_newer_caddy_a_static_site_is_served_in_the_same_way() {
    let machine = Machine::start();
    machine.must("install -m 755 /built/caddy/caddy /usr/bin/caddy");
    machine.install_agent();
    a_site_is_served_as_it_should_be(&machine);
}
