//! Child processes run with a guard: it reads what they print and how they end, and sees that they
//! end.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::panic;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, Once};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use signal_hook::consts::SIGHUP;

/// The longest that a test waits for anything. Far beyond what it takes, since other tests may have
/// the cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Runs a command to its end; fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    output
}

/// Waits until this is so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not so after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Has SIGHUP end this process even where it was ignored, as under nohup: what starts is to hear
/// it, and a process inherits what its parent ignores.
fn hears_hangups() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        signal_hook::flag::register_conditional_shutdown(SIGHUP, 128 + SIGHUP, Arc::new(AtomicBool::new(true)))
            .unwrap();
    });
}

/// Runs this, and the processes it starts, on one core: what one core sends over virtual cables
/// arrives in that order.
pub(crate) fn on_one_core<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    let pinned = || {
        let allowed = sched_getaffinity(None).unwrap();
        let mut one = CpuSet::new();
        one.set((0..CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).unwrap());
        sched_setaffinity(None, &one).unwrap();
        run()
    };
    thread::scope(|scope| scope.spawn(pinned).join()).unwrap_or_else(|cause| panic::resume_unwind(cause))
}

/// A thread of a process.
pub(crate) struct Task {
    /// Its name. One that begins has that of who began it.
    pub(crate) name: String,
    /// Its directory, which has its number for a name.
    pub(crate) directory: PathBuf,
}

impl Task {
    /// Returns the time that it has spent on a core so far, and the time for which it has waited
    /// for one.
    pub(crate) fn times(&self) -> [Duration; 2] {
        // One that has ended meanwhile has no file.
        let times = fs::read_to_string(self.directory.join("schedstat")).unwrap_or_default();
        let mut times = times.split(' ').map(|time| Duration::from_nanos(time.parse().unwrap_or(0)));
        [(); 2].map(|()| times.next().unwrap_or_default())
    }

    /// Waits until this thread waits for something to do.
    #[track_caller]
    pub(crate) fn rests(&self) {
        eventually(&format!("{} rests", self.name), || self.state() == Some('S'));
    }

    /// Returns what it does; none where it has ended.
    fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(self.directory.join("stat")).ok()?;
        // It follows the name, which ends at the last parenthesis (proc_pid_stat(5)).
        stat.rsplit_once(") ")?.1.chars().next()
    }

    /// Waits until this thread, which does what there is to do and then waits, has done that again:
    /// it has heard by then of all that was there before.
    #[track_caller]
    pub(crate) fn comes_round(&self) {
        let waits = || {
            let status = fs::read_to_string(self.directory.join("status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.unwrap().trim().parse::<u64>().unwrap()
        };
        // It may be about to wait, and for something else on the way.
        let enough = waits() + 10;
        eventually(&format!("{} comes round", self.name), || waits() >= enough);
    }
}

/// Returns the threads of a process.
pub(crate) fn tasks(pid: Pid) -> Vec<Task> {
    let entries = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap();
    let task = |directory: PathBuf| {
        let name = fs::read_to_string(directory.join("comm")).ok()?.trim_end().to_owned();
        Some(Task { name, directory })
    };
    entries.filter_map(|entry| task(entry.unwrap().path())).collect()
}

/// Says whether no thread of a process runs, after it was told to stop: one that waits for a core
/// in the kernel does there what it has begun.
pub(crate) fn is_stopped(pid: Pid) -> bool {
    tasks(pid).iter().all(|task| matches!(task.state(), Some('T') | None))
}

/// Waits until a process has a thread with this name, and returns that.
#[track_caller]
pub(crate) fn task_named(pid: Pid, name: &str) -> Task {
    let mut found = None;
    eventually(&format!("a thread is named {name}"), || {
        found = tasks(pid).into_iter().find(|task| task.name == name);
        found.is_some()
    });
    found.unwrap()
}

/// What a process has printed so far.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<(Mutex<Printed>, Condvar)>);

#[derive(Default)]
struct Printed {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn follow(&self, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let this = self.clone();
        thread::spawn(move || {
            let (printed, news) = &*this.0;
            for line in BufReader::new(stream).split(b'\n') {
                let Ok(line) = line else { break };
                printed.lock().unwrap().lines.push(String::from_utf8_lossy(&line).into_owned());
                news.notify_all();
            }
            printed.lock().unwrap().ended = true;
            news.notify_all();
        })
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.0.lock().unwrap().lines.len()
    }

    /// Waits for a line, from line number `from` on, that this finds something in. Fails when the
    /// process ends without.
    #[track_caller]
    pub(crate) fn find<T>(&self, what: &str, from: usize, mut find: impl FnMut(&str) -> Option<T>) -> T {
        let (printed, news) = &*self.0;
        let end = Instant::now() + PATIENCE;
        let mut printed = printed.lock().unwrap();
        let mut next = from;
        loop {
            while let Some(line) = printed.lines.get(next) {
                if let Some(found) = find(line) {
                    return found;
                }
                next += 1;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!printed.ended && !left.is_zero(), "no line with {what}: {:#?}", printed.lines);
            printed = news.wait_timeout(printed, left).unwrap().0;
        }
    }
}

/// A running process, killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts it and follows its standard error, and its standard output unless that goes to
    /// `stdout`.
    pub(crate) fn start(command: &mut Command, stdout: Option<Stdio>) -> Process {
        Process::start_reading(command, None, stdout)
    }

    /// Starts as [`Process::start`] does, with its standard input from there.
    pub(crate) fn start_reading(command: &mut Command, stdin: Option<Stdio>, stdout: Option<Stdio>) -> Process {
        command
            .stdin(stdin.unwrap_or_else(Stdio::null))
            .stdout(stdout.unwrap_or_else(Stdio::piped))
            .stderr(Stdio::piped());
        hears_hangups();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let mut readers = vec![stderr.follow(child.stderr.take().unwrap())];
        readers.extend(child.stdout.take().map(|stream| stdout.follow(stream)));
        Process { child, stdout, stderr, readers }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end, and for the last line.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "still running after {PATIENCE:?}: {:#?}", self.stderr.all());
            thread::sleep(Duration::from_millis(5));
        };
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
