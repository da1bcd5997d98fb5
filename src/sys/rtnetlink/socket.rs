//! A socket is the way by which the kernel is asked and told.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use super::message::{HEADER_LEN, Message, u16_at, u32_at};

/// A socket to the kernel, for the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct RouteSocket {
    socket: OwnedFd,
}

impl RouteSocket {
    /// Opens a socket for the network namespace of the calling thread.
    ///
    /// # Errors
    /// The error of `socket(2)`.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket })
    }

    /// Sends a message and passes the body of each answer of type `wanted` to `found`, up to the
    /// acknowledgement or the end of a list.
    pub(super) fn exchange(&self, message: Message, wanted: u16, mut found: impl FnMut(&[u8])) -> io::Result<()> {
        send(&self.socket, &message.finish(), SendFlags::empty())?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let (_, length) = recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty())?;
            let mut answers = buffer.get(..length.min(buffer.len())).unwrap_or_default();
            while let (Some(length), Some(kind)) = (u32_at(answers, 0), u16_at(answers, 4)) {
                let length = usize::try_from(length).map_err(io::Error::other)?;
                let Some(body) = answers.get(HEADER_LEN..length) else { break };
                match i32::from(kind) {
                    libc::NLMSG_ERROR => {
                        // struct nlmsgerr begins with an error number, negated; 0 acknowledges.
                        let error = u32_at(body, 0).unwrap_or(0).cast_signed();
                        return if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-error)) };
                    }
                    libc::NLMSG_DONE => return Ok(()),
                    _ if kind == wanted => found(body),
                    _ => {}
                }
                answers = answers.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}
