//! A worker has one UDP socket for each listen address, in a `SO_REUSEPORT` group. Where GRE over
//! IP is listened for, it has a raw socket: see `raw`.
//!
//! ## What decides which worker receives a datagram
//!
//! The kernel picks a socket of the group. By itself it hashes outer addresses and ports. A cloud
//! mirror uses few outer source ports (128 on AWS), and one inner conversation can use two of them,
//! so that choice spreads one session unevenly over the workers and its frames reach the outputs
//! out of order. So the group gets a small filter program that hashes the outer source address and
//! the VNI ([`Steering::Session`]), or the source alone where the header has no VNI at its place: a
//! session stays on one worker and in order, and sessions spread over the workers. Where one
//! session is more than a core can take, [`Steering::Flow`] hashes the outer source address and
//! port instead.
//!
//! A broadcast or multicast datagram comes to every socket of the group: see `owner`.
//!
//! ## What the kernel drops
//!
//! A socket counts the datagrams it had no room for. The count comes with each datagram
//! (`SO_RXQ_OVFL`), and is read once more at the end for those after the last (`SO_MEMINFO`). Both
//! show the same 32-bit counter, which also has the datagrams with a wrong checksum.

use std::array;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use socket2::Socket;

use super::backlog::Backlog;
use super::bind::{BindError, explain};
use super::copies::{self, Copies, Told};
use super::datagram::{Datagram, Received, Source};
use super::drops::DropCounter;
use super::group::{self, grow_receive_buffer, multicast, open, open_behind, set_receive_buffer};
use super::kept::{self, Kept};
use super::live::LiveSource;
use super::owner::{Owner, Rule};
use super::port::{Listener, Port};
use super::raw;
use super::steering::Steering;
use crate::record::Timestamp;
use crate::service::{Drops, Page, Record, State, Steered, Store};
use crate::sys::receive::{BATCH, ReceiveBatch};
use crate::sys::socket;
use crate::wire::{Carrier, VniMask, address};

/// The most batches of nothing but copies that are received one after the other.
const COPIES: usize = 16;

/// Bytes that a datagram in a receive buffer has at least, by the kernel's accounting: those of its
/// two structures are twice as many.
const LEAST: u32 = 256;

/// Datagrams that can be on their way into a receive buffer at a time, at most: each CPU has one
/// that a filter has steered and the buffer has not.
const ON_THE_WAY: u64 = 1 << 12;

/// The most addresses that can be listened on.
pub(crate) const MAX_LISTEN: usize = 16;

/// The settings of the sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpPlan {
    /// Addresses to receive on.
    pub listen: Vec<Listener>,
    /// Sockets per address.
    pub workers: usize,
    /// Decides which of them receives a datagram.
    pub steering: Steering,
    /// The bits of a VNI by which a session has its worker.
    pub vni_mask: VniMask,
    /// Receive buffer of each socket, in bytes of the kernel's accounting, which is 2-3 times the
    /// packets' own.
    pub receive_buffer: u32,
}

/// One socket, and what it has dropped.
#[derive(Debug)]
struct Bound {
    /// The socket, which `Copies` has as well.
    socket: Arc<Socket>,
    /// Where it is bound, and what comes there.
    at: Listener,
    drops: DropCounter,
    /// True where it is new and refuses what comes.
    refuses: bool,
    /// What the filter of its group goes by.
    steered: Steered,
    /// Datagrams that it may still have at most that another filter has steered. Which of them are
    /// copies nobody knows, so none is taken for one until so many were read, or the socket was
    /// found empty.
    others: u64,
}

impl Bound {
    /// Ends the refusal that a new socket begins with. What was refused is not dropped.
    fn accept(&mut self, owner: Owner) -> io::Result<()> {
        if !std::mem::take(&mut self.refuses) {
            return Ok(());
        }
        match self.at.carrier {
            Carrier::Udp => self.socket.detach_filter()?,
            Carrier::Ip => raw::let_in(&self.socket, owner.number, owner.workers)?,
        }
        self.drops.begin_at(socket::drops(&self.socket)?);
        Ok(())
    }
}

