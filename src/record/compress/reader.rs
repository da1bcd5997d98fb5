//! A reader decodes what [`super::Compressor`] wrote, and any other lz4 or zstd stream.

use std::io::{self, BufRead, Cursor, Read};

use flate2::{Decompress, FlushDecompress, Status};
use lz4_flex::frame::FrameDecoder;
use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer};

use super::kind::{Compression, lz4_error, zstd_error};

/// A stream that is decoded if it is compressed.
///
/// A stream that ends too early is read up to there, and then gives
/// [`io::ErrorKind::UnexpectedEof`].
pub struct Reader<R: Read> {
    compression: Option<Compression>,
    decoder: Decoder<R>,
}

enum Decoder<R: Read> {
    Plain(Whole<R>),
    Lz4(Lz4<Whole<R>>),
    Zstd(Zstd<Whole<R>>),
    Gzip(Gzip<Whole<R>>),
}

/// The bytes that were looked at, and the rest of the stream.
type Whole<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// The first bytes of a gzip member.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Looks at the first bytes of `input` and decodes it if it is lz4, zstd or gzip. All else is
/// passed on as it is. No file of ours is compressed with gzip.
///
/// # Errors
/// Reading fails, or there is no memory for a zstd context.
pub fn reader<R: Read>(mut input: R) -> io::Result<Reader<R>> {
    let mut beginning = Vec::with_capacity(4);
    (&mut input).take(4).read_to_end(&mut beginning)?;
    let compression = Compression::detect(&beginning);
    let is_gzip = beginning.starts_with(&GZIP_MAGIC);
    let source = Cursor::new(beginning).chain(input);
    let decoder = match compression {
        None if is_gzip => Decoder::Gzip(Gzip::new(source)),
        None => Decoder::Plain(source),
        Some(Compression::Lz4) => Decoder::Lz4(Lz4::new(source)),
        Some(Compression::Zstd(_)) => Decoder::Zstd(Zstd::new(source)?),
    };
    Ok(Reader { compression, decoder })
}

impl<R: Read> Reader<R> {
    /// Returns the compression of the stream, if it has one of ours. zstd does not tell its level,
    /// which is the default here.
    #[must_use]
    pub(crate) fn compression(&self) -> Option<Compression> {
        self.compression
    }

    /// Says whether anything but zeros stands behind what was decoded, and behind the block that
    /// could not be. Reads to the end.
    ///
    /// # Errors
    /// Reading fails.
    pub(crate) fn has_more(&mut self) -> io::Result<bool> {
        match &mut self.decoder {
            Decoder::Plain(source) => has_more(source),
            Decoder::Lz4(lz4) => has_more(lz4.decoder.get_mut()),
            Decoder::Zstd(zstd) => has_more(&mut zstd.source),
            Decoder::Gzip(gzip) => has_more(&mut gzip.source),
        }
    }
}

fn has_more(mut source: impl Read) -> io::Result<bool> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(read) if buffer.iter().take(read).any(|byte| *byte != 0) => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.decoder {
            Decoder::Plain(source) => source.read(buffer),
            Decoder::Lz4(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
        }
    }
}

impl<R: Read> std::fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("compression", &self.compression).finish_non_exhaustive()
    }
}

fn unfinished() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the compressed stream ends before its end mark")
}

/// Decodes lz4. lz4_flex takes the end of the input between two blocks for the end of the frame, so
/// the input is watched.
struct Lz4<R: Read> {
    decoder: FrameDecoder<Watched<R>>,
    /// The place in the input at which the last frame ended.
    frame_end: u64,
}

struct Watched<R> {
    source: io::BufReader<R>,
    position: u64,
    at_end: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.position += u64::try_from(read).unwrap_or(u64::MAX);
        self.at_end |= read == 0 && !buffer.is_empty();
        Ok(read)
    }
}

impl<R: Read> Lz4<R> {
    fn new(source: R) -> Lz4<R> {
        let source = io::BufReader::with_capacity(64 * 1024, source);
        Lz4 { decoder: FrameDecoder::new(Watched { source, position: 0, at_end: false }), frame_end: 0 }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.decoder.read(buffer);
            let input = self.decoder.get_ref();
            match read {
                Ok(0) if !input.at_end && !buffer.is_empty() => self.frame_end = input.position,
                Ok(0) if input.at_end && self.frame_end != input.position => return Err(unfinished()),
                Ok(read) => return Ok(read),
                // The end came within a block.
                Err(_) if input.at_end => return Err(unfinished()),
                Err(error) => return Err(lz4_error(error)),
            }
        }
    }
}

/// Decodes gzip, member by member. Bytes that were decoded before the damage in the same call come
/// first, so the decoder is asked for its counts.
struct Gzip<R> {
    source: io::BufReader<R>,
    decoder: Decompress,
    /// False between two members.
    is_within: bool,
    /// The damage behind what was read.
    damage: Option<io::Error>,
}

