//! A command runs for each published capture: to upload it, index it, or feed it to an analyser.
//!
//! Commands run in the background. However slow they are, publishing never waits for them. A
//! thousand captures wait here at most.

mod command;
mod counters;
mod helper;
mod message;
mod serve;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use self::command::{Errand, Failure, SHELL};
use self::counters::{AT_ONCE, HookCounters, RunnerCounters};
use self::helper::Helper;
pub use self::helper::{HelperPlan, Started};
pub use self::serve::{Permitted, serve};
use super::consumer::{Consumer, Job};
use crate::ledger::OutputCounters;
use crate::setting::Wording;
use crate::whose;

/// Captures that wait for their command.
const WAITING: usize = 1000;
/// Time for which a thread starts no command after one could not be started.
const PAUSE: Duration = Duration::from_secs(1);
/// Time between two log lines about failures.
const LOG: Duration = Duration::from_secs(1);
/// Files that a log line names.
const NAMED: usize = 5;

/// The captures that a hook left when it was told to finish.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Unfinished {
    /// Captures whose commands still run. Nobody waits for them any more.
    running: Vec<PathBuf>,
    /// Captures whose command had not begun.
    waiting: Vec<PathBuf>,
}

/// The command, and the threads that run it.
#[derive(Debug)]
pub(super) struct Hook {
    shared: Arc<Shared>,
}

struct Shared {
    runner: Runner,
    /// The command of now.
    command: Mutex<Arc<str>>,
    /// The name of the setting, as the log calls it.
    name: String,
    counters: Arc<HookCounters>,
    jobs: Mutex<Jobs>,
    /// Notified when [`Jobs`] change.
    changed: Condvar,
    failures: Mutex<Failures>,
    /// Called with the path of each capture whose command has ended.
    done: Box<dyn Fn(&str) + Send + Sync>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("command", &self.command).field("jobs", &self.jobs).finish_non_exhaustive()
    }
}

/// Who runs commands.
#[derive(Debug)]
enum Runner {
    /// This process, by this shell.
    Here(PathBuf),
    /// The process that was started for it.
    Helper(&'static Helper),
}

impl Runner {
    fn run(&self, errand: &Errand) -> Result<(), Failure> {
        match self {
            Self::Here(shell) => errand.run(shell),
            Self::Helper(helper) => helper.run(errand),
        }
    }
}

/// The commands that are to be run, and those that run.
#[derive(Debug, Default)]
struct Jobs {
    waiting: VecDeque<Waiting>,
    /// Captures whose command runs.
    running: Vec<PathBuf>,
    /// True when no more will come.
    over: bool,
}

/// A capture that waits for its command.
#[derive(Debug)]
struct Waiting {
    job: Job,
    /// True where a command could not be started for it before.
    was_tried: bool,
}

/// Failures that were not logged, because another was a moment ago.
#[derive(Debug, Default)]
struct Failures {
    logged: Option<Instant>,
    others: u64,
}

impl Hook {
    /// Has the shell run `command` for each capture that it takes. `done` hears the path of each
    /// whose command has ended, as its line has it.
    ///
    /// # Errors
    /// A thread cannot be created.
    pub(super) fn start(
        command: &str,
        wording: Wording,
        done: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let here = || Runner::Here(SHELL.into());
        Self::with_runner(Helper::of_process().map_or_else(here, Runner::Helper), command, wording, done)
    }

    #[cfg(test)]
    fn with_shell(
        shell: &Path,
        command: &str,
        wording: Wording,
        done: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::with_runner(Runner::Here(shell.to_owned()), command, wording, done)
    }

    fn with_runner(
        runner: Runner,
        command: &str,
        wording: Wording,
        done: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            runner,
            command: Mutex::new(command.into()),
            name: wording.put("--on-publish").into_owned(),
            counters: Arc::default(),
            jobs: Mutex::default(),
            changed: Condvar::new(),
            failures: Mutex::default(),
            done: Box::new(done),
        });
        for number in 0..AT_ONCE {
            let shared = Arc::clone(&shared);
            let run = whose::inherited(move || shared.work(number));
            thread::Builder::new().name(format!("vxtap-hook{number}")).spawn(run)?;
        }
        Ok(Self { shared })
    }

    /// Waits until the command has run for all captures, for `patience` at most. Returns what is
    /// left then, which is counted where it was waited for.
    fn end(&self, patience: Option<Duration>) -> Unfinished {
        let shared = &self.shared;
        let mut jobs = shared.jobs();
        jobs.over = true;
        shared.changed.notify_all();
        let is_busy = |jobs: &mut Jobs| !jobs.waiting.is_empty() || !jobs.running.is_empty();
        shared.changed.wait_while_for(&mut jobs, is_busy, patience.unwrap_or_default());
        let waiting = std::mem::take(&mut jobs.waiting);
        let running = jobs.running.clone();
        drop(jobs);
        let tried: Vec<bool> = waiting.iter().map(|waiting| waiting.was_tried).collect();
        let left = Unfinished { running, waiting: waiting.into_iter().map(|waiting| waiting.job.path).collect() };
        shared.failures.lock().end(&shared.name);
        if let Some(patience) = patience {
            shared.counters.leave(tried.into_iter());
            shared.counters.unfinished.add(left.running.len() as u64);
            left.say(patience, &shared.name);
        }
        left
    }
}

