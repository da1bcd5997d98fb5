//! A file of records has one of several formats.
//!
//! A chunk's records are nanosecond pcap. For [`Format::Pcap`] they are the bytes of the file as
//! they are. For the other formats each is encoded anew, once, into the buffer that is written.

use std::fmt;
use std::str::FromStr;

use super::contents::{Opening, Remarks, Statistics};
use super::pcap::{self, RECORD_HEADER_LEN, Record};
use super::pcapng;

/// The magic number of microsecond pcap.
pub(crate) const MAGIC_MICROSECONDS: u32 = 0xa1b2_c3d4;

/// The format of a capture file.
///
/// The comments of the variants are the text of `vxtap run --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Classic pcap with nanoseconds.
    Pcap,
    /// Classic pcap with microseconds, for old readers.
    PcapUs,
    /// pcapng: says which session, which way each frame went, and what was lost where.
    #[serde(rename = "pcapng")]
    #[value(name = "pcapng")]
    PcapNg,
}

impl Format {
    /// Every format.
    pub(crate) const ALL: [Format; 3] = [Format::Pcap, Format::PcapUs, Format::PcapNg];

    /// Returns the name as in arguments and configuration files.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Pcap => "pcap",
            Format::PcapUs => "pcap-us",
            Format::PcapNg => "pcapng",
        }
    }

    /// Returns the end of a file's name, without the dot.
    #[must_use]
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Format::Pcap | Format::PcapUs => "pcap",
            Format::PcapNg => "pcapng",
        }
    }

    /// Returns the bytes in front of the first record.
    #[must_use]
    pub(crate) fn opening(self, opening: &Opening<'_>) -> Vec<u8> {
        match self {
            Format::Pcap => classic(opening).to_vec(),
            Format::PcapUs => {
                let mut header = classic(opening).to_vec();
                header[0..4].copy_from_slice(&MAGIC_MICROSECONDS.to_le_bytes());
                header
            }
            Format::PcapNg => pcapng::opening(opening),
        }
    }

    /// Returns how many bytes [`Format::push`] appends for a frame of `frame_len` bytes.
    #[inline]
    #[must_use]
    pub(crate) fn record_len(self, frame_len: usize, remarks: Remarks<'_>) -> usize {
        match self {
            Format::Pcap | Format::PcapUs => RECORD_HEADER_LEN + frame_len,
            Format::PcapNg => pcapng::packet_len(frame_len, remarks),
        }
    }

    /// Appends a record, with what there is to say of it, if there is a place for that.
    #[inline]
    pub(crate) fn push(self, out: &mut Vec<u8>, record: &Record<'_>, remarks: Remarks<'_>) {
        match self {
            Format::Pcap => pcap::push(out, record.timestamp, record.frame, record.orig_len),
            Format::PcapUs => push_microseconds(out, record),
            Format::PcapNg => pcapng::push(out, record, remarks),
        }
    }

    /// Returns the bytes behind the last record: none in classic pcap, the statistics of an
    /// interface in pcapng.
    #[must_use]
    pub(crate) fn closing(self, statistics: &Statistics) -> Vec<u8> {
        match self {
            Format::Pcap | Format::PcapUs => Vec::new(),
            Format::PcapNg => pcapng::closing(statistics),
        }
    }

    /// Returns how many bytes [`Format::closing`] has.
    #[must_use]
    pub(crate) fn closing_len(self) -> usize {
        match self {
            Format::Pcap | Format::PcapUs => 0,
            Format::PcapNg => pcapng::CLOSING_LEN,
        }
    }
}

/// Returns the header of classic pcap, which has one link type.
fn classic(opening: &Opening<'_>) -> [u8; pcap::FILE_HEADER_LEN] {
    pcap::file_header(opening.link_types.first().copied().unwrap_or_default(), opening.snaplen)
}

/// Appends the record with its fraction of a second in microseconds, rounded down as every
/// converter does.
fn push_microseconds(out: &mut Vec<u8>, record: &Record<'_>) {
    let start = out.len();
    pcap::push(out, record.timestamp, record.frame, record.orig_len);
    let (_, nanoseconds) = record.timestamp.split();
    if let Some(fraction) = out.get_mut(start + 4..start + 8) {
        fraction.copy_from_slice(&(nanoseconds / 1_000).to_le_bytes());
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that is not the name of a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format {0:?}: one of pcap, pcap-us, pcapng")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Format, UnknownFormat> {
        Format::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

#[cfg(test)]
mod tests;
