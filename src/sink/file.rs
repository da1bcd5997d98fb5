//! The pcap output: one rotating file per mirror session.
//!
//! A file is written as `NAME.pcap.part` and renamed to `NAME.pcap` when it is complete. It is cut before it grows beyond the
//! rotation size, and where the receive time passes a multiple of the rotation interval.
//!
//! A chunk is in the order of receipt. Where one session fills it, its records go to the file as they are, in one write. Where many
//! sessions mix, their records are first gathered per session, in buffers that grow with what a session sends and that are
//! written when full, when old, or when all of them together reach the memory they may use.

mod session;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::session::SessionFiles;
use super::Sink;
use super::name;
pub use super::open_files::allowed as allowed_open_files;
use super::open_files::{OpenFiles, create_directory};
use crate::lane::{Chunk, Run};
use crate::ledger::{OutputCounters, OutputDrop};
use crate::record::Timestamp;
use crate::route::{Registry, SessionId};

/// How long after a failure the output drops frames before it tries again.
const RETRY: Duration = Duration::from_secs(1);

/// How often it is made sure that the files are still there: somebody may have removed the directory.
const LOOK: Duration = Duration::from_secs(1);

/// How captures are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePlan {
    /// Where the sessions' directories are.
    pub directory: PathBuf,
    /// Bytes of a file at most, unless a single record is larger.
    pub rotate_size: u64,
    /// A file ends at a multiple of this since the epoch.
    pub rotate_time: Duration,
    /// Bytes kept of a frame, as the file header says.
    pub snaplen: u32,
    /// How long a record stays in a buffer.
    pub linger: Duration,
    /// Bytes that the buffers of all sessions may use.
    pub buffer_memory: usize,
    /// Files open at the same time.
    pub open_files: usize,
}

/// Why a directory cannot take captures.
#[derive(Debug, thiserror::Error)]
#[error("cannot write captures to {directory}: {error}; {advice}", directory = directory.display())]
pub struct DirectoryError {
    directory: PathBuf,
    error: io::Error,
    advice: &'static str,
}

/// Creates `directory` where it is missing and proves that files can be created in it.
///
/// # Errors
/// What the file system says, and what to do.
pub fn prepare(directory: &Path) -> Result<(), DirectoryError> {
    let fail = |error: io::Error| {
        let advice = match error.kind() {
            io::ErrorKind::PermissionDenied => "make it writable for this user, or name another with --write",
            io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only; name another with --write",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room, or name another with --write",
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                "part of that path is a file; name another with --write"
            }
            _ => "name another with --write",
        };
        DirectoryError { directory: directory.to_path_buf(), error, advice }
    };
    create_directory(directory).map_err(fail)?;
    let probe = directory.join(format!(".vxtap-{}", std::process::id()));
    fs::File::create(&probe).map_err(fail)?;
    fs::remove_file(&probe).map_err(fail)
}

/// The output's end of the ledger and the state that all sessions share.
#[derive(Debug)]
struct Shared {
    plan: FilePlan,
    counters: Arc<OutputCounters>,
    open: OpenFiles,
    /// Capacity of all buffers, in bytes.
    buffered: usize,
    /// Where the storage as a whole fails.
    outage: Option<Outage>,
    /// When a line about the failure of a session's own files may be logged again.
    next_log: Instant,
}

/// A failure: until `retry`, frames are dropped for `reason` without another attempt.
#[derive(Debug, Clone, Copy)]
struct Outage {
    reason: OutputDrop,
    retry: Instant,
    began: Instant,
}

/// Whether an error strikes every file of the output, and not just those of one session.
fn strikes_all(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem) || error.raw_os_error() == Some(libc::EIO)
}

impl Shared {
    /// Counts `frames` of a session as lost to `error`, and says so when this is news. `own` is the session's own outage.
    fn fail(&mut self, own: &mut Option<Outage>, what: &str, path: &Path, error: &io::Error, frames: u64) {
        let reason = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OutputDrop::DiskFull,
            _ => OutputDrop::WriteError,
        };
        self.counters.dropped(reason).add(frames);
        let now = Instant::now();
        let all = strikes_all(error);
        let outage = if all { &mut self.outage } else { own };
        if outage.is_none() && (all || now >= self.next_log) {
            let whose = if all { "all sessions" } else { "this session" };
            tracing::error!(
                path = %path.display(), %error, reason = reason.label(),
                "cannot {what}; dropping frames of {whose} and trying again every second"
            );
            self.next_log = now + RETRY;
        }
        let began = outage.map_or(now, |outage| outage.began);
        *outage = Some(Outage { reason, retry: now + RETRY, began });
    }

    /// Whether a session has to wait before it tries again.
    fn waits(&self, own: Option<Outage>) -> bool {
        let outages = [self.outage, own];
        outages.iter().flatten().any(|outage| Instant::now() < outage.retry)
    }

    /// Counts `frames` as lost to the failure that was met last.
    fn lose(&mut self, own: Option<Outage>, frames: u64) {
        let reason = own.or(self.outage).map_or(OutputDrop::WriteError, |outage| outage.reason);
        self.counters.dropped(reason).add(frames);
    }

    /// A write has succeeded.
    fn succeed(&mut self, own: &mut Option<Outage>) {
        for outage in [self.outage.take(), own.take()].into_iter().flatten() {
            tracing::info!(seconds = outage.began.elapsed().as_secs(), "writing captures again");
        }
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
    /// When it is next made sure that the files are still there.
    next_look: Instant,
}

impl FileSink {
    /// An output that writes by `plan` and names sessions from `registry`.
    #[must_use]
    pub fn new(plan: FilePlan, registry: Arc<Registry>, counters: Arc<OutputCounters>) -> Self {
        let open = OpenFiles::new(plan.open_files);
        let shared = Shared { plan, counters, open, buffered: 0, outage: None, next_log: Instant::now() };
        Self { registry, shared, sessions: Vec::new(), next_sweep: Instant::now(), next_look: Instant::now() + LOOK }
    }

    fn append(&mut self, run: &Run, records: &[u8]) {
        session(&mut self.sessions, &self.registry, &self.shared.plan, run.session).append(
            run,
            records,
            &mut self.shared,
        );
        if self.shared.buffered > self.shared.plan.buffer_memory {
            for files in self.sessions.iter_mut().flatten() {
                files.flush(&mut self.shared);
                files.free(&mut self.shared);
            }
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
    sessions[id.index()].get_or_insert_with(|| {
        let name = name::session(registry.key(id));
        SessionFiles::new(id, plan.directory.join(&name), name)
    })
}

impl Sink for FileSink {
    fn consume(&mut self, chunk: &Chunk) {
        for (run, records) in chunk.runs() {
            self.append(run, records);
        }
    }

    fn tick(&mut self, now: Instant) -> Instant {
        if now < self.next_sweep {
            return self.next_sweep;
        }
        self.next_sweep = now + self.shared.plan.linger / 4;
        // Frames of before a cut may still be on their way here.
        let clock = Timestamp::now();
        let grace = self.shared.plan.linger * 4;
        let look = now >= self.next_look;
        if look {
            self.next_look = now + LOOK;
        }
        for files in self.sessions.iter_mut().flatten() {
            if look {
                files.look(&mut self.shared);
            }
            files.tend(now, clock, grace, &mut self.shared);
        }
        self.next_sweep
    }

    fn finish(&mut self) {
        for files in self.sessions.iter_mut().flatten() {
            files.publish(&mut self.shared);
        }
    }
}

#[cfg(test)]
mod tests;
