//! Who has an address that cannot be bound, as far as the system tells (`/proc`).

use std::fs;
use std::net::SocketAddr;

use crate::text;

/// Who has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortOwner {
    /// A listener of this process.
    Own,
    /// A listener of another process.
    Other,
    /// A connection, whose own end has the port.
    Connection,
    /// No one that can be seen.
    Unknown,
}

/// In `/proc/net/tcp`, a socket that listens.
const LISTENS: &str = "0A";

/// Who has the port of this address.
pub(super) fn of(address: SocketAddr) -> PortOwner {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let sockets: String = tables.iter().filter_map(text::of_kernel).collect();
    let port = format!(":{:04X}", address.port());
    let mut owner = PortOwner::Unknown;
    for line in sockets.lines() {
        let mut fields = line.split_whitespace().skip(1);
        let (Some(local), Some(_), Some(state)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if !local.ends_with(&port) {
            continue;
        }
        match state {
            LISTENS if fields.nth(5).is_some_and(is_own) => return PortOwner::Own,
            LISTENS => owner = PortOwner::Other,
            _ if owner == PortOwner::Unknown => owner = PortOwner::Connection,
            _ => {}
        }
    }
    owner
}

/// Whether this process has the socket of this inode.
fn is_own(inode: &str) -> bool {
    let name = format!("socket:[{inode}]");
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else { return false };
    let mut links = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links.any(|signals| signals.as_os_str() == name.as_str())
}
