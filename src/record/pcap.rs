//! The classic pcap format has nanoseconds here, as libpcap writes it (`pcap-savefile(5)`),
//! little-endian.
//!
//! A record is the same bytes in a lane's chunk and in the file, so a frame is copied once, into
//! the chunk, and the file is written from there. The reader here walks records that this encoder
//! made.

use super::Timestamp;
use crate::wire::{LinkType, bare};

/// The magic number of nanosecond pcap.
pub(crate) const MAGIC: u32 = 0xa1b2_3c4d;
/// Length of a file header.
pub(crate) const FILE_HEADER_LEN: usize = 24;
/// Length of a record header; the frame follows.
pub(crate) const RECORD_HEADER_LEN: usize = 16;

/// Bytes of a frame that are kept at most, as by libpcap: of each all.
pub(crate) const WHOLE: u32 = 262_144;

/// Makes the header of a file of such frames, cut to `snaplen` bytes.
#[must_use]
pub fn file_header(link_type: LinkType, snaplen: u32) -> [u8; FILE_HEADER_LEN] {
    let mut header = [0; FILE_HEADER_LEN];
    header[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    header[4..6].copy_from_slice(&2u16.to_le_bytes());
    header[6..8].copy_from_slice(&4u16.to_le_bytes());
    header[16..20].copy_from_slice(&snaplen.to_le_bytes());
    header[20..24].copy_from_slice(&u32::from(link_type.number()).to_le_bytes());
    header
}

/// Appends a record: `frame` as captured, `orig_len` the frame's length on the mirrored wire in
/// bytes.
///
/// A time after 2106 is written with all seconds bits set, the last that the format holds. A frame
/// is at most 64 KiB, a UDP payload, so its length fits.
#[inline]
pub fn push(records: &mut Vec<u8>, timestamp: Timestamp, frame: &[u8], orig_len: u32) {
    let (seconds, nanoseconds) = timestamp.split();
    let mut header = [0; RECORD_HEADER_LEN];
    header[0..4].copy_from_slice(&u32::try_from(seconds).unwrap_or(u32::MAX).to_le_bytes());
    header[4..8].copy_from_slice(&nanoseconds.to_le_bytes());
    header[8..12].copy_from_slice(&u32::try_from(frame.len()).unwrap_or(u32::MAX).to_le_bytes());
    header[12..16].copy_from_slice(&orig_len.to_le_bytes());
    records.extend_from_slice(&header);
    records.extend_from_slice(frame);
}

/// One record of a run of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// Receive time.
    pub timestamp: Timestamp,
    /// Length of the frame on the mirrored wire, in bytes.
    pub orig_len: u32,
    /// The frame as captured.
    pub frame: &'a [u8],
}

impl<'a> Record<'a> {
    /// Returns the record of the packet alone that is behind a made-up Ethernet header.
    #[must_use]
    pub(crate) fn undressed(self) -> Record<'a> {
        let frame = self.frame.get(bare::HEADER_LEN as usize..).unwrap_or_default();
        Record { frame, orig_len: self.orig_len.saturating_sub(bare::HEADER_LEN), ..self }
    }

    /// Returns the bytes of the record, header included.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        RECORD_HEADER_LEN + self.frame.len()
    }
}

/// Returns the records in `bytes`, which [`push`] wrote. Ends at the first that is not whole.
pub(crate) fn records(mut bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        let (header, rest) = bytes.split_first_chunk::<RECORD_HEADER_LEN>()?;
        let field = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (frame, rest) = rest.split_at_checked(field(8) as usize)?;
        bytes = rest;
        let timestamp = Timestamp::from_ns(u64::from(field(0)) * 1_000_000_000 + u64::from(field(4)));
        Some(Record { timestamp, orig_len: field(12), frame })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_file::pcap::PcapReader;
    use proptest::prelude::*;

    proptest! {
        /// Two independent readers, pcap-file and pcap-parser, and our own agree with what was
        /// pushed.
        #[test]
        fn readers_agree(frames in prop::collection::vec((0u64..(1 << 32) * 1_000_000_000, prop::collection::vec(any::<u8>(), 0..200), 0u32..70_000), 0..20)) {
            let mut file = file_header(LinkType::Ethernet, 262_144).to_vec();
            for (time, frame, more) in &frames {
                push(&mut file, Timestamp::from_ns(*time), frame, frame.len() as u32 + more);
            }
            let ours: Vec<_> = records(&file[FILE_HEADER_LEN..]).map(|r| (r.timestamp.ns(), r.frame.to_vec(), r.orig_len)).collect();
            let wanted: Vec<_> = frames.iter().map(|(t, f, m)| (*t, f.clone(), f.len() as u32 + m)).collect();
            prop_assert_eq!(&ours, &wanted);

            let mut reader = PcapReader::new(file.as_slice()).unwrap();
            let mut theirs = Vec::new();
            while let Some(packet) = reader.next_packet() {
                let packet = packet.unwrap();
                theirs.push((packet.timestamp().as_nanos() as u64, packet.data().to_vec(), packet.orig_len()));
            }
            prop_assert_eq!(&theirs, &wanted);

            let (mut rest, header) = pcap_parser::parse_pcap_header(&file).unwrap();
            prop_assert!(header.is_nanosecond_precision());
            let mut parsed = Vec::new();
            while let Ok((next, packet)) = pcap_parser::parse_pcap_frame(rest) {
                parsed.push((u64::from(packet.ts_sec) * 1_000_000_000 + u64::from(packet.ts_usec), packet.data.to_vec(), packet.origlen));
                rest = next;
            }
            prop_assert!(rest.is_empty());
            prop_assert_eq!(&parsed, &wanted);
        }

        #[test]
        fn walking_any_bytes_ends(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let walked: usize = records(&bytes).map(|r| r.len()).sum();
            prop_assert!(walked <= bytes.len());
        }
    }

    #[test]
    fn the_output_is_what_pcap_file_writes() {
        use pcap_file::pcap::{PcapPacket, PcapWriter};
        let mut ours = file_header(LinkType::Ethernet, 65_535).to_vec();
        let header = pcap_file::pcap::PcapReader::new(ours.as_slice()).unwrap().header();
        let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
        for i in 0..10u8 {
            let frame = vec![i; usize::from(i) * 30];
            let time = Timestamp::from_ns(1_795_490_309_123_456_789 + u64::from(i));
            push(&mut ours, time, &frame, 1_000);
            let packet = PcapPacket::new(std::time::Duration::from_nanos(time.ns()), 1_000, &frame).unwrap();
            writer.write_packet(&packet).unwrap();
        }
        assert_eq!(ours, writer.into_inner());
    }
}
