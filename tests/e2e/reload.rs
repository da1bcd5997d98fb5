//! The configuration changes while frames come: all of it or nothing, and no frame is lost.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::captures;
use crate::disk::Loop;
use crate::manifest::assert_verified;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::{PATIENCE, eventually};
use crate::sensor::{Ended, Sensor, Setup, message};
use crate::stream::{Stream, number};

const VNIS: u32 = 4;
const RATE: u32 = 20_000;

/// The lines of `[receive]` for each way.
const WAYS: [&str; 3] = [
    "source = \"udp\"",
    "source = \"bpf\"\ninterface = \"eth0\"\nattach = \"xdp\"",
    "source = \"bpf\"\ninterface = \"eth0\"\nattach = \"tc\"",
];

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A configuration, of which one thing after the other changes.
struct Config {
    file: PathBuf,
    directory: PathBuf,
    receive: &'static str,
    /// Lines of `[output.evidence]`, whose files never end for good.
    evidence: BTreeMap<&'static str, String>,
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
        let config = Config {
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
        };
        config.write();
        config
    }

    fn evidence(&self) -> PathBuf {
        self.directory.join("evidence")
    }

    fn text(&self) -> String {
        let mut text = format!("[receive]\n{}\nworkers = 2\n", self.receive);
        let vnis = if self.fourth { "\"1-4\"" } else { "\"1-3\"" };
        writeln!(text, "[sessions]\nvni = [{vnis}]\n[delivery]\nflush = \"100ms\"").unwrap();
        writeln!(text, "[output.evidence]\nkind = \"pcap\"\ndirectory = {:?}", self.evidence()).unwrap();
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

    /// Changes one thing. No value is that by default.
    fn change(&mut self, dice: &mut Dice) {
        let other = |now: &'static str, all: [&'static str; 3], dice: &mut Dice| {
            let place = all.iter().position(|one| *one == now).unwrap();
            all[(place + 1 + dice.below(2) as usize) % 3]
        };
        match dice.below(8) {
            6 => self.name = other(self.name, ["", "name = \"web-1\"", "name = \"web-2\""], dice),
            7 => self.plan = other(self.plan, ["", "drop = true", "outputs = [\"evidence\"]"], dice),
            0 => self.fourth = !self.fourth,
            1 => {
                let (key, values): (_, &[&str]) = [
                    ("format", &["\"pcapng\""] as &[&str]),
                    ("compress", &["\"lz4\"", "\"zstd:1\""]),
                    ("hash", &["\"blake3\"", "\"none\""]),
                    ("rotate_frames", &["5000", "12000"]),
                    ("keep_files", &["100000", "200000"]),
                    ("sync", &["\"publish\""]),
                ][dice.below(6) as usize];
                let value = values[dice.below(values.len() as u64) as usize].to_owned();
                if self.evidence.remove(key).as_ref() != Some(&value) {
                    self.evidence.insert(key, value);
                }
            }
            _ => {
                let name = format!("other{}", dice.below(4));
                if self.others.remove(&name).is_none() {
                    let all = self.directories.entry(name.clone()).or_default();
                    let directory = self.directory.join(format!("{name}-{}", all.len()));
                    all.push(directory.clone());
                    self.others.insert(name, directory);
                }
            }
        }
        self.write();
    }
}

/// Reloads, and waits until the log says what has become of it.
#[track_caller]
pub(crate) fn reload(sensor: &Sensor, says: &str) {
    let from = sensor.process.stderr.all().len();
    sensor.process.signal(Signal::USR2);
    let line = sensor
        .process
        .stderr
        .find("SIGUSR2: ", from, |line| message(line).filter(|message| message.starts_with("SIGUSR2: ")));
    assert!(line.contains(says), "{says}: {line}");
}

/// Returns the numbers of the frames that a directory has of a session, whatever it was called. In
/// each file they are in their order.
fn numbers(directory: &Path, pair: &Pair, vni: u32) -> Vec<u32> {
    let plain = captures::session_directory(directory, pair.source(Ip::V4), vni);
    let ending = plain.file_name().unwrap().to_str().unwrap();
    let mut all = Vec::new();
    for path in captures::files(directory) {
        if path.parent().unwrap().file_name().unwrap().to_str().unwrap().ends_with(ending) {
            let numbers: Vec<u32> = captures::read(&path).iter().map(|record| number(&record.frame)).collect();
            assert!(numbers.is_sorted(), "{}", path.display());
            all.extend(numbers);
        }
    }
    all.sort_unstable();
    all
}

#[track_caller]
fn assert_gapless(what: &str, numbers: &[u32]) {
    let gap = numbers.windows(2).find(|pair| pair[0] + VNIS != pair[1]);
    assert_eq!(gap, None, "{what}: {} frames", numbers.len());
}

