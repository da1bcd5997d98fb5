//! Files are written past the page cache here, where that is worth its memory.
//!
//! Through the page cache, the writing thread copies every byte into a page that has to be found
//! first. The kernel writes the page to the disk, and stops the writer when it falls behind. Past
//! the page cache, the bytes are copied into one of a few large buffers and go to the disk from
//! there ([`Writes`]). That takes a fifth of the time in the writing thread, brings a third more
//! bytes a second in the long run, and leaves the page cache as it was (`examples/write.rs`). The
//! page cache is better at one thing: it holds a burst of gigabytes that the disk cannot take at
//! once. So the way is chosen by how full the queue is of what is to be written (`burst.rs`). That
//! a write waits for the disk says little by itself: whoever writes faster than the disk waits for
//! it, and nothing is lost by that.
//!
//! # The end of the file
//!
//! A direct write is a multiple of a block, and a file of records is not. The last bytes could be
//! written as a padded block that `ftruncate(2)` cuts afterwards. That shows readers the padding
//! meanwhile, and leaves it to them after a crash. So `flush` waits for the direct writes and then
//! writes the tail, which is less than a block, through the page cache. It uses the same open file,
//! with `O_DIRECT` taken off for the moment (`F_SETFL`, fcntl(2)). When more comes, its first bytes
//! complete that block in the same way, and direct writes go on at the next block.
//!
//! open(2) advises against mixing both kinds of access "especially to overlapping byte regions in
//! the same file". Regions do not overlap here, nor do pages, as a block is at least as large as a
//! page. If the tail's block were written again directly, as is usual, a reader could find a page
//! of before in the cache when the file's length is already that of after, and take the zeros at
//! the end of that page for data: the kernel grows the file before it drops the page
//! (`iomap_dio_complete`, fs/iomap/direct-io.c). Nor do the two kinds run at the same time: tails
//! are written when nothing is in flight. Direct writes are made one after the other from the end
//! of the file ([`Writes`]). So a reader finds at any time a prefix of what was written, and never
//! padding or a hole. A reader that is itself direct makes the kernel write the page first.

mod burst;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{AtFlags, FallocateFlags, OFlags, StatxFlags, fallocate, fcntl_getfl, fcntl_setfl, statx};

use self::burst::Burst;
use super::files::StoredFile;
use super::mode::Direct;
use super::status::{Identity, status};
use crate::sys::direct::{BUFFER, Writes};
use crate::sys::written;

/// So many files are written directly at the same time: no disk is faster for more, and each has
/// [`BUFFERS`] buffers.
pub(crate) const FILES: usize = 4;

/// A file that is written directly has so many buffers of 1 MiB each. With two the disk waits where
/// the writer is late; more than four gain nothing.
pub(super) const BUFFERS: usize = 4;

/// So many bytes within a second make a file worth buffers: 45,000 frames of 1514 bytes, of which
/// each then costs the writing thread 300 ns less.
const FAST: u64 = 64 << 20;

/// A file gives its buffers back where a second brings fewer bytes than this.
const SLOW: u64 = FAST / 4;

/// Waiting for the disk for so long, within a second, shows that the queue is full for that, and
/// not for want of a processor, of which the page cache takes more.
const LATE: Duration = Duration::from_millis(50);

const SECOND: Duration = Duration::from_secs(1);

/// A page, which is also what `O_DIRECT` is a multiple of where nothing else is known.
const PAGE: usize = 4096;

/// A block is at most this large. It has to be much smaller than a buffer.
const LARGEST_BLOCK: usize = 64 * 1024;

/// The buffers of all files of a storage.
#[derive(Debug)]
pub(super) struct Pool {
    files: usize,
    state: Mutex<PoolState>,
    /// Says whether more comes than the disk takes. It is of all files, as they have one queue.
    burst: Burst,
}

#[derive(Debug, Default)]
struct PoolState {
    idle: Vec<Writes>,
    lent: usize,
    /// The kernel has refused a ring, and is not asked again.
    refused: bool,
}

impl Pool {
    pub(super) fn new(files: usize) -> Self {
        Self { files, state: Mutex::default(), burst: Burst::default() }
    }

    /// Hears that so many thousandths of what the queue holds wait to be written.
    pub(super) fn behind(&self, thousandths: u32) {
        self.burst.hear(thousandths, Instant::now());
    }

