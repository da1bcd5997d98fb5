//! The files of one mirror session.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::kinds::{Form, Kinds};
use super::part::{Batch, Part};
use super::remarks::{describe, remarks};
use super::rest::Rest;
use super::room::{Piece, Room, Whole};
use super::shared::{self, Outage, Shared};
use crate::archive::{Broken, Closed, Gone, Losses};
use crate::evidence::names::{self, Names};
use crate::lane::{Chunk, Run};
use crate::ledger::OutputDrop;
use crate::record::contents::{APPLICATION, Opening, Remarks};
use crate::record::format::Format;
use crate::record::{Timestamp, pcap};
use crate::route::SessionId;
use crate::session::{Label, Session};
use crate::storage::{Changed, Storage};

/// Bytes that a session's buffer grows to before it is written. A run of this size or more is
/// written as it is.
const BUFFER: usize = 64 * 1024;

/// The files of one mirror session: those published, and the current one if there is any.
#[derive(Debug)]
pub(super) struct SessionFiles {
    id: SessionId,
    session: Option<Session>,
    /// What people call the session.
    label: Label,
    directory: PathBuf,
    name: String,
    /// The kinds of frames that have come.
    kinds: Kinds,
    /// Number of the last file in the directory.
    sequence: u32,
    current: Option<Part>,
    buffer: Buffer,
    /// Frames lost since the last file ended.
    losses: Losses,
    /// Frames lost that nothing in a file tells of.
    pub(super) untold: u64,
    /// The failure of these files, while they fail and others do not.
    outage: Option<Outage>,
    /// The session's rest, which shows whether frames come.
    rest: Rest,
}

/// The part of a file that is not in it yet: its beginning, and records.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    batch: Batch,
    /// The time at which the oldest of what is here or has not settled came.
    since: Option<Instant>,
    /// Number of bytes that there were when they were written last: as many are expected again.
    usual: usize,
}

impl SessionFiles {
    pub(super) fn new(id: SessionId, shared: &Shared) -> Self {
        let session = shared.registry.session(id);
        let label = shared.registry.label(id);
        let name = names::session(session.as_ref(), label.name.as_deref());
        Self {
            id,
            session,
            label,
            directory: shared.plan.directory.join(&name),
            name,
            kinds: Kinds::default(),
            sequence: 0,
            current: None,
            buffer: Buffer::default(),
            losses: Losses::default(),
            untold: 0,
            outage: None,
            rest: Rest::new(),
        }
    }

    /// Appends the records of a run, which are part of `all`, cutting files where they are full or
    /// their time is over, or where they cannot have frames of this kind.
    pub(super) fn append(&mut self, run: &Run, mut records: &[u8], all: &Whole<'_>, shared: &mut Shared) {
        let mut left = u64::from(run.frames);
        let kinds = self.kinds.and(run);
        if kinds.link_types(&shared.plan) != self.kinds.link_types(&shared.plan) {
            self.publish(shared);
        }
        self.kinds = kinds;
        let form = kinds.form(&shared.plan, run);
        if let Some(reason) = shared.waits(self.outage) {
            return self.lose(reason, left, shared);
        }
        while let Some(first) = pcap::records(records).next() {
            // The storage may have failed since the run began.
            if self.current.is_none()
                && let Some(reason) = shared.waits(self.outage)
            {
                return self.lose(reason, left, shared);
            }
            if self.current.is_none()
                && let Err(error) = self.create(first.timestamp, shared)
            {
                let reason = shared.fail(&mut self.outage, "create a capture file", &self.directory, &error);
                return self.lose(reason, left, shared);
            }
            let Some(room) = self.room(shared) else { return };
            let piece = room.take(shared.plan.format, form, run, records);
            let Some((_, later)) = records.split_at_checked(piece.records.len()) else { return };
            records = later;
            if piece.frames > 0 {
                left -= piece.frames;
                let lost = self.add(&piece, (form, run.is_bare_ip), all, shared);
                if lost > 0 {
                    let reason = shared.waits(self.outage).unwrap_or(OutputDrop::WriteError);
                    return self.lose(reason, lost + left, shared);
                }
            }
            if !records.is_empty() {
                self.publish(shared);
            }
        }
    }

