//! GRE stands behind an IP header (protocol 47), or in UDP behind port 4754 (RFC 2784, RFC 2890,
//! RFC 8086).
//!
//! ```text
//! CRKS srrr | FFFF FVVV | protocol, 2 bytes | C: checksum and 2 bytes | K: key | S: sequence
//! ```
//!
//! | protocol | carries | session |
//! |---|---|---|
//! | 0x6558 | an Ethernet frame | `nvgre`, VNI from the key, where this is NVGRE; else `gre` |
//! | IPv4, IPv6, ARP, MPLS | a packet | `gre`, with the key as scope where there is one |
//! | 0x88be, 0x22eb | ERSPAN | `erspan`, with ERSPAN's session as scope |
//!
//! NVGRE (RFC 7637) has the K bit and neither C nor S. Its key is 24 bits of VNI and 8 that spread
//! flows. Nothing else tells it from a frame in GRE with a key, so the VNI does: those below 0x1000
//! are reserved, and keys that people choose are small.

use super::erspan;
use super::inner::u16_at;
use super::tunnel::{Decapsulated, DropReason, Encapsulation, Scope, TRANSPARENT_ETHERNET, Unread};
use super::vni::Vni;

const CHECKSUM: u8 = 0x80;
const ROUTING: u8 = 0x40;
const KEY: u8 = 0x20;
const SEQUENCE: u8 = 0x10;
/// The three bits of the version, in the second byte.
const VERSION: u8 = 0x07;

/// The first VNI of NVGRE that is not reserved.
const FIRST_VNI: u32 = 0x1000;

/// Takes GRE, and ERSPAN in it, off the payload of an IP packet or a UDP datagram that arrived with
/// so many bytes.
///
/// # Errors
/// - [`DropReason::ShortTunnelHeader`]: the payload ends within a header;
/// - [`DropReason::UnknownTunnelVersion`]: also for routes in the header (RFC 1701);
/// - those of a frame or a packet.
pub fn decapsulate(payload: &[u8], arrived: usize) -> Result<Decapsulated<'_>, DropReason> {
    let mut rest = Unread::new(payload, arrived);
    let &[flags, second, a, b] = rest.header()?;
    if second & VERSION != 0 || flags & ROUTING != 0 {
        return Err(DropReason::UnknownTunnelVersion);
    }
    if flags & CHECKSUM != 0 {
        rest.header::<4>()?;
    }
    let key = if flags & KEY == 0 { None } else { Some(u32::from_be_bytes(*rest.header()?)) };
    let sequence = if flags & SEQUENCE == 0 { None } else { Some(u32::from_be_bytes(*rest.header()?)) };
    let protocol = u16::from_be_bytes([a, b]);
    let inner = match (protocol, key) {
        (erspan::PROTOCOL_I_II, _) if sequence.is_none() => erspan::without_header(rest)?,
        (erspan::PROTOCOL_I_II | erspan::PROTOCOL_III, _) => erspan::decapsulate(rest)?,
        (TRANSPARENT_ETHERNET, Some(key)) if flags & (CHECKSUM | SEQUENCE) == 0 && key >> 8 >= FIRST_VNI => {
            let [high, middle, low, _] = key.to_be_bytes();
            let vni = Vni::from_be_bytes([high, middle, low]);
            Decapsulated { vni, ..Decapsulated::announced(Encapsulation::Nvgre, protocol, rest)? }
        }
        _ => {
            let scope = key.map(|key| Scope(key.into()));
            Decapsulated { scope, ..Decapsulated::announced(Encapsulation::Gre, protocol, rest)? }
        }
    };
    let is_odd = flags & 0x0f != 0 || second & !VERSION != 0;
    Ok(Decapsulated { sequence, reserved_bits: inner.reserved_bits || is_odd, ..inner })
}

/// Says whether the header announces ERSPAN.
pub(super) fn announces_erspan(payload: &[u8]) -> bool {
    matches!(u16_at(payload, 2), Some(erspan::PROTOCOL_I_II | erspan::PROTOCOL_III))
}

#[cfg(test)]
mod tests {
    use super::super::tunnel::Direction;
    use super::*;

    const FRAME: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    const PACKET: [u8; 20] = [0x45; 20];

    /// Encapsulation, VNI, scope, length of the frame, and sequence number.
    type Read = (Encapsulation, u32, Option<u64>, usize, Option<u32>);

    fn read(parts: &[&[u8]]) -> Result<Read, DropReason> {
        let payload = parts.concat();
        let inner = decapsulate(&payload, payload.len() + 100)?;
        assert_eq!(inner.arrived as usize, inner.frame.len() + 100);
        let scope = inner.scope.map(|Scope(scope)| scope);
        Ok((inner.encapsulation, inner.vni.get(), scope, inner.frame.len(), inner.sequence))
    }

