//! Captures are played as mirror traffic, and what comes out is what they hold.

use std::fs;
use std::path::{Path, PathBuf};

use crate::captures::{self, assert_holds, assert_open};
use crate::frames;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::replay::{replay, replay_all};
use crate::sensor::Setup;
use crate::tcpdump::Tcpdump;

/// The ways to send: over which IP version, with which UDP checksum.
const WAYS: [(Ip, &str); 4] = [(Ip::V4, ""), (Ip::V4, "--checksum"), (Ip::V6, ""), (Ip::V6, "--checksum")];

#[test]
fn aws_traffic_mirroring() {
    let (true, Some(corpus)) = (need::programs(&["ethtool", "tcpdump", "capinfos", "tshark"]), need::corpus()) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let inner = frames::inner(&corpus.join("vxlan/aws-traffic-mirror.pcap"));
    assert_eq!(inner.len(), 100);
    let file = frames::write(directory.path(), "inner.pcap", &inner);
    let pair = Pair::new(1600);
    // With no offload, tcpdump sees the checksums, and the receiving kernel checks them.
    pair.sender.no_offloads("eth0");
    let sensor = Setup::new(&pair.sensor).start();
    let vni = |way: usize| 5_569_041 + way as u32;
    for (way, (ip, arguments)) in WAYS.into_iter().enumerate() {
        let tcpdump = Tcpdump::start(&pair.sender, "eth0", "udp dst port 4789");
        replay_all(&pair.sender, pair.target(ip), &[&file], &format!("--vni {} {arguments}", vni(way)), inner.len());
        let outer = tcpdump.frames();
        assert_eq!(outer.len(), inner.len());
        // Behind Ethernet and IP, the last two bytes of the UDP header.
        let at = 14 + if ip == Ip::V4 { 20 } else { 40 } + 6;
        let zero = outer.iter().filter(|frame| frame[at..at + 2] == [0, 0]).count();
        assert_eq!(zero, if arguments.is_empty() { inner.len() } else { 0 }, "zero checksums, {ip:?} {arguments}");
    }
    let ended = sensor.stop();
    ended.assert_all_is_well();
    pair.assert_all_arrived(ended.ledger.received(), WAYS.len() * inner.len());
    for (way, (ip, arguments)) in WAYS.into_iter().enumerate() {
        let records = captures::session(&ended.captures, pair.source(ip), vni(way));
        assert_holds(&format!("{ip:?} {arguments}"), &records, &inner);
    }
    assert_open(&captures::files(&ended.captures));
}

#[test]
fn all_ordinary_captures() {
    let (true, Some(corpus)) = (need::programs(&["capinfos", "tshark"]), need::corpus()) else { return };
    let files = captures::files(&corpus.join("inner"));
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let frames: Vec<_> = files.iter().flat_map(|file| captures::frames(file)).collect();
    assert!(frames.iter().any(|frame| frame.len() > 9000), "some are to be fragmented");
    let pair = Pair::new(1500);
    let sensor = Setup::new(&pair.sensor).start();
    for ip in [Ip::V4, Ip::V6] {
        replay_all(&pair.sender, pair.target(ip), &files, "--vni 0 --rate 20000", frames.len());
    }
    let ended = sensor.stop();
    ended.assert_all_is_well();
    pair.assert_all_arrived(ended.ledger.received(), 2 * frames.len());
    for ip in [Ip::V4, Ip::V6] {
        let records = captures::session(&ended.captures, pair.source(ip), 0);
        assert_holds(&format!("{ip:?}"), &records, &frames);
        // The mirror cut none of them; what the capture cut may be told again from the inner IP
        // header.
        assert!(records.iter().all(|record| record.orig_len as usize >= record.frame.len()));
    }
    assert_open(&captures::files(&ended.captures));
}

