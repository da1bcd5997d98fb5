//! A program in the kernel gives account of what it did in front of the workers.

use std::fmt::Debug;
use std::io;
use std::ops::AddAssign;

use crate::record::Timestamp;
use crate::session::Session;

/// The account of a program that works in front of one worker.
pub(crate) trait Account: Send + Debug {
    /// Returns what the program did so far.
    ///
    /// # Errors
    /// A map of the program cannot be read. The next attempt may tell all of it.
    fn so_far(&mut self) -> io::Result<FastPath>;

    /// Returns what the program redirected without a copy, by session. It is asked once for all
    /// workers together, when the program redirects no more.
    ///
    /// # Errors
    /// A map of the program cannot be read. Then nobody knows the sessions of these frames.
    fn uncopied_sessions(&mut self) -> io::Result<Vec<Counted>>;
}

/// Counts what a program in the kernel did with datagrams before the worker saw them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FastPath {
    /// Datagrams put into a ring.
    pub taken: u64,
    /// Datagrams read from the ring.
    pub read: u64,
    /// Datagrams lost for want of room in the ring; part of what the kernel dropped.
    pub ring_full: u64,
    /// Whole datagrams with a faultless header, of a session that is not allowed, dropped.
    pub unselected: u64,
    /// Bytes of the payloads of these.
    pub unselected_bytes: u64,
    /// Packets of any kind that were left to the stack.
    pub passed: u64,
    /// Datagrams among the passed ones, for the sensor, from an address that no other host has.
    pub martian: u64,
    /// Counts of what was redirected into an interface, where that was asked for.
    pub redirect: Redirected,
}

/// Counts what a program in the kernel did with datagrams whose frames it was to redirect into an
/// interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Redirected {
    /// Frames redirected.
    pub redirected: u64,
    /// Redirected frames that came through the interface, where sniffers see them.
    pub entered: u64,
    /// Bytes of these frames.
    pub entered_bytes: u64,
    /// Datagrams left to user space, since something about them is odd.
    pub odd: u64,
    /// Datagrams left to user space, since their headers could not be taken off.
    pub failed: u64,
    /// Datagrams left to user space, since there was no interface.
    pub no_interface: u64,
    /// Datagrams left to user space, since their session is not marked to be redirected.
    pub unmarked: u64,
    /// Frames redirected without a copy for user space, which knows of these from here only.
    pub uncopied: u64,
    /// Bytes of the payloads of uncopied frames.
    pub uncopied_bytes: u64,
    /// Uncopied frames that the mirror cut.
    pub uncopied_cut: u64,
    /// Uncopied frames of sessions beyond the limit.
    pub overflow: u64,
    /// Bytes of the frames beyond the limit.
    pub overflow_bytes: u64,
}

impl Redirected {
    /// Lends the counters, in the order in which the program has them.
    fn words(&mut self) -> [&mut u64; 12] {
        [
            &mut self.redirected,
            &mut self.entered,
            &mut self.entered_bytes,
            &mut self.odd,
            &mut self.failed,
            &mut self.no_interface,
            &mut self.unmarked,
            &mut self.uncopied,
            &mut self.uncopied_bytes,
            &mut self.uncopied_cut,
            &mut self.overflow,
            &mut self.overflow_bytes,
        ]
    }

    /// Returns what has been added since `before`.
    #[must_use]
    pub(crate) fn since(mut self, mut before: Self) -> Self {
        self.words().into_iter().zip(before.words()).for_each(|(now, before)| *now = now.saturating_sub(*before));
        self
    }
}

impl From<[u64; 12]> for Redirected {
    fn from(words: [u64; 12]) -> Self {
        let mut new = Self::default();
        new.words().into_iter().zip(words).for_each(|(to, from)| *to = from);
        new
    }
}

impl AddAssign for Redirected {
    fn add_assign(&mut self, mut more: Self) {
        self.words().into_iter().zip(more.words()).for_each(|(sum, more)| *sum += *more);
    }
}

/// The frames of a session that were counted without the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    /// The session.
    pub session: Session,
    /// Frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Receive time of the first.
    pub first: Timestamp,
    /// Receive time of the last.
    pub last: Timestamp,
}
