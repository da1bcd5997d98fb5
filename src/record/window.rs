//! A window shows a part of a stream: bytes are looked at before they are used up, and fields are
//! read out of them.

use std::io::{self, Read};

/// Bytes that are read at once at most: they are still in the second-level cache when they are
/// looked at.
const READ: usize = 256 * 1024;

/// The bytes in the buffer of a stream that are not used up.
#[derive(Debug)]
pub(super) struct Window<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Place in the stream of `buffer[start]`.
    offset: u64,
}

impl<R: Read> Window<R> {
    /// Makes a window that is never larger than `capacity` bytes.
    pub(super) fn new(source: R, capacity: usize) -> Self {
        Self { source, buffer: vec![0; capacity], start: 0, end: 0, offset: 0 }
    }

    /// Returns the bytes that are there.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Returns the most bytes that can be there.
    pub(super) fn capacity(&self) -> usize {
        self.buffer.len()
    }

    /// Returns the place in the stream of the first byte that is not used up.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Lends the stream, of which the window has read more than was used up.
    pub(super) fn source(&mut self) -> &mut R {
        &mut self.source
    }

    /// Reads until `length` bytes are there, the window is full, or the stream ends. Returns how
    /// many of `length` are there.
    ///
    /// # Errors
    /// Reading fails, other than by an interruption. The bytes that were read before the error are
    /// there.
    pub(super) fn fill(&mut self, length: usize) -> io::Result<usize> {
        if self.end - self.start < length {
            // What is left is less than what is wanted, so little is moved. In return the window
            // stays where the cache has it.
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < length {
            let most = self.buffer.len().min(self.end + READ);
            let Some(room) = self.buffer.get_mut(self.end..most).filter(|room| !room.is_empty()) else { break };
            match self.source.read(room) {
                Ok(0) => break,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(length.min(self.end - self.start))
    }

    /// Uses up `length` bytes, or all where there are fewer, and returns them.
    pub(super) fn take(&mut self, length: usize) -> &[u8] {
        let taken = self.start..self.end.min(self.start.saturating_add(length));
        self.start = taken.end;
        self.offset += to_u64(taken.len());
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        self.buffer.get(taken).unwrap_or_default()
    }
}

/// Reads the `N` bytes at `at`, or zeros where `bytes` end before.
pub(super) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

/// Reads the little-endian number at `at`, or 0 where `bytes` end before.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}

/// Converts a length that a file says.
pub(super) fn to_usize(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// Converts a length in memory.
pub(super) fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that returns so many bytes at a time at most, and is interrupted before each.
    struct Slow<'a>(&'a [u8], usize, bool);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.2 = !self.2;
            if self.2 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let length = buffer.len().min(self.1);
            self.0.read(&mut buffer[..length])
        }
    }

    #[test]
    fn every_byte_is_seen_once() {
        let stream: Vec<u8> = (0..200).collect();
        for (capacity, step) in [(7, 1), (7, 3), (16, 200), (300, 200)] {
            let mut window = Window::new(Slow(&stream, step, false), capacity);
            let mut taken = Vec::new();
            for length in (1..=5).cycle() {
                let there = window.fill(length).unwrap();
                assert_eq!(window.offset(), taken.len() as u64);
                assert_eq!(window.bytes()[..there], stream[taken.len()..taken.len() + there]);
                taken.extend_from_slice(window.take(length));
                if there < length {
                    break;
                }
            }
            assert_eq!(taken, stream);
            assert_eq!((window.fill(1).unwrap(), window.bytes().len(), window.offset()), (0, 0, 200));
        }
    }

    #[test]
    fn no_more_than_its_capacity_is_there() {
        let mut window = Window::new([7; 50].as_slice(), 10);
        assert_eq!((window.fill(11).unwrap(), window.bytes().len(), window.capacity()), (10, 10, 10));
        assert_eq!(window.take(20).len(), 10);
        assert_eq!(window.offset(), 10);
    }

    #[test]
    fn what_was_read_before_an_error_is_there() {
        struct Torn(bool);
        impl Read for Torn {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                buffer[..3].copy_from_slice(&[1, 2, 3]);
                Ok(3)
            }
        }
        let mut window = Window::new(Torn(false), 10);
        assert_eq!(window.fill(4).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(window.bytes(), [1, 2, 3]);
    }

    #[test]
    fn fields_that_are_not_there_are_zero() {
        assert_eq!((u32_at(&[1, 0, 0, 0, 2], 0), u32_at(&[1, 0, 0, 0, 2], 2), u32_at(&[], 9)), (1, 0, 0));
    }
}
