//! Damaged captures are sent as far as they are whole, and the rest is named. Frames that leave in
//! vain are reported.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::captures::{self, assert_holds};
use crate::frames;
use crate::need;
use crate::netns::{Ip, Pair, address};
use crate::replay::replay;
use crate::sensor::Setup;

/// Frames in each file.
const FRAMES: u32 = 300;
/// Of the damaged one, those before the damage.
const WHOLE: usize = 200;

/// Plays a damaged capture between two good ones. `damage` gets the file's bytes and where record
/// number [`WHOLE`] starts.
fn is_sent_up_to(damage: impl FnOnce(&mut Vec<u8>, usize)) {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(FRAMES);
    let good = frames::write(directory.path(), "good.pcap", &frames);
    let bad = directory.path().join("bad.pcap");
    let offset = 24 + frames[..WHOLE].iter().map(|frame| 16 + frame.len()).sum::<usize>();
    let mut bytes = fs::read(&good).unwrap();
    damage(&mut bytes, offset);
    fs::write(&bad, bytes).unwrap();

    let sensor = Setup::new(&pair.sensor).start();
    let files: Vec<&Path> = [&good, &bad, &good].map(PathBuf::as_path).to_vec();
    let sent = replay(&pair.sender, pair.target(Ip::V4), &files, "");
    assert_eq!(sent.code, Some(4), "{}", sent.text);
    assert!(sent.text.contains(" 1 error in a capture: not played to its end"), "{}", sent.text);
    let place = format!("byte {offset}");
    let named = sent.text.lines().find(|line| line.contains(bad.to_str().unwrap()) && line.contains(&place));
    assert!(named.is_some(), "{} and {place} are to be named: {}", bad.display(), sent.text);
    let whole: Vec<_> = frames.iter().chain(&frames[..WHOLE]).chain(&frames).collect();
    assert_eq!(sent.frames, whole.len() as u64);
    let ended = sensor.stop();
    ended.assert_all_is_well();
    assert_holds("what was whole", &captures::session(&ended.captures, pair.source(Ip::V4), 1), &whole);
}

#[test]
fn cut_in_a_frame() {
    is_sent_up_to(|bytes, offset| bytes.truncate(offset + 16 + 7));
}

#[test]
fn cut_in_a_record_header() {
    is_sent_up_to(|bytes, offset| bytes.truncate(offset + 3));
}

#[test]
fn a_length_that_no_frame_has() {
    is_sent_up_to(|bytes, offset| bytes[offset + 8..offset + 12].copy_from_slice(&[0xff; 4]));
}

/// The kernel takes the frames, and says a good while later that it had nowhere to send them.
#[test]
fn nobody_has_the_address() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    // It asks three times. The replay waits for five seconds, of which a machine that stands still
    // meanwhile may take some.
    for family in ["ipv4", "ipv6"] {
        pair.sender.sysctl(&format!("net.{family}.neigh.eth0.retrans_time_ms"), "500");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = frames::write(directory.path(), "x.pcap", &frames::assorted(3));
    for ip in [Ip::V4, Ip::V6] {
        let sent = replay(&pair.sender, SocketAddr::new(address(ip, 99), 4789), &[&file], "");
        assert_eq!((sent.code, sent.frames), (Some(3), 3), "{}", sent.text);
        assert!(sent.text.contains("No route to host"), "{}", sent.text);
    }
}

/// The kernel goes on asking for the address, and has said nothing yet when the replay ends.
#[test]
fn nobody_has_said_yet_that_nobody_has_the_address() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    pair.sender.sysctl("net.ipv4.neigh.eth0.mcast_solicit", "30");
    let directory = tempfile::tempdir().unwrap();
    let file = frames::write(directory.path(), "x.pcap", &frames::assorted(3));
    let sent = replay(&pair.sender, SocketAddr::new(address(Ip::V4, 99), 4789), &[&file], "");
    assert_eq!((sent.code, sent.frames), (Some(3), 3), "{}", sent.text);
    assert!(sent.text.contains("some datagrams have not left this host"), "{}", sent.text);
}
