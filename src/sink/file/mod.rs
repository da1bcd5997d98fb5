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
mod part;
mod rest;
mod session;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use self::clock::Clock;
use self::clock::Time;
use self::rest::Resting;
use self::session::SessionFiles;
use super::Sink;
use super::open_files::OpenFiles;
pub use super::open_files::allowed as open_files;
use crate::archive::{Archive, ArchiveError, ArchivePlan, FileNumber, Labels};
use crate::lane::{Lent, Run};
use crate::ledger::{Output, OutputCounters, OutputDrop, WorkerCounters};
use crate::record::compress::{Compression, Compressors};
use crate::record::format::Format;
use crate::route::{Registry, SessionId};
use crate::storage::{Direct, Disk, Storage, explain, probe};

/// How long after a failure the output drops frames before it tries again.
const RETRY: Duration = Duration::from_secs(1);

/// How long writes have to succeed until a failure is over: a full disk takes a little now and
/// then.
const CALM: Duration = Duration::from_secs(3);

/// How often it is made sure that the files are still there, and as they were written: somebody may
/// have removed the directory.
const LOOK: Duration = Duration::from_secs(1);

/// How captures are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePlan {
    /// Where the sessions' directories are.
    pub directory: PathBuf,
    /// Bytes of a file at most, before compression, unless a single record is larger.
    pub rotate_size: u64,
    /// Frames of a file at most.
    pub rotate_frames: Option<u64>,
    /// A file ends at a multiple of this since the epoch.
    pub rotate_time: Duration,
    /// The time of which that is a multiple.
    pub clock: Clock,
    /// Bytes kept of a frame, as the file header says.
    pub snaplen: u32,
    /// How long a record stays in a buffer.
    pub linger: Duration,
    /// Bytes that the buffers of all sessions may use.
    pub buffer_memory: usize,
    /// Files open at the same time.
    pub open_files: usize,
    /// What the files look like.
    pub format: Format,
    /// How they are compressed.
    pub compression: Option<Compression>,
    /// Which files are written past the page cache.
    pub direct: Direct,
    /// What becomes of complete files.
    pub archive: ArchivePlan,
}

impl FilePlan {
    /// Plain files of whole frames below `directory`, each of a session, which nothing cuts.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_path_buf(),
            rotate_size: u64::MAX,
            rotate_frames: None,
            rotate_time: Duration::from_secs(1 << 40),
            clock: Clock::Wall,
            snaplen: 262_144,
            linger: Duration::from_secs(1),
            buffer_memory: 16 << 20,
            open_files: 16,
            format: Format::Pcap,
            compression: None,
            direct: Direct::Off,
            archive: ArchivePlan::default(),
        }
    }

    /// How the names of files end.
    #[must_use]
    fn ending(&self) -> String {
        let format = self.format.extension();
        self.compression.map_or_else(|| format.into(), |compression| format!("{format}.{}", compression.extension()))
    }
}

/// Why a directory cannot take captures.
#[derive(Debug, thiserror::Error)]
#[error("cannot write captures to {directory}: {error}; {advice}", directory = directory.display())]
pub struct DirectoryError {
    directory: PathBuf,
    error: io::Error,
    advice: &'static str,
}

/// Why the output could not start.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Nothing can be written there.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// What is there cannot be continued.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// Of /proc and its like, and of what `chattr +i` protects from everybody.
const NO_PLACE: &str =
    "that is no place for files: a virtual file system, or marked immutable; name another with --write";

/// Of a mount that is read-only, for all or, by the protection of a unit, for this process alone.
const READ_ONLY: &str = "it is read-only for this process: name another with --write, or in a unit of systemd allow this one \
                         (`systemctl edit` the unit: [Service] ReadWritePaths=DIR)";

/// Creates `directory` where it is missing and proves that files can be created in it.
///
/// # Errors
/// What the file system says, and what to do.
pub fn prepare(directory: &Path) -> Result<(), DirectoryError> {
    let fail = |error: io::Error| {
        let advice = match error.kind() {
            _ if error.raw_os_error() == Some(libc::EPERM) => NO_PLACE,
            // What is missing above it would have been created.
            io::ErrorKind::NotFound => NO_PLACE,
            io::ErrorKind::PermissionDenied => "make it writable for this user, or name another with --write",
            io::ErrorKind::ReadOnlyFilesystem => READ_ONLY,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room, or name another with --write",
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                "part of that path is a file; name another with --write"
            }
            _ => "name another with --write",
        };
        DirectoryError { directory: directory.to_path_buf(), error, advice }
    };
    Disk::default().create_directory(directory).map_err(fail)?;
    probe(directory).map_err(fail)
}

