//! `make demo`: the story comes to its good end, and leaves the host as it was.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::machine::{leftovers, profile, profile_dir};

/// Where an agent, its apps and Caddy would leave something, and where a script might.
const HOST: [&str; 8] =
    ["/", "/etc", "/etc/systemd/system", "/etc/caddy", "/usr/bin", "/usr/lib/systemd/system", "/root", "/run"];

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn host() -> Vec<(String, Vec<String>)> {
    let project = [env!("CARGO_MANIFEST_DIR"), concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machine")];
    HOST.iter().chain(&project).map(|path| ((*path).to_owned(), names(Path::new(path)))).collect()
}

#[test]
fn the_demo_runs_through_and_leaves_nothing() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let before = host();
    let demo = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machine/demo.sh"))
        .env("BUILT", profile_dir())
        .env("PROFILE", profile())
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .env_remove("KEEP")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("demo.sh starts");
    let machine = format!("demo-{}", demo.id());
    let output = demo.wait_with_output().expect("demo.sh ends");
    let story = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{story}{}", String::from_utf8_lossy(&output.stderr));
    assert!(story.contains(" 0 failed,"), "the upgrade lost requests, or did not say: {story}");
    assert!(story.trim_end().ends_with("done"), "{story}");
    assert_eq!(leftovers(&machine), Vec::<String>::new());
    assert_eq!(names(home.path()), Vec::<String>::new(), "temporary files are left");
    assert_eq!(host(), before);
}
