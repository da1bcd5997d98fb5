//! A UDP port has an owner.

use std::net::{IpAddr, SocketAddr};

use procfs::process::FDTarget;

/// Describes the owner of this UDP address in words: the process if `/proc` tells, else the kernel,
/// with what to type to see more.
#[must_use]
pub(crate) fn describe(address: SocketAddr) -> String {
    let port = address.port();
    let inodes: Vec<u64> = [procfs::net::udp(), procfs::net::udp6()]
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.local_address.port() == port && overlap(entry.local_address.ip(), address.ip()))
        .map(|entry| entry.inode)
        .collect();
    let holds = |process: &procfs::process::Process| {
        let Ok(descriptors) = process.fd() else { return false };
        descriptors.flatten().any(|fd| matches!(fd.target, FDTarget::Socket(inode) if inodes.contains(&inode)))
    };
    let owner = procfs::process::all_processes().ok().and_then(|all| all.flatten().find(holds));
    match owner.and_then(|p| p.stat().ok()) {
        Some(stat) => format!("process {} ({})", stat.pid, stat.comm),
        None => format!(
            "no process that this user can see: most often a kernel vxlan device (see: ip -d link show type vxlan) \
             or another user's process (see: sudo ss -lunp sport = :{port})"
        ),
    }
}

/// Says whether sockets on these addresses would take the same datagrams.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
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
