use std::task::{Context, Poll, Waker};

use crossbeam_channel::{Receiver, bounded};

use super::*;
use crate::lane::{Lane, lanes};
use crate::ledger::OutputTotals;

use crate::record::pcap;
use crate::route::SessionId;
use crate::sink;

/// A watch with one lane.
struct Rig {
    feed: Arc<Feed>,
    lane: Lane,
    output: Output,
    thread: std::thread::JoinHandle<()>,
    bell: Receiver<()>,
}

fn rig(limit: Option<u64>, duration: Option<Duration>) -> Rig {
    let (ring, bell) = bounded(1);
    let feed = Arc::new(Feed::new(96, limit, ring));
    let mut output = Output { name: "watch:1".into(), ends: Vec::new() };
    let plan = LanePlan { chunks: 2, ..WatchPlan::lane(96, 1) };
    let (mut lanes, inbox) = lanes(plan, vec![output.end()]);
    let plan = WatchPlan { wanted: Wanted::All, feed: Arc::clone(&feed), duration };
    let sink = WatchSink::new(&plan, &mut output);
    let thread = sink::spawn("watch:1", sink, inbox, Arc::default(), Arc::default(), output.end()).unwrap();
    Rig { feed, lane: lanes.remove(0), output, thread, bell }
}

impl Rig {
    /// Offers frames that begin with these numbers.
    fn offer(&mut self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let frame = [number.to_be_bytes(), [7; 8]].concat().repeat(10);
            self.lane.offer(SessionId::OVERFLOW, Timestamp::from_ns(number), &frame, 160);
        }
    }

    fn end(self) -> OutputTotals {
        drop(self.lane);
        self.thread.join().unwrap();
        self.output.totals()
    }
}

/// Takes until there is nothing, or the end.
fn take(feed: &Feed) -> (Vec<u8>, bool) {
    let context = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    loop {
        match feed.poll_take(&context) {
            Poll::Ready(Some(bytes)) => all.extend_from_slice(&bytes),
            Poll::Ready(None) => return (all, true),
            Poll::Pending => return (all, false),
        }
    }
}

/// Takes until so many frames have come, or the end. Returns their numbers.
fn numbers(feed: &Feed, taken: &mut Vec<u8>, frames: usize) -> Vec<u64> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let (bytes, is_end) = take(feed);
        taken.extend(bytes);
        let records = pcap::records(taken.get(pcap::FILE_HEADER_LEN..).unwrap_or_default());
        let numbers: Vec<u64> = records
            .map(|record| {
                assert_eq!((record.frame.len(), record.orig_len), (96, 160));
                u64::from_be_bytes(record.frame[..8].try_into().unwrap())
            })
            .collect();
        if is_end || numbers.len() >= frames {
            return numbers;
        }
        assert!(Instant::now() < until, "{} frames", numbers.len());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[track_caller]
fn assert_closes(totals: &OutputTotals, written: u64) {
    assert!(totals.dropped.values().all(|dropped| *dropped == 0), "{totals:?}");
    assert_eq!(totals.offered, totals.written + totals.unwatched);
    assert_eq!(totals.written, written);
    assert_eq!(totals.written_bytes, written * 96);
}

#[test]
fn frames_are_a_capture_as_they_come() {
    let mut rig = rig(None, None);
    let mut taken = Vec::new();
    assert!(numbers(&rig.feed, &mut taken, 0).is_empty());
    assert_eq!(taken.len(), pcap::FILE_HEADER_LEN, "who watches is told at once that it begins");
    for round in 1..=3 {
        rig.offer(10 * (round - 1)..10 * round);
        rig.lane.tend(Instant::now());
        rig.lane.tend(Instant::now() + LINGER);
        assert_eq!(numbers(&rig.feed, &mut taken, 10 * round as usize), (0..10 * round).collect::<Vec<_>>());
    }
    let reader = pcap_file::pcap::PcapReader::new(taken.as_slice()).unwrap();
    assert_eq!(reader.header().snaplen, 96);
    rig.offer(30..32);
    let feed = Arc::clone(&rig.feed);
    let taker = std::thread::spawn(move || numbers(&feed, &mut taken, usize::MAX).len());
    assert_closes(&rig.end(), 32);
    assert_eq!(taker.join().unwrap(), 32, "the last are there at the end of the sensor");
}

