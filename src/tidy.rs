//! Reads the sources and fails on broken architecture rules: which module may import which, and what must not appear in
//! the code. No style rules.

use std::fs;
use std::path::{Path, PathBuf};

/// A part of the program, which of our modules it may import, and whether it must be pure.
struct Layer {
    name: &'static str,
    imports: &'static [&'static str],
    pure: bool,
}

/// Crates and modules that do I/O; pure layers use none of them.
const DOING: [&str; 12] = [
    "tokio::",
    "hyper::",
    "rusqlite::",
    "dbus::",
    "ureq::",
    "notify::",
    "nix::",
    "tracing::",
    "std::fs",
    "std::net",
    "std::process",
    "SystemTime::now",
];

/// Every module, the lowest layer first: each imports only modules above it in this list.
const LAYERS: [Layer; 23] = [
    Layer { name: "model", imports: &[], pure: true },
    Layer { name: "render", imports: &["model"], pure: true },
    Layer { name: "plan", imports: &["model", "render"], pure: true },
    Layer { name: "files", imports: &[], pure: false },
    Layer { name: "sign", imports: &["model"], pure: false },
    Layer { name: "unpack", imports: &["model"], pure: false },
    Layer { name: "event_log", imports: &["model"], pure: false },
    Layer { name: "heartbeat", imports: &["model"], pure: false },
    Layer { name: "metrics", imports: &["model"], pure: false },
    Layer { name: "settings", imports: &["model", "render"], pure: false },
    Layer { name: "trigger", imports: &["model", "plan"], pure: false },
    Layer { name: "port", imports: &["model", "plan"], pure: false },
    Layer { name: "keys", imports: &["model", "sign", "files"], pure: false },
    Layer { name: "store", imports: &["model", "plan", "port", "event_log", "metrics"], pure: false },
    Layer {
        name: "reconcile",
        imports: &["model", "plan", "port", "render", "trigger", "heartbeat", "event_log", "metrics"],
        pure: false,
    },
    Layer { name: "host", imports: &["model", "plan", "port", "render", "trigger", "unpack", "files"], pure: false },
    Layer { name: "launch", imports: &["model", "render", "host"], pure: false },
    Layer { name: "template", imports: &["render", "settings", "host"], pure: false },
    Layer { name: "spec_dir", imports: &["model", "plan", "port", "trigger"], pure: false },
    Layer {
        name: "api",
        imports: &["model", "plan", "port", "trigger", "sign", "keys", "heartbeat", "files", "metrics"],
        pure: false,
    },
    Layer {
        name: "serve",
        imports: &[
            "model",
            "plan",
            "port",
            "trigger",
            "heartbeat",
            "metrics",
            "settings",
            "keys",
            "store",
            "host",
            "spec_dir",
            "api",
        ],
        pure: false,
    },
    Layer {
        name: "cli",
        imports: &[
            "model",
            "render",
            "plan",
            "port",
            "files",
            "sign",
            "unpack",
            "heartbeat",
            "settings",
            "keys",
            "store",
            "host",
            "template",
        ],
        pure: false,
    },
    Layer {
        name: "agent",
        imports: &[
            "plan",
            "render",
            "port",
            "trigger",
            "heartbeat",
            "metrics",
            "settings",
            "unpack",
            "store",
            "reconcile",
            "host",
            "template",
            "serve",
            "cli",
        ],
        pure: false,
    },
];

fn sources(layer: &str) -> Vec<(PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&src.join(layer), &mut found);
    let single = src.join(format!("{layer}.rs"));
    if single.exists() {
        found.push(single);
    }
    found.into_iter().map(|path| (path.clone(), without_tests(&fs::read_to_string(path).unwrap()))).collect()
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.ends_with("tests") || path.ends_with("tests.rs") => {}
            path if path.is_dir() => collect(&path, found),
            path if path.extension().is_some_and(|ext| ext == "rs") => found.push(path),
            _ => {}
        }
    }
}

fn without_tests(text: &str) -> String {
    text.split("\n#[cfg(test)]").next().unwrap_or_default().to_owned()
}

/// The code lines of a file that import one of our modules against the layer's rules.
fn crossings<'a>(text: &'a str, layer: &'a Layer) -> impl Iterator<Item = &'a str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).filter(move |line| {
        line.split("crate::").skip(1).any(|rest| {
            let part: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            part != layer.name && !layer.imports.contains(&part.as_str())
        })
    })
}

#[test]
fn nobody_imports_what_stands_above_it() {
    for layer in &LAYERS {
        for (path, text) in sources(layer.name) {
            let crossed: Vec<&str> = crossings(&text, layer).collect();
            assert!(crossed.is_empty(), "{} may not import this: {crossed:?}", path.display());
        }
    }
}

#[test]
fn every_room_has_its_floor() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(src).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap().trim_end_matches(".rs").to_owned();
        let known = LAYERS.iter().any(|layer| layer.name == name) || ["lib", "main", "tidy"].contains(&name.as_str());
        assert!(known, "src/{name} needs a row that says what it may import");
    }
    for (floor, layer) in LAYERS.iter().enumerate() {
        let below = |name: &&str| LAYERS[..floor].iter().any(|lower| lower.name == *name);
        assert!(layer.imports.iter().all(below), "{} imports a room of a higher floor", layer.name);
    }
}

#[test]
fn pure_layers_do_no_io() {
    for layer in LAYERS.iter().filter(|layer| layer.pure) {
        for (path, text) in sources(layer.name) {
            let found = DOING.iter().find(|what| text.contains(**what));
            assert_eq!(found, None, "{} is pure", path.display());
        }
    }
}

#[test]
fn order_is_part_of_every_result() {
    for layer in LAYERS.iter().filter(|layer| layer.pure) {
        for (path, text) in sources(layer.name) {
            assert!(!text.contains("HashMap"), "{}: a plan prints the same twice; use BTreeMap", path.display());
        }
    }
}

#[test]
fn no_shell_runs_anywhere() {
    let mut all = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    assert!(all.len() > 30, "the sources were found");
    for path in all.iter().filter(|path| !path.ends_with("tidy.rs")) {
        let text = fs::read_to_string(path).unwrap();
        for shell in ["\"sh\"", "\"bash\"", "/bin/sh\"", "/bin/bash\"", "\"systemctl\""] {
            assert!(!text.contains(&format!("Command::new({shell}")), "{} runs {shell}", path.display());
        }
    }
}

/// Public items say what they are. A field or a variant whose name says it all needs no comment, so the compiler's own
/// lint, which knows no difference, is not used.
#[test]
fn every_public_item_says_what_it_is() {
    const ITEMS: [&str; 7] =
        ["pub fn ", "pub async fn ", "pub struct ", "pub enum ", "pub trait ", "pub type ", "pub const "];
    let mut all = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    for path in all {
        let text = without_tests(&fs::read_to_string(&path).unwrap());
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (at, line) in lines
            .iter()
            .enumerate()
            .filter(|(_, line)| ITEMS.iter().any(|item| line.starts_with(item)) && !line.contains('$'))
        {
            let above = lines[..at].iter().rev().find(|above| !above.starts_with("#[") && !above.ends_with(")]"));
            assert!(above.is_some_and(|above| above.starts_with("///")), "{}: {line}", path.display());
        }
    }
}
