//! The budget keeps so much and no more: the oldest captures go, no others, while the sensor runs,
//! after a restart and after a crash.
//!
//! The manifest tells in which order captures came and went, and so what there was when one had to
//! go. The budget is judged by that, and not by when it acted, because the thread that sees to it
//! may have to wait for a core. The disk is looked at while the sensor is paused, and compared with
//! the manifest of the same moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
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
use crate::replay::{self, Replay, replay_all};
use crate::sensor::{Ended, Setup};

const VNIS: u32 = 3;
/// Bytes at which files are cut.
const CUT: u64 = 128 << 10;
/// Files to be published in a run, far more than are kept.
const FILES: usize = 60;
/// Bytes of the manifest that are reserved at a time.
const RESERVE: u64 = 64 << 10;

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

    /// Lets a sensor run until it has published enough, and looks at what is there now and then,
    /// while it is paused.
    fn run(&self, arguments: &str, directory: &Path, mut look: impl FnMut(&BTreeSet<PathBuf>)) -> Ended {
        let sensor = self.setup(arguments).writing(directory).start();
        let replay = self.start();
        eventually("many files are published", || {
            sensor.paused(|| look(&on_record(&sensor.captures)));
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

fn time(line: &Value, field: &str) -> Timestamp {
    line[field].as_str().unwrap().parse().unwrap()
}

fn path(line: &Value) -> &str {
    line["path"].as_str().unwrap()
}

fn bytes<'a>(lines: impl IntoIterator<Item = &'a Value>) -> u64 {
    lines.into_iter().map(|line| line["bytes"].as_u64().unwrap()).sum()
}

/// Bytes that a file of this size takes of a file system in memory.
fn pages(line: &Value) -> u64 {
    bytes([line]).next_multiple_of(4096)
}

/// What there was before a line of the manifest was written.
struct Moment<'a> {
    /// Lines of the captures that had come and not gone, the oldest first: by their last frames and
    /// in the order in which they came.
    there: BTreeMap<(Timestamp, usize), &'a Value>,
    /// How many had come.
    came: usize,
    /// When the last had come, after which the budget was seen to.
    seen_to: Timestamp,
    /// This line, and those after it.
    rest: &'a [Value],
}

impl<'a> Moment<'a> {
    fn now(&self) -> Timestamp {
        time(&self.rest[0], "time")
    }

    /// Lines of those that came later and had frames already: all that was written and not
    /// published is of these.
    fn open(&self) -> impl Iterator<Item = &'a Value> {
        let now = self.now();
        self.rest.iter().filter(move |line| is_capture(line) && time(line, "first") <= now)
    }
}

fn is_capture(line: &Value) -> bool {
    line["event"] == "published" || line["event"] == "recovered"
}

/// Goes through a manifest. Fails unless each capture that went was the oldest and had to go, and
/// unless the budget was kept when the next ones were published. Several that are complete get
/// their lines together, and the budget is seen to after each of their names. Returns those that
/// are there at last.
#[track_caller]
fn judged(lines: &[Value], had_to_go: impl Fn(&Moment) -> bool, is_kept: impl Fn(&Moment) -> bool) -> BTreeSet<&str> {
    let mut moment = Moment { there: BTreeMap::new(), came: 0, seen_to: Timestamp::MIN, rest: lines };
    // The budget is not seen to after what is recovered, but with the next one, or within a second.
    let mut recovered = false;
    for (n, line) in lines.iter().enumerate() {
        moment.rest = &lines[n..];
        if line["event"] == "pruned" {
            assert!(had_to_go(&moment), "line {}: {} need not have gone", n + 1, path(line));
            let (_, oldest) = moment.there.pop_first().unwrap_or_else(|| panic!("line {}: nothing is there", n + 1));
            assert_eq!(path(line), path(oldest), "line {}: the oldest goes", n + 1);
            for hash in ["sha256", "blake3"] {
                assert_eq!(line[hash], oldest[hash], "line {}", n + 1);
            }
        } else {
            assert!(is_capture(line), "line {}: {line:#}", n + 1);
            let is_first = n == 0 || !is_capture(&lines[n - 1]);
            assert!(!is_first || recovered || is_kept(&moment), "line {}: the budget was not kept before", n + 1);
            recovered = line["event"] == "recovered";
            moment.there.insert((time(line, "last"), n), line);
            (moment.came, moment.seen_to) = (moment.came + 1, time(line, "time"));
        }
    }
    moment.there.into_values().map(path).collect()
}

