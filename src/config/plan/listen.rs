//! The sensor listens on addresses that are there and that do not exclude each other.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::super::address::{Listen, VXLAN_PORT};
use super::super::error::PlanError;
use super::super::listener::Carries;
use super::super::origin::Said;
use super::super::settings::Settings;
use crate::host::HostFacts;
use crate::setting::key;
use crate::source::{Listener, udp};
use crate::wire::Encapsulation;

/// Returns the addresses to listen on; where none was given, the default.
///
/// # Errors
/// An interface is not there, or addresses exclude each other, or there are too many.
pub(super) fn plan(settings: &Settings, host: &HostFacts) -> Result<Vec<Listener>, PlanError> {
    let item = |index: usize| settings.origins.said_item(&key::LISTEN, index);
    let mut listen: Vec<Listener> = Vec::new();
    for (number, one) in settings.receive.listen.iter().enumerate() {
        let address = match &one.at {
            Listen::Any(port) => any(*port, host),
            Listen::At(address) => *address,
            Listen::On(address, interface, port) => {
                SocketAddrV6::new(*address, *port, 0, index(interface, *address, host, || item(number))?).into()
            }
        };
        let said = || item(number);
        let find = |is: &dyn Fn(&SocketAddr) -> bool| {
            let found = listen.iter().position(|other| is(&other.address));
            found.and_then(|index| Some((item(index), listen.get(index)?.address)))
        };
        if let (1.., Some((other, _))) = (address.port(), find(&|other| *other == address)) {
            return Err(PlanError::ListenTwice { said: said(), other, address });
        }
        if let Some((other, wide)) = find(&|other| includes(other, &address)) {
            return Err(PlanError::ListenOverlap { said: said(), other, wide, narrow: address });
        }
        if let Some((other, narrow)) = find(&|other| includes(&address, other)) {
            return Err(PlanError::ListenOverlap { said: said(), other, wide: address, narrow });
        }
        let encapsulation = match one.carries {
            Carries::Usual => Encapsulation::Vxlan,
            Carries::Said(encapsulation) => encapsulation,
            Carries::Auto => Encapsulation::of_port(address.port())
                .ok_or_else(|| PlanError::ListenAuto { said: said(), port: address.port() })?,
        };
        // The port alone tells what a datagram is.
        let differs = |other: &Listener| other.address.port() == address.port() && other.encapsulation != encapsulation;
        if let (1.., Some(index)) = (address.port(), listen.iter().position(differs)) {
            return Err(PlanError::ListenMixed { said: said(), other: item(index), port: address.port() });
        }
        listen.push(Listener { address, encapsulation });
    }
    if listen.is_empty() {
        listen.push(any(VXLAN_PORT, host).into());
    }
    if listen.len() > udp::MAX_LISTEN {
        return Err(PlanError::ListenMany(settings.origins.said(&key::LISTEN)));
    }
    Ok(listen)
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

/// Says whether a socket on `wide` takes what is sent to `narrow`. An unspecified address stands
/// for all, and that of IPv6 for IPv4 too.
fn includes(wide: &SocketAddr, narrow: &SocketAddr) -> bool {
    wide.port() == narrow.port()
        && wide.port() != 0
        && wide.ip().is_unspecified()
        && (wide.is_ipv6() || narrow.is_ipv4())
}
