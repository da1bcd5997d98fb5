//! Disks fill, vanish, refuse and stall. The ledger stays exact, and the other outputs do not
//! notice.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::captures::{self, assert_open};
use crate::frames;
use crate::manifest::{assert_verified, named};
use crate::need::{self, succeeds};
use crate::netns::{Ip, Pair};
use crate::overload::Mount;
use crate::process::eventually;
use crate::replay::{self, Replay, replay_all};
use crate::sensor::{Ended, Sensor, Setup};
use crate::site::Site;

/// Numbered frames of many lengths that no compression makes smaller.
fn noise(count: u32) -> Vec<Vec<u8>> {
    let mut state = 1u64;
    let mut frames = frames::assorted(count);
    for byte in frames.iter_mut().flat_map(|frame| &mut frame[46..]) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
    frames
}

/// Returns arguments for a sensor that answers at the place's socket.
fn answering(site: &Site, arguments: &str) -> String {
    format!("--control {} {arguments}", site.socket().display())
}

/// Waits until all that was sent is written or lost: a sensor that had to wait for a core has it in
/// its queues long after it was sent.
#[track_caller]
fn has_settled(site: &Site, sent: u64) {
    eventually("what was sent is written or lost", || {
        let ledger = site.json("ledger");
        let received = ledger["received"].as_u64().unwrap();
        let all = received == sent || received + site.pair.no_room() == sent;
        all && ledger["outputs"]["pcap"].get("in_flight").is_none()
    });
}

fn fills(arguments: &str) {
    let site = Site::new();
    let (pair, directory) = (&site.pair, &site.directory);
    let (frames, loops) = (noise(1001), 6);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let disk = Mount::new("size=2m");
    let arguments = answering(&site, &format!("--rotate-size 256KiB --flush 100ms --min-free 0 {arguments}"));
    let sensor = Setup::new(&pair.sensor).with(&arguments).writing(disk.path()).start();
    let load = format!("--vni 1-2 --loop {loops} --rate 10000");
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], &load, loops * frames.len());
    let mut sent = (loops * frames.len()) as u64;
    sensor.process.stderr.find("disk_full", 0, |line| line.contains("disk_full").then_some(()));
    has_settled(&site, sent);

    disk.remount("size=64m");
    let few = frames::write(directory.path(), "few.pcap", &frames[..10]);
    eventually("the sensor writes again", || {
        replay_all(&pair.sender, pair.target(Ip::V4), &[&few], "--vni 1-2 --rate 100", 10);
        sent += 10;
        sensor.process.stderr.all().iter().any(|line| line.contains("writing captures again"))
    });
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    ended.ledger.assert_closes(&ended.captures);
    pair.assert_arrived(ended.ledger.received(), sent);
    let full = ended.ledger.get("/outputs/pcap/dropped/disk_full");
    assert_eq!(full + ended.ledger.written(), ended.ledger.received(), "{:#}", ended.ledger.0);
    assert!(full > 1000, "{full} frames lost of 4.7 MB on a disk of 2 MB");
    assert!(ended.ledger.written() > 1000, "{:#}", ended.ledger.0);
    let files = captures::files(&ended.captures);
    assert!(files.iter().all(|path| path.extension().is_some_and(|e| e != "part")), "{files:?}");
    assert_open(&files);
    assert_verified(&ended.captures);
    let told = ended.messages("dropping frames of all sessions").len();
    assert_eq!((told, ended.messages("writing captures again").len()), (1, 1), "once each: {:#?}", ended.log);
}

