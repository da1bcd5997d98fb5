//! Killed at any moment: what was received before the flush interval is in the files, once, and the files are whole.
#![allow(clippy::print_stdout, reason = "the seed, shown when the test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use std::{env, thread};

use rustix::process::{Pid, Signal};

use crate::captures::{self, assert_counted, assert_same, assert_shown, session_directory};
use crate::frames;
use crate::manifest::{assert_verified, events, named, paths};
use crate::need;
use crate::netns::{Ip, Pair};
use crate::overload::Mount;
use crate::replay::replay_all;
use crate::sensor::{Sensor, Setup, message};
use crate::stream::{self, Stream};

const ROUNDS: usize = 50;
const VNIS: u32 = 8;
/// Frames a second: so few that only the flush interval writes them, or so many that files are cut.
const RATES: [u32; 2] = [1000, 12_000];
const FLUSH: Duration = Duration::from_millis(200);
/// From a frame's leaving to the sensor's receiving it, and between two looks of a thread that sleeps, with an unoptimised program.
const MARGIN: Duration = Duration::from_millis(100);

/// Random numbers (splitmix64). The seed is printed, and `VXTAP_SEED` sets it.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let given = env::var("VXTAP_SEED").ok().map(|seed| seed.parse().unwrap());
        let clock = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = given.unwrap_or_else(clock);
        println!("VXTAP_SEED={seed}");
        Random(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// A life of the sensor, in numbers of frames.
#[derive(Debug, Clone, Copy)]
struct Life {
    /// Sent before it was started.
    before: u32,
    /// From this one on they must be there ...
    from: u32,
    /// ... up to before this one.
    to: u32,
    /// Sent when it was dead.
    after: u32,
    /// Frames a second.
    rate: u32,
}

/// How long the threads on a frame's way into a file have waited for a core so far, together.
fn waited(pid: Pid) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap().map(|task| task.unwrap().path());
    let on_the_way = tasks.filter(|task| {
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        name.starts_with("vxtap-rx") || name.trim() == "vxtap-pcap"
    });
    let waited = |task: PathBuf| {
        let times = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        times.split(' ').nth(1).map_or(0, |time| time.parse().unwrap())
    };
    Duration::from_nanos(on_the_way.map(waited).sum())
}

/// Kills it, and says how it lived.
fn kill(mut sensor: Sensor, stream: &Stream, rate: u32, before: u32, from: u32, started: Duration) -> Life {
    // A frame is in the file this much later at most, if the threads have their cores.
    let pid = sensor.process.pid();
    let late = FLUSH + MARGIN + (waited(pid) - started);
    let to = stream.sent_before(Instant::now() - late);
    sensor.process.signal(Signal::KILL);
    assert_eq!(sensor.process.wait().code(), None);
    Life { before, from, to, after: stream.sent(), rate }
}

fn parts(captures: &Path) -> usize {
    captures::files(captures).iter().filter(|path| path.extension().is_some_and(|e| e == "part")).count()
}

/// Waits until the sensor has salvaged what was there.
#[track_caller]
fn salvaged(sensor: &Sensor) {
    let said = |line: &str| message(line)?.contains("salvage is complete").then_some(());
    sensor.process.stderr.find("salvage is complete", 0, said);
}

