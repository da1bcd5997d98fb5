use std::path::Path;
use std::time::Duration;

use super::*;
use crate::lane::{LanePlan, WhenFull};
use crate::route::Selection;
use crate::sink::file::tests::plan;
use crate::source::prepared::Prepared;
use crate::source::{Datagram, Offline, Received, Source};

/// Makes a plan of one output of files, which wants all.
fn to_files(dir: &Path) -> PipelinePlan {
    let output = OutputPlan {
        name: "pcap".into(),
        selection: Selection::default(),
        lane: LanePlan { chunks: 2, when_full: WhenFull::Wait, ..LanePlan::default() },
        to: Destination::Files(plan(dir)),
        essential: true,
    };
    PipelinePlan {
        reserved_bits: ReservedBits::Accept,
        vni_mask: crate::wire::VniMask::ALL,
        timestamps: Timestamps::Arrival,
        max_sessions: 10,
        count: None,
        policy: Arc::default(),
        outputs: vec![output],
    }
}

#[test]
fn datagrams_are_accepted_when_the_outputs_are_open() {
    let dir = tempfile::tempdir().unwrap();
    let source = Prepared { looks_for: Some(dir.path().join("manifest.jsonl")), ..Prepared::default() };
    let error = Pipeline::start(&to_files(dir.path()), &Arc::default(), vec![source], Front::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot begin to receive: manifest: true");
}

/// A source that is no more than that: it lends datagrams, and ends.
#[derive(Debug)]
struct Recorded(Prepared);

impl Source for Recorded {
    fn receive(&mut self, limit: usize, deliver: &mut impl FnMut(&Datagram<'_>)) -> std::io::Result<Received> {
        self.0.receive(limit, deliver)
    }
}

#[test]
fn a_source_that_ends_ends_the_sensor_and_all_it_had_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let recorded = |n| {
        let payloads = (0..n).map(|_| worker::tests::payload(7, 1000));
        Offline::new(Recorded(Prepared { ends: true, ..Prepared::new(payloads) }))
    };
    // More than the chunks of a lane hold, so that workers wait for the files.
    let sources = vec![recorded(3_000), recorded(10), recorded(990)];
    let pipeline = Pipeline::start(&to_files(dir.path()), &Arc::default(), sources, Front::default()).unwrap();
    pipeline.ended.recv_timeout(Duration::from_secs(60)).expect("the last worker tells that it has ended");
    let outcome = pipeline.end();
    assert_eq!(outcome.cut_short, 0);
    assert_eq!(outcome.failures, Vec::<String>::new());
    let written = outcome.snapshot.outputs["pcap"].written;
    assert_eq!(
        (outcome.snapshot.datagrams.received, written, outcome.snapshot.datagrams.refused_at_stop),
        (4_000, 4_000, 0)
    );
}

#[test]
fn a_recorded_source_that_is_stopped_does_not_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let payloads = (0..100).map(|_| worker::tests::payload(7, 60));
    let source = Offline::new(Recorded(Prepared { ends: true, ..Prepared::new(payloads) }));
    let plan = PipelinePlan { count: Some(10), ..to_files(dir.path()) };
    let pipeline = Pipeline::start(&plan, &Arc::default(), vec![source], Front::default()).unwrap();
    pipeline.ended.recv_timeout(Duration::from_secs(60)).expect("the quota is spent");
    let outcome = pipeline.end();
    assert_eq!(outcome.cut_short, 1, "it had more");
    let snapshot = outcome.snapshot;
    assert_eq!(
        (snapshot.datagrams.received, snapshot.datagrams.refused_at_stop),
        (10, 0),
        "nobody sends what is in a file"
    );
}

/// A source that fails once it is asked.
#[derive(Debug)]
struct Broken;

impl Source for Broken {
    fn receive(&mut self, _: usize, _: &mut impl FnMut(&Datagram<'_>)) -> std::io::Result<Received> {
        Err(std::io::Error::other("broken"))
    }
}

/// A source that has nothing yet, and does not end.
#[derive(Debug)]
struct Silent;

impl Source for Silent {
    fn receive(&mut self, _: usize, _: &mut impl FnMut(&Datagram<'_>)) -> std::io::Result<Received> {
        Ok(Received::Datagrams(0))
    }
}

/// One of several sources.
#[derive(Debug)]
enum Any {
    Recorded(Recorded),
    Broken(Broken),
    Silent(Silent),
}

impl Source for Any {
    fn receive(&mut self, limit: usize, deliver: &mut impl FnMut(&Datagram<'_>)) -> std::io::Result<Received> {
        match self {
            Self::Recorded(source) => source.receive(limit, deliver),
            Self::Broken(source) => source.receive(limit, deliver),
            Self::Silent(source) => source.receive(limit, deliver),
        }
    }
}

#[test]
fn a_failure_is_told_at_once_and_the_end_of_one_source_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let start = |sources: Vec<Any>| {
        let sources = sources.into_iter().map(Offline::new).collect();
        Pipeline::start(&to_files(dir.path()), &Arc::default(), sources, Front::default()).unwrap()
    };
    let ends = || Any::Recorded(Recorded(Prepared { ends: true, ..Prepared::default() }));

    let one_ends = start(vec![ends(), Any::Silent(Silent)]);
    assert!(one_ends.ended.recv_timeout(Duration::from_millis(200)).is_err(), "the other may have more");
    let outcome = one_ends.end();
    assert_eq!((outcome.cut_short, outcome.failures), (1, Vec::new()));

    let one_fails = start(vec![Any::Broken(Broken), Any::Silent(Silent)]);
    one_fails.ended.recv_timeout(Duration::from_secs(60)).expect("a failure is told while others run");
    assert_eq!(one_fails.end().failures, ["a worker could not receive: broken"]);
}
