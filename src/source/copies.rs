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
//!
//! All sockets refuse together, when the first worker does. A datagram that was given to all is
//! refused by each worker's socket then, and counts as one:
//!
//! ```text
//! refused = drops of all sockets since they refuse
//!           - what was given to all since then, once for each worker but one
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use socket2::Socket;

use super::drops::DropCounter;
use super::kept;
use crate::service::{Drops, Page, Record, Records, Store};
use crate::sys::socket;

/// The sockets that get what is given to all, one for each listen address, and what the workers
/// tell.
#[derive(Debug, Default)]
pub(super) struct Copies {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    given: Vec<Given>,
    /// Where that is written down for the process after this one.
    page: Option<(Page, Record)>,
    workers: Vec<Worker>,
    /// The sockets of each worker.
    sockets: Vec<Vec<Arc<Socket>>>,
    /// Datagrams of which workers have been told that they were dropped.
    told: u64,
    /// The state when the workers began to refuse, once they have.
    refusal: Option<Refusal>,
}

/// The socket of a group that gets what is given to all.
#[derive(Debug)]
struct Given {
    address: SocketAddr,
    socket: Socket,
    counter: DropCounter,
}

/// The state when the workers began to refuse.
#[derive(Debug)]
struct Refusal {
    /// The datagrams that had been given to all just before.
    before: u64,
    /// The datagrams that had been given to all just after.
    after: u64,
    /// The kernel's drop counter of each socket of each worker.
    drops: Vec<Vec<u32>>,
    /// Drops since then, when a worker asked last.
    refused: u64,
    /// Datagrams of which workers have been told that they were refused.
    told: u64,
}

/// A worker, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
struct Worker {
    /// The datagrams that had been given to all when the worker began, once it has.
    begun: Option<u64>,
    /// The numbers that it told some time ago, unless it refuses.
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

impl Worker {
    /// A worker of the process before this one, which tells nothing more.
    fn of(record: &Record) -> Self {
        let told = Told { drops: total(record), copies: record.copies };
        Self { begun: record.begun, settled: told, last: told }
    }
}

impl Copies {
    /// Makes copies between this many workers, without a socket yet.
    pub(super) fn new(workers: usize) -> Self {
        let inner =
            Inner { workers: vec![Worker::default(); workers], sockets: vec![Vec::new(); workers], ..Inner::default() };
        Self { inner: Mutex::new(inner) }
    }

    /// Adds a socket of this worker.
    pub(super) fn refuse_by(&self, worker: usize, socket: Arc<Socket>) {
        self.with(|inner| inner.sockets.get_mut(worker).into_iter().for_each(|sockets| sockets.push(socket.clone())));
    }

    /// Adds the socket of the group at `address` that gets what is given to all, and goes on from
    /// what it has counted.
    pub(super) fn count_by(&self, address: SocketAddr, socket: Socket, counter: DropCounter) {
        self.with(|inner| inner.given.push(Given { address, socket, counter }));
    }

    /// Goes on from what the workers of the process before this one have counted.
    pub(super) fn go_on_from(&self, records: &Records) {
        self.with(|inner| {
            for (worker, record) in inner.workers.iter_mut().zip(&records.workers) {
                *worker = Worker::of(record);
                inner.told += record.counted;
            }
        });
    }

    /// Has what was given to all written down there for the process after this one, and the sockets
    /// that count it kept.
    pub(super) fn write_to(&self, page: Page, store: &Store) {
        self.with(|inner| {
            let workers = u32::try_from(inner.workers.len()).unwrap_or(u32::MAX);
            for Given { address, socket, .. } in &inner.given {
                store.keep(&kept::name_behind(*address), socket);
            }
            // Also where nothing is given to all, as over IP: the next process reads it in any
            // case.
            let record = Record::new(workers);
            page.write(&record);
            inner.page = Some((page, record));
            inner.write();
        });
    }

    /// Returns how many datagrams had been given to all when this worker began, once it has.
    pub(super) fn begun(&self, worker: usize) -> Option<u64> {
        self.with(|inner| inner.workers.get(worker)?.begun)
    }

    /// Notes that this worker is about to accept datagrams. One that goes on has begun before.
    ///
    /// # Errors
    /// The number of datagrams given to all cannot be read.
    pub(super) fn begin(&self, worker: usize) -> io::Result<()> {
        self.with(|inner| {
            let given = inner.given()?;
            if let Some(worker) = inner.workers.get_mut(worker) {
                let _ = worker.begun.get_or_insert(given);
            }
            Ok(())
        })
    }

