//! The UDP port that a datagram comes to decides how its frame is wrapped.

use std::fmt;
use std::net::{AddrParseError, SocketAddr};
use std::str::FromStr;

use crate::wire::Encapsulation;

/// An address that is listened on, and what comes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// The address. Port 0 stands for one that the kernel chooses.
    pub address: SocketAddr,
    /// The way in which all is wrapped that comes there.
    pub encapsulation: Encapsulation,
}

/// Makes a listener for VXLAN.
impl From<SocketAddr> for Listener {
    fn from(address: SocketAddr) -> Self {
        Self { address, encapsulation: Encapsulation::Vxlan }
    }
}

/// Reads the address of a listener for VXLAN.
impl FromStr for Listener {
    type Err = AddrParseError;

    fn from_str(address: &str) -> Result<Self, AddrParseError> {
        address.parse::<SocketAddr>().map(Self::from)
    }
}

/// Shows the address, with what comes there in front unless that is VXLAN.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.encapsulation.over_udp() {
            Some((word, _)) if self.encapsulation != Encapsulation::Vxlan => write!(f, "{word}:{}", self.address),
            _ => self.address.fmt(f),
        }
    }
}

/// A port that is listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) number: u16,
    /// The way in which all is wrapped that comes there.
    pub(super) encapsulation: Encapsulation,
}

impl Port {
    /// Returns the encapsulation of the port with this number.
    #[inline]
    #[must_use]
    pub(super) fn encapsulation_of(ports: &[Self], number: u16) -> Encapsulation {
        ports.iter().find(|port| port.number == number).map(|port| port.encapsulation).unwrap_or_default()
    }
}
