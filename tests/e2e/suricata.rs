//! Suricata sees on the mirror interface what it sees in a file of the same frames.

use std::collections::BTreeMap;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::captures;
use crate::frames;
use crate::need;
use crate::netns::{Ip, Namespace, Pair};
use crate::process::{Process, eventually, run};
use crate::replay::replay_all;
use crate::sensor::Setup;

/// How often each alert and each flow is reported; flows with what they counted.
pub(crate) type Findings = BTreeMap<String, u32>;

/// What Suricata reported.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) packets: u64,
    pub(crate) findings: Findings,
}

/// A running Suricata, killed when this is dropped.
pub(crate) struct Suricata {
    process: Process,
    directory: TempDir,
}

/// Our configuration.
pub(crate) fn configuration() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/suricata/suricata.yaml")
}

/// Returns the command, with this configuration, rules of ours or of the file, and its own
/// directory for what it writes.
fn suricata(mut command: Command, directory: &Path, configuration: &Path, rules: Option<&Path>) -> Command {
    let ours = configuration.with_file_name("test.rules");
    command.arg("-c").arg(configuration).arg("-S").arg(rules.unwrap_or(&ours)).arg("-l").arg(directory);
    command.args(["--set", "unix-command.enabled=no", "--runmode"]);
    command
}

