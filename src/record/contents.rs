//! A capture has statements beside its records.

use super::Timestamp;
use crate::wire::{Direction, LinkType};

/// The program that captures name as their writer.
pub(crate) const APPLICATION: &str = concat!("vxtap ", env!("CARGO_PKG_VERSION"));

/// The statements at the beginning of a file. Of the texts classic pcap has none, and pcapng those
/// that are not empty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening<'a> {
    /// The kinds of headers that its frames begin with. Classic pcap has one, pcapng an interface
    /// for each, which are numbered in this order from 0.
    pub link_types: &'a [LinkType],
    /// The most bytes of a frame that the file has.
    pub snaplen: u32,
    /// Name of the interface (`if_name`).
    pub interface: &'a str,
    /// The origin of its frames (`if_description`).
    pub description: &'a str,
    /// Machine that captures (`shb_hardware`).
    pub hardware: &'a str,
    /// Its operating system (`shb_os`).
    pub os: &'a str,
    /// Program that captures (`shb_userappl`).
    pub application: &'a str,
}

/// An Ethernet capture that says nothing of itself.
impl Default for Opening<'_> {
    fn default() -> Self {
        let link_types = &[LinkType::Ethernet];
        Self { link_types, snaplen: 0, interface: "", description: "", hardware: "", os: "", application: "" }
    }
}

/// The statements about an interface at the end of a pcapng file: counts of frames since `start`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Statistics {
    /// Number of the interface.
    pub interface: u32,
    /// Begin of the capture (`isb_starttime`).
    pub start: Timestamp,
    /// End of the capture (`isb_endtime`), which is the time of the statistics too.
    pub end: Timestamp,
    /// Frames that arrived (`isb_ifrecv`).
    pub received: u64,
    /// Frames dropped for want of room (`isb_ifdrop`).
    pub dropped: u64,
    /// Frames that the filter let pass (`isb_filteraccept`).
    pub accepted: u64,
    /// Frames that the kernel dropped (`isb_osdrop`).
    pub kernel_dropped: u64,
    /// Frames that were written (`isb_usrdeliv`).
    pub delivered: u64,
}

/// The remarks on a frame beside it. Only pcapng has a place for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Remarks<'a> {
    /// Number of the interface by which the frame came.
    pub interface: u32,
    /// Options that go with the frame as they are, as those that [`pcapng::comment`] makes.
    ///
    /// [`pcapng::comment`]: super::pcapng::comment
    pub notes: &'a [u8],
    /// The way that the frame went (`epb_flags`), where it is known.
    pub direction: Option<Direction>,
    /// Frames of the file that were dropped since the record before (`epb_dropcount`).
    pub lost: u64,
    /// The number that all copies of the packet have (`epb_packetid`).
    pub packet_id: Option<u64>,
}
