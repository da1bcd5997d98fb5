//! A crash or a power failure leaves a file of which a part is whole.
//!
//! [`scan`] walks the headers of a file that this program wrote up to the last whole record. A file
//! that is not compressed is then cut to [`Whole::length`]. A compressed one, whose frame never
//! ended, is written anew by [`extract`].
//!
//! The bytes before the first record have to be what this program writes there. A single field that
//! is not is mended in what [`extract`] writes: the program knows what it was. More than one are no
//! slip of a disk, and the file may be another's.
//!
//! A crash tears the last record or compressed block, of which a beginning is there. Where more
//! stands behind the last whole record, the file is damaged in its middle, and frames may be there
//! that are not found: [`Whole::damaged`].
//!
//! A file system may give a file its length before its content, which is zero then. Zeros are no
//! record: a record has a time. Only where the zeros begin within a frame, the frame counts as
//! whole, because its header says so.

mod header;

use std::io::{self, Read, Write};

use self::header::Header;

use super::compress::{Compression, Compressor, Reader, reader};
use super::format::{Format, MAGIC_MICROSECONDS};
use super::read::MAX_FRAME;
use super::window::{Window, to_u64, to_usize, u32_at};
use super::{Timestamp, pcap, pcapng};

/// The largest block of a file of ours: a frame of the largest length, or names in a header.
const MAX_BLOCK: usize = 2 * MAX_FRAME as usize;
/// A length beyond the largest record that was ours: a frame came in one UDP datagram, and has a
/// header and options around it.
const LARGEST: usize = 65 * 1024;
/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;
/// Bytes that [`rewrite`] compresses at a time.
const PIECE: usize = 64 * 1024;

/// The whole part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole {
    /// Format of the file.
    pub format: Format,
    /// The compression of the file, if it has one; zstd does not tell its level, which is the
    /// default here.
    pub compression: Option<Compression>,
    /// Bytes up to the end of the last whole record or block, decompressed.
    pub length: u64,
    /// Bytes that are there, decompressed.
    pub total: u64,
    /// True where the file is as it was closed: nothing stands behind the last record, and a
    /// compressed stream has its end.
    pub intact: bool,
    /// True where more stands behind the last whole record than the beginning of another, or one
    /// torn block of a compressed stream, and zeros.
    pub damaged: bool,
    /// The field of the header that is not as this program writes it, where there is one: `extract`
    /// mends it.
    pub mended: Option<&'static str>,
    /// Bytes of the header, decompressed.
    pub opening: u64,
    /// Frames in the whole part.
    pub frames: u64,
    /// Bytes of these frames as captured.
    pub frame_bytes: u64,
    /// Bytes of the longest frame as captured.
    pub longest: u32,
    /// The earliest time of a frame.
    pub first: Option<Timestamp>,
    /// The latest time of a frame.
    pub last: Option<Timestamp>,
}

/// The reason for which nothing of a file can be saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsalvageable {
    /// The file has not a single byte.
    #[error("the file is empty")]
    Empty,
    /// The first bytes are not those of a capture that this program writes.
    #[error("not a pcap or pcapng file of vxtap")]
    NotACapture,
    /// The file ends within what stands before the first record.
    #[error("the file ends within its header")]
    CutHeader,
    /// The bytes before the first record are not what this program writes there, in more than one
    /// field, or its lengths make no sense.
    #[error("its header is damaged, or not of vxtap: {0}")]
    Header(String),
    /// The file is compressed, but not a byte can be decoded.
    #[error("the compressed stream cannot be decoded: {0}")]
    Undecodable(io::Error),
    /// The operating system could not read the file.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Finds the last whole record of `input`, which may be compressed. Reads it to its end and holds
