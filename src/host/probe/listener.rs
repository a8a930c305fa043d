//! Who listens on a port: the app, no process, or a foreign process that would be mistaken for the app.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use super::sockets::{self, Listening};
use crate::host::cgroup;
use crate::model::observed::PortHolder;

/// The owner of a loopback port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listener {
    /// A process of the cgroup.
    Ours,
    /// A process of the cgroup, but a connection to 127.0.0.1 may not reach it.
    Elsewhere(SocketAddr),
    Nobody,
    /// A process outside the cgroup, described as far as possible.
    Stranger(String),
}

/// Finds who listens on a TCP port, relative to a cgroup.
pub fn on_port(port: u16, cgroup: &str) -> Listener {
    let sockets = sockets::listening(Some(port));
    if sockets.is_empty() {
        return Listener::Nobody;
    }
    let ours = held_by(&processes(cgroup), sockets.iter().copied());
    if let Some(first) = ours.first() {
        let reached = ours.iter().any(|socket| takes_ipv4_of_loopback(socket.address));
        return if reached { Listener::Ours } else { Listener::Elsewhere(at(first)) };
    }
    let names = sockets.into_iter().map(shown).collect();
    Listener::Stranger(holder(&names).unwrap_or_else(|| "an unknown process".to_owned()))
}

/// What a cgroup's processes listen on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Open {
    pub tcp: BTreeSet<SocketAddr>,
    /// The paths of Unix sockets; of the abstract ones, the name after an @. They are looked up only without `tcp`.
    pub unix: BTreeSet<String>,
}

/// Finds what a cgroup's processes listen on.
pub fn of_cgroup(cgroup: &str) -> Open {
    let pids = processes(cgroup);
    let tcp: BTreeSet<SocketAddr> = held_by(&pids, sockets::listening(None).into_iter()).iter().map(at).collect();
    let unix = if tcp.is_empty() { unix_of(&pids) } else { BTreeSet::new() };
    Open { tcp, unix }
}

fn unix_of(pids: &[u32]) -> BTreeSet<String> {
    // An app may have a network of its own.
    let table = pids.first().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/net/unix")).ok());
    let listening = table.as_deref().into_iter().flat_map(|table| table.lines().skip(1)).filter_map(unix_row);
    let held = |inode: &str| pids.iter().any(|pid| holds(*pid, &BTreeSet::from([format!("socket:[{inode}]")])));
    listening.filter(|(inode, _)| held(inode)).map(|(_, path)| path.to_owned()).collect()
}

/// A line of /proc/net/unix: address, references, protocol, flags (00010000: listening), type, state, inode, path. The
/// inode and the path of one that listens.
fn unix_row(line: &str) -> Option<(&str, &str)> {
    let mut rest = line;
    let mut fields = [""; 7];
    for field in &mut fields {
        (*field, rest) = rest.trim_start().split_once(' ')?;
    }
    (fields[3] == "00010000" && !rest.is_empty()).then_some((fields[6], rest))
}

/// Finds which users listen where other machines can reach them.
pub fn open_to_others() -> Vec<(u32, SocketAddr)> {
    let open = sockets::listening(None).into_iter().filter(|socket| !socket.address.to_canonical().is_loopback());
    open.map(|socket| (socket.uid, at(&socket))).collect()
}

/// Finds the TCP ports on which any program listens.
pub fn ports_in_use() -> BTreeSet<u16> {
    sockets::listening(None).into_iter().map(|socket| socket.port).collect()
}

fn at(socket: &Listening) -> SocketAddr {
    SocketAddr::new(socket.address, socket.port)
}

/// A socket on all of IPv6 usually accepts IPv4 as well; only a connection shows whether it does.
fn takes_ipv4_of_loopback(address: IpAddr) -> bool {
    address.is_unspecified() || address.to_canonical() == IpAddr::V4(Ipv4Addr::LOCALHOST)
}

fn processes(cgroup: &str) -> Vec<u32> {
    cgroup::processes(&cgroup::in_our_tree(cgroup)).unwrap_or_default()
}

