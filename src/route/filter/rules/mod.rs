//! Rules say which packets of a session are kept, as a cloud's mirror filters do: numbered, the
//! first that matches decides, and what none matches is not kept.
//!
//! A rule can be about one direction. The session's source is an address of the mirrored interface,
//! so a packet from it goes out, and one to it comes in. Of a packet that is neither (to a group,
//! of a second address of the interface, of the other IP version) the direction is not known, and
//! rules of both directions are about it.
//!
//! What a packet costs hardly depends on the number of rules: for each of its fields a search among
//! the bounds that the rules name yields the set of rules that match there, as bits. The lowest bit
//! that is in all sets is the first rule that matches.

mod table;

use std::net::IpAddr;

use ipnet::IpNet;

use crate::wire::Direction;
use crate::wire::layers::Layers;
use table::Table;

/// The most rules of a session.
pub const MOST_RULES: usize = 1024;

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

/// The reasons why rules do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// There are too many.
    #[error("{0} rules; there can be {MOST_RULES}")]
    TooMany(usize),
    /// Two rules have one number, and which of them comes first would not be said.
    #[error("two rules for the same direction have the number {0}; give one of them another")]
    Twice(u32),
}

/// The rules of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    inbound: Table,
    outbound: Table,
    /// All rules, for packets whose direction is not known.
    either: Table,
}

impl Rules {
    /// Makes rules of a list in any order.
    ///
    /// # Errors
    /// There are too many, or two for one direction have the same number.
    pub fn new(rules: &[Rule]) -> Result<Self, RulesError> {
        if rules.len() > MOST_RULES {
            return Err(RulesError::TooMany(rules.len()));
        }
        // Those of one number, one for each direction, stay as they are listed.
        let mut sorted = rules.to_vec();
        sorted.sort_by_key(|rule| rule.number);
        let of = |way: Direction| {
            let list: Vec<Rule> =
                sorted.iter().copied().filter(|rule| rule.direction.is_none_or(|of| of == way)).collect();
            match list.windows(2).find(|pair| pair[0].number == pair[1].number) {
                Some(pair) => Err(RulesError::Twice(pair[0].number)),
                None => Ok(Table::new(&list)),
            }
        };
        Ok(Self { inbound: of(Direction::Inbound)?, outbound: of(Direction::Outbound)?, either: Table::new(&sorted) })
    }

    /// Says whether a packet of a session from `source` is kept. Without a rule, all are.
    #[inline]
    #[must_use]
    pub fn accepts(&self, source: IpAddr, layers: &Layers) -> bool {
        let table = match &layers.ip {
            Some(ip) if ip.source == source => &self.outbound,
            Some(ip) if ip.destination == source => &self.inbound,
            _ => &self.either,
        };
        self.either.is_empty() || table.accepts(layers)
    }
}

#[cfg(test)]
mod tests;
