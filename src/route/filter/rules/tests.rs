use std::net::Ipv4Addr;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::wire::LinkType;
use crate::wire::layers::{Fragment, Ip, TcpFlags};

/// The outer source of the session.
const ENI: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 5));

const ANY: Rule = Rule {
    number: 1,
    action: Action::Accept,
    direction: None,
    protocol: None,
    source: None,
    destination: None,
    source_ports: None,
    ports: None,
};

fn packet(source: IpAddr, destination: IpAddr, protocol: u8, ports: Option<[u16; 2]>) -> Layers {
    let (fragment, flags) = (Fragment::Whole, TcpFlags::default());
    let ip = Ip { source, destination, protocol, fragment, ports, flags, transport: 34, payload: 54, end: 60 };
    Layers { ethertype: 0x0800, network: 14, ip: Some(ip) }
}

const NOT_IP: Layers = Layers { ethertype: 0x0806, network: 14, ip: None };

/// What the words of the documentation say, one after the other.
fn model(rules: &[Rule], eni: IpAddr, layers: &Layers) -> bool {
    if rules.is_empty() {
        return true;
    }
    let direction = layers.ip.and_then(|ip| match (ip.source == eni, ip.destination == eni) {
        (true, _) => Some(Direction::Outbound),
        (_, true) => Some(Direction::Inbound),
        _ => None,
    });
    let mut rules = rules.to_vec();
    rules.sort_by_key(|rule| rule.number);
    for rule in rules {
        if let (Some(asked), Some(is)) = (rule.direction, direction)
            && asked != is
        {
            continue;
        }
        let says_something = rule.protocol.is_some()
            || rule.source.is_some()
            || rule.destination.is_some()
            || rule.source_ports.is_some()
            || rule.ports.is_some();
        let matches = match &layers.ip {
            None => !says_something,
            Some(ip) => {
                let lies_in = |port: u16, range: Ports| range.first <= port && port <= range.last;
                rule.protocol.is_none_or(|protocol| protocol == ip.protocol)
                    && rule.source.is_none_or(|net| net.contains(&ip.source))
                    && rule.destination.is_none_or(|net| net.contains(&ip.destination))
                    && rule.source_ports.is_none_or(|range| ip.ports.is_some_and(|ports| lies_in(ports[0], range)))
                    && rule.ports.is_none_or(|range| ip.ports.is_some_and(|ports| lies_in(ports[1], range)))
            }
        };
        if matches {
            return rule.action == Action::Accept;
        }
    }
    false
}

/// Addresses of which many are equal, or of one network.
fn addresses(is_v6: bool) -> BoxedStrategy<IpAddr> {
    if is_v6 {
        let low = prop_oneof![0..4u128, Just(u128::MAX >> 64), any::<u128>().prop_map(|low| low >> 64)];
        (0..3u128, low).prop_map(|(net, low)| IpAddr::from((0x2001_0db8 << 96 | net << 64 | low).to_be_bytes())).boxed()
    } else {
        let last = prop_oneof![Just(0u8), Just(5), Just(255), any::<u8>()];
        let one = prop_oneof![Just(10u8), Just(192), any::<u8>()];
        (one, 0..2u8, 0..3u8, last).prop_map(|(a, b, c, d)| IpAddr::from([a, b, c, d])).boxed()
    }
}

fn ports() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0u16), Just(53), Just(443), Just(u16::MAX), 50..60u16, any::<u16>()]
}

fn nets() -> impl Strategy<Value = Option<IpNet>> {
    let net = any::<bool>().prop_flat_map(|is_v6| {
        let most = if is_v6 { 128u8 } else { 32 };
        let length = prop_oneof![Just(0), Just(most / 2), Just(most), 0..=most];
        (addresses(is_v6), length).prop_map(|(address, length)| IpNet::new(address, length).unwrap())
    });
    proptest::option::weighted(0.5, net)
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let range = || {
        let range = (ports(), ports()).prop_map(|(a, b)| Ports { first: a.min(b), last: a.max(b) });
        proptest::option::weighted(0.3, range)
    };
    let direction = prop_oneof![Just(None), Just(Some(Direction::Inbound)), Just(Some(Direction::Outbound))];
    let protocol = proptest::option::weighted(0.4, prop_oneof![Just(6u8), Just(17), Just(1), any::<u8>()]);
    let rule = (any::<u32>(), any::<bool>(), direction, protocol, nets(), nets(), range(), range());
    let rule = rule.prop_map(|(number, accepts, direction, protocol, source, destination, source_ports, ports)| {
        let action = if accepts { Action::Accept } else { Action::Reject };
        Rule { number, action, direction, protocol, source, destination, source_ports, ports }
    });
    vec(rule, 0..100)
}

