//! What happens to an archive's directory while a sensor has it.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::*;
use crate::console::Console;
use crate::record::Timestamp;
use crate::storage::Disk;
use crate::verify;

/// A sensor's end of an archive.
struct Sensor {
    archive: Archive,
    output: Output,
    directory: PathBuf,
}

const SESSION: &str = "vni7_192.0.2.1";

fn sensor(directory: &Path, change: impl FnOnce(&mut ArchivePlan)) -> Sensor {
    let mut plan = ArchivePlan::default();
    change(&mut plan);
    let labels = Labels { format: "pcap".into(), compression: None };
    let mut output = Output { name: "pcap".into(), ends: Vec::new() };
    let storage: Arc<dyn Storage> = Arc::new(Disk::default());
    let archive = Archive::open(directory, plan, labels, &storage, &mut output).unwrap();
    Sensor { archive, output, directory: directory.to_path_buf() }
}

impl Sensor {
    /// Hands over a capture, which is as old as its number says.
    fn publish(&self, number: u32) {
        self.publish_in(SESSION, number);
    }

    fn publish_in(&self, session: &str, number: u32) {
        let directory = self.directory.join(session);
        let names = Names::new(&directory, session, Timestamp::from_ns(0), number, "pcap");
        let bytes = format!("capture {number}").into_bytes();
        fs::create_dir_all(directory).unwrap();
        fs::write(&names.part, &bytes).unwrap();
        let time = Timestamp::from_ns(u64::from(number));
        self.archive.publish(Closed {
            names,
            session: name::parse_session(session).flatten(),
            span: (time, time),
            frames: 1,
            frame_bytes: 60,
            bytes: bytes.len() as u64,
            losses: Losses::default(),
            kernel_dropped: 0,
            number: None,
            digest: None,
            announced: None,
        });
    }

    fn count(&self, counter: impl Fn(&crate::ledger::OutputCounters) -> &Counter) -> u64 {
        self.output.ends.iter().map(|end| counter(end).get()).sum()
    }

    #[track_caller]
    fn published(&self, files: u64) {
        eventually(|| self.count(|end| &end.files) == files);
    }
}

#[track_caller]
fn eventually(mut happens: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !happens() {
        assert!(begin.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(2));
    }
}

/// What does not match the manifest.
fn mismatches(directory: &Path) -> Vec<String> {
    let report = verify::run(directory, None, &AtomicBool::new(false), &Console::default()).unwrap();
    report.mismatches.iter().map(ToString::to_string).collect()
}

#[test]
fn the_budget_removes_nothing_behind_a_symbolic_link() {
    let dir = tempfile::tempdir().unwrap();
    let (directory, outside) = (dir.path().join("captures"), dir.path().join("outside"));
    fs::create_dir(&directory).unwrap();
    let mut first = sensor(&directory, |_| ());
    for number in 1..=3 {
        first.publish(number);
    }
    first.archive.finish();
    let session = directory.join(SESSION);
    fs::rename(&session, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &session).unwrap();

    // At the start, and while it runs.
    let mut second = sensor(&directory, |plan| plan.budget.keep_files = Some(1));
    fs::remove_file(&session).unwrap();
    fs::rename(&outside, &session).unwrap();
    second.publish(4);
    second.published(1);
    fs::rename(&session, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &session).unwrap();
    second.publish_in("overflow", 5);
    second.publish_in("overflow", 6);
    second.archive.finish();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 4);
    assert_eq!(second.count(|end| &end.pruned), 1, "in its own directory");
    let lines = fs::read_to_string(directory.join(manifest::NAME)).unwrap();
    let pruned: Vec<_> = lines.lines().filter(|line| line.contains("\"pruned\"")).collect();
    assert!(matches!(pruned[..], [line] if line.contains("overflow")), "{pruned:?}");
    assert!(mismatches(&directory).iter().any(|what| what.contains("is a symbolic link in place of a session's")));
}
