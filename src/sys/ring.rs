//! A BPF ring buffer is read in place here: Documentation/bpf/ringbuf.rst, kernel/bpf/ringbuf.c.
//!
//! The kernel offers three mappings of the map's descriptor: a page with the consumer's position,
//! which we write; a page with the producer's position, which it writes; and the data, twice in a
//! row, so that a record that goes around the end is one slice. Positions count bytes and never go
//! back. Each record has a header of 8 bytes: length u32 with two flags, page offset u32; it begins
//! at a multiple of 8.
//!
//! The kernel does not touch a committed record before the consumer's position is beyond it. So
//! records can be looked at, passed over ([`Ring::skip`]) and given back many at a time
//! ([`Ring::release`]); the producers, which read the consumer's position for each record, then
//! find its cache line where it was.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// A record that is being written.
const BUSY: u32 = 1 << 31;
/// A record that was given up.
const DISCARDED: u32 = 1 << 30;
/// Length of a record's header.
const HEADER_LEN: usize = 8;

/// A mapping of a descriptor, which is removed when this is dropped.
#[derive(Debug)]
struct Mapping {
    address: NonNull<u8>,
    length: usize,
}

impl Mapping {
    fn new(fd: BorrowedFd<'_>, length: usize, protection: i32, offset: usize) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: no address is asked for, so no mapping of ours is replaced; the kernel checks the
        // other arguments.
        let address =
            unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd.as_raw_fd(), offset) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mmap returned no address"))?;
        Ok(Self { address, length })
    }

    /// Returns the position in the first word of the mapping.
    fn position(&self) -> &AtomicUsize {
        // SAFETY: the mapping is at least a page long, aligned to a page, readable, and lives as
        // long as `self`; the kernel reads and writes the word (an unsigned long) atomically. The
        // mapping of the producer's position is not writable, and is only loaded.
        unsafe { self.address.cast().as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and what was borrowed from it does not outlive `self`.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.length) };
    }
}

/// The reading end of a ring. There must be one at most.
#[derive(Debug)]
pub(crate) struct Ring {
    fd: OwnedFd,
    consumer: Mapping,
    /// A page with the producer's position, and the data twice.
    producer: Mapping,
    page: usize,
    /// Bytes of data; a power of two.
    size: usize,
    /// The position at which the next record begins.
    next: usize,
    /// The producer's position when it was last looked at.
    end: usize,
    /// The consumer's position that the kernel knows.
    released: usize,
}

