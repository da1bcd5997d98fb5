use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::{prelude::*, sample::Index, test_runner::TestRunner};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::report::{Break, Note};
use super::*;
use crate::evidence::{Algorithm, Capture, Event, FileHash, Manifest, PruneReason};
use crate::record::Timestamp;
use crate::session::Session;
use crate::storage::{Disk, Storage};
use crate::wire::Vni;

/// A directory with the captures 1 to 5, of which 2 was pruned: six lines.
struct Archive {
    dir: TempDir,
    manifest: Manifest,
    heads: Vec<Digest>,
}

fn bytes(number: u32) -> Vec<u8> {
    format!("capture {number}").into_bytes().repeat(number as usize)
}

fn sha256(bytes: &[u8]) -> FileHash {
    FileHash::of(Algorithm::Sha256, bytes)
}

fn capture(number: u32) -> Capture {
    let bytes = bytes(number);
    Capture {
        path: format!("vni7_192.0.2.1/{number}.pcap"),
        name: None,
        tag: None,
        session: Some(Session::vxlan(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), Vni::new(7).unwrap())),
        first: Timestamp::from_ns(1),
        last: Timestamp::from_ns(2),
        frames: 2,
        frame_bytes: 120,
        bytes: bytes.len() as u64,
        dropped: [].into(),
        kernel_dropped: 0,
        format: "pcap".into(),
        compression: None,
        hash: Some(sha256(&bytes)),
    }
}

fn pruned(number: u32) -> Event {
    Event::Pruned {
        path: capture(number).path,
        hash: capture(number).hash,
        reason: PruneReason::KeepFiles,
        undelivered: Vec::new(),
    }
}

impl Archive {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(Disk::default());
        let (manifest, _) = Manifest::open(&storage, dir.path()).unwrap();
        let mut archive = Archive { dir, manifest, heads: Vec::new() };
        for number in 1..=3 {
            archive.publish(number);
        }
        archive.append(&pruned(2));
        fs::remove_file(archive.file(2)).unwrap();
        archive.publish(4);
        archive.publish(5);
        archive
    }

    fn append(&mut self, event: &Event) {
        self.manifest.append(event, false).unwrap();
        self.heads.push(self.manifest.head());
    }

    fn publish(&mut self, number: u32) {
        self.append(&Event::Published(capture(number)));
        fs::create_dir_all(self.file(number).parent().unwrap()).unwrap();
        fs::write(self.file(number), bytes(number)).unwrap();
    }

    fn file(&self, number: u32) -> PathBuf {
        self.dir.path().join(capture(number).path)
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join(NAME)).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn set_lines(&self, lines: &[String]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(self.dir.path().join(NAME), text).unwrap();
    }

    fn report(&self, head: Option<Digest>) -> Report {
        verify(self.dir.path(), head).unwrap()
    }

    /// Returns what does not match.
    #[track_caller]
    fn mismatches(&self) -> Vec<Mismatch> {
        let report = self.report(None);
        assert_eq!(report.notes, [], "{report}");
        report.mismatches
    }
}

fn verify(directory: &Path, head: Option<Digest>) -> Result<Report, VerifyError> {
    run(directory, head, &AtomicBool::new(false), &Console::default())
}

fn path(number: u32) -> String {
    capture(number).path
}

#[test]
fn a_directory_as_it_was_left_matches() {
    let archive = Archive::new();
    let report = archive.report(None);
    let sizes: usize = [1, 3, 4, 5].into_iter().map(|number| bytes(number).len()).sum();
    let want = Report {
        files: 4,
        bytes: sizes as u64,
        lines: 6,
        pruned: 1,
        head: archive.heads.last().copied(),
        ..Report::default()
    };
    assert_eq!(report, want);
    assert_eq!(
        report.to_string(),
        format!(
            "4 files of 117 bytes as recorded; 6 lines, 1 of pruned files; 0 differences\nlast line: {}",
            archive.heads[5]
        )
    );
    let empty = Archive { dir: tempfile::tempdir().unwrap(), ..archive };
    fs::write(empty.dir.path().join(NAME), "").unwrap();
    assert_eq!(empty.report(None), Report::default());
}

