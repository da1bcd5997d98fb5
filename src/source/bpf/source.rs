//! A worker has one source: its rings and its sockets.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::account::ProgramAccount;
use super::clock::Clock;
use super::counts::Counts;
use super::lend::Numbered;
use super::shared::Shared;
use crate::record::Timestamp;
use crate::source::backlog::Backlog;
use crate::source::datagram::{Datagram, Received, Source};
use crate::source::live::LiveSource;
use crate::source::udp::UdpSource;
use crate::sys::receive::BATCH;

/// The time between two looks at the rings while they are held back.
pub(super) const SHORT_WAIT: Duration = Duration::from_millis(1);
/// The time after the program began for which its rings are held back, except for what is older
/// than a datagram of a socket. A datagram that the stack received before can be queued there for
/// longer than the program takes, and would come to the sockets too late.
const SETTLE: Duration = Duration::from_millis(50);

/// The rings and sockets of one worker.
#[derive(Debug)]
pub(crate) struct BpfSource {
    udp: UdpSource,
    rings: Vec<Numbered>,
    clock: Clock,
    verify_checksum: bool,
    /// The time until which the rings are held back.
    pub(super) settles: Option<Instant>,
    /// True while what the sockets have may bear the time at which it is read: see
    /// [`Source::receive`] below.
    unstamped: bool,
    /// True when nothing more comes: what is there is lent, whatever its time.
    drains: bool,
    pub(super) shared: Arc<Shared>,
}

impl BpfSource {
    /// Makes a source without rings as yet.
    pub(super) fn new(udp: UdpSource, clock: Clock, verify_checksum: bool, shared: Arc<Shared>) -> Self {
        Self { udp, rings: Vec::new(), clock, verify_checksum, settles: None, unstamped: true, drains: false, shared }
    }

    /// Gives the source a ring, which no other source has.
    pub(super) fn add_ring(&mut self, ring: Numbered) {
        self.rings.push(ring);
    }

    /// Makes the account of what the program does in front of this source, which has all its rings
    /// by now.
    pub(super) fn account(&self) -> ProgramAccount {
        let rings = self.rings.iter().map(|numbered| (numbered.number, Arc::clone(&numbered.read))).collect();
        ProgramAccount::new(rings, Arc::clone(&self.shared))
    }

    fn counts(&self, ring: u32) -> Counts {
        self.shared.program.counts(ring).unwrap_or_default()
    }

    fn has_records(&self) -> bool {
        self.rings.iter().any(|numbered| !numbered.ring.is_empty())
    }

    /// Says whether the rings are held back. They are so for a moment at the beginning, as long as
    /// they have room.
    #[inline]
    fn is_settling(&mut self) -> bool {
        let has_room = |numbered: &Numbered| numbered.ring.used() < numbered.ring.size() / 2;
        let is = self.settles.is_some_and(|end| Instant::now() < end) && self.rings.iter().all(has_room);
        if !is {
            self.settles = None;
        }
        is
    }

