//! Socket options that socket2 lacks.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

/// Sets an `int` option, as `setsockopt(2)` takes it.
///
/// # Errors
/// What `setsockopt` returns.
fn set_int(socket: &impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    set(socket, level, name, &value)
}

fn set<T: Copy>(socket: &impl AsFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(mem::size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the life of `socket`; the pointer and length describe `value`, which the
    // kernel only reads during the call.
    let result =
        unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends IPv4 datagrams with a zero UDP checksum (`SO_NO_CHECK`), as AWS does for mirror traffic.
///
/// # Errors
/// What `setsockopt` returns.
pub fn send_zero_checksum_v4(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1)
}

/// Sends IPv6 datagrams with a zero UDP checksum (`UDP_NO_CHECK6_TX`, RFC 6935).
///
/// # Errors
/// What `setsockopt` returns.
pub fn send_zero_checksum_v6(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::SOL_UDP, libc::UDP_NO_CHECK6_TX, 1)
}
