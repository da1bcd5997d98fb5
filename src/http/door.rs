//! A door is where connections come in, and who may come.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;

use ipnet::IpNet;
use rustix::process::{Uid, geteuid};

use super::error::DoorError;
use super::socket_file::{self, SocketFile};

/// A place where connections come in.
#[derive(Debug)]
pub enum Door {
    /// A socket with a file.
    Unix(UnixListener, UnixDoor),
    /// A port.
    Tcp(TcpListener, TcpDoor),
}

/// What belongs to the door of a socket.
#[derive(Debug)]
pub struct UnixDoor {
    _file: SocketFile,
    ours: Uid,
}

/// What belongs to the door of a port.
#[derive(Debug)]
pub struct TcpDoor {
    allow: Vec<IpNet>,
}

impl Door {
    /// Opens a socket with a file, for this user and root.
    ///
    /// # Errors
    /// It cannot be made, or a sensor is there already.
    pub fn unix(path: &Path) -> Result<Self, DoorError> {
        let (listener, file) = socket_file::listen_at(path)?;
        Ok(Self::Unix(listener, UnixDoor { _file: file, ours: geteuid() }))
    }

    /// Opens a port for clients whose addresses are in `allow`.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn tcp(address: SocketAddr, allow: Vec<IpNet>) -> Result<Self, DoorError> {
        let listen = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = listen().map_err(|error| DoorError::Listen { address, error })?;
        Ok(Self::at(listener, allow))
    }

    /// Makes a door of a port that is open and never blocks.
    #[must_use]
    pub fn at(listener: TcpListener, allow: Vec<IpNet>) -> Self {
        Self::Tcp(listener, TcpDoor { allow })
    }
}

impl UnixDoor {
    /// Says whether the user of the process on the other side may come.
    pub(super) fn admits(&self, user: u32) -> bool {
        user == 0 || user == self.ours.as_raw()
    }
}

impl TcpDoor {
    /// Says whether a client of this address may come.
    pub(super) fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allow.iter().any(|network| network.contains(&address))
    }
}
