//! A session has a tag on interfaces that many sessions share: VLAN tags in front of its frames.
//!
//! A tag is a number. The first of them are one tag of 802.1Q each, whose VLAN is the number. Those
//! behind are two tags, 802.1ad outside and 802.1Q inside. VLANs of an outer tag are none of a
//! single one, so that a frame that had a tag of its own is not taken for one with two of ours.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Numbers of VLANs that can be used: 0 and 4095 have meanings of their own.
const VLANS: u32 = 4094;
/// The VLAN of the sessions beyond the limit, which have one tag together.
const REST: u32 = 4094;
/// VLANs of outer tags.
const OUTER: u32 = 16;
/// Tags of one VLAN.
const SINGLE: u32 = REST - 1 - OUTER;

/// Bytes of the addresses that an Ethernet frame begins with.
const ADDRESSES: usize = 12;

const DOT1Q: [u8; 2] = [0x81, 0x00];
const DOT1AD: [u8; 2] = [0x88, 0xa8];

/// Returns the VLAN of this number, which has 12 bits.
const fn vlan(number: u32) -> u16 {
    (number & 0x0fff) as u16
}

/// The tag of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(u32);

/// The bytes of a tag, between the addresses and the type of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagBytes {
    bytes: [u8; 8],
    length: u8,
}

impl TagBytes {
    /// The most bytes of a tag.
    pub const MOST: usize = 8;

    /// Returns the bytes.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length.into()).unwrap_or_default()
    }

    /// Appends a frame to these bytes, with the tag behind its addresses. A frame that has no
    /// addresses is appended as it is.
    #[inline]
    pub fn append(&self, frame: &[u8], to: &mut Vec<u8>) {
        let Some((addresses, rest)) = frame.split_first_chunk::<ADDRESSES>() else {
            return to.extend_from_slice(frame);
        };
        // The longest tag is put there, and what is too much is taken away: to copy bytes whose
        // number is known takes less time.
        let mut head = [0; ADDRESSES + Self::MOST];
        let (to_addresses, to_tag) = head.split_at_mut(ADDRESSES);
        to_addresses.copy_from_slice(addresses);
        to_tag.copy_from_slice(&self.bytes);
        to.reserve(head.len() + rest.len());
        to.extend_from_slice(&head);
        to.truncate(to.len() - (Self::MOST - usize::from(self.length)));
        to.extend_from_slice(rest);
    }
}

impl Tag {
    /// The tag that all sessions have together for which there is no other.
    pub const REST: Tag = Tag(0);
    /// The most tags beside [`Tag::REST`].
    pub const MOST: u32 = SINGLE + OUTER * VLANS;

    /// Returns tag number `number`, from 1 on; none beyond [`Tag::MOST`].
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number >= 1 && number <= Self::MOST { Some(Self(number)) } else { None }
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Returns its VLANs: that of the outer or only tag, and that of the inner one.
    #[must_use]
    pub const fn vlans(self) -> (u16, Option<u16>) {
        match self.0 {
            0 => (vlan(REST), None),
            number if number <= SINGLE => (vlan(number), None),
            number => {
                let behind = number - SINGLE - 1;
                (vlan(SINGLE + 1 + behind / VLANS), Some(vlan(1 + behind % VLANS)))
            }
        }
    }

    /// Returns the tag that has these VLANs, the outer first.
    #[must_use]
    pub fn of_vlans(vlans: &[u16]) -> Option<Self> {
        let tag = match *vlans {
            [only] if u32::from(only) == REST => Self::REST,
            [only] => Self::new(only.into())?,
            [outer, inner] => {
                let outer = u32::from(outer).checked_sub(SINGLE + 1)?;
                Self::new(SINGLE + outer * VLANS + u32::from(inner))?
            }
            _ => return None,
        };
        (tag.to_vec() == vlans).then_some(tag)
    }

