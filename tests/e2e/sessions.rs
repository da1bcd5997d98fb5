//! Many mirror sessions come at once.

use std::collections::BTreeMap;
use std::fs;
use std::panic;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde_json::Value;

use crate::captures::{self, assert_holds, assert_open};
use crate::frames;
use crate::manifest::assert_verified;
use crate::memory::{peak_memory, program, status};
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::{Task, eventually, tasks};
use crate::replay::replay_all;
use crate::sensor::{Setup, attach_by_default, message};

/// Returns what VNI number `turn` of `vnis` gets when replay plays these frames `loops` times and
/// VNIs take turns.
fn dealt(frames: &[Vec<u8>], loops: usize, turn: usize, vnis: usize) -> Vec<&Vec<u8>> {
    (turn..frames.len() * loops).step_by(vnis).map(|n| &frames[n % frames.len()]).collect()
}

const MIB: u64 = 1 << 20;

/// Returns the memory that a process has, in bytes, without the program itself.
fn memory(pid: Pid) -> u64 {
    status(pid, "VmRSS:").saturating_sub(program(pid))
}

fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).unwrap().count()
}

#[test]
fn more_sessions_than_descriptors() {
    if !need::programs(&["prlimit", "capinfos", "tshark"]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let (frames, loops) = (frames::assorted(1001), 6);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let sensor = Setup::new(&pair.sensor).through("prlimit --nofile=64:64").with("--flush 100ms").start();
    let arguments = format!("--vni 1-300 --loop {loops} --rate 20000");
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], &arguments, loops * frames.len());
    eventually("all sessions have files", || captures::files(&sensor.captures).len() == 300);
    assert!(descriptors(sensor.process.pid()) <= 64);
    let ended = sensor.stop();
    ended.assert_all_is_well();
    assert_eq!(ended.ledger.sessions().len(), 300);
    for vni in 1..=300 {
        let records = captures::session(&ended.captures, pair.source(Ip::V4), vni);
        assert_holds(&format!("VNI {vni}"), &records, &dealt(&frames, loops, vni as usize - 1, 300));
    }
    assert_open(&captures::files(&ended.captures));
}

/// Returns the memory of the rings of this many workers: each is mapped twice.
fn rings(workers: u64) -> u64 {
    if attach_by_default().is_some() { workers * 2 * 16 * MIB } else { 0 }
}

/// Has the peak of a sensor's memory be counted from now on, when it receives, where a program in
/// the kernel hands it what it receives. To load that, the types of the kernel are read, all of
/// them, which takes some 13 MiB. They are free again before the sensor receives, and the allocator
/// gives them back a second later.
fn forget_loading(pid: Pid) {
    if attach_by_default().is_some() {
        eventually("what loading took is given back", || memory(pid) + 2 * MIB < peak_memory(pid));
        // This sets the peak to what is in use (proc(5)).
        fs::write(format!("/proc/{}/clear_refs", pid.as_raw_nonzero()), "5").unwrap();
    }
}

/// The memory of the queue is taken when it is needed: a sensor whose outputs keep up has little of
/// it.
#[test]
fn a_large_queue_costs_nothing_while_the_outputs_keep_up() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(1001);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let sensor = Setup::new(&pair.sensor).with("--workers 2 --queue 1GiB").start();
    forget_loading(sensor.process.pid());
    let idle = peak_memory(sensor.process.pid());
    assert!(idle < 64 * MIB + rings(2), "{} MiB before anything came", idle / MIB);
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--loop 20 --rate 10000", 20 * frames.len());
    let busy = peak_memory(sensor.process.pid());
    assert!(busy < 128 * MIB + rings(2), "{} MiB with the outputs keeping up", busy / MIB);
    sensor.stop().assert_all_is_well();
}

