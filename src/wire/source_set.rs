//! A set of outer source addresses has single ones and whole networks.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// The place of IPv4 addresses among those of IPv6, `::ffff:0:0/96`.
const MAPPED: u128 = 0xffff << 32;
/// The number of bits by which the prefix of an IPv4 network is longer there.
const MAPPED_LENGTH: u32 = 96;

/// A set of source addresses. IPv4 and IPv6 are told apart, though a session's source is IPv6 or
/// IPv4-mapped IPv6.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceSet {
    /// The fewest networks that make up the set.
    networks: Box<[IpNet]>,
    /// First and last address of each that lies in no other, sorted.
    ranges: Box<[(u128, u128)]>,
}

impl FromIterator<IpNet> for SourceSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let networks = IpNet::aggregate(&networks.into_iter().collect());
        let mut ranges: Vec<_> =
            networks.iter().map(|network| (bits(network.network()), bits(network.broadcast()))).collect();
        ranges.sort_unstable();
        // A network of IPv6 may have the place of IPv4 in it, whose networks lie in it then.
        ranges.dedup_by(|(_, last), (_, before)| *last <= *before);
        Self { networks: networks.into(), ranges: ranges.into() }
    }
}

impl SourceSet {
    /// Says whether a source is in the set. An IPv4 source is IPv4-mapped IPv6.
    #[inline]
    #[must_use]
    pub(crate) fn contains(&self, source: Ipv6Addr) -> bool {
        let source = source.to_bits();
        let at = self.ranges.partition_point(|(_, last)| *last < source);
        self.ranges.get(at).is_some_and(|(first, _)| *first <= source)
    }

    /// Returns the fewest networks that make up the set, those of IPv4 first, each kind sorted.
    #[must_use]
    pub(crate) fn networks(&self) -> &[IpNet] {
        &self.networks
    }

    /// Returns the ranges of addresses that make up the set, each with its first and its last
    /// address as bits of IPv6, sorted.
    #[must_use]
    pub(crate) fn ranges(&self) -> &[(u128, u128)] {
        &self.ranges
    }

    /// Returns the networks as prefixes of IPv6 addresses: address and length in bits.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = (Ipv6Addr, u32)> {
        self.networks.iter().map(|network| {
            let longer = if network.addr().is_ipv4() { MAPPED_LENGTH } else { 0 };
            (Ipv6Addr::from_bits(bits(network.network())), u32::from(network.prefix_len()) + longer)
        })
    }
}

/// Returns an address as sources are told apart by: IPv4 as IPv4-mapped IPv6.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => MAPPED | u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(networks: &[&str]) -> SourceSet {
        networks.iter().map(|network| network.parse::<IpNet>().unwrap()).collect()
    }

    #[test]
    fn a_set_has_the_addresses_of_its_networks() {
        let set = set(&["10.0.0.0/16", "192.0.2.7/32", "2001:db8::/32", "::1/128"]);
        for (source, wanted) in [
            ("::ffff:10.0.0.0", true),
            ("::ffff:10.0.255.255", true),
            ("::ffff:10.1.0.0", false),
            ("::ffff:9.255.255.255", false),
            ("::ffff:192.0.2.7", true),
            ("::ffff:192.0.2.6", false),
            ("::ffff:192.0.2.8", false),
            ("2001:db8::", true),
            ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", false),
            ("2001:db9::", false),
            ("::1", true),
            ("::", false),
            // The address has the same bits as 10.0.0.0, and is another.
            ("::10.0.0.0", false),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
        ] {
            assert_eq!(set.contains(source.parse().unwrap()), wanted, "{source}");
        }
        assert!(!SourceSet::default().contains(Ipv6Addr::LOCALHOST), "nothing is not everything");
    }

    #[test]
    fn networks_are_merged_and_are_prefixes_of_ipv6() {
        let set = set(&["10.0.1.0/24", "10.0.0.9/32", "10.0.0.0/24", "2001:db8::/33", "2001:db8:8000::/33"]);
        let text: Vec<String> = set.networks().iter().map(ToString::to_string).collect();
        assert_eq!(text, ["10.0.0.0/23", "2001:db8::/32"]);
        let prefixes: Vec<_> = set.prefixes().map(|(address, length)| format!("{address}/{length}")).collect();
        assert_eq!(prefixes, ["::ffff:10.0.0.0/119", "2001:db8::/32"]);
    }

    #[test]
    fn all_of_ipv6_has_all_of_ipv4_in_it() {
        let set = set(&["0.0.0.0/0", "::/0", "10.0.0.0/8"]);
        for source in ["::", "::ffff:10.0.0.1", "::ffff:192.0.2.1", "2001:db8::1", "ff::"] {
            assert!(set.contains(source.parse().unwrap()), "{source}");
        }
        assert_eq!(set.ranges(), [(0, u128::MAX)]);
    }

    #[test]
    fn all_of_ipv4_is_not_all() {
        let set = set(&["0.0.0.0/0"]);
        assert!(set.contains("::ffff:255.255.255.255".parse().unwrap()) && !set.contains("::1".parse().unwrap()));
        assert_eq!(set.prefixes().next(), Some(("::ffff:0:0".parse().unwrap(), 96)));
    }
}