#[test]
fn what_does_not_fit_is_dropped_and_told() {
    let mut rig = rig(None, None);
    rig.offer(0..10_000);
    let mut taken = Vec::new();
    // What was not dropped is on its way, or there.
    let last = 10_000 - rig.feed.outcome().dropped;
    assert!((2_000..10_000).contains(&last), "{last}");
    let kept = numbers(&rig.feed, &mut taken, last as usize);
    assert_eq!(kept, (0..last).collect::<Vec<_>>());
    let outcome = rig.feed.outcome();
    assert_eq!((outcome.frames, outcome.dropped, outcome.over), (last, 10_000 - last, None));
    // What was taken makes room.
    let until = Instant::now() + Duration::from_secs(10);
    let all = loop {
        rig.offer(20_000..20_001);
        rig.lane.tend(Instant::now());
        rig.lane.tend(Instant::now() + LINGER);
        let all = numbers(&rig.feed, &mut taken, 0);
        if all.len() > kept.len() {
            break all;
        }
        assert!(Instant::now() < until);
    };
    assert_eq!(all[kept.len()], 20_000);
    drop(Watching(Arc::clone(&rig.feed)));
    let totals = rig.end();
    assert_closes(&totals, totals.written);
}

#[test]
fn it_ends_after_so_many_frames_exactly() {
    let mut rig = rig(Some(25), None);
    rig.offer(0..20);
    rig.lane.tend(Instant::now());
    rig.lane.tend(Instant::now() + LINGER);
    let mut taken = Vec::new();
    assert_eq!(numbers(&rig.feed, &mut taken, 20).len(), 20);
    assert!(rig.bell.is_empty());
    rig.offer(20..60);
    rig.lane.tend(Instant::now());
    rig.lane.tend(Instant::now() + LINGER);
    assert_eq!(numbers(&rig.feed, &mut taken, usize::MAX), (0..25).collect::<Vec<_>>());
    rig.bell.try_recv().unwrap();
    assert_eq!(rig.feed.outcome(), feed_outcome(25, Over::Count));
    rig.offer(60..70);
    assert_closes(&rig.end(), 25);
}

fn feed_outcome(frames: u64, over: Over) -> super::feed::Outcome {
    super::feed::Outcome { frames, dropped: 0, redirected: 0, over: Some(over) }
}

#[test]
fn it_ends_after_its_time_and_what_nobody_takes_is_counted() {
    let mut rig = rig(None, Some(Duration::from_millis(20)));
    rig.offer(0..10);
    rig.lane.tend(Instant::now());
    rig.lane.tend(Instant::now() + LINGER);
    rig.bell.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(rig.feed.outcome(), feed_outcome(0, Over::Time));
    let feed = Arc::clone(&rig.feed);
    let began = Instant::now();
    assert_closes(&rig.end(), 0);
    assert!(began.elapsed() < Duration::from_secs(10), "nobody is waited for without an end");
    assert!(take(&feed).1);
}

#[test]
fn who_is_gone_holds_up_nobody() {
    let mut rig = rig(None, None);
    rig.offer(0..10_000);
    drop(Watching(Arc::clone(&rig.feed)));
    rig.bell.try_recv().unwrap();
    rig.offer(0..10);
    assert_eq!(rig.feed.outcome().over, Some(Over::Gone));
    let began = Instant::now();
    assert_closes(&rig.end(), 0);
    assert!(began.elapsed() < PATIENCE);
}
