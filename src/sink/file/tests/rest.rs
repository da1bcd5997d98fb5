//! Sessions that rest, and their compressors.

use std::collections::BTreeMap;

use super::super::part::Batch;
use super::super::rest::{LONGEST, PATIENCE, Rest};
use super::super::resting::{AT_ONCE, LEFT_ALONE};
use super::*;
use crate::record::compress;

/// Number of sessions that are too many here.
const BEYOND: usize = 44;

fn zstd() -> Rig {
    rig(|plan| {
        plan.compression = Some(Compression::Zstd(1));
        plan.linger = Duration::from_millis(1);
        plan.open_files = 2000;
    })
}

impl Rig {
    /// Sends a frame of each of these sessions at `second`, and has a sweep see it in its file.
    fn round(&mut self, vnis: std::ops::Range<usize>, second: u64, now: Instant) {
        let frames: Vec<_> = vnis.map(|vni| (vni as u32, second * SECOND, 60)).collect();
        self.send(&frames);
        self.sink.sessions.iter_mut().flatten().for_each(|files| files.flush(&mut self.sink.shared));
        self.sink.tick(now, Timestamp::now());
    }

    fn busy(&self) -> usize {
        self.sink.sessions.iter().flatten().filter(|files| files.compresses()).count()
    }

    /// Returns the times of the frames of each session, in the order of its complete files.
    fn decoded(&self) -> BTreeMap<String, Vec<Vec<u64>>> {
        let mut found: BTreeMap<String, Vec<Vec<u64>>> = BTreeMap::new();
        for session in fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path()).filter(|p| p.is_dir())
        {
            let mut files: Vec<_> = fs::read_dir(&session).unwrap().map(|entry| entry.unwrap().path()).collect();
            files.sort();
            for file in files.iter().filter(|file| file.extension() == Some("zst".as_ref())) {
                let mut bytes = Vec::new();
                let file = fs::File::open(file).unwrap();
                let mut reader = compress::reader(file).unwrap();
                std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
                let records = pcap::records(&bytes[pcap::FILE_HEADER_LEN..]);
                let times = records.map(|record| record.timestamp.ns() / SECOND).collect();
                let name = session.file_name().unwrap().to_str().unwrap().to_owned();
                found.entry(name).or_default().push(times);
            }
        }
        found
    }
}

#[test]
fn files_of_those_that_rest_longest_are_completed_and_a_session_that_comes_back_begins_another() {
    let mut rig = zstd();
    let begin = Instant::now();
    let at = |seconds: f64| begin + Duration::from_secs_f64(seconds);
    // These rest longer than the others.
    rig.round(0..BEYOND, 1, at(0.0));
    rig.round(BEYOND..LEFT_ALONE + BEYOND, 2, at(1.0));
    assert_eq!(rig.busy(), LEFT_ALONE + BEYOND);
    rig.sink.tick(at(PATIENCE.as_secs_f64() - 0.1), Timestamp::now());
    assert_eq!(rig.busy(), LEFT_ALONE + BEYOND, "not long enough");
    rig.sink.tick(at(PATIENCE.as_secs_f64() + 2.0), Timestamp::now());
    assert_eq!(rig.busy(), LEFT_ALONE);
    rig.sink.tick(at(10.0 * PATIENCE.as_secs_f64()), Timestamp::now());
    assert_eq!(rig.busy(), LEFT_ALONE, "the others are not too many");
    rig.published(BEYOND as u64);
    let complete = rig.decoded();
    assert_eq!(complete.len(), BEYOND);
    assert!((0..BEYOND).all(|vni| complete[&format!("vni{vni}_192.0.2.1")] == [[1]]), "{complete:?}");
    rig.round(0..LEFT_ALONE + BEYOND, 3, at(10.0 * PATIENCE.as_secs_f64() + 1.0));
    rig.sink.finish();
    for (name, files) in rig.decoded() {
        let vni: usize = name.strip_prefix("vni").unwrap().split('_').next().unwrap().parse().unwrap();
        let want = if vni < BEYOND { vec![vec![1], vec![3]] } else { vec![vec![2, 3]] };
        assert_eq!(files, want, "{name}");
    }
    assert_eq!(rig.written(), rig.sent);
    assert_eq!(rig.count(|end| &end.files), (LEFT_ALONE + 2 * BEYOND) as u64);
}

#[test]
fn nothing_is_completed_where_memory_is_no_problem() {
    let later = Instant::now() + 100 * PATIENCE;
    // As many as are left alone.
    let mut few = zstd();
    few.round(0..LEFT_ALONE, 1, Instant::now());
    few.sink.tick(later, Timestamp::now());
    assert_eq!((few.busy(), few.count(|end| &end.files)), (LEFT_ALONE, 0));
    // Files that are not compressed.
    let mut plain = rig(|plan| plan.linger = Duration::from_millis(1));
    plain.round(0..LEFT_ALONE + BEYOND, 1, Instant::now());
    plain.sink.tick(later, Timestamp::now());
    plain.sink.tick(later + PATIENCE, Timestamp::now());
    assert!(plain.files().iter().all(|(name, _)| name.ends_with(".part")));
}

#[test]
fn a_session_that_sends_now_and_then_does_not_have_a_file_for_each_frame() {
    let mut rig = zstd();
    let begin = Instant::now();
    const ROUNDS: u64 = 40;
    for round in 0..ROUNDS {
        let now = begin + round as u32 * (PATIENCE + Duration::from_secs(5));
        rig.round(0..LEFT_ALONE + BEYOND, round, now);
        rig.sink.tick(now + PATIENCE + Duration::from_secs(1), Timestamp::now());
    }
    rig.sink.finish();
    assert_eq!(rig.written(), rig.sent);
    // Twice their patience is longer than their rest.
    for (name, files) in rig.decoded() {
        assert!(files.len() <= 2, "{name} has {} files", files.len());
        assert_eq!(files.concat(), (0..ROUNDS).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn no_session_is_waited_for_without_end() {
    let now = Instant::now();
    let mut rest = Rest::new();
    (0..100).for_each(|_| rest.heed());
    assert_eq!(rest.look(now, 1, 1, Batch::default()), None);
    assert_eq!(rest.look(now + LONGEST - Duration::from_secs(1), 1, 1, Batch::default()), None);
    assert_eq!(rest.look(now + LONGEST, 1, 1, Batch::default()), Some(now));
}

#[test]
fn a_sweep_completes_no_more_than_frames_can_wait_for() {
    let mut rig = zstd();
    let sessions = LEFT_ALONE + AT_ONCE + BEYOND;
    rig.round(0..sessions, 1, Instant::now());
    let later = Instant::now() + 2 * PATIENCE;
    rig.sink.tick(later, Timestamp::now());
    assert_eq!(rig.busy(), sessions - AT_ONCE);
    rig.sink.tick(later + Duration::from_secs(1), Timestamp::now());
    assert_eq!(rig.busy(), LEFT_ALONE);
    rig.sink.finish();
    assert_eq!(rig.written(), rig.sent);
}
