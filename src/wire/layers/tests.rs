use etherparse::{IpNumber, LaxNetSlice, LaxSlicedPacket};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What etherparse says of the same frame, as far as it can be compared.
#[derive(Debug, PartialEq)]
struct Read {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    fragmented: bool,
    /// What is behind the headers of layer 3.
    segment: Vec<u8>,
}

fn by_etherparse(packet: &LaxSlicedPacket<'_>) -> Option<Read> {
    let (source, destination, payload) = match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into(), ip.payload())
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into(), ip.payload())
        }
        _ => return None,
    };
    let IpNumber(protocol) = payload.ip_number;
    Some(Read { source, destination, protocol, fragmented: payload.fragmented, segment: payload.payload.to_vec() })
}

fn by_layers(frame: &[u8], layers: &Layers) -> Option<Read> {
    let ip = layers.ip?;
    Some(Read {
        source: ip.source,
        destination: ip.destination,
        protocol: ip.protocol,
        fragmented: ip.fragment != Fragment::Whole,
        segment: ip.segment(frame).to_vec(),
    })
}

/// A packet as test input: a chain of headers, then a segment, some bytes behind, and cut.
#[derive(Debug, Clone)]
struct Packet {
    tags: Vec<u16>,
    v6: bool,
    options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    fragment: u16,
    protocol: u8,
    segment: Vec<u8>,
    padding: usize,
}

impl Packet {
    fn new(v6: bool, protocol: u8, segment: &[u8]) -> Packet {
        let segment = segment.to_vec();
        Packet { tags: vec![], v6, options: vec![], extensions: vec![], fragment: 0, protocol, segment, padding: 0 }
    }

