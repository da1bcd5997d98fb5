//! Datagrams are received in batches: `recvmmsg(2)` into slots that stay in place.
//!
//! A mirrored datagram is at most 9001 bytes on AWS, yet UDP allows 64 KiB. Slots that each hold
//! the largest datagram would lie 64 KiB apart, where their first lines share the same few cache
//! sets. So a message is received into two pieces: a slot of [`SLOT`] bytes, an odd number of cache
//! lines, and a tail that only datagrams larger than a slot reach. The tails are never touched,
//! hence not even mapped, until then. When one is, the slot's bytes are copied in front of the
//! tail, so that a datagram is always one slice.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes of a slot: holds the UDP payload of a 9001-byte packet; an odd number of 64-byte lines.
pub(crate) const SLOT: usize = 145 * 64;
/// Bytes of a slot with its tail: more than the largest UDP payload, 65,527 bytes over IPv6.
const WHOLE: usize = 65_536;
/// A batch has at most so many messages. The kernel caps it at UIO_MAXIOV (1024); beyond 64 the
/// saving per message is small.
pub(crate) const BATCH: usize = 64;

/// Room for the three control messages that are asked for: a timespec (16 bytes), a counter and a
/// hop limit (4 bytes each), each with a 16-byte header and padding.
pub(super) const CONTROL: usize = 96;

/// The kernel aligns control messages to `size_t`.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control(pub(super) [u8; CONTROL]);

/// Large enough for an IPv6 socket address, which is all a UDP socket returns.
type Name = [u8; NAME as usize];
const NAME: libc::socklen_t = 28;

/// The kernel's words about one received datagram.
#[derive(Debug, Clone, Copy)]
struct Meta {
    length: u32,
    truncated: bool,
    source: Ipv6Addr,
    source_port: u16,
    told: Told,
}

/// The control messages of a datagram.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) timestamp: Option<u64>,
    drops: Option<u32>,
    over_ipv6: bool,
}

/// A received datagram, lent until the next receive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    /// The UDP payload.
    pub payload: &'a [u8],
    /// True where the payload's end is missing (`MSG_TRUNC`).
    pub truncated: bool,
    /// Source address; IPv4 as IPv4-mapped IPv6.
    pub source: Ipv6Addr,
    /// Source UDP port.
    pub source_port: u16,
    /// True where the datagram came in an IPv6 packet, whose source can be an IPv4-mapped address,
    /// too (`IPV6_RECVHOPLIMIT`).
    pub over_ipv6: bool,
    /// The time at which the kernel received it (`SO_TIMESTAMPNS`), in ns since the epoch.
    pub timestamp: Option<u64>,
    /// The socket's drop counter when this datagram was queued (`SO_RXQ_OVFL`); absent while it is
    /// 0.
    pub drops: Option<u32>,
}

/// Memory for one batch.
#[derive(Debug)]
pub(crate) struct ReceiveBatch {
    slots: Vec<u8>,
    wholes: Vec<u8>,
    received: Vec<Meta>,
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl ReceiveBatch {
    /// Makes a batch of [`BATCH`] messages.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self { slots: vec![0; BATCH * SLOT], wholes: vec![0; BATCH * WHOLE], received: Vec::with_capacity(BATCH) }
    }

    /// Receives what is queued on `socket`, at most `limit` datagrams and at most [`BATCH`],
    /// without waiting. It returns how many; none where nothing is queued.
    ///
    /// `recvmmsg(2)` says: with `MSG_DONTWAIT` the call returns as many messages as there are, or
    /// `EAGAIN` if there is none. An error after the first message is kept by the kernel and
    /// returned by the next call. `msg_len` is the number of bytes received, and `MSG_TRUNC` in
    /// `msg_flags` says that the datagram was longer than its buffers. The kernel overwrites
    /// `msg_namelen`, `msg_controllen` and `msg_flags`, so the headers are written anew for each
    /// call.
    ///
    /// # Errors
    /// The error of `recvmmsg(2)`, but for `EAGAIN` and `EINTR`, which count as nothing received.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        self.received.clear();
        let limit = limit.min(BATCH);
        let mut names: [MaybeUninit<Name>; BATCH] = [MaybeUninit::uninit(); BATCH];
        let mut controls: [MaybeUninit<Control>; BATCH] = [MaybeUninit::uninit(); BATCH];
        let mut pieces = [[libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; 2]; BATCH];
        let mut headers: [MaybeUninit<libc::mmsghdr>; BATCH] = [MaybeUninit::uninit(); BATCH];

