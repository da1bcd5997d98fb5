//! A table has the rules of one direction, in the order in which they are asked.
//!
//! A set of rules is a bit for each, the first rule the lowest bit of the first word.

use std::net::IpAddr;

use ipnet::IpNet;

use super::rule::{Action, Ports, Rule};
use crate::wire::layers::Layers;

const BITS: usize = u64::BITS as usize;

/// The rules of one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// Words of a set.
    words: usize,
    accepting: Box<[u64]>,
    /// Rules that match what is not IP.
    anything: Box<[u64]>,
    /// Rules that match a packet without ports.
    portless: Box<[u64]>,
    /// The set of each protocol.
    protocols: Box<[u64]>,
    v4: [Field<u32>; 2],
    v6: [Field<u128>; 2],
    ports: [Field<u16>; 2],
}

/// One field of packets: what value belongs to which set.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Field<T> {
    /// The value from which on a set holds, ascending. The first set holds below all of them.
    bounds: Box<[T]>,
    /// A set more than there are bounds.
    sets: Box<[u64]>,
}

impl<T: Copy + Ord> Field<T> {
    /// Makes the field of rules, each of which matches the values of a range with both ends, or
    /// none.
    fn new(words: usize, ranges: &[Option<(T, T)>], after: impl Fn(T) -> Option<T>) -> Self {
        let ends = ranges.iter().flatten().flat_map(|(first, last)| [Some(*first), after(*last)]);
        let mut bounds: Vec<T> = ends.flatten().collect();
        bounds.sort_unstable();
        bounds.dedup();
        // Below the first bound no rule matches.
        let mut sets = set(words, ranges.iter().map(|_| false)).into_vec();
        for bound in &bounds {
            let matches = ranges.iter().map(|range| range.is_some_and(|(first, last)| (first..=last).contains(bound)));
            sets.extend(set(words, matches));
        }
        Self { bounds: bounds.into(), sets: sets.into() }
    }

    /// Returns the rules that match this value.
    #[inline]
    fn of(&self, value: T, words: usize) -> &[u64] {
        let number = self.bounds.partition_point(|bound| *bound <= value);
        self.sets.get(number * words..(number + 1) * words).unwrap_or_default()
    }
}

/// Makes a set of `words` words.
fn set(words: usize, matches: impl Iterator<Item = bool>) -> Box<[u64]> {
    let mut set = vec![0; words];
    for (rule, matches) in matches.enumerate() {
        set[rule / BITS] |= u64::from(matches) << (rule % BITS);
    }
    set.into()
}

/// Returns the addresses of a network, as numbers of the one version or the other.
fn v4(net: Option<IpNet>) -> Option<(u32, u32)> {
    match net {
        None => Some((0, u32::MAX)),
        Some(IpNet::V4(net)) => Some((net.network().to_bits(), net.broadcast().to_bits())),
        Some(IpNet::V6(_)) => None,
    }
}

fn v6(net: Option<IpNet>) -> Option<(u128, u128)> {
    match net {
        None => Some((0, u128::MAX)),
        Some(IpNet::V6(net)) => Some((net.network().to_bits(), net.broadcast().to_bits())),
        Some(IpNet::V4(_)) => None,
    }
}

fn range(ports: Option<Ports>) -> Option<(u16, u16)> {
    ports.map_or(Some((0, u16::MAX)), |ports| Some((ports.first, ports.last)))
}

impl Table {
    /// Makes a table of rules in their order.
    pub(super) fn new(rules: &[Rule]) -> Self {
        let words = rules.len().div_ceil(BITS);
        let set = |matches: &dyn Fn(&Rule) -> bool| set(words, rules.iter().map(matches));
        let v4 = |of: fn(&Rule) -> Option<IpNet>| {
            Field::new(words, &rules.iter().map(|rule| v4(of(rule))).collect::<Vec<_>>(), |last| last.checked_add(1))
        };
        let v6 = |of: fn(&Rule) -> Option<IpNet>| {
            Field::new(words, &rules.iter().map(|rule| v6(of(rule))).collect::<Vec<_>>(), |last| last.checked_add(1))
        };
        let ports = |of: fn(&Rule) -> Option<Ports>| {
            Field::new(words, &rules.iter().map(|rule| range(of(rule))).collect::<Vec<_>>(), |last| last.checked_add(1))
        };
        let portless = |rule: &Rule| rule.source_ports.is_none() && rule.ports.is_none();
        let anything = |rule: &Rule| {
            portless(rule) && rule.protocol.is_none() && rule.source.is_none() && rule.destination.is_none()
        };
        Self {
            words,
            accepting: set(&|rule| rule.action == Action::Accept),
            anything: set(&anything),
            portless: set(&portless),
            protocols: (0..=u8::MAX)
                .flat_map(|number| set(&|rule| rule.protocol.is_none_or(|of| of == number)))
                .collect(),
            v4: [v4(|rule| rule.source), v4(|rule| rule.destination)],
            v6: [v6(|rule| rule.source), v6(|rule| rule.destination)],
            ports: [ports(|rule| rule.source_ports), ports(|rule| rule.ports)],
        }
    }

    /// Says whether there is no rule.
    pub(super) fn is_empty(&self) -> bool {
        self.words == 0
    }

    /// Says whether the first rule that matches accepts.
    #[inline]
    pub(super) fn accepts(&self, layers: &Layers) -> bool {
        let words = self.words;
        let Some(ip) = &layers.ip else { return self.first([&self.anything; 5]) };
        let (source, destination) = match (ip.source, ip.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                (self.v4[0].of(source.to_bits(), words), self.v4[1].of(destination.to_bits(), words))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                (self.v6[0].of(source.to_bits(), words), self.v6[1].of(destination.to_bits(), words))
            }
            // There is no such packet.
            _ => (&*self.anything, &*self.anything),
        };
        let (source_port, port) = match ip.ports {
            Some([source, destination]) => (self.ports[0].of(source, words), self.ports[1].of(destination, words)),
            None => (&*self.portless, &*self.portless),
        };
        let number = usize::from(ip.protocol);
        let protocol = self.protocols.get(number * words..(number + 1) * words).unwrap_or_default();
        self.first([source, destination, source_port, port, protocol])
    }

    /// Says whether the first rule that is in all sets accepts; not where there is none.
    #[inline]
    fn first(&self, [a, b, c, d, e]: [&[u64]; 5]) -> bool {
        let both = |a: &[u64], b: &[u64], at: usize| a.get(at).zip(b.get(at)).map_or(0, |(a, b)| a & b);
        for at in 0..self.words {
            let matching = both(a, b, at) & both(c, d, at) & e.get(at).copied().unwrap_or(0);
            if matching != 0 {
                let lowest = matching & matching.wrapping_neg();
                return self.accepting.get(at).is_some_and(|accepting| accepting & lowest != 0);
            }
        }
        false
    }
}
