//! The receiving thread: one short loop that never waits for anything but datagrams.

use std::fmt::Debug;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::decap::{ReservedBits, decapsulate};
use crate::lane::Lane;
use crate::ledger::{NotRedirected, WorkerCounters};
use crate::route::{Candidate, Selection, SessionId, SessionTable};
use crate::session::Session;
use crate::source::{AllowList, AllowListReader, Counted, Datagram, FastPath, Redirected, Refusing, Source};

/// How long a worker waits at most: how late it may see that it should stop.
const WAIT: Duration = Duration::from_millis(50);
/// Datagrams received in a turn at most: enough for a batch of each of many sockets.
const TURN: usize = 1024;
/// Fewer datagrams than this in a turn are little.
const LITTLE: usize = 64;
/// How long a worker sleeps after little came. Being woken for every datagram costs more than the datagram; a nap lets a batch
/// gather, as interrupt moderation does in a network card. Asking to be woken is for silence only, for who wakes pays as well; the datagram
/// that ends one is still received at once.
const NAP: Duration = Duration::from_micros(500);
/// A nap that is not worth it: the timer is no more precise than this.
const SHORTEST_NAP: Duration = Duration::from_micros(100);
/// How often the kernel's counters are read.
const REFRESH: Duration = Duration::from_millis(200);
/// How long a worker that stops goes on to drain its source, should datagrams keep coming.
const DRAIN: Duration = Duration::from_secs(10);

/// Datagrams that may still be received, by all workers together.
#[derive(Debug)]
pub struct Budget {
    /// Not received yet, and not taken by a worker that is about to.
    free: AtomicU64,
    /// Not received yet.
    open: AtomicU64,
}

impl Budget {
    /// Room for `n` datagrams.
    #[must_use]
    pub fn new(n: u64) -> Self {
        Self { free: AtomicU64::new(n), open: AtomicU64::new(n) }
    }

    /// Takes up to `n` from it, to be settled once it is known how many came.
    fn take(&self, n: usize) -> usize {
        let mut taken = 0;
        let _ = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            taken = left.min(n as u64);
            Some(left - taken)
        });
        usize::try_from(taken).unwrap_or(n)
    }

    /// Gives back what was `taken` but not `used`.
    fn settle(&self, taken: usize, used: usize) {
        self.free.fetch_add(taken.saturating_sub(used) as u64, Ordering::Relaxed);
        self.open.fetch_sub(used as u64, Ordering::Relaxed);
    }

    /// Whether as many datagrams as it had room for have been received. What another worker has taken may still come back.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }
}

/// What a worker does with datagrams.
#[derive(Debug)]
pub struct Step {
    policy: ReservedBits,
    allowed: AllowListReader,
    sessions: SessionTable,
    lanes: Vec<(Selection, Lane)>,
    counters: Arc<WorkerCounters>,
    /// Redirected frames that are lost, as far as that is known.
    redirect_lost: u64,
}

impl Step {
    /// A step from datagrams of the sessions on this list to `lanes`, each with the frames that it takes.
    #[must_use]
    pub fn new(
        policy: ReservedBits,
        allow_list: Arc<AllowList>,
        mut sessions: SessionTable,
        lanes: Vec<(Selection, Lane)>,
        counters: Arc<WorkerCounters>,
    ) -> Self {
        sessions.count_in(Arc::clone(&counters.sessions));
        Self { policy, allowed: allow_list.reader(), sessions, lanes, counters, redirect_lost: 0 }
    }

