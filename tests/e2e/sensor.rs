//! `vxtap run` runs in a namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;
use std::thread;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::captures;
use crate::ledger::Ledger;
use crate::netns::{Namespace, Pair};
use crate::process::{PATIENCE, Process, eventually, is_stopped};

/// The program under test.
pub(crate) const VXTAP: &str = env!("CARGO_BIN_EXE_vxtap");

/// The ways to receive, as arguments.
pub(crate) const WAYS: [&str; 3] =
    ["--source udp", "--source bpf --interface eth0 --attach xdp", "--source bpf --interface eth0 --attach tc"];

/// How a sensor is to be started.
pub(crate) struct Setup<'a> {
    namespace: &'a Namespace,
    before: Vec<String>,
    arguments: Vec<String>,
    directory: Option<PathBuf>,
    config: Option<PathBuf>,
    stdout: Option<Stdio>,
    stdin: Option<Stdio>,
}

/// A running sensor, killed when this is dropped.
pub(crate) struct Sensor {
    pub(crate) process: Process,
    /// Where it writes.
    pub(crate) captures: PathBuf,
    /// Holds the captures, unless they were to go elsewhere.
    directory: Option<TempDir>,
}

/// What a sensor left behind.
pub(crate) struct Ended {
    /// Its exit code; none where a signal ended it.
    pub(crate) code: Option<i32>,
    /// Lines of standard error.
    pub(crate) log: Vec<String>,
    pub(crate) ledger: Ledger,
    pub(crate) captures: PathBuf,
    _directory: Option<TempDir>,
}

/// Says where the program is attached in tests that do not ask for a source: `VXTAP_TEST_SOURCE` is
/// `xdp` or `tc`. Without it they use sockets.
pub(crate) fn attach_by_default() -> Option<&'static str> {
    static ATTACH: OnceLock<Option<String>> = OnceLock::new();
    let attach = ATTACH.get_or_init(|| std::env::var("VXTAP_TEST_SOURCE").ok().filter(|name| name != "udp"));
    attach.as_deref()
}

/// Says what sensors of tests that do not choose give up: `VXTAP_TEST_SANDBOX` is `auto`, `require`
/// or `off`.
fn sandbox_by_default() -> Option<&'static str> {
    static MODE: OnceLock<Option<String>> = OnceLock::new();
    MODE.get_or_init(|| std::env::var("VXTAP_TEST_SANDBOX").ok()).as_deref()
}

impl<'a> Setup<'a> {
    /// Makes a sensor in this namespace that listens on the default port.
    pub(crate) fn new(namespace: &'a Namespace) -> Setup<'a> {
        Setup {
            namespace,
            before: Vec::new(),
            arguments: Vec::new(),
            directory: None,
            config: None,
            stdout: None,
            stdin: None,
        }
    }

    /// Has it take its settings from this file, which says where it receives, by what and where it
    /// writes.
    pub(crate) fn configured(mut self, file: &Path) -> Self {
        self.config = Some(file.to_path_buf());
        self
    }

    /// Adds these arguments, which are split at spaces.
    pub(crate) fn with(mut self, arguments: &str) -> Self {
        self.arguments.extend(arguments.split_whitespace().map(String::from));
        self
    }

    /// Has it started by this command, as `prlimit --nofile=64:64`, which is split at spaces and
    /// must become the sensor.
    pub(crate) fn through(mut self, command: &str) -> Self {
        self.before.extend(command.split_whitespace().map(String::from));
        self
    }

    /// Gives it room for what comes while it has to wait for a core for some seconds.
    pub(crate) fn patient(self) -> Self {
        let by_program = attach_by_default().is_some() && self.namespace.has_link("eth0");
        self.with(if by_program { "--receive-buffer 256MiB --ring 64MiB" } else { "--receive-buffer 256MiB" })
    }

    /// Has it write there instead of to a directory of its own.
    pub(crate) fn writing(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_path_buf());
        self
    }

