//! A datagram is what a source lends, and every source has the same trait.

use std::io;
use std::net::Ipv6Addr;

use crate::record::Timestamp;
use crate::wire::Encapsulation;

/// A received datagram, lent to the worker. Its memory goes back to the kernel afterwards.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// The UDP payload: the header of the encapsulation and the inner frame.
    pub payload: &'a [u8],
    /// Bytes of the payload as it arrived. Fewer are here only if the source was told to keep no
    /// more.
    pub length: usize,
    /// True where the end of the payload is missing although it was wanted.
    pub truncated: bool,
    /// True where the source verified the UDP checksum, and it is not that of the datagram.
    pub wrong_checksum: bool,
    /// True where an output had the frame already, in front of the worker: this is a copy for the
    /// other outputs.
    pub delivered: bool,
    /// Outer source address, as [`crate::wire::address`] has it.
    pub source: Ipv6Addr,
    /// The UDP port of this host that the datagram came to.
    pub port: u16,
    /// The way in which its frame is wrapped, which the port decides.
    pub encapsulation: Encapsulation,
    /// Receive time by the kernel's clock.
    pub timestamp: Timestamp,
}

impl Datagram<'_> {
    /// Makes a datagram without payload, from nobody: a literal that names only some of the fields
    /// takes the rest from it.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            payload: &[],
            length: 0,
            truncated: false,
            wrong_checksum: false,
            delivered: false,
            source: Ipv6Addr::UNSPECIFIED,
            port: 0,
            encapsulation: Encapsulation::Vxlan,
            timestamp: Timestamp::from_ns(0),
        }
    }
}

/// Says what a source had when it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// So many datagrams, which it lent; 0 where none has come yet.
    Datagrams(usize),
    /// None, and there will never be another.
    End,
}

#[cfg(test)]
impl Received {
    /// Returns how many datagrams these are.
    pub(crate) fn datagrams(self) -> usize {
        match self {
            Received::Datagrams(n) => n,
            Received::End => 0,
        }
    }
}

/// Something that datagrams come from, owned by one worker.
///
/// ```text
/// receive* ── Datagrams(n) ──▶ receive
///    └─────── End              nothing comes after it
/// ```
///
/// A source that others send to while it is read is a [`LiveSource`](super::LiveSource) besides.
pub trait Source {
    /// Lends what there is to `deliver`, at most `limit` datagrams, and returns how many. Never
    /// waits for more.
    ///
    /// # Errors
    /// The source failed, and is of no more use.
    fn receive(&mut self, limit: usize, deliver: &mut impl FnMut(&Datagram<'_>)) -> io::Result<Received>;
}
