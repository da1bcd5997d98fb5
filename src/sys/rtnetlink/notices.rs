//! The kernel gives notice here that something about an interface has changed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use super::message::{HEADER_LEN, u32_at};

/// The groups of notices: interfaces, filters, and addresses of both kinds.
const GROUPS: i32 = libc::RTMGRP_LINK | libc::RTMGRP_TC | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
/// Place of the interface's number in `struct ifinfomsg`, `struct tcmsg` and `struct ifaddrmsg`.
const INDEX: usize = 4;

/// Tells that something has changed in the network namespace in which it was made, and not what.
#[derive(Debug)]
pub(crate) struct Notices {
    socket: OwnedFd,
}

impl Notices {
    /// Begins to listen: changes from now on give notice.
    ///
    /// # Errors
    /// The error of `socket(2)` or `bind(2)`.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS.cast_unsigned()))?;
        Ok(Self { socket })
    }

    /// Waits for a notice about the interface of this number, until `end` at most, or until `other`
    /// can be read. It may return early.
    pub(crate) fn wait(&self, index: u32, other: impl AsFd, end: Instant) {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
            let mut ready = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&other, PollFlags::IN)];
            let n = poll(&mut ready, Some(&timeout));
            let is_about_others = n.is_ok_and(|n| n > 0) && ready[1].revents().is_empty() && !self.tells_of(index);
            if !is_about_others || left == Duration::ZERO {
                return;
            }
        }
    }

    /// Reads what there is, and says whether something is about this interface, or may be.
    fn tells_of(&self, index: u32) -> bool {
        let mut buffer = [0; 16 * 1024];
        match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((_, length)) => {
                let mut messages = buffer.get(..length).unwrap_or_default();
                while let Some(length) = u32_at(messages, 0) {
                    if u32_at(messages, HEADER_LEN + INDEX) == Some(index) {
                        return true;
                    }
                    let length = usize::try_from(length).unwrap_or(usize::MAX).max(HEADER_LEN);
                    messages = messages.get(length.saturating_add(3) & !3..).unwrap_or_default();
                }
                false
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            // ENOBUFS: there were more notices than the socket holds.
            Err(_) => true,
        }
    }
}
