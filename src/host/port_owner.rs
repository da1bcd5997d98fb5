//! A UDP port has an owner.

use std::net::{IpAddr, SocketAddr};

use parking_lot::Mutex;
use procfs::process::FDTarget;

/// The number of the first process, which is the service manager.
pub(crate) const MANAGER: i32 = 1;

/// Who has a UDP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A process.
    Process {
        /// Its number.
        pid: u32,
        /// Its name, as `ps` has it.
        name: String,
    },
    /// The kernel, or a process that this user cannot see.
    Unseen,
}

/// Finds who has this UDP address, or one that takes the same datagrams; `None` where it is free.
#[must_use]
pub(crate) fn find(address: SocketAddr) -> Option<Owner> {
    let port = address.port();
    let inodes: Vec<u64> = [procfs::net::udp(), procfs::net::udp6()]
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.local_address.port() == port && overlap(entry.local_address.ip(), address.ip()))
        .map(|entry| entry.inode)
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let holds = |process: &procfs::process::Process| {
        let Ok(descriptors) = process.fd() else { return false };
        descriptors.flatten().any(|fd| matches!(fd.target, FDTarget::Socket(inode) if inodes.contains(&inode)))
    };
    // The first process keeps sockets for others, also while these have them.
    let all = procfs::process::all_processes().into_iter().flatten().flatten();
    let mut others = all.filter(|process| process.pid != MANAGER);
    let manager = || procfs::process::Process::new(MANAGER).ok().filter(&holds);
    let owner = others.find(&holds).or_else(manager);
    Some(match owner.and_then(|process| process.stat().ok()) {
        Some(stat) => Owner::Process { pid: stat.pid.unsigned_abs(), name: stat.comm },
        None => Owner::Unseen,
    })
}

/// Describes the owner of this UDP address in words: the process if `/proc` tells, else the kernel,
/// with what to type to see more.
#[must_use]
pub(crate) fn describe(address: SocketAddr) -> String {
    match find(address) {
        Some(Owner::Process { pid, name }) => named(pid, &name),
        Some(Owner::Unseen) | None => remembered(address).unwrap_or_else(|| {
            format!(
                "no process that this user can see: most often a kernel vxlan device (see: ip -d link show type vxlan) \
             or another user's process (see: sudo ss -lunp sport = :{port})",
                port = address.port()
            )
        }),
    }
}

fn named(pid: u32, name: &str) -> String {
    format!("process {pid} ({name})")
}

/// Those who had addresses when somebody looked.
static SEEN: Mutex<Vec<(SocketAddr, String)>> = Mutex::new(Vec::new());

/// Looks who has these addresses, for a process that will not be able to see others' descriptors.
pub(crate) fn remember(addresses: &[SocketAddr]) {
    let seen = addresses.iter().filter_map(|address| match find(*address)? {
        Owner::Process { pid, name } => Some((*address, named(pid, &name))),
        Owner::Unseen => None,
    });
    *SEEN.lock() = seen.collect();
}

fn remembered(address: SocketAddr) -> Option<String> {
    SEEN.lock().iter().find(|(seen, _)| *seen == address).map(|(_, owner)| owner.clone())
}

/// Says whether sockets on these addresses would take the same datagrams.
pub(crate) fn overlap(a: IpAddr, b: IpAddr) -> bool {
    a.is_unspecified() || b.is_unspecified() || a.to_canonical() == b.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_process() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let text = describe(socket.local_addr().unwrap());
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    }

    #[test]
    fn a_port_without_sockets_is_free() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert!(matches!(find(address), Some(Owner::Process { pid, .. }) if pid == std::process::id()));
        drop(socket);
        assert_eq!(find(address), None);
    }

    #[test]
    fn another_address_of_the_same_port_is_not_to_blame() {
        let socket = std::net::UdpSocket::bind("127.0.0.5:0").unwrap();
        let mut other = socket.local_addr().unwrap();
        other.set_ip(IpAddr::from([127, 0, 0, 6]));
        assert!(!describe(other).contains(&std::process::id().to_string()));
        other.set_ip(IpAddr::from([0, 0, 0, 0]));
        assert!(describe(other).contains(&std::process::id().to_string()));
    }

    #[test]
    fn says_where_to_look_when_nobody_is_seen() {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(describe(free).contains("ip -d link show type vxlan"));
    }
}
