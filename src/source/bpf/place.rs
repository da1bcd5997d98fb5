//! Lists what the program compares a packet with, so that it takes what the stack would: where
//! datagrams for the sensor come in.
//!
//! The stack judges a frame by the interface, the Ethernet address and the VLAN before it looks at
//! the IP address. So a key of the program's map has all of these. An address is listed with each
//! place, since Linux takes an address of the host at any of its interfaces; but a loopback address
//! with the loopback interface alone.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use pnet::ipnetwork::IpNetwork;

use super::interface::Interface;
use crate::source::Listener;
use crate::sys::rtnetlink::Link;
use crate::wire::Encapsulation;

/// `struct endpoint`: the address, the port in network order and whether it is of IPv6, then the
/// place.
pub(super) type Endpoint = [u32; 10];
/// An endpoint, with what comes there.
pub(super) type Listened = (Endpoint, u32);
/// The second half of an endpoint: interface, two VLAN tags, Ethernet address. All are zero where
/// the place does not matter.
type Place = [u32; 5];
/// `struct source`: an address.
pub(super) type SourceKey = [u32; 4];

/// `VXLAN` and `GENEVE`: the first word of a header without a fault.
const VXLAN: u32 = 0x0800_0000_u32.to_be();
const GENEVE: u32 = 0x6558_u32.to_be();

/// The number of the loopback interface.
const LOOPBACK: u32 = 1;

/// Lists the endpoints of what a socket on each of these addresses receives from these interfaces,
/// with what comes there.
pub(super) fn endpoints(
    listen: &[Listener],
    any_address: bool,
    attached: &[String],
    interfaces: &[Interface],
    links: &[Link],
) -> HashSet<Listened> {
    let all = || interfaces.iter().flat_map(|interface| interface.addresses.iter().map(|network| network.ip()));
    let places = places(attached, links);
    let mut found = HashSet::new();
    for listener in listen {
        let (ip, port, wrap) = (listener.address.ip(), listener.address.port(), wrap(listener.encapsulation));
        if any_address {
            found.insert((endpoint(None, port, Place::default()), wrap));
            continue;
        }
        let of_this_kind = all().filter(|address| ip.is_unspecified() && (ip.is_ipv6() || address.is_ipv4()));
        for address in of_this_kind.chain(Some(ip).filter(|ip| !ip.is_unspecified())) {
            let fits = |place: &&Place| !address.to_canonical().is_loopback() || place.first() == Some(&LOOPBACK);
            found.extend(places.iter().filter(fits).map(|place| (endpoint(Some(address), port, *place), wrap)));
        }
    }
    found
}

/// Returns what the program is told of an encapsulation. Where VXLAN-GPE has no fault that the
/// program sees, it is VXLAN.
fn wrap(encapsulation: Encapsulation) -> u32 {
    if encapsulation == Encapsulation::Geneve { GENEVE } else { VXLAN }
}

/// Lists the places where frames for this host come in on these interfaces: as they are, and in the
/// VLANs that the host is in.
fn places(attached: &[String], links: &[Link]) -> Vec<Place> {
    let mut found = Vec::new();
    for link in links.iter().filter(|link| attached.contains(&link.name)) {
        // At XDP the frames of a bond come in on its parts.
        let is_part = |part: &&Link| part.master == Some(link.index) && link.kind.as_deref() == Some("bond");
        for at in [link].into_iter().chain(links.iter().filter(is_part)) {
            found.push(place(at, [0; 2], link));
            for outer in in_vlans(link, links) {
                // A VLAN device takes what is for the interface below it, too.
                found.extend([link, outer].map(|address| place(at, [tag(outer), 0], address)));
                for inner in in_vlans(outer, links) {
                    found.extend([link, outer, inner].map(|address| place(at, [tag(outer), tag(inner)], address)));
                }
            }
        }
    }
    found
}

/// Finds the VLAN devices on top of this one that take frames. The stack gives frames of VLAN 0 to
/// the interface itself.
fn in_vlans<'a>(below: &'a Link, links: &'a [Link]) -> impl Iterator<Item = &'a Link> {
    let is_up = |link: &&Link| link.flags & libc::IFF_UP.cast_unsigned() != 0;
    links
        .iter()
        .filter(is_up)
        .filter(|link| link.vlan.is_some_and(|vlan| vlan.below == below.index && vlan.number != 0))
}

/// Returns the tag of frames for this VLAN device: EtherType in network order, then the number.
fn tag(link: &Link) -> u32 {
    link.vlan.map_or(0, |vlan| u32::from(vlan.ethertype.to_be()) << 16 | u32::from(vlan.number))
}