/// The output's end of the ledger and the state that all sessions share.
#[derive(Debug)]
struct Shared {
    plan: FilePlan,
    /// How the names of files end.
    ending: String,
    host: Host,
    counters: Arc<OutputCounters>,
    /// What the kernel dropped is counted there.
    workers: Vec<Arc<WorkerCounters>>,
    storage: Arc<dyn Storage>,
    open: OpenFiles,
    archive: Archive,
    /// Where files are compressed.
    compressors: Option<Compressors>,
    /// Number of the file begun last.
    number: FileNumber,
    /// Capacity of all buffers, in bytes.
    buffered: usize,
    /// True from the time when all lanes have ended. What is buffered is not written for readers
    /// any more: each file is written and completed in one go, and the next one has its compressor.
    is_draining: bool,
    /// Where the storage as a whole fails.
    outage: Option<Outage>,
    /// When a line about the failure of a session's own files may be logged again.
    next_log: Instant,
}

/// What captures say of this machine.
#[derive(Debug)]
struct Host {
    name: String,
    os: String,
}

impl Host {
    fn this() -> Self {
        let uname = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let os = format!("{} {} {}", text(uname.sysname()), text(uname.release()), text(uname.machine()));
        Self { name: text(uname.nodename()), os }
    }
}

/// A failure: until `retry`, frames are dropped for `reason` without another attempt.
#[derive(Debug, Clone, Copy)]
struct Outage {
    reason: OutputDrop,
    retry: Instant,
    began: Instant,
    /// The first write that succeeded since the last that did not.
    calm: Option<Instant>,
}

/// Ends an outage that is over.
fn end(outage: &mut Option<Outage>, now: Instant) {
    let is_over = |outage: &mut Outage| outage.calm.is_some_and(|calm| now.duration_since(calm) >= CALM);
    if let Some(outage) = outage.take_if(is_over) {
        tracing::info!(seconds = outage.began.elapsed().as_secs(), "writing captures again");
    }
}

/// Whether an error strikes every file of the output, and not just those of one session.
fn strikes_all(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem) || error.raw_os_error() == Some(libc::EIO)
}

impl Shared {
    /// Counts frames as lost that were written to a file which is gone or changed.
    fn count_gone(&self, frames: u64, bytes: u64) {
        self.counters.gone.add(frames);
        self.counters.gone_bytes.add(bytes);
    }

    /// Notes that `error` costs frames, and says so when this is news. `own` is the session's own
    /// outage. Returns why the frames are lost.
    fn fail(&mut self, own: &mut Option<Outage>, what: &str, path: &Path, error: &io::Error) -> OutputDrop {
        let reason = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OutputDrop::DiskFull,
            _ => OutputDrop::WriteError,
        };
        let now = Instant::now();
        let all = strikes_all(error);
        let outage = if all { &mut self.outage } else { own };
        if outage.is_none() && (all || now >= self.next_log) {
            let whose = if all { "all sessions" } else { "this session" };
            tracing::error!(
                path = %path.display(), error = explain(error), reason = reason.label(),
                "cannot {what}; dropping frames of {whose} and trying again every second"
            );
            self.next_log = now + RETRY;
        }
        let began = outage.map_or(now, |outage| outage.began);
        *outage = Some(Outage { reason, retry: now + RETRY, began, calm: None });
        reason
    }

    /// Drops frames where the room of the file system is about to end and the archive does not make
    /// any.
    fn keep_reserve(&mut self) {
        if let Err(error) = self.archive.room_mut().may_write() {
            let directory = self.plan.directory.clone();
            self.fail(&mut None, "write captures", &directory, &error);
        }
    }

    /// Why a session has to wait before it tries again, if it has to.
    fn waits(&self, own: Option<Outage>) -> Option<OutputDrop> {
        if self.archive.room().is_starved() {
            return Some(OutputDrop::DiskFull);
        }
        // The clock is not asked while all is well.
        own.iter().chain(&self.outage).find(|outage| Instant::now() < outage.retry).map(|outage| outage.reason)
    }

    fn next_number(&mut self) -> FileNumber {
        self.number += 1;
        self.number
    }

    /// Datagrams that the kernel dropped so far.
    fn kernel_dropped(&self) -> u64 {
        self.workers.iter().map(|worker| worker.kernel_dropped.get()).sum()
    }

    /// A write has succeeded.
    fn succeed(&mut self, own: &mut Option<Outage>) {
        for outage in self.outage.iter_mut().chain(own) {
            outage.calm.get_or_insert_with(Instant::now);
        }
    }
}

