//! Captures are read here, pcap and pcapng, frame by frame, up to the first damaged byte.
//!
//! A capture that was cut short by a crash or a full disk is still worth reading, so damage is not
//! the end of what came before it. [`CaptureReader::next_frame`] delivers every whole frame and
//! then one [`ReadError`] that names the file, the byte at which the first damaged record starts,
//! and what is wrong with it. After an error there is nothing more.
//!
//! The pcap-file crate decodes the file header of pcap. Three things are done here instead. The
//! buffer: the crate's own readers report a record that is larger than their buffer as end of file,
//! without an offset. Here a length is checked before its bytes are awaited, so a corrupted one
//! cannot make the reader swallow the rest of the file. Record headers: the crate refuses records
//! that every other reader accepts, as those with more bytes than the snapshot length in the
//! header. Blocks of pcapng: the crate collects the options of each packet in a vector, and refuses
//! blocks that every other reader accepts, as those with a text that is not UTF-8, and interfaces
//! whose times are finer than nanoseconds. Here options are lent as they are ([`Options`]).
//!
//! Blocks that hold no packets (names, statistics, secrets, custom ones) are passed over without
//! being held in memory.

mod error;
mod input;
mod interface;
mod options;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use pcap_file::pcap::{PcapHeader, PcapTsResolution};
use pcap_file::pcapng::blocks::{
    ENHANCED_PACKET_BLOCK, INTERFACE_DESCRIPTION_BLOCK, PACKET_BLOCK, SECTION_HEADER_BLOCK, SIMPLE_PACKET_BLOCK,
};
use pcap_file::{DataLink, Endianness};

use self::input::{Block, Input, Stop, fixed_part, u32_at};
use self::interface::Interface;
use self::options::u16_at;
use super::pcap::{FILE_HEADER_LEN, RECORD_HEADER_LEN};
use super::pcapng::{BLOCK_HEADER_LEN, BLOCK_TRAILER_LEN, PACKET_FIELDS_LEN};
use super::window::{to_u64, to_usize};

pub(crate) use self::error::Damage;
pub use self::error::ReadError;
pub(crate) use self::input::MAX_FRAME;
pub use self::options::Options;

