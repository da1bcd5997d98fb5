//! An `io_uring(7)` is wrapped here: each request has a slot, where its result is noted.

use std::fmt;
use std::io;
use std::thread;

use io_uring::Submitter;
use io_uring::squeue::Entry;

use super::rings::Lent;

/// A submission is tried again so often for want of memory.
const TRIES: u32 = 100;

/// No `write(2)` returns this.
const UNKNOWN: i32 = i32::MIN;

/// A ring, and the result of each slot.
pub(super) struct Uring {
    ring: Lent,
    /// The result of each slot: bytes taken, or an error number negated.
    results: Vec<i32>,
    usable: bool,
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring").field("usable", &self.usable).finish_non_exhaustive()
    }
}

impl Uring {
    pub(super) fn new(ring: Lent, slots: usize) -> Self {
        Self { ring, results: vec![UNKNOWN; slots], usable: true }
    }

    /// Says whether the kernel still takes requests.
    pub(super) fn usable(&self) -> bool {
        self.usable
    }

    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.ring.submitter()
    }

    /// Puts a request into the queue; slot `slot` will have its result. It returns false where
    /// there is no room, and where the ring is out of use.
    ///
    /// # Safety
    /// The memory that the request points to stays valid until the result is known. If the ring
    /// goes out of use, that is until [`Uring::wait`] has waited for all requests but those that
    /// are [`Uring::unseen`].
    pub(super) unsafe fn push(&mut self, entry: Entry, slot: usize) -> bool {
        if !self.usable {
            return false;
        }
        self.forget(slot);
        let entry = entry.user_data(slot as u64);
        // SAFETY: the caller answers for what the entry points to.
        unsafe { self.ring.submission().push(&entry) }.is_ok()
    }

    /// Hands the queue to the kernel. Where this fails the requests stay in the queue, and
    /// [`Uring::wait`] tries again. Where the ring is out of use, nothing happens: whoever owns the
    /// memory counts on the kernel never seeing what is in the queue.
    pub(super) fn submit(&self) {
        if self.usable {
            let _ = self.ring.submit();
        }
    }

    /// Says how many requests are in the queue. Once the ring is out of use, the kernel never sees
    /// them.
    pub(super) fn unseen(&mut self) -> usize {
        self.ring.submission().len()
    }

    /// Hands the queue to the kernel and waits until `n` requests have completed, or for fewer:
    /// whoever needs more calls it again. Where the ring is out of use, it only waits.
    ///
    /// # Errors
    /// The kernel does not take the requests in the queue, and now never will: the ring is out of
    /// use.
    pub(super) fn wait(&mut self, n: usize) -> io::Result<()> {
        /// `IORING_ENTER_GETEVENTS`
        const GETEVENTS: u32 = 1;
        if !self.usable {
            let want = u32::try_from(n).unwrap_or(u32::MAX);
            // SAFETY: nothing is submitted and no argument is passed; the call only waits. Its
            // failure means that less was waited for.
            let _ = unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, want, GETEVENTS, None) };
            return Ok(());
        }
        let mut tries = 0;
        loop {
            match self.ring.submit_and_wait(n) {
                Ok(_) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => return Ok(()),
                Err(_) if !self.ring.completion().is_empty() => return Ok(()),
                Err(error) if tries == TRIES => {
                    self.usable = false;
                    self.ring.discard();
                    return Err(error);
                }
                Err(_) => {
                    tries += 1;
                    thread::yield_now();
                }
            }
        }
    }

    /// Notes the results that are there, and returns how many these are.
    pub(super) fn reap(&mut self) -> usize {
        let mut n = 0;
        for completion in self.ring.completion() {
            let slot = usize::try_from(completion.user_data()).ok();
            if let Some(result) = slot.and_then(|slot| self.results.get_mut(slot)) {
                *result = completion.result();
            }
            n += 1;
        }
        n
    }

    /// Makes the result of a slot unknown from now on.
    pub(super) fn forget(&mut self, slot: usize) {
        if let Some(result) = self.results.get_mut(slot) {
            *result = UNKNOWN;
        }
    }

    /// Says how many bytes the request of a slot has taken, or its error; none while that is
    /// unknown.
    pub(super) fn result(&self, slot: usize) -> Option<io::Result<usize>> {
        let result = self.results.get(slot).copied().filter(|result| *result != UNKNOWN)?;
        Some(usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(result.saturating_neg())))
    }
}

#[cfg(test)]
mod tests {
    use super::super::rings::Kind;
    use super::*;
    use io_uring::opcode;

    #[test]
    fn a_ring_that_is_out_of_use_takes_nothing() {
        let Ok(ring) = Lent::new(Kind::Files, 4) else { return };
        let mut uring = Uring::new(ring, 2);
        // SAFETY: the request points to nothing.
        assert!(unsafe { uring.push(opcode::Nop::new().build(), 0) });
        uring.usable = false;
        // SAFETY: the request points to nothing.
        assert!(!unsafe { uring.push(opcode::Nop::new().build(), 1) });
        uring.submit();
        assert_eq!((uring.reap(), uring.unseen()), (0, 1), "the kernel does not see what is in the queue");
        uring.usable = true;
        uring.wait(1).unwrap();
        assert_eq!((uring.reap(), uring.unseen()), (1, 0));
        assert_eq!(uring.result(0).unwrap().unwrap(), 0);
    }
}