/// Without a budget nothing is removed, and the host keeps the last 5 %.
#[test]
fn the_last_room_is_the_hosts() {
    if !need::programs(&["mount", "umount", "capinfos", "tshark"]) {
        return;
    }
    const SIZE: u64 = 32 << 20;
    let site = Site::new();
    let (pair, directory) = (&site.pair, &site.directory);
    // Almost all that there is room for, and what comes then: 30 MB, and 200 kB at a time.
    let (frames, loops) = (noise(1001), 38);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let few = frames::write(directory.path(), "few.pcap", &frames[..250]);
    let disk = Mount::new(&format!("size={SIZE}"));
    let arguments = answering(&site, "--rotate-size 4MiB --flush 100ms");
    let sensor = Setup::new(&pair.sensor).with(&arguments).writing(disk.path()).start();
    let mut sent = 0;
    let mut send = |file: &Path, loops: usize, frames: usize| {
        let load = format!("--loop {loops} --rate 15000");
        replay_all(&pair.sender, pair.target(Ip::V4), &[file], &load, loops * frames);
        sent += (loops * frames) as u64;
        has_settled(&site, sent);
    };
    send(&file, loops, frames.len());
    let told = || sensor.process.stderr.all().iter().any(|line| line.contains("cannot write captures"));
    assert!(!told(), "there is room still: {:#?}", sensor.process.stderr.all());
    eventually("the last room is reached", || {
        send(&few, 1, 250);
        told()
    });
    // It stays so when it tries again.
    let end = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < end {
        send(&few, 1, 250);
    }
    sensor.process.signal(Signal::USR1);
    let ended = sensor.stop();
    let room = statvfs(disk.path()).map(|room| room.f_bavail * room.f_frsize).unwrap();
    // It is looked at before the first of what comes at a time is written, or after it.
    let (least, most) = (SIZE / 20 - 800_000, SIZE / 20);
    assert!((least..=most).contains(&room), "{room} bytes are left");
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    ended.ledger.assert_closes(&ended.captures);
    let full = ended.ledger.get("/outputs/pcap/dropped/disk_full");
    assert!(full > 0 && ended.ledger.get("/outputs/pcap/pruned") == 0, "{:#}", ended.ledger.0);
    assert_verified(&ended.captures);
    let told = ended.messages("cannot write captures");
    assert_eq!(told.len(), 1, "{:#?}", ended.log);
    assert!(told[0].contains("--min-free 10%") && told[0].contains("--min-free 0"), "{told:#?}");
    assert_eq!(
        ended.messages("nothing is removed: captures are kept until 1,677,721 bytes").len(),
        1,
        "{:#?}",
        ended.log
    );
}

#[test]
fn full_of_pcap() {
    if need::programs(&["mount", "umount", "capinfos", "tshark"]) {
        fills("");
    }
}

#[test]
fn full_of_pcapng() {
    if need::programs(&["mount", "umount", "capinfos", "tshark"]) {
        fills("--format pcapng");
    }
}

#[test]
fn full_of_zstd() {
    if need::programs(&["mount", "umount", "capinfos", "tshark"]) {
        fills("--compress zstd");
    }
}

#[test]
fn full_of_pcapng_in_lz4() {
    if need::programs(&["mount", "umount", "capinfos", "tshark"]) {
        fills("--format pcapng --compress lz4");
    }
}

/// A sensor with a tap beside its files, and traffic that does not end by itself.
struct Rig {
    pair: Pair,
    sensor: Sensor,
    replay: Replay,
    directory: TempDir,
}

impl Rig {
    fn start(captures: impl FnOnce(&Path) -> PathBuf, arguments: &str) -> Rig {
        let pair = Pair::new(1600);
        let directory = tempfile::tempdir().unwrap();
        let file = frames::write(directory.path(), "frames.pcap", &noise(1001));
        let captures = captures(directory.path());
        // Before others on the machine, so that its threads do not have to wait for a core and drop
        // frames for that.
        let sensor = Setup::new(&pair.sensor)
            .through("nice -n -20")
            .with(&format!("--tap mirror0 --flush 100ms --rotate-size 256KiB {arguments}"))
            .writing(&captures)
            .start();
        let load = "--vni 1-3 --loop 1000000 --rate 6000";
        let replay = replay::start(&pair.sender, pair.target(Ip::V4), &[&file], load);
        eventually("files are published", || captures.join("manifest.jsonl").exists() && named(&captures).len() > 3);
        Rig { pair, sensor, replay, directory }
    }

    /// Frames that the tap has shown so far.
    fn tapped(&self) -> u64 {
        self.pair.sensor.link_counter("mirror0", "rx", "packets")
    }

    /// Waits until a failure of the files has cost frames: they may be behind the tap.
    #[track_caller]
    fn the_files_fail(&self) {
        self.sensor.process.stderr.find("write_error", 0, |line| line.contains("write_error").then_some(()));
    }

    /// Waits until the tap has shown these many frames more.
    #[track_caller]
    fn the_tap_shows(&self, frames: u64) {
        let before = self.tapped();
        eventually("the tap goes on", || self.tapped() >= before + frames);
    }

    /// Waits until a sensor whose directory is gone has begun files where it was.
    #[track_caller]
    fn goes_on_elsewhere(&self) {
        self.the_tap_shows(6000);
        self.the_files_fail();
        eventually("files are begun", || captures::files(&self.sensor.captures).len() > 3);
    }

