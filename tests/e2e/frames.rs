//! Frames of our own making, and captures of them, come from here.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{PcapPacket, PcapWriter};
use vxtap::wire::{outer, vxlan};

use crate::captures;

/// Conversations that the numbered frames take turns in.
const FLOWS: u32 = 16;

/// Returns a frame of `length` bytes, at least 46: Ethernet, IPv4, UDP of one of sixteen
/// conversations, then its number.
pub(crate) fn numbered(number: u32, length: usize) -> Vec<u8> {
    let flow = (number % FLOWS) as u8;
    let mut frame = vec![2, 0, 0, 0, 9, 2, 2, 0, 0, 0, 9, flow, 0x08, 0x00];
    let total = (length - 14) as u16;
    frame.extend([0x45, 0]);
    frame.extend(total.to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, flow, 198, 51, 100, 1]);
    frame.extend((40_000 + u16::from(flow)).to_be_bytes());
    frame.extend(7u16.to_be_bytes());
    frame.extend((total - 20).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(number.to_be_bytes());
    frame.resize(length, number as u8);
    frame
}

/// Returns a numbered frame of 100 bytes between these hosts.
pub(crate) fn between(number: u32, source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let mut frame = numbered(number, 100);
    frame[26..30].copy_from_slice(&source);
    frame[30..34].copy_from_slice(&destination);
    frame
}

/// Makes numbered frames of many lengths, from the shortest to 1500 bytes.
pub(crate) fn assorted(count: u32) -> Vec<Vec<u8>> {
    (0..count).map(|number| numbered(number, 60 + (number as usize * 389) % 1440)).collect()
}

/// Writes frames to a pcap in `directory`, a millisecond apart.
pub(crate) fn write(directory: &Path, name: &str, frames: &[Vec<u8>]) -> PathBuf {
    let path = directory.join(name);
    let mut writer = PcapWriter::new(BufWriter::new(File::create(&path).unwrap())).unwrap();
    for (number, frame) in frames.iter().enumerate() {
        let time = Duration::from_secs(1_700_000_000) + Duration::from_millis(number as u64);
        writer.write_packet(&PcapPacket::new(time, frame.len() as u32, frame).unwrap()).unwrap();
    }
    path
}

/// Returns the inner frames of a capture of mirror traffic.
pub(crate) fn inner(path: &Path) -> Vec<Vec<u8>> {
    let inner = |frame: &Vec<u8>| {
        let payload = outer::udp(frame).unwrap().payload;
        vxlan::decapsulate(payload, payload.len()).unwrap().frame.to_vec()
    };
    captures::frames(path).iter().map(inner).collect()
}
