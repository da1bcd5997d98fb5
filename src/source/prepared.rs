//! Tests read from a source of prepared payloads.

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Datagram, LiveSource, Received, Source};
use crate::record::Timestamp;

/// A source that lends prepared payloads, in turns of 64.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) payloads: VecDeque<Vec<u8>>,
    /// At most so many datagrams come in the first turns.
    pub(crate) turns: VecDeque<usize>,
    /// True where the source ends with its last payload.
    pub(crate) ends: bool,
    /// True where each turn fails after it has lent.
    pub(crate) fails: bool,
    /// True where each payload comes again and again.
    pub(crate) endless: bool,
    /// True where the datagrams are copies of what was delivered already.
    pub(crate) delivered: bool,
    /// A path for which the source looks when it begins: it cannot begin, and says whether this is
    /// there.
    pub(crate) looks_for: Option<PathBuf>,
    pub(crate) patience: Duration,
    pub(crate) kernel_dropped: u64,
    pub(crate) refused: u64,
    /// The number of times that it was waited for.
    pub(crate) waits: usize,
}

impl Prepared {
    pub(crate) fn new(payloads: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { payloads: payloads.into_iter().collect(), ..Self::default() }
    }
}

impl Source for Prepared {
    fn receive(&mut self, limit: usize, deliver: &mut impl FnMut(&Datagram<'_>)) -> io::Result<Received> {
        if self.ends && self.payloads.is_empty() {
            return Ok(Received::End);
        }
        let most = self.turns.pop_front().unwrap_or(64).min(limit).min(self.payloads.len());
        let lent: Vec<_> = self.payloads.drain(..most).collect();
        for payload in &lent {
            deliver(&Datagram {
                payload,
                length: payload.len(),
                delivered: self.delivered,
                source: Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(),
                timestamp: Timestamp::from_ns(1),
                ..Datagram::empty()
            });
        }
        if self.endless {
            self.payloads.extend(lent);
        }
        if self.fails { Err(io::Error::other("broken")) } else { Ok(Received::Datagrams(most)) }
    }
}

impl LiveSource for Prepared {
    fn begin(&mut self) -> io::Result<()> {
        self.looks_for.as_ref().map_or(Ok(()), |path| Err(io::Error::other(format!("manifest: {}", path.exists()))))
    }

    fn wait(&mut self, _: Duration) -> io::Result<()> {
        self.waits += 1;
        Ok(())
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    fn kernel_dropped(&mut self) -> u64 {
        self.kernel_dropped
    }

    fn refuse_further(&mut self) {}

    fn refused(&mut self) -> u64 {
        self.refused
    }
}
