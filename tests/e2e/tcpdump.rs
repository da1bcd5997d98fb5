//! tcpdump is the witness of what went over a device.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::captures;
use crate::netns::Namespace;
use crate::process::{PATIENCE, Process, eventually};

/// A running tcpdump, killed when this is dropped.
pub(crate) struct Tcpdump {
    process: Process,
    directory: TempDir,
}

impl Tcpdump {
    /// Records what goes over `device` and passes `filter`, and waits until it does. The filter
    /// must not ask for the direction, nor may tcpdump's option for it be used: libpcap applies the
    /// filter to the first packet itself, without knowing the direction, and applies the option
    /// after the kernel has counted.
    pub(crate) fn start(namespace: &Namespace, device: &str, filter: &str) -> Tcpdump {
        Self::cutting(namespace, device, filter, 65535)
    }

    /// As [`Tcpdump::start`], with no more than so many bytes of each frame. A slot of its ring is
    /// as large as that: of all bytes there are 2000 slots, and of fewer bytes more, so that longer
    /// bursts fit.
    pub(crate) fn cutting(namespace: &Namespace, device: &str, filter: &str, snaplen: u32) -> Tcpdump {
        let directory = tempfile::tempdir().unwrap();
        let mut command = namespace.command("tcpdump");
        // As root, or it could not write into our directory; with nanoseconds, as the sensor writes
        // them.
        command.args([
            "-s",
            &snaplen.to_string(),
            "-B",
            "131072",
            "-n",
            "-U",
            "--immediate-mode",
            "-Z",
            "root",
            "--time-stamp-precision=nano",
        ]);
        command.args(["-i", device, "-w"]).arg(file(&directory)).args(filter.split_whitespace());
        let process = Process::start(&mut command, None);
        process.stderr.find("listening on", 0, |line| line.contains("listening on").then_some(()));
        Tcpdump { process, directory }
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Waits until it has written so many frames: then its ring has room for as many as it holds.
    #[track_caller]
    pub(crate) fn has_captured(&mut self, frames: usize) {
        eventually("tcpdump has captured them", || self.counts().captured >= frames as u64);
    }

    /// Waits until nothing more comes and what came is written, and returns its frames; fails if
    /// the kernel dropped any.
    #[track_caller]
    pub(crate) fn frames(mut self) -> Vec<Vec<u8>> {
        let mut before = None;
        let quiet = Duration::from_millis(300);
        for _ in 0..PATIENCE.as_millis() / quiet.as_millis() {
            let now = self.counts();
            if before == Some(now) && now.captured == now.received {
                assert_eq!(now.dropped, 0, "tcpdump was too slow");
                self.process.signal(Signal::INT);
                assert!(self.process.wait().success());
                let frames = captures::frames(&file(&self.directory));
                assert_eq!(frames.len() as u64, now.captured, "something came after tcpdump had settled");
                return frames;
            }
            before = Some(now);
            thread::sleep(quiet);
        }
        panic!("tcpdump does not come to rest: {:#?}", self.process.stderr.all());
    }

    /// The same, when it has written so many: whoever puts them there may have to wait for a core
    /// longer than it takes to come to rest.
    #[track_caller]
    pub(crate) fn frames_of(mut self, wanted: usize) -> Vec<Vec<u8>> {
        self.has_captured(wanted);
        self.frames()
    }

    /// Asks it for its counts so far.
    fn counts(&mut self) -> Counts {
        let from = self.process.stderr.all().len();
        self.process.signal(Signal::USR1);
        self.process.stderr.find("counts", from, |line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let before = |what: &str| words.windows(3).find(|w| w[2].trim_end_matches(',') == what)?[0].parse().ok();
            Some(Counts { captured: before("captured")?, received: before("received")?, dropped: before("dropped")? })
        })
    }
}

/// Packets, as tcpdump counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    /// Written to the file.
    captured: u64,
    /// Seen by the kernel's filter, written or not.
    received: u64,
    /// Of those, lost.
    dropped: u64,
}

fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("seen.pcap")
}
