//! A feed is the place where frames wait for who watches.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::Sender;
use parking_lot::{Condvar, Mutex};

use crate::lane::Lent;
use crate::ledger::{Output, OutputCounters};
use crate::record::pcap;
use crate::wire::Encapsulation;

/// The reason why a watch is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// As many frames came as were asked for.
    Count,
    /// It has lasted as long as was asked for.
    Time,
    /// Who watches said so.
    Asked,
    /// Who watches is gone.
    Gone,
    /// The sensor ends.
    Sensor,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "all frames that were asked for have come",
            Self::Time => "the time is over",
            Self::Asked => "ended as asked",
            Self::Gone => "nobody takes the frames any more",
            Self::Sensor => "the sensor has ended",
        })
    }
}

/// What has become of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Frames that who watches took.
    pub frames: u64,
    /// Frames that came too fast for who watches.
    pub dropped: u64,
    /// Frames of all sessions that were redirected in front of the sensor, which has no copy of
    /// them.
    pub redirected: u64,
    /// Why it is over; nothing where it is not.
    pub over: Option<Over>,
}

/// The queue between the sink of a watch and who watches. Neither waits for the other.
pub struct Feed {
    /// What is written, and what is not after all. Whoever counts holds the lock.
    counters: Arc<OutputCounters>,
    state: Mutex<State>,
    taken: Condvar,
    /// Hears when it is over.
    bell: Sender<()>,
}

struct State {
    /// The bytes in front of the first record, until they are taken.
    opening: Option<Bytes>,
    queue: VecDeque<Arc<Lent>>,
    /// Frames that are still wanted.
    wanted: u64,
    frames: u64,
    over: Option<Over>,
    /// True where who watches knows that it is over.
    told: bool,
    /// Has who watches look again.
    waker: Option<Waker>,
    lanes: Vec<Arc<OutputCounters>>,
    /// The counters of frames that were redirected in front of the lanes.
    redirected: Vec<Arc<OutputCounters>>,
}

impl State {
    /// Says whether who watches has all of it.
    fn is_done(&self) -> bool {
        self.queue.is_empty() && self.told
    }
}

/// Records of a chunk, whose memory the lane has again when they are sent.
struct Piece {
    chunk: Arc<Lent>,
    bytes: Range<usize>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.chunk.records().get(self.bytes.clone()).unwrap_or_default()
    }
}

impl Feed {
    /// Makes the feed of a watch of frames cut to `snaplen` bytes, which ends after so many frames
    /// if there is a `limit`. `bell` hears when it is over.
    #[must_use]
    pub fn new(snaplen: u32, limit: Option<u64>, bell: Sender<()>) -> Self {
        let opening = pcap::file_header(Encapsulation::default().link_type(), snaplen);
        let state = State {
            opening: Some(Bytes::copy_from_slice(&opening)),
            queue: VecDeque::new(),
            wanted: limit.unwrap_or(u64::MAX),
            frames: 0,
            over: None,
            told: false,
            waker: None,
            lanes: Vec::new(),
            redirected: Vec::new(),
        };
        Self { counters: Arc::default(), state: Mutex::new(state), taken: Condvar::new(), bell }
    }

    /// Takes its place in the ledger, behind the lanes.
    pub(super) fn begin(&self, output: &mut Output) {
        self.state.lock().lanes.clone_from(&output.ends);
        output.ends.push(Arc::clone(&self.counters));
    }

    /// Returns counters in this output for frames that are redirected in front of one of its lanes.
    pub(crate) fn passed_by(&self, output: &mut Output) -> Arc<OutputCounters> {
        let counters = output.end();
        self.state.lock().redirected.push(Arc::clone(&counters));
        counters
    }

