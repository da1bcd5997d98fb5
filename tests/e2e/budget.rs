//! How much is kept: the oldest captures go, no others, while it runs, after a restart and after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::captures::{self, assert_open, session_directory};
use crate::frames;
use crate::manifest::{assert_verified, events, lines, named, verify};
use crate::need;
use crate::netns::{Ip, Pair};
use crate::overload::Mount;
use crate::process::eventually;
use crate::replay::{self, Replay};
use crate::sensor::{Ended, Sensor, Setup};

const VNIS: u32 = 3;
/// Bytes at which files are cut.
const CUT: u64 = 128 << 10;
/// Files to be published in a run, far more than are kept.
const FILES: usize = 60;

/// Traffic that does not end by itself.
struct Load {
    pair: Pair,
    file: PathBuf,
    directory: TempDir,
}

impl Load {
    fn new() -> Load {
        let directory = tempfile::tempdir().unwrap();
        let file = frames::write(directory.path(), "frames.pcap", &frames::assorted(1001));
        Load { pair: Pair::new(1600), file, directory }
    }

    fn start(&self) -> Replay {
        let arguments = format!("--vni 1-{VNIS} --loop 1000000 --rate 6000");
        replay::start(&self.pair.sender, self.pair.target(Ip::V4), &[&self.file], &arguments)
    }

    fn setup(&self, arguments: &str) -> Setup<'_> {
        Setup::new(&self.pair.sensor).with(&format!("--flush 100ms --rotate-size {CUT}")).with(arguments)
    }

    /// Lets a sensor run until it has published enough, and looks at it all the while.
    fn run(&self, arguments: &str, directory: &Path, mut look: impl FnMut(&Sensor)) -> Ended {
        let sensor = self.setup(arguments).writing(directory).start();
        let replay = self.start();
        eventually("many files are published", || {
            look(&sensor);
            events(&sensor.captures, "published").len() >= FILES
        });
        replay.0.signal(Signal::INT);
        let sent = replay.ended();
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        self.pair.assert_all_arrived(ended.ledger.received(), sent.frames as usize);
        ended.ledger.assert_lossless();
        ended
    }
}

