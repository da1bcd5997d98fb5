use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::{RESERVE, RESERVE_LEFT};
use crate::evidence::*;
use crate::record::Timestamp;
use crate::session::{Scope, Session};
use crate::storage::faulty::{Faults, Faulty};
use crate::storage::{Disk, Storage};
use crate::wire::{Vni, address};

fn disk() -> Arc<dyn Storage> {
    Arc::new(Disk::default())
}

fn session(source: &str, vni: u32) -> Session {
    Session::vxlan(address::of(source.parse().unwrap()), Vni::new(vni).unwrap())
}

fn capture(number: u32) -> Capture {
    Capture {
        path: format!("vni7_192.0.2.1/{number}.pcap"),
        name: None,
        tag: None,
        session: Some(session("192.0.2.1", 7)),
        first: Timestamp::from_ns(1_795_490_309_000_000_001),
        last: Timestamp::from_ns(1_795_490_309_999_999_999),
        frames: 2,
        frame_bytes: 1 << 60,
        bytes: u64::MAX,
        dropped: [("lane_full".to_owned(), 4)].into(),
        kernel_dropped: 5,
        format: "pcap".into(),
        compression: Some("zstd:3".into()),
        hash: Some(FileHash::of(Algorithm::Sha256, &number.to_be_bytes())),
    }
}

fn published(number: u32) -> Event {
    Event::Published(capture(number))
}

fn pruned(number: u32) -> Event {
    Event::Pruned {
        path: capture(number).path,
        hash: capture(number).hash,
        reason: PruneReason::KeepBytes,
        undelivered: Vec::new(),
    }
}

fn all_kinds() -> Vec<Event> {
    vec![
        published(1),
        Event::Recovered(Capture { session: None, compression: None, dropped: [].into(), ..capture(2) }),
        pruned(1),
        Event::SetAside {
            path: "x/y.pcap.part.damaged".into(),
            bytes: 3,
            hash: FileHash::of(Algorithm::Sha256, b"abc"),
            why: "no \"header\"\n".into(),
        },
        Event::Lost { session: Some(session("2001:db8::1", 0)), dropped: [].into() },
        Event::Lost { session: None, dropped: [("disk_full".to_owned(), u64::MAX)].into() },
    ]
}

/// Returns the lines of the manifest in `dir`, which must be whole.
fn lines(dir: &Path) -> Vec<Vec<u8>> {
    let text = fs::read(dir.join(NAME)).unwrap();
    assert!(text.is_empty() || text.ends_with(b"\n"));
    text.split_inclusive(|byte| *byte == b'\n').map(|line| line[..line.len() - 1].to_vec()).collect()
}

fn paths(contents: &Contents) -> Vec<&str> {
    contents.captures.iter().map(|entry| &*entry.path).collect()
}

