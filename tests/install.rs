//! `make install`: where things go, and whose template it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Installs what was built for these tests below `root`; answers with what make said.
fn install(root: &Path) -> String {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_zexio"));
    let profile_dir = binary.parent().expect("target/<profile>/zexio");
    let profile = profile_dir.file_name().expect("target/<profile>").to_string_lossy().replace("debug", "dev");
    let output = Command::new("make")
        .args(["-s", "install", &format!("DESTDIR={}", root.display()), &format!("PROFILE={profile}")])
        .arg(format!("CARGO_TARGET_DIR={}", profile_dir.parent().expect("target").display()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("make starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn everything_goes_below_destdir() {
    let root = TempDir::new().expect("a temporary directory");
    install(root.path());
    for file in [
        "usr/bin/zexio",
        "usr/lib/systemd/system/zexio-agent.service",
        "usr/lib/systemd/system/zexio-apps.slice",
        "etc/zexio/Caddyfile.tmpl",
        "usr/share/man/man1/zexio.1",
        "usr/share/man/man1/zexio-secret-set.1",
        "usr/share/bash-completion/completions/zexio",
        "usr/share/zsh/site-functions/_zexio",
        "usr/share/fish/vendor_completions.d/zexio.fish",
    ] {
        assert!(root.path().join(file).is_file(), "{file} is missing");
    }
}

#[test]
fn an_edited_template_is_kept_and_the_new_one_is_put_beside_it() {
    let root = TempDir::new().expect("a temporary directory");
    let template = root.path().join("etc/zexio/Caddyfile.tmpl");
    let fresh = root.path().join("etc/zexio/Caddyfile.tmpl.new");
    install(root.path());
    assert_eq!(install(root.path()), "", "nothing to say about a template that nobody changed");
    assert!(!fresh.exists());
    fs::write(&template, "mine").expect("the template can be edited");
    assert!(install(root.path()).contains("kept your"));
    assert_eq!(fs::read_to_string(&template).expect("it is there"), "mine");
    assert_eq!(fs::read(&fresh).expect("it is there"), fs::read("Caddyfile.tmpl").expect("the source"));
}

#[test]
fn an_unedited_template_of_an_older_version_is_replaced() {
    let root = TempDir::new().expect("a temporary directory");
    let conf = root.path().join("etc/zexio");
    fs::create_dir_all(&conf).expect("a directory");
    for name in ["Caddyfile.tmpl", ".Caddyfile.tmpl.installed"] {
        fs::write(conf.join(name), "an older version").expect("a file");
    }
    install(root.path());
    assert_ne!(fs::read_to_string(conf.join("Caddyfile.tmpl")).expect("it is there"), "an older version");
}
