//! The outer packet is a whole Ethernet frame, and has a UDP payload.
//!
//! A UDP socket hands over payloads; a capture file holds frames. This module leads from one to the
//! other, for captures of mirror traffic: Ethernet, VLAN tags, IPv4 with options or IPv6 with
//! extension headers, UDP. etherparse slices the headers. What it leaves lax on purpose is decided
//! here, because a capture must yield what a socket would have:
//!
//! - The payload ends where the **UDP length** ends. A short frame is padded to 60 bytes and some
//!   devices append a trailer; a datagram may also be shorter than its IP payload. None of that is
//!   part of the inner frame.
//! - A UDP length beyond the IP payload, or below the 8 bytes of its own header, is malformed. That
//!   includes 0, which etherparse reads as "to the end of the slice": only an IPv6 jumbogram means
//!   that (RFC 2675 section 4).
//! - A **fragment** is never a datagram. The first one would parse and yield half a frame, the
//!   others would yield noise.
//! - A frame whose end the capture did not keep is told apart from a malformed one, since the cure
//!   is different.
//!
//! Checksums are not verified: mirrors over IPv6 send zero (RFC 6935), captures on a sender hold
//! unfinished ones, and a frame is evidence either way.
//!
//! ```
//! use vxtap::wire::outer::{self, OuterError};
//!
//! let arp = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 1, 0x08, 0x06];
//! assert_eq!(outer::udp(&arp), Err(OuterError::NotIp));
//! ```

use std::net::IpAddr;

use etherparse::{
    EtherType, Ethernet2Slice, LaxIpPayloadSlice, LaxIpv4Slice, LaxIpv6Slice, LenSource, SingleVlanSlice, UdpHeader,
    UdpHeaderSlice, UdpSlice, ip_number,
};

use super::inner::{MAX_VLAN_TAGS, is_vlan};
use super::reason::reasons;

/// A UDP datagram within an Ethernet frame: a view of that frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp<'a> {
    /// IP source address.
    pub source: IpAddr,
    /// UDP source port.
    pub source_port: u16,
    /// IP destination address.
    pub destination: IpAddr,
    /// UDP destination port.
    pub destination_port: u16,
    /// The bytes behind the UDP header, up to the UDP length: 0 to 65527 bytes.
    pub payload: &'a [u8],
}

reasons! {
    /// The reason why a frame yields no UDP datagram.
    pub enum OuterError {
        /// The frame ends before what its headers announce, as in a capture taken with a small
        /// snaplen.
        CutShort = "cut_short",
        /// Neither IPv4 nor IPv6 after the Ethernet header and up to [`MAX_VLAN_TAGS`] VLAN tags.
        NotIp = "not_ip",
        /// An IP header that contradicts itself: version, header length, total length, or order of
        /// extension headers.
        BadIpHeader = "bad_ip_header",
        /// Another transport protocol than UDP.
        NotUdp = "not_udp",
        /// A fragment of an IP packet: it holds a part of a datagram at best.
        OuterFragment = "outer_fragment",
        /// The UDP length is below the 8 bytes of the UDP header or beyond the IP payload.
        BadUdpLength = "bad_udp_length",
    }
}

/// Finds the UDP datagram in a whole Ethernet frame without its frame check sequence.
///
/// # Errors
///
/// One [`OuterError`] per way not to be a whole UDP datagram over IP. The protocol is judged first,
/// so a TCP segment is [`NotUdp`](OuterError::NotUdp) even when it is a fragment or cut short.
pub fn udp(frame: &[u8]) -> Result<Udp<'_>, OuterError> {
    let ethernet = Ethernet2Slice::from_slice_without_fcs(frame).map_err(|_| OuterError::CutShort)?;
    udp_behind(ethernet.ether_type().0, ethernet.payload_slice())
}

/// Finds the UDP datagram in what an EtherType announces.
///
/// # Errors
/// As those of [`udp`].
pub(super) fn udp_behind(ethertype: u16, mut rest: &[u8]) -> Result<Udp<'_>, OuterError> {
    let mut ethertype = EtherType(ethertype);
    for _ in 0..MAX_VLAN_TAGS {
        if !is_vlan(ethertype.0) {
            break;
        }
        let tag = SingleVlanSlice::from_slice(rest).map_err(|_| OuterError::CutShort)?;
        (ethertype, rest) = (tag.ether_type(), tag.payload_slice());
    }
    match ethertype {
        EtherType::IPV4 => {
            use etherparse::err::ipv4::HeaderSliceError as Error;
            let (ip, stopped) = LaxIpv4Slice::from_slice(rest).map_err(|error| match error {
                Error::Len(_) => OuterError::CutShort,
                Error::Content(_) => OuterError::BadIpHeader,
            })?;
            let (source, destination) = (ip.header().source_addr(), ip.header().destination_addr());
            datagram(source.into(), destination.into(), ip.payload(), stopped.is_some())
        }
        EtherType::IPV6 => {
            use etherparse::err::ipv6::HeaderSliceError as Error;
            let (ip, stopped) = LaxIpv6Slice::from_slice(rest).map_err(|error| match error {
                Error::Len(_) => OuterError::CutShort,
                Error::Content(_) => OuterError::BadIpHeader,
            })?;
            let (source, destination) = (ip.header().source_addr(), ip.header().destination_addr());
            datagram(source.into(), destination.into(), ip.payload(), stopped.is_some())
        }
        _ => Err(OuterError::NotIp),
    }
}

