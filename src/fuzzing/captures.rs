//! Captures are read, salvaged and stripped, whoever wrote them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::console::Console;
use crate::decap::{self, DecapPlan, Input, Others, Timestamps};
use crate::record::Timestamp;
use crate::record::compress::reader;
use crate::record::contents::{Opening, Remarks, Statistics};
use crate::record::format::Format;
use crate::record::pcap::Record;
use crate::record::read::{CaptureReader, MAX_FRAME};
use crate::record::salvage;

/// Bytes that are decompressed at most: a few that are compressed can be many.
const MOST: u64 = 1 << 20;

/// A frame that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Made {
    timestamp: u64,
    frame: Vec<u8>,
    orig_len: u32,
    link_type: u16,
    comments: Vec<u8>,
}

/// A source that gives few bytes at a time.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(self.1);
        self.0.read(&mut buffer[..length])
    }
}

/// Returns the frames of a capture, and what is said of its end.
fn read(source: impl Read) -> (Vec<Made>, Option<String>) {
    let mut frames = Vec::new();
    let said = |error: &dyn std::error::Error| Some(error.to_string());
    let source = match reader(source) {
        Ok(source) => source.take(MOST),
        Err(error) => return (frames, said(&error)),
    };
    let mut capture = match CaptureReader::of_any_link_type(source, "input") {
        Ok(capture) => capture,
        Err(error) => return (frames, said(&error)),
    };
    loop {
        match capture.next_frame() {
            Ok(Some(frame)) => {
                assert!(frame.data.len() <= MAX_FRAME as usize && frame.orig_len as usize >= frame.data.len());
                frames.push(Made {
                    timestamp: frame.timestamp,
                    frame: frame.data.to_vec(),
                    orig_len: frame.orig_len,
                    link_type: frame.link_type,
                    comments: frame.options.encoded_comments(),
                });
            }
            Ok(None) => return (frames, None),
            Err(error) => {
                assert!(capture.next_frame().is_ok_and(|frame| frame.is_none()), "nothing comes behind an error");
                return (frames, said(&error));
            }
        }
    }
}

/// A capture in any format, compressed or not.
pub(super) fn captures(data: &[u8]) {
    let (frames, end) = read(data);
    let pieces = read(Pieces(data, 1 + data.len() % 7));
    assert_eq!((&frames, &end), (&pieces.0, &pieces.1), "the size of reads changes nothing");
    for format in Format::ALL {
        what_is_written_is_read(format, &frames);
    }
}

/// Frames are the same in any format that they are written in, and salvage finds them all.
fn what_is_written_is_read(format: Format, frames: &[Made]) {
    let mut file = format.opening(&Opening { snaplen: MAX_FRAME, os: "Linux", ..Opening::default() });
    for made in frames {
        let Made { timestamp, frame, orig_len, comments, .. } = made;
        let record = Record { timestamp: Timestamp::from_ns(*timestamp), orig_len: *orig_len, frame };
        format.push(&mut file, &record, Remarks { notes: comments, ..Remarks::default() });
    }
    file.extend(format.closing(&Statistics::default()));
    let (again, end) = read(file.as_slice());
    if file.len() as u64 > MOST {
        return;
    }
    assert_eq!(end, None);
    let (unit, last, has_comments) = match format {
        Format::Pcap => (1, u64::from(u32::MAX), false),
        Format::PcapUs => (1_000, u64::from(u32::MAX), false),
        Format::PcapNg => (1, u64::MAX, true),
    };
    let wanted = frames.iter().map(|made| Made {
        timestamp: match made.timestamp / 1_000_000_000 {
            second if second > last => last * 1_000_000_000 + made.timestamp % 1_000_000_000 / unit * unit,
            _ => made.timestamp / unit * unit,
        },
        link_type: 1,
        comments: if has_comments { made.comments.clone() } else { Vec::new() },
        ..made.clone()
    });
    assert!(wanted.eq(again.iter().cloned()), "{format}");
    // All zeros are no record.
    let is_record = |made: &Made| made.timestamp >= 1_000 || made.orig_len > 0;
    if frames.iter().all(is_record) {
        let whole = salvage::scan(file.as_slice()).expect("a file of ours");
        assert!(whole.intact && whole.mended.is_none() && !whole.damaged);
        assert_eq!(whole.frames, frames.len() as u64);
    }
}

/// A file that a crash left behind.
pub(super) fn salvage(data: &[u8]) {
    let Ok(whole) = salvage::scan(data) else { return };
    assert!(whole.length <= whole.total && whole.opening <= whole.length);
    assert!(whole.compression.is_some() || whole.total == data.len() as u64);
    if whole.length > MOST {
        return;
    }
    let mut saved = Vec::new();
    salvage::extract(data, &whole, &mut saved).expect("what was found is there");
    let (frames, end) = read(saved.as_slice());
    assert_eq!((frames.len() as u64, end), (whole.frames, None), "what was saved can be read");
    let bytes: usize = frames.iter().map(|made| made.frame.len()).sum();
    let times = frames.iter().map(|made| Timestamp::from_ns(made.timestamp));
    assert_eq!((bytes as u64, times.clone().min(), times.max()), (whole.frame_bytes, whole.first, whole.last));
    let again = salvage::scan(saved.as_slice()).expect("it was saved before");
    assert!(again.intact && !again.damaged && again.mended.is_none(), "{again:?}");
    assert_eq!((again.frames, again.first, again.last), (whole.frames, whole.first, whole.last));
}

/// Makes a file in memory, and its path for as long as it is there.
pub(super) fn in_memory(bytes: &[u8]) -> (File, PathBuf) {
    let mut file = File::from(memfd_create("input", MemfdFlags::CLOEXEC).expect("memory"));
    file.write_all(bytes).expect("memory");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
    (file, path)
}

/// A capture that is stripped of its wraps, with every frame accounted for.
pub(super) fn decap(data: &[u8]) {
    if reader(data).is_ok_and(|source| io::copy(&mut source.take(MOST), &mut io::sink()).is_ok_and(|n| n == MOST)) {
        return;
    }
    let (_file, path) = in_memory(data);
    // One of three, for a run is slow.
    let others = [Others::Drop, Others::Pass, Others::Stop][data.len() % 3];
    let summary = DecapPlan::summary(vec![Input::File(path)]);
    let plan = DecapPlan { others, depth: 8, timestamps: Timestamps::Switch, ..summary };
    let report = decap::run(&plan, &Arc::default(), &Console::default()).expect("nothing is written");
    assert!(report.failures.is_empty() && report.closes(), "{report}");
}
