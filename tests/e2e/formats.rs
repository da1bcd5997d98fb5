//! Each format, compressed or not, is read as other programs read it; pcapng says more than frames.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pcap_parser::pcapng::PcapNGOption;
use pcap_parser::{Block, PcapNGCapture};
use tempfile::TempDir;

use crate::captures::{self, assert_counted, assert_holds, assert_shown, tshark};
use crate::frames;
use crate::manifest::{assert_verified, events};
use crate::need;
use crate::netns::{Ip, Pair};
use crate::overload::{Starved, starve};
use crate::process::run;
use crate::replay::replay_all;
use crate::sensor::{Ended, Setup};
use crate::suricata;

/// A run in which nothing is lost, and all that it needs.
struct Run {
    pair: Pair,
    ended: Ended,
    _directory: TempDir,
}

fn capture(frames: &[Vec<u8>], arguments: &str, load: &str) -> Run {
    let pair = Pair::new(9000);
    let directory = tempfile::tempdir().unwrap();
    let file = frames::write(directory.path(), "frames.pcap", frames);
    let sensor = Setup::new(&pair.sensor).with(arguments).start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], load, frames.len());
    let ended = sensor.stop();
    ended.assert_all_is_well();
    assert_verified(&ended.captures);
    Run { pair, ended, _directory: directory }
}

#[test]
fn all_are_opened_by_others() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    let frames = frames::assorted(1000);
    for (format, extension) in [("pcap", "pcap"), ("pcap-us", "pcap"), ("pcapng", "pcapng")] {
        for (compression, ending) in [("", ""), ("--compress lz4", ".lz4"), ("--compress zstd", ".zst")] {
            let arguments = format!("--format {format} {compression} --rotate-frames 400 --flush 50ms");
            let run = capture(&frames, &arguments, "--rate 5000");
            let files = captures::files(&run.ended.captures);
            assert_eq!(files.len(), 3, "{format} {compression}");
            for path in &files {
                assert!(path.to_str().unwrap().ends_with(&format!(".{extension}{ending}")), "{}", path.display());
            }
            assert_holds(format, &captures::session(&run.ended.captures, run.pair.source(Ip::V4), 1), &frames);
            assert_counted(&files);
            assert_shown(&files[1]);
            for line in events(&run.ended.captures, "published") {
                assert_eq!(line["format"], format);
                assert_eq!(line["compression"].as_str().unwrap_or(""), compression.trim_start_matches("--compress "));
            }
        }
    }
}

/// Returns a number of an option of 8 bytes.
fn number(options: &[PcapNGOption], code: u16) -> Option<u64> {
    let option = options.iter().find(|option| option.code.0 == code)?;
    Some(u64::from_le_bytes(option.value[..8].try_into().unwrap()))
}

/// What a pcapng file counts.
#[derive(Debug)]
struct Counts {
    frames: u64,
    /// `epb_dropcount` of all packets.
    told: u64,
    /// `isb_ifrecv`, `isb_ifdrop`, `isb_filteraccept`, `isb_osdrop`, `isb_usrdeliv`.
    statistics: [u64; 5],
}

#[track_caller]
fn counts(path: &Path) -> Counts {
    let content = captures::content(path);
    let capture = PcapNGCapture::from_file(&content).unwrap();
    let [section] = capture.sections.as_slice() else { panic!("{}: sections", path.display()) };
    let (mut frames, mut told, mut statistics) = (0, 0, Vec::new());
    for block in &section.blocks {
        match block {
            Block::EnhancedPacket(packet) => {
                frames += 1;
                told += number(&packet.options, 4).unwrap_or(0);
            }
            Block::InterfaceStatistics(block) => {
                statistics.push([4, 5, 6, 7, 8].map(|code| number(&block.options, code).unwrap()));
            }
            _ => {}
        }
    }
    let [statistics] = statistics[..] else { panic!("{}: statistics {statistics:?}", path.display()) };
    Counts { frames, told, statistics }
}