    /// Decapsulates a datagram, finds its session and offers the frame to every output. Counts it, whatever it is.
    #[inline]
    pub fn datagram(&mut self, datagram: &Datagram<'_>) {
        let counters = &*self.counters;
        counters.received.add(1);
        counters.received_bytes.add(datagram.length as u64);
        let inner = match decapsulate(datagram, self.policy) {
            Ok(inner) => inner,
            Err(reason) => return counters.dropped(reason).add(1),
        };
        counters.decapsulated.add(1);
        if inner.reserved_bits {
            counters.reserved_bits.add(1);
        }
        // Before the session is looked up: one that is not allowed must not use up a number. What was redirected was allowed at the time.
        if !datagram.redirected && !self.allowed.takes(datagram.source, inner.vni) {
            counters.unselected_vnis.add(inner.vni);
            return self.unselected(1);
        }
        if inner.original > inner.arrived {
            counters.cut_by_mirror.add(1);
        }
        let session = Session {
            encapsulation: datagram.encapsulation,
            source: datagram.source,
            scope: inner.scope,
            vni: inner.vni,
        };
        let session = self.sessions.count(session, inner.arrived as usize, datagram.timestamp);
        if session == SessionId::OVERFLOW {
            counters.overflow.frames.add(1);
            counters.overflow.bytes.add(u64::from(inner.arrived));
        }
        let mut candidate = Candidate::new(inner.vni, inner.frame);
        for (selection, lane) in &mut self.lanes {
            if datagram.redirected && lane.redirects() {
                lane.redirected(1);
            } else if selection.takes(&mut candidate) {
                lane.offer(session, datagram.timestamp, inner.frame, inner.original);
            } else {
                lane.filter(1);
            }
        }
    }

    /// Counts decapsulated frames of sessions that are not allowed.
    fn unselected(&self, frames: u64) {
        self.counters.unselected.add(frames);
        for (_, lane) in &self.lanes {
            lane.filter(frames);
        }
    }

    /// Takes over what a program in the kernel counted since `before`: it looked at sessions as we would have.
    fn fast_path(&mut self, before: FastPath, now: FastPath) {
        let counters = Arc::clone(&self.counters);
        let unselected = now.unselected.saturating_sub(before.unselected);
        if unselected > 0 {
            counters.received.add(unselected);
            counters.received_bytes.add(now.unselected_bytes.saturating_sub(before.unselected_bytes));
            counters.decapsulated.add(unselected);
            self.unselected(unselected);
        }
        self.redirected(before.redirect, now.redirect);
        counters.fast_path.taken.raise(now.taken);
        counters.fast_path.read.raise(now.read);
        counters.fast_path.ring_full.raise(now.ring_full);
        counters.fast_path.unselected.raise(now.unselected);
        counters.fast_path.passed.raise(now.passed);
        counters.fast_path.martian.raise(now.martian);
    }

    /// Takes over what a program in the kernel counted of frames that it redirected.
    fn redirected(&mut self, before: Redirected, now: Redirected) {
        let counters = &*self.counters;
        let new = now.since(before);
        if new.uncopied > 0 {
            counters.received.add(new.uncopied);
            counters.received_bytes.add(new.uncopied_bytes);
            counters.decapsulated.add(new.uncopied);
            counters.cut_by_mirror.add(new.uncopied_cut);
            counters.overflow.frames.add(new.overflow);
            counters.overflow.bytes.add(new.overflow_bytes);
        }
        // What was redirected before the last time and has not entered by now is lost; what was redirected since can be on its way.
        self.redirect_lost = self.redirect_lost.max(before.redirected.saturating_sub(now.entered));
        for (_, lane) in &self.lanes {
            lane.redirected(new.uncopied);
            lane.entered(new.entered, new.entered_bytes, self.redirect_lost);
        }
        counters.fast_path.redirected.raise(now.redirected);
        for (reason, n) in [
            (NotRedirected::Odd, now.odd),
            (NotRedirected::Failed, now.failed),
            (NotRedirected::NoInterface, now.no_interface),
        ] {
            counters.not_redirected(reason).raise(n);
        }
    }

    /// Takes over whose the frames were that a program in the kernel redirected without a copy, and what is lost of all that it redirected, which
    /// it does no more.
    fn settle(&mut self, sessions: &[Counted], redirected: Redirected) {
        self.redirect_lost = redirected.redirected.saturating_sub(redirected.entered);
        for (_, lane) in &mut self.lanes {
            lane.entered(0, 0, self.redirect_lost);
            lane.missed(SessionId::OVERFLOW, redirected.overflow);
        }
        for counted in sessions {
            let id = self.sessions.add(counted.session, counted.frames, counted.bytes, [counted.first, counted.last]);
            if id == SessionId::OVERFLOW {
                self.counters.overflow.frames.add(counted.frames);
                self.counters.overflow.bytes.add(counted.bytes);
            }
            self.lanes.iter_mut().for_each(|(_, lane)| lane.missed(id, counted.frames));
        }
    }

