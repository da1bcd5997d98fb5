//! What vxtap's own code costs: `cargo bench --bench pipeline`.
//!
//! - `frame`: one datagram through decapsulation, routing and the copy into a chunk, as the worker does it;
//! - `hand_over`: a chunk to the sink's thread and back;
//! - `sink`: chunks into a file in /dev/shm.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use vxtap::archive::ArchivePlan;
use vxtap::lane::{Chunk, LanePlan, Lent, lanes};
use vxtap::ledger::{Ledger, Output, OutputCounters};
use vxtap::pipeline::decap::ReservedBits;
use vxtap::pipeline::worker::Step;
use vxtap::record::Timestamp;
use vxtap::record::format::Format;
use vxtap::route::{Registry, Selection, SessionId, SessionTable};
use vxtap::sink::Sink;
use vxtap::sink::file::{FilePlan, FileSink};
use vxtap::source::Datagram;
use vxtap::storage::Direct;
use vxtap::wire::{Vni, vxlan};

/// Frame lengths that occur in turn.
const MIXES: [(&str, &[usize]); 4] = [
    ("64B", &[64]),
    // 7 : 4 : 1, the "simple IMIX"
    ("IMIX", &[64, 64, 576, 64, 576, 64, 1514, 64, 576, 64, 576, 64]),
    ("1514B", &[1514]),
    ("8900B", &[8900]),
];

/// The UDP payload of a mirrored IPv4 frame.
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

fn frame(c: &mut Criterion) {
    for sessions in [1u32, 256] {
        let mut group = c.benchmark_group(format!("frame/{sessions}-sessions"));
        for (name, lengths) in MIXES {
            let counters = Arc::new(OutputCounters::default());
            let plan = LanePlan { chunks: 8, linger: Duration::from_secs(1), snaplen: 262_144, sessions: 1024 };
            let (lanes, inbox) = lanes(plan, vec![counters]);
            let table = SessionTable::new(Arc::new(Registry::new(1024)));
            let lanes = lanes.into_iter().map(|lane| (Selection::default(), lane)).collect();
            let mut step = Step::new(ReservedBits::Accept, None, table, lanes, Ledger::default().worker());
            // A batch lies in slots as the receiving socket leaves it: it is in the cache.
            let batch: Vec<Vec<u8>> =
                (0..64).map(|i| payload(i as u32 * 7 % sessions, lengths[i % lengths.len()])).collect();
            let mut time = 0;
            group.throughput(Throughput::Bytes(batch.iter().map(|p| p.len() as u64 - 8).sum::<u64>() / 64));
            group.bench_function(name, |b| {
                b.iter_custom(|n| {
                    let batches = n.div_ceil(64);
                    let begin = Instant::now();
                    for _ in 0..batches {
                        for payload in &batch {
                            time += 1;
                            let timestamp = Timestamp::from_ns(time);
                            step.datagram(black_box(&Datagram {
                                payload,
                                truncated: false,
                                source: source(),
                                timestamp,
                            }));
                        }
                        // Chunks go straight back, in this thread.
                        while let Ok(chunk) = inbox.full.try_recv() {
                            drop(inbox.lend(chunk));
                        }
                    }
                    begin.elapsed().mul_f64(n as f64 / (batches * 64) as f64)
                });
            });
        }
        group.finish();
    }
}

/// A chunk of one session, full.
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

fn sink(c: &mut Criterion) {
    let mut group = c.benchmark_group("sink");
    for length in [64, 1514] {
        let chunk = Arc::new(Lent::from(full_chunk(length)));
        let frames = u64::from(chunk.frames());
        group.throughput(Throughput::Elements(frames));
        group.bench_function(format!("{length}B frames to /dev/shm, per chunk of {frames}"), |b| {
            let dir = tempfile::tempdir_in("/dev/shm").unwrap();
            let plan = FilePlan {
                directory: dir.path().to_path_buf(),
                rotate_size: 64 << 20,
                rotate_frames: None,
                rotate_time: Duration::from_secs(3600),
                snaplen: 262_144,
                linger: Duration::from_secs(1),
                buffer_memory: 16 << 20,
                open_files: 16,
                format: Format::Pcap,
                compression: None,
                direct: Direct::Off,
                archive: ArchivePlan::default(),
            };
            let mut output = Output { name: "pcap".into(), ends: Vec::new() };
            let mut sink = FileSink::open(plan, Arc::new(Registry::new(1)), &mut output, Vec::new()).unwrap();
            let mut written = 0;
            b.iter_batched(
                || {
                    // Bounded space: published files go before there are many.
                    written += 1;
                    if written % 1000 == 0 {
                        for file in std::fs::read_dir(dir.path().join("overflow")).unwrap() {
                            let file = file.unwrap().path();
                            if file.extension().is_some_and(|e| e == "pcap") {
                                std::fs::remove_file(file).unwrap();
                            }
                        }
                    }
                },
                |()| sink.consume(&chunk),
                BatchSize::PerIteration,
            );
            sink.finish();
        });
    }
    group.finish();
}

criterion_group!(benches, frame, hand_over, sink);
criterion_main!(benches);
