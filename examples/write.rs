//! What it costs to write captures to a file system, by the way they are written.
//!
//! ```text
//! target/release/examples/write DIRECTORY MEBIBYTES REPETITIONS LENGTH [WAY...]
//! ```
//!
//! Chunks of 256 KiB with pcap records of frames of LENGTH bytes are written to a file in
//! DIRECTORY, again and again the same few. The ways take turns, each with a new file that is
//! removed afterwards, and `dd oflag=direct bs=1M` is one of them. For each it prints medians: the
//! rate until all bytes are in the file and until they would survive a loss of power; the share of
//! dd's rate; and for a record the processor time of the writing thread, of the process (with its
//! io_uring workers), and of the machine (with the kernel's writeback, and all else that runs).
//!
//! - `buffered`: `write(2)` of each chunk
//! - `direct`: copied into 1 MiB, `O_DIRECT`, `pwrite(2)`
//! - `ring N`: `sys::direct` with N buffers, as the output does
//! - `off N`, `on N`, `auto N`: `storage::Disk` as the output uses it, with a flush every N ms
//! - `output-off`, `output-on`, `output-auto`: the output whole, which hashes in another thread
//! - `output-off-blake3`, `output-on-blake3`, `output-auto-blake3`: the same with `--hash blake3`
//! - `output-off-nohash`, `output-on-nohash`, `output-auto-nohash`: the same with `--hash none`
//!
//! `+ same` computes SHA-256 in the writing thread, `+ other` in another thread that gets the same
//! chunks.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss)]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};
use vxtap::archive::ArchivePlan;
use vxtap::evidence::Algorithm;
use vxtap::lane::{Chunk, Lent};
use vxtap::ledger;
use vxtap::record::Timestamp;
use vxtap::route::{Registry, SessionId};
use vxtap::sink::Sink;
use vxtap::sink::file::{FilePlan, FileSink};
use vxtap::storage::{Direct, Disk, Storage, StoredFile};
use vxtap::sys::direct::{BUFFER, Writes};

const CHUNK: usize = 256 * 1024;

/// Nanoseconds of processor time used.
fn processor_time(whose: ClockId) -> u64 {
    let time = clock_gettime(whose);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap()
}

/// Nanoseconds that the processors were not idle, in steps of 10 ms (`/proc/stat`, proc(5)).
fn busy() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap();
    let numbers = text.lines().next().unwrap().split_whitespace().skip(1);
    let numbers: Vec<u64> = numbers.map(|n| n.parse().unwrap()).collect();
    // user, nice, system, idle, iowait, irq, softirq
    (numbers[0] + numbers[1] + numbers[2] + numbers[5] + numbers[6]) * 10_000_000
}

/// Chunks full of records, and how many records one has.
fn chunks(length: usize) -> (Vec<Arc<Vec<u8>>>, u64) {
    let records = CHUNK / (16 + length);
    let header = |n: usize| [0, n, length, length].map(|n| u32::try_from(n).unwrap().to_le_bytes()).concat();
    let chunk = |c: usize| {
        let mut chunk: Vec<u8> =
            (0..records).flat_map(|n| [header(n), vec![c.to_le_bytes()[0]; length]].concat()).collect();
        // All chunks are full here, so that the file's length is the same for all ways.
        chunk.resize(CHUNK, 0);
        Arc::new(chunk)
    };
    ((0..8).map(chunk).collect(), records as u64)
}

/// Where chunks go.
trait Way {
    fn take(&mut self, chunk: &[u8]);
    /// All that was taken is in the file.
    fn end(&mut self);
}

struct Buffered(File);

impl Way for Buffered {
    fn take(&mut self, chunk: &[u8]) {
        self.0.write_all(chunk).unwrap();
    }
    fn end(&mut self) {}
}

/// A page-aligned buffer.
struct Aligned(Vec<u8>, usize);

impl Aligned {
    fn new() -> Self {
        let memory = vec![1; BUFFER + 4096];
        let start = memory.as_ptr().align_offset(4096);
        Self(memory, start)
    }
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.0[self.1..][..BUFFER]
    }
}

struct Waiting {
    file: File,
    buffer: Aligned,
    filled: usize,
    at: u64,
}

impl Way for Waiting {
    fn take(&mut self, chunk: &[u8]) {
        self.buffer.bytes()[self.filled..][..chunk.len()].copy_from_slice(chunk);
        self.filled += chunk.len();
        if self.filled == BUFFER {
            self.file.write_all_at(self.buffer.bytes(), self.at).unwrap();
            self.at += BUFFER as u64;
            self.filled = 0;
        }
    }
    fn end(&mut self) {}
}

struct Ring {
    writes: Writes,
    buffers: usize,
    filled: usize,
    at: u64,
}

impl Way for Ring {
    fn take(&mut self, chunk: &[u8]) {
        self.writes.wait(self.buffers - 1).unwrap();
        self.writes.room()[self.filled..][..chunk.len()].copy_from_slice(chunk);
        self.filled += chunk.len();
        if self.filled == BUFFER {
            self.writes.push(BUFFER, self.at);
            self.at += BUFFER as u64;
            self.filled = 0;
        }
    }
    fn end(&mut self) {
        self.writes.wait(0).unwrap();
    }
}

