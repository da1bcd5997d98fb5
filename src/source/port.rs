//! The UDP port that a datagram comes to decides how its frame is wrapped.

use crate::wire::Encapsulation;

/// A port that is listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) number: u16,
    /// The way in which all is wrapped that comes there.
    pub(super) encapsulation: Encapsulation,
}

impl Port {
    /// Makes a port for VXLAN, as all are.
    #[must_use]
    pub(super) const fn vxlan(number: u16) -> Self {
        Self { number, encapsulation: Encapsulation::Vxlan }
    }

    /// Returns the encapsulation of the port with this number.
    #[inline]
    #[must_use]
    pub(super) fn encapsulation_of(ports: &[Self], number: u16) -> Encapsulation {
        ports.iter().find(|port| port.number == number).map(|port| port.encapsulation).unwrap_or_default()
    }
}
