//! A command for each published capture: to upload it, index it, or feed it to an analyser.
//!
//! Commands run in the background. However slow they are, publishing never waits for them; beyond a thousand that wait, captures are
//! skipped and counted.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::manifest::{Algorithm, Capture};
use crate::ledger::Counter;

/// Commands that run at the same time.
const AT_ONCE: usize = 4;
/// Captures that wait for their command.
const WAITING: usize = 1000;
/// Time between two log lines about failures.
const LOG: Duration = Duration::from_secs(1);

/// What became of the captures that a command was to run for: once it has finished, `published = run + skipped`.
#[derive(Debug, Default)]
pub struct HookCounters {
    runners: [RunnerCounters; AT_ONCE],
    /// Captures without a command: too many were waiting, or the sensor ended before its turn.
    skipped: Counter,
}

/// One thread's.
#[derive(Debug, Default)]
struct RunnerCounters {
    run: Counter,
    failed: Counter,
}

/// [`HookCounters`], added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HookTotals {
    /// Captures whose command was started, or tried to be.
    pub run: u64,
    /// Of these: could not be started, ended with another status than 0, or was killed.
    pub failed: u64,
    /// Captures whose command was never tried.
    pub skipped: u64,
}

impl HookCounters {
    /// The sums.
    #[must_use]
    pub fn totals(&self) -> HookTotals {
        let sum = |of: fn(&RunnerCounters) -> &Counter| self.runners.iter().map(|runner| of(runner).get()).sum();
        HookTotals { run: sum(|r| &r.run), failed: sum(|r| &r.failed), skipped: self.skipped.get() }
    }
}

/// What a hook left when it was told to finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unfinished {
    /// Commands that still run. Nobody waits for them any more.
    pub running: usize,
    /// Captures whose command had not begun. They are counted as skipped.
    pub waiting: u64,
}

/// A published capture that a command is to run for.
#[derive(Debug)]
struct Job {
    path: PathBuf,
    capture: Capture,
}

/// The command, and the threads that run it.
#[derive(Debug)]
pub struct Hook {
    jobs: Sender<Job>,
    /// To take back what waits.
    waiting: Receiver<Job>,
    /// Disconnected when all threads have ended.
    ended: Receiver<()>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    command: String,
    counters: Arc<HookCounters>,
    /// No further command is to be started.
    over: AtomicBool,
    failures: Mutex<Failures>,
}

/// Failures that were not logged, because another was a moment ago.
#[derive(Debug, Default)]
struct Failures {
    logged: Option<Instant>,
    others: u64,
}

impl Hook {
    /// Has the shell run `command` for each capture that is handed to [`Hook::run`].
    ///
    /// # Errors
    /// What creating a thread returns.
    pub fn start(command: &str, counters: Arc<HookCounters>) -> io::Result<Self> {
        let (jobs, waiting) = bounded(WAITING);
        let (alive, ended) = bounded::<()>(0);
        let over = AtomicBool::new(false);
        let shared = Arc::new(Shared { command: command.to_owned(), counters, over, failures: Mutex::default() });
        for number in 0..AT_ONCE {
            let (shared, jobs, alive) = (Arc::clone(&shared), waiting.clone(), alive.clone());
            thread::Builder::new().name(format!("vxtap-hook{number}")).spawn(move || {
                shared.work(number, &jobs);
                drop(alive);
            })?;
        }
        Ok(Self { jobs, waiting, ended, shared })
    }

    /// Has the command run for `capture`, which is at `path`. Never waits. One thread only calls this and [`Hook::finish`].
    pub fn run(&self, path: PathBuf, capture: Capture) {
        match self.jobs.try_send(Job { path, capture }) {
            Ok(()) => {}
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                self.shared.counters.skipped.add(1);
                self.shared.complain(&job.path, "was skipped, because too many wait");
            }
        }
    }

    /// Waits until the command has run for all captures, for `patience` at most, and says what is left then.
    pub fn finish(self, patience: Duration) -> Unfinished {
        let Hook { jobs, waiting, ended, shared } = self;
        drop(jobs);
        let mut left = Unfinished::default();
        if ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            shared.over.store(true, Ordering::Relaxed);
            left.waiting = waiting.try_iter().count() as u64;
            shared.counters.skipped.add(left.waiting);
            // One thread each; those without a command end as they find nothing that waits.
            left.running = Arc::strong_count(&shared) - 1;
            tracing::warn!(
                running = left.running,
                skipped = left.waiting,
                "not waiting any longer for the commands of --on-publish; those that run go on by themselves"
            );
        }
        shared.failures.lock().unwrap_or_else(PoisonError::into_inner).end();
        left
    }
}

