//! Somebody writes to a manifest, while a sensor has it and before the next start.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use rustix::process::Signal;

use crate::captures::{self, assert_holds};
use crate::frames;
use crate::manifest::{events, lines, named, paths};
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::eventually;
use crate::replay::replay_all;
use crate::sensor::Setup;

fn parts(captures: &Path) -> usize {
    captures::files(captures).iter().filter(|path| path.extension().is_some_and(|e| e == "part")).count()
}

fn append(captures: &Path, text: &str) {
    let manifest = captures.join("manifest.jsonl");
    OpenOptions::new().append(true).open(manifest).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn nothing_is_written_behind_what_somebody_wrote_and_the_next_start_goes_on() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(250);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let captures = directory.path().join("captures");
    let arguments = "--rotate-frames 100 --flush 100ms --workers 1";
    let sensor = Setup::new(&pair.sensor).with(arguments).writing(&captures).start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "", frames.len());
    eventually("files are published", || named(&captures).len() == 2);
    append(&captures, "checked by the auditor\n");
    let changed = fs::read(captures.join("manifest.jsonl")).unwrap();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "", frames.len());
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    assert_eq!(ended.messages("somebody changed the manifest").len(), 1, "{:#?}", ended.log);
    for (what, count) in [("files", 2), ("unpublished", 3), ("manifest_changed", 1), ("written", 500)] {
        assert_eq!(ended.ledger.get(&format!("/outputs/pcap/{what}")), count, "{what}");
    }
    assert_eq!(fs::read(captures.join("manifest.jsonl")).unwrap(), changed);
    assert_eq!(parts(&captures), 3);

    let sensor = Setup::new(&pair.sensor).writing(&captures).start();
    eventually("all is salvaged", || parts(&captures) == 0);
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.messages("line 3 of manifest.jsonl cannot be read").len(), 1, "{:#?}", ended.log);
    let sent: Vec<_> = frames.iter().chain(&frames).collect();
    assert_holds("all frames", &captures::session(&captures, pair.source(Ip::V4), 1), &sent);
}

#[test]
fn a_forged_line_has_nothing_removed() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(150);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let captures = directory.path().join("captures");
    let arguments = "--rotate-frames 100 --flush 100ms --workers 1";
    let mut sensor = Setup::new(&pair.sensor).with(arguments).writing(&captures).start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "", frames.len());
    let written =
        || captures::files(&captures).iter().map(|path| captures::readable(path)).sum::<usize>() == frames.len();
    eventually("one file is published, and another written", || named(&captures).len() == 1 && written());
    sensor.process.signal(Signal::KILL);
    sensor.process.wait();
    let published = paths(&named(&captures)).pop_first().unwrap();
    let part =
        captures::files(&captures).into_iter().find(|path| path.extension().is_some_and(|e| e == "part")).unwrap();
    let part = part.strip_prefix(&captures).unwrap().to_str().unwrap().to_owned();
    let hash = lines(&captures)[0]["sha256"].as_str().unwrap().to_owned();
    for path in [&published, &part] {
        append(
            &captures,
            &format!(
                "{{\"time\":\"2026-11-24T04:00:00Z\",\"event\":\"pruned\",\"path\":\"{path}\",\"sha256\":\"{hash}\",\
                 \"reason\":\"keep_bytes\",\"previous\":\"{}\"}}\n",
                "0".repeat(64)
            ),
        );
    }
    let sensor = Setup::new(&pair.sensor).writing(&captures).start();
    eventually("the part is salvaged", || events(&captures, "recovered").len() == 1 && parts(&captures) == 0);
    let ended = sensor.stop();
    assert_eq!(ended.ledger.get("/outputs/pcap/pruned"), 0);
    let told = ended.messages("they stay, and no budget counts them: the chain of the manifest's lines is broken");
    assert_eq!(told.len(), 1, "{:#?}", ended.log);
    assert!(told[0].contains(&published), "{told:?}");
    assert_holds("all frames", &captures::session(&captures, pair.source(Ip::V4), 1), &frames);
}
