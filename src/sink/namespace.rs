//! For tests: a network namespace of their own, and a sniffer in it.
#![allow(clippy::print_stdout, reason = "a test says that it is skipped")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pcap_file::pcap::PcapReader;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace that the calling thread, and what it starts, is in until the value is
/// dropped.
pub(crate) struct Namespace {
    name: String,
    home: File,
}

impl Namespace {
    /// A new namespace; none without root, which is said, and which is a failure where the
    /// environment has `CI`.
    pub(crate) fn enter() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() || !fs::exists("/dev/net/tun").unwrap() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root and /dev/net/tun");
            println!("skipped: needs root for a network namespace, and /dev/net/tun");
            return None;
        }
        let name = format!("vxtap-unit-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let home = File::open("/proc/thread-self/ns/net").unwrap();
        sh(&format!("ip netns add {name}"));
        let namespace = Self { home, name };
        let there = File::open(format!("/run/netns/{}", namespace.name)).unwrap();
        move_into_link_name_space(there.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        sh("ip link set lo up");
        Some(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = move_into_link_name_space(self.home.as_fd(), Some(LinkNameSpaceType::Network));
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Runs a command of the shell, which must succeed. Returns what it printed.
pub(crate) fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until `condition` holds.
pub(super) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} does not come");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A tcpdump, which reads by a TPACKET_V3 ring.
pub(crate) struct Sniffer {
    child: Child,
    file: tempfile::NamedTempFile,
}

impl Sniffer {
    /// Starts on an interface; `filter` as tcpdump takes it, options included.
    pub(crate) fn start(interface: &str, filter: &[&str]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut child = Command::new("tcpdump")
            .args(["-n", "-U", "-Z", "root", "-B", "16384", "-i", interface, "-w"])
            .arg(file.path())
            .args(filter)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stderr.as_mut().unwrap());
        while !line.contains("listening on") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "tcpdump does not start");
        }
        Self { child, file }
    }

    /// The frames that it has seen so far.
    pub(crate) fn frames(&self) -> Vec<Vec<u8>> {
        let Ok(mut reader) = PcapReader::new(File::open(self.file.path()).unwrap()) else { return Vec::new() };
        std::iter::from_fn(|| reader.next_packet()?.ok().map(|packet| packet.data().to_vec())).collect()
    }

    /// Waits until it has seen as many frames.
    pub(crate) fn wait_for(&self, n: usize) -> Vec<Vec<u8>> {
        wait_until("what was sent", || self.frames().len() >= n);
        self.frames()
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
