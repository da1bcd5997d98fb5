//! A sensor says what it loses, while it runs and at its end.

use std::process::Command;

use serde_json::Value;

use crate::datagrams::{self, vxlan};
use crate::frames;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::overload::Mount;
use crate::process::eventually;
use crate::replay::replay_all;
use crate::sensor::{Setup, VXTAP, attach_by_default, message};

/// Returns the fields of a log line that tells how the sensor does.
fn status(line: &str) -> Option<Value> {
    (message(line)? == "status").then(|| serde_json::from_str::<Value>(line).unwrap()["fields"].clone())
}

#[test]
fn every_loss_is_said_with_its_reason_while_running_and_first_at_the_end() {
    if !need::programs(&["mount", "umount"]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames: Vec<Vec<u8>> = (0..1000).map(|number| frames::numbered(number, 1400)).collect();
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let disk = Mount::new("size=1m");
    let control = directory.path().join("control");
    let arguments = format!("--vni 1 --min-free 0 --flush 100ms --control {}", control.display());
    let sensor = Setup::new(&pair.sensor).with(&arguments).writing(disk.path()).start();
    // 5.6 MB of what is allowed, 500 frames of a VNI that is not, and one datagram that holds no
    // frame.
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--loop 4 --rate 10000", 4000);
    // They are lost by the output, not by a full queue, and before the others come.
    eventually("what was sent is written or lost", || {
        let ledger = Command::new(VXTAP).args(["ledger", "--json", "--control"]).arg(&control).output().unwrap();
        let ledger: Value = serde_json::from_slice(&ledger.stdout).unwrap();
        ledger["received"] == 4000 && ledger["outputs"]["pcap"].get("in_flight").is_none()
    });
    let other = vec![vxlan(8, [0; 3], 9, 0, &frames[0]); 500];
    datagrams::send(&pair.sender, pair.target(Ip::V4), &other);
    datagrams::send(&pair.sender, pair.target(Ip::V4), &[vxlan(0, [0; 3], 1, 0, &frames[0])]);

    let all_came = |line: &str| status(line).filter(|fields| fields["received"] == 4501);
    let fields = sensor.process.stderr.find("a status after all came", 0, all_came);
    let text = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
    let losses = text("losses");
    assert!(losses.starts_with("pcap disk_full ") && losses.contains(", vni_flag_clear 1 (+1)"), "{fields:#}");
    let whose = if attach_by_default().is_some() { "[by the program]" } else { "[VNI 9]" };
    let besides = text("besides");
    assert!(besides.starts_with("unselected 500 (+") && besides.ends_with(whose), "{fields:#}");

    let ended = sensor.stop();
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    ended.ledger.assert_closes(&ended.captures);
    let full = ended.ledger.get("/outputs/pcap/dropped/disk_full");
    assert!(full > 1000, "{:#}", ended.ledger.0);
    // What was gathered then may have been lost since.
    let lost = fields["lost"].as_u64().unwrap();
    assert!((1000..=full + 1).contains(&lost), "{lost} of {full}: {fields:#}");
    let headline = ended.messages("LOST ");
    assert_eq!(headline.len(), 1, "{:#?}", ended.log);
    let headline = message(&headline[0]).unwrap();
    let share = (full + 1) * 100 / 4501;
    assert!(headline.starts_with(&format!("LOST {share} %: ")), "{headline}");
    assert!(
        headline.contains("frames of output pcap (disk_full); 1 datagram without a frame (vni_flag_clear)"),
        "{headline}"
    );
    assert!(headline.contains("unselected 500"), "{headline}");
    if attach_by_default().is_none() {
        assert_eq!(ended.ledger.0["unselected_vnis"], serde_json::json!([{ "vni": 9, "frames": 500 }]));
    }
}

#[test]
fn that_nothing_was_lost_is_said_too() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(100);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let sensor = Setup::new(&pair.sensor).start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 10000", frames.len());
    let ended = sensor.stop();
    ended.assert_all_is_well();
    let headline = ended.messages("nothing was lost");
    assert_eq!(headline.iter().filter_map(|line| message(line)).collect::<Vec<_>>(), ["nothing was lost"]);
}
