//! Finds which conversation a frame belongs to, and the outer UDP source port that follows from it.
//!
//! A VXLAN sender spreads its tunnel over UDP source ports so that routers and network cards can
//! balance the load without looking inside: RFC 7348 section 5 asks for a hash of the inner frame's
//! headers. Two choices are made here.
//!
//! **The hash is symmetric.** Both directions of a conversation give the same value, so whoever
//! balances on it sees requests and answers in one place. The two ends, each an address with its
//! port, are put in numeric order before they are mixed; a frame from A to B and one from B to A
//! are then the same flow. The order is that of the whole end: ordering addresses and ports apart
//! from each other would give 10.0.0.1:80 - 10.0.0.2:443 and
//! 10.0.0.1:443 - 10.0.0.2:80 one value.
//!
//! **The ports are those of AWS VPC Traffic Mirroring**: 65408 to 65535, seven bits of the hash.
//! Measured mirror traffic used no others.
//!
//! The identity of a flow depends on how far the frame can be read:
//!
//! | frame | ends | protocol |
//! |---|---|---|
//! | TCP, UDP, SCTP in IPv4 or IPv6 | address and port | IP protocol number |
//! | other protocols, and every fragment | address, port 0 | IP protocol number |
//! | not IP, or IP that cannot be read | MAC address, port 0 | EtherType |
//! | shorter than an Ethernet header | none | none |
//!
//! Only the first fragment of a datagram carries ports, so fragments leave them out: all fragments
//! of one datagram meet. VLAN tags are stepped over and do not count: a capture can show the tag in
//! one direction only. At most three tags are followed; behind a fourth the frame counts as not IP.

use std::net::IpAddr;

use super::LinkType;
use super::layers::{Fragment, Ip, Layers, protocol};

/// The first outer source port; 128 are in use.
pub(crate) const FIRST_SOURCE_PORT: u16 = 65408;

/// The bits of the hash that choose the port.
const PORT_MASK: u8 = 0x7f;

/// One end of a conversation. The address is an IP address, or a MAC address where there is no IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct End {
    address: u128,
    port: u16,
}

/// The identity of a flow: what both directions of a conversation have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Flow {
    low: End,
    high: End,
    /// IP protocol number, or EtherType where there is no IP.
    protocol: u16,
}

impl Flow {
    fn between(a: End, b: End, protocol: u16) -> Flow {
        Flow { low: a.min(b), high: a.max(b), protocol }
    }

    /// Finds the flow of an Ethernet frame, with or without its end.
    fn of(frame: &[u8]) -> Flow {
        Flow::of_ip(frame).unwrap_or_else(|| Flow::of_ethernet(frame))
    }

    /// Finds the flow of a frame that is IP.
    fn of_ip(frame: &[u8]) -> Option<Flow> {
        Layers::of(frame, LinkType::Ethernet).ip.as_ref().map(Flow::of_packet)
    }

    /// Finds the flow of the packet that an ICMP error is about (RFC 792, RFC 4443 section 3). The
    /// packet begins behind 8 bytes, as much of it as the sender of the error saw fit.
    fn in_icmp_error(frame: &[u8], ip: &Ip) -> Option<Flow> {
        if ip.fragment != Fragment::Whole {
            return None;
        }
        let (header, inner) = ip.segment(frame).split_first_chunk::<8>()?;
        let is_error = match ip.protocol {
            // These are unreachable, source quench, redirect, time exceeded, parameter problem.
            protocol::ICMP => matches!(header[0], 3 | 4 | 5 | 11 | 12),
            protocol::ICMPV6 => header[0] < 128,
            _ => false,
        };
        if !is_error {
            return None;
        }
        Layers::of_ip(inner).ip.as_ref().map(Flow::of_packet)
    }

    fn of_packet(ip: &Ip) -> Flow {
        let whole = ip.fragment == Fragment::Whole;
        let [source_port, destination_port] = ip.ports.filter(|_| whole).unwrap_or_default();
        Flow::between(
            End { address: number(ip.source), port: source_port },
            End { address: number(ip.destination), port: destination_port },
            ip.protocol.into(),
        )
    }

