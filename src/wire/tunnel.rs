//! A tunnel has the same yield, whichever encapsulation it uses.
//!
//! Each encapsulation has a decapsulator of its own, as
//! [`vxlan::decapsulate`](super::vxlan::decapsulate). All of them yield a [`Decapsulated`] or a
//! [`DropReason`], so that nothing behind them has to know which encapsulation it was.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::reason::reasons;
use super::vni::Vni;

/// Declares [`Encapsulation`]: `Variant = "label", LinkType;` with a comment above.
macro_rules! encapsulations {
    ($($(#[$meta:meta])+ $Variant:ident = $label:literal, $LinkType:ident;)+) => {
        /// The way in which a mirror wraps frames.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub enum Encapsulation { $($(#[$meta])+ $Variant,)+ }

        impl Encapsulation {
            /// All encapsulations.
            pub const ALL: [Encapsulation; [$($label),+].len()] = [$(Encapsulation::$Variant),+];

            /// Returns the stable label in names, lines and the ledger.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Encapsulation::$Variant => $label,)+ }
            }

            /// Returns the link type of every frame that comes this way, which is that of the
            /// captures too.
            #[must_use]
            pub const fn link_type(self) -> LinkType {
                match self { $(Encapsulation::$Variant => LinkType::$LinkType,)+ }
            }
        }
    };
}

encapsulations! {
    /// VXLAN (RFC 7348).
    #[default]
    Vxlan = "vxlan", Ethernet;
}

impl Encapsulation {
    /// Returns the label where sessions are written down; none for VXLAN, which goes without
    /// saying.
    #[must_use]
    pub(crate) fn label_unless_default(self) -> Option<&'static str> {
        (self != Self::default()).then(|| self.label())
    }
}

/// A label that is no encapsulation's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown encapsulation {0:?}: this vxtap knows {known}", known = Encapsulation::ALL.map(Encapsulation::label).join(", "))]
pub struct UnknownEncapsulation(String);

impl FromStr for Encapsulation {
    type Err = UnknownEncapsulation;

    fn from_str(label: &str) -> Result<Self, UnknownEncapsulation> {
        let found = Self::ALL.into_iter().find(|encapsulation| encapsulation.label() == label);
        found.ok_or_else(|| UnknownEncapsulation(label.to_owned()))
    }
}

/// A number that tells apart sessions of the same source and VNI, in encapsulations that have one.
///
/// A scope has 64 bits, the most that any encapsulation has for it: the id of a Gateway Load
/// Balancer's endpoint (GENEVE option class 0x0108, 64 bits), of a cloud network (class 0x0132, 28
/// bits), of an ERSPAN session (10 bits). It is written in hexadecimal, as the first of these is
/// everywhere, behind `0x`, so that nobody takes it for a decimal number. JSON has it as a string,
/// because readers that know only doubles would round a number of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(pub u64);

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Text that is no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a scope; it has 0x and up to 16 hexadecimal digits, in lower case and without zeros in front")]
pub struct NotAScope;

/// Reads the one way to write it: a scope that could be written in several would have several
/// directories.
impl FromStr for Scope {
    type Err = NotAScope;

    fn from_str(text: &str) -> Result<Self, NotAScope> {
        let digits = text.strip_prefix("0x").ok_or(NotAScope)?;
        let scope = Scope(u64::from_str_radix(digits, 16).map_err(|_| NotAScope)?);
        if scope.to_string() == text { Ok(scope) } else { Err(NotAScope) }
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The kind of header that a frame begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LinkType {
    /// An Ethernet header.
    #[default]
    Ethernet,
}

impl LinkType {
    /// Returns the number of captures (`LINKTYPE_*`, draft-ietf-opsawg-pcaplinktype).
    #[must_use]
    pub(crate) const fn number(self) -> u16 {
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

/// The contents of a datagram of a tunnel: a view of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decapsulated<'a> {
    /// The network that the frame belongs to.
    pub vni: Vni,
    /// The number that tells sessions apart beside source and VNI, where the encapsulation has one.
    pub scope: Option<Scope>,
    /// The inner frame, as far as it was kept. Inner VLAN tags are part of it; there is no frame
    /// check sequence.
    pub frame: &'a [u8],
    /// Bytes of the frame that arrived, kept or not: never less than `frame.len()`.
    pub arrived: u32,
    /// Bytes of the frame before the mirror cut it, never less than `arrived`: see
    /// [`inner::original_length`](super::inner::original_length).
    pub original: u32,
    /// True where a bit is set that the encapsulation reserves.
    pub reserved_bits: bool,
    /// The kind of header that the frame begins with.
    pub link_type: LinkType,
    /// The way that the frame went, where the encapsulation says it.
    pub direction: Option<Direction>,
}

reasons! {
    /// The reason why a received datagram yields no inner frame.
    pub enum DropReason {
        /// The datagram was larger than the receive slot, so its end is missing (`MSG_TRUNC`).
        TruncatedDatagram = "truncated_datagram",
        /// Fewer bytes than the 8 of a VXLAN header.
        ShortVxlanHeader = "short_vxlan_header",
        /// The I flag is clear: the header carries no valid VNI (RFC 7348 section 5).
        VniFlagClear = "vni_flag_clear",
        /// A reserved bit is set and the policy is to reject (`--reserved-bits reject`).
        ReservedBits = "reserved_bits",
        /// The inner frame is shorter than an Ethernet header.
        RuntInnerFrame = "runt_inner_frame",
        /// The UDP checksum is not that of the datagram, where the sensor verifies it and not the
        /// kernel (`--verify-checksum`).
        WrongChecksum = "wrong_checksum",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_what_they_were_written_for() {
        for encapsulation in Encapsulation::ALL {
            assert_eq!(encapsulation.label().parse(), Ok(encapsulation));
        }
        assert_eq!(Encapsulation::ALL.first(), Some(&Encapsulation::default()));
        let refused = "tzsp".parse::<Encapsulation>().unwrap_err().to_string();
        assert_eq!(refused, "unknown encapsulation \"tzsp\": this vxtap knows vxlan");
    }
}
