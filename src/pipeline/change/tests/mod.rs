mod expiry;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;

use super::super::{Pipeline, PipelinePlan, ReservedBits, Timestamps};
use super::*;
use crate::evidence::Algorithm;
use crate::lane::{LanePlan, WhenFull};
use crate::ledger::Snapshot;
use crate::record::{Timestamp, pcap};
use crate::route::policy::{Entry, Match, SessionPlan};
use crate::route::{Selection, Wanted};
use crate::session::Label;
use crate::sink::file::FilePlan;
use crate::sink::file::tests::plan as files;
use crate::sink::watch::{Feed, WatchPlan, Watching};
use crate::source::{Datagram, Front, Offline, Received, Source};
use crate::wire::{Vni, vxlan};

/// A source that lends frames of one VNI, numbered from 0, as long as it is asked. The VNI is its
/// own and what is here. It does not answer while that has [`STALLED`], and where its own is 1,
/// while that has [`SECOND_STALLED`]; then it says so there by [`STALLS`].
#[derive(Debug)]
struct Numbered {
    vni: u32,
    more: Arc<AtomicU32>,
    next: u64,
}

impl Source for Numbered {
    fn receive(&mut self, limit: usize, deliver: &mut impl FnMut(&Datagram<'_>)) -> io::Result<Received> {
        thread::sleep(Duration::from_micros(200));
        // Read once: it may change at any moment.
        let mut more = self.more.load(Ordering::Relaxed);
        let stalled = if self.vni == 1 { STALLED | SECOND_STALLED } else { STALLED };
        while more & stalled != 0 {
            self.more.fetch_or(STALLS << self.vni, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(1));
            more = self.more.load(Ordering::Relaxed);
        }
        let most = limit.min(20);
        for _ in 0..most {
            let vni = self.vni + (more & !(SECOND_STALLED | STALLS | STALLS << 1));
            let mut payload = [vxlan::header(Vni::new(vni).unwrap()).as_slice(), &[0; 60]].concat();
            payload[8..16].copy_from_slice(&self.next.to_be_bytes());
            self.next += 1;
            deliver(&Datagram {
                payload: &payload,
                length: payload.len(),
                source: Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(),
                timestamp: Timestamp::now(),
                ..Datagram::empty()
            });
        }
        Ok(Received::Datagrams(most))
    }
}

const STALLED: u32 = 1 << 24;
const SECOND_STALLED: u32 = 1 << 25;
/// The source whose own VNI is 0 does not answer; the one whose own is 1 has the next bit.
const STALLS: u32 = 1 << 26;

fn output(name: &str, directory: &Path) -> OutputPlan {
    OutputPlan {
        name: name.into(),
        selection: Selection::default(),
        lane: LanePlan {
            chunks: 4,
            linger: Duration::from_millis(1),
            when_full: WhenFull::Wait,
            ..LanePlan::default()
        },
        to: Destination::Files(FilePlan { linger: Duration::from_millis(4), ..files(directory) }),
        essential: true,
    }
}

/// Starts two workers, of VNI 0 and VNI 1, which write into the directory `pcap`.
fn start(dir: &Path) -> Pipeline {
    start_of(dir, &Arc::default(), 10)
}

/// Starts the same, of these VNIs and so many more, with this limit of sessions.
fn start_of(dir: &Path, more: &Arc<AtomicU32>, max_sessions: u32) -> Pipeline {
    let outputs = vec![output("pcap", &dir.join("pcap"))];
    let plan = PipelinePlan {
        reserved_bits: ReservedBits::Accept,
        vni_mask: crate::wire::VniMask::ALL,
        timestamps: Timestamps::Arrival,
        max_sessions,
        count: None,
        policy: Arc::default(),
        outputs,
    };
    let sources = (0..2).map(|vni| Offline::new(Numbered { vni, more: Arc::clone(more), next: 0 })).collect();
    Pipeline::start(&plan, &Arc::default(), sources, Front::default()).unwrap()
}

fn end(pipeline: Pipeline) -> Snapshot {
    let outcome = pipeline.end();
    assert_eq!(outcome.failures, Vec::<String>::new());
    outcome.snapshot.check().unwrap();
    outcome.snapshot
}

/// Returns the numbers of the frames of a session in the files of an output, in their order.
fn numbers(directory: &Path, vni: u32) -> Vec<u64> {
    let session = directory.join(format!("vni{vni}_192.0.2.1"));
    let Ok(entries) = fs::read_dir(session) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut numbers = Vec::new();
    for path in paths {
        assert_eq!(path.extension().unwrap(), "pcap", "{path:?}");
        let bytes = fs::read(path).unwrap();
        let records = pcap::records(&bytes[pcap::FILE_HEADER_LEN..]);
        numbers.extend(records.map(|record| u64::from_be_bytes(record.frame[..8].try_into().unwrap())));
    }
    numbers
}

#[track_caller]
fn wait(what: &str, is_so: &mut dyn FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until each worker has had two batches more, of which the second began after the call.
#[track_caller]
fn frames_come(pipeline: &Pipeline) {
    let counts = || pipeline.ledger.workers.iter().map(|worker| worker.decapsulated.get());
    let before: Vec<u64> = counts().collect();
    wait("each worker has frames", &mut || counts().zip(&before).all(|(now, before)| now >= before + 40));
}

#[track_caller]
fn assert_gapless(numbers: &[u64]) {
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
}

#[test]
fn outputs_come_and_go_and_no_frame_is_lost_or_doubled() {
    let dir = tempfile::tempdir().unwrap();
    let mut pipeline = start(dir.path());
    let place = |round: usize| dir.path().join(format!("b{round}"));
    for round in 0..20 {
        // An output of the same name follows another, in a directory of its own.
        let remove = if round == 0 { vec![] } else { vec!["b".to_owned()] };
        pipeline.change(Changes { add: vec![output("b", &place(round))], remove, ..Changes::default() }).unwrap();
        frames_come(&pipeline);
    }
    pipeline.change(Changes { remove: vec!["b".into()], ..Changes::default() }).unwrap();
    frames_come(&pipeline);
    let snapshot = end(pipeline);
    let mut in_b = 0;
    for vni in 0..2 {
        let all = numbers(&dir.path().join("pcap"), vni);
        assert_eq!(all[0], 0);
        assert_gapless(&all);
        // What one wrote last is followed by what the next wrote first.
        let parts: Vec<u64> = (0..20).flat_map(|round| numbers(&place(round), vni)).collect();
        assert_gapless(&parts);
        assert!(!parts.is_empty() && parts.len() < all.len(), "{} of {}", parts.len(), all.len());
        in_b += parts.len() as u64;
    }
    let (pcap, b) = (&snapshot.outputs["pcap"], &snapshot.outputs["b"]);
    assert_eq!((pcap.offered, pcap.written), (snapshot.datagrams.decapsulated, snapshot.datagrams.decapsulated));
    assert_eq!((b.offered, b.written), (in_b, in_b));
    let partly = snapshot.partly["b"];
    assert_eq!(partly.decapsulated, in_b);
    assert!(partly.since < partly.removed && partly.since.is_some());
    assert!(!snapshot.partly.contains_key("pcap"));
    assert!(snapshot.to_string().contains("output b (added "), "{snapshot}");
    let json = serde_json::to_value(&snapshot).unwrap();
    assert_eq!(json["partly"]["b"]["decapsulated"], in_b);
}

#[test]
fn gauges_show_the_outputs_that_run_and_workers_that_turn() {
    let dir = tempfile::tempdir().unwrap();
    let mut pipeline = start(dir.path());
    let gauges = Arc::clone(&pipeline.gauges);
    let shown = || gauges.outputs().iter().map(|gauge| (gauge.name.clone(), gauge.is_essential())).collect::<Vec<_>>();
    assert_eq!(shown(), [("pcap".to_owned(), true)]);
    let b = output("b", &dir.path().join("b"));
    pipeline.change(Changes { add: vec![b.clone()], ..Changes::default() }).unwrap();
    assert_eq!(shown(), [("pcap".to_owned(), true), ("b".to_owned(), true)]);
    let change = vec![OutputPlan { essential: false, ..b }];
    pipeline.change(Changes { change, ..Changes::default() }).unwrap();
    assert_eq!(shown(), [("pcap".to_owned(), true), ("b".to_owned(), false)]);
    let of_b = gauges.outputs().swap_remove(1);
    assert_eq!(
        (of_b.condition.trouble(), of_b.kind, of_b.directory.as_deref()),
        (None, "pcap", Some(&*dir.path().join("b")))
    );
    // Two workers have four chunks each.
    assert!(of_b.queue.limit() > 8 * 256 * 1024 && of_b.queue.bytes() <= of_b.queue.limit());
    pipeline.change(Changes { remove: vec!["b".into()], ..Changes::default() }).unwrap();
    assert_eq!(shown(), [("pcap".to_owned(), true)]);
    let beat = |now| gauges.workers.iter().map(|pulse| pulse.beat(now)).collect::<Vec<_>>();
    let before = beat(Instant::now());
    thread::sleep(Duration::from_millis(100));
    let now = Instant::now();
    for (before, after) in before.iter().zip(beat(now)) {
        assert!(after.turns > before.turns && after.busy >= before.busy, "{before:?} {after:?}");
    }
    end(pipeline);
    assert_eq!(of_b.condition.trouble().as_deref(), Some("its thread has ended"));
}

#[test]
fn an_output_of_the_start_can_go_and_its_files_are_complete() {
    let dir = tempfile::tempdir().unwrap();
    let mut pipeline = start(dir.path());
    frames_come(&pipeline);
    pipeline.change(Changes { remove: vec!["pcap".into()], ..Changes::default() }).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while !pipeline.reap() && Instant::now() < until {
        thread::sleep(Duration::from_millis(1));
    }
    assert!(pipeline.reap(), "its thread ends");
    let written: usize = (0..2).map(|vni| numbers(&dir.path().join("pcap"), vni).len()).sum();
    let snapshot = end(pipeline);
    let pcap = &snapshot.outputs["pcap"];
    assert_eq!((pcap.offered, pcap.written), (written as u64, written as u64));
    assert!(written > 0 && pcap.offered < snapshot.datagrams.decapsulated);
    // The equation knows: one frame more, and it does not hold.
    let mut wrong = snapshot;
    wrong.partly.get_mut("pcap").unwrap().decapsulated += 1;
    assert!(wrong.check().unwrap_err().to_string().contains("offered to pcap"));
}

#[test]
fn nothing_changes_where_an_output_cannot_be_opened() {
    let dir = tempfile::tempdir().unwrap();
    let mut pipeline = start(dir.path());
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let nobody = Allowed::new(Some(std::iter::empty::<Vni>().collect()), None).unwrap();
    let fails = |add: Vec<OutputPlan>, remove: &[&str], pipeline: &mut Pipeline| {
        let remove = remove.iter().map(|name| (*name).to_owned()).collect();
        let error =
            pipeline.change(Changes { add, remove, allowed: Some(nobody.clone()), ..Changes::default() }).unwrap_err();
        error.to_string()
    };
    let good = || output("good", &dir.path().join("good"));
    let said = fails(vec![good(), output("bad", &file.join("x"))], &["pcap"], &mut pipeline);
    assert!(said.starts_with("output bad: cannot write captures to "), "{said}");
    let said = fails(vec![output("second", &dir.path().join("pcap"))], &[], &mut pipeline);
    assert!(said.starts_with("output second: "), "{said}");
    assert_eq!(fails(vec![good(), good()], &[], &mut pipeline), "there is an output good already");
    assert_eq!(fails(vec![output("pcap", dir.path())], &[], &mut pipeline), "there is an output pcap already");
    assert_eq!(fails(vec![], &["ids"], &mut pipeline), "there is no output ids");
    let snapshot = end(pipeline);
    assert_eq!((snapshot.outputs.len(), snapshot.partly.len(), snapshot.datagrams.unselected), (1, 0, 0));
    assert_eq!(snapshot.outputs["pcap"].written, snapshot.datagrams.decapsulated);
    // What was opened in vain has left nothing but its directory.
    assert!(numbers(&dir.path().join("good"), 0).is_empty());
}

#[test]
fn who_is_allowed_changes_with_the_outputs_and_every_frame_is_decided_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut pipeline = start(dir.path());
    let only = |vnis: &[u32]| Allowed::new(Some(vnis.iter().filter_map(|vni| Vni::new(*vni)).collect()), None).unwrap();
    for round in 0..10 {
        frames_come(&pipeline);
        let (name, other) = (format!("o{round}"), format!("o{}", round - 1));
        let remove = if round == 0 { vec![] } else { vec![other] };
        // Of each batch the output has all or nothing: what is allowed and where it goes change
        // together.
        let allowed = Some(only(if round % 2 == 0 { &[0] } else { &[0, 1] }));
        let add = vec![output(&name, &dir.path().join(&name))];
        pipeline.change(Changes { allowed, add, remove, ..Changes::default() }).unwrap();
    }
    let snapshot = end(pipeline);
    let filtered = snapshot.datagrams.unselected;
    let at = |name: String, vni| numbers(&dir.path().join(name), vni);
    for round in 0..10 {
        assert_gapless(&at(format!("o{round}"), 0));
        let one = at(format!("o{round}"), 1);
        assert_gapless(&one);
        assert_eq!(one.is_empty(), round % 2 == 0, "round {round}");
    }
    assert_gapless(&at("pcap".into(), 0));
    let all = numbers(&dir.path().join("pcap"), 1).len() as u64;
    let session = snapshot.sessions.iter().find(|session| session.session.vni.get() == 1).unwrap();
    assert_eq!(all, session.frames);
    assert!(filtered > 0);
    assert_eq!(snapshot.outputs["pcap"].filtered, filtered);
}

#[test]
fn what_waits_for_a_worker_that_stalls_is_done_when_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let vni = Arc::new(AtomicU32::new(0));
    let mut pipeline = start_of(dir.path(), &vni, 10);
    wait("sessions come", &mut || pipeline.registry.count() == 2);
    vni.store(STALLED, Ordering::Relaxed);
    wait("both stall", &mut || vni.load(Ordering::Relaxed) == STALLED | STALLS | STALLS << 1);
    let label = Label { name: Some("web".into()), ..Label::default() };
    let entry = Entry { plan: SessionPlan { label: label.clone(), ..SessionPlan::default() }, ..Entry::default() };
    let policy = Some(Arc::new(Policy::new(vec![entry], vec![]).unwrap()));
    let slow = pipeline.change(Changes { policy, ..Changes::default() }).unwrap_err();
    assert!(slow.is_made(), "{slow}");
    assert!(!pipeline.reap());
    let again = pipeline.change(Changes::default()).unwrap_err();
    assert!(matches!(again, ChangeError::Stalls), "{again}");
    let labels = |pipeline: &Pipeline| pipeline.registry.sessions().into_iter().map(|(_, _, label)| label);
    assert!(labels(&pipeline).all(|now| now != label));
    vni.store(0, Ordering::Relaxed);
    wait("the change is made", &mut || pipeline.reap());
    assert!(labels(&pipeline).all(|now| now == label));
    pipeline.change(Changes::default()).unwrap();
    end(pipeline);
}

