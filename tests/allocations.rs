//! The receive path allocates nothing per datagram. This test runs the worker's loop on real
//! sockets, under a counting allocator.
#![allow(clippy::unwrap_used)]
#![allow(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use vxtap::config::file::Config;
use vxtap::host::HostFacts;
use vxtap::lane::{LanePlan, lanes};
use vxtap::ledger::{Ledger, Output, OutputCounters, OutputDrop, Totals};
use vxtap::pipeline::bypass::Bypass;
use vxtap::pipeline::decap::ReservedBits;
use vxtap::pipeline::outlet::Outlet;
use vxtap::pipeline::step::Step;
use vxtap::pipeline::worker::Worker;
use vxtap::route::policy::{Entry, Match, Policy, SessionPlan};
use vxtap::route::{Registry, SessionTable};
use vxtap::service::Store;
use vxtap::source::LiveSource;
use vxtap::source::Steering;
use vxtap::source::udp::{self, UdpPlan};
use vxtap::wire::{Vni, VniMask, VniRange, vxlan};

thread_local! {
    /// Allocations of this thread.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // Fails while a thread ends, when nobody counts.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: every call goes to the system's allocator, which upholds the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller upholds what `alloc` asks for.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `System` with this layout.
        unsafe { System.dealloc(block, layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the block came from `System` with this layout; the caller upholds the rest.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn the_receive_path_allocates_nothing_per_datagram() {
    assert_eq!(receive(Arc::default()).0, 16);
}

#[test]
fn the_receive_path_of_sessions_with_plans_allocates_nothing_per_datagram() {
    let entry = |first, last, port, plan| {
        let range = VniRange { first: Vni::new(first).unwrap(), last: Vni::new(last).unwrap() };
        Entry { sessions: Match { vnis: Some([range].into_iter().collect()), port, ..Match::default() }, plan }
    };
    let drop = SessionPlan { drop: true, ..SessionPlan::default() };
    // Of those beyond the limit one half is cut, and then the other goes nowhere.
    let policy = Policy::new(
        vec![
            entry(4, 5, None, drop.clone()),
            entry(6, 6, None, SessionPlan { outputs: [].into_iter().collect(), ..SessionPlan::default() }),
            entry(7, 7, Some(1), drop.clone()),
            entry(7, 7, None, SessionPlan { snaplen: Some(64), ..SessionPlan::default() }),
            entry(0xff_0000, 0xff_17ff, None, SessionPlan { snaplen: Some(64), ..SessionPlan::default() }),
            entry(0xff_1800, 0xff_ffff, None, drop),
        ],
        Vec::new(),
    );
    assert_eq!(receive(Arc::new(policy.unwrap())).0, 16);
}

#[test]
fn what_looks_into_frames_allocates_nothing_per_datagram_once_there_are_tables() {
    let looks = "filter = \"not udp port 2002\"\ndedup = \"drop\"\ndedup_group = \"all\"\n\
                 rules = [{ number = 1, action = \"reject\", protocol = \"udp\", ports = 2003 }, { number = 2, action = \"accept\" }]\n";
    let text = format!("[[session]]\nvni = \"0-15\"\nflow_limit = \"200KB\"\n{looks}[[session]]\n{looks}");
    let config = Config::parse(Path::new("vxtap.toml"), text).unwrap();
    let (_, plan) = config.plan(&HostFacts::unknown()).unwrap();
    let (sessions, filtered_by) = receive(plan.pipeline.policy);
    assert_eq!(sessions, 16);
    for reason in ["rule", "expression", "duplicate", "cutoff"] {
        assert!(filtered_by.get(reason).is_some_and(|frames| *frames > 100), "{reason} of {filtered_by:?}");
    }
}

/// Makes a frame of this length, if its headers have room: one of UDP, to the port 2000 and this.
fn frame(port: u16, length: usize) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
    let builder = builder.udp(1000, 2000 + port);
    let mut frame = Vec::new();
    match length.checked_sub(builder.size(0)) {
        Some(payload) => builder.write(&mut frame, &vec![0; payload]).unwrap(),
        None => frame.resize(length, 0),
    }
    frame
}

/// Receives by this policy. Returns the number of sessions, and the frames that were filtered, by
/// the reason.
fn receive(policy: Arc<Policy>) -> (u32, HashMap<&'static str, u64>) {
    const ROUNDS: u32 = 400;
    const BURST: u32 = 32;
    let plan = UdpPlan {
        listen: vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()],
        workers: 1,
        steering: Steering::Session,
        vni_mask: VniMask::ALL,
        receive_buffer: 200 * 1024,
    };
    let mut listening = udp::listen(&plan, &Store::default()).unwrap();
    listening.sources[0].begin().unwrap();
    let registry = Arc::new(Registry::new(16));
    let counters = Arc::new(OutputCounters::default());
    let lane_plan = LanePlan { linger: Duration::from_millis(1), ..LanePlan::default() };
    let (lanes, inbox) = lanes(lane_plan, vec![Arc::clone(&counters)]);
    let worker_counters = Ledger::default().worker();
    let sessions = SessionTable::new(Arc::clone(&registry));
    let lanes = lanes.into_iter().map(Outlet::from).collect();
    let mut step = Step::new(ReservedBits::Accept, Arc::default(), sessions, lanes, Arc::clone(&worker_counters));
    step.adopt(policy);
    let mut worker = Worker::new(listening.sources.remove(0), step, Bypass::default(), None);

    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender6 = UdpSocket::bind("[::1]:0").unwrap();
    let payload = |vni: u32, frame: &[u8]| [vxlan::header(Vni::new(vni).unwrap()).as_slice(), frame].concat();
    let mut sent = 0;
    let mut counted = 0;
    // No chunk goes back until the lane has made all of its chunks, and drops frames for want of
    // another.
    let mut held = Vec::new();
    let (mut rounds, mut has_told) = (0, false);
    for round in 0..ROUNDS {
        for i in 0..BURST {
            // The datagrams are also of sessions beyond the limit, of frames of all sizes, and such
            // that are dropped. Two after each other can have the same frame, and come from two
            // sessions.
            let pair = i / 2;
            let port = u16::try_from(pair % 8).unwrap();
            let datagram = match i % 8 {
                0 => payload(i, &frame(0, 9_000)),
                1 => payload(0xff_0000 + round * BURST + i, &frame(1, 60)),
                2 => vec![0; 7],
                3 => payload(i, &frame(0, 3)),
                _ => payload(i % 16, &frame(port, 60 + pair as usize)),
            };
            if i % 2 == 0 {
                sender.send_to(&datagram, listening.addresses[0]).unwrap();
            } else {
                sender6.send_to(&datagram, listening.addresses[1]).unwrap();
            }
            sent += 1;
        }
        let before = ALLOCATIONS.get();
        while worker_counters.received.get() < sent {
            worker.turn(Duration::from_millis(5)).unwrap();
        }
        // This turn waits in vain.
        worker.turn(Duration::from_micros(10)).unwrap();
        // The first rounds meet the sessions, make the chunks, and tell what was lost for want of
        // one.
        if has_told && round >= 20 {
            counted += ALLOCATIONS.get() - before;
            rounds += 1;
        }
        while let Ok(chunk) = inbox.full.try_recv() {
            has_told |= !chunk.losses().is_empty();
            held.push(inbox.lend(chunk));
        }
        if counters.dropped(OutputDrop::LaneFull).get() > 0 {
            held.clear();
        }
    }
    assert!(rounds > ROUNDS / 2, "allocations were counted in {rounds} rounds");
    assert_eq!(worker_counters.received.get(), u64::from(ROUNDS * BURST));
    assert!(counters.offered.get() > u64::from(ROUNDS * BURST) / 2);
    assert_eq!(counted, 0, "allocations on the receive path");
    let readings = Output { name: String::new(), ends: vec![counters] }.totals().readings();
    let by = readings.iter().filter_map(|reading| Some((reading.reason?, reading.value)));
    (registry.count(), by.collect())
}
