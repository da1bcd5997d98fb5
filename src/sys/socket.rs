//! Socket options that socket2 lacks are set here.
//!
//! Sources: `socket(7)`, `udp(7)`, and the kernel's `net/core/sock.c`, `net/core/sock_reuseport.c`
//! where they are silent.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

/// Sets an `int` option, as `setsockopt(2)` takes it.
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(super) fn set_int(socket: &impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    set(socket, level, name, &value)
}

fn set<T: Copy>(socket: &impl AsFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(mem::size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the life of `socket`; the pointer and length describe
    // `value`, which the kernel only reads during the call.
    let result =
        unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends IPv4 datagrams with a zero UDP checksum (`SO_NO_CHECK`), as AWS does for mirror traffic.
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(crate) fn send_zero_checksum_v4(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1)
}

/// Sends IPv6 datagrams with a zero UDP checksum (`UDP_NO_CHECK6_TX`, RFC 6935).
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(crate) fn send_zero_checksum_v6(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::SOL_UDP, libc::UDP_NO_CHECK6_TX, 1)
}

/// Lets the kernel fragment IPv4 datagrams that exceed the route's MTU, and clears their DF bit
/// (`IP_MTU_DISCOVER`, ip(7)).
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(crate) fn fragment_v4(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
}

/// Lets the kernel fragment IPv6 datagrams that exceed the route's MTU (`IPV6_MTU_DISCOVER`,
/// ipv6(7)).
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(crate) fn fragment_v6(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)
}

/// Reports IPv4 datagrams that this host or the network could not deliver (`IP_RECVERR`, ip(7)).
///
/// Without it Linux says that a datagram was sent when the interface's queue was full and it was
/// dropped on the spot; with it the call fails with `ENOBUFS`. It also reports every ICMP error,
/// not only port unreachable: each fails one later call. The reports queue up within the receive
/// buffer, which a socket that only sends should make small.
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(crate) fn report_errors_v4(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1)
}

/// Reports IPv6 datagrams as [`report_errors_v4`] does IPv4 ones (`IPV6_RECVERR`, ipv6(7)).
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(crate) fn report_errors_v6(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)
}

/// Sets the receive buffer beyond `net.core.rmem_max` (`SO_RCVBUFFORCE`; needs CAP_NET_ADMIN). The
/// kernel doubles the value for its own bookkeeping.
///
/// # Errors
/// `EPERM` without the capability; otherwise the error of `setsockopt(2)`.
pub(crate) fn force_receive_buffer(socket: &impl AsFd, bytes: u32) -> io::Result<()> {
    set_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, i32::try_from(bytes).unwrap_or(i32::MAX))
}

/// Has the kernel's receive time delivered with each datagram (`SO_TIMESTAMPNS`).
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(crate) fn receive_timestamps(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
}

/// Has the socket's drop counter delivered with each datagram once it is not 0 (`SO_RXQ_OVFL`).
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(crate) fn receive_drop_counter(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)
}

/// Accepts IPv6 datagrams with a zero UDP checksum (`UDP_NO_CHECK6_RX`, RFC 6935), which the kernel
/// drops otherwise.
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(crate) fn receive_zero_checksum_v6(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::SOL_UDP, libc::UDP_NO_CHECK6_RX, 1)
}

/// Has the hop limit delivered with each datagram that came over IPv6 (`IPV6_RECVHOPLIMIT`), also
/// where the socket takes IPv4 too.
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(crate) fn receive_hop_limit_v6(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, 1)
}

/// The index into what `getsockopt(2)` returns for `SO_MEMINFO`, of linux/sock_diag.h.
#[derive(Clone, Copy)]
enum MemInfo {
    /// Bytes of datagrams that wait to be received, with the kernel's own bookkeeping.
    ReadAllocated = 0,
    /// Bytes of datagrams that were sent and are still held, with the kernel's own bookkeeping.
    WriteAllocated = 2,
    /// Datagrams dropped.
    Drops = 8,
}

/// Reads the socket's drop counter (`SK_MEMINFO_DROPS`): the counter of `SO_RXQ_OVFL`, also when no
/// datagram follows that could carry it. It wraps at 2^32.
///
/// # Errors
/// The error of `getsockopt(2)`.
pub(crate) fn drops(socket: &impl AsFd) -> io::Result<u32> {
    memory(socket, MemInfo::Drops)
}

