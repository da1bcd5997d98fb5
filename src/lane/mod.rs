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
//! record waits no longer than the linger.

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
mod tests {
    use super::chunk::{CHUNK_BYTES, CHUNK_RUNS, Loss};
    use super::*;
    use crate::record::pcap;

    fn one(chunks: usize, snaplen: usize) -> (Lane, Inbox, Arc<OutputCounters>) {
        let counters = Arc::new(OutputCounters::default());
        let plan = LanePlan { chunks, linger: Duration::from_millis(500), snaplen, ..LanePlan::default() };
        let (mut lanes, inbox) = lanes(plan, vec![Arc::clone(&counters)]);
        (lanes.remove(0), inbox, counters)
    }

    fn at(ns: u64) -> Timestamp {
        Timestamp::from_ns(ns)
    }

    #[test]
    fn a_full_lane_drops_and_counts_and_recovers() {
        let (mut lane, inbox, counters) = one(2, 9000);
        let frame = [7; 1000];
        for i in 0..1000 {
            lane.offer(SessionId::OVERFLOW, at(i), &frame, 1000);
        }
        let lost = counters.dropped(OutputDrop::LaneFull).get();
        let per_chunk = (CHUNK_BYTES / (1000 + pcap::RECORD_HEADER_LEN)) as u64;
        assert_eq!(lost, 1000 - 2 * per_chunk);
        let chunk = inbox.full.try_recv().unwrap();
        assert_eq!(u64::from(chunk.frames()), per_chunk);
        drop(inbox.lend(chunk));
        lane.offer(SessionId::OVERFLOW, at(1), &frame, 1000);
        assert_eq!(counters.dropped(OutputDrop::LaneFull).get(), lost);
        drop(lane);
        let rest: Vec<Chunk> = inbox.full.iter().collect();
        assert_eq!(rest.iter().map(|c| u64::from(c.frames())).sum::<u64>(), per_chunk + 1);
        assert_eq!(counters.offered.get(), 1001);
        // The loss is told where it happened: in front of the frame that had room again.
        let lost = Loss { session: SessionId::OVERFLOW, frames: lost };
        assert_eq!(rest.iter().map(|c| c.losses().to_vec()).collect::<Vec<_>>(), [vec![], vec![lost]]);
    }

    #[test]
    fn a_chunk_is_made_when_it_is_needed() {
        let (mut lane, inbox, _) = one(1000, 9000);
        let made = |lane: &Lane| 1000 - lane.unmade;
        assert_eq!(made(&lane), 0);
        let fill = |lane: &mut Lane| {
            while inbox.full.is_empty() {
                lane.offer(SessionId::OVERFLOW, at(1), &[7; 1000], 1000);
            }
            inbox.full.try_recv().unwrap()
        };
        // A sink that keeps up returns each chunk before the next but one is full.
        for _ in 0..20 {
            let chunk = fill(&mut lane);
            drop(inbox.lend(chunk));
        }
        assert_eq!(made(&lane), 2);
        let held: Vec<_> = (0..5).map(|_| inbox.lend(fill(&mut lane))).collect();
        assert_eq!(made(&lane), 6, "{} with the sink, one being filled", held.len());
    }

    #[test]
    fn how_far_the_sink_is_behind_is_that_of_the_fullest_lane() {
        let counters = vec![Arc::default(), Arc::default()];
        let (mut lanes, inbox) = lanes(LanePlan::default(), counters);
        assert_eq!(inbox.behind(), 0);
        let mut fill = |n: usize, chunks: usize| {
            let before = inbox.full.len();
            while inbox.full.len() < before + chunks {
                lanes[n].offer(SessionId::OVERFLOW, at(1), &[7; 1000], 1000);
            }
        };
        fill(0, 1);
        fill(1, 3);
        assert_eq!(inbox.behind(), 750, "three of four of the second");
        let held: Vec<_> = inbox.full.try_iter().take(3).map(|chunk| inbox.lend(chunk)).collect();
        assert_eq!(inbox.behind(), 250, "what the sink has does not wait");
        drop(held);
        drop(lanes);
        inbox.full.try_iter().for_each(|chunk| drop(inbox.lend(chunk)));
        assert_eq!(inbox.behind(), 0);
    }

    #[test]
    fn sessions_are_forgotten_when_all_lanes_have_said_so() {
        let (mut lanes, mut inbox) = lanes(LanePlan::default(), vec![Arc::default(), Arc::default()]);
        for _ in 0..2 {
            let forget = Arc::new(Forget { sessions: [SessionId::OVERFLOW].into() });
            let mut hear = |lane: usize| {
                lanes[lane].forget(Arc::clone(&forget));
                let chunk = inbox.full.try_recv().unwrap();
                let chunk = inbox.lend(chunk);
                inbox.forgotten(&chunk)
            };
            assert!(hear(1).is_none());
            assert!(hear(0).is_some_and(|heard| Arc::ptr_eq(&heard, &forget)));
            assert_eq!(Arc::strong_count(&forget), 1, "nobody has it any more");
        }
    }

    #[test]
    fn losses_at_the_end_are_told_too() {
        let (mut lane, inbox, counters) = one(1, 9000);
        for i in 0..1000 {
            lane.offer(SessionId::OVERFLOW, at(i), &[7; 1000], 1000);
        }
        drop(lane);
        let told: u64 = inbox.full.iter().flat_map(|c| c.losses().to_vec()).map(|loss| loss.frames).sum();
        assert!(told > 0);
        assert_eq!(told, counters.dropped(OutputDrop::LaneFull).get());
    }

