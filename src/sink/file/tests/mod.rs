use super::shared::CALM;
use super::*;
use crate::lane::Chunk;
use crate::ledger::{OutputCounters, Totals};
use crate::record::compress::Compression;
use crate::record::format::Format;
use crate::record::{Timestamp, pcap};
use crate::route::SessionTable;
use crate::session::Session;
use crate::storage::Direct;
use crate::storage::faulty::Faulty;
use crate::wire::Vni;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::{fs, io};

mod batch;
mod budget;
mod condition;
mod crash;
mod faults;
mod kinds;
mod named;
mod rest;
mod tampered;

struct Rig {
    dir: tempfile::TempDir,
    storage: Faulty,
    table: SessionTable,
    output: Output,
    sink: FileSink,
    sent: u64,
}

const SECOND: u64 = 1_000_000_000;

/// Plans files of one kind that are cut by nothing.
pub(crate) fn plan(directory: &Path) -> FilePlan {
    FilePlan {
        rotate_size: 1 << 30,
        // Never by the clock, unless the test says so: the tests' times are long past.
        rotate_time: Duration::from_secs(u64::from(u32::MAX)),
        linger: Duration::from_secs(1000),
        buffer_memory: 1 << 20,
        open_files: 10,
        ..FilePlan::new(directory)
    }
}

fn rig(change: impl FnOnce(&mut FilePlan)) -> Rig {
    rig_in(tempfile::tempdir().unwrap(), change)
}

fn rig_in(dir: tempfile::TempDir, change: impl FnOnce(&mut FilePlan)) -> Rig {
    rig_on(Faulty::default(), dir, change)
}

fn rig_on(storage: Faulty, dir: tempfile::TempDir, change: impl FnOnce(&mut FilePlan)) -> Rig {
    let registry = Arc::new(Registry::new(1000));
    let mut plan = plan(dir.path());
    change(&mut plan);
    let mut output = Output { name: "pcap".into(), ends: Vec::new() };
    let sink = FileSink::on(Arc::new(storage.clone()), plan, Arc::clone(&registry), &mut output, Vec::new()).unwrap();
    Rig { table: SessionTable::new(registry), dir, storage, output, sink, sent: 0 }
}

impl Rig {
    fn id(&mut self, vni: u32) -> SessionId {
        let source = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        self.table.find_and_count(Session::vxlan(source, Vni::new(vni).unwrap()), 0, Timestamp::from_ns(0))
    }

    /// Returns a counter, over all ends.
    fn count(&self, counter: impl Fn(&OutputCounters) -> &crate::ledger::Counter) -> u64 {
        self.output.ends.iter().map(|end| counter(end).get()).sum()
    }

    fn dropped(&self, reason: OutputDrop) -> u64 {
        self.output.totals().settled().value(&format!("dropped.{}", reason.label())).unwrap()
    }

    fn written(&self) -> u64 {
        self.output.totals().settled().value("written").unwrap()
    }

