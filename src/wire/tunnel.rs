//! What a tunnel carries, whichever encapsulation it uses.
//!
//! Each encapsulation has a decapsulator of its own, as [`vxlan::decapsulate`](super::vxlan::decapsulate). All of them
//! yield a [`Decapsulated`] or a [`DropReason`], so that nothing behind them has to know which one it was.

use super::vni::Vni;

/// How a mirror wraps frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encapsulation {
    /// VXLAN (RFC 7348).
    Vxlan,
}

impl Encapsulation {
    /// The stable label used in paths, lines and the ledger.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Encapsulation::Vxlan => "vxlan",
        }
    }

    /// The link type of every frame that comes this way, which is that of the captures too.
    #[must_use]
    pub const fn link_type(self) -> LinkType {
        match self {
            Encapsulation::Vxlan => LinkType::Ethernet,
        }
    }
}

/// A number that tells apart sessions of the same source and VNI, in encapsulations that have one: an endpoint of a
/// gateway, a cloud network, the session of a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(pub u64);

/// What a frame begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LinkType {
    /// An Ethernet header.
    #[default]
    Ethernet,
}

impl LinkType {
    /// The number of captures (`LINKTYPE_*`, draft-ietf-opsawg-pcaplinktype).
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            LinkType::Ethernet => 1,
        }
    }
}

/// The way that a frame went, seen from the mirrored interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Towards the interface.
    Inbound,
    /// From the interface.
    Outbound,
}

/// What a datagram of a tunnel carries: a view of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decapsulated<'a> {
    /// The network that the frame belongs to.
    pub vni: Vni,
    /// What tells sessions apart beside source and VNI, where the encapsulation says it.
    pub scope: Option<Scope>,
    /// The inner frame, as far as it was kept. Inner VLAN tags are part of it; there is no frame check sequence.
    pub frame: &'a [u8],
    /// Bytes of the frame that arrived, kept or not: never less than `frame.len()`.
    pub arrived: u32,
    /// Bytes of the frame before the mirror cut it, never less than `arrived`: see
    /// [`inner::original_length`](super::inner::original_length).
    pub original: u32,
    /// A bit is set that the encapsulation reserves.
    pub reserved_bits: bool,
    /// What the frame begins with.
    pub link_type: LinkType,
    /// The way that the frame went, where the encapsulation says it.
    pub direction: Option<Direction>,
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
    /// The UDP checksum is not that of the datagram, where the sensor verifies it and not the kernel.
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
