//! Records of a ring are lent in the order of time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::clock::Clock;
use super::record::Record;
use crate::record::Timestamp;
use crate::source::Datagram;
use crate::source::port::Port;
use crate::sys::ring::Ring;

/// The time by which a record must be later than now to be from before the clock was set back. It
/// is measured from now, not from when a turn began: a worker can lose its core in between for
/// longer.
const FUTURE: Duration = Duration::from_millis(10);

/// A ring and its number.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) number: u32,
    pub(super) ring: Ring,
    /// Records read, which the source counts and its account tells.
    pub(super) read: Arc<AtomicU64>,
    /// The ports that records can be for.
    ports: Arc<[Port]>,
}

impl Numbered {
    pub(super) fn new(number: u32, ring: Ring, ports: &Arc<[Port]>) -> Self {
        Self { number, ring, read: Arc::default(), ports: Arc::clone(ports) }
    }

    /// Lends records up to this time of day, and those of the far future, which only a clock that
    /// was set back explains. Lends at most `limit`, and returns how many.
    #[inline]
    pub(super) fn lend(
        &mut self,
        limit: usize,
        until: Timestamp,
        clock: Clock,
        verify: bool,
        deliver: &mut impl FnMut(&Datagram<'_>),
    ) -> usize {
        let mut lent = 0;
        while lent < limit {
            let Some(bytes) = self.ring.peek() else { break };
            if let Some(record) = Record::parse(bytes) {
                let timestamp =
                    if record.real { Timestamp::from_ns(record.time) } else { clock.time_of_day(record.time) };
                if timestamp > until && timestamp < Timestamp::now().saturating_add(FUTURE) {
                    break;
                }
                deliver(&Datagram {
                    payload: record.payload,
                    length: record.length,
                    truncated: false,
                    wrong_checksum: verify && !record.checksum_is_right(),
                    delivered: record.redirected,
                    source: record.source,
                    port: record.destination_port,
                    encapsulation: Port::encapsulation_of(&self.ports, record.destination_port),
                    timestamp,
                });
                lent += 1;
            }
            self.ring.skip();
        }
        if lent > 0 {
            self.read.store(self.read.load(Ordering::Relaxed) + lent as u64, Ordering::Relaxed);
        }
        lent
    }
}