    /// Waits until so many files are published: the archive has a thread of its own.
    fn published(&self, files: u64) {
        let begin = Instant::now();
        while self.count(|end| &end.files) < files {
            assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", self.files());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn retry_now(&mut self) {
        self.sink.shared.outage.iter_mut().for_each(|outage| outage.retry = Instant::now());
        for files in self.sink.sessions.iter_mut().flatten() {
            files.retry_now();
        }
    }

    /// Sends frames (VNI, time in ns, length) through chunks.
    fn send(&mut self, frames: &[(u32, u64, usize)]) {
        let mut chunk = Chunk::new(0);
        self.sent += frames.len() as u64;
        for (vni, time, length) in frames {
            if !chunk.fits(*length) {
                self.sink.consume(&Arc::new(std::mem::replace(&mut chunk, Chunk::new(0)).into()));
            }
            let id = self.id(*vni);
            chunk.push(id, Timestamp::from_ns(*time), &vec![*vni as u8; *length], *length as u32);
        }
        self.sink.consume(&Arc::new(chunk.into()));
    }

    /// Returns all files under the directory in the order of their names: relative name, and
    /// receive times of the frames.
    fn files(&self) -> Vec<(String, Vec<u64>)> {
        let mut found = Vec::new();
        for session in fs::read_dir(self.dir.path()).unwrap() {
            let session = session.unwrap().path();
            if session.is_dir() {
                for file in fs::read_dir(session).unwrap() {
                    let path = file.unwrap().path();
                    let bytes = fs::read(&path).unwrap();
                    let times = match bytes.split_at_checked(pcap::FILE_HEADER_LEN) {
                        Some((header, records)) => {
                            assert_eq!(header, pcap::file_header(crate::wire::LinkType::Ethernet, 262_144));
                            let times: Vec<u64> = pcap::records(records).map(|r| r.timestamp.ns()).collect();
                            let whole: usize = pcap::records(records).map(|r| r.len()).sum();
                            assert_eq!(whole, records.len(), "{} ends in half a record", path.display());
                            times
                        }
                        None => Vec::new(),
                    };
                    let name = path.strip_prefix(self.dir.path()).unwrap().to_str().unwrap().to_owned();
                    found.push((name, times));
                }
            }
        }
        found.sort();
        found
    }
}

#[test]
fn a_capture_of_last_year_is_cut_by_its_own_time() {
    let minute = 60 * SECOND;
    let sent = |clock| {
        let mut rig = rig(|plan| {
            (plan.clock, plan.rotate_time) = (clock, Duration::from_secs(60));
            plan.linger = Duration::from_millis(1);
        });
        let mut now = Instant::now();
        for time in [1, 2, 3, 4] {
            rig.send(&[(7, time * SECOND, 100)]);
            now += Duration::from_secs(1);
            rig.sink.tick(now, Timestamp::now());
        }
        // Another session of a later time says nothing of the first.
        rig.send(&[(8, minute + SECOND, 100)]);
        rig.sink.tick(now + Duration::from_secs(1), Timestamp::now());
        let open: Vec<usize> =
            rig.sink.sessions.iter().flatten().map(|files| usize::from(files.open_bytes() > 0)).collect();
        rig.sink.finish();
        let times: Vec<Vec<u64>> = rig.files().into_iter().map(|(_, times)| times).collect();
        (open, times)
    };
    let first = (1..=4).map(|time| time * SECOND).collect();
    assert_eq!(sent(Clock::Frames), (vec![1, 1], vec![first, vec![minute + SECOND]]));
    assert_eq!(sent(Clock::Wall).1.len(), 5, "a file for each look");
}

#[test]
fn a_wild_time_and_inputs_of_different_days_cut_no_other_file() {
    const DAY: u64 = 86_400 * SECOND;
    let minute = 60 * SECOND;
    let mut rig = rig(|plan| {
        (plan.clock, plan.rotate_time) = (Clock::Frames, Duration::from_secs(60));
        plan.linger = Duration::from_millis(1);
    });
    let mut now = Instant::now();
    // A frame of the year 2106, then two inputs of which one is of ten days later, turn by turn.
    rig.send(&[(9, 136 * 365 * DAY, 100)]);
    for second in 1..=5 {
        rig.send(&[(7, second * SECOND, 100), (8, 10 * DAY + second * SECOND, 100)]);
        now += Duration::from_secs(1);
        rig.sink.tick(now, Timestamp::now());
    }
    // The files end by their own frames.
    rig.send(&[(7, minute + SECOND, 100)]);
    rig.sink.finish();
    let times = |from: u64| (1..=5).map(|second| from + second * SECOND).collect::<Vec<u64>>();
    let mut found: Vec<Vec<u64>> = rig.files().into_iter().map(|(_, times)| times).collect();
    found.sort();
    assert_eq!(found, [times(0), vec![minute + SECOND], times(10 * DAY), vec![136 * 365 * DAY]]);
}

#[test]
fn the_time_of_day_that_ends_a_file_is_handed_in() {
    let mut rig = rig(|plan| {
        (plan.clock, plan.rotate_time) = (Clock::Wall, Duration::from_secs(60));
        plan.linger = Duration::from_millis(1);
    });
    let is_open = |rig: &Rig| rig.sink.sessions.iter().flatten().any(|files| files.open_bytes() > 0);
    rig.send(&[(7, 61 * SECOND, 100)]);
    let now = Instant::now();
    rig.sink.tick(now + Duration::from_secs(1), Timestamp::from_ns(119 * SECOND));
    assert!(is_open(&rig));
    rig.sink.tick(now + Duration::from_secs(2), Timestamp::from_ns(121 * SECOND));
    assert!(!is_open(&rig));
}

#[test]
fn the_storage_hears_how_full_the_queue_is() {
    let mut rig = rig(|_| ());
    rig.sink.behind(600);
    assert_eq!(rig.storage.faults().behind, 600);
}

#[test]
fn one_file_per_session_named_and_published_at_the_end() {
    let mut rig = rig(|_| ());
    rig.send(&[(7, SECOND, 60), (8, 2 * SECOND, 60), (7, 3 * SECOND, 9000)]);
    assert!(rig.files().iter().all(|(name, _)| name.ends_with(".part")));
    rig.sink.finish();
    let first = "vni7_192.0.2.1/vni7_192.0.2.1_19700101T000001Z_000001.pcap".to_owned();
    let second = "vni8_192.0.2.1/vni8_192.0.2.1_19700101T000002Z_000001.pcap".to_owned();
    assert_eq!(rig.files(), [(first, vec![SECOND, 3 * SECOND]), (second, vec![2 * SECOND])]);
    assert_eq!((rig.written(), rig.count(|end| &end.written_bytes)), (3, 9120));
    assert_eq!(rig.count(|end| &end.files), 2);
    // Not for everybody's eyes.
    let mode = |path: &str| {
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(rig.dir.path().join(path)).unwrap().permissions())
    };
    assert_eq!(mode("vni7_192.0.2.1") & 0o027, 0);
    assert_eq!(mode(&rig.files()[0].0) & 0o137, 0);
}

