use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::archive::ArchivePlan;
use crate::lane::LanePlan;
use crate::record::format::Format;
use crate::sink::file::FilePlan;
use crate::source::Datagram;
use crate::storage::Direct;

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
    let files = FilePlan {
        directory: dir.path().to_path_buf(),
        rotate_size: 1 << 30,
        rotate_frames: None,
        rotate_time: Duration::from_secs(3600),
        snaplen: 262_144,
        linger: Duration::from_secs(1),
        buffer_memory: 1 << 20,
        open_files: 10,
        format: Format::Pcap,
        compression: None,
        direct: Direct::Off,
        archive: ArchivePlan::default(),
    };
    let output = OutputPlan {
        name: "pcap".into(),
        selection: Selection::default(),
        lane: LanePlan { chunks: 2, linger: Duration::from_secs(1), snaplen: 262_144, sessions: 10, redirect: false },
        to: Destination::Files(files),
    };
    let plan =
        PipelinePlan { reserved_bits: ReservedBits::Accept, max_sessions: 10, count: None, outputs: vec![output] };
    let error =
        Pipeline::start(&plan, &Arc::default(), vec![Asked(dir.path().join("manifest.jsonl"))], None).unwrap_err();
    assert_eq!(error.to_string(), "cannot begin to receive: manifest: true");
}
