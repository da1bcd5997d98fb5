//! The service manager is told things by a datagram to `$NOTIFY_SOCKET`: `sd_notify(3)`.
//!
//! The socket is connected once, before the sensor gives up to connect any.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::io::retry_on_intr;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sd_notify::NotifyState;

/// The most descriptors that go with what is told.
const MOST: usize = 1;

/// The way to the service manager. By default there is none, and nobody is told.
#[derive(Debug, Default)]
pub(crate) struct Manager(Option<io::Result<UnixDatagram>>);

impl Manager {
    /// Connects to the manager of this process, where one listens.
    pub(super) fn of_process() -> Self {
        Self(env::var_os("NOTIFY_SOCKET").map(|socket| connected(&socket)))
    }

    /// Tells the manager this, and hands it a descriptor if there is one.
    ///
    /// # Errors
    /// There is a manager that cannot be reached, or does not take it.
    pub(super) fn tell(&self, state: &[NotifyState<'_>], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let socket = match &self.0 {
            None => return Ok(()),
            Some(Ok(socket)) => socket,
            Some(Err(error)) => return Err(io::Error::new(error.kind(), error.to_string())),
        };
        let mut text = String::new();
        state.iter().try_for_each(|one| writeln!(text, "{one}")).map_err(io::Error::other)?;
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut handed = SendAncillaryBuffer::new(&mut room);
        if let Some(descriptor) = &descriptor {
            handed.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(descriptor)));
        }
        // A datagram goes as a whole or not at all.
        retry_on_intr(|| sendmsg(socket, &[IoSlice::new(text.as_bytes())], &mut handed, SendFlags::NOSIGNAL))?;
        Ok(())
    }
}

/// Connects a socket to a path, or to an abstract name behind `@`.
fn connected(to: &OsStr) -> io::Result<UnixDatagram> {
    let address = match to.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(to),
    }?;
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_told_arrives_as_it_is_with_the_descriptor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("@vxtap-test-{}", std::process::id());
        for to in [path.as_os_str(), OsStr::new(&name)] {
            let address = match to.as_bytes().strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(to),
            };
            let manager = UnixDatagram::bind_addr(&address.unwrap()).unwrap();
            let told = Manager(Some(connected(to)));
            let (_reader, writer) = io::pipe().unwrap();
            told.tell(&[NotifyState::Ready, NotifyState::Status("well")], None).unwrap();
            told.tell(&[NotifyState::FdStore, NotifyState::FdName("x")], Some(writer.as_fd())).unwrap();
            let mut bytes = [0; 64];
            let mut next = || {
                let length = manager.recv(&mut bytes).unwrap();
                String::from_utf8(bytes[..length].to_vec()).unwrap()
            };
            assert_eq!([next(), next()], ["READY=1\nSTATUS=well\n", "FDSTORE=1\nFDNAME=x\n"]);
        }
    }

    #[test]
    fn nobody_is_told_where_nobody_listens() {
        Manager::default().tell(&[NotifyState::Ready], None).unwrap();
        let gone = Manager(Some(connected(OsStr::new("/nowhere/notify"))));
        for _ in 0..2 {
            assert_eq!(gone.tell(&[NotifyState::Ready], None).unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    }
}
