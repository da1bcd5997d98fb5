//! A VXLAN Network Identifier says to which network a frame belongs.

use std::fmt;

use serde::{Deserialize, Serialize};

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
