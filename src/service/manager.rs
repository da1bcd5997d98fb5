//! The service manager is told things by a datagram to `$NOTIFY_SOCKET`: `sd_notify(3)`.
//!
//! The socket is connected once, before the sensor gives up to connect any. Where the manager has
//! made its socket anew, and the sensor has not given that up, each message finds the new one.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sd_notify::NotifyState;

/// The most descriptors that go with what is told.
const MOST: usize = 1;

/// The way to the service manager. By default there is none, and nobody is told.
#[derive(Debug, Default)]
pub(crate) struct Manager(Option<Way>);

#[derive(Debug)]
struct Way {
    to: OsString,
    socket: io::Result<UnixDatagram>,
}

impl Manager {
    /// Connects to the manager of this process, where one listens.
    pub(super) fn of_process() -> Self {
        Self(env::var_os("NOTIFY_SOCKET").map(Way::new))
    }

    /// Connects to a manager that listens there.
    #[cfg(test)]
    pub(super) fn at(path: &std::path::Path) -> Self {
        Self(Some(Way::new(path.into())))
    }

    /// Tells the manager this, and hands it a descriptor if there is one.
    ///
    /// # Errors
    /// There is a manager that cannot be reached, or does not take it.
    pub(super) fn tell(&self, state: &[NotifyState<'_>], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let Some(Way { to, socket }) = &self.0 else { return Ok(()) };
        let socket = socket.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        let mut text = String::new();
        state.iter().try_for_each(|one| writeln!(text, "{one}")).map_err(io::Error::other)?;
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut handed = SendAncillaryBuffer::new(&mut room);
        if let Some(descriptor) = &descriptor {
            handed.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(descriptor)));
        }
        // A datagram goes as a whole or not at all.
        let mut send = |socket: &UnixDatagram| {
            retry_on_intr(|| sendmsg(socket, &[IoSlice::new(text.as_bytes())], &mut handed, SendFlags::NOSIGNAL))
        };
        let sent = match send(socket) {
            Err(gone @ (Errno::CONNREFUSED | Errno::NOTCONN)) => {
                connected(to).map_err(|_| gone).and_then(|new| send(&new))
            }
            sent => sent,
        };
        sent?;
        Ok(())
    }
}

impl Way {
    fn new(to: OsString) -> Self {
        Self { socket: connected(&to), to }
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
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::io::IoSliceMut;
    use std::os::fd::AsFd;

    /// Receives what was told, and how many descriptors came with it.
    fn received(manager: &UnixDatagram) -> (String, usize) {
        let (mut bytes, mut room) = ([0; 64], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))]);
        let mut handed = RecvAncillaryBuffer::new(&mut room);
        let length =
            recvmsg(manager, &mut [IoSliceMut::new(&mut bytes)], &mut handed, RecvFlags::empty()).unwrap().bytes;
        let descriptors = handed.drain().map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.count(),
            _ => panic!("something else was handed over"),
        });
        (String::from_utf8(bytes[..length].to_vec()).unwrap(), descriptors.sum())
    }

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
            let told = Manager(Some(Way::new(to.to_owned())));
            let (_reader, writer) = io::pipe().unwrap();
            told.tell(&[NotifyState::Ready, NotifyState::Status("well")], None).unwrap();
            told.tell(&[NotifyState::FdStore, NotifyState::FdName("x")], Some(writer.as_fd())).unwrap();
            assert_eq!(received(&manager), ("READY=1\nSTATUS=well\n".to_owned(), 0));
            assert_eq!(received(&manager), ("FDSTORE=1\nFDNAME=x\n".to_owned(), 1));
        }
    }

    #[test]
    fn a_manager_that_made_its_socket_anew_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let first = UnixDatagram::bind(&path).unwrap();
        let told = Manager(Some(Way::new(path.clone().into())));
        drop(first);
        let gone = told.tell(&[NotifyState::Ready], None).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::ConnectionRefused);
        std::fs::remove_file(&path).unwrap();
        let second = UnixDatagram::bind(&path).unwrap();
        let (_reader, writer) = io::pipe().unwrap();
        for descriptor in [None, Some(writer.as_fd())] {
            told.tell(&[NotifyState::Ready], descriptor).unwrap();
            assert_eq!(received(&second), ("READY=1\n".to_owned(), descriptor.iter().count()));
        }
    }

    #[test]
    fn nobody_is_told_where_nobody_listens() {
        Manager::default().tell(&[NotifyState::Ready], None).unwrap();
        let gone = Manager(Some(Way::new("/nowhere/notify".into())));
        for _ in 0..2 {
            assert_eq!(gone.tell(&[NotifyState::Ready], None).unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    }
}
