//! SIGINT, SIGTERM and, unless it was ignored before, SIGHUP: the first asks to end, the second ends at once. SIGUSR1: asks to complete the
//! files that are written to. SIGUSR2: asks to read again which sessions are allowed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::low_level;

/// Tells of signals. From its creation on, a second that asks to end ends the process at once, with 128 plus its number.
#[derive(Debug)]
pub struct Signals {
    /// Receives when SIGUSR1 comes.
    pub cut: Receiver<()>,
    /// Receives when SIGUSR2 comes.
    pub reread: Receiver<()>,
    /// Receives the name of the first signal that asks to end.
    pub received: Receiver<&'static str>,
    /// True from then on.
    pub stop: Arc<AtomicBool>,
}

impl Signals {
    /// Takes over the signals of the process.
    ///
    /// # Errors
    /// What `sigaction(2)` or creating a thread returns.
    pub fn new() -> io::Result<Self> {
        // nohup has a program ignore SIGHUP, so that it outlives the login: then it is not ours.
        let hangup = if ignores(SIGHUP) { None } else { Some(SIGHUP) };
        let ours = [SIGINT, SIGTERM, SIGUSR1, SIGUSR2];
        let mut signals = signal_hook::iterator::Signals::new(ours.into_iter().chain(hangup))?;
        let (sender, received) = bounded(1);
        let (cut_sender, cut) = bounded(1);
        let (reread_sender, reread) = bounded(1);
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        thread::Builder::new().name("vxtap-signals".into()).spawn(move || {
            for signal in signals.forever() {
                let order = match signal {
                    SIGUSR1 => Some(&cut_sender),
                    SIGUSR2 => Some(&reread_sender),
                    _ => None,
                };
                if let Some(order) = order {
                    // One that is not heard yet does for both.
                    let _ = order.try_send(());
                    continue;
                }
                if flag.swap(true, Ordering::Relaxed) {
                    low_level::exit(128 + signal);
                }
                // Nobody listens any more when the sensor is ending for another reason.
                let _ = sender.try_send(low_level::signal_name(signal).unwrap_or("signal"));
            }
        })?;
        Ok(Self { cut, reread, received, stop })
    }
}

/// Whether this process was started with `signal` ignored.
fn ignores(signal: i32) -> bool {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.is_ok_and(|status| status.sigign >> (signal - 1) & 1 == 1)
}