/// The records of a chunk, which who hashes them holds on to.
struct Records(Arc<Lent>);

impl AsRef<[u8]> for Records {
    fn as_ref(&self) -> &[u8] {
        self.0.records()
    }
}

/// The pcap output.
#[derive(Debug)]
pub struct FileSink {
    registry: Arc<Registry>,
    shared: Shared,
    /// By session number.
    sessions: Vec<Option<SessionFiles>>,
    next_sweep: Instant,
    /// By which files end.
    time: Time,
    /// When it is next made sure that the files are still there.
    next_look: Instant,
}

impl FileSink {
    /// An output that writes by `plan`, names sessions from `registry`, and counts in `output`.
    /// `workers` count what the kernel drops.
    ///
    /// # Errors
    /// Why captures cannot be written there.
    pub fn open(
        plan: FilePlan,
        registry: Arc<Registry>,
        output: &mut Output,
        workers: Vec<Arc<WorkerCounters>>,
    ) -> Result<Self, FileError> {
        prepare(&plan.directory)?;
        Self::on(Arc::new(Disk::below(&plan.directory, plan.direct)), plan, registry, output, workers)
    }

    /// The same on another storage, in a directory that is there.
    fn on(
        storage: Arc<dyn Storage>,
        plan: FilePlan,
        registry: Arc<Registry>,
        output: &mut Output,
        workers: Vec<Arc<WorkerCounters>>,
    ) -> Result<Self, FileError> {
        let labels = Labels {
            format: plan.format.to_string(),
            compression: plan.compression.map(|compression| compression.to_string()),
        };
        let archive = Archive::open(&plan.directory, plan.archive.clone(), labels, &storage, output)?;
        advice::give(&plan, storage.space(&plan.directory).ok());
        let mut shared = Shared {
            ending: plan.ending(),
            host: Host::this(),
            counters: output.end(),
            workers,
            open: OpenFiles::new(Arc::clone(&storage), plan.open_files),
            storage,
            archive,
            compressors: plan.compression.map(Compressors::new),
            number: 0,
            buffered: 0,
            is_draining: false,
            outage: None,
            next_log: Instant::now(),
            plan,
        };
        if shared.plan.archive.budget.min_free.is_none() {
            // Nobody makes room, so it is said at once.
            shared.keep_reserve();
        }
        let now = Instant::now();
        let time = Time::by(shared.plan.clock);
        Ok(Self { registry, shared, sessions: Vec::new(), next_sweep: now, time, next_look: now + LOOK })
    }

    /// `records` are those of the run, and part of `all`.
    fn append(&mut self, run: &Run, records: &[u8], all: &Bytes) {
        let files = session(&mut self.sessions, &self.registry, &self.shared.plan, run.session);
        files.append(run, records, all, &mut self.shared);
        self.time.hear(run.latest);
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

    /// Counts what was written and is gone.
    fn hear_of_gone(&mut self) {
        for gone in self.shared.archive.gone() {
            self.sessions.iter_mut().flatten().for_each(|files| files.hear_of_gone(gone));
            self.shared.count_gone(gone.frames, gone.frame_bytes);
        }
    }
}

/// The files of session `id`, which come into being when it has its first frame.
fn session<'a>(
    sessions: &'a mut Vec<Option<SessionFiles>>,
    registry: &Registry,
    plan: &FilePlan,
    id: SessionId,
) -> &'a mut SessionFiles {
    if sessions.len() <= id.index() {
        sessions.resize_with(id.index() + 1, || None);
    }
    sessions[id.index()].get_or_insert_with(|| SessionFiles::new(id, registry.session(id), &plan.directory))
}

impl Sink for FileSink {
    fn behind(&mut self, thousandths: u32) {
        self.shared.storage.behind(thousandths);
    }

    fn consume(&mut self, chunk: &Arc<Lent>) {
        self.shared.keep_reserve();
        for loss in chunk.losses() {
            let files = session(&mut self.sessions, &self.registry, &self.shared.plan, loss.session);
            files.note(OutputDrop::LaneFull, loss.frames);
        }
        let all = Bytes::from_owner(Records(Arc::clone(chunk)));
        for (run, records) in chunk.runs() {
            self.append(run, records, &all);
        }
    }

    fn tick(&mut self, now: Instant) -> Instant {
        if now < self.next_sweep {
            return self.next_sweep;
        }
        self.next_sweep = now + self.shared.plan.linger / 4;
        // Frames of before a cut may still be on their way here.
        let clock = self.time.now();
        let grace = self.shared.plan.linger * 4;
        let look = now >= self.next_look;
        if look {
            self.next_look = now + LOOK;
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
