//! Somebody changes an archive's directory while a sensor has it.

mod delivery;
mod edited;
mod forged;
mod own;

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;
use crate::console::Console;
use crate::evidence::names::{self, Names};
use crate::evidence::*;
use crate::record::format::Format;
use crate::record::{Timestamp, pcap};
use crate::storage::Space;
use crate::storage::faulty::Faulty;
use crate::verify;

/// A sensor's end of an archive.
struct Sensor {
    archive: Archive,
    storage: Faulty,
    output: Output,
    directory: PathBuf,
}

/// Room for days.
const PLENTY: Space = Space { free: 1 << 50, total: 1 << 51 };

const SESSION: &str = "vni7_192.0.2.1";

fn sensor(directory: &Path, change: impl FnOnce(&mut ArchivePlan)) -> Sensor {
    let mut plan = ArchivePlan::default();
    change(&mut plan);
    let encoding = Encoding { format: Format::Pcap, compression: None };
    let mut output = Output { name: "pcap".into(), ends: Vec::new() };
    let faulty = Faulty::default();
    faulty.faults().space = Some(PLENTY);
    let storage: Arc<dyn Storage> = Arc::new(faulty.clone());
    let archive = Archive::open(directory, plan, encoding, &storage, &mut output).unwrap();
    Sensor { archive, storage: faulty, output, directory: directory.to_path_buf() }
}

impl Sensor {
    /// Hands over a capture, which is as old as its number says.
    fn publish(&self, number: u32) {
        self.publish_in(SESSION, number);
    }

    fn publish_in(&self, session: &str, number: u32) {
        let directory = self.directory.join(session);
        let names = Names::new(&directory, session, Timestamp::from_ns(0), number, "pcap");
        let bytes = format!("capture {number}").into_bytes();
        fs::create_dir_all(directory).unwrap();
        fs::write(&names.part, &bytes).unwrap();
        let time = Timestamp::from_ns(u64::from(number));
        self.archive.publish(Closed {
            file: self.storage.status(&names.part).unwrap().unwrap().identity,
            names,
            session: names::parse_session(session).flatten(),
            tag: None,
            span: (time, time),
            frames: 1,
            frame_bytes: 60,
            bytes: bytes.len() as u64,
            losses: Losses::default(),
            kernel_dropped: 0,
            number: None,
            hash: None,
            announced: None,
            encoding: None,
            claim: None,
        });
    }

    fn count(&self, counter: impl Fn(&crate::ledger::OutputCounters) -> &crate::ledger::Counter) -> u64 {
        self.output.ends.iter().map(|end| counter(end).get()).sum()
    }

    #[track_caller]
    fn published(&self, files: u64) {
        eventually(|| self.count(|end| &end.files) == files);
    }
}

#[track_caller]
fn eventually(mut happens: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !happens() {
        assert!(begin.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(2));
    }
}

/// Returns what does not match the manifest.
fn mismatches(directory: &Path) -> Vec<String> {
    let report = verify::run(directory, None, &AtomicBool::new(false), &Console::default()).unwrap();
    report.mismatches.iter().map(ToString::to_string).collect()
}

/// Returns the hash of the last line.
fn head(directory: &Path) -> Digest {
    let text = fs::read(directory.join(NAME)).unwrap();
    let last = text[..text.len() - 1].rsplit(|byte| *byte == b'\n').next();
    Digest::of(last.unwrap())
}

#[test]
fn the_budget_removes_nothing_behind_a_symbolic_link() {
    let dir = tempfile::tempdir().unwrap();
    let (directory, outside) = (dir.path().join("captures"), dir.path().join("outside"));
    fs::create_dir(&directory).unwrap();
    let mut first = sensor(&directory, |_| ());
    for number in 1..=3 {
        first.publish(number);
    }
    first.archive.finish();
    let session = directory.join(SESSION);
    fs::rename(&session, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &session).unwrap();

    // At the start, and while it runs.
    let mut second = sensor(&directory, |plan| plan.budget.keep_files = Some(1));
    fs::remove_file(&session).unwrap();
    fs::rename(&outside, &session).unwrap();
    second.publish(4);
    second.published(1);
    fs::rename(&session, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &session).unwrap();
    second.publish_in("overflow", 5);
    second.publish_in("overflow", 6);
    second.archive.finish();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 4);
    assert_eq!(second.count(|end| &end.pruned), 1, "in its own directory");
    let lines = fs::read_to_string(directory.join(NAME)).unwrap();
    let pruned: Vec<_> = lines.lines().filter(|line| line.contains("\"pruned\"")).collect();
    assert!(matches!(pruned[..], [line] if line.contains("overflow")), "{pruned:?}");
    assert!(mismatches(&directory).iter().any(|what| what.contains("is a symbolic link in place of a session's")));
}

