//! What it costs to write captures to a file system, by the way they are written.
//!
//! ```text
//! target/release/examples/write DIRECTORY MEBIBYTES REPETITIONS LENGTH [WAY...]
//! ```
//!
//! Chunks of 256 KiB with pcap records of frames of LENGTH bytes are written to a file in DIRECTORY, again and again the same few. The ways take
//! turns, each with a new file that is removed afterwards, and `dd oflag=direct bs=1M` is one of them. For each it prints medians: the rate until
//! all bytes are in the file and until they would survive a loss of power; the share of dd's rate; and for a record the processor time of the writing
//! thread, of the process (with its io_uring workers), and of the machine (with the kernel's writeback, and all else that runs).
//!
//! - `buffered`: `write(2)` of each chunk
//! - `behind`: as `buffered`, each 8 MiB given to the disk at once (`sync_file_range(2)`) and dropped from the page cache 8 MiB later
//! - `direct`: copied into 1 MiB, `O_DIRECT`, `pwrite(2)`
//! - `ring N`: `sys::direct` with N buffers, as the output does
//! - `off N`, `on N`, `auto N`: `storage::Disk` as the output uses it, with a flush every N ms
//! - `ahead N`: N direct writes at a time, the file's blocks and length set beforehand: a reader sees zeros
//! - `thread N`: as `ring N`, the writes being `pwrite(2)` of a thread
//!
//! `+ same` computes SHA-256 in the writing thread, `+ other` in another thread that gets the same chunks.
#![allow(unsafe_code, reason = "requests of io_uring are pointers")]
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss)]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use io_uring::{IoUring, opcode, types};
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};
use vxtap::storage::{Direct, Disk, Storage, StoredFile};
use vxtap::sys::direct::{BUFFER, Writes};

const CHUNK: usize = 256 * 1024;

/// Bytes between the steps of `behind`.
const STEP: u64 = 8 << 20;

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

struct Behind(File, u64);

