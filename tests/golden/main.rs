//! The texts that other programs read, whole: a changed line shows in review. `UPDATE_GOLDEN=1` writes them anew.

mod accept;
mod breaches;
mod cases;
mod plans;
mod reference;
mod rows;
mod scene;
mod services;
mod steps;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use zexio::model::desired::Content;
use zexio::model::document::{self, Subject};
use zexio::model::layout::Layout;
use zexio::model::names::{ProcessName, ProjectId, ReleaseNo, Slot, UnitId};
use zexio::model::spec::{HeaderName, HeaderText, Sealed, Spec, Tls};
use zexio::render::caddyfile::{self, Site, SiteRoute};
use zexio::render::unit;
use zexio::settings::Settings;

fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{name} differs; it is now:\n{text}");
}

fn unit_text(extra: &str) -> String {
    let text = format!(
        "zexio: 1\nproject: shop\nartifact: {{ url: 'https://a.example.com/x' }}\nprocesses:\n  web: {{ run: ./shop, routes: [{{ host: shop.example.com }}] }}\n{extra}"
    );
    let spec: Spec =
        document::parse(text.as_bytes()).unwrap().try_map_env(|_, _| Ok::<_, ()>(Sealed { sealed: 1 })).unwrap();
    let source = spec.artifact.source().unwrap().clone();
    let content = Content::of(&spec, source, &Default::default()).unwrap();
    let process = ProcessName::parse("web").unwrap();
    let unit = UnitId {
        project: ProjectId::parse("shop").unwrap(),
        process: process.clone(),
        release: ReleaseNo(7),
        instance: None,
    };
    unit::text(&unit, &content.processes[&process], &content, Slot::A, Some(21002), &Layout::parse("/zexio").unwrap())
}

#[test]
fn a_standard_unit() {
    assert_golden("standard.service", &unit_text("limits: { memory: 512M, cpu: 150%, tasks: 256 }\n"));
}

#[test]
fn an_open_unit() {
    assert_golden("open.service", &unit_text("sandbox: off\n"));
}

#[test]
fn every_spec_of_this_repository_is_ready_to_drop() {
    let mut projects = BTreeSet::new();
    let mut hosts = BTreeSet::new();
    let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("specs")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    for path in paths.filter(|path| path.extension().is_some_and(|end| end == "yaml")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let path = path.display();
        let (first, rest) = text.split_once('\n').unwrap();
        assert_eq!(first, "# yaml-language-server: $schema=zexio.schema.json", "{path}: an editor needs it to help");
        assert!(rest.starts_with("# "), "{path} does not begin by saying what it shows");
        let read = document::parse_any(text.as_bytes()).unwrap_or_else(|error| panic!("{path}: {error:?}"));
        let Subject::Project(spec) = read else { continue };
        let routes = spec.processes.values().flat_map(|process| &process.routes);
        let named: BTreeSet<_> = routes.map(|route| route.host.clone()).collect();
        assert!(projects.insert(spec.project.clone()), "{path}: another file has project {}", spec.project);
        assert!(hosts.is_disjoint(&named), "{path}: another file has one of {named:?}");
        hosts.extend(named);
    }
    assert!(projects.len() > 10, "the specs were found");
}

fn route(path: Option<&str>, process: &str, port: u16) -> SiteRoute {
    SiteRoute {
        name: format!("shop_{process}_0"),
        path: path.map(|path| path.parse().unwrap()),
        project: ProjectId::parse("shop").unwrap(),
        process: ProcessName::parse(process).unwrap(),
        a: vec![format!("127.0.0.1:{port}")],
        b: vec![format!("127.0.0.1:{}", port + 1)],
        a_h2c: false,
        b_h2c: false,
        root: None,
        spa: false,
        clean_urls: false,
        headers: Default::default(),
    }
}

fn site(host: &str, tls: Tls, redirect: Option<&str>, routes: Vec<SiteRoute>) -> Site {
    Site {
        project: ProjectId::parse("shop").unwrap(),
        host: host.parse().unwrap(),
        tls,
        redirect: redirect.map(str::to_owned),
        routes,
    }
}