/// Captures that have their name, by path.
fn published(captures: &Path) -> BTreeSet<PathBuf> {
    let ours = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("vni");
    captures::files(captures)
        .into_iter()
        .filter(|path| ours(path) && path.extension().is_some_and(|extension| extension == "pcap"))
        .collect()
}

/// Captures that have their name. Fails unless they are those of the manifest, in a directory of a
/// sensor that is paused: only what the last lines announce may not have happened, of which several
/// that announce captures are written together.
#[track_caller]
fn on_record(captures: &Path) -> BTreeSet<PathBuf> {
    let there = published(captures);
    let lines = lines(captures);
    let at = |line: &Value| captures.join(path(line));
    let on_record: BTreeSet<PathBuf> =
        judged(&lines, |_| true, |_| true).into_iter().map(|path| captures.join(path)).collect();
    let announced: Vec<PathBuf> =
        lines.iter().rev().skip_while(|line| !is_capture(line)).take_while(|line| is_capture(line)).map(at).collect();
    let mut missing = on_record.difference(&there);
    assert!(missing.all(|path| announced.contains(path)), "there: {there:#?}, on record: {on_record:#?}");
    let going = lines.last().filter(|line| line["event"] == "pruned").map(at);
    let mut more = there.difference(&on_record);
    assert!(more.all(|path| Some(path) == going.as_ref()), "there: {there:#?}, on record: {on_record:#?}");
    there
}

/// Bytes of the captures that do not have their name yet, and that they take of the disk.
fn unpublished(captures: &Path) -> (u64, u64) {
    let parts = captures::files(captures).into_iter().filter(|path| path.extension().is_some_and(|end| end == "part"));
    let sizes = parts.map(|path| fs::metadata(path).unwrap()).map(|file| (file.len(), file.blocks() * 512));
    sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
}

