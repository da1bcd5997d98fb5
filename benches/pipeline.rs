//! What vxtap's own code costs: `cargo bench --bench pipeline`.
//!
//! - `frame`: one datagram through decapsulation, routing and the copy into a chunk, as the worker
//!   does it;
//! - `hand_over`: a chunk to the sink's thread and back;
//! - `policy/sessions`, `policy/flood`: what plans cost, for sessions that are known and for VNIs
//!   that nobody has seen;
//! - `policy/filters`, `policy/memory`: what a frame of 64 bytes costs that is decided on, or that
//!   is sliced, tagged, cut off or compared;
//! - `sink`: chunks into files in /dev/shm, without the hash, which another thread computes.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::hint::black_box;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vxtap::archive::{ArchivePlan, BudgetPlan};
use vxtap::lane::{Chunk, Inbox, LanePlan, Lent, lanes};
use vxtap::ledger::{Ledger, Output, OutputCounters};
use vxtap::pipeline::decap::ReservedBits;
use vxtap::pipeline::outlet::Outlet;
use vxtap::pipeline::step::Step;
use vxtap::record::Timestamp;
use vxtap::route::cutoff::{Cutoff, Flows, Part};
use vxtap::route::dedup::{Group, Sight};
use vxtap::route::policy::{Entry, Match, Policy, SessionPlan};
use vxtap::route::slice::{Layer, Slice};
use vxtap::route::{Action, Expression, Ports, Registry, Rule, Rules, SessionId, SessionTable};
use vxtap::session::{Session, Tag};
use vxtap::sink::Sink;
use vxtap::sink::file::{FilePlan, FileSink};
use vxtap::source::Datagram;
use vxtap::wire::layers::Layers;
use vxtap::wire::{LinkType, Vni, vxlan};

/// Frame lengths that occur in turn.
const MIXES: [(&str, &[usize]); 4] = [
    ("64B", &[64]),
    // 7 : 4 : 1, the "simple IMIX"
    ("IMIX", &[64, 64, 576, 64, 576, 64, 1514, 64, 576, 64, 576, 64]),
    ("1514B", &[1514]),
    ("8900B", &[8900]),
];

/// Returns the UDP payload of a mirrored IPv4 frame.
fn payload(vni: u32, length: usize) -> Vec<u8> {
    let mut frame = vec![0x5a; length];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&((length - 14) as u16).to_be_bytes());
    [vxlan::header(Vni::new(vni).unwrap()).as_slice(), &frame].concat()
}

fn source() -> Ipv6Addr {
    Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped()
}

/// What a worker does: a step into one output, whose chunks come straight back.
struct Work {
    step: Step,
    inbox: Inbox,
    time: u64,
}

/// Puts the next datagram into its slot.
type Arrive<'a> = &'a mut dyn FnMut(&mut [u8]);

impl Work {
    fn new(policy: Policy, max_sessions: u32) -> Self {
        let counters = Arc::new(OutputCounters::default());
        let plan = LanePlan { chunks: 8, ..LanePlan::default() };
        let (lanes, inbox) = lanes(plan, vec![counters]);
        let table = SessionTable::new(Arc::new(Registry::new(max_sessions)));
        let lanes = lanes.into_iter().map(Outlet::from).collect();
        let mut step = Step::new(ReservedBits::Accept, Arc::default(), table, lanes, Ledger::default().worker());
        step.adopt(Arc::new(policy));
        Self { step, inbox, time: 0 }
    }

    /// Receives `n` datagrams of a batch, again and again. It lies in slots as the receiving socket
    /// leaves it: it is in the cache. `arrive` puts the next datagram into its slot, where there
    /// are others than before. As in a worker, one place calls the step, and it is compiled into
    /// that.
    #[inline(never)]
    fn receive(&mut self, n: u64, batch: &mut [Vec<u8>], mut arrive: Option<Arrive<'_>>) -> Duration {
        let batches = n.div_ceil(64);
        let begin = Instant::now();
        for _ in 0..batches {
            for payload in &mut *batch {
                if let Some(arrive) = &mut arrive {
                    arrive(payload);
                }
                self.time += 1;
                let timestamp = Timestamp::from_ns(self.time);
                self.step.datagram(black_box(&Datagram {
                    payload,
                    length: payload.len(),
                    source: source(),
                    port: 4789,
                    timestamp,
                    ..Datagram::empty()
                }));
            }
            // Chunks go straight back, in this thread.
            while let Ok(chunk) = self.inbox.full.try_recv() {
                drop(self.inbox.lend(chunk));
            }
        }
        begin.elapsed().mul_f64(n as f64 / (batches * 64) as f64)
    }
}

