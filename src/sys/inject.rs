//! Many frames enter an interface in one system call: `io_uring(7)` over a [`Tun`].
//!
//! The frames enter in the order of the batch. The kernel issues the requests of one submission one
//! after the other. A request that it cannot complete at once it normally hands to a thread of its
//! own, which would let later ones pass. But the descriptor is `O_NONBLOCK`, so such a request
//! fails with `EAGAIN` instead (`REQ_F_NOWAIT`, io_uring/rw.c). The next submission begins when all
//! requests of the one before have completed.
//!
//! A ring needs Linux 6.1 or later, for `IORING_SETUP_DEFER_TASKRUN`: older kernels are not worth a
//! second way of using io_uring. Containers and hardened hosts forbid io_uring altogether. Where
//! [`Ring::new`] fails, [`Tun::inject`] does the same at more cost.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::{opcode, types};

use super::rings::{INTERFACE, Kind, Lent};
use super::tun::Tun;
use super::uring::Uring;

/// A submission has at most so many frames.
pub const BATCH: usize = INTERFACE as usize;

/// A ring that injects into one interface. It must be used by the thread that made it; another
/// finds that every frame fails with `EEXIST`.
#[derive(Debug)]
pub struct Ring(Uring);

impl Ring {
    /// Makes a ring for `tun`, which it keeps open for as long as it lives.
    ///
    /// # Errors
    /// `ENOSYS`, `EPERM`: io_uring is not available, or no ring is left. `EINVAL`: the kernel is
    /// too old. `ENOMEM`: the limit of locked memory is too low.
    pub fn new(tun: &Tun) -> io::Result<Self> {
        let ring = Lent::new(Kind::Interface, INTERFACE)?;
        // A registered file spares each request a reference to it.
        ring.submitter().register_files(&[tun.as_fd().as_raw_fd()])?;
        Ok(Self(Uring::new(ring, BATCH)))
    }

    /// Puts `frames` into the interface. It calls `outcome` once for each, in order, with its place
    /// and what [`Tun::inject`] would return.
    ///
    /// # Errors
    /// The ring is of no more use. The frames that it did not take have had this error as their
    /// outcome too.
    pub fn inject(
        &mut self,
        frames: &[&[u8]],
        mut outcome: impl FnMut(usize, io::Result<usize>),
    ) -> Result<(), io::Error> {
        let mut failure = None;
        for (number, batch) in frames.chunks(BATCH).enumerate() {
            (0..BATCH).for_each(|slot| self.0.forget(slot));
            if let Err(error) = self.submit(batch) {
                failure = Some(error);
            }
            let lost = failure.as_ref().and_then(io::Error::raw_os_error).unwrap_or(libc::EBADF);
            for n in 0..batch.len() {
                let result = self.0.result(n).unwrap_or_else(|| Err(io::Error::from_raw_os_error(lost)));
                outcome(number * BATCH + n, result);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Submits at most [`BATCH`] frames and waits until the kernel has done with them, so that none
    /// is read after the return.
    fn submit(&mut self, batch: &[&[u8]]) -> io::Result<()> {
        if !self.0.usable() {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let mut waiting = 0;
        for (n, frame) in batch.iter().enumerate().take(BATCH) {
            // No frame is that long; a write of nothing fails.
            let length = u32::try_from(frame.len()).unwrap_or(0);
            let entry = opcode::Write::new(types::Fixed(0), frame.as_ptr(), length).build();
            // SAFETY: the entry points to `length` bytes of `frame`, which is borrowed until this
            // function returns. It returns only when the request has completed, or when the kernel
            // has not seen the entry and, the ring being out of use, never will.
            let pushed = unsafe { self.0.push(entry, n) };
            // There is room: nothing is left from the submission before.
            waiting += usize::from(pushed);
        }
        let mut failure = None;
        while waiting > 0 {
            let result = self.0.wait(waiting);
            waiting -= self.0.reap();
            if let Err(error) = result {
                waiting = waiting.saturating_sub(self.0.unseen());
                failure = Some(error);
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel takes a ring apart some time after it is closed. Until then an interface that
        // is to go with its descriptor would stay.
        let _ = self.0.submitter().unregister_files();
    }
}
