//! The pure step from a datagram to a frame, or to the reason why there is none.

use crate::source::Datagram;
use crate::wire::DropReason;
use crate::wire::vxlan::{self, Decapsulated};

/// The policy for reserved bits in the VXLAN header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReservedBits {
    // RFC 7348 section 5 says to ignore them.
    /// Decapsulate and count.
    Accept,
    /// Drop and count.
    Reject,
}

/// The inner frame of a datagram.
///
/// # Errors
/// Why it yields none. A datagram whose end is missing yields none, for its frame would be half of one; not so where the end is missing because
/// nobody wanted it.
#[inline]
pub fn decapsulate<'a>(datagram: &Datagram<'a>, policy: ReservedBits) -> Result<Decapsulated<'a>, DropReason> {
    if datagram.truncated {
        return Err(DropReason::TruncatedDatagram);
    }
    if datagram.wrong_checksum {
        return Err(DropReason::WrongChecksum);
    }
    let mut inner = vxlan::decapsulate(datagram.payload)?;
    inner.orig_len = inner.orig_len.max(u32::try_from(frame_len(datagram)).unwrap_or(u32::MAX));
    if inner.reserved_bits && policy == ReservedBits::Reject {
        return Err(DropReason::ReservedBits);
    }
    Ok(inner)
}

/// Bytes of the inner frame of a whole datagram as it arrived, kept or not.
#[inline]
pub fn frame_len(datagram: &Datagram<'_>) -> usize {
    datagram.length.saturating_sub(vxlan::HEADER_LEN)
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
            let (length, wrong_checksum) = (payload.len(), false);
            let datagram =
                Datagram { payload, length, truncated, wrong_checksum, redirected: false, source, timestamp };
            let wrong = Datagram { wrong_checksum: true, ..datagram };
            assert!(truncated || decapsulate(&wrong, policy) == Err(DropReason::WrongChecksum));
            decapsulate(&datagram, policy).map(|inner| inner.frame.len())
        };
        assert_eq!(decap(&payload, false, ReservedBits::Reject), Ok(60));
        assert_eq!(decap(&payload, true, ReservedBits::Accept), Err(DropReason::TruncatedDatagram));
        let (source, timestamp) = (Ipv6Addr::LOCALHOST, Timestamp::from_ns(1));
        let part = Datagram {
            payload: &payload,
            length: 1000,
            truncated: false,
            wrong_checksum: false,
            redirected: false,
            source,
            timestamp,
        };
        let inner = decapsulate(&part, ReservedBits::Accept).unwrap();
        assert_eq!((inner.frame.len(), inner.orig_len, frame_len(&part)), (60, 992, 992), "as much as was kept of it");
        payload[1] = 1;
        assert_eq!(decap(&payload, false, ReservedBits::Accept), Ok(60));
        assert_eq!(decap(&payload, false, ReservedBits::Reject), Err(DropReason::ReservedBits));
    }
}
