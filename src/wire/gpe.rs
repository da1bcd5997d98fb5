//! VXLAN-GPE is VXLAN whose header says what it carries (draft-ietf-nvo3-vxlan-gpe section 3).
//!
//! ```text
//!  byte 0        1 .. 2       3               4 .. 6          7
//! +------------+------------+---------------+---------------+------------+-------------
//! | RRVV IPBO  | reserved   | next protocol | VNI, 24 bits  | reserved   | inner ...
//! +------------+------------+---------------+---------------+------------+-------------
//! ```
//!
//! With the P flag the next protocol is 1 for IPv4, 2 for IPv6, 3 for Ethernet, 4 for a service
//! header (NSH, RFC 8300), 5 for MPLS; without it there is an Ethernet frame. Service headers are
//! taken off: they say what comes next by the same numbers. The O flag says that there is a message
//! to the receiver and no frame.

use super::inner::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use super::tunnel::{Decapsulated, DropReason, Encapsulation, TRANSPARENT_ETHERNET, Unread};
use super::vni::Vni;
use super::vxlan::{HEADER_LEN, I_FLAG};

/// The P flag in the header's first byte: there is a next protocol.
pub const P_FLAG: u8 = 0x04;
/// The two bits of the version, which is 0.
const VERSION: u8 = 0x30;
/// The bit that says that there is no frame.
const O_FLAG: u8 = 0x01;
/// The bit that says that the datagram went to many.
const B_FLAG: u8 = 0x02;

/// The service headers that are taken off; a datagram with more carries something else.
pub const MAX_SERVICE_HEADERS: usize = 4;

const NEXT_ETHERNET: u8 = 3;
const NEXT_SERVICE_HEADER: u8 = 4;
const NEXT_MPLS: u8 = 5;

/// Says whether a payload that came to a port of VXLAN is VXLAN-GPE that carries no Ethernet frame:
/// the flags are I and P, maybe with B or O, and the next protocol is that of IP, MPLS or a service
/// header, or there is a message. Senders of VXLAN that leave noise in reserved bytes do not look
/// like that.
#[must_use]
pub fn is_bare(payload: &[u8]) -> bool {
    let &[flags, 0, 0, next, ..] = payload else { return false };
    let is_message = flags & O_FLAG != 0 && next == NEXT_ETHERNET;
    flags & !(B_FLAG | O_FLAG) == I_FLAG | P_FLAG
        && (is_message || matches!(next, 1 | 2 | NEXT_SERVICE_HEADER | NEXT_MPLS))
}

/// Takes VXLAN-GPE and service headers off a UDP payload that arrived with so many bytes.
///
/// # Errors
/// - [`DropReason::ShortVxlanHeader`], [`DropReason::VniFlagClear`], as in VXLAN;
/// - [`DropReason::ShortTunnelHeader`]: the payload ends within a service header, or one is shorter
///   than it can be;
/// - [`DropReason::UnknownTunnelVersion`], [`DropReason::ControlMessage`];
/// - those of a frame or a packet.
pub fn decapsulate(payload: &[u8], arrived: usize) -> Result<Decapsulated<'_>, DropReason> {
    let mut rest = Unread::new(payload, arrived);
    let Some(&[flags, a, b, next, high, middle, low, last]) = rest.first::<HEADER_LEN>() else {
        return Err(DropReason::ShortVxlanHeader);
    };
    if flags & I_FLAG == 0 {
        return Err(DropReason::VniFlagClear);
    }
    if flags & VERSION != 0 {
        return Err(DropReason::UnknownTunnelVersion);
    }
    if flags & O_FLAG != 0 {
        return Err(DropReason::ControlMessage);
    }
    let is_told = flags & P_FLAG != 0;
    let mut following = if is_told { next } else { NEXT_ETHERNET };
    for _ in 0..MAX_SERVICE_HEADERS {
        if following != NEXT_SERVICE_HEADER {
            break;
        }
        following = service_header(&mut rest)?;
    }
    let protocol = match following {
        1 => ETHERTYPE_IPV4,
        2 => ETHERTYPE_IPV6,
        NEXT_ETHERNET => TRANSPARENT_ETHERNET,
        NEXT_MPLS => 0x8847,
        _ => return Err(DropReason::UnknownInnerProtocol),
    };
    Ok(Decapsulated {
        vni: Vni::from_be_bytes([high, middle, low]),
        reserved_bits: flags & !(I_FLAG | P_FLAG | B_FLAG) != 0 || [a, b, last] != [0; 3] || (!is_told && next != 0),
        ..Decapsulated::announced(Encapsulation::Gpe, protocol, rest)?
    })
}

