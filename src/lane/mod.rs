//! A lane is a worker's path into one output.
//!
//! A lane copies each frame once, as a record into its current [`Chunk`], and hands whole chunks to
//! the output's thread by pointer. Empty chunks come back by a second queue. A lane owns a fixed
//! number of chunks, which bounds its memory. When all are with the sink, frames are dropped for
//! this output alone and counted. The next chunk tells the sink which sessions lost how many, at
//! the place in the order of frames where it happened. Nothing here waits, unless the plan says so:
//! see [`WhenFull`].
//!
//! A chunk is made when it is needed for the first time, and the one that was used last is used
//! next. So an output that keeps up uses the memory of a few chunks, however many its lane may
//! have.
//!
//! ## When a chunk is handed over
//!
//! A chunk is handed over when it is full, or when its first record is older than the lane's
//! *linger*. Under load chunks fill before that, so they grow by themselves; when it is quiet a
//! record waits no longer than the linger. While half of the chunks wait for the sink, only full
//! ones follow: others would come to it no sooner, and take as much of the queue. A lane that waits
//! for room loses nothing by that, and hands over all the same: nobody may tend it again.

mod chunk;
mod inbox;
mod losses;
mod waiting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

pub use chunk::Chunk;
pub(crate) use chunk::{CHUNK_MEMORY, Forget, Run};
pub use inbox::{Inbox, Lent};

use self::losses::Losses;
pub(crate) use self::waiting::Queue;
use self::waiting::Waiting;
use crate::ledger::{Filtered, OutputCounters, OutputDrop, WorkerCounters};
use crate::record::Timestamp;
use crate::route::SessionId;
use crate::wire::Direction;

/// The plan of the lanes of one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LanePlan {
    /// Chunks of a lane.
    pub chunks: usize,
    /// The time that a record waits for more before its chunk is handed over.
    pub linger: Duration,
    /// Bytes of a frame that are kept at most.
    pub snaplen: usize,
    /// Sessions told apart at most.
    pub sessions: u32,
    /// Says what becomes of a frame when all chunks are with the sink.
    pub when_full: WhenFull,
}

/// A small lane that keeps frames whole.
impl Default for LanePlan {
    fn default() -> Self {
        Self { chunks: 4, linger: Duration::from_secs(1), snaplen: 262_144, sessions: 1024, when_full: WhenFull::Drop }
    }
}

/// Says what becomes of a frame when all chunks are with the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The frame is dropped and counted: the network does not wait.
    Drop,
    /// The frame is skipped and counted as not watched: nobody relies on it.
    Skip,
    /// The frame waits until the sink returns a chunk, and so does the worker. This is for a source
    /// that nobody sends to meanwhile. On the way to the sink, frames are lost only where it is
    /// gone. The sink itself does not wait: it drops and counts what a full disk does not take.
    Wait,
}

/// A worker's path into one output.
#[derive(Debug)]
pub struct Lane {
    plan: LanePlan,
    counters: Arc<OutputCounters>,
    full: Sender<Chunk>,
    returned: Receiver<Chunk>,
    /// Empty chunks, the one used last on top: its memory is the likeliest to be in the cache.
    empty: Vec<Chunk>,
    /// Chunks that were not needed yet.
    unmade: usize,
    waiting: Arc<Waiting>,
    current: Option<Chunk>,
    /// The time at which the first record of the current chunk came.
    since: Option<Instant>,
    number: u16,
    losses: Losses,
    /// Frames that are lost and never came here, and that are nobody's as yet.
    untold: u64,
    /// The name of the output.
    output: Arc<str>,
}

/// Makes the lanes of one output, one for each set of counters, and the inbox that they lead to.
#[must_use]
pub fn lanes(plan: LanePlan, counters: Vec<Arc<OutputCounters>>) -> (Vec<Lane>, Inbox) {
    // There is room for every chunk, and for what each lane has to tell of forgotten sessions and
    // at its end, so that a send never finds the queue full.
    let (full_sender, full) = bounded((plan.chunks + 2) * counters.len());
    let waiting: Vec<_> = counters.iter().map(|_| Arc::new(Waiting::new(plan.chunks))).collect();
    let (lanes, returns) = (0..)
        .zip(counters)
        .zip(&waiting)
        .map(|((number, counters), waiting)| {
            let (return_sender, returned) = bounded(plan.chunks);
            let lane = Lane {
                plan,
                counters,
                full: full_sender.clone(),
                returned,
                empty: Vec::with_capacity(plan.chunks),
                unmade: plan.chunks,
                waiting: Arc::clone(waiting),
                current: None,
                since: None,
                number,
                losses: Losses::new(plan.sessions),
                untold: 0,
                output: "".into(),
            };
            (lane, return_sender)
        })
        .unzip();
    (lanes, Inbox::new(full, returns, Queue::new(waiting)))
}