    /// Ends both. Fails unless all that was sent was received and shown by the tap, and the files'
    /// losses are those that it says.
    fn end(self) -> (Ended, TempDir) {
        self.replay.0.signal(Signal::INT);
        let sent = self.replay.ended();
        let ended = self.sensor.stop();
        let ledger = &ended.ledger;
        self.pair.assert_all_arrived(ledger.received(), sent.frames as usize);
        ledger.assert_output_closes("mirror0");
        assert_eq!(ledger.get("/outputs/mirror0/written"), sent.frames, "{:#}", ledger.0);
        ledger.assert_output_closes("pcap");
        (ended, self.directory)
    }
}

/// Frames of the captures that are complete.
fn complete(captures: &Path) -> u64 {
    let files = captures::files(captures).into_iter();
    let complete = files.filter(|path| path.extension().is_some_and(|extension| extension == "pcap"));
    complete.map(|path| captures::read(&path).len() as u64).sum()
}

/// Frames of all captures, those included that are not complete.
fn frames_in(captures: &Path) -> u64 {
    captures::files(captures).iter().map(|path| captures::read(path).len() as u64).sum()
}

/// Fails unless the sensor lost some frames to errors, published nothing more and says so, and the
/// next start puts on record what it left. `before` are the frames that it had published.
#[track_caller]
fn assert_taken_up(ended: &Ended, pair: &Pair, before: u64) {
    let errors = ended.ledger.get("/outputs/pcap/dropped/write_error");
    assert!(errors > 0, "{:#}", ended.ledger.0);
    assert_eq!(ended.ledger.get("/outputs/pcap/dropped/lane_full"), 0);
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    assert_eq!(ended.ledger.get("/outputs/pcap/manifest_changed"), 1);
    assert_eq!(ended.messages("somebody changed the manifest").len(), 1, "{:#?}", ended.log);
    let left = captures::files(&ended.captures);
    let is_part = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "part");
    assert!(left.len() > 3 && left.iter().all(is_part), "{left:?}");
    assert_eq!(ended.ledger.get("/outputs/pcap/unpublished"), left.len() as u64);
    assert!(!ended.captures.join("manifest.jsonl").exists(), "nothing is put on record");

    let sensor = Setup::new(&pair.sensor).writing(&ended.captures).start();
    eventually("all is salvaged", || !captures::files(&sensor.captures).iter().any(is_part));
    let next = sensor.stop();
    assert_eq!(next.code, Some(0), "{:#?}", next.log);
    assert_eq!(next.ledger.get("/outputs/pcap/recovered"), left.len() as u64);
    assert_eq!(before + frames_in(&ended.captures), ended.ledger.written(), "{errors} lost");
    assert_open(&captures::files(&ended.captures));
    assert_verified(&ended.captures);
}

#[test]
fn the_directory_is_removed() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    let rig = Rig::start(|directory| directory.join("captures"), "");
    let captures = rig.sensor.captures.clone();
    // What is published is removed with it, and is not the sensor's loss: so it is counted here,
    // and held back until then.
    let removed = rig.sensor.paused(|| {
        let removed = complete(&captures);
        fs::remove_dir_all(&captures).unwrap();
        removed
    });
    rig.goes_on_elsewhere();
    let pair = Pair::new(1600);
    let (ended, _directory) = rig.end();
    assert_taken_up(&ended, &pair, removed);
}

#[test]
fn the_directory_is_replaced() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    let rig = Rig::start(|directory| directory.join("captures"), "--compress lz4 --format pcapng --rotate-frames 300");
    let captures = rig.sensor.captures.clone();
    let moved = rig.directory.path().join("moved");
    fs::rename(&captures, &moved).unwrap();
    fs::create_dir(&captures).unwrap();
    rig.goes_on_elsewhere();
    let pair = Pair::new(1600);
    let (ended, _directory) = rig.end();
    let frames = |captures: &Path| named(captures).iter().map(|line| line["frames"].as_u64().unwrap()).sum::<u64>();
    // A file whose line was written and that was moved before it got its name is lost, and has a
    // line there.
    let unnamed: u64 = named(&moved)
        .iter()
        .filter(|line| !moved.join(line["path"].as_str().unwrap()).exists())
        .map(|line| line["frames"].as_u64().unwrap())
        .sum();
    assert_taken_up(&ended, &pair, frames(&moved) - unnamed);
    let files: Vec<PathBuf> = captures::files(&moved).into_iter().filter(|p| p.extension().unwrap() == "lz4").collect();
    assert_open(&files);
}