/// Makes something of a name, or something that leads to a file.
type Make = fn(&Path, &Path);

/// Returns what must not be taken for the manifest, by what makes it. A thing that leads to
/// something leads to a file with a torn last line.
fn no_manifests() -> [(&'static str, Make); 2] {
    [
        ("a symbolic link", |path, outside| std::os::unix::fs::symlink(outside, path).unwrap()),
        ("a named pipe", |path, _| mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap()),
    ]
}

#[test]
fn what_is_no_file_is_not_taken_for_the_manifest() {
    for (what, make) in no_manifests() {
        let dir = tempfile::tempdir().unwrap();
        let (directory, outside) = (dir.path().join("captures"), dir.path().join("outside"));
        let path = directory.join(NAME);
        fs::create_dir(&directory).unwrap();
        fs::write(&outside, "another's, without a newline").unwrap();
        make(&path, &outside);
        let error = Manifest::open(&(Arc::new(Faulty::default()) as Arc<dyn Storage>), &directory).unwrap_err();
        let wanted = format!("{} is {what}: move it away, or name another directory", path.display());
        assert!(error.to_string().starts_with(&wanted), "{error}");
        assert_eq!(fs::read_to_string(&outside).unwrap(), "another's, without a newline");
    }
}

#[test]
fn a_directory_without_its_manifest_is_not_another_sensor_s() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(NAME);
    let open = || {
        let mut output = Output { name: "pcap".into(), ends: Vec::new() };
        let encoding = Encoding { format: Format::Pcap, compression: None };
        let storage: Arc<dyn Storage> = Arc::new(Faulty::default());
        Archive::open(dir.path(), ArchivePlan::default(), encoding, &storage, &mut output)
    };
    let busy = || match open() {
        Err(ArchiveError::Busy(LockError { pid, .. })) => {
            assert_eq!(pid, i32::try_from(process::id()).ok())
        }
        other => panic!("{other:?}"),
    };
    let mut first = sensor(dir.path(), |_| ());
    first.publish(1);
    first.published(1);
    fs::rename(&path, dir.path().join("moved")).unwrap();
    eventually(|| first.count(|end| &end.manifest_changed) == 1);
    busy();
    first.archive.finish();
    open().unwrap();
}

/// Returns a sensor with ten captures, of ten bytes each, that are all it may keep.
fn full_sensor(directory: &Path, sync: Sync) -> Sensor {
    let sensor = sensor(directory, |plan| {
        plan.sync = sync;
        plan.budget.keep_bytes = Some(100);
    });
    for number in 11..=20 {
        sensor.publish(number);
    }
    sensor.published(10);
    sensor
}

/// Captures that were published and removed, as + and -, in this order.
fn comings_and_goings(sensor: &Sensor) -> String {
    let what = |done: &String| match done.split_once(' ') {
        Some(("rename", _)) => Some('+'),
        Some(("remove", _)) => Some('-'),
        _ => None,
    };
    sensor.storage.faults().done.iter().filter_map(what).collect()
}