        let slots = self.slots.chunks_exact_mut(SLOT);
        let wholes = self.wholes.chunks_exact_mut(WHOLE);
        for (((((slot, whole), name), control), piece), header) in
            slots.zip(wholes).zip(&mut names).zip(&mut controls).zip(&mut pieces).zip(&mut headers).take(limit)
        {
            let tail = whole.get_mut(SLOT..).unwrap_or_default();
            *piece = [
                libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() },
                libc::iovec { iov_base: tail.as_mut_ptr().cast(), iov_len: tail.len() },
            ];
            // musl's msghdr has private padding, so it cannot be written as a literal everywhere.
            // SAFETY: msghdr is a C struct of pointers and integers, for which all zeroes is a
            // valid value.
            let mut message: libc::msghdr = unsafe { mem::zeroed() };
            message.msg_name = name.as_mut_ptr().cast();
            message.msg_namelen = NAME;
            message.msg_iov = piece.as_mut_ptr();
            message.msg_iovlen = 2;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = CONTROL;
            header.write(libc::mmsghdr { msg_hdr: message, msg_len: 0 });
        }

        // SAFETY: the first `limit` headers were written above; each points to a name, a control
        // buffer and two pieces that are disjoint, writable for the stated lengths and alive until
        // this function returns. The kernel writes within those lengths only.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr().cast(),
                libc::c_uint::try_from(limit).unwrap_or(0),
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            };
        };

        for (i, ((header, name), control)) in headers.iter().zip(&names).zip(&controls).take(count).enumerate() {
            // SAFETY: `count` is at most `limit`, and the first `limit` headers were written above.
            let header = unsafe { header.assume_init_ref() };
            let name_length = header.msg_hdr.msg_namelen.min(NAME) as usize;
            // SAFETY: the kernel wrote `msg_namelen` bytes of the name.
            let name = unsafe { std::slice::from_raw_parts(name.as_ptr().cast::<u8>(), name_length) };
            let control_length = header.msg_hdr.msg_controllen.min(CONTROL);
            // SAFETY: the kernel wrote `msg_controllen` bytes of control messages.
            let control = unsafe { std::slice::from_raw_parts(control.as_ptr().cast::<u8>(), control_length) };
            let (source, source_port) = source_address(name);
            let told = control_messages(control);
            let length = header.msg_len as usize;
            if length > SLOT {
                let slot = self.slots.get(i * SLOT..(i + 1) * SLOT).unwrap_or_default();
                if let Some(head) = self.wholes.get_mut(i * WHOLE..i * WHOLE + SLOT) {
                    head.copy_from_slice(slot);
                }
            }
            self.received.push(Meta {
                length: header.msg_len,
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                source,
                source_port,
                told,
            });
        }
        Ok(count)
    }

    /// Lends the datagrams of the last receive, in the order of the socket's queue.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        self.received.iter().enumerate().map(|(i, meta)| {
            let length = meta.length as usize;
            let payload = if length > SLOT {
                self.wholes.get(i * WHOLE..i * WHOLE + length)
            } else {
                self.slots.get(i * SLOT..i * SLOT + length)
            };
            Message {
                payload: payload.unwrap_or_default(),
                truncated: meta.truncated,
                source: meta.source,
                source_port: meta.source_port,
                over_ipv6: meta.told.over_ipv6,
                timestamp: meta.told.timestamp,
                drops: meta.told.drops,
            }
        })
    }
}

/// Reads address and port from a `sockaddr_in` or `sockaddr_in6`; they are unspecified for anything
/// else.
fn source_address(name: &[u8]) -> (Ipv6Addr, u16) {
    let family = name.first_chunk::<2>().map_or(0, |b| u16::from_ne_bytes(*b));
    let port = name.get(2..4).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_be_bytes(*b));
    let address = match i32::from(family) {
        libc::AF_INET => name.get(4..8).and_then(|b| b.first_chunk::<4>()).map(|b| Ipv4Addr::from(*b).to_ipv6_mapped()),
        libc::AF_INET6 => name.get(8..24).and_then(|b| b.first_chunk::<16>()).map(|b| Ipv6Addr::from(*b)),
        _ => None,
    };
    (address.unwrap_or(Ipv6Addr::UNSPECIFIED), port)
}