#[test]
fn lines_name_the_hash_of_the_one_before_and_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut manifest, contents) = Manifest::open(&disk(), dir.path()).unwrap();
    assert_eq!((contents, manifest.head()), (Contents::default(), Digest::ZERO));
    let mut heads = vec![Digest::ZERO];
    for event in &all_kinds() {
        manifest.append(event, false).unwrap();
        heads.push(manifest.head());
    }
    let written = lines(dir.path());
    for (number, bytes) in written.iter().enumerate() {
        let line: Line = serde_json::from_slice(bytes).unwrap();
        assert_eq!(line.event, all_kinds()[number]);
        assert_eq!(line.previous, heads[number]);
        assert_eq!(Digest::of(bytes), heads[number + 1]);
    }
    let first = String::from_utf8(written[0].clone()).unwrap();
    let (time, rest) = first.split_at(r#"{"time":"2026-11-24T03:18:29.000000001Z""#.len());
    assert!(time.starts_with(r#"{"time":"2"#) && time.ends_with("Z\""), "{time}");
    let want = format!(
        r#","event":"published","path":"vni7_192.0.2.1/1.pcap","session":{{"source":"192.0.2.1","vni":7}},"first":"2026-11-24T03:18:29.000000001Z","last":"2026-11-24T03:18:29.999999999Z","frames":2,"frame_bytes":1152921504606846976,"bytes":18446744073709551615,"dropped":{{"lane_full":4}},"kernel_dropped":5,"format":"pcap","compression":"zstd:3","sha256":"{}","previous":"{}"}}"#,
        Digest::of(&1u32.to_be_bytes()),
        Digest::ZERO
    );
    assert_eq!(rest, want);
    drop(manifest);
    let (manifest, contents) = Manifest::open(&disk(), dir.path()).unwrap();
    assert_eq!(Some(&manifest.head()), heads.last());
    assert_eq!(paths(&contents), ["vni7_192.0.2.1/2.pcap"]);
    assert_eq!(contents.complaints, Vec::<String>::new());
}

#[test]
fn a_line_says_the_scope_of_a_session_that_has_one() {
    let dir = tempfile::tempdir().unwrap();
    let scoped = Session { scope: Some(Scope(0x076b_c493_b822_cd32)), ..session("192.0.2.1", 7) };
    let path = format!("{}/1.pcap", scoped.directory_name());
    let event = Event::Published(Capture { path, session: Some(scoped), ..capture(1) });
    let lost = Event::Lost { session: Some(scoped), dropped: [].into() };
    let (mut manifest, _) = Manifest::open(&disk(), dir.path()).unwrap();
    manifest.append_all(&[event.clone(), lost.clone()], false).1.unwrap();
    drop(manifest);
    let written = lines(dir.path());
    let json = r#""session":{"source":"192.0.2.1","scope":"0x76bc493b822cd32","vni":7},"#;
    for (bytes, event) in written.iter().zip([event, lost]) {
        assert!(std::str::from_utf8(bytes).unwrap().contains(json));
        assert_eq!(serde_json::from_slice::<Line>(bytes).unwrap().event, event);
    }
    let (_, contents) = Manifest::open(&disk(), dir.path()).unwrap();
    assert_eq!(paths(&contents), ["vni7_192.0.2.1_0x76bc493b822cd32/1.pcap"]);
    assert_eq!(contents.complaints, Vec::<String>::new());
}

#[test]
fn a_line_has_the_hash_that_its_capture_has_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let blake3 = FileHash::of(Algorithm::Blake3, b"abc");
    let with = |number, hash| Capture { hash, ..capture(number) };
    let pruned = |number, hash| Event::Pruned {
        path: capture(number).path,
        hash,
        reason: PruneReason::KeepBytes,
        undelivered: Vec::new(),
    };
    let aside = |hash| Event::SetAside { path: "x/y.pcap.part".into(), bytes: 3, hash, why: "".into() };
    let events = [
        (Event::Published(with(1, None)), None),
        (Event::Recovered(with(2, None)), None),
        (pruned(1, None), None),
        (published(3), Some(Algorithm::Sha256)),
        (Event::Published(with(4, Some(blake3))), Some(Algorithm::Blake3)),
        (Event::Recovered(with(5, Some(blake3))), Some(Algorithm::Blake3)),
        (pruned(4, Some(blake3)), Some(Algorithm::Blake3)),
        (aside(blake3), Some(Algorithm::Blake3)),
        (aside(FileHash::of(Algorithm::Sha256, b"abc")), Some(Algorithm::Sha256)),
    ];
    let (mut manifest, _) = Manifest::open(&disk(), dir.path()).unwrap();
    events.iter().for_each(|(event, _)| manifest.append(event, false).unwrap());
    assert_eq!(manifest.captures(|_| true).unwrap(), [with(2, None), capture(3), with(5, Some(blake3))]);
    drop(manifest);
    for (bytes, (event, algorithm)) in lines(dir.path()).iter().zip(&events) {
        assert_eq!(serde_json::from_slice::<Line>(bytes).unwrap().event, *event);
        let line: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let there: Vec<_> = Algorithm::ALL.into_iter().filter(|algorithm| line[algorithm.key()].is_string()).collect();
        assert_eq!(there, algorithm.iter().copied().collect::<Vec<_>>(), "{line}");
    }
    let (_, contents) = Manifest::open(&disk(), dir.path()).unwrap();
    let hashes: Vec<_> = contents.captures.iter().map(|entry| entry.hash).collect();
    assert_eq!((hashes, contents.complaints), (vec![None, capture(3).hash, Some(blake3)], vec![]));
}

#[test]
fn a_line_with_two_hashes_or_none_that_can_be_read_is_complained_about() {
    let dir = tempfile::tempdir().unwrap();
    let (mut manifest, _) = Manifest::open(&disk(), dir.path()).unwrap();
    manifest.append(&published(1), false).unwrap();
    drop(manifest);
    let whole = String::from_utf8(lines(dir.path()).remove(0)).unwrap();
    let FileHash::Sha256(digest) = capture(1).hash.unwrap() else { panic!() };
    let (sha256, blake3) = (format!("\"sha256\":\"{digest}\""), FileHash::of(Algorithm::Blake3, b"abc"));
    for hash in [format!("{sha256},\"blake3\":\"{blake3}\""), "\"sha256\":\"1\"".into(), "\"blake3\":\"1\"".into()] {
        let line = whole.replace(&sha256, &hash);
        assert_ne!(line, whole);
        fs::write(dir.path().join(NAME), line.clone() + "\n").unwrap();
        let (_, contents) = Manifest::open(&disk(), dir.path()).unwrap();
        assert!(contents.captures.is_empty(), "{hash}");
        assert!(contents.complaints[0].starts_with("line 1 of manifest.jsonl cannot be read: "), "{contents:?}");
        assert!(serde_json::from_str::<Line>(&line).is_err(), "{hash}");
    }
}

#[test]
fn captures_are_in_the_order_in_which_they_were_published_last() {
    let dir = tempfile::tempdir().unwrap();
    let (mut manifest, _) = Manifest::open(&disk(), dir.path()).unwrap();
    for event in [published(1), published(2), published(3), pruned(2), Event::Recovered(capture(1)), published(2)] {
        manifest.append(&event, true).unwrap();
    }
    drop(manifest);
    let (_, contents) = Manifest::open(&disk(), dir.path()).unwrap();
    assert_eq!(paths(&contents), [3, 1, 2].map(|n| capture(n).path));
}

#[test]
fn a_directory_is_one_process_s() {
    let dir = tempfile::tempdir().unwrap();
    let first = Manifest::open(&disk(), dir.path()).unwrap();
    let error = Manifest::open(&disk(), dir.path()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ManifestError::Busy(_)), "{text}");
    if Path::new("/proc/locks").exists() {
        assert!(text.contains(&format!("another vxtap, process {}: stop", std::process::id())), "{text}");
    }
    drop(first);
    Manifest::open(&disk(), dir.path()).unwrap();
    let error = Manifest::open(&disk(), &dir.path().join("missing")).unwrap_err();
    assert!(matches!(error, ManifestError::Io { action: "open", .. }), "{error}");
}