    fn take(&self) -> Option<Writes> {
        let mut state = self.state.lock();
        if state.refused || state.lent >= self.files {
            return None;
        }
        let writes = match state.idle.pop().map_or_else(|| Writes::new(BUFFERS), Ok) {
            Ok(writes) => writes,
            Err(error) => {
                tracing::debug!(%error, "io_uring is not to be had: captures are written through the page cache");
                state.refused = true;
                return None;
            }
        };
        state.lent += 1;
        Some(writes)
    }

    /// Buffers in use.
    #[cfg(test)]
    pub(super) fn lent(&self) -> usize {
        self.state.lock().lent
    }

    fn give_back(&self, mut writes: Writes) {
        writes.detach();
        let mut state = self.state.lock();
        state.lent -= 1;
        if writes.usable() {
            state.idle.push(writes);
        }
    }
}

/// A file that is written directly while that is worth it, and through the page cache otherwise.
#[derive(Debug)]
pub(super) struct Adaptive {
    file: Arc<File>,
    pool: Arc<Pool>,
    mode: Direct,
    way: Way,
    /// True once direct writes have turned out not to be for this file.
    refused: bool,
    /// The time when the second that is counted began, and the bytes since.
    since: Instant,
    bytes: u64,
}

#[derive(Debug)]
enum Way {
    /// The file is written through the page cache, and has so many bytes.
    Cached(u64),
    Direct(Box<Uncached>),
}

impl Adaptive {
    /// Takes over `file`, which is open to append and has `length` bytes.
    ///
    /// `O_APPEND` is on while the file is written through the page cache: what somebody cut off
    /// shows in the length then, and is not filled with zeros by the next write. Direct writes have
    /// offsets, which the kernel would ignore with `O_APPEND` on (pwrite(2), BUGS).
    pub(super) fn new(file: File, length: u64, mode: Direct, pool: Arc<Pool>) -> Self {
        let refused = mode == Direct::Off;
        let now = Instant::now();
        Self { file: Arc::new(file), pool, mode, way: Way::Cached(length), refused, since: now, bytes: 0 }
    }

    /// Changes the way if it is time to.
    fn adapt(&mut self) {
        if self.refused {
            return;
        }
        let now = Instant::now();
        let over = now.duration_since(self.since) >= SECOND;
        match &mut self.way {
            Way::Cached(_) => {
                if self.mode == Direct::On || (self.bytes >= FAST && self.pool.burst.is_over(now)) {
                    self.go_direct();
                }
            }
            Way::Direct(direct) => {
                let burst = direct.waited >= LATE && self.pool.burst.is_high();
                if over {
                    direct.waited = Duration::ZERO;
                }
                if self.mode == Direct::Auto && (burst || (over && self.bytes < SLOW)) {
                    if burst {
                        self.pool.burst.begin(now);
                    }
                    // Where this fails, the next write fails too.
                    let _ = self.go_cached();
                }
            }
        }
        if over {
            self.since = now;
            self.bytes = 0;
        }
    }

    fn go_direct(&mut self) {
        let Way::Cached(length) = self.way else { return };
        let Some(block) = block(&self.file) else {
            self.refused = true;
            return;
        };
        let Some(writes) = self.pool.take() else { return };
        let mut direct = Box::new(Uncached {
            file: Arc::clone(&self.file),
            pool: Arc::clone(&self.pool),
            writes: Some(writes),
            block,
            base: 0,
            filled: 0,
            cached: 0,
            waited: Duration::ZERO,
        });
        match direct.start_at(length).and_then(|()| direct.set_direct(true)) {
            Ok(()) => self.way = Way::Direct(direct),
            Err(error) => self.refuse(&error),
        }
    }

    /// Writes all that was taken through the page cache; what comes next will go that way too.
    fn go_cached(&mut self) -> io::Result<()> {
        if let Way::Direct(direct) = &mut self.way {
            direct.write_through_cache()?;
            self.way = Way::Cached(direct.length());
        }
        Ok(())
    }

    fn refuse(&mut self, error: &io::Error) {
        self.refused = true;
        tracing::debug!(%error, "a capture file cannot be written directly: it is written through the page cache");
    }

    /// Returns what a direct file answers. Where the file cannot be written directly after all, it
    /// asks the same of the file through the page cache.
    fn or_cached<T>(
        &mut self,
        mut ask: impl FnMut(&mut Uncached) -> io::Result<T>,
        cached: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        if let Way::Direct(direct) = &mut self.way {
            match ask(direct) {
                Err(error) if direct.unsuitable(&error) => {
                    self.refuse(&error);
                    self.go_cached()?;
                }
                answer => return answer,
            }
        }
        cached(self)
    }

