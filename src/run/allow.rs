//! The sensor looks after what is allowed while it runs.
//!
//! The file of `--allow` may be on a file system that does not answer. So it is read by a thread of
//! its own, one read after the other. Neither the end of the sensor nor anything else waits for
//! that thread.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvError, Sender, after, at, bounded, never, select};

use super::allow_log;
use super::error::StartError;
use super::signals::Ending;
use crate::config::allow::{AllowError, AllowPlan};
use crate::pipeline::ChangeError;
use crate::source::Allowed;

/// The time after which the log says that a read does not end.
const SLOW: Duration = Duration::from_secs(1);

/// The outcome of a read.
type Answer = Result<Allowed, AllowError>;

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
        thread::Builder::new().name("vxtap-allow".into()).spawn(move || {
            // The thread ends when nobody asks any more, or with the process, where a read never
            // returns.
            while asked.recv().is_ok() && sender.send(read()).is_ok() {}
        })?;
        Ok(Self { asks, answers })
    }

    /// Asks for a read that begins later than this. A read that waits already does for both.
    fn ask(&self) {
        let _ = self.asks.try_send(());
    }
}

/// The file that says what is allowed, and the thread that reads it.
#[derive(Debug)]
pub(super) struct AllowFile {
    path: PathBuf,
    reader: Reader,
}

impl AllowFile {
    /// Reads what is allowed at the start. Returns that, and the file that says so where it is one.
    ///
    /// # Errors
    /// The file cannot be used, the sensor is to end before it is read, or its time is over.
    pub(super) fn open(
        plan: &AllowPlan,
        ending: &Receiver<Ending>,
        duration: Option<Duration>,
    ) -> Result<(Allowed, Option<Self>), StartError> {
        let path = match plan {
            AllowPlan::Given(allowed) => return Ok((allowed.clone(), None)),
            AllowPlan::File(path) => path.clone(),
        };
        let plan = plan.clone();
        let file = Self { path, reader: Reader::start(move || plan.read()).map_err(StartError::Thread)? };
        let allowed = file.first(ending, duration)?;
        Ok((allowed, Some(file)))
    }

    fn first(&self, ending: &Receiver<Ending>, duration: Option<Duration>) -> Result<Allowed, StartError> {
        self.reader.ask();
        let over = duration.map_or_else(never, after);
        let mut slow = after(SLOW);
        loop {
            select! {
                recv(self.reader.answers) -> answer => {
                    return Ok(answer.unwrap_or_else(|_| Err(self.unread(io::ErrorKind::BrokenPipe)))?);
                }
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

/// The sessions that are allowed, as far as a file says so.
#[derive(Debug)]
pub(super) struct Allow {
    file: Option<AllowFile>,
    /// The last signal that asked for a read.
    signal: &'static str,
    /// The time at which the log is to say that the file is still being read.
    slow: Option<Instant>,
    /// A sensor without a file has this channel instead of the reader's.
    answers: Receiver<Answer>,
}

impl Allow {
    pub(super) fn new(file: Option<AllowFile>) -> Self {
        let answers = file.as_ref().map_or_else(never, |file| file.reader.answers.clone());
        Self { file, signal: "", slow: None, answers }
    }

    /// Has the file read again, as `signal` asks for.
    pub(super) fn reread(&mut self, signal: &'static str) {
        let Some(file) = &self.file else {
            return tracing::warn!(
                "{signal}: there is no file to read again; --allow names one{}",
                if signal == "SIGHUP" { "; SIGTERM ends the sensor" } else { "" }
            );
        };
        file.reader.ask();
        (self.signal, self.slow) = (signal, Some(Instant::now() + SLOW));
    }

    /// Receives what the file says, for [`Allow::take`].
    pub(super) fn answers(&self) -> &Receiver<Answer> {
        &self.answers
    }

    /// Receives when a read takes long, for [`Allow::say_slow`].
    pub(super) fn slow(&self) -> Receiver<Instant> {
        self.slow.map_or_else(never, at)
    }

    /// Says that the file is still being read. That is said once for each signal.
    pub(super) fn say_slow(&mut self) {
        if let (Some(_), Some(file), signal) = (self.slow.take(), &self.file, self.signal) {
            tracing::warn!(
                "{signal}: {} is still being read; what was allowed stays so until then",
                file.path.display()
            );
        }
    }

    /// Takes what the file says now, and has `apply` make it so. Where it cannot be used, nothing
    /// changes.
    pub(super) fn take(
        &mut self,
        answer: Result<Answer, RecvError>,
        apply: impl FnOnce(Allowed) -> Result<(), ChangeError>,
    ) {
        self.slow = None;
        let Ok(answer) = answer else {
            self.answers = never();
            return tracing::error!("what is allowed cannot be read any more: please report this");
        };
        let (Some(file), signal) = (&self.file, self.signal) else { return };
        match answer {
            Ok(allowed) => match apply(allowed.clone()) {
                Ok(()) => {
                    tracing::info!("{signal}: {} is read again", file.path.display());
                    allow_log::log(&allowed);
                }
                Err(error) => tracing::error!("{signal}: {}: {error}", file.path.display()),
            },
            Err(error) => tracing::error!("{signal}: what was allowed stays so: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Vni;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn only(vni: u32) -> Allowed {
        Allowed::new(Some(Vni::new(vni).into_iter().collect()), None).unwrap()
    }

    /// Makes a file whose reads return what is sent here, and how many have begun.
    fn slow_file() -> (AllowFile, Sender<Answer>, Arc<AtomicU32>) {
        let (disk, content) = bounded::<Answer>(0);
        let begun = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&begun);
        let read = move || {
            count.fetch_add(1, Ordering::Relaxed);
            content.recv().unwrap_or_else(|_| Ok(Allowed::default()))
        };
        (AllowFile { path: "list".into(), reader: Reader::start(read).unwrap() }, disk, begun)
    }

    #[test]
    fn the_start_waits_for_a_file_but_not_beyond_the_end() {
        let (ends, ending) = bounded(1);
        let (file, disk, _) = slow_file();
        let answering = thread::spawn(move || disk.send(Ok(only(7))).unwrap());
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
        let mut allow = Allow::new(Some(file));
        for _ in 0..100 {
            allow.reread("SIGUSR2");
        }
        allow.slow().recv().unwrap();
        allow.say_slow();
        for _ in 0..100 {
            allow.reread("SIGUSR2");
        }
        assert_eq!(begun.load(Ordering::Relaxed), 1, "one at a time");
        // A read that is asked for meanwhile is one read more, since the file may have changed.
        for vni in [2, 3] {
            disk.send(Ok(only(vni))).unwrap();
            let answer = allow.answers().recv();
            let mut applied = Allowed::default();
            allow.take(answer, |allowed| {
                applied = allowed;
                Ok(())
            });
            assert_eq!(applied, only(vni));
        }
        thread::sleep(Duration::from_millis(50));
        assert_eq!(begun.load(Ordering::Relaxed), 2, "and not a hundred times");
    }
}
