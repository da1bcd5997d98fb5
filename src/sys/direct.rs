//! Writes go past the page cache here, one after the other, while the caller goes on: `O_DIRECT`
//! and `io_uring(7)`.
//!
//! [`Writes`] owns a few large buffers. The caller fills one and hands it over; the kernel writes
//! it to the file while the caller fills the next. The writes of a submission are linked
//! (`IOSQE_IO_LINK`), and the next submission begins when all of the one before have completed. So
//! the file grows from its end and nowhere else: a reader never finds a hole, and after a failure
//! nothing lies beyond the failure. Several writes at once would gain nothing where a file grows:
//! ext4 takes the inode's lock for each write that extends the file and waits for it
//! (`ext4_dio_write_checks`, fs/ext4/file.c). Nor would `O_DIRECT` alone: a thread that waits
//! cannot copy.
//!
//! A direct write begins at a multiple of the alignment that the file system asks for, in the file
//! and in memory, and its length is such a multiple (open(2), NOTES, `O_DIRECT`). Memory is
//! page-aligned here. The place in the file is up to the caller, and a violation fails with
//! `EINVAL`.
//!
//! Direct writes need Linux 5.19 or later, for `IORING_SETUP_COOP_TASKRUN`. Containers and hardened
//! hosts forbid io_uring altogether; there [`Writes::new`] fails.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use io_uring::squeue::Flags;
use io_uring::{opcode, types};

use super::rings::{Kind, Lent};
use super::uring::Uring;

/// A buffer has so many bytes.
pub const BUFFER: usize = 1 << 20;

/// There are at most so many buffers.
pub(crate) const MOST: usize = 64;

/// Buffers and a ring, and the file that they are written to now. The value may move between
/// threads.
pub struct Writes {
    /// A buffer's number is its slot.
    ring: Uring,
    memory: Memory,
    buffers: usize,
    /// The file, open for as long as the kernel may look up its descriptor. The kernel looks up
    /// that of a linked request when the request's turn comes.
    file: Option<Arc<File>>,
    /// A direct write is a multiple of this.
    alignment: usize,
    /// The writes that were handed over and are not in the file yet, oldest first. They have
    /// buffers in a row, which wraps round.
    pending: VecDeque<Pending>,
    /// The buffer of the oldest pending write.
    first: usize,
    /// The kernel has so many of the pending writes, from the oldest.
    flying: usize,
    settled: u64,
    failure: Option<io::Error>,
}

/// A pending write: bytes `done..length` of a buffer are to go to the file, with the buffer's first
/// byte at `offset`.
#[derive(Debug, Clone, Copy)]
struct Pending {
    offset: u64,
    length: usize,
    done: usize,
}

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writes")
            .field("file", &self.file)
            .field("pending", &self.pending)
            .field("flying", &self.flying)
            .field("settled", &self.settled)
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}

impl Writes {
    /// Makes a ring and `buffers` buffers of [`BUFFER`] bytes, 2 to [`MOST`], for no file yet.
    ///
    /// # Errors
    /// `ENOSYS`, `EPERM`: io_uring is not available, or no ring is left. `EINVAL`: the kernel is
    /// too old. `ENOMEM`: there is not enough memory.
    pub fn new(buffers: usize) -> io::Result<Self> {
        let buffers = buffers.clamp(2, MOST);
        let entries = u32::try_from(buffers.next_power_of_two()).map_err(io::Error::other)?;
        let ring = Lent::new(Kind::Files, entries)?;
        Ok(Self {
            ring: Uring::new(ring, buffers),
            memory: Memory::new(buffers * BUFFER)?,
            buffers,
            file: None,
            alignment: 1,
            pending: VecDeque::with_capacity(buffers),
            first: 0,
            flying: 0,
            settled: 0,
            failure: None,
        })
    }

    /// Says whether the ring can be used. Where it cannot, pending bytes have to be written in
    /// another way.
    #[must_use]
    pub(crate) fn usable(&self) -> bool {
        self.ring.usable()
    }

    /// Writes go to `file` from now on, which has `length` bytes. Direct writes are multiples of
    /// `alignment`. Pending writes are forgotten.
    pub fn attach(&mut self, file: Arc<File>, length: u64, alignment: usize) {
        self.settle();
        self.pending.clear();
        self.file = Some(file);
        self.alignment = alignment.max(1);
        self.settled = length;
        self.failure = None;
    }

    /// Waits until the kernel has done with the file, and lets go of it. Pending writes are
    /// forgotten.
    pub(crate) fn detach(&mut self) {
        self.settle();
        self.pending.clear();
        self.failure = None;
        self.file = None;
    }

    /// Says how many bytes from the beginning of the file are in it. The number grows in the calls
    /// that take `&mut self`.
    #[must_use]
    pub(crate) fn settled(&self) -> u64 {
        self.settled
    }

