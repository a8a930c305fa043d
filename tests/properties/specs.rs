//! Specs over the whole language, with texts that nobody sane would write, and what each comes to once it serves.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use zexio::model::desired::{Content, Workload};
use zexio::model::document;
use zexio::model::names::{EnvName, ProjectId, ReleaseNo, Slot, UnitId};
use zexio::model::progress::{Progress, ProjectProgress, Release};
use zexio::model::quantity::Timestamp;
use zexio::model::spec::{Command, Document, Sealed, Spec};
use zexio::plan::ports;
use zexio::render::caddyfile::Proxy;
use zexio::settings::Settings;

/// Texts that meant something to some program once.
const NASTY: [&str; 22] = [
    "",
    " ",
    "\n",
    "./x\nUser=root",
    "a\rUser=root",
    "%m %n %%",
    "$HOME ${PATH} $$",
    "\\ \\n \\\\",
    "\"",
    "'\"'\"'",
    "`id`",
    "; rm -rf /",
    "{uri} {$HOME} {{ 7 * 7 }}",
    "# no comment",
    "- a: b",
    "yes",
    "0x10",
    "é 漢字 🦀",
    "\u{feff}x\u{200b}\u{2028}\u{85}",
    "\u{1b}[2J\u{7f}\t",
    "e\u{301} \u{202e}txt",
    "*a &b !c |d >e @f",
];

/// Any text that a word or a variable can hold.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(NASTY.to_vec()).prop_map(str::to_owned),
        3 => "\\PC{0,24}",
        2 => any::<String>().prop_map(|text| text.replace('\0', "")),
        1 => (1usize..4000).prop_map(|n| "long ".repeat(n)),
    ]
}

fn name(longest: usize) -> impl Strategy<Value = String> {
    let pattern = format!("[a-z][a-z0-9]{{0,{}}}(-[a-z0-9]{{1,4}})?", longest - 6);
    let names = proptest::string::string_regex(&pattern).expect("a pattern");
    names.prop_filter("it is taken, or a note", |name| name != "release" && !name.starts_with("x-"))
}

fn span(from: u64, to: u64) -> impl Strategy<Value = String> {
    (from..=to, select(vec!["ms", "s"])).prop_map(move |(n, unit)| match unit {
        "ms" => format!("{}ms", n * 1000),
        _ => format!("{n}s"),
    })
}

fn command() -> impl Strategy<Value = Value> {
    const USUAL: [&str; 5] = ["./app", "/usr/bin/env", "node", "bin/x y", "./é"];
    let program = prop_oneof![5 => select(USUAL.to_vec()).prop_map(str::to_owned), 1 => text()];
    let words = (program, vec(text(), 0..4)).prop_map(|(program, words)| [program].into_iter().chain(words).collect());
    // What is refused has tables of its own: a program may be any text, as long as it is one.
    let accepted = words.prop_filter("no command", |words: &Vec<String>| {
        Command::of_words(words.clone()).is_ok_and(|command| command.flaw(false).is_none())
    });
    (accepted, any::<bool>()).prop_map(|(words, as_text)| {
        match shlex::try_join(words.iter().map(String::as_str)) {
            // In a text a program like `{` or `A=b` is taken for a shell's.
            Ok(joined) if as_text && USUAL.contains(&words[0].as_str()) => json!(joined),
            _ => json!(words),
        }
    })
}

fn header() -> impl Strategy<Value = (String, String)> {
    ("[A-Za-z][A-Za-z0-9-]{0,20}", "[ -~&&[^{}\"`\\\\$]]{1,40}")
}

/// A route without its host's tls, which all routes of a host share.
fn route() -> impl Strategy<Value = Value> {
    let host = "[a-z]([a-z0-9-]{0,8}[a-z0-9])?\\.(example|x-1)\\.com";
    let path = weighted(0.6, "(/[a-zA-Z0-9._~-]{1,6}){1,2}(/\\*|\\*)?|/|/\\*");
    (host, path, btree_map("[A-Z][A-Za-z0-9-]{0,12}", header().prop_map(|(_, text)| text), 0..3)).prop_map(
        |(host, path, headers)| {
            let mut route = json!({ "host": host });
            path.into_iter().for_each(|path| route["path"] = json!(path));
            if !headers.is_empty() {
                route["headers"] = json!(headers);
            }
            route
        },
    )
}