#[test]
fn changed_and_missing_files_are_named() {
    let archive = Archive::new();
    fs::write(archive.file(1), "Capture 1").unwrap();
    fs::write(archive.file(3), &bytes(3)[1..]).unwrap();
    fs::remove_file(archive.file(4)).unwrap();
    fs::remove_file(archive.file(5)).unwrap();
    std::os::unix::fs::symlink(archive.dir.path().join(NAME), archive.file(5)).unwrap();
    let (said, found) = (sha256(b"capture 1"), sha256(b"Capture 1"));
    assert_eq!(
        archive.mismatches(),
        [
            Mismatch::Content { line: 1, path: path(1), said, found },
            Mismatch::Length { line: 3, path: path(3), said: 27, found: 26 },
            Mismatch::Missing { line: 5, path: path(4) },
            Mismatch::Unreadable { line: 6, path: path(5), error: "not a regular file but a symbolic link".into() },
        ]
    );
    assert_eq!(archive.report(None).files, 0);
}

#[test]
fn of_a_file_without_a_hash_the_size_is_compared_and_the_report_says_so() {
    let mut archive = Archive::new();
    for number in [6, 7] {
        archive.append(&Event::Published(Capture { hash: None, ..capture(number) }));
        fs::write(archive.file(number), bytes(number)).unwrap();
    }
    let part = archive.dir.path().join(format!("{}.part", path(7)));
    fs::rename(archive.file(7), &part).unwrap();
    // Pruned, and still there: nothing is known of it but its name.
    archive.append(&Event::Pruned {
        path: path(8),
        hash: None,
        reason: PruneReason::KeepFiles,
        undelivered: Vec::new(),
    });
    fs::write(archive.file(8), "other").unwrap();
    let report = archive.report(None);
    assert_eq!((&report.mismatches[..], report.files, report.unhashed), (&[][..], 6, 2));
    let notes =
        [Note::Unnamed { line: 8, path: format!("{}.part", path(7)) }, Note::PrunedStays { line: 9, path: path(8) }];
    assert_eq!(report.notes, notes);
    let said = "; 0 differences\n2 files were written with --hash none: only their sizes were compared\nlast line: ";
    assert!(report.to_string().contains(said), "{report}");

    // Of the same size, which nothing tells; and of another.
    fs::write(archive.file(6), [0; 54]).unwrap();
    fs::write(&part, "short").unwrap();
    let report = archive.report(None);
    let shown = format!("{}.part", path(7));
    assert_eq!(report.mismatches, [Mismatch::Length { line: 8, path: shown, said: 63, found: 5 }]);
    let said = "; 1 difference\n1 file was written with --hash none: only its size was compared\nlast line: ";
    assert!(report.to_string().contains(said), "{report}");
}

#[test]
fn each_file_is_compared_by_the_hash_of_its_line() {
    let mut archive = Archive::new();
    let blake3 = |bytes: &[u8]| FileHash::of(Algorithm::Blake3, bytes);
    for (number, hash) in [(6, Some(blake3(&bytes(6)))), (7, None), (8, Some(sha256(&bytes(8))))] {
        archive.append(&Event::Published(Capture { hash, ..capture(number) }));
        fs::write(archive.file(number), bytes(number)).unwrap();
    }
    let aside = archive.dir.path().join("unsalvageable");
    let (path_aside, why) = ("unsalvageable/9.pcap.part".to_owned(), String::new());
    archive.append(&Event::SetAside { path: path_aside.clone(), bytes: 3, hash: blake3(b"abc"), why });
    fs::create_dir(&aside).unwrap();
    fs::write(archive.dir.path().join(&path_aside), "abc").unwrap();
    let report = archive.report(None);
    assert_eq!((&report.mismatches[..], &report.notes[..], report.files, report.unhashed), (&[][..], &[][..], 8, 1));

    // A wrong byte, one in a file that was set aside, and a pruned file with other bytes.
    let mut wrong = bytes(6);
    wrong[20] ^= 1;
    fs::write(archive.file(6), &wrong).unwrap();
    fs::write(archive.dir.path().join(&path_aside), "abd").unwrap();
    archive.append(&Event::Pruned {
        path: path(10),
        hash: Some(blake3(&bytes(10))),
        reason: PruneReason::KeepFiles,
        undelivered: Vec::new(),
    });
    fs::write(archive.file(10), "other").unwrap();
    let content = |line, path, said: &[u8], found: &[u8]| Mismatch::Content {
        line,
        path,
        said: blake3(said),
        found: blake3(found),
    };
    let mismatches = [
        content(7, path(6), &bytes(6), &wrong),
        content(10, path_aside, b"abc", b"abd"),
        content(11, path(10), &bytes(10), b"other"),
    ];
    assert_eq!(archive.mismatches(), mismatches);
    // A hash does not become another by having another name.
    let mut lines = archive.lines();
    lines[10] = lines[10].replace("blake3", "sha256");
    archive.set_lines(&lines);
    fs::write(archive.file(10), bytes(10)).unwrap();
    assert!(matches!(archive.mismatches()[2], Mismatch::Content { line: 11, .. }));
}

