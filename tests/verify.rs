//! `vxtap verify` as it is run: what it prints, and its exit code.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use vxtap::evidence::{Algorithm, Capture, Digest, Event, FileHash, Manifest};
use vxtap::record::Timestamp;
use vxtap::storage::{Disk, Storage};

fn verify(arguments: &[&str], directory: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vxtap")).arg("verify").args(arguments).arg(directory).output().unwrap()
}

/// Returns its exit code and the lines on standard output.
#[track_caller]
fn outcome(output: &Output) -> (Option<i32>, Vec<&str>) {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (output.status.code(), str::from_utf8(&output.stdout).unwrap().lines().collect())
}

/// By what captures are hashed, one after the other.
const BY: [Option<Algorithm>; 3] = [Some(Algorithm::Sha256), Some(Algorithm::Blake3), None];

/// Publishes captures in `directory` and returns the hash of each line.
fn publish(directory: &Path, names: &[&str]) -> Vec<Digest> {
    let storage: Arc<dyn Storage> = Arc::new(Disk::default());
    let (mut manifest, _) = Manifest::open(&storage, directory).unwrap();
    fs::create_dir(directory.join("overflow")).unwrap();
    let heads = names.iter().zip(BY).map(|(name, by)| {
        let capture = Capture {
            path: format!("overflow/{name}.pcap"),
            name: None,
            tag: None,
            session: None,
            first: Timestamp::from_ns(1),
            last: Timestamp::from_ns(2),
            frames: 1,
            frame_bytes: 60,
            bytes: name.len() as u64,
            dropped: [].into(),
            kernel_dropped: 0,
            format: "pcap".into(),
            compression: None,
            hash: by.map(|algorithm| FileHash::of(algorithm, name.as_bytes())),
        };
        fs::write(directory.join(&capture.path), name).unwrap();
        manifest.append(&Event::Published(capture), true).unwrap();
        manifest.head()
    });
    heads.collect()
}

#[test]
fn what_does_not_match_says_the_code_also_where_nothing_can_be_printed() {
    let dir = tempfile::tempdir().unwrap();
    publish(dir.path(), &["a", "bb", "c"]);
    let code = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vxtap"));
        let output = command.arg("verify").arg(dir.path()).stdout(fs::File::create("/dev/full").unwrap()).output();
        let output = output.unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).contains("cannot print the report"));
        output.status.code()
    };
    assert_eq!(code(), Some(3));
    fs::write(dir.path().join("overflow/bb.pcap"), "no").unwrap();
    assert_eq!(code(), Some(4));
}

#[test]
fn a_directory_that_matches() {
    let dir = tempfile::tempdir().unwrap();
    let heads = publish(dir.path(), &["a", "bb", "c"]);
    let last = format!("last line: {}", heads[2]);
    let totals = "3 files of 4 bytes as recorded; 3 lines, 0 of pruned files; 0 differences";
    let unhashed = "1 file was written with --hash none: only its size was compared";
    for arguments in [vec![], vec!["--head".to_owned(), heads[0].to_string()]] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(outcome(&verify(&arguments, dir.path())), (Some(0), vec![totals, unhashed, &last]));
    }
    // While a sensor has it.
    let storage: Arc<dyn Storage> = Arc::new(Disk::default());
    let _sensor = Manifest::open(&storage, dir.path()).unwrap();
    assert_eq!(outcome(&verify(&[], dir.path())), (Some(0), vec![totals, unhashed, &last]));
}

#[test]
fn a_directory_that_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let heads = publish(dir.path(), &["a", "bb", "c"]);
    fs::write(dir.path().join("overflow/bb.pcap"), "xx").unwrap();
    fs::remove_file(dir.path().join("overflow/c.pcap")).unwrap();
    fs::write(dir.path().join("overflow/d.pcap"), "d").unwrap();
    fs::write(dir.path().join("overflow/e.pcap.part"), "e").unwrap();
    let other = Digest::of(b"other");
    let output = verify(&["--head", &other.to_string()], dir.path());
    let (code, lines) = outcome(&output);
    let [found, said] = [b"xx", b"bb"].map(|bytes| FileHash::of(Algorithm::Blake3, bytes));
    let changed = format!("overflow/bb.pcap was changed: its hash is {found}, and was {said} (line 2)");
    let want = [
        changed.as_str(),
        "overflow/c.pcap is missing (line 3)",
        "overflow/d.pcap is not in the manifest",
        &format!("no line has the hash {other}: lines up to that one were changed or removed"),
        "note: overflow/e.pcap.part is being written, or a crash left it",
        "1 file of 1 byte as recorded; 3 lines, 0 of pruned files; 4 differences",
        &format!("last line: {}", heads[2]),
    ];
    assert_eq!((code, lines), (Some(4), want.to_vec()));
}

#[test]
fn nothing_to_verify() {
    let dir = tempfile::tempdir().unwrap();
    let output = verify(&[], dir.path());
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("there is no manifest.jsonl in "), "{complaint}");
    assert_eq!(verify(&[], &dir.path().join("missing")).status.code(), Some(1));
    assert_eq!(verify(&["--head", "12"], dir.path()).status.code(), Some(2));
}
