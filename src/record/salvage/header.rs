//! The header of a file stands before its first record, and is compared with what this program
//! writes there.
//!
//! A reader takes from the header what the records mean: their link type and their unit of time. So
//! a file is not published with a header that is another than ours, even if its records are whole.
//! Everything in a header is either constant, or a length within bounds, or a text; the link type
//! is one of two. A pcapng file has an interface for each link type of its frames, and the second
//! differs from the first in that alone.

use crate::record::contents::Opening;
use crate::record::format::Format;
use crate::record::pcapng::{self, BLOCK_TRAILER_LEN, OPTION_HEADER_LEN};
use crate::record::read::MAX_FRAME;
use crate::record::window::{to_usize, u32_at};
use crate::wire::LinkType;

/// The link types of a file with two interfaces.
const BOTH: &[LinkType] = &[LinkType::Ethernet, LinkType::Raw];
/// The field that has the link type.
const LINK_TYPE: &str = "link type";

/// A header, as far as it can be read.
#[derive(Debug, Default)]
pub(super) struct Header {
    /// Fields that are not as this program writes them.
    wrong: Vec<&'static str>,
    /// The link types, where they are such as this program writes.
    link_types: &'static [LinkType],
    snaplen: u32,
    hardware: String,
    os: String,
    application: String,
    interface: String,
    description: String,
}

impl Header {
    /// Reads the header of a file of this format, all of it and nothing else. Its blocks are whole,
    /// where it has blocks.
    pub(super) fn of(format: Format, bytes: &[u8]) -> Self {
        let mut header = Self::default();
        match format {
            Format::Pcap | Format::PcapUs => header.classic(bytes),
            Format::PcapNg => {
                let section = to_usize(u32_at(bytes, 4));
                let (section, interfaces) = bytes.split_at_checked(section).unwrap_or((bytes, &[]));
                header.section(section);
                let first = to_usize(u32_at(interfaces, 4));
                match interfaces.split_at_checked(first) {
                    Some((first, second @ [_, ..])) => header.interfaces(first, second),
                    _ => header.interface(interfaces),
                }
            }
        }
        header
    }

    /// Says whether the header tells the link type.
    pub(super) fn tells_link_type(&self) -> bool {
        !self.link_types.is_empty()
    }

    /// Hears that most frames are no packets, so that a file of one link type is of Ethernet.
    pub(super) fn is_not_raw(&mut self) {
        if self.link_types == [LinkType::Raw] {
            self.link_types = &[];
            self.wrong.push(LINK_TYPE);
        }
    }

