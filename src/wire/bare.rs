//! A bare packet, which came without an Ethernet header, gets one before it is written.
//!
//! Captures and interfaces have Ethernet frames, and one capture has the frames of one kind alone.
//! So a header is made up. It has the EtherType of the packet and two addresses that are the
//! session's own: one for the mirrored host, one for whom it talks with. Where the encapsulation
//! tells the direction, the packet goes from one to the other; where not, always from the first.
//!
//! Both addresses are locally administered, so they are no device's: `02` and `06` in front, and
//! behind them the same five bytes, which a hash of all that tells the session apart makes.
//!
//! A frame whose header was made up for an IP packet is marked, so that whoever can write the
//! packet as it came finds it behind the header.
//!
//! ```
//! use vxtap::wire::{bare, geneve};
//!
//! let packet = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
//! let payload = [&[0, 0, 0x08, 0x00, 0, 0, 7, 0][..], &packet].concat();
//! let inner = geneve::decapsulate(&payload, payload.len()).unwrap();
//! let mut room = [0; bare::ROOM];
//! let dressed = bare::dress(&inner, std::net::Ipv6Addr::LOCALHOST, &mut room);
//! assert_eq!((dressed.bare, dressed.arrived), (None, 34));
//! assert_eq!((dressed.frame[0], &dressed.frame[12..14]), (6, &[8, 0][..]));
//! assert_eq!(dressed.frame[14..], packet);
//! ```

use std::net::Ipv6Addr;

