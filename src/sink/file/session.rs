//! The files of one mirror session.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Outage, Shared};
use crate::lane::Run;
use crate::ledger::OutputDrop;
use crate::record::{Timestamp, pcap};
use crate::route::SessionId;
use crate::sink::name::{self, Names};
use crate::sink::open_files::create_directory;

/// Bytes that a session's buffer grows to before it is written. A run of this size or more is written as it is.
const BUFFER: usize = 64 * 1024;

/// The files of one mirror session: those published, and the current one if there is any.
#[derive(Debug)]
pub(super) struct SessionFiles {
    id: SessionId,
    directory: PathBuf,
    name: String,
    /// Number of the last file.
    sequence: u32,
    current: Option<Current>,
    buffer: Buffer,
    /// Where these files fail, and others do not.
    outage: Option<Outage>,
}

/// A file that is written to.
#[derive(Debug)]
struct Current {
    names: Names,
    /// Bytes in the file.
    written: u64,
    /// Frames in the file, and bytes of them.
    frames: u64,
    frame_bytes: u64,
    /// Receive time at which the file ends.
    ends: Timestamp,
}

/// Records that are not in the file yet.
#[derive(Debug, Default)]
struct Buffer {
    records: Vec<u8>,
    frames: u64,
    /// Bytes of the records that are frames.
    frame_bytes: u64,
    /// When the oldest of them came.
    since: Option<Instant>,
}

impl SessionFiles {
    pub(super) fn new(id: SessionId, directory: PathBuf, name: String) -> Self {
        Self { id, directory, name, sequence: 0, current: None, buffer: Buffer::default(), outage: None }
    }

    /// Appends the records of a run, cutting files where they are full or their time is over.
    pub(super) fn append(&mut self, run: &Run, mut records: &[u8], shared: &mut Shared) {
        let mut frames = u64::from(run.frames);
        if shared.waits(self.outage) {
            return shared.lose(self.outage, frames);
        }
        while let Some(first) = pcap::records(records).next() {
            if self.current.is_none()
                && let Err(error) = self.create(first.timestamp, shared)
            {
                shared.fail(&mut self.outage, "create a capture file", &self.directory, &error, frames);
                return;
            }
            let Some(current) = &self.current else { return };
            let length = current.written + self.buffer.records.len() as u64;
            let room = shared.plan.rotate_size.saturating_sub(length);
            let (bytes, n) = if records.len() as u64 <= room && run.latest < current.ends {
                (records.len(), frames)
            } else {
                prefix_that_fits(records, room, current.ends, length <= pcap::FILE_HEADER_LEN as u64)
            };
            let Some((now, later)) = records.split_at_checked(bytes) else { return };
            if n > 0 && !self.add(now, n, shared) {
                shared.lose(self.outage, frames);
                return;
            }
            records = later;
            frames -= n;
            if !records.is_empty() {
                self.publish(shared);
            }
        }
    }

    /// Adds records that belong into the current file. False where the storage fails before they are added: the file is closed then.
    fn add(&mut self, records: &[u8], frames: u64, shared: &mut Shared) -> bool {
        if self.buffer.records.len() + records.len() > BUFFER {
            self.flush(shared);
            if self.current.is_none() {
                return false;
            }
        }
        let frame_bytes = (records.len() as u64).saturating_sub(frames * pcap::RECORD_HEADER_LEN as u64);
        if records.len() >= BUFFER {
            self.write(records, frames, frame_bytes, shared);
        } else {
            self.buffer.add(records, shared);
            self.buffer.frames += frames;
            self.buffer.frame_bytes += frame_bytes;
            self.buffer.since.get_or_insert_with(Instant::now);
        }
        true
    }

    /// Writes what is buffered.
    pub(super) fn flush(&mut self, shared: &mut Shared) {
        let mut buffer = std::mem::take(&mut self.buffer);
        if !buffer.records.is_empty() {
            self.write(&buffer.records, buffer.frames, buffer.frame_bytes, shared);
        }
        buffer.records.clear();
        self.buffer.records = buffer.records;
    }

    /// As if the time to try again had come.
    #[cfg(test)]
    pub(super) fn retry_now(&mut self) {
        self.outage.iter_mut().for_each(|outage| outage.retry = Instant::now());
    }

    /// Gives back the memory of an empty buffer.
    pub(super) fn free(&mut self, shared: &mut Shared) {
        if self.buffer.records.is_empty() {
            shared.buffered -= self.buffer.records.capacity();
            self.buffer.records = Vec::new();
        }
    }

    /// Writes records to the current file. Where that fails, the frames are counted as lost, the file is cut back to its last whole
    /// record, and closed.
    fn write(&mut self, records: &[u8], frames: u64, frame_bytes: u64, shared: &mut Shared) {
        let Some(current) = &mut self.current else { return shared.lose(self.outage, frames) };
        let file = shared.open.get(self.id, &current.names.part);
        match file.and_then(|file| file.write_all(records)) {
            Ok(()) => {
                current.written += records.len() as u64;
                shared.counters.written.add(frames);
                shared.counters.written_bytes.add(frame_bytes);
                current.frames += frames;
                current.frame_bytes += frame_bytes;
                shared.succeed(&mut self.outage);
            }
            Err(error) => {
                shared.fail(&mut self.outage, "write to a capture file", &current.names.part, &error, frames);
                if let Some(current) = self.current.take() {
                    self.close(&current, shared);
                }
            }
        }
    }

