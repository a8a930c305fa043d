//! What the refusal of a command offers instead does what was meant, run as a process is run.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command as Program;

use zexio::model::spec::Command;

/// Reads what a refusal offers: a text, or a list that runs a shell.
fn offered(text: &str) -> Command {
    let refused = Command::of_text(text).expect_err("it needs a shell");
    let (_, offer) = refused.rsplit_once("write ").unwrap_or_else(|| panic!("{text}: {refused}"));
    let offer = offer.strip_suffix("; quote it if it is meant as it is").unwrap_or(offer);
    let Some(list) = offer.strip_prefix('[').and_then(|list| list.strip_suffix(']')) else {
        return Command::of_text(offer).unwrap_or_else(|why| panic!("{text}: {offer}: {why}"));
    };
    let (shell, script) = list.split_once(", -c, ").unwrap_or_else(|| panic!("{text}: {list}"));
    let script: String = serde_json::from_str(script).unwrap_or_else(|why| panic!("{text}: {script}: {why}"));
    Command::of_words(vec![shell.to_owned(), "-c".to_owned(), script]).expect("a command")
}

/// Runs a command in a directory; returns the lines of its output and of its files, in order.
fn run(command: &Command, place: &Path) -> String {
    let data = place.join("data");
    fs::create_dir(&data).expect("the data directory");
    let values = [("DATA_DIR", data.display().to_string()), ("PORT", "21003".into()), ("HOST", "127.0.0.1".into())];
    let variables: BTreeMap<String, String> = values.map(|(name, value)| (name.to_owned(), value)).into();
    let words = command.filled_in(&variables);
    let ran = Program::new(&words[0]).args(&words[1..]).current_dir(place).output().expect("it runs");
    let mut lines: Vec<String> = String::from_utf8_lossy(&ran.stdout).lines().map(str::to_owned).collect();
    for file in fs::read_dir(&data).expect("a directory").flatten() {
        let text = fs::read_to_string(file.path()).expect("a text");
        lines.extend(text.lines().map(|line| format!("{}: {line}", file.file_name().display())));
    }
    fs::remove_dir_all(&data).expect("the data directory");
    lines.sort();
    lines.join(" | ")
}

#[test]
fn what_is_offered_instead_of_shell_syntax_does_what_was_meant() {
    let place = tempfile::tempdir().expect("a directory");
    let place = place.path();
    fs::create_dir(place.join("sub")).expect("a directory");
    fs::write(place.join("env.sh"), "A=set\n").expect("a file");
    for name in ["a", "b", "sub/c"] {
        fs::write(place.join(name), format!("#!/bin/sh\necho {name} $B \"$@\"\n")).expect("a file");
        fs::set_permissions(place.join(name), fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    for (text, output) in [
        ("cd sub && ./c x", "sub/c x"),
        ("./a x && ./b y", "a x | b y"),
        ("./a & ./b", "a | b"),
        ("./a; (./b)", "a | b"),
        ("./a x | cat", "a x"),
        ("false || ./b", "b"),
        ("B=c ./a", "a c"),
        ("export B=c && ./a", "a c"),
        ("source env.sh && ./a $A", "a set"),
        ("source ./env.sh; ./a $A", "a set"),
        (". env.sh && ./a $A", "a set"),
        (". ./env.sh && ./a $A", "a set"),
        ("exec ./a x", "a x"),
        ("./a x &", "a x"),
        ("nohup ./a x &", "a x"),
        ("nohup ./a x > log 2>&1 &", "log: a x"),
        ("cd sub && ./c &", "sub/c"),
        ("./a x > log", "log: a x"),
        ("./a x >> 'my log'", "my log: a x"),
        ("./a x &> log", "log: a x"),
        ("./a x >& log", "log: a x"),
        ("./a x 2>&1", "a x"),
        ("cat <<EOF\nx\ny\nEOF", "x | y"),
        ("cat <<< x", "x"),
        ("./a `echo x`", "a x"),
        ("./a \"$(echo x y)\"", "a x y"),
        ("./a http://x/?a=1&b=2 -v", "a http://x/?a=1&b=2 -v"),
        ("./a --u=http://x/?a=1;b", "a --u=http://x/?a=1;b"),
        ("./a --port=${process.env.PORT}", "a --port=21003"),
        ("./a ${server.host}:${server.port:8080} && ./b", "a 127.0.0.1:21003 | b"),
        ("./a -p <%= ENV['PORT'] %> > log", "log: a -p 21003"),
        ("B=c ./a %(ENV_PORT)s", "a c 21003"),
        ("./a 0.0.0.0:port", "a 0.0.0.0:21003"),
        ("./a [PORT]", "a 21003"),
        ("export A=abc && ./a ${A%c} ${#A} ${B:-x}", "a ab 3 x"),
        ("export A=abc && ./a ${A/b/x} ${A:0:1} ${A^^}", "a axc a ABC"),
        ("if true; then ./a; fi", "a"),
        ("for i in 1 2; do ./a $i; done", "a 1 | a 2"),
        ("{ ./a; ./b; }", "a | b"),
        ("./a\n./b", "a | b"),
    ] {
        assert_eq!(run(&offered(text), place), output, "{text}: {:?}", offered(text));
    }
}
