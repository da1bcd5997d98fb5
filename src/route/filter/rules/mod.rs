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

mod rule;
mod table;

use std::net::IpAddr;

pub use rule::{Action, Ports, Rule};
use table::Table;

use crate::wire::Direction;
use crate::wire::layers::Layers;

/// The most rules of a session.
pub const MOST_RULES: usize = 1024;

/// The reasons why rules do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// There are too many.
    #[error("{0} rules; there can be {MOST_RULES}")]
    TooMany(usize),
    /// Two rules have one number, and which of them comes first would not be said.
    #[error("two rules for the same direction have the number {number}; give one of them another")]
    Twice {
        /// Their number.
        number: u32,
        /// The place of one in the list.
        first: usize,
        /// The place of the other, behind it.
        second: usize,
    },
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
        let mut sorted: Vec<(usize, Rule)> = rules.iter().copied().enumerate().collect();
        sorted.sort_by_key(|(_, rule)| rule.number);
        let table = |list: &[(usize, Rule)]| Table::new(&list.iter().map(|(_, rule)| *rule).collect::<Vec<_>>());
        let of = |way: Direction| {
            let is_of = |rule: &Rule| rule.direction.is_none_or(|of| of == way);
            let list: Vec<(usize, Rule)> = sorted.iter().copied().filter(|(_, rule)| is_of(rule)).collect();
            match list.windows(2).find(|pair| pair[0].1.number == pair[1].1.number) {
                Some(&[(first, Rule { number, .. }), (second, _)]) => Err(RulesError::Twice { number, first, second }),
                _ => Ok(table(&list)),
            }
        };
        Ok(Self { inbound: of(Direction::Inbound)?, outbound: of(Direction::Outbound)?, either: table(&sorted) })
    }

    /// Says whether a packet of a session from `source` is kept. Without a rule, all are.
    #[inline]
    #[must_use]
    pub fn accepts(&self, source: IpAddr, layers: &Layers) -> bool {
        let direction = match &layers.ip {
            Some(ip) if ip.source == source => Some(Direction::Outbound),
            Some(ip) if ip.destination == source => Some(Direction::Inbound),
            _ => None,
        };
        self.accepts_going(direction, layers)
    }

    /// Says whether a packet that went this way is kept.
    #[inline]
    #[must_use]
    pub fn accepts_going(&self, direction: Option<Direction>, layers: &Layers) -> bool {
        let table = match direction {
            Some(Direction::Outbound) => &self.outbound,
            Some(Direction::Inbound) => &self.inbound,
            None => &self.either,
        };
        self.either.is_empty() || table.accepts(layers)
    }
}

#[cfg(test)]
mod tests;