fn ready() -> impl Strategy<Value = Value> {
    let way = prop_oneof![
        "/[a-zA-Z0-9._~/?=&%-]{0,20}"
            .prop_filter("a host", |p| !p.starts_with("//"))
            .prop_map(|p| json!({ "http": p })),
        Just(json!({ "tcp": true })),
        Just(json!({ "notify": true })),
    ];
    (way, span(1, 60), span(1, 5), 10u64..5000).prop_map(|(way, within, timeout, interval)| {
        let mut ready = json!({ "within": within, "timeout": timeout, "interval": format!("{interval}ms") });
        ready.as_object_mut().expect("a mapping").extend(way.as_object().cloned().unwrap_or_default());
        ready
    })
}

fn process() -> impl Strategy<Value = Value> {
    let signal = select(vec!["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH"]);
    let stop = (signal, span(1, 600)).prop_map(|(signal, within)| json!({ "signal": signal, "within": within }));
    let daemon = (command(), of(ready()), vec(route(), 0..4), of(stop), 1u32..=4).prop_map(
        |(run, ready, routes, stop, instances)| {
            let mut process = json!({ "run": run, "routes": routes, "instances": instances });
            ready.into_iter().for_each(|ready| process["ready"] = ready);
            stop.into_iter().for_each(|stop| process["stop"] = stop);
            process
        },
    );
    let calendars = ["daily", "*-*-* 03:00", "Mon..Fri *-*-* 9..17:00/15", "minutely", "2099-12-01 08:00:00 UTC"];
    let job = (command(), select(calendars.to_vec())).prop_map(|(run, at)| json!({ "run": run, "schedule": at }));
    let directories = ["public", ".", "./dist/", "a/b-c/d_e", "site.v1"];
    let site = (select(directories.to_vec()), any::<bool>(), vec(route(), 1..3))
        .prop_map(|(directory, spa, routes)| json!({ "static": directory, "spa": spa, "routes": routes }));
    prop_oneof![4 => daemon, 1 => job, 1 => site]
}

fn artifact() -> impl Strategy<Value = Value> {
    let source = prop_oneof![
        "[a-z0-9./?=&%-]{0,30}".prop_map(|rest| json!({ "url": format!("https://dl.example.com/{rest}") })),
        "[a-zA-Z0-9][a-zA-Z0-9._+-]{0,30}".prop_map(|file| json!({ "file": file })),
    ];
    let version = text().prop_filter("no label", |text| {
        (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control)
    });
    (source, of("[0-9a-f]{64}"), of(version), any::<bool>()).prop_map(|(mut artifact, sha256, version, webhook)| {
        sha256.into_iter().for_each(|sha256| artifact["sha256"] = json!(sha256));
        version.into_iter().for_each(|version| artifact["version"] = json!(version));
        artifact["updates"] = json!(if webhook { "webhook" } else { "fixed" });
        artifact
    })
}

fn hooks() -> impl Strategy<Value = Value> {
    let repository = |(event, tags, prereleases): (&'static str, Option<String>, bool)| {
        let place = if event == "release" { "{tag}" } else { "{tag}/{sha}-{run}" };
        let artifact = format!("https://dl.example.com/{place}?v={place}");
        let mut hook = json!({ "repo": "acme/shop", "event": event, "artifact": artifact, "secret": "HOOK" });
        tags.into_iter().for_each(|tags| hook["tags"] = json!(tags));
        hook["prereleases"] = json!(prereleases);
        hook
    };
    let of_events = move |events| (select(events), of("[A-Za-z0-9._@/+*-]{1,20}"), any::<bool>()).prop_map(repository);
    let forgejo = of(of_events(vec!["release"]));
    let github = of(of_events(vec!["release", "workflow_run"]));
    let gitlab = of((of_events(vec!["release", "pipeline"]), select(vec!["signed", "legacy"])));
    (any::<bool>(), forgejo, github, gitlab, any::<bool>()).prop_map(|(generic, forgejo, github, gitlab, standard)| {
        let mut hooks = Map::new();
        hooks.extend(generic.then(|| ("generic".to_owned(), json!({}))));
        hooks.extend(forgejo.map(|hook| ("forgejo".to_owned(), hook)));
        hooks.extend(github.map(|hook| ("github".to_owned(), hook)));
        hooks.extend(gitlab.map(|(mut hook, token)| {
            hook["token"] = json!(token);
            ("gitlab".to_owned(), hook)
        }));
        hooks.extend(standard.then(|| ("standard".to_owned(), json!({ "secret": "HOOK" }))));
        Value::Object(hooks)
    })
}

