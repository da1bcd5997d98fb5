//! Files rotate under load: one comes after the other, and together they hold all that was sent.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::captures::{self, assert_holds, assert_open, assert_shown};
use crate::frames;
use crate::manifest::{assert_verified, events};
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::{eventually, task_named};
use crate::replay::{self, replay_all};
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
    // Frames that come to their file later than this interval, and some more, begin another.
    let sensor = Setup::new(&pair.sensor).with("--rotate-time 1s --flush 5s").start();
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

#[test]
fn by_frames() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    const LIMIT: usize = 700;
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let (frames, loops) = (frames::assorted(3000), 2);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    for format in ["pcap", "pcapng"] {
        let arguments = format!("--rotate-frames {LIMIT} --format {format}");
        let sensor = Setup::new(&pair.sensor).with(&arguments).start();
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--loop 2 --rate 20000", loops * frames.len());
        let ended = sensor.stop();
        ended.assert_all_is_well();
        let files = captures::files(&ended.captures);
        let counts: Vec<usize> = files.iter().map(|path| captures::read(path).len()).collect();
        let mut want = vec![LIMIT; loops * frames.len() / LIMIT];
        want.push(loops * frames.len() % LIMIT);
        assert_eq!(counts, want, "{format}");
        let all: Vec<_> = (0..loops).flat_map(|_| &frames).collect();
        assert_holds("all files", &captures::session(&ended.captures, pair.source(Ip::V4), 1), &all);
        assert_open(&files);
    }
}

/// Files that are written to.
fn parts(captures: &Path) -> BTreeSet<PathBuf> {
    let files = captures::files(captures).into_iter();
    files.filter(|path| path.extension().is_some_and(|extension| extension == "part")).collect()
}

#[test]
fn when_asked_to_under_full_load() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    const VNIS: usize = 4;
    const SIGNALS: usize = 20;
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    // A prime, so that each frame comes to each VNI.
    let frames: Vec<_> = (0..50_021).map(|n| frames::numbered(n, 60)).collect();
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let arguments = "--rotate-size 1MiB --rotate-time 1s --flush 100ms";
    let sensor = Setup::new(&pair.sensor).with(arguments).patient().start();
    let load = format!("--vni 1-{VNIS} --loop 1000 --rate 30000");
    let replay = replay::start(&pair.sender, pair.target(Ip::V4), &[&file], &load);
    sensor.is_writing();
    for n in 0..SIGNALS {
        eventually("all sessions have files that are written to", || parts(&sensor.captures).len() == VNIS);
        let (before, seen) = (parts(&sensor.captures), sensor.lines());
        sensor.process.signal(Signal::USR1);
        // A cut at its time has the same effect, and two signals that nobody has seen yet are one.
        sensor.says(seen, "SIGUSR1");
        let what = format!("signal {n} has them published: {before:?}");
        eventually(&what, || parts(&sensor.captures).is_disjoint(&before));
        let named = |part: &PathBuf| part.with_extension("").exists();
        eventually(&what, || before.iter().all(named));
    }
    replay.0.signal(Signal::INT);
    let sent = replay.ended();
    let ended = sensor.stop();
    ended.assert_all_is_well();
    pair.assert_all_arrived(ended.ledger.received(), sent.frames as usize);
    let asked = ended.messages("SIGUSR1").len();
    assert_eq!(asked, SIGNALS);
    for vni in 1..=VNIS {
        let source = pair.source(Ip::V4);
        let files = captures::files(&captures::session_directory(&ended.captures, source, vni as u32));
        assert!(files.len() > SIGNALS, "VNI {vni}: {} files", files.len());
        let records = captures::session(&ended.captures, source, vni as u32);
        let sent: Vec<_> = (vni - 1..sent.frames as usize).step_by(VNIS).map(|n| &frames[n % frames.len()]).collect();
        assert_holds(&format!("VNI {vni}"), &records, &sent);
    }
    assert_open(&captures::files(&ended.captures));
    assert_verified(&ended.captures);
}

/// Returns a time of the manifest, in nanoseconds since 1970.
fn time(value: &Value) -> i128 {
    value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_nanosecond()
}

#[test]
fn by_time_without_further_traffic() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    const SECOND: i128 = 1_000_000_000;
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(100);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let sensor = Setup::new(&pair.sensor).with("--rotate-time 2s --flush 100ms").start();
    for turn in 1..=2 {
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "", frames.len());
        // In two files, where the cut was due just then.
        eventually("all is published", || {
            let published = events(&sensor.captures, "published");
            let there: u64 = published.iter().map(|line| line["frames"].as_u64().unwrap()).sum();
            there == (turn * frames.len()) as u64 && parts(&sensor.captures).is_empty()
        });
    }
    for line in events(&sensor.captures, "published") {
        let (first, published) = (time(&line["first"]), time(&line["time"]));
        let cut = (first / (2 * SECOND) + 1) * 2 * SECOND;
        // Frames of before the cut may come for as long as the flush interval, and the threads may
        // have to wait for a core.
        assert!((cut..cut + 20 * SECOND).contains(&published), "cut at {cut}, published at {published}: {line:#}");
    }
    let ended = sensor.stop();
    ended.assert_all_is_well();
}

#[test]
fn when_asked_to_while_idle() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(100);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let sensor = Setup::new(&pair.sensor).with("--flush 100ms").start();
    // Nothing has come, and there is nothing to complete. What has heard too late of it would cut
    // what comes then.
    let nothing_to_complete = |seen| {
        sensor.process.signal(Signal::USR1);
        sensor.says(seen, "SIGUSR1");
        task_named(sensor.process.pid(), "vxtap").rests();
        task_named(sensor.process.pid(), "vxtap-pcap").comes_round();
    };
    nothing_to_complete(0);
    for turn in 1..=2 {
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--vni 1-5", frames.len());
        // All of it: what comes to its file after the signal begins another.
        let written = || captures::files(&sensor.captures).iter().map(|path| captures::readable(path)).sum::<usize>();
        eventually("all is in the files", || written() == turn * frames.len());
        let seen = sensor.lines();
        sensor.process.signal(Signal::USR1);
        sensor.says(seen, "SIGUSR1");
        eventually("the files are published", || parts(&sensor.captures).is_empty());
        nothing_to_complete(sensor.lines());
    }
    let ended = sensor.stop();
    ended.assert_all_is_well();
    let files = captures::files(&ended.captures);
    assert_eq!(files.len(), 10, "{files:?}");
    assert_open(&files);
}

#[test]
fn a_file_that_is_written_to_can_be_read() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    for format in ["pcap", "pcap-us", "pcapng"] {
        let pair = Pair::new(1600);
        let directory = tempfile::tempdir().unwrap();
        let frames = frames::assorted(500);
        let file = frames::write(directory.path(), "frames.pcap", &frames);
        let sensor = Setup::new(&pair.sensor).with(&format!("--flush 200ms --format {format}")).start();
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "", frames.len());
        let part = || parts(&sensor.captures).pop_first();
        // Between its creation and the first bytes a file is empty.
        sensor.is_writing();
        eventually("it is flushed", || part().is_some_and(|part| captures::readable(&part) == frames.len()));
        assert_shown(&part().unwrap());
        sensor.stop().assert_all_is_well();
    }
}