/// Fails unless what is there is what the manifest says, and all that was written is there or was
/// pruned, for this reason.
fn assert_adds_up(ended: &Ended, reason: &str) {
    let there = on_record(&ended.captures);
    let frames: u64 = named(&ended.captures).iter().map(|line| line["frames"].as_u64().unwrap()).sum();
    assert_eq!(frames, ended.ledger.written());
    let count = |what: &str| ended.ledger.get(&format!("/outputs/pcap/{what}"));
    assert_eq!(there.len() as u64, count("files") + count("recovered") - count("pruned"));
    let pruned = events(&ended.captures, "pruned");
    assert_eq!(count("pruned"), pruned.len() as u64);
    assert!(pruned.iter().all(|line| line["reason"] == reason), "{pruned:#?}");
    assert_open(&there.into_iter().collect::<Vec<_>>());
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
    let ended = load.run(&format!("--keep-files {KEEP}"), &captures, |there| {
        // One more is published before the oldest goes.
        assert!(there.len() <= KEEP + 1, "{} files", there.len());
    });
    assert_adds_up(&ended, "keep_files");
    judged(&lines(&captures), |m| m.there.len() > KEEP, |m| m.there.len() <= KEEP);
    assert_eq!(published(&captures).len(), KEEP);

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
    let ended = load.run(&format!("--keep-bytes {KEEP}"), &captures, |there| {
        let bytes: u64 = there.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!(bytes <= KEEP + CUT, "{bytes} bytes");
    });
    assert_adds_up(&ended, "keep_bytes");
    let there = |m: &Moment| bytes(m.there.values().copied());
    // How much of these was written then no manifest tells: see `of_bytes_and_of_room_to_the_file`.
    let had_to_go = |m: &Moment| there(m) + bytes(m.open()) > KEEP;
    judged(&lines(&captures), had_to_go, |m| there(m) <= KEEP);
    let kept: u64 = published(&captures).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(kept <= KEEP, "{kept} bytes");
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
    eventually("many files are published", || {
        sensor.paused(|| on_record(&sensor.captures));
        named(&sensor.captures).len() >= FILES
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
    const AGE: SignedDuration = SignedDuration::from_secs(1);
    let age = |m: &Moment, at: Timestamp| {
        m.there.first_key_value().map_or(SignedDuration::ZERO, |((last, _), _)| at.duration_since(*last))
    };
    let lines = lines(&ended.captures);
    let left = judged(&lines, |m| age(m, m.now()) > AGE, |m| age(m, m.seen_to) <= AGE);
    assert!(left.is_empty(), "{left:#?}");
    assert!(events(&ended.captures, "pruned").iter().all(|line| line["reason"] == "keep_age"));
    assert_verified(&ended.captures);
}

#[test]
fn of_room_on_the_file_system() {
    if !need::programs(&["mount", "umount", "capinfos", "tshark"]) {
        return;
    }
    // What is above the half of the room to leave free lasts for six seconds, should those who
    // publish and remove have to wait for a core.
    const FREE: u64 = 62 << 20;
    const SIZE: u64 = 64 << 20;
    let load = Load::new();
    let disk = Mount::new(&format!("size={SIZE}"));
    let room = || statvfs(disk.path()).map(|room| room.f_bavail * room.f_frsize).unwrap();
    let ended = load.run(&format!("--min-free {FREE}"), disk.path(), |_| {
        // Of what was there when the budget was seen to last, one may have got its name, and others
        // have grown. What is removed is free.
        let (room, (_, open)) = (room(), unpublished(disk.path()));
        assert!(room + open + CUT + RESERVE >= FREE, "{room} bytes free, and {open} not published");
    });
    assert_adds_up(&ended, "min_free");
    let manifest = fs::metadata(disk.path().join("manifest.jsonl")).unwrap().blocks() * 512;
    let had_to_go = |m: &Moment| {
        let used: u64 = m.there.values().copied().chain(m.open()).map(pages).sum();
        used + manifest > SIZE - FREE
    };
    judged(&lines(disk.path()), had_to_go, |m| m.there.values().copied().map(pages).sum::<u64>() <= SIZE - FREE);
    assert!(room() >= FREE, "{} bytes free", room());
    assert_verified(disk.path());
}

/// Fails unless the log says what these lines say went for `--keep-files`: what was to go first,
/// and then what had gone.
#[track_caller]
fn assert_said(ended: &Ended, went: &[Value]) {
    let field = |line: &str, name: &str| serde_json::from_str::<Value>(line).unwrap()["fields"][name].clone();
    let [about_to] = &ended.messages("about to be removed")[..] else { panic!("{:#?}", ended.log) };
    assert_eq!(field(about_to, "files"), went.len());
    assert_eq!(field(about_to, "budget"), "--keep-files");
    assert_eq!(
        (field(about_to, "oldest"), field(about_to, "newest")),
        (went[0]["path"].clone(), went[went.len() - 1]["path"].clone())
    );
    let gone = ended.messages("captures removed to keep the budget");
    let sum = |name: &str| gone.iter().map(|line| field(line, name).as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("files"), Some(sum("bytes"))), (went.len() as u64, field(about_to, "bytes").as_u64()));
    let place = |line: &String| ended.log.iter().position(|other| other == line);
    assert!(place(about_to) < place(&gone[0]), "{:#?}", ended.log);
}

/// Files of one size, a round at a time, so that it is known to the byte how much there is, what is
/// written to included.
#[test]
fn of_bytes_and_of_room_to_the_file() {
    if !need::programs(&["mount", "umount", "capinfos", "tshark"]) {
        return;
    }
    const FRAMES: u32 = 64;
    const FILE: u64 = 24 + FRAMES as u64 * (16 + 1008);
    const ROUND: usize = VNIS as usize;
    const KEEP: usize = 4 * ROUND;
    let load = Load::new();
    let frames: Vec<Vec<u8>> = (0..VNIS * FRAMES).map(|number| frames::numbered(number, 1008)).collect();
    let file = frames::write(load.directory.path(), "equal.pcap", &frames);
    let disk = Mount::new("size=16m");

    let sensor = load.setup(&format!("--keep-bytes {}", KEEP as u64 * FILE)).writing(disk.path()).start();
    for came in (1..=8).map(|round| round * ROUND) {
        replay_all(&load.pair.sender, load.pair.target(Ip::V4), &[&file], &format!("--vni 1-{VNIS}"), frames.len());
        eventually("all is written, and has its place in the budget", || {
            let open = unpublished(disk.path()).0;
            open == u64::from(VNIS) * FILE && published(disk.path()).len() == (came - ROUND).min(KEEP - ROUND)
        });
        sensor.process.signal(Signal::USR1);
        let count = || (named(disk.path()).len(), published(disk.path()).len());
        eventually("all is published, and the oldest go", || count() == (came, KEEP.min(came)));
    }
    let ended = sensor.stop();
    ended.ledger.assert_lossless();
    assert_adds_up(&ended, "keep_bytes");
    // With the files that the rest of the round is in, or the next round.
    let had_to_go = |m: &Moment| m.there.len() + ROUND - m.came % ROUND > KEEP;
    judged(&lines(disk.path()), had_to_go, |m| m.there.len() <= KEEP);
    let newest: Vec<Value> = named(disk.path()).split_off(4 * ROUND);
    assert_eq!(on_record(disk.path()), newest.iter().map(|line| disk.path().join(path(line))).collect());

    const FREE: u64 = 8 << 20;
    let sensor = load.setup(&format!("--min-free {FREE}")).writing(disk.path()).start();
    let room = statvfs(disk.path()).map(|room| room.f_bavail * room.f_frsize).unwrap();
    // A stranger takes all that is not to be left free, and what two files and a half have.
    let stranger = disk.path().join("stranger");
    fs::write(&stranger, vec![0; (room - FREE + 2 * FILE + FILE / 2) as usize]).unwrap();
    eventually("three make room", || published(disk.path()).len() <= KEEP - 3);
    assert_eq!(sensor.stop().ledger.get("/outputs/pcap/pruned"), 3);
    assert_eq!(on_record(disk.path()), newest[3..].iter().map(|line| disk.path().join(path(line))).collect());
}

#[test]
fn that_is_smaller_after_a_restart_and_after_a_crash() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    let load = Load::new();
    let captures = load.directory.path().join("captures");
    let ended = load.run("--keep-files 20", &captures, |_| {});
    assert_adds_up(&ended, "keep_files");
    let first_life = lines(&captures).len();

    let sensor = load.setup("--keep-files 5").writing(&captures).start();
    eventually("the old files go", || published(&captures).len() == 5);
    let ended = sensor.stop();
    assert_eq!(ended.ledger.get("/outputs/pcap/pruned"), 15);
    assert_said(&ended, &lines(&captures)[first_life..]);
    assert_verified(&captures);

    let mut sensor = load.setup("--keep-files 5").writing(&captures).start();
    let replay = load.start();
    let before = named(&captures).len();
    eventually("files come and go", || named(&captures).len() > before + 20);
    // All may have been cut a moment ago, and a crash would leave nothing with a frame.
    eventually("it is killed while files have frames", || {
        sensor.paused(|| {
            // More than one file, which may be about to get its name.
            let enough = unpublished(&captures).0 > CUT + 10_000;
            if enough {
                sensor.process.signal(Signal::KILL);
            }
            enough
        })
    });
    sensor.process.wait();
    let (code, text) = verify(&captures);
    assert_eq!(code, Some(0), "after the crash: {text}");
    let until_the_crash = lines(&captures).len();
    let sensor = load.setup("--keep-files 4").writing(&captures).start();
    eventually("files are recovered", || !events(&captures, "recovered").is_empty());
    eventually("files come and go again", || named(&captures).len() > before + 50);
    replay.0.signal(Signal::INT);
    replay.ended();
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(on_record(&captures).len(), 4);
    let lines = lines(&captures);
    let keep = |m: &Moment| match lines.len() - m.rest.len() {
        line if line < first_life => 20,
        line if line < until_the_crash => 5,
        _ => 4,
    };
    judged(&lines, |m| m.there.len() > keep(m), |m| m.there.len() <= keep(m));
    assert_verified(&captures);
}
