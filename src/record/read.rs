//! Reading captures: pcap and pcapng, frame by frame, up to the first damaged byte.
//!
//! A capture that was cut short by a crash or a full disk is still worth reading, so damage is not the end of what came
//! before it: [`CaptureReader::next_frame`] delivers every whole frame and then one [`ReadError`] that names the file,
//! the byte at which the first damaged record starts, and what is wrong with it. After an error there is nothing more.
//!
//! The pcap-file crate decodes the file header, sections and interfaces, and frames the blocks of pcapng. Three things
//! are done here instead. The buffer: the crate's own readers report a record that is larger than their buffer as end
//! of file, without an offset; here a length is checked before its bytes are awaited, so a corrupted one cannot make
//! the reader swallow the rest of the file. Record headers: the crate refuses records that every other reader accepts,
//! as those with more bytes than the snapshot length in the header. Packet blocks: the crate collects their options in
//! a vector for each packet and refuses the packet if a comment is not UTF-8; here they are not looked at.
//!
//! Blocks that hold no packets (names, statistics, secrets, custom ones) are passed over without being held in memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use pcap_file::pcap::{PcapHeader, PcapTsResolution};
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
use pcap_file::pcapng::blocks::{
    ENHANCED_PACKET_BLOCK, INTERFACE_DESCRIPTION_BLOCK, PACKET_BLOCK, SECTION_HEADER_BLOCK, SIMPLE_PACKET_BLOCK,
};
use pcap_file::pcapng::{PcapNgParseError, PcapNgParser};
use pcap_file::{DataLink, Endianness};

/// The largest frame that is read, in bytes: the largest snapshot length of libpcap and Wireshark.
pub const MAX_FRAME: u32 = 262_144;

/// The largest pcapng block that is held in memory: a frame of [`MAX_FRAME`] with room for its options.
const MAX_BLOCK: u32 = MAX_FRAME + 0x4_0000;

/// Length of a pcap file header, and of a pcap record header.
const PCAP_HEADER: usize = 24;
const PCAP_RECORD_HEADER: usize = 16;

/// Type and length in front of a pcapng block's body, and the length repeated behind it.
const BLOCK_HEADER: usize = 8;
const BLOCK_TRAILER: usize = 4;

/// One captured Ethernet frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// When it was captured: nanoseconds since 1970-01-01 00:00:00 UTC. A pcapng simple packet block has no time; it
    /// gets that of the frame before it.
    pub timestamp: u64,
    /// The bytes that were captured.
    pub data: &'a [u8],
    /// Length of the frame on the wire, in bytes; more than `data` holds if the capture cut it, never less.
    pub orig_len: u32,
}

/// Why a capture could not be read, or not to its end. Frames delivered before the error are whole.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system could not open or read the file.
    #[error("{name}: {source}")]
    Io {
        /// The capture.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// Not a single byte.
    #[error("{name}: the file is empty")]
    Empty {
        /// The capture.
        name: String,
    },
    /// The first bytes are not those of a capture.
    #[error("{name}: not a pcap or pcapng file{hint}")]
    NotACapture {
        /// The capture.
        name: String,
        /// What the file seems to be instead, with what to do about it; may be empty.
        hint: &'static str,
    },
    /// Frames of another link layer than Ethernet.
    #[error("{name}: link type {link_type} is not supported, only Ethernet is")]
    LinkType {
        /// The capture.
        name: String,
        /// Name and number of the link type.
        link_type: String,
    },
    /// A record makes no sense or its end is missing.
    #[error("{name}: damaged at byte {offset}: {damage}; {}", whole(*.frames))]
    Damaged {
        /// The capture.
        name: String,
        /// Where the damaged record starts, in bytes from the start of the file.
        offset: u64,
        /// What is wrong with it.
        damage: Damage,
        /// Frames before it, all whole.
        frames: u64,
    },
}

fn whole(frames: u64) -> String {
    match frames {
        0 => "no frame comes before it".into(),
        1 => "the 1 frame before it is whole".into(),
        n => format!("the {n} frames before it are whole"),
    }
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The file ends within the file header, or within the header of a record.
    #[error("a {what} takes {needed} bytes but the file ends after {present}")]
    CutHeader {
        /// Which header.
        what: &'static str,
        /// Its length.
        needed: usize,
        /// Bytes of it that are there.
        present: usize,
    },
    /// The file ends within a record's data.
    #[error("record claims {claimed} bytes but the file ends after {present}")]
    CutRecord {
        /// Length that the record states.
        claimed: u64,
        /// Bytes of it that are there.
        present: u64,
    },
    /// The record states a length that no capture has.
    #[error("record claims {claimed} bytes, more than the {limit} that a record can have")]
    TooLong {
        /// Length that the record states.
        claimed: u32,
        /// The limit.
        limit: u32,
    },
    /// A packet block states more captured bytes than it has.
    #[error("packet block claims {claimed} bytes of frame but has {present}")]
    CutBlock {
        /// Length that the block states for the frame.
        claimed: u32,
        /// Bytes that the block has.
        present: usize,
    },
    /// A packet block names an interface that no block before it describes.
    #[error("packet block is of interface {0}, which the file does not describe")]
    UnknownInterface(u32),
    /// A pcapng block whose lengths or contents contradict each other.
    #[error("{0}")]
    Block(String),
}

