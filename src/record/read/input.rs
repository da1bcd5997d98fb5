//! The bytes of a capture are read here, record by record, with a check of each length before its
//! bytes are awaited.

use std::io::{self, Read};

use pcap_file::pcapng::blocks::SECTION_HEADER_BLOCK;
use pcap_file::{DataLink, Endianness};

use super::super::pcapng::{BLOCK_HEADER_LEN, BLOCK_TRAILER_LEN};
use super::super::window::{Window, field, to_u64, to_usize};
use super::error::{Damage, ReadError};

/// The largest frame that is read, in bytes: the largest snapshot length of libpcap and Wireshark.
pub(crate) const MAX_FRAME: u32 = 262_144;

/// The largest pcapng block that is held in memory: a frame of [`MAX_FRAME`] with room for its
/// options.
const MAX_BLOCK: u32 = MAX_FRAME + 0x4_0000;

/// The reason for which the search for the next frame stopped.
pub(super) enum Stop {
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

impl Stop {
    /// Says which capture it was, where, and how many frames came before.
    pub(super) fn error(self, name: &str, offset: u64, frames: u64) -> ReadError {
        let name = name.to_string();
        match self {
            Stop::Io(source) => ReadError::Io { name, source },
            Stop::LinkType(link) => ReadError::LinkType { name, link_type: format!("{link:?} ({})", u32::from(link)) },
            Stop::Damage(damage) => ReadError::Damaged { name, offset, damage, frames },
        }
    }
}

/// The beginning of a block of pcapng.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) kind: u32,
    /// The length of all of it, in bytes.
    pub(super) length: u32,
    /// The byte order of its section.
    pub(super) endianness: Endianness,
}

/// The bytes of the file, and the place in it where the last record begins.
#[derive(Debug)]
pub(super) struct Input<R> {
    pub(super) window: Window<R>,
    /// Place in the file of the record that was looked at last.
    pub(super) record: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(source: R) -> Input<R> {
        // The window is twice the largest record, so that most reads are large even then.
        Input { window: Window::new(source, 2 * to_usize(MAX_BLOCK)), record: 0 }
    }

    /// Reads a header, which must be there whole.
    pub(super) fn need(&mut self, needed: usize, what: &'static str) -> Result<(), Stop> {
        let present = self.window.fill(needed)?;
        if present < needed { Err(Damage::CutHeader { what, needed, present }.into()) } else { Ok(()) }
    }

    /// Says whether the source ends where the next record would start. Errors name that place from
    /// here on.
    pub(super) fn at_end(&mut self) -> io::Result<bool> {
        self.record = self.window.offset();
        Ok(self.window.fill(1)? == 0)
    }

    /// Reads the beginning of the pcapng block that starts here, in a section of this byte order.
    pub(super) fn block(&mut self, endianness: Endianness) -> Result<Block, Stop> {
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
        Ok(Block { kind, length, endianness })
    }

    /// Reads a block in, and lends its body.
    pub(super) fn need_block(&mut self, block: Block) -> Result<&[u8], Stop> {
        let Block { length, endianness, .. } = block;
        if length > MAX_BLOCK {
            return Err(Damage::TooLong { claimed: length, limit: MAX_BLOCK }.into());
        }
        let present = self.window.fill(to_usize(length))?;
        if present < to_usize(length) {
            return Err(Damage::CutRecord { claimed: length.into(), present: to_u64(present) }.into());
        }
        let end = to_usize(length) - BLOCK_TRAILER_LEN;
        same_length(length, u32_at(self.window.bytes(), end, endianness))?;
        Ok(self.window.bytes().get(BLOCK_HEADER_LEN..end).unwrap_or_default())
    }

    /// Passes over a block of any length.
    pub(super) fn skip_block(&mut self, block: Block) -> Result<(), Stop> {
        let Block { length, endianness, .. } = block;
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
        same_length(length, u32_at(self.window.bytes(), 0, endianness))?;
        self.window.take(BLOCK_TRAILER_LEN);
        Ok(())
    }
}

/// Returns the number of bytes behind the fixed part of the body of such a block.
pub(super) fn fixed_part(body: &[u8], what: &'static str, needed: usize) -> Result<usize, Damage> {
    let present = body.len();
    present.checked_sub(needed).ok_or(Damage::ShortBlock { what, needed, present })
}

/// Checks that a block has the same length in front and behind.
fn same_length(length: u32, trailer: u32) -> Result<(), Damage> {
    if trailer == length {
        return Ok(());
    }
    Err(Damage::Block(format!("block length is {length} in front but {trailer} behind")))
}

/// Reads the number at this place, or 0 past the end.
#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize, endianness: Endianness) -> u32 {
    match endianness {
        Endianness::Big => u32::from_be_bytes(field(bytes, at)),
        Endianness::Little => u32::from_le_bytes(field(bytes, at)),
    }
}
