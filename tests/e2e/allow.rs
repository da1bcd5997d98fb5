//! Allow-lists say which sessions are let in, and that can change while the sensor runs, whatever
//! it receives by.

use std::fs;
use std::net::IpAddr;

use rustix::process::Signal;

use crate::captures::{self, assert_holds};
use crate::frames;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::eventually;
use crate::replay::replay_all;
use crate::sensor::{Ended, Sensor, Setup, WAYS, message};

/// Frames that are sent at a time. VNIs 1 to 4 take turns, and the last is of VNI 1.
const FRAMES: u64 = 401;
const LENGTH: usize = 60;

/// Returns what the ledger says was not allowed, and of that what was seen in the kernel.
fn unselected(ended: &Ended) -> (u64, u64) {
    (ended.ledger.get("/unselected"), ended.ledger.get("/fast_path/unselected"))
}

/// Returns what the log says in full about what is allowed, since line number `from`.
fn allowed(log: &[String], from: usize) -> Vec<String> {
    let messages = log.iter().skip(from).filter_map(|line| message(line));
    messages.filter(|message| message.starts_with("allowed ")).collect()
}

/// Waits until a session has this many frames on disk. With one worker all that was sent before the
/// last of them is decided then.
#[track_caller]
fn has_written(sensor: &Sensor, pair: &Pair, ip: Ip, vni: u32, frames: u64) {
    let directory = captures::session_directory(&sensor.captures, pair.source(ip), vni);
    let size =
        || captures::files(&directory).iter().map(|path| fs::metadata(path).map_or(0, |file| file.len())).sum::<u64>();
    eventually("all frames are on disk", || size() >= 24 + frames * (16 + LENGTH as u64));
}

#[test]
fn only_sessions_of_these_sources_and_vnis_are_kept() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames: Vec<_> = (0..FRAMES as u32).map(|n| frames::numbered(n, LENGTH)).collect();
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    for way in WAYS {
        let pair = Pair::new(1600);
        let from = format!("{way} --from 192.0.2.1,fd73::/64 --vni 4,0-1");
        assert_eq!(pair.source(Ip::V6), "fd73::1".parse::<IpAddr>().unwrap(), "in that network");
        let sensor = Setup::new(&pair.sensor).with(&from).start();
        for ip in [Ip::V4, Ip::V6] {
            replay_all(&pair.sender, pair.target(ip), &[&file], "--vni 1-4 --rate 20000", frames.len());
        }
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        ended.ledger.assert_closes(&ended.captures);
        assert_eq!(allowed(&ended.log, 0), ["allowed VNIs: 0-1, 4", "allowed sources: 192.0.2.1, fd73::/64"]);
        let refused = FRAMES + 200;
        assert_eq!(unselected(&ended), (refused, if way.contains("bpf") { refused } else { 0 }), "{way}");
        assert_eq!(ended.ledger.get("/outputs/pcap/filtered"), refused);
        pair.assert_all_arrived(ended.ledger.received(), 2 * frames.len());
        for vni in [1, 4] {
            let wanted: Vec<_> = frames.iter().skip(vni as usize - 1).step_by(4).collect();
            assert_holds(way, &captures::session(&ended.captures, pair.source(Ip::V6), vni), &wanted);
        }
        assert_eq!(ended.ledger.0["sessions"].as_array().unwrap().len(), 2, "{way}: {:#}", ended.ledger.0);
    }
}

