//! The budget says how much is kept, here on a storage that fails.

use super::faults::ENOSPC;
use super::*;
use crate::archive::{BudgetPlan, MinFree};
use crate::record::Timestamp;
use crate::storage::Space;

#[test]
fn what_somebody_else_removed_is_missing_and_not_pruned() {
    let mut rig = rig(|plan| {
        plan.rotate_frames = Some(1);
        plan.archive.budget = BudgetPlan { keep_files: Some(5), ..BudgetPlan::default() };
    });
    let frames: Vec<_> = (1..=5).map(|n| (7, n * SECOND, 60)).collect();
    rig.send(&frames);
    rig.sink.cut();
    rig.published(5);
    // The newest: the budget has room for as many again.
    let removed: Vec<_> = rig.files().into_iter().map(|(name, _)| name).skip(2).collect();
    removed.iter().for_each(|name| fs::remove_file(rig.dir.path().join(name)).unwrap());
    rig.send(&[(7, 6 * SECOND, 60), (7, 7 * SECOND, 60)]);
    rig.sink.finish();
    assert_eq!(rig.files().len(), 4);
    let manifest = fs::read_to_string(rig.dir.path().join("manifest.jsonl")).unwrap();
    assert_eq!((manifest.matches("\"pruned\"").count(), rig.count(|end| &end.pruned)), (0, 0), "{manifest}");
    let quiet = (std::sync::atomic::AtomicBool::new(false), crate::console::Console::default());
    let report = crate::verify::run(rig.dir.path(), None, &quiet.0, &quiet.1).unwrap();
    assert_eq!(report.mismatches.len(), removed.len(), "{:?}", report.mismatches);
}

#[test]
fn the_budget_removes_the_oldest_of_all_sessions_and_says_so() {
    let mut rig = rig(|plan| {
        plan.rotate_frames = Some(1);
        plan.archive.budget = BudgetPlan { keep_files: Some(4), ..BudgetPlan::default() };
    });
    let stranger = rig.dir.path().join("vni9_192.0.2.9");
    fs::create_dir(&stranger).unwrap();
    let stranger = stranger.join("vni9_192.0.2.9_19700101T000000Z_000001.pcap");
    fs::write(&stranger, pcap::file_header(crate::wire::LinkType::Ethernet, 262_144)).unwrap();
    let frames: Vec<_> = (1..=20).map(|n| (n % 3, u64::from(n) * SECOND, 60)).collect();
    rig.send(&frames);
    rig.sink.finish();
    let left: Vec<u64> =
        rig.files().into_iter().filter(|(name, _)| !name.starts_with("vni9")).flat_map(|(_, t)| t).collect();
    let mut left: Vec<_> = left.into_iter().map(|time| time / SECOND).collect();
    left.sort_unstable();
    assert_eq!(left, [17, 18, 19, 20]);
    assert!(stranger.exists(), "not of this output");
    assert_eq!((rig.count(|end| &end.pruned), rig.count(|end| &end.files)), (16, 20));

    // After a restart the files of before count.
    let Rig { dir, sink, .. } = rig;
    drop(sink);
    let mut rig = rig_in(dir, |plan| {
        plan.archive.budget = BudgetPlan { keep_files: Some(3), ..BudgetPlan::default() };
    });
    rig.send(&[(7, 100 * SECOND, 60)]);
    rig.sink.finish();
    assert_eq!(rig.count(|end| &end.pruned), 2);
    assert_eq!(rig.files().len(), 4);
}

#[test]
fn what_is_within_the_budget_stays() {
    let budget = BudgetPlan { keep_bytes: Some(101_500), ..BudgetPlan::default() };
    let mut rig = rig(|plan| (plan.archive.budget, plan.rotate_frames) = (budget, Some(10)));
    // 99 records of 1016 bytes and a few headers, of which the budget must not count any twice: not
    // when files are cut, and not at the end.
    for _ in 0..9 {
        rig.frames(11, 1000);
        rig.flush();
        rig.sink.next_sweep = Instant::now();
        rig.sink.tick(Instant::now(), Timestamp::now());
    }
    rig.assert_closes();
    assert_eq!(rig.count(|end| &end.pruned), 0);
    assert_eq!(rig.written(), 99);
}

