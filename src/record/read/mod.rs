//! Captures are read here, pcap and pcapng, frame by frame, up to the first damaged byte.
//!
//! A capture that was cut short by a crash or a full disk is still worth reading, so damage is not
//! the end of what came before it. [`CaptureReader::next_frame`] delivers every whole frame and
//! then one [`ReadError`] that names the file, the byte at which the first damaged record starts,
//! and what is wrong with it. After an error there is nothing more.
//!
//! The pcap-file crate decodes the file header, sections and interfaces, and frames the blocks of
//! pcapng. Three things are done here instead. The buffer: the crate's own readers report a record
//! that is larger than their buffer as end of file, without an offset. Here a length is checked
//! before its bytes are awaited, so a corrupted one cannot make the reader swallow the rest of the
//! file. Record headers: the crate refuses records that every other reader accepts, as those with
//! more bytes than the snapshot length in the header. Packet blocks: the crate collects their
//! options in a vector for each packet and refuses the packet if a comment is not UTF-8. Here they
//! are lent as they are ([`Options`]).
//!
//! Blocks that hold no packets (names, statistics, secrets, custom ones) are passed over without
//! being held in memory.

mod error;
mod options;

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

use super::pcap::{FILE_HEADER_LEN, RECORD_HEADER_LEN};
use super::pcapng::{BLOCK_HEADER_LEN, BLOCK_TRAILER_LEN, PACKET_FIELDS_LEN};
use super::window::{Window, field, to_u64, to_usize};
use options::u16_at;

pub(crate) use self::error::Damage;
pub use self::error::ReadError;
pub use self::options::Options;

/// The largest frame that is read, in bytes: the largest snapshot length of libpcap and Wireshark.
pub(crate) const MAX_FRAME: u32 = 262_144;

/// The largest pcapng block that is held in memory: a frame of [`MAX_FRAME`] with room for its
/// options.
const MAX_BLOCK: u32 = MAX_FRAME + 0x4_0000;

/// One captured frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The receive time: nanoseconds since 1970-01-01 00:00:00 UTC. A pcapng simple packet block
    /// has no time; it gets that of the frame before it.
    pub timestamp: u64,
    /// The bytes that were captured.
    pub data: &'a [u8],
    /// Length of the frame on the wire, in bytes; more than `data` holds if the capture cut it,
    /// never less.
    pub orig_len: u32,
    /// The number of its link type (`LINKTYPE_*`): 1 is Ethernet.
    pub link_type: u16,
    /// The options of its block in pcapng; none elsewhere.
    pub options: Options<'a>,
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
    Pcap { endianness: Endianness, nanoseconds: bool, link_type: u16 },
    PcapNg { parser: PcapNgParser, interfaces: Vec<Interface>, links: Links },
}

/// The link types whose frames are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    Ethernet,
    Any,
}

impl Links {
    /// Returns the number of a link type.
    fn number(self, link_type: DataLink) -> Result<u16, Stop> {
        if self == Links::Ethernet && link_type != DataLink::ETHERNET {
            return Err(Stop::LinkType(link_type));
        }
        // There is none with more than 16 bits.
        Ok(u16::try_from(u32::from(link_type)).unwrap_or(u16::MAX))
    }
}

/// The facts about an interface that its packet blocks need.
#[derive(Debug, Clone, Copy)]
struct Interface {
    link_type: DataLink,
    snaplen: u32,
    /// True where `ts_digits` counts binary digits of the fraction of a second, not decimal ones.
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

    /// Returns nanoseconds since the epoch. A time that does not fit becomes the nearest that does.
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

/// A frame within the record that the input begins with.
struct Found {
    timestamp: Option<u64>,
    /// Bytes of the record.
    record: usize,
    /// The place in the record at which the frame begins.
    start: usize,
    length: usize,
    orig_len: u32,
    link_type: u16,
    /// The place in the record at which the options of its block begin, if it has some.
    options: Option<usize>,
}

/// The reason for which the search for the next frame stopped.
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
    /// The file cannot be opened, or an error as those of [`CaptureReader::new`].
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
    /// There is nothing to read, or the first bytes are not the header of a capture of Ethernet
    /// frames.
    pub fn new(source: R, name: impl Into<String>) -> Result<CaptureReader<R>, ReadError> {
        CaptureReader::of(source, name.into(), Links::Ethernet)
    }

    /// Reads the file header of a capture of any link type.
    ///
    /// # Errors
    /// There is nothing to read, or the first bytes are not the header of a capture.
    pub fn of_any_link_type(source: R, name: impl Into<String>) -> Result<CaptureReader<R>, ReadError> {
        CaptureReader::of(source, name.into(), Links::Any)
    }

