//! Consumers hear of captures, whatever ends the sensor, and what they missed stays for them.

use super::*;
use std::collections::BTreeMap;

/// A directory with captures, and what commands are told and wait for.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("captures")).unwrap();
        Self { dir }
    }

    /// Makes a place where a sensor with a command that waits has published six captures and ended.
    /// Returns the sensor too.
    fn published() -> (Self, Sensor) {
        let place = Self::new();
        let command = place.command("*");
        let mut first = sensor(&place.captures(), |plan| plan.on_publish = command);
        (1..=6).for_each(|number| first.publish(number));
        first.archive.finish();
        (place, first)
    }

    fn captures(&self) -> PathBuf {
        self.dir.path().join("captures")
    }

    fn progress(&self) -> PathBuf {
        self.captures().join("on-publish.jsonl")
    }

    /// Returns a command that tells of captures whose file is there, and waits for the gate with
    /// those whose names match `slow`.
    fn command(&self, slow: &str) -> Option<String> {
        let (gate, told) = (self.gate(), self.dir.path().join("told"));
        Some(format!(
            "case $1 in {slow}) while test -d {dir} && ! test -e {gate}; do sleep 0.01; done;; esac; test -e \"$1\" && basename \"$1\" >>{told}",
            dir = self.dir.path().display(),
            gate = gate.display(),
            told = told.display()
        ))
    }

    fn gate(&self) -> PathBuf {
        self.dir.path().join("gate")
    }

    fn open_gate(&self) {
        fs::write(self.gate(), "").unwrap();
    }

    /// Returns how often commands told of each capture, by number.
    fn told(&self) -> BTreeMap<u32, u32> {
        let mut told = BTreeMap::new();
        // A command that writes at this moment has written a part of its line at the page's end.
        let text = fs::read_to_string(self.dir.path().join("told")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let number = line.rsplit_once('_').unwrap().1.split('.').next().unwrap();
            *told.entry(number.parse().unwrap()).or_default() += 1;
        }
        told
    }

    /// Makes the captures and nothing else, as a crash leaves them now.
    fn crash(&self) -> Self {
        let other = Self::new();
        copy(&self.captures(), &other.captures());
        other
    }

    /// Returns the next start, which runs a quick command, and its end.
    fn next(&self) -> Sensor {
        let command = self.command("nothing");
        let mut next = sensor(&self.captures(), |plan| plan.on_publish = command);
        let parts = || {
            fs::read_dir(self.captures().join(SESSION))
                .unwrap()
                .any(|file| file.unwrap().path().extension().is_some_and(|ending| ending == "part"))
        };
        eventually(|| !parts());
        next.archive.finish();
        assert!(!self.progress().exists(), "nothing is left to do");
        assert_eq!(mismatches(&self.captures()), [""; 0]);
        next
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn once(numbers: impl IntoIterator<Item = u32>) -> BTreeMap<u32, u32> {
    numbers.into_iter().map(|number| (number, 1)).collect()
}

/// Lines of the manifest about removals, and how many of them say that a consumer had not heard.
fn pruned(directory: &Path) -> (usize, usize) {
    let text = fs::read_to_string(directory.join(NAME)).unwrap();
    let pruned = text.lines().filter(|line| line.contains("\"pruned\""));
    (pruned.clone().count(), pruned.filter(|line| line.contains("\"undelivered\":[\"on-publish\"]")).count())
}

#[test]
fn a_crash_at_any_step_leaves_no_capture_undelivered() {
    for sync in [Sync::None, Sync::Publish] {
        let place = Place::new();
        let command = place.command("*");
        let first = sensor(&place.captures(), |plan| (plan.on_publish, plan.sync) = (command, sync));
        (1..=6).for_each(|number| first.publish(number));
        first.published(6);
        eventually(|| first.count(|end| &end.hooks) == 4 || first.count(|end| &end.files) == 6);
        // Four run, and two wait.
        let running = place.crash();
        // The line is written and the capture has no name.
        first.storage.faults().rename = Some(libc::EIO);
        first.publish(7);
        let lines = || fs::read_to_string(place.captures().join(NAME)).unwrap().lines().count();
        eventually(|| lines() == 7 && fs::read_to_string(place.progress()).unwrap().lines().count() == 7);
        let unnamed = place.crash();
        // The same, just before it is noted whom it is owed; and in the middle of that.
        let text = fs::read_to_string(place.progress()).unwrap();
        let (before, last) = text.trim_end().rsplit_once('\n').unwrap();
        let (unowed, torn) = (place.crash(), place.crash());
        fs::write(unowed.progress(), format!("{before}\n")).unwrap();
        fs::write(torn.progress(), format!("{before}\n{}", &last[..10])).unwrap();
        // And one that has its name, of which nobody was told.
        let untold = place.crash();
        let names = Names::new(&untold.captures().join(SESSION), SESSION, Timestamp::from_ns(0), 7, "pcap");
        fs::rename(&names.part, &names.published).unwrap();

        let next = running.next();
        assert_eq!(running.told(), once(1..=6), "{sync:?}");
        assert_eq!(next.count(|end| &end.hooks), 6);
        for crashed in [unnamed, unowed, torn, untold] {
            crashed.next();
            assert_eq!(crashed.told(), once(1..=7), "{sync:?}");
            // Once is enough.
            assert_eq!(crashed.next().count(|end| &end.hooks), 0);
        }
        place.open_gate();
        first.storage.faults().rename = None;
        drop(first);
        assert_eq!(place.told(), once(1..=7));
        assert!(!place.progress().exists());
    }
}

#[test]
fn what_a_sensor_does_not_wait_for_is_delivered_by_the_next() {
    let (place, first) = Place::published();
    let counted = |sensor: &Sensor| {
        [
            sensor.count(|end| &end.hooks),
            sensor.count(|end| &end.hooks_skipped),
            sensor.count(|end| &end.hooks_unfinished),
        ]
    };
    assert_eq!(counted(&first), [4, 2, 4]);
    // A run without the command leaves it alone.
    sensor(&place.captures(), |_| ()).archive.finish();
    let crashed = place.crash();
    let next = crashed.next();
    assert_eq!((crashed.told(), counted(&next)), (once(1..=6), [6, 0, 0]));
    place.open_gate();
}

#[test]
fn a_command_that_a_reload_brings_hears_of_what_it_is_owed() {
    let (place, _first) = Place::published();
    let crashed = place.crash();
    place.open_gate();
    let mut next = sensor(&crashed.captures(), |_| ());
    next.publish(7);
    next.published(1);
    let third = Names::new(&crashed.captures().join(SESSION), SESSION, Timestamp::from_ns(0), 3, "pcap").published;
    fs::remove_file(third).unwrap();
    let plan = ArchivePlan { on_publish: crashed.command("nothing"), ..ArchivePlan::default() };
    let encoding = Encoding { format: Format::Pcap, compression: None };
    next.archive.replan(plan, encoding);
    eventually(|| crashed.told() == once([1, 2, 4, 5, 6]) && next.count(|end| &end.hooks_skipped) == 1);
    next.publish(8);
    next.archive.finish();
    assert_eq!(crashed.told(), once([1, 2, 4, 5, 6, 8]), "the seventh came without a command");
    assert!(!crashed.progress().exists());
}

#[test]
fn a_command_that_failed_is_not_run_again() {
    let place = Place::new();
    let mut first = sensor(&place.captures(), |plan| plan.on_publish = Some("exit 1;".into()));
    (1..=3).for_each(|number| first.publish(number));
    first.archive.finish();
    assert_eq!(first.count(|end| &end.hooks_failed), 3);
    assert_eq!(place.next().count(|end| &end.hooks), 0);
}

#[test]
fn what_was_there_before_the_first_command_is_not_delivered() {
    let place = Place::new();
    let mut before = sensor(&place.captures(), |_| ());
    (1..=3).for_each(|number| before.publish(number));
    before.archive.finish();
    let command = place.command("nothing");
    let mut first = sensor(&place.captures(), |plan| plan.on_publish = command);
    first.publish(4);
    first.archive.finish();
    assert_eq!(place.told(), once([4]));
}

#[test]
fn what_a_command_is_still_to_hear_of_is_not_removed_for_a_limit() {
    for sync in [Sync::None, Sync::Publish] {
        let place = Place::new();
        let command = place.command("*");
        let mut sensor = sensor(&place.captures(), |plan| {
            (plan.on_publish, plan.sync, plan.budget.keep_files) = (command, sync, Some(2));
        });
        (1..=30).for_each(|number| sensor.publish(number));
        sensor.published(30);
        thread::sleep(Duration::from_millis(1200));
        assert_eq!(sensor.count(|end| &end.pruned), 0);
        place.open_gate();
        eventually(|| sensor.count(|end| &end.pruned) == 28);
        sensor.archive.finish();
        assert_eq!(place.told(), once(1..=30));
        assert_eq!((sensor.count(|end| &end.hooks), sensor.count(|end| &end.hooks_failed)), (30, 0));
        assert_eq!(pruned(&place.captures()), (28, 0));
    }
}

#[test]
fn where_room_ends_what_nobody_needs_goes_first_and_then_what_somebody_does() {
    let place = Place::new();
    let command = place.command("*_00000[1234678]*");
    let mut sensor = sensor(&place.captures(), |plan| {
        (plan.on_publish, plan.budget.min_free) = (command, Some(MinFree::Bytes(1000)));
    });
    (1..=8).for_each(|number| sensor.publish(number));
    sensor.published(8);
    // Those that run, and the fifth waits behind them.
    let there = |number: u32| {
        Names::new(&place.captures().join(SESSION), SESSION, Timestamp::from_ns(0), number, "pcap").published.exists()
    };
    sensor.storage.faults().block = 100;
    sensor.storage.faults().space = Some(Space { free: 750, total: 1 << 51 });
    eventually(|| sensor.count(|end| &end.pruned) == 3);
    assert_eq!((1..=8).filter(|number| there(*number)).collect::<Vec<_>>(), [4, 5, 6, 7, 8]);
    assert_eq!(pruned(&place.captures()), (3, 3), "on record");
    assert!(!sensor.archive.room().is_starved(), "capturing goes on");
    place.open_gate();
    eventually(|| place.told().len() == 5);
    // A command has told before it has ended: nothing is owed any more.
    let marks = |of: &str| fs::read_to_string(place.progress()).unwrap_or_default().matches(of).count();
    eventually(|| marks("\"done\"") == marks("\"owed\""));
    // Delivered ones go first, however new they are.
    let (gate, again) = (place.gate(), Some(Space { free: 950, total: 1 << 51 }));
    fs::remove_file(gate).unwrap();
    sensor.publish(1);
    sensor.published(9);
    sensor.storage.faults().space = again;
    eventually(|| sensor.count(|end| &end.pruned) == 4);
    assert!(there(1) && !there(4));
    assert_eq!(pruned(&place.captures()), (4, 3));
    place.open_gate();
    sensor.archive.finish();
    assert_eq!(mismatches(&place.captures()), [""; 0]);
}

#[test]
fn without_min_free_the_last_room_is_the_hosts_and_not_a_commands() {
    let place = Place::new();
    let command = place.command("*");
    let mut sensor = sensor(&place.captures(), |plan| {
        (plan.on_publish, plan.budget.keep_files) = (command, Some(2));
    });
    (1..=6).for_each(|number| sensor.publish(number));
    sensor.published(6);
    sensor.storage.faults().space = Some(Space { free: 4, total: 100 });
    eventually(|| sensor.count(|end| &end.pruned) == 4);
    assert_eq!(pruned(&place.captures()), (4, 4));
    place.open_gate();
    sensor.archive.finish();
    assert_eq!(place.told(), once([5, 6]));
    assert_eq!(sensor.count(|end| &end.pruned), 4);
}

#[test]
fn a_command_that_is_behind_by_more_than_a_thousand_holds_none() {
    let place = Place::new();
    let command = place.command("*");
    let sensor = sensor(&place.captures(), |plan| {
        (plan.on_publish, plan.budget.keep_files) = (command, Some(5));
    });
    (1..=1020).for_each(|number| sensor.publish(number));
    sensor.published(1020);
    eventually(|| sensor.count(|end| &end.pruned) >= 20);
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(sensor.count(|end| &end.pruned), 20, "the thousand that wait stay");
    assert_eq!(pruned(&place.captures()), (20, 20));
    place.open_gate();
    drop(sensor.archive);
}

#[test]
fn what_a_command_had_no_room_for_it_hears_of_in_the_same_run() {
    let place = Place::new();
    let command = place.command("*");
    let mut sensor = sensor(&place.captures(), |plan| plan.on_publish = command);
    (1..=1150).for_each(|number| sensor.publish(number));
    sensor.published(1150);
    assert_eq!(sensor.count(|end| &end.hooks_skipped), 0);
    place.open_gate();
    eventually(|| place.told().len() == 1150);
    sensor.archive.finish();
    assert_eq!(place.told(), once(1..=1150));
    assert_eq!((sensor.count(|end| &end.hooks), sensor.count(|end| &end.hooks_skipped)), (1150, 0));
    assert!(!place.progress().exists());
}

#[test]
fn what_a_command_had_no_room_for_counts_as_skipped_at_the_end() {
    let place = Place::new();
    let command = place.command("*");
    let mut first = sensor(&place.captures(), |plan| plan.on_publish = command);
    (1..=1150).for_each(|number| first.publish(number));
    first.archive.finish();
    assert_eq!((first.count(|end| &end.hooks), first.count(|end| &end.hooks_skipped)), (4, 1146));
    place.open_gate();
}

#[test]
fn a_sensor_starts_on_a_full_disk_and_removes_captures_to_make_room() {
    let (place, _first) = Place::published();
    let crashed = place.crash();
    place.open_gate();
    let mut plan = ArchivePlan { on_publish: crashed.command("*"), ..ArchivePlan::default() };
    plan.budget.min_free = Some(MinFree::Bytes(1000));
    let faulty = Faulty::default();
    faulty.faults().full = Some(".copy");
    faulty.faults().space = Some(Space { free: 750, total: 1 << 51 });
    faulty.faults().block = 100;
    let storage: Arc<dyn Storage> = Arc::new(faulty.clone());
    let encoding = Encoding { format: Format::Pcap, compression: None };
    let mut output = Output { name: "pcap".into(), ends: Vec::new() };
    let archive = Archive::open(&crashed.captures(), plan, encoding, &storage, &mut output).unwrap();
    eventually(|| output.ends.iter().map(|end| end.pruned.get()).sum::<u64>() == 3);
    crashed.open_gate();
    drop(archive);
}

#[test]
fn what_was_removed_while_there_was_no_command_counts_as_skipped() {
    let (place, _first) = Place::published();
    let crashed = place.crash();
    sensor(&crashed.captures(), |plan| plan.budget.keep_files = Some(4)).archive.finish();
    fs::remove_file(Names::new(&crashed.captures().join(SESSION), SESSION, Timestamp::from_ns(0), 3, "pcap").published)
        .unwrap();
    // Its length stays, and its content does not.
    let fifth = Names::new(&crashed.captures().join(SESSION), SESSION, Timestamp::from_ns(0), 5, "pcap").published;
    fs::write(fifth, "Capture 5").unwrap();
    let command = crashed.command("nothing");
    let mut next = sensor(&crashed.captures(), |plan| plan.on_publish = command);
    eventually(|| next.count(|end| &end.hooks_skipped) == 3);
    next.archive.finish();
    assert_eq!(crashed.told(), once([4, 6]));
    assert_eq!((next.count(|end| &end.hooks), next.count(|end| &end.hooks_failed)), (3, 1));
    assert!(!crashed.progress().exists());
    place.open_gate();
}
