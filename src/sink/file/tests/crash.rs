//! A crash leaves something behind, and the next start makes something of it.

use super::faults::{captures_in, every_kind};
use super::*;
use crate::archive::{BudgetPlan, Sync};
use crate::evidence::{Algorithm, Event, Manifest, PruneReason};
use crate::record::Timestamp;
use proptest::prelude::*;

/// Returns the algorithms by which a run hashes, and the one after the crash.
fn hashes() -> impl Iterator<Item = (Option<Algorithm>, Option<Algorithm>)> {
    let all = [Some(Algorithm::Sha256), Some(Algorithm::Blake3), None];
    all.into_iter().flat_map(move |before| all.map(|after| (before, after)))
}

/// Fails unless the directory is as its manifest says, and the lines that are `wanted` have a hash
/// of this kind.
#[track_caller]
pub(super) fn assert_hashed(directory: &Path, wanted: impl Fn(&str) -> bool, by: Option<Algorithm>) {
    let stop = std::sync::atomic::AtomicBool::new(false);
    let report = crate::verify::run(directory, None, &stop, &crate::console::Console::default()).unwrap();
    assert!(report.mismatches.is_empty(), "{report}");
    let text = fs::read_to_string(directory.join("manifest.jsonl")).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| wanted(line)).collect();
    assert!(!lines.is_empty());
    for line in lines {
        let has = |algorithm: &Algorithm| line.contains(&format!("\"{}\":", algorithm.key()));
        assert_eq!(Algorithm::ALL.into_iter().filter(has).collect::<Vec<_>>(), Vec::from_iter(by), "{line}");
    }
}

/// Copies a directory of captures as a crash would leave it.
pub(super) fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.path().join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            for file in fs::read_dir(entry.path()).unwrap().map(|file| file.unwrap()) {
                fs::copy(file.path(), target.join(file.file_name())).unwrap();
            }
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
    to
}

/// Starts on `dir`, and waits until what is there is salvaged.
pub(super) fn restart(dir: tempfile::TempDir, change: impl FnOnce(&mut FilePlan)) -> Rig {
    let rig = rig_in(dir, change);
    settle(&rig);
    rig
}