impl Consumer for Hook {
    fn change(&self, command: &str) {
        *self.shared.command.lock() = command.into();
    }

    fn take(&self, job: Job) -> Option<Job> {
        let mut jobs = self.shared.jobs();
        if jobs.waiting.len() >= WAITING {
            return Some(job);
        }
        jobs.waiting.push_back(Waiting { job, was_tried: false });
        drop(jobs);
        self.shared.changed.notify_all();
        None
    }

    fn waiting(&self) -> usize {
        self.shared.jobs().waiting.len()
    }

    fn withdraw(&self, path: &Path, was_taken: bool) {
        let mut jobs = self.shared.jobs();
        let mut left = Vec::new();
        jobs.waiting.retain(|waiting| {
            let is_it = waiting.job.path == path;
            left.extend(is_it.then_some(waiting.was_tried));
            !is_it
        });
        drop(jobs);
        self.shared.counters.leave(left.into_iter());
        self.skip(usize::from(!was_taken));
    }

    fn skip(&self, captures: usize) {
        self.shared.counters.skipped.add(captures as u64);
    }

    fn count(&self, counters: &OutputCounters) {
        self.shared.counters.show(counters);
    }

    fn finish(&mut self, patience: Option<Duration>, others: usize) {
        let left = self.end(patience);
        if patience.is_some() {
            self.skip(others);
        } else {
            self.shared.counters.left.add((left.running.len() + left.waiting.len() + others) as u64);
        }
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        // Nobody may have called `finish`, as after an error at the start.
        self.shared.jobs().over = true;
        self.shared.changed.notify_all();
    }
}

impl Unfinished {
    fn say(&self, patience: Duration, name: &str) {
        if *self == Self::default() {
            return;
        }
        for path in &self.waiting {
            tracing::debug!(path = %path.display(), "no command of {name} was run for this capture");
        }
        tracing::warn!(
            running = self.running.len(),
            skipped = self.waiting.len(),
            "not waiting any longer than {patience:?} for the commands of {name}; still running, for {}; not run, for {}",
            names(&self.running),
            names(&self.waiting)
        );
    }
}

/// Names the first files of a list, and says how many more there are.
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
        self.jobs.lock()
    }

    /// Returns the next capture, which counts as running from here on; none when there will be no
    /// more.
    fn next(&self, counters: &RunnerCounters) -> Option<Job> {
        let is_idle = |jobs: &mut Jobs| jobs.waiting.is_empty() && !jobs.over;
        let mut jobs = self.jobs();
        self.changed.wait_while(&mut jobs, is_idle);
        let Waiting { job, was_tried } = jobs.waiting.pop_front()?;
        jobs.running.push(job.path.clone());
        counters.run.add(u64::from(!was_tried));
        Some(job)
    }

    /// Runs commands until there are no more.
    fn work(&self, number: usize) {
        let Some(counters) = self.counters.runners.get(number) else { return };
        while let Some(job) = self.next(counters) {
            let result = self.execute(&job);
            let was_begun = !matches!(result, Err(Failure::NotBegun(_)));
            match &result {
                Ok(()) => {}
                Err(Failure::NotBegun(why)) => self.complain(&job.path, &format!("failed: {why}; trying again")),
                Err(Failure::Ended(why)) => {
                    counters.failed.add(1);
                    self.complain(&job.path, &format!("failed: {why}"));
                }
            }
            if was_begun {
                // The capture is done with before nobody waits for its command any longer.
                (self.done)(&job.capture.path);
            }
            let mut jobs = self.jobs();
            if let Some(done) = jobs.running.iter().position(|path| *path == job.path) {
                jobs.running.swap_remove(done);
            }
            if !was_begun {
                jobs.waiting.push_back(Waiting { job, was_tried: true });
            }
            drop(jobs);
            self.changed.notify_all();
            if !was_begun {
                thread::sleep(PAUSE);
            }
        }
    }

    /// Runs the command for one capture and waits for its end. It is not run where something else
    /// has the capture's name by then: a command with more rights than whoever put it there would
    /// read it.
    fn execute(&self, job: &Job) -> Result<(), Failure> {
        if let Some(found) = (job.replaced)(&job.path, job.capture.bytes) {
            return Err(Failure::Ended(format!("not run, for under the capture's name there is {found}")));
        }
        // Commands run beside each other, so none has the lock while it runs.
        let command = Arc::clone(&self.command.lock());
        self.runner.run(&Errand::new(command, &job.path, &job.capture))
    }

    /// Logs a failure, unless another was a moment ago.
    fn complain(&self, path: &Path, why: &str) {
        let now = Instant::now();
        let mut failures = self.failures.lock();
        if failures.logged.is_some_and(|logged| now < logged + LOG) {
            failures.others += 1;
            return;
        }
        let others = std::mem::take(&mut failures.others);
        failures.logged = Some(now);
        drop(failures);
        tracing::warn!(path = %path.display(), others, "the command of {} {why}", self.name);
    }
}

impl Failures {
    /// Logs how many failures were not logged.
    fn end(&mut self, name: &str) {
        match std::mem::take(&mut self.others) {
            0 => {}
            others => tracing::warn!(others, "the command of {name} failed or was skipped for others"),
        }
    }
}

#[cfg(test)]
mod tests;
