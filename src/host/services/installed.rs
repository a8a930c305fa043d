//! What is installed of a host service: which of its programs exist, their versions, and whether the package manager
//! finished with them. A program is run only when it changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::model::observed::{ActiveState, DaemonSeen, Installation};
use crate::model::services::Service;

use super::catalogue::{self, here, of_major};
use super::manager::leading_number;

/// How long a program may take to print its version.
const TIMEOUT: Duration = Duration::from_secs(5);
const DPKG: &str = "/var/lib/dpkg";
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";

/// Observes a service from within the package job, without a cache.
pub fn installed_now(service: Service) -> BTreeMap<u32, Installation> {
    installed(service, &mut Programs::default(), &mut Packages::default(), &BTreeMap::new())
}

/// Observes a service; `units` are the daemons that systemd has.
pub fn installed(
    service: Service,
    programs: &mut Programs,
    packages: &mut Packages,
    units: &BTreeMap<String, ActiveState>,
) -> BTreeMap<u32, Installation> {
    let mut found = BTreeMap::new();
    let row = here(service);
    for program in catalogue::paths(row.program) {
        let Some(version) = programs.version(&program) else { continue };
        let Some(major) = leading_number(&version) else { continue };
        let whole = packages.is_whole(&of_major(row.package_of_major, major));
        let daemon = row.daemon.map(|daemon| (of_major(daemon.unit, major), daemon.boot));
        let daemon = daemon.map(|(unit, boot)| DaemonSeen {
            state: units.get(&unit).copied().unwrap_or_default(),
            enabled: Path::new(WANTS).join(boot).is_symlink(),
            unit,
        });
        found.insert(major, Installation { version, fully_installed: whole, daemon });
    }
    found
}

/// Returns a service's data directories.
pub fn data_of(service: Service) -> Vec<PathBuf> {
    let Some(data) = here(service).data else { return Vec::new() };
    let is_one = |path: &PathBuf| path.as_path() == Path::new(data) || major_in_name(path).is_some();
    catalogue::paths(data).into_iter().filter(is_one).collect()
}

/// Returns the major in a directory's name.
pub fn major_in_name(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.parse().ok()
}

/// Distinguishes one state of a file from the next.
type Print = (u64, u64, i64, i64, u64);

fn print_of(path: &Path) -> Option<Print> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()))
}

/// The programs' versions, each with the file's state at that time.
#[derive(Default)]
pub struct Programs(BTreeMap<PathBuf, (Print, String)>);

impl Programs {
    /// Returns a program's version; None if there is no such program, or if it prints none.
    fn version(&mut self, program: &Path) -> Option<String> {
        let print = print_of(program)?;
        if let Some((_, version)) = self.0.get(program).filter(|(known, _)| *known == print) {
            return Some(version.clone());
        }
        let version = version_in(&ask(program)?)?;
        self.0.insert(program.to_owned(), (print, version.clone()));
        Some(version)
    }
}

/// Runs a program for its version, with a timeout.
fn ask(program: &Path) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let mut command = tokio::process::Command::new(program);
        command.arg("--version").env_clear().stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(TIMEOUT, command.output()).await.ok()?.ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    })
}

/// Finds the version in a program's output: `v18.20.4`, `Redis server v=7.0.15 …`, `postgres (PostgreSQL) 15.8 …`.
fn version_in(said: &str) -> Option<String> {
    let words = said.split([' ', '=', '\n']).map(|word| word.strip_prefix('v').unwrap_or(word));
    words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned).next()
}

/// dpkg's package states, with the state of its files at that time.
#[derive(Default)]
pub struct Packages {
    read: Option<[Option<Print>; 2]>,
    /// Packages whose installation is unfinished: unpacked only, half installed, half configured.
    undone: Vec<String>,
}

