//! A tun or tap interface has a descriptor: `tun(4)`, Documentation/networking/tuntap.rst,
//! drivers/net/tun.c.
//!
//! Each `write(2)` is one frame that the interface receives, each `read(2)` one that the host sends
//! into it. There is no header in front of a frame: `IFF_NO_PI`, and no `IFF_VNET_HDR`, without
//! which the kernel neither merges nor segments what is written.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The device that makes tun and tap interfaces.
pub(crate) const DEVICE: &str = "/dev/net/tun";

/// The longest name of an interface, in bytes (`IFNAMSIZ` less the terminating zero).
pub(crate) const NAME_MAX: usize = libc::IFNAMSIZ - 1;

/// The header that a frame of the interface begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A frame begins with an Ethernet header (`IFF_TAP`).
    Tap,
    /// A frame begins with an IP header (`IFF_TUN`).
    Tun,
}

impl Kind {
    /// Returns `tap` or `tun`, as `ip tuntap` calls it.
    #[must_use]
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Kind::Tap => "tap",
            Kind::Tun => "tun",
        }
    }

    const fn flag(self) -> i32 {
        match self {
            Kind::Tap => libc::IFF_TAP,
            Kind::Tun => libc::IFF_TUN,
        }
    }
}

/// A step of [`Tun::attach`] that failed.
#[derive(Debug)]
pub enum AttachError {
    /// [`DEVICE`] could not be opened.
    Device(io::Error),
    /// The interface could not be attached to, or created (`TUNSETIFF`). `EPERM`: it does not
    /// exist, or belongs to another user, and the process lacks CAP_NET_ADMIN. `EINVAL`: an
    /// interface of another kind has the name, or the name is none. `EBUSY`: another process has
    /// attached to it.
    Attach(io::Error),
    /// An ioctl that says how to treat frames failed.
    Configure(io::Error),
}

/// An interface that this process has attached to. Its calls never block.
#[derive(Debug)]
pub struct Tun {
    file: File,
}

impl Tun {
    /// Attaches to the interface `name`, which is created in the network namespace of the calling
    /// thread if it does not exist. An interface made so ceases to exist when the value is dropped.
    /// `multi_queue` must be what the interface was made with, if it exists.
    ///
    /// # Errors
    /// The [`AttachError`] of the step that failed.
    pub fn attach(name: &CStr, kind: Kind, multi_queue: bool) -> Result<Self, AttachError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(Path::new(DEVICE))
            .map_err(AttachError::Device)?;
        // SAFETY: `ifreq` is a C struct of integers and a union of such and a pointer, for which
        // all bytes zero are a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // The last byte of the field stays zero.
        for (to, from) in request.ifr_name[..NAME_MAX].iter_mut().zip(name.to_bytes()) {
            *to = from.cast_signed();
        }
        let queues = if multi_queue { libc::IFF_MULTI_QUEUE } else { 0 };
        let flags = kind.flag() | libc::IFF_NO_PI | queues;
        request.ifr_ifru.ifru_flags = i16::try_from(flags).map_err(|e| AttachError::Attach(io::Error::other(e)))?;
        let tun = Self { file };
        tun.ioctl_struct(libc::TUNSETIFF, &mut request).map_err(AttachError::Attach)?;
        tun.ioctl_int(libc::TUNSETOFFLOAD, 0).map_err(AttachError::Configure)?;
        // No limit on what is on its way through the kernel's receive path, as a new interface has
        // it: with a limit, a write allocates in a slower way (tun_can_build_skb), and can find the
        // limit reached.
        let mut unlimited: libc::c_int = libc::c_int::MAX;
        tun.ioctl_struct(libc::TUNSETSNDBUF, &mut unlimited).map_err(AttachError::Configure)?;
        Ok(tun)
    }

    /// Takes over a descriptor of a process before this one, which had attached to the interface
    /// `name`.
    ///
    /// # Errors
    /// The descriptor is of another interface or kind, or of none; or the error of `ioctl(2)`.
    pub(crate) fn take_over(descriptor: OwnedFd, name: &CStr, kind: Kind) -> io::Result<Self> {
        let tun = Self { file: descriptor.into() };
        // SAFETY: as above.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        tun.ioctl_struct(libc::TUNGETIFF, &mut request)?;
        // SAFETY: the kernel has written the flags, which are a number.
        let flags = i32::from(unsafe { request.ifr_ifru.ifru_flags });
        let is = request.ifr_name.iter().map(|byte| byte.cast_unsigned()).take_while(|byte| *byte != 0);
        if !is.eq(name.to_bytes().iter().copied()) {
            return Err(io::Error::other("it is of another interface"));
        }
        let wanted = kind.flag() | libc::IFF_NO_PI;
        if flags & (libc::IFF_TAP | libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) != wanted {
            return Err(io::Error::other("it is of another kind"));
        }
        tun.ioctl_int(libc::TUNSETOFFLOAD, 0)?;
        Ok(tun)
    }

    /// Calls an ioctl that takes a pointer to `argument`, which the kernel may write to.
    fn ioctl_struct<T>(&self, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
        // SAFETY: the descriptor is open for the life of `self`. The callers, all in this file,
        // pair each request with the type that the kernel copies from and to; it keeps no pointer.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), request, std::ptr::from_mut(argument)) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Calls an ioctl that takes a number.
    fn ioctl_int(&self, request: libc::Ioctl, argument: libc::c_ulong) -> io::Result<()> {
        // SAFETY: the descriptor is open for the life of `self`, and the requests that the callers,
        // all in this file, use take a number.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), request, argument) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Puts `frame` into the interface, which receives it. It returns how many bytes of it the
    /// kernel took: all of them.
    ///
    /// # Errors
    /// `EIO`: the interface is down. `EBADFD`: it was deleted. `EINVAL`: this is not a frame of its
    /// kind. Otherwise the error of `write(2)`.
    #[inline]
    pub fn inject(&self, frame: &[u8]) -> io::Result<usize> {
        (&self.file).write(frame)
    }

    /// Takes a frame that the host sends into the interface. What does not fit in `buffer` is cut
    /// off.
    ///
    /// # Errors
    /// `EAGAIN`: there is none. `EBADFD`: the interface was deleted. Otherwise the error of
    /// `read(2)`.
    pub(crate) fn take(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