/// Fails unless all that was sent is where the configuration of its time had it.
#[track_caller]
fn assert_all_is_there(ended: &Ended, config: &Config, pair: &Pair, sent: u32) {
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    let ledger = &ended.ledger;
    assert_eq!(ledger.get("/kernel_dropped"), 0, "{:#}", ledger.0);
    pair.assert_arrived(ledger.received(), u64::from(sent));
    ledger.assert_output_closes("evidence");
    for vni in 1..=VNIS {
        let numbers = numbers(&config.evidence(), pair, vni);
        let session = ledger.sessions().into_iter().find(|(_, of, _)| *of == vni).unwrap();
        assert_eq!(numbers.len() as u64, session.2, "VNI {vni}");
        if vni < VNIS {
            assert_eq!(numbers[0], vni - 1);
            assert_gapless(&format!("evidence, VNI {vni}"), &numbers);
        } else {
            assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "none twice");
        }
    }
    assert_verified(&config.evidence());
    for (name, directories) in &config.directories {
        ledger.assert_part_closes(name);
        let mut frames = 0;
        for directory in directories {
            let all: Vec<_> = (1..=VNIS).map(|vni| numbers(directory, pair, vni)).collect();
            for numbers in &all[..3] {
                assert_gapless(&directory.display().to_string(), numbers);
            }
            frames += all.iter().map(|numbers| numbers.len() as u64).sum::<u64>();
            assert_verified(directory);
        }
        assert_eq!(frames, ledger.get(&format!("/outputs/{name}/written")), "{name}");
    }
}

fn reloads(receive: &'static str, rounds: u32) {
    let directory = tempfile::tempdir().unwrap();
    let pair = Pair::new(1600);
    let mut config = Config::new(directory.path(), receive);
    let sensor = Setup::new(&pair.sensor).configured(&config.file).start();
    let stream = Stream::start(&pair.sender, pair.target(Ip::V4), VNIS, RATE);
    eventually("frames come", || captures::files(&config.evidence()).len() == 4);
    let mut dice = Dice(1);
    for _ in 0..rounds {
        config.change(&mut dice);
        reload(&sensor, "SIGUSR2: reloaded ");
    }
    drop_and_end(stream, sensor, &config, &pair);
}

/// Ends the stream and the sensor, and looks what there is.
#[track_caller]
fn drop_and_end(stream: Stream, sensor: Sensor, config: &Config, pair: &Pair) {
    let sent = stream.end();
    let ended = sensor.stop();
    assert_all_is_there(&ended, config, pair, sent);
}

#[test]
fn two_hundred_reloads_lose_nothing() {
    if need::programs(&[]) {
        reloads(WAYS[0], 200);
    }
}

#[test]
fn reloads_lose_nothing_behind_the_program() {
    if need::programs(&[]) {
        WAYS[1..].iter().for_each(|way| reloads(way, 30));
    }
}

#[test]
fn a_bad_file_changes_nothing_and_the_log_says_why() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let pair = Pair::new(1600);
    let mut config = Config::new(directory.path(), WAYS[0]);
    let sensor = Setup::new(&pair.sensor).configured(&config.file).start();
    let stream = Stream::start(&pair.sender, pair.target(Ip::V4), VNIS, RATE);
    let other = |name: &str, directory: &str| {
        format!("[output.{name}]\nkind = \"pcap\"\ndirectory = {:?}\n", config.directory.join(directory))
    };
    let good = other("good", "good");
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
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
        config.more.clone_from(more);
        config.write();
        reload(&sensor, says);
    }
    let started = config.receive;
    for (receive, says) in [
        ("source = \"udp\"\nbuffer = \"1MiB\"", "receive.buffer needs a restart"),
        ("source = \"udp\"\nlisten = 4790", "receive.listen needs a restart"),
        ("source = \"auto\"\nreserved_bits = \"reject\"", "receive.source, receive.reserved_bits need a restart"),
    ] {
        (config.receive, config.more) = (receive, String::new());
        config.write();
        reload(&sensor, says);
    }
    config.receive = started;
    config.write();
    reload(&sensor, "nothing has changed");
    let sent = stream.end();
    let ended = sensor.stop();
    assert_eq!(ended.ledger.0.get("partly"), None, "{:#}", ended.ledger.0);
    assert_eq!(ended.ledger.0["outputs"].as_object().unwrap().len(), 1);
    assert_all_is_there(&ended, &config, &pair, sent);
}

