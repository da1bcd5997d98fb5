//! Frames are watched as they come, and no output notices.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::captures;
use crate::need;
use crate::netns::Ip;
use crate::process::{Process, eventually};
use crate::sensor::{Sensor, VXTAP};
use crate::site::Site;
use crate::stream::{self, Stream};
use crate::terminal::terminal;

impl Site {
    fn target(&self) -> SocketAddr {
        self.pair.target(Ip::V4)
    }

    /// Starts a sensor that knows VNI 1 as `web`, by a file.
    #[track_caller]
    fn named(&self) -> Sensor {
        self.answering("[[session]]\nname = \"web\"\nvni = 1\n")
    }

    /// Returns the command that watches, with these arguments, which are split at spaces.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(VXTAP);
        command.arg("watch").args(arguments.split_whitespace()).arg("--control").arg(self.socket());
        command
    }

    /// Starts to watch, into this file.
    fn watch(&self, arguments: &str, file: &Path) -> Process {
        let mut command = self.command(arguments);
        command.arg("-w").arg(file);
        let process = Process::start(&mut command, None);
        has_begun(&process);
        process
    }

    /// Returns the ledger as it is now.
    fn ledger(&self) -> Value {
        self.json("ledger")
    }
}

#[track_caller]
fn has_begun(watch: &Process) {
    watch.stderr.find("watching", 0, |line| line.contains("watching").then_some(()));
}

/// Returns the last line on standard error.
fn last(watch: &Process) -> String {
    watch.stderr.all().pop().unwrap_or_default()
}

/// Fails unless these frames are of VNI 1 of two, whole, and none between the first and the last is
/// missing.
#[track_caller]
fn assert_gapless(records: &[captures::Record]) {
    let numbers: Vec<u32> = records.iter().map(|record| stream::number(&record.frame)).collect();
    assert!(numbers.iter().all(|number| number % 2 == 0), "all are of VNI 1");
    assert!(numbers.windows(2).all(|pair| pair[0] + 2 == pair[1]), "{numbers:?}");
}

#[test]
fn frames_of_a_session_are_seen_as_they_come() {
    if !need::programs(&["tshark"]) {
        return;
    }
    let site = Site::new();
    let sensor = site.named();
    // The watch of a session waits for its first frame.
    let some = site.path("some.pcap");
    let mut to_file = site.watch("--session web -c 300", &some);
    let mut shell = Command::new("sh");
    let socket = site.socket();
    let line = format!(
        "{VXTAP} watch --session web --control {} | tshark -l -r - -T fields -e frame.time_epoch -e frame.len -e ip.src",
        socket.display()
    );
    let mut live = Process::start(shell.args(["-c", &line]), None);
    has_begun(&live);
    let sending = Stream::start(&site.pair.sender, site.target(), 2, 1000);
    let (time, address) = live.stdout.find("a frame", 0, |line| {
        let fields: Vec<&str> = line.split('\t').collect();
        Some((fields.first()?.to_string(), fields.get(2)?.to_string()))
    });
    assert!(address.starts_with("192.0.2."), "{address}");
    assert!(to_file.wait().success(), "{:?}", to_file.stderr.all());
    assert!(last(&to_file).contains("300 frames came, none was dropped: all frames that were asked for have come"));
    // A reload while somebody watches takes nothing away.
    let text = fs::read_to_string(site.file()).unwrap();
    fs::write(site.file(), text.replace("vni = 1", "vni = 1\ndescription = \"the web server\"")).unwrap();
    sensor.reload("web changed");
    let seen = live.stdout.count();
    live.stdout.find("a frame after the reload", seen, |_| Some(()));
    let sent = sending.end();
    eventually("all have come", || site.ledger()["received"].as_u64() >= Some(u64::from(sent)));
    let ended = sensor.stop();
    assert!(live.wait().success());
    assert!(last(&live).contains("none was dropped: the sensor has ended"), "{:?}", live.stderr.all());

    let session = site.path("captures").join(captures::session_name("web", site.pair.source(Ip::V4), 1));
    let all: Vec<captures::Record> = captures::files(&session).iter().flat_map(|path| captures::read(path)).collect();
    let some = captures::read(&some);
    assert_eq!(some.len(), 300);
    assert_gapless(&some);
    // Frames and times are those of the captures.
    let from = all.iter().position(|record| record.frame == some[0].frame).unwrap();
    assert_eq!(some, all[from..from + 300]);
    let first = &all[0];
    let (seconds, nanoseconds) = time.split_once('.').unwrap();
    assert_eq!(format!("{seconds}{nanoseconds}"), first.time.to_string(), "to the nanosecond");
    assert_eq!(live.stdout.count(), all.len(), "from the first to the last");
    let ledger = &ended.ledger;
    for watch in ["watch:1", "watch:2"] {
        ledger.assert_part_closes(watch);
    }
    assert_eq!(ledger.get("/outputs/watch:2/written"), all.len() as u64);
    assert_eq!(ledger.counted("/outputs/watch:2/unwatched"), 0);
    ledger.assert_output_closes("pcap");
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

#[test]
fn a_reader_that_stops_misses_frames_and_no_output_notices() {
    if !need::programs(&[]) {
        return;
    }
    let site = Site::new();
    let sensor = site.start("--workers 1");
    let source = site.pair.source(Ip::V4);
    let mut child = site
        .command(&format!("--session 1@{source} -w -"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("it has begun", || site.ledger()["outputs"]["watch:1"].is_object());
    let sending = Stream::start(&site.pair.sender, site.target(), 1, 10_000);
    let begun = Instant::now();
    eventually("the reader misses frames", || {
        let missed = site.ledger()["outputs"]["watch:1"]["unwatched"].as_u64();
        missed > Some(1000) && begun.elapsed() > Duration::from_secs(3)
    });
    // It goes on.
    let mut stdout = child.stdout.take().unwrap();
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        stdout.read_to_end(&mut all).unwrap();
        all
    });
    let taken = || site.ledger()["outputs"]["watch:1"]["written"].as_u64().unwrap();
    let before = taken();
    eventually("frames come again", || taken() > before + 20_000);
    sending.end();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && said.contains("were dropped because") && said.contains("ended as asked"),
        "{said}"
    );
    let file = site.path("seen.pcap");
    fs::write(&file, reader.join().unwrap()).unwrap();
    let seen = captures::read(&file);
    let ended = sensor.stop();
    let ledger = &ended.ledger;
    assert_eq!(seen.len() as u64, ledger.get("/outputs/watch:1/written"));
    assert!(said.contains(&format!("{} frames came, ", seen.len())), "{said}");
    let numbers: Vec<u32> = seen.iter().map(|record| stream::number(&record.frame)).collect();
    assert!(numbers.is_sorted(), "in order, with a gap");
    ledger.assert_part_closes("watch:1");
    ledger.assert_closes(&ended.captures);
    assert_eq!(ledger.written(), ledger.received(), "{:#}", ledger.0);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert!(ended.log.iter().all(|line| !line.contains("an output is behind")), "{:#?}", ended.log);
}

