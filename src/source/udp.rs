//! A worker has one UDP socket for each listen address, in a `SO_REUSEPORT` group.
//!
//! ## What decides which worker receives a datagram
//!
//! The kernel picks a socket of the group. By itself it hashes outer addresses and ports. A cloud
//! mirror uses few outer source ports (128 on AWS), and one inner conversation can use two of them,
//! so that choice spreads one session unevenly over the workers and its frames reach the outputs
//! out of order. So the group gets a small filter program that hashes the outer source address and
//! the VNI ([`Steering::Session`]), or the source alone where the header has no VNI at its place: a
//! session stays on one worker and in order, and sessions spread over the workers. Where one
//! session is more than a core can take, [`Steering::Flow`] hashes the outer source address and port
//! instead.
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
use socket2::{Domain, Protocol, Socket, Type};

use super::bind::{BindError, explain};
use super::copies::{Copies, Told};
use super::datagram::{Datagram, Received, Source};
use super::drops::DropCounter;
use super::live::LiveSource;
use super::owner::{Owner, has_vni};
use super::port::{Listener, Port};
use super::steering::Steering;
use crate::record::Timestamp;
use crate::sys::receive::{BATCH, ReceiveBatch};
use crate::sys::socket;
use crate::wire::address;

/// The most batches of nothing but copies that are received one after the other.
const COPIES: usize = 16;

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
    /// Receive buffer of each socket, in bytes of the kernel's accounting, which is 2-3 times the
    /// packets' own.
    pub receive_buffer: u32,
}

/// One socket, and what it has dropped.
#[derive(Debug)]
struct Bound {
    /// The socket, which `Copies` has as well.
    socket: Arc<Socket>,
    port: Port,
    drops: DropCounter,
}

