//! Reads a spec document, YAML or JSON, into a checked `Document`, or reports what is wrong and where.
//!
//! The text becomes a tree first (which refuses duplicate keys and keeps every line and column), then the typed spec.

mod tree;
mod wording;

use std::collections::BTreeMap;

use super::host_document::{Asked, HostDocument};
use super::names::ProjectId;
use super::problem::{Problem, SpecError};
use super::services::{Service, Version};
use super::spec::Document;
use super::spec_rules;

use tree::Tree;
use wording::typed;

pub use wording::is_private;

/// Longest document, in bytes. A longer one is refused before it is parsed.
pub const LONGEST: usize = 256 * 1024;

/// Reads a document.
///
/// # Errors
/// Every problem found, with its field and place.
pub fn parse(text: &[u8]) -> Result<Document, SpecError> {
    project(&Tree::read(text)?)
}

fn project(tree: &Tree) -> Result<Document, SpecError> {
    tree.check_values()?;
    if tree.value.get("kind").is_some() {
        let why = "a project's spec has no kind; the only other document is kind: host, with services";
        return Err(SpecError::from(tree.locate(Problem::at("kind", why))));
    }
    let document = typed(&tree.value).map_err(|problem| SpecError::from(tree.locate(problem)))?;
    tree.refuse(spec_rules::problems(&document))?;
    Ok(document)
}

/// The subject of a document.
pub enum Subject {
    Project(Box<Document>),
    Host(BTreeMap<Service, Version>),
}

/// Reads a document of either kind.
///
/// # Errors
/// Every problem found, with its field and place.
pub fn parse_any(text: &[u8]) -> Result<Subject, SpecError> {
    subject(&Tree::read(text)?)
}

fn subject(tree: &Tree) -> Result<Subject, SpecError> {
    match tree.is_about_host() {
        true => services(tree).map(Subject::Host),
        false => project(tree).map(|document| Subject::Project(Box::new(document))),
    }
}

/// A document's content, and what is known of it even if it is invalid.
pub struct Reading {
    pub subject: Result<Subject, SpecError>,
    pub about_host: bool,
    /// The project that it names.
    pub named: Option<ProjectId>,
}

/// Reads a document that may be invalid. The text is read only once, since a hostile one is slow to read.
pub fn read(text: &[u8]) -> Reading {
    match Tree::read(text) {
        Err(problem) => Reading { subject: Err(problem.into()), about_host: false, named: None },
        Ok(tree) => Reading { subject: subject(&tree), about_host: tree.is_about_host(), named: tree.project_named() },
    }
}

/// Refuses a parsed document for problems found afterwards.
///
/// # Errors
/// The problems, each with its place, if any.
pub fn located(text: &[u8], problems: Vec<Problem>) -> Result<(), SpecError> {
    if problems.is_empty() {
        return Ok(());
    }
    match Tree::read(text) {
        Ok(tree) => tree.refuse(problems),
        Err(_) => Err(SpecError { problems }),
    }
}

/// Returns whether a text is a document about the host, however wrong the rest of it is.
pub fn is_about_host(text: &[u8]) -> bool {
    Tree::read(text).is_ok_and(|tree| tree.is_about_host())
}

const HOST: &str = "host";