#[test]
fn a_thousand_sessions() {
    if !need::programs(&["prlimit", "capinfos", "tshark"]) {
        return;
    }
    const VNIS: usize = 1000;
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    // Neither count divides the other, so that each session gets frames of its own.
    let (frames, loops, bursts) = (frames::assorted(1001), 10, 8);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let sensor = Setup::new(&pair.sensor).through("prlimit --nofile=256:256").with("--queue 64MiB").start();
    let pid = sensor.process.pid();
    forget_loading(pid);
    let arguments = format!("--vni 1-{VNIS} --loop {loops} --rate 20000");
    let records: usize = frames.iter().map(|frame| 16 + frame.len()).sum();
    let length = |path: &PathBuf| fs::metadata(path).map_or(0, |file| file.len() as usize);
    // In bursts that the queue holds in any case: where other work has the cores and the disk, the
    // output is behind.
    for burst in 1..=bursts {
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], &arguments, loops * frames.len());
        eventually("all sessions have files, and these all frames", || {
            let files = captures::files(&sensor.captures);
            files.iter().map(length).sum::<usize>() == VNIS * 24 + burst * loops * records && files.len() == VNIS
        });
    }
    assert!(descriptors(pid) <= 256);
    let peak = peak_memory(pid);
    let workers = std::thread::available_parallelism().map_or(1, |cores| (cores.get() as u64 / 2).max(1));
    assert!(peak < (64 + 64) * MIB + rings(workers), "{peak} bytes of memory");
    let ended = sensor.stop();
    ended.assert_all_is_well();
    pair.assert_all_arrived(ended.ledger.received(), bursts * loops * frames.len());
    assert_eq!(ended.ledger.sessions().len(), VNIS);
    for vni in 1..=VNIS {
        let records = captures::session(&ended.captures, pair.source(Ip::V4), vni as u32);
        assert_holds(&format!("VNI {vni}"), &records, &dealt(&frames, loops, vni - 1, VNIS).repeat(bursts));
    }
    assert_open(&captures::files(&ended.captures));
    assert_verified(&ended.captures);
}

/// A compressor has 0.2 MiB and more as long as its file is open.
#[test]
fn sessions_that_rest_give_the_memory_of_their_compressors_back() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    const VNIS: usize = 1000;
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    // One for each, which does not come back before all have come, however long that takes.
    let frames = frames::assorted(VNIS as u32);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let sensor = Setup::new(&pair.sensor).with("--compress zstd").start();
    let pid = sensor.process.pid();
    let arguments = format!("--vni 1-{VNIS} --rate 20000");
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], &arguments, frames.len());
    let parts =
        || captures::files(&sensor.captures).iter().filter(|path| path.extension() == Some("part".as_ref())).count();
    eventually("all sessions have files", || captures::files(&sensor.captures).len() == VNIS);
    eventually("the files of those that are too many are complete", || parts() == 256);
    // All of them had one at the peak.
    eventually("memory is given back", || memory(pid) + 100 * MIB < peak_memory(pid));
    // Those that come back begin another file. What the C library has freed before lies between
    // what is in use by then, and they are waited for twice as long.
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], &arguments, frames.len());
    eventually("they have files again", || captures::files(&sensor.captures).len() >= 2 * VNIS - 256);
    eventually("the files of those that are too many are complete again", || parts() == 256);
    eventually("memory is given back again", || memory(pid) + 100 * MIB < peak_memory(pid));
    let ended = sensor.stop();
    ended.assert_all_is_well();
    pair.assert_all_arrived(ended.ledger.received(), 2 * frames.len());
    for vni in 1..=VNIS {
        let records = captures::session(&ended.captures, pair.source(Ip::V4), vni as u32);
        let once = dealt(&frames, 1, vni - 1, VNIS);
        assert_holds(&format!("VNI {vni}"), &records, &[once.clone(), once].concat());
    }
    let files = captures::files(&ended.captures);
    // The others may give way to those that come back before them.
    assert!((2 * VNIS - 256..=2 * VNIS).contains(&files.len()), "{} files", files.len());
    assert_open(&files);
    assert_verified(&ended.captures);
}

