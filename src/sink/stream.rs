//! The stream output: one file, or standard output, gets the frames of all sessions in the order in
//! which they came.
//!
//! There is no archive behind it: the file has the name that was asked for from its first byte on,
//! and no manifest tells of it. Chunks of nanosecond pcap are written as they are.
//!
//! Where bare packets are written as they came, the file has an interface for each kind of frames,
//! in front of the first of that kind: few readers take several, so what has one kind has one.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Sink;
use crate::condition::{Condition, Part};
use crate::lane::{Lent, Run};
use crate::ledger::{Output, OutputCounters, OutputDrop};
use crate::record::bare_ip::BareIp;
use crate::record::compress::{Compression, Compressor};
use crate::record::contents::{APPLICATION, Opening, Remarks, Statistics};
use crate::record::format::Format;
use crate::record::{Timestamp, pcap, pcapng};
use crate::wire::LinkType;

/// Bytes that are encoded before they are compressed and written.
const BUFFER: usize = 256 * 1024;
/// The time between two looks at the clock: nothing is due by time.
const SELDOM: Duration = Duration::from_secs(3600);

/// Returns the beginning of the file, where bare packets have this form. It has an interface of
/// Ethernet, whose description says which headers are made up.
const fn opening(bare_ip: BareIp) -> Opening<'static> {
    Opening {
        link_types: &[LinkType::Ethernet],
        snaplen: pcap::WHOLE,
        interface: "",
        description: match bare_ip {
            BareIp::Ethernet => "bare packets have a made-up Ethernet header",
            BareIp::Raw => "bare packets other than IP have a made-up Ethernet header",
        },
        hardware: "",
        os: "",
        application: APPLICATION,
    }
}

/// The plan of one file with the frames of all sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPlan {
    /// The file; none for standard output.
    pub path: Option<PathBuf>,
    /// The format.
    pub format: Format,
    /// The form of packets that came without an Ethernet header. One file of classic pcap has them
    /// with it.
    pub bare_ip: BareIp,
    /// The compression, if there is one.
    pub compression: Option<Compression>,
}

impl StreamPlan {
    /// Names the file, for people.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.as_deref().map_or_else(|| "standard output".into(), |path| path.display().to_string())
    }
}

/// The file cannot be made, or not be begun.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {name}: {source}")]
pub struct StreamError {
    /// The file.
    name: String,
    /// The error of the system.
    source: io::Error,
}

/// The stream output.
pub(crate) struct StreamSink {
    name: String,
    to: File,
    format: Format,
    compressor: Option<Compressor>,
    counters: Arc<OutputCounters>,
    condition: Arc<Condition>,
    /// What is encoded and not written.
    encoded: Vec<u8>,
    compressed: Vec<u8>,
    bare_ip: BareIp,
    /// The interfaces that the file has, by the link types of their frames, and their counts.
    interfaces: Vec<(LinkType, Statistics)>,
    /// The bytes of the file so far, which end with a whole record; none where it cannot be cut.
    whole: Option<u64>,
    /// The reason for which frames are lost since writing has failed: nothing more is tried.
    failed: Option<OutputDrop>,
}

impl StreamSink {
    /// Makes the file anew and writes its beginning. Counts in `output`.
    ///
    /// # Errors
    /// The file cannot be made or written.
    pub(crate) fn open(
        plan: &StreamPlan,
        output: &mut Output,
        condition: Arc<Condition>,
    ) -> Result<StreamSink, StreamError> {
        let fault = |source| StreamError { name: plan.name(), source };
        let to = match &plan.path {
            Some(path) => File::create(path),
            // Not by way of the buffer that lines go through.
            None => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        };
        let to = to.map_err(fault)?;
        let is_file = plan.path.is_some() && to.metadata().is_ok_and(|of| of.is_file());
        let mut sink = StreamSink {
            name: plan.name(),
            to,
            format: plan.format,
            compressor: plan.compression.map(Compressor::new).transpose().map_err(fault)?,
            counters: output.end(),
            condition,
            encoded: Vec::new(),
            compressed: Vec::new(),
            bare_ip: if plan.format == Format::PcapNg { plan.bare_ip } else { BareIp::Ethernet },
            interfaces: Vec::new(),
            whole: (is_file && plan.compression.is_none()).then_some(0),
            failed: None,
        };
        if sink.bare_ip == BareIp::Raw {
            sink.encoded = plan.format.opening(&Opening { link_types: &[], ..opening(sink.bare_ip) });
        } else {
            sink.encoded = plan.format.opening(&opening(sink.bare_ip));
            sink.interfaces.push((LinkType::Ethernet, Statistics::default()));
        }
        sink.write_encoded().map_err(fault)?;
        Ok(sink)
    }

    /// Returns the place of the interface by which frames of this kind come. One that is new is
    /// described first.
    fn interface(&mut self, link_type: LinkType) -> usize {
        let known = self.interfaces.iter().position(|(of, _)| *of == link_type);
        known.unwrap_or_else(|| {
            let opening = match link_type {
                LinkType::Ethernet => opening(self.bare_ip),
                LinkType::Raw => Opening { description: "", ..opening(self.bare_ip) },
            };
            pcapng::interface(&mut self.encoded, &opening, link_type);
            let number = self.interfaces.len();
            let interface = u32::try_from(number).unwrap_or(u32::MAX);
            self.interfaces.push((link_type, Statistics { interface, ..Statistics::default() }));
            number
        })
    }

