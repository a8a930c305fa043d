//! Who listens on a port: the app, nobody, or a stranger who would be taken for it.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;

use super::cgroup;
use super::sockets::{self, Listening};

/// Who listens on a port of loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listener {
    /// A process of the cgroup.
    Ours,
    /// Nobody.
    Nobody,
    /// Somebody else, as far as can be said who.
    Stranger(String),
}

/// Finds who listens on a TCP port, as seen from a cgroup.
pub fn on_port(port: u16, cgroup: &str) -> Listener {
    let sockets: BTreeSet<String> = sockets::listening(Some(port)).into_iter().map(shown).collect();
    if sockets.is_empty() {
        return Listener::Nobody;
    }
    if cgroup::processes(&cgroup::in_our_tree(cgroup)).into_iter().flatten().any(|pid| holds(pid, &sockets)) {
        return Listener::Ours;
    }
    Listener::Stranger(holder(&sockets).unwrap_or_else(|| "an unknown process".to_owned()))
}

/// Finds who listens on a TCP port of a range and runs outside of a slice: the port, and who as far as can be said.
pub fn strangers(range: RangeInclusive<u16>, slice: &str) -> Vec<(u16, String)> {
    let open: Vec<_> = sockets::listening(None).into_iter().filter(|(port, _)| range.contains(port)).collect();
    let inside = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(slice));
    let ours: Vec<u32> = if open.is_empty() { Vec::new() } else { pids().into_iter().filter(inside).collect() };
    let foreign = open.into_iter().filter_map(|(port, inode)| {
        let socket = BTreeSet::from([shown((port, inode))]);
        let is_ours = ours.iter().any(|pid| holds(*pid, &socket));
        (!is_ours).then(|| (port, holder(&socket).unwrap_or_else(|| "an unknown process".to_owned())))
    });
    foreign.collect()
}

/// How /proc shows a socket among a process's files.
fn shown((_, inode): Listening) -> String {
    format!("socket:[{inode}]")
}

fn holds(pid: u32, sockets: &BTreeSet<String>) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| sockets.contains(&*target.to_string_lossy()))
}

fn holder(sockets: &BTreeSet<String>) -> Option<String> {
    let pid = pids().into_iter().find(|pid| holds(*pid, sockets))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("process {pid} ({})", name.trim()))
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_on_the_port_is_not_taken_for_the_app() {
        let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = stranger.local_addr().unwrap().port();
        match on_port(port, "/no-such-cgroup") {
            Listener::Stranger(who) => assert!(who.contains(&std::process::id().to_string()), "{who}"),
            other => panic!("{other:?}"),
        }
        let found = strangers(port..=port, "no-such.slice");
        assert!(matches!(found.as_slice(), [(at, who)] if *at == port && who.contains("process ")), "{found:?}");
    }

    #[test]
    fn a_port_on_which_nobody_listens_is_nobodys() {
        // Bound, so that nobody else gets the port meanwhile, but not listening. A listener that was closed would not
        // do: a program that another test starts holds a copy of it until it is executed.
        let bound = tokio::net::TcpSocket::new_v4().unwrap();
        bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = bound.local_addr().unwrap().port();
        assert_eq!(on_port(port, "/no-such-cgroup"), Listener::Nobody);
    }
}
