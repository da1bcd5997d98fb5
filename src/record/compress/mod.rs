//! A capture file is compressed while it is written, with lz4 or zstd.
//!
//! A file is one frame from its first byte to its last, because Wireshark reads no further than the
//! first frame. Bytes that are fed are flushed within the frame, so that a file that a crash left
//! unfinished can be decoded up to the last feed.
//!
//! There is one compressor for each open file, so each is kept small: see [`memory`]. lz4 has
//! linked blocks of 64 KiB, which find repetitions in the 64 KiB before, and a checksum for each
//! block, by which damage is found where it is. Both have a checksum of the content.

mod kind;
mod reader;

use std::fmt;
use std::io::{self, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

use self::kind::zstd_error;

pub use self::kind::Compression;
pub use self::reader::{Reader, reader};

/// The window of zstd, which looks back 128 KiB here. By itself it looks back 512 KiB to 8 MiB,
/// which takes 3 to 15 MiB of memory for files that are 1 to 2 % smaller.
const ZSTD_WINDOW_LOG: u32 = 17;

const LZ4_BLOCK: usize = 64 * 1024;

/// Compresses one file.
pub struct Compressor(Encoder);

enum Encoder {
    /// An encoder of lz4. It is boxed, for its table of 16 KiB is part of it.
    Lz4(Box<FrameEncoder<Vec<u8>>>),
    Zstd(CCtx<'static>),
}

impl Compressor {
    /// Begins a file.
    ///
    /// # Errors
    /// There is no memory for a zstd context, or zstd does not take the level.
    pub fn new(compression: Compression) -> io::Result<Compressor> {
        Ok(Compressor(match compression {
            Compression::Lz4 => {
                let info = FrameInfo::new()
                    .block_size(BlockSize::Max64KB)
                    .block_mode(BlockMode::Linked)
                    .block_checksums(true)
                    .content_checksum(true);
                Encoder::Lz4(Box::new(FrameEncoder::with_frame_info(info, Vec::new())))
            }
            Compression::Zstd(level) => {
                // There are two tables of 4-byte entries. The levels that search long gain from
                // larger ones, the fast ones lose time.
                let table_log = if level > 4 { 16 } else { 15 };
                let mut context = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
                for parameter in [
                    CParameter::CompressionLevel(level),
                    CParameter::WindowLog(ZSTD_WINDOW_LOG),
                    CParameter::HashLog(table_log),
                    CParameter::ChainLog(table_log),
                    CParameter::ChecksumFlag(true),
                ] {
                    context.set_parameter(parameter).map_err(zstd_error)?;
                }
                Encoder::Zstd(context)
            }
        }))
    }

    /// Compresses `raw` and appends to `out` all that is needed to decode it and what was fed
    /// before.
    ///
    /// # Errors
    /// zstd fails, as when it gets no memory. The file cannot be continued then.
    pub fn feed(&mut self, raw: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.0 {
            Encoder::Lz4(encoder) => appending(encoder, out, |encoder| {
                encoder.write_all(raw)?;
                encoder.flush()
            }),
            Encoder::Zstd(context) => stream(context, raw, out, ZSTD_EndDirective::ZSTD_e_flush),
        }
    }

    /// Ends the file: appends the end of the frame and the checksum of its content. The bytes that
    /// are fed next begin another file.
    ///
    /// # Errors
    /// The errors are those of [`Compressor::feed`].
    pub fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.0 {
            Encoder::Lz4(encoder) => appending(encoder, out, |encoder| Ok(encoder.try_finish()?)),
            Encoder::Zstd(context) => stream(context, &[], out, ZSTD_EndDirective::ZSTD_e_end),
        }
    }
}

/// Keeps compressors that have finished a file, for the next. Where thousands of files are
/// completed one after the other, most of the time would go to memory that each makes the kernel
/// clear anew.
#[derive(Debug)]
pub(crate) struct Compressors {
    compression: Compression,
    idle: Vec<Compressor>,
    /// True where a compressor was freed since that was asked.
    freed: bool,
}

impl Compressors {
    /// The number of compressors that are kept.
    const KEPT: usize = 8;

    /// Keeps compressors for files that are compressed so.
    #[must_use]
    pub(crate) fn new(compression: Compression) -> Self {
        Self { compression, idle: Vec::new(), freed: false }
    }

    /// Returns a compressor that is about to begin a file.
    ///
    /// # Errors
    /// The errors are those of [`Compressor::new`].
    pub(crate) fn take(&mut self) -> io::Result<Compressor> {
        self.idle.pop().map_or_else(|| Compressor::new(self.compression), Ok)
    }

    /// Takes back a compressor that has finished a file.
    pub(crate) fn give_back(&mut self, compressor: Compressor) {
        if self.idle.len() < Self::KEPT {
            self.idle.push(compressor);
        } else {
            self.freed = true;
        }
    }

    /// Says whether a compressor was freed since this was asked last.
    pub(crate) fn have_freed(&mut self) -> bool {
        std::mem::take(&mut self.freed)
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Encoder::Lz4(_) => "Compressor(lz4)",
            Encoder::Zstd(_) => "Compressor(zstd)",
        })
    }
}

/// Lets the encoder, which owns what it writes into, write into `out`.
fn appending(
    encoder: &mut FrameEncoder<Vec<u8>>,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut FrameEncoder<Vec<u8>>) -> io::Result<()>,
) -> io::Result<()> {
    std::mem::swap(encoder.get_mut(), out);
    let result = write(encoder);
    std::mem::swap(encoder.get_mut(), out);
    result
}

fn stream(context: &mut CCtx<'_>, raw: &[u8], out: &mut Vec<u8>, end: ZSTD_EndDirective) -> io::Result<()> {
    /// Room for what zstd keeps back and for the ends of block and frame.
    const ENDS: usize = 64;
    let mut input = InBuffer::around(raw);
    loop {
        // Compressed data is seldom larger than a half, and zstd says how much it still has.
        out.reserve((raw.len() - input.pos()) / 2 + ENDS);
        let start = out.len();
        let mut output = OutBuffer::around_pos(out, start);
        let left = context.compress_stream2(&mut output, &mut input, end).map_err(zstd_error)?;
        if left == 0 && input.pos() == raw.len() {
            return Ok(());
        }
        out.reserve(left);
    }
}

/// Returns the most memory that one compressor takes, in bytes, without what it appends to. With
/// zstd it is the address space. A third to a half of it is in use when files are fed in pieces of
/// 64 KiB or less.
#[must_use]
pub(crate) fn memory(compression: Compression) -> usize {
    match compression {
        // lz4 has two blocks and the window before them, a compressed block, and the table.
        Compression::Lz4 => 3 * LZ4_BLOCK + LZ4_BLOCK * 110 / 100 + 20 * 1024,
        Compression::Zstd(..=12) => 1280 * 1024,
        Compression::Zstd(_) => 2304 * 1024,
    }
}

#[cfg(test)]
mod tests;
