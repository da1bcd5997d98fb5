//! The frames of a capture are counted as its bytes go by.

use crate::record::pcap::{FILE_HEADER_LEN, RECORD_HEADER_LEN};

/// Counts the records that are whole.
#[derive(Debug)]
pub(super) struct Frames {
    /// Records that are whole.
    count: u64,
    /// Bytes until the next header of a record.
    skip: usize,
    /// True where these are the end of a record.
    in_record: bool,
    /// The header that has begun.
    header: Vec<u8>,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self { count: 0, skip: FILE_HEADER_LEN, in_record: false, header: Vec::with_capacity(RECORD_HEADER_LEN) }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Sees the next bytes of the capture.
    pub(super) fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let now = self.skip.min(bytes.len());
                bytes = bytes.get(now..).unwrap_or_default();
                self.skip -= now;
            } else {
                let now = (RECORD_HEADER_LEN - self.header.len()).min(bytes.len());
                let (header, rest) = bytes.split_at(now);
                self.header.extend_from_slice(header);
                bytes = rest;
                let Some(&[a, b, c, d]) = self.header.get(8..12).filter(|_| self.header.len() == RECORD_HEADER_LEN)
                else {
                    continue;
                };
                self.skip = u32::from_le_bytes([a, b, c, d]) as usize;
                self.header.clear();
                self.in_record = true;
            }
            if self.skip == 0 && self.in_record {
                self.count += 1;
                self.in_record = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Timestamp, pcap};
    use crate::wire::LinkType;

    #[test]
    fn frames_are_counted_when_they_are_whole() {
        let mut capture = pcap::file_header(LinkType::Ethernet, 100).to_vec();
        let mut ends = vec![0];
        for length in [60, 0, 100, 1] {
            pcap::push(&mut capture, Timestamp::from_ns(1), &vec![7; length], 100);
            ends.push(capture.len());
        }
        for step in 1..capture.len() {
            let mut frames = Frames::new();
            let mut seen = 0;
            for part in capture.chunks(step) {
                frames.see(part);
                seen += part.len();
                let whole = ends.iter().filter(|end| **end > 0 && **end <= seen).count();
                assert_eq!(frames.count(), whole as u64, "after {seen} bytes, {step} at a time");
            }
        }
    }
}