    fn write_cached(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Way::Cached(length) = &mut self.way else { return Ok(0) };
        let n = (&*self.file).write(bytes)?;
        *length += n as u64;
        Ok(n)
    }
}

impl Write for Adaptive {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.adapt();
        let n = self.or_cached(|direct| direct.write(bytes), |file| file.write_cached(bytes))?;
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.or_cached(Uncached::flush, |_| Ok(()))?;
        self.adapt();
        Ok(())
    }
}

impl StoredFile for Adaptive {
    fn identity(&self) -> io::Result<Identity> {
        Ok(status(&*self.file, c"")?.identity)
    }

    fn settled(&self) -> u64 {
        match &self.way {
            Way::Cached(length) => *length,
            Way::Direct(direct) => direct.settled(),
        }
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.or_cached(
            |direct| direct.cut(length),
            |file| {
                file.file.set_len(length)?;
                file.way = Way::Cached(length);
                Ok(())
            },
        )
    }

    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_data()
    }

    fn check(&mut self) -> io::Result<()> {
        written::check(&self.file)
    }

    fn reserve(&mut self, more: u64) -> io::Result<()> {
        let length = match &self.way {
            Way::Cached(length) => *length,
            Way::Direct(direct) => direct.length(),
        };
        Ok(fallocate(&*self.file, FallocateFlags::KEEP_SIZE, length, more)?)
    }
}

/// Returns the block that direct writes to `file` are to be multiples of; none where the file
/// system has none (`STATX_DIOALIGN`, statx(2), Linux 6.1). File systems that do not answer are
/// tried.
fn block(file: &File) -> Option<usize> {
    /// `STATX_DIOALIGN`, include/uapi/linux/stat.h
    const DIOALIGN: StatxFlags = StatxFlags::from_bits_retain(0x2000);
    let Ok(status) = statx(file, c"", AtFlags::EMPTY_PATH, DIOALIGN) else { return Some(PAGE) };
    if status.stx_mask & DIOALIGN.bits() == 0 {
        return Some(PAGE);
    }
    let (memory, offset) = (status.stx_dio_mem_align, status.stx_dio_offset_align);
    if memory == 0 || offset == 0 {
        return None;
    }
    let block = usize::try_from(memory.max(offset)).ok()?.max(PAGE);
    (block.is_power_of_two() && block <= LARGEST_BLOCK).then_some(block)
}

/// A file written directly. Bytes `..base` are in it or pending, and the `filled` bytes from there
/// on are in the room of `writes`.
#[derive(Debug)]
struct Uncached {
    file: Arc<File>,
    pool: Arc<Pool>,
    /// None only once the buffers have gone back to the pool.
    writes: Option<Writes>,
    /// A direct write is a multiple of this, in length and offset.
    block: usize,
    /// A multiple of `block` where something is filled.
    base: u64,
    filled: usize,
    /// The place at which the last write through the page cache ended.
    cached: u64,
    /// Time that was waited for the disk, in the second that is counted.
    waited: Duration,
}

impl Uncached {
    fn writes(&mut self) -> io::Result<&mut Writes> {
        self.writes.as_mut().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    /// Bytes taken, wherever they are.
    fn length(&self) -> u64 {
        self.base + self.filled as u64
    }

    fn settled(&self) -> u64 {
        self.writes.as_ref().map_or(0, Writes::settled).max(self.cached)
    }

    /// Says whether an error means that the file is not to be written directly, rather than that it
    /// cannot be written.
    fn unsuitable(&self, error: &io::Error) -> bool {
        self.writes.as_ref().is_none_or(|writes| !writes.usable())
            || matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
    }

    /// Sets or clears `O_DIRECT`, and clears `O_APPEND` in any case, so that writes go by offsets.
    /// A file system without `O_DIRECT` says `EINVAL`.
    fn set_direct(&self, direct: bool) -> io::Result<()> {
        let mut flags = fcntl_getfl(&*self.file)? - OFlags::APPEND;
        flags.set(OFlags::DIRECT, direct);
        Ok(fcntl_setfl(&*self.file, flags)?)
    }

    /// Makes sure that what has settled is in the file, since a write behind the file's end would
    /// fill what somebody cut off with zeros.
    fn check_uncut(&mut self) -> io::Result<()> {
        match self.file.metadata()?.len() < self.settled() {
            true => Err(io::Error::other("somebody cut the file")),
            false => Ok(()),
        }
    }

    /// Goes on at the end of the file, which has `length` bytes, and forgets what was pending.
    fn start_at(&mut self, length: u64) -> io::Result<()> {
        let (file, block) = (Arc::clone(&self.file), self.block);
        self.writes()?.attach(file, length, block);
        (self.base, self.filled, self.cached) = (length, 0, length);
        Ok(())
    }

    /// Takes the bytes that have room, and waits where none have.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (base, filled, block) = (self.base, self.filled, self.block as u64);
        if !base.is_multiple_of(block) {
            let rest = usize::try_from(block - base % block).map_err(io::Error::other)?;
            return self.write_cached(bytes.get(..rest).unwrap_or(bytes));
        }
        let writes = self.writes()?;
        writes.advance()?;
        if writes.room().is_empty() {
            self.wait(BUFFERS - 1)?;
        }
        let writes = self.writes()?;
        let room = writes.room().get_mut(filled..).unwrap_or_default();
        let n = room.len().min(bytes.len());
        if let (Some(to), Some(from)) = (room.get_mut(..n), bytes.get(..n)) {
            to.copy_from_slice(from);
        }
        self.filled += n;
        if self.filled == BUFFER {
            self.hand_over(BUFFER)?;
        }
        Ok(n)
    }

