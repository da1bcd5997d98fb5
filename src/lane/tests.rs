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
fn a_queue_in_front_of_a_sink_that_is_behind_holds_full_chunks() {
    let (mut lane, inbox, counters) = one(4, 9000);
    let mut now = Instant::now();
    for i in 0..500 {
        lane.offer(SessionId::OVERFLOW, at(i), &[7; 1000], 1000);
        now = lane.tend(now).unwrap();
        lane.tend(now);
    }
    assert_eq!(counters.dropped(OutputDrop::LaneFull).get(), 0);
    let take = || -> u32 {
        let chunks: Vec<_> = inbox.full.try_iter().map(|chunk| inbox.lend(chunk)).collect();
        chunks.iter().map(|chunk| chunk.frames()).sum()
    };
    let waited = take();
    assert_eq!(lane.tend(now + Duration::from_millis(500)), None);
    assert_eq!(waited + take(), 500);
}

#[test]
fn a_lane_that_waits_for_room_hands_over_whatever_it_has() {
    let plan = LanePlan { chunks: 4, linger: Duration::ZERO, when_full: WhenFull::Wait, ..LanePlan::default() };
    let (mut lanes, inbox) = lanes(plan, vec![Arc::default()]);
    for i in 1..=4 {
        lanes[0].offer(SessionId::OVERFLOW, at(i), &[7; 1000], 1000);
        assert_eq!(lanes[0].tend(Instant::now()), None, "nothing is left to tend");
        assert_eq!(inbox.full.len() as u64, i, "though half of the chunks wait");
    }
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
