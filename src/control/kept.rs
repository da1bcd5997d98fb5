//! Ports for questions are kept over a restart: whoever connects meanwhile waits.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use ipnet::IpNet;
use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_type};

use crate::http::{Door, DoorError};
use crate::service::{self, Store};

/// Takes over the port from the process before this one, where `store` has it, else opens it. The
/// next process is to have it from this one.
///
/// # Errors
/// The address cannot be listened on.
pub(super) fn door(address: SocketAddr, allow: Vec<IpNet>, store: &Store) -> Result<Door, DoorError> {
    let name = service::name("http", address);
    if let Some(descriptor) = store.take(&name) {
        match listener(descriptor, address) {
            Ok(listener) => return Ok(Door::at(listener, allow)),
            Err(error) => {
                tracing::warn!("the port {address} of the process before this one is of no use: {error}");
                store.close([&name]);
            }
        }
    }
    let door = Door::tcp(address, allow)?;
    // Which port the kernel chooses, the next process does not know.
    if let (Door::Tcp(listener, _), true) = (&door, address.port() != 0) {
        store.keep(&name, listener);
    }
    Ok(door)
}

/// Makes a listener of what was kept, where it is one for this address.
fn listener(descriptor: OwnedFd, address: SocketAddr) -> io::Result<TcpListener> {
    if socket_type(&descriptor)? != SocketType::STREAM || !socket_acceptconn(&descriptor)? {
        return Err(io::Error::other("it is no port"));
    }
    let listener = TcpListener::from(descriptor);
    if listener.local_addr()? != address {
        return Err(io::Error::other("it is another port"));
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpStream, UdpSocket};

    #[test]
    fn a_port_is_taken_over_with_who_waits_there_and_what_is_none_is_not() {
        let before = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = before.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let store = Store::with(vec![(service::name("http", address), before.into())]);
        let Door::Tcp(listener, _) = door(address, Vec::new(), &store).unwrap() else { panic!("a port") };
        assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        drop((listener, client));
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (pipe, _writer) = io::pipe().unwrap();
        for unfit in [other.into(), udp.into(), OwnedFd::from(pipe)] {
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let store = Store::with(vec![(service::name("http", free), unfit)]);
            let Door::Tcp(listener, _) = door(free, Vec::new(), &store).unwrap() else { panic!("a port") };
            assert_eq!(listener.local_addr().unwrap(), free);
        }
    }
}