#[test]
fn a_hash_that_is_taken_out_of_a_line_is_missed() {
    let archive = Archive::new();
    let mut lines = archive.lines();
    let hash = format!(",\"sha256\":\"{}\"", sha256(&bytes(3)));
    lines[2] = lines[2].replace(&hash, "");
    archive.set_lines(&lines);
    assert_eq!(archive.mismatches(), [Mismatch::Chain { line: 4, how: Break::Unknown }]);
    // The last line is vouched for by the head alone, as ever.
    let archive = Archive::new();
    let mut lines = archive.lines();
    lines[5] = lines[5].replace(&format!(",\"sha256\":\"{}\"", sha256(&bytes(5))), "");
    archive.set_lines(&lines);
    assert_eq!(archive.report(Some(archive.heads[5])).mismatches, [Mismatch::Head(archive.heads[5])]);
    assert_eq!(archive.report(None).unhashed, 1);
}

#[test]
fn a_link_in_place_of_a_session_s_directory_is_named_and_not_followed() {
    let archive = Archive::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let session = archive.file(1).parent().unwrap().to_path_buf();
    let moved = elsewhere.path().join("moved");
    fs::rename(&session, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &session).unwrap();
    let empty = elsewhere.path().join("empty");
    fs::create_dir(&empty).unwrap();
    std::os::unix::fs::symlink(&empty, archive.dir.path().join("overflow")).unwrap();
    let lines = [(1, 1), (3, 3), (5, 4), (6, 5)];
    let error = "its directory is a symbolic link";
    let mut wanted: Vec<_> = lines
        .map(|(line, number)| Mismatch::Unreadable { line, path: path(number), error: error.into() })
        .into_iter()
        .collect();
    wanted.extend(["overflow", "vni7_192.0.2.1"].map(|path| Mismatch::Link { path: path.into() }));
    assert_eq!(archive.mismatches(), wanted);
}

#[test]
fn captures_without_a_line_are_named_wherever_they_are() {
    let archive = Archive::new();
    let deep = archive.dir.path().join("a/b");
    fs::create_dir_all(&deep).unwrap();
    for name in ["extra.pcap", "a/b/x.pcapng.zst", "vni7_192.0.2.1/6.pcap.lz4"] {
        fs::write(archive.dir.path().join(name), "").unwrap();
    }
    fs::write(deep.join("notes.txt"), "").unwrap();
    std::os::unix::fs::symlink("/", deep.join("link")).unwrap();
    let strangers = ["a/b/x.pcapng.zst", "extra.pcap", "vni7_192.0.2.1/6.pcap.lz4"];
    assert_eq!(archive.mismatches(), strangers.map(|path| Mismatch::Stranger { path: path.into() }));
    // A pruned capture's name does not cover another file.
    fs::write(archive.file(2), "other").unwrap();
    let mismatches = archive.mismatches();
    let mismatch = Mismatch::Content { line: 4, path: path(2), said: sha256(&bytes(2)), found: sha256(b"other") };
    assert_eq!((mismatches.len(), &mismatches[0]), (4, &mismatch));
}

