//! Writes a capture of UDP frames for load tests: `cargo run --release --example make_load -- FILE
//! LENGTH FRAMES [ENCAPSULATION]`.
//!
//! All frames have LENGTH bytes; with `imix` in its place 7 of 12 have 64, 4 have 594 and 1 has
//! 1514. With an encapsulation each is wrapped as a mirror would send it over IPv4: `vxlan` and the
//! others of `vxtap replay --as`. GRE goes over IP itself. `gre-ip` is GRE around the packet
//! alone, as between routers.
//!
//! 64 inner flows take turns in trains of 16 frames, so that a replay of the file uses about as
//! many outer source ports and sends in batches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_possible_truncation, clippy::print_stderr)]

use std::io::BufWriter;
use std::time::Duration;

use clap::ValueEnum;
use etherparse::{IpNumber, PacketBuilder};
use pcap_file::pcap::{PcapPacket, PcapWriter};
use vxtap::replay::Wrap;
use vxtap::wire::Vni;

const FLOWS: u32 = 64;
const TRAIN: u32 = 16;
/// Lengths of the simple IMIX, by their share.
const IMIX: [usize; 12] = [64, 594, 64, 64, 594, 64, 1514, 64, 594, 64, 64, 594];
/// Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 42;
const ETHERNET: usize = 14;
/// GRE without any option, in front of IPv4.
const GRE_IP: [u8; 4] = [0, 0, 8, 0];

/// What is around a frame.
#[derive(Clone, Copy)]
enum Encapsulation {
    None,
    Mirror(Wrap),
    GreIp,
}

impl Encapsulation {
    fn parse(text: &str) -> Result<Encapsulation, String> {
        match text {
            "gre-ip" => Ok(Encapsulation::GreIp),
            text => Wrap::from_str(text, false).map(Encapsulation::Mirror),
        }
    }

    /// Writes the frame with this number of this flow, with what is around it.
    fn wrap(self, number: u32, flow: u32, frame: &[u8], to: &mut Vec<u8>) {
        let builder =
            PacketBuilder::ethernet2([2, 0, 0, 0, 0, 3], [2, 0, 0, 0, 0, 4]).ipv4([192, 0, 2, 1], [192, 0, 2, 2], 255);
        match self {
            Encapsulation::None => to.extend_from_slice(frame),
            Encapsulation::Mirror(wrap) => {
                let (header, wrapped) = wrap.wrap(Vni::new(7).unwrap(), number, frame).unwrap();
                let payload = [header.as_ref(), wrapped].concat();
                if wrap.goes_over_ip() {
                    builder.write(to, IpNumber::GRE, &payload).unwrap();
                } else {
                    builder.udp(50_000 + flow as u16, wrap.port()).write(to, &payload).unwrap();
                }
            }
            Encapsulation::GreIp => {
                let payload = [&GRE_IP[..], &frame[ETHERNET..]].concat();
                builder.write(to, IpNumber::GRE, &payload).unwrap();
            }
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let parsed = match args.as_slice() {
        [_, file, length, frames] => Ok((file, length, frames, Encapsulation::None)),
        [_, file, length, frames, wrap] => Encapsulation::parse(wrap).map(|wrap| (file, length, frames, wrap)),
        _ => Err("three or four arguments are needed".into()),
    };
    let (file, length, frames, encapsulation) = parsed.unwrap_or_else(|error| {
        eprintln!("{error}\nusage: make_load FILE LENGTH|imix FRAMES [ENCAPSULATION]");
        std::process::exit(2);
    });
    let lengths: Vec<usize> = match length.as_str() {
        "imix" => IMIX.to_vec(),
        length => vec![length.parse().unwrap()],
    };
    let mut writer = PcapWriter::new(BufWriter::new(std::fs::File::create(file).unwrap())).unwrap();
    let (mut frame, mut outer) = (Vec::new(), Vec::new());
    for i in 0..frames.parse::<u32>().unwrap() {
        let flow = i / TRAIN % FLOWS;
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4([10, 0, (flow >> 3) as u8, flow as u8], [10, 1, 0, 1], 64)
            .udp(1024 + flow as u16, 53);
        let payload = vec![0x5a; lengths[i as usize % lengths.len()].checked_sub(HEADERS).expect("at least 42 bytes")];
        frame.clear();
        builder.write(&mut frame, &payload).unwrap();
        outer.clear();
        encapsulation.wrap(i, flow, &frame, &mut outer);
        let time = Duration::from_nanos(u64::from(i));
        writer.write_packet(&PcapPacket::new(time, outer.len() as u32, &outer).unwrap()).unwrap();
    }
}