#[test]
fn a_budget_on_a_full_disk_makes_room_first() {
    let mut rig = rig(|plan| {
        plan.rotate_frames = Some(1);
        plan.archive.budget = BudgetPlan { min_free: Some(MinFree::Bytes(1000)), ..BudgetPlan::default() };
    });
    rig.send(&[(7, SECOND, 60), (7, 2 * SECOND, 60), (7, 3 * SECOND, 60)]);
    rig.published(2);
    rig.storage.faults().write = Some((0, ENOSPC));
    // Two files make the difference.
    rig.storage.faults().space = Some(Space { free: 850, total: 10_000 });
    let begin = Instant::now();
    while rig.count(|end| &end.pruned) < 2 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    rig.storage.faults().space = Some(Space { free: 5000, total: 10_000 });
    rig.storage.faults().write = None;
    rig.sink.finish();
    assert_eq!(rig.files().into_iter().map(|(_, times)| times).collect::<Vec<_>>(), [[3 * SECOND]]);
    let manifest = fs::read_to_string(rig.dir.path().join("manifest.jsonl")).unwrap();
    assert_eq!(manifest.matches("\"pruned\"").count(), 2, "recorded when there was room again");
}

#[test]
fn what_a_file_system_gives_back_is_believed() {
    let removed = |block, least| {
        let mut rig = rig(|plan| {
            plan.rotate_frames = Some(1);
            plan.archive.budget = BudgetPlan { min_free: Some(MinFree::Bytes(10_000)), ..BudgetPlan::default() };
        });
        rig.storage.faults().block = block;
        rig.frames(9, 60);
        rig.sink.cut();
        rig.published(9);
        // Three files have fewer bytes than are missing, and one has more blocks.
        rig.storage.faults().space = Some(Space { free: 9_700, total: 100_000 });
        let begin = Instant::now();
        while rig.count(|end| &end.pruned) < least {
            assert!(begin.elapsed() < Duration::from_secs(10), "{} went", rig.count(|end| &end.pruned));
            std::thread::sleep(Duration::from_millis(5));
        }
        // It is looked at again and again.
        std::thread::sleep(Duration::from_millis(300));
        rig.sink.finish();
        rig.count(|end| &end.pruned)
    };
    assert_eq!(removed(4096, 1), 1);
    // By their bytes, where it does not show yet.
    assert_eq!(removed(0, 3), 3);
}

