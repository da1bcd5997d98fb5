//! Outputs that cannot keep up: full disks and starved writers. The sensor goes on to receive, and counts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;

use crate::captures::{self, assert_open};
use crate::frames;
use crate::need::{self, succeeds};
use crate::netns::{Ip, Pair};
use crate::process::{eventually, run};
use crate::replay::{replay, replay_all};
use crate::sensor::{Ended, Setup};

/// A file system in memory, unmounted when this is dropped.
pub(crate) struct Mount(TempDir);

impl Mount {
    /// A file system with these mount options.
    pub(crate) fn new(options: &str) -> Mount {
        let mount = Mount(tempfile::tempdir().unwrap());
        run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "vxtap-test"]).arg(mount.path()));
        mount
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn remount(&self, options: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.path()));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = succeeds(Command::new("umount").arg("-l").arg(self.0.path()));
    }
}

#[test]
fn a_full_disk() {
    if !need::programs(&["mount", "umount", "capinfos", "tshark"]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let (frames, loops) = (frames::assorted(1000), 6);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let disk = Mount::new("size=2m");
    let sensor = Setup::new(&pair.sensor).with("--rotate-size 256KiB --flush 100ms").writing(disk.path()).start();
    let arguments = format!("--loop {loops} --rate 20000");
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], &arguments, loops * frames.len());
    let mut sent = (loops * frames.len()) as u64;
    sensor.process.stderr.find("disk_full", 0, |line| line.contains("disk_full").then_some(()));

    // Now there is room again. A few frames at a time, until one of them finds out.
    disk.remount("size=64m");
    let few = frames::write(directory.path(), "few.pcap", &frames[..10]);
    eventually("the sensor writes again", || {
        replay_all(&pair.sender, pair.target(Ip::V4), &[&few], "--rate 100", 10);
        sent += 10;
        sensor.process.stderr.all().iter().any(|line| line.contains("writing captures again"))
    });
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    ended.ledger.assert_closes(&ended.captures);
    pair.assert_arrived(ended.ledger.received(), sent);
    let full = ended.ledger.get("/outputs/pcap/dropped/disk_full");
    assert_eq!(full + ended.ledger.written(), ended.ledger.received());
    assert!(full > 1000, "{full} frames lost of 4.7 MB on a disk of 2 MB");
    let files = captures::files(&ended.captures);
    assert!(files.iter().all(|path| path.extension().is_some_and(|e| e == "pcap")), "{files:?}");
    assert_open(&files);
    let told = ended.log.iter().filter(|line| line.contains("disk_full")).count();
    assert_eq!(told, 1, "an outage is told once: {:#?}", ended.log);
}

/// The id of a sensor's thread, once that has taken its name.
fn thread_named(pid: i32, name: &str) -> String {
    let named = |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name);
    let mut found = None;
    eventually("the thread has its name", || {
        let mut tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path());
        found = tasks.find(named);
        found.is_some()
    });
    found.unwrap().file_name().unwrap().to_str().unwrap().to_string()
}

/// A run of which the writer could not keep up, and the frames that were sent to it.
pub(crate) struct Starved {
    pub(crate) pair: Pair,
    pub(crate) ended: Ended,
    pub(crate) sent: u64,
}

/// Runs a sensor whose writing thread gets what the other threads on its core leave, and one of them leaves nothing for `starving`, then a
/// little.
pub(crate) fn starve(arguments: &str, load: &str, starving: Duration) -> Starved {
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let (frames, loops) = (frames::assorted(1000), 40);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let sensor = Setup::new(&pair.sensor).with("--workers 1 --queue 1500KiB").with(arguments).start();
    let writer = thread_named(sensor.process.pid().as_raw_nonzero().get(), "vxtap-pcap");
    let allowed = sched_getaffinity(None).unwrap();
    let core = (0..CpuSet::MAX_CPU).rfind(|cpu| allowed.is_set(*cpu)).unwrap();
    run(Command::new("taskset").args(["-cp", &core.to_string(), &writer]));
    run(Command::new("chrt").args(["--idle", "-p", "0", &writer]));
    let done = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        scope.spawn(|| {
            let mut one = CpuSet::new();
            one.set(core);
            sched_setaffinity(None, &one).unwrap();
            while !done.load(Ordering::Relaxed) {
                let end = Instant::now() + starving;
                while Instant::now() < end && !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                thread::sleep(Duration::from_millis(50));
            }
        });
        let load = format!("--loop {loops} --rate 20000 {load}");
        let sent = replay(&pair.sender, pair.target(Ip::V4), &[&file], &load);
        done.store(true, Ordering::Relaxed);
        sent
    });
    assert_eq!((sent.code, sent.frames), (Some(0), (loops * frames.len()) as u64), "{}", sent.text);
    Starved { pair, ended: sensor.stop(), sent: sent.frames }
}

#[test]
fn a_starved_writer() {
    if !need::programs(&["chrt", "taskset"]) {
        return;
    }
    let Starved { pair, ended, sent } = starve("", "", Duration::from_secs(60));
    let ledger = &ended.ledger;
    assert_eq!(ended.code, Some(0), "load is no failure: {:#?}", ended.log);
    ledger.assert_closes(&ended.captures);
    pair.assert_arrived(ledger.received() + ledger.get("/kernel_dropped"), sent);
    let lost = ledger.get("/outputs/pcap/dropped/lane_full");
    assert!(lost > 0, "{:#}", ledger.0);
    assert_eq!(lost + ledger.written(), ledger.received(), "{:#}", ledger.0);
    assert!(!ended.messages("an output is behind").is_empty(), "{:#?}", ended.log);
}