/// Waits until nothing is left to salvage.
fn settle(rig: &Rig) {
    let parts = |rig: &Rig| {
        let sessions = fs::read_dir(rig.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let sessions = sessions.filter(|path| path.is_dir() && !path.ends_with("unsalvageable"));
        sessions
            .flat_map(|session| fs::read_dir(session).unwrap())
            .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "part"))
            .count()
    };
    let begin = Instant::now();
    while parts(rig) > 0 {
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", captures_in(rig.dir.path()));
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn part_of(dir: &Path) -> PathBuf {
    let session = dir.join("vni7_192.0.2.1");
    let mut parts = fs::read_dir(session).unwrap().map(|file| file.unwrap().path());
    parts.find(|path| path.extension().is_some_and(|ending| ending == "part")).unwrap()
}

#[derive(Debug, Clone)]
enum Tail {
    AsItIs,
    Cut(u64),
    Zeros(usize),
    Garbage(Vec<u8>),
}

fn tail() -> impl Strategy<Value = Tail> {
    prop_oneof![
        Just(Tail::AsItIs),
        (1u64..3000).prop_map(Tail::Cut),
        (1usize..9000).prop_map(Tail::Zeros),
        prop::collection::vec(any::<u8>(), 1..200).prop_map(Tail::Garbage),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_was_flushed_is_recovered_whatever_the_tail(
        kind in prop::sample::select(every_kind().collect::<Vec<_>>()),
        flushed in prop::collection::vec((1u64..30, 14usize..1500), 1..6),
        tail in tail(),
        publish in any::<bool>(),
    ) {
        let mut rig = rig(|plan| (plan.format, plan.compression) = kind);
        if publish {
            rig.send(&[(7, 0, 60)]);
            rig.sink.cut();
            rig.published(1);
        }
        let mut time = 1;
        for (count, length) in &flushed {
            let frames: Vec<_> = (time..time + count).map(|n| (7, n * 1000, *length)).collect();
            time += count;
            rig.send(&frames);
            rig.sink.sessions.iter_mut().flatten().for_each(|files| files.flush(&mut rig.sink.shared));
        }
        let dir = copy(rig.dir.path());
        drop(rig);
        let part = part_of(dir.path());
        let length = fs::metadata(&part).unwrap().len();
        let file = fs::OpenOptions::new().append(true).open(&part).unwrap();
        match &tail {
            Tail::AsItIs => {}
            Tail::Cut(bytes) => file.set_len(length.saturating_sub(*bytes)).unwrap(),
            Tail::Zeros(bytes) => io::Write::write_all(&mut &file, &vec![0; *bytes]).unwrap(),
            Tail::Garbage(bytes) => io::Write::write_all(&mut &file, bytes).unwrap(),
        }
        let mut rig = restart(dir, |_| ());
        rig.sink.finish();
        let found = captures_in(rig.dir.path());
        let recovered: Vec<_> = found.iter().filter(|(name, _)| name.contains(".recovered.")).collect();
        let times: Vec<u64> = recovered.iter().flat_map(|(_, times)| times.clone()).collect();
        prop_assert_eq!(&times, &(1..=times.len() as u64).map(|n| n * 1000).collect::<Vec<_>>(), "a beginning, without gaps");
        if !matches!(tail, Tail::Cut(_)) {
            prop_assert_eq!(times.len() as u64, time - 1, "all that was flushed");
        }
        prop_assert_eq!(rig.count(|end| &end.recovered), u64::from(!times.is_empty()));
        prop_assert_eq!(found.len(), recovered.len() + usize::from(publish));
        // On record, and nothing is left to do for the next start.
        let manifest = fs::read_to_string(rig.dir.path().join("manifest.jsonl")).unwrap();
        prop_assert_eq!(manifest.matches("\"recovered\"").count(), recovered.len());
        let Rig { dir, sink, .. } = rig;
        drop(sink);
        let mut rig = rig_in(dir, |_| ());
        rig.sink.finish();
        prop_assert_eq!(captures_in(rig.dir.path()), found);
    }
}

#[test]
fn what_cannot_be_salvaged_is_moved_aside_and_what_is_empty_goes() {
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("vni7_192.0.2.1");
    fs::create_dir(&session).unwrap();
    let name = |n: u32, ending: &str| session.join(format!("vni7_192.0.2.1_19700101T000001Z_{n:06}.{ending}.part"));
    fs::write(name(1, "pcap"), b"this is not a capture at all, and nobody knows what it is").unwrap();
    fs::write(name(2, "pcap"), b"").unwrap();
    fs::write(name(3, "pcap"), pcap::file_header(crate::wire::LinkType::Ethernet, 262_144)).unwrap();
    fs::write(name(4, "pcap.zst"), [0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]).unwrap();
    fs::write(session.join("notes.part"), b"somebody's notes").unwrap();
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("x.pcap.part"), b"not ours").unwrap();
    let mut rig = rig_in(dir, |_| ());
    let begin = Instant::now();
    while rig.count(|end| &end.set_aside) < 2 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(1));
    }
    rig.sink.finish();
    let aside: Vec<_> =
        fs::read_dir(rig.dir.path().join("unsalvageable")).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(aside.len(), 2, "{aside:?}");
    assert!(elsewhere.join("x.pcap.part").exists());
    let left: Vec<_> = fs::read_dir(session).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(left, ["notes.part"], "what is not named as ours stays");
    assert_eq!(rig.count(|end| &end.recovered), 0);
}