    fn of_ethernet(frame: &[u8]) -> Flow {
        let &[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1, ..] = frame else { return Flow::default() };
        let end = |mac: [u8; 6]| {
            let [a, b, c, d, e, f] = mac;
            End { address: u64::from_be_bytes([0, 0, a, b, c, d, e, f]).into(), port: 0 }
        };
        Flow::between(end([s0, s1, s2, s3, s4, s5]), end([d0, d1, d2, d3, d4, d5]), u16::from_be_bytes([t0, t1]))
    }

    fn hash(&self) -> u32 {
        let ports = u64::from(self.low.port) << 32 | u64::from(self.high.port) << 16 | u64::from(self.protocol);
        let [low_a, low_b] = halves(self.low.address);
        let [high_a, high_b] = halves(self.high.address);
        let hash = [ports, low_a, low_b, high_a, high_b].into_iter().fold(0, |hash, word| mix(hash ^ word));
        let [a, b, c, d, ..] = hash.to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

fn halves(address: u128) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address.to_be_bytes();
    [u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes([i, j, k, l, m, n, o, p])]
}

/// Mixes by the finalizer of SplitMix64: each bit of the input changes each bit of the output about
/// half the time. The constant added first keeps zero from being mapped to itself.
fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Hashes the conversation that an Ethernet frame belongs to, with one value for both directions.
///
/// The same frame gives the same value on every host and in every run. Cut frames are read as far
/// as they go.
///
/// ```
/// use vxtap::wire::flow::symmetric_hash;
///
/// let there = [&[2u8, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5][..], b"hello"].concat();
/// let back = [&[2u8, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5][..], b"world"].concat();
/// assert_eq!(symmetric_hash(&there), symmetric_hash(&back));
/// ```
#[must_use]
pub fn symmetric_hash(frame: &[u8]) -> u32 {
    Flow::of(frame).hash()
}

/// Returns the outer UDP source port of a frame's conversation: 65408 to 65535, as AWS VPC Traffic
/// Mirroring uses.
#[must_use]
pub(crate) fn outer_source_port(frame: &[u8]) -> u16 {
    let [.., low] = symmetric_hash(frame).to_be_bytes();
    FIRST_SOURCE_PORT + u16::from(low & PORT_MASK)
}

/// Hashes the two hosts that a frame of these layers goes between and the IP protocol, with one
/// value for both directions and for all fragments; `None` for a frame that is not IP.
///
/// This hash balances conversations over several readers: one that looks at ports would part the
/// fragments of a datagram from the rest of their conversation. An ICMP error belongs to the
/// conversation it is about, whose packet it carries. A router that sends the error has another
/// address than both hosts, and a reader that keeps flows counts it to that conversation.
#[must_use]
pub(crate) fn hosts_hash(frame: &[u8], layers: &Layers) -> Option<u32> {
    let ip = layers.ip.as_ref()?;
    let Flow { low, high, protocol } = Flow::in_icmp_error(frame, ip).unwrap_or_else(|| Flow::of_packet(ip));
    let host = |end: End| End { port: 0, ..end };
    Some(Flow::between(host(low), host(high), protocol).hash())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hosts_hash(frame: &[u8]) -> Option<u32> {
        super::hosts_hash(frame, &Layers::of(frame, LinkType::Ethernet))
    }

    /// A conversation as test input; `frame` writes one direction of it.
    #[derive(Debug, Clone)]
    struct Talk {
        v6: bool,
        addresses: [u128; 2],
        ports: [u16; 2],
        protocol: u8,
        tags: usize,
        extension: bool,
        fragment: bool,
    }

    impl Talk {
        fn frame(&self, back: bool) -> Vec<u8> {
            let (from, to) = if back { (1, 0) } else { (0, 1) };
            let mut f = Vec::new();
            f.extend([2, 0, 0, 0, 0, to as u8]);
            f.extend([2, 0, 0, 0, 0, from as u8]);
            for tag in 0..self.tags {
                f.extend(if tag == 0 && self.tags > 1 { [0x88, 0xa8] } else { [0x81, 0x00] });
                f.extend([0, 7]);
            }
            let mut segment = Vec::new();
            segment.extend(self.ports[from].to_be_bytes());
            segment.extend(self.ports[to].to_be_bytes());
            // Sequence, acknowledgement, data offset 5, flags, window, checksum, urgent pointer of
            // TCP; for the other protocols just payload.
            segment.extend([0, 0, 0, back as u8, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0]);
            if self.v6 {
                f.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                let mut extensions = Vec::new();
                let mut first = self.protocol;
                if self.fragment {
                    // Fragment header: next header, reserved, offset 0 with "more fragments",
                    // identification.
                    extensions.extend([first, 0, 0, 1, 0, 0, 0, 9]);
                    first = 44;
                }
                if self.extension {
                    // Hop-by-hop options: next header, length 0 (8 bytes), PadN of 4.
                    extensions.splice(0..0, [first, 0, 1, 4, 0, 0, 0, 0]);
                    first = 0;
                }
                f.extend(((extensions.len() + segment.len()) as u16).to_be_bytes());
                f.extend([first, 64]);
                f.extend(self.addresses[from].to_be_bytes());
                f.extend(self.addresses[to].to_be_bytes());
                f.extend(extensions);
            } else {
                f.extend([0x08, 0x00]);
                let options: &[u8] = if self.extension { &[1, 1, 1, 0] } else { &[] };
                f.extend([0x45 + (options.len() / 4) as u8, 0]);
                f.extend(((20 + options.len() + segment.len()) as u16).to_be_bytes());
                f.extend([0, 9, if self.fragment { 0x20 } else { 0x40 }, 0, 64, self.protocol, 0, 0]);
                f.extend((self.addresses[from] as u32).to_be_bytes());
                f.extend((self.addresses[to] as u32).to_be_bytes());
                f.extend(options);
            }
            f.extend(segment);
            f
        }
    }

    fn talks() -> impl Strategy<Value = Talk> {
        let protocol = prop_oneof![Just(6u8), Just(17), Just(132), Just(1), Just(58), Just(47)];
        (any::<bool>(), any::<[u128; 2]>(), any::<[u16; 2]>(), protocol, 0..=3usize, any::<bool>(), any::<bool>())
            .prop_map(|(v6, addresses, ports, protocol, tags, extension, fragment)| Talk {
                v6,
                addresses,
                ports,
                protocol,
                tags,
                extension,
                fragment,
            })
    }

    fn web() -> Talk {
        Talk {
            v6: false,
            addresses: [0x0a00_0001, 0x0a00_0002],
            ports: [49152, 443],
            protocol: 6,
            tags: 0,
            extension: false,
            fragment: false,
        }
    }

    proptest! {
        #[test]
        fn both_directions_meet(talk in talks()) {
            prop_assert_eq!(symmetric_hash(&talk.frame(false)), symmetric_hash(&talk.frame(true)));
        }

        #[test]
        fn tags_and_extensions_do_not_count(talk in talks()) {
            let plain = Talk { tags: 0, extension: false, ..talk.clone() };
            prop_assert_eq!(symmetric_hash(&talk.frame(false)), symmetric_hash(&plain.frame(false)));
        }

        #[test]
        fn fragments_leave_ports_out(talk in talks(), ports: [u16; 2]) {
            let one = Talk { fragment: true, ..talk };
            let other = Talk { ports, ..one.clone() };
            prop_assert_eq!(symmetric_hash(&one.frame(false)), symmetric_hash(&other.frame(true)));
        }

        #[test]
        fn all_of_two_hosts_and_a_protocol_meet(talk in talks(), ports: [u16; 2], tags in 0..=3usize) {
            let hash = hosts_hash(&talk.frame(false));
            prop_assert!(hash.is_some());
            let fragment = Talk { fragment: !talk.fragment, ..talk.clone() };
            let other = Talk { ports, tags, extension: !talk.extension, ..talk };
            prop_assert_eq!(hash, hosts_hash(&fragment.frame(true)));
            prop_assert_eq!(hash, hosts_hash(&other.frame(true)));
        }

        #[test]
        fn an_icmp_error_meets_the_conversation_it_is_about(talk in talks(), router: u32, kept in 0..40usize, back: bool) {
            let about = talk.frame(back);
            let at = 14 + 4 * talk.tags;
            // The IP header and some of what follows.
            let whole = if talk.v6 { 40 + 8 * (usize::from(talk.extension) + usize::from(talk.fragment)) } else { 24 };
            let quoted = &about[at..about.len().min(at + whole + kept)];
            let error = Talk { v6: false, addresses: [router.into(), talk.addresses[0]], protocol: 1, tags: 0, extension: false, fragment: false, ..talk.clone() };
            let mut frame = error.frame(false);
            frame.truncate(14 + 20);
            frame.extend([11, 0, 0, 0, 0, 0, 0, 0]);
            frame.extend(quoted);
            let length = (frame.len() - 14) as u16;
            frame[16..18].copy_from_slice(&length.to_be_bytes());
            prop_assert_eq!(hosts_hash(&frame), hosts_hash(&about));
        }

        #[test]
        fn any_bytes_have_a_port(frame in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(outer_source_port(&frame) >= FIRST_SOURCE_PORT);
            let _ = hosts_hash(&frame);
        }

        #[test]
        fn any_cut_has_a_port(talk in talks(), keep in 0..100usize) {
            let frame = talk.frame(false);
            prop_assert!(outer_source_port(&frame[..keep.min(frame.len())]) >= FIRST_SOURCE_PORT);
        }
    }

    #[test]
    fn each_part_of_the_flow_counts() {
        let web = web();
        let variants = [
            web.clone(),
            Talk { ports: [49153, 443], ..web.clone() },
            // The talk has the same addresses and the same ports, but paired the other way.
            Talk { ports: [443, 49152], ..web.clone() },
            Talk { addresses: [0x0a00_0001, 0x0a00_0003], ..web.clone() },
            Talk { protocol: 17, ..web.clone() },
            Talk { fragment: true, ..web.clone() },
            Talk { v6: true, addresses: [1 << 100, 2 << 100], ..web.clone() },
        ];
        let mut hashes: Vec<u32> = variants.iter().map(|t| symmetric_hash(&t.frame(false))).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), variants.len());
    }

    #[test]
    fn other_protocols_ignore_what_looks_like_ports() {
        let ping = Talk { protocol: 1, ports: [0x0800, 1], ..web() };
        let pong = Talk { ports: [0x0000, 2], ..ping.clone() };
        assert_eq!(symmetric_hash(&ping.frame(false)), symmetric_hash(&pong.frame(true)));
    }

    #[test]
    fn a_frame_that_is_not_ip_counts_its_macs_and_type() {
        let frame = |to: u8, from: u8, kind: u16| {
            let mut f = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from];
            f.extend(kind.to_be_bytes());
            f.extend([0; 46]);
            f
        };
        let lldp = symmetric_hash(&frame(1, 2, 0x88cc));
        assert_eq!(lldp, symmetric_hash(&frame(2, 1, 0x88cc)));
        assert_eq!(hosts_hash(&frame(1, 2, 0x88cc)), None);
        assert_ne!(lldp, symmetric_hash(&frame(1, 3, 0x88cc)));
        assert_ne!(lldp, symmetric_hash(&frame(1, 2, 0x88b5)));
        // The frames are ARP, and IPv4 whose header cannot be read.
        assert_ne!(symmetric_hash(&frame(1, 2, 0x0806)), symmetric_hash(&frame(1, 2, 0x0800)));
    }

    #[test]
    fn flows_spread_evenly_over_the_ports() {
        // The flows of a busy service: neighbouring addresses and ports, the hard case for a weak
        // hash.
        let mut hits = [0u32; 128];
        for n in 0..12_800u32 {
            let talk = Talk {
                addresses: [u128::from(0x0a00_0000 + n % 16), 0x0a01_0001],
                ports: [32768 + (n / 16) as u16, 443],
                ..web()
            };
            hits[usize::from(outer_source_port(&talk.frame(n % 2 == 0)) - FIRST_SOURCE_PORT)] += 1;
        }
        // 100 expected for each port; five standard deviations either way.
        assert!(hits.iter().all(|&h| (50..=150).contains(&h)), "{hits:?}");
    }
}