    /// Returns the bytes that stand for it in a frame.
    #[must_use]
    pub fn bytes(self) -> TagBytes {
        let (outer, inner) = self.vlans();
        let [a, b] = outer.to_be_bytes();
        match inner {
            None => TagBytes { bytes: [DOT1Q[0], DOT1Q[1], a, b, 0, 0, 0, 0], length: 4 },
            Some(inner) => {
                let [c, d] = inner.to_be_bytes();
                TagBytes { bytes: [DOT1AD[0], DOT1AD[1], a, b, DOT1Q[0], DOT1Q[1], c, d], length: 8 }
            }
        }
    }

    fn to_vec(self) -> Vec<u16> {
        let (outer, inner) = self.vlans();
        std::iter::once(outer).chain(inner).collect()
    }
}

/// Shows the VLANs, the outer first: `17` or `4078.5`.
impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vlans() {
            (only, None) => only.fmt(f),
            (outer, Some(inner)) => write!(f, "{outer}.{inner}"),
        }
    }
}

/// As a list of VLANs, the outer first, as Suricata's `vlan` has them.
impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_vec().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let vlans = Vec::<u16>::deserialize(deserializer)?;
        Self::of_vlans(&vlans).ok_or_else(|| serde::de::Error::custom(format_args!("{vlans:?} is no tag")))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_tag_stands_behind_the_addresses() {
        let frame: Vec<u8> = (0..70).collect();
        for number in [1, SINGLE, SINGLE + 1, Tag::MOST] {
            let tag = Tag::new(number).unwrap().bytes();
            for length in [12, 13, 20, 70] {
                let mut tagged = vec![9];
                tag.append(&frame[..length], &mut tagged);
                tag.append(&frame[..length], &mut tagged);
                let one = [&frame[..12], tag.as_slice(), &frame[12..length]].concat();
                assert_eq!(tagged, [vec![9], one.clone(), one].concat(), "{number}, {length}");
            }
            let mut bare = Vec::new();
            tag.append(&frame[..11], &mut bare);
            assert_eq!(bare, &frame[..11]);
        }
    }

    #[test]
    fn every_tag_has_vlans_of_its_own_and_is_known_by_them() {
        let mut seen = HashSet::new();
        let mut outer = HashSet::new();
        for number in 0..=Tag::MOST {
            let tag = if number == 0 { Tag::REST } else { Tag::new(number).unwrap() };
            let vlans = tag.to_vec();
            assert!(vlans.iter().all(|vlan| (1..=4094).contains(vlan)), "{vlans:?}");
            assert_eq!(Tag::of_vlans(&vlans), Some(tag));
            if vlans.len() == 2 {
                outer.insert(vlans[0]);
            }
            assert!(seen.insert(vlans));
        }
        assert_eq!(Tag::new(Tag::MOST + 1), None);
        assert_eq!(Tag::new(0), None);
        const { assert!(Tag::MOST > 65_536, "there is one for every session") };
        assert!(outer.iter().all(|vlan| !seen.contains(&vec![*vlan])), "an outer VLAN is no single one");
        for none in [&[0u16][..], &[4095], &[4078], &[1, 1], &[4078, 0], &[4078, 4095], &[4094, 1], &[1, 2, 3], &[]] {
            assert_eq!(Tag::of_vlans(none), None, "{none:?}");
        }
    }

    #[test]
    fn tags_are_written_as_vlans() {
        let tag = |number| Tag::new(number).unwrap();
        let json = |tag: Tag| serde_json::to_string(&tag).unwrap();
        assert_eq!((json(tag(17)), tag(17).to_string()), ("[17]".into(), "17".into()));
        assert_eq!((json(tag(4078)), tag(4078).to_string()), ("[4078,1]".into(), "4078.1".into()));
        assert_eq!(serde_json::from_str::<Tag>("[4078,1]").unwrap(), tag(4078));
        assert!(serde_json::from_str::<Tag>("[0]").is_err());
        assert_eq!(tag(17).bytes().as_slice(), [0x81, 0, 0, 17]);
        assert_eq!(tag(4078).bytes().as_slice(), [0x88, 0xa8, 0x0f, 0xee, 0x81, 0, 0, 1]);
        assert_eq!(Tag::REST.bytes().as_slice(), [0x81, 0, 0x0f, 0xfe]);
    }
}
