//! A command for each published capture: to upload it, index it, or feed it to an analyser.
//!
//! Commands run in the background. However slow they are, publishing never waits for them; beyond a thousand that wait, captures are
//! skipped and counted.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::command::{command, shed_capabilities};
use crate::evidence::Capture;
use crate::ledger::Counter;
use crate::storage::Changed;

/// Commands that run at the same time.
const AT_ONCE: usize = 4;
/// Captures that wait for their command.
const WAITING: usize = 1000;
/// Time between two log lines about failures.
const LOG: Duration = Duration::from_secs(1);
/// Files that a log line names.
const NAMED: usize = 5;

/// What became of the captures that a command was to run for: once it has finished, `published = run + skipped`.
#[derive(Debug, Default)]
pub(super) struct HookCounters {
    runners: [RunnerCounters; AT_ONCE],
    /// Captures without a command: too many were waiting, or the sensor ended before its turn.
    skipped: Counter,
    /// Commands that nobody waited for any longer.
    unfinished: Counter,
}

/// One thread's.
#[derive(Debug, Default)]
struct RunnerCounters {
    run: Counter,
    failed: Counter,
}

/// [`HookCounters`], added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct HookTotals {
    /// Captures whose command was started, or tried to be.
    pub(super) run: u64,
    /// Of these: could not be started, ended with another status than 0, or was killed.
    pub(super) failed: u64,
    /// Of these: still ran when the hook was told to finish and had waited as long as it was to.
    pub(super) unfinished: u64,
    /// Captures whose command was never tried.
    pub(super) skipped: u64,
}

impl HookCounters {
    /// The sums.
    #[must_use]
    pub(super) fn totals(&self) -> HookTotals {
        let sum = |of: fn(&RunnerCounters) -> &Counter| self.runners.iter().map(|runner| of(runner).get()).sum();
        HookTotals {
            run: sum(|r| &r.run),
            failed: sum(|r| &r.failed),
            unfinished: self.unfinished.get(),
            skipped: self.skipped.get(),
        }
    }
}

/// What a hook left when it was told to finish.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Unfinished {
    /// Captures whose commands still run. Nobody waits for them any more.
    pub(super) running: Vec<PathBuf>,
    /// Captures whose command had not begun. They are counted as skipped.
    pub(super) waiting: Vec<PathBuf>,
}

/// A published capture that a command is to run for.
struct Job {
    path: PathBuf,
    capture: Capture,
    replaced: Replaced,
}

/// Says what has the name of a capture of so many bytes in its place, if anything.
pub(super) type Replaced = Box<dyn Fn(&Path, u64) -> Option<Changed> + Send>;

/// The command, and the threads that run it.
#[derive(Debug)]
pub(super) struct Hook {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    command: String,
    counters: Arc<HookCounters>,
    jobs: Mutex<Jobs>,
    /// Notified when [`Jobs`] change.
    changed: Condvar,
    failures: Mutex<Failures>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What is to be done, and what is being done.
#[derive(Debug, Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    /// Captures whose command runs.
    running: Vec<PathBuf>,
    /// No more will come.
    over: bool,
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
    pub(super) fn start(command: &str, counters: Arc<HookCounters>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            command: command.to_owned(),
            counters,
            jobs: Mutex::default(),
            changed: Condvar::new(),
            failures: Mutex::default(),
        });
        for number in 0..AT_ONCE {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name(format!("vxtap-hook{number}")).spawn(move || shared.work(number))?;
        }
        Ok(Self { shared })
    }

    /// Has the command run for `capture`, which is at `path`, unless something else is there by then:
    /// a command with more rights than whoever put it there would read it. Never waits for a command.
    /// One thread only calls this and [`Hook::finish`].
    pub(super) fn run(&self, path: PathBuf, capture: Capture, replaced: Replaced) {
        let mut jobs = self.shared.jobs();
        if jobs.waiting.len() < WAITING {
            jobs.waiting.push_back(Job { path, capture, replaced });
            drop(jobs);
            return self.shared.changed.notify_all();
        }
        drop(jobs);
        self.shared.counters.skipped.add(1);
        self.shared.complain(&path, "was skipped, because too many wait");
    }

    /// Waits until the command has run for all captures, for `patience` at most, and says what is left then.
    pub(super) fn finish(self, patience: Duration) -> Unfinished {
        let shared = &self.shared;
        let mut jobs = shared.jobs();
        jobs.over = true;
        shared.changed.notify_all();
        let is_busy = |jobs: &mut Jobs| !jobs.waiting.is_empty() || !jobs.running.is_empty();
        let (mut jobs, _) =
            shared.changed.wait_timeout_while(jobs, patience, is_busy).unwrap_or_else(PoisonError::into_inner);
        let waiting = jobs.waiting.drain(..).map(|job| job.path).collect();
        let left = Unfinished { running: jobs.running.clone(), waiting };
        drop(jobs);
        shared.counters.skipped.add(left.waiting.len() as u64);
        shared.counters.unfinished.add(left.running.len() as u64);
        shared.failures.lock().unwrap_or_else(PoisonError::into_inner).end();
        left.say(patience);
        left
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        // Where nobody called `finish`, as after an error at the start.
        self.shared.jobs().over = true;
        self.shared.changed.notify_all();
    }
}

