//! Lines of a manifest that somebody else wrote, and what the next start makes of them.

use super::*;

/// Returns a directory in which three captures were published, with a part file that a crash left,
/// a capture that nobody published, and files that are no captures.
fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut first = sensor(dir.path(), |_| ());
    (1..=3).for_each(|number| first.publish(number));
    first.archive.finish();
    let session = dir.path().join(SESSION);
    let mut part = pcap::file_header(crate::wire::LinkType::Ethernet, 262_144).to_vec();
    part.extend([[9, 0, 0, 0], [0; 4], [4, 0, 0, 0], [4, 0, 0, 0], *b"abcd"].concat());
    fs::write(names(dir.path(), 8).part, part).unwrap();
    fs::write(names(dir.path(), 9).published, "nobody's").unwrap();
    fs::write(session.join("notes.pcap"), "a stranger's").unwrap();
    fs::create_dir(dir.path().join("unsalvageable")).unwrap();
    fs::write(dir.path().join("unsalvageable/x.pcap"), "set aside").unwrap();
    dir
}

fn names(directory: &Path, number: u32) -> Names {
    Names::new(&directory.join(SESSION), SESSION, Timestamp::from_ns(0), number, "pcap")
}

/// Returns the path of a capture as a manifest has it.
fn path(number: u32) -> String {
    let names = names(Path::new(""), number);
    names.published.to_str().unwrap().to_owned()
}

fn pruned(path: &str, content: &str) -> Event {
    let hash = Some(FileHash::of(Algorithm::Sha256, content.as_bytes()));
    Event::Pruned { path: path.into(), hash, reason: PruneReason::KeepBytes, undelivered: Vec::new() }
}

fn published(path: &str, content: &str) -> Event {
    Event::Published(Capture {
        path: path.into(),
        name: None,
        tag: None,
        session: None,
        first: Timestamp::from_ns(1),
        last: Timestamp::from_ns(1),
        frames: 1,
        frame_bytes: 60,
        bytes: content.len() as u64,
        dropped: Default::default(),
        kernel_dropped: 0,
        format: "pcap".into(),
        compression: None,
        hash: Some(FileHash::of(Algorithm::Sha256, content.as_bytes())),
    })
}

/// Appends a line, which names this hash for the line before.
fn append(directory: &Path, event: &Event, previous: Digest) {
    let line = Line { time: Timestamp::now(), event, previous };
    let manifest = directory.join(NAME);
    let text = fs::read_to_string(&manifest).unwrap() + &serde_json::to_string(&line).unwrap() + "\n";
    fs::write(manifest, text).unwrap();
}

/// Returns the files of a directory, the manifest left out.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path.file_name().unwrap().to_str().unwrap().to_owned()),
        }
    }
    found.retain(|name| name != NAME);
    found.sort();
    found
}

/// Starts a sensor, ends it, and says how many files were removed for what a line says. All others
/// have to be there, with the part file salvaged.
#[track_caller]
fn removed(dir: &Path) -> u64 {
    let before: Vec<_> = files(dir).iter().map(|name| name.replace(".pcap.part", ".recovered.pcap")).collect();
    let mut next = sensor(dir, |_| ());
    eventually(|| next.count(|end| &end.recovered) == 1);
    next.archive.finish();
    let removed = next.count(|end| &end.pruned);
    let after = files(dir);
    assert_eq!(after.len() as u64 + removed, before.len() as u64, "{before:?}, {after:?}");
    assert!(after.iter().all(|name| before.contains(name)), "{before:?}, {after:?}");
    removed
}

#[test]
fn a_removal_that_was_put_on_record_is_completed() {
    let dir = directory();
    append(dir.path(), &pruned(&path(2), "capture 2"), head(dir.path()));
    assert_eq!(removed(dir.path()), 1);
    assert!(!names(dir.path(), 2).published.exists());
}

#[test]
fn a_line_that_does_not_follow_removes_nothing() {
    for previous in [Digest::ZERO, Digest::of(b"another")] {
        let dir = directory();
        append(dir.path(), &pruned(&path(2), "capture 2"), previous);
        assert_eq!(removed(dir.path()), 0);
    }
}

#[test]
fn a_chain_that_is_broken_anywhere_removes_nothing() {
    let change: [fn(String) -> String; 4] = [
        |text| text.replacen("\"frames\":1", "\"frames\":2", 1),
        |text| text.replacen("{\"time\"", "\"time\"", 1),
        |text| text.split_once('\n').unwrap().1.to_owned(),
        |text| text + "{}\n",
    ];
    for (number, change) in change.into_iter().enumerate() {
        let dir = directory();
        let manifest = dir.path().join(NAME);
        fs::write(&manifest, change(fs::read_to_string(&manifest).unwrap())).unwrap();
        // It follows from the line before it.
        append(dir.path(), &pruned(&path(3), "capture 3"), head(dir.path()));
        assert_eq!(removed(dir.path()), 0, "change {number}");
    }
}

