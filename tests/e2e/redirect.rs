//! The mirror interface without user space: the program redirects, what it leaves is injected, and the ledger has both.

use std::path::{Path, PathBuf};

use crate::captures::{self, assert_holds, assert_same};
use crate::frames;
use crate::mirror::{assert_deaf, ordinary};
use crate::need;
use crate::netns::{Ip, Pair};
use crate::replay::replay_all;
use crate::sensor::{Ended, Sensor, Setup};
use crate::tcpdump::Tcpdump;

/// A sensor that redirects.
const REDIRECT: &str = "--source bpf --interface eth0 --tap mirror0 --tap-mode redirect";
/// With files and without.
const WAYS: [&str; 2] = ["", "--no-write"];

fn sensor(pair: &Pair, arguments: &str) -> Sensor {
    Setup::new(&pair.sensor).with(REDIRECT).with(arguments).start()
}

/// What the ledger says of the program.
#[track_caller]
fn fast_path(ended: &Ended, what: &str) -> u64 {
    ended.ledger.get(&format!("/fast_path/{what}"))
}

/// Fails unless all that was received is in the interface, and the files where there are some, and the ledger says so.
#[track_caller]
fn assert_all_is_well(ended: &Ended, arguments: &str) {
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    ended.ledger.assert_output_closes("mirror0");
    assert_eq!(ended.ledger.get("/outputs/mirror0/written"), ended.ledger.received(), "{:#}", ended.ledger.0);
    let in_sessions: u64 = ended.ledger.sessions().iter().map(|(_, _, frames)| frames).sum();
    assert_eq!(in_sessions + ended.ledger.get("/overflow/frames"), ended.ledger.received(), "{:#}", ended.ledger.0);
    if !arguments.contains("--no-write") {
        ended.assert_all_is_well();
    }
}

/// Whether the mirror sends this frame in one piece, over a cable for packets of `mtu` bytes.
fn is_whole(frame: &[u8], mtu: usize) -> bool {
    frame.len() + 8 + 8 + 40 <= mtu
}

/// Fails unless these frames were seen, unaltered, and in order as far as they are redirected: one that comes in fragments takes its time.
#[track_caller]
fn assert_seen(what: &str, seen: &[Vec<u8>], sent: &[Vec<u8>], mtu: usize) {
    let whole = |frames: &[Vec<u8>]| frames.iter().filter(|frame| is_whole(frame, mtu)).cloned().collect::<Vec<_>>();
    assert_same(what, &whole(seen), &whole(sent));
    let sorted = |frames: &[Vec<u8>]| {
        let mut frames = frames.to_vec();
        frames.sort();
        frames
    };
    assert_same(&format!("{what}, with fragments"), &sorted(seen), &sorted(sent));
}

#[test]
fn a_tap_shows_the_frames_that_were_sent() {
    let (true, Some(corpus)) = (need::programs(&["tcpdump"]), need::corpus()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let aws = frames::inner(&corpus.join("vxlan/aws-traffic-mirror.pcap"));
    let aws_file = frames::write(directory.path(), "aws.pcap", &aws);
    let (files, mut all) = ordinary(&corpus);
    let sent: Vec<&Path> = [&aws_file].into_iter().chain(&files).map(PathBuf::as_path).collect();
    all.splice(0..0, aws);
    let bytes: usize = all.iter().map(Vec::len).sum();
    for (ip, arguments) in [Ip::V4, Ip::V6].into_iter().flat_map(|ip| WAYS.map(|arguments| (ip, arguments))) {
        let pair = Pair::new(9001);
        let sensor = sensor(&pair, arguments);
        let tcpdump = Tcpdump::start(&pair.sensor, "mirror0", "");
        replay_all(&pair.sender, pair.target(ip), &sent, "--rate 5000", all.len());
        assert_seen(&format!("tcpdump on the tap, {ip:?} {arguments}"), &tcpdump.frames(), &all, 9001);
        let ended = sensor.stop();
        assert_all_is_well(&ended, arguments);
        pair.assert_all_arrived(ended.ledger.received(), all.len());
        let whole = all.iter().filter(|frame| is_whole(frame, 9001)).count() as u64;
        assert_eq!(fast_path(&ended, "redirected"), whole, "{:#}", ended.ledger.0);
        assert_eq!(ended.ledger.get("/outputs/mirror0/written_bytes"), bytes as u64);
        assert_eq!(ended.ledger.sessions(), [(pair.source(ip), 1, all.len() as u64)]);
        // With files each has a copy; without, the first of the session, by which it is known at once.
        let copies = if arguments.is_empty() { whole } else { 1 };
        assert_eq!(fast_path(&ended, "taken"), copies, "{:#}", ended.ledger.0);
        if arguments.is_empty() {
            assert_holds("files", &captures::session(&ended.captures, pair.source(ip), 1), &all);
        }
    }
}

#[test]
fn the_host_does_not_react() {
    if !need::programs(&["tcpdump"]) {
        return;
    }
    let ended = assert_deaf(&format!("{REDIRECT} --no-write"));
    assert_all_is_well(&ended, "--no-write");
    assert_eq!(fast_path(&ended, "redirected"), ended.ledger.received());
}
