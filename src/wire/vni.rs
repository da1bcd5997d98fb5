//! A VXLAN Network Identifier says to which network a frame belongs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::text::as_text;

/// A VXLAN Network Identifier: 24 bits, all values legal (RFC 7348 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

/// A number that is no VNI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no VNI: the largest is {max}", max = Vni::MAX)]
pub struct NotAVni(u32);

impl TryFrom<u32> for Vni {
    type Error = NotAVni;

    fn try_from(number: u32) -> Result<Self, NotAVni> {
        Vni::new(number).ok_or(NotAVni(number))
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> Self {
        vni.get()
    }
}

impl Vni {
    /// The VNI of encapsulations that have none.
    pub const ZERO: Vni = Vni(0);
    /// The largest VNI, 2^24 - 1.
    pub const MAX: Vni = Vni(0xff_ffff);

    /// Makes the VNI of this number, or `None` above [`Vni::MAX`].
    #[must_use]
    pub const fn new(number: u32) -> Option<Vni> {
        if number <= Self::MAX.0 { Some(Vni(number)) } else { None }
    }

    /// Reads the VNI in three bytes, big-endian, as on the wire.
    #[must_use]
    pub(crate) const fn from_be_bytes(b: [u8; 3]) -> Vni {
        Vni(u32::from_be_bytes([0, b[0], b[1], b[2]]))
    }

    /// Returns the three bytes on the wire.
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 3] {
        let [_, a, b, c] = self.0.to_be_bytes();
        [a, b, c]
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The bits of a VNI that say to which network a frame belongs. Some senders have others in the
/// rest, as the direction of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VniMask(u32);

impl VniMask {
    /// All 24 bits.
    pub const ALL: VniMask = VniMask(Vni::MAX.0);

    /// Makes a mask of these bits, or `None` where there is none among 24, or one beyond them.
    #[must_use]
    pub const fn new(bits: u32) -> Option<VniMask> {
        if bits > 0 && bits <= Vni::MAX.0 { Some(VniMask(bits)) } else { None }
    }

    /// Returns the bits.
    #[must_use]
    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    /// Returns the VNI with these bits alone.
    #[inline]
    #[must_use]
    pub const fn of(self, vni: Vni) -> Vni {
        Vni(vni.0 & self.0)
    }

    /// Returns the smallest VNI with these bits alone that is not below this one, if there is one.
    #[must_use]
    pub(crate) const fn at_least(self, least: Vni) -> Option<Vni> {
        let beyond = least.0 & !self.0;
        if beyond == 0 {
            return Some(least);
        }
        // The bits of the mask above the highest of those count on by one, and all below are zero.
        let below = u32::MAX >> beyond.leading_zeros();
        match Vni::new((least.0 | !self.0 & Vni::MAX.0 | below) + 1) {
            Some(next) => Some(self.of(next)),
            None => None,
        }
    }
}

impl Default for VniMask {
    fn default() -> Self {
        Self::ALL
    }
}

/// In hexadecimal, behind `0x`.
impl fmt::Display for VniMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#08x}", self.0)
    }
}

/// Text that is no mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a mask of a VNI's 24 bits; write the bits that are of the VNI as 0x0fffff")]
pub struct NotAMask;

impl FromStr for VniMask {
    type Err = NotAMask;

    fn from_str(text: &str) -> Result<Self, NotAMask> {
        let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
        let bits = u32::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'));
        bits.and_then(VniMask::new).ok_or(NotAMask)
    }
}

as_text!(VniMask);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_read_as_it_is_written_and_leaves_its_bits() {
        for (text, written, left) in
            [("0x0fffff", "0x0fffff", 0x0b_cdef), ("0xFFFFFF", "0xffffff", 0xab_cdef), ("255", "0x0000ff", 0xef)]
        {
            let mask: VniMask = text.parse().unwrap();
            assert_eq!((mask.to_string().as_str(), mask.of(Vni(0xab_cdef)).get()), (written, left));
            assert_eq!(mask.to_string().parse(), Ok(mask));
        }
        for text in ["", "0x", "0x0", "0x1000000", "0x+f", "+15", "ff", "0x0fffff "] {
            assert_eq!(text.parse::<VniMask>(), Err(NotAMask), "{text:?}");
        }
        assert_eq!(VniMask::default().of(Vni::MAX), Vni::MAX);
    }

    #[test]
    fn the_next_vni_of_a_mask_is_that_of_a_search() {
        for bits in [1, 0b1010, 0xff, 0xf0, 0xf0f, Vni::MAX.get(), 0x80_0000, 0xff_ff00] {
            let mask = VniMask(bits);
            for least in (0..0x1200).chain(0x80_0000 - 9..0x80_0009).chain(0xff_fef0..=0xff_ffff) {
                let found = mask.at_least(Vni(least)).map(Vni::get);
                let near = (least..(least + 0x1200).min(1 << 24)).find(|vni| vni & !bits == 0);
                let far = found.filter(|vni| vni & !bits == 0 && *vni >= least + 0x1200);
                assert_eq!(found, near.or(far), "{bits:#x} {least:#x}");
            }
        }
        assert_eq!((VniMask(0xff).at_least(Vni(0x100)), VniMask(0x100).at_least(Vni(1))), (None, Some(Vni(0x100))));
    }
}
