//! Many files that are published together: what is done for all, and what is done for each.

use super::crash::{assert_hashed, copy, restart};
use super::faults::captures_in;
use super::*;
use crate::archive::Sync;
use crate::evidence::Algorithm;

const SESSIONS: u32 = 300;

/// Hands over a file of each session while the archive is still busy with that of another.
fn cut_all(storage: &Faulty, sync: Sync, faults: impl FnOnce(&mut crate::storage::faulty::Faults)) -> Rig {
    let mut rig = rig_on(storage.clone(), tempfile::tempdir().unwrap(), |plan| {
        plan.open_files = 1000;
        plan.archive.sync = sync;
    });
    rig.send(&[(SESSIONS + 1, SECOND, 60)]);
    // Until all are handed over, however long that takes.
    rig.storage.faults().sync_stall = Duration::from_secs(3600);
    rig.sink.cut();
    let frames: Vec<_> = (1..=SESSIONS).map(|vni| (vni, SECOND, 60)).collect();
    rig.send(&frames);
    rig.sink.sessions.iter_mut().flatten().for_each(|files| files.flush(&mut rig.sink.shared));
    rig.storage.faults().done.clear();
    faults(&mut rig.storage.faults());
    rig.sink.cut();
    rig.storage.faults().sync_stall = Duration::ZERO;
    rig
}

/// Returns the sessions whose `published` lines the manifest has, in the order of these.
fn lines(dir: &Path) -> Vec<u64> {
    let text = fs::read_to_string(dir.join("manifest.jsonl")).unwrap();
    // One whose newline is not there is being written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["event"] == "published").map(|line| line["session"]["vni"].as_u64().unwrap()).collect()
}

#[test]
fn bytes_lines_and_names_of_many_are_synced_together_and_in_this_order() {
    let mut rig = cut_all(&Faulty::default(), Sync::Publish, |_| ());
    rig.sink.finish();
    let done = rig.storage.faults().done.clone();
    let positions = |what: &str| {
        let found = done.iter().enumerate().filter(|(_, done)| done.starts_with(what));
        found.map(|(at, _)| at).collect::<Vec<_>>()
    };
    let (all, lines_synced, renames) = (positions("sync all"), positions("sync manifest"), positions("rename vni"));
    assert!(renames.len() >= SESSIONS as usize, "{}", renames.len());
    // Those that were handed over first may have been alone.
    assert!(positions("sync vni").len() < 20 && lines_synced.len() < 10, "{done:?}");
    let first = all[0];
    let line = *lines_synced.iter().find(|at| **at > first).unwrap();
    let named = *renames.iter().find(|at| **at > first).unwrap();
    assert!(first < line && line < named, "{first} {line} {named}");
    assert!(all.last() > renames.last(), "names, too");
    assert!(positions("write manifest").len() < 60, "{} writes", positions("write manifest").len());
    // In the order in which they were handed over.
    assert_eq!(lines(rig.dir.path())[1..], (1..=u64::from(SESSIONS)).collect::<Vec<_>>());
    assert_hashed(rig.dir.path(), |_| true, Some(Algorithm::Sha256));
}

#[test]
fn one_that_lost_bytes_or_is_gone_takes_no_other_along() {
    for together in [None, Some(libc::EIO)] {
        let mut rig = cut_all(&Faulty::default(), Sync::Publish, |faults| {
            faults.lost = Some("vni77_");
            faults.sync_all = together;
        });
        fs::remove_dir_all(rig.dir.path().join("vni99_192.0.2.1")).unwrap();
        rig.sink.finish();
        let named = lines(rig.dir.path());
        assert_eq!(named.len() as u32, SESSIONS + 1 - 2);
        assert!(!named.contains(&77) && !named.contains(&99));
        assert_eq!((rig.count(|end| &end.unpublished), rig.dropped(OutputDrop::WriteError)), (1, 1));
        let parts = captures_in(rig.dir.path()).into_iter().filter(|(name, _)| name.ends_with(".part"));
        assert_eq!(parts.map(|(name, _)| name.split('_').next().unwrap().to_owned()).collect::<Vec<_>>(), ["vni77"]);
    }
}

#[test]
fn lines_that_cannot_be_written_let_their_files_wait_and_no_others() {
    let mut rig = cut_all(&Faulty::default(), Sync::None, |_| ());
    rig.sink.finish();
    let whole = fs::read(rig.dir.path().join("manifest.jsonl")).unwrap();
    // A disk that is full in the middle of a line, after some dozens.
    for room in [0, 1, 20_000, 60_000] {
        let storage = Faulty::default();
        let mut rig = cut_all(&storage, Sync::Publish, |faults| faults.write = Some((room, libc::ENOSPC)));
        let begin = Instant::now();
        while storage.faults().write.is_some_and(|(left, _)| left > 0) {
            assert!(begin.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(1));
        }
        let crashed = copy(rig.dir.path());
        storage.faults().write = None;
        rig.sink.finish();
        assert_eq!(rig.count(|end| &end.files), u64::from(SESSIONS) + 1);
        assert_eq!(lines(rig.dir.path()).len(), SESSIONS as usize + 1);
        assert_hashed(rig.dir.path(), |_| true, Some(Algorithm::Sha256));
        assert_eq!(fs::metadata(rig.dir.path().join("manifest.jsonl")).unwrap().len(), whole.len() as u64);
        // As if it had been killed then.
        let mut rig = restart(crashed, |_| ());
        rig.sink.finish();
        assert_eq!(captures_in(rig.dir.path()).len(), SESSIONS as usize + 1);
        assert_hashed(rig.dir.path(), |_| true, Some(Algorithm::Sha256));
    }
}

#[test]
fn a_crash_between_lines_and_names_is_completed() {
    let mut rig = cut_all(&Faulty::default(), Sync::Publish, |faults| faults.rename = Some(libc::EIO));
    let begin = Instant::now();
    while lines(rig.dir.path()).len() <= SESSIONS as usize {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(1));
    }
    let crashed = copy(rig.dir.path());
    // Some have their names already.
    for vni in [5, 6, 200] {
        let session = crashed.path().join(format!("vni{vni}_192.0.2.1"));
        let part = fs::read_dir(session).unwrap().next().unwrap().unwrap().path();
        fs::rename(&part, part.with_extension("")).unwrap();
    }
    let before = lines(crashed.path());
    let mut after = restart(crashed, |_| ());
    after.sink.finish();
    let found = captures_in(after.dir.path());
    assert_eq!(found.len(), SESSIONS as usize + 1);
    assert!(found.iter().all(|(name, times)| name.ends_with(".pcap") && times == &[SECOND]), "{found:?}");
    assert!(!found.iter().any(|(name, _)| name.contains("recovered")));
    assert_eq!(lines(after.dir.path()), before, "nothing is announced twice");
    assert_hashed(after.dir.path(), |_| true, Some(Algorithm::Sha256));
    // And without a crash they wait until they can be renamed.
    rig.storage.faults().rename = None;
    rig.sink.finish();
    assert_eq!(rig.count(|end| &end.files), u64::from(SESSIONS) + 1);
    assert_eq!(lines(rig.dir.path()), before);
}