struct Stored {
    file: Box<dyn StoredFile>,
    every: Duration,
    next: Instant,
}

impl Stored {
    fn new(mode: Direct, path: &Path, milliseconds: usize) -> Self {
        let every = Duration::from_millis(milliseconds as u64);
        Self { file: Disk::new(mode).create(path).unwrap(), every, next: Instant::now() + every }
    }
}

impl Way for Stored {
    fn take(&mut self, chunk: &[u8]) {
        // The odd bytes make a tail.
        let (one, other) = chunk.split_at(CHUNK - 999);
        self.file.write_all(one).unwrap();
        if Instant::now() > self.next {
            self.file.flush().unwrap();
            self.next += self.every;
        }
        self.file.write_all(other).unwrap();
    }
    fn end(&mut self) {
        self.file.flush().unwrap();
    }
}

/// The output whole: sessions, rotation, manifest, and the hash in its thread, if any.
struct Output {
    sink: FileSink,
    directory: PathBuf,
    path: PathBuf,
    chunks: Vec<Arc<Lent>>,
    next: usize,
}

impl Output {
    fn new(direct: Direct, hash: Option<Algorithm>, path: &Path, length: usize) -> Self {
        let directory = path.with_extension("d");
        let plan = FilePlan {
            linger: Duration::from_millis(250),
            direct,
            archive: ArchivePlan { hash, ..ArchivePlan::default() },
            ..FilePlan::new(&directory)
        };
        let mut output = ledger::Output { name: "pcap".into(), ends: Vec::new() };
        let sink = FileSink::open(plan, Arc::new(Registry::new(1)), &mut output, Vec::new()).unwrap();
        let chunk = |c: usize| {
            let mut chunk = Chunk::new(0);
            let frame = vec![c.to_le_bytes()[0]; length];
            while chunk.fits(length) {
                chunk.push(SessionId::OVERFLOW, Timestamp::from_ns(1), &frame, length.try_into().unwrap());
            }
            Arc::new(Lent::from(chunk))
        };
        Self { sink, directory, path: path.to_path_buf(), chunks: (0..8).map(chunk).collect(), next: 0 }
    }
}

impl Way for Output {
    fn take(&mut self, _: &[u8]) {
        self.sink.consume(&self.chunks[self.next % self.chunks.len()]);
        self.sink.tick(Instant::now(), Timestamp::now());
        self.next += 1;
    }
    fn end(&mut self) {
        self.sink.finish();
        let file = fs::read_dir(self.directory.join("overflow")).unwrap().next().unwrap().unwrap().path();
        fs::rename(file, &self.path).unwrap();
        fs::remove_dir_all(&self.directory).unwrap();
    }
}

fn way(name: &str, path: &Path, length: usize) -> Box<dyn Way> {
    let (name, n) = name.split_once(' ').unwrap_or((name, "1"));
    let n = n.parse().unwrap();
    let open = |flags| OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(path).unwrap();
    match name {
        "buffered" => Box::new(Buffered(open(0))),
        "direct" => Box::new(Waiting { file: open(libc::O_DIRECT), buffer: Aligned::new(), filled: 0, at: 0 }),
        "ring" => {
            let mut writes = Writes::new(n).unwrap();
            writes.attach(Arc::new(open(libc::O_DIRECT)), 0, 4096);
            Box::new(Ring { writes, buffers: n, filled: 0, at: 0 })
        }
        "off" => Box::new(Stored::new(Direct::Off, path, n)),
        "on" => Box::new(Stored::new(Direct::On, path, n)),
        "auto" => Box::new(Stored::new(Direct::Auto, path, n)),
        _ => Box::new(output(name, path, length).unwrap_or_else(|| panic!("no such way: {name}"))),
    }
}

/// `output-DIRECT` or `output-DIRECT-HASH`.
fn output(name: &str, path: &Path, length: usize) -> Option<Output> {
    let name = name.strip_prefix("output-")?;
    let (direct, hash) = name.split_once('-').unwrap_or((name, "sha256"));
    let direct = match direct {
        "off" => Direct::Off,
        "on" => Direct::On,
        "auto" => Direct::Auto,
        _ => return None,
    };
    let hash = match hash {
        "sha256" => Some(Algorithm::Sha256),
        "blake3" => Some(Algorithm::Blake3),
        "nohash" => None,
        _ => return None,
    };
    Some(Output::new(direct, hash, path, length))
}

/// GB/s until written, GB/s until synced, and nanoseconds of the thread, the process and the
/// machine in all.
type Figures = [f64; 5];

