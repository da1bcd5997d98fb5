//! TZSP has four bytes and tags between a UDP header and a frame.
//!
//! ```text
//! version 1 | type | encapsulation, 2 bytes | tags: number, length, value ... | 1 | frame ...
//! ```
//!
//! Types 0 and 1 have a frame, received and to be sent: RSniffer sends all of its frames as the
//! latter. The others are messages without one. Encapsulation 1 is Ethernet, 7 is IP; those of
//! radio are not read. Tag 0 is padding and tag 1 the end, which alone have no length. Tag 41 is
//! the length of the frame before the sensor cut it, tag 60 the address of the sensor's interface,
//! which is the session's scope. The list of tags must end within the datagram.

use super::tunnel::{Decapsulated, DropReason, Encapsulation, Scope, Unread};

const TAG_PADDING: u8 = 0;
const TAG_END: u8 = 1;
const TAG_ORIGINAL_LENGTH: u8 = 41;
const TAG_SENSOR: u8 = 60;

/// Takes TZSP off a UDP payload that arrived with so many bytes.
///
/// # Errors
/// - [`DropReason::ShortTunnelHeader`]: there are fewer than four bytes;
/// - [`DropReason::UnknownTunnelVersion`]: also for a type that is unknown;
/// - [`DropReason::KeepAlive`]: a type that has no frame;
/// - [`DropReason::BadTzspTags`]: the datagram ends within the tags;
/// - [`DropReason::UnknownInnerProtocol`]: neither Ethernet nor IP;
/// - those of a frame or a packet.
pub fn decapsulate(payload: &[u8], arrived: usize) -> Result<Decapsulated<'_>, DropReason> {
    let mut rest = Unread::new(payload, arrived);
    let &[version, kind, a, b] = rest.header()?;
    match (version, kind) {
        (1, 0 | 1) => {}
        (1, 2..=5) => return Err(DropReason::KeepAlive),
        _ => return Err(DropReason::UnknownTunnelVersion),
    }
    let (mut scope, mut original) = (None, 0);
    loop {
        let &[tag] = rest.first().ok_or(DropReason::BadTzspTags)?;
        match tag {
            TAG_PADDING => continue,
            TAG_END => break,
            _ => {}
        }
        let &[length] = rest.first().ok_or(DropReason::BadTzspTags)?;
        let value = rest.header_of(length.into()).map_err(|_| DropReason::BadTzspTags)?;
        match (tag, value) {
            (TAG_ORIGINAL_LENGTH, &[a, b]) => original = u32::from(u16::from_be_bytes([a, b])),
            (TAG_SENSOR, &[a, b, c, d, e, f]) => scope = Some(Scope(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))),
            _ => {}
        }
    }
    let inner = match u16::from_be_bytes([a, b]) {
        1 => Decapsulated::ethernet(Encapsulation::Tzsp, rest.bytes, rest.arrived)?,
        7 => Decapsulated::ip(Encapsulation::Tzsp, rest)?,
        _ => return Err(DropReason::UnknownInnerProtocol),
    };
    Ok(Decapsulated { scope, original: inner.original.max(original), ..inner })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];

    fn read(parts: &[&[u8]]) -> Result<(Option<Scope>, usize, u32, Option<u16>), DropReason> {
        let payload = parts.concat();
        let inner = decapsulate(&payload, payload.len())?;
        assert_eq!((inner.encapsulation, inner.vni.get()), (Encapsulation::Tzsp, 0));
        Ok((inner.scope, inner.frame.len(), inner.original, inner.bare))
    }

    #[test]
    fn tags_are_walked_to_their_end() {
        assert_eq!(read(&[&[1, 0, 0, 1, 1], &FRAME]), Ok((None, 14, 14, None)));
        let tags = [0, 10, 1, 0xc8, 0, 41, 2, 0x05, 0xea, 60, 6, 2, 0, 0, 0, 0, 0x11, 80, 3, b'a', b'b', b'c', 1];
        assert_eq!(read(&[&[1, 1, 0, 1], &tags, &FRAME]), Ok((Some(Scope(0x0200_0000_0011)), 14, 1514, None)));
        for length in 0..tags.len() {
            assert_eq!(read(&[&[1, 0, 0, 1], &tags[..length]]), Err(DropReason::BadTzspTags), "{length}");
        }
        assert_eq!(read(&[&[1, 0, 0, 1], &[0; 60_000]]), Err(DropReason::BadTzspTags), "nothing but padding");
        assert_eq!(read(&[&[1, 0, 0, 1, 41, 3, 9, 9, 9, 60, 1, 7, 1], &FRAME]), Ok((None, 14, 14, None)));
    }

    #[test]
    fn types_versions_and_what_is_inside() {
        for kind in 2..=5 {
            assert_eq!(read(&[&[1, kind, 0, 0]]), Err(DropReason::KeepAlive));
        }
        for first in [[1, 6], [2, 0], [0, 0]] {
            assert_eq!(read(&[&first, &[0, 1, 1], &FRAME]), Err(DropReason::UnknownTunnelVersion));
        }
        assert_eq!(read(&[&[1, 0, 0]]), Err(DropReason::ShortTunnelHeader));
        assert_eq!(read(&[&[1, 0, 0, 7, 1], &[0x45; 20]]), Ok((None, 20, 0x4545, Some(0x0800))));
        assert_eq!(read(&[&[1, 0, 0, 7, 1], &[0x60; 40]]), Ok((None, 40, 40 + 0x6060, Some(0x86dd))));
        assert_eq!(read(&[&[1, 0, 0, 7, 1], &[0x50; 40]]), Err(DropReason::UnknownInnerProtocol));
        for radio in [18, 119, 126, 127] {
            assert_eq!(read(&[&[1, 0, 0, radio, 1], &FRAME]), Err(DropReason::UnknownInnerProtocol));
        }
    }
}
