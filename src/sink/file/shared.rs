//! The state that all sessions of an output share, and what a failure of the storage means for
//! them.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::plan::FilePlan;
use crate::archive::{Archive, FileNumber};
use crate::condition::Condition;
use crate::episode::Episode;
use crate::ledger::{OutputCounters, OutputDrop, WorkerCounters};
use crate::record::compress::Compressors;
use crate::route::{Registry, SessionId};
use crate::sink::open_files::OpenFiles;
use crate::storage::{Storage, explain};

/// The time after a failure in which the output drops frames before it tries again.
const RETRY: Duration = Duration::from_secs(1);

/// The time for which writes have to succeed until a failure is over: a full disk takes a little
/// now and then.
pub(super) const CALM: Duration = Duration::from_secs(3);

/// The time after a failure in which it counts as one, where nothing is written meanwhile. Without
/// frames nobody can say that it is over.
const RECENT: Duration = Duration::from_secs(10);

/// The output's end of the ledger and the state that all sessions share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) plan: FilePlan,
    /// The end of the names of files.
    pub(super) ending: String,
    pub(super) host: Host,
    pub(super) counters: Arc<OutputCounters>,
    /// The registry that names sessions.
    pub(super) registry: Arc<Registry>,
    /// The counters of the workers, which count what the kernel dropped.
    pub(super) workers: Vec<Arc<WorkerCounters>>,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) open: OpenFiles,
    pub(super) archive: Archive,
    /// The compressors, where files are compressed.
    pub(super) compressors: Option<Compressors>,
    /// Number of the file begun last.
    pub(super) number: FileNumber,
    /// Capacity of all buffers, in bytes.
    pub(super) buffered: usize,
    /// True from the time when all lanes have ended. What is buffered is not written for readers
    /// any more: each file is written and completed in one go, and the next one has its compressor.
    pub(super) is_draining: bool,
    /// The failure of the storage as a whole, while there is one.
    pub(super) outage: Option<Outage>,
    /// Lasts while there are lines about failures of sessions' own files.
    pub(super) told: Episode,
    /// Where it is noted whether captures can be written.
    pub(super) condition: Arc<Condition>,
}

/// The names of this machine and of its system, as captures have them.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) os: String,
}

impl Host {
    pub(super) fn this() -> Self {
        let uname = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let os = format!("{} {} {}", text(uname.sysname()), text(uname.release()), text(uname.machine()));
        Self { name: text(uname.nodename()), os }
    }
}

/// A failure: until `retry`, frames are dropped for `reason` without another attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outage {
    pub(super) reason: OutputDrop,
    pub(super) retry: Instant,
    pub(super) began: Instant,
    /// Time of the first write that succeeded since the last that did not.
    pub(super) calm: Option<Instant>,
    /// Frames that the output had written at the last failure.
    written: u64,
    /// The time of the first failure since when the output has written none.
    alone: Instant,
}

impl Outage {
    /// Says whether it lasts, as far as it can be told at the time `now`. As long as it is not
    /// over, a write that succeeds is no end of it.
    fn lasts(&self, now: Instant) -> bool {
        self.calm.is_some() || now < self.retry + RECENT
    }

    fn words(&self) -> &'static str {
        match self.reason {
            OutputDrop::DiskFull => "there is no room for captures",
            _ => "captures cannot be written",
        }
    }
}

/// Ends an outage that is over.
pub(super) fn end(outage: &mut Option<Outage>, now: Instant) {
    let is_over = |outage: &mut Outage| outage.calm.is_some_and(|calm| now.duration_since(calm) >= CALM);
    if let Some(outage) = outage.take_if(is_over) {
        tracing::info!(seconds = outage.began.elapsed().as_secs(), "writing captures again");
    }
}

/// Says whether an error strikes every file of the output, and not just those of one session.
fn strikes_all(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem) || error.raw_os_error() == Some(libc::EIO)
}

impl Shared {
    /// Counts frames as lost that were written to a file which is gone or changed. `session` is
    /// none where it is forgotten.
    pub(super) fn count_gone(&self, session: Option<SessionId>, frames: u64, bytes: u64) {
        self.counters.gone.add(frames);
        self.counters.gone_bytes.add(bytes);
        match session {
            Some(session) => self.counters.lost.add(session.seat(), frames),
            None => self.counters.lost.add_late(frames),
        }
    }

    /// Notes that `error` costs frames, and says so when this is news. `own` is the session's own
    /// outage. Returns why the frames are lost.
    pub(super) fn fail(&mut self, own: &mut Option<Outage>, what: &str, path: &Path, error: &io::Error) -> OutputDrop {
        let reason = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OutputDrop::DiskFull,
            _ => OutputDrop::WriteError,
        };
        let now = Instant::now();
        let all = strikes_all(error);
        let outage = if all { &mut self.outage } else { own };
        if outage.is_none() && (self.told.every(RETRY) || all) {
            let whose = if all { "all sessions" } else { "this session" };
            tracing::error!(
                path = %path.display(), error = explain(error), reason = reason.label(),
                "cannot {what}; dropping frames of {whose} and trying again every second"
            );
        }
        let began = outage.map_or(now, |outage| outage.began);
        let written = self.counters.written.get();
        let alone = outage.filter(|outage| outage.written == written).map_or(now, |outage| outage.alone);
        *outage = Some(Outage { reason, retry: now + RETRY, began, calm: None, written, alone });
        reason
    }

    /// Drops frames where the room of the file system is about to end and the archive does not make
    /// any.
    pub(super) fn keep_reserve(&mut self) {
        if let Err(error) = self.archive.room_mut().may_write() {
            let directory = self.plan.directory.clone();
            self.fail(&mut None, "write captures", &directory, &error);
        }
    }

    /// Returns why a session has to wait before it tries again, if it has to.
    pub(super) fn waits(&self, own: Option<Outage>) -> Option<OutputDrop> {
        if self.archive.room().is_starved() {
            return Some(OutputDrop::DiskFull);
        }
        // The clock is not asked while all is well.
        own.iter().chain(&self.outage).find(|outage| Instant::now() < outage.retry).map(|outage| outage.reason)
    }

    /// Says why no captures can be written as of `now`; none where some can. `own` has the outages
    /// of single sessions.
    pub(super) fn trouble(&self, own: impl Iterator<Item = Outage>, now: Instant) -> Option<String> {
        let place = || self.plan.directory.display();
        if self.archive.room().is_starved() {
            return Some(format!("there is no room for captures in {}", place()));
        }
        // The failure of one session's files says nothing of others', unless nothing is written
        // from one attempt to the next.
        let written = self.counters.written.get();
        let is_alone = |outage: &Outage| outage.written == written && now >= outage.alone + RETRY * 2;
        let mut outages = self.outage.into_iter().chain(own.filter(is_alone));
        let outage = outages.find(|outage| outage.lasts(now))?;
        Some(format!("{} in {}", outage.words(), place()))
    }

    pub(super) fn next_number(&mut self) -> FileNumber {
        self.number += 1;
        self.number
    }

    /// Returns the number of datagrams that the kernel dropped so far.
    pub(super) fn kernel_dropped(&self) -> u64 {
        self.workers.iter().map(|worker| worker.kernel_dropped.get()).sum()
    }

    /// Notes that a write has succeeded.
    pub(super) fn succeed(&mut self, own: &mut Option<Outage>) {
        for outage in self.outage.iter_mut().chain(own) {
            outage.calm.get_or_insert_with(Instant::now);
        }
    }
}