#[test]
fn outer_fragments_are_put_together() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1500);
    let directory = tempfile::tempdir().unwrap();
    // Around the MTU less 50 or 70 bytes of headers, jumbo frames, and the largest that UDP over
    // IPv4 takes.
    let sizes = [60, 1400, 1429, 1430, 1431, 1449, 1450, 1451, 1500, 2900, 8961, 9000, 9015, 20_000, 32_000, 65_499];
    let frames: Vec<_> = (0..10 * sizes.len()).map(|n| frames::numbered(n as u32, sizes[n % sizes.len()])).collect();
    let file = frames::write(directory.path(), "large.pcap", &frames);
    let sensor = Setup::new(&pair.sensor).with("--workers 2").start();
    for (way, (ip, arguments)) in WAYS.into_iter().enumerate() {
        let arguments = format!("--vni {way} --rate 1000 {arguments}");
        replay_all(&pair.sender, pair.target(ip), &[&file], &arguments, frames.len());
    }
    let ended = sensor.stop();
    ended.assert_all_is_well();
    pair.assert_all_arrived(ended.ledger.received(), 4 * frames.len());
    assert_eq!(ended.ledger.get("/cut_by_mirror"), 0);
    for (way, (ip, arguments)) in WAYS.into_iter().enumerate() {
        let records = captures::session(&ended.captures, pair.source(ip), way as u32);
        assert_holds(&format!("{ip:?} {arguments}"), &records, &frames);
    }
}

#[test]
fn replay_counts_frames_that_fit_no_datagram() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(9001);
    let directory = tempfile::tempdir().unwrap();
    let sizes = [100, 65_499, 65_500, 65_519, 65_520, 65_535, 100];
    let frames: Vec<_> = sizes.iter().enumerate().map(|(n, size)| frames::numbered(n as u32, *size)).collect();
    let file = frames::write(directory.path(), "giants.pcap", &frames);
    let sensor = Setup::new(&pair.sensor).start();
    let mut received = 0;
    for (ip, largest) in [(Ip::V4, 65_499), (Ip::V6, 65_519)] {
        let fit = sizes.iter().filter(|size| **size <= largest).count();
        let sent = replay(&pair.sender, pair.target(ip), &[&file], "");
        assert_eq!((sent.code, sent.frames), (Some(3), fit as u64), "{}", sent.text);
        let told = format!("{} frames not sent: too large", sizes.len() - fit);
        assert!(sent.text.contains(&told), "{told}: {}", sent.text);
        received += fit;
    }
    let ended = sensor.stop();
    ended.assert_all_is_well();
    pair.assert_all_arrived(ended.ledger.received(), received);
    for (ip, largest) in [(Ip::V4, 65_499), (Ip::V6, 65_519)] {
        let fit: Vec<_> = frames.iter().filter(|frame| frame.len() <= largest).collect();
        assert_holds(&format!("{ip:?}"), &captures::session(&ended.captures, pair.source(ip), 1), &fit);
    }
}

#[test]
fn frames_of_the_mirror_are_cut_at_the_snap_length_and_say_so() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(500);
    let file = frames::write(directory.path(), "whole.pcap", &frames);
    let sensor = Setup::new(&pair.sensor).with("--snaplen 128").start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 20000", frames.len());
    let ended = sensor.stop();
    ended.assert_all_is_well();
    let records = captures::session(&ended.captures, pair.source(Ip::V4), 1);
    let cut: Vec<&[u8]> = frames.iter().map(|frame| &frame[..frame.len().min(128)]).collect();
    assert_holds("snapped", &records, &cut);
    assert!(records.iter().zip(&frames).all(|(record, frame)| record.orig_len as usize == frame.len()));
    let snapped = frames.iter().filter(|frame| frame.len() > 128).count();
    assert_eq!(ended.ledger.get("/outputs/pcap/snapped"), snapped as u64);
    for path in captures::files(&ended.captures) {
        assert_eq!(fs::read(path).unwrap()[16..20], 128u32.to_le_bytes(), "snap length in the file's header");
    }
}
