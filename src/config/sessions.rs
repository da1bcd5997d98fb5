//! VNIs and sources tell sessions apart. Here they are as people write them, on the command line
//! and in the file of `--allow`.
//!
//! A fault is worded so that it goes on from `"WORD" is` and says what to write instead.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::typed::as_typed;
use crate::wire::{Vni, VniMask, VniRange, VniSet};

/// An item of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<T> {
    /// `all`, the one item of its list.
    All,
    /// A single one of the kind that the list has.
    One(T),
}

/// VNIs that are listed.
pub(crate) type Vnis = Vec<Item<VniRange>>;
/// Source addresses and networks that are listed.
pub(crate) type Networks = Vec<Item<IpNet>>;

impl<T: fmt::Display> fmt::Display for Item<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::One(one) => one.fmt(f),
        }
    }
}

as_typed!(Item<VniRange>, vni);
as_typed!(Item<IpNet>, source);

/// A list that has `all` and something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("\"all\" is listed beside others; leave out \"all\", or the others")]
pub struct AllAndOthers;

/// Takes the items out of a list; `None` stands for all, and so does an empty list.
///
/// # Errors
/// The list has `all` and something else.
pub(crate) fn only<T>(items: impl IntoIterator<Item = Item<T>>) -> Result<Option<Vec<T>>, AllAndOthers> {
    let (mut all, mut some) = (false, Vec::new());
    for item in items {
        match item {
            Item::All => all = true,
            Item::One(one) => some.push(one),
        }
    }
    if all && !some.is_empty() { Err(AllAndOthers) } else { Ok(Some(some).filter(|some| !some.is_empty())) }
}

/// Says whether no VNI of a range ever comes, for all have bits that the mask leaves out, and
/// returns what to write instead.
#[must_use]
pub(super) fn masked(range: VniRange, mask: VniMask) -> Option<VniRange> {
    let VniRange { first, last } = range;
    if mask.at_least(first).is_some_and(|comes| comes <= last) {
        return None;
    }
    let (low, high) = (mask.of(first), mask.of(last));
    // Where the other bits change within the range, what comes of it is not in one piece.
    let is_one_piece = first.get() & !mask.bits() == last.get() & !mask.bits();
    let all = VniRange { first: Vni::ZERO, last: mask.of(Vni::MAX) };
    Some(if is_one_piece { VniRange { first: low, last: high } } else { all })
}

/// The largest VNI.
const MOST: u32 = Vni::MAX.get();

/// Reads a VNI, a range `A-B`, or `all`.
///
/// # Errors
/// The text is nothing of the kind; the error says what to write.
pub(crate) fn vni(text: &str) -> Result<Item<VniRange>, String> {
    let text = text.trim();
    if text == "all" { Ok(Item::All) } else { range(text).map(Item::One) }
}

/// Reads a VNI, or a range `A-B`.
///
/// # Errors
/// The text is nothing of the kind; the error says what to write.
pub(crate) fn range(text: &str) -> Result<VniRange, String> {
    let text = text.trim();
    if let Some(vni) = number(text) {
        return single(vni).map(VniRange::from);
    }
    if let Some((first, last)) = text.split_once('-')
        && let (Some(a), Some(b)) = (number(first.trim()), number(last.trim()))
    {
        return match (single(a)?, single(b)?) {
            (first, last) if first <= last => Ok(VniRange { first, last }),
            _ => Err(format!("an empty range; write the smaller VNI first: {b}-{a}")),
        };
    }
    Err(not_a_vni(text))
}

/// Reads a number in decimal digits and nothing else. A number that is far too large becomes the
/// largest of its type.
#[must_use]
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn single(number: u64) -> Result<Vni, String> {
    let vni = u32::try_from(number).ok().and_then(Vni::new);
    vni.ok_or_else(|| format!("not a VNI; the largest is {MOST}"))
}

fn not_a_vni(text: &str) -> String {
    for between in ["..=", "..", ":", "–", " "] {
        if let Some((a, b)) = text.split_once(between)
            && let (Some(a), Some(b)) = (number(a), number(b))
        {
            return format!("not a VNI; write a range as {}-{}", a.min(b), a.max(b));
        }
    }
    if let Some(hex) = text.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok()) {
        return format!("not decimal; write {hex}");
    }
    match text {
        "" => "empty; write 100,200 or 1-5".into(),
        "any" | "*" => "not a VNI; write all".into(),
        _ => format!("not a VNI; write a number from 0 to {MOST}, a range as 1-5, or all"),
    }
}