fn frame(c: &mut Criterion) {
    for sessions in [1u32, 256] {
        let mut group = c.benchmark_group(format!("frame/{sessions}-sessions"));
        for (name, lengths) in MIXES {
            let mut work = Work::new(Policy::default(), 1024);
            let mut batch: Vec<Vec<u8>> =
                (0..64).map(|i| payload(i as u32 * 7 % sessions, lengths[i % lengths.len()])).collect();
            group.throughput(Throughput::Bytes(batch.iter().map(|p| p.len() as u64 - 8).sum::<u64>() / 64));
            group.bench_function(name, |b| b.iter_custom(|n| work.receive(n, &mut batch, None)));
        }
        group.finish();
    }
}

/// Returns a policy of 500 entries, each for a VNI from this source, and one for all others.
fn entries(plan: SessionPlan, others: Option<SessionPlan>) -> Policy {
    let one = |vni| Match {
        sources: Some([IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)).into()].into_iter().collect()),
        vnis: Some(Vni::new(vni).into_iter().collect()),
        ..Match::default()
    };
    let named = (0..500).map(|vni| Entry { sessions: one(vni), plan: plan.clone() });
    let others = others.map(|plan| Entry { sessions: Match::default(), plan });
    Policy::new(named.chain(others).collect(), Vec::new()).unwrap()
}

/// Frames of 64 bytes: of 256 sessions that have plans, and of VNIs that nobody has seen.
fn plans(c: &mut Criterion) {
    let plain = SessionPlan::default();
    let cut = SessionPlan { snaplen: Some(128), ..SessionPlan::default() };
    let drop = SessionPlan { drop: true, ..SessionPlan::default() };
    let mut group = c.benchmark_group("policy/sessions");
    for (name, policy) in [
        ("no policy", Policy::default()),
        ("500 entries, plain", entries(plain.clone(), None)),
        ("500 entries, cut", entries(cut.clone(), None)),
    ] {
        let mut work = Work::new(policy, 1024);
        let mut batch: Vec<Vec<u8>> = (0..64).map(|i| payload(i * 7 % 256, 64)).collect();
        group.bench_function(name, |b| b.iter_custom(|n| work.receive(n, &mut batch, None)));
    }
    group.finish();
    let mut group = c.benchmark_group("policy/flood");
    for (name, policy) in [
        ("no policy", Policy::default()),
        ("500 entries", entries(plain.clone(), None)),
        ("500 entries, others are dropped", entries(plain, Some(drop))),
    ] {
        let mut work = Work::new(policy, 16);
        let mut batch: Vec<Vec<u8>> = (0..64).map(|_| payload(0, 64)).collect();
        let mut last = 0_u32;
        let mut another = |payload: &mut [u8]| {
            last = last.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
            payload[4..7].copy_from_slice(&last.to_be_bytes()[..3]);
        };
        group.bench_function(name, |b| b.iter_custom(|n| work.receive(n, &mut batch, Some(&mut another))));
    }
    group.finish();
}

/// Returns frames of TCP conversations that no rule and no expression here is about, but by chance.
fn conversations() -> Vec<Vec<u8>> {
    let frame = |n: u32| {
        let mut frame = payload(1, 64)[8..].to_vec();
        let n = n.wrapping_mul(0x9e37_79b9);
        frame[20..22].copy_from_slice(&[0x40, 0]);
        frame[23] = 6;
        frame[26..30].copy_from_slice(&n.to_be_bytes());
        frame[30..34].copy_from_slice(&[192, 0, 2, 1]);
        frame[34..38].copy_from_slice(&n.rotate_left(7).to_be_bytes());
        frame
    };
    (0..256).map(frame).collect()
}

/// An expression of 20 instructions, of which 19 run for most frames.
const EXPRESSION: &str =
    "ip and tcp and not (host 10.0.0.1 or 10.0.0.2 or 10.0.0.3 or 10.0.0.4) and ip[8] != 1 and len < 9000";

/// Rules for one direction, each about a network and a port.
fn rules(count: u32) -> Rules {
    let rule = |n: u32| Rule {
        number: n,
        action: if n.is_multiple_of(2) { Action::Accept } else { Action::Reject },
        direction: None,
        protocol: Some(6),
        source: Some(format!("10.{}.{}.0/24", n % 256, n * 7 % 256).parse().unwrap()),
        destination: Some("0.0.0.0/0".parse().unwrap()),
        source_ports: None,
        ports: Some(Ports { first: (n * 100) as u16, last: (n * 100 + n % 50) as u16 }),
    };
    Rules::new(&(1..=count).map(rule).collect::<Vec<_>>()).unwrap()
}