#[test]
fn the_span_of_a_salvaged_file_is_that_of_its_frames_in_whatever_order() {
    let mut rig = rig(|_| ());
    rig.send(&[(7, 2 * SECOND, 60), (7, SECOND, 60), (7, 4 * SECOND, 60), (7, 3 * SECOND, 60)]);
    rig.sink.sessions.iter_mut().flatten().for_each(|files| files.flush(&mut rig.sink.shared));
    let mut rig = restart(copy(rig.dir.path()), |_| ());
    rig.sink.finish();
    let manifest = fs::read_to_string(rig.dir.path().join("manifest.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(manifest.lines().next().unwrap()).unwrap();
    assert_eq!(line["first"], Timestamp::from_ns(SECOND).to_string());
    assert_eq!(line["last"], Timestamp::from_ns(4 * SECOND).to_string());
}

#[test]
fn a_name_that_comes_again_is_not_that_of_a_file_that_was_pruned() {
    let run = |dir, keep| {
        let mut rig = rig_in(dir, |plan| {
            plan.rotate_frames = Some(1);
            plan.archive.budget = BudgetPlan { keep_files: Some(keep), ..BudgetPlan::default() };
        });
        rig.send(&[(7, SECOND, 60), (7, SECOND, 60), (7, SECOND, 60)]);
        rig.sink.finish();
        let Rig { dir, sink, .. } = rig;
        drop(sink);
        dir
    };
    let dir = run(run(tempfile::tempdir().unwrap(), 1), 100);
    let before = captures_in(dir.path());
    assert_eq!(before.len(), 4);
    let mut rig = rig_in(dir, |_| ());
    rig.sink.finish();
    assert_eq!(captures_in(rig.dir.path()), before);
}

#[test]
fn what_is_moved_aside_gets_one_line_and_what_strangers_have_stays() {
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("vni7_192.0.2.1");
    fs::create_dir(&session).unwrap();
    let part = session.join("vni7_192.0.2.1_19700101T000001Z_000001.pcap.part");
    fs::write(&part, vec![7; 1000]).unwrap();
    let notes = session.join("vni7_192.0.2.1-notes.salvage");
    fs::write(&notes, "mine").unwrap();
    let aside = dir.path().join("unsalvageable");
    std::os::unix::fs::symlink("/nowhere", &aside).unwrap();
    let storage = Faulty::default();
    let mut rig = rig_on(storage, dir, |_| ());
    let lines = |rig: &Rig| {
        let manifest = fs::read_to_string(rig.dir.path().join("manifest.jsonl")).unwrap();
        manifest.lines().filter(|line| line.contains("\"set_aside\"")).count()
    };
    // A file that cannot be set aside is not on record as set aside.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!((lines(&rig), part.exists()), (0, true));
    rig.storage.faults().rename = Some(libc::EROFS);
    fs::remove_file(&aside).unwrap();
    let begin = Instant::now();
    while lines(&rig) == 0 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    rig.storage.faults().rename = None;
    settle(&rig);
    rig.sink.finish();
    assert_eq!((lines(&rig), rig.count(|end| &end.set_aside)), (1, 1));
    assert_eq!(fs::read_dir(aside).unwrap().count(), 1);
    assert_eq!(fs::read(notes).unwrap(), b"mine");
}

#[test]
fn a_damaged_beginning_does_not_cost_what_lies_behind() {
    // The frames behind what is mended are published.
    for (format, compression, at, recovered) in [
        (Format::PcapNg, None, 28 + 4, 1),
        (Format::PcapNg, None, 0, 0),
        (Format::Pcap, None, 1, 0),
        (Format::Pcap, Some(Compression::Zstd(3)), 60, 0),
        (Format::Pcap, Some(Compression::Lz4), 60, 0),
    ] {
        let mut rig = rig(|plan| (plan.format, plan.compression) = (format, compression));
        let frames: Vec<_> = (1..300).map(|n| (7, n * 1000, 400 + n as usize)).collect();
        rig.send(&frames);
        rig.sink.sessions.iter_mut().flatten().for_each(|files| files.flush(&mut rig.sink.shared));
        let dir = copy(rig.dir.path());
        drop(rig);
        let part = part_of(dir.path());
        let mut bytes = fs::read(&part).unwrap();
        bytes[at..at + 40].fill(0xff);
        fs::write(&part, &bytes).unwrap();
        let mut rig = restart(dir, |_| ());
        rig.sink.finish();
        let kept = (rig.count(|end| &end.recovered), rig.count(|end| &end.set_aside));
        assert_eq!(kept, (recovered, 1), "{format} {compression:?} {at}: {} bytes are gone", bytes.len());
    }
}

#[test]
fn a_crash_between_a_copy_and_the_removal_of_its_source_doubles_nothing() {
    hashes().for_each(|(before, after)| a_crash_between_a_copy_and_the_removal_of_its_source(before, after));
}

fn a_crash_between_a_copy_and_the_removal_of_its_source(before: Option<Algorithm>, after: Option<Algorithm>) {
    let mut rig = rig(|plan| plan.compression = Some(Compression::Zstd(3)));
    rig.send(&[(7, 1000, 60)]);
    rig.sink.sessions.iter_mut().flatten().for_each(|files| files.flush(&mut rig.sink.shared));
    let dir = copy(rig.dir.path());
    drop(rig);
    let part = part_of(dir.path());
    let bytes = fs::read(&part).unwrap();
    let mut rig = restart(dir, |plan| plan.archive.hash = before);
    rig.sink.finish();
    let found = captures_in(rig.dir.path());
    assert_eq!(found.len(), 1);
    let Rig { dir, sink, .. } = rig;
    drop(sink);
    fs::write(dir.path().join(&found[0].0).with_file_name(part.file_name().unwrap()), bytes).unwrap();
    let mut rig = restart(dir, |plan| (plan.compression, plan.archive.hash) = (Some(Compression::Zstd(3)), after));
    // Nor does a new file take the name that the salvaged one had.
    rig.send(&[(7, 1000, 60)]);
    rig.sink.finish();
    let names: Vec<_> = captures_in(rig.dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!((names.len(), &names[0]), (2, &found[0].0), "{names:?}");
    assert!(names[1].contains("_000002."), "{names:?}");
    assert_hashed(rig.dir.path(), |line| line.contains("_000001."), before);
    assert_hashed(rig.dir.path(), |line| line.contains("_000002."), after);
}

#[test]
fn what_is_set_aside_has_a_hash_in_any_case() {
    for (by, wanted) in [(None, Algorithm::Sha256), (Some(Algorithm::Blake3), Algorithm::Blake3)] {
        let mut rig = rig(|_| ());
        rig.send(&[(7, 1000, 60)]);
        rig.sink.sessions.iter_mut().flatten().for_each(|files| files.flush(&mut rig.sink.shared));
        let dir = copy(rig.dir.path());
        drop(rig);
        fs::write(part_of(dir.path()), "no capture").unwrap();
        let mut rig = restart(dir, |plan| plan.archive.hash = by);
        rig.sink.finish();
        assert_hashed(rig.dir.path(), |line| line.contains("\"set_aside\""), Some(wanted));
    }
}

#[test]
fn a_crash_between_a_line_and_its_file_is_completed() {
    hashes().for_each(|(before, after)| a_crash_between_a_line_and_its_file(before, after));
}

fn a_crash_between_a_line_and_its_file(before: Option<Algorithm>, after: Option<Algorithm>) {
    // Between the line and the renaming.
    let mut rig = rig(|plan| plan.archive.hash = before);
    rig.send(&[(7, 1000, 60), (8, 2000, 60)]);
    rig.storage.faults().rename = Some(libc::EIO);
    rig.sink.cut();
    let manifest = rig.dir.path().join("manifest.jsonl");
    let begin = Instant::now();
    while fs::read_to_string(&manifest).unwrap().lines().count() < 2 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(1));
    }
    let dir = copy(rig.dir.path());
    drop(rig);
    // They are published as any other: the command runs, the budget counts them.
    let told = tempfile::NamedTempFile::new().unwrap();
    let mut rig = restart(dir, |plan| {
        plan.archive.hash = after;
        plan.archive.on_publish = Some(format!("f() {{ echo \"$1\" >>{}; }}; f", told.path().display()));
        plan.archive.budget = BudgetPlan { keep_files: Some(3), ..BudgetPlan::default() };
    });
    rig.send(&[(7, 3000, 60), (8, 4000, 60)]);
    rig.sink.finish();
    assert_eq!(fs::read_to_string(told.path()).unwrap().lines().count(), 4);
    let names: Vec<_> = captures_in(rig.dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 3, "the oldest is pruned: {names:?}");
    let names: Vec<_> = names.into_iter().filter(|name| name.contains("vni8")).collect();
    assert!(names.iter().all(|name| !name.contains("recovered")), "announced under their own names: {names:?}");

    // Each is of the run that announced it, the one that the budget removed too.
    assert_hashed(rig.dir.path(), |line| line.contains("_000001."), before);
    assert_hashed(rig.dir.path(), |line| line.contains("_000002."), after);

    // Between the line and the removal.
    let Rig { dir, sink, .. } = rig;
    drop(sink);
    let (mut manifest, contents) =
        Manifest::open(&(Arc::new(Disk::default()) as Arc<dyn Storage>), dir.path()).unwrap();
    let hash = contents.captures.iter().find(|entry| *entry.path == *names[0]).unwrap().hash;
    let event = Event::Pruned { path: names[0].clone(), hash, reason: PruneReason::KeepFiles, undelivered: Vec::new() };
    manifest.append(&event, false).unwrap();
    drop(manifest);
    let mut rig = rig_in(dir, |_| ());
    rig.sink.finish();
    let left = captures_in(rig.dir.path()).into_iter().map(|(name, _)| name);
    assert_eq!(left.filter(|name| name.contains("vni8")).collect::<Vec<_>>(), names[1..]);
}

#[test]
fn what_was_announced_without_a_hash_and_is_not_what_is_there_is_salvaged() {
    let mut rig = rig(|plan| plan.archive.hash = None);
    rig.send(&[(7, 1000, 60), (7, 2000, 60)]);
    rig.storage.faults().rename = Some(libc::EIO);
    rig.sink.cut();
    let manifest = rig.dir.path().join("manifest.jsonl");
    let begin = Instant::now();
    while fs::read_to_string(&manifest).unwrap().lines().count() < 1 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(1));
    }
    let dir = copy(rig.dir.path());
    drop(rig);
    // The size is that of the line, as where a loss of power took what was written last.
    let part = part_of(dir.path());
    let mut bytes = fs::read(&part).unwrap();
    let last = bytes.len() - 76;
    bytes[last..].fill(0);
    fs::write(&part, bytes).unwrap();
    let mut rig = restart(dir, |plan| plan.archive.hash = None);
    rig.sink.finish();
    let found = captures_in(rig.dir.path());
    assert!(found.len() == 1 && found[0].0.contains(".recovered.") && found[0].1 == [1000], "{found:?}");
}

