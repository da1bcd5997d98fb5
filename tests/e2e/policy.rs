//! What the configuration says of sessions: names, outputs, lengths, and which go nowhere.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::captures::{self, Record, assert_same, session_name, tshark};
use crate::configuration::{WAYS, configuration, patient};
use crate::frames;
use crate::manifest::{self, assert_verified};
use crate::mirror::persistent;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::{eventually, task_named};
use crate::replay::replay_all;
use crate::sensor::Setup;
use crate::stream::Stream;
use crate::tcpdump::Tcpdump;

/// Frames that are sent. VNIs 1 to 5 take turns.
const FRAMES: usize = 1000;
const LENGTH: usize = 200;
/// The way by which frames go into the interface without user space.
const REDIRECTED: (&str, &str) = ("source = \"bpf\"\ninterface = \"eth0\"", "redirect");

/// Two sessions with names, one without, one that goes nowhere, and one for the interface alone.
const SESSIONS: &str = r#"
[[session]]
name = "web-1"
description = "the shop"
vni = 1
source = "10.0.0.0/8"

[[session]]
name = "db"
vni = 2
outputs = "evidence"
snaplen = 64

[[session]]
name = "noise"
vni = 3
drop = true

[[session]]
vni = 5
outputs = ["ids"]
"#;

/// Writes a configuration with these tables, by which files have their frames soon, and there is
/// room for what comes while the sensor waits for a core.
fn configure(directory: &Path, receive: &str, tables: &str) -> PathBuf {
    let receive = format!("{receive}\n{}", patient(receive));
    configuration(directory, &receive, &format!("[delivery]\nflush = \"100ms\"\n{tables}"), "format = \"pcapng\"")
}

/// The table of an interface that gets its frames so.
fn ids(mode: &str) -> String {
    format!("[output.ids]\nkind = \"tap\"\ninterface = \"mirror0\"\nmode = \"{mode}\"\n")
}

/// Returns the records of the session whose directory is named so.
fn records(evidence: &Path, directory: &str) -> Vec<Record> {
    captures::files(&evidence.join(directory)).iter().flat_map(|path| captures::read(path)).collect()
}