/// Reads the frames of one capture.
///
/// ```
/// use pcap_file::pcap::{PcapPacket, PcapWriter};
/// use std::time::Duration;
/// use vxtap::record::read::CaptureReader;
///
/// let mut writer = PcapWriter::new(Vec::new())?;
/// writer.write_packet(&PcapPacket::new(Duration::from_micros(7), 60, vec![0u8; 60])?)?;
/// let file = writer.into_inner();
///
/// let mut reader = CaptureReader::new(file.as_slice(), "example")?;
/// let frame = reader.next_frame()?.ok_or("no frame")?;
/// assert_eq!((frame.timestamp, frame.data.len(), frame.orig_len), (7_000, 60, 60));
/// assert!(reader.next_frame()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CaptureReader<R> {
    name: String,
    input: Input<R>,
    format: Format,
    frames: u64,
    timestamp: u64,
    ended: bool,
}

#[derive(Debug)]
enum Format {
    Pcap { endianness: Endianness, nanoseconds: bool },
    PcapNg { parser: PcapNgParser, interfaces: Vec<Interface> },
}

/// What a packet block needs to know about its interface.
#[derive(Debug, Clone, Copy)]
struct Interface {
    link_type: DataLink,
    snaplen: u32,
    /// Whether `ts_digits` counts binary digits of the fraction of a second, not decimal ones.
    ts_binary: bool,
    ts_digits: u8,
    /// Seconds to add to each timestamp.
    ts_offset: i64,
}

impl Interface {
    fn new(block: &InterfaceDescriptionBlock<'_>) -> Interface {
        let resolution = block.ts_resolution();
        Interface {
            link_type: block.linktype,
            snaplen: block.snaplen,
            ts_binary: resolution.is_bin(),
            ts_digits: resolution.resolution(),
            ts_offset: block.ts_offset(),
        }
    }

    /// Nanoseconds since the epoch; a time that does not fit becomes the nearest that does.
    fn timestamp(&self, high: u32, low: u32) -> u64 {
        let units = u128::from(high) << 32 | u128::from(low);
        let nanoseconds = if self.ts_binary {
            (units * 1_000_000_000).checked_shr(self.ts_digits.into()).unwrap_or(0)
        } else {
            units * 1_000_000_000 / 10u128.saturating_pow(self.ts_digits.into())
        };
        let offset = u128::from(self.ts_offset.unsigned_abs()) * 1_000_000_000;
        let time = if self.ts_offset < 0 { nanoseconds.saturating_sub(offset) } else { nanoseconds + offset };
        u64::try_from(time).unwrap_or(u64::MAX)
    }
}

/// A frame found in the buffer.
struct Found {
    timestamp: Option<u64>,
    start: usize,
    length: usize,
    orig_len: u32,
}

/// Why the search for the next frame stopped.
enum Stop {
    Io(io::Error),
    LinkType(DataLink),
    Damage(Damage),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Io(error)
    }
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Stop {
        Stop::Damage(damage)
    }
}

impl CaptureReader<File> {
    /// Opens a file.
    ///
    /// # Errors
    /// As [`CaptureReader::new`], and what opening the file gives.
    pub fn open(path: &Path) -> Result<CaptureReader<File>, ReadError> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => CaptureReader::new(file, name),
            Err(source) => Err(ReadError::Io { name, source }),
        }
    }
}

impl<R: Read> CaptureReader<R> {
    /// Reads the file header. `name` is what errors call the capture: a path, or what it is.
    ///
    /// # Errors
    /// When there is nothing to read, or the first bytes are not the header of a capture of Ethernet frames.
    pub fn new(source: R, name: impl Into<String>) -> Result<CaptureReader<R>, ReadError> {
        let name = name.into();
        let mut input = Input::new(source);
        let format = match Format::detect(&mut input) {
            Ok(Some(format)) => format,
            Ok(None) if input.bytes().is_empty() => return Err(ReadError::Empty { name }),
            Ok(None) => return Err(ReadError::NotACapture { name, hint: hint(input.bytes()) }),
            Err(stop) => return Err(stop.error(&name, 0, 0)),
        };
        Ok(CaptureReader { name, input, format, frames: 0, timestamp: 0, ended: false })
    }

    /// The next frame, or `None` at the end of the capture. After an error the capture is at its end.
    ///
    /// # Errors
    /// When the next record is damaged, holds a frame of another link layer, or cannot be read.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, ReadError> {
        if self.ended {
            return Ok(None);
        }
        let found = match self.format.next(&mut self.input) {
            Ok(Some(found)) => found,
            Ok(None) => {
                self.ended = true;
                return Ok(None);
            }
            Err(stop) => {
                self.ended = true;
                return Err(stop.error(&self.name, self.input.record, self.frames));
            }
        };
        self.frames += 1;
        self.timestamp = found.timestamp.unwrap_or(self.timestamp);
        // The range lies within the record, which is in the buffer whole.
        let data = self.input.buffer.get(found.start..found.start + found.length).unwrap_or_default();
        let orig_len = found.orig_len.max(u32::try_from(data.len()).unwrap_or(u32::MAX));
        Ok(Some(Frame { timestamp: self.timestamp, data, orig_len }))
    }

    /// Bytes of the capture used up so far.
    pub fn offset(&self) -> u64 {
        self.input.offset
    }
}

