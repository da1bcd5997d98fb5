//! Measures what compressing captures costs and saves: `cargo run --release --example compress --
//! FILE...`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_precision_loss, clippy::print_stdout)]

use std::path::Path;
use std::time::{Duration, Instant};

use vxtap::record::compress::{Compression, Compressor};
use vxtap::record::{Timestamp, pcap, read::CaptureReader};
use vxtap::wire::LinkType;

const METHODS: [&str; 4] = ["lz4", "zstd:1", "zstd:3", "zstd:9"];
/// Bytes fed at a time.
const PIECES: [usize; 2] = [64 << 10, 4 << 10];
/// How long each combination is repeated, and how many compressors are made to see what one weighs.
const DURATION: Duration = Duration::from_secs(2);
const COMPRESSORS: usize = 100;

struct Capture {
    file: Vec<u8>,
    frames: usize,
}

fn read(path: &str) -> Capture {
    let mut reader = CaptureReader::open(Path::new(path)).expect("a capture");
    let mut capture = Capture { file: pcap::file_header(LinkType::Ethernet, 262_144).to_vec(), frames: 0 };
    while let Some(frame) = reader.next_frame().expect("a frame") {
        pcap::push(&mut capture.file, Timestamp::from_ns(frame.timestamp), frame.data, frame.orig_len);
        capture.frames += 1;
    }
    capture
}

/// Compresses each capture into a file of its own; the length of all.
fn compress(captures: &[Capture], compression: Compression, piece: usize, out: &mut Vec<u8>) -> usize {
    let mut length = 0;
    for capture in captures {
        out.clear();
        let mut compressor = Compressor::new(compression).unwrap();
        for piece in capture.file.chunks(piece) {
            compressor.feed(piece, out).unwrap();
        }
        compressor.finish(out).unwrap();
        length += out.len();
    }
    length
}

fn resident() -> u64 {
    procfs::process::Process::myself().unwrap().statm().unwrap().resident * procfs::page_size()
}

/// Resident memory of one compressor that has seen all captures.
fn weight(captures: &[Capture], compression: Compression) -> u64 {
    let mut out = Vec::with_capacity(1 << 20);
    let before = resident();
    let mut compressors = Vec::new();
    for _ in 0..COMPRESSORS {
        let mut compressor = Compressor::new(compression).unwrap();
        for piece in captures.iter().flat_map(|capture| capture.file.chunks(PIECES[0])) {
            out.clear();
            compressor.feed(piece, &mut out).unwrap();
        }
        compressors.push(compressor);
    }
    (resident() - before) / COMPRESSORS as u64
}

fn main() {
    let captures: Vec<Capture> = std::env::args().skip(1).map(|path| read(&path)).collect();
    let raw: usize = captures.iter().map(|capture| capture.file.len()).sum();
    let frames: usize = captures.iter().map(|capture| capture.frames).sum();
    assert!(frames > 0, "no frames: name captures as arguments");
    println!("{} captures, {frames} frames, {raw} bytes, {} a frame\n", captures.len(), raw / frames);
    println!("| | fed | size | ns a frame | MB/s | KiB of memory |\n|---|---|---|---|---|---|");
    let mut out = Vec::with_capacity(raw);
    for method in METHODS {
        let compression = method.parse().unwrap();
        let memory = weight(&captures, compression) >> 10;
        for piece in PIECES {
            let (mut rounds, start) = (0, Instant::now());
            let mut length = 0;
            while start.elapsed() < DURATION {
                length = compress(&captures, compression, piece, &mut out);
                rounds += 1;
            }
            let seconds = start.elapsed().as_secs_f64() / f64::from(rounds);
            println!(
                "| {method} | {} KiB | {:.1} % | {:.0} | {:.0} | {memory} |",
                piece >> 10,
                100.0 * length as f64 / raw as f64,
                seconds * 1e9 / frames as f64,
                raw as f64 / seconds / 1e6,
            );
        }
    }
}
