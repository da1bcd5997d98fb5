//! Writes `fixtures/`: mirror traffic, what a correct decapsulator makes of it, and traffic for
//! demonstrations.
//!
//! ```text
//! cargo run --example make_fixtures [DIRECTORY]
//! ```
//!
//! Every byte is a function of this source: no clock, no randomness, so a second run changes
//! nothing and `tests/golden.rs` can ask whether the committed files are current. Inner frames are
//! built by etherparse, outer packets by pnet, files by pcap-file, and nothing here uses the
//! sensor's own code: what it is judged by must not be its own opinion.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]
#![allow(clippy::print_stdout)]

mod demo;
mod frames;
mod mirror;
mod tunnels;

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use pcap_file::{
    DataLink, Endianness,
    pcap::{PcapHeader, PcapPacket, PcapTsResolution, PcapWriter},
};

/// 2023-11-14 22:13:20 UTC, in ns: when everything here happens.
pub const START: u64 = 1_700_000_000 * 1_000_000_000;

/// One record of a capture.
#[derive(Debug, Clone)]
pub struct Record {
    /// Nanoseconds since 1970.
    pub time: u64,
    /// Length before it was cut; never below `bytes.len()`.
    pub orig_len: u32,
    /// The Ethernet frame.
    pub bytes: Vec<u8>,
}

impl Record {
    /// Makes a frame that is all there.
    pub fn whole(time: u64, bytes: Vec<u8>) -> Self {
        Record { time, orig_len: bytes.len() as u32, bytes }
    }
}

/// Writes a little-endian pcap with nanosecond timestamps.
pub fn write_pcap(path: &Path, records: &[Record]) {
    let header = PcapHeader {
        version_major: 2,
        version_minor: 4,
        ts_correction: 0,
        ts_accuracy: 0,
        snaplen: 262_144,
        datalink: DataLink::ETHERNET,
        ts_resolution: PcapTsResolution::NanoSecond,
        endianness: Endianness::Little,
    };
    let mut writer = PcapWriter::with_header(BufWriter::new(File::create(path).unwrap()), header).unwrap();
    for record in records {
        let time = Duration::from_nanos(record.time);
        writer.write_packet(&PcapPacket::new(time, record.orig_len, record.bytes.as_slice()).unwrap()).unwrap();
    }
    writer.into_inner().flush().unwrap();
}

/// Numbers the lines of `expected.tsv` about the frames of a capture.
fn numbered(name: &str, lines: &[String]) -> String {
    (1..).zip(lines).map(|(number, line)| format!("{name}\t{number}\t{line}\n")).collect()
}

/// Writes everything below this directory.
pub fn generate(directory: &Path) {
    for folder in ["outer", "inner", "tunnels", "demo"] {
        fs::create_dir_all(directory.join(folder)).unwrap();
    }
    let mut expected = String::from(mirror::EXPECTED_HEADER);
    for (name, scene) in mirror::scenes() {
        write_pcap(&directory.join(format!("outer/{name}.pcap")), &scene.outer);
        write_pcap(&directory.join(format!("inner/{name}.pcap")), &scene.inner);
        expected += &numbered(name, &scene.lines);
    }
    fs::write(directory.join("expected.tsv"), expected).unwrap();
    let mut expected = String::from(tunnels::EXPECTED_HEADER);
    for (name, tunnel) in tunnels::captures() {
        write_pcap(&directory.join(format!("tunnels/{name}.pcap")), &tunnel.outer);
        expected += &numbered(name, &tunnel.lines);
    }
    fs::write(directory.join("tunnels/expected.tsv"), expected).unwrap();
    for (name, records) in demo::captures() {
        write_pcap(&directory.join(format!("demo/{name}.pcap")), &records);
    }
}

fn main() {
    let directory = std::env::args_os()
        .nth(1)
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures"), PathBuf::from);
    generate(&directory);
    println!("wrote {}", directory.display());
}