    fn poll(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let rings = self.rings.iter().map(|numbered| PollFd::new(&numbered.ring, PollFlags::IN));
        let mut ready: Vec<PollFd<'_>> = rings.chain(self.udp.poll_fds()).collect();
        match rustix::event::poll(&mut ready, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Source for BpfSource {
    fn receive(&mut self, limit: usize, deliver: &mut impl FnMut(&Datagram<'_>)) -> io::Result<Received> {
        let held_back = self.settles.is_some() && self.is_settling();
        // Records that come while the sockets are read wait for the next time: what came to a
        // socket before them has not been read.
        let until = if self.drains { Timestamp::from_ns(u64::MAX) } else { self.clock.now() };
        // Where there is more than a turn can take, each ring is the first in its turn.
        let next = usize::from(self.rings.len() > 1);
        self.rings.rotate_left(next);
        let Self { udp, rings, clock, verify_checksum, unstamped, drains, .. } = self;
        let drains = *drains;
        let (mut clock, verify) = (*clock, *verify_checksum);
        let mut room = limit;
        let read = udp.lend_each(limit.min(BATCH), &mut |datagram: &Datagram<'_>| {
            // The kernel begins to stamp what arrives a moment after the first socket on the host
            // has asked for it. A datagram that came before gets its time when it is read. All such
            // datagrams are older than the program and at the head of the sockets' queues.
            *unstamped &= datagram.timestamp >= until;
            // It may have come while the sockets are read, and a record shortly before it.
            let now = if datagram.timestamp > until { clock.now().max(until) } else { until };
            for numbered in rings.iter_mut().filter(|_| !*unstamped) {
                room -= numbered.lend(room, before(datagram.timestamp, now), clock, verify, deliver);
            }
            // The rings may have more that is older, so the datagram is held until the next time.
            if room == 0 {
                return false;
            }
            room -= 1;
            deliver(datagram);
            true
        });
        // What the rings have is lent before the failure of a socket is told: nobody asks once more
        // but to drain them.
        let failed = read.is_err();
        if failed && !drains {
            return read.map(Received::Datagrams);
        }
        *unstamped &= udp.has_more();
        // With more in the sockets than was asked for, what is next in the rings may have come
        // later than that.
        if failed || (!udp.has_more() && !held_back) {
            for numbered in rings.iter_mut() {
                room -= numbered.lend(room, until, clock, verify, deliver);
            }
        }
        for numbered in rings {
            numbered.ring.release();
        }
        read.map(|_| Received::Datagrams(limit - room))
    }
}

/// Returns the time up to which records come before a datagram of this time, where it is `now`. A
/// datagram of the future is from before the clock was set back: records of until now come before
/// it, and it does not wait for those that are still to come.
fn before(datagram: Timestamp, now: Timestamp) -> Timestamp {
    datagram.min(now)
}

impl LiveSource for BpfSource {
    fn begin(&mut self) -> io::Result<()> {
        self.udp.begin()?;
        self.settles = Some(Instant::now() + SETTLE);
        self.shared.begin().map_err(io::Error::other)
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        if self.settles.is_some() {
            return self.udp.wait(timeout.min(SHORT_WAIT));
        }
        for numbered in &self.rings {
            if let Err(error) = self.shared.program.wake(numbered.number) {
                return Err(io::Error::other(error));
            }
        }
        // A record that has been reserved by now is seen here. The program of one that is reserved
        // later sees the wish.
        if !self.has_records() {
            self.poll(timeout)?;
        }
        Ok(())
    }

    fn shares_sessions(&self) -> bool {
        self.udp.shares_sessions()
    }

    fn patience(&self) -> Duration {
        let smallest = self.rings.iter().map(|numbered| numbered.ring.size()).min().unwrap_or(usize::MAX);
        // The rule is that of a receive buffer: 10 Gbit/s of small datagrams fill it by some 2.5
        // bytes a nanosecond. Half of the time that takes is the patience.
        Duration::from_nanos(smallest as u64 / 5).min(self.udp.patience())
    }

    fn kernel_dropped(&mut self) -> u64 {
        let full: u64 = self.rings.iter().map(|numbered| self.counts(numbered.number).ring_full).sum();
        self.udp.kernel_dropped() + full
    }

    fn copies(&self) -> u64 {
        self.udp.copies()
    }

    fn backlog(&self) -> Backlog {
        let rings = self.rings.iter().filter_map(|numbered| numbered.ring.level().ok());
        Backlog { rings: rings.collect(), ..self.udp.backlog() }
    }

    fn refuse_further(&mut self) {
        // From here on all comes to the sockets, where it is counted. The rings are to be drained.
        self.settles = None;
        self.drains = true;
        self.shared.refuse();
        self.udp.refuse_further();
    }

    fn refused(&mut self) -> u64 {
        LiveSource::refused(&mut self.udp)
    }

    fn left_queued(&self) -> u64 {
        self.udp.left_queued()
    }

    fn write_down(&mut self, received: u64, ended: bool) {
        self.udp.write_down(received, ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_of_the_future_waits_for_no_record_that_is_still_to_come() {
        let at = Timestamp::from_ns;
        assert_eq!(before(at(7), at(9)), at(7), "what is older comes first");
        assert_eq!(before(at(3_600_000_000_000), at(9)), at(9), "from before the clock was set back by an hour");
        assert_eq!(before(at(7), at(u64::MAX)), at(7), "all is drained");
    }
}