/// at most 1 MiB of it.
///
/// # Errors
/// There is nothing to save, or the input cannot be read.
pub(crate) fn scan(input: impl Read) -> Result<Whole, Unsalvageable> {
    let mut input = Input::new(reader(input)?);
    let compression = input.window.source().compression();
    let Some(format) = input.format()? else {
        return Err(match (input.total(), input.damage) {
            (0, Some(error)) => Unsalvageable::Undecodable(error),
            (0, None) => Unsalvageable::Empty,
            _ => Unsalvageable::NotACapture,
        });
    };
    let mut head = input.head(|bytes| opening(format, bytes))?;
    let mut interfaces = 1;
    if format == Format::PcapNg && input.fill(4)? && begins_interface(input.window.bytes()) {
        head.extend(input.head(another_interface)?);
        interfaces += 1;
    }
    let mut header = Header::of(format, &head);
    let item = |bytes: &[u8]| item(format, interfaces, bytes);
    let mut no_packets = 0;
    let mut whole = Whole {
        format,
        compression,
        length: to_u64(head.len()),
        total: 0,
        intact: false,
        damaged: false,
        mended: None,
        opening: to_u64(head.len()),
        frames: 0,
        frame_bytes: 0,
        longest: 0,
        first: None,
        last: None,
    };
    while let Some((length, packet)) = input.next(item)? {
        whole.length += to_u64(length);
        if let Some(packet) = packet {
            whole.frames += 1;
            no_packets += u64::from(!packet.may_be_raw);
            whole.frame_bytes += u64::from(packet.caplen);
            whole.longest = whole.longest.max(packet.caplen);
            whole.first = Some(whole.first.map_or(packet.timestamp, |first| first.min(packet.timestamp)));
            whole.last = whole.last.max(Some(packet.timestamp));
        }
    }
    let torn = input.ends_torn(item)?;
    whole.total = input.total();
    whole.damaged = !torn || input.window.source().has_more()?;
    whole.intact = input.damage.is_none() && whole.length == whole.total;
    // A frame may be damaged as well as the header. What most of them are is not.
    if no_packets > whole.frames / 2 {
        header.is_not_raw();
    } else if !header.tells_link_type() && no_packets == 0 && whole.frames > 0 {
        return Err(Unsalvageable::Header("the link type, which its frames do not tell".into()));
    }
    whole.mended = match header.wrong(whole.longest).as_slice() {
        [] => None,
        [field] => Some(field),
        fields => return Err(Unsalvageable::Header(fields.join(", "))),
    };
    Ok(whole)
}

/// Writes what is whole of `from` to `to`, as it is to be published: with a header as this program
/// writes it, and compressed anew where `from` is compressed.
///
/// # Errors
/// Reading or writing fails, or there are fewer bytes.
pub(crate) fn extract(from: impl Read, whole: &Whole, mut to: impl Write) -> io::Result<()> {
    let mut from = reader(from)?;
    let mut header = Vec::new();
    let mut left = whole.length;
    if let Some(field) = whole.mended {
        let mut found = vec![0; usize::try_from(whole.opening).unwrap_or(usize::MAX)];
        from.read_exact(&mut found)?;
        header = Header::of(whole.format, &found).mended(whole.format, whole.longest, field);
        left = left.saturating_sub(whole.opening);
    }
    let length = left + to_u64(header.len());
    let mut from = header.as_slice().chain(from.take(left));
    match whole.compression {
        Some(compression) => rewrite(from, length, compression, to),
        None if io::copy(&mut from, &mut to)? < length => Err(io::ErrorKind::UnexpectedEof.into()),
        None => Ok(()),
    }
}

/// Writes the first `length` bytes of `from`, which is decoded if it is compressed, to `to` as a
/// complete compressed stream.
///
/// # Errors
/// Reading or writing fails, or there are fewer bytes.
fn rewrite(from: impl Read, length: u64, compression: Compression, mut to: impl Write) -> io::Result<()> {
    let mut from = reader(from)?;
    let mut compressor = Compressor::new(compression)?;
    let (mut raw, mut out) = (vec![0; PIECE], Vec::new());
    let mut left = length;
    while left > 0 {
        let piece = raw.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        from.read_exact(&mut raw[..piece])?;
        compressor.feed(&raw[..piece], &mut out)?;
        to.write_all(&out)?;
        out.clear();
        left -= to_u64(piece);
    }
    compressor.finish(&mut out)?;
    to.write_all(&out)
}

/// A frame that a record or block has.
struct Packet {
    timestamp: Timestamp,
    caplen: u32,
    /// False where the frame cannot be an IP packet, by the version that it begins with.
    may_be_raw: bool,
}

/// The reason for which there is no record or block where one should begin.
enum Stop {
    /// The record or block is so long, or its header is.
    Needs(usize),
    /// The bytes make no sense.
    Damaged,
}

/// The length of a record or block, and its frame.
type Item = (usize, Option<Packet>);