    #[test]
    fn losses_are_counted_beyond_32_bits() {
        let (mut lane, inbox, _) = one(0, 9000);
        lane.offer(SessionId::OVERFLOW, at(0), &[7; 60], 60);
        // The count is as if it had gone on for a day.
        lane.losses.frames[0] = u64::from(u32::MAX);
        lane.offer(SessionId::OVERFLOW, at(1), &[7; 60], 60);
        drop(lane);
        let told: Vec<u64> = inbox.full.iter().flat_map(|c| c.losses().to_vec()).map(|loss| loss.frames).collect();
        assert_eq!(told, [1 << 32]);
    }

    #[test]
    fn a_record_waits_no_longer_than_the_linger() {
        let (mut lane, inbox, _) = one(2, 9000);
        let start = Instant::now();
        assert_eq!(lane.tend(start), None);
        lane.offer(SessionId::OVERFLOW, at(1), &[1; 60], 60);
        let due = lane.tend(start).unwrap();
        assert_eq!(due, start + Duration::from_millis(500));
        assert_eq!(lane.tend(start + Duration::from_millis(499)), Some(due));
        assert!(inbox.full.is_empty());
        assert_eq!(lane.tend(due), None);
        assert_eq!(inbox.full.try_recv().unwrap().frames(), 1);
        assert_eq!(lane.tend(due + Duration::from_secs(9)), None);
    }

    #[test]
    fn the_snap_length_cuts_and_keeps_the_original_length() {
        let (mut lane, inbox, counters) = one(2, 100);
        lane.offer(SessionId::OVERFLOW, at(1), &[1; 100], 100);
        lane.offer(SessionId::OVERFLOW, at(2), &[2; 101], 101);
        drop(lane);
        let chunk = inbox.full.try_recv().unwrap();
        let (run, bytes) = chunk.runs().next().unwrap();
        assert_eq!((run.frames, run.latest), (2, at(2)));
        let lengths: Vec<_> = pcap::records(bytes).map(|r| (r.frame.len(), r.orig_len)).collect();
        assert_eq!(lengths, [(100, 100), (100, 101)]);
        assert_eq!(counters.snapped.get(), 1);
    }

    #[test]
    fn an_output_that_is_gone_costs_only_its_frames() {
        let (mut lane, inbox, counters) = one(1, 9000);
        drop(inbox);
        for i in 0..1000 {
            lane.offer(SessionId::OVERFLOW, at(i), &[0; 1000], 1000);
        }
        drop(lane);
        let lost = counters.dropped(OutputDrop::OutputGone).get() + counters.dropped(OutputDrop::LaneFull).get();
        assert_eq!(lost, 1000);
        assert_eq!(counters.lost.forget(SessionId::OVERFLOW.seat()), 1000, "by session too");
    }

    /// Makes a lane of two chunks that waits.
    fn waiting() -> (Lane, Inbox, Arc<OutputCounters>) {
        let counters = Arc::new(OutputCounters::default());
        let plan = LanePlan { chunks: 2, when_full: WhenFull::Wait, ..LanePlan::default() };
        let (mut lanes, inbox) = lanes(plan, vec![Arc::clone(&counters)]);
        (lanes.remove(0), inbox, counters)
    }

    #[test]
    fn a_waiting_lane_loses_nothing_to_a_slow_sink() {
        let (mut lane, inbox, counters) = waiting();
        let sink = std::thread::spawn(move || {
            let mut frames = 0;
            while let Ok(chunk) = inbox.full.recv() {
                frames += u64::from(chunk.frames());
                let lent = inbox.lend(chunk);
                std::thread::sleep(Duration::from_millis(20));
                drop(lent);
            }
            frames
        });
        for i in 0..2_000 {
            lane.offer(SessionId::OVERFLOW, at(i), &[7; 1000], 1000);
        }
        drop(lane);
        assert_eq!(sink.join().unwrap(), 2_000);
        assert!(OutputDrop::ALL.iter().all(|reason| counters.dropped(*reason).get() == 0));
    }

    #[test]
    fn a_waiting_lane_goes_on_when_the_sink_dies() {
        let (mut lane, inbox, counters) = waiting();
        // The sink holds a chunk, another waits for it, and then it is gone, which a worker that
        // waits has to notice.
        let sink = std::thread::spawn(move || {
            let held = inbox.lend(inbox.full.recv().unwrap());
            while inbox.full.is_empty() {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_millis(20));
            drop(inbox);
            drop(held);
        });
        for i in 0..2_000 {
            lane.offer(SessionId::OVERFLOW, at(i), &[7; 1000], 1000);
        }
        drop(lane);
        sink.join().unwrap();
        let per_chunk = (CHUNK_BYTES / (1000 + pcap::RECORD_HEADER_LEN)) as u64;
        // The frames of the two chunks that were handed over while it lived are the sink's to
        // account for.
        assert_eq!(counters.dropped(OutputDrop::OutputGone).get(), 2_000 - 2 * per_chunk);
        assert_eq!(counters.dropped(OutputDrop::LaneFull).get(), 0);
    }

    #[test]
    fn many_sessions_fill_the_index_first() {
        let registry = Arc::new(crate::route::Registry::new(2));
        let mut table = crate::route::SessionTable::new(registry);
        let ids: Vec<SessionId> = (0..2)
            .map(|vni| {
                let vni = crate::wire::Vni::new(vni).unwrap();
                let key = crate::session::Session::vxlan(std::net::Ipv6Addr::LOCALHOST, vni);
                table.find_and_count(key, 1, at(0))
            })
            .collect();
        let mut chunk = Chunk::new(0);
        let mut n = 0;
        while chunk.fits(14) {
            chunk.push(ids[n % 2], at(n as u64), &[0; 14], 14);
            n += 1;
        }
        assert_eq!(n, CHUNK_RUNS);
        assert_eq!(chunk.runs().count(), CHUNK_RUNS);
    }
}
