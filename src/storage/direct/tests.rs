use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use proptest::prelude::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use super::*;

/// Returns the byte at `offset` when it is written for the `turn`th time. It is never zero, as
/// padding and holes are.
fn byte(offset: usize, turn: usize) -> u8 {
    u8::try_from((offset / 3 + offset / 4096 + turn) % 251 + 1).unwrap()
}

fn bytes(offset: usize, length: usize, turn: usize) -> Vec<u8> {
    (offset..offset + length).map(|offset| byte(offset, turn)).collect()
}

/// Returns two directories: the one where the build writes, which is on a disk if any is, and one
/// in memory.
fn directories() -> [TempDir; 2] {
    let disk = std::env::current_exe().unwrap();
    let memory = Path::new("/dev/shm");
    [disk.parent().unwrap(), if memory.is_dir() { memory } else { Path::new("/tmp") }]
        .map(|directory| tempfile::tempdir_in(directory).unwrap())
}

fn open(path: &Path, mode: Direct, pool: &Arc<Pool>) -> Adaptive {
    let file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    Adaptive::new(file, length, mode, Arc::clone(pool))
}

fn new(path: &Path) -> Adaptive {
    open(path, Direct::On, &Arc::new(Pool::new(1)))
}

fn is_direct(file: &Adaptive) -> bool {
    matches!(file.way, Way::Direct(_))
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Flush,
    Sync,
    /// Cuts the file to so many thousandths of its length.
    Cut(u64),
    Reserve(u64),
    Reopen,
    GoDirect,
    GoCached,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop_oneof![1..200_usize, Just(4096), 1..20_000_usize, 200_000..3_000_000_usize].prop_map(Step::Write),
        3 => Just(Step::Flush),
        1 => Just(Step::Sync),
        2 => (900..=1000_u64).prop_map(Step::Cut),
        1 => (1..100_000_u64).prop_map(Step::Reserve),
        1 => Just(Step::Reopen),
        1 => Just(Step::GoDirect),
        1 => Just(Step::GoCached),
    ]
}

fn follow(path: &Path, mode: Direct, steps: &[Step]) {
    let pool = Arc::new(Pool::new(1));
    let mut file = open(path, mode, &pool);
    let mut model: Vec<u8> = Vec::new();
    for (turn, step) in steps.iter().enumerate() {
        let mut complete = false;
        match step {
            Step::Write(length) => {
                let new = bytes(model.len(), *length, turn);
                file.write_all(&new).unwrap();
                model.extend(new);
            }
            Step::Flush => {
                file.flush().unwrap();
                complete = true;
            }
            Step::Sync => {
                file.sync().unwrap();
                complete = true;
            }
            Step::Cut(thousandths) => {
                let length = model.len() as u64 * thousandths / 1000;
                file.cut(length).unwrap();
                model.truncate(usize::try_from(length).unwrap());
                complete = true;
            }
            Step::Reserve(more) => file.reserve(*more).unwrap(),
            Step::Reopen => {
                drop(file);
                file = open(path, mode, &pool);
                complete = true;
            }
            Step::GoDirect => file.go_direct(),
            Step::GoCached => {
                file.go_cached().unwrap();
                complete = true;
            }
        }
        let settled = usize::try_from(file.settled()).unwrap();
        let read = fs::read(path).unwrap();
        assert!(settled <= read.len() && read.len() <= model.len());
        assert!(read[..] == model[..read.len()], "a prefix, after {step:?}");
        assert!(!complete || settled == model.len(), "all, after {step:?}");
    }
    drop(file);
    assert!(fs::read(path).unwrap() == model);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_done_the_file_has_the_bytes(steps in prop::collection::vec(step(), 1..25), on: bool) {
        for directory in directories() {
            let mode = if on { Direct::On } else { Direct::Auto };
            follow(&directory.path().join("a"), mode, &steps);
        }
    }
}

