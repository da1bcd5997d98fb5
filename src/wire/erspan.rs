//! ERSPAN is how a switch mirrors a port over IP: a header in GRE (draft-foschiano-erspan).
//!
//! ```text
//! type I    nothing: an Ethernet frame at once
//! type II   VVVV, VLAN 12 | CoS 3, En 2, T, session 10 | reserved 12, index 20
//! type III  VVVV, VLAN 12 | CoS 3, BSO 2, T, session 10 | time stamp 32 | SGT 16
//!           P, FT 5, Hw 6, D, Gra 2, O
//! ```
//!
//! The version is 1 in type II and 2 in type III, where D says that the frame left the switch, and
//! O that 8 bytes follow that are the maker's. FT is 0 for a frame and 2 for an IP packet.
//!
//! The maker's bytes begin with 6 bits that say what they are. Of some kinds the last four are more
//! of the time stamp: [`Stamp`] has it, and the unit that Gra says.
//!
//! T says that the switch cut the frame, and not by how much. What the inner IP header does not say
//! either is taken for one byte, so that the frame is known to be cut.
//!
//! VLAN and CoS are of the frame as it was. They are not put back: only type II says (En) whether
//! the frame has its tag still, and what makers write there differs.

use super::stamp::Stamp;
use super::tunnel::{Decapsulated, Direction, DropReason, Encapsulation, Scope, Unread};

/// The protocol in GRE of types I and II.
pub(super) const PROTOCOL_I_II: u16 = 0x88be;
/// The protocol in GRE of type III.
pub(super) const PROTOCOL_III: u16 = 0x22eb;

/// Takes nothing off: type I.
#[inline(always)]
pub(super) fn without_header(rest: Unread<'_>) -> Result<Decapsulated<'_>, DropReason> {
    Decapsulated::ethernet(Encapsulation::Erspan, rest.bytes, rest.arrived)
}

/// Takes the header of type II or III off.
///
/// # Errors
/// - [`DropReason::ShortTunnelHeader`]: there are fewer bytes than it has;
/// - [`DropReason::UnknownTunnelVersion`]: it is of neither type;
/// - [`DropReason::UnknownInnerProtocol`]: type III with neither a frame nor a packet;
/// - those of a frame or a packet.
#[inline]
pub(super) fn decapsulate(mut rest: Unread<'_>) -> Result<Decapsulated<'_>, DropReason> {
    let &[first, _, high, low] = rest.header()?;
    let session = u16::from_be_bytes([high, low]) & 0x03ff;
    let is_cut = high & 0x04 != 0;
    let (inner, direction, stamp) = match first >> 4 {
        1 => {
            rest.header::<4>()?;
            (without_header(rest)?, None, None)
        }
        2 => {
            let &[a, b, c, d, _, _, kind, last] = rest.header()?;
            let upper = if last & 0x01 == 0 { None } else { upper(*rest.header()?) };
            let stamp = Stamp::new(u32::from_be_bytes([a, b, c, d]), upper, last >> 1 & 0x03);
            let inner = match kind >> 2 & 0x1f {
                0 => without_header(rest)?,
                2 => Decapsulated::ip(Encapsulation::Erspan, rest)?,
                _ => return Err(DropReason::UnknownInnerProtocol),
            };
            let direction = if last & 0x08 == 0 { Direction::Inbound } else { Direction::Outbound };
            (inner, Some(direction), Some(stamp))
        }
        _ => return Err(DropReason::UnknownTunnelVersion),
    };
    let original = inner.original.max(inner.arrived.saturating_add(is_cut.into()));
    Ok(Decapsulated { scope: Some(Scope(session.into())), direction, original, stamp, ..inner })
}

/// Returns what the maker's bytes have of the time stamp: in these kinds.
fn upper([kind, _, _, _, time @ ..]: [u8; 8]) -> Option<u32> {
    matches!(kind >> 2, 0 | 3 | 5 | 6 | 7).then(|| u32::from_be_bytes(time))
}
