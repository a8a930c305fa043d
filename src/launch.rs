//! The programs that a unit starts: one opens its launch blob, one reads it and becomes the app, one waits at its end.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::host::{blob, cgroup, turn};
use crate::model::layout::{HIDDEN_HOMES, Layout, is_in_home};
use crate::render::launch;
use crate::render::unit::WAITER;

/// systemd's exit codes for "could not change directory" and "could not execute".
const EXIT_DIRECTORY: u8 = 200;
const EXIT_EXEC: u8 = 203;
const EXIT_CREDENTIALS: u8 = 243;

/// Waits for the unit's turn to start and opens its launch blob for its main process. `later`: web processes go first.
pub fn hand_over(unit: &str, later: bool) -> ExitCode {
    turn::wait(unit, later);
    match blob::hand_over(unit, &Layout::launch_blob_named(unit)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(EXIT_CREDENTIALS)
        }
    }
}

/// Execs the app; returns only on failure, with a line that says why. `notify`: it tells systemd when it is ready.
pub fn main(notify: bool) -> ExitCode {
    match become_the_app(notify) {
        Ok(never) => match never {},
        Err((code, message)) => {
            eprintln!("{message}");
            ExitCode::from(code)
        }
    }
}

/// How often the unit's other processes are checked.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Waits until no other process of its unit runs, so that those which got the stop signal get it only once. On a
/// timeout systemd kills it.
pub fn wait_for_rest() -> ExitCode {
    // The name that the journal shows if it is killed: not a program of the app.
    let _ = fs::write("/proc/self/comm", WAITER);
    let own = std::process::id();
    let is_alone = |group: &str| cgroup::processes(group).is_none_or(|left| left.iter().all(|pid| *pid == own));
    if let Some(group) = cgroup::own() {
        while !is_alone(&group) {
            std::thread::sleep(LOOK_AGAIN);
        }
    }
    ExitCode::SUCCESS
}