#[test]
fn whoever_goes_is_noticed_though_no_frames_come() {
    if !need::programs(&[]) {
        return;
    }
    let site = Site::new();
    let sensor = site.start("");
    let mut killed = site.watch("", &site.path("killed.pcap"));
    killed.signal(Signal::KILL);
    killed.wait();
    sensor.says(0, "nobody takes the frames any more");
    // Its reader has had enough: 24 bytes are the header.
    let seen = sensor.lines();
    let line = format!("{VXTAP} watch --control {} | head -c 24 > /dev/null", site.socket().display());
    let mut piped = Process::start(Command::new("sh").args(["-c", &line]), None);
    assert!(piped.wait().success());
    assert!(last(&piped).contains("0 frames came, none was dropped: ended as asked"), "{:?}", piped.stderr.all());
    sensor.says(seen, "nobody watches any more");
    let mut timed = site.watch("--duration 100ms", &site.path("timed.pcap"));
    assert!(timed.wait().success());
    assert!(last(&timed).contains("the time is over"), "{:?}", timed.stderr.all());
    // All of them have had the first place.
    let ledger = sensor.stop().ledger;
    ledger.assert_part_closes("watch:1");
    assert!(ledger.0["outputs"]["watch:2"].is_null(), "{:#}", ledger.0);
}