    /// Has the sockets of all workers refuse further datagrams from now on.
    pub(super) fn refuse(&self) {
        self.with(|inner| {
            if inner.refusal.is_some() {
                return;
            }
            // Without the counter of what is given to all, all drops count.
            let before = inner.given().unwrap_or(0);
            let drops = inner.sockets.iter().map(|sockets| sockets.iter().map(drop_counter).collect()).collect();
            for socket in inner.sockets.iter().flatten() {
                if let Err(error) = socket::refuse_further(socket) {
                    tracing::warn!(%error, "cannot refuse further datagrams; draining what comes for a moment");
                }
            }
            let after = inner.given().unwrap_or(0);
            inner.refusal = Some(Refusal { before, after, drops, refused: 0, told: 0 });
        });
    }

    /// Returns the kernel's drop counter of each socket of this worker when they began to refuse,
    /// once they have.
    pub(super) fn at_refusal(&self, worker: usize) -> Option<Vec<u32>> {
        self.with(|inner| inner.refusal.as_ref()?.drops.get(worker).cloned())
    }

    /// Returns how many datagrams more were refused, as far as that can be said. No two workers are
    /// told of the same datagram. What is new is told to the next worker that asks: the counter of
    /// what was given to all is the last that the kernel raises.
    pub(super) fn refused(&self) -> u64 {
        self.with(|inner| {
            let given = inner.given().unwrap_or(0);
            let copies = inner.workers.len().saturating_sub(1) as u64;
            let Some(refusal) = &mut inner.refusal else { return 0 };
            let now = inner.sockets.iter().flatten().map(drop_counter);
            let since = now.zip(refusal.drops.iter().flatten()).map(|(now, then)| now.wrapping_sub(*then));
            let refused = since.map(u64::from).sum();
            let settled = std::mem::replace(&mut refusal.refused, refused);
            let total = settled.saturating_sub(copies * given.saturating_sub(refusal.before));
            let more = total.saturating_sub(refusal.told);
            refusal.told += more;
            more
        })
    }

