//! A file can be compressed in one of several ways, which have names.

use std::fmt;
use std::io;
use std::str::FromStr;

use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd::zstd_safe::{get_error_name, is_error_kind};

/// The first bytes of an lz4 frame.
pub(crate) const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// The first bytes of a zstd frame.
pub(crate) const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The level of zstd where none is given.
pub(crate) const ZSTD_LEVEL: i32 = 3;
/// The highest level. Those above it need windows that a compressor here does not have.
pub(super) const ZSTD_MAX_LEVEL: i32 = 19;

/// The compression of a file. It is written as `lz4`, `zstd` or `zstd:LEVEL` with a level from 1 to
/// 19.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// lz4 frame format.
    Lz4,
    /// zstd with this level.
    Zstd(i32),
}

impl Compression {
    /// All extensions.
    pub(crate) const EXTENSIONS: [&str; 2] = [Compression::Lz4.extension(), Compression::Zstd(ZSTD_LEVEL).extension()];

    /// Returns the last part of a file's name, without the dot.
    #[must_use]
    pub(crate) const fn extension(self) -> &'static str {
        match self {
            Compression::Lz4 => "lz4",
            Compression::Zstd(_) => "zst",
        }
    }

    /// Finds the compression of a file by its first bytes. zstd does not tell its level, which is
    /// the default then.
    #[must_use]
    pub(crate) fn detect(beginning: &[u8]) -> Option<Compression> {
        match *beginning.first_chunk()? {
            LZ4_MAGIC => Some(Compression::Lz4),
            ZSTD_MAGIC => Some(Compression::Zstd(ZSTD_LEVEL)),
            _ => None,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compression::Lz4 => f.write_str("lz4"),
            Compression::Zstd(ZSTD_LEVEL) => f.write_str("zstd"),
            Compression::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

/// A text that is no way of compressing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// The text is not the name of a compression.
    #[error("unknown compression {0:?}: one of lz4, zstd, zstd:LEVEL")]
    Unknown(String),
    /// The text is not a level of zstd.
    #[error("zstd has no level {0:?} here: it is a number from 1 (fast) to {ZSTD_MAX_LEVEL} (small)")]
    Level(String),
    /// lz4 has only one level.
    #[error("lz4 has no levels: write lz4, or zstd:LEVEL")]
    Lz4Level,
}

impl FromStr for Compression {
    type Err = CompressionError;

    fn from_str(text: &str) -> Result<Compression, CompressionError> {
        match text.split_once(':').map_or((text, None), |(name, level)| (name, Some(level))) {
            ("lz4", None) => Ok(Compression::Lz4),
            ("lz4", Some(_)) => Err(CompressionError::Lz4Level),
            ("zstd", None) => Ok(Compression::Zstd(ZSTD_LEVEL)),
            ("zstd", Some(level)) => match level.parse() {
                Ok(number @ 1..=ZSTD_MAX_LEVEL) => Ok(Compression::Zstd(number)),
                _ => Err(CompressionError::Level(level.to_owned())),
            },
            _ => Err(CompressionError::Unknown(text.to_owned())),
        }
    }
}

impl serde::Serialize for Compression {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Compression {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Compression, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Puts an error code of zstd into words.
pub(super) fn zstd_error(code: usize) -> io::Error {
    let words = if is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge) {
        "decoding takes more than 128 MiB of memory; decompress it first, by `zstd -d --long=31`"
    } else {
        get_error_name(code)
    };
    io::Error::other(format!("zstd: {words}"))
}

/// Puts an error of a decoder of lz4 into words.
pub(super) fn lz4_error(error: io::Error) -> io::Error {
    use lz4_flex::frame::Error;
    let words = match error.get_ref().and_then(|cause| cause.downcast_ref()) {
        // It is not the decoder's but that of what it reads.
        None => return error,
        // The first frame has the right one.
        Some(Error::WrongMagicNumber) => "something else than a frame stands behind the last one",
        Some(Error::SkippableFrame(_)) => "skippable frames are not read",
        Some(Error::DictionaryNotSupported) => "a frame needs a dictionary",
        Some(_) => "corrupt frame",
    };
    io::Error::new(io::ErrorKind::InvalidData, format!("lz4: {words}"))
}