/// Captures by path, as the lines of a manifest tell it: those that are there after each line. Fails where one is pruned while an older one
/// stays.
fn replayed(captures: &Path, mut each: impl FnMut(&BTreeMap<String, Value>)) -> BTreeMap<String, Value> {
    let mut there: BTreeMap<String, Value> = BTreeMap::new();
    for line in lines(captures) {
        let path = line["path"].as_str().unwrap_or_default().to_string();
        match line["event"].as_str().unwrap() {
            "published" | "recovered" => {
                assert!(there.insert(path, line).is_none());
            }
            "pruned" => {
                let pruned = there.remove(&path).unwrap_or_else(|| panic!("{path} is pruned and was not there"));
                let last = |line: &Value| line["last"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
                let older: Vec<&String> =
                    there.iter().filter(|(_, line)| last(line) < last(&pruned)).map(|(path, _)| path).collect();
                assert!(older.is_empty(), "{path} is pruned before the older {older:?}");
            }
            other => panic!("{other}"),
        }
        each(&there);
    }
    there
}

/// Fails unless this is kept, or within two seconds: the thread that sees to it may have to wait for a core.
#[track_caller]
fn soon(measure: impl Fn() -> u64, is_kept: impl Fn(u64) -> bool, what: &str) {
    let begin = Instant::now();
    loop {
        let measured = measure();
        if is_kept(measured) {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(2), "{measured} {what}");
    }
}

/// Captures that have their name, by path.
fn published(captures: &Path) -> BTreeSet<PathBuf> {
    let ours = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("vni");
    captures::files(captures)
        .into_iter()
        .filter(|path| ours(path) && path.extension().is_some_and(|extension| extension == "pcap"))
        .collect()
}

/// Fails unless what is there is what the manifest says, and all that was written is there or was pruned.
fn assert_adds_up(ended: &Ended) {
    let there = replayed(&ended.captures, |_| {});
    let paths: BTreeSet<PathBuf> = there.keys().map(|path| ended.captures.join(path)).collect();
    assert_eq!(published(&ended.captures), paths);
    let frames: u64 = named(&ended.captures).iter().map(|line| line["frames"].as_u64().unwrap()).sum();
    assert_eq!(frames, ended.ledger.written());
    let count = |what: &str| ended.ledger.get(&format!("/outputs/pcap/{what}"));
    assert_eq!(there.len() as u64, count("files") + count("recovered") - count("pruned"));
    assert_eq!(count("pruned"), events(&ended.captures, "pruned").len() as u64);
    assert_open(&paths.into_iter().collect::<Vec<_>>());
}

#[test]
fn of_files_beside_those_of_others() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    const KEEP: usize = 10;
    let load = Load::new();
    let captures = load.directory.path().join("captures");
    let sessions = session_directory(&captures, load.pair.source(Ip::V4), 1);
    fs::create_dir_all(&sessions).unwrap();
    let strangers = [captures.join("stranger.pcap"), sessions.join("stranger.pcap"), sessions.join("notes.txt")];
    strangers.iter().for_each(|path| fs::write(path, "not of the sensor").unwrap());
    let ended = load.run(&format!("--keep-files {KEEP}"), &captures, |sensor| {
        // One more is published before the oldest goes, and one may come while the directories are listed.
        soon(|| published(&sensor.captures).len() as u64, |there| there <= KEEP as u64 + 2, "files");
    });
    assert_adds_up(&ended);
    replayed(&captures, |there| assert!(there.len() <= KEEP + 1, "{} files", there.len()));
    assert_eq!(published(&captures).len(), KEEP);
    assert!(events(&captures, "pruned").iter().all(|line| line["reason"] == "keep_files"));

    strangers.iter().for_each(|path| assert_eq!(fs::read_to_string(path).unwrap(), "not of the sensor"));
    let (code, text) = verify(&captures);
    assert_eq!(code, Some(4), "{text}");
    assert_eq!(text.matches("stranger.pcap is not in the manifest").count(), 2, "{text}");
    strangers.iter().for_each(|path| fs::remove_file(path).unwrap());
    assert_verified(&captures);
}

#[test]
fn of_bytes() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    const KEEP: u64 = 2 << 20;
    let load = Load::new();
    let captures = load.directory.path().join("captures");
    let ended = load.run(&format!("--keep-bytes {KEEP}"), &captures, |sensor| {
        let size = |path: &PathBuf| fs::metadata(path).map_or(0, |file| file.len());
        let bytes = || captures::files(&sensor.captures).iter().map(size).sum();
        // Each session may come to its cut before the oldest go.
        soon(bytes, |bytes| bytes <= KEEP + u64::from(VNIS + 1) * CUT, "bytes");
    });
    assert_adds_up(&ended);
    let bytes =
        |there: &BTreeMap<String, Value>| there.values().map(|line| line["bytes"].as_u64().unwrap()).sum::<u64>();
    replayed(&captures, |there| assert!(bytes(there) <= KEEP + CUT, "{} bytes", bytes(there)));
    let kept = bytes(&replayed(&captures, |_| {}));
    assert!(kept <= KEEP && kept + u64::from(VNIS + 1) * CUT > KEEP, "{kept} bytes are kept, no more than needed go");
    assert!(events(&captures, "pruned").iter().all(|line| line["reason"] == "keep_bytes"));
    assert_verified(&captures);
}

