//! Keeps what the sources of all workers share: the program, and what leads it while it runs.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Once, Weak};
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::MapError;

use super::error::BpfError;
use super::plan::Kept;
use super::program::{Program, wait_for_running};
use super::redirect::is_known;
use crate::session::{Session, Tag};
use crate::source::allowed::Allowed;
use crate::source::fast_path::Counted;

/// The time between two looks at interfaces and addresses.
const TEND: Duration = Duration::from_secs(1);
/// The time for which the readers of rings are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The part that the sources of all workers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) program: Program,
    /// How many records have been read, by the number of the ring.
    read: Vec<Arc<AtomicU64>>,
    /// The number of sources that have not begun yet.
    to_begin: AtomicUsize,
    refused: Once,
    /// True when the sessions of what was redirected have been told.
    counted: AtomicBool,
    /// A channel whose end, when this is dropped, ends the thread that tends to the program.
    _tender: Sender<()>,
}

impl Shared {
    /// Takes the program for this many sources, which count in `read` what they read of each ring,
    /// and starts the thread that tends to it.
    pub(super) fn start(program: Program, sources: usize, read: Vec<Arc<AtomicU64>>) -> Arc<Self> {
        let (tender, told) = channel();
        let (to_begin, refused, counted) = (AtomicUsize::new(sources), Once::new(), AtomicBool::new(false));
        let shared = Arc::new(Self { program, read, to_begin, refused, counted, _tender: tender });
        let weak = Arc::downgrade(&shared);
        let tend = move || {
            while told.recv_timeout(TEND) == Err(RecvTimeoutError::Timeout) {
                let Some(shared) = weak.upgrade() else { break };
                shared.program.tend();
            }
        };
        if let Err(error) = thread::Builder::new().name("vxtap-bpf".into()).spawn(tend) {
            tracing::warn!(%error, "nobody looks after the interfaces of the fast path");
        }
        shared
    }

    /// Notes that the sockets of a source are open. The program begins with the last, so that what
    /// it leaves to the stack finds all sockets open.
    pub(super) fn begin(&self) -> Result<(), MapError> {
        if self.to_begin.fetch_sub(1, Ordering::AcqRel) == 1 { self.program.leave_all(false) } else { Ok(()) }
    }

    /// Has the program leave everything to the stack from now on.
    pub(super) fn refuse(&self) {
        self.refused.call_once(|| self.program.refuse());
    }

    /// Has the program keep enough for `kept` as well, and waits until nothing shorter is in the
    /// rings.
    fn keep_also(&self, kept: Kept) -> Result<(), BpfError> {
        let before = self.program.keep_also(kept)?;
        if before.or(kept) == before {
            return Ok(());
        }
        let read = self.wait_for_readers();
        if read.is_err() {
            self.program.keep(before)?;
        }
        read
    }