#[test]
fn what_an_output_keeps_of_a_frame_changes_with_its_plan() {
    let dir = tempfile::tempdir().unwrap();
    let mut pipeline = start(dir.path());
    for round in 0..6 {
        frames_come(&pipeline);
        let mut plan = output("pcap", &dir.path().join("pcap"));
        let (snaplen, hash) = if round % 2 == 0 { (20, None) } else { (40, Some(Algorithm::Sha256)) };
        plan.lane.snaplen = snaplen as usize;
        let Destination::Files(files) = &mut plan.to else { unreachable!() };
        files.snaplen = snaplen;
        files.archive.hash = hash;
        files.archive.budget.keep_files = Some(1000);
        pipeline.change(Changes { change: vec![plan], ..Changes::default() }).unwrap();
    }
    frames_come(&pipeline);
    let snapshot = end(pipeline);
    assert!(snapshot.outputs["pcap"].snapped > 0);
    for vni in 0..2 {
        let all = numbers(&dir.path().join("pcap"), vni);
        assert_eq!(all[0], 0);
        assert_gapless(&all);
    }
    // A frame is never longer than the header of its file says, and no line lacks the hash of its
    // plan.
    let mut lengths = BTreeSet::new();
    for entry in fs::read_dir(dir.path().join("pcap/vni0_192.0.2.1")).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        let most = u32::from_le_bytes(bytes[16..20].try_into().unwrap());
        for record in pcap::records(&bytes[pcap::FILE_HEADER_LEN..]) {
            assert!(record.frame.len() <= most as usize, "{} of {most}", record.frame.len());
            lengths.insert(record.frame.len());
        }
    }
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [20, 40, 60]);
    let manifest = fs::read_to_string(dir.path().join("pcap/manifest.jsonl")).unwrap();
    let hashes: Vec<bool> =
        manifest.lines().filter(|line| line.contains("published")).map(|line| line.contains("sha256")).collect();
    assert!(hashes.contains(&true) && hashes.contains(&false), "{manifest}");
}

