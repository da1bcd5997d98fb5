//! A sensor ends while traffic keeps coming.

use std::io::{Write, pipe};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::captures::{self, assert_open, assert_same};
use crate::frames;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::{eventually, tasks};
use crate::replay::{self, Replay, replay_all};
use crate::sensor::{Ended, Setup};
use crate::terminal::terminal;

/// VNIs that the traffic is of.
const VNIS: usize = 8;

/// Frames a second.
const RATE: u32 = 20_000;

/// A pair with traffic that does not end by itself.
struct Load {
    pair: Pair,
    frames: Vec<Vec<u8>>,
    file: PathBuf,
    _directory: TempDir,
}

impl Load {
    fn new() -> Load {
        let directory = tempfile::tempdir().unwrap();
        let frames = frames::assorted(1001);
        let file = frames::write(directory.path(), "frames.pcap", &frames);
        Load { pair: Pair::new(1600), frames, file, _directory: directory }
    }

    fn start(&self) -> Replay {
        self.start_at(RATE)
    }

    /// Starts to send so many frames a second.
    fn start_at(&self, rate: u32) -> Replay {
        let arguments = format!("--vni 1-{VNIS} --loop 1000000 --rate {rate}");
        replay::start(&self.pair.sender, self.pair.target(Ip::V4), &[&self.file], &arguments)
    }

    /// Ends the traffic. Fails unless the sensor ended as asked, before, and every frame that was
    /// sent is accounted for: in the ledger or, before the sensor's begin and after its end, in the
    /// kernel's counters. Returns how many these counted as refused and the ledger did not.
    fn assert_accounted_for(&self, replay: Replay, ended: &Ended) -> u64 {
        replay.0.signal(Signal::INT);
        let sent = replay.ended();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        ended.ledger.assert_closes(&ended.captures);
        let files = captures::files(&ended.captures);
        assert!(files.iter().all(|path| path.extension().is_some_and(|e| e == "pcap")), "all published: {files:?}");
        // Of nothing there is no file.
        if ended.ledger.received() > 0 {
            assert_open(&files);
        }

        let (ledger, kernel) = (&ended.ledger, self.pair.sensor.udp_counters());
        let (received, refused) = (ledger.received(), ledger.get("/refused_at_stop"));
        let dropped = ledger.get("/kernel_dropped");
        // What the program took was never seen by the kernel's UDP.
        let by_ring = ledger.get("/fast_path/taken") + ledger.get("/fast_path/ring_full");
        let delivered = kernel.delivered + by_ring;
        let came = delivered + kernel.refused_or_no_room + kernel.no_port;
        self.pair.assert_arrived(came, sent.frames);
        assert!(received + dropped + refused <= came, "{came} came: {:#}", ledger.0);
        assert!(delivered >= received && delivered <= received + refused, "{kernel:?} {:#}", ledger.0);
        assert_eq!(dropped, 0, "{:#}", ledger.0);
        delivered + kernel.refused_or_no_room - received - refused
    }

    /// The same, of a sensor that was there before the traffic.
    fn assert_ended_well(&self, replay: Replay, ended: &Ended) {
        // Between the last look at the counter and the close of the socket: no more than a few,
        // unless the sensor has to wait for a core just then.
        let unseen = self.assert_accounted_for(replay, ended);
        assert!(unseen <= u64::from(RATE) / 2, "{unseen} datagrams refused and not in the ledger");
        // Each file is the beginning of what was sent to its session, without a gap.
        for vni in 1..=VNIS {
            let records = captures::session(&ended.captures, self.pair.source(Ip::V4), vni as u32);
            let got: Vec<&[u8]> = records.iter().map(|record| record.frame.as_slice()).collect();
            let sent = (0..got.len()).map(|n| &self.frames[(vni - 1 + n * VNIS) % self.frames.len()]);
            assert_same(&format!("VNI {vni}"), &got, &sent.collect::<Vec<_>>());
        }
    }
}

fn stops_by(signal: Signal) {
    if !need::programs(&["capinfos", "tshark", "setsid"]) {
        return;
    }
    let load = Load::new();
    // On a terminal, without which SIGHUP asks for something else.
    let (_person, programs) = terminal();
    let setup = Setup::new(&load.pair.sensor).through("setsid --ctty").reading(programs);
    let sensor = setup.with("--workers 2 --flush 200ms").patient().start();
    let mut replay = load.start();
    sensor.is_writing();
    let ended = sensor.stop_by(signal);
    assert!(replay.0.is_running(), "traffic was to go on");
    load.assert_ended_well(replay, &ended);
    assert_eq!(ended.messages("draining").len(), 1);
}

#[test]
fn by_sigterm() {
    stops_by(Signal::TERM);
}

#[test]
fn by_sigint() {
    stops_by(Signal::INT);
}

#[test]
fn by_sighup() {
    stops_by(Signal::HUP);
}

#[test]
fn after_a_time() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    // In a second in which the sender or the sensor has to wait for a core too little comes: then
    // it is tried with a longer time.
    let seconds = [1, 4, 16];
    assert!(seconds.into_iter().any(runs_for), "too little came in {seconds:?} s");
}