    fn room(&self, shared: &Shared) -> Option<Room> {
        let part = self.current.as_ref()?;
        let plan = &shared.plan;
        let length = part.raw()
            + self.buffer.bytes.len() as u64
            + (plan.format.closing_len() * self.kinds.link_types(plan).len()) as u64;
        let frames = part.frames() + self.buffer.batch.frames;
        Some(Room {
            bytes: plan.rotate_size.saturating_sub(length),
            frames: plan.rotate_frames.map_or(u64::MAX, |limit| limit.saturating_sub(frames)),
            begins: part.begins(plan.rotate_time),
            ends: part.ends,
            empty: frames == 0,
            packet_ids: self.label.packet_ids,
        })
    }

    /// Adds records that belong into the current file. Where the storage fails before all of them
    /// are added, closes the file. Returns the number of frames that were not added.
    fn add(&mut self, piece: &Piece<'_>, of: (Form, bool), all: &Whole<'_>, shared: &mut Shared) -> u64 {
        if shared.plan.format == Format::Pcap && !of.0.is_raw {
            self.add_as_they_are(piece, &all.records, shared)
        } else {
            self.encode(piece, of, all.chunk, shared)
        }
    }

    fn add_as_they_are(&mut self, piece: &Piece<'_>, all: &Bytes, shared: &mut Shared) -> u64 {
        if self.buffer.bytes.len() + piece.records.len() > BUFFER {
            self.write_buffer(shared);
            if self.current.is_none() {
                return piece.frames;
            }
        }
        let frame_bytes = (piece.records.len() as u64).saturating_sub(piece.frames * pcap::RECORD_HEADER_LEN as u64);
        let batch = Batch { frames: piece.frames, frame_bytes, span: Some(piece.span), ..Batch::default() };
        self.buffer.since.get_or_insert_with(Instant::now);
        if piece.records.len() >= BUFFER {
            self.write(all.slice_ref(piece.records), batch, shared);
        } else {
            self.buffer.add(piece.records, shared);
            self.buffer.batch.add(batch);
        }
        0
    }

    /// Adds records in another form than that which chunks have.
    fn encode(&mut self, piece: &Piece<'_>, (form, is_bare): (Form, bool), chunk: &Chunk, shared: &mut Shared) -> u64 {
        let (mut left, mut end) = (piece.frames, piece.start);
        for record in pcap::records(piece.records) {
            if self.current.is_none() {
                return left;
            }
            end += record.len();
            let told = std::mem::take(&mut self.untold);
            let before = self.buffer.bytes.capacity();
            let remarks = remarks(self.session.as_ref(), &self.label, record.frame, chunk.way(end), told);
            let (record, remarks) = (form.of(record), Remarks { interface: form.interface, ..remarks });
            shared.plan.format.push(&mut self.buffer.bytes, &record, remarks);
            shared.buffered += self.buffer.bytes.capacity() - before;
            let span = Some((record.timestamp, record.timestamp));
            self.buffer.batch.add(Batch {
                frames: 1,
                frame_bytes: record.frame.len() as u64,
                bare: is_bare.into(),
                told,
                span,
            });
            self.buffer.since.get_or_insert_with(Instant::now);
            left -= 1;
            if self.buffer.bytes.len() >= BUFFER {
                self.write_buffer(shared);
            }
        }
        0
    }

