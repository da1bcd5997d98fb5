//! How many records of a run the current file of a session still takes.

use bytes::Bytes;

use super::kinds::Form;
use crate::lane::{Chunk, Run};
use crate::record::contents::Remarks;
use crate::record::format::Format;
use crate::record::{Timestamp, pcap};
use crate::wire::Direction;

/// The room that the current file still has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) bytes: u64,
    pub(super) frames: u64,
    pub(super) begins: Timestamp,
    pub(super) ends: Timestamp,
    /// True while the file has no frame: the first record fits whatever its size.
    pub(super) empty: bool,
    /// True where records of packets have the number that all copies have.
    pub(super) packet_ids: bool,
}

/// A chunk, and the records in it, which stay as long as somebody has a part of them.
#[derive(Debug)]
pub(super) struct Whole<'a> {
    pub(super) chunk: &'a Chunk,
    pub(super) records: Bytes,
}

/// Some records in the form that chunks have.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    pub(super) records: &'a [u8],
    /// The offset in the chunk at which they begin.
    pub(super) start: usize,
    pub(super) frames: u64,
    pub(super) span: (Timestamp, Timestamp),
}

impl Room {
    /// Returns the records of the rest of a run that fit in this form. A file that is empty takes
    /// the first whatever its size.
    pub(super) fn take<'a>(self, format: Format, form: Form, run: &Run, records: &'a [u8]) -> Piece<'a> {
        let all = u64::from(run.frames);
        let start = run.end as usize - records.len();
        let is_whole_run = records.len() == (run.end - run.start) as usize;
        if format == Format::Pcap
            && is_whole_run
            && records.len() as u64 <= self.bytes
            && all <= self.frames
            && run.latest < self.ends
            && run.earliest >= self.begins
        {
            return Piece { records, start, frames: all, span: (run.earliest, run.latest) };
        }
        // The length has room for whatever a record may have to tell besides the frame.
        let packet_id = Some(0).filter(|_| self.packet_ids);
        let most = Remarks { direction: Some(Direction::Inbound), lost: 1, packet_id, ..Remarks::default() };
        let (mut length, mut encoded, mut frames) = (0, 0, 0);
        let mut span = (Timestamp::from_ns(u64::MAX), Timestamp::from_ns(0));
        for record in pcap::records(records) {
            encoded += format.record_len(form.of(record).frame.len(), most) as u64;
            let fits =
                encoded <= self.bytes && frames < self.frames && (self.begins..self.ends).contains(&record.timestamp);
            let first = self.empty && frames == 0;
            if !(fits || first) {
                break;
            }
            length += record.len();
            frames += 1;
            span = (span.0.min(record.timestamp), span.1.max(record.timestamp));
        }
        Piece { records: records.get(..length).unwrap_or_default(), start, frames, span }
    }
}
