//! The server's own figures. One thread samples once a second while there are readers, and ends with the last one:
//! without readers nothing runs. All readers share the samples, and a slow one misses some.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::statvfs::statvfs;
use sysinfo::System;
use tokio::sync::watch;

use super::usage::Usage;
use crate::host::clock::SystemClock;
use crate::model::reason::Reason;
use crate::model::stats::{AgentStats, Cpu, Disk, Load, Memory, Swap, SystemStats};
use crate::model::status::Used;
use crate::port::{Clock, Figures, PortError, Stats};

/// The sampling interval.
const BEAT: Duration = Duration::from_secs(1);
/// Local file systems. A network file system is not queried: it may never answer.
const LOCAL: [&str; 14] = [
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "ntfs", "ntfs3", "reiserfs", "vfat", "xfs",
    "zfs",
];

type Slot = Arc<Mutex<Option<watch::Sender<Option<Arc<SystemStats>>>>>>;

/// Samples the server's figures in the background while they are read.
pub struct Sampler {
    running: Slot,
    begun: Instant,
    usage: Usage,
}

impl Sampler {
    /// Starts counting the agent's own CPU time; samples nothing yet.
    pub fn new() -> Self {
        Self { running: Slot::default(), begun: Instant::now(), usage: Usage::default() }
    }
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new()
    }
}

impl Stats for Sampler {
    fn watch(&self) -> Result<Figures, PortError> {
        let mut running = lock(&self.running);
        if let Some(sender) = running.as_ref() {
            return Ok(sender.subscribe());
        }
        let (sender, figures) = watch::channel(None);
        let (slot, begun) = (Arc::clone(&self.running), self.begun);
        thread::Builder::new().name("stats".into()).spawn(move || look_until_alone(&slot, begun)).map_err(|e| {
            PortError::transient(Reason::Internal, format!("could not start a thread to look at this server: {e}"))
        })?;
        *running = Some(sender);
        Ok(figures)
    }

    fn agent(&self) -> AgentStats {
        agent(self.begun)
    }

    fn used(&self, unit: &str) -> Option<Used> {
        self.usage.of(unit)
    }
}

fn lock(slot: &Slot) -> MutexGuard<'_, Option<watch::Sender<Option<Arc<SystemStats>>>>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A panic while sampling disconnects the readers, and the next one starts over.
struct Cleared<'a>(&'a Slot);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            *lock(self.0) = None;
        }
    }
}

fn look_until_alone(slot: &Slot, begun: Instant) {
    let _cleared = Cleared(slot);
    let mut system = System::new();
    system.refresh_cpu_usage();
    loop {
        // CPU usage is the difference between two samples, so the first answer takes one interval too.
        thread::sleep(BEAT);
        let seen = Arc::new(look(&mut system, begun));
        let mut running = lock(slot);
        match running.as_ref().filter(|sender| sender.receiver_count() > 0) {
            Some(sender) => drop(sender.send_replace(Some(seen))),
            None => {
                *running = None;
                return;
            }
        }
    }
}

fn look(system: &mut System, begun: Instant) -> SystemStats {
    system.refresh_cpu_usage();
    system.refresh_memory();
    let load = System::load_average();
    SystemStats {
        at: SystemClock.now(),
        cpu: Cpu {
            count: system.cpus().len(),
            percent: tenths(system.global_cpu_usage()),
            cores: system.cpus().iter().map(|cpu| tenths(cpu.cpu_usage())).collect(),
        },
        memory: Memory {
            total_bytes: system.total_memory(),
            used_bytes: system.used_memory(),
            available_bytes: system.available_memory(),
        },
        swap: Swap { total_bytes: system.total_swap(), used_bytes: system.used_swap() },
        load: Load { one: load.one, five: load.five, fifteen: load.fifteen },
        disks: disks(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()),
        uptime_seconds: System::uptime(),
        agent: agent(begun),
    }
}

fn tenths(percent: f32) -> f32 {
    (percent * 10.0).round() / 10.0
}

/// A mounted file system, as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    path: String,
    kind: String,
}

