//! What a unit starts: reads its launch blob, which PID 1 opened for it, and becomes the app.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::host::cgroup;
use crate::render::launch;
use crate::render::unit::WAITER;

/// systemd's own exit codes for "could not change directory" and "could not execute".
const EXIT_DIRECTORY: u8 = 200;
const EXIT_EXEC: u8 = 203;
const EXIT_CREDENTIALS: u8 = 243;

/// Becomes the app; returns only when that fails, with a line that says why.
pub fn main() -> ExitCode {
    match become_the_app() {
        Ok(never) => match never {},
        Err((code, message)) => {
            eprintln!("{message}");
            ExitCode::from(code)
        }
    }
}

/// How often it is looked whether something is left.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Waits until nothing else of its unit runs, so that what has the stop signal already gets it only once. systemd ends
/// it when the time is over.
pub fn wait_for_rest() -> ExitCode {
    // The name that the journal shows should it be killed: no program of the app.
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

fn become_the_app() -> Result<std::convert::Infallible, (u8, String)> {
    let blob = read_blob().map_err(|e| (EXIT_CREDENTIALS, format!("could not read the launch blob: {e}")))?;
    let opened = launch::open(&blob).map_err(|e| (EXIT_CREDENTIALS, format!("could not read the launch blob: {e}")))?;
    std::env::set_current_dir(opened.directory)
        .map_err(|e| (EXIT_DIRECTORY, format!("could not enter {}: {e}", opened.directory)))?;
    let (program, arguments) = opened.words.split_first().ok_or((EXIT_EXEC, "the command is empty".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments).envs(opened.variables.iter().copied());
    for name in ["CREDENTIALS_DIRECTORY", "LOGNAME", "SHELL"] {
        command.env_remove(name);
    }
    let error = command.exec();
    Err((EXIT_EXEC, explain(program, opened.directory, &error)))
}

/// The one file in the directory that systemd made for this run of this unit.
fn read_blob() -> io::Result<Zeroizing<Vec<u8>>> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY")
        .ok_or_else(|| io::Error::other("this is started by systemd, not by hand"))?;
    let entry = fs::read_dir(Path::new(&directory))?.next().ok_or(io::ErrorKind::NotFound)??;
    fs::read(entry.path()).map(Zeroizing::new)
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