#[test]
fn lines_that_were_removed_are_missed() {
    let archive = Archive::new();
    let lines = archive.lines();
    archive.set_lines(&lines[1..]);
    let stranger = |number| Mismatch::Stranger { path: path(number) };
    assert_eq!(archive.mismatches(), [Mismatch::Chain { line: 1, how: Break::Unknown }, stranger(1)]);
    archive.set_lines(&[&lines[..2], &lines[3..]].concat());
    assert_eq!(archive.mismatches(), [Mismatch::Chain { line: 3, how: Break::Unknown }, stranger(3)]);
    // The end: nothing in the chain tells, but the file and the head do.
    archive.set_lines(&lines[..5]);
    assert_eq!(archive.mismatches(), [stranger(5)]);
    assert_eq!(archive.report(Some(archive.heads[5])).mismatches, [stranger(5), Mismatch::Head(archive.heads[5])]);
    archive.set_lines(&[]);
    assert_eq!(archive.mismatches(), [1, 3, 4, 5].map(stranger));
}

#[test]
fn lines_that_were_changed_moved_or_added_are_named() {
    let archive = Archive::new();
    let lines = archive.lines();
    let chain = |line, how| Mismatch::Chain { line, how };

    let mut edited = lines.clone();
    edited[2] = edited[2].replace("\"kernel_dropped\":0", "\"kernel_dropped\":1");
    archive.set_lines(&edited);
    assert_eq!(archive.mismatches(), [chain(4, Break::Unknown)]);

    let mut swapped = lines.clone();
    swapped.swap(4, 5);
    archive.set_lines(&swapped);
    assert_eq!(archive.mismatches(), [chain(5, Break::Follows(6)), chain(6, Break::Follows(4))]);

    let mut doubled = lines.clone();
    doubled.insert(2, lines[1].clone());
    archive.set_lines(&doubled);
    assert_eq!(archive.mismatches(), [chain(3, Break::Follows(1))]);

    // One that is made as a line should be.
    let mut inserted = lines.clone();
    let lost = r#"{"time":"2026-11-24T03:18:29Z","event":"lost","session":null,"dropped":{},"previous":"HASH"}"#;
    inserted.insert(2, lost.replace("HASH", &archive.heads[1].to_string()));
    archive.set_lines(&inserted);
    assert_eq!(archive.mismatches(), [chain(4, Break::Follows(2))]);
    inserted.remove(2);
    inserted.insert(0, lost.replace("HASH", &Digest::ZERO.to_string()));
    archive.set_lines(&inserted);
    assert_eq!(archive.mismatches(), [chain(2, Break::First)]);

    let mut broken = lines.clone();
    broken[1] = "{}".into();
    archive.set_lines(&broken);
    let mismatches = archive.mismatches();
    assert!(matches!(mismatches[0], Mismatch::Line { line: 2, .. }), "{mismatches:?}");
    assert_eq!(mismatches[1..], [chain(3, Break::Unknown)]);
}

#[test]
fn a_line_cannot_have_another_file_read() {
    let mut archive = Archive::new();
    let outside = archive.dir.path().parent().unwrap().join("x.pcap");
    for path in ["../x.pcap", outside.to_str().unwrap(), "s/../../x.pcap", "s/passwd"] {
        archive.append(&Event::Published(Capture { path: path.into(), ..capture(1) }));
    }
    let why = String::new();
    archive.append(&Event::SetAside { path: "../y".into(), bytes: 0, hash: sha256(b""), why });
    let mismatches = archive.mismatches();
    let lines: Vec<u64> = mismatches.iter().map(Mismatch::line).collect();
    assert_eq!(lines, [7, 8, 9, 10, 11]);
    assert!(mismatches.iter().all(|mismatch| matches!(mismatch, Mismatch::Path { .. })));
}

