//! The inner frame says how long it was before the mirror cut it.
//!
//! A mirror cuts what it cannot carry: a packet larger than the target's MTU minus the
//! encapsulation, or longer than the packet length a mirror session asks for. The datagram that
//! arrives is well formed and says nothing about the cut, and neither does anything in the
//! encapsulation; but the inner IP header still holds the length the packet had. A capture whose
//! records say so (`len` above `caplen`) is read by every analyser as "snapped"; one that does not
//! is read as corrupt.
//!
//! [`original_length`] is a hint taken from bytes that anyone may have written, so it never refuses
//! a frame and never yields less than what is there. The lengths of an Ethernet trailer, of
//! link-layer protocols other than IP, and of IPv6 jumbograms cannot be known from IP, and for
//! these the answer is what arrived.
//!
//! The function runs once per packet and reads at most two fields past the VLAN tags. It reads them
//! by name and place: a general parser would check a dozen more that do not matter here.
//!
//! ```
//! use vxtap::wire::inner::original_length;
//!
//! let mut frame = [0u8; 128]; // what is left of a packet
//! frame[12..14].copy_from_slice(&[0x08, 0x00]); // Ethernet: IPv4
//! frame[14] = 0x45; // version 4, header length 5 words
//! frame[16..18].copy_from_slice(&1500u16.to_be_bytes()); // IPv4 total length
//! assert_eq!(original_length(&frame), 14 + 1500);
//! assert_eq!(original_length(&frame[..17]), 17); // cut before the length: nothing to recover from
//! ```

use std::net::IpAddr;

/// Length in bytes of an Ethernet header: two addresses and a type.
pub(crate) const ETHERNET_LEN: usize = 14;

/// The number of VLAN tags that are looked through before a frame counts as something else.
pub const MAX_VLAN_TAGS: usize = 8;

/// Bytes that an IEEE 802.1Q tag adds: two of tag control, and the two of the type that it
/// displaces.
const VLAN_TAG_LEN: usize = 4;

pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;

/// The places of fields in IPv4 (RFC 791 section 3.1) and IPv6 (RFC 8200 section 3) headers.
mod field {
    use std::ops::Range;

    /// High four bits: version. Low four bits of IPv4: header length in words of 4 bytes.
    pub(super) const VERSION_IHL: usize = 0;
    /// Bytes of header and payload, big-endian.
    pub(super) const V4_TOTAL_LENGTH: Range<usize> = 2..4;
    /// Bytes after the 40 of the fixed header, big-endian; 0 in a jumbogram (RFC 2675).
    pub(super) const V6_PAYLOAD_LENGTH: Range<usize> = 4..6;
    pub(super) const V6_HEADER_LEN: usize = 40;
    /// The source address, then the destination address.
    pub(super) const V4_ADDRESSES: Range<usize> = 12..20;
    pub(super) const V6_ADDRESSES: Range<usize> = 8..40;
}

/// Says whether this EtherType announces a VLAN tag: 802.1Q, 802.1ad, or the 0x9100 that came
/// before it.
#[inline]
#[must_use]
pub(crate) const fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

/// Says whether this frame has a tag of 802.1Q or 802.1ad and ends before what is tagged: its type
/// and two bytes more.
///
/// Linux takes such a tag off what an interface receives before any sniffer sees the frame, and
/// drops a frame that is too short for that (`skb_vlan_untag` in net/core/skbuff.c).
#[inline]
#[must_use]
pub(crate) fn is_runt_tagged(frame: &[u8]) -> bool {
    frame.len() < ETHERNET_LEN + VLAN_TAG_LEN + 2 && matches!(u16_at(frame, ETHERNET_LEN - 2), Some(0x8100 | 0x88a8))
}

/// Returns the length in bytes that this Ethernet frame had before it was cut. That is its own
/// length, or that of its Ethernet header and VLAN tags plus the length its IP header declares,
/// whichever is larger.
///
/// The function is total over all inputs: a frame too short to tell, of another protocol, with more
/// than [`MAX_VLAN_TAGS`] tags or with an impossible IP header has `frame.len()`. The result
/// exceeds `frame.len()` by less than 65536 + 40.
#[inline]
#[must_use]
pub fn original_length(frame: &[u8]) -> u32 {
    let captured = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    match declared_length(frame) {
        Some(declared) => captured.max(u32::try_from(declared).unwrap_or(captured)),
        None => captured,
    }
}

/// Returns the length in bytes that a packet of this EtherType had before it was cut, as
/// [`original_length`] does for a frame.
#[must_use]
pub fn original_packet_length(ethertype: u16, packet: &[u8]) -> u32 {
    let captured = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    match declared_packet_length(packet, 0, ethertype) {
        Some(declared) => captured.max(u32::try_from(declared).unwrap_or(captured)),
        None => captured,
    }
}

/// Returns the length in bytes that the frame should have by its IP header, or `None` if there is
/// none or it makes no sense.
#[inline]
fn declared_length(frame: &[u8]) -> Option<usize> {
    let (network, ethertype) = network(frame)?;
    declared_packet_length(frame, network, ethertype)
}