fn traffic() -> impl Strategy<Value = Layers> {
    let protocol = prop_oneof![Just(6u8), Just(17), Just(1), any::<u8>()];
    let eni = proptest::option::of(any::<bool>());
    let parts = (any::<bool>(), protocol, proptest::option::weighted(0.8, [ports(), ports()]), eni);
    let packets = parts.prop_flat_map(|(is_v6, protocol, ports, eni)| {
        (addresses(is_v6), addresses(is_v6)).prop_map(move |(source, destination)| {
            let source = if eni == Some(true) && !is_v6 { ENI } else { source };
            let destination = if eni == Some(false) && !is_v6 { ENI } else { destination };
            packet(source, destination, protocol, ports)
        })
    });
    prop_oneof![30 => packets, 1 => Just(NOT_IP)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn rules_decide_as_their_description_says(rules in rules(), traffic in vec(traffic(), 60)) {
        let compiled = Rules::new(&rules);
        prop_assume!(compiled.is_ok());
        let compiled = compiled.unwrap();
        for layers in &traffic {
            let (ours, wanted) = (compiled.accepts(ENI, layers), model(&rules, ENI, layers));
            prop_assert_eq!(ours, wanted, "{:?}", layers);
        }
    }
}

#[test]
fn the_lowest_number_that_matches_decides() {
    let net = |text: &str| Some(text.parse().unwrap());
    let https = Some(Ports { first: 443, last: 443 });
    let rules = [
        Rule { number: 300, ..ANY },
        Rule { number: 100, protocol: Some(6), source: net("10.0.0.0/8"), ports: https, ..ANY },
        Rule { number: 200, action: Action::Reject, protocol: Some(6), ..ANY },
    ];
    let rules = Rules::new(&rules).unwrap();
    let from = |source: [u8; 4], protocol, port| {
        rules.accepts(ENI, &packet(source.into(), ENI, protocol, Some([50_000, port])))
    };
    assert!(from([10, 9, 9, 9], 6, 443), "rule 100");
    assert!(!from([10, 9, 9, 9], 6, 80) && !from([11, 9, 9, 9], 6, 443), "rule 200");
    assert!(from([11, 9, 9, 9], 17, 443), "rule 300");
}

#[test]
fn what_no_rule_matches_is_not_kept_and_without_rules_all_is() {
    let none = Rules::new(&[]).unwrap();
    let out = packet(ENI, [10, 0, 0, 9].into(), 6, Some([1, 2]));
    assert!(none.accepts(ENI, &out) && none.accepts(ENI, &NOT_IP));
    let udp = Rules::new(&[Rule { protocol: Some(17), ..ANY }]).unwrap();
    assert!(!udp.accepts(ENI, &out) && !udp.accepts(ENI, &NOT_IP));
    let all = Rules::new(&[ANY]).unwrap();
    assert!(all.accepts(ENI, &out) && all.accepts(ENI, &NOT_IP));
}

#[test]
fn the_direction_is_told_by_the_source_of_the_session() {
    let other = IpAddr::from([10, 0, 0, 9]);
    let (out, back) = (packet(ENI, other, 6, None), packet(other, ENI, 6, None));
    let group = packet(other, [224, 0, 0, 1].into(), 17, None);
    let v6: [IpAddr; 2] = ["2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap()];
    let v6 = packet(v6[0], v6[1], 6, None);
    for (direction, kept) in [(Direction::Outbound, [true, false]), (Direction::Inbound, [false, true])] {
        let rules = Rules::new(&[Rule { direction: Some(direction), ..ANY }]).unwrap();
        assert_eq!([&out, &back].map(|packet| rules.accepts(ENI, packet)), kept);
        assert_eq!([&group, &v6, &NOT_IP].map(|packet| rules.accepts(ENI, packet)), [true; 3], "not known");
    }
}

#[test]
fn fragments_without_ports_match_no_rule_about_ports() {
    let port = Rule { number: 1, ports: Some(Ports { first: 0, last: u16::MAX }), ..ANY };
    let rules = Rules::new(&[port]).unwrap();
    assert!(rules.accepts(ENI, &packet(ENI, ENI, 17, Some([0, 0]))));
    assert!(!rules.accepts(ENI, &packet(ENI, ENI, 17, None)));
}

#[test]
fn rules_that_do_not_go_together_are_refused() {
    let (inbound, outbound) = (Some(Direction::Inbound), Some(Direction::Outbound));
    let of = |direction| Rule { direction, ..ANY };
    assert!(Rules::new(&[of(inbound), of(outbound)]).is_ok(), "each direction has its own numbers");
    for pair in [[inbound, inbound], [inbound, None], [None, None]] {
        assert_eq!(Rules::new(&pair.map(of)), Err(RulesError::Twice { number: 1, first: 0, second: 1 }));
    }
    let many = |n: u32| (0..n).map(|number| Rule { number, ..ANY }).collect::<Vec<_>>();
    assert!(Rules::new(&many(1024)).is_ok());
    assert_eq!(Rules::new(&many(1025)), Err(RulesError::TooMany(1025)));
}

#[test]
fn a_frame_is_decided_by_what_is_in_it() {
    let mut frame = vec![0; 60];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14..18].copy_from_slice(&[0x45, 0, 0, 46]);
    frame[23] = 6;
    frame[26..34].copy_from_slice(&[10, 0, 1, 5, 192, 0, 2, 1]);
    frame[34..38].copy_from_slice(&[0xc3, 0x50, 0x01, 0xbb]);
    let layers = Layers::of(&frame, LinkType::Ethernet);
    let https = |direction| Rule { direction, ports: Some(Ports { first: 443, last: 443 }), ..ANY };
    assert!(Rules::new(&[https(Some(Direction::Outbound))]).unwrap().accepts(ENI, &layers));
    assert!(!Rules::new(&[https(Some(Direction::Inbound))]).unwrap().accepts(ENI, &layers));
}