    /// Puts a chunk there. After the end of the watch nobody wants it.
    pub(super) fn put(&self, chunk: &Arc<Lent>) {
        let mut state = self.state.lock();
        if chunk.is_empty() {
            return;
        }
        if state.over.is_some() {
            return self.skip(u64::from(chunk.frames()));
        }
        state.queue.push_back(Arc::clone(chunk));
        wake(&mut state);
    }

    /// Counts frames that nobody wanted after all.
    fn skip(&self, frames: u64) {
        self.counters.unwatched.add(frames);
    }

    /// Ends the watch, unless it has ended. What is there can still be taken, if somebody is there
    /// who does.
    pub fn end(&self, why: Over) {
        let mut state = self.state.lock();
        if why == Over::Gone {
            self.discard(&mut state);
            state.told = true;
        }
        state.over.get_or_insert(why);
        wake(&mut state);
        drop(state);
        self.taken.notify_all();
        // One that is not heard yet does for both.
        let _ = self.bell.try_send(());
    }

    /// Says whether the watch has ended.
    pub fn is_over(&self) -> bool {
        self.state.lock().over.is_some()
    }

    /// Says what has become of the watch so far.
    pub fn outcome(&self) -> Outcome {
        let state = self.state.lock();
        let unwatched = |ends: &[Arc<OutputCounters>]| ends.iter().map(|end| end.unwatched.get()).sum();
        let (dropped, redirected) = (unwatched(&state.lanes), unwatched(&state.redirected));
        Outcome { frames: state.frames, dropped, redirected, over: state.over }
    }

    /// Ends the watch with its output, whose frames are all here. Waits up to `patience` for who
    /// watches to take them, and to learn that it is over. What is not taken by then is dropped.
    pub(super) fn finish(&self, patience: Duration) {
        self.end(Over::Sensor);
        let until = Instant::now() + patience;
        let mut state = self.state.lock();
        while !state.is_done() && !self.taken.wait_until(&mut state, until).timed_out() {}
        self.discard(&mut state);
    }

    fn discard(&self, state: &mut State) {
        state.queue.drain(..).for_each(|chunk| self.skip(u64::from(chunk.frames())));
    }

    /// Takes what comes next: bytes of a capture file, and nothing more at the end.
    pub fn poll_take(&self, context: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.state.lock();
        if let Some(opening) = state.opening.take() {
            return Poll::Ready(Some(opening));
        }
        let Some(chunk) = state.queue.pop_front() else {
            if state.over.is_some() {
                state.told = true;
                self.taken.notify_all();
                return Poll::Ready(None);
            }
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        let all = u64::from(chunk.frames());
        let taken = all.min(state.wanted);
        let bytes = 0..if taken == all { chunk.records().len() } else { length(&chunk, taken) };
        let headers = taken * pcap::RECORD_HEADER_LEN as u64;
        self.counters.written_bytes.add((bytes.end as u64).saturating_sub(headers));
        self.counters.written.add(taken);
        self.skip(all - taken);
        state.wanted -= taken;
        state.frames += taken;
        let has_all = state.wanted == 0;
        if has_all {
            self.discard(&mut state);
        }
        drop(state);
        self.taken.notify_all();
        if has_all {
            self.end(Over::Count);
        }
        Poll::Ready(Some(Bytes::from_owner(Piece { chunk, bytes })))
    }
}

/// Returns the length of the first `frames` records of a chunk, in bytes.
fn length(chunk: &Lent, frames: u64) -> usize {
    let many = usize::try_from(frames).unwrap_or(usize::MAX);
    pcap::records(chunk.records()).take(many).map(|record| record.len()).sum()
}

fn wake(state: &mut State) {
    if let Some(waker) = state.waker.take() {
        waker.wake();
    }
}

/// Two feeds are the same where they are one.
impl PartialEq for Feed {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Feed {}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("outcome", &self.outcome()).finish_non_exhaustive()
    }
}

/// The side of who watches. When it is dropped, who watches is gone.
#[derive(Debug)]
pub struct Watching(pub Arc<Feed>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.end(Over::Gone);
    }
}
