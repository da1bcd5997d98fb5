use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::lane::LanePlan;
use crate::sink::file::tests::plan;
use crate::source::Datagram;

/// A source that cannot begin, and says whether the output was ready then.
#[derive(Debug)]
struct Asked(PathBuf);

impl Source for Asked {
    fn begin(&mut self) -> io::Result<()> {
        Err(io::Error::other(format!("manifest: {}", self.0.exists())))
    }
    fn receive(&mut self, _: usize, _: &mut impl FnMut(&Datagram<'_>)) -> io::Result<usize> {
        Ok(0)
    }
    fn wait(&mut self, _: Duration) -> io::Result<()> {
        Ok(())
    }
    fn patience(&self) -> Duration {
        Duration::ZERO
    }
    fn kernel_dropped(&mut self) -> u64 {
        0
    }
    fn refuse_further(&mut self) {}
    fn refused(&mut self) -> u64 {
        0
    }
}

#[test]
fn datagrams_are_accepted_when_the_outputs_are_open() {
    let dir = tempfile::tempdir().unwrap();
    let output = OutputPlan {
        name: "pcap".into(),
        selection: Selection::default(),
        lane: LanePlan { chunks: 2, linger: Duration::from_secs(1), snaplen: 262_144, sessions: 10, redirect: false },
        to: Destination::Files(plan(dir.path())),
    };
    let pipeline =
        PipelinePlan { reserved_bits: ReservedBits::Accept, max_sessions: 10, count: None, outputs: vec![output] };
    let error =
        Pipeline::start(&pipeline, &Arc::default(), vec![Asked(dir.path().join("manifest.jsonl"))], None).unwrap_err();
    assert_eq!(error.to_string(), "cannot begin to receive: manifest: true");
}
