//! Starts go in turns, without the agent too: at a boot, when many schedules fall on one minute, after many apps fell at
//! once. Setting up hundreds of sandboxes at the same time makes each wait for the others until none ends in time.
//!
//! A unit waits in the root step before its sandbox is set up. Those who have had their turn are listed in a file; who
//! holds its lock looks whether they are through.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use sd_notify::NotifyState;

use super::cgroup;
use crate::model::layout::{Layout, STARTS_AT_ONCE};
use crate::render::unit::WAITER;

const DIRECTORY: &str = "/run/zexio-starts";
/// How often the one who is next looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How long a unit may take from its turn until its program runs, seconds: then others go on without it.
const LONGEST_SET_UP: f64 = 30.0;
/// How long it may have no process, seconds: the root step has ended and systemd has not forked the next one yet.
const BETWEEN_STEPS: f64 = 2.0;
/// A start waits no longer than this, whatever the others do.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// How long systemd lets the step take that waits.
const LONGEST_START: Duration = Duration::from_secs(330);

/// Waits until fewer than `STARTS_AT_ONCE` units set up their sandbox. `later`: units that are not later go first. A
/// failure to wait is no reason not to start.
pub fn wait(unit: &str, later: bool) {
    let extended = u32::try_from(LONGEST_START.as_micros()).unwrap_or(u32::MAX);
    let _ = sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(extended)]);
    let (done, ended) = mpsc::channel();
    let unit = unit.to_owned();
    let waiting = thread::Builder::new().name("turn".into()).spawn(move || {
        let _ = done.send(take(&unit, later));
    });
    let ended = waiting.map(|_| ended.recv_timeout(LONGEST_WAIT));
    if let Ok(Ok(Err(error))) = ended {
        eprintln!("could not wait for a turn to start, it starts at once: {error}");
    }
}

fn take(unit: &str, later: bool) -> io::Result<()> {
    let directory = Path::new(DIRECTORY);
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // While one that is to go first waits it shares this lock, so that nobody has it alone.
    let _before = lock(&directory.join("first"), if later { FlockArg::LockExclusive } else { FlockArg::LockShared })?;
    let list = lock(&directory.join("started"), FlockArg::LockExclusive)?;
    let path = directory.join("started");
    loop {
        let now = uptime()?;
        let text = fs::read_to_string(&path)?;
        let open: Vec<&str> = text.lines().filter(|line| is_setting_up(line, now)).collect();
        if open.len() < STARTS_AT_ONCE {
            let lines = open.iter().map(|line| format!("{line}\n")).chain([format!("{now} {unit}\n")]);
            fs::write(&path, lines.collect::<String>())?;
            drop(list);
            return Ok(());
        }
        thread::sleep(LOOK_AGAIN);
    }
}

fn lock(path: &Path, how: FlockArg) -> io::Result<Flock<File>> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    Flock::lock(file, how).map_err(|(_, errno)| errno.into())
}

/// Seconds since the boot; a clock that nobody sets.
fn uptime() -> io::Result<f64> {
    let text = fs::read_to_string("/proc/uptime")?;
    let first = text.split(' ').next().and_then(|seconds| seconds.parse().ok());
    first.ok_or_else(|| io::Error::other("/proc/uptime has no time"))
}

/// Returns whether the unit of a line `SECONDS UNIT` still sets up its sandbox.
fn is_setting_up(line: &str, now: f64) -> bool {
    let Some((since, unit)) = line.split_once(' ').and_then(|(since, unit)| Some((since.parse::<f64>().ok()?, unit)))
    else {
        return false;
    };
    let group = cgroup::in_our_tree(&Layout::cgroup_named(unit));
    let processes = cgroup::processes(&group).unwrap_or_default();
    is_before_its_program(now - since, &processes.iter().filter_map(|pid| look_at(*pid)).collect::<Vec<_>>())
}

struct Seen {
    of_root: bool,
    name: String,
}

fn look_at(pid: u32) -> Option<Seen> {
    let directory = format!("/proc/{pid}");
    let of_root = fs::metadata(&directory).ok()?.uid() == 0;
    Some(Seen { of_root, name: fs::read_to_string(format!("{directory}/comm")).ok()?.trim().to_owned() })
}

/// Until it executes the app's program a process is root's, and an app has no process of root's.
fn is_before_its_program(age: f64, processes: &[Seen]) -> bool {
    let runs = processes.iter().any(|process| !process.of_root || process.name == WAITER);
    !runs && age < if processes.is_empty() { BETWEEN_STEPS } else { LONGEST_SET_UP }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_sets_up_its_sandbox_until_a_process_is_the_apps_or_it_takes_too_long() {
        let of = |of_root, name: &str| Seen { of_root, name: name.into() };
        assert!(is_before_its_program(0.0, &[of(true, "zexio")]), "the root step");
        assert!(is_before_its_program(0.5, &[]), "between two steps");
        assert!(!is_before_its_program(3.0, &[]), "it has failed");
        assert!(is_before_its_program(20.0, &[of(true, "(zexio)")]), "its sandbox");
        assert!(!is_before_its_program(31.0, &[of(true, "(zexio)")]), "others go on");
        assert!(!is_before_its_program(0.2, &[of(false, "node")]));
        assert!(!is_before_its_program(0.2, &[of(false, "(zexio)")]), "an app that calls itself so");
        assert!(!is_before_its_program(0.2, &[of(true, WAITER)]), "it stops again");
    }

    #[test]
    fn a_line_that_says_nothing_holds_nobody_up() {
        for line in ["", "x", "1.0", "x zexio-a-web-r1.service"] {
            assert!(!is_setting_up(line, 1.0), "{line}");
        }
        assert!(is_setting_up("1.5 zexio-not-there-web-r1.service", 1.6));
        assert!(!is_setting_up("1.5 zexio-not-there-web-r1.service", 9.0));
        assert!(uptime().unwrap() > 0.0);
    }
}