    /// Lends the buffer to fill next, [`BUFFER`] bytes; none where all buffers are pending.
    pub fn room(&mut self) -> &mut [u8] {
        if self.pending.len() >= self.buffers {
            return &mut [];
        }
        let start = self.memory.buffer((self.first + self.pending.len()) % self.buffers);
        // SAFETY: the bytes belong to `memory`, which lives as long as `self` and is initialized.
        // This buffer is not pending, so the kernel does not read it; and `self` is borrowed for as
        // long as the slice lives.
        unsafe { slice::from_raw_parts_mut(start, BUFFER) }
    }

    /// Sends the first `length` bytes of [`Writes::room`] to the file at `offset`. A later call
    /// returns what goes wrong.
    pub fn push(&mut self, length: usize, offset: u64) {
        if self.pending.len() < self.buffers && length > 0 {
            self.pending.push_back(Pending { offset, length: length.min(BUFFER), done: 0 });
        }
        self.reap();
        self.submit();
    }

    /// Takes note of what has completed, and begins what can begin. It does not wait.
    ///
    /// # Errors
    /// The error of a write since the last call. The write's bytes stay pending and are tried
    /// again, unless they are forgotten.
    pub(crate) fn advance(&mut self) -> io::Result<()> {
        self.reap();
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        self.submit();
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Waits until at most `pending` buffers are pending.
    ///
    /// # Errors
    /// The errors are those of [`Writes::advance`].
    pub fn wait(&mut self, pending: usize) -> io::Result<()> {
        loop {
            self.advance()?;
            if self.pending.len() <= pending {
                return Ok(());
            }
            self.wait_for_one();
        }
    }

    /// Waits for what the kernel has, and begins no more.
    pub(crate) fn settle(&mut self) {
        self.reap();
        while self.flying > 0 {
            self.wait_for_one();
            self.reap();
        }
    }

    /// Returns the bytes of the oldest pending buffer that are not in the file, and where they
    /// belong. None where the kernel has them.
    #[must_use]
    pub(crate) fn oldest(&self) -> Option<(u64, &[u8])> {
        let pending = self.pending.front().filter(|_| self.flying == 0)?;
        // SAFETY: the bytes belong to `memory`, which lives as long as `self` and is initialized.
        // Nobody writes to them while `self` is borrowed.
        let buffer = unsafe { slice::from_raw_parts(self.memory.buffer(self.first), BUFFER) };
        Some((pending.offset + pending.done as u64, buffer.get(pending.done..pending.length)?))
    }

    /// Takes note that the caller has written what [`Writes::oldest`] returned.
    pub(crate) fn oldest_is_written(&mut self) {
        if self.flying == 0 {
            self.failure = None;
            self.retire();
        }
    }

    /// Hands all that is pending to the kernel, where the kernel has nothing.
    fn submit(&mut self) {
        if self.flying > 0 || self.pending.is_empty() || self.failure.is_some() {
            return;
        }
        let Some(file) = self.file.as_ref().filter(|_| self.ring.usable()) else {
            self.failure = Some(io::Error::from_raw_os_error(libc::EBADF));
            return;
        };
        for (n, pending) in self.pending.iter().enumerate() {
            let buffer = (self.first + n) % self.buffers;
            let start = self.memory.buffer(buffer).wrapping_add(pending.done);
            let length = u32::try_from(pending.length.saturating_sub(pending.done)).unwrap_or(0);
            let flags = if n + 1 < self.pending.len() { Flags::IO_LINK } else { Flags::empty() };
            let entry = opcode::Write::new(types::Fd(file.as_raw_fd()), start, length)
                .offset(pending.offset + pending.done as u64)
                .build()
                .flags(flags);
            // SAFETY: the entry points to `length` bytes of a buffer. They are not written to
            // before the request has completed, as the buffer is pending until then; and `settle`
            // is called before `memory` goes and before `file` is let go of.
            if !unsafe { self.ring.push(entry, buffer) } {
                break;
            }
            self.flying += 1;
        }
        self.ring.submit();
    }

    /// Waits for a completion. The kernel has something then.
    fn wait_for_one(&mut self) {
        if self.ring.wait(1).is_err() {
            // The writes that the kernel does not take are the last of the flying ones.
            self.flying = self.flying.saturating_sub(self.ring.unseen());
        }
    }

    /// Takes note of what has completed.
    fn reap(&mut self) {
        self.ring.reap();
        while self.flying > 0 {
            let Some(oldest) = self.pending.front() else { return };
            let left = oldest.length.saturating_sub(oldest.done);
            let result = self.ring.result(self.first);
            if matches!(result, Some(Ok(taken)) if taken >= left) {
                self.flying -= 1;
                self.retire();
            } else if let Some(result) = result
                && (0..self.flying).all(|n| self.ring.result((self.first + n) % self.buffers).is_some())
            {
                // The writes that were linked to it have been cancelled.
                self.flying = 0;
                self.fall_short(result);
            } else {
                return;
            }
        }
    }

    /// Takes note that the oldest pending write is in the file.
    fn retire(&mut self) {
        if let Some(oldest) = self.pending.pop_front() {
            self.settled = self.settled.max(oldest.offset + oldest.length as u64);
            self.first = (self.first + 1) % self.buffers;
        }
    }

    /// Takes note that the oldest write has gone to the file in part, or not at all. The rest has
    /// to begin at a multiple of the alignment again.
    fn fall_short(&mut self, result: io::Result<usize>) {
        let whole = result.as_ref().map_or(0, |taken| taken - taken % self.alignment);
        if let Some(oldest) = self.pending.front_mut() {
            oldest.done += whole;
            self.settled = self.settled.max(oldest.offset + oldest.done as u64);
        }
        self.failure = match result {
            Ok(_) if whole > 0 => None,
            Ok(_) => Some(io::ErrorKind::WriteZero.into()),
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => None,
            Err(error) => Some(error),
        };
    }
}

impl Drop for Writes {
    fn drop(&mut self) {
        // The kernel reads the buffers.
        self.settle();
    }
}

/// Anonymous memory, in huge pages where there are some. A direct write then has one segment.
/// Otherwise each page is a segment, and 256 are more than a disk may take at once. Measured with
/// four buffers, medians of 7: 2.5 GB/s with huge pages, 1.8 without.
struct Memory {
    map: NonNull<libc::c_void>,
    length: usize,
    start: *mut u8,
}

// SAFETY: the mapping belongs to this value alone and is tied to no thread.
unsafe impl Send for Memory {}
// SAFETY: a shared reference gives out addresses only; what is done with them is argued where it is
// done.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(bytes: usize) -> io::Result<Self> {
        /// The size of a huge page on x86-64 and, with small pages of 4 KiB, arm64.
        const HUGE: usize = 2 << 20;
        let length = bytes + HUGE;
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory of anybody.
        let map = unsafe { libc::mmap(ptr::null_mut(), length, access, flags, -1, 0) };
        let map = NonNull::new(map).filter(|map| map.as_ptr() != libc::MAP_FAILED);
        let map = map.ok_or_else(io::Error::last_os_error)?;
        let start = map.as_ptr().cast::<u8>();
        let start = start.wrapping_add(start.align_offset(HUGE).min(HUGE));
        // SAFETY: the range is within the mapping. This is advice; a kernel without huge pages
        // refuses it, which does no harm.
        let _ = unsafe { libc::madvise(start.cast(), bytes, libc::MADV_HUGEPAGE) };
        Ok(Self { map, length, start })
    }

    /// Returns where buffer number `n` begins.
    fn buffer(&self, n: usize) -> *mut u8 {
        self.start.wrapping_add(n * BUFFER)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and whoever used it has done with it.
        let _ = unsafe { libc::munmap(self.map.as_ptr(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt;

    fn file(flags: i32) -> (tempfile::TempDir, Arc<File>) {
        let directory = std::env::current_exe().unwrap();
        let directory = tempfile::tempdir_in(directory.parent().unwrap()).unwrap();
        let path = directory.path().join("a");
        let file = File::options().read(true).write(true).create_new(true).custom_flags(flags).open(path).unwrap();
        (directory, Arc::new(file))
    }

    #[test]
    fn buffers_are_written_in_order_and_waited_for_when_dropped() {
        let (directory, file) = file(libc::O_DIRECT);
        let mut writes = Writes::new(4).unwrap();
        writes.attach(file, 0, 4096);
        for n in 0..20_u8 {
            writes.wait(3).unwrap();
            writes.room().fill(n);
            writes.push(BUFFER, u64::from(n) * BUFFER as u64);
            assert!(writes.settled() <= u64::from(n + 1) * BUFFER as u64);
        }
        writes.wait(0).unwrap();
        assert_eq!(writes.settled(), 20 * BUFFER as u64);
        writes.room().fill(20);
        writes.push(4096, 20 * BUFFER as u64);
        drop(writes);
        let read = std::fs::read(directory.path().join("a")).unwrap();
        assert_eq!(read.len(), 20 * BUFFER + 4096);
        assert!(read.chunks(BUFFER).zip(0..).all(|(chunk, n)| chunk.iter().all(|byte| *byte == n)));
    }

    #[test]
    fn a_failed_write_stays_pending_until_it_is_written_or_forgotten() {
        let (_directory, file) = file(libc::O_DIRECT);
        let mut writes = Writes::new(2).unwrap();
        writes.attach(Arc::clone(&file), 0, 4096);
        writes.room().fill(7);
        // This length is not a multiple of anything.
        writes.push(1001, 0);
        for _ in 0..2 {
            assert_eq!(writes.wait(0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
            assert_eq!(writes.settled(), 0);
        }
        writes.settle();
        assert_eq!(writes.oldest(), Some((0, &[7; 1001][..])));
        writes.push(4096, 4096);
        assert!(writes.room().is_empty());
        writes.settle();
        writes.oldest_is_written();
        writes.wait(0).unwrap();
        assert_eq!(writes.settled(), 8192);
        writes.detach();
        writes.push(4096, 8192);
        assert_eq!(writes.wait(0).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(file.metadata().unwrap().len(), 8192);
    }
}
