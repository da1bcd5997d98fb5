//! The kernel says what it has counted and who listens, in files below `/proc/net`.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the kernel has counted since the network namespace was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// UDP datagrams that came as far as the sockets, received or not.
    pub(super) udp: u64,
    /// Of these, those for which a socket had no room, or the kernel no memory.
    pub(super) no_room: u64,
    /// Reassemblies that failed.
    pub(super) reassembly_failed: u64,
    /// Packets to whose source no route leads over the interface that they came by.
    pub(super) reverse_path: u64,
}

impl Counters {
    /// Reads the counters; what the kernel does not tell is 0.
    pub(super) fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/net/snmp"), &read("/proc/net/snmp6"), &read("/proc/net/netstat"))
    }

    fn parse(snmp: &str, snmp6: &str, netstat: &str) -> Self {
        let mut counts = HashMap::new();
        table(snmp, &mut counts);
        table(netstat, &mut counts);
        for line in snmp6.lines() {
            let mut words = line.split_whitespace();
            if let (Some(name), Some(Ok(count))) = (words.next(), words.next().map(str::parse)) {
                counts.insert(name.to_owned(), count);
            }
        }
        let sum = |names: &[&str]| names.iter().filter_map(|name| counts.get(*name)).sum();
        Self {
            udp: sum(&[
                "UdpInDatagrams",
                "UdpNoPorts",
                "UdpInErrors",
                "Udp6InDatagrams",
                "Udp6NoPorts",
                "Udp6InErrors",
            ]),
            no_room: sum(&["UdpRcvbufErrors", "UdpMemErrors", "Udp6RcvbufErrors", "Udp6MemErrors"]),
            reassembly_failed: sum(&["IpReasmFails", "Ip6ReasmFails"]),
            reverse_path: sum(&["TcpExtIPReversePathFilter"]),
        }
    }

    /// Returns what was counted since `before`.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            udp: self.udp.saturating_sub(before.udp),
            no_room: self.no_room.saturating_sub(before.no_room),
            reassembly_failed: self.reassembly_failed.saturating_sub(before.reassembly_failed),
            reverse_path: self.reverse_path.saturating_sub(before.reverse_path),
        }
    }
}

/// Reads pairs of lines, of which the first has names and the second counts, both behind `Ip:`.
fn table(text: &str, counts: &mut HashMap<String, u64>) {
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (Some((kind, names)), Some((_, values))) = (names.split_once(':'), values.split_once(':')) else { return };
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            // One of them can be negative: a setting, and no count.
            if let Ok(value) = value.parse() {
                counts.insert(format!("{kind}{name}"), value);
            }
        }
    }
}

/// A UDP socket of this network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) address: SocketAddr,
    /// Bytes that wait to be read.
    waiting: u64,
    /// Datagrams that it dropped: for want of room, or with a wrong checksum.
    drops: u64,
}

/// The UDP sockets of this network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sockets(Vec<Socket>);

impl Sockets {
    /// Reads who listens; nobody where the kernel does not tell.
    pub(super) fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let texts = [read("/proc/net/udp"), read("/proc/net/udp6")];
        Self(texts.iter().flat_map(|text| text.lines().skip(1).filter_map(socket)).collect())
    }

    /// Says whether somebody listens on this address and port.
    pub(super) fn hear(&self, address: IpAddr, port: u16) -> bool {
        self.on(port).any(|socket| {
            let of = socket.address.ip();
            of == address || (of.is_unspecified() && (of.is_ipv6() || address.is_ipv4()))
        })
    }

    /// Says whether datagrams for this port wait to be read.
    pub(super) fn wait(&self, port: u16) -> bool {
        self.on(port).any(|socket| socket.waiting > 0)
    }

    /// Returns how many datagrams for this port were dropped at a socket, for whatever reason.
    pub(super) fn drops(&self, port: u16) -> u64 {
        self.on(port).map(|socket| socket.drops).sum()
    }

    fn on(&self, port: u16) -> impl Iterator<Item = &Socket> {
        self.0.iter().filter(move |socket| socket.address.port() == port)
    }
}

/// Reads a line: number, local and remote address, state, `tx_queue:rx_queue`, and the drops at the
/// end.
fn socket(line: &str) -> Option<Socket> {
    let mut words = line.split_whitespace().skip(1);
    let (address, port) = words.next()?.split_once(':')?;
    let (_, waiting) = words.nth(2)?.split_once(':')?;
    let drops = words.last()?.parse().ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words of 32 bits, each printed as a number of this machine's byte order.
    let word = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = if address.len() == 8 {
        IpAddr::from(Ipv4Addr::from(word(0)?))
    } else {
        let mut octets = [0; 16];
        for (number, chunk) in octets.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *chunk = word(number * 8)?;
        }
        IpAddr::from(Ipv6Addr::from(octets)).to_canonical()
    };
    Some(Socket { address: SocketAddr::new(ip, port), waiting: u64::from_str_radix(waiting, 16).ok()?, drops })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn counters_are_found_by_name() {
        let snmp = "Ip: Forwarding ReasmFails\nIp: 1 7\nTcp: MaxConn\nTcp: -1\n\
                    Udp: InDatagrams NoPorts InErrors RcvbufErrors InCsumErrors MemErrors\nUdp: 10 20 30 8 20 2\n";
        let snmp6 = "Ip6ReasmFails   \t5\nUdp6InDatagrams  \t1\nUdp6NoPorts 2\nUdp6InErrors 3\nUdp6RcvbufErrors 1\n";
        let netstat = "TcpExt: X IPReversePathFilter\nTcpExt: 1 4\nIpExt: InNoRoutes\nIpExt: 0\n";
        let counters = Counters::parse(snmp, snmp6, netstat);
        assert_eq!(counters, Counters { udp: 66, no_room: 11, reassembly_failed: 12, reverse_path: 4 });
        let before = Counters { udp: 60, ..Counters::default() };
        assert_eq!(counters.since(before).udp, 6);
        assert_eq!(Counters::parse("", "", ""), Counters::default());
    }

    #[test]
    fn a_socket_of_this_host_is_found() {
        for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
            let bound = UdpSocket::bind(address).unwrap();
            let address = bound.local_addr().unwrap();
            let sockets = Sockets::read();
            assert!(sockets.hear(address.ip(), address.port()), "{address}");
            let other = if address.is_ipv4() { IpAddr::from([127, 0, 0, 9]) } else { "::9".parse().unwrap() };
            assert_eq!(sockets.hear(other, address.port()), address.ip().is_unspecified());
            assert!(!sockets.wait(address.port()) && sockets.drops(address.port()) == 0);
        }
    }
}
