//! Somebody tampers with the names in the directory, beforehand and while files are written.

use super::*;
use crate::archive::BudgetPlan;
use crate::evidence::{Event, Manifest};
use crate::record::Timestamp;
use crate::storage::Disk;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use std::os::unix::fs::{MetadataExt, symlink};

const SESSION: &str = "vni7_192.0.2.1";
const FIRST: &str = "vni7_192.0.2.1/vni7_192.0.2.1_19700101T000001Z_000001.pcap";

/// Things that may have a name in place of a file or a directory. Links lead to `outside`.
const THINGS: [&str; 6] = ["link", "link to a directory", "dangling link", "pipe", "directory", "device"];

fn plant(what: &str, at: &Path, outside: &Path) {
    match what {
        "link" => symlink(outside.join("secret"), at).unwrap(),
        "link to a directory" => symlink(outside, at).unwrap(),
        "dangling link" => symlink(outside.join("made"), at).unwrap(),
        "pipe" => mknodat(CWD, at, FileType::Fifo, Mode::RWXU, 0).unwrap(),
        "directory" => fs::create_dir(at).unwrap(),
        // /dev/full
        _ => match mknodat(CWD, at, FileType::CharacterDevice, Mode::RWXU, makedev(1, 7)) {
            Ok(()) => {}
            Err(error) => assert!(!rustix::process::geteuid().is_root(), "{error}"),
        },
    }
}

/// Runs what has to end, in a thread of its own.
fn ends<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(run()));
    receiver.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|error| panic!("{what} hangs or panicked: {error}"))
}

/// A run as the command does it: starts, captures, publishes, salvages and removes.
fn run(directory: PathBuf) -> Result<(u64, u64, u64), FileError> {
    let registry = Arc::new(Registry::new(1000));
    let mut plan = plan(&directory);
    plan.archive.budget = BudgetPlan { keep_files: Some(2), ..BudgetPlan::default() };
    let mut output = Output { name: "pcap".into(), ends: Vec::new() };
    let mut sink = FileSink::open(plan, Arc::clone(&registry), &mut output, Vec::new())?;
    let mut table = SessionTable::new(registry);
    for second in 1..=3 {
        let mut chunk = Chunk::new(0);
        for vni in [7, 8] {
            let source = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
            let id = table.find_and_count(Session::vxlan(source, Vni::new(vni).unwrap()), 0, Timestamp::from_ns(0));
            chunk.push(id, Timestamp::from_ns(second * SECOND), &[0; 60], 60);
        }
        sink.consume(&Arc::new(chunk.into()));
        sink.cut();
        for files in sink.sessions.iter_mut().flatten() {
            files.retry_now();
        }
    }
    sink.finish();
    let totals = output.totals();
    let dropped = totals.shown().iter().filter(|reading| reading.label == "dropped").map(|reading| reading.value).sum();
    Ok((totals.clone().settled().value("written").unwrap(), dropped, totals.files))
}

