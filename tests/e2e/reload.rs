//! The configuration changes while frames come: all of it or nothing, and no frame is lost.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::captures::{self, Record};
use crate::configuration::{WAYS, patient};
use crate::datagrams;
use crate::disk::Loop;
use crate::manifest::assert_verified;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::{PATIENCE, eventually};
use crate::sensor::{Ended, Sensor, Setup};
use crate::stream::{Stream, frame};

const VNIS: u32 = 4;
const RATE: u32 = 20_000;

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// The bytes that outputs and sessions keep of a frame now and then. Each frame's number is among
/// them.
const SNAPLENS: [usize; 3] = [64, 100, 200];

/// A configuration, of which one thing after the other changes.
struct Config {
    file: PathBuf,
    directory: PathBuf,
    receive: &'static str,
    /// Lines of `[output.evidence]`, whose files never end for good.
    evidence: BTreeMap<&'static str, &'static str>,
    /// Outputs that come and go, and the directory of each.
    others: BTreeMap<String, PathBuf>,
    /// All directories that an output ever had.
    directories: BTreeMap<String, Vec<PathBuf>>,
    /// What else the file says.
    more: String,
    /// True where VNI 4 is let in.
    fourth: bool,
    /// What people call VNI 3.
    name: &'static str,
    /// What becomes of VNI 4.
    plan: &'static str,
}

impl Config {
    fn new(directory: &Path, receive: &'static str) -> Config {
        Config {
            file: directory.join("vxtap.toml"),
            directory: directory.to_path_buf(),
            receive,
            evidence: BTreeMap::new(),
            others: BTreeMap::new(),
            directories: BTreeMap::new(),
            more: String::new(),
            fourth: true,
            name: "",
            plan: "",
        }
    }

    fn evidence(&self) -> PathBuf {
        self.directory.join("evidence")
    }

    fn text(&self) -> String {
        // A test that asks for another buffer is refused.
        let patient = if self.receive.contains("buffer") { "" } else { patient(self.receive) };
        let mut text = format!("[receive]\n{}\n{patient}\nworkers = 2\n", self.receive);
        let vnis = if self.fourth { "\"1-4\"" } else { "\"1-3\"" };
        writeln!(text, "[sessions]\nvni = [{vnis}]\n[delivery]\nflush = \"100ms\"").unwrap();
        writeln!(text, "[output.evidence]\nkind = \"pcap\"\ndirectory = {:?}", self.evidence()).unwrap();
        // No file is cut when the clock passes an hour, which a test may just see.
        writeln!(text, "rotate_time = \"3000d\"").unwrap();
        self.evidence.iter().for_each(|(key, value)| writeln!(text, "{key} = {value}").unwrap());
        for (name, directory) in &self.others {
            writeln!(text, "[output.{name}]\nkind = \"pcap\"\ndirectory = {directory:?}").unwrap();
        }
        for (vni, lines) in [(3, self.name), (4, self.plan)].iter().filter(|(_, lines)| !lines.is_empty()) {
            writeln!(text, "[[session]]\nvni = {vni}\n{lines}").unwrap();
        }
        text + &self.more
    }

    fn write(&self) {
        fs::write(&self.file, self.text()).unwrap();
    }

    /// Adds an output that writes there.
    fn add(&mut self, name: &str, directory: PathBuf) {
        self.directories.entry(name.to_owned()).or_default().push(directory.clone());
        self.others.insert(name.to_owned(), directory);
    }