impl Unfinished {
    fn say(&self, patience: Duration) {
        if *self == Self::default() {
            return;
        }
        for path in &self.waiting {
            tracing::debug!(path = %path.display(), "no command of --on-publish was run for this capture");
        }
        tracing::warn!(
            running = self.running.len(),
            skipped = self.waiting.len(),
            "not waiting any longer than {patience:?} for the commands of --on-publish; still running, for {}; not run, for {}",
            names(&self.running),
            names(&self.waiting)
        );
    }
}

/// The first files of a list, and how many more there are.
fn names(paths: &[PathBuf]) -> String {
    let first: Vec<String> = paths.iter().take(NAMED).map(|path| path.display().to_string()).collect();
    match paths.len().saturating_sub(NAMED) {
        _ if paths.is_empty() => "none".into(),
        0 => first.join(" "),
        more => format!("{} and {more} more", first.join(" ")),
    }
}

impl Shared {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next capture, which counts as running from here on; none when there will be no more.
    fn next(&self, counters: &RunnerCounters) -> Option<Job> {
        let is_idle = |jobs: &mut Jobs| jobs.waiting.is_empty() && !jobs.over;
        let mut jobs = self.changed.wait_while(self.jobs(), is_idle).unwrap_or_else(PoisonError::into_inner);
        let job = jobs.waiting.pop_front()?;
        jobs.running.push(job.path.clone());
        counters.run.add(1);
        Some(job)
    }

    /// Runs commands until there are no more.
    fn work(&self, number: usize) {
        let Some(counters) = self.counters.runners.get(number) else { return };
        let ready = shed_capabilities().map_err(|error| format!("cannot take capabilities from it: {error}"));
        while let Some(job) = self.next(counters) {
            if let Err(why) = ready.clone().and_then(|()| self.execute(&job)) {
                counters.failed.add(1);
                self.complain(&job.path, &format!("failed: {why}"));
            }
            let mut jobs = self.jobs();
            if let Some(done) = jobs.running.iter().position(|path| *path == job.path) {
                jobs.running.swap_remove(done);
            }
            drop(jobs);
            self.changed.notify_all();
        }
    }

