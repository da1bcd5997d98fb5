//! Wire formats: pure functions from bytes to views of those bytes.
//!
//! Nothing here reads, writes, allocates (but for making a [`VniSet`]) or panics, whatever the bytes are; the fuzzers and
//! property tests run exactly this code. A view borrows the packet it was made from, so decapsulation copies nothing.
#![forbid(unsafe_code)]

pub mod flow;
pub mod inner;
pub mod outer;
pub mod source;
mod vni_set;
pub mod vxlan;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use vni_set::{VniRange, VniSet};

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
    /// The largest VNI, 2^24 - 1.
    pub const MAX: Vni = Vni(0xff_ffff);

    /// The VNI of this number, or `None` above [`Vni::MAX`].
    #[must_use]
    pub const fn new(number: u32) -> Option<Vni> {
        if number <= Self::MAX.0 { Some(Vni(number)) } else { None }
    }

    /// The VNI in three bytes, big-endian, as on the wire.
    #[must_use]
    pub const fn from_be_bytes(b: [u8; 3]) -> Vni {
        Vni(u32::from_be_bytes([0, b[0], b[1], b[2]]))
    }

    /// The three bytes on the wire.
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 3] {
        let [_, a, b, c] = self.0.to_be_bytes();
        [a, b, c]
    }

    /// The number.
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

/// Why a received datagram yielded no inner frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// The datagram was larger than the receive slot, so its end is missing (`MSG_TRUNC`).
    TruncatedDatagram,
    /// Fewer bytes than the 8 of a VXLAN header.
    ShortVxlanHeader,
    /// The I flag is clear: the header carries no valid VNI (RFC 7348 section 5).
    VniFlagClear,
    /// A reserved bit is set and the policy is to reject.
    ReservedBits,
    /// The inner frame is shorter than an Ethernet header.
    RuntInnerFrame,
    /// The UDP checksum is not that of the datagram, where we verify it and not the kernel.
    WrongChecksum,
}

impl DropReason {
    /// All reasons, in the order of their discriminants.
    pub const ALL: [DropReason; 6] = [
        DropReason::TruncatedDatagram,
        DropReason::ShortVxlanHeader,
        DropReason::VniFlagClear,
        DropReason::ReservedBits,
        DropReason::RuntInnerFrame,
        DropReason::WrongChecksum,
    ];

    /// The stable label used in the ledger.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            DropReason::TruncatedDatagram => "truncated_datagram",
            DropReason::ShortVxlanHeader => "short_vxlan_header",
            DropReason::VniFlagClear => "vni_flag_clear",
            DropReason::ReservedBits => "reserved_bits",
            DropReason::RuntInnerFrame => "runt_inner_frame",
            DropReason::WrongChecksum => "wrong_checksum",
        }
    }
}