/// Returns where the packet that begins at `network` should end.
#[inline]
fn declared_packet_length(frame: &[u8], network: usize, ethertype: u16) -> Option<usize> {
    let version_ihl = *frame.get(network + field::VERSION_IHL)?;
    match (ethertype, version_ihl >> 4) {
        (ETHERTYPE_IPV4, 4) => {
            let header = usize::from(version_ihl & 0x0f) * 4;
            let total = usize::from(u16_at(frame, network + field::V4_TOTAL_LENGTH.start)?);
            // Segmentation offload leaves 0 here, and so may a forger: a length below its own
            // header is none.
            (header >= 20 && total >= header).then_some(network + total)
        }
        (ETHERTYPE_IPV6, 6) => {
            let payload = usize::from(u16_at(frame, network + field::V6_PAYLOAD_LENGTH.start)?);
            Some(network + field::V6_HEADER_LEN + payload)
        }
        _ => None,
    }
}

/// Finds the IP packet in an Ethernet frame, to the end of the frame: what follows the Ethernet
/// header and the VLAN tags, if the EtherType and the version agree that it is IPv4 or IPv6.
///
/// ```
/// use vxtap::wire::inner::ip_packet;
///
/// let mut frame = [0u8; 64];
/// frame[12..18].copy_from_slice(&[0x81, 0x00, 0, 7, 0x08, 0x00]); // VLAN 7, IPv4
/// frame[18] = 0x45;
/// assert_eq!(ip_packet(&frame), Some(&frame[18..]));
/// frame[18] = 0x65;
/// assert_eq!(ip_packet(&frame), None);
/// ```
#[inline]
#[must_use]
pub fn ip_packet(frame: &[u8]) -> Option<&[u8]> {
    let (network, ethertype) = network(frame)?;
    let packet = frame.get(network..)?;
    let version = packet.get(field::VERSION_IHL)? >> 4;
    matches!((ethertype, version), (ETHERTYPE_IPV4, 4) | (ETHERTYPE_IPV6, 6)).then_some(packet)
}

/// Returns source and destination of the IP packet in an Ethernet frame; `None` where there is no
/// packet, or where the frame ends within its addresses.
#[inline]
#[must_use]
pub(crate) fn addresses(frame: &[u8]) -> Option<[IpAddr; 2]> {
    fn both<const N: usize>(bytes: &[u8]) -> Option<[IpAddr; 2]>
    where
        IpAddr: From<[u8; N]>,
    {
        let (source, rest) = bytes.split_first_chunk::<N>()?;
        Some([(*source).into(), (*rest.first_chunk::<N>()?).into()])
    }
    let packet = ip_packet(frame)?;
    match packet.first()? >> 4 {
        4 => both::<4>(packet.get(field::V4_ADDRESSES)?),
        _ => both::<16>(packet.get(field::V6_ADDRESSES)?),
    }
}

/// Returns where the network header begins, and the EtherType that announces it.
#[inline]
fn network(frame: &[u8]) -> Option<(usize, u16)> {
    let mut network = ETHERNET_LEN;
    let mut ethertype = u16_at(frame, network - 2)?;
    let mut tags = 0;
    while is_vlan(ethertype) {
        if tags == MAX_VLAN_TAGS {
            return None;
        }
        tags += 1;
        network += VLAN_TAG_LEN;
        ethertype = u16_at(frame, network - 2)?;
    }
    Some((network, ethertype))
}

/// Returns the EtherType of an IP packet, by the version that its first four bits say; 0 where that
/// is none of IP.
#[inline]
pub(super) fn ethertype_of_ip(packet: &[u8]) -> u16 {
    match packet.first().map_or(0, |first| first >> 4) {
        4 => ETHERTYPE_IPV4,
        6 => ETHERTYPE_IPV6,
        _ => 0,
    }
}