/// Returns the length of what stands before the first record.
fn opening(format: Format, bytes: &[u8]) -> Result<Item, Stop> {
    match format {
        Format::Pcap | Format::PcapUs => {
            need(bytes, pcap::FILE_HEADER_LEN)?;
            Ok((pcap::FILE_HEADER_LEN, None))
        }
        Format::PcapNg => {
            let section = block(bytes, &[pcapng::SECTION_HEADER])?;
            let rest = bytes.get(section..).unwrap_or_default();
            match another_interface(rest) {
                Ok((interface, _)) => Ok((section + interface, None)),
                Err(Stop::Needs(length)) => Err(Stop::Needs(section + length)),
                Err(Stop::Damaged) => Err(Stop::Damaged),
            }
        }
    }
}

/// Says whether an interface description begins there.
fn begins_interface(bytes: &[u8]) -> bool {
    u32_at(bytes, 0) == pcapng::INTERFACE_DESCRIPTION
}

/// Returns the length of the interface description that `bytes` begin with.
fn another_interface(bytes: &[u8]) -> Result<Item, Stop> {
    Ok((block(bytes, &[pcapng::INTERFACE_DESCRIPTION])?, None))
}

/// Finds the record or block that `bytes` begin with, in a file of so many interfaces.
fn item(format: Format, interfaces: u32, bytes: &[u8]) -> Result<Item, Stop> {
    match format {
        Format::Pcap => record(bytes, 1),
        Format::PcapUs => record(bytes, 1_000),
        Format::PcapNg => packet(interfaces, bytes),
    }
}

/// Finds a pcap record whose fraction of a second counts units of so many nanoseconds.
fn record(bytes: &[u8], unit: u64) -> Result<Item, Stop> {
    need(bytes, pcap::RECORD_HEADER_LEN)?;
    let [seconds, fraction, caplen, orig_len] = [0, 4, 8, 12].map(|at| u32_at(bytes, at));
    let nanoseconds = u64::from(fraction) * unit;
    if nanoseconds >= SECOND || caplen > MAX_FRAME || [seconds, fraction, caplen, orig_len] == [0; 4] {
        return Err(Stop::Damaged);
    }
    let length = pcap::RECORD_HEADER_LEN + to_usize(caplen);
    need(bytes, length)?;
    let timestamp = Timestamp::from_ns(u64::from(seconds) * SECOND + nanoseconds);
    let may_be_raw = may_be_raw(bytes, pcap::RECORD_HEADER_LEN, caplen);
    Ok((length, Some(Packet { timestamp, caplen, may_be_raw })))
}

/// Finds a block of those that stand behind the interface descriptions.
fn packet(interfaces: u32, bytes: &[u8]) -> Result<Item, Stop> {
    let length = block(bytes, &[pcapng::ENHANCED_PACKET, pcapng::INTERFACE_STATISTICS])?;
    if u32_at(bytes, 0) != pcapng::ENHANCED_PACKET {
        return Ok((length, None));
    }
    let fields = [8, 12, 16, 20].map(|at| u32_at(bytes, at));
    let [interface, high, low, caplen] = fields;
    let around = pcapng::BLOCK_HEADER_LEN + pcapng::PACKET_FIELDS_LEN + pcapng::BLOCK_TRAILER_LEN;
    let fits = length.checked_sub(around).is_some_and(|room| room >= to_usize(caplen));
    if interface >= interfaces || caplen > MAX_FRAME || !fits {
        return Err(Stop::Damaged);
    }
    let timestamp = Timestamp::from_ns(u64::from(high) << 32 | u64::from(low));
    let may_be_raw = may_be_raw(bytes, pcapng::BLOCK_HEADER_LEN + pcapng::PACKET_FIELDS_LEN, caplen);
    Ok((length, Some(Packet { timestamp, caplen, may_be_raw })))
}

/// Says whether the frame at this place can be an IP packet. One of which nothing is kept can.
fn may_be_raw(bytes: &[u8], at: usize, caplen: u32) -> bool {
    caplen == 0 || bytes.get(at).is_some_and(|first| matches!(first >> 4, 4 | 6))
}

/// Returns the length of the block that `bytes` begin with, which is of one of these types and
/// whole.
fn block(bytes: &[u8], kinds: &[u32]) -> Result<usize, Stop> {
    need(bytes, pcapng::BLOCK_HEADER_LEN)?;
    let length = to_usize(u32_at(bytes, 4));
    let least = pcapng::BLOCK_HEADER_LEN + pcapng::BLOCK_TRAILER_LEN;
    if !kinds.contains(&u32_at(bytes, 0)) || !(least..=MAX_BLOCK).contains(&length) || !length.is_multiple_of(4) {
        return Err(Stop::Damaged);
    }
    need(bytes, length)?;
    if u32_at(bytes, length - pcapng::BLOCK_TRAILER_LEN) == u32_at(bytes, 4) { Ok(length) } else { Err(Stop::Damaged) }
}