    fn of(source: R, name: String, links: Links) -> Result<CaptureReader<R>, ReadError> {
        let mut input = Input::new(source);
        let format = match Format::detect(&mut input, links) {
            Ok(Some(format)) => format,
            Ok(None) if input.window.bytes().is_empty() => return Err(ReadError::Empty { name }),
            Ok(None) => return Err(ReadError::NotACapture { name, hint: hint(input.window.bytes()) }),
            Err(stop) => return Err(stop.error(&name, 0, 0)),
        };
        Ok(CaptureReader { name, input, format, frames: 0, timestamp: 0, ended: false })
    }

    /// Returns the next frame, or `None` at the end of the capture. After an error the capture is
    /// at its end.
    ///
    /// # Errors
    /// The next record is damaged, holds a frame of another link layer, or cannot be read.
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
        // The frame lies within the record, which is there whole.
        let record = self.input.window.take(found.record);
        let data = record.get(found.start..found.start + found.length).unwrap_or_default();
        let orig_len = found.orig_len.max(u32::try_from(data.len()).unwrap_or(u32::MAX));
        let options = match (found.options, &self.format) {
            (Some(at), Format::PcapNg { parser, .. }) => {
                let end = found.record.saturating_sub(BLOCK_TRAILER_LEN);
                Options::new(record.get(at..end).unwrap_or_default(), parser.section().endianness)
            }
            _ => Options::default(),
        };
        Ok(Some(Frame { timestamp: self.timestamp, data, orig_len, link_type: found.link_type, options }))
    }

    /// Says whether the next record has been read whole, so that nothing has to be waited for.
    pub(crate) fn has_record(&self) -> bool {
        let bytes = self.input.window.bytes();
        let (at, header, endianness) = match &self.format {
            Format::Pcap { endianness, .. } => (8, RECORD_HEADER_LEN, *endianness),
            Format::PcapNg { parser, .. } => (4, 0, parser.section().endianness),
        };
        bytes.len() >= RECORD_HEADER_LEN && bytes.len() - header >= to_usize(u32_at(bytes, at, endianness))
    }

    /// Returns the bytes of the capture used up so far.
    pub(crate) fn offset(&self) -> u64 {
        self.input.window.offset()
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

/// Says what a file that is not a capture seems to be.
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
    /// Finds the format of the input by its first bytes, with its header read; `None` if it is no
    /// capture.
    fn detect<R: Read>(input: &mut Input<R>, links: Links) -> Result<Option<Format>, Stop> {
        input.window.fill(4)?;
        match *input.window.bytes() {
            [0x0a, 0x0d, 0x0d, 0x0a, ..] => Format::detect_pcapng(input, links).map(Some),
            [0xa1, 0xb2, 0xc3, 0xd4, ..]
            | [0xd4, 0xc3, 0xb2, 0xa1, ..]
            | [0xa1, 0xb2, 0x3c, 0x4d, ..]
            | [0x4d, 0x3c, 0xb2, 0xa1, ..] => Format::detect_pcap(input, links).map(Some),
            _ => Ok(None),
        }
    }

    fn detect_pcap<R: Read>(input: &mut Input<R>, links: Links) -> Result<Format, Stop> {
        input.need(FILE_HEADER_LEN, "pcap file header")?;
        let (_, header) = PcapHeader::from_slice(input.window.bytes()).map_err(|e| Damage::Block(e.to_string()))?;
        // The upper half of the field holds the length of a frame check sequence; the type is the
        // lower half.
        let link_type = links.number(DataLink::from(u32::from(header.datalink) & 0xffff))?;
        input.window.take(FILE_HEADER_LEN);
        Ok(Format::Pcap {
            endianness: header.endianness,
            nanoseconds: header.ts_resolution == PcapTsResolution::NanoSecond,
            link_type,
        })
    }

    fn detect_pcapng<R: Read>(input: &mut Input<R>, links: Links) -> Result<Format, Stop> {
        let (_, length) = input.block(Endianness::native())?;
        input.need_block(length)?;
        let (_, parser) = PcapNgParser::new(input.window.bytes()).map_err(block_damage)?;
        input.window.take(to_usize(length));
        Ok(Format::PcapNg { parser, interfaces: Vec::new(), links })
    }

    fn next<R: Read>(&mut self, input: &mut Input<R>) -> Result<Option<Found>, Stop> {
        match self {
            Format::Pcap { endianness, nanoseconds, link_type } => {
                next_record(input, *endianness, *nanoseconds, *link_type)
            }
            Format::PcapNg { parser, interfaces, links } => loop {
                if input.at_end()? {
                    return Ok(None);
                }
                if let Some(found) = next_block(input, parser, interfaces, *links)? {
                    return Ok(Some(found));
                }
            },
        }
    }
}

