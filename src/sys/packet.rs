//! Packets are watched as they pass the interfaces of this host: `packet(7)`.
//!
//! A packet is seen before a firewall, `rp_filter` or a socket decides on it, and behind a program
//! at XDP. A filter in the kernel lets through what can be mirror traffic, and of each packet its
//! beginning alone. What nobody reads in time waits in the socket's receive buffer, with the time
//! at which it passed, and what has no room there is counted.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::receive::{CONTROL, Control, control_messages};
use super::socket::{attach, force_receive_buffer, jump, receive_timestamps, set_int, statement};

/// Bytes of a packet that are kept, from its IP header on: all headers of a mirrored packet, and as
/// much of its payload as tells it from another.
const KEPT: u32 = 512;
/// Bytes of packets that may wait, as the kernel counts them.
const BUFFER: u32 = 32 << 20;

/// linux/if_ether.h, in the byte order of the network.
const ALL: u16 = 0x0003_u16.to_be();
/// linux/if_packet.h.
const OUTGOING: u8 = 4;
const TO_OTHERS: u8 = 3;
const PACKET_STATISTICS: i32 = 6;

/// A packet, lent until the next is received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    /// Its beginning, from the IP header on.
    pub bytes: &'a [u8],
    /// The number of the interface.
    pub interface: u32,
    /// True where this host sends it.
    pub sent: bool,
    /// True where its Ethernet address is another host's.
    pub to_others: bool,
    /// The time at which the kernel received it, in ns since the epoch; that of reading where the
    /// kernel did not note times yet, which it begins to a moment after somebody asks.
    pub timestamp: Option<u64>,
}

/// Watches IP packets of one interface, or of all.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    socket: OwnedFd,
    buffer: Box<[u8]>,
}