fn held_by(pids: &[u32], sockets: impl Iterator<Item = Listening>) -> Vec<Listening> {
    sockets.filter(|socket| pids.iter().any(|pid| holds(*pid, &BTreeSet::from([shown(*socket)])))).collect()
}

/// Finds processes outside a slice that listen on a TCP port of a range: the port, and a description.
pub fn strangers(range: RangeInclusive<u16>, slice: &str) -> Vec<(u16, String)> {
    let open: Vec<_> = sockets::listening(None).into_iter().filter(|socket| range.contains(&socket.port)).collect();
    let inside = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(slice));
    let ours: Vec<u32> = if open.is_empty() { Vec::new() } else { pids().into_iter().filter(inside).collect() };
    let foreign = open.into_iter().filter_map(|found| {
        let socket = BTreeSet::from([shown(found)]);
        let is_ours = ours.iter().any(|pid| holds(*pid, &socket));
        (!is_ours).then(|| (found.port, holder(&socket).unwrap_or_else(|| "an unknown process".to_owned())))
    });
    foreign.collect()
}

/// Finds who listens on which TCP port.
pub fn holders() -> Vec<PortHolder> {
    let mut listening: BTreeMap<String, u16> =
        sockets::listening(None).into_iter().map(|socket| (shown(socket), socket.port)).collect();
    let mut found = Vec::new();
    for pid in pids() {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        // A socket that several processes hold counts for the first, which is the oldest.
        let ports = targets.filter_map(|target| listening.remove(target.to_str()?));
        let ports: BTreeSet<u16> = ports.collect();
        found.extend(ports.into_iter().map(|port| PortHolder {
            port,
            program: describe(pid),
            unit: cgroup::unit_of(pid),
        }));
    }
    found.extend(listening.into_values().map(|port| PortHolder {
        port,
        program: "an unknown process".to_owned(),
        unit: None,
    }));
    found
}

/// How /proc shows a socket among a process's files.
fn shown(socket: Listening) -> String {
    format!("socket:[{}]", socket.inode)
}

fn holds(pid: u32, sockets: &BTreeSet<String>) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| sockets.contains(&*target.to_string_lossy()))
}

fn holder(sockets: &BTreeSet<String>) -> Option<String> {
    pids().into_iter().find(|pid| holds(*pid, sockets)).map(describe)
}

fn describe(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("process {pid} ({})", name.trim())
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
        let own = format!("process {} (", std::process::id());
        assert!(holders().iter().any(|held| held.port == port && held.program.starts_with(&own)));
        let found = strangers(port..=port, "no-such.slice");
        assert!(matches!(found.as_slice(), [(at, who)] if *at == port && who.contains("process ")), "{found:?}");
    }

    #[test]
    fn a_unix_socket_that_is_listened_on_has_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a b.sock"), dir.path().join("only-bound.sock"));
        let _listening = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let _bound = std::os::unix::net::UnixDatagram::bind(&other).unwrap();
        let found = unix_of(&[std::process::id()]);
        assert!(found.contains(path.to_str().unwrap()), "{found:?}");
        assert!(!found.contains(other.to_str().unwrap()), "{found:?}");
        assert_eq!(unix_of(&[]), BTreeSet::new());
        let row = "0000000000000000: 00000002 00000000 00010000 0001 01 19047 /run/x.sock";
        assert_eq!(unix_row(row), Some(("19047", "/run/x.sock")));
        assert_eq!(unix_row("0000000000000000: 00000002 00000000 00010000 0001 01 19047"), None);
    }

    #[test]
    fn a_port_on_which_nobody_listens_is_nobodys() {
        // Bound, so that no other process gets the port, but not listening. A closed listener would not do: a program
        // that another test starts holds a copy of it until it is executed.
        let bound = tokio::net::TcpSocket::new_v4().unwrap();
        bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = bound.local_addr().unwrap().port();
        assert_eq!(on_port(port, "/no-such-cgroup"), Listener::Nobody);
    }
}
