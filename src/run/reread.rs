//! The sensor reads again what it was asked for while it runs.
//!
//! That is the configuration file, or without one the file of `--allow`. It may be on a file system
//! that does not answer. So it is read by a thread of its own, one read after the other. Neither
//! the end of the sensor nor anything else waits for that thread.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvError, Sender, after, at, bounded, never, select};

use super::asked::Asked;
use super::confine::needs;
use super::error::StartError;
use super::signals::Ending;
use crate::config::RunPlan;
use crate::config::allow::{AllowError, AllowPlan};
use crate::config::file::{ConfigError, Places};
use crate::control::{Applied, Reply};
use crate::pipeline::ChangeError;
use crate::sandbox::Sandbox;
use crate::source::Allowed;

/// What becomes of a file that is read again, as metrics have it.
const APPLIED: &str = "applied";
const REFUSED: &str = "refused";

/// The time after which the log says that a read does not end.
const SLOW: Duration = Duration::from_secs(1);

/// The plan and the list as they were read.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The plan, where a configuration file says what it is.
    pub(super) plan: Option<RunPlan>,
    /// The sessions that are let in.
    pub(super) allowed: Allowed,
}

/// The reason for which what was read is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum RereadError {
    /// The configuration file is of no use.
    #[error("{}", shown(.0))]
    Config(#[from] ConfigError),
    /// The file of sessions is of no use.
    #[error(transparent)]
    Allow(#[from] AllowError),
    /// The sandbox is in the way.
    #[error("{0}")]
    Sandbox(String),
}

/// Shows the faults of a file with their lines.
fn shown(error: &ConfigError) -> String {
    match error {
        ConfigError::Faults { faults, .. } => format!("\n{}", faults.render(false)),
        ConfigError::Read { .. } => error.to_string(),
    }
}

/// The outcome of a read.
pub(super) type Answer = Result<Wanted, RereadError>;

/// A thread that reads the file each time it is asked to.
#[derive(Debug)]
struct Reader {
    asks: Sender<()>,
    answers: Receiver<Answer>,
}

impl Reader {
    fn start(read: impl Fn() -> Answer + Send + 'static) -> io::Result<Self> {
        let (asks, asked) = bounded::<()>(1);
        let (sender, answers) = bounded(1);
        thread::Builder::new().name("vxtap-reread".into()).spawn(move || {
            // The thread ends when nobody asks any more, or with the process, where a read never
            // returns.
            while asked.recv().is_ok() && sender.send(read()).is_ok() {}
        })?;
        Ok(Self { asks, answers })
    }

    /// Asks for a read that begins later than this. Returns false where a read that waits already
    /// does for both.
    fn ask(&self) -> bool {
        self.asks.try_send(()).is_ok()
    }
}

/// A file that says what is asked for, and the thread that reads it.
#[derive(Debug)]
pub(super) struct AskedFile {
    path: PathBuf,
    reader: Reader,
}

impl AskedFile {
    /// Reads what is allowed at the start. Returns that, and the file that says so where it is one.
    ///
    /// # Errors
    /// The file cannot be used, the sensor is to end before it is read, or its time is over.
    pub(super) fn allowed(plan: &RunPlan, ending: &Receiver<Ending>) -> Result<(Allowed, Option<Self>), StartError> {
        let path = match &plan.allow {
            AllowPlan::Given(allowed) => return Ok((allowed.clone(), None)),
            AllowPlan::File(path) => path.clone(),
        };
        let (allow, vni_mask) = (plan.allow.clone(), plan.pipeline.vni_mask);
        let read = move || Ok(Wanted { plan: None, allowed: allow.read(vni_mask)? });
        let file = Self { path, reader: Reader::start(read).map_err(StartError::Thread)? };
        let allowed = file.first(ending, plan.duration)?;
        Ok((allowed, Some(file)))
    }

    /// Takes a configuration file, of which `read` makes a plan for a sensor with this sandbox.
    ///
    /// # Errors
    /// There is no thread.
    pub(super) fn config(
        path: PathBuf,
        sandbox: Arc<Sandbox>,
        read: impl Fn() -> Result<RunPlan, ConfigError> + Send + 'static,
    ) -> Result<Self, StartError> {
        let read = move || {
            let plan = read().map_err(|error| error.advised(&sandbox))?;
            if let Some(lacks) = sandbox.lacks(&needs(&plan, &Places::default())) {
                return Err(RereadError::Sandbox(lacks));
            }
            let allowed = plan.allow.read(plan.pipeline.vni_mask).map_err(|error| error.advised(&sandbox))?;
            Ok(Wanted { plan: Some(plan), allowed })
        };
        Ok(Self { path, reader: Reader::start(read).map_err(StartError::Thread)? })
    }

    fn first(&self, ending: &Receiver<Ending>, duration: Option<Duration>) -> Result<Allowed, StartError> {
        self.reader.ask();
        let over = duration.map_or_else(never, after);
        let mut slow = after(SLOW);
        loop {
            select! {
                recv(self.reader.answers) -> answer => return match answer {
                    Ok(Ok(wanted)) => Ok(wanted.allowed),
                    Ok(Err(RereadError::Allow(error))) => Err(error.into()),
                    Ok(Err(RereadError::Config(_) | RereadError::Sandbox(_))) | Err(RecvError) => Err(self.unread(io::ErrorKind::BrokenPipe).into()),
                },
                recv(ending) -> ending => {
                    return Err(StartError::Ended(ending.unwrap_or(Ending::Asked("signal"))));
                }
                recv(over) -> _ => return Err(self.unread(io::ErrorKind::TimedOut).into()),
                recv(slow) -> _ => {
                    tracing::warn!("{} is still being read; nothing is received until then", self.path.display());
                    slow = never();
                }
            }
        }
    }

    fn unread(&self, why: io::ErrorKind) -> AllowError {
        AllowError::Read { path: self.path.clone(), error: why.into() }
    }
}

/// The file that can be read again, if there is one, and the signal that asked for it.
#[derive(Debug)]
pub(super) struct Reread {
    file: Option<AskedFile>,
    /// The last signal that asked for a read.
    signal: &'static str,
    /// The time at which the log is to say that the file is still being read.
    slow: Option<Instant>,
    /// A sensor without a file has this channel instead of the reader's.
    answers: Receiver<Answer>,
    /// Those who wait for what comes of a read.
    asked: Asked,
}

impl Reread {
    pub(super) fn new(file: Option<AskedFile>) -> Self {
        let answers = file.as_ref().map_or_else(never, |file| file.reader.answers.clone());
        Self { file, signal: "", slow: None, answers, asked: Asked::default() }
    }

    /// Has the file read again, as `signal` asks for.
    pub(super) fn ask(&mut self, signal: &'static str) {
        let Some(file) = &self.file else {
            return tracing::warn!(
                "{signal}: there is no file to read again; -c or --allow names one{}",
                if signal == "SIGHUP" { "; SIGTERM ends the sensor" } else { "" }
            );
        };
        self.asked.note(file.reader.ask());
        (self.signal, self.slow) = (signal, Some(Instant::now() + SLOW));
    }

    /// Has the file read again, and tells whoever asked what comes of it.
    pub(super) fn ask_for(&mut self, reply: Reply<Applied>) {
        if self.file.is_none() {
            return reply.send(Err("there is no file to read again; -c or --allow of vxtap run names one".into()));
        }
        self.ask("vxtap reload");
        self.asked.wait(reply);
    }

    /// Lets those go who wait for what comes of a read: the sensor ends.
    pub(super) fn abandon(&mut self) {
        self.asked.abandon();
    }

    /// Says whether the file is being read.
    pub(super) fn is_reading(&self) -> bool {
        self.asked.is_open()
    }

    /// Receives what the file says, for [`Reread::take`].
    pub(super) fn answers(&self) -> &Receiver<Answer> {
        &self.answers
    }

    /// Receives when a read takes long, for [`Reread::say_slow`].
    pub(super) fn slow(&self) -> Receiver<Instant> {
        self.slow.map_or_else(never, at)
    }

    /// Notes that outputs are being opened for what was read.
    pub(super) fn opens(&mut self) {
        self.slow = Some(Instant::now() + SLOW);
    }

    /// Notes that they are open, or cannot be.
    pub(super) fn has_opened(&mut self) {
        self.slow = None;
    }

    /// Says that the file is still being read, or that outputs are still being opened. That is said
    /// once for each signal.
    pub(super) fn say_slow(&mut self, opens: bool) {
        let (Some(_), Some(file), signal) = (self.slow.take(), &self.file, self.signal) else { return };
        let path = file.path.display();
        if opens {
            tracing::warn!("{signal}: outputs of {path} are still being opened; nothing changes until then");
        } else {
            tracing::warn!("{signal}: {path} is still being read; what was allowed stays so until then");
        }
    }

    /// Takes what the file says now. Where it cannot be used, the log says so.
    ///
    /// # Errors
    /// The text of why it cannot be used.
    pub(super) fn take(&mut self, answer: Result<Answer, RecvError>) -> Result<Wanted, String> {
        self.slow = None;
        self.asked.answered();
        let Ok(answer) = answer else {
            self.answers = never();
            let error = "what is asked for cannot be read any more: please report this";
            tracing::error!(result = REFUSED, "{error}");
            self.asked.tell(&Err(error.into()));
            self.asked.abandon();
            return Err(error.into());
        };
        answer.map_err(|error| {
            let stays = match &error {
                RereadError::Allow(_) => "what was allowed stays so",
                RereadError::Config(_) | RereadError::Sandbox(_) => "nothing has changed",
            };
            tracing::error!(result = REFUSED, "{}: {stays}: {error}", self.signal);
            self.asked.tell(&Err(format!("{stays}: {error}")));
            error.to_string()
        })
    }

    /// Says that what was read is so from now on: `said` is what has changed, where that is known.
    /// Where a worker makes the change later, `late` says so.
    pub(super) fn done(&mut self, said: Option<&[String]>, late: Option<&ChangeError>) {
        let (Some(file), signal) = (&self.file, self.signal) else { return };
        let path = file.path.display();
        let done = match said {
            None => format!("{path} is read again"),
            Some([]) => format!("{path} is read again: nothing has changed"),
            Some(said) => format!("reloaded {path}: {}", said.join("; ")),
        };
        match late {
            None => tracing::info!(result = APPLIED, "{signal}: {done}"),
            Some(late) => tracing::warn!(result = APPLIED, "{signal}: {done}; {late}"),
        }
        let path = path.to_string();
        let (changed, warning) = (said.unwrap_or_default().to_vec(), late.map(ToString::to_string));
        self.asked.tell(&Ok(Applied { path, changed, said: done, warning }));
    }

    /// Says that what was read cannot be so.
    pub(super) fn refused(&mut self, error: &dyn std::fmt::Display) {
        let (Some(file), signal) = (&self.file, self.signal) else { return };
        let refused = format!("{} is not in force: {error}", file.path.display());
        tracing::error!(result = REFUSED, "{signal}: {refused}");
        self.asked.tell(&Err(refused));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Vni;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn only(vni: u32) -> Allowed {
        Allowed::new(Some(Vni::new(vni).into_iter().collect()), None).unwrap()
    }

    /// Makes a file whose reads return what is sent here, and how many have begun.
    fn slow_file() -> (AskedFile, Sender<Allowed>, Arc<AtomicU32>) {
        let (disk, content) = bounded::<Allowed>(0);
        let begun = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&begun);
        let read = move || {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(Wanted { plan: None, allowed: content.recv().unwrap_or_default() })
        };
        (AskedFile { path: "list".into(), reader: Reader::start(read).unwrap() }, disk, begun)
    }

    #[test]
    fn the_start_waits_for_a_file_but_not_beyond_the_end() {
        let (ends, ending) = bounded(1);
        let (file, disk, _) = slow_file();
        let answering = thread::spawn(move || disk.send(only(7)).unwrap());
        assert_eq!(file.first(&ending, None).unwrap(), only(7));
        answering.join().unwrap();

        let (file, _disk, _) = slow_file();
        let error = file.first(&ending, Some(Duration::from_millis(20))).unwrap_err();
        assert_eq!(error.to_string(), "cannot read list: timed out");
        ends.send(Ending::Asked("SIGTERM")).unwrap();
        let error = file.first(&ending, None).unwrap_err();
        assert!(matches!(error, StartError::Ended(Ending::Asked("SIGTERM"))), "{error}");
    }

    #[test]
    fn reads_that_hang_do_not_pile_up() {
        let (file, disk, begun) = slow_file();
        let mut reread = Reread::new(Some(file));
        for _ in 0..100 {
            reread.ask("SIGUSR2");
        }
        reread.slow().recv().unwrap();
        reread.say_slow(false);
        for _ in 0..100 {
            reread.ask("SIGUSR2");
        }
        assert_eq!(begun.load(Ordering::Relaxed), 1, "one at a time");
        // A read that is asked for meanwhile is one read more, since the file may have changed.
        for vni in [2, 3] {
            disk.send(only(vni)).unwrap();
            let answer = reread.answers().recv();
            assert_eq!(reread.take(answer).unwrap().allowed, only(vni));
        }
        thread::sleep(Duration::from_millis(50));
        assert_eq!(begun.load(Ordering::Relaxed), 2, "and not a hundred times");
    }
}
