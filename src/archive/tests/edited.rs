//! A manifest that somebody changes, removes or replaces under a sensor.

use super::*;

/// Lines and part files of a directory.
fn state(directory: &Path) -> (Vec<u8>, usize) {
    (fs::read(directory.join(NAME)).unwrap(), parts(directory))
}

fn parts(directory: &Path) -> usize {
    let session = fs::read_dir(directory.join(SESSION)).unwrap();
    session.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "part")).count()
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

/// A deed that somebody does to a directory.
type Deed = fn(&Path);

/// Deeds that take the manifest's name away.
const DEEDS: [(&str, Deed); 8] = [
    ("removed", |directory| fs::remove_file(directory.join(NAME)).unwrap()),
    ("moved", |directory| fs::rename(directory.join(NAME), directory.join("moved")).unwrap()),
    ("replaced by a copy", |directory| {
        fs::copy(directory.join(NAME), directory.join("copy")).unwrap();
        fs::rename(directory.join("copy"), directory.join(NAME)).unwrap();
    }),
    ("replaced by a part of it", |directory| {
        let text = fs::read_to_string(directory.join(NAME)).unwrap();
        fs::remove_file(directory.join(NAME)).unwrap();
        fs::write(directory.join(NAME), text.split_once('\n').unwrap().1).unwrap();
    }),
    ("replaced by a link", |directory| {
        fs::rename(directory.join(NAME), directory.join("moved")).unwrap();
        std::os::unix::fs::symlink("moved", directory.join(NAME)).unwrap();
    }),
    ("replaced by a pipe", |directory| {
        fs::remove_file(directory.join(NAME)).unwrap();
        mknodat(CWD, directory.join(NAME), FileType::Fifo, Mode::RWXU, 0).unwrap();
    }),
    ("removed with its directory", |directory| fs::remove_dir_all(directory).unwrap()),
    ("replaced with its directory", |directory| {
        fs::rename(directory, directory.with_extension("moved")).unwrap();
        fs::create_dir(directory).unwrap();
    }),
];

/// Returns what has the manifest's name, without opening it.
fn at(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    path.symlink_metadata().ok().map(|found| (found.ino(), found.len()))
}

#[test]
fn nothing_is_put_into_another_manifest_and_the_next_start_takes_it_up() {
    for (what, deed) in DEEDS {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("captures");
        let path = directory.join(NAME);
        fs::create_dir(&directory).unwrap();
        let mut first = sensor(&directory, |plan| plan.budget.keep_files = Some(3));
        (1..=3).for_each(|number| first.publish(number));
        first.published(3);
        deed(&directory);
        let found = at(&path);
        (4..=6).for_each(|number| first.publish(number));
        eventually(|| first.count(|end| &end.manifest_changed) == 1);
        let begin = Instant::now();
        first.archive.finish();
        assert!(begin.elapsed() < Duration::from_secs(1), "{what}: trying again would not help");
        assert_eq!(at(&path), found, "{what}: what has the name stays as it is");
        let counted =
            [first.count(|end| &end.files), first.count(|end| &end.unpublished), first.count(|end| &end.pruned)];
        assert_eq!(counted, [3, 3, 0], "{what}");
        assert_eq!(first.count(|end| &end.manifest_changed), 1, "{what}: once");
        assert_eq!(parts(&directory), 3, "{what}");
        drop(first);

        // What is no file has to be moved away before.
        if what == "replaced by a link" || what == "replaced by a pipe" {
            fs::remove_file(&path).unwrap();
        }
        // They hold no frames, and are kept all the same.
        let mut second = sensor(&directory, |_| ());
        eventually(|| second.count(|end| &end.set_aside) == 3);
        second.publish(7);
        second.archive.finish();
        assert_eq!((second.count(|end| &end.files), parts(&directory)), (1, 0), "{what}");
    }
}

#[test]
fn another_sensor_may_have_a_directory_that_was_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("captures");
    fs::create_dir(&directory).unwrap();
    let mut first = sensor(&directory, |_| ());
    first.publish(1);
    first.published(1);
    fs::remove_dir_all(&directory).unwrap();
    fs::create_dir(&directory).unwrap();
    let mut second = sensor(&directory, |_| ());
    second.publish_in("overflow", 2);
    second.published(1);
    first.publish(3);
    first.archive.finish();
    assert_eq!((first.count(|end| &end.files), first.count(|end| &end.unpublished)), (1, 1));
    second.publish_in("overflow", 4);
    second.archive.finish();
    assert_eq!(mismatches(&directory), [""; 0]);
    assert_eq!(fs::read_to_string(directory.join(NAME)).unwrap().lines().count(), 2);
}

/// A sensor that may keep ten bytes of captures, far less than the file system has, and the
/// reserve.
fn bounded(directory: &Path) -> Sensor {
    sensor(directory, |plan| {
        plan.budget.keep_bytes = Some(10);
        plan.budget.reserve = Some(MinFree::Usual);
    })
}

/// Room of which the last part is the host's.
const LITTLE: Space = Space { free: 4999, total: 100_000 };

#[test]
fn the_last_room_is_the_hosts_while_no_capture_can_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut sensor = bounded(dir.path());
    sensor.publish(11);
    sensor.published(1);
    sensor.storage.faults().space = Some(LITTLE);
    sensor.archive.room_mut().may_write().unwrap();
    fs::write(dir.path().join(NAME), "").unwrap();
    eventually(|| sensor.count(|end| &end.manifest_changed) == 1);
    eventually(|| {
        let Err(error) = sensor.archive.room_mut().may_write() else { return false };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains("somebody changed it"), "{error}");
        true
    });
    sensor.storage.faults().space = Some(PLENTY);
    eventually(|| sensor.archive.room_mut().may_write().is_ok());
}

#[test]
fn the_last_room_is_the_hosts_while_the_manifest_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut sensor = bounded(dir.path());
    sensor.publish(11);
    sensor.published(1);
    sensor.storage.faults().space = Some(LITTLE);
    sensor.storage.faults().write = Some((0, 5));
    sensor.publish(12);
    eventually(|| sensor.archive.room_mut().may_write().is_err());
    assert_eq!(sensor.count(|end| &end.pruned), 0);
    sensor.storage.faults().write = None;
    eventually(|| sensor.archive.room_mut().may_write().is_ok());
    sensor.archive.finish();
    assert_eq!(sensor.count(|end| &end.pruned), 1);
}

#[test]
fn what_is_pruned_stays_once_somebody_changed_the_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let mut sensor = sensor(dir.path(), |plan| plan.budget.keep_files = Some(1));
    sensor.storage.faults().remove = Some(1);
    sensor.publish(1);
    sensor.publish(2);
    sensor.published(2);
    let pruned = || fs::read_to_string(dir.path().join(NAME)).unwrap().contains("\"pruned\"");
    eventually(pruned);
    fs::write(dir.path().join(NAME), "").unwrap();
    eventually(|| sensor.count(|end| &end.manifest_changed) == 1);
    sensor.storage.faults().remove = None;
    sensor.archive.finish();
    assert_eq!(fs::read_dir(dir.path().join(SESSION)).unwrap().count(), 2);
    assert_eq!(sensor.count(|end| &end.pruned), 0);
}
