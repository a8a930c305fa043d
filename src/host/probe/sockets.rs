//! The listening TCP ports, from the kernel over netlink, as `ss` does. /proc/net/tcp has the same data, but reading it
//! walks every slot of the connection table, 2 ms on a machine with much memory.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};

/// A listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listening {
    /// May be the unspecified address.
    pub address: IpAddr,
    pub port: u16,
    /// Its inode, as in /proc/<pid>/fd.
    pub inode: u64,
    /// The user that created it.
    pub uid: u32,
}

/// Returns the listening sockets of both address families: of one port, or all.
pub fn listening(port: Option<u16>) -> Vec<Listening> {
    let asked: io::Result<Vec<_>> = [AF_INET, AF_INET6].into_iter().map(|family| ask(family, port)).collect();
    // Some containers have no netlink socket.
    let mut found = asked.map_or_else(|_| tables(), |families| families.concat());
    found.retain(|socket| port.is_none_or(|port| port == socket.port));
    found
}

fn ask(family: u8, port: Option<u16>) -> io::Result<Vec<Listening>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(family, port), 0)?;
    let mut found = Vec::new();
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(seen)) => {
                    let (id, inode) = (&seen.header.socket_id, u64::from(seen.header.inode));
                    let (address, port, uid) = (id.source_address, id.source_port, seen.header.uid);
                    found.push(Listening { address, port, inode, uid });
                }
                NetlinkPayload::Done(_) => return Ok(found),
                NetlinkPayload::Error(refused) => return Err(refused.to_io()),
                _ => {}
            }
            // Messages are aligned to four bytes.
            let length = (message.header.length as usize).next_multiple_of(4).max(4);
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

fn request(family: u8, port: Option<u16>) -> Vec<u8> {
    let mut socket_id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
    socket_id.source_port = port.unwrap_or(0);
    let (extensions, states) = (ExtensionFlags::empty(), StateFlags::LISTEN);
    let wanted = InetRequest { family, protocol: IPPROTO_TCP, extensions, states, socket_id };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(wanted).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn tables() -> Vec<Listening> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(row).collect()
}

/// A line of /proc/net/tcp: number, local address, remote address, state (0A: listening), … , user (the eighth), …,
/// inode (the tenth).
fn row(line: &str) -> Option<Listening> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, uid, inode) = (fields.get(1)?, fields.get(3)?, fields.get(7)?, fields.get(9)?);
    let (address, port) = local.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let socket = Listening { address: address_of(address)?, port, inode: inode.parse().ok()?, uid: uid.parse().ok()? };
    (*state == "0A").then_some(socket)
}

/// Each four bytes of an address are written as one number in host byte order.
fn address_of(hex: &str) -> Option<IpAddr> {
    let part = |at: usize| Some(u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(part(0)?))),
        _ => {
            let bytes = [part(0)?, part(1)?, part(2)?, part(3)?].concat();
            Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_listens_is_found_both_ways_and_what_is_only_connected_is_not() {
        let four = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, address) = (four.local_addr().unwrap().port(), four.local_addr().unwrap());
        let client = std::net::TcpStream::connect(address).unwrap();
        let inode =
            std::fs::metadata(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&four))).unwrap().ino();
        let socket = Listening { address: address.ip(), port, inode, uid: nix::unistd::geteuid().as_raw() };
        assert_eq!(listening(Some(port)), [socket]);
        assert!(listening(None).contains(&socket));
        assert!(tables().contains(&socket), "{:?}", tables());
        assert_eq!(listening(Some(client.local_addr().unwrap().port())), []);
    }

    #[test]
    fn a_socket_of_the_newer_family_is_found_too() {
        let Ok(six) = TcpListener::bind("[::1]:0") else { return };
        let port = six.local_addr().unwrap().port();
        assert_eq!(listening(Some(port)).len(), 1);
        let found = tables().into_iter().find(|socket| socket.port == port).map(|socket| socket.address);
        assert_eq!(found, Some(six.local_addr().unwrap().ip()));
    }
}
