//! A mirror filter of AWS becomes rules of a session, which mean the same.

use ipnet::IpNet;

use super::super::rules::{Network, PortRange, Protocol, RuleAction, RuleDirection, RuleEntry};
use super::document::{self, Filter, FilterRule};
use crate::route::Ports;

/// Returns the rules of a filter.
///
/// # Errors
/// A rule is not what AWS has; the text says which.
pub(super) fn of(filter: &Filter) -> Result<Vec<RuleEntry>, String> {
    let directions =
        [(&filter.ingress_filter_rules, RuleDirection::Ingress), (&filter.egress_filter_rules, RuleDirection::Egress)];
    let mut rules = Vec::new();
    for (of_direction, direction) in directions {
        let mut of_direction: Vec<&FilterRule> = of_direction.iter().collect();
        of_direction.sort_by_key(|rule| rule.rule_number);
        for rule in of_direction {
            let made = one(rule, direction).map_err(|fault| match rule.rule_number {
                Some(number) => format!("its rule {number} {fault}"),
                None => "a rule has no number".into(),
            });
            rules.push(made?);
        }
    }
    Ok(rules)
}

fn one(rule: &FilterRule, direction: RuleDirection) -> Result<RuleEntry, String> {
    let action = match rule.rule_action.as_str() {
        "accept" => RuleAction::Accept,
        "reject" => RuleAction::Reject,
        other => return Err(format!("has the action {other:?}")),
    };
    let protocol = match rule.protocol {
        // -1 stands for all of them.
        None | Some(-1) => None,
        Some(number) => Some(Protocol(Some(u8::try_from(number).map_err(|_| format!("has the protocol {number}"))?))),
    };
    Ok(RuleEntry {
        number: Some(rule.rule_number.ok_or("has no number")?),
        action: Some(action),
        direction: Some(direction),
        protocol,
        source: network(rule.source_cidr_block.as_deref())?,
        destination: network(rule.destination_cidr_block.as_deref())?,
        source_ports: ports(rule.source_port_range)?,
        ports: ports(rule.destination_port_range)?,
    })
}

/// Reads a block of addresses. AWS keeps bits behind the prefix as they were typed.
fn network(text: Option<&str>) -> Result<Option<Network>, String> {
    let Some(text) = text else { return Ok(None) };
    let network: IpNet = text.parse().map_err(|_| format!("has the block {text:?}"))?;
    Ok(Some(network.trunc().into()))
}

fn ports(range: Option<document::PortRange>) -> Result<Option<PortRange>, String> {
    let Some(document::PortRange { from_port, to_port }) = range else { return Ok(None) };
    match (from_port, to_port) {
        (Some(first), Some(last)) if first <= last => Ok(Some(PortRange(Some(Ports { first, last })))),
        (Some(first), Some(last)) => Err(format!("has the ports {first} to {last}")),
        (None, None) => Ok(None),
        _ => Err("has ports with one end".into()),
    }
}