#[test]
fn a_noted_head_proves_what_is_before_it() {
    let archive = Archive::new();
    for head in &archive.heads {
        assert_eq!(archive.report(Some(*head)).mismatches, []);
    }
    let other = Digest::of(b"other");
    let report = archive.report(Some(other));
    assert_eq!(report.mismatches, [Mismatch::Head(other)]);
    assert!(report.to_string().starts_with(&format!("no line has the hash {other}: ")));
}

#[test]
fn what_a_crash_leaves_is_no_mismatch() {
    let mut archive = Archive::new();
    archive.append(&Event::SetAside {
        path: "vni7_192.0.2.1/9.pcap.part.bad".into(),
        bytes: 3,
        hash: sha256(b"abc"),
        why: String::new(),
    });
    let part = |number: u32| archive.dir.path().join(format!("{}.part", path(number)));
    fs::rename(archive.file(5), part(5)).unwrap();
    fs::write(part(8), "half").unwrap();
    fs::write(archive.file(2), bytes(2)).unwrap();
    let manifest = archive.dir.path().join(NAME);
    let mut text = fs::read(&manifest).unwrap();
    text.extend(b"{\"time\":");
    fs::write(&manifest, text).unwrap();
    let report = archive.report(None);
    assert_eq!(report.mismatches, []);
    assert_eq!(
        report.notes,
        [
            Note::PrunedStays { line: 4, path: path(2) },
            Note::Unnamed { line: 6, path: format!("{}.part", path(5)) },
            Note::SetAsideGone { line: 7, path: "vni7_192.0.2.1/9.pcap.part.bad".into() },
            Note::Part { path: format!("{}.part", path(8)) },
            Note::Torn { bytes: 8 },
        ]
    );
    assert_eq!((report.files, report.lines), (4, 7));
    // But not with other bytes.
    fs::write(part(5), bytes(4)).unwrap();
    let shown = format!("{}.part", path(5));
    assert_eq!(archive.report(None).mismatches, [Mismatch::Length { line: 6, path: shown, said: 45, found: 36 }]);
    // What was set aside is evidence too.
    fs::rename(part(5), archive.file(5)).unwrap();
    fs::write(archive.file(5), bytes(5)).unwrap();
    fs::write(archive.dir.path().join("vni7_192.0.2.1/9.pcap.part.bad"), "abd").unwrap();
    assert!(matches!(archive.report(None).mismatches[..], [Mismatch::Content { line: 7, .. }]));
}

#[test]
fn what_is_salvaged_may_lack_its_name_too() {
    let name = |again: &str| format!("vni7_192.0.2.1/vni7_192.0.2.1_20261124T031829Z_000001{again}.pcap.zst");
    for again in [".recovered", ".recovered-2"] {
        // The file is as it is when it was cut, or when it was copied: then what it was copied from
        // is there too.
        for (before, source) in [(".part", None), (".part.salvage", Some(".part"))] {
            let mut archive = Archive::new();
            archive.append(&Event::Recovered(Capture { path: name(again), ..capture(6) }));
            let at = |ending: &str| archive.dir.path().join(name("") + ending);
            fs::write(at(before), bytes(6)).unwrap();
            let mut notes = vec![Note::Unnamed { line: 7, path: name("") + before }];
            if let Some(ending) = source {
                fs::write(at(ending), "torn").unwrap();
                notes.push(Note::Part { path: name("") + ending });
            }
            let report = archive.report(None);
            assert_eq!((report.mismatches, report.notes), (vec![], notes));
            // But not with other bytes.
            fs::write(at(before), bytes(5)).unwrap();
            assert!(matches!(archive.report(None).mismatches[..], [Mismatch::Length { line: 7, .. }]));
            fs::remove_file(at(before)).unwrap();
            source.into_iter().for_each(|ending| fs::remove_file(at(ending)).unwrap());
            assert_eq!(archive.report(None).mismatches, [Mismatch::Missing { line: 7, path: name(again) }]);
        }
    }
}

