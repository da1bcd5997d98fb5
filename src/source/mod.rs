//! Where datagrams come from.

mod allowed;
pub mod bpf;
mod copies;
mod drops;
mod open;
mod owner;
mod source_set;
pub mod udp;

pub use allowed::{AllowList, AllowListReader, Allowed, TooMany};
pub use open::{OpenError, Opened, SourcePlan, Sources, Way, open};
pub use source_set::SourceSet;

use std::fmt::Debug;
use std::io;
use std::net::Ipv6Addr;
use std::ops::AddAssign;
use std::time::Duration;

use crate::record::Timestamp;
use crate::session::Session;
use crate::wire::Encapsulation;

/// A received datagram, lent to the worker. Its memory goes back to the kernel afterwards.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// The UDP payload: the header of the encapsulation and the inner frame.
    pub payload: &'a [u8],
    /// Bytes of the payload as it arrived. Fewer are here only if the source was told to keep no more.
    pub length: usize,
    /// True where the end of the payload is missing although it was wanted.
    pub truncated: bool,
    /// True where the source verified the UDP checksum, and it is not that of the datagram.
    pub wrong_checksum: bool,
    /// A copy: a program in the kernel has redirected the frame into an interface.
    pub redirected: bool,
    /// Outer source address, as [`crate::wire::source`] has it.
    pub source: Ipv6Addr,
    /// The UDP port of this host that it came to.
    pub port: u16,
    /// How the frame in it is wrapped, which the port decides.
    pub encapsulation: Encapsulation,
    /// Receive time by the kernel's clock.
    pub timestamp: Timestamp,
}

impl Datagram<'_> {
    /// A datagram without payload, from nobody: what a literal builds on that names only some of the fields.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            payload: &[],
            length: 0,
            truncated: false,
            wrong_checksum: false,
            redirected: false,
            source: Ipv6Addr::UNSPECIFIED,
            port: 0,
            encapsulation: Encapsulation::Vxlan,
            timestamp: Timestamp::from_ns(0),
        }
    }
}

/// What a program in the kernel did with datagrams before the worker saw them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FastPath {
    /// Put into a ring.
    pub taken: u64,
    /// Read from the ring.
    pub read: u64,
    /// Lost for want of room in the ring; part of what the kernel dropped.
    pub ring_full: u64,
    /// Whole VXLAN of a session that is not allowed, dropped.
    pub unselected: u64,
    /// Bytes of their payloads.
    pub unselected_bytes: u64,
    /// Packets of any kind that were left to the stack.
    pub passed: u64,
    /// Of these, datagrams for the sensor from an address that no other host has.
    pub martian: u64,
    /// What was redirected into an interface, where that was asked for.
    pub redirect: Redirected,
}

/// What a program in the kernel did with datagrams whose frames it was to redirect into an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Redirected {
    /// Redirected.
    pub redirected: u64,
    /// Of that, come through the interface, where sniffers see it.
    pub entered: u64,
    /// Bytes of these frames.
    pub entered_bytes: u64,
    /// Left to user space, since something about them is odd.
    pub odd: u64,
    /// Left to user space, since their headers could not be taken off.
    pub failed: u64,
    /// Left to user space, since there was no interface.
    pub no_interface: u64,
    /// Redirected without a copy for user space, which knows of these from here only.
    pub uncopied: u64,
    /// Bytes of their payloads.
    pub uncopied_bytes: u64,
    /// Of these, cut by the mirror.
    pub uncopied_cut: u64,
    /// Of these, of sessions beyond the limit.
    pub overflow: u64,
    /// Bytes of their frames.
    pub overflow_bytes: u64,
}

impl Redirected {
    /// The counters, in the order in which the program has them.
    fn words(&mut self) -> [&mut u64; 11] {
        [
            &mut self.redirected,
            &mut self.entered,
            &mut self.entered_bytes,
            &mut self.odd,
            &mut self.failed,
            &mut self.no_interface,
            &mut self.uncopied,
            &mut self.uncopied_bytes,
            &mut self.uncopied_cut,
            &mut self.overflow,
            &mut self.overflow_bytes,
        ]
    }

    /// What came to this since `before`.
    #[must_use]
    pub fn since(mut self, mut before: Self) -> Self {
        self.words().into_iter().zip(before.words()).for_each(|(now, before)| *now = now.saturating_sub(*before));
        self
    }
}

impl From<[u64; 11]> for Redirected {
    fn from(words: [u64; 11]) -> Self {
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

/// What was counted of a session without the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Which.
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

/// A way to receive datagrams, owned by one worker.
pub trait Source {
    /// Accepts datagrams from now on. What came before was refused, and is nowhere counted: nobody was listening yet.
    ///
    /// # Errors
    /// A failure after which the source is of no more use.
    fn begin(&mut self) -> io::Result<()>;

    /// Lends what has come to `deliver`, at most `limit` datagrams, and returns how many; 0 where nothing has come.
    ///
    /// # Errors
    /// A failure after which the source is of no more use.
    fn receive(&mut self, limit: usize, deliver: &mut impl FnMut(&Datagram<'_>)) -> io::Result<usize>;

    /// Waits until there is something to receive, up to `timeout`.
    ///
    /// # Errors
    /// A failure after which the source is of no more use.
    fn wait(&mut self, timeout: Duration) -> io::Result<()>;

    /// How long datagrams can be left to gather without loss, at the highest rate to be expected.
    fn patience(&self) -> Duration;

    /// Datagrams the kernel has dropped so far instead of delivering them here.
    fn kernel_dropped(&mut self) -> u64;

    /// Copies of broadcast and multicast datagrams that the kernel has delivered here, and another
    /// worker has received.
    fn copies(&self) -> u64 {
        0
    }

    /// Refuses every further datagram; what has come before can still be received.
    fn refuse_further(&mut self);

    /// Datagrams refused since [`Source::refuse_further`].
    fn refused(&mut self) -> u64;

    /// What a program in the kernel did so far, where there is one.
    fn fast_path(&mut self) -> FastPath {
        FastPath::default()
    }

    /// What a program in the kernel redirected without a copy, by session; after [`Source::refuse_further`], and once for all sources together.
    ///
    /// # Errors
    /// What the kernel says; then nobody knows the sessions of these frames.
    fn uncopied_sessions(&mut self) -> io::Result<Vec<Counted>> {
        Ok(Vec::new())
    }
}

/// What is left of a source that refuses everything: a counter.
pub trait Refusing: Send + Debug {
    /// See [`Source::refused`].
    fn refused(&mut self) -> u64;
}

impl<S: Source + Send + Debug> Refusing for S {
    fn refused(&mut self) -> u64 {
        Source::refused(self)
    }
}
