//! README.md is true: a reader's commands are run as they stand there, in order, on one fresh machine.

use std::process::Command;

use crate::machine::{Machine, profile};

const README: &str = include_str!("../../README.md");

/// A fenced block: the comment above it, its language, its lines.
#[derive(Debug)]
struct Block {
    mark: &'static str,
    language: &'static str,
    text: String,
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = README.lines();
    let mut above = "";
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block { mark: above, language, text: text.join("\n") + "\n" });
        }
        above = line;
    }
    blocks
}

/// The commands of a console block, each with what it answers.
fn exchanges(console: &str) -> Vec<(String, String)> {
    let mut exchanges: Vec<(String, String)> = Vec::new();
    for line in console.lines() {
        match (line.strip_prefix("$ "), exchanges.last_mut()) {
            (Some(command), _) => exchanges.push((command.to_owned(), String::new())),
            (None, Some((_, answer))) => *answer += &format!("{line}\n"),
            (None, None) => panic!("a console block begins with a command, not with {line:?}"),
        }
    }
    exchanges
}

/// A fresh server with a copy of this repository, where `make install` finds what was built for these tests.
fn with_checkout() -> Machine {
    let machine = Machine::start();
    machine.must("mkdir /root/zexio && tar -C /src --exclude=./target --exclude=./.git -c . | tar -C /root/zexio -x");
    machine
}

fn typed(command: &str) -> String {
    format!("cd /root/zexio; export PROFILE={} CARGO_TARGET_DIR=/built; {command}", profile())
}

#[test]
fn every_command_of_the_readme_does_what_it_says() {
    let machine = with_checkout();
    machine.take_packages_from_a_directory();
    let mut said = String::new();
    for block in blocks() {
        match (block.mark, block.language) {
            ("<!-- run -->", "sh") => said += &machine.must(&typed(&block.text)),
            ("<!-- expect -->", "console") => {
                for (command, answer) in exchanges(&block.text) {
                    let heard = machine.sh(&typed(&format!("{{ {command}; }} 2>&1")));
                    assert_eq!(heard.stdout, answer, "of `{command}`");
                }
            }
            (_, "sh") => assert_eq!(block.text, "make demo\nmake test\n", "nobody runs this block"),
            (_, language) => assert_eq!(language, "", "nobody runs this block: {}", block.text),
        }
    }
    assert!(said.contains("hello from release 1"), "{said}");
    assert!(said.contains("hello  running"), "{said}");
    machine.must("systemctl is-enabled zexio-agent");
}

#[test]
fn the_targets_of_the_readme_exist() {
    for target in ["demo", "test"] {
        let dry = Command::new("make").args(["-n", target]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        assert!(dry.expect("make starts").status.success(), "make {target}");
    }
}

#[test]
fn every_file_that_the_readme_links_to_is_there() {
    let links = README.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for link in links.filter(|link| !link.contains("://")) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(link);
        assert!(path.exists(), "{link} is missing");
    }
}
