//! Writes a capture of equal UDP frames for load tests: `cargo run --release --example make_load --
//! FILE LENGTH FRAMES`.
//!
//! 64 inner flows take turns in trains of 16 frames, so that a replay of the file uses about as
//! many outer source ports and sends in batches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_possible_truncation, clippy::print_stderr)]

use std::io::BufWriter;
use std::time::Duration;

use etherparse::PacketBuilder;
use pcap_file::pcap::{PcapPacket, PcapWriter};

const FLOWS: u32 = 64;
const TRAIN: u32 = 16;
/// Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 42;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, file, length, frames] = args.as_slice() else {
        eprintln!("usage: make_load FILE LENGTH FRAMES");
        std::process::exit(2);
    };
    let length: usize = length.parse().unwrap();
    let payload = vec![0x5a; length.checked_sub(HEADERS).expect("at least 42 bytes")];
    let mut writer = PcapWriter::new(BufWriter::new(std::fs::File::create(file).unwrap())).unwrap();
    let mut frame = Vec::new();
    for i in 0..frames.parse::<u32>().unwrap() {
        let flow = i / TRAIN % FLOWS;
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4([10, 0, (flow >> 3) as u8, flow as u8], [10, 1, 0, 1], 64)
            .udp(1024 + flow as u16, 53);
        frame.clear();
        builder.write(&mut frame, &payload).unwrap();
        let time = Duration::from_nanos(u64::from(i));
        writer.write_packet(&PcapPacket::new(time, length as u32, &frame).unwrap()).unwrap();
    }
}