    /// Waits until at most `pending` buffers are pending.
    fn wait(&mut self, pending: usize) -> io::Result<()> {
        let begin = Instant::now();
        let waited = self.writes()?.wait(pending);
        self.waited += begin.elapsed();
        waited
    }

    /// Makes the first `length` bytes of the room pending.
    fn hand_over(&mut self, length: usize) -> io::Result<()> {
        self.check_uncut()?;
        let base = self.base;
        self.writes()?.push(length, base);
        self.base += length as u64;
        self.filled -= length;
        Ok(())
    }

    /// Writes at `base` through the page cache, where nothing is filled and nothing pending.
    fn write_cached(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check_uncut()?;
        self.set_direct(false)?;
        let written = self.file.write_at(bytes, self.base);
        self.set_direct(true)?;
        let n = written?;
        self.base += n as u64;
        self.cached = self.base;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        let (filled, tail) = (self.filled, self.filled % self.block);
        if filled > tail {
            // There has to be a buffer for the tail to move into.
            self.wait(BUFFERS - 2)?;
            let bytes = self.writes()?.room().get(filled - tail..filled).unwrap_or_default().to_vec();
            self.hand_over(filled - tail)?;
            self.writes()?.room().iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
        }
        self.wait(0)?;
        if tail > 0 {
            self.check_uncut()?;
            self.set_direct(false)?;
            let written = self.write_filled();
            self.set_direct(true)?;
            written?;
        }
        Ok(())
    }

    /// Writes what is filled, in whatever way `O_DIRECT` says. Nothing is pending.
    fn write_filled(&mut self) -> io::Result<()> {
        let (base, filled, file) = (self.base, self.filled, Arc::clone(&self.file));
        file.write_all_at(self.writes()?.room().get(..filled).unwrap_or_default(), base)?;
        self.base = self.length();
        (self.filled, self.cached) = (0, self.base);
        Ok(())
    }

    /// Writes all that is not in the file yet through the page cache, and leaves the file to
    /// `O_APPEND`. It may be called again after a failure.
    fn write_through_cache(&mut self) -> io::Result<()> {
        self.writes()?.settle();
        self.set_direct(false)?;
        let file = Arc::clone(&self.file);
        let writes = self.writes()?;
        while let Some((offset, bytes)) = writes.oldest() {
            file.write_all_at(bytes, offset)?;
            writes.oldest_is_written();
        }
        self.write_filled()?;
        Ok(fcntl_setfl(&*self.file, fcntl_getfl(&*self.file)? | OFlags::APPEND)?)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.writes()?.settle();
        if length > self.settled() {
            self.flush()?;
        }
        // What is pending is given up only where the cut succeeds.
        self.file.set_len(length)?;
        self.start_at(length)
    }
}

impl Drop for Uncached {
    fn drop(&mut self) {
        // Whoever wants to know whether the flush succeeds has flushed.
        if self.flush().is_err_and(|error| self.unsuitable(&error)) {
            let _ = self.write_through_cache();
        }
        if let Some(writes) = self.writes.take() {
            self.pool.give_back(writes);
        }
    }
}

#[cfg(test)]
mod tests;