    /// Has its standard output go there; the ledger is lost then.
    pub(crate) fn printing(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// Has its standard input come from there.
    pub(crate) fn reading(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = Some(stdin.into());
        self
    }

    fn command(&self, captures: &Path) -> Command {
        let mut words = self.before.iter().map(String::as_str).chain([VXTAP, "run"]);
        let mut command = self.namespace.command(words.next().unwrap());
        command.args(words).args(["--ledger", "json", "--log-format", "json"]);
        let chooses = |flag: &str| self.arguments.iter().any(|argument| argument == flag);
        if let (Some(mode), false) = (sandbox_by_default(), chooses("--sandbox")) {
            command.args(["--sandbox", mode]);
        }
        if let Some(file) = &self.config {
            command.arg("-c").arg(file).args(&self.arguments).env_remove("VXTAP_LOG");
            return command;
        }
        if !self.arguments.iter().any(|argument| argument == "--no-write") {
            command.arg("--write").arg(captures);
            // By default files are cut when the clock passes an hour, which a test may just see.
            if !chooses("--rotate-time") {
                command.args(["--rotate-time", "3000d"]);
            }
        }
        // Not where the test chooses, where there is nothing to attach to, and where the sensor is
        // to have no privilege.
        let powerless = self.before.iter().any(|word| word == "setpriv");
        if let Some(attach) = attach_by_default()
            && !chooses("--source")
            && !powerless
            && self.namespace.has_link("eth0")
        {
            command.args(["--source", "bpf", "--attach", attach, "--interface", "eth0"]);
        }
        command.args(&self.arguments).env_remove("VXTAP_LOG");
        command
    }

    /// Starts it and waits until it receives.
    #[track_caller]
    pub(crate) fn start(mut self) -> Sensor {
        let directory = self.directory.is_none().then(|| tempfile::tempdir().unwrap());
        let captures = match (&self.directory, &directory) {
            (Some(path), _) => path.clone(),
            (None, Some(new)) => new.path().join("captures"),
            (None, None) => unreachable!(),
        };
        let (stdin, stdout) = (self.stdin.take(), self.stdout.take());
        let process = Process::start_reading(&mut self.command(&captures), stdin, stdout);
        process.stderr.find("receiving", 0, |line| (message(line)? == "receiving").then_some(()));
        Sensor { process, captures, directory }
    }

    /// Starts it without waiting for anything. Nothing may come to its captures,
    /// which cannot be made.
    #[track_caller]
    pub(crate) fn begin(self) -> Process {
        Process::start(&mut self.command(Path::new("/dev/null/captures")), None)
    }

    /// Starts it and expects that it does not come to receive: its exit code, and all it prints on
    /// standard error.
    #[track_caller]
    pub(crate) fn fails(mut self) -> (Option<i32>, String) {
        let directory = tempfile::tempdir().unwrap();
        let captures = self.directory.take().unwrap_or_else(|| directory.path().join("captures"));
        let mut process = Process::start(&mut self.command(&captures), None);
        let status = process.wait();
        assert_eq!(process.stdout.all(), [""; 0], "nothing is printed where nothing was received");
        (status.code(), process.stderr.all().join("\n"))
    }
}

/// Returns the message of a log line.
pub(crate) fn message(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    line["fields"]["message"].as_str().map(String::from)
}

impl Sensor {
    /// Waits until it has written frames to a file.
    #[track_caller]
    pub(crate) fn is_writing(&self) {
        let has_frames = |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.len() > 24);
        eventually("the sensor writes", || captures::files(&self.captures).iter().any(has_frames));
    }

    /// Returns how many lines it has logged. What it says from now on begins there.
    pub(crate) fn lines(&self) -> usize {
        self.process.stderr.count()
    }

    /// Waits for a line of the log, from line number `from` on, with these words in its message.
    #[track_caller]
    pub(crate) fn says(&self, from: usize, words: &str) {
        self.process.stderr.find(words, from, |line| message(line)?.contains(words).then_some(()));
    }

    /// Has it read its configuration again, and waits until the log says what has become of that,
    /// which must be this.
    #[track_caller]
    pub(crate) fn reload(&self, becomes: &str) {
        let from = self.lines();
        self.process.signal(Signal::USR2);
        // A machine with much else to do may take long to answer, and says so first.
        let is_last = |message: &String| message.contains(becomes) || !message.contains(" still being ");
        let answer = |line: &str| message(line).filter(|message| message.starts_with("SIGUSR2: ")).filter(is_last);
        let said = self.process.stderr.find("SIGUSR2: ", from, answer);
        assert!(said.contains(becomes), "{becomes}: {said}");
    }

    /// Runs this while none of its threads does: what is found in two places then is of the same
    /// moment.
    #[track_caller]
    pub(crate) fn paused<T>(&self, look: impl FnOnce() -> T) -> T {
        self.process.signal(Signal::STOP);
        let end = Instant::now() + PATIENCE;
        while !is_stopped(self.process.pid()) {
            assert!(Instant::now() < end, "not stopped after {PATIENCE:?}");
            thread::yield_now();
        }
        let found = look();
        self.process.signal(Signal::CONT);
        found
    }

    /// Asks it to end, and waits until it has.
    #[track_caller]
    pub(crate) fn stop(self) -> Ended {
        self.stop_by(Signal::TERM)
    }

    #[track_caller]
    pub(crate) fn stop_by(self, signal: Signal) -> Ended {
        self.process.signal(signal);
        self.ended()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Ended {
        let code = self.process.wait().code();
        let (log, printed) = (self.process.stderr.all(), self.process.stdout.all());
        let [json] = printed.as_slice() else { panic!("one line of JSON expected: {printed:#?}; {log:#?}") };
        let ledger = Ledger(serde_json::from_str(json).unwrap());
        Ended { code, log, ledger, captures: self.captures, _directory: self.directory }
    }
}

impl Ended {
    /// Fails unless it ended as asked, with nothing lost and nothing left half done.
    #[track_caller]
    pub(crate) fn assert_all_is_well(&self) {
        assert_eq!(self.code, Some(0), "{:#?}", self.log);
        self.ledger.assert_closes(&self.captures);
        self.ledger.assert_lossless();
    }

    /// Fails unless it ended as asked, and has received all that a stream sent to it over `pair`.
    #[track_caller]
    pub(crate) fn assert_received(&self, pair: &Pair, sent: u32) {
        assert_eq!(self.code, Some(0), "{:#?}", self.log);
        assert_eq!(self.ledger.get("/kernel_dropped"), 0, "{:#}", self.ledger.0);
        pair.assert_arrived(self.ledger.received(), u64::from(sent));
    }

    /// Lines of the log with this in their message.
    pub(crate) fn messages(&self, with: &str) -> Vec<String> {
        self.log.iter().filter(|line| message(line).is_some_and(|message| message.contains(with))).cloned().collect()
    }
}
