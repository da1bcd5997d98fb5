//! The worker is the receiving thread: one short loop that waits for datagrams, and for nothing
//! else.
//!
//! The worker waits for its outputs too where nobody sends while it reads (see
//! [`WhenFull`](crate::lane::WhenFull)).

use std::fmt::Debug;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never};

use super::bypass::Bypass;
use super::change::Change;
use super::pulse::Pulse;
use super::quota::Quota;
use super::step::Step;
use crate::source::{Datagram, LiveSource, Received, Refusing};

/// The longest wait of a worker, which sees no later that it should stop.
const WAIT: Duration = Duration::from_millis(50);
/// The most datagrams received in a turn: enough for a batch of each of many sockets.
const TURN: usize = 1024;
/// The number of datagrams below which a turn has brought little.
const LITTLE: usize = 64;
/// The nap of a worker after little came. Being woken for every datagram costs more than the
/// datagram; a nap lets a batch gather, as interrupt moderation does in a network card. Asking to
/// be woken is for silence only, for who wakes pays as well. The datagram that ends a silence is
/// still received at once.
const NAP: Duration = Duration::from_micros(500);
/// The nap that is not worth it: the timer is no more precise than this.
const SHORTEST_NAP: Duration = Duration::from_micros(100);
/// The time between two looks at the kernel's counters.
const REFRESH: Duration = Duration::from_millis(200);
/// The longest time for which a worker that stops drains its source, should datagrams keep coming.
const DRAIN: Duration = Duration::from_secs(10);

/// The reason for which a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It was told to stop.
    Stopped,
    /// The quota of all workers is spent.
    Spent,
    /// Its source has no more, which says nothing of the sources of others.
    End,
    /// Something failed: see [`Ended::failure`].
    Failed,
}

/// The remains of a worker that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The reason for which it ended.
    pub why: Why,
    /// The failure of its source, or of what goes by it.
    pub failure: Option<io::Error>,
    /// True where its source had more when it was stopped, which is not in the ledger.
    pub cut_short: bool,
    /// Its source, which still holds its place. Once it is gone, what would come to it goes to a
    /// worker that may not have ended yet, and that session's file would have a gap.
    pub source: Box<dyn Refusing>,
    /// Datagrams that came after the decision to stop, as far as they are counted.
    pub refused: u64,
}

/// A source and what is done with its datagrams.
#[derive(Debug)]
pub struct Worker<S> {
    source: S,
    step: Step,
    bypass: Bypass,
    quota: Option<Arc<Quota>>,
    /// The way by which changes come.
    changes: Receiver<Change>,
    /// True where it has napped or waited since the last turn that brought much.
    rested: bool,
    /// Where it shows that it turns.
    pulse: Arc<Pulse>,
    /// The time that it has napped and waited.
    rest: Duration,
    /// The time at which the kernel's counters are read again.
    refresh: Instant,
    /// The longest time for which it drains its source: [`DRAIN`].
    drain: Duration,
}