/// A directory in which nothing can be created, renamed or removed, until this is dropped.
struct Immutable(PathBuf);

impl Immutable {
    fn new(directory: &Path) -> Option<Immutable> {
        succeeds(Command::new("chattr").arg("+i").arg(directory)).then(|| Immutable(directory.to_path_buf()))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = succeeds(Command::new("chattr").arg("-i").arg(&self.0));
    }
}

#[test]
fn the_directory_is_read_only() {
    if !need::programs(&["chattr", "capinfos", "tshark"]) {
        return;
    }
    let rig = Rig::start(|directory| directory.join("captures"), "");
    let captures = rig.sensor.captures.clone();
    let sessions: Vec<PathBuf> =
        (1..=3).map(|vni| captures::session_directory(&captures, rig.pair.source(Ip::V4), vni)).collect();
    let Some(immutable) = sessions.iter().map(|directory| Immutable::new(directory)).collect::<Option<Vec<_>>>() else {
        need::cannot("chattr +i fails here");
        rig.end();
        return;
    };
    rig.the_tap_shows(6000);
    rig.the_files_fail();
    drop(immutable);
    let before = named(&captures).len();
    eventually("files are published again", || named(&captures).len() > before + 3);
    let (ended, _directory) = rig.end();
    let errors = ended.ledger.get("/outputs/pcap/dropped/write_error");
    assert!(errors > 0, "{:#}", ended.ledger.0);
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    // Frames of a file that could not be renamed are in the file, which the next start publishes.
    let all: u64 = captures::files(&captures).iter().map(|path| captures::read(path).len() as u64).sum();
    assert_eq!(all, ended.ledger.written(), "{:#}", ended.ledger.0);
    assert_verified(&captures);
}

/// A file system on a disk of its own, which can be frozen.
pub(crate) struct Loop {
    directory: TempDir,
    _image: TempDir,
}

impl Loop {
    pub(crate) fn new() -> Option<Loop> {
        let (directory, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = image.path().join("image");
        fs::File::create(&file).unwrap().set_len(256 << 20).unwrap();
        let made = succeeds(Command::new("mkfs.ext4").arg("-q").arg(&file))
            && succeeds(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(directory.path()));
        made.then_some(Loop { directory, _image: image })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn freeze(&self) -> Option<Frozen> {
        succeeds(Command::new("fsfreeze").arg("-f").arg(self.path())).then(|| Frozen(self.path().to_path_buf()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = succeeds(Command::new("umount").arg("-l").arg(self.path()));
    }
}

/// Whoever writes to the file system waits, until this is dropped.
pub(crate) struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = succeeds(Command::new("fsfreeze").arg("-u").arg(&self.0));
    }
}

#[test]
fn the_storage_stalls() {
    if !need::programs(&["mkfs.ext4", "mount", "umount", "fsfreeze", "capinfos", "tshark"]) {
        return;
    }
    let Some(disk) = Loop::new() else { return need::cannot("no file system in a file can be mounted here") };
    let captures = disk.path().join("captures");
    // Each output has its own: the tap's holds the frames of three seconds, if it has to wait for a
    // core.
    let rig = Rig::start(|_| captures.clone(), "--sync publish --workers 1 --queue 36MiB");
    let Some(frozen) = disk.freeze() else { return need::cannot("fsfreeze fails here") };
    // More than the queue of the files holds, which has 24 MB for frames: 35 MB. That none of them
    // is missing is seen at the end.
    rig.the_tap_shows(45_000);
    drop(frozen);
    let after = named(&captures).len();
    eventually("files are published again", || named(&captures).len() > after + 3);
    let (ended, _directory) = rig.end();
    assert_eq!(ended.code, Some(0), "load is no failure: {:#?}", ended.log);
    ended.ledger.assert_closes(&captures);
    let lost = ended.ledger.get("/outputs/pcap/dropped/lane_full");
    assert_eq!(lost + ended.ledger.written(), ended.ledger.received(), "{:#}", ended.ledger.0);
    assert!(lost > 0, "a queue of 24 MB does not hold 35 MB: {:#}", ended.ledger.0);
    assert_open(&captures::files(&captures));
    assert_verified(&captures);
}