    #[test]
    fn fields_are_there_that_the_flags_announce() {
        use Encapsulation::{Gre, Nvgre};
        assert_eq!(read(&[&[0, 0, 8, 0], &PACKET]), Ok((Gre, 0, None, 20, None)));
        assert_eq!(read(&[&[0x80, 0, 8, 0, 9, 9, 9, 9], &PACKET]), Ok((Gre, 0, None, 20, None)));
        let all = [0xb0, 0, 8, 0, 9, 9, 9, 9, 0xff, 0, 0, 1, 0, 0, 0, 5];
        assert_eq!(read(&[&all, &PACKET]), Ok((Gre, 0, Some(0xff00_0001), 20, Some(5))));
        for length in 0..all.len() {
            assert_eq!(read(&[&all[..length]]), Err(DropReason::ShortTunnelHeader), "{length}");
        }
        for (key, found) in [
            ([0, 0x10, 0, 7], (Nvgre, 0x1000, None, 14, None)),
            ([1, 2, 3, 4], (Nvgre, 0x1_0203, None, 14, None)),
            ([0, 0x0f, 0xff, 7], (Gre, 0, Some(0x0f_ff07), 14, None)),
        ] {
            assert_eq!(read(&[&[0x20, 0, 0x65, 0x58], &key, &FRAME]), Ok(found));
        }
        // A sender that numbers its frames is none of NVGRE.
        let numbered = [0x30, 0, 0x65, 0x58, 1, 2, 3, 4, 0, 0, 0, 1];
        assert_eq!(read(&[&numbered, &FRAME]), Ok((Gre, 0, Some(0x0102_0304), 14, Some(1))));
    }

    #[test]
    fn other_versions_and_forms_are_refused() {
        for (header, why) in [
            ([0x20, 1, 0x88, 0x0b], DropReason::UnknownTunnelVersion),
            ([0x40, 0, 8, 0], DropReason::UnknownTunnelVersion),
            ([0, 0, 0x88, 0x0b], DropReason::UnknownInnerProtocol),
            ([0, 0, 0x86, 0xdd], DropReason::RuntInnerFrame),
        ] {
            assert_eq!(read(&[&header, &PACKET]), Err(why), "{header:02x?}");
        }
        let payload = [&[0x08, 0, 8, 0][..], &PACKET].concat();
        assert!(decapsulate(&payload, 24).unwrap().reserved_bits);
    }

    #[test]
    fn erspan_of_three_types() {
        use Encapsulation::Erspan;
        assert_eq!(read(&[&[0, 0, 0x88, 0xbe], &FRAME]), Ok((Erspan, 0, None, 14, None)));
        let numbered = |protocol: [u8; 2]| [0x10, 0, protocol[0], protocol[1], 0, 0, 0, 9];
        let two = [0x10, 0x64, 0xfc, 0x64, 0, 0, 0, 1];
        assert_eq!(read(&[&numbered([0x88, 0xbe]), &two, &FRAME]), Ok((Erspan, 0, Some(100), 14, Some(9))));
        let mut three = [0x20, 0x64, 0xff, 0xff, 1, 2, 3, 4, 0, 0, 0, 0x08];
        let direction = |three: &[u8], rest: &[u8]| {
            let payload = [&[0, 0, 0x22, 0xeb], three, rest].concat();
            decapsulate(&payload, 0).map(|inner| (inner.direction, inner.bare, inner.frame.len()))
        };
        assert_eq!(direction(&three, &FRAME), Ok((Some(Direction::Outbound), None, 14)));
        assert_eq!(read(&[&numbered([0x22, 0xeb]), &three, &FRAME]), Ok((Erspan, 0, Some(1023), 14, Some(9))));
        three[11] = 0x01;
        assert_eq!(direction(&three, &[&[0; 8][..], &FRAME].concat()), Ok((Some(Direction::Inbound), None, 14)));
        three[10..].copy_from_slice(&[2 << 2, 0]);
        assert_eq!(direction(&three, &PACKET), Ok((Some(Direction::Inbound), Some(0x0800), 20)));
        assert_eq!(direction(&three, &[0x60; 40]), Ok((Some(Direction::Inbound), Some(0x86dd), 40)));
        three[10] = 7 << 2;
        assert_eq!(direction(&three, &PACKET), Err(DropReason::UnknownInnerProtocol));
        for length in 0..12 {
            assert_eq!(direction(&three[..length], &[]), Err(DropReason::ShortTunnelHeader), "{length}");
        }
        three[10] = 0;
        let original = |three: &[u8]| {
            let payload = [&[0, 0, 0x22, 0xeb], three, &FRAME].concat();
            decapsulate(&payload, 0).map(|inner| (inner.arrived, inner.original))
        };
        assert_eq!(original(&three), Ok((14, 15)), "cut by the switch");
        three[2] &= !0x04;
        assert_eq!(original(&three), Ok((14, 14)));
        three[0] = 0x30;
        assert_eq!(direction(&three, &FRAME), Err(DropReason::UnknownTunnelVersion));
    }
}