fn place(at: &Link, [outer, inner]: [u32; 2], address: &Link) -> Place {
    let [a, b, c, d, e, f] = address.address;
    [at.index, outer, inner, u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, 0, 0])]
}

fn endpoint(address: Option<IpAddr>, port: u16, [interface, outer, inner, ethernet, rest]: Place) -> Endpoint {
    let [a, b, c, d] = address.map_or([0; 4], words_of);
    let [high, low] = port.to_be_bytes();
    // The flag is a number of two bytes behind the port.
    let v6 = u16::from(address.is_some_and(|address| address.is_ipv6()));
    let [flag, more] = v6.to_ne_bytes();
    [a, b, c, d, u32::from_ne_bytes([high, low, flag, more]), interface, outer, inner, ethernet, rest]
}

/// Lists addresses from which no other host sends: this host's, and those that reach all hosts of
/// its networks.
pub(super) fn own(interfaces: &[Interface]) -> HashSet<SourceKey> {
    let networks = interfaces.iter().flat_map(|interface| &interface.addresses);
    // A network of two hosts has no such address, and IPv6 knows none.
    let broadcast = |network: &IpNetwork| match network {
        IpNetwork::V4(v4) if v4.prefix() < 31 => Some(v4.broadcast().into()),
        _ => None,
    };
    networks.flat_map(|network| [Some(network.ip()), broadcast(network)]).flatten().map(words_of).collect()
}

/// Sets the bits that stand for these addresses, as `own_bit` of the program does.
pub(super) fn own_bits(own: &HashSet<SourceKey>) -> [u32; 8] {
    const MIX: u32 = 0x9e37_79b1;
    let mut bits = [0; 8];
    for [.., last] in own {
        let bit = last.wrapping_mul(MIX) >> 24;
        if let Some(word) = bits.get_mut(bit as usize / 32) {
            *word |= 1 << (bit % 32);
        }
    }
    bits
}

fn words_of(address: IpAddr) -> SourceKey {
    words(match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    })
}