    /// Changes one thing. No value is that by default.
    fn change(&mut self, dice: &mut Dice) {
        let other = |now: &'static str, all: &[&'static str], dice: &mut Dice| {
            let place = all.iter().position(|one| *one == now).unwrap();
            all[(place + 1 + dice.below(all.len() as u64 - 1) as usize) % all.len()]
        };
        match dice.below(9) {
            0 => self.fourth = !self.fourth,
            1 | 2 => {
                let (key, values): (_, &[&str]) = [
                    ("format", &["\"pcapng\""] as &[&str]),
                    ("compress", &["\"lz4\"", "\"zstd:1\""]),
                    ("hash", &["\"blake3\"", "\"none\""]),
                    ("rotate_frames", &["5000", "12000"]),
                    ("keep_files", &["100000", "200000"]),
                    ("sync", &["\"publish\""]),
                    ("direct", &["\"on\"", "\"off\""]),
                    ("snaplen", &["64", "200"]),
                    // The lowest bits of a frame's number say which VNI it has: all but the fourth.
                    ("filter", &["\"udp\"", "\"udp[11] & 3 != 3\""]),
                ][dice.below(9) as usize];
                let value = values[dice.below(values.len() as u64) as usize];
                if self.evidence.remove(key) != Some(value) {
                    self.evidence.insert(key, value);
                }
            }
            3 => self.name = other(self.name, &["", "name = \"web-1\"", "name = \"web-2\""], dice),
            4..7 => {
                let name = format!("other{}", dice.below(4));
                if self.others.remove(&name).is_none() {
                    let number = self.directories.get(&name).map_or(0, Vec::len);
                    self.add(&name, self.directory.join(format!("{name}-{number}")));
                }
            }
            // What is redirected is so as it is.
            _ if self.more.contains("redirect") => {
                let cut = "outputs = [\"evidence\"]\nsnaplen = 100";
                let some = "outputs = [\"evidence\"]\nfilter = \"len < 400\"";
                let slice = "outputs = [\"evidence\"]\nslice = \"l4+58\"";
                let [all, none] = [
                    "outputs = [\"evidence\"]\nrules = [{ number = 1, action = \"accept\", protocol = \"udp\" }]",
                    "outputs = [\"evidence\"]\nrules = [{ number = 1, action = \"accept\", protocol = \"tcp\" }]",
                ];
                let plans = ["", "drop = true", "outputs = [\"evidence\"]", cut, some, slice, all, none];
                self.plan = other(self.plan, &plans, dice);
            }
            _ => {
                let plans = [
                    "",
                    "drop = true",
                    "outputs = [\"evidence\"]",
                    "snaplen = 100",
                    "filter = \"len < 400\"",
                    // 100 bytes of a frame.
                    "slice = \"l4+58\"",
                    "rules = [{ number = 1, action = \"accept\", protocol = \"udp\" }]",
                    "rules = [{ number = 1, action = \"accept\", protocol = \"tcp\" }]",
                ];
                self.plan = other(self.plan, &plans, dice);
            }
        }
    }
}

/// Returns the number of a frame. Fails unless it is that frame, to its last byte or to a snap
/// length.
#[track_caller]
fn number(Record { frame: got, orig_len, .. }: &Record) -> u32 {
    let number = u32::from_be_bytes(got[42..46].try_into().unwrap());
    let whole = frame(number);
    assert_eq!((got.as_slice(), *orig_len as usize), (&whole[..got.len()], whole.len()), "frame {number}");
    assert!(got.len() == whole.len() || SNAPLENS.contains(&got.len()), "{} bytes of frame {number}", got.len());
    number
}

/// What a directory has of a session, whatever that was called.
struct Held {
    /// The numbers of the frames.
    numbers: Vec<u32>,
    /// How many of them are cut.
    cut: usize,
}

impl Held {
    /// Reads the files. In each frames are in their order.
    fn new(directory: &Path, pair: &Pair, vni: u32) -> Held {
        let ending = captures::session_name("", pair.source(Ip::V4), vni);
        let mut held = Held { numbers: Vec::new(), cut: 0 };
        for path in captures::files(directory) {
            if path.parent().unwrap().file_name().unwrap().to_str().unwrap().ends_with(&ending) {
                let records = captures::read(&path);
                let numbers: Vec<u32> = records.iter().map(number).collect();
                assert!(numbers.is_sorted(), "{}", path.display());
                held.numbers.extend(numbers);
                held.cut += records.iter().filter(|record| record.frame.len() < record.orig_len as usize).count();
            }
        }
        held.numbers.sort_unstable();
        held
    }

    #[track_caller]
    fn assert_gapless(&self, what: &str) {
        let gap = self.numbers.windows(2).find(|pair| pair[0] + VNIS != pair[1]);
        assert_eq!(gap, None, "{what}: {} frames", self.numbers.len());
    }
}

/// A sensor that is configured by a file, and a stream that it receives.
struct Run {
    config: Config,
    sensor: Sensor,
    stream: Stream,
    pair: Pair,
    _directory: TempDir,
}

