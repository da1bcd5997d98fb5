//! A rule has a number, conditions, and what becomes of the packets that meet all of them.

use ipnet::IpNet;

use crate::wire::Direction;

/// What becomes of a packet that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The packet is kept.
    Accept,
    /// The packet is not kept.
    Reject,
}

/// A range of ports, with both ends in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last, not below the first.
    pub last: u16,
}

/// A rule. A packet matches it that has all that the rule says. A rule that says nothing at all
/// matches every frame, one that says something of addresses, protocol or ports no frame but IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The place among the rules of its direction: the lowest is asked first.
    pub number: u32,
    /// What becomes of a packet that matches.
    pub action: Action,
    /// The direction of the packet; either where there is none.
    pub direction: Option<Direction>,
    /// The protocol of layer 4.
    pub protocol: Option<u8>,
    /// The network that the packet comes from; one of IPv4 has no packets of IPv6.
    pub source: Option<IpNet>,
    /// The network that it goes to.
    pub destination: Option<IpNet>,
    /// Its source port. A packet without ports, such as a later fragment, does not match.
    pub source_ports: Option<Ports>,
    /// Its destination port.
    pub ports: Option<Ports>,
}
