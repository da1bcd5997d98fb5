//! No packet of real captures is a duplicate that was delivered once, and each that was delivered
//! twice is one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::cast_possible_truncation)]

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pcap_parser::PcapCapture;
use vxtap::record::Timestamp;
use vxtap::route::dedup::{Group, Sight};
use vxtap::route::{Registry, SessionId, SessionTable};
use vxtap::session::Session;
use vxtap::wire::layers::Layers;
use vxtap::wire::{LinkType, Vni, outer, vxlan};

#[path = "shared/host.rs"]
mod host;

/// A capture: its frames with their times in nanoseconds.
type Capture = (PathBuf, Vec<(u64, Vec<u8>)>);

/// Returns the captures of Ethernet below a folder: the frames with their times, and the inner ones
/// of those that have some.
fn captures(folder: &Path) -> Vec<Capture> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(captures(&path));
        } else if let Ok(capture) = PcapCapture::from_file(&fs::read(&path).unwrap())
            && capture.header.network.0 == 1
        {
            let unit = if capture.header.is_nanosecond_precision() { 1 } else { 1000 };
            let mut frames = Vec::new();
            for block in &capture.blocks {
                let time = u64::from(block.ts_sec) * 1_000_000_000 + u64::from(block.ts_usec) * unit;
                let bytes = &block.data[..(block.caplen as usize).min(block.data.len())];
                let inner = outer::udp(bytes)
                    .ok()
                    .and_then(|udp| vxlan::decapsulate(udp.payload, udp.payload.len()).ok())
                    .map(|inner| inner.frame);
                frames.extend([Some(bytes), inner].into_iter().flatten().map(|frame| (time, frame.to_vec())));
            }
            found.push((path, frames));
        }
    }
    found
}

fn sessions() -> [SessionId; 2] {
    let mut table = SessionTable::new(Arc::new(Registry::new(2)));
    [1, 2].map(|host| {
        let session = Session::vxlan(Ipv4Addr::new(192, 0, 2, host).to_ipv6_mapped(), Vni::MAX);
        table.find_and_count(session, 64, Timestamp::from_ns(1))
    })
}

#[test]
fn of_real_captures_nothing_is_a_duplicate_but_a_second_copy() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")];
    folders.extend(host::corpus());
    let ends = sessions();
    let (mut looked_at, mut copies) = (0, 0);
    for (path, frames) in folders.iter().flat_map(|folder| captures(folder)) {
        // Each packet is delivered once, by the end that sent it; many are alike byte by byte.
        let once = Group::new("once");
        for (time, frame) in &frames {
            let layers = Layers::of(frame, LinkType::Ethernet);
            let Some(ip) = layers.ip else { continue };
            let end = ends[usize::from(ip.source > ip.destination)];
            let sight = once.see(end, frame, &layers, Timestamp::from_ns(*time));
            assert_eq!(sight, Sight::New, "{}", path.display());
            looked_at += 1;
        }
        // Both ends deliver all of it, the second a little later.
        let twice = Group::new("twice");
        for (number, (_, frame)) in (1..).zip(&frames) {
            let layers = Layers::of(frame, LinkType::Ethernet);
            let sights = [(0, ends[0]), (900_000, ends[1])]
                .map(|(lag, end)| twice.see(end, frame, &layers, Timestamp::from_ns(number * 1_000_000 + lag)));
            assert_eq!(sights[0], Sight::New, "{}", path.display());
            // What is cut to its headers is not compared.
            let is_told = layers.ip.is_some_and(|ip| ip.end <= frame.len() || frame.len() >= ip.payload + 16);
            if is_told {
                assert_eq!(sights[1], Sight::Again(ends[0]), "{}", path.display());
                copies += 1;
            }
        }
    }
    eprintln!("looked at {looked_at} packets, and at {copies} copies");
    assert!(looked_at >= 100 && copies >= 100, "only {looked_at} and {copies}");
}
