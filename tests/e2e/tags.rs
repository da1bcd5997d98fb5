//! Tags tell sessions apart on an interface that they share.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::captures::{assert_holds, assert_same, session};
use crate::disk::Loop;
use crate::frames;
use crate::manifest;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::{eventually, task_named};
use crate::replay::replay_all;
use crate::sensor::{Ended, Setup};
use crate::suricata::{self, Report, Suricata};
use crate::tcpdump::Tcpdump;

/// Returns the frame with these bytes behind its addresses.
fn tagged(frame: &[u8], tag: &[u8]) -> Vec<u8> {
    [&frame[..12], tag, &frame[12..]].concat()
}

/// A sensor that redirects, into the tap that follows.
const REDIRECT: &str = "--source bpf --interface eth0 --tap-mode redirect";

/// Returns the VNI and the tag of each session in the ledger.
fn tags_of(ended: &Ended) -> Vec<(u64, Value)> {
    let sessions = ended.ledger.0["sessions"].as_array().unwrap();
    sessions.iter().map(|session| (session["vni"].as_u64().unwrap(), session["tag"].clone())).collect()
}

#[test]
fn each_frame_has_the_tag_of_its_session_also_after_a_restart() {
    if !need::programs(&["tcpdump"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let map = directory.path().join("tags.json");
    let mut frames = frames::assorted(300);
    // One that has a tag of its own.
    frames[7] = tagged(&frames[7], &[0x81, 0, 0, 99]);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    // Another host's session had the last tag of one VLAN, so that the next new one has two.
    let other = json!({"source": "192.0.2.9", "vni": 1, "tag": [4077]});
    for (vnis, wanted) in [
        (&[5, 6][..], &[(5, &[0x81, 0, 0, 1][..]), (6, &[0x81, 0, 0, 2])][..]),
        (&[6, 5], &[(6, &[0x81, 0, 0, 2]), (5, &[0x81, 0, 0, 1])]),
        (&[7, 5], &[(7, &[0x88, 0xa8, 0x0f, 0xee, 0x81, 0, 0, 1]), (5, &[0x81, 0, 0, 1])]),
    ] {
        if vnis.contains(&7) {
            let mut listed: Value = serde_json::from_str(&fs::read_to_string(&map).unwrap()).unwrap();
            listed["tags"].as_array_mut().unwrap().push(other.clone());
            fs::write(&map, listed.to_string()).unwrap();
        }
        let pair = Pair::new(1600);
        let options = format!("--tap mirror0 --tap-tag session --tag-map {}", map.display());
        let sensor = Setup::new(&pair.sensor).with(&options).start();
        let seen = Tcpdump::start(&pair.sensor, "mirror0", "");
        for vni in vnis {
            let arguments = format!("--vni {vni} --rate 20000");
            replay_all(&pair.sender, pair.target(Ip::V4), &[Path::new(&file)], &arguments, frames.len());
        }
        let seen = seen.frames_of(2 * frames.len());
        let ended = sensor.stop();
        ended.assert_all_is_well();
        ended.ledger.assert_output_closes("mirror0");
        let all: Vec<_> = wanted.iter().flat_map(|(_, tag)| frames.iter().map(|frame| tagged(frame, tag))).collect();
        assert_same("tagged", &seen, &all);
        let vlans = |tag: &[u8]| match tag {
            [.., 0x0f, 0xee, 0x81, 0, 0, inner] => json!([4078, inner]),
            [.., vlan] => json!([vlan]),
            [] => unreachable!(),
        };
        let lines = manifest::lines(&ended.captures);
        assert_eq!(lines.len(), vnis.len(), "a capture for each session");
        let published = lines.iter().map(|line| (line["session"]["vni"].as_u64().unwrap(), line["tag"].clone()));
        for (vni, tag) in tags_of(&ended).into_iter().chain(published) {
            let (_, wanted) = wanted.iter().find(|(wanted, _)| *wanted == vni).unwrap();
            assert_eq!(tag, vlans(wanted), "{vni}");
        }
    }
    let listed: Value = serde_json::from_str(&fs::read_to_string(&map).unwrap()).unwrap();
    let all: Vec<_> = listed["tags"].as_array().unwrap().iter().map(|entry| entry["tag"].clone()).collect();
    assert_eq!(all, [json!([1]), json!([2]), json!([4077]), json!([4078, 1])]);
}

#[test]
fn redirected_frames_have_the_tags_of_injected_ones() {
    if !need::programs(&["tcpdump"]) {
        return;
    }
    let mut frames = frames::assorted(300);
    frames[7] = tagged(&frames[7], &[0x81, 0, 0, 99]);
    frames[8] = tagged(&frames[8], &[0x81, 0, 0, 99, 0x81, 0, 0, 98]);
    // The last tag of one VLAN is given, so that the second new session has two.
    let listed = json!({"tags": [{"source": "192.0.2.9", "vni": 1, "tag": [4076]}]});
    let tags = [&[0x81, 0, 0x0f, 0xed][..], &[0x88, 0xa8, 0x0f, 0xee, 0x81, 0, 0, 1]];
    let all: Vec<_> = tags.iter().flat_map(|tag| frames.iter().map(|frame| tagged(frame, tag))).collect();
    for (ways, files) in [("--source bpf --interface eth0", ""), (REDIRECT, ""), (REDIRECT, "--no-write")] {
        let directory = tempfile::tempdir().unwrap();
        let map = directory.path().join("tags.json");
        fs::write(&map, listed.to_string()).unwrap();
        let first = frames::write(directory.path(), "first.pcap", &frames[..1]);
        let rest = frames::write(directory.path(), "rest.pcap", &frames[1..]);
        let pair = Pair::new(1600);
        let options = format!("{ways} {files} --tap mirror0 --tap-tag session --tag-map {}", map.display());
        let sensor = Setup::new(&pair.sensor).with(&options).start();
        let seen = Tcpdump::start(&pair.sensor, "mirror0", "");
        for vni in [5, 6] {
            let before = pair.sensor.link_counter("mirror0", "rx", "packets");
            replay_all(&pair.sender, pair.target(Ip::V4), &[&first], &format!("--vni {vni}"), 1);
            // The program knows the tag of the session when its first frame has been injected.
            let enters = || pair.sensor.link_counter("mirror0", "rx", "packets") > before;
            eventually("the first enters", enters);
            task_named(sensor.process.pid(), "vxtap-mirror0").comes_round();
            let arguments = format!("--vni {vni} --rate 5000");
            replay_all(&pair.sender, pair.target(Ip::V4), &[&rest], &arguments, frames.len() - 1);
        }
        let seen = seen.frames_of(2 * frames.len());
        let ended = sensor.stop();
        let ledger = &ended.ledger;
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        assert_eq!(tags_of(&ended), [(5, json!([4077])), (6, json!([4078, 1]))]);
        ledger.assert_output_closes("mirror0");
        let written = ["written", "written_bytes"].map(|what| ledger.get(&format!("/outputs/mirror0/{what}")));
        assert_eq!(written, [all.len() as u64, all.iter().map(|frame| frame.len() as u64).sum()]);
        assert_same(&format!("{ways} {files}"), &seen, &all);
        if ways == REDIRECT {
            let by_user_space = ["session", "odd"].map(|why| ledger.get(&format!("/fast_path/not_redirected/{why}")));
            assert_eq!(by_user_space, [2, 0], "the first of each session: {:#}", ledger.0);
            assert_eq!(ledger.get("/fast_path/redirected"), all.len() as u64 - 2);
        }
        if files.is_empty() {
            ended.assert_all_is_well();
            for vni in [5, 6] {
                assert_holds("files", &session(&ended.captures, pair.source(Ip::V4), vni), &frames);
            }
        }
    }
}

#[test]
fn a_tag_map_is_one_sensors_and_a_damaged_one_says_what_to_do() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let map = directory.path().join("tags.json");
    let with = |name: &str| format!("--no-write --tap {name} --tap-tag session --tag-map {}", map.display());
    let (one, other) = (Pair::new(1600), Pair::new(1600));
    let sensor = Setup::new(&one.sensor).with(&with("mirror0")).start();
    let (code, text) = Setup::new(&other.sensor).with(&with("mirror1")).fails();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("tags.json is in use by another vxtap, process"), "{text}");
    assert!(text.contains("name another file with --tag-map"), "{text}");
    assert_eq!(sensor.stop().code, Some(0));
    // As a file system leaves it that lost power.
    fs::write(&map, "").unwrap();
    let (code, text) = Setup::new(&other.sensor).with(&with("mirror1")).fails();
    assert_eq!(code, Some(1), "{text}");
    let command = format!("mv {map} {map}.damaged", map = map.display());
    assert!(text.contains("is no list of tags") && text.contains(&command), "{text}");
    fs::rename(&map, directory.path().join("tags.json.damaged")).unwrap();
    assert_eq!(Setup::new(&other.sensor).with(&with("mirror1")).start().stop().code, Some(0));
}