#[test]
fn of_age() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    let load = Load::new();
    let sensor = load.setup("--keep-age 1s").start();
    let replay = load.start();
    let age = |line: &Value| {
        let last: jiff::Timestamp = line["last"].as_str().unwrap().parse().unwrap();
        jiff::Timestamp::now().duration_since(last).as_secs_f64()
    };
    eventually("many files are published", || {
        let lines = named(&sensor.captures);
        let there = lines.iter().filter(|line| sensor.captures.join(line["path"].as_str().unwrap()).exists());
        // They are looked at each second.
        let oldest = there.map(age).fold(0.0, f64::max);
        assert!(oldest < 3.0, "{oldest} s old");
        lines.len() >= FILES
    });
    replay.0.signal(Signal::INT);
    replay.ended();
    eventually("without traffic they go as well", || {
        // Frames may be on their way into files still, and begin new ones.
        sensor.process.signal(Signal::USR1);
        captures::files(&sensor.captures).is_empty()
            && named(&sensor.captures).len() == events(&sensor.captures, "pruned").len()
    });
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    ended.ledger.assert_lossless();
    assert!(replayed(&ended.captures, |_| {}).is_empty());
    assert!(events(&ended.captures, "pruned").iter().all(|line| line["reason"] == "keep_age"));
    assert_verified(&ended.captures);
}

#[test]
fn of_room_on_the_file_system() {
    if !need::programs(&["mount", "umount", "capinfos", "tshark"]) {
        return;
    }
    const FREE: u64 = 4 << 20;
    let load = Load::new();
    let disk = Mount::new("size=6m");
    let room = || statvfs(disk.path()).map(|room| room.f_bavail * room.f_frsize).unwrap();
    let ended = load.run(&format!("--min-free {FREE}"), disk.path(), |_| {
        soon(room, |free| free + u64::from(VNIS + 1) * CUT >= FREE, "bytes free");
    });
    assert_adds_up(&ended);
    let free = room();
    assert!(free < FREE + u64::from(VNIS + 2) * CUT, "{free} bytes are free, no more than needed go");
    assert!(events(disk.path(), "pruned").iter().all(|line| line["reason"] == "min_free"));
    assert_verified(disk.path());
}

#[test]
fn that_is_smaller_after_a_restart_and_after_a_crash() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    let load = Load::new();
    let captures = load.directory.path().join("captures");
    let ended = load.run("--keep-files 20", &captures, |_| {});
    assert_adds_up(&ended);
    let oldest_first: Vec<PathBuf> = {
        let kept = named(&captures);
        kept[kept.len() - 20..].iter().map(|line| captures.join(line["path"].as_str().unwrap())).collect()
    };

    let sensor = load.setup("--keep-files 5").writing(&captures).start();
    eventually("the old files go", || published(&captures).len() == 5);
    assert!(oldest_first[15..].iter().all(|path| path.exists()), "the newest stay");
    assert_eq!(sensor.stop().ledger.get("/outputs/pcap/pruned"), 15);
    assert_verified(&captures);

    let mut sensor = load.setup("--keep-files 5").writing(&captures).start();
    let replay = load.start();
    let before = named(&captures).len();
    eventually("files come and go", || named(&captures).len() > before + 20);
    // All may have been cut a moment ago, and a crash would leave nothing with a frame.
    eventually("files have frames", || {
        let files = captures::files(&captures).into_iter();
        let parts = files.filter(|path| path.extension().is_some_and(|extension| extension == "part"));
        parts.filter_map(|path| fs::metadata(path).ok()).all(|part| part.len() > 1000)
    });
    sensor.process.signal(Signal::KILL);
    sensor.process.wait();
    let (code, text) = verify(&captures);
    assert_eq!(code, Some(0), "after the crash: {text}");
    let sensor = load.setup("--keep-files 4").writing(&captures).start();
    eventually("files are recovered", || !events(&captures, "recovered").is_empty());
    eventually("files come and go again", || named(&captures).len() > before + 50);
    replay.0.signal(Signal::INT);
    replay.ended();
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(published(&captures).len(), 4);
    replayed(&captures, |_| {});
    assert_verified(&captures);
}