#[test]
fn a_sensor_may_prune_and_publish_meanwhile() {
    let mut archive = Archive::new();
    let manifest = archive.dir.path().join(NAME);
    let storage = Disk::below(archive.dir.path(), Direct::Off);
    let found = files::find(&storage, archive.dir.path()).unwrap().captures;
    let mut chain = Chain::default();
    chain.read(&storage, &manifest).unwrap();
    let jobs = chain.expected(&found);
    archive.append(&pruned(1));
    fs::remove_file(archive.file(1)).unwrap();
    archive.publish(6);
    let looks =
        files::look_at(&storage, archive.dir.path(), &jobs, &AtomicBool::new(false), &indicatif::ProgressBar::hidden());
    chain.read(&storage, &manifest).unwrap();
    let mut report = Report::default();
    for (job, look) in jobs.iter().zip(looks) {
        chain.judge(job, look.unwrap(), &mut report);
    }
    chain.strangers(&found, &mut report);
    chain.end(Some(archive.heads[7]), &mut report);
    assert_eq!((report.mismatches, report.notes), (vec![], vec![]));
    assert_eq!((report.files, report.lines, report.pruned), (3, 8, 2));
}

#[test]
fn an_interrupted_check_says_so() {
    let archive = Archive::new();
    let report = run(archive.dir.path(), None, &AtomicBool::new(true), &Console::default()).unwrap();
    assert!(report.interrupted && report.mismatches.is_empty());
    assert_eq!((report.unchecked, report.files), (4, 0));
    assert!(report.to_string().contains("interrupted: not checked 4 files"));
}

#[test]
fn control_characters_are_not_shown_as_they_are() {
    let mismatch = Mismatch::Stranger { path: "a\x1b[2J\nb.pcap".into() };
    assert_eq!(mismatch.to_string(), "a\\u{1b}[2J\\nb.pcap is not in the manifest");
}

#[test]
fn without_a_manifest_there_is_nothing_to_compare() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(verify(dir.path(), None), Err(VerifyError::NoManifest { .. })));
    assert!(matches!(verify(&dir.path().join("missing"), None), Err(VerifyError::Directory { .. })));
    let archive = Archive::new();
    let text = verify(archive.file(1).parent().unwrap(), None).unwrap_err().to_string();
    assert!(text.ends_with(&format!("{} has one", archive.dir.path().canonicalize().unwrap().display())), "{text}");
}

#[test]
fn a_manifest_that_is_no_file_is_named() {
    let archive = Archive::new();
    let (manifest, moved) = (archive.dir.path().join(NAME), archive.dir.path().join("moved"));
    fs::rename(&manifest, &moved).unwrap();
    let said = || verify(archive.dir.path(), None).unwrap_err().to_string();
    let wanted = |what: &str| format!("cannot read {}: not a regular file but {what}", manifest.display());
    std::os::unix::fs::symlink(&moved, &manifest).unwrap();
    assert_eq!(said(), wanted("a symbolic link"));
    fs::remove_file(&manifest).unwrap();
    // Nobody has its other end.
    mknodat(CWD, &manifest, FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert_eq!(said(), wanted("a named pipe"));
}

#[test]
fn any_other_byte_is_noticed() {
    let archive = Archive::new();
    let manifest = archive.dir.path().join(NAME);
    // The manifest is as likely as all files.
    let files = prop_oneof![Just(None), prop::sample::select(vec![1, 3, 4, 5]).prop_map(Some)];
    let cases = (files, any::<Index>(), 1..=255u8);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(500));
    let outcome = runner.run(&cases, |(number, at, xor)| {
        let file = number.map_or_else(|| manifest.clone(), |number| archive.file(number));
        let original = fs::read(&file).unwrap();
        let at = at.index(original.len());
        let mut bytes = original.clone();
        bytes[at] ^= xor;
        fs::write(&file, &bytes).unwrap();
        let (with, without) = (archive.report(Some(archive.heads[5])), archive.report(None));
        fs::write(&file, &original).unwrap();
        prop_assert!(!with.mismatches.is_empty());
        // Without a noted head, the last line is the one that no other vouches for.
        let before = original[..original.len() - 1].iter().rposition(|byte| *byte == b'\n');
        if number.is_some() || Some(at) <= before {
            prop_assert!(!without.mismatches.is_empty());
        }
        Ok(())
    });
    outcome.unwrap();
}