/// Fails unless so many bytes are there.
fn need(bytes: &[u8], length: usize) -> Result<(), Stop> {
    if bytes.len() < length { Err(Stop::Needs(length)) } else { Ok(()) }
}

/// The decoded stream, and the end of decoding.
struct Input<R: Read> {
    window: Window<Reader<R>>,
    /// The reason for which the stream could not be decoded further.
    damage: Option<io::Error>,
}

impl<R: Read> Input<R> {
    fn new(source: Reader<R>) -> Input<R> {
        // The window has two of the largest blocks: the opening of a pcapng file is two blocks, and
        // perhaps a third, which is read behind them.
        Input { window: Window::new(source, 2 * MAX_BLOCK), damage: None }
    }

    /// Returns how many bytes came from the stream.
    fn total(&self) -> u64 {
        self.window.offset() + to_u64(self.window.bytes().len())
    }

    /// Finds the format by the first bytes.
    fn format(&mut self) -> io::Result<Option<Format>> {
        let byte_order_whole = self.fill(12)?;
        let bytes = self.window.bytes();
        Ok(match u32_at(bytes, 0) {
            pcap::MAGIC => Some(Format::Pcap),
            MAGIC_MICROSECONDS => Some(Format::PcapUs),
            pcapng::SECTION_HEADER if u32_at(bytes, 8) == pcapng::BYTE_ORDER_MAGIC || !byte_order_whole => {
                Some(Format::PcapNg)
            }
            _ => None,
        })
    }

    /// Passes over what `parse` finds. `parse` is asked again when there are as many bytes as it
    /// needs. Returns `None` at the end of what is whole.
    fn next(&mut self, mut parse: impl FnMut(&[u8]) -> Result<Item, Stop>) -> io::Result<Option<Item>> {
        loop {
            match parse(self.window.bytes()) {
                Ok(item) => {
                    self.window.take(item.0);
                    return Ok(Some(item));
                }
                Err(Stop::Needs(length)) if self.fill(length)? => {}
                Err(_) => return Ok(None),
            }
        }
    }

    /// Takes what `parse` finds of what stands before the first record.
    fn head(&mut self, parse: impl Fn(&[u8]) -> Result<Item, Stop>) -> Result<Vec<u8>, Unsalvageable> {
        let mut head = Vec::new();
        let found = self.next(|bytes| {
            let found = parse(bytes)?;
            head.extend_from_slice(bytes.get(..found.0).unwrap_or_default());
            Ok(found)
        })?;
        match found.map_or_else(|| parse(self.window.bytes()), Ok) {
            Ok(_) => Ok(head),
            Err(Stop::Damaged) => Err(Unsalvageable::Header("the lengths of its blocks".into())),
            Err(Stop::Needs(_)) => Err(Unsalvageable::CutHeader),
        }
    }

    /// Reads until `length` bytes are there. Returns false if there are not as many: the stream
    /// ends, or cannot be decoded further.
    fn fill(&mut self, length: usize) -> io::Result<bool> {
        if self.damage.is_none() {
            match self.window.fill(length) {
                Ok(_) => {}
                // An error of the system is not damage of the stream.
                Err(error) if error.raw_os_error().is_some() => return Err(error),
                Err(error) => self.damage = Some(error),
            }
        }
        Ok(self.window.bytes().len() >= length)
    }

    /// Reads to the end. Returns true if what is left is but the beginning of what `parse` finds,
    /// or nothing, and zeros.
    fn ends_torn(&mut self, parse: impl Fn(&[u8]) -> Result<Item, Stop>) -> io::Result<bool> {
        self.fill(LARGEST)?;
        let rest = self.window.bytes();
        let end = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let beginning = rest.get(..end).unwrap_or_default();
        let mut torn = end <= LARGEST && matches!(parse(beginning), Err(Stop::Needs(_)));
        loop {
            self.window.take(usize::MAX);
            if !self.fill(1)? {
                return Ok(torn);
            }
            torn = torn && self.window.bytes().iter().all(|byte| *byte == 0);
        }
    }
}

#[cfg(test)]
mod tests;
