//! A unit of the service manager opens sockets (`systemd.socket(5)`), and datagrams come to them
//! before there is a process.
//!
//! The manager does not say what a socket is for: its address does. One socket is one worker's. A
//! group for several workers would be no use, since what came before its program was attached is
//! where nobody looks for it (`owner`).

use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;

use socket2::{SockRef, Socket};

use super::bind::BindError;
use super::fit::{bound, carrier_of, fault};
use super::port::Listener;
use crate::host::port_owner::overlap;
use crate::service::Store;
use crate::sys::socket;
use crate::wire::Carrier;

/// The socket of an address, as a unit has opened it.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) listener: Listener,
    pub(super) socket: Socket,
    /// True where no process has counted yet what it has dropped.
    pub(super) is_new: bool,
}

/// Takes the sockets that units have opened for these listeners. A unit opens none for what comes
/// over IP.
///
/// # Errors
/// A socket on such an address does not fit. The manager keeps it, so no other can be bound there.
pub(super) fn take(listen: &[Listener], workers: usize, store: &Store) -> Result<Vec<Handed>, BindError> {
    let mut handed = Vec::new();
    for &listener in listen.iter().filter(|listener| listener.carrier == Carrier::Udp) {
        let address = listener.address;
        let mut found = store.take_handed(|descriptor| is_for(descriptor, address));
        let Some((unit, descriptor)) = found.pop() else { continue };
        let socket = Socket::from(descriptor);
        let os = |call| move |error| BindError::Os { listener, call, error };
        let why = if !found.is_empty() {
            Some(format!("there are {} for this address, and one is of use", found.len() + 1))
        } else if workers > 1 {
            Some(format!("it is one, and there are {workers} workers: give one (--workers 1), or stop the unit"))
        } else {
            fault(&socket, listener, false).map_err(os("getsockopt"))?
        };
        if let Some(why) = why {
            return Err(BindError::Handed { listener, unit, why });
        }
        let is_new = !socket::tells_drops(&socket).map_err(os("SO_RXQ_OVFL"))?;
        // As those that this program opens: the kernel says that it is not connected, and does it.
        let _ = socket.shutdown(Shutdown::Write);
        tracing::info!("{unit} has the socket of {address}: what has come to it is received");
        handed.push(Handed { listener, socket, is_new });
    }
    Ok(handed)
}

/// Says whether a descriptor is a UDP socket that takes what comes to this address.
fn is_for(descriptor: &impl AsFd, address: SocketAddr) -> bool {
    let socket = SockRef::from(descriptor);
    let at = bound(&socket).ok().flatten();
    let takes = |bound: SocketAddr| bound.port() == address.port() && overlap(bound.ip(), address.ip());
    carrier_of(&socket).is_ok_and(|carrier| carrier == Some(Carrier::Udp)) && at.is_some_and(takes)
}