    /// Writes what is buffered.
    fn write_buffer(&mut self, shared: &mut Shared) {
        if !self.buffer.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.buffer.bytes);
            self.buffer.usual = bytes.len();
            shared.buffered -= bytes.capacity();
            let batch = std::mem::take(&mut self.buffer.batch);
            self.write(bytes.into(), batch, shared);
        }
    }

    /// Writes what is buffered, and sees to it that readers find it in the file.
    pub(super) fn flush(&mut self, shared: &mut Shared) {
        self.write_buffer(shared);
        self.buffer.since = None;
        let Some(part) = self.current.as_mut().filter(|part| part.is_unsettled()) else { return };
        match shared.open.get(self.id, &part.names.part, &part.file).and_then(|file| file.flush()) {
            Ok(()) => self.settle(shared),
            Err(error) => self.break_off("write to a capture file", &error, Batch::default(), shared),
        }
    }

    /// Writes to the current file. Where that fails, the frames are counted as lost and the file is
    /// closed.
    fn write(&mut self, bytes: Bytes, batch: Batch, shared: &mut Shared) {
        let Some(part) = &mut self.current else {
            let reason = shared.waits(self.outage).unwrap_or(OutputDrop::WriteError);
            return self.lose_batch(reason, batch, shared);
        };
        let file = shared.open.get(self.id, &part.names.part, &part.file);
        match file.and_then(|file| part.write(&mut **file, bytes, batch, &shared.archive, shared.compressors.as_mut()))
        {
            Ok(()) => {
                self.settle(shared);
                shared.succeed(&mut self.outage);
            }
            Err(error) => self.break_off("write to a capture file", &error, batch, shared),
        }
    }

    /// Counts what is in the file by now.
    fn settle(&mut self, shared: &mut Shared) {
        let Some(part) = &mut self.current else { return };
        if let Ok(file) = shared.open.get(self.id, &part.names.part, &part.file) {
            let written = part.settle(file.settled());
            shared.counters.written.add(written.frames);
            shared.counters.written_bytes.add(written.frame_bytes);
        }
        if !part.is_unsettled() && self.buffer.bytes.is_empty() {
            self.buffer.since = None;
        }
    }

    /// Breaks the current file off because the storage failed. What is not in the file is lost,
    /// `batch` included. What is in it is kept.
    fn break_off(&mut self, what: &str, error: &io::Error, mut batch: Batch, shared: &mut Shared) {
        self.settle(shared);
        let Some(mut part) = self.current.take() else { return };
        // The attempt that failed may have left more behind what has settled.
        if let Some(changed) = part.changed(&*shared.storage, u64::MAX) {
            self.lose_batch(OutputDrop::WriteError, batch, shared);
            return self.forget(part, changed, shared);
        }
        let reason = shared.fail(&mut self.outage, what, &part.names.part, error);
        batch.add(part.give_up());
        self.lose_batch(reason, batch, shared);
        let whole = part.whole();
        if part.settled().frames == 0 {
            drop(shared.open.take(self.id));
            shared.archive.forget(part.number());
            remove(&*shared.storage, &part.names.part);
        } else if part.can_be_cut()
            && shared.open.get(self.id, &part.names.part, &part.file).and_then(|file| file.cut(whole)).is_ok()
        {
            self.close(&part, whole, shared);
        } else {
            // The file is salvaged as one that a crash left behind.
            drop(shared.open.take(self.id));
            shared.archive.forget(part.number());
            let Batch { frames, frame_bytes, .. } = part.settled();
            let holds = Gone { session: self.session, frames, frame_bytes };
            let Part { names, file, .. } = part;
            shared.archive.salvage(Broken { names, file, written: whole, holds, claim: None });
        }
    }

    /// Makes sure that the current file still has its name, and is as it was written.
    pub(super) fn look(&mut self, shared: &mut Shared) {
        let changed = self.current.as_ref().and_then(|part| part.changed(&*shared.storage, part.stored()));
        if let Some((changed, part)) = changed.and_then(|changed| Some((changed, self.current.take()?))) {
            self.forget(part, changed, shared);
        }
    }

    /// Forgets the file, which somebody removed or changed. The frames that were written to it are
    /// lost, and so are those buffered for it. Anything that has its name stays as it is.
    fn forget(&mut self, mut part: Part, changed: Changed, shared: &mut Shared) {
        drop(shared.open.take(self.id));
        shared.archive.forget(part.number());
        let written = part.settled();
        let (path, frames) = (part.names.part.display(), written.frames);
        let (session, (source, vni)) = (self.label.name.as_deref(), fields(self.session.as_ref()));
        let reason = OutputDrop::WriteError.label();
        match changed {
            Changed::Missing => tracing::error!(
                %path, frames, session, source, vni, reason,
                "somebody removed a capture file that is written to: its frames are lost; beginning another"
            ),
            found => tracing::error!(
                %path, %found, frames, session, source, vni, reason,
                "somebody changed a capture file that is written to: its frames are lost, and what is found stays as it is; beginning another"
            ),
        }
        shared.count_gone(Some(self.id), written.frames, written.frame_bytes);
        self.note(OutputDrop::WriteError, written.frames);
        self.untold += written.told;
        let Buffer { bytes, batch, .. } = std::mem::take(&mut self.buffer);
        shared.buffered -= bytes.capacity();
        for lost in [part.give_up(), batch] {
            self.lose_batch(OutputDrop::WriteError, lost, shared);
        }
    }

    /// Counts frames of this session as lost, which the lanes or this output had to drop.
    fn lose(&mut self, reason: OutputDrop, frames: u64, shared: &Shared) {
        shared.counters.lose(reason, self.id.seat(), frames);
        self.note(reason, frames);
    }

    /// Notes frames that are counted as lost.
    pub(super) fn note(&mut self, reason: OutputDrop, frames: u64) {
        self.losses.add(reason, frames);
        self.untold += frames;
    }

    /// Counts frames as lost whose records may have told of losses: these are to be told again.
    fn lose_batch(&mut self, reason: OutputDrop, batch: Batch, shared: &Shared) {
        self.lose(reason, batch.frames, shared);
        self.untold += batch.told;
    }

    /// Hears that frames turned out to be gone that were in a file already. The archive puts them
    /// on record. Returns the number of the session, if they are its own.
    pub(super) fn hear_of_gone(&mut self, gone: Gone) -> Option<SessionId> {
        let is_own = gone.session == self.session;
        self.untold += if is_own { gone.frames } else { 0 };
        is_own.then_some(self.id)
    }

    /// Does what is due by time. `clock` is the time by which files end, if there is one. A file
    /// ends `grace` later than its frames, so that those on their way here still find it.
    pub(super) fn tend(&mut self, now: Instant, clock: Option<Timestamp>, grace: Duration, shared: &mut Shared) {
        let is_old = |since| now.duration_since(since) >= shared.plan.linger;
        if !shared.is_draining && self.buffer.since.is_some_and(is_old) {
            self.flush(shared);
        }
        let interval = shared.plan.rotate_time;
        let is_over = |part: &Part, clock| part.ends.saturating_add(grace) <= clock || clock < part.begins(interval);
        if self.current.as_ref().zip(clock).is_some_and(|(part, clock)| is_over(part, clock)) {
            self.publish(shared);
        }
        shared::end(&mut self.outage, now);
    }

    /// Says whether the current file has a compressor.
    pub(super) fn compresses(&self) -> bool {
        self.current.as_ref().is_some_and(Part::compresses)
    }

    /// Returns the time since when no frame came, if that is long enough for the file to be
    /// completed.
    pub(super) fn rests(&mut self, now: Instant) -> Option<Instant> {
        let part = self.current.as_ref()?;
        self.rest.look(now, part.number(), part.frames(), self.buffer.batch)
    }

    /// Completes the current file since no frames come.
    pub(super) fn complete_for_rest(&mut self, shared: &mut Shared) {
        self.rest.heed();
        self.publish(shared);
    }

    /// Returns the failure of these files, if they fail and others do not.
    pub(super) fn outage(&self) -> Option<Outage> {
        self.outage
    }

    /// Returns the number of bytes of the file that is written to.
    pub(super) fn open_bytes(&self) -> u64 {
        self.current.as_ref().map_or(0, Part::stored)
    }

    /// Calls the session as the registry does by now. Where its name is another, the current file
    /// is complete, and the next one is in the directory of the new name.
    pub(super) fn follow_label(&mut self, shared: &mut Shared) {
        self.label = shared.registry.label(self.id);
        let name = names::session(self.session.as_ref(), self.label.name.as_deref());
        if name != self.name {
            let (session, (source, vni)) = (self.label.name.as_deref(), fields(self.session.as_ref()));
            tracing::info!(session, source, vni, from = self.name, to = name, "a session has another name");
            self.publish(shared);
            self.directory = shared.plan.directory.join(&name);
            self.name = name;
            self.sequence = 0;
        }
    }

    /// Begins a file whose first frame came at `start`.
    fn create(&mut self, start: Timestamp, shared: &mut Shared) -> io::Result<()> {
        if self.sequence == 0 {
            // As a rule the directory is not there yet, and otherwise only four calls find that
            // out.
            shared.storage.create_directory(&self.directory)?;
        }
        let (names, file) = loop {
            self.sequence += 1;
            let names = Names::new(&self.directory, &self.name, start, self.sequence, &shared.ending);
            // A run before this one may have used the name: what it captured is never overwritten.
            let salvaged = names.recovered(1);
            let taken = [Some(&names.published), salvaged.as_ref()].into_iter().flatten();
            if taken.map(|name| shared.storage.exists(name)).collect::<io::Result<Vec<_>>>()?.contains(&true) {
                continue;
            }
            match shared.open.create(self.id, &names.part) {
                Ok(file) => break (names, file),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && !shared.storage.exists(&self.directory)? => {
                    shared.storage.create_directory(&self.directory)?;
                    self.sequence -= 1;
                }
                Err(error) => return Err(error),
            }
        };
        tracing::debug!(path = %names.part.display(), "capture file begun");
        let ends = start.next_multiple(shared.plan.rotate_time);
        self.current = Some(Part::new(
            shared.next_number(),
            names,
            file,
            ends,
            shared.kernel_dropped(),
            shared.compressors.is_some(),
        ));
        let description = match &self.session {
            Some(session) => describe(session, &self.label, shared.plan.bare_ip),
            None => shared.plan.archive.wording.put("mirror sessions beyond --max-sessions").into_owned(),
        };
        let opening = shared.plan.format.opening(&Opening {
            link_types: self.kinds.link_types(&shared.plan),
            snaplen: shared.plan.snaplen,
            interface: &self.name,
            description: &description,
            hardware: &shared.host.name,
            os: &shared.host.os,
            application: APPLICATION,
        });
        self.buffer.add(&opening, shared);
        Ok(())
    }

    /// Completes the current file: writes what is buffered, and gives the file to the archive,
    /// which publishes it.
    pub(super) fn publish(&mut self, shared: &mut Shared) {
        self.write_buffer(shared);
        let Some(part) = &mut self.current else { return };
        let closing: Vec<u8> = {
            let mut all = part.settled();
            all.add(part.unsettled());
            let kernel_dropped = shared.kernel_dropped() - part.kernel_dropped;
            // The losses of the file before count too, where the storage failed before it could
            // tell.
            let statistics = self.kinds.statistics(&shared.plan, all, kernel_dropped, all.told + self.untold);
            statistics.flat_map(|of| shared.plan.format.closing(&of)).collect()
        };
        if !closing.is_empty() {
            // As with records, what it tells counts as told once it is in the file.
            let told = std::mem::take(&mut self.untold);
            self.write(closing.into(), Batch { told, ..Batch::default() }, shared);
        }
        let Some(part) = &mut self.current else { return };
        let file = shared.open.get(self.id, &part.names.part, &part.file);
        if let Err(error) = file.and_then(|file| part.finish(&mut **file, &shared.archive, shared.compressors.as_mut()))
        {
            return self.break_off("complete a capture file", &error, Batch::default(), shared);
        }
        self.settle(shared);
        self.buffer.since = None;
        if self.current.as_ref().is_some_and(Part::is_unsettled) {
            let error = io::Error::other("somebody cut the file");
            return self.break_off("complete a capture file", &error, Batch::default(), shared);
        }
        let Some(part) = self.current.take() else { return };
        let length = part.stored();
        self.close(&part, length, shared);
    }

    /// Gives the file, which is complete with `length` bytes, to the archive, which publishes it.
    fn close(&mut self, part: &Part, length: u64, shared: &mut Shared) {
        drop(shared.open.take(self.id));
        if length != part.stored() {
            shared.archive.forget(part.number());
        }
        shared.archive.publish(Closed {
            names: part.names.clone(),
            file: part.file,
            session: self.session,
            tag: self.label.tag,
            span: part.settled().span.unwrap_or_default(),
            frames: part.settled().frames,
            frame_bytes: part.settled().frame_bytes,
            bytes: length,
            losses: std::mem::take(&mut self.losses),
            kernel_dropped: shared.kernel_dropped() - part.kernel_dropped,
            // Else the storage failed, and the file was cut.
            number: (length == part.stored()).then(|| part.number()),
            hash: None,
            announced: None,
            encoding: None,
            claim: None,
        });
    }

    /// Ends the files of the session: publishes the current one, and tells the losses that belong
    /// to none.
    pub(super) fn end(&mut self, shared: &mut Shared) {
        self.publish(shared);
        if self.losses.total() > 0 {
            shared.archive.lost(self.session, std::mem::take(&mut self.losses));
        }
    }

    /// Acts as if the time to try again had come.
    #[cfg(test)]
    pub(super) fn retry_now(&mut self) {
        self.outage.iter_mut().for_each(|outage| outage.retry = Instant::now());
    }
}

impl Buffer {
    fn add(&mut self, bytes: &[u8], shared: &mut Shared) {
        let before = self.bytes.capacity();
        if before == 0 {
            self.bytes.reserve(self.usual.max(bytes.len()));
        }
        self.bytes.extend_from_slice(bytes);
        shared.buffered += self.bytes.capacity() - before;
    }
}

/// Returns what a log line has of a session besides its name: the source and the VNI.
fn fields(session: Option<&Session>) -> (Option<String>, Option<u32>) {
    (session.map(|session| session.address().to_string()), session.map(|session| session.vni.get()))
}

/// Removes a file that holds no frame.
fn remove(storage: &dyn Storage, part: &Path) {
    if let Err(error) = storage.remove(part) {
        tracing::warn!(path = %part.display(), %error, "cannot remove an empty capture file");
    }
}