/// Says how many bytes of datagrams wait in the socket to be received
/// (`SK_MEMINFO_RMEM_ALLOC`), with the kernel's own bookkeeping.
///
/// # Errors
/// The error of `getsockopt(2)`.
pub(crate) fn queued(socket: &impl AsFd) -> io::Result<u32> {
    memory(socket, MemInfo::ReadAllocated)
}

/// Says how many bytes of datagrams the socket has sent and this host still holds
/// (`SK_MEMINFO_WMEM_ALLOC`): in the queue of a device, or while the link address of a neighbour is
/// asked for.
///
/// # Errors
/// The error of `getsockopt(2)`.
pub(crate) fn held(socket: &impl AsFd) -> io::Result<u32> {
    memory(socket, MemInfo::WriteAllocated)
}

fn memory(socket: &impl AsFd, what: MemInfo) -> io::Result<u32> {
    let info: [u32; MemInfo::Drops as usize + 1] = get(socket, libc::SO_MEMINFO)?;
    Ok(info[what as usize])
}

/// Says whether the socket's drop counter is delivered with each datagram (`SO_RXQ_OVFL`).
///
/// # Errors
/// The error of `getsockopt(2)`.
pub(crate) fn tells_drops(socket: &impl AsFd) -> io::Result<bool> {
    let [tells] = get(socket, libc::SO_RXQ_OVFL)?;
    Ok(tells != 0)
}

/// Reads an option of the socket that is so many numbers, or fewer.
fn get<const N: usize>(socket: &impl AsFd, name: i32) -> io::Result<[u32; N]> {
    let mut value = [0u32; N];
    let mut length = libc::socklen_t::try_from(mem::size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the life of `socket`; the pointers describe `value` and
    // its length, which the kernel writes within that length.
    let result = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, name, value.as_mut_ptr().cast(), &raw mut length)
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Makes the kernel refuse every further datagram while what is queued can still be received, by a
/// socket filter that accepts nothing (`SO_ATTACH_FILTER`). Refused datagrams show in [`drops`].
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(crate) fn refuse_further(socket: &impl AsFd) -> io::Result<()> {
    attach(socket, libc::SO_ATTACH_FILTER, &[statement(libc::BPF_RET | libc::BPF_K, 0)])
}

/// Steers the datagrams of a group of `workers` `SO_REUSEPORT` sockets by outer source address and
/// the bits `mask` of the VNI (`SO_ATTACH_REUSEPORT_CBPF`): one session, one socket. The sockets
/// are numbered in the order in which they were bound.
///
/// The program sees the UDP payload at offset 0 and the IP header through `SKF_NET_OFF`. It loads
/// the word that holds the VNI, mixes in the source address (all of IPv4, each word of IPv6),
/// multiplies, and takes the high bits modulo the number of sockets. Where a load fails, as in a
/// payload of less than 8 bytes, a program ends with 0: the first socket.
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(crate) fn steer_by_session(socket: &impl AsFd, workers: u32, mask: u32) -> io::Result<()> {
    use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_K, BPF_LD, BPF_RSH, BPF_W};
    let vni = [
        statement(BPF_LD | BPF_W | BPF_ABS, 4),
        statement(BPF_ALU | BPF_RSH | BPF_K, 8),
        statement(BPF_ALU | BPF_AND | BPF_K, mask),
    ];
    steer(socket, workers, [&vni, &vni])
}

/// Steers the datagrams of a group of `workers` `SO_REUSEPORT` sockets by outer source address
/// alone: as [`steer_by_session`] does, with 0 in the place of the VNI.
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(crate) fn steer_by_source(socket: &impl AsFd, workers: u32) -> io::Result<()> {
    steer(socket, workers, [&NO_VNI, &NO_VNI])
}

/// What is loaded in the place of the VNI where there is none: 0.
const NO_VNI: [libc::sock_filter; 1] = [statement(libc::BPF_LD | libc::BPF_IMM, 0)];

/// The offset at which classic BPF finds the IP header.
const NET: u32 = libc::SKF_NET_OFF.cast_unsigned();