impl Way for Behind {
    fn take(&mut self, chunk: &[u8]) {
        self.0.write_all(chunk).unwrap();
        self.1 += chunk.len() as u64;
        if self.1.is_multiple_of(STEP) {
            let range = |at: u64, flags| {
                let (at, step) = (i64::try_from(at).unwrap(), i64::try_from(STEP).unwrap());
                // SAFETY: no memory is involved.
                assert_eq!(unsafe { libc::sync_file_range(self.0.as_raw_fd(), at, step, flags) }, 0);
            };
            range(self.1 - STEP, libc::SYNC_FILE_RANGE_WRITE);
            if let Some(before) = self.1.checked_sub(2 * STEP) {
                range(before, libc::SYNC_FILE_RANGE_WAIT_BEFORE);
                fadvise(&self.0, before, std::num::NonZeroU64::new(STEP), Advice::DontNeed).unwrap();
            }
        }
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

struct Ahead {
    file: File,
    ring: IoUring,
    buffers: Vec<Aligned>,
    free: Vec<usize>,
    current: Option<usize>,
    filled: usize,
    at: u64,
}

impl Ahead {
    fn new(file: File, buffers: usize, bytes: u64) -> Self {
        fallocate(&file, FallocateFlags::empty(), 0, bytes).unwrap();
        let ring = IoUring::new(64).unwrap();
        let memory = (0..buffers).map(|_| Aligned::new()).collect();
        Self { file, ring, buffers: memory, free: (0..buffers).collect(), current: None, filled: 0, at: 0 }
    }
    fn reap(&mut self) {
        for completion in self.ring.completion() {
            assert_eq!(usize::try_from(completion.result()), Ok(BUFFER));
            self.free.push(usize::try_from(completion.user_data()).unwrap());
        }
    }
}

impl Way for Ahead {
    fn take(&mut self, chunk: &[u8]) {
        self.reap();
        while self.current.is_none() && self.free.is_empty() {
            self.ring.submit_and_wait(1).unwrap();
            self.reap();
        }
        let current = *self.current.get_or_insert_with(|| self.free.pop().unwrap());
        let buffer = self.buffers[current].bytes();
        buffer[self.filled..][..chunk.len()].copy_from_slice(chunk);
        self.filled += chunk.len();
        if self.filled == BUFFER {
            let entry = opcode::Write::new(types::Fd(self.file.as_raw_fd()), buffer.as_ptr(), 1 << 20).offset(self.at);
            // SAFETY: the buffer is not used before its request has completed, and `end` waits for all.
            unsafe { self.ring.submission().push(&entry.build().user_data(current as u64)) }.unwrap();
            self.ring.submit().unwrap();
            self.at += BUFFER as u64;
            self.filled = 0;
            self.current = None;
        }
    }
    fn end(&mut self) {
        while self.free.len() + usize::from(self.current.is_some()) < self.buffers.len() {
            self.ring.submit_and_wait(1).unwrap();
            self.reap();
        }
    }
}

struct Thread {
    full: Option<Sender<Aligned>>,
    empty: Receiver<Aligned>,
    current: Option<Aligned>,
    filled: usize,
    thread: Option<thread::JoinHandle<()>>,
}

impl Thread {
    fn new(file: File, buffers: usize) -> Self {
        let (full, work) = bounded::<Aligned>(buffers);
        let (back, empty) = bounded(buffers);
        (0..buffers).for_each(|_| back.send(Aligned::new()).unwrap());
        let thread = thread::spawn(move || {
            for (n, mut buffer) in work.into_iter().enumerate() {
                file.write_all_at(buffer.bytes(), (n * BUFFER) as u64).unwrap();
                let _ = back.send(buffer);
            }
        });
        Self { full: Some(full), empty, current: None, filled: 0, thread: Some(thread) }
    }
}

impl Way for Thread {
    fn take(&mut self, chunk: &[u8]) {
        let mut current = self.current.take().unwrap_or_else(|| self.empty.recv().unwrap());
        current.bytes()[self.filled..][..chunk.len()].copy_from_slice(chunk);
        self.filled += chunk.len();
        if self.filled == BUFFER {
            self.full.as_ref().unwrap().send(current).unwrap();
            self.filled = 0;
        } else {
            self.current = Some(current);
        }
    }
    fn end(&mut self) {
        self.full = None;
        self.thread.take().unwrap().join().unwrap();
    }
}

fn way(name: &str, path: &Path, bytes: u64) -> Box<dyn Way> {
    let (name, n) = name.split_once(' ').unwrap_or((name, "1"));
    let n = n.parse().unwrap();
    let open = |flags| OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(path).unwrap();
    match name {
        "buffered" => Box::new(Buffered(open(0))),
        "behind" => Box::new(Behind(open(0), 0)),
        "direct" => Box::new(Waiting { file: open(libc::O_DIRECT), buffer: Aligned::new(), filled: 0, at: 0 }),
        "ring" => {
            let mut writes = Writes::new(n).unwrap();
            writes.attach(Arc::new(open(libc::O_DIRECT)), 0, 4096);
            Box::new(Ring { writes, buffers: n, filled: 0, at: 0 })
        }
        "off" => Box::new(Stored::new(Direct::Off, path, n)),
        "on" => Box::new(Stored::new(Direct::On, path, n)),
        "auto" => Box::new(Stored::new(Direct::Auto, path, n)),
        "ahead" => Box::new(Ahead::new(open(libc::O_DIRECT), n, bytes)),
        "thread" => Box::new(Thread::new(open(libc::O_DIRECT), n)),
        _ => panic!("no such way: {name}"),
    }
}

/// GB/s until written, GB/s until synced, and nanoseconds of the thread, the process and the machine in all.
type Figures = [f64; 5];

fn run(name: &str, hash: &str, path: &Path, bytes: u64, chunks: &[Arc<Vec<u8>>]) -> Figures {
    let mut way = way(name, path, bytes);
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
    assert_eq!(fs::metadata(path).unwrap().len(), bytes);
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
    let all: Vec<String> = [
        "buffered", "behind", "direct", "off 100", "on 100", "auto 100", "ring 2", "ring 4", "ring 8", "ahead 4",
        "ahead 8", "thread 4",
    ]
    .iter()
    .flat_map(|way| ["", "+same", "+other"].map(|hash| format!("{way}{hash}")))
    .collect();
    if ways.is_empty() {
        ways = &all;
    }
    let (chunks, records) = chunks(usize::try_from(length).unwrap());
    let frames = (bytes / CHUNK as u64 * records) as f64;
    let names: Vec<&str> = ["dd"].into_iter().chain(ways.iter().map(String::as_str)).collect();
    let mut results: Vec<Vec<Figures>> = vec![Vec::new(); names.len()];
    for _ in 0..repetitions {
        for (name, results) in names.iter().zip(&mut results) {
            let (way, hash) = name.split_once('+').unwrap_or((name, ""));
            results.push(if way == "dd" { dd(&path, bytes) } else { run(way, hash, &path, bytes, &chunks) });
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