/// Reads the big-endian number at this place, or `None` past the end.
#[inline]
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: [u8; 12] = [0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];

    /// Makes a frame of these parts after the Ethernet addresses, filled with zeros to `length`.
    fn frame(parts: &[&[u8]], length: usize) -> Vec<u8> {
        let mut bytes = [&ADDRESSES, parts.concat().as_slice()].concat();
        bytes.resize(length, 0);
        bytes
    }

    const IPV4: [u8; 2] = [0x08, 0x00];
    const IPV6: [u8; 2] = [0x86, 0xdd];
    /// Version 4, 5 words, type of service, total length 1500.
    const V4_1500: [u8; 4] = [0x45, 0x00, 0x05, 0xdc];
    /// Version 6, traffic class and flow label, payload length 1460.
    const V6_1460: [u8; 6] = [0x60, 0x00, 0x00, 0x00, 0x05, 0xb4];

    #[test]
    fn a_cut_packet_had_the_length_its_ip_header_says() {
        assert_eq!(original_length(&frame(&[&IPV4, &V4_1500], 96)), 14 + 1500);
        assert_eq!(original_length(&frame(&[&IPV6, &V6_1460], 96)), 14 + 40 + 1460);
    }

    #[test]
    fn addresses_of_both_versions_behind_tags() {
        let v4 = [&[0x45; 12][..], &[192, 0, 2, 1, 198, 51, 100, 2]].concat();
        let v4_frame = frame(&[&[0x81, 0, 0, 7], &IPV4, &v4], 64);
        assert_eq!(addresses(&v4_frame), Some([[192, 0, 2, 1].into(), [198, 51, 100, 2].into()]));
        assert_eq!(addresses(&v4_frame[..37]), None, "ends within the addresses");
        let (a, b): (std::net::Ipv6Addr, std::net::Ipv6Addr) =
            ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let v6 = [&[0x60; 8][..], &a.octets(), &b.octets()].concat();
        assert_eq!(addresses(&frame(&[&IPV6, &v6], 64)), Some([a.into(), b.into()]));
        assert_eq!(addresses(&frame(&[&[0x08, 0x06], &v4], 64)), None, "ARP");
    }

    #[test]
    fn vlan_tags_count_as_link_layer() {
        let tags: [&[u8]; 3] = [&[0x88, 0xa8, 0x00, 0x64], &[0x81, 0x00, 0x00, 0x0a], &[0x91, 0x00, 0xef, 0xff]];
        for count in 0..=tags.len() {
            let tags = tags[..count].concat();
            assert_eq!(original_length(&frame(&[&tags, &IPV4, &V4_1500], 96)), 14 + tags.len() as u32 + 1500);
            assert_eq!(original_length(&frame(&[&tags, &IPV6, &V6_1460], 96)), 14 + tags.len() as u32 + 1500);
        }
    }

    #[test]
    fn tags_are_bounded() {
        let tag = [0x81, 0x00, 0x00, 0x0a];
        assert_eq!(
            original_length(&frame(&[&tag.repeat(MAX_VLAN_TAGS), &IPV4, &V4_1500], 96)),
            14 + 4 * MAX_VLAN_TAGS as u32 + 1500
        );
        assert_eq!(original_length(&frame(&[&tag.repeat(MAX_VLAN_TAGS + 1), &IPV4, &V4_1500], 96)), 96);
        assert_eq!(original_length(&frame(&[&tag.repeat(1000)], 4012)), 4012);
    }

    #[test]
    fn a_runt_tagged_frame_ends_before_two_bytes_of_what_is_tagged() {
        for (tag, length, runt) in [
            ([0x81, 0], 14, true),
            ([0x88, 0xa8], 19, true),
            ([0x81, 0], 20, false),
            ([0x91, 0], 14, false),
            (IPV4, 14, false),
        ] {
            assert_eq!(is_runt_tagged(&frame(&[&tag], length)), runt, "{tag:02x?} {length}");
        }
        assert!(!is_runt_tagged(&frame(&[&[0x81, 0]], 13)), "no type");
    }

    #[test]
    fn a_whole_frame_keeps_its_length_trailer_included() {
        assert_eq!(original_length(&frame(&[&IPV4, &V4_1500], 1514)), 1514);
        assert_eq!(original_length(&frame(&[&IPV4, &[0x45, 0, 0, 40]], 60)), 60);
    }

    #[test]
    fn the_length_field_is_enough_but_needed() {
        // Ethernet 14, then the last byte of the field: 4th of IPv4, 6th of IPv6
        let (v4, v6) = (frame(&[&IPV4, &V4_1500], 18), frame(&[&IPV6, &V6_1460], 20));
        assert_eq!(original_length(&v4), 1514);
        assert_eq!(original_length(&v6), 1514);
        for frame in [v4, v6] {
            for length in 0..frame.len() {
                assert_eq!(original_length(&frame[..length]) as usize, length);
            }
        }
    }

    #[test]
    fn an_impossible_header_says_nothing() {
        let cases: [(&str, Vec<u8>); 7] = [
            ("IHL below 5", frame(&[&IPV4, &[0x44, 0, 0x05, 0xdc]], 64)),
            ("total length 0, as segmentation offload leaves it", frame(&[&IPV4, &[0x45, 0, 0, 0]], 64)),
            ("total length below the header's, with options", frame(&[&IPV4, &[0x4f, 0, 0, 59]], 64)),
            ("version 6 in an IPv4 frame", frame(&[&IPV4, &[0x65, 0, 0x05, 0xdc]], 64)),
            ("version 4 in an IPv6 frame", frame(&[&IPV6, &[0x45, 0, 0x05, 0xdc, 0x05, 0xdc]], 64)),
            ("IPv6 jumbogram", frame(&[&IPV6, &[0x60, 0, 0, 0, 0, 0]], 64)),
            ("ARP", frame(&[&[0x08, 0x06], &V4_1500], 64)),
        ];
        for (what, frame) in cases {
            assert_eq!(original_length(&frame), 64, "{what}");
        }
    }
}