/// Plans a watch of what is `wanted`.
fn watch(number: usize, wanted: Wanted) -> (OutputPlan, Arc<Feed>) {
    let feed = Arc::new(Feed::new(60, None, bounded(1).0));
    let plan = OutputPlan {
        name: format!("watch:{number}"),
        essential: false,
        selection: Selection::default(),
        lane: WatchPlan::lane(60, 2),
        to: Destination::Watch(WatchPlan { wanted, feed: Arc::clone(&feed), duration: None }),
    };
    (plan, feed)
}

/// Takes what a feed has.
fn take(feed: &Feed, taken: &mut Vec<u8>) {
    let context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(bytes)) = feed.poll_take(&context) {
        taken.extend_from_slice(&bytes);
    }
}

#[test]
fn a_watch_has_every_frame_of_its_session_while_it_lasts_and_no_other_output_notices() {
    let dir = tempfile::tempdir().unwrap();
    let mut pipeline = start(dir.path());
    let source = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
    let (one, feed) = watch(1, Wanted::One(Vni::new(1).unwrap(), source));
    let (all, stopped) = watch(2, Wanted::All);
    pipeline.change(Changes { add: vec![one, all], ..Changes::default() }).unwrap();
    let mut taken = Vec::new();
    let until = Instant::now() + Duration::from_secs(30);
    // The other takes nothing, until its queue is full.
    while stopped.outcome().dropped == 0 {
        assert!(Instant::now() < until, "{stopped:?}");
        take(&feed, &mut taken);
        thread::sleep(Duration::from_millis(1));
    }
    drop(Watching(stopped));
    let remove = vec!["watch:1".into(), "watch:2".into()];
    pipeline.change(Changes { remove, ..Changes::default() }).unwrap();
    while !pipeline.reap() {
        assert!(Instant::now() < until, "its thread ends");
        take(&feed, &mut taken);
    }
    let snapshot = end(pipeline);
    let records = pcap::records(&taken[pcap::FILE_HEADER_LEN..]);
    let seen: Vec<u64> = records.map(|record| u64::from_be_bytes(record.frame[..8].try_into().unwrap())).collect();
    assert_gapless(&seen);
    let (one, all) = (&snapshot.outputs["watch:1"], &snapshot.outputs["watch:2"]);
    assert_eq!((one.written, one.unwatched), (seen.len() as u64, 0));
    assert!(one.filtered_by["session"] > 0 && one.written > 0, "{one:?}");
    assert_eq!((all.written, all.offered), (0, all.unwatched));
    assert_eq!(snapshot.partly.keys().collect::<Vec<_>>(), ["watch:1", "watch:2"]);
    let pcap = &snapshot.outputs["pcap"];
    assert_eq!((pcap.offered, pcap.written), (snapshot.datagrams.decapsulated, snapshot.datagrams.decapsulated));
}

