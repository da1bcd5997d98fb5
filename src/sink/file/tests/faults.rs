//! Disks have bad days: whatever they do, the ledger closes, what is published is whole, and the
//! output goes on when the disk is well again.

use super::*;
use crate::archive::Sync;
use crate::evidence::{Algorithm, FileHash};
use crate::record::compress;
use crate::record::read::CaptureReader;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use proptest::prelude::*;

pub(super) const ENOSPC: i32 = libc::ENOSPC;
const EIO: i32 = libc::EIO;

/// Returns the captures by name, with the times of the frames in them, read by the reader of
/// `replay`. Fails where one is not whole.
pub(super) fn captures_in(dir: &Path) -> Vec<(String, Vec<u64>)> {
    let mut found = Vec::new();
    let sessions = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    for session in sessions.filter(|path| !path.ends_with("unsalvageable")) {
        for path in fs::read_dir(session).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            let decoded = compress::reader(fs::File::open(&path).unwrap()).unwrap();
            let mut reader = CaptureReader::new(decoded, &*name).unwrap();
            let mut times = Vec::new();
            while let Some(frame) = reader.next_frame().unwrap_or_else(|error| panic!("{error}")) {
                times.push(frame.timestamp);
            }
            found.push((name, times));
        }
    }
    found.sort();
    found
}