fn services(tree: &Tree) -> Result<BTreeMap<Service, Version>, SpecError> {
    tree.check_values()?;
    let document: HostDocument = typed(&tree.value).map_err(|problem| SpecError::from(tree.locate(problem)))?;
    let (mut found, mut problems) = (BTreeMap::new(), Vec::new());
    for (service, asked) in &document.services {
        match asked.version_of(*service) {
            Ok(version) => drop(found.insert(*service, version)),
            Err(why) => problems.push(tree.locate(Problem::at(format!("services.{service}.version"), why))),
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(SpecError { problems }) }
}

/// Reads the request for one service: `{}` or `{"version": …}`.
///
/// # Errors
/// Every problem found, with its field and place.
pub fn parse_service(service: Service, text: &[u8]) -> Result<Version, SpecError> {
    let tree = Tree::read(text)?;
    tree.check_values()?;
    let asked: Asked = typed(&tree.value).map_err(|problem| SpecError::from(tree.locate(problem)))?;
    asked.version_of(service).map_err(|why| SpecError::from(tree.locate(Problem::at("version", why))))
}

/// Returns whether a text is a document at all: a mapping that can be read, whatever its keys mean.
pub fn is_readable(text: &[u8]) -> bool {
    Tree::read(text).is_ok()
}

/// Returns the project that a document names, even if the rest of it is wrong.
pub fn project_named_in(text: &[u8]) -> Option<ProjectId> {
    Tree::read(text).ok()?.project_named()
}

impl From<Problem> for SpecError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::{Given, Sealed};

    const MINIMAL: &str = "zexio: 1\nproject: shop\nartifact: { url: https://a.example.com/x.tar.gz }\nprocesses: { web: { run: ./shop } }\n";

    fn refusal(text: &str) -> String {
        match parse(text.as_bytes()) {
            Ok(_) => "accepted".into(),
            Err(error) => error.to_string(),
        }
    }

    fn with(extra: &str) -> String {
        refusal(&format!("{MINIMAL}{extra}"))
    }

    #[test]
    fn json_means_the_same_however_its_writer_spells_it() {
        let with = |value: &str| {
            let text = format!(
                "{{\"zexio\":1,\"project\":\"shop\",\"artifact\":{{\"url\":\"https:\\/\\/a.example.com/x\"}},\n\t\"env\":{{\"A\":\"{value}\"}},\"processes\":{{\"web\":{{\"run\":\"./x\"}}}}}}"
            );
            parse(text.as_bytes())
                .map(|spec| spec.env.values().filter_map(Given::clear).map(str::to_owned).collect::<String>())
        };
        for (spelled, meant) in [
            ("\\ud83e\\udd80", "🦀"),
            ("🦀", "🦀"),
            ("\u{7f}\\u0085\u{85}\u{feff}", "\u{7f}\u{85}\u{85}\u{feff}"),
            ("\\\\ud83e\\\\udd80", "\\ud83e\\udd80"),
            ("\\u00e9\\n\\\"\\/", "é\n\"/"),
        ] {
            assert_eq!(with(spelled).as_deref(), Ok(meant), "{spelled}");
        }
        assert!(with("\\ud83e").is_err(), "half a pair is no text");
    }

    #[test]
    fn the_minimal_spec_is_enough_in_yaml_and_in_json() {
        assert_eq!(refusal(MINIMAL), "accepted");
        let json = r#"{"zexio":1,"project":"shop","artifact":{"url":"https://a.example.com/x"},"processes":{"web":{"run":["./shop"]}}}"#;
        assert_eq!(refusal(json), "accepted");
        assert_eq!(refusal(&format!("\u{feff}{MINIMAL}")), "accepted");
    }

    #[test]
    fn an_unknown_key_names_its_place_and_its_nearest_relative() {
        assert_eq!(with("secrts: [A]\n"), "line 5, column 1: secrts: unknown key; did you mean secrets?");
        assert_eq!(with("deploy:\n  drian: 5s\n"), "line 6, column 3: deploy.drian: unknown key; did you mean drain?");
        assert_eq!(with("x-note: anything\n"), "accepted");
        assert_eq!(
            with("sandbox: stric\n"),
            "line 5, column 10: sandbox: \"stric\" is not one of standard, strict, off; did you mean strict?"
        );
    }

    #[test]
    fn values_of_the_wrong_kind_are_refused_where_they_stand() {
        assert_eq!(
            with("env:\n  PORTS: 8080\n"),
            "line 6, column 10: env.PORTS: a number stands where a text is expected; put it in quotes"
        );
        assert_eq!(with("env: { A: ~ }\n"), "line 5, column 8: env.A: has no value; give it one, or leave it out");
        assert!(with("env: { A: b, NOTIFY_SOCKET: x }\n").starts_with("line 5, column 14: env.NOTIFY_SOCKET: "));
        assert!(
            with("limits: 3\n").ends_with("limits: the number 3 stands where a mapping of keys to values is expected")
        );
        assert!(with("limits: { memory: 12x }\n").contains("512M"));
        assert!(with("updates: false\n") != "accepted");
        assert!(with("env: { A: [b] }\n").contains("a list stands where a text is expected"));
        assert!(with("project: ~\n") != "accepted");
        assert!(with("keep: 0\n").contains("keep"));
    }

    #[test]
    fn what_may_be_a_secret_is_never_in_an_error() {
        let hook = |name: &str, rest: &str, secret: &str| {
            let url = MINIMAL.replace("x.tar.gz }", "x.tar.gz, updates: webhook }");
            refusal(&format!("{url}hooks:\n  {name}:\n    {rest}\n    secret: {secret}\n"))
        };
        let template = "{ repo: a/b, event: release, artifact: 'https://x/{tag}' }";
        let rest = template.trim_matches(['{', '}', ' ']).replace(", ", "\n    ");
        for provider in ["forgejo", "github", "gitlab", "standard"] {
            let rest = if provider == "standard" { "x-a: 1" } else { rest.as_str() };
            for secret in ["'hunter-2'", "'whsec_hunter2+/='", "20020020", "[hunter2]", "{ a: hunter2 }", "true"] {
                let said = hook(provider, rest, secret);
                assert!(said.contains(&format!("hooks.{provider}.secret")), "{secret}: {said}");
                assert!(!said.contains("hunter") && !said.contains("2002"), "{secret}: {said}");
            }
            let said = hook(provider, rest, "'hunter-2'");
            assert!(said.contains("its value is stored by `zexio secret set PROJECT NAME`"), "{said}");
        }
        for extra in [
            "hooks: { github: hunter2 }",
            "hooks: hunter2",
            "secrets: [hunter-2]",
            "secrets: ['A:hunter-2']",
            "secrets: ['hunter-2:A']",
            "secrets: [A=hunter2]",
            "secrets: [{ A: hunter2 }]",
            "secrets: hunter2",
            "secrets: [20020020]",
            "env: { A: 20020020 }",
            "env: { A: [hunter2] }",
            "env: { A: { value: hunter2 } }",
            "env: [A=hunter2]",
            "env: A=hunter2",
            "env: { A=hunter2: x }",
            "env: { 'A B=hunter2': x }",
            "env: { A: *hunter2 }",
            "env: { A: %hunter2 }",
            "env: { A: \"hunter2\\q\" }",
            "env: { A: 'hunter2 }",
            "env: { A: \"hunter2\u{1}\" }",
        ] {
            let said = with(&format!("{extra}\n"));
            assert!(said != "accepted" && !said.contains("hunter") && !said.contains("2002"), "{extra}: {said}");
        }
    }

    #[test]
    fn duplicate_keys_bombs_and_broken_text_are_refused_quickly() {
        assert_eq!(with("keep: 3\nkeep: 4\n"), "line 6, column 1: keep is written twice in one mapping; keep one");
        assert!(with("env: { A: x, A: y }\n") != "accepted");
        assert!(refusal(&"[".repeat(200_000)) != "accepted");
        assert!(refusal("zexio: 1\n---\nzexio: 1\n").contains("more than one document"));
        assert!(parse(&[0xff, 0xfe, b'a']).is_err());
        assert!(parse(&vec![b' '; LONGEST + 1]).is_err());
        for text in ["", "- a", "a", "\0", "a:\tb: c", "zexio: [1"] {
            assert!(refusal(text) != "accepted", "{text:?}");
        }
    }

    #[test]
    fn a_document_that_means_far_more_than_it_says_is_refused() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..9 {
            laughs += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", "));
        }
        let long = format!("x-a: &a {}\nx-b: [{}]\n", "y".repeat(100_000), vec!["*a"; 30].join(", "));
        let wide = format!("x-a: [{}]\n", "1,".repeat(60_000));
        // On a stack as small as a thread's may be.
        let deep: String = (1..60).map(|i| format!("x-{i}: &a{i} {{ b: [*a{}] }}\n", i - 1)).collect();
        for text in [
            "x-0: &a0 1\n".to_owned() + &deep,
            format!("x-a: {}", "[".repeat(1000)),
            format!("x-a:\n  {}1\n", "- ".repeat(1000)),
        ] {
            let said =
                std::thread::Builder::new().stack_size(1 << 20).spawn(move || with(&text)).unwrap().join().unwrap();
            assert!(said.contains("nested too deep: 16 levels are the most"), "{said}");
        }
        for text in [laughs, long, wide] {
            let said = with(&text);
            assert!(said.contains("with its aliases filled in, the document has more than"), "{said}");
        }
        let shared = "x-common: &common { http: /up, within: 5s }\nx-more: [*common, *common]\n";
        assert_eq!(with(shared), "accepted");
        let empty: String = (0..5000).map(|i| format!("k{i}: ~\n")).collect();
        assert_eq!(parse(format!("{MINIMAL}{empty}").as_bytes()).unwrap_err().problems.len(), 20);
        let named = with(&format!("{}: 1\n", "k".repeat(900)));
        assert!(named.contains("unknown key"), "{named}");
    }

    #[test]
    fn a_project_as_it_is_shown_can_be_read_again() {
        let spec = r#"{"zexio":1,"project":"shop","artifact":{"url":"https://a.example.com/x?…"},"env":{"A":{"sealed":3}},
            "processes":{"web":{"run":["./shop"]}}}"#;
        let shown = format!(r#"{{"generation":3,"project":"shop","spec":{spec},"status":{{"state":"ready"}}}}"#);
        let document = parse(shown.as_bytes()).unwrap();
        assert_eq!(document.env.values().next(), Some(&Given::AsItIs(Sealed { sealed: 3 })));
        assert_eq!(project_named_in(shown.as_bytes()).unwrap().as_str(), "shop");
        for (value, said) in [
            ("{ sealed: 0 }", "versions begin at 1"),
            ("{ sealed: x }", "env.A"),
            ("{ sealed: 1, more: 2 }", "a variable is a text"),
            ("{ secret: X }", "a secret is named under secrets"),
            ("{}", "a variable is a text"),
        ] {
            let refused = with(&format!("env: {{ A: {value} }}\n"));
            assert!(refused.contains(said), "{value}: {refused}");
        }
    }

    #[test]
    fn a_key_that_belongs_elsewhere_or_comes_from_another_tool_is_understood() {
        assert_eq!(with("drain: 5s\n"), "line 5, column 1: drain: unknown key; it belongs under deploy");
        let port = refusal(&MINIMAL.replace("{ run: ./shop }", "{ run: ./shop, port: 8080 }"));
        assert_eq!(
            port,
            "line 4, column 34: processes.web.port: unknown key; the agent chooses a port and hands it over as $PORT; leave it out"
        );
        assert!(with("image: shop\n").contains("artifact names what to run"));
        assert!(with("writable: [tmp]\n").contains("unknown key; an app writes to $DATA_DIR"));
        let headers = refusal(&MINIMAL.replace("x.tar.gz }", "x.tar.gz, headers: { Authorization: x } }"));
        assert!(headers.contains("artifact.headers: unknown key; an artifact is fetched without a login"), "{headers}");
    }

    #[test]
    fn a_header_may_begin_with_x_and_is_not_ignored() {
        let text = MINIMAL.replace("./shop", "./shop, routes: [{ host: a.b.c, headers: { x-frame-options: DENY } }]");
        let document = parse(text.as_bytes()).unwrap();
        assert_eq!(document.processes.values().next().unwrap().routes[0].headers.len(), 1);
    }

    #[test]
    fn a_need_is_one_of_the_services() {
        assert_eq!(with("needs: [redis, postgresql]\n"), "accepted");
        assert!(with("needs: [mysql]\n").contains(&format!("\"mysql\" is not one of {}", Service::names())));
    }

    fn host(services: &str) -> String {
        match parse_any(format!("zexio: 1\nkind: host\nservices: {services}\n").as_bytes()) {
            Ok(Subject::Host(services)) => format!("{services:?}"),
            refused => refused.err().map_or("a project".into(), |error| error.to_string()),
        }
    }

    #[test]
    fn a_kind_that_is_no_word_is_refused() {
        for kind in ["-1", "18446744073709551615", "1.5", "true", "~", "[host]", "{ host: 1 }"] {
            let refused = parse_any(format!("zexio: 1\nkind: {kind}\n").as_bytes()).map(|_| "accepted").unwrap_err();
            assert!(refused.to_string().contains("kind"), "{kind}: {refused}");
        }
    }

    #[test]
    fn a_host_document_names_services_and_their_versions() {
        let read = host("{ redis: {}, postgresql: { version: 15 }, nodejs: { version: lts } }");
        assert_eq!(read, "{Nodejs: Default, Postgresql: Major(15), Redis: Default}");
        assert_eq!(
            host("{ redis: { version: 7 }, postgresql: { version: lts } }"),
            "{Postgresql: Default, Redis: Major(7)}"
        );
        assert!(host("{ redis: { version: new } }").starts_with("line 3, column 31: services.redis.version: "));
        assert!(host("{ rediss: {} }").contains("did you mean redis?"), "{}", host("{ rediss: {} }"));
        assert!(host("{ nodejs: { versoin: lts } }").contains("did you mean version?"));
        assert!(host("{ nodejs: { version: 1.5 } }").contains("a version is a word or a major"));
        assert!(refusal("zexio: 1\nkind: hosts\nservices: {}\n").contains("kind"));
    }

    #[test]
    fn a_broken_document_still_tells_its_project() {
        let text = format!("{MINIMAL}nonsense: 1\n");
        assert_eq!(project_named_in(text.as_bytes()).unwrap().as_str(), "shop");
    }
}
