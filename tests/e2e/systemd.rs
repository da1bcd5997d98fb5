//! A systemd of the test's own runs in namespaces that vanish with it, over the network of a
//! [`Namespace`]. It sees the files of this machine, a copy of them, or those of another root, and
//! nothing of this machine's units.

use std::fs;
use std::io::{self, PipeWriter};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use procfs::process::all_processes;
use rustix::process::Pid;
use tempfile::TempDir;

use crate::need;
use crate::netns::Namespace;
use crate::process::{PATIENCE, Process, eventually, run};

/// The program that a systemd is.
const PROGRAM: &str = "/lib/systemd/systemd";

/// Makes a control group, has systemd begin in it as the first process of new namespaces, and takes
/// the group away when that has ended. It ends systemd when standard input is closed, by the test
/// or with it. `$1` is a directory of the test's, `$2` the name of the group, `$3` the root
/// directory.
const OUTER: &str = r#"
set -e
mount --make-rprivate /
mkdir "$1/groups"
mount -t cgroup2 cgroup2 "$1/groups"
mkdir "$1/groups/$2"
# A signal that ends the others, or a word to a test that is gone, ends this by way of them alone.
trap : HUP INT TERM PIPE
# Behind an & it would be another standard input.
exec 3<&0
sh -c 'echo $$ >"$1/groups/$2/cgroup.procs" && exec unshare --mount --pid --ipc --uts --cgroup --fork --kill-child \
    sh -c "$4" sh "$1" "$3"' sh "$1" "$2" "$3" "$4" 3<&- &
systemd=$!
(trap '' HUP INT TERM; read -r _ <&3 || kill -KILL "$systemd") &
while kill -0 "$systemd" 2>/dev/null; do wait "$systemd" || true; done
until find "$1/groups/$2" -depth -type d -exec rmdir {} + 2>/dev/null; do sleep 0.05; done
"#;

/// Mounts what systemd expects to find, and becomes it. What is written to a copy of this machine's
/// files is in memory, and goes with the namespace.
const INNER: &str = r#"
set -e
root=${2%/}
mount --make-rprivate /
umount "$1/groups"
export SYSTEMD_UNIT_PATH=/run/systemd/system
if [ "$root" = copy ]; then
    mkdir "$1/copy"
    mount -t tmpfs -o mode=755 tmpfs "$1/copy"
    root=$1/copy/root
    mkdir "$root" "$1/copy/changes" "$1/copy/work"
    mount -t overlay -o "lowerdir=/,upperdir=$1/copy/changes,workdir=$1/copy/work" overlay "$root"
elif [ -n "$root" ]; then
    mount --bind "$root" "$root"
    unset SYSTEMD_UNIT_PATH
fi
[ -z "$root" ] || mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t proc proc "$root/proc"
umount -l /sys 2>/dev/null || true
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mkdir -p "$root/run/systemd/system"
cp -r "$1/units/." "$root/run/systemd/system"
export container=vxtap-test
# A process in a chroot could make no user namespace, as services have.
if [ -n "$root" ]; then cd "$root"; pivot_root . .; umount -l .; fi
exec /lib/systemd/systemd --system --unit=vxtap-test.target --log-target=console --log-level=info --show-status=no
"#;

/// Says whether a systemd can be run here. Says why not; with `CI` set it fails instead.
#[must_use]
pub(crate) fn is_here() -> bool {
    if !need::programs(&["ip", "unshare", "nsenter", "systemctl", "pivot_root", "find"]) {
        return false;
    }
    if !Path::new(PROGRAM).exists() {
        need::cannot("systemd is not installed");
        return false;
    }
    true
}

/// What a systemd sees as its files.
#[derive(Clone, Copy)]
pub(crate) enum Root<'a> {
    /// Those of this machine.
    Machine,
    /// Those on the root file system of this machine, in a copy that is the test's to change.
    Copy,
    /// Those in this directory, with the units there.
    Directory(&'a Path),
}

/// A systemd that runs. All that it has started ends with it.
pub(crate) struct Systemd {
    outer: Outer,
    /// Its number outside of its namespaces.
    init: Pid,
    directory: TempDir,
}

/// The process around a systemd, which ends with it.
struct Outer {
    process: Process,
    /// The other end of its standard input.
    held: Option<PipeWriter>,
}