impl Run {
    /// Starts both, the sensor as `configure` leaves the file. All sessions have begun then.
    #[track_caller]
    fn start(receive: &'static str, configure: impl FnOnce(&mut Config)) -> Run {
        let directory = tempfile::tempdir().unwrap();
        let pair = Pair::new(1600);
        let mut config = Config::new(directory.path(), receive);
        configure(&mut config);
        config.write();
        let sensor = Setup::new(&pair.sensor).configured(&config.file).start();
        let stream = Stream::start(&pair.sender, pair.target(Ip::V4), VNIS, RATE);
        eventually("frames come", || captures::files(&config.evidence()).len() == VNIS as usize);
        Run { config, sensor, stream, pair, _directory: directory }
    }

    /// Has the sensor read the file as it is to be now. Then the log says this.
    #[track_caller]
    fn reload(&self, becomes: &str) {
        self.config.write();
        self.sensor.reload(becomes);
    }

    /// Changes so many things, one after the other.
    #[track_caller]
    fn change(&mut self, times: u32) {
        let mut dice = Dice(1);
        for _ in 0..times {
            self.config.change(&mut dice);
            self.reload("SIGUSR2: reloaded ");
            // Some come to each session by what the file says now.
            let before = self.stream.sent();
            eventually("frames go on", || self.stream.sent() > before + 4 * VNIS);
        }
    }

    /// Ends the stream and the sensor. Fails unless all that was sent is where the configuration of
    /// its time had it.
    #[track_caller]
    fn end(self) -> Ended {
        let Run { config, sensor, stream, pair, _directory } = self;
        let sent = stream.end();
        let ended = sensor.stop();
        ended.assert_received(&pair, sent);
        let ledger = &ended.ledger;
        ledger.assert_output_closes("evidence");
        let mut cut = 0;
        for vni in 1..=VNIS {
            let held = Held::new(&config.evidence(), &pair, vni);
            let session = ledger.sessions().into_iter().find(|(_, of, _)| *of == vni).unwrap();
            // Expressions and rules keep frames of the last one alone out.
            let by = ["expression", "rule"].map(|why| ledger.counted(&format!("/outputs/evidence/filtered_by/{why}")));
            let filtered = if vni < VNIS { 0 } else { by.iter().sum() };
            assert_eq!(held.numbers.len() as u64 + filtered, session.2, "VNI {vni}");
            if vni < VNIS {
                assert_eq!(held.numbers[0], vni - 1);
                held.assert_gapless(&format!("evidence, VNI {vni}"));
            } else {
                assert!(held.numbers.windows(2).all(|pair| pair[0] < pair[1]), "none twice");
            }
            cut += held.cut;
        }
        assert_eq!(cut as u64, ledger.get("/outputs/evidence/snapped"), "cut");
        assert_verified(&config.evidence());
        for (name, directories) in &config.directories {
            ledger.assert_part_closes(name);
            let (mut frames, mut cut) = (0, 0);
            for directory in directories {
                for vni in 1..=VNIS {
                    let held = Held::new(directory, &pair, vni);
                    if vni < VNIS {
                        held.assert_gapless(&directory.display().to_string());
                    }
                    frames += held.numbers.len() as u64;
                    cut += held.cut as u64;
                }
                assert_verified(directory);
            }
            let counted = ["written", "snapped"].map(|what| ledger.get(&format!("/outputs/{name}/{what}")));
            assert_eq!([frames, cut], counted, "{name}");
        }
        ended
    }
}

#[test]
fn two_hundred_reloads_lose_nothing() {
    if !need::programs(&[]) {
        return;
    }
    for way in WAYS {
        let mut run = Run::start(way, |_| ());
        run.change(200);
        let ended = run.end();
        // Of what changed, this leaves a trace in the ledger.
        let of = |what: &str| ended.ledger.counted(&format!("/outputs/evidence/{what}"));
        let kept_out = ["session", "expression", "rule"].map(|reason| of(&format!("filtered_by/{reason}")));
        assert!(of("snapped") > 0 && kept_out.iter().all(|frames| *frames > 0), "{way}: {:#}", ended.ledger.0);
    }
}