/// Returns the local file systems, each once: one with several bind mounts is shown at its shortest path.
fn mounts(table: &str) -> Vec<Mount> {
    let mut found: BTreeMap<String, Mount> = BTreeMap::new();
    for line in table.lines() {
        let Some((head, tail)) = line.split_once(" - ") else { continue };
        let (mut head, mut tail) = (head.split(' ').skip(2), tail.split(' '));
        let (Some(device), Some(path)) = (head.next(), head.nth(1)) else { continue };
        let (Some(kind), Some(source)) = (tail.next(), tail.next()) else { continue };
        if !LOCAL.contains(&kind) && path != "/" {
            continue;
        }
        // Each subvolume of btrfs has a device number of its own.
        let key = if source.starts_with("/dev/") { source } else { device };
        let mount = Mount { path: unescaped(path), kind: kind.to_owned() };
        let shown = found.entry(key.to_owned()).or_insert_with(|| mount.clone());
        if mount.path.len() < shown.path.len() {
            *shown = mount;
        }
    }
    let mut mounts: Vec<Mount> = found.into_values().collect();
    mounts.sort_by(|a, b| a.path.cmp(&b.path));
    mounts
}

/// The kernel escapes a space, a tab, a newline and a backslash of a path as octal numbers.
fn unescaped(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (escaped, plain)| path.replace(escaped, plain))
}

fn disks(table: &str) -> Vec<Disk> {
    let measured = mounts(table).into_iter().filter_map(|mount| {
        // One that the agent may not access has no figures.
        let found = statvfs(Path::new(&mount.path)).ok()?;
        let inodes = Some(found.files()).filter(|count| *count > 0);
        Some(Disk {
            mount: mount.path,
            kind: mount.kind,
            total_bytes: found.blocks().saturating_mul(found.fragment_size()),
            free_bytes: found.blocks_available().saturating_mul(found.fragment_size()),
            inodes,
            inodes_free: inodes.map(|_| found.files_available()),
        })
    });
    measured.filter(|disk| disk.total_bytes > 0).collect()
}

fn agent(begun: Instant) -> AgentStats {
    let used = getrusage(UsageWho::RUSAGE_SELF).ok();
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    AgentStats {
        rss_bytes: fs::read_to_string("/proc/self/status").ok().as_deref().and_then(rss).unwrap_or_default(),
        cpu_seconds: used.map_or(0.0, |used| seconds(used.user_time()) + seconds(used.system_time())),
        uptime_seconds: begun.elapsed().as_secs(),
    }
}

fn rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readers_share_one_thread_that_ends_with_the_last_of_them() {
        let sampler = Sampler::new();
        let (mut one, mut two) = (sampler.watch().unwrap(), sampler.watch().unwrap());
        let (first, same) = (one.wait_for(Option::is_some).await.unwrap().clone().unwrap(), two.changed());
        same.await.unwrap();
        assert!(Arc::ptr_eq(&first, two.borrow().as_ref().unwrap()));
        assert!(first.cpu.count > 0 && first.cpu.cores.len() == first.cpu.count);
        assert!(first.memory.available_bytes <= first.memory.total_bytes && first.agent.rss_bytes > 1 << 20);
        assert!(first.disks.iter().any(|disk| disk.mount == "/"), "{:?}", first.disks);
        one.changed().await.unwrap();
        assert!(one.borrow().as_ref().unwrap().at > first.at);
        drop((one, two));
        let ended = async {
            while lock(&sampler.running).is_some() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap();
        assert!(sampler.watch().unwrap().wait_for(Option::is_some).await.is_ok(), "and starts again");
    }

    #[test]
    fn a_file_system_is_shown_once_and_a_networks_never() {
        let table = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 8:1 /zexio /srv/bound\\040here rw,relatime - ext4 /dev/sda1 rw
24 22 8:2 / /var/my\\040data rw - xfs /dev/sda2 rw
25 22 0:40 / /mnt/far rw - nfs4 server:/export rw
26 22 0:5 / /proc rw - proc proc rw
27 22 0:41 / /snap/core/1 ro - squashfs /dev/loop0 ro
28 22 0:42 / /tank rw - zfs tank rw
29 22 0:43 /@log /var/log rw - btrfs /dev/sdb1 rw
30 22 0:44 /@home /home rw - btrfs /dev/sdb1 rw
broken";
        let shown: Vec<String> = mounts(table).into_iter().map(|mount| mount.path).collect();
        assert_eq!(shown, ["/", "/home", "/tank", "/var/my data"]);
    }
}
