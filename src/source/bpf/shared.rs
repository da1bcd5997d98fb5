//! Keeps what the sources of all workers share: the program, and what leads it while it runs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Once, Weak};
use std::thread;
use std::time::Duration;

use aya::maps::MapError;

use super::error::BpfError;
use super::program::Program;
use crate::source::allowed::Allowed;
use crate::source::fast_path::Counted;

/// The time between two looks at interfaces and addresses.
const TEND: Duration = Duration::from_secs(1);

/// The part that the sources of all workers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) program: Program,
    /// The number of sources that have not begun yet.
    to_begin: AtomicUsize,
    refused: Once,
    /// True when the sessions of what was redirected have been told.
    counted: AtomicBool,
    /// A channel whose end, when this is dropped, ends the thread that tends to the program.
    _tender: Sender<()>,
}

impl Shared {
    /// Takes the program for this many sources, and starts the thread that tends to it.
    pub(super) fn start(program: Program, sources: usize) -> Arc<Self> {
        let (tender, told) = channel();
        let (to_begin, refused, counted) = (AtomicUsize::new(sources), Once::new(), AtomicBool::new(false));
        let shared = Arc::new(Self { program, to_begin, refused, counted, _tender: tender });
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

    /// Returns what was redirected without a copy, by session, to the first source that asks.
    pub(super) fn uncopied_sessions(&self) -> Result<Vec<Counted>, MapError> {
        if self.counted.swap(true, Ordering::Relaxed) { Ok(Vec::new()) } else { self.program.sessions() }
    }
}

/// Leads the program to the interface that frames are to enter.
#[derive(Debug)]
pub(crate) struct Redirect {
    pub(super) shared: Weak<Shared>,
}

impl Redirect {
    /// Has frames enter the interface `name` from now on.
    ///
    /// # Errors
    /// There is no such interface, or no program may be attached to it.
    pub(crate) fn begin(&self, name: &str) -> Result<(), BpfError> {
        self.shared.upgrade().map_or(Ok(()), |shared| shared.program.redirect(name))
    }

    /// Leaves all frames to the workers, for the interface is down or gone.
    ///
    /// # Errors
    /// The kernel refuses the change of a map.
    pub(crate) fn pause(&self) -> Result<(), BpfError> {
        self.shared.upgrade().map_or(Ok(()), |shared| shared.program.pause())
    }
}

/// Tells the program which sessions are allowed, while it runs.
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

    /// Lets through what is allowed after a change. What the program cannot be told it leaves to
    /// the workers.
    pub(crate) fn narrow(&self, after: &Allowed) {
        if let Some(shared) = self.shared.upgrade().filter(|_| self.early) {
            shared.program.allow(after);
        }
    }
}