/// Finds the next record of a pcap file.
fn next_record<R: Read>(
    input: &mut Input<R>,
    endianness: Endianness,
    nanoseconds: bool,
    link_type: u16,
) -> Result<Option<Found>, Stop> {
    if input.at_end()? {
        return Ok(None);
    }
    input.need(RECORD_HEADER_LEN, "record header")?;
    let field = |at| u32_at(input.window.bytes(), at, endianness);
    let (seconds, fraction, caplen, orig_len) = (field(0), field(4), field(8), field(12));
    if caplen > MAX_FRAME {
        return Err(Damage::TooLong { claimed: caplen, limit: MAX_FRAME }.into());
    }
    let length = to_usize(caplen);
    let present = input.window.fill(RECORD_HEADER_LEN + length)? - RECORD_HEADER_LEN;
    if present < length {
        return Err(Damage::CutRecord { claimed: caplen.into(), present: to_u64(present) }.into());
    }
    let unit = if nanoseconds { 1 } else { 1_000 };
    let timestamp = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * unit;
    let (start, record) = (RECORD_HEADER_LEN, RECORD_HEADER_LEN + length);
    Ok(Some(Found { timestamp: Some(timestamp), record, start, length, orig_len, link_type, options: None }))
}

/// Finds the next block of a pcapng file, if it holds a frame.
fn next_block<R: Read>(
    input: &mut Input<R>,
    parser: &mut PcapNgParser,
    interfaces: &mut Vec<Interface>,
    links: Links,
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
    let (_, block) = parser.next_raw_block(input.window.bytes()).map_err(block_damage)?;
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
        SIMPLE_PACKET_BLOCK => Some(simple_packet(body, interfaces, endianness, links)?),
        _ => Some(packet(kind, body, interfaces, endianness, links)?),
    };
    if found.is_none() {
        input.window.take(to_usize(length));
    }
    Ok(found.map(|found| Found {
        record: to_usize(length),
        start: BLOCK_HEADER_LEN + found.start,
        options: found.options.map(|at| BLOCK_HEADER_LEN + at),
        ..found
    }))
}

/// Finds the frame of a simple packet block. Its place is relative to the body.
fn simple_packet(body: &[u8], interfaces: &[Interface], endianness: Endianness, links: Links) -> Result<Found, Stop> {
    const FIXED: usize = 4;
    let (interface, link_type) = interface(interfaces, 0, links)?;
    let present = fixed_part(body, FIXED)?;
    let orig_len = u32_at(body, 0, endianness);
    // The captured length is not written down: it is the original length, or the snapshot length if
    // that is less.
    let claimed = if interface.snaplen == 0 { orig_len } else { orig_len.min(interface.snaplen) };
    frame_within(claimed, present)?;
    let (start, length) = (FIXED, to_usize(claimed));
    Ok(Found { timestamp: None, record: 0, start, length, orig_len, link_type, options: None })
}

/// Finds the frame of an enhanced packet block, or of the obsolete packet block, which has a 16-bit
/// interface number. Its place is relative to the body.
fn packet(
    kind: u32,
    body: &[u8],
    interfaces: &[Interface],
    endianness: Endianness,
    links: Links,
) -> Result<Found, Stop> {
    let present = fixed_part(body, PACKET_FIELDS_LEN)?;
    let id = if kind == PACKET_BLOCK { u16_at(body, 0, endianness).into() } else { u32_at(body, 0, endianness) };
    let (interface, link_type) = interface(interfaces, id, links)?;
    let timestamp = interface.timestamp(u32_at(body, 4, endianness), u32_at(body, 8, endianness));
    let claimed = u32_at(body, 12, endianness);
    frame_within(claimed, present)?;
    let orig_len = u32_at(body, 16, endianness);
    let (start, length) = (PACKET_FIELDS_LEN, to_usize(claimed));
    // Behind the frame and what pads it to 4 bytes.
    let options = Some(start + length.next_multiple_of(4)).filter(|at| *at < body.len());
    Ok(Found { timestamp: Some(timestamp), record: 0, start, length, orig_len, link_type, options })
}

/// Returns the bytes of the body behind its fixed part.
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