#[test]
fn a_salvage_that_fails_half_way_goes_on_where_it_was() {
    // Each waits for a second or two until the archive tries again.
    std::thread::scope(|scope| {
        for kind in every_kind() {
            for (fails_at, torn) in [("write", false), ("write", true), ("rename", false), ("rename", true)] {
                scope.spawn(move || salvage_fails_half_way(kind, fails_at, torn));
            }
        }
    });
}

fn salvage_fails_half_way(kind: (Format, Option<Compression>), fails_at: &str, torn: bool) {
    let mut rig = rig(|plan| (plan.format, plan.compression) = kind);
    for time in [1000, 2000].iter().take(1 + usize::from(torn)) {
        rig.send(&[(7, *time, 600)]);
        rig.sink.sessions.iter_mut().flatten().for_each(|files| files.flush(&mut rig.sink.shared));
    }
    let dir = copy(rig.dir.path());
    drop(rig);
    let part = part_of(dir.path());
    if torn {
        let file = fs::File::options().write(true).open(&part).unwrap();
        file.set_len(file.metadata().unwrap().len() - 3).unwrap();
    }
    let told = tempfile::NamedTempFile::new().unwrap();
    let storage = Faulty::default();
    match fails_at {
        "rename" => storage.faults().rename = Some(libc::EROFS),
        _ => storage.faults().write = Some((0, libc::EROFS)),
    }
    let mut rig = rig_on(storage, dir, |plan| {
        (plan.format, plan.compression) = kind;
        plan.archive.sync = Sync::Publish;
        plan.archive.on_publish = Some(format!("f() {{ echo \"$1\" >>{}; }}; f", told.path().display()));
    });
    // Some attempts fail.
    std::thread::sleep(Duration::from_millis(100));
    assert!(part.exists());
    (rig.storage.faults().rename, rig.storage.faults().write) = (None, None);
    settle(&rig);
    rig.sink.finish();
    let found = captures_in(rig.dir.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].1, [1000]);
    assert_eq!(rig.count(|end| &end.recovered), 1);
    let manifest = fs::read_to_string(rig.dir.path().join("manifest.jsonl")).unwrap();
    assert_eq!(manifest.lines().filter(|line| line.contains("\"recovered\"")).count(), 1, "{manifest}");
    assert_eq!(fs::read_to_string(told.path()).unwrap().lines().count(), 1);
    let done = rig.storage.faults().done.clone();
    let first = |what: &str| done.iter().position(|done| done.starts_with(what));
    assert!(first("sync vni7").unwrap() < first("sync manifest").unwrap(), "{done:?}");
}

