//! The command for each published file: what it is told, and that it is in nobody's way.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::captures;
use crate::frames;
use crate::manifest::{assert_verified, events};
use crate::need;
use crate::netns::{Ip, Pair};
use crate::replay::replay_all;
use crate::sensor::{Ended, Setup};

fn script(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("hook.sh");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A run with many files and this script for each. Nothing may be lost, whatever it does.
fn run(directory: &Path, text: &str, arguments: &str) -> Ended {
    let pair = Pair::new(1600);
    let frames = frames::assorted(3000);
    let file = frames::write(directory, "frames.pcap", &frames);
    let hook = script(directory, text);
    let arguments = format!("--rotate-size 128KiB --flush 100ms --on-publish {} {arguments}", hook.display());
    let sensor = Setup::new(&pair.sensor).with(&arguments).start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--vni 1-3 --loop 2 --rate 10000", 2 * frames.len());
    let ended = sensor.stop();
    ended.ledger.assert_closes(&ended.captures);
    ended.ledger.assert_lossless();
    assert_eq!(ended.ledger.received(), 2 * frames.len() as u64);
    assert!(captures::files(&ended.captures).iter().all(|path| !path.to_str().unwrap().ends_with(".part")));
    assert_verified(&ended.captures);
    assert!(ended.ledger.get("/outputs/pcap/files") > 10);
    ended
}

/// What the ledger says of commands: run, failed, skipped.
fn counted(ended: &Ended) -> [u64; 3] {
    ["hooks", "hooks_failed", "hooks_skipped"].map(|what| ended.ledger.get(&format!("/outputs/pcap/{what}")))
}

#[test]
fn is_told_what_the_manifest_says() {
    if !need::programs(&[]) {
        return;
    }
    let variables = ["SOURCE", "VNI", "FRAMES", "BYTES", "DROPPED", "FIRST", "LAST", "SHA256", "BLAKE3", "FORMAT"];
    for (compression, arguments) in [(false, "--format pcap"), (true, "--format pcapng --compress lz4 --hash blake3")] {
        let directory = tempfile::tempdir().unwrap();
        let told = directory.path().join("told");
        let values: Vec<String> = variables.iter().map(|name| format!("$VXTAP_{name}")).collect();
        // The file has its name by then, and its size.
        let size = "$(stat -c %s \"$1\")";
        let text = format!("echo \"$#|$1|{size}|{}\" >>{}", values.join("|"), told.display());
        let ended = run(directory.path(), &text, arguments);
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        // Empty where the line has no such field.
        let word = |value: &Value| match value {
            Value::Null => String::new(),
            value => value.as_str().map_or_else(|| value.to_string(), String::from),
        };
        let mut want: Vec<String> = Vec::new();
        for line in events(&ended.captures, "published") {
            assert_eq!((line["compression"].is_string(), line["blake3"].is_string()), (compression, compression));
            let path = ended.captures.join(line["path"].as_str().unwrap());
            let lost: u64 = line["dropped"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
            let session = &line["session"];
            let values = [&session["source"], &session["vni"], &line["frames"], &line["bytes"], &lost.into()].map(word);
            let others = ["first", "last", "sha256", "blake3", "format"].map(|key| word(&line[key]));
            want.push(format!("1|{}|{}|{}|{}", path.display(), line["bytes"], values.join("|"), others.join("|")));
        }
        let mut told: Vec<String> = fs::read_to_string(&told).unwrap().lines().map(String::from).collect();
        // Four run at the same time.
        told.sort();
        want.sort();
        assert_eq!(told, want);
        assert_eq!(counted(&ended), [want.len() as u64, 0, 0]);
    }
}

#[test]
fn fails() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let ended = run(directory.path(), "exit 1", "");
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    let files = ended.ledger.get("/outputs/pcap/files");
    assert_eq!(counted(&ended), [files, files, 0]);
    let told = ended.messages("--on-publish").len();
    assert!((1..=10).contains(&told), "{told} lines about {files} failures");
}

/// Takes half a minute: that long the end waits for commands.
#[test]
fn hangs() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // Far longer than the sensor waits. Not with its standard error, of which the test waits for the end.
    let ended = run(directory.path(), "exec sleep 120 >/dev/null 2>&1", "");
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    let files = ended.ledger.get("/outputs/pcap/files");
    assert_eq!(counted(&ended), [4, 0, files - 4], "four run at the same time, the others wait");
    let told = ended.messages("not waiting any longer");
    assert_eq!(told.len(), 1, "{:#?}", ended.log);
}