impl<S: LiveSource + Send + Debug + 'static> Worker<S> {
    /// Makes a worker that receives from `source`, within `quota` if there is one. Frames that go
    /// by it are the affair of `bypass`.
    #[must_use]
    pub fn new(source: S, step: Step, bypass: Bypass, quota: Option<Arc<Quota>>) -> Self {
        Self {
            source,
            step,
            bypass,
            quota,
            changes: never(),
            rested: true,
            pulse: Arc::default(),
            rest: Duration::ZERO,
            refresh: Instant::now(),
            drain: DRAIN,
        }
    }

    /// Has it show there that it turns.
    #[must_use]
    pub(super) fn shows(self, pulse: Arc<Pulse>) -> Self {
        Self { pulse, ..self }
    }

    /// Has it take over the changes that come this way, between two batches.
    #[must_use]
    pub(super) fn hears(self, changes: Receiver<Change>) -> Self {
        Self { changes, ..self }
    }

    /// Does one turn of the loop: receives what has come. Where that is little, the worker naps so
    /// that more comes. Where nothing came during a nap, it waits for the next datagram, up to
    /// `wait`. Returns what it received.
    ///
    /// # Errors
    /// The source failed.
    pub fn turn(&mut self, wait: Duration) -> io::Result<Received> {
        let received = self.receive().1?;
        let Received::Datagrams(n) = received else { return Ok(received) };
        let now = Instant::now();
        self.pulse.turn(now, self.rest);
        let due = self.step.tend(now);
        if now >= self.refresh {
            self.refresh = now + REFRESH;
            self.take_over();
        }
        let rested = mem::replace(&mut self.rested, n < LITTLE);
        let nap = NAP.min(wait).min(self.source.patience());
        if n < LITTLE && nap >= SHORTEST_NAP && (n > 0 || !rested) {
            thread::sleep(nap);
            self.rest += now.elapsed();
        } else if n == 0 {
            self.source.wait(due.map_or(wait, |due| wait.min(due - now)))?;
            self.rest += now.elapsed();
        }
        Ok(received)
    }

    /// Takes over what others counted.
    fn take_over(&mut self) {
        self.refresh_counters();
        // Counts that cannot be read now are taken over the next time, and the end tells of it.
        let _ = self.bypass.take_over(&mut self.step);
    }

    /// Takes over the changes that have come. What the kernel counted until now is the affair of
    /// the outputs that were there.
    #[cold]
    fn change(&mut self) {
        while let Ok(change) = self.changes.try_recv() {
            self.take_over();
            change.apply(&mut self.step);
        }
    }

    fn refresh_counters(&mut self) {
        self.step.counters.kernel_dropped.raise(self.source.kernel_dropped());
        self.step.counters.broadcast_copies.raise(self.source.copies());
        self.source.write_down(self.step.counters.received.get(), false);
    }

    /// Receives what has come, and returns the number of datagrams lent as well: a source that
    /// fails may have lent some before.
    fn receive(&mut self) -> (usize, io::Result<Received>) {
        if !self.changes.is_empty() {
            self.change();
        }
        let limit = self.quota.as_ref().map_or(TURN, |quota| quota.take(TURN));
        let step = &mut self.step;
        let mut lent = 0;
        let received = self.source.receive(limit, &mut |datagram| {
            lent += 1;
            step.datagram(datagram);
        });
        if let Some(quota) = &self.quota {
            quota.settle(limit, lent);
        }
        (lent, received)
    }

    /// Receives until `stop` or the end of the source, then drains what had come by then.
    pub(crate) fn run(mut self, stop: &AtomicBool) -> Ended {
        let received = self.receive_until(stop);
        let left = self.count_left();
        self.refresh_counters();
        let settled = self.bypass.settle(&mut self.step);
        let (why, failure) = match received.and_then(|why| settled.map(|()| why)) {
            Ok(why) => (why, None),
            Err(error) => (Why::Failed, Some(error)),
        };
        let refused = LiveSource::refused(&mut self.source);
        self.step.counters.refused_at_stop.raise(refused + left);
        self.step.counters.left_queued.raise(self.source.left_queued());
        self.source.write_down(self.step.counters.received.get(), true);
        let cut_short = self.source.cut_short();
        Ended { why, failure, cut_short, source: Box::new(self.source), refused }
    }

    /// Counts the datagrams that are still there: they came beyond the quota, or faster than they
    /// could be drained. Copies of frames that an output had in time are received all the same.
    fn count_left(&mut self) -> u64 {
        let Self { source, step, .. } = self;
        let mut left = 0;
        let end = Instant::now() + self.drain;
        loop {
            let mut lent = 0;
            // A source that fails may have lent datagrams before, and may have more of them.
            let _ = source.receive(TURN, &mut |datagram: &Datagram<'_>| {
                lent += 1;
                if datagram.delivered { step.datagram(datagram) } else { left += 1 }
            });
            if lent == 0 || Instant::now() >= end {
                return left;
            }
        }
    }

    fn receive_until(&mut self, stop: &AtomicBool) -> io::Result<Why> {
        let result = loop {
            if stop.load(Ordering::Relaxed) {
                break Ok(Why::Stopped);
            }
            if self.quota.as_ref().is_some_and(|quota| quota.is_spent()) {
                break Ok(Why::Spent);
            }
            match self.turn(WAIT) {
                Ok(Received::Datagrams(_)) => {}
                Ok(Received::End) => break Ok(Why::End),
                Err(error) => break Err(error),
            }
        };
        self.source.refuse_further();
        let why = result?;
        let mut drained = Ok(why);
        let end = Instant::now() + self.drain;
        loop {
            // A part of the source may fail while another still has datagrams.
            let (lent, received) = self.receive();
            drained = drained.and_then(|why| received.map(|_| why));
            let now = Instant::now();
            self.pulse.turn(now, self.rest);
            if lent == 0 || now >= end {
                return drained;
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::lane::{LanePlan, lanes};
    use crate::ledger::{Ledger, Output, Snapshot};
    use crate::pipeline::decap::ReservedBits;
    use crate::pipeline::outlet::Outlet;
    use crate::record::{Timestamp, pcap};
    use crate::route::{Registry, SessionTable};
    use crate::source::Allowed;
    use crate::source::prepared::Prepared;
    use crate::wire::{Vni, vxlan};
    use std::net::IpAddr;

    pub(in crate::pipeline) fn payload(vni: u32, frame: usize) -> Vec<u8> {
        [vxlan::header(Vni::new(vni).unwrap()).as_slice(), &vec![0; frame]].concat()
    }

    fn run(payloads: Vec<Vec<u8>>, vnis: &[u32], quota: Option<u64>) -> (Snapshot, u64) {
        let mut ledger = Ledger::default();
        let counters = ledger.worker();
        let mut output = Output { name: "pcap".into(), ends: Vec::new() };
        let (lanes, inbox) = lanes(LanePlan { chunks: 2, ..LanePlan::default() }, vec![output.end()]);
        let sink = output.end();
        ledger.outputs.push(output);
        let registry = Arc::new(Registry::new(2));
        let sessions = SessionTable::new(Arc::clone(&registry));
        let outlets = lanes.into_iter().map(Outlet::from).collect();
        let vnis = (!vnis.is_empty()).then(|| vnis.iter().filter_map(|vni| Vni::new(*vni)).collect());
        let list = Arc::new(Allowed::new(vnis, None).unwrap());
        let step = Step::new(ReservedBits::Accept, list, sessions, outlets, counters);
        let source = Prepared { kernel_dropped: 3, refused: 2, ..Prepared::new(payloads) };
        let worker = Worker::new(source, step, Bypass::default(), quota.map(|n| Arc::new(Quota::new(n))));
        let stop = AtomicBool::new(quota.is_none());
        let ended = worker.run(&stop);
        assert!(ended.failure.is_none());
        let mut records = 0;
        while let Ok(chunk) = inbox.full.try_recv() {
            records += chunk.runs().map(|(_, bytes)| pcap::records(bytes).count() as u64).sum::<u64>();
        }
        sink.written.add(records);
        (Snapshot::of(&ledger, Timestamp::from_ns(0), ledger.sessions(registry.sessions())), records)
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
            let payloads = (0..turns.iter().sum()).map(|_| payload(1, 60));
            let source = Prepared { turns: turns.into(), patience, ..Prepared::new(payloads) };
            let mut worker = Worker::new(source, step, Bypass::default(), None);
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

    /// Makes a worker without outputs that receives from `source`.
    fn bare(source: Prepared, quota: Option<Arc<Quota>>) -> Worker<Prepared> {
        let sessions = SessionTable::new(Arc::new(Registry::new(1)));
        let step = Step::new(ReservedBits::Accept, Arc::default(), sessions, Vec::new(), Ledger::default().worker());
        Worker::new(source, step, Bypass::default(), quota)
    }

    #[test]
    fn what_a_source_lent_before_it_failed_is_off_the_quota_and_the_rest_is_counted() {
        let quota = Arc::new(Quota::new(1000));
        let payloads = (0..300).map(|_| payload(1, 60));
        let worker = bare(Prepared { fails: true, ..Prepared::new(payloads) }, Some(Arc::clone(&quota)));
        let counters = Arc::clone(&worker.step.counters);
        let ended = worker.run(&AtomicBool::new(false));
        assert_eq!((ended.why, ended.failure.unwrap().to_string().as_str()), (Why::Failed, "broken"));
        assert_eq!((counters.received.get(), counters.refused_at_stop.get()), (64, 300 - 64));
        assert_eq!(quota.take(usize::MAX), 1000 - 64);
    }

    #[test]
    fn what_a_source_has_is_drained_though_a_part_of_it_fails() {
        let payloads = (0..300).map(|_| payload(1, 60));
        let worker = bare(Prepared { fails: true, ..Prepared::new(payloads) }, None);
        let counters = Arc::clone(&worker.step.counters);
        let ended = worker.run(&AtomicBool::new(true));
        assert_eq!((ended.why, ended.failure.unwrap().to_string().as_str()), (Why::Failed, "broken"));
        assert_eq!((counters.received.get(), counters.refused_at_stop.get()), (300, 0));
    }

    #[test]
    fn a_source_that_never_runs_dry_does_not_keep_the_worker() {
        let mut worker = bare(Prepared { endless: true, ..Prepared::new([payload(1, 60)]) }, None);
        worker.drain = Duration::from_millis(5);
        let counters = Arc::clone(&worker.step.counters);
        assert_eq!(worker.run(&AtomicBool::new(true)).why, Why::Stopped);
        assert!(counters.received.get() > 0 && counters.refused_at_stop.get() > 0);
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
    fn the_quota_is_exact_and_what_is_left_is_counted() {
        let (snapshot, records) = run((0..500).map(|_| payload(1, 60)).collect(), &[], Some(100));
        snapshot.check().unwrap();
        assert_eq!((snapshot.datagrams.received, records), (100, 100));
        assert_eq!(snapshot.datagrams.refused_at_stop, 400 + 2);
        assert_eq!(snapshot.sessions[0].session.address(), IpAddr::from([192, 0, 2, 1]));
    }
}