/// Fields of a section header's body before its options: the byte order, the version, the length.
const SECTION_FIELDS_LEN: usize = 16;

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
    PcapNg { endianness: Endianness, interfaces: Vec<Interface>, links: Links },
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
    #[inline]
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, ReadError> {
        if self.ended {
            return Ok(None);
        }
        let found = match self.format.whole_record(self.input.window.bytes()) {
            // Most records of pcap are there whole: many are read at once.
            Some(found) => found,
            None => match self.format.next(&mut self.input) {
                Ok(Some(found)) => found,
                Ok(None) => {
                    self.ended = true;
                    return Ok(None);
                }
                Err(stop) => {
                    self.ended = true;
                    return Err(stop.error(&self.name, self.input.record, self.frames));
                }
            },
        };
        self.frames += 1;
        self.timestamp = found.timestamp.unwrap_or(self.timestamp);
        // The frame lies within the record, which is there whole.
        let record = self.input.window.take(found.record);
        let data = record.get(found.start..found.start + found.length).unwrap_or_default();
        let orig_len = found.orig_len.max(u32::try_from(data.len()).unwrap_or(u32::MAX));
        let options = match (found.options, &self.format) {
            (Some(at), Format::PcapNg { endianness, .. }) => {
                let end = found.record.saturating_sub(BLOCK_TRAILER_LEN);
                Options::new(record.get(at..end).unwrap_or_default(), *endianness)
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
            Format::PcapNg { endianness, .. } => (4, 0, *endianness),
        };
        bytes.len() >= RECORD_HEADER_LEN && bytes.len() - header >= to_usize(u32_at(bytes, at, endianness))
    }

    /// Returns the bytes of the capture used up so far.
    pub(crate) fn offset(&self) -> u64 {
        self.input.window.offset()
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
        let block = input.block(Endianness::native())?;
        fixed_part(input.need_block(block)?, "section header", SECTION_FIELDS_LEN)?;
        input.window.take(to_usize(block.length));
        Ok(Format::PcapNg { endianness: block.endianness, interfaces: Vec::new(), links })
    }

    /// Finds the record that these bytes begin with, where this is pcap, all of it is there, and it
    /// is of a length that a record can have.
    #[inline(always)]
    fn whole_record(&self, bytes: &[u8]) -> Option<Found> {
        let Format::Pcap { endianness, nanoseconds, link_type } = *self else { return None };
        let (header, rest) = bytes.split_first_chunk::<RECORD_HEADER_LEN>()?;
        let fields = [0, 4, 8, 12].map(|at| u32_at(header, at, Endianness::Little));
        let [seconds, fraction, caplen, orig_len] = match endianness {
            Endianness::Little => fields,
            Endianness::Big => fields.map(u32::swap_bytes),
        };
        let length = to_usize(caplen);
        if caplen > MAX_FRAME || rest.len() < length {
            return None;
        }
        let unit = if nanoseconds { 1 } else { 1_000 };
        let timestamp = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * unit;
        let (start, record) = (RECORD_HEADER_LEN, RECORD_HEADER_LEN + length);
        Some(Found { timestamp: Some(timestamp), record, start, length, orig_len, link_type, options: None })
    }

    /// Reads until there is a frame, and finds it; none where the capture ends before.
    #[inline(never)]
    fn next<R: Read>(&mut self, input: &mut Input<R>) -> Result<Option<Found>, Stop> {
        match self {
            &mut Format::Pcap { endianness, .. } => {
                read_record(input, endianness)?;
                Ok(self.whole_record(input.window.bytes()))
            }
            Format::PcapNg { endianness, interfaces, links } => loop {
                if input.at_end()? {
                    return Ok(None);
                }
                if let Some(found) = next_block(input, endianness, interfaces, *links)? {
                    return Ok(Some(found));
                }
            },
        }
    }
}

/// Reads the next record of a pcap file in, unless the file ends before it.
#[inline(never)]
fn read_record<R: Read>(input: &mut Input<R>, endianness: Endianness) -> Result<(), Stop> {
    if input.at_end()? {
        return Ok(());
    }
    input.need(RECORD_HEADER_LEN, "record header")?;
    let caplen = u32_at(input.window.bytes(), 8, endianness);
    if caplen > MAX_FRAME {
        return Err(Damage::TooLong { claimed: caplen, limit: MAX_FRAME }.into());
    }
    let length = to_usize(caplen);
    let present = input.window.fill(RECORD_HEADER_LEN + length)? - RECORD_HEADER_LEN;
    if present < length {
        return Err(Damage::CutRecord { claimed: caplen.into(), present: to_u64(present) }.into());
    }
    Ok(())
}

/// Finds the next block of a pcapng file, if it holds a frame.
fn next_block<R: Read>(
    input: &mut Input<R>,
    section: &mut Endianness,
    interfaces: &mut Vec<Interface>,
    links: Links,
) -> Result<Option<Found>, Stop> {
    let block = input.block(*section)?;
    let Block { kind, length, endianness } = block;
    if !matches!(
        kind,
        SECTION_HEADER_BLOCK | INTERFACE_DESCRIPTION_BLOCK | ENHANCED_PACKET_BLOCK | SIMPLE_PACKET_BLOCK | PACKET_BLOCK
    ) {
        input.skip_block(block)?;
        return Ok(None);
    }
    let body = input.need_block(block)?;
    let found = match kind {
        SECTION_HEADER_BLOCK => {
            fixed_part(body, "section header", SECTION_FIELDS_LEN)?;
            *section = endianness;
            interfaces.clear();
            None
        }
        INTERFACE_DESCRIPTION_BLOCK => {
            interfaces.push(Interface::new(body, endianness)?);
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
    let present = fixed_part(body, PACKET, FIXED)?;
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
    let present = fixed_part(body, PACKET, PACKET_FIELDS_LEN)?;
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

/// What errors call a packet block.
const PACKET: &str = "packet block";

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

#[cfg(test)]
mod tests;