impl Bound {
    /// Ends the refusal that the socket began with. What was refused is not dropped.
    fn accept(&mut self) -> io::Result<()> {
        self.socket.detach_filter()?;
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
/// receive buffers.
///
/// # Errors
/// The first address that cannot be listened on is returned, with the reason.
pub fn listen(plan: &UdpPlan) -> Result<Listening, BindError> {
    let workers = u32::try_from(plan.workers).unwrap_or(u32::MAX);
    let copies = (workers > 1).then(|| Arc::new(Copies::new(plan.workers)));
    let mut sources: Vec<UdpSource> = (0..workers)
        .map(|number| UdpSource {
            sockets: Vec::new(),
            batch: ReceiveBatch::new(),
            receive_buffer: u32::MAX,
            refuses: false,
            before_refusing: None,
            owner: Owner { number, workers, steering: plan.steering },
            copies: 0,
            lost_copies: copies.clone(),
            counted: 0,
            counted_refused: 0,
            next: 0,
            has_more: false,
            held: None,
        })
        .collect();
    let mut addresses = Vec::new();
    let mut smallest = u32::MAX;
    for &Listener { address: wanted, encapsulation } in &plan.listen {
        let mut address = wanted;
        let os = |call| move |error| BindError::Os { address: wanted, call, error };
        // With SO_REUSEPORT a second sensor could bind too and silently take half of the traffic. A
        // socket without it finds the port taken by whoever has it.
        if address.port() != 0 {
            let probe = open(address, false).map_err(os("socket"))?;
            socket::refuse_further(&probe).map_err(os("SO_ATTACH_FILTER"))?;
            probe.bind(&address.into()).map_err(|e| explain(address, e))?;
        }
        for (index, source) in sources.iter_mut().enumerate() {
            let socket = open(address, plan.workers > 1).map_err(os("socket"))?;
            let got = set_receive_buffer(&socket, plan.receive_buffer).map_err(os("SO_RCVBUF"))?;
            source.receive_buffer = source.receive_buffer.min(got);
            smallest = smallest.min(got);
            socket::receive_timestamps(&socket).map_err(os("SO_TIMESTAMPNS"))?;
            socket::receive_drop_counter(&socket).map_err(os("SO_RXQ_OVFL"))?;
            if address.is_ipv6() {
                socket::receive_zero_checksum_v6(&socket).map_err(os("UDP_NO_CHECK6_RX"))?;
                socket::receive_hop_limit_v6(&socket).map_err(os("IPV6_RECVHOPLIMIT"))?;
            }
            socket::refuse_further(&socket).map_err(os("SO_ATTACH_FILTER"))?;
            socket.bind(&address.into()).map_err(|e| explain(address, e))?;
            if index == 0 {
                let local = socket.local_addr().map_err(os("getsockname"))?;
                address.set_port(local.as_socket().map_or(address.port(), |a| a.port()));
                if workers > 1 {
                    let steer = match plan.steering {
                        Steering::Session if has_vni(encapsulation) => socket::steer_by_session,
                        Steering::Session => socket::steer_by_source,
                        Steering::Flow => socket::steer_by_flow,
                    };
                    steer(&socket, workers).map_err(os("SO_ATTACH_REUSEPORT_CBPF"))?;
                }
            } else if plan.steering == Steering::Flow && address.is_ipv6() {
                socket::refuse_multicast_v6(&socket).map_err(os("IPV6_MULTICAST_ALL"))?;
            }
            let socket = Arc::new(socket);
            if let Some(copies) = &copies {
                copies.refuse_by(index, Arc::clone(&socket));
            }
            source.sockets.push(Bound {
                socket,
                port: Port { number: address.port(), encapsulation },
                drops: DropCounter::default(),
            });
        }
        if let Some(copies) = &copies {
            copies.count_by(open_behind(address, plan.steering).map_err(os("socket behind those of the workers"))?);
        }
        addresses.push(address);
    }
    tracing::debug!(?addresses, receive_buffer = smallest, steering = ?plan.steering, workers = plan.workers, "sockets are bound");
    Ok(Listening { sources, addresses, receive_buffer: smallest })
}

fn open(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // [::] takes IPv4 too, whatever the host's default.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_port(reuse_port)?;
    Ok(socket)
}

/// Opens the socket of a group that only what is given to all comes to, and that takes nothing: see
/// `copies`. It must be the last of its group.
fn open_behind(address: SocketAddr, steering: Steering) -> io::Result<Socket> {
    let socket = open(address, true)?;
    if address.is_ipv6() {
        socket::receive_zero_checksum_v6(&socket)?;
        if steering == Steering::Flow {
            socket::refuse_multicast_v6(&socket)?;
        }
    }
    socket::refuse_further(&socket)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Asks for `bytes`, beyond the host's limit if that is allowed, and returns what the socket has.
/// The kernel doubles what it is asked for to make room for its own bookkeeping, and reports the
/// double.
fn set_receive_buffer(socket: &Socket, bytes: u32) -> io::Result<u32> {
    if socket::force_receive_buffer(socket, bytes).is_err() {
        socket.set_recv_buffer_size(bytes as usize)?;
    }
    Ok(u32::try_from(socket.recv_buffer_size()? / 2).unwrap_or(u32::MAX))
}

impl UdpSource {
    /// Lists what to wait for, with others.
    pub(super) fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.sockets.iter().map(|bound| PollFd::new(&bound.socket, PollFlags::IN))
    }

    /// Returns the ports that the sockets are bound to.
    pub(super) fn ports(&self) -> Arc<[Port]> {
        self.sockets.iter().map(|bound| bound.port).collect()
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
            if self.owner.is_copy(&message, bound.port.encapsulation) {
                self.copies += 1;
                continue;
            }
            let is_taken = lent < limit
                && take(&Datagram {
                    delivered: false,
                    payload: message.payload,
                    length: message.payload.len(),
                    truncated: message.truncated,
                    // The kernel has dropped datagrams with a wrong checksum.
                    wrong_checksum: false,
                    source: if message.over_ipv6 { address::over_ipv6(message.source) } else { message.source },
                    port: bound.port.number,
                    encapsulation: bound.port.encapsulation,
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
        lent
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
        self.sockets.iter_mut().try_for_each(Bound::accept)
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
        let dropped = self.dropped();
        let Some(copies) = &self.lost_copies else { return self.before_refusing.unwrap_or(dropped) };
        let drops = copies.at_refusal(self.owner.number as usize).map_or(dropped, |counters| {
            self.sockets.iter().zip(counters).map(|(bound, then)| bound.drops.total_at(then)).sum()
        });
        self.counted += copies.dropped(self.owner.number as usize, Told { drops, copies: self.copies });
        self.counted
    }

    fn copies(&self) -> u64 {
        self.copies
    }

    fn refuse_further(&mut self) {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Encapsulation;
    use std::net::UdpSocket;

    fn plan(listen: &str, workers: usize) -> UdpPlan {
        let listen = vec![listen.parse().unwrap()];
        UdpPlan { listen, workers, steering: Steering::Session, receive_buffer: 1 << 20 }
    }

    #[test]
    fn dual_stack_receives_both_families() {
        let mut listening = listen(&plan("[::]:0", 1)).unwrap();
        listening.sources[0].begin().unwrap();
        let port = listening.addresses[0].port();
        let mut sources = Vec::new();
        for from in ["127.0.0.1", "::1"] {
            let sender = UdpSocket::bind((from, 0)).unwrap();
            sender.send_to(b"hello", (from, port)).unwrap();
            listening.sources[0].wait(Duration::from_secs(5)).unwrap();
            let n = listening.sources[0].receive(64, &mut |d| {
                assert_eq!((d.port, d.encapsulation), (port, Encapsulation::Vxlan));
                sources.push(d.source.to_canonical().to_string());
            });
            assert_eq!(n.unwrap(), Received::Datagrams(1));
        }
        assert_eq!(sources, ["127.0.0.1", "::1"]);
        listening.sources[0].wait(Duration::from_millis(1)).unwrap();
        assert_eq!(listening.sources[0].receive(64, &mut |_| ()).unwrap(), Received::Datagrams(0));
    }

    #[test]
    fn no_address_starves_another() {
        let listen_on = vec!["127.0.0.1:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap()];
        let mut listening = listen(&UdpPlan { listen: listen_on, ..plan("127.0.0.1:0", 1) }).unwrap();
        let source = &mut listening.sources[0];
        source.begin().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let send = |n, to| (0..n).for_each(|_| assert_eq!(sender.send_to(b"hello", to).unwrap(), 5));
        let (busy, quiet) = (listening.addresses[0], listening.addresses[1]);
        send(1, quiet);
        let mut heard = Vec::new();
        for _ in 0..3 {
            send(BATCH, busy);
            source.receive(BATCH, &mut |datagram| heard.push(datagram.port)).unwrap();
        }
        assert_eq!(heard.iter().filter(|port| **port == quiet.port()).count(), 1);
    }

    #[test]
    fn a_taken_port_is_refused_also_when_the_other_shares_it() {
        let first = listen(&plan("127.0.0.1:0", 2)).unwrap();
        let error = listen(&plan(&first.addresses[0].to_string(), 1)).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("the port is taken by process") && text.contains(&std::process::id().to_string()),
            "{text}"
        );
    }

    #[test]
    fn a_foreign_address_is_refused_with_ours() {
        let text = listen(&plan("192.0.2.77:0", 1)).unwrap_err().to_string();
        assert!(text.contains("does not have that address") && text.contains("127.0.0.1"), "{text}");
    }

    #[test]
    fn overflow_and_refusal_are_counted_exactly() {
        let mut listening = listen(&UdpPlan { receive_buffer: 1, ..plan("127.0.0.1:0", 1) }).unwrap();
        let source = &mut listening.sources[0];
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        // Nobody listens yet.
        for _ in 0..3 {
            sender.send_to(&[0; 1000], listening.addresses[0]).unwrap();
        }
        source.begin().unwrap();
        assert_eq!(source.receive(64, &mut |_| ()).unwrap(), Received::Datagrams(0));
        assert_eq!(source.kernel_dropped(), 0);
        for _ in 0..1000 {
            sender.send_to(&[0; 1000], listening.addresses[0]).unwrap();
        }
        source.refuse_further();
        for _ in 0..7 {
            sender.send_to(&[0; 1000], listening.addresses[0]).unwrap();
        }
        let mut received = 0;
        while let Ok(Received::Datagrams(n @ 1..)) = source.receive(64, &mut |_| ()) {
            received += n as u64;
        }
        assert!(source.kernel_dropped() > 0);
        assert_eq!(received + source.kernel_dropped(), 1000);
        assert_eq!(source.refused(), 7);
    }
}