fn directories(evidence: &Path) -> Vec<String> {
    let entries = fs::read_dir(evidence).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> = entries
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn sessions_have_names_outputs_and_lengths_of_their_own() {
    if !need::programs(&["tcpdump", "tshark"]) {
        return;
    }
    let all: Vec<_> = (0..FRAMES as u32).map(|n| frames::numbered(n, LENGTH)).collect();
    let of = |vni: usize| all.iter().skip(vni - 1).step_by(5).collect::<Vec<_>>();
    let each = FRAMES as u64 / 5;
    for (way, mode) in WAYS.map(|way| (way, "inject")).into_iter().chain([REDIRECTED]) {
        let directory = tempfile::tempdir().unwrap();
        let [first, rest] = [("first", &all[..5]), ("rest", &all[5..])]
            .map(|(name, frames)| frames::write(directory.path(), name, frames));
        let sessions = format!("{SESSIONS}{}", ids(mode));
        let config = configure(directory.path(), way, &sessions);
        let evidence = directory.path().join("evidence");
        let pair = Pair::new(1600);
        persistent(&pair.sensor, "mirror0", "tap");
        let sensor = Setup::new(&pair.sensor).configured(&config).start();
        let tcpdump = Tcpdump::start(&pair.sensor, "mirror0", "");
        replay_all(&pair.sender, pair.target(Ip::V4), &[&first], "--vni 1-5", 5);
        // By then a program that redirects knows of the sessions that it may.
        eventually("the first frames are in", || pair.sensor.link_counter("mirror0", "rx", "packets") == 3);
        task_named(sensor.process.pid(), "vxtap-ids").comes_round();
        replay_all(&pair.sender, pair.target(Ip::V4), &[&rest], "--vni 1-5 --rate 5000", FRAMES - 5);
        let on_tap = tcpdump.frames_of(3 * FRAMES / 5);
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{way}: {:#?}", ended.log);
        pair.assert_all_arrived(ended.ledger.received(), FRAMES);

        // The files.
        let source = pair.source(Ip::V4);
        let [web, db, plain] = [("web-1", 1), ("db", 2), ("", 4)].map(|(name, vni)| session_name(name, source, vni));
        assert_eq!(directories(&evidence), [&*db, &*plain, &*web], "{way}");
        for (name, vni) in [(&web, 1), (&plain, 4)] {
            let got: Vec<_> = records(&evidence, name).into_iter().map(|record| record.frame).collect();
            assert_same(name, &got, &of(vni));
        }
        let short: Vec<_> = records(&evidence, &db).into_iter().map(|r| (r.frame, r.orig_len)).collect();
        let wanted: Vec<_> = of(2).into_iter().map(|frame| (frame[..64].to_vec(), LENGTH as u32)).collect();
        assert!(short == wanted, "{way}: {} frames of VNI 2, cut to 64 bytes", short.len());
        let [capture] = captures::files(&evidence.join(&web)).try_into().unwrap();
        let fields = ["frame.len", "frame.interface_name", "frame.interface_description"];
        let line = format!("{LENGTH}\t{web}\tthe shop: VXLAN mirror session of {source}, VNI 1");
        assert_eq!(tshark(&capture, &fields), vec![line; each as usize]);
        assert_verified(&evidence);

        // The interface: the frames of VNI 1, 4 and 5, in the order in which each was sent.
        let wanted: Vec<_> = all.iter().enumerate().filter(|(n, _)| matches!(n % 5 + 1, 1 | 4 | 5)).collect();
        let (mut got, mut wanted): (Vec<_>, Vec<_>) = (on_tap, wanted.into_iter().map(|(_, f)| f.clone()).collect());
        got.sort();
        wanted.sort();
        assert_same("tcpdump on the interface", &got, &wanted);

        // The ledger.
        let ledger = &ended.ledger;
        ["evidence", "ids"].iter().for_each(|name| ledger.assert_output_closes(name));
        assert_eq!((ledger.get("/unselected"), ledger.get("/overflow/frames")), (each, 0));
        for (output, written, filtered, snapped) in [("evidence", 3, 2, 1), ("ids", 3, 2, 0)] {
            let get = |what: &str| ledger.get(&format!("/outputs/{output}/{what}"));
            let got = ["written", "filtered", "filtered_by/session", "snapped"].map(get);
            assert_eq!(got, [written, filtered, filtered, snapped].map(|n| n * each), "{way}: {output}");
        }
        if mode == "redirect" {
            // What the interface does not get, and first frames.
            let by_user_space = ledger.get("/fast_path/not_redirected/session");
            assert_eq!(ledger.get("/fast_path/redirected") + by_user_space, FRAMES as u64);
            assert_eq!(by_user_space, 2 * each + 3, "{:#}", ledger.0);
        }
        let named = ledger.0["sessions"].as_array().unwrap().iter().map(|session| {
            let text = |key: &str| session.get(key).and_then(|value| value.as_str().map(String::from));
            (session["vni"].as_u64().unwrap(), session["frames"].as_u64().unwrap(), text("name"), text("description"))
        });
        let named: Vec<_> = named.collect();
        let text = |text: &str| Some(text.to_owned());
        let wanted = [
            (1, each, text("web-1"), text("the shop")),
            (2, each, text("db"), None),
            (4, each, None, None),
            (5, each, None, None),
        ];
        assert_eq!(named, wanted, "{way}");
    }
}

/// Says what the policy is in round `n`: names that change, and a session that is let in now and
/// then, whole or cut, for one output or both.
fn round(n: u32) -> String {
    let name = ["a", "b", "c"][n as usize % 3];
    let third = ["", "drop = true", "outputs = \"evidence\"", "outputs = \"more\"", "snaplen = 100"][n as usize % 5];
    format!("[[session]]\nname = \"{name}\"\nvni = 1\n[[session]]\nname = \"third\"\nvni = 3\n{third}\n")
}

#[test]
fn plans_change_under_load_and_the_ledger_closes() {
    if !need::programs(&[]) {
        return;
    }
    for way in WAYS {
        let directory = tempfile::tempdir().unwrap();
        let [evidence, more] = ["evidence", "more"].map(|name| directory.path().join(name));
        let outputs = format!("[output.more]\nkind = \"pcap\"\ndirectory = {more:?}\n");
        let begin = |n| configure(directory.path(), way, &(round(n) + &outputs));
        let pair = Pair::new(1600);
        let sensor = Setup::new(&pair.sensor).configured(&begin(0)).start();
        let stream = Stream::start(&pair.sender, pair.target(Ip::V4), 3, 20_000);
        eventually("frames come", || captures::files(&evidence).len() == 3);
        for n in 1..=30 {
            begin(n);
            sensor.reload("SIGUSR2: reloaded ");
            // Reloads can be faster than frames reach the files. Each name has some at least once.
            if let Some(name) = ["", "b_vni1_", "c_vni1_", "a_vni1_"].get(n as usize) {
                eventually(name, || directories(&evidence).iter().any(|directory| directory.starts_with(name)));
            }
        }
        let sent = stream.end();
        let ended = sensor.stop();
        ended.assert_received(&pair, sent);
        let ledger = &ended.ledger;
        assert!(ledger.get("/unselected") > 0);
        for (name, captures) in [("evidence", &evidence), ("more", &more)] {
            ledger.assert_output_closes(name);
            assert_verified(captures);
            let all = |ending: &str| -> Vec<(u64, u32)> {
                let ours = directories(captures).into_iter().filter(|name| name.contains(ending));
                let records = ours.flat_map(|name| records(captures, &name));
                // One that is cut has its number still.
                let number = |record: &Record| u32::from_be_bytes(record.frame[42..46].try_into().unwrap());
                let mut all: Vec<_> = records.map(|record| (record.time, number(&record))).collect();
                all.sort_unstable();
                all
            };
            for vni in [1, 2] {
                let got = all(&format!("vni{vni}_"));
                let gap = got.windows(2).find(|pair| pair[0].1 + 3 != pair[1].1);
                assert_eq!((gap, got[0].1), (None, vni - 1), "{way}: {name}, VNI {vni}, {} frames", got.len());
            }
            let third = all("vni3_");
            assert!(third.windows(2).all(|pair| pair[0].1 < pair[1].1), "{way}: {name}: none twice");
            let (written, filtered) = ("written", "filtered_by/session");
            let [written, filtered] = [written, filtered].map(|what| ledger.get(&format!("/outputs/{name}/{what}")));
            let held = all("vni").len() as u64;
            assert_eq!((written, written + filtered), (held, ledger.received()), "{way}: {name}");
        }
        let names = [("a", 1), ("b", 1), ("c", 1), ("third", 3), ("", 2)]
            .map(|(name, vni)| session_name(name, pair.source(Ip::V4), vni));
        assert_eq!(directories(&evidence), names, "{way}");
        let name = ledger.0["sessions"][0]["name"].as_str();
        assert_eq!(name, Some("a"), "that of the last round");
    }
}

#[test]
fn what_is_redirected_changes_under_load() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let evidence = directory.path().join("evidence");
    let begin = |n: usize| {
        let third = ["", "drop = true", "outputs = \"evidence\"", "outputs = \"ids\""][n % 4];
        let tap = ids(REDIRECTED.1);
        configure(directory.path(), REDIRECTED.0, &format!("[[session]]\nvni = 3\n{third}\n{tap}"))
    };
    let pair = Pair::new(1600);
    let sensor = Setup::new(&pair.sensor).configured(&begin(0)).start();
    let stream = Stream::start(&pair.sender, pair.target(Ip::V4), 3, 20_000);
    eventually("frames come", || captures::files(&evidence).len() == 3);
    for n in 1..=60 {
        begin(n);
        sensor.reload("SIGUSR2: reloaded ");
        let before = stream.sent();
        eventually("frames go on", || stream.sent() > before + 500);
    }
    let sent = stream.end();
    let ended = sensor.stop();
    ended.assert_received(&pair, sent);
    let ledger = &ended.ledger;
    assert!(ledger.get("/unselected") > 0 && ledger.get("/fast_path/redirected") > 0, "{:#}", ledger.0);
    for name in ["evidence", "ids"] {
        ledger.assert_output_closes(name);
        let [written, filtered] =
            ["written", "filtered_by/session"].map(|what| ledger.get(&format!("/outputs/{name}/{what}")));
        assert_eq!(written + filtered, ledger.received(), "{name}: {:#}", ledger.0);
        assert!(filtered > 0, "{name}");
    }
    assert_verified(&evidence);
    let numbers = |vni: u32| {
        let records = records(&evidence, &session_name("", pair.source(Ip::V4), vni));
        records.iter().map(|record| u32::from_be_bytes(record.frame[42..46].try_into().unwrap())).collect::<Vec<_>>()
    };
    for vni in [1, 2] {
        let got = numbers(vni);
        let gap = got.windows(2).find(|pair| pair[0] + 3 != pair[1]);
        assert_eq!((gap, got[0]), (None, vni - 1), "VNI {vni}, {} frames", got.len());
    }
    assert!(numbers(3).windows(2).all(|pair| pair[0] < pair[1]), "none twice, and in order");
}

#[test]
fn what_an_entry_for_a_port_keeps_out_of_the_interface_is_not_redirected() {
    if !need::programs(&["tcpdump"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let all: Vec<_> = (0..400).map(|n| frames::numbered(n, LENGTH)).collect();
    let tap = ids(REDIRECTED.1);
    // VNI 3 is kept out, so the program redirects what is marked.
    let begin = |entry: &str| {
        let receive = format!("{}\nlisten = [\"4789\", \"8472\"]", REDIRECTED.0);
        configure(directory.path(), &receive, &format!("{entry}[[session]]\nvni = 3\noutputs = \"evidence\"\n{tap}"))
    };
    let pair = Pair::new(1600);
    let config = begin("");
    let sensor = Setup::new(&pair.sensor).configured(&config).start();
    let mut tcpdump = Tcpdump::start(&pair.sensor, "mirror0", "");
    // The session comes to both ports, and is marked by the first frames.
    let send = |port: u16, frames: &[Vec<u8>]| {
        let file = frames::write(directory.path(), "frames.pcap", frames);
        let target = std::net::SocketAddr::new(pair.target(Ip::V4).ip(), port);
        replay_all(&pair.sender, target, &[&file], "--vni 1 --rate 5000", frames.len());
    };
    send(4789, &all[..100]);
    tcpdump.has_captured(100);
    task_named(sensor.process.pid(), "vxtap-ids").comes_round();
    send(8472, &all[100..200]);
    tcpdump.has_captured(200);
    begin("[[session]]\nname = \"other\"\nvni = 1\nport = 8472\ndrop = true\n");
    sensor.reload("SIGUSR2: reloaded ");
    send(8472, &all[200..300]);
    send(4789, &all[300..]);
    // What is injected can come behind what is redirected, so the order is not looked at.
    let (mut got, mut wanted) = (tcpdump.frames_of(300), [&all[..200], &all[300..]].concat());
    got.sort();
    wanted.sort();
    assert_same("tcpdump on the interface", &got, &wanted);
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    let ledger = &ended.ledger;
    assert!(ledger.get("/fast_path/redirected") > 0, "{:#}", ledger.0);
    assert_eq!((ledger.received(), ledger.get("/unselected")), (400, 100));
    for name in ["evidence", "ids"] {
        ledger.assert_output_closes(name);
        let [written, filtered] = ["written", "filtered"].map(|what| ledger.get(&format!("/outputs/{name}/{what}")));
        assert_eq!((written, filtered), (300, 100), "{name}");
    }
}

#[test]
fn a_session_with_a_name_is_redirected() {
    if !need::programs(&["tcpdump"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let all: Vec<_> = (0..200).map(|n| frames::numbered(n, LENGTH)).collect();
    let file = frames::write(directory.path(), "frames.pcap", &all);
    let pair = Pair::new(1600);
    let tap = ids(REDIRECTED.1);
    let named = format!("[[session]]\nname = \"web-1\"\nvni = 1\n{tap}");
    let config = configure(directory.path(), "source = \"bpf\"\ninterface = \"eth0\"", &named);
    let sensor = Setup::new(&pair.sensor).configured(&config).start();
    let tcpdump = Tcpdump::start(&pair.sensor, "mirror0", "");
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--vni 1-2 --rate 5000", all.len());
    assert_same("tcpdump on the interface", &tcpdump.frames(), &all);
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    ["evidence", "ids"].iter().for_each(|name| ended.ledger.assert_output_closes(name));
    assert_eq!(ended.ledger.get("/fast_path/redirected"), all.len() as u64);
    let evidence = directory.path().join("evidence");
    let name = session_name("web-1", pair.source(Ip::V4), 1);
    let got: Vec<_> = records(&evidence, &name).into_iter().map(|record| record.frame).collect();
    assert_same("the files", &got, &all.iter().step_by(2).collect::<Vec<_>>());
    assert_verified(&evidence);

    // What a program in the kernel cannot tell is refused.
    let cut = named.replace("vni = 1", "vni = 1\nsnaplen = 64");
    let config = configure(directory.path(), "source = \"bpf\"\ninterface = \"eth0\"", &cut);
    let (code, text) = Setup::new(&pair.sensor).configured(&config).fails();
    assert!(code == Some(2) && text.contains("redirect"), "{code:?} {text}");
}

#[test]
fn what_a_crash_left_of_a_named_session_is_salvaged() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let all: Vec<_> = (0..100).map(|n| frames::numbered(n, LENGTH)).collect();
    let file = frames::write(directory.path(), "frames.pcap", &all);
    let evidence = directory.path().join("evidence");
    let pair = Pair::new(1600);
    let config = configure(directory.path(), WAYS[0], SESSIONS.split("[[session]]\nvni = 5").next().unwrap());
    let mut sensor = Setup::new(&pair.sensor).configured(&config).start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--vni 1-2 --rate 5000", all.len());
    let name = session_name("web-1", pair.source(Ip::V4), 1);
    let readable = || captures::files(&evidence).iter().map(|path| captures::readable(path)).sum::<usize>();
    eventually("the frames of both sessions are on disk", || readable() == all.len());
    sensor.process.signal(Signal::KILL);
    sensor.process.wait();

    // The next run knows no names.
    let config = configure(directory.path(), WAYS[0], "");
    let sensor = Setup::new(&pair.sensor).configured(&config).start();
    let is_salvaged = |path: &PathBuf| path.to_str().unwrap().ends_with(".recovered.pcapng");
    eventually("all is salvaged", || captures::files(&evidence).iter().filter(|path| is_salvaged(path)).count() == 2);
    let ended = sensor.stop();
    assert_eq!((ended.code, ended.ledger.get("/outputs/evidence/recovered")), (Some(0), 2), "{:#?}", ended.log);
    let got: Vec<_> = records(&evidence, &name).into_iter().map(|record| record.frame).collect();
    assert_same("what was salvaged", &got, &all.iter().step_by(2).collect::<Vec<_>>());
    let recovered = manifest::lines(&evidence);
    assert!(recovered.iter().all(|line| line["event"] == "recovered"), "{recovered:#?}");
    let name = |line: &Value| (line["session"]["vni"].as_u64().unwrap(), line["name"].as_str().unwrap().to_owned());
    let mut names: Vec<_> = recovered.iter().map(name).collect();
    names.sort();
    assert_eq!(names, [(1, "web-1".to_owned()), (2, "db".to_owned())]);
    assert_verified(&evidence);
}
