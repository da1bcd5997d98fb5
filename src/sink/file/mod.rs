//! The pcap output: rotating files per mirror session.
//!
//! A file is written as `NAME.pcap.part` and renamed to `NAME.pcap` when it is complete. It is cut
//! before it grows beyond the rotation size or number of frames, where the receive time passes a
//! multiple of the rotation interval, and when it is asked for. What becomes of it then is the
//! [`Archive`]'s affair, which has a thread of its own.
//!
//! A chunk is in the order of receipt. Where one session fills it, its records go to the file as
//! they are, in one write. Where many sessions mix, their records are first gathered per session,
//! in buffers that grow with what a session sends and that are written when full, when old, or when
//! all of them together reach the memory they may use. Formats other than nanosecond pcap are
//! encoded into these buffers, and compressed from there.

mod advice;
mod clock;
mod directory;
mod kinds;
mod part;
mod plan;
mod remarks;
mod replans;
mod rest;
mod resting;
mod room;
mod session;
mod shared;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub(crate) use self::clock::Clock;
pub(crate) use self::directory::{DirectoryError, prepare};
pub use self::plan::FilePlan;
pub(crate) use self::replans::Replans;
use self::resting::Resting;
use self::room::Whole;
use self::session::SessionFiles;
use self::shared::{Host, Shared, end};
use super::Sink;
use super::open_files::OpenFiles;
pub(crate) use super::open_files::{allowed as open_files, needed as descriptors_for};
use crate::archive::{Archive, ArchiveError};
use crate::condition::{Condition, Part};
use crate::episode::Episode;
use crate::lane::{Lent, Run};
use crate::ledger::{Output, OutputDrop, WorkerCounters};
use crate::record::Timestamp;
use crate::record::compress::Compressors;
use crate::route::{Registry, SessionId};
use crate::storage::{Disk, Storage};

/// The time from one look to the next that makes sure that the files are still there, and as they
/// were written: somebody may have removed the directory.
const LOOK: Duration = Duration::from_secs(1);

/// The reason why the output could not start.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Nothing can be written there.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The archive that is there cannot be continued.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// The records of a chunk, which stay as long as somebody hashes them.
struct Records(Arc<Lent>);

impl AsRef<[u8]> for Records {
    fn as_ref(&self) -> &[u8] {
        self.0.records()
    }
}

/// The pcap output.
#[derive(Debug)]
pub struct FileSink {
    shared: Shared,
    /// The files of the sessions, by session number.
    sessions: Vec<Option<SessionFiles>>,
    /// How often sessions had been given other labels when that was looked at last.
    labelled: u32,
    next_sweep: Instant,
    /// The time of the next look that makes sure that the files are still there.
    next_look: Instant,
    /// The place where other plans come.
    replans: Arc<Replans>,
}

impl FileSink {
    /// Opens an output that writes by `plan`, names sessions from `registry`, and counts in
    /// `output`. The `workers` count what the kernel drops.
    ///
    /// # Errors
    /// The reason why captures cannot be written there.
    pub fn open(
        plan: FilePlan,
        registry: Arc<Registry>,
        output: &mut Output,
        workers: Vec<Arc<WorkerCounters>>,
    ) -> Result<Self, FileError> {
        prepare(&plan.directory)?;
        Self::on(Arc::new(Disk::below(&plan.directory, plan.direct)), plan, registry, output, workers)
    }