/// Leaves frames that were flushed in several pieces, and the part file that holds them, in a
/// directory as a crash leaves it.
fn left_behind(kind: (Format, Option<Compression>)) -> (tempfile::TempDir, PathBuf) {
    let mut rig = rig(|plan| (plan.format, plan.compression) = kind);
    for n in 0..20 {
        // Of lengths that do not compress away.
        rig.send(&(1..50).map(|m| (7, (n * 50 + m) * 1000, 100 + (n * m * 37 % 1300) as usize)).collect::<Vec<_>>());
        rig.flush();
    }
    let dir = copy(rig.dir.path());
    let part = part_of(dir.path());
    (dir, part)
}

/// Returns the lines of the manifest about such an event.
fn lines_of(rig: &Rig, event: &str) -> Vec<serde_json::Value> {
    let manifest = fs::read_to_string(rig.dir.path().join("manifest.jsonl")).unwrap();
    let lines = manifest.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["event"] == event).collect()
}

#[test]
fn what_lies_behind_damage_is_kept() {
    for kind in every_kind() {
        let (dir, part) = left_behind(kind);
        let mut bytes = fs::read(&part).unwrap();
        let half = bytes.len() / 2;
        let end = bytes.len().min(half + 1500);
        bytes[half..end].fill(0);
        fs::write(&part, &bytes).unwrap();
        let mut rig = restart(dir, |_| ());
        rig.sink.finish();
        let found = captures_in(rig.dir.path());
        assert!(
            found.len() == 1 && found[0].0.contains(".recovered.") && !found[0].1.is_empty(),
            "{kind:?}: {found:?}"
        );
        assert_eq!((rig.count(|end| &end.recovered), rig.count(|end| &end.set_aside)), (1, 1), "{kind:?}");
        let aside = lines_of(&rig, "set_aside");
        assert_eq!(fs::read(rig.dir.path().join(aside[0]["path"].as_str().unwrap())).unwrap(), bytes, "{kind:?}");
        assert_eq!((aside.len(), lines_of(&rig, "recovered").len()), (1, 1));

        // A crash between the copy's name and the move doubles nothing, and deletes nothing.
        let Rig { dir, sink, .. } = rig;
        drop(sink);
        fs::write(dir.path().join(&found[0].0).with_file_name(part.file_name().unwrap()), &bytes).unwrap();
        let mut rig = restart(dir, |_| ());
        rig.sink.finish();
        assert_eq!(captures_in(rig.dir.path()), found, "{kind:?}");
        assert_eq!(fs::read_dir(rig.dir.path().join("unsalvageable")).unwrap().count(), 2, "{kind:?}");
    }
}

