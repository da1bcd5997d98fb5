//! Outer source addresses of both IP versions are told in one kind of number.
//!
//! An IPv4 address is told as the IPv4-mapped IPv6 address that a socket for both versions tells
//! (RFC 4291 section 2.5.5.2). Such an address can also stand in an IPv6 packet, where nobody puts
//! it but who wants to pass for that IPv4 host, and Linux hands the datagram over. So a mapped
//! address that came over IPv6 is told as a multicast address, with the first byte 0xff, which is
//! nobody's source (section 2.7).
//!
//! ```
//! use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
//! use vxtap::wire::address;
//!
//! let host = Ipv4Addr::new(192, 0, 2, 1);
//! assert_eq!(address::in_packet(host.to_ipv6_mapped()), IpAddr::V4(host));
//! let pretender = address::over_ipv6(host.to_ipv6_mapped());
//! assert_ne!(pretender, host.to_ipv6_mapped());
//! assert_eq!(address::of(IpAddr::V4(host)), host.to_ipv6_mapped());
//! assert_eq!(address::in_packet(pretender).to_string(), "::ffff:192.0.2.1");
//! assert_eq!(address::over_ipv6(Ipv6Addr::LOCALHOST), Ipv6Addr::LOCALHOST);
//! ```

use std::net::{IpAddr, Ipv6Addr};

/// First byte of a mapped address that came over IPv6.
const PRETENDER: u8 = 0xff;

/// Returns the source address of an IPv6 packet as it is told.
#[inline]
#[must_use]
pub fn over_ipv6(address: Ipv6Addr) -> Ipv6Addr {
    if address.to_ipv4_mapped().is_some() { with_first_byte(address, PRETENDER) } else { address }
}

/// Returns the source address of a packet of the address's version as it is told: the reverse of
/// [`in_packet`].
#[inline]
#[must_use]
pub fn of(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => over_ipv6(address),
    }
}

/// Returns the address that the packet has.
#[must_use]
pub fn in_packet(source: Ipv6Addr) -> IpAddr {
    let unmarked = with_first_byte(source, 0);
    if source.is_multicast() && unmarked.to_ipv4_mapped().is_some() {
        IpAddr::V6(unmarked)
    } else {
        source.to_canonical()
    }
}

fn with_first_byte(address: Ipv6Addr, byte: u8) -> Ipv6Addr {
    let [_, rest @ ..] = address.octets();
    let mut octets = [byte; 16];
    octets.iter_mut().skip(1).zip(rest).for_each(|(to, from)| *to = from);
    Ipv6Addr::from(octets)
}