/// Reads the VNIs of a comma-separated list; `None` where it is `all`.
///
/// # Errors
/// The text is nothing of the kind; the error says what to write.
pub(crate) fn vnis(text: &str) -> Result<Option<VniSet>, String> {
    let item = |word: &str| vni(word).map_err(|fault| format!("{word:?} is {fault}"));
    let items = text.split(',').map(item).collect::<Result<Vec<_>, _>>()?;
    Ok(only(items).map_err(|error| error.to_string())?.map(VniSet::from_iter))
}

/// Reads a source address, a network as `10.0.0.0/16`, or `all`.
///
/// # Errors
/// The text is nothing of the kind; the error says what to write.
pub(crate) fn source(text: &str) -> Result<Item<IpNet>, String> {
    let text = text.trim();
    if text == "all" {
        return Ok(Item::All);
    }
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else { return Err(not_a_source(text)) };
    let network = match length {
        Some(length) => network(address, length)?,
        None if address.is_unspecified() => return Err("no host's address; write all".into()),
        None => IpNet::from(address),
    };
    if network.trunc() != network {
        let (length, meant) = (network.prefix_len(), network.trunc());
        return Err(format!(
            "not a network, for it has bits behind the first {length}; write {meant} for the network, {address} for the host"
        ));
    }
    match unmapped(network) {
        // Sources of IPv4 are let in by what says IPv4.
        IpNet::V6(network) if network.contains(&IPV4) => {
            Err("more than IPv6, for IPv4 is part of it as ::ffff:0:0/96; write all for everybody, 2000::/3 for the internet's \
                 IPv6"
                .into())
        }
        network => Ok(Item::One(network)),
    }
}

fn network(address: IpAddr, length: &str) -> Result<IpNet, String> {
    if let Ok(mask) = length.parse::<Ipv4Addr>()
        && let Ok(length) = ipnet::ipv4_mask_to_prefix(mask)
        && address.is_ipv4()
    {
        return Err(format!("a network with a mask; write {address}/{length}"));
    }
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = number(length).and_then(|bits| u8::try_from(bits).ok());
    let network = bits.and_then(|bits| IpNet::new(address, bits).ok());
    network.ok_or_else(|| format!("not a network; what is behind / is a number from 0 to {most}"))
}

/// The first address of IPv4 as IPv6 has it.
const IPV4: Ipv6Addr = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();

/// Turns IPv4 that was written as IPv4-mapped IPv6 into IPv4: a network has one form.
#[must_use]
pub(super) fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    let v4 = mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok());
    v4.map_or(network, IpNet::V4)
}