impl<R: Read> Gzip<R> {
    fn new(source: R) -> Gzip<R> {
        let source = io::BufReader::with_capacity(64 * 1024, source);
        Gzip { source, decoder: Gzip::<R>::decoder(), is_within: false, damage: None }
    }

    /// Returns a decoder of one member.
    fn decoder() -> Decompress {
        /// The largest window, in bits: a header does not tell it.
        const WINDOW: u8 = 15;
        Decompress::new_gzip(WINDOW)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(error) = self.damage.take() {
            return Err(error);
        }
        while !buffer.is_empty() {
            let input = self.source.fill_buf()?;
            let at_end = input.is_empty();
            if at_end && !self.is_within {
                break;
            }
            if let (false, [0, ..]) = (self.is_within, input) {
                // Zeros behind a member pad it, as gzip has it.
                let zeros = input.iter().take_while(|byte| **byte == 0).count();
                self.source.consume(zeros);
                continue;
            }
            let before = (self.decoder.total_in(), self.decoder.total_out());
            let state = self.decoder.decompress(input, buffer, FlushDecompress::None);
            // Neither is more than its slice has.
            let used = usize::try_from(self.decoder.total_in() - before.0).unwrap_or(usize::MAX);
            let read = usize::try_from(self.decoder.total_out() - before.1).unwrap_or(usize::MAX);
            self.source.consume(used);
            self.is_within = true;
            let damage = match state {
                Ok(Status::StreamEnd) => {
                    (self.decoder, self.is_within) = (Gzip::<R>::decoder(), false);
                    None
                }
                Ok(_) if read > 0 || used > 0 => None,
                Ok(_) if at_end => Some(unfinished()),
                // What the decoder says of it depends on how much it had at once.
                Ok(_) | Err(_) => Some(io::Error::new(io::ErrorKind::InvalidData, "corrupt gzip stream")),
            };
            match (read, damage) {
                (0, Some(damage)) => return Err(damage),
                (0, None) => {}
                (read, damage) => {
                    self.damage = damage;
                    return Ok(read);
                }
            }
        }
        Ok(0)
    }
}

/// Decodes zstd. It loses what it decoded before the damage in the same call, so it gets one block
/// in a call.
struct Zstd<R> {
    source: io::BufReader<R>,
    context: DCtx<'static>,
    input: Vec<u8>,
    /// Bytes that zstd wants next: the rest of a block and the header of the one behind; 0 between
    /// frames.
    wanted: usize,
    output: Vec<u8>,
    /// The number of bytes of the output that were read.
    taken: usize,
    /// The damage behind the output.
    damage: Option<io::Error>,
}

impl<R: Read> Zstd<R> {
    fn new(source: R) -> io::Result<Zstd<R>> {
        let context = DCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
        let source = io::BufReader::with_capacity(64 * 1024, source);
        let output = Vec::with_capacity(DCtx::out_size());
        Ok(Zstd { source, context, input: Vec::new(), wanted: 0, output, taken: 0, damage: None })
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.output.len() {
            if !self.decode()? {
                return Ok(0);
            }
        }
        let rest = self.output.get(self.taken..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        self.taken += read;
        Ok(read)
    }

    /// Decodes the next block into the output. Returns `false` at the end between two frames.
    fn decode(&mut self) -> io::Result<bool> {
        /// The least that zstd needs to know of a frame.
        const FRAME_HEADER: usize = 5;
        const BLOCK_HEADER: usize = 3;
        if let Some(error) = self.damage.take() {
            return Err(error);
        }
        self.output.clear();
        self.taken = 0;
        self.input.clear();
        let wanted = if self.wanted == 0 { FRAME_HEADER } else { self.wanted };
        (&mut self.source).take(u64::try_from(wanted).unwrap_or(u64::MAX)).read_to_end(&mut self.input)?;
        if self.input.is_empty() {
            return if self.wanted == 0 { Ok(false) } else { Err(unfinished()) };
        }
        let (block, next_header) = self.input.split_at(self.input.len().min(wanted.saturating_sub(BLOCK_HEADER)));
        for part in [block, next_header] {
            match run(&mut self.context, part, &mut self.output) {
                Ok(Some(wanted)) => self.wanted = wanted,
                Ok(None) => {}
                Err(error) if self.output.is_empty() => return Err(error),
                Err(error) => {
                    self.damage = Some(error);
                    break;
                }
            }
        }
        Ok(true)
    }
}

/// Decodes `input`, a part of a block, behind what is in `output`. Returns the number of bytes that
/// zstd wants next.
fn run(context: &mut DCtx<'_>, input: &[u8], output: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let mut source = InBuffer::around(input);
    let mut wanted = None;
    while source.pos() < input.len() {
        // No block is larger.
        output.reserve(DCtx::out_size());
        let start = output.len();
        let mut room = OutBuffer::around_pos(output, start);
        wanted = Some(context.decompress_stream(&mut room, &mut source).map_err(zstd_error)?);
    }
    Ok(wanted)
}
