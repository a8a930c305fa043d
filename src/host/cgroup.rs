//! Which processes are in a control group of systemd's.

use std::fs;

/// systemd keeps its tree at one of these, depending on the version of the machine's cgroups.
const ROOTS: [&str; 3] = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// Returns the processes of a group, by its path below the root; none where it cannot be read.
pub fn processes(path: &str) -> Option<Vec<u32>> {
    let text = ROOTS.iter().find_map(|root| fs::read_to_string(format!("{root}{path}/cgroup.procs")).ok())?;
    Some(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Returns the path of a group that systemd names: in a container without a cgroup namespace its tree does not begin at
/// the top.
pub fn in_our_tree(name: &str) -> String {
    let top = group_of("1").unwrap_or_default();
    format!("{}{name}", top.trim_end_matches("/init.scope").trim_end_matches('/'))
}

/// Returns the path of the group that this process is in.
pub fn own() -> Option<String> {
    group_of("self")
}

/// A line is the hierarchy, its name (none: version 2) and the path.
fn group_of(process: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    text.lines().find_map(|line| {
        let (name, path) = line.split_once(':')?.1.split_once(':')?;
        ["name=systemd", ""].contains(&name).then(|| path.to_owned())
    })
}
