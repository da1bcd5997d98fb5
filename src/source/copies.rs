//! Copies that were lost add to the sockets' drops, and are taken off again.
//!
//! A broadcast or multicast datagram comes to every socket of a group, and one worker receives it:
//! see `owner`. Where the other sockets had no room for their copies the kernel counts a drop for
//! each, though no datagram was lost. Its counters do not tell such drops apart.
//!
//! So each group has one socket more, bound behind those of the workers. The program that steers
//! never picks it, hence it gets nothing but what is given to all, and its filter refuses that at
//! once. Its drop counter is the number of datagrams that were given to all. Each comes to every
//! worker, and all but one of these are copies. The copies that no worker has read were lost, or
//! are still queued.
//!
//! ```text
//! copies lost or queued = what was given to each worker, added up
//!                       - what was given to all workers
//!                       - copies that workers have read
//! dropped               = drops of all sockets - copies lost or queued
//! ```
//!
//! The result is a bound from below while copies are queued, and exact when all have been read. The
//! kernel serves the sockets one after the other, so a drop counter can be ahead of the count of
//! what was given by a datagram for each CPU. Hence what a worker told is used when it tells more.

use std::io;

use parking_lot::Mutex;
use socket2::Socket;

use super::drops::DropCounter;
use crate::sys::socket;

/// The sockets that get what is given to all, one for each listen address, and what the workers
/// tell.
#[derive(Debug, Default)]
pub(super) struct Copies {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    given: Vec<(Socket, DropCounter)>,
    workers: Vec<Worker>,
    /// Datagrams of which workers have been told that they were dropped.
    told: u64,
}

/// A worker, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
struct Worker {
    /// The datagrams that had been given to all when the worker began, once it has.
    begun: Option<u64>,
    /// The datagrams that had been given to all when the worker began to refuse, once it has.
    ended: Option<u64>,
    /// The numbers that it told some time ago, unless it has ended.
    settled: Told,
    /// The numbers that it told last.
    last: Told,
}

/// The numbers that a worker tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Drops of its sockets, until it began to refuse.
    pub(super) drops: u64,
    /// Copies that it has read.
    pub(super) copies: u64,
}

impl Copies {
    /// Makes copies between this many workers, without a socket yet.
    pub(super) fn new(workers: usize) -> Self {
        Self { inner: Mutex::new(Inner { workers: vec![Worker::default(); workers], ..Inner::default() }) }
    }

    /// Adds the socket of a group that gets what is given to all.
    pub(super) fn count_by(&self, socket: Socket) {
        self.with(|inner| inner.given.push((socket, DropCounter::default())));
    }

    /// Notes that this worker accepts datagrams from now on.
    pub(super) fn begin(&self, worker: usize) -> io::Result<()> {
        self.with(|inner| {
            let given = inner.given()?;
            inner.workers.get_mut(worker).into_iter().for_each(|worker| worker.begun = Some(given));
            Ok(())
        })
    }

    /// Notes that this worker refuses datagrams from now on.
    pub(super) fn end(&self, worker: usize) {
        self.with(|inner| {
            // Without the counter, all drops count as before.
            let given = inner.given().ok();
            inner.workers.get_mut(worker).into_iter().for_each(|worker| worker.ended = given.or(worker.begun));
        });
    }