    /// Hands over chunks that have lingered, and returns when the next one will have.
    pub fn tend(&mut self, now: Instant) -> Option<Instant> {
        self.lanes.iter_mut().filter_map(|(_, lane)| lane.tend(now)).min()
    }
}

/// What a worker leaves behind.
#[derive(Debug)]
pub struct Ended {
    /// Why its source was of no more use, if that is why it ended.
    pub failure: Option<io::Error>,
    /// Its source, which still holds its place: once it is gone, what would come to it goes to a worker that may not have
    /// ended yet, and that session's file would have a gap.
    pub source: Box<dyn Refusing>,
    /// Datagrams that came after the decision to stop, as far as they are counted.
    pub refused: u64,
}

/// A source and what is done with its datagrams.
#[derive(Debug)]
pub struct Worker<S> {
    source: S,
    step: Step,
    budget: Option<Arc<Budget>>,
    /// It has napped or waited since the last turn that brought much.
    rested: bool,
    /// When the kernel's counters are read again.
    refresh: Instant,
    /// What they were, where a program in the kernel has some.
    fast_path: FastPath,
}

impl<S: Source + Send + Debug + 'static> Worker<S> {
    /// A worker that receives from `source`, within `budget` if there is one.
    #[must_use]
    pub fn new(source: S, step: Step, budget: Option<Arc<Budget>>) -> Self {
        Self { source, step, budget, rested: true, refresh: Instant::now(), fast_path: FastPath::default() }
    }

    /// One turn of the loop: receives what has come. Where that is little, naps so that more comes; where nothing came during a nap, waits for
    /// the next datagram, up to `wait`. Returns how many datagrams.
    ///
    /// # Errors
    /// A failure of the source.
    pub fn turn(&mut self, wait: Duration) -> io::Result<usize> {
        let received = self.receive()?;
        let now = Instant::now();
        let due = self.step.tend(now);
        if now >= self.refresh {
            self.refresh = now + REFRESH;
            self.refresh_counters();
        }
        let rested = mem::replace(&mut self.rested, received < LITTLE);
        let nap = NAP.min(wait).min(self.source.patience());
        if received < LITTLE && nap >= SHORTEST_NAP && (received > 0 || !rested) {
            thread::sleep(nap);
        } else if received == 0 {
            self.source.wait(due.map_or(wait, |due| wait.min(due - now)))?;
        }
        Ok(received)
    }

    fn refresh_counters(&mut self) {
        self.step.counters.kernel_dropped.raise(self.source.kernel_dropped());
        self.step.counters.broadcast_copies.raise(self.source.copies());
        let now = self.source.fast_path();
        self.step.fast_path(self.fast_path, now);
        self.fast_path = now;
    }

    fn receive(&mut self) -> io::Result<usize> {
        let limit = self.budget.as_ref().map_or(TURN, |budget| budget.take(TURN));
        let step = &mut self.step;
        step.allowed.refresh();
        let received = self.source.receive(limit, &mut |datagram| step.datagram(datagram));
        if let Some(budget) = &self.budget {
            budget.settle(limit, received.as_ref().map_or(0, |n| *n));
        }
        received
    }

    /// Receives until `stop`, then drains what had come by then.
    pub fn run(mut self, stop: &AtomicBool) -> Ended {
        let mut failure = self.receive_until(stop).err();
        // What is still there came beyond the budget, or faster than it could be drained.
        let mut left = 0;
        let Self { source, step, .. } = &mut self;
        // The original of a copy is where it should be.
        let mut late = |datagram: &Datagram<'_>| if datagram.redirected { step.datagram(datagram) } else { left += 1 };
        while matches!(source.receive(TURN, &mut late), Ok(1..)) {}
        self.refresh_counters();
        match self.source.uncopied_sessions() {
            Ok(sessions) => self.step.settle(&sessions, self.fast_path.redirect),
            Err(error) => failure = failure.or(Some(error)),
        }
        let refused = Source::refused(&mut self.source);
        self.step.counters.refused_at_stop.raise(refused + left);
        Ended { failure, source: Box::new(self.source), refused }
    }

    fn receive_until(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let result = loop {
            if stop.load(Ordering::Relaxed) || self.budget.as_ref().is_some_and(|budget| budget.is_spent()) {
                break Ok(());
            }
            if let Err(error) = self.turn(WAIT) {
                break Err(error);
            }
        };
        self.source.refuse_further();
        result?;
        let end = Instant::now() + DRAIN;
        while self.receive()? > 0 && Instant::now() < end {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::{LanePlan, lanes};
    use crate::ledger::{Ledger, Output, Snapshot};
    use crate::record::{Timestamp, pcap};
    use crate::route::Registry;
    use crate::source::Allowed;
    use crate::wire::{Vni, vxlan};
    use std::net::{IpAddr, Ipv4Addr};

    /// A source that lends prepared payloads.
    #[derive(Debug)]
    struct Prepared(Vec<Vec<u8>>);

    impl Source for Prepared {
        fn begin(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn receive(&mut self, limit: usize, deliver: &mut impl FnMut(&Datagram<'_>)) -> io::Result<usize> {
            let n = limit.min(self.0.len()).min(64);
            for payload in self.0.drain(..n) {
                let source = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
                deliver(&Datagram {
                    payload: &payload,
                    length: payload.len(),
                    source,
                    timestamp: Timestamp::from_ns(1),
                    ..Datagram::empty()
                });
            }
            Ok(n)
        }
        fn wait(&mut self, _: Duration) -> io::Result<()> {
            Ok(())
        }
        fn patience(&self) -> Duration {
            Duration::ZERO
        }
        fn kernel_dropped(&mut self) -> u64 {
            3
        }
        fn refuse_further(&mut self) {}
        fn refused(&mut self) -> u64 {
            2
        }
    }

    fn payload(vni: u32, frame: usize) -> Vec<u8> {
        [vxlan::header(Vni::new(vni).unwrap()).as_slice(), &vec![0; frame]].concat()
    }

    fn run(payloads: Vec<Vec<u8>>, vnis: &[u32], budget: Option<u64>) -> (Snapshot, u64) {
        let mut ledger = Ledger::default();
        let counters = ledger.worker();
        let mut output = Output { name: "pcap".into(), ends: Vec::new() };
        let plan = LanePlan { chunks: 2, linger: Duration::from_secs(1), snaplen: 9000, sessions: 10, redirect: false };
        let (lanes, inbox) = lanes(plan, vec![output.end()]);
        let sink = output.end();
        ledger.outputs.push(output);
        let registry = Arc::new(Registry::new(2));
        let sessions = SessionTable::new(Arc::clone(&registry));
        let lanes = lanes.into_iter().map(|lane| (Selection::default(), lane)).collect();
        let vnis = (!vnis.is_empty()).then(|| vnis.iter().filter_map(|vni| Vni::new(*vni)).collect());
        let list = Arc::new(AllowList::new(Allowed::new(vnis, None).unwrap()));
        let step = Step::new(ReservedBits::Accept, list, sessions, lanes, counters);
        let worker = Worker::new(Prepared(payloads), step, budget.map(|n| Arc::new(Budget::new(n))));
        let stop = AtomicBool::new(budget.is_none());
        let ended = worker.run(&stop);
        assert!(ended.failure.is_none());
        let mut records = 0;
        while let Ok(chunk) = inbox.full.try_recv() {
            records += chunk.runs().map(|(_, bytes)| pcap::records(bytes).count() as u64).sum::<u64>();
        }
        sink.written.add(records);
        (Snapshot::of(&ledger, Timestamp::from_ns(0), ledger.sessions(registry.sessions())), records)
    }

    /// A source that has so many datagrams in its turns, and counts how often it is waited for.
    #[derive(Debug)]
    struct Steady {
        turns: Vec<usize>,
        patience: Duration,
        waits: usize,
    }

    impl Source for Steady {
        fn begin(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn receive(&mut self, _: usize, deliver: &mut impl FnMut(&Datagram<'_>)) -> io::Result<usize> {
            let n = self.turns.remove(0);
            Prepared((0..n).map(|_| payload(1, 60)).collect()).receive(n, deliver)
        }
        fn wait(&mut self, _: Duration) -> io::Result<()> {
            self.waits += 1;
            Ok(())
        }
        fn patience(&self) -> Duration {
            self.patience
        }
        fn kernel_dropped(&mut self) -> u64 {
            0
        }
        fn refuse_further(&mut self) {}
        fn refused(&mut self) -> u64 {
            0
        }
    }

    #[test]
    fn a_wake_up_is_asked_for_in_silence_only() {
        let waits = |patience, turns: [usize; 8]| {
            let step = Step::new(
                ReservedBits::Accept,
                Arc::default(),
                SessionTable::new(Arc::new(Registry::new(1))),
                Vec::new(),
                Ledger::default().worker(),
            );
            let mut worker = Worker::new(Steady { turns: turns.to_vec(), patience, waits: 0 }, step, None);
            turns.map(|_| {
                worker.turn(WAIT).unwrap();
                worker.source.waits
            })
        };
        let steady = [0, 64, 0, 64, 64, 0, 0, 0];
        assert_eq!(waits(NAP, steady), [1, 1, 1, 1, 1, 1, 2, 3], "at first, and after an empty nap");
        assert_eq!(waits(NAP, [0, 1, 0, 1, 1, 0, 0, 0]), [1, 1, 2, 2, 2, 3, 4, 5], "each of few has its nap");
        assert_eq!(waits(Duration::ZERO, steady), [1, 1, 2, 2, 2, 3, 4, 5], "no nap with small buffers");
    }

    #[test]
    fn every_datagram_is_in_the_ledger() {
        let payloads = vec![vec![], payload(1, 60), vec![0; 100], payload(2, 13), payload(2, 14), payload(3, 60)];
        let (snapshot, records) = run(payloads, &[], None);
        snapshot.check().unwrap();
        assert_eq!((snapshot.datagrams.received, snapshot.datagrams.decapsulated, records), (6, 3, 3));
        assert_eq!(snapshot.datagrams.dropped["short_vxlan_header"], 1);
        assert_eq!(snapshot.datagrams.dropped["vni_flag_clear"], 1);
        assert_eq!(snapshot.datagrams.dropped["runt_inner_frame"], 1);
        assert_eq!(snapshot.overflow.frames, 1, "VNI 3 is beyond the limit of two");
        assert_eq!((snapshot.datagrams.kernel_dropped, snapshot.datagrams.refused_at_stop), (3, 2));
    }

    #[test]
    fn a_vni_not_asked_for_is_filtered_and_uses_no_session() {
        let payloads = (0..10).map(|vni| payload(vni, 60)).collect();
        let (snapshot, records) = run(payloads, &[2, 9], None);
        snapshot.check().unwrap();
        assert_eq!((records, snapshot.datagrams.unselected, snapshot.outputs["pcap"].filtered), (2, 8, 8));
        assert_eq!(snapshot.unselected_vnis.iter().map(|vni| vni.frames).sum::<u64>(), 8);
        assert_eq!((snapshot.sessions.len(), snapshot.overflow.frames), (2, 0));
    }

    #[test]
    fn the_budget_is_not_spent_while_it_may_come_back() {
        let budget = Budget::new(100);
        assert_eq!((budget.take(1024), budget.take(1024)), (100, 0));
        assert!(!budget.is_spent());
        budget.settle(100, 60);
        assert_eq!(budget.take(1024), 40);
        budget.settle(40, 40);
        assert!(budget.is_spent());
    }

    #[test]
    fn the_budget_is_exact_and_what_is_left_is_counted() {
        let (snapshot, records) = run((0..500).map(|_| payload(1, 60)).collect(), &[], Some(100));
        snapshot.check().unwrap();
        assert_eq!((snapshot.datagrams.received, records), (100, 100));
        assert_eq!(snapshot.datagrams.refused_at_stop, 400 + 2);
        assert_eq!(snapshot.sessions[0].session.address(), IpAddr::from([192, 0, 2, 1]));
    }

    /// A source whose program has redirected all of these payloads, of which these are the copies, and more that have none.
    #[derive(Debug)]
    struct Redirecting(Prepared, Redirected, Vec<Counted>);

    impl Source for Redirecting {
        fn begin(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn receive(&mut self, limit: usize, deliver: &mut impl FnMut(&Datagram<'_>)) -> io::Result<usize> {
            self.0.receive(limit, &mut |datagram| deliver(&Datagram { redirected: true, ..*datagram }))
        }
        fn wait(&mut self, _: Duration) -> io::Result<()> {
            Ok(())
        }
        fn patience(&self) -> Duration {
            Duration::ZERO
        }
        fn kernel_dropped(&mut self) -> u64 {
            0
        }
        fn refuse_further(&mut self) {}
        fn refused(&mut self) -> u64 {
            0
        }
        fn fast_path(&mut self) -> FastPath {
            FastPath { redirect: self.1, ..FastPath::default() }
        }
        fn uncopied_sessions(&mut self) -> io::Result<Vec<Counted>> {
            Ok(std::mem::take(&mut self.2))
        }
    }

    #[test]
    fn redirected_frames_are_in_the_ledger_with_a_copy_and_without() {
        let mut ledger = Ledger::default();
        let counters = ledger.worker();
        let mut path = |name: &str, redirect| {
            let mut output = Output { name: name.into(), ends: Vec::new() };
            let plan = LanePlan { chunks: 2, linger: Duration::from_secs(1), snaplen: 9000, sessions: 10, redirect };
            let (mut lanes, inbox) = lanes(plan, vec![output.end()]);
            let sink = output.end();
            ledger.outputs.push(output);
            ((Selection::default(), lanes.remove(0)), inbox, sink)
        };
        let ((files, inbox, sink), (tap, tap_inbox, _)) = (path("pcap", false), path("mirror0", true));
        let source = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        let at = Timestamp::from_ns;
        // Two of the five copies are of a VNI that is no longer allowed.
        let copies = Prepared([1, 7, 1, 7, 1].map(|vni| payload(vni, 60)).to_vec());
        let sessions = [(1, 20), (2, 5), (3, 6)].map(|(vni, frames)| Counted {
            session: Session::vxlan(source, Vni::new(vni).unwrap()),
            frames,
            bytes: frames * 60,
            first: at(5),
            last: at(9),
        });
        // Beside these the program met four of sessions beyond its own limit.
        let redirect = Redirected {
            redirected: 40,
            entered: 33,
            entered_bytes: 33 * 60,
            uncopied: 35,
            uncopied_bytes: 35 * 68,
            uncopied_cut: 2,
            overflow: 4,
            overflow_bytes: 4 * 60,
            odd: 8,
            ..Redirected::default()
        };
        let list = Arc::new(AllowList::new(Allowed::new(Some(Vni::new(1).into_iter().collect()), None).unwrap()));
        let registry = Arc::new(Registry::new(3));
        let table = SessionTable::new(Arc::clone(&registry));
        let step = Step::new(ReservedBits::Accept, list, table, vec![files, tap], counters);
        let worker = Worker::new(Redirecting(copies, redirect, sessions.to_vec()), step, None);
        let ended = worker.run(&AtomicBool::new(true));
        assert!(ended.failure.is_none());
        let chunks: Vec<_> = inbox.full.try_iter().collect();
        let lost: u64 = chunks.iter().flat_map(|chunk| chunk.losses()).map(|loss| loss.frames).sum();
        assert_eq!(lost, 35, "whose frames the files lack is told");
        sink.written.add(chunks.iter().map(|chunk| u64::from(chunk.frames())).sum());
        assert!(tap_inbox.full.is_empty(), "nothing is to be injected");
        let snapshot = Snapshot::of(&ledger, at(0), ledger.sessions(registry.sessions()));
        snapshot.check().unwrap();
        assert_eq!(
            (snapshot.datagrams.received, snapshot.datagrams.decapsulated, snapshot.datagrams.unselected),
            (40, 40, 0)
        );
        assert_eq!(snapshot.datagrams.received_bytes, 40 * 68);
        let tap = &snapshot.outputs["mirror0"];
        assert_eq!((tap.written, tap.written_bytes, tap.dropped["redirect_lost"]), (33, 33 * 60, 7));
        let pcap = &snapshot.outputs["pcap"];
        assert_eq!((pcap.written, pcap.dropped["lane_full"]), (5, 35));
        // VNIs 1 and 7 came first, then one more had room.
        assert_eq!(snapshot.sessions.len(), 3);
        assert_eq!(snapshot.overflow.frames, 4 + 6);
        assert_eq!((snapshot.datagrams.cut_by_mirror, snapshot.datagrams.fast_path.redirected), (2, 40));
        assert_eq!(snapshot.datagrams.fast_path.not_redirected["odd"], 8);
        assert_eq!(snapshot.failed(), 0, "load");
    }
}
