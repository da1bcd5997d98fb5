//! The host's stack refuses some datagrams, and some sources are not what they seem. Whichever way
//! they come, the sensor receives what the stack would deliver.

use std::net::IpAddr;

use crate::captures;
use crate::datagrams::{outer, send_frames, vxlan};
use crate::frames;
use crate::need;
use crate::netns::{Pair, SENSOR};
use crate::process::eventually;
use crate::sensor::{Ended, Setup, WAYS};

/// What the stack does with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stack {
    Delivers,
    Refuses,
    /// Either, as the kernel's version and settings have it; but the same for all ways.
    Decides,
}
use Stack::{Decides, Delivers, Refuses};

const HERE: [u8; 6] = [2, 0, 0, 0, 0x73, SENSOR];
const SOMEBODY: [u8; 6] = [2, 0, 0, 0, 0x73, 99];
const VLAN_5: [u8; 4] = [0x81, 0, 0, 5];

/// A frame for the sensor's cable, by what is unusual about it.
struct Case {
    what: &'static str,
    ethernet: [u8; 6],
    tags: Vec<u8>,
    from: IpAddr,
    to: IpAddr,
    stack: Stack,
    /// The source alone is to blame.
    martian: bool,
}

fn cases() -> Vec<Case> {
    let case = |what, from: &str, to: &str, stack| Case {
        what,
        ethernet: HERE,
        tags: Vec::new(),
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        stack,
        martian: false,
    };
    let martian = |what, from, stack: Stack| Case { martian: true, ..case(what, from, "10.73.0.2", stack) };
    let martian_v6 = |what, from, stack: Stack| Case { martian: true, ..case(what, from, "fd73::2", stack) };
    let plain = || case("nothing", "10.73.0.1", "10.73.0.2", Delivers);
    vec![
        plain(),
        case("nothing over IPv6", "fd73::1", "fd73::2", Delivers),
        martian("from loopback", "127.0.0.1", Refuses),
        martian("from elsewhere in loopback's network", "127.9.9.9", Refuses),
        martian("from nowhere", "0.0.0.0", Refuses),
        martian("from this network", "0.1.2.3", Decides),
        martian("from a group", "224.0.0.5", Refuses),
        martian("from all", "255.255.255.255", Refuses),
        martian("from class E", "240.0.0.1", Decides),
        martian("from the host itself", "10.73.0.2", Refuses),
        martian("from all of its network", "10.73.0.255", Decides),
        martian_v6("from loopback over IPv6", "::1", Refuses),
        martian_v6("from a group over IPv6", "ff02::1", Refuses),
        martian_v6("from nowhere over IPv6", "::", Decides),
        martian_v6("from the host itself over IPv6", "fd73::2", Decides),
        martian_v6("from an IPv4 address over IPv6", "::ffff:10.1.0.77", Delivers),
        case("for loopback", "10.73.0.1", "127.0.0.1", Refuses),
        case("for loopback over IPv6", "fd73::1", "::1", Refuses),
        case("for an IPv4 address over IPv6", "fd73::1", "::ffff:10.73.0.2", Refuses),
        Case { ethernet: SOMEBODY, stack: Refuses, ..case("for another host", "10.73.0.1", "10.73.0.2", Refuses) },
        Case { ethernet: SOMEBODY, ..case("for another host over IPv6", "fd73::1", "fd73::2", Refuses) },
        Case { ethernet: [0xff; 6], ..case("for all hosts on the cable", "10.73.0.1", "10.73.0.2", Delivers) },
        Case { tags: vec![0x81, 0, 0x60, 0], ..case("a priority and no VLAN", "10.73.0.1", "10.73.0.2", Delivers) },
        Case { tags: VLAN_5.to_vec(), stack: Refuses, what: "a VLAN that the host is not in", ..plain() },
        Case { tags: [[0x88, 0xa8, 0, 6], VLAN_5].concat(), stack: Refuses, what: "two of them", ..plain() },
        // An address that a session of IPv4 has, too.
        case("from that IPv4 address", "10.1.0.77", "10.73.0.2", Delivers),
    ]
}