fn run(name: &str, hash: &str, path: &Path, bytes: u64, length: usize, chunks: &[Arc<Vec<u8>>]) -> Figures {
    let mut way = way(name, path, length);
    let (thread_before, process_before, machine_before) =
        (processor_time(ClockId::ThreadCPUTime), processor_time(ClockId::ProcessCPUTime), busy());
    let begin = Instant::now();
    let mut same = Sha256::new();
    let (sender, receiver) = bounded::<Arc<Vec<u8>>>(4);
    let other = thread::spawn(move || {
        let mut other = Sha256::new();
        receiver.into_iter().for_each(|chunk| other.update(&**chunk));
        other.finalize()
    });
    for chunk in chunks.iter().cycle().take(usize::try_from(bytes).unwrap() / CHUNK) {
        match hash {
            "same" => same.update(&**chunk),
            "other" => sender.send(Arc::clone(chunk)).unwrap(),
            _ => {}
        }
        way.take(chunk);
    }
    way.end();
    let thread = processor_time(ClockId::ThreadCPUTime) - thread_before;
    drop(sender);
    std::hint::black_box((same.finalize(), other.join().unwrap()));
    let written = begin.elapsed();
    File::open(path).unwrap().sync_data().unwrap();
    let synced = begin.elapsed();
    let process = processor_time(ClockId::ProcessCPUTime) - process_before;
    let machine = busy() - machine_before;
    // Chunks of the output are not filled to the last byte.
    assert!(fs::metadata(path).unwrap().len() > bytes / 10 * 9);
    drop(way);
    let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e9;
    [rate(written), rate(synced), thread as f64, process as f64, machine as f64]
}

fn dd(path: &Path, bytes: u64) -> Figures {
    let mut command = Command::new("dd");
    command.args(["if=/dev/zero", "oflag=direct", "bs=1M"]).env("LC_ALL", "C");
    command.arg(format!("of={}", path.display())).arg(format!("count={}", bytes >> 20));
    let machine_before = busy();
    let output = command.output().unwrap();
    assert!(output.status.success());
    // "... bytes (...) copied, 0.41 s, 2.6 GB/s": without the time that a process takes to start.
    let report = String::from_utf8(output.stderr).unwrap();
    let seconds = report.rsplit(", ").nth(1).unwrap().trim_end_matches(" s").parse().unwrap();
    let begin = Instant::now();
    File::open(path).unwrap().sync_data().unwrap();
    let rate = |seconds: f64| bytes as f64 / seconds / 1e9;
    [rate(seconds), rate(seconds + begin.elapsed().as_secs_f64()), 0.0, 0.0, (busy() - machine_before) as f64]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, numbers @ ..] = &arguments[..] else { panic!("DIRECTORY MEBIBYTES REPETITIONS LENGTH [WAY...]") };
    let (numbers, mut ways) = numbers.split_at(3);
    let [mebibytes, repetitions, length] = [0, 1, 2].map(|n: usize| numbers[n].parse::<u64>().expect("a number"));
    let (bytes, path) = (mebibytes << 20, Path::new(directory).join("measured.pcap"));
    let raw = ["buffered", "direct", "off 100", "on 100", "auto 100", "ring 2", "ring 4", "ring 8"];
    let hashed = raw.iter().flat_map(|way| ["", "+same", "+other"].map(|hash| format!("{way}{hash}")));
    let whole = ["off", "on", "auto"]
        .into_iter()
        .flat_map(|direct| ["", "-blake3", "-nohash"].map(|hash| format!("output-{direct}{hash}")));
    let all: Vec<String> = hashed.chain(whole).collect();
    if ways.is_empty() {
        ways = &all;
    }
    let length = usize::try_from(length).unwrap();
    let (chunks, records) = chunks(length);
    let frames = (bytes / CHUNK as u64 * records) as f64;
    let names: Vec<&str> = ["dd"].into_iter().chain(ways.iter().map(String::as_str)).collect();
    let mut results: Vec<Vec<Figures>> = vec![Vec::new(); names.len()];
    for _ in 0..repetitions {
        for (name, results) in names.iter().zip(&mut results) {
            let (way, hash) = name.split_once('+').unwrap_or((name, ""));
            results.push(if way == "dd" { dd(&path, bytes) } else { run(way, hash, &path, bytes, length, &chunks) });
            fs::remove_file(&path).unwrap();
            // The file system frees the blocks in the background.
            thread::sleep(Duration::from_millis(100));
        }
    }
    println!("| {length} B, {mebibytes} MiB | GB/s | of dd | GB/s synced | ns thread | ns process | ns machine |");
    println!("|---|---|---|---|---|---|---|");
    let mut rate_of_dd = 0.0;
    for (name, results) in names.iter().zip(&results) {
        let median = |figure: usize| {
            let mut values: Vec<f64> = results.iter().map(|figures| figures[figure]).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let (rate, synced) = (median(0), median(1));
        if *name == "dd" {
            rate_of_dd = rate;
        }
        let share = rate / rate_of_dd * 100.0;
        let [thread, process, machine] = [2, 3, 4].map(|figure| median(figure) / frames);
        println!("| {name} | {rate:.2} | {share:.0} % | {synced:.2} | {thread:.0} | {process:.0} | {machine:.0} |");
    }
}