#[test]
fn a_disk_that_stalls_holds_up_the_tag_map_and_no_frames() {
    if !need::programs(&["tcpdump", "mkfs.ext4", "mount", "umount", "fsfreeze"]) {
        return;
    }
    let Some(disk) = Loop::new() else { return need::cannot("no file system in a file can be mounted here") };
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(100);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let map = disk.path().join("tags.json");
    let pair = Pair::new(1600);
    let options = format!("--no-write --tap mirror0 --tap-tag session --tag-map {}", map.display());
    let sensor = Setup::new(&pair.sensor).with(&options).start();
    let seen = Tcpdump::start(&pair.sensor, "mirror0", "");
    let Some(frozen) = disk.freeze() else { return need::cannot("fsfreeze fails here") };
    for vni in [5, 6] {
        let arguments = format!("--vni {vni} --rate 20000");
        replay_all(&pair.sender, pair.target(Ip::V4), &[Path::new(&file)], &arguments, frames.len());
        // Within a second the first tag is to be written.
        thread::sleep(Duration::from_millis(1500));
    }
    let seen = seen.frames_of(2 * frames.len());
    drop(frozen);
    let all: Vec<_> =
        [1, 2].iter().flat_map(|vlan| frames.iter().map(|frame| tagged(frame, &[0x81, 0, 0, *vlan]))).collect();
    assert_same("tagged", &seen, &all);
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    let listed: Value = serde_json::from_str(&fs::read_to_string(&map).unwrap()).unwrap();
    assert_eq!(listed["tags"].as_array().unwrap().len(), 2);
}