#[test]
fn what_cannot_be_watched_is_answered_with_the_reason() {
    if !need::programs(&[]) {
        return;
    }
    let site = Site::new();
    let sensor = site.named();
    let watches: Vec<Process> = (0..4).map(|n| site.watch("", &site.path(&format!("{n}.pcap")))).collect();
    for (arguments, code, said) in [
        ("--session wep", 1, "no session is named \"wep\": is \"web\" meant?"),
        ("--session 7@web", 2, "\"web\" is no address"),
        ("-f tcpp", 2, "\"tcpp\" is no word of the language"),
        ("--session web", 1, "4 watch already"),
        ("-c 0", 2, "0"),
    ] {
        let output = site.command(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments}: {text}");
        assert!(text.contains(said) && output.stdout.is_empty(), "{arguments}: {text}");
    }
    drop(watches);
    sensor.says(0, "nobody takes the frames any more");
    let fine = site.command("--session web --duration 10ms").output().unwrap();
    assert!(fine.status.success(), "{fine:?}");
    sensor.stop();
    let output = site.command("").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn a_terminal_is_refused_and_sees_no_frames() {
    if !need::programs(&[]) {
        return;
    }
    let site = Site::new();
    let sensor = site.start("");
    let (person, programs) = terminal();
    for arguments in ["", "-w -"] {
        let mut command = site.command(arguments);
        let output = command.stdout(programs.try_clone().unwrap()).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {said}");
        assert!(said.contains("frames are not shown on a terminal: add | wireshark"), "{arguments}: {said}");
    }
    // A file is none, wherever the rest goes.
    let mut command = site.command("--duration 10ms");
    command.arg("-w").arg(site.path("seen.pcap")).stdout(programs.try_clone().unwrap());
    let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    drop(command);
    drop(programs);
    // Nothing has come: the read ends as there is no program at the other end.
    let mut shown = Vec::new();
    let _ = fs::File::from(person).read_to_end(&mut shown);
    assert_eq!(String::from_utf8_lossy(&shown), "");
    sensor.stop();
}

#[test]
fn wireshark_lists_named_sessions_and_captures_them() {
    if !need::programs(&["tshark"]) {
        return;
    }
    let site = Site::new();
    let sensor = site.named();
    // The directory is another in each version.
    for directory in [".config/wireshark/extcap", ".local/lib/wireshark/extcap"] {
        let directory = site.path(directory);
        fs::create_dir_all(&directory).unwrap();
        symlink(VXTAP, directory.join("vxtap")).unwrap();
    }
    let tshark = || {
        let mut command = site.pair.sensor.command("tshark");
        command.env("HOME", site.directory.path()).env("VXTAP_CONTROL", site.socket());
        command.env_remove("XDG_CONFIG_HOME").env_remove("WIRESHARK_CONFIG_DIR");
        command
    };
    let sending = Stream::start(&site.pair.sender, site.target(), 2, 500);
    eventually("both sessions are there", || site.ledger()["sessions"].as_array().unwrap().len() == 2);
    let listed = tshark().arg("-D").output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for interface in ["vxtap (vxtap: all mirror sessions)", "vxtap-web (vxtap: web)"] {
        assert!(listed.contains(interface), "{listed}");
    }
    let file = site.path("captured.pcapng");
    let arguments = ["-i", "vxtap-web", "-f", "udp", "-c", "50", "-w", file.to_str().unwrap()];
    let mut capture = Process::start(tshark().args(arguments), None);
    assert!(capture.wait().success(), "{:?}", capture.stderr.all());
    let seen: Vec<u32> = captures::frames(&file).iter().map(|frame| stream::number(frame)).collect();
    assert_eq!(seen.len(), 50);
    assert!(seen.iter().all(|number| number % 2 == 0), "{seen:?}");
    let link_types = tshark().args(["-i", "vxtap-web", "-L"]).output().unwrap();
    let text = [link_types.stdout, link_types.stderr].concat();
    assert!(String::from_utf8_lossy(&text).contains("EN10MB"), "{}", String::from_utf8_lossy(&text));
    sending.end();
    sensor.says(0, "nobody watches any more");
    sensor.stop().ledger.assert_part_closes("watch:1");
}

#[test]
fn who_watches_beside_redirection_is_told_what_does_not_come() {
    if !need::programs(&[]) {
        return;
    }
    let redirect = "--source bpf --interface eth0 --attach tc --tap mirror0 --tap-mode redirect";
    for (more, is_told) in [("--no-write", true), ("", false)] {
        let site = Site::new();
        let sensor = site.start(&format!("{redirect} {more}"));
        // Those of the first end by the time, in which some are to be redirected.
        let duration = if is_told { 5 } else { 60 };
        let sending = Stream::start(&site.pair.sender, site.target(), 1, 200);
        let mut watch = site.watch(&format!("-c 10 --duration {duration}s"), &site.path("seen.pcap"));
        assert!(watch.wait().success(), "{:?}", watch.stderr.all());
        sending.end();
        let said = watch.stderr.all().join("\n");
        assert_eq!(said.contains("redirects frames into mirror0, and those do not come here"), is_told, "{said}");
        assert!(last(&watch).contains("none was dropped"), "{said}");
        assert_eq!(
            said.contains("of all sessions were redirected and did not come: the time is over"),
            is_told,
            "{said}"
        );
        // Where there are files, the sensor has copies. Else it has what the program leaves to it.
        let seen = captures::read(&site.path("seen.pcap")).len();
        assert!(if is_told { seen < 10 } else { seen == 10 }, "{seen}: {said}");
        let ended = sensor.stop();
        ended.ledger.assert_part_closes("watch:1");
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    }
}
