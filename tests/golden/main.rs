//! The texts that other programs read, whole: a changed line shows in review. `UPDATE_GOLDEN=1` writes them anew.

mod plans;
mod scene;

use std::collections::BTreeSet;
use std::path::Path;

use zexio::model::desired::{Content, Source};
use zexio::model::document::{self, Subject};
use zexio::model::layout::Layout;
use zexio::model::names::{ProcessName, ProjectId, ReleaseNo, Slot, UnitId};
use zexio::model::spec::{HeaderName, HeaderText, Sealed, Spec, Tls};
use zexio::render::caddyfile::{self, Proxy, Site, SiteRoute};
use zexio::render::unit;

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
    let source = Source::of(&spec.artifact).unwrap();
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
    for path in entries.map(|entry| entry.unwrap().path()) {
        let text = std::fs::read_to_string(&path).unwrap();
        let path = path.display();
        assert!(text.starts_with("# "), "{path} does not begin by saying what it shows");
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
        root: None,
        spa: false,
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
    let proxy = Proxy {
        template: include_str!("../../Caddyfile.tmpl").into(),
        admin: "/run/caddy/admin.sock".into(),
        fronts: "/zexio/fronts".into(),
        email: Some("ops@example.com".into()),
        acme_ca: None,
        hostname: Some("agent.example.com".parse().unwrap()),
        api: "127.0.0.1:7470".into(),
        stream_close_delay: false,
    };
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
        site("plain.example.com", Tls::Off, None, vec![SiteRoute { headers: headers(), ..route(None, "web", 21002) }]),
    ];
    assert_golden("Caddyfile", &caddyfile::text(&proxy, &sites).unwrap());
}

#[test]
fn a_template_that_an_operator_broke_says_where() {
    let proxy = Proxy {
        template: "{\n\tadmin unix/{{ admin }}\n}\n{% for site in sitse %}{% endfor %}\n".into(),
        admin: "/run/caddy/admin.sock".into(),
        fronts: String::new(),
        email: None,
        acme_ca: None,
        hostname: None,
        api: String::new(),
        stream_close_delay: false,
    };
    let in_a_site = "{% for site in sites %}\n{{ site.hots }}\n{% endfor %}".to_owned();
    let hidden = caddyfile::try_template(&Proxy { template: in_a_site, ..proxy.clone() });
    assert!(hidden.is_err(), "also where only a site would show it");
    let error = caddyfile::text(&proxy, &[]).unwrap_err();
    assert!(error.contains("Caddyfile.tmpl") && error.contains('4'), "{error}");
}
