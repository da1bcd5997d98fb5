//! Somebody wrote lines into the manifest before a start: nothing is removed, and that is said.

use std::fs;

use serde_json::json;

use crate::captures;
use crate::frames;
use crate::manifest::{events, named, verify};
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::eventually;
use crate::replay::replay_all;
use crate::sensor::Setup;

#[test]
fn a_forged_line_removes_nothing_at_the_next_start_and_that_is_said() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let sent = frames::assorted(300);
    let file = frames::write(directory.path(), "frames.pcap", &sent);
    let captures = directory.path().join("captures");
    let sensor = Setup::new(&pair.sensor).with("--rotate-frames 100").writing(&captures).start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "", sent.len());
    assert_eq!(sensor.stop().code, Some(0));
    let published = named(&captures);
    let path = published[0]["path"].as_str().unwrap();
    let line = json!({
        "time": "2026-11-24T03:18:29.000000001Z", "event": "pruned", "path": path, "sha256": published[0]["sha256"],
        "reason": "keep_bytes", "previous": "0".repeat(64),
    });
    let manifest = captures.join("manifest.jsonl");
    fs::write(&manifest, fs::read_to_string(&manifest).unwrap() + &line.to_string() + "\n").unwrap();

    let next = Setup::new(&pair.sensor).with("--rotate-frames 100").writing(&captures).start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "", sent.len());
    eventually("files are published", || events(&captures, "published").len() >= published.len() + 2);
    let ended = next.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert!(captures.join(path).exists());
    let held: usize = captures::files(&captures).iter().map(|path| captures::read(path).len()).sum();
    assert_eq!(held, 2 * sent.len());
    let broken = ended.messages("is broken at this line");
    assert!(
        matches!(&*broken, [line] if line.contains("\"line\":4") && line.contains("vxtap verify")),
        "{:#?}",
        ended.log
    );
    let kept = ended.messages("the manifest says of captures that are there that they were removed");
    assert!(matches!(&*kept, [line] if line.contains(path)), "{:#?}", ended.log);
    let (code, text) = verify(&captures);
    assert!(code == Some(4) && text.contains("line 4"), "{text}");
}
