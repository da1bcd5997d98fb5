//! `vxtap verify` judges the directory of a real run, before and after somebody tampers with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::captures;
use crate::frames;
use crate::manifest::{assert_verified, lines, named, verify};
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::{eventually, run, tasks};
use crate::replay::{self, replay_all};
use crate::sensor::Setup;

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
    // Few frames a second, so that none is lost where disk and compressor are slow, and in a file.
    let arguments = "--flush 100ms --rotate-frames 200 --compress zstd --format pcapng --sync publish";
    let sensor = Setup::new(&pair.sensor).with(arguments).start();
    let replay = replay::start(&pair.sender, pair.target(Ip::V4), &[&file], "--vni 1-3 --loop 100000 --rate 2000");
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

/// Returns what such a program prints of each file.
fn printed(program: &str, captures: &Path, lines: &[Value]) -> Vec<String> {
    let files = lines.iter().map(|line| captures.join(line["path"].as_str().unwrap()));
    let output = Command::new(program).args(files).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split(' ').next().unwrap().into()).collect()
}

#[test]
fn each_file_is_compared_by_the_hash_of_its_run() {
    if !need::programs(&["cp", "sha256sum", "b3sum"]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(1000);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let captures = directory.path().join("captures");
    // Three runs in one directory: the lines of each, which have this field and no other for a
    // hash.
    let run = |arguments: &str, field: Option<&str>| {
        let before = if captures.exists() { named(&captures).len() } else { 0 };
        let sensor = Setup::new(&pair.sensor).with("--rotate-frames 200").with(arguments).writing(&captures).start();
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "", frames.len());
        eventually("files are published", || named(&captures).len() > before);
        // By then a thread has its name, which it does not have when it begins.
        let names: Vec<_> = tasks(sensor.process.pid()).into_iter().map(|task| task.name).collect();
        assert_eq!(names.iter().any(|name| name == "vxtap-hash"), field.is_some(), "{names:?}");
        assert_verified(&captures);
        assert_eq!(sensor.stop().code, Some(0));
        assert_verified(&captures);
        let lines = named(&captures).split_off(before);
        assert!(lines.len() >= 5);
        for line in &lines {
            let there: Vec<_> = ["sha256", "blake3"].into_iter().filter(|field| line.get(field).is_some()).collect();
            assert_eq!(there, Vec::from_iter(field), "{line}");
        }
        lines
    };
    let sha256 = run("", Some("sha256"));
    let blake3 = run("--hash blake3", Some("blake3"));
    let unhashed = run("--hash none", None);
    for (program, field, lines) in [("sha256sum", "sha256", &sha256), ("b3sum", "blake3", &blake3)] {
        let said: Vec<_> = lines.iter().map(|line| line[field].as_str().unwrap()).collect();
        assert_eq!(said, printed(program, &captures, lines), "{program}");
    }
    let said = format!("{} files were written with --hash none: only their sizes were compared", unhashed.len());
    let (code, text) = verify(&captures);
    assert!(code == Some(0) && text.contains(&said), "{text}");

    let path = |line: &Value| line["path"].as_str().unwrap().to_string();
    let (hashed, unhashed) = (&blake3[2], &unhashed[1]);
    let flip = |copy: &Path| {
        let path = copy.join(path(hashed));
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    };
    assert_found(&captures, flip, &[format!("{} was changed: its hash is ", path(hashed))]);
    let longer = |copy: &Path| {
        let mut file = fs::File::options().append(true).open(copy.join(path(unhashed))).unwrap();
        std::io::Write::write_all(&mut file, &[0]).unwrap();
    };
    assert_found(&captures, longer, &[format!("{} was changed: it has ", path(unhashed))]);
    // The number of a line.
    let number = |line: &Value| lines(&captures).iter().position(|other| other == line).unwrap();
    let change = |line: &Value, from: &str, to: &str| {
        let n = number(line);
        let edit = |copy: &Path| {
            edit(copy, |lines| {
                let edited = lines[n].replace(from, to);
                assert_ne!(edited, lines[n]);
                lines[n] = edited;
            });
        };
        assert_found(&captures, edit, &[format!("line {} does not follow from line {}", n + 2, n + 1)]);
    };
    let frames = unhashed["frames"].as_u64().unwrap();
    change(unhashed, &format!("\"frames\":{frames},"), &format!("\"frames\":{},", frames + 1));
    // The hash taken out of a line, so that its file could be changed.
    for (line, field) in [(&sha256[1], "sha256"), (&blake3[1], "blake3")] {
        change(line, &format!(",\"{field}\":\"{}\"", line[field].as_str().unwrap()), "");
    }
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