impl PacketSocket {
    /// Begins to watch the interface of this number; all of them where it is 0.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_RAW; otherwise the error of `socket(2)`, `setsockopt(2)` or
    /// `bind(2)`.
    pub(crate) fn open(interface: u32) -> io::Result<Self> {
        // Nothing is received before the filter is there: protocol 0 is none.
        // SAFETY: socket takes three integers, and returns a descriptor or -1.
        let descriptor = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was made just now, and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        attach(&socket, libc::SO_ATTACH_FILTER, &filter())?;
        receive_timestamps(&socket)?;
        if force_receive_buffer(&socket, BUFFER).is_err() {
            set_int(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, i32::try_from(BUFFER).unwrap_or(i32::MAX))?;
        }
        // SAFETY: sockaddr_ll is a C struct of integers, for which all zeroes is a valid value.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
        address.sll_protocol = ALL;
        address.sll_ifindex = i32::try_from(interface).map_err(io::Error::other)?;
        let length = libc::socklen_t::try_from(mem::size_of_val(&address)).map_err(io::Error::other)?;
        // SAFETY: the descriptor is open; the pointer and length describe `address`, which the
        // kernel only reads during the call.
        let result = unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), length) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { socket, buffer: vec![0; KEPT as usize].into() })
    }

    /// Receives the next packet; none where no further one waits.
    ///
    /// # Errors
    /// The error of `recvmsg(2)`, as `ENETDOWN` once after the interface was taken down.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Packet<'_>>> {
        // SAFETY: sockaddr_ll is a C struct of integers, for which all zeroes is a valid value.
        let mut from: libc::sockaddr_ll = unsafe { mem::zeroed() };
        let mut control = Control([0; CONTROL]);
        let mut piece = libc::iovec { iov_base: self.buffer.as_mut_ptr().cast(), iov_len: self.buffer.len() };
        // SAFETY: msghdr is a C struct of pointers and integers, for which all zeroes is a valid
        // value.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_name = std::ptr::from_mut(&mut from).cast();
        header.msg_namelen = libc::socklen_t::try_from(mem::size_of_val(&from)).map_err(io::Error::other)?;
        header.msg_iov = &raw mut piece;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL;
        // SAFETY: the descriptor is open; the header points to the address, the control buffer and
        // the piece, which are writable for the stated lengths and outlive the call. The kernel
        // writes within these only.
        let received = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
        let Ok(received) = usize::try_from(received) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        };
        Ok(Some(Packet {
            bytes: self.buffer.get(..received).unwrap_or_default(),
            interface: from.sll_ifindex.cast_unsigned(),
            sent: from.sll_pkttype == OUTGOING,
            to_others: from.sll_pkttype == TO_OTHERS,
            timestamp: control_messages(control.0.get(..header.msg_controllen).unwrap_or_default()).timestamp,
        }))
    }

    /// Returns how many packets had no room since this was asked last.
    ///
    /// # Errors
    /// The error of `getsockopt(2)`.
    pub(crate) fn missed(&self) -> io::Result<u32> {
        // struct tpacket_stats has the packets, and those of them that were dropped.
        let mut counts = [0_u32; 2];
        let mut length = libc::socklen_t::try_from(mem::size_of_val(&counts)).map_err(io::Error::other)?;
        // SAFETY: the descriptor is open; the pointer and length describe `counts`, and the kernel
        // writes within them only.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                PACKET_STATISTICS,
                counts.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if result == 0 { Ok(counts[1]) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Makes the program that lets through UDP that is received, fragments included, and ICMP, which is
/// of interest where this host sends it. The packet begins with its IP header.
fn filter() -> [libc::sock_filter; 18] {
    use libc::{BPF_ABS, BPF_B, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    let about = |field: i32| statement(BPF_LD | BPF_W | BPF_ABS, (libc::SKF_AD_OFF + field).cast_unsigned());
    let is = |value, jt, jf| jump(BPF_JMP | BPF_JEQ | BPF_K, value, jt, jf);
    let byte = |at| statement(BPF_LD | BPF_B | BPF_ABS, at);
    let keep = |bytes| statement(BPF_RET | BPF_K, bytes);
    [
        about(libc::SKF_AD_PROTOCOL),
        is(0x0800, 2, 0),
        is(0x86dd, 4, 0),
        keep(0),
        // IPv4: the protocol, which all fragments have. ICMP is kept whoever sends it.
        byte(9),
        is(17, 8, 0),
        is(1, 9, 6),
        // IPv6: the next header. Behind extension headers there may be UDP.
        byte(6),
        is(58, 7, 0),
        is(17, 4, 0),
        is(44, 3, 0),
        is(0, 2, 0),
        is(60, 1, 0),
        keep(0),
        about(libc::SKF_AD_PKTTYPE),
        is(OUTGOING.into(), 1, 0),
        keep(KEPT),
        keep(0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::thread;
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    #[test]
    fn what_is_received_is_seen_once_and_what_is_sent_is_not() {
        let Ok(mut watched) = PacketSocket::open(1) else { return };
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = receiver.local_addr().unwrap().port();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for length in [10, 1000] {
            sender.send_to(&vec![7; length], ("127.0.0.1", port)).unwrap();
        }
        let (mut seen, end) = (Vec::new(), Instant::now() + Duration::from_secs(5));
        while seen.len() < 2 && Instant::now() < end {
            if let Some(packet) = watched.receive().unwrap()
                && packet.bytes[22..24] == port.to_be_bytes()
            {
                assert!(!packet.sent && !packet.to_others && packet.interface == 1);
                seen.push(packet.bytes.len());
            }
        }
        assert_eq!(seen, [38, 512], "the IP header on, and the beginning alone");
        assert!(watched.missed().is_ok());
    }

    #[test]
    fn the_time_is_that_of_receiving_however_late_it_is_read() {
        let Ok(mut watched) = PacketSocket::open(1) else { return };
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = receiver.local_addr().unwrap().port();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let end = Instant::now() + Duration::from_secs(5);
        let mut found = None;
        while Instant::now() < end {
            let begin = now();
            sender.send_to(&[7], ("127.0.0.1", port)).unwrap();
            let sent = now();
            thread::sleep(Duration::from_millis(20));
            while let Some(packet) = watched.receive().unwrap() {
                if packet.bytes[22..24] == port.to_be_bytes() {
                    found = packet.timestamp;
                }
            }
            if found.is_some_and(|time| (begin..=sent).contains(&time)) {
                return;
            }
        }
        panic!("{found:?}");
    }
}