#[test]
fn a_bad_file_changes_nothing_and_the_log_says_why() {
    if !need::programs(&[]) {
        return;
    }
    for way in WAYS {
        let mut run = Run::start(way, |_| ());
        let at = run.config.directory.clone();
        let other = |name: &str, directory: &str| {
            format!("[output.{name}]\nkind = \"pcap\"\ndirectory = {:?}\n", at.join(directory))
        };
        let good = other("good", "good");
        fs::write(at.join("file"), "").unwrap();
        let cases = [
            ("[output.x]\nkind = \"pcap\"\nrotate_siz = 5\n".to_owned(), "rotate_siz"),
            ("[[[".to_owned(), "nothing has changed"),
            (format!("{good}[output.x]\nkind = \"pcap\"\nrotate_size = \"1 parsec\"\n"), "^^^"),
            (format!("{good}[run]\ncount = 5\n"), "run.count needs a restart"),
            (format!("{good}{}", other("bad", "file/below")), "output bad: cannot write captures to "),
            (other("second", "evidence"), "is that of another output"),
            (format!("{good}[output.lo]\nkind = \"tap\"\ninterface = \"lo\"\n"), "output lo: "),
        ];
        for round in 0..50 {
            let (more, says) = &cases[round % cases.len()];
            run.config.more.clone_from(more);
            run.reload(says);
        }
        if way == WAYS[0] {
            let started = run.config.receive;
            for (receive, says) in [
                ("source = \"udp\"\nbuffer = \"1MiB\"", "receive.buffer needs a restart"),
                ("source = \"udp\"\nlisten = 4790", "receive.listen needs a restart"),
                ("source = \"auto\"\nsteer = \"flow\"", "receive.source, receive.steer need a restart"),
            ] {
                (run.config.receive, run.config.more) = (receive, String::new());
                run.reload(says);
            }
            run.config.receive = started;
            run.reload("nothing has changed");
        }
        let ended = run.end();
        assert_eq!(ended.ledger.0.get("partly"), None, "{:#}", ended.ledger.0);
        assert_eq!(ended.ledger.0["outputs"].as_object().unwrap().len(), 1);
    }
}

#[test]
fn sighup_reloads_where_standard_input_is_no_terminal() {
    if !need::programs(&[]) {
        return;
    }
    let mut run = Run::start(WAYS[0], |_| ());
    run.config.more = "[output.mirror]\nkind = \"tap\"\ninterface = \"mirror0\"\n".into();
    run.config.write();
    run.sensor.process.signal(Signal::HUP);
    run.sensor.says(0, "SIGHUP: reloaded ");
    assert!(run.pair.sensor.has_link("mirror0"));
    run.config.more.clear();
    run.config.write();
    run.sensor.process.signal(Signal::HUP);
    run.sensor.says(0, "output mirror removed");
    eventually("the interface is gone", || !run.pair.sensor.has_link("mirror0"));
    run.end();
}

#[test]
fn a_reload_does_not_wait_for_a_disk_that_stalls() {
    if !need::programs(&["mkfs.ext4", "mount", "umount", "fsfreeze"]) {
        return;
    }
    for way in WAYS {
        let Some(disk) = Loop::new() else { return need::cannot("no file system in a file can be mounted here") };
        let slow = disk.path().join("slow");
        let mut run = Run::start(way, |config| config.add("slow", slow.clone()));
        eventually("frames come", || captures::files(&slow).len() == 4);
        let Some(frozen) = disk.freeze() else { return need::cannot("fsfreeze fails here") };
        // The output that waits for its disk is changed, and taken away, and another one comes.
        let begun = Instant::now();
        run.config.evidence.insert("rotate_frames", "3000");
        run.config.others.remove("slow");
        let other = run.config.directory.join("other");
        run.config.add("other", other.clone());
        run.reload("SIGUSR2: reloaded ");
        assert!(begun.elapsed() < PATIENCE / 3, "{:?} of {PATIENCE:?}", begun.elapsed());
        let before = run.stream.sent();
        eventually("the new output is written to", || captures::files(&other).len() >= 4);
        eventually("frames go on", || run.stream.sent() > before + 2 * RATE);
        drop(frozen);
        run.sensor.says(0, "has finished");
        run.end();
    }
}

