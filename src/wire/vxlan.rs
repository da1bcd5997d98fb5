//! VXLAN has eight bytes between a UDP header and an Ethernet frame (RFC 7348 section 5).
//!
//! ```text
//!  byte 0        1 .. 3              4 .. 6          7
//! +------------+-------------------+---------------+------------+------------------
//! | RRRR IRRR  | reserved          | VNI, 24 bits  | reserved   | inner frame ...
//! +------------+-------------------+---------------+------------+------------------
//! ```
//!
//! The I flag says that the VNI is valid and must be 1. Everything marked R or reserved is "set to
//! zero on transmission and ignored on receipt", and senders in the field do set it: the group
//! policy extension uses bit 0x80 and bytes 2-3, some switches leave noise. [`decapsulate`]
//! therefore accepts such a header and reports the fact in [`Decapsulated::reserved_bits`]. Whether
//! that is counted or refused is a matter of configuration, decided elsewhere.
//!
//! Nothing in the header says how long the inner frame is: it reaches to the end of the UDP
//! payload, so the caller must pass exactly that, without Ethernet trailers. A socket does; for
//! whole frames see [`outer::udp`](super::outer::udp).
//!
//! ```
//! use vxtap::wire::{Vni, vxlan};
//!
//! // An Ethernet header and nothing else.
//! let frame = [0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x06];
//! let vni = Vni::new(5_569_041).unwrap();
//! let payload = [vxlan::header(vni).as_slice(), &frame].concat();
//!
//! let inner = vxlan::decapsulate(&payload, payload.len()).unwrap();
//! assert_eq!((inner.vni, inner.frame, inner.arrived), (vni, frame.as_slice(), 14));
//! assert!(!inner.reserved_bits);
//! ```

use super::tunnel::{Decapsulated, Direction, DropReason, Encapsulation};
use super::vni::Vni;

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 8;

/// The I flag in the header's first byte: the VNI is valid.
pub const I_FLAG: u8 = 0x08;

/// Every bit of the header, read as one big-endian number, that is neither the I flag nor the VNI.
const RESERVED: u64 = 0xf7ff_ffff_0000_00ff;

/// Takes the VXLAN header off a UDP payload, copying nothing. The datagram arrived with `arrived`
/// bytes of payload, which is more than there are where not all of them were kept.
///
/// # Errors
///
/// - [`DropReason::ShortVxlanHeader`]: fewer than [`HEADER_LEN`] bytes;
/// - [`DropReason::VniFlagClear`]: the I flag is 0, so there is no valid VNI;
/// - [`DropReason::RuntInnerFrame`]: what follows is shorter than an Ethernet header.
#[inline(always)]
pub fn decapsulate(payload: &[u8], arrived: usize) -> Result<Decapsulated<'_>, DropReason> {
    let Some((header, frame)) = payload.split_first_chunk::<HEADER_LEN>() else {
        return Err(DropReason::ShortVxlanHeader);
    };
    let [flags, _, _, _, high, middle, low, _] = *header;
    if flags & I_FLAG == 0 {
        return Err(DropReason::VniFlagClear);
    }
    let arrived = arrived.max(payload.len()) - HEADER_LEN;
    Ok(Decapsulated {
        vni: Vni::from_be_bytes([high, middle, low]),
        reserved_bits: u64::from_be_bytes(*header) & RESERVED != 0,
        ..Decapsulated::ethernet(Encapsulation::Vxlan, frame, arrived)?
    })
}

/// The UDP ports of the tunnels of Azure's Gateway Load Balancer.
const INTERNAL: u16 = 10_800;
const EXTERNAL: u16 = 10_801;

/// Says whether a frame that comes to this UDP port may have a [`direction`].
#[inline]
#[must_use]
pub const fn tells_direction(port: u16) -> bool {
    port == INTERNAL || port == EXTERNAL
}

/// Returns the way of a frame of Azure's Gateway Load Balancer, which has a tunnel for each: this
/// VNI to this UDP port. Of no other frame is it known.
///
/// The instance is what is behind the balancer. What comes for it has the external tunnel, what it
/// sends the internal one.
#[inline]
#[must_use]
pub const fn direction(port: u16, vni: Vni) -> Option<Direction> {
    match (port, vni.get()) {
        (INTERNAL, 800) => Some(Direction::Outbound),
        (EXTERNAL, 801) => Some(Direction::Inbound),
        _ => None,
    }
}

/// Returns the header that a sender puts before a frame: the I flag, this VNI, and all reserved
/// bits zero.
#[inline]
#[must_use]
pub const fn header(vni: Vni) -> [u8; HEADER_LEN] {
    let [high, middle, low] = vni.to_be_bytes();
    [I_FLAG, 0, 0, 0, high, middle, low, 0]
}

