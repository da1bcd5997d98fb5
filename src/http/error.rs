//! A door cannot be opened for one of these reasons.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The most bytes of a socket's path. The kernel takes no more.
pub const LONGEST: usize = 107;

/// The reasons why there is no door.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// Another program listens at the socket.
    #[error("{0}: a sensor is there already")]
    Lives(PathBuf),
    /// Something is there that is no socket.
    #[error("{0} is there and is no socket; it is left alone")]
    Taken(PathBuf),
    /// Another program has locked the directory.
    #[error(
        "{0}: another program has locked the directory, as a sensor does that writes captures there; name a socket in \
         another directory"
    )]
    Locked(PathBuf),
    /// The kernel does not take the path.
    #[error("the path of a socket cannot be longer than {LONGEST} bytes: {0}")]
    Long(PathBuf),
    /// The socket cannot be made.
    #[error("cannot make the socket {path}: {error}")]
    Socket {
        /// Its path.
        path: PathBuf,
        /// The error that the kernel returned.
        error: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error that the kernel returned.
        error: io::Error,
    },
}

impl DoorError {
    /// Says whether there may be a door later without any change: the address is not there yet, or
    /// is still in use.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Listen { error, .. } => {
                matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
            }
            Self::Lives(_) | Self::Taken(_) | Self::Locked(_) | Self::Long(_) | Self::Socket { .. } => false,
        }
    }
}
