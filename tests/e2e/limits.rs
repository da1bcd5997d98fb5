//! Limits of the process send signals that would kill it.

use std::fs;

use crate::captures::{self, assert_open};
use crate::frames;
use crate::hook::publish;
use crate::manifest::assert_verified;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::eventually;
use crate::replay::{self, replay_all};
use crate::sensor::Setup;
use rustix::process::Signal;

#[test]
fn a_file_that_meets_its_limit_is_published_and_what_is_lost_is_counted() {
    if !need::programs(&["prlimit", "capinfos", "tshark"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut state = 1u64;
    let mut byte = || {
        // So that compression gains nothing: Knuth's MMIX.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let mut frames: Vec<_> = (0..1500).map(|n| frames::numbered(n, 1000)).collect();
    frames.iter_mut().for_each(|frame| frame[42..].fill_with(&mut byte));
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    for options in ["--direct off", "--direct on", "--format pcapng", "--compress zstd"] {
        let pair = Pair::new(1600);
        let limit = 1_000_000;
        let sensor = Setup::new(&pair.sensor)
            .through(&format!("prlimit --fsize={limit}:{limit}"))
            .with("--flush 50ms")
            .with(options)
            .start();
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 3000", frames.len());
        // The file of another session is none that has met it.
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--vni 2 --rate 3000", frames.len());
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(3), "{options}: {:#?}", ended.log);
        ended.ledger.assert_closes(&ended.captures);
        let lost = ended.ledger.get("/outputs/pcap/dropped/write_error");
        let written = ended.ledger.written();
        assert!(
            lost > 0 && written > 0 && lost + written == 2 * frames.len() as u64,
            "{options}: {:#}",
            ended.ledger.0
        );
        let files = captures::files(&ended.captures);
        assert!(files.iter().all(|path| path.extension().is_none_or(|ending| ending != "part")), "{files:?}");
        assert!(files.iter().all(|path| fs::metadata(path).unwrap().len() <= limit), "{options}: {files:?}");
        assert_open(&files);
        assert_verified(&ended.captures);
        let named = format!("RLIMIT_FSIZE, `ulimit -f`, LimitFSIZE= of a unit: {limit} bytes");
        assert!(
            ended.log.iter().any(|line| line.contains("File too large") && line.contains(&named)),
            "{:#?}",
            ended.log
        );
        // It was to be seen at the start.
        assert_eq!(ended.messages("--rotate-size").len(), 1, "{:#?}", ended.log);
    }
}

#[test]
fn the_end_of_its_processor_time_ends_it_as_asked() {
    if !need::programs(&["prlimit", "capinfos", "tshark"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(1000);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let pair = Pair::new(1600);
    let sensor = Setup::new(&pair.sensor).through("prlimit --cpu=1:60").start();
    let playing = replay::start(&pair.sender, pair.target(Ip::V4), &[&file], "--loop 1000000 --rate 20000");
    let ended = sensor.ended();
    playing.0.signal(Signal::INT);
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    ended.ledger.assert_closes(&ended.captures);
    let files = captures::files(&ended.captures);
    assert!(files.iter().all(|path| path.extension().is_some_and(|ending| ending == "pcap")), "{files:?}");
    assert_open(&files);
    assert_eq!(ended.messages("SIGXCPU").len(), 1, "{:#?}", ended.log);
    assert_eq!(ended.messages("ended, because the processor time").len(), 1, "{:#?}", ended.log);
}

/// What the sensor does with signals is not for the commands that it runs.
#[test]
fn commands_have_signals_as_by_default() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let said = directory.path().join("said");
    let file = frames::write(directory.path(), "frames.pcap", &frames::assorted(10));
    let pair = Pair::new(1600);
    let command = directory.path().join("command");
    fs::write(&command, format!("#!/bin/sh\ngrep -E '^Sig(Ign|Blk)' /proc/self/status >> {}\n", said.display()))
        .unwrap();
    fs::set_permissions(&command, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let sensor = Setup::new(&pair.sensor).with(&format!("--on-publish {}", command.display())).start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 1000", 10);
    publish(&sensor, 10);
    eventually("the command was run", || fs::read_to_string(&said).is_ok_and(|text| text.lines().count() == 2));
    sensor.stop().assert_all_is_well();
    let text = fs::read_to_string(&said).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    for line in text.lines() {
        let mask = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
        for signal in [Signal::XFSZ, Signal::XCPU, Signal::PIPE, Signal::USR1, Signal::USR2, Signal::TERM] {
            assert_eq!(mask >> (signal.as_raw() - 1) & 1, 0, "{signal:?}: {line}");
        }
    }
}
