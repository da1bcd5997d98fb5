//! A sensor is killed at any moment: what was received before the flush interval is in the files,
//! once, and the files are whole.
#![allow(clippy::print_stdout, reason = "the seed, shown when the test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};
use std::{env, thread};

use rustix::process::{Pid, Signal, nice};

use crate::captures::{self, assert_counted, assert_same, assert_shown, session_directory};
use crate::frames;
use crate::manifest::{assert_verified, events, named, paths};
use crate::need;
use crate::netns::{Ip, Pair, UdpCounters};
use crate::overload::Mount;
use crate::process::{Task, eventually, tasks};
use crate::replay::replay_all;
use crate::sensor::{Sensor, Setup, attach_by_default, message};
use crate::stream::{self, Stream};

const ROUNDS: usize = 50;
const VNIS: u32 = 8;
/// Frames a second: so few that only the flush interval writes them, or so many that files are cut.
const RATES: [u32; 2] = [1000, 12_000];
const FLUSH: Duration = Duration::from_millis(200);
/// Time is counted in sleeps of this length: one that took longer, because the machine did
/// something else, counts as one.
const TICK: Duration = Duration::from_millis(10);

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
    /// Those before this one left before it was started.
    before: u32,
    /// Those from this one on left when it was there to receive them.
    from: u32,
    /// Those from this one on left when it was dead.
    after: u32,
    /// How many it received so early that they must be there ...
    early: u32,
    /// ... and in all, at most.
    received: u32,
}

/// What is seen of a sensor that lives.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// See [`received`].
    received: u32,
    /// See [`waited`].
    waited: Duration,
}

impl Look {
    fn at(sensor: &Sensor, stream: &Stream) -> Look {
        let pid = sensor.process.pid();
        Look { received: received(UdpCounters::of(pid), stream), waited: waited(pid) }
    }
}

/// Datagrams that the sensor and those before it have received so far. Sockets: what has been read
/// from them, so it does not matter how long one takes to get there. The program takes them before
/// they are counted anywhere, on the core and in the call that sends them.
fn received(counted: UdpCounters, stream: &Stream) -> u32 {
    if attach_by_default().is_some() { stream.sent() } else { counted.delivered as u32 }
}

/// Says for how long others than this virtual machine have had its cores so far, together: a
/// thread seems to be on its core meanwhile.
fn stolen() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    // The eighth number of all cores, in hundredths of a second (proc_stat(5)).
    let hundredths: u64 = stat.lines().next().unwrap().split_whitespace().nth(8).unwrap().parse().unwrap();
    Duration::from_millis(10 * hundredths)
}

/// Says how long the threads on a frame's way into a file have waited for a core so far, together.
fn waited(pid: Pid) -> Duration {
    let is_on_the_way = |task: &Task| {
        // Who hashes holds up who writes, and the kernel's threads write past the page cache.
        ["vxtap-rx", "vxtap-pcap", "vxtap-hash", "iou-wrk"].iter().any(|begin| task.name.starts_with(begin))
    };
    tasks(pid).iter().filter(|task| is_on_the_way(task)).map(|task| task.times()[1]).sum::<Duration>() + stolen()
}