    /// Says what is wrong with the header, where the longest frame of the file has `longest` bytes.
    pub(super) fn wrong(mut self, longest: u32) -> Vec<&'static str> {
        self.judge(longest);
        self.wrong
    }

    /// Returns the header that this program would have written, where this field was not so. A snap
    /// length that is wrong becomes the largest, and a link type that is the only one Ethernet.
    pub(super) fn mended(mut self, format: Format, longest: u32, field: &str) -> Vec<u8> {
        self.judge(longest);
        let is_known = self.link_types == BOTH || field != LINK_TYPE;
        let link_types = if is_known { self.link_types } else { &[LinkType::Ethernet] };
        format.opening(&Opening {
            link_types,
            snaplen: self.snaplen,
            interface: &self.interface,
            description: &self.description,
            hardware: &self.hardware,
            os: &self.os,
            application: &self.application,
        })
    }

    fn judge(&mut self, longest: u32) {
        if !(longest.max(1)..=MAX_FRAME).contains(&self.snaplen) {
            self.snaplen = MAX_FRAME;
            self.wrong.push("snap length");
        }
    }

    /// Notes that a field differs from what it always is.
    fn expect(&mut self, field: &'static str, bytes: &[u8], at: usize, constant: &[u8]) {
        if bytes.get(at..at + constant.len()) != Some(constant) {
            self.wrong.push(field);
        }
    }

    /// Reads the header of classic pcap, of which the magic is known.
    fn classic(&mut self, bytes: &[u8]) {
        self.expect("version", bytes, 4, &[2, 0, 4, 0]);
        self.expect("time zone", bytes, 8, &[0; 4]);
        self.expect("accuracy", bytes, 12, &[0; 4]);
        self.snaplen = u32_at(bytes, 16);
        self.link_type(u32_at(bytes, 20));
    }

    /// Reads the one link type of a file.
    fn link_type(&mut self, number: u32) {
        let known = BOTH.chunks(1).find(|one| one.iter().all(|of| u32::from(of.number()) == number));
        self.link_types = known.unwrap_or_default();
        if known.is_none() {
            self.wrong.push(LINK_TYPE);
        }
    }

    /// Reads a section header block, of which type, lengths and byte order are known.
    fn section(&mut self, block: &[u8]) {
        self.expect("version", block, 12, &[1, 0, 0, 0]);
        self.expect("section length", block, 16, &u64::MAX.to_le_bytes());
        let (mut hardware, mut os, mut application) = Default::default();
        let fine = options(block, 24, |code, value| match code {
            pcapng::SHB_HARDWARE => text(value, &mut hardware),
            pcapng::SHB_OS => text(value, &mut os),
            pcapng::SHB_USERAPPL => text(value, &mut application),
            _ => false,
        });
        if !fine {
            self.wrong.push("options of the section");
        }
        (self.hardware, self.os, self.application) = (hardware, os, application);
    }

    /// Reads two interface description blocks, of which types and lengths are known.
    fn interfaces(&mut self, first: &[u8], second: &[u8]) {
        self.link_types = BOTH;
        self.expect(LINK_TYPE, first, 8, &LinkType::Ethernet.number().to_le_bytes());
        self.description(first);
        // The mended header has the second as the first is.
        self.expect("link type of the second interface", second, 8, &LinkType::Raw.number().to_le_bytes());
        self.expect("second interface", second, 10, first.get(10..).unwrap_or_default());
    }

    /// Reads the only interface description block, of which type and lengths are known.
    fn interface(&mut self, block: &[u8]) {
        self.link_type(u32_at(block, 8) & 0xffff);
        self.description(block);
    }

    /// Reads what an interface description block has behind the link type.
    fn description(&mut self, block: &[u8]) {
        self.expect("reserved bytes", block, 10, &[0; 2]);
        self.snaplen = u32_at(block, 12);
        let (mut interface, mut description, mut nanoseconds) = (String::new(), String::new(), false);
        let fine = options(block, 16, |code, value| match code {
            pcapng::IF_NAME => text(value, &mut interface),
            pcapng::IF_DESCRIPTION => text(value, &mut description),
            pcapng::IF_TSRESOL => {
                nanoseconds = value == [pcapng::NANOSECONDS];
                nanoseconds
            }
            _ => false,
        });
        if !(fine && nanoseconds) {
            self.wrong.push("options of the interface");
        }
        (self.interface, self.description) = (interface, description);
    }
}

/// Hands each option from `at` on to `take`, and says whether all are as they are written here:
/// taken, in the order of their codes, padded with zeros, and ended by the end of options and of
/// the block. Stops where that is not so.
fn options(block: &[u8], at: usize, mut take: impl FnMut(u16, &[u8]) -> bool) -> bool {
    let end = block.len().saturating_sub(BLOCK_TRAILER_LEN);
    let mut rest = block.get(at..end).unwrap_or_default();
    let mut last = 0;
    while let Some((&[a, b, c, d], behind)) = rest.split_first_chunk::<OPTION_HEADER_LEN>() {
        let (code, length) = (u16::from_le_bytes([a, b]), usize::from(u16::from_le_bytes([c, d])));
        if code == 0 {
            return length == 0 && behind.is_empty();
        }
        let Some((value, behind)) = behind.split_at_checked(length.next_multiple_of(4)) else { return false };
        let (value, padding) = value.split_at(length);
        if code <= last || padding.iter().any(|byte| *byte != 0) || !take(code, value) {
            return false;
        }
        (last, rest) = (code, behind);
    }
    false
}