#[test]
fn killed_at_any_moment() {
    if !need::programs(&["capinfos", "tshark", "mount", "umount"]) {
        return;
    }
    let mut random = Random::new();
    let pair = Pair::new(1600);
    // In memory, so that no disk makes a thread wait.
    let disk = Mount::new("size=1g");
    let stream = Stream::start(&pair.sender, pair.target(Ip::V4), VNIS, RATES[0]);
    let mut lives = Vec::new();
    let mut left = 0;
    for _ in 0..ROUNDS {
        let format = ["pcap", "pcap-us", "pcapng"][random.below(3) as usize];
        let compress = ["", "--compress lz4", "--compress zstd"][random.below(3) as usize];
        let arguments = format!("--flush 200ms --rotate-size 128KiB --workers 1 --format {format} {compress}");
        let before = stream.sent();
        let rate = RATES[random.below(2) as usize];
        stream.set_rate(rate);
        let sensor = Setup::new(&pair.sensor).with(&arguments).writing(disk.path()).start();
        // One may have been sent, long ago, that the stream could not count yet.
        let (from, started) = (stream.sent() + 1, waited(sensor.process.pid()));
        if left > 0 {
            let said =
                |line: &str| message(line)?.contains("a crash left capture files behind").then(|| line.to_string());
            let line = sensor.process.stderr.find("what a crash left", 0, said);
            assert!(line.contains(&format!("\"files\":{left}")), "{left} files: {line}");
        }
        // In every fourth life it may die while it salvages.
        if left > 0 && random.below(4) > 0 {
            salvaged(&sensor);
        }
        thread::sleep(Duration::from_millis(300 + random.below(500)));
        lives.push(kill(sensor, &stream, rate, before, from, started));
        left = parts(disk.path());
    }
    drop(stream);
    let sensor = Setup::new(&pair.sensor).writing(disk.path()).start();
    if left > 0 {
        salvaged(&sensor);
    }
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);

    let files = captures::files(disk.path());
    let (published, recovered) = (events(disk.path(), "published").len(), events(disk.path(), "recovered"));
    assert!(published > ROUNDS && recovered.len() > ROUNDS, "{published} published, {} recovered", recovered.len());
    assert!(paths(&recovered).iter().all(|path| path.contains(".recovered")), "{recovered:#?}");
    assert_eq!(files.len(), paths(&named(disk.path())).len(), "each file that was left is published");
    assert!(files.iter().all(|path| !path.to_str().unwrap().ends_with(".part")), "{files:#?}");
    assert!(events(disk.path(), "set_aside").is_empty());
    assert_verified(disk.path());
    assert_counted(&files);
    for ending in ["0.pcap", "0.pcapng", "pcap.lz4", "pcapng.lz4", "pcap.zst", "pcapng.zst"] {
        let of = |recovered: bool| {
            files.iter().rfind(|path| {
                let path = path.to_str().unwrap();
                path.contains(".recovered.") == recovered && path.ends_with(ending.trim_start_matches('0'))
            })
        };
        [of(false), of(true)].into_iter().flatten().for_each(|path| assert_shown(path));
    }
    let (mut lost, mut hiccups) = (Vec::new(), BTreeSet::new());
    for vni in 1..=VNIS {
        lost.extend(assert_complete(&pair, disk.path(), vni, &lives, &mut hiccups));
    }
    let bytes: u64 = files.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    println!(
        "{} files of {bytes} bytes, {} recovered; at most {} frames of a VNI newer than the bound lost at a kill",
        files.len(),
        recovered.len(),
        lost.iter().max().unwrap()
    );
}