    /// Opens the same output on another storage, in a directory that is there.
    fn on(
        storage: Arc<dyn Storage>,
        plan: FilePlan,
        registry: Arc<Registry>,
        output: &mut Output,
        workers: Vec<Arc<WorkerCounters>>,
    ) -> Result<Self, FileError> {
        let archive = Archive::open(&plan.directory, plan.archive.clone(), plan.encoding(), &storage, output)?;
        advice::give(&plan, storage.space(&plan.directory).ok());
        let mut shared = Shared {
            ending: plan.ending(),
            host: Host::this(),
            counters: output.end(),
            registry,
            workers,
            open: OpenFiles::new(Arc::clone(&storage), plan.open_files),
            storage,
            archive,
            compressors: plan.compression.map(Compressors::new),
            number: 0,
            buffered: 0,
            is_draining: false,
            outage: None,
            told: Episode::default(),
            condition: Arc::default(),
            plan,
        };
        if shared.plan.archive.budget.min_free.is_none() {
            // Nobody makes room, so it is said at once.
            shared.keep_reserve();
        }
        let now = Instant::now();
        let replans = Arc::default();
        let labelled = shared.registry.labelled();
        let next_look = now + LOOK;
        Ok(Self { shared, sessions: Vec::new(), labelled, next_sweep: now, next_look, replans })
    }

    /// Has it note there whether captures can be written.
    pub(crate) fn tells(mut self, condition: Arc<Condition>) -> Self {
        self.shared.condition = condition;
        self
    }

    /// Notes whether captures can be written, as of `now`.
    fn tell(&self, now: Instant) {
        let own = self.sessions.iter().flatten().filter_map(SessionFiles::outage);
        let trouble = self.shared.trouble(own, now);
        self.shared.condition.note(Part::Captures, trouble);
    }

    /// Returns the place for other plans, by which the output writes from then on.
    pub(crate) fn replans(&self) -> Arc<Replans> {
        Arc::clone(&self.replans)
    }

    /// Takes the plan that waits, if there is one.
    fn take_replan(&mut self) {
        if let Some(plan) = self.replans.take() {
            self.replan(plan);
        }
    }

    /// Completes the files that are written to, and goes by another plan from here on. The
    /// directory stays, and so does the memory.
    fn replan(&mut self, plan: FilePlan) {
        self.cut();
        let Shared { plan: now, archive, .. } = &mut self.shared;
        archive.replan(plan.archive.clone(), plan.encoding());
        let compression = (plan.compression != now.compression).then_some(plan.compression);
        *now = FilePlan {
            directory: now.directory.clone(),
            // What the lanes kept before is still on its way here.
            snaplen: plan.snaplen.max(now.snaplen),
            clock: now.clock,
            buffer_memory: now.buffer_memory,
            open_files: now.open_files,
            ..plan
        };
        self.shared.storage.write_by(self.shared.plan.direct);
        self.shared.ending = self.shared.plan.ending();
        if let Some(compression) = compression {
            self.shared.compressors = compression.map(Compressors::new);
        }
        self.next_sweep = Instant::now();
    }

    /// Appends `records`, which are those of the run, and part of `all`.
    fn append(&mut self, run: &Run, records: &[u8], all: &Whole<'_>) {
        let files = session(&mut self.sessions, &self.shared, run.session);
        files.append(run, records, all, &mut self.shared);
        if self.shared.buffered > self.shared.plan.buffer_memory {
            for files in self.sessions.iter_mut().flatten() {
                files.flush(&mut self.shared);
            }
        }
    }

    /// Cuts the largest files where those that are written to leave published ones too little room.
    /// Takes and returns the bytes of the files that are written to.
    fn leave_room_for_published(&mut self, mut open_bytes: u64) -> u64 {
        while self.shared.archive.room().is_crowded(open_bytes) {
            let Some(cut) = self.cut_largest() else { break };
            open_bytes -= cut;
        }
        open_bytes
    }

    /// Cuts the largest of the files that are written to. Returns how many bytes it had.
    fn cut_largest(&mut self) -> Option<u64> {
        let files = self.sessions.iter_mut().flatten().max_by_key(|files| files.open_bytes())?;
        let bytes = files.open_bytes();
        files.publish(&mut self.shared);
        (bytes > 0).then_some(bytes)
    }

