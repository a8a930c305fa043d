//! The processes in systemd's control groups.

use std::fs;

/// systemd's tree is at one of these, depending on the machine's cgroup version.
const ROOTS: [&str; 3] = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// Returns the processes of a group, by its path below the root; None if it cannot be read.
pub fn processes(path: &str) -> Option<Vec<u32>> {
    let text = ROOTS.iter().find_map(|root| fs::read_to_string(format!("{root}{path}/cgroup.procs")).ok())?;
    Some(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Returns the path of a group that systemd names: in a container without a cgroup namespace its tree does not begin at
/// the root.
pub fn in_our_tree(name: &str) -> String {
    let top = group_of("1").unwrap_or_default();
    format!("{}{name}", top.trim_end_matches("/init.scope").trim_end_matches('/'))
}

/// Returns the path of this process's own group.
pub fn own() -> Option<String> {
    group_of("self")
}

/// Returns the systemd unit that a process belongs to.
pub fn unit_of(pid: u32) -> Option<String> {
    let group = group_of(&pid.to_string())?;
    let is_unit = |name: &&str| name.ends_with(".service") || name.ends_with(".scope");
    group.rsplit('/').find(is_unit).map(str::to_owned)
}

/// A line is the hierarchy, its name (empty for v2) and the path.
fn group_of(process: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    text.lines().find_map(|line| {
        let (name, path) = line.split_once(':')?.1.split_once(':')?;
        ["name=systemd", ""].contains(&name).then(|| path.to_owned())
    })
}