impl Shared {
    /// Runs commands until there are no more.
    fn work(&self, number: usize, jobs: &Receiver<Job>) {
        let Some(counters) = self.counters.runners.get(number) else { return };
        while let Ok(job) = jobs.recv() {
            counters.run.add(1);
            if let Err(why) = self.execute(&job) {
                counters.failed.add(1);
                self.complain(&job.path, &format!("failed: {why}"));
            }
            if self.over.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Runs the command for one capture and waits for its end; else why it is no success.
    fn execute(&self, job: &Job) -> Result<(), String> {
        let mut child = command(&self.command, &job.path, &job.capture)
            .spawn()
            .map_err(|error| format!("cannot start /bin/sh: {error}"))?;
        let status = child.wait().map_err(|error| format!("cannot wait for it: {error}"))?;
        if status.success() { Ok(()) } else { Err(status.to_string()) }
    }

    /// Logs a failure, unless another was a moment ago.
    fn complain(&self, path: &Path, why: &str) {
        let now = Instant::now();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.logged.is_some_and(|logged| now < logged + LOG) {
            failures.others += 1;
            return;
        }
        let others = std::mem::take(&mut failures.others);
        failures.logged = Some(now);
        drop(failures);
        tracing::warn!(path = %path.display(), others, "the command of --on-publish {why}");
    }
}

impl Failures {
    /// Logs how many were not.
    fn end(&mut self) {
        match std::mem::take(&mut self.others) {
            0 => {}
            others => tracing::warn!(others, "the command of --on-publish failed or was skipped for others"),
        }
    }
}

/// `/bin/sh -c 'COMMAND "$@"' vxtap PATH`, so that the path is the command's last argument whatever characters it has.
///
/// What the command prints goes to standard error: standard output has the ledger. It gets a process group of its own, so that a
/// Ctrl-C meant for the sensor does not end it.
fn command(command: &str, path: &Path, capture: &Capture) -> Command {
    let session = capture.session.as_ref();
    let dropped = capture.dropped.values().fold(0u64, |sum, n| sum.saturating_add(*n));
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", &format!("{command} \"$@\""), "vxtap"])
        .arg(path)
        .env("VXTAP_SOURCE", session.map(|session| session.source.to_string()).unwrap_or_default())
        .env("VXTAP_VNI", session.map(|session| session.vni.to_string()).unwrap_or_default())
        .env("VXTAP_FRAMES", capture.frames.to_string())
        .env("VXTAP_BYTES", capture.bytes.to_string())
        .env("VXTAP_DROPPED", dropped.to_string())
        .env("VXTAP_FIRST", capture.first.to_string())
        .env("VXTAP_LAST", capture.last.to_string())
        .env("VXTAP_FORMAT", &capture.format)
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .process_group(0);
    // One of them, as in the line; the others are empty, whatever this process was started with.
    for algorithm in Algorithm::ALL {
        let hash = capture.hash.filter(|hash| hash.algorithm() == algorithm);
        let name = format!("VXTAP_{}", algorithm.key().to_uppercase());
        shell.env(name, hash.map(|hash| hash.to_string()).unwrap_or_default());
    }
    shell
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::manifest::FileHash;
    use crate::record::Timestamp;
    use std::fs;

    const LONG: Duration = Duration::from_secs(30);

    fn capture() -> Capture {
        Capture {
            path: "s/a b.pcap".into(),
            session: Some(super::super::Session { source: "192.0.2.1".parse().unwrap(), vni: 7 }),
            first: Timestamp::from_ns(1),
            last: Timestamp::from_ns(1_000_000_002),
            frames: 3,
            frame_bytes: 30,
            bytes: 102,
            dropped: [("lane_full".to_owned(), 4), ("disk_full".to_owned(), 5)].into(),
            kernel_dropped: 0,
            format: "pcap".into(),
            compression: None,
            hash: Some(FileHash::of(Algorithm::Sha256, b"x")),
        }
    }

    fn start(command: &str) -> (Hook, Arc<HookCounters>) {
        let counters = Arc::new(HookCounters::default());
        (Hook::start(command, Arc::clone(&counters)).unwrap(), counters)
    }

    fn totals(run: u64, failed: u64, skipped: u64) -> HookTotals {
        HookTotals { run, failed, skipped }
    }

    /// Until `true`.
    fn wait(what: impl Fn() -> bool) {
        let end = Instant::now() + LONG;
        while !what() {
            assert!(Instant::now() < end);
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn the_command_is_told_about_the_capture() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let script = format!(
            "f() {{ echo \"$# $1|$VXTAP_SOURCE|$VXTAP_VNI|$VXTAP_FRAMES|$VXTAP_BYTES|$VXTAP_DROPPED|$VXTAP_FIRST|$VXTAP_LAST|\
             $VXTAP_SHA256|$VXTAP_BLAKE3|$VXTAP_FORMAT|$(cat)\" >>{}; }}; f",
            out.display()
        );
        let (hook, counters) = start(&script);
        let blake3 = FileHash::of(Algorithm::Blake3, b"x");
        let others = [
            Capture { session: None, hash: None, ..capture() },
            Capture { session: None, hash: Some(blake3), ..capture() },
        ];
        hook.run("/c/$HOME 'a' \"b\".pcap".into(), capture());
        let lines = || fs::read_to_string(&out).unwrap_or_default().lines().count();
        for (n, capture) in (1..).zip(others) {
            wait(|| lines() == n);
            hook.run("x".into(), capture);
        }
        assert_eq!(hook.finish(LONG), Unfinished::default());
        assert_eq!(counters.totals(), totals(3, 0, 0));
        let sha256 = FileHash::of(Algorithm::Sha256, b"x");
        let rest = "3|102|9|1970-01-01T00:00:00.000000001Z|1970-01-01T00:00:01.000000002Z";
        let want = format!(
            "1 /c/$HOME 'a' \"b\".pcap|192.0.2.1|7|{rest}|{sha256}||pcap|\n1 x|||{rest}|||pcap|\n1 x|||{rest}||{blake3}|pcap|\n"
        );
        assert_eq!(fs::read_to_string(&out).unwrap(), want);
    }

    #[test]
    fn failures_are_counted() {
        for (command, failed) in [("true", 0), ("exit 3;", 1), ("kill -9 $$;", 1), ("/does/not/exist", 1), ("(", 1)] {
            let (hook, counters) = start(command);
            hook.run("x".into(), capture());
            hook.finish(LONG);
            assert_eq!(counters.totals(), totals(1, failed, 0), "{command}");
        }
    }

    #[test]
    fn four_run_at_once_a_thousand_wait_and_the_rest_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let gate = dir.path().join("gate");
        let command = format!("for i in $(seq 3000); do test -e {} && break; sleep 0.01; done; :", gate.display());
        let (hook, counters) = start(&command);
        for _ in 0..AT_ONCE {
            hook.run("x".into(), capture());
        }
        wait(|| counters.totals().run == AT_ONCE as u64);
        for _ in 0..WAITING + 3 {
            hook.run("x".into(), capture());
        }
        assert_eq!(counters.totals(), totals(4, 0, 3));
        let began = Instant::now();
        assert_eq!(hook.finish(Duration::from_millis(50)), Unfinished { running: 4, waiting: 1000 });
        assert!(began.elapsed() < LONG);
        assert_eq!(counters.totals(), totals(4, 0, 1003));
        // They were not killed, and end by themselves.
        fs::write(&gate, "").unwrap();
        wait(|| Arc::strong_count(&counters) == 1);
        assert_eq!(counters.totals(), totals(4, 0, 1003));
    }

    #[test]
    fn what_waits_is_run_before_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (hook, counters) = start(&format!("echo >>{}", dir.path().join("out").display()));
        for _ in 0..20 {
            hook.run("x".into(), capture());
        }
        assert_eq!(hook.finish(LONG), Unfinished::default());
        assert_eq!(counters.totals(), totals(20, 0, 0));
        assert_eq!(fs::read_to_string(dir.path().join("out")).unwrap().lines().count(), 20);
    }
}