/// Sends each case three times, in a VNI of its own, to a sensor with these arguments.
fn receive(arguments: &str, cases: &[Case]) -> Ended {
    let pair = Pair::new(1600);
    // What is for others comes here as well.
    pair.sensor.ip("link set eth0 promisc on");
    // A source need not be one to which the host has a route.
    for device in ["all", "eth0"] {
        pair.sensor.sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), "0");
    }
    let sensor = Setup::new(&pair.sensor).with(arguments).with("--workers 2").start();
    let frames: Vec<_> = (0..)
        .zip(cases)
        .flat_map(|(vni, case)| {
            let payload = vxlan(8, [0; 3], vni, 0, &frames::numbered(vni, 60));
            vec![outer(case.ethernet, &case.tags, [case.from, case.to], 65_408, &payload); 3]
        })
        .collect();
    let came = || pair.sensor.link_counter("eth0", "rx", "packets");
    let before = came();
    send_frames(&pair.sender, &frames);
    eventually("all have come", || came() - before >= frames.len() as u64);
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{arguments}: {:#?}", ended.log);
    ended.ledger.assert_closes(&ended.captures);
    ended
}

/// Returns the sessions, by VNI.
fn sessions(ended: &Ended) -> Vec<(u32, IpAddr, u64)> {
    let mut sessions: Vec<_> = ended.ledger.sessions().into_iter().map(|(from, vni, n)| (vni, from, n)).collect();
    sessions.sort();
    sessions
}

#[test]
fn what_the_stack_refuses_is_received_in_no_way() {
    if !need::programs(&[]) {
        return;
    }
    let cases = cases();
    let mut by_sockets = Vec::new();
    for way in WAYS {
        let ended = receive(way, &cases);
        let sessions = sessions(&ended);
        for (vni, case) in (0..).zip(&cases) {
            let of: Vec<_> = sessions.iter().filter(|session| session.0 == vni).collect();
            match case.stack {
                Delivers => assert_eq!(of, [&(vni, case.from, 3)], "{way}: {}", case.what),
                Refuses => assert_eq!(of, [&(0, case.from, 0); 0], "{way}: {}", case.what),
                Decides => {}
            }
        }
        if by_sockets.is_empty() {
            by_sockets = sessions;
            assert_eq!(ended.ledger.get("/fast_path/martian"), 0);
        } else {
            assert_eq!(sessions, by_sockets, "{way}");
            let martian = cases.iter().filter(|case| case.martian).count() as u64;
            assert_eq!(ended.ledger.get("/fast_path/martian"), 3 * martian, "{way}: {:#}", ended.ledger.0);
            let taken = ended.ledger.get("/fast_path/taken");
            assert_eq!(taken, 3 * 3, "{way}: what nothing is the matter with: {:#}", ended.ledger.0);
        }
    }
}

#[test]
fn with_any_address_the_frame_may_be_for_others_but_the_source_may_not_be_nobody() {
    if !need::programs(&[]) {
        return;
    }
    let cases = cases();
    for way in &WAYS[1..] {
        let ended = receive(&format!("{way} --any-address"), &cases);
        let sessions = sessions(&ended);
        for (vni, case) in (0..).zip(&cases) {
            let of: Vec<_> = sessions.iter().filter(|session| session.0 == vni).collect();
            let for_others = case.ethernet == SOMEBODY || !case.tags.is_empty();
            match case.stack {
                Delivers => assert_eq!(of, [&(vni, case.from, 3)], "{way}: {}", case.what),
                Refuses if for_others => assert_eq!(of, [&(vni, case.from, 3)], "{way}: {}", case.what),
                Refuses => assert_eq!(of, [&(0, case.from, 0); 0], "{way}: {}", case.what),
                Decides => {}
            }
        }
    }
}

#[test]
fn an_ipv4_address_in_an_ipv6_packet_is_not_that_ipv4_host() {
    if !need::programs(&[]) {
        return;
    }
    let all = cases();
    let two: Vec<Case> =
        all.into_iter().filter(|case| case.what.contains("IPv4 address") && case.stack == Delivers).collect();
    assert_eq!(two.len(), 2);
    let (pretender, host): (IpAddr, IpAddr) = ("::ffff:10.1.0.77".parse().unwrap(), "10.1.0.77".parse().unwrap());
    for way in WAYS {
        let ended = receive(way, &two);
        assert_eq!(sessions(&ended), [(0, pretender, 3), (1, host, 3)], "{way}");
        for (vni, from) in [(0, pretender), (1, host)] {
            assert_eq!(captures::session(&ended.captures, from, vni).len(), 3, "{way}: {from}");
        }
        let ended = receive(&format!("{way} --from 10.1.0.77"), &two);
        assert_eq!(sessions(&ended), [(1, host, 3)], "{way}");
        assert_eq!(ended.ledger.get("/unselected"), 3, "{way}: {:#}", ended.ledger.0);
    }
}
