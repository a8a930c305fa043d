//! The resource usage of an app's processes, read from the kernel on request: the loop's last observation may be a
//! minute old.
//!
//! Memory is the sum of the processes' proportional set sizes. What a cgroup is charged for differs: it counts every
//! file that the app ever read, and not the pages that another cgroup touched first.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::{SysconfVar, sysconf};

use crate::model::layout::Layout;
use crate::model::status::Used;

/// Cache time: adding up a large process takes the kernel some milliseconds.
const FRESH: Duration = Duration::from_secs(2);
const CGROUPS: &str = "/sys/fs/cgroup";

/// The readings per unit, with their time.
#[derive(Default)]
pub struct Usage(Mutex<BTreeMap<String, (Instant, Option<Used>)>>);

impl Usage {
    /// Returns a unit's usage; None if it has no process.
    pub fn of(&self, unit: &str) -> Option<Used> {
        if let Some((_, used)) = self.known().get(unit).filter(|(read, _)| read.elapsed() < FRESH) {
            return *used;
        }
        let used = read(&Layout::cgroup_named(unit));
        let mut known = self.known();
        known.retain(|_, (read, _)| read.elapsed() < FRESH);
        known.insert(unit.to_owned(), (Instant::now(), used));
        used
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (Instant, Option<Used>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(cgroup: &str) -> Option<Used> {
    // Version 2 has one hierarchy, version 1 one for each controller and systemd's own.
    let file = |controller: &str, name: &str| {
        let place = [CGROUPS, controller].iter().collect::<PathBuf>().join(cgroup.trim_start_matches('/'));
        fs::read_to_string(place.join(name)).ok()
    };
    let first = |places: &[(&str, &str)]| places.iter().find_map(|(controller, name)| file(controller, name));
    let procs = first(&[("", "cgroup.procs"), ("systemd", "cgroup.procs"), ("unified", "cgroup.procs")])?;
    let processes: Vec<Process> =
        procs.lines().filter_map(|pid| Process::read(&Path::new("/proc").join(pid))).collect();
    if processes.is_empty() {
        return None;
    }
    let micros = first(&[("", "cpu.stat"), ("unified", "cpu.stat")]).and_then(|text| named(&text, "usage_usec "));
    let nanos = || first(&[("cpuacct", "cpuacct.usage")])?.trim().parse::<u64>().ok();
    let counted = micros.map(|micros| micros as f64 / 1e6).or_else(|| nanos().map(|nanos| nanos as f64 / 1e9));
    let tasks = first(&[("", "pids.current"), ("pids", "pids.current")]).and_then(|text| text.trim().parse().ok());
    Some(Used {
        memory_bytes: Some(processes.iter().map(|process| process.memory_bytes).sum()),
        // Exited processes are missing here, except for children that were waited for.
        cpu_seconds: counted.or_else(|| Some(processes.iter().map(|process| process.cpu_seconds).sum())),
        tasks: tasks.or_else(|| Some(processes.iter().map(|process| process.tasks).sum())),
    })
}

/// The usage of one process.
struct Process {
    memory_bytes: u64,
    cpu_seconds: f64,
    tasks: u64,
}

impl Process {
    /// Reads a process; None if it has exited.
    fn read(place: &Path) -> Option<Self> {
        let text = |name: &str| fs::read_to_string(place.join(name)).ok();
        let kibibytes = text("smaps_rollup")
            .and_then(|text| named(&text, "Pss:"))
            .or_else(|| text("status").and_then(|text| named(&text, "VmRSS:")))?;
        let stat = text("stat")?;
        let (ticks, tasks) = ticks_and_tasks(&stat)?;
        let hertz = sysconf(SysconfVar::CLK_TCK).ok().flatten().filter(|hertz| *hertz > 0).unwrap_or(100);
        Some(Self { memory_bytes: kibibytes * 1024, cpu_seconds: ticks as f64 / hertz as f64, tasks })
    }
}

/// Returns the number after a name at the start of a line.
fn named(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Parses the CPU time of a process including the children it waited for, and its thread count. Its name, in
/// parentheses, may contain anything.
fn ticks_and_tasks(stat: &str) -> Option<(u64, u64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((number(11)? + number(12)? + number(13)? + number(14)?, number(17)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 200 0 0 7 5 3 1 20 0 4 0 100 1000 10";
        assert_eq!(ticks_and_tasks(stat), Some((16, 4)));
        assert_eq!(ticks_and_tasks("42 (a"), None);
        assert_eq!(named("Rss:  5 kB\nPss:     44097 kB\nPss_Anon: 1 kB\n", "Pss:"), Some(44_097));
        assert_eq!(named("usage_usec 12\nuser_usec 3\n", "usage_usec "), Some(12));
    }

    #[test]
    fn this_process_uses_memory_and_has_tasks() {
        let own = Process::read(Path::new("/proc/self")).unwrap();
        assert!(own.memory_bytes > 1 << 20 && own.tasks > 0, "{} {}", own.memory_bytes, own.tasks);
        assert!(read("/no.slice/such.service").is_none());
    }
}
