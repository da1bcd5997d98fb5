//! A crash left files whose headers are damaged: other programs open what is published of them.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use vxtap::record::compress::Compressor;

use crate::captures::{self, assert_counted, assert_same, assert_shown, session_directory, tshark};
use crate::frames;
use crate::manifest::{assert_verified, events};
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::{eventually, run};
use crate::replay::replay_all;
use crate::sensor::Setup;

const FRAMES: u32 = 20;

/// Returns what a sensor that was killed left: the bytes of its part file in this format, all
/// frames included.
fn left(pair: &Pair, capture: &Path, format: &str) -> Vec<u8> {
    let mut sensor = Setup::new(&pair.sensor).with(&format!("--flush 100ms --format {format}")).start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[capture], "", FRAMES as usize);
    let part = || captures::files(&sensor.captures).into_iter().next();
    eventually("all is written", || part().is_some_and(|part| captures::readable(&part) == FRAMES as usize));
    let part = part().unwrap();
    sensor.process.signal(Signal::KILL);
    sensor.process.wait();
    fs::read(part).unwrap()
}

/// Bytes in front of the first record.
fn header(file: &[u8]) -> usize {
    let field = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    if field(0) == 0x0a0d_0d0a { field(4) + field(field(4) + 4) } else { 24 }
}

fn compress(raw: &[u8], compression: &str) -> Vec<u8> {
    if compression.is_empty() {
        return raw.to_vec();
    }
    let (mut compressor, mut out) = (Compressor::new(compression.parse().unwrap()).unwrap(), Vec::new());
    compressor.feed(raw, &mut out).unwrap();
    // The crash came before the end of the stream.
    out
}

#[test]
fn of_a_damaged_header_what_is_ours_is_mended() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(FRAMES);
    let capture = frames::write(directory.path(), "frames.pcap", &frames);
    for (format, ending) in [("pcap", "pcap"), ("pcap-us", "pcap"), ("pcapng", "pcapng")] {
        let whole = left(&pair, &capture, format);
        let captures = directory.path().join(format);
        let session = session_directory(&captures, pair.source(Ip::V4), 1);
        fs::create_dir_all(&session).unwrap();
        let name = session.file_name().unwrap().to_str().unwrap();
        let mut files = 0;
        for (compression, more) in [("", ""), ("lz4", ".lz4"), ("zstd", ".zst")] {
            // One that is not damaged comes first.
            for at in [None].into_iter().chain((0..header(&whole)).map(Some)) {
                let mut raw = whole.clone();
                at.inspect(|at| raw[*at] ^= 0x41);
                files += 1;
                let part = session.join(format!("{name}_20261124T040000Z_{files:06}.{ending}{more}.part"));
                fs::write(part, compress(&raw, compression)).unwrap();
            }
        }
        let ended = Setup::new(&pair.sensor).writing(&captures).start();
        let counted = || events(&captures, "recovered").len() + events(&captures, "set_aside").len();
        // Many are synced, which takes as long as the disk makes it.
        let mut salvaged = 0;
        while salvaged < files {
            let before = salvaged;
            eventually("another is salvaged", || {
                salvaged = counted();
                salvaged > before
            });
        }
        eventually("all is salvaged", || !captures::files(&session).iter().any(|path| is_part(path)));
        let ended = ended.stop();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        assert_verified(&captures);

        let there = captures::files(&session);
        assert_counted(&there);
        let first = captures::read(&there[0]);
        assert_eq!(first.len(), FRAMES as usize);
        for path in &there {
            assert_same(&path.display().to_string(), &captures::frames(path), &frames);
        }
        // The types of their links, and the times of their frames, as another program understands
        // them.
        let table = run(Command::new("capinfos").args(["-T", "-r", "-M", "-E", "-a", "-e", "-S"]).args(&there));
        let table = String::from_utf8(table.stdout).unwrap();
        let same: Vec<&str> = table.lines().map(|line| line.split_once('\t').unwrap().1).collect();
        assert!(same[0].starts_with("ether\t"), "{table}");
        assert!(same.iter().all(|line| *line == same[0]), "{format}: {table}");
        for more in ["pcap", "pcapng", "lz4", "zst"] {
            if let Some(path) = there.iter().rfind(|path| path.extension().is_some_and(|ending| ending == more)) {
                assert_shown(path);
                assert_eq!(tshark(path, &["frame.encap_type"])[0], "1");
            }
        }

        // What is not published whole was set aside, and why is said.
        let (recovered, aside) = (events(&captures, "recovered"), events(&captures, "set_aside"));
        let why = |word: &str| aside.iter().filter(|line| line["why"].as_str().unwrap().contains(word)).count();
        assert_eq!(
            recovered.len() + why("not a pcap or pcapng file of vxtap") + why("not of vxtap:") + why("ends within"),
            files
        );
        // Of the versions, 4 bytes, and of the link type at least 2, in each of three compressions.
        assert!(why("in the version") == 12 && why("in the link type") >= 6, "{format}: {aside:#?}");
        assert!(recovered.len() > files / 2, "{format}: {} of {files}", recovered.len());
    }
}

fn is_part(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "part")
}
