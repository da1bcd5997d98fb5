//! A socket that somebody else has bound is as this program would bind it, or not.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

/// Says why a socket is not as this program binds it.
pub(super) fn fault(socket: &Socket, address: SocketAddr, shares: bool) -> io::Result<Option<String>> {
    let is_udp = is_udp(socket)?;
    let bound = socket.local_addr()?.as_socket();
    Ok(if !is_udp || socket.domain()? != Domain::for_address(address) {
        Some("it is no UDP socket of this kind".into())
    } else if bound.is_none_or(|bound| (bound.ip(), bound.port()) != (address.ip(), address.port())) {
        Some("it is bound to another address".into())
    } else if socket.reuse_port()? != shares {
        Some("it shares its port, or does not, unlike what is asked for".into())
    } else if address.is_ipv6() && socket.only_v6()? == address.ip().is_unspecified() {
        Some("it takes IPv4, or does not, unlike what is asked for".into())
    } else {
        None
    })
}

/// Says whether a socket is one of UDP.
pub(super) fn is_udp(socket: &Socket) -> io::Result<bool> {
    Ok(socket.r#type()? == Type::DGRAM && socket.protocol()? == Some(Protocol::UDP))
}