#[test]
fn a_torn_last_line_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (mut manifest, _) = Manifest::open(&disk(), dir.path()).unwrap();
    manifest.append(&published(1), false).unwrap();
    manifest.append(&published(2), false).unwrap();
    drop(manifest);
    let whole = fs::read(dir.path().join(NAME)).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for length in [first + 1, first + 100, whole.len() - 1] {
        fs::write(dir.path().join(NAME), &whole[..length]).unwrap();
        let (mut manifest, contents) = Manifest::open(&disk(), dir.path()).unwrap();
        assert_eq!(paths(&contents), [capture(1).path]);
        assert_eq!(contents.complaints.len(), 1);
        manifest.append(&published(3), false).unwrap();
        drop(manifest);
        let (_, contents) = Manifest::open(&disk(), dir.path()).unwrap();
        assert_eq!((paths(&contents).len(), contents.complaints), (2, vec![]));
    }
}

#[test]
fn a_damaged_manifest_is_complained_about_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut manifest, _) = Manifest::open(&disk(), dir.path()).unwrap();
    for number in 1..=4 {
        manifest.append(&published(number), false).unwrap();
    }
    let tampered = Capture { path: "../other/x.pcap".into(), ..capture(5) };
    manifest.append(&Event::Published(tampered), false).unwrap();
    drop(manifest);
    let mut all = lines(dir.path());
    all[1] = b"\xff{".to_vec();
    all.push(vec![b'x'; 3 << 20]);
    fs::write(dir.path().join(NAME), [all.join(&b"\n"[..]), b"\n".to_vec()].concat()).unwrap();

    let (mut manifest, contents) = Manifest::open(&disk(), dir.path()).unwrap();
    assert_eq!(paths(&contents), [1, 3, 4].map(|n| capture(n).path));
    let complaints = &contents.complaints;
    assert_eq!(complaints.len(), 4, "{complaints:#?}");
    assert!(complaints[0].starts_with("line 2 of manifest.jsonl cannot be read: "));
    assert_eq!(complaints[1], "line 3 of manifest.jsonl does not follow from the one before");
    assert!(complaints[2].contains("\"../other/x.pcap\""));
    assert!(complaints[3].contains("longer than"));
    // The chain goes on from the bytes as they are.
    assert_eq!(manifest.head(), Digest::of(&[b'x'; 3 << 20]));
    manifest.append(&published(6), false).unwrap();
    let last: Line = serde_json::from_slice(lines(dir.path()).last().unwrap()).unwrap();
    assert_eq!(last.previous, Digest::of(&[b'x'; 3 << 20]));
}