impl Stop {
    fn error(self, name: &str, offset: u64, frames: u64) -> ReadError {
        let name = name.to_string();
        match self {
            Stop::Io(source) => ReadError::Io { name, source },
            Stop::LinkType(link) => ReadError::LinkType { name, link_type: format!("{link:?} ({})", u32::from(link)) },
            Stop::Damage(damage) => ReadError::Damaged { name, offset, damage, frames },
        }
    }
}

/// What a file that is not a capture seems to be.
fn hint(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x1f, 0x8b, ..] => " (it is compressed with gzip; decompress it first)",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => " (it is compressed with zstd; decompress it first)",
        [0xfd, b'7', b'z', b'X', ..] => " (it is compressed with xz; decompress it first)",
        [0x04, 0x22, 0x4d, 0x18, ..] => " (it is compressed with lz4; decompress it first)",
        _ => "",
    }
}

impl Format {
    /// The format of the input by its first bytes, with its header read; `None` if it is no capture.
    fn detect<R: Read>(input: &mut Input<R>) -> Result<Option<Format>, Stop> {
        input.fill_to(4)?;
        match *input.bytes() {
            [0x0a, 0x0d, 0x0d, 0x0a, ..] => Format::detect_pcapng(input).map(Some),
            [0xa1, 0xb2, 0xc3, 0xd4, ..]
            | [0xd4, 0xc3, 0xb2, 0xa1, ..]
            | [0xa1, 0xb2, 0x3c, 0x4d, ..]
            | [0x4d, 0x3c, 0xb2, 0xa1, ..] => Format::detect_pcap(input).map(Some),
            _ => Ok(None),
        }
    }

    fn detect_pcap<R: Read>(input: &mut Input<R>) -> Result<Format, Stop> {
        input.need(PCAP_HEADER, "pcap file header")?;
        let (_, header) = PcapHeader::from_slice(input.bytes()).map_err(|e| Damage::Block(e.to_string()))?;
        // The upper half of the field holds the length of a frame check sequence; the type is the lower half.
        match DataLink::from(u32::from(header.datalink) & 0xffff) {
            DataLink::ETHERNET => {}
            other => return Err(Stop::LinkType(other)),
        }
        input.consume(PCAP_HEADER);
        Ok(Format::Pcap {
            endianness: header.endianness,
            nanoseconds: header.ts_resolution == PcapTsResolution::NanoSecond,
        })
    }

    fn detect_pcapng<R: Read>(input: &mut Input<R>) -> Result<Format, Stop> {
        let (_, length) = input.block(Endianness::native())?;
        input.need_block(length)?;
        let (_, parser) = PcapNgParser::new(input.bytes()).map_err(block_damage)?;
        input.consume(to_usize(length));
        Ok(Format::PcapNg { parser, interfaces: Vec::new() })
    }

    fn next<R: Read>(&mut self, input: &mut Input<R>) -> Result<Option<Found>, Stop> {
        match self {
            Format::Pcap { endianness, nanoseconds } => next_record(input, *endianness, *nanoseconds),
            Format::PcapNg { parser, interfaces } => loop {
                if input.at_end()? {
                    return Ok(None);
                }
                if let Some(found) = next_block(input, parser, interfaces)? {
                    return Ok(Some(found));
                }
            },
        }
    }
}

/// The next record of a pcap file.
fn next_record<R: Read>(
    input: &mut Input<R>,
    endianness: Endianness,
    nanoseconds: bool,
) -> Result<Option<Found>, Stop> {
    if input.at_end()? {
        return Ok(None);
    }
    input.need(PCAP_RECORD_HEADER, "record header")?;
    let field = |at| u32_at(input.bytes(), at, endianness);
    let (seconds, fraction, caplen, orig_len) = (field(0), field(4), field(8), field(12));
    if caplen > MAX_FRAME {
        return Err(Damage::TooLong { claimed: caplen, limit: MAX_FRAME }.into());
    }
    let length = to_usize(caplen);
    let present = input.fill_to(PCAP_RECORD_HEADER + length)? - PCAP_RECORD_HEADER;
    if present < length {
        return Err(Damage::CutRecord { claimed: caplen.into(), present: to_u64(present) }.into());
    }
    let unit = if nanoseconds { 1 } else { 1_000 };
    let timestamp = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * unit;
    let start = input.start + PCAP_RECORD_HEADER;
    input.consume(PCAP_RECORD_HEADER + length);
    Ok(Some(Found { timestamp: Some(timestamp), start, length, orig_len }))
}