    /// Counts the frames of a run at its interface, and returns that interface's number.
    fn enter(&mut self, run: &Run) -> (u32, LinkType) {
        let link_type = if run.is_bare_ip && self.bare_ip == BareIp::Raw { LinkType::Raw } else { LinkType::Ethernet };
        let place = self.interface(link_type);
        let Some((_, statistics)) = self.interfaces.get_mut(place) else { return (0, link_type) };
        let is_first = statistics.received == 0;
        statistics.start = if is_first { run.earliest } else { statistics.start.min(run.earliest) };
        statistics.end = statistics.end.max(run.latest);
        statistics.received += u64::from(run.frames);
        (statistics.interface, link_type)
    }

    /// Writes bytes, compressed where that is the plan.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(compressor) = &mut self.compressor else {
            self.to.write_all(bytes)?;
            self.whole = self.whole.map(|whole| whole + bytes.len() as u64);
            return Ok(());
        };
        self.compressed.clear();
        compressor.feed(bytes, &mut self.compressed)?;
        self.to.write_all(&self.compressed)
    }

    /// Writes what is encoded.
    fn write_encoded(&mut self) -> io::Result<()> {
        let encoded = std::mem::take(&mut self.encoded);
        let written = self.write(&encoded);
        self.encoded = encoded;
        self.encoded.clear();
        written
    }

    /// Counts a part of the frames of a chunk, which are so many bytes, as written, or as lost
    /// where they could not be.
    fn count(&mut self, chunk: &Lent, part: Range<u64>, bytes: u64, written: &io::Result<()>) {
        match written {
            Ok(()) => {
                self.counters.written.add(part.end - part.start);
                self.counters.written_bytes.add(bytes);
            }
            Err(error) => {
                let reason = self.fail(error);
                self.lose(chunk, part, reason);
            }
        }
    }

    /// Counts a part of the frames of a chunk as lost, by session.
    fn lose(&self, chunk: &Lent, part: Range<u64>, reason: OutputDrop) {
        let mut first = 0;
        for (run, _) in chunk.runs() {
            let next = first + u64::from(run.frames);
            let frames = part.end.min(next).saturating_sub(part.start.max(first));
            self.counters.lose(reason, run.session.seat(), frames);
            first = next;
        }
    }

    /// Notes that writing has failed, and cuts the file to its last whole record. Returns the
    /// reason of losses from now on.
    fn fail(&mut self, error: &io::Error) -> OutputDrop {
        if let Some(reason) = self.failed {
            return reason;
        }
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let reason = if full { OutputDrop::DiskFull } else { OutputDrop::WriteError };
        self.failed = Some(reason);
        // Whoever reads a stream goes when there is enough.
        if error.kind() != io::ErrorKind::BrokenPipe {
            tracing::error!(to = self.name, %error, "cannot write; what follows is lost");
        }
        if let Some(Err(error)) = self.whole.map(|whole| self.to.set_len(whole)) {
            tracing::warn!(to = self.name, %error, "cannot cut the file to its last whole record");
        }
        self.condition.note(Part::Captures, Some(error.to_string()));
        reason
    }

    /// Encodes the records of a chunk anew, and writes them.
    fn encode(&mut self, chunk: &Lent) {
        let mut notes = chunk.notes().iter().peekable();
        // The frames that are encoded and not written, and their bytes.
        let (mut part, mut bytes) = (0..0, 0);
        let mut end = 0;
        for (run, records) in chunk.runs() {
            let (interface, link_type) = self.enter(run);
            for record in pcap::records(records) {
                end += record.len();
                let notes = notes.next_if(|note| note.end as usize == end).map(|note| &*note.options);
                let (notes, direction) = (notes.unwrap_or_default(), chunk.way(end));
                let remarks = Remarks { interface, notes, direction, ..Remarks::default() };
                let record = if link_type == LinkType::Raw { record.undressed() } else { record };
                self.format.push(&mut self.encoded, &record, remarks);
                part.end += 1;
                bytes += record.frame.len() as u64;
                if self.encoded.len() >= BUFFER {
                    let written = self.write_encoded();
                    self.count(chunk, part.clone(), bytes, &written);
                    (part.start, bytes) = (part.end, 0);
                    if let Some(reason) = self.failed {
                        return self.lose(chunk, part.end..chunk.frames().into(), reason);
                    }
                }
            }
        }
        let written = self.write_encoded();
        self.count(chunk, part, bytes, &written);
    }
}

impl fmt::Debug for StreamSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSink").field("name", &self.name).field("format", &self.format).finish_non_exhaustive()
    }
}

impl Sink for StreamSink {
    fn consume(&mut self, chunk: &Arc<Lent>) {
        let frames = u64::from(chunk.frames());
        if let Some(reason) = self.failed {
            return self.lose(chunk, 0..frames, reason);
        }
        if self.format == Format::Pcap {
            let records = chunk.records();
            let bytes = (records.len() as u64).saturating_sub(frames * pcap::RECORD_HEADER_LEN as u64);
            let written = self.write(records);
            self.count(chunk, 0..frames, bytes, &written);
        } else {
            self.encode(chunk);
        }
    }

    fn tick(&mut self, now: Instant, _: Timestamp) -> Instant {
        now + SELDOM
    }

    fn finish(&mut self) {
        if self.failed.is_some() {
            return;
        }
        if self.interfaces.is_empty() {
            // Without an interface some readers take a file for a broken one.
            self.interface(LinkType::Ethernet);
        }
        for (_, statistics) in &self.interfaces {
            let received = statistics.received;
            let statistics = Statistics { accepted: received, delivered: received, ..*statistics };
            self.encoded.extend(self.format.closing(&statistics));
        }
        let mut ended = self.write_encoded();
        if let (Ok(()), Some(compressor)) = (&ended, &mut self.compressor) {
            self.compressed.clear();
            ended = compressor.finish(&mut self.compressed).and_then(|()| self.to.write_all(&self.compressed));
        }
        if let Err(error) = ended.and_then(|()| self.to.flush()) {
            self.fail(&error);
        }
    }
}