    /// Calls the sessions as they are called by now.
    fn follow_labels(&mut self) {
        let labelled = self.shared.registry.labelled();
        if std::mem::replace(&mut self.labelled, labelled) != labelled {
            self.sessions.iter_mut().flatten().for_each(|files| files.follow_label(&mut self.shared));
        }
    }

    /// Counts the frames that were written and are gone.
    fn hear_of_gone(&mut self) {
        for gone in self.shared.archive.gone() {
            let session = self.sessions.iter_mut().flatten().find_map(|files| files.hear_of_gone(gone));
            self.shared.count_gone(session, gone.frames, gone.frame_bytes);
        }
    }
}

/// Returns the files of session `id`, which come into being when it has its first frame.
fn session<'a>(sessions: &'a mut Vec<Option<SessionFiles>>, shared: &Shared, id: SessionId) -> &'a mut SessionFiles {
    if sessions.len() <= id.index() {
        sessions.resize_with(id.index() + 1, || None);
    }
    sessions[id.index()].get_or_insert_with(|| SessionFiles::new(id, shared))
}

impl Sink for FileSink {
    fn behind(&mut self, thousandths: u32) {
        self.shared.storage.behind(thousandths);
    }

    fn consume(&mut self, chunk: &Arc<Lent>) {
        // Its frames may be such as only the new plan allows.
        self.take_replan();
        self.shared.keep_reserve();
        for loss in chunk.losses() {
            let files = session(&mut self.sessions, &self.shared, loss.session);
            files.note(OutputDrop::LaneFull, loss.frames);
        }
        let all = Whole { chunk, records: Bytes::from_owner(Records(Arc::clone(chunk))) };
        for (run, records) in chunk.runs() {
            self.append(run, records, &all);
        }
    }

    /// Completes the files of these sessions.
    fn forget(&mut self, sessions: &[SessionId]) {
        for session in sessions {
            if let Some(mut files) = self.sessions.get_mut(session.index()).and_then(Option::take) {
                files.end(&mut self.shared);
            }
        }
    }

    fn tick(&mut self, now: Instant, time: Timestamp) -> Instant {
        self.take_replan();
        self.follow_labels();
        if now < self.next_sweep {
            return self.next_sweep;
        }
        self.next_sweep = now + self.shared.plan.linger / 4;
        // Frames of before a cut may still be on their way here.
        let clock = self.shared.plan.clock.of(time);
        let grace = self.shared.plan.linger * 4;
        let look = now >= self.next_look;
        if look {
            self.next_look = now + LOOK;
        }
        if look && self.shared.outage.is_some() {
            // No chunk may come by which it would be seen that there is still no room.
            self.shared.keep_reserve();
        }
        let mut open_bytes = 0;
        let mut resting = Resting::default();
        for (place, files) in self.sessions.iter_mut().enumerate() {
            let Some(files) = files else { continue };
            if look {
                files.look(&mut self.shared);
            }
            files.tend(now, clock, grace, &mut self.shared);
            resting.look(place, files, now);
            open_bytes += files.open_bytes();
        }
        end(&mut self.shared.outage, now);
        self.tell(now);
        open_bytes -= resting.complete(&mut self.sessions, &mut self.shared);
        open_bytes = self.leave_room_for_published(open_bytes);
        if look && self.shared.archive.room().is_starved() {
            // All that could make room may be in these files. The archive takes its time to see
            // what one makes.
            open_bytes -= self.cut_largest().unwrap_or(0);
        }
        self.shared.archive.room().set_open_bytes(open_bytes);
        self.hear_of_gone();
        self.next_sweep
    }

    fn cut(&mut self) {
        for files in self.sessions.iter_mut().flatten() {
            files.publish(&mut self.shared);
        }
    }

    fn drain(&mut self) {
        self.shared.is_draining = true;
    }

    fn finish(&mut self) {
        for files in self.sessions.iter_mut().flatten() {
            files.end(&mut self.shared);
        }
        self.shared.archive.finish();
        self.hear_of_gone();
    }
}

#[cfg(test)]
pub(crate) mod tests;