/// Attaches a program that mixes what `first` loads, for IPv4 and for IPv6, with the source
/// address.
fn steer(socket: &impl AsFd, workers: u32, first: [&[libc::sock_filter]; 2]) -> io::Result<()> {
    let end = statement(libc::BPF_RET | libc::BPF_A, 0);
    attach(socket, libc::SO_ATTACH_REUSEPORT_CBPF, &[worker(workers, first)?, vec![end]].concat())
}

/// Lets only those packets into a socket that [`steer_by_source`] would give to this one of so many
/// workers (`SO_ATTACH_FILTER`).
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(crate) fn take_by_source(socket: &impl AsFd, number: u32, workers: u32) -> io::Result<()> {
    use libc::{BPF_JEQ, BPF_JMP, BPF_K, BPF_RET};
    let end = [
        jump(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        statement(BPF_RET | BPF_K, u32::MAX),
        statement(BPF_RET | BPF_K, 0),
    ];
    attach(socket, libc::SO_ATTACH_FILTER, &[worker(workers, [&NO_VNI, &NO_VNI])?, end.to_vec()].concat())
}

/// Makes a program up to where it knows the worker, which is in the accumulator.
fn worker(workers: u32, first: [&[libc::sock_filter]; 2]) -> io::Result<Vec<libc::sock_filter>> {
    use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JA, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_MISC, BPF_MOD};
    use libc::{BPF_MUL, BPF_RSH, BPF_TAX, BPF_W, BPF_X, BPF_XOR};
    /// 2^32 divided by the golden ratio: Knuth's multiplicative hash.
    const MIX: u32 = 0x9e37_79b1;
    let load = |at| statement(BPF_LD | BPF_W | BPF_ABS, at);
    let multiply = statement(BPF_ALU | BPF_MUL | BPF_K, MIX);
    let to_x = statement(BPF_MISC | BPF_TAX, 0);
    let xor_x = statement(BPF_ALU | BPF_XOR | BPF_X, 0);
    let [first_v4, first_v6] = first;
    // X = what is loaded first, mixed; A = the source address, on to the end.
    let v4 = [first_v4, &[multiply, to_x, load(NET + 12)]].concat();
    // X = the same, mixed with three words of the source address; A = the fourth.
    let word = |at| [multiply, to_x, load(NET + at), xor_x];
    let v6 = [first_v6, &word(8), &word(12), &word(16), &[multiply, to_x, load(NET + 20)]].concat();
    let short = |n: usize| u8::try_from(n).map_err(io::Error::other);
    let program = [
        &[
            statement(BPF_LD | BPF_B | BPF_ABS, NET),
            statement(BPF_ALU | BPF_AND | BPF_K, 0xf0),
            // IP version 4, or over to that of IPv6.
            jump(BPF_JMP | BPF_JEQ | BPF_K, 0x40, 0, short(v4.len() + 1)?),
        ],
        &*v4,
        &[jump(BPF_JMP | BPF_JA, u32::from(short(v6.len())?), 0, 0)],
        &*v6,
        &[
            // This is the end: mix, and the high half modulo the number of sockets.
            xor_x,
            multiply,
            statement(BPF_ALU | BPF_RSH | BPF_K, 16),
            statement(BPF_ALU | BPF_MOD | BPF_K, workers.max(1)),
        ],
    ]
    .concat();
    Ok(program)
}

/// Steers the datagrams of a group of `workers` `SO_REUSEPORT` sockets by outer source address and
/// port: as [`steer_by_session`] does, with the source port in the place of the VNI. Over IPv6 it
/// takes the bytes behind the fixed header for the port, also where these are an extension header.
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(crate) fn steer_by_flow(socket: &impl AsFd, workers: u32) -> io::Result<()> {
    use libc::{BPF_B, BPF_H, BPF_IND, BPF_LD, BPF_LDX, BPF_MSH};
    // The port is behind 4 times the low half of the first byte.
    let port_v4 = [statement(BPF_LDX | BPF_B | BPF_MSH, NET), statement(BPF_LD | BPF_H | BPF_IND, NET)];
    let port_v6 = [statement(BPF_LD | BPF_H | libc::BPF_ABS, NET + 40)];
    steer(socket, workers, [&port_v4, &port_v6])
}

/// The option of linux/in6.h, which libc lacks.
const IPV6_MULTICAST_ALL: i32 = 29;

/// Has an IPv6 socket receive no multicast datagram of a group that the host may have joined and
/// the socket has not (`IPV6_MULTICAST_ALL`).
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(crate) fn refuse_multicast_v6(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)
}