#[test]
fn sessions_beyond_the_limit_share_the_overflow_file() {
    let mut rig = rig(|_| ());
    let mut chunk = Chunk::new(0);
    chunk.push(SessionId::OVERFLOW, Timestamp::from_ns(1), &[0; 60], 60);
    rig.sink.consume(&Arc::new(chunk.into()));
    rig.sink.finish();
    assert_eq!(rig.files()[0].0, "overflow/overflow_19700101T000000Z_000001.pcap");
}

#[test]
fn rotation_by_size_loses_nothing_and_holds_the_limit() {
    for (length, limit) in [(60, 10_000), (1400, 100_000), (1400, 5_000), (9000, 4096)] {
        let mut rig = rig(|plan| plan.rotate_size = limit);
        let frames: Vec<_> = (0..3000).map(|i| (7, i, length)).collect();
        rig.send(&frames);
        rig.sink.finish();
        let files = rig.files();
        assert!(files.len() > 10, "{}", files.len());
        let times: Vec<u64> = files.iter().flat_map(|(_, times)| times.clone()).collect();
        assert_eq!(times, (0..3000).collect::<Vec<u64>>());
        for (name, times) in &files {
            let size = fs::metadata(rig.dir.path().join(name)).unwrap().len();
            assert!(size <= limit || times.len() == 1, "{name} has {size} bytes, {} frames", times.len());
        }
        assert_eq!(rig.count(|end| &end.files), files.len() as u64);
    }
}

#[test]
fn rotation_by_time_cuts_at_multiples_of_the_interval() {
    let mut rig = rig(|plan| plan.rotate_time = Duration::from_secs(10));
    // One chunk over three intervals; the fourth frame came late.
    rig.send(&[
        (7, 3 * SECOND, 60),
        (7, 9 * SECOND, 60),
        (7, 10 * SECOND, 60),
        (7, 9 * SECOND, 60),
        (7, 31 * SECOND, 60),
    ]);
    rig.sink.finish();
    let times: Vec<_> = rig.files().into_iter().map(|(_, times)| times).collect();
    assert_eq!(times, [vec![3 * SECOND, 9 * SECOND], vec![10 * SECOND, 9 * SECOND], vec![31 * SECOND]]);
}