#[test]
fn a_line_that_follows_removes_no_more_than_what_was_published() {
    let outside = tempfile::NamedTempFile::with_suffix(".pcap").unwrap();
    let part = format!("{}.part", path(8));
    for (path, content) in [
        (&*part, ""),
        (&path(9), "nobody's"),
        (&format!("{SESSION}/notes.pcap"), "a stranger's"),
        ("unsalvageable/x.pcap", "set aside"),
        (outside.path().to_str().unwrap(), ""),
        (&format!("{SESSION}/../unsalvageable/x.pcap"), "set aside"),
        (&format!("./{}", path(2)), "capture 2"),
        // Another hash than that under which it was published.
        (&path(2), "capture 3"),
    ] {
        let dir = directory();
        append(dir.path(), &pruned(path, content), head(dir.path()));
        assert_eq!(removed(dir.path()), 0, "{path}");
        assert!(outside.path().exists());
    }
}

#[test]
fn a_part_file_and_a_stranger_s_are_not_removed_for_a_line_that_publishes_them_either() {
    for (path, content) in [
        (format!("{}.part", path(8)), ""),
        (format!("{SESSION}/notes.pcap"), "a stranger's"),
        ("unsalvageable/x.pcap".to_owned(), "set aside"),
    ] {
        let dir = directory();
        append(dir.path(), &published(&path, content), head(dir.path()));
        append(dir.path(), &pruned(&path, content), head(dir.path()));
        assert_eq!(removed(dir.path()), 0, "{path}");
    }
}

#[test]
fn a_file_that_has_another_length_than_was_published_is_not_removed() {
    let dir = directory();
    fs::write(names(dir.path(), 2).published, "something else").unwrap();
    append(dir.path(), &pruned(&path(2), "capture 2"), head(dir.path()));
    assert_eq!(removed(dir.path()), 0);
}

#[test]
fn the_budget_takes_no_part_file_for_a_capture() {
    let dir = directory();
    append(dir.path(), &published(&format!("{}.part", path(8)), "x"), head(dir.path()));
    let (_, contents) = Manifest::open(&(Arc::new(Faulty::default()) as Arc<dyn Storage>), dir.path()).unwrap();
    assert_eq!(contents.captures.len(), 3);
    assert!(contents.complaints[0].starts_with("line 4 of manifest.jsonl names a file that is no capture"));
}

/// Lets a sensor publish captures until its budget has removed so many. All files that these names
/// have must stay.
#[track_caller]
fn under_pressure(dir: &Path, pruned: u64, stay: &[&str]) {
    // What is salvaged, and what is published.
    let mut next = sensor(dir, |plan| plan.budget.keep_files = Some(2));
    eventually(|| next.count(|end| &end.recovered) == 1);
    (100..102).for_each(|number| next.publish(number));
    next.published(2);
    eventually(|| next.count(|end| &end.pruned) >= pruned);
    next.archive.finish();
    assert_eq!(next.count(|end| &end.pruned), pruned);
    assert!(stay.iter().all(|path| dir.join(path).exists()), "{stay:?}, {:?}", files(dir));
}

#[test]
fn the_budget_removes_nothing_that_a_forged_line_published() {
    let notes = format!("{SESSION}/notes.pcap");
    let part = format!("{}.part", path(8));
    // The captures 1 to 3, and one of the three that the next start has.
    for forged in [(&*notes, "a stranger's"), (&part, ""), ("unsalvageable/x.pcap", "set aside")] {
        let dir = directory();
        append(dir.path(), &published(forged.0, forged.1), head(dir.path()));
        under_pressure(dir.path(), 4, &[&notes, "unsalvageable/x.pcap"]);
    }
    // Under a name as captures have it, behind a break in the chain, and behind what follows from
    // that.
    let dir = directory();
    append(dir.path(), &published(&notes, "a stranger's"), Digest::of(b"another"));
    append(dir.path(), &published(&path(9), "nobody's"), head(dir.path()));
    under_pressure(dir.path(), 4, &[&notes, &path(9), "unsalvageable/x.pcap"]);
}

/// A part file does not become what a line behind a break says.
#[test]
fn a_part_file_is_not_published_as_a_line_that_does_not_follow_says() {
    let dir = directory();
    let part = names(dir.path(), 8).part;
    let content = fs::read(&part).unwrap();
    let Event::Published(capture) = published(&path(8), "") else { panic!() };
    let hash = Some(FileHash::of(Algorithm::Sha256, &content));
    let forged = Capture { bytes: content.len() as u64, hash, ..capture };
    append(dir.path(), &Event::Published(forged), Digest::of(b"another"));
    assert_eq!(removed(dir.path()), 0);
    assert!(!names(dir.path(), 8).published.exists(), "it was salvaged under a name that says so");
}

/// A broken manifest that is put in place, or gives way to another, makes nothing a capture.
#[test]
fn what_a_broken_manifest_names_is_no_capture_of_the_next() {
    let dir = directory();
    append(dir.path(), &published(&path(9), "nobody's"), Digest::of(b"another"));
    let manifest = dir.path().join(NAME);
    for number in [101, 102, 103] {
        let mut next = sensor(dir.path(), |plan| plan.budget.keep_files = Some(1));
        next.publish(number);
        next.published(1);
        if number == 101 {
            let copy = dir.path().join("copy");
            let text = fs::read_to_string(&manifest).unwrap();
            fs::write(&copy, text.split_once('\n').unwrap().1).unwrap();
            fs::rename(&copy, &manifest).unwrap();
        } else {
            fs::remove_file(&manifest).unwrap();
        }
        eventually(|| next.count(|end| &end.manifest_changed) == 1);
        next.archive.finish();
        assert!(names(dir.path(), 9).published.exists(), "{number}");
    }
}