#[test]
fn a_flood_of_vnis_costs_bounded_memory_files_and_log_lines() {
    if !need::programs(&["capinfos", "tshark"]) {
        return;
    }
    const VNIS: usize = 120_000;
    const FRAMES: u32 = 1000;
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames: Vec<_> = (0..FRAMES).map(|n| frames::numbered(n, 60)).collect();
    let file = frames::write(directory.path(), "small.pcap", &frames);
    let began = Instant::now();
    let sensor = Setup::new(&pair.sensor).with("--max-sessions 100 --workers 2").start();
    let pid = sensor.process.pid();
    forget_loading(pid);
    let loops = VNIS / frames.len();
    let arguments = format!("--vni 1-{VNIS} --loop {loops} --rate 30000");
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], &arguments, VNIS);
    sensor.is_writing();
    let peak = peak_memory(pid);
    assert!(peak < (64 + 64) * MIB + rings(2), "{peak} bytes of memory");
    let open = descriptors(pid);
    // The rings for direct writing are made at the start, whether they are used or not.
    let rings_at_hand = 4;
    assert!(open < 101 + 32 + rings_at_hand, "{open} descriptors");
    let ended = sensor.stop();
    let seconds = began.elapsed().as_secs() as usize;

    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    ended.ledger.assert_closes(&ended.captures);
    let (received, dropped) = (ended.ledger.received(), ended.ledger.get("/kernel_dropped"));
    pair.assert_arrived(received + dropped, VNIS as u64);
    assert!(received > VNIS as u64 / 2, "only {received} came through");
    assert_eq!(ended.ledger.sessions().len(), 100);
    assert_eq!(ended.ledger.get("/overflow/frames"), received - 100);
    let directories = fs::read_dir(&ended.captures).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(directories.count(), 101, "directories: a hundred and the overflow");
    let overflow = captures::files(&ended.captures.join("overflow"));
    let held: usize = overflow.iter().map(|path| captures::read(path).len()).sum();
    assert_eq!(held as u64, received - 100);
    assert_open(&overflow);
    let told = ended.messages("beyond --max-sessions").len();
    assert!((1..=seconds + 1).contains(&told), "{told} lines about the overflow in {seconds} s");
    assert!(ended.log.len() <= 10 * (seconds + 2), "{} lines in {seconds} s", ended.log.len());
}

#[test]
fn after_a_flood_of_vnis_a_new_session_gets_a_file_of_its_own() {
    if !need::programs(&[]) {
        return;
    }
    let redirects = "--source bpf --interface eth0 --tap mirror0 --tap-mode redirect";
    // Most of the time they wait for a session to be idle.
    thread::scope(|scope| {
        let all = ["".to_owned(), redirects.to_owned(), format!("{redirects} --tap-tag session")];
        for one in all.map(|more| scope.spawn(move || flood(&more))) {
            one.join().unwrap_or_else(|cause| panic::resume_unwind(cause));
        }
    });
}

fn flood(more: &str) {
    const VNIS: usize = 2000;
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames: Vec<_> = (0..100).map(|n| frames::numbered(n, 60)).collect();
    let file = frames::write(directory.path(), "small.pcap", &frames);
    let map = directory.path().join("tags.json");
    let tags = if more.contains("--tap-tag") { format!("--tag-map {}", map.display()) } else { String::new() };
    let options = format!("--max-sessions 100 --workers 2 --session-idle 5s --flush 100ms {more} {tags}");
    let sensor = Setup::new(&pair.sensor).with(&options).start();
    let flood = format!("--vni 1-{VNIS} --loop {} --rate 10000", VNIS / frames.len());
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], &flood, VNIS);
    let forgotten = || {
        let log = sensor.process.stderr.all();
        let lines = log.iter().filter(|line| message(line).is_some_and(|said| said.contains("are forgotten")));
        let counts =
            lines.map(|line| serde_json::from_str::<Value>(line).unwrap()["fields"]["sessions"].as_u64().unwrap());
        counts.sum::<u64>()
    };
    eventually("those of the flood are forgotten", || forgotten() == 100);
    // It comes, is forgotten, and comes back.
    for times in 1..=2 {
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--vni 5000000 --rate 5000", frames.len());
        eventually("it is forgotten", || forgotten() == 100 + times);
    }
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--vni 5000000 --rate 5000", frames.len());
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    let ledger = &ended.ledger;
    ledger.assert_closes(&ended.captures);
    pair.assert_all_arrived(ledger.received(), VNIS + 3 * frames.len());
    let in_sessions: u64 = ledger.sessions().iter().map(|(_, _, frames)| frames).sum();
    let (expired, overflow) = (ledger.get("/expired/frames"), ledger.get("/overflow/frames"));
    assert_eq!(ledger.received(), in_sessions + expired + overflow, "{:#}", ledger.0);
    assert_eq!((in_sessions, expired), (100, 100 + 200), "{more}: {:#}", ledger.0);
    assert_eq!(ledger.written(), ledger.received());
    if !more.is_empty() {
        ledger.assert_output_closes("mirror0");
        assert_eq!(ledger.get("/outputs/mirror0/written"), ledger.received(), "{more}");
        let redirected = ledger.get("/fast_path/redirected");
        let by_user_space = ledger.get("/fast_path/not_redirected/session");
        // The first frames of a session, and those beyond the limit, get their tags by user space.
        assert_eq!(redirected + by_user_space, ledger.received(), "{more}");
        assert!(if tags.is_empty() { by_user_space == 0 } else { by_user_space >= overflow + 3 }, "{by_user_space}");
    }
    let wanted: Vec<_> = [&frames, &frames, &frames].into_iter().flatten().collect();
    assert_holds("the new session", &captures::session(&ended.captures, pair.source(Ip::V4), 5_000_000), &wanted);
    assert_verified(&ended.captures);
}