use super::inner::{ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use super::tunnel::{Decapsulated, Direction, Scope};

/// Bytes that are always enough for a header and the largest packet of UDP's payload.
pub const ROOM: usize = ETHERNET_LEN + 65_535;

/// What a header adds to lengths.
pub(crate) const HEADER_LEN: u32 = 14;

/// The first bytes of the addresses: of the mirrored host, and of whom it talks with.
const MIRRORED: u8 = 0x02;
const OTHER: u8 = 0x06;

/// Puts a header before a bare packet in `room`, and returns the frame that it is then. A frame
/// that has its header is returned as it is. The source is that of the session.
///
/// What does not fit into the room is not kept: see [`ROOM`].
#[must_use]
pub fn dress<'a>(inner: &Decapsulated<'a>, source: Ipv6Addr, room: &'a mut [u8]) -> Decapsulated<'a> {
    let Some(ethertype) = inner.bare else { return *inner };
    let Some((first, rest)) = room.split_first_chunk_mut::<ETHERNET_LEN>() else {
        return Decapsulated { frame: &[], bare: None, ..*inner };
    };
    *first = header(inner, source, ethertype);
    let kept = inner.frame.len().min(rest.len());
    for (to, from) in rest.iter_mut().zip(inner.frame) {
        *to = *from;
    }
    let longer = |length: u32| length.saturating_add(HEADER_LEN);
    Decapsulated {
        frame: room.get(..ETHERNET_LEN + kept).unwrap_or_default(),
        bare: None,
        is_bare_ip: matches!(ethertype, ETHERTYPE_IPV4 | ETHERTYPE_IPV6),
        arrived: longer(inner.arrived),
        original: longer(inner.original),
        ..*inner
    }
}

/// Makes the header of a packet of this EtherType.
fn header(inner: &Decapsulated<'_>, source: Ipv6Addr, ethertype: u16) -> [u8; ETHERNET_LEN] {
    let [.., a, b, c, d, e] = hash(inner, source).to_be_bytes();
    let (to, from) = match inner.direction {
        Some(Direction::Inbound) => (MIRRORED, OTHER),
        Some(Direction::Outbound) | None => (OTHER, MIRRORED),
    };
    let [high, low] = ethertype.to_be_bytes();
    [to, a, b, c, d, e, from, a, b, c, d, e, high, low]
}

/// Mixes what tells the session apart.
fn hash(inner: &Decapsulated<'_>, source: Ipv6Addr) -> u64 {
    /// 2^64 divided by the golden ratio: Knuth's multiplicative hash.
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let (scoped, scope) = inner.scope.map_or((0, 0), |Scope(scope)| (1, scope));
    let [a, b, c, d, e, f, g, h] = source.segments().map(u64::from);
    let [high, low] = [[a, b, c, d], [e, f, g, h]].map(|half| half.into_iter().fold(0, |word, part| word << 16 | part));
    let rest = u64::from(inner.vni.get()) | (inner.encapsulation as u64) << 24 | scoped << 32;
    let mixed =
        [high, low, scope, rest].into_iter().fold(0u64, |mixed, word| (mixed ^ word).wrapping_mul(MIX).rotate_left(29));
    mixed.wrapping_mul(MIX) >> 24
}

#[cfg(test)]
mod tests {
    use super::super::{Encapsulation, Vni};
    use super::*;
    use std::net::Ipv4Addr;

    const PACKET: [u8; 20] = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];

    fn addresses(inner: &Decapsulated<'_>, source: Ipv6Addr) -> [[u8; 6]; 2] {
        let mut room = [0; 64];
        let dressed = dress(inner, source, &mut room);
        assert_eq!((dressed.frame.len(), dressed.arrived, dressed.original, dressed.bare), (34, 34, 34, None));
        assert_eq!(dressed.frame[12..], [&[8, 0][..], &PACKET].concat());
        [dressed.frame[..6].try_into().unwrap(), dressed.frame[6..12].try_into().unwrap()]
    }

    #[test]
    fn each_session_has_its_addresses_and_a_direction_turns_them() {
        let inner = Decapsulated::packet(Encapsulation::Geneve, 0x0800, &PACKET, 20).unwrap();
        let source = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        let [to, from] = addresses(&inner, source);
        assert_eq!((to[0], from[0]), (OTHER, MIRRORED));
        assert_eq!(to[1..], from[1..]);
        let outbound = Decapsulated { direction: Some(Direction::Outbound), ..inner };
        assert_eq!(addresses(&outbound, source), [to, from]);
        let inbound = Decapsulated { direction: Some(Direction::Inbound), ..inner };
        assert_eq!(addresses(&inbound, source), [from, to]);
        let mut seen = vec![to];
        for (other, source) in [
            (inner, Ipv4Addr::new(192, 0, 2, 2).to_ipv6_mapped()),
            (Decapsulated { vni: Vni::MAX, ..inner }, source),
            (Decapsulated { scope: Some(Scope(0)), ..inner }, source),
            (Decapsulated { scope: Some(Scope(1)), ..inner }, source),
            (Decapsulated { encapsulation: Encapsulation::Gre, ..inner }, source),
        ] {
            let [to, _] = addresses(&other, source);
            assert!(!seen.contains(&to), "{other:?}");
            seen.push(to);
        }
    }

    #[test]
    fn ip_alone_is_marked() {
        let dressed = |inner: Result<Decapsulated<'_>, _>| {
            let mut room = [0; 64];
            dress(&inner.unwrap(), Ipv6Addr::LOCALHOST, &mut room).is_bare_ip
        };
        let packet = |ethertype, bytes| Decapsulated::packet(Encapsulation::Geneve, ethertype, bytes, 20);
        assert!(dressed(packet(0x0800, &PACKET)));
        assert!(dressed(packet(0x86dd, &[0x60; 40])));
        assert!(!dressed(packet(0x8847, &PACKET)));
        assert!(!dressed(packet(0x0806, &[0; 28])));
        assert!(!dressed(Decapsulated::ethernet(Encapsulation::Geneve, &PACKET, 20)));
    }

    #[test]
    fn what_does_not_fit_is_not_kept() {
        let inner = Decapsulated::packet(Encapsulation::Geneve, 0x0800, &PACKET, 20).unwrap();
        for length in 0..34 {
            let mut room = vec![0; length];
            let dressed = dress(&inner, Ipv6Addr::LOCALHOST, &mut room);
            assert_eq!(dressed.frame.len(), if length < 14 { 0 } else { length });
        }
        let frame = Decapsulated::ethernet(Encapsulation::Vxlan, &PACKET, 20).unwrap();
        assert_eq!(dress(&frame, Ipv6Addr::LOCALHOST, &mut []), frame);
    }
}
