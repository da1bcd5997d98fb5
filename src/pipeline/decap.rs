//! A pure step leads from a datagram to a frame, or to the reason why there is none.

use crate::source::Datagram;
use crate::wire::{Decapsulated, DropReason, Encapsulation, Options};

/// The policy for reserved bits in the header, and for options that are critical and unknown.
///
/// The comments of the variants are the text of `vxtap run --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReservedBits {
    // RFC 7348 section 5 says to ignore them.
    /// Decapsulate and count.
    Accept,
    /// Drop and count.
    Reject,
}

/// The clock that frames have their times of.
///
/// The comments of the variants are the text of `vxtap run --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Timestamps {
    /// That by which they came.
    #[default]
    Arrival,
    /// The switch's, where ERSPAN III tells a time within a second of the arrival.
    Switch,
}

/// Takes an encapsulation off a datagram.
///
/// # Errors
/// The datagram yields no frame, for the reason that is returned. A datagram whose end is missing
/// yields none, for its frame would be half of one. Where the end is missing because nobody wanted
/// it, the frame is whole as far as it is wanted.
#[inline]
pub(crate) fn decapsulate<'a>(
    datagram: &Datagram<'a>,
    wrap: Encapsulation,
    policy: ReservedBits,
) -> Result<Decapsulated<'a>, DropReason> {
    if datagram.truncated {
        return Err(DropReason::TruncatedDatagram);
    }
    if datagram.wrong_checksum {
        return Err(DropReason::WrongChecksum);
    }
    let inner = wrap.decapsulate(datagram.payload, datagram.length)?;
    if policy == ReservedBits::Reject {
        if inner.reserved_bits {
            return Err(DropReason::ReservedBits);
        }
        if inner.options == Options::Critical {
            return Err(DropReason::CriticalOption);
        }
    }
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::vxlan;

    #[test]
    fn policies() {
        let mut payload = [0; 8 + 60];
        payload[0] = vxlan::I_FLAG;
        fn whole(payload: &[u8]) -> Datagram<'_> {
            Datagram { payload, length: payload.len(), ..Datagram::empty() }
        }
        let decap = |payload: &[u8], truncated, policy| {
            let datagram = Datagram { truncated, ..whole(payload) };
            let wrong = Datagram { wrong_checksum: true, ..datagram };
            assert!(truncated || decapsulate(&wrong, Encapsulation::Vxlan, policy) == Err(DropReason::WrongChecksum));
            decapsulate(&datagram, Encapsulation::Vxlan, policy).map(|inner| inner.frame.len())
        };
        assert_eq!(decap(&payload, false, ReservedBits::Reject), Ok(60));
        assert_eq!(decap(&payload, true, ReservedBits::Accept), Err(DropReason::TruncatedDatagram));
        let part = Datagram { length: 1000, ..whole(&payload) };
        let inner = decapsulate(&part, Encapsulation::Vxlan, ReservedBits::Accept).unwrap();
        assert_eq!((inner.frame.len(), inner.original, inner.arrived), (60, 992, 992), "as much as was kept of it");
        payload[1] = 1;
        assert_eq!(decap(&payload, false, ReservedBits::Accept), Ok(60));
        assert_eq!(decap(&payload, false, ReservedBits::Reject), Err(DropReason::ReservedBits));
    }
}
