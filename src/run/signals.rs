//! Signals ask the sensor for something. SIGINT, SIGTERM and, unless it was ignored before, SIGHUP
//! ask to end, and the second of them ends at once. SIGUSR1 asks to complete the files that are
//! written to. SIGUSR2 asks to read again what was read from a file: the configuration, or which
//! sessions are allowed. So does SIGHUP to a sensor without a terminal, as to other services.
//! SIGXCPU asks to end, for a limit of the process will end it soon. SIGXFSZ does not end the
//! process, so that the write that met the limit fails as any other does.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use procfs::process::Process;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ};
use signal_hook::low_level;

/// The meanings that SIGHUP can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hangup {
    /// SIGHUP asks to end.
    End,
    /// SIGHUP asks to end where there is a terminal that can hang up, else to read again what is
    /// allowed.
    EndOrReread,
    /// SIGHUP asks to end where standard input was a terminal at the start, else to read the
    /// configuration file again.
    EndOrReload,
}

/// The reasons for which a sensor is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// This signal asked for it.
    Asked(&'static str),
    /// The process has used up the processor time that it may use.
    NoTimeLeft,
}

/// Tells of signals. From its creation on, a second signal that asks to end ends the process at
/// once, with 128 plus its number.
#[derive(Debug)]
pub struct Signals {
    /// Receives when SIGUSR1 comes.
    pub cut: Receiver<()>,
    /// Receives the name of a signal that asks to read the file again.
    pub reread: Receiver<&'static str>,
    /// Receives when the process is to end.
    pub received: Receiver<Ending>,
    /// True from the moment on at which the process is to end.
    pub stop: Arc<AtomicBool>,
}

impl Signals {
    /// Takes over the signals of the process. All are caught and none is ignored, for what is
    /// ignored stays so in the commands that the process runs.
    ///
    /// # Errors
    /// `sigaction(2)` or creating a thread fails.
    pub fn new(hangup: Hangup) -> io::Result<Self> {
        let this = Process::myself().ok();
        // nohup has a program ignore SIGHUP, so that it outlives the login. Then the signal is not
        // ours.
        let ignores_hangup = this.as_ref().and_then(|this| this.status().ok()).is_some_and(|status| {
            let bit = status.sigign >> (SIGHUP - 1);
            bit & 1 == 1
        });
        // Without a terminal nothing can hang up, so it is somebody who asks a service for what
        // services do.
        let has_terminal = this.and_then(|this| this.stat().ok()).is_none_or(|stat| stat.tty_nr != 0);
        let rereads = match hangup {
            Hangup::End => false,
            Hangup::EndOrReread => !has_terminal,
            Hangup::EndOrReload => !io::stdin().is_terminal(),
        };
        let ours = [SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ];
        let mut signals =
            signal_hook::iterator::Signals::new(ours.into_iter().chain((!ignores_hangup).then_some(SIGHUP)))?;
        let (sender, received) = bounded(1);
        let (cut_sender, cut) = bounded(1);
        let (reread_sender, reread) = bounded(1);
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        thread::Builder::new().name("vxtap-signals".into()).spawn(move || {
            let mut asked = false;
            for signal in signals.forever() {
                let name = low_level::signal_name(signal).unwrap_or("signal");
                // Where a channel is full, the signal that is not heard yet does for both. Nobody
                // listens any more when the sensor is ending for another reason.
                match signal {
                    SIGUSR1 => drop(cut_sender.try_send(())),
                    SIGUSR2 => drop(reread_sender.try_send(name)),
                    SIGHUP if rereads => drop(reread_sender.try_send(name)),
                    SIGXFSZ => {}
                    // SIGXCPU comes again each second.
                    SIGXCPU => {
                        flag.store(true, Ordering::Relaxed);
                        let _ = sender.try_send(Ending::NoTimeLeft);
                    }
                    _ if asked => low_level::exit(128 + signal),
                    _ => {
                        asked = true;
                        flag.store(true, Ordering::Relaxed);
                        let _ = sender.try_send(Ending::Asked(name));
                    }
                }
            }
        })?;
        Ok(Self { cut, reread, received, stop })
    }
}