/// The sockets of one worker.
#[derive(Debug)]
pub struct UdpSource {
    sockets: Vec<Bound>,
    batch: ReceiveBatch,
    /// The smallest receive buffer of the sockets, in bytes.
    receive_buffer: u32,
    /// True where this worker has refused further datagrams.
    refuses: bool,
    /// Where it writes down what the process after this one has to know, if the sockets are kept
    /// for that.
    page: Option<Page>,
    /// True where this worker has left its sockets to that.
    leaves: bool,
    /// The numbers that are written there.
    record: Record,
    /// The numbers of the process before this one.
    before: Record,
    /// Datagrams that were lost with sockets of the process before this one.
    lost: u64,
    /// Total of drops when refusing began, once it has, where there is one worker.
    before_refusing: Option<u64>,
    owner: Owner,
    /// Copies that this worker has read, of what another worker has.
    copies: u64,
    /// The count of copies that were lost, for all workers. `None` where there is one worker.
    lost_copies: Option<Arc<Copies>>,
    /// Drops that this worker counts, where there are several.
    counted: u64,
    /// Refused datagrams that this worker counts, where there are several.
    counted_refused: u64,
    /// Number of the socket that the next call begins with.
    next: usize,
    /// True where there may be more than was received last.
    has_more: bool,
    /// The first message that was received and not lent yet.
    held: Option<Held>,
}

/// A message of the batch, from which on none has been lent.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// Number of the socket that the batch is from.
    socket: usize,
    /// Number of the message in the batch.
    message: usize,
}

/// Sockets for all workers.
#[derive(Debug)]
pub struct Listening {
    /// The sources, one for each worker.
    pub sources: Vec<UdpSource>,
    /// The addresses where they listen: what was asked for, with the port the kernel chose for port
    /// 0.
    pub addresses: Vec<SocketAddr>,
    /// The smallest receive buffer that a socket got, in bytes.
    pub receive_buffer: u32,
}