impl Lane {
    /// Notes the name of the output.
    #[must_use]
    pub(crate) fn into_output(mut self, name: &Arc<str>) -> Self {
        self.output = Arc::clone(name);
        self
    }

    /// Returns the name of the output.
    #[must_use]
    pub(crate) fn output(&self) -> &str {
        &self.output
    }

    /// Keeps as much of a frame, and waits as long for more, as another plan says from now on.
    pub(crate) fn replan(&mut self, plan: &LanePlan) {
        (self.plan.snaplen, self.plan.linger) = (plan.snaplen, plan.linger);
    }

    /// Notes that this worker has the lane from now on.
    pub(crate) fn attach(&self, worker: &Arc<WorkerCounters>) {
        self.counters.presence.begin(Arc::<WorkerCounters>::clone(worker));
    }

    /// Notes that its worker offers it no more frames.
    pub(crate) fn detach(&self) {
        self.counters.presence.end();
    }

    /// Offers a frame to the output: it is written, or counted as dropped. This is the way of most
    /// frames, so it is in line where it is called.
    #[inline(always)]
    pub(crate) fn offer(&mut self, session: SessionId, timestamp: Timestamp, frame: &[u8], orig_len: u32) {
        self.put((session, false), timestamp, frame, orig_len, usize::MAX);
    }

    /// Offers a frame of which `most` bytes are kept at most, to an output that may keep fewer.
    /// Beside its session it says whether it is an IP packet behind an Ethernet header that was
    /// made up.
    #[inline(never)]
    pub(crate) fn offer_cut(
        &mut self,
        of: (SessionId, bool),
        time: Timestamp,
        frame: &[u8],
        orig_len: u32,
        most: usize,
    ) {
        self.put(of, time, frame, orig_len, most);
    }

    #[inline(always)]
    fn put(&mut self, of: (SessionId, bool), timestamp: Timestamp, frame: &[u8], orig_len: u32, most: usize) {
        self.counters.offered.add(1);
        let kept = frame.get(..self.plan.snaplen.min(most)).unwrap_or(frame);
        let Some(chunk) = self.room_for(kept.len()) else {
            return self.lose(of.0);
        };
        chunk.push_kind(of, timestamp, kept, orig_len);
        if kept.len() < frame.len() {
            self.counters.snapped.add(1);
        }
    }

    /// Adds options of pcapng to the frame that was offered last, where it has a place.
    pub(crate) fn note(&mut self, options: &[u8]) {
        if let Some(chunk) = self.current.as_mut().filter(|chunk| !chunk.is_empty()) {
            chunk.note(options);
        }
    }

    /// Says which way the frame went that was offered last, where it has a place.
    #[inline]
    pub(crate) fn went(&mut self, direction: Direction) {
        if let Some(chunk) = self.current.as_mut().filter(|chunk| !chunk.is_empty()) {
            chunk.went(direction);
        }
    }

    /// Counts `frames` that the configuration keeps out of the output, for this reason.
    #[inline]
    pub(crate) fn filter(&self, reason: Filtered, frames: u64) {
        self.counters.offered.add(frames);
        self.counters.filtered.add(frames);
        self.counters.filtered_by(reason).add(frames);
    }

    /// Counts a frame for which there is no chunk.
    #[cold]
    fn lose(&mut self, session: SessionId) {
        match self.plan.when_full {
            WhenFull::Drop => self.counters.lose(OutputDrop::LaneFull, session.seat(), 1),
            WhenFull::Wait => self.counters.lose(OutputDrop::OutputGone, session.seat(), 1),
            WhenFull::Skip => self.counters.unwatched.add(1),
        }
        self.losses.add(session, 1);
    }

    /// Counts frames for which there was no room, and that never came here. [`Lane::tell`] says to
    /// which sessions they belong.
    pub(crate) fn no_room(&mut self, frames: u64) {
        self.counters.offered.add(frames);
        self.counters.dropped(OutputDrop::LaneFull).add(frames);
        self.untold += frames;
    }