fn filters(c: &mut Criterion) {
    let frames = conversations();
    let mut group = c.benchmark_group("policy/filters");
    let mut each = |name: &str, decide: &dyn Fn(&[u8]) -> bool| {
        group.bench_function(name, |b| {
            b.iter_custom(|n| {
                let begin = Instant::now();
                let mut frames = frames.iter().cycle();
                for _ in 0..n {
                    black_box(decide(black_box(frames.next().unwrap())));
                }
                begin.elapsed()
            });
        });
    };
    each("nothing", &|frame| frame.is_empty());
    each("layers", &|frame| Layers::of(frame, LinkType::Ethernet).ip.is_some());
    match Expression::new(EXPRESSION) {
        Ok(expression) => each("an expression of 20 instructions", &|frame| {
            expression.takes(LinkType::Ethernet, frame, frame.len() as u32)
        }),
        Err(error) => {
            let mut log = io::stderr().lock();
            writeln!(log, "skipped: an expression of 20 instructions: {error}").unwrap();
        }
    }
    let eni = IpAddr::from([10, 0, 1, 5]);
    for count in [1, 10, 100, 1000] {
        let rules = rules(count);
        let layers: Vec<Layers> = frames.iter().map(|frame| Layers::of(frame, LinkType::Ethernet)).collect();
        group.bench_function(format!("{count} rules"), |b| {
            b.iter_custom(|n| {
                let begin = Instant::now();
                let mut layers = layers.iter().cycle();
                for _ in 0..n {
                    black_box(rules.accepts(eni, black_box(layers.next().unwrap())));
                }
                begin.elapsed()
            });
        });
    }
    group.finish();
}

/// Returns a chunk of one session, full.
fn full_chunk(length: usize) -> Chunk {
    let mut chunk = Chunk::new(0);
    let frame = vec![0x5a; length];
    while chunk.fits(length) {
        chunk.push(SessionId::OVERFLOW, Timestamp::from_ns(1), &frame, length as u32);
    }
    chunk
}

fn hand_over(c: &mut Criterion) {
    c.bench_function("hand_over/chunk to another thread and back", |b| {
        let (sender, receiver) = crossbeam_channel::bounded::<Chunk>(8);
        let (back, returned) = crossbeam_channel::bounded::<Chunk>(8);
        let echo = std::thread::spawn(move || receiver.iter().all(|chunk| back.send(chunk).is_ok()));
        for _ in 0..7 {
            sender.send(Chunk::new(0)).unwrap();
        }
        b.iter(|| sender.send(returned.recv().unwrap()).unwrap());
        drop(sender);
        drop(returned);
        let _ = echo.join();
    });
}

/// Returns a chunk of many sessions in turn, full, and who names them.
fn mixed_chunk(length: usize, sessions: u32) -> (Chunk, Arc<Registry>) {
    let registry = Arc::new(Registry::new(sessions));
    let mut table = SessionTable::new(Arc::clone(&registry));
    let mut chunk = Chunk::new(0);
    let frame = vec![0x5a; length];
    for n in 0.. {
        if !chunk.fits(length) {
            break;
        }
        let key = Session::vxlan(source(), Vni::new(n % sessions).unwrap());
        let session = table.find_and_count(key, length, Timestamp::from_ns(1));
        chunk.push(session, Timestamp::from_ns(1), &frame, length as u32);
    }
    (chunk, registry)
}

fn sink(c: &mut Criterion) {
    let mut group = c.benchmark_group("sink");
    for (length, sessions) in [(64, 1), (64, 256), (1514, 1)] {
        let (chunk, registry) = match sessions {
            1 => (full_chunk(length), Arc::new(Registry::new(1))),
            _ => mixed_chunk(length, sessions),
        };
        let chunk = Arc::new(Lent::from(chunk));
        let frames = u64::from(chunk.frames());
        group.throughput(Throughput::Elements(frames));
        group.bench_function(
            format!("{length}B frames of {sessions} sessions to /dev/shm, per chunk of {frames}"),
            |b| {
                let dir = tempfile::tempdir_in("/dev/shm").unwrap();
                let plan = FilePlan {
                    rotate_size: 64 << 20,
                    open_files: 300,
                    // Bounded space.
                    archive: ArchivePlan {
                        budget: BudgetPlan { keep_bytes: Some(256 << 20), ..BudgetPlan::default() },
                        ..ArchivePlan::default()
                    },
                    ..FilePlan::new(dir.path())
                };
                let mut output = Output { name: "pcap".into(), ends: Vec::new() };
                let mut sink = FileSink::open(plan, Arc::clone(&registry), &mut output, Vec::new()).unwrap();
                b.iter(|| sink.consume(&chunk));
                sink.finish();
            },
        );
    }
    group.finish();
}