fn become_the_app(notify: bool) -> Result<std::convert::Infallible, (u8, String)> {
    let blob = read_blob().map_err(|e| (EXIT_CREDENTIALS, format!("could not read the launch blob: {e}")))?;
    let opened = launch::open(&blob).map_err(|e| (EXIT_CREDENTIALS, format!("could not read the launch blob: {e}")))?;
    std::env::set_current_dir(opened.directory)
        .map_err(|e| (EXIT_DIRECTORY, format!("could not enter {}: {e}", opened.directory)))?;
    let (program, arguments) = opened.words.split_first().ok_or((EXIT_EXEC, "the command is empty".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments).envs(opened.variables.iter().copied());
    for name in ["CREDENTIALS_DIRECTORY", "LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "LOGNAME", "SHELL"] {
        command.env_remove(name);
    }
    if !notify {
        command.env_remove("NOTIFY_SOCKET");
    }
    let path = opened.variables.iter().rev().find(|(name, _)| *name == "PATH").map_or("", |(_, path)| *path);
    if let Some(home) = hidden_home(program, path) {
        let said = format!("could not run {program:?}: {} is out of reach; {HIDDEN_HOMES}", home.display());
        return Err((EXIT_EXEC, said));
    }
    let error = command.exec();
    Err((EXIT_EXEC, explain(program, opened.directory, &error)))
}

/// What was handed over; in a unit of an earlier version, the only file in the directory that systemd created for this
/// run of it.
fn read_blob() -> io::Result<Zeroizing<Vec<u8>>> {
    if let Some(blob) = blob::handed_over()? {
        return Ok(blob);
    }
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY")
        .ok_or_else(|| io::Error::other("this is started by systemd, not by hand"))?;
    let entry = fs::read_dir(Path::new(&directory))?.next().ok_or(io::ErrorKind::NotFound)??;
    fs::read(entry.path()).map(Zeroizing::new)
}

/// Returns the file of a program that lies in a home inaccessible to this process: the program itself, a link's target,
/// or the program in a script's shebang. `env` in a shebang would fail only after it was started.
fn hidden_home(program: &str, path: &str) -> Option<PathBuf> {
    let found = search(program, path);
    if let Some(home) = found.iter().find_map(|file| home_behind(file)) {
        return found.iter().all(|file| File::open(file).is_err()).then_some(home);
    }
    let interpreter = found.first().and_then(|script| first_line(script))?;
    let mut words = interpreter.split_whitespace();
    let first = words.next()?;
    let is_env = Path::new(first).file_name().is_some_and(|name| name == "env");
    let named = if is_env { words.find(|word| !word.starts_with('-') && !word.contains('='))? } else { first };
    let found = search(named, path);
    let home = found.iter().find_map(|file| home_behind(file))?;
    found.iter().all(|file| File::open(file).is_err()).then_some(home)
}

/// Returns a program's candidate paths: its own path, or the matches along PATH.
fn search(program: &str, path: &str) -> Vec<PathBuf> {
    let along = || path.split(':').map(|directory| Path::new(directory).join(program));
    let found = if program.contains('/') { vec![PathBuf::from(program)] } else { along().collect() };
    found.into_iter().filter(|file| program.contains('/') || file.symlink_metadata().is_ok()).collect()
}

/// Follows links by hand: a path in an inaccessible home cannot be resolved by the kernel.
fn home_behind(file: &Path) -> Option<PathBuf> {
    let mut at = std::env::current_dir().unwrap_or_default().join(file);
    for _ in 0..16 {
        if is_in_home(&at) {
            return Some(at);
        }
        let parts: Vec<&Path> = at.ancestors().collect();
        let (link, target) = parts.into_iter().rev().find_map(|part| Some((part, fs::read_link(part).ok()?)))?;
        let rest = at.strip_prefix(link).unwrap_or(Path::new(""));
        let found = link.parent().unwrap_or(Path::new("/")).join(target);
        at = if rest.as_os_str().is_empty() { found } else { found.join(rest) };
    }
    None
}

fn first_line(script: &Path) -> Option<String> {
    let mut start = [0; 256];
    let length = File::open(script).ok()?.read(&mut start).ok()?;
    let text = String::from_utf8_lossy(start.get(..length)?).into_owned();
    Some(text.strip_prefix("#!")?.lines().next()?.to_owned())
}

fn explain(program: &str, directory: &str, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::NotFound if program.contains('/') => {
            "; is it in the artifact, and is the program it names in its first line installed?"
        }
        io::ErrorKind::NotFound => "; is it installed on this server? a program of the artifact is written ./name",
        io::ErrorKind::PermissionDenied => "; is it executable in the artifact?",
        _ => "",
    };
    format!("could not run {program:?} in {directory}: {error}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_home_is_found_behind_links_and_first_lines() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        symlink("/home/nobody-here/node", at("node")).unwrap();
        symlink("/home/nobody-here/tools", at("tools")).unwrap();
        fs::write(at("script"), "#!/home/nobody-here/python\nprint()\n").unwrap();
        fs::write(at("env-script"), "#!/usr/bin/env -S A=b node --flag\n").unwrap();
        fs::write(at("plain"), "#!/bin/sh\n").unwrap();
        let path = place.path().to_str().unwrap();
        let hidden = |program: &str| hidden_home(program, path).map(|home| home.display().to_string());
        let full = |name: &str| at(name).display().to_string();
        for (program, home) in [
            ("/home/nobody-here/.nvm/node", "/home/nobody-here/.nvm/node"),
            ("node", "/home/nobody-here/node"),
            (&full("node"), "/home/nobody-here/node"),
            (&full("tools/bin/x"), "/home/nobody-here/tools/bin/x"),
            (&full("script"), "/home/nobody-here/python"),
            (&full("env-script"), "/home/nobody-here/node"),
        ] {
            assert_eq!(hidden(program).as_deref(), Some(home), "{program}");
        }
        for program in ["sh", "/bin/sh", "nothing", &full("plain"), &full("nothing")] {
            assert_eq!(hidden(program), None, "{program}");
        }
    }
}
