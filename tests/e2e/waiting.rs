//! Some things make the sensor wait while it runs or starts; none is ever in the way of its end.

use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::need;
use crate::netns::Namespace;
use crate::process::{task_named, tasks};
use crate::sensor::{Setup, message};

/// The longest that the end may take, where what it could wait for never comes.
const SOON: Duration = Duration::from_secs(10);
/// The time for which a sensor runs, where it ends by that.
const WHILE: Duration = Duration::from_secs(12);

/// Puts something of this kind in place of the file. Returns what the sensor says of it.
fn put(path: &Path, kind: &str) -> &'static str {
    let _ = fs::remove_file(path);
    let _ = fs::remove_dir(path);
    match kind {
        "pipe" => {
            mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
            "not a regular file but a named pipe"
        }
        "device" => {
            std::os::unix::fs::symlink("/dev/zero", path).unwrap();
            "not a regular file but a device"
        }
        "directory" => {
            fs::create_dir(path).unwrap();
            "not a regular file but a directory"
        }
        _ => {
            let mut file = fs::File::create(path).unwrap();
            file.write_all(b"vni 1\n").unwrap();
            file.write_all(&vec![b'\n'; 10 << 20]).unwrap();
            "larger than 8388608 bytes"
        }
    }
}

const KINDS: [&str; 4] = ["pipe", "device", "directory", "large"];

#[test]
fn a_list_that_is_no_small_file_keeps_the_sensor_from_starting() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("allowed");
    let namespace = Namespace::new();
    for kind in KINDS {
        let words = put(&list, kind);
        let (code, text) = Setup::new(&namespace).with(&format!("--allow {}", list.display())).fails();
        assert!(code == Some(1) && text.contains(words), "{kind}: {text}");
    }
}

#[test]
fn a_list_that_becomes_none_changes_nothing_and_holds_up_nothing() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (file, list) = (directory.path().join("file"), directory.path().join("allowed"));
    let namespace = Namespace::new();
    for kind in KINDS {
        let _ = fs::remove_file(&list).or_else(|_| fs::remove_dir(&list));
        fs::write(&file, "vni 7\n").unwrap();
        // As programs that manage configurations have it.
        std::os::unix::fs::symlink(&file, &list).unwrap();
        let sensor = Setup::new(&namespace).with(&format!("--allow {}", list.display())).start();
        let from = sensor.lines();
        sensor.process.signal(Signal::USR2);
        sensor.says(from, "is read again");
        let words = put(&list, kind);
        let from = sensor.lines();
        sensor.process.signal(Signal::USR2);
        sensor.says(from, words);
        let memory = fs::read_to_string(format!("/proc/{}/status", sensor.process.pid().as_raw_nonzero())).unwrap();
        let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kib < 256 << 10, "{kind}: {kib} KiB");
        let asked = Instant::now();
        let ended = sensor.stop();
        assert!(asked.elapsed() < SOON, "{kind}: the end took {:?}", asked.elapsed());
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        assert_eq!(ended.messages("what was allowed stays so").len(), 1, "{:#?}", ended.log);
    }
}

/// A file system that answers nothing, as one whose server is gone.
struct Dead {
    directory: TempDir,
    /// Who reads requests from it and does not.
    _server: fs::File,
}

impl Dead {
    fn new() -> Option<Dead> {
        let Ok(server) = fs::File::options().read(true).write(true).open("/dev/fuse") else {
            need::cannot("needs /dev/fuse");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let data = CString::new(data).unwrap();
        mount("vxtap-test", directory.path(), "fuse", MountFlags::empty(), Some(data.as_c_str())).unwrap();
        Some(Dead { directory, _server: server })
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        let _ = unmount(self.directory.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn a_file_system_that_does_not_answer_is_not_waited_for_by_the_end() {
    if !need::programs(&[]) {
        return;
    }
    let Some(dead) = Dead::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("allowed");
    let namespace = Namespace::new();
    let arguments = format!("--allow {}", list.display());
    let hang = || {
        let _ = fs::remove_file(&list);
        std::os::unix::fs::symlink(dead.directory.path().join("allowed"), &list).unwrap();
    };
    // While it runs: by a signal, and by the end of its time.
    for duration in [String::new(), format!("--duration {}s", WHILE.as_secs())] {
        let _ = fs::remove_file(&list);
        fs::write(&list, "vni 7\n").unwrap();
        let started = Instant::now();
        let sensor = Setup::new(&namespace).with(&arguments).with(&duration).start();
        let threads = || tasks(sensor.process.pid()).len();
        // The last thread of the start begins after the sensor has said that it receives.
        task_named(sensor.process.pid(), "vxtap-space");
        hang();
        let before = threads();
        for _ in 0..20 {
            sensor.process.signal(Signal::USR2);
            std::thread::sleep(Duration::from_millis(5));
        }
        sensor.says(0, "is still being read");
        assert_eq!(threads(), before, "reads do not pile up");
        let asked = Instant::now();
        let ended = if duration.is_empty() { sensor.stop() } else { sensor.ended() };
        let due = if duration.is_empty() { asked } else { started + WHILE };
        let late = due.elapsed();
        assert!(late < SOON, "the end took {late:?}");
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    }
    // At the start, by a link and without.
    hang();
    for list in [list, dead.directory.path().join("allowed")] {
        let arguments = format!("--allow {}", list.display());
        let mut starting = Setup::new(&namespace).with(&arguments).begin();
        starting.stderr.find("that it waits", 0, |line| message(line)?.contains("is still being read").then_some(()));
        let asked = Instant::now();
        starting.signal(Signal::TERM);
        assert_eq!(starting.wait().code(), Some(0));
        assert!(asked.elapsed() < SOON, "the end took {:?}", asked.elapsed());
    }
    let (code, text) = Setup::new(&namespace).with(&arguments).with("--duration 500ms").fails();
    assert!(code == Some(1) && text.contains("cannot read") && text.contains("timed out"), "{text}");
}
