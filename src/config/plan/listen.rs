//! The sensor listens on addresses that are there and that do not exclude each other.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::super::address::{Listen, VXLAN_PORT};
use super::super::error::PlanError;
use super::super::listener as config;
use super::super::origin::Said;
use super::super::settings::Settings;
use crate::host::HostFacts;
use crate::setting::key;
use crate::source::{Listener, udp};
use crate::wire::Carrier;

/// Returns the addresses to listen on; where none was given, the default.
///
/// # Errors
/// An interface is not there, or addresses exclude each other, or there are too many.
pub(super) fn plan(settings: &Settings, host: &HostFacts) -> Result<Vec<Listener>, PlanError> {
    let item = |index: usize| settings.origins.said_item(&key::LISTEN, index);
    // Each with the number of the setting that it is of.
    let (mut listen, mut whose): (Vec<Listener>, Vec<usize>) = Default::default();
    for (number, one) in settings.receive.listen.iter().enumerate() {
        let said = || item(number);
        for asked in asked(one, host, said)? {
            let find = |is: &dyn Fn(&Listener) -> bool| {
                let found = listen.iter().position(is);
                found.and_then(|index| Some((item(*whose.get(index)?), *listen.get(index)?)))
            };
            // The port alone tells what a datagram is.
            let port = asked.address.port();
            let differs = |other: &Listener| other.address.port() == port && other.encapsulation != asked.encapsulation;
            if let (1.., Some((other, _))) = (port, find(&differs)) {
                return Err(PlanError::ListenMixed { said: said(), other, port });
            }
            if let Some((other, _)) = find(&|other| is_same(other, &asked)) {
                return Err(PlanError::ListenTwice { said: said(), other, listener: asked });
            }
            if let Some((other, wide)) = find(&|other| includes(other, &asked)) {
                return Err(PlanError::ListenOverlap { said: said(), other, wide, narrow: asked });
            }
            if let Some((other, narrow)) = find(&|other| includes(&asked, other)) {
                return Err(PlanError::ListenOverlap { said: said(), other, wide: asked, narrow });
            }
            listen.push(asked);
            whose.push(number);
        }
    }
    if listen.is_empty() {
        listen.push(any(VXLAN_PORT, host).into());
    }
    if listen.len() > udp::MAX_LISTEN {
        return Err(PlanError::ListenMany(settings.origins.said(&key::LISTEN)));
    }
    Ok(listen)
}

/// Returns the listeners that a setting asks for. A raw socket is of one version of IP, so where
/// all addresses are meant there are two.
///
/// # Errors
/// The interface is not there, or nothing is usual for the port.
fn asked(one: &config::Listener, host: &HostFacts, said: impl Fn() -> Said + Copy) -> Result<Vec<Listener>, PlanError> {
    let address = match &one.at {
        Listen::Any(port) => any(*port, host),
        Listen::At(address) => *address,
        Listen::On(address, interface, port) => {
            SocketAddrV6::new(*address, *port, 0, index(interface, *address, host, said)?).into()
        }
    };
    if one.is_over_ip() {
        let more = (one.at == Listen::Any(0) && address.is_ipv6()).then_some((Ipv4Addr::UNSPECIFIED, 0).into());
        return Ok(more.into_iter().chain([address]).map(Listener::over_ip).collect());
    }
    let encapsulation =
        one.encapsulation().ok_or_else(|| PlanError::ListenAuto { said: said(), port: address.port() })?;
    Ok(vec![Listener { address, carrier: Carrier::Udp, encapsulation }])
}

/// Returns all addresses, IPv4 included; IPv4 alone where the host has no IPv6.
fn any(port: u16, host: &HostFacts) -> SocketAddr {
    if host.ipv6 { (Ipv6Addr::UNSPECIFIED, port).into() } else { (Ipv4Addr::UNSPECIFIED, port).into() }
}

/// Returns the number of the interface of this name; none of one on a host that nobody looked at.
fn index(name: &str, address: Ipv6Addr, host: &HostFacts, said: impl Fn() -> Said) -> Result<u32, PlanError> {
    let Some(interfaces) = &host.interfaces else { return Ok(0) };
    match interfaces.iter().find(|interface| interface.name == name) {
        Some(interface) => Ok(interface.index),
        None => {
            let ours = interfaces.iter().map(|interface| interface.name.as_str()).collect::<Vec<_>>().join(", ");
            let listen = format!("[{address}%{name}]");
            Err(PlanError::NoInterface { said: said(), listen, name: name.to_owned(), ours })
        }
    }
}

/// Says whether these ask for the same. Two that leave the port to the kernel do not.
fn is_same(one: &Listener, other: &Listener) -> bool {
    one.is_at(other) && (one.carrier == Carrier::Ip || one.address.port() != 0)
}

/// Says whether a socket on `wide` takes what is sent to `narrow`. An unspecified address stands
/// for all, and that of IPv6 for IPv4 too unless the socket is a raw one.
fn includes(wide: &Listener, narrow: &Listener) -> bool {
    let (to, from) = (wide.address, narrow.address);
    let may = match wide.carrier {
        Carrier::Udp => to.port() == from.port() && to.port() != 0 && (to.is_ipv6() || from.is_ipv4()),
        Carrier::Ip => to.is_ipv4() == from.is_ipv4(),
    };
    may && wide.carrier == narrow.carrier && to.ip().is_unspecified()
}