    /// Tells the sink of which session some of the frames were that [`Lane::no_room`] has counted.
    pub(crate) fn tell(&mut self, session: SessionId, frames: u64) {
        self.losses.add(session, frames);
        self.attribute(session, frames);
    }

    /// Hears that whose the frames were that [`Lane::no_room`] has counted can be told if they are
    /// so many. Else the lane had come later than some, and nobody will know of its own.
    pub(crate) fn expect(&mut self, frames: u64) {
        if self.untold != frames {
            self.attribute(SessionId::OVERFLOW, self.untold);
        }
    }

    /// Counts frames as lost of this session, if they are still nobody's.
    fn attribute(&mut self, session: SessionId, frames: u64) {
        let frames = frames.min(self.untold);
        self.untold -= frames;
        self.counters.lost.add(session.seat(), frames);
    }

    /// Tells the sink that sessions are forgotten, behind all frames that they had.
    pub(crate) fn forget(&mut self, forget: Arc<Forget>) {
        self.hand_over();
        // Nobody listens where the output's thread has ended.
        let _ = self.full.try_send(Chunk::only_forgets(self.number, self.losses.take(), forget));
    }

    /// Returns the current chunk if a frame of `length` fits, else the next.
    #[inline]
    fn room_for(&mut self, length: usize) -> Option<&mut Chunk> {
        if !self.current.as_ref().is_some_and(|chunk| chunk.fits(length)) {
            self.hand_over();
            self.current = self.take_empty();
        }
        self.current.as_mut()
    }

    #[cold]
    fn take_empty(&mut self) -> Option<Chunk> {
        // The chunk that was returned last ends on top.
        self.empty.extend(self.returned.try_iter());
        let mut chunk = self.empty.pop().or_else(|| self.make()).or_else(|| self.wait())?;
        if !self.losses.are_none() {
            chunk.tell(self.losses.take());
        }
        Some(chunk)
    }

    /// Makes a chunk that was not needed until now.
    fn make(&mut self) -> Option<Chunk> {
        self.unmade = self.unmade.checked_sub(1)?;
        Some(Chunk::new(self.number))
    }

    /// Waits for a chunk, if that is the plan. Returns none where there will never be one, because
    /// the sink is gone.
    fn wait(&self) -> Option<Chunk> {
        let waits = self.plan.when_full == WhenFull::Wait && self.plan.chunks > 0;
        // All chunks are with the sink or on the way there, and each of them, as well as the sink's
        // end of the lane, keeps the channel open until it is back or gone.
        waits.then(|| self.returned.recv().ok()).flatten()
    }

    /// Hands over the current chunk, full or not.
    fn hand_over(&mut self) {
        self.since = None;
        let Some(chunk) = self.current.take_if(|chunk| !chunk.is_empty()) else { return };
        // The count comes before the sink can take the chunk.
        self.waiting.handed_over();
        match self.full.try_send(chunk) {
            Ok(()) => {}
            Err(TrySendError::Full(chunk) | TrySendError::Disconnected(chunk)) => {
                self.waiting.taken();
                for (run, _) in chunk.runs() {
                    self.counters.lose(OutputDrop::OutputGone, run.session.seat(), run.frames.into());
                }
                let mut chunk = chunk;
                chunk.clear();
                self.empty.push(chunk);
            }
        }
    }

    /// Hands over a chunk that has lingered. Called between batches. Returns when it wants to be
    /// called again.
    #[inline]
    pub(crate) fn tend(&mut self, now: Instant) -> Option<Instant> {
        if self.current.as_ref().is_none_or(Chunk::is_empty) {
            return None;
        }
        let due = *self.since.get_or_insert(now) + self.plan.linger;
        if due > now {
            return Some(due);
        }
        // Who waits for a chunk may wait without end for the next frame, too.
        if self.waiting.is_half() && self.plan.when_full != WhenFull::Wait {
            return Some(now + self.plan.linger);
        }
        self.hand_over();
        None
    }
}

/// A lane that ends hands over its current chunk, and tells what was lost since.
impl Drop for Lane {
    fn drop(&mut self) {
        self.attribute(SessionId::OVERFLOW, self.untold);
        self.hand_over();
        if !self.losses.are_none() {
            // Nobody listens where the output's thread has ended.
            let _ = self.full.try_send(Chunk::only_losses(self.number, self.losses.take()));
        }
        self.waiting.end();
    }
}

#[cfg(test)]
mod tests;
