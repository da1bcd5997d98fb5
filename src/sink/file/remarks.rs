//! A record of pcapng says more of a frame than when it came.

use crate::record::contents::Remarks;
use crate::route::dedup;
use crate::session::{Label, Session};
use crate::wire::{Direction, inner};

/// Returns what there is to say of a frame of this session, which went this `way` where its mirror
/// said so. `lost` is the number of frames that were dropped before it.
pub(super) fn remarks(
    session: Option<&Session>,
    label: &Label,
    frame: &[u8],
    way: Option<Direction>,
    lost: u64,
) -> Remarks<'static> {
    let packet_id = session
        .filter(|_| label.packet_ids)
        .and_then(|session| dedup::packet_id(frame, session.encapsulation.link_type()));
    Remarks { notes: &[], direction: way.or_else(|| direction(session, frame)), lost, packet_id }
}

/// Says whether the mirrored instance sent the frame or received it, as seen from its interface.
/// The outer source is an address of that interface: what came from it went out, what is for it
/// came in. Of other frames, as those of an instance that forwards, it is not known.
fn direction(session: Option<&Session>, frame: &[u8]) -> Option<Direction> {
    let ([source, destination], session) = inner::addresses(frame).zip(session)?;
    let address = session.address();
    if source == address {
        Some(Direction::Outbound)
    } else if destination == address {
        Some(Direction::Inbound)
    } else {
        None
    }
}