#[test]
fn watches_that_have_come_and_gone_have_one_place_in_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let mut pipeline = start(dir.path());
    let until = Instant::now() + Duration::from_secs(30);
    for _ in 0..4 {
        let (plan, feed) = watch(1, Wanted::All);
        pipeline.change(Changes { add: vec![plan], ..Changes::default() }).unwrap();
        while feed.outcome().dropped == 0 {
            assert!(Instant::now() < until, "{feed:?}");
            thread::sleep(Duration::from_millis(1));
        }
        drop(Watching(feed));
        pipeline.change(Changes { remove: vec!["watch:1".into()], ..Changes::default() }).unwrap();
        while !pipeline.reap() {
            assert!(Instant::now() < until, "its thread ends");
            thread::sleep(Duration::from_millis(1));
        }
    }
    // All but for the last, which still had its own when it came.
    let first = pipeline.ledger.outputs.at(0);
    assert_eq!((first.name.as_str(), first.ends.len()), ("watch:1", 1));
    let before = first.totals().offered;
    drop(first);
    let snapshot = end(pipeline);
    let all = &snapshot.outputs["watch:1"];
    assert!(before > 0 && all.offered > before, "{before} of {all:?}");
}

#[test]
fn a_watch_sees_a_session_whose_plan_names_other_outputs_and_not_what_its_plan_keeps_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut pipeline = start(dir.path());
    let entry = |vni, plan| {
        let sessions = Match { vnis: Some(Vni::new(vni).into_iter().collect()), ..Match::default() };
        Entry { sessions, plan }
    };
    let label = Label { name: Some("web".into()), ..Label::default() };
    let nowhere = SessionPlan { label, outputs: std::iter::empty().collect(), ..SessionPlan::default() };
    let entries = vec![entry(0, nowhere), entry(1, SessionPlan { drop: true, ..SessionPlan::default() })];
    let policy = Some(Arc::new(Policy::new(entries, vec!["pcap".into()]).unwrap()));
    let (web, named) = watch(1, "web".parse().unwrap());
    let (all, everything) = watch(2, Wanted::All);
    pipeline.change(Changes { policy, add: vec![web, all], ..Changes::default() }).unwrap();
    for feed in [named, everything] {
        let mut taken = Vec::new();
        let until = Instant::now() + Duration::from_secs(30);
        while taken.len() < 10_000 {
            assert!(Instant::now() < until, "{feed:?}");
            take(&feed, &mut taken);
            thread::sleep(Duration::from_millis(1));
        }
        drop(Watching(feed));
    }
    let snapshot = end(pipeline);
    for name in ["watch:1", "watch:2"] {
        let watch = &snapshot.outputs[name];
        assert!(watch.written > 0 && watch.filtered_by["session"] > 0, "{name}: {watch:?}");
    }
}