#[test]
fn signals_are_heard_while_an_output_waits_for_its_disk() {
    if !need::programs(&["mkfs.ext4", "mount", "umount", "fsfreeze"]) {
        return;
    }
    let Some(disk) = Loop::new() else { return need::cannot("no file system in a file can be mounted here") };
    let directories = format!("[sandbox]\ndirectories = [{:?}]\n", disk.path());
    let mut run = Run::start(WAYS[0], |config| config.more = directories);
    let Some(frozen) = disk.freeze() else { return need::cannot("fsfreeze fails here") };
    run.config.add("slow", disk.path().join("slow"));
    run.reload("are still being opened; nothing changes until then");
    let from = run.sensor.lines();
    run.sensor.process.signal(Signal::USR1);
    run.sensor.says(from, "SIGUSR1: completing");
    // What is read meanwhile waits.
    run.config.fourth = false;
    run.config.write();
    run.sensor.process.signal(Signal::USR2);
    run.sensor.says(from, "are still being opened");
    drop(frozen);
    run.sensor.says(from, "output slow added");
    run.sensor.says(from, "sessions that are let in");
    run.end();
}

#[test]
fn reserved_bits_are_refused_from_a_reload_on() {
    if !need::programs(&[]) {
        return;
    }
    for way in WAYS {
        let directory = tempfile::tempdir().unwrap();
        let pair = Pair::new(1600);
        let config = Config::new(directory.path(), way);
        config.write();
        let sensor = Setup::new(&pair.sensor).configured(&config.file).start();
        let socket = pair.sender.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        let odd = datagrams::vxlan(8, [0, 0, 1], 1, 0, &frame(1));
        let send = || assert_eq!(socket.send_to(&odd, pair.target(Ip::V4)).unwrap(), odd.len());
        send();
        eventually("the frame is there", || captures::files(&config.evidence()).len() == 1);
        let refusing = config.text().replacen("[receive]\n", "[receive]\nreserved_bits = \"reject\"\n", 1);
        fs::write(&config.file, refusing).unwrap();
        sensor.reload("SIGUSR2: reloaded ");
        send();
        let ended = sensor.stop();
        let counted = ["/received", "/reserved_bits", "/dropped/reserved_bits"].map(|what| ended.ledger.get(what));
        assert_eq!(counted, [2, 1, 1], "{way}: {:#}", ended.ledger.0);
        ended.ledger.assert_output_closes("evidence");
    }
}

#[test]
fn outputs_come_and_go_beside_redirection() {
    if !need::programs(&[]) {
        return;
    }
    let tap = "[output.mirror]\nkind = \"tap\"\ninterface = \"mirror0\"\nmode = \"redirect\"\n";
    let receive = "source = \"bpf\"\ninterface = \"eth0\"";
    let mut run = Run::start(receive, |config| config.more = tap.into());
    run.change(200);
    run.config.more.clear();
    run.reload("output.mirror.mode needs a restart");
    let ended = run.end();
    ended.ledger.assert_output_closes("mirror");
    assert!(ended.ledger.get("/fast_path/redirected") > 0);
    assert!(ended.ledger.get("/outputs/evidence/snapped") > 0, "{:#}", ended.ledger.0);
}

#[test]
fn what_is_not_allowed_any_more_is_not_redirected() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let pair = Pair::new(1600);
    let file = directory.path().join("vxtap.toml");
    let text = "[receive]\nsource = \"bpf\"\ninterface = \"eth0\"\nworkers = 2\n\
                [output.mirror]\nkind = \"tap\"\ninterface = \"mirror0\"\nmode = \"redirect\"\n";
    fs::write(&file, text).unwrap();
    let sensor = Setup::new(&pair.sensor).configured(&file).start();
    fs::write(&file, format!("{text}[sessions]\nvni = [1]\n")).unwrap();
    sensor.reload("sessions that are let in");
    let stream = Stream::start(&pair.sender, pair.target(Ip::V4), VNIS, RATE);
    eventually("frames come", || stream.sent() > RATE);
    let sent = u64::from(stream.end());
    let ended = sensor.stop();
    let sessions = ended.ledger.sessions();
    assert_eq!(sessions.iter().map(|(_, vni, _)| *vni).collect::<Vec<_>>(), [1], "{:#}", ended.ledger.0);
    assert!(sessions[0].2.abs_diff(sent / u64::from(VNIS)) <= 1, "{sent}: {sessions:?}");
    ended.ledger.assert_output_closes("mirror");
}
