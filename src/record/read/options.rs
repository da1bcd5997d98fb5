//! A block of pcapng can have options behind its fields.

use pcap_file::Endianness;

use super::super::pcapng::{self, COMMENT, END_OF_OPTIONS, OPTION_HEADER_LEN};
use super::super::window::field;

/// The options of a block, as they are in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options<'a> {
    bytes: &'a [u8],
    endianness: Endianness,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { bytes: &[], endianness: Endianness::Little }
    }
}

impl<'a> Options<'a> {
    pub(super) fn new(bytes: &'a [u8], endianness: Endianness) -> Self {
        Self { bytes, endianness }
    }

    /// Says whether there are none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the comments, in their order, up to the first option that is not whole.
    pub fn comments(&self) -> impl Iterator<Item = &'a [u8]> {
        self.all().filter(|(code, _)| *code == COMMENT).filter_map(|(_, value)| value)
    }

    /// Returns the code and the value of each option, up to the first whose value is not whole and
    /// is left out.
    pub(super) fn all(&self) -> impl Iterator<Item = (u16, Option<&'a [u8]>)> {
        let Self { mut bytes, endianness } = *self;
        std::iter::from_fn(move || {
            let (header, rest) = bytes.split_at_checked(OPTION_HEADER_LEN)?;
            let (code, length) = (u16_at(header, 0, endianness), usize::from(u16_at(header, 2, endianness)));
            if code == END_OF_OPTIONS {
                return None;
            }
            bytes = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some((code, rest.get(..length)))
        })
    }

    /// Returns the comments as options of a file that this program writes.
    #[must_use]
    pub(crate) fn encoded_comments(&self) -> Vec<u8> {
        let mut options = Vec::new();
        self.comments().for_each(|comment| pcapng::comment(&mut options, comment));
        options
    }
}

/// Reads the number at this place, or 0 past the end.
pub(super) fn u16_at(bytes: &[u8], at: usize, endianness: Endianness) -> u16 {
    match endianness {
        Endianness::Big => u16::from_be_bytes(field(bytes, at)),
        Endianness::Little => u16::from_le_bytes(field(bytes, at)),
    }
}
