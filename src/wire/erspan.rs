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
//! O that 8 bytes follow that only the switch's maker knows. FT is 0 for a frame and 2 for an IP
//! packet. A frame that the switch cut (T) is known to be cut by its IP header. The VLAN that a
//! switch took off a frame is not put back.

use super::tunnel::{Decapsulated, Direction, DropReason, Encapsulation, Scope, Unread};

/// The protocol in GRE of types I and II.
pub(super) const PROTOCOL_I_II: u16 = 0x88be;
/// The protocol in GRE of type III.
pub(super) const PROTOCOL_III: u16 = 0x22eb;

/// Takes nothing off: type I.
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
pub(super) fn decapsulate(mut rest: Unread<'_>) -> Result<Decapsulated<'_>, DropReason> {
    let &[first, _, high, low] = rest.header()?;
    let session = u16::from_be_bytes([high, low]) & 0x03ff;
    let (inner, direction) = match first >> 4 {
        1 => {
            rest.header::<4>()?;
            (without_header(rest)?, None)
        }
        2 => {
            let &[.., kind, last] = rest.header::<8>()?;
            if last & 0x01 != 0 {
                rest.header::<8>()?;
            }
            let inner = match kind >> 2 & 0x1f {
                0 => without_header(rest)?,
                2 => Decapsulated::ip(Encapsulation::Erspan, rest)?,
                _ => return Err(DropReason::UnknownInnerProtocol),
            };
            (inner, Some(if last & 0x08 == 0 { Direction::Inbound } else { Direction::Outbound }))
        }
        _ => return Err(DropReason::UnknownTunnelVersion),
    };
    Ok(Decapsulated { scope: Some(Scope(session.into())), direction, ..inner })
}