/// The next block of a pcapng file, if it holds a frame.
fn next_block<R: Read>(
    input: &mut Input<R>,
    parser: &mut PcapNgParser,
    interfaces: &mut Vec<Interface>,
) -> Result<Option<Found>, Stop> {
    let endianness = parser.section().endianness;
    let (kind, length) = input.block(endianness)?;
    if !matches!(
        kind,
        SECTION_HEADER_BLOCK | INTERFACE_DESCRIPTION_BLOCK | ENHANCED_PACKET_BLOCK | SIMPLE_PACKET_BLOCK | PACKET_BLOCK
    ) {
        input.skip_block(length, endianness)?;
        return Ok(None);
    }
    input.need_block(length)?;
    let (_, block) = parser.next_raw_block(input.bytes()).map_err(block_damage)?;
    let body = &block.body[..];
    let found = match kind {
        SECTION_HEADER_BLOCK => {
            interfaces.clear();
            None
        }
        INTERFACE_DESCRIPTION_BLOCK => {
            interfaces.extend(parser.interfaces().last().map(Interface::new));
            None
        }
        SIMPLE_PACKET_BLOCK => Some(simple_packet(body, interfaces, endianness)?),
        _ => Some(packet(kind, body, interfaces, endianness)?),
    };
    let body_start = input.start + BLOCK_HEADER;
    input.consume(to_usize(length));
    Ok(found.map(|found| Found { start: body_start + found.start, ..found }))
}

/// The frame of a simple packet block; its place is relative to the body.
fn simple_packet(body: &[u8], interfaces: &[Interface], endianness: Endianness) -> Result<Found, Stop> {
    const FIXED: usize = 4;
    let interface = ethernet(interfaces, 0)?;
    let present = fixed_part(body, FIXED)?;
    let orig_len = u32_at(body, 0, endianness);
    // The captured length is not written down: it is the original length, or the snapshot length if that is less.
    let claimed = if interface.snaplen == 0 { orig_len } else { orig_len.min(interface.snaplen) };
    frame_within(claimed, present)?;
    Ok(Found { timestamp: None, start: FIXED, length: to_usize(claimed), orig_len })
}

/// The frame of an enhanced packet block, or of the obsolete packet block, which has a 16-bit interface number; its
/// place is relative to the body.
fn packet(kind: u32, body: &[u8], interfaces: &[Interface], endianness: Endianness) -> Result<Found, Stop> {
    const FIXED: usize = 20;
    let present = fixed_part(body, FIXED)?;
    let id = if kind == PACKET_BLOCK { u16_at(body, 0, endianness).into() } else { u32_at(body, 0, endianness) };
    let interface = ethernet(interfaces, id)?;
    let timestamp = interface.timestamp(u32_at(body, 4, endianness), u32_at(body, 8, endianness));
    let claimed = u32_at(body, 12, endianness);
    frame_within(claimed, present)?;
    let orig_len = u32_at(body, 16, endianness);
    Ok(Found { timestamp: Some(timestamp), start: FIXED, length: to_usize(claimed), orig_len })
}

/// Bytes of the body behind its fixed part.
fn fixed_part(body: &[u8], fixed: usize) -> Result<usize, Damage> {
    body.len().checked_sub(fixed).ok_or(Damage::CutHeader {
        what: "packet block header",
        needed: fixed,
        present: body.len(),
    })
}

fn frame_within(claimed: u32, present: usize) -> Result<(), Damage> {
    if claimed > MAX_FRAME {
        return Err(Damage::TooLong { claimed, limit: MAX_FRAME });
    }
    if to_usize(claimed) > present { Err(Damage::CutBlock { claimed, present }) } else { Ok(()) }
}

/// The interface of a packet, which must be Ethernet.
fn ethernet(interfaces: &[Interface], id: u32) -> Result<Interface, Stop> {
    let interface = interfaces.get(to_usize(id)).ok_or(Damage::UnknownInterface(id))?;
    match interface.link_type {
        DataLink::ETHERNET => Ok(*interface),
        other => Err(Stop::LinkType(other)),
    }
}