// SAFETY: the mappings are not bound to a thread. What moves along with them is the right to read,
// of which there is one.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the ring of this descriptor of a `BPF_MAP_TYPE_RINGBUF` map that was created with
    /// `size` bytes.
    ///
    /// # Errors
    /// `EINVAL`, `EPERM`: this is not a ring of this size. Otherwise the error of `mmap(2)`.
    pub(crate) fn new(fd: OwnedFd, size: u32) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let size = usize::try_from(size).map_err(io::Error::other)?;
        if !size.is_power_of_two() || !size.is_multiple_of(page) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let consumer = Mapping::new(fd.as_fd(), page, libc::PROT_READ | libc::PROT_WRITE, 0)?;
        let producer = Mapping::new(fd.as_fd(), page + 2 * size, libc::PROT_READ, page)?;
        let next = consumer.position().load(Ordering::Acquire);
        Ok(Self { fd, consumer, producer, page, size, next, end: next, released: next })
    }

    /// Returns the next record, if one is whole. It stays the next until [`Ring::skip`].
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<&[u8]> {
        loop {
            if self.next == self.end {
                // This pairs with the kernel's store after it has marked the record's header busy.
                self.end = self.producer.position().load(Ordering::Acquire);
                if self.next == self.end {
                    return None;
                }
            }
            let header = self.header();
            if header & BUSY != 0 {
                return None;
            }
            let length = header as usize & (self.size - 1);
            if header & DISCARDED != 0 {
                self.advance(length);
                continue;
            }
            let at = self.page + (self.next & (self.size - 1)) + HEADER_LEN;
            // The kernel never makes such a record; a slice beyond the mapping must not exist even
            // so.
            if at + length > self.producer.length {
                return None;
            }
            // SAFETY: in bounds, as just checked.
            let record = unsafe { self.producer.address.add(at) };
            // SAFETY: in bounds to its end, as just checked. The kernel does not write to a record
            // that is not busy before the consumer's position is beyond it, and only `release`,
            // which needs `self` to itself, moves that.
            return Some(unsafe { std::slice::from_raw_parts(record.as_ptr(), length) });
        }
    }

    /// Passes over the record that [`Ring::peek`] returned.
    #[inline]
    pub(crate) fn skip(&mut self) {
        if self.next != self.end {
            let header = self.header();
            if header & BUSY == 0 {
                self.advance(header as usize & (self.size - 1));
            }
        }
        // Records go back in pieces that are an eighth of the ring, so that a long batch does not
        // hold up the producers.
        if self.next.wrapping_sub(self.released) > self.size / 8 {
            self.release();
        }
    }

    /// Gives the records that were passed over back to the kernel.
    #[inline]
    pub(crate) fn release(&mut self) {
        if self.released != self.next {
            self.released = self.next;
            // This pairs with the kernel's load when it looks for room: the reading of the records
            // comes before.
            self.consumer.position().store(self.next, Ordering::Release);
        }
    }

    /// Says whether there is no record, not even one that is being written. Whoever has asked to be
    /// woken and then finds the ring empty will be woken.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        std::sync::atomic::fence(Ordering::SeqCst);
        self.producer.position().load(Ordering::Acquire) == self.next
    }

    /// Says how many bytes of records have not been given back.
    #[must_use]
    pub(crate) fn used(&self) -> usize {
        self.producer.position().load(Ordering::Acquire).wrapping_sub(self.released)
    }

    /// Says how many bytes of data the ring has.
    #[must_use]
    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// Reads length and flags of the next record; there must be one.
    #[inline]
    fn header(&self) -> u32 {
        let at = self.page + (self.next & (self.size - 1));
        // SAFETY: in bounds, since the offset is below the size and the data is mapped twice.
        let header = unsafe { self.producer.address.add(at) };
        // SAFETY: positions are multiples of 8, so the word is aligned; the kernel writes it
        // atomically. It is only loaded. What the kernel wrote before it cleared the busy flag is
        // visible after.
        unsafe { header.cast::<AtomicU32>().as_ref() }.load(Ordering::Acquire)
    }

    #[inline]
    fn advance(&mut self, length: usize) {
        self.next = self.next.wrapping_add((HEADER_LEN + length).next_multiple_of(8));
    }
}

/// The fill level of a ring, for threads that do not read it.
#[derive(Debug)]
pub(crate) struct Level {
    consumer: Mapping,
    producer: Mapping,
}

// SAFETY: of these mappings only the positions are read, by atomic loads.
unsafe impl Send for Level {}
// SAFETY: as above.
unsafe impl Sync for Level {}

impl Level {
    /// Says how many bytes of records are in the ring, as far as the kernel knows.
    #[must_use]
    pub(crate) fn used(&self) -> u64 {
        // In this order: the consumer does not overtake the producer.
        let released = self.consumer.position().load(Ordering::Acquire);
        self.producer.position().load(Ordering::Acquire).wrapping_sub(released) as u64
    }
}

impl Ring {
    /// Maps the positions once more, for threads that do not read the ring.
    ///
    /// # Errors
    /// The error of `mmap(2)`.
    pub(crate) fn level(&self) -> io::Result<Level> {
        let map = |offset| Mapping::new(self.fd.as_fd(), self.page, libc::PROT_READ, offset);
        Ok(Level { consumer: map(0)?, producer: map(self.page)? })
    }
}

impl AsFd for Ring {
    /// Lends the descriptor, which is readable, for `poll(2)`, while there are records. A sleeper
    /// is woken when a program says so.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits until every program that runs now on any CPU has ended. `MEMBARRIER_CMD_GLOBAL` of
/// `membarrier(2)` waits for an RCU grace period, and a BPF program on a packet runs within a
/// read-side section. A program that starts afterwards finds what was written before.
///
/// # Errors
/// `EINVAL` on a kernel with `nohz_full` CPUs, `ENOSYS` on one without the call.
pub(crate) fn wait_for_running_programs() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the call has no pointer among its arguments.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_is_no_ring_is_refused() {
        let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let refused = |size| Ring::new(file(), size).unwrap_err().raw_os_error();
        for size in [0, 1000, 4096 + 1, 3 * 4096] {
            assert_eq!(refused(size), Some(libc::EINVAL));
        }
        assert!(refused(1 << 16).is_some());
    }

    #[test]
    fn running_programs_end() {
        // Where the kernel cannot say so, the caller waits instead.
        let result = wait_for_running_programs();
        assert!(result.is_ok() || matches!(result.unwrap_err().raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)));
    }
}
