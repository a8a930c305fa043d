//! What the documents say of the program is so: links lead somewhere, commands are understood, tables are complete.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;
use regex::Regex;
use zexio::api::problem::CODES;
use zexio::api::route::{Permission, TABLE};
use zexio::cli::args::Args;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<(PathBuf, String)> {
    let mut paths = vec![root().join("README.md")];
    for directory in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root().join(directory)).expect("the documents are there");
        paths.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    paths.retain(|path| path.extension().is_some_and(|end| end == "md"));
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).expect("a text"))).collect()
}

/// A heading as a link names it.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let slug = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(slug).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").expect("a pattern");
    let mut followed = 0;
    for (path, text) in documents() {
        for found in link.captures_iter(&text).map(|found| found[1].to_owned()).filter(|link| !link.contains("://")) {
            let (file, anchor) = found.split_once('#').unwrap_or((&found, ""));
            let to = if file.is_empty() { path.clone() } else { path.parent().expect("a directory").join(file) };
            assert!(to.exists(), "{}: {found} leads nowhere", path.display());
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&to).expect("a text"));
                assert!(there.contains(anchor), "{}: {found} names no heading; there are {there:?}", path.display());
            }
            followed += 1;
        }
    }
    assert!(followed > 10, "only {followed} links were found");
}

/// Every `zexio …` of a text, as a shell would split it.
fn commands(text: &str) -> Vec<Vec<String>> {
    let fenced = Regex::new(r"(?s)```(?:sh|console|ini)\n(.*?)```").expect("a pattern");
    let inline = Regex::new(r"`(zexio [^`]+)`").expect("a pattern");
    let command = Regex::new(r"(?:^|[\s(=]|/usr/bin/)(zexio [^|;&)>\n]+)").expect("a pattern");
    let blocks = fenced.captures_iter(text).map(|found| found[1].replace("\\\n", " "));
    let lines = blocks.flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<String>>());
    let code = lines.filter(|line| !line.trim_start().starts_with('#'));
    let spoken = inline.captures_iter(text).map(|found| found[1].replace('\n', " "));
    let all: Vec<String> = code.chain(spoken).collect();
    let found = all.iter().flat_map(|line| command.captures_iter(line).map(|found| found[1].to_owned()));
    // Placeholders of the texts; a number has to be one.
    let filled = |word: String| match word.as_str() {
        "N" => "1".to_owned(),
        "PROJECT" => "shop".to_owned(),
        "deploy:PROJECT" => "deploy:shop".to_owned(),
        "SERVICE" => "redis".to_owned(),
        "$url" => "http://localhost/v1".to_owned(),
        _ => word,
    };
    let words = found.map(|line| shlex::split(&line).expect("a command that a shell could split"));
    words.map(|words| words.into_iter().map(filled).collect()).collect()
}

#[test]
fn every_command_is_one_that_the_program_understands() {
    let mut tried = 0;
    for (path, text) in documents() {
        for words in commands(&text) {
            tried += 1;
            let Err(error) = Args::try_parse_from(&words) else { continue };
            // A text may name a verb without saying what of; a command that can be copied may not.
            let named = words.len() <= 3 && error.kind() == ErrorKind::MissingRequiredArgument;
            assert!(
                named && !text.contains(&format!("\n{}", words.join(" "))),
                "{}: {words:?}: {error}",
                path.display()
            );
        }
    }
    assert!(tried > 40, "only {tried} commands were found");
}

/// The rows of a table: the cells of each, without their backticks.
fn rows(text: &str, heading: &str) -> Vec<Vec<String>> {
    let table = text.split(heading).nth(1).unwrap_or_else(|| panic!("there is no table {heading:?}"));
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect()).collect()
}

#[test]
fn the_api_document_has_every_route_and_every_code() {
    let text = fs::read_to_string(root().join("docs/api.md")).expect("docs/api.md");
    let told: BTreeSet<(String, String)> = rows(&text, "| method and path | what it does | scope |")
        .into_iter()
        .map(|row| (row[0].clone(), row[2].clone()))
        .collect();
    let scope = |path: &str, need: Permission| match need {
        Permission::Nothing if path == "/healthz" => "no signature",
        Permission::Nothing => "its own proof",
        Permission::Look => "read",
        Permission::LookAtProject => "read, deploy",
        Permission::DeployProject | Permission::Deploy => "deploy",
        Permission::Admin => "admin",
    };
    let there = TABLE.iter().map(|(method, path, _, need)| (format!("{method} {path}"), scope(path, *need).to_owned()));
    assert_eq!(told, there.collect());

    let told: BTreeSet<Vec<String>> = rows(&text, "| code | status | what it means |").into_iter().collect();
    let there =
        CODES.iter().map(|(code, status, meaning)| vec![(*code).to_owned(), status.to_string(), (*meaning).to_owned()]);
    assert_eq!(told, there.collect());
}