#[test]
fn a_clock_that_is_set_back_ends_a_file() {
    let mut rig = rig(|plan| plan.rotate_time = Duration::from_secs(10));
    rig.send(&[(7, 103 * SECOND, 60), (7, 51 * SECOND, 60), (7, 52 * SECOND, 60), (7, 61 * SECOND, 60)]);
    rig.send(&[(8, 52 * SECOND, 60), (7, 20 * SECOND, 60)]);
    // It makes no difference that the session is idle.
    let now = Timestamp::now().ns();
    rig.send(&[(9, now + 3600 * SECOND, 60)]);
    rig.sink.tick(Instant::now(), Timestamp::now());
    rig.published(6);
    let times: Vec<_> = rig.files().into_iter().map(|(_, times)| times).collect();
    let seconds: Vec<_> = times[..5].iter().map(|t| t.iter().map(|t| t / SECOND).collect::<Vec<_>>()).collect();
    assert_eq!(seconds, [vec![20], vec![51, 52], vec![61], vec![103], vec![52]]);
    assert!(rig.files().iter().all(|(name, _)| name.ends_with(".pcap")), "{:?}", rig.files());
}

#[test]
fn many_open_files_do_not_have_more_than_half_of_the_budget() {
    let keep = 100_000;
    let mut rig = rig(|plan| {
        plan.linger = Duration::from_millis(1);
        plan.open_files = 100;
        plan.archive.budget.keep_bytes = Some(keep);
    });
    for round in 0..20 {
        let frames: Vec<_> = (0..64).map(|n| (n, u64::from(n) + 64 * round, 600)).collect();
        rig.send(&frames);
        std::thread::sleep(Duration::from_millis(3));
        rig.sink.tick(Instant::now(), Timestamp::now());
        let open: u64 = rig.sink.sessions.iter().flatten().map(SessionFiles::open_bytes).sum();
        assert!(open <= keep / 2, "{open}");
    }
    rig.sink.finish();
    let bytes: u64 = rig.files().iter().map(|(name, _)| fs::metadata(rig.dir.path().join(name)).unwrap().len()).sum();
    assert!(bytes <= keep, "{bytes}");
    assert!(bytes > keep / 3, "{bytes}");
    assert_eq!(rig.written(), rig.sent);
}

#[test]
fn an_idle_file_ends_with_its_interval() {
    let mut rig = rig(|plan| plan.rotate_time = Duration::from_secs(10));
    rig.send(&[(7, 3 * SECOND, 60)]);
    rig.sink.tick(Instant::now(), Timestamp::now());
    rig.published(1);
    assert!(rig.files()[0].0.ends_with(".pcap"));
}

#[test]
fn buffered_records_reach_the_part_file_in_time() {
    let mut rig = rig(|plan| plan.linger = Duration::from_millis(1));
    rig.send(&[(7, 1, 60)]);
    std::thread::sleep(Duration::from_millis(5));
    rig.sink.tick(Instant::now(), Timestamp::now());
    let files = rig.files();
    assert!(files[0].0.ends_with(".part"));
    assert_eq!(files[0].1, [1]);
}

#[test]
fn nothing_is_written_early_when_the_end_is_near() {
    let mut rig = rig(|plan| {
        plan.linger = Duration::from_millis(1);
        plan.compression = Some(Compression::Zstd(3));
    });
    rig.sink.drain();
    for vni in 0..20 {
        rig.send(&[(vni, 1, 60)]);
    }
    std::thread::sleep(Duration::from_millis(5));
    rig.sink.tick(Instant::now(), Timestamp::now());
    assert!(rig.sink.sessions.iter().flatten().all(|files| !files.compresses()));
    rig.sink.finish();
    assert_eq!(rig.written(), 20);
    rig.published(20);
}

#[test]
fn many_sessions_with_few_descriptors_and_little_memory() {
    let mut rig = rig(|plan| (plan.open_files, plan.buffer_memory) = (4, 20_000));
    let frames: Vec<_> = (0..10_000).map(|i| ((i % 97) as u32, i, 60)).collect();
    rig.send(&frames);
    assert!(rig.sink.shared.buffered <= 20_000 + 2 * 64 * 1024);
    rig.sink.finish();
    let files = rig.files();
    assert_eq!(files.len(), 97);
    for (name, times) in files {
        let vni: u64 = name.strip_prefix("vni").unwrap().split('_').next().unwrap().parse().unwrap();
        assert_eq!(times, (0..10_000).filter(|i| i % 97 == vni).collect::<Vec<_>>());
    }
    assert_eq!(rig.written(), 10_000);
}

