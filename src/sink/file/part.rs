//! The file that a session writes to at present.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::Bytes;

use crate::archive::{Archive, FileNumber};
use crate::evidence::names::Names;
use crate::record::Timestamp;
use crate::record::compress::{Compressor, Compressors};
use crate::storage::{Changed, Identity, Storage, StoredFile, changed};

/// Frames that are written together.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Batch {
    pub(super) frames: u64,
    /// Bytes of the records that are frames.
    pub(super) frame_bytes: u64,
    /// Frames that came as bare packets, whatever header they have.
    pub(super) bare: u64,
    /// Losses that the records, or the statistics at the end, tell of.
    pub(super) told: u64,
    /// The earliest and the latest receive time.
    pub(super) span: Option<(Timestamp, Timestamp)>,
}

impl Batch {
    pub(super) fn add(&mut self, more: Batch) {
        self.frames += more.frames;
        self.frame_bytes += more.frame_bytes;
        self.bare += more.bare;
        self.told += more.told;
        self.span = match (self.span, more.span) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, other) => one.or(other),
        };
    }
}

/// A file that is written to. Bytes that it was given are on their way into the file until the
/// storage says that they have settled. Only then do frames count as written.
pub(super) struct Part {
    pub(super) names: Names,
    /// The identity of the file, whatever has its name.
    pub(super) file: Identity,
    /// Receive time at which the file ends.
    pub(super) ends: Timestamp,
    /// Datagrams that the kernel had dropped when the file began.
    pub(super) kernel_dropped: u64,
    /// The compressor, from the first write until the file is complete.
    compressor: Option<Compressor>,
    compressed: bool,
    /// The number under which the bytes that the file was given are hashed.
    number: FileNumber,
    /// Bytes of the capture before compression.
    raw: u64,
    /// Bytes that the file was given.
    stored: u64,
    /// Frames that the file was given.
    frames: u64,
    /// Batches that have not settled, each with the place where it ends in the file.
    unsettled: VecDeque<(u64, Batch)>,
    /// The sum of the batches that have settled, which end at `whole`.
    settled: Batch,
    whole: u64,
    /// Bytes that were said to have settled.
    reached: u64,
}

impl Part {
    pub(super) fn new(
        number: FileNumber,
        names: Names,
        file: Identity,
        ends: Timestamp,
        kernel_dropped: u64,
        compressed: bool,
    ) -> Self {
        Self {
            number,
            names,
            file,
            ends,
            kernel_dropped,
            compressed,
            compressor: None,
            raw: 0,
            stored: 0,
            frames: 0,
            unsettled: VecDeque::new(),
            settled: Batch::default(),
            whole: 0,
            reached: 0,
        }
    }

    /// Gives `bytes` of the capture to the file, and to be hashed.
    ///
    /// # Errors
    /// The error of the storage. The file may have taken some of the bytes.
    pub(super) fn write(
        &mut self,
        file: &mut dyn StoredFile,
        bytes: Bytes,
        batch: Batch,
        archive: &Archive,
        compressors: Option<&mut Compressors>,
    ) -> io::Result<()> {
        if file.settled() < self.reached {
            return Err(io::Error::other("somebody cut the file"));
        }
        let raw = bytes.len() as u64;
        let stored = match compressors {
            Some(compressors) => {
                let compressor = match &mut self.compressor {
                    Some(compressor) => compressor,
                    none => none.insert(compressors.take()?),
                };
                let mut compressed = Vec::with_capacity(bytes.len());
                compressor.feed(&bytes, &mut compressed)?;
                compressed.into()
            }
            None => bytes,
        };
        self.store(file, stored, archive)?;
        self.raw += raw;
        self.frames += batch.frames;
        self.unsettled.push_back((self.stored, batch));
        Ok(())
    }

    fn store(&mut self, file: &mut dyn StoredFile, bytes: Bytes, archive: &Archive) -> io::Result<()> {
        file.write_all(&bytes)?;
        self.stored += bytes.len() as u64;
        archive.hash(self.number, bytes);
        Ok(())
    }

    /// Completes the file.
    ///
    /// # Errors
    /// As [`Part::write`].
    pub(super) fn finish(
        &mut self,
        file: &mut dyn StoredFile,
        archive: &Archive,
        compressors: Option<&mut Compressors>,
    ) -> io::Result<()> {
        if let Some((mut compressor, compressors)) = self.compressor.take().zip(compressors) {
            let mut end = Vec::new();
            compressor.finish(&mut end)?;
            compressors.give_back(compressor);
            self.store(file, end.into(), archive)?;
        }
        file.flush()
    }

    /// Hears that the first `settled` bytes of the file are there for good. Returns the sum of the
    /// batches that this makes written.
    pub(super) fn settle(&mut self, settled: u64) -> Batch {
        self.reached = self.reached.max(settled);
        let mut written = Batch::default();
        while let Some((end, batch)) = self.unsettled.pop_front_if(|(end, _)| *end <= settled) {
            self.whole = end;
            written.add(batch);
        }
        self.settled.add(written);
        written
    }

    /// Gives up the batches that have not settled, and returns their sum.
    pub(super) fn give_up(&mut self) -> Batch {
        let mut lost = Batch::default();
        self.unsettled.drain(..).for_each(|(_, batch)| lost.add(batch));
        lost
    }

    /// Returns the sum of the batches that have not settled.
    pub(super) fn unsettled(&self) -> Batch {
        let mut all = Batch::default();
        self.unsettled.iter().for_each(|(_, batch)| all.add(*batch));
        all
    }

    /// Says whether something has not settled.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.unsettled.is_empty()
    }

    /// Returns the number of frames that the file was given.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Returns the sum of the batches that are in the file.
    pub(super) fn settled(&self) -> Batch {
        self.settled
    }

    /// Returns the place where the last whole record that is in the file ends.
    pub(super) fn whole(&self) -> u64 {
        self.whole
    }

    /// Says what has the file's name in its place, or what somebody made of the file. The file may
    /// have any length from what has settled to `most`: direct writes are on their way.
    pub(super) fn changed(&self, storage: &dyn Storage, most: u64) -> Option<Changed> {
        changed(storage, &self.names.part, &self.file, self.reached..=most)
    }

    /// Returns the number of bytes of the capture before compression.
    pub(super) fn raw(&self) -> u64 {
        self.raw
    }

    /// Returns the number of bytes given to the file.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    /// Says whether a compressor is in use.
    pub(super) fn compresses(&self) -> bool {
        self.compressor.is_some()
    }

    /// Says whether the file can be complete when it is cut to [`Part::whole`].
    pub(super) fn can_be_cut(&self) -> bool {
        !self.compressed
    }

    /// Returns the least receive time that belongs into a file which is cut at every `interval`. It
    /// is an interval before the file's own begins, as frames may come late. Before that, the clock
    /// was set back.
    pub(super) fn begins(&self, interval: Duration) -> Timestamp {
        self.ends.saturating_sub(interval.saturating_mul(2))
    }

    /// Returns the number under which the bytes that the file was given are hashed.
    pub(super) fn number(&self) -> FileNumber {
        self.number
    }
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").field("names", &self.names).field("stored", &self.stored).finish_non_exhaustive()
    }
}