fn flaky() -> (Faulty, tempfile::TempDir, Manifest) {
    let (flaky, dir) = (Faulty::default(), tempfile::tempdir().unwrap());
    let storage: Arc<dyn Storage> = Arc::new(flaky.clone());
    let (manifest, _) = Manifest::open(&storage, dir.path()).unwrap();
    (flaky, dir, manifest)
}

#[test]
fn a_line_that_does_not_fit_is_cut_off() {
    let (flaky, dir, mut manifest) = flaky();
    manifest.append(&published(1), false).unwrap();
    for room in [0, 1, 300] {
        flaky.faults().write = Some((room, libc::ENOSPC));
        let error = manifest.append(&published(2), false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(lines(dir.path()).len(), 1);
    }
    flaky.faults().write = None;
    flaky.faults().sync = Some(libc::EIO);
    manifest.append(&published(2), true).unwrap_err();
    assert_eq!(lines(dir.path()).len(), 1);
    manifest.append(&published(2), false).unwrap();
    let lines = lines(dir.path());
    let second: Line = serde_json::from_slice(&lines[1]).unwrap();
    assert_eq!((lines.len(), second.previous), (2, Digest::of(&lines[0])));
}

#[test]
fn what_cannot_be_cut_off_at_once_is_cut_off_before_the_next_line() {
    let (flaky, dir, mut manifest) = flaky();
    manifest.append(&published(1), false).unwrap();
    let whole = fs::read(dir.path().join(NAME)).unwrap();
    *flaky.faults() = Faults { write: Some((9, libc::ENOSPC)), cut: Some(libc::EIO), ..Faults::default() };
    manifest.append(&published(2), false).unwrap_err();
    flaky.faults().write = None;
    manifest.append(&published(2), false).unwrap_err();
    assert_eq!(fs::read(dir.path().join(NAME)).unwrap().len(), whole.len() + 9);
    flaky.faults().cut = None;
    manifest.append(&published(2), false).unwrap();
    let lines = lines(dir.path());
    assert_eq!((lines.len(), manifest.head()), (2, Digest::of(&lines[1])));
}

#[test]
fn room_is_reserved_ahead() {
    let (flaky, _dir, mut manifest) = flaky();
    let mut last = 0;
    for _ in 0..200 {
        manifest.append(&published(1), false).unwrap();
        let length = manifest.length;
        let reserved = flaky.faults().reserved.clone();
        last = *reserved.last().unwrap();
        assert!(length + RESERVE_LEFT <= last + RESERVE);
    }
    // A hundred lines each.
    assert!(last > 0 && flaky.faults().reserved.len() <= 3);
    flaky.faults().reserve = Some(libc::EOPNOTSUPP);
    for _ in 0..200 {
        manifest.append(&published(1), false).unwrap();
    }
}

#[test]
fn a_manifest_that_cannot_be_cut_is_not_written_to() {
    let (flaky, dir) = (Faulty::default(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join(NAME), "torn").unwrap();
    flaky.faults().cut = Some(libc::EIO);
    let storage: Arc<dyn Storage> = Arc::new(flaky);
    let error = Manifest::open(&storage, dir.path()).unwrap_err();
    let path: PathBuf = dir.path().join(NAME);
    assert!(error.to_string().starts_with(&format!("cannot cut the torn last line of {}", path.display())), "{error}");
}

#[test]
fn a_line_without_what_a_start_needs_is_complained_about() {
    let dir = tempfile::tempdir().unwrap();
    let (mut manifest, _) = Manifest::open(&disk(), dir.path()).unwrap();
    for event in [published(1), published(2), pruned(1)] {
        manifest.append(&event, false).unwrap();
    }
    drop(manifest);
    for (number, field) in [(1, "bytes"), (1, "last"), (1, "frames"), (1, "path"), (2, "path"), (2, "previous")] {
        let mut all = lines(dir.path());
        let mut line: serde_json::Value = serde_json::from_slice(&all[number]).unwrap();
        line.as_object_mut().unwrap().remove(field).unwrap();
        all[number] = serde_json::to_vec(&line).unwrap();
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join(NAME), [all.join(&b"\n"[..]), b"\n".to_vec()].concat()).unwrap();
        let (_, contents) = Manifest::open(&disk(), other.path()).unwrap();
        let first = &contents.complaints[0];
        assert!(first.starts_with(&format!("line {} of {NAME} cannot be read: ", number + 1)), "{field}: {first}");
    }
}

/// A deed that somebody does to the bytes of a manifest.
type Change = fn(&mut Vec<u8>);

#[test]
fn what_somebody_changed_in_place_is_found_before_the_next_line() {
    let change: [(Change, &str); 6] = [
        (|bytes| bytes.extend(b"x"), "the manifest has "),
        (|bytes| bytes.extend_from_slice(&bytes.clone()), "the manifest has "),
        (|bytes| bytes.truncate(bytes.len() - 1), "the manifest has "),
        (|bytes| bytes.clear(), "the manifest has 0 bytes"),
        (|bytes| *bytes.last_mut().unwrap() = b' ', "the manifest's last line is another"),
        (|bytes| *bytes.iter_mut().rfind(|byte| **byte == b':').unwrap() = b';', "the manifest's last line is another"),
    ];
    for (number, (change, what)) in change.into_iter().enumerate() {
        for again in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (mut manifest, _) = Manifest::open(&disk(), dir.path()).unwrap();
            manifest.append_all(&[published(1), published(2), published(3)], false).1.unwrap();
            if again {
                drop(manifest);
                manifest = Manifest::open(&disk(), dir.path()).unwrap().0;
            }
            assert_eq!(manifest.edited(), None);
            let path = dir.path().join(NAME);
            let mut bytes = fs::read(&path).unwrap();
            change(&mut bytes);
            fs::write(&path, &bytes).unwrap();
            let error = manifest.append(&published(4), true).unwrap_err();
            assert!(error.to_string().starts_with(what), "change {number}: {error}");
            assert_eq!(manifest.edited().unwrap().to_string(), error.to_string());
            assert_eq!(fs::read(&path).unwrap(), bytes, "it stays as it is");
        }
    }
}

#[test]
fn what_an_append_that_failed_has_left_is_not_taken_for_a_change() {
    let (flaky, dir, mut manifest) = flaky();
    for number in [1, 2] {
        manifest.append(&published(number), false).unwrap();
        *flaky.faults() = Faults { write: Some((9, libc::ENOSPC)), cut: Some(libc::EIO), ..Faults::default() };
        manifest.append(&published(3), false).unwrap_err();
        assert_eq!(manifest.edited(), None);
        *flaky.faults() = Faults::default();
    }
    flaky.faults().sync = Some(libc::EIO);
    manifest.append_all(&[published(3), published(4)], true).1.unwrap_err();
    assert_eq!(manifest.edited(), None);
    *flaky.faults() = Faults::default();
    manifest.append(&published(5), true).unwrap();
    assert_eq!((manifest.edited(), lines(dir.path()).len()), (None, 3));
    // Nor is a snapshot.
    fs::hard_link(dir.path().join(NAME), dir.path().join("snapshot")).unwrap();
    manifest.append(&published(6), false).unwrap();
    assert_eq!(manifest.edited(), None);
}