/// The crate says what is wrong in the innermost error of a chain.
fn block_damage(error: PcapNgParseError) -> Damage {
    let chain = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    Damage::Block(chain.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

fn u32_at(bytes: &[u8], at: usize, endianness: Endianness) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(bytes.get(at..at + 4).unwrap_or(&[0; 4]));
    match endianness {
        Endianness::Big => u32::from_be_bytes(field),
        Endianness::Little => u32::from_le_bytes(field),
    }
}

fn u16_at(bytes: &[u8], at: usize, endianness: Endianness) -> u16 {
    let mut field = [0; 2];
    field.copy_from_slice(bytes.get(at..at + 2).unwrap_or(&[0; 2]));
    match endianness {
        Endianness::Big => u16::from_be_bytes(field),
        Endianness::Little => u16::from_le_bytes(field),
    }
}

fn to_usize(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// A buffer over the source that knows where in the file it is.
#[derive(Debug)]
struct Input<R> {
    source: R,
    buffer: Vec<u8>,
    /// What is in the buffer and not used up.
    start: usize,
    end: usize,
    /// Place in the file of `buffer[start]`.
    offset: u64,
    /// Place in the file of the record that was looked at last.
    record: u64,
}

impl<R: Read> Input<R> {
    fn new(source: R) -> Input<R> {
        // Twice the largest record, so that most reads are large even then.
        let buffer = vec![0; 2 * to_usize(MAX_BLOCK)];
        Input { source, buffer, start: 0, end: 0, offset: 0, record: 0 }
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Reads until `length` bytes are there or the source ends, and says how many of them there are.
    fn fill_to(&mut self, length: usize) -> io::Result<usize> {
        if self.end - self.start < length && self.buffer.len() - self.start < length {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < length {
            let Some(room) = self.buffer.get_mut(self.end..).filter(|room| !room.is_empty()) else { break };
            match self.source.read(room) {
                Ok(0) => break,
                Ok(read) => self.end += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(length.min(self.end - self.start))
    }

    /// As [`Input::fill_to`], for a header that must be there whole.
    fn need(&mut self, needed: usize, what: &'static str) -> Result<(), Stop> {
        let present = self.fill_to(needed)?;
        if present < needed { Err(Damage::CutHeader { what, needed, present }.into()) } else { Ok(()) }
    }

    /// Whether the source ends where the next record would start. That is the place errors name from here on.
    fn at_end(&mut self) -> io::Result<bool> {
        self.record = self.offset;
        Ok(self.fill_to(1)? == 0)
    }

    /// Type and total length of the pcapng block that starts here.
    fn block(&mut self, endianness: Endianness) -> Result<(u32, u32), Stop> {
        self.need(BLOCK_HEADER + BLOCK_TRAILER, "block header")?;
        let kind = u32_at(self.bytes(), 0, endianness);
        // A section header tells its own byte order, by the magic number behind the length.
        let endianness = match self.bytes().get(8..12) {
            Some([0x1a, 0x2b, 0x3c, 0x4d]) if kind == SECTION_HEADER_BLOCK => Endianness::Big,
            Some([0x4d, 0x3c, 0x2b, 0x1a]) if kind == SECTION_HEADER_BLOCK => Endianness::Little,
            Some(_) if kind == SECTION_HEADER_BLOCK => {
                return Err(Damage::Block("section header without its byte-order magic".into()).into());
            }
            _ => endianness,
        };
        let length = u32_at(self.bytes(), 4, endianness);
        if to_usize(length) < BLOCK_HEADER + BLOCK_TRAILER || !length.is_multiple_of(4) {
            return Err(Damage::Block(format!("block length {length} is not a multiple of 4 above 8")).into());
        }
        Ok((kind, length))
    }

    /// Reads a block of this length in.
    fn need_block(&mut self, length: u32) -> Result<(), Stop> {
        if length > MAX_BLOCK {
            return Err(Damage::TooLong { claimed: length, limit: MAX_BLOCK }.into());
        }
        let present = self.fill_to(to_usize(length))?;
        if present < to_usize(length) {
            return Err(Damage::CutRecord { claimed: length.into(), present: to_u64(present) }.into());
        }
        Ok(())
    }

    /// Passes over a block of any length.
    fn skip_block(&mut self, length: u32, endianness: Endianness) -> Result<(), Stop> {
        let mut left = to_usize(length) - BLOCK_TRAILER;
        let cut = |left: usize, present: usize| Damage::CutRecord {
            claimed: length.into(),
            present: u64::from(length) - to_u64(left + BLOCK_TRAILER) + to_u64(present),
        };
        while left > 0 {
            let step = self.fill_to(left.min(self.buffer.len()))?;
            if step == 0 {
                return Err(cut(left, 0).into());
            }
            self.consume(step);
            left -= step;
        }
        let present = self.fill_to(BLOCK_TRAILER)?;
        if present < BLOCK_TRAILER {
            return Err(cut(0, present).into());
        }
        let trailer = u32_at(self.bytes(), 0, endianness);
        if trailer != length {
            return Err(Damage::Block(format!("block length is {length} in front but {trailer} behind")).into());
        }
        self.consume(BLOCK_TRAILER);
        Ok(())
    }

    fn consume(&mut self, length: usize) {
        self.start = self.end.min(self.start + length);
        self.offset += to_u64(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_file::pcap::{PcapWriter, RawPcapPacket};
    use pcap_file::pcapng::PcapNgWriter;
    use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
    use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionOption, InterfaceTsResolution};
    use pcap_file::pcapng::blocks::opt_common::CommonOption;
    use pcap_file::pcapng::blocks::simple_packet::SimplePacketBlock;
    use pcap_file::pcapng::blocks::unknown::UnknownBlock;
    use pcap_file::pcapng::{Block, PcapNgBlock};
    use proptest::prelude::*;
    use std::time::Duration;

    type Owned = (u64, Vec<u8>, u32);

    /// Everything that a capture yields, and how it ended.
    fn read(bytes: &[u8]) -> (Vec<Owned>, Option<ReadError>) {
        read_from(bytes)
    }

    fn read_from(source: impl Read) -> (Vec<Owned>, Option<ReadError>) {
        let mut frames = Vec::new();
        let mut reader = match CaptureReader::new(source, "x.pcap") {
            Ok(reader) => reader,
            Err(e) => return (frames, Some(e)),
        };
        loop {
            match reader.next_frame() {
                Ok(Some(f)) => frames.push((f.timestamp, f.data.to_vec(), f.orig_len)),
                Ok(None) => return (frames, None),
                Err(e) => {
                    assert!(matches!(reader.next_frame(), Ok(None)), "an error is the end");
                    return (frames, Some(e));
                }
            }
        }
    }

    fn error(bytes: &[u8]) -> String {
        read(bytes).1.map(|e| e.to_string()).unwrap_or_default()
    }

    /// Frames of different sizes, a second and a bit apart; the last one was cut by the capture.
    fn frames() -> Vec<Owned> {
        [14usize, 60, 1514, 9014, 65_600, 262_144, 61]
            .iter()
            .enumerate()
            .map(|(n, &length)| {
                let data: Vec<u8> = (0..length).map(|i| (i + n) as u8).collect();
                (1_700_000_000_000_001_000 + n as u64 * 1_000_002_000, data, length as u32 + u32::from(length == 61))
            })
            .collect()
    }

    fn pcap_of(frames: &[Owned], endianness: Endianness, ts_resolution: PcapTsResolution) -> Vec<u8> {
        // The snapshot length is a lie for most of the frames, as it is in files that exist.
        let header = PcapHeader { endianness, ts_resolution, snaplen: 96, ..Default::default() };
        let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
        let unit = if ts_resolution == PcapTsResolution::MicroSecond { 1000 } else { 1 };
        for (timestamp, data, orig_len) in frames {
            writer
                .write_raw_packet(&RawPcapPacket {
                    ts_sec: (timestamp / 1_000_000_000) as u32,
                    ts_frac: (timestamp % 1_000_000_000) as u32 / unit,
                    incl_len: data.len() as u32,
                    orig_len: *orig_len,
                    data: data.into(),
                })
                .unwrap();
        }
        writer.into_inner()
    }

    fn pcap(frames: &[Owned]) -> Vec<u8> {
        pcap_of(frames, Endianness::Little, PcapTsResolution::MicroSecond)
    }

    fn interface(link: DataLink, options: Vec<InterfaceDescriptionOption<'static>>) -> Block<'static> {
        InterfaceDescriptionBlock { options, ..InterfaceDescriptionBlock::new(link, 0) }.into_block()
    }

    fn resolution(binary: bool, digits: u8) -> InterfaceDescriptionOption<'static> {
        InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::new(binary, digits).unwrap())
    }

    fn packet_on(interface_id: u32, frame: &Owned) -> Block<'_> {
        EnhancedPacketBlock {
            interface_id,
            timestamp: Duration::from_nanos(frame.0),
            original_len: frame.2,
            data: (&frame.1[..]).into(),
            options: vec![EnhancedPacketOption::Common(CommonOption::Comment("a comment".into()))],
        }
        .into_block()
    }

    fn pcapng_of(endianness: Endianness, blocks: &[Block<'_>]) -> Vec<u8> {
        let mut writer = PcapNgWriter::with_endianness(Vec::new(), endianness).unwrap();
        for block in blocks {
            writer.write_block(block).unwrap();
        }
        writer.into_inner()
    }

    fn pcapng(frames: &[Owned]) -> Vec<u8> {
        let mut blocks = vec![interface(DataLink::ETHERNET, vec![])];
        blocks.extend(frames.iter().map(|f| packet_on(0, f)));
        pcapng_of(Endianness::Little, &blocks)
    }

    /// Gives one byte a read, and an interruption before each.
    struct Dribble<'a>(&'a [u8], bool);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let length = 1.min(buffer.len());
            self.0.read(&mut buffer[..length])
        }
    }

    #[test]
    fn pcap_in_both_byte_orders_and_resolutions() {
        for endianness in [Endianness::Little, Endianness::Big] {
            for resolution in [PcapTsResolution::MicroSecond, PcapTsResolution::NanoSecond] {
                let (got, error) = read(&pcap_of(&frames(), endianness, resolution));
                assert!(error.is_none(), "{error:?}");
                assert!(got == frames());
            }
        }
    }

    #[test]
    fn pcapng_in_both_byte_orders() {
        for endianness in [Endianness::Little, Endianness::Big] {
            let frames = frames();
            let mut blocks = vec![interface(DataLink::ETHERNET, vec![])];
            blocks.extend(frames.iter().map(|f| packet_on(0, f)));
            let (got, error) = read(&pcapng_of(endianness, &blocks));
            assert!(error.is_none(), "{error:?}");
            assert!(got == frames);
        }
    }

    #[test]
    fn a_slow_source_gives_the_same_frames() {
        let small = &frames()[..3];
        for file in [pcap(small), pcapng(small)] {
            let (got, error) = read_from(Dribble(&file, false));
            assert!(error.is_none(), "{error:?}");
            assert!(got == small);
        }
    }

    #[test]
    fn pcapng_timestamps_follow_the_interface() {
        let frame = (1_700_000_001_500_000_000, vec![7; 60], 60);
        let blocks = [
            interface(DataLink::ETHERNET, vec![resolution(false, 9)]),
            interface(DataLink::ETHERNET, vec![resolution(false, 3)]),
            interface(DataLink::ETHERNET, vec![resolution(true, 10)]),
            interface(DataLink::ETHERNET, vec![resolution(false, 0), InterfaceDescriptionOption::IfTsOffset(-7)]),
            packet_on(0, &frame),
            packet_on(1, &frame),
            packet_on(2, &frame),
            packet_on(3, &frame),
        ];
        let times: Vec<u64> = read(&pcapng_of(Endianness::Little, &blocks)).0.iter().map(|f| f.0).collect();
        assert_eq!(
            times,
            [
                1_700_000_001_500_000_000,
                1_700_000_001_500_000_000,
                1_700_000_001_500_000_000,
                1_700_000_001_000_000_000
            ]
        );
    }

    #[test]
    fn simple_packets_take_the_time_before_them_and_the_snapshot_length() {
        let frame = (5_000, vec![1; 60], 60);
        let cut = |data: Vec<u8>| SimplePacketBlock { original_len: 90, data: data.into() }.into_block();
        let blocks = [
            InterfaceDescriptionBlock::new(DataLink::ETHERNET, 61).into_block(),
            packet_on(0, &frame),
            cut(vec![2; 61]),
        ];
        let (got, error) = read(&pcapng_of(Endianness::Big, &blocks));
        assert!(error.is_none(), "{error:?}");
        assert_eq!(got, [(5_000, vec![1; 60], 60), (5_000, vec![2; 61], 90)]);
    }

    #[test]
    fn the_obsolete_packet_block_is_read() {
        let frame = (5_000_000, vec![3; 60], 60);
        let mut file = pcapng(std::slice::from_ref(&frame));
        let block = file.len() - block_length(&file);
        // The same layout, but the interface number has 16 bits and a drop counter follows.
        file[block] = 2;
        file[block + 10] = 99;
        assert_eq!(read(&file).0, [frame]);
    }

    /// Length of the last block of a file, from its trailer.
    fn block_length(file: &[u8]) -> usize {
        to_usize(u32_at(file, file.len() - 4, Endianness::Little))
    }

    #[test]
    fn blocks_without_packets_are_passed_over_at_any_size() {
        let frame = (5_000, vec![1; 60], 60);
        let large = vec![0xaa; 3_000_000];
        let blocks = [
            interface(DataLink::ETHERNET, vec![]),
            Block::Unknown(UnknownBlock::new(0x0a, 0, &large)),
            packet_on(0, &frame),
            Block::Unknown(UnknownBlock::new(0x4000_0001, 0, &[])),
            packet_on(0, &frame),
        ];
        let file = pcapng_of(Endianness::Little, &blocks);
        let (got, error) = read(&file);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(got, [frame.clone(), frame]);

        let text = self::error(&file[..1_000_000]);
        assert_eq!(
            text,
            "x.pcap: damaged at byte 48: record claims 3000012 bytes but the file ends after 999952; \
             no frame comes before it"
        );
    }

    #[test]
    fn a_second_section_begins_anew() {
        let frame = (5_000, vec![1; 60], 60);
        let little = pcapng(std::slice::from_ref(&frame));
        let blocks = [interface(DataLink::ETHERNET, vec![]), packet_on(0, &frame)];
        let big = pcapng_of(Endianness::Big, &blocks);
        assert_eq!(read(&[&little[..], &big].concat()).0, [frame.clone(), frame.clone()]);

        // The interfaces of the first section are not those of the second.
        let empty = pcapng_of(Endianness::Big, &[]);
        let (got, error) = read(&[&little[..], &empty, &big[big.len() - 4 - 100..]].concat());
        assert_eq!(got.len(), 1);
        assert!(error.is_some());
    }

    #[test]
    fn what_is_no_capture_says_so() {
        assert_eq!(error(&[]), "x.pcap: the file is empty");
        assert_eq!(error(b"x"), "x.pcap: not a pcap or pcapng file");
        assert_eq!(error(b"not a capture at all, but longer than a header"), "x.pcap: not a pcap or pcapng file");
        assert_eq!(
            error(&[0x1f, 0x8b, 8, 0, 0, 0]),
            "x.pcap: not a pcap or pcapng file (it is compressed with gzip; decompress it first)"
        );
        assert_eq!(
            error(&pcap(&[])[..20]),
            "x.pcap: damaged at byte 0: a pcap file header takes 24 bytes but the file ends after 20; \
             no frame comes before it"
        );
        assert_eq!(
            error(&pcapng(&[])[..10]),
            "x.pcap: damaged at byte 0: a block header takes 12 bytes but the file ends after 10; \
             no frame comes before it"
        );
        let missing = CaptureReader::open(Path::new("/nonexistent/y.pcap")).unwrap_err().to_string();
        assert!(missing.starts_with("/nonexistent/y.pcap: No such file"), "{missing}");
    }

    #[test]
    fn other_link_types_are_named() {
        let header = PcapHeader { datalink: DataLink::LINUX_SLL, ..Default::default() };
        let file = PcapWriter::with_header(Vec::new(), header).unwrap().into_inner();
        assert_eq!(error(&file), "x.pcap: link type LINUX_SLL (113) is not supported, only Ethernet is");

        // In pcapng the interface decides, and one without packets does no harm.
        let frame = (5_000, vec![1; 60], 60);
        let blocks = [
            interface(DataLink::RAW, vec![]),
            interface(DataLink::ETHERNET, vec![]),
            packet_on(1, &frame),
            packet_on(0, &frame),
        ];
        let (got, error) = read(&pcapng_of(Endianness::Little, &blocks));
        assert_eq!(got, [frame]);
        assert_eq!(error.unwrap().to_string(), "x.pcap: link type RAW (101) is not supported, only Ethernet is");
    }

    #[test]
    fn a_frame_check_sequence_length_does_not_hide_ethernet() {
        let mut file = pcap(&[]);
        file[23] = 0x44;
        assert!(read(&file).1.is_none());
    }

    #[test]
    fn damage_in_pcap_is_placed() {
        let small = &frames()[..3];
        let whole = pcap(small);
        let (second, third) = (24 + 16 + 14, 24 + 16 + 14 + 16 + 60);

        let (got, error) = read(&whole[..third + 16 + 112]);
        assert!(got == small[..2]);
        assert_eq!(
            error.unwrap().to_string(),
            "x.pcap: damaged at byte 130: record claims 1514 bytes but the file ends after 112; \
             the 2 frames before it are whole"
        );
        assert_eq!(
            self::error(&whole[..third + 5]),
            "x.pcap: damaged at byte 130: a record header takes 16 bytes but the file ends after 5; \
             the 2 frames before it are whole"
        );

        let mut wrong = whole.clone();
        wrong[second + 8..second + 12].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
        let (got, error) = read(&wrong);
        assert!(got == small[..1]);
        assert_eq!(
            error.unwrap().to_string(),
            "x.pcap: damaged at byte 54: record claims 2147483647 bytes, more than the 262144 that a record can have; \
             the 1 frame before it is whole"
        );
    }

    #[test]
    fn every_cut_delivers_the_whole_frames_before_it() {
        let small = &frames()[..3];
        for (file, first) in [(pcap(small), 24), (pcapng(small), pcapng(&[]).len())] {
            let mut ends = vec![first];
            let mut reader = CaptureReader::new(&file[..], "x").unwrap();
            while reader.next_frame().unwrap().is_some() {
                ends.push(to_usize(u32::try_from(reader.offset()).unwrap()));
            }
            assert_eq!(*ends.last().unwrap(), file.len());
            for cut in first..file.len() {
                let whole = ends.iter().filter(|&&end| end <= cut).count() - 1;
                let (got, error) = read(&file[..cut]);
                assert!(got == small[..whole]);
                match error {
                    None => assert!(ends.contains(&cut), "cut at {cut} went unnoticed"),
                    Some(ReadError::Damaged { offset, frames, .. }) => {
                        assert_eq!((offset, frames), (ends[whole] as u64, whole as u64));
                    }
                    Some(other) => panic!("{other}"),
                }
            }
        }
    }

    #[test]
    fn damage_in_pcapng_is_placed() {
        let frame = (5_000, vec![1; 60], 60);
        let whole = pcapng(&[frame.clone(), frame.clone()]);
        let block = block_length(&whole);
        let last = whole.len() - block;
        let damaged = |at: usize, value: u32| {
            let mut file = whole.clone();
            file[last + at..last + at + 4].copy_from_slice(&value.to_le_bytes());
            let (got, error) = read(&file);
            assert_eq!(got, std::slice::from_ref(&frame));
            let text = error.unwrap().to_string();
            let (head, tail) = (format!("x.pcap: damaged at byte {last}: "), "; the 1 frame before it is whole");
            text.strip_prefix(&head).and_then(|t| t.strip_suffix(tail)).unwrap_or(&text).to_string()
        };
        assert_eq!(damaged(4, 7), "block length 7 is not a multiple of 4 above 8");
        assert_eq!(damaged(4, 1 << 30), "record claims 1073741824 bytes, more than the 524288 that a record can have");
        assert_eq!(
            damaged(4, 4096),
            format!("record claims 4096 bytes but the file ends after {}", whole.len() - last)
        );
        assert_eq!(damaged(8, 5), "packet block is of interface 5, which the file does not describe");
        assert_eq!(damaged(20, 5000), format!("packet block claims 5000 bytes of frame but has {}", block - 32));
        assert_eq!(damaged(20, 1 << 20), "record claims 1048576 bytes, more than the 262144 that a record can have");
        let trailer = damaged(block - 4, 7777);
        assert!(trailer.contains(&block.to_string()) && trailer.contains("7777"), "{trailer}");
    }

    #[test]
    fn reading_errors_are_the_systems() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
        }
        let file = pcap(&frames()[..1]);
        let (got, error) = read_from(file.as_slice().chain(Broken));
        assert_eq!(got.len(), 1);
        assert!(matches!(error, Some(ReadError::Io { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            read(&bytes);
        }

        #[test]
        fn any_bytes_behind_a_header_end(ng: bool, bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let header = if ng { pcapng(&[]) } else { pcap(&[]) };
            read(&[header, bytes].concat());
        }

        /// Any bytes changed in a good file: what comes before the first of them is delivered as it was.
        #[test]
        fn damage_does_not_reach_back(ng: bool, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let small = &frames()[..3];
            let mut file = if ng { pcapng(small) } else { pcap(small) };
            let length = file.len();
            let mut first = length;
            for (index, value) in changes {
                let at = index.index(length);
                file[at] = value;
                first = first.min(at);
            }
            let (got, _) = read(&file);
            let header = if ng { pcapng(&[]).len() } else { 24 };
            let record = |n: usize| small[n].1.len().next_multiple_of(if ng { 4 } else { 1 }) + if ng { 52 } else { 16 };
            let mut end = header;
            for (n, frame) in small.iter().enumerate() {
                end += record(n);
                if end <= first {
                    prop_assert_eq!(got.get(n), Some(frame));
                }
            }
        }
    }
}