/// Reads a text, which is not empty where there is one.
fn text(value: &[u8], to: &mut String) -> bool {
    match str::from_utf8(value) {
        Ok(text) if !text.is_empty() && !text.contains('\0') => {
            text.clone_into(to);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read};

    use pcap_parser::{Block, Linktype, PcapNGCapture, parse_pcap_frame, parse_pcap_header};

    use super::*;
    use crate::record::Timestamp;
    use crate::record::compress::{Compression, Compressor, reader};
    use crate::record::contents::Statistics;
    use crate::record::pcap::Record;
    use crate::record::salvage::{Unsalvageable, extract, scan};
    use crate::wire::Direction;

    const ETHERNET: &[LinkType] = &[LinkType::Ethernet];
    const RAW: &[LinkType] = &[LinkType::Raw];

    const OPENING: Opening<'static> = Opening {
        link_types: ETHERNET,
        snaplen: 65_535,
        interface: "vni7_192.0.2.1",
        description: "VXLAN mirror session of 192.0.2.1, VNI 7",
        hardware: "bastion",
        os: "Linux 6.1",
        application: "vxtap",
    };

    /// Makes a file with two frames, the second of the last link type, and the length of its
    /// header.
    fn file(format: Format, opening: &Opening<'_>) -> (Vec<u8>, usize) {
        let mut raw = format.opening(opening);
        let header = raw.len();
        for (number, time, length) in [(0, 1_795_490_309_123_456_789, 60), (1, 1_795_490_310_000_000_999, 1_400)] {
            let interface = number.min(opening.link_types.len() - 1);
            let frame = vec![if opening.link_types[interface] == LinkType::Raw { 0x45 } else { 7 }; length];
            let record = Record { timestamp: Timestamp::from_ns(time), orig_len: 2_000, frame: &frame };
            let remarks = crate::record::contents::Remarks {
                interface: interface as u32,
                notes: &[],
                direction: Some(Direction::Inbound),
                lost: 1,
                packet_id: Some(1),
            };
            format.push(&mut raw, &record, remarks);
        }
        raw.extend(format.closing(&Statistics::default()));
        (raw, header)
    }

    fn compress(raw: &[u8], compression: Option<Compression>) -> Vec<u8> {
        let Some(compression) = compression else { return raw.to_vec() };
        let (mut compressor, mut out) = (Compressor::new(compression).unwrap(), Vec::new());
        compressor.feed(raw, &mut out).unwrap();
        compressor.finish(&mut out).unwrap();
        out
    }

    /// Returns the records as an independent reader finds them, which goes by the header.
    fn read(file: &[u8]) -> Vec<(u64, u32, Vec<u8>)> {
        read_of(ETHERNET, file)
    }

    /// Returns the records of a file with these link types.
    fn read_of(link_types: &[LinkType], file: &[u8]) -> Vec<(u64, u32, Vec<u8>)> {
        let link_types: Vec<_> = link_types.iter().map(|of| Linktype(of.number().into())).collect();
        let mut raw = Vec::new();
        reader(file).unwrap().read_to_end(&mut raw).unwrap();
        if raw.starts_with(&pcapng::SECTION_HEADER.to_le_bytes()) {
            let capture = PcapNGCapture::from_file(&raw).unwrap();
            let [section] = capture.sections.as_slice() else { panic!() };
            let (mut records, mut interfaces) = (Vec::new(), Vec::new());
            for block in &section.blocks {
                match block {
                    Block::SectionHeader(section) => {
                        assert_eq!((section.major_version, section.minor_version, section.section_len), (1, 0, -1));
                    }
                    Block::InterfaceDescription(interface) => {
                        interfaces.push(interface.linktype);
                        assert_eq!(interface.if_tsresol, 9);
                    }
                    Block::EnhancedPacket(packet) => {
                        let time = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                        records.push((time, packet.origlen, packet.data[..packet.caplen as usize].to_vec()));
                    }
                    Block::InterfaceStatistics(_) => {}
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(interfaces, link_types);
            return records;
        }
        let (mut rest, header) = parse_pcap_header(&raw).unwrap();
        let constant = (header.version_major, header.version_minor, header.network);
        assert_eq!(constant, (2, 4, link_types[0]));
        assert!(header.thiszone == 0 && header.sigfigs == 0);
        let unit = if header.is_nanosecond_precision() { 1 } else { 1_000 };
        let mut records = Vec::new();
        while let Ok((next, record)) = parse_pcap_frame(rest) {
            assert!(record.caplen <= header.snaplen);
            let time = u64::from(record.ts_sec) * 1_000_000_000 + u64::from(record.ts_usec) * unit;
            records.push((time, record.origlen, record.data.to_vec()));
            rest = next;
        }
        assert!(rest.is_empty());
        records
    }

    /// Returns what is published of a file, and the field that was mended.
    fn published(file: &[u8]) -> Result<(Vec<u8>, Option<&'static str>), Unsalvageable> {
        let whole = scan(file)?;
        if whole.intact && whole.mended.is_none() {
            return Ok((file.to_vec(), None));
        }
        let mut out = Vec::new();
        extract(file, &whole, &mut out).unwrap();
        Ok((out, whole.mended))
    }

    const KINDS: [Option<Compression>; 3] = [None, Some(Compression::Lz4), Some(Compression::Zstd(3))];

    /// Damages each byte of a header in each of five ways, and makes sure that what is published
    /// has the frames. Returns how often the header was mended.
    fn damage(format: Format, compression: Option<Compression>, link_types: &[LinkType]) -> u32 {
        let (raw, length) = file(format, &Opening { link_types, ..OPENING });
        let whole = compress(&raw, compression);
        assert_eq!(scan(whole.as_slice()).unwrap().mended, None, "{format} {compression:?}");
        let frames = read_of(link_types, &whole);
        assert_eq!(frames.len(), 2);
        let mut mended = 0;
        for at in 0..length {
            for damage in [1, 2, 0x10, 0x80, 0xff] {
                let mut raw = raw.clone();
                raw[at] ^= damage;
                let what = format!("{format} {compression:?}, byte {at}, {damage:#x}");
                let file = compress(&raw, compression);
                match published(&file) {
                    // The second interface is taken for none, and the file for one without frames,
                    // with more behind its header: such a file is set aside.
                    Ok(_) if link_types.len() > 1 && scan(file.as_slice()).unwrap().frames == 0 => {
                        assert!(scan(file.as_slice()).unwrap().damaged, "{what}");
                    }
                    Ok((file, field)) => {
                        assert!(read_of(link_types, &file) == frames, "{what}");
                        mended += u32::from(field.is_some());
                    }
                    Err(error) => assert!(
                        matches!(
                            error,
                            Unsalvageable::NotACapture | Unsalvageable::Header(_) | Unsalvageable::CutHeader
                        ),
                        "{what}: {error}"
                    ),
                }
            }
        }
        mended
    }

    #[test]
    fn a_damaged_frame_is_not_believed_rather_than_the_header() {
        let (raw, length) = file(Format::Pcap, &Opening { link_types: RAW, ..OPENING });
        let second = length + 16 + 60 + 16;
        for damaged in [length + 16, second] {
            let mut raw = raw.clone();
            raw[damaged] = 0;
            assert_eq!(published(&raw).unwrap(), (raw, None));
        }
        // Both of them are another matter.
        let mut raw = raw;
        (raw[length + 16], raw[second]) = (0, 0);
        assert_eq!(published(&raw).unwrap().1, Some(LINK_TYPE));
    }

    #[test]
    fn a_damaged_byte_of_a_header_is_mended_or_the_file_is_set_aside() {
        for format in Format::ALL {
            for compression in KINDS {
                let mended = damage(format, compression, ETHERNET);
                // These are all bytes that are constant, but for magic and lengths, in each of five
                // ways. 2.4, zone, accuracy, link type; or 1.0, length of the section, link type,
                // reserved.
                let constant = 16;
                assert!(mended >= 5 * constant, "{format} {compression:?}: {mended}");
            }
        }
    }

    #[test]
    fn a_damaged_byte_of_a_header_of_bare_packets_is_mended_or_the_file_is_set_aside() {
        for format in Format::ALL {
            for compression in KINDS {
                // As above, but what the link type was is not known where all frames are packets.
                let constant = if format == Format::PcapNg { 14 } else { 12 };
                let mended = damage(format, compression, RAW);
                assert!(mended >= 5 * constant, "{format} {compression:?}: {mended}");
            }
        }
        for compression in KINDS {
            // The same of each of two interfaces, of which the second is all as the first.
            let mended = damage(Format::PcapNg, compression, BOTH);
            assert!(mended >= 5 * (16 + 4), "{compression:?}: {mended}");
        }
    }

    #[test]
    fn a_link_type_is_believed_that_the_frames_can_have() {
        for format in [Format::Pcap, Format::PcapUs] {
            let of = |link_types| file(format, &Opening { link_types, ..OPENING }).0;
            let damaged = |mut raw: Vec<u8>, link_type: u8| {
                raw[20] = link_type;
                published(&raw)
            };
            assert_eq!(damaged(of(ETHERNET), 101).unwrap(), (of(ETHERNET), Some("link type")));
            let error = damaged(of(RAW), 113).unwrap_err().to_string();
            assert!(error.ends_with("the link type, which its frames do not tell"), "{error}");
        }
    }

    #[test]
    fn a_second_interface_is_part_of_the_header() {
        let (raw, length) = file(Format::PcapNg, &Opening { link_types: BOTH, ..OPENING });
        let first = length - (length - pcapng_interface(&raw)) / 2;
        for cut in first..length {
            match scan(&raw[..cut]) {
                // A few bytes are not known for an interface, and hold nothing.
                Ok(whole) => assert!(cut < first + 4 && whole.frames == 0 && !whole.damaged, "{cut}"),
                Err(error) => assert!(cut >= first + 4 && matches!(error, Unsalvageable::CutHeader), "{cut}"),
            }
        }
        let whole = scan(raw.as_slice()).unwrap();
        assert_eq!((whole.opening, whole.frames, whole.intact), (length as u64, 2, true));
        // A frame of an interface that is not there is no frame.
        let mut other = raw.clone();
        other[length + 8] = 2;
        let whole = scan(other.as_slice()).unwrap();
        assert_eq!((whole.frames, whole.damaged), (0, true));
    }

    /// The damage is in what a compressed stream begins with, which is not in the header but before
    /// it.
    #[test]
    fn a_damaged_byte_of_a_compressed_stream_s_beginning_leaves_nothing_that_does_not_open() {
        for format in Format::ALL {
            for compression in &KINDS[1..] {
                let (raw, _) = file(format, &OPENING);
                let whole = compress(&raw, *compression);
                let frames = read(&whole);
                // A stream begins with magic, descriptors, and of lz4 their checksum.
                let length = if matches!(compression, Some(Compression::Lz4)) { 7 } else { 6 };
                for at in 0..length {
                    for damage in [1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0xff] {
                        let mut file = whole.clone();
                        file[at] ^= damage;
                        let Ok((file, _)) = published(&file) else { continue };
                        let found = read(&file);
                        let same = found == frames[..found.len()];
                        assert!(same, "{format} {compression:?}, byte {at}, {damage:#x}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_mended_is_named_and_the_rest_of_the_header_stays() {
        let whole = |format| file(format, &OPENING);
        let mended = |format, at: usize, value: &[u8]| {
            let (mut raw, _) = whole(format);
            raw[at..at + value.len()].copy_from_slice(value);
            published(&raw)
        };
        for (at, field) in [(4, "version"), (8, "time zone"), (12, "accuracy"), (20, "link type")] {
            for format in [Format::Pcap, Format::PcapUs] {
                let (file, found) = mended(format, at, &[0x33]).unwrap();
                assert_eq!((file, found), (whole(format).0, Some(field)), "{format}");
            }
        }
        // A snap length of less than the longest frame, none, and more than there is becomes the
        // largest.
        let most = |format| file(format, &Opening { snaplen: MAX_FRAME, ..OPENING }).0;
        let interface = pcapng_interface(&whole(Format::PcapNg).0);
        for (format, at) in [(Format::Pcap, 16), (Format::PcapUs, 16), (Format::PcapNg, interface + 12)] {
            for snaplen in [0, 1_399, MAX_FRAME + 1, u32::MAX] {
                let (file, field) = mended(format, at, &snaplen.to_le_bytes()).unwrap();
                assert_eq!((file, field), (most(format), Some("snap length")), "{format}, {snaplen}");
            }
            assert_eq!(mended(format, at, &1_400u32.to_le_bytes()).unwrap().1, None);
        }
        for (at, value, field) in [
            (12, 9, "version"),
            (16, 0, "section length"),
            (interface + 8, 113, "link type"),
            (interface + 11, 1, "reserved bytes"),
        ] {
            let found = mended(Format::PcapNg, at, &[value]).unwrap();
            assert_eq!(found, (whole(Format::PcapNg).0, Some(field)));
        }
        // The damage is in the unit of time: everything before it is kept.
        let tsresol = whole(Format::PcapNg).1 - 4 - 4 - 4;
        for (at, value) in [(tsresol, 6), (tsresol + 1, 1), (tsresol - 4, 10), (tsresol - 2, 2)] {
            let found = mended(Format::PcapNg, at, &[value]).unwrap();
            assert_eq!(found, (whole(Format::PcapNg).0, Some("options of the interface")), "{at}");
        }
        // A text that can no longer be read is left out, with those behind it.
        let (file, field) = mended(Format::PcapNg, 28, &[0xff]).unwrap();
        assert_eq!(field, Some("options of the section"));
        let bare = Opening { hardware: "", os: "", application: "", ..OPENING };
        assert_eq!(file, super::tests::file(Format::PcapNg, &bare).0);
    }

    /// Returns where the interface description begins.
    fn pcapng_interface(file: &[u8]) -> usize {
        u32_at(file, 4) as usize
    }

    #[test]
    fn a_header_with_more_than_one_other_field_may_be_another_s() {
        let (mut raw, _) = file(Format::Pcap, &OPENING);
        (raw[4], raw[20]) = (9, 113);
        let error = scan(raw.as_slice()).unwrap_err().to_string();
        assert_eq!(error, "its header is damaged, or not of vxtap: version, link type");
        let (mut raw, length) = file(Format::PcapNg, &OPENING);
        // The unit is microseconds, and there is an option that others write.
        (raw[12], raw[length - 12]) = (9, 6);
        let error = scan(raw.as_slice()).unwrap_err().to_string();
        assert_eq!(error, "its header is damaged, or not of vxtap: version, options of the interface");
        let (mut raw, _) = file(Format::PcapNg, &OPENING);
        raw[4] += 1;
        let error = scan(raw.as_slice()).unwrap_err().to_string();
        assert_eq!(error, "its header is damaged, or not of vxtap: the lengths of its blocks");
    }

    #[test]
    fn headers_without_texts_are_ours_too() {
        for format in Format::ALL {
            for opening in [Opening { snaplen: 2_000, ..Opening::default() }, OPENING] {
                let (raw, length) = file(format, &opening);
                assert_eq!(scan(Cursor::new(&raw)).unwrap().mended, None);
                assert_eq!(Header::of(format, &raw[..length]).mended(format, 0, ""), raw[..length]);
            }
        }
    }
}