#[test]
fn a_reader_finds_a_prefix_at_any_time() {
    let [disk, _] = directories();
    let path = disk.path().join("a");
    let all = bytes(0, 40 << 20, 0);
    let (done, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    fs::write(&path, "").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let read = fs::read(&path).unwrap();
                assert!(read[..] == all[..read.len()], "of {}", read.len());
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut file = new(&path);
        for _ in 0..8 {
            let (mut length, mut n) = (0, 0);
            while length < 30 << 20 {
                let more = [100, 5000, 70, 4_300_000, 4096, 1, 9000, 8_000_000][n % 8];
                file.write_all(&all[length..length + more]).unwrap();
                length += more;
                if n % 3 == 0 {
                    file.flush().unwrap();
                    assert_eq!(fs::metadata(&path).unwrap().len(), length as u64);
                }
                n += 1;
            }
            file.cut(0).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(reads.into_inner() > 0);
}

#[test]
fn buffers_are_bounded_and_go_back() {
    let [disk, _] = directories();
    let pool = Arc::new(Pool::new(1));
    let mut files = ["a", "b"].map(|name| open(&disk.path().join(name), Direct::On, &pool));
    for file in &mut files {
        file.write_all(b"one").unwrap();
    }
    assert_eq!(files.each_ref().map(is_direct), [true, false]);
    let [a, mut b] = files;
    drop(a);
    b.write_all(b"two").unwrap();
    assert!(is_direct(&b));
    b.flush().unwrap();
    assert_eq!(fs::read(disk.path().join("b")).unwrap(), b"onetwo");
    drop(b);
    let state = pool.state.lock();
    assert_eq!((state.idle.len(), state.lent), (1, 0));
}

#[test]
fn a_fast_file_becomes_direct_and_a_slow_one_cached() {
    let [disk, _] = directories();
    let path = disk.path().join("a");
    let mut file = open(&path, Direct::Auto, &Arc::new(Pool::new(1)));
    file.write_all(b"slow").unwrap();
    assert!(!is_direct(&file));
    file.bytes = FAST;
    file.write_all(b"fast").unwrap();
    assert!(is_direct(&file));
    file.flush().unwrap();
    assert!(is_direct(&file), "the second is not over");
    file.since -= SECOND;
    file.write_all(b"fast").unwrap();
    assert!(is_direct(&file));
    file.since -= SECOND;
    file.write_all(b"slow").unwrap();
    assert!(!is_direct(&file));
    assert_eq!(fs::read(&path).unwrap(), b"slowfastfastslow");

    file.bytes = FAST;
    file.write_all(b"fast").unwrap();
    assert!(is_direct(&file));
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), b"slowfastfastslowfast");
}

#[test]
fn the_page_cache_takes_what_fills_the_queue() {
    let [disk, _] = directories();
    let path = disk.path().join("a");
    let pool = Arc::new(Pool::new(1));
    let long_ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
    let mut file = open(&path, Direct::Auto, &pool);
    file.bytes = FAST;
    file.write_all(b"fast").unwrap();
    assert!(is_direct(&file));
    file.flush().unwrap();
    let Way::Direct(direct) = &file.way else { panic!("not direct") };
    assert!(direct.waited > Duration::ZERO, "a flush waits for the disk");
    let wait = |file: &mut Adaptive, time| match &mut file.way {
        Way::Direct(direct) => direct.waited = time,
        Way::Cached(_) => panic!("not direct"),
    };
    // However long the file waits for the disk: a queue that is not half full loses nothing.
    wait(&mut file, SECOND);
    pool.burst.hear(499, Instant::now());
    file.write_all(b"late").unwrap();
    assert!(is_direct(&file));
    // Nor does the page cache help where a processor is waited for.
    wait(&mut file, Duration::ZERO);
    pool.burst.hear(1000, Instant::now());
    file.write_all(b"slow").unwrap();
    assert!(is_direct(&file));
    wait(&mut file, LATE);
    pool.burst.hear(500, Instant::now());
    file.write_all(b"much").unwrap();
    assert!(!is_direct(&file), "at once");
    assert_eq!((file.settled(), fs::read(&path).unwrap()), (16, b"fastlateslowmuch".to_vec()));
    pool.burst.hear(0, Instant::now());
    file.bytes = FAST;
    file.write_all(b"wait").unwrap();
    assert!(!is_direct(&file), "calm for a moment");
    // The next file knows what this one learned.
    let mut next = open(&disk.path().join("b"), Direct::Auto, &pool);
    next.bytes = FAST;
    next.write_all(b"wait").unwrap();
    assert!(!is_direct(&next));
    pool.burst.calm_since(long_ago(10));
    file.bytes = FAST;
    file.write_all(b"fast").unwrap();
    assert!(is_direct(&file));
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), b"fastlateslowmuchwaitfast");

    // Who asks for direct writes gets them.
    let mut on = open(&disk.path().join("c"), Direct::On, &pool);
    pool.burst.hear(1000, Instant::now());
    on.write_all(b"on").unwrap();
    assert!(is_direct(&on));
}