/// Returns the number of frames lost by what pcapng files tell: the statistics at the end, or the
/// records where the storage failed before the end.
fn lost_by_pcapng(files: &[(String, Vec<u64>)], dir: &Path) -> u64 {
    let tells = |name: &String| {
        let decoded = compress::reader(fs::File::open(dir.join(name)).unwrap()).unwrap();
        let mut reader = PcapNgReader::new(decoded).unwrap();
        let (mut records, mut end) = (0, None);
        while let Some(block) = reader.next_block() {
            match block.unwrap().0 {
                Block::EnhancedPacket(packet) => {
                    let count = packet.options.iter().find_map(|option| match option {
                        EnhancedPacketOption::DropCount(count) => Some(*count),
                        _ => None,
                    });
                    records += count.unwrap_or(0);
                }
                Block::InterfaceStatistics(statistics) => {
                    end = statistics.options.iter().find_map(|option| match option {
                        InterfaceStatisticsOption::IsbIfDrop(count) => Some(*count),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        assert!(end.is_none_or(|end| end >= records), "{name}: {end:?}, {records}");
        end.unwrap_or(records)
    };
    files.iter().map(|(name, _)| tells(name)).sum()
}

impl Rig {
    /// Returns the number of frames lost since the last pcapng file that could tell of them.
    fn untold(&self) -> u64 {
        self.sink.sessions.iter().flatten().map(|files| files.untold).sum()
    }

    pub(super) fn flush(&mut self) {
        self.sink.sessions.iter_mut().flatten().for_each(|files| files.flush(&mut self.sink.shared));
    }

    /// Ends the output, and checks that everything adds up: the ledger, the files, and the
    /// manifest.
    pub(super) fn assert_closes(&mut self) {
        self.sink.finish();
        let lost: u64 = OutputDrop::ALL.iter().map(|reason| self.dropped(*reason)).sum();
        assert_eq!(self.written() + lost, self.sent, "frames");
        let files = captures_in(self.dir.path());
        let frames: usize = files.iter().map(|(_, times)| times.len()).sum();
        assert_eq!(frames as u64, self.written(), "frames in files: {files:?}");
        let left: Vec<_> = files.iter().map(|(name, _)| name).filter(|name| name.ends_with(".part")).collect();
        assert!(left.is_empty(), "{left:?}, {} unpublished", self.count(|end| &end.unpublished));
        if self.sink.shared.plan.format == Format::PcapNg {
            assert_eq!(
                lost_by_pcapng(&files, self.dir.path()) + self.untold(),
                lost,
                "losses that pcapng files tell of"
            );
        }
        let mut captures = 0;
        let mut told = 0;
        for line in fs::read_to_string(self.dir.path().join("manifest.jsonl")).unwrap().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let sum = |value: &serde_json::Value| -> u64 {
                value.as_object().into_iter().flatten().map(|(_, n)| n.as_u64().unwrap()).sum()
            };
            told += sum(&line["dropped"]);
            if let Some(path) = line["path"].as_str().filter(|_| line["event"] != "pruned") {
                let bytes = fs::read(self.dir.path().join(path)).unwrap();
                for algorithm in Algorithm::ALL {
                    let is_its = |by: &Algorithm| *by == algorithm;
                    let hash = self.sink.shared.plan.archive.hash.filter(is_its).map(|by| FileHash::of(by, &bytes));
                    assert_eq!(line[algorithm.key()].as_str(), hash.map(|hash| hash.to_string()).as_deref(), "{path}");
                }
                assert_eq!(line["bytes"], bytes.len() as u64, "{path}");
                captures += 1;
            }
        }
        assert_eq!(captures, files.len(), "files in the manifest");
        assert_eq!(told, lost, "losses in the manifest");
    }

    pub(super) fn frames(&mut self, count: u64, length: usize) {
        let start = self.sent;
        let frames: Vec<_> = (start..start + count).map(|n| ((n % 3) as u32, n, length)).collect();
        self.send(&frames);
    }
}

pub(super) fn every_kind() -> impl Iterator<Item = (Format, Option<Compression>)> {
    let compressions = [None, Some(Compression::Lz4), Some(Compression::Zstd(3))];
    Format::ALL.into_iter().flat_map(move |format| compressions.map(|compression| (format, compression)))
}

#[test]
fn short_writes() {
    for (format, compression) in every_kind() {
        let mut rig = rig(|plan| (plan.format, plan.compression, plan.rotate_size) = (format, compression, 20_000));
        rig.storage.faults().short = Some(1001);
        rig.frames(200, 600);
        rig.assert_closes();
        assert_eq!(rig.written(), 200);
    }
}

#[test]
fn each_file_is_on_record_however_it_is_hashed() {
    let hashes = [Some(Algorithm::Blake3), None];
    for ((format, compression), hash) in every_kind().flat_map(|kind| hashes.map(|hash| (kind, hash))) {
        let mut rig = rig(|plan| {
            (plan.format, plan.compression, plan.rotate_size) = (format, compression, 20_000);
            plan.archive.hash = hash;
        });
        rig.frames(200, 600);
        rig.flush();
        // These are cut, or salvaged where they are compressed, which takes few bytes.
        rig.storage.faults().write = Some((77, ENOSPC));
        rig.frames(200, 1000);
        rig.storage.faults().write = None;
        rig.retry_now();
        rig.frames(30, 100);
        rig.assert_closes();
        assert!(rig.written() >= 230 && rig.dropped(OutputDrop::DiskFull) > 0);
    }
}

#[test]
fn the_disk_fills_in_the_middle_of_a_record_and_is_emptied() {
    for (format, compression) in every_kind() {
        for error in [ENOSPC, EIO, libc::EDQUOT, libc::EROFS, libc::EBADF] {
            let mut rig = rig(|plan| {
                (plan.format, plan.compression, plan.linger) = (format, compression, Duration::from_millis(1));
            });
            rig.frames(9, 100);
            std::thread::sleep(Duration::from_millis(3));
            rig.sink.tick(Instant::now(), Timestamp::now());
            assert_eq!(rig.written(), 9);
            rig.storage.faults().write = Some((777, error));
            rig.frames(9000, 1000);
            let full = [ENOSPC, libc::EDQUOT].contains(&error);
            let (reason, other) = if full {
                (OutputDrop::DiskFull, OutputDrop::WriteError)
            } else {
                (OutputDrop::WriteError, OutputDrop::DiskFull)
            };
            assert!(rig.dropped(reason) > 0, "{error} {format} {compression:?}");
            assert_eq!(rig.dropped(other), 0);
            rig.storage.faults().write = None;
            rig.sink.next_sweep = Instant::now();
            rig.retry_now();
            rig.frames(30, 100);
            rig.assert_closes();
            assert!(format != Format::PcapNg || rig.untold() == 0, "{} {compression:?}", rig.untold());
            assert!(rig.written() >= 39, "{} written", rig.written());
            assert_eq!(rig.count(|end| &end.unpublished), 0);
        }
    }
}

#[test]
fn the_disk_fills_at_any_byte_of_the_end_of_a_file() {
    for (format, compression) in every_kind().filter(|(format, _)| *format == Format::PcapNg) {
        for left in 0..250 {
            let mut rig = rig(|plan| (plan.format, plan.compression) = (format, compression));
            rig.send(&[(7, 1, 100)]);
            rig.flush();
            // Told by the statistics, if they are there.
            rig.sink.shared.counters.dropped(OutputDrop::LaneFull).add(5);
            rig.sink.sessions.iter_mut().flatten().for_each(|files| files.note(OutputDrop::LaneFull, 5));
            rig.storage.faults().write = Some((left, ENOSPC));
            rig.sink.sessions.iter_mut().flatten().for_each(|files| files.publish(&mut rig.sink.shared));
            rig.storage.faults().write = None;
            rig.retry_now();
            rig.send(&[(7, 2, 100)]);
            rig.sent += 5;
            rig.assert_closes();
            assert_eq!(rig.untold(), 0);
        }
    }
}

#[test]
fn an_outage_is_over_when_writes_have_succeeded_for_a_while() {
    let mut rig = rig(|_| ());
    rig.frames(30, 100);
    rig.storage.faults().write = Some((0, ENOSPC));
    let flush = |rig: &mut Rig| {
        rig.retry_now();
        rig.frames(3, 100);
        rig.flush();
    };
    flush(&mut rig);
    let began = rig.sink.shared.outage.unwrap().began;
    let tick = |rig: &mut Rig, later: Duration| {
        rig.sink.next_sweep = Instant::now();
        rig.sink.tick(Instant::now() + later, Timestamp::now());
    };
    // A full disk takes a little, and then nothing again.
    for _ in 0..3 {
        rig.storage.faults().write = None;
        flush(&mut rig);
        assert!(rig.sink.shared.outage.unwrap().calm.is_some());
        tick(&mut rig, Duration::ZERO);
        rig.storage.faults().write = Some((0, ENOSPC));
        flush(&mut rig);
        tick(&mut rig, CALM * 2);
        let outage = rig.sink.shared.outage.unwrap();
        assert!(outage.began == began && outage.calm.is_none(), "still the same");
    }
    rig.storage.faults().write = None;
    flush(&mut rig);
    tick(&mut rig, CALM / 2);
    assert!(rig.sink.shared.outage.is_some());
    tick(&mut rig, CALM * 2);
    assert!(rig.sink.shared.outage.is_none());
    rig.assert_closes();
}

#[test]
fn a_file_that_cannot_be_cut_is_salvaged() {
    let mut rig = rig(|_| ());
    rig.frames(300, 1000);
    rig.storage.faults().write = Some((100, EIO));
    rig.storage.faults().cut = Some(EIO);
    rig.frames(300, 1000);
    *rig.storage.faults() = Default::default();
    rig.retry_now();
    rig.frames(30, 100);
    rig.assert_closes();
}

#[test]
fn files_wait_for_a_manifest_that_cannot_be_written() {
    let mut rig = rig(|plan| plan.archive.sync = Sync::Publish);
    rig.frames(30, 100);
    rig.storage.faults().write = Some((u64::MAX, EIO));
    rig.sink.cut();
    rig.published(3);
    // The next three are whole when the disk fails.
    rig.frames(30, 100);
    rig.flush();
    rig.storage.faults().write = Some((0, EIO));
    rig.sink.cut();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(rig.count(|end| &end.files), 3);
    rig.storage.faults().write = None;
    rig.published(6);
    rig.assert_closes();
    assert_eq!(rig.written(), 60);
}

#[test]
fn files_wait_for_a_name_that_cannot_be_given() {
    let mut rig = rig(|_| ());
    rig.frames(30, 100);
    rig.storage.faults().rename = Some(libc::EROFS);
    rig.sink.cut();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(rig.count(|end| &end.files), 0);
    rig.storage.faults().rename = None;
    rig.published(3);
    rig.assert_closes();
    assert_eq!(rig.count(|end| &end.unpublished), 0);
}

#[test]
fn losses_are_on_record_whatever_becomes_of_the_file() {
    let lost = |rig: &Rig| -> u64 {
        let manifest = fs::read_to_string(rig.dir.path().join("manifest.jsonl")).unwrap();
        let dropped = manifest.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let dropped = dropped.map(|line| line["dropped"].as_object().cloned().unwrap_or_default());
        dropped.flat_map(|dropped| dropped.into_iter().map(|(_, n)| n.as_u64().unwrap())).sum()
    };
    let begin = |change: fn(&mut FilePlan)| {
        let mut rig = rig(change);
        rig.send(&[(7, SECOND, 60)]);
        rig.flush();
        rig.sink.sessions.iter_mut().flatten().for_each(|files| files.note(OutputDrop::LaneFull, 5));
        rig
    };
    // It cannot be synced.
    let mut it = begin(|plan| plan.archive.sync = Sync::Publish);
    it.storage.faults().sync = Some(EIO);
    it.sink.cut();
    let start = Instant::now();
    while it.count(|end| &end.unpublished) == 0 {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    it.storage.faults().sync = None;
    it.sink.finish();
    assert_eq!(lost(&it), 5);
    // It cannot get its line until the end, but this.
    let mut it = begin(|plan| plan.archive.sync = Sync::Publish);
    it.storage.faults().append = Some(libc::EROFS);
    it.sink.finish();
    assert_eq!((lost(&it), it.count(|end| &end.unpublished)), (5, 1));
    // It has its line and cannot get its name, and somebody removes it meanwhile: the frame in it
    // is lost too.
    let mut it = begin(|_| ());
    it.storage.faults().rename = Some(libc::EROFS);
    it.sink.cut();
    let start = Instant::now();
    while lost(&it) == 0 {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::remove_file(it.dir.path().join(&it.files()[0].0)).unwrap();
    it.storage.faults().rename = None;
    it.sink.finish();
    assert_eq!(lost(&it), 6);
    // The same just when it gets its name.
    let mut it = begin(|_| ());
    it.storage.faults().rename = Some(libc::ENOENT);
    it.sink.finish();
    assert_eq!(lost(&it), 6);
    // It is removed with its directory, just before it is published.
    let mut it = begin(|plan| plan.format = Format::PcapNg);
    fs::remove_dir_all(it.dir.path()).unwrap();
    it.sink.cut();
    let start = Instant::now();
    while it.dropped(OutputDrop::WriteError) == 0 {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
        it.sink.hear_of_gone();
    }
    it.retry_now();
    it.send(&[(7, 2 * SECOND, 60)]);
    it.sink.finish();
    assert!(!it.dir.path().join("manifest.jsonl").exists(), "its manifest is gone, and it gets no other");
    assert_eq!((it.count(|end| &end.unpublished), it.count(|end| &end.manifest_changed)), (1, 1));
    assert_eq!((it.written(), it.dropped(OutputDrop::WriteError)), (1, 1));
    let files = captures_in(it.dir.path());
    assert_eq!(files.len(), 1);
    assert_eq!(lost_by_pcapng(&files, it.dir.path()), 1, "the frame that was in the file");
}

#[test]
fn a_removed_directory_gets_part_files_which_the_next_start_takes_up() {
    let mut rig = rig(|_| ());
    rig.frames(30, 100);
    rig.sink.cut();
    rig.published(3);
    fs::remove_dir_all(rig.dir.path()).unwrap();
    let begin = Instant::now();
    while rig.count(|end| &end.manifest_changed) == 0 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    rig.frames(30, 100);
    rig.sink.finish();
    assert_eq!(rig.written() + rig.dropped(OutputDrop::WriteError), rig.sent);
    let left = captures_in(rig.dir.path());
    assert!(left.iter().all(|(name, _)| name.ends_with(".part")), "{left:?}");
    assert_eq!((rig.count(|end| &end.files), rig.count(|end| &end.unpublished)), (3, left.len() as u64));
    let manifest = rig.dir.path().join("manifest.jsonl");
    assert!(!manifest.exists());
    let Rig { dir, sink, .. } = rig;
    drop(sink);
    let mut rig = super::crash::restart(dir, |_| ());
    rig.sink.finish();
    assert_eq!(captures_in(rig.dir.path()).iter().map(|(_, times)| times.len()).sum::<usize>(), 30);
    assert_eq!(fs::read_to_string(manifest).unwrap().lines().count(), left.len());
}

#[test]
fn a_stall_holds_up_nothing_for_good() {
    let mut rig = rig(|plan| plan.rotate_size = 4096);
    rig.storage.faults().stall = Duration::from_millis(5);
    rig.frames(100, 1000);
    rig.assert_closes();
    assert_eq!(rig.written(), 100);
}

#[test]
fn what_is_published_was_synced_before_in_the_right_order() {
    let mut rig = rig(|plan| plan.archive.sync = Sync::Publish);
    rig.send(&[(7, SECOND, 60)]);
    rig.sent = 1;
    rig.assert_closes();
    let done = rig.storage.faults().done.clone();
    let file = "vni7_192.0.2.1_19700101T000001Z_000001.pcap";
    let base = rig.dir.path().file_name().unwrap().to_str().unwrap().to_owned();
    let wanted = [
        format!("create {file}.part"),
        format!("write {file}.part"),
        format!("sync {file}.part"),
        "write manifest.jsonl".into(),
        "sync manifest.jsonl".into(),
        format!("rename {file}"),
        "sync vni7_192.0.2.1".into(),
        format!("sync {base}"),
    ];
    // The syncs of the start came before.
    let done: Vec<_> = done.into_iter().skip_while(|what| !what.starts_with("create")).collect();
    assert_eq!(done, wanted);
}

#[test]
fn a_file_that_cannot_be_synced_keeps_its_part_name() {
    let mut rig = rig(|plan| plan.archive.sync = Sync::Publish);
    rig.send(&[(7, SECOND, 60)]);
    rig.storage.faults().sync = Some(EIO);
    rig.sink.finish();
    assert_eq!(rig.count(|end| &end.unpublished), 1);
    assert!(rig.files()[0].0.ends_with(".part"));
}

#[test]
fn a_file_that_cannot_be_opened_to_be_synced_waits() {
    let mut rig = rig(|plan| plan.archive.sync = Sync::Publish);
    rig.send(&[(7, SECOND, 60)]);
    rig.storage.faults().append = Some(libc::EROFS);
    rig.sink.cut();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(rig.count(|end| &end.files), 0);
    rig.storage.faults().append = None;
    rig.published(1);
    assert_eq!(rig.count(|end| &end.unpublished), 0);
}

#[test]
fn what_waits_is_bounded_and_left_to_the_next_start() {
    let mut rig = rig(|plan| plan.rotate_frames = Some(1));
    rig.storage.faults().rename = Some(libc::EROFS);
    let files = 10_050;
    rig.frames(files, 14);
    rig.sink.finish();
    assert_eq!(rig.count(|end| &end.files), 0);
    assert_eq!(rig.count(|end| &end.unpublished), files);
    let Rig { dir, sink, .. } = rig;
    drop(sink);
    let mut rig = rig_in(dir, |_| ());
    let begin = Instant::now();
    while rig.count(|end| &end.recovered) < files {
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", rig.count(|end| &end.recovered));
        std::thread::sleep(Duration::from_millis(10));
    }
    rig.sink.finish();
    assert_eq!(captures_in(rig.dir.path()).len() as u64, files);
}

#[test]
fn losses_that_cannot_be_put_on_record_wait_and_add_up() {
    let mut rig = rig(|_| ());
    rig.storage.faults().write = Some((u64::MAX, EIO));
    let mut removed = 0;
    for _ in 0..2 {
        rig.frames(30, 100);
        for files in rig.sink.sessions.iter_mut().flatten() {
            files.flush(&mut rig.sink.shared);
        }
        rig.storage.faults().write = Some((0, EIO));
        for (name, times) in rig.files().into_iter().filter(|(name, _)| name.starts_with("vni1_")) {
            fs::remove_file(rig.dir.path().join(name)).unwrap();
            removed += times.len() as u64;
        }
        rig.sink.cut();
        std::thread::sleep(Duration::from_millis(50));
        rig.storage.faults().write = Some((u64::MAX, EIO));
    }
    rig.sink.finish();
    let manifest = fs::read_to_string(rig.dir.path().join("manifest.jsonl")).unwrap();
    let lost: Vec<_> = manifest.lines().filter(|line| line.contains("\"lost\"")).collect();
    assert!(lost.iter().all(|line| line.contains("write_error")), "{lost:?}");
    let lost: u64 = lost
        .iter()
        .map(|line| line.split("\"write_error\":").nth(1).unwrap())
        .map(|rest| rest.split('}').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!((lost, rig.dropped(OutputDrop::WriteError)), (removed, removed));
}

/// Something that happens to a sensor.
#[derive(Debug, Clone)]
enum Happening {
    Frames(u64, usize),
    Short(usize),
    Writes(u64, i32),
    Creates(i32),
    Cuts(i32),
    Well,
    Cut,
    Flush,
}

fn happening() -> impl Strategy<Value = Happening> {
    let error = || prop::sample::select(vec![ENOSPC, EIO, libc::EBADF]);
    prop_oneof![
        4 => (1u64..700, 14usize..1500).prop_map(|(count, length)| Happening::Frames(count, length)),
        1 => (1usize..5000).prop_map(Happening::Short),
        1 => (0u64..100_000, error()).prop_map(|(left, error)| Happening::Writes(left, error)),
        1 => error().prop_map(Happening::Creates),
        1 => error().prop_map(Happening::Cuts),
        2 => Just(Happening::Well),
        1 => Just(Happening::Cut),
        1 => Just(Happening::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_happens_it_adds_up(
        kind in prop::sample::select(every_kind().collect::<Vec<_>>()),
        open_files in 1usize..5,
        rotate in 4096u64..200_000,
        happenings in prop::collection::vec(happening(), 1..30),
    ) {
        let mut rig = rig(|plan| {
            (plan.format, plan.compression) = kind;
            (plan.open_files, plan.rotate_size) = (open_files, rotate);
        });
        for happening in happenings {
            match happening {
                Happening::Frames(count, length) => rig.frames(count, length),
                Happening::Short(length) => rig.storage.faults().short = Some(length),
                Happening::Writes(left, error) => rig.storage.faults().write = Some((left, error)),
                Happening::Creates(error) => rig.storage.faults().create = Some(error),
                Happening::Cuts(error) => rig.storage.faults().cut = Some(error),
                Happening::Well => {
                    *rig.storage.faults() = Default::default();
                    rig.retry_now();
                }
                Happening::Cut => rig.sink.cut(),
                Happening::Flush => rig.flush(),
            }
        }
        *rig.storage.faults() = Default::default();
        rig.assert_closes();
    }
}