#[cfg(test)]
mod tests {
    use super::super::LinkType;
    use super::*;

    /// Decapsulates a datagram that was kept whole.
    fn decapsulate(payload: &[u8]) -> Result<Decapsulated<'_>, DropReason> {
        super::decapsulate(payload, payload.len())
    }

    #[rustfmt::skip]
    const DATAGRAM: [u8; 8 + 14 + 20] = [
        // VXLAN: I flag, reserved, VNI 123, reserved
        0x08, 0x00, 0x00, 0x00,  0x00, 0x00, 0x7b,  0x00,
        // Ethernet: destination, source, IPv4
        0x02, 0x00, 0x00, 0x00, 0x00, 0x01,  0x02, 0x00, 0x00, 0x00, 0x00, 0x02,  0x08, 0x00,
        // IPv4: total length 1400, of which the mirror sent the header only
        0x45, 0x00, 0x05, 0x78,  0x00, 0x01, 0x40, 0x00,  0x40, 0x06, 0x00, 0x00,
        10, 0, 0, 1,  10, 0, 0, 2,
    ];

    #[test]
    fn takes_the_header_off() {
        let inner = decapsulate(&DATAGRAM).unwrap();
        assert_eq!(inner.vni.get(), 123);
        assert_eq!(inner.frame, &DATAGRAM[8..]);
        assert_eq!((inner.arrived, inner.original), (14 + 20, 14 + 1400));
        assert_eq!((inner.scope, inner.direction, inner.link_type), (None, None, LinkType::Ethernet));
        assert!(!inner.reserved_bits);
    }

    #[test]
    fn the_tunnels_of_azure_tell_the_direction() {
        let told = |port, vni| direction(port, Vni::new(vni).unwrap());
        assert_eq!([told(10_800, 800), told(10_801, 801)], [Some(Direction::Outbound), Some(Direction::Inbound)]);
        for (port, vni) in [(10_800, 801), (10_801, 800), (4789, 800), (10_800, 7)] {
            assert_eq!(told(port, vni), None);
        }
    }

    #[test]
    fn what_arrived_counts_and_not_what_was_kept() {
        let lengths = |payload: &[u8], arrived| {
            let inner = super::decapsulate(payload, arrived).unwrap();
            (inner.frame.len(), inner.arrived, inner.original)
        };
        assert_eq!(lengths(&DATAGRAM, 8 + 100), (34, 100, 1414), "the inner header tells of more");
        assert_eq!(lengths(&DATAGRAM, 8 + 2000), (34, 2000, 2000), "more came than it tells of");
        assert_eq!(lengths(&DATAGRAM, 0), (34, 34, 1414), "never less than there is");
    }

    #[test]
    fn all_24_bits_of_the_vni_count_and_no_others() {
        for (bytes, number) in [([0, 0, 0], 0), ([1, 2, 3], 0x01_0203), ([0xff, 0xff, 0xff], 0xff_ffff)] {
            let mut datagram = DATAGRAM;
            datagram[4..7].copy_from_slice(&bytes);
            datagram[3] = 0xff; // reserved, next to the VNI
            datagram[7] = 0xff;
            assert_eq!(decapsulate(&datagram).unwrap().vni.get(), number);
        }
    }

    #[test]
    fn each_reserved_bit_is_reported_and_accepted() {
        let plain = decapsulate(&DATAGRAM).unwrap();
        for bit in (0..64).filter(|bit| RESERVED >> bit & 1 == 1) {
            let mut datagram = DATAGRAM;
            datagram[7 - bit / 8] |= 1 << (bit % 8);
            assert_eq!(
                decapsulate(&datagram),
                Ok(Decapsulated { reserved_bits: true, frame: &datagram[8..], ..plain }),
                "bit {bit}"
            );
        }
        assert_eq!(RESERVED.count_ones(), 64 - 1 - 24);
    }

    #[test]
    fn refuses_what_carries_no_frame() {
        for length in 0..HEADER_LEN {
            assert_eq!(decapsulate(&DATAGRAM[..length]), Err(DropReason::ShortVxlanHeader), "{length} bytes");
        }
        for length in HEADER_LEN..HEADER_LEN + 14 {
            assert_eq!(decapsulate(&DATAGRAM[..length]), Err(DropReason::RuntInnerFrame), "{length} bytes");
        }
        assert!(decapsulate(&DATAGRAM[..HEADER_LEN + 14]).is_ok());

        let mut datagram = DATAGRAM;
        datagram[0] = !I_FLAG;
        assert_eq!(decapsulate(&datagram), Err(DropReason::VniFlagClear));
        // Without the I flag nothing after it means anything, so a short frame without it is
        // counted as that.
        assert_eq!(decapsulate(&datagram[..HEADER_LEN]), Err(DropReason::VniFlagClear));
    }
}