fn headers() -> std::collections::BTreeMap<HeaderName, HeaderText> {
    serde_json::from_str(r#"{"X-Frame-Options":"DENY","Content-Security-Policy":"default-src 'self'; img-src *"}"#)
        .unwrap()
}

#[test]
fn a_caddyfile() {
    let settings = Settings::parse(
        "hostname: agent.example.com\ncaddy: { email: ops@example.com, trusted_proxies: [10.0.0.0/8, '::1'] }",
    )
    .unwrap();
    let proxy = settings.proxy(include_str!("../../Caddyfile.tmpl").into(), false);
    let sites = [
        site("shop.example.com", Tls::Auto, None, vec![route(Some("/api/*"), "api", 21004), route(None, "web", 21002)]),
        site("www.example.com", Tls::Internal, Some("https://shop.example.com"), vec![]),
        site(
            "docs.example.com",
            Tls::Auto,
            None,
            vec![SiteRoute {
                root: Some("/zexio/apps/shop/bundle/public".into()),
                spa: true,
                ..route(None, "docs", 0)
            }],
        ),
        site(
            "pages.example.com",
            Tls::Auto,
            None,
            vec![
                SiteRoute {
                    root: Some("/zexio/apps/shop/bundle/help".into()),
                    clean_urls: true,
                    ..route(Some("/help/*"), "help", 0)
                },
                SiteRoute { root: Some("/zexio/apps/shop/bundle/pages".into()), ..route(None, "pages", 0) },
            ],
        ),
        site("rpc.example.com", Tls::Auto, None, vec![SiteRoute { b_h2c: true, ..route(None, "rpc", 21006) }]),
        site("plain.example.com", Tls::Off, None, vec![SiteRoute { headers: headers(), ..route(None, "web", 21002) }]),
    ];
    assert_golden("Caddyfile", &caddyfile::text(&proxy, &sites).unwrap());
}

#[test]
fn global_options_of_an_older_template_are_left_out() {
    let older = "{\n\tadmin unix/{{ admin }}\n\tskip_install_trust\n}\n\nmine.example.com {\n\trespond mine\n}\n";
    let text = caddyfile::text(&Settings::default().proxy(older.to_owned(), false), &[]).unwrap();
    assert_eq!(text, format!("{}\nmine.example.com {{\n\trespond mine\n}}\n", caddyfile::OURS));
}

#[test]
fn a_template_that_an_operator_broke_says_where() {
    let broken = |template: &str| Settings::default().proxy(template.to_owned(), false);
    let hidden = caddyfile::try_template(&broken("{% for site in sites %}\n{{ site.hots }}\n{% endfor %}"));
    assert!(hidden.is_err(), "also where only a site would show it");
    let plain = broken("{\n\tadmin unix/{{ admin }}\n}\n{% for site in sitse %}{% endfor %}\n");
    let error = caddyfile::text(&plain, &[]).unwrap_err();
    assert!(error.contains("Caddyfile.tmpl") && error.contains('4'), "{error}");
}

/// Returns the files of a directory with this ending, by name.
fn files(dir: &str, end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == end));
    files.sort();
    files
}

#[test]
fn the_page_of_reasons_is_made_from_their_table() {
    let mark = "cargo test --test golden` writes it again. -->\n";
    let page = include_str!("../../docs/operations.md");
    let (before, _) = page.split_once(mark).expect("the mark above the reasons");
    assert_golden("../../docs/operations.md", &format!("{before}{mark}{}", reference::reasons()));
}

#[test]
fn the_reference_says_what_the_schema_says() {
    assert_golden("../../docs/spec.md", &reference::text(&zexio::model::schema::schema()));
}

#[test]
fn the_schema_is_what_the_types_give() {
    assert_golden("../../specs/zexio.schema.json", &zexio::model::schema::text());
}

/// Asks a validator that knows nothing of us.
fn fits_schema(text: &str) -> Result<(), String> {
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.add_resource("zexio.schema.json", zexio::model::schema::schema()).unwrap();
    let schema = compiler.compile("zexio.schema.json", &mut schemas).unwrap();
    let options = serde_saphyr::options! { strict_booleans: true };
    let value: serde_json::Value = serde_saphyr::from_str_with_options(text, options).map_err(|e| e.to_string())?;
    schemas.validate(&value, schema).map_err(|e| e.to_string())
}

