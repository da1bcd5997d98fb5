//! The sensor reads a capture in place of sockets, and makes of it what stripping makes of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::{Owned, fixture, frames, inner, pcap, run, wrapped};

/// All that `vxtap decap` takes off by default.
const ALL: &str = "--listen 4789 --listen 8472 --listen 10800 --listen 10801 --listen gpe:4790 --listen geneve:6081 \
                   --listen gre-udp:4754 --listen tzsp:37008 --listen gre";

/// Runs a sensor on a file until it has ended by itself.
fn sense(input: &Path, into: &Path, more: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vxtap"));
    command.args(["run", "--no-control", "--ledger", "json", "--log-format", "json", "--write"]).arg(into);
    command.arg("--source").arg(format!("file:{}", input.display())).args(more.split_whitespace());
    command.env_remove("VXTAP_LOG").output().unwrap()
}

fn log(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn ledger(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", log(output)))
}

/// Returns the frames below a directory of captures, by the directory of their session.
fn written(directory: &Path) -> BTreeMap<String, Vec<Owned>> {
    let mut found = BTreeMap::<String, Vec<Owned>>::new();
    let sessions = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    for session in sessions.filter(|path| path.is_dir()) {
        let mut files: Vec<PathBuf> = fs::read_dir(&session).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let name = session.file_name().unwrap().to_str().unwrap().to_owned();
        found.insert(name, files.iter().flat_map(|file| frames(&fs::read(file).unwrap())).collect());
    }
    found
}

fn verified(directory: &Path) {
    let verified = Command::new(env!("CARGO_BIN_EXE_vxtap")).arg("verify").arg(directory).output().unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[test]
fn it_writes_what_stripping_writes_and_ends() {
    let (mut compared, mut sessions) = (0, 0);
    for folder in ["outer", "tunnels"] {
        for entry in fs::read_dir(fixture(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.display();
            if path.extension().is_none_or(|ending| ending != "pcap" && ending != "pcapng") {
                continue;
            }
            let directory = tempfile::tempdir().unwrap();
            let (sensed, stripped) = (directory.path().join("sensed"), directory.path().join("stripped"));
            let output = sense(&path, &sensed, ALL);
            assert_eq!(output.status.code(), Some(0), "{name}: {}", log(&output));
            let strip = run(&[path.to_str().unwrap(), "--into", stripped.to_str().unwrap(), "--json"], &[]);
            let summary: Value = serde_json::from_slice(&strip.stdout).unwrap();
            let (ledger, of_decap) = (ledger(&output), &summary["ledger"]);
            for count in ["received", "decapsulated", "dropped", "upstream_missed", "reserved_bits"] {
                assert_eq!(ledger[count], of_decap[count], "{name}: {count}");
            }
            // Stripping counts no bytes of what yields no frame.
            if of_decap["received"] == of_decap["decapsulated"] {
                assert_eq!(ledger["received_bytes"], of_decap["received_bytes"], "{name}");
            }
            let (sensed_frames, stripped_frames) = (written(&sensed), written(&stripped));
            assert!(sensed_frames == stripped_frames, "{name}: {:?}", sensed_frames.keys());
            compared += sensed_frames.values().map(Vec::len).sum::<usize>();
            sessions += sensed_frames.len();
            verified(&sensed);
        }
    }
    assert!(compared > 200 && sessions > 20, "{compared} frames of {sessions} sessions");
}

#[test]
fn its_settings_hold_and_frames_of_no_mirror_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let captures = directory.path().join("captures");
    // Without --listen it is VXLAN to its port alone.
    let output = sense(&fixture("outer/bystanders.pcap"), &captures, "");
    assert_eq!(output.status.code(), Some(0), "{}", log(&output));
    assert!(log(&output).contains("not of a mirror (--listen says what is)") && log(&output).contains("not_ip 3"));
    // By a file, with a rule for one session and a quota.
    let input = directory.path().join("in.pcap");
    fs::write(&input, pcap(&[1, 2, 1, 2, 1, 2].map(|vni| wrapped(&[vni as u8; 60], vni)))).unwrap();
    let config = directory.path().join("vxtap.toml");
    let captures = directory.path().join("configured");
    let text = format!(
        "[receive]\nsource = \"file:{}\"\n[output.evidence]\nkind = \"pcap\"\ndirectory = \"{}\"\n\
         [control]\nenabled = false\n[[session]]\nname = \"gone\"\nvni = 2\ndrop = true\n",
        input.display(),
        captures.display()
    );
    fs::write(&config, text).unwrap();
    for (count, received, dropped) in [(None, 6, 3), (Some("3"), 3, 1)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vxtap"));
        command.args(["run", "--ledger", "json", "-c"]).arg(&config).args(count.iter().flat_map(|n| ["--count", n]));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", log(&output));
        let ledger = ledger(&output);
        assert_eq!((&ledger["received"], &ledger["unselected"]), (&received.into(), &dropped.into()));
        assert_eq!(ledger["outputs"]["evidence"]["written"], received - dropped);
        assert_eq!(log(&output).contains("stopped before their end"), count.is_some(), "{}", log(&output));
    }
}

#[test]
fn frames_wait_for_room_rather_than_be_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (input, captures) = (directory.path().join("in.pcap"), directory.path().join("captures"));
    // Far more than the smallest queue holds, and compressing takes longer than reading.
    let frames = 40_000;
    let bytes: Vec<Vec<u8>> = (0..frames).map(|n| wrapped(&[n as u8; 700], 7)).collect();
    fs::write(&input, pcap(&bytes)).unwrap();
    let output = sense(&input, &captures, "--queue 1025KiB --compress zstd:15 --rotate-frames 15000");
    assert_eq!(output.status.code(), Some(0), "{}", log(&output));
    let output = &ledger(&output)["outputs"]["pcap"];
    assert_eq!((&output["offered"], &output["written"]), (&frames.into(), &frames.into()), "{output}");
    verified(&captures);
}

#[test]
fn of_a_damaged_capture_what_is_whole_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("in.pcap");
    let plain = fs::read(fixture("outer/ipv4.pcap")).unwrap();
    let expected = inner("ipv4.pcap");
    for (bytes, whole, said) in [
        (&plain[..plain.len() - 1], expected.len() - 1, "damaged at byte"),
        (b"this is no capture", 0, "not a pcap or pcapng file"),
    ] {
        fs::write(&input, bytes).unwrap();
        let captures = directory.path().join(whole.to_string());
        let output = sense(&input, &captures, "");
        assert_eq!(output.status.code(), Some(4), "{}", log(&output));
        assert!(log(&output).contains(said) && log(&output).contains("in.pcap"), "{}", log(&output));
        assert_eq!(ledger(&output)["received"], whole);
        let mut found: Vec<Owned> = written(&captures).into_values().flatten().collect();
        found.sort();
        assert!(found == expected[..whole]);
        verified(&captures);
    }
    for (path, why) in [("/nowhere/x.pcap", "No such file"), ("/dev/null", "a stream"), ("/", "a directory")] {
        let output = sense(Path::new(path), &directory.path().join("none"), "");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{}", log(&output));
        assert!(log(&output).contains(why), "{}", log(&output));
        assert!(!directory.path().join("none").exists());
    }
}