/// Fails unless the files of a VNI have one run without a gap of each life, which begins and ends where it must, and nothing else.
/// Returns how many frames were lost at the end of each life, which may be. In one of ten lives at most, `hiccups`, the newest may be missing up to a
/// second earlier.
#[track_caller]
fn assert_complete(pair: &Pair, captures: &Path, vni: u32, lives: &[Life], hiccups: &mut BTreeSet<usize>) -> Vec<u32> {
    let mut there: BTreeMap<u32, String> = BTreeMap::new();
    for path in captures::files(&session_directory(captures, pair.source(Ip::V4), vni)) {
        let numbers: Vec<u32> = captures::frames(&path).iter().map(|frame| stream::number(frame)).collect();
        assert!(numbers.is_sorted(), "{}: out of order", path.display());
        for number in numbers {
            assert_eq!(number % VNIS + 1, vni, "{}: frame {number}", path.display());
            let twice = there.insert(number, path.display().to_string());
            assert_eq!(twice, None, "frame {number} is also in {}", path.display());
        }
    }
    let of_vni = |number: &u32| number % VNIS + 1 == vni;
    let mut lost = Vec::new();
    let (mut seen, mut demanded) = (0, 0);
    for (n, life) in lives.iter().enumerate() {
        let must: Vec<u32> = (life.from..life.to).filter(of_vni).collect();
        let got: Vec<u32> = there.range(life.before..life.after).map(|(number, _)| *number).collect();
        let missing: Vec<&u32> = must.iter().filter(|number| !there.contains_key(number)).collect();
        // A core that somebody else has makes frames late on their way to the sensor too, where nothing tells how long.
        let newest = life.to.saturating_sub(life.rate);
        let late = !missing.is_empty()
            && missing.iter().all(|number| **number >= newest)
            && got.last() < missing.first().copied();
        hiccups.extend(late.then_some(n));
        assert!(
            missing.is_empty() || late && hiccups.len() <= ROUNDS / 10,
            "life {n}, VNI {vni}: {} frames are missing, {:?} to {:?}, of {} to {}; there are {:?} to {:?}; {life:?}",
            missing.len(),
            missing.first(),
            missing.last(),
            life.from,
            life.to,
            got.first(),
            got.last(),
        );
        let gap = got.windows(2).find(|pair| pair[1] - pair[0] != VNIS);
        assert_eq!(gap, None, "life {n}, VNI {vni}: a gap; the cable had no room for {}", pair.no_room());
        seen += got.len();
        demanded += must.len();
        lost.push(
            (life.to..life.after).filter(of_vni).count() as u32 - got.iter().filter(|g| **g >= life.to).count() as u32,
        );
    }
    assert_eq!(seen, there.len(), "VNI {vni}: frames of no life");
    assert!(demanded > ROUNDS, "VNI {vni}: only {demanded} frames had to be there");
    lost
}

/// A loss of power leaves files that end anywhere, or in zeros: this is done to them here.
#[test]
fn torn_files() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    let mut random = Random::new();
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(801);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    for format in ["pcap", "pcap-us", "pcapng"] {
        for compress in ["", "--compress lz4", "--compress zstd"] {
            let captures = directory.path().join(format!("{format}{}", compress.trim_start_matches("--compress ")));
            let arguments = format!("--flush 100ms --workers 1 --format {format} {compress}");
            let mut sensor = Setup::new(&pair.sensor).with(&arguments).writing(&captures).start();
            // Over several flush intervals, so that a compressed file has several blocks.
            replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--vni 1-8 --rate 1600", frames.len());
            thread::sleep(2 * FLUSH);
            sensor.process.signal(Signal::KILL);
            sensor.process.wait();
            assert_eq!(parts(&captures), 8);
            for (n, path) in captures::files(&captures).iter().enumerate() {
                let file = fs::File::options().write(true).open(path).unwrap();
                let length = file.metadata().unwrap().len();
                // Every fourth gets a page of zeros, the others lose up to 200 bytes.
                let to = if n % 4 == 3 { length + 4096 } else { length - 1 - random.below(200) };
                file.set_len(to).unwrap();
            }
            let sensor = Setup::new(&pair.sensor).writing(&captures).start();
            salvaged(&sensor);
            assert_eq!(sensor.stop().ledger.get("/outputs/pcap/recovered"), 8);
            let files = captures::files(&captures);
            assert!(files.iter().all(|path| path.to_str().unwrap().contains(".recovered.")), "{files:#?}");
            assert_counted(&files);
            assert_shown(&files[0]);
            assert_verified(&captures);
            for vni in 1..=8 {
                let got = captures::session(&captures, pair.source(Ip::V4), vni);
                let sent: Vec<_> = frames.iter().skip(vni as usize - 1).step_by(8).collect();
                // What was cut is at most two small frames; of a compressed file it is the block of a flush interval, and that before.
                let least = if compress.is_empty() { sent.len() - 3 } else { sent.len() / 4 };
                assert!(got.len() >= least, "{arguments}: VNI {vni}: {} of {} frames", got.len(), sent.len());
                let got: Vec<&[u8]> = got.iter().map(|record| record.frame.as_slice()).collect();
                assert_same(&format!("{arguments}: VNI {vni}"), &got, &sent[..got.len()]);
            }
        }
    }
}