#[test]
fn the_allow_list_changes_live() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames: Vec<_> = (0..FRAMES as u32).map(|n| frames::numbered(n, LENGTH)).collect();
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let list = directory.path().join("allowed");
    for way in WAYS {
        let pair = Pair::new(1600);
        let send = || {
            for ip in [Ip::V6, Ip::V4] {
                replay_all(&pair.sender, pair.target(ip), &[&file], "--vni 1-4 --rate 20000", frames.len());
            }
        };
        fs::write(&list, "# the first two\nvni 1, 2\n").unwrap();
        let arguments = format!("{way} --allow {} --workers 1 --flush 100ms", list.display());
        let sensor = Setup::new(&pair.sensor).with(&arguments).start();
        let change = |to: &str, says: &str| {
            let seen = sensor.lines();
            fs::write(&list, to).unwrap();
            sensor.process.signal(Signal::USR2);
            sensor.says(seen, says);
            allowed(&sensor.process.stderr.all(), seen)
        };
        assert_eq!(allowed(&sensor.process.stderr.all(), 0), ["allowed VNIs: 1-2", "allowed sources: all"]);
        // 101 of VNI 1, 100 of each other, by each of IPv4 and IPv6.
        send();
        has_written(&sensor, &pair, Ip::V4, 1, 101);
        let now = change("vni 1\nvni 3-4\nfrom 10.73.0.0/30 10.0.0.9\n", "allowed sources");
        assert_eq!(now, ["allowed VNIs: 1, 3-4", "allowed sources: 10.0.0.9, 10.73.0.0/30"]);
        send();
        has_written(&sensor, &pair, Ip::V4, 1, 2 * 101);
        // What cannot be understood changes nothing, and neither does what says nothing.
        change("vni 2\nvni some\n", "line 2: \"some\" is not a VNI");
        change("# everything\n", "what was allowed stays so");
        change("", "names no VNI and no source");
        send();
        has_written(&sensor, &pair, Ip::V4, 1, 3 * 101);
        let now = change("vni all\n", "allowed sources");
        assert_eq!(now, ["allowed VNIs: all", "allowed sources: all"]);
        send();
        has_written(&sensor, &pair, Ip::V4, 1, 4 * 101);

        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        ended.ledger.assert_closes(&ended.captures);
        pair.assert_all_arrived(ended.ledger.received(), 8 * frames.len());
        // Twice 201 of IPv4 and IPv6 were of VNIs 1 and 2, and so on; the rest was refused.
        let refused = 2 * 200 + 2 * (100 + FRAMES);
        assert_eq!(unselected(&ended), (refused, if way.contains("bpf") { refused } else { 0 }), "{way}");
        let times = [(Ip::V4, 1, 4), (Ip::V4, 2, 2), (Ip::V4, 3, 3), (Ip::V4, 4, 3)];
        let times = times.into_iter().chain([(Ip::V6, 1, 2), (Ip::V6, 2, 2), (Ip::V6, 3, 1), (Ip::V6, 4, 1)]);
        for (ip, vni, times) in times {
            let once: Vec<_> = frames.iter().skip(vni as usize - 1).step_by(4).collect();
            let wanted = vec![once; times].concat();
            assert_holds(&format!("{way} {vni}"), &captures::session(&ended.captures, pair.source(ip), vni), &wanted);
        }
    }
}

#[test]
fn a_file_that_cannot_be_used_keeps_the_sensor_from_starting() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("allowed");
    let pair = Pair::new(1600);
    let start = || Setup::new(&pair.sensor).with(&format!("--allow {}", list.display()));
    let (code, text) = start().fails();
    assert!(code == Some(1) && text.contains("cannot read") && text.contains("allowed"), "{text}");
    fs::write(&list, "vni 1\nsource 10.0.0.1\n").unwrap();
    let (code, text) = start().fails();
    assert!(code == Some(1) && text.contains("line 2"), "{text}");
    for nothing in ["", "# vni 1\n"] {
        fs::write(&list, nothing).unwrap();
        let (code, text) = start().fails();
        assert!(code == Some(1) && text.contains("names no VNI and no source"), "{text}");
    }
    // Without a file the signal does no harm.
    let sensor = Setup::new(&pair.sensor).start();
    sensor.process.signal(Signal::USR2);
    sensor.says(0, "no file to read again");
    sensor.stop().assert_all_is_well();
}
