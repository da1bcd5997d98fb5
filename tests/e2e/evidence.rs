//! What `vxtap verify` says of the directory of a real run, before and after somebody tampers with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::captures;
use crate::frames;
use crate::manifest::{assert_verified, named, verify};
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::{eventually, run};
use crate::replay::{self, replay_all};
use crate::sensor::{Sensor, Setup};

/// Fails unless a copy of these captures, changed by this, is found to differ in this.
#[track_caller]
fn assert_found(captures: &Path, tamper: impl FnOnce(&Path), differences: &[String]) {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy");
    run(Command::new("cp").arg("-a").arg(captures).arg(&copy));
    assert_verified(&copy);
    tamper(&copy);
    let (code, text) = verify(&copy);
    assert_eq!(code, Some(4), "{text}");
    for difference in differences {
        assert!(text.contains(difference), "{difference:?} is not in {text}");
    }
    let count =
        if differences.len() == 1 { "1 difference".into() } else { format!("{} differences", differences.len()) };
    assert!(text.contains(&format!("; {count}\n")), "{count} and no more: {text}");
}

/// Changes the lines of the manifest.
fn edit(captures: &Path, change: impl FnOnce(&mut Vec<String>)) {
    let path = captures.join("manifest.jsonl");
    let mut lines: Vec<String> = fs::read_to_string(&path).unwrap().lines().map(String::from).collect();
    change(&mut lines);
    fs::write(&path, lines.join("\n") + "\n").unwrap();
}

#[test]
fn tampering_is_found_and_named() {
    if !need::programs(&["cp"]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(3000);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let arguments = "--flush 100ms --rotate-size 128KiB --compress zstd --format pcapng --sync publish";
    let sensor = Setup::new(&pair.sensor).with(arguments).start();
    let replay = replay::start(&pair.sender, pair.target(Ip::V4), &[&file], "--vni 1-3 --loop 100000 --rate 10000");
    // While files come and get their names.
    for turn in 1..=8 {
        eventually("files are published", || named(&sensor.captures).len() > 4 * turn);
        assert_verified(&sensor.captures);
    }
    replay.0.signal(Signal::INT);
    replay.ended();
    let ended = sensor.stop();
    ended.assert_all_is_well();
    assert_verified(&ended.captures);

    let lines = named(&ended.captures);
    let path = |n: usize| lines[n]["path"].as_str().unwrap().to_string();
    let flip = |path: PathBuf| {
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    };
    assert_found(&ended.captures, |copy| flip(copy.join(path(3))), &[format!("{} was changed", path(3))]);
    let cut = |copy: &Path| fs::File::options().write(true).open(copy.join(path(4))).unwrap().set_len(100).unwrap();
    assert_found(&ended.captures, cut, &[path(4)]);
    let remove = |copy: &Path| fs::remove_file(copy.join(path(5))).unwrap();
    assert_found(&ended.captures, remove, &[format!("{} is missing (line 6)", path(5))]);
    let add = |copy: &Path| {
        fs::copy(copy.join(path(0)), copy.join(path(0)).with_file_name("added.pcapng.zst")).unwrap();
    };
    assert_found(&ended.captures, add, &["/added.pcapng.zst is not in the manifest".into()]);
    // The line behind it follows no more, and its file is of no line.
    let unlist = |copy: &Path| edit(copy, |lines| drop(lines.remove(6)));
    assert_found(&ended.captures, unlist, &["line 7".into(), format!("{} is not in the manifest", path(6))]);
    let frames = lines[7]["frames"].as_u64().unwrap();
    let change = |copy: &Path| {
        edit(copy, |lines| {
            let edited = lines[7].replace(&format!("\"frames\":{frames},"), &format!("\"frames\":{},", frames + 1));
            assert_ne!(edited, lines[7]);
            lines[7] = edited;
        });
    };
    assert_found(&ended.captures, change, &["line 9".into()]);
}

/// The names of a sensor's threads.
fn threads(sensor: &Sensor) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", sensor.process.pid().as_raw_nonzero())).unwrap();
    tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap().trim_end().into()).collect()
}

#[test]
fn what_was_not_hashed_is_told_apart() {
    if !need::programs(&["cp"]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(1000);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let captures = directory.path().join("captures");
    let run = |arguments: &str| {
        let sensor = Setup::new(&pair.sensor).with("--rotate-frames 200").with(arguments).writing(&captures).start();
        let hashes = threads(&sensor).iter().any(|name| name == "vxtap-hash");
        assert_eq!(hashes, arguments.is_empty(), "{:?}", threads(&sensor));
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "", frames.len());
        eventually("files are published", || !named(&captures).is_empty());
        assert_verified(&captures);
        sensor.stop()
    };
    run("--no-sha256").assert_all_is_well();
    let unhashed = named(&captures).len();
    assert!(unhashed >= 5 && named(&captures).iter().all(|line| line.get("sha256").is_none()));
    let said = |count: usize| format!("{count} files were written with --no-sha256: only their sizes were compared");
    let (code, text) = verify(&captures);
    assert!(code == Some(0) && text.contains(&said(unhashed)), "{text}");

    // Both kinds in a directory.
    assert_eq!(run("").code, Some(0));
    let lines = named(&captures);
    assert!(lines.len() > unhashed && lines[unhashed..].iter().all(|line| line["sha256"].is_string()));
    let (code, text) = verify(&captures);
    assert!(code == Some(0) && text.contains(&said(unhashed)), "{text}");

    let path = |n: usize| lines[n]["path"].as_str().unwrap();
    let longer = |copy: &Path| {
        let mut file = fs::File::options().append(true).open(copy.join(path(1))).unwrap();
        std::io::Write::write_all(&mut file, &[0]).unwrap();
    };
    assert_found(&captures, longer, &[format!("{} was changed: it has ", path(1))]);
    let frames = lines[2]["frames"].as_u64().unwrap();
    let change = |copy: &Path| {
        edit(copy, |lines| {
            let edited = lines[2].replace(&format!("\"frames\":{frames},"), &format!("\"frames\":{},", frames + 1));
            assert_ne!(edited, lines[2]);
            lines[2] = edited;
        });
    };
    assert_found(&captures, change, &["line 4 does not follow from line 3".into()]);
    // The hash taken out of a line, so that its file could be changed.
    let unhash = |copy: &Path| {
        edit(copy, |all| {
            let hash = format!(",\"sha256\":\"{}\"", lines[unhashed]["sha256"].as_str().unwrap());
            let edited = all[unhashed].replace(&hash, "");
            assert_ne!(edited, all[unhashed]);
            all[unhashed] = edited;
        });
    };
    assert_found(&captures, unhash, &[format!("line {} does not follow", unhashed + 2)]);
}

#[test]
fn one_directory_is_of_one_sensor() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(500);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let first = Setup::new(&pair.sensor).start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "", frames.len());
    first.is_writing();
    let before = captures::files(&first.captures);
    let second = Setup::new(&pair.sensor).with("--source udp --listen 0.0.0.0:8472").writing(&first.captures);
    let (code, text) = second.fails();
    assert_eq!(code, Some(1), "{text}");
    let pid = first.process.pid().as_raw_nonzero().to_string();
    let named = text.split(|c: char| !c.is_ascii_digit()).any(|number| number == pid);
    assert!(named, "the first is process {pid}: {text}");
    assert_eq!(captures::files(&first.captures), before);
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "", frames.len());
    let ended = first.stop();
    ended.assert_all_is_well();
    assert_verified(&ended.captures);
}
