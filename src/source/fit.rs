//! A socket that somebody else has bound is as this program would bind it, or not.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use super::port::Listener;
use super::raw;
use crate::wire::Carrier;

/// Says why a socket is not as this program binds it.
pub(super) fn fault(socket: &Socket, listener: Listener, shares: bool) -> io::Result<Option<String>> {
    let Listener { address, carrier, .. } = listener;
    let (is_it, bound) = (carrier_of(socket)? == Some(carrier), bound(socket)?);
    if carrier == Carrier::Ip {
        return Ok((!is_it || bound != Some(address)).then(|| "it is no raw socket of this kind".into()));
    }
    Ok(if !is_it || socket.domain()? != Domain::for_address(address) {
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

/// Returns what carries the packets that come to a socket, where it is one of a sensor's.
pub(super) fn carrier_of(socket: &Socket) -> io::Result<Option<Carrier>> {
    Ok(match (socket.r#type()?, socket.protocol()?) {
        (Type::DGRAM, Some(Protocol::UDP)) => Some(Carrier::Udp),
        (Type::RAW, Some(protocol)) if protocol == raw::gre() => Some(Carrier::Ip),
        _ => None,
    })
}

/// Returns the address that a socket is bound to. Where a port would be, a raw socket has its
/// protocol.
pub(super) fn bound(socket: &Socket) -> io::Result<Option<SocketAddr>> {
    let mut bound = socket.local_addr()?.as_socket();
    if carrier_of(socket)? == Some(Carrier::Ip) {
        bound.iter_mut().for_each(|bound| bound.set_port(0));
    }
    Ok(bound)
}