    /// Takes what a worker tells, and returns how many datagrams more were dropped, as far as that
    /// can be said. No two workers are told of the same drop.
    pub(super) fn dropped(&self, worker: usize, told: Told) -> u64 {
        self.with(|inner| {
            if let Some(worker) = inner.workers.get_mut(worker) {
                worker.settled = if worker.ended.is_some() { told } else { worker.last };
                worker.last = told;
            }
            let Ok(given) = inner.given() else { return 0 };
            let dropped = dropped(&inner.workers, given);
            let more = dropped.saturating_sub(inner.told);
            inner.told += more;
            more
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.lock())
    }
}

impl Inner {
    /// Returns how many datagrams have been given to all so far.
    fn given(&mut self) -> io::Result<u64> {
        let mut sum = 0;
        for (socket, drops) in &mut self.given {
            drops.update(socket::drops(socket)?);
            sum += drops.total();
        }
        Ok(sum)
    }
}

/// Returns how many datagrams were dropped at least, where this many have been given to all so far.
fn dropped(workers: &[Worker], given: u64) -> u64 {
    let ended = |worker: &Worker| worker.ended.unwrap_or(given);
    let to_each: u64 = workers.iter().filter_map(|worker| Some(ended(worker).saturating_sub(worker.begun?))).sum();
    // Each datagram has one worker whose it is. Before all have begun, that can be one that has
    // not.
    let begun = workers.iter().map(|worker| worker.begun.unwrap_or(u64::MAX)).max().unwrap_or(u64::MAX);
    let to_all = workers.iter().map(ended).min().unwrap_or(0).saturating_sub(begun);
    let read: u64 = workers.iter().map(|worker| worker.settled.copies).sum();
    let drops: u64 = workers.iter().map(|worker| worker.settled.drops).sum();
    drops.saturating_sub(to_each.saturating_sub(to_all).saturating_sub(read))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Steering;
    use crate::source::udp::{UdpPlan, UdpSource, listen};
    use crate::source::{LiveSource, Source};
    use std::net::UdpSocket;

    /// Makes what a worker that has ended has told.
    fn ended(begun: u64, ended: u64, drops: u64, copies: u64) -> Worker {
        let told = Told { drops, copies };
        Worker { begun: Some(begun), ended: Some(ended), settled: told, last: told }
    }

    #[test]
    fn copies_that_nobody_has_read_are_no_datagrams() {
        for (workers, wanted) in [
            // Ten to all of three: 20 copies, of which 15 were read and 5 lost.
            ([ended(0, 10, 2, 5), ended(0, 10, 3, 5), ended(0, 10, 0, 5)], 0),
            // And two of those that they would have received.
            ([ended(0, 10, 4, 5), ended(0, 10, 3, 5), ended(0, 10, 0, 5)], 2),
            // Nothing was given to all.
            ([ended(0, 0, 4, 0), ended(0, 0, 3, 0), ended(0, 0, 0, 0)], 7),
            // What was given before they began is not of interest.
            ([ended(90, 100, 4, 5), ended(90, 100, 3, 5), ended(90, 100, 0, 5)], 2),
            // One began later: that it has no copy of the first two is no loss.
            ([ended(0, 10, 0, 7), ended(0, 10, 0, 7), ended(2, 10, 0, 5)], 0),
        ] {
            assert_eq!(dropped(&workers, 1000), wanted, "{workers:?}");
        }
    }

    #[test]
    fn what_may_still_be_queued_is_not_told() {
        let copies = Copies::new(2);
        (0..2).for_each(|worker| copies.begin(worker).unwrap());
        let tell = |worker, drops| copies.dropped(worker, Told { drops, copies: 0 });
        assert_eq!((tell(0, 5), tell(1, 3)), (0, 0), "what is behind it may not have been counted");
        assert_eq!((tell(0, 6), tell(1, 4)), (5, 3));
        (0..2).for_each(|worker| copies.end(worker));
        assert_eq!((tell(0, 9), tell(1, 7)), (4, 4), "the rest of both, and no more comes");
    }

    fn drain(source: &mut UdpSource, limit: usize) -> u64 {
        let mut n = 0;
        while source.receive(64, &mut |_| n += 1).unwrap().datagrams() > 0 && n < limit as u64 {}
        n
    }

    #[test]
    fn what_is_given_to_all_and_lost_counts_once() {
        const WORKERS: usize = 8;
        for steering in [Steering::Session, Steering::Flow] {
            let plan =
                UdpPlan { listen: vec!["0.0.0.0:0".parse().unwrap()], workers: WORKERS, steering, receive_buffer: 1 };
            let mut listening = listen(&plan).unwrap();
            let port = listening.addresses[0].port();
            let senders: Vec<UdpSocket> = (0..16).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
            senders.iter().for_each(|sender| sender.set_broadcast(true).unwrap());
            let send = |n: u32, to: &str| {
                let mut payload = [0; 200];
                payload[4..7].copy_from_slice(&n.to_be_bytes()[1..]);
                assert_eq!(senders[n as usize % senders.len()].send_to(&payload, (to, port)).unwrap(), 200);
            };
            // Before anybody listens.
            (0..50).for_each(|n| send(n, "127.255.255.255"));
            listening.sources.iter_mut().for_each(|source| source.begin().unwrap());
            let (mut received, mut live) = (0, 0);
            for n in 0..3000 {
                send(n, "127.255.255.255");
                if n % 3 == 0 {
                    send(n, "127.0.0.1");
                }
                // Some workers read now and then, one never does.
                let turn = n as usize % 100;
                if turn < WORKERS - 1 {
                    received += drain(&mut listening.sources[turn], 5);
                }
                if turn == 99 {
                    let now = listening.sources.iter_mut().map(|source| source.kernel_dropped()).sum();
                    assert!(now >= live, "no counter falls");
                    live = now;
                }
            }
            let sent = 3000 + 1000;
            assert!(live > 0 && live + received <= sent, "{steering:?}: {live} dropped, {received} received");
            listening.sources.iter_mut().for_each(LiveSource::refuse_further);
            (0..20).for_each(|n| send(n, "127.255.255.255"));
            received += listening.sources.iter_mut().map(|source| drain(source, usize::MAX)).sum::<u64>();
            let dropped: u64 = listening.sources.iter_mut().map(|source| source.kernel_dropped()).sum();
            assert!(dropped >= live);
            assert_eq!(received + dropped, sent, "{steering:?}");
        }
    }
}
