//! The UDP port that a datagram comes to decides how its frame is wrapped; over IP it is GRE.

use std::fmt;
use std::net::{AddrParseError, SocketAddr};
use std::str::FromStr;

use crate::wire::{Carrier, Encapsulation};

/// An address that is listened on, and what comes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// The address. Port 0 stands for one that the kernel chooses; over IP there is no other.
    pub address: SocketAddr,
    /// The protocol below.
    pub carrier: Carrier,
    /// The way in which all is wrapped that comes there.
    pub encapsulation: Encapsulation,
}

/// Makes a listener for VXLAN.
impl From<SocketAddr> for Listener {
    fn from(address: SocketAddr) -> Self {
        Self { address, carrier: Carrier::Udp, encapsulation: Encapsulation::Vxlan }
    }
}

/// Reads the address of a listener for VXLAN.
impl FromStr for Listener {
    type Err = AddrParseError;

    fn from_str(address: &str) -> Result<Self, AddrParseError> {
        address.parse::<SocketAddr>().map(Self::from)
    }
}

impl Listener {
    /// Makes a listener for GRE over IP, with all that GRE carries.
    #[must_use]
    pub fn over_ip(mut address: SocketAddr) -> Self {
        address.set_port(0);
        Self { address, carrier: Carrier::Ip, encapsulation: Encapsulation::Gre }
    }

    /// Says whether two sockets for these are bound to the same place.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        (self.address, self.carrier) == (other.address, other.carrier)
    }
}

/// Shows the address, with what comes there in front unless that is VXLAN.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.carrier == Carrier::Ip {
            return write!(f, "{}:{}", Encapsulation::Gre.label(), Portless(self.address));
        }
        match self.encapsulation.over_udp() {
            Some((word, _)) if self.encapsulation != Encapsulation::Vxlan => write!(f, "{word}:{}", self.address),
            _ => self.address.fmt(f),
        }
    }
}

/// Shows an address as it is written where there are no ports.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portless(pub(crate) SocketAddr);

impl fmt::Display for Portless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SocketAddr::V4(v4) => v4.ip().fmt(f),
            SocketAddr::V6(v6) if v6.scope_id() == 0 => write!(f, "[{}]", v6.ip()),
            SocketAddr::V6(v6) => write!(f, "[{}%{}]", v6.ip(), v6.scope_id()),
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
    /// Returns that of a listener.
    pub(super) fn of(listener: Listener) -> Self {
        Self { number: listener.address.port(), encapsulation: listener.encapsulation }
    }

    /// Returns the encapsulation of the port with this number.
    #[inline]
    #[must_use]
    pub(super) fn encapsulation_of(ports: &[Self], number: u16) -> Encapsulation {
        ports.iter().find(|port| port.number == number).map(|port| port.encapsulation).unwrap_or_default()
    }
}
