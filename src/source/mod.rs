//! Where datagrams come from.

mod allowed;
pub mod bpf;
mod choice;
pub mod port_owner;
pub mod udp;

pub use allowed::{AllowList, AllowListReader, Allowed, TooMany};
pub use choice::{OpenError, Opened, SourcePlan, Sources, Way, open};

use std::fmt::Debug;
use std::io;
use std::net::Ipv6Addr;
use std::time::Duration;

use crate::record::Timestamp;

/// A received datagram, lent to the worker. Its memory goes back to the kernel afterwards.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// The UDP payload: a VXLAN header and the inner frame.
    pub payload: &'a [u8],
    /// Bytes of the payload as it arrived. Less than that is here only if the source was told to keep no more.
    pub length: usize,
    /// True where the end of the payload is missing, and not because we wanted so.
    pub truncated: bool,
    /// The UDP checksum was verified here, and is not that of the datagram.
    pub wrong_checksum: bool,
    /// Outer source address; IPv4 as IPv4-mapped IPv6.
    pub source: Ipv6Addr,
    /// Receive time by the kernel's clock.
    pub timestamp: Timestamp,
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

    /// Refuses every further datagram; what has come before can still be received.
    fn refuse_further(&mut self);

    /// Datagrams refused since [`Source::refuse_further`].
    fn refused(&mut self) -> u64;

    /// What a program in the kernel did so far, where there is one.
    fn fast_path(&mut self) -> FastPath {
        FastPath::default()
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