#[test]
fn pcapng_says_whose_and_which_way() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    let (mirrored, one, other) = ([10, 73, 0, 1], [192, 0, 2, 1], [198, 51, 100, 1]);
    // As pcapng has it: 1 is inbound, 2 is outbound.
    let kinds = [(mirrored, one, "2"), (one, mirrored, "1"), (one, other, "")];
    let frames: Vec<_> =
        (0..300).map(|n| frames::between(n, kinds[n as usize % 3].0, kinds[n as usize % 3].1)).collect();
    let run = capture(&frames, "--format pcapng --compress zstd", "--vni 7");
    assert_eq!(run.pair.source(Ip::V4), IpAddr::from(mirrored));
    let files = captures::files(&run.ended.captures);
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let fields = ["frame.packet_flags_direction", "frame.interface_name", "frame.interface_description"];
    for (n, line) in tshark(file, &fields).iter().enumerate() {
        let words: Vec<&str> = line.split('\t').collect();
        let direction = words[0].trim_start_matches("0x").trim_start_matches('0');
        assert_eq!(direction, kinds[n % 3].2, "frame {n}: {line}");
        assert_eq!(words[1..], ["vni7_10.73.0.1", "VXLAN mirror session of 10.73.0.1, VNI 7"]);
    }
    let counted = counts(file);
    assert_eq!((counted.frames, counted.told), (300, 0));
    assert_eq!(counted.statistics, [300, 0, 300, 0, 300]);
    let host = String::from_utf8(run_words(&["uname", "-n"])).unwrap();
    let os = String::from_utf8(run_words(&["uname", "-srm"])).unwrap();
    let told = String::from_utf8(run_words(&["capinfos", file.to_str().unwrap()])).unwrap();
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    for (what, value) in [("hardware", host), ("oper-sys", os), ("application", "vxtap ".into())] {
        let line = format!("Capture {what}: {}", value.trim());
        assert!(told.contains(&line), "{line:?} is not in {told}");
    }
}

fn run_words(words: &[&str]) -> Vec<u8> {
    run(Command::new(words[0]).args(&words[1..])).stdout
}

#[test]
fn losses_are_told_in_the_files_as_in_the_ledger() {
    if !need::programs(&["chrt", "taskset", "capinfos", "tshark"]) {
        return;
    }
    let Starved { ended, .. } = starve("--format pcapng --rotate-frames 1500", "--vni 1-3", Duration::from_millis(250));
    let ledger = &ended.ledger;
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    ledger.assert_closes(&ended.captures);
    let lost: u64 =
        ledger.0["outputs"]["pcap"]["dropped"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert!(lost > 0 && ledger.get("/outputs/pcap/dropped/lane_full") == lost, "{:#}", ledger.0);
    let sum = |dropped: &serde_json::Value| -> u64 {
        dropped.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum()
    };
    let (mut dropped, mut told, mut by_line) = (0, 0, BTreeMap::new());
    for line in events(&ended.captures, "published") {
        let path = ended.captures.join(line["path"].as_str().unwrap());
        let counted = counts(&path);
        let [received, lost, accepted, _, delivered] = counted.statistics;
        assert_eq!(counted.frames, delivered, "{}", path.display());
        assert_eq!((received, accepted), (delivered + lost, delivered + lost), "{}", path.display());
        assert_eq!(sum(&line["dropped"]), lost, "{}", path.display());
        assert!(counted.told <= lost, "{}: {counted:?}", path.display());
        dropped += lost;
        told += counted.told;
        by_line.insert(path, lost);
    }
    // What is lost after a session's last frame, when it has no file, belongs to none.
    let of_no_file: u64 = events(&ended.captures, "lost").iter().map(|line| sum(&line["dropped"])).sum();
    assert_eq!(dropped + of_no_file, lost, "{by_line:#?}");
    assert!(told > 0 && told <= dropped, "packets tell of {told} lost frames of {dropped}");
    assert_counted(&captures::files(&ended.captures));
    assert_verified(&ended.captures);
}

#[test]
fn suricata_reads_pcap() {
    let (true, Some(corpus)) = (need::programs(&["suricata", "lz4"]), need::corpus()) else { return };
    let all: Vec<Vec<u8>> = suricata::ordinary(&corpus).into_iter().flat_map(|(_, frames)| frames).collect();
    let directory = tempfile::tempdir().unwrap();
    let want = suricata::reading(&frames::write(directory.path(), "all.pcap", &all));
    assert!(want.findings.keys().filter(|key| key.starts_with("alert")).count() > 5);
    for arguments in ["--format pcap", "--format pcap-us", "--format pcap --compress lz4"] {
        let run = capture(&all, arguments, "--rate 2000");
        let files = captures::files(&run.ended.captures);
        let [file] = files.as_slice() else { panic!("{files:?}") };
        let plain = if arguments.ends_with("lz4") { decompressed(file, directory.path()) } else { file.clone() };
        let got = suricata::reading(&plain);
        assert_eq!(got.packets, all.len() as u64, "{arguments}");
        assert_eq!(got, want, "{arguments}");
    }
}

fn decompressed(file: &Path, directory: &Path) -> PathBuf {
    let path = directory.join("decompressed.pcap");
    let mut command = Command::new("lz4");
    let status = command.arg("-dc").arg(file).stdout(File::create(&path).unwrap()).stderr(Stdio::inherit()).status();
    assert!(status.unwrap().success());
    path
}