/// Returns the time that each receiving thread has spent on a core so far, by its name.
fn receiving_time(pid: Pid) -> BTreeMap<String, Duration> {
    let receives = |task: &Task| task.name.starts_with("vxtap-rx");
    tasks(pid).into_iter().filter(receives).map(|task| (task.name.clone(), task.times()[0])).collect()
}

#[test]
fn workers_share_the_sessions_and_each_stays_in_order() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let (frames, loops) = (frames::assorted(1001), 30);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let sensor = Setup::new(&pair.sensor).with("--workers 4").start();
    let before = receiving_time(sensor.process.pid());
    let arguments = format!("--vni 100-163 --loop {loops} --rate 20000");
    replay_all(&pair.sender, pair.target(Ip::V6), &[&file], &arguments, loops * frames.len());
    let records: usize = frames.iter().map(|frame| 16 + frame.len()).sum();
    let length = |path: &PathBuf| fs::metadata(path).map_or(0, |file| file.len() as usize);
    eventually("each has received its part", || {
        captures::files(&sensor.captures).iter().map(length).sum::<usize>() == 64 * 24 + loops * records
    });
    let spent = receiving_time(sensor.process.pid());
    // A thread that had not yet taken its name had not done anything either.
    let earlier = |name: &String| before.get(name).copied().unwrap_or_default();
    let spent: BTreeMap<&String, Duration> = spent.iter().map(|(name, time)| (name, *time - earlier(name))).collect();
    let total: Duration = spent.values().sum();
    assert_eq!(spent.len(), 4);
    assert!(spent.values().all(|time| *time > total / 20), "one of four workers hardly worked: {spent:?}");
    let ended = sensor.stop();
    ended.assert_all_is_well();
    pair.assert_all_arrived(ended.ledger.received(), loops * frames.len());
    for vni in 100..164 {
        let records = captures::session(&ended.captures, pair.source(Ip::V6), vni);
        assert_holds(&format!("VNI {vni}"), &records, &dealt(&frames, loops, vni as usize - 100, 64));
    }
}

#[test]
fn one_session_spread_over_workers_by_flow_is_whole_and_each_flow_in_order() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    // No packet of the stack's own leaves by a timer: it would be received by another core, and
    // with it a frame that is queued at that moment, which then has another ring and worker.
    pair.sender.sysctl("net.ipv6.conf.eth0.disable_ipv6", "1");
    pair.sensor.sysctl("net.ipv6.conf.eth0.disable_ipv6", "1");
    let directory = tempfile::tempdir().unwrap();
    let frames: Vec<_> = (0..20_000).map(|n| frames::numbered(n, 100)).collect();
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let sensor = Setup::new(&pair.sensor).with("--workers 4 --steer flow").start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 20000", frames.len());
    let ended = sensor.stop();
    ended.assert_all_is_well();
    pair.assert_all_arrived(ended.ledger.received(), frames.len());
    let records = captures::session(&ended.captures, pair.source(Ip::V4), 1);
    assert_eq!(records.len(), frames.len());
    // Bytes 26 to 33 are the addresses; they tell the conversations apart.
    let flow = |frame: &[u8]| frame[26..34].to_vec();
    let mut got: BTreeMap<Vec<u8>, Vec<&[u8]>> = BTreeMap::new();
    for record in &records {
        got.entry(flow(&record.frame)).or_default().push(&record.frame);
    }
    for (flow_of, got) in got {
        let want: Vec<_> = frames.iter().filter(|frame| flow(frame) == flow_of).collect();
        captures::assert_same(&format!("flow {flow_of:?}"), &got, &want);
    }
}