/// Fails unless a sensor with this `--duration` ends by itself, no earlier, while traffic keeps
/// coming, and accounts for what came. False where that was too little.
fn runs_for(seconds: u64) -> bool {
    let load = Load::new();
    // Traffic is there before the sensor, so the time is full of it. The receive buffers hold that
    // of five seconds, should the workers wait for a core so long.
    let mut replay = load.start_at(5000);
    eventually("traffic comes", || load.pair.sensor.udp_counters().no_port > 0);
    let begin = Instant::now();
    let sensor = Setup::new(&load.pair.sensor).with(&format!("--workers 2 --duration {seconds}s")).patient().start();
    let ended = sensor.ended();
    assert!(begin.elapsed() >= Duration::from_secs(seconds), "it ended after {:?}", begin.elapsed());
    assert!(replay.0.is_running(), "traffic was to go on");
    load.assert_accounted_for(replay, &ended);
    if ended.ledger.received() < 1000 {
        return false;
    }
    // Each file begins somewhere in its session, and from there on has no gap.
    for vni in 1..=VNIS {
        let records = captures::session(&ended.captures, load.pair.source(Ip::V4), vni as u32);
        let sent = |n: usize| &load.frames[(vni - 1 + n * VNIS) % load.frames.len()];
        assert!(!records.is_empty(), "VNI {vni}: {:#}", ended.ledger.0);
        let begin = (0..load.frames.len()).find(|n| *sent(*n) == records[0].frame).unwrap();
        let sent: Vec<_> = (begin..begin + records.len()).map(sent).collect();
        // Not their times: the kernel begins to stamp packets a moment after the first socket of
        // the host asks for it, and until then the time is that of reading (`net_enable_timestamp`
        // in net/core/dev.c).
        let got: Vec<&[u8]> = records.iter().map(|record| record.frame.as_slice()).collect();
        assert_same(&format!("VNI {vni}"), &got, &sent);
    }
    assert_open(&captures::files(&ended.captures));
    true
}

#[test]
fn after_a_number_of_datagrams() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    for (workers, count) in [(1, 1), (2, 5000)] {
        let load = Load::new();
        let sensor =
            Setup::new(&load.pair.sensor).with(&format!("--workers {workers} --count {count}")).patient().start();
        let replay = load.start();
        let ended = sensor.ended();
        assert_eq!((ended.ledger.received(), ended.ledger.written()), (count, count));
        load.assert_ended_well(replay, &ended);
    }
}

/// A sensor that cannot end because nobody reads the ledger it prints: the first signal drains and
/// publishes, the second leaves.
#[test]
fn a_second_signal_leaves_at_once() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    for (second, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let load = Load::new();
        let (_reader, mut full) = pipe().unwrap();
        // What a pipe holds by default (pipe(7)).
        full.write_all(&[b' '; 65_536]).unwrap();
        let mut sensor = Setup::new(&load.pair.sensor).printing(full).start();
        replay_all(&load.pair.sender, load.pair.target(Ip::V4), &[&load.file], "", load.frames.len());
        sensor.process.signal(Signal::TERM);
        let published = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "pcap");
        eventually("the file is published", || captures::files(&sensor.captures).iter().any(published));
        assert!(sensor.process.is_running(), "it waits for a reader of its ledger");
        sensor.process.signal(second);
        assert_eq!(sensor.process.wait().code(), Some(code));
        let frames = captures::session(&sensor.captures, load.pair.source(Ip::V4), 1);
        assert_eq!(frames.len(), load.frames.len());
    }
}

/// Nobody reads the ledger: not an error of the sensor's.
#[test]
fn with_nobody_to_print_to() {
    if !need::programs(&[]) {
        return;
    }
    let load = Load::new();
    let (reader, stdout) = pipe().unwrap();
    let mut sensor = Setup::new(&load.pair.sensor).printing(stdout).start();
    drop(reader);
    replay_all(&load.pair.sender, load.pair.target(Ip::V4), &[&load.file], "", load.frames.len());
    sensor.process.signal(Signal::TERM);
    assert_eq!(sensor.process.wait().code(), Some(0), "{:#?}", sensor.process.stderr.all());
    let frames = captures::session(&sensor.captures, load.pair.source(Ip::V4), 1);
    assert_eq!(frames.len(), load.frames.len());
}

/// A standard error that nobody reads, as that of a terminal stopped with Ctrl-S, holds up neither
/// the way of a frame nor the end.
#[test]
fn standard_error_stalls() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let captures = directory.path().join("captures");
    let frames = frames::assorted(2000);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    // Full from the beginning, and the reader's end stays open.
    let (reader, writer) = pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &[b'.'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).unwrap();
    let mut command = pair.sensor.command(crate::sensor::VXTAP);
    command
        .args(["run", "--ledger", "json", "--write"])
        .arg(&captures)
        .stdout(std::process::Stdio::piped())
        .stderr(writer);
    let mut sensor = command.spawn().unwrap();
    drop(command);
    // It cannot say so. A bound socket is not enough, as it refuses until the outputs are ready;
    // then the threads begin.
    let pid = Pid::from_child(&sensor);
    eventually("the sensor receives", || tasks(pid).iter().any(|task| task.name.starts_with("vxtap-rx")));
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--vni 1-50 --rate 2000", frames.len());
    // Sessions that are new after the status was looked at.
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--vni 51-99 --rate 2000", frames.len());
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while sensor.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            sensor.kill().unwrap();
            panic!("the sensor does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = sensor.wait_with_output().unwrap();
    drop(reader);
    assert_eq!(output.status.code(), Some(0));
    let ledger = crate::ledger::Ledger(serde_json::from_slice(&output.stdout).unwrap());
    ledger.assert_closes(&captures);
    ledger.assert_lossless();
    pair.assert_all_arrived(ledger.received(), 2 * frames.len());
}

/// nohup has its program ignore the end of the login.
#[test]
fn nohup() {
    if !need::programs(&["nohup"]) {
        return;
    }
    let pair = Pair::new(1600);
    let mut sensor = Setup::new(&pair.sensor).through("nohup").start();
    sensor.process.signal(Signal::HUP);
    sensor.process.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    assert!(sensor.process.is_running());
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0));
    assert!(ended.messages("SIGHUP").is_empty(), "{:#?}", ended.log);
}
