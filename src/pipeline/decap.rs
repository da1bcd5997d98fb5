//! The pure step from a datagram to a frame, or to the reason why there is none.

use crate::source::Datagram;
use crate::wire::DropReason;
use crate::wire::vxlan::{self, Decapsulated};

/// What to do about reserved bits in a VXLAN header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservedBits {
    /// Ignore and count them, as RFC 7348 section 5 says.
    Accept,
    /// Drop the datagram.
    Reject,
}

/// The inner frame of a datagram.
///
/// # Errors
/// Why it yields none. A datagram whose end is missing yields none, for its frame would be half of one.
#[inline]
pub fn decapsulate<'a>(datagram: &Datagram<'a>, policy: ReservedBits) -> Result<Decapsulated<'a>, DropReason> {
    if datagram.truncated {
        return Err(DropReason::TruncatedDatagram);
    }
    let inner = vxlan::decapsulate(datagram.payload)?;
    if inner.reserved_bits && policy == ReservedBits::Reject {
        return Err(DropReason::ReservedBits);
    }
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Timestamp;
    use std::net::Ipv6Addr;

    #[test]
    fn policies() {
        let mut payload = [0; 8 + 60];
        payload[0] = vxlan::I_FLAG;
        let decap = |payload: &[u8], truncated, policy| {
            let (source, timestamp) = (Ipv6Addr::LOCALHOST, Timestamp::from_ns(1));
            decapsulate(&Datagram { payload, truncated, source, timestamp }, policy).map(|inner| inner.frame.len())
        };
        assert_eq!(decap(&payload, false, ReservedBits::Reject), Ok(60));
        assert_eq!(decap(&payload, true, ReservedBits::Accept), Err(DropReason::TruncatedDatagram));
        payload[1] = 1;
        assert_eq!(decap(&payload, false, ReservedBits::Accept), Ok(60));
        assert_eq!(decap(&payload, false, ReservedBits::Reject), Err(DropReason::ReservedBits));
    }
}
