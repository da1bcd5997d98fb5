//! Sessions that send no more are forgotten, and nothing of them is lost or there twice.

use super::*;
use crate::ledger::SessionTotals;

/// Plans an output that loses every frame.
fn without_room(dir: &Path) -> OutputPlan {
    let plan = output("none", &dir.join("none"));
    OutputPlan { lane: LanePlan { chunks: 0, when_full: WhenFull::Drop, ..plan.lane }, ..plan }
}

/// Fails where the ledger of a sensor that runs has something of sessions twice.
fn nothing_is_there_twice(pipeline: &Pipeline) {
    let sessions = pipeline.ledger.sessions(pipeline.registry.sessions());
    let now = Snapshot::of(&pipeline.ledger, pipeline.started, sessions);
    let sum = |of: fn(&SessionTotals) -> u64| now.sessions.iter().map(of).sum::<u64>();
    assert!(sum(|session| session.frames) + now.expired.frames <= now.datagrams.decapsulated, "{now:?}");
    assert!(sum(|session| session.lost) + now.expired.lost <= now.lost_of_sessions(), "{now:?}");
}

#[test]
fn sessions_expire_and_return_and_every_frame_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let vni = Arc::new(AtomicU32::new(0));
    // There are 24 sessions, of which four have a number at a time.
    let mut pipeline = start_of(dir.path(), &vni, 4);
    let until = Instant::now() + Duration::from_secs(60);
    pipeline.change(Changes { add: vec![without_room(dir.path())], ..Changes::default() }).unwrap();
    let received =
        |pipeline: &Pipeline| -> u64 { pipeline.ledger.workers.iter().map(|worker| worker.decapsulated.get()).sum() };
    for round in 0..36 {
        vni.store(2 * (round % 12), Ordering::Relaxed);
        let before = received(&pipeline);
        while received(&pipeline) < before + 200 || pipeline.registry.count() > 2 {
            assert!(Instant::now() < until, "{} sessions", pipeline.registry.count());
            pipeline.expire(Duration::from_millis(20)).unwrap();
            nothing_is_there_twice(&pipeline);
            thread::sleep(Duration::from_millis(1));
        }
    }
    let snapshot = end(pipeline);
    assert!(snapshot.expired.lost > 0);
    assert_eq!(snapshot.overflow.frames, 0);
    assert!(snapshot.expired.frames > 0 && snapshot.sessions.len() <= 4);
    let mut written = 0;
    for worker in 0..2 {
        let mut all = Vec::new();
        for more in 0..12 {
            let numbers = numbers(&dir.path().join("pcap"), worker + 2 * more);
            assert!(numbers.is_sorted() && !numbers.is_empty());
            all.extend(numbers);
        }
        all.sort_unstable();
        assert_eq!(all[0], 0);
        assert_gapless(&all);
        written += all.len() as u64;
    }
    assert_eq!(written, snapshot.datagrams.decapsulated);
    let json = serde_json::to_value(&snapshot).unwrap();
    assert_eq!(json["expired"]["frames"], snapshot.expired.frames);
}

#[test]
fn what_was_lost_of_sessions_that_are_being_forgotten_at_the_end_is_in_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let vni = Arc::new(AtomicU32::new(0));
    let mut pipeline = start_of(dir.path(), &vni, 10);
    pipeline.change(Changes { add: vec![without_room(dir.path())], ..Changes::default() }).unwrap();
    frames_come(&pipeline);
    vni.store(2, Ordering::Relaxed);
    // The workers have forgotten, and the numbers are not free.
    wait("sessions are forgotten", &mut || pipeline.expire(Duration::from_millis(20)).unwrap());
    let snapshot = end(pipeline);
    assert!(snapshot.expired.lost > 0 && snapshot.expired.lost <= snapshot.expired.frames, "{snapshot:?}");
}

#[test]
fn no_number_is_given_away_while_an_output_that_has_gone_may_have_frames_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let vni = Arc::new(AtomicU32::new(0));
    let mut pipeline = start_of(dir.path(), &vni, 10);
    let idle = Duration::from_millis(20);
    let gate = dir.path().join("gate");
    let mut slow = output("slow", &dir.path().join("slow"));
    let Destination::Files(files) = &mut slow.to else { unreachable!() };
    // Its end waits for the command, for some seconds at most.
    files.archive.on_publish = Some(format!("while ! test -e {}; do sleep 0.01; done; :", gate.display()));
    pipeline.change(Changes { add: vec![slow], ..Changes::default() }).unwrap();
    wait("sessions come", &mut || pipeline.registry.count() == 2);
    frames_come(&pipeline);
    pipeline.change(Changes { remove: vec!["slow".into()], ..Changes::default() }).unwrap();
    vni.store(2, Ordering::Relaxed);
    wait("others come", &mut || pipeline.registry.count() == 4);
    for _ in 0..100 {
        thread::sleep(Duration::from_millis(2));
        assert!(!pipeline.expire(idle).unwrap());
        assert!(!pipeline.reap(), "the output has not finished");
        assert_eq!(pipeline.registry.count(), 4);
    }
    fs::write(gate, "").unwrap();
    wait("the output finishes", &mut || pipeline.reap());
    wait("sessions are forgotten", &mut || pipeline.expire(idle).is_ok() && pipeline.registry.count() == 2);
    end(pipeline);
}

#[test]
fn all_workers_hear_of_free_numbers_though_one_stalls_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let vni = Arc::new(AtomicU32::new(0));
    let mut pipeline = start_of(dir.path(), &vni, 2);
    let idle = Duration::from_millis(20);
    wait("sessions come", &mut || pipeline.registry.count() == 2);
    vni.store(2, Ordering::Relaxed);
    // The workers have forgotten, and the numbers are not free.
    wait("sessions are forgotten", &mut || pipeline.expire(idle).unwrap());
    vni.store(2 | SECOND_STALLED, Ordering::Relaxed);
    wait("the second stalls", &mut || vni.load(Ordering::Relaxed) & STALLS << 1 != 0);
    let slow = pipeline.change(Changes::default()).unwrap_err();
    assert!(slow.is_made(), "{slow}");
    // The first worker has made that change. It may not hear of the next.
    for _ in 0..10 {
        let _ = pipeline.expire(idle);
        thread::sleep(Duration::from_millis(1));
    }
    vni.store(2, Ordering::Relaxed);
    wait("the change is made", &mut || pipeline.reap());
    let vnis = |registry: &Registry| -> BTreeSet<u32> {
        registry.sessions().into_iter().map(|(_, session, _)| session.vni.get()).collect()
    };
    // The first step may have found only one of the sessions idle. The other goes now.
    wait("both have a number", &mut || {
        pipeline.expire(idle).is_ok() && vnis(&pipeline.registry) == BTreeSet::from([2, 3])
    });
    end(pipeline);
}