#[test]
fn sighup_reloads_where_standard_input_is_no_terminal() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let pair = Pair::new(1600);
    let mut config = Config::new(directory.path(), WAYS[0]);
    let sensor = Setup::new(&pair.sensor).configured(&config.file).start();
    config.more = "[output.mirror]\nkind = \"tap\"\ninterface = \"mirror0\"\n".into();
    config.write();
    sensor.process.signal(Signal::HUP);
    let says = |words: &str| {
        sensor.process.stderr.find(words, 0, |line| message(line)?.contains(words).then_some(()));
    };
    says("SIGHUP: reloaded ");
    assert!(pair.sensor.has_link("mirror0"));
    config.more.clear();
    config.write();
    sensor.process.signal(Signal::HUP);
    says("output mirror removed");
    eventually("the interface is gone", || !pair.sensor.has_link("mirror0"));
    assert_eq!(sensor.stop().code, Some(0));
}

#[test]
fn a_reload_does_not_wait_for_a_disk_that_stalls() {
    if !need::programs(&["mkfs.ext4", "mount", "umount", "fsfreeze"]) {
        return;
    }
    let Some(disk) = Loop::new() else { return need::cannot("no file system in a file can be mounted here") };
    let directory = tempfile::tempdir().unwrap();
    let pair = Pair::new(1600);
    let mut config = Config::new(directory.path(), WAYS[0]);
    let slow = disk.path().join("slow");
    config.others.insert("slow".into(), slow.clone());
    config.directories.insert("slow".into(), vec![slow.clone()]);
    config.write();
    let sensor = Setup::new(&pair.sensor).configured(&config.file).start();
    let stream = Stream::start(&pair.sender, pair.target(Ip::V4), VNIS, RATE);
    eventually("frames come", || captures::files(&slow).len() == 4);
    let Some(frozen) = disk.freeze() else { return need::cannot("fsfreeze fails here") };
    // The output that waits for its disk is changed, and taken away, and another one comes.
    let begun = Instant::now();
    config.evidence.insert("rotate_frames", "3000".into());
    config.others.remove("slow");
    let other = config.directory.join("other");
    config.others.insert("other".into(), other.clone());
    config.directories.insert("other".into(), vec![other.clone()]);
    config.write();
    reload(&sensor, "SIGUSR2: reloaded ");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?} of {PATIENCE:?}", begun.elapsed());
    let before = stream.sent();
    eventually("the new output is written to", || captures::files(&other).len() >= 4);
    eventually("frames go on", || stream.sent() > before + 2 * RATE);
    drop(frozen);
    sensor.process.stderr.find("has finished", 0, |line| message(line)?.contains("has finished").then_some(()));
    drop_and_end(stream, sensor, &config, &pair);
}

#[test]
fn outputs_come_and_go_beside_redirection() {
    if !need::programs(&["tcpdump"]) {
        return;
    }
    const REDIRECT: &str = "source = \"bpf\"\ninterface = \"eth0\"";
    let directory = tempfile::tempdir().unwrap();
    let pair = Pair::new(1600);
    let mut config = Config::new(directory.path(), REDIRECT);
    let tap = "[output.mirror]\nkind = \"tap\"\ninterface = \"mirror0\"\nmode = \"redirect\"\n";
    config.more = tap.into();
    config.write();
    let sensor = Setup::new(&pair.sensor).configured(&config.file).start();
    let stream = Stream::start(&pair.sender, pair.target(Ip::V4), VNIS, RATE);
    eventually("frames come", || captures::files(&config.evidence()).len() == 4);
    let mut dice = Dice(7);
    for _ in 0..30 {
        config.change(&mut dice);
        reload(&sensor, "SIGUSR2: reloaded ");
    }
    config.more.clear();
    config.write();
    reload(&sensor, "output.mirror.mode needs a restart");
    let sent = stream.end();
    let ended = sensor.stop();
    ended.ledger.assert_output_closes("mirror");
    assert!(ended.ledger.get("/fast_path/redirected") > 0);
    assert_all_is_there(&ended, &config, &pair, sent);
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
    reload(&sensor, "sessions that are let in");
    let stream = Stream::start(&pair.sender, pair.target(Ip::V4), VNIS, RATE);
    eventually("frames come", || stream.sent() > RATE);
    let sent = u64::from(stream.end());
    let ended = sensor.stop();
    let sessions = ended.ledger.sessions();
    assert_eq!(sessions.iter().map(|(_, vni, _)| *vni).collect::<Vec<_>>(), [1], "{:#}", ended.ledger.0);
    assert!(sessions[0].2.abs_diff(sent / u64::from(VNIS)) <= 1, "{sent}: {sessions:?}");
    ended.ledger.assert_output_closes("mirror");
}