#[test]
fn files_that_wait_for_a_slow_disk_count_in_the_budget() {
    // Fewer than may be kept, and more: then each goes until the rest fits.
    for more in [5, 13] {
        let dir = tempfile::tempdir().unwrap();
        let mut sensor = full_sensor(dir.path(), Sync::Publish);
        sensor.storage.faults().done.clear();
        sensor.storage.faults().sync_stall = Duration::from_secs(60);
        (21..21 + more).for_each(|number| sensor.publish(number));
        sensor.storage.faults().sync_stall = Duration::ZERO;
        sensor.archive.finish();
        let (mut there, mut wait) = (10, more);
        let order = comings_and_goings(&sensor);
        for what in order.chars() {
            if what == '-' {
                assert!(there + wait > 10, "one had to go: {order}");
                there -= 1;
                continue;
            }
            // All were handed over when the first was published.
            assert!(wait == more || there == 0 || there + wait <= 10, "the budget was kept before the next: {order}");
            (there, wait) = (there + 1, wait - 1);
        }
        assert_eq!((there, wait), (10, 0), "{order}");
        assert_eq!(sensor.archive.room.unpublished.claimed(), 0);
    }
}

#[test]
fn the_budget_is_kept_while_files_are_salvaged() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(SESSION)).unwrap();
    for number in 1..=3 {
        let names = Names::new(&dir.path().join(SESSION), SESSION, Timestamp::from_ns(0), number, "pcap");
        let mut file = pcap::file_header(crate::wire::LinkType::Ethernet, 262_144).to_vec();
        file.extend([[number as u8, 0, 0, 0], [0; 4], [4, 0, 0, 0], [4, 0, 0, 0], *b"abcd"].concat());
        fs::write(&names.part, file).unwrap();
    }
    let mut sensor = sensor(dir.path(), |plan| plan.budget.keep_files = Some(1));
    eventually(|| sensor.count(|end| &end.recovered) == 3);
    sensor.archive.finish();
    assert_eq!(comings_and_goings(&sensor), "++-+-");
}

#[test]
fn files_that_wait_to_be_salvaged_count_in_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let mut sensor = full_sensor(dir.path(), Sync::None);
    sensor.storage.faults().append = Some(5);
    let names = Names::new(&dir.path().join(SESSION), SESSION, Timestamp::from_ns(0), 21, "pcap");
    fs::write(&names.part, [0; 30]).unwrap();
    let holds = Gone { session: None, frames: 1, frame_bytes: 30 };
    // Once, wherever it is.
    sensor.archive.room().set_open_bytes(30);
    let file = sensor.storage.status(&names.part).unwrap().unwrap().identity;
    sensor.archive.salvage(Broken { names, file, written: 30, holds, claim: None });
    eventually(|| sensor.count(|end| &end.pruned) == 3);
    sensor.storage.faults().append = None;
    sensor.archive.finish();
    assert_eq!((sensor.count(|end| &end.pruned), sensor.count(|end| &end.set_aside)), (3, 1));
    assert_eq!(sensor.archive.room.unpublished.claimed(), 0);
}

#[test]
fn files_that_are_given_up_or_missing_count_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let mut sensor = full_sensor(dir.path(), Sync::Publish);
    sensor.storage.faults().sync_stall = Duration::from_secs(1);
    sensor.publish(21);
    sensor.publish(22);
    let part = Names::new(&dir.path().join(SESSION), SESSION, Timestamp::from_ns(0), 22, "pcap").part;
    fs::remove_file(part).unwrap();
    sensor.storage.faults().sync = Some(5);
    eventually(|| sensor.count(|end| &end.unpublished) == 1 && sensor.archive.gone().count() == 1);
    eventually(|| sensor.archive.room.unpublished.claimed() == 0);
    sensor.storage.faults().sync_stall = Duration::ZERO;
    sensor.storage.faults().sync = None;
    sensor.archive.finish();
    assert_eq!(sensor.archive.room.unpublished.claimed(), 0);
}

#[test]
fn room_that_nears_its_end_is_looked_at_before_it_is_used_up() {
    let dir = tempfile::tempdir().unwrap();
    let sensor = sensor(dir.path(), |plan| plan.budget.min_free = Some(MinFree::Bytes(1 << 30)));
    let looks = || sensor.storage.faults().looks;
    eventually(|| looks() > 0);
    // A gigabyte above it: an output writes that within a second.
    sensor.storage.faults().space = Some(Space { free: 2 << 30, total: 1 << 51 });
    let (begin, before) = (Instant::now(), looks());
    eventually(|| looks() > before + 10);
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?} for ten looks", begin.elapsed());
    // With nothing to remove there is no hurry.
    sensor.storage.faults().space = Some(Space { free: 1 << 20, total: 1 << 51 });
    eventually(|| sensor.archive.room().is_starved());
    let (begin, before) = (Instant::now(), looks());
    thread::sleep(Duration::from_millis(1500));
    let looked = looks() - before;
    // One a second, and one that was about to come.
    assert!(looked <= begin.elapsed().as_secs() + 2, "{looked} looks in {:?}", begin.elapsed());
}