impl Drop for Outer {
    fn drop(&mut self) {
        drop(self.held.take());
        let end = Instant::now() + PATIENCE;
        while self.process.is_running() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Systemd {
    /// Starts one that has these units, each with its file name, beside a target that has nothing
    /// in it.
    #[track_caller]
    pub(crate) fn start(namespace: &Namespace, root: Root, units: &[(&str, &str)]) -> Systemd {
        let directory = tempfile::tempdir().unwrap();
        // Users of units are to reach what is put here.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let target = ("vxtap-test.target", "[Unit]\nDefaultDependencies=no\n");
        for (name, text) in units.iter().copied().chain([target]) {
            let path = directory.path().join("units").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let group = directory.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.');
        let group = format!("vxtap-test-{}-{group}", std::process::id());
        let root_text = match root {
            Root::Machine => String::new(),
            Root::Copy => "copy".to_owned(),
            Root::Directory(root) => root.display().to_string(),
        };
        let mut command = namespace.command("unshare");
        command.args(["--mount", "sh", "-c", OUTER, "sh"]).arg(directory.path());
        command.args([&group, &root_text, INNER]);
        let (reader, writer) = io::pipe().unwrap();
        let process = Process::start_reading(&mut command, Some(reader.into()), None);
        let outer = Outer { process, held: Some(writer) };
        let pid = outer.process.pid();
        let mut init = None;
        eventually("systemd begins", || {
            init = descendant(pid, "systemd");
            init.is_some() || !is_there(pid)
        });
        let Some(init) = init else { panic!("systemd does not begin: {:#?}", outer.process.stderr.all()) };
        let systemd = Systemd { outer, init, directory };
        eventually("systemd answers", || {
            systemd.command("systemctl").args(["show"]).output().unwrap().status.success()
        });
        systemd
    }

    /// Returns a command that is run beside the units.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-a", "-t", &self.init.as_raw_nonzero().to_string()]);
        command.arg(program);
        command
    }

    /// Calls `systemctl` with these words, and returns how that ended.
    pub(crate) fn systemctl(&self, words: &str) -> Output {
        self.command("systemctl").args(words.split_whitespace()).output().unwrap()
    }

    /// Calls `systemctl` with these words, which must succeed.
    #[track_caller]
    pub(crate) fn does(&self, words: &str) {
        let output = self.systemctl(words);
        assert!(output.status.success(), "systemctl {words}: {output:?}: {:#?}", self.log());
    }

    /// Returns a property of a unit.
    #[track_caller]
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        let output = run(self.command("systemctl").args(["show", "-P", name, unit]));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Waits until a property of a unit has this value.
    #[track_caller]
    pub(crate) fn comes_to(&self, unit: &str, name: &str, value: &str) {
        eventually(&format!("{name} of {unit} is {value}"), || self.property(unit, name) == value);
    }

    /// Returns the main process of a service, by its number outside; none where there is none.
    #[track_caller]
    pub(crate) fn main_process(&self, unit: &str) -> Option<Pid> {
        let inside: i32 = self.property(unit, "MainPID").parse().unwrap();
        let namespace = fs::read_link(format!("/proc/{}/ns/pid", self.init.as_raw_nonzero())).unwrap();
        let found = all_processes().unwrap().flatten().find(|process| {
            let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
            let is_here = fs::read_link(format!("/proc/{}/ns/pid", process.pid)).is_ok_and(|of| of == namespace);
            inside > 0 && is_here && numbers.split_whitespace().next_back() == Some(&inside.to_string())
        });
        found.and_then(|process| Pid::from_raw(process.pid))
    }

    /// Writes a unit, or a part of one as `NAME.service.d/more.conf`, and has systemd read it.
    #[track_caller]
    pub(crate) fn install(&self, name: &str, text: &str) {
        let path = format!("/run/systemd/system/{name}");
        let write = "mkdir -p \"$(dirname \"$0\")\" && printf %s \"$1\" >\"$0\"";
        run(self.command("sh").args(["-c", write, &path, text]));
        self.does("daemon-reload");
    }

    /// Returns what systemd has said so far.
    pub(crate) fn log(&self) -> Vec<String> {
        [self.outer.process.stdout.all(), self.outer.process.stderr.all()].concat()
    }

    /// Returns the way from outside to what is at this path for the units.
    pub(crate) fn inside(&self, path: &str) -> PathBuf {
        Path::new("/proc").join(self.init.as_raw_nonzero().to_string()).join("root").join(path.trim_start_matches('/'))
    }

    /// Writes a file at this path for the units, which is another one than this machine's where
    /// they see a copy. A script can be run.
    #[track_caller]
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.inside(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Returns a path in a directory that goes with this.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Says whether a process has not ended.
fn is_there(pid: Pid) -> bool {
    procfs::process::Process::new(pid.as_raw_nonzero().get())
        .and_then(|process| process.stat())
        .is_ok_and(|stat| stat.state != 'Z')
}

/// Returns the process of this name that this one, or one below it, has started; where there are
/// several, the one from which the others are.
fn descendant(of: Pid, name: &str) -> Option<Pid> {
    let all: Vec<_> = all_processes().unwrap().flatten().filter_map(|process| process.stat().ok()).collect();
    let mut family = vec![of.as_raw_nonzero().get()];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(all.iter().filter(|stat| stat.ppid == parent).map(|stat| stat.pid));
        next += 1;
    }
    let is_it = |pid: &&i32| all.iter().any(|stat| stat.pid == **pid && stat.comm == name);
    Pid::from_raw(*family.iter().find(is_it)?)
}