/// Opens the sockets of all workers. They refuse everything until [`LiveSource::begin`], for two
/// reasons. While some sockets of a group are missing, the others get what is meant for them, and a
/// session that begins in one worker and goes on in another reaches its file out of order. And
/// while the outputs are being opened, which may have much to read, nobody takes what fills the
/// receive buffers. Sockets that `store` has from the process before this one, or from a unit, are
/// complete, and refuse nothing.
///
/// # Errors
/// The first address that cannot be listened on is returned, with the reason.
pub fn listen(plan: &UdpPlan, store: &Store) -> Result<Listening, BindError> {
    let workers = u32::try_from(plan.workers).unwrap_or(u32::MAX);
    let copies = (workers > 1).then(|| Arc::new(Copies::new(plan.workers)));
    let rule = Rule { steering: plan.steering, vni_mask: plan.vni_mask };
    let mut kept = Kept::take(&plan.listen, plan.workers, rule, store)?;
    if let (Some(copies), Some(records)) = (&copies, kept.records()) {
        copies.go_on_from(records);
    }
    let uncounted = kept.left_off().map_or(0, copies::uncounted);
    let before = |number: u32| kept.record(number as usize).cloned().unwrap_or_else(|| Record::new(workers));
    let mut sources: Vec<UdpSource> = (0..workers)
        .map(|number| UdpSource {
            sockets: Vec::new(),
            batch: ReceiveBatch::new(),
            receive_buffer: u32::MAX,
            refuses: false,
            page: None,
            leaves: false,
            record: Record::new(workers),
            before: before(number),
            lost: if number == 0 { kept.lost + uncounted } else { 0 },
            before_refusing: None,
            owner: Owner { number, workers, steering: plan.steering },
            copies: before(number).copies,
            lost_copies: copies.clone(),
            counted: before(number).counted,
            counted_refused: 0,
            next: 0,
            has_more: false,
            held: None,
        })
        .collect();
    let mut addresses = Vec::new();
    let mut smallest = u32::MAX;
    for &listener in &plan.listen {
        let Listener { mut address, carrier, encapsulation } = listener;
        let os = |call| move |error| BindError::Os { listener, call, error };
        // With SO_REUSEPORT a second sensor could bind too and silently take half of the traffic. A
        // socket without it finds the port taken by whoever has it.
        let goes_on = kept.has(listener);
        let by = rule.of(encapsulation);
        if address.port() != 0 && !goes_on {
            let probe = open(address, false).map_err(os("socket"))?;
            socket::refuse_further(&probe).map_err(os("SO_ATTACH_FILTER"))?;
            probe.bind(&address.into()).map_err(|e| explain(listener, e))?;
        }
        for (index, source) in sources.iter_mut().enumerate() {
            let socket = match (kept.next(listener), carrier) {
                (Some(socket), _) => socket,
                (None, Carrier::Udp) => open(address, plan.workers > 1).map_err(os("socket"))?,
                (None, Carrier::Ip) => raw::open(listener)?,
            };
            let set = if kept.is_handed(listener) { grow_receive_buffer } else { set_receive_buffer };
            let got = set(&socket, plan.receive_buffer).map_err(os("SO_RCVBUF"))?;
            source.receive_buffer = source.receive_buffer.min(got);
            smallest = smallest.min(got);
            group::ask_for_facts(&socket, listener).map_err(|(call, error)| os(call)(error))?;
            // A process that ended while it refused has left a filter.
            match (goes_on, carrier) {
                (true, Carrier::Udp) => {
                    let _ = socket.detach_filter();
                }
                (true, Carrier::Ip) => {
                    raw::let_in(&socket, source.owner.number, workers).map_err(os("SO_ATTACH_FILTER"))?;
                }
                (false, Carrier::Udp) => {
                    socket::refuse_further(&socket).map_err(os("SO_ATTACH_FILTER"))?;
                    socket.bind(&address.into()).map_err(|e| explain(listener, e))?;
                }
                (false, Carrier::Ip) => {}
            }
            if carrier == Carrier::Ip {
                // There is no group.
            } else if index == 0 {
                let local = socket.local_addr().map_err(os("getsockname"))?;
                address.set_port(local.as_socket().map_or(address.port(), |a| a.port()));
                if workers > 1 {
                    let attached = match by {
                        Steered::Session { mask } => socket::steer_by_session(&socket, workers, mask),
                        Steered::Source => socket::steer_by_source(&socket, workers),
                        Steered::Flow => socket::steer_by_flow(&socket, workers),
                    };
                    attached.map_err(os("SO_ATTACH_REUSEPORT_CBPF"))?;
                }
            } else if address.is_ipv6() {
                multicast(&socket, plan.steering).map_err(os("IPV6_MULTICAST_ALL"))?;
            }
            let drops = if goes_on {
                kept.drop_counter(index, listener, &socket).map_err(os("SO_MEMINFO"))?
            } else {
                DropCounter::default()
            };
            let socket = Arc::new(socket);
            if let Some(copies) = &copies {
                copies.refuse_by(index, Arc::clone(&socket));
            }
            let at = Listener { address, ..listener };
            // By now what comes goes by the new filter.
            let others = if kept.has_others(listener) { most_queued(&socket) } else { 0 };
            source.sockets.push(Bound { socket, at, drops, refuses: !goes_on, steered: by, others });
        }
        if let Some(copies) = copies.as_ref().filter(|_| carrier == Carrier::Udp) {
            let behind = os("socket behind those of the workers");
            let (socket, counter) = match kept.behind(listener) {
                None => (open_behind(address, plan.steering).map_err(behind)?, DropCounter::default()),
                Some(socket) => {
                    if address.is_ipv6() {
                        multicast(&socket, plan.steering).map_err(os("IPV6_MULTICAST_ALL"))?;
                    }
                    let shared = kept.records().map(|records| &records.shared);
                    let counter = kept::drop_counter(shared, address, &socket).map_err(behind)?;
                    (socket, counter)
                }
            };
            copies.count_by(address, socket, counter);
        }
        addresses.push(address);
    }
    tracing::debug!(?addresses, receive_buffer = smallest, steering = ?plan.steering, workers = plan.workers, "sockets are bound");
    if store.keeps() {
        leave(&mut sources, copies.as_deref(), store);
    }
    Ok(Listening { sources, addresses, receive_buffer: smallest })
}

/// Returns how many datagrams wait in a socket at most, or are on their way there.
fn most_queued(socket: &Socket) -> u64 {
    socket::queued(socket).map_or(u64::MAX, |bytes| u64::from(bytes / LEAST) + ON_THE_WAY)
}

/// Has the sockets kept for the process after this one, and what it has to know written down.
fn leave(sources: &mut [UdpSource], copies: Option<&Copies>, store: &Store) {
    let state = match State::new() {
        Ok(state) => state,
        Err(error) => {
            return tracing::warn!("sockets are not kept over a restart: nothing can be written down for it: {error}");
        }
    };
    match copies {
        Some(copies) => copies.write_to(state.shared(), store),
        None => state.shared().write(&Record::new(1)),
    }
    for (worker, source) in sources.iter_mut().enumerate() {
        source.page = Some(state.of_worker(worker));
        source.write_down(0, false);
        source.sockets.iter().for_each(|bound| store.keep(&kept::name(bound.at, worker), &bound.socket));
    }
    // The manager has one of each name at most.
    store.forget(kept::STATE);
    store.keep(kept::STATE, &state);
}

