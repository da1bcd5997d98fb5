//! The sockets of a group are made and set up.

use std::io;
use std::net::{Shutdown, SocketAddr};

use rustix::net::{RecvFlags, recv};
use socket2::{Domain, Protocol, Socket, Type};

use super::port::Listener;
use super::steering::Steering;
use crate::sys::socket;
use crate::wire::Carrier;

/// Has the kernel tell of each datagram when it came, how many were dropped before it, and of one
/// over IPv6 that it is so; and take UDP over IPv6 without a checksum.
///
/// # Errors
/// The option that cannot be set, and the error of `setsockopt(2)`.
pub(super) fn ask_for_facts(socket: &Socket, listener: Listener) -> Result<(), (&'static str, io::Error)> {
    let named = |call| move |error| (call, error);
    socket::receive_timestamps(socket).map_err(named("SO_TIMESTAMPNS"))?;
    socket::receive_drop_counter(socket).map_err(named("SO_RXQ_OVFL"))?;
    if listener.address.is_ipv6() {
        if listener.carrier == Carrier::Udp {
            socket::receive_zero_checksum_v6(socket).map_err(named("UDP_NO_CHECK6_RX"))?;
        }
        socket::receive_hop_limit_v6(socket).map_err(named("IPV6_RECVHOPLIMIT"))?;
    }
    Ok(())
}

/// Has a socket that is not the first of its group receive multicast over IPv6 or not.
pub(super) fn multicast(socket: &Socket, steering: Steering) -> io::Result<()> {
    match steering {
        Steering::Session => socket::take_multicast_v6(socket),
        Steering::Flow => socket::refuse_multicast_v6(socket),
    }
}

/// Opens a socket for this address, which is bound to nothing yet.
pub(super) fn open(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // [::] takes IPv4 too, whatever the host's default.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_port(reuse_port)?;
    // It is to receive, and whoever takes over the process is to send nothing by it. The kernel
    // says that it is not connected, which is so, and does it.
    let _ = socket.shutdown(Shutdown::Write);
    Ok(socket)
}

/// Opens the socket of a group that only what is given to all comes to, and that takes nothing: see
/// `copies`. It must be the last of its group.
pub(super) fn open_behind(address: SocketAddr, steering: Steering) -> io::Result<Socket> {
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
pub(super) fn set_receive_buffer(socket: &Socket, bytes: u32) -> io::Result<u32> {
    if socket::force_receive_buffer(socket, bytes).is_err() {
        socket.set_recv_buffer_size(bytes as usize)?;
    }
    Ok(u32::try_from(socket.recv_buffer_size()? / 2).unwrap_or(u32::MAX))
}

/// Asks for `bytes` where a socket has less, and returns what it has. A unit may have given it more
/// than this process may ask for (`ReceiveBuffer=`).
pub(super) fn grow_receive_buffer(socket: &Socket, bytes: u32) -> io::Result<u32> {
    let has = u32::try_from(socket.recv_buffer_size()? / 2).unwrap_or(u32::MAX);
    if has >= bytes {
        return Ok(has);
    }
    let other = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    if set_receive_buffer(&other, bytes)? > has { set_receive_buffer(socket, bytes) } else { Ok(has) }
}

/// Takes all datagrams that a socket has, and returns how many.
pub(super) fn drain(socket: &Socket) -> u64 {
    let mut buffer = [0; 1];
    let mut taken = 0;
    while recv(socket, &mut buffer, RecvFlags::DONTWAIT).is_ok() {
        taken += 1;
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_buffer_grows_and_does_not_shrink() {
        let socket = open("127.0.0.1:0".parse().unwrap(), false).unwrap();
        assert_eq!(set_receive_buffer(&socket, 1 << 15).unwrap(), 1 << 15);
        assert_eq!(grow_receive_buffer(&socket, 1).unwrap(), 1 << 15);
        assert_eq!(grow_receive_buffer(&socket, 1 << 16).unwrap(), 1 << 16);
    }

    #[test]
    fn a_socket_that_receives_cannot_send() {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for address in ["127.0.0.1:0", "[::]:0"] {
            let socket = open(address.parse().unwrap(), false).unwrap();
            socket.bind(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
            let socket = UdpSocket::from(socket);
            let to = sender.local_addr().unwrap();
            let to = if address.starts_with('[') {
                SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), to.port())
            } else {
                to
            };
            assert_eq!(socket.send_to(b"x", to).unwrap_err().raw_os_error(), Some(libc::EPIPE), "{address}");
            sender.send_to(b"y", ("127.0.0.1", socket.local_addr().unwrap().port())).unwrap();
            assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
        }
    }
}
