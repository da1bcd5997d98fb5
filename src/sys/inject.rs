//! Many frames into an interface in one system call: `io_uring(7)` over a [`Tun`].
//!
//! The frames enter in the order of the batch. The kernel issues the requests of one submission one
//! after the other, and a request that it cannot complete at once it normally hands to a thread of
//! its own, which would let later ones pass; but the descriptor is `O_NONBLOCK`, so such a request
//! fails with `EAGAIN` instead (`REQ_F_NOWAIT`, io_uring/rw.c). The next submission begins when all
//! requests of the one before have completed.
//!
//! Linux 6.1 or later, for `IORING_SETUP_DEFER_TASKRUN`: older kernels are not worth a second way
//! of using it. Containers and hardened hosts forbid io_uring altogether. Where [`Ring::new`]
//! fails, [`Tun::inject`] does the same at more cost.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;

use io_uring::{IoUring, opcode, types};

use super::tun::Tun;

/// Frames of a submission.
pub const BATCH: usize = 64;

/// How often a submission is tried again for want of memory.
const TRIES: u32 = 100;

/// No `write(2)` returns this.
const UNKNOWN: i32 = i32::MIN;

/// A ring that injects into one interface. It must be used by the thread that made it; another
/// finds that every frame fails with `EEXIST`.
pub struct Ring {
    ring: IoUring,
    /// By place in the batch: bytes taken, or an error number negated.
    results: [i32; BATCH],
    usable: bool,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("usable", &self.usable).finish_non_exhaustive()
    }
}

impl Ring {
    /// A ring for `tun`, which it keeps open for as long as it lives.
    ///
    /// # Errors
    /// `ENOSYS`, `EPERM`: io_uring is not available. `EINVAL`: the kernel is too old. `ENOMEM`: the
    /// limit of locked memory is too low.
    pub fn new(tun: &Tun) -> io::Result<Self> {
        let entries = u32::try_from(BATCH).map_err(io::Error::other)?;
        let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(entries)?;
        // A registered file spares each request a reference to it.
        ring.submitter().register_files(&[tun.as_fd().as_raw_fd()])?;
        Ok(Self { ring, results: [UNKNOWN; BATCH], usable: true })
    }

    /// The interface receives `frames`. Calls `outcome` once for each, in order, with its place and
    /// what [`Tun::inject`] would return.
    ///
    /// # Errors
    /// When the ring is of no more use. The frames that it did not take have had this error as
    /// their outcome too.
    pub fn inject(
        &mut self,
        frames: &[&[u8]],
        mut outcome: impl FnMut(usize, io::Result<usize>),
    ) -> Result<(), io::Error> {
        let mut failure = None;
        for (number, batch) in frames.chunks(BATCH).enumerate() {
            self.results = [UNKNOWN; BATCH];
            if let Err(error) = self.submit(batch) {
                failure = Some(error);
            }
            let lost = failure.as_ref().and_then(io::Error::raw_os_error).unwrap_or(libc::EBADF);
            for (n, result) in self.results.iter().take(batch.len()).enumerate() {
                let result = match usize::try_from(*result) {
                    Ok(length) => Ok(length),
                    Err(_) if *result == UNKNOWN => Err(io::Error::from_raw_os_error(lost)),
                    Err(_) => Err(io::Error::from_raw_os_error(result.saturating_neg())),
                };
                outcome(number * BATCH + n, result);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Submits at most [`BATCH`] frames and waits until the kernel has done with them, so that none
    /// is read after the return.
    fn submit(&mut self, batch: &[&[u8]]) -> io::Result<()> {
        if !self.usable {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let mut waiting = 0;
        {
            let mut queue = self.ring.submission();
            for (n, frame) in batch.iter().enumerate().take(BATCH) {
                // No frame is that long; a write of nothing fails.
                let length = u32::try_from(frame.len()).unwrap_or(0);
                let entry = opcode::Write::new(types::Fixed(0), frame.as_ptr(), length).build().user_data(n as u64);
                // SAFETY: the entry points to `length` bytes of `frame`, which is borrowed until
                // this function returns. It returns only when the request has completed, or when
                // the kernel has not seen the entry and, the ring being out of use, never will.
                let pushed = unsafe { queue.push(&entry) };
                // There is room: nothing is left from the submission before.
                if pushed.is_ok() {
                    waiting += 1;
                }
            }
        }
        let mut tries = 0;
        while waiting > 0 {
            let submitted = self.ring.submit_and_wait(waiting);
            waiting -= self.reap();
            match submitted {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) if tries == TRIES => {
                    self.usable = false;
                    let unseen = self.ring.submission().len();
                    self.wait_for(waiting.saturating_sub(unseen));
                    return Err(error);
                }
                Err(_) => {
                    tries += 1;
                    thread::yield_now();
                }
            }
        }
        Ok(())
    }

    /// Notes the results that are there. Returns how many.
    fn reap(&mut self) -> usize {
        let mut n = 0;
        for completion in self.ring.completion() {
            let place = usize::try_from(completion.user_data()).ok();
            if let Some(result) = place.and_then(|place| self.results.get_mut(place)) {
                *result = completion.result();
            }
            n += 1;
        }
        n
    }

    /// Waits for `n` requests that the kernel has seen, without submitting more. Ends at once where
    /// they completed during the submission, as requests on a non-blocking descriptor do.
    fn wait_for(&mut self, mut n: usize) {
        /// `IORING_ENTER_GETEVENTS`
        const GETEVENTS: u32 = 1;
        while n > 0 {
            let want = u32::try_from(n).unwrap_or(u32::MAX);
            // SAFETY: nothing is submitted and no argument is passed; the call only waits. Its
            // failure means that less was waited for, which the loop notices.
            let _ = unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, want, GETEVENTS, None) };
            n = n.saturating_sub(self.reap());
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel takes a ring apart some time after it is closed. Until then an interface that
        // is to go with its descriptor would stay.
        let _ = self.ring.submitter().unregister_files();
    }
}
