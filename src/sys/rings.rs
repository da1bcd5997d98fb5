//! Rings are lent from a stock, where no more can be made.
//!
//! What a ring does goes past a filter of system calls. So a process that is to have such a filter
//! makes its rings before, and has the kernel restrict each to what is done with it here: it writes
//! to files that are open. It is enabled by the thread that uses it first. A ring comes back when
//! it is no longer used, and is lent again.

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::thread::{self, ThreadId};

use io_uring::register::Restriction;
use io_uring::squeue::Flags;
use io_uring::{IoUring, opcode};
use parking_lot::Mutex;

/// What a ring is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Files: any thread may use it, one after the other.
    Files,
    /// An interface: it belongs to the thread that enables it.
    Interface,
}

/// How many rings a process is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stock {
    /// Rings for files.
    pub files: usize,
    /// Rings for interfaces.
    pub interfaces: usize,
}

/// The entries of a ring for files in the stock: as many as it has buffers, or more.
const FILES: u32 = 8;
/// The entries of a ring for an interface.
pub(super) const INTERFACE: u32 = 64;

/// A ring in the stock.
struct Idle {
    ring: IoUring,
    kind: Kind,
    /// True once it was used. One for an interface is its thread's from then on.
    user: Option<ThreadId>,
}

/// The rings that are not lent; none where rings are made as they are needed.
static IDLE: Mutex<Option<Vec<Idle>>> = Mutex::new(None);

/// Makes a stock of restricted rings. From now on there are no others. Where the kernel makes none,
/// there are none.
pub(crate) fn stock(wanted: Stock) {
    let kinds = [(Kind::Files, wanted.files, FILES), (Kind::Interface, wanted.interfaces, INTERFACE)];
    let made = kinds.into_iter().flat_map(|(kind, number, entries)| {
        let made = (0..number).map_while(move |_| make(kind, entries, true).ok());
        made.map(move |ring| Idle { ring, kind, user: None })
    });
    *IDLE.lock() = Some(made.collect());
}

/// Has rings made as they are needed again.
pub(crate) fn unstock() {
    *IDLE.lock() = None;
}

fn make(kind: Kind, entries: u32, is_restricted: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    match kind {
        Kind::Files => builder.setup_coop_taskrun(),
        Kind::Interface => builder.setup_single_issuer().setup_defer_taskrun(),
    };
    if !is_restricted {
        return builder.build(entries);
    }
    let ring = builder.setup_r_disabled().build(entries)?;
    let mut all = [
        Restriction::sqe_op(opcode::Write::CODE),
        Restriction::sqe_flags_allowed((Flags::IO_LINK | Flags::FIXED_FILE).bits()),
        // `enum io_uring_register_op`, include/uapi/linux/io_uring.h
        Restriction::register_op(/* FILES */ 2),
        Restriction::register_op(/* UNREGISTER_FILES */ 3),
    ];
    ring.submitter().register_restrictions(&mut all)?;
    Ok(ring)
}

/// A ring that goes back to the stock, if it comes from there.
pub(super) struct Lent {
    ring: ManuallyDrop<IoUring>,
    kind: Kind,
    comes_back: bool,
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Lent {
    /// Returns a ring with so many entries at least.
    ///
    /// # Errors
    /// The kernel makes none, or the stock has none left.
    pub(super) fn new(kind: Kind, entries: u32) -> io::Result<Self> {
        let mut idle = IDLE.lock();
        let Some(idle) = idle.as_mut().filter(|_| entries <= FILES || kind == Kind::Interface) else {
            drop(idle);
            return Ok(Self { ring: ManuallyDrop::new(make(kind, entries, false)?), kind, comes_back: false });
        };
        let this = thread::current().id();
        let place = |is_fit: &dyn Fn(&Idle) -> bool| idle.iter().position(|idle| idle.kind == kind && is_fit(idle));
        let used = place(&|idle| idle.user.is_some_and(|user| kind == Kind::Files || user == this));
        let found = used.or_else(|| place(&|idle| idle.user.is_none()));
        let Idle { ring, user, .. } = idle.swap_remove(found.ok_or(io::ErrorKind::PermissionDenied)?);
        if user.is_none() {
            ring.submitter().register_enable_rings()?;
        }
        Ok(Self { ring: ManuallyDrop::new(ring), kind, comes_back: true })
    }

    /// Has the ring not come back: it is out of use.
    pub(super) fn discard(&mut self) {
        self.comes_back = false;
    }
}

impl Deref for Lent {
    type Target = IoUring;

    fn deref(&self) -> &IoUring {
        &self.ring
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut IoUring {
        &mut self.ring
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: the ring is taken once, here, and not used afterwards.
        let ring = unsafe { ManuallyDrop::take(&mut self.ring) };
        if let (true, Some(idle)) = (self.comes_back, &mut *IDLE.lock()) {
            idle.push(Idle { ring, kind: self.kind, user: Some(thread::current().id()) });
        }
    }
}

/// What a process that is sealed is refused.
#[cfg(test)]
pub(crate) mod refused {
    use std::io;
    use std::ptr;

    /// Tries to make a ring.
    pub(crate) fn ring() -> io::Result<()> {
        super::make(super::Kind::Files, 4, true).map(drop)
    }

    /// Tries to load a program into the kernel, of no instruction.
    pub(crate) fn program() -> io::Result<()> {
        const PROG_LOAD: libc::c_int = 5;
        let attributes = [0_u64; 16];
        // SAFETY: the kernel reads as many bytes as are said. A program without instructions does
        // not exist.
        let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, attributes.as_ptr(), size_of_val(&attributes)) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Tries to get memory that can be executed.
    pub(crate) fn executable() -> io::Result<()> {
        let access = libc::PROT_READ | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory of anybody.
        let map = unsafe { libc::mmap(ptr::null_mut(), 4096, access, flags, -1, 0) };
        if map == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
