//! Rules of a session are written as a cloud's mirror filter has them.
//!
//! A fault is worded so that it goes on from `"WORD" is` and says what to write instead.

use std::fmt;
use std::net::IpAddr;

use clap::ValueEnum;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::sessions::{number, unmapped};
use super::typed::as_typed;
use crate::route::{Action, Ports, Rule};
use crate::wire::Direction;

/// A rule of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleEntry {
    /// The place among the rules of its direction; the lowest is asked first.
    pub number: Option<u32>,
    /// What becomes of packets that match.
    pub action: Option<RuleAction>,
    /// The direction, seen from the mirrored interface; both where it is left out.
    pub direction: Option<RuleDirection>,
    /// The protocol; all where it is left out.
    pub protocol: Option<Protocol>,
    /// The network that packets come from; all where it is left out.
    pub source: Option<Network>,
    /// The network that packets go to; all where it is left out.
    pub destination: Option<Network>,
    /// Source ports; all, and none, where they are left out.
    pub source_ports: Option<PortRange>,
    /// Destination ports.
    pub ports: Option<PortRange>,
}

/// What becomes of packets that match a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleAction {
    /// They are kept.
    Accept,
    /// They are not.
    Reject,
}

/// The direction of packets, seen from the mirrored interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleDirection {
    /// Towards the interface.
    Ingress,
    /// From the interface.
    Egress,
}

impl RuleEntry {
    /// Returns the rule; none where it lacks its number or what it does.
    #[must_use]
    pub(crate) fn rule(&self) -> Option<Rule> {
        Some(Rule {
            number: self.number?,
            action: match self.action? {
                RuleAction::Accept => Action::Accept,
                RuleAction::Reject => Action::Reject,
            },
            direction: self.direction.map(|direction| match direction {
                RuleDirection::Ingress => Direction::Inbound,
                RuleDirection::Egress => Direction::Outbound,
            }),
            protocol: self.protocol.and_then(|Protocol(protocol)| protocol),
            source: self.source.map(|Network(network)| network),
            destination: self.destination.map(|Network(network)| network),
            source_ports: self.source_ports.and_then(|PortRange(range)| range),
            ports: self.ports.and_then(|PortRange(range)| range),
        })
    }
}

/// A protocol, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol(pub Option<u8>);

/// The names of protocols (IANA), the usual one of each number first.
const PROTOCOLS: &[(&str, u8)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("tcp", 6),
    ("udp", 17),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("icmp6", 58),
    ("ipv6-icmp", 58),
    ("ospf", 89),
    ("vrrp", 112),
    ("sctp", 132),
];

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(number) = self.0 else { return f.write_str("all") };
        match PROTOCOLS.iter().find(|(_, known)| *known == number) {
            Some((name, _)) => f.write_str(name),
            None => number.fmt(f),
        }
    }
}

as_typed!(Protocol, protocol);

/// Reads the name or the number of a protocol, or `all`.
///
/// # Errors
/// The text is none of these; the error says what to write.
pub(crate) fn protocol(text: &str) -> Result<Protocol, String> {
    let name = text.trim().to_lowercase();
    // In the cloud, -1 stands for all.
    if name == "all" || name == "-1" {
        return Ok(Protocol(None));
    }
    let known = PROTOCOLS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    let number = known.or_else(|| number(&name)?.try_into().ok());
    number
        .map(|number| Protocol(Some(number)))
        .ok_or_else(|| "not a protocol; write tcp, udp, icmp, icmpv6, all, or a number from 0 to 255".to_owned())
}

/// A network of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl From<IpNet> for Network {
    /// Takes a network in its one form.
    fn from(network: IpNet) -> Self {
        Self(unmapped(network))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

as_typed!(Network, network);

/// Reads an address or a network.
///
/// # Errors
/// The text is none; the error says what to write.
pub(crate) fn network(text: &str) -> Result<Network, String> {
    let text = text.trim();
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    match network {
        Ok(network) if network == network.trunc() => Ok(network.into()),
        Ok(network) => Err(format!(
            "not a network, for it has bits behind the first {}; write {}",
            network.prefix_len(),
            Network::from(network.trunc())
        )),
        Err(_) => Err("not a network; write it as 10.0.0.0/8 or 2001:db8::/32, or leave it out for all".to_owned()),
    }
}

/// Ports of a rule, or all of them and also packets that have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange(pub Option<Ports>);

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("all"),
            Some(Ports { first, last }) if first == last => first.fmt(f),
            Some(Ports { first, last }) => write!(f, "{first}-{last}"),
        }
    }
}

as_typed!(PortRange, ports);

/// Reads a port, a range `A-B`, or `all`.
///
/// # Errors
/// The text is none of these; the error says what to write.
pub(crate) fn ports(text: &str) -> Result<PortRange, String> {
    let text = text.trim();
    if text == "all" {
        return Ok(PortRange(None));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| u16::try_from(number(text.trim())?).ok();
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(PortRange(Some(Ports { first, last }))),
        (Some(first), Some(last)) => Err(format!("an empty range; write {last}-{first}")),
        _ if text.contains(',') => Err("several ranges; write a rule for each".into()),
        _ => Err("not a port or a range of ports; write them as 443 or 1024-65535".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["tcp", "udp", "icmp", "icmpv6", "all", "0", "255", "sctp"] {
            assert_eq!(protocol(text).map(|read| read.to_string()), Ok(text.to_owned()));
        }
        for text in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "2001:db8::1/128"] {
            assert_eq!(network(text).map(|read| read.to_string()), Ok(text.to_owned()));
        }
        for text in ["0", "443", "1024-65535", "all"] {
            assert_eq!(ports(text).map(|read| read.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(protocol("IPv6-ICMP"), Ok(Protocol(Some(58))));
        assert_eq!(protocol("-1"), Ok(Protocol(None)));
        for (text, means) in [
            ("10.0.0.7", "10.0.0.7/32"),
            ("::ffff:10.0.0.7", "10.0.0.7/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(network(text).map(|read| read.to_string()), Ok(means.to_owned()));
        }
    }

    #[test]
    fn what_is_none_is_answered_with_what_would_be() {
        for (said, advice) in [
            (protocol("tpc").map(|_| ()), "write tcp"),
            (protocol("256").map(|_| ()), "from 0 to 255"),
            (protocol("+6").map(|_| ()), "from 0 to 255"),
            (network("10.0.0.1/8").map(|_| ()), "write 10.0.0.0/8"),
            (network("::ffff:10.0.0.1/104").map(|_| ()), "behind the first 104; write 10.0.0.0/8"),
            (network("web").map(|_| ()), "as 10.0.0.0/8"),
            (ports("90-80").map(|_| ()), "write 80-90"),
            (ports("80,443").map(|_| ()), "a rule for each"),
            (ports("http").map(|_| ()), "as 443"),
            (ports("65536").map(|_| ()), "as 443"),
            (ports("+443").map(|_| ()), "as 443"),
            (ports("80-+443").map(|_| ()), "as 443"),
        ] {
            assert!(said.as_ref().is_err_and(|said| said.contains(advice)), "{said:?}: {advice}");
        }
    }
}