    /// The IP packet without what pads the frame.
    fn ip(&self) -> Vec<u8> {
        let mut body = self.segment.clone();
        let mut next = self.protocol;
        for (kind, content) in self.extensions.iter().rev().filter(|(kind, _)| self.v6 || *kind == 51) {
            let mut header = vec![next, 0];
            header.extend(content);
            match kind {
                44 => {
                    header.truncate(2);
                    // Bit 13 of IPv4 is bit 0 here, and the offset stands 3 bits higher.
                    header.extend(((self.fragment & 0x1fff) << 3 | self.fragment >> 13 & 1).to_be_bytes());
                    header.extend([0, 0, 0, 9]);
                }
                51 => {
                    header.resize(12 + content.len() / 4 * 4, 0);
                    header[1] = (header.len() / 4 - 2) as u8;
                }
                _ => {
                    header.resize(header.len().next_multiple_of(8), 0);
                    header[1] = (header.len() / 8 - 1) as u8;
                }
            }
            body.splice(0..0, header);
            next = *kind;
        }
        let mut ip = Vec::new();
        if self.v6 {
            ip.extend([0x60, 0, 0, 0]);
            ip.extend((body.len() as u16).to_be_bytes());
            ip.extend([next, 64]);
            ip.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            ip.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        } else {
            let options = self.options.len() / 4 * 4;
            ip.extend([0x45 + (options / 4) as u8, 0]);
            ip.extend(((20 + options + body.len()) as u16).to_be_bytes());
            ip.extend([0, 9]);
            ip.extend(self.fragment.to_be_bytes());
            ip.extend([64, next, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            ip.extend(&self.options[..options]);
        }
        ip.extend(body);
        ip
    }

    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for tag in &self.tags {
            frame.extend(tag.to_be_bytes());
            frame.extend([0, 7]);
        }
        frame.extend(if self.v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
        frame.extend(self.ip());
        frame.resize(frame.len() + self.padding, 0);
        frame
    }
}

fn packets() -> impl Strategy<Value = Packet> {
    let tags = vec(prop_oneof![Just(0x8100u16), Just(0x88a8), Just(0x9100)], 0..4);
    let kind = prop_oneof![Just(0u8), Just(43), Just(44), Just(51), Just(60)];
    let protocol = prop_oneof![Just(6u8), Just(17), Just(132), Just(1), Just(58), Just(47), any::<u8>()];
    // Whole, first, later and last fragment.
    let fragment = prop_oneof![4 => Just(0u16), 1 => Just(0x2000), 1 => Just(0x2005), 1 => Just(7)];
    let extensions = vec((kind, vec(any::<u8>(), 0..30)), 0..4);
    (tags, any::<bool>(), vec(any::<u8>(), 0..=40), extensions, fragment, protocol, vec(any::<u8>(), 0..90), 0..20usize)
        .prop_map(|(tags, v6, options, extensions, fragment, protocol, segment, padding)| Packet {
            tags,
            v6,
            options,
            extensions,
            fragment,
            protocol,
            segment,
            padding,
        })
}

/// Frames of such packets, some cut, some with bytes changed, and noise.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let packet =
        (packets(), changes, prop::option::of(any::<prop::sample::Index>())).prop_map(|(packet, changes, cut)| {
            let mut frame = packet.frame();
            for (at, byte) in changes {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            if let Some(cut) = cut {
                frame.truncate(cut.index(frame.len()));
            }
            frame
        });
    prop_oneof![8 => packet, 1 => vec(any::<u8>(), 0..200)]
}

/// Says whether etherparse reads the frame by the same rules. It steps over MACsec, takes none of
/// the packet where options of IPv4 are cut, looks for extension headers in later fragments, and
/// believes the version in the packet where the EtherType has another.
fn comparable(frame: &[u8], layers: &Layers) -> bool {
    let later = layers.ip.is_some_and(|ip| ip.fragment == Fragment::Later && ip.source.is_ipv6());
    let cut = layers.ip.is_some_and(|ip| ip.transport > frame.len());
    let version = frame.get(layers.network).map(|byte| byte >> 4);
    let other = matches!((layers.ethertype, version), (0x0800, Some(6)) | (0x86dd, Some(4)));
    layers.ethertype != 0x88e5 && !later && !cut && !other
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn reads_what_etherparse_reads(frame in frames()) {
        let layers = Layers::of(&frame, LinkType::Ethernet);
        if let Some(packet) = LaxSlicedPacket::from_ethernet(&frame).ok().filter(|_| comparable(&frame, &layers)) {
            prop_assert_eq!(by_layers(&frame, &layers), by_etherparse(&packet));
        }
    }

    #[test]
    fn a_bare_packet_is_read_as_one_in_a_frame(frame in frames()) {
        let layers = Layers::of(&frame, LinkType::Ethernet);
        if let Some(ip) = layers.ip {
            let bare = Layers::of_ip(&frame[layers.network..]);
            let moved = |n: usize| n - layers.network;
            let expected = Ip { transport: moved(ip.transport), payload: moved(ip.payload), end: moved(ip.end), ..ip };
            prop_assert_eq!(bare.ip, Some(expected));
            prop_assert_eq!((bare.ethertype, bare.network), (layers.ethertype, 0));
        }
    }

    #[test]
    fn the_layers_lie_behind_each_other(frame in frames()) {
        let layers = Layers::of(&frame, LinkType::Ethernet);
        prop_assert!((14..=26).contains(&layers.network));
        if let Some(ip) = layers.ip {
            prop_assert!(layers.network + 20 <= ip.transport && ip.transport <= ip.payload);
            prop_assert!(ip.payload - ip.transport <= 60);
            prop_assert!(ip.end > layers.network);
            prop_assert!(ip.segment(&frame).ends_with(ip.payload(&frame)));
            prop_assert!(ip.ports.is_none() || ip.fragment != Fragment::Later);
        }
    }

    #[test]
    fn a_cut_frame_is_read_as_far_as_it_goes(packet in packets(), cut: prop::sample::Index) {
        let frame = packet.frame();
        let kept = &frame[..cut.index(frame.len() + 1)];
        let (whole, part) = (Layers::of(&frame, LinkType::Ethernet), Layers::of(kept, LinkType::Ethernet));
        let whole_at = whole.network;
        if let (Some(whole), Some(part)) = (whole.ip, part.ip) {
            prop_assert_eq!((part.source, part.destination), (whole.source, whole.destination));
            // A packet that does not say its length ends with the frame.
            let is_open = whole.source.is_ipv6() && frame[whole_at + 4..whole_at + 6] == [0, 0];
            prop_assert!(is_open || part.end == whole.end);
            if kept.len() >= whole.payload && !is_open {
                prop_assert_eq!(part, whole);
            }
        }
        prop_assert!(kept.len() < whole.network + 40 || part.ip.is_some() == whole.ip.is_some());
    }
}

/// Layers as offsets behind the Ethernet header: layer 3, layer 4, payload, end.
fn offsets(frame: &[u8]) -> [usize; 4] {
    let layers = Layers::of(frame, LinkType::Ethernet);
    let ip = layers.ip.unwrap();
    [layers.network, ip.transport, ip.payload, ip.end].map(|offset| offset - 14)
}

#[test]
fn tcp_with_options_has_ports_and_flags() {
    let mut segment = vec![0x01, 0xbb, 0xc0, 0x00, 0, 0, 0, 1, 0, 0, 0, 2, 0x80, 0x12, 0, 0, 0, 0, 0, 0];
    segment.extend([1; 12]);
    segment.extend(b"payload");
    let frame = Packet { padding: 3, ..Packet::new(false, 6, &segment) }.frame();
    let ip = Layers::of(&frame, LinkType::Ethernet).ip.unwrap();
    assert_eq!(offsets(&frame), [0, 20, 52, 59]);
    assert_eq!((ip.ports, ip.payload(&frame)), (Some([443, 49152]), &b"payload"[..]));
    assert!(ip.flags.any(TcpFlags::SYN) && !ip.flags.any(TcpFlags::FIN) && !ip.flags.any(TcpFlags::RST));
    // Cut within the header: ports and flags are there, its end is not.
    let ip = Layers::of(&frame[..14 + 20 + 14], LinkType::Ethernet).ip.unwrap();
    assert_eq!((ip.ports, ip.flags.0, ip.payload), (Some([443, 49152]), 0x12, 14 + 52));
    let ip = Layers::of(&frame[..14 + 20 + 3], LinkType::Ethernet).ip.unwrap();
    assert_eq!((ip.ports, ip.flags.0, ip.payload), (None, 0, 14 + 40));
}

#[test]
fn headers_of_other_protocols() {
    for (protocol, header) in [(17, 8), (132, 12), (1, 8), (58, 8), (47, 0), (50, 0), (59, 0)] {
        for v6 in [false, true] {
            let frame = Packet::new(v6, protocol, &[0; 30]).frame();
            let at = if v6 { 40 } else { 20 };
            assert_eq!(offsets(&frame), [0, at, at + header, at + 30], "{protocol}");
        }
    }
}

#[test]
fn up_to_three_tags_are_stepped_over() {
    for tags in 0..=4 {
        let frame = Packet { tags: vec![0x8100; tags], ..Packet::new(false, 17, &[0; 8]) }.frame();
        let layers = Layers::of(&frame, LinkType::Ethernet);
        let expected = if tags > 3 { (26, 0x8100, false) } else { (14 + 4 * tags, 0x0800, true) };
        assert_eq!((layers.network, layers.ethertype, layers.ip.is_some()), expected, "{tags}");
    }
}

#[test]
fn a_chain_of_extension_headers_is_stepped_over_and_bounded() {
    let chain = vec![(0, vec![0; 6]), (60, vec![0; 14]), (43, vec![0; 6]), (44, vec![]), (51, vec![0; 4])];
    let packet = Packet { extensions: chain, ..Packet::new(true, 17, &[0, 53, 1, 0, 0, 0, 0, 0]) };
    assert_eq!(offsets(&packet.frame()), [0, 40 + 8 + 16 + 8 + 8 + 16, 40 + 56 + 8, 40 + 56 + 8]);
    let long = |count| Packet { extensions: vec![(60, vec![0; 6]); count], ..packet.clone() }.frame();
    let protocol = |frame: &[u8]| Layers::of(frame, LinkType::Ethernet).ip.unwrap().protocol;
    assert_eq!((protocol(&long(16)), protocol(&long(17))), (17, 60));
    // Hop-by-hop options that do not come first are no header that anyone would follow.
    let late = Packet { extensions: vec![(60, vec![0; 6]), (0, vec![0; 6])], ..packet };
    assert_eq!(protocol(&late.frame()), 0);
}

#[test]
fn fragments() {
    for v6 in [false, true] {
        let extensions = vec![(44, vec![])];
        let packet = Packet { extensions, ..Packet::new(v6, 17, &[0, 53, 1, 0, 0, 0, 0, 0, 9, 9]) };
        let at = if v6 { 48 } else { 20 };
        for (fragment, part, header) in [
            (0, Fragment::Whole, 8),
            (0x2000, Fragment::First, 8),
            (0x2001, Fragment::Later, 0),
            (1, Fragment::Later, 0),
        ] {
            let frame = Packet { fragment, ..packet.clone() }.frame();
            let ip = Layers::of(&frame, LinkType::Ethernet).ip.unwrap();
            assert_eq!((ip.fragment, ip.ports.is_some()), (part, header > 0));
            assert_eq!(offsets(&frame), [0, at, at + header, at + 10]);
        }
    }
}

#[test]
fn a_length_field_that_says_nothing_is_the_end_of_the_frame() {
    for (v6, field, said) in [(false, 16..18, 0u16), (false, 16..18, 19), (true, 18..20, 0)] {
        let mut frame = Packet::new(v6, 17, &[0; 40]).frame();
        frame[field].copy_from_slice(&said.to_be_bytes());
        assert_eq!(Layers::of(&frame, LinkType::Ethernet).ip.unwrap().end, frame.len());
    }
}