/// Returns TCP segments of 64 bytes as frames, in flows that are a power of two.
fn segments(flows: u32) -> Vec<Vec<u8>> {
    let segment = |flow: u32| {
        let mut frame = vec![0x5a; 64];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        frame[14..18].copy_from_slice(&[0x45, 0, 0, 50]);
        frame[18..24].copy_from_slice(&[0, 0, 0x40, 0, 64, 6]);
        frame[26..30].copy_from_slice(&(0x0a00_0000 + flow).to_be_bytes());
        frame[34..38].copy_from_slice(&[0xc0, 0, 0x01, 0xbb]);
        frame[46..48].copy_from_slice(&[0x50, 0x10]);
        frame
    };
    (0..flows).map(segment).collect()
}

fn memory(c: &mut Criterion) {
    let mut group = c.benchmark_group("policy/memory");
    let frames = segments(1);
    let frame = frames[0].as_slice();
    group.bench_function("layers", |b| b.iter(|| Layers::of(black_box(frame), LinkType::Ethernet)));
    let layers = Layers::of(frame, LinkType::Ethernet);
    let slice = Slice { layer: Layer::L4, more: 64 };
    group.bench_function("slice", |b| b.iter(|| slice.keep(black_box(&layers))));

    for (name, number) in [("tag", 1), ("tag of two VLANs", Tag::MOST)] {
        let tag = Tag::new(number).unwrap().bytes();
        let mut tagged = Vec::new();
        group.bench_function(name, |b| {
            b.iter(|| {
                // As many as are injected at a time.
                if tagged.len() > 64 * frame.len() {
                    tagged.clear();
                }
                black_box(tag).append(black_box(frame), &mut tagged);
            });
        });
    }

    let cutoff = Cutoff { flow_limit: Some(5_000_000), tls: Some(65_536) };
    for flows in [1, 4096, 32_768] {
        let frames: Vec<_> = segments(flows);
        let layers: Vec<_> = frames.iter().map(|frame| Layers::of(frame, LinkType::Ethernet)).collect();
        let mut table = Flows::default();
        let mut n = 0;
        group.bench_function(format!("cut-off, {flows} flows"), |b| {
            b.iter(|| {
                n = (n + 1) & (flows as usize - 1);
                let time = Timestamp::from_ns(1_700_000_000_000_000_000);
                let part = table.part(&cutoff, SessionId::OVERFLOW, (&frames[n], 64), black_box(&layers[n]), time);
                assert!(part != Part::Untold);
                part
            });
        });
    }

    let mut table = SessionTable::new(Arc::new(Registry::new(2)));
    let ends = [1, 2].map(|vni| {
        let session = Session::vxlan(source(), Vni::new(vni).unwrap());
        table.find_and_count(session, 64, Timestamp::from_ns(1))
    });
    for (name, packets, length) in [("64B", 1024, 64), ("64B, 40,000 a window", 40_000, 64), ("1514B", 1024, 1514)] {
        // Each packet comes twice, by the two sessions; those of the next round are different ones.
        let mut frames: Vec<_> = (0..packets).flat_map(|_| vec![vec![0x5a; length]; 2]).collect();
        let (one, step) = (Group::new("tenant"), 50_000_000 / packets as u64);
        let (mut n, mut time) = (0, 1_700_000_000_000_000_000u64);
        for frame in &mut frames {
            frame.get_mut(..64).unwrap().copy_from_slice(&segments(1)[0]);
            frame[16..18].copy_from_slice(&((length - 14) as u16).to_be_bytes());
        }
        let layers = Layers::of(&frames[0], LinkType::Ethernet);
        let mut duplicates = 0u64;
        group.bench_function(format!("duplicates, {name}"), |b| {
            b.iter(|| {
                let number = n >> 1;
                let frame = &mut frames[n % (2 * packets)];
                frame[54..62].copy_from_slice(&(number as u64).to_be_bytes());
                time += step / 2;
                let sight = one.see(ends[n & 1], black_box(frame), &layers, Timestamp::from_ns(time));
                n += 1;
                duplicates += u64::from(matches!(sight, Sight::Again(_)));
                sight
            });
        });
        assert!(duplicates >= n as u64 / 2 * 99 / 100, "{duplicates} of {n}");
    }
    group.finish();
}

criterion_group!(benches, frame, plans, hand_over, filters, memory, sink);
criterion_main!(benches);
