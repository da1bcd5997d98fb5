//! A tunnel has the same yield, whichever encapsulation it uses.
//!
//! Each encapsulation has a line in `table.rs` and a decapsulator, as
//! [`vxlan::decapsulate`](super::vxlan::decapsulate). All of them yield a [`Decapsulated`] or a
//! [`DropReason`], so that nothing behind them has to know which encapsulation it was.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::inner;
use super::reason::reasons;
use super::stamp::Stamp;
use super::table::encapsulations;
use super::text::as_text;
use super::vni::Vni;

/// Declares [`Encapsulation`] by the table.
macro_rules! declare {
    ($($(#[$meta:meta])+ $Variant:ident = $label:literal, $module:ident $(, over UDP $listener:literal [$($port:literal),+])?;)+) => {
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

            /// Returns the word for a listener that takes it, and the ports that are usual for it;
            /// none of what does not come over UDP by itself.
            #[must_use]
            pub const fn over_udp(self) -> Option<(&'static str, &'static [u16])> {
                match self {
                    $($(Encapsulation::$Variant => Some(($listener, &[$($port),+])),)?)+
                    _ => None,
                }
            }
        }
    };
}

encapsulations!(declare);

impl Encapsulation {
    /// Returns the label where sessions are written down; none for VXLAN, which goes without
    /// saying.
    #[must_use]
    pub(crate) fn label_unless_default(self) -> Option<&'static str> {
        (self != Self::default()).then(|| self.label())
    }

    /// Returns the link type of captures of its frames. A packet without an Ethernet header gets
    /// one before it is written: see [`bare`](super::bare).
    #[must_use]
    pub const fn link_type(self) -> LinkType {
        LinkType::Ethernet
    }

    /// Says whether sessions of it have a VNI. It is zero in those of others.
    #[must_use]
    pub const fn has_vni(self) -> bool {
        !matches!(self, Encapsulation::Gre | Encapsulation::Erspan | Encapsulation::Tzsp)
    }

    /// Returns the UDP port that is the most usual for it; none as in [`Encapsulation::over_udp`].
    #[must_use]
    pub fn usual_port(self) -> Option<u16> {
        self.over_udp().and_then(|(_, ports)| ports.first().copied())
    }

    /// Finds the encapsulation that usually comes to this UDP port.
    #[must_use]
    pub fn of_port(port: u16) -> Option<Self> {
        let comes_to = |encapsulation: &Self| encapsulation.over_udp().is_some_and(|(_, ports)| ports.contains(&port));
        Self::ALL.into_iter().find(comes_to)
    }
}

/// The protocol number that announces an Ethernet frame (Transparent Ethernet Bridging).
pub(super) const TRANSPARENT_ETHERNET: u16 = 0x6558;

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

as_text!(Scope);

/// The kind of header that a frame begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LinkType {
    /// An Ethernet header.
    #[default]
    Ethernet,
    /// The header of an IP packet, of either version, with nothing in front of it.
    Raw,
}