#[test]
fn what_cannot_be_removed_makes_no_other_capture_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut sensor = sensor(dir.path(), |plan| plan.budget.min_free = Some(MinFree::Bytes(1000)));
    (10..20).for_each(|number| sensor.publish(number));
    sensor.published(10);
    sensor.storage.faults().remove = Some(1);
    sensor.storage.faults().space = Some(Space { free: 995, total: 1 << 51 });
    eventually(|| sensor.archive.room().is_starved());
    thread::sleep(Duration::from_millis(1500));
    let manifest = || fs::read_to_string(dir.path().join(NAME)).unwrap();
    assert_eq!(manifest().matches("\"pruned\"").count(), 1);
    // The one is enough, even where that does not show at once.
    sensor.storage.faults().remove = None;
    eventually(|| !sensor.archive.room().is_starved());
    thread::sleep(Duration::from_millis(300));
    sensor.archive.finish();
    assert_eq!((manifest().matches("\"pruned\"").count(), sensor.count(|end| &end.pruned)), (1, 1));
    assert!(mismatches(dir.path()).is_empty());
}

#[test]
fn the_names_of_new_directories_survive_a_loss_of_power() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("new/captures");
    fs::create_dir_all(&directory).unwrap();
    let mut sensor = sensor(&directory, |plan| plan.sync = Sync::Publish);
    let base = dir.path().file_name().unwrap().to_str().unwrap();
    let wanted = ["sync captures", "sync new", &format!("sync {base}")].map(str::to_owned);
    assert_eq!(sensor.storage.faults().done[..3], wanted);
    sensor.archive.finish();
}

#[test]
fn captures_whose_lines_a_loss_of_power_took_are_counted_and_can_be_put_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = sensor(dir.path(), |_| ());
    (1..=3).for_each(|number| first.publish(number));
    first.archive.finish();
    // A whole capture, whose line is gone as that of the second is, and what strangers have.
    let session = dir.path().join(SESSION);
    let names = Names::new(&session, SESSION, Timestamp::from_ns(0), 4, "pcap");
    let record = crate::record::pcap::Record { timestamp: Timestamp::from_ns(1_000), orig_len: 60, frame: &[1; 60] };
    let mut bytes = crate::record::pcap::file_header(crate::wire::LinkType::Ethernet, 262_144).to_vec();
    crate::record::format::Format::Pcap.push(&mut bytes, &record, crate::record::contents::Remarks::default());
    fs::write(&names.published, &bytes).unwrap();
    fs::write(session.join("stranger.pcap"), "mine").unwrap();
    let path = dir.path().join(NAME);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.split_inclusive('\n').take(2).collect::<String>()).unwrap();
    let strangers = || {
        let (_, contents) = Manifest::open(&(Arc::new(Faulty::default()) as Arc<dyn Storage>), dir.path()).unwrap();
        takeover::strangers::count(&crate::storage::Disk::default(), dir.path(), &contents)
    };
    assert_eq!(strangers(), takeover::strangers::Strangers { files: 2, bytes: 9 + bytes.len() as u64 });

    // By itself nothing becomes of them.
    let mut second = sensor(dir.path(), |plan| plan.budget.keep_files = Some(1));
    eventually(|| second.count(|end| &end.pruned) == 1);
    second.archive.finish();
    assert_eq!(strangers().files, 2);
    // As they are told.
    fs::rename(&names.published, &names.part).unwrap();
    let mut third = sensor(dir.path(), |_| ());
    eventually(|| third.count(|end| &end.recovered) == 1);
    third.archive.finish();
    assert_eq!(strangers(), takeover::strangers::Strangers { files: 1, bytes: 9 });
    assert_eq!(mismatches(dir.path()).len(), 2, "the other, and the stranger's");
}