    /// Makes sure that the current file is still there.
    pub(super) fn look(&mut self, shared: &mut Shared) {
        let gone = |current: &Current| match fs::symlink_metadata(&current.names.part) {
            Ok(_) => false,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if let Some(current) = self.current.take_if(|current| gone(current)) {
            self.forget(&current, shared);
        }
    }

    /// Somebody removed the file: what was written to it is lost, and so is what is buffered for it.
    fn forget(&mut self, current: &Current, shared: &mut Shared) {
        shared.open.close(self.id);
        tracing::error!(
            path = %current.names.part.display(), frames = current.frames,
            "somebody removed a capture file that is written to: its frames are lost; beginning another"
        );
        let counters = &shared.counters;
        counters.written.take_back(current.frames);
        counters.written_bytes.take_back(current.frame_bytes);
        counters.dropped(OutputDrop::WriteError).add(current.frames + self.buffer.frames);
        let mut records = std::mem::take(&mut self.buffer).records;
        records.clear();
        self.buffer.records = records;
    }

    /// Does what is due by time. `clock` is the time of day; a file ends `grace` later than its frames, so that those on
    /// their way here still find it.
    pub(super) fn tend(&mut self, now: Instant, clock: Timestamp, grace: Duration, shared: &mut Shared) {
        if self.buffer.since.is_some_and(|since| now.duration_since(since) >= shared.plan.linger) {
            self.flush(shared);
        }
        if self.current.as_ref().is_some_and(|current| current.ends.saturating_add(grace) <= clock) {
            self.publish(shared);
        }
    }

    /// Begins a file whose first frame came at `start`.
    fn create(&mut self, start: Timestamp, shared: &mut Shared) -> io::Result<()> {
        let names = loop {
            self.sequence += 1;
            let names = name::names(&self.directory, &self.name, start, self.sequence);
            // A run before this one may have used the name: what it captured is never overwritten.
            if names.published.exists() {
                continue;
            }
            match shared.open.create(self.id, &names.part) {
                Ok(()) => break names,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.directory.exists() => {
                    create_directory(&self.directory)?;
                    self.sequence -= 1;
                }
                Err(error) => return Err(error),
            }
        };
        tracing::debug!(path = %names.part.display(), "capture file begun");
        let ends = start.next_multiple(shared.plan.rotate_time);
        self.current = Some(Current { names, written: 0, frames: 0, frame_bytes: 0, ends });
        self.buffer.add(&pcap::file_header(shared.plan.snaplen), shared);
        Ok(())
    }

    /// Completes the current file: what is buffered is written, and the file gets its final name.
    pub(super) fn publish(&mut self, shared: &mut Shared) {
        self.flush(shared);
        if let Some(current) = self.current.take() {
            self.close(&current, shared);
        }
    }

    fn close(&mut self, current: &Current, shared: &mut Shared) {
        let part = &current.names.part;
        // After a failed write the file may end in half a record.
        let whole = shared.open.get(self.id, part).and_then(|file| cut(file, current.written));
        shared.open.close(self.id);
        let result = match whole {
            Ok(()) if current.written <= pcap::FILE_HEADER_LEN as u64 => return remove(part),
            Ok(()) => fs::rename(part, &current.names.published),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => {
                tracing::debug!(path = %current.names.published.display(), frames = current.frames, "capture file published");
                shared.counters.files.add(1);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.forget(current, shared),
            Err(error) => {
                shared.counters.unpublished.add(1);
                tracing::error!(path = %part.display(), %error, "cannot publish a capture file; it stays under this name");
            }
        }
    }
}

impl Buffer {
    fn add(&mut self, bytes: &[u8], shared: &mut Shared) {
        let before = self.records.capacity();
        self.records.extend_from_slice(bytes);
        shared.buffered += self.records.capacity() - before;
    }
}

/// How much of `records` a file takes that has `room` bytes and ends at `ends`: bytes and frames. An `empty` file takes the first
/// record whatever its size.
fn prefix_that_fits(records: &[u8], room: u64, ends: Timestamp, empty: bool) -> (usize, u64) {
    let (mut bytes, mut frames) = (0, 0);
    for record in pcap::records(records) {
        let fits = (bytes + record.len()) as u64 <= room && record.timestamp < ends;
        let first = empty && frames == 0;
        if !(fits || first) {
            break;
        }
        bytes += record.len();
        frames += 1;
    }
    (bytes, frames)
}

/// Cuts `file` to `length` bytes if it has more.
fn cut(file: &mut fs::File, length: u64) -> io::Result<()> {
    if file.metadata()?.len() > length { file.set_len(length) } else { Ok(()) }
}

fn remove(part: &Path) {
    if let Err(error) = fs::remove_file(part) {
        tracing::warn!(path = %part.display(), %error, "cannot remove an empty capture file");
    }
}