fn not_a_source(text: &str) -> String {
    let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    if let Some((address, _)) = text.rsplit_once(':')
        && let Some(address) = bare(address)
    {
        return format!("an address with a port; senders choose theirs, write {address}");
    }
    if let Some(address) = text.split('%').next().and_then(bare) {
        return format!("not just an address; write {address}");
    }
    if let Some((a, b)) = text.split_once('-')
        && bare(a.trim()).is_some()
        && b.trim().parse::<IpAddr>().is_ok()
    {
        return "not an address; write a range as networks, as 10.0.0.0/28, or its addresses with commas".into();
    }
    match text {
        "" => "empty; write 10.0.0.7,10.1.0.0/16".into(),
        "any" | "*" => "not an address; write all".into(),
        _ => "not an IP address; write 10.0.0.7, 10.0.0.0/16, 2001:db8::/32, or all (names are not looked up)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_write_instead_of_a_masked_range_has_all_that_comes_of_it() {
        let instead = |mask: &str, text: &str| match vni(text).unwrap() {
            Item::One(range) => masked(range, mask.parse().unwrap()).map(|range| range.to_string()),
            Item::All => None,
        };
        assert_eq!(instead("0x0fffff", "1048676-1048680").as_deref(), Some("100-104"));
        assert_eq!(instead("0x0000ff", "510-513").as_deref(), Some("0-255"), "it crosses from one piece to the next");
        assert_eq!(instead("0x0000ff", "384-639").as_deref(), Some("0-255"));
        assert_eq!(instead("0x0000ff", "200-513"), None);
    }

    #[test]
    fn vnis_are_numbers_ranges_or_all() {
        let of = |text| vnis(text).map(|set| set.map(|set| set.ranges().iter().map(ToString::to_string).collect()));
        let some = |ranges: &[&str]| Ok(Some(ranges.iter().map(ToString::to_string).collect::<Vec<_>>()));
        assert_eq!(of("1-5,9"), some(&["1-5", "9"]));
        assert_eq!(of(" 9 , 10, 1 - 2"), some(&["1-2", "9-10"]));
        assert_eq!(of("0-16777215"), some(&["0-16777215"]));
        assert_eq!(of("all"), Ok(None));
    }

    #[test]
    fn what_is_no_vni_is_answered_with_what_to_write() {
        for (text, answer) in [
            ("5-1", "\"5-1\" is an empty range; write the smaller VNI first: 1-5"),
            ("1..5", "write a range as 1-5"),
            ("1:5", "write a range as 1-5"),
            ("1,,2", "\"\" is empty; write 100,200 or 1-5"),
            ("-1", "\"-1\" is not a VNI; write a number from 0 to 16777215, a range as 1-5, or all"),
            ("+1", "not a VNI"),
            ("1-", "not a VNI"),
            ("1-2-3", "not a VNI"),
            ("any", "write all"),
            ("0x10", "write 16"),
            ("16777216", "the largest is 16777215"),
            ("1-16777216", "the largest is 16777215"),
            ("99999999999999999999999", "the largest is 16777215"),
            ("all,5", "\"all\" is listed beside others"),
        ] {
            let said = vnis(text).unwrap_err();
            assert!(said.contains(answer), "{text}: {said}");
        }
    }

    #[test]
    fn sources_are_addresses_networks_or_all() {
        for (text, means) in [
            ("10.0.0.7", "10.0.0.7/32"),
            ("10.0.0.0/16", "10.0.0.0/16"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("fd00::1", "fd00::1/128"),
            ("::ffff:10.0.0.7", "10.0.0.7/32"),
            ("::ffff:10.0.0.0/112", "10.0.0.0/16"),
        ] {
            assert_eq!(source(text), Ok(Item::One(means.parse().unwrap())), "{text}");
        }
        assert_eq!(source("all"), Ok(Item::All));
    }

    #[test]
    fn what_is_no_source_is_answered_with_what_to_write() {
        for (text, answer) in [
            ("10.0.0.1/16", "write 10.0.0.0/16 for the network, 10.0.0.1 for the host"),
            ("2001:db8::1/32", "write 2001:db8::/32 for the network, 2001:db8::1 for the host"),
            ("10.0.0.0/255.255.0.0", "write 10.0.0.0/16"),
            ("10.0.0.0/33", "a number from 0 to 32"),
            ("2001:db8::/129", "a number from 0 to 128"),
            ("10.0.0.0/", "a number from 0 to 32"),
            ("10.0.0.1:4789", "write 10.0.0.1"),
            ("[fd00::1]:4789", "write fd00::1"),
            ("[fd00::1]", "write fd00::1"),
            ("fe80::1%eth0", "write fe80::1"),
            ("10.0.0.1-10.0.0.9", "write a range as networks, as 10.0.0.0/28"),
            ("0.0.0.0", "write all"),
            ("::/0", "write all for everybody, 2000::/3"),
            ("any", "write all"),
            ("web1", "write 10.0.0.7, 10.0.0.0/16, 2001:db8::/32, or all (names are not looked up)"),
            ("10.0.0", "not an IP address"),
            ("", "empty; write"),
        ] {
            let said = source(text).unwrap_err();
            assert!(said.contains(answer), "{text}: {said}");
        }
    }

    #[test]
    fn all_stands_alone() {
        assert_eq!(only::<u8>([]), Ok(None));
        assert_eq!(only::<u8>([Item::All, Item::All]), Ok(None));
        assert_eq!(only([Item::One(1), Item::One(2)]), Ok(Some(vec![1, 2])));
        assert_eq!(only([Item::One(1), Item::All]), Err(AllAndOthers));
    }
}