    /// Runs the command for one capture and waits for its end; else why it is no success.
    fn execute(&self, job: &Job) -> Result<(), String> {
        if let Some(found) = (job.replaced)(&job.path, job.capture.bytes) {
            return Err(format!("not run, for under the capture's name there is {found}"));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Algorithm, FileHash};
    use crate::record::Timestamp;
    use crate::session::Session;
    use crate::wire::Vni;
    use rustix::thread::{
        CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set, set_capabilities,
    };
    use std::fs;
    use std::net::Ipv4Addr;

    const LONG: Duration = Duration::from_secs(30);

    fn capture() -> Capture {
        Capture {
            path: "s/a b.pcap".into(),
            session: Some(Session::vxlan(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), Vni::new(7).unwrap())),
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
        HookTotals { run, failed, unfinished: 0, skipped }
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
        hook.run("/c/$HOME 'a' \"b\".pcap".into(), capture(), Box::new(|_, _| None));
        let lines = || fs::read_to_string(&out).unwrap_or_default().lines().count();
        for (n, capture) in (1..).zip(others) {
            wait(|| lines() == n);
            hook.run("x".into(), capture, Box::new(|_, _| None));
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
    fn what_was_put_in_a_captures_place_is_read_by_no_command() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let (hook, counters) = start(&format!("cat \"$1\" >>{}", out.display()));
        hook.run("/dev/null".into(), capture(), Box::new(|_, _| Some(Changed::Other)));
        assert_eq!(hook.finish(LONG), Unfinished::default());
        assert_eq!(counters.totals(), totals(1, 1, 0));
        assert!(!out.exists(), "no command was run");
    }

    #[test]
    fn the_path_is_an_argument_and_a_variable() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let told = |command: &str| {
            let (hook, counters) = start(command);
            hook.run("/c/$HOME 'a' \"b\".pcap".into(), capture(), Box::new(|_, _| None));
            assert_eq!(hook.finish(LONG), Unfinished::default());
            assert_eq!(counters.totals(), totals(1, 0, 0), "{command}");
            fs::read_to_string(&out).unwrap()
        };
        let path = "/c/$HOME 'a' \"b\".pcap";
        let script = dir.path().join("script");
        fs::write(&script, format!("printf '%s|' \"$@\" >{}", out.display())).unwrap();
        let (out, script) = (out.display(), script.display());
        // As people write it, behind the path more words, and behind the command another.
        assert_eq!(told(&format!("printf '%s|' \"$1\" s3://evidence/ >{out}")), format!("{path}|s3://evidence/|"));
        assert_eq!(told(&format!("printf '%s|' \"$VXTAP_FILE\" \"$0\" >{out} && true")), format!("{path}|vxtap|"));
        assert_eq!(told(&format!("f() {{ printf '%s|' \"$#\" \"$1\" >{out}; }}; f \"$1\"")), format!("1|{path}|"));
        // And where neither is asked for.
        assert_eq!(told(&format!("sh {script} --to x")), format!("--to|x|{path}|"));
        assert_eq!(told(&format!("f() {{ printf '%s|' \"$#\" \"$1\" >{out}; }}; f")), format!("1|{path}|"));
    }

    /// The upload that the documents show, with a program in place of `aws` that fails twice.
    #[test]
    fn the_recipe_tries_again_and_takes_the_manifest_along() {
        let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/evidence.md")).unwrap();
        let (_, recipe) = page.split_once("--on-publish '\n").unwrap();
        let (recipe, _) = recipe.split_once("'\n```").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (aws, out) = (dir.path().join("aws"), dir.path().join("out"));
        let text = format!("echo \"$*\" >>{out}; test $(wc -l <{out}) -gt 2", out = out.display());
        fs::write(&aws, text).unwrap();
        let recipe = recipe.replace("aws s3", &format!("sh {} s3", aws.display())).replace("sleep $pause", ":");
        let (hook, counters) = start(&recipe);
        hook.run("/data/captures/vni7_192.0.2.1/a b.pcap".into(), capture(), Box::new(|_, _| None));
        assert_eq!(hook.finish(LONG), Unfinished::default());
        assert_eq!(counters.totals(), totals(1, 0, 0));
        let upload =
            "s3 cp --only-show-errors /data/captures/vni7_192.0.2.1/a b.pcap s3://evidence/vni7_192.0.2.1/a b.pcap";
        let manifest = "s3 cp --only-show-errors /data/captures/manifest.jsonl s3://evidence/";
        let said = fs::read_to_string(&out).unwrap();
        assert_eq!(said.lines().collect::<Vec<_>>(), [upload, upload, upload, manifest]);
    }

    #[test]
    fn commands_inherit_no_capability() {
        let own = capabilities(None).unwrap();
        let inheritable = CapabilitySet::NET_RAW;
        // Who does not have it cannot pass it on.
        if !own.permitted.contains(inheritable) {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        set_capabilities(None, CapabilitySets { inheritable, ..own }).unwrap();
        configure_capability_in_ambient_set(inheritable, true).unwrap();
        // The threads of the hook take it over from this one.
        let (hook, counters) = start(&format!("grep Cap /proc/self/status >{}; :", out.display()));
        hook.run("x".into(), capture(), Box::new(|_, _| None));
        hook.finish(LONG);
        assert_eq!(counters.totals(), totals(1, 0, 0));
        let text = fs::read_to_string(&out).unwrap();
        for set in ["CapInh:", "CapAmb:"] {
            let line = text.lines().find(|line| line.starts_with(set)).unwrap();
            assert!(line.ends_with("\t0000000000000000"), "{text}");
        }
    }

    #[test]
    fn what_is_left_is_named() {
        let paths: Vec<PathBuf> = (1..=7).map(|n| format!("/c/{n}").into()).collect();
        assert_eq!(names(&[]), "none");
        assert_eq!(names(&paths[..2]), "/c/1 /c/2");
        assert_eq!(names(&paths), "/c/1 /c/2 /c/3 /c/4 /c/5 and 2 more");
    }

    #[test]
    fn failures_are_counted() {
        for (command, failed) in [("true", 0), ("exit 3;", 1), ("kill -9 $$;", 1), ("/does/not/exist", 1), ("(", 1)] {
            let (hook, counters) = start(command);
            hook.run("x".into(), capture(), Box::new(|_, _| None));
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
            hook.run("x".into(), capture(), Box::new(|_, _| None));
        }
        wait(|| counters.totals().run == AT_ONCE as u64);
        for _ in 0..WAITING + 3 {
            hook.run("x".into(), capture(), Box::new(|_, _| None));
        }
        assert_eq!(counters.totals(), totals(4, 0, 3));
        let began = Instant::now();
        let left = hook.finish(Duration::from_millis(50));
        assert_eq!((left.running.len(), left.waiting.len()), (4, 1000));
        assert!(began.elapsed() < LONG);
        let wanted = HookTotals { unfinished: 4, ..totals(4, 0, 1003) };
        assert_eq!(counters.totals(), wanted);
        // They were not killed, and end by themselves.
        fs::write(&gate, "").unwrap();
        wait(|| Arc::strong_count(&counters) == 1);
        assert_eq!(counters.totals(), wanted);
    }

    #[test]
    fn what_waits_is_run_before_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (hook, counters) = start(&format!("echo >>{}", dir.path().join("out").display()));
        for _ in 0..20 {
            hook.run("x".into(), capture(), Box::new(|_, _| None));
        }
        assert_eq!(hook.finish(LONG), Unfinished::default());
        assert_eq!(counters.totals(), totals(20, 0, 0));
        assert_eq!(fs::read_to_string(dir.path().join("out")).unwrap().lines().count(), 20);
    }
}