/// Finds the datagram in this IP payload; `stopped` when an extension header could not be read to
/// its end.
fn datagram<'a>(
    source: IpAddr,
    destination: IpAddr,
    ip: &LaxIpPayloadSlice<'a>,
    stopped: bool,
) -> Result<Udp<'a>, OuterError> {
    // Behind the extension header of a later fragment is the middle of something: it need not parse
    // as what it claims.
    if ip.fragmented && (stopped || ip.ip_number == ip_number::UDP) {
        return Err(OuterError::OuterFragment);
    }
    if stopped {
        return Err(if ip.incomplete { OuterError::CutShort } else { OuterError::BadIpHeader });
    }
    if ip.ip_number != ip_number::UDP {
        return Err(OuterError::NotUdp);
    }
    // The length field was not usable although nothing is missing: less than the header in IPv4, 0
    // in IPv6.
    if ip.len_source == LenSource::Slice && !ip.incomplete {
        return Err(OuterError::BadIpHeader);
    }
    let short = if ip.incomplete { OuterError::CutShort } else { OuterError::BadUdpLength };
    let header = UdpHeaderSlice::from_slice(ip.payload).map_err(|_| short)?;
    if usize::from(header.length()) < UdpHeader::LEN {
        return Err(OuterError::BadUdpLength);
    }
    let udp = UdpSlice::from_slice(ip.payload).map_err(|_| short)?;
    Ok(Udp {
        source,
        source_port: udp.source_port(),
        destination,
        destination_port: udp.destination_port(),
        payload: udp.payload(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETHERNET: [u8; 14] = [0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00];
    #[rustfmt::skip]
    const IPV4: [u8; 20] = [
        // version and IHL, TOS, total length 32
        0x45, 0x00, 0x00, 32,
        // identification, DF and offset 0
        0x00, 0x00, 0x40, 0x00,
        // TTL, UDP, checksum
        0xff, 17, 0x00, 0x00,
        172, 31, 0, 1,  172, 31, 0, 2,
    ];
    #[rustfmt::skip]
    const IPV6: [u8; 40] = [
        // version, traffic class, flow label; payload length 12, UDP, hop limit
        0x60, 0, 0, 0,  0, 12,  17,  0xff,
        // fd00::1, fd00::2
        0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
    ];
    #[rustfmt::skip]
    const UDP: [u8; 12] = [
        // ports 65410 and 4789, length 12, no checksum
        0xff, 0x82,  0x12, 0xb5,  0x00, 12,  0x00, 0x00,
        // payload
        0xde, 0xad, 0xbe, 0xef,
    ];

    fn v4() -> Vec<u8> {
        [ETHERNET.as_slice(), &IPV4, &UDP].concat()
    }

    fn v6() -> Vec<u8> {
        let mut frame = [ETHERNET.as_slice(), &IPV6, &UDP].concat();
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame
    }

    /// Makes an IPv6 frame with this extension header, of this number, between IP and UDP.
    fn v6_with(number: u8, extension: &[u8]) -> Vec<u8> {
        let mut frame = v6();
        frame.splice(54..54, extension.iter().copied());
        frame[19] += extension.len() as u8;
        frame[20] = number;
        frame
    }

    #[track_caller]
    fn assert_found(frame: &[u8]) {
        let udp = udp(frame).unwrap();
        assert_eq!((udp.source_port, udp.destination_port, udp.payload), (65410, 4789, &UDP[8..]));
    }

    #[test]
    fn ipv4() {
        let frame = v4();
        assert_found(&frame);
        let udp = udp(&frame).unwrap();
        assert_eq!(udp.source, IpAddr::from([172, 31, 0, 1]));
        assert_eq!(udp.destination, IpAddr::from([172, 31, 0, 2]));
    }

    #[test]
    fn ipv6() {
        let frame = v6();
        assert_found(&frame);
        let udp = udp(&frame).unwrap();
        assert_eq!(udp.source, "fd00::1".parse::<IpAddr>().unwrap());
        assert_eq!(udp.destination, "fd00::2".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn vlan_tags_are_stepped_over() {
        let mut frame = v4();
        for tag in [[0x81, 0x00, 0x00, 0x0a], [0x88, 0xa8, 0x00, 0x64], [0x91, 0x00, 0x00, 0x01]] {
            frame.splice(12..12, tag);
            assert_found(&frame);
        }
        for _ in 3..MAX_VLAN_TAGS {
            frame.splice(12..12, [0x81, 0x00, 0x00, 0x0a]);
        }
        assert_found(&frame);
        frame.splice(12..12, [0x81, 0x00, 0x00, 0x0a]);
        assert_eq!(udp(&frame), Err(OuterError::NotIp));
    }

    #[test]
    fn ipv4_options_are_stepped_over() {
        let mut frame = v4();
        frame.splice(34..34, [0x94, 0x04, 0x00, 0x00]); // router alert
        frame[14] = 0x46;
        frame[17] += 4;
        assert_found(&frame);
    }

    #[test]
    fn ipv6_extension_headers_are_stepped_over() {
        assert_found(&v6_with(0, &[17, 0, 5, 2, 0, 0, 1, 0])); // hop by hop: router alert
        assert_found(&v6_with(60, &[17, 0, 1, 4, 0, 0, 0, 0])); // destination options: padding
        assert_found(&v6_with(44, &[17, 0, 0, 0, 0, 0, 0, 1])); // fragment 0 of 1, legal and whole (RFC 6946)
        // A hop-by-hop header after destination options is out of order.
        let frame = v6_with(60, &[0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0]);
        assert_eq!(udp(&frame), Err(OuterError::BadIpHeader));
    }

    #[test]
    fn bytes_after_the_datagram_are_not_part_of_it() {
        for mut frame in [v4(), v6()] {
            frame.extend([0xaa; 18]); // Ethernet padding
            assert_found(&frame);
        }
        let mut frame = v4();
        frame.extend([0xaa; 18]);
        frame[17] += 18; // now the IP payload is longer than the datagram
        assert_found(&frame);
    }

    #[test]
    fn the_udp_length_must_fit() {
        for (at, mut frame) in [(14 + 20 + 5, v4()), (14 + 40 + 5, v6())] {
            frame.extend([0xaa; 18]); // a longer datagram would find bytes, but none of its own
            for length in 0..=255 {
                frame[at] = length;
                match length {
                    8..=12 => assert_eq!(udp(&frame).unwrap().payload, &UDP[8..usize::from(length)]),
                    _ => assert_eq!(udp(&frame), Err(OuterError::BadUdpLength), "{length}"),
                }
            }
        }
    }

    #[test]
    fn an_ip_payload_below_8_bytes_holds_no_udp_header() {
        let mut frame = v4();
        frame[17] = 20 + 7;
        assert_eq!(udp(&frame), Err(OuterError::BadUdpLength));
    }

    #[test]
    fn fragments_are_never_a_datagram() {
        let mut first = v4();
        first[20] = 0x20; // more fragments
        assert_eq!(udp(&first), Err(OuterError::OuterFragment));
        let mut last = v4();
        last[20..22].copy_from_slice(&[0x00, 0xb9]); // offset 185 x 8
        assert_eq!(udp(&last), Err(OuterError::OuterFragment));

        assert_eq!(udp(&v6_with(44, &[17, 0, 0, 1, 0, 0, 0, 1])), Err(OuterError::OuterFragment));
        assert_eq!(udp(&v6_with(44, &[17, 0, 0x05, 0xc8, 0, 0, 0, 1])), Err(OuterError::OuterFragment));
        // This is a later fragment of a packet with destination options: what looks like their
        // length is payload.
        assert_eq!(udp(&v6_with(44, &[60, 0, 0x05, 0xc8, 0, 0, 0, 1])), Err(OuterError::OuterFragment));
        // Fragments of other protocols are none of ours.
        last[23] = 6;
        assert_eq!(udp(&last), Err(OuterError::NotUdp));
    }

    #[test]
    fn a_frame_cut_anywhere_is_cut_short() {
        for frame in [v4(), v6(), v6_with(60, &[17, 0, 1, 4, 0, 0, 0, 0])] {
            for length in 0..frame.len() {
                assert_eq!(udp(&frame[..length]), Err(OuterError::CutShort), "{length} of {}", frame.len());
            }
        }
    }

    #[test]
    fn contradictions_in_the_ip_header() {
        for (at, value) in [(14, 0x65), (14, 0x44), (17, 19), (17, 0)] {
            let mut frame = v4();
            frame[at] = value;
            assert_eq!(udp(&frame), Err(OuterError::BadIpHeader), "byte {at} = {value:#x}");
        }
        for (at, value) in [(14, 0x45), (19, 0)] {
            let mut frame = v6();
            frame[at] = value;
            assert_eq!(udp(&frame), Err(OuterError::BadIpHeader), "byte {at} = {value:#x}");
        }
    }

    #[test]
    fn other_protocols() {
        let mut frame = v4();
        frame[23] = 6; // TCP
        assert_eq!(udp(&frame), Err(OuterError::NotUdp));
        let mut frame = v6();
        frame[20] = 58; // ICMPv6
        assert_eq!(udp(&frame), Err(OuterError::NotUdp));
        for ethertype in [0x0806u16, 0x8847, 0x05dc] {
            frame[12..14].copy_from_slice(&ethertype.to_be_bytes()); // ARP, MPLS, an 802.3 length
            assert_eq!(udp(&frame), Err(OuterError::NotIp));
        }
    }

    #[test]
    fn labels_are_distinct_and_in_order() {
        for (index, error) in OuterError::ALL.into_iter().enumerate() {
            assert_eq!(error as usize, index);
            assert!(OuterError::ALL[..index].iter().all(|other| other.label() != error.label()));
        }
    }
}