impl LinkType {
    /// Returns the number of captures (`LINKTYPE_*`, draft-ietf-opsawg-pcaplinktype).
    #[must_use]
    pub(crate) const fn number(self) -> u16 {
        match self {
            LinkType::Ethernet => 1,
            LinkType::Raw => 101,
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

/// The options in a header, as far as the decapsulator knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Options {
    /// All of them are known, or there is none.
    #[default]
    Known,
    /// One is unknown, and was passed over.
    Unknown,
    /// One is unknown, and whoever does not know it is asked to drop the datagram.
    Critical,
}

/// The contents of a datagram of a tunnel: a view of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decapsulated<'a> {
    /// The way in which the frames of the session are wrapped.
    pub encapsulation: Encapsulation,
    /// The host that was mirrored, where the encapsulation tells it, as [`super::address`] has it.
    /// Where it does not, the sender of the outer packet stands for it.
    pub source: Option<Ipv6Addr>,
    /// The network that the frame belongs to.
    pub vni: Vni,
    /// The number that tells sessions apart beside source and VNI, where the encapsulation has one.
    pub scope: Option<Scope>,
    /// The inner frame, as far as it was kept. Inner VLAN tags are part of it; there is no frame
    /// check sequence.
    pub frame: &'a [u8],
    /// The EtherType of a packet that stands where a frame should, without an Ethernet header.
    pub bare: Option<u16>,
    /// True where the frame is an IP packet that came without an Ethernet header, and has one by
    /// now: see [`bare`](super::bare).
    pub is_bare_ip: bool,
    /// Bytes of the frame that arrived, kept or not: never less than `frame.len()`.
    pub arrived: u32,
    /// Bytes of the frame before the mirror cut it, never less than `arrived`: see
    /// [`inner::original_length`].
    pub original: u32,
    /// True where a bit is set that the encapsulation reserves.
    pub reserved_bits: bool,
    /// The options of the header.
    pub options: Options,
    /// The number that the sender gave the datagram, where it numbers them.
    pub sequence: Option<u32>,
    /// The kind of header that the frame begins with, once a bare packet has one.
    pub link_type: LinkType,
    /// The way that the frame went, where the encapsulation says it.
    pub direction: Option<Direction>,
    /// What the header says of the time of the frame.
    pub stamp: Option<Stamp>,
}

impl<'a> Decapsulated<'a> {
    /// Makes what an Ethernet frame yields that arrived with so many bytes, with VNI 0 and without
    /// anything that a header tells.
    ///
    /// # Errors
    /// [`DropReason::RuntInnerFrame`]: the frame is shorter than an Ethernet header.
    #[inline(always)]
    pub(super) fn ethernet(encapsulation: Encapsulation, frame: &'a [u8], arrived: usize) -> Result<Self, DropReason> {
        if frame.len() < inner::ETHERNET_LEN {
            return Err(DropReason::RuntInnerFrame);
        }
        let arrived = u32::try_from(arrived.max(frame.len())).unwrap_or(u32::MAX);
        let original = inner::original_length(frame).max(arrived);
        Ok(Self::new(encapsulation, frame, None, arrived, original))
    }

    /// Makes what a packet of this EtherType yields, as [`Decapsulated::ethernet`] does.
    ///
    /// # Errors
    /// - [`DropReason::RuntInnerFrame`]: the packet is shorter than its header;
    /// - [`DropReason::UnknownInnerProtocol`]: it is none of IP, ARP and MPLS, or the EtherType is
    ///   that of the other version of IP.
    pub(super) fn packet(
        encapsulation: Encapsulation,
        ethertype: u16,
        packet: &'a [u8],
        arrived: usize,
    ) -> Result<Self, DropReason> {
        let (version, shortest) = match ethertype {
            inner::ETHERTYPE_IPV4 => (Some(4), 20),
            inner::ETHERTYPE_IPV6 => (Some(6), 40),
            // ARP for Ethernet and IPv4; MPLS, unicast and multicast.
            0x0806 => (None, 28),
            0x8847 | 0x8848 => (None, 4),
            _ => return Err(DropReason::UnknownInnerProtocol),
        };
        if packet.len() < shortest {
            return Err(DropReason::RuntInnerFrame);
        }
        if version.is_some_and(|version| packet.first().is_some_and(|first| first >> 4 != version)) {
            return Err(DropReason::UnknownInnerProtocol);
        }
        let arrived = u32::try_from(arrived.max(packet.len())).unwrap_or(u32::MAX);
        let original = inner::original_packet_length(ethertype, packet).max(arrived);
        Ok(Self::new(encapsulation, packet, Some(ethertype), arrived, original))
    }

    /// Makes what an IP packet of either version yields, as [`Decapsulated::packet`] does.
    ///
    /// # Errors
    /// Those of [`Decapsulated::packet`].
    pub(super) fn ip(encapsulation: Encapsulation, rest: Unread<'a>) -> Result<Self, DropReason> {
        let ethertype = match inner::ethertype_of_ip(rest.bytes) {
            inner::ETHERTYPE_IPV4 => inner::ETHERTYPE_IPV4,
            // What is none of IP is found out there.
            _ => inner::ETHERTYPE_IPV6,
        };
        Self::packet(encapsulation, ethertype, rest.bytes, rest.arrived)
    }

    /// Makes what is behind a header that announces it by `protocol`: an EtherType, where
    /// [`TRANSPARENT_ETHERNET`] stands for a frame.
    ///
    /// # Errors
    /// Those of [`Decapsulated::ethernet`] and [`Decapsulated::packet`].
    pub(super) fn announced(encapsulation: Encapsulation, protocol: u16, rest: Unread<'a>) -> Result<Self, DropReason> {
        match protocol {
            TRANSPARENT_ETHERNET => Self::ethernet(encapsulation, rest.bytes, rest.arrived),
            ethertype => Self::packet(encapsulation, ethertype, rest.bytes, rest.arrived),
        }
    }