#[test]
fn nothing_is_reached_through_a_name_that_somebody_planted() {
    let probe = format!(".vxtap-{}", std::process::id());
    let left = "vni7_192.0.2.1/vni7_192.0.2.1_19700101T000009Z_000001.pcap";
    let names = [
        probe,
        "manifest.jsonl".into(),
        "manifest.jsonl.copy".into(),
        SESSION.into(),
        "unsalvageable".into(),
        FIRST.into(),
        format!("{FIRST}.part"),
        format!("{FIRST}.part.salvage"),
        FIRST.replace(".pcap", "-2.pcap"),
        FIRST.replace(".pcap", ".recovered.pcap"),
        left.into(),
        format!("{left}.part"),
        format!("{left}.part.salvage"),
        left.replace(".pcap", ".recovered.pcap"),
    ];
    for name in &names {
        for thing in THINGS {
            let what = format!("{thing} as {name}");
            let dir = tempfile::tempdir().unwrap();
            let (outside, directory) = (dir.path().join("outside"), dir.path().join("captures"));
            fs::create_dir(&outside).unwrap();
            fs::write(outside.join("secret"), "text").unwrap();
            fs::create_dir(&directory).unwrap();
            let at = directory.join(name);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            plant(thing, &at, &outside);
            let before = at.symlink_metadata().map(|at| at.ino()).ok();
            // Left-overs: one that is whole, and one to be set aside, where their names are free.
            if !name.starts_with(SESSION) || name.contains('/') {
                fs::create_dir_all(directory.join(SESSION)).unwrap();
                let whole = pcap::file_header(crate::wire::LinkType::Ethernet, 262_144);
                let part = directory.join(format!("{left}.part"));
                if part.symlink_metadata().is_err() {
                    fs::write(&part, [&whole[..], &[0; 9]].concat()).unwrap();
                }
                let damaged = directory.join(left.replace("_000001.pcap", "_000002.pcap.part"));
                fs::write(damaged, "no capture").unwrap();
            }
            let ran = ends(&what, {
                let directory = directory.clone();
                move || run(directory)
            });
            match ran {
                Ok((written, dropped, files)) => {
                    assert_eq!(written + dropped, 6, "{what}");
                    assert!(files >= 3, "{what}: {files} files");
                    if name != SESSION {
                        assert_eq!(written, 6, "{what}");
                    }
                }
                Err(error) => {
                    assert_eq!(name, "manifest.jsonl", "{what}: {error}");
                    assert!(error.to_string().contains("move it away"), "{what}: {error}");
                }
            }
            let _ = ends(&what, {
                let directory = directory.clone();
                move || {
                    let stop = std::sync::atomic::AtomicBool::new(false);
                    crate::verify::run(&directory, None, &stop, &crate::console::Console::default()).is_ok()
                }
            });
            let found: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(found, ["secret"], "{what}");
            assert_eq!(fs::read(outside.join("secret")).unwrap(), b"text", "{what}");
            // A copy that was not completed is the program's to remove, and what it finds under
            // that name.
            if !name.ends_with(".salvage") {
                assert_eq!(at.symlink_metadata().map(|at| at.ino()).ok(), before, "{what} is gone or another");
            }
        }
    }
}

/// Something that somebody does to a part file.
type Deed = fn(&Path);

const DEEDS: [(&str, Deed); 8] = [
    ("cut", |part| fs::OpenOptions::new().write(true).open(part).unwrap().set_len(30).unwrap()),
    ("made longer", |part| {
        let length = part.metadata().unwrap().len();
        fs::OpenOptions::new().write(true).open(part).unwrap().set_len(length + 1).unwrap();
    }),
    ("copied over", |part| {
        let bytes = fs::read(part).unwrap();
        fs::remove_file(part).unwrap();
        fs::write(part, bytes).unwrap();
    }),
    ("linked", |part| fs::hard_link(part, part.with_extension("snapshot")).unwrap()),
    ("made a link", |part| {
        fs::remove_file(part).unwrap();
        symlink("/etc/hostname", part).unwrap();
    }),
    ("made a directory", |part| {
        fs::remove_file(part).unwrap();
        fs::create_dir(part).unwrap();
    }),
    ("made a pipe", |part| {
        fs::remove_file(part).unwrap();
        mknodat(CWD, part, FileType::Fifo, Mode::RWXU, 0).unwrap();
    }),
    ("moved with its directory", |part| {
        let directory = part.parent().unwrap();
        let moved = directory.with_extension("moved");
        fs::rename(directory, &moved).unwrap();
        symlink(&moved, directory).unwrap();
    }),
];

/// Returns what there is under a name: its inode and its length.
fn evidence(path: &Path) -> (u64, u64) {
    let found = path.symlink_metadata().unwrap();
    (found.ino(), found.len())
}