impl Packages {
    /// Whether the package manager finished with a package, or never had it.
    fn is_whole(&mut self, package: &str) -> bool {
        let (status, updates) = (Path::new(DPKG).join("status"), Path::new(DPKG).join("updates"));
        let prints = [print_of(&status), print_of(&updates)];
        if self.read != Some(prints) {
            self.undone = undone(&status, &updates);
            self.read = Some(prints);
        }
        !self.undone.iter().any(|name| name == package)
    }
}

/// Reads dpkg's own records: its status file, and the updates since it was last written.
fn undone(status: &Path, updates: &Path) -> Vec<String> {
    let mut notes: Vec<PathBuf> = fs::read_dir(updates).into_iter().flatten().flatten().map(|e| e.path()).collect();
    notes.retain(|path| major_in_name(path).is_some());
    notes.sort();
    let texts = std::iter::once(status.to_owned()).chain(notes).map(|path| fs::read(path).unwrap_or_default());
    let mut states: BTreeMap<String, bool> = BTreeMap::new();
    for text in texts {
        let text = String::from_utf8_lossy(&text).into_owned();
        states.extend(text.split("\n\n").filter_map(stanza));
    }
    states.into_iter().filter(|(_, done)| !done).map(|(name, _)| name).collect()
}

/// Returns a stanza's package, and whether dpkg finished with it.
fn stanza(text: &str) -> Option<(String, bool)> {
    let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let state = field("Status: ")?.split(' ').nth(2)?;
    let done = !(state == "unpacked" || state.starts_with("half-"));
    Some((field("Package: ")?.to_owned(), done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_says_its_version_in_its_own_way() {
        for (said, version) in [
            ("v18.20.4\n", "18.20.4"),
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=d81bf3bd\n", "7.0.15"),
            ("postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)\n", "15.8"),
            ("postgres (PostgreSQL) 17beta1\n", "17beta1"),
        ] {
            assert_eq!(version_in(said).as_deref(), Some(version), "{said}");
        }
        assert_eq!(leading_number("17beta1"), Some(17));
        assert_eq!(version_in("no such option"), None);
    }

    #[test]
    fn a_package_that_dpkg_is_not_done_with_is_not_whole_also_where_only_its_notes_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let (status, updates) = (dir.path().join("status"), dir.path().join("updates"));
        fs::create_dir(&updates).unwrap();
        let package = |name: &str, state: &str| format!("Package: {name}\nStatus: install ok {state}\nVersion: 1\n\n");
        fs::write(&status, package("redis-server", "half-configured") + &package("nodejs", "installed")).unwrap();
        assert_eq!(undone(&status, &updates), ["redis-server"]);
        fs::write(updates.join("0001"), package("nodejs", "unpacked")).unwrap();
        fs::write(updates.join("0000"), package("redis-server", "installed")).unwrap();
        fs::write(updates.join("tmp.i"), package("redis-server", "half-installed")).unwrap();
        assert_eq!(undone(&status, &updates), ["nodejs"]);
    }

    #[test]
    fn a_program_is_asked_again_only_once_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (program, runs) = (dir.path().join("node"), dir.path().join("runs"));
        let write = |version: &str| {
            let text = format!("#!/bin/sh\necho run >>{}\necho v{version}\n", runs.display());
            crate::files::replace(&program, text.as_bytes(), 0o755).unwrap();
        };
        let mut programs = Programs::default();
        assert_eq!(programs.version(&program), None);
        write("18.1.0");
        // While another test forks, the file may still be open for writing there, and the kernel refuses to run it.
        while programs.version(&program).is_none() {}
        assert_eq!(programs.version(&program).as_deref(), Some("18.1.0"));
        assert_eq!(programs.version(&program).as_deref(), Some("18.1.0"));
        write("20.1.0");
        while programs.version(&program).is_none() {}
        assert_eq!(programs.version(&program).as_deref(), Some("20.1.0"));
        assert_eq!(fs::read_to_string(&runs).unwrap().lines().count(), 2);
    }
}