#[test]
fn a_damaged_file_that_no_copy_fits_beside_is_moved_aside() {
    let (dir, part) = left_behind((Format::Pcap, None));
    let mut bytes = fs::read(&part).unwrap();
    let half = bytes.len() / 2;
    bytes[half..half + 1500].fill(0);
    fs::write(&part, &bytes).unwrap();
    let storage = Faulty::default();
    storage.faults().full = Some(".salvage");
    let mut rig = rig_on(storage, dir, |_| ());
    settle(&rig);
    rig.sink.finish();
    assert!(captures_in(rig.dir.path()).is_empty());
    let aside = lines_of(&rig, "set_aside");
    assert_eq!(fs::read(rig.dir.path().join(aside[0]["path"].as_str().unwrap())).unwrap(), bytes);
    assert!(aside[0]["why"].as_str().unwrap().contains("no room for a copy"), "{aside:?}");
}

/// The kernel tells once that it has lost bytes: that the next sync succeeds says nothing.
#[test]
fn what_could_not_be_synced_is_published_as_a_copy() {
    for (kind, torn) in every_kind().flat_map(|kind| [(kind, false), (kind, true)]) {
        let (dir, part) = left_behind(kind);
        if torn {
            let file = fs::File::options().write(true).open(&part).unwrap();
            file.set_len(file.metadata().unwrap().len() - 3).unwrap();
        }
        let storage = Faulty::default();
        storage.faults().sync = Some(libc::EIO);
        let mut rig = rig_on(storage, dir, |plan| plan.archive.sync = Sync::Publish);
        // At the first attempt neither can be synced.
        let name = part.file_name().unwrap().to_str().unwrap().to_owned();
        let create = format!("create {name}.salvage");
        let begin = Instant::now();
        while !rig.storage.faults().done.contains(&create) {
            assert!(begin.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(50));
        rig.storage.faults().sync = None;
        settle(&rig);
        rig.sink.finish();
        let done = rig.storage.faults().done.clone();
        assert!(done.contains(&format!("sync {name}.salvage")), "{kind:?}: {done:?}");
        assert!(!done.contains(&format!("sync {name}")), "{kind:?}: {done:?}");
        let found = captures_in(rig.dir.path());
        assert!(found.len() == 1 && found[0].1.len() > 900, "{kind:?}: {} files", found.len());
        assert_eq!((rig.count(|end| &end.recovered), rig.count(|end| &end.set_aside)), (1, 0));
    }
}