#[test]
fn a_part_that_is_not_what_was_written_is_not_published() {
    for (what, deed) in DEEDS {
        for direct in [Direct::Off, Direct::On] {
            for looked in [true, false] {
                let dir = tempfile::tempdir().unwrap();
                let told = dir.path().join("told");
                let directory = dir.path().join("captures");
                fs::create_dir(&directory).unwrap();
                let registry = Arc::new(Registry::new(10));
                let mut plan = plan(&directory);
                plan.direct = direct;
                plan.archive.on_publish = Some(format!("echo $VXTAP_FILE >> {}", told.display()));
                let mut output = Output { name: "pcap".into(), ends: Vec::new() };
                let sink = FileSink::open(plan, Arc::clone(&registry), &mut output, Vec::new()).unwrap();
                let table = SessionTable::new(registry);
                let mut rig = Rig { dir, storage: Faulty::default(), table, output, sink, sent: 0 };
                rig.send(&[(7, SECOND, 60), (7, SECOND, 60)]);
                rig.flush();
                assert_eq!(rig.written(), 2);
                let part = directory.join(format!("{FIRST}.part"));
                deed(&part);
                let found = evidence(&part);
                if looked {
                    rig.sink.next_look = Instant::now();
                    rig.sink.next_sweep = Instant::now();
                    rig.sink.tick(Instant::now(), Timestamp::now());
                    let counted = (rig.written(), rig.dropped(OutputDrop::WriteError));
                    assert_eq!(counted, (0, 2), "{what}, at the look");
                }
                rig.sink.finish();
                let how = format!("{what}, {direct:?}, looked: {looked}");
                let counted = (rig.written(), rig.dropped(OutputDrop::WriteError), rig.count(|end| &end.files));
                assert_eq!(counted, (0, 2, 0), "{how}");
                assert_eq!(evidence(&part), found, "{how}: what was found stays");
                assert!(!told.exists(), "{how}: a command was run");
                let lines = fs::read_to_string(directory.join("manifest.jsonl")).unwrap();
                assert!(lines.contains("\"write_error\":2") && !lines.contains("\"published\""), "{how}: {lines}");
            }
        }
    }
}

#[test]
fn what_is_exchanged_just_before_it_gets_its_name_is_not_published() {
    let mut rig = rig(|_| ());
    rig.send(&[(7, SECOND, 60)]);
    rig.storage.faults().exchange = true;
    rig.sink.finish();
    assert_eq!((rig.written(), rig.dropped(OutputDrop::WriteError), rig.count(|end| &end.files)), (0, 1, 0));
    assert_eq!(fs::read(rig.dir.path().join(format!("{FIRST}.part"))).unwrap(), b"another");
}

#[test]
fn a_file_that_is_cut_while_it_is_closed_is_not_written_to() {
    let mut rig = rig(|plan| plan.open_files = 1);
    rig.send(&[(7, SECOND, 60), (8, SECOND, 60)]);
    rig.flush();
    rig.send(&[(8, SECOND, 60)]);
    rig.flush();
    let part = rig.dir.path().join(format!("{FIRST}.part"));
    fs::OpenOptions::new().write(true).open(&part).unwrap().set_len(50).unwrap();
    rig.send(&[(7, SECOND, 60)]);
    rig.flush();
    rig.sink.finish();
    assert_eq!((rig.written(), rig.dropped(OutputDrop::WriteError)), (2, 2));
    assert_eq!(evidence(&part).1, 50);
}