fn limits() -> impl Strategy<Value = Value> {
    let memory = (4u64..4096, select(vec!["M", "G"])).prop_map(|(n, unit)| format!("{n}{unit}"));
    (of(memory), of(1u32..=1600), 1u32..=65536).prop_map(|(memory, cpu, tasks)| {
        let mut limits = json!({ "tasks": tasks });
        memory.into_iter().for_each(|memory| limits["memory"] = json!(memory));
        cpu.into_iter().for_each(|cpu| limits["cpu"] = json!(format!("{cpu}%")));
        limits
    })
}

fn deploy() -> impl Strategy<Value = Value> {
    let strategy = select(vec!["handover", "recreate"]);
    (strategy, span(0, 10), span(0, 20), span(200, 600), select(vec!["rollback", "hold"])).prop_map(
        |(strategy, min_healthy, drain, deadline, on_failure)| {
            json!({ "strategy": strategy, "min_healthy": min_healthy, "drain": drain, "deadline": deadline,
                    "on_failure": on_failure })
        },
    )
}

fn suspend() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(|on| json!(on)),
        text().prop_map(|reason| json!({ "reason": reason, "until": "2027-01-01T00:00:00Z" })),
    ]
}

/// A spec document that the language takes, as a JSON value.
pub fn document() -> impl Strategy<Value = Value> {
    let env =
        btree_map("[A-Z_][A-Z0-9_]{0,12}".prop_filter("reserved", |raw| EnvName::parse(raw).is_ok()), text(), 0..4);
    let secrets = btree_set("[a-z][a-z0-9_]{0,8}", 0..3);
    let release = of((command(), span(1, 900)).prop_map(|(run, timeout)| json!({ "run": run, "timeout": timeout })));
    let needs = btree_set(select(vec!["nodejs", "postgresql", "redis"]), 0..3);
    let parts = (env, secrets, release, deploy(), limits(), hooks(), 1u32..=100, suspend());
    let head =
        (name(20), artifact(), btree_map(name(14), process(), 1..4), select(vec!["standard", "strict", "off"]), needs);
    (head, parts, vec(select(vec!["auto", "internal", "off"]), 8)).prop_map(
        |((project, artifact, processes, sandbox, needs), parts, tls)| {
            let (env, secrets, release, deploy, limits, hooks, keep, suspend) = parts;
            let secrets: Vec<String> = secrets
                .into_iter()
                .enumerate()
                .map(|(i, name)| if i == 0 { name } else { format!("{name}:STORED_{i}") })
                .collect();
            let mut document = json!({
                "zexio": 1, "project": project, "artifact": artifact, "env": env, "secrets": secrets,
                "processes": processes, "deploy": deploy, "limits": limits, "sandbox": sandbox, "hooks": hooks,
                "needs": needs, "keep": keep, "suspend": suspend, "x-note": "ignored",
            });
            release.into_iter().for_each(|release| document["release"] = release);
            if document["hooks"].as_object().is_some_and(|hooks| !hooks.is_empty()) {
                document["artifact"]["updates"] = json!("webhook");
            }
            make_routes_fit(&mut document, &tls);
            document
        },
    )
}

