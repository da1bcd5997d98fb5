//! Captures that broke other programs once end with a reason each: what `vxtap decap` and
//! `vxtap replay` return, and what they say.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

#[path = "shared/host.rs"]
mod host;

/// The exit code where a capture is damaged, or cannot be read.
const DAMAGED: i32 = 4;

fn captures() -> Option<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(host::corpus()?.join("hostile")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 200, "{}", paths.len());
    Some(paths)
}

fn vxtap(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vxtap")).args(arguments).output().unwrap()
}

/// Returns what it said on standard error, where nothing may be of a panic.
fn said(path: &Path, output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code().is_some() && !said.contains("panicked"), "{}: {said}", path.display());
    said
}

/// Returns the reasons of a part of the summary, with how many frames each has.
fn reasons(part: &Value) -> impl Iterator<Item = (String, u64)> {
    part.as_object().unwrap().iter().map(|(reason, frames)| (reason.clone(), frames.as_u64().unwrap()))
}

#[test]
fn decap_has_a_reason_for_each_frame() {
    let Some(captures) = captures() else { return };
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for path in &captures {
        let name = path.to_str().unwrap();
        let output = vxtap(&["decap", name, "-o", "/dev/null", "--json"]);
        let said = said(path, &output);
        match output.status.code() {
            Some(0) => assert_eq!(said, "", "{name}"),
            Some(DAMAGED) => assert!(said.lines().any(|line| line.contains(name)), "{name}: {said}"),
            code => panic!("{name}: {code:?}: {said}"),
        }
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        let frames = &summary["frames"];
        let number = |key: &str| frames[key].as_u64().unwrap();
        let found: Vec<(String, u64)> = reasons(&frames["others"]).chain(reasons(&frames["outer"])).collect();
        let whole = number("received") + number("joined");
        let sum = whole + number("unknown") + found.iter().map(|(_, frames)| frames).sum::<u64>();
        assert_eq!(number("read"), sum, "{name}: {frames}");
        assert!(sum > 0 || output.status.code() == Some(DAMAGED), "{name}: no frame, and no reason for it");
        for (reason, frames) in found.into_iter().chain([("received".to_owned(), number("received"))]) {
            *all.entry(reason).or_default() += frames;
        }
    }
    println!("{} captures: {all:?}", captures.len());
    assert!(all.len() >= 5, "{all:?}");
}

#[test]
fn replay_sends_all_or_says_why_not() {
    let Some(captures) = captures() else { return };
    // Nobody reads, but somebody listens.
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = receiver.local_addr().unwrap().to_string();
    let (mut sent, mut refused) = (0, 0);
    for path in &captures {
        let name = path.to_str().unwrap();
        let output = vxtap(&["replay", name, "--to", &to]);
        let (said, report) = (said(path, &output), String::from_utf8_lossy(&output.stdout));
        assert!(report.starts_with("sent "), "{name}: {report}{said}");
        match output.status.code() {
            Some(0) => sent += 1,
            Some(DAMAGED) => {
                let line = said.lines().find(|line| line.contains(name));
                let line = line.unwrap_or_else(|| panic!("{name}: {said}"));
                assert!(line.contains("link type") || line.contains("damaged"), "{line}");
                assert!(report.contains("not played to its end"), "{name}: {report}");
                refused += 1;
            }
            code => panic!("{name}: {code:?}: {said}{report}"),
        }
    }
    println!("{sent} captures were sent, {refused} were not");
    assert!(sent > 100 && refused > 50, "{sent}, {refused}");
}