    /// Takes what a worker tells, and returns how many datagrams more were dropped, as far as that
    /// can be said. No two workers are told of the same drop.
    pub(super) fn dropped(&self, worker: usize, told: Told) -> u64 {
        self.with(|inner| {
            let refuses = inner.refusal.is_some();
            if let Some(worker) = inner.workers.get_mut(worker) {
                worker.settled = if refuses { told } else { worker.last };
                worker.last = told;
            }
            let given = match &inner.refusal {
                Some(refusal) => refusal.after,
                None => {
                    let Ok(given) = inner.given() else { return 0 };
                    given
                }
            };
            let dropped = dropped(&inner.workers, given);
            let more = dropped.saturating_sub(inner.told);
            inner.told += more;
            inner.write();
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
        for Given { socket, counter, .. } in &mut self.given {
            counter.update(socket::drops(socket)?);
            sum += counter.total();
        }
        Ok(sum)
    }

    /// Writes down what has been given to all, where that is asked for and has changed.
    fn write(&mut self) {
        let Some((page, record)) = &mut self.page else { return };
        let drops = |given: &Given| Drops {
            address: given.address,
            last: given.counter.last(),
            total: given.counter.total(),
            steered: None,
        };
        if !self.given.iter().map(drops).eq(record.drops.iter().copied()) {
            record.drops = self.given.iter().map(drops).collect();
            page.write(record);
        }
    }
}

/// Returns the drops of all sockets of a record.
fn total(record: &Record) -> u64 {
    record.drops.iter().map(|drops| drops.total).sum()
}

/// Returns how many datagrams more were dropped than workers that have ended have counted: each was
/// told only of what was settled. That is exact where nothing was given to all. Else it is a bound
/// from below but for a datagram of each CPU: a drop counter can be ahead of what was given.
pub(super) fn uncounted(records: &Records) -> u64 {
    let workers: Vec<Worker> = records.workers.iter().map(Worker::of).collect();
    let counted = records.workers.iter().map(|record| record.counted).sum();
    dropped(&workers, total(&records.shared)).saturating_sub(counted)
}

/// Returns the kernel's drop counter of a socket.
fn drop_counter(socket: &Arc<Socket>) -> u32 {
    socket::drops(socket).unwrap_or(0)
}

/// Returns how many datagrams were dropped at least, where this many have been given to all so far,
/// or until all refused.
fn dropped(workers: &[Worker], given: u64) -> u64 {
    let to_each: u64 = workers.iter().filter_map(|worker| Some(given.saturating_sub(worker.begun?))).sum();
    // Each datagram has one worker whose it is. Before all have begun, that can be one that has
    // not.
    let begun = workers.iter().map(|worker| worker.begun.unwrap_or(u64::MAX)).max().unwrap_or(u64::MAX);
    let to_all = given.saturating_sub(begun);
    let read: u64 = workers.iter().map(|worker| worker.settled.copies).sum();
    let drops: u64 = workers.iter().map(|worker| worker.settled.drops).sum();
    drops.saturating_sub(to_each.saturating_sub(to_all).saturating_sub(read))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{self, State};
    use crate::source::Steering;
    use crate::source::udp::{UdpPlan, UdpSource, listen};
    use crate::source::{LiveSource, Source};
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    /// Makes what a worker that refuses has told.
    fn ended(begun: u64, drops: u64, copies: u64) -> Worker {
        let told = Told { drops, copies };
        Worker { begun: Some(begun), settled: told, last: told }
    }

    #[test]
    fn copies_that_nobody_has_read_are_no_datagrams() {
        for (workers, given, wanted) in [
            // Ten to all of three: 20 copies, of which 15 were read and 5 lost.
            ([ended(0, 2, 5), ended(0, 3, 5), ended(0, 0, 5)], 10, 0),
            // And two of those that they would have received.
            ([ended(0, 4, 5), ended(0, 3, 5), ended(0, 0, 5)], 10, 2),
            // Nothing was given to all.
            ([ended(0, 4, 0), ended(0, 3, 0), ended(0, 0, 0)], 0, 7),
            // Datagrams given before they began are not of interest.
            ([ended(90, 4, 5), ended(90, 3, 5), ended(90, 0, 5)], 100, 2),
            // One began later: that it has no copy of the first two is no loss.
            ([ended(0, 0, 7), ended(0, 0, 7), ended(2, 0, 5)], 10, 0),
        ] {
            assert_eq!(dropped(&workers, given), wanted, "{workers:?}");
        }
    }

    #[test]
    fn what_nothing_was_given_to_is_written_down_too() {
        let state = State::new().unwrap();
        Copies::new(2).write_to(state.shared(), &Store::default());
        (0..2).for_each(|worker| state.of_worker(worker).write(&Record::new(2)));
        let records = service::read(state.as_fd().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!((records.workers.len(), records.shared), (2, Record::new(2)));
    }

    #[test]
    fn what_may_still_be_queued_is_not_told() {
        let copies = Copies::new(2);
        (0..2).for_each(|worker| copies.begin(worker).unwrap());
        let tell = |worker, drops| copies.dropped(worker, Told { drops, copies: 0 });
        assert_eq!((tell(0, 5), tell(1, 3)), (0, 0), "what is behind it may not have been counted");
        assert_eq!((tell(0, 6), tell(1, 4)), (5, 3));
        copies.refuse();
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
            let plan = UdpPlan {
                listen: vec!["0.0.0.0:0".parse().unwrap()],
                workers: WORKERS,
                steering,
                vni_mask: crate::wire::VniMask::ALL,
                receive_buffer: 1,
            };
            let mut listening = listen(&plan, &Store::default()).unwrap();
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
            // The first that refuses does so for all: the others are not there yet.
            listening.sources[3].refuse_further();
            (0..20).for_each(|n| send(n, "127.255.255.255"));
            (0..7).for_each(|n| send(n, "127.0.0.1"));
            let before: u64 = listening.sources.iter_mut().map(|source| source.kernel_dropped()).sum();
            listening.sources.iter_mut().for_each(LiveSource::refuse_further);
            received += listening.sources.iter_mut().map(|source| drain(source, usize::MAX)).sum::<u64>();
            let dropped: u64 = listening.sources.iter_mut().map(|source| source.kernel_dropped()).sum();
            assert!(dropped >= before && before >= live);
            assert_eq!(received + dropped, sent, "{steering:?}");
            let refused: u64 = listening.sources.iter_mut().map(LiveSource::refused).sum();
            assert_eq!(refused, 20 + 7, "{steering:?}: one that was given to all is one");
            let refused: u64 = listening.sources.iter_mut().map(LiveSource::refused).sum();
            assert_eq!(refused, 20 + 7, "{steering:?}: nothing is told twice");
        }
    }
}