/// Gives all routes of a host one tls and drops those that are there already; the first host of a process that has
/// more than one becomes a redirect where nothing else is routed there.
fn make_routes_fit(document: &mut Value, tls: &[&str]) {
    let mut taken = BTreeSet::new();
    let processes = document["processes"].as_object_mut().expect("a mapping");
    for (number, process) in processes.values_mut().enumerate() {
        let site = process.get("static").is_some();
        let Some(routes) = process.get_mut("routes").and_then(Value::as_array_mut) else { continue };
        if site {
            // A site needs a route of its own, whatever the others have.
            routes[0]["host"] = json!(format!("site-{number}.example.com"));
        }
        routes.retain(|route| taken.insert((route["host"].to_string(), route["path"].to_string())));
        for route in routes.iter_mut() {
            let host = route["host"].as_str().unwrap_or_default();
            route["tls"] = json!(tls[host.len() % tls.len()]);
        }
        if !site && !routes.is_empty() && number % 2 == 1 {
            routes.push(json!({ "host": format!("old-{number}.example.com"), "tls": tls[0], "redirect": "https://new.example.com/" }));
        }
    }
}

/// A project that serves a spec.
pub struct Deployed {
    pub spec: Spec,
    pub memory: ProjectProgress,
    /// The env values in clear.
    #[allow(dead_code, reason = "no machine sees them here")]
    pub env: BTreeMap<EnvName, String>,
}

impl Deployed {
    /// Serves a document from this port on.
    pub fn of(document: Document, from: u16) -> Self {
        let env = document
            .env
            .iter()
            .map(|(name, value)| (name.clone(), value.clear().unwrap_or_default().to_owned()))
            .collect();
        let spec = sealed(document);
        let stored = spec.secrets.iter().map(|used| (used.name.clone(), 1)).collect();
        let source = spec.artifact.source().expect("an artifact with a source").clone();
        let content = Content::of(&spec, source, &stored).expect("every secret is stored");
        let routes = spec.processes.iter().map(|(name, process)| (name.clone(), process.routes.clone()));
        let mut memory = ProjectProgress {
            serving: Some(ReleaseNo(1)),
            routes: routes.filter(|(_, routes)| !routes.is_empty()).collect(),
            ..ProjectProgress::default()
        };
        let release = Release {
            content: content.into(),
            sha256: None,
            version: None,
            slot: Slot::A,
            created_at: Timestamp(0),
            since: Timestamp(0),
            was_healthy: true,
            promotion_seq: 0,
            end: None,
            rolled_back: false,
        };
        memory.releases.insert(ReleaseNo(1), release);
        ports::allocate(&mut memory, ReleaseNo(1), &mut BTreeSet::new(), (from, u16::MAX)).expect("ports enough");
        Self { spec, memory, env }
    }

    pub fn content(&self) -> &Content {
        &self.memory.releases[&ReleaseNo(1)].content
    }

    /// Returns every unit, that of the release command too.
    pub fn units(&self) -> Vec<(UnitId, &Workload)> {
        let mut units = self.memory.units_of(&self.spec.project, ReleaseNo(1));
        let command = self.content().processes.keys().find(|name| name.as_str() == "release");
        let (project, release) = (self.spec.project.clone(), ReleaseNo(1));
        units.extend(command.map(|process| UnitId { project, process: process.clone(), release, instance: None }));
        units.into_iter().map(|unit| (unit.clone(), &self.content().processes[&unit.process])).collect()
    }

    pub fn progress(self) -> Progress {
        Progress { projects: [(self.spec.project.clone(), self.memory)].into(), ..Progress::default() }
    }
}

/// Returns what the template is told besides the sites.
pub fn proxy() -> Proxy {
    Settings::default().proxy(include_str!("../../Caddyfile.tmpl").into(), false)
}

/// Returns the spec as the store keeps it.
pub fn sealed(document: Document) -> Spec {
    document.try_map_env(|_, _| Ok::<_, ()>(Sealed { sealed: 1 })).expect("nothing can fail")
}

/// Reads a document that has to be right.
pub fn read(text: &str) -> Document {
    document::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Returns the document under another name.
#[allow(dead_code, reason = "the machine's test gives each its own")]
pub fn renamed(mut document: Value, project: &ProjectId) -> Value {
    document["project"] = json!(project);
    document
}