#[test]
fn without_direct_access_or_a_ring_the_page_cache_serves() {
    // A character device has no direct access.
    let mut file = open(Path::new("/dev/null"), Direct::On, &Arc::new(Pool::new(1)));
    file.write_all(b"one").unwrap();
    assert!(file.refused && !is_direct(&file));

    let [disk, _] = directories();
    let path = disk.path().join("a");
    let pool = Arc::new(Pool::new(1));
    pool.state.lock().refused = true;
    let mut file = open(&path, Direct::On, &pool);
    file.write_all(b"one").unwrap();
    assert!(!is_direct(&file));
    assert_eq!((file.settled(), fs::read(&path).unwrap()), (3, b"one".to_vec()));
}

#[test]
fn a_file_that_turns_out_unsuitable_goes_on_cached() {
    let [disk, _] = directories();
    let path = disk.path().join("a");
    let mut file = new(&path);
    let one = bytes(0, 4096 + 7, 0);
    file.write_all(&one).unwrap();
    let Way::Direct(direct) = &mut file.way else { panic!("no direct access here: {file:?}") };
    // As where the file system asks for more than it said: a write of 7 bytes is refused.
    direct.block = 1;
    file.flush().unwrap();
    assert!(file.refused && !is_direct(&file));
    file.write_all(b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), [&one[..], b"two"].concat());
    assert_eq!(file.settled(), 4096 + 10);
}

/// The test sets this for the process that the limit is for.
const LIMIT: &str = "VXTAP_TEST_FILE_SIZE";

/// A limit of the length of files, which is the process's, makes writes short and then fail.
#[test]
fn a_full_disk_is_told_of_and_what_is_settled_is_true() {
    for (limit, path) in [(3 << 20) + 8192, (3 << 20) + 100, 5000].into_iter().zip(["a", "b", "c"]) {
        let [disk, _] = directories();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "storage::direct::tests::within_a_limit", "--nocapture"])
            .env(LIMIT, format!("{limit} {}", disk.path().join(path).display()))
            .output()
            .unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
        assert!(String::from_utf8_lossy(&status.stdout).contains("1 passed"));
    }
}

#[test]
fn within_a_limit() {
    let Ok(text) = std::env::var(LIMIT) else { return };
    let (limit, path) = text.split_once(' ').unwrap();
    let (limit, path): (usize, PathBuf) = (limit.parse().unwrap(), path.into());
    // A handler stands in for the end of the process, which SIGXFSZ brings by default.
    signal_hook::flag::register(libc::SIGXFSZ, Arc::new(AtomicBool::new(false))).unwrap();
    let before = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(limit as u64), ..before }).unwrap();

    let mut file = new(&path);
    let mut taken = 0;
    let error = loop {
        match file.write(&bytes(taken, 100_000, 0)).and_then(|n| file.flush().map(|()| n)) {
            Ok(n) => taken += n,
            Err(error) => break error,
        }
    };
    assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
    let settled = usize::try_from(file.settled()).unwrap();
    let read = fs::read(&path).unwrap();
    assert!(taken <= settled && settled <= read.len() && read.len() <= limit, "{taken} {settled} {}", read.len());
    assert!(read[..] == bytes(0, read.len(), 0), "a prefix");
    assert!(file.flush().is_err(), "what is taken is tried again");

    // Somebody makes room.
    setrlimit(Resource::Fsize, before).unwrap();
    let whole = settled - settled % 50;
    file.cut(whole as u64).unwrap();
    file.write_all(&bytes(whole, 2_000_000, 0)).unwrap();
    file.flush().unwrap();
    assert_eq!(file.settled(), whole as u64 + 2_000_000);
    assert!(fs::read(&path).unwrap() == bytes(0, whole + 2_000_000, 0));
}