/// Lets it live for these many ticks and a part of one, kills it, and says how many datagrams had
/// been received so early that they must be in the files. `first` is what was seen of it at its
/// start.
fn kill(mut sensor: Sensor, stream: &Stream, first: Look, ticks: u32, part: Duration) -> u32 {
    let mut looks = vec![first];
    for _ in 0..ticks {
        looks.push(Look::at(&sensor, stream));
        thread::sleep(TICK);
    }
    let last = Look::at(&sensor, stream);
    thread::sleep(part);
    sensor.process.signal(Signal::KILL);
    assert_eq!(sensor.process.wait().code(), None);
    // The time between, less that for which a thread had no core, is the flush interval. The sensor
    // holds a frame for three quarters of it; the rest is for the work, of a program that is not
    // optimised.
    let enough = |(ticks, look): &(u32, &Look)| *ticks * TICK >= FLUSH + (last.waited - look.waited);
    (1..).zip(looks.iter().rev()).find(enough).map_or(first, |(_, look)| *look).received
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
    // This thread, and what it starts, goes before others on the machine: the less the sensor waits
    // for a core, the more is asked of it.
    let goes_before = nice(-20).is_ok();
    let pair = Pair::new(1600);
    // In memory, so that no disk makes a thread wait.
    let disk = Mount::new("size=1g");
    let stream = Stream::start(&pair.sender, pair.target(Ip::V4), VNIS, RATES[0]);
    let (mut lives, mut left, mut before) = (Vec::new(), 0, 0);
    for _ in 0..ROUNDS {
        let format = ["pcap", "pcap-us", "pcapng"][random.below(3) as usize];
        let compress = ["", "--compress lz4", "--compress zstd"][random.below(3) as usize];
        let direct = ["--direct off", "--direct on"][random.below(2) as usize];
        let hash = ["", "--hash blake3", "--hash none"][random.below(3) as usize];
        let arguments =
            format!("--flush 200ms --rotate-size 128KiB --workers 1 --format {format} {compress} {direct} {hash}");
        let read = pair.sensor.udp_counters().delivered as u32;
        stream.set_rate(RATES[random.below(2) as usize]);
        let sensor = Setup::new(&pair.sensor).with(&arguments).writing(disk.path()).start();
        let (from, waited) = (stream.sent() + 1, waited(sensor.process.pid()));
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
        let (ticks, part) = (30 + random.below(50) as u32, Duration::from_micros(random.below(10_000)));
        let ring = attach_by_default().is_some();
        let first = Look { received: if ring { from } else { read }, waited };
        let early = kill(sensor, &stream, first, ticks, part).saturating_sub(first.received);
        let after = stream.sent() + 1;
        eventually("all that left before its end is counted", || stream.sent() >= after);
        let received = if ring { after - before } else { pair.sensor.udp_counters().delivered as u32 - read };
        lives.push(Life { before, from, after, early, received });
        before = after;
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
    let kept: Vec<_> = (1..=VNIS).map(|vni| kept(&pair, disk.path(), vni)).collect();
    let no_room = pair.no_room();
    for (n, life) in lives.iter().enumerate() {
        assert_complete(&kept, life, &format!("life {n}, the cable had no room for {no_room}"));
    }
    let (all, early): (u32, u32) =
        (lives.iter().map(|life| life.received).sum(), lives.iter().map(|life| life.early).sum());
    let there: usize = kept.iter().map(BTreeMap::len).sum();
    let in_lives = |life: &Life| kept.iter().map(|kept| kept.range(life.before..life.after).count()).sum::<usize>();
    assert_eq!(there, lives.iter().map(in_lives).sum::<usize>(), "frames of no life");
    let demanding = lives.iter().filter(|life| life.early > 0).count();
    let bytes: u64 = files.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    println!(
        "{} files of {bytes} bytes, {} recovered; {there} of {all} received frames are there, {early} had to be, of {demanding} lives",
        files.len(),
        recovered.len(),
    );
    assert!(demanding > ROUNDS / 10 || !goes_before, "only of {demanding} lives frames had to be there");
}

/// Numbers of the frames of a VNI in the files. Fails where one is there twice, out of order in its
/// file, or not of the VNI.
#[track_caller]
fn kept(pair: &Pair, captures: &Path, vni: u32) -> BTreeMap<u32, String> {
    let mut there: BTreeMap<u32, String> = BTreeMap::new();
    for path in captures::files(&session_directory(captures, pair.source(Ip::V4), vni)) {
        let numbers: Vec<u32> = captures::frames(&path).iter().map(|frame| stream::number(frame)).collect();
        let back = numbers.windows(2).position(|two| two[0] > two[1]);
        assert_eq!(back, None, "{}: out of order; all are {numbers:?}", path.display());
        for number in numbers {
            assert_eq!(number % VNIS + 1, vni, "{}: frame {number}", path.display());
            let twice = there.insert(number, path.display().to_string());
            assert_eq!(twice, None, "frame {number} is also in {}", path.display());
        }
    }
    there
}

/// Fails unless the files have of each VNI one run without a gap of this life, from the first frame
/// that the sensor was there for, and of all VNIs those that it received early.
#[track_caller]
fn assert_complete(kept: &[BTreeMap<u32, String>], life: &Life, what: &str) {
    let runs: Vec<Vec<u32>> =
        kept.iter().map(|kept| kept.range(life.before..life.after).map(|(number, _)| *number).collect()).collect();
    let got: usize = runs.iter().map(Vec::len).sum();
    assert!(got <= life.received as usize, "{what}: {got} frames of {life:?}");
    // What it received first: nothing is lost on the way to it, and its threads take frames in the
    // order in which they come.
    let Some(first) = runs.iter().filter_map(|run| run.first()).min() else {
        return assert_eq!(life.early, 0, "{what}: there is none of {life:?}");
    };
    for (vni, run) in (1..).zip(&runs) {
        let ends = (run.first(), run.last());
        let gap = run.windows(2).find(|pair| pair[1] - pair[0] != VNIS);
        assert_eq!(gap, None, "{what}: VNI {vni}: a gap in {ends:?}; {life:?}");
        let whole = run.first().is_none_or(|begin| *begin < life.from + VNIS && begin - first < VNIS);
        assert!(whole, "{what}: VNI {vni}: {ends:?} does not begin where others do, at {first}, or too late; {life:?}");
        let missing: Vec<u32> = (*first..first + life.early)
            .filter(|number| number % VNIS + 1 == vni && run.binary_search(number).is_err())
            .collect();
        assert!(missing.is_empty(), "{what}: VNI {vni}: there are {ends:?}, and not {missing:?}; {life:?}");
    }
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
    let frames = frames::assorted(800);
    let halves = [("first.pcap", &frames[..400]), ("second.pcap", &frames[400..])];
    let halves = halves.map(|(name, half)| frames::write(directory.path(), name, half));
    for format in ["pcap", "pcap-us", "pcapng"] {
        for compress in ["", "--compress lz4", "--compress zstd"] {
            let captures = directory.path().join(format!("{format}{}", compress.trim_start_matches("--compress ")));
            let arguments = format!("--flush 100ms --workers 1 --format {format} {compress}");
            let mut sensor = Setup::new(&pair.sensor).with(&arguments).writing(&captures).start();
            // In two steps, so that a compressed file has more than one block.
            for (n, file) in (1..).zip(&halves) {
                replay_all(&pair.sender, pair.target(Ip::V4), &[file], "--vni 1-8 --rate 1600", 400);
                eventually("all is written", || {
                    captures::files(&captures).iter().map(|path| captures::readable(path)).sum::<usize>() == n * 400
                });
            }
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
                // What was cut is at most three small frames; of a compressed file it is what was
                // written last.
                let least = if compress.is_empty() { sent.len() - 3 } else { sent.len() / 2 };
                assert!(got.len() >= least, "{arguments}: VNI {vni}: {} of {} frames", got.len(), sent.len());
                let got: Vec<&[u8]> = got.iter().map(|record| record.frame.as_slice()).collect();
                assert_same(&format!("{arguments}: VNI {vni}"), &got, &sent[..got.len()]);
            }
        }
    }
}