#[test]
fn names_that_are_taken_are_left_alone() {
    let mut rig = rig(|_| ());
    let dir = rig.dir.path().join("vni7_192.0.2.1");
    fs::create_dir(&dir).unwrap();
    let taken = dir.join("vni7_192.0.2.1_19700101T000000Z_000001.pcap");
    fs::write(&taken, pcap::file_header(crate::wire::LinkType::Ethernet, 262_144)).unwrap();
    fs::write(
        dir.join("vni7_192.0.2.1_19700101T000000Z_000002.pcap.part"),
        pcap::file_header(crate::wire::LinkType::Ethernet, 262_144),
    )
    .unwrap();
    rig.send(&[(7, 1, 60)]);
    rig.sink.finish();
    let files = rig.files();
    assert_eq!(files.len(), 3);
    assert!(files[2].0.ends_with("_000003.pcap"));
    assert_eq!(fs::read(taken).unwrap().len(), pcap::FILE_HEADER_LEN);
}

#[test]
fn a_session_that_cannot_be_written_costs_its_own_frames_and_recovers() {
    let mut rig = rig(|_| ());
    // A file where the session's directory should be.
    let obstacle = rig.dir.path().join("vni7_192.0.2.1");
    fs::write(&obstacle, b"").unwrap();
    rig.send(&[(7, 1, 60), (7, 2, 60)]);
    rig.send(&[(7, 3, 60), (8, 4, 60)]);
    assert_eq!(rig.dropped(OutputDrop::WriteError), 3);
    fs::remove_file(obstacle).unwrap();
    rig.send(&[(7, 5, 60)]);
    assert_eq!(rig.dropped(OutputDrop::WriteError), 4, "not tried again yet");
    rig.retry_now();
    rig.send(&[(7, 6, 60)]);
    rig.sink.finish();
    assert!(rig.sink.shared.outage.is_none());
    assert_eq!(rig.files().into_iter().map(|(_, t)| t).collect::<Vec<_>>(), [vec![6], vec![4]]);
    assert_eq!(rig.written(), 2);
}

#[test]
fn a_file_that_somebody_removed_is_noticed_and_its_frames_are_lost() {
    let mut rig = rig(|plan| plan.linger = Duration::from_millis(1));
    rig.send(&[(7, 1, 60), (8, 2, 60)]);
    std::thread::sleep(Duration::from_millis(5));
    rig.sink.tick(Instant::now(), Timestamp::now());
    assert_eq!(rig.written(), 2);
    rig.send(&[(7, 3, 60)]);
    fs::remove_dir_all(rig.dir.path().join("vni7_192.0.2.1")).unwrap();
    rig.sink.tick(Instant::now() + Duration::from_secs(2), Timestamp::now());
    assert_eq!(rig.dropped(OutputDrop::WriteError), 2);
    rig.send(&[(7, 4, 60)]);
    // Removed again, just before the end.
    rig.send(&[(8, 5, 60)]);
    fs::remove_dir_all(rig.dir.path().join("vni8_192.0.2.1")).unwrap();
    rig.sink.finish();
    assert_eq!(rig.files().into_iter().map(|(_, t)| t).collect::<Vec<_>>(), [vec![4]]);
    assert_eq!((rig.written(), rig.dropped(OutputDrop::WriteError)), (1, 4));
    let bytes = rig.output.totals().settled().value("written_bytes").unwrap();
    assert_eq!((bytes, rig.count(|end| &end.unpublished)), (60, 0));
}

#[test]
fn a_directory_that_cannot_be_used_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let text = prepare(&file.join("captures")).unwrap_err().to_string();
    assert!(text.contains("part of that path is a file") && text.contains("file/captures"), "{text}");
    let text = prepare(Path::new("/proc/captures")).unwrap_err().to_string();
    assert!(text.contains("no place for files"), "{text}");
    prepare(&dir.path().join("a/b")).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 0);
}