/// Returns the interface of a packet, with the number of its link type.
fn interface(interfaces: &[Interface], id: u32, links: Links) -> Result<(Interface, u16), Stop> {
    let interface = interfaces.get(to_usize(id)).ok_or(Damage::UnknownInterface(id))?;
    Ok((*interface, links.number(interface.link_type)?))
}

/// Says what is wrong by the innermost error of a chain, where the crate says it.
fn block_damage(error: PcapNgParseError) -> Damage {
    let chain = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    Damage::Block(chain.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

fn u32_at(bytes: &[u8], at: usize, endianness: Endianness) -> u32 {
    match endianness {
        Endianness::Big => u32::from_be_bytes(field(bytes, at)),
        Endianness::Little => u32::from_le_bytes(field(bytes, at)),
    }
}

/// The bytes of the file, and the place in it where the last record begins.
#[derive(Debug)]
struct Input<R> {
    window: Window<R>,
    /// Place in the file of the record that was looked at last.
    record: u64,
}

impl<R: Read> Input<R> {
    fn new(source: R) -> Input<R> {
        // The window is twice the largest record, so that most reads are large even then.
        Input { window: Window::new(source, 2 * to_usize(MAX_BLOCK)), record: 0 }
    }

    /// Reads a header, which must be there whole.
    fn need(&mut self, needed: usize, what: &'static str) -> Result<(), Stop> {
        let present = self.window.fill(needed)?;
        if present < needed { Err(Damage::CutHeader { what, needed, present }.into()) } else { Ok(()) }
    }

    /// Says whether the source ends where the next record would start. Errors name that place from
    /// here on.
    fn at_end(&mut self) -> io::Result<bool> {
        self.record = self.window.offset();
        Ok(self.window.fill(1)? == 0)
    }

    /// Reads type and total length of the pcapng block that starts here.
    fn block(&mut self, endianness: Endianness) -> Result<(u32, u32), Stop> {
        self.need(BLOCK_HEADER_LEN + BLOCK_TRAILER_LEN, "block header")?;
        let kind = u32_at(self.window.bytes(), 0, endianness);
        // A section header tells its own byte order, by the magic number behind the length.
        let endianness = match self.window.bytes().get(8..12) {
            Some([0x1a, 0x2b, 0x3c, 0x4d]) if kind == SECTION_HEADER_BLOCK => Endianness::Big,
            Some([0x4d, 0x3c, 0x2b, 0x1a]) if kind == SECTION_HEADER_BLOCK => Endianness::Little,
            Some(_) if kind == SECTION_HEADER_BLOCK => {
                return Err(Damage::Block("section header without its byte-order magic".into()).into());
            }
            _ => endianness,
        };
        let length = u32_at(self.window.bytes(), 4, endianness);
        if to_usize(length) < BLOCK_HEADER_LEN + BLOCK_TRAILER_LEN || !length.is_multiple_of(4) {
            return Err(Damage::Block(format!("block length {length} is not a multiple of 4 above 8")).into());
        }
        Ok((kind, length))
    }

    /// Reads a block of this length in.
    fn need_block(&mut self, length: u32) -> Result<(), Stop> {
        if length > MAX_BLOCK {
            return Err(Damage::TooLong { claimed: length, limit: MAX_BLOCK }.into());
        }
        let present = self.window.fill(to_usize(length))?;
        if present < to_usize(length) {
            return Err(Damage::CutRecord { claimed: length.into(), present: to_u64(present) }.into());
        }
        Ok(())
    }

    /// Passes over a block of any length.
    fn skip_block(&mut self, length: u32, endianness: Endianness) -> Result<(), Stop> {
        let mut left = to_usize(length) - BLOCK_TRAILER_LEN;
        let cut = |left: usize, present: usize| Damage::CutRecord {
            claimed: length.into(),
            present: u64::from(length) - to_u64(left + BLOCK_TRAILER_LEN) + to_u64(present),
        };
        while left > 0 {
            let step = self.window.fill(left.min(self.window.capacity()))?;
            if step == 0 {
                return Err(cut(left, 0).into());
            }
            self.window.take(step);
            left -= step;
        }
        let present = self.window.fill(BLOCK_TRAILER_LEN)?;
        if present < BLOCK_TRAILER_LEN {
            return Err(cut(0, present).into());
        }
        let trailer = u32_at(self.window.bytes(), 0, endianness);
        if trailer != length {
            return Err(Damage::Block(format!("block length is {length} in front but {trailer} behind")).into());
        }
        self.window.take(BLOCK_TRAILER_LEN);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