/// Undoes [`refuse_multicast_v6`].
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(crate) fn take_multicast_v6(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_IPV6, IPV6_MULTICAST_ALL, 1)
}

/// Makes one instruction of classic BPF without jump targets.
pub(super) const fn statement(code: u32, k: u32) -> libc::sock_filter {
    jump(code, k, 0, 0)
}

/// Makes one instruction of classic BPF; `jt` and `jf` count the instructions to skip.
pub(super) const fn jump(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    // All opcodes fit in 16 bits; libc types the constants they are made of as 32.
    libc::sock_filter { code: (code & 0xffff) as u16, jt, jf, k }
}

pub(super) fn attach(socket: &impl AsFd, option: i32, program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    // The kernel copies the program during the call and does not write to it.
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    set(socket, libc::SOL_SOCKET, option, &program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, UdpSocket};
    use std::time::Duration;

    fn group(address: IpAddr, n: usize) -> Vec<UdpSocket> {
        let mut sockets: Vec<UdpSocket> = Vec::new();
        let mut port = 0;
        for _ in 0..n {
            let domain = if address.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
            let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.bind(&std::net::SocketAddr::new(address, port).into()).unwrap();
            let socket: UdpSocket = socket.into();
            port = socket.local_addr().unwrap().port();
            sockets.push(socket);
        }
        sockets
    }

    /// Says which socket of the group receives each VNI.
    fn steered(address: IpAddr, mask: u32) -> Vec<usize> {
        let sockets = group(address, 4);
        steer_by_session(&sockets[0], 4, mask).unwrap();
        let to = sockets[0].local_addr().unwrap();
        let mut hits = Vec::new();
        for vni in 0..64u32 {
            let mut seen = None;
            for port in 0..3 {
                // The sender is another each time: another source port must not matter.
                let sender = UdpSocket::bind((address, 0)).unwrap();
                let mut payload = [0x08, 0, 0, 0, 0, 0, 0, port];
                payload[4..7].copy_from_slice(&vni.to_be_bytes()[1..]);
                sender.send_to(&payload, to).unwrap();
                let hit = sockets
                    .iter()
                    .position(|s| {
                        s.set_nonblocking(true).unwrap();
                        s.recv(&mut [0; 16]).is_ok()
                    })
                    .expect("one socket has it");
                assert_eq!(*seen.get_or_insert(hit), hit, "VNI {vni} stays on one socket");
            }
            hits.push(seen.unwrap());
        }
        hits
    }

    #[test]
    fn a_session_stays_on_one_socket_and_sessions_spread() {
        for address in ["127.0.0.1", "::1"] {
            let address: IpAddr = address.parse().unwrap();
            // Sixteen networks, each with four values of two bits that are none of the VNI.
            let masked = steered(address, 0xff_ffcf);
            for (vni, hit) in masked.iter().enumerate() {
                assert_eq!(*hit, masked[vni & 0x0f], "VNI {vni} from {address}: {masked:?}");
            }
            let hits = steered(address, 0xff_ffff);
            for socket in 0..4 {
                let n = hits.iter().filter(|h| **h == socket).count();
                assert!(n >= 4, "socket {socket} got {n} of 64 sessions from {address}: {hits:?}");
            }
        }
    }

    #[test]
    fn a_short_payload_goes_somewhere() {
        let sockets = group("127.0.0.1".parse().unwrap(), 2);
        steer_by_session(&sockets[0], 2, 0xff_ffff).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(&[8], sockets[0].local_addr().unwrap()).unwrap();
        sockets[0].set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(sockets[0].recv(&mut [0; 16]).unwrap(), 1);
    }

    #[test]
    fn refused_datagrams_are_counted_and_queued_ones_stay() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        sender.send_to(b"before", to).unwrap();
        assert_eq!(drops(&receiver).unwrap(), 0);
        refuse_further(&receiver).unwrap();
        sender.send_to(b"after", to).unwrap();
        assert_eq!(drops(&receiver).unwrap(), 1);
        receiver.set_nonblocking(true).unwrap();
        assert_eq!(receiver.recv(&mut [0; 16]).unwrap(), 6);
        assert!(receiver.recv(&mut [0; 16]).is_err());
    }
}
