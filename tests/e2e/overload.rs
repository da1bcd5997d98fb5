//! Outputs cannot keep up, as their writers are starved. The sensor goes on to receive, and counts.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;

use crate::frames;
use crate::need::{self, succeeds};
use crate::netns::{Ip, Pair};
use crate::process::{eventually, run, task_named};
use crate::replay::{replay, replay_all};
use crate::sensor::Ended;
use crate::site::Site;

/// A file system in memory, unmounted when this is dropped.
pub(crate) struct Mount(TempDir);

impl Mount {
    /// Makes a file system with these mount options.
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

/// A run of which the writer could not keep up, and the frames that were sent to it.
pub(crate) struct Starved {
    pub(crate) pair: Pair,
    pub(crate) ended: Ended,
    pub(crate) sent: u64,
}

/// Frames that come when the writer has caught up.
const AFTERWARDS: usize = 3;

/// Runs a sensor whose writing thread gets what the other threads on its core leave, and one of
/// them leaves nothing for `starving`, then a little. A few frames come when it has caught up.
pub(crate) fn starve(arguments: &str, load: &str, starving: Duration) -> Starved {
    let site = Site::new();
    let pair = &site.pair;
    let (frames, loops) = (frames::assorted(1000), 40);
    let file = frames::write(site.directory.path(), "frames.pcap", &frames);
    let sensor = site.start(&format!("--workers 1 --queue 1500KiB {arguments}"));
    let writer = task_named(sensor.process.pid(), "vxtap-pcap");
    let writer = writer.directory.file_name().unwrap().to_str().unwrap();
    let allowed = sched_getaffinity(None).unwrap();
    let core = (0..CpuSet::MAX_CPU).rfind(|cpu| allowed.is_set(*cpu)).unwrap();
    run(Command::new("taskset").args(["-cp", &core.to_string(), writer]));
    run(Command::new("chrt").args(["--idle", "-p", "0", writer]));
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
        let many = format!("--loop {loops} --rate 20000 {load}");
        let sent = replay(&pair.sender, pair.target(Ip::V4), &[&file], &many);
        done.store(true, Ordering::Relaxed);
        sent
    });
    assert_eq!((sent.code, sent.frames), (Some(0), (loops * frames.len()) as u64), "{}", sent.text);
    // On a busy core the writer had nothing all the time, and lost all that came behind its queue.
    run(Command::new("chrt").args(["--other", "-p", "0", writer]));
    eventually("what waits is written", || site.json("ledger")["outputs"]["pcap"].get("in_flight").is_none());
    let few = frames::write(site.directory.path(), "few.pcap", &frames[..AFTERWARDS]);
    replay_all(&pair.sender, pair.target(Ip::V4), &[&few], load, AFTERWARDS);
    let ended = sensor.stop();
    Starved { pair: site.pair, ended, sent: sent.frames + AFTERWARDS as u64 }
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