/// Returns an address as the packet has it.
pub(super) fn words(address: Ipv6Addr) -> SourceKey {
    let mut words = [0; 4];
    for (to, from) in words.iter_mut().zip(address.octets().as_chunks::<4>().0) {
        *to = u32::from_ne_bytes(*from);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::rtnetlink::Vlan;

    fn interface(name: &str, addresses: &[&str]) -> Interface {
        Interface::of(name, addresses)
    }

    fn link(index: u32, name: &str, below: Option<(u32, u16)>) -> Link {
        Link {
            index,
            name: name.into(),
            address: [2, 0, 0, 0, 0, index as u8],
            flags: libc::IFF_UP.cast_unsigned(),
            vlan: below.map(|(below, number)| Vlan { below, ethertype: 0x8100, number }),
            ..Link::default()
        }
    }

    /// Lists endpoints of `eth0` and `lo`, with VLANs 5, and 6 in it, on `eth0`.
    fn of(listen: &str, any: bool, attached: &[&str]) -> HashSet<Endpoint> {
        let interfaces =
            [interface("lo", &["127.0.0.1/8", "::1/128"]), interface("eth0", &["192.0.2.7/24", "fd00::7/64"])];
        let links =
            [link(1, "lo", None), link(2, "eth0", None), link(3, "v5", Some((2, 5))), link(4, "v6", Some((3, 6)))];
        let attached: Vec<String> = attached.iter().map(|name| (*name).to_owned()).collect();
        let found = endpoints(&[listen.parse().unwrap()], any, &attached, &interfaces, &links);
        assert!(found.iter().all(|(_, wrap)| *wrap == VXLAN));
        found.into_iter().map(|(endpoint, _)| endpoint).collect()
    }

    fn bytes(endpoint: &Endpoint) -> Vec<u8> {
        endpoint.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn an_endpoint_has_the_bytes_of_the_packet() {
        let of_eth0 = of("192.0.2.7:4789", false, &["eth0"]);
        let plain = of_eth0.iter().find(|endpoint| endpoint[6] == 0).unwrap();
        let address = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7];
        let ethernet = [2, 0, 0, 0, 0, 2, 0, 0];
        let none = [0; 8];
        assert_eq!(bytes(plain), [&address[..], &[0x12, 0xb5, 0, 0], &2u32.to_ne_bytes(), &none, &ethernet].concat());
        let v6 = of("[fd00::7]:4789", false, &["eth0"]);
        assert!(v6.iter().all(|endpoint| bytes(endpoint)[16..20] == [0x12, 0xb5, 1, 0]));
    }

    #[test]
    fn endpoints_are_what_the_sockets_receive() {
        let addresses = |found: &HashSet<Endpoint>| {
            let mut all: Vec<String> = found
                .iter()
                .filter(|endpoint| endpoint[6] == 0)
                .map(|endpoint| {
                    let octets: [u8; 16] = bytes(endpoint)[..16].try_into().unwrap();
                    format!("{} {}", endpoint[5], Ipv6Addr::from(octets).to_canonical())
                })
                .collect();
            all.sort();
            all.join(", ")
        };
        assert_eq!(addresses(&of("[::]:4789", false, &["eth0"])), "2 192.0.2.7, 2 fd00::7", "not loopback's");
        assert_eq!(addresses(&of("0.0.0.0:4789", false, &["lo"])), "1 127.0.0.1, 1 192.0.2.7");
        assert_eq!(addresses(&of("127.0.0.9:4789", false, &["lo", "eth0"])), "1 127.0.0.9");
        assert_eq!(addresses(&of("[::1]:4789", false, &["eth0"])), "");
        assert_eq!(addresses(&of("192.0.2.9:4789", false, &["eth0"])), "2 192.0.2.9");
        let any = of("127.0.0.9:4789", true, &["eth0"]);
        assert_eq!(any.iter().map(|endpoint| endpoint.map(u32::from)).collect::<Vec<_>>().len(), 1);
        assert_eq!(bytes(any.iter().next().unwrap())[16..18], [0x12, 0xb5], "the port alone");
        assert_eq!(any.iter().next().unwrap().iter().filter(|word| **word != 0).count(), 1);
    }

    #[test]
    fn an_endpoint_says_what_comes_there() {
        let listeners = [("127.0.0.1:4789", Encapsulation::Vxlan), ("127.0.0.1:6081", Encapsulation::Geneve)];
        let listeners =
            listeners.map(|(address, encapsulation)| Listener { encapsulation, ..address.parse().unwrap() });
        for any in [false, true] {
            let found = endpoints(&listeners, any, &["lo".into()], &[], &[link(1, "lo", None)]);
            let mut told: Vec<_> =
                found.iter().map(|(endpoint, wrap)| (bytes(endpoint)[17], wrap.to_ne_bytes())).collect();
            told.sort_unstable();
            assert_eq!(
                told,
                [(4789u16.to_be_bytes()[1], [8, 0, 0, 0]), (6081u16.to_be_bytes()[1], [0, 0, 0x65, 0x58])]
            );
        }
    }

    #[test]
    fn vlans_are_those_that_the_host_is_in() {
        let tag = |number: u32| u32::from(0x8100u16.to_be()) << 16 | number;
        let found = of("192.0.2.7:4789", false, &["eth0"]);
        let mut tags: Vec<[u32; 3]> = found.iter().map(|e| [e[6], e[7], e[9].to_ne_bytes()[1].into()]).collect();
        tags.sort_unstable();
        let (five, six) = (tag(5), tag(6));
        // The last element is the last byte of the Ethernet address.
        assert_eq!(tags, [[0, 0, 2], [five, 0, 2], [five, 0, 3], [five, six, 2], [five, six, 3], [five, six, 4]]);
    }

    #[test]
    fn frames_of_a_bond_come_in_on_its_parts() {
        let mut links = [link(1, "bond0", None), link(2, "eth0", None), link(3, "br0", None), link(4, "eth1", None)];
        (links[0].kind, links[1].master) = (Some("bond".into()), Some(1));
        (links[2].kind, links[3].master) = (Some("bridge".into()), Some(3));
        let of = |name: &str| {
            let places = places(&[name.to_owned()], &links);
            places.into_iter().map(|[at, _, _, _, rest]| (at, rest.to_ne_bytes()[1])).collect::<Vec<_>>()
        };
        assert_eq!(of("bond0"), [(1, 1), (2, 1)], "for the address of the bond");
        assert_eq!(of("br0"), [(3, 3)]);
    }

    #[test]
    fn own_addresses_have_their_bits() {
        let own = own(&[interface("eth0", &["192.0.2.7/24", "198.51.100.0/31", "fd00::7/64"])]);
        let addresses = ["192.0.2.7", "192.0.2.255", "198.51.100.0", "fd00::7"];
        assert_eq!(own, addresses.map(|address| words_of(address.parse().unwrap())).into());
        let bits = own_bits(&own);
        assert!(own.iter().all(|[.., last]| {
            let bit = last.wrapping_mul(0x9e37_79b1) >> 24;
            bits[bit as usize / 32] >> (bit % 32) & 1 == 1
        }));
    }
}