/// Takes a service header off, and returns what it says comes next.
///
/// ```text
/// VVOU TTTT | TTLL LLLL | UUUU MMMM | next protocol | path, 3 bytes | index | context ...
/// ```
fn service_header(rest: &mut Unread<'_>) -> Result<u8, DropReason> {
    let &[first, second, _, next] = rest.header()?;
    if first & 0xc0 != 0 {
        return Err(DropReason::UnknownTunnelVersion);
    }
    // The length of all of it in words of four bytes, of which one is read. It has two at least.
    let words = usize::from(second & 0x3f);
    if words < 2 {
        return Err(DropReason::ShortTunnelHeader);
    }
    rest.header_of((words - 1) * 4)?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    const SERVICE: [u8; 8] = [0x0f, 0xc2, 1, 3, 0, 0, 1, 0xff];

    fn read(parts: &[&[u8]]) -> Result<(usize, Option<u16>, bool), DropReason> {
        let payload = parts.concat();
        let inner = decapsulate(&payload, payload.len())?;
        assert_eq!((inner.encapsulation, inner.vni.get()), (Encapsulation::Gpe, 7));
        Ok((inner.frame.len(), inner.bare, inner.reserved_bits))
    }

    #[test]
    fn the_next_protocol_says_what_is_inside() {
        let header = |flags, next| [flags, 0, 0, next, 0, 0, 7, 0];
        let (v4, v6) = ([0x45; 20], [0x60; 40]);
        assert_eq!(read(&[&header(0x0c, 1), &v4]), Ok((20, Some(0x0800), false)));
        assert_eq!(read(&[&header(0x0c, 2), &v6]), Ok((40, Some(0x86dd), false)));
        assert_eq!(read(&[&header(0x0c, 3), &FRAME]), Ok((14, None, false)));
        assert_eq!(read(&[&header(0x0e, 5), &v4]), Ok((20, Some(0x8847), false)));
        assert_eq!(read(&[&header(0x08, 0), &FRAME]), Ok((14, None, false)));
        assert_eq!(read(&[&header(0x08, 1), &FRAME]), Ok((14, None, true)));
        assert_eq!(read(&[&header(0x8c, 3), &FRAME]), Ok((14, None, true)));
        for (flags, next, why) in [
            (0x04, 3, DropReason::VniFlagClear),
            (0x1c, 3, DropReason::UnknownTunnelVersion),
            (0x0d, 3, DropReason::ControlMessage),
            (0x0c, 0, DropReason::UnknownInnerProtocol),
            (0x0c, 1, DropReason::RuntInnerFrame),
        ] {
            assert_eq!(read(&[&header(flags, next), &FRAME]), Err(why), "{flags:#x} {next}");
        }
        assert_eq!(read(&[&header(0x0c, 3)[..7]]), Err(DropReason::ShortVxlanHeader));
    }

    #[test]
    fn service_headers_are_taken_off() {
        let header = [0x0c, 0, 0, 4, 0, 0, 7, 0];
        assert_eq!(read(&[&header, &SERVICE, &FRAME]), Ok((14, None, false)));
        let mut again = SERVICE;
        again[3] = 4;
        assert_eq!(read(&[&header, &again, &again, &again, &SERVICE, &FRAME]), Ok((14, None, false)));
        let many = [&header[..], &again.repeat(MAX_SERVICE_HEADERS), &SERVICE, &FRAME];
        assert_eq!(read(&many), Err(DropReason::UnknownInnerProtocol));
        let mut long = SERVICE;
        long[1] = 6;
        assert_eq!(read(&[&header, &long, &[0; 16], &FRAME]), Ok((14, None, false)));
        for length in 0..24 {
            let payload = [&long[..], &[0; 16]].concat();
            assert_eq!(read(&[&header, &payload[..length]]), Err(DropReason::ShortTunnelHeader), "{length}");
        }
        for words in [0, 1] {
            long[1] = 0xc0 | words;
            assert_eq!(read(&[&header, &long, &[0; 16], &FRAME]), Err(DropReason::ShortTunnelHeader), "{words}");
        }
        let with = |byte| [byte, SERVICE[1], SERVICE[2], SERVICE[3], 0, 0, 0, 0];
        assert_eq!(read(&[&header, &with(0x20), &FRAME]), Ok((14, None, false)), "the O bit is of the path");
        assert_eq!(read(&[&header, &with(0x40), &FRAME]), Err(DropReason::UnknownTunnelVersion));
    }

    #[test]
    fn noise_in_reserved_bytes_is_not_taken_for_a_next_protocol() {
        for (payload, is) in [
            ([0x0c, 0, 0, 1, 0, 0, 7, 0], true),
            ([0x0c, 0, 0, 4, 0, 0, 7, 0], true),
            ([0x0c, 0, 0, 5, 0, 0, 7, 0], true),
            ([0x0e, 0, 0, 2, 0, 0, 7, 0], true),
            ([0x0d, 0, 0, 3, 0, 0, 7, 0], true),
            ([0x0f, 0, 0, 1, 0, 0, 7, 0], true),
            ([0x0c, 0, 0, 3, 0, 0, 7, 0], false),
            ([0x0e, 0, 0, 3, 0, 0, 7, 0], false),
            ([0x0c, 0, 0, 0, 0, 0, 7, 0], false),
            ([0x0c, 0, 0, 6, 0, 0, 7, 0], false),
            ([0x08, 0, 0, 1, 0, 0, 7, 0], false),
            ([0xff, 0xff, 0xff, 1, 0, 0, 7, 0], false),
            ([0x88, 0, 0, 4, 0, 0, 7, 0], false),
        ] {
            assert_eq!(is_bare(&payload), is, "{payload:02x?}");
        }
    }
}