/// Returns the events that Suricata has written whole lines of.
pub(crate) fn events(directory: &Path) -> Vec<Value> {
    let text = fs::read_to_string(directory.join("eve.json")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn packets(events: &[Value]) -> u64 {
    events.iter().filter_map(|event| event["stats"]["decoder"]["pkts"].as_u64()).max().unwrap_or(0)
}

fn report(directory: &Path) -> Report {
    let events = events(directory);
    let mut findings = Findings::new();
    for event in &events {
        let ends = ["proto", "src_ip", "src_port", "dest_ip", "dest_port", "icmp_type", "icmp_code", "vlan"]
            .map(|key| &event[key]);
        let what = match event["event_type"].as_str().unwrap() {
            "alert" => format!("alert {} {ends:?}", event["alert"]["signature"]),
            "flow" => {
                let flow = &event["flow"];
                let counts =
                    ["pkts_toserver", "pkts_toclient", "bytes_toserver", "bytes_toclient"].map(|key| &flow[key]);
                format!("flow {ends:?} {} {counts:?}", event["app_proto"])
            }
            _ => continue,
        };
        *findings.entry(what).or_default() += 1;
    }
    Report { packets: packets(&events), findings }
}

/// Returns what Suricata finds in a pcap file.
pub(crate) fn reading(file: &Path) -> Report {
    let directory = tempfile::tempdir().unwrap();
    let mut command = suricata(Command::new("suricata"), directory.path(), &configuration(), None);
    run(command.args(["single", "-r"]).arg(file));
    report(directory.path())
}

impl Suricata {
    /// Starts one that sniffs the interface, and waits until it does.
    fn sniffing(namespace: &Namespace, interface: &str) -> Suricata {
        Self::configured(namespace, interface, &configuration(), None)
    }

    /// Starts one that sniffs the interface by this configuration and these rules.
    pub(crate) fn configured(
        namespace: &Namespace,
        interface: &str,
        configuration: &Path,
        rules: Option<&Path>,
    ) -> Suricata {
        let directory = tempfile::tempdir().unwrap();
        let mut command = suricata(namespace.command("suricata"), directory.path(), configuration, rules);
        command.args(["workers", &format!("--af-packet={interface}")]);
        let process = Process::start(&mut command, Some(Stdio::null()));
        let started = || fs::read_to_string(directory.path().join("suricata.log")).unwrap_or_default();
        eventually("Suricata sniffs", || started().contains("Engine started"));
        Suricata { process, directory }
    }

    /// Packets it has decoded, by its own statistics of every second.
    pub(crate) fn packets(&self) -> u64 {
        packets(&events(self.directory.path()))
    }

    /// Ends it, and returns what it found.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Report {
        self.process.signal(Signal::INT);
        assert!(self.process.wait().success());
        report(self.directory.path())
    }
}

/// Returns the ordinary captures: name and frames.
pub(crate) fn ordinary(corpus: &Path) -> Vec<(String, Vec<Vec<u8>>)> {
    let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    captures::files(&corpus.join("inner")).iter().map(|path| (name(path), captures::frames(path))).collect()
}

#[track_caller]
fn assert_equal(what: &str, live: &Findings, read: &Findings) {
    let only = |a: &Findings, b: &Findings| -> Vec<String> {
        a.iter().filter(|(key, n)| b.get(*key) != Some(n)).map(|(key, n)| format!("{n} x {key}")).collect()
    };
    let (more, less) = (only(live, read), only(read, live));
    assert!(more.is_empty() && less.is_empty(), "{what}: on the tap {more:#?}, in the file {less:#?}");
}

/// Plays a capture to a sensor with a tap that Suricata sniffs, and compares. Returns how many
/// alerts there were.
fn compare(directory: &Path, name: &str, frames: &[Vec<u8>], arguments: &str) -> usize {
    // The times of the file are near those of the replay: no flow times out in one and not in the
    // other.
    let file = frames::write(directory, &format!("{name}.pcap"), frames);
    let read = reading(&file);
    assert_eq!(read.packets, frames.len() as u64, "{name}");
    let pair = Pair::new(9001);
    let sensor = Setup::new(&pair.sensor).with("--tap mirror0 --no-write").with(arguments).start();
    let suricata = Suricata::sniffing(&pair.sensor, "mirror0");
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 2000", frames.len());
    eventually("Suricata has decoded all", || suricata.packets() >= frames.len() as u64);
    let live = suricata.ended();
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{name}: {:#?}", ended.log);
    assert_eq!(live.packets, read.packets, "{name}: packets decoded");
    assert_equal(name, &live.findings, &read.findings);
    read.findings.keys().filter(|key| key.starts_with("alert")).count()
}

#[test]
fn each_capture_is_seen_on_the_tap_as_in_a_file() {
    compare_all("");
}

#[test]
fn each_capture_is_seen_on_the_tap_as_in_a_file_when_redirected() {
    compare_all("--source bpf --interface eth0 --tap-mode redirect");
}

/// Plays each capture to a sensor of its own with these arguments.
fn compare_all(arguments: &str) {
    let (true, Some(corpus)) = (need::programs(&["suricata"]), need::corpus()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let aws = ("aws".to_owned(), frames::inner(&corpus.join("vxlan/aws-traffic-mirror.pcap")));
    let captures: Vec<_> = ordinary(&corpus).into_iter().chain([aws]).collect();
    // Most of the time Suricata starts, waits for its statistics, and ends: several at a time.
    let mut alerts = 0;
    for some in captures.chunks(6) {
        let directory = directory.path();
        alerts += thread::scope(|scope| {
            let running: Vec<_> = some
                .iter()
                .map(|capture| scope.spawn(move || compare(directory, &capture.0, &capture.1, arguments)))
                .collect();
            let counts = running.into_iter().map(|one| one.join().unwrap_or_else(|cause| panic::resume_unwind(cause)));
            counts.sum::<usize>()
        });
    }
    assert!(alerts > 20, "the rules find something: {alerts}");
}

#[test]
fn every_flow_is_whole_on_one_of_two_interfaces() {
    let (true, Some(corpus)) = (need::programs(&["suricata"]), need::corpus()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let all: Vec<Vec<u8>> = ordinary(&corpus).into_iter().flat_map(|(_, frames)| frames).collect();
    let file = frames::write(directory.path(), "all.pcap", &all);
    let read = reading(&file);
    let pair = Pair::new(9001);
    let sensor = Setup::new(&pair.sensor).with("--tap mirror0 --tap-count 2 --no-write").start();
    let suricatas = ["mirror0", "mirror1"].map(|interface| Suricata::sniffing(&pair.sensor, interface));
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 2000", all.len());
    eventually("both have decoded all", || suricatas.iter().map(Suricata::packets).sum::<u64>() >= all.len() as u64);
    let reports = suricatas.map(Suricata::ended);
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    let mut together = Findings::new();
    for (name, report) in ["mirror0", "mirror1"].into_iter().zip(reports) {
        ended.ledger.assert_output_closes(name);
        assert_eq!(report.packets, ended.ledger.get(&format!("/outputs/{name}/written")), "{name}");
        assert!(report.packets > all.len() as u64 / 20, "{name} has its share: {} of {}", report.packets, all.len());
        for (finding, n) in report.findings {
            *together.entry(finding).or_default() += n;
        }
    }
    assert_equal("both together", &together, &read.findings);
}
