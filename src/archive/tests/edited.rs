//! A manifest that somebody changes in place under a sensor.

use super::*;

/// Lines and part files of a directory.
fn state(directory: &Path) -> (Vec<u8>, usize) {
    let session = fs::read_dir(directory.join(SESSION)).unwrap();
    let is_part = |entry: io::Result<fs::DirEntry>| entry.unwrap().path().extension().is_some_and(|e| e == "part");
    (fs::read(directory.join(NAME)).unwrap(), session.map(is_part).filter(|is_part| *is_part).count())
}

#[test]
fn nothing_is_appended_or_removed_and_the_next_start_takes_it_up() {
    for change in [
        |text: String| text + "a note\n",
        |text: String| text[..text.len() / 2].to_owned(),
        |text: String| text.replacen("\"frames\":1,", "\"frames\":2,", 3),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut first = sensor(dir.path(), |plan| plan.budget.keep_files = Some(3));
        (1..=3).for_each(|number| first.publish(number));
        first.published(3);
        let path = dir.path().join(NAME);
        fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
        let changed = fs::read(&path).unwrap();
        (4..=6).for_each(|number| first.publish(number));
        eventually(|| first.count(|end| &end.manifest_changed) == 1);
        let begin = Instant::now();
        first.archive.finish();
        assert!(begin.elapsed() < Duration::from_secs(1), "trying again would not help");
        assert_eq!(state(dir.path()), (changed, 3));
        let counted =
            [first.count(|end| &end.files), first.count(|end| &end.unpublished), first.count(|end| &end.pruned)];
        assert_eq!(counted, [3, 3, 0]);
        assert_eq!(first.count(|end| &end.manifest_changed), 1, "once");

        // They hold no frames, and are kept all the same.
        let mut second = sensor(dir.path(), |_| ());
        eventually(|| second.count(|end| &end.set_aside) == 3);
        second.publish(7);
        second.archive.finish();
        assert_eq!((second.count(|end| &end.files), second.count(|end| &end.manifest_changed)), (1, 0));
        assert_eq!(state(dir.path()).1, 0);
    }
}

#[test]
fn a_change_after_the_last_file_is_noticed_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(NAME);
    let mut first = sensor(dir.path(), |_| ());
    first.publish(1);
    first.published(1);
    fs::write(&path, "").unwrap();
    // Within a second.
    eventually(|| first.count(|end| &end.manifest_changed) == 1);
    // What is there later does not count, since nobody knows whose it is.
    fs::remove_file(&path).unwrap();
    thread::sleep(Duration::from_millis(2500));
    assert!(!path.exists());
    first.archive.finish();

    // And at the end.
    let dir = tempfile::tempdir().unwrap();
    let mut second = sensor(dir.path(), |_| ());
    second.publish(1);
    second.published(1);
    fs::write(dir.path().join(NAME), "").unwrap();
    second.archive.finish();
    assert_eq!(second.count(|end| &end.manifest_changed), 1);
}