/// A conversation of HTTP, up to the request, that asks for `path` from this port.
pub(crate) fn conversation(path: &str, port: u16) -> Vec<Vec<u8>> {
    let segment = |to_server: bool, flags: u8, sequence: u32, acknowledged: u32, payload: &[u8]| {
        let (client, server) = (([10, 0, 0, 1], port), ([10, 0, 0, 2], 80u16));
        let (from, to) = if to_server { (client, server) } else { (server, client) };
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00, 0x45, 0];
        frame.extend((40 + payload.len() as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(from.0);
        frame.extend(to.0);
        frame.extend(from.1.to_be_bytes());
        frame.extend(to.1.to_be_bytes());
        frame.extend(sequence.to_be_bytes());
        frame.extend(acknowledged.to_be_bytes());
        frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend(payload);
        frame
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n");
    let behind = 1001 + request.len() as u32;
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    vec![
        segment(true, 0x02, 1000, 0, &[]),
        segment(false, 0x12, 5000, 1001, &[]),
        segment(true, 0x10, 1001, 5001, &[]),
        segment(true, 0x18, 1001, 5001, request.as_bytes()),
        segment(false, 0x18, 5001, behind, answer),
        segment(true, 0x10, behind, 5001 + answer.len() as u32, &[]),
    ]
}

/// Plays the same conversation with other contents in two sessions, step by step in turn, and
/// returns what Suricata finds by this configuration and these rules.
fn two_tenants(directory: &Path, options: &str, configuration: &Path, rules: &Path) -> Report {
    let steps: Vec<[PathBuf; 2]> = conversation("/tenant-a", 40_000)
        .into_iter()
        .zip(conversation("/tenant-b", 40_000))
        .enumerate()
        .map(|(step, (a, b))| {
            [("a", a), ("b", b)].map(|(name, frame)| frames::write(directory, &format!("{step}{name}"), &[frame]))
        })
        .collect();
    let pair = Pair::new(1600);
    let map = directory.join("tags.json");
    let options = options.replace("MAP", map.to_str().unwrap());
    let sensor = Setup::new(&pair.sensor).with("--tap mirror0 --no-write --workers 1").with(&options).start();
    let suricata = Suricata::configured(&pair.sensor, "mirror0", configuration, Some(rules));
    for step in &steps {
        for (vni, file) in [1, 2].into_iter().zip(step) {
            replay_all(&pair.sender, pair.target(Ip::V4), &[file], &format!("--vni {vni}"), 1);
        }
    }
    eventually("Suricata has decoded all", || suricata.packets() >= 2 * steps.len() as u64);
    let report = suricata.ended();
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    report
}

const TAGGED: &str = "--tap-tag session --tag-map MAP";

/// Returns what begins so, in how often it was found.
fn count(report: &Report, begins: &str, with: &str) -> u32 {
    let fits = |finding: &str| finding.starts_with(begins) && finding.contains(with);
    report.findings.iter().filter(|(finding, _)| fits(finding)).map(|(_, n)| n).sum()
}

#[test]
fn the_same_addresses_in_two_sessions_are_two_flows_for_suricata() {
    if !need::programs(&["suricata"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let rules = directory.path().join("tenants.rules");
    let rule = |tenant: &str, sid: u32| {
        format!("alert http any any -> any any (msg:\"{tenant}\"; http.uri; content:\"{tenant}\"; sid:{sid}; rev:1;)\n")
    };
    fs::write(&rules, rule("tenant-a", 101) + &rule("tenant-b", 102)).unwrap();
    let with = two_tenants(directory.path(), TAGGED, &suricata::configuration(), &rules);
    let found = |report: &Report| {
        let alerts = ["tenant-a", "tenant-b"].map(|tenant| count(report, "alert", tenant));
        (count(report, "flow", "80"), alerts)
    };
    assert_eq!(found(&with), (2, [1, 1]), "{with:#?}");
    for vlan in ["Array [Number(1)]", "Array [Number(2)]"] {
        assert_eq!(count(&with, "flow", vlan), 1, "{with:#?}");
    }
    let without = two_tenants(directory.path(), "", &suricata::configuration(), &rules);
    let (flows, alerts) = found(&without);
    assert_eq!(flows, 1, "{without:#?}");
    assert_ne!(alerts, [1, 1], "two conversations in one are not both seen: {without:#?}");
}

#[test]
fn a_rule_for_one_tenant_is_for_one_only() {
    if !need::programs(&["suricata"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let rule = "alert http any any -> any any (msg:\"asked\"; http.method; content:\"GET\"; sid:103; rev:1;)\n";
    fs::write(at("one.rules"), rule).unwrap();
    fs::write(at("two.rules"), rule.replace("GET", "POST")).unwrap();
    let ours = fs::read_to_string(suricata::configuration()).unwrap();
    let mut text = ours.clone();
    text.push_str("\nmulti-detect:\n  enabled: yes\n  selector: vlan\n  loaders: 1\n  tenants:\n");
    for (id, rules) in [(1, "one.rules"), (2, "two.rules")] {
        let tenant = format!("%YAML 1.1\n---\nrule-files:\n  - {}\n", at(rules).display());
        fs::write(at(&format!("tenant-{id}.yaml")), tenant).unwrap();
        text.push_str(&format!("    - {{ id: {id}, yaml: {} }}\n", at(&format!("tenant-{id}.yaml")).display()));
    }
    text.push_str("  mappings:\n    - { vlan-id: 1, tenant-id: 1 }\n    - { vlan-id: 2, tenant-id: 2 }\n");
    fs::write(at("suricata.yaml"), text).unwrap();
    fs::write(at("none.rules"), "").unwrap();
    let report = two_tenants(directory.path(), TAGGED, &at("suricata.yaml"), &at("none.rules"));
    assert_eq!(count(&report, "flow", "80"), 2, "{report:#?}");
    assert_eq!(count(&report, "alert", "asked"), 1, "{report:#?}");
    assert_eq!(count(&report, "alert", "Array [Number(1)]"), 1, "{report:#?}");
}