impl UdpSource {
    /// Lists what to wait for, with others.
    pub(super) fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.sockets.iter().map(|bound| PollFd::new(&bound.socket, PollFlags::IN))
    }

    #[cfg(test)]
    pub(super) fn sockets(&self) -> Vec<&Socket> {
        self.sockets.iter().map(|bound| &*bound.socket).collect()
    }

    /// Returns the ports that the sockets are bound to.
    pub(super) fn ports(&self) -> Arc<[Port]> {
        self.sockets.iter().map(|bound| Port::of(bound.at)).collect()
    }

    /// Says whether the sockets may have more than was received last, whatever came of it.
    pub(super) fn has_more(&self) -> bool {
        self.has_more
    }

    /// Lends what has come to `take`, at most `limit` datagrams, and returns how many. A datagram
    /// that `take` refuses is held with those behind it, and is the first of the next call.
    #[inline]
    pub(super) fn lend_each(
        &mut self,
        limit: usize,
        take: &mut impl FnMut(&Datagram<'_>) -> bool,
    ) -> io::Result<usize> {
        let sockets = self.sockets.len();
        // Where each call finds as much as it takes, each socket is the first in its turn.
        let (mut total, mut first) = (0, self.next);
        self.next = (self.next + 1) % sockets.max(1);
        self.has_more = false;
        if let Some(held) = self.held.take() {
            total = self.lend(held, limit, take);
            if self.held.is_some() {
                return Ok(total);
            }
            // The socket has had its turn.
            first = held.socket + 1;
        }
        if self.leaves {
            return Ok(total);
        }
        // There may be a queue full of nothing but copies, behind which is what the caller would
        // take for the end. While more can come, the caller has other things to do, too.
        let mut tries = if self.refuses { usize::MAX } else { COPIES };
        for socket in (first..sockets).chain(0..first.min(sockets)) {
            if total >= limit {
                self.has_more = true;
                break;
            }
            let before = total;
            loop {
                let wanted = BATCH.min(limit - total);
                let Some(bound) = self.sockets.get(socket) else { break };
                let received = self.batch.receive(bound.socket.as_fd(), wanted)?;
                total += self.lend(Held { socket, message: 0 }, limit - total, take);
                if self.held.is_some() {
                    return Ok(total);
                }
                tries = tries.saturating_sub(1);
                let is_full = received == wanted;
                if !is_full && let Some(bound) = self.sockets.get_mut(socket) {
                    bound.others = 0;
                }
                if !is_full || total > before || tries == 0 {
                    self.has_more |= is_full;
                    break;
                }
            }
        }
        Ok(total)
    }

    /// Lends the messages of the batch from this one on. A message that is not taken, or beyond
    /// `limit`, is held.
    #[inline]
    fn lend(&mut self, from: Held, limit: usize, take: &mut impl FnMut(&Datagram<'_>) -> bool) -> usize {
        let Some(bound) = self.sockets.get_mut(from.socket) else { return 0 };
        let mut lent = 0;
        for (number, message) in self.batch.messages().enumerate().skip(from.message) {
            if let Some(drops) = message.drops {
                bound.drops.update(drops);
            }
            let over_udp = bound.at.carrier == Carrier::Udp;
            if over_udp && bound.others == 0 && self.owner.is_copy(&message, bound.steered) {
                self.copies += 1;
                continue;
            }
            let payload =
                if over_udp || message.over_ipv6 { message.payload } else { raw::behind_ipv4(message.payload) };
            let is_taken = lent < limit
                && take(&Datagram {
                    delivered: false,
                    payload,
                    length: payload.len(),
                    truncated: message.truncated,
                    // The kernel has dropped datagrams with a wrong checksum.
                    wrong_checksum: false,
                    source: if message.over_ipv6 { address::over_ipv6(message.source) } else { message.source },
                    port: bound.at.address.port(),
                    encapsulation: bound.at.encapsulation,
                    // The kernel stamps every datagram once the option is set.
                    timestamp: message.timestamp.map_or_else(Timestamp::now, Timestamp::from_ns),
                });
            if !is_taken {
                self.held = Some(Held { message: number, ..from });
                self.has_more = true;
                break;
            }
            lent += 1;
        }
        bound.others = bound.others.saturating_sub(lent as u64);
        lent
    }

    /// Counts drops so far, those before this process included.
    fn count_drops(&mut self) {
        let dropped = self.dropped();
        let Some(copies) = &self.lost_copies else {
            self.counted = self.before_refusing.unwrap_or(dropped);
            return;
        };
        let worker = self.owner.number as usize;
        let drops = copies.at_refusal(worker).map_or(dropped, |counters| {
            self.sockets.iter().zip(counters).map(|(bound, then)| bound.drops.total_at(then)).sum()
        });
        self.counted += copies.dropped(worker, Told { drops, copies: self.copies });
    }

    fn dropped(&mut self) -> u64 {
        let mut total = 0;
        for bound in &mut self.sockets {
            if let Ok(drops) = socket::drops(&bound.socket) {
                bound.drops.update(drops);
            }
            total += bound.drops.total();
        }
        total
    }
}

impl Source for UdpSource {
    fn receive(&mut self, limit: usize, deliver: &mut impl FnMut(&Datagram<'_>)) -> io::Result<Received> {
        let received = self.lend_each(limit, &mut |datagram| {
            deliver(datagram);
            true
        })?;
        Ok(Received::Datagrams(received))
    }
}

impl LiveSource for UdpSource {
    fn begin(&mut self) -> io::Result<()> {
        // What is given to all in between is counted as given and not read, so that no copy of it
        // is taken for a drop.
        self.lost_copies.as_ref().map_or(Ok(()), |copies| copies.begin(self.owner.number as usize))?;
        self.sockets.iter_mut().try_for_each(|bound| bound.accept(self.owner))
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        // poll(2), not epoll: a socket that epoll watches runs a callback for every datagram, also
        // while nobody waits.
        let [first, ..] = &*self.sockets else { return Ok(()) };
        let mut ready: [PollFd<'_>; MAX_LISTEN] = array::from_fn(|i| {
            let bound = self.sockets.get(i).unwrap_or(first);
            PollFd::new(&bound.socket, PollFlags::IN)
        });
        let used = ready.len().min(self.sockets.len());
        match rustix::event::poll(ready.get_mut(..used).unwrap_or_default(), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn patience(&self) -> Duration {
        // 10 Gbit/s fill the doubled buffer by some 2.5 bytes a nanosecond, since the kernel counts
        // packets at about twice their length. Half of the time that takes is the patience.
        Duration::from_nanos(u64::from(self.receive_buffer) * 2 / 5)
    }

    fn kernel_dropped(&mut self) -> u64 {
        self.count_drops();
        // What was handed over may be of another, and say more than there is.
        self.counted.saturating_sub(self.before.counted) + self.lost
    }

    fn copies(&self) -> u64 {
        self.copies - self.before.copies
    }

    fn shares_sessions(&self) -> bool {
        self.owner.workers > 1 && self.owner.steering == Steering::Flow
    }

    fn backlog(&self) -> Backlog {
        let sockets = self.sockets.iter().filter_map(|bound| rustix::fs::fstat(&bound.socket).ok());
        Backlog { sockets: sockets.map(|stat| stat.st_ino).collect(), ..Backlog::default() }
    }

    fn refuse_further(&mut self) {
        if self.page.is_some() {
            self.leaves = true;
            return;
        }
        self.refuses = true;
        if let Some(copies) = &self.lost_copies {
            return copies.refuse();
        }
        self.before_refusing = Some(self.dropped());
        for bound in &self.sockets {
            if let Err(error) = socket::refuse_further(&bound.socket) {
                tracing::warn!(%error, "cannot refuse further datagrams; draining what comes for a moment");
            }
        }
    }
    fn refused(&mut self) -> u64 {
        if let Some(copies) = &self.lost_copies {
            self.counted_refused += copies.refused();
            return self.counted_refused;
        }
        self.before_refusing.map_or(0, |before| self.dropped() - before)
    }

    fn left_queued(&self) -> u64 {
        let sockets = self.sockets.iter().filter(|_| self.leaves);
        sockets.map(|bound| u64::from(socket::queued(&bound.socket).unwrap_or(0))).sum()
    }

    fn write_down(&mut self, received: u64, ended: bool) {
        let Some(page) = &self.page else { return };
        let Self { record, sockets, copies, counted, owner, lost_copies, .. } = self;
        record.drops.clear();
        record.drops.extend(sockets.iter().map(|bound| Drops {
            address: bound.at.address,
            last: bound.drops.last(),
            total: bound.drops.total(),
            steered: (bound.others == 0).then_some(bound.steered),
        }));
        (record.copies, record.counted, record.received, record.ended) = (*copies, *counted, received, ended);
        record.begun = lost_copies.as_ref().and_then(|copies| copies.begun(owner.number as usize));
        page.write(record);
    }
}

#[cfg(test)]
mod tests;