    /// Waits until the workers have read all that the program put into the rings before it was told
    /// what it was told last.
    fn wait_for_readers(&self) -> Result<(), BpfError> {
        wait_for_running();
        let end = Instant::now() + PATIENCE;
        for (number, read) in (0..).zip(&self.read) {
            let taken = self.program.counts(number)?.taken;
            while read.load(Ordering::Relaxed) < taken {
                if Instant::now() >= end {
                    return Err(BpfError::Unread(PATIENCE));
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// Returns what was redirected without a copy, by session, to the first source that asks.
    pub(super) fn uncopied_sessions(&self) -> Result<Vec<Counted>, MapError> {
        if self.counted.swap(true, Ordering::Relaxed) { Ok(Vec::new()) } else { self.program.sessions() }
    }
}

/// Leads the program to the interface that frames are to enter.
#[derive(Debug)]
pub(crate) struct Redirect {
    pub(super) shared: Weak<Shared>,
    /// True where workers get a copy of each frame.
    pub(crate) copies: bool,
}

impl Redirect {
    /// Has frames enter the interface `name` from now on.
    ///
    /// # Errors
    /// There is no such interface, or no program may be attached to it.
    pub(crate) fn begin(&self, name: &str) -> Result<(), BpfError> {
        self.shared.upgrade().map_or(Ok(()), |shared| shared.program.redirect(name))
    }

    /// Returns the way to say which sessions are redirected.
    pub(crate) fn marking(&self) -> Marking {
        Marking { shared: Weak::clone(&self.shared) }
    }

    /// Leaves all frames to the workers, for the interface is down or gone.
    ///
    /// # Errors
    /// The kernel refuses the change of a map.
    pub(crate) fn pause(&self) -> Result<(), BpfError> {
        self.shared.upgrade().map_or(Ok(()), |shared| shared.program.pause())
    }
}

/// Tells the program which sessions to redirect, and by which tags.
#[derive(Debug)]
pub(crate) struct Marking {
    shared: Weak<Shared>,
}

impl Marking {
    /// Says whether the program knows this session from others, so that it can be marked.
    pub(crate) fn knows(session: &Session) -> bool {
        is_known(session)
    }

    /// Marks a session: its frames are redirected, with this tag if there is one.
    ///
    /// # Errors
    /// The kernel has no room for it. The workers get the frames.
    pub(crate) fn mark(&self, session: &Session, tag: Option<Tag>) -> Result<(), BpfError> {
        self.shared.upgrade().map_or(Ok(()), |shared| Ok(shared.program.mark(session, tag)?))
    }

    /// Takes the mark off a session, where it has one.
    ///
    /// # Errors
    /// The kernel refuses the change of a map.
    pub(crate) fn unmark(&self, session: &Session) -> Result<(), BpfError> {
        self.shared.upgrade().map_or(Ok(()), |shared| Ok(shared.program.unmark(session)?))
    }

    /// Has the program redirect only sessions that are marked, or all.
    ///
    /// # Errors
    /// The kernel refuses the change of a map.
    pub(crate) fn only_marked(&self, only: bool) -> Result<(), BpfError> {
        self.shared.upgrade().map_or(Ok(()), |shared| Ok(shared.program.redirect_only_marked(only)?))
    }

    /// Waits until the workers have read what came before the program was told this.
    ///
    /// # Errors
    /// A worker does not read.
    pub(crate) fn wait_for_readers(&self) -> Result<(), BpfError> {
        self.shared.upgrade().map_or(Ok(()), |shared| shared.wait_for_readers())
    }
}

/// Tells the program which sessions are allowed and how much of a frame to keep, while it runs.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(super) early: bool,
    pub(super) shared: Weak<Shared>,
}

impl Gate {
    /// Lets through what is allowed before a change or after it. What the program cannot be told it
    /// leaves to the workers.
    pub(crate) fn widen(&self, before: &Allowed, after: &Allowed) {
        if let Some(shared) = self.shared.upgrade().filter(|_| self.early) {
            shared.program.widen(before, after);
        }
    }

    /// Has the program keep what is kept before a change or after it. Nothing that is read after
    /// this was kept shorter.
    ///
    /// # Errors
    /// The kernel refuses the change of a map, or a worker does not read its ring. The program
    /// keeps what it did before.
    pub(crate) fn keep_also(&self, kept: Kept) -> Result<(), BpfError> {
        self.shared.upgrade().map_or(Ok(()), |shared| shared.keep_also(kept))
    }

    /// Has the program keep what is kept after a change. Where it cannot be told, it keeps more.
    pub(crate) fn keep(&self, kept: Kept) {
        if let Some(Err(error)) = self.shared.upgrade().map(|shared| shared.program.keep(kept)) {
            tracing::warn!(%error, "the program on the interface keeps more of a frame than it has to");
        }
    }

    /// Lets through what is allowed after a change. What the program cannot be told it leaves to
    /// the workers.
    pub(crate) fn narrow(&self, after: &Allowed) {
        if let Some(shared) = self.shared.upgrade().filter(|_| self.early) {
            shared.program.allow(after);
        }
    }
}