/// Finds timestamp (ns since the epoch), drop counter and IP version among control messages. Only
/// an IPv6 packet comes with a hop limit.
///
/// A control message is `cmsg_len` (`size_t`, header included), `cmsg_level`, `cmsg_type` (`int`
/// each), then data, padded to 8 bytes (`cmsg(3)`).
pub(super) fn control_messages(mut rest: &[u8]) -> Told {
    let mut told = Told::default();
    while let Some(header) = rest.first_chunk::<16>() {
        let [l0, l1, l2, l3, l4, l5, l6, l7, v0, v1, v2, v3, t0, t1, t2, t3] = *header;
        let length = usize::from_ne_bytes([l0, l1, l2, l3, l4, l5, l6, l7]);
        let Some(data) = rest.get(16..length) else { break };
        match (i32::from_ne_bytes([v0, v1, v2, v3]), i32::from_ne_bytes([t0, t1, t2, t3])) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                if let [s, n] = data.as_chunks::<8>().0 {
                    let seconds = u64::try_from(i64::from_ne_bytes(*s)).unwrap_or(0);
                    let nanoseconds = u64::try_from(i64::from_ne_bytes(*n)).unwrap_or(0);
                    told.timestamp = Some(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds));
                }
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                told.drops = data.first_chunk().map(|b| u32::from_ne_bytes(*b));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => told.over_ipv6 = true,
            _ => {}
        }
        let Some(next) = rest.get(length.next_multiple_of(8)..) else { break };
        rest = next;
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    fn wait_for(batch: &mut ReceiveBatch, socket: &UdpSocket, limit: usize) -> usize {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let n = batch.receive(socket.as_fd(), limit).unwrap();
            if n > 0 || Instant::now() > deadline {
                return n;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn datagrams_of_all_sizes_arrive_whole_and_in_order() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket::receive_timestamps(&receiver).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut batch = ReceiveBatch::new();
        assert_eq!(batch.receive(receiver.as_fd(), BATCH).unwrap(), 0);
        for (i, size) in [0, 1, 8, SLOT - 1, SLOT, SLOT + 1, 30_000, 65_507].into_iter().enumerate() {
            let sent: Vec<u8> = (0..size).map(|b| (b * 7 + i) as u8).collect();
            sender.send_to(&sent, receiver.local_addr().unwrap()).unwrap();
            assert_eq!(wait_for(&mut batch, &receiver, BATCH), 1);
            let message = batch.messages().next().unwrap();
            assert!(message.payload == sent, "size {size}");
            assert!(!message.truncated);
            assert_eq!(message.source, Ipv4Addr::LOCALHOST.to_ipv6_mapped());
            assert_eq!(message.source_port, sender.local_addr().unwrap().port());
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
            let age = now - message.timestamp.expect("a timestamp");
            assert!(age < 60_000_000_000, "timestamp {age} ns old");
        }
    }

    #[test]
    fn the_limit_holds_and_the_rest_stays_queued() {
        let receiver = UdpSocket::bind("[::1]:0").unwrap();
        let sender = UdpSocket::bind("[::1]:0").unwrap();
        for i in 0..5u8 {
            sender.send_to(&[i], receiver.local_addr().unwrap()).unwrap();
        }
        let mut batch = ReceiveBatch::new();
        assert_eq!(wait_for(&mut batch, &receiver, 3), 3);
        let got: Vec<u8> = batch.messages().map(|m| m.payload[0]).collect();
        assert_eq!(got, [0, 1, 2]);
        assert_eq!(batch.messages().next().unwrap().source, Ipv6Addr::LOCALHOST);
        assert_eq!(wait_for(&mut batch, &receiver, BATCH), 2);
    }

    #[test]
    fn control_messages_that_lie_about_their_length_are_ignored() {
        assert_eq!(control_messages(&[]), Told::default());
        assert_eq!(control_messages(&[0; 64]), Told::default());
        let mut long = [0u8; 24];
        long[..8].copy_from_slice(&1000usize.to_ne_bytes());
        assert_eq!(control_messages(&long), Told::default());
    }
}