#[test]
fn a_file_whose_name_is_taken_is_published_under_another() {
    for thing in ["link", "dangling link", "directory", "file"] {
        let mut rig = rig(|_| ());
        rig.send(&[(7, SECOND, 60)]);
        rig.flush();
        let taken = rig.dir.path().join(FIRST);
        match thing {
            "file" => fs::write(&taken, "squatter").unwrap(),
            thing => plant(thing, &taken, Path::new("/nowhere")),
        }
        let squatter = evidence(&taken);
        rig.sink.finish();
        assert_eq!((rig.written(), rig.count(|end| &end.files), rig.count(|end| &end.unpublished)), (1, 1, 0));
        let another = FIRST.replace(".pcap", "-2.pcap");
        assert_eq!(fs::read(rig.dir.path().join(&another)).unwrap().len(), 24 + 16 + 60);
        let lines = fs::read_to_string(rig.dir.path().join("manifest.jsonl")).unwrap();
        assert!(lines.contains(&another), "{lines}");
        assert_eq!(evidence(&taken), squatter);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let report = crate::verify::run(rig.dir.path(), None, &stop, &crate::console::Console::default()).unwrap();
        assert_eq!(report.files, 1);
        // The name is one of ours for the next start, too.
        drop(rig.sink);
        fs::rename(rig.dir.path().join(&another), rig.dir.path().join(format!("{FIRST}.part"))).unwrap();
        let rig = rig_in(rig.dir, |_| ());
        let start = Instant::now();
        while !rig.dir.path().join(&another).exists() {
            assert!(start.elapsed() < Duration::from_secs(10), "what was announced is completed");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_snapshot_of_hard_links_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = tempfile::tempdir_in(dir.path().parent().unwrap()).unwrap();
    let at = |name: &str| snapshot.path().join(name);
    let link = |dir: &Path, from: &str, to: &str| fs::hard_link(dir.join(from), at(to)).unwrap();
    let mut rig = rig_in(dir, |_| ());
    rig.send(&[(7, SECOND, 60)]);
    rig.sink.cut();
    rig.published(1);
    // While it runs.
    link(rig.dir.path(), "manifest.jsonl", "running");
    let running = fs::read(at("running")).unwrap();
    rig.send(&[(7, 2 * SECOND, 60)]);
    rig.sink.finish();
    assert_eq!(fs::read(at("running")).unwrap(), running);
    let now = fs::read(rig.dir.path().join("manifest.jsonl")).unwrap();
    assert!(now.starts_with(&running) && now.len() > running.len(), "its lines, and those that came");
    drop(rig.sink);

    // Between two runs: a manifest with a torn line, and a part that is to be cut.
    let part = format!("{SESSION}/{SESSION}_19700101T000009Z_000001.pcap");
    let mut manifest = fs::read(rig.dir.path().join("manifest.jsonl")).unwrap();
    let lines = manifest.len();
    manifest.extend(b"{\"torn");
    fs::write(rig.dir.path().join("manifest.jsonl"), &manifest).unwrap();
    let published = fs::read(rig.dir.path().join(FIRST)).unwrap();
    let torn = [&published[..], &[1; 10]].concat();
    fs::write(rig.dir.path().join(format!("{part}.part")), &torn).unwrap();
    link(rig.dir.path(), "manifest.jsonl", "between");
    link(rig.dir.path(), &format!("{part}.part"), "part");
    let mut rig = rig_in(rig.dir, |_| ());
    let recovered = rig.dir.path().join(part.replace(".pcap", ".recovered.pcap"));
    let start = Instant::now();
    while !recovered.exists() {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    rig.sink.finish();
    assert_eq!(fs::read(at("between")).unwrap(), manifest);
    assert_eq!(fs::read(at("part")).unwrap(), torn);
    assert_eq!(fs::read(&recovered).unwrap(), published);
    assert_eq!(fs::metadata(&recovered).unwrap().nlink(), 1);
    let now = fs::read(rig.dir.path().join("manifest.jsonl")).unwrap();
    assert!(now.starts_with(&manifest[..lines]) && now.len() > lines);
    assert!(!rig.dir.path().join("manifest.jsonl.copy").exists());
}

#[test]
fn a_manifest_that_cannot_be_copied_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(Disk::below(dir.path(), Direct::Off));
    let (mut manifest, _) = Manifest::open(&storage, dir.path()).unwrap();
    manifest.append(&Event::Lost { session: None, dropped: Default::default() }, false).unwrap();
    let before = fs::read(dir.path().join("manifest.jsonl")).unwrap();
    fs::hard_link(dir.path().join("manifest.jsonl"), dir.path().join("snapshot")).unwrap();
    fs::create_dir(dir.path().join("manifest.jsonl.copy")).unwrap();
    let error = manifest.append(&Event::Lost { session: None, dropped: Default::default() }, false).unwrap_err();
    assert!(error.to_string().starts_with("it has 2 names, as in a snapshot made of hard links"), "{error}");
    drop(manifest);
    let error = Manifest::open(&storage, dir.path()).unwrap_err().to_string();
    assert!(error.contains("it has 2 names") && error.contains("manifest.jsonl"), "{error}");
    assert_eq!(fs::read(dir.path().join("snapshot")).unwrap(), before);
}