    #[inline]
    fn new(encapsulation: Encapsulation, frame: &'a [u8], bare: Option<u16>, arrived: u32, original: u32) -> Self {
        Self {
            encapsulation,
            source: None,
            vni: Vni::ZERO,
            scope: None,
            frame,
            bare,
            is_bare_ip: false,
            arrived,
            original,
            reserved_bits: false,
            options: Options::Known,
            sequence: None,
            link_type: encapsulation.link_type(),
            direction: None,
            stamp: None,
        }
    }
}

/// The part of a payload that is yet to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unread<'a> {
    /// The bytes of it that were kept.
    pub(super) bytes: &'a [u8],
    /// Bytes of it that arrived, never less than there are.
    pub(super) arrived: usize,
}

impl<'a> Unread<'a> {
    /// Begins to read a payload that arrived with so many bytes.
    pub(super) fn new(payload: &'a [u8], arrived: usize) -> Self {
        Self { bytes: payload, arrived: arrived.max(payload.len()) }
    }

    /// Reads the next bytes, or none where there are fewer.
    pub(super) fn first<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (first, rest) = self.bytes.split_first_chunk()?;
        *self = Self { bytes: rest, arrived: self.arrived - N };
        Some(first)
    }

    /// Reads the next bytes of a header.
    ///
    /// # Errors
    /// [`DropReason::ShortTunnelHeader`]: there are fewer.
    pub(super) fn header<const N: usize>(&mut self) -> Result<&'a [u8; N], DropReason> {
        self.first().ok_or(DropReason::ShortTunnelHeader)
    }

    /// Reads so many bytes of a header.
    ///
    /// # Errors
    /// [`DropReason::ShortTunnelHeader`]: there are fewer.
    pub(super) fn header_of(&mut self, length: usize) -> Result<&'a [u8], DropReason> {
        let (first, rest) = self.bytes.split_at_checked(length).ok_or(DropReason::ShortTunnelHeader)?;
        *self = Self { bytes: rest, arrived: self.arrived - length };
        Ok(first)
    }
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
        /// The inner frame is shorter than an Ethernet header, or the inner packet than its own.
        RuntInnerFrame = "runt_inner_frame",
        /// The UDP checksum is not that of the datagram, where the sensor verifies it and not the
        /// kernel (`--verify-checksum`).
        WrongChecksum = "wrong_checksum",
        /// The datagram ends within the header of its encapsulation: GENEVE with its options, the
        /// service header in VXLAN-GPE, GRE, ERSPAN, or TZSP. Or a service header is shorter than
        /// one can be.
        ShortTunnelHeader = "short_tunnel_header",
        /// The header is of another version than those that are known, or of an older form: GENEVE
        /// other than 0, GRE other than 0 or with routes in it, ERSPAN other than 1 and 2, TZSP
        /// other than 1.
        UnknownTunnelVersion = "unknown_tunnel_version",
        /// An option of a GENEVE header is longer than what is left for options.
        BadGeneveOptions = "bad_geneve_options",
        /// GENEVE has an option that is unknown and critical, and the policy is to reject
        /// (`--reserved-bits reject`).
        CriticalOption = "critical_option",
        /// The tags of a TZSP header have no end within the datagram.
        BadTzspTags = "bad_tzsp_tags",
        /// The tunnel carries something that is neither an Ethernet frame nor IP, ARP or MPLS.
        UnknownInnerProtocol = "unknown_inner_protocol",
        /// A message to the receiver and no frame: GENEVE or VXLAN-GPE with the O bit.
        ControlMessage = "control_message",
        /// A message of TZSP that says that the sender is there: keep-alive, port opener, or
        /// configuration.
        KeepAlive = "keep_alive",
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
        for (port, encapsulation) in
            [(4789, Some(Encapsulation::Vxlan)), (6081, Some(Encapsulation::Geneve)), (53, None)]
        {
            assert_eq!(Encapsulation::of_port(port), encapsulation);
        }
        let refused = "gtp".parse::<Encapsulation>().unwrap_err().to_string();
        assert_eq!(
            refused,
            "unknown encapsulation \"gtp\": this vxtap knows vxlan, gpe, geneve, gre, nvgre, erspan, tzsp"
        );
    }
}