#[test]
fn the_schema_takes_every_spec_of_this_repository() {
    for path in files("specs", "yaml") {
        let text = std::fs::read_to_string(&path).unwrap();
        fits_schema(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let noted = "zexio: 1\nx-owner: ops\nproject: shop\nartifact: { file: a, x-note: b }\nprocesses: { x-base: 1, web: { run: ./a } }";
    assert!(document::parse(noted.as_bytes()).is_ok() && fits_schema(noted).is_ok(), "{:?}", fits_schema(noted));
}

#[test]
fn the_schema_refuses_what_the_agent_refuses_but_for_what_only_the_whole_shows() {
    const WHOLE: [&str; 3] = ["several-at-once", "a-shell-command", "a-schedule-of-cron"];
    for path in files("tests/golden/mistakes", "yaml") {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let refused = fits_schema(&std::fs::read_to_string(&path).unwrap()).is_err();
        assert_eq!(refused, !WHOLE.contains(&name.as_str()), "{name}");
    }
    let spec = |extra: &str| {
        format!("zexio: 1\nproject: shop\nartifact: {{ file: a }}\nprocesses: {{ web: {{ run: ./a }} }}\n{extra}\n")
    };
    for extra in [
        "keep: 0",
        "env: { NOTIFY_SOCKET: x }",
        "env: { A-B: x }",
        "secrets: ['A:B:C']",
        "hooks: { github: { repo: a/b } }",
        "suspend: { until: tomorrow }",
        "release: { timeout: 5m }",
        "limits: { cpu: 0% }",
    ] {
        let text = spec(extra);
        assert!(document::parse(text.as_bytes()).is_err() && fits_schema(&text).is_err(), "{extra}");
    }
    assert!(fits_schema(&spec("keep: 1\nneeds: [redis]")).is_ok());
    for host in
        ["kind: hosts\nservices: {}", "kind: host\nservices: { mysql: {} }", "kind: host\nproject: a\nservices: {}"]
    {
        let text = format!("zexio: 1\n{host}\n");
        assert!(document::parse_any(text.as_bytes()).is_err() && fits_schema(&text).is_err(), "{host}");
    }
}

#[test]
fn the_schema_and_the_agent_agree_on_what_a_value_looks_like() {
    let spec = |path: &str, value: &str| {
        let route = |inner: String| format!("processes: {{ web: {{ run: ./a, routes: [{{ {inner} }}] }} }}");
        let (project, processes, extra) = match path {
            "project" => (value, "processes: { web: { run: ./a } }".to_owned(), String::new()),
            "host" => ("shop", route(format!("host: {value}")), String::new()),
            "path" => ("shop", route(format!("host: a.b.c, path: {value}")), String::new()),
            "redirect" => ("shop", route(format!("host: a.b.c, redirect: {value}")), String::new()),
            "process" => ("shop", format!("processes: {{ {value}: {{ run: ./a }} }}"), String::new()),
            "http" => {
                ("shop", format!("processes: {{ web: {{ run: ./a, ready: {{ http: {value} }} }} }}"), String::new())
            }
            "schedule" => ("shop", format!("processes: {{ web: {{ run: ./a, schedule: {value} }} }}"), String::new()),
            "header" => ("shop", route(format!("host: a.b.c, headers: {{ A: {value} }}")), String::new()),
            _ => ("shop", "processes: { web: { run: ./a } }".to_owned(), format!("{path}: {value}")),
        };
        format!("zexio: 1\nproject: {project}\nartifact: {{ file: a }}\n{processes}\n{extra}\n")
    };
    let samples: [(&str, &[&str]); 12] = [
        ("project", &["shop", "a", "a-b", "a--b", "A", "-a", "a-", "1a", "abcdefghijklmnopqrstuvwxyzabc"]),
        ("process", &["web", "w-2", "W", "x", "xa", "xa-b", "web_2"]),
        (
            "host",
            &["a.b", "shop.example.com", "localhost", "A.com", "a..b", "1.2.3.4", "a.b:80", "'*.a.b'", "a-.b", "a.b1"],
        ),
        ("path", &["/", "/api/*", "/*", "/a.b/c", "//a", "api", "'/a b'", "/a*b"]),
        ("redirect", &["https://a.b", "http://a.b/", "https://a.b/c", "a.b", "ftp://a.b"]),
        ("http", &["/", "/up", "/up?x=1", "//a", "up", "http://a.b/up"]),
        ("schedule", &["daily", "'*-*-* 03:00'", "'*:0/15'", "'a;b'", "''"]),
        ("header", &["DENY", "\"default-src 'self'\"", "'a{b}'", "'a\"b'", "a$b"]),
        ("deploy: { drain", &["5s }", "250ms }", "1h 30m }", "2min }", "5 }", "soon }", "-1s }", "'0' }", "5 s }"]),
        ("limits: { memory", &["512M }", "2G }", "512MB }", "1.5G }", "'1073741824' }", "512m }"]),
        ("limits: { cpu", &["50% }", "150% }", "50 }", "1.5% }", "-5% }"]),
        (
            "suspend",
            &["true", "false", "yes", "{ until: 2026-12-01T08:00:00Z }", "{ until: 2026-12-01 }", "{ for: 2h }"],
        ),
    ];
    for (path, values) in samples {
        for value in values {
            let text = spec(path, value);
            let (agent, schema) = (document::parse(text.as_bytes()).err(), fits_schema(&text).err());
            assert_eq!(agent.is_none(), schema.is_none(), "{path}: {value}: {agent:?} {schema:?}");
        }
    }
}

#[test]
fn mistakes_are_shown_where_they_are_with_what_would_be_right() {
    let mut transcript = String::new();
    for path in files("tests/golden/mistakes", "yaml") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let output = Command::new(env!("CARGO_BIN_EXE_zexio"))
            .args(["validate", &name])
            .current_dir(path.parent().unwrap())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{name} is refused");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with(&format!("{name}:")) && said.contains('^'), "{said}");
        transcript.push_str(&format!("$ zexio validate {name}\n{said}\n"));
    }
    assert_golden("mistakes/transcript.txt", &transcript);
}

#[test]
fn what_is_shown_without_an_agent_has_a_form_for_programs_or_says_that_it_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("ci");
    std::fs::write(&key, "zxs_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n").unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let zexio = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_zexio")).arg("--key").arg(&key).args(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let sign = ["sign", "GET", "http://127.0.0.1:7470/v1/projects"];
    let (_, plain, _) = zexio(&sign);
    assert!(plain.starts_with("v1,kid=ci,") && plain.lines().count() == 1, "{plain}");
    for format in ["json", "yaml"] {
        let (status, said, err) = zexio(&[sign.as_slice(), &["-o", format]].concat());
        let said: serde_json::Value = serde_saphyr::from_str(&said).unwrap();
        assert_eq!((status, said["header"].as_str()), (Some(0), Some("X-Signature")), "{err}");
        assert!(said["value"].as_str().unwrap().starts_with("v1,kid=ci,"), "{said}");
        let (status, schema, err) = zexio(&["schema", "-o", format]);
        let schema: serde_json::Value = serde_saphyr::from_str(&schema).unwrap();
        assert_eq!((status, &schema), (Some(0), &zexio::model::schema::schema()), "{err}");
        let pages = dir.path().to_str().unwrap();
        for verb in [["completions", "bash"], ["man", pages]] {
            let (status, said, err) = zexio(&[verb.as_slice(), &["-o", format]].concat());
            assert!(status == Some(1) && said.is_empty() && err.contains("leave -o out"), "{verb:?}: {said}{err}");
        }
    }
}

#[test]
fn the_examples_for_ci_are_yaml_and_call_the_script_that_is_tried_on_a_machine() {
    for path in files("examples/ci", "yml") {
        let text = std::fs::read_to_string(&path).unwrap();
        serde_saphyr::from_str::<serde_json::Value>(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let calls =
            text.lines().filter(|line| line.trim_start().starts_with("- ") && line.contains("ci/bump.sh shop \"$"));
        assert!(calls.count() >= 1, "{} moves nothing", path.display());
    }
    assert_eq!(files("examples/ci", "yml").len(), 2);
}