#[test]
fn without_room_that_may_be_used_nothing_is_written() {
    let mut rig =
        rig(|plan| plan.archive.budget = BudgetPlan { min_free: Some(MinFree::Permille(50)), ..BudgetPlan::default() });
    rig.storage.faults().space = Some(Space { free: 499, total: 10_000 });
    let wait = |rig: &Rig, starved| {
        let begin = Instant::now();
        while rig.sink.shared.archive.room().is_starved() != starved {
            assert!(begin.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait(&rig, true);
    rig.frames(30, 60);
    assert_eq!(rig.dropped(OutputDrop::DiskFull), 30);
    rig.storage.faults().space = Some(Space { free: 501, total: 10_000 });
    wait(&rig, false);
    rig.frames(30, 60);
    rig.assert_closes();
    assert_eq!(rig.written(), 30);
}

#[test]
fn while_the_archive_is_busy_the_last_room_is_left() {
    let room = |free| Some(Space { free, total: 100_000 });
    let storage = Faulty::default();
    storage.faults().space = room(1500);
    let mut rig = rig_on(storage, tempfile::tempdir().unwrap(), |plan| {
        plan.archive.budget = BudgetPlan { min_free: Some(MinFree::Bytes(1000)), ..BudgetPlan::default() };
        plan.archive.sync = crate::archive::Sync::Publish;
    });
    rig.storage.faults().sync_stall = Duration::from_secs(60);
    rig.frames(10, 60);
    rig.sink.cut();
    // It looks fifty times a second until it syncs the file.
    let looks = |rig: &Rig| {
        std::thread::sleep(Duration::from_millis(200));
        rig.storage.faults().looks
    };
    let mut before = 0;
    while std::mem::replace(&mut before, looks(&rig)) != before {}
    rig.storage.faults().space = room(500);
    rig.frames(10, 60);
    assert_eq!(rig.dropped(OutputDrop::DiskFull), 0, "the archive is about to make room");
    std::thread::sleep(Duration::from_millis(25));
    rig.storage.faults().space = room(499);
    rig.frames(10, 60);
    assert_eq!(rig.dropped(OutputDrop::DiskFull), 10);
    assert!(!rig.sink.shared.archive.room().is_starved());
    rig.storage.faults().sync_stall = Duration::ZERO;
    rig.storage.faults().space = room(1500);
    std::thread::sleep(Duration::from_millis(25));
    rig.retry_now();
    rig.frames(10, 60);
    rig.assert_closes();
    assert_eq!(rig.written(), 30);
}

#[test]
fn files_that_are_written_to_make_room_where_nothing_else_can() {
    let mut rig =
        rig(|plan| plan.archive.budget = BudgetPlan { min_free: Some(MinFree::Bytes(1000)), ..BudgetPlan::default() });
    rig.frames(30, 1000);
    rig.send(&[(7, SECOND, 1000), (8, 2 * SECOND, 60)]);
    rig.flush();
    let eventually = |rig: &Rig, is_so: &dyn Fn(&Rig) -> bool| {
        let begin = Instant::now();
        while !is_so(rig) {
            assert!(begin.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    rig.storage.faults().space = Some(Space { free: 999, total: 100_000 });
    eventually(&rig, &|rig| rig.sink.shared.archive.room().is_starved());
    rig.sink.next_sweep = Instant::now();
    rig.sink.tick(Instant::now() + LOOK, Timestamp::now());
    // One is enough.
    eventually(&rig, &|rig| rig.count(|end| &end.pruned) == 1);
    rig.storage.faults().space = Some(Space { free: 11_000, total: 100_000 });
    eventually(&rig, &|rig| !rig.sink.shared.archive.room().is_starved());
    rig.sink.tick(Instant::now() + 3 * LOOK, Timestamp::now());
    rig.sink.finish();
    let left: Vec<_> = rig.files().into_iter().map(|(_, times)| times.len()).collect();
    assert_eq!(left, [10, 10, 1, 1], "one of ten frames went");
    assert_eq!(rig.dropped(OutputDrop::DiskFull), 0);
}

#[test]
fn the_last_room_is_the_hosts_where_nothing_is_removed() {
    let room = |free| Some(Space { free, total: 100_000 });
    let storage = Faulty::default();
    storage.faults().space = room(5000);
    let mut rig = rig_on(storage, tempfile::tempdir().unwrap(), |plan| {
        plan.archive.budget = BudgetPlan { reserve: Some(MinFree::Usual), ..BudgetPlan::default() };
    });
    let look_again = || std::thread::sleep(Duration::from_millis(25));
    rig.frames(10, 60);
    assert_eq!(rig.dropped(OutputDrop::DiskFull), 0);
    look_again();
    rig.storage.faults().space = room(4999);
    rig.frames(10, 60);
    assert_eq!(rig.dropped(OutputDrop::DiskFull), 10);
    // A complete file gets its line and its name, and nothing goes.
    rig.sink.cut();
    rig.published(1);
    assert!(!rig.sink.shared.archive.room().is_starved());
    rig.storage.faults().space = room(5000);
    look_again();
    rig.retry_now();
    rig.frames(10, 60);
    rig.assert_closes();
    assert_eq!((rig.written(), rig.count(|end| &end.pruned)), (20, 0));
}

#[test]
fn a_start_without_room_says_so_before_the_first_frame() {
    let storage = Faulty::default();
    storage.faults().space = Some(Space { free: 4999, total: 100_000 });
    let budget = BudgetPlan { reserve: Some(MinFree::Usual), ..BudgetPlan::default() };
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("vni7_192.0.2.1");
    fs::create_dir(&session).unwrap();
    let mut left = pcap::file_header(crate::wire::LinkType::Ethernet, 262_144).to_vec();
    pcap::push(&mut left, Timestamp::from_ns(SECOND), &[7; 60], 60);
    fs::write(session.join("vni7_192.0.2.1_19700101T000001Z_000001.pcap.part"), left).unwrap();
    let mut rig = rig_on(storage, dir, |plan| plan.archive.budget = budget);
    assert_eq!(rig.sink.shared.outage.map(|outage| outage.reason), Some(OutputDrop::DiskFull));
    let begin = Instant::now();
    while rig.count(|end| &end.recovered) == 0 {
        assert!(begin.elapsed() < Duration::from_secs(10), "what a crash left is salvaged all the same");
        std::thread::sleep(Duration::from_millis(5));
    }
    rig.sink.finish();
    assert_eq!(rig.files().len(), 1);
}
