//! Rotation under load: one file after the other, and together all that was sent.

use std::collections::BTreeSet;
use std::fs;

use crate::captures::{self, assert_holds, assert_open};
use crate::frames;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::replay::replay_all;
use crate::sensor::Setup;

#[test]
fn by_size() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    const LIMIT: u64 = 1 << 20;
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let (frames, loops) = (frames::assorted(3000), 4);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let sensor = Setup::new(&pair.sensor).with("--rotate-size 1MiB").start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], &format!("--loop {loops}"), loops * frames.len());
    let ended = sensor.stop();
    ended.assert_all_is_well();
    pair.assert_all_arrived(ended.ledger.received(), loops * frames.len());
    let files = captures::files(&ended.captures);
    let total: u64 = 24 + frames.iter().map(|frame| loops as u64 * (16 + frame.len() as u64)).sum::<u64>();
    assert!(files.len() as u64 >= total.div_ceil(LIMIT), "{} files for {total} bytes", files.len());
    for (n, path) in files.iter().enumerate() {
        let size = fs::metadata(path).unwrap().len();
        assert!(size <= LIMIT, "{}: {size} bytes", path.display());
        // No file ends before the next frame would not fit.
        assert!(n + 1 == files.len() || size + 16 + 1500 > LIMIT || files.len() > 16, "{}: {size}", path.display());
    }
    let all: Vec<_> = (0..loops).flat_map(|_| &frames).collect();
    assert_holds("all files", &captures::session(&ended.captures, pair.source(Ip::V4), 1), &all);
    assert_open(&files);
}

#[test]
fn by_time() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let (frames, loops) = (frames::assorted(1000), 9);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let sensor = Setup::new(&pair.sensor).with("--rotate-time 1s --flush 100ms").start();
    let arguments = format!("--loop {loops} --rate 3000");
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], &arguments, loops * frames.len());
    let ended = sensor.stop();
    ended.assert_all_is_well();
    let files = captures::files(&ended.captures);
    assert!(files.len() >= 3, "{} files in 3 s", files.len());
    let mut seconds = BTreeSet::new();
    for path in &files {
        let records = captures::read(path);
        let second = records[0].time / 1_000_000_000;
        assert!(seconds.insert(second), "{}: a second file of second {second}", path.display());
        let others = records.iter().filter(|record| record.time / 1_000_000_000 != second).count();
        assert_eq!(others, 0, "{}: frames of another second than {second}", path.display());
    }
    let all: Vec<_> = (0..loops).flat_map(|_| &frames).collect();
    assert_holds("all files", &captures::session(&ended.captures, pair.source(Ip::V4), 1), &all);
    assert_open(&files);
}
