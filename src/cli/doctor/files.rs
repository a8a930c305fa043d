//! The agent's own files: each exists, is owned by root, and is no more accessible than it should be.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Finding, ok, wrong};
use crate::cli::init::Places;
use crate::model::names::KeyId;
use crate::settings::{self, Settings};
use crate::store::MasterKey;

/// Examines the files; those without a problem share one line.
pub fn findings(settings: &Settings) -> Vec<Finding> {
    let places = Places::of(settings);
    let is_missing = |path: &Path| fs::symlink_metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
    let (gone, there): (Vec<_>, Vec<_>) = places.directories.iter().partition(|(path, _)| is_missing(path));
    let mut found: Vec<Finding> = there.iter().filter_map(|(path, mode)| directory(path, *mode)).collect();
    if !gone.is_empty() {
        let gone: Vec<String> = gone.iter().map(|(path, _)| path.display().to_string()).collect();
        found.push(wrong("files", format!("not there: {}", gone.join(", ")), "zexio init"));
    }
    if let Err(cause) = MasterKey::read(&places.master_key) {
        found.push(wrong("master key", cause, "`zexio init` makes one where there is none; else put your copy back"));
    }
    found.extend(keys(&places.keys));
    found.extend(private(&settings.root.database(), "start the agent: systemctl enable --now zexio-agent"));
    found.extend(private(Path::new(settings::SOCKET), "start the agent: systemctl enable --now zexio-agent"));
    if found.is_empty() {
        found.push(ok("files", "directories, keys, database and socket are root's and closed"));
    }
    found
}

/// The required owner of a file: root, or the user who runs the check.
fn owner() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn directory(path: &Path, mode: u32) -> Option<Finding> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(cause) => Some(wrong("files", format!("could not look at {shown}: {cause}"), "zexio init")),
        Ok(found) if !found.is_dir() => {
            Some(wrong("files", format!("{shown} is no directory"), format!("move {shown} away, then `zexio init`")))
        }
        Ok(found) if found.uid() != owner() => {
            let message = format!("{shown} belongs to user {}", found.uid());
            Some(wrong("files", message, format!("chown root {shown}")))
        }
        Ok(found) if found.mode() & 0o7777 != mode => {
            let message = format!("{shown} is mode {:04o}, and should be {mode:04o}", found.mode() & 0o7777);
            Some(wrong("files", message, format!("chmod {mode:04o} {shown}")))
        }
        Ok(_) => None,
    }
}

/// A file or socket that only root may access.
fn private(path: &Path, where_missing: &str) -> Option<Finding> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            Some(wrong("files", format!("{shown} is not there"), where_missing))
        }
        Err(cause) => Some(wrong("files", format!("could not look at {shown}: {cause}"), "run this as root")),
        Ok(found) if found.uid() != owner() || found.mode() & 0o077 != 0 => {
            let message = format!("{shown} is mode {:04o} of user {}", found.mode() & 0o7777, found.uid());
            Some(wrong("files", message, format!("chown root {shown}; chmod 0600 {shown}")))
        }
        Ok(_) => None,
    }
}

fn keys(directory: &Path) -> Vec<Finding> {
    let names = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    let is_key = |name: &&String| KeyId::parse(name).is_ok();
    if !names.iter().any(|name| is_key(&name)) {
        let message = format!("there is no key in {}: nobody can use the API", directory.display());
        return vec![wrong("keys", message, "zexio init")];
    }
    let files = names.iter().filter(|name| is_key(name) || name.ends_with(".scope"));
    files.filter_map(|name| private(&directory.join(name), "zexio init")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_too_open_is_named_with_the_command_that_closes_it() {
        let dir = tempfile::tempdir().unwrap();
        let keys_dir = dir.path().join("keys");
        assert!(directory(&keys_dir, 0o700).unwrap().message.contains("could not look at"));
        fs::create_dir(&keys_dir).unwrap();
        set_mode(&keys_dir, 0o755);
        let mend = directory(&keys_dir, 0o700).unwrap().mend.unwrap();
        assert_eq!(mend, format!("chmod 0700 {}", keys_dir.display()));
        set_mode(&keys_dir, 0o700);
        assert_eq!(directory(&keys_dir, 0o700), None);

        assert!(keys(&keys_dir)[0].message.contains("there is no key"));
        for name in ["admin", "admin.scope"] {
            fs::write(keys_dir.join(name), "x").unwrap();
            set_mode(&keys_dir.join(name), 0o600);
        }
        assert_eq!(keys(&keys_dir), []);
        set_mode(&keys_dir.join("admin"), 0o640);
        let found = keys(&keys_dir);
        assert!(found.len() == 1 && found[0].message.contains("keys/admin is mode 0640"), "{found:?}");
        assert!(private(&dir.path().join("no.sock"), "start it").unwrap().mend.unwrap().contains("start it"));
    }
}
